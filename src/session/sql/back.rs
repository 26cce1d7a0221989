//! A server connection of an SQL session: from the connect to the moment at which it may be given commands.
//!
//! What goes in: what happens to the connection, and who logs in. What comes out: a connection whose session at the server
//! is as the client's session wants it. It owns: the connection, the place (claim) at the server. Always true: a
//! connection to a replica is fenced (`tx_read_only`) before the first command; nobody is told what the set-up did.

use arrayvec::ArrayVec;

use crate::balance::Claim;
use crate::clock::Moment;
use crate::close::Close;
use crate::cluster::Gtid;
use crate::config::model::{Config, Pool as ServerPool};
use crate::counters::Count;
use crate::ids::ServerId;
use crate::limits::{
    SQL_GTID_SOURCES_MAX, SQL_LOGIN_PACKETS_MAX, SQL_POSITION_BYTES_MAX, SQL_SETUP_BYTES_MAX, SQL_WAIT_TIME,
};
use crate::mysql::auth::{self, Plugin};
use crate::mysql::command::Kind;
use crate::mysql::facts::{Capabilities, Status, Vendor, Version};
use crate::mysql::generic::OkPacket;
use crate::mysql::handshake::{First, LoginReply, Response, Scramble, SslRequest, scramble_of};
use crate::mysql::packet::{self, HEADER_BYTES, Parse};
use crate::mysql::prepared::PrepareOk;
use crate::mysql::reply::{Judged, Reply, What};
use crate::net::Ends;
use crate::proxyproto;
use crate::session::conn::Conn;
use crate::session::{Cx, Event, Leg};
use crate::tls::Pipe;

