//! A worker: one thread's loop, where sessions meet the kernel.
//!
//! What goes in: completions of the ring ([`Done`]). What comes out: operations for the ring. It owns: the ring, its
//! sessions, the unused server connections, the deadlines. Always true: completions are collected first and handled
//! after; a session is pumped after every event from which something follows; a worker never waits for another one.
//!
//! The loop is generic over [`Io`], so that the simulator runs exactly this code.

mod accept;
mod deadlines;
mod drain;
pub mod edition;
mod follow;
mod idle;
mod keep;
pub mod log;
mod owners;
pub mod shared;
mod sources;
pub mod spawn;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::access::Access;
use crate::buf::Chain;
use crate::clock::{self, Moment};
use crate::config::model::Config;
use crate::counters::{Count, Counters};
use crate::ids::{ServerId, SessionId, SockId, WorkerId};
use crate::limits::STARVED_PAGES_MIN;
use crate::meters::digests::Digests;
use crate::ring::{Done, Failure, Io};
use crate::session::{Cx, Event, Leg, Op, Reuse};

use deadlines::Heap;
use edition::{EditionSlot, Editions};
use idle::IdleStore;
use owners::{Owner, Owners, Sessions};
use shared::{Ask, Orders, Shared};
use sources::{Date, next_chance};

/// One worker.
pub struct Worker<I: Io> {
    id: WorkerId,
    io: I,
    shared: Arc<Shared>,
    editions: Editions,
    /// When an old edition may go.
    sweep_doors: Moment,
    /// Sessions that end at the latest then, because what they are about was removed.
    retiring: Vec<(Moment, SessionId)>,
    sessions: Sessions,
    owners: Owners,
    idle: IdleStore,
    heap: Heap,
    now: Moment,
    date: Date,
    chance: u64,
    done: Vec<Done>,
    ops: Vec<Op>,
    accesses: Vec<Access>,
    digests: Digests,
    log: log::Lines,
    pending: VecDeque<(SessionId, Event)>,
    starved: Vec<SessionId>,
    /// Sessions with a server connection.
    servers_in_use: usize,
    /// Connects that found no descriptor free, while some are about to be.
    late: Vec<(SessionId, Leg)>,
    accept: accept::Accept,
    drain: drain::Drain,
}

impl<I: Io> Worker<I> {
    /// A worker with its ring. `seed` is where its random choices start.
    pub fn new(id: WorkerId, io: I, shared: Arc<Shared>, seed: u64) -> Self {
        let edition = shared.edition();
        let config = edition.config.clone();
        shared.seat(id).take(edition.number);
        shared.seat(id).set_waker(io.waker());
        let accept = accept::Accept::new(&config, shared.workers());
        Self {
            id,
            io,
            sessions: Sessions::with_capacity(accept.share()),
            owners: Owners::with_capacity(2 * accept.share()),
            idle: IdleStore::new(config.servers.len()),
            heap: Heap::with_capacity(accept.share()),
            now: Moment::default(),
            date: Date::default(),
            chance: seed | 1,
            done: Vec::new(),
            ops: Vec::new(),
            accesses: Vec::new(),
            digests: Digests::default(),
            log: log::Lines::default(),
            pending: VecDeque::new(),
            starved: Vec::new(),
            servers_in_use: 0,
            late: Vec::new(),
            accept,
            drain: drain::Drain::default(),
            editions: Editions::new(edition),
            sweep_doors: Moment::NEVER,
            retiring: Vec::new(),
            shared,
        }
    }

    /// Opens all listeners. Errors carry advice.
    pub fn listen(&mut self) -> io::Result<()> {
        self.open_listeners(self.editions.current())
    }

    /// Runs until it has drained.
    pub fn run(&mut self) -> io::Result<()> {
        while self.turn()? {}
        Ok(())
    }

