//! The health of a server: what requests learned about it, what its check says, and what people ordered.
//!
//! What goes in: how requests to a server went, verdicts of its check, orders, and the time. What comes out: whether it
//! may be used. It owns one word per server, changed by compare-exchange alone, so that all workers agree on one verdict;
//! a server about which there is nothing to say has the word 0. Always true:
//!
//! - a server that failed as often in a row as the pool's rules say is ejected for the pool's time; each failure after
//!   that time doubles it, up to [`limits::EJECT_TIME_MAX`]; failures within that time are echoes of the same event and
//!   change nothing;
//! - when the time is over (the server is *due*) one request at a time is its probe;
//! - success of a probe, or of a request that was sent because nobody else was left, brings the server back at once.
//!   An answer to a request from before the ejection proves nothing within that time and is ignored then;
//! - a server that its check found down, or that people took out, gets nothing, whatever requests learned about it;
//! - a server that comes back (from an ejection, from being down, from maintenance) warms up where the pool wants that.
//!
//! By default one refused connection ejects, and so do [`limits::EJECT_CLOSES_DEFAULT`] fresh connections in a row that
//! were closed without an answer: it may be one poisonous request, and ejecting on sight would let a client turn off one
//! server after the other. For the same reason time-outs and errors count only where the configuration says so.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::clock::Moment;
use crate::close::Close;
use crate::config::model::Eject;
use crate::limits;

use super::ServerView;

/// What an end of an exchange says about its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Nothing: another request may well succeed.
    Nothing,
    /// The server cannot be reached.
    Unreachable,
    /// The server took a fresh connection and closed it without a byte of an answer.
    Closed,
    /// The server's answer did not begin in time.
    Late,
    /// The server answered that it failed (5xx).
    Error,
}

/// What `close` says about the server; `fresh` is false for a connection that had been kept.
///
/// A kept connection that ends is the normal end of its idle time. Malformed answers belong to their request.
pub const fn evidence(close: Close, fresh: bool) -> Evidence {
    match close {
        Close::ServerRefused | Close::ServerConnectTimeout | Close::ServerTls => Evidence::Unreachable,
        Close::ServerClosedEarly if fresh => Evidence::Closed,
        Close::ServerTimeout => Evidence::Late,
        _ => Evidence::Nothing,
    }
}

/// Failures of this kind in a row that eject; 0 is never.
const fn strikes_max(evidence: Evidence, rules: &Eject) -> u8 {
    match evidence {
        Evidence::Nothing => 0,
        Evidence::Unreachable => rules.connect,
        Evidence::Closed => rules.closed,
        Evidence::Late => rules.timeout,
        Evidence::Error => rules.error,
    }
}

/// What a failure led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ejection {
    /// The server stays in use.
    No,
    /// The server was in use and is left alone until this moment. To be logged and counted.
    New(Moment),
    /// The server failed again when it was tried and is left alone until this moment.
    Longer(Moment),
    /// The server is being left alone already; nothing changed.
    Already,
}

/// Whether a server may be used now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Yes.
    Well,
    /// As far as it is warm: fully at this moment.
    Warming(Moment),
    /// One request may be its probe.
    Due,
    /// No: it failed, is down, or was taken out.
    Ejected,
}

/// What people ordered for a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admin {
    /// Use it.
    #[default]
    Ready,
    /// Send it nothing new; what is in flight is finished.
    Drain,
    /// The same, and it is not checked either: somebody works on it.
    Maint,
    /// It is not in the configuration any more.
    Gone,
}

impl Admin {
    /// What a word of people and programs means.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Ready, Self::Drain, Self::Maint].into_iter().find(|admin| admin.word() == word)
    }

    /// The word for people and programs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maint => "maint",
            Self::Gone => "gone",
        }
    }
}

/// The health of one server. 0 is well.
#[derive(Debug, Default)]
pub(super) struct Health(AtomicU64);

