//! From the tree of values to the model, noting every mistake on the way.
//!
//! What goes in: the tree, the folder of the file, the host. What comes out: a `Config`, which is worth something only when
//! no mistake was noted: where a value is wrong a stand-in is taken and checking goes on. It owns the `Config` while it
//! grows. Always true: pools are read first, so that every name of a pool can be replaced by its id.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned;
use toml::de::DeTable;

use super::error::did_you_mean;
use super::model::{Config, Engine, Limits, Listener, Lookup, Process, Sandbox, Serves, Workers};
use super::raw::{At, Entry, Notes, Table, Value};
use super::values::{self, Listen};
use super::world::World;
use crate::ids::{HttpId, PoolId, SqlId, TcpId};
use crate::limits;
use crate::net::Address;

mod admin;
mod dns;
mod fields;
mod health;
mod http;
mod log;
mod pool;
mod routes;
mod sql;
mod tcp;
mod tls;

#[cfg(test)]
mod tests;

/// Builds the configuration of a document.
pub(super) fn check<'t>(
    notes: &'t Notes<'t>,
    tree: &'t Spanned<DeTable<'t>>,
    folder: &Path,
    world: &dyn World,
) -> Config {
    let document = Table::document(notes, tree);
    let mut checker = Checker {
        notes,
        folder,
        world,
        config: Config::default(),
        pools: HashMap::new(),
        pools_used: Vec::new(),
        listening: Vec::new(),
        files_read: RefCell::default(),
        lookups: RefCell::default(),
    };
    checker.document(&document);
    checker.resolve();
    checker.config.files.read = checker.files_read.take();
    checker.config
}

struct Checker<'t, 'w> {
    notes: &'t Notes<'t>,
    /// Where relative paths begin.
    folder: &'w Path,
    world: &'w dyn World,
    config: Config,
    /// Ids of pools by name.
    pools: HashMap<&'t str, PoolId>,
    /// By id.
    pools_used: Vec<bool>,
    /// Addresses so far, with their places and whether they take IPv4 besides IPv6.
    listening: Vec<(Address, bool, At)>,
    /// Paths of files so far.
    files_read: RefCell<Vec<PathBuf>>,
    /// Names of servers so far, and where they stand.
    lookups: RefCell<Vec<(At, Lookup)>>,
}

