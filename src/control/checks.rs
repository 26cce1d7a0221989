//! Active checks: every server whose pool wants it is asked again and again whether it works.
//!
//! What goes in: editions. What comes out: verdicts for the balancer, a line of the log for each change, what people want
//! to know about the last check. It owns: a task per server with a check, and its counts. Always true: a server whose
//! configuration stays keeps its counts over reloads; checks are spread over time, the first one of a server comes within
//! [`CHECK_FIRST_TIME`] and all others on its own place within the interval; at most [`CHECKS_MAX`] are under way.
//!
//! A server counts as up until `fall` checks in a row failed, also at the start; then `rise` in a row must succeed.

pub(super) mod ask;
mod mysql;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use crate::balance::Admin;
use crate::clock;
use crate::config::model::{Check, Config};
use crate::ids::ServerId;
use crate::limits::{CHECK_FIRST_TIME, CHECKS_MAX};
use crate::net::Address;
use crate::worker::edition::Edition;
use crate::worker::shared::Shared;

use ask::Plan;

/// What the last check of a server said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckView {
    /// Whether it succeeded; `None` before the first one.
    pub ok: Option<bool>,
    /// What there is to say, such as `200 in 1.2 ms` or `connection refused`.
    pub text: String,
    /// When it ended.
    pub at: Option<SystemTime>,
    /// Failed checks in a row.
    pub failures: u32,
}

impl CheckView {
    /// The word of the admin interface.
    pub const fn result(&self) -> &'static str {
        match self.ok {
            None => "none",
            Some(true) => "ok",
            Some(false) => "failed",
        }
    }
}

/// What was counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckCounts {
    /// Checks that ended.
    pub done: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Times that a server went down.
    pub went_down: u64,
    /// Times that a server came up again.
    pub came_up: u64,
}

/// By what a server is known from edition to edition: its pool, its name, its address.
type Known = (String, String, Address);

/// All checks.
pub struct Checks {
    shared: Arc<Shared>,
    watched: HashMap<Known, Rc<Watched>>,
    places: Rc<Semaphore>,
    counts: Rc<Cell<CheckCounts>>,
}

/// A server with a check.
struct Watched {
    /// Pool and server for people.
    title: String,
    /// What is asked; replaced when the configuration changes.
    plan: RefCell<Rc<Plan>>,
    /// Its id in the current edition.
    server: Cell<ServerId>,
    view: RefCell<CheckView>,
    successes: Cell<u32>,
    is_down: Cell<bool>,
    task: RefCell<Option<AbortHandle>>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Checks {
    /// None yet.
    pub fn new(shared: Arc<Shared>) -> Self {
        let places = Rc::new(Semaphore::new(CHECKS_MAX));
        Self { shared, watched: HashMap::new(), places, counts: Rc::default() }
    }

    /// Begins to check servers that are new in an edition, and stops with those that it does not have. To be called in the
    /// same breath as the edition is published, within a `LocalSet`.
    pub fn follow(&mut self, edition: &Edition) {
        let mut before = std::mem::take(&mut self.watched);
        for (at, server) in (0u32..).zip(&edition.config.servers) {
            let pool = &edition.config.pools[server.pool.index()];
            let Some(check) = pool.health.check.as_ref().filter(|_| server.is_found()) else { continue };
            let known = (pool.name.clone(), server.name.clone(), server.address.clone());
            let plan = Rc::new(plan(&edition.config, ServerId(at), check));
            let watched = match before.remove(&known) {
                Some(watched) => {
                    watched.server.set(ServerId(at));
                    watched.plan.replace(plan);
                    watched
                }
                None => self.begin(&known, ServerId(at), plan),
            };
            self.watched.insert(known, watched);
        }
        for ((pool, name, address), watched) in before {
            watched.stop();
            // The server may be there still, without a check.
            let is_it = |(_, server): &(u32, &crate::config::model::Server)| {
                server.name == name
                    && server.address == address
                    && edition.config.pools[server.pool.index()].name == pool
            };
            if let Some((at, server)) = (0u32..).zip(&edition.config.servers).find(is_it)
                && edition.balancer.clear_checked(ServerId(at), clock::now())
            {
                self.shared.wake_vacant(server.pool);
            }
        }
    }

    /// What the last check of a server said; `None` when it has no check.
    pub fn view(&self, edition: &Edition, server: ServerId) -> Option<CheckView> {
        let server = &edition.config.servers[server.index()];
        let pool = edition.config.pools[server.pool.index()].name.clone();
        let watched = self.watched.get(&(pool, server.name.clone(), server.address.clone()))?;
        Some(watched.view.borrow().clone())
    }

    /// What was counted since the start.
    pub fn counts(&self) -> CheckCounts {
        self.counts.get()
    }

    fn begin(&self, known: &Known, server: ServerId, plan: Rc<Plan>) -> Rc<Watched> {
        let (pool, name, address) = known;
        let address = address.to_string();
        let named = if *name == address { String::new() } else { format!(" ({address})") };
        let watched = Rc::new(Watched {
            title: format!("pool {pool}: server {name}{named}"),
            plan: RefCell::new(plan),
            server: Cell::new(server),
            view: RefCell::default(),
            successes: Cell::new(0),
            is_down: Cell::new(false),
            task: RefCell::default(),
        });
        let mut hasher = DefaultHasher::new();
        known.hash(&mut hasher);
        let round = Round {
            watched: Rc::downgrade(&watched),
            shared: self.shared.clone(),
            places: self.places.clone(),
            counts: self.counts.clone(),
            place: hasher.finish(),
        };
        watched.task.replace(Some(tokio::task::spawn_local(round.run()).abort_handle()));
        watched
    }
}

/// What a check of a server needs.
fn plan(config: &Config, server: ServerId, check: &Check) -> Plan {
    let server = &config.servers[server.index()];
    Plan {
        check: check.clone(),
        address: server.address.clone(),
        host: server.host.clone(),
        send_proxy: config.pools[server.pool.index()].send_proxy,
    }
}

impl Watched {
    fn stop(&self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }

