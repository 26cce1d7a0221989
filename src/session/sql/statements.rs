//! Statements that a client prepared by COM_STMT_PREPARE: what they say, and what servers know of them.
//!
//! What goes in: the texts and the primary's answers. What comes out: the packet that executes one of them on a certain
//! connection. It owns texts and types of parameters, in a bounded space: what finds no place runs on the primary. Always
//! true: the client's numbers are the primary's; a replica's are put in where a packet goes there.

use std::collections::HashMap;

use crate::limits::{SQL_STATEMENT_BYTES_MAX, SQL_STATEMENTS_MAX};
use crate::mysql::facts::Capabilities;
use crate::mysql::lexer::Dialect;
use crate::mysql::packet::{HEADER_BYTES, put};
use crate::mysql::prepared::{Execute, LAST_PREPARED, PrepareOk, patch_statement};
use crate::mysql::verdict::Verdict;
use crate::session::Leg;

use super::back::Side;

/// A statement.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) text: Vec<u8>,
    /// How the text was read.
    pub(super) dialect: Dialect,
    pub(super) verdict: Verdict,
    parameters: u16,
    /// The types that were bound last.
    types: Vec<u8>,
    /// Whether each side was told these.
    typed: [bool; 2],
    /// Its number at a replica, on this connection.
    there: Option<(Leg, u32)>,
    /// Pieces of parameters wait at the primary.
    pub(super) has_pieces: bool,
}

/// All of a session.
#[derive(Debug, Default)]
pub(super) struct Statements {
    known: HashMap<u32, Statement>,
    last: u32,
    /// How many the primary has.
    count: u32,
}

impl Statements {
    /// The primary has some.
    pub(super) const fn are_held(&self) -> bool {
        self.count > 0
    }

    /// The primary prepared this.
    pub(super) fn prepared(&mut self, (text, dialect): (&[u8], Dialect), verdict: Verdict, ok: PrepareOk) {
        self.count += 1;
        self.last = ok.statement;
        if self.known.len() >= SQL_STATEMENTS_MAX || text.len() > SQL_STATEMENT_BYTES_MAX {
            return;
        }
        let statement = Statement {
            text: text.to_vec(),
            dialect,
            verdict,
            parameters: ok.parameters,
            types: Vec::new(),
            typed: [false; 2],
            there: None,
            has_pieces: false,
        };
        self.known.insert(ok.statement, statement);
    }

    /// The primary prepared what was not looked at.
    pub(super) fn prepared_unseen(&mut self, number: u32) {
        self.count += 1;
        self.last = number;
        self.known.remove(&number);
    }

    /// The primary did not prepare what came last: "the last one" means none.
    pub(super) const fn failed(&mut self) {
        self.last = LAST_PREPARED;
    }

    /// The client closes one; the answer is its number at a replica.
    pub(super) fn close(&mut self, number: u32) -> Option<(Leg, u32)> {
        self.count = self.count.saturating_sub(1);
        self.known.remove(&number)?.there
    }

    /// A statement by the client's number.
    pub(super) fn get(&self, number: u32) -> Option<&Statement> {
        self.known.get(&self.real(number))
    }

    /// The same to be changed.
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Statement> {
        let number = self.real(number);
        self.known.get_mut(&number)
    }

    const fn real(&self, number: u32) -> u32 {
        if number == LAST_PREPARED { self.last } else { number }
    }
}

impl Statement {
    /// Whether it can be executed by this packet on a replica: no cursor is opened, and everything is in the packet.
    pub(super) fn may_leave(&self, payload: &[u8], capabilities: Capabilities) -> bool {
        let Ok(execute) = Execute::parse(payload, self.parameters, capabilities) else { return false };
        // A long execution without types goes to the primary as it is: that must have been told them.
        let typed = execute.bound_at.is_none() || self.typed[Side::Primary as usize];
        !self.has_pieces && execute.flags == 0 && typed
    }

    /// Its number at a replica, if it was prepared on this connection.
    pub(super) fn number_at(&self, leg: Leg) -> Option<u32> {
        self.there.filter(|(own, _)| *own == leg).map(|(_, number)| number)
    }

    /// It was prepared there.
    pub(super) fn prepared_at(&mut self, leg: Leg, number: u32) {
        self.there = Some((leg, number));
        self.typed[Side::Replica as usize] = false;
    }

    /// The packet that executes it: with its number there, and with types that were told elsewhere. `None`: as it is.
    pub(super) fn packet_for(
        &mut self,
        side: Side,
        number: Option<u32>,
        packet: &[u8],
        capabilities: Capabilities,
    ) -> Option<Vec<u8>> {
        let payload = packet.get(HEADER_BYTES..)?;
        let execute = Execute::parse(payload, self.parameters, capabilities).ok()?;
        let mut untyped = false;
        if let Some(types) = &execute.types {
            let types = payload.get(types.clone())?;
            let same = self.types == types;
            if !same {
                self.types = types.to_vec();
            }
            self.typed = [same && self.typed[0], same && self.typed[1]];
            self.typed[side as usize] = true;
        } else {
            untyped = execute.bound_at.is_some() && !self.typed[side as usize] && !self.types.is_empty();
            self.typed[side as usize] |= untyped;
        }
        if number.is_none() && !untyped {
            return None;
        }
        let (mut out, mut sequence) = (Vec::with_capacity(packet.len() + self.types.len()), 0);
        put(&mut out, &mut sequence, |out| match untyped {
            true => execute.write_with_types(out, payload, &self.types),
            false => out.extend_from_slice(payload),
        });
        if let (Some(number), Some(payload)) = (number, out.get_mut(HEADER_BYTES..)) {
            patch_statement(payload, number).ok()?;
        }
        Some(out)
    }
}
