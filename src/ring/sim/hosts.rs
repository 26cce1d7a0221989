//! What the simulated world keeps for each worker: its sockets, listeners, and completions that are due.
//!
//! What goes in: pokes (something changed at a connection) and operations. What comes out: [`Due`]s, which
//! [`super::Sim`] turns into `Done`s. Always true: an operation is scheduled at most once; the slot of a socket is
//! reused only after its `Closed` was told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::clock::Moment;
use crate::ids::{ListenerId, SockId};
use crate::net::Address;

use super::state::{Event, State};
use super::wire::{Owner, Side};

/// A completion that is due at a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// Connections can be accepted.
    Accept(ListenerId),
    /// A connect ended; 0 is success.
    Stand(SockId, i32),
    /// A receive can be served.
    Recv(SockId),
    /// A send can be served.
    Send(SockId),
    /// A close is complete.
    Close(SockId),
}

/// An operation of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Op {
    /// None is in flight.
    #[default]
    Idle,
    /// In flight, and nothing can be done for it now.
    Waiting,
    /// In flight, and its completion is under way.
    Scheduled,
}

/// The life of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Free,
    Connecting,
    Refused,
    Open,
    Closing { with_reset: bool },
}

/// A slot of a host's table of sockets.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) generation: u32,
    pub(super) life: Life,
    pub(super) conn: usize,
    pub(super) side: Side,
    pub(super) recv: Op,
    pub(super) send: Op,
    /// The sending side was shut.
    pub(super) shut: bool,
    /// An end of stream or a failure was told: nothing is received any more.
    pub(super) recv_over: bool,
    /// A send failed.
    pub(super) send_over: bool,
}

/// The life of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listening {
    Accepting,
    Paused,
    Closing,
}

/// A listening socket of a host.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) id: ListenerId,
    pub(super) address: Address,
    pub(super) life: Listening,
    pub(super) backlog: usize,
    pub(super) queue: VecDeque<usize>,
    pub(super) scheduled: bool,
}

/// What the world knows of a worker's kernel, for those who check it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostReport {
    /// Sockets that were accepted or opened and whose `Closed` was not told yet.
    pub sockets: usize,
    /// Listening sockets.
    pub listeners: usize,
    /// Pages that exist (as of the last turn).
    pub pages_made: usize,
    /// Pages at home (as of the last turn).
    pub pages_free: usize,
    /// Pages that may exist.
    pub pages_max: usize,
    /// Pages that the ring holds (as of the last turn).
    pub pages_lent: usize,
    /// Completions told so far.
    pub completions: u64,
    /// When the worker wants to be woken at the latest.
    pub until: Moment,
}

/// A worker, as the world sees it.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) gone: bool,
    pub(super) sockets: Vec<Socket>,
    pub(super) free: Vec<u32>,
    pub(super) listeners: Vec<Listener>,
    /// Connections that may still be accepted.
    pub(super) allowed: usize,
    pub(super) due: VecDeque<Due>,
    pub(super) woken: Arc<AtomicBool>,
    pub(super) report: HostReport,
}

impl Host {
    pub(super) fn new(woken: Arc<AtomicBool>, pages_max: usize) -> Self {
        let report = HostReport { until: Moment::NEVER, pages_max, ..HostReport::default() };
        Self {
            gone: false,
            sockets: Vec::new(),
            free: Vec::new(),
            listeners: Vec::new(),
            allowed: usize::MAX,
            due: VecDeque::new(),
            woken,
            report,
        }
    }

    /// The socket with this id, if this life of the slot is not over.
    pub(super) fn socket(&mut self, sock: SockId) -> Option<&mut Socket> {
        let socket = self.sockets.get_mut(sock.index())?;
        (socket.generation == sock.generation && socket.life != Life::Free).then_some(socket)
    }

    /// A slot for a new socket.
    pub(super) fn admit(&mut self, conn: usize, side: Side, life: Life) -> SockId {
        let slot = self.free.pop().unwrap_or_else(|| {
            let fresh = Socket {
                generation: 0,
                life: Life::Free,
                conn,
                side,
                recv: Op::Idle,
                send: Op::Idle,
                shut: false,
                recv_over: false,
                send_over: false,
            };
            self.sockets.push(fresh);
            self.sockets.len() as u32 - 1
        });
        let socket = &mut self.sockets[slot as usize];
        let generation = socket.generation.wrapping_add(1);
        *socket = Socket {
            generation,
            life,
            conn,
            side,
            recv: Op::Idle,
            send: Op::Idle,
            shut: false,
            recv_over: false,
            send_over: false,
        };
        self.report.sockets += 1;
        SockId { slot, generation }
    }

    /// The life of a slot is over.
    pub(super) fn dismiss(&mut self, sock: SockId) {
        self.sockets[sock.index()].life = Life::Free;
        self.free.push(sock.slot);
        self.report.sockets -= 1;
    }
}

impl State {
    /// How late a completion comes.
    pub(super) fn lag(&mut self) -> Duration {
        let (late, late_max) = (self.faults.late, self.faults.late_max);
        if self.random.chance(late) {
            self.random.time(Duration::ZERO, late_max)
        } else {
            Duration::from_nanos(self.random.below(3_000))
        }
    }

