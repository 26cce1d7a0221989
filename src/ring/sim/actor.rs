//! The scripted ends of the simulated world: clients of ringgate and servers behind it.
//!
//! What goes in: [`Happening`]s, told to [`Actor::on`]. What comes out: calls of [`ActorIo`]. Always true: an actor is
//! told nothing about a connection after it closed, reset or abandoned it, nor after `Refused` or `Reset`.

use std::net::SocketAddr;
use std::time::Duration;

use crate::clock::Moment;
use crate::net::{Address, Ends, Errno};

use super::faults::Injected;
use super::random::Random;
use super::state::State;
use super::wire::{Owner, Side};

/// A connection of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub(super) u32, pub(super) bool);

impl ConnId {
    /// The number of the connection in this world: the same at both ends.
    pub const fn number(self) -> u32 {
        self.0
    }

    pub(super) const fn new(index: usize, side: Side) -> Self {
        Self(index as u32, matches!(side, Side::Callee))
    }

    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }

    pub(super) const fn side(self) -> Side {
        if self.1 { Side::Callee } else { Side::Caller }
    }
}

/// Something that an actor is told.
#[derive(Debug)]
pub enum Happening<'a> {
    /// The actor's life begins.
    Start,
    /// A connection that it opened stands.
    Connected(ConnId),
    /// A connection that it opened will never stand.
    Refused(ConnId, Errno),
    /// Somebody connected to an address of it.
    Accepted {
        /// The connection.
        conn: ConnId,
        /// The address.
        address: &'a Address,
        /// The two ends.
        ends: Ends,
    },
    /// Bytes came.
    Data(ConnId, &'a [u8]),
    /// The other end will send no more.
    Eof(ConnId),
    /// The connection was reset; it is gone.
    Reset(ConnId, Errno),
    /// Everything that was sent is on its way.
    Flushed(ConnId),
    /// A timer that it set has come.
    Timer(u64),
}

/// A scripted end.
pub trait Actor {
    /// Something happened.
    fn on(&mut self, io: &mut ActorIo<'_>, what: Happening<'_>);
}

/// How an actor reads or writes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Bytes at a time: a random number up to this.
    pub piece_max: usize,
    /// Time between two pieces: a random time from the first to the second.
    pub pause: (Duration, Duration),
}

impl Pace {
    /// As fast as the network allows.
    pub const FAST: Self = Self { piece_max: usize::MAX, pause: (Duration::ZERO, Duration::ZERO) };
}

/// What an actor can do.
pub struct ActorIo<'a> {
    pub(super) state: &'a mut State,
    pub(super) me: usize,
}

impl ActorIo<'_> {
    /// The virtual time.
    pub const fn now(&self) -> Moment {
        self.state.now
    }

    /// The world's randomness.
    pub const fn random(&mut self) -> &mut Random {
        &mut self.state.random
    }

    /// Opens a connection, as if from the address `from`: [`Happening::Connected`] or [`Happening::Refused`] follows.
    pub fn connect(&mut self, to: &Address, from: Option<SocketAddr>) -> ConnId {
        let conn = self.state.connect(Owner::Actor(self.me), to, from);
        self.state.knock_later(conn);
        ConnId::new(conn, Side::Caller)
    }

    /// Accepts connections to `address` from now on.
    pub fn listen(&mut self, address: &Address) {
        self.state.serve(address, self.me);
    }

    /// Refuses connections to `address` from now on.
    pub fn unlisten(&mut self, address: &Address) {
        self.state.serving.remove(&address.into());
    }

    /// Sends bytes, at the pace of the connection and the network; [`Happening::Flushed`] follows when the last is on
    /// its way.
    pub fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        let end = &mut self.state.conns[conn.index()].ends[conn.side() as usize];
        if end.open && end.reset.is_none() && !end.shut_after && !end.close_after {
            end.outgoing.push(bytes);
            self.state.poke(conn.index(), conn.side());
        }
    }

    /// Bytes that were handed to `send` and are not on their way.
    pub fn unsent(&self, conn: ConnId) -> usize {
        self.state.conns[conn.index()].ends[conn.side() as usize].outgoing.len()
    }

    /// Ends the stream behind what was sent; what comes is still read.
    pub fn shut(&mut self, conn: ConnId) {
        self.state.conns[conn.index()].ends[conn.side() as usize].shut_after = true;
        self.state.actor_flush(conn.index(), conn.side());
    }

    /// Closes behind what was sent: an orderly end, or a reset when bytes were left unread (as Linux does it).
    pub fn close(&mut self, conn: ConnId) {
        let end = &mut self.state.conns[conn.index()].ends[conn.side() as usize];
        end.close_after = true;
        end.held = true;
        self.state.actor_flush(conn.index(), conn.side());
    }

    /// Closes with a reset, at once.
    pub fn reset(&mut self, conn: ConnId) {
        self.state.hang_up(conn.index(), conn.side(), true);
    }

    /// Vanishes like a machine whose power failed: the other end is not told, ever.
    pub fn abandon(&mut self, conn: ConnId) {
        let whole = &mut self.state.conns[conn.index()];
        whole.silent = true;
        whole.hurt = true;
        let end = &mut whole.ends[conn.side() as usize];
        end.open = false;
        end.owner = Owner::Gone;
    }

    /// How to read from and write to a connection from now on.
    pub fn pace(&mut self, conn: ConnId, reads: Pace, writes: Pace) {
        let end = &mut self.state.conns[conn.index()].ends[conn.side() as usize];
        end.reads = reads;
        end.writes = writes;
    }

    /// Stops reading, or reads again.
    pub fn hold(&mut self, conn: ConnId, held: bool) {
        self.state.conns[conn.index()].ends[conn.side() as usize].held = held;
        self.state.poke(conn.index(), conn.side());
    }

    /// Wants to be told with [`Happening::Timer`] after `wait`.
    pub fn timer(&mut self, wait: Duration, token: u64) {
        self.state.actor_timer(self.me, wait, token);
    }

    /// Says that this actor has nothing more to do of its own accord ([`super::World::busy`] counts the others).
    pub fn finish(&mut self) {
        self.state.finish(self.me);
    }

    /// How often harmful faults struck so far.
    pub const fn injected(&self) -> Injected {
        self.state.injected
    }

    /// True when a harmful fault struck this connection, or somebody vanished from it.
    pub fn hurt(&self, conn: ConnId) -> bool {
        self.state.conns[conn.index()].hurt
    }

    /// Writes a line to the trace.
    pub fn trace(&mut self, line: impl FnOnce() -> String) {
        let me = self.me;
        self.state.trace(|| format!("actor {me}: {}", line()));
    }
}
