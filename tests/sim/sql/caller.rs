//! A simulated SQL client: logs in, says what its script says, judges every answer, and comes back when it was thrown out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use ringgate::mysql::auth::native;
use ringgate::mysql::command::Kind;
use ringgate::mysql::facts::Capabilities;
use ringgate::mysql::handshake::{
    ChangeUser, First, LoginReply, Response, SCRAMBLE_BYTES, Scramble, scramble_of,
};
use ringgate::mysql::packet::put;
use ringgate::net::Address;
use ringgate::ring::sim::{Actor, ActorIo, ConnId, Happening, Pace};

use super::backend::password_of;
use super::mind::Mind;
use super::truth::{Fate, Login, Shared};
use super::wire::{Heard, Hearing, command, execute, take};

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A statement as text.
    Query(usize),
    /// Prepares what this statement says, without its numbers.
    Prepare(usize),
    /// Runs this statement as what was prepared last.
    Execute(usize),
    CloseStatement,
    Reset,
    /// Logs in again, as this user.
    ChangeUser(usize),
    InitDb(&'static str),
    Ping,
}

/// Things that belong together: after a failure the rest is left out.
#[derive(Clone, Debug, Default)]
pub struct Unit {
    pub ops: Vec<Op>,
    /// What is said instead of the rest, if the connection still stands.
    pub undo: Vec<usize>,
}

/// What a client does.
#[derive(Clone, Debug)]
pub struct Script {
    pub client: usize,
    /// As whom it logs in first.
    pub user: usize,
    pub collation: u8,
    pub to: Address,
    pub from: SocketAddr,
    pub units: Vec<Unit>,
    pub capabilities: Capabilities,
    pub reads: Pace,
    pub writes: Pace,
    /// Between two commands.
    pub think: (Duration, Duration),
    /// It goes on after errors, as if nothing had happened.
    pub stubborn: bool,
    pub sessions_max: usize,
    /// It goes away in the middle of everything. `true`: without a word.
    pub leaves: Option<(Duration, bool)>,
    /// Nothing goes wrong in this run.
    pub calm: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Away,
    Connecting,
    Greeting,
    LoggingIn,
    Idle,
    Asking,
    Quitting,
    Over,
}

const THINK: u64 = 1;
const COME: u64 = 2;
const LEAVE: u64 = 3;
const PATIENCE: u64 = 1000;
/// No answer takes so long.
const PATIENCE_TIME: Duration = Duration::from_secs(400);

/// A client.
pub struct Caller {
    script: Script,
    truth: Shared,
    phase: Phase,
    conn: Option<ConnId>,
    inbox: Vec<u8>,
    sequence: u8,
    /// Of the greeting.
    scramble: Scramble,
    hearing: Option<Hearing>,
    mind: Mind,
    login: Login,
    /// The unit, and what of it is to be done.
    unit: usize,
    ops: Vec<Op>,
    /// What is being done.
    asked: Option<Op>,
    /// The statement that was prepared last, and whether its types were told.
    prepared: Option<(u32, bool)>,
    undoing: bool,
    sessions: usize,
    /// Counts what it waits for.
    waits: u64,
}

impl Caller {
    pub fn new(script: Script, mind: Mind, truth: Shared) -> Self {
        Self {
            script,
            truth,
            phase: Phase::Away,
            conn: None,
            inbox: Vec::new(),
            sequence: 0,
            scramble: [0; SCRAMBLE_BYTES],
            hearing: None,
            mind,
            login: Login::default(),
            unit: 0,
            ops: Vec::new(),
            asked: None,
            prepared: None,
            undoing: false,
            sessions: 0,
            waits: 0,
        }
    }

    fn fail(&self, what: &str) {
        self.truth.borrow_mut().fail(format!("client {}: {what}", self.script.client));
    }

    fn note(&self, io: &ActorIo<'_>, what: &str) {
        let what = format!("client {}: {what}", self.script.client);
        self.truth.borrow_mut().note(io.now(), what);
    }

    fn come(&mut self, io: &mut ActorIo<'_>) {
        if self.unit >= self.script.units.len() || self.sessions >= self.script.sessions_max {
            self.phase = Phase::Over;
            return io.finish();
        }
        self.sessions += 1;
        self.truth.borrow_mut().tally.sessions += 1;
        self.phase = Phase::Connecting;
        let conn = io.connect(&self.script.to, Some(self.script.from));
        io.pace(conn, self.script.reads, self.script.writes);
        self.note(io, &format!("comes by connection {}", conn.number()));
        self.conn = Some(conn);
        (self.sequence, self.prepared, self.asked, self.undoing) = (0, None, None, false);
        self.inbox.clear();
        self.ops.clear();
        self.mind.forget();
        self.wait(io);
    }