    /// One turn: waits for something to happen and handles it. False when the worker has drained.
    pub fn turn(&mut self) -> io::Result<bool> {
        let until = self.next_wake();
        let mut done = std::mem::take(&mut self.done);
        self.io.crowd(self.servers_in_use);
        self.now = self.io.turn(until, &mut done)?;
        self.counters().add(Count::Turns, 1);
        if self.date.refresh(self.now) {
            self.note_load();
        }
        for happening in done.drain(..) {
            self.on_done(happening);
        }
        self.done = done;
        self.connect_late();
        self.run_deadlines();
        self.run_retiring();
        self.feed_starved();
        self.sweep_idle();
        self.resume_accepting();
        let over = self.run_drain();
        self.hand_log_over(over);
        Ok(!over)
    }

    /// Once per second: what shows how busy the worker is.
    fn note_load(&mut self) {
        let lent = self.io.lent() as u64;
        let pool = self.io.pool();
        let (made, free) = (pool.made() as u64, pool.free() as u64);
        let seat = self.shared.seat(self.id);
        seat.counters.set(Count::Pages, made);
        seat.counters.set(Count::PagesFree, free);
        seat.counters.set(Count::PagesLent, lent);
        seat.set_busy(clock::thread_time());
    }

    /// The counters of this worker.
    pub fn counters(&self) -> &Counters {
        &self.shared.seat(self.id).counters
    }

    /// The configuration that new sessions live by.
    fn config(&self) -> &Arc<Config> {
        &self.editions.get(self.editions.current()).config
    }

    /// Editions that sessions live by.
    pub fn editions(&self) -> usize {
        self.editions.held()
    }

    /// Sessions that live.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Sockets that the ring has not closed yet.
    pub const fn sockets(&self) -> usize {
        self.owners.open()
    }

    /// The ring.
    pub const fn io(&mut self) -> &mut I {
        &mut self.io
    }

    /// Checks that free + lent + held pages are all pages (rule 4). To be called between turns.
    pub fn check_pages(&mut self) -> bool {
        let held: usize = self.sessions.pages() + self.idle.pages();
        let lent = self.io.lent();
        let pool = self.io.pool();
        pool.free() + lent + held == pool.made()
    }

    fn next_wake(&mut self) -> Moment {
        let session = self.heap.earliest();
        let retiring = self.retiring.first().map_or(Moment::NEVER, |(at, _)| *at);
        let rare = self.log.due().min(retiring).min(self.sweep_doors).min(self.drain.next_wake(self.now));
        session.min(self.idle.next_sweep()).min(self.accept.again()).min(rare)
    }

    fn on_done(&mut self, done: Done) {
        match done {
            Done::Accepted { listener, sock, ends } => self.on_accepted(listener, sock, ends),
            Done::AcceptFailed { listener, errno } => self.on_accept_failed(listener, errno),
            Done::Connected { sock } => self.forward(sock, Event::Connected),
            Done::Received { sock, chain } => match self.owners.get(sock) {
                Owner::Session(id, leg) => self.tell(id, Event::Received(leg, chain)),
                Owner::Idle(server) => self.idle_received(server, sock, chain),
                Owner::Nobody | Owner::Waiting => self.io.pool().give_chain(chain),
            },
            Done::Sent { sock, chain, bytes } => match self.owners.get(sock) {
                Owner::Session(id, leg) => self.tell(id, Event::Sent(leg, chain, bytes)),
                Owner::Idle(_) | Owner::Nobody | Owner::Waiting => self.io.pool().give_chain(chain),
            },
            Done::Eof { sock } => self.forward_or_drop(sock, Event::Eof),
            Done::Failed { sock, what: Failure::Connect, errno } => {
                // The socket is of no use: it is closed here, the session is told why.
                let owner = self.owners.get(sock);
                self.close_sock(sock);
                if let Owner::Session(id, leg) = owner {
                    self.forget_back(id, leg);
                    self.tell(id, Event::Refused(leg, errno));
                }
            }
            Done::Failed { sock, what: Failure::Recv, errno } => {
                self.forward_or_drop(sock, |leg| Event::Failed(leg, errno));
            }
            Done::Failed { sock, what: Failure::Send, errno } => {
                self.forward_or_drop(sock, |leg| Event::SendFailed(leg, errno));
            }
            Done::Closed { sock } => self.owners.closed(sock),
            Done::Woken => self.on_woken(),
        }
    }

