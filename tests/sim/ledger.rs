//! What was asked, what servers saw of it, what clients got: written by the scripted ends, judged here.
//!
//! Every request has an id, which it carries in a field and which decides its body. Every attempt at a server gets a
//! number, which the answer carries and which decides the answer's body.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use ringgate::net::Address;
use ringgate::ring::sim::Injected;

/// A request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskBody {
    None,
    Length(usize),
    Chunked(usize),
}

impl AskBody {
    pub const fn len(self) -> usize {
        match self {
            Self::None => 0,
            Self::Length(len) | Self::Chunked(len) => len,
        }
    }
}

/// How an answer's body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length,
    Chunked,
    UntilClose,
}

/// What a server does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    CloseBeforeHead,
    ResetBeforeHead,
    CloseInHead,
    CloseInBody,
    ResetInBody,
    /// It closes when the request's head is there and before its body is.
    CloseInRequest,
    Silence,
    StallInBody,
    BadStatusLine,
    TwoLengths,
    LengthAndChunked,
    BadChunkSize,
    ControlByte,
    SpaceInName,
    HugeHead,
    SwitchUnasked,
    TooManyInterims,
    /// A second answer that nobody asked for, right behind the first.
    ExtraAnswer,
    /// It answers before it read the request's body, and closes at once: its answer may be overtaken by a reset.
    EarlyClose,
}

impl Wrong {
    pub const ALL: [Self; 19] = [
        Self::CloseBeforeHead,
        Self::ResetBeforeHead,
        Self::CloseInHead,
        Self::CloseInBody,
        Self::ResetInBody,
        Self::CloseInRequest,
        Self::Silence,
        Self::StallInBody,
        Self::BadStatusLine,
        Self::TwoLengths,
        Self::LengthAndChunked,
        Self::BadChunkSize,
        Self::ControlByte,
        Self::SpaceInName,
        Self::HugeHead,
        Self::SwitchUnasked,
        Self::TooManyInterims,
        Self::ExtraAnswer,
        Self::EarlyClose,
    ];
}

/// What a server is to answer.
#[derive(Clone, Debug)]
pub struct Plan {
    pub status: u16,
    pub framing: Framing,
    pub len: usize,
    pub interims: Vec<u16>,
    /// Answers when the head is there, without waiting for the body.
    pub early: bool,
    pub wait: Duration,
    /// Announces the end of the connection.
    pub close: bool,
    pub trailers: bool,
    /// Pieces of the body, with a pause between them.
    pub pieces: usize,
    pub pause: Duration,
    pub wrong: Option<Wrong>,
    /// The first so many attempts go wrong.
    pub wrong_attempts: usize,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Ask {
    pub method: &'static str,
    pub target: String,
    pub host: &'static str,
    pub body: AskBody,
    pub http10: bool,
    pub close: bool,
    pub expect: bool,
    pub upgrade: bool,
    /// `Connection: x-hop` and a field of that name, which must not be forwarded.
    pub hop: bool,
    /// ringgate itself answers with this status: a redirect, a fixed answer, no route, a body that is too large.
    pub own: Option<u16>,
    pub plan: Plan,
}

impl Ask {
    /// Safe to be sent twice (RFC 9110 section 9.2.2).
    pub fn idempotent(&self) -> bool {
        matches!(self.method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS")
    }

    /// Whether ringgate may send it again after its head went out: nothing of it must be kept for that.
    pub fn repeatable(&self) -> bool {
        self.idempotent()
            && self.body.len() == 0
            && !self.upgrade
            && !matches!(self.body, AskBody::Chunked(_))
    }
}

/// One attempt of a request at a server.
#[derive(Clone, Debug)]
pub struct Given {
    pub wrong: Option<Wrong>,
    /// The complete answer was handed to the network.
    pub whole: bool,
    /// Bytes of body that the client may get (less than planned when the server ended early).
    pub len: usize,
    /// The request's body arrived completely.
    pub body_seen: bool,
}

/// What the client got for a request in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A server's answer, as much of it as came.
    Relayed { attempt: usize, status: u16, complete: bool, len: usize },
    /// An answer of ringgate's own.
    Own { status: u16, complete: bool },
    /// Nothing.
    Lost,
}

/// One request's record.
#[derive(Debug)]
pub struct Record {
    pub ask: Ask,
    pub client: IpAddr,
    pub given: Vec<Given>,
    pub outcome: Option<Outcome>,
}

/// What the client's side knows when a request ends.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// A harmful fault struck the client's connection.
    pub hurt: bool,
    /// The client broke off, stalled or sent garbage itself.
    pub selfish: bool,
    /// An earlier answer on this connection announced its end.
    pub closed_before: bool,
    /// The request was completely sent.
    pub sent: bool,
    /// It is the first of a connection that stood.
    pub first: bool,
    /// The framing of its body was broken on purpose.
    pub bad_body: bool,
    /// The client sends its requests soon after one another.
    pub prompt: bool,
    /// The listener of its connection was closed at some time.
    pub unlistened: bool,
    pub injected: Injected,
}

