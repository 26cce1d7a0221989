//! The access record of an SQL command, and its place in the table of shapes.
//!
//! What goes in: how a command, or a connection before its first one, ended. What comes out: a record in `cx.accesses`, a count
//! in `cx.digests`. It owns nothing. Always true: nothing of a statement's text is in the record, and nothing of its literals
//! in the shape.

use crate::access::{Access, Block, Split, Steps};
use crate::clock::Moment;
use crate::close::Close;
use crate::limits::{SQL_COMMAND_BYTES_MAX, SQL_DIGEST_BYTES_MAX};
use crate::meters::digests::Ran;
use crate::mysql::command::{Command, Kind};
use crate::mysql::digest;
use crate::mysql::packet::HEADER_BYTES;
use crate::session::Cx;
use crate::session::line;
use crate::session::record::tls_of;

use super::back::Side;
use super::job::Job;
use super::{Phase, SqlSession};

impl SqlSession {
    /// Writes a record down: of a command, or of a connection that ended.
    pub(super) fn note(&self, job: Option<&Job>, close: Close, cx: &mut Cx<'_>) {
        let back = job.and_then(|job| self.backs[job.side as usize].as_ref());
        let begun = job.map_or(self.since, |job| job.begun);
        let steps = Steps {
            asked: job.map_or(Moment::NEVER, |job| job.begun),
            picked: job.map_or(Moment::NEVER, |job| job.sent_at),
            connected: job.map_or(Moment::NEVER, |job| job.sent_at),
            answered: job.map_or(Moment::NEVER, |job| job.answered_at),
            ended: cx.now,
            ..Steps::new(begun)
        };
        if job.is_none() && self.phase == Phase::Ready && close != Close::SqlStateLost {
            return;
        }
        let statement = line::Statement {
            user: self.state.user(),
            command: job.map_or("", |job| job.kind.name()),
            digest: job.and_then(|job| job.verdict.as_ref()).map_or(0, |verdict| verdict.digest),
        };
        let line = line::of_statement(&self.ends, &self.front, &statement, cx);
        cx.accesses.push(Access {
            block: Block::Sql(self.site),
            route: job.map(|job| job.route),
            pool: job.map(|_| self.site(cx).pool),
            server: back.map(|back| back.server),
            status: 0,
            close,
            bytes_in: job.map_or(0, |job| job.bytes_in),
            bytes_out: job.map_or(0, |job| job.bytes_out),
            steps,
            retries: job.map_or(0, |job| job.moves),
            reused: true,
            tls: tls_of(&self.front),
            split: job.map_or(Split::default(), |job| job.split),
            line,
        });
        if let Some(job) = job {
            self.note_shape(job, close, cx);
        }
    }

    /// Counts a statement by its shape, which is written down the first time.
    fn note_shape(&self, job: &Job, close: Close, cx: &mut Cx<'_>) {
        let is_long = job.packet.is_empty() && job.kind == Kind::Query;
        let digest = match &job.verdict {
            Some(verdict) => verdict.digest,
            None if is_long => LONG.0,
            None => return,
        };
        let ran = Ran {
            digest,
            time: cx.now.since(job.begun),
            bytes_out: job.bytes_out,
            failed: job.failed || close != Close::Done,
            on_replica: job.side == Side::Replica,
            is_understood: job.is_understood && close == Close::Done,
        };
        let block = &cx.config.sql[self.site.index()].name;
        cx.digests.note(block, &ran, |out| {
            let payload = job.packet.get(HEADER_BYTES..).unwrap_or_default();
            let (text, dialect) = match Command::parse(payload, self.state.capabilities) {
                _ if is_long => return out.extend_from_slice(LONG.1.as_bytes()),
                Ok(Command::Query(query)) => (query.text, job.dialect),
                Ok(Command::StmtPrepare(text)) => (text, job.dialect),
                // The number in the packet is the server's.
                Ok(Command::StmtExecute(_)) => match job.statement.and_then(|own| self.statements.get(own)) {
                    Some(statement) => (&*statement.text, statement.dialect),
                    None => return,
                },
                _ => return,
            };
            digest::write(text, dialect, out, SQL_DIGEST_BYTES_MAX);
        });
    }
}

/// Statements that are too long to be looked at, as if they were of one shape.
const LONG: (u64, &str) = (u64::MAX, "(statements over 16 KiB)");
const _: () = assert!(SQL_COMMAND_BYTES_MAX == 16 * 1024);
