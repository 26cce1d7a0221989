//! What is so: the log of the primary, how far each server is, what each statement did and what its client heard.
//!
//! Servers and clients write it; it judges at once what can be judged at once, and the rest at the end.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use ringgate::clock::Moment;
use ringgate::ring::sim::Random;

use super::statement::Statement;

/// What a client heard about a statement, and so what must have become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was not sent.
    Unsent,
    /// It was sent.
    Sent,
    /// OK: it has happened.
    Done,
    /// OK, within a transaction whose end is not known.
    Open,
    /// Its transaction was rolled back.
    Undone,
    /// An error.
    Failed(u16, String),
    /// The connection ended instead of an answer.
    Lost,
}

/// Who logged in: the user, and which of its passwords was shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Login {
    pub user: usize,
    pub password: usize,
}

/// What the server's session must be like for a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ground {
    pub login: Login,
    /// Counts the sessions of the client, from each login and reset on.
    pub session: u64,
    pub errors: usize,
    pub database: &'static str,
    /// `None`: the client's own reset left it as it may be.
    pub collation: Option<u8>,
}

/// A statement.
#[derive(Clone, Debug)]
pub struct Record {
    pub client: usize,
    pub statement: Statement,
    /// The statement that began its transaction.
    pub begun_by: Option<usize>,
    /// On what it is to run, once it was sent.
    pub ground: Option<Ground>,
    /// Where it ran: server and connection.
    pub ran: Vec<(usize, u32)>,
    /// Positions in the log that hold its write.
    pub applied: Vec<u64>,
    pub fate: Fate,
}

/// A server.
#[derive(Clone, Debug)]
pub struct Place {
    pub up: bool,
    pub is_primary: bool,
    /// It takes writes of whoever is not fenced: `read_only` is off, or stops nobody.
    pub writable: bool,
    /// When each entry of the log is there; all of a primary's are.
    applies: Vec<Moment>,
    /// How long an entry takes.
    pub lag: (Duration, Duration),
}

/// How much was tried.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub clients: u64,
    pub sessions: u64,
    pub statements: u64,
    pub at_replicas: u64,
    pub fenced: u64,
    pub waits: u64,
    pub waited_in_vain: u64,
    pub acknowledged: u64,
    pub committed: u64,
    pub failed: u64,
    pub lost: u64,
    /// Writes of which the client does not know whether they ran.
    pub unknown: u64,
    pub deaths: u64,
    pub promotions: u64,
    /// Statements that were done after a promotion by a session from before.
    pub survived: u64,
    pub turns: u64,
    /// Statements that were the first of their session on a connection that others had used.
    pub shared: u64,
    pub resets: u64,
    /// Insert ids that were told to a connection.
    pub brought: u64,
    pub pings: u64,
    pub queued: u64,
    /// Executions of statements that another client had prepared.
    pub borrowed: u64,
    pub locks: u64,
    pub rotations: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.clients, other.clients),
            (&mut self.sessions, other.sessions),
            (&mut self.statements, other.statements),
            (&mut self.at_replicas, other.at_replicas),
            (&mut self.fenced, other.fenced),
            (&mut self.waits, other.waits),
            (&mut self.waited_in_vain, other.waited_in_vain),
            (&mut self.acknowledged, other.acknowledged),
            (&mut self.committed, other.committed),
            (&mut self.failed, other.failed),
            (&mut self.lost, other.lost),
            (&mut self.unknown, other.unknown),
            (&mut self.deaths, other.deaths),
            (&mut self.promotions, other.promotions),
            (&mut self.survived, other.survived),
            (&mut self.turns, other.turns),
            (&mut self.shared, other.shared),
            (&mut self.resets, other.resets),
            (&mut self.brought, other.brought),
            (&mut self.pings, other.pings),
            (&mut self.queued, other.queued),
            (&mut self.borrowed, other.borrowed),
            (&mut self.locks, other.locks),
            (&mut self.rotations, other.rotations),
        ];
        for (sum, more) in pairs {
            *sum += more;
        }
    }
}

