//! What one seed means: a configuration, servers, clients with their requests, and faults.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ringgate::net::Address;
use ringgate::ring::sim::{Faults, Pace, Random};

use crate::changes::Change;
use crate::ledger::{Ask, AskBody, Framing, Plan, Tight, Wrong};
use crate::raw::RawScript;
use crate::script::{Manner, Script};
use crate::secure::Material;
use crate::server::Habits;
use crate::shape::{PoolShape, ServerShape, Shape};

/// How bad the world is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Nothing fails, everybody behaves, nothing is scarce: every request succeeds.
    Calm,
    /// The network does not fail, but clients and servers misbehave and things are scarce.
    Rough,
    /// Everything can fail.
    Storm,
}

/// What one seed means.
#[derive(Debug)]
pub struct Scenario {
    pub mood: Mood,
    pub faults: Faults,
    pub config: String,
    /// What is changed meanwhile, and when.
    pub changes: Vec<(Duration, Change)>,
    pub workers: usize,
    pub pages: usize,
    pub tight: Tight,
    pub attempts_max: usize,
    pub servers: Vec<Habits>,
    pub asks: Vec<Ask>,
    pub clients: Vec<Script>,
    pub raws: Vec<RawScript>,
    /// The process is told to stop at this time, not when everybody is finished.
    pub drain_at: Option<Duration>,
    /// Its time to drain.
    pub drain_time: Duration,
    /// The order is to end at once.
    pub kill: bool,
    /// The order is to leave the listening sockets to another process.
    pub leave: bool,
    /// Requests at a time that each server may get; 0 is no limit.
    places: [[usize; 3]; 2],
    pub pool_sizes: [usize; 2],
    pub tls: bool,
    /// From when on each client starts, within this.
    pub spread: Duration,
}

const FRONT: u16 = 80;
const SECOND: u16 = 81;
const RELAY: u16 = 5432;
const POOLS: [&str; 4] = ["one", "two", "other", "raw"];
/// Another pool for the first host.
const OTHER: usize = 2;
const RAW: usize = 3;
const BODY_MAX: usize = 300_000;
const HOSTS: [&str; 2] = ["one.test", "two.test:8080"];
const SIZES: [usize; 17] =
    [0, 1, 2, 10, 100, 1000, 1023, 4095, 4096, 4097, 16_383, 16_384, 16_385, 20_416, 20_480, 65_536, 200_000];

/// What is switched on in this run.
struct Switches<'a> {
    material: &'a Material,
    client: Arc<rustls::ClientConfig>,
    tls_in: bool,
    tls_out: [bool; 2],
    proxy_in: bool,
    proxy_out: [Option<&'static str>; 2],
    relay: bool,
    small: bool,
}

fn front(port: u16) -> Address {
    Address::Tcp(SocketAddr::from(([10, 0, 0, 1], port)))
}

/// The first server of the second pool has a Unix socket.
fn server_address(pool: usize, at: usize) -> Address {
    if (pool, at) == (1, 0) {
        return Address::Unix("/run/two.sock".into());
    }
    Address::Tcp(SocketAddr::from(([10, 0, 1 + pool as u8, 1 + at as u8], 8000)))
}

