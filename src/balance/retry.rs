//! The retry budget of a pool: retries must not multiply the load of servers that are in trouble.
//!
//! What goes in: each request, each wish to retry, the time. What comes out: yes or no. It owns four words per pool.
//! Always true: within the running half of [`limits::RETRY_BUDGET_TIME`] and the half before it, at most
//! [`limits::RETRY_BUDGET_MIN`] and [`limits::RETRY_BUDGET_PERCENT`] per cent of the requests counted there were
//! allowed, over all workers together.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::clock::Moment;
use crate::limits;

/// Counts over two half spans, the running one and the one before.
#[derive(Debug, Default)]
pub(super) struct Budget {
    requests: [AtomicU64; 2],
    retries: [AtomicU64; 2],
}

/// A word: number of the half span in the upper half, count in the lower.
const fn word(half: u32, count: u32) -> u64 {
    (half as u64) << 32 | count as u64
}

const fn count_of(word: u64, half: u32) -> u32 {
    if (word >> 32) as u32 == half { word as u32 } else { 0 }
}

fn half(now: Moment) -> u32 {
    let span: Duration = limits::RETRY_BUDGET_TIME / 2;
    // The numbers start at 2, so that zeroed words belong to the past; the last moment of all still fits.
    (u128::from(now.0) / span.as_nanos()) as u32 + 2
}

fn sum(counts: &[AtomicU64; 2], half: u32) -> u64 {
    let of = |half: u32| u64::from(count_of(counts[half as usize % 2].load(Relaxed), half));
    of(half) + of(half - 1)
}

impl Budget {
    /// Counts a request (not its retries).
    pub(super) fn note_request(&self, now: Moment) {
        let half = half(now);
        let cell = &self.requests[half as usize % 2];
        let seen = cell.load(Relaxed);
        if (seen >> 32) as u32 >= half {
            // The count has room for 4 billion requests in half a span.
            cell.fetch_add(1, Relaxed);
        } else if cell.compare_exchange(seen, word(half, 1), Relaxed, Relaxed).is_err() {
            cell.fetch_add(1, Relaxed);
        }
    }

    /// Takes one retry out of the budget, if it allows one.
    pub(super) fn may_retry(&self, now: Moment) -> bool {
        let half = half(now);
        let budget =
            limits::RETRY_BUDGET_MIN + sum(&self.requests, half) * limits::RETRY_BUDGET_PERCENT / 100;
        let cell = &self.retries[half as usize % 2];
        let taken = cell.fetch_update(Relaxed, Relaxed, |seen| {
            let running = count_of(seen, half);
            let before = count_of(self.retries[(half as usize + 1) % 2].load(Relaxed), half - 1);
            let spent = u64::from(running) + u64::from(before);
            (spent < budget).then(|| word(half, running.saturating_add(1)))
        });
        taken.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(budget: &Budget, at_s: u64, wishes: u32) -> u32 {
        (0..wishes).map(|_| u32::from(budget.may_retry(Moment(at_s * 1_000_000_000)))).sum()
    }

    fn requests(budget: &Budget, at_s: u64, requests: u32) {
        (0..requests).for_each(|_| budget.note_request(Moment(at_s * 1_000_000_000)));
    }

    #[test]
    fn the_budget_follows_the_requests_of_the_window() {
        let budget = Budget::default();
        // (second, requests, wishes to retry, allowed): halves are 0-4, 5-9, 10-14, ...
        let table = [
            (0, 0, 100, 10),   // a quiet site may retry 10 times
            (1, 0, 100, 0),    // and no more in this window
            (2, 100, 100, 20), // 20 % of what came
            (4, 0, 1, 0),
            (5, 100, 100, 20), // the half before still counts, on both sides
            (9, 4, 10, 0),     // 204 requests allow 10 + 40
            (9, 1, 10, 1),     // 205 allow 51
            (10, 0, 100, 10),  // 105 requests and 21 retries are left in the window: 10 + 21 - 21
            (15, 0, 5, 0),     // no requests left, but 10 retries spent
            (20, 0, 100, 10),
            (1000, 0, 100, 10),
        ];
        for (at, came, wished, expected) in table {
            requests(&budget, at, came);
            assert_eq!(allowed(&budget, at, wished), expected, "second {at}");
        }
    }

    #[test]
    fn workers_share_one_budget() {
        let budget = Budget::default();
        let total: u32 = std::thread::scope(|scope| {
            let worker = || {
                requests(&budget, 7, 1000);
                0
            };
            let noted: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
            let zero: u32 = noted.into_iter().map(|thread| thread.join().unwrap()).sum();
            let retrying: Vec<_> = (0..4).map(|_| scope.spawn(|| allowed(&budget, 7, 1000))).collect();
            zero + retrying.into_iter().map(|thread| thread.join().unwrap()).sum::<u32>()
        });
        assert_eq!(u64::from(total), limits::RETRY_BUDGET_MIN + 4000 * limits::RETRY_BUDGET_PERCENT / 100);
    }

    #[test]
    fn the_end_of_time_does_not_overflow() {
        let budget = Budget::default();
        budget.note_request(Moment(u64::MAX - 1));
        assert!(budget.may_retry(Moment(u64::MAX - 1)));
    }
}
