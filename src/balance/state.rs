//! What workers share: the state of a server, the state of a pool, and the lists that a choice is made from.
//!
//! What goes in: a pool's configuration; claims and their ends. What comes out: load and places. It owns the counts.
//! Always true: `in_flight` of a server never exceeds its `in_flight_max`, not even for a moment (a place is taken by
//! compare-exchange, never taken and given back), so whoever sees a full server sees places that will be released and
//! wake a waiter.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

use super::health::Health;
use super::queue::Queue;
use super::retry::Budget;
use super::{Admin, Key, ServerView, Verdict, hash, robin, warm};
use crate::clock::Moment;
use crate::config::model::{Balance, Eject, Pool, Server};
use crate::ids::{PoolId, ServerId};
use crate::limits;

/// Which servers a choice is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Those that are well or due for a probe, and those that warm up as far as they are warm.
    Gentle,
    /// The same, whether they are warm or not.
    Well,
    /// Those that are ejected and failed so often in a row.
    Ejected(u8),
}

/// A server, on cache lines of its own (two: processors fetch them in pairs). It outlives the balancer that made it
/// when the next one has the same server.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct ServerState {
    in_flight: AtomicU32,
    /// Most in flight; `u32::MAX` is no limit.
    in_flight_max: AtomicU32,
    pub(super) health: Health,
    /// Its check came to a verdict.
    pub(super) checked: AtomicBool,
    /// Attempts that failed there.
    pub(super) failed: AtomicU64,
}

impl Default for ServerState {
    fn default() -> Self {
        Self {
            in_flight: AtomicU32::new(0),
            in_flight_max: AtomicU32::new(u32::MAX),
            health: Health::default(),
            checked: AtomicBool::new(false),
            failed: AtomicU64::new(0),
        }
    }
}

impl ServerState {
    /// Takes over the limit of a configuration. Where more are in flight, places are free again when that many have left.
    pub(super) fn limit(&self, server: &Server) {
        let max = if server.connections_max == 0 { u32::MAX } else { server.connections_max };
        self.in_flight_max.store(max, SeqCst);
    }

    /// Requests in flight; `None` when there is no place for one more.
    pub(super) fn load_below_max(&self) -> Option<u32> {
        let in_flight = self.in_flight.load(SeqCst);
        (in_flight < self.in_flight_max.load(Relaxed)).then_some(in_flight)
    }

    /// Nothing is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.load(Relaxed) == 0
    }

    /// Free places.
    pub(super) fn vacant(&self) -> usize {
        self.in_flight_max.load(Relaxed).saturating_sub(self.in_flight.load(SeqCst)) as usize
    }

    /// Takes a place, and the probe if it is due. With `seen`, only if the load is still that one.
    ///
    /// The answer says whether this is the probe, and its name. `None` when another worker was faster.
    pub(super) fn claim(&self, seen: Option<u32>, now: Moment, mode: Mode) -> Option<(bool, u64)> {
        let mut probe = None;
        match (mode, self.health.verdict(now)) {
            (Mode::Ejected(_), _) => self.health.try_anyway(),
            (_, Verdict::Well | Verdict::Warming(_)) => {}
            _ => probe = Some(self.health.probe(now)?),
        }
        if self.enter(seen) {
            return Some((probe.is_some(), probe.unwrap_or(0)));
        }
        if let Some(probe) = probe {
            self.health.unprobe(probe);
        }
        None
    }

    fn enter(&self, seen: Option<u32>) -> bool {
        if let Some(seen) = seen {
            return self.in_flight.compare_exchange(seen, seen + 1, SeqCst, SeqCst).is_ok();
        }
        let max = self.in_flight_max.load(Relaxed);
        if max == u32::MAX {
            self.in_flight.fetch_add(1, SeqCst);
            return true;
        }
        let below = |in_flight: u32| (in_flight < max).then(|| in_flight + 1);
        self.in_flight.fetch_update(SeqCst, SeqCst, below).is_ok()
    }

    /// Gives a place back.
    pub(super) fn leave(&self) {
        let before = self.in_flight.fetch_sub(1, SeqCst);
        debug_assert!(before > 0, "a claim was released twice");
    }
}

/// A server as one configuration has it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) state: Arc<ServerState>,
    pub(super) pool: PoolId,
    weight: u32,
}

impl Place {
    pub(super) fn new(server: &Server, state: Arc<ServerState>) -> Self {
        Self { state, pool: server.pool, weight: server.weight }
    }

    pub(super) fn view(&self, server: ServerId) -> ServerView {
        let mut view = ServerView {
            server,
            pool: self.pool,
            weight: self.weight,
            admin: Admin::Ready,
            in_flight: self.state.in_flight.load(Relaxed),
            checked: self.state.checked.load(Relaxed),
            failed: self.state.failed.load(Relaxed),
            down: false,
            failures: 0,
            ejected_until: None,
            warming_until: None,
        };
        self.state.health.show(&mut view);
        view
    }
}

