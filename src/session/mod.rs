//! Sessions: a client connection and its server connections as a plain struct. No socket, no clock, no thread.
//!
//! The contract, kept by every session:
//!
//! * [`Session::on`] is told what happened. It changes state, and writes down what happens once: [`Op::Connect`],
//!   [`Op::Park`], [`Op::Close`], [`Op::Wake`]. `cx.now` is the only clock.
//! * [`Session::pump`] asks for the flow of bytes ([`Op::Recv`], [`Op::Send`], [`Op::Shut`]), derived from state alone:
//!   a receive if and only if there is room, a send if and only if there are bytes and no send is in flight. Calling it
//!   again asks for nothing new.
//! * [`Session::deadline`] is the earliest moment at which `on(Event::Tick)` is useful.
//!
//! A session knows legs ([`Leg`]), never sockets: the worker maps one to the other. After [`Op::Close`], [`Op::Reset`]
//! or [`Op::Park`] of a leg the session hears nothing more of it. It is over when its client's leg is closed and no
//! server leg is left: [`Session::is_over`].

mod about;
pub mod answers;
pub mod conn;
pub mod dial;
mod end;
pub mod exchange;
pub mod http;
mod late;
mod line;
mod marks;
pub mod moves;
mod record;
pub mod relay;
mod request;
pub mod sql;
pub mod tcp;
#[cfg(test)]
mod tests;
pub mod timers;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::access::Access;
use crate::balance::{Balancer, Waiter};
use crate::buf::{Chain, Pool};
use crate::clock::Moment;
use crate::close::Close;
use crate::cluster::Cluster;
use crate::config::model::{Config, Serves};
use crate::counters::Counters;
use crate::ids::{PoolId, ServerId, SessionId, WorkerId};
use crate::limits::{OUTBOX_BYTES_MAX, RECV_BYTES};
use crate::meters::digests::Digests;
use crate::net::{Ends, Errno};

use conn::Conn;
use http::HttpSession;
use moves::{Followed, Moves};
use sql::{LoginKey, SqlSession, Standing};
use tcp::TcpSession;

/// Which connection of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Leg {
    /// The client's.
    Front,
    /// A server's. The number counts the server connections of this session, so that a late event of an abandoned
    /// one is not taken for one of its successor.
    Back(u32),
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The server connection stands.
    Connected(Leg),
    /// An unused server connection was taken instead of a new one.
    Adopted(Leg, Kept),
    /// The server connection could not be opened.
    Refused(Leg, Errno),
    /// Bytes came.
    Received(Leg, Chain),
    /// The other end will send no more.
    Eof(Leg),
    /// So many bytes of the chain were sent.
    Sent(Leg, Chain, usize),
    /// A receive failed: the connection is broken.
    Failed(Leg, Errno),
    /// A send failed: nothing more can be sent, but what the other end sent before may still come.
    SendFailed(Leg, Errno),
    /// A deadline may have passed, or pages may be free again.
    Tick,
    /// A place at a full server may be free: the pick is worth another try.
    Turn,
    /// The process is stopping: finish what is in progress, take nothing new.
    Drain,
    /// The time for draining is over: end now.
    Kill,
}

impl Event {
    /// The leg that it happened on; `None` for what concerns the whole session.
    pub const fn leg(&self) -> Option<Leg> {
        match self {
            Self::Connected(leg)
            | Self::Adopted(leg, _)
            | Self::Refused(leg, _)
            | Self::Received(leg, _)
            | Self::Eof(leg)
            | Self::Sent(leg, _, _)
            | Self::Failed(leg, _)
            | Self::SendFailed(leg, _) => Some(*leg),
            Self::Tick | Self::Turn | Self::Drain | Self::Kill => None,
        }
    }

    /// Sends home the pages of an event that nobody wants.
    pub fn discard(self, pool: &mut Pool) {
        match self {
            Self::Received(_, chain) | Self::Sent(_, chain, _) => pool.give_chain(chain),
            Self::Adopted(_, mut kept) => kept.conn.clear(pool),
            _ => {}
        }
    }
}

/// A server connection that nobody uses.
#[derive(Debug)]
pub struct Kept {
    /// Its TLS state; nothing is queued.
    pub conn: Box<Conn>,
    /// Who is logged in on it, and what the server's session holds: MySQL's connections have this.
    pub standing: Option<Box<Standing>>,
}

impl From<Box<Conn>> for Kept {
    fn from(conn: Box<Conn>) -> Self {
        Self { conn, standing: None }
    }
}

/// Which unused server connections may be taken instead of a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Any.
    Any,
    /// One that was used a moment ago (`limits::SERVER_IDLE_FRESH_TIME`): the request must not be sent twice.
    Fresh,
    /// One on which the same user is logged in, best in such a state, and since that moment at the earliest.
    Login(LoginKey, u64, Moment),
    /// None.
    Never,
}

/// What a session wants.
#[derive(Debug)]
pub enum Op {
    /// A connection to a server: `Connected`, `Adopted` or `Refused` follows.
    Connect(Leg, ServerId, Reuse),
    /// Bytes: `Received`, `Eof` or `Failed` follows.
    Recv(Leg),
    /// These bytes sent: `Sent` or `SendFailed` follows.
    Send(Leg, Chain),
    /// The sending side shut.
    Shut(Leg),
    /// The leg closed.
    Close(Leg),
    /// The leg closed with a reset: the other end must not take what it got for complete.
    Reset(Leg),
    /// The server connection kept for somebody else.
    Park(Leg, ServerId, Kept),
    /// Another session, perhaps of another worker, told [`Event::Turn`].
    Wake(Waiter),
}

