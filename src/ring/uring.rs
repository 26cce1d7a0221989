//! The ring over io_uring.
//!
//! What goes in: intentions, as submission entries. What comes out: completions, as [`Done`]s. It owns: one io_uring
//! of the thread that made it, the sockets and listeners, the worker's pool and every page the kernel has. Always true:
//! one `io_uring_enter` per turn, which submits, waits and runs the kernel's deferred work; a receive stays armed across
//! asks (multishot), so a small message costs one completion to receive and one entry and completion to send.
//!
//! A receive that is armed takes bytes that nobody asked for yet. They are held in the socket. So that a slow reader's
//! other side cannot fill the pool this way, one arming takes at most [`Tuning::limit`] bytes (kernel 6.17), and on
//! older kernels it is cancelled when `HELD_MAX` pages are held; it is armed again when the held bytes were asked for.
#![allow(unsafe_code)]

mod accept;
mod complete;
mod setup;

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::squeue::Entry;
use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, opcode, squeue};

use self::accept::Listener;
use self::complete::{Completion, Kind, word};
pub use self::setup::{Tuning, probe, restricts};
use super::lend::{BUFFER_GROUP, Buffers, Gather, Sends};
use super::socket::{End, Phase, Socket, Table};
use super::{Done, Door, Failure, Io, ListenOptions, Wake, sys};
use crate::buf::{Chain, Pool};
use crate::clock::{self, Moment};
use crate::ids::{ListenerId, SockId};
use crate::limits::{CHAIN_CHUNKS_MAX, GATHER_MAX, GATHER_SHARE, LENT_PAGES_MAX, RECV_BYTES};
use crate::net::{Address, Errno};

/// Pages that a socket may hold unasked before its receive is cancelled, on kernels without a limit for one arming.
const HELD_MAX: usize = 2;

/// Pages that are lent while they come back full: 512 KiB, about half of a core's own cache.
const LEND_BULK: usize = 32;

/// Sockets for which there is room from the start: memory that is not touched costs nothing.
const SOCKETS_ROOM: usize = 32 * 1024;

/// Pages that a quiet ring lends to the kernel for receiving.
const LEND_MIN: usize = 16;

/// A worker's io_uring.
pub struct Uring {
    /// Dropped by hand: the memory that the kernel uses must outlive it.
    ring: ManuallyDrop<IoUring>,
    tuning: Tuning,
    pool: Pool,
    /// Pages that are never lent for receiving: answers need pages too.
    reserve: usize,
    /// Pages that the kernel may have for receiving at most.
    lend_max: usize,
    /// Pages that it gets now: twice what recent turns used. It picks them in the order they were lent, so fewer of
    /// them stay in the cache better; used up, they are doubled by the next turn.
    lend_goal: usize,
    /// The most pages that a recent turn used.
    lend_peak: usize,
    /// The last turn's receives filled their pages more than half.
    bulk: bool,
    /// Sends that this turn hands over.
    sends_new: u32,
    /// Receives that completed in the last turn that had any.
    received_last: u32,
    /// Server connections in use.
    crowd: u32,
    buffers: ManuallyDrop<Buffers>,
    sends: ManuallyDrop<Sends>,
    sockets: Table<Socket>,
    listeners: Table<Listener>,
    room: accept::Room,
    /// Sockets that may have something to say without the kernel: held bytes, or an end, that were asked for.
    ready: Vec<SockId>,
    /// Sockets that are gone and not reported yet.
    gone: Vec<SockId>,
    /// Connections that were waiting in the queue of a listener that was closed.
    leftover: Vec<Done>,
    /// Sockets whose receive found no page.
    starving: VecDeque<SockId>,
    /// Entries that found the submission queue full even after it was handed over.
    backlog: VecDeque<Entry>,
    completions: Vec<Completion>,
    starved: u64,
    /// Pages here: lent for receiving, being sent, or held.
    lent: usize,
    waker: Arc<sys::Waker>,
    waking: bool,
    dropping: bool,
    wake_word: ManuallyDrop<Box<u64>>,
}

