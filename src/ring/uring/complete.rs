//! Completions: what the kernel says, and to whom it says it.
//!
//! What goes in: completion entries. What comes out: [`Done`]s. It owns nothing. Always true: a page that a completion
//! names is taken back whatever its result says; a completion of an older life changes nothing else.

use io_uring::cqueue;

use super::{HELD_MAX, Uring};
use crate::buf::Chunk;
use crate::ids::SockId;
use crate::limits::PAGE_HEADROOM;
use crate::net::Errno;
use crate::ring::socket::{End, Phase, Socket};
use crate::ring::{Done, Failure};

/// The operation that a completion ends or continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Recv = 1,
    Send = 2,
    Connect = 3,
    Accept = 4,
    Wake = 5,
    /// Cancels: they complete only to say that there was nothing to cancel.
    Ignored = 6,
}

/// The bits of a generation that travel with an operation. A check only: a slot is not used again before all
/// completions of its old life have come.
pub(super) const GENERATION_MASK: u32 = 0x00ff_ffff;

/// What travels with an operation: kind (8 bits), generation (24), slot (32).
pub(super) const fn word(kind: Kind, id: SockId) -> u64 {
    (kind as u64) << 56 | ((id.generation & GENERATION_MASK) as u64) << 32 | id.slot as u64
}

/// A completion, copied out of the kernel's queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    word: u64,
    pub(super) result: i32,
    flags: u32,
}

impl From<cqueue::Entry> for Completion {
    fn from(entry: cqueue::Entry) -> Self {
        Self { word: entry.user_data(), result: entry.result(), flags: entry.flags() }
    }
}

impl Completion {
    const fn slot(self) -> u32 {
        self.word as u32
    }

    const fn generation(self) -> u32 {
        (self.word >> 32) as u32 & GENERATION_MASK
    }

    /// True when the operation goes on and will complete again.
    pub(super) fn more(self) -> bool {
        cqueue::more(self.flags)
    }

    /// True for a receive.
    pub(super) const fn is_recv(self) -> bool {
        self.word >> 56 == Kind::Recv as u64
    }

    /// The result as an error.
    pub(super) const fn errno(self) -> Errno {
        Errno(-self.result)
    }
}

impl Uring {
    pub(super) fn on_completion(&mut self, completion: Completion, done: &mut Vec<Done>) {
        const RECV: u64 = Kind::Recv as u64;
        const SEND: u64 = Kind::Send as u64;
        const CONNECT: u64 = Kind::Connect as u64;
        const ACCEPT: u64 = Kind::Accept as u64;
        const WAKE: u64 = Kind::Wake as u64;
        let (slot, generation) = (completion.slot(), completion.generation());
        let sock = self.sockets.id_of(slot, generation, GENERATION_MASK);
        match completion.word >> 56 {
            RECV => self.on_received(sock, completion, done),
            SEND => self.on_sent(sock, completion, done),
            CONNECT => self.on_connected(sock, completion, done),
            ACCEPT => {
                let listener = self.listeners.id_of(slot, generation, GENERATION_MASK);
                self.on_accepted(listener, completion, done);
            }
            WAKE => self.on_woken(completion, done),
            _ => {}
        }
    }

    fn on_received(&mut self, sock: Option<SockId>, completion: Completion, done: &mut Vec<Done>) {
        let page = cqueue::buffer_select(completion.flags).map(|bid| self.buffers.take_back(bid));
        let mut chunk = None;
        if let Some(page) = page {
            if completion.result > 0 && sock.is_some() {
                chunk = Some(Chunk::new(page, PAGE_HEADROOM, PAGE_HEADROOM + completion.result as usize));
            } else {
                self.lent -= 1;
                self.pool.give(page);
            }
        }
        let Some((sock, socket)) = sock.and_then(|id| self.sockets.get_mut(id).map(|socket| (id, socket)))
        else {
            debug_assert!(false, "a receive of an older life (rule 3)");
            return;
        };
        if !completion.more() {
            socket.armed = false;
            socket.stopping = false;
        }
        if socket.phase != Phase::Open {
            if let Some(chunk) = chunk {
                self.lent -= 1;
                self.pool.give(chunk.into_page());
            }
            self.try_finish(sock);
            return;
        }
        match (chunk, completion.result) {
            (Some(chunk), _) if socket.wanted && socket.held.is_empty() => {
                socket.wanted = false;
                self.lent -= 1;
                done.push(Done::Received { sock, chain: chunk.into() });
            }
            (Some(chunk), _) => {
                if let Some(chunk) = self.join(sock, chunk, done) {
                    self.hold(sock, chunk);
                }
                return;
            }
            (None, 0) => socket.end = Some(End::Eof),
            (None, result) if result < 0 => self.on_recv_failed(sock, completion),
            (None, _) => debug_assert!(false, "bytes without a page"),
        }
        self.answer(sock, done);
        if self.sockets.get(sock).is_some_and(Socket::must_arm) {
            self.arm(sock);
        }
    }

