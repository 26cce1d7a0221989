//! A simulated server: greets, lets clients log in, serves their commands after a while, and fails in every way.

use std::collections::BTreeMap;
use std::time::Duration;

use ringgate::mysql::auth::native;
use ringgate::mysql::command::Kind;
use ringgate::mysql::facts::{Capabilities, Status};
use ringgate::mysql::generic::{ErrPacket, OK, OkPacket};
use ringgate::mysql::handshake::{Greeting, Response, SCRAMBLE_BYTES, Scramble, write_auth_switch};
use ringgate::mysql::packet::put;
use ringgate::net::Address;
use ringgate::ring::sim::{Actor, ActorIo, ConnId, Happening, Pace, Random};

use super::serving::{At, Does, Session};
use super::truth::{Login, Shared};
use super::wire::take;

/// What happens to a server at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is gone, with all its connections. `true`: nobody is told.
    Down(bool),
    /// It is there again.
    Up,
    /// It takes no writes any more.
    Demoted,
    /// It is the primary now.
    Promoted,
}

/// How a server is.
#[derive(Clone, Debug)]
pub struct Habits {
    pub address: Address,
    pub turns: Vec<(Duration, Turn)>,
    /// How long a statement takes.
    pub work: (Duration, Duration),
    /// Commands, per mille, at which it fails somehow.
    pub troubles: u32,
    /// Connections, per mille, that die after some bytes.
    pub dooms: u32,
    /// Logins, per mille, that are asked for twice.
    pub switches: u32,
    /// How long it bears with a connection at most.
    pub life: Option<Duration>,
    /// Connections that may be at work, if anybody counts.
    pub busy_max: usize,
    pub reads: Pace,
    pub writes: Pace,
}

/// How a command fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    DiesBefore,
    DiesAfter,
    DiesInAnswer,
    StallsBefore,
    StallsAfter,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Closes,
    Resets,
    Vanishes,
}

#[derive(Debug)]
enum Pending {
    /// To be run when its time has come.
    Command(Vec<u8>),
    Answer(Vec<u8>),
    /// A wait for a position, and what will be said of it.
    Wait(&'static str),
}

struct Link {
    conn: ConnId,
    inbox: Vec<u8>,
    sequence: u8,
    scramble: Scramble,
    /// The login of whom is asked again.
    switched: Option<(Capabilities, u8, Vec<u8>, Vec<u8>)>,
    session: Option<Session>,
    /// Bytes until the end of it, coming and going.
    left: [Option<usize>; 2],
    ending: Ending,
    pending: Option<Pending>,
    /// It answers nothing any more.
    hung: bool,
    /// The other end is gone, what runs still runs.
    gone: bool,
}

/// A server.
pub struct Backend {
    number: usize,
    habits: Habits,
    truth: Shared,
    links: BTreeMap<u32, Link>,
}

const OFFERED: Capabilities = Capabilities(
    Capabilities::FOUND_ROWS.0
        | Capabilities::LONG_FLAG.0
        | Capabilities::CONNECT_WITH_DB.0
        | Capabilities::PROTOCOL_41.0
        | Capabilities::TRANSACTIONS.0
        | Capabilities::RESERVED.0
        | Capabilities::SECURE_CONNECTION.0
        | Capabilities::MULTI_RESULTS.0
        | Capabilities::PS_MULTI_RESULTS.0
        | Capabilities::PLUGIN_AUTH.0
        | Capabilities::PLUGIN_AUTH_LENENC.0
        | Capabilities::SESSION_TRACK.0
        | Capabilities::DEPRECATE_EOF.0,
);

/// Tokens of timers from here on are turns.
const TURN: u64 = 1 << 40;

/// Tokens of timers from here on, below those, are lives.
const LIFE: u64 = 1 << 39;

/// A password of a user.
pub fn password_of(login: Login) -> String {
    format!("secret{}.{}", login.user, login.password)
}

/// A random scramble of the simulation.
pub fn scramble(random: &mut Random) -> Scramble {
    let mut scramble = [0; SCRAMBLE_BYTES];
    scramble.fill_with(|| 0x41 + random.below(26) as u8);
    scramble
}

impl Backend {
    pub fn new(number: usize, habits: Habits, truth: Shared) -> Self {
        Self { number, habits, truth, links: BTreeMap::new() }
    }

    fn fail(&self, what: &str) {
        self.truth.borrow_mut().fail(format!("server {}: {what}", self.number));
    }