impl Uring {
    /// A ring with a pool of at most `pages_max` pages. To be called on the thread that will use it. Errors say what
    /// to do: io_uring forbidden, kernel too old, memory limit.
    pub fn new(pages_max: usize) -> io::Result<Self> {
        Self::with(pages_max, Tuning::default())
    }

    /// As `new`, with fewer of the kernel's abilities used than it has.
    pub fn with(pages_max: usize, tuning: Tuning) -> io::Result<Self> {
        let (ring, buffers, tuning) = setup::open(tuning)?;
        let mut this = Self {
            ring: ManuallyDrop::new(ring),
            tuning,
            pool: Pool::new(pages_max),
            reserve: (pages_max / 8).min(32),
            lend_max: (pages_max / 4).min(tuning.lend).clamp(1, LENT_PAGES_MAX),
            lend_goal: 0,
            lend_peak: 0,
            bulk: false,
            sends_new: 0,
            received_last: 0,
            crowd: 0,
            buffers: ManuallyDrop::new(buffers),
            sends: ManuallyDrop::new(Sends::default()),
            sockets: Table::with_capacity(SOCKETS_ROOM),
            listeners: Table::new(),
            room: accept::Room::default(),
            ready: Vec::new(),
            gone: Vec::new(),
            leftover: Vec::new(),
            starving: VecDeque::new(),
            backlog: VecDeque::new(),
            completions: Vec::new(),
            starved: 0,
            lent: 0,
            waker: sys::Waker::new(true)?,
            waking: false,
            dropping: false,
            wake_word: ManuallyDrop::new(Box::new(0)),
        };
        this.arm_waker();
        Ok(this)
    }

    /// What is used of the kernel's abilities.
    pub const fn tuning(&self) -> Tuning {
        self.tuning
    }