use super::login::Secrets;
use super::state::State;

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
    /// When it stood.
    pub(super) connected: Moment,
    /// The statement that was prepared last; `Some(None)`: it could not be.
    pub(super) prepared: Option<Option<u32>>,
    /// Whether the position was reached that it waited for.
    pub(super) waited: Option<bool>,
    /// The positions that it waited for last.
    pub(super) waited_for: ArrayVec<Gtid, SQL_GTID_SOURCES_MAX>,
    row: Vec<u8>,
    scramble: Scramble,
    plugin: Option<Plugin>,
    /// Packets of the login so far.
    packets: u8,
    sequence: u8,
    version: Option<Version>,
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
            connected: Moment::NEVER,
            prepared: None,
            waited: None,
            waited_for: ArrayVec::new(),
            row: Vec::new(),
            scramble: [0; 20],
            plugin: None,
            packets: 0,
            sequence: 0,
            version: None,
        }
    }

    /// The server's vendor and version, once it has greeted.
    pub(super) const fn version(&self) -> Option<Version> {
        self.version
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
            Event::Refused(_, errno) => return Err(crate::session::dial::refusal(errno)),
            Event::Received(_, chain) => {
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
            if self.stage == Stage::Position {
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
        // The login brings the database along as it is now, which may not be as it is once the server has answered.
        self.synced = if whose.state.has_variables() { 0 } else { whose.state.stamp() };
        self.reply = Reply::new(self.capabilities);
        self.reply.begin_login();
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
            return Err(Fault::Refused(payload.to_vec()));
        }
        match (self.stage, judged) {
            (Stage::Login, Judged::Ok) => {
                let ok = OkPacket::parse(payload, self.capabilities).map_err(|_| Close::ServerBadAnswer)?;
                self.status = ok.status;
                self.set_up(cx)?;
            }
            (Stage::Login, Judged::AuthSwitch | Judged::AuthMore) => self.go_on(payload, whose, cx)?,
            (Stage::Setup, Judged::Ok) => self.stage = Stage::Ready,
            (Stage::Variables, Judged::Ok) => self.bring_database(whose.state, cx)?,
            (Stage::Database, Judged::Ok) => {
                self.synced = whose.state.stamp();
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

    /// Has a replica wait for positions; `waited` says whether they were reached in time.
    pub(super) fn wait_for(&mut self, positions: &[Gtid], cx: &mut Cx<'_>) -> Result<(), Close> {
        let mut list = String::new();
        let is_mariadb = self.version.is_none_or(|version| version.vendor == Vendor::MariaDb);
        for gtid in positions {
            list.push_str(if list.is_empty() { "" } else { "," });
            list.push_str(&gtid.text(is_mariadb));
        }
        let function = if is_mariadb { "MASTER_GTID_WAIT" } else { "WAIT_FOR_EXECUTED_GTID_SET" };
        let seconds = SQL_WAIT_TIME.as_secs_f64();
        self.waited = None;
        self.waited_for = positions.iter().copied().take(SQL_GTID_SOURCES_MAX).collect();
        self.row.clear();
        self.ask(format!("SELECT {function}('{list}',{seconds})").as_bytes(), Stage::Position, cx)
    }

    /// Prepares a statement; `prepared` says what became of it.
    pub(super) fn prepare(&mut self, text: &[u8], cx: &mut Cx<'_>) -> Result<(), Close> {
        self.sequence = 0;
        self.prepared = None;
        self.send(cx, |out| {
            out.push(Kind::StmtPrepare as u8);
            out.extend_from_slice(text);
        })?;
        self.reply.begin(Kind::StmtPrepare);
        self.stage = Stage::Prepare;
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

    /// Sends a statement of our own.
    fn ask(&mut self, text: &[u8], stage: Stage, cx: &mut Cx<'_>) -> Result<(), Close> {
        self.sequence = 0;
        self.send(cx, |out| {
            out.push(Kind::Query as u8);
            out.extend_from_slice(text);
        })?;
        self.reply.begin(Kind::Query);
        self.stage = stage;
        Ok(())
    }

    /// Sets trackers and the fence.
    pub(super) fn set_up(&mut self, cx: &mut Cx<'_>) -> Result<(), Close> {
        let is_mariadb = self.version.is_none_or(|version| version.vendor == Vendor::MariaDb);
        let mut text = b"SET session_track_schema=1,session_track_state_change=1,session_track_transaction_info='CHARACTERISTICS',session_track_system_variables='*'".to_vec();
        if !is_mariadb {
            text.extend_from_slice(b",session_track_gtids=OWN_GTID");
        }
        if self.side == Side::Replica {
            let fence: &[u8] = if is_mariadb { b",tx_read_only=1" } else { b",transaction_read_only=1" };
            text.extend_from_slice(fence);
        }
        self.ask(&text, Stage::Setup, cx)
    }

    /// Brings the connection's session to where the client's is; true when it is there already.
    pub(super) fn sync(&mut self, state: &State, cx: &mut Cx<'_>) -> Result<bool, Close> {
        if self.synced == state.stamp() {
            return Ok(true);
        }
        let text = state.assignments(self.synced);
        if text.len() > SQL_SETUP_BYTES_MAX {
            return Err(Close::Bug);
        }
        match text.is_empty() {
            true => self.bring_database(state, cx)?,
            false => self.ask(&text, Stage::Variables, cx)?,
        }
        Ok(self.is_ready())
    }

    fn bring_database(&mut self, state: &State, cx: &mut Cx<'_>) -> Result<(), Close> {
        if state.database_stamp() <= self.synced || state.database().is_empty() {
            self.synced = state.stamp();
            self.stage = Stage::Ready;
            return Ok(());
        }
        self.sequence = 0;
        self.send(cx, |out| {
            out.push(Kind::InitDb as u8);
            out.extend_from_slice(state.database());
        })?;
        self.reply.begin(Kind::InitDb);
        self.stage = Stage::Database;
        Ok(())
    }
}

/// The payload of the packet behind so many others.
fn row_of(mut bytes: &[u8], before: usize) -> Option<&[u8]> {
    for at in 0..=before {
        let Parse::Done(packet, used) = packet::parse(bytes, SQL_POSITION_BYTES_MAX) else { return None };
        if at == before {
            return Some(packet.payload);
        }
        bytes = bytes.get(used..)?;
    }
    None
}

/// Bytes of a packet that we say we take.
const PACKET_BYTES_MAX: u32 = 0x4000_0000;

/// What is asked of a server for a client with these capabilities.
fn wanted(client: Capabilities, no_database: bool) -> Capabilities {
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
        | Capabilities::DEPRECATE_EOF;
    let database = if no_database { Capabilities::NONE } else { Capabilities::CONNECT_WITH_DB };
    own | (theirs & client) | database
}

fn pool_of(config: &Config, server: ServerId) -> &ServerPool {
    &config.pools[config.servers[server.index()].pool.index()]
}
