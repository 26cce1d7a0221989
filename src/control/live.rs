//! What was set while running: weights, states, servers added and removed. The configuration at work is the file's with
//! these laid over it.
//!
//! What goes in: orders by pool and server name. What comes out: a configuration ([`Live::over`]), and where it differs
//! from the file ([`Live::differences`]). It owns the settings. Always true: a setting survives a reload unless the file
//! says otherwise now, that is, unless the file changed at that very place.
//!
//! A host name in the file stands for several servers (`web.internal:80@10.0.0.1`): a setting is for one of them, or under
//! the name in the file (`web.internal:80`) for all, also for those that come later.

use std::collections::{BTreeMap, BTreeSet};

use crate::balance::Admin;
use crate::clock;
use crate::config::model::{Config, Server};
use crate::ids::{PoolId, ServerId};
use crate::limits::ADDED_SERVERS_MAX;
use crate::worker::edition::Edition;

/// A server by the names of its pool and itself.
pub type Name = (String, String);

/// What was set while running.
#[derive(Clone, Debug, Default)]
pub struct Live {
    pub(super) weights: BTreeMap<Name, u32>,
    /// Servers that are not ready, and those that are although their name in the file is not.
    pub(super) states: BTreeMap<Name, Admin>,
    /// One that has the name of a server in the file stands in for it: that one was removed.
    pub(super) added: BTreeMap<Name, Server>,
    pub(super) removed: BTreeSet<Name>,
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
            let own = own.filter(|server| of(&pool.name, server).all(|name| !self.removed.contains(&name)));
            let added = self.added.iter().filter(|((of, _), _)| *of == pool.name).map(|(_, server)| server);
            let first = config.servers.len();
            for server in own.chain(added) {
                let mut server = server.clone();
                server.pool = id;
                let weight = of(&pool.name, &server).find_map(|name| self.weights.get(&name));
                if let Some(weight) = weight.filter(|_| server.is_found()) {
                    server.weight = *weight;
                }
                config.servers.push(server);
            }
            pool.servers =
                (first..config.servers.len()).map(|at| ServerId(u32::try_from(at).unwrap_or(0))).collect();
        }
        config
    }

    /// True when nothing was set.
    pub fn is_empty(&self) -> bool {
        self.weights.is_empty() && self.states.is_empty() && self.added.is_empty() && self.removed.is_empty()
    }

    /// Has the servers of an edition be in the states that were set.
    pub fn settle(&self, edition: &Edition) {
        for view in edition.balancer.servers() {
            let server = &edition.config.servers[view.server.index()];
            let pool = &edition.config.pools[server.pool.index()].name;
            let admin = of(pool, server).find_map(|name| self.states.get(&name).copied());
            edition.balancer.set_admin(view.server, admin.unwrap_or_default(), clock::now());
        }
    }

    /// Forgets what a new file decides itself.
    pub fn after_reload(&mut self, old: &Config, new: &Config) {
        let weight = |config: &Config, name: &Name| find(config, name).map(|server| server.weight);
        let has_pool = |name: &Name| new.pools.iter().any(|pool| pool.name == name.0);
        self.removed.retain(|name| find(old, name).is_some() && find(new, name).is_some());
        let removed = &self.removed;
        self.added.retain(|name, _| has_pool(name) && (find(new, name).is_none() || removed.contains(name)));
        self.states.retain(|name, _| self.added.contains_key(name) || find(new, name).is_some());
        self.weights.retain(|name, _| {
            self.added.contains_key(name)
                || weight(old, name).is_some() && weight(old, name) == weight(new, name)
        });
    }

    /// Sets a weight.
    pub fn set_weight(&mut self, file: &Config, name: &Name, weight: u32) {
        put(&mut self.weights, file, name, weight, |server| server.weight);
    }

    /// Sets whether a server may get anything. [`Live::settle`] has that done.
    pub fn set_state(&mut self, at_work: &Config, name: &Name, admin: Admin) {
        put(&mut self.states, at_work, name, admin, |_| Admin::Ready);
    }

    /// Adds a server to a pool.
    pub fn add(
        &mut self,
        file: &Config,
        at_work: &Config,
        pool: &str,
        server: Server,
    ) -> Result<(), Refusal> {
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
        let is_it = |one: &&Server| {
            one.backup == server.backup && (one.lookup.is_some() || one.address == server.address)
        };
        if let Some(again) = find(file, &name).filter(is_it).filter(|_| self.removed.remove(&name)) {
            if again.weight != server.weight {
                self.weights.insert(name, server.weight);
            }
            return Ok(());
        }
        self.added.insert(name, server);
        Ok(())
    }

    /// Removes a server from a pool. What it has in flight is finished.
    pub fn remove(&mut self, name: &Name) {
        self.weights.remove(name);
        self.states.remove(name);
        if self.added.remove(name).is_none() {
            self.removed.insert(name.clone());
        }
    }

    /// Where the process and the file disagree.
    pub fn differences(&self, file: &Config) -> Vec<Difference> {
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
        for (name, admin) in &self.states {
            list.push(Difference { what: what(name), file: "ready".into(), process: admin.word().into() });
        }
        list
    }
}

