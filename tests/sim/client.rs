//! A scripted client of ringgate: sends what its script says, checks every answer to the last byte.

use std::collections::VecDeque;
use std::time::Duration;

use ringgate::limits::LAST_REQUEST_TIME;
use ringgate::ring::sim::{Actor, ActorIo, ConnId, Happening, Pace};

use crate::answer::chunked;
use crate::ledger::{About, Ask, AskBody, Outcome, Shared};
use crate::message::{Body, Head, Piece, Reader};
use crate::pattern::{self, Use};
use crate::proxy;
use crate::script::{Manner, Script, head_of};
use crate::secure::Secure;

/// The answer that is being read.
struct Answer {
    id: usize,
    /// The attempt of a server's answer; `None` for ringgate's own.
    attempt: Option<usize>,
    status: u16,
    len: usize,
    last: bool,
}

const THINK: u64 = 1;
const EXPECT: u64 = 2;
const MANNER: u64 = 3;
const PATIENCE: u64 = 4;
const GIVE_UP: u64 = 5;
const DRIPPED: u64 = 6;

/// For at most so long somebody may send a byte a second.
const DRIP_TIME: Duration = Duration::from_secs(200);

/// Virtual time after which a connection that still lives is stuck.
const PATIENCE_TIME: Duration = Duration::from_secs(3_000);

/// A client.
pub struct Client {
    number: usize,
    script: Script,
    ledger: Shared,
    conn: Option<ConnId>,
    connected: bool,
    secure: Secure,
    reader: Reader,
    /// How many requests were sent (the last perhaps without its body).
    sent: usize,
    /// Requests that wait for their answer.
    waiting: VecDeque<usize>,
    /// The body that waits for 100 Continue.
    body: Option<(usize, Vec<u8>)>,
    /// The head of the request whose body is held back needs no body any more.
    answer: Option<Answer>,
    /// An answer announced the end of the connection.
    closed: bool,
    /// The last request was cut by the script.
    cut_id: Option<usize>,
    garbage_sent: bool,
    tunnel: Option<(usize, usize)>,
    thinking: bool,
    over: bool,
}

impl Client {
    pub fn new(number: usize, script: Script, ledger: Shared) -> Self {
        Self {
            number,
            script,
            ledger,
            conn: None,
            connected: false,
            secure: Secure::Plain,
            reader: Reader::new(),
            sent: 0,
            waiting: VecDeque::new(),
            body: None,
            answer: None,
            closed: false,
            cut_id: None,
            garbage_sent: false,
            tunnel: None,
            thinking: false,
            over: false,
        }
    }

    fn fail(&self, what: &str) {
        self.ledger.borrow_mut().fail(format!("client {}: {what}", self.number));
    }

    fn ask(&self, id: usize) -> Ask {
        self.ledger.borrow().records[id].ask.clone()
    }

    fn connected(&mut self, conn: ConnId, io: &mut ActorIo<'_>) {
        self.connected = true;
        if let Some((source, v2)) = self.script.proxied {
            io.send(conn, &proxy::write(source, v2));
        }
        if let Some((config, name)) = &self.script.tls {
            self.secure = Secure::client(config, name);
        }
        let after = match self.script.manner {
            Manner::VanishesAfter(time)
            | Manner::ResetsAfter(time)
            | Manner::ClosesAfter(time)
            | Manner::StopsReading(time) => Some(time),
            _ => None,
        };
        if let Some(time) = after {
            io.timer(time, MANNER);
        }
        self.send_more(io);
    }

    /// Sends the requests that may be sent now.
    fn send_more(&mut self, io: &mut ActorIo<'_>) {
        let Some(conn) = self.conn else { return };
        while self.sent < self.script.asks.len()
            && self.waiting.len() < self.script.pipeline
            && self.body.is_none()
            && !self.closed
            && !self.thinking
            && self.tunnel.is_none()
        {
            let id = self.script.asks[self.sent];
            self.sent += 1;
            self.waiting.push_back(id);
            self.send_one(id, conn, io);
        }
        let all = self.sent == self.script.asks.len() && self.body.is_none();
        if let Manner::Garbage(bytes, _) = &self.script.manner
            && all
            && !self.garbage_sent
            && !self.closed
        {
            self.garbage_sent = true;
            self.secure.send(io, conn, &bytes.clone());
        }
        if all && matches!(self.script.manner, Manner::HalfCloses) && self.tunnel.is_none() {
            self.secure.shut(io, conn);
        }
    }

