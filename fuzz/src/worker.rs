//! A stand-in for the worker: sessions, the connections that they ask for, and what a kernel could do with them.
//!
//! It keeps the contract of `session/mod.rs` from the worker's side and checks it on the session's side: pumping again
//! asks for nothing, at most one receive and one send are in flight per leg, every page has one holder.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use ringgate::access::Access;
use ringgate::balance::Balancer;
use ringgate::buf::{Chain, Chunk, Page, Pool};
use ringgate::clock::Moment;
use ringgate::close::Close;
use ringgate::config::model::{Config, Serves};
use ringgate::counters::Counters;
use ringgate::http::h1::head::HeadLimits;
use ringgate::ids::{PoolId, ServerId, SessionId, WorkerId};
use ringgate::limits::{CHAIN_CHUNKS_MAX, RECV_BYTES, SERVER_IDLE_FRESH_TIME, STARVED_PAGES_MIN};
use ringgate::net::{Ends, Errno};
use ringgate::session::conn::Conn;
use ringgate::session::{Cx, Event, Leg, Op, Reuse, Session};

use crate::answers::Answers;
use crate::requests::Requests;

/// A connection as its kernel sees it, and who is at its other end.
#[derive(Debug)]
pub struct Line {
    connecting: bool,
    receiving: bool,
    sending: Option<Chain>,
    /// What the other end sent and nobody received yet.
    arriving: VecDeque<u8>,
    /// The other end sends no more.
    ended: bool,
    /// The other end is gone.
    broken: bool,
    told: bool,
    deaf: bool,
    /// A send was told that the connection is gone.
    broken_sending: bool,
    shut: bool,
    /// Client: what it asked. Server: what reached it.
    pub requests: Requests,
    /// Client: what reached it.
    pub answers: Answers,
    /// Final answers that the server gave.
    pub answered: usize,
    /// What the server sent after it switched, or all of it if this is TCP.
    said: Vec<u8>,
}

impl Line {
    fn new(requests: Requests, tcp: bool) -> Self {
        Self {
            connecting: false,
            receiving: false,
            sending: None,
            arriving: VecDeque::new(),
            ended: false,
            broken: false,
            told: false,
            deaf: false,
            broken_sending: false,
            shut: false,
            requests,
            answers: Answers::new(tcp),
            answered: 0,
            said: Vec::new(),
        }
    }

    fn sending_pages(&self) -> usize {
        self.sending.as_ref().map_or(0, |chain| chain.chunks().len())
    }

    fn hang_up(self, pool: &mut Pool) {
        if let Some(chain) = self.sending {
            pool.give_chain(chain);
        }
    }
}

/// A session with its connections.
#[derive(Debug)]
pub struct Seat {
    session: Session,
    generation: u32,
    tcp: bool,
    starved: bool,
    pub front: Option<Line>,
    pub back: Option<(Leg, Line)>,
    /// The leg that could not be connected: the worker closed its socket already.
    refused: Option<Leg>,
    /// The server connection broke, and the session was told.
    back_broke: bool,
}

#[derive(Debug)]
struct Idle {
    server: ServerId,
    line: Line,
    conn: Box<Conn>,
    since: Moment,
}

/// The worker.
pub struct Worker<'c> {
    config: &'c Config,
    balancer: Balancer,
    counters: Counters,
    pool: Pool,
    pub now: Moment,
    draining: bool,
    killed: bool,
    pub seats: [Option<Seat>; 4],
    generation: u32,
    idle: Vec<Idle>,
    pending: VecDeque<(SessionId, Event)>,
    /// Turns for sessions of other workers, on their way.
    mail: VecDeque<SessionId>,
    /// Pages that somebody else uses.
    hoard: Vec<Page>,
    /// Records of what the last event ended.
    accesses: Vec<Access>,
    chance: u64,
    /// Somebody talked nonsense: marks prove nothing any more.
    pub is_muddy: bool,
    /// Lengths of the bodies of answers, by the mark of the request.
    pub lengths: HashMap<u64, u64>,
    refuse_connects: bool,
}

