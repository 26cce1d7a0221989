//! Which shapes of SQL statements come often, take long, or fail: a table per `[sql]` block and worker.
//!
//! What goes in: each statement that is over, from the worker that served it ([`Digests::note`]). What comes out: copies of the
//! tables ([`Digests::tables`]), and one out of several ([`Table::merge`]). It owns the shapes as texts. Always true: a table has
//! at most [`SQL_DIGESTS_MAX`] shapes; of what is not in it the sum is known; nothing of a literal is in it; a shape that took
//! more of the time than `1 / SQL_DIGESTS_MAX` is in it.
//!
//! Who must go for others is found out as Space-Saving does it (Metwally, Agrawal, El Abbadi: Efficient Computation of
//! Frequent and Top-k Elements in Data Streams): a shape that comes in begins with the rank of those that went last.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::time::Duration;

use crate::config::model::Config;
use crate::ids::Spread;
use crate::limits::{SQL_DIGEST_BYTES_MAX, SQL_DIGESTS_MAX};

/// A statement that is over.
#[derive(Clone, Copy, Debug)]
pub struct Ran {
    /// The number of its shape.
    pub digest: u64,
    /// From its last byte to the last of its answer.
    pub time: Duration,
    /// Bytes of the answer.
    pub bytes_out: u64,
    /// It ended in an error.
    pub failed: bool,
    /// On a replica.
    pub on_replica: bool,
    /// A server has understood it. What none understood may be anything: it is not shown.
    pub is_understood: bool,
}

/// What is known of statements together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DigestSums {
    /// How many.
    pub count: u64,
    /// Those that ended in an error.
    pub errors: u64,
    /// Those that ran on replicas.
    pub on_replica: u64,
    /// Bytes of their answers.
    pub bytes_out: u64,
    /// Nanoseconds of all together.
    pub nanos: u64,
    /// Nanoseconds of the one that took longest.
    pub nanos_max: u64,
}

impl DigestSums {
    fn note(&mut self, ran: &Ran, nanos: u64) {
        self.count += 1;
        self.errors += u64::from(ran.failed);
        self.on_replica += u64::from(ran.on_replica);
        self.bytes_out += ran.bytes_out;
        self.nanos += nanos;
        self.nanos_max = self.nanos_max.max(nanos);
    }

    /// Adds others.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.errors += other.errors;
        self.on_replica += other.on_replica;
        self.bytes_out += other.bytes_out;
        self.nanos += other.nanos;
        self.nanos_max = self.nanos_max.max(other.nanos_max);
    }
}

/// A shape.
#[derive(Clone, Debug, Default)]
pub struct Digest {
    /// Its statements since it came into the table.
    pub sums: DigestSums,
    /// The shape as text; `None` while no server has understood one of its statements.
    pub text: Option<Arc<str>>,
    /// At least the nanoseconds of all its statements ever.
    rank: u64,
}

/// The shapes of a block, as one worker saw them.
#[derive(Clone, Debug, Default)]
pub struct Table {
    shapes: HashMap<u64, Digest, BuildHasherDefault<Spread>>,
    /// The highest rank of those that went.
    floor: u64,
    /// Statements of those that went.
    gone: DigestSums,
}

impl Table {
    #[inline]
    fn note(&mut self, ran: &Ran, write: impl FnOnce(&mut Vec<u8>)) {
        // What takes no time takes a place all the same.
        let nanos = u64::try_from(ran.time.as_nanos()).unwrap_or(u64::MAX).clamp(1, u64::MAX >> 24);
        if !self.shapes.contains_key(&ran.digest) {
            self.take_in(ran.digest);
        }
        let Some(shape) = self.shapes.get_mut(&ran.digest) else { return };
        shape.sums.note(ran, nanos);
        shape.rank = shape.rank.saturating_add(nanos);
        if ran.is_understood && shape.text.is_none() {
            let mut text = Vec::new();
            write(&mut text);
            text.truncate(SQL_DIGEST_BYTES_MAX);
            shape.text = Some(String::from_utf8_lossy(&text).into());
        }
    }

    /// Makes a place for a shape.
    #[cold]
    fn take_in(&mut self, digest: u64) {
        if self.shapes.len() >= SQL_DIGESTS_MAX {
            // Several at once: looking for the least costs more than taking them out.
            let share = SQL_DIGESTS_MAX / 8;
            let mut ranks: Vec<u64> = self.shapes.values().map(|shape| shape.rank).collect();
            let (_, floor, _) = ranks.select_nth_unstable(share - 1);
            self.floor = self.floor.max(*floor);
            let mut left = share;
            let (bound, gone) = (*floor, &mut self.gone);
            self.shapes.retain(|_, shape| {
                let goes = left > 0 && shape.rank <= bound;
                if goes {
                    left -= 1;
                    gone.merge(&shape.sums);
                }
                !goes
            });
        }
        self.shapes.insert(digest, Digest { rank: self.floor, ..Digest::default() });
    }

