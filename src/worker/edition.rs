//! Editions: a configuration at work. A reload, a weight that is changed, a name that resolves differently: each is a new
//! edition, which the workers take over whole.
//!
//! What goes in: the edition before and a configuration. What comes out: what workers need of it, and for each worker
//! which of its sessions live by which edition. It owns: the balancer (whose states of servers and pools are shared with
//! the edition before), and listening sockets that were opened for it until the workers fetch them. Always true: what
//! cannot be had (an address that is taken) is found out before an edition is published; a session lives by one edition
//! at a time, and old editions go when their last session does.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use crate::balance::Balancer;
use crate::clock;
use crate::cluster::Cluster;
use crate::config::model::{Config, Listener};
use crate::ids::{ListenerId, PoolId, WorkerId};
use crate::limits::{BACKLOG_MAX, TAKEN_TIME};
use crate::meters::Meters;
use crate::net::Address;
use crate::ring::{self, Door, ListenOptions};
use crate::session::moves::Moves;

/// A configuration at work.
pub struct Edition {
    /// Counts the editions of a process, from 1.
    pub number: u64,
    /// The configuration.
    pub config: Arc<Config>,
    /// Who takes the next request.
    pub balancer: Balancer,
    /// What is known of the servers of `[sql]` blocks, by block.
    pub clusters: Vec<Arc<Cluster>>,
    /// What is measured.
    pub meters: Meters,
    /// Those that no worker has fetched yet.
    doors: Mutex<DoorMap>,
}

type DoorMap = HashMap<(WorkerId, ListenerId), Vec<Door>>;

/// Listening sockets for workers.
#[derive(Debug, Default)]
pub struct Doors(DoorMap);

/// Sockets that listen already, by address: handed over by the service manager or by the process before.
pub type Inherited = Vec<(Address, OwnedFd)>;

impl Edition {
    /// The first of a process with so many workers. They open the listening sockets that `doors` does not have.
    pub fn first(config: Arc<Config>, workers: usize, doors: Doors) -> Self {
        let balancer = Balancer::next(None, &config);
        let clusters = Cluster::all(None, &config);
        let meters = Meters::new(&config, workers);
        Self { number: 1, config, balancer, clusters, meters, doors: Mutex::new(doors.0) }
    }

    /// Requests, or clients of an SQL block, that wait for a place at a server of a pool.
    pub fn waiting(&self, pool: PoolId) -> usize {
        let blocks = self.config.sql.iter().zip(&self.clusters).filter(|(block, _)| block.pool == pool);
        let lobbies = blocks.map(|(_, cluster)| cluster.lobby(0).len() + cluster.lobby(1).len());
        self.balancer.waiting(pool) + lobbies.sum::<usize>()
    }

    /// The one after `self`: what both configurations have keeps its load and health, and servers that it does not have
    /// get nothing new from now on.
    pub fn next(&self, config: Arc<Config>, doors: Doors) -> Self {
        let balancer = Balancer::next(Some((&self.config, &self.balancer)), &config);
        let clusters = Cluster::all(Some((&self.config, &self.clusters)), &config);
        let meters = self.meters.next(&self.config, &config);
        Self { number: self.number + 1, config, balancer, clusters, meters, doors: Mutex::new(doors.0) }
    }

    /// The sockets that were opened for a worker.
    pub fn take_doors(&self, worker: WorkerId, listener: ListenerId) -> Vec<Door> {
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        doors.remove(&(worker, listener)).unwrap_or_default()
    }
}

