//! The slot table of living things, and the state of one socket of the io_uring ring.
//!
//! What goes in: sockets. What comes out: [`SockId`]s whose generation tells the lives of a slot apart. It owns the
//! descriptors. Always true: a socket leaves the table only when no operation of it is in flight (rule 3), and its
//! generation then becomes a new one.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use socket2::SockAddr;

use super::lend::SendSlot;
use crate::buf::{Chunk, Pool};
use crate::ids::SockId;
use crate::net::Errno;

/// Slots that are used again and again; each life has its generation.
#[derive(Debug)]
pub(super) struct Table<S> {
    slots: Vec<Slot<S>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<S> {
    generation: u32,
    life: Option<S>,
}

impl<S> Table<S> {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }

    /// With room for so many.
    pub(super) fn with_capacity(slots: usize) -> Self {
        Self { slots: Vec::with_capacity(slots), free: Vec::new() }
    }

    /// Puts something into a free slot.
    pub(super) fn insert(&mut self, life: S) -> SockId {
        if let Some(slot) = self.free.pop() {
            let entry = &mut self.slots[slot as usize];
            entry.life = Some(life);
            return SockId { slot, generation: entry.generation };
        }
        let slot = self.slots.len() as u32;
        self.slots.push(Slot { generation: 0, life: Some(life) });
        SockId { slot, generation: 0 }
    }

    /// The thing with this id, if it still lives.
    pub(super) fn get(&self, id: SockId) -> Option<&S> {
        let slot = self.slots.get(id.index())?;
        if slot.generation == id.generation { slot.life.as_ref() } else { None }
    }

    /// The thing with this id, if it still lives.
    pub(super) fn get_mut(&mut self, id: SockId) -> Option<&mut S> {
        let slot = self.slots.get_mut(id.index())?;
        if slot.generation == id.generation { slot.life.as_mut() } else { None }
    }

    /// The full id of what lives in a slot now, if its generation ends in these bits.
    pub(super) fn id_of(&self, slot: u32, generation_bits: u32, mask: u32) -> Option<SockId> {
        let entry = self.slots.get(slot as usize)?;
        let same = entry.life.is_some() && entry.generation & mask == generation_bits;
        same.then_some(SockId { slot, generation: entry.generation })
    }

    /// Takes something out; its id is never seen again.
    pub(super) fn remove(&mut self, id: SockId) -> Option<S> {
        let slot = self.slots.get_mut(id.index())?;
        if slot.generation != id.generation {
            return None;
        }
        let life = slot.life.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.slot);
        Some(life)
    }

    /// The ids of all that lives.
    pub(super) fn ids(&self) -> Vec<SockId> {
        let numbered = self.slots.iter().enumerate();
        let alive = numbered.filter(|(_, slot)| slot.life.is_some());
        alive.map(|(at, slot)| SockId { slot: at as u32, generation: slot.generation }).collect()
    }

    /// How many live.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

/// How far a socket is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The connect is in flight.
    Connecting,
    /// Bytes may flow.
    Open,
    /// `close` was called: what was in flight is cancelled and joined, then the descriptor is closed.
    Closing,
    /// The descriptor is closed; `Closed` was not handed out yet.
    Gone,
}

/// How receiving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The other end sends no more.
    Eof,
    /// Receiving failed.
    Failed(Errno),
}

/// One socket.
#[derive(Debug)]
pub(super) struct Socket {
    /// Present until the descriptor is closed.
    pub(super) fd: Option<OwnedFd>,
    pub(super) phase: Phase,
    /// Asked for bytes and not answered yet.
    pub(super) wanted: bool,
    /// A receive is in flight.
    pub(super) armed: bool,
    /// The receive in flight was asked to stop: more came than was asked for.
    pub(super) stopping: bool,
    /// The last receive found no page; it is started again when pages are back.
    pub(super) starving: bool,
    /// The answer that ends all receiving was handed out (rule 9).
    pub(super) ended: bool,
    /// A send is in flight, and this is where its pages are.
    pub(super) sending: Option<SendSlot>,
    /// What comes after the bytes in `held`.
    pub(super) end: Option<End>,
    /// Bytes that came unasked.
    pub(super) held: VecDeque<Chunk>,
    /// Where the connect in flight goes to: the kernel reads it.
    pub(super) target: Option<Box<SockAddr>>,
}

