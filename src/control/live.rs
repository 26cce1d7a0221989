//! What was set while running: weights, servers added and removed. The configuration at work is the file's with these
//! laid over it.
//!
//! What goes in: orders by pool and server name. What comes out: a configuration ([`Live::over`]), and where it differs
//! from the file ([`Live::differences`]). It owns the settings. Always true: a setting survives a reload unless the file
//! says otherwise now, that is, unless the file changed at that very place.

use std::collections::{BTreeMap, BTreeSet};

use crate::balance::Admin;
use crate::config::model::{Config, Server};
use crate::ids::{PoolId, ServerId};
use crate::limits::ADDED_SERVERS_MAX;

/// A server by the names of its pool and itself.
pub type Name = (String, String);

/// What was set while running.
#[derive(Clone, Debug, Default)]
pub struct Live {
    weights: BTreeMap<Name, u32>,
    added: BTreeMap<Name, Server>,
    removed: BTreeSet<Name>,
}

/// Where the process and the file disagree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What it is about.
    pub what: String,
    /// What the file says.
    pub file: String,
    /// What the process does.
    pub process: String,
}

/// Why an order was refused: what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub String, pub &'static str);

impl Live {
    /// The configuration with the settings laid over it.
    pub fn over(&self, file: &Config) -> Config {
        let mut config = file.clone();
        config.servers.clear();
        for (at, pool) in config.pools.iter_mut().enumerate() {
            let id = PoolId(u32::try_from(at).unwrap_or(u32::MAX));
            let own = pool.servers.iter().map(|server| &file.servers[server.index()]);
            let own = own.filter(|server| !self.removed.contains(&(pool.name.clone(), server.name.clone())));
            let added = self.added.iter().filter(|((of, _), _)| *of == pool.name).map(|(_, server)| server);
            let first = config.servers.len();
            for server in own.chain(added) {
                let mut server = server.clone();
                server.pool = id;
                if let Some(weight) = self.weights.get(&(pool.name.clone(), server.name.clone())) {
                    server.weight = *weight;
                }
                config.servers.push(server);
            }
            pool.servers =
                (first..config.servers.len()).map(|at| ServerId(u32::try_from(at).unwrap_or(0))).collect();
        }
        config
    }

    /// Forgets what a new file decides itself.
    pub fn after_reload(&mut self, old: &Config, new: &Config) {
        let weight = |config: &Config, name: &Name| find(config, name).map(|server| server.weight);
        let has_pool = |name: &Name| new.pools.iter().any(|pool| pool.name == name.0);
        self.added.retain(|name, _| has_pool(name) && find(new, name).is_none());
        self.weights.retain(|name, _| {
            self.added.contains_key(name)
                || weight(old, name).is_some() && weight(old, name) == weight(new, name)
        });
        self.removed.retain(|name| find(old, name).is_some() && find(new, name).is_some());
    }

    /// Sets a weight.
    pub fn set_weight(&mut self, file: &Config, name: &Name, weight: u32) {
        if find(file, name).is_some_and(|server| server.weight == weight) {
            self.weights.remove(name);
        } else {
            self.weights.insert(name.clone(), weight);
        }
    }

    /// Adds a server to a pool.
    pub fn add(&mut self, at_work: &Config, pool: &str, server: Server) -> Result<(), Refusal> {
        let name = (pool.to_owned(), server.name.clone());
        if find(at_work, &name).is_some() {
            return Err(Refusal(
                format!("pool \"{pool}\" has a server \"{}\" already", server.name),
                "give the new one another name",
            ));
        }
        if self.added.len() >= ADDED_SERVERS_MAX {
            return Err(Refusal(
                format!("{ADDED_SERVERS_MAX} servers were added already"),
                "write them into the file and reload",
            ));
        }
        self.removed.remove(&name);
        self.added.insert(name, server);
        Ok(())
    }

    /// Removes a server from a pool. What it has in flight is finished.
    pub fn remove(&mut self, name: &Name) {
        self.weights.remove(name);
        if self.added.remove(name).is_none() {
            self.removed.insert(name.clone());
        }
    }