    /// Something must come now.
    fn wait(&mut self, io: &mut ActorIo<'_>) {
        self.waits += 1;
        io.timer(PATIENCE_TIME, PATIENCE + self.waits);
    }

    fn send(&self, bytes: &[u8], io: &mut ActorIo<'_>) {
        if let Some(conn) = self.conn {
            io.send(conn, bytes);
        }
    }

    /// The connection is gone.
    fn lost(&mut self, io: &mut ActorIo<'_>) {
        self.conn = None;
        if self.phase == Phase::Over {
            return;
        }
        if self.phase == Phase::Quitting {
            self.phase = Phase::Over;
            return io.finish();
        }
        self.note(io, "has lost its connection");
        if self.script.calm {
            self.fail("lost its connection");
        }
        if let (Phase::Asking, Some(Op::Query(id) | Op::Execute(id))) = (&self.phase, self.asked) {
            let mut truth = self.truth.borrow_mut();
            truth.records[id].fate = Fate::Lost;
            truth.tally.lost += 1;
        }
        self.phase = Phase::Away;
        let wait = io.random().time(Duration::ZERO, Duration::from_millis(300));
        io.timer(wait, COME);
    }

    fn data(&mut self, bytes: &[u8], io: &mut ActorIo<'_>) {
        self.inbox.extend_from_slice(bytes);
        while !self.inbox.is_empty() {
            if matches!(self.phase, Phase::Away | Phase::Over) {
                return;
            }
            if matches!(self.phase, Phase::Idle | Phase::Quitting) {
                self.fail(&format!("got {:?}, unasked", self.inbox));
                return self.inbox.clear();
            }
            let payload = match take(&mut self.inbox, &mut self.sequence) {
                Ok(None) => return,
                Ok(Some(payload)) => payload,
                Err(why) => {
                    self.fail(&why);
                    return self.inbox.clear();
                }
            };
            match self.phase {
                Phase::Greeting => self.greeted(&payload, io),
                Phase::LoggingIn => self.replied(&payload, io),
                _ => self.answered(&payload, io),
            }
        }
    }

    fn refused(&mut self, what: &str, io: &mut ActorIo<'_>) {
        self.note(io, &format!("is refused: {what}"));
        if self.script.calm {
            self.fail(what);
        }
        if let Some(conn) = self.conn {
            io.close(conn);
        }
        self.lost(io);
    }

    fn greeted(&mut self, payload: &[u8], io: &mut ActorIo<'_>) {
        let greeting = match First::parse(payload) {
            Ok(First::Greeting(greeting)) => greeting,
            Ok(First::Err(err)) => return self.refused(&String::from_utf8_lossy(err.message), io),
            Err(bad) => return self.fail(&format!("a greeting that is none: {bad:?}")),
        };
        let login = self.log_in(self.script.user);
        let secret = native::secret_of(password_of(login).as_bytes());
        let answer = native::answer(&secret, &greeting.scramble);
        self.scramble = greeting.scramble;
        let user = format!("c{}", login.user);
        let response = Response {
            capabilities: self.script.capabilities & greeting.capabilities,
            packet_bytes_max: 1 << 24,
            collation: self.script.collation,
            user: user.as_bytes(),
            answer: &answer,
            database: b"shop",
            plugin: b"mysql_native_password",
            attributes: b"",
            zstd_level: 0,
        };
        let mut out = Vec::new();
        put(&mut out, &mut self.sequence, |out| response.write(out));
        self.send(&out, io);
        self.phase = Phase::LoggingIn;
        self.wait(io);
    }

    /// With which password it logs in.
    fn log_in(&mut self, user: usize) -> Login {
        let password = self.truth.borrow().passwords[user];
        self.login = Login { user, password };
        self.mind.log_in(self.login, self.script.collation);
        self.login
    }

