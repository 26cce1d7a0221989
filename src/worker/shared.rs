//! What workers share, and nothing else: the configuration, the balancer, and a seat for each of them.
//!
//! What goes in: counters of their owners, mail, orders. What comes out: sums. It owns: no connection. Always true: no
//! worker waits here for another one on the way of a request; locks are taken only for mail between workers (a full
//! server's queue) and for the limit per client, when that is configured.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::balance::Balancer;
use crate::close::Close;
use crate::config::model::Config;
use crate::counters::{Count, Counters};
use crate::ids::{SessionId, WorkerId};
use crate::ring::Wake;

/// What the workers of a process share.
pub struct Shared {
    /// The configuration.
    pub config: Arc<Config>,
    /// Who takes the next request.
    pub balancer: Balancer,
    /// Connections per client address.
    pub clients: Clients,
    seats: Vec<Seat>,
}

impl Shared {
    /// For so many workers.
    pub fn new(config: Arc<Config>, workers: usize) -> Self {
        let balancer = Balancer::new(&config);
        let seats = (0..workers).map(|_| Seat::default()).collect();
        Self { config, balancer, clients: Clients::default(), seats }
    }

    /// How many workers.
    pub const fn workers(&self) -> usize {
        self.seats.len()
    }

    /// A worker's seat.
    ///
    /// # Panics
    /// If there is no such worker.
    pub fn seat(&self, id: WorkerId) -> &Seat {
        &self.seats[id.index()]
    }

    /// Gives an order to all workers.
    pub fn order(&self, orders: Orders) {
        for seat in &self.seats {
            seat.orders.fetch_max(orders as u8, Ordering::SeqCst);
            seat.wake();
        }
    }

    /// A counter, summed over all workers.
    pub fn sum(&self, count: Count) -> u64 {
        self.seats.iter().fold(0, |sum, seat| sum.wrapping_add(seat.counters.get(count)))
    }

    /// How often sessions or exchanges ended this way, over all workers.
    pub fn closed(&self, close: Close) -> u64 {
        self.seats.iter().map(|seat| seat.counters.closed(close)).sum()
    }
}

/// What a worker is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Orders {
    /// Go on.
    Run = 0,
    /// Finish what is in progress.
    Drain = 1,
    /// End at once.
    Kill = 2,
}

/// A worker as the others see it.
#[derive(Default)]
#[repr(align(128))]
pub struct Seat {
    /// Its counters.
    pub counters: Counters,
    orders: AtomicU8,
    mail: Mutex<Vec<SessionId>>,
    waker: OnceLock<Arc<dyn Wake>>,
}

impl Seat {
    /// How to wake it.
    pub fn set_waker(&self, waker: Arc<dyn Wake>) {
        let _ = self.waker.set(waker);
    }

    /// Tells one of its sessions that a place may be free.
    pub fn mail(&self, session: SessionId) {
        unpoisoned(&self.mail).push(session);
        self.wake();
    }

    /// Takes the mail out.
    pub fn take_mail(&self) -> Vec<SessionId> {
        std::mem::take(&mut unpoisoned(&self.mail))
    }

    /// What it is to do.
    pub fn orders(&self) -> Orders {
        match self.orders.load(Ordering::SeqCst) {
            0 => Orders::Run,
            1 => Orders::Drain,
            _ => Orders::Kill,
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }
}

/// Connections per client address, over all workers. Touched only when the limit is configured.
pub struct Clients {
    shards: [Mutex<HashMap<IpAddr, u32>>; 64],
    hasher: RandomState,
}

impl Default for Clients {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), hasher: RandomState::new() }
    }
}

impl Clients {
    /// Counts a connection; false, and not counted, when the client has `max` already.
    pub fn enter(&self, client: IpAddr, max: u32) -> bool {
        let mut shard = unpoisoned(self.shard(client));
        let count = shard.entry(client).or_insert(0);
        let fits = *count < max;
        *count += u32::from(fits);
        fits
    }

    /// Counts a connection less.
    pub fn leave(&self, client: IpAddr) {
        let mut shard = unpoisoned(self.shard(client));
        if let Some(count) = shard.get_mut(&client) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                shard.remove(&client);
            }
        }
    }

    fn shard(&self, client: IpAddr) -> &Mutex<HashMap<IpAddr, u32>> {
        let hash = self.hasher.hash_one(client);
        &self.shards[(hash % self.shards.len() as u64) as usize]
    }
}

/// A lock whose holder panicked is still good here: every update is one step.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_at_most_its_limit() {
        let clients = Clients::default();
        let ip: IpAddr = [10, 0, 0, 1].into();
        assert!(clients.enter(ip, 2) && clients.enter(ip, 2));
        assert!(!clients.enter(ip, 2));
        clients.leave(ip);
        assert!(clients.enter(ip, 2));
        assert!(clients.enter([10, 0, 0, 2].into(), 1));
    }
}
