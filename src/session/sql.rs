//! An SQL session: a client that speaks MySQL's protocol, and its connections to a primary and a replica.
//!
//! What goes in: events. What comes out: each command at one server, its answer at the client. It owns: all three
//! connections. Always true: a command is handed to one server at a time; one that may have run is never repeated; of an
//! answer nothing is changed but what our own trackers added to it.
//!
//! `login.rs` judges who logs in, `back.rs` prepares server connections, `state.rs` is what they are brought to,
//! `plan.rs` decides about commands, `command.rs` carries them out, `forward.rs` passes long ones on, `reply.rs` answers.

mod back;
mod command;
mod enter;
mod forward;
mod job;
mod kill;
mod login;
mod loss;
mod plan;
mod pooling;
mod prepared;
mod record;
mod reply;
mod standing;
mod state;
mod statements;
mod watch;

use std::sync::Arc;

use crate::clock::Moment;
use crate::close::Close;
use crate::cluster::{Cluster, Seat};
use crate::config::model::Sql;
use crate::counters::Count;
use crate::ids::{ServerId, SqlId};
use crate::limits::SQL_LEAVE_TIME;
use crate::mysql::errors::Code;
use crate::mysql::facts::Status;
use crate::mysql::lexer::Dialect;
use crate::mysql::packet;
use crate::net::Ends;
use crate::route::split::SessionState;

use super::conn::Conn;
use super::dial::{note_failure, wake};
use super::moves::{Followed, Moves};
use super::tcp::take_proxy_header;
use super::timers::{Deadlines, Timer};
use super::{About, Cx, Event, Leg, Op};

use back::{Back, Fault, Side, Stage, Whose};
use job::Job;
use login::{Login, Secrets};
use pooling::Queued;
use state::State;
use statements::Statements;

pub use standing::{LoginKey, Standing};

/// Where the session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A PROXY protocol header must come.
    Proxy,
    /// No server has been reached yet: what to greet with is not known.
    Waiting,
    /// The client was greeted.
    Hello,
    /// It asked for TLS.
    Handshake,
    /// It answers again, by another plugin.
    Again,
    /// It sends its password.
    Full,
    /// It is the user that it says; the first server connection is being opened.
    Entering,
    /// It may give commands.
    Ready,
    /// What is queued leaves, then it ends.
    Leaving,
    /// The client's leg is closed.
    Closed,
}

/// An SQL client's connection.
#[derive(Debug)]
pub struct SqlSession {
    site: SqlId,
    ends: Ends,
    front: Conn,
    phase: Phase,
    deadlines: Deadlines,
    next_leg: u32,
    since: Moment,
    /// The sequence id of our next packet of the login.
    sequence: u8,
    login: Option<Box<Login>>,
    secrets: Secrets,
    state: Box<State>,
    /// To the primary, and to a replica.
    backs: [Option<Box<Back>>; 2],
    job: Option<Box<Job>>,
    /// What the last answer said.
    status: Status,
    /// What its statements' texts left at its servers.
    texts: Box<SessionState>,
    statements: Statements,
    /// What others know of it, to kill it.
    seat: Option<Arc<Seat>>,
    /// Bytes from and to the client, and how many they were when its progress was looked at last.
    moved: u64,
    moved_before: u64,
    /// What only its connection to the primary knew is gone: it ends before its next command.
    is_doomed: bool,
    /// A statement of the client took the fence away from the replica's connection.
    is_unfenced: bool,
    /// How the first text was read, and the state changes that tell what the session began with.
    dialect: Dialect,
    initial: Arc<[u8]>,
    /// Who may use its server connections, once asked for.
    key: Option<LoginKey>,
    /// Its place in the queue for a server connection; whether its turn has come.
    queued: Option<Queued>,
    is_turn: bool,
    /// A connection that was used by others turned out to be gone: the next one is new.
    wants_fresh: bool,
    /// The last statement failed or warned, which its connection can be asked about until then.
    diagnostics_until: Option<Moment>,
    /// The connection that ran the last statement that is no question about the one before.
    last_leg: Option<Leg>,
    /// COM_SET_OPTION changed what no reset changes back.
    is_spoilt: bool,
    /// Until then reads do not wait at replicas.
    impatient_until: Moment,
    commands: u64,
    /// Why it ends, once it leaves.
    close: Close,
}