/// What is unusual in the configuration of this run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tight {
    /// Few places at servers, and a bounded queue.
    pub queue: bool,
    /// Few pages.
    pub memory: bool,
    /// Short timeouts.
    pub times: bool,
    /// Servers close connections that are kept.
    pub stale: bool,
    /// Few requests per connection, or few connections.
    pub connections: bool,
}

/// Everything that was recorded.
#[derive(Debug, Default)]
pub struct Ledger {
    pub records: Vec<Record>,
    pub failures: Vec<String>,
    pub tight: Tight,
    /// A drain was asked for.
    pub draining: bool,
    /// Servers did something wrong so far.
    pub wrongs: usize,
    /// Servers restarted so far: every connection to them may have been refused or reset.
    pub restarts: usize,
    /// Outcomes by kind, to see that a run tested something.
    pub tally: Tally,
    pub attempts_max: usize,
    /// Nothing goes wrong in this run, and there is time enough to drain.
    pub calm: bool,
    /// Clients come with TLS.
    pub tls: bool,
    /// Another configuration was published, or an order for a server given.
    pub changed: bool,
    /// Listeners that were closed at some time.
    pub unlistened: Vec<Address>,
    /// The second host had no route at some time.
    pub unrouted: bool,
    /// Nobody could be used at some time for the first host, the second, or the relay.
    pub starved: [bool; 3],
    /// A server or pool was removed for these.
    pub uprooted: [bool; 3],
    /// Servers of each pool.
    pub pool_sizes: [usize; 2],
}

/// How requests ended.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub relayed: u64,
    pub cut: u64,
    pub own: u64,
    pub lost: u64,
    pub retried: u64,
    pub tunnels: u64,
    pub refused: u64,
    /// By `Close::index`.
    pub closes: Vec<u64>,
    /// The most turns that any run needed, and its seed.
    pub turns: (u64, u64),
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.relayed += other.relayed;
        self.cut += other.cut;
        self.own += other.own;
        self.lost += other.lost;
        self.retried += other.retried;
        self.tunnels += other.tunnels;
        self.refused += other.refused;
        self.closes.resize(other.closes.len(), 0);
        for (sum, more) in self.closes.iter_mut().zip(&other.closes) {
            *sum += more;
        }
        self.turns = self.turns.max(other.turns);
    }
}

/// A ledger in the hands of all actors.
pub type Shared = Rc<RefCell<Ledger>>;

impl Ledger {
    pub fn fail(&mut self, what: String) {
        self.failures.push(what);
    }

    /// A request ended: was that allowed?
    pub fn judge(&mut self, id: usize, outcome: Outcome, about: &About) {
        let record = &mut self.records[id];
        if record.outcome.is_some() {
            self.failures.push(format!("request {id} ended twice: {:?}, then {outcome:?}", record.outcome));
            return;
        }
        record.outcome = Some(outcome);
        if record.given.len() > 1 {
            self.tally.retried += 1;
        }
        // A drain without hurry cuts nothing.
        let (tight, wrongs, draining) = (self.tight, self.wrongs, self.draining && !self.calm);
        // A connection that is to end waits for a request that may be on its way.
        let waited_for = about.first || self.calm && about.prompt;
        let closing = (self.draining || about.unlistened) && !waited_for;
        // Whoever came by a closed listener has the time of a drain.
        let retired = about.unlistened && !self.calm;
        let host = usize::from(record.ask.host != "one.test");
        // A tunnel to a server that was removed, too.
        let cut_off = retired || record.ask.upgrade && self.uprooted[host] && !self.calm;
        let (starved, changed) = (self.starved[host], self.changed);
        let unrouted = self.unrouted && host == 1;
        let restarts = self.restarts > 0;
        let verdict = match outcome {
            Outcome::Relayed { attempt, status, complete, len } => {
                if complete {
                    self.tally.relayed += 1;
                } else {
                    self.tally.cut += 1;
                }
                relayed(record, attempt, status, complete, len).and_then(|()| {
                    let given = &record.given[attempt];
                    let slow = tight.times || tight.memory;
                    let excused = complete
                        || given.wrong.is_some()
                        || about.hurt
                        || about.selfish
                        || about.injected.servers_hurt > 0
                        || draining
                        || cut_off
                        || slow;
                    if excused { Ok(()) } else { Err("an answer was cut without a reason".to_owned()) }
                })
            }
            Outcome::Own { status, complete } => {
                self.tally.own += 1;
                let excused = complete || about.hurt || about.selfish || tight.times || draining || retired;
                let servers = self.pool_sizes[host];
                let attempts_max = self.attempts_max;
                let around = Around {
                    tight,
                    wrongs: wrongs > 0,
                    restarts,
                    draining,
                    attempts_max,
                    servers,
                    changed,
                    starved,
                    unrouted,
                };
                own(record, status, &around, about).and_then(|()| {
                    if excused { Ok(()) } else { Err("ringgate's own answer was cut".to_owned()) }
                })
            }
            Outcome::Lost => {
                self.tally.lost += 1;
                let excused = lost_for_a_reason(record, about, tight) || closing || draining || cut_off;
                if excused { Ok(()) } else { Err("no answer came, and there is no reason for it".to_owned()) }
            }
        };
        if let Err(why) = verdict {
            let text =
                format!("request {id}: {why}\n  outcome {outcome:?}\n  {about:?}\n  {record:?}\n  {tight:?}");
            self.failures.push(text);
        }
    }
}

