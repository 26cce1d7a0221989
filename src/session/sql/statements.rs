//! Statements that a client prepared by COM_STMT_PREPARE: what they say, and what servers know of them.
//!
//! What goes in: the texts and the servers' answers. What comes out: the packet that executes one of them on a certain
//! connection. It owns texts and types of parameters, in a bounded space: what finds no place stays on the connection that
//! prepared it. Always true: the client's numbers are ours; a server's are put in where a packet goes there.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use crate::ids::Spread;
use crate::limits::{SQL_STATEMENT_BYTES_MAX, SQL_STATEMENTS_ALL_MAX, SQL_STATEMENTS_MAX};
use crate::mysql::facts::Capabilities;
use crate::mysql::lexer::Dialect;
use crate::mysql::packet::{HEADER_BYTES, put};
use crate::mysql::prepared::{BulkExecute, Execute, LAST_PREPARED, PrepareOk, flags};
use crate::mysql::verdict::{Effects, Verdict};
use crate::session::Leg;

use super::back::Side;

/// A statement whose text is known.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) text: Arc<[u8]>,
    /// The database that was chosen then: its names mean what is there.
    pub(super) database: Arc<[u8]>,
    /// How the text was read.
    pub(super) dialect: Dialect,
    pub(super) verdict: Verdict,
    parameters: u16,
    /// The types that were bound last.
    types: Vec<u8>,
    /// How many those are.
    bound: usize,
    /// Whether each side was told these.
    typed: [bool; 2],
    /// Pieces of parameters wait at the primary.
    pub(super) has_pieces: bool,
    /// It was executed with a cursor, which may be open.
    pub(super) has_cursor: bool,
    /// It was executed by a packet that is passed on as it is, and probably will be again.
    is_long: bool,
}

/// The number of a statement on each side's connection.
pub(super) type At = [Option<(Leg, u32)>; 2];

/// Where a statement is.
#[derive(Debug)]
struct Entry {
    /// Its number on each side's connection.
    at: At,
    /// `None`: only the primary's connection has it.
    statement: Option<Box<Statement>>,
}

/// All of a session.
#[derive(Debug, Default)]
pub(super) struct Statements {
    /// By numbers of our own, which count up.
    known: HashMap<u32, Entry, BuildHasherDefault<Spread>>,
    last: u32,
    /// How many are known with their text.
    texts: usize,
    /// How many keep the session on its connection to the primary.
    unseen_count: usize,
    /// What those may do that are not known.
    unseen: Effects,
    /// Numbers of those of which something beside themselves may be on the primary's connection.
    busy: Vec<u32>,
}

impl Statements {
    /// The connection to the primary has some that no other could have.
    pub(super) fn are_held(&self) -> bool {
        self.unseen_count > 0 || self.busy.iter().any(|number| self.is_busy(*number))
    }

    fn is_busy(&self, number: u32) -> bool {
        self.get(number).is_some_and(|statement| !statement.is_free())
    }

    /// One was given a piece of a parameter, or is executed.
    pub(super) fn note_use(&mut self, number: u32) {
        let number = self.real(number);
        if self.is_busy(number) && !self.busy.contains(&number) {
            let mut busy = std::mem::take(&mut self.busy);
            busy.retain(|one| self.is_busy(*one));
            busy.push(number);
            self.busy = busy;
        }
    }

    /// There is room for another one.
    pub(super) fn have_room(&self) -> bool {
        self.known.len() < SQL_STATEMENTS_ALL_MAX
    }

    /// The primary prepared one on this connection; the answer is its number for the client. Without a text it was not
    /// looked at.
    pub(super) fn prepared(
        &mut self,
        text: Option<(&[u8], Dialect)>,
        database: &[u8],
        verdict: Option<Verdict>,
        ok: PrepareOk,
        leg: Leg,
    ) -> u32 {
        let mut own = self.last_given();
        while own == 0 || own == LAST_PREPARED || self.known.contains_key(&own) {
            own = own.wrapping_add(1);
        }
        let effects = verdict.as_ref().map_or(Effects::OPAQUE, |verdict| verdict.effects);
        let text =
            text.filter(|(text, _)| self.texts < SQL_STATEMENTS_MAX && text.len() <= SQL_STATEMENT_BYTES_MAX);
        let statement = text.zip(verdict).map(|((text, dialect), verdict)| {
            Box::new(Statement {
                text: text.into(),
                database: database.into(),
                dialect,
                verdict,
                parameters: ok.parameters,
                types: Vec::new(),
                bound: 0,
                typed: [false; 2],
                has_pieces: false,
                has_cursor: false,
                is_long: false,
            })
        });
        match statement {
            Some(_) => self.texts += 1,
            None => {
                self.unseen |= effects;
                self.unseen_count += 1;
            }
        }
        self.known.insert(own, Entry { at: [Some((leg, ok.statement)), None], statement });
        self.last = own;
        own
    }

