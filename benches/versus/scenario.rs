//! What is compared: the proxies, the scenarios and the targets.
//!
//! In: names from the command line. Out: plain descriptions that the other files act upon. Owns the one table of
//! scenarios. Always true: a scenario's name is unique, and `judge` says which number of a sample decides.

/// Bytes of the smallest answer.
pub const SMALL_BYTES: usize = 12;
/// Bytes of the middle answer.
pub const MEDIUM_BYTES: usize = 10 * 1024;
/// Bytes of the largest answer.
pub const LARGE_BYTES: usize = 1024 * 1024;
/// Connections that are held open in the idle scenarios.
pub const IDLE_CONNECTIONS: usize = 4000;
/// Connections of the keep-alive scenarios.
pub const KEPT_CONNECTIONS: usize = 64;

/// A program in the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// HAProxy as Debian ships it, or `HAPROXY=/path`.
    Haproxy,
    /// The same with `option splice-auto`.
    HaproxySplice,
    /// The same with `tune.bufsize 65536`: four times the default, for large answers.
    HaproxyBuffers,
    /// nginx as a proxy, or `NGINX=/path`.
    Nginx,
    /// This project, or `RINGGATE=/path`.
    Ringgate,
}

impl Proxy {
    /// The word on the command line and in JSON.
    pub fn key(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::HaproxySplice => "haproxy-splice",
            Self::HaproxyBuffers => "haproxy-64k",
            Self::Nginx => "nginx",
            Self::Ringgate => "ringgate",
        }
    }

    /// The name for people.
    pub fn label(self) -> &'static str {
        match self {
            Self::Haproxy => "HAProxy",
            Self::HaproxySplice => "HAProxy, splice-auto",
            Self::HaproxyBuffers => "HAProxy, 64 KB buffers",
            Self::Nginx => "nginx",
            Self::Ringgate => "ringgate",
        }
    }
}

/// How the load is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// wrk over `KEPT_CONNECTIONS` connections that stay open.
    Kept,
    /// wrk with a new connection for each request.
    Connect,
    /// One connection, one request at a time.
    Single,
    /// A TLS handshake and one request per connection; resumed with a ticket or full.
    Handshake {
        /// Whether the client offers the ticket of its previous connection.
        resumed: bool,
    },
    /// `IDLE_CONNECTIONS` connections, one request each, then nothing.
    Idle,
}

/// Which number decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// CPU microseconds per request of the proxy.
    Cpu,
    /// Microseconds of the median answer.
    P50,
    /// Bytes of process memory per idle connection.
    IdleBytes,
}

impl Judge {
    /// What the number is, with its unit.
    pub fn label(self) -> &'static str {
        match self {
            Self::Cpu => "CPU µs/request",
            Self::P50 => "p50 µs",
            Self::IdleBytes => "bytes/connection",
        }
    }
}

/// A target of the project.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// ringgate's number divided by that of this proxy is at most this.
    Ratio(Proxy, f64),
    /// ringgate's number is at most this.
    Most(f64),
}

/// One scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// The word on the command line and in JSON.
    pub name: &'static str,
    /// The name for people.
    pub title: &'static str,
    /// Whether the client speaks TLS.
    pub tls: bool,
    /// Whether the origin is reached through a Unix socket.
    pub unix: bool,
    /// Bytes of the answer's body.
    pub bytes: usize,
    /// The load.
    pub work: Work,
    /// The number that decides.
    pub judge: Judge,
    /// Rows besides HAProxy's own with other settings, for comparison.
    pub variants: &'static [Proxy],
    /// The targets.
    pub targets: &'static [Target],
}

impl Scenario {
    /// The path of the answer at the origin.
    pub fn path(&self) -> &'static str {
        match self.bytes {
            SMALL_BYTES => "/small",
            MEDIUM_BYTES => "/medium",
            _ => "/large",
        }
    }
}

const PLAIN: Scenario = Scenario {
    name: "",
    title: "",
    tls: false,
    unix: false,
    bytes: SMALL_BYTES,
    work: Work::Kept,
    judge: Judge::Cpu,
    variants: &[],
    targets: &[],
};
const TLS: Scenario = Scenario { tls: true, ..PLAIN };

