//! Rates, latencies and their last minutes: the meters, looked at every two seconds.
//!
//! What goes in: sums of the meters and counters. What comes out: what `/v1/` shows of the present. It owns a bounded history
//! per server and of the whole. Always true: workers are not asked; a server that is removed is forgotten.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};

use super::state::State;
use crate::clock::{self, Moment};
use crate::config::model::Config;
use crate::counters::Count;
use crate::ids::{HttpId, ListenerId, ServerId, SqlId, TcpId, WorkerId};
use crate::limits::{STATS_HISTORY, STATS_STEP};
use crate::meters::{BOUNDS, Meters, Spread, Step, percentile_ms};
use crate::net::Address;

/// What remains of a time in the latencies that are shown, after each step.
const FADE: f64 = 0.6;

/// After so many steps without an exchange no latency is shown.
const QUIET_STEPS: usize = 5;

/// By what a server is known from edition to edition: its pool, its name, its address.
pub type Known = (String, String, Address);

/// How a server is known.
pub fn known(config: &Config, id: ServerId) -> Known {
    let server = &config.servers[id.index()];
    (config.pools[server.pool.index()].name.clone(), server.name.clone(), server.address.clone())
}

/// What is known of the present.
#[derive(Debug, Default)]
pub struct Stats(RefCell<Inner>);

#[derive(Debug, Default)]
struct Inner {
    at: Option<Moment>,
    whole: Track,
    servers: HashMap<Known, Track>,
    /// Accepted connections, and how many per second.
    listeners: HashMap<String, (u64, f64)>,
    /// Processor time, and its share of the time.
    workers: Vec<(Duration, f64)>,
}

/// Sums as they were when they were looked at last, and what follows from them.
#[derive(Debug)]
struct Track {
    requests: u64,
    errors: u64,
    spread: Spread,
    recent: [f64; BOUNDS.len() + 1],
    /// Steps without anything.
    quiet: usize,
    rate: f64,
    errors_rate: f64,
    past: Past,
}

impl Default for Track {
    fn default() -> Self {
        let recent = [0.0; BOUNDS.len() + 1];
        let (spread, past) = (Spread::default(), Past::default());
        Self { requests: 0, errors: 0, spread, recent, quiet: 0, rate: 0.0, errors_rate: 0.0, past }
    }
}

#[derive(Debug, Default)]
struct Past {
    rate: VecDeque<f64>,
    in_flight: VecDeque<u64>,
    p99_ms: VecDeque<Option<f64>>,
    errors: VecDeque<f64>,
}

/// What is looked at of a thing.
struct Look {
    requests: u64,
    errors: u64,
    in_flight: u64,
    spread: Spread,
}

fn push<T>(list: &mut VecDeque<T>, value: T) {
    if list.len() >= STATS_HISTORY {
        list.pop_front();
    }
    list.push_back(value);
}

/// Thousandths are enough.
fn short(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

impl Track {
    /// The first look at a thing.
    fn begin(look: &Look) -> Self {
        Self { requests: look.requests, errors: look.errors, spread: look.spread, ..Self::default() }
    }

    fn step(&mut self, look: &Look, seconds: f64) {
        let per_second = |now: u64, before: u64| short(now.saturating_sub(before) as f64 / seconds);
        self.rate = per_second(look.requests, self.requests);
        self.errors_rate = per_second(look.errors, self.errors);
        let came = look.spread.since(&self.spread);
        self.quiet = if came.count() == 0 { self.quiet + 1 } else { 0 };
        self.recent.iter_mut().zip(came.buckets).for_each(|(own, came)| *own = *own * FADE + came as f64);
        (self.requests, self.errors, self.spread) = (look.requests, look.errors, look.spread);
        push(&mut self.past.rate, self.rate);
        push(&mut self.past.in_flight, look.in_flight);
        let p99 = self.latency(0.99);
        push(&mut self.past.p99_ms, p99);
        push(&mut self.past.errors, self.errors_rate);
    }

    /// `None` when nothing came lately.
    fn latency(&self, share: f64) -> Option<f64> {
        if self.quiet >= QUIET_STEPS { None } else { percentile_ms(&self.recent, share).map(short) }
    }

    fn put(&self, view: &mut Value, with_history: bool) {
        view["rate"] = json!(self.rate);
        view["errors_rate"] = json!(self.errors_rate);
        let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|share| self.latency(share));
        view["latency_ms"] = json!({ "p50": p50, "p90": p90, "p99": p99 });
        if with_history {
            let Past { rate, in_flight, p99_ms, errors } = &self.past;
            view["history"] = json!({
                "step_s": STATS_STEP.as_secs(),
                "rate": rate,
                "in_flight": in_flight,
                "p99_ms": p99_ms,
                "errors": errors,
            });
        }
    }
}

impl Stats {
    /// Puts rate, errors, latencies and, if wanted, history of the whole process into its view.
    pub fn put_whole(&self, view: &mut Value, with_history: bool) {
        self.0.borrow().whole.put(view, with_history);
    }

    /// The same of a server.
    pub fn put_server(&self, known: &Known, view: &mut Value, with_history: bool) {
        let inner = self.0.borrow();
        inner.servers.get(known).unwrap_or(&Track::default()).put(view, with_history);
    }

