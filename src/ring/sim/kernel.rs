//! The simulated kernel of one worker: `trait Io` over the simulated world.
//!
//! What goes in: the calls of a worker. What comes out of `turn`: completions, with the awkward sizes, orders, delays
//! and failures that the world's faults ask for. It owns the worker's pool, the chains that are being sent and the
//! pieces that were received ahead. Always true: the numbered rules of `ring/mod.rs`, asserted on the caller.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::buf::{Chain, Chunk, Pool};
use crate::clock::Moment;
use crate::ids::{ListenerId, SockId};
use crate::net::{Address, Errno};
use crate::ring::{Done, Failure, Io, ListenOptions, Wake};

use super::hosts::{Due, Host, Life, Listener, Listening, Op, Socket};
use super::moves::{put, read, short, sock_of, tell_reset};
use super::state::{AddressKey, Event, State};
use super::wire::{Owner, Side};

/// Pieces that are received ahead of the caller, per socket.
const AHEAD_MAX: usize = 3;

/// A worker's kernel in a simulated world. Made by [`super::World::host`].
pub struct Sim {
    world: Rc<RefCell<State>>,
    me: usize,
    pool: Pool,
    chains: HashMap<SockId, Chain>,
    ahead: HashMap<SockId, VecDeque<Chunk>>,
    ahead_pages: usize,
    starving: VecDeque<SockId>,
    starved: u64,
    woken: Arc<AtomicBool>,
    /// Server connections in use, as the worker said.
    crowd: usize,
}

struct Flag(Arc<AtomicBool>);