/// All scenarios in the order of the report.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "small",
        title: "Keep-alive, 12 bytes",
        targets: &[Target::Ratio(Proxy::Haproxy, 0.65), Target::Ratio(Proxy::Nginx, 0.85)],
        ..PLAIN
    },
    Scenario { name: "unix", title: "Keep-alive, Unix socket origin", unix: true, ..PLAIN },
    Scenario { name: "medium", title: "Keep-alive, 10 KB", bytes: MEDIUM_BYTES, ..PLAIN },
    Scenario {
        name: "large",
        title: "Keep-alive, 1 MB",
        bytes: LARGE_BYTES,
        variants: &[Proxy::HaproxySplice, Proxy::HaproxyBuffers],
        targets: &[Target::Ratio(Proxy::Haproxy, 0.9), Target::Ratio(Proxy::HaproxySplice, 1.1)],
        ..PLAIN
    },
    Scenario {
        name: "connect",
        title: "New connection per request",
        work: Work::Connect,
        targets: &[Target::Ratio(Proxy::Haproxy, 0.75)],
        ..PLAIN
    },
    Scenario {
        name: "tls-small",
        title: "TLS keep-alive, 12 bytes",
        targets: &[Target::Ratio(Proxy::Haproxy, 0.65)],
        ..TLS
    },
    Scenario {
        name: "tls-full",
        title: "TLS full handshake per request",
        work: Work::Handshake { resumed: false },
        targets: &[Target::Ratio(Proxy::Haproxy, 0.6)],
        ..TLS
    },
    Scenario {
        name: "tls-resumed",
        title: "TLS resumed handshake per request",
        work: Work::Handshake { resumed: true },
        targets: &[Target::Ratio(Proxy::Nginx, 1.0)],
        ..TLS
    },
    Scenario {
        name: "tls-large",
        title: "TLS keep-alive, 1 MB",
        bytes: LARGE_BYTES,
        variants: &[Proxy::HaproxyBuffers],
        targets: &[Target::Ratio(Proxy::Haproxy, 0.9)],
        ..TLS
    },
    Scenario {
        name: "single",
        title: "One connection alone",
        work: Work::Single,
        judge: Judge::P50,
        targets: &[Target::Ratio(Proxy::Haproxy, 1.0)],
        ..PLAIN
    },
    Scenario {
        name: "idle",
        title: "4,000 idle connections",
        work: Work::Idle,
        judge: Judge::IdleBytes,
        targets: &[Target::Most(1024.0)],
        ..PLAIN
    },
    Scenario {
        name: "tls-idle",
        title: "4,000 idle TLS connections",
        work: Work::Idle,
        judge: Judge::IdleBytes,
        targets: &[Target::Most(12.0 * 1024.0)],
        ..TLS
    },
];

/// The scenarios named in `only` (all when empty), in the order of the report. `Err` names the unknown word.
pub fn select(only: &[String]) -> Result<Vec<&'static Scenario>, String> {
    if let Some(word) = only.iter().find(|word| !SCENARIOS.iter().any(|s| s.name == word.as_str())) {
        let names: Vec<_> = SCENARIOS.iter().map(|s| s.name).collect();
        return Err(format!("no scenario is called {word:?}; there are {}", names.join(", ")));
    }
    Ok(SCENARIOS.iter().filter(|s| only.is_empty() || only.iter().any(|word| word == s.name)).collect())
}

#[cfg(test)]
#[allow(unused, reason = "only tests.rs has a harness")]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for (index, scenario) in SCENARIOS.iter().enumerate() {
            assert!(
                SCENARIOS[index + 1..].iter().all(|other| other.name != scenario.name),
                "{}",
                scenario.name
            );
        }
    }

    #[test]
    fn selects_by_name_in_the_order_of_the_report() {
        let names = |only: &[&str]| {
            let only: Vec<String> = only.iter().map(|s| (*s).to_owned()).collect();
            select(&only).map(|list| list.iter().map(|s| s.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]).unwrap().len(), SCENARIOS.len());
        assert_eq!(names(&["tls-full", "small"]).unwrap(), ["small", "tls-full"]);
        assert!(names(&["smal"]).unwrap_err().contains("\"smal\""));
    }
}
