//! From one balancer to the next: what servers and pools carry over when the configuration changes.
//!
//! What goes in: the configuration and balancer at work, and a new configuration. What comes out: its balancer. It owns
//! nothing. Always true: a server with the same pool name, name and address keeps its load, health and orders, a pool
//! with the same name keeps its queue, counter and retry budget; limits and weights are those of the new configuration;
//! a server that is not in the new configuration is gone, and gets nothing new through the old balancer either.

use std::collections::HashMap;
use std::sync::Arc;

use super::state::{Place, PoolState, ServerState, Shared};
use super::{Balancer, PoolId};
use crate::config::model::{Config, Pool, Server};
use crate::net::Address;

/// What makes two servers of two configurations the same. The number tells those apart that are in a pool twice.
type Same<'c> = (&'c str, &'c str, &'c Address, u32);

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
        states.values().for_each(|state| state.health.set_gone(true));
        let edition = previous.map_or(1, |(_, balancer)| balancer.edition + 1);
        Self { pools, servers: servers.into(), edition }
    }

    /// The state of every server.
    fn states<'c>(&self, config: &'c Config) -> HashMap<Same<'c>, Arc<ServerState>> {
        sames(config).into_iter().zip(self.servers.iter().map(|place| Arc::clone(&place.state))).collect()
    }

    /// What workers share of every pool.
    fn shared<'c>(&self, config: &'c Config) -> HashMap<&'c str, Arc<Shared>> {
        let of = |(at, pool): (usize, &PoolState)| (config.pools[at].name.as_str(), Arc::clone(&pool.shared));
        self.pools.iter().enumerate().map(of).collect()
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
