//! The `[dns]` block, and names of servers once all of them are read.

use std::net::SocketAddr;

use super::*;
use crate::config::model::{Dns, Family};

impl<'t> Checker<'t, '_> {
    /// Checks the block.
    pub(super) fn dns(&mut self, document: &Table<'t>) {
        let Some(table) = document.table("dns", "write [dns] and the keys below it") else { return };
        let items = table.get("servers").map_or_else(Vec::new, |value| value.list(true));
        let mut servers = Vec::new();
        for item in &items {
            let Some(text) = item.text() else { continue };
            let parsed = text.parse().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53)));
            match parsed {
                Ok(_) if servers.len() == limits::NAME_SERVERS_MAX => {
                    item.mistake("these are too many name servers", "three are plenty");
                }
                Ok(address) => servers.push(address),
                Err(_) => item.mistake(
                    format!("\"{text}\" is not the address of a name server"),
                    "write it like \"10.0.0.53\" or \"127.0.0.1:5353\"",
                ),
            }
        }
        let words = [
            ("prefer-ipv4", Family::PreferIpv4),
            ("prefer-ipv6", Family::PreferIpv6),
            ("both", Family::Both),
        ];
        let family = table.get("addresses").and_then(|value| value.word(&words)).unwrap_or_default();
        let default = Dns::default();
        let time = |key, default, least: Duration, most: Duration| {
            let time = table.duration(key, default);
            if let (false, Some(value)) = ((least..=most).contains(&time), table.get(key)) {
                value.mistake(
                    format!("{key} must be between {} and {} seconds", least.as_secs_f32(), most.as_secs()),
                    "most sites need no other value than the default",
                );
            }
            time
        };
        let timeout = time("timeout", default.timeout, Duration::from_millis(100), limits::LOOKUP_TIME_MAX);
        let ttl_min = time("ttl_min", default.ttl_min, limits::TTL_MIN_DEFAULT, limits::TTL_MAX_MAX);
        let ttl_max = time("ttl_max", default.ttl_max, limits::TTL_MIN_DEFAULT, limits::TTL_MAX_MAX);
        if let (true, Some(value)) = (ttl_min > ttl_max, table.get("ttl_min")) {
            value.mistake("ttl_min is longer than ttl_max", "make one of them the other");
        }
        self.config.dns = Dns { servers, family, timeout, ttl_min, ttl_max };
        table.finish();
    }

    /// Resolves the names of servers, all at once. One that cannot be resolved is no mistake: a name server that is down
    /// would keep every other site from being served, and a file is often checked where its names are not known.
    pub(super) fn resolve(&mut self) {
        let lookups = self.lookups.take();
        if lookups.is_empty() || self.notes.has_mistakes() {
            return;
        }
        let mut names: Vec<Lookup> = Vec::new();
        let mut known = std::collections::HashSet::new();
        for (_, lookup) in &lookups {
            if known.insert(lookup) {
                names.push(lookup.clone());
            }
        }
        let answers: HashMap<_, _> = names.iter().zip(self.world.resolve(&names, &self.config.dns)).collect();
        for (at, lookup) in &lookups {
            match answers.get(lookup) {
                Some(Err(why)) => {
                    let what = format!("the name \"{}\" cannot be resolved: {why}", lookup.name);
                    let advice = "it is tried again while the process runs, and until then the server gets nothing; check \
                                  the name, and who is asked for it ([dns] servers or /etc/resolv.conf)";
                    self.notes.warning(at, what, advice);
                }
                Some(Ok(answer)) if answer.left_out > 0 => {
                    let used = answer.found.len();
                    let what = format!(
                        "the name \"{}\" has {} addresses: {used} are used",
                        lookup.name,
                        used + answer.left_out
                    );
                    self.notes.warning(at, what, "use several names");
                }
                _ => {}
            }
        }
        let found =
            answers.into_iter().filter_map(|(lookup, answer)| Some((lookup.clone(), answer.ok()?.found)));
        self.config.found = found.collect();
        for server in &mut self.config.servers {
            let found = server.lookup.as_ref().and_then(|lookup| self.config.found.get(lookup));
            if let Some(first) = found.and_then(|found| found.first()) {
                server.address = Address::Tcp(first.address);
            }
        }
    }
}

/// The address of a name that was not resolved.
pub(super) fn unknown(lookup: &Lookup) -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], lookup.port.unwrap_or(0)))
}
