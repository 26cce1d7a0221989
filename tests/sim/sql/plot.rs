//! What one seed means for SQL: a configuration, servers and what becomes of them, clients and what they say.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ringgate::config::model::Consistency;
use ringgate::mysql::facts::Capabilities;
use ringgate::net::Address;
use ringgate::ring::sim::{Faults, Pace, Random};

use super::backend::{Habits, Turn};
use super::caller::{Op, Script, Unit};
use super::statement::Statement;
use super::truth::{Fate, Place, Record};
use crate::scenario::Mood;

/// Keys that all clients write.
const KEYS_SHARED: usize = 3;
/// Keys of each client that it writes alone.
pub const KEYS_EACH: usize = 3;

/// Whose key it is; `None`: everybody's.
pub const fn owner_of(key: usize) -> Option<usize> {
    (key / 100).checked_sub(1)
}

/// What one seed means.
#[derive(Debug)]
pub struct Plot {
    pub mood: Mood,
    pub faults: Faults,
    pub config: String,
    pub consistency: Consistency,
    pub workers: usize,
    pub pages: usize,
    pub places: Vec<Place>,
    pub servers: Vec<Habits>,
    pub clients: Vec<Script>,
    pub records: Vec<Record>,
    /// How often the monitor looks.
    pub looks: Duration,
    /// How many users the clients share.
    pub users: usize,
    /// When a user gets another password.
    pub rotations: Vec<(Duration, usize)>,
    /// Connections that each server may have in use.
    pub places_max: usize,
    /// The same configuration is read again.
    pub reloads: Vec<Duration>,
    /// The process is told to stop.
    pub drain_at: Option<Duration>,
    pub drain_time: Duration,
    /// From when on each client starts, within this.
    pub spread: Duration,
}

fn address(network: u8, host: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, network, host], 3306))
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

impl Plot {
    pub fn new(seed: u64, secret: &Path) -> Self {
        let mut random = Random::new(seed ^ 0x5491_0000);
        let mood = match random.below(10) {
            0..=2 => Mood::Calm,
            3..=5 => Mood::Rough,
            _ => Mood::Storm,
        };
        let calm = mood == Mood::Calm;
        let faults = match mood {
            Mood::Calm if random.below(4) == 0 => Faults::none(),
            Mood::Calm | Mood::Rough => Faults::harmless(&mut random),
            Mood::Storm => Faults::swarm(&mut random),
        };
        let consistency = random.pick(&[
            Consistency::ReadYourWrites,
            Consistency::ReadYourWrites,
            Consistency::ReadYourWrites,
            Consistency::Global,
            Consistency::Eventual,
        ]);
        let mut plot = Self {
            mood,
            faults,
            config: String::new(),
            consistency,
            workers: random.pick(&[1, 1, 2]),
            pages: if !calm && random.chance(100) { random.pick(&[24, 60]) } else { 800 },
            places: Vec::new(),
            servers: Vec::new(),
            clients: Vec::new(),
            // Id 0 is nobody's.
            records: vec![Record {
                client: usize::MAX,
                statement: Statement::Commit { id: 0 },
                begun_by: None,
                ground: None,
                ran: Vec::new(),
                applied: Vec::new(),
                fate: Fate::Unsent,
            }],
            users: random.pick(&[1, 1, 2, 6]),
            rotations: Vec::new(),
            places_max: 0,
            looks: ms(random.pick(&[20, 100, 500])),
            reloads: (0..random.pick(&[0, 0, 0, 1, 3])).map(|_| random.time(ms(10), ms(3000))).collect(),
            drain_at: (!calm && random.chance(100)).then(|| random.time(ms(10), ms(4000))),
            drain_time: ms(random.pick(&[10, 1000, 30_000])),
            spread: ms(random.pick(&[0, 5, 100, 2000])),
        };
        plot.reloads.sort();
        if !calm && random.chance(150) {
            let user = random.between(0, plot.users - 1);
            plot.rotations.push((random.time(ms(10), ms(3000)), user));
        }
        plot.add_servers(&mut random);
        let chance = if calm { 400 } else { 500 };
        plot.places_max = if random.chance(chance) { random.between(1, 3) } else { 0 };
        for server in plot.servers.iter_mut().filter(|_| calm && plot.reloads.is_empty()) {
            server.busy_max = plot.places_max;
        }
        plot.write_config(&mut random, secret);
        for _ in 0..random.between(1, 6) {
            plot.add_client(&mut random);
        }
        plot
    }

    fn is_calm(&self) -> bool {
        self.mood == Mood::Calm
    }

