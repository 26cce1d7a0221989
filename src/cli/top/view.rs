//! What `top` shows, apart from how it looks.
//!
//! What goes in: snapshots of a process (or that there was none) and the wishes of the user. What comes out: rows in the
//! wished order, rates over time. It owns the last snapshot. Always true: at most [`TOP_RATES_MAX`] rates are kept; the
//! chosen row follows its server when the order changes.

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};

use super::super::admin_client::Trouble;
use super::super::admin_model::{Listener, Server, Servers, Status};
use crate::clock::Moment;
use crate::limits::TOP_RATES_MAX;

/// What a process said at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    pub(super) status: Status,
    pub(super) servers: Servers,
    pub(super) listeners: Vec<Listener>,
    pub(super) at: Moment,
}

/// What the servers are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Name,
    State,
    InFlight,
    Rate,
    Latency,
    Errors,
}

impl Sort {
    /// The order that a key asks for.
    pub(super) const fn of_key(key: char) -> Option<Self> {
        Some(match key {
            'n' => Self::Name,
            's' => Self::State,
            'f' => Self::InFlight,
            'r' => Self::Rate,
            'l' => Self::Latency,
            'e' => Self::Errors,
            _ => return None,
        })
    }
}

/// A server as one row.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) pool: String,
    pub(super) server: Server,
    /// Per second; `None` until two snapshots can be compared.
    pub(super) errors_rate: Option<f64>,
}

/// What is shown.
#[derive(Debug)]
pub(super) struct View {
    /// Where the interface listens.
    pub(super) place: String,
    pub(super) last: Option<Snapshot>,
    /// Why there is no newer snapshot.
    pub(super) trouble: Option<Trouble>,
    /// Requests per second of the process, oldest first.
    pub(super) rates: VecDeque<u64>,
    pub(super) is_paused: bool,
    pub(super) sort: Sort,
    /// The row that is marked.
    pub(super) chosen: usize,
    rows: Vec<Row>,
}

impl View {
    pub(super) fn new(place: String) -> Self {
        Self {
            place,
            last: None,
            trouble: None,
            rates: VecDeque::new(),
            is_paused: false,
            sort: Sort::Name,
            chosen: 0,
            rows: Vec::new(),
        }
    }

    /// The servers in the wished order.
    pub(super) fn servers(&self) -> &[Row] {
        &self.rows
    }

    /// Takes what the process said, or that it said nothing.
    pub(super) fn take(&mut self, answer: Result<Snapshot, Trouble>) {
        if self.is_paused {
            return;
        }
        match answer {
            Err(trouble) => self.trouble = Some(trouble),
            Ok(new) => {
                self.trouble = None;
                if self.rates.len() == TOP_RATES_MAX {
                    self.rates.pop_front();
                }
                self.rates.push_back(new.status.rate.unwrap_or(0.0).max(0.0).round() as u64);
                self.fill(&new);
                self.last = Some(new);
            }
        }
    }

    /// Makes the rows of a snapshot, compared with the one before.
    fn fill(&mut self, new: &Snapshot) {
        let marked = self.marked();
        // A process that was started again counts from zero.
        let old = self.last.as_ref().filter(|old| old.status.pid == new.status.pid);
        let seconds = old.map_or(0.0, |old| new.at.since(old.at).as_secs_f64());
        let mut sums: HashMap<(&str, &str), u64> = HashMap::new();
        for pool in old.into_iter().flat_map(|old| &old.servers.pools) {
            sums.extend(
                pool.servers.iter().map(|server| ((pool.name.as_str(), server.name.as_str()), server.errors)),
            );
        }
        let mut rows = Vec::new();
        for pool in &new.servers.pools {
            for server in &pool.servers {
                let before = sums.get(&(pool.name.as_str(), server.name.as_str()));
                let compared = before
                    .filter(|_| seconds > 0.0)
                    .map(|sum| server.errors.saturating_sub(*sum) as f64 / seconds);
                let errors_rate = server.errors_rate.or(compared);
                rows.push(Row { pool: pool.name.clone(), server: server.clone(), errors_rate });
            }
        }
        self.rows = rows;
        self.order(marked);
    }

    fn marked(&self) -> Option<(String, String)> {
        self.rows.get(self.chosen).map(|row| (row.pool.clone(), row.server.name.clone()))
    }

    fn order(&mut self, marked: Option<(String, String)>) {
        let sort = self.sort;
        // A stable sort: what is equal keeps the order of the file.
        self.rows.sort_by(|a, b| compare(sort, a, b));
        if let Some((pool, name)) = marked {
            let at = self.rows.iter().position(|row| row.pool == pool && row.server.name == name);
            self.chosen = at.unwrap_or(self.chosen);
        }
        self.chosen = self.chosen.min(self.rows.len().saturating_sub(1));
    }

    pub(super) fn sort_by(&mut self, sort: Sort) {
        self.sort = sort;
        self.order(None);
        self.chosen = 0;
    }