    fn send_one(&mut self, id: usize, conn: ConnId, io: &mut ActorIo<'_>) {
        let ask = self.ask(id);
        let head = head_of(&ask, id);
        let plain = pattern::bytes(id as u64, Use::Request, 0, ask.body.len());
        let mut body = match ask.body {
            AskBody::Chunked(_) => chunked(&plain, id as u64 + 77, id.is_multiple_of(3)),
            _ => plain,
        };
        let last = self.sent == self.script.asks.len();
        io.trace(|| format!("client {}: sends request {id}: {} {:?}", self.number, ask.method, ask.body));
        match self.script.manner {
            Manner::StopsInHead if last => {
                self.cut_id = Some(id);
                self.secure.send(io, conn, &head[..head.len() / 2]);
                return;
            }
            Manner::DripsHead if last => {
                self.cut_id = Some(id);
                self.drip(conn, io);
            }
            Manner::DripsBody if last && body.len() > 1000 && !ask.expect => {
                self.cut_id = Some(id);
                self.secure.send(io, conn, &head);
                self.drip(conn, io);
                self.secure.send(io, conn, &body);
                return;
            }
            Manner::StopsInBody if last && body.len() > 1 => {
                self.cut_id = Some(id);
                body.truncate(body.len() / 2);
            }
            Manner::BadBody if last && matches!(ask.body, AskBody::Chunked(_)) => {
                self.cut_id = Some(id);
                let bad: [&[u8]; 6] = [
                    b"x\r\n",
                    b"-1\r\n",
                    b"5 \r\nhello\r\n",
                    b"\n",
                    b"ffffffffffffffffff\r\n",
                    b"0x5\r\nhello\r\n",
                ];
                let end = if id.is_multiple_of(3) {
                    b"0\r\nX-Trailer: yes\r\n\r\n".len()
                } else {
                    b"0\r\n\r\n".len()
                };
                body.truncate(body.len() - end);
                body.extend_from_slice(bad[id % bad.len()]);
                body.extend_from_slice(b"0\r\n\r\n");
            }
            _ => {}
        }
        if ask.expect {
            self.secure.send(io, conn, &head);
            self.body = Some((id, body));
            io.timer(Duration::from_millis(1500), EXPECT);
        } else {
            self.secure.send(io, conn, &[head, body].concat());
        }
    }

    /// Crawls from now on; nobody may put up with that for long.
    fn drip(&mut self, conn: ConnId, io: &mut ActorIo<'_>) {
        let second = Duration::from_secs(1);
        io.pace(conn, self.script.reads, Pace { piece_max: 1, pause: (second, second) });
        io.timer(DRIP_TIME, DRIPPED);
    }

    fn send_body(&mut self, io: &mut ActorIo<'_>) {
        if let (Some((_, body)), Some(conn)) = (self.body.take(), self.conn) {
            self.secure.send(io, conn, &body);
            self.send_more(io);
        }
    }

    fn data(&mut self, bytes: &[u8], io: &mut ActorIo<'_>) {
        if let Some((id, got)) = self.tunnel {
            self.tunnel_bytes(id, got, bytes, io);
            return;
        }
        self.reader.push(bytes);
        while !self.over {
            match self.reader.next() {
                Ok(None) => return,
                Ok(Some(Piece::Head(head))) => self.head(&head, io),
                Ok(Some(Piece::Data(data))) => self.body_bytes(&data),
                Ok(Some(Piece::End)) => self.complete(io),
                Err(why) => {
                    self.fail(&format!("an answer that is not HTTP: {why}"));
                    self.finish(io);
                }
            }
            if let Some((id, got)) = self.tunnel {
                let rest = self.reader.take_rest();
                self.tunnel_bytes(id, got, &rest, io);
                return;
            }
        }
    }