impl Scenario {
    pub fn new(seed: u64, material: &Material) -> Self {
        let mut random = Random::new(seed ^ 0x51b0_0000);
        let mood = match random.below(10) {
            0..=2 => Mood::Calm,
            3..=5 => Mood::Rough,
            _ => Mood::Storm,
        };
        let faults = match mood {
            Mood::Calm if random.below(4) == 0 => Faults::none(),
            Mood::Calm | Mood::Rough => Faults::harmless(&mut random),
            Mood::Storm => Faults::swarm(&mut random),
        };
        let tight = Tight {
            queue: mood != Mood::Calm && random.chance(250),
            memory: mood != Mood::Calm && random.chance(200),
            times: mood != Mood::Calm && random.chance(250),
            stale: mood != Mood::Calm && random.chance(300),
            connections: mood != Mood::Calm && random.chance(100),
        };
        let switches = Switches {
            material,
            client: material.client(),
            tls_in: random.chance(200),
            tls_out: [(); 2].map(|()| random.chance(120)),
            proxy_in: random.chance(200),
            proxy_out: [(); 2].map(|()| random.chance(150).then(|| random.pick(&["v1", "v2"]))),
            relay: random.chance(300),
            small: random.coin(),
        };
        let workers = random.pick(&[1, 1, 2]);
        let counts = [random.between(1, 3), random.between(1, 2)];
        let few_places = tight.queue || (mood == Mood::Calm && random.chance(250));
        let places =
            [[(); 3]; 2].map(|pool| pool.map(|()| if few_places { random.between(1, 2) } else { 0 }));
        let mut scenario = Self {
            mood,
            faults,
            config: String::new(),
            changes: Vec::new(),
            workers,
            pages: if tight.memory { random.pick(&[16, 24, 48, 100]) } else { 800 },
            tight,
            attempts_max: 0,
            servers: Vec::new(),
            asks: Vec::new(),
            clients: Vec::new(),
            raws: Vec::new(),
            drain_at: random.chance(200).then(|| random.time(Duration::ZERO, Duration::from_secs(2))),
            drain_time: match mood {
                Mood::Calm => Duration::from_secs(300),
                _ => Duration::from_millis(random.pick(&[30_000, 1000, 10])),
            },
            kill: random.chance(200),
            leave: random.chance(200),
            places,
            pool_sizes: counts,
            tls: switches.tls_in,
            spread: Duration::from_millis(random.pick(&[0, 5, 100, 3000])),
        };
        scenario.plan_changes(&mut random);
        let shape = scenario.shape(&mut random, &switches, counts);
        scenario.write_changes(&mut random, &shape);
        scenario.add_servers(&mut random, &switches, counts);
        scenario.add_clients(&mut random, &switches);
        scenario
    }

    fn add_clients(&mut self, random: &mut Random, switches: &Switches<'_>) {
        // Now and then many at once, with little to say each.
        let crowd = switches.small && random.chance(60);
        for _ in 0..if crowd { random.between(15, 30) } else { random.between(1, 7) } {
            self.add_client(random, switches);
        }
        if switches.relay {
            for _ in 0..random.between(1, 3) {
                self.add_raw(random, switches);
            }
        }
    }

    fn shape(&mut self, random: &mut Random, switches: &Switches<'_>, counts: [usize; 2]) -> Shape {
        let attempts = random.between(1, 4);
        self.attempts_max = attempts;
        let mut pools = Vec::new();
        for (pool, name) in POOLS.into_iter().enumerate() {
            if pool == RAW && !switches.relay {
                continue;
            }
            let count = counts.get(pool).copied().unwrap_or(2);
            let mut servers: Vec<ServerShape> = (0..count)
                .map(|at| ServerShape {
                    address: server_address(pool, at),
                    present: at == 0 || self.changes.is_empty() || random.chance(700),
                    named: false,
                    weight: random.between(1, 3),
                    backup: at > 0 && random.chance(200),
                    places: self.places.get(pool).map_or(0, |places| places[at]),
                })
                .collect();
            if pool == RAW {
                servers.truncate(if self.changes.is_empty() { 1 } else { 2 });
            }
            let mut shape = PoolShape {
                name,
                present: pool != OTHER,
                proxy: switches.proxy_out.get(pool).copied().flatten(),
                ca: (switches.tls_out.get(pool) == Some(&true)).then(|| switches.material.ca()),
                balance: "round-robin",
                attempts,
                keep_alive: true,
                few_idle: false,
                queue: None,
                seconds: None,
                servers,
            };
            shape.vary(random, self.tight, self.mood == Mood::Calm, attempts);
            shape.attempts = attempts;
            if let Some(size) = self.pool_sizes.get_mut(pool) {
                *size = shape.servers.iter().filter(|server| server.present).count();
            }
            pools.push(shape);
        }
        let mut shape = Shape {
            tight: self.tight,
            calm: self.mood == Mood::Calm,
            proxy_in: switches.proxy_in,
            site: switches.tls_in.then(|| switches.material.site()),
            front: front(FRONT).to_string(),
            second: front(SECOND).to_string(),
            second_open: true,
            relay: switches.relay.then(|| front(RELAY).to_string()),
            relay_open: switches.relay,
            two_routed: true,
            other_routed: false,
            spare: 0,
            reversed: false,
            body: BODY_MAX,
            requests: 0,
            seconds: 0,
            connections: None,
            drain_ms: self.drain_time.as_millis(),
            attempts_max: attempts,
            pools,
        };
        shape.vary(random);
        shape
    }

