//! Server connections that are kept for others.
//!
//! What goes in: connections that a session needs no more. What comes out: nothing; [`super::idle`] gives them to others. It owns
//! nothing. Always true: what is not kept is closed; while the worker drains nothing is kept.

use crate::ids::{ServerId, SessionId};
use crate::ring::Io;
use crate::session::{Kept, Leg};

use super::Worker;
use super::idle::Parked;
use super::owners::Owner;

impl<I: Io> Worker<I> {
    /// Closes the unused server connection that is the oldest; false when there is none.
    pub(super) fn close_oldest_idle(&mut self) -> bool {
        let Some(mut oldest) = self.idle.oldest() else { return false };
        oldest.kept.conn.clear(self.io.pool());
        self.close_sock(oldest.sock);
        true
    }

    /// Keeps a connection for somebody else.
    pub(super) fn park(&mut self, id: SessionId, leg: Leg, server: ServerId, mut kept: Kept) {
        let server = match self.sessions.get(id).and_then(|entry| self.editions.moves(entry.edition)) {
            None => Some(server),
            Some(moves) => moves.kept(server),
        };
        let Some(sock) = self.take_sock(id, leg) else {
            kept.conn.clear(self.io.pool());
            return;
        };
        let config = self.config().clone();
        let pool = |server: ServerId| &config.pools[config.servers[server.index()].pool.index()];
        let wanted = server.map(|server| (server, pool(server))).filter(|(_, pool)| pool.idle_max > 0);
        let Some((server, pool_of)) = wanted.filter(|_| !self.drain.is_on()) else {
            kept.conn.clear(self.io.pool());
            self.close_sock(sock);
            return;
        };
        if !kept.conn.is_receiving() {
            kept.conn.note_receiving();
            self.io.recv(sock);
        }
        self.owners.set(sock, Owner::Idle(server));
        let max = match (&kept.standing, config.servers[server.index()].connections_max as usize) {
            // These are many on purpose; where they are counted, unused ones are few.
            (Some(_), most) if most > 0 => pool_of.idle_max.min(most.div_ceil(self.shared.workers())),
            _ => pool_of.idle_max,
        };
        let parked = Parked { sock, kept, since: self.now };
        if let Some(mut evicted) = self.idle.put(server, parked, max, pool_of.times.idle) {
            evicted.kept.conn.clear(self.io.pool());
            self.close_sock(evicted.sock);
        }
    }

    /// Closes what was unused for too long.
    pub(super) fn sweep_idle(&mut self) {
        if self.idle.next_sweep() > self.now {
            return;
        }
        let config = self.config().clone();
        let time_of = |server: ServerId| config.pools[config.servers[server.index()].pool.index()].times.idle;
        for mut parked in self.idle.sweep(self.now, time_of) {
            parked.kept.conn.clear(self.io.pool());
            self.close_sock(parked.sock);
        }
    }

    /// A new connection to a server whose connections are counted takes the place of an unused one of somebody else.
    pub(super) fn make_room(&mut self, server: ServerId) {
        if self.config().servers[server.index()].connections_max > 0
            && let Some(mut oldest) = self.idle.oldest_of(server)
        {
            oldest.kept.conn.clear(self.io.pool());
            self.close_sock(oldest.sock);
        }
    }
}
