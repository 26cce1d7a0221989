//! Stopping: what was accepted is answered, nothing new is taken, then the worker ends.
//!
//! What goes in: the order to drain, or to end at once. What comes out: the end of the worker's loop. It owns: the
//! deadline. Always true: connections that wait in the accept queue are served before the listener is gone; the loop ends
//! only when every session is over and every socket closed.

use std::time::Duration;

use crate::clock::Moment;
use crate::ring::Io;
use crate::session::Event;

use super::Worker;

/// The state of stopping.
#[derive(Debug, Default)]
pub struct Drain {
    until: Option<Moment>,
    killed: bool,
    quiet_turns: u32,
}

impl Drain {
    /// True once the order came.
    pub const fn is_on(&self) -> bool {
        self.until.is_some()
    }

    /// When to look again.
    pub fn next_wake(&self, now: Moment) -> Moment {
        match self.until {
            None => Moment::NEVER,
            Some(until) if self.quiet_turns == 0 => until,
            Some(until) => until.min(now + Duration::from_millis(1)),
        }
    }
}

impl<I: Io> Worker<I> {
    /// Begins to stop. With `leave` another process accepts from the listening sockets: they are left as they are.
    pub(super) fn begin_drain(&mut self, leave: bool) {
        if self.drain.is_on() {
            return;
        }
        let time = self.shared.drain_time().unwrap_or(self.config().limits.drain);
        self.drain.until = Some(self.now + time);
        for id in self.accept.listeners() {
            if leave { self.io.hand_over(id) } else { self.io.unlisten(id) }
        }
        self.tell_all(|| Event::Drain);
        self.drain.quiet_turns = 1;
    }

    pub(super) fn kill(&mut self) {
        self.begin_drain(false);
        if !self.drain.killed {
            self.drain.killed = true;
            self.tell_all(|| Event::Kill);
        }
    }

    fn tell_all(&mut self, event: impl Fn() -> Event) {
        for id in self.sessions.ids() {
            self.tell(id, event());
        }
    }

    /// True when the worker has drained.
    pub(super) fn run_drain(&mut self) -> bool {
        let Some(until) = self.drain.until else { return false };
        if until <= self.now {
            self.drain.until = Some(Moment(u64::MAX - 1));
            self.kill();
        }
        if self.drain.killed {
            // A connection that was accepted while the order came.
            self.tell_all(|| Event::Kill);
        }
        if self.sessions.len() > 0 {
            self.drain.quiet_turns = 0;
            return false;
        }
        for mut parked in self.idle.drain() {
            parked.kept.conn.clear(self.io.pool());
            self.close_sock(parked.sock);
        }
        self.drain.quiet_turns += 1;
        // Two quiet turns: what was accepted while the listeners closed has been seen by then.
        self.owners.open() == 0 && self.drain.quiet_turns > 3
    }
}
