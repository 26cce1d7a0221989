//! One request and its answer, from the plan to the last byte.
//!
//! What goes in: the client's connection and what happens on the server's. What comes out: bytes on both, and an
//! [`Outcome`] when the exchange cannot go on or is complete. It owns: the way to the server while it is in use, and what
//! is needed to try another one. Always true: a request whose head reached a server is sent again only if it is
//! idempotent, has no body, and nothing of an answer was heard.

use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::buf::Chunk;
use crate::clock::Moment;
use crate::close::Close;
use crate::config::model::Pool as ServerPool;
use crate::counters::Count;
use crate::http::h1::head::{HeadLimits, Parse, Scratch, parse_response};
use crate::http::h1::write::{Connection, OutFraming, Relay, write_response};
use crate::http::message::{Method, Request, Response, ResponseFraming, Version};
use crate::http::rules::FieldRules;
use crate::ids::PoolId;
use crate::limits::INTERIM_MAX;

use super::conn::{Conn, push_or_copy};
use super::dial::{Around, Dial, note_answer, note_failure};
use super::relay::{BodyIn, BodyOut, Moved, end_until_close, relay};
use super::timers::Timer;
use super::{Cx, Event, Reuse};

/// What an exchange tells its session after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It waits for something.
    Going,
    /// The answer and the request are complete; the server connection is parked or closed.
    Complete,
    /// The answer is complete, the request is not: what is left of it is not wanted any more.
    AnsweredEarly,
    /// The server agreed to switch protocols: bytes flow freely from now on.
    Switched,
    /// It failed.
    Failed(Close),
}

impl From<Result<(), Close>> for Outcome {
    fn from(result: Result<(), Close>) -> Self {
        result.map_or_else(Self::Failed, |()| Self::Going)
    }
}

/// How far the answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Head,
    Body,
    Complete,
}

/// What became of the bytes at the front of the server's inbox.
enum HeadStep {
    /// A head was understood; there may be another.
    Taken,
    /// A head was understood, and it switches protocols.
    Switched,
    /// No page was free to write it.
    Starved,
    /// It breaks the rules.
    Bad,
}

/// One request and its answer.
#[derive(Debug)]
pub struct Exchange {
    /// The way to the server.
    pub dial: Dial,
    /// What is left of the request's body.
    pub body: BodyIn,
    /// The client's connection ends after this exchange.
    pub closing: bool,
    /// Our answer's head was queued to the client.
    pub started: bool,
    /// The end of the connection ends the answer: cut, it looks complete unless the connection is reset.
    pub until_close: bool,
    /// Index of the route within the block; `None` when a reload removed it.
    pub route: Option<u32>,
    /// When the head's first byte came, and when it was complete.
    pub begun: Moment,
    /// See `begun`.
    pub asked: Moment,
    /// When the head of the answer was complete.
    pub answered: Moment,
    /// The status of the answer; 0 before it.
    pub status: u16,
    /// Bytes of the request so far, its head included; of a tunnel's client too.
    pub bytes_in: u64,
    /// Bytes of the answer so far, its head included; of a tunnel's server too.
    pub bytes_out: u64,
    /// Changes to the answer's fields.
    rules: Option<Arc<FieldRules>>,
    method: Method,
    version: Version,
    upgrade: bool,
    body_out: BodyOut,
    body_bytes: u64,
    body_bytes_max: u64,
    /// The request's head as it goes to a server; `None` once it was handed over.
    head: Option<Chunk>,
    /// A copy of it, for another attempt.
    copy: Option<Box<[u8]>>,
    /// Must not be sent twice.
    once: bool,
    answer: Answer,
    answer_body: BodyIn,
    answer_out: BodyOut,
    server_keeps: bool,
    interims: u32,
}