/// The word: failures in a row (8 bits, 0 is well), strikes (8 bits), probe, tried, down, warming (a bit each), orders
/// (2 bits), until (42 bits, in milliseconds, rounded up: a century of uptime).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    /// Failures in a row, each after the time of the one before.
    failures: u8,
    /// Bad signs in a row that did not eject yet.
    strikes: u8,
    /// A probe is under way.
    probing: bool,
    /// Requests were sent although the server is ejected, because nobody else was left.
    tried: bool,
    /// Its check failed.
    down: bool,
    /// It came back a short while ago.
    warming: bool,
    /// What people ordered.
    admin: Admin,
    /// Until when the server is left alone, or warms up.
    until_ms: u64,
}

const UNTIL_SHIFT: u32 = 22;
const UNTIL_MS_MAX: u64 = u64::MAX >> UNTIL_SHIFT;

impl State {
    const fn unpack(word: u64) -> Self {
        let [failures, strikes, ..] = word.to_le_bytes();
        Self {
            failures,
            strikes,
            probing: word & (1 << 16) != 0,
            tried: word & (1 << 17) != 0,
            down: word & (1 << 18) != 0,
            warming: word & (1 << 19) != 0,
            admin: match (word >> 20) & 3 {
                0 => Admin::Ready,
                1 => Admin::Drain,
                2 => Admin::Maint,
                _ => Admin::Gone,
            },
            until_ms: word >> UNTIL_SHIFT,
        }
    }

    const fn pack(self) -> u64 {
        self.failures as u64
            | (self.strikes as u64) << 8
            | (self.probing as u64) << 16
            | (self.tried as u64) << 17
            | (self.down as u64) << 18
            | (self.warming as u64) << 19
            | (self.admin as u64) << 20
            | self.until_ms << UNTIL_SHIFT
    }

    /// The same server without what requests learned.
    fn well(self) -> Self {
        Self { admin: self.admin, down: self.down, ..Self::default() }
    }

    /// The same server, back from where it was.
    fn back(self, now: Moment, slow_start: Duration) -> Self {
        let warming = !slow_start.is_zero();
        let until_ms = if warming { ms_up(now + slow_start) } else { 0 };
        Self { warming, until_ms, ..self.well() }
    }

    /// Nothing may be sent to it, whatever requests learned.
    const fn is_barred(self) -> bool {
        self.down || !matches!(self.admin, Admin::Ready)
    }

    const fn until(self) -> Moment {
        Moment(self.until_ms.saturating_mul(1_000_000))
    }

    const fn is_warming(self, now: Moment) -> bool {
        self.warming && now.0 < self.until().0
    }

    const fn verdict(self, now: Moment) -> Verdict {
        if self.is_barred() {
            Verdict::Ejected
        } else if self.failures == 0 {
            if self.is_warming(now) { Verdict::Warming(self.until()) } else { Verdict::Well }
        } else if self.probing || now.0 < self.until().0 {
            Verdict::Ejected
        } else {
            Verdict::Due
        }
    }

    fn failed(self, now: Moment, time: Duration) -> (Self, Ejection) {
        if self.failures > 0 && now < self.until() {
            return (self, Ejection::Already);
        }
        let failures = self.failures.saturating_add(1);
        let state = Self { failures, until_ms: ms_up(now + eject_time(failures, time)), ..self.well() };
        let ejection = if self.failures == 0 { Ejection::New } else { Ejection::Longer };
        (state, ejection(state.until()))
    }
}

fn ms_up(moment: Moment) -> u64 {
    moment.0.div_ceil(1_000_000).min(UNTIL_MS_MAX)
}

/// How long a server is left alone after so many failures in a row.
fn eject_time(failures: u8, first: Duration) -> Duration {
    let doublings = u32::from(failures.saturating_sub(1)).min(16);
    first.saturating_mul(1 << doublings).min(limits::EJECT_TIME_MAX.max(first))
}

