//! The queue of a pool for places at full servers: bounded, in order of arrival, shared by all workers.
//!
//! What goes in: sessions that found every server full. What comes out: whose turn it is when a place may be free. It
//! owns the list of waiters. The life of a waiter:
//!
//! ```text
//!   enqueue -> waiting -> woken (its turn) -> pick finds a place: done
//!                 ^                        -> pick answers Full: requeue_front, waiting again
//!                 +------------------------+
//!   at any time: abandon (time is over, the client is gone, pick answers None): done, a turn is passed on
//! ```
//!
//! Always true:
//!
//! - `waiting` counts those in the list and those whose turn it is. While it is not 0, newcomers do not pick;
//! - no wake-up is lost. A place is given back first and `waiting` is read after (in `release`); a waiter is counted
//!   first and the places are looked at after (in `enqueue`, by `vacant`); both with sequential consistency, so one of
//!   the two sees the other. A turn that finds nothing goes through the same look again;
//! - a wake-up too many is harmless: its turn finds the servers full and goes back to the front.
//!
//! The lock is taken only by those who wait, and by `release` while somebody does.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ids::{SessionId, WorkerId};

/// A session that waits for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Waiter {
    /// The worker that is to be told.
    pub worker: WorkerId,
    /// The session that waits.
    pub session: SessionId,
}

/// As many requests wait as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

/// The queue of one pool.
#[derive(Debug, Default)]
pub(super) struct Queue {
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    waiters: VecDeque<Waiter>,
    /// Those who were woken and have neither found a place nor come back.
    turns: usize,
}

impl List {
    fn wake(&mut self) -> Option<Waiter> {
        let waiter = self.waiters.pop_front();
        self.turns += usize::from(waiter.is_some());
        waiter
    }

    /// Makes the count visible to those who do not take the lock.
    fn publish(&self, waiting: &AtomicUsize) {
        waiting.store(self.waiters.len() + self.turns, SeqCst);
    }
}

impl Queue {
    /// Adds a waiter at the back, unless `waiters_max` are there (turns do not count). `vacant` tells whether a pick would
    /// not be `Full` now; it is asked after the waiter was counted. The answer is the one to be woken.
    pub(super) fn enqueue(
        &self,
        waiting: &AtomicUsize,
        waiters_max: usize,
        waiter: Waiter,
        vacant: impl FnOnce() -> bool,
    ) -> Result<Option<Waiter>, QueueFull> {
        let mut list = self.lock();
        if list.waiters.len() >= waiters_max {
            return Err(QueueFull);
        }
        list.waiters.push_back(waiter);
        list.publish(waiting);
        Ok(if vacant() { list.wake() } else { None })
    }

    /// Ends a turn that found no place: the waiter is the first in the list again.
    pub(super) fn requeue_front(
        &self,
        waiting: &AtomicUsize,
        waiter: Waiter,
        vacant: impl FnOnce() -> bool,
    ) -> Option<Waiter> {
        let mut list = self.lock();
        list.turns = list.turns.saturating_sub(1);
        list.waiters.push_front(waiter);
        list.publish(waiting);
        if vacant() { list.wake() } else { None }
    }

    /// Ends a turn that found a place.
    pub(super) fn end_turn(&self, waiting: &AtomicUsize) {
        let mut list = self.lock();
        list.turns = list.turns.saturating_sub(1);
        list.publish(waiting);
    }

    /// Removes a waiter. When its turn had come already, the turn is passed on to the one in the answer.
    pub(super) fn abandon(&self, waiting: &AtomicUsize, waiter: Waiter) -> Option<Waiter> {
        let mut list = self.lock();
        let next = match list.waiters.iter().position(|other| *other == waiter) {
            Some(at) => {
                list.waiters.remove(at);
                None
            }
            None if list.turns > 0 => {
                list.turns -= 1;
                list.wake()
            }
            None => None,
        };
        list.publish(waiting);
        next
    }

    /// True for one whose turn has not come: it is in the list.
    pub(super) fn has(&self, waiter: Waiter) -> bool {
        self.lock().waiters.contains(&waiter)
    }

    /// Wakes the first in the list.
    pub(super) fn wake(&self) -> Option<Waiter> {
        self.lock().wake()
    }

    /// A panic of another thread left a list that is valid: every change of it is complete.
    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(n: u32) -> Waiter {
        Waiter { worker: WorkerId(0), session: SessionId { slot: n, generation: 0 } }
    }

    fn of(waiters: u32) -> (Queue, AtomicUsize) {
        let (queue, waiting) = (Queue::default(), AtomicUsize::new(0));
        for n in 0..waiters {
            assert_eq!(queue.enqueue(&waiting, 3, waiter(n), || false), Ok(None));
        }
        (queue, waiting)
    }

    #[test]
    fn first_come_first_served() {
        let (queue, waiting) = of(3);
        let woken: Vec<_> = (0..4).map(|_| queue.wake()).collect();
        assert_eq!(woken, [Some(waiter(0)), Some(waiter(1)), Some(waiter(2)), None]);
        assert_eq!(waiting.load(SeqCst), 3, "turns still count");
        (0..3).for_each(|_| queue.end_turn(&waiting));
        assert_eq!(waiting.load(SeqCst), 0);
    }

    #[test]
    fn the_queue_is_bounded() {
        let (queue, waiting) = of(3);
        assert_eq!(queue.enqueue(&waiting, 3, waiter(9), || true), Err(QueueFull));
        assert_eq!(waiting.load(SeqCst), 3);
        assert_eq!(Queue::default().enqueue(&AtomicUsize::new(0), 0, waiter(0), || true), Err(QueueFull));
    }

    #[test]
    fn a_turn_without_a_place_comes_back_to_the_front() {
        let (queue, waiting) = of(2);
        assert_eq!(queue.wake(), Some(waiter(0)));
        assert_eq!(queue.requeue_front(&waiting, waiter(0), || false), None);
        assert_eq!(waiting.load(SeqCst), 2);
        assert_eq!(queue.wake(), Some(waiter(0)));
    }

    #[test]
    fn who_is_in_the_list_has_no_turn() {
        let (queue, _) = of(2);
        assert!(queue.has(waiter(0)) && queue.has(waiter(1)));
        assert_eq!(queue.wake(), Some(waiter(0)));
        assert!(!queue.has(waiter(0)) && queue.has(waiter(1)) && !queue.has(waiter(9)));
    }

    #[test]
    fn a_place_that_came_free_meanwhile_is_seen() {
        let (queue, waiting) = of(1);
        assert_eq!(
            queue.enqueue(&waiting, 3, waiter(1), || true),
            Ok(Some(waiter(0))),
            "the first, not the caller"
        );
        assert_eq!(queue.requeue_front(&waiting, waiter(0), || true), Some(waiter(0)));
    }

    #[test]
    fn who_leaves_passes_the_turn_on() {
        let (queue, waiting) = of(3);
        assert_eq!(queue.abandon(&waiting, waiter(1)), None, "it had no turn");
        assert_eq!(queue.wake(), Some(waiter(0)));
        assert_eq!(queue.abandon(&waiting, waiter(0)), Some(waiter(2)));
        assert_eq!(queue.abandon(&waiting, waiter(2)), None);
        assert_eq!(queue.abandon(&waiting, waiter(2)), None, "twice does no harm");
        assert_eq!(waiting.load(SeqCst), 0);
    }
}
