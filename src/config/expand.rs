//! Names of servers become servers: one for each address.
//!
//! What goes in: a configuration, what its names stand for. What comes out: a configuration ([`expand`], a pure function).
//! It owns nothing. Always true: the name of a server says its address, so that the same address has the same name in
//! every answer; a pool has never fewer servers than entries in the file.
//!
//! `web.internal:80` becomes `web.internal:80@10.0.0.1`, `web.internal:80@10.0.0.2`; a service, whose servers may have
//! different ports, `srv:_http._tcp.web.internal@10.0.0.1:8080`. A name that was never resolved is one server without weight.

use std::collections::HashMap;
use std::hash::BuildHasher;

use super::model::{Config, Found, Lookup, Server};
use crate::ids::ServerId;
use crate::net::Address;

/// The configuration with a server for each address that its names stand for.
pub fn expand<S: BuildHasher>(config: &Config, answers: &HashMap<Lookup, Vec<Found>, S>) -> Config {
    let mut expanded = config.clone();
    expanded.servers.clear();
    for pool in &mut expanded.pools {
        let first = expanded.servers.len();
        for id in &pool.servers {
            let server = &config.servers[id.index()];
            let Some(lookup) = &server.lookup else {
                expanded.servers.push(server.clone());
                continue;
            };
            match answers.get(lookup).filter(|list| !list.is_empty()) {
                Some(list) => expanded.servers.extend(list.iter().map(|found| at(server, lookup, found))),
                None => expanded.servers.push(nowhere(server)),
            }
        }
        let ids = first..expanded.servers.len();
        pool.servers = ids.map(|at| ServerId(u32::try_from(at).unwrap_or(u32::MAX))).collect();
    }
    expanded
}

/// The server at one address of a name.
fn at(server: &Server, lookup: &Lookup, found: &Found) -> Server {
    let mut own = server.clone();
    own.address = Address::Tcp(found.address);
    own.name = match lookup.port {
        Some(_) => format!("{}@{}", server.name, found.address.ip()),
        None => format!("{}@{}", server.name, found.address),
    };
    if let Some(service) = &found.service {
        own.host.clone_from(&service.host);
        own.weight = if server.weight == 0 { 0 } else { service.weight };
        own.backup = server.backup || service.backup;
    }
    own
}

