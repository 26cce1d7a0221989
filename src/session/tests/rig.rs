//! A session and the little that a worker is to it: who completes sends, when time passes, where pages are.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::access::Access;
use crate::balance::{Balancer, Claim, Waiter};
use crate::buf::{Chain, Chunk, Page, Pool, Queue};
use crate::clock::{self, Moment};
use crate::close::Close;
use crate::config::model::{Config, Serves};
use crate::counters::Counters;
use crate::ids::{PoolId, ServerId, SessionId, WorkerId};
use crate::limits::{INBOX_BYTES_MAX, OUTBOX_PAGES_MAX, RECV_BYTES};
use crate::net::{Ends, Errno};
use crate::session::conn::Conn;
use crate::session::{Cx, Event, Leg, Op, Reuse, Session};
use crate::tls::{ClientOptions, ClientTls, Pipe, ServerOptions, ServerTls, demo};

/// Two servers, a fixed answer, a redirect.
pub const HTTP: &str = r#"
[http.front]
listen = ["127.0.0.1:8080"]
routes = [
  { path = "/fixed", answer = { status = 200, text = "hello" } },
  { path = "/old", redirect = "https" },
  { pool = "web" },
]
[pool.web]
servers = [ { address = "127.0.0.1:81" }, { address = "127.0.0.1:82" } ]
"#;

/// How a leg ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Closed,
    Reset,
    Parked,
}

/// One leg as its socket would be.
#[derive(Debug)]
pub struct Wire {
    pub leg: Leg,
    pub receiving: bool,
    pub sending: Option<Chain>,
    /// Sends are completed at once.
    pub reads: bool,
    pub sent: Vec<u8>,
    pub shut: bool,
    pub end: Option<End>,
}

impl Wire {
    const fn new(leg: Leg) -> Self {
        Self { leg, receiving: false, sending: None, reads: true, sent: Vec::new(), shut: false, end: None }
    }

    /// What was sent since the last call, as text.
    pub fn take(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.sent)).into_owned()
    }
}

thread_local! {
    /// Reading a configuration and making a certificate take longer than a conversation.
    static CONFIGS: RefCell<HashMap<(String, bool), Rc<Config>>> = RefCell::default();
}

fn config(text: &str, tls: bool) -> Rc<Config> {
    let key = (text.to_owned(), tls);
    CONFIGS.with_borrow_mut(|configs| configs.entry(key).or_insert_with(|| Rc::new(read(text, tls))).clone())
}

fn read(text: &str, tls: bool) -> Config {
    let mut config = Config::parse(text, "test.toml").unwrap_or_else(|mistakes| panic!("{mistakes}"));
    if tls {
        let (store, _) = demo::certificate(&["localhost"], clock::wall()).unwrap();
        let tls = Arc::new(ServerTls::new(store, &ServerOptions::default()).unwrap());
        match config.listeners[0].serves {
            Serves::Http(id) => config.http[id.index()].tls = Some(tls),
            Serves::Tcp(id) => config.tcp[id.index()].tls = Some(tls),
            Serves::Sql(id) => config.sql[id.index()].tls = Some(tls),
        }
    }
    config
}

/// A session under test.
pub struct Rig {
    pub config: Rc<Config>,
    pub balancer: Balancer,
    pub counters: Counters,
    pub pool: Pool,
    pub now: Moment,
    pub front: Wire,
    pub back: Option<Wire>,
    /// The connect that was asked for and not answered.
    pub dialed: Option<(Leg, ServerId, Reuse)>,
    #[allow(clippy::vec_box, reason = "they come and go in boxes")]
    pub parked: Vec<Box<Conn>>,
    /// Pages that others have.
    pub hoard: Vec<Page>,
    /// Places at servers that others have.
    pub held: Vec<Claim>,
    pub wakes: Vec<Waiter>,
    /// What was recorded.
    pub accesses: Vec<Access>,
    pub draining: bool,
    pub starved: bool,
    /// The leg whose connect failed: its socket is closed already.
    gone: Option<Leg>,
    session: Option<Session>,
}

const ME: SessionId = SessionId { slot: 7, generation: 0 };

impl Rig {
    /// A session of the first block of a configuration.
    pub fn new(text: &str, pages: usize) -> Self {
        Self::with(config(text, false), pages)
    }