    fn head(&mut self, head: &Head, io: &mut ActorIo<'_>) {
        let id = self.waiting.front().copied();
        let ask = id.map(|id| self.ask(id));
        let status = status_of(head);
        if self.closed {
            self.fail(&format!("an answer after one that announced the end: {head:?}"));
        }
        let http10 = ask.as_ref().is_some_and(|ask| ask.http10);
        if (100..200).contains(&status) && status != 101 {
            self.reader.body(Body::None);
            if http10 || ask.is_none() {
                self.fail(&format!("an interim answer that is out of place: {head:?}"));
            }
            // The End piece of an interim answer belongs to no request.
            self.answer = None;
            if status == 100 {
                self.send_body(io);
            }
            return;
        }
        let Some((id, ask)) = id.zip(ask) else {
            self.garbage_answer(status, head, io);
            return;
        };
        let attempt = head.get("x-attempt").and_then(|attempt| attempt.parse().ok());
        let relayed = head.get("x-id").is_some() || attempt.is_some();
        if relayed && head.get("x-id") != Some(&id.to_string()) {
            self.fail(&format!("request {id} got the answer of another: {head:?}"));
        }
        for hop in ["keep-alive", "proxy-connection", "trailer"] {
            if head.get(hop).is_some() {
                self.fail(&format!("the hop-by-hop field {hop} came through"));
            }
        }
        if status == 101 {
            self.switched(id, &ask, io);
            return;
        }
        let body = self.framing(&ask, head, status);
        let last = head.has_token("connection", "close")
            || body == Body::UntilClose
            || (http10 && !head.has_token("connection", "keep-alive"));
        self.answer = Some(Answer { id, attempt: attempt.filter(|_| relayed), status, len: 0, last });
        self.reader.body(body);
    }

    /// RFC 9112 section 6.3, from the client's side.
    fn framing(&self, ask: &Ask, head: &Head, status: u16) -> Body {
        let framing = match head.framing() {
            Ok(framing) => framing,
            Err(why) => {
                self.fail(&why);
                None
            }
        };
        if framing == Some(Body::Chunked) && ask.http10 {
            self.fail("a chunked answer to an HTTP/1.0 request");
        }
        // Of a request that stopped in its head, or was not read, ringgate cannot know the method.
        let headless = status == 429
            || matches!(self.script.manner, Manner::StopsInHead | Manner::DripsHead)
                && self.cut_id == self.waiting.front().copied();
        if (ask.method == "HEAD" && !headless) || matches!(status, 204 | 304) {
            return Body::None;
        }
        framing.unwrap_or(Body::UntilClose)
    }

    fn garbage_answer(&mut self, status: u16, head: &Head, io: &mut ActorIo<'_>) {
        let Manner::Garbage(_, allowed) = &self.script.manner else {
            // A request that stopped in its head, or none at all: a timeout may be told.
            if !matches!(status, 408 | 503 | 429) {
                self.fail(&format!("an answer that nobody asked for: {head:?}"));
            }
            self.finish(io);
            return;
        };
        let tight = self.ledger.borrow().tight;
        let excused = matches!(status, 408 | 503) && (tight.memory || tight.times || tight.connections);
        if !allowed.contains(&status) && !excused {
            self.fail(&format!("garbage was answered with {status} instead of {allowed:?}"));
        }
        if !head.has_token("connection", "close") {
            self.fail("the connection is kept after garbage");
        }
        self.ledger.borrow_mut().tally.refused += 1;
        self.finish(io);
    }

    fn body_bytes(&mut self, data: &[u8]) {
        let Some(answer) = &mut self.answer else { return };
        if let Some(attempt) = answer.attempt {
            let right = pattern::matches(answer.id as u64, Use::Answer(attempt), answer.len, data);
            let (id, len) = (answer.id, answer.len);
            answer.len += data.len();
            if !right {
                self.fail(&format!("request {id}: wrong bytes in the answer at {len}"));
            }
        } else {
            answer.len += data.len();
        }
    }

    fn complete(&mut self, io: &mut ActorIo<'_>) {
        let Some(answer) = self.answer.take() else { return };
        self.waiting.pop_front();
        self.judge(&answer, true, io);
        if self.body.as_ref().is_some_and(|(id, _)| *id == answer.id) {
            // Answered before the body was sent: what follows would be taken for it.
            self.body = None;
            if !answer.last {
                self.close(io);
                return;
            }
        }
        if answer.last {
            self.closed = true;
            return;
        }
        if self.sent < self.script.asks.len() && self.waiting.is_empty() && self.script.think > Duration::ZERO
        {
            self.thinking = true;
            io.timer(self.script.think, THINK);
        }
        self.send_more(io);
        let garbage = matches!(self.script.manner, Manner::Garbage(..));
        let all = self.waiting.is_empty() && self.sent == self.script.asks.len();
        if all && !garbage && !self.script.waits {
            self.close(io);
        }
    }