/// What a session may use while it handles one event.
#[derive(Debug)]
pub struct Cx<'a> {
    /// The time, read once per turn.
    pub now: Moment,
    /// The worker that runs the session.
    pub worker: WorkerId,
    /// The session's own id.
    pub me: SessionId,
    /// The configuration.
    pub config: &'a Config,
    /// Who takes the next request; shared by all workers.
    pub balancer: &'a Balancer,
    /// What is known of the servers of `[sql]` blocks, by block.
    pub clusters: &'a [Arc<Cluster>],
    /// The worker's counters.
    pub counters: &'a Counters,
    /// The worker's pages.
    pub pool: &'a mut Pool,
    /// Where wishes are written down.
    pub ops: &'a mut Vec<Op>,
    /// Where exchanges that are over are written down.
    pub accesses: &'a mut Vec<Access>,
    /// What shapes the worker's SQL statements have.
    pub digests: &'a mut Digests,
    /// The `Date` field's value (IMF-fixdate), at most a second old.
    pub date: &'a str,
    /// Random bits, new for every event.
    pub chance: u64,
    /// The process is stopping.
    pub draining: bool,
    /// A newer configuration is at work: no request is begun before the session has gone over to it.
    pub behind: bool,
    /// Set by the session when it could not go on for want of a page; it is ticked when pages are back.
    pub starved: bool,
}

impl Cx<'_> {
    /// Bytes that may wait to be sent to one side before reading from the other stops. Shrinks to one page when three
    /// quarters of the pages are out, so that slow readers cannot take them all.
    pub fn window(&self) -> usize {
        if self.pool.available() * 4 < self.pool.max() { RECV_BYTES } else { OUTBOX_BYTES_MAX }
    }
}

/// A session as it is now, for people.
#[derive(Clone, Debug)]
pub struct About {
    /// What it speaks: `http`, `tcp` or `sql`.
    pub kind: &'static str,
    /// What it is doing.
    pub phase: &'static str,
    /// The client's address; `None` for a Unix socket.
    pub client: Option<SocketAddr>,
    /// Requests so far.
    pub requests: u64,
    /// The pool of the exchange in progress.
    pub pool: Option<PoolId>,
    /// The server of the exchange in progress.
    pub server: Option<ServerId>,
}

/// A session of any kind.
#[derive(Debug)]
pub enum Session {
    /// HTTP/1.
    Http(Box<HttpSession>),
    /// A relay of bytes.
    Tcp(Box<TcpSession>),
    /// MySQL's protocol.
    Sql(Box<SqlSession>),
}

impl Session {
    /// The session of a connection that was just accepted; `refuse` ends it with that reason at once.
    pub fn new(serves: Serves, ends: Ends, refuse: Option<Close>, cx: &mut Cx<'_>) -> Self {
        match serves {
            Serves::Http(site) => Self::Http(Box::new(HttpSession::new(site, ends, refuse, cx))),
            Serves::Tcp(site) => Self::Tcp(Box::new(TcpSession::new(site, ends, refuse, cx))),
            Serves::Sql(site) => Self::Sql(Box::new(SqlSession::new(site, ends, refuse, cx))),
        }
    }

    /// What it is doing.
    pub fn about(&self) -> About {
        match self {
            Self::Http(session) => session.about(),
            Self::Tcp(session) => session.about(),
            Self::Sql(session) => session.about(),
        }
    }

    /// The server of a leg.
    pub fn server_of(&self, leg: Leg) -> Option<ServerId> {
        match self {
            Self::Sql(session) => session.server_of(leg),
            _ => self.about().server,
        }
    }

    /// Goes over to the next configuration, if it can. Until it can, it is to be told events with the old one.
    pub fn follow(&mut self, moves: &Moves) -> Followed {
        match self {
            Self::Http(session) => session.follow(moves),
            Self::Tcp(session) => session.follow(moves),
            Self::Sql(session) => session.follow(moves),
        }
    }

    /// Tells what happened. False when nothing follows from it: no byte is to flow, and what is waited for is the same.
    pub fn on(&mut self, event: Event, cx: &mut Cx<'_>) -> bool {
        match self {
            Self::Http(session) => session.on(event, cx),
            Self::Tcp(session) => session.on(event, cx),
            Self::Sql(session) => return session.on(event, cx),
        }
        true
    }

    /// Asks what bytes should flow.
    pub fn pump(&mut self, cx: &mut Cx<'_>) {
        match self {
            Self::Http(session) => session.pump(cx),
            Self::Tcp(session) => session.pump(cx),
            Self::Sql(session) => session.pump(cx),
        }
    }

    /// The earliest moment at which a tick is useful.
    pub fn deadline(&self) -> Moment {
        match self {
            Self::Http(session) => session.deadline(),
            Self::Tcp(session) => session.deadline(),
            Self::Sql(session) => session.deadline(),
        }
    }

    /// True when every leg is closed.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Http(session) => session.is_over(),
            Self::Tcp(session) => session.is_over(),
            Self::Sql(session) => session.is_over(),
        }
    }

    /// Pages that the session holds (those in the kernel not included).
    pub fn pages(&self) -> usize {
        match self {
            Self::Http(session) => session.pages(),
            Self::Tcp(session) => session.pages(),
            Self::Sql(session) => session.pages(),
        }
    }
}