    /// The same, with TLS towards clients.
    pub fn tls(text: &str, pages: usize) -> Self {
        Self::with(config(text, true), pages)
    }

    /// The same, with TLS towards servers, and a server's side of it.
    pub fn tls_to_servers(text: &str, pages: usize) -> (Self, Pipe) {
        let mut config = read(text, false);
        let options = ClientOptions { verify: false, ..ClientOptions::default() };
        config.pools[0].tls = Some(Arc::new(ClientTls::new(&options).unwrap()));
        let (store, _) = demo::certificate(&["localhost"], clock::wall()).unwrap();
        let tls = ServerTls::new(store, &ServerOptions::default()).unwrap();
        (Self::with(Rc::new(config), pages), Pipe::accept(&tls).unwrap())
    }

    fn with(config: Rc<Config>, pages: usize) -> Self {
        let mut rig = Self {
            balancer: Balancer::new(&config),
            counters: Counters::default(),
            pool: Pool::new(pages),
            now: Moment(1_000_000_000),
            front: Wire::new(Leg::Front),
            back: None,
            dialed: None,
            parked: Vec::new(),
            hoard: Vec::new(),
            held: Vec::new(),
            wakes: Vec::new(),
            accesses: Vec::new(),
            draining: false,
            starved: false,
            gone: None,
            session: None,
            config,
        };
        rig.act(|session, cx| {
            let ends = Ends {
                client: Some(([192, 0, 2, 1], 4711).into()),
                local: Some(([127, 0, 0, 1], 80).into()),
            };
            let serves = cx.config.listeners[0].serves;
            *session = Some(Session::new(serves, ends, None, cx));
        });
        rig
    }

    fn act(&mut self, act: impl FnOnce(&mut Option<Session>, &mut Cx<'_>)) {
        let mut ops = Vec::new();
        let mut session = self.session.take();
        let mut cx = Cx {
            now: self.now,
            worker: WorkerId(0),
            me: ME,
            config: &self.config,
            balancer: &self.balancer,
            clusters: &[],
            counters: &self.counters,
            pool: &mut self.pool,
            ops: &mut ops,
            accesses: &mut self.accesses,
            date: "Sun, 06 Nov 1994 08:49:37 GMT",
            chance: 3,
            draining: self.draining,
            behind: false,
            starved: false,
        };
        act(&mut session, &mut cx);
        if let Some(session) = &mut session {
            session.pump(&mut cx);
            let asked = cx.ops.len();
            session.pump(&mut cx);
            assert_eq!(cx.ops.len(), asked, "a second pump asks for nothing new: {:?}", cx.ops);
        }
        self.starved = cx.starved;
        self.session = session;
        for op in ops {
            self.apply(op);
        }
        self.check();
    }

    /// The wire of a leg.
    pub fn wire(&mut self, leg: Leg) -> &mut Wire {
        if leg == Leg::Front {
            return &mut self.front;
        }
        let back = self.back.as_mut().filter(|back| back.leg == leg);
        back.unwrap_or_else(|| panic!("an operation for {leg:?}, which is not the server's leg"))
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Connect(leg, server, reuse) => {
                assert!(self.dialed.is_none(), "one connect at a time");
                self.dialed = Some((leg, server, reuse));
            }
            Op::Recv(leg) => {
                let wire = self.wire(leg);
                assert!(!wire.receiving && wire.end.is_none(), "a second receive (rule 1), or one too late");
                wire.receiving = true;
            }
            Op::Send(leg, chain) => {
                assert!(!chain.is_empty());
                let wire = self.wire(leg);
                assert!(wire.sending.is_none() && !wire.shut && wire.end.is_none(), "a send at a wrong time");
                wire.sending = Some(chain);
            }
            Op::Shut(leg) => {
                let wire = self.wire(leg);
                assert!(wire.sending.is_none() && !wire.shut, "shut with a send in flight, or twice");
                wire.shut = true;
            }
            Op::Close(leg) => self.finish(leg, End::Closed),
            Op::Reset(leg) => self.finish(leg, End::Reset),
            Op::Park(leg, _, kept) => {
                self.finish(leg, End::Parked);
                let conn = kept.conn;
                assert_eq!((conn.pages(), conn.is_eof()), (0, false), "nothing is left in a kept connection");
                self.parked.push(conn);
            }
            Op::Wake(waiter) => self.wakes.push(waiter),
        }
    }

