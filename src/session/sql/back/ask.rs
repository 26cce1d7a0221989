//! What is asked of a server on a session's behalf: trackers and the fence, variables, the database, positions, statements.
//!
//! What goes in: the session's state. What comes out: commands of our own, whose answers no client sees. It owns nothing.
//! Always true: one is asked at a time; the stage says which.

use std::time::Duration;

use crate::close::Close;
use crate::cluster::Gtid;
use crate::limits::{SQL_POSITION_BYTES_MAX, SQL_SETUP_BYTES_MAX};
use crate::mysql::command::Kind;
use crate::mysql::facts::{Capabilities, Vendor};
use crate::mysql::packet::{self, Parse};
use crate::session::Cx;

use super::super::state::{Found, State};
use super::{Back, Side, Stage};

impl Back {
    /// Has a replica wait so long for positions; `waited` says whether they were reached in time.
    pub(in super::super) fn wait_for(
        &mut self,
        positions: &[Gtid],
        time: Duration,
        cx: &mut Cx<'_>,
    ) -> Result<(), Close> {
        let mut list = String::new();
        let is_mariadb = self.version.is_none_or(|version| version.vendor == Vendor::MariaDb);
        for gtid in positions {
            list.push_str(if list.is_empty() { "" } else { "," });
            list.push_str(&gtid.text(is_mariadb));
        }
        let function = if is_mariadb { "MASTER_GTID_WAIT" } else { "WAIT_FOR_EXECUTED_GTID_SET" };
        let seconds = time.as_secs_f64();
        self.waited = None;
        self.positions = positions.iter().copied().take(self.positions.capacity()).collect();
        self.row.clear();
        self.ask(format!("SELECT {function}('{list}',{seconds})").as_bytes(), Stage::Position, cx)
    }

    /// Prepares a statement for the client's one of this number; `prepared` says what became of it.
    pub(in super::super) fn prepare(&mut self, text: &[u8], own: u32, cx: &mut Cx<'_>) -> Result<(), Close> {
        self.sequence = 0;
        (self.prepared, self.prepared_for) = (None, own);
        self.send(cx, |out| {
            out.push(Kind::StmtPrepare as u8);
            out.extend_from_slice(text);
        })?;
        self.reply.begin(Kind::StmtPrepare);
        self.stage = Stage::Prepare;
        Ok(())
    }

    /// Closes a statement; there is no answer.
    pub(in super::super) fn close_statement(&mut self, number: u32, cx: &mut Cx<'_>) {
        let mut packet = vec![5, 0, 0, 0, Kind::StmtClose as u8];
        packet.extend_from_slice(&number.to_le_bytes());
        // Without room it stays there until the connection is reset.
        let _ = self.conn.outbox.append(&packet, cx.pool);
    }

    /// Sends a statement of our own.
    fn ask(&mut self, text: &[u8], stage: Stage, cx: &mut Cx<'_>) -> Result<(), Close> {
        self.command(Kind::Query, text, stage, cx)
    }

    /// Sends a command of our own.
    pub(super) fn command(
        &mut self,
        kind: Kind,
        rest: &[u8],
        stage: Stage,
        cx: &mut Cx<'_>,
    ) -> Result<(), Close> {
        self.sequence = 0;
        let attributes = kind == Kind::Query && self.capabilities.has(Capabilities::QUERY_ATTRIBUTES);
        self.send(cx, |out| {
            out.push(kind as u8);
            if attributes {
                // None, in one set.
                out.extend_from_slice(&[0, 1]);
            }
            out.extend_from_slice(rest);
        })?;
        self.reply.begin(kind);
        self.stage = stage;
        Ok(())
    }

    /// Has the server forget what its session holds, apart from the database.
    pub(in super::super) fn reset(&mut self, cx: &mut Cx<'_>) -> Result<(), Close> {
        self.command(Kind::ResetConnection, b"", Stage::Reset, cx)
    }

    /// Asks what LAST_INSERT_ID() is, and has it be 0 from then on: `told_id` says.
    pub(in super::super) fn ask_insert_id(&mut self, cx: &mut Cx<'_>) -> Result<(), Close> {
        self.row.clear();
        self.ask(b"SELECT LAST_INSERT_ID(),LAST_INSERT_ID(0)", Stage::InsertId, cx)
    }