    fn forward(&mut self, sock: SockId, event: impl FnOnce(Leg) -> Event) {
        if let Owner::Session(id, leg) = self.owners.get(sock) {
            self.tell(id, event(leg));
        }
    }

    /// Tells the session that owns a socket; an unused server connection is closed instead.
    fn forward_or_drop(&mut self, sock: SockId, event: impl FnOnce(Leg) -> Event) {
        match self.owners.get(sock) {
            Owner::Session(id, leg) => self.tell(id, event(leg)),
            Owner::Idle(server) => {
                if let Some(mut parked) = self.idle.remove(server, sock) {
                    parked.kept.conn.clear(self.io.pool());
                }
                self.close_sock(sock);
            }
            Owner::Nobody | Owner::Waiting => {}
        }
    }

    /// Something came on an unused server connection: a TLS ticket is fine, anything else ends it.
    fn idle_received(&mut self, server: ServerId, sock: SockId, chain: Chain) {
        let pool = self.io.pool();
        let Some(parked) = self.idle.get_mut(server, sock) else {
            pool.give_chain(chain);
            return;
        };
        let conn = &mut parked.kept.conn;
        // Without TLS nothing may come: the bytes go home with the connection.
        let fine = conn.received(chain, pool).is_ok();
        if fine && conn.pipe().is_some() && conn.inbox.is_empty() && !conn.is_eof() && conn.pending() == 0 {
            conn.note_receiving();
            self.io.recv(sock);
            return;
        }
        if let Some(mut parked) = self.idle.remove(server, sock) {
            parked.kept.conn.clear(self.io.pool());
        }
        self.close_sock(sock);
    }

    /// Tells a session what happened, pumps it, and does what it wants; then whatever followed from that.
    fn tell(&mut self, id: SessionId, event: Event) {
        self.tell_once(id, event);
        self.run_pending();
    }

    fn run_pending(&mut self) {
        while let Some((id, event)) = self.pending.pop_front() {
            self.tell_once(id, event);
        }
    }

    fn tell_once(&mut self, id: SessionId, event: Event) {
        let Some(entry) = self.sessions.get_mut(id) else {
            event.discard(self.io.pool());
            return;
        };
        let mut ops = std::mem::take(&mut self.ops);
        self.chance = next_chance(self.chance);
        let slot = entry.edition;
        let edition = self.editions.get(slot);
        let mut cx = Cx {
            now: self.now,
            worker: self.id,
            me: id,
            config: &edition.config,
            balancer: &edition.balancer,
            clusters: &edition.clusters,
            counters: &self.shared.seat(self.id).counters,
            pool: self.io.pool(),
            ops: &mut ops,
            accesses: &mut self.accesses,
            digests: &mut self.digests,
            date: self.date.text(),
            chance: self.chance,
            draining: self.drain.is_on() || entry.retires.is_set(),
            behind: slot != self.editions.current() && !entry.retires.is_set(),
            starved: false,
        };
        let follows = entry.session.on(event, &mut cx);
        if follows || cfg!(debug_assertions) {
            entry.session.pump(&mut cx);
            debug_assert!(
                follows || (cx.ops.is_empty() && !cx.starved),
                "nothing was to follow: {:?}",
                cx.ops
            );
        }
        if !follows {
            self.ops = ops;
            return;
        }
        let starved = cx.starved;
        if !self.accesses.is_empty() {
            self.note_accesses(slot);
        }
        self.after(id, ops, starved);
    }