    /// Takes the outcome of a check. The answer is the new verdict and why, if there is one.
    fn judge(&self, outcome: Result<String, String>, check: &Check) -> Verdict {
        let mut view = self.view.borrow_mut();
        let first = view.ok.is_none();
        let ok = outcome.is_ok();
        view.ok = Some(ok);
        view.at = Some(clock::wall());
        view.text = outcome.unwrap_or_else(|why| why);
        if ok {
            view.failures = 0;
            self.successes.set(self.successes.get().saturating_add(1));
            if self.is_down.get() && self.successes.get() >= check.rise {
                self.is_down.set(false);
                return Verdict::Up(format!("{} is up: {} {}", self.title, view.text, of(check.rise)));
            }
            return if first { Verdict::StillUp } else { Verdict::Same };
        }
        self.successes.set(0);
        view.failures = view.failures.saturating_add(1);
        if !self.is_down.get() && view.failures >= check.fall {
            self.is_down.set(true);
            return Verdict::Down(format!("{} is down: {} {}", self.title, view.text, of(check.fall)));
        }
        Verdict::Same
    }
}

fn of(count: u32) -> String {
    format!("({count} of {count} checks)")
}

/// What a check changed; with the line for the log.
enum Verdict {
    Same,
    /// The first one, and it is good.
    StillUp,
    Up(String),
    Down(String),
}

/// The checks of one server, one after the other.
struct Round {
    watched: std::rc::Weak<Watched>,
    shared: Arc<Shared>,
    places: Rc<Semaphore>,
    counts: Rc<Cell<CheckCounts>>,
    /// Where in the interval this server's checks are.
    place: u64,
}

impl Round {
    async fn run(self) {
        let Some(every) = self.every() else { return };
        tokio::time::sleep(part(every.min(CHECK_FIRST_TIME), self.place)).await;
        let mut round = 0;
        while let Some(every) = self.every() {
            let begin = clock::now();
            self.check().await;
            // The first distance is any, so that servers with equal intervals stay apart; the others vary a little.
            let distance = match round {
                0 => part(every, mix(self.place)).max(every / 8),
                _ => every - every / 16 + part(every / 8, mix(self.place ^ round)),
            };
            round += 1;
            tokio::time::sleep(distance.saturating_sub(clock::now().since(begin))).await;
        }
    }

    fn every(&self) -> Option<Duration> {
        self.watched.upgrade().map(|watched| watched.plan.borrow().check.every)
    }

    async fn check(&self) {
        let Some(plan) = self.watched.upgrade().map(|watched| watched.plan.borrow().clone()) else { return };
        if self.is_worked_on() {
            return;
        }
        let Ok(_place) = self.places.acquire().await else { return };
        let outcome = ask::ask(&plan).await;
        let Some(watched) = self.watched.upgrade() else { return };
        let mut counts = self.counts.get();
        counts.done += 1;
        counts.failed += u64::from(outcome.is_err());
        let (up, line) = match watched.judge(outcome, &plan.check) {
            Verdict::Same => (None, None),
            Verdict::StillUp => (Some(true), None),
            Verdict::Up(line) => {
                counts.came_up += 1;
                (Some(true), Some(line))
            }
            Verdict::Down(line) => {
                counts.went_down += 1;
                (Some(false), Some(line))
            }
        };
        self.counts.set(counts);
        if let Some(up) = up {
            self.tell(watched.server.get(), up);
        }
        if let Some(line) = line {
            eprintln!("{line}");
        }
    }

    /// Somebody works on the server: that it does not answer is no news.
    fn is_worked_on(&self) -> bool {
        let edition = self.shared.edition();
        let Some(watched) = self.watched.upgrade() else { return true };
        edition.balancer.view(watched.server.get()).admin == Admin::Maint
    }

    fn tell(&self, server: ServerId, up: bool) {
        let edition = self.shared.edition();
        if edition.balancer.set_checked(server, up, clock::now()) {
            self.shared.wake_vacant(edition.config.servers[server.index()].pool);
        }
    }
}

/// A part of a time, by a number that may be any.
fn part(of: Duration, number: u64) -> Duration {
    let nanos = u64::try_from(of.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(((u128::from(number) * u128::from(nanos)) >> 64) as u64)
}

/// Another number, by a number.
fn mix(number: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    number.hash(&mut hasher);
    hasher.finish()
}
