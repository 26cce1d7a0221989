//! Taking an edition over: listeners, unused server connections and sessions go along with a new configuration.
//!
//! What goes in: an edition that was published. What comes out: a worker that lives by it. It owns nothing. Always true:
//! a session goes over between two events; one that is about something removed ends in an orderly way, at the latest
//! after the time for draining; what did not change is not touched.

use std::sync::Arc;

use crate::clock::Moment;
use crate::counters::Count;
use crate::ids::SessionId;
use crate::ring::Io;
use crate::session::Event;
use crate::session::moves::Followed;

use super::Worker;
use super::edition::Edition;
use super::owners::Owner;
use super::shared::SessionView;

impl<I: Io> Worker<I> {
    pub(super) fn take_edition(&mut self, edition: Arc<Edition>) {
        let before = self.editions.current();
        let servers = edition.config.servers.len();
        self.editions.take(edition);
        self.move_listeners();
        if !self.drain.is_on() && self.open_listeners(self.editions.current()).is_err() {
            // The sockets were opened before the edition was published, so only the ring can have failed.
            self.counters().add(Count::AcceptFailed, 1);
        }
        let left = {
            let moves = self.editions.moves(before);
            self.idle.follow(servers, |server| moves.and_then(|moves| moves.kept(server)))
        };
        for mut parked in left {
            parked.kept.conn.clear(self.io.pool());
            self.close_sock(parked.sock);
        }
        for (server, sock) in self.idle.sockets() {
            self.owners.set(sock, Owner::Idle(server));
        }
        for id in self.sessions.ids() {
            self.follow(id);
        }
        self.editions.sweep();
        self.resume_accepting();
    }

    /// Has a session live by the current edition, or begins to end it. True if it has gone over.
    pub(super) fn follow(&mut self, id: SessionId) -> bool {
        let Some(entry) = self.sessions.get_mut(id) else { return false };
        let Some(moves) = self.editions.moves(entry.edition) else { return false };
        if entry.retires.is_set() {
            return false;
        }
        let followed = match moves.listener(entry.listener) {
            Some(listener) => (entry.session.follow(moves), listener),
            None => (Followed::Never, entry.listener),
        };
        match followed {
            (Followed::Yes, listener) => {
                let (old, current) = (entry.edition, self.editions.current());
                (entry.edition, entry.listener) = (current, listener);
                self.editions.enter(current);
                self.editions.leave(old);
                return true;
            }
            (Followed::Later, _) => {}
            (Followed::Never, _) => {
                let time = self.shared.edition().config.limits.drain;
                let at = self.now + time;
                entry.retires = at;
                self.retire(id, at);
                self.pending.push_back((id, Event::Drain));
            }
        }
        false
    }

    /// Has a session end at `at` at the latest.
    pub(super) fn retire(&mut self, id: SessionId, at: Moment) {
        let place = self.retiring.partition_point(|(other, _)| *other <= at);
        self.retiring.insert(place, (at, id));
    }

    /// Ends the sessions whose time is over, and forgets old editions.
    pub(super) fn run_retiring(&mut self) {
        self.run_pending();
        if self.sweep_doors <= self.now {
            self.sweep_doors();
        }
        let due = self.retiring.partition_point(|(at, _)| *at <= self.now);
        if due == 0 {
            return;
        }
        for (_, id) in self.retiring.drain(..due).collect::<Vec<_>>() {
            self.tell(id, Event::Kill);
        }
    }

    /// Sessions as they are now, the oldest first.
    pub(super) fn views(&self, max: usize) -> Vec<SessionView> {
        let entries = self.sessions.ids().into_iter().filter_map(|id| Some((id, self.sessions.get(id)?)));
        let mut entries: Vec<_> = entries.collect();
        entries.sort_by_key(|(_, entry)| entry.since);
        let view = |(id, entry): (SessionId, &super::owners::Entry)| {
            let config = &self.editions.get(entry.edition).config;
            let about = entry.session.about();
            let server = about.server.map(|server| &config.servers[server.index()]);
            SessionView {
                worker: self.id,
                id,
                listener: config.listeners[entry.listener.index()].address.to_string(),
                age: self.now.since(entry.since),
                pool: about.pool.map(|pool| config.pools[pool.index()].name.clone()),
                server: server.map(|server| server.name.clone()),
                about,
            }
        };
        entries.into_iter().take(max).map(view).collect()
    }
}
