//! What was set while running, as a text that one version of the program leaves to the next.
//!
//! What goes in: live settings, or such a text, and the configuration that they lie over. What comes out: the other of
//! both. It owns nothing. Always true: a setting survives as it survives a reload, that is, unless the file that the new
//! version loads says otherwise than the one that the old version had; what is not understood is an error, not a guess.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::live::{Live, find};
use crate::balance::Admin;
use crate::config::model::{Config, Server};
use crate::ids::PoolId;
use crate::limits::{ADDED_SERVERS_MAX, SETTINGS_BYTES_MAX};
use crate::net::Address;

/// The text, which is JSON. A version that knows more must do without what this one does not say.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Settings {
    weights: Vec<Weight>,
    states: Vec<(String, String, String)>,
    added: Vec<Added>,
    removed: Vec<(String, String)>,
}

#[derive(Serialize, Deserialize)]
struct Weight {
    pool: String,
    server: String,
    weight: u32,
    /// What the file said; none for a server that was added.
    of_file: Option<u32>,
}

#[derive(Serialize, Deserialize)]
struct Added {
    pool: String,
    name: String,
    address: String,
    host: String,
    weight: u32,
    backup: bool,
}

/// The text of settings that lie over `file`; empty when there are none.
pub fn write(live: &Live, file: &Config) -> Vec<u8> {
    if live.is_empty() {
        return Vec::new();
    }
    let weight = |(name, weight): (&(String, String), &u32)| Weight {
        pool: name.0.clone(),
        server: name.1.clone(),
        weight: *weight,
        of_file: find(file, name).map(|server| server.weight),
    };
    let added = |((pool, name), server): (&(String, String), &Server)| Added {
        pool: pool.clone(),
        name: name.clone(),
        address: server.address.to_string(),
        host: server.host.clone(),
        weight: server.weight,
        backup: server.backup,
    };
    let state = |((pool, server), admin): (_, &Admin)| {
        (String::clone(pool), String::clone(server), admin.word().to_owned())
    };
    let settings = Settings {
        weights: live.weights.iter().map(weight).collect(),
        states: live.states.iter().map(|((pool, server), admin)| state(((pool, server), admin))).collect(),
        added: live.added.iter().map(added).collect(),
        removed: live.removed.iter().cloned().collect(),
    };
    serde_json::to_vec(&settings).unwrap_or_default()
}

/// The settings of a text, as far as they fit `file`. Errors: it is no such text.
pub fn read(text: &[u8], file: &Config) -> Result<Live, String> {
    if text.is_empty() {
        return Ok(Live::default());
    }
    if text.len() >= SETTINGS_BYTES_MAX {
        return Err(format!("they are longer than {SETTINGS_BYTES_MAX} bytes"));
    }
    let settings: Settings = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let is_there = |name: &(String, String)| find(file, name).is_some();
    let removed = settings.removed.into_iter().filter(is_there).collect();
    let mut live = Live { removed, ..Live::default() };
    let mut added = BTreeMap::new();
    for one in settings.added.into_iter().take(ADDED_SERVERS_MAX) {
        let name = (one.pool.clone(), one.name.clone());
        let Some(pool) = file.pools.iter().find(|pool| pool.name == one.pool) else { continue };
        if is_there(&name) && !live.removed.contains(&name) {
            continue;
        }
        let first = pool.servers.first().map(|id| &file.servers[id.index()]);
        let address = match one.address.strip_prefix("unix:") {
            Some(path) => Address::Unix(path.into()),
            None => Address::Tcp(one.address.parse().map_err(|_| format!("{} is no address", one.address))?),
        };
        let server = Server {
            name: one.name,
            // The pool is known by its name here.
            pool: PoolId(0),
            address,
            host: one.host,
            weight: one.weight.min(1000),
            backup: one.backup,
            connections_max: first.map_or(0, |server| server.connections_max),
            lookup: None,
        };
        added.insert(name, server);
    }
    live.added = added;
    for one in settings.weights {
        let name = (one.pool, one.server);
        let now = find(file, &name).map(|server| server.weight);
        if live.added.contains_key(&name) || now.is_some() && now == one.of_file {
            live.weights.insert(name, one.weight.min(1000));
        }
    }
    for (pool, server, word) in settings.states {
        let admin = Admin::from_word(&word).ok_or_else(|| format!("{word} is no state"))?;
        let name = (pool, server);
        if live.added.contains_key(&name) || is_there(&name) {
            live.states.insert(name, admin);
        }
    }
    Ok(live)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Nowhere, parse_in};

    fn config(servers: &str) -> Config {
        let text = format!(
            "http.a = {{ listen = ['127.0.0.1:81'], pool = 'x' }}\npool.x = {{ servers = [{servers}] }}"
        );
        parse_in(&text, "test.toml", &Nowhere).unwrap().config
    }

    fn name(server: &str) -> (String, String) {
        ("x".into(), server.into())
    }

    fn shown(live: &Live, file: &Config) -> Vec<String> {
        let line = |one: super::super::live::Difference| format!("{}: {}", one.what, one.process);
        live.differences(file).into_iter().map(line).collect()
    }

    #[test]
    fn settings_go_there_and_back() {
        let file = config("'10.0.0.1:80', '10.0.0.2:80', '10.0.0.3:80'");
        let mut live = Live::default();
        assert!(write(&live, &file).is_empty() && read(b"", &file).unwrap().is_empty());
        live.set_weight(&file, &name("10.0.0.1:80"), 7);
        live.set_state(&file, &name("10.0.0.2:80"), Admin::Maint);
        live.remove(&name("10.0.0.3:80"));
        for (called, address) in [
            ("six", Address::Tcp("[2001:db8::1]:80".parse().unwrap())),
            ("local \"", Address::Unix("/run/a b".into())),
        ] {
            let server = Server {
                name: called.into(),
                address,
                host: "h".into(),
                backup: true,
                ..file.servers[0].clone()
            };
            live.add(&file, &file, "x", server).unwrap();
        }
        live.set_weight(&file, &name("six"), 3);
        let again = read(&write(&live, &file), &file).unwrap();
        assert_eq!(shown(&again, &file), shown(&live, &file));
        assert_eq!(shown(&again, &file).len(), 6);
        let (before, after) = (live.over(&file), again.over(&file));
        assert_eq!(format!("{:?}", before.servers), format!("{:?}", after.servers));
    }

    #[test]
    fn a_file_that_says_otherwise_now_decides() {
        let old = config("'10.0.0.1:80', '10.0.0.2:80'");
        let mut live = Live::default();
        live.set_weight(&old, &name("10.0.0.1:80"), 7);
        live.set_state(&old, &name("10.0.0.2:80"), Admin::Drain);
        let server = Server { name: "c".into(), ..old.servers[0].clone() };
        live.add(&old, &old, "x", server).unwrap();
        let text = write(&live, &old);
        let new = config("{ address = '10.0.0.1:80', weight = 2 }, { name = 'c', address = '10.0.0.9:80' }");
        assert!(read(&text, &new).unwrap().is_empty());
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        let file = config("'10.0.0.1:80'");
        for text in ["{", "no", "{\"states\":[[\"x\",\"y\",\"asleep\"]]}", "{\"weights\":[{\"pool\":1}]}"] {
            assert!(read(text.as_bytes(), &file).is_err(), "{text}");
        }
        assert!(read(b"{\"later\":1}", &file).unwrap().is_empty());
    }
}
