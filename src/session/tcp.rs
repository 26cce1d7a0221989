//! A relay of bytes between a client and a server: `[tcp.NAME]` blocks, and HTTP connections that were upgraded.
//!
//! What goes in: events. What comes out: the bytes of each side on the other, its end too. It owns: both connections.
//! Always true: bytes are neither looked at nor held back longer than the other side's window asks for.

use crate::access::{Access, Block, Split, Steps};
use crate::clock::Moment;
use crate::close::Close;
use crate::config::model::{Tcp, contains};
use crate::counters::Count;
use crate::ids::TcpId;
use crate::limits::OUTBOX_PAGES_MAX;
use crate::net::Ends;
use crate::proxyproto;
use crate::tls::Pipe;

use super::conn::{Conn, push_or_copy};
use super::dial::{Around, Dial, note_success};
use super::line;
use super::moves::{Followed, Moves};
use super::record::{count_handshake, tls_of};
use super::timers::{Deadlines, Timer};
use super::{About, Cx, Event, Leg, Op, Reuse};

/// Where a tunnel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Both sides may still send.
    Going,
    /// Both sides ended and everything arrived.
    Done,
}

/// Moves what can be moved between two connections, in both directions, the ends too.
pub fn tunnel(front: &mut Conn, back: &mut Conn, cx: &mut Cx<'_>) -> Pace {
    pour(front, back, cx);
    pour(back, front, cx);
    let done = |conn: &Conn| conn.is_eof() && conn.inbox.is_empty();
    // What one side still sends is for nobody when the other has ended and takes nothing any more.
    let dead = |conn: &Conn| done(conn) && conn.is_deaf();
    let over = (done(front) || dead(back)) && (done(back) || dead(front));
    if over && front.is_finished() && back.is_finished() { Pace::Done } else { Pace::Going }
}

fn pour(from: &mut Conn, to: &mut Conn, cx: &mut Cx<'_>) {
    let window = cx.window();
    if to.is_deaf() {
        from.inbox.clear(cx.pool);
    }
    while to.pending() < window && to.pending_pages() < OUTBOX_PAGES_MAX {
        let Some(chunk) = from.inbox.pop() else { break };
        push_or_copy(&mut to.outbox, chunk, cx.pool);
    }
    if from.is_eof() && from.inbox.is_empty() {
        to.shut_when_flushed();
    }
}

/// Reads a PROXY protocol header from the front of a connection.
pub fn take_proxy_header(
    front: &mut Conn,
    networks: &[ipnet::IpNet],
    ends: &mut Ends,
    cx: &mut Cx<'_>,
) -> Option<Result<(), Close>> {
    let trusted = ends.client.is_none_or(|client| contains(networks, client.ip()));
    if !trusted {
        return Some(Err(Close::ProxyHeader));
    }
    loop {
        let Some(mut chunk) = front.inbox.pop() else {
            return front.is_eof().then_some(Err(Close::ProxyHeader));
        };
        let parsed = proxyproto::parse(chunk.bytes());
        if let proxyproto::Parse::Done(_, used) = parsed {
            chunk.advance(used);
        }
        front.inbox.push_front(chunk, cx.pool);
        match parsed {
            proxyproto::Parse::Done(header, _) => {
                // Without addresses (UNKNOWN, LOCAL) those of the connection itself count.
                if !header.local && header.source.is_some() {
                    *ends = Ends { client: header.source, local: header.destination };
                }
                return Some(Ok(()));
            }
            proxyproto::Parse::NeedMore => {
                if !front.inbox.join_front(cx.pool) {
                    return front.is_eof().then_some(Err(Close::ProxyHeader));
                }
            }
            proxyproto::Parse::Bad(..) => return Some(Err(Close::ProxyHeader)),
        }
    }
}

/// Where the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A PROXY protocol header must come.
    Proxy,
    /// A TLS handshake is in progress.
    Handshake,
    /// A server is being connected, or bytes flow.
    Relay,
    /// The client's leg is closed.
    Closed,
}

/// A client's connection.
#[derive(Debug)]
pub struct TcpSession {
    site: TcpId,
    ends: Ends,
    front: Conn,
    dial: Option<Dial>,
    phase: Phase,
    deadlines: Deadlines,
    next_leg: u32,
    since: Moment,
    bytes_in: u64,
    bytes_out: u64,
}

impl TcpSession {
    /// The session of a connection that was just accepted.
    pub fn new(site: TcpId, ends: Ends, refuse: Option<Close>, cx: &mut Cx<'_>) -> Self {
        let mut session = Self {
            site,
            ends,
            front: Conn::plain(),
            dial: None,
            phase: Phase::Proxy,
            deadlines: Deadlines::default(),
            next_leg: 0,
            since: cx.now,
            bytes_in: 0,
            bytes_out: 0,
        };
        let times = session.site(cx);
        session.deadlines.set(Timer::Client, cx.now + times.handshake);
        if let Some(close) = refuse {
            session.end(close, cx);
        } else if times.accept_proxy.is_none() {
            session.begin(cx);
            session.run(cx);
        }
        session
    }