    /// Puts an entry into the submission queue. The memory it names lives until its completion: pages and messages
    /// are in `lend.rs`, addresses in the socket, the wake word in this struct; all outlive the ring (see `drop`).
    fn push(&mut self, entry: Entry) {
        // Entries keep their order: a cancel must not overtake what it cancels.
        if !self.backlog.is_empty() {
            self.backlog.push_back(entry);
            return;
        }
        // SAFETY: see above.
        if unsafe { self.ring.submission().push(&entry) }.is_ok() {
            return;
        }
        let _ = self.enter(0, None, EnterFlags::empty());
        // SAFETY: see above.
        if unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.backlog.push_back(entry);
        }
    }

    /// Hands the submission queue over and waits for `want` completions, at most until `timeout`.
    fn enter(&mut self, want: u32, timeout: Option<Timespec>, flags: EnterFlags) -> io::Result<()> {
        let submit = self.ring.submission().len() as u32;
        let submitter = self.ring.submitter();
        let mut arguments = SubmitArgs::new();
        if want > 1 {
            arguments = arguments.min_wait_usec(self.tuning.gather_us);
        }
        if let Some(timeout) = &timeout {
            arguments = arguments.timespec(timeout);
        }
        let flags = flags | EnterFlags::EXT_ARG;
        // SAFETY: the argument is what EXT_ARG stands for; it and the timeout live until the call returns.
        let result = unsafe { submitter.enter(submit, want, flags.bits(), Some(&arguments)) };
        match result {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // Time is up; a signal came; the kernel is short of memory or has completions that do not fit: the
                // entries stay in the queue and the next turn hands them over again.
                Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(()),
                _ => Err(error),
            },
        }
    }

    fn arm_waker(&mut self) {
        let fd = Fd(self.waker.fd().as_raw_fd());
        let at = (&raw mut **self.wake_word).cast();
        self.waking = true;
        self.push(
            opcode::Read::new(fd, at, 8)
                .build()
                .user_data(word(Kind::Wake, SockId { slot: 0, generation: 0 })),
        );
    }

    /// Lends pages to the kernel up to its share, and starts the receives again that found none.
    fn refill(&mut self) {
        let before = self.buffers.len();
        let used = self.lend_goal.saturating_sub(before);
        self.lend_peak = used.max(self.lend_peak - self.lend_peak / 16);
        // Full pages are read again by the send that follows: those of one turn should still be in the cache then.
        let most = if self.bulk { LEND_BULK } else { self.lend_max };
        self.lend_goal = (2 * self.lend_peak).max(LEND_MIN).min(most);
        while self.buffers.len() < self.lend_goal && self.pool.available() > self.reserve {
            let Some(page) = self.pool.take() else { break };
            self.buffers.lend(page);
            self.lent += 1;
        }
        if self.buffers.len() > before {
            self.buffers.publish();
        }
        // No more of them than there are pages: the others would fail again.
        let mut pages = self.buffers.len();
        while pages > 0
            && let Some(id) = self.starving.pop_front()
        {
            let Some(socket) = self.sockets.get_mut(id) else { continue };
            socket.starving = false;
            if socket.must_arm() {
                self.arm(id);
                pages -= 1;
            }
        }
    }

    /// Starts a receive.
    fn arm(&mut self, id: SockId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        let Some(fd) = &socket.fd else { return };
        let fd = Fd(fd.as_raw_fd());
        socket.armed = true;
        let entry = if self.tuning.multishot {
            setup::limited(opcode::RecvMulti::new(fd, BUFFER_GROUP).build(), self.tuning.limit)
        } else {
            let recv = opcode::Recv::new(fd, std::ptr::null_mut(), RECV_BYTES as u32).buf_group(BUFFER_GROUP);
            recv.build().flags(squeue::Flags::BUFFER_SELECT)
        };
        self.push(entry.user_data(word(Kind::Recv, id)));
    }

    /// Starts the send whose chain the socket has lent already.
    fn start_send(&mut self, id: SockId) {
        let Some(socket) = self.sockets.get(id) else { return };
        let (Some(fd), Some(slot)) = (&socket.fd, socket.sending) else { return };
        let fd = Fd(fd.as_raw_fd());
        self.sends_new += 1;
        let entry = match self.sends.gather(slot) {
            Gather::One(at, len) => opcode::Send::new(fd, at, len).flags(libc::MSG_NOSIGNAL).build(),
            Gather::Many(message) => {
                opcode::SendMsg::new(fd, message).flags(libc::MSG_NOSIGNAL as u32).build()
            }
        };
        self.push(entry.user_data(word(Kind::Send, id)));
    }

    /// Asks the kernel to end an operation. Its own completion tells nothing (what it says differs between kernels):
    /// that of the operation does.
    fn cancel(&mut self, kind: Kind, id: SockId) {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::user_data(word(kind, id))).build();
        self.push(entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(word(Kind::Ignored, id)));
    }

    /// What a socket has to say without the kernel: bytes or an end that came before they were asked for.
    fn answer(&mut self, id: SockId, done: &mut Vec<Done>) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if socket.phase != Phase::Open || !socket.wanted {
            return;
        }
        if !socket.held.is_empty() {
            socket.wanted = false;
            let count = socket.held.len().min(CHAIN_CHUNKS_MAX);
            self.lent -= count;
            done.push(Done::Received { sock: id, chain: socket.held.drain(..count).collect() });
        } else if let Some(end) = socket.end {
            socket.wanted = false;
            socket.ended = true;
            done.push(match end {
                End::Eof => Done::Eof { sock: id },
                End::Failed(errno) => Done::Failed { sock: id, what: Failure::Recv, errno },
            });
        }
    }

    /// Closes the descriptor of a socket that is closing once nothing is in flight.
    fn try_finish(&mut self, id: SockId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if socket.phase != Phase::Closing || !socket.joined() {
            return;
        }
        socket.phase = Phase::Gone;
        self.gone.push(id);
        // A system call. An entry in the queue measures no better, and the descriptor would live on until the next turn.
        socket.fd = None;
    }

    /// Reports the sockets that are gone and frees their slots.
    fn report_gone(&mut self, done: &mut Vec<Done>) {
        for id in self.gone.drain(..) {
            if self.sockets.remove(id).is_some() {
                done.push(Done::Closed { sock: id });
            }
        }
    }

    /// How many completions this turn should wait for. Sends complete at once as a rule, and as many receives come as
    /// came last: waiting for them together saves wake-ups, here and at the other ends, which see work in larger portions
    /// (23,000 requests/s became 40,000 where the servers' core was the bottleneck). A wait is never much longer for it:
    /// see [`Tuning::gather_us`].
    fn expected(&self) -> u32 {
        let together = self.received_last.min(self.crowd / GATHER_SHARE).min(GATHER_MAX);
        if self.tuning.gather_us == 0 || together < 2 { 1 } else { self.sends_new + together }
    }

    /// How long this turn may wait: `None` for as long as it takes.
    fn patience(&self, until: Moment, busy: bool) -> Option<Duration> {
        // Sockets that found no page while there are pages now get their turn in portions, without waiting between.
        if busy || !self.backlog.is_empty() || (!self.starving.is_empty() && self.buffers.len() > 0) {
            return Some(Duration::ZERO);
        }
        until.is_set().then(|| until.since(clock::now()))
    }
}

