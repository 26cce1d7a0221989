//! From one balancer to the next: what servers and pools carry over when the configuration changes.
//!
//! What goes in: the configuration and balancer at work, and a new configuration. What comes out: its balancer. It owns
//! nothing but a memory of what was removed. Always true: a server with the same pool name, name and address keeps its
//! load, health and orders, a pool with the same name keeps its queue, counter and retry budget; limits and weights are
//! those of the new configuration. What is removed and comes back while some session still lives by a balancer that had
//! it is the same server or pool: such a session gives its claim back, or leaves its queue, through the newest balancer. A
//! removed server is used by those who work with the old balancer until all have gone over to the new one
//! ([`Balancer::bar_removed`]): else a pool whose servers are all replaced would have nobody for a moment.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::state::{Place, PoolState, ServerState, Shared};
use super::{Balancer, PoolId};
use crate::config::model::{Config, Pool, Server};
use crate::net::Address;

/// What makes two servers of two configurations the same. The number tells those apart that are in a pool twice.
type Same<'c> = (&'c str, &'c str, &'c Address, u32);

/// What was removed and may still be in use through an older balancer.
#[derive(Debug, Default)]
pub(super) struct Removed {
    servers: Vec<RemovedServer>,
    pools: Vec<(String, Weak<Shared>)>,
}

#[derive(Debug)]
struct RemovedServer {
    pool: String,
    name: String,
    address: Address,
    number: u32,
    state: Weak<ServerState>,
}

impl RemovedServer {
    fn new((pool, name, address, number): Same<'_>, state: &Arc<ServerState>) -> Self {
        let (pool, name, address) = (pool.to_owned(), name.to_owned(), address.clone());
        Self { pool, name, address, number, state: Arc::downgrade(state) }
    }
}

impl Balancer {
    /// Builds the balancer of `config`, the next one after `previous`. Without one, nobody has load and everybody is well.
    ///
    /// Places may be free that were not before: [`Balancer::wake_next`] of every pool is worth a call.
    pub fn next(previous: Option<(&Config, &Self)>, config: &Config) -> Self {
        let mut states = previous.map_or_else(HashMap::new, |(config, balancer)| balancer.states(config));
        let mut shared = previous.map_or_else(HashMap::new, |(config, balancer)| balancer.shared(config));
        let mut servers = Vec::with_capacity(config.servers.len());
        for (same, server) in sames(config).into_iter().zip(&config.servers) {
            let state = states.remove(&same).unwrap_or_default();
            state.limit(server);
            state.health.set_gone(false);
            servers.push(Place::new(server, state));
        }
        let pool = |pool: &Pool| {
            let shared = shared.remove(pool.name.as_str()).unwrap_or_default();
            PoolState::new(pool, &config.servers, &servers, shared)
        };
        let pools = config.pools.iter().map(pool).collect();
        let removed = Removed {
            servers: states.iter().map(|(same, state)| RemovedServer::new(*same, state)).collect(),
            pools: shared.iter().map(|(name, pool)| ((*name).to_owned(), Arc::downgrade(pool))).collect(),
        };
        let edition = previous.map_or(1, |(_, balancer)| balancer.edition + 1);
        Self { pools, servers: servers.into(), edition, removed }
    }

    /// All go by this balancer now: servers that its configuration does not have any more get nothing new through older
    /// ones either, not even from a session that finishes its exchange there.
    pub fn bar_removed(&self) {
        let states = self.removed.servers.iter().filter_map(|server| server.state.upgrade());
        states.for_each(|state| state.health.set_gone(true));
    }

    /// The state of every server, of removed ones too while somebody may use them.
    fn states<'c>(&'c self, config: &'c Config) -> HashMap<Same<'c>, Arc<ServerState>> {
        let removed = self.removed.servers.iter().filter_map(|server| {
            let same = (server.pool.as_str(), server.name.as_str(), &server.address, server.number);
            Some((same, server.state.upgrade()?))
        });
        let present = self.servers.iter().map(|place| Arc::clone(&place.state));
        removed.chain(sames(config).into_iter().zip(present)).collect()
    }

    /// What workers share of every pool, of removed ones too while somebody may use them.
    fn shared<'c>(&'c self, config: &'c Config) -> HashMap<&'c str, Arc<Shared>> {
        let removed = self.removed.pools.iter();
        let removed = removed.filter_map(|(name, shared)| Some((name.as_str(), shared.upgrade()?)));
        let of = |(at, pool): (usize, &PoolState)| (config.pools[at].name.as_str(), Arc::clone(&pool.shared));
        removed.chain(self.pools.iter().enumerate().map(of)).collect()
    }
}

/// By what each server of a configuration is recognised, in the order of the ids.
fn sames(config: &Config) -> Vec<Same<'_>> {
    let mut counts: HashMap<(PoolId, &str, &Address), u32> = HashMap::new();
    let mut sames = Vec::with_capacity(config.servers.len());
    for Server { name, address, pool, .. } in &config.servers {
        let count = counts.entry((*pool, name, address)).or_default();
        *count += 1;
        sames.push((config.pools[pool.index()].name.as_str(), name.as_str(), address, *count));
    }
    sames
}