impl Doors {
    /// Opens the listening sockets that `before` does not have, one for each of so many workers, `inherited` ones first.
    /// Errors: what the kernel refuses, with advice; then nothing listens that did not before.
    pub fn open(
        config: &Config,
        before: Option<&Config>,
        workers: usize,
        inherited: &Inherited,
    ) -> io::Result<Self> {
        let open = |one: &Listener| {
            let mut before = before.iter().flat_map(|before| &before.listeners);
            before.any(|other| other.address == one.address && other.v6only == one.v6only)
        };
        let own = |one: &Listener| {
            let before = before.iter().flat_map(|before| &before.listeners).map(|other| &other.address);
            let mut own = before.chain(inherited.iter().map(|(address, _)| address));
            own.any(|other| overlap(other, &one.address))
        };
        let new = || (0u32..).zip(&config.listeners).filter(|(_, listener)| !open(listener));
        // All of them before the first is opened: listeners of one file do not hinder each other.
        let until = clock::now() + TAKEN_TIME;
        for (_, listener) in new().filter(|(_, listener)| !own(listener)) {
            ring::check_free(&listener.address, listener.v6only, until)?;
        }
        let mut doors = DoorMap::new();
        for (at, listener) in new() {
            let handed: Vec<&OwnedFd> = inherited
                .iter()
                .filter(|(address, _)| *address == listener.address)
                .map(|(_, fd)| fd)
                .collect();
            // Every socket has a worker, and every worker a socket: with fewer of them, workers share one.
            for turn in 0..handed.len().max(workers) {
                let door = match handed.get(turn % handed.len().max(1)) {
                    Some(fd) => Door::adopt(&listener.address, fd.try_clone()?)?,
                    None => Door::open(&listener.address, &options(listener))?,
                };
                let worker = WorkerId(u32::try_from(turn % workers).unwrap_or(0));
                doors.entry((worker, ListenerId(at))).or_default().push(door);
            }
        }
        Ok(Self(doors))
    }
}

/// True if two sockets would hear from the same clients.
fn overlap(one: &Address, other: &Address) -> bool {
    match (one, other) {
        (Address::Tcp(one), Address::Tcp(other)) => {
            let everywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
            one.port() == other.port() && (everywhere || one.ip() == other.ip())
        }
        _ => one == other,
    }
}

/// How a listener listens.
pub fn options(listener: &Listener) -> ListenOptions {
    ListenOptions { v6only: listener.v6only, backlog: BACKLOG_MAX }
}

/// Which edition of a worker's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EditionSlot(u32);

/// The editions that a worker's sessions live by.
pub struct Editions {
    slots: Vec<Option<Held>>,
    current: EditionSlot,
}

struct Held {
    edition: Arc<Edition>,
    /// Sessions that live by it, and listeners that are being closed: connections may still come from them.
    users: usize,
    /// From it to the current one; `None` for the current one.
    moves: Option<Moves>,
}

impl Editions {
    /// With one edition.
    pub fn new(edition: Arc<Edition>) -> Self {
        let held = Held { edition, users: 0, moves: None };
        Self { slots: vec![Some(held)], current: EditionSlot(0) }
    }

    /// The one that new sessions live by.
    pub const fn current(&self) -> EditionSlot {
        self.current
    }

    /// An edition of the list.
    ///
    /// # Panics
    /// If no session lives by it any more.
    pub fn get(&self, slot: EditionSlot) -> &Arc<Edition> {
        let held = self.slots[slot.0 as usize].as_ref();
        #[allow(clippy::expect_used)]
        &held.expect("an edition outlives its sessions").edition
    }

    /// From an edition to the current one; `None` for the current one itself.
    pub fn moves(&self, slot: EditionSlot) -> Option<&Moves> {
        self.slots[slot.0 as usize].as_ref()?.moves.as_ref()
    }

    /// Another session lives by this edition, or a listener that is being closed.
    pub fn enter(&mut self, slot: EditionSlot) {
        if let Some(held) = &mut self.slots[slot.0 as usize] {
            held.users += 1;
        }
    }

    /// One of those does not live by this edition any more.
    pub fn leave(&mut self, slot: EditionSlot) {
        if let Some(held) = &mut self.slots[slot.0 as usize] {
            held.users -= 1;
            if held.users == 0 && slot != self.current {
                self.slots[slot.0 as usize] = None;
            }
        }
    }

    /// Takes a new edition over as the current one.
    pub fn take(&mut self, edition: Arc<Edition>) {
        for held in self.slots.iter_mut().flatten() {
            held.moves = Some(Moves::between(&held.edition.config, &edition.config));
        }
        let held = Held { edition, users: 0, moves: None };
        let free = self.slots.iter().position(Option::is_none);
        let at = free.unwrap_or(self.slots.len());
        if free.is_none() {
            self.slots.push(None);
        }
        self.slots[at] = Some(held);
        self.current = EditionSlot(u32::try_from(at).unwrap_or(0));
    }

    /// Lets go of editions that nobody needs any more.
    pub fn sweep(&mut self) {
        for (at, slot) in self.slots.iter_mut().enumerate() {
            if at != self.current.0 as usize && slot.as_ref().is_some_and(|held| held.users == 0) {
                *slot = None;
            }
        }
    }

    /// How many are held.
    pub fn held(&self) -> usize {
        self.slots.iter().flatten().count()
    }
}