fn relayed(record: &Record, attempt: usize, status: u16, complete: bool, len: usize) -> Result<(), String> {
    let Some(given) = record.given.get(attempt) else {
        return Err("an answer that no server gave".to_owned());
    };
    if record.ask.own.is_some_and(|status| status != 413) {
        return Err("a server answered what ringgate should have answered".to_owned());
    }
    if attempt + 1 != record.given.len() {
        return Err("the answer of an earlier attempt came after a later one was made".to_owned());
    }
    if status != record.ask.plan.status && !(record.ask.upgrade && status == 101) {
        return Err("the status is not the server's".to_owned());
    }
    if complete && !given.whole {
        return Err("a truncated answer was presented as complete".to_owned());
    }
    if complete && len != given.len {
        return Err(format!("complete with {len} bytes of {}", given.len));
    }
    Ok(())
}

/// A request may end without an answer.
fn lost_for_a_reason(record: &Record, about: &About, tight: Tight) -> bool {
    // The head of an answer was queued, and its body turned out to be broken before anything left.
    let broken = record.given.last().is_some_and(|given| given.wrong.is_some());
    about.hurt
        || about.selfish
        || about.closed_before
        || broken
        || about.injected.servers_hurt > 0
        || tight.times
        || tight.memory
        || tight.connections
        || !about.sent
}

/// What else is known when ringgate answers itself.
struct Around {
    tight: Tight,
    wrongs: bool,
    restarts: bool,
    draining: bool,
    attempts_max: usize,
    servers: usize,
    changed: bool,
    starved: bool,
    unrouted: bool,
}

fn own(record: &Record, status: u16, around: &Around, about: &About) -> Result<(), String> {
    let Around { tight, wrongs, restarts, draining, .. } = *around;
    let ask = &record.ask;
    let network = restarts || about.injected.at_servers();
    let wrong_here = record.given.iter().any(|given| given.wrong.is_some());
    let stale = tight.stale && !ask.repeatable();
    if matches!(status, 502..=504)
        && !network
        && tight == Tight::default()
        && !draining
        && !around.changed
        && could_retry(record, around)
    {
        return Err(format!("ringgate answered {status} and could have tried another server"));
    }
    let allowed = match status {
        408 => about.selfish || about.hurt || tight.times || tight.memory,
        502 => wrong_here || network || stale,
        // Who came by a closed listener stays with the configuration that had it, and with its servers.
        503 => {
            around.starved
                || about.unlistened
                || tight.queue
                || tight.memory
                || tight.connections
                || draining
                || wrongs
                || network
        }
        504 => wrong_here || network || tight.times || tight.memory,
        404 if around.unrouted => true,
        429 => tight.connections,
        400 => about.bad_body || ask.own == Some(400),
        _ => ask.own == Some(status),
    };
    if allowed { Ok(()) } else { Err(format!("ringgate answered {status} without a reason")) }
}

/// Whether every attempt so far failed in a way that allows another, and there was a server left for it.
fn could_retry(record: &Record, around: &Around) -> bool {
    let harmless =
        |given: &Given| matches!(given.wrong, Some(Wrong::CloseBeforeHead | Wrong::ResetBeforeHead));
    let interims = record.ask.plan.interims.is_empty();
    record.ask.repeatable()
        && record.given.iter().all(harmless)
        && !record.given.is_empty()
        && interims
        && record.given.len() < around.attempts_max.min(around.servers)
}