    const fn last_given(&self) -> u32 {
        if self.last == LAST_PREPARED { 1 } else { self.last.wrapping_add(1) }
    }

    /// What those may do that are not known.
    pub(super) const fn unseen(&self) -> Effects {
        self.unseen
    }

    /// The primary did not prepare what came last: "the last one" means none.
    pub(super) const fn failed(&mut self) {
        self.last = LAST_PREPARED;
    }

    /// The client closes one. The answer is its numbers, and whether the servers must hear of it.
    pub(super) fn close(&mut self, number: u32) -> Option<(At, bool)> {
        let entry = self.known.remove(&number)?;
        match &entry.statement {
            Some(_) => self.texts -= 1,
            None => self.unseen_count -= 1,
        }
        let is_plain = entry.statement.is_some_and(|statement| statement.is_free());
        Some((entry.at, !is_plain))
    }

    /// The client has one of this number.
    pub(super) fn has(&self, number: u32) -> bool {
        self.known.contains_key(&self.real(number))
    }

    /// A statement by the client's number, if its text is known.
    pub(super) fn get(&self, number: u32) -> Option<&Statement> {
        self.known.get(&self.real(number))?.statement.as_deref()
    }

    /// The same to be changed.
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Statement> {
        let number = self.real(number);
        self.known.get_mut(&number)?.statement.as_deref_mut()
    }

    /// Its number on this connection.
    pub(super) fn number_at(&self, number: u32, side: Side, leg: Leg) -> Option<u32> {
        let at = self.known.get(&self.real(number))?.at[side as usize];
        at.filter(|(own, _)| *own == leg).map(|(_, number)| number)
    }

    /// It has this number on this connection.
    pub(super) fn found_at(&mut self, number: u32, side: Side, leg: Leg, there: u32) {
        let number = self.real(number);
        if let Some(entry) = self.known.get_mut(&number) {
            entry.at[side as usize] = Some((leg, there));
            if let Some(statement) = &mut entry.statement {
                statement.typed[side as usize] = false;
            }
        }
    }

    /// One of the client's, other than `except`, is this statement of a connection.
    pub(super) fn uses(&self, side: Side, leg: Leg, there: u32, except: u32) -> bool {
        let except = self.real(except);
        self.known
            .iter()
            .any(|(number, entry)| *number != except && entry.at[side as usize] == Some((leg, there)))
    }

    /// The connection of this side was reset: it has none any more.
    pub(super) fn forget_all(&mut self, side: Side) {
        self.known.values_mut().for_each(|entry| entry.at[side as usize] = None);
    }

    /// The statement of this number on this connection was closed.
    pub(super) fn forget(&mut self, side: Side, leg: Leg, there: u32) {
        for entry in self.known.values_mut() {
            entry.at[side as usize] = entry.at[side as usize].filter(|at| *at != (leg, there));
        }
    }

    const fn real(&self, number: u32) -> u32 {
        if number == LAST_PREPARED { self.last } else { number }
    }
}

impl Statement {
    /// Nothing of it is on a connection but itself.
    const fn is_free(&self) -> bool {
        !self.has_pieces && !self.has_cursor && !self.is_long
    }

    /// Takes over the types of a packet that is to execute it: whatever becomes of that, clients tell them once. Whether it can
    /// be executed by this packet on a replica: no cursor is opened, and everything is in the packet.
    pub(super) fn learn_types(&mut self, payload: &[u8], capabilities: Capabilities) -> bool {
        let Ok(execute) = Execute::parse(payload, self.parameters, capabilities) else { return false };
        // With query attributes the types may be those of other attributes.
        let same = execute.types.is_some() || execute.bound_at.is_none() || execute.parameters == self.bound;
        let may_leave = !self.has_pieces && !has_cursor(&execute) && same;
        if let Some(types) = execute.types.and_then(|types| payload.get(types)) {
            if self.types != types {
                (self.types, self.typed) = (types.to_vec(), [false; 2]);
            }
            self.bound = execute.parameters;
        }
        may_leave
    }