impl SqlSession {
    /// The session of a connection that was just accepted.
    pub fn new(site: SqlId, ends: Ends, refuse: Option<Close>, cx: &mut Cx<'_>) -> Self {
        let mut session = Self {
            site,
            ends,
            front: Conn::plain(),
            phase: Phase::Proxy,
            deadlines: Deadlines::default(),
            next_leg: 0,
            since: cx.now,
            sequence: 0,
            login: None,
            secrets: Secrets::default(),
            state: Box::default(),
            backs: [None, None],
            job: None,
            status: Status::AUTOCOMMIT,
            texts: Box::new(SessionState::new(Dialect::mariadb(0))),
            statements: Statements::default(),
            seat: None,
            moved: 0,
            moved_before: 0,
            is_doomed: false,
            is_unfenced: false,
            dialect: Dialect::mariadb(0),
            initial: Arc::default(),
            key: None,
            queued: None,
            is_turn: false,
            wants_fresh: false,
            diagnostics_until: None,
            last_leg: None,
            is_spoilt: false,
            impatient_until: Moment::default(),
            commands: 0,
            close: Close::Done,
        };
        let site = session.site(cx);
        session.deadlines.set(Timer::Client, cx.now + site.times.handshake);
        if let Some(close) = refuse {
            session.refuse(Code::TOO_MANY_CONNECTIONS, "Too many connections", close, cx);
        } else if site.accept_proxy.is_none() {
            session.phase = Phase::Waiting;
            session.run(cx);
        }
        session
    }

