//! The way to a server: picking one, waiting for a place, connecting, trying another.
//!
//! What goes in: what happens to the server's connection. What comes out: a [`Link`] that is open, or a reason why there
//! is none. It owns: the connection, the place (claim) at the server, and the list of servers that were tried. Always
//! true: a claim is given back exactly once, with the connection or before it.

use std::net::IpAddr;

use arrayvec::ArrayVec;

use crate::balance::{Claim, Ejection, Evidence, Key, Pick, Waiter};
use crate::clock::Moment;
use crate::close::Close;
use crate::config::model::Pool as ServerPool;
use crate::counters::Count;
use crate::ids::{PoolId, ServerId};
use crate::limits::ATTEMPTS_MAX;
use crate::net::{Ends, Errno};
use crate::proxyproto;
use crate::tls::{Pipe, TlsError};

use super::conn::Conn;
use super::marks::Marks;
use super::moves::Moves;
use super::timers::{Deadlines, Timer};
use super::{Cx, Event, Leg, Op, Reuse};

/// Where the server's connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connecting,
    Handshake,
    Open,
}

/// A server connection in use.
#[derive(Debug)]
pub struct Link {
    /// Its leg.
    pub leg: Leg,
    /// Its server.
    pub server: ServerId,
    /// Its bytes.
    pub conn: Box<Conn>,
    claim: Claim,
    stage: Stage,
    /// It was kept from an earlier request.
    pub reused: bool,
    /// Bytes were sent to it for this session.
    asked: bool,
    /// A byte of an answer came.
    pub heard: bool,
    /// When a byte last passed in either direction.
    pub active: Moment,
}

impl Link {
    /// True once bytes may flow.
    pub fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// True until the connection stands: there is nothing to receive yet.
    pub fn is_connecting(&self) -> bool {
        self.stage == Stage::Connecting
    }

    /// Notices the end of the TLS handshake.
    pub fn settle(&mut self) {
        if self.stage == Stage::Handshake && !self.conn.is_handshaking() {
            self.stage = Stage::Open;
        }
    }
}

/// What a session lends to a dial or an exchange.
#[derive(Debug)]
pub struct Around<'a> {
    /// The client's ends.
    pub ends: Ends,
    /// The client's connection.
    pub front: &'a mut Conn,
    /// The session's deadlines.
    pub deadlines: &'a mut Deadlines,
    /// The number of the next server leg.
    pub next_leg: &'a mut u32,
    /// The marks of the request, if it has some.
    pub marks: Option<&'a mut Marks>,
}

/// The way to a server of one pool.
#[derive(Debug)]
pub struct Dial {
    /// The pool.
    pub pool: PoolId,
    /// The server connection.
    pub link: Option<Link>,
    /// Which kept connections will do.
    pub reuse: Reuse,
    attempts: u32,
    tried: ArrayVec<ServerId, ATTEMPTS_MAX>,
    last_failure: Option<Close>,
    queued: bool,
    /// When a server was picked for the last attempt.
    pub picked: Moment,
    /// When the connection to it stood.
    pub connected: Moment,
    /// The server of the last attempt, and whether its connection was kept from an earlier exchange.
    pub last: Option<(ServerId, bool)>,
}

impl Dial {
    /// A way that was not begun.
    pub const fn new(pool: PoolId, reuse: Reuse) -> Self {
        Self {
            pool,
            link: None,
            reuse,
            attempts: 0,
            tried: ArrayVec::new_const(),
            last_failure: None,
            queued: false,
            picked: Moment::NEVER,
            connected: Moment::NEVER,
            last: None,
        }
    }

    /// Goes over to the next configuration. False, and nothing changed, when its pool or server has no successor.
    pub fn follow(&mut self, moves: &Moves) -> bool {
        let Some(pool) = moves.pool(self.pool) else { return false };
        if let Some(link) = &mut self.link {
            let Some(server) = moves.server(link.server) else { return false };
            link.server = server;
            link.claim.moved_to(server);
        }
        self.pool = pool;
        self.last = self.last.and_then(|(server, reused)| Some((moves.server(server)?, reused)));
        self.tried = self.tried.iter().filter_map(|server| moves.server(*server)).collect();
        true
    }

    /// Servers that were picked.
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Attempts after the first.
    pub const fn retries(&self) -> u32 {
        self.attempts.saturating_sub(1)
    }

    /// True while it waits for a place at a full server.
    pub const fn is_queued(&self) -> bool {
        self.queued
    }