/// Notes a setting for a server, or for all that a name in the file stands for. One that says what holds anyway is forgotten.
fn put<T: Copy + PartialEq>(
    settings: &mut BTreeMap<Name, T>,
    config: &Config,
    name: &Name,
    value: T,
    without: impl Fn(&Server) -> T,
) {
    let all = find_ids(config, &name.0, &name.1);
    let all: Vec<&Server> = all.iter().map(|id| &config.servers[id.index()]).collect();
    if all.first().is_some_and(|server| server.lookup.is_some() && server.name_in_file() == name.1) {
        // What is said about a name counts for each of its servers, whatever was said about them before.
        let is_of = |other: &str| other.rsplit_once('@').is_some_and(|(of, _)| of == name.1);
        settings.retain(|(pool, other), _| *pool != name.0 || !is_of(other));
    }
    let of_name = all.first().is_some_and(|server| {
        let in_file = server.name_in_file();
        in_file != name.1 && settings.contains_key(&(name.0.clone(), in_file.to_owned()))
    });
    if !all.is_empty() && !of_name && all.iter().all(|server| without(server) == value) {
        settings.remove(name);
    } else {
        settings.insert(name.clone(), value);
    }
}

/// The names that a server's settings may be under: its own, and that in the file.
fn of(pool: &str, server: &Server) -> impl Iterator<Item = Name> {
    let name = |name: &str| (pool.to_owned(), name.to_owned());
    [name(&server.name), name(server.name_in_file())].into_iter()
}

/// The first server of this name.
pub fn find<'c>(config: &'c Config, (pool, server): &Name) -> Option<&'c Server> {
    find_id(config, pool, server).map(|id| &config.servers[id.index()])
}

/// The id of the first server of this name.
pub fn find_id(config: &Config, pool: &str, server: &str) -> Option<ServerId> {
    find_ids(config, pool, server).first().copied()
}

