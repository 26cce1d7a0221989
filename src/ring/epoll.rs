//! The ring over epoll, for hosts that forbid io_uring.
//!
//! What goes in: intentions, kept until the turn. What comes out: what became of them, as [`Done`]s. It owns: an epoll
//! descriptor, the sockets and listeners, the worker's pool, and the pages of sends that the kernel did not take yet.
//! Always true: a socket is registered once, edge-triggered, and what its edges said is remembered; it is read only when
//! bytes were asked for, with a page taken at that moment, so nothing comes unasked; `close` closes at once.

mod poll;

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use arrayvec::ArrayVec;
use socket2::SockRef;

use self::poll::{Happened, Interest, Poll};
use super::door::Door;
use super::socket::Table;
use super::{Done, Failure, Io, ListenOptions, Wake, sys};
use crate::buf::{Chain, Chunk, Pool};
use crate::clock::{self, Moment};
use crate::ids::{ListenerId, SockId};
use crate::limits::{CHAIN_CHUNKS_MAX, PAGE_HEADROOM, RECV_BYTES};
use crate::net::{Address, Ends, Errno};

/// Connections taken from one listener per turn; the rest comes with the next.
const ACCEPTS_PER_TURN: usize = 64;

/// How far a socket is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connecting,
    Open,
    /// The connect failed: it waits to be closed.
    Failed,
    /// Closed, and `Closed` was not handed out yet.
    Gone,
}

/// One socket.
#[derive(Debug)]
struct Socket {
    fd: Option<OwnedFd>,
    phase: Phase,
    /// Asked for bytes and not answered yet.
    wanted: bool,
    /// There may be bytes: no read has found the end of them since the last edge.
    readable: bool,
    /// The other end shut its side: a read that finds fewer bytes than it could take is not the last.
    shut: bool,
    /// The answer that ends all receiving was handed out (rule 9).
    ended: bool,
    /// The kernel may take bytes: no send has found it full since the last edge.
    writable: bool,
    /// Where the chain is that is to be sent.
    sending: Option<SockId>,
}

/// A listening socket.
#[derive(Debug)]
struct Listener {
    id: ListenerId,
    door: Door,
    accepting: bool,
}

impl Listener {
    const fn kind(&self) -> sys::Accepting {
        sys::Accepting { known: self.door.known(), unix: self.door.is_unix(), blocking: false }
    }
}

/// A worker's epoll.
pub struct Epoll {
    poll: Poll,
    pool: Pool,
    /// Pages that are never taken for receiving: answers need pages too.
    reserve: usize,
    sockets: Table<Socket>,
    listeners: Table<Listener>,
    /// How many connections may be accepted.
    room: usize,
    /// The chains that are to be sent.
    chains: Table<Chain>,
    /// Sockets with a chain to try.
    sends: Vec<SockId>,
    /// Sockets that want bytes and may have some.
    recvs: Vec<SockId>,
    /// Sockets that wanted bytes when no page was free.
    starving: VecDeque<SockId>,
    /// Connects that the kernel decided at once.
    decided: Vec<(SockId, Option<Errno>)>,
    gone: Vec<SockId>,
    /// Connections that were waiting in the queue of a listener that was closed.
    leftover: Vec<Done>,
    happened: Vec<Happened>,
    starved: u64,
    lent: usize,
    waker: Arc<sys::Waker>,
}

impl Epoll {
    /// A ring over epoll with a pool of at most `pages_max` pages. Errors: no descriptors, no memory.
    pub fn new(pages_max: usize) -> io::Result<Self> {
        let waker = sys::Waker::new(false)?;
        let poll = Poll::new()?;
        poll.add(waker.fd(), Interest::Waker)?;
        Ok(Self {
            poll,
            pool: Pool::new(pages_max),
            reserve: (pages_max / 8).min(32),
            sockets: Table::new(),
            listeners: Table::new(),
            room: usize::MAX,
            chains: Table::new(),
            sends: Vec::new(),
            recvs: Vec::new(),
            starving: VecDeque::new(),
            decided: Vec::new(),
            gone: Vec::new(),
            leftover: Vec::new(),
            happened: Vec::new(),
            starved: 0,
            lent: 0,
            waker,
        })
    }