    /// What is changed while the run goes on: times only, at first.
    fn plan_changes(&mut self, random: &mut Random) {
        if random.chance(400) {
            return;
        }
        let longest = Duration::from_millis(random.pick(&[5, 100, 1000, 4000]));
        let mut times: Vec<Duration> =
            (0..random.between(1, 8)).map(|_| random.time(Duration::ZERO, longest)).collect();
        times.sort();
        let kind = |random: &mut Random| {
            if random.chance(300) {
                Change::Admin(random.below(u64::MAX))
            } else {
                Change::Reload(String::new(), random.chance(850))
            }
        };
        self.changes = times.into_iter().map(|time| (time, kind(random))).collect();
    }

    /// Each edition is a step on from the one before.
    fn write_changes(&mut self, random: &mut Random, shape: &Shape) {
        self.config = shape.text();
        let mut shape = shape.clone();
        for (_, change) in &mut self.changes {
            if let Change::Reload(text, _) = change {
                shape.change(random);
                *text = shape.text();
            }
        }
    }

    fn add_servers(&mut self, random: &mut Random, switches: &Switches<'_>, counts: [usize; 2]) {
        let changes = !self.changes.is_empty();
        for pool in 0..POOLS.len() {
            if pool == RAW && !switches.relay || pool == OTHER && !changes {
                continue;
            }
            let spare = if changes { 2 } else { 1 };
            for at in 0..counts.get(pool).copied().unwrap_or(spare) {
                let habits = Habits {
                    address: server_address(pool, at),
                    host: HOSTS.get(if pool == OTHER { 0 } else { pool }).copied(),
                    expects_proxy: switches.proxy_out.get(pool).copied().flatten().is_some(),
                    tls: (switches.tls_out.get(pool) == Some(&true)).then(|| switches.material.server()),
                    // Where connections break, ringgate may know earlier than the server.
                    most: self
                        .places
                        .get(pool)
                        .map(|places| places[at])
                        .filter(|places| *places > 0 && self.mood == Mood::Calm),
                    echoes: pool == RAW,
                    closes_idle: self
                        .tight
                        .stale
                        .then(|| random.pick(&[Duration::from_millis(2), Duration::from_secs(2)])),
                    restarts: (self.mood == Mood::Storm && random.chance(100))
                        .then_some(Duration::from_secs(1)),
                    reads: pace(random, switches.small),
                    writes: pace(random, switches.small),
                };
                self.servers.push(habits);
            }
        }
    }

    fn add_client(&mut self, random: &mut Random, switches: &Switches<'_>) {
        let number = self.clients.len();
        let manner = if self.mood == Mood::Calm && random.chance(900) || random.chance(500) {
            Manner::Good
        } else {
            self.manner(random, switches)
        };
        let count = random.between(1, 5);
        let mut asks = Vec::new();
        for at in 0..count {
            let ask = self.ask(random, switches, at + 1 == count, &manner);
            asks.push(self.asks.len());
            self.asks.push(ask);
        }
        // With a bound per client some come from one address.
        let host = if self.tight.connections { 1 + number % 2 } else { 1 + number };
        let source = |network| SocketAddr::from(([10, network, 0, host as u8], 40_000 + number as u16));
        let drips = matches!(manner, Manner::DripsHead | Manner::DripsBody);
        let announced = switches.proxy_in && !matches!(manner, Manner::Unannounced);
        self.clients.push(Script {
            to: front(if self.changes.is_empty() { FRONT } else { random.pick(&[FRONT, FRONT, SECOND]) }),
            from: source(9),
            proxied: announced.then(|| (source(77), random.coin())),
            tls: (switches.tls_in && !matches!(manner, Manner::PlainOnTls))
                .then(|| (Arc::clone(&switches.client), random.pick(&["one.test", "two.test"]))),
            asks,
            // Who drips must not do so before its last request.
            pipeline: if drips { 1 } else { random.pick(&[1, 1, 2, 10]) },
            think: Duration::from_millis(random.pick(&[0, 0, 5, 1200])),
            reads: pace(random, switches.small),
            writes: pace(random, switches.small),
            manner,
            waits: random.chance(100),
        });
    }