impl Io for Uring {
    fn listen(&mut self, id: ListenerId, address: &Address, options: &ListenOptions) -> io::Result<()> {
        self.listen_at(id, address, options)
    }

    fn listen_on(&mut self, id: ListenerId, door: Door) -> io::Result<()> {
        self.accept_from(id, door);
        Ok(())
    }

    fn doors(&self) -> Vec<(ListenerId, io::Result<OwnedFd>)> {
        self.copies()
    }

    fn hand_over(&mut self, id: ListenerId) {
        self.leave_listener(id);
    }

    fn accept(&mut self, id: ListenerId) {
        self.resume(id);
    }

    fn pause(&mut self, id: ListenerId) {
        self.suspend(id);
    }

    fn allow(&mut self, connections: usize) {
        self.make_room(connections);
    }

    fn unlisten(&mut self, id: ListenerId) {
        self.close_listener(id);
    }

    fn connect(&mut self, to: &Address) -> Result<SockId, Errno> {
        let (fd, target) = sys::outgoing(to, true).map_err(|error| sys::errno(&error))?;
        let raw = Fd(fd.as_raw_fd());
        let target = Box::new(target);
        let (at, len) = (target.as_ptr().cast(), target.len());
        let id = self.sockets.insert(Socket::new(fd, Some(target)));
        self.push(opcode::Connect::new(raw, at, len).build().user_data(word(Kind::Connect, id)));
        Ok(id)
    }

    fn recv(&mut self, sock: SockId) {
        let Some(socket) = self.sockets.get_mut(sock) else {
            debug_assert!(false, "a receive on a socket that is gone");
            return;
        };
        assert!(!socket.wanted, "a second receive (rule 1)");
        if socket.phase != Phase::Open || socket.ended {
            debug_assert!(false, "a receive on a socket that is not open, or after its end (rule 9)");
            return;
        }
        socket.wanted = true;
        if !socket.held.is_empty() || socket.end.is_some() {
            self.ready.push(sock);
        } else if !socket.armed {
            self.arm(sock);
        }
    }

    fn send(&mut self, sock: SockId, chain: Chain) {
        assert!(chain.chunks().iter().any(|chunk| !chunk.is_empty()), "an empty chain");
        let open = match self.sockets.get_mut(sock) {
            Some(socket) => {
                assert!(socket.sending.is_none(), "a second send (rule 1)");
                socket.phase == Phase::Open
            }
            None => false,
        };
        if !open {
            debug_assert!(false, "a send on a socket that is not open");
            self.pool.give_chain(chain);
            return;
        }
        self.lent += chain.chunks().len();
        let slot = self.sends.lend(chain);
        if let Some(socket) = self.sockets.get_mut(sock) {
            socket.sending = Some(slot);
        }
        self.start_send(sock);
    }

    fn shut(&mut self, sock: SockId) {
        let Some(socket) = self.sockets.get(sock) else { return };
        debug_assert!(socket.sending.is_none(), "shutting with a send in flight");
        if let Some(fd) = &socket.fd {
            sys::shut(fd.as_fd());
        }
    }

