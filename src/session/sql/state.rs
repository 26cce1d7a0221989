//! What an SQL session is, apart from its connections: who logged in, variables, database, what it has written.
//!
//! What goes in: the login, and the changes that the primary's OK packets tell. What comes out: statements that bring
//! another connection to the same state. It owns the values. Always true: what it holds was told by a server, not guessed
//! from a text; the stamp counts the changes, so that a connection knows what it has missed.

use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::cluster::{Gtid, Positions};
use crate::limits::{SQL_VARIABLE_BYTES_MAX, SQL_VARIABLES_MAX, SQL_WRITTEN_MAX};
use crate::mysql::facts::{Capabilities, Version};
use crate::mysql::handshake::Scramble;
use crate::mysql::track::{Change, changes};

/// A variable that is not as it was after the login.
#[derive(Clone, Debug)]
pub(super) struct Variable {
    pub(super) name: Vec<u8>,
    pub(super) value: Vec<u8>,
    stamp: u64,
}

/// What a connection's variables are to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// As the session has them.
    Same,
    /// Further ones are to be set.
    Fewer,
    /// Some are set that the session does not have.
    Others,
}

/// A session's state.
#[derive(Debug, Default)]
pub(super) struct State {
    user: Vec<u8>,
    /// What both the client and we speak.
    pub(super) capabilities: Capabilities,
    /// The collation of the login.
    pub(super) collation: u8,
    /// Of the greeting: what was offered, and what another login on the same connection answers.
    pub(super) offered: Capabilities,
    pub(super) scramble: Scramble,
    database: Vec<u8>,
    variables: Arc<Vec<Variable>>,
    stamp: u64,
    /// The last write of each source.
    written: ArrayVec<Gtid, SQL_WRITTEN_MAX>,
    /// Something may have been written whose GTID was not told: reads go to the primary until the next one is told.
    pub(super) is_blind: bool,
    /// It cannot be told any more what other connections would have to be brought to: everything goes to the primary.
    pub(super) is_beyond: bool,
    /// Something is set on the primary's connection that is not brought to others.
    pub(super) is_personal: bool,
    /// The primary's connection may know the id of an insert.
    pub(super) has_insert_id: bool,
    /// One that knew it is gone: nobody can say it any more.
    pub(super) lost_insert_id: bool,
    /// What the last connection to the primary knew of it when it was given back.
    pub(super) insert_id: u64,
    /// The trackers of the primary's connection were changed by the client: they are to be set again.
    pub(super) trackers_changed: bool,
}

/// Variables that are no state to be brought along: our own, those of one statement, and those that follow from others.
const NOT_BROUGHT: [&[u8]; 16] = [
    b"autocommit",
    b"error_count",
    b"gtid_domain_id",
    b"gtid_next",
    b"gtid_seq_no",
    b"identity",
    b"in_transaction",
    b"insert_id",
    b"last_gtid",
    b"last_insert_id",
    b"server_id",
    b"statement_id",
    b"transaction_read_only",
    b"tx_read_only",
    b"warning_count",
    b"wsrep_on",
];

/// Variables that concern the primary alone, and that stay on the connection on which they were set.
const PERSONAL: [&[u8]; 6] =
    [b"gtid_domain_id", b"gtid_next", b"gtid_seq_no", b"insert_id", b"server_id", b"wsrep_on"];

/// Variables whose setting changes what a statement means in a way that only its own connection can keep.
const BEYOND: [&[u8]; 5] = [b"pseudo_thread_id", b"rand_seed1", b"rand_seed2", b"timestamp", b"sql_log_bin"];

/// The character set that literals are read into, and how they are compared.
pub(super) const CHARACTER_SET: &[u8] = b"character_set_connection";
const COLLATION: &[u8] = b"collation_connection";

/// Variables that clients are told about unless they say otherwise (the servers' default of
/// `session_track_system_variables`).
const TOLD: [&[u8]; 6] = [
    b"autocommit",
    b"character_set_client",
    b"character_set_connection",
    b"character_set_results",
    b"redirect_url",
    b"time_zone",
];

