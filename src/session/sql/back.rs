//! A server connection of an SQL session: from the connect to the moment at which it may be given commands.
//!
//! What goes in: what happens to the connection, and who logs in. What comes out: a connection whose session at the server
//! is as the client's session wants it. It owns: the connection, the place (claim) at the server. Always true: a
//! connection to a replica is fenced (`tx_read_only`) before the first command; nobody is told what the set-up did.

mod ask;

use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::balance::Claim;
use crate::clock::Moment;
use crate::close::Close;
use crate::cluster::Gtid;
use crate::config::model::{Config, Pool as ServerPool};
use crate::counters::Count;
use crate::ids::ServerId;
use crate::limits::{
    SERVER_IDLE_FRESH_TIME, SQL_GTID_SOURCES_MAX, SQL_LOGIN_PACKETS_MAX, SQL_POSITION_BYTES_MAX,
};
use crate::mysql::auth::{self, Plugin};
use crate::mysql::command::Kind;
use crate::mysql::facts::{Capabilities, Status, Version};
use crate::mysql::generic::OkPacket;
use crate::mysql::handshake::{First, LoginReply, Response, Scramble, SslRequest, scramble_of};
use crate::mysql::packet::{self, HEADER_BYTES, Parse};
use crate::mysql::prepared::PrepareOk;
use crate::mysql::reply::{Judged, Reply, What};
use crate::net::Ends;
use crate::proxyproto;
use crate::session::conn::Conn;
use crate::session::{Cx, Event, Kept, Leg};
use crate::tls::Pipe;

use super::login::Secrets;
use super::standing::Standing;
use super::state::{State, Variable};
use ask::{number_of, row_of};

/// Which of its two server connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The one that writes go to.
    Primary,
    /// The one that reads go to.
    Replica,
}

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Connecting,
    /// The server greets.
    Greeting,
    /// TLS, then the login is sent.
    Handshake,
    Login,
    /// Trackers and the fence are set.
    Setup,
    /// The client's variables and database are brought along.
    Variables,
    Database,
    /// A statement is prepared that the client prepared at the primary.
    Prepare,
    /// The replica waits for a position.
    Position,
    /// Unused for a while, it shows that it is there.
    Ping,
    /// What another client left is taken away.
    Reset,
    /// It tells the last insert id, and forgets it.
    InsertId,
    /// It is told it.
    BringInsertId,
    /// It may be given a command.
    Ready,
    /// It answers one.
    Busy,
}

/// Why a server connection came to nothing.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// The connection failed.
    Close(Close),
    /// The server refused with this payload of an ERR packet, which is for the client.
    Refused(Vec<u8>),
}

impl From<Close> for Fault {
    fn from(close: Close) -> Self {
        Self::Close(close)
    }
}

/// A statement that a connection has.
#[derive(Clone, Debug)]
pub(super) struct Cached {
    pub(super) text: Arc<[u8]>,
    /// The session's variables and database when it was prepared.
    pub(super) shape: u64,
    pub(super) number: u32,
}

/// A server connection.
#[derive(Debug)]
pub(super) struct Back {
    pub(super) leg: Leg,
    pub(super) server: ServerId,
    pub(super) claim: Claim,
    pub(super) conn: Box<Conn>,
    pub(super) side: Side,
    pub(super) stage: Stage,
    pub(super) reply: Reply,
    pub(super) capabilities: Capabilities,
    /// The status that its last OK told.
    pub(super) status: Status,
    /// How far it has followed the changes of the session's state.
    pub(super) synced: u64,
    /// How far it will have when what it was asked is done.
    asked: u64,
    /// The database that is chosen there, and the one that it was asked to choose.
    pub(super) database: Vec<u8>,
    asked_database: Vec<u8>,
    /// It was used by others before; nothing has come from it for this session yet.
    pub(super) is_stale: bool,
    /// Something may be left there that is not the next client's to find: a function's doing, messages, statements, other
    /// character sets after a reset of the client's own.
    pub(super) is_dirty: bool,
    /// What it would answer to LAST_INSERT_ID(), unless a statement may have changed that.
    pub(super) insert_id: u64,
    pub(super) may_have_id: bool,
    /// The id that it told.
    pub(super) told_id: Option<u64>,
    /// Statements that it has, whoever prepared them; the latest is last.
    pub(super) cache: Vec<Cached>,
    /// Variables that it was found with.
    found: Option<Arc<Vec<Variable>>>,
    /// When it stood.
    pub(super) connected: Moment,
    /// The statement that was prepared last; `Some(None)`: it could not be.
    pub(super) prepared: Option<Option<u32>>,
    /// The client's number of that one.
    pub(super) prepared_for: u32,
    /// It has been ready once: what goes wrong from then on does not say that the server cannot be reached.
    pub(super) was_ready: bool,
    /// The configuration that it was opened by has gone: it is not given to others.
    pub(super) is_old: bool,
    /// When its user logged in.
    logged_in: Moment,
    /// Whether the position was reached that it waited for.
    pub(super) waited: Option<bool>,
    /// That position.
    pub(super) positions: ArrayVec<Gtid, SQL_GTID_SOURCES_MAX>,
    row: Vec<u8>,
    scramble: Scramble,
    plugin: Option<Plugin>,
    /// Packets of the login so far.
    packets: u8,
    sequence: u8,
    version: Option<Version>,
    /// The state changes that tell what its session began with.
    pub(super) initial: Arc<[u8]>,
    /// It has just begun, and has not told that yet.
    is_new: bool,
    /// The server's id of it.
    pub(super) thread: u32,
    /// The session's seat knows it.
    pub(super) is_seated: bool,
}

