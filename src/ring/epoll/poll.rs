//! The system calls of epoll.
//!
//! What goes in: descriptors and whom they concern. What comes out: what happened to whom. It owns the epoll
//! descriptor. Always true: sockets are watched edge-triggered for everything, listeners level-triggered for one of
//! those that watch (a Unix socket has many), the waker level-triggered.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use crate::ids::SockId;

/// Events taken from the kernel per turn.
const EVENTS_MAX: usize = 512;

/// Whom a descriptor concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    Socket(SockId),
    /// A place in the table of listeners.
    Listener(SockId),
    Waker,
}

/// Marks the slot of a listener.
const LISTENER: u64 = 1 << 63;
const WAKER: u64 = u64::MAX;

impl Interest {
    const fn word(self) -> u64 {
        match self {
            Self::Socket(id) => (id.slot as u64) << 32 | id.generation as u64,
            Self::Listener(id) => LISTENER | (id.slot as u64) << 32 | id.generation as u64,
            Self::Waker => WAKER,
        }
    }

    const fn from_word(word: u64) -> Self {
        let id = SockId { slot: ((word & !LISTENER) >> 32) as u32, generation: word as u32 };
        match word {
            WAKER => Self::Waker,
            _ if word & LISTENER != 0 => Self::Listener(id),
            _ => Self::Socket(id),
        }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Happened {
    pub(super) whom: Interest,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The other end sends no more.
    pub(super) shut: bool,
    /// An error or the end of both directions: the next call tells which.
    pub(super) failed: bool,
}

/// An epoll descriptor.
pub(super) struct Poll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Poll {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        let raw = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Self { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX] })
    }

    /// Watches a descriptor.
    pub(super) fn add(&self, fd: BorrowedFd<'_>, whom: Interest) -> io::Result<()> {
        let events = match whom {
            Interest::Socket(_) => libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET,
            Interest::Listener(_) => libc::EPOLLIN | libc::EPOLLEXCLUSIVE,
            Interest::Waker => libc::EPOLLIN,
        };
        let mut event = libc::epoll_event { events: events as u32, u64: whom.word() };
        // SAFETY: the event is valid for the kernel to read.
        let result = unsafe {
            libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &raw mut event)
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Watches a descriptor no more.
    pub(super) fn remove(&self, fd: BorrowedFd<'_>) {
        let nothing = std::ptr::null_mut();
        // SAFETY: a removal takes no event.
        unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_DEL, fd.as_raw_fd(), nothing) };
    }

    /// Waits until something happened, at most for `time` (rounded up to milliseconds).
    pub(super) fn wait(&mut self, time: Option<Duration>, happened: &mut Vec<Happened>) -> io::Result<()> {
        let ms = time.map_or(-1, |time| i32::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i32::MAX));
        // SAFETY: the list is valid for the kernel to write that many events.
        let count =
            unsafe { libc::epoll_wait(self.fd.as_raw_fd(), self.events.as_mut_ptr(), EVENTS_MAX as i32, ms) };
        if count < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        }
        happened.extend(self.events[..count as usize].iter().map(|event| {
            let (flags, word) = (event.events as i32, event.u64);
            Happened {
                whom: Interest::from_word(word),
                readable: flags & libc::EPOLLIN != 0,
                writable: flags & libc::EPOLLOUT != 0,
                shut: flags & libc::EPOLLRDHUP != 0,
                failed: flags & (libc::EPOLLERR | libc::EPOLLHUP) != 0,
            }
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interests_survive_the_kernel() {
        let id = SockId { slot: 0x7fff_fff0, generation: u32::MAX };
        for interest in [Interest::Socket(id), Interest::Listener(id), Interest::Waker] {
            assert_eq!(Interest::from_word(interest.word()), interest);
        }
    }
}
