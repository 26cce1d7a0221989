//! What is measured of everything that has a name: blocks, routes, pools, servers and listeners, over all workers.
//!
//! What goes in: access records, from the worker that served ([`Meters::note`]). What comes out: sums, from any thread.
//! It owns one row of cells per thing and worker. Always true: a row is written by its worker alone, without a bus lock; a
//! thing that the next configuration has too keeps its rows, so that sums never go down; nothing is allocated while serving.

pub mod digests;
mod splits;

pub use splits::{SplitSums, Splits};

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::access::{Access, Block, Steps};
use crate::close::{Blame, Close};
use crate::config::model::Config;
use crate::ids::{HttpId, ListenerId, PoolId, ServerId, SqlId, TcpId, WorkerId};
use crate::mysql::verdict::Rule;

/// Upper bounds of a histogram's buckets in nanoseconds: 10 us to 70 s, six per decade. What takes longer is in one more.
pub const BOUNDS: [u64; 42] = bounds();

/// Status classes: none, 1xx to 5xx.
pub const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

const fn bounds() -> [u64; 42] {
    const TENTHS: [u64; 6] = [10, 15, 20, 30, 50, 70];
    let mut bounds = [0; 42];
    let (mut at, mut decade) = (0, 1_000);
    while at < bounds.len() {
        bounds[at] = TENTHS[at % 6] * decade;
        at += 1;
        if at % 6 == 0 {
            decade *= 10;
        }
    }
    bounds
}

/// A time of an exchange that is measured. Things measure the first so many of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The connection to the server stood, until its answer's head was complete.
    FirstByte,
    /// The first byte of the request (TCP: the connection), until the last of the answer.
    Total,
    /// The request was understood, until a server was picked.
    Queue,
    /// A server was picked, until a new connection to it stood.
    Connect,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::FirstByte, Self::Total, Self::Queue, Self::Connect];

    fn of(self, steps: &Steps, reused: bool) -> Option<Duration> {
        match self {
            Self::FirstByte => Steps::between(steps.connected, steps.answered),
            Self::Total => Steps::between(steps.begun, steps.ended),
            Self::Queue => Steps::between(steps.asked, steps.picked),
            Self::Connect if reused => None,
            Self::Connect => Steps::between(steps.picked, steps.connected),
        }
    }
}

/// A time with its bucket, found once for all things that count it.
#[derive(Clone, Copy)]
struct Timed {
    bucket: usize,
    nanos: u64,
}

impl Timed {
    fn new(time: Duration) -> Self {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self { bucket: BOUNDS.partition_point(|bound| *bound < nanos), nanos }
    }
}

/// Only the owning worker writes, so a load and a store are enough.
fn bump(cell: &AtomicU64, by: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(by), Relaxed);
}

#[derive(Debug)]
struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; _], nanos: AtomicU64::new(0) }
    }
}

impl Histogram {
    fn note(&self, time: Timed) {
        bump(&self.buckets[time.bucket], 1);
        bump(&self.nanos, time.nanos);
    }
}

/// The sum of a histogram over all workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// How many took at most [`BOUNDS`] of that place, and more than the one before; last, how many took longer.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// Nanoseconds of all together.
    pub nanos: u64,
}

impl Default for Spread {
    fn default() -> Self {
        Self { buckets: [0; BOUNDS.len() + 1], nanos: 0 }
    }
}

impl Spread {
    fn add(&mut self, histogram: &Histogram) {
        self.merge(&Self {
            buckets: std::array::from_fn(|at| histogram.buckets[at].load(Relaxed)),
            nanos: histogram.nanos.load(Relaxed),
        });
    }