/// What a set-up needs to know of the session.
pub(super) struct Whose<'a> {
    pub(super) secrets: &'a Secrets,
    pub(super) state: &'a State,
}

impl Back {
    pub(super) fn new(leg: Leg, claim: Claim, side: Side) -> Self {
        Self {
            leg,
            server: claim.server,
            claim,
            conn: Box::default(),
            side,
            stage: Stage::Connecting,
            reply: Reply::new(Capabilities::NONE),
            capabilities: Capabilities::NONE,
            status: Status::AUTOCOMMIT,
            synced: 0,
            asked: 0,
            database: Vec::new(),
            asked_database: Vec::new(),
            is_stale: false,
            is_dirty: false,
            insert_id: 0,
            may_have_id: false,
            told_id: None,
            cache: Vec::new(),
            found: None,
            connected: Moment::NEVER,
            prepared: None,
            prepared_for: 0,
            was_ready: false,
            is_old: false,
            logged_in: Moment::NEVER,
            waited: None,
            positions: ArrayVec::new(),
            row: Vec::new(),
            scramble: [0; 20],
            plugin: None,
            packets: 0,
            sequence: 0,
            version: None,
            initial: Arc::default(),
            is_new: false,
            thread: 0,
            is_seated: false,
        }
    }

    /// The server's vendor and version, once it has greeted.
    pub(super) const fn version(&self) -> Option<Version> {
        self.version
    }

    /// When its user logged in.
    pub(super) const fn logged_in(&self) -> Moment {
        self.logged_in
    }

    /// It may be given a command now.
    pub(super) fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    /// Nothing can be received or sent yet.
    pub(super) fn is_connecting(&self) -> bool {
        self.stage == Stage::Connecting
    }

    /// Something happened on the connection.
    pub(super) fn on(&mut self, event: Event, ends: &Ends, cx: &mut Cx<'_>) -> Result<(), Close> {
        match event {
            Event::Connected(_) => self.on_connected(ends, cx)?,
            Event::Adopted(_, kept) => self.adopt(kept, cx)?,
            Event::Refused(_, errno) => return Err(crate::session::dial::refusal(errno)),
            Event::Received(_, chain) => {
                self.is_stale = false;
                self.conn.received(chain, cx.pool).map_err(|_| Close::ServerTls)?;
            }
            Event::Eof(_) => self.conn.ended(),
            Event::Sent(_, chain, bytes) => self.conn.sent(chain, bytes, cx.pool),
            Event::SendFailed(_, errno) => self.conn.deafen(errno, cx.pool),
            Event::Failed(..) => self.conn.ended(),
            other => other.discard(cx.pool),
        }
        Ok(())
    }

    fn on_connected(&mut self, ends: &Ends, cx: &mut Cx<'_>) -> Result<(), Close> {
        cx.counters.add(Count::ServerConnects, 1);
        self.connected = cx.now;
        self.stage = Stage::Greeting;
        let config = cx.config;
        if let Some(version) = pool_of(config, self.server).send_proxy {
            let header = proxyproto::write(version, ends.client, ends.local);
            if !self.conn.outbox.append(&header, cx.pool) {
                return Err(Close::NoMemory);
            }
        }
        Ok(())
    }