impl Health {
    /// Whether the server may be used.
    pub(super) fn verdict(&self, now: Moment) -> Verdict {
        let word = self.0.load(Relaxed);
        if word == 0 { Verdict::Well } else { State::unpack(word).verdict(now) }
    }

    /// Writes what there is to see.
    pub(super) fn show(&self, view: &mut ServerView) {
        let state = State::unpack(self.0.load(Relaxed));
        view.admin = state.admin;
        view.down = state.down;
        view.failures = state.failures;
        view.ejected_until = (state.failures > 0).then(|| state.until());
        view.warming_until = state.warming.then(|| state.until());
    }

    /// Failures in a row of an ejected server that may be used when nobody is well.
    pub(super) fn ejected_in_use(&self) -> Option<u8> {
        let state = State::unpack(self.0.load(Relaxed));
        (state.failures > 0 && !state.is_barred()).then_some(state.failures)
    }

    /// Takes an order. Who was taken out warms up again; after maintenance the past is forgotten.
    pub(super) fn set_admin(&self, admin: Admin, now: Moment, slow_start: Duration) {
        self.change(|state| {
            let returns = match state.admin {
                Admin::Maint => admin == Admin::Ready,
                Admin::Drain => admin == Admin::Ready && state.failures == 0,
                Admin::Ready | Admin::Gone => false,
            };
            let next = if returns { state.back(now, slow_start) } else { state };
            (state.admin != admin).then_some((State { admin, ..next }, ()))
        });
    }

    /// Takes the verdict of the check. True when it is another one than before. A server that is up again has no past.
    pub(super) fn set_down(&self, down: bool, now: Moment, slow_start: Duration) -> bool {
        let changed = self.change(|state| {
            let next = if down { state.well() } else { state.back(now, slow_start) };
            (state.down != down).then_some((State { down, ..next }, ()))
        });
        changed.is_some()
    }

    /// Whether the server is in the configuration.
    pub(super) fn set_gone(&self, gone: bool) {
        self.change(|state| {
            let admin = if gone { Admin::Gone } else { Admin::Ready };
            ((state.admin == Admin::Gone) != gone).then_some((State { admin, ..state }, ()))
        });
    }

    /// Claims the probe of a due server. The answer names this probe.
    pub(super) fn probe(&self, now: Moment) -> Option<u64> {
        let word = self.0.load(Relaxed);
        let state = State::unpack(word);
        if state.verdict(now) != Verdict::Due {
            return None;
        }
        let probing = State { probing: true, ..state }.pack();
        self.0.compare_exchange(word, probing, Relaxed, Relaxed).ok().map(|_| probing)
    }

    /// Gives back a probe that led to no verdict: the next request may be it. No effect when there was a verdict.
    pub(super) fn unprobe(&self, probe: u64) {
        let probe = State::unpack(probe);
        self.change(|state| {
            let same = state.probing && (state.failures, state.until_ms) == (probe.failures, probe.until_ms);
            same.then_some((State { probing: false, ..state }, ()))
        });
    }

    /// Notes that a request is sent although the server is ejected, so that its success counts.
    pub(super) fn try_anyway(&self) {
        self.change(|state| {
            (state.failures > 0 && !state.tried).then_some((State { tried: true, ..state }, ()))
        });
    }

    /// Something speaks against the server.
    pub(super) fn struck(&self, evidence: Evidence, now: Moment, rules: &Eject) -> Ejection {
        let strikes_max = strikes_max(evidence, rules);
        if strikes_max == 0 {
            return Ejection::No;
        }
        let ejection = self.change(|state| {
            let strikes = state.strikes.saturating_add(1);
            if state.failures > 0 || strikes >= strikes_max {
                return Some(state.failed(now, rules.time));
            }
            Some((State { strikes, ..state }, Ejection::No))
        });
        ejection.unwrap_or(Ejection::No)
    }