const _: () = assert!(size_of::<Slot<Socket>>() <= 96, "an idle socket is small");

impl Socket {
    pub(super) fn new(fd: OwnedFd, target: Option<Box<SockAddr>>) -> Self {
        let phase = if target.is_some() { Phase::Connecting } else { Phase::Open };
        Self {
            fd: Some(fd),
            phase,
            wanted: false,
            armed: false,
            stopping: false,
            starving: false,
            ended: false,
            sending: None,
            end: None,
            held: VecDeque::new(),
            target,
        }
    }

    /// True when the kernel has no operation of this socket.
    pub(super) const fn joined(&self) -> bool {
        !self.armed && self.sending.is_none() && self.target.is_none()
    }

    /// True when a receive must be started: bytes are wanted, none are here, none are on their way.
    pub(super) fn must_arm(&self) -> bool {
        let quiet = !self.armed && !self.starving && self.end.is_none() && self.held.is_empty();
        self.phase == Phase::Open && self.wanted && quiet
    }

    /// Keeps bytes that came unasked. Small ones are copied behind the last, so that a dripping sender does not take
    /// a page per drop; the emptied page comes back.
    pub(super) fn hold(&mut self, chunk: Chunk, pool: &mut Pool) -> bool {
        const SMALL: usize = 2048;
        if chunk.len() <= SMALL
            && let Some(last) = self.held.back_mut()
            && last.tailroom() >= chunk.len()
        {
            last.append(chunk.bytes());
            pool.give(chunk.into_page());
            return false;
        }
        self.held.push_back(chunk);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_used_again_under_another_id() {
        let mut table = Table::new();
        let first = table.insert('a');
        let second = table.insert('b');
        assert_eq!(table.remove(first), Some('a'));
        assert_eq!(table.remove(first), None);
        assert_eq!(table.get(first), None);
        let third = table.insert('c');
        assert_eq!(third.slot, first.slot);
        assert_ne!(third, first);
        assert_eq!((table.get(first), table.get(third), table.get(second)), (None, Some(&'c'), Some(&'b')));
        assert_eq!(table.id_of(third.slot, third.generation, u32::MAX), Some(third));
        assert_eq!(table.id_of(third.slot, first.generation, u32::MAX), None);
        assert_eq!((table.len(), table.ids()), (2, vec![third, second]));
    }

    #[test]
    fn small_pieces_that_nobody_asked_for_share_a_page() {
        let mut pool = Pool::new(8);
        let fd = std::fs::File::open("/dev/null").unwrap().into();
        let mut socket = Socket::new(fd, None);
        let piece = |pool: &mut Pool, bytes: &[u8]| {
            let mut chunk = Chunk::empty(pool.take().unwrap());
            chunk.append(bytes);
            chunk
        };
        let pieces = [&b"a"[..], b"b", &[7; 5000], b"c"];
        let took_page: Vec<bool> = pieces
            .iter()
            .map(|bytes| {
                let chunk = piece(&mut pool, bytes);
                socket.hold(chunk, &mut pool)
            })
            .collect();
        assert_eq!(took_page, [true, false, true, false]);
        let held: Vec<u8> = socket.held.iter().flat_map(|chunk| chunk.bytes().to_vec()).collect();
        assert_eq!(held, pieces.concat());
        assert_eq!(pool.made() - pool.free(), 2);
    }

    #[test]
    fn a_receive_starts_only_when_bytes_are_wanted_and_none_are_here() {
        let fd = std::fs::File::open("/dev/null").unwrap().into();
        let mut socket = Socket::new(fd, None);
        assert!(!socket.must_arm());
        socket.wanted = true;
        assert!(socket.must_arm());
        let changes: [fn(&mut Socket, bool); 4] = [
            |socket, on| socket.armed = on,
            |socket, on| socket.starving = on,
            |socket, on| socket.end = on.then_some(End::Eof),
            |socket, on| socket.phase = if on { Phase::Closing } else { Phase::Open },
        ];
        for change in changes {
            change(&mut socket, true);
            assert!(!socket.must_arm());
            change(&mut socket, false);
        }
        assert!(socket.must_arm() && socket.joined());
    }
}