    /// Adds another one.
    pub fn merge(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(own, other)| *own = own.wrapping_add(other));
        self.nanos = self.nanos.wrapping_add(other.nanos);
    }

    /// What came since an earlier sum.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            buckets: std::array::from_fn(|at| self.buckets[at].saturating_sub(earlier.buckets[at])),
            nanos: self.nanos.saturating_sub(earlier.nanos),
        }
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// The time that this share (0 to 1) of all in these buckets did not exceed, in milliseconds, interpolated within its
/// bucket. `None` without any.
pub fn percentile_ms(buckets: &[f64; BOUNDS.len() + 1], share: f64) -> Option<f64> {
    let mut left = share * buckets.iter().sum::<f64>();
    for (at, bucket) in buckets.iter().enumerate() {
        if *bucket > 0.0 && left <= *bucket {
            let from = if at == 0 { 0 } else { BOUNDS[at - 1] };
            let to = BOUNDS.get(at).copied().unwrap_or(from);
            return Some((from as f64 + (to - from) as f64 * (left / bucket)) / 1e6);
        }
        left -= bucket;
    }
    // Rounding left a little over: the last that is not empty.
    let last = buckets.iter().rposition(|bucket| *bucket > 0.0)?;
    Some(BOUNDS[last.min(BOUNDS.len() - 1)] as f64 / 1e6)
}

/// How long each step took, in their order.
type Times = [Option<Timed>; Step::ALL.len()];

/// What a worker counted of a thing.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Row {
    classes: [AtomicU64; CLASSES.len()],
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    failed: AtomicU64,
    times: Box<[Histogram]>,
}

/// What all workers counted of a thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Exchanges by status class; see [`CLASSES`].
    pub classes: [u64; CLASSES.len()],
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
    /// Exchanges that failed by fault of a server or of ours. Of a server: answers of its own with a 5xx status.
    pub failed: u64,
}

impl Sums {
    /// Exchanges.
    pub fn exchanges(&self) -> u64 {
        self.classes.iter().sum()
    }
}

/// The rows of a thing.
#[derive(Debug)]
pub struct Meter(Box<[Row]>);

impl Meter {
    fn new(workers: usize, steps: usize) -> Self {
        let times = || (0..steps).map(|_| Histogram::default()).collect();
        Self((0..workers).map(|_| Row { times: times(), ..Row::default() }).collect())
    }

    /// The sums over all workers.
    pub fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for row in &self.0 {
            sums.classes.iter_mut().zip(&row.classes).for_each(|(sum, cell)| *sum += cell.load(Relaxed));
            sums.bytes_in += row.bytes_in.load(Relaxed);
            sums.bytes_out += row.bytes_out.load(Relaxed);
            sums.failed += row.failed.load(Relaxed);
        }
        sums
    }

    /// How long a step took, over all workers. Empty if this thing does not measure it.
    pub fn spread(&self, step: Step) -> Spread {
        let mut spread = Spread::default();
        self.0.iter().filter_map(|row| row.times.get(step as usize)).for_each(|times| spread.add(times));
        spread
    }

    fn note(&self, worker: WorkerId, access: &Access, times: &Times, failed: bool) {
        let Some(row) = self.0.get(worker.index()) else { return };
        bump(&row.classes[usize::from(access.status / 100).min(CLASSES.len() - 1)], 1);
        bump(&row.bytes_in, access.bytes_in);
        bump(&row.bytes_out, access.bytes_out);
        if failed {
            bump(&row.failed, 1);
        }
        for (histogram, time) in row.times.iter().zip(times) {
            if let Some(time) = time {
                histogram.note(*time);
            }
        }
    }
}

/// Connections that a listener accepted, and those that live: two cells per worker.
#[derive(Debug)]
pub struct Connections(Box<[(AtomicU64, AtomicU64)]>);

impl Connections {
    /// Another one. To be called by the worker that accepted it.
    pub fn enter(&self, worker: WorkerId) {
        if let Some((accepted, open)) = self.0.get(worker.index()) {
            bump(accepted, 1);
            bump(open, 1);
        }
    }

    /// One less. To be called by the worker that accepted it.
    pub fn leave(&self, worker: WorkerId) {
        if let Some((_, open)) = self.0.get(worker.index()) {
            bump(open, 1_u64.wrapping_neg());
        }
    }

    /// How many were accepted, and how many live.
    pub fn sums(&self) -> (u64, u64) {
        let add = |(accepted, open): (u64, u64), cells: &(AtomicU64, AtomicU64)| {
            (accepted.wrapping_add(cells.0.load(Relaxed)), open.wrapping_add(cells.1.load(Relaxed)))
        };
        self.0.iter().fold((0, 0), add)
    }
}

