//! Accepting: listeners, the limits of connections, and what happens when they are reached.
//!
//! What goes in: accepted sockets. What comes out: sessions. It owns: whether accepting is paused. Always true: a worker
//! has at most its share of `connections_max`; more connections wait in the kernel's queue, and that is counted.

use std::collections::VecDeque;
use std::io;

use crate::clock::Moment;
use crate::close::Close;
use crate::config::model::Config;
use crate::counters::Count;
use crate::ids::{ListenerId, SockId};
use crate::limits::{ACCEPT_AGAIN_TIME, CLOSING_TIME};
use crate::net::{Ends, Errno};
use crate::ring::Io;
use crate::session::{Cx, Session};

use super::edition::{self, EditionSlot};
use super::owners::{Backs, Entry, Owner};
use super::shared::DoorCopy;
use super::{Worker, next_chance};

/// The state of accepting.
#[derive(Debug)]
pub struct Accept {
    doors: Vec<OpenDoor>,
    next_door: u32,
    share: usize,
    paused: bool,
    again: Moment,
    /// Accepted in the same turn as the last that has a place: they wait here as if in the kernel's queue. At most one
    /// per listener (see [`Io::allow`]).
    waiting: VecDeque<(ListenerId, SockId, Ends)>,
}

/// A listening socket of the ring: several may belong to one listener of the configuration.
#[derive(Clone, Copy, Debug)]
struct OpenDoor {
    /// Its id in the ring, never used again.
    ring: ListenerId,
    /// The edition of its listener.
    edition: EditionSlot,
    /// The listener within that edition.
    listener: ListenerId,
    /// It is being closed, and forgotten at that moment; what was in its queue may still come.
    closing: Option<Moment>,
}

impl Accept {
    /// For one of `workers` workers.
    pub fn new(config: &Config, workers: usize) -> Self {
        let share = Self::share_of(config, workers);
        let (doors, waiting) = (Vec::new(), VecDeque::new());
        Self { doors, next_door: 0, share, paused: false, again: Moment::NEVER, waiting }
    }

    fn share_of(config: &Config, workers: usize) -> usize {
        config.limits.connections_max.div_ceil(workers.max(1)).max(1)
    }

    /// Client connections that this worker takes at most.
    pub const fn share(&self) -> usize {
        self.share
    }

    fn add(&mut self, edition: EditionSlot, listener: ListenerId) -> ListenerId {
        let ring = ListenerId(self.next_door);
        self.next_door = self.next_door.wrapping_add(1);
        self.doors.push(OpenDoor { ring, edition, listener, closing: None });
        ring
    }

    fn door(&self, ring: ListenerId) -> Option<OpenDoor> {
        self.doors.iter().find(|door| door.ring == ring).copied()
    }

    /// Sockets that the worker may have open: a client's and a server's for each connection.
    pub const fn sockets_max(&self) -> usize {
        self.share.saturating_mul(2)
    }

    /// When accepting is worth another try.
    pub const fn again(&self) -> Moment {
        self.again
    }

    /// The ring's ids of all listening sockets that are not being closed.
    pub fn listeners(&self) -> Vec<ListenerId> {
        let open = self.doors.iter().filter(|door| door.closing.is_none());
        open.map(|door| door.ring).collect()
    }
}

impl<I: Io> Worker<I> {
    /// Opens the listeners of an edition that are not open yet.
    pub(super) fn open_listeners(&mut self, slot: EditionSlot) -> io::Result<()> {
        let edition = self.editions.get(slot).clone();
        self.accept.share = Accept::share_of(&edition.config, self.shared.workers());
        self.io.allow(self.accept.share.saturating_sub(self.sessions.len()));
        for (at, listener) in (0u32..).zip(&edition.config.listeners) {
            let id = ListenerId(at);
            let here =
                |door: &OpenDoor| door.edition == slot && door.listener == id && door.closing.is_none();
            let is_here = self.accept.doors.iter().any(here);
            // Sockets that were opened although one is here: an edition in between had no such listener, and this worker
            // did not see it. Clients may wait at them already.
            let opened = edition.take_doors(self.id, id);
            if opened.is_empty() && !is_here {
                let ring = self.accept.add(slot, id);
                self.io.listen(ring, &listener.address, &edition::options(listener))?;
            }
            for door in opened {
                let ring = self.accept.add(slot, id);
                self.io.listen_on(ring, door)?;
            }
            if self.accept.paused {
                self.accept.listeners().into_iter().for_each(|id| self.io.pause(id));
            }
        }
        Ok(())
    }

    /// Gives each listening socket to its listener of the current edition, and closes those that have none.
    pub(super) fn move_listeners(&mut self) {
        let current = self.editions.current();
        let gone = self.now + CLOSING_TIME;
        for door in &mut self.accept.doors {
            let Some(moves) = self.editions.moves(door.edition) else { continue };
            if door.closing.is_some() {
                continue;
            }
            match moves.door(door.listener) {
                Some(listener) => (door.edition, door.listener) = (current, listener),
                None => {
                    door.closing = Some(gone);
                    self.editions.enter(door.edition);
                    self.sweep_doors = self.sweep_doors.min(gone);
                    self.io.unlisten(door.ring);
                }
            }
        }
    }