    fn close(&mut self, sock: SockId) {
        let Some(socket) = self.sockets.get_mut(sock) else { return };
        if matches!(socket.phase, Phase::Closing | Phase::Gone) {
            return;
        }
        socket.phase = Phase::Closing;
        socket.wanted = false;
        self.lent -= socket.held.len();
        for chunk in std::mem::take(&mut socket.held) {
            self.pool.give(chunk.into_page());
        }
        let flying = [
            (socket.armed && !socket.stopping, Kind::Recv),
            (socket.sending.is_some(), Kind::Send),
            (socket.target.is_some(), Kind::Connect),
        ];
        for (_, kind) in flying.into_iter().filter(|(flies, _)| *flies) {
            self.cancel(kind, sock);
        }
        self.try_finish(sock);
    }

    fn reset(&mut self, sock: SockId) {
        let Some(socket) = self.sockets.get(sock) else { return };
        if let Some(fd) = &socket.fd {
            sys::abort_on_close(fd.as_fd());
        }
        self.close(sock);
    }

    fn crowd(&mut self, in_use: usize) {
        self.crowd = in_use as u32;
    }

    fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    fn lent(&self) -> usize {
        self.lent
    }

    fn starved(&self) -> u64 {
        self.starved
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.waker.clone()
    }

    fn turn(&mut self, until: Moment, done: &mut Vec<Done>) -> io::Result<Moment> {
        let before = done.len();
        while let Some(entry) = self.backlog.pop_front() {
            // SAFETY: see `push`.
            if unsafe { self.ring.submission().push(&entry) }.is_err() {
                self.backlog.push_front(entry);
                break;
            }
        }
        self.refill();
        done.append(&mut self.leftover);
        let mut ready = std::mem::take(&mut self.ready);
        for id in ready.drain(..) {
            self.answer(id, done);
        }
        self.ready = ready;
        self.report_gone(done);

        let patience = self.patience(until, done.len() > before);
        let want = if patience == Some(Duration::ZERO) { 0 } else { self.expected() };
        self.sends_new = 0;
        let timeout = patience.filter(|_| want > 0).map(Timespec::from);
        self.enter(want, timeout, EnterFlags::GETEVENTS)?;

        let mut completions = std::mem::take(&mut self.completions);
        completions.extend(self.ring.completion().map(Completion::from));
        let (mut received, mut bytes) = (0, 0);
        for completion in completions.iter().filter(|completion| completion.is_recv()) {
            received += 1;
            bytes += completion.result.max(0) as usize;
        }
        if received > 0 {
            self.received_last = received;
            self.bulk = bytes > received as usize * RECV_BYTES / 2;
        }
        for completion in completions.drain(..) {
            self.on_completion(completion, done);
        }
        self.completions = completions;
        self.report_gone(done);
        Ok(clock::now())
    }
}

impl Drop for Uring {
    /// Cancels and joins everything, so that listening sockets are closed when this returns and the kernel uses no
    /// memory of ours any more. Should it not let go in time, that memory is never freed.
    fn drop(&mut self) {
        for id in self.listeners.ids() {
            self.drop_listener(id);
        }
        for id in self.sockets.ids() {
            self.close(id);
        }
        self.dropping = true;
        self.cancel(Kind::Wake, SockId { slot: 0, generation: 0 });
        let mut done = Vec::new();
        let stop = clock::now() + Duration::from_secs(1);
        while (self.sockets.len() > 0 || self.listeners.len() > 0 || self.waking) && clock::now() < stop {
            let soon = clock::now() + Duration::from_millis(10);
            if self.turn(soon, &mut done).is_err() {
                break;
            }
            for told in done.drain(..) {
                match told {
                    Done::Accepted { sock, .. } => self.close(sock),
                    Done::Received { chain, .. } => self.pool.give_chain(chain),
                    Done::Sent { chain, .. } => self.pool.give_chain(chain),
                    _ => {}
                }
            }
        }
        let joined = self.sockets.len() == 0 && self.listeners.len() == 0 && !self.waking;
        let _ = self.enter(0, None, EnterFlags::empty());
        let forgotten = self.ring.submitter().unregister_buf_ring(BUFFER_GROUP).is_ok();
        // SAFETY: each is dropped once, here, and not used after.
        unsafe {
            ManuallyDrop::drop(&mut self.ring);
            if joined && forgotten {
                ManuallyDrop::drop(&mut self.buffers);
                ManuallyDrop::drop(&mut self.sends);
                ManuallyDrop::drop(&mut self.wake_word);
            }
        }
    }
}
