//! Names that stand for servers, while the process runs: resolved again when the time of their records is over.
//!
//! What goes in: a configuration with names, answers of DNS. What comes out: the configuration with a server for each
//! address ([`expand`], a pure function). It owns: the answers, and a task per name. Always true: a name that cannot be
//! resolved keeps its last answer; a server keeps its name for as long as its address is among the answers.
//!
//! The only address of a name has the server's own name (`web.internal:80`); of several, each has the address behind it
//! (`web.internal:80#10.0.0.1`). A server that was alone keeps its short name when others join it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::task::AbortHandle;

use super::state::State;
use crate::config::model::{Config, Dns, Found, Lookup, Server};
use crate::config::names::Resolver;
use crate::ids::ServerId;
use crate::net::Address;

/// The last answers for names.
#[derive(Clone, Debug, Default)]
pub struct Answers(HashMap<Lookup, Vec<Named>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    found: Found,
    /// It has the server's own name.
    is_plain: bool,
}

impl Answers {
    /// Takes an answer. True when it is another one than before; `at_work` is the address without any answer.
    pub fn take(&mut self, lookup: &Lookup, found: Vec<Found>, at_work: Option<SocketAddr>) -> bool {
        let before = self.0.get(lookup);
        let plain = match before {
            Some(before) => before.iter().find(|one| one.is_plain).map(|one| one.found.address),
            None => at_work,
        };
        let plain = plain.filter(|plain| found.iter().any(|found| found.address == *plain));
        let alone = found.len() == 1
            && before.is_none_or(|before| before.iter().all(|one| one.found.address != found[0].address));
        let named = |found: Found| Named { is_plain: alone || plain == Some(found.address), found };
        let named: Vec<Named> = found.into_iter().map(named).collect();
        let changed = before != Some(&named);
        self.0.insert(lookup.clone(), named);
        changed
    }

    fn retain(&mut self, lookups: &[Lookup]) {
        self.0.retain(|lookup, _| lookups.contains(lookup));
    }
}

/// The configuration with a server for each address that its names stand for. A name without an answer is left alone.
pub fn expand(config: &Config, answers: &Answers) -> Config {
    let mut expanded = config.clone();
    expanded.servers.clear();
    for pool in &mut expanded.pools {
        let first = expanded.servers.len();
        for id in &pool.servers {
            let server = &config.servers[id.index()];
            match server.lookup.as_ref().and_then(|lookup| answers.0.get(lookup)) {
                Some(list) => expanded.servers.extend(list.iter().map(|named| of(server, named))),
                None => expanded.servers.push(server.clone()),
            }
        }
        let ids = first..expanded.servers.len();
        pool.servers = ids.map(|at| ServerId(u32::try_from(at).unwrap_or(u32::MAX))).collect();
    }
    expanded
}

/// The server at an address that its name stands for.
fn of(server: &Server, named: &Named) -> Server {
    let Named { found, is_plain } = named;
    let mut own = server.clone();
    own.address = Address::Tcp(found.address);
    if !is_plain {
        own.name = match server.lookup.as_ref().and_then(|lookup| lookup.port) {
            Some(_) => format!("{}#{}", server.name, found.address.ip()),
            None => format!("{}#{}", server.name, found.address),
        };
    }
    if let Some((host, weight, backup)) = &found.service {
        own.host.clone_from(host);
        own.weight = if server.weight == 0 { 0 } else { *weight };
        own.backup = server.backup || *backup;
    }
    own
}

/// The names of a configuration, each once.
fn lookups(config: &Config) -> Vec<Lookup> {
    let mut list: Vec<Lookup> = Vec::new();
    for lookup in config.servers.iter().filter_map(|server| server.lookup.as_ref()) {
        if !list.contains(lookup) {
            list.push(lookup.clone());
        }
    }
    list
}

/// Names that are resolved again and again.
#[derive(Default)]
pub struct Names {
    answers: RefCell<Answers>,
    tasks: RefCell<HashMap<Lookup, AbortHandle>>,
    dns: RefCell<Dns>,
    failures: Cell<u64>,
}

impl Names {
    /// The last answers.
    pub fn answers(&self) -> Answers {
        self.answers.borrow().clone()
    }

    /// How often names could not be resolved.
    pub const fn failures(&self) -> u64 {
        self.failures.get()
    }

    /// Resolves the names of a file's configuration from now on, and no others.
    pub fn follow(&self, file: &Config, state: &Weak<State>) {
        let wanted = lookups(file);
        let asks_others = self.dns.replace(file.dns.clone()) != file.dns;
        let mut tasks = self.tasks.borrow_mut();
        tasks.retain(|lookup, task| {
            let stays = wanted.contains(lookup) && !asks_others;
            if !stays {
                task.abort();
            }
            stays
        });
        self.answers.borrow_mut().retain(&wanted);
        for lookup in wanted {
            let dns = file.dns.clone();
            tasks.entry(lookup.clone()).or_insert_with(|| {
                tokio::task::spawn_local(resolve(lookup, dns, state.clone())).abort_handle()
            });
        }
    }

    fn take(&self, lookup: &Lookup, found: Vec<Found>, file: &Config) -> bool {
        let server = file.servers.iter().find(|server| server.lookup.as_ref() == Some(lookup));
        let at_work = server.and_then(|server| match &server.address {
            Address::Tcp(address) => Some(*address),
            Address::Unix(_) => None,
        });
        self.answers.borrow_mut().take(lookup, found, at_work)
    }
}

