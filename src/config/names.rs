//! Names of servers: the records of DNS that say where they are.
//!
//! What goes in: names. What comes out: addresses with weights, and for how long they are good. It owns the resolver. Always
//! true: nothing is kept here from answer to answer; at most [`NAMED_SERVERS_MAX`] servers come of a name, in an order
//! that does not depend on that of the records; an answer without servers is an error.
//!
//! Of SRV records (RFC 2782) those with the lowest priority are in use, all others are backups.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{RData, Record};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::model::{Dns, Family, Found, Lookup, Records, Service};
use crate::limits::{LOOKUPS_MAX, NAMED_SERVERS_MAX};

/// Where the system says who resolves names.
const SYSTEM: &str = "/etc/resolv.conf";

/// Who is asked when it says nothing: the name server of this machine, as for every other program.
const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 53);

/// Asks name servers.
#[derive(Clone)]
pub struct Resolver {
    asks: TokioResolver,
    dns: Arc<Dns>,
}

impl Resolver {
    /// Reads what the system says about name servers, unless the configuration does, and /etc/hosts.
    pub fn new(dns: &Dns) -> Result<Self, String> {
        let provider = TokioRuntimeProvider::default;
        let asking = |servers: &[SocketAddr]| {
            let servers = servers.iter().map(name_server).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            TokioResolver::builder_with_config(config, provider())
        };
        let mut builder = match dns.servers.as_slice() {
            [] if names_nobody(std::fs::read_to_string(SYSTEM)) => asking(&[LOCAL]),
            [] => TokioResolver::builder(provider())
                .map_err(|error| format!("{SYSTEM} cannot be used: {error}"))?,
            servers => asking(servers),
        };
        let options: &mut ResolverOpts = builder.options_mut();
        options.ip_strategy = match dns.family {
            Family::PreferIpv4 => LookupIpStrategy::Ipv4thenIpv6,
            Family::PreferIpv6 => LookupIpStrategy::Ipv6thenIpv4,
            Family::Both => LookupIpStrategy::Ipv4AndIpv6,
        };
        // A server that does not answer leaves time for another question.
        options.timeout = dns.timeout / 3;
        // An answer that is kept would hide that it changed.
        options.cache_size = 0;
        let asks = builder.build().map_err(|error| error.to_string())?;
        Ok(Self { asks, dns: Arc::new(dns.clone()) })
    }

    /// What the records of a name say now. Errors: why nothing is known.
    pub async fn look_up(&self, lookup: &Lookup) -> Result<Records, String> {
        let looked_up = async {
            match lookup.port {
                Some(port) => self.host(&lookup.name, port).await.map_err(|error| why(&error)),
                None => self.service(&lookup.name).await,
            }
        };
        let looked_up = tokio::time::timeout(self.dns.timeout, looked_up).await;
        let (mut found, ttl) = looked_up.map_err(|_| late(&self.dns))??;
        // Whoever is there twice is no backup.
        found.sort_by_key(|found| {
            (found.address, found.service.as_ref().is_some_and(|service| service.backup))
        });
        found.dedup_by_key(|found| found.address);
        if found.is_empty() {
            return Err("it has no address".into());
        }
        let left_out = found.len().saturating_sub(NAMED_SERVERS_MAX);
        found.truncate(NAMED_SERVERS_MAX);
        let ttl = Duration::from_secs(ttl.into()).clamp(self.dns.ttl_min, self.dns.ttl_max);
        Ok(Records { found, left_out, ttl })
    }

    async fn host(&self, name: &str, port: u16) -> Result<(Vec<Found>, u32), NetError> {
        let answer = self.asks.lookup_ip(name).await?;
        let connectable = answer.iter().filter(|ip| !ip.is_unspecified() && !ip.is_multicast());
        let found = connectable.map(|ip| Found { address: SocketAddr::new(ip, port), service: None });
        Ok((found.collect(), ttl(answer.as_lookup().answers())))
    }

    async fn service(&self, name: &str) -> Result<(Vec<Found>, u32), String> {
        let answer = self.asks.srv_lookup(name).await.map_err(|error| why(&error))?;
        let mut least = ttl(answer.answers());
        let records: Vec<&SRV> = answer.answers().iter().filter_map(service_of).collect();
        let mut all = Vec::new();
        for (record, about) in records.iter().zip(services(&records)) {
            let host = record.target.to_utf8();
            match self.host(&host, record.port).await {
                Ok((addresses, ttl)) => {
                    least = least.min(ttl);
                    all.extend(
                        addresses.into_iter().map(|one| Found { service: Some(about.clone()), ..one }),
                    );
                }
                // A record that leads nowhere is not in the way of the others.
                Err(error) if error.is_no_records_found() || error.is_nx_domain() => {}
                Err(error) => return Err(format!("{host}: {}", why(&error))),
            }
        }
        Ok((all, least))
    }
}