/// A server as a member of a group.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) server: ServerId,
    pub(super) state: Arc<ServerState>,
    /// Its weight, never 0: servers without weight are members of no group.
    pub(super) weight: u32,
    /// Its number for the consistent hash.
    pub(super) seed: u64,
}

impl Member {
    /// True when the member of a pool may be used.
    pub(super) fn is_usable(&self, group: &Group, pool: &PoolState, key: &Key<'_>, mode: Mode) -> bool {
        if let Mode::Ejected(failures) = mode {
            return self.state.health.ejected_in_use() == Some(failures);
        }
        match self.state.health.verdict(key.now) {
            Verdict::Well | Verdict::Due => true,
            Verdict::Warming(until) => mode == Mode::Well || warm::admits(self, until, group, pool, key),
            Verdict::Ejected => false,
        }
    }
}

/// The primaries or the backups of a pool.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) members: Box<[Member]>,
    /// The turns of the members, see `robin.rs`.
    pub(super) order: Box<[u32]>,
    /// All weights are equal.
    pub(super) equal: bool,
    /// The sum of all weights.
    pub(super) weights: u64,
    pub(super) backup: bool,
}

impl Group {
    fn new(pool: &Pool, servers: &[Server], places: &[Place], backup: bool) -> Self {
        let mut members: Vec<Member> = Vec::new();
        for id in &pool.servers {
            let server = &servers[id.index()];
            if server.backup == backup && (server.weight > 0 || pool.by_role) {
                let same = |member: &&Member| servers[member.server.index()].address == server.address;
                let twin = members.iter().filter(same).count() as u64;
                let seed = hash::server_seed(&server.address, twin);
                let state = Arc::clone(&places[id.index()].state);
                members.push(Member { server: *id, state, weight: server.weight.max(1), seed });
            }
        }
        Self::of_members(members, backup)
    }

    fn of_members(members: Vec<Member>, backup: bool) -> Self {
        let weights: Vec<u32> = members.iter().map(|member| member.weight).collect();
        Self {
            members: members.into(),
            order: robin::schedule(&weights),
            weights: weights.iter().copied().map(u64::from).sum(),
            equal: weights.windows(2).all(|pair| pair[0] == pair[1]),
            backup,
        }
    }

    /// A group for tests of one rule alone.
    #[cfg(test)]
    pub(super) fn of_weights(weights: &[u32]) -> Self {
        let member = |(id, weight): (u32, &u32)| Member {
            server: ServerId(id),
            state: Arc::new(ServerState::default()),
            weight: *weight,
            seed: hash::mix(u64::from(id)),
        };
        Self::of_members((0u32..).zip(weights).map(member).collect(), false)
    }
}

/// A pool as one configuration has it.
#[derive(Debug)]
pub(super) struct PoolState {
    pub(super) balance: Balance,
    /// Primaries, backups.
    pub(super) groups: [Group; 2],
    /// Most waiters of the queue.
    pub(super) queue_max: usize,
    /// Which failures eject.
    pub(super) eject: Eject,
    /// How long servers warm up.
    pub(super) slow_start: Duration,
    pub(super) shared: Arc<Shared>,
}

/// What all workers write of a pool, on cache lines of its own. It outlives the balancer that made it when the next one
/// has a pool of the same name.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Shared {
    /// Tickets of primaries, tickets of backups.
    tickets: [AtomicU64; 2],
    /// Sessions that wait for a place, see `queue.rs`.
    pub(super) waiting: AtomicUsize,
    pub(super) queue: Queue,
    /// When the next request may try a server although all are ejected.
    try_at: AtomicU64,
    pub(super) budget: Budget,
}

impl PoolState {
    pub(super) fn new(pool: &Pool, servers: &[Server], places: &[Place], shared: Arc<Shared>) -> Self {
        Self {
            balance: pool.balance,
            groups: [false, true].map(|backup| Group::new(pool, servers, places, backup)),
            queue_max: pool.queue_max,
            eject: pool.health.eject,
            slow_start: pool.health.slow_start,
            shared,
        }
    }
}

impl Shared {
    pub(super) fn tickets(&self, backup: bool) -> &AtomicU64 {
        &self.tickets[usize::from(backup)]
    }

    pub(super) fn waits(&self) -> bool {
        self.waiting.load(SeqCst) > 0
    }

    pub(super) fn waiting_now(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Takes the permission of this span to try an ejected server.
    pub(super) fn may_try(&self, now: Moment) -> bool {
        let at = self.try_at.load(Relaxed);
        let next = (now + limits::EJECT_TRY_TIME).0;
        now.0 >= at && self.try_at.compare_exchange(at, next, Relaxed, Relaxed).is_ok()
    }
}