    /// Somebody else has used it.
    fn adopt(&mut self, kept: Kept, cx: &mut Cx<'_>) -> Result<(), Close> {
        cx.counters.add(Count::ServerReused, 1);
        self.conn = kept.conn;
        let Some(standing) = kept.standing else { return Err(Close::Bug) };
        let Standing { capabilities, version, thread, variables, database, cache, since, logged_in, .. } =
            *standing;
        self.initial = standing.initial;
        (self.logged_in, self.was_ready) = (logged_in, true);
        self.cache = cache;
        self.thread = thread;
        (self.capabilities, self.version) = (capabilities, version);
        (self.database, self.found) = (database, Some(variables));
        (self.connected, self.is_stale) = (cx.now, true);
        self.reply = Reply::new(capabilities);
        self.stage = Stage::Ready;
        if cx.now.since(since) > SERVER_IDLE_FRESH_TIME {
            self.command(Kind::Ping, b"", Stage::Ping, cx)?;
        }
        Ok(())
    }

    /// Goes on until it is ready, or more must come.
    pub(super) fn run(&mut self, whose: &Whose<'_>, cx: &mut Cx<'_>) -> Result<(), Fault> {
        loop {
            match self.stage {
                Stage::Connecting | Stage::Ready | Stage::Busy => return Ok(()),
                Stage::Greeting => {
                    if !self.greeted(whose, cx)? {
                        return self.wait();
                    }
                }
                Stage::Handshake => {
                    if self.conn.is_handshaking() {
                        return self.wait();
                    }
                    self.log_in(whose, cx)?;
                }
                Stage::Prepare if self.prepared.is_some() => {
                    let mut rest = Vec::new();
                    let ended = self.judged(&mut rest, cx)?.is_some();
                    if !self.reply.is_over() {
                        if ended {
                            continue;
                        }
                        return self.wait();
                    }
                    self.stage = Stage::Ready;
                }
                _ => {
                    let mut packet = Vec::new();
                    let Some(judged) = self.judged(&mut packet, cx)? else { return self.wait() };
                    let payload = packet.get(HEADER_BYTES..).unwrap_or_default();
                    self.answered(judged, payload, whose, cx)?;
                }
            }
        }
    }

    /// More must come, which it cannot after the end.
    fn wait(&self) -> Result<(), Fault> {
        if self.conn.is_eof() { Err(Close::ServerClosedEarly.into()) } else { Ok(()) }
    }

    /// The next packet of an answer that is not for the client; what only passes is dropped.
    fn judged(&mut self, out: &mut Vec<u8>, cx: &mut Cx<'_>) -> Result<Option<Judged>, Close> {
        while let Some(chunk) = self.conn.inbox.front() {
            let step = self.reply.feed(chunk.bytes()).map_err(|_| Close::ServerBadAnswer)?;
            let used = step.used;
            let row = match step.what {
                What::Pass => chunk.bytes().get(..used).unwrap_or_default(),
                What::PassHeld(held) => held,
                _ => b"",
            };
            if matches!(self.stage, Stage::Position | Stage::InsertId) {
                if self.row.len() + row.len() > SQL_POSITION_BYTES_MAX {
                    return Err(Close::ServerBadAnswer);
                }
                self.row.extend_from_slice(row);
            }
            if let What::Packet(judged, packet) = step.what {
                out.extend_from_slice(packet);
                self.sequence = self.reply.sequence().wrapping_add(1);
                self.conn.inbox.consume(used, cx.pool);
                return Ok(Some(judged));
            }
            self.conn.inbox.consume(used, cx.pool);
        }
        Ok(None)
    }