/// Resolves names, all at once. Blocks for at most `[dns] timeout`.
pub(super) fn resolve(lookups: &[Lookup], dns: &Dns) -> Vec<Result<Records, String>> {
    let mut answers = vec![Err(late(dns)); lookups.len()];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let resolved = runtime.map_err(|error| error.to_string()).and_then(|runtime| {
        runtime.block_on(async {
            let resolver = Resolver::new(dns)?;
            let places = Arc::new(Semaphore::new(LOOKUPS_MAX));
            let mut tasks = JoinSet::new();
            for (at, lookup) in lookups.iter().cloned().enumerate() {
                let (resolver, places) = (resolver.clone(), places.clone());
                tasks.spawn(async move {
                    let _place = places.acquire().await;
                    (at, resolver.look_up(&lookup).await)
                });
            }
            let all = async {
                while let Some(done) = tasks.join_next().await {
                    let Ok((at, answer)) = done else { continue };
                    answers[at] = answer;
                }
            };
            _ = tokio::time::timeout(dns.timeout, all).await;
            Ok(())
        })
    });
    if let Err(error) = resolved {
        answers.fill(Err(error));
    }
    answers
}

/// Whether there is no such file, or no name server in it. A file that cannot be read may have some.
fn names_nobody(file: io::Result<String>) -> bool {
    match file {
        Ok(text) => !text.lines().any(|line| line.trim_start().starts_with("nameserver")),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    connections.iter_mut().for_each(|connection| connection.port = address.port());
    NameServerConfig::new(address.ip(), true, connections)
}

/// The SRV record of a record that says something. A target `.` means that there is no such service (RFC 2782).
fn service_of(record: &Record) -> Option<&SRV> {
    match &record.data {
        RData::SRV(service) if !service.target.is_root() && service.port != 0 => Some(service),
        _ => None,
    }
}

/// What SRV records say besides addresses. Weights over 1000 are reduced together, so that they stay in relation.
fn services(records: &[&SRV]) -> Vec<Service> {
    let first = records.iter().map(|record| record.priority).min().unwrap_or(0);
    let heaviest = records.iter().map(|record| u32::from(record.weight)).max().unwrap_or(0);
    let about = |record: &&SRV| Service {
        host: record.target.to_utf8().trim_end_matches('.').to_owned(),
        weight: (u32::from(record.weight) * 1000 / heaviest.max(1000)).max(1),
        backup: record.priority > first,
    };
    records.iter().map(about).collect()
}

/// The shortest time of records, in seconds.
fn ttl(records: &[Record]) -> u32 {
    records.iter().map(|record| record.ttl).min().unwrap_or(0)
}

fn late(dns: &Dns) -> String {
    format!("no answer within {} s", dns.timeout.as_secs_f32())
}

/// In words.
fn why(error: &NetError) -> String {
    if error.is_nx_domain() {
        "there is no such name".into()
    } else if error.is_no_records_found() {
        "it has no address".into()
    } else {
        error.to_string()
    }
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr::Name;

    use super::*;

    #[test]
    fn a_system_without_name_servers_has_a_local_one() {
        let text = |text: &str| Ok(text.to_owned());
        assert!(names_nobody(text("search internal\n# nameserver 10.0.0.1\n")));
        assert!(names_nobody(Err(io::ErrorKind::NotFound.into())));
        assert!(!names_nobody(text("nameserver 10.0.0.1\n")));
        assert!(!names_nobody(Err(io::ErrorKind::PermissionDenied.into())));
    }

    #[test]
    fn records_of_services_have_weights_and_backups() {
        // (priority, weight) of records, and what becomes of them.
        type Row<'t> = (&'t [(u16, u16)], &'t [(u32, bool)]);
        let table: &[Row<'_>] = &[
            (&[(10, 5), (10, 1)], &[(5, false), (1, false)]),
            (&[(20, 5), (10, 0)], &[(5, true), (1, false)]),
            (&[(0, 60000), (0, 30000), (0, 10)], &[(1000, false), (500, false), (1, false)]),
            (&[], &[]),
        ];
        for (records, expected) in table {
            let target = Name::from_ascii("h.internal.").unwrap();
            let records: Vec<SRV> = records
                .iter()
                .map(|(priority, weight)| SRV::new(*priority, *weight, 80, target.clone()))
                .collect();
            let all = services(&records.iter().collect::<Vec<_>>());
            let told: Vec<(u32, bool)> = all.iter().map(|one| (one.weight, one.backup)).collect();
            assert_eq!(&told, expected);
            assert!(all.iter().all(|one| one.host == "h.internal"));
        }
    }
}