    fn add_servers(&mut self, random: &mut Random) {
        let count = random.pick(&[1, 2, 3, 3, 3]);
        let strict = random.chance(300);
        let slow = ms(random.pick(&[0, 1, 20]));
        let (troubles, dooms) = match self.mood {
            Mood::Calm => (0, 0),
            _ => (random.pick(&[0, 0, 10, 60]), random.pick(&[0, 0, 100, 400])),
        };
        for at in 0..count {
            let low = ms(random.pick(&[0, 0, 1, 30]));
            let high = low + ms(random.pick(&[0, 1, 10, 200, 5000]));
            self.places.push(Place::new(at == 0, at == 0 || !strict, (low, high)));
            self.servers.push(Habits {
                address: Address::Tcp(address(1, 1 + at as u8)),
                turns: Vec::new(),
                work: (Duration::ZERO, slow),
                troubles,
                dooms,
                switches: random.pick(&[0, 300]),
                life: (!matches!(self.mood, Mood::Calm) && random.chance(150)).then(|| ms(3000)),
                busy_max: 0,
                reads: pace(random),
                writes: pace(random),
            });
        }
        if !self.is_calm() {
            self.plan_turns(random);
        }
    }

    /// What becomes of the servers.
    fn plan_turns(&mut self, random: &mut Random) {
        let count = self.servers.len();
        if random.chance(300) {
            // Somebody is away for a while.
            let at = random.between(0, count - 1);
            let (down, time) = (random.time(ms(5), ms(3000)), random.time(ms(1), ms(4000)));
            self.servers[at].turns.push((down, Turn::Down(random.chance(200))));
            self.servers[at].turns.push((down + time, Turn::Up));
        }
        let away: Vec<bool> = self.servers.iter().map(|server| !server.turns.is_empty()).collect();
        let (mut primary, mut from) = (0, ms(5));
        for _ in 0..random.pick(&[0, 0, 1, 1, 2]) {
            let next = (primary + 1) % count;
            if next == primary || away[primary] || away[next] {
                return;
            }
            let at = random.time(from, from + ms(2500));
            let gap = ms(random.pick(&[1, 30, 300, 3000]));
            let last = if random.coin() { Turn::Demoted } else { Turn::Down(random.chance(300)) };
            self.servers[primary].turns.push((at, last));
            self.servers[next].turns.push((at + gap, Turn::Promoted));
            if last != Turn::Demoted && count == 2 {
                return;
            }
            (primary, from) = (next, at + gap + ms(1));
        }
    }

    fn write_config(&mut self, random: &mut Random, secret: &Path) {
        let calm = self.is_calm();
        let places = match self.places_max {
            0 => String::new(),
            most => format!(", connections = {most}"),
        };
        let pooling = if random.chance(700) { "transaction" } else { "session" };
        let idle = random.pick(&[
            "",
            "",
            "",
            "idle_connections = 0\n",
            "idle_connections = 1\n",
            "idle_connections = 2\n",
        ]);
        let wait = if calm { "390s" } else { random.pick(&["50ms", "1s", "5s"]) };
        let waiting = if calm { 1000 } else { random.pick(&[1, 3, 1000]) };
        let mut servers = String::new();
        for server in &self.servers {
            let _ = write!(servers, "{{ address = \"{}\"{places} }}, ", server.address);
        }
        let consistency = match self.consistency {
            Consistency::Eventual => "eventual",
            Consistency::ReadYourWrites => "read-your-writes",
            Consistency::Global => "global",
        };
        let (answer, connect) = if calm { ("100s", "20s") } else { ("3s", "1s") };
        let primary = random.pick(&["10ms", "1s", "4s"]);
        let primary = if calm { "20s" } else { primary };
        let lag = random.pick(&["10ms", "1s", "1h"]);
        let reads = if random.chance(80) { "primary" } else { "replicas" };
        let user = format!("{{ user = \"watch\", password_file = \"{}\" }}", secret.display());
        let _ = write!(
            self.config,
            "[sql.main]\nlisten = [\"{}\"]\nservers = [ {servers}]\naccount = {user}\nreads = \"{reads}\"\n\
             pooling = \"{pooling}\"\n{idle}queue = {{ max = {waiting}, timeout = \"{wait}\" }}\n\
             consistency = \"{consistency}\"\nlag_max = \"{lag}\"\ntimeouts = {{ handshake = \"50s\", idle = \"90s\", \
             progress = \"20s\", answer = \"{answer}\", primary = \"{primary}\", connect = \"{connect}\" }}\n\n\
             [limits]\ndrain = \"{}ms\"\n",
            address(0, 1),
            self.drain_time.as_millis()
        );
    }