    fn accepted(&mut self, conn: ConnId, io: &mut ActorIo<'_>) {
        io.pace(conn, self.habits.reads, self.habits.writes);
        let random = io.random();
        let mut left = [None; 2];
        if random.chance(self.habits.dooms) {
            let most = random.pick(&[100, 400, 1000, 6000]);
            left[random.between(0, 1)] = Some(random.between(0, most));
        }
        let ending = random.pick(&[Ending::Closes, Ending::Resets, Ending::Resets, Ending::Vanishes]);
        let mut link = Link {
            conn,
            inbox: Vec::new(),
            sequence: 0,
            scramble: scramble(random),
            switched: None,
            session: None,
            left,
            ending,
            pending: None,
            hung: false,
            gone: false,
        };
        let full = random.chance(self.habits.dooms / 4);
        let mut out = Vec::new();
        if full {
            let err = ErrPacket { code: 1040, sqlstate: None, message: b"Too many connections" };
            put(&mut out, &mut 0, |out| err.write(out));
            self.send(&mut link, &out, io);
            return io.close(conn);
        }
        let greeting = Greeting {
            version: b"5.5.5-10.11.19-MariaDB",
            connection_id: conn.number(),
            scramble: link.scramble,
            capabilities: OFFERED,
            collation: 45,
            status: Status::AUTOCOMMIT,
            plugin: b"mysql_native_password",
        };
        put(&mut out, &mut link.sequence, |out| greeting.write(out));
        if self.send(&mut link, &out, io) {
            self.links.insert(conn.number(), link);
        }
        if let Some(most) = self.habits.life {
            let wait = io.random().time(Duration::ZERO, most);
            io.timer(wait, LIFE + u64::from(conn.number()));
        }
    }

    /// Sends as much as the connection still bears; false when it has ended.
    fn send(&self, link: &mut Link, bytes: &[u8], io: &mut ActorIo<'_>) -> bool {
        if link.gone {
            return true;
        }
        if let Some(left) = &mut link.left[1] {
            if bytes.len() > *left {
                io.send(link.conn, &bytes[..*left]);
                self.end(link, io);
                return false;
            }
            *left -= bytes.len();
        }
        io.send(link.conn, bytes);
        true
    }

    fn end(&self, link: &Link, io: &mut ActorIo<'_>) {
        io.trace(|| format!("server {}: connection {} {:?}", self.number, link.conn.number(), link.ending));
        self.truth.borrow_mut().tally.deaths += 1;
        if link.gone {
            return;
        }
        match link.ending {
            Ending::Closes => io.close(link.conn),
            Ending::Resets => io.reset(link.conn),
            Ending::Vanishes => io.abandon(link.conn),
        }
    }

    fn data(&mut self, conn: ConnId, bytes: &[u8], io: &mut ActorIo<'_>) {
        let Some(mut link) = self.links.remove(&conn.number()) else { return };
        let mut bytes = bytes;
        let mut last = false;
        if let Some(left) = &mut link.left[0] {
            last = bytes.len() > *left;
            bytes = &bytes[..bytes.len().min(*left)];
            *left -= bytes.len();
        }
        link.inbox.extend_from_slice(bytes);
        if !self.understand(&mut link, io) {
            return;
        }
        if last {
            return self.end(&link, io);
        }
        self.links.insert(conn.number(), link);
    }

    /// Goes through what came; false when the connection has ended.
    fn understand(&self, link: &mut Link, io: &mut ActorIo<'_>) -> bool {
        while link.pending.is_none() && !link.hung {
            if link.session.is_some() {
                link.sequence = 0;
            }
            match take(&mut link.inbox, &mut link.sequence) {
                Ok(None) => return true,
                Ok(Some(payload)) if link.session.is_some() => {
                    if !self.begin(link, payload, io) {
                        return false;
                    }
                }
                Ok(Some(payload)) => {
                    if !self.log_in(link, &payload, io) {
                        return false;
                    }
                }
                Err(why) => {
                    self.fail(&why);
                    link.hung = true;
                }
            }
        }
        true
    }

