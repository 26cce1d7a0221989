//! The access record of an SQL command.
//!
//! What goes in: how a command, or a connection before its first one, ended. What comes out: a record in `cx.accesses`. It owns
//! nothing. Always true: nothing of a statement's text is in it.

use crate::access::{Access, Block, Split, Steps};
use crate::clock::Moment;
use crate::close::Close;
use crate::session::Cx;
use crate::session::line;
use crate::session::record::tls_of;

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
    }
}