    /// Completes the operations of a socket that wait, if they can be completed now.
    pub(super) fn poke_socket(&mut self, host: usize, sock: SockId) {
        let Some(socket) = self.hosts[host].socket(sock) else { return };
        if socket.life != Life::Open {
            return;
        }
        let conn = &self.conns[socket.conn];
        let recv = socket.recv == Op::Waiting && conn.readable(socket.side);
        let send = socket.send == Op::Waiting && conn.writable(socket.side);
        if recv {
            socket.recv = Op::Scheduled;
        }
        if send {
            socket.send = Op::Scheduled;
        }
        if recv {
            let wait = self.lag();
            self.after(wait, Event::Op(host, Due::Recv(sock)));
        }
        if send {
            let wait = self.lag();
            self.after(wait, Event::Op(host, Due::Send(sock)));
        }
    }

    /// One of the listening sockets of workers at this address: SO_REUSEPORT.
    pub(super) fn pick_listener(&mut self, address: &Address) -> Option<(usize, usize)> {
        let mut found = Vec::new();
        for (host, whole) in self.hosts.iter().enumerate() {
            for (at, listener) in whole.listeners.iter().enumerate() {
                if listener.address == *address && listener.life != Listening::Closing {
                    found.push((host, at));
                }
            }
        }
        if found.is_empty() { None } else { Some(self.random.pick(&found)) }
    }

    /// Accepts from a listener if there is something to accept.
    pub(super) fn poke_listener(&mut self, host: usize, at: usize) {
        let wait = self.lag();
        let allowed = self.hosts[host].allowed > 0;
        let listener = &mut self.hosts[host].listeners[at];
        if allowed
            && listener.life == Listening::Accepting
            && !listener.queue.is_empty()
            && !listener.scheduled
        {
            listener.scheduled = true;
            let due = Due::Accept(listener.id);
            self.after(wait, Event::Op(host, due));
        }
    }

    /// Connections that wait in the queue of a closing listener: some are lost with it.
    pub(super) fn lose_queued(&mut self, host: usize, at: usize) {
        let lost = self.faults.lost_on_unlisten;
        let queue = std::mem::take(&mut self.hosts[host].listeners[at].queue);
        for conn in queue {
            if self.may_hurt(conn) && self.random.chance(lost) {
                self.injected.lost_on_unlisten += 1;
                self.conns[conn].hurt = true;
                self.trace(|| format!("c{conn}: FAULT lost with its listener"));
                self.conns[conn].ends[1].stands = true;
                self.hang_up(conn, Side::Callee, true);
            } else {
                self.hosts[host].listeners[at].queue.push_back(conn);
            }
        }
    }

    /// True when another worker than `me` has something to do.
    pub(super) fn others_want(&self, me: usize) -> bool {
        self.hosts.iter().enumerate().any(|(at, host)| {
            let woken = host.woken.load(std::sync::atomic::Ordering::Acquire);
            at != me && !host.gone && (!host.due.is_empty() || self.now >= host.report.until || woken)
        })
    }

    /// The earliest moment at which any worker wants to be woken.
    pub(super) fn until(&self) -> Moment {
        self.hosts
            .iter()
            .filter(|host| !host.gone)
            .map(|host| host.report.until)
            .min()
            .unwrap_or(Moment::NEVER)
    }

    /// The sockets of a host that are not closed, for people.
    pub(super) fn sockets(&self, me: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for (slot, socket) in self.hosts[me].sockets.iter().enumerate() {
            if socket.life == Life::Free {
                continue;
            }
            let (conn, side) = (&self.conns[socket.conn], socket.side);
            lines.push(format!(
                "slot {slot} generation {}: c{} {:?} {:?}, recv {:?} (over {}), send {:?}, shut {}; \
                 to {}, unread {}, space {}, end arrived {}, reset {:?}, silent {}",
                socket.generation,
                socket.conn,
                side,
                socket.life,
                socket.recv,
                socket.recv_over,
                socket.send,
                socket.shut,
                conn.to,
                conn.pipes[side.across() as usize].arrived,
                conn.pipes[side as usize].space(),
                conn.pipes[side.across() as usize].fin_arrived,
                conn.ends[side as usize].reset,
                conn.silent,
            ));
        }
        lines
    }

    /// The process of a worker ends: the kernel closes what it left.
    pub(super) fn exit(&mut self, me: usize) {
        self.hosts[me].gone = true;
        let held: Vec<(usize, Side)> = self.hosts[me]
            .sockets
            .iter()
            .filter(|socket| socket.life != Life::Free)
            .map(|socket| (socket.conn, socket.side))
            .collect();
        for (conn, side) in held {
            if matches!(self.conns[conn].ends[side as usize].owner, Owner::Host(host, _) if host == me) {
                self.hang_up(conn, side, false);
            }
        }
        for listener in std::mem::take(&mut self.hosts[me].listeners) {
            for conn in listener.queue {
                self.conns[conn].ends[1].stands = true;
                self.hang_up(conn, Side::Callee, true);
            }
        }
    }
}
