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
//!    request. One that warms up takes part as far as it is warm (see `warm.rs`), unless no other has a place. When all of them are full the request waits: [`Pick::Full`]. A backup is not an overflow.
//! 2. The backups, by the same rules, when there is no such primary at all.
//! 3. When every server is ejected there is nothing to gain from leaving them alone. Those that failed least often are
//!    then used as if they were well: a single server is never turned off by one refusal, and a site that comes back is
//!    back at once. Once they failed again after their first time (one second), one request per
//!    [`limits::EJECT_TRY_TIME`] still tries; the others get [`Pick::None`] and a 503 at once instead of waiting for
//!    a connection that will hardly stand.
//!
//! A server that its check found down, or that was taken out by an order, is not used by any of these rules: when no
//! other is left the answer is [`Pick::None`] at once.
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
mod warm;

use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;

use crate::clock::Moment;
use crate::close::Close;
use crate::config::model::{Balance, Config};
use crate::ids::{PoolId, ServerId};
#[cfg(doc)]
use crate::limits;

pub use health::{Admin, Ejection, Evidence, evidence};
pub use queue::{QueueFull, Waiter};

use health::Verdict;
use state::{Group, Member, Mode, Place, PoolState};

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
    /// Its check came to a verdict.
    pub checked: bool,
    /// Its check says that it does not work.
    pub down: bool,
    /// Attempts that failed, since it is known.
    pub failed: u64,
    /// Failures in a row; 0 when it is well.
    pub failures: u8,
    /// Until when it is left alone; a moment that is over means that it waits for its probe. `None` when it is well.
    pub ejected_until: Option<Moment>,
    /// Until when it gets less than its share. A moment that is over means nothing.
    pub warming_until: Option<Moment>,
}

impl ServerView {
    /// Its state in one word: `maint`, `drain`, `gone`, `down`, `ejected`, `warming` or `up`, the first that is true.
    pub fn state(&self, now: Moment) -> &'static str {
        match self.admin {
            Admin::Ready if self.down => "down",
            Admin::Ready if self.ejected_until.is_some() => "ejected",
            Admin::Ready if self.warming_until.is_some_and(|until| now < until) => "warming",
            Admin::Ready => "up",
            taken_out => taken_out.word(),
        }
    }
}

/// The state of all pools and servers, shared by all workers. See the module for the rules.
#[derive(Debug)]
pub struct Balancer {
    pools: Box<[PoolState]>,
    servers: Box<[Place]>,
    /// Which of a process it is, from 1.
    edition: u64,
    removed: next::Removed,
}

impl Balancer {
    /// The number of the edition that it belongs to.
    pub const fn edition(&self) -> u64 {
        self.edition
    }

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

    /// Something speaks against the server. If the rules of its pool say so, it is left alone for a while. To be called
    /// before its claim is released.
    pub fn struck(&self, server: ServerId, evidence: Evidence, now: Moment) -> Ejection {
        let place = &self.servers[server.index()];
        place.state.health.struck(evidence, now, &self.pools[place.pool.index()].eject)
    }

    /// An exchange with the server ended like this: [`Balancer::struck`] if that speaks against the server (see
    /// [`evidence`]). `fresh` is false for a connection that was kept.
    pub fn ended(&self, server: ServerId, close: Close, fresh: bool, now: Moment) -> Ejection {
        self.servers[server.index()].state.failed.fetch_add(1, Relaxed);
        self.struck(server, evidence(close, fresh), now)
    }

    /// True when answers with a status of 500 and above speak against the servers of a pool.
    pub fn minds_errors(&self, pool: PoolId) -> bool {
        self.pools[pool.index()].eject.error > 0
    }

    /// The server works: the first byte of an answer came (TCP: the connection stands). To be called before the claim
    /// is released. True when it was ejected and is back; then [`Balancer::wake_next`] is worth a call.
    pub fn worked(&self, server: ServerId, now: Moment) -> bool {
        let place = &self.servers[server.index()];
        place.state.health.worked(now, self.pools[place.pool.index()].slow_start)
    }

    /// The server's check came to a verdict. True when it is another one than before; a server without one counts as up.
    /// Then [`Balancer::wake_vacant`] of its pool is to be called: places are free, or nobody need wait any more.
    #[must_use]
    pub fn set_checked(&self, server: ServerId, up: bool, now: Moment) -> bool {
        let place = &self.servers[server.index()];
        place.state.checked.store(true, Relaxed);
        place.state.health.set_down(!up, now, self.pools[place.pool.index()].slow_start)
    }