    /// Puts a socket into the table and under watch.
    fn adopt(&mut self, fd: OwnedFd, phase: Phase) -> Result<SockId, Errno> {
        let id = self.sockets.insert(Socket {
            fd: None,
            phase,
            wanted: false,
            readable: false,
            shut: false,
            ended: false,
            writable: true,
            sending: None,
        });
        if let Err(error) = self.poll.add(fd.as_fd(), Interest::Socket(id)) {
            self.sockets.remove(id);
            return Err(sys::errno(&error));
        }
        if let Some(socket) = self.sockets.get_mut(id) {
            socket.fd = Some(fd);
        }
        Ok(id)
    }

    /// Reads for a socket that wants bytes and may have some.
    fn try_recv(&mut self, id: SockId, done: &mut Vec<Done>) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if socket.phase != Phase::Open || !socket.wanted || !socket.readable {
            return;
        }
        let Some(fd) = &socket.fd else { return };
        let page = if self.pool.available() > self.reserve { self.pool.take() } else { None };
        let Some(mut page) = page else {
            self.starved += 1;
            self.starving.push_back(id);
            return;
        };
        let room = &mut page.bytes_mut()[PAGE_HEADROOM..PAGE_HEADROOM + RECV_BYTES];
        let result = loop {
            match (&*SockRef::from(fd)).read(room) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        match result {
            Ok(count) if count > 0 => {
                socket.wanted = false;
                // A read that was not filled has emptied the socket; more bytes, or an end, make a new edge.
                socket.readable = count == RECV_BYTES || socket.shut;
                let chunk = Chunk::new(page, PAGE_HEADROOM, PAGE_HEADROOM + count);
                done.push(Done::Received { sock: id, chain: chunk.into() });
                return;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => socket.readable = false,
            Ok(_) => {
                (socket.wanted, socket.ended) = (false, true);
                done.push(Done::Eof { sock: id });
            }
            Err(error) => {
                (socket.wanted, socket.ended) = (false, true);
                done.push(Done::Failed { sock: id, what: Failure::Recv, errno: sys::errno(&error) });
            }
        }
        self.pool.give(page);
    }

    /// Sends the chain of a socket as far as the kernel takes it.
    fn try_send(&mut self, id: SockId, done: &mut Vec<Done>) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        let (Some(fd), Some(at)) = (&socket.fd, socket.sending) else { return };
        let Some(chain) = self.chains.get(at) else { return };
        let result = loop {
            let sock = SockRef::from(fd);
            let sent = match chain.chunks() {
                [only] => sock.send_with_flags(only.bytes(), libc::MSG_NOSIGNAL),
                chunks => {
                    let parts: ArrayVec<IoSlice<'_>, CHAIN_CHUNKS_MAX> =
                        chunks.iter().map(|chunk| IoSlice::new(chunk.bytes())).collect();
                    sock.send_vectored_with_flags(&parts, libc::MSG_NOSIGNAL)
                }
            };
            match sent {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    socket.writable = false;
                    return;
                }
                Ok(0) => break Err(Errno(libc::EPIPE)),
                sent => break sent.map_err(|error| sys::errno(&error)),
            }
        };
        socket.sending = None;
        let Some(chain) = self.chains.remove(at) else { return };
        self.lent -= chain.chunks().len();
        match result {
            Ok(bytes) => done.push(Done::Sent { sock: id, chain, bytes }),
            Err(errno) => {
                self.pool.give_chain(chain);
                done.push(Done::Failed { sock: id, what: Failure::Send, errno });
            }
        }
    }

    /// Tells how a connect ended.
    fn decide(&mut self, id: SockId, error: Option<Errno>, done: &mut Vec<Done>) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if socket.phase != Phase::Connecting {
            return;
        }
        if let Some(errno) = error {
            socket.phase = Phase::Failed;
            done.push(Done::Failed { sock: id, what: Failure::Connect, errno });
        } else {
            socket.phase = Phase::Open;
            done.push(Done::Connected { sock: id });
        }
    }

    fn on_socket(&mut self, id: SockId, what: Happened, done: &mut Vec<Done>) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        // Bytes, and even the end, may come with the edge that tells of the connect.
        socket.readable |= what.readable || what.failed || what.shut;
        socket.shut |= what.shut || what.failed;
        if socket.phase == Phase::Connecting {
            if what.writable || what.failed {
                let asked = socket.fd.as_ref().map(|fd| SockRef::from(fd).take_error());
                let errno = match asked {
                    Some(Ok(None)) => None,
                    Some(Ok(Some(error)) | Err(error)) => Some(sys::errno(&error)),
                    None => return,
                };
                self.decide(id, errno, done);
            }
            return;
        }
        if what.writable || what.failed {
            socket.writable = true;
        }
        let (wanted, sending) = (socket.wanted, socket.sending.is_some() && socket.writable);
        if sending {
            self.try_send(id, done);
        }
        if wanted {
            self.try_recv(id, done);
        }
    }

    /// The listener of this number.
    fn find(&self, id: ListenerId) -> Option<SockId> {
        let mut ids = self.listeners.ids().into_iter();
        ids.find(|slot| self.listeners.get(*slot).is_some_and(|listener| listener.id == id))
    }

    /// Puts a listener under watch, or out of it.
    fn watch(&mut self, id: ListenerId, accepting: bool) {
        let Some(slot) = self.find(id) else { return };
        let Some(listener) = self.listeners.get_mut(slot) else { return };
        if listener.accepting != accepting {
            listener.accepting = accepting;
            if accepting {
                let _ = self.poll.add(listener.door.as_fd(), Interest::Listener(slot));
            } else {
                self.poll.remove(listener.door.as_fd());
            }
        }
    }

    fn on_listener(&mut self, slot: SockId, done: &mut Vec<Done>) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = self.listeners.get(slot) else { return };
            if !listener.accepting || self.room == 0 {
                return;
            }
            let id = listener.id;
            let accepted = match sys::accept(listener.door.as_fd(), listener.kind()) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if sys::accept_goes_on(sys::errno(&error)) => continue,
                Err(error) => Err(sys::errno(&error)),
                Ok((fd, ends)) => self.adopt(fd, Phase::Open).map(|sock| (sock, ends)),
            };
            match accepted {
                Ok((sock, ends)) => {
                    self.room -= 1;
                    done.push(Done::Accepted { listener: id, sock, ends });
                }
                Err(errno) => {
                    self.watch(id, false);
                    done.push(Done::AcceptFailed { listener: id, errno });
                }
            }
        }
    }

    /// What needs no waiting: sends, reads of sockets that have bytes, and what was decided between turns.
    fn act(&mut self, done: &mut Vec<Done>) {
        done.append(&mut self.leftover);
        for (id, error) in std::mem::take(&mut self.decided) {
            self.decide(id, error, done);
        }
        let mut sends = std::mem::take(&mut self.sends);
        for id in sends.drain(..) {
            self.try_send(id, done);
        }
        self.sends = sends;
        for _ in 0..self.starving.len() {
            if self.pool.available() <= self.reserve {
                break;
            }
            if let Some(id) = self.starving.pop_front() {
                self.try_recv(id, done);
            }
        }
        let mut recvs = std::mem::take(&mut self.recvs);
        for id in recvs.drain(..) {
            self.try_recv(id, done);
        }
        self.recvs = recvs;
        for id in self.gone.drain(..) {
            if self.sockets.remove(id).is_some() {
                done.push(Done::Closed { sock: id });
            }
        }
    }
}