/// The server of a name that is not known yet: it can be seen, and gets nothing.
fn nowhere(server: &Server) -> Server {
    let address = Address::Tcp(([0, 0, 0, 0], 0).into());
    Server { address, weight: 0, ..server.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Service;
    use crate::config::{Nowhere, parse_in};

    const SITE: &str = "http.a = { listen = ['127.0.0.1:81'], pool = 'x' }
        [pool.x]
        servers = ['10.0.0.9:80', { address = 'web.internal:80', weight = 3 }, 'srv:_http._tcp.web.internal',
                   { name = 'named', address = 'web.internal:80', backup = true }]
        [pool.y]
        servers = ['10.0.0.8:80', { address = 'srv:_x._tcp.web.internal', weight = 0 }]";

    fn shown(config: &Config, pool: usize) -> Vec<String> {
        let show = |id: &ServerId| {
            let server = &config.servers[id.index()];
            assert_eq!(server.pool.index(), pool);
            let backup = if server.backup { " backup" } else { "" };
            format!("{} {} {} {}{backup}", server.name, server.address, server.host, server.weight)
        };
        config.pools[pool].servers.iter().map(show).collect()
    }

    fn found(address: &str) -> Found {
        Found { address: address.parse().unwrap(), service: None }
    }

    fn service(address: &str, weight: u32, backup: bool) -> Found {
        let service = Service { host: "h.internal".into(), weight, backup };
        Found { service: Some(service), ..found(address) }
    }

    #[test]
    fn names_become_servers() {
        let file = parse_in(SITE, "test.toml", &Nowhere).unwrap().config;
        let web = Lookup { name: "web.internal".into(), port: Some(80) };
        let http = Lookup { name: "_http._tcp.web.internal".into(), port: None };
        let other = Lookup { name: "_x._tcp.web.internal".into(), port: None };
        // What is known, and the servers of both pools.
        type Row<'t> = (Vec<(&'t Lookup, Vec<Found>)>, &'t [&'t str], &'t [&'t str]);
        let table: [Row<'_>; 3] = [
            (
                vec![(&web, vec![])],
                &[
                    "10.0.0.9:80 10.0.0.9:80 10.0.0.9 1",
                    "web.internal:80 0.0.0.0:0 web.internal 0",
                    "srv:_http._tcp.web.internal 0.0.0.0:0 _http._tcp.web.internal 0",
                    "named 0.0.0.0:0 web.internal 0 backup",
                ],
                &[
                    "10.0.0.8:80 10.0.0.8:80 10.0.0.8 1",
                    "srv:_x._tcp.web.internal 0.0.0.0:0 _x._tcp.web.internal 0",
                ],
            ),
            (
                vec![(&web, vec![found("192.0.2.5:80")])],
                &[
                    "10.0.0.9:80 10.0.0.9:80 10.0.0.9 1",
                    "web.internal:80@192.0.2.5 192.0.2.5:80 web.internal 3",
                    "srv:_http._tcp.web.internal 0.0.0.0:0 _http._tcp.web.internal 0",
                    "named@192.0.2.5 192.0.2.5:80 web.internal 1 backup",
                ],
                &[
                    "10.0.0.8:80 10.0.0.8:80 10.0.0.8 1",
                    "srv:_x._tcp.web.internal 0.0.0.0:0 _x._tcp.web.internal 0",
                ],
            ),
            (
                vec![
                    (&web, vec![found("192.0.2.5:80"), found("[2001:db8::1]:80")]),
                    (&http, vec![service("192.0.2.7:81", 7, false), service("192.0.2.7:82", 2, true)]),
                    (&other, vec![service("192.0.2.8:80", 9, false)]),
                ],
                &[
                    "10.0.0.9:80 10.0.0.9:80 10.0.0.9 1",
                    "web.internal:80@192.0.2.5 192.0.2.5:80 web.internal 3",
                    "web.internal:80@2001:db8::1 [2001:db8::1]:80 web.internal 3",
                    "srv:_http._tcp.web.internal@192.0.2.7:81 192.0.2.7:81 h.internal 7",
                    "srv:_http._tcp.web.internal@192.0.2.7:82 192.0.2.7:82 h.internal 2 backup",
                    "named@192.0.2.5 192.0.2.5:80 web.internal 1 backup",
                    "named@2001:db8::1 [2001:db8::1]:80 web.internal 1 backup",
                ],
                &[
                    "10.0.0.8:80 10.0.0.8:80 10.0.0.8 1",
                    "srv:_x._tcp.web.internal@192.0.2.8:80 192.0.2.8:80 h.internal 0",
                ],
            ),
        ];
        for (answers, x, y) in table {
            let answers: HashMap<Lookup, Vec<Found>> =
                answers.into_iter().map(|(lookup, found)| (lookup.clone(), found)).collect();
            let expanded = expand(&file, &answers);
            assert_eq!(
                (shown(&expanded, 0), shown(&expanded, 1)),
                (x.iter().map(|s| (*s).to_owned()).collect(), y.iter().map(|s| (*s).to_owned()).collect())
            );
            let is_written =
                |server: &Server| file.servers.iter().any(|one| one.name == server.name_in_file());
            assert!(expanded.servers.iter().all(is_written));
            assert!(expanded.servers.iter().all(|server| server.is_found() || server.weight == 0));
        }
    }

    #[test]
    fn a_file_that_was_loaded_has_what_its_names_stand_for() {
        let file = parse_in(SITE, "test.toml", &Nowhere).unwrap().config;
        assert!(file.servers.iter().all(Server::is_found));
        assert_eq!(
            shown(&expand(&file, &file.found), 0)[1],
            "web.internal:80@192.0.2.1 192.0.2.1:80 web.internal 3"
        );
        let text = SITE.replace("'web.internal:80'", "'web.invalid:80'");
        let loaded = parse_in(&text, "test.toml", &Nowhere).unwrap();
        let told =
            loaded.warnings.iter().filter(|one| one.what.contains("\"web.invalid\" cannot be resolved"));
        assert_eq!(told.count(), 2, "{:?}", loaded.warnings);
        assert!(!loaded.config.servers[1].is_found() && loaded.config.servers[2].is_found());
    }
}
