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
use crate::limits::{ACCEPT_AGAIN_TIME, BACKLOG_MAX};
use crate::net::{Ends, Errno};
use crate::ring::{Io, ListenOptions};
use crate::session::{Cx, Session};

use super::owners::{Entry, Owner};
use super::{Worker, next_chance};

/// The state of accepting.
#[derive(Debug)]
pub struct Accept {
    listeners: u32,
    share: usize,
    paused: bool,
    again: Moment,
    /// Accepted in the same turn as the last that has a place: they wait here as if in the kernel's queue. At most one
    /// per listener (see [`Io::allow`]).
    waiting: VecDeque<(ListenerId, SockId, Ends)>,
}

impl Accept {
    /// For one of `workers` workers.
    pub fn new(config: &Config, workers: usize) -> Self {
        let share = config.limits.connections_max.div_ceil(workers.max(1)).max(1);
        Self { listeners: 0, share, paused: false, again: Moment::NEVER, waiting: VecDeque::new() }
    }

    /// Client connections that this worker takes at most.
    pub const fn share(&self) -> usize {
        self.share
    }

    /// Opens all listeners.
    pub fn listen<I: Io>(&mut self, io: &mut I, config: &Config) -> io::Result<()> {
        io.allow(self.share);
        for (at, listener) in config.listeners.iter().enumerate() {
            let options = ListenOptions { v6only: listener.v6only, backlog: BACKLOG_MAX };
            let id = ListenerId(u32::try_from(at).unwrap_or(u32::MAX));
            io.listen(id, &listener.address, &options)?;
            self.listeners = id.0 + 1;
        }
        Ok(())
    }

    /// Sockets that the worker may have open: a client's and a server's for each connection.
    pub const fn sockets_max(&self) -> usize {
        self.share.saturating_mul(2)
    }

    /// When accepting is worth another try.
    pub const fn again(&self) -> Moment {
        self.again
    }

    /// All listeners.
    pub fn listeners(&self) -> impl Iterator<Item = ListenerId> + use<> {
        (0..self.listeners).map(ListenerId)
    }
}

impl<I: Io> Worker<I> {
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
        let config = self.config.clone();
        let Some(listener) = config.listeners.get(listener.index()) else {
            self.close_sock(sock);
            return;
        };
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
            config: &config,
            balancer: &self.shared.balancer,
            counters: &self.shared.seat(self.id).counters,
            pool: self.io.pool(),
            ops: &mut ops,
            date: self.date.text(),
            chance: self.chance,
            draining: self.drain.is_on(),
            starved: false,
        };
        cx.counters.add(Count::Accepted, 1);
        cx.counters.add(Count::Open, 1);
        let refuse_with = refuse.then_some(Close::TooManyFromClient);
        let mut session = Session::new(listener.serves, ends, refuse_with, &mut cx);
        session.pump(&mut cx);
        self.owners.set(sock, Owner::Session(id, crate::session::Leg::Front));
        self.sessions.insert(Entry {
            session,
            front: Some(sock),
            back: None,
            armed: Moment::NEVER,
            starved: false,
            counted: counted.filter(|_| !refuse),
        });
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