    fn log_in(&self, link: &mut Link, payload: &[u8], io: &mut ActorIo<'_>) -> bool {
        let mut out = Vec::new();
        let (capabilities, collation, user, database, answer) = match link.switched.take() {
            Some((capabilities, collation, user, database)) => {
                (capabilities, collation, user, database, payload.to_vec())
            }
            None => {
                let Ok(response) = Response::parse(payload, OFFERED) else {
                    self.fail("a login that cannot be read");
                    return true;
                };
                let (user, database) = (response.user.to_vec(), response.database.to_vec());
                if io.random().chance(self.habits.switches) {
                    link.scramble = scramble(io.random());
                    let mut data = link.scramble.to_vec();
                    data.push(0);
                    put(&mut out, &mut link.sequence, |out| {
                        write_auth_switch(out, b"mysql_native_password", &data);
                    });
                    link.switched = Some((response.capabilities, response.collation, user, database));
                    return self.send(link, &out, io);
                }
                (response.capabilities, response.collation, user, database, response.answer.to_vec())
            }
        };
        let user = String::from_utf8_lossy(&user).into_owned();
        let Some(login) = self.login_of(&user, &answer, &link.scramble) else {
            let err = ErrPacket { code: 1045, sqlstate: Some(*b"28000"), message: b"Access denied" };
            put(&mut out, &mut link.sequence, |out| err.write(out));
            if self.send(link, &out, io) {
                io.close(link.conn);
            }
            return false;
        };
        let database = String::from_utf8_lossy(&database).into_owned();
        let session = Session::new(login, collation, capabilities, database);
        let ok = OkPacket {
            header: OK,
            affected_rows: 0,
            last_insert_id: 0,
            status: Status::AUTOCOMMIT,
            warnings: 0,
            info: b"",
            state: b"",
        };
        put(&mut out, &mut link.sequence, |out| ok.write(out, capabilities));
        link.session = Some(session);
        self.send(link, &out, io)
    }

    /// Whose password it is; `None`: it was once.
    fn login_of(&self, user: &str, answer: &[u8], scramble: &Scramble) -> Option<Login> {
        let number = user.strip_prefix('c').and_then(|number| number.parse().ok()).unwrap_or(usize::MAX);
        let now = self.truth.borrow().passwords.get(number).copied();
        let is = |login: Login| {
            let stored = native::stored_of(&native::secret_of(password_of(login).as_bytes()));
            native::verify(answer, scramble, &stored).is_some()
        };
        let known = (0..=now.unwrap_or(0)).map(|password| Login { user: number, password });
        let login = known.filter(|_| now.is_some()).find(|login| is(*login));
        if login.is_none() {
            self.fail(&format!("user {user} does not know its password"));
        }
        login.filter(|login| Some(login.password) == now)
    }

    /// No more connections are at work than are allowed.
    fn check_busy(&self) {
        let at_work = |link: &&Link| {
            let is_open = link.session.as_ref().is_some_and(Session::is_in_transaction);
            !link.gone && !link.hung && (link.pending.is_some() || is_open)
        };
        // The one that has just got a command is not among them.
        let busy = 1 + self.links.values().filter(at_work).count();
        if self.habits.busy_max > 0 && busy > self.habits.busy_max {
            self.fail(&format!("{busy} connections are at work"));
        }
    }

    /// A command has come; false when the connection has ended.
    fn begin(&self, link: &mut Link, payload: Vec<u8>, io: &mut ActorIo<'_>) -> bool {
        if payload != [Kind::Quit as u8] {
            self.check_busy();
        }
        let random = io.random();
        let all = [
            Trouble::DiesBefore,
            Trouble::DiesAfter,
            Trouble::DiesInAnswer,
            Trouble::DiesInAnswer,
            Trouble::StallsBefore,
            Trouble::StallsAfter,
        ];
        let trouble = if random.chance(self.habits.troubles) { random.pick(&all) } else { Trouble::None };
        let (wait, before) = (random.time(self.habits.work.0, self.habits.work.1), random.coin());
        if trouble != Trouble::None {
            io.trace(|| format!("server {}: {trouble:?} at {}", self.number, link.conn.number()));
        }
        match trouble {
            Trouble::DiesBefore => {
                self.end(link, io);
                return false;
            }
            Trouble::StallsBefore => {
                link.hung = true;
                return true;
            }
            Trouble::None if before && !wait.is_zero() => {
                link.pending = Some(Pending::Command(payload));
                io.timer(wait, u64::from(link.conn.number()));
                return true;
            }
            _ => {}
        }
        let answer = match self.run(link, &payload, io) {
            Does::Answers(answer) => answer,
            other => return self.other(link, &other, io),
        };
        match trouble {
            Trouble::DiesAfter => {
                self.end(link, io);
                return false;
            }
            Trouble::DiesInAnswer => {
                link.left[1] = Some(io.random().between(0, answer.len() - 1));
            }
            Trouble::StallsAfter => {
                link.hung = true;
                return true;
            }
            _ if !wait.is_zero() => {
                link.pending = Some(Pending::Answer(answer));
                io.timer(wait, u64::from(link.conn.number()));
                return true;
            }
            _ => {}
        }
        self.send(link, &answer, io)
    }