impl<'c> Worker<'c> {
    pub fn new(config: &'c Config, pages: usize, chance: u64) -> Self {
        Self {
            config,
            balancer: Balancer::new(config),
            counters: Counters::default(),
            pool: Pool::new(pages),
            now: Moment(1_000_000_000),
            draining: false,
            killed: false,
            seats: [const { None }; 4],
            generation: 0,
            idle: Vec::new(),
            pending: VecDeque::new(),
            mail: VecDeque::new(),
            hoard: Vec::new(),
            accesses: Vec::new(),
            chance,
            is_muddy: false,
            lengths: HashMap::new(),
            refuse_connects: false,
        }
    }

    /// Accepts a connection on a free seat.
    pub fn open(&mut self, at: usize, serves: Serves, refuse: bool) {
        if self.seats[at].is_some() || self.killed {
            return;
        }
        let (tcp, proxy, limits) = match serves {
            Serves::Http(id) => {
                let http = &self.config.http[id.index()];
                let limits = HeadLimits {
                    head_bytes_max: http.limits.head_bytes_max,
                    fields_max: http.limits.fields_max,
                    target_bytes_max: http.limits.target_bytes_max,
                };
                (false, http.accept_proxy.is_some(), limits)
            }
            Serves::Tcp(id) => {
                (true, self.config.tcp[id.index()].accept_proxy.is_some(), HeadLimits::default())
            }
            // Its servers speak first, which these do not.
            Serves::Sql(_) => return,
        };
        self.generation += 1;
        let client = SocketAddr::from(([10, 0, 0, at as u8 + 1], 4000));
        let ends = Ends { client: Some(client), local: Some(SocketAddr::from(([10, 0, 0, 99], 80))) };
        let id = self.id_of(at, self.generation);
        let mut ops = Vec::new();
        let mut cx = self.cx(id, &mut ops);
        let mut session = Session::new(serves, ends, refuse.then_some(Close::TooManyFromClient), &mut cx);
        session.pump(&mut cx);
        self.seats[at] = Some(Seat {
            session,
            generation: self.generation,
            tcp,
            starved: false,
            front: Some(Line::new(Requests::new(false, proxy, tcp, limits), tcp)),
            back: None,
            refused: None,
            back_broke: false,
        });
        self.after(at, ops, false);
        self.run_pending();
    }

    fn id_of(&self, at: usize, generation: u32) -> SessionId {
        SessionId { slot: at as u32, generation }
    }

    fn cx<'s>(&'s mut self, me: SessionId, ops: &'s mut Vec<Op>) -> Cx<'s> {
        self.chance = self.chance.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        self.accesses.clear();
        Cx {
            now: self.now,
            worker: WorkerId(me.slot % 2),
            me,
            config: self.config,
            balancer: &self.balancer,
            clusters: &[],
            counters: &self.counters,
            pool: &mut self.pool,
            ops,
            accesses: &mut self.accesses,
            date: "Sun, 06 Nov 1994 08:49:37 GMT",
            chance: self.chance,
            draining: self.draining,
            behind: false,
            starved: false,
        }
    }

    fn tell(&mut self, at: usize, event: Event) {
        self.tell_once(at, event);
        self.run_pending();
    }

    fn run_pending(&mut self) {
        while let Some((id, event)) = self.pending.pop_front() {
            let at = id.slot as usize;
            if self.seats[at].as_ref().is_some_and(|seat| seat.generation == id.generation) {
                self.tell_once(at, event);
            } else {
                event.discard(&mut self.pool);
            }
        }
    }

    fn tell_once(&mut self, at: usize, event: Event) {
        let Some(mut seat) = self.seats[at].take() else { return event.discard(&mut self.pool) };
        let mut ops = Vec::new();
        let mut cx = self.cx(self.id_of(at, seat.generation), &mut ops);
        seat.session.on(event, &mut cx);
        seat.session.pump(&mut cx);
        let (asked, starved) = (cx.ops.len(), cx.starved);
        seat.session.pump(&mut cx);
        assert_eq!(cx.ops.len(), asked, "pumping again asked for more: {:?}", cx.ops);
        self.seats[at] = Some(seat);
        self.after(at, ops, starved);
        self.check_pages();
    }

    fn after(&mut self, at: usize, ops: Vec<Op>, starved: bool) {
        for op in ops {
            self.apply(at, op);
        }
        let Some(seat) = &mut self.seats[at] else { return };
        seat.starved |= starved;
        if seat.session.is_over() {
            assert!(seat.front.is_none() && seat.back.is_none(), "over, but with connections");
            assert_eq!(seat.session.pages(), 0, "over, but with pages");
            assert!(!seat.session.deadline().is_set(), "over, but with a deadline");
            self.seats[at] = None;
        }
    }