/// The rows of everything that a configuration names.
#[derive(Debug)]
pub struct Meters {
    workers: usize,
    http: Vec<Arc<Meter>>,
    routes: Vec<Vec<Arc<Meter>>>,
    route_names: Vec<Vec<String>>,
    /// By target and reason, see [`reason`].
    reasons: Vec<Vec<Arc<Meter>>>,
    tcp: Vec<Arc<Meter>>,
    sql: Vec<Arc<Meter>>,
    splits: Vec<Arc<Splits>>,
    pools: Vec<Arc<Meter>>,
    servers: Vec<Arc<Meter>>,
    listeners: Vec<Arc<Connections>>,
}

impl Meters {
    /// For so many workers; nothing is counted yet.
    pub fn new(config: &Config, workers: usize) -> Self {
        Self::build(config, workers, None)
    }

    /// Those of the next configuration: what both have, by its names, goes on.
    pub fn next(&self, own: &Config, config: &Config) -> Self {
        Self::build(config, self.workers, Some((own, self)))
    }

    fn build(config: &Config, workers: usize, before: Option<(&Config, &Self)>) -> Self {
        let list = |keys: fn(&Config) -> Vec<String>, of: fn(&Self) -> &Vec<Arc<Meter>>, steps| {
            let before = before.map(|(config, meters)| (keys(config), of(meters)));
            carried(keys(config), before, || Meter::new(workers, steps))
        };
        let routes = |at: usize| {
            let name = &config.http[at].name;
            let before = before.and_then(|(config, meters)| {
                let at = config.http.iter().position(|block| block.name == *name)?;
                Some((route_names(config, at), &meters.routes[at]))
            });
            carried(route_names(config, at), before, || Meter::new(workers, 0))
        };
        let reasons = |at: usize| {
            let name = &config.sql[at].name;
            let before = before.and_then(|(config, meters)| {
                let at = config.sql.iter().position(|block| block.name == *name)?;
                Some(((0..REASONS).collect(), &meters.reasons[at]))
            });
            carried((0..REASONS).collect(), before, || Meter::new(workers, 0))
        };
        let sql_names = |config: &Config| config.sql.iter().map(|one| one.name.clone()).collect();
        let splits = before.map(|(config, meters)| (sql_names(config), &meters.splits));
        let doors = before.map(|(config, meters)| (listener_names(config), &meters.listeners));
        let connections = || Connections((0..workers).map(|_| Default::default()).collect());
        Self {
            workers,
            http: list(|config| config.http.iter().map(|one| one.name.clone()).collect(), |one| &one.http, 2),
            routes: (0..config.http.len()).map(routes).collect(),
            route_names: (0..config.http.len()).map(|at| route_names(config, at)).collect(),
            reasons: (0..config.sql.len()).map(reasons).collect(),
            sql: list(sql_names, |one| &one.sql, 2),
            splits: carried(sql_names(config), splits, || Splits::new(workers)),
            tcp: list(|config| config.tcp.iter().map(|one| one.name.clone()).collect(), |one| &one.tcp, 2),
            pools: list(
                |config| config.pools.iter().map(|one| one.name.clone()).collect(),
                |one| &one.pools,
                Step::ALL.len(),
            ),
            servers: list(server_names, |one| &one.servers, 2),
            listeners: carried(listener_names(config), doors, connections),
        }
    }

    /// Counts an exchange that is over. To be called by the worker that served it, with an access record of this
    /// configuration.
    pub fn note(&self, worker: WorkerId, access: &Access) {
        let times = Step::ALL.map(|step| step.of(&access.steps, access.reused).map(Timed::new));
        let failed = matches!(access.close.blame(), Blame::Server | Blame::Ringgate) || access.status >= 500;
        match access.block {
            Block::Http(id) => {
                self.http[id.index()].note(worker, access, &times, failed);
                if let Some(route) = access.route {
                    self.routes[id.index()][route as usize].note(worker, access, &times, failed);
                }
            }
            Block::Tcp(id) => self.tcp[id.index()].note(worker, access, &times, failed),
            Block::Sql(id) => {
                self.splits[id.index()].note(worker, access);
                // Without one it is no statement, but the end of a connection.
                if let Some(reason) = access.route {
                    self.sql[id.index()].note(worker, access, &times, failed);
                    self.reasons[id.index()][reason as usize].note(worker, access, &times, failed);
                }
            }
        }
        if let Some(pool) = access.pool {
            self.pools[pool.index()].note(worker, access, &times, failed);
        }
        if let Some(server) = access.server {
            // Failures of connections are counted where attempts end: there may be several in an exchange.
            let failed = access.status >= 500 && access.close == Close::Done;
            self.servers[server.index()].note(worker, access, &times, failed);
        }
    }