    fn replied(&mut self, payload: &[u8], io: &mut ActorIo<'_>) {
        match LoginReply::parse(payload) {
            Ok(LoginReply::Ok(_)) => {
                self.phase = Phase::Idle;
                self.waits += 1;
                self.next(io);
            }
            Ok(LoginReply::Switch { data, .. }) => {
                let secret = native::secret_of(password_of(self.login).as_bytes());
                let answer = native::answer(&secret, &scramble_of(data).unwrap_or_default());
                let mut out = Vec::new();
                put(&mut out, &mut self.sequence, |out| out.extend_from_slice(&answer));
                self.send(&out, io);
            }
            Ok(LoginReply::Err(err)) => {
                let what = format!("{} {}", err.code, String::from_utf8_lossy(err.message));
                self.refused(&what, io);
            }
            other => self.fail(&format!("a login is answered by {other:?}")),
        }
    }

    fn next(&mut self, io: &mut ActorIo<'_>) {
        let wait = io.random().time(self.script.think.0, self.script.think.1);
        if wait.is_zero() { self.ask(io) } else { io.timer(wait, THINK) }
    }

    /// The next thing to do that can be done.
    fn take_op(&mut self) -> Option<Op> {
        loop {
            while self.ops.is_empty() {
                let unit = self.script.units.get(self.unit)?;
                self.unit += 1;
                self.undoing = false;
                self.ops = unit.ops.iter().rev().copied().collect();
            }
            match self.ops.pop() {
                Some(Op::Execute(_) | Op::CloseStatement) if self.prepared.is_none() => {}
                op => return op,
            }
        }
    }

    fn ask(&mut self, io: &mut ActorIo<'_>) {
        let Some(op) = self.take_op() else {
            self.note(io, "leaves");
            self.phase = Phase::Quitting;
            self.send(&command(Kind::Quit, b""), io);
            return self.wait(io);
        };
        let (kind, bytes) = match op {
            Op::Query(id) => {
                let text = self.truth.borrow().records[id].statement.text();
                (Kind::Query, command(Kind::Query, text.as_bytes()))
            }
            Op::Prepare(id) => {
                let (text, _) = self.truth.borrow().records[id].statement.prepared();
                (Kind::StmtPrepare, command(Kind::StmtPrepare, text.as_bytes()))
            }
            Op::Execute(id) => {
                let (_, parameters) = self.truth.borrow().records[id].statement.prepared();
                let (number, typed) = self.prepared.unwrap_or_default();
                self.prepared = Some((number, true));
                let tells = !typed || io.random().chance(300);
                (Kind::StmtExecute, execute(number, &parameters, tells))
            }
            Op::CloseStatement => {
                let (number, _) = self.prepared.take().unwrap_or_default();
                self.send(&command(Kind::StmtClose, &number.to_le_bytes()), io);
                return self.next(io);
            }
            Op::ChangeUser(user) => (Kind::ChangeUser, self.change_user(user)),
            Op::Reset => (Kind::ResetConnection, command(Kind::ResetConnection, b"")),
            Op::InitDb(name) => (Kind::InitDb, command(Kind::InitDb, name.as_bytes())),
            Op::Ping => (Kind::Ping, command(Kind::Ping, b"")),
        };
        if let Op::Query(id) | Op::Execute(id) = op {
            let mut truth = self.truth.borrow_mut();
            truth.records[id].fate = Fate::Sent;
            self.mind.ask(id, &mut truth);
        }
        self.note(io, &format!("asks {op:?}"));
        self.hearing = Some(Hearing::new(kind, self.script.capabilities));
        (self.asked, self.sequence, self.phase) = (Some(op), 1, Phase::Asking);
        self.send(&bytes, io);
        self.wait(io);
    }

    fn change_user(&mut self, user: usize) -> Vec<u8> {
        self.login = Login { user, password: self.truth.borrow().passwords[user] };
        let secret = native::secret_of(password_of(self.login).as_bytes());
        let user = format!("c{user}");
        let answer = native::answer(&secret, &self.scramble);
        let change = ChangeUser {
            user: user.as_bytes(),
            answer: &answer,
            database: b"shop",
            collation: Some(self.script.collation.into()),
            plugin: b"mysql_native_password",
            attributes: b"",
        };
        let (mut out, capabilities) = (Vec::new(), self.script.capabilities);
        put(&mut out, &mut 0, |out| change.write(out, capabilities));
        out
    }