    /// Counts the exchanges that are over; `slot` is the edition that their session lives by.
    fn note_accesses(&mut self, slot: EditionSlot) {
        let meters = &self.editions.get(slot).meters;
        self.accesses.iter().for_each(|access| meters.note(self.id, access));
        self.log_accesses(slot);
        self.accesses.clear();
    }

    /// Does what a session wants after it was told something.
    fn after(&mut self, id: SessionId, mut ops: Vec<Op>, starved: bool) {
        let Some(entry) = self.sessions.get_mut(id) else { return };
        let (over, deadline) = (entry.session.is_over(), entry.session.deadline());
        let stays = entry.edition == self.editions.current() || entry.retires.is_set();
        if starved && !over && !entry.starved {
            entry.starved = true;
            self.starved.push(id);
            self.shared.seat(self.id).counters.add(Count::PagesStarved, 1);
        }
        if deadline < entry.armed {
            entry.armed = deadline;
            self.heap.push(deadline, id);
        }
        for op in ops.drain(..) {
            self.apply(id, op);
        }
        self.ops = ops;
        if over {
            self.end_session(id);
        } else if !stays && self.follow(id) {
            // The next request may have come already.
            self.pending.push_back((id, Event::Tick));
        }
    }

    fn apply(&mut self, id: SessionId, op: Op) {
        match op {
            Op::Recv(leg) => {
                if let Some(sock) = self.sock_of(id, leg) {
                    self.io.recv(sock);
                }
            }
            Op::Send(leg, chain) => match self.sock_of(id, leg) {
                Some(sock) => self.io.send(sock, chain),
                None => self.io.pool().give_chain(chain),
            },
            Op::Shut(leg) => {
                if let Some(sock) = self.sock_of(id, leg) {
                    self.io.shut(sock);
                }
            }
            Op::Close(leg) => {
                if let Some(sock) = self.take_sock(id, leg) {
                    self.close_sock(sock);
                }
            }
            Op::Reset(leg) => {
                if let Some(sock) = self.take_sock(id, leg) {
                    self.owners.set(sock, Owner::Nobody);
                    self.io.reset(sock);
                }
            }
            Op::Connect(leg, server, reuse) => self.connect(id, leg, server, reuse),
            Op::Park(leg, server, kept) => self.park(id, leg, server, kept),
            Op::Wake(waiter) if waiter.worker == self.id => {
                self.pending.push_back((waiter.session, Event::Turn));
            }
            Op::Wake(waiter) => self.shared.seat(waiter.worker).mail(waiter.session),
        }
    }

    fn connect(&mut self, id: SessionId, leg: Leg, server: ServerId, reuse: Reuse) {
        let Some(entry) = self.sessions.get(id) else { return };
        let kept = match self.editions.moves(entry.edition) {
            None => Some(server),
            Some(moves) => moves.kept(server),
        };
        let edition = self.editions.get(entry.edition).clone();
        if let Some(parked) = kept.and_then(|server| self.idle.take(server, reuse, self.now)) {
            self.owners.set(parked.sock, Owner::Session(id, leg));
            self.set_back(id, leg, parked.sock);
            self.pending.push_back((id, Event::Adopted(leg, parked.kept)));
            return;
        }
        if self.owners.open() - self.owners.closing() >= self.accept.sockets_max() {
            self.close_oldest_idle();
        }
        if let (Reuse::Login(..), Some(server)) = (reuse, kept) {
            self.make_room(server);
        }
        match self.io.connect(&edition.config.servers[server.index()].address) {
            Ok(sock) => {
                self.owners.opened(sock, Owner::Session(id, leg));
                self.set_back(id, leg, sock);
            }
            Err(errno)
                if errno.is_out_of_descriptors()
                    && (self.close_oldest_idle() || self.owners.closing() > 0) =>
            {
                self.late.push((id, leg));
            }
            Err(errno) => self.pending.push_back((id, Event::Refused(leg, errno))),
        }
    }

