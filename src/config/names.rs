//! Names of servers: the records of DNS that say where they are.
//!
//! What goes in: names. What comes out: addresses with weights, and for how long they are good. It owns the resolver. Always
//! true: nothing is kept here from answer to answer; at most [`NAMED_SERVERS_MAX`] servers come of a name, in an order
//! that does not depend on that of the records.
//!
//! A name with both kinds of addresses is used by its IPv4 addresses alone: they are most likely the same servers.
//! Of SRV records (RFC 2782) those with the lowest priority are in use, all others are backups.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, Record};

use super::model::{Dns, Found, Lookup};
use crate::limits::{LOOKUP_TIME, NAMED_SERVERS_MAX};

/// Asks name servers.
pub struct Resolver(TokioResolver);

impl Resolver {
    /// Reads what the system says about name servers, unless the configuration does.
    pub fn new(dns: &Dns) -> Result<Self, String> {
        let provider = TokioRuntimeProvider::default;
        let mut builder = if dns.servers.is_empty() {
            TokioResolver::builder(provider()).map_err(|error| error.to_string())?
        } else {
            let config =
                ResolverConfig::from_parts(None, Vec::new(), dns.servers.iter().map(server).collect());
            TokioResolver::builder_with_config(config, provider())
        };
        let options: &mut ResolverOpts = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
        // An answer that is kept would hide that it changed.
        options.cache_size = 0;
        builder.build().map(Self).map_err(|error| error.to_string())
    }

    /// What the records of a name say, and for how long.
    pub async fn look_up(&self, lookup: &Lookup) -> Result<(Vec<Found>, Duration), String> {
        let looked_up = async {
            match lookup.port {
                Some(port) => self.host(&lookup.name, port).await,
                None => self.service(&lookup.name).await,
            }
        };
        let late = |_| format!("no answer within {} s", LOOKUP_TIME.as_secs());
        let (mut found, ttl) = tokio::time::timeout(LOOKUP_TIME, looked_up).await.map_err(late)??;
        found.sort_by_key(|found| found.address);
        found.dedup_by_key(|found| found.address);
        found.truncate(NAMED_SERVERS_MAX);
        if found.is_empty() {
            return Err("it has no address".into());
        }
        Ok((found, Duration::from_secs(ttl.into())))
    }

    async fn host(&self, name: &str, port: u16) -> Result<(Vec<Found>, u32), String> {
        let answer = self.0.lookup_ip(name).await.map_err(|error| error.to_string())?;
        let found = answer.iter().map(|ip| Found { address: SocketAddr::new(ip, port), service: None });
        Ok((found.collect(), ttl(answer.as_lookup().answers())))
    }

    async fn service(&self, name: &str) -> Result<(Vec<Found>, u32), String> {
        let answer = self.0.srv_lookup(name).await.map_err(|error| error.to_string())?;
        let mut found = Vec::new();
        let mut least = ttl(answer.answers());
        let records = answer.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(service) => Some(service),
            _ => None,
        });
        let records: Vec<_> = records.take(NAMED_SERVERS_MAX).collect();
        let first = records.iter().map(|service| service.priority).min().unwrap_or(0);
        // The largest weights are reduced together, so that they stay in relation.
        let heaviest = records.iter().map(|service| u32::from(service.weight)).max().unwrap_or(0);
        for service in &records {
            let host = service.target.to_utf8();
            let (addresses, ttl) = self.host(&host, service.port).await?;
            least = least.min(ttl);
            let weight = u32::from(service.weight) * 1000 / heaviest.max(1000);
            let about = (host.trim_end_matches('.').to_owned(), weight.max(1), service.priority > first);
            found.extend(addresses.into_iter().map(|one| Found { service: Some(about.clone()), ..one }));
        }
        Ok((found, least))
    }
}

/// The address to begin with, before there is anybody to resolve names again. Blocks.
pub(super) fn first(lookup: &Lookup, dns: &Dns) -> io::Result<SocketAddr> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = runtime.block_on(async { Resolver::new(dns)?.look_up(lookup).await });
    let (found, _) = found.map_err(io::Error::other)?;
    let first = found.iter().find(|found| found.service.as_ref().is_none_or(|(_, _, backup)| !backup));
    first.map(|found| found.address).ok_or_else(|| io::Error::other("it has no address"))
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    connections.iter_mut().for_each(|connection| connection.port = address.port());
    NameServerConfig::new(address.ip(), true, connections)
}

/// The shortest time of records, in seconds.
fn ttl(records: &[Record]) -> u32 {
    records.iter().map(|record| record.ttl).min().unwrap_or(0)
}
