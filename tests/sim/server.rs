//! A scripted server behind ringgate: checks every request to the last byte, and answers as the request's plan says.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ringgate::net::Address;
use ringgate::ring::sim::{Actor, ActorIo, ConnId, Happening, Pace};

use crate::answer::{Step, Writer};
use crate::ledger::{Ask, AskBody, Given, Shared, Wrong};
use crate::message::{Body, Head, Piece, Reader};
use crate::pattern::{self, Use};
use crate::proxy;
use crate::secure::Secure;

/// How a server is.
#[derive(Clone, Debug)]
pub struct Habits {
    pub address: Address,
    /// The only host whose requests come here.
    pub host: Option<&'static str>,
    /// A PROXY header must come first.
    pub expects_proxy: bool,
    /// TLS comes behind the PROXY header.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Requests that it may get at a time.
    pub most: Option<usize>,
    /// Echoes bytes instead of speaking HTTP.
    pub echoes: bool,
    /// Closes a kept connection up to this long after an answer.
    pub closes_idle: Option<Duration>,
    /// Every so often it refuses connections and resets those that it has.
    pub restarts: Option<Duration>,
    pub reads: Pace,
    pub writes: Pace,
}

struct Exchange {
    id: usize,
    attempt: usize,
    got: usize,
    answering: bool,
    body_seen: bool,
    answered: bool,
}

struct Link {
    conn: ConnId,
    secure: Secure,
    /// A PROXY header as far as it came.
    announced: Vec<u8>,
    reader: Reader,
    exchange: Option<Exchange>,
    steps: VecDeque<Step>,
    waiting: bool,
    tunnel: Option<usize>,
    proxied: bool,
    source: Option<SocketAddr>,
    served: u64,
    hung: bool,
}

impl Link {
    fn is_busy(&self) -> bool {
        self.tunnel.is_some() || self.exchange.as_ref().is_some_and(|exchange| !exchange.answered)
    }
}

/// A server.
pub struct Server {
    number: usize,
    habits: Habits,
    ledger: Shared,
    links: BTreeMap<u32, Link>,
    down: bool,
}

const RESTART: u64 = u64::MAX;

impl Server {
    pub fn new(number: usize, habits: Habits, ledger: Shared) -> Self {
        Self { number, habits, ledger, links: BTreeMap::new(), down: false }
    }

    fn fail(&self, what: String) {
        self.ledger.borrow_mut().fail(format!("server {}: {what}", self.number));
    }

    fn accepted(&mut self, conn: ConnId, ends: ringgate::net::Ends, io: &mut ActorIo<'_>) {
        io.pace(conn, self.habits.reads, self.habits.writes);
        let link = Link {
            conn,
            secure: self.habits.tls.as_ref().map_or(Secure::Plain, Secure::server),
            announced: Vec::new(),
            reader: Reader::new(),
            exchange: None,
            steps: VecDeque::new(),
            waiting: false,
            tunnel: self.habits.echoes.then_some(0),
            proxied: !self.habits.expects_proxy,
            source: ends.client,
            served: 0,
            hung: false,
        };
        self.links.insert(conn.number(), link);
    }

    fn data(&mut self, conn: ConnId, bytes: &[u8], io: &mut ActorIo<'_>) {
        let Some(mut link) = self.links.remove(&conn.number()) else { return };
        if self.decrypt(&mut link, bytes, io) && self.understand(&mut link, io) {
            self.links.insert(conn.number(), link);
        }
    }

    /// Takes the PROXY header and TLS away; false when the connection is gone.
    fn decrypt(&self, link: &mut Link, bytes: &[u8], io: &mut ActorIo<'_>) -> bool {
        let mut bytes = bytes.to_vec();
        if !link.proxied {
            link.announced.extend_from_slice(&bytes);
            match proxy::parse(&link.announced) {
                Ok(None) => return true,
                Ok(Some((source, used))) => {
                    link.proxied = true;
                    link.source = source;
                    bytes = link.announced.split_off(used);
                }
                Err(why) => {
                    self.fail(format!("a PROXY header that is wrong: {why}"));
                    return true;
                }
            }
        }
        match link.secure.received(io, link.conn, &bytes) {
            Ok(plain) => {
                link.reader.push(&plain);
                true
            }
            Err(why) => {
                self.fail(format!("TLS: {why}"));
                io.close(link.conn);
                false
            }
        }
    }