impl Wake for Flag {
    fn wake(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Sim {
    pub(super) fn new(world: Rc<RefCell<State>>, pages_max: usize) -> Self {
        let woken = Arc::new(AtomicBool::new(false));
        let me = {
            let mut state = world.borrow_mut();
            state.hosts.push(Host::new(Arc::clone(&woken), pages_max));
            state.hosts.len() - 1
        };
        Self {
            world,
            me,
            pool: Pool::new(pages_max),
            chains: HashMap::new(),
            ahead: HashMap::new(),
            ahead_pages: 0,
            starving: VecDeque::new(),
            starved: 0,
            woken,
            crowd: 0,
        }
    }

    /// The number of this worker in its world, for [`super::World::report`].
    pub const fn number(&self) -> usize {
        self.me
    }

    fn starts_close(&mut self, sock: SockId, with_reset: bool) {
        let mut state = self.world.borrow_mut();
        let wait = state.lag();
        let host = &mut state.hosts[self.me];
        assert!(sock.index() < host.sockets.len(), "close of a socket that never was: {sock:?}");
        let Some(socket) = host.socket(sock) else { return };
        if matches!(socket.life, Life::Closing { .. }) {
            return;
        }
        socket.life = Life::Closing { with_reset };
        let conn = socket.conn;
        state.trace(|| format!("host {} c{conn}: asks to close (reset {with_reset})", self.me));
        state.after(wait, Event::Op(self.me, Due::Close(sock)));
    }

    // Completions.

    fn complete(&mut self, state: &mut State, due: Due, done: &mut Vec<Done>) {
        let before = done.len();
        match due {
            Due::Accept(listener) => self.accepted(state, listener, done),
            Due::Stand(sock, errno) => self.stood(state, sock, errno, done),
            Due::Recv(sock) => self.received(state, sock, done),
            Due::Send(sock) => self.sent(state, sock, done),
            Due::Close(sock) => self.closed(state, sock, done),
        }
        state.hosts[self.me].report.completions += (done.len() - before) as u64;
        for done in &done[before..] {
            let conn = sock_of(done).map(|sock| state.hosts[self.me].sockets[sock.index()].conn);
            state.trace(|| {
                format!(
                    "host {}{}: {}",
                    self.me,
                    conn.map_or(String::new(), |c| format!(" c{c}")),
                    short(done)
                )
            });
        }
    }

    fn accepted(&self, state: &mut State, id: ListenerId, done: &mut Vec<Done>) {
        let Some(at) = state.hosts[self.me].listeners.iter().position(|listener| listener.id == id) else {
            return;
        };
        let accept_fails = state.faults.accept_fails;
        let fails = state.faults.hurts_clients && state.random.chance(accept_fails);
        let allowed = state.hosts[self.me].allowed;
        // One more than allowed may have been on its way.
        let many =
            if allowed == 0 { state.random.between(0, 1) } else { state.random.between(1, 4).min(allowed) };
        let listener = &mut state.hosts[self.me].listeners[at];
        listener.scheduled = false;
        let closing = listener.life == Listening::Closing;
        if listener.life == Listening::Paused {
            return;
        }
        if fails && !closing && !listener.queue.is_empty() {
            listener.life = Listening::Paused;
            state.injected.accepts_failed += 1;
            done.push(Done::AcceptFailed { listener: id, errno: Errno(libc::EMFILE) });
            return;
        }
        let count = if closing { listener.queue.len() } else { many.min(listener.queue.len()) };
        let taken: Vec<usize> = listener.queue.drain(..count).collect();
        let allowed = &mut state.hosts[self.me].allowed;
        if *allowed != usize::MAX {
            *allowed = allowed.saturating_sub(taken.len());
        }
        for conn in taken {
            let sock = state.hosts[self.me].admit(conn, Side::Callee, Life::Open);
            let whole = &mut state.conns[conn];
            whole.ends[1].owner = Owner::Host(self.me, sock);
            whole.ends[1].stands = true;
            done.push(Done::Accepted { listener: id, sock, ends: whole.addresses });
        }
        if closing {
            state.hosts[self.me].listeners.remove(at);
            state.hosts[self.me].report.listeners -= 1;
        } else {
            state.poke_listener(self.me, at);
        }
    }

    fn stood(&self, state: &mut State, sock: SockId, errno: i32, done: &mut Vec<Done>) {
        let Some(socket) = state.hosts[self.me].socket(sock) else { return };
        if socket.life != Life::Connecting {
            return;
        }
        if errno == 0 {
            socket.life = Life::Open;
            done.push(Done::Connected { sock });
        } else {
            socket.life = Life::Refused;
            done.push(Done::Failed { sock, what: Failure::Connect, errno: Errno(errno) });
        }
    }

    fn received(&mut self, state: &mut State, sock: SockId, done: &mut Vec<Done>) {
        let Some(socket) = state.hosts[self.me].socket(sock) else { return };
        if socket.life != Life::Open || socket.recv != Op::Scheduled {
            return;
        }
        let (conn, side) = (socket.conn, socket.side);
        if let Some(ahead) = self.ahead.get_mut(&sock)
            && !ahead.is_empty()
        {
            self.ahead_pages -= ahead.len();
            let chain = ahead.drain(..).collect();
            socket.recv = Op::Idle;
            done.push(Done::Received { sock, chain });
            return;
        }
        let whole = &mut state.conns[conn];
        if whole.towards(side).arrived > 0 {
            let Some(page) = self.pool.take() else {
                self.starved += 1;
                self.starving.push_back(sock);
                state.trace(|| format!("{sock:?}: no page for a receive"));
                return;
            };
            let chunk = read(state, conn, side, page);
            let chain = self.receive_more(state, chunk, conn, side);
            done.push(Done::Received { sock, chain });
            self.receive_ahead(state, sock, conn, side);
            self.socket_done(state, sock, |socket| socket.recv = Op::Idle);
            state.poke(conn, side.across());
            state.strike(conn, side);
        } else if let Some(errno) = whole.ends[side as usize].reset {
            self.socket_done(state, sock, |socket| (socket.recv, socket.recv_over) = (Op::Idle, true));
            if tell_reset(state, conn, side) {
                done.push(Done::Failed { sock, what: Failure::Recv, errno });
            } else {
                done.push(Done::Eof { sock });
            }
        } else if whole.towards(side).fin_arrived {
            self.socket_done(state, sock, |socket| (socket.recv, socket.recv_over) = (Op::Idle, true));
            done.push(Done::Eof { sock });
        } else {
            socket.recv = Op::Waiting;
        }
    }

    /// Several pieces may have come at once.
    fn receive_more(&mut self, state: &mut State, first: Chunk, conn: usize, side: Side) -> Chain {
        let mut chain = Chain::from(first);
        let read_ahead = state.faults.read_ahead;
        while state.conns[conn].towards(side).arrived > 0
            && !chain.is_full()
            && self.pool.available() > 1
            && state.random.chance(read_ahead / 2)
        {
            let Some(page) = self.pool.take() else { break };
            if let Err(chunk) = chain.push(read(state, conn, side, page)) {
                unreachable!("{} bytes for a full chain", chunk.len());
            }
        }
        chain
    }

    /// The ring may receive more than was asked for: it waits here until the caller asks.
    fn receive_ahead(&mut self, state: &mut State, sock: SockId, conn: usize, side: Side) {
        let read_ahead = state.faults.read_ahead;
        while state.conns[conn].towards(side).arrived > 0
            && self.ahead.get(&sock).is_none_or(|ahead| ahead.len() < AHEAD_MAX)
            && self.pool.available() > 1
            && state.random.chance(read_ahead)
        {
            let Some(page) = self.pool.take() else { return };
            let chunk = read(state, conn, side, page);
            self.ahead.entry(sock).or_default().push_back(chunk);
            self.ahead_pages += 1;
        }
    }

    fn sent(&mut self, state: &mut State, sock: SockId, done: &mut Vec<Done>) {
        let Some(socket) = state.hosts[self.me].socket(sock) else { return };
        if socket.life != Life::Open || socket.send != Op::Scheduled {
            return;
        }
        let (conn, side) = (socket.conn, socket.side);
        let send_fails = state.faults.send_fails;
        let struck = state.may_hurt(conn) && state.random.chance(send_fails);
        if struck && state.conns[conn].ends[side as usize].reset.is_none() {
            state.inject_reset(conn, side);
        }
        let space = state.conns[conn].pipes[side as usize].space();
        if state.conns[conn].ends[side as usize].reset.is_some() {
            if let Some(chain) = self.chains.remove(&sock) {
                self.pool.give_chain(chain);
            }
            self.socket_done(state, sock, |socket| (socket.send, socket.send_over) = (Op::Idle, true));
            let first = tell_reset(state, conn, side);
            let errno = Errno(if first { libc::ECONNRESET } else { libc::EPIPE });
            done.push(Done::Failed { sock, what: Failure::Send, errno });
        } else if space == 0 {
            self.socket_done(state, sock, |socket| socket.send = Op::Waiting);
        } else if let Some(chain) = self.chains.remove(&sock) {
            let short_sends = state.faults.short_sends;
            let mut bytes = space.min(chain.len());
            if state.random.chance(short_sends) {
                bytes = state.random.between(1, bytes);
            }
            put(state, conn, side, &chain, bytes);
            self.socket_done(state, sock, |socket| socket.send = Op::Idle);
            done.push(Done::Sent { sock, chain, bytes });
            state.strike(conn, side);
        }
    }

    fn closed(&mut self, state: &mut State, sock: SockId, done: &mut Vec<Done>) {
        let Some(socket) = state.hosts[self.me].socket(sock) else { return };
        let Life::Closing { with_reset } = socket.life else { return };
        let (conn, side) = (socket.conn, socket.side);
        if let Some(chain) = self.chains.remove(&sock) {
            // A send that was cancelled may have done a part of its work.
            let space = state.conns[conn].pipes[side as usize].space();
            let bytes = state.random.between(0, space.min(chain.len()));
            if state.conns[conn].ends[side as usize].reset.is_none() {
                put(state, conn, side, &chain, bytes);
            }
            self.pool.give_chain(chain);
        }
        for chunk in self.ahead.remove(&sock).into_iter().flatten() {
            self.ahead_pages -= 1;
            self.pool.give(chunk.into_page());
        }
        state.hang_up(conn, side, with_reset);
        state.hosts[self.me].dismiss(sock);
        done.push(Done::Closed { sock });
    }

    fn socket_done(&self, state: &mut State, sock: SockId, change: impl FnOnce(&mut Socket)) {
        if let Some(socket) = state.hosts[self.me].socket(sock) {
            change(socket);
        }
    }

    /// Completes whatever is due; receives that found no page are tried again when there is one.
    fn collect(&mut self, state: &mut State, done: &mut Vec<Done>) {
        loop {
            while let Some(due) = state.hosts[self.me].due.pop_front() {
                self.complete(state, due, done);
            }
            if self.starving.is_empty() || self.pool.available() == 0 {
                return;
            }
            if let Some(sock) = self.starving.pop_front() {
                self.complete(state, Due::Recv(sock), done);
            }
        }
    }

    fn publish(&self, state: &mut State) {
        let lent = self.lent();
        let (free, made, max) = (self.pool.free(), self.pool.made(), self.pool.max());
        assert!(
            free + lent <= made && made <= max,
            "pages: {free} free and {lent} lent of {made} (at most {max})"
        );
        let report = &mut state.hosts[self.me].report;
        (report.pages_free, report.pages_made, report.pages_lent) = (free, made, lent);
    }
}

impl Io for Sim {
    fn listen(&mut self, id: ListenerId, address: &Address, options: &ListenOptions) -> io::Result<()> {
        let mut state = self.world.borrow_mut();
        if state.serving.contains_key(&AddressKey::from(address)) {
            return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
        }
        let host = &mut state.hosts[self.me];
        assert!(host.listeners.iter().all(|listener| listener.id != id), "{id:?} listens already");
        host.listeners.push(Listener {
            id,
            address: address.clone(),
            life: Listening::Accepting,
            backlog: usize::try_from(options.backlog.max(1)).unwrap_or(1),
            queue: VecDeque::new(),
            scheduled: false,
        });
        host.report.listeners += 1;
        Ok(())
    }

    fn accept(&mut self, id: ListenerId) {
        let mut state = self.world.borrow_mut();
        let listeners = &mut state.hosts[self.me].listeners;
        let Some(at) = listeners.iter().position(|listener| listener.id == id) else { return };
        if listeners[at].life == Listening::Paused {
            listeners[at].life = Listening::Accepting;
            state.poke_listener(self.me, at);
        }
    }

    fn pause(&mut self, id: ListenerId) {
        let mut state = self.world.borrow_mut();
        for listener in &mut state.hosts[self.me].listeners {
            if listener.id == id && listener.life == Listening::Accepting {
                listener.life = Listening::Paused;
            }
        }
    }

    fn allow(&mut self, connections: usize) {
        let mut state = self.world.borrow_mut();
        state.hosts[self.me].allowed = connections;
        for at in 0..state.hosts[self.me].listeners.len() {
            state.poke_listener(self.me, at);
        }
    }

    fn unlisten(&mut self, id: ListenerId) {
        let mut state = self.world.borrow_mut();
        let me = self.me;
        let Some(at) = state.hosts[me].listeners.iter().position(|listener| listener.id == id) else {
            return;
        };
        if state.hosts[me].listeners[at].life != Listening::Closing {
            state.lose_queued(me, at);
            let listener = &mut state.hosts[me].listeners[at];
            (listener.life, listener.scheduled) = (Listening::Closing, true);
            state.hosts[me].due.push_back(Due::Accept(id));
        }
    }

    fn connect(&mut self, to: &Address) -> Result<SockId, Errno> {
        let mut state = self.world.borrow_mut();
        let no_descriptors = state.faults.connect_no_descriptors;
        if state.faults.hurts_servers && state.random.chance(no_descriptors) {
            state.injected.no_descriptors += 1;
            return Err(Errno(libc::EMFILE));
        }
        let conn = state.connect(Owner::Waiting, to, None);
        let sock = state.hosts[self.me].admit(conn, Side::Caller, Life::Connecting);
        state.conns[conn].ends[0].owner = Owner::Host(self.me, sock);
        state.trace(|| format!("host {} c{conn}: connects", self.me));
        state.knock_later(conn);
        Ok(sock)
    }

    fn recv(&mut self, sock: SockId) {
        let mut state = self.world.borrow_mut();
        let Some(socket) = state.hosts[self.me].socket(sock) else {
            panic!("recv on a closed socket: {sock:?}")
        };
        assert!(socket.life == Life::Open, "recv on a socket that is {:?}: {sock:?}", socket.life);
        assert!(socket.recv == Op::Idle, "a second receive: {sock:?}");
        assert!(!socket.recv_over, "a receive after the end or a failure: {sock:?}");
        if self.ahead.get(&sock).is_some_and(|ahead| !ahead.is_empty()) {
            socket.recv = Op::Scheduled;
            let wait = state.lag();
            state.after(wait, Event::Op(self.me, Due::Recv(sock)));
        } else {
            socket.recv = Op::Waiting;
            state.poke_socket(self.me, sock);
        }
    }

    fn send(&mut self, sock: SockId, chain: Chain) {
        let mut state = self.world.borrow_mut();
        let Some(socket) = state.hosts[self.me].socket(sock) else {
            panic!("send on a closed socket: {sock:?}")
        };
        assert!(socket.life == Life::Open, "send on a socket that is {:?}: {sock:?}", socket.life);
        assert!(socket.send == Op::Idle, "a second send: {sock:?}");
        assert!(!socket.shut, "a send after shut: {sock:?}");
        assert!(!socket.send_over, "a send after a failed one: {sock:?}");
        assert!(
            !chain.is_empty() && chain.chunks().iter().all(|chunk| !chunk.is_empty()),
            "an empty send: {sock:?}"
        );
        socket.send = Op::Waiting;
        self.chains.insert(sock, chain);
        state.poke_socket(self.me, sock);
    }

    fn shut(&mut self, sock: SockId) {
        let mut state = self.world.borrow_mut();
        let Some(socket) = state.hosts[self.me].socket(sock) else {
            panic!("shut of a closed socket: {sock:?}")
        };
        assert!(socket.life == Life::Open, "shut of a socket that is {:?}: {sock:?}", socket.life);
        assert!(socket.send == Op::Idle, "shut with a send in flight: {sock:?}");
        if socket.shut {
            return;
        }
        socket.shut = true;
        let (conn, side) = (socket.conn, socket.side);
        state.trace(|| format!("host {} c{conn}: shuts", self.me));
        if state.conns[conn].ends[side as usize].reset.is_none() {
            state.end_stream(conn, side);
        }
    }

    fn close(&mut self, sock: SockId) {
        self.starts_close(sock, false);
    }

    fn reset(&mut self, sock: SockId) {
        self.starts_close(sock, true);
    }

    fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    fn lent(&self) -> usize {
        self.ahead_pages + self.chains.values().map(|chain| chain.chunks().len()).sum::<usize>()
    }

    fn starved(&self) -> u64 {
        self.starved
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::new(Flag(Arc::clone(&self.woken)))
    }

    fn crowd(&mut self, in_use: usize) {
        self.crowd = in_use;
    }

    fn turn(&mut self, until: Moment, done: &mut Vec<Done>) -> io::Result<Moment> {
        let world = Rc::clone(&self.world);
        let mut state = world.borrow_mut();
        let state = &mut *state;
        state.hosts[self.me].report.until = until;
        self.publish(state);
        // The worker took some time for its work, and several things may have happened meanwhile.
        let (slow_turns, spurious_turns) = (state.faults.slow_turns, state.faults.spurious_turns);
        let worked = if state.random.chance(slow_turns) { 20_000_000 } else { 20_000 };
        let worked = Duration::from_nanos(state.random.below(worked));
        state.run_until(state.now + worked);
        self.collect(state, done);
        let mut spurious = state.random.chance(spurious_turns);
        loop {
            if self.woken.swap(false, Ordering::AcqRel) {
                done.push(Done::Woken);
            }
            if !done.is_empty() || spurious || state.now >= until || state.look || state.others_want(self.me)
            {
                break;
            }
            let limit = state.until();
            spurious = !state.step(limit);
            self.collect(state, done);
        }
        if self.crowd > 1 && !done.is_empty() && state.random.coin() {
            // Where much is going on, a turn may wait a moment for more.
            let moment = Duration::from_nanos(state.random.below(100_000));
            state.run_until(state.now + moment);
            self.collect(state, done);
        }
        self.publish(state);
        if !done.is_empty() || state.now >= until {
            // What the worker does now may change what it waits for: time stands still until it turns again.
            state.hosts[self.me].report.until = state.now;
        }
        Ok(state.now)
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        if let Ok(mut state) = self.world.try_borrow_mut() {
            state.exit(self.me);
        }
    }
}