    fn finish(&mut self, leg: Leg, end: End) {
        if self.dialed.is_some_and(|(dialed, ..)| dialed == leg) {
            self.dialed = None;
            return;
        }
        if self.gone == Some(leg) {
            return;
        }
        let wire = self.wire(leg);
        assert_eq!(wire.end.replace(end), None, "a leg ends once");
        if let Some(chain) = wire.sending.take() {
            self.pool.give_chain(chain);
        }
    }

    /// What holds after every event.
    fn check(&self) {
        let Some(session) = &self.session else { return };
        let wires = [Some(&self.front), self.back.as_ref()];
        let flying: usize = wires
            .into_iter()
            .flatten()
            .filter_map(|wire| wire.sending.as_ref().map(|chain| chain.chunks().len()))
            .sum();
        let parked: usize = self.parked.iter().map(|conn| conn.pages()).sum();
        let held = session.pages() + self.hoard.len();
        assert_eq!(self.pool.free() + held + flying + parked, self.pool.made(), "every page has one holder");
        assert_eq!(session.is_over(), self.front.end.is_some(), "over when the client's leg is closed");
        if session.is_over() {
            assert_eq!((session.pages(), flying), (0, 0), "a session that is over holds no page");
            assert!(self.dialed.is_none() && self.back.as_ref().is_none_or(|back| back.end.is_some()));
            let taken: u32 = self.balancer.servers().map(|server| server.in_flight).sum();
            assert_eq!(taken as usize, self.held.len(), "places are given back");
            assert_eq!(self.balancer.waiting(PoolId(0)), 0, "nobody waits");
        } else {
            assert!(session.deadline().is_set(), "a session that lives has a deadline: {session:?}");
        }
    }

    /// Tells the session something, and completes the sends of those who read.
    pub fn tell(&mut self, event: Event) {
        self.act(|session, cx| {
            if let Some(session) = session {
                session.on(event, cx);
            }
        });
        self.settle();
    }

    /// Completes the sends of those who read.
    pub fn settle(&mut self) {
        loop {
            let wires = [Some(&mut self.front), self.back.as_mut()];
            let ready = wires.into_iter().flatten().find(|wire| wire.reads && wire.sending.is_some());
            let Some(wire) = ready else { return };
            let Some(chain) = wire.sending.take() else { return };
            let bytes = chain.len();
            for chunk in chain.chunks() {
                wire.sent.extend_from_slice(chunk.bytes());
            }
            let leg = wire.leg;
            self.act(|session, cx| {
                if let Some(session) = session {
                    session.on(Event::Sent(leg, chain, bytes), cx);
                }
            });
        }
    }

    fn receive(&mut self, leg: Leg, bytes: &[u8]) {
        for part in bytes.chunks(RECV_BYTES) {
            let wire = self.wire(leg);
            assert!(wire.receiving, "{leg:?} is not read");
            wire.receiving = false;
            let mut chunk = Chunk::empty(self.pool.take_last().expect("a page to receive into"));
            chunk.append(part);
            self.tell(Event::Received(leg, Chain::from(chunk)));
        }
    }

    /// The client sends.
    pub fn client(&mut self, bytes: impl AsRef<[u8]>) {
        self.receive(Leg::Front, bytes.as_ref());
    }

    /// The client ends its side.
    pub fn client_ends(&mut self) {
        self.front.receiving = false;
        self.tell(Event::Eof(Leg::Front));
    }

    fn back_leg(&self) -> Leg {
        self.back.as_ref().expect("a server").leg
    }

    /// The connect succeeds.
    pub fn connected(&mut self) {
        let (leg, ..) = self.dialed.take().expect("a connect");
        self.back = Some(Wire::new(leg));
        self.tell(Event::Connected(leg));
    }

    /// A connection that was kept is taken instead.
    pub fn adopted(&mut self) {
        self.adopted_with(true);
    }

    /// The same; sends are completed at once, or not.
    pub fn adopted_with(&mut self, reads: bool) {
        let (leg, ..) = self.dialed.take().expect("a connect");
        let conn = self.parked.pop().expect("a kept connection");
        let mut wire = Wire::new(leg);
        (wire.receiving, wire.reads) = (conn.is_receiving(), reads);
        self.back = Some(wire);
        self.tell(Event::Adopted(leg, conn.into()));
    }