    /// The server answered. True when it was ejected and is back.
    pub(super) fn worked(&self, now: Moment, slow_start: Duration) -> bool {
        if self.0.load(Relaxed) == 0 {
            return false;
        }
        let back = self.change(|state| {
            if state.failures > 0 {
                let proves = state.probing || state.tried || now >= state.until();
                return proves.then(|| (state.back(now, slow_start), true));
            }
            let next = if state.is_warming(now) { State { strikes: 0, ..state } } else { state.well() };
            (next != state).then_some((next, false))
        });
        back.unwrap_or(false)
    }

    /// Applies `step` until no other worker came in between; `None` from it leaves everything as it is.
    fn change<T>(&self, step: impl Fn(State) -> Option<(State, T)>) -> Option<T> {
        let mut word = self.0.load(Relaxed);
        loop {
            let (state, answer) = step(State::unpack(word))?;
            match self.0.compare_exchange_weak(word, state.pack(), Relaxed, Relaxed) {
                Ok(_) => return Some(answer),
                Err(changed) => word = changed,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Moment {
        Moment(ms * 1_000_000)
    }

    /// What happens at a moment, and what must come of it.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Is(Verdict),
        Fails(Ejection),
        Closes(Ejection),
        /// `true`: the server is back.
        Works(bool),
        /// `true`: this request is the probe.
        Probes(bool),
        /// The last probe ends without a verdict.
        Unprobes,
        TriedAnyway,
    }

    const AT_ONCE: Duration = Duration::ZERO;

    fn fails(health: &Health, now: Moment) -> Ejection {
        health.struck(Evidence::Unreachable, now, &Eject::default())
    }

    fn run(steps: &[(u64, Step)]) {
        let rules = Eject::default();
        let health = Health::default();
        let mut probe = None;
        for (line, (at, step)) in steps.iter().enumerate() {
            let now = ms(*at);
            let told = format!("line {line}: {at} ms {step:?}");
            match *step {
                Step::Is(expected) => assert_eq!(health.verdict(now), expected, "{told}"),
                Step::Fails(expected) => {
                    assert_eq!(health.struck(Evidence::Unreachable, now, &rules), expected, "{told}")
                }
                Step::Closes(expected) => {
                    assert_eq!(health.struck(Evidence::Closed, now, &rules), expected, "{told}")
                }
                Step::Works(expected) => assert_eq!(health.worked(now, AT_ONCE), expected, "{told}"),
                Step::Probes(expected) => {
                    let claimed = health.probe(now);
                    assert_eq!(claimed.is_some(), expected, "{told}");
                    probe = claimed.or(probe);
                }
                Step::Unprobes => health.unprobe(probe.unwrap()),
                Step::TriedAnyway => health.try_anyway(),
            }
        }
    }

    use Ejection::{Already, Longer, New, No};
    use Step::*;
    use Verdict::{Due, Ejected, Well};

    #[test]
    fn a_dead_server_is_probed_at_doubling_distances() {
        let mut steps = vec![(5, Is(Well)), (5, Fails(New(ms(1005)))), (5, Is(Ejected)), (1004, Is(Ejected))];
        let mut at = 1005;
        for seconds in [2, 4, 8, 16, 30, 30, 30] {
            let until = at + seconds * 1000;
            steps.extend([(at, Is(Due)), (at, Probes(true)), (at, Is(Ejected)), (at, Probes(false))]);
            steps.extend([(at, Fails(Longer(ms(until)))), (at, Unprobes), (until - 1, Is(Ejected))]);
            at = until;
        }
        run(&steps);
    }

    #[test]
    fn echoes_of_one_failure_change_nothing() {
        run(&[(0, Fails(New(ms(1000)))), (1, Fails(Already)), (999, Closes(Already)), (1000, Is(Due))]);
    }

    #[test]
    fn a_probe_that_works_brings_the_server_back_and_forgets_the_past() {
        run(&[
            (0, Fails(New(ms(1000)))),
            (1000, Fails(Longer(ms(3000)))),
            (3000, Probes(true)),
            (3010, Works(true)),
            (3010, Is(Well)),
            (3011, Works(false)),
            (3020, Unprobes),
            (3020, Is(Well)),
            (4000, Fails(New(ms(5000)))),
        ]);
    }

    #[test]
    fn a_probe_without_a_verdict_is_free_again() {
        run(&[
            (0, Fails(New(ms(1000)))),
            (1000, Probes(true)),
            (1001, Probes(false)),
            (1002, Unprobes),
            (1002, Is(Due)),
            (1003, Probes(true)),
        ]);
    }

    #[test]
    fn an_old_probe_does_not_free_a_later_one() {
        let health = Health::default();
        fails(&health, ms(0));
        let old = health.probe(ms(1000)).unwrap();
        assert_eq!(fails(&health, ms(1500)), Longer(ms(3500)));
        assert!(health.probe(ms(3500)).is_some());
        health.unprobe(old);
        assert_eq!(health.probe(ms(3501)), None);
    }

    #[test]
    fn answers_from_before_the_ejection_prove_nothing() {
        run(&[
            (0, Fails(New(ms(1000)))),
            (500, Works(false)),
            (500, Is(Ejected)),
            (600, TriedAnyway),
            (700, Works(true)),
            (700, Is(Well)),
            (800, TriedAnyway),
            (800, Is(Well)),
            (900, Fails(New(ms(1900)))),
            (1900, Works(true)),
        ]);
    }

    #[test]
    fn closing_without_an_answer_ejects_after_a_row() {
        run(&[
            (0, Closes(No)),
            (1, Closes(No)),
            (1, Is(Well)),
            (2, Works(false)),
            (3, Closes(No)),
            (4, Closes(No)),
            (5, Closes(New(ms(1005)))),
            (1005, Probes(true)),
            (1006, Closes(Longer(ms(3006)))),
        ]);
    }

    #[test]
    fn only_what_concerns_the_server_counts() {
        for close in Close::ALL {
            let expected = match close {
                Close::ServerRefused | Close::ServerConnectTimeout | Close::ServerTls => {
                    Evidence::Unreachable
                }
                Close::ServerClosedEarly => Evidence::Closed,
                Close::ServerTimeout => Evidence::Late,
                _ => Evidence::Nothing,
            };
            assert_eq!(evidence(*close, true), expected, "{close:?}");
        }
        assert_eq!(evidence(Close::ServerClosedEarly, false), Evidence::Nothing);
        assert_eq!(evidence(Close::ServerRefused, false), Evidence::Unreachable);
    }

    #[test]
    fn the_word_holds_every_state() {
        for state in [
            State {
                failures: 255,
                strikes: 255,
                down: true,
                warming: true,
                probing: true,
                tried: true,
                admin: Admin::Gone,
                until_ms: UNTIL_MS_MAX,
            },
            State { failures: 1, ..State::default() },
            State { strikes: 2, ..State::default() },
            State { probing: true, ..State::default() },
            State { tried: true, ..State::default() },
            State { down: true, ..State::default() },
            State { warming: true, ..State::default() },
            State { admin: Admin::Maint, ..State::default() },
            State { until_ms: 1, ..State::default() },
        ] {
            assert_eq!(State::unpack(state.pack()), state);
        }
        assert_eq!(State::default().pack(), 0);
        let health = Health::default();
        assert!(matches!(fails(&health, Moment(u64::MAX - 1)), New(_)), "no overflow at the end of time");
    }

    #[test]
    fn one_probe_at_a_time_over_all_workers() {
        let health = Health::default();
        fails(&health, ms(0));
        let probes = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(|| health.probe(ms(1000)).is_some())).collect();
            workers.into_iter().filter_map(|worker| worker.join().ok()).filter(|probe| *probe).count()
        });
        assert_eq!(probes, 1);
    }
}