    /// Picks a server and asks for a connection, or waits for a place. `turn` is true for one that waited; nothing happens
    /// when its turn has not come.
    pub fn choose(&mut self, turn: bool, around: &mut Around<'_>, cx: &mut Cx<'_>) -> Result<(), Close> {
        if turn && cx.balancer.waits(self.pool, Waiter { worker: cx.worker, session: cx.me }) {
            return Ok(());
        }
        let client: Option<IpAddr> = around.ends.client.map(|client| client.ip());
        let key = Key { client, tried: &self.tried, now: cx.now, chance: cx.chance, turn };
        let pool = &cx.config.pools[self.pool.index()];
        if self.attempts == 0 && !turn {
            cx.balancer.note_request(self.pool, cx.now);
        }
        match cx.balancer.pick(self.pool, &key) {
            Pick::Server(claim) => {
                self.queued = false;
                self.connect(claim, pool, around, cx);
                Ok(())
            }
            Pick::Full => self.wait(turn, pool, around, cx),
            Pick::None => Err(self.last_failure.unwrap_or(Close::NoServer)),
        }
    }

    fn connect(&mut self, claim: Claim, pool: &ServerPool, around: &mut Around<'_>, cx: &mut Cx<'_>) {
        let leg = Leg::Back(*around.next_leg);
        *around.next_leg += 1;
        self.attempts += 1;
        let server = claim.server;
        (self.picked, self.connected, self.last) = (cx.now, Moment::NEVER, Some((server, false)));
        if !self.tried.contains(&server) {
            let _ = self.tried.try_push(server);
        }
        let reusable = pool.keep_alive && pool.send_proxy.is_none();
        let reuse = if reusable { self.reuse } else { Reuse::Never };
        cx.ops.push(Op::Connect(leg, server, reuse));
        around.deadlines.set(Timer::Server, cx.now + pool.times.connect);
        self.link = Some(Link {
            leg,
            server,
            conn: Box::default(),
            claim,
            stage: Stage::Connecting,
            reused: false,
            asked: false,
            heard: false,
            active: cx.now,
        });
    }

