//! Which connections of servers a client's session has: what a KILL of its id is to hit.
//!
//! What goes in: what each session says of itself. What comes out: a session's seat by its id, or by a server's id. It owns the
//! seats' table, with a bound: who finds no place in it cannot be killed by its id. Always true: a seat is in the table
//! exactly as long as its session has it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Member;
use crate::limits::SQL_SEATS_MAX;

/// The ids that clients are greeted with begin here, beyond those of servers: a KILL of one hits nobody else.
pub const FIRST_ID: u32 = 0x8000_0000;

/// A connection of a server: whose, and by which id the server knows it.
#[derive(Clone, Debug)]
pub struct Thread {
    /// The server.
    pub member: Arc<Member>,
    /// Its id of the connection.
    pub id: u32,
}

impl PartialEq for Thread {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && Arc::ptr_eq(&self.member, &other.member)
    }
}

type Table = Mutex<HashMap<u32, Weak<Seat>>>;

/// A client's session. Its connections are numbered by itself: 0 and 1.
#[derive(Debug)]
pub struct Seat {
    id: u32,
    threads: Mutex<[Option<Thread>; 2]>,
    /// Which one has a command, plus 1.
    busy: AtomicU8,
    /// How many kill it, or have.
    killed: AtomicU32,
    /// How many are about to kill what it has, or its statement.
    aimed: AtomicU32,
    table: Weak<Seats>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(seats) = self.table.upgrade() {
            lock(&seats.table).remove(&self.id);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seat {
    /// What its client was greeted with.
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// It has this connection, or none any more.
    pub fn has(&self, which: usize, thread: Option<Thread>) {
        if let Some(place) = lock(&self.threads).get_mut(which) {
            *place = thread;
        }
    }

    /// This connection of it has a command, or none has.
    pub fn is_busy_at(&self, which: Option<usize>) {
        self.busy.store(which.map_or(0, |which| which as u8 + 1), Relaxed);
    }

    /// The connection that is to be killed: the one with a command, else the first that there is.
    pub fn target(&self) -> Option<Thread> {
        let threads = lock(&self.threads);
        let busy = usize::from(self.busy.load(Relaxed)).checked_sub(1);
        let at_work = busy.and_then(|which| threads.get(which)?.clone());
        at_work.or_else(|| threads.iter().flatten().next().cloned())
    }

    /// Whether it still has this one: a connection may have gone over to another session.
    pub fn still_has(&self, thread: &Thread) -> bool {
        lock(&self.threads).iter().flatten().any(|own| own == thread)
    }

    /// Somebody kills the whole session: it is to end as soon as it loses a connection.
    pub fn kill(&self) {
        self.killed.fetch_add(1, SeqCst);
    }

    /// One who was about to kill it may not, or has not.
    pub fn spare(&self) {
        self.killed.fetch_sub(1, SeqCst);
    }

    /// Somebody is about to kill one of its connections, or a statement: it must not give them to others.
    pub fn aim(&self) {
        self.aimed.fetch_add(1, SeqCst);
    }

    /// That one is done, whatever came of it.
    pub fn aim_no_more(&self) {
        self.aimed.fetch_sub(1, SeqCst);
    }

    /// Whether somebody is about to.
    pub fn is_aimed(&self) -> bool {
        self.aimed.load(SeqCst) > 0
    }

    /// Whether somebody kills it, or has.
    pub fn is_killed(&self) -> bool {
        self.killed.load(SeqCst) > 0
    }
}

/// All seats of a block.
#[derive(Debug, Default)]
pub struct Seats {
    table: Table,
}

impl Seats {
    /// A seat for the session with this id, which is not taken; `None` when there are too many.
    pub fn take(self: &Arc<Self>, id: u32) -> Option<Arc<Seat>> {
        let mut table = lock(&self.table);
        if table.len() >= SQL_SEATS_MAX || table.contains_key(&id) {
            return None;
        }
        let seat = Arc::new(Seat {
            id,
            threads: Mutex::default(),
            busy: AtomicU8::new(0),
            killed: AtomicU32::new(0),
            aimed: AtomicU32::new(0),
            table: Arc::downgrade(self),
        });
        table.insert(id, Arc::downgrade(&seat));
        Some(seat)
    }

    /// The seat of the session with this id.
    pub fn find(&self, id: u32) -> Option<Arc<Seat>> {
        lock(&self.table).get(&id)?.upgrade()
    }

    /// The seat of the session that has this connection. Looks at all of them.
    pub fn find_thread(&self, thread: &Thread) -> Option<Arc<Seat>> {
        let all: Vec<_> = lock(&self.table).values().filter_map(Weak::upgrade).collect();
        all.into_iter().find(|seat| seat.still_has(thread))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_found_as_long_as_it_is() {
        let seats = Arc::new(Seats::default());
        let (one, other) = (Arc::new(Member::default()), Arc::new(Member::default()));
        let thread = |member: &Arc<Member>, id| Thread { member: member.clone(), id };
        let seat = seats.take(FIRST_ID + 1).unwrap();
        let second = seats.take(FIRST_ID + 2).unwrap();
        assert!(seats.take(FIRST_ID + 1).is_none(), "taken");
        assert_eq!(seat.target(), None);
        seat.has(1, Some(thread(&other, 7)));
        assert_eq!(seat.target(), Some(thread(&other, 7)));
        seat.has(0, Some(thread(&one, 7)));
        second.has(0, Some(thread(&one, 8)));
        assert_eq!(seat.target(), Some(thread(&one, 7)), "the first");
        seat.is_busy_at(Some(1));
        assert_eq!(seat.target(), Some(thread(&other, 7)), "the one with a command");
        seat.has(1, None);
        assert_eq!(seat.target(), Some(thread(&one, 7)), "that is gone");
        let id = |seat: Option<Arc<Seat>>| seat.map(|seat| seat.id());
        assert_eq!(id(seats.find(FIRST_ID + 1)), Some(FIRST_ID + 1));
        assert_eq!(id(seats.find_thread(&thread(&one, 8))), Some(FIRST_ID + 2));
        assert_eq!(id(seats.find_thread(&thread(&other, 8))), None);
        drop(second);
        assert_eq!(id(seats.find(FIRST_ID + 2)), None);
        assert_eq!(lock(&seats.table).len(), 1);
        seat.kill();
        seat.kill();
        seat.spare();
        assert!(seats.find(FIRST_ID + 1).unwrap().is_killed(), "by the first one");
        seat.spare();
        assert!(!seat.is_killed());
    }

    #[test]
    fn the_table_has_a_bound() {
        let seats = Arc::new(Seats::default());
        let all: Vec<_> = (0..SQL_SEATS_MAX as u32).map(|id| seats.take(id).unwrap()).collect();
        assert!(seats.take(FIRST_ID).is_none());
        drop(all);
        assert!(seats.take(FIRST_ID).is_some());
    }
}