    /// The connect fails.
    pub fn refused(&mut self) {
        let (leg, ..) = self.dialed.take().expect("a connect");
        self.gone = Some(leg);
        self.tell(Event::Refused(leg, Errno(libc::ECONNREFUSED)));
    }

    /// The server sends.
    pub fn server(&mut self, bytes: impl AsRef<[u8]>) {
        self.receive(self.back_leg(), bytes.as_ref());
    }

    /// The server ends its side.
    pub fn server_ends(&mut self) {
        let leg = self.back_leg();
        self.wire(leg).receiving = false;
        self.tell(Event::Eof(leg));
    }

    /// Time passes; deadlines are told when they are due.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(session) = &self.session {
            let due = session.deadline();
            if due > end {
                break;
            }
            self.now = self.now.max(due);
            self.tell(Event::Tick);
        }
        self.now = end;
    }

    /// What the session is, for people.
    pub fn session(&self) -> &Session {
        self.session.as_ref().expect("a session")
    }

    /// Bytes that came and were not understood yet, with what waits to be sent, are bounded whatever the peers do.
    pub fn is_bounded(&self) -> bool {
        let flying = self.front.sending.as_ref().map_or(0, |chain| chain.chunks().len());
        let pages = self.session().pages() + flying;
        pages <= 4 * OUTBOX_PAGES_MAX + 2 * INBOX_BYTES_MAX.div_ceil(RECV_BYTES)
    }

    /// How often something ended like this.
    pub fn closed(&self, close: Close) -> u64 {
        self.counters.closed(close)
    }

    /// The process is told to end: everything comes home.
    pub fn kill(mut self) {
        self.tell(Event::Kill);
        self.hoard.drain(..).for_each(|page| self.pool.give(page));
        assert!(self.front.end.is_some(), "a killed session is over");
        for mut conn in std::mem::take(&mut self.parked) {
            conn.clear(&mut self.pool);
        }
        assert_eq!(self.pool.free(), self.pool.made(), "every page is home");
    }
}

/// The client's side of a TLS connection to a rig.
pub struct Client {
    pipe: Pipe,
    pool: Pool,
    plain: Queue,
    out: Queue,
}

impl Client {
    /// A client that has shaken hands.
    pub fn shake(rig: &mut Rig) -> Self {
        let options = ClientOptions { verify: false, ..ClientOptions::default() };
        let tls = ClientTls::new(&options).unwrap();
        let pipe = Pipe::connect(&tls, "localhost").unwrap();
        let mut client = Self { pipe, pool: Pool::new(64), plain: Queue::new(), out: Queue::new() };
        client.pipe.start(&mut client.out, &mut client.pool).unwrap();
        while client.pipe.is_handshaking() {
            client.exchange(rig);
        }
        client.exchange(rig);
        client
    }

    fn exchange(&mut self, rig: &mut Rig) {
        while let Some(chunk) = self.out.pop() {
            rig.client(chunk.bytes());
            self.pool.give(chunk.into_page());
        }
        for part in std::mem::take(&mut rig.front.sent).chunks(RECV_BYTES) {
            let mut chunk = Chunk::empty(self.pool.take().unwrap());
            chunk.append(part);
            self.pipe.received(chunk, &mut self.plain, &mut self.out, &mut self.pool).unwrap();
        }
    }

    /// One record.
    pub fn record(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut queue = Queue::new();
        assert!(queue.append(plain, &mut self.pool));
        self.pipe.encrypt(&mut queue, &mut self.out, usize::MAX, &mut self.pool).unwrap();
        let mut record = Vec::new();
        while let Some(chunk) = self.out.pop() {
            record.extend_from_slice(chunk.bytes());
            self.pool.give(chunk.into_page());
        }
        record
    }

    /// Sends and reads what comes back.
    pub fn say(&mut self, rig: &mut Rig, plain: &[u8]) -> String {
        let record = self.record(plain);
        rig.client(record);
        self.exchange(rig);
        let mut text = Vec::new();
        while let Some(chunk) = self.plain.pop() {
            text.extend_from_slice(chunk.bytes());
            self.pool.give(chunk.into_page());
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}
