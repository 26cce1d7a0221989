//! Which server gets a statement: its verdict, and what its session remembers.
//!
//! What goes in: the [`Verdict`] of each statement's text, and afterwards how it went. What comes out: a [`Decision`]. [`SessionState`]
//! owns what a session remembers; servers' trackers correct it (`told_*`).
//!
//! Always true:
//! - A transaction stays where it began. What lives on one server (temporary tables, locks, user variables) is used there.
//! - User variables are in one place at a time; a statement that needs them elsewhere is refused, not answered wrongly.
//! - A pin ends when its cause ends. Where that cannot be known it stays: that costs speed alone.

mod state;

#[cfg(test)]
mod tests;

pub use state::{Pin, SessionState, Transaction};

use crate::mysql::verdict::{Effects, Rule, Target, Verdict};

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// The one that takes writes.
    Primary,
    /// One of the others: for a session always the same one, as long as something keeps it there.
    Replica,
}

/// Where reads go that may go anywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reads {
    /// To replicas.
    #[default]
    Replicas,
    /// To the primary: no splitting.
    Primary,
}

/// Where a statement goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The server. [`Target::Same`] is the one of [`SessionState::last_place`].
    pub target: Target,
    /// What decided.
    pub why: Rule,
    /// It must be the connection that the session already holds there, if it holds one.
    pub stay: bool,
    /// The read only transaction that is open on a replica ends with this statement, which runs on the primary: it is rolled back there.
    pub end_on_replica: bool,
}

impl Decision {
    const fn to(target: Target, why: Rule) -> Self {
        Self { target, why, stay: false, end_on_replica: false }
    }

    const fn staying(target: Target, why: Rule) -> Self {
        Self { stay: true, ..Self::to(target, why) }
    }

    /// Where it runs, given where the statement before ran.
    pub fn place(&self, last: Place) -> Option<Place> {
        match self.target {
            Target::Primary | Target::All => Some(Place::Primary),
            Target::Replica => Some(Place::Replica),
            Target::Same => Some(last),
            Target::Refuse => None,
        }
    }
}

/// Where a statement goes.
pub fn decide(verdict: &Verdict, state: &SessionState, reads: Reads) -> Decision {
    let judged = Decision::to(verdict.target, verdict.rule);
    if verdict.target == Target::Refuse {
        return judged;
    }
    match state.transaction() {
        _ if state.in_xa() => Decision::staying(Target::Primary, Rule::InXa),
        Transaction::ReadWrite => Decision::staying(Target::Primary, Rule::InTransaction),
        Transaction::ReadOnly(Place::Primary) => Decision::staying(Target::Primary, Rule::InReadOnly),
        Transaction::ReadOnly(Place::Replica) => in_read_only(verdict),
        Transaction::None if verdict.effects.has(Effects::BEGINS) => begin(verdict, state, reads),
        Transaction::None => outside(verdict, state, reads),
    }
}

/// Within a read only transaction on a replica.
fn in_read_only(verdict: &Verdict) -> Decision {
    let ends_within = verdict.effects.has(Effects::MANY) && verdict.effects.has(Effects::ENDS);
    let leaves =
        verdict.effects.has(Effects::BEGINS | Effects::LOCKS_TABLES | Effects::READ_LOCK) || ends_within;
    if leaves && verdict.target == Target::Primary {
        return Decision { end_on_replica: true, ..Decision::to(Target::Primary, verdict.rule) };
    }
    match verdict.rule {
        // What the session has on the primary has nothing to do with the transaction.
        Rule::NamedLock | Rule::InsertId | Rule::ConnectionId | Rule::Kill | Rule::Position => {
            Decision::staying(Target::Primary, verdict.rule)
        }
        Rule::BackupLock
        | Rule::TableLocks
        | Rule::Handler
        | Rule::Prepare
        | Rule::Execute
        | Rule::Sequence
        | Rule::SetGlobal
        | Rule::SetLog
        | Rule::SetAccount
        | Rule::Maintenance => Decision::staying(Target::Primary, verdict.rule),
        // It would set the replica alone, the fence perhaps.
        Rule::UserVariable if verdict.effects.has(Effects::SETS_SESSION) => {
            Decision::to(Target::Refuse, Rule::VariablesElsewhere)
        }
        _ if verdict.target == Target::All => Decision::to(verdict.target, verdict.rule),
        _ => Decision::staying(Target::Replica, Rule::InReadOnly),
    }
}

