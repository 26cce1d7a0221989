//! The deadlines of a session: three slots, whose meaning follows from the session's state.
//!
//! What goes in: `set` and `clear`. What comes out: the earliest one. It owns three moments. Always true: no timer is
//! touched per read; progress is judged when its deadline passes, by comparing counters.

use crate::clock::Moment;

/// A slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// What the client must do next: handshake, head, next request (idle), end of lingering; in a tunnel, any byte.
    Client,
    /// What the server side must do next: a place in the queue, connect, first byte, next bytes.
    Server,
    /// When the client's progress with a body is judged.
    Progress,
}

/// The deadlines of one session.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines([Moment; 3]);

impl Default for Deadlines {
    fn default() -> Self {
        Self([Moment::NEVER; 3])
    }
}

impl Deadlines {
    /// Sets a deadline, replacing what the slot had.
    pub const fn set(&mut self, timer: Timer, at: Moment) {
        self.0[timer as usize] = at;
    }

    /// Sets a deadline unless the slot has one.
    pub const fn set_once(&mut self, timer: Timer, at: Moment) {
        if !self.0[timer as usize].is_set() {
            self.0[timer as usize] = at;
        }
    }

    /// Sets a deadline unless the slot has an earlier one.
    pub fn set_sooner(&mut self, timer: Timer, at: Moment) {
        self.0[timer as usize] = self.0[timer as usize].min(at);
    }

    /// Whether a slot has a deadline.
    pub const fn is_set(&self, timer: Timer) -> bool {
        self.0[timer as usize].is_set()
    }

    /// Removes a deadline.
    pub const fn clear(&mut self, timer: Timer) {
        self.0[timer as usize] = Moment::NEVER;
    }

    /// Removes a deadline that has passed; true when it had.
    pub fn take_due(&mut self, timer: Timer, now: Moment) -> bool {
        let due = self.0[timer as usize] <= now;
        if due {
            self.clear(timer);
        }
        due
    }

    /// The earliest deadline, or [`Moment::NEVER`].
    pub fn earliest(&self) -> Moment {
        self.0[0].min(self.0[1]).min(self.0[2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_deadlines_are_taken_once() {
        let mut deadlines = Deadlines::default();
        assert_eq!(deadlines.earliest(), Moment::NEVER);
        deadlines.set(Timer::Server, Moment(5));
        deadlines.set_once(Timer::Server, Moment(3));
        deadlines.set_once(Timer::Client, Moment(9));
        deadlines.set_sooner(Timer::Client, Moment(8));
        deadlines.set_sooner(Timer::Client, Moment(9));
        assert_eq!(deadlines.0[Timer::Client as usize], Moment(8));
        assert_eq!(deadlines.earliest(), Moment(5));
        assert!(!deadlines.take_due(Timer::Server, Moment(4)));
        assert!(deadlines.take_due(Timer::Server, Moment(5)));
        assert!(!deadlines.take_due(Timer::Server, Moment(6)));
        assert_eq!(deadlines.earliest(), Moment(8));
    }
}