    fn answered(&mut self, payload: &[u8], io: &mut ActorIo<'_>) {
        let Some(hearing) = &mut self.hearing else { return };
        let heard = match hearing.packet(payload) {
            Ok(None) => return,
            Ok(Some(heard)) => heard,
            Err(why) => {
                let what = format!("{:?} is answered by {why}", self.asked);
                self.fail(&what);
                return self.inbox.clear();
            }
        };
        self.phase = Phase::Idle;
        self.waits += 1;
        let Some(op) = self.asked.take() else { return };
        if !matches!(heard, Heard::Row { .. }) {
            self.note(io, &format!("hears {heard:?}"));
        }
        let is_error = matches!(heard, Heard::Err(..));
        let expected = match op {
            Op::Query(id) | Op::Execute(id) => {
                let judged = self.mind.judge(id, &heard, &mut self.truth.borrow_mut());
                judged.unwrap_or_else(|why| {
                    self.fail(&format!("statement {id}: {why}"));
                    false
                })
            }
            op => self.settle(op, &heard),
        };
        if is_error && !expected {
            self.truth.borrow_mut().tally.failed += 1;
            if self.script.calm {
                self.fail(&format!("{op:?} failed: {heard:?}"));
            }
            if !self.script.stubborn && !self.undoing {
                let undo = self.script.units.get(self.unit - 1).map(|unit| unit.undo.clone());
                let undo = undo.filter(|_| self.mind.is_in_transaction()).unwrap_or_default();
                self.ops = undo.into_iter().rev().map(Op::Query).collect();
                self.undoing = true;
            }
        }
        self.next(io);
    }

    /// What is no statement was answered; true when an error is all right.
    fn settle(&mut self, op: Op, heard: &Heard) -> bool {
        match (op, heard) {
            (Op::Prepare(_), Heard::Prepared(number)) => self.prepared = Some((*number, false)),
            (Op::Prepare(_), Heard::Err(..)) => self.prepared = None,
            (Op::Reset, Heard::Ok { .. }) => {
                self.mind.reset();
                self.prepared = None;
            }
            (Op::ChangeUser(_), Heard::Ok { .. }) => {
                self.mind.forget();
                self.mind.log_in(self.login, self.script.collation);
                self.prepared = None;
            }
            (Op::InitDb(name), Heard::Ok { .. }) => self.mind.database = name,
            (Op::Ping, Heard::Ok { .. }) | (_, Heard::Err(..)) => {}
            (op, heard) => self.fail(&format!("{op:?} is answered by {heard:?}")),
        }
        false
    }

    fn timer(&mut self, token: u64, io: &mut ActorIo<'_>) {
        match token {
            THINK if self.phase == Phase::Idle => self.ask(io),
            COME if self.phase == Phase::Away => self.come(io),
            LEAVE => self.leave(io),
            token if token == PATIENCE + self.waits => {
                let Some(conn) = self.conn else { return };
                if !io.hurt(conn) {
                    self.fail(&format!("has waited for long: {:?}, {:?}", self.phase, self.asked));
                }
                io.close(conn);
                self.lost(io);
            }
            _ => {}
        }
    }

    /// Goes away in the middle of everything.
    fn leave(&mut self, io: &mut ActorIo<'_>) {
        let Some((_, silently)) = self.script.leaves else { return };
        self.note(io, "goes away");
        if let Some(conn) = self.conn.take() {
            if silently { io.abandon(conn) } else { io.reset(conn) }
        }
        self.script.sessions_max = 0;
        if matches!(self.phase, Phase::Over | Phase::Away) {
            return;
        }
        self.lost(io);
    }
}

impl Actor for Caller {
    fn on(&mut self, io: &mut ActorIo<'_>, what: Happening<'_>) {
        match what {
            Happening::Start => {
                self.truth.borrow_mut().tally.clients += 1;
                if let Some((time, _)) = self.script.leaves {
                    io.timer(time, LEAVE);
                }
                self.come(io);
            }
            Happening::Connected(_) => self.phase = Phase::Greeting,
            Happening::Data(_, bytes) => {
                let bytes = bytes.to_vec();
                self.data(&bytes, io);
            }
            Happening::Eof(conn) => {
                io.close(conn);
                self.lost(io);
            }
            Happening::Refused(..) | Happening::Reset(..) => self.lost(io),
            Happening::Timer(token) => self.timer(token, io),
            Happening::Accepted { .. } | Happening::Flushed(_) => {}
        }
    }
}

/// What a session knows per key.
pub type Floors = BTreeMap<usize, u64>;
