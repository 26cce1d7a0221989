//! Balancing: which server of a pool gets a request, over all workers together.
//!
//! What goes in: a pool, a client's address, the time and random bits; afterwards how it went. What comes out: a claim
//! on a server. It owns the state that workers share: one line of atomics per server (load, health) and one per pool
//! (counter, waiters, retry budget). It does no I/O and reads no clock. Always true: a [`Claim`] is one request in
//! flight at its server, given back exactly once; no server ever has more in flight than its `connections_max`; a
//! pick and its release neither allocate nor lock, unless somebody waits in the pool's queue.
//!
//! Who can be used, in this order:
//!
//! 1. The primaries, those with a weight that are well (or due for a probe, see `health.rs`) and were not tried by this
//!    request. When all of them are full the request waits: [`Pick::Full`]. A backup is not an overflow.
//! 2. The backups, by the same rules, when there is no such primary at all.
//! 3. When every server is ejected there is nothing to gain from leaving them alone. Those that failed least often are
//!    then used as if they were well: a single server is never turned off by one refusal, and a site that comes back is
//!    back at once. Once they failed again after their first time (one second), one request per
//!    [`limits::EJECT_TRY_TIME`] still tries; the others get [`Pick::None`] and a 503 at once instead of waiting for
//!    a connection that will hardly stand.
//!
//! How one of those is chosen is the business of `robin.rs`, `least.rs`, `hash.rs` and `two.rs`. With `IpHash` the
//! clients of a full server go to their second choice.
//!
//! Weights and membership are fixed for the life of a `Balancer`. To change them while running, [`Balancer::next`] builds
//! one for the new configuration that shares the state of servers and pools which are in both, and each worker takes it
//! over between two turns. A claim may be given back through either, under the id that its server has there.

mod hash;
mod health;
mod least;
mod next;
mod queue;
mod retry;
mod robin;
mod state;
#[cfg(test)]
mod tests;
mod two;

use std::net::IpAddr;

use crate::clock::Moment;
use crate::close::Close;
use crate::config::model::{Balance, Config};
use crate::ids::{PoolId, ServerId};
#[cfg(doc)]
use crate::limits;

pub use health::{Admin, Ejection, Evidence, evidence};
pub use queue::{QueueFull, Waiter};

use health::Verdict;
use state::{Group, Mode, Place, PoolState};

/// What a choice depends on.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// The client's address; `None` for a Unix socket.
    pub client: Option<IpAddr>,
    /// Servers that this request was sent to already: they are not picked again.
    pub tried: &'a [ServerId],
    /// The time.
    pub now: Moment,
    /// Random bits, for `RandomTwo`.
    pub chance: u64,
    /// The caller was woken from the pool's queue: it does not stand behind those who wait. It takes even a server it
    /// tried before rather than wait for another.
    pub turn: bool,
}

/// The answer to [`Balancer::pick`].
#[derive(Debug)]
#[must_use]
pub enum Pick {
    /// A place at this server.
    Server(Claim),
    /// There are servers that can be used, but all are at `connections_max`, or others wait already: wait in the queue.
    Full,
    /// Nobody can be used.
    None,
}

/// One request (TCP: connection) in flight at a server. To be given back with [`Balancer::release`], exactly once.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a claim that is not released occupies its place forever"]
pub struct Claim {
    /// The server.
    pub server: ServerId,
    /// This request finds out whether the server is back.
    pub probe: bool,
    /// Names the probe.
    word: u64,
}

impl Claim {
    /// The same server has this id in the balancer through which the claim is given back.
    pub const fn moved_to(&mut self, server: ServerId) {
        self.server = server;
    }
}

/// A server as it is now, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerView {
    /// Which.
    pub server: ServerId,
    /// Its pool.
    pub pool: PoolId,
    /// Its configured weight.
    pub weight: u32,
    /// Whether it may get anything at all.
    pub admin: Admin,
    /// Requests in flight.
    pub in_flight: u32,
    /// Failures in a row; 0 when it is well.
    pub failures: u8,
    /// Until when it is left alone; a moment that is over means that it waits for its probe. `None` when it is well.
    pub ejected_until: Option<Moment>,
}

/// The state of all pools and servers, shared by all workers. See the module for the rules.
#[derive(Debug)]
pub struct Balancer {
    pools: Box<[PoolState]>,
    servers: Box<[Place]>,
}

impl Balancer {
    /// Builds the state: nobody has load, everybody is well.
    pub fn new(config: &Config) -> Self {
        Self::next(None, config)
    }

    /// Chooses a server of `pool` and takes a place at it.
    pub fn pick(&self, pool: PoolId, key: &Key<'_>) -> Pick {
        let pool = &self.pools[pool.index()];
        if key.turn {
            return self.pick_turn(pool, key);
        }
        if pool.shared.waits() { Pick::Full } else { self.pick_any(pool, key) }
    }

