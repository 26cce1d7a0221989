//! How an SQL session comes to its server connections, and gives them back.
//!
//! What goes in: a wish for a connection to one side; the end of a statement, a transaction, or the client. What comes out:
//! a connection that is new or was used by the same user before, a place in the queue for one, or a connection for the
//! next one. It owns nothing. Always true: what is given back holds nothing of its client but variables and the database,
//! which are written down; or it was reset.

use std::sync::Arc;

use crate::balance::{Claim, Key, Pick, Waiter};
use crate::clock::Moment;
use crate::close::Close;
use crate::cluster::Member;
use crate::config::model::{Pool, Pooling, Sql};
use crate::counters::Count;
use crate::ids::ServerId;
use crate::limits::{SQL_LOGIN_AGE_MAX, SQL_LOOK_TIME, SQL_QUEUE_LOOK_TIME};
use crate::mysql::command::Kind;
use crate::mysql::verdict::Effects;
use crate::session::dial::wake;
use crate::session::timers::Timer;
use crate::session::{Cx, Kept, Leg, Op, Reuse};

use super::back::{self, Back, Fault, Side, Stage, Whose};
use super::standing::{LoginKey, Standing, shape};
use super::state::{State, Variable};
use super::{Phase, SqlSession};

/// A session's place in a queue for a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queued {
    side: Side,
    /// When its time is over.
    until: Moment,
    /// When to look again without a wake-up.
    look: Moment,
}

/// With weight 0 a server gets no reads.
pub(super) fn takes_reads(server: ServerId, cx: &Cx<'_>) -> bool {
    cx.config.servers[server.index()].weight > 0
}

