//! What the control thread does while a run goes on: editions, orders for servers. And what must be true of them.
//!
//! Checked on every step: a server that was taken out gets nothing new. In the end: no edition is held that is not at
//! work, and no server of any edition has a request in flight.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ringgate::balance::Admin;
use ringgate::clock::Moment;
use ringgate::config::model::Config;
use ringgate::ids::{PoolId, ServerId};
use ringgate::ring::sim::World;
use ringgate::worker::edition::{Doors, Edition};
use ringgate::worker::shared::Shared;

use crate::ledger::Ledger;

/// One change.
#[derive(Clone, Debug)]
pub enum Change {
    /// Another configuration; true if it is waited until all workers have taken it over.
    Reload(String, bool),
    /// An order for a server; the number decides which.
    Admin(u64),
}

/// An edition that was at work.
struct Watched {
    edition: Weak<Edition>,
    /// In flight at each server that was taken out.
    barred: Vec<Option<u32>>,
}

/// Changes of a run.
pub struct Changes {
    due: VecDeque<(Moment, Change)>,
    watched: Vec<Watched>,
    /// Keeps all editions, so that their servers can be seen in the end; else they must be gone.
    kept: Option<Vec<Arc<Edition>>>,
    /// Published: the edition before, whether it is waited for.
    untaken: Option<(Arc<Edition>, bool)>,
    last: Moment,
}

impl Changes {
    pub fn new(world: &World, changes: &[(Duration, Change)], keep: bool) -> Self {
        let start = world.now();
        let due: VecDeque<_> = changes.iter().map(|(time, change)| (start + *time, change.clone())).collect();
        due.iter().for_each(|(at, _)| world.look_at(*at));
        Self { due, watched: Vec::new(), kept: keep.then(Vec::new), untaken: None, last: start }
    }

    /// When something was changed the last time.
    pub const fn last(&self) -> Moment {
        self.last
    }

    /// Does what is due.
    pub fn run(&mut self, world: &World, shared: &Shared, ledger: &mut Ledger) -> Result<(), String> {
        self.taken(world, shared, ledger);
        while self.untaken.is_none()
            && self.due.front().is_some_and(|(at, _)| *at <= world.now())
            && let Some((_, change)) = self.due.pop_front()
        {
            self.last = world.now();
            ledger.changed = true;
            match change {
                Change::Reload(text, patient) => self.reload(&text, patient, world, shared, ledger)?,
                Change::Admin(number) => admin(number, world, shared),
            }
            note_starved(&shared.edition(), ledger);
            self.taken(world, shared, ledger);
        }
        self.check()
    }

    fn reload(
        &mut self,
        text: &str,
        patient: bool,
        world: &World,
        shared: &Shared,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        let config = Config::parse(text, "sim.toml").map_err(|mistakes| format!("{mistakes}\n{text}"))?;
        let before = shared.edition();
        note_removed(&before, &config, ledger);
        if !patient {
            ledger.starved = [true; 3];
        }
        let edition = shared.publish(before.next(Arc::new(config), Doors::default()));
        world.trace(|| format!("EDITION {}\n{text}", edition.number));
        for edition in [&before, &edition] {
            if !self.watched.iter().any(|one| one.edition.as_ptr() == Arc::as_ptr(edition)) {
                let barred = vec![None; edition.config.servers.len()];
                self.watched.push(Watched { edition: Arc::downgrade(edition), barred });
            }
        }
        if let Some(kept) = &mut self.kept {
            kept.push(before.clone());
        }
        self.untaken = Some((before, patient));
        Ok(())
    }

    /// Goes on once all workers have taken the edition over.
    fn taken(&mut self, world: &World, shared: &Shared, ledger: &mut Ledger) {
        let edition = shared.edition();
        if let Some((before, _)) =
            self.untaken.take_if(|(_, patient)| !*patient || shared.is_taken(edition.number))
        {
            for (pool, number) in before.config.pools.iter().zip(0u32..) {
                if before.balancer.waiting(PoolId(number)) > 0
                    && !edition.config.pools.iter().any(|one| one.name == pool.name)
                {
                    ledger.starved[host_of(&pool.name)] = true;
                }
            }
            edition.balancer.bar_removed();
            (0u32..)
                .take(edition.config.pools.len())
                .for_each(|pool| wake_vacant(PoolId(pool), world, shared));
        }
    }

