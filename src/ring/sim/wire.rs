//! A connection of the simulated world: two ends, and a pipe of bytes each way.
//!
//! What goes in: writes, ends of streams, resets, and the passing of time (by [`Pipe::land`]). What comes out: reads.
//! It owns the bytes between a write and a read. Always true: bytes arrive in order, exactly once, before the end
//! of their stream; a pipe never holds more than its capacity.

use std::collections::VecDeque;

use crate::clock::Moment;
use crate::ids::SockId;
use crate::net::{Address, Ends, Errno};

use super::actor::Pace;

/// The client's or the server's end: the index of a side in the arrays of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Who connected.
    Caller = 0,
    /// Who accepted.
    Callee = 1,
}

impl Side {
    /// The side across.
    pub(super) const fn across(self) -> Self {
        match self {
            Self::Caller => Self::Callee,
            Self::Callee => Self::Caller,
        }
    }
}

/// Who holds an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Nobody yet: the connection is not accepted, or not connected.
    Waiting,
    /// A worker.
    Host(usize, SockId),
    /// A scripted end.
    Actor(usize),
    /// Nobody any more.
    Gone,
}

/// One end of a connection.
#[derive(Debug)]
pub(super) struct End {
    /// Who holds it.
    pub(super) owner: Owner,
    /// False once it was closed.
    pub(super) open: bool,
    /// Its holder knows that the connection stands.
    pub(super) stands: bool,
    /// A reset arrived here.
    pub(super) reset: Option<Errno>,
    /// The holder of this end was told of the reset, and will not be again.
    pub(super) reset_told: bool,
    /// What an actor wants to send and has not yet.
    pub(super) outgoing: Bytes,
    /// The actor ends its stream once `outgoing` is empty.
    pub(super) shut_after: bool,
    /// The actor closes once `outgoing` is empty.
    pub(super) close_after: bool,
    /// The actor was told of the end of the stream, or of the reset.
    pub(super) end_told: bool,
    /// The actor does not read now.
    pub(super) held: bool,
    /// How an actor reads.
    pub(super) reads: Pace,
    /// How an actor writes.
    pub(super) writes: Pace,
    /// An event for reading is under way.
    pub(super) read_scheduled: bool,
    /// An event for writing is under way.
    pub(super) write_scheduled: bool,
}

