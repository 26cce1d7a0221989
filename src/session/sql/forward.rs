//! What an SQL client sends piece by piece: compressed packets, the rest of a long command, a file.
//!
//! What goes in: the client's bytes. What comes out: packets in its inbox, and the same bytes at the server that has the
//! command. It owns nothing. Always true: the client waits while the server does not read; what belongs to the next command
//! stays where it is.

use crate::close::Close;
use crate::limits::OUTBOX_BYTES_MAX;
use crate::mysql::errors::Code;
use crate::mysql::facts::Capabilities;
use crate::mysql::packet::{Framer, Part};
use crate::session::Cx;
use crate::session::conn::{BadPacked, push_or_copy};
use crate::session::timers::Timer;

use super::SqlSession;

impl SqlSession {
    /// Has so many bytes of the client in its inbox, or all that came; false after a violation.
    pub(super) fn fill(&mut self, wanted: usize, begins: bool, cx: &mut Cx<'_>) -> bool {
        !self.front.is_compressed() || self.decompress(wanted, begins, cx)
    }

    /// Decompresses what a client has compressed, until so many bytes are there or no more is; false after a violation.
    #[inline(never)]
    fn decompress(&mut self, wanted: usize, begins: bool, cx: &mut Cx<'_>) -> bool {
        while self.front.inbox.len() < wanted {
            let (code, text) = match self.front.unpack(begins, cx) {
                Ok(true) => continue,
                Ok(false) => break,
                Err(BadPacked::Order) => (Code::OUT_OF_ORDER, "Got packets out of order"),
                Err(BadPacked::Packet) => (Code::UNCOMPRESS, "Couldn't uncompress communication packet"),
            };
            self.refuse(code, text, Close::BadRequest, cx);
            return false;
        }
        true
    }

    /// Passes on what the client still sends: the rest of a long command, or a file. False when more must come.
    pub(super) fn forward(&mut self, cx: &mut Cx<'_>) -> bool {
        while self.job.as_ref().is_some_and(|job| job.long.is_some() || job.upload.is_some()) {
            if !self.forward_some(cx) {
                return false;
            }
        }
        true
    }

    fn forward_some(&mut self, cx: &mut Cx<'_>) -> bool {
        if !self.fill(1, false, cx) {
            return false;
        }
        let Some(job) = &mut self.job else { return true };
        let Some(back) = &mut self.backs[job.side as usize] else { return true };
        if back.conn.is_deaf() {
            self.front.inbox.clear(cx.pool);
            return false;
        }
        if back.conn.pending() >= OUTBOX_BYTES_MAX {
            return false;
        }
        let Some(mut chunk) = self.front.inbox.pop() else {
            if self.front.is_eof() {
                self.end(Close::ClientGone, cx);
            }
            return false;
        };
        let (used, over) = match (&mut job.long, &mut job.upload) {
            (Some(framer), _) => command_end(framer, chunk.bytes()),
            (None, Some(upload)) => {
                let used = upload.feed(chunk.bytes());
                (used, upload.is_over())
            }
            (None, None) => (0, true),
        };
        job.bytes_in += used as u64;
        if let (Some(numbers), Some(bytes)) = (&mut job.numbers, chunk.bytes_mut().get_mut(..used)) {
            numbers.number(bytes);
        }
        if let Some(scan) = job.scan.as_mut().filter(|_| job.long.is_some()) {
            scan.feed(chunk.bytes().get(..used).unwrap_or_default());
        }
        if used == chunk.len() {
            push_or_copy(&mut back.conn.outbox, chunk, cx.pool);
        } else {
            let fits = back.conn.outbox.append(chunk.bytes().get(..used).unwrap_or_default(), cx.pool);
            chunk.advance(used);
            self.front.inbox.push_front(chunk, cx.pool);
            if !fits {
                self.end(Close::NoMemory, cx);
                return false;
            }
        }
        if over {
            let many = self.state.capabilities.has(Capabilities::MULTI_STATEMENTS) || self.is_spoilt;
            if let (Some(scan), Some(verdict)) = (job.scan.take(), &mut job.verdict) {
                verdict.effects |= scan.effects(many);
            }
            job.upload = None;
            if job.long.take().is_some() {
                let time = self.site(cx).times.first_byte;
                self.deadlines.set(Timer::Server, cx.now + time);
            }
        }
        true
    }
}

/// How much of `bytes` belongs to a command that `framer` follows, and whether it ends there.
fn command_end(framer: &mut Framer, bytes: &[u8]) -> (usize, bool) {
    let mut at = 0;
    while let Some((part, used)) = framer.next(bytes.get(at..).unwrap_or_default()) {
        at += used;
        if matches!(part, Part::Start { ends: true, .. } | Part::Payload { ends: true }) {
            return (at, true);
        }
    }
    (at, false)
}