    fn run(&self, link: &mut Link, payload: &[u8], io: &ActorIo<'_>) -> Does {
        let Some(session) = &mut link.session else { return Does::Nothing };
        let mut truth = self.truth.borrow_mut();
        let conn = link.conn.number();
        session.command(payload, &mut At { truth: &mut truth, now: io.now(), server: self.number, conn })
    }

    /// What is not simply answered; false when the connection has ended.
    fn other(&self, link: &mut Link, does: &Does, io: &mut ActorIo<'_>) -> bool {
        match does {
            Does::Waits(position, time) => {
                let mut truth = self.truth.borrow_mut();
                let now = io.now();
                let reached = truth.position(self.number, now) >= *position;
                let at = truth.applies_at(self.number, *position).filter(|at| at.since(now) <= *time);
                let (wait, says) = match at {
                    _ if reached => (Duration::ZERO, "0"),
                    Some(at) => (at.since(now), "0"),
                    None => (*time, "-1"),
                };
                truth.tally.waited_in_vain += u64::from(says == "-1");
                link.pending = Some(Pending::Wait(says));
                io.timer(wait, u64::from(link.conn.number()));
                true
            }
            Does::Quits => {
                if !link.gone {
                    io.close(link.conn);
                }
                false
            }
            _ => true,
        }
    }

    fn timer(&mut self, token: u64, io: &mut ActorIo<'_>) {
        if token >= TURN {
            return self.turn((token - TURN) as usize, io);
        }
        if token >= LIFE {
            let number = (token - LIFE) as u32;
            let ends = |link: &&mut Link| link.pending.is_none() && !link.gone;
            if self.links.get_mut(&number).filter(ends).is_some()
                && let Some(link) = self.links.remove(&number)
            {
                self.end(&link, io);
            }
            return;
        }
        let Some(mut link) = self.links.remove(&(token as u32)) else { return };
        let goes_on = match link.pending.take() {
            None => true,
            Some(Pending::Command(payload)) => match self.run(&mut link, &payload, io) {
                Does::Answers(answer) => self.send(&mut link, &answer, io),
                other => self.other(&mut link, &other, io),
            },
            Some(Pending::Answer(answer)) => self.send(&mut link, &answer, io),
            Some(Pending::Wait(says)) => {
                let row = [Some(says.as_bytes().to_vec())];
                let answer = link.session.as_mut().map(|session| session.row(&row, false));
                self.send(&mut link, &answer.unwrap_or_default(), io)
            }
        };
        if goes_on && !link.gone && self.understand(&mut link, io) {
            self.links.insert(token as u32, link);
        }
    }

    fn turn(&mut self, at: usize, io: &mut ActorIo<'_>) {
        let turn = self.habits.turns[at].1;
        let now = io.now();
        let number = self.number;
        io.trace(|| format!("server {number}: {turn:?}"));
        self.truth.borrow_mut().note(now, format!("server {number}: {turn:?}"));
        match turn {
            Turn::Down(silently) => {
                io.unlisten(&self.habits.address);
                for link in std::mem::take(&mut self.links).into_values().filter(|link| !link.gone) {
                    if silently { io.abandon(link.conn) } else { io.reset(link.conn) }
                }
                self.truth.borrow_mut().places[number].up = false;
            }
            Turn::Up => {
                io.listen(&self.habits.address);
                self.truth.borrow_mut().places[number].up = true;
            }
            Turn::Demoted => self.truth.borrow_mut().places[number].writable = false,
            Turn::Promoted => self.truth.borrow_mut().promote(number, now),
        }
    }

    /// The other end will not hear any more; what runs is not stopped by that.
    fn left(&mut self, conn: ConnId) {
        if let Some(link) = self.links.get_mut(&conn.number()) {
            if link.pending.is_some() {
                link.gone = true;
            } else {
                self.links.remove(&conn.number());
            }
        }
    }
}

impl Actor for Backend {
    fn on(&mut self, io: &mut ActorIo<'_>, what: Happening<'_>) {
        match what {
            Happening::Start => {
                io.listen(&self.habits.address);
                io.finish();
                for (at, (time, _)) in (0..).zip(&self.habits.turns) {
                    io.timer(*time, TURN + at);
                }
            }
            Happening::Accepted { conn, .. } => self.accepted(conn, io),
            Happening::Data(conn, bytes) => self.data(conn, bytes, io),
            Happening::Eof(conn) => {
                self.left(conn);
                io.close(conn);
            }
            Happening::Reset(conn, _) => self.left(conn),
            Happening::Timer(token) => self.timer(token, io),
            Happening::Connected(_) | Happening::Refused(..) | Happening::Flushed(_) => {}
        }
    }
}
