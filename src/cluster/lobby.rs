//! Sessions that wait for a place at the servers of a block, with a queue for the primary and one for the replicas.
//!
//! What goes in: sessions that found every place taken. What comes out: who is to try again when a place was given back. It
//! owns the two lists. Always true: no list is longer than allowed. Whoever waits also looks again from time to time: a
//! wake-up that went to somebody who has gone costs a moment, not the place.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::balance::{QueueFull, Waiter};

/// The queue for one kind of server.
#[derive(Debug, Default)]
pub struct Lobby {
    list: Mutex<VecDeque<Waiter>>,
    waiting: AtomicUsize,
}

impl Lobby {
    /// Somebody waits.
    pub fn is_used(&self) -> bool {
        self.waiting.load(SeqCst) > 0
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        !self.is_used()
    }

    /// Waits behind the others, unless `max` wait already.
    pub fn enter(&self, waiter: Waiter, max: usize) -> Result<(), QueueFull> {
        let mut list = self.lock();
        if list.len() >= max {
            return Err(QueueFull);
        }
        list.push_back(waiter);
        self.waiting.store(list.len(), SeqCst);
        Ok(())
    }

    /// Waits before the others: its turn came, but the place was taken meanwhile.
    pub fn enter_first(&self, waiter: Waiter) {
        let mut list = self.lock();
        if !list.contains(&waiter) {
            list.push_front(waiter);
        }
        self.waiting.store(list.len(), SeqCst);
    }

    /// Waits no more; false when its turn had come.
    pub fn leave(&self, waiter: Waiter) -> bool {
        let mut list = self.lock();
        let at = list.iter().position(|other| *other == waiter);
        let found = at.and_then(|at| list.remove(at)).is_some();
        self.waiting.store(list.len(), SeqCst);
        found
    }

    /// A place is free: who is to try.
    pub fn next(&self) -> Option<Waiter> {
        if !self.is_used() {
            return None;
        }
        let mut list = self.lock();
        let next = list.pop_front();
        self.waiting.store(list.len(), SeqCst);
        next
    }

    /// A panic of another thread left a list that is valid: every change of it is complete.
    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiter>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{SessionId, WorkerId};

    fn waiter(slot: u32) -> Waiter {
        Waiter { worker: WorkerId(0), session: SessionId { slot, generation: 0 } }
    }

    #[test]
    fn first_come_first_served_within_bounds() {
        let lobby = Lobby::default();
        assert_eq!(lobby.next(), None);
        assert_eq!(lobby.enter(waiter(1), 2), Ok(()));
        assert_eq!(lobby.enter(waiter(2), 2), Ok(()));
        assert_eq!(lobby.enter(waiter(3), 2), Err(QueueFull));
        assert_eq!(lobby.next(), Some(waiter(1)));
        assert!(!lobby.leave(waiter(1)), "its turn had come");
        lobby.enter_first(waiter(1));
        lobby.enter_first(waiter(1));
        assert_eq!(lobby.len(), 2);
        assert!(lobby.leave(waiter(2)));
        assert_eq!((lobby.next(), lobby.next(), lobby.is_empty()), (Some(waiter(1)), None, true));
    }
}
