//! What workers share, and nothing else: the edition they work by, and a seat for each of them.
//!
//! What goes in: counters of their owners, mail, orders. What comes out: sums. It owns: no connection. Always true: no
//! worker waits here for another one on the way of a request; locks are taken only for mail between workers (a full
//! server's queue) and for the limit per client, when that is configured.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::clock;
use crate::close::Close;
use crate::counters::{Count, Counters};
use crate::ids::{PoolId, SessionId, WorkerId};
use crate::meters::digests::Tables;
use crate::net::Address;
use crate::ring::Wake;
use crate::session::About;

use super::edition::Edition;
use super::log::Desk;

/// What the workers of a process share.
pub struct Shared {
    edition: Mutex<Arc<Edition>>,
    /// Nanoseconds that a drain may take; 0 is as configured.
    drain_nanos: AtomicU64,
    /// Connections per client address.
    pub clients: Clients,
    /// Where workers leave the lines of the log.
    pub log: Desk,
    seats: Vec<Seat>,
}

impl Shared {
    /// For so many workers.
    pub fn new(edition: Edition, workers: usize) -> Self {
        let seats = (0..workers).map(|_| Seat::default()).collect();
        let edition = Mutex::new(Arc::new(edition));
        Self {
            edition,
            drain_nanos: AtomicU64::new(0),
            clients: Clients::default(),
            log: Desk::default(),
            seats,
        }
    }

    /// The edition that was published last.
    pub fn edition(&self) -> Arc<Edition> {
        unpoisoned(&self.edition).clone()
    }

    /// Has all workers take an edition over.
    pub fn publish(&self, edition: Edition) -> Arc<Edition> {
        let edition = Arc::new(edition);
        let before = std::mem::replace(&mut *unpoisoned(&self.edition), edition.clone());
        drop(before);
        self.seats.iter().for_each(Seat::wake);
        edition
    }

    /// True when every worker has taken this edition over (or a later one).
    pub fn is_taken(&self, number: u64) -> bool {
        self.seats.iter().all(|seat| seat.taken.load(Ordering::Acquire) >= number)
    }

    /// The workers that have not taken it over yet.
    pub fn untaken(&self, number: u64) -> Vec<WorkerId> {
        let seats = (0u32..).zip(&self.seats);
        seats.filter(|(_, seat)| seat.taken() < number).map(|(at, _)| WorkerId(at)).collect()
    }

    /// Asks every worker; each answers on its own thread within its next turn.
    pub fn ask(&self, ask: impl Fn(WorkerId) -> Ask) {
        for (at, seat) in (0u32..).zip(&self.seats) {
            unpoisoned(&seat.asks).push(ask(WorkerId(at)));
            seat.wake();
        }
    }

    /// Tells those who wait for a place in a pool of the current edition that more are free than were given back, or that
    /// nobody is left.
    pub fn wake_vacant(&self, pool: PoolId) {
        for waiter in self.edition().balancer.wake_vacant(pool, clock::now()) {
            self.seat(waiter.worker).mail(waiter.session);
        }
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

    /// How long a drain may take, if it is not as configured.
    pub fn drain_time(&self) -> Option<Duration> {
        let nanos = self.drain_nanos.load(Ordering::SeqCst);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    /// Sets how long a drain that begins from now on may take.
    pub fn set_drain_time(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.drain_nanos.store(nanos.max(1), Ordering::SeqCst);
    }

    /// True once the order to drain or to end came.
    pub fn is_draining(&self) -> bool {
        self.seats.iter().any(|seat| seat.orders() != Orders::Run)
    }

    /// A counter, summed over all workers.
    pub fn sum(&self, count: Count) -> u64 {
        let elsewhere = if count == Count::LogDropped { self.log.lost() } else { 0 };
        self.seats.iter().fold(elsewhere, |sum, seat| sum.wrapping_add(seat.counters.get(count)))
    }

    /// How often sessions or exchanges ended this way, over all workers.
    pub fn closed(&self, close: Close) -> u64 {
        self.seats.iter().map(|seat| seat.counters.closed(close)).sum()
    }
}

/// A question to a worker, with what becomes of its answer.
pub enum Ask {
    /// Its sessions, so many at most.
    Sessions(usize, Box<dyn FnOnce(Vec<SessionView>) + Send>),
    /// What shapes its SQL statements have, by block.
    Digests(Box<dyn FnOnce(Tables) + Send>),
    /// Second descriptors of its listening sockets.
    Doors(Box<dyn FnOnce(Vec<DoorCopy>) + Send>),
}

/// A second descriptor of a listening socket, with its address.
pub type DoorCopy = (Address, io::Result<OwnedFd>);

/// A session as it is now, for people.
#[derive(Clone, Debug)]
pub struct SessionView {
    /// Its worker.
    pub worker: WorkerId,
    /// Its id.
    pub id: SessionId,
    /// The address that it was accepted on.
    pub listener: String,
    /// How long it has lived.
    pub age: Duration,
    /// Its pool.
    pub pool: Option<String>,
    /// Its server.
    pub server: Option<String>,
    /// What the session itself tells.
    pub about: About,
}

/// What a worker is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Orders {
    /// Go on.
    Run = 0,
    /// Finish what is in progress; another process takes over what listens.
    Leave = 1,
    /// Finish what is in progress.
    Drain = 2,
    /// End at once.
    Kill = 3,
}

/// A worker as the others see it.
#[derive(Default)]
#[repr(align(128))]
pub struct Seat {
    /// Its counters.
    pub counters: Counters,
    /// Nanoseconds of processor time, as of its last second with work.
    busy: AtomicU64,
    orders: AtomicU8,
    /// The number of the edition that it works by.
    taken: AtomicU64,
    asks: Mutex<Vec<Ask>>,
    mail: Mutex<Vec<SessionId>>,
    waker: OnceLock<Arc<dyn Wake>>,
}

impl Seat {
    /// Processor time that the worker's thread used so far, as it told about once per second.
    pub fn busy(&self) -> Duration {
        Duration::from_nanos(self.busy.load(Ordering::Relaxed))
    }

    /// Notes the processor time that the worker's thread used so far.
    pub fn set_busy(&self, time: Duration) {
        self.busy.store(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

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

    /// Notes that the worker has taken an edition over.
    pub fn take(&self, number: u64) {
        self.taken.store(number, Ordering::Release);
    }

    /// The edition that the worker works by.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Acquire)
    }

    /// Takes the questions out.
    pub fn take_asks(&self) -> Vec<Ask> {
        std::mem::take(&mut unpoisoned(&self.asks))
    }

    /// What it is to do.
    pub fn orders(&self) -> Orders {
        match self.orders.load(Ordering::SeqCst) {
            0 => Orders::Run,
            1 => Orders::Leave,
            2 => Orders::Drain,
            _ => Orders::Kill,
        }
    }

    /// Has it look for mail, orders, questions and editions.
    pub fn wake(&self) {
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