    fn manner(&self, random: &mut Random, switches: &Switches<'_>) -> Manner {
        let longest = Duration::from_millis(random.pick(&[1, 20, 500, 5000]));
        let soon = random.time(Duration::ZERO, longest);
        if self.mood == Mood::Calm {
            return Manner::HalfCloses;
        }
        match random.below(14) {
            12 => Manner::DripsHead,
            13 => Manner::DripsBody,
            11 if switches.tls_in => Manner::PlainOnTls,
            10 if switches.proxy_in => Manner::Unannounced,
            0 | 1 => Manner::HalfCloses,
            2 => Manner::VanishesAfter(soon),
            3 => Manner::ResetsAfter(soon),
            4 => Manner::ClosesAfter(soon),
            5 => garbage(random),
            6 => Manner::StopsInHead,
            7 => Manner::StopsInBody,
            8 => Manner::BadBody,
            _ => Manner::StopsReading(soon),
        }
    }

    fn ask(&self, random: &mut Random, switches: &Switches<'_>, last: bool, manner: &Manner) -> Ask {
        let calm = self.mood == Mood::Calm;
        let method = random.pick(&["GET", "GET", "HEAD", "POST", "POST", "PUT", "DELETE", "PATCH"]);
        let size = |random: &mut Random| {
            let size = random.pick(&SIZES);
            if switches.small { size.min(4097) } else { size }
        };
        let upgrade = last && random.chance(60) && matches!(manner, Manner::Good);
        let method = if upgrade { "GET" } else { method };
        let body = match (method, random.below(2)) {
            ("GET" | "HEAD", _) => AskBody::None,
            ("DELETE", 0) => AskBody::None,
            (_, 0) => AskBody::Length(size(random)),
            _ => AskBody::Chunked(size(random)),
        };
        let http10 = last && !upgrade && random.chance(100) && !matches!(body, AskBody::Chunked(_));
        let target = format!("/path/{}?q={}", random.below(100), random.below(10));
        let chunked = matches!(body, AskBody::Chunked(_));
        let own = if upgrade || random.chance(900) { 0 } else { random.between(1, 4) };
        let (own, host, target, body) = match own {
            1 => (Some(418), "one.test", "/fixed/x".to_owned(), body),
            2 => (Some(308), "one.test", "/moved?a=b".to_owned(), body),
            3 => (Some(404), "nowhere.test", target, body),
            4 if !http10 && body != AskBody::None && !switches.small && last => {
                let body =
                    if chunked { AskBody::Chunked(BODY_MAX + 1) } else { AskBody::Length(BODY_MAX + 1) };
                (Some(413), random.pick(&HOSTS), target, body)
            }
            _ => (None, random.pick(&HOSTS), target, body),
        };
        let own = match manner {
            Manner::Unannounced => Some(0),
            Manner::PlainOnTls => Some(400),
            _ => own,
        };
        Ask {
            method,
            target,
            host,
            body,
            own,
            http10,
            close: last && !upgrade && !http10 && random.chance(200),
            expect: body.len() > 0 && !http10 && random.chance(200),
            upgrade,
            hop: !upgrade && random.chance(150),
            plan: self.plan(random, switches, calm, upgrade),
        }
    }

    fn plan(&self, random: &mut Random, switches: &Switches<'_>, calm: bool, upgrade: bool) -> Plan {
        let len = random.pick(&SIZES);
        let len = if switches.small { len.min(4097) } else { len };
        let small_pieces = len > 0 && random.chance(200);
        let retried = [Wrong::CloseBeforeHead, Wrong::ResetBeforeHead];
        let mut wrong = match (calm, random.below(1000)) {
            (true, _) | (_, 250..) => None,
            (_, 0..100) => Some(random.pick(&retried)),
            _ => Some(random.pick(&Wrong::ALL)),
        };
        // A second answer is only noticed in time if it comes together with the first.
        let whole = self.faults.tiny_reads == 0 && self.faults.partial_reads == 0;
        let framing = random.pick(&[Framing::Length, Framing::Length, Framing::Chunked, Framing::UntilClose]);
        let noticed = whole && len < 1000 && !switches.small && framing != Framing::UntilClose;
        if wrong == Some(Wrong::ExtraAnswer) && !noticed {
            wrong = Some(Wrong::CloseInBody);
        }
        Plan {
            status: random.pick(&[200, 200, 200, 200, 204, 304, 404, 500]),
            framing,
            len: if upgrade { len.min(65_536) } else { len },
            interims: if random.chance(100) { vec![103; random.between(1, 3)] } else { Vec::new() },
            early: !calm && random.chance(100),
            wait: Duration::from_millis(random.pick(&[0, 0, 1, 30])),
            close: random.chance(100),
            trailers: random.chance(300),
            pieces: if small_pieces && wrong != Some(Wrong::ExtraAnswer) { random.between(2, 20) } else { 1 },
            pause: Duration::from_millis(random.pick(&[0, 1, 20])),
            wrong,
            wrong_attempts: random.pick(&[1, 1, 2, 100]),
        }
    }