/// All of it.
#[derive(Debug)]
pub struct Truth {
    random: Random,
    /// When each entry was written.
    log: Vec<Moment>,
    /// For each key the positions at which it was written, and by which statement.
    versions: BTreeMap<usize, Vec<(u64, usize)>>,
    pub places: Vec<Place>,
    pub records: Vec<Record>,
    /// Which password each user has now: the number of those before.
    pub passwords: Vec<usize>,
    /// Where each transaction is, by the statement that began it.
    transactions: BTreeMap<usize, (usize, u32)>,
    /// For each key the position of the last write of which a client has heard, and that its answer told.
    acknowledged: BTreeMap<usize, u64>,
    pub failures: Vec<String>,
    history: Vec<(Moment, String)>,
    start: Moment,
    pub tally: Tally,
    /// Nothing is to be done any more of one's own accord.
    pub over: bool,
}

pub type Shared = Rc<RefCell<Truth>>;

impl Truth {
    pub fn new(
        random: Random,
        start: Moment,
        places: Vec<Place>,
        records: Vec<Record>,
        users: usize,
    ) -> Self {
        Self {
            random,
            log: Vec::new(),
            versions: BTreeMap::new(),
            places,
            records,
            passwords: vec![0; users],
            transactions: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            failures: Vec::new(),
            history: Vec::new(),
            start,
            tally: Tally::default(),
            over: false,
        }
    }

    pub fn fail(&mut self, what: String) {
        self.failures.push(what);
    }

    /// Notes what happened, for people.
    pub fn note(&mut self, now: Moment, what: String) {
        self.history.push((now, what));
    }

    /// The last things that happened.
    pub fn history(&self, count: usize) -> String {
        let from = self.history.len().saturating_sub(count);
        let line = |(at, what): &(Moment, String)| {
            format!("\n  [{:10.6}] {what}", at.since(self.start).as_secs_f64())
        };
        self.history[from..].iter().map(line).collect()
    }

    /// How far a server is.
    pub fn position(&self, server: usize, now: Moment) -> u64 {
        let place = &self.places[server];
        if place.is_primary {
            return self.log.len() as u64;
        }
        place.applies.partition_point(|at| *at <= now) as u64
    }

    /// When a server will have an entry.
    pub fn applies_at(&self, server: usize, position: u64) -> Option<Moment> {
        self.places[server].applies.get(position.checked_sub(1)? as usize).copied()
    }

    /// How far a server is behind.
    pub fn lag(&self, server: usize, now: Moment) -> Duration {
        let next = self.log.get(self.position(server, now) as usize);
        next.map_or(Duration::ZERO, |written| now.since(*written))
    }

    /// Who wrote a key last, as seen at a position; 0 for nobody.
    pub fn value(&self, key: usize, position: u64) -> usize {
        let versions = self.versions.get(&key).map_or(&[][..], Vec::as_slice);
        versions.iter().rev().find(|(at, _)| *at <= position).map_or(0, |(_, id)| *id)
    }

    /// A transaction is in the log from now on.
    pub fn commit(&mut self, now: Moment, server: usize, writes: &[(usize, usize)]) -> u64 {
        self.log.push(now);
        let position = self.log.len() as u64;
        for (key, id) in writes {
            self.versions.entry(*key).or_default().push((position, *id));
            self.records[*id].applied.push(position);
            if self.records[*id].applied.len() > 1 {
                self.fail(format!("statement {id} was written twice"));
            }
        }
        for (other, place) in self.places.iter_mut().enumerate() {
            let delay = self.random.time(place.lag.0, place.lag.1);
            let at = if other == server { now } else { now + delay };
            let at = place.applies.last().map_or(at, |last| at.max(*last));
            place.applies.push(at);
        }
        position
    }