impl End {
    const fn new(owner: Owner) -> Self {
        Self {
            owner,
            open: true,
            stands: false,
            reset: None,
            reset_told: false,
            outgoing: Bytes::new(),
            shut_after: false,
            close_after: false,
            end_told: false,
            held: false,
            reads: Pace::FAST,
            writes: Pace::FAST,
            read_scheduled: false,
            write_scheduled: false,
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Conn {
    /// Its ends: caller, callee.
    pub(super) ends: [End; 2],
    /// What each side wrote: by the caller, by the callee.
    pub(super) pipes: [Pipe; 2],
    /// Addresses, as the callee sees them.
    pub(super) addresses: Ends,
    /// Where the caller wanted to go.
    pub(super) to: Address,
    /// Nothing arrives any more.
    pub(super) silent: bool,
    /// A harmful fault struck it.
    pub(super) hurt: bool,
    /// A worker accepted it (rather than opened it).
    pub(super) of_client: bool,
    /// How often it knocked at a full accept queue.
    pub(super) knocks: u32,
}

impl Conn {
    /// A connection that does not stand yet, with buffers of `capacity` bytes each way.
    pub(super) fn new(caller: Owner, to: Address, addresses: Ends, capacity: [usize; 2]) -> Self {
        Self {
            ends: [End::new(caller), End::new(Owner::Waiting)],
            pipes: capacity.map(Pipe::new),
            addresses,
            to,
            silent: false,
            hurt: false,
            of_client: false,
            knocks: 0,
        }
    }

    /// The bytes that come towards `side`.
    pub(super) fn towards(&mut self, side: Side) -> &mut Pipe {
        &mut self.pipes[side.across() as usize]
    }

    /// True when a read by `side` would not wait.
    pub(super) fn readable(&self, side: Side) -> bool {
        let pipe = &self.pipes[side.across() as usize];
        pipe.arrived > 0 || pipe.fin_arrived || self.ends[side as usize].reset.is_some()
    }

    /// True when a write by `side` would not wait.
    pub(super) fn writable(&self, side: Side) -> bool {
        self.pipes[side as usize].space() > 0 || self.ends[side as usize].reset.is_some()
    }
}

/// A stretch of bytes under way.
#[derive(Clone, Copy, Debug)]
struct Segment {
    at: Moment,
    bytes: usize,
    fin: bool,
}

/// Bytes one way.
#[derive(Debug)]
pub(super) struct Pipe {
    bytes: Bytes,
    capacity: usize,
    flying: VecDeque<Segment>,
    last_at: Moment,
    /// A reset came from the other end: what is written from now on is lost.
    dead: bool,
    /// How many of the bytes can be read.
    pub(super) arrived: usize,
    /// The writer ended the stream.
    pub(super) fin: bool,
    /// The end of the stream arrived.
    pub(super) fin_arrived: bool,
}

impl Pipe {
    const fn new(capacity: usize) -> Self {
        Self {
            bytes: Bytes::new(),
            capacity,
            flying: VecDeque::new(),
            last_at: Moment(0),
            dead: false,
            arrived: 0,
            fin: false,
            fin_arrived: false,
        }
    }

    /// Bytes that can be written now.
    pub(super) fn space(&self) -> usize {
        self.capacity.saturating_sub(self.bytes.len())
    }

    /// Puts bytes on the way (at most as many as there is space); they arrive at `at` or later. Returns when.
    pub(super) fn write(&mut self, bytes: &[u8], at: Moment) -> Moment {
        assert!(bytes.len() <= self.space() && !self.fin, "a write fits and comes before the end");
        if self.dead {
            return self.after_all(at);
        }
        self.bytes.push(bytes);
        self.fly(at, bytes.len(), false)
    }

    /// Puts the end of the stream on the way. Returns when it arrives.
    pub(super) fn end(&mut self, at: Moment) -> Moment {
        assert!(!self.fin, "a stream ends once");
        self.fin = true;
        if self.dead {
            return self.after_all(at);
        }
        self.fly(at, 0, true)
    }

    /// When something that is sent now to arrive at `at` comes, given what is under way already.
    pub(super) fn after_all(&self, at: Moment) -> Moment {
        self.last_at.max(at)
    }

    fn fly(&mut self, at: Moment, bytes: usize, fin: bool) -> Moment {
        self.last_at = self.after_all(at);
        self.flying.push_back(Segment { at: self.last_at, bytes, fin });
        self.last_at
    }

    /// The first stretch under way arrives. False when none was due.
    pub(super) fn land(&mut self, now: Moment) -> bool {
        let Some(first) = self.flying.front().copied() else { return false };
        if first.at > now {
            return false;
        }
        self.flying.pop_front();
        self.arrived += first.bytes;
        self.fin_arrived |= first.fin;
        true
    }

    /// Reads up to `max` bytes of what arrived.
    pub(super) fn read(&mut self, max: usize) -> &[u8] {
        let count = self.arrived.min(max);
        self.arrived -= count;
        self.bytes.take(count)
    }

    /// Loses what has not arrived, and whatever is still written.
    pub(super) fn lose_flying(&mut self) {
        self.dead = true;
        self.flying.clear();
        self.bytes.truncate(self.arrived);
    }

    /// Loses everything.
    pub(super) fn lose_all(&mut self) {
        self.dead = true;
        self.flying.clear();
        self.arrived = 0;
        self.bytes = Bytes::new();
    }
}

/// Bytes that come in at the end and go out at the front.
#[derive(Debug, Default)]
pub(super) struct Bytes {
    bytes: Vec<u8>,
    from: usize,
}

impl Bytes {
    const fn new() -> Self {
        Self { bytes: Vec::new(), from: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.from
    }

    pub(super) fn push(&mut self, more: &[u8]) {
        if self.from == self.bytes.len() {
            self.bytes.clear();
            self.from = 0;
        } else if self.from > 64 * 1024 && self.from > self.len() {
            self.bytes.drain(..self.from);
            self.from = 0;
        }
        self.bytes.extend_from_slice(more);
    }

    pub(super) fn take(&mut self, count: usize) -> &[u8] {
        let at = self.from;
        self.from += count;
        &self.bytes[at..at + count]
    }

    fn truncate(&mut self, len: usize) {
        self.bytes.truncate(self.from + len);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_in_order_and_before_the_end() {
        let mut pipe = Pipe::new(10);
        assert_eq!(pipe.write(b"hello", Moment(50)), Moment(50));
        assert_eq!(pipe.write(b"you", Moment(20)), Moment(50), "later bytes do not overtake");
        assert_eq!((pipe.space(), pipe.end(Moment(60))), (2, Moment(60)));
        assert!(!pipe.land(Moment(49)));
        assert!(pipe.land(Moment(50)));
        assert_eq!(pipe.read(3), b"hel");
        assert!(pipe.land(Moment(50)));
        assert!(!pipe.fin_arrived);
        assert!(pipe.land(Moment(60)));
        assert!(pipe.fin_arrived);
        assert_eq!(pipe.read(100), b"loyou");
        assert_eq!((pipe.arrived, pipe.space()), (0, 10));
    }

    #[test]
    fn what_flies_can_be_lost() {
        let mut pipe = Pipe::new(10);
        pipe.write(b"abc", Moment(1));
        pipe.land(Moment(1));
        pipe.write(b"def", Moment(2));
        pipe.lose_flying();
        pipe.write(b"ghi", Moment(3));
        assert!(!pipe.land(Moment(9)), "what follows a gap must not arrive either");
        assert_eq!(pipe.read(9), b"abc");
    }
}
