//! The compressed protocol between a connection's stream and its packets.
//!
//! What goes in: compressed packets as they were received, ordinary packets to be sent. What comes out: ordinary packets, and
//! compressed ones. It owns: the queues on the far side, the state of the decompression, the sequence id of the next
//! compressed packet, which counts both directions. Always true: no more than [`SQL_INFLATE_BYTES`] are decompressed at a time,
//! however long a packet says that it becomes; what compresses is one per thread.

use std::cell::RefCell;

use crate::buf::{Pool, Queue};
use crate::limits::SQL_INFLATE_BYTES;
use crate::mysql::compress::{Deflater, Inflater};

thread_local! {
    /// Zlib's tables, which hold nothing from one packet to the next.
    static DEFLATER: RefCell<Deflater> = RefCell::new(Deflater::new());
}

/// How a compressed stream breaks its rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPacked {
    /// A packet is not the next one.
    Order,
    /// A packet cannot be decompressed, or not to the length that it says.
    Packet,
}

/// The far side of a connection that compresses.
#[derive(Debug)]
pub(super) struct Packed {
    /// What was received.
    pub(super) inbox: Queue,
    /// What is to be sent.
    pub(super) outbox: Queue,
    inflater: Inflater,
    /// The sequence id of the packet that is being received was looked at.
    counted: bool,
    sequence: u8,
}

impl Packed {
    /// Begins with what was received already, and what is still to be sent as it is.
    pub(super) fn new(inbox: Queue, outbox: Queue) -> Self {
        Self { inbox, outbox, inflater: Inflater::new(), counted: false, sequence: 0 }
    }

    /// Compresses what waits; false when there is no page for it.
    pub(super) fn pack(&mut self, plain: &mut Queue, pool: &mut Pool) -> bool {
        let mut out = Vec::new();
        while let Some(chunk) = plain.front() {
            let (mut sequence, length) = (self.sequence, chunk.len());
            out.clear();
            DEFLATER.with_borrow_mut(|deflater| deflater.write(&mut out, &mut sequence, chunk.bytes()));
            if !self.outbox.append(&out, pool) {
                return false;
            }
            self.sequence = sequence;
            plain.consume(length, pool);
        }
        true
    }

    /// Decompresses some of what was received, a packet at most; false when there is nothing, `None` without a page for it.
    pub(super) fn unpack(
        &mut self,
        plain: &mut Queue,
        begins: bool,
        pool: &mut Pool,
    ) -> Result<Option<bool>, BadPacked> {
        if pool.available() < PAGES {
            return Ok(None);
        }
        let (before, mut out) = (plain.len(), Vec::new());
        while plain.len() == before {
            // Some of what came before may still be to come out.
            let input = self.inbox.front().map_or(&b""[..], |chunk| chunk.bytes());
            let was_within = self.inflater.is_within();
            let used = self.inflater.feed(input, &mut out).map_err(|_| BadPacked::Packet)?;
            let idle = used == 0 && out.is_empty();
            self.inbox.consume(used, pool);
            let is_over = self.inflater.is_between() && (was_within || used > 0);
            self.count(is_over, begins)?;
            let fits = plain.append(&out, pool);
            debug_assert!(fits, "there were pages for it");
            if idle {
                self.inflater.rest();
                return Ok(Some(false));
            }
        }
        Ok(Some(true))
    }

    /// Looks at the sequence id of a packet of which something came.
    fn count(&mut self, is_over: bool, begins: bool) -> Result<(), BadPacked> {
        if !self.counted && (self.inflater.is_within() || is_over) {
            let sequence = self.inflater.sequence();
            if sequence != self.sequence && !(begins && sequence == 0) {
                return Err(BadPacked::Order);
            }
            self.sequence = sequence.wrapping_add(1);
            self.counted = true;
        }
        self.counted &= !is_over;
        Ok(())
    }
}

/// Pages that one step of the decompression fills at most.
const PAGES: usize = SQL_INFLATE_BYTES.div_ceil(crate::limits::PAGE_BYTES) + 1;

#[cfg(test)]
mod tests;