    fn add_client(&mut self, random: &mut Random) {
        let client = self.clients.len();
        let mut capabilities = Capabilities::PROTOCOL_41
            | Capabilities::SECURE_CONNECTION
            | Capabilities::PLUGIN_AUTH
            | Capabilities::CONNECT_WITH_DB
            | Capabilities::TRANSACTIONS
            | Capabilities::PLUGIN_AUTH_LENENC;
        for one in [Capabilities::SESSION_TRACK, Capabilities::DEPRECATE_EOF, Capabilities::MULTI_RESULTS] {
            if random.coin() {
                capabilities = capabilities | one;
            }
        }
        let calm = self.is_calm();
        let leaves = (!calm && random.chance(100)).then(|| (random.time(ms(1), ms(2000)), random.coin()));
        let (reads, writes) = (pace(random), pace(random));
        let mut units = Vec::new();
        for _ in 0..random.between(1, 14) {
            let unit = self.unit(random, client);
            units.push(unit);
        }
        self.clients.push(Script {
            client,
            user: client % self.users,
            collation: random.pick(&[45, 45, 45, 33]),
            to: Address::Tcp(address(0, 1)),
            from: SocketAddr::from(([10, 9, 1, 1 + client as u8], 40_000 + client as u16)),
            units,
            capabilities,
            reads,
            writes,
            think: (Duration::ZERO, ms(random.pick(&[0, 0, 5, 300, 1500]))),
            stubborn: random.chance(300),
            sessions_max: if calm { 1 } else { random.between(1, 8) },
            leaves,
            calm,
        });
    }

    /// A statement with a record.
    fn say(
        &mut self,
        client: usize,
        begun_by: Option<usize>,
        make: impl FnOnce(usize) -> Statement,
    ) -> usize {
        let id = self.records.len();
        let statement = make(id);
        let (ran, applied) = (Vec::new(), Vec::new());
        let ground = None;
        self.records.push(Record { client, statement, begun_by, ground, ran, applied, fate: Fate::Unsent });
        id
    }

    fn key(random: &mut Random, client: usize) -> usize {
        if random.chance(250) {
            return random.between(1, KEYS_SHARED);
        }
        100 * (client + 1) + random.between(1, KEYS_EACH)
    }

    fn read(&mut self, random: &mut Random, client: usize, begun_by: Option<usize>) -> usize {
        let (key, locks) = (Self::key(random, client), random.chance(80));
        let pad = random.pick(&[0, 1, 1, 10, 60, 60, 1500, 14_000]);
        self.say(client, begun_by, |id| Statement::Read { id, key, client, pad, locks })
    }

    fn write(&mut self, random: &mut Random, client: usize, begun_by: Option<usize>) -> usize {
        let (key, shape) = (Self::key(random, client), random.between(1, 12));
        match random.below(10) {
            0..=5 => {
                // Some are longer than what is kept of a command.
                let long = if random.chance(100) { random.between(14_000, 60_000) } else { 0 };
                self.say(client, begun_by, |id| Statement::Write { id, key, long })
            }
            6 => self.say(client, begun_by, |id| Statement::Insert { id }),
            7 => self.say(client, begun_by, |id| Statement::Function { id, key, shape }),
            _ => self.say(client, begun_by, |id| Statement::View { id, key, shape }),
        }
    }

    fn either(&mut self, random: &mut Random, client: usize, begun_by: Option<usize>) -> usize {
        if random.coin() { self.read(random, client, begun_by) } else { self.write(random, client, begun_by) }
    }

    fn unit(&mut self, random: &mut Random, client: usize) -> Unit {
        let one = |id| Unit { ops: vec![Op::Query(id)], undo: Vec::new() };
        match random.below(26) {
            0..=4 => {
                // What was just written is read at once.
                let write = self.write(random, client, None);
                let mut ops = vec![Op::Query(write)];
                for _ in 0..random.between(0, 3) {
                    ops.push(Op::Query(self.read(random, client, None)));
                }
                Unit { ops, undo: Vec::new() }
            }
            5..=8 => one(self.read(random, client, None)),
            9..=12 => self.transaction(random, client),
            13..=15 => self.prepared(random, client),
            16 => {
                let value = random.between(65, 90);
                one(self.say(client, None, |id| Statement::SetSession { id, value }))
            }
            17 => one(self.say(client, None, |id| Statement::SetVariable { id })),
            18 => one(self.say(client, None, |id| Statement::ReadVariable { id })),
            19 => one(self.say(client, None, |id| Statement::InsertId { id })),
            20 => {
                let op = random.pick(&[Op::Ping, Op::InitDb("shop"), Op::InitDb("other")]);
                Unit { ops: vec![op], undo: Vec::new() }
            }
            21 => {
                let again = Op::ChangeUser(random.between(0, self.users - 1));
                Unit { ops: vec![random.pick(&[Op::Reset, again])], undo: Vec::new() }
            }
            22..=24 => self.insert_id(random, client),
            _ => self.locked(random, client),
        }
    }