/// Resolves one name for as long as there is somebody who wants to know.
async fn resolve(lookup: Lookup, dns: Dns, state: Weak<State>) {
    let mut told = false;
    loop {
        let answer = match Resolver::new(&dns) {
            Ok(resolver) => resolver.look_up(&lookup).await,
            Err(error) => Err(error),
        };
        let Some(state) = state.upgrade() else { return };
        let wait = match answer {
            Ok((found, ttl)) => {
                if std::mem::take(&mut told) {
                    eprintln!("the name \"{}\" is resolved again", lookup.name);
                }
                take(&state, &lookup, found).await;
                ttl.clamp(dns.ttl_min, dns.ttl_max)
            }
            Err(error) => {
                let names = state.names();
                names.failures.set(names.failures.get() + 1);
                if !std::mem::replace(&mut told, true) {
                    eprintln!(
                        "the name \"{}\" cannot be resolved, its last answer stays: {error}",
                        lookup.name
                    );
                }
                dns.ttl_min.max(Duration::from_secs(1))
            }
        };
        drop(state);
        tokio::time::sleep(wait).await;
    }
}

async fn take(state: &Rc<State>, lookup: &Lookup, found: Vec<Found>) {
    let list: Vec<String> = found.iter().map(|found| found.address.to_string()).collect();
    if state.names().take(lookup, found, &state.file()) {
        match state.apply_names().await {
            Ok(true) => eprintln!("the name \"{}\" stands for {} now", lookup.name, list.join(", ")),
            Ok(false) => {}
            Err(error) => {
                eprintln!("what the name \"{}\" stands for now cannot be used: {error}", lookup.name)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Nowhere, parse_in};

    fn config() -> Config {
        let text = "http.a = { listen = ['127.0.0.1:81'], pool = 'x' }
             [pool.x]
             servers = ['10.0.0.9:80', { address = 'web.internal:80', weight = 3 }, 'srv:_http._tcp.web.internal']
             [pool.y]
             servers = ['10.0.0.8:80']";
        parse_in(text, "test.toml", &Nowhere).unwrap().config
    }

    fn found(last: u8) -> Found {
        Found { address: SocketAddr::from(([192, 0, 2, last], 80)), service: None }
    }

    fn shown(config: &Config, pool: usize) -> String {
        let show = |id: &ServerId| {
            let server = &config.servers[id.index()];
            let backup = if server.backup { " backup" } else { "" };
            format!("{}={}*{}{backup}", server.name, server.address, server.weight)
        };
        config.pools[pool].servers.iter().map(show).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_server_keeps_its_name_while_its_address_is_an_answer() {
        let lookup = Lookup { name: "web.internal".into(), port: Some(80) };
        let mut answers = Answers::default();
        let at_work = Some(found(1).address);
        // Answers one after the other, and the names after each: `-` is the plain one.
        for (last, expected, changed) in [
            (vec![1], "1-", true),
            (vec![1, 2], "1- 2", true),
            (vec![2], "2", true),
            (vec![3], "3-", true),
            (vec![3, 4], "3- 4", true),
            (vec![4, 5], "4 5", true),
            (vec![4, 5], "4 5", false),
        ] {
            let news = answers.take(&lookup, last.iter().copied().map(found).collect(), at_work);
            assert_eq!(news, changed, "{last:?}");
            let named = |(last, one): (&u8, &Named)| format!("{last}{}", if one.is_plain { "-" } else { "" });
            let shown: Vec<String> = last.iter().zip(&answers.0[&lookup]).map(named).collect();
            assert_eq!(shown.join(" "), expected);
        }
    }

    #[test]
    fn names_become_servers() {
        let file = config();
        let mut answers = Answers::default();
        let plain = "10.0.0.9:80=10.0.0.9:80*1 web.internal:80=192.0.2.1:80*3 \
                     srv:_http._tcp.web.internal=192.0.2.1:80*1";
        assert_eq!(shown(&expand(&file, &answers), 0), plain, "without an answer the first address stays");
        let web = Lookup { name: "web.internal".into(), port: Some(80) };
        answers.take(&web, vec![found(5), found(6)], None);
        let service = Lookup { name: "_http._tcp.web.internal".into(), port: None };
        let of = |last, backup| Found { service: Some(("h.internal".into(), 7, backup)), ..found(last) };
        answers.take(&service, vec![of(7, false), of(8, true)], None);
        let expanded = expand(&file, &answers);
        assert_eq!(
            shown(&expanded, 0),
            "10.0.0.9:80=10.0.0.9:80*1 web.internal:80#192.0.2.5=192.0.2.5:80*3 \
             web.internal:80#192.0.2.6=192.0.2.6:80*3 \
             srv:_http._tcp.web.internal#192.0.2.7:80=192.0.2.7:80*7 \
             srv:_http._tcp.web.internal#192.0.2.8:80=192.0.2.8:80*7 backup"
        );
        assert_eq!(shown(&expanded, 1), "10.0.0.8:80=10.0.0.8:80*1");
        assert_eq!(
            (expanded.servers[3].host.as_str(), expanded.servers[1].host.as_str()),
            ("h.internal", "web.internal")
        );
        assert!(expanded.pools.iter().all(|pool| {
            pool.servers
                .iter()
                .all(|id| expanded.pools[expanded.servers[id.index()].pool.index()].name == pool.name)
        }));
        answers.retain(&[web]);
        assert_eq!(answers.0.len(), 1);
    }
}