impl Exchange {
    /// The exchange for a request that goes to `pool`; `head` is its rewritten head, `body` what follows it.
    pub fn new(
        request: &Request<'_>,
        rules: &Arc<FieldRules>,
        pool: PoolId,
        head: Chunk,
        body: BodyIn,
        closing: bool,
    ) -> Self {
        let body_out = if matches!(body, BodyIn::Chunked(_)) { BodyOut::Chunked } else { BodyOut::Raw };
        let once = !request.method.is_idempotent() || !body.is_done() || request.upgrade.is_some();
        Self {
            dial: Dial::new(pool, if once { Reuse::Fresh } else { Reuse::Any }),
            body,
            closing,
            started: false,
            until_close: false,
            // Shared between workers: touched only where there are rules.
            route: None,
            begun: Moment::NEVER,
            asked: Moment::NEVER,
            answered: Moment::NEVER,
            status: 0,
            bytes_in: request.head_bytes as u64,
            bytes_out: 0,
            rules: (!rules.is_empty()).then(|| rules.clone()),
            method: request.method,
            version: request.version,
            upgrade: request.upgrade.is_some(),
            body_out,
            body_bytes: 0,
            body_bytes_max: u64::MAX,
            head: Some(head),
            copy: None,
            once,
            answer: Answer::Head,
            answer_body: BodyIn::Done,
            answer_out: BodyOut::Raw,
            server_keeps: false,
            interims: 0,
        }
    }

    /// Bounds the request's body, for one whose length is not known beforehand.
    pub const fn limit_body(&mut self, bytes_max: u64) {
        self.body_bytes_max = bytes_max;
    }

    /// Whether the next move is the client's: more of its body.
    pub fn waits_for_client(&self, front: &Conn) -> bool {
        let link = self.dial.link.as_ref();
        !self.body.is_done()
            && front.inbox.is_empty()
            && link.is_some_and(|link| link.is_open() && !link.conn.is_deaf())
    }

    /// Pages held.
    pub fn pages(&self) -> usize {
        usize::from(self.head.is_some()) + self.dial.link.as_ref().map_or(0, |link| link.conn.pages())
    }