    /// Forgets listening sockets whose queue is surely empty, and of whose connections none waits for a place.
    pub(super) fn sweep_doors(&mut self) {
        let (now, waiting, editions) = (self.now, &self.accept.waiting, &mut self.editions);
        let mut again = Moment::NEVER;
        self.accept.doors.retain(|door| {
            let Some(gone) = door.closing else { return true };
            if gone <= now && !waiting.iter().any(|(ring, ..)| *ring == door.ring) {
                editions.leave(door.edition);
                return false;
            }
            again = again.min(if gone <= now { now + CLOSING_TIME } else { gone });
            true
        });
        self.sweep_doors = again;
    }

    /// Second descriptors of all listening sockets, with their addresses.
    pub(super) fn copy_doors(&self) -> Vec<DoorCopy> {
        let copies = self.io.doors().into_iter();
        let of = |ring| {
            let door = self.accept.door(ring)?;
            let edition = self.editions.get(door.edition);
            Some(edition.config.listeners[door.listener.index()].address.clone())
        };
        copies.filter_map(|(ring, copy)| Some((of(ring)?, copy))).collect()
    }

    pub(super) fn on_accepted(&mut self, listener: ListenerId, sock: SockId, ends: Ends) {
        self.owners.opened(sock, Owner::Waiting);
        if self.sessions.len() >= self.accept.share {
            self.accept.waiting.push_back((listener, sock, ends));
        } else {
            self.begin_session(listener, sock, ends);
        }
        if self.sessions.len() >= self.accept.share && !self.accept.paused {
            self.pause_accepting(Moment::NEVER);
        }
    }

    fn begin_session(&mut self, listener: ListenerId, sock: SockId, ends: Ends) {
        let Some(door) = self.accept.door(listener) else {
            debug_assert!(false, "a connection from a listener that was forgotten");
            self.owners.set(sock, Owner::Waiting);
            self.close_sock(sock);
            return;
        };
        let edition = self.editions.get(door.edition).clone();
        let config = &edition.config;
        let listener = &config.listeners[door.listener.index()];
        let client = ends.client.map(|client| client.ip().to_canonical());
        let max = config.limits.connections_per_client_max;
        let counted = client.filter(|_| max > 0);
        let refuse = counted.is_some_and(|client| !self.shared.clients.enter(client, max));
        let id = self.sessions.next_id();
        self.chance = next_chance(self.chance);
        let mut ops = std::mem::take(&mut self.ops);
        let mut cx = Cx {
            now: self.now,
            worker: self.id,
            me: id,
            config,
            balancer: &edition.balancer,
            clusters: &edition.clusters,
            counters: &self.shared.seat(self.id).counters,
            pool: self.io.pool(),
            ops: &mut ops,
            accesses: &mut self.accesses,
            digests: &mut self.digests,
            date: self.date.text(),
            chance: self.chance,
            draining: self.drain.is_on() || door.closing.is_some(),
            behind: false,
            starved: false,
        };
        cx.counters.add(Count::Accepted, 1);
        cx.counters.add(Count::Open, 1);
        let refuse_with = refuse.then_some(Close::TooManyFromClient);
        let mut session = Session::new(listener.serves, ends, refuse_with, &mut cx);
        session.pump(&mut cx);
        self.owners.set(sock, Owner::Session(id, crate::session::Leg::Front));
        edition.meters.listener(door.listener).enter(self.id);
        self.editions.enter(door.edition);
        let retires = if door.closing.is_some() { self.now + config.limits.drain } else { Moment::NEVER };
        self.sessions.insert(Entry {
            session,
            edition: door.edition,
            listener: door.listener,
            since: self.now,
            retires,
            front: Some(sock),
            backs: Backs::default(),
            armed: Moment::NEVER,
            starved: false,
            counted: counted.filter(|_| !refuse),
        });
        if retires.is_set() {
            self.retire(id, retires);
        }
        if !self.accesses.is_empty() {
            self.note_accesses(door.edition);
        }
        self.after(id, ops, false);
        self.run_pending();
    }

    pub(super) fn on_accept_failed(&mut self, _listener: ListenerId, _errno: Errno) {
        self.counters().add(Count::AcceptFailed, 1);
        self.pause_accepting(self.now + ACCEPT_AGAIN_TIME);
    }

    fn pause_accepting(&mut self, again: Moment) {
        self.counters().add(Count::AcceptPaused, 1);
        self.accept.paused = true;
        self.accept.again = self.accept.again.min(again);
        for id in self.accept.listeners() {
            self.io.pause(id);
        }
    }

    /// Accepts again once there is room.
    pub(super) fn resume_accepting(&mut self) {
        while self.sessions.len() < self.accept.share
            && let Some((listener, sock, ends)) = self.accept.waiting.pop_front()
        {
            self.begin_session(listener, sock, ends);
        }
        let room = self.accept.share.saturating_sub(self.sessions.len() + self.accept.waiting.len());
        self.io.allow(room);
        if self.accept.again <= self.now {
            self.accept.again = Moment::NEVER;
        }
        if self.accept.paused && room > 0 && !self.accept.again.is_set() && !self.drain.is_on() {
            self.accept.paused = false;
            for id in self.accept.listeners() {
                self.io.accept(id);
            }
        }
    }
}