/// The server of this name, or all servers that a name in the file stands for.
pub fn find_ids(config: &Config, pool: &str, server: &str) -> Vec<ServerId> {
    let Some(pool) = config.pools.iter().find(|other| other.name == pool) else { return Vec::new() };
    let all = |is_it: &dyn Fn(&Server) -> bool| -> Vec<ServerId> {
        pool.servers.iter().copied().filter(|id| is_it(&config.servers[id.index()])).collect()
    };
    let exact = all(&|one| one.name == server);
    if exact.is_empty() { all(&|one| one.name_in_file() == server) } else { exact }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Nowhere, parse_in};
    use crate::net::Address;
    use crate::worker::edition::Doors;

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
        live.add(&file, &file, "x", server.clone()).unwrap();
        assert!(live.clone().add(&file, &live.over(&file), "x", server).is_err(), "the name is taken");
        let over = live.over(&file);
        assert_eq!(names(&over, 0), [("10.0.0.1:80".into(), 7), ("new".into(), 1)]);
        assert_eq!(names(&over, 1), [("10.0.0.9:80".into(), 1)]);
        assert!(over.pools[1].servers.iter().all(|id| over.servers[id.index()].pool == PoolId(1)));
        live.set_state(&over, &name("new"), Admin::Drain);
        assert_eq!(live.differences(&file).len(), 4);
        live.set_weight(&file, &name("10.0.0.1:80"), 1);
        live.remove(&name("new"));
        assert_eq!(live.differences(&file).len(), 1, "what is as in the file is no difference");
    }

    #[test]
    fn what_was_removed_can_be_added_again() {
        let file = config("'10.0.0.1:80', { name = 'b', address = '10.0.0.2:80' }");
        let b = file.servers[1].clone();
        for (server, expected, now) in [
            (b.clone(), vec![("10.0.0.1:80".to_owned(), 1), ("b".to_owned(), 1)], "10.0.0.2:80"),
            (
                Server { weight: 7, ..b.clone() },
                vec![("10.0.0.1:80".into(), 1), ("b".into(), 7)],
                "10.0.0.2:80",
            ),
            (
                Server { address: Address::Tcp(([10, 0, 0, 3], 80).into()), ..b },
                vec![("10.0.0.1:80".into(), 1), ("b".into(), 1)],
                "10.0.0.3:80",
            ),
        ] {
            let mut live = Live::default();
            live.remove(&name("b"));
            live.add(&file, &live.over(&file), "x", server).unwrap();
            let over = live.over(&file);
            assert_eq!(names(&over, 0), expected);
            assert_eq!(find(&over, &name("b")).unwrap().address.to_string(), now);
            live.after_reload(&file, &file);
            assert_eq!(names(&live.over(&file), 0), expected, "a reload changes nothing");
            live.remove(&name("b"));
            assert_eq!(names(&live.over(&file), 0).len(), 1);
        }
    }

    #[test]
    fn a_state_is_for_one_server_of_a_name_or_for_all() {
        let (both, more) = (named(&[1, 2]), named(&[2, 3]));
        let states = |live: &Live, config: &Config| -> String {
            let edition = Edition::first(live.over(config).into(), 1, Doors::default());
            live.settle(&edition);
            edition.balancer.servers().map(|view| view.admin.word().chars().next().unwrap()).collect()
        };
        let (all, second) = (name("web.internal:80"), name("web.internal:80@10.1.0.2"));
        let mut live = Live::default();
        live.set_state(&both, &second, Admin::Maint);
        assert_eq!((states(&live, &both), states(&live, &more)), ("rrmr".into(), "rmrr".into()));
        live.set_state(&both, &all, Admin::Drain);
        assert_eq!((states(&live, &both), states(&live, &more)), ("rddr".into(), "rddr".into()));
        live.set_state(&both, &second, Admin::Ready);
        live.after_reload(&both, &more);
        assert_eq!((states(&live, &more), live.differences(&more).len()), ("rrdr".into(), 2));
        live.set_state(&named(&[3]), &all, Admin::Drain);
        assert_eq!(states(&live, &more), "rddr", "also for the one that is not there at that moment");
        live.set_state(&more, &all, Admin::Ready);
        assert_eq!((states(&live, &more), live.differences(&more)), ("rrrr".into(), vec![]));
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
        live.add(&old, &old, "x", server).unwrap();
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

    /// The file with a name that stands for servers at 10.1.0.N.
    fn named(last: &[u8]) -> Config {
        let file = config("'10.0.0.1:80', 'web.internal:80'");
        let found = |last: &u8| crate::config::model::Found {
            address: ([10, 1, 0, *last], 80).into(),
            service: None,
        };
        let lookup = file.servers[1].lookup.clone().unwrap();
        crate::config::expand(&file, &[(lookup, last.iter().map(found).collect())].into())
    }

    #[test]
    fn a_setting_is_for_one_server_of_a_name_or_for_all() {
        let (both, more) = (named(&[1, 2]), named(&[2, 3]));
        let weights = |live: &Live, config: &Config| -> Vec<u32> {
            names(&live.over(config), 0).into_iter().skip(1).map(|(_, weight)| weight).collect()
        };
        let (all, second) = (name("web.internal:80"), name("web.internal:80@10.1.0.2"));
        let mut live = Live::default();
        live.set_weight(&both, &second, 5);
        assert_eq!(weights(&live, &both), [1, 5]);
        live.set_weight(&both, &all, 7);
        assert_eq!(
            (weights(&live, &both), weights(&live, &more)),
            (vec![7, 7], vec![7, 7]),
            "also those to come"
        );
        live.set_weight(&more, &second, 1);
        assert_eq!(weights(&live, &more), [1, 7], "as in the file, other than all");
        assert_eq!(live.differences(&more).len(), 2);
        live.set_weight(&more, &all, 1);
        assert_eq!((weights(&live, &more), live.differences(&more)), (vec![1, 1], vec![]));

        live.remove(&second);
        assert_eq!((names(&live.over(&both), 0).len(), names(&live.over(&named(&[2])), 0).len()), (2, 1));
        live.after_reload(&both, &more);
        assert_eq!(names(&live.over(&more), 0).len(), 2, "the file did not change there");
        live.remove(&all);
        assert_eq!(names(&live.over(&more), 0), [("10.0.0.1:80".into(), 1)]);
        live.set_weight(&named(&[]), &all, 9);
        assert_eq!(
            weights(&Live { removed: [].into(), ..live }, &named(&[])),
            [0],
            "what is unknown gets nothing"
        );
    }
}
