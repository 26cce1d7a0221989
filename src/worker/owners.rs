//! Who owns which socket, and the table of sessions.
//!
//! What goes in: sockets opened and closed, sessions begun and ended. What comes out: owners and sessions by id. It owns:
//! the sessions. Always true: an id carries a generation; asking with one of an older life finds nobody.

use std::net::IpAddr;

use crate::clock::Moment;
use crate::ids::{ListenerId, ServerId, SessionId, SockId};
use crate::session::{Leg, Session};

use super::edition::EditionSlot;

/// Who is told what happens on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Nobody: it is being closed.
    Nobody,
    /// Nobody yet: it was accepted and waits for a place.
    Waiting,
    /// A leg of a session.
    Session(SessionId, Leg),
    /// The worker's store of unused server connections.
    Idle(ServerId),
}

/// Owners by socket.
#[derive(Debug, Default)]
pub struct Owners {
    slots: Vec<(u32, Owner)>,
    open: usize,
    closing: usize,
}

impl Owners {
    /// With room for so many sockets: memory that is not touched costs nothing, and no table is ever copied to grow.
    pub fn with_capacity(sockets: usize) -> Self {
        Self { slots: Vec::with_capacity(sockets), ..Self::default() }
    }

    /// A new socket.
    pub fn opened(&mut self, sock: SockId, owner: Owner) {
        if self.slots.len() <= sock.index() {
            self.slots.resize(sock.index() + 1, (0, Owner::Nobody));
        }
        self.slots[sock.index()] = (sock.generation, owner);
        self.open += 1;
    }

    /// Gives a socket to somebody else.
    pub fn set(&mut self, sock: SockId, owner: Owner) {
        if let Some(slot) = self.slots.get_mut(sock.index())
            && slot.0 == sock.generation
        {
            self.closing += usize::from(owner == Owner::Nobody && slot.1 != Owner::Nobody);
            slot.1 = owner;
        }
    }

    /// The owner of a socket.
    pub fn get(&self, sock: SockId) -> Owner {
        match self.slots.get(sock.index()) {
            Some((generation, owner)) if *generation == sock.generation => *owner,
            _ => Owner::Nobody,
        }
    }

    /// The ring closed a socket.
    pub fn closed(&mut self, sock: SockId) {
        assert!(self.open > 0, "more sockets closed than opened");
        self.set(sock, Owner::Nobody);
        self.open -= 1;
        self.closing -= 1;
    }

    /// Sockets that are not closed yet.
    pub const fn open(&self) -> usize {
        self.open
    }

    /// Sockets of nobody that are not closed yet.
    pub const fn closing(&self) -> usize {
        self.closing
    }
}

/// Server sockets of a session by their legs. HTTP and TCP have one at a time, SQL has the primary's and a replica's.
#[derive(Debug, Default)]
pub struct Backs([Option<(Leg, SockId)>; 2]);

impl Backs {
    /// The socket of a leg.
    pub fn get(&self, leg: Leg) -> Option<SockId> {
        self.0.iter().flatten().find(|(own, _)| *own == leg).map(|(_, sock)| *sock)
    }

    /// Takes the socket of a leg out.
    pub fn take(&mut self, leg: Leg) -> Option<SockId> {
        let place = self.0.iter_mut().find(|place| place.is_some_and(|(own, _)| own == leg))?;
        place.take().map(|(_, sock)| sock)
    }

    /// Adds the socket of a leg.
    pub fn put(&mut self, leg: Leg, sock: SockId) {
        let place = self.0.iter_mut().find(|place| place.is_none());
        assert!(place.is_some(), "a session has two server connections at a time at most");
        if let Some(place) = place {
            *place = Some((leg, sock));
        }
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

/// A session and what the worker knows of it.
#[derive(Debug)]
pub struct Entry {
    /// The session.
    pub session: Session,
    /// The edition that it lives by.
    pub edition: EditionSlot,
    /// Where it was accepted, within that edition.
    pub listener: ListenerId,
    /// Since when it lives.
    pub since: Moment,
    /// When it ends at the latest, because what it is about was removed; else never.
    pub retires: Moment,
    /// The client's socket, until it is closed.
    pub front: Option<SockId>,
    /// The servers' sockets in use.
    pub backs: Backs,
    /// The moment for which the heap has an entry.
    pub armed: Moment,
    /// It is in the list of those that wait for pages.
    pub starved: bool,
    /// The client's address, if it counts against the limit per client.
    pub counted: Option<IpAddr>,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    entry: Option<Entry>,
}

/// All sessions of a worker.
#[derive(Debug, Default)]
pub struct Sessions {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Sessions {
    /// With room for so many sessions.
    pub fn with_capacity(sessions: usize) -> Self {
        Self { slots: Vec::with_capacity(sessions), free: Vec::with_capacity(sessions) }
    }

    /// The id that the next session gets.
    pub fn next_id(&self) -> SessionId {
        match self.free.last() {
            Some(slot) => SessionId { slot: *slot, generation: self.slots[*slot as usize].generation },
            None => SessionId { slot: u32::try_from(self.slots.len()).unwrap_or(u32::MAX), generation: 0 },
        }
    }

    /// Adds a session under [`Sessions::next_id`].
    pub fn insert(&mut self, entry: Entry) -> SessionId {
        let id = self.next_id();
        if self.free.pop().is_none() {
            self.slots.push(Slot { generation: 0, entry: None });
        }
        self.slots[id.index()].entry = Some(entry);
        id
    }

    /// A session that lives.
    pub fn get(&self, id: SessionId) -> Option<&Entry> {
        let slot = self.slots.get(id.index())?;
        if slot.generation == id.generation { slot.entry.as_ref() } else { None }
    }

    /// A session that lives.
    pub fn get_mut(&mut self, id: SessionId) -> Option<&mut Entry> {
        let slot = self.slots.get_mut(id.index())?;
        if slot.generation == id.generation { slot.entry.as_mut() } else { None }
    }

    /// Ends a session.
    pub fn remove(&mut self, id: SessionId) -> Option<Entry> {
        let slot = self.slots.get_mut(id.index())?;
        if slot.generation != id.generation {
            return None;
        }
        let entry = slot.entry.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.slot);
        Some(entry)
    }

    /// How many live.
    pub const fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The ids of all that live.
    pub fn ids(&self) -> Vec<SessionId> {
        let living = self.slots.iter().enumerate().filter(|(_, slot)| slot.entry.is_some());
        living.map(|(at, slot)| SessionId { slot: at as u32, generation: slot.generation }).collect()
    }

    /// Pages that sessions hold.
    pub fn pages(&self) -> usize {
        self.slots.iter().filter_map(|slot| slot.entry.as_ref()).map(|entry| entry.session.pages()).sum()
    }
}