/// Without a comment at the end, as many frameworks put it there.
fn without_comment(text: &[u8]) -> &[u8] {
    let Some(open) = text.windows(2).position(|two| two == b"/*") else { return text };
    let (before, comment) = text.split_at(open);
    let inner = comment.get(2..).and_then(|rest| rest.strip_suffix(b"*/"));
    let is_plain = |inner: &[u8]| {
        !inner.starts_with(b"!") && !inner.starts_with(b"M!") && !inner.windows(2).any(|two| two == b"*/")
    };
    if inner.is_some_and(is_plain) { before } else { text }
}

/// Whether a client with SESSION_TRACK sees a change.
pub(super) fn is_told(change: &Change<'_>) -> bool {
    match change {
        Change::Schema(_) => true,
        Change::SystemVariable { name, .. } => TOLD.contains(name),
        _ => false,
    }
}

impl State {
    /// After the login of this user.
    pub(super) fn new(user: &[u8], database: &[u8], capabilities: Capabilities, collation: u8) -> Self {
        Self {
            user: user.to_vec(),
            database: database.to_vec(),
            capabilities,
            collation,
            stamp: 1,
            ..Self::default()
        }
    }

    /// Who logged in.
    pub(super) fn user(&self) -> &[u8] {
        &self.user
    }

    /// The default database; empty for none.
    pub(super) fn database(&self) -> &[u8] {
        &self.database
    }

    /// Counts the changes.
    pub(super) const fn stamp(&self) -> u64 {
        self.stamp
    }

    /// Variables differ from what a login gives.
    pub(super) fn has_variables(&self) -> bool {
        !self.variables.is_empty()
    }

    /// Variables that differ from what a login gives.
    pub(super) fn variables(&self) -> &Arc<Vec<Variable>> {
        &self.variables
    }

    /// Compares with what a connection has.
    pub(super) fn compare(&self, found: &Arc<Vec<Variable>>) -> Found {
        let has = |one: &Variable| {
            let known = self.variables.iter().find(|known| known.name == one.name);
            known.map(|known| known.value == one.value)
        };
        if Arc::ptr_eq(found, &self.variables) {
            return Found::Same;
        }
        let mut same = found.len() == self.variables.len();
        for one in found.iter() {
            match has(one) {
                None => return Found::Others,
                Some(is_same) => same &= is_same,
            }
        }
        if same { Found::Same } else { Found::Fewer }
    }

    /// What it has written is on a server with these positions.
    pub(super) fn is_seen_by(&self, has: &Positions) -> bool {
        self.written.iter().all(|gtid| has.has(*gtid))
    }

    /// A server of this version understands what this client sends, and answers as it expects.
    pub(super) fn is_spoken_by(&self, version: Version) -> bool {
        Capabilities::forms_of(version).has(self.capabilities & Capabilities::FORMS)
    }

    /// The session is as after its login.
    pub(super) fn reset(&mut self) {
        self.variables = Arc::default();
        (self.is_beyond, self.is_personal) = (false, false);
        (self.has_insert_id, self.lost_insert_id, self.insert_id) = (false, false, 0);
        // The trackers are the server's own again.
        self.trackers_changed = true;
    }

    /// The last write of each source.
    pub(super) fn written(&self) -> &[Gtid] {
        &self.written
    }

    /// Takes over what an OK packet of the primary says; `wrote` hears of each GTID.
    pub(super) fn told(&mut self, state: &[u8], mut wrote: impl FnMut(Gtid)) {
        for change in changes(state).filter_map(Result::ok) {
            match change {
                Change::SystemVariable { name: b"last_gtid", value } => {
                    for gtid in Gtid::parse_list(value, true) {
                        self.wrote(gtid);
                        wrote(gtid);
                    }
                }
                Change::Gtids(value) => {
                    let mut is_known = false;
                    for gtid in Gtid::parse_list(value, true) {
                        self.wrote(gtid);
                        wrote(gtid);
                        is_known = true;
                    }
                    // Nobody can be asked whether it is there.
                    self.is_beyond |= !is_known;
                }
                Change::SystemVariable { name, .. } if name.starts_with(b"session_track_") => {
                    self.trackers_changed = true;
                }
                Change::SystemVariable { name, value } => self.set(name, value),
                Change::Schema(name) if name != self.database => {
                    self.stamp += 1;
                    self.database = name.to_vec();
                }
                _ => {}
            }
        }
    }

