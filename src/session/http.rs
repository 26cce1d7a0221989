//! The life of a client's HTTP/1 connection.
//!
//! ```text
//! Proxy -> Handshake -> Head -> Exchange -> Head ... -> Flush -> Linger -> Closed
//!                                   \-> Tunnel -------------------------^
//! ```
//!
//! What goes in: events. What comes out: requests understood one by one, each of them an [`Exchange`] or an answer of
//! our own, and in the end a reason from `close.rs`. It owns: the client's connection, its deadlines, and the exchange in
//! progress. Always true: answers leave in the order of the requests; a failure goes through `HttpSession::fail`.

use std::time::Duration;

use arrayvec::ArrayString;

use crate::clock::Moment;
use crate::close::Close;
use crate::config::model::Http;
use crate::counters::Count;
use crate::http::h1::head::{HeadLimits, Parse, Scratch, parse_request};
use crate::http::message::{Method, Version};
use crate::ids::HttpId;
use crate::limits::{LAST_REQUEST_TIME, LINGER_BYTES_MAX, LINGER_TIME, OUTBOX_PAGES_MAX};
use crate::net::Ends;
use crate::tls::{Pipe, TlsError};

use super::conn::Conn;
use super::dial::Around;
use super::exchange::{Exchange, Outcome};
use super::marks::Marks;
use super::record::count_handshake;
use super::request::{Begun, address_text};
use super::tcp::{Pace, take_proxy_header, tunnel};
use super::timers::{Deadlines, Timer};
use super::{Cx, Event, Leg};
use crate::buf::Chain;

/// Where the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// A PROXY protocol header must come.
    Proxy,
    /// A TLS handshake is in progress.
    Handshake,
    /// Between requests, or a head is incomplete.
    Head,
    /// A request is being answered by a server.
    Exchange,
    /// Bytes flow freely (after 101).
    Tunnel,
    /// The last answer is leaving.
    Flush,
    /// The last answer left; what still comes is dropped until the client closes.
    Linger,
    /// The client's leg is closed.
    Closed,
}

/// A client's connection.
#[derive(Debug)]
pub struct HttpSession {
    pub(super) site: HttpId,
    pub(super) ends: Ends,
    /// The client's address as text, for the forwarded fields.
    pub(super) client: ArrayString<46>,
    pub(super) front: Conn,
    pub(super) phase: Phase,
    pub(super) deadlines: Deadlines,
    pub(super) exchange: Option<Box<Exchange>>,
    next_leg: u32,
    pub(super) requests: u64,
    /// Bytes that passed on the client's connection, both ways, and what it was when progress was last judged.
    pub(super) moved: u64,
    pub(super) judged: u64,
    pub(super) lingered: u64,
    /// The connection ends after the exchange in progress.
    pub(super) closing: bool,
    /// The client announced the end itself and owes nothing: no lingering.
    pub(super) client_ends: bool,
    /// The end of the connection ends the answer that is leaving: cut, it would look complete.
    pub(super) until_close: bool,
    /// A part of a head came.
    pub(super) head_begun: bool,
    /// When that was.
    pub(super) head_since: Moment,
    /// Bytes of a request may follow that nobody is going to read.
    pub(super) owing: bool,
    pub(super) method: Method,
    pub(super) version: Version,
    /// The part of the log's line that is known of the request at hand.
    pub(super) line: Vec<u8>,
    /// Of the request at hand; `None` where nothing is marked.
    pub(super) marks: Option<Box<Marks>>,
}

impl HttpSession {
    /// The session of a connection that was just accepted.
    pub fn new(site: HttpId, ends: Ends, refuse: Option<Close>, cx: &mut Cx<'_>) -> Self {
        let mut session = Self {
            client: address_text(&ends),
            ends,
            front: Conn::plain(),
            phase: Phase::Head,
            deadlines: Deadlines::default(),
            exchange: None,
            next_leg: 0,
            requests: 0,
            moved: 0,
            judged: 0,
            lingered: 0,
            closing: false,
            client_ends: false,
            until_close: false,
            head_begun: false,
            head_since: Moment::NEVER,
            owing: true,
            method: Method::Get,
            version: Version::Http11,
            line: Vec::new(),
            marks: None,
            site,
        };
        let site = session.site(cx);
        if site.accept_proxy.is_some() {
            session.phase = Phase::Proxy;
            session.deadlines.set(Timer::Client, cx.now + site.times.handshake);
        } else {
            session.begin(cx);
        }
        if let Some(close) = refuse {
            session.refuse(close, cx);
        }
        session
    }