    /// Adds what another worker saw of the same block.
    pub fn merge(&mut self, other: &Self) {
        self.gone.merge(&other.gone);
        for (digest, theirs) in &other.shapes {
            let own = self.shapes.entry(*digest).or_default();
            own.sums.merge(&theirs.sums);
            if own.text.is_none() {
                own.text.clone_from(&theirs.text);
            }
        }
    }

    /// The shapes with their numbers, in no order.
    pub fn shapes(&self) -> impl Iterator<Item = (u64, &Digest)> {
        self.shapes.iter().map(|(digest, shape)| (*digest, shape))
    }

    /// The statements whose shapes went for others.
    pub const fn gone(&self) -> &DigestSums {
        &self.gone
    }
}

/// Tables with the names of their blocks.
pub type Tables = Vec<(String, Table)>;

/// The tables of a worker.
#[derive(Debug, Default)]
pub struct Digests(Tables);

impl Digests {
    /// Counts a statement of a block. `write` writes its shape, if that is needed.
    #[inline]
    pub fn note(&mut self, block: &str, ran: &Ran, write: impl FnOnce(&mut Vec<u8>)) {
        let at = match self.0.iter().position(|(name, _)| name == block) {
            Some(at) => at,
            None => {
                self.0.push((block.to_owned(), Table::default()));
                self.0.len() - 1
            }
        };
        self.0[at].1.note(ran, write);
    }

    /// Forgets blocks that this configuration does not have.
    pub fn keep(&mut self, config: &Config) {
        self.0.retain(|(name, _)| config.sql.iter().any(|block| block.name == *name));
    }

    /// Copies of the tables.
    pub fn tables(&self) -> Tables {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(digest: u64, micros: u64) -> Ran {
        let time = Duration::from_micros(micros);
        Ran { digest, time, bytes_out: 10, failed: false, on_replica: true, is_understood: true }
    }

    fn write(text: &[u8]) -> impl FnOnce(&mut Vec<u8>) {
        |out| out.extend_from_slice(text)
    }

    #[test]
    fn a_shape_is_written_once_and_when_it_was_understood() {
        let mut digests = Digests::default();
        digests.note("a", &Ran { failed: true, is_understood: false, ..ran(7, 5) }, write(b"secret"));
        digests.note("a", &ran(7, 30), write(b"SELECT ?"));
        digests.note("a", &Ran { on_replica: false, ..ran(7, 20) }, |_| panic!("it is known"));
        digests.note("b", &ran(7, 1), write(&[b'x'; SQL_DIGEST_BYTES_MAX + 1]));
        let tables = digests.tables();
        let (_, shape) = tables[0].1.shapes().next().unwrap();
        assert_eq!(shape.text.as_deref(), Some("SELECT ?"));
        let sums = DigestSums {
            count: 3,
            errors: 1,
            on_replica: 2,
            bytes_out: 30,
            nanos: 55_000,
            nanos_max: 30_000,
        };
        assert_eq!(shape.sums, sums);
        let other = tables[1].1.shapes().next().unwrap().1.text.clone();
        assert_eq!(other.unwrap().len(), SQL_DIGEST_BYTES_MAX);
        digests.keep(&Config::default());
        assert!(digests.tables().is_empty());
    }

    #[test]
    fn what_takes_the_time_stays_and_what_goes_is_summed() {
        let mut table = Table::default();
        let many = 20 * SQL_DIGESTS_MAX as u64;
        for turn in 0..many {
            table.note(&ran(1_000_000 + turn, 10), write(b"once"));
            // Often and quick; seldom and slow; one that begins late.
            table.note(&ran(1, 2), write(b"often"));
            if turn % 1000 == 0 {
                table.note(&ran(2, 90_000), write(b"slow"));
            }
            if turn > many / 2 {
                table.note(&ran(3, 40), write(b"late"));
            }
            assert!(table.shapes.len() <= SQL_DIGESTS_MAX);
        }
        let find =
            |digest| table.shapes().find(|(other, _)| *other == digest).map(|(_, shape)| shape.sums.count);
        assert_eq!((find(1), find(2)), (Some(many), Some(many.div_ceil(1000))));
        assert_eq!(find(3), Some(many / 2 - 1));
        let known: u64 = table.shapes().map(|(_, shape)| shape.sums.count).sum();
        assert_eq!(known + table.gone().count, 2 * many + many.div_ceil(1000) + many / 2 - 1);
    }

    #[test]
    fn workers_are_merged() {
        let (mut one, mut other) = (Table::default(), Table::default());
        one.note(&Ran { is_understood: false, ..ran(1, 10) }, |_| {});
        other.note(&ran(1, 20), write(b"a"));
        other.note(&ran(2, 5), write(b"b"));
        one.merge(&other);
        let (_, shape) = one.shapes().find(|(digest, _)| *digest == 1).unwrap();
        assert_eq!((shape.text.as_deref(), shape.sums.count, shape.sums.nanos_max), (Some("a"), 2, 20_000));
        assert_eq!(one.shapes().count(), 2);
    }
}