    /// An `[http]` block's.
    pub fn http(&self, id: HttpId) -> &Meter {
        &self.http[id.index()]
    }

    /// What the route of an exchange is called: host and path; of an SQL statement target and reason.
    pub fn route_name(&self, access: &Access) -> Option<&str> {
        let Block::Http(id) = access.block else {
            return access.route.and_then(reason_of).map(|(_, rule)| rule.word());
        };
        let name = self.route_names.get(id.index())?.get(access.route? as usize)?;
        Some(name)
    }

    /// An `[sql]` block.
    pub fn sql(&self, id: SqlId) -> &Meter {
        &self.sql[id.index()]
    }

    /// The statements of an `[sql]` block by where they ran and why.
    pub fn reasons(&self, id: SqlId) -> impl Iterator<Item = (&'static str, Rule, &Meter)> {
        let all = (0u32..).zip(&self.reasons[id.index()]);
        all.filter_map(|(at, meter)| reason_of(at).map(|(target, rule)| (target, rule, &**meter)))
    }

    /// What splitting did with the statements of an `[sql]` block.
    pub fn splits(&self, id: SqlId) -> &Splits {
        &self.splits[id.index()]
    }

    /// The routes of an `[http]` block, in their order.
    pub fn routes(&self, id: HttpId) -> impl Iterator<Item = &Meter> {
        self.routes[id.index()].iter().map(AsRef::as_ref)
    }

    /// A `[tcp]` block's.
    pub fn tcp(&self, id: TcpId) -> &Meter {
        &self.tcp[id.index()]
    }

    /// A pool's.
    pub fn pool(&self, id: PoolId) -> &Meter {
        &self.pools[id.index()]
    }

    /// A server's.
    pub fn server(&self, id: ServerId) -> &Meter {
        &self.servers[id.index()]
    }

    /// A listener's.
    pub fn listener(&self, id: ListenerId) -> &Connections {
        &self.listeners[id.index()]
    }
}

/// The old thing of the same name, else a new one. Of several of one name the first keeps the first, and so on.
fn carried<K: Eq + Hash, T>(
    names: Vec<K>,
    before: Option<(Vec<K>, &Vec<Arc<T>>)>,
    new: impl Fn() -> T,
) -> Vec<Arc<T>> {
    let mut old: HashMap<K, Vec<&Arc<T>>> = HashMap::new();
    for (name, thing) in before.into_iter().flat_map(|(names, things)| names.into_iter().zip(things).rev()) {
        old.entry(name).or_default().push(thing);
    }
    let mut of = |name: K| old.get_mut(&name).and_then(Vec::pop).map_or_else(|| Arc::new(new()), Arc::clone);
    names.into_iter().map(&mut of).collect()
}

/// Numbers of [`reason`].
const REASONS: u32 = 2 * Rule::ALL.len() as u32;

/// The number for the access record of a statement that ran there, for this reason.
pub const fn reason(replica: bool, rule: Rule) -> u32 {
    (replica as u32) * Rule::ALL.len() as u32 + rule as u32
}

fn reason_of(number: u32) -> Option<(&'static str, Rule)> {
    let rules = Rule::ALL.len() as u32;
    let target = if number < rules { "primary" } else { "replica" };
    Rule::ALL.get((number % rules) as usize).map(|rule| (target, *rule))
}

fn server_names(config: &Config) -> Vec<String> {
    let name = |server: &crate::config::model::Server| {
        format!("{}\n{}\n{}", config.pools[server.pool.index()].name, server.name, server.address)
    };
    config.servers.iter().map(name).collect()
}

/// What the routes of a block are called, in their order: host and path.
pub fn route_names(config: &Config, block: usize) -> Vec<String> {
    config.http[block].routes.iter().map(|(host, path, _)| format!("{host}, {path}")).collect()
}

fn listener_names(config: &Config) -> Vec<String> {
    config.listeners.iter().map(|one| format!("{} {}", one.address, one.v6only)).collect()
}

#[cfg(test)]
mod tests;