    /// Has LAST_INSERT_ID() be this.
    pub(in super::super) fn bring_insert_id(&mut self, id: u64, cx: &mut Cx<'_>) -> Result<(), Close> {
        self.insert_id = id;
        self.ask(format!("SET last_insert_id={id}").as_bytes(), Stage::BringInsertId, cx)
    }

    /// Sets trackers and the fence, and has the primary tell what decides about routes; after a reset also the character sets of this collation, as a login does.
    pub(in super::super) fn set_up(&mut self, collation: Option<u8>, cx: &mut Cx<'_>) -> Result<(), Close> {
        let is_mariadb = self.version.is_none_or(|version| version.vendor == Vendor::MariaDb);
        let mut text = b"SET session_track_schema=1,session_track_state_change=1,session_track_transaction_info='CHARACTERISTICS',session_track_system_variables='*'".to_vec();
        if !is_mariadb {
            text.extend_from_slice(b",session_track_gtids=OWN_GTID");
        }
        // What a session begins with is told as if it were set. MySQL would otherwise mean the next transaction alone.
        let more: &[u8] = match (self.side, is_mariadb) {
            (Side::Replica, true) => b",autocommit=1,tx_read_only=1",
            (Side::Replica, false) => b",autocommit=1,@@session.transaction_read_only=1",
            (Side::Primary, true) => b",autocommit=@@autocommit,sql_mode=@@sql_mode,tx_isolation=@@tx_isolation,tx_read_only=@@tx_read_only",
            (Side::Primary, false) => b",autocommit=@@autocommit,sql_mode=@@sql_mode,@@session.transaction_isolation=@@session.transaction_isolation,@@session.transaction_read_only=@@session.transaction_read_only",
        };
        text.extend_from_slice(more);
        if let Some(id) = collation.filter(|id| *id != 0) {
            let sets =
                format!(",character_set_client={id},character_set_results={id},collation_connection={id}");
            text.extend_from_slice(sets.as_bytes());
        }
        self.ask(&text, Stage::Setup, cx)
    }

    /// Brings the connection's session to where the client's is; true when it is there already.
    pub(in super::super) fn sync(&mut self, state: &State, cx: &mut Cx<'_>) -> Result<bool, Close> {
        // The session's state may change while the server answers.
        self.asked = state.stamp();
        match self.found.take().map(|found| state.compare(&found)) {
            Some(Found::Same) => self.bring_database(state, cx)?,
            Some(Found::Others) => self.reset(cx)?,
            Some(Found::Fewer) | None => {}
        }
        if !self.is_ready() || self.synced == state.stamp() {
            return Ok(self.is_ready());
        }
        let text = state.assignments(self.synced);
        if text.len() > SQL_SETUP_BYTES_MAX {
            return Err(Close::Bug);
        }
        match text.is_empty() {
            true => self.bring_database(state, cx)?,
            false => self.ask(&text, Stage::Variables, cx)?,
        }
        Ok(self.is_ready())
    }

    pub(super) fn bring_database(&mut self, state: &State, cx: &mut Cx<'_>) -> Result<(), Close> {
        if state.database().is_empty() || state.database() == self.database {
            self.synced = self.asked;
            self.stage = Stage::Ready;
            return Ok(());
        }
        self.asked_database = state.database().to_vec();
        self.command(Kind::InitDb, state.database(), Stage::Database, cx)
    }
}

/// The number in the first column of a row of the text protocol.
pub(super) fn number_of(row: &[u8]) -> Option<u64> {
    let (length, rest) = row.split_first()?;
    std::str::from_utf8(rest.get(..usize::from(*length))?).ok()?.parse().ok()
}

/// The payload of the packet behind so many others.
pub(super) fn row_of(mut bytes: &[u8], before: usize) -> Option<&[u8]> {
    for at in 0..=before {
        let Parse::Done(packet, used) = packet::parse(bytes, SQL_POSITION_BYTES_MAX) else { return None };
        if at == before {
            return Some(packet.payload);
        }
        bytes = bytes.get(used..)?;
    }
    None
}