    /// Adds bytes to the answer that was just given, when they are its continuation; gives them back else.
    fn join(&mut self, sock: SockId, chunk: Chunk, done: &mut [Done]) -> Option<Chunk> {
        let socket = self.sockets.get(sock)?;
        match done.last_mut() {
            Some(Done::Received { sock: last, chain })
                if *last == sock && !socket.wanted && socket.held.is_empty() =>
            {
                let back = chain.push(chunk).err();
                self.lent -= usize::from(back.is_none());
                back
            }
            _ => Some(chunk),
        }
    }

    /// Keeps bytes that came unasked, and stops the receive when they become many.
    fn hold(&mut self, sock: SockId, chunk: Chunk) {
        let Some(socket) = self.sockets.get_mut(sock) else { return };
        if !socket.hold(chunk, &mut self.pool) {
            self.lent -= 1;
        }
        if socket.wanted {
            self.ready.push(sock);
        }
        if self.tuning.limit == 0 && socket.armed && !socket.stopping && socket.held.len() >= HELD_MAX {
            socket.stopping = true;
            self.cancel(super::Kind::Recv, sock);
        }
    }

    fn on_recv_failed(&mut self, sock: SockId, completion: Completion) {
        let Some(socket) = self.sockets.get_mut(sock) else { return };
        match completion.errno().0 {
            // No page was free. The receive waits until some are (rule 8).
            libc::ENOBUFS => {
                self.starved += 1;
                if socket.must_arm() {
                    socket.starving = true;
                    self.starving.push_back(sock);
                }
            }
            // Cancelled by us, or interrupted: it is started again when bytes are wanted.
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
            errno => socket.end = Some(End::Failed(Errno(errno))),
        }
    }

    fn on_sent(&mut self, sock: Option<SockId>, completion: Completion, done: &mut Vec<Done>) {
        let Some((sock, socket)) = sock.and_then(|id| self.sockets.get_mut(id).map(|socket| (id, socket)))
        else {
            debug_assert!(false, "a send of an older life (rule 3)");
            return;
        };
        let open = socket.phase == Phase::Open;
        if open && matches!(-completion.result, libc::EINTR | libc::EAGAIN) {
            self.start_send(sock);
            return;
        }
        let Some(slot) = socket.sending.take() else {
            unreachable!("a send was completed that was not started")
        };
        let chain = self.sends.take_back(slot);
        self.lent -= chain.chunks().len();
        if open && completion.result > 0 {
            let bytes = completion.result as usize;
            assert!(bytes <= chain.len(), "more was sent than was handed over");
            done.push(Done::Sent { sock, chain, bytes });
            return;
        }
        self.pool.give_chain(chain);
        if open {
            let errno = if completion.result == 0 { Errno(libc::EPIPE) } else { completion.errno() };
            done.push(Done::Failed { sock, what: Failure::Send, errno });
        } else {
            self.try_finish(sock);
        }
    }

    fn on_connected(&mut self, sock: Option<SockId>, completion: Completion, done: &mut Vec<Done>) {
        let Some((sock, socket)) = sock.and_then(|id| self.sockets.get_mut(id).map(|socket| (id, socket)))
        else {
            debug_assert!(false, "a connect of an older life (rule 3)");
            return;
        };
        socket.target = None;
        if socket.phase != Phase::Connecting {
            self.try_finish(sock);
        } else if completion.result < 0 {
            // It stays as it is until it is closed: nothing can be done with it.
            done.push(Done::Failed { sock, what: Failure::Connect, errno: completion.errno() });
        } else {
            socket.phase = Phase::Open;
            done.push(Done::Connected { sock });
        }
    }

    fn on_woken(&mut self, completion: Completion, done: &mut Vec<Done>) {
        self.waking = false;
        if completion.result == -libc::ECANCELED || self.dropping {
            return;
        }
        self.waker.seen();
        done.push(Done::Woken);
        self.arm_waker();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_carry_kind_generation_and_slot() {
        let id = SockId { slot: u32::MAX - 1, generation: 0xffab_cdef };
        let completion = Completion { word: word(Kind::Wake, id), result: 0, flags: 0 };
        assert_eq!(completion.word >> 56, Kind::Wake as u64);
        assert_eq!((completion.slot(), completion.generation()), (u32::MAX - 1, 0x00ab_cdef));
    }
}