    fn check_pages(&self) {
        let mut held = self.hoard.len();
        for seat in self.seats.iter().flatten() {
            held += seat.session.pages();
            held += seat.front.as_ref().map_or(0, Line::sending_pages);
            held += seat.back.as_ref().map_or(0, |(_, line)| line.sending_pages());
        }
        held += self.idle.iter().map(|idle| idle.conn.pages() + idle.line.sending_pages()).sum::<usize>();
        held += self
            .pending
            .iter()
            .map(|(_, event)| if let Event::Adopted(_, kept) = event { kept.conn.pages() } else { 0 })
            .sum::<usize>();
        assert_eq!(self.pool.free() + held, self.pool.made(), "a page is lost");
    }

    fn line(&mut self, at: usize, leg: Leg) -> Option<&mut Line> {
        let seat = self.seats[at].as_mut()?;
        match leg {
            Leg::Front => seat.front.as_mut(),
            Leg::Back(_) => seat.back.as_mut().filter(|(own, _)| *own == leg).map(|(_, line)| line),
        }
    }

    fn take_line(&mut self, at: usize, leg: Leg) -> Option<Line> {
        self.line(at, leg)?;
        let seat = self.seats[at].as_mut()?;
        match leg {
            Leg::Front => seat.front.take(),
            Leg::Back(_) => seat.back.take().map(|(_, line)| line),
        }
    }

    fn apply(&mut self, at: usize, op: Op) {
        match op {
            Op::Recv(leg) => {
                let Some(line) = self.line(at, leg) else { panic!("a receive on no connection: {leg:?}") };
                assert!(!line.receiving && !line.connecting && !line.told, "a receive too many: {line:?}");
                line.receiving = true;
            }
            Op::Send(leg, chain) => {
                let Some(line) = self.line(at, leg) else { panic!("a send on no connection: {leg:?}") };
                assert!(line.sending.is_none() && !line.connecting, "a send too many: {line:?}");
                assert!(!line.shut && !line.deaf && !chain.is_empty(), "a send that cannot be: {line:?}");
                line.sending = Some(chain);
            }
            Op::Shut(leg) => {
                let Some(line) = self.line(at, leg) else { panic!("a shut of no connection: {leg:?}") };
                assert!(line.sending.is_none() && !line.shut && !line.connecting, "shut too early: {line:?}");
                line.shut = true;
            }
            Op::Close(leg) => {
                if leg == Leg::Front {
                    self.check_cut(at);
                }
                self.check_broken(at, leg);
                self.hang_up(at, leg);
            }
            Op::Reset(leg) => self.hang_up(at, leg),
            Op::Connect(leg, server, reuse) => self.connect(at, leg, server, reuse),
            Op::Park(leg, server, kept) => self.park(at, leg, server, kept.conn),
            Op::Wake(waiter) => {
                let here = waiter.worker == WorkerId(at as u32 % 2);
                if here {
                    self.pending.push_back((waiter.session, Event::Turn));
                } else {
                    self.mail.push_back(waiter.session);
                }
            }
        }
    }

    fn hang_up(&mut self, at: usize, leg: Leg) {
        match self.take_line(at, leg) {
            Some(line) => {
                if let Some(seat) = self.seats[at].as_mut().filter(|_| leg != Leg::Front) {
                    seat.back_broke = line.told && line.broken;
                }
                line.hang_up(&mut self.pool);
            }
            None => {
                let refused = self.seats[at].as_ref().is_some_and(|seat| seat.refused == Some(leg));
                assert!(refused, "the end of no connection: {leg:?}");
            }
        }
    }

    /// A side of a relay that broke is shown to the other as broken.
    fn check_broken(&self, at: usize, leg: Leg) {
        let Some(seat) = self.seats[at].as_ref().filter(|seat| seat.tcp) else { return };
        let gone = |line: &Line| line.broken_sending || line.told && line.broken;
        let broke = if leg == Leg::Front { seat.back_broke } else { seat.front.as_ref().is_some_and(gone) };
        assert!(!broke, "a connection that broke looks as if it had ended in order");
    }