    fn greeted(&mut self, whose: &Whose<'_>, cx: &mut Cx<'_>) -> Result<bool, Fault> {
        // It may have come in pieces.
        while self.conn.inbox.join_front(cx.pool) {}
        let Some(chunk) = self.conn.inbox.front() else { return Ok(false) };
        let (greeting, used) = match packet::parse(chunk.bytes(), 1024) {
            Parse::Done(packet, used) => {
                self.sequence = packet.sequence.wrapping_add(1);
                (packet.payload, used)
            }
            Parse::NeedMore => return Ok(false),
            Parse::Bad(_) => return Err(Close::ServerBadAnswer.into()),
        };
        let greeting = match First::parse(greeting).map_err(|_| Close::ServerBadAnswer)? {
            First::Greeting(greeting) => greeting,
            First::Err(refused) => {
                let mut payload = Vec::new();
                refused.write(&mut payload);
                return Err(Fault::Refused(payload));
            }
        };
        self.version = Version::parse(greeting.version);
        self.thread = greeting.connection_id;
        self.scramble = greeting.scramble;
        self.plugin = Plugin::of_name(greeting.plugin);
        self.capabilities =
            wanted(whose.state.capabilities, whose.state.database().is_empty()) & greeting.capabilities;
        if !self
            .capabilities
            .has(Capabilities::PROTOCOL_41 | Capabilities::PLUGIN_AUTH | Capabilities::SESSION_TRACK)
        {
            return Err(Close::ServerBadAnswer.into());
        }
        if !self.capabilities.has(whose.state.capabilities & Capabilities::FORMS) {
            return Err(Close::ServerBadAnswer.into());
        }
        let can_tls = greeting.capabilities.has(Capabilities::SSL);
        self.conn.inbox.consume(used, cx.pool);
        let config = cx.config;
        let Some(tls) = &pool_of(config, self.server).tls else {
            self.log_in(whose, cx)?;
            return Ok(true);
        };
        if !can_tls {
            return Err(Close::ServerTls.into());
        }
        self.capabilities = self.capabilities | Capabilities::SSL;
        let request = SslRequest {
            capabilities: self.capabilities,
            packet_bytes_max: PACKET_BYTES_MAX,
            collation: whose.state.collation,
        };
        self.send(cx, |out| request.write(out))?;
        let host = &config.servers[self.server.index()].host;
        let name = if host.is_empty() { "localhost" } else { host };
        let pipe = Pipe::connect(tls, name).map_err(|_| Close::ServerTls)?;
        self.conn.secure(pipe, cx.pool).map_err(|_| Close::ServerTls)?;
        self.stage = Stage::Handshake;
        Ok(true)
    }

    /// Sends a packet of the login.
    fn send(&mut self, cx: &mut Cx<'_>, fill: impl FnOnce(&mut Vec<u8>)) -> Result<(), Close> {
        let mut out = Vec::new();
        packet::put(&mut out, &mut self.sequence, fill);
        if self.conn.outbox.append(&out, cx.pool) { Ok(()) } else { Err(Close::NoMemory) }
    }

    fn log_in(&mut self, whose: &Whose<'_>, cx: &mut Cx<'_>) -> Result<(), Fault> {
        let plugin = self.plugin.unwrap_or(Plugin::Native);
        // What cannot be answered now is answered by another plugin, or when the server asks again.
        let first = whose.secrets.first_answer(plugin, &self.scramble);
        let (plugin, answer) = first.unwrap_or((plugin, Vec::new()));
        self.plugin = Some(plugin);
        let response = Response {
            capabilities: self.capabilities,
            packet_bytes_max: PACKET_BYTES_MAX,
            collation: whose.state.collation,
            user: whose.state.user(),
            answer: &answer,
            database: whose.state.database(),
            plugin: plugin.name(),
            attributes: b"",
            zstd_level: 0,
        };
        self.send(cx, |out| response.write(out))?;
        self.reply = Reply::new(self.capabilities);
        self.reply.begin_login();
        self.database = whose.state.database().to_vec();
        self.stage = Stage::Login;
        Ok(())
    }