impl<'t> Checker<'t, '_> {
    fn document(&mut self, document: &Table<'t>) {
        let pools = document.entry("pool");
        let http = document.entry("http");
        let tcp = document.entry("tcp");
        let sql = document.entry("sql");
        let listens = http.is_some() || tcp.is_some() || sql.is_some();
        self.limits(document);
        self.dns(document);
        self.workers(document);
        self.admin(document);
        self.process(document);
        self.log(document);
        document.finish();

        let pools = pools.map_or_else(Vec::new, |entry| self.blocks(entry, "pool", "web"));
        for (name, block) in &pools {
            self.pool_block(name, block);
        }
        let http = http.map_or_else(Vec::new, |entry| self.blocks(entry, "http", "public"));
        for (name, block) in &http {
            self.http_block(name, block);
        }
        let tcp = tcp.map_or_else(Vec::new, |entry| self.blocks(entry, "tcp", "database"));
        for (name, block) in &tcp {
            self.tcp_block(name, block);
        }
        let sql = sql.map_or_else(Vec::new, |entry| self.blocks(entry, "sql", "main"));
        for (name, block) in &sql {
            self.sql_block(name, block);
        }
        if !listens {
            document.mistake("nothing listens", "add a block: [http.public] with listen = [\":80\"]");
        }
        for ((name, block), used) in pools.iter().zip(&self.pools_used) {
            if !used {
                self.notes.warning(
                    &block.at,
                    format!("no route leads to pool \"{name}\""),
                    "remove it, or use it",
                );
            }
        }
    }

    /// The named blocks below `[http]`, `[tcp]`, `[sql]` or `[pool]`.
    fn blocks(&self, entry: &Entry<'t>, kind: &str, example: &str) -> Vec<(&'t str, Table<'t>)> {
        let Some(named) = entry.table(&format!("write [{kind}.{example}] and the keys below it")) else {
            return Vec::new();
        };
        let mut blocks = Vec::new();
        let is_keys = |entry: &Entry<'_>| !entry.value.is_table();
        if named.entries().iter().all(is_keys) {
            named.mistake(format!("the {kind} block needs a name"), format!("write [{kind}.{example}]"));
            return blocks;
        }
        for block in named.entries() {
            if let Err(fault) = values::block_name(block.name) {
                self.notes.mistake(&block.at, fault.what, fault.advice);
            }
            if let Some(table) = block.table(&format!("blocks have names: [{kind}.{example}]")) {
                blocks.push((block.name, table));
            }
        }
        blocks
    }

    fn limits(&mut self, document: &Table<'t>) {
        let Some(table) = document.table("limits", "write [limits] and the keys below it") else { return };
        let default = Limits::default();
        let number =
            |key, range, default| table.get(key).and_then(|v: Value<'_>| v.integer(range)).unwrap_or(default);
        let memory = table.get("memory_max").and_then(|value| value.size(limits::MEMORY_MIN..=u64::MAX));
        self.config.limits = Limits {
            memory_max: memory.unwrap_or(default.memory_max),
            connections_max: number("connections_max", 1..=100_000_000, default.connections_max as u64)
                as usize,
            connections_per_client_max: number("connections_per_client_max", 0..=u64::from(u32::MAX), 0)
                as u32,
            drain: table.duration("drain", default.drain),
        };
        table.finish();
    }

    fn workers(&mut self, document: &Table<'t>) {
        let Some(table) = document.table("workers", "write [workers] and the keys below it") else { return };
        let count = table.get("count").and_then(|value| value.integer(1..=limits::WORKERS_MAX as u64));
        let words = [("auto", Engine::Auto), ("io_uring", Engine::IoUring), ("epoll", Engine::Epoll)];
        let engine = table.get("engine").and_then(|value| value.word(&words));
        self.config.workers =
            Workers { count: count.map(|count| count as usize), engine: engine.unwrap_or_default() };
        table.finish();
    }

    fn process(&mut self, document: &Table<'t>) {
        let Some(table) = document.table("process", "write [process] and the keys below it") else { return };
        let name = |key| {
            let value = table.get(key)?;
            let text = value.text()?;
            if text.is_empty() || text.contains([':', '\0', '\n']) {
                let advice = format!("write {key} = \"ringgate\"");
                value.mistake(format!("\"{}\" is no name of a {key}", text.escape_debug()), advice);
                return None;
            }
            Some(text.to_owned())
        };
        let (user, group) = (name("user"), name("group"));
        if let (None, Some(value)) = (table.get("user"), table.get("group")) {
            value.mistake("a group without a user", "name the user too: user = \"ringgate\"");
        }
        let words = [("auto", Sandbox::Auto), ("on", Sandbox::On), ("off", Sandbox::Off)];
        let sandbox = table.get("sandbox").and_then(|value| value.word(&words)).unwrap_or_default();
        self.config.process = Process { user, group, sandbox };
        table.finish();
    }

    /// The addresses of a block. A stand-in for "every address" says that it takes IPv4 besides IPv6.
    fn listen(&mut self, block: &Table<'t>) -> Vec<(Address, bool)> {
        let Some(value) = block.get("listen") else {
            block.mistake("nothing to listen on", "add listen = [\":80\"]");
            return Vec::new();
        };
        let items = value.list(true);
        if items.is_empty() && value.is_list() {
            value.mistake("nothing to listen on", "write listen = [\":80\"]");
        }
        let mut addresses = Vec::new();
        for item in items {
            let parsed = item.text().and_then(|text| item.note(values::listen(text, self.folder)));
            let (address, dual) = match parsed {
                None => continue,
                Some(Listen::Address(address)) => (Address::Tcp(address), false),
                Some(Listen::Unix(path)) => (Address::Unix(path), false),
                Some(Listen::All(port)) => {
                    let address = values::all_addresses(port, self.world.has_ipv6());
                    (Address::Tcp(address), address.is_ipv6())
                }
            };
            let other = self.listening.iter().find(|other| overlap((&other.0, other.1), (&address, dual)));
            if let Some((_, _, first)) = other {
                let advice = format!("line {} has it: remove one of them", self.notes.line(first));
                let what = format!("{} is listened on already", self.notes.text(first));
                item.mistake(what, advice);
            }
            self.listening.push((address.clone(), dual, item.at.clone()));
            addresses.push((address, dual));
        }
        addresses
    }

    /// Adds the listeners of a block.
    fn serve(&mut self, addresses: Vec<(Address, bool)>, serves: Serves) {
        let listener = |(address, dual): (Address, bool)| Listener { address, v6only: !dual, serves };
        self.config.listeners.extend(addresses.into_iter().map(listener));
    }

    /// The pool of this name, which counts as used from now on.
    fn pool_id(&mut self, value: &Value<'t>) -> Option<PoolId> {
        let name = value.text()?;
        if let Some(id) = self.pools.get(name) {
            self.pools_used[id.index()] = true;
            return Some(*id);
        }
        let mut known: Vec<&str> = self.pools.keys().copied().collect();
        known.sort_unstable();
        let advice = match known.is_empty() {
            true => format!("add a block [pool.{name}]"),
            false => did_you_mean(name, &known, "pools are"),
        };
        value.mistake(format!("there is no pool \"{name}\""), advice);
        None
    }

    /// The path of a file that the configuration names.
    fn path(&self, value: &Value<'t>) -> Option<PathBuf> {
        let text = value.text()?;
        if text.is_empty() || text.contains('\0') {
            value.mistake("the name of a file is missing", "write its path");
            return None;
        }
        let path = self.folder.join(text);
        self.files_read.borrow_mut().push(path.clone());
        Some(path)
    }

    /// The optional path of a key.
    fn path_of(&self, table: &Table<'t>, key: &'static str) -> Option<PathBuf> {
        self.path(&table.get(key)?)
    }

    /// The bytes of a file that the configuration names.
    fn file(&self, value: &Value<'t>) -> Option<(PathBuf, Vec<u8>)> {
        let path = self.path(value)?;
        match self.world.read(&path, limits::ANSWER_BYTES_MAX) {
            Ok(bytes) if bytes.len() > limits::ANSWER_BYTES_MAX => {
                let most = values::show_size(limits::ANSWER_BYTES_MAX as u64);
                value.mistake(
                    format!("{} is larger than {most}", path.display()),
                    "let a server answer with it",
                );
                None
            }
            Ok(bytes) => Some((path, bytes)),
            Err(error) => {
                let what = format!("{} cannot be read: {error}", path.display());
                value.mistake(what, "check the path and its permissions");
                None
            }
        }
    }

    fn networks(&self, block: &Table<'t>, key: &'static str) -> Vec<IpNet> {
        let items = block.get(key).map_or_else(Vec::new, |value| value.list(true));
        items.iter().filter_map(|item| item.note(values::network(item.text()?))).collect()
    }

    /// From whom a PROXY protocol header is taken.
    fn accept_proxy(&self, block: &Table<'t>, trusted: &[IpNet]) -> Option<Vec<IpNet>> {
        let value = block.get("proxy_protocol")?;
        if !value.boolean()? {
            return None;
        }
        if trusted.is_empty() {
            value.mistake(
                "a PROXY protocol header would be believed from nobody",
                "name who may send it: trusted_proxies = [\"10.0.0.0/8\"] (or [\"0.0.0.0/0\", \"::/0\"] for everybody)",
            );
        }
        Some(trusted.to_vec())
    }
}

/// True when two listeners would take the same connections.
fn overlap((a, a_dual): (&Address, bool), (b, b_dual): (&Address, bool)) -> bool {
    let covers_v4 = |dual: bool, all: &Address, one: &Address| match (all, one) {
        (Address::Tcp(all), Address::Tcp(one)) => {
            dual && all.port() == one.port() && one.ip() == IpAddr::from([0, 0, 0, 0])
        }
        _ => false,
    };
    a == b || covers_v4(a_dual, a, b) || covers_v4(b_dual, b, a)
}