    /// Goes through what came; false when the connection is gone.
    fn understand(&self, link: &mut Link, io: &mut ActorIo<'_>) -> bool {
        loop {
            if let Some(told) = &mut link.tunnel {
                let bytes = link.reader.take_rest();
                *told += bytes.len();
                if !bytes.is_empty() {
                    link.secure.send(io, link.conn, &bytes);
                }
                return true;
            }
            if link.hung {
                link.reader.take_rest();
                return true;
            }
            match link.reader.next() {
                Ok(None) => return true,
                Ok(Some(Piece::Head(head))) => self.head(link, &head, io),
                Ok(Some(Piece::Data(data))) => self.body(link, &data),
                Ok(Some(Piece::End)) => self.end_of_request(link, io),
                Err(why) => {
                    self.fail(format!("a request that is not HTTP: {why}"));
                    link.hung = true;
                }
            }
            if !self.run(link, io) {
                return false;
            }
        }
    }

    fn head(&self, link: &mut Link, head: &Head, io: &mut ActorIo<'_>) {
        let id = head.get("x-id").and_then(|id| id.parse::<usize>().ok());
        let mut ledger = self.ledger.borrow_mut();
        let Some(id) = id.filter(|id| *id < ledger.records.len()) else {
            drop(ledger);
            self.fail(format!("a request that nobody sent: {head:?}"));
            link.hung = true;
            return;
        };
        if let Some(exchange) = &link.exchange
            && !exchange.answered
        {
            drop(ledger);
            self.fail(format!("request {id} came before request {} was answered", exchange.id));
            link.hung = true;
            return;
        }
        let record = &ledger.records[id];
        let mut mistakes = check_head(&record.ask, head, record.client, id);
        if head.get("x-forwarded-proto") != Some(if ledger.tls { "https" } else { "http" }) {
            mistakes.push("X-Forwarded-Proto is wrong".to_owned());
        }
        if ledger.records[id].ask.own.is_some_and(|status| status != 413) {
            ledger.fail(format!("request {id} should not have reached a server"));
        }
        if self.habits.host != Some(ledger.records[id].ask.host) {
            ledger.fail(format!("server {}: request {id} belongs to another pool", self.number));
        }
        let attempt = ledger.records[id].given.len();
        let ask = ledger.records[id].ask.clone();
        for mistake in mistakes {
            ledger.fail(format!("server {}: request {id}: {mistake}: {head:?}", self.number));
        }
        if self.habits.expects_proxy
            && link.source.map(|source| source.ip()) != Some(ledger.records[id].client)
        {
            ledger.fail(format!("request {id}: the PROXY header names {:?}", link.source));
        }
        if attempt > 0 && !ask.idempotent() {
            ledger.fail(format!("request {id} is not idempotent and reached a server twice"));
        }
        if attempt > ledger.attempts_max {
            ledger.fail(format!("request {id} reached servers {} times", attempt + 1));
        }
        let wrong = ask.plan.wrong.filter(|_| attempt < ask.plan.wrong_attempts);
        // A body that turns out to be too large is given up: the server learns that later.
        let given_up =
            |link: &&Link| link.exchange.as_ref().is_some_and(|e| ledger.records[e.id].ask.own.is_some());
        let busy = self.links.values().filter(|link| link.is_busy() && !given_up(link)).count() + 1;
        if self.habits.most.is_some_and(|most| busy > most) {
            ledger.fail(format!("server {}: request {id} makes {busy} requests at a time", self.number));
        }
        let given = Given { wrong, whole: false, len: ask.plan.len, body_seen: false };
        ledger.records[id].given.push(given);
        if wrong.is_some() {
            ledger.wrongs += 1;
        }
        drop(ledger);
        io.trace(|| format!("server {}: request {id}, attempt {attempt}, wrong {wrong:?}", self.number));
        link.exchange =
            Some(Exchange { id, attempt, got: 0, answering: false, body_seen: false, answered: false });
        link.reader.body(head.framing().ok().flatten().unwrap_or(Body::None));
        if wrong == Some(Wrong::CloseInRequest) {
            link.steps.push_back(Step::Close);
        } else if ask.plan.early || wrong == Some(Wrong::EarlyClose) {
            self.answer(link, &ask);
        } else if ask.expect {
            link.steps.push_back(Step::Send(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()));
        }
    }