    /// An answer that ends with its connection is whole when the connection ends in order.
    fn check_cut(&mut self, at: usize) {
        let muddy = self.is_muddy;
        let Some(line) = self.line(at, Leg::Front) else { return };
        // What cannot be sent any more is seen by a client that is still there.
        if muddy || line.deaf || line.broken {
            return;
        }
        if let Some((mark, came)) = line.answers.open_end()
            && let Some(length) = self.lengths.get(&mark)
        {
            assert_eq!(came, *length, "an answer was cut, and it looks complete");
        }
    }

    fn connect(&mut self, at: usize, leg: Leg, server: ServerId, reuse: Reuse) {
        let Some(seat) = &mut self.seats[at] else { return };
        assert!(seat.back.is_none(), "two server connections");
        let id = SessionId { slot: at as u32, generation: seat.generation };
        let found = self.idle.iter().rposition(|idle| idle.server == server);
        let fits = |idle: &Idle| match reuse {
            Reuse::Never => false,
            Reuse::Fresh => self.now.since(idle.since) <= SERVER_IDLE_FRESH_TIME,
            Reuse::Any => true,
        };
        if let Some(found) = found.filter(|found| fits(&self.idle[*found])) {
            let idle = self.idle.remove(found);
            seat.back = Some((leg, idle.line));
            self.pending.push_back((id, Event::Adopted(leg, idle.conn.into())));
            return;
        }
        if self.refuse_connects {
            seat.refused = Some(leg);
            self.pending.push_back((id, Event::Refused(leg, Errno(24))));
            return;
        }
        let pool = &self.config.pools[self.config.servers[server.index()].pool.index()];
        let requests = Requests::new(true, pool.send_proxy.is_some(), seat.tcp, HeadLimits::default());
        seat.back = Some((leg, Line { connecting: true, ..Line::new(requests, seat.tcp) }));
    }

    fn park(&mut self, at: usize, leg: Leg, server: ServerId, mut conn: Box<Conn>) {
        let Some(mut line) = self.take_line(at, leg) else { panic!("no connection to be kept: {leg:?}") };
        assert!(line.sending.is_none() && !line.shut && !line.told && !line.connecting, "kept: {line:?}");
        assert_eq!(conn.is_receiving(), line.receiving);
        assert_eq!(conn.pages(), 0);
        if self.draining {
            conn.clear(&mut self.pool);
            return;
        }
        if !conn.is_receiving() {
            conn.note_receiving();
            line.receiving = true;
        }
        self.idle.push(Idle { server, line, conn, since: self.now });
    }

    /// The other end of a leg sends bytes.
    pub fn say(&mut self, at: usize, leg: Leg, bytes: &[u8]) {
        let Some(seat) = &mut self.seats[at] else { return };
        let tcp = seat.tcp;
        let Some(line) = self.line(at, leg) else { return };
        if line.ended || line.broken || line.arriving.len() > 1 << 20 {
            return;
        }
        line.arriving.extend(bytes);
        if leg != Leg::Front && tcp {
            line.said.extend_from_slice(bytes);
        }
    }

    /// The server connection of a seat, once it stands.
    pub fn server(&mut self, at: usize) -> Option<(Leg, &mut Line)> {
        let (leg, line) = self.seats[at].as_mut()?.back.as_mut()?;
        if line.connecting { None } else { Some((*leg, line)) }
    }

    pub fn leg(&self, at: usize, front: bool) -> Option<Leg> {
        let seat = self.seats[at].as_ref()?;
        if front { Some(Leg::Front) } else { seat.back.as_ref().map(|(leg, _)| *leg) }
    }

    /// The kernel has received something, or the end. False when there is nothing to tell.
    pub fn deliver(&mut self, at: usize, leg: Leg, max: usize) -> bool {
        let Some(line) = self.line(at, leg) else { return false };
        if !line.receiving {
            return false;
        }
        let event = if line.broken {
            line.arriving.clear();
            line.told = true;
            Event::Failed(leg, Errno(104))
        } else if !line.arriving.is_empty() {
            let Some(chain) = self.receive(at, leg, max) else { return false };
            Event::Received(leg, chain)
        } else if line.ended {
            line.told = true;
            Event::Eof(leg)
        } else {
            return false;
        };
        if let Some(line) = self.line(at, leg) {
            line.receiving = false;
        }
        self.tell(at, event);
        true
    }

