//! The kernel, behind one trait: io_uring, epoll, or a simulated one.
//!
//! What goes in: intentions (`listen`, `connect`, `recv`, `send`, `shut`, `close`). What comes out of [`Io::turn`]:
//! [`Done`]s. It owns: sockets, their operations in flight, the pages lent to the kernel, and the worker's [`Pool`].
//!
//! Rules that always hold, on every kernel (asserted):
//!
//! 1. At most one receive and one send are in flight per socket. Asking for a second is a bug of the caller.
//! 2. After `close`, nothing comes for that socket but exactly one [`Done::Closed`].
//! 3. A slot is reused only after every completion of its old life has arrived; ids carry a generation.
//! 4. Pages: free + lent + held by sessions = made.
//! 5. Completions are collected first and handled after.
//! 6. A connection accepted while its listener closes is closed, never leaked.
//! 7. Short sends are normal: [`Done::Sent`] says how many bytes went, the caller sends the rest.
//! 8. A receive that found no page waits inside the ring until pages are back; the caller is not told.
//! 9. After [`Done::Eof`] or [`Done::Failed`] for a receive nothing is received any more on that socket.

mod door;
pub mod epoll;
mod host;
mod inherit;
mod lend;
pub mod sim;
mod socket;
mod sys;
pub mod uring;

use std::io;

pub use self::door::{Door, check_free};
pub use self::epoll::Epoll;
pub use self::host::{cores, pin, prefer_small_pages};
pub use self::inherit::{Listening, inherit, inherit_listening, inheritable};
pub use self::sys::raise_open_files;
pub use self::uring::{Uring, probe, restricts};
use crate::buf::{Chain, Pool};
use crate::clock::Moment;
use crate::ids::{ListenerId, SockId};
use crate::net::{Address, Ends, Errno};

/// Something that happened.
#[derive(Debug)]
pub enum Done {
    /// A connection was accepted.
    Accepted {
        /// Where.
        listener: ListenerId,
        /// The new socket.
        sock: SockId,
        /// Its two ends.
        ends: Ends,
    },
    /// Accepting failed for want of descriptors or memory; the listener is paused until `accept` is called.
    AcceptFailed {
        /// Where.
        listener: ListenerId,
        /// Why.
        errno: Errno,
    },
    /// `connect` succeeded.
    Connected {
        /// The socket.
        sock: SockId,
    },
    /// Bytes came.
    Received {
        /// The socket.
        sock: SockId,
        /// The bytes that were there: at least one chunk, each with [`crate::limits::PAGE_HEADROOM`] bytes free before
        /// it and none of them empty.
        chain: Chain,
    },
    /// The other end will send no more.
    Eof {
        /// The socket.
        sock: SockId,
    },
    /// A send ended; `bytes` of the chain went out (at least one).
    Sent {
        /// The socket.
        sock: SockId,
        /// The chain as it was handed over.
        chain: Chain,
        /// How many of its bytes were sent.
        bytes: usize,
    },
    /// A connect, receive or send failed. The pages of a failed send are home already.
    Failed {
        /// The socket.
        sock: SockId,
        /// What failed.
        what: Failure,
        /// Why.
        errno: Errno,
    },
    /// The socket is gone; its id will not be seen again.
    Closed {
        /// The socket.
        sock: SockId,
    },
    /// Another thread called [`Wake::wake`].
    Woken,
}

/// Which operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connect.
    Connect,
    /// The receive.
    Recv,
    /// The send.
    Send,
}

/// Wakes a ring from another thread: its next or present `turn` returns with [`Done::Woken`].
pub trait Wake: Send + Sync {
    /// Wakes. Cheap, and never blocks.
    fn wake(&self);
}

/// How to listen.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// Accept IPv6 only on an IPv6 address (`[::]:80` then does not take IPv4).
    pub v6only: bool,
    /// Accept queue in connections.
    pub backlog: i32,
}

/// A kernel, as a worker sees it.
pub trait Io {
    /// Opens a listening socket (with SO_REUSEPORT; Unix sockets are shared by all workers of the process) and starts
    /// to accept. Errors come with advice: what was tried, why it failed, what to do.
    fn listen(&mut self, id: ListenerId, address: &Address, options: &ListenOptions) -> io::Result<()>;

    /// Starts to accept from a socket that listens already. Only real kernels have such.
    fn listen_on(&mut self, _id: ListenerId, _door: Door) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Second descriptors of all listening sockets that are not being closed.
    fn doors(&self) -> Vec<(ListenerId, io::Result<std::os::fd::OwnedFd>)> {
        Vec::new()
    }

    /// Stops to accept from a listening socket and closes it as it is: another process accepts from it.
    fn hand_over(&mut self, id: ListenerId) {
        self.unlisten(id);
    }

    /// Starts to accept again after `pause` or [`Done::AcceptFailed`].
    fn accept(&mut self, id: ListenerId);

    /// Stops accepting; new connections wait in the kernel's queue.
    fn pause(&mut self, id: ListenerId);

    /// How many connections may be accepted from now on, over all listeners, until this is called again (without it:
    /// any number). A ring may accept one more per listener, whose accept was in flight already.
    fn allow(&mut self, _connections: usize) {}

    /// Accepts what is in the queue already (it comes as [`Done::Accepted`]), then closes the listening socket.
    fn unlisten(&mut self, id: ListenerId);

    /// Opens a connection: [`Done::Connected`] or [`Done::Failed`] follows. Errors: no descriptors.
    fn connect(&mut self, to: &Address) -> Result<SockId, Errno>;

    /// Asks for bytes: one [`Done::Received`], [`Done::Eof`] or [`Done::Failed`] follows.
    fn recv(&mut self, sock: SockId);

    /// Sends: one [`Done::Sent`] or [`Done::Failed`] follows. The chain must not be empty.
    fn send(&mut self, sock: SockId, chain: Chain);

    /// Shuts the sending side. To be called with no send in flight.
    fn shut(&mut self, sock: SockId);

    /// Closes: cancels what is in flight, joins it, then exactly one [`Done::Closed`]. Calling it again does nothing.
    fn close(&mut self, sock: SockId);

    /// Closes with a reset instead of an orderly end (the other side must not take a cut answer for a whole one).
    fn reset(&mut self, sock: SockId);

    /// The worker's pages.
    fn pool(&mut self) -> &mut Pool;

    /// Pages that this ring holds now (lent to the kernel, or received and not yet asked for).
    fn lent(&self) -> usize;

    /// Receives that found no page so far.
    fn starved(&self) -> u64;

    /// Wakes this ring from other threads.
    fn waker(&self) -> std::sync::Arc<dyn Wake>;

    /// Says how many server connections are in use: where many answers are on their way, the next turn may wait a
    /// moment to collect several of them.
    fn crowd(&mut self, _in_use: usize) {}

    /// Submits, waits until something happened or `until` is reached, collects, and returns the time.
    fn turn(&mut self, until: Moment, done: &mut Vec<Done>) -> io::Result<Moment>;
}