    fn wrote(&mut self, gtid: Gtid) {
        self.is_blind = false;
        match self.written.iter_mut().find(|known| known.source == gtid.source) {
            Some(known) => known.number = known.number.max(gtid.number),
            None => self.is_beyond |= self.written.try_push(gtid).is_err(),
        }
    }

    fn set(&mut self, name: &[u8], value: &[u8]) {
        self.is_personal |= PERSONAL.contains(&name);
        if NOT_BROUGHT.contains(&name) {
            return;
        }
        if BEYOND.contains(&name) {
            self.is_beyond = true;
            return;
        }
        // A character set brings its collation along, also one that is set again; a collation comes after its set.
        if [CHARACTER_SET, COLLATION].contains(&name) {
            Arc::make_mut(&mut self.variables)
                .retain(|variable| variable.name != COLLATION && variable.name != name);
        }
        let known = self.variables.iter().position(|variable| variable.name == name);
        if known.is_some_and(|at| self.variables[at].value == value) {
            return;
        }
        let fits = known.is_some() || self.variables.len() < SQL_VARIABLES_MAX;
        if !fits || value.len() > SQL_VARIABLE_BYTES_MAX {
            self.is_beyond = true;
            return;
        }
        self.stamp += 1;
        let stamp = self.stamp;
        let variables = Arc::make_mut(&mut self.variables);
        match known {
            Some(at) => {
                variables[at].value = value.to_vec();
                variables[at].stamp = stamp;
            }
            None => variables.push(Variable { name: name.to_vec(), value: value.to_vec(), stamp }),
        }
    }

    /// A statement set the character set of the connection. Servers do not tell the collation that it named.
    pub(super) fn chose(&mut self, text: &[u8]) {
        let named = b"collat";
        let Some(at) = text.windows(named.len()).position(|word| word.eq_ignore_ascii_case(named)) else {
            return;
        };
        let rest = text.get(at + named.len()..).unwrap_or_default();
        let rest = rest.strip_prefix(b"e").or(rest.strip_prefix(b"E")).unwrap_or(b"?");
        let rest = without_comment(rest.trim_ascii_end());
        let around = |byte: &u8| byte.is_ascii_whitespace() || b"'\";".contains(byte);
        let start = rest.iter().position(|byte| !around(byte)).unwrap_or(rest.len());
        let end = rest.iter().rposition(|byte| !around(byte)).map_or(start, |last| last + 1);
        let name = rest.get(start..end).unwrap_or_default();
        if name.is_empty() || !name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
            self.is_beyond = true;
        } else if !name.eq_ignore_ascii_case(b"default") {
            self.set(COLLATION, name);
        }
    }

    /// A statement that sets what was changed after `stamp`; empty when nothing was.
    pub(super) fn assignments(&self, stamp: u64) -> Vec<u8> {
        let mut text = Vec::new();
        for variable in self.variables.iter().filter(|variable| variable.stamp > stamp) {
            text.extend_from_slice(if text.is_empty() { b"SET " } else { b"," });
            text.extend_from_slice(b"@@session.`");
            text.extend_from_slice(&variable.name);
            text.extend_from_slice(b"`=");
            match (&*variable.name, variable.value.is_empty()) {
                // NULL is told as nothing.
                (b"character_set_results", true) => text.extend_from_slice(b"NULL"),
                _ => literal(&variable.value, &mut text),
            }
        }
        text
    }
}