    fn site<'a>(&self, cx: &Cx<'a>) -> &'a Tcp {
        let config = cx.config;
        &config.tcp[self.site.index()]
    }

    /// See [`Session::about`](super::Session::about).
    pub fn about(&self) -> About {
        let phase = match self.phase {
            Phase::Proxy => "proxy_header",
            Phase::Handshake => "tls_handshake",
            Phase::Relay => "tunnel",
            Phase::Closed => "closing",
        };
        About {
            kind: "tcp",
            phase,
            client: self.ends.client,
            requests: 0,
            pool: self.dial.as_ref().map(|dial| dial.pool),
            server: self.dial.as_ref().and_then(|dial| dial.link.as_ref()).map(|link| link.server),
        }
    }

    /// See [`Session::follow`](super::Session::follow).
    pub fn follow(&mut self, moves: &Moves) -> Followed {
        let Some(site) = moves.tcp(self.site) else { return Followed::Never };
        if let Some(dial) = &mut self.dial
            && !dial.follow(moves)
        {
            return Followed::Never;
        }
        self.site = site;
        Followed::Yes
    }

    /// Tells what happened.
    pub fn on(&mut self, event: Event, cx: &mut Cx<'_>) {
        if self.phase == Phase::Relay && event.leg().is_some() {
            self.deadlines.set(Timer::Client, cx.now + self.site(cx).idle);
        }
        match event {
            Event::Received(Leg::Front, chain) => {
                cx.counters.add(Count::BytesIn, chain.len() as u64);
                self.bytes_in += chain.len() as u64;
                if self.front.received(chain, cx.pool).is_err() {
                    if self.phase == Phase::Relay {
                        self.reset(Close::TlsBroken, cx);
                    } else {
                        self.end(Close::TlsHandshake, cx);
                    }
                }
            }
            Event::Eof(Leg::Front) => self.front.ended(),
            Event::Sent(Leg::Front, chain, bytes) => {
                cx.counters.add(Count::BytesOut, bytes as u64);
                self.bytes_out += bytes as u64;
                self.front.sent(chain, bytes, cx.pool);
            }
            Event::Failed(Leg::Front, errno) | Event::SendFailed(Leg::Front, errno) => {
                self.front.deafen(errno, cx.pool);
                self.reset(Close::ClientReset, cx);
            }
            Event::Tick => self.on_tick(cx),
            Event::Turn => {
                self.with_dial(
                    cx,
                    |dial, around, cx| {
                        if dial.link.is_none() { dial.choose(true, around, cx) } else { Ok(()) }
                    },
                )
            }
            Event::Drain => {}
            Event::Kill => self.end(Close::Drained, cx),
            back => self.on_server(back, cx),
        }
        self.run(cx);
    }

    fn on_server(&mut self, event: Event, cx: &mut Cx<'_>) {
        let current = self.dial.as_ref().and_then(|dial| dial.link.as_ref()).map(|link| link.leg);
        if event.leg() != current {
            debug_assert!(false, "an event for a leg that this session gave up: {event:?}");
            event.discard(cx.pool);
            return;
        }
        self.with_dial(cx, |dial, around, cx| match dial.on(event, around, cx) {
            Ok(()) => Ok(()),
            Err(Close::ServerTruncated) => Err(Close::ServerTruncated),
            Err(close) => dial.server_failed(close, true, around, cx),
        });
    }

    /// Asks what bytes should flow.
    pub fn pump(&mut self, cx: &mut Cx<'_>) {
        if self.phase == Phase::Closed {
            return;
        }
        self.front.pump(Leg::Front, true, cx);
        if let Some(dial) = &mut self.dial
            && let Some(link) = &mut dial.link
            && !link.is_connecting()
        {
            link.conn.pump(link.leg, true, cx);
        }
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
        let link = self.dial.as_ref().and_then(|dial| dial.link.as_ref());
        self.front.pages() + link.map_or(0, |link| link.conn.pages())
    }

    /// Goes on with TLS or with the server.
    fn begin(&mut self, cx: &mut Cx<'_>) {
        let site = self.site(cx);
        if let Some(tls) = &site.tls {
            self.phase = Phase::Handshake;
            if Pipe::accept(tls).and_then(|pipe| self.front.secure(pipe, cx.pool)).is_err() {
                self.end(Close::TlsHandshake, cx);
            }
            return;
        }
        self.dial(cx);
    }

    fn dial(&mut self, cx: &mut Cx<'_>) {
        let site = self.site(cx);
        self.phase = Phase::Relay;
        self.deadlines.set(Timer::Client, cx.now + site.idle);
        self.dial = Some(Dial::new(site.pool, Reuse::Never));
        self.with_dial(cx, |dial, around, cx| dial.choose(false, around, cx));
    }

    fn with_dial(
        &mut self,
        cx: &mut Cx<'_>,
        act: impl FnOnce(&mut Dial, &mut Around<'_>, &mut Cx<'_>) -> Result<(), Close>,
    ) {
        let Some(mut dial) = self.dial.take() else { return };
        let mut around = Around {
            ends: self.ends,
            front: &mut self.front,
            deadlines: &mut self.deadlines,
            next_leg: &mut self.next_leg,
            marks: None,
        };
        let result = act(&mut dial, &mut around, cx);
        self.dial = Some(dial);
        match result {
            Ok(()) => {}
            Err(Close::ServerTruncated) => self.reset(Close::ServerTruncated, cx),
            Err(close) => self.end(close, cx),
        }
    }

    fn run(&mut self, cx: &mut Cx<'_>) {
        if self.phase == Phase::Proxy {
            let networks = self.site(cx).accept_proxy.as_deref().unwrap_or_default();
            match take_proxy_header(&mut self.front, networks, &mut self.ends, cx) {
                None => return,
                Some(Ok(())) => self.begin(cx),
                Some(Err(close)) => self.end(close, cx),
            }
        }
        if self.phase == Phase::Handshake {
            if !self.front.is_handshaking() {
                count_handshake(&self.front, cx);
                self.dial(cx);
            } else if self.front.is_eof() {
                self.end(Close::TlsHandshake, cx);
            }
        }
        if self.phase == Phase::Relay {
            self.run_relay(cx);
        }
    }

    fn run_relay(&mut self, cx: &mut Cx<'_>) {
        let Some(dial) = &mut self.dial else { return };
        let Some(link) = &mut dial.link else { return };
        link.settle();
        if !link.is_open() {
            if link.conn.is_eof() {
                self.with_dial(cx, |dial, around, cx| dial.server_failed(Close::ServerTls, true, around, cx));
            }
            return;
        }
        if self.deadlines.is_set(Timer::Server) {
            self.deadlines.clear(Timer::Server);
            note_success(link, dial.pool, cx);
        }
        let pace = tunnel(&mut self.front, &mut link.conn, cx);
        if link.conn.is_broken() && link.conn.inbox.is_empty() {
            self.reset(Close::ServerTruncated, cx);
        } else if pace == Pace::Done {
            self.end(Close::TunnelDone, cx);
        }
    }

    fn on_tick(&mut self, cx: &mut Cx<'_>) {
        if self.deadlines.take_due(Timer::Client, cx.now) {
            let close = if self.phase == Phase::Relay { Close::TunnelTimeout } else { Close::TlsTimeout };
            self.end(close, cx);
        }
        if self.deadlines.take_due(Timer::Server, cx.now) {
            self.with_dial(cx, |dial, around, cx| {
                if dial.link.is_some() {
                    dial.server_failed(Close::ServerConnectTimeout, true, around, cx)
                } else {
                    Err(Close::QueueTimeout)
                }
            });
        }
    }

    /// Writes the record of the connection down.
    fn note(&self, close: Close, cx: &mut Cx<'_>) {
        let dial = self.dial.as_ref();
        let moment = |of: fn(&Dial) -> Moment| dial.map_or(Moment::NEVER, of);
        let steps = Steps {
            picked: moment(|dial| dial.picked),
            connected: moment(|dial| dial.connected),
            ended: cx.now,
            ..Steps::new(self.since)
        };
        let last = dial.and_then(|dial| dial.last);
        cx.accesses.push(Access {
            block: Block::Tcp(self.site),
            route: None,
            pool: dial.map(|dial| dial.pool),
            server: last.map(|(server, _)| server),
            status: 0,
            close,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            steps,
            retries: dial.map_or(0, Dial::retries),
            reused: false,
            tls: tls_of(&self.front),
            split: Split::default(),
            line: line::of_client(&self.ends, &self.front, cx),
        });
    }

    fn release(&mut self, close: Close, broken: bool, cx: &mut Cx<'_>) -> bool {
        if self.phase == Phase::Closed {
            return false;
        }
        cx.counters.close(close);
        self.note(close, cx);
        if let Some(mut dial) = self.dial.take() {
            if broken {
                dial.cut(cx);
            }
            dial.abandon(cx);
        }
        self.front.clear(cx.pool);
        self.phase = Phase::Closed;
        self.deadlines = Deadlines::default();
        true
    }

    fn end(&mut self, close: Close, cx: &mut Cx<'_>) {
        if self.release(close, false, cx) {
            cx.ops.push(Op::Close(Leg::Front));
        }
    }

    /// A broken side is shown to the other as broken.
    fn reset(&mut self, close: Close, cx: &mut Cx<'_>) {
        if self.release(close, true, cx) {
            cx.ops.push(Op::Reset(Leg::Front));
        }
    }
}
