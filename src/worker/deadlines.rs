//! The worker's deadlines: a heap with lazy correction.
//!
//! What goes in: a moment and a session. What comes out: those that are due. It owns: the heap. Always true: a session
//! has at most one entry that counts (`Entry::armed`); one that was overtaken is skipped when it comes up. A deadline that
//! moves later costs nothing until the old one passes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::clock::Moment;
use crate::ids::SessionId;

/// The heap.
#[derive(Debug, Default)]
pub struct Heap(BinaryHeap<Reverse<(Moment, SessionId)>>);

impl Heap {
    /// With room for so many entries.
    pub fn with_capacity(entries: usize) -> Self {
        Self(BinaryHeap::with_capacity(entries))
    }

    /// Adds an entry.
    pub fn push(&mut self, at: Moment, id: SessionId) {
        self.0.push(Reverse((at, id)));
    }

    /// The earliest moment, or [`Moment::NEVER`].
    pub fn earliest(&self) -> Moment {
        self.0.peek().map_or(Moment::NEVER, |Reverse((at, _))| *at)
    }

    /// Takes an entry that is due.
    pub fn pop_due(&mut self, now: Moment) -> Option<(Moment, SessionId)> {
        if self.earliest() > now {
            return None;
        }
        self.0.pop().map(|Reverse(entry)| entry)
    }
}