    /// A statement runs, be it for a transaction that is not committed.
    pub fn runs(&mut self, id: usize, server: usize, conn: u32) {
        let record = &mut self.records[id];
        record.ran.push((server, conn));
        let (statement, begun_by, times) = (record.statement, record.begun_by, record.ran.len());
        if statement.writes().is_some() && times > 1 {
            self.fail(format!("statement {id} ran {times} times: {:?}", self.records[id].ran));
        }
        self.tally.statements += 1;
        if !self.places[server].is_primary {
            self.tally.at_replicas += 1;
            if statement.writes().is_some() {
                self.fail(format!("statement {id} wrote at server {server}, which is a replica"));
            }
        }
        match (statement, begun_by) {
            (Statement::Begin { .. } | Statement::Autocommit { on: false, .. }, _) => {
                self.transactions.insert(id, (server, conn));
            }
            (_, Some(begin)) => {
                let there = self.transactions.get(&begin).copied();
                let began = matches!(self.records[begin].fate, Fate::Done);
                // Only the primary knows insert ids, whatever goes on at a replica.
                let is_id = matches!(statement, Statement::InsertId { .. });
                let may_differ = is_id
                    && matches!(self.records[begin].statement, Statement::Begin { read_only: true, .. });
                if began && !may_differ && there != Some((server, conn)) {
                    self.fail(format!(
                        "statement {id} ran at {:?}, its transaction {begin} is at {there:?}",
                        (server, conn)
                    ));
                }
            }
            _ => {}
        }
    }

    /// A client heard OK for this write, or for the end of its transaction.
    pub fn acknowledge(&mut self, id: usize, tells: bool) {
        let record = &mut self.records[id];
        record.fate = Fate::Done;
        let (Some(key), applied) = (record.statement.writes(), record.applied.clone()) else { return };
        self.tally.acknowledged += 1;
        let [position] = applied[..] else {
            return self.fail(format!("the write {id} was acknowledged and is at positions {applied:?}"));
        };
        if tells {
            let known = self.acknowledged.entry(key).or_default();
            *known = position.max(*known);
        }
    }

    /// The last write of a key that any client has heard of.
    pub fn acknowledged(&self, key: usize) -> u64 {
        self.acknowledged.get(&key).copied().unwrap_or(0)
    }

    /// Another server takes over, with all that was ever in the log.
    pub fn promote(&mut self, server: usize, now: Moment) {
        for (other, place) in self.places.iter_mut().enumerate() {
            if place.is_primary || other == server {
                place.applies = vec![now; self.log.len()];
            }
            place.is_primary = other == server;
        }
        self.places[server].writable = true;
        self.tally.promotions += 1;
    }

    /// Judges what is left in the end.
    pub fn check_end(&mut self) {
        for id in 1..self.records.len() {
            let record = &self.records[id];
            let (times, is_write) = (record.applied.len(), record.statement.writes().is_some());
            let wrong = match &record.fate {
                _ if times > 1 => Some("was written more than once"),
                Fate::Unsent if times > 0 || !record.ran.is_empty() => Some("ran, and nobody sent it"),
                Fate::Sent => Some("has no end"),
                Fate::Done if is_write && times != 1 => Some("was acknowledged and is lost"),
                Fate::Undone if times > 0 => Some("was rolled back and is there"),
                Fate::Failed(2013, text) if text.ends_with("did not run") && !record.ran.is_empty() => {
                    (is_write).then_some("did not run, it was said, and did")
                }
                Fate::Failed(1792 | 1290, _) if times > 0 => Some("was refused and is there"),
                _ => None,
            };
            if is_write && matches!(record.fate, Fate::Lost | Fate::Failed(2013, _) | Fate::Open) {
                self.tally.unknown += 1;
            }
            if let Some(wrong) = wrong {
                self.failures.push(format!("statement {id} {wrong}: {:?}", self.records[id]));
            }
        }
    }
}

impl Place {
    pub fn new(is_primary: bool, writable: bool, lag: (Duration, Duration)) -> Self {
        Self { up: true, is_primary, writable, applies: Vec::new(), lag }
    }
}