/// A value as a literal: a number as it is, a text in hexadecimal, which no character set and no sql_mode changes.
fn literal(value: &[u8], out: &mut Vec<u8>) {
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    let is_number = !digits.is_empty()
        && digits.len() <= 20
        && digits.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
        && digits.iter().filter(|byte| **byte == b'.').count() <= 1
        && digits.first().is_some_and(u8::is_ascii_digit);
    if is_number {
        out.extend_from_slice(value);
    } else if value.is_empty() {
        out.extend_from_slice(b"''");
    } else {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        out.extend_from_slice(b"_utf8mb4 X'");
        for byte in value {
            out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        out.push(b'\'');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state_of(list: &[Change<'_>]) -> Vec<u8> {
        let mut out = Vec::new();
        list.iter().for_each(|change| change.write(&mut out));
        out
    }

    #[test]
    fn what_changed_is_brought_along() {
        let mut state = State::new(b"app", b"shop", Capabilities::NONE, 45);
        let mut wrote = Vec::new();
        let variable = |name, value| Change::SystemVariable { name, value };
        let told = state_of(&[
            variable(b"sql_mode", b"ANSI"),
            variable(b"autocommit", b"OFF"),
            variable(b"max_error_count", b"-64"),
            variable(b"last_gtid", b"0-1-9"),
            Change::Schema(b"shop"),
        ]);
        state.told(&told, |gtid| wrote.push(gtid.number));
        assert_eq!(wrote, [9]);
        assert_eq!(state.stamp(), 3, "the same database is no change");
        let all = "SET @@session.`sql_mode`=_utf8mb4 X'414e5349',@@session.`max_error_count`=-64";
        assert_eq!(String::from_utf8(state.assignments(1)).unwrap(), all);
        let last = "SET @@session.`max_error_count`=-64";
        assert_eq!(String::from_utf8(state.assignments(2)).unwrap(), last);
        assert_eq!(state.assignments(3), b"");
        state.told(&state_of(&[variable(b"sql_mode", b"ANSI"), Change::Schema(b"other")]), |_| {});
        assert_eq!((state.stamp(), state.database()), (4, &b"other"[..]));
        let seen = Positions::default();
        assert!(!state.is_seen_by(&seen));
        assert!(seen.raise(Gtid { source: 0, number: 9 }) && state.is_seen_by(&seen));
        assert!(!state.is_beyond);
        state.told(&state_of(&[variable(b"timestamp", b"1")]), |_| {});
        assert!(state.is_beyond);
    }

    #[test]
    fn a_collation_goes_with_its_character_set() {
        let mut state = State::new(b"app", b"shop", Capabilities::NONE, 45);
        let variable = |name, value| Change::SystemVariable { name, value };
        let names = state_of(&[variable(CHARACTER_SET, b"1")]);
        let chosen = |state: &mut State, text: &[u8]| {
            let stamp = state.stamp();
            state.told(&names, |_| {});
            state.chose(text);
            String::from_utf8(state.assignments(stamp)).unwrap()
        };
        let set = "SET @@session.`character_set_connection`=1";
        let with = format!("{set},@@session.`collation_connection`=_utf8mb4 X'785f6269'");
        assert_eq!(chosen(&mut state, b"set names 1"), set);
        for text in [
            "SET NAMES 1 COLLATE x_bi",
            "set names '1' collate 'x_bi' ;",
            "set names 1 Collate\"x_bi\"",
            "set names 1 collate x_bi /* by an app */ ",
        ] {
            assert_eq!(chosen(&mut state, text.as_bytes()), with, "{text}");
        }
        assert_eq!(chosen(&mut state, b"set names 1"), set, "the default one again");
        state.told(&state_of(&[variable(COLLATION, b"2")]), |_| {});
        state.told(&names, |_| {});
        assert_eq!(String::from_utf8(state.assignments(0)).unwrap(), set);
        assert!(!state.is_beyond);
        for text in [
            "set names 1 collate x/*!1*/",
            "set names 1 collate x/**/y/**/",
            "set names 1, collation_connection=x",
            "set names 1 collate",
        ] {
            state.is_beyond = false;
            chosen(&mut state, text.as_bytes());
            assert!(state.is_beyond, "{text}");
        }
    }

    #[test]
    fn literals_are_harmless() {
        let text = |value: &[u8]| {
            let mut out = Vec::new();
            literal(value, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(b"17"), "17");
        assert_eq!(text(b"1.5"), "1.5");
        assert_eq!(text(b""), "''");
        assert_eq!(text(b"a'b"), "_utf8mb4 X'612762'");
        assert_eq!(text(b"1.2.3.4"), "_utf8mb4 X'312e322e332e34'");
        assert_eq!(text(b"-"), "_utf8mb4 X'2d'");
    }
}