    fn add_raw(&mut self, random: &mut Random, switches: &Switches<'_>) {
        let number = self.raws.len();
        let source = |network| SocketAddr::from(([10, network, 1, 1 + number as u8], 50_000 + number as u16));
        let size = random.pick(&SIZES);
        self.raws.push(RawScript {
            to: front(RELAY),
            from: source(9),
            proxied: switches.proxy_in.then(|| (source(77), random.coin())),
            len: if switches.small { size.min(4097) } else { size },
            ends_first: random.coin(),
            reads: pace(random, switches.small),
            writes: pace(random, switches.small),
            breaks_off: self.mood != Mood::Calm && random.chance(200),
        });
    }
}

/// Small bodies may crawl; large ones must not, or a run takes too long.
fn pace(random: &mut Random, small: bool) -> Pace {
    if random.coin() {
        return Pace::FAST;
    }
    let piece_max = if small { random.pick(&[10, 200, 5000]) } else { random.pick(&[2000, 30_000]) };
    Pace { piece_max, pause: (Duration::ZERO, Duration::from_micros(random.pick(&[0, 100, 3000]))) }
}

fn garbage(random: &mut Random) -> Manner {
    const HEAD: &str = "GET /x HTTP/1.1\r\nHost: one.test\r\nX-Id: 666666\r\n";
    let post = HEAD.replace("GET", "POST");
    let (bytes, statuses): (String, &'static [u16]) = match random.below(22) {
        0 => ("\u{1}\u{2}\u{3}\r\n\r\n".to_owned(), &[400]),
        1 => (HEAD.replace("\r\n", "\n") + "\n", &[400]),
        2 => (format!("{HEAD}Bad : x\r\n\r\n"), &[400]),
        3 => (format!("{HEAD}A: b\r\n folded\r\n\r\n"), &[400]),
        4 => (format!("{HEAD}Host: two.test\r\n\r\n"), &[400]),
        5 => ("GET /x HTTP/1.1\r\nX-Id: 666666\r\n\r\n".to_owned(), &[400]),
        6 => (format!("{post}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"), &[400]),
        7 => (format!("{post}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), &[400]),
        8 => (format!("{post}Content-Length: +3\r\n\r\nabc"), &[400]),
        9 => (format!("{post}Transfer-Encoding: gzip\r\n\r\n"), &[400, 501]),
        10 => (format!("{post}Transfer-Encoding: chunked, gzip\r\n\r\n"), &[400, 501]),
        11 => (HEAD.replace("/1.1", "/2.0") + "\r\n", &[400, 505]),
        12 => ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nX-Id: 666666\r\n\r\n".to_owned(), &[400, 405]),
        13 => (format!("{HEAD}A: b\0c\r\n\r\n"), &[400]),
        14 => (format!("{HEAD}: empty\r\n\r\n"), &[400]),
        15 => (format!("{HEAD}A: {}\r\n\r\n", "z".repeat(20_000)), &[431]),
        16 => (format!("{HEAD}{}\r\n", "A: b\r\n".repeat(200)), &[431]),
        17 => (HEAD.replace("/x", &format!("/{}", "t".repeat(9000))) + "\r\n", &[414]),
        18 => (format!("{post}Expect: a-miracle\r\nContent-Length: 3\r\n\r\nabc"), &[417]),
        19 => (
            format!("{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            &[400, 501],
        ),
        20 => ("\r\n\r\n \r\n\r\n".to_owned(), &[400]),
        _ => (HEAD.replace("GET", "G\u{e9}T") + "\r\n", &[400]),
    };
    Manner::Garbage(bytes.into_bytes(), statuses)
}