impl Io for Epoll {
    fn listen(&mut self, id: ListenerId, address: &Address, options: &ListenOptions) -> io::Result<()> {
        let door = Door::open(address, options)?;
        self.listen_on(id, door).map_err(|error| sys::advise_listen(address, &error))
    }

    fn listen_on(&mut self, id: ListenerId, door: Door) -> io::Result<()> {
        assert!(self.find(id).is_none(), "listener {} listens already", id.0);
        sys::unblock(door.as_fd())?;
        let slot = self.listeners.insert(Listener { id, door, accepting: true });
        let Some(listener) = self.listeners.get(slot) else { return Ok(()) };
        if let Err(error) = self.poll.add(listener.door.as_fd(), Interest::Listener(slot)) {
            self.listeners.remove(slot);
            return Err(error);
        }
        Ok(())
    }

    fn doors(&self) -> Vec<(ListenerId, io::Result<OwnedFd>)> {
        let listeners = self.listeners.ids().into_iter().filter_map(|slot| self.listeners.get(slot));
        listeners.map(|listener| (listener.id, listener.door.copy())).collect()
    }

    fn hand_over(&mut self, id: ListenerId) {
        self.watch(id, false);
        if let Some(listener) = self.find(id).and_then(|slot| self.listeners.remove(slot)) {
            listener.door.leave();
        }
    }

