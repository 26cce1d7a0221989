//! How far a replica is behind its primary.
//!
//! Positions of the primary with the times at which they were read go in, and what a replica has; a time comes out. It owns
//! at most [`SQL_HISTORY_MAX`] positions. Always true: a lag that is measured by positions is an upper bound of what the
//! replica misses of the time before it was asked; the older a position, the fewer of its neighbours are remembered.
//!
//! `Seconds_Behind_Master` alone is not to be trusted: it is 0 while a replica that lost its source has not noticed, and it
//! is the age of the statement that is being applied, not of what is missing.

use std::time::Duration;

use crate::clock::Moment;
use crate::cluster::Gtid;
use crate::limits::SQL_HISTORY_MAX;

/// What the primary had, and when.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The oldest first.
    entries: Vec<Entry>,
}

/// A position, with the times of the first and the last question that were answered so.
#[derive(Debug)]
struct Entry {
    position: Vec<Gtid>,
    from: Moment,
    until: Moment,
}

/// A replica's answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replica<'a> {
    /// What it has applied.
    pub(super) has: &'a [Gtid],
    /// When it had answered.
    pub(super) answered: Moment,
    /// How far it thinks that it is behind.
    pub(super) behind: Option<Duration>,
}

impl History {
    /// Of another primary.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    /// The primary was asked at this time, and had this.
    pub(super) fn note(&mut self, position: &[Gtid], asked: Moment) {
        if position.is_empty() {
            return;
        }
        if let Some(last) = self.entries.last_mut()
            && last.position == position
        {
            last.until = asked;
            return;
        }
        if self.entries.len() >= SQL_HISTORY_MAX
            && let Some(least) = self.least(asked)
        {
            self.entries.remove(least);
        }
        self.entries.push(Entry { position: position.to_vec(), from: asked, until: asked });
    }

    /// The one that can be spared: whose neighbours are nearest to each other, for their age. Neither the first nor the last.
    fn least(&self, now: Moment) -> Option<usize> {
        let gap = |window: &[Entry]| {
            let (from, to) = (window.first()?.until, window.last()?.until);
            Some(to.since(from).as_millis() * 1000 / now.since(to).as_millis().max(1))
        };
        let gaps = self.entries.windows(3).map(|window| gap(window).unwrap_or(u128::MAX));
        gaps.enumerate().min_by_key(|(_, gap)| *gap).map(|(at, _)| at + 1)
    }

    /// How far a replica is behind; `None` when nobody knows. When the primary is not reached, it is how far the replica was
    /// behind what the primary said last.
    pub(super) fn lag(&self, replica: Replica<'_>, is_reached: bool) -> Option<Duration> {
        let (Some(first), Some(last)) = (self.entries.first(), self.entries.last()) else {
            return replica.behind;
        };
        let now = if is_reached { replica.answered } else { last.until };
        match self.entries.iter().rev().find(|entry| includes(replica.has, &entry.position)) {
            Some(entry) => {
                let own = now.since(entry.until);
                // With nobody to compare with, what the replica says counts as well.
                Some(replica.behind.filter(|_| !is_reached).map_or(own, |behind| behind.max(own)))
            }
            None => replica.behind.map(|behind| behind.max(now.since(first.from))),
        }
    }
}

fn includes(has: &[Gtid], position: &[Gtid]) -> bool {
    let has = |gtid: &Gtid| has.iter().any(|one| one.source == gtid.source && one.number >= gtid.number);
    position.iter().all(has)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment(1) + Duration::from_millis(ms)
    }

    fn gtid(number: u64) -> [Gtid; 1] {
        [Gtid { source: 0, number }]
    }

    #[test]
    fn lag_is_measured_by_positions() {
        let mut history = History::default();
        for (number, ms) in [(10, 0), (10, 500), (20, 1000), (30, 1500), (30, 2000)] {
            history.note(&gtid(number), at(ms));
        }
        // What it has, when it answered, Seconds_Behind_Master, the primary is reached -> lag in ms.
        for (has, answered, behind, is_reached, expected, about) in [
            (30, 2003, Some(0), true, Some(3), "it has all"),
            (30, 2003, None, true, Some(3), "it has all, and says nothing"),
            (35, 2003, Some(7), true, Some(3), "it has all, and thinks it were late"),
            (30, 1999, Some(0), true, Some(0), "the primary was asked later, and had no more"),
            (29, 2003, Some(0), true, Some(1003), "it misses one, and does not know"),
            (10, 2003, Some(0), true, Some(1503), "it misses more"),
            (10, 9000, None, true, Some(8500), "it is stopped: the lag grows"),
            (9, 2003, Some(60), true, Some(60_000), "it misses more than is remembered"),
            (9, 2003, Some(0), true, Some(2003), "the same, and it does not know"),
            (9, 2003, None, true, None, "nobody knows"),
            (30, 9000, None, false, Some(0), "the primary is lost: it has all that was known"),
            (30, 9000, Some(4), false, Some(4000), "the same, and it still hears from the primary"),
            (10, 9000, None, false, Some(1500), "the primary is lost: it missed something"),
        ] {
            let behind = behind.map(Duration::from_secs);
            let lag = history.lag(Replica { has: &gtid(has), answered: at(answered), behind }, is_reached);
            assert_eq!(lag, expected.map(Duration::from_millis), "{about}");
        }
        history.clear();
        let lag = |behind| history.lag(Replica { has: &gtid(1), answered: at(0), behind }, true);
        assert_eq!((lag(None), lag(Some(Duration::ZERO))), (None, Some(Duration::ZERO)), "no positions");
    }

    #[test]
    fn every_source_counts() {
        let mut history = History::default();
        let both = |one, two| [Gtid { source: 0, number: one }, Gtid { source: 1, number: two }];
        history.note(&both(5, 5), at(0));
        history.note(&both(5, 6), at(1000));
        let lag = |has: &[Gtid]| history.lag(Replica { has, answered: at(1000), behind: None }, true);
        assert_eq!(lag(&both(9, 6)), Some(Duration::ZERO));
        assert_eq!(lag(&both(9, 5)), Some(Duration::from_secs(1)));
        assert_eq!(lag(&gtid(9)), None);
    }

    #[test]
    fn the_past_is_bounded_and_reaches_back() {
        let mut history = History::default();
        for step in 0..10_000 {
            history.note(&gtid(step), at(step * 500));
        }
        assert!(history.entries.len() <= SQL_HISTORY_MAX);
        let lag =
            |has| history.lag(Replica { has: &gtid(has), answered: at(9999 * 500), behind: None }, true);
        assert_eq!(lag(9999), Some(Duration::ZERO));
        for has in [9998, 9900, 9000, 5000, 100] {
            let (real, lag) = ((9999 - has) * 500, lag(has).unwrap().as_millis() as u64);
            assert!(lag >= real && lag <= real + real / 4 + 500, "{has}: {lag} of {real}");
        }
        let before = history.entries.len();
        history.note(&[], at(1));
        assert_eq!(history.entries.len(), before, "a primary without positions says nothing");
    }
}