    /// A server that was taken out gets nothing new.
    fn check(&mut self) -> Result<(), String> {
        for one in &mut self.watched {
            let Some(edition) = one.edition.upgrade() else { continue };
            for (view, barred) in edition.balancer.servers().zip(&mut one.barred) {
                if view.admin == Admin::Ready {
                    *barred = None;
                    continue;
                }
                if barred.is_some_and(|before| view.in_flight > before) {
                    return Err(format!(
                        "edition {}: a server that was taken out got a request: {view:?}",
                        edition.number
                    ));
                }
                *barred = Some(view.in_flight);
            }
        }
        Ok(())
    }

    /// All workers have ended.
    pub fn check_end(&mut self, shared: &Shared) -> Result<(), String> {
        self.untaken = None;
        let current = shared.edition();
        let kept = self.kept.take().unwrap_or_default();
        for one in &self.watched {
            let Some(edition) = one.edition.upgrade() else { continue };
            let number = edition.number;
            if !kept.iter().chain([&current]).any(|one| Arc::ptr_eq(one, &edition)) {
                return Err(format!("edition {number} is still held"));
            }
            if let Some(view) = edition.balancer.servers().find(|view| view.in_flight > 0) {
                return Err(format!("edition {number}: a claim was not given back: {view:?}"));
            }
            if let Some(pool) = (0u32..)
                .take(edition.config.pools.len())
                .find(|pool| edition.balancer.waiting(PoolId(*pool)) > 0)
            {
                return Err(format!("edition {number}: somebody still waits in pool {pool}"));
            }
        }
        Ok(())
    }
}

fn admin(number: u64, world: &World, shared: &Shared) {
    let edition = shared.edition();
    let server = ServerId((number % edition.config.servers.len() as u64) as u32);
    let admin = [Admin::Ready, Admin::Ready, Admin::Drain, Admin::Maint][(number >> 32) as usize % 4];
    world.trace(|| format!("ORDER {admin:?} for {}", edition.config.servers[server.index()].address));
    edition.balancer.set_admin(server, admin, world.now());
    wake_vacant(edition.config.servers[server.index()].pool, world, shared);
}

fn wake_vacant(pool: PoolId, world: &World, shared: &Shared) {
    for waiter in shared.edition().balancer.wake_vacant(pool, world.now()) {
        shared.seat(waiter.worker).mail(waiter.session);
    }
}

fn host_of(pool: &str) -> usize {
    match pool {
        "two" => 1,
        "raw" => 2,
        _ => 0,
    }
}

/// Which pools have nobody who may be used.
fn note_starved(edition: &Edition, ledger: &mut Ledger) {
    for (number, pool) in (0u32..).zip(&edition.config.pools) {
        let mut views = edition.balancer.servers().filter(|view| view.pool == PoolId(number));
        if !views.any(|view| view.admin == Admin::Ready && view.weight > 0) {
            ledger.starved[host_of(&pool.name)] = true;
        }
    }
}

/// What a configuration does not have any more.
fn note_removed(before: &Edition, config: &Config, ledger: &mut Ledger) {
    for listener in &before.config.listeners {
        if !config.listeners.iter().any(|other| other.address == listener.address) {
            ledger.unlistened.push(listener.address.clone());
        }
    }
    let routed = |host: &str| {
        config.http.iter().any(|http| {
            (0..).map_while(|at| http.routes.get(at)).any(|(one, ..)| format!("{one:?}").contains(host))
        })
    };
    if !routed("two.test") {
        ledger.unrouted = true;
    }
    let pool =
        |config: &Config, server: usize| config.pools[config.servers[server].pool.index()].name.clone();
    for (at, server) in before.config.servers.iter().enumerate() {
        let name = pool(&before.config, at);
        let same = |(to, other): (usize, &ringgate::config::model::Server)| {
            other.name == server.name && other.address == server.address && pool(config, to) == name
        };
        if !config.servers.iter().enumerate().any(same) {
            ledger.uprooted[host_of(&name)] = true;
        }
    }
}