    fn accept(&mut self, id: ListenerId) {
        self.watch(id, true);
    }

    fn pause(&mut self, id: ListenerId) {
        self.watch(id, false);
    }

    fn allow(&mut self, connections: usize) {
        self.room = connections;
    }

    fn unlisten(&mut self, id: ListenerId) {
        self.watch(id, false);
        let Some(listener) = self.find(id).and_then(|slot| self.listeners.remove(slot)) else { return };
        let kind = listener.kind();
        let mut taken: Vec<(OwnedFd, Ends)> = Vec::new();
        listener.door.close(kind, |fd, ends| taken.push((fd, ends)));
        for (fd, ends) in taken {
            if let Ok(sock) = self.adopt(fd, Phase::Open) {
                self.leftover.push(Done::Accepted { listener: id, sock, ends });
            }
        }
    }

    fn connect(&mut self, to: &Address) -> Result<SockId, Errno> {
        let (fd, target) = sys::outgoing(to, false).map_err(|error| sys::errno(&error))?;
        let result = SockRef::from(&fd).connect(&target);
        let id = self.adopt(fd, Phase::Connecting)?;
        match result {
            Ok(()) => self.decided.push((id, None)),
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => self.decided.push((id, Some(sys::errno(&error)))),
        }
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
        if socket.readable {
            self.recvs.push(sock);
        }
    }

    fn send(&mut self, sock: SockId, chain: Chain) {
        assert!(chain.chunks().iter().any(|chunk| !chunk.is_empty()), "an empty chain");
        let Some(socket) = self.sockets.get_mut(sock).filter(|socket| socket.phase == Phase::Open) else {
            debug_assert!(false, "a send on a socket that is not open");
            self.pool.give_chain(chain);
            return;
        };
        assert!(socket.sending.is_none(), "a second send (rule 1)");
        self.lent += chain.chunks().len();
        socket.sending = Some(self.chains.insert(chain));
        if socket.writable {
            self.sends.push(sock);
        }
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
        if socket.phase == Phase::Gone {
            return;
        }
        socket.phase = Phase::Gone;
        socket.wanted = false;
        // Closing takes it out of the epoll set too: nobody else has this descriptor.
        socket.fd = None;
        if let Some(chain) = socket.sending.take().and_then(|at| self.chains.remove(at)) {
            self.lent -= chain.chunks().len();
            self.pool.give_chain(chain);
        }
        self.gone.push(sock);
    }

    fn reset(&mut self, sock: SockId) {
        let Some(socket) = self.sockets.get(sock) else { return };
        if let Some(fd) = &socket.fd {
            sys::abort_on_close(fd.as_fd());
        }
        self.close(sock);
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
        self.act(done);
        let wait = if done.len() > before {
            Some(Duration::ZERO)
        } else {
            until.is_set().then(|| until.since(clock::now()))
        };
        let mut happened = std::mem::take(&mut self.happened);
        self.poll.wait(wait, &mut happened)?;
        for what in happened.drain(..) {
            match what.whom {
                Interest::Socket(id) => self.on_socket(id, what, done),
                Interest::Listener(slot) => self.on_listener(slot, done),
                Interest::Waker => {
                    self.waker.drain();
                    self.waker.seen();
                    done.push(Done::Woken);
                }
            }
        }
        self.happened = happened;
        Ok(clock::now())
    }
}