    /// Bytes in as many pages as there are, cut anywhere.
    fn receive(&mut self, at: usize, leg: Leg, max: usize) -> Option<Chain> {
        let mut chain = Chain::new();
        let mut left = max.clamp(1, RECV_BYTES * CHAIN_CHUNKS_MAX);
        let piece = if left % 3 == 0 { left.div_ceil(CHAIN_CHUNKS_MAX) } else { RECV_BYTES };
        while left > 0 && !chain.is_full() && !self.line(at, leg)?.arriving.is_empty() {
            let Some(page) = self.pool.take() else { break };
            let mut chunk = Chunk::empty(page);
            let line = self.line(at, leg)?;
            let count = line.arriving.len().min(piece).min(left);
            let bytes: Vec<u8> = line.arriving.drain(..count).collect();
            if leg == Leg::Front {
                line.requests.feed(&bytes, false);
            }
            chunk.append(&bytes);
            left -= count;
            assert!(chain.push(chunk).is_ok());
        }
        if chain.is_empty() { None } else { Some(chain) }
    }

    /// The kernel has sent some of what it was given: `share` of 256.
    pub fn sent(&mut self, at: usize, leg: Leg, share: usize) -> bool {
        let muddy = self.is_muddy;
        let Some(line) = self.line(at, leg) else { return false };
        let Some(chain) = line.sending.take() else { return false };
        let count = (chain.len() * (share + 1)).div_ceil(256);
        let mut bytes: Vec<u8> = chain.chunks().iter().flat_map(|chunk| chunk.bytes()).copied().collect();
        bytes.truncate(count);
        if leg == Leg::Front {
            line.answers.feed(&bytes, &line.requests.asked, !muddy);
        } else {
            line.requests.feed(&bytes, !muddy);
        }
        self.check_relay(at);
        self.tell(at, Event::Sent(leg, chain, count));
        true
    }

    /// A relay of bytes changes none of them.
    fn check_relay(&self, at: usize) {
        let Some(seat) = self.seats[at].as_ref().filter(|seat| seat.tcp) else { return };
        if let (Some(front), Some((_, back))) = (&seat.front, &seat.back) {
            assert!(
                front.requests.free.starts_with(&back.requests.free),
                "a relay changed bytes to the server"
            );
            assert!(back.said.starts_with(&front.answers.free), "a relay changed bytes to the client");
        }
    }

    /// The kernel could not send.
    pub fn fail_send(&mut self, at: usize, leg: Leg) {
        let Some(line) = self.line(at, leg) else { return };
        let Some(chain) = line.sending.take() else { return };
        line.deaf = true;
        // After an end in order the kernel says EPIPE, else that the connection was reset.
        let errno = if line.ended { Errno(32) } else { Errno(104) };
        line.broken_sending |= !line.ended;
        line.ended = true;
        self.pool.give_chain(chain);
        self.tell(at, Event::SendFailed(leg, errno));
    }

    /// The other end sends no more, or is gone.
    pub fn end(&mut self, at: usize, leg: Leg, broken: bool) {
        if let Some(line) = self.line(at, leg)
            && !line.connecting
        {
            line.ended = true;
            line.broken |= broken && !line.told;
        }
    }

    /// The server accepts the connection, or not.
    pub fn connected(&mut self, at: usize, refused: bool) -> bool {
        let Some(seat) = &mut self.seats[at] else { return false };
        let Some((leg, line)) = &mut seat.back else { return false };
        if !line.connecting {
            return false;
        }
        let leg = *leg;
        line.connecting = false;
        if refused {
            (seat.back, seat.refused) = (None, Some(leg));
            self.tell(at, Event::Refused(leg, Errno(111)));
        } else {
            self.tell(at, Event::Connected(leg));
        }
        true
    }

    /// Something happens on a connection that is kept.
    pub fn idle(&mut self, at: usize, bytes: &[u8]) {
        if !self.idle.is_empty() {
            let mut idle = self.idle.remove(at % self.idle.len());
            if bytes.is_empty() {
                // It ends later: the next session finds it dead.
                (idle.line.ended, idle.line.broken) = (true, at > 128);
                self.idle.push(idle);
            } else {
                idle.conn.clear(&mut self.pool);
                idle.line.hang_up(&mut self.pool);
            }
        }
    }