    pub(super) fn pause(&mut self) {
        self.is_paused = !self.is_paused;
    }

    /// Moves the mark by so many rows.
    pub(super) fn step(&mut self, rows: isize) {
        self.chosen = self.chosen.saturating_add_signed(rows).min(self.rows.len().saturating_sub(1));
    }
}

fn compare(sort: Sort, a: &Row, b: &Row) -> Ordering {
    let down = |a: f64, b: f64| b.total_cmp(&a);
    match sort {
        Sort::Name => a.pool.cmp(&b.pool).then_with(|| a.server.name.cmp(&b.server.name)),
        Sort::State => badness(&b.server.state).cmp(&badness(&a.server.state)),
        Sort::InFlight => b.server.in_flight.cmp(&a.server.in_flight),
        Sort::Rate => down(a.server.rate.unwrap_or(0.0), b.server.rate.unwrap_or(0.0)),
        Sort::Latency => {
            down(a.server.latency_ms.p99.unwrap_or(-1.0), b.server.latency_ms.p99.unwrap_or(-1.0))
        }
        Sort::Errors => down(a.errors_rate.unwrap_or(0.0), b.errors_rate.unwrap_or(0.0))
            .then_with(|| b.server.errors.cmp(&a.server.errors)),
    }
}

/// What needs attention first.
fn badness(state: &str) -> u8 {
    match state {
        "down" => 5,
        "ejected" => 4,
        "maint" => 3,
        "drain" => 2,
        "warming" => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn snapshot(pid: u64, second: u64, errors: u64) -> Snapshot {
        let text = format!(
            r#"{{"pools":[{{"name":"web","servers":[
                {{"name":"a","state":"up","rate":1.0,"errors":{errors},"latency_ms":{{"p99":3.0}}}},
                {{"name":"b","state":"down","rate":5.0,"errors":7,"latency_ms":{{"p99":null}}}}]}}]}}"#
        );
        Snapshot {
            status: Status { pid, rate: Some(6.4), ..Status::default() },
            servers: serde_json::from_str(&text).unwrap(),
            listeners: Vec::new(),
            at: Moment(0) + Duration::from_secs(second),
        }
    }

    fn names(view: &View) -> String {
        view.servers().iter().map(|row| row.server.name.as_str()).collect()
    }

    #[test]
    fn errors_become_rates_and_a_new_process_counts_anew() {
        let mut view = View::new("x".into());
        view.take(Ok(snapshot(1, 1, 10)));
        assert_eq!(view.servers()[0].errors_rate, None);
        view.take(Ok(snapshot(1, 3, 20)));
        assert_eq!(view.servers()[0].errors_rate, Some(5.0));
        view.take(Ok(snapshot(2, 4, 2)));
        assert_eq!(view.servers()[0].errors_rate, None);
        assert_eq!(view.rates, [6, 6, 6]);
    }

    #[test]
    fn a_lost_connection_keeps_the_last_picture() {
        let mut view = View::new("x".into());
        view.take(Ok(snapshot(1, 1, 0)));
        view.take(Err(Trouble::new("gone", "")));
        assert!(view.trouble.is_some() && view.last.is_some() && view.servers().len() == 2);
        view.take(Ok(snapshot(2, 3, 0)));
        assert!(view.trouble.is_none());
    }

    #[test]
    fn rows_are_sorted_and_the_mark_follows_its_server() {
        let mut view = View::new("x".into());
        view.take(Ok(snapshot(1, 1, 10)));
        for (key, order) in [('r', "ba"), ('l', "ab"), ('s', "ba"), ('e', "ab"), ('n', "ab")] {
            view.sort_by(Sort::of_key(key).unwrap());
            assert_eq!(names(&view), order, "{key}");
        }
        view.step(1);
        view.sort = Sort::Rate;
        view.take(Ok(snapshot(1, 2, 10)));
        assert_eq!((names(&view).as_str(), view.chosen), ("ba", 0));
        view.step(isize::MAX);
        assert_eq!(view.chosen, 1);
        view.step(isize::MIN);
        assert_eq!(view.chosen, 0);
    }

    #[test]
    fn a_pause_holds_the_picture() {
        let mut view = View::new("x".into());
        view.take(Ok(snapshot(1, 1, 10)));
        view.pause();
        view.take(Ok(snapshot(1, 2, 30)));
        assert_eq!(view.rates.len(), 1);
        view.pause();
        view.take(Ok(snapshot(1, 3, 30)));
        assert_eq!(view.rates.len(), 2);
    }

    #[test]
    fn rates_are_bounded() {
        let mut view = View::new("x".into());
        for second in 0..2 * TOP_RATES_MAX as u64 {
            view.take(Ok(snapshot(1, second, 0)));
        }
        assert_eq!(view.rates.len(), TOP_RATES_MAX);
    }
}