    fn body(&self, link: &mut Link, data: &[u8]) {
        let Some(exchange) = &mut link.exchange else { return };
        if !pattern::matches(exchange.id as u64, Use::Request, exchange.got, data) {
            let what = format!("request {}: wrong bytes in the body at {}", exchange.id, exchange.got);
            self.ledger.borrow_mut().fail(what);
        }
        exchange.got += data.len();
    }

    fn end_of_request(&self, link: &mut Link, io: &mut ActorIo<'_>) {
        let Some(exchange) = &mut link.exchange else { return };
        let mut ledger = self.ledger.borrow_mut();
        let ask = ledger.records[exchange.id].ask.clone();
        let expected = ask.body.len();
        if exchange.got != expected {
            ledger.fail(format!(
                "request {}: a body of {} bytes instead of {expected}",
                exchange.id, exchange.got
            ));
        }
        ledger.records[exchange.id].given[exchange.attempt].body_seen = true;
        exchange.body_seen = true;
        let (answering, answered) = (exchange.answering, exchange.answered);
        drop(ledger);
        if !answering {
            self.answer(link, &ask);
        } else if answered {
            self.rest(link, io);
        }
    }

    /// Makes the steps of an answer.
    fn answer(&self, link: &mut Link, ask: &Ask) {
        let Some(exchange) = &mut link.exchange else { return };
        exchange.answering = true;
        let (id, attempt) = (exchange.id, exchange.attempt);
        let wrong = self.ledger.borrow().records[id].given[attempt].wrong;
        let tls = self.habits.tls.is_some();
        let writer = Writer { ask, id, attempt, tls, steps: &mut link.steps };
        writer.write(wrong, &mut self.ledger.borrow_mut());
    }

    /// Does the steps that can be done now; false when the connection is gone.
    fn run(&self, link: &mut Link, io: &mut ActorIo<'_>) -> bool {
        while !link.waiting {
            match link.steps.pop_front() {
                None => return true,
                Some(Step::Send(bytes)) => link.secure.send(io, link.conn, &bytes),
                Some(Step::Wait(time)) => {
                    link.waiting = true;
                    io.timer(time, u64::from(link.conn.number()) << 20);
                }
                Some(Step::Close) => {
                    io.close(link.conn);
                    return false;
                }
                Some(Step::Reset) => {
                    io.reset(link.conn);
                    return false;
                }
                Some(Step::Hang) => {
                    link.hung = true;
                    link.steps.clear();
                }
                Some(Step::Done { keep }) => {
                    let Some(exchange) = &mut link.exchange else { return true };
                    exchange.answered = true;
                    link.served += 1;
                    let mut ledger = self.ledger.borrow_mut();
                    let record = &mut ledger.records[exchange.id];
                    record.given[exchange.attempt].whole = true;
                    if record.ask.upgrade && record.given[exchange.attempt].wrong.is_none() {
                        link.tunnel = Some(0);
                        continue;
                    }
                    let abrupt = record.given[exchange.attempt].wrong == Some(Wrong::EarlyClose);
                    let body_seen = exchange.body_seen;
                    drop(ledger);
                    if !keep && !body_seen && !abrupt {
                        // A close with unread bytes would be a reset, which may overtake the answer.
                        link.secure.shut(io, link.conn);
                        link.hung = true;
                        continue;
                    }
                    if abrupt {
                        self.ledger.borrow_mut().restarts += 1;
                    }
                    if !keep {
                        link.secure.close(io, link.conn);
                        return false;
                    }
                    if body_seen {
                        self.rest(link, io);
                    }
                }
            }
        }
        true
    }

    /// The connection is kept; perhaps not for long.
    fn rest(&self, link: &Link, io: &mut ActorIo<'_>) {
        if let Some(longest) = self.habits.closes_idle {
            let time = io.random().time(Duration::ZERO, longest);
            io.timer(time, u64::from(link.conn.number()) << 20 | (link.served & 0xf_ffff));
        }
    }

    fn timer(&mut self, token: u64, io: &mut ActorIo<'_>) {
        if token == RESTART {
            self.restart(io);
            return;
        }
        let (number, served) = ((token >> 20) as u32, token & 0xf_ffff);
        let Some(mut link) = self.links.remove(&number) else { return };
        if served > 0 {
            let idle =
                link.reader.is_between() && link.exchange.as_ref().is_none_or(|e| e.answered && e.body_seen);
            if idle && link.served == served && link.tunnel.is_none() {
                io.trace(|| "closes a kept connection".to_owned());
                link.secure.close(io, link.conn);
                return;
            }
            self.links.insert(number, link);
            return;
        }
        link.waiting = false;
        if self.run(&mut link, io) && self.understand(&mut link, io) {
            self.links.insert(number, link);
        }
    }