    fn times<'a>(&self, cx: &Cx<'a>) -> &'a ServerPool {
        let config = cx.config;
        &config.pools[self.dial.pool.index()]
    }

    /// Something happened on the server's connection.
    pub fn on_server(&mut self, event: Event, around: &mut Around<'_>, cx: &mut Cx<'_>) -> Outcome {
        let lost = match self.dial.on(event, around, cx) {
            Ok(()) => return Outcome::Going,
            Err(close) => close,
        };
        match (lost, self.answer) {
            // The connection broke: what that means depends on how far the answer is.
            (Close::ServerTruncated, Answer::Head) => {
                self.server_failed(Close::ServerClosedEarly, around, cx)
            }
            (Close::ServerTruncated, _) => Outcome::Failed(lost),
            _ => self.server_failed(lost, around, cx),
        }
    }

    /// Does what can be done now.
    pub fn step(&mut self, around: &mut Around<'_>, cx: &mut Cx<'_>) -> Outcome {
        let Some(link) = &mut self.dial.link else { return Outcome::Going };
        link.settle();
        if !link.is_open() {
            return if link.conn.is_eof() {
                self.server_failed(Close::ServerTls, around, cx)
            } else {
                Outcome::Going
            };
        }
        if self.head.is_some() {
            self.send_head(around, cx);
        }
        if let Err(close) = self.relay_request(around, cx) {
            return Outcome::Failed(close);
        }
        while self.answer == Answer::Head {
            if let Some(outcome) = self.answer_head(around, cx) {
                return outcome;
            }
        }
        if self.answer == Answer::Body
            && let Err(close) = self.relay_answer(around, cx)
        {
            return Outcome::Failed(close);
        }
        if self.answer == Answer::Complete { self.complete(around, cx) } else { Outcome::Going }
    }

    fn send_head(&mut self, around: &mut Around<'_>, cx: &mut Cx<'_>) {
        let first_byte = self.times(cx).times.first_byte;
        let (Some(link), Some(head)) = (&mut self.dial.link, self.head.take()) else { return };
        if !self.once && self.copy.is_none() {
            self.copy = Some(head.bytes().into());
        }
        around.deadlines.set(Timer::Server, cx.now + first_byte);
        link.active = cx.now;
        link.conn.outbox.push(head, cx.pool);
    }

    fn relay_request(&mut self, around: &mut Around<'_>, cx: &mut Cx<'_>) -> Result<(), Close> {
        if self.body.is_done() {
            return Ok(());
        }
        let Some(link) = &mut self.dial.link else { return Ok(()) };
        if link.conn.is_deaf() {
            return Ok(());
        }
        let (window, flying) = (cx.window(), link.conn.in_flight());
        let (front, to) = (&mut around.front.inbox, &mut link.conn.outbox);
        let moved: Moved = relay(&mut self.body, self.body_out, front, to, window, flying, cx.pool)
            .map_err(|_| Close::BadBody)?;
        cx.starved |= moved.starved;
        if moved.bytes > 0 {
            link.active = cx.now;
            self.body_bytes += moved.bytes;
            self.bytes_in += moved.bytes;
            if self.body_bytes > self.body_bytes_max {
                return Err(Close::BodyTooLarge);
            }
        }
        if !self.body.is_done() && around.front.is_eof() && around.front.inbox.is_empty() {
            return Err(Close::ClientGone);
        }
        Ok(())
    }

    /// Understands one head of the server; `None` means that there may be more to do.
    fn answer_head(&mut self, around: &mut Around<'_>, cx: &mut Cx<'_>) -> Option<Outcome> {
        let link = self.dial.link.as_mut()?;
        let Some(mut chunk) = link.conn.inbox.pop() else {
            let ended = link.conn.is_eof();
            return Some(if ended {
                self.server_failed(Close::ServerClosedEarly, around, cx)
            } else {
                Outcome::Going
            });
        };
        link.heard = true;
        let (used, step) = {
            let mut scratch = Scratch::new();
            match parse_response(chunk.bytes(), &HeadLimits::default(), self.method, &mut scratch) {
                Parse::Done(response) => (response.head_bytes, Some(self.take_head(&response, around, cx))),
                Parse::NeedMore => (0, None),
                Parse::Bad(..) => (0, Some(HeadStep::Bad)),
            }
        };
        let link = self.dial.link.as_mut()?;
        match step {
            Some(HeadStep::Taken | HeadStep::Switched) => chunk.advance(used),
            Some(HeadStep::Starved) => cx.starved = true,
            Some(HeadStep::Bad) | None => {}
        }
        link.conn.inbox.push_front(chunk, cx.pool);
        match step {
            Some(HeadStep::Taken) => None,
            Some(HeadStep::Switched) => Some(Outcome::Switched),
            Some(HeadStep::Starved) => Some(Outcome::Going),
            Some(HeadStep::Bad) => Some(Outcome::Failed(Close::ServerBadAnswer)),
            None if link.conn.inbox.join_front(cx.pool) => None,
            None if link.conn.is_eof() => Some(Outcome::Failed(Close::ServerBadAnswer)),
            None => Some(Outcome::Going),
        }
    }

    fn take_head(&mut self, response: &Response<'_>, around: &mut Around<'_>, cx: &mut Cx<'_>) -> HeadStep {
        match response.status {
            101 if self.upgrade && response.upgrade.is_some() => {
                let relay = self.relay(Connection::Upgrade, OutFraming::None, None);
                if let Some(stop) = self.write_head(response, &relay, around, cx) {
                    return stop;
                }
                self.started = true;
                (self.status, self.answered) = (101, cx.now);
                self.answer = Answer::Complete;
                cx.counters.add(Count::Upgrades, 1);
                HeadStep::Switched
            }
            100..=199 if response.status != 101 => self.take_interim(response, around, cx),
            200..=599 => self.take_final(response, around, cx),
            _ => HeadStep::Bad,
        }
    }

    fn take_interim(
        &mut self,
        response: &Response<'_>,
        around: &mut Around<'_>,
        cx: &mut Cx<'_>,
    ) -> HeadStep {
        self.interims += 1;
        if self.interims > INTERIM_MAX {
            return HeadStep::Bad;
        }
        if self.version == Version::Http11 {
            let relay = self.relay(Connection::KeepAlive, OutFraming::None, None);
            if let Some(stop) = self.write_head(response, &relay, around, cx) {
                self.interims -= 1;
                return stop;
            }
            cx.counters.add(Count::Answers1xx, 1);
        }
        HeadStep::Taken
    }

    fn take_final(&mut self, response: &Response<'_>, around: &mut Around<'_>, cx: &mut Cx<'_>) -> HeadStep {
        let (body, framing, out) = reframe(response.framing, self.version);
        // What the client still has to send of a request that is answered already is not wanted for the next one.
        let last = self.closing || cx.draining || !self.body.is_done() || framing == OutFraming::UntilClose;
        let connection = if last { Connection::Close } else { Connection::KeepAlive };
        let relay = self.relay(connection, framing, Some(cx.date));
        if let Some(stop) = self.write_head(response, &relay, around, cx) {
            return stop;
        }
        self.closing = last;
        self.started = true;
        self.until_close = framing == OutFraming::UntilClose;
        self.server_keeps = response.keep_alive && !matches!(body, BodyIn::UntilClose);
        self.answer = if body.is_done() { Answer::Complete } else { Answer::Body };
        self.answer_body = body;
        self.answer_out = out;
        (self.status, self.answered) = (response.status, cx.now);
        count_status(response.status, cx);
        if let Some(link) = &self.dial.link {
            note_answer(link, self.dial.pool, response.status, cx);
        }
        around.deadlines.set(Timer::Server, cx.now + self.times(cx).times.progress);
        HeadStep::Taken
    }

    const fn relay<'a>(
        &self,
        connection: Connection,
        framing: OutFraming,
        date: Option<&'a str>,
    ) -> Relay<'a> {
        Relay { version: self.version, connection, framing, date, extra: &[] }
    }

    /// Queues a head for the client; on failure says why.
    fn write_head(
        &mut self,
        response: &Response<'_>,
        relay: &Relay<'_>,
        around: &mut Around<'_>,
        cx: &mut Cx<'_>,
    ) -> Option<HeadStep> {
        let Some(page) = cx.pool.take() else { return Some(HeadStep::Starved) };
        let mut head = Chunk::empty(page);
        let mut extra = ArrayVec::new();
        if let Some(marks) = &mut around.marks
            && (response.status >= 200 || relay.connection == Connection::Upgrade)
        {
            marks.decide(Some((&self.dial, self.asked)), cx);
            extra = marks.back();
        }
        let relay = &Relay { extra: &extra, ..*relay };
        let none = FieldRules::default();
        let rules = self.rules.as_deref().filter(|_| response.status >= 200).unwrap_or(&none);
        let Some(written) = write_response(response, relay, rules, head.tail_mut()) else {
            cx.pool.give(head.into_page());
            return Some(HeadStep::Bad);
        };
        head.filled(written);
        self.bytes_out += written as u64;
        push_or_copy(&mut around.front.outbox, head, cx.pool);
        None
    }

    fn relay_answer(&mut self, around: &mut Around<'_>, cx: &mut Cx<'_>) -> Result<(), Close> {
        let Some(link) = &mut self.dial.link else { return Ok(()) };
        let (window, flying) = (cx.window(), around.front.in_flight());
        let (from, to) = (&mut link.conn.inbox, &mut around.front.outbox);
        let moved = relay(&mut self.answer_body, self.answer_out, from, to, window, flying, cx.pool)
            .map_err(|_| Close::ServerTruncated)?;
        cx.starved |= moved.starved;
        self.bytes_out += moved.bytes;
        if !self.answer_body.is_done() && link.conn.is_eof() && link.conn.inbox.is_empty() {
            let ended = matches!(self.answer_body, BodyIn::UntilClose) && !link.conn.is_truncated();
            if !ended {
                return Err(Close::ServerTruncated);
            }
            cx.starved |= !end_until_close(&mut self.answer_body, self.answer_out, to, cx.pool);
        }
        if self.answer_body.is_done() {
            self.answer = Answer::Complete;
        }
        Ok(())
    }

    fn complete(&mut self, around: &mut Around<'_>, cx: &mut Cx<'_>) -> Outcome {
        around.deadlines.clear(Timer::Server);
        let whole = self.body.is_done();
        let pool = self.times(cx);
        let clean = self.dial.link.as_ref().is_some_and(|link| {
            let conn = &link.conn;
            conn.inbox.is_empty() && !conn.is_eof() && !conn.is_deaf() && conn.is_flushed()
        });
        let keep = whole && clean && self.server_keeps && pool.keep_alive && pool.send_proxy.is_none();
        self.dial.let_go(keep && !cx.draining, cx);
        if whole { Outcome::Complete } else { Outcome::AnsweredEarly }
    }

    /// Ends the exchange wherever it is.
    pub fn abandon(&mut self, cx: &mut Cx<'_>) {
        self.dial.abandon(cx);
        if let Some(head) = self.head.take() {
            cx.pool.give(head.into_page());
        }
    }

    /// The server's side of the exchange failed: tries another server where the rules allow it.
    fn server_failed(&mut self, close: Close, around: &mut Around<'_>, cx: &mut Cx<'_>) -> Outcome {
        let heard = self.dial.link.as_ref().is_some_and(|link| link.heard);
        let may_retry = !self.started && !heard && self.restore_head(cx);
        self.dial.server_failed(close, may_retry, around, cx).into()
    }

    /// Makes the request's head ready to be sent again; false when it must not be, or cannot.
    fn restore_head(&mut self, cx: &mut Cx<'_>) -> bool {
        if self.head.is_some() {
            return true;
        }
        let Some(copy) = &self.copy else { return false };
        let Some(page) = cx.pool.take() else { return false };
        let mut head = Chunk::empty(page);
        head.append(copy);
        self.head = Some(head);
        true
    }

    /// The server side's deadline passed.
    pub fn on_server_late(&mut self, around: &mut Around<'_>, cx: &mut Cx<'_>) -> Outcome {
        let times = self.times(cx).times;
        let Some(link) = &self.dial.link else {
            return if self.dial.is_queued() { Outcome::Failed(Close::QueueTimeout) } else { Outcome::Going };
        };
        if !link.is_open() {
            return self.server_failed(Close::ServerConnectTimeout, around, cx);
        }
        let (allowed, close) = match self.answer {
            Answer::Head => (times.first_byte, Close::ServerTimeout),
            _ => (times.progress, Close::ServerSlow),
        };
        let client_owes = (self.waits_for_client(around.front) && link.conn.pending() == 0)
            || (self.answer == Answer::Body && around.front.pending() > 0);
        let due = link.active + allowed;
        if due > cx.now || client_owes {
            let again = if due > cx.now { due } else { cx.now + allowed };
            around.deadlines.set(Timer::Server, again);
            return Outcome::Going;
        }
        if close == Close::ServerTimeout {
            note_failure(link.server, close, cx);
        }
        Outcome::Failed(close)
    }
}

