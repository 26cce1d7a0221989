//! What splitting reads from writes did with statements: fences, waits for positions, pins, and sessions that it cost.
//!
//! What goes in: access records of `[sql]` blocks, from the worker that served ([`Splits::note`]). What comes out: sums, from any
//! thread. It owns one row of cells per worker. Always true: a row is written by its worker alone, without a bus lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::bump;
use crate::access::{Access, Wait};
use crate::close::Close;
use crate::ids::WorkerId;
use crate::route::split::Pin;

#[derive(Debug, Default)]
#[repr(align(128))]
struct Row {
    pins: [AtomicU64; Pin::ALL.len()],
    waits: [AtomicU64; Wait::ALL.len()],
    fenced: AtomicU64,
    denied: AtomicU64,
    lost: AtomicU64,
}

/// The rows of an `[sql]` block.
#[derive(Debug)]
pub struct Splits(Box<[Row]>);

/// What all workers counted of an `[sql]` block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SplitSums {
    /// Statements that came while a pin held their session, in the order of [`Pin::ALL`].
    pub pins: [u64; Pin::ALL.len()],
    /// Reads that waited at a replica for what they must see, in the order of [`Wait::ALL`].
    pub waits: [u64; Wait::ALL.len()],
    /// Statements that a replica's fence held back.
    pub fenced: u64,
    /// Clients that were not let in.
    pub denied: u64,
    /// Sessions that ended because a connection was lost that alone knew something of them.
    pub lost: u64,
}

impl Splits {
    pub(super) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Row::default()).collect())
    }

    pub(super) fn note(&self, worker: WorkerId, access: &Access) {
        let Some(row) = self.0.get(worker.index()) else { return };
        match access.close {
            Close::SqlDenied => bump(&row.denied, 1),
            Close::SqlStateLost => bump(&row.lost, 1),
            _ => {}
        }
        let mut left = access.split.pins;
        while let Some(cell) = row.pins.get(left.trailing_zeros() as usize) {
            bump(cell, 1);
            left &= left - 1;
        }
        if access.split.fenced {
            bump(&row.fenced, 1);
        }
        if let Some(wait) = access.split.wait {
            bump(&row.waits[wait as usize], 1);
        }
    }

    /// The sums over all workers.
    pub fn sums(&self) -> SplitSums {
        let mut sums = SplitSums::default();
        for row in &self.0 {
            sums.pins.iter_mut().zip(&row.pins).for_each(|(sum, cell)| *sum += cell.load(Relaxed));
            sums.waits.iter_mut().zip(&row.waits).for_each(|(sum, cell)| *sum += cell.load(Relaxed));
            sums.fenced += row.fenced.load(Relaxed);
            sums.denied += row.denied.load(Relaxed);
            sums.lost += row.lost.load(Relaxed);
        }
        sums
    }
}