    fn restart(&mut self, io: &mut ActorIo<'_>) {
        let Some(every) = self.habits.restarts else { return };
        self.down = !self.down;
        if self.down {
            io.unlisten(&self.habits.address);
            self.ledger.borrow_mut().restarts += 1;
            for (_, link) in std::mem::take(&mut self.links) {
                // Even an answer that was given may not have left yet.
                if let Some(exchange) = &link.exchange {
                    let mut ledger = self.ledger.borrow_mut();
                    let given = &mut ledger.records[exchange.id].given[exchange.attempt];
                    given.wrong = given.wrong.or(Some(Wrong::ResetInBody));
                }
                io.reset(link.conn);
            }
        } else {
            io.listen(&self.habits.address);
        }
        let time = io.random().time(Duration::from_millis(1), every);
        io.timer(time, RESTART);
    }
}

impl Actor for Server {
    fn on(&mut self, io: &mut ActorIo<'_>, what: Happening<'_>) {
        match what {
            Happening::Start => {
                io.listen(&self.habits.address);
                io.finish();
                if let Some(every) = self.habits.restarts {
                    let time = io.random().time(Duration::ZERO, every);
                    io.timer(time, RESTART);
                }
            }
            Happening::Accepted { conn, ends, .. } => self.accepted(conn, ends, io),
            Happening::Data(conn, bytes) => self.data(conn, bytes, io),
            Happening::Eof(conn) => {
                let Some(link) = self.links.get_mut(&conn.number()) else { return };
                let busy = link.exchange.as_ref().is_some_and(|exchange| !exchange.answered);
                if link.tunnel.is_some() {
                    // What is on its way back still leaves.
                    link.secure.shut(io, conn);
                    self.links.remove(&conn.number());
                } else if !busy || link.hung {
                    link.secure.close(io, conn);
                    self.links.remove(&conn.number());
                }
            }
            Happening::Reset(conn, _) => {
                self.links.remove(&conn.number());
            }
            Happening::Timer(token) => self.timer(token, io),
            Happening::Connected(_) | Happening::Refused(..) | Happening::Flushed(_) => {}
        }
    }
}

/// What is wrong with a head that came.
fn check_head(ask: &Ask, head: &Head, client: std::net::IpAddr, id: usize) -> Vec<String> {
    let mut mistakes = Vec::new();
    let start = format!("{} {} HTTP/1.1", ask.method, ask.target);
    if head.start != start {
        mistakes.push(format!("the request line should be {start:?}"));
    }
    if head.all("host").collect::<Vec<_>>() != [ask.host] {
        mistakes.push(format!("the host should be {}", ask.host));
    }
    if head.all("x-id").count() != 1 || head.get("x-id") != Some(&id.to_string()) {
        mistakes.push("the id is wrong".to_owned());
    }
    for hop in ["x-hop", "keep-alive", "te", "proxy-connection", "proxy-authorization", "trailer"] {
        if head.get(hop).is_some() {
            mistakes.push(format!("the hop-by-hop field {hop} was forwarded"));
        }
    }
    if head.has_token("connection", "x-hop") {
        mistakes.push("the client's Connection field was forwarded".to_owned());
    }
    if head.get("upgrade").is_some() != ask.upgrade {
        mistakes.push("the Upgrade field is wrong".to_owned());
    }
    let forwarded: Vec<&str> = head.all("x-forwarded-for").collect();
    if forwarded != [client.to_string()] {
        mistakes.push(format!("X-Forwarded-For should be {client}"));
    }
    match (head.framing(), ask.body) {
        (Err(why), _) => mistakes.push(why),
        (Ok(Some(Body::Length(length))), AskBody::Length(expected)) if length == expected as u64 => {}
        (Ok(Some(Body::Chunked)), AskBody::Chunked(_)) => {}
        (Ok(None | Some(Body::Length(0))), AskBody::None | AskBody::Length(0)) => {}
        (Ok(framing), body) => mistakes.push(format!("framed as {framing:?} instead of {body:?}")),
    }
    mistakes
}