    /// Gives a place back. The answer is the session that must be woken, if one waits.
    #[must_use = "a waiter that is not woken waits until its time is over"]
    pub fn release(&self, claim: Claim) -> Option<Waiter> {
        let server = &self.servers[claim.server.index()];
        if claim.probe {
            server.state.health.unprobe(claim.word);
        }
        server.state.leave();
        let pool = &self.pools[server.pool.index()];
        if pool.shared.waits() { pool.shared.queue.wake() } else { None }
    }

    /// The server could not be reached: it is left alone for a while.
    pub fn failed(&self, server: ServerId, now: Moment) -> Ejection {
        self.servers[server.index()].state.health.failed(now)
    }

    /// An exchange with the server ended like this: [`Balancer::failed`] if that speaks against the server (see
    /// [`evidence`]). To be called before its claim is released. `fresh` is false for a connection that was kept.
    pub fn ended(&self, server: ServerId, close: Close, fresh: bool, now: Moment) -> Ejection {
        let health = &self.servers[server.index()].state.health;
        match evidence(close, fresh) {
            Evidence::Nothing => Ejection::No,
            Evidence::Suspicious => health.closed_early(now),
            Evidence::Unreachable => health.failed(now),
        }
    }

    /// The server works: the first byte of an answer came (TCP: the connection stands). To be called before the claim
    /// is released. True when it was ejected and is back; then [`Balancer::wake_next`] is worth a call.
    pub fn worked(&self, server: ServerId, now: Moment) -> bool {
        self.servers[server.index()].state.health.worked(now)
    }

    /// Takes an order for a server. To be followed by [`Balancer::wake_next`] of its pool, until that answers `None`.
    pub fn set_admin(&self, server: ServerId, admin: Admin) {
        self.servers[server.index()].state.health.set_admin(admin);
    }

    /// Counts a request of the pool (once, not per attempt) for its retry budget.
    pub fn note_request(&self, pool: PoolId, now: Moment) {
        self.pools[pool.index()].shared.budget.note_request(now);
    }

    /// Takes one retry out of the pool's budget. False: the request fails with what it has.
    #[must_use]
    pub fn may_retry(&self, pool: PoolId, now: Moment) -> bool {
        self.pools[pool.index()].shared.budget.may_retry(now)
    }

    /// Waits in the pool's queue after [`Pick::Full`].
    ///
    /// The answer is a session that must be woken now, because a place came free between the pick and this call: the
    /// first in the queue, which may be the caller itself. A woken session picks with `turn`. Then it is out of the
    /// queue if it got a server, must call [`Balancer::requeue_front`] after `Full`, or [`Balancer::abandon`] after
    /// `None`.
    pub fn enqueue(&self, pool: PoolId, waiter: Waiter, now: Moment) -> Result<Option<Waiter>, QueueFull> {
        let pool = &self.pools[pool.index()];
        pool.shared.queue.enqueue(&pool.shared.waiting, pool.queue_max, waiter, || !self.is_full(pool, now))
    }

    /// True when the turn of this waiter has not come: news of a turn is then late, meant for an earlier wait of the same
    /// session, which passed that turn on when it left.
    pub fn waits(&self, pool: PoolId, waiter: Waiter) -> bool {
        self.pools[pool.index()].shared.queue.has(waiter)
    }

    /// Goes back to the front after a turn that found no place. The answer must be woken, as with
    /// [`Balancer::enqueue`].
    #[must_use = "a waiter that is not woken waits until its time is over"]
    pub fn requeue_front(&self, pool: PoolId, waiter: Waiter, now: Moment) -> Option<Waiter> {
        let pool = &self.pools[pool.index()];
        pool.shared.queue.requeue_front(&pool.shared.waiting, waiter, || !self.is_full(pool, now))
    }

    /// Leaves the queue: the time is over, the client is gone, or the turn found nobody who can be used. To be called
    /// exactly once by whoever was enqueued and did not get a server. The answer must be woken: it inherits the turn.
    #[must_use = "a waiter that is not woken waits until its time is over"]
    pub fn abandon(&self, pool: PoolId, waiter: Waiter) -> Option<Waiter> {
        let pool = &self.pools[pool.index()];
        pool.shared.queue.abandon(&pool.shared.waiting, waiter)
    }

    /// Wakes one more if somebody waits although a place is free. Useful after a turn that got a server and after a
    /// server came back: then more places may be free than were given back.
    #[must_use = "a waiter that is not woken waits until its time is over"]
    pub fn wake_next(&self, pool: PoolId, now: Moment) -> Option<Waiter> {
        let pool = &self.pools[pool.index()];
        if pool.shared.waits() && !self.is_full(pool, now) { pool.shared.queue.wake() } else { None }
    }

    /// How many sessions wait for a place in the pool, those included whose turn it is.
    pub fn waiting(&self, pool: PoolId) -> usize {
        self.pools[pool.index()].shared.waiting_now()
    }