    /// Tries the connects again that found no descriptor: one for each that was closed meanwhile.
    fn connect_late(&mut self) {
        for (id, leg) in std::mem::take(&mut self.late) {
            // The session may have gone over to another edition: only it knows its server's id there.
            if let Some(server) = self.sessions.get(id).and_then(|entry| entry.session.server_of(leg)) {
                self.connect(id, leg, server, Reuse::Never);
            }
        }
        self.run_pending();
    }

    fn run_deadlines(&mut self) {
        while let Some((at, id)) = self.heap.pop_due(self.now) {
            let Some(entry) = self.sessions.get_mut(id) else { continue };
            if entry.armed != at {
                continue;
            }
            entry.armed = Moment::NEVER;
            let deadline = entry.session.deadline();
            if deadline <= self.now {
                self.tell(id, Event::Tick);
            } else if deadline.is_set() {
                entry.armed = deadline;
                self.heap.push(deadline, id);
            }
        }
    }

    /// Pages are back: those that waited for them go on.
    fn feed_starved(&mut self) {
        if self.starved.is_empty() || self.io.pool().available() < STARVED_PAGES_MIN {
            return;
        }
        for id in std::mem::take(&mut self.starved) {
            if let Some(entry) = self.sessions.get_mut(id) {
                entry.starved = false;
                self.tell(id, Event::Tick);
            }
        }
    }

    fn on_woken(&mut self) {
        let shared = self.shared.clone();
        let seat = shared.seat(self.id);
        for id in seat.take_mail() {
            self.tell(id, Event::Turn);
        }
        let edition = shared.edition();
        if edition.number != seat.taken() {
            let number = edition.number;
            self.take_edition(edition);
            seat.take(number);
        }
        for ask in seat.take_asks() {
            match ask {
                Ask::Sessions(max, reply) => reply(self.views(max)),
                Ask::Digests(reply) => reply(self.digests.tables()),
                Ask::Doors(reply) => reply(self.copy_doors()),
            }
        }
        match seat.orders() {
            Orders::Run => {}
            Orders::Leave => self.begin_drain(true),
            Orders::Drain => self.begin_drain(false),
            Orders::Kill => self.kill(),
        }
    }

    fn end_session(&mut self, id: SessionId) {
        if let Some(entry) = self.sessions.remove(id) {
            debug_assert!(entry.backs.is_empty(), "a session ended with a server connection");
            debug_assert_eq!(entry.session.pages(), 0, "a session ended with pages");
            self.counters().sub(Count::Open, 1);
            self.editions.get(entry.edition).meters.listener(entry.listener).leave(self.id);
            self.editions.leave(entry.edition);
            if let Some(client) = entry.counted {
                self.shared.clients.leave(client);
            }
        }
    }

    fn close_sock(&mut self, sock: SockId) {
        self.owners.set(sock, Owner::Nobody);
        self.io.close(sock);
    }

    fn sock_of(&self, id: SessionId, leg: Leg) -> Option<SockId> {
        let entry = self.sessions.get(id)?;
        match leg {
            Leg::Front => entry.front,
            Leg::Back(_) => entry.backs.get(leg),
        }
    }

    fn take_sock(&mut self, id: SessionId, leg: Leg) -> Option<SockId> {
        self.late.retain(|late| *late != (id, leg));
        let sock = self.sock_of(id, leg)?;
        let entry = self.sessions.get_mut(id)?;
        match leg {
            Leg::Front => entry.front = None,
            Leg::Back(_) => {
                entry.backs.take(leg);
                self.servers_in_use -= 1;
            }
        }
        Some(sock)
    }

    fn set_back(&mut self, id: SessionId, leg: Leg, sock: SockId) {
        if let Some(entry) = self.sessions.get_mut(id) {
            entry.backs.put(leg, sock);
            self.servers_in_use += 1;
        }
    }

    fn forget_back(&mut self, id: SessionId, leg: Leg) {
        let _ = self.take_sock(id, leg);
    }
}