/// How an answer's body is read from the server and written to a client of `version`.
fn reframe(framing: ResponseFraming, version: Version) -> (BodyIn, OutFraming, BodyOut) {
    let chunks = version == Version::Http11;
    match framing {
        ResponseFraming::None => (BodyIn::Done, OutFraming::None, BodyOut::Raw),
        ResponseFraming::Length(0) => (BodyIn::Done, OutFraming::Length(0), BodyOut::Raw),
        ResponseFraming::Length(length) => (BodyIn::Length(length), OutFraming::Length(length), BodyOut::Raw),
        ResponseFraming::Chunked if chunks => {
            (BodyIn::Chunked(Box::default()), OutFraming::Chunked, BodyOut::Chunked)
        }
        ResponseFraming::Chunked => (BodyIn::Chunked(Box::default()), OutFraming::UntilClose, BodyOut::Raw),
        ResponseFraming::UntilClose if chunks => (BodyIn::UntilClose, OutFraming::Chunked, BodyOut::Chunked),
        ResponseFraming::UntilClose => (BodyIn::UntilClose, OutFraming::UntilClose, BodyOut::Raw),
    }
}

/// Counts a final answer by its class.
pub fn count_status(status: u16, cx: &Cx<'_>) {
    let count = match status / 100 {
        2 => Count::Answers2xx,
        3 => Count::Answers3xx,
        4 => Count::Answers4xx,
        _ => Count::Answers5xx,
    };
    cx.counters.add(count, 1);
}