    /// Ids of inserts, and what asks for them later.
    fn insert_id(&mut self, random: &mut Random, client: usize) -> Unit {
        let first = match random.chance(700) {
            true => self.say(client, None, |id| Statement::Insert { id }),
            false => self.say(client, None, |id| Statement::SetInsertId { id }),
        };
        let mut ops = vec![Op::Query(first)];
        for _ in 0..random.between(0, 2) {
            ops.push(Op::Query(self.either(random, client, None)));
        }
        ops.push(Op::Query(self.say(client, None, |id| Statement::InsertId { id })));
        Unit { ops, undo: Vec::new() }
    }

    /// What is done with a lock.
    fn locked(&mut self, random: &mut Random, client: usize) -> Unit {
        let mut ops = vec![Op::Query(self.say(client, None, |id| Statement::Lock { id }))];
        for _ in 0..random.between(0, 2) {
            ops.push(Op::Query(self.either(random, client, None)));
        }
        if random.chance(800) {
            ops.push(Op::Query(self.say(client, None, |id| Statement::Unlock { id })));
        }
        Unit { ops, undo: Vec::new() }
    }

    fn transaction(&mut self, random: &mut Random, client: usize) -> Unit {
        let (implicit, read_only) = (random.chance(200), random.chance(300));
        let begin = match implicit {
            true => self.say(client, None, |id| Statement::Autocommit { id, on: false }),
            false => self.say(client, None, |id| Statement::Begin { id, read_only }),
        };
        let mut ops = vec![Op::Query(begin)];
        let by = Some(begin);
        for _ in 0..random.between(0, 5) {
            if random.chance(100) {
                ops.push(Op::Query(self.say(client, by, |id| Statement::InsertId { id })));
            }
            let reads = read_only && random.chance(900);
            let id = if reads { self.read(random, client, by) } else { self.either(random, client, by) };
            ops.push(Op::Query(id));
        }
        let ends = match random.chance(700) {
            true => self.say(client, by, |id| Statement::Commit { id }),
            false => self.say(client, by, |id| Statement::Rollback { id }),
        };
        ops.push(Op::Query(ends));
        let mut undo = vec![self.say(client, by, |id| Statement::Rollback { id })];
        if implicit {
            ops.push(Op::Query(self.say(client, None, |id| Statement::Autocommit { id, on: true })));
            undo.push(self.say(client, None, |id| Statement::Autocommit { id, on: true }));
        }
        Unit { ops, undo }
    }

    /// One statement is prepared and executed several times.
    fn prepared(&mut self, random: &mut Random, client: usize) -> Unit {
        let first = self.either(random, client, None);
        if let Statement::Write { long, .. } = &mut self.records[first].statement {
            *long = 0;
        }
        let mut ops = vec![Op::Prepare(first), Op::Execute(first)];
        for _ in 0..random.between(0, 3) {
            let statement = self.records[first].statement;
            let again = match statement {
                Statement::Read { key, client, pad, locks, .. } => {
                    self.say(client, None, |id| Statement::Read { id, key, client, pad, locks })
                }
                Statement::Write { key, long, .. } => {
                    self.say(client, None, |id| Statement::Write { id, key, long })
                }
                Statement::Function { key, shape, .. } => {
                    self.say(client, None, |id| Statement::Function { id, key, shape })
                }
                Statement::View { key, shape, .. } => {
                    self.say(client, None, |id| Statement::View { id, key, shape })
                }
                _ => break,
            };
            ops.push(Op::Execute(again));
            if random.chance(200) {
                ops.push(Op::Query(self.write(random, client, None)));
            }
        }
        if random.coin() {
            ops.push(Op::CloseStatement);
        }
        Unit { ops, undo: Vec::new() }
    }
}

fn pace(random: &mut Random) -> Pace {
    if random.coin() {
        return Pace::FAST;
    }
    let piece_max = random.pick(&[1, 10, 200, 5000]);
    let most = if piece_max < 100 { 20 } else { random.pick(&[0, 100, 3000]) };
    Pace { piece_max, pause: (Duration::ZERO, Duration::from_micros(most)) }
}