    /// Time passes, and deadlines with it.
    pub fn wait(&mut self, nanos: u64) {
        self.now = Moment(self.now.0.saturating_add(nanos));
        for at in 0..self.seats.len() {
            // A session may have several deadlines at once.
            for _ in 0..8 {
                let due = self.seats[at].as_ref().is_some_and(|seat| seat.session.deadline() <= self.now);
                if !due {
                    break;
                }
                self.tell(at, Event::Tick);
            }
            let due = self.seats[at].as_ref().is_some_and(|seat| seat.session.deadline() <= self.now);
            assert!(!due, "a tick did not move the deadline");
        }
    }

    /// Time passes until the next deadline.
    pub fn wait_for_deadline(&mut self) {
        let next = self.seats.iter().flatten().map(|seat| seat.session.deadline()).min();
        if let Some(next) = next.filter(|next| next.is_set()) {
            self.wait(next.0.saturating_sub(self.now.0));
        }
    }

    /// Somebody else takes pages, or gives all of them back.
    pub fn hoard(&mut self, count: usize) {
        for _ in 0..count {
            self.hoard.extend(self.pool.take());
        }
        if count == 0 {
            self.hoard.drain(..).for_each(|page| self.pool.give(page));
            self.feed_starved();
        }
    }

    /// Pages are back.
    pub fn feed_starved(&mut self) {
        for at in 0..self.seats.len() {
            if self.pool.available() >= STARVED_PAGES_MIN
                && let Some(seat) = self.seats[at].as_mut().filter(|seat| seat.starved)
            {
                seat.starved = false;
                self.tell(at, Event::Tick);
            }
        }
    }

    pub fn tick(&mut self, at: usize) {
        self.tell(at, Event::Tick);
    }

    /// A turn of another worker's session arrives.
    pub fn read_mail(&mut self) -> bool {
        let Some(id) = self.mail.pop_front() else { return false };
        self.pending.push_back((id, Event::Turn));
        self.run_pending();
        true
    }

    pub fn refuse_connects(&mut self, refuse: bool) {
        self.refuse_connects = refuse;
    }

    pub fn drain(&mut self) {
        self.draining = true;
        (0..self.seats.len()).for_each(|at| self.tell(at, Event::Drain));
    }

    pub fn kill(&mut self) {
        self.drain();
        self.killed = true;
        (0..self.seats.len()).for_each(|at| self.tell(at, Event::Kill));
        assert!(self.seats.iter().all(Option::is_none), "a session survived");
    }

    /// Everything that is under way arrives.
    pub fn settle(&mut self, refused: bool) {
        let mut busy = 2000;
        while busy > 0 {
            let mut moved = self.read_mail();
            for at in 0..self.seats.len() {
                moved |= self.connected(at, refused);
                for leg in [self.leg(at, true), self.leg(at, false)].into_iter().flatten() {
                    moved |= self.sent(at, leg, 255);
                    moved |= self.deliver(at, leg, usize::MAX);
                }
            }
            self.feed_starved();
            busy = if moved { busy - 1 } else { 0 };
        }
    }

    /// Everybody hangs up and time passes: no session may stay.
    pub fn wind_down(&mut self) {
        self.hoard(0);
        for round in 0..200 {
            self.settle(round % 2 == 0);
            for at in 0..self.seats.len() {
                for leg in [self.leg(at, true), self.leg(at, false)].into_iter().flatten() {
                    self.end(at, leg, false);
                }
            }
            self.settle(round % 2 == 0);
            self.wait_for_deadline();
            if self.seats.iter().all(Option::is_none) {
                return;
            }
        }
        panic!("a session that does not end: {:?}", self.seats);
    }

    /// Nobody is left: nothing may be missing.
    pub fn check_end(mut self) {
        while self.read_mail() {}
        for mut idle in std::mem::take(&mut self.idle) {
            idle.conn.clear(&mut self.pool);
            idle.line.hang_up(&mut self.pool);
        }
        self.hoard(0);
        assert_eq!(self.pool.free(), self.pool.made(), "pages are missing");
        for server in self.balancer.servers() {
            assert_eq!(server.in_flight, 0, "a claim is missing: {server:?}");
        }
        for pool in 0..self.config.pools.len() {
            assert_eq!(self.balancer.waiting(PoolId(pool as u32)), 0, "somebody waits in pool {pool}");
        }
    }
}
