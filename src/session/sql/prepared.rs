//! Prepared statements of an SQL session and the connections that have them.
//!
//! What goes in: commands about a statement by the client's number. What comes out: the same with the number that it has on
//! a connection, on which it is prepared first if need be. It owns nothing. Always true: a statement that a client has
//! closed stays on a shared connection only if nothing of the client's is left on it.

use std::sync::Arc;

use crate::config::model::Pooling;
use crate::counters::Count;
use crate::limits::SQL_CACHED_MAX;
use crate::meters::reason;
use crate::mysql::command::{Command, Kind};
use crate::mysql::errors::{Code, read_only_transaction};
use crate::mysql::packet::HEADER_BYTES;
use crate::mysql::prepared::{PrepareOk, patch_statement};
use crate::mysql::verdict::{Rule, Target};
use crate::session::Cx;

use super::SqlSession;
use super::back::{Cached, Fault, Side};
use super::plan::Plan;
use super::standing::shape;

/// The client's number of the statement that a command is about.
pub(super) fn statement_of(kind: Kind, payload: &[u8]) -> Option<u32> {
    let is_about_one = matches!(
        kind,
        Kind::StmtExecute
            | Kind::StmtBulkExecute
            | Kind::StmtReset
            | Kind::StmtClose
            | Kind::StmtSendLongData
            | Kind::StmtFetch
    );
    let number = payload.get(1..).filter(|_| is_about_one)?.first_chunk()?;
    Some(u32::from_le_bytes(*number))
}

impl SqlSession {
    /// What is to be done with a command about a statement that needs no server: one that does not exist, or the end of one.
    pub(super) fn plan_without_server(&self, command: &Command<'_>, payload: &[u8]) -> Option<Plan> {
        if matches!(command, Command::StmtPrepare(_)) && !self.statements.have_room() {
            let text = "Can't create more prepared statements on one connection of ringgate";
            return Some(Plan::Refuse(Code::TOO_MANY_STATEMENTS, text.into()));
        }
        let kind = Kind::of_byte(*payload.first()?)?;
        let number = statement_of(kind, payload)?;
        if let Command::StmtClose(number) = command {
            return Some(Plan::Close(*number));
        }
        if self.statements.has(number) {
            return None;
        }
        let function = match command {
            Command::StmtExecute(_) => "mysqld_stmt_execute",
            Command::StmtBulkExecute(_) => "mysqld_stmt_bulk_execute",
            Command::StmtReset(_) => "mysqld_stmt_reset",
            Command::StmtFetch { .. } => "mysqld_stmt_fetch",
            // Nobody hears of it.
            _ => return Some(Plan::Nothing),
        };
        let text = format!("Unknown prepared statement handler ({number}) given to {function}");
        Some(Plan::Refuse(Code::UNKNOWN_STATEMENT, text))
    }

    /// A statement was prepared for the client on the primary: its number for the client.
    pub(super) fn note_prepared(&mut self, ok: PrepareOk, cx: &mut Cx<'_>) -> u32 {
        let (Some(job), Some(back)) = (&mut self.job, &self.backs[Side::Primary as usize]) else { return 0 };
        let text = job.packet.get(HEADER_BYTES + 1..).map(|text| (text, job.dialect));
        let verdict = job.verdict.take().map(|verdict| *verdict);
        let own = self.statements.prepared(text, &back.database, verdict, ok, back.leg);
        if let Some(text) = self.statements.get(own).map(|statement| statement.text.clone()) {
            self.remember(Side::Primary, text, own, ok.statement, cx);
        }
        own
    }

    /// A connection that others will use has a statement.
    fn remember(&mut self, side: Side, text: Arc<[u8]>, own: u32, number: u32, cx: &mut Cx<'_>) {
        if self.site(cx).pooling != Pooling::Transaction {
            return;
        }
        let variables = self.state.variables().clone();
        let Some(back) = &mut self.backs[side as usize] else { return };
        let (shape, leg) = (shape(&variables, &back.database), back.leg);
        let is_free = |one: &Cached| !self.statements.uses(side, leg, one.number, own);
        let same = back.cache.iter().position(|one| one.shape == shape && one.text == text);
        let old = match same {
            Some(at) => Some(at),
            None if back.cache.len() >= SQL_CACHED_MAX => back.cache.iter().position(is_free),
            None => None,
        };
        if old.is_some_and(|at| !is_free(&back.cache[at]))
            || (old.is_none() && back.cache.len() >= SQL_CACHED_MAX)
        {
            // Once others have the connection nobody would close it: a reset does.
            back.is_dirty = true;
            return;
        }
        let old = old.map(|at| back.cache.remove(at));
        back.cache.push(Cached { text, shape, number });
        if let Some(old) = old {
            back.close_statement(old.number, cx);
            self.statements.forget(side, leg, old.number);
        }
    }

