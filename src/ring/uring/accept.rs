//! Listening sockets of the io_uring ring.
//!
//! What goes in: `listen`, `accept`, `pause`, `unlisten`. What comes out: accepted connections. It owns the listening
//! sockets. Always true: a listening socket is closed only after its accept was cancelled and joined; connections that
//! were accepted meanwhile are handed out (rule 6).
//!
//! A multishot accept takes all that waits in the kernel's queue, however many that are. So it is used only while there
//! is room for whole queues; with less room, connections are accepted one by one.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use io_uring::opcode;
use io_uring::types::Fd;

use super::Uring;
use super::complete::{Completion, Kind, word};
use crate::ids::{ListenerId, SockId};
use crate::limits::BACKLOG_MAX;
use crate::net::Address;
use crate::ring::door::Door;
use crate::ring::socket::Socket;
use crate::ring::{Done, ListenOptions, sys};

/// What a listener is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Accepting,
    Paused,
    /// To be closed, with what is in its queue accepted before.
    Closing,
    /// To be closed as it is.
    Dropping,
    /// To be left to another process that accepts from it.
    Leaving,
}

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    id: ListenerId,
    door: Door,
    state: State,
    /// An accept is in flight.
    armed: bool,
    /// That accept takes connections until it is cancelled.
    many: bool,
    /// It was asked to stop.
    stopping: bool,
}

/// How many connections may be accepted.
#[derive(Debug)]
pub(super) struct Room {
    connections: usize,
    /// A listener accepts nothing because there was no room.
    held_back: bool,
    /// An accept that takes whole queues may be in flight.
    many: bool,
}

impl Default for Room {
    fn default() -> Self {
        Self { connections: usize::MAX, held_back: false, many: false }
    }
}

impl Uring {
    pub(super) fn listen_at(
        &mut self,
        id: ListenerId,
        address: &Address,
        options: &ListenOptions,
    ) -> io::Result<()> {
        self.accept_from(id, Door::open(address, options)?);
        Ok(())
    }

    pub(super) fn accept_from(&mut self, id: ListenerId, door: Door) {
        assert!(self.find(id).is_none(), "listener {} listens already", id.0);
        // A failure leaves a socket that does not block, which works too, only less well.
        let _ = sys::set_blocking(door.as_fd());
        let state = State::Accepting;
        let slot =
            self.listeners.insert(Listener { id, door, state, armed: false, many: false, stopping: false });
        self.arm_accept(slot);
    }

    pub(super) fn copies(&self) -> Vec<(ListenerId, io::Result<OwnedFd>)> {
        let listeners = self.listeners.ids().into_iter().filter_map(|slot| self.listeners.get(slot));
        let open = listeners.filter(|listener| matches!(listener.state, State::Accepting | State::Paused));
        open.map(|listener| (listener.id, listener.door.copy())).collect()
    }

    /// The listener of this number that was not told to close.
    fn find(&self, id: ListenerId) -> Option<SockId> {
        let open = |listener: &Listener| matches!(listener.state, State::Accepting | State::Paused);
        let mut ids = self.listeners.ids().into_iter();
        ids.find(|slot| self.listeners.get(*slot).is_some_and(|listener| listener.id == id && open(listener)))
    }

    pub(super) fn resume(&mut self, id: ListenerId) {
        let Some(slot) = self.find(id) else { return };
        if let Some(listener) = self.listeners.get_mut(slot) {
            listener.state = State::Accepting;
            if !listener.armed {
                self.arm_accept(slot);
            }
        }
    }

    /// Notes how many connections may be accepted from now on.
    pub(super) fn make_room(&mut self, connections: usize) {
        self.room.connections = connections;
        let many = self.has_room_for_queues();
        if !self.room.held_back && (many || !self.room.many) {
            return;
        }
        (self.room.held_back, self.room.many) = (false, many);
        for slot in self.listeners.ids() {
            let Some(listener) = self.listeners.get_mut(slot) else { continue };
            if listener.armed && listener.many && !listener.stopping && !many {
                // It goes on one by one once this accept is joined.
                listener.stopping = true;
                self.cancel(Kind::Accept, slot);
            } else if listener_needs_accept(Some(listener)) {
                self.arm_accept(slot);
            }
        }
    }

    /// True while all queues may be emptied without accepting too many.
    fn has_room_for_queues(&self) -> bool {
        self.room.connections > self.listeners.len() * BACKLOG_MAX as usize
    }