    /// All servers as they are now, in the order of their ids.
    pub fn servers(&self) -> impl Iterator<Item = ServerView> + '_ {
        (0u32..).zip(&self.servers).map(|(id, server)| server.view(ServerId(id)))
    }

    /// A woken session picks. What it tried before is only its second choice, but one: else the place that it was woken
    /// for would stay free, and everybody behind it would wait.
    #[cold]
    fn pick_turn(&self, pool: &PoolState, key: &Key<'_>) -> Pick {
        let mut pick = self.pick_any(pool, key);
        if matches!(pick, Pick::Full) && !key.tried.is_empty() {
            pick = self.pick_any(pool, &Key { tried: &[], ..*key });
        }
        if matches!(pick, Pick::Server(_)) {
            pool.shared.queue.end_turn(&pool.shared.waiting);
        }
        pick
    }

    fn pick_any(&self, pool: &PoolState, key: &Key<'_>) -> Pick {
        for group in &pool.groups {
            match self.pick_among(pool, group, key, Mode::Well) {
                Pick::None => {}
                pick => return pick,
            }
        }
        self.pick_ejected(pool, key)
    }

    /// Nobody is well: see rule 3 of the module.
    #[cold]
    fn pick_ejected(&self, pool: &PoolState, key: &Key<'_>) -> Pick {
        let Some((group, failures)) = self.least_failed(pool, key.tried) else { return Pick::None };
        let mode = Mode::Ejected(failures);
        let has_place = |at: usize| self.in_flight(group, at, key, mode).is_some();
        if failures > 1 && (0..group.members.len()).any(has_place) && !pool.shared.may_try(key.now) {
            return Pick::None;
        }
        match self.pick_among(pool, group, key, mode) {
            // Another worker's verdict came in between: its news is at most a moment old, so look once more.
            Pick::None => pool
                .groups
                .iter()
                .map(|group| self.pick_among(pool, group, key, Mode::Well))
                .find(|pick| !matches!(pick, Pick::None))
                .unwrap_or(Pick::None),
            pick => pick,
        }
    }

    /// The fewest failures in a row among ejected servers, and the group that has them (primaries first).
    fn least_failed<'p>(&self, pool: &'p PoolState, tried: &[ServerId]) -> Option<(&'p Group, u8)> {
        let of_group = |group: &'p Group| {
            let members = group.members.iter().filter(|member| !tried.contains(&member.server));
            let failures = members.filter_map(|member| member.state.health.ejected_in_use());
            failures.min().map(|failures| (group, failures))
        };
        pool.groups.iter().filter_map(of_group).min_by_key(|(_, failures)| *failures)
    }

    /// Chooses by the pool's rule and takes the place. Each repetition means that another worker changed the chosen
    /// server between the look and the claim, that is, got ahead.
    fn pick_among(&self, pool: &PoolState, group: &Group, key: &Key<'_>, mode: Mode) -> Pick {
        loop {
            let load = |at: usize| self.in_flight(group, at, key, mode);
            let fits = |at: usize| load(at).is_some();
            let tickets = pool.shared.tickets(group.backup);
            let chosen = match pool.balance {
                Balance::RoundRobin => robin::next(group, tickets, fits).map(|at| (at, None)),
                Balance::LeastConnections => {
                    least::choose(group, tickets, load).map(|(at, load)| (at, Some(load)))
                }
                Balance::IpHash => hash::choose(group, key.client, fits).map(|at| (at, None)),
                Balance::RandomTwo => two::choose(group, key.chance, load).map(|at| (at, None)),
            };
            if let Some((at, seen)) = chosen {
                let member = &group.members[at];
                match member.state.claim(seen, key.now, mode) {
                    Some((probe, word)) => return Pick::Server(Claim { server: member.server, probe, word }),
                    None => continue,
                }
            }
            if !(0..group.members.len()).any(fits) {
                let full = (0..group.members.len()).any(|at| self.is_usable(group, at, key, mode));
                return if full { Pick::Full } else { Pick::None };
            }
        }
    }

    fn is_usable(&self, group: &Group, at: usize, key: &Key<'_>, mode: Mode) -> bool {
        let member = &group.members[at];
        !key.tried.contains(&member.server) && member.state.is_usable(key.now, mode)
    }

    /// The load of a member that can be used and has a place.
    fn in_flight(&self, group: &Group, at: usize, key: &Key<'_>, mode: Mode) -> Option<u32> {
        if self.is_usable(group, at, key, mode) { group.members[at].state.load_below_max() } else { None }
    }

    /// Whether a pick would be answered with `Full`.
    fn is_full(&self, pool: &PoolState, now: Moment) -> bool {
        let key = Key { client: None, tried: &[], now, chance: 0, turn: true };
        let full = |group: &Group, mode| {
            let usable = |at: &usize| self.is_usable(group, *at, &key, mode);
            let mut members = (0..group.members.len()).filter(usable).peekable();
            members.peek()?;
            Some(members.all(|at| self.in_flight(group, at, &key, mode).is_none()))
        };
        let ejected = || {
            let (group, failures) = self.least_failed(pool, &[])?;
            full(group, Mode::Ejected(failures))
        };
        pool.groups.iter().find_map(|group| full(group, Mode::Well)).or_else(ejected).unwrap_or(false)
    }
}
