//! Server connections that are kept for the next request.
//!
//! What goes in: connections whose answer is complete. What comes out: the most recently used one for a server. It owns:
//! the connections (their sockets stay with the ring). Always true: each list is ordered by the time of parking, oldest
//! first; no list is longer than its pool allows; one timer serves all of them.

use std::time::Duration;

use crate::clock::Moment;
use crate::ids::{ServerId, SockId};
use crate::limits::SERVER_IDLE_FRESH_TIME;
use crate::session::{Kept, Reuse};

/// An unused connection.
#[derive(Debug)]
pub struct Parked {
    /// Its socket.
    pub sock: SockId,
    /// What goes along with it.
    pub kept: Kept,
    /// Since when it is unused.
    pub since: Moment,
}

/// All unused connections of a worker.
#[derive(Debug)]
pub struct IdleStore {
    servers: Vec<Vec<Parked>>,
    next_sweep: Moment,
}

impl IdleStore {
    /// A store for so many servers.
    pub fn new(servers: usize) -> Self {
        Self { servers: (0..servers).map(|_| Vec::new()).collect(), next_sweep: Moment::NEVER }
    }

    /// Keeps a connection for at most `time`; gives the oldest one back when there are more than `max`.
    pub fn put(&mut self, server: ServerId, parked: Parked, max: usize, time: Duration) -> Option<Parked> {
        self.next_sweep = self.next_sweep.min(parked.since + time);
        let list = self.servers.get_mut(server.index())?;
        list.push(parked);
        if list.len() > max { Some(list.remove(0)) } else { None }
    }

    /// Takes the most recently used connection to a server that will do.
    pub fn take(&mut self, server: ServerId, reuse: Reuse, now: Moment) -> Option<Parked> {
        let list = self.servers.get_mut(server.index())?;
        match reuse {
            Reuse::Never => None,
            Reuse::Fresh if now.since(list.last()?.since) > SERVER_IDLE_FRESH_TIME => None,
            Reuse::Any | Reuse::Fresh => list.pop(),
            Reuse::Login(key, shape, oldest) => {
                let standing = |parked: &Parked| {
                    let standing = parked.kept.standing.as_ref().filter(|at| at.logged_in >= oldest);
                    standing.map(|at| (at.key, at.shape))
                };
                let same = list.iter().rposition(|parked| standing(parked) == Some((key, shape)));
                let like = || list.iter().rposition(|parked| standing(parked).is_some_and(|at| at.0 == key));
                same.or_else(like).map(|at| list.remove(at))
            }
        }
    }

    /// Goes over to another list of servers. The answer is what cannot be kept, and the new owner of what can.
    pub fn follow(&mut self, servers: usize, moved: impl Fn(ServerId) -> Option<ServerId>) -> Vec<Parked> {
        let mut next: Vec<Vec<Parked>> = (0..servers).map(|_| Vec::new()).collect();
        let mut left = Vec::new();
        for (at, list) in (0u32..).zip(self.servers.drain(..)) {
            match moved(ServerId(at)).and_then(|id| next.get_mut(id.index())) {
                Some(place) => *place = list,
                None => left.extend(list),
            }
        }
        self.servers = next;
        left
    }

    /// All sockets, each with its server.
    pub fn sockets(&self) -> impl Iterator<Item = (ServerId, SockId)> {
        let lists = (0u32..).zip(&self.servers);
        lists.flat_map(|(at, list)| list.iter().map(move |parked| (ServerId(at), parked.sock)))
    }

    /// A certain connection.
    pub fn get_mut(&mut self, server: ServerId, sock: SockId) -> Option<&mut Parked> {
        self.servers.get_mut(server.index())?.iter_mut().find(|parked| parked.sock == sock)
    }

    /// Takes a certain connection out.
    pub fn remove(&mut self, server: ServerId, sock: SockId) -> Option<Parked> {
        let list = self.servers.get_mut(server.index())?;
        let at = list.iter().position(|parked| parked.sock == sock)?;
        Some(list.remove(at))
    }

    /// Takes the connection out that is unused for longest.
    pub fn oldest(&mut self) -> Option<Parked> {
        let lists = self.servers.iter_mut().filter(|list| !list.is_empty());
        let list = lists.min_by_key(|list| list.first().map(|parked| parked.since))?;
        Some(list.remove(0))
    }

    /// Takes the connection to this server out that is unused for longest.
    pub fn oldest_of(&mut self, server: ServerId) -> Option<Parked> {
        let list = self.servers.get_mut(server.index())?;
        (!list.is_empty()).then(|| list.remove(0))
    }

    /// When the next connection may be too old.
    pub const fn next_sweep(&self) -> Moment {
        self.next_sweep
    }

    /// Takes out those that are too old.
    pub fn sweep(&mut self, now: Moment, time_of: impl Fn(ServerId) -> Duration) -> Vec<Parked> {
        let mut old = Vec::new();
        self.next_sweep = Moment::NEVER;
        for (at, list) in self.servers.iter_mut().enumerate() {
            let time = time_of(ServerId(at as u32));
            let due = list.iter().take_while(|parked| parked.since + time <= now).count();
            old.extend(list.drain(..due));
            if let Some(first) = list.first() {
                self.next_sweep = self.next_sweep.min(first.since + time);
            }
        }
        old
    }

    /// Takes all out.
    pub fn drain(&mut self) -> Vec<Parked> {
        self.next_sweep = Moment::NEVER;
        self.servers.iter_mut().flat_map(std::mem::take).collect()
    }

    /// Pages held.
    pub fn pages(&self) -> usize {
        self.servers.iter().flatten().map(|parked| parked.kept.conn.pages()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::conn::Conn;

    fn parked(slot: u32, since: u64) -> Parked {
        Parked {
            sock: SockId { slot, generation: 0 },
            kept: Kept::from(Box::<Conn>::default()),
            since: Moment(since * 1_000_000_000),
        }
    }

    #[test]
    fn the_most_recent_comes_first_and_the_oldest_goes() {
        let mut store = IdleStore::new(1);
        let (server, time) = (ServerId(0), Duration::from_secs(30));
        for slot in 0..3 {
            assert!(store.put(server, parked(slot, u64::from(slot) + 1), 3, time).is_none());
        }
        assert_eq!(store.put(server, parked(3, 4), 3, time).unwrap().sock.slot, 0);
        let now = Moment(10_000_000_000);
        assert!(store.take(server, Reuse::Never, now).is_none());
        assert!(store.take(server, Reuse::Fresh, now).is_none());
        assert_eq!(store.take(server, Reuse::Any, now).unwrap().sock.slot, 3);
        assert_eq!(store.next_sweep(), Moment(31_000_000_000));
        let old = store.sweep(Moment(32_000_000_000), |_| time);
        assert_eq!(old.iter().map(|parked| parked.sock.slot).collect::<Vec<_>>(), [1]);
        assert_eq!(store.next_sweep(), Moment(33_000_000_000));
    }

    #[test]
    fn the_oldest_of_all_servers_goes_first() {
        let mut store = IdleStore::new(3);
        let time = Duration::from_secs(30);
        for (slot, server, since) in [(0, 0, 2), (1, 0, 4), (2, 2, 1), (3, 2, 3)] {
            assert!(store.put(ServerId(server), parked(slot, since), 9, time).is_none());
        }
        let order: Vec<u32> = std::iter::from_fn(|| store.oldest()).map(|parked| parked.sock.slot).collect();
        assert_eq!(order, [2, 0, 3, 1]);
    }
}