    pub(super) fn suspend(&mut self, id: ListenerId) {
        if let Some(slot) = self.find(id) {
            self.stop(slot, State::Paused);
        }
    }

    pub(super) fn close_listener(&mut self, id: ListenerId) {
        if let Some(slot) = self.find(id) {
            self.stop(slot, State::Closing);
            self.finish_listener(slot);
        }
    }

    pub(super) fn leave_listener(&mut self, id: ListenerId) {
        if let Some(slot) = self.find(id) {
            self.stop(slot, State::Leaving);
            self.finish_listener(slot);
        }
    }

    pub(super) fn drop_listener(&mut self, slot: SockId) {
        self.stop(slot, State::Dropping);
        self.finish_listener(slot);
    }

    fn stop(&mut self, slot: SockId, state: State) {
        let Some(listener) = self.listeners.get_mut(slot) else { return };
        listener.state = state;
        if listener.armed && !listener.stopping {
            listener.stopping = true;
            self.cancel(Kind::Accept, slot);
        }
    }

    fn arm_accept(&mut self, slot: SockId) {
        let many = self.tuning.multishot_accept && self.has_room_for_queues();
        let Some(listener) = self.listeners.get_mut(slot) else { return };
        if self.room.connections == 0 {
            self.room.held_back = true;
            return;
        }
        (listener.armed, listener.many) = (true, many);
        self.room.many |= many;
        let fd = Fd(listener.door.as_fd().as_raw_fd());
        let entry = if many {
            opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build()
        } else {
            let nowhere = std::ptr::null_mut();
            opcode::Accept::new(fd, nowhere, nowhere.cast()).flags(libc::SOCK_CLOEXEC).build()
        };
        self.push(entry.user_data(word(Kind::Accept, slot)));
    }

    /// Closes a listener that is closing once its accept is joined.
    fn finish_listener(&mut self, slot: SockId) {
        let Some(listener) = self.listeners.get(slot) else { return };
        let closing = matches!(listener.state, State::Closing | State::Dropping | State::Leaving);
        if listener.armed || !closing {
            return;
        }
        let Some(listener) = self.listeners.remove(slot) else { return };
        if listener.state == State::Dropping {
            return;
        }
        if listener.state == State::Leaving {
            listener.door.leave();
            return;
        }
        let what =
            sys::Accepting { known: listener.door.known(), unix: listener.door.is_unix(), blocking: true };
        let (sockets, leftover) = (&mut self.sockets, &mut self.leftover);
        listener.door.close(what, |fd, ends| {
            let sock = sockets.insert(Socket::new(fd, None));
            leftover.push(Done::Accepted { listener: listener.id, sock, ends });
        });
    }

    pub(super) fn on_accepted(&mut self, slot: Option<SockId>, completion: Completion, done: &mut Vec<Done>) {
        use std::os::fd::RawFd;
        let fd = (completion.result >= 0).then(|| {
            let raw: RawFd = completion.result;
            // SAFETY: the kernel just made this descriptor for us and nobody else owns it.
            unsafe { OwnedFd::from_raw_fd(raw) }
        });
        let Some((slot, listener)) = slot.and_then(|slot| Some((slot, self.listeners.get_mut(slot)?))) else {
            debug_assert!(false, "an accept of an older life (rule 3)");
            return;
        };
        if !completion.more() {
            listener.armed = false;
            listener.stopping = false;
        }
        if let Some(fd) = fd {
            // It fails when the client has gone already: then there is nobody to serve.
            if let Ok(ends) = sys::ends(fd.as_fd(), listener.door.known(), listener.door.is_unix()) {
                let id = listener.id;
                let sock = self.sockets.insert(Socket::new(fd, None));
                self.room.connections = self.room.connections.saturating_sub(1);
                done.push(Done::Accepted { listener: id, sock, ends });
            }
        } else if completion.errno().0 == libc::EINVAL && listener.many {
            self.tuning.multishot_accept = false;
        } else if listener.state == State::Accepting
            && completion.errno().0 != libc::ECANCELED
            && !sys::accept_goes_on(completion.errno())
        {
            listener.state = State::Paused;
            done.push(Done::AcceptFailed { listener: listener.id, errno: completion.errno() });
        }
        if listener_needs_accept(self.listeners.get(slot)) {
            self.arm_accept(slot);
        }
        self.finish_listener(slot);
    }
}

fn listener_needs_accept(listener: Option<&Listener>) -> bool {
    listener.is_some_and(|listener| listener.state == State::Accepting && !listener.armed)
}
