//! `[dns]`, and what names of servers stand for.
//!
//! What goes in: nothing. What comes out: plain values. It owns them. Always true: `ttl_min` is not longer than `ttl_max`.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::limits;

/// `[dns]`: how host names of servers are resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Who is asked; empty: those of the system.
    pub servers: Vec<SocketAddr>,
    /// Which addresses of a name are used.
    pub family: Family,
    /// A name must be resolved within this time.
    pub timeout: Duration,
    /// An answer is good for so long at least.
    pub ttl_min: Duration,
    /// And at most.
    pub ttl_max: Duration,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            family: Family::default(),
            timeout: limits::LOOKUP_TIME_DEFAULT,
            ttl_min: limits::TTL_MIN_DEFAULT,
            ttl_max: limits::TTL_MAX_DEFAULT,
        }
    }
}

/// Which addresses of a name are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// IPv4, and IPv6 where a name has no IPv4. A name with both most likely means the same servers twice.
    #[default]
    PreferIpv4,
    /// IPv6, and IPv4 where a name has no IPv6.
    PreferIpv6,
    /// All.
    Both,
}

/// A name whose records say where servers are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lookup {
    /// The name.
    pub name: String,
    /// The port of its servers; `None`: SRV records say it.
    pub port: Option<u16>,
}

impl fmt::Display for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.name),
            None => write!(f, "srv:{}", self.name),
        }
    }
}

/// What the records of a name say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records {
    /// The servers, at least one.
    pub found: Vec<Found>,
    /// How many more there would be.
    pub left_out: usize,
    /// For how long this is good.
    pub ttl: Duration,
}

/// A server as the records of a name say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it is.
    pub address: SocketAddr,
    /// What an SRV record says besides.
    pub service: Option<Service>,
}

/// What an SRV record says besides an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The server's own host name.
    pub host: String,
    /// 1 to 1000.
    pub weight: u32,
    /// Other records have a lower priority value, and go first.
    pub backup: bool,
}
