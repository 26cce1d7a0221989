//! `[pool.NAME]` blocks and their servers.

use super::dns::unknown;
use super::*;
use crate::config::model::{Balance, Lookup, Pool, PoolTimes, Server};
use crate::config::values::Target;
use crate::ids::ServerId;
use crate::proxyproto::Version;

const BALANCES: [(&str, Balance); 4] = [
    ("round-robin", Balance::RoundRobin),
    ("least-connections", Balance::LeastConnections),
    ("ip-hash", Balance::IpHash),
    ("random-two", Balance::RandomTwo),
];

impl<'t> Checker<'t, '_> {
    /// Checks a block and adds it with its servers.
    pub(super) fn pool_block(&mut self, name: &'t str, block: &Table<'t>) {
        let servers = self.servers(block, PoolId(self.config.pools.len() as u32), "10.0.0.11:80");
        let (queue_max, queue_time) = queue(block);
        let number = |key, range| block.get(key).and_then(|value: Value<'_>| value.integer(range));
        let tls = self.client_tls(block, "tls", &servers);
        let health = self.health(block, &servers, tls.as_ref());
        let pool = Pool {
            name: name.to_owned(),
            balance: block
                .get("balance")
                .and_then(|value| value.word(&BALANCES))
                .unwrap_or(Balance::RoundRobin),
            servers: Vec::new(),
            by_role: false,
            tls,
            send_proxy: block
                .get("proxy_protocol")
                .and_then(|value| value.word(&[("v1", Version::V1), ("v2", Version::V2)])),
            times: PoolTimes { queue: queue_time, ..pool_times(block) },
            attempts_max: number("attempts", 1..=100).map_or(limits::ATTEMPTS_DEFAULT, |count| count as u32),
            queue_max,
            idle_max: number("idle_connections", 0..=1_000_000)
                .map_or(limits::SERVER_IDLE_DEFAULT, |n| n as usize),
            keep_alive: block.boolean("keep_alive", true),
            health,
        };
        block.finish();
        let id = self.add_pool(pool, servers);
        self.pools.insert(name, id);
        self.pools_used.push(false);
    }

    /// Adds a pool with its servers.
    pub(super) fn add_pool(&mut self, pool: Pool, servers: Vec<Server>) -> PoolId {
        let id = PoolId(self.config.pools.len() as u32);
        let first = self.config.servers.len() as u32;
        let servers_of = (first..first + servers.len() as u32).map(ServerId).collect();
        self.config.servers.extend(servers);
        self.config.pools.push(Pool { servers: servers_of, ..pool });
        id
    }

    /// The servers of a block.
    pub(super) fn servers(&self, block: &Table<'t>, pool: PoolId, example: &str) -> Vec<Server> {
        let example = format!("servers = [ {{ address = \"{example}\" }} ]");
        let Some(value) = block.get("servers") else {
            block.mistake("the pool has no servers", format!("add {example}"));
            return Vec::new();
        };
        let items = value.list(false);
        if items.is_empty() {
            if value.is_list() {
                value.mistake("the pool has no servers", format!("write {example}"));
            }
            return Vec::new();
        }
        let mut servers: Vec<Server> = Vec::new();
        let mut names: HashMap<String, usize> = HashMap::new();
        for item in &items {
            let Some(server) = self.server(item, pool) else { continue };
            match names.insert(server.name.clone(), servers.len()).map(|position| &servers[position]) {
                Some(other) if other.address == server.address && other.lookup == server.lookup => {
                    self.notes.warning(
                        &item.at,
                        "this server is in the pool twice",
                        "use weight for a larger share",
                    );
                }
                Some(_) => {
                    item.mistake(
                        format!("there is another server \"{}\"", server.name),
                        "give each its own name",
                    );
                }
                None => {}
            }
            servers.push(server);
        }
        // Only complete lists: a server that could not be read might be the one that works.
        if servers.len() == items.len() {
            if servers.iter().all(|server| server.backup) {
                value.mistake(
                    "all servers are backups",
                    "backups serve when no other can: remove backup from one",
                );
            } else if servers.iter().filter(|server| !server.backup).all(|server| server.weight == 0) {
                value.mistake("no server has any weight", "weight = 0 gets nothing: raise one");
            }
        }
        servers
    }

    /// A table, or the address alone.
    fn server(&self, item: &Value<'t>, pool: PoolId) -> Option<Server> {
        if item.is_text() {
            let text = item.text()?;
            let (address, lookup) = self.server_address(item)?;
            let name = text.to_owned();
            let host = host_of(&address, text);
            return Some(Server {
                name,
                host,
                pool,
                address,
                weight: 1,
                backup: false,
                connections_max: 0,
                lookup,
            });
        }
        let table = item.table("write it like { address = \"10.0.0.11:80\" }")?;
        let value = table.get("address");
        if value.is_none() {
            table.mistake("the server has no address", "add address = \"10.0.0.11:80\"");
        }
        let number = |key, range| table.get(key).and_then(|value: Value<'_>| value.integer(range));
        let weight = number("weight", 0..=1000).unwrap_or(1) as u32;
        let connections_max = number("connections", 1..=u64::from(u32::MAX)).unwrap_or(0) as u32;
        let backup = table.boolean("backup", false);
        let name = table.get("name").and_then(|value| {
            let name = value.text()?;
            value.note(values::block_name(name))?;
            Some(name.to_owned())
        });
        table.finish();
        let value = value?;
        let (address, lookup) = self.server_address(&value)?;
        let text = value.text()?;
        let name = name.unwrap_or_else(|| text.to_owned());
        let host = host_of(&address, text);
        Some(Server { name, host, pool, address, weight, backup, connections_max, lookup })
    }

    /// Where a server is, or the name that is to be resolved.
    fn server_address(&self, value: &Value<'t>) -> Option<(Address, Option<Lookup>)> {
        let text = value.text()?;
        let lookup = match value.note(values::server(text, self.folder))? {
            Target::Address(address) => return Some((Address::Tcp(address), None)),
            Target::Unix(path) => return Some((Address::Unix(path), None)),
            Target::Name(name, port) => Lookup { name, port: Some(port) },
            Target::Service(name) => Lookup { name, port: None },
        };
        self.lookups.borrow_mut().push((value.at.clone(), lookup.clone()));
        Some((Address::Tcp(unknown(&lookup)), Some(lookup)))
    }
}

/// The host of a server's address, as written.
fn host_of(address: &Address, text: &str) -> String {
    match address {
        Address::Unix(_) => String::new(),
        Address::Tcp(_) => {
            let text = text.strip_prefix("srv:").unwrap_or(text);
            let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
            host.trim_matches(['[', ']']).trim_end_matches('.').to_owned()
        }
    }
}

/// Requests that may wait, and how long.
pub(super) fn queue(block: &Table<'_>) -> (usize, Duration) {
    let default = (limits::QUEUE_DEFAULT, limits::QUEUE_TIME_DEFAULT);
    let Some(table) = block.table("queue", "write it like { max = 1000, timeout = \"5s\" }") else {
        return default;
    };
    let max = table.get("max").and_then(|value| value.integer(0..=1_000_000));
    let queue = (max.map_or(default.0, |count| count as usize), table.duration("timeout", default.1));
    table.finish();
    queue
}

/// Times of connections to servers.
pub(super) fn pool_times(block: &Table<'_>) -> PoolTimes {
    let default = PoolTimes::default();
    let Some(table) = block.table("timeouts", "write it like { connect = \"5s\" }") else { return default };
    let times = PoolTimes {
        connect: table.duration("connect", default.connect),
        first_byte: table.duration("first_byte", default.first_byte),
        progress: table.duration("progress", default.progress),
        idle: table.duration("idle", default.idle),
        queue: default.queue,
    };
    table.finish();
    times
}