    /// It is executed many times by this packet, at the primary: the packet with types that were told elsewhere. `None`: as it
    /// is, which a long one stays.
    pub(super) fn bulk_packet_for(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        let payload = packet.get(HEADER_BYTES..)?;
        let bulk = BulkExecute::parse(payload, self.parameters).ok()?;
        if let Some(types) = &bulk.types {
            self.types = payload.get(types.clone())?.to_vec();
            (self.typed, self.bound) = ([true, false], usize::from(self.parameters));
            return None;
        }
        if self.typed[Side::Primary as usize] || self.bound != usize::from(self.parameters) {
            return None;
        }
        self.typed[Side::Primary as usize] = true;
        let (mut out, mut sequence) = (Vec::with_capacity(packet.len() + self.types.len()), 0);
        put(&mut out, &mut sequence, |out| bulk.write_with_types(out, payload, &self.types));
        Some(out)
    }

    /// The packet that executes it, with types that were told elsewhere. `None`: as it is.
    pub(super) fn packet_for(
        &mut self,
        side: Side,
        packet: &[u8],
        capabilities: Capabilities,
    ) -> Option<Vec<u8>> {
        let payload = packet.get(HEADER_BYTES..)?;
        let execute = Execute::parse(payload, self.parameters, capabilities).ok()?;
        self.has_cursor = has_cursor(&execute);
        if let Some(types) = &execute.types {
            let types = payload.get(types.clone())?;
            let same = self.types == types;
            if !same {
                self.types = types.to_vec();
            }
            self.typed = [same && self.typed[0], same && self.typed[1]];
            self.typed[side as usize] = true;
            self.bound = execute.parameters;
            return None;
        }
        let known = !self.types.is_empty() && execute.parameters == self.bound;
        if execute.bound_at.is_none() || self.typed[side as usize] || !known {
            return None;
        }
        self.typed[side as usize] = true;
        let (mut out, mut sequence) = (Vec::with_capacity(packet.len() + self.types.len()), 0);
        put(&mut out, &mut sequence, |out| execute.write_with_types(out, payload, &self.types));
        Some(out)
    }

    /// A long packet executes it, which is passed on as it is: false when it lacks types that its connection (which
    /// has the statement, if `is_there`) was not told.
    pub(super) fn is_executed_by(
        &mut self,
        beginning: &[u8],
        capabilities: Capabilities,
        (side, is_there): (Side, bool),
    ) -> bool {
        let parsed = Execute::parse(beginning, self.parameters, capabilities);
        // The types of a later execution are those of this one, which stand on its connection alone.
        self.is_long = true;
        match parsed {
            Ok(Execute { types: Some(types), parameters, .. }) => {
                self.types = beginning.get(types).unwrap_or_default().to_vec();
                self.typed = [false; 2];
                self.typed[side as usize] = true;
                self.bound = parameters;
                true
            }
            Ok(Execute { bound_at: Some(_), .. }) => is_there && self.typed[side as usize],
            _ => true,
        }
    }
}

fn has_cursor(execute: &Execute) -> bool {
    execute.flags & !flags::PARAMETER_COUNT_AVAILABLE != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::classify::classify;

    #[test]
    fn types_of_an_execution_that_came_to_nothing_are_told_with_the_next() {
        let (text, dialect) = (&b"UPDATE t SET v = ?"[..], Dialect::mariadb(101_119));
        let ok = PrepareOk { statement: 7, columns: 0, parameters: 1, warnings: 0 };
        let mut all = Statements::default();
        let number =
            all.prepared(Some((text, dialect)), b"shop", Some(classify(text, dialect)), ok, Leg::Back(0));
        let statement = all.get_mut(number).unwrap();
        let values = 5u64.to_le_bytes();
        let packet = |types: &[u8]| {
            let head = [0x17, 7, 0, 0, 0, 0, 1, 0, 0, 0, 0];
            [&[0; HEADER_BYTES], &head[..], types, &values].concat()
        };
        let (typed, bare) = (packet(&[1, 8, 0]), packet(&[0]));
        let capabilities = Capabilities::NONE;
        assert_eq!(statement.packet_for(Side::Primary, &bare, capabilities), None, "none are known");
        assert!(statement.learn_types(&typed[HEADER_BYTES..], capabilities));
        let sent = statement.packet_for(Side::Primary, &bare, capabilities).unwrap();
        assert_eq!(sent[HEADER_BYTES..], typed[HEADER_BYTES..]);
        assert_eq!(statement.packet_for(Side::Primary, &bare, capabilities), None, "they were told");
        assert!(statement.learn_types(&bare[HEADER_BYTES..], capabilities));
        let sent = statement.packet_for(Side::Replica, &bare, capabilities).unwrap();
        assert_eq!(sent[HEADER_BYTES..], typed[HEADER_BYTES..]);
    }
}