    pub(super) fn site<'a>(&self, cx: &Cx<'a>) -> &'a Http {
        let config = cx.config;
        &config.http[self.site.index()]
    }

    /// Tells what happened.
    pub fn on(&mut self, event: Event, cx: &mut Cx<'_>) {
        match event {
            Event::Received(Leg::Front, chain) => self.on_client_bytes(chain, cx),
            Event::Eof(Leg::Front) => self.front.ended(),
            Event::Sent(Leg::Front, chain, bytes) => {
                cx.counters.add(Count::BytesOut, bytes as u64);
                self.moved += bytes as u64;
                self.count_tunnel(0, bytes as u64);
                self.front.sent(chain, bytes, cx.pool);
                if self.phase == Phase::Head && self.requests > 0 && !self.head_begun {
                    // Unused since the answer left, not since it was queued.
                    self.deadlines.set(Timer::Client, cx.now + self.idle_time(cx));
                }
                self.touch_tunnel(cx);
            }
            Event::Failed(Leg::Front, _) => self.client_lost(cx),
            Event::SendFailed(Leg::Front, errno) => {
                self.front.deafen(errno, cx.pool);
                self.client_lost(cx);
            }
            Event::Tick => self.on_tick(cx),
            Event::Drain => self.on_drain(cx),
            Event::Kill => self.end(Close::Drained, cx),
            Event::Turn => {
                self.with_exchange(cx, |exchange, around, cx| {
                    let waits = exchange.dial.link.is_none();
                    if waits { exchange.dial.choose(true, around, cx).into() } else { Outcome::Going }
                });
            }
            back => self.on_server(back, cx),
        }
        self.run(cx);
    }

    /// Asks what bytes should flow.
    pub fn pump(&mut self, cx: &mut Cx<'_>) {
        if self.phase == Phase::Closed {
            return;
        }
        // Who only sends, and does not read its last answer, is not read any more.
        let listen = self.phase != Phase::Flush || self.lingered <= LINGER_BYTES_MAX;
        self.front.pump(Leg::Front, listen, cx);
        if self.front.is_deaf() {
            // Sealing failed.
            self.client_lost(cx);
            return;
        }
        if self.phase == Phase::Flush && self.front.is_shut() {
            self.phase = Phase::Linger;
            self.deadlines.set(Timer::Client, cx.now + LINGER_TIME);
        }
        if self.phase == Phase::Flush && self.client_ends && self.front.is_finished() {
            // There was no goodbye to be said: nothing will happen that would end it later.
            self.close(cx);
            return;
        }
        if let Some(exchange) = &mut self.exchange
            && let Some(link) = &mut exchange.dial.link
            && !link.is_connecting()
        {
            link.conn.pump(link.leg, true, cx);
        }
        self.watch_progress(cx);
    }

    /// The earliest moment at which a tick is useful.
    pub fn deadline(&self) -> Moment {
        self.deadlines.earliest()
    }

    /// True when every leg is closed.
    pub const fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Pages held.
    pub fn pages(&self) -> usize {
        self.front.pages() + self.exchange.as_ref().map_or(0, |exchange| exchange.pages())
    }

    /// Goes on with TLS or with the first head.
    fn begin(&mut self, cx: &mut Cx<'_>) {
        let site = self.site(cx);
        let Some(tls) = &site.tls else {
            self.phase = Phase::Head;
            self.deadlines.set(Timer::Client, cx.now + site.times.head);
            return;
        };
        self.phase = Phase::Handshake;
        self.deadlines.set(Timer::Client, cx.now + site.times.handshake);
        if let Err(error) = Pipe::accept(tls).and_then(|pipe| self.front.secure(pipe, cx.pool)) {
            self.on_tls_error(&error, cx);
        }
    }

    /// Ends a connection that is one too many: an answer in plain HTTP, nothing within TLS (a handshake costs more than
    /// the connection that is refused).
    fn refuse(&mut self, close: Close, cx: &mut Cx<'_>) {
        if self.phase == Phase::Head {
            self.fail(close, cx);
        } else {
            self.end(close, cx);
        }
    }

    fn on_client_bytes(&mut self, chain: Chain, cx: &mut Cx<'_>) {
        let bytes = chain.len() as u64;
        cx.counters.add(Count::BytesIn, bytes);
        // What comes after the last request is dropped: it is no progress with reading the answer.
        if !matches!(self.phase, Phase::Flush | Phase::Linger) {
            self.moved += bytes;
        }
        self.count_tunnel(bytes, 0);
        if let Err(error) = self.front.received(chain, cx.pool) {
            self.on_tls_error(&error, cx);
        }
        self.touch_tunnel(cx);
    }

    fn touch_tunnel(&mut self, cx: &Cx<'_>) {
        if self.phase == Phase::Tunnel {
            self.deadlines.set(Timer::Client, cx.now + self.site(cx).times.tunnel);
        }
    }

    fn on_tls_error(&mut self, error: &TlsError, cx: &mut Cx<'_>) {
        if self.phase == Phase::Handshake && matches!(error, TlsError::NotTls) {
            self.front.unsecure(cx.pool);
            self.phase = Phase::Head;
            self.fail(Close::PlainOnTls, cx);
            return;
        }
        let close = if self.phase == Phase::Handshake { Close::TlsHandshake } else { Close::TlsBroken };
        cx.counters.close(close);
        self.note_cut(close, cx);
        self.drop_exchange(close, cx);
        // An alert may be waiting: it leaves, then the connection ends.
        self.front.inbox.clear(cx.pool);
        self.flush(false);
    }

    fn on_server(&mut self, event: Event, cx: &mut Cx<'_>) {
        let link = self.exchange.as_ref().and_then(|exchange| exchange.dial.link.as_ref());
        if event.leg() != link.map(|link| link.leg) {
            debug_assert!(false, "an event for a leg that this session gave up: {event:?}");
            event.discard(cx.pool);
            return;
        }
        self.touch_tunnel(cx);
        self.with_exchange(cx, |exchange, around, cx| exchange.on_server(event, around, cx));
    }

    /// Runs `act` on the exchange in progress and obeys its outcome.
    pub(super) fn with_exchange(
        &mut self,
        cx: &mut Cx<'_>,
        act: impl FnOnce(&mut Exchange, &mut Around<'_>, &mut Cx<'_>) -> Outcome,
    ) -> Outcome {
        let Some(mut exchange) = self.exchange.take() else { return Outcome::Going };
        let mut around = Around {
            ends: self.ends,
            front: &mut self.front,
            deadlines: &mut self.deadlines,
            next_leg: &mut self.next_leg,
            marks: self.marks.as_deref_mut(),
        };
        let outcome = act(&mut exchange, &mut around, cx);
        self.closing = exchange.closing;
        self.owing = !exchange.body.is_done();
        self.until_close = exchange.until_close;
        self.exchange = Some(exchange);
        match outcome {
            Outcome::Going => {}
            Outcome::Complete => {
                self.note_exchange(Close::Done, None, cx);
                self.next_request(cx);
            }
            Outcome::AnsweredEarly => {
                self.drop_exchange(Close::Done, cx);
                self.flush(true);
            }
            Outcome::Switched => {
                self.phase = Phase::Tunnel;
                self.deadlines = Deadlines::default();
                self.deadlines.set(Timer::Client, cx.now + self.site(cx).times.tunnel);
            }
            Outcome::Failed(close) => self.fail(close, cx),
        }
        outcome
    }

    /// Goes through the phases as far as the bytes at hand allow.
    fn run(&mut self, cx: &mut Cx<'_>) {
        loop {
            let before = self.phase;
            let again = match self.phase {
                Phase::Proxy => self.run_proxy(cx),
                Phase::Handshake => self.run_handshake(cx),
                Phase::Head => self.run_head(cx),
                Phase::Exchange => {
                    self.with_exchange(cx, |exchange, around, cx| exchange.step(around, cx));
                    self.phase != Phase::Exchange
                }
                Phase::Tunnel => self.run_tunnel(cx),
                Phase::Flush => self.run_flush(cx),
                Phase::Linger => self.run_linger(cx),
                Phase::Closed => false,
            };
            if !again && self.phase == before {
                break;
            }
        }
    }

    fn run_proxy(&mut self, cx: &mut Cx<'_>) -> bool {
        let networks = self.site(cx).accept_proxy.as_deref().unwrap_or_default();
        match take_proxy_header(&mut self.front, networks, &mut self.ends, cx) {
            None => false,
            Some(Ok(())) => {
                self.client = address_text(&self.ends);
                self.begin(cx);
                true
            }
            Some(Err(close)) => {
                self.end(close, cx);
                false
            }
        }
    }

    fn run_handshake(&mut self, cx: &mut Cx<'_>) -> bool {
        if self.front.is_handshaking() {
            if self.front.is_eof() {
                self.end(Close::TlsHandshake, cx);
            }
            return false;
        }
        count_handshake(&self.front, cx);
        self.phase = Phase::Head;
        self.deadlines.set(Timer::Client, cx.now + self.site(cx).times.head);
        true
    }

    /// Understands one head and begins to answer it.
    fn run_head(&mut self, cx: &mut Cx<'_>) -> bool {
        // A client that only asks must not fill the memory: answers leave before the next request is understood.
        let full = self.front.pending() >= cx.window() || self.front.pending_pages() >= OUTBOX_PAGES_MAX;
        if full && !self.front.inbox.is_empty() {
            return false;
        }
        if cx.behind && !self.front.inbox.is_empty() {
            return false;
        }
        let Some(mut chunk) = self.front.inbox.pop() else {
            return self.front.is_eof() && self.leave(cx);
        };
        let bounds = &self.site(cx).limits;
        let limits = HeadLimits {
            head_bytes_max: bounds.head_bytes_max,
            fields_max: bounds.fields_max,
            target_bytes_max: bounds.target_bytes_max,
        };
        let (used, begun) = {
            let mut scratch = Scratch::new();
            match parse_request(chunk.bytes(), &limits, &mut scratch) {
                Parse::Done(request) => (request.head_bytes, self.begin_request(&request, cx)),
                Parse::NeedMore => (0, Begun::NeedMore),
                Parse::Bad(bad, _) => {
                    // Nothing is known of it: not even what the request before it was.
                    (self.owing, self.method) = (true, Method::Get);
                    (0, Begun::Failed(bad.close()))
                }
            }
        };
        if !matches!(begun, Begun::Starved) {
            chunk.advance(used);
            cx.counters.add(Count::Requests, u64::from(used > 0));
        }
        self.front.inbox.push_front(chunk, cx.pool);
        self.head_begun &= used == 0;
        match begun {
            Begun::NeedMore => self.more_head(cx),
            Begun::Starved => {
                self.requests -= 1;
                cx.starved = true;
                false
            }
            Begun::Failed(close) => {
                self.fail(close, cx);
                true
            }
            Begun::Answered => true,
            Begun::Exchange(exchange) => {
                self.exchange = Some(exchange);
                self.phase = Phase::Exchange;
                self.deadlines.clear(Timer::Client);
                self.with_exchange(cx, |exchange, around, cx| exchange.dial.choose(false, around, cx).into());
                true
            }
        }
    }

    /// A head is incomplete.
    fn more_head(&mut self, cx: &mut Cx<'_>) -> bool {
        if self.front.inbox.join_front(cx.pool) {
            return true;
        }
        if !self.head_begun {
            self.head_begun = true;
            self.head_since = cx.now;
            self.deadlines.set(Timer::Client, cx.now + self.site(cx).times.head);
        }
        self.front.is_eof() && self.leave(cx)
    }

    /// Waits for the next request.
    pub(super) fn rest(&mut self, cx: &Cx<'_>) {
        self.front.rest();
        self.unmark();
        self.phase = Phase::Head;
        // What was asked before does not decide how a head that is none is answered.
        (self.method, self.version) = (Method::Get, Version::Http11);
        self.deadlines.set(Timer::Client, cx.now + self.idle_time(cx));
    }

    /// For how long the connection may be unused.
    pub(super) fn idle_time(&self, cx: &Cx<'_>) -> Duration {
        let idle = self.site(cx).times.idle;
        if cx.draining { idle.min(LAST_REQUEST_TIME) } else { idle }
    }

    fn next_request(&mut self, cx: &mut Cx<'_>) {
        self.exchange = None;
        // A client that was not told that this was the last answer may have sent its next request already.
        if self.closing {
            self.flush(!self.client_ends);
        } else {
            self.rest(cx);
        }
    }

    fn run_tunnel(&mut self, cx: &mut Cx<'_>) -> bool {
        let Some(exchange) = &mut self.exchange else { return false };
        let Some(link) = &mut exchange.dial.link else { return false };
        let pace = tunnel(&mut self.front, &mut link.conn, cx);
        if link.conn.is_broken() && link.conn.inbox.is_empty() {
            self.end(Close::ServerTruncated, cx);
        } else if pace == Pace::Done {
            self.end(Close::TunnelDone, cx);
        }
        false
    }
}
