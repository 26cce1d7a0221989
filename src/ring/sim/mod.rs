//! A simulated kernel and network: many seeds, virtual time, faults.
//!
//! What goes in: a seed and [`Faults`]; the calls of workers over [`Sim`] (a [`crate::ring::Io`]) and of scripted
//! clients and servers over [`ActorIo`]. What comes out: completions, happenings, a trace, and reports for those who
//! check. A [`World`] owns the clock, every connection and every actor. Always true: one thread, and the seed decides
//! everything, so that a failure can be replayed; the rules of [`crate::ring`] are asserted on every call.
//!
//! How time passes: each worker of a world calls `turn` in turn. A turn moves the clock from event to event until
//! something is due for that worker, its `until` is reached, or another worker has something to do (then it returns
//! with nothing done, as a real kernel may when a signal comes).

mod actor;
mod ends;
mod faults;
mod hosts;
mod kernel;
mod moves;
mod random;
mod state;
mod wire;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::clock::Moment;

pub use actor::{Actor, ActorIo, ConnId, Happening, Pace};
pub use faults::{Faults, Injected};
pub use hosts::HostReport;
pub use kernel::Sim;
pub use random::Random;
pub use state::Tracer;

/// A simulated world. Clones are handles of the same one.
#[derive(Clone)]
pub struct World(Rc<RefCell<state::State>>);

impl World {
    /// An empty world; `seed` decides everything in it.
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self(Rc::new(RefCell::new(state::State::new(seed, faults))))
    }

    /// The kernel of a new worker with at most `pages_max` pages. Dropping it is the end of its process.
    pub fn host(&self, pages_max: usize) -> Sim {
        Sim::new(Rc::clone(&self.0), pages_max)
    }

    /// Adds a scripted end; it is told [`Happening::Start`] after `wait`.
    pub fn add(&self, actor: Box<dyn Actor>, wait: Duration) {
        self.0.borrow_mut().add(actor, wait);
    }

    /// The virtual time.
    pub fn now(&self) -> Moment {
        self.0.borrow().now
    }

    /// Actors that have not said that they are finished.
    pub fn busy(&self) -> usize {
        self.0.borrow().busy()
    }

    /// Lets turns end at `at`, so that whoever runs the world can look at it: then [`World::take_look`] is to be called.
    pub fn look_at(&self, at: Moment) {
        self.0.borrow_mut().at(at, state::Event::Look);
    }

    /// Lets turns end also when the last actor says that it is finished.
    pub fn look_when_finished(&self) {
        self.0.borrow_mut().look_when_finished = true;
    }

    /// True when it is time to look; no turn moves the clock until this was asked.
    pub fn take_look(&self) -> bool {
        std::mem::take(&mut self.0.borrow_mut().look)
    }

    /// How often harmful faults struck so far.
    pub fn injected(&self) -> Injected {
        self.0.borrow().injected
    }

    /// The faults from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.0.borrow_mut().faults = faults;
    }

    /// What the kernel of worker `host` holds now.
    pub fn report(&self, host: usize) -> HostReport {
        self.0.borrow().hosts[host].report
    }

    /// True when nothing will ever happen: no event is under way, and no worker has a deadline or something to do.
    pub fn asleep(&self) -> bool {
        let state = self.0.borrow();
        state.pending() == 0 && !state.until().is_set() && !state.others_want(usize::MAX)
    }

    /// Lets time pass without any worker's turn.
    pub fn pass(&self, time: Duration) {
        let mut state = self.0.borrow_mut();
        let until = state.now + time;
        state.run_until(until);
    }

    /// Sends every line of the trace to `tracer`, with its time.
    pub fn on_trace(&self, tracer: Tracer) {
        self.0.borrow_mut().on_trace(tracer);
    }

    /// Writes a line to the trace.
    pub fn trace(&self, line: impl FnOnce() -> String) {
        self.0.borrow_mut().trace(line);
    }

    /// The sockets of worker `host` that are not closed, for people.
    pub fn sockets(&self, host: usize) -> Vec<String> {
        self.0.borrow().sockets(host)
    }
}
