//! A command in progress.

use crate::access::Split;
use crate::clock::Moment;
use crate::mysql::command::Kind;
use crate::mysql::lexer::Dialect;
use crate::mysql::long::Scan;
use crate::mysql::packet::{Framer, Numbers};
use crate::mysql::reply::Upload;
use crate::mysql::verdict::{Effects, Verdict};

use super::back::Side;
use super::kill::Aim;

/// A command from its first byte to the end of its answer.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) kind: Kind,
    /// The whole packet; empty for one that is passed on piece by piece.
    pub(super) packet: Vec<u8>,
    /// Follows the rest of a long command.
    pub(super) long: Option<Framer>,
    pub(super) side: Side,
    /// It was handed to a server: it may have run.
    pub(super) sent: bool,
    /// Something of the answer was passed on.
    pub(super) answered: bool,
    /// It does the same when it is done again, on any server.
    pub(super) is_read: bool,
    /// The server answered with an error.
    pub(super) failed: bool,
    /// It warned.
    pub(super) warned: bool,
    /// No server said that it is no statement, or has words in it that mean nothing there.
    pub(super) is_understood: bool,
    /// How its text was read.
    pub(super) dialect: Dialect,
    /// What its text says.
    pub(super) verdict: Option<Box<Verdict>>,
    /// Where it went and why, as a number.
    pub(super) route: u32,
    /// What the client uploads.
    pub(super) upload: Option<Upload>,
    /// Looks at a text that is passed on piece by piece.
    pub(super) scan: Option<Scan>,
    /// What is passed on piece by piece is numbered: the client compresses.
    pub(super) numbers: Option<Numbers>,
    /// The client's number of the prepared statement that it is about.
    pub(super) statement: Option<u32>,
    /// What a KILL is to hit, at a server that it cannot be moved from.
    pub(super) aim: Option<Box<Aim>>,
    /// How often it went to another server.
    pub(super) moves: u32,
    /// What splitting did with it.
    pub(super) split: Split,
    pub(super) begun: Moment,
    pub(super) sent_at: Moment,
    pub(super) answered_at: Moment,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

impl Job {
    /// Nothing of the answer was passed on, and all of the command is still there.
    pub(super) const fn may_move(&self) -> bool {
        !self.answered && !self.packet.is_empty()
    }

    /// The primary may do it as well: it needs nothing that is on the replica alone.
    pub(super) fn may_go_to_primary(&self) -> bool {
        self.is_read || self.verdict.as_ref().is_some_and(|verdict| verdict.effects.has(Effects::BEGINS))
    }

    /// The server asks for a file, with this sequence id.
    pub(super) fn begin_upload(&mut self, sequence: u8, is_compressed: bool) {
        self.upload = Some(Upload::new());
        self.numbers = is_compressed.then(|| Numbers::new(sequence.wrapping_add(1)));
    }

    /// Bytes of the answer were passed on.
    pub(super) const fn passed(&mut self, bytes: usize) {
        self.answered = true;
        self.bytes_out += bytes as u64;
    }
}
