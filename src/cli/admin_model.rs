//! The answers of the admin interface, as far as the command line shows them.
//!
//! What goes in: JSON. What comes out: plain values. It owns its texts. Always true: a text or list that is missing is
//! empty, a measurement that is missing is `None`; fields that are not known are ignored, so that a newer or older process
//! can be asked too.

use std::collections::BTreeMap;

use serde::Deserialize;

/// An error of the interface.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Refusal {
    pub(super) error: String,
    pub(super) advice: String,
    /// Rendered mistakes of a configuration.
    pub(super) mistakes: Vec<String>,
}

/// Milliseconds, by share of the requests.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Latency {
    pub(super) p50: Option<f64>,
    pub(super) p90: Option<f64>,
    pub(super) p99: Option<f64>,
}

/// `/v1/status`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) version: String,
    pub(super) pid: u64,
    pub(super) uptime_s: f64,
    pub(super) engine: String,
    pub(super) workers: u64,
    pub(super) edition: u64,
    pub(super) loaded_at: String,
    pub(super) file: Option<String>,
    pub(super) draining: bool,
    pub(super) connections: Connections,
    pub(super) requests: u64,
    pub(super) rate: Option<f64>,
    pub(super) errors_rate: Option<f64>,
    pub(super) latency_ms: Latency,
    pub(super) workers_load: Vec<Load>,
}

/// Client connections of the process.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Connections {
    pub(super) open: u64,
    pub(super) accepted: u64,
    pub(super) max: u64,
}

/// What a worker does.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Load {
    pub(super) worker: u64,
    /// 0 to 1.
    pub(super) busy: f64,
    pub(super) connections: u64,
}

/// One of `/v1/listeners`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Listener {
    pub(super) address: String,
    pub(super) block: String,
    pub(super) kind: String,
    pub(super) tls: bool,
    pub(super) open: Option<u64>,
    pub(super) accepted: Option<u64>,
    pub(super) rate: Option<f64>,
}

/// `/v1/servers`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Servers {
    pub(super) pools: Vec<Pool>,
}

/// A pool and its servers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pool {
    pub(super) name: String,
    pub(super) balance: String,
    pub(super) waiting: u64,
    pub(super) servers: Vec<Server>,
}

/// A server.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Server {
    pub(super) name: String,
    /// The host name in the file that this server is one of.
    pub(super) of: Option<String>,
    pub(super) address: String,
    pub(super) state: String,
    pub(super) weight: u64,
    pub(super) weight_file: Option<u64>,
    pub(super) backup: bool,
    pub(super) in_flight: u64,
    pub(super) connections_max: u64,
    pub(super) rate: Option<f64>,
    /// Since the start.
    pub(super) errors: u64,
    /// Per second, where the process says it.
    pub(super) errors_rate: Option<f64>,
    pub(super) latency_ms: Latency,
    /// Of a server of an `[sql]` block; `None` for others.
    pub(super) role: Option<String>,
    /// How far it is behind the primary; `None` when that is not known.
    pub(super) lag_ms: Option<f64>,
    pub(super) check: Check,
}

impl Server {
    /// What it does and how far it is behind: `primary`, `replica 3ms`, `replica ?`; `None` for a server without roles.
    pub(super) fn part(&self) -> Option<String> {
        let role = self.role.as_deref()?;
        Some(match self.lag_ms {
            _ if role != "replica" => role.to_owned(),
            None => format!("{role} ?"),
            Some(ms) if ms < 999.5 => format!("{role} {ms:.0}ms"),
            Some(ms) if ms < 99_950.0 => format!("{role} {:.1}s", ms / 1000.0),
            Some(ms) => format!("{role} {:.0}s", ms / 1000.0),
        })
    }
}

/// The last health check.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Check {
    pub(super) result: String,
    pub(super) text: String,
    pub(super) failures: u64,
}

/// One of `/v1/sessions`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Session {
    pub(super) worker: u64,
    pub(super) id: serde_json::Value,
    /// None on a Unix socket.
    pub(super) client: Option<String>,
    pub(super) listener: String,
    pub(super) kind: String,
    pub(super) phase: String,
    pub(super) age_s: f64,
    pub(super) requests: u64,
    pub(super) pool: Option<String>,
    pub(super) server: Option<String>,
    pub(super) bytes_in: Option<u64>,
    pub(super) bytes_out: Option<u64>,
}

/// `/v1/digests`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Digests {
    pub(super) blocks: Vec<Shapes>,
}

/// The shapes of an `[sql]` block's statements.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Shapes {
    pub(super) block: String,
    pub(super) statements: u64,
    pub(super) known: u64,
    pub(super) gone: Gone,
    pub(super) split: Split,
    pub(super) shapes: Vec<Shape>,
}

/// Statements whose shapes found no place.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Gone {
    pub(super) statements: u64,
}

/// What splitting did.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Split {
    pub(super) primary: u64,
    pub(super) replica: u64,
    pub(super) fenced: u64,
    pub(super) denied: u64,
    pub(super) state_lost: u64,
    pub(super) waits: BTreeMap<String, u64>,
    pub(super) pinned: BTreeMap<String, u64>,
}

/// One of them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Shape {
    pub(super) digest: String,
    /// None while no server has understood it.
    pub(super) text: Option<String>,
    pub(super) statements: u64,
    pub(super) errors: u64,
    pub(super) on_replica: u64,
    pub(super) bytes_out: u64,
    pub(super) share: f64,
    pub(super) mean_ms: Option<f64>,
    pub(super) max_ms: Option<f64>,
}

/// One of `/v1/certs`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Certificate {
    pub(super) block: String,
    pub(super) file: String,
    pub(super) names: Vec<String>,
    pub(super) issuer: String,
    pub(super) not_after: String,
    pub(super) days_left: i64,
}

/// One of `/v1/diff`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Difference {
    pub(super) what: String,
    pub(super) file: serde_json::Value,
    pub(super) process: serde_json::Value,
}

/// The answer to a reload.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reloaded {
    pub(super) edition: u64,
    pub(super) changes: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// The answer to `explain`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Explained {
    pub(super) text: String,
    pub(super) served: bool,
}