    fn judge(&self, answer: &Answer, complete: bool, io: &mut ActorIo<'_>) {
        let outcome = match answer.attempt {
            Some(attempt) => Outcome::Relayed { attempt, status: answer.status, complete, len: answer.len },
            None => Outcome::Own { status: answer.status, complete },
        };
        let about = self.about(answer.id, io);
        io.trace(|| format!("request {} ends: {outcome:?}", answer.id));
        self.ledger.borrow_mut().judge(answer.id, outcome, &about);
    }

    /// The listener that it came by was closed at some time.
    fn is_unlistened(&self) -> bool {
        self.ledger.borrow().unlistened.contains(&self.script.to)
    }

    fn about(&self, id: usize, io: &ActorIo<'_>) -> About {
        About {
            hurt: self.conn.is_some_and(|conn| io.hurt(conn)),
            selfish: self.script.manner.is_selfish()
                && (self.cut_id == Some(id) || !self.script.manner.spares_others()),
            closed_before: self.closed,
            bad_body: matches!(self.script.manner, Manner::BadBody) && self.cut_id == Some(id),
            sent: self.script.asks[..self.sent].contains(&id),
            first: self.connected && self.script.asks.first() == Some(&id),
            prompt: self.script.think < LAST_REQUEST_TIME / 2,
            unlistened: self.is_unlistened(),
            injected: io.injected(),
        }
    }

    // Tunnels.

    fn switched(&mut self, id: usize, ask: &Ask, io: &mut ActorIo<'_>) {
        if !ask.upgrade {
            self.fail(&format!("request {id} was switched and did not ask for it"));
        }
        let Some(conn) = self.conn else { return };
        self.tunnel = Some((id, 0));
        self.secure.send(io, conn, &pattern::bytes(id as u64, Use::Tunnel, 0, ask.plan.len));
        if id.is_multiple_of(2) {
            self.secure.shut(io, conn);
        }
        self.tunnel_bytes(id, 0, &[], io);
    }

    fn tunnel_bytes(&mut self, id: usize, got: usize, bytes: &[u8], io: &mut ActorIo<'_>) {
        if !pattern::matches(id as u64, Use::Tunnel, got, bytes) {
            self.fail(&format!("request {id}: wrong bytes in the tunnel at {got}"));
        }
        let (got, len) = (got + bytes.len(), self.ask(id).plan.len);
        self.tunnel = Some((id, got));
        if got > len {
            self.fail(&format!("request {id}: {got} bytes came back through the tunnel instead of {len}"));
        }
        // Whoever did not end its stream yet does so when everything is back.
        if got == len
            && let Some(conn) = self.conn
        {
            self.secure.shut(io, conn);
        }
    }

    fn tunnel_ended(&mut self, id: usize, got: usize, io: &mut ActorIo<'_>) {
        let len = self.ask(id).plan.len;
        self.waiting.pop_front();
        let attempt = self.ledger.borrow().records[id].given.len().saturating_sub(1);
        let outcome = Outcome::Relayed { attempt, status: 101, complete: got == len, len: 0 };
        let about = self.about(id, io);
        let mut ledger = self.ledger.borrow_mut();
        ledger.tally.tunnels += 1;
        ledger.judge(id, outcome, &about);
    }

    // Ends.

    /// The other side ended (`orderly`) or broke the connection.
    fn ended(&mut self, orderly: bool, io: &mut ActorIo<'_>) {
        if self.over {
            return;
        }
        if let Some((id, got)) = self.tunnel.take() {
            self.tunnel_ended(id, got, io);
        } else if orderly && self.reader.is_until_close() {
            self.reader.end();
            if let Some(answer) = self.answer.take() {
                self.waiting.pop_front();
                self.judge(&answer, true, io);
            }
            self.closed = true;
        } else if let Some(answer) = self.answer.take() {
            self.waiting.pop_front();
            self.judge(&answer, false, io);
            self.closed = true;
        } else if !self.reader.is_between() && orderly {
            let about = self.about(usize::MAX, io);
            let ledger = self.ledger.borrow();
            let given = self.waiting.front().and_then(|id| ledger.records[*id].given.last());
            let excused =
                ledger.draining || about.unlistened || given.is_some_and(|given| given.wrong.is_some());
            drop(ledger);
            if !about.hurt && !about.selfish && about.injected.servers_hurt == 0 && !excused {
                let rest = String::from_utf8_lossy(self.reader.rest()).into_owned();
                self.fail(&format!("the connection ended in a head: {rest:?}"));
            }
        }
        if matches!(self.script.manner, Manner::Garbage(..)) && self.garbage_sent && self.waiting.is_empty() {
            self.unanswered_garbage(io);
        }
        self.finish(io);
    }