/// A transaction begins.
fn begin(verdict: &Verdict, state: &SessionState, reads: Reads) -> Decision {
    let says_writes = verdict.effects.has(Effects::READ_WRITE | Effects::XA_BEGINS);
    let only_reads = verdict.target == Target::Replica || (state.begins_read_only() && !says_writes);
    if !only_reads || says_writes {
        return Decision::to(Target::Primary, verdict.rule);
    }
    // It is the primary that was told, and that would do so with a later one if it did not see this one.
    let next = state.pins().any(|pin| pin == Pin::Next).then_some(Rule::HoldsNext);
    if let Some(why) = next.or_else(|| held(state)) {
        return Decision::staying(Target::Primary, why);
    }
    if reads == Reads::Primary {
        return Decision::to(Target::Primary, Rule::ReadsOff);
    }
    let why = if verdict.target == Target::Replica { verdict.rule } else { Rule::ReadOnlySession };
    Decision::to(Target::Replica, why)
}

/// Why everything goes to the primary that could be affected by what the session has there.
fn held(state: &SessionState) -> Option<Rule> {
    let rule_of = |pin: Pin| match pin {
        Pin::Temporary => Some(Rule::HoldsTemporary),
        Pin::TableLocks | Pin::ReadLock => Some(Rule::HoldsTableLocks),
        Pin::NamedLocks => Some(Rule::HoldsNamedLock),
        Pin::Variables if state.variables() == Some(Place::Primary) => Some(Rule::VariablesThere),
        _ => None,
    };
    let log_off = state.is_log_off().then_some(Rule::LogOff);
    state.pins().find_map(rule_of).or(log_off)
}

/// Outside of any transaction.
fn outside(verdict: &Verdict, state: &SessionState, reads: Reads) -> Decision {
    let to = |target| Decision::to(target, verdict.rule);
    let uses_variables = verdict.effects.has(Effects::READS_VARIABLES | Effects::WRITES_VARIABLES);
    let there = state.variables().filter(|_| uses_variables);
    match (verdict.target, verdict.rule) {
        (Target::Same, Rule::Diagnostics) => match there {
            Some(place) if place != state.last_place() => {
                Decision::to(Target::Refuse, Rule::VariablesElsewhere)
            }
            _ => Decision::staying(Target::Same, verdict.rule),
        },
        (Target::Same, _) => to(Target::Primary),
        (Target::Primary, Rule::UserVariable) if there == Some(Place::Replica) => {
            Decision::staying(Target::Replica, Rule::VariablesThere)
        }
        (Target::Primary | Target::All, _) if there == Some(Place::Replica) => {
            Decision::to(Target::Refuse, Rule::VariablesElsewhere)
        }
        (Target::Replica, _) => read(verdict, state, reads),
        (target, _) => to(target),
    }
}

/// A statement that may run on a replica, as far as its text says.
fn read(verdict: &Verdict, state: &SessionState, reads: Reads) -> Decision {
    let primary = |why| Decision::staying(Target::Primary, why);
    let rule_of = |pin: Pin| match pin {
        Pin::Temporary => Some(Rule::HoldsTemporary),
        Pin::TableLocks | Pin::ReadLock => Some(Rule::HoldsTableLocks),
        Pin::NamedLocks => Some(Rule::HoldsNamedLock),
        Pin::Next => Some(Rule::HoldsNext),
        _ => None,
    };
    if let Some(why) = state.pins().find_map(rule_of) {
        return primary(why);
    }
    match () {
        () if state.is_serializable() => primary(Rule::Serializable),
        () if state.is_log_off() => primary(Rule::LogOff),
        () if reads == Reads::Primary => Decision::to(Target::Primary, Rule::ReadsOff),
        () if state.is_autocommit() => Decision::to(Target::Replica, verdict.rule),
        () => primary(Rule::AutocommitOff),
    }
}