    fn site<'a>(&self, cx: &Cx<'a>) -> &'a Sql {
        let config = cx.config;
        &config.sql[self.site.index()]
    }

    fn cluster<'a>(&self, cx: &Cx<'a>) -> &'a Arc<Cluster> {
        let clusters = cx.clusters;
        &clusters[self.site.index()]
    }

    /// See [`Session::about`](super::Session::about).
    pub fn about(&self) -> About {
        let phase = match self.phase {
            Phase::Proxy => "proxy_header",
            Phase::Handshake => "tls_handshake",
            Phase::Waiting | Phase::Hello | Phase::Again | Phase::Full | Phase::Entering => "login",
            Phase::Ready if self.job.is_some() => "command",
            Phase::Ready if self.is_in_transaction() => "transaction",
            Phase::Ready => "idle",
            Phase::Leaving | Phase::Closed => "closing",
        };
        let side = self.job.as_ref().map_or(Side::Primary, |job| job.side);
        About {
            kind: "sql",
            phase,
            client: self.ends.client,
            requests: self.commands,
            pool: None,
            server: self.backs[side as usize].as_ref().map(|back| back.server),
        }
    }

    /// A transaction is open at one of its servers.
    fn is_in_transaction(&self) -> bool {
        self.backs.iter().flatten().any(|back| back.status.has(Status::IN_TRANS))
    }

    /// See [`Session::server_of`](super::Session::server_of).
    pub fn server_of(&self, leg: Leg) -> Option<ServerId> {
        self.backs.iter().flatten().find(|back| back.leg == leg).map(|back| back.server)
    }

    /// See [`Session::follow`](super::Session::follow).
    pub fn follow(&mut self, moves: &Moves) -> Followed {
        if self.phase != Phase::Ready || self.job.is_some() {
            return Followed::Later;
        }
        let Some(site) = moves.sql(self.site) else { return Followed::Never };
        let moved: Vec<_> =
            self.backs.iter().map(|back| back.as_ref().map(|back| moves.server(back.server))).collect();
        if moved.contains(&Some(None)) {
            return Followed::Never;
        }
        for (back, server) in self.backs.iter_mut().zip(moved) {
            if let (Some(back), Some(Some(server))) = (back, server) {
                back.server = server;
                back.claim.moved_to(server);
                back.is_old = true;
            }
        }
        self.site = site;
        Followed::Yes
    }

    /// See [`Session::on`](super::Session::on).
    pub fn on(&mut self, event: Event, cx: &mut Cx<'_>) -> bool {
        match event {
            Event::Received(Leg::Front, chain) => {
                cx.counters.add(Count::BytesIn, chain.len() as u64);
                self.moved += chain.len() as u64;
                if self.front.received(chain, cx.pool).is_err() {
                    let close =
                        if self.phase == Phase::Handshake { Close::TlsHandshake } else { Close::TlsBroken };
                    self.end(close, cx);
                }
            }
            Event::Eof(Leg::Front) => self.front.ended(),
            Event::Sent(Leg::Front, chain, bytes) => {
                cx.counters.add(Count::BytesOut, bytes as u64);
                self.moved += bytes as u64;
                self.front.sent(chain, bytes, cx.pool);
                if self.front.is_flushed() && self.is_at_rest(cx) {
                    return false;
                }
            }
            Event::Failed(Leg::Front, errno) | Event::SendFailed(Leg::Front, errno) => {
                self.front.deafen(errno, cx.pool);
                self.end(Close::ClientReset, cx);
            }
            Event::Tick => self.on_tick(cx),
            Event::Turn => self.is_turn = self.queued.is_some(),
            Event::Drain => {}
            Event::Kill => self.end(Close::Drained, cx),
            back => {
                let sent = if matches!(back, Event::Sent(..)) { back.leg() } else { None };
                self.on_server(back, cx);
                if sent.is_some_and(|leg| self.only_waits_for(leg, cx)) {
                    return false;
                }
            }
        }
        self.run(cx);
        true
    }

    /// The client has its answer, and has not said more.
    fn is_at_rest(&self, cx: &Cx<'_>) -> bool {
        let is_silent = self.front.inbox.is_empty() && !self.front.is_eof() && !self.front.is_compressed();
        let is_between = self.phase == Phase::Ready && self.job.is_none() && !self.is_doomed;
        is_silent && is_between && !cx.draining && !cx.behind
    }

    /// The server of this leg has heard the whole command and has not answered.
    fn only_waits_for(&self, leg: Leg, cx: &Cx<'_>) -> bool {
        let Some(job) = self.job.as_ref().filter(|job| job.sent && !job.answered_at.is_set()) else {
            return false;
        };
        let is_whole = job.long.is_none() && job.upload.is_none();
        let is_heard = |back: &Back| back.leg == leg && back.stage == Stage::Busy && back.conn.is_flushed();
        let back = self.backs[job.side as usize].as_ref();
        is_whole && back.is_some_and(|back| is_heard(back)) && !cx.draining && !cx.behind
    }

    fn on_server(&mut self, event: Event, cx: &mut Cx<'_>) {
        let is_ours = |back: &&mut Option<Box<Back>>| back.as_ref().map(|back| back.leg) == event.leg();
        let Some(back) = self.backs.iter_mut().find(is_ours).and_then(Option::as_mut) else {
            debug_assert!(false, "an event for a leg that this session gave up: {event:?}");
            return event.discard(cx.pool);
        };
        let side = back.side;
        let told = back.on(event, &self.ends, cx);
        // Nothing may come while nothing is asked: it ends, or says why it will.
        let unasked = back.is_ready() && (back.conn.is_eof() || !back.conn.inbox.is_empty());
        if let Err(close) = told {
            self.lost(side, Fault::Close(close), cx);
        } else if unasked {
            self.lost(side, Fault::Close(Close::ServerTruncated), cx);
        } else {
            self.run_beside(side, cx);
        }
    }

    /// Asks what bytes should flow.
    pub fn pump(&mut self, cx: &mut Cx<'_>) {
        if self.phase == Phase::Closed {
            return;
        }
        self.front.pump(Leg::Front, true, cx);
        self.watch_progress(cx);
        for back in self.backs.iter_mut().flatten().filter(|back| !back.is_connecting()) {
            back.conn.pump(back.leg, true, cx);
        }
    }

    /// The earliest moment at which a tick is useful.
    pub fn deadline(&self) -> Moment {
        self.deadlines.earliest()
    }

    /// True when every leg is closed.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Pages held.
    pub fn pages(&self) -> usize {
        self.front.pages() + self.backs.iter().flatten().map(|back| back.conn.pages()).sum::<usize>()
    }

    fn run(&mut self, cx: &mut Cx<'_>) {
        loop {
            let before = self.phase;
            match self.phase {
                Phase::Proxy => self.run_proxy(cx),
                Phase::Waiting => self.greet(cx),
                Phase::Hello | Phase::Again | Phase::Full => self.run_hello(cx),
                Phase::Handshake => self.run_handshake(cx),
                Phase::Entering => self.run_entering(cx),
                Phase::Ready => self.run_ready(cx),
                Phase::Leaving => self.run_leaving(cx),
                Phase::Closed => return,
            }
            if self.phase == before {
                return self.settle(cx);
            }
        }
    }

    fn run_proxy(&mut self, cx: &mut Cx<'_>) {
        let networks = self.site(cx).accept_proxy.as_deref().unwrap_or_default();
        match take_proxy_header(&mut self.front, networks, &mut self.ends, cx) {
            None => {}
            Some(Ok(())) => self.phase = Phase::Waiting,
            Some(Err(close)) => self.end(close, cx),
        }
    }

    /// Queues a packet for the client.
    fn say(&mut self, cx: &mut Cx<'_>, fill: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        packet::put(&mut out, &mut self.sequence, fill);
        if !self.front.outbox.append(&out, cx.pool) {
            self.end(Close::NoMemory, cx);
        }
    }

    /// The client waits for commands to be given.
    fn rest(&mut self, cx: &Cx<'_>) {
        let idle = self.site(cx).times.idle;
        self.deadlines.set(Timer::Client, cx.now + idle);
        self.deadlines.clear(Timer::Server);
        self.deadlines.clear(Timer::Progress);
    }

    /// Has a connection of this side ready; false while it is not. A failure is told once; then the connection is gone.
    fn prepare(&mut self, side: Side, cx: &mut Cx<'_>) -> Result<bool, Fault> {
        if self.backs[side as usize].is_none() && !self.open(side, cx)? {
            return Ok(false);
        }
        if let Some(back) = &mut self.backs[side as usize]
            && back.is_ready()
            && side == Side::Primary
            && std::mem::take(&mut self.state.trackers_changed)
        {
            back.set_up(None, cx)?;
        }
        let whose = Whose { secrets: &self.secrets, state: &self.state };
        let Some(back) = &mut self.backs[side as usize] else { return Ok(false) };
        let ran = back.run(&whose, cx).and_then(|()| {
            if !back.is_ready() {
                return Ok(false);
            }
            if back.sync(whose.state, cx)? {
                return Ok(true);
            }
            back.run(&whose, cx).map(|()| back.is_ready())
        });
        let is_stale = back.is_stale;
        if ran.is_ok() && back.is_ready() {
            self.deadlines.clear(Timer::Server);
            self.wants_fresh = false;
            back.was_ready = true;
            if cx.balancer.worked(back.server, cx.now) {
                wake(cx.balancer.wake_next(cx.config.servers[back.server.index()].pool, cx.now), cx);
            }
        }
        self.sit_down(side, cx);
        self.take_insert_id(side);
        match ran {
            // What others used before is gone: another one will do.
            Err(fault @ Fault::Close(_)) if is_stale => {
                self.drop_back(side, Some(&fault), cx);
                self.open(side, cx).map(|_| false)
            }
            ran => ran.inspect_err(|fault| self.drop_back(side, Some(fault), cx)),
        }
    }

    /// Gives a server connection up.
    fn drop_back(&mut self, side: Side, fault: Option<&Fault>, cx: &mut Cx<'_>) {
        let Some(mut back) = self.backs[side as usize].take() else { return };
        self.seat.iter().for_each(|seat| seat.has(side as usize, None));
        match fault {
            Some(Fault::Close(_)) if back.is_stale => {
                // The server did nothing wrong.
                cx.counters.add(Count::ServerStale, 1);
                self.wants_fresh = true;
            }
            // What is asked on our own may take its time.
            Some(Fault::Close(Close::ServerConnectTimeout)) if back.was_ready => {}
            Some(Fault::Close(close)) => note_failure(back.server, *close, cx),
            _ => {}
        }
        back.conn.clear(cx.pool);
        cx.ops.push(Op::Close(back.leg));
        self.release(side, back.claim, cx);
    }

    /// A server connection failed.
    fn lost(&mut self, side: Side, fault: Fault, cx: &mut Cx<'_>) {
        if self.phase == Phase::Ready && self.is_killed() {
            self.drop_back(side, None, cx);
            return self.die(cx);
        }
        let is_stale = self.backs[side as usize].as_ref().is_some_and(|back| back.is_stale);
        self.drop_back(side, Some(&fault), cx);
        match self.phase {
            Phase::Entering if is_stale => {}
            Phase::Entering => self.deny(&fault, cx),
            Phase::Ready => self.lost_in_command(side, &fault, cx),
            _ => {}
        }
    }

    /// Tells the client an error, then ends.
    fn refuse(&mut self, code: Code, text: &str, close: Close, cx: &mut Cx<'_>) {
        let greeted = !matches!(self.phase, Phase::Proxy | Phase::Waiting);
        let packet = if greeted {
            code.packet(text.as_bytes())
        } else {
            code.packet_before_handshake(text.as_bytes())
        };
        self.say(cx, |out| packet.write(out));
        self.leave(close, cx);
    }

    /// Lets what is queued leave, and says goodbye to servers.
    fn leave(&mut self, close: Close, cx: &mut Cx<'_>) {
        if matches!(self.phase, Phase::Closed | Phase::Leaving) {
            return;
        }
        self.note(None, close, cx);
        cx.counters.close(close);
        self.close = close;
        self.phase = Phase::Leaving;
        self.deadlines = Deadlines::default();
        self.deadlines.set(Timer::Client, cx.now + SQL_LEAVE_TIME);
        self.front.say_goodbye();
        for side in [Side::Primary, Side::Replica] {
            self.take_leave(side, cx);
        }
        self.unqueue(self.is_turn, cx);
        self.run_leaving(cx);
    }

    fn run_leaving(&mut self, cx: &mut Cx<'_>) {
        self.front.inbox.clear(cx.pool);
        for side in [Side::Primary, Side::Replica] {
            self.run_take_leave(side, cx);
        }
        let is_empty = self.backs.iter().all(Option::is_none);
        if is_empty && (self.front.is_finished() || self.front.is_deaf()) {
            self.close(cx);
        }
    }

    /// Ends at once.
    fn end(&mut self, close: Close, cx: &mut Cx<'_>) {
        if self.phase == Phase::Closed {
            return;
        }
        if self.phase != Phase::Leaving {
            self.note(None, close, cx);
            cx.counters.close(close);
        }
        self.close(cx);
    }

    fn close(&mut self, cx: &mut Cx<'_>) {
        for side in [Side::Primary, Side::Replica] {
            self.drop_back(side, None, cx);
        }
        self.unqueue(self.is_turn, cx);
        self.job = None;
        self.front.clear(cx.pool);
        self.phase = Phase::Closed;
        self.deadlines = Deadlines::default();
        cx.ops.push(Op::Close(Leg::Front));
    }
}