impl SqlSession {
    fn pool<'a>(&self, cx: &Cx<'a>) -> &'a Pool {
        let config = cx.config;
        &config.pools[self.site(cx).pool.index()]
    }

    /// Who may use its connections to a side.
    fn key(&mut self, side: Side, has_database: bool) -> LoginKey {
        let key = *self.key.get_or_insert_with(|| {
            let capabilities = back::wanted(self.state.capabilities, true);
            LoginKey::new(self.state.user(), &self.secrets, capabilities, self.state.collation)
        });
        key.of(side, has_database)
    }

    /// Begins to open a connection; false when there is no server, or no place, for it yet.
    pub(super) fn open(&mut self, side: Side, cx: &mut Cx<'_>) -> Result<bool, Fault> {
        let turn = std::mem::take(&mut self.is_turn);
        if self.queued.is_some_and(|queued| queued.side != side) {
            self.unqueue(turn, cx);
        }
        let site = self.site(cx);
        let Some(others) = self.others(side, site, cx) else {
            self.unqueue(turn, cx);
            if side == Side::Replica {
                return Err(Close::NoServer.into());
            }
            self.deadlines.set_once(Timer::Progress, cx.now + site.times.primary);
            self.deadlines.set(Timer::Server, cx.now + SQL_LOOK_TIME);
            return Ok(false);
        };
        if let Some(queued) = self.queued {
            if queued.until <= cx.now {
                self.unqueue(turn, cx);
                return Err(Close::QueueTimeout.into());
            }
            if !turn && cx.now < queued.look {
                self.deadlines.set(Timer::Server, queued.look);
                return Ok(false);
            }
        } else if side == Side::Primary && self.cluster(cx).lobby(side as usize).is_used() {
            // Others wait: they are first.
            self.queue(side, cx)?;
            return Ok(false);
        }
        let mut pick = self.pick(&others, site, cx);
        if matches!(pick, Pick::Full) && self.queued.is_none() {
            self.queue(side, cx)?;
            // A place may have become free before anybody saw this one wait.
            pick = self.pick(&others, site, cx);
        }
        match pick {
            Pick::Server(claim) => {
                if self.queued.take().is_some() {
                    self.cluster(cx).lobby(side as usize).leave(self.waiter(cx));
                    self.deadlines.clear(Timer::Server);
                }
                self.connect(side, claim, cx);
                Ok(true)
            }
            Pick::Full => {
                self.wait_on(side, turn, cx);
                Ok(false)
            }
            Pick::None => {
                self.unqueue(turn, cx);
                Err(Close::NoServer.into())
            }
        }
    }

    /// The servers that are not for this side now; `None` when there are no others.
    fn others(&self, side: Side, site: &Sql, cx: &Cx<'_>) -> Option<Vec<ServerId>> {
        let cluster = self.cluster(cx);
        // One that is known to have what the session wrote, if there is one.
        let may_read = |member: &Member| {
            let speaks = member.version().is_none_or(|version| self.state.is_spoken_by(version));
            speaks && member.may_read(site.lag_max)
        };
        let aimed = self.job.as_ref().and_then(|job| job.aim.as_ref()).map(|aim| aim.server);
        let has_seen = |member: &Member| self.state.is_seen_by(&member.has);
        let any_has = cluster
            .members()
            .any(|(server, member)| takes_reads(server, cx) && may_read(member) && has_seen(member));
        let fits = |server: ServerId| match side {
            Side::Replica if aimed.is_some() => aimed == Some(server),
            Side::Primary => cluster.primary() == Some(server),
            Side::Replica => cluster.member(server).is_some_and(|member| {
                takes_reads(server, cx) && may_read(member) && (!any_has || has_seen(member))
            }),
        };
        let others: Vec<ServerId> =
            cluster.members().map(|(server, _)| server).filter(|server| !fits(*server)).collect();
        (others.len() < cluster.members().count()).then_some(others)
    }

    fn pick(&self, others: &[ServerId], site: &Sql, cx: &Cx<'_>) -> Pick {
        let client = self.ends.client.map(|client| client.ip());
        cx.balancer
            .pick(site.pool, &Key { client, tried: others, now: cx.now, chance: cx.chance, turn: false })
    }

    fn connect(&mut self, side: Side, claim: Claim, cx: &mut Cx<'_>) {
        if self.phase == Phase::Ready {
            self.deadlines.clear(Timer::Progress);
        }
        let leg = Leg::Back(self.next_leg);
        self.next_leg += 1;
        let pool = self.pool(cx);
        let reuse = if self.wants_fresh || pool.idle_max == 0 {
            Reuse::Never
        } else {
            let key = self.key(side, !self.state.database().is_empty());
            // Who comes in shows a secret, which the server itself must have seen not long ago.
            let oldest = if self.phase == Phase::Ready {
                Moment::default()
            } else {
                Moment(cx.now.0.saturating_sub(SQL_LOGIN_AGE_MAX.as_nanos() as u64))
            };
            Reuse::Login(key, shape(self.state.variables(), self.state.database()), oldest)
        };
        cx.ops.push(Op::Connect(leg, claim.server, reuse));
        self.deadlines.set(Timer::Server, cx.now + pool.times.connect);
        self.backs[side as usize] = Some(Box::new(Back::new(leg, claim, side)));
    }

    const fn waiter(&self, cx: &Cx<'_>) -> Waiter {
        Waiter { worker: cx.worker, session: cx.me }
    }

    /// Waits for a place at a server of this side. Nobody waits for a replica who has a connection to the primary: those who
    /// have one and wait for the other could wait for each other.
    fn queue(&mut self, side: Side, cx: &mut Cx<'_>) -> Result<(), Close> {
        if side == Side::Replica && self.backs[Side::Primary as usize].is_some() {
            return Err(Close::QueueFull);
        }
        if side == Side::Primary
            && self.diagnostics_until.is_none()
            && self.leaves_nothing()
            && self.give_back(Side::Replica, cx).is_err()
        {
            self.drop_back(Side::Replica, None, cx);
        }
        let pool = self.pool(cx);
        let lobby = self.cluster(cx).lobby(side as usize);
        lobby.enter(self.waiter(cx), pool.queue_max).map_err(|_| Close::QueueFull)?;
        cx.counters.add(Count::Queued, 1);
        let until = cx.now + pool.times.queue;
        let look = until.min(cx.now + SQL_QUEUE_LOOK_TIME);
        self.queued = Some(Queued { side, until, look });
        self.deadlines.set(Timer::Server, look);
        Ok(())
    }

    /// Goes on waiting.
    fn wait_on(&mut self, side: Side, turn: bool, cx: &mut Cx<'_>) {
        let Some(queued) = &mut self.queued else { return };
        queued.look = queued.until.min(cx.now + SQL_QUEUE_LOOK_TIME);
        self.deadlines.set(Timer::Server, queued.look);
        if turn {
            let lobby = self.cluster(cx).lobby(side as usize);
            match side {
                Side::Primary => lobby.enter_first(self.waiter(cx)),
                // Others may do with the replica that this one has no use for.
                Side::Replica => drop(lobby.enter(self.waiter(cx), usize::MAX)),
            }
        }
    }

    /// Waits no more. A turn that it does not use is somebody else's.
    pub(super) fn unqueue(&mut self, turn: bool, cx: &mut Cx<'_>) {
        let Some(queued) = self.queued.take() else { return };
        let lobby = self.cluster(cx).lobby(queued.side as usize);
        let waited = lobby.leave(self.waiter(cx));
        if (turn || !waited)
            && let Some(next) = lobby.next()
        {
            cx.ops.push(Op::Wake(next));
        }
    }

    /// Gives the place at a server back.
    pub(super) fn release(&self, side: Side, claim: Claim, cx: &mut Cx<'_>) {
        wake(cx.balancer.release(claim), cx);
        if let Some(next) = self.cluster(cx).lobby(side as usize).next() {
            cx.ops.push(Op::Wake(next));
        }
    }

    /// Between commands: gives connections back that nothing keeps, if the block is to.
    pub(super) fn settle(&mut self, cx: &mut Cx<'_>) {
        // Of a command of which only a part has come nobody knows when the rest will.
        let is_between = self.phase == Phase::Ready && self.job.is_none();
        if !is_between || !self.is_shared(cx) {
            return;
        }
        if let Some(until) = self.diagnostics_until.filter(|until| *until > cx.now) {
            let is_all = self.backs.iter().all(Option::is_none);
            return if is_all {
                self.diagnostics_until = None
            } else {
                self.deadlines.set(Timer::Server, until)
            };
        }
        for side in [Side::Primary, Side::Replica] {
            if self.backs[side as usize].is_some()
                && self.leaves_nothing()
                && let Err(fault) = self.give_back(side, cx)
            {
                self.lost(side, fault, cx);
            }
        }
    }

    /// Its connections are for others between its statements.
    pub(super) fn is_shared(&self, cx: &Cx<'_>) -> bool {
        self.site(cx).pooling == Pooling::Transaction && self.pool(cx).idle_max > 0
    }

    /// Goes on with a connection that the command in progress does not use.
    pub(super) fn run_beside(&mut self, side: Side, cx: &mut Cx<'_>) {
        let is_beside = self.job.as_ref().is_some_and(|job| job.side != side) && self.phase == Phase::Ready;
        let whose = Whose { secrets: &self.secrets, state: &self.state };
        let Some(back) = self.backs[side as usize].as_mut().filter(|_| is_beside) else { return };
        if matches!(back.stage, Stage::Busy | Stage::Ready | Stage::Connecting) {
            return;
        }
        let ran = back.run(&whose, cx);
        back.was_ready |= back.is_ready();
        self.take_insert_id(side);
        let is_free = self.is_shared(cx) && self.diagnostics_until.is_none() && self.leaves_nothing();
        let ran = ran.and_then(|()| if is_free { self.give_back(side, cx) } else { Ok(()) });
        if let Err(fault) = ran {
            self.lost(side, fault, cx);
        }
    }

    /// Nothing of the session is on its connections that could not be brought to others.
    fn leaves_nothing(&self) -> bool {
        let is_pinned = self.texts.pins().next().is_some() || self.is_in_transaction();
        !is_pinned && !self.is_doomed && !self.needs_its_primary()
    }

    fn give_back(&mut self, side: Side, cx: &mut Cx<'_>) -> Result<(), Fault> {
        let whose = Whose { secrets: &self.secrets, state: &self.state };
        let Some(back) = &mut self.backs[side as usize] else { return Ok(()) };
        if !matches!(back.stage, Stage::Busy | Stage::Ready) {
            back.run(&whose, cx)?;
        }
        self.take_insert_id(side);
        let Some(back) = &mut self.backs[side as usize] else { return Ok(()) };
        if !back.is_ready() || !back.conn.is_flushed() {
            return Ok(());
        }
        let server = back.server;
        if !self.may_reset(server, cx) {
            return Ok(());
        }
        let Some(back) = &mut self.backs[side as usize] else { return Ok(()) };
        if self.job.is_none() {
            self.deadlines.clear(Timer::Server);
        }
        if back.may_have_id || back.insert_id != 0 {
            return Ok(back.ask_insert_id(cx)?);
        }
        let trackers = side == Side::Primary && std::mem::take(&mut self.state.trackers_changed);
        if back.is_dirty {
            back.reset(cx)?;
            self.statements.forget_all(side);
            return Ok(());
        }
        if trackers {
            return Ok(back.set_up(None, cx)?);
        }
        if !back.sync(&self.state, cx)? {
            return Ok(());
        }
        let variables = self.state.variables().clone();
        self.park(side, variables, cx);
        Ok(())
    }

    /// Gives a connection to the next one. What is set there is known.
    fn park(&mut self, side: Side, variables: Arc<Vec<Variable>>, cx: &mut Cx<'_>) {
        let Some(back) = self.backs[side as usize].take() else { return };
        self.seat.iter().for_each(|seat| seat.has(side as usize, None));
        let mut back = *back;
        // A kill that is under way would hit the next client.
        let is_aimed = self.seat.as_ref().is_some_and(|seat| seat.is_aimed() || seat.is_killed());
        if back.is_old || is_aimed || back.conn.is_eof() || !back.conn.inbox.is_empty() {
            back.conn.clear(cx.pool);
            cx.ops.push(Op::Close(back.leg));
        } else {
            let (key, logged_in) = (self.key(side, !back.database.is_empty()), back.logged_in());
            let standing = Standing {
                key,
                shape: shape(&variables, &back.database),
                capabilities: back.capabilities,
                version: back.version(),
                thread: back.thread,
                initial: back.initial,
                variables,
                database: back.database,
                cache: back.cache,
                logged_in,
                since: cx.now,
            };
            let kept = Kept { conn: back.conn, standing: Some(Box::new(standing)) };
            cx.ops.push(Op::Park(back.leg, back.server, kept));
        }
        self.release(side, back.claim, cx);
    }

    /// What a server does on its own for each new connection (`init_connect`) is lost by a reset: such connections stay with
    /// their client.
    fn may_reset(&self, server: ServerId, cx: &Cx<'_>) -> bool {
        self.cluster(cx).member(server).is_some_and(|member| !member.has_init())
    }

    /// The client has gone: a connection is reset for the next one, or told goodbye.
    pub(super) fn take_leave(&mut self, side: Side, cx: &mut Cx<'_>) {
        let is_kept = self.pool(cx).idle_max > 0 && !self.is_spoilt && !cx.draining && !cx.behind;
        let may_reset =
            self.backs[side as usize].as_ref().is_some_and(|back| self.may_reset(back.server, cx));
        let Some(back) = self.backs[side as usize].as_mut().filter(|back| back.is_ready()) else {
            return self.drop_back(side, None, cx);
        };
        if is_kept && may_reset && !back.is_old && back.reset(cx).is_ok() {
            return;
        }
        // A connection that is closed without it counts as aborted at the server.
        let quit = [1, 0, 0, 0, Kind::Quit as u8];
        let _ = back.conn.outbox.append(&quit, cx.pool);
    }

    /// Goes on with a connection whose client has gone.
    pub(super) fn run_take_leave(&mut self, side: Side, cx: &mut Cx<'_>) {
        let Some(back) = &mut self.backs[side as usize] else { return };
        let state = State::new(self.state.user(), b"", self.state.capabilities, self.state.collation);
        let whose = Whose { secrets: &self.secrets, state: &state };
        if back.is_ready() {
            if back.conn.is_flushed() || back.conn.is_eof() {
                self.drop_back(side, None, cx);
            }
            return;
        }
        match back.run(&whose, cx) {
            Ok(()) if back.is_ready() => self.park(side, Arc::default(), cx),
            Ok(()) => {}
            Err(_) => self.drop_back(side, None, cx),
        }
    }

    /// Remembers what a connection told of the last insert id.
    pub(super) fn take_insert_id(&mut self, side: Side) {
        // One that reads went to knows only what was set there.
        let told = self.backs[side as usize].as_mut().and_then(|back| back.told_id.take());
        if let Some(id) = told.filter(|id| side == Side::Primary || *id != 0) {
            (self.state.insert_id, self.state.has_insert_id) = (id, false);
        }
    }

    /// The command asks for an insert id of which nobody knows any more.
    pub(super) fn is_insert_id_lost(&self) -> bool {
        // Of a long one nobody knows what it asks for.
        let job = self.job.as_ref().filter(|job| job.long.is_none());
        let verdict = job.and_then(|job| job.verdict.as_ref());
        self.state.lost_insert_id
            && verdict.is_some_and(|verdict| verdict.effects.has(Effects::READS_INSERT_ID))
    }

    /// Has the primary's connection know the last insert id, if the command may ask for it; false when it is told first.
    pub(super) fn knows_insert_id(&mut self, cx: &mut Cx<'_>) -> Result<bool, Fault> {
        let asks = Effects::READS_INSERT_ID
            | Effects::WRITES_INSERT_ID
            | Effects::CALLS
            | Effects::OPAQUE
            | Effects::CALLS_UNKNOWN
            | Effects::EXECUTES
            | Effects::MANY;
        let id = self.state.insert_id;
        let verdict = self.job.as_ref().and_then(|job| job.verdict.as_ref());
        // Commands without a text do not.
        let may_ask = verdict.is_some_and(|verdict| verdict.effects.has(asks));
        let Some(back) = &mut self.backs[Side::Primary as usize] else { return Ok(true) };
        if !may_ask || back.may_have_id || back.insert_id == id {
            return Ok(true);
        }
        back.bring_insert_id(id, cx)?;
        Ok(false)
    }
}