    fn answered(
        &mut self,
        judged: Judged,
        payload: &[u8],
        whose: &Whose<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Fault> {
        if judged == Judged::Err && self.stage == Stage::Prepare {
            self.prepared = Some(None);
            self.stage = Stage::Ready;
            return Ok(());
        }
        if self.stage == Stage::Position {
            let definitions = if self.capabilities.has(Capabilities::DEPRECATE_EOF) { 2 } else { 3 };
            self.waited = Some(judged == Judged::End && row_of(&self.row, definitions) == Some(b"\x010"));
            self.stage = Stage::Ready;
            return Ok(());
        }
        if judged == Judged::Err {
            let is_ours = matches!(self.stage, Stage::Ping | Stage::Reset | Stage::InsertId);
            return Err(if is_ours {
                Close::ServerBadAnswer.into()
            } else {
                Fault::Refused(payload.to_vec())
            });
        }
        match (self.stage, judged) {
            (Stage::Login, Judged::Ok) => {
                let ok = OkPacket::parse(payload, self.capabilities).map_err(|_| Close::ServerBadAnswer)?;
                (self.status, self.logged_in) = (ok.status, cx.now);
                self.is_new = true;
                self.set_up(None, cx)?;
            }
            (Stage::Ping | Stage::BringInsertId, Judged::Ok) => self.stage = Stage::Ready,
            (Stage::Reset, Judged::Ok) => {
                (self.insert_id, self.may_have_id, self.is_dirty) = (0, false, false);
                self.cache.clear();
                self.is_new = true;
                self.set_up(Some(whose.state.collation), cx)?;
            }
            (Stage::InsertId, Judged::End) => {
                let definitions = if self.capabilities.has(Capabilities::DEPRECATE_EOF) { 3 } else { 4 };
                let id = row_of(&self.row, definitions).and_then(number_of).ok_or(Close::ServerBadAnswer)?;
                (self.insert_id, self.may_have_id, self.told_id) = (0, false, Some(id));
                self.stage = Stage::Ready;
            }
            (Stage::Login, Judged::AuthSwitch | Judged::AuthMore) => self.go_on(payload, whose, cx)?,
            (Stage::Setup, Judged::Ok) => {
                if std::mem::take(&mut self.is_new) {
                    let ok =
                        OkPacket::parse(payload, self.capabilities).map_err(|_| Close::ServerBadAnswer)?;
                    (self.initial, self.status) = (ok.state.into(), ok.status);
                }
                // The login brought the database along.
                let is_there = !whose.state.has_variables() && self.database == whose.state.database();
                self.synced = if is_there { whose.state.stamp() } else { 0 };
                self.stage = Stage::Ready;
            }
            (Stage::Variables, Judged::Ok) => self.bring_database(whose.state, cx)?,
            (Stage::Database, Judged::Ok) => {
                self.database = std::mem::take(&mut self.asked_database);
                self.synced = self.asked;
                self.stage = Stage::Ready;
            }
            (Stage::Prepare, Judged::PrepareOk) => {
                let ok = PrepareOk::parse(payload).map_err(|_| Close::ServerBadAnswer)?;
                self.prepared = Some(Some(ok.statement));
                if self.reply.is_over() {
                    self.stage = Stage::Ready;
                }
            }
            _ => return Err(Close::ServerBadAnswer.into()),
        }
        Ok(())
    }

    /// The server asks further about the login.
    fn go_on(&mut self, payload: &[u8], whose: &Whose<'_>, cx: &mut Cx<'_>) -> Result<(), Fault> {
        self.packets += 1;
        if self.packets > SQL_LOGIN_PACKETS_MAX {
            return Err(Close::ServerBadAnswer.into());
        }
        let is_tls = self.conn.pipe().is_some();
        let answer = match LoginReply::parse(payload).map_err(|_| Close::ServerBadAnswer)? {
            LoginReply::Switch { plugin, data } => {
                self.plugin = Plugin::of_name(plugin);
                if let Some(scramble) = scramble_of(data) {
                    self.scramble = scramble;
                }
                let Some(plugin) = self.plugin else { return Err(Close::ServerBadAnswer.into()) };
                Some(whose.secrets.answer(plugin, data, is_tls))
            }
            LoginReply::More([auth::sha2::FAST_AUTH_SUCCESS]) => None,
            LoginReply::More([auth::sha2::PERFORM_FULL_AUTHENTICATION]) => Some(whose.secrets.full(is_tls)),
            LoginReply::More(key) => Some(whose.secrets.sealed(key, &self.scramble)),
            _ => return Err(Close::ServerBadAnswer.into()),
        };
        match answer {
            None => Ok(()),
            Some(Some(answer)) => Ok(self.send(cx, |out| out.extend_from_slice(&answer))?),
            Some(None) => Err(Fault::Refused(super::login::cannot_answer(self.plugin))),
        }
    }
}

/// Bytes of a packet that we say we take.
const PACKET_BYTES_MAX: u32 = 0x4000_0000;

/// What is asked of a server for a client with these capabilities.
pub(super) fn wanted(client: Capabilities, no_database: bool) -> Capabilities {
    let own = Capabilities::PROTOCOL_41
        | Capabilities::SECURE_CONNECTION
        | Capabilities::PLUGIN_AUTH
        | Capabilities::PLUGIN_AUTH_LENENC
        | Capabilities::TRANSACTIONS
        | Capabilities::SESSION_TRACK
        | Capabilities::MYSQL
        | Capabilities::LONG_FLAG;
    let theirs = Capabilities::FOUND_ROWS
        | Capabilities::NO_SCHEMA
        | Capabilities::LOCAL_FILES
        | Capabilities::IGNORE_SPACE
        | Capabilities::INTERACTIVE
        | Capabilities::MULTI_STATEMENTS
        | Capabilities::MULTI_RESULTS
        | Capabilities::PS_MULTI_RESULTS
        | Capabilities::DEPRECATE_EOF
        | Capabilities::FORMS;
    let database = if no_database { Capabilities::NONE } else { Capabilities::CONNECT_WITH_DB };
    own | (theirs & client) | database
}

fn pool_of(config: &Config, server: ServerId) -> &ServerPool {
    &config.pools[config.servers[server.index()].pool.index()]
}