    /// Where the process and the file disagree; `states` are the servers that are not ready.
    pub fn differences(&self, file: &Config, states: &[(Name, Admin)]) -> Vec<Difference> {
        let what = |(pool, server): &Name| format!("pool {pool}: server {server}");
        let mut list = Vec::new();
        for (name, weight) in &self.weights {
            let written = find(file, name)
                .map_or_else(|| "(not there)".to_owned(), |server| format!("weight {}", server.weight));
            list.push(Difference { what: what(name), file: written, process: format!("weight {weight}") });
        }
        for (name, server) in &self.added {
            let process = format!("added: {}", server.address);
            list.push(Difference { what: what(name), file: "(not there)".into(), process });
        }
        for name in &self.removed {
            list.push(Difference { what: what(name), file: "there".into(), process: "removed".into() });
        }
        for (name, admin) in states {
            list.push(Difference { what: what(name), file: "ready".into(), process: admin.word().into() });
        }
        list
    }
}

/// The server of this name.
pub fn find<'c>(config: &'c Config, (pool, server): &Name) -> Option<&'c Server> {
    find_id(config, pool, server).map(|id| &config.servers[id.index()])
}

/// The id of the server of this name.
pub fn find_id(config: &Config, pool: &str, server: &str) -> Option<ServerId> {
    let pool = config.pools.iter().find(|other| other.name == pool)?;
    pool.servers.iter().copied().find(|id| config.servers[id.index()].name == server)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Nowhere, parse_in};

    fn config(servers: &str) -> Config {
        let text = format!(
            "http.a = {{ listen = ['127.0.0.1:81'], pool = 'x' }}
             pool.x = {{ servers = [{servers}] }}
             pool.y = {{ servers = ['10.0.0.9:80'] }}"
        );
        parse_in(&text, "test.toml", &Nowhere).unwrap().config
    }

    fn name(server: &str) -> Name {
        ("x".into(), server.into())
    }

    fn names(config: &Config, pool: usize) -> Vec<(String, u32)> {
        let server =
            |id: &ServerId| (config.servers[id.index()].name.clone(), config.servers[id.index()].weight);
        config.pools[pool].servers.iter().map(server).collect()
    }

    #[test]
    fn settings_lie_over_the_file_and_keep_every_other_pool() {
        let file = config("'10.0.0.1:80', '10.0.0.2:80'");
        let mut live = Live::default();
        live.set_weight(&file, &name("10.0.0.1:80"), 7);
        live.remove(&name("10.0.0.2:80"));
        let mut server = file.servers[0].clone();
        server.name = "new".into();
        live.add(&file, "x", server.clone()).unwrap();
        assert!(live.add(&live.over(&file), "x", server).is_err(), "the name is taken");
        let over = live.over(&file);
        assert_eq!(names(&over, 0), [("10.0.0.1:80".into(), 7), ("new".into(), 1)]);
        assert_eq!(names(&over, 1), [("10.0.0.9:80".into(), 1)]);
        assert!(over.pools[1].servers.iter().all(|id| over.servers[id.index()].pool == PoolId(1)));
        assert_eq!(live.differences(&file, &[(name("new"), Admin::Drain)]).len(), 4);
        live.set_weight(&file, &name("10.0.0.1:80"), 1);
        live.remove(&name("new"));
        assert_eq!(live.differences(&file, &[]).len(), 1, "what is as in the file is no difference");
    }

    #[test]
    fn a_setting_survives_a_reload_unless_the_file_decides_it() {
        let old = config("{ address = '10.0.0.1:80', weight = 2 }, '10.0.0.2:80', '10.0.0.3:80'");
        let mut live = Live::default();
        live.set_weight(&old, &name("10.0.0.1:80"), 5);
        live.set_weight(&old, &name("10.0.0.2:80"), 6);
        live.remove(&name("10.0.0.3:80"));
        let mut server = old.servers[0].clone();
        server.name = "10.0.0.4:80".into();
        live.add(&old, "x", server).unwrap();
        live.set_weight(&old, &name("10.0.0.4:80"), 9);

        let new = config("{ address = '10.0.0.1:80', weight = 3 }, '10.0.0.2:80', '10.0.0.3:80'");
        live.after_reload(&old, &new);
        let expected = [("10.0.0.1:80".into(), 3), ("10.0.0.2:80".into(), 6), ("10.0.0.4:80".into(), 9)];
        assert_eq!(names(&live.over(&new), 0), expected);

        let newer = config("'10.0.0.2:80', '10.0.0.4:80'");
        live.after_reload(&new, &newer);
        assert_eq!(names(&live.over(&newer), 0), [("10.0.0.2:80".into(), 6), ("10.0.0.4:80".into(), 1)]);
        let back = config("'10.0.0.2:80', '10.0.0.3:80'");
        live.after_reload(&newer, &back);
        assert_eq!(names(&live.over(&back), 0).len(), 2, "what was removed and came back is there");
    }
}
