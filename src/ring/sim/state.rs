//! The simulated world itself: a clock, a queue of events, connections, and who holds their ends.
//!
//! What goes in: calls of kernels ([`super::Sim`]) and of actors ([`super::ActorIo`]). What comes out: completions for
//! hosts, happenings for actors. It owns every connection. Always true: time moves in `step` alone, from event to
//! event; the same seed and the same calls give the same run.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::time::Duration;

use crate::clock::Moment;
use crate::net::{Address, Ends, Errno};

use super::actor::{Actor, ActorIo, ConnId, Happening};
use super::faults::{Faults, Injected};
use super::hosts::{Due, Host};
use super::random::Random;
use super::wire::{Conn, Owner, Side};

/// Something that will happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// A stretch of bytes, or the end of a stream, arrives at a side.
    Arrive(usize, u8),
    /// A reset arrives at a side.
    Reset(usize, u8),
    /// A caller knocks at the address it wants to connect to.
    Knock(usize),
    /// A caller learns how its connect ended: 0 is success.
    Stand(usize, i32),
    /// An actor learns of a connection to it.
    Greet(usize),
    /// An actor reads.
    Read(usize, u8),
    /// An actor writes.
    Write(usize, u8),
    /// An actor's timer.
    Timer(usize, u64),
    /// An actor begins.
    Start(usize),
    /// An operation of a host completes.
    Op(usize, Due),
    /// Whoever runs the world wants to look at it.
    Look,
}

const fn side_of(index: u8) -> Side {
    if index == 0 { Side::Caller } else { Side::Callee }
}

/// Where the lines of a trace go.
pub type Tracer = Box<dyn FnMut(Moment, &str)>;

/// An event, when it happens, a random tie-breaker, and its number.
type Entry = Reverse<(Moment, u32, u64, Event)>;

/// Everything.
pub(super) struct State {
    pub(super) now: Moment,
    pub(super) random: Random,
    pub(super) faults: Faults,
    pub(super) injected: Injected,
    pub(super) conns: Vec<Conn>,
    pub(super) hosts: Vec<Host>,
    /// Addresses that actors listen on.
    pub(super) serving: BTreeMap<AddressKey, usize>,
    pub(super) actors: Vec<Option<Box<dyn Actor>>>,
    finished: Vec<bool>,
    /// Whoever runs the world is to look at it now: turns end at once.
    pub(super) look: bool,
    pub(super) look_when_finished: bool,
    events: BinaryHeap<Entry>,
    numbered: u64,
    tracer: Option<Tracer>,
}

/// An address as a key that has an order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AddressKey(String);

impl From<&Address> for AddressKey {
    fn from(address: &Address) -> Self {
        Self(address.to_string())
    }
}