    /// The server has no check any more: it is up, as far as that goes. The answer is that of [`Balancer::set_checked`].
    #[must_use]
    pub fn clear_checked(&self, server: ServerId, now: Moment) -> bool {
        let changed = self.set_checked(server, true, now);
        self.servers[server.index()].state.checked.store(false, Relaxed);
        changed
    }

    /// Takes an order for a server. To be followed by [`Balancer::wake_vacant`] of its pool.
    pub fn set_admin(&self, server: ServerId, admin: Admin, now: Moment) {
        let place = &self.servers[server.index()];
        place.state.health.set_admin(admin, now, self.pools[place.pool.index()].slow_start);
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

    /// Wakes as many as there are free places, or all of them when nobody can be used. Useful after changes that did not
    /// come from a request: a verdict of a check, an order, another configuration.
    #[must_use = "a waiter that is not woken waits until its time is over"]
    pub fn wake_vacant(&self, pool: PoolId, now: Moment) -> Vec<Waiter> {
        let pool = &self.pools[pool.index()];
        if !pool.shared.waits() {
            return Vec::new();
        }
        (0..self.vacant(pool, now)).map_while(|_| pool.shared.queue.wake()).collect()
    }

    /// How many sessions wait for a place in the pool, those included whose turn it is.
    pub fn waiting(&self, pool: PoolId) -> usize {
        self.pools[pool.index()].shared.waiting_now()
    }

    /// All servers as they are now, in the order of their ids.
    pub fn servers(&self) -> impl Iterator<Item = ServerView> + '_ {
        (0u32..).zip(&self.servers).map(|(id, server)| server.view(ServerId(id)))
    }

    /// A server as it is now.
    pub fn view(&self, server: ServerId) -> ServerView {
        self.servers[server.index()].view(server)
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
            let gentle = self.pick_among(pool, group, key, Mode::Gentle);
            if matches!(gentle, Pick::Server(_)) {
                return gentle;
            }
            match self.pick_cold(pool, group, key, gentle) {
                Pick::None => {}
                pick => return pick,
            }
        }
        self.pick_ejected(pool, key)
    }

    /// Nobody else has a place: servers that warm up are used whether they are warm or not.
    #[cold]
    fn pick_cold(&self, pool: &PoolState, group: &Group, key: &Key<'_>, gentle: Pick) -> Pick {
        let is_warming =
            |member: &Member| matches!(member.state.health.verdict(key.now), Verdict::Warming(_));
        if group.members.iter().any(is_warming) {
            return self.pick_among(pool, group, key, Mode::Well);
        }
        gentle
    }

    /// Nobody is well: see rule 3 of the module.
    #[cold]
    fn pick_ejected(&self, pool: &PoolState, key: &Key<'_>) -> Pick {
        let Some((group, failures)) = self.least_failed(pool, key.tried) else { return Pick::None };
        let mode = Mode::Ejected(failures);
        let has_place = |at: usize| self.in_flight(pool, group, at, key, mode).is_some();
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
            let load = |at: usize| self.in_flight(pool, group, at, key, mode);
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
                let full = (0..group.members.len()).any(|at| self.is_usable(pool, group, at, key, mode));
                return if full { Pick::Full } else { Pick::None };
            }
        }
    }

    fn is_usable(&self, pool: &PoolState, group: &Group, at: usize, key: &Key<'_>, mode: Mode) -> bool {
        let member = &group.members[at];
        !key.tried.contains(&member.server) && member.is_usable(group, pool, key, mode)
    }

    /// The load of a member that can be used and has a place.
    fn in_flight(
        &self,
        pool: &PoolState,
        group: &Group,
        at: usize,
        key: &Key<'_>,
        mode: Mode,
    ) -> Option<u32> {
        if self.is_usable(pool, group, at, key, mode) {
            group.members[at].state.load_below_max()
        } else {
            None
        }
    }

    /// Whether a pick would be answered with `Full`.
    fn is_full(&self, pool: &PoolState, now: Moment) -> bool {
        self.vacant(pool, now) == 0
    }

    /// Picks that would not be answered with `Full`: so many places are free, or all picks when nobody can be used.
    fn vacant(&self, pool: &PoolState, now: Moment) -> usize {
        let key = Key { client: None, tried: &[], now, chance: 0, turn: true };
        let places = |group: &Group, mode| {
            let usable = |member: &&Member| member.is_usable(group, pool, &key, mode);
            let places = group.members.iter().filter(usable).map(|member| member.state.vacant());
            places.reduce(usize::saturating_add)
        };
        let ejected = || {
            let (group, failures) = self.least_failed(pool, &[])?;
            places(group, Mode::Ejected(failures))
        };
        pool.groups.iter().find_map(|group| places(group, Mode::Well)).or_else(ejected).unwrap_or(usize::MAX)
    }
}