    fn wait(
        &mut self,
        turn: bool,
        pool: &ServerPool,
        around: &mut Around<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Close> {
        let waiter = Waiter { worker: cx.worker, session: cx.me };
        if turn && self.queued {
            wake(cx.balancer.requeue_front(self.pool, waiter, cx.now), cx);
            return Ok(());
        }
        let next = cx.balancer.enqueue(self.pool, waiter, cx.now).map_err(|_| Close::QueueFull)?;
        wake(next, cx);
        self.queued = true;
        cx.counters.add(Count::Queued, 1);
        around.deadlines.set(Timer::Server, cx.now + pool.times.queue);
        Ok(())
    }

    /// Something happened on the server's connection. `Err(ServerTruncated)`: it broke; other reasons: it never stood.
    pub fn on(&mut self, event: Event, around: &mut Around<'_>, cx: &mut Cx<'_>) -> Result<(), Close> {
        let Some(link) = &mut self.link else { return Ok(()) };
        link.active = cx.now;
        match event {
            Event::Connected(_) => return self.on_connected(around, cx),
            Event::Adopted(_, kept) => {
                cx.counters.add(Count::ServerReused, 1);
                link.conn = kept.conn;
                link.stage = Stage::Open;
                link.reused = true;
                self.connected = cx.now;
                self.last = Some((link.server, true));
            }
            Event::Refused(_, errno) => return Err(refusal(errno)),
            Event::Received(_, chain) => {
                let broken =
                    if link.stage == Stage::Handshake { Close::ServerTls } else { Close::ServerTruncated };
                link.conn.received(chain, cx.pool).map_err(|error| tls_close(&error, broken))?;
                if link.reused && !link.asked && !link.conn.inbox.is_empty() {
                    // It answers before it was asked: what it says is not for this request.
                    return Err(Close::ServerTruncated);
                }
            }
            Event::Eof(_) => link.conn.ended(),
            Event::Sent(_, chain, bytes) => {
                link.asked = true;
                link.conn.sent(chain, bytes, cx.pool);
            }
            Event::SendFailed(_, errno) => link.conn.deafen(errno, cx.pool),
            Event::Failed(..) if link.stage == Stage::Open => return Err(Close::ServerTruncated),
            Event::Failed(..) => return Err(Close::ServerTls),
            Event::Tick | Event::Turn | Event::Drain | Event::Kill => {}
        }
        Ok(())
    }

    fn on_connected(&mut self, around: &mut Around<'_>, cx: &mut Cx<'_>) -> Result<(), Close> {
        let Some(link) = &mut self.link else { return Ok(()) };
        cx.counters.add(Count::ServerConnects, 1);
        self.connected = cx.now;
        let pool = &cx.config.pools[self.pool.index()];
        link.stage = Stage::Open;
        if let Some(version) = pool.send_proxy {
            let header = proxyproto::write(version, around.ends.client, around.ends.local);
            if !link.conn.outbox.append(&header, cx.pool) {
                return Err(Close::NoMemory);
            }
        }
        if let Some(tls) = &pool.tls {
            link.stage = Stage::Handshake;
            let host = &cx.config.servers[link.server.index()].host;
            let name = if host.is_empty() { "localhost" } else { host };
            let pipe = Pipe::connect(tls, name).map_err(|_| Close::ServerTls)?;
            link.conn.secure(pipe, cx.pool).map_err(|error| tls_close(&error, Close::ServerTls))?;
        }
        Ok(())
    }

    /// Gives the server connection and the place at the server back.
    pub fn let_go(&mut self, park: bool, cx: &mut Cx<'_>) {
        let Some(mut link) = self.link.take() else { return };
        wake(cx.balancer.release(link.claim), cx);
        if park {
            cx.ops.push(Op::Park(link.leg, link.server, link.conn.into()));
        } else {
            link.conn.clear(cx.pool);
            cx.ops.push(Op::Close(link.leg));
        }
    }

    /// Gives the server connection back with a reset: the server must not take what it got for complete.
    pub fn cut(&mut self, cx: &mut Cx<'_>) {
        let Some(mut link) = self.link.take() else { return };
        wake(cx.balancer.release(link.claim), cx);
        link.conn.clear(cx.pool);
        cx.ops.push(Op::Reset(link.leg));
    }

    /// Leaves the queue, and gives everything back.
    pub fn abandon(&mut self, cx: &mut Cx<'_>) {
        if self.queued {
            wake(cx.balancer.abandon(self.pool, Waiter { worker: cx.worker, session: cx.me }), cx);
            self.queued = false;
        }
        self.let_go(false, cx);
    }

    /// The server failed: closes the connection and, if `may_retry` and the pool allow it, tries another server.
    /// `Err`: it ends here.
    pub fn server_failed(
        &mut self,
        close: Close,
        may_retry: bool,
        around: &mut Around<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Close> {
        let Some(link) = &self.link else { return Ok(()) };
        let (server, stale) = (link.server, link.reused && !link.heard);
        // The balancer learns of the failure before the place is free again.
        if stale {
            cx.counters.add(Count::ServerStale, 1);
        } else {
            note_failure(server, close, cx);
        }
        self.let_go(false, cx);
        around.deadlines.clear(Timer::Server);
        self.last_failure = Some(close);
        if !may_retry || !close.may_retry() {
            return Err(close);
        }
        if stale {
            // The same server again, on a connection of its own: it did nothing wrong.
            self.tried.retain(|tried| *tried != server);
            self.attempts -= 1;
            self.reuse = Reuse::Never;
            return self.choose(false, around, cx);
        }
        if self.attempts >= cx.config.pools[self.pool.index()].attempts_max {
            return Err(close);
        }
        if !cx.balancer.may_retry(self.pool, cx.now) {
            cx.counters.add(Count::RetriesRefused, 1);
            return Err(close);
        }
        cx.counters.add(Count::Retries, 1);
        self.choose(false, around, cx)
    }
}

/// Has a session told that a place may be free.
pub(super) fn wake(waiter: Option<Waiter>, cx: &mut Cx<'_>) {
    cx.ops.extend(waiter.map(Op::Wake));
}

/// Tells the balancer that a server answered.
pub fn note_success(link: &Link, pool: PoolId, cx: &mut Cx<'_>) {
    if cx.balancer.worked(link.server, cx.now) {
        wake(cx.balancer.wake_next(pool, cx.now), cx);
    }
}

/// Tells the balancer that a server answered with this status.
pub fn note_answer(link: &Link, pool: PoolId, status: u16, cx: &mut Cx<'_>) {
    if status >= 500 && cx.balancer.minds_errors(pool) {
        count_ejection(cx.balancer.struck(link.server, Evidence::Error, cx.now), cx);
    } else {
        note_success(link, pool, cx);
    }
}

/// Tells the balancer that a server failed.
pub fn note_failure(server: ServerId, close: Close, cx: &Cx<'_>) {
    count_ejection(cx.balancer.ended(server, close, true, cx.now), cx);
}

fn count_ejection(ejection: Ejection, cx: &Cx<'_>) {
    if matches!(ejection, Ejection::New(_)) {
        cx.counters.add(Count::ServerEjected, 1);
    }
}

/// What a failure of TLS with a server means: a want of pages is not the server's fault.
const fn tls_close(error: &TlsError, otherwise: Close) -> Close {
    if matches!(error, TlsError::Starved) { Close::NoMemory } else { otherwise }
}

/// What a refused connect means.
pub const fn refusal(errno: Errno) -> Close {
    if errno.is_out_of_descriptors() { Close::NoDescriptors } else { Close::ServerRefused }
}