impl State {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        Self {
            now: Moment(1_000_000_000),
            random: Random::new(seed),
            faults,
            injected: Injected::default(),
            conns: Vec::new(),
            hosts: Vec::new(),
            serving: BTreeMap::new(),
            actors: Vec::new(),
            finished: Vec::new(),
            look: false,
            look_when_finished: false,
            events: BinaryHeap::new(),
            numbered: 0,
            tracer: None,
        }
    }

    // Time.

    /// Lets `event` happen after `wait`.
    pub(super) fn after(&mut self, wait: Duration, event: Event) {
        self.at(self.now + wait, event);
    }

    pub(super) fn at(&mut self, at: Moment, event: Event) {
        self.numbered += 1;
        let tie = self.random.bits() as u32;
        self.events.push(Reverse((at, tie, self.numbered, event)));
    }

    /// Moves on to the next event if it is not later than `limit`, else to `limit`. False when there is no event and
    /// the limit is never: nothing will ever happen.
    pub(super) fn step(&mut self, limit: Moment) -> bool {
        match self.events.peek() {
            Some(Reverse((at, ..))) if *at <= limit => {
                if let Some(Reverse((at, _, _, event))) = self.events.pop() {
                    self.now = self.now.max(at);
                    self.happen(event);
                }
                true
            }
            _ if limit.is_set() => {
                self.now = self.now.max(limit);
                true
            }
            _ => false,
        }
    }

    /// Lets everything happen up to `until`.
    pub(super) fn run_until(&mut self, until: Moment) {
        while self.now < until {
            self.step(until);
        }
    }

    /// Events that are under way.
    pub(super) fn pending(&self) -> usize {
        self.events.len()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive(conn, side) => self.arrive(conn, side_of(side)),
            Event::Reset(conn, side) => self.reset_arrives(conn, side_of(side)),
            Event::Knock(conn) => self.knock(conn),
            Event::Stand(conn, errno) => self.stand(conn, errno),
            Event::Greet(conn) => self.greet(conn),
            Event::Read(conn, side) => self.actor_reads(conn, side_of(side)),
            Event::Write(conn, side) => self.actor_writes(conn, side_of(side)),
            Event::Timer(actor, token) => self.tell(actor, Happening::Timer(token)),
            Event::Start(actor) => self.tell(actor, Happening::Start),
            Event::Look => self.look = true,
            Event::Op(host, due) => {
                if !self.hosts[host].gone {
                    self.hosts[host].due.push_back(due);
                }
            }
        }
    }

    /// The time that something travels.
    pub(super) fn latency(&mut self) -> Duration {
        let (low, high) = self.faults.latency;
        self.random.time(low, high)
    }

    // The trace.

    pub(super) fn on_trace(&mut self, tracer: Tracer) {
        self.tracer = Some(tracer);
    }

    pub(super) fn trace(&mut self, line: impl FnOnce() -> String) {
        if let Some(tracer) = &mut self.tracer {
            tracer(self.now, &line());
        }
    }

    // Actors.

    pub(super) fn add(&mut self, actor: Box<dyn Actor>, wait: Duration) {
        self.actors.push(Some(actor));
        self.finished.push(false);
        self.after(wait, Event::Start(self.actors.len() - 1));
    }

    pub(super) fn finish(&mut self, actor: usize) {
        self.finished[actor] = true;
        self.look |= self.look_when_finished && self.busy() == 0;
    }

    pub(super) fn busy(&self) -> usize {
        self.finished.iter().filter(|finished| !**finished).count()
    }

    pub(super) fn actor_timer(&mut self, actor: usize, wait: Duration, token: u64) {
        self.after(wait, Event::Timer(actor, token));
    }

    pub(super) fn serve(&mut self, address: &Address, actor: usize) {
        self.serving.insert(address.into(), actor);
    }

    pub(super) fn tell(&mut self, actor: usize, what: Happening<'_>) {
        let Some(mut told) = self.actors[actor].take() else { return };
        self.trace(|| match &what {
            Happening::Data(conn, bytes) => {
                format!("actor {actor} <- c{} {} bytes", conn.number(), bytes.len())
            }
            Happening::Accepted { conn, .. } => format!("actor {actor} <- c{} Accepted", conn.number()),
            Happening::Connected(conn) => format!("actor {actor} <- c{} Connected", conn.number()),
            Happening::Refused(conn, errno) => {
                format!("actor {actor} <- c{} Refused: {errno}", conn.number())
            }
            Happening::Eof(conn) => format!("actor {actor} <- c{} Eof", conn.number()),
            Happening::Reset(conn, errno) => format!("actor {actor} <- c{} Reset: {errno}", conn.number()),
            Happening::Flushed(conn) => format!("actor {actor} <- c{} Flushed", conn.number()),
            Happening::Start | Happening::Timer(_) => format!("actor {actor} <- {what:?}"),
        });
        told.on(&mut ActorIo { state: self, me: actor }, what);
        self.actors[actor] = Some(told);
    }

    // Connecting.

    /// A new connection that wants to go to `to`.
    pub(super) fn connect(&mut self, caller: Owner, to: &Address, from: Option<SocketAddr>) -> usize {
        let index = self.conns.len();
        let (low, high) = self.faults.buffer_bytes;
        let capacity = [self.random.between(low, high), self.random.between(low, high)];
        let ends = match to {
            Address::Tcp(local) => {
                let port = 1024 + (index % 60_000) as u16;
                let client = from.unwrap_or_else(|| SocketAddr::from(([10, 9, 8, 7], port)));
                Ends { client: Some(client), local: Some(*local) }
            }
            Address::Unix(_) => Ends { client: None, local: None },
        };
        self.conns.push(Conn::new(caller, to.clone(), ends, capacity));
        self.trace(|| format!("c{index}: {caller:?} wants {to}"));
        index
    }

    pub(super) fn knock_later(&mut self, conn: usize) {
        let wait = self.latency();
        self.after(wait, Event::Knock(conn));
    }

    fn knock(&mut self, conn: usize) {
        if !self.conns[conn].ends[0].open {
            return;
        }
        let to = self.conns[conn].to.clone();
        if let Some((host, at)) = self.pick_listener(&to) {
            self.enqueue(conn, host, at);
            return;
        }
        let from_host = matches!(self.conns[conn].ends[0].owner, Owner::Host(..));
        if from_host && self.faults.hurts_servers && self.connect_fails(conn) {
            return;
        }
        let wait = self.latency();
        match self.serving.get(&AddressKey::from(&to)) {
            Some(actor) => {
                self.conns[conn].ends[1].owner = Owner::Actor(*actor);
                self.after(Duration::ZERO, Event::Greet(conn));
                self.after(wait, Event::Stand(conn, 0));
            }
            None => self.after(wait, Event::Stand(conn, libc::ECONNREFUSED)),
        }
    }

    /// Into the accept queue of a worker's listener; a full one lets the caller knock again, like lost SYNs.
    fn enqueue(&mut self, conn: usize, host: usize, at: usize) {
        let listener = &mut self.hosts[host].listeners[at];
        if listener.queue.len() >= listener.backlog {
            let whole = &mut self.conns[conn];
            whole.knocks += 1;
            let (knocks, wait) = (whole.knocks, Duration::from_secs(1 << whole.knocks.min(6)));
            let event = if knocks > 5 { Event::Stand(conn, libc::ETIMEDOUT) } else { Event::Knock(conn) };
            self.after(wait, event);
            return;
        }
        listener.queue.push_back(conn);
        self.conns[conn].of_client = true;
        let wait = self.latency();
        self.after(wait, Event::Stand(conn, 0));
        self.poke_listener(host, at);
    }

    /// Decides whether a connect of a worker fails by a fault, and lets it.
    fn connect_fails(&mut self, conn: usize) -> bool {
        let faults = self.faults.clone();
        let wait = self.latency();
        if self.random.chance(faults.connect_silent) {
            self.injected.connects_slow += 1;
            self.trace(|| format!("c{conn}: FAULT connect gets no answer"));
        } else if self.random.chance(faults.connect_refused) {
            self.injected.connects_failed += 1;
            self.trace(|| format!("c{conn}: FAULT connect refused"));
            self.after(wait, Event::Stand(conn, libc::ECONNREFUSED));
        } else if self.random.chance(faults.connect_unreachable) {
            self.injected.connects_failed += 1;
            let errno = self.random.pick(&[libc::EHOSTUNREACH, libc::ETIMEDOUT, libc::ENETUNREACH]);
            let wait = wait + self.random.time(Duration::ZERO, Duration::from_secs(3));
            self.trace(|| format!("c{conn}: FAULT connect fails"));
            self.after(wait, Event::Stand(conn, errno));
        } else if self.conns[conn].knocks == 0 && self.random.chance(faults.connect_slow) {
            self.injected.connects_slow += 1;
            self.conns[conn].knocks += 1;
            let wait = self.random.time(Duration::ZERO, Duration::from_secs(2));
            self.trace(|| format!("c{conn}: FAULT connect is slow"));
            self.after(wait, Event::Knock(conn));
        } else {
            return false;
        }
        true
    }

    fn stand(&mut self, conn: usize, errno: i32) {
        let end = &mut self.conns[conn].ends[0];
        if !end.open {
            return;
        }
        let owner = end.owner;
        end.stands = errno == 0;
        if errno != 0 && !matches!(owner, Owner::Host(..)) {
            end.open = false;
            end.owner = Owner::Gone;
        }
        match owner {
            Owner::Host(host, sock) => {
                let wait = self.lag();
                self.after(wait, Event::Op(host, Due::Stand(sock, errno)));
            }
            Owner::Actor(actor) => {
                let id = ConnId::new(conn, Side::Caller);
                let what =
                    if errno == 0 { Happening::Connected(id) } else { Happening::Refused(id, Errno(errno)) };
                self.tell(actor, what);
                self.poke(conn, Side::Caller);
            }
            Owner::Waiting | Owner::Gone => {}
        }
    }

    fn greet(&mut self, conn: usize) {
        let whole = &mut self.conns[conn];
        let (owner, address, ends) = (whole.ends[1].owner, whole.to.clone(), whole.addresses);
        whole.ends[1].stands = true;
        if let Owner::Actor(actor) = owner {
            let conn_id = ConnId::new(conn, Side::Callee);
            self.tell(actor, Happening::Accepted { conn: conn_id, address: &address, ends });
            self.poke(conn, Side::Callee);
        }
    }

    // Bytes.

    /// Writes as much as fits; returns how much.
    pub(super) fn write(&mut self, conn: usize, side: Side, bytes: &[u8]) -> usize {
        let at = self.now + self.latency();
        let pipe = &mut self.conns[conn].pipes[side as usize];
        let count = bytes.len().min(pipe.space());
        if count > 0 {
            let at = pipe.write(&bytes[..count], at);
            self.at(at, Event::Arrive(conn, side.across() as u8));
        }
        count
    }

    /// Ends the stream of a side.
    pub(super) fn end_stream(&mut self, conn: usize, side: Side) {
        let at = self.now + self.latency();
        let pipe = &mut self.conns[conn].pipes[side as usize];
        if !pipe.fin {
            let at = pipe.end(at);
            self.at(at, Event::Arrive(conn, side.across() as u8));
        }
    }

    fn arrive(&mut self, conn: usize, side: Side) {
        let now = self.now;
        let whole = &mut self.conns[conn];
        if whole.silent || !whole.towards(side).land(now) {
            return;
        }
        if whole.ends[side as usize].open {
            self.poke(conn, side);
        } else if whole.towards(side).arrived > 0 {
            // Bytes for somebody who closed: the kernel answers with a reset.
            whole.towards(side).lose_all();
            let wait = self.latency();
            self.after(wait, Event::Reset(conn, side.across() as u8));
        }
    }

    fn reset_arrives(&mut self, conn: usize, side: Side) {
        let lost = self.faults.lost_by_reset;
        let lose = self.random.chance(lost);
        let whole = &mut self.conns[conn];
        let end = &mut whole.ends[side as usize];
        if whole.silent || !end.open || end.reset.is_some() {
            return;
        }
        end.reset = Some(Errno(libc::ECONNRESET));
        end.outgoing.clear();
        whole.pipes[side as usize].lose_flying();
        let towards = whole.towards(side);
        towards.lose_flying();
        if lose {
            towards.lose_all();
        }
        self.trace(|| format!("c{conn}: a reset arrives at the {side:?}"));
        self.poke(conn, side);
    }

    /// A side closes: an orderly end, or a reset when it is asked for or bytes were left unread.
    pub(super) fn hang_up(&mut self, conn: usize, side: Side, with_reset: bool) {
        let latency = self.latency();
        let cut = self.random.coin();
        let whole = &mut self.conns[conn];
        let unread = whole.towards(side).arrived > 0;
        let end = &mut whole.ends[side as usize];
        if !end.open {
            return;
        }
        end.open = false;
        end.owner = Owner::Gone;
        end.outgoing.clear();
        let stood = end.stands;
        let across_open = whole.ends[side.across() as usize].open;
        if whole.ends[side as usize].reset.is_none() && stood {
            if with_reset || unread {
                if cut {
                    whole.pipes[side as usize].lose_flying();
                }
                let at = whole.pipes[side as usize].after_all(self.now + latency);
                self.at(at, Event::Reset(conn, side.across() as u8));
                self.trace(|| {
                    format!("c{conn}: the {side:?} closes with a reset (unread {unread}, cut {cut})")
                });
            } else {
                self.end_stream(conn, side);
                self.trace(|| format!("c{conn}: the {side:?} closes"));
            }
        } else if !stood && across_open {
            // A caller that gave up before it knew: whoever accepted gets a reset.
            self.after(latency, Event::Reset(conn, side.across() as u8));
        }
        if !across_open {
            self.conns[conn].pipes.iter_mut().for_each(super::wire::Pipe::lose_all);
        }
    }

    /// The network resets a connection: the worker's side learns it at once, the other a little later.
    pub(super) fn inject_reset(&mut self, conn: usize, at: Side) {
        self.blame(conn);
        self.trace(|| format!("c{conn}: FAULT reset"));
        self.reset_arrives(conn, at);
        let wait = self.latency();
        self.after(wait, Event::Reset(conn, at.across() as u8));
    }

    /// True when harmful faults may hit this connection.
    pub(super) fn may_hurt(&self, conn: usize) -> bool {
        if self.conns[conn].of_client { self.faults.hurts_clients } else { self.faults.hurts_servers }
    }

    fn blame(&mut self, conn: usize) {
        let whole = &mut self.conns[conn];
        if !whole.hurt {
            whole.hurt = true;
            let count = if whole.of_client {
                &mut self.injected.clients_hurt
            } else {
                &mut self.injected.servers_hurt
            };
            *count += 1;
        }
    }

    /// After an operation of a worker on `conn`: perhaps the network strikes.
    pub(super) fn strike(&mut self, conn: usize, side: Side) {
        if !self.may_hurt(conn) || self.conns[conn].silent {
            return;
        }
        let (resets, silences) = (self.faults.resets, self.faults.silences);
        if self.random.chance(resets) {
            self.inject_reset(conn, side);
        } else if self.random.chance(silences) {
            self.blame(conn);
            self.injected.silenced += 1;
            self.conns[conn].silent = true;
            self.trace(|| format!("c{conn}: FAULT silence"));
        }
    }

    /// Tells the holder of an end that something changed there.
    pub(super) fn poke(&mut self, conn: usize, side: Side) {
        match self.conns[conn].ends[side as usize].owner {
            Owner::Host(host, sock) => self.poke_socket(host, sock),
            Owner::Actor(_) => self.poke_actor(conn, side),
            Owner::Waiting | Owner::Gone => {}
        }
    }
}