    /// The number that the command's statement has on a connection that is ready. `None`: it is prepared there first, or the
    /// command goes to the other side.
    pub(super) fn number_there(&mut self, side: Side, cx: &mut Cx<'_>) -> Result<Option<u32>, Fault> {
        let (Some(job), Some(back)) = (&mut self.job, &mut self.backs[side as usize]) else {
            return Ok(None);
        };
        let Some(number) = job.statement else { return Ok(None) };
        let leg = back.leg;
        if let Some(there) = self.statements.number_at(number, side, leg) {
            return Ok(Some(there));
        }
        let Some(statement) = self.statements.get_mut(number) else {
            return Err(refused(Code::UNKNOWN_STATEMENT, b"Unknown prepared statement handler"));
        };
        let (prepared, is_own) = (back.prepared.take(), back.prepared_for == number);
        if let (Some(Some(there)), false) = (prepared, is_own) {
            // The command that it was prepared for went elsewhere.
            back.close_statement(there, cx);
        }
        match prepared.filter(|_| is_own) {
            Some(Some(there)) => {
                let text = statement.text.clone();
                self.statements.found_at(number, side, leg, there);
                self.remember(side, text, number, there, cx);
                return Ok(Some(there));
            }
            Some(None) if side == Side::Primary => {
                return Err(refused(Code::UNKNOWN_STATEMENT, b"Statement cannot be prepared any more"));
            }
            // The client's own read only transaction is there, and nowhere else.
            Some(None) if !job.is_read => {
                let text = read_only_transaction(self.dialect.vendor);
                return Err(refused(Code::READ_ONLY_TRANSACTION, text));
            }
            Some(None) => {
                // The replica refuses it: because of the fence, or because it lacks what the statement names.
                (statement.verdict.target, statement.verdict.rule) = (Target::Primary, Rule::Fenced);
                (job.side, job.is_read) = (Side::Primary, false);
                job.route = reason(false, Rule::Fenced);
                cx.counters.add(Count::Retries, 1);
                return Ok(None);
            }
            None => {}
        }
        let (text, database) = (statement.text.clone(), statement.database.clone());
        // Read in another way it would be another statement.
        let is_same = statement.dialect == self.texts.dialect();
        let shape = shape(self.state.variables(), &database);
        let is_free = |one: &&Cached| !self.statements.uses(side, leg, one.number, number);
        let known =
            back.cache.iter().filter(|one| is_same && one.shape == shape && one.text == text).find(is_free);
        if let Some(there) = known.map(|one| one.number) {
            self.statements.found_at(number, side, leg, there);
            return Ok(Some(there));
        }
        if is_same && *database == *back.database {
            back.prepare(&text, number, cx)?;
        } else if side == Side::Replica && job.is_read {
            // The primary's connection may have it yet.
            (job.side, job.is_read) = (Side::Primary, false);
            job.route = reason(false, Rule::Prepare);
        } else {
            return Err(refused(Code::UNKNOWN_STATEMENT, OTHER_DATABASE));
        }
        Ok(None)
    }

    /// Puts a number into the command: into its packet, or into the beginning of what is passed on piece by piece.
    pub(super) fn put_number(&mut self, number: u32, cx: &mut Cx<'_>) {
        let Some(job) = &mut self.job else { return };
        if job.long.is_none() {
            let _ = job.packet.get_mut(HEADER_BYTES..).map(|payload| patch_statement(payload, number));
            return;
        }
        let inbox = &mut self.front.inbox;
        while inbox.front().is_some_and(|chunk| chunk.len() < HEADER_BYTES + 5) && inbox.join_front(cx.pool) {
        }
        if let Some(mut chunk) = inbox.pop() {
            let payload = chunk.bytes_mut().get_mut(HEADER_BYTES..);
            let _ = payload.map(|payload| patch_statement(payload, number));
            inbox.push_front(chunk, cx.pool);
        }
    }

    /// The client closes a statement.
    pub(super) fn close_statement(&mut self, number: u32, cx: &mut Cx<'_>) {
        let Some((at, is_held)) = self.statements.close(number) else { return };
        let stays = self.site(cx).pooling == Pooling::Transaction && !is_held;
        for (back, at) in self.backs.iter_mut().zip(at) {
            let (Some(back), Some((leg, there))) = (back, at) else { continue };
            let is_cached = back.cache.iter().any(|one| one.number == there);
            if back.leg == leg && !(stays && is_cached) {
                back.cache.retain(|one| one.number != there);
                back.close_statement(there, cx);
            }
        }
    }
}

const OTHER_DATABASE: &[u8] = b"ringgate: this statement was prepared with another default database, sql_mode or character set, and the connection that has it is not this session's any more; prepare it again";

fn refused(code: Code, text: &[u8]) -> Fault {
    let mut payload = Vec::new();
    code.packet(text).write(&mut payload);
    Fault::Refused(payload)
}