    fn unanswered_garbage(&self, io: &ActorIo<'_>) {
        let about = self.about(usize::MAX, io);
        let ledger = self.ledger.borrow();
        let tight = ledger.tight;
        let excused = about.hurt
            || self.closed
            || ledger.draining
            || about.unlistened
            || tight.memory
            || tight.times
            || tight.connections;
        drop(ledger);
        if !excused {
            self.fail("garbage got no answer");
        }
    }

    /// Ends in an orderly way.
    fn close(&mut self, io: &mut ActorIo<'_>) {
        self.finish(io);
    }

    /// Nothing more is expected: whatever was not answered is lost.
    fn finish(&mut self, io: &mut ActorIo<'_>) {
        if self.over {
            return;
        }
        self.over = true;
        if let Some(answer) = self.answer.take() {
            self.waiting.pop_front();
            self.judge(&answer, false, io);
        }
        if let Some((id, got)) = self.tunnel.take() {
            self.tunnel_ended(id, got, io);
        }
        let lost: Vec<usize> =
            self.waiting.drain(..).chain(self.script.asks[self.sent..].iter().copied()).collect();
        for id in lost {
            let about = self.about(id, io);
            io.trace(|| format!("request {id} is lost"));
            self.ledger.borrow_mut().judge(id, Outcome::Lost, &about);
            // What stood behind it could not be answered either.
            self.closed = true;
        }
        if let Some(conn) = self.conn {
            self.secure.close(io, conn);
        }
        io.finish();
    }

    fn manner(&mut self, io: &mut ActorIo<'_>) {
        let Some(conn) = self.conn else { return };
        match self.script.manner {
            Manner::VanishesAfter(_) => io.abandon(conn),
            Manner::ResetsAfter(_) => io.reset(conn),
            Manner::ClosesAfter(_) => {}
            Manner::StopsReading(_) => {
                io.hold(conn, true);
                io.timer(Duration::from_secs(400), GIVE_UP);
                return;
            }
            _ => return,
        }
        self.finish(io);
    }

    fn out_of_patience(&mut self, io: &mut ActorIo<'_>) {
        let about = self.about(usize::MAX, io);
        if !about.hurt && about.injected.silenced == 0 && about.injected.connects_slow == 0 {
            self.fail(&format!("stuck: sent {}, waits for {:?}", self.sent, self.waiting));
        }
        self.finish(io);
    }
}

impl Actor for Client {
    fn on(&mut self, io: &mut ActorIo<'_>, what: Happening<'_>) {
        match what {
            Happening::Start => {
                let conn = io.connect(&self.script.to, Some(self.script.from));
                io.pace(conn, self.script.reads, self.script.writes);
                self.conn = Some(conn);
                io.timer(PATIENCE_TIME, PATIENCE);
            }
            _ if self.over => {}
            Happening::Connected(conn) => self.connected(conn, io),
            Happening::Data(conn, bytes) => match self.secure.received(io, conn, bytes) {
                Ok(plain) => self.data(&plain, io),
                Err(why) => {
                    self.fail(&format!("TLS: {why}"));
                    self.finish(io);
                }
            },
            Happening::Eof(_) => {
                let whole = self.secure.is_whole();
                self.ended(whole, io);
            }
            Happening::Reset(..) => {
                self.conn_reset(io);
            }
            Happening::Refused(..) => {
                let excused = self.ledger.borrow().draining || self.is_unlistened();
                if !excused {
                    self.fail("the connection was refused");
                }
                self.finish(io);
            }
            Happening::Timer(THINK) => {
                self.thinking = false;
                self.send_more(io);
            }
            Happening::Timer(EXPECT) => self.send_body(io),
            Happening::Timer(MANNER) => self.manner(io),
            Happening::Timer(PATIENCE | DRIPPED) => self.out_of_patience(io),
            Happening::Timer(_) => self.finish(io),
            Happening::Accepted { .. } | Happening::Flushed(_) => {}
        }
    }
}

impl Client {
    fn conn_reset(&mut self, io: &mut ActorIo<'_>) {
        self.ended(false, io);
    }
}

fn status_of(head: &Head) -> u16 {
    let mut words = head.start.splitn(3, ' ');
    match (words.next(), words.next().and_then(|status| status.parse().ok())) {
        (Some("HTTP/1.1" | "HTTP/1.0"), Some(status)) => status,
        _ => 0,
    }
}