    /// Connections per second that a listener accepted lately.
    pub fn listener_rate(&self, address: &str) -> f64 {
        self.0.borrow().listeners.get(address).map_or(0.0, |(_, rate)| *rate)
    }

    /// The share of a processor that a worker used lately.
    pub fn busy(&self, worker: usize) -> f64 {
        self.0.borrow().workers.get(worker).map_or(0.0, |(_, share)| *share)
    }

    fn look(&self, state: &State) {
        let now = clock::now();
        let mut inner = self.0.borrow_mut();
        let seconds = inner.at.replace(now).map_or(0.0, |before| now.since(before).as_secs_f64());
        let edition = state.shared.edition();
        let (config, meters) = (&edition.config, &edition.meters);
        let whole = whole(state, config, meters);
        if seconds > 0.0 {
            inner.whole.step(&whole, seconds);
        } else {
            inner.whole = Track::begin(&whole);
        }
        let mut before = std::mem::take(&mut inner.servers);
        for view in edition.balancer.servers() {
            let meter = meters.server(view.server);
            let sums = meter.sums();
            let look = Look {
                requests: sums.exchanges(),
                errors: sums.failed + view.failed,
                in_flight: u64::from(view.in_flight),
                spread: meter.spread(Step::FirstByte),
            };
            let known = known(config, view.server);
            let track = before.remove(&known).filter(|_| seconds > 0.0);
            let mut track = track.unwrap_or_else(|| Track::begin(&look));
            if seconds > 0.0 {
                track.step(&look, seconds);
            }
            inner.servers.insert(known, track);
        }
        let mut before = std::mem::take(&mut inner.listeners);
        for (at, listener) in (0u32..).zip(&config.listeners) {
            let address = listener.address.to_string();
            let (accepted, _) = meters.listener(ListenerId(at)).sums();
            let rate = match before.remove(&address) {
                Some((old, _)) if seconds > 0.0 => short(accepted.saturating_sub(old) as f64 / seconds),
                _ => 0.0,
            };
            inner.listeners.insert(address, (accepted, rate));
        }
        let workers = u32::try_from(state.shared.workers()).unwrap_or(0);
        let seats = (0..workers).map(|at| state.shared.seat(WorkerId(at)).busy());
        let share = |(at, busy): (usize, Duration)| {
            let before = inner.workers.get(at).map_or(busy, |(before, _)| *before);
            let share = busy.saturating_sub(before).as_secs_f64() / seconds.max(f64::MIN_POSITIVE);
            (busy, short(share.min(1.0)))
        };
        inner.workers = seats.enumerate().map(share).collect();
    }
}

/// Everything together.
fn whole(state: &State, config: &Config, meters: &Meters) -> Look {
    let mut look = Look { requests: 0, errors: 0, in_flight: 0, spread: Spread::default() };
    for at in (0u32..).take(config.http.len()) {
        let meter = meters.http(HttpId(at));
        look.spread.merge(&meter.spread(Step::Total));
        look.errors += meter.sums().failed;
    }
    for at in (0u32..).take(config.sql.len()) {
        let meter = meters.sql(SqlId(at));
        look.spread.merge(&meter.spread(Step::Total));
        look.errors += meter.sums().failed;
    }
    look.errors += (0u32..).take(config.tcp.len()).map(|at| meters.tcp(TcpId(at)).sums().failed).sum::<u64>();
    look.requests = state.shared.sum(Count::Requests);
    look.in_flight = state.shared.sum(Count::Open);
    look
}

/// Looks at everything every two seconds, as long as the control thread runs.
pub async fn observe(state: Rc<State>) {
    let mut steps = tokio::time::interval(STATS_STEP);
    steps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        steps.tick().await;
        state.stats.look(&state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(requests: u64, errors: u64) -> Look {
        let mut spread = Spread::default();
        spread.buckets[12] = requests;
        Look { requests, errors, in_flight: 3, spread }
    }

    #[test]
    fn rates_and_latencies_are_of_what_came_since() {
        let mut track = Track::begin(&look(1000, 10));
        assert_eq!(track.latency(0.5), None);
        track.step(&look(1200, 14), 2.0);
        assert_eq!((track.rate, track.errors_rate), (100.0, 2.0));
        let p50 = track.latency(0.5).unwrap();
        assert!((0.7..=1.0).contains(&p50), "{p50}");
        for _ in 0..QUIET_STEPS {
            track.step(&look(1200, 14), 2.0);
        }
        assert_eq!((track.rate, track.latency(0.5)), (0.0, None));
    }

    #[test]
    fn the_past_is_bounded() {
        let mut track = Track::default();
        (0..1000).for_each(|count| track.step(&look(count, 0), 2.0));
        let lengths = [track.past.rate.len(), track.past.in_flight.len(), track.past.p99_ms.len()];
        assert_eq!(lengths, [STATS_HISTORY; 3]);
        let mut view = json!({});
        track.put(&mut view, true);
        assert_eq!(view["history"]["rate"].as_array().unwrap().len(), STATS_HISTORY);
    }
}
