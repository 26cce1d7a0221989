//! How an SQL client comes in: greeting, TLS, the login, the first server connection.
//!
//! What goes in: the client's packets of the login. What comes out: a session that is ready for commands, or a refusal. It owns
//! nothing. Always true: a client hears OK only after a server has said OK to the same user.

use std::sync::Arc;

use crate::close::Close;
use crate::cluster::Stored;
use crate::limits::{INBOX_BYTES_MAX, SQL_LOGIN_BYTES_MAX, SQL_LOOK_TIME};
use crate::mysql::auth::{Password, Plugin, sha2};
use crate::mysql::errors::Code;
use crate::mysql::facts::{Capabilities, Status};
use crate::mysql::facts::{Multibyte, Vendor, Version};
use crate::mysql::generic::{OK, OkPacket};
use crate::mysql::handshake::{ChangeUser, Response, SslRequest, write_auth_more, write_auth_switch};
use crate::mysql::lexer::{self, Charset, Dialect};
use crate::mysql::packet::{HEADER_BYTES, Header};
use crate::mysql::track::{Change, changes};
use crate::route::split::SessionState;
use crate::session::Cx;
use crate::session::record::count_handshake;
use crate::session::timers::Timer;
use crate::tls::Pipe;

use super::back::{Fault, Side};
use super::login::{self, Login, Verdict};
use super::state::State;
use super::statements::Statements;
use super::{Phase, SqlSession};

impl SqlSession {
    /// Greets the client as the primary would, as soon as any server is known.
    pub(super) fn greet(&mut self, cx: &mut Cx<'_>) {
        let cluster = self.cluster(cx);
        let primary = cluster.primary().and_then(|server| cluster.member(server)?.version());
        let any = || cluster.members().find_map(|(_, member)| member.version());
        // Clients may need a key before they say their password without TLS.
        let is_ready = cluster.accounts().are_known() && !cluster.is_key_awaited();
        let Some(version) = primary.or_else(any).filter(|_| is_ready) else {
            return self.deadlines.set(Timer::Server, cx.now + SQL_LOOK_TIME);
        };
        let site = self.site(cx);
        let Some(scramble) = login::scramble() else { return self.end(Close::Bug, cx) };
        self.deadlines.clear(Timer::Server);
        let login = Login {
            scramble,
            offered: login::offered(version, site.tls.is_some(), site.compression),
            capabilities: Capabilities::NONE,
            collation: 0,
            user: Vec::new(),
            database: Vec::new(),
            switched: None,
            has_key: false,
        };
        let id = cluster.connection_id();
        self.seat = cluster.seats().take(id);
        let text = login::version_text(version);
        let greeting = login::greeting(&login, &text, id);
        self.say(cx, |out| greeting.write(out));
        self.login = Some(Box::new(login));
        if self.phase == Phase::Waiting {
            self.phase = Phase::Hello;
        }
    }

    /// The next packet of the client's login.
    fn login_packet(&mut self, cx: &mut Cx<'_>) -> Option<Vec<u8>> {
        if !self.fill(HEADER_BYTES, false, cx) {
            return None;
        }
        let mut head = Vec::new();
        self.front.inbox.peek(HEADER_BYTES, &mut head);
        let gone = self.front.is_eof();
        let header = head.first_chunk().map(|bytes| Header::from_bytes(*bytes));
        let Some(header) = header else {
            if gone {
                self.end(Close::ClientClosed, cx);
            }
            return None;
        };
        if header.length > SQL_LOGIN_BYTES_MAX.min(INBOX_BYTES_MAX - HEADER_BYTES) {
            self.refuse(Code::BAD_HANDSHAKE, "Bad handshake", Close::BadRequest, cx);
            return None;
        }
        if header.sequence != self.sequence && !self.front.is_compressed() {
            self.refuse(Code::OUT_OF_ORDER, "Got packets out of order", Close::BadRequest, cx);
            return None;
        }
        let whole = HEADER_BYTES + header.length;
        if !self.fill(whole, false, cx) {
            return None;
        }
        if self.front.inbox.len() < whole {
            if gone {
                self.end(Close::ClientGone, cx);
            }
            return None;
        }
        let mut packet = Vec::new();
        self.front.inbox.peek(whole, &mut packet);
        self.front.inbox.consume(whole, cx.pool);
        self.sequence = header.sequence.wrapping_add(1);
        packet.drain(..HEADER_BYTES);
        Some(packet)
    }

    pub(super) fn run_handshake(&mut self, cx: &mut Cx<'_>) {
        if !self.front.is_handshaking() {
            count_handshake(&self.front, cx);
            self.phase = Phase::Hello;
        } else if self.front.is_eof() {
            self.end(Close::TlsHandshake, cx);
        }
    }

    pub(super) fn run_hello(&mut self, cx: &mut Cx<'_>) {
        let Some(payload) = self.login_packet(cx) else { return };
        let Some(mut login) = self.login.take() else { return self.end(Close::Bug, cx) };
        match (self.phase, login.switched) {
            (Phase::Again, Some(plugin)) => return self.judge(login, plugin, &payload, cx),
            (Phase::Full, _) => return self.judge_password(login, &payload, cx),
            _ => {}
        }
        let is_tls = self.front.pipe().is_some();
        if SslRequest::is_one(&payload) && !is_tls {
            let site = self.site(cx);
            let secured = match &site.tls {
                Some(tls) => Pipe::accept(tls).and_then(|pipe| self.front.secure(pipe, cx.pool)).is_ok(),
                None => false,
            };
            self.login = Some(login);
            return if secured { self.phase = Phase::Handshake } else { self.end(Close::TlsHandshake, cx) };
        }
        let Ok(response) = Response::parse(&payload, login.offered) else {
            return self.refuse(Code::BAD_HANDSHAKE, "Bad handshake", Close::BadRequest, cx);
        };
        if !response.capabilities.has(Capabilities::PROTOCOL_41 | Capabilities::SECURE_CONNECTION) {
            return self.refuse(Code::BAD_HANDSHAKE, "Bad handshake", Close::BadRequest, cx);
        }
        login.capabilities = response.capabilities;
        login.collation = response.collation;
        login.user = response.user.to_vec();
        login.database = response.database.to_vec();
        let plugin = match response.plugin {
            b"" => Some(Plugin::Native),
            name => Plugin::of_name(name),
        };
        // An unknown plugin's answer is worth nothing, and is asked for again.
        let answer = if plugin.is_some() { response.answer } else { b"" };
        self.judge(login, plugin.unwrap_or(Plugin::Clear), answer, cx);
    }

    /// Somebody else logs in: the session begins anew. The answer is to the scramble of the greeting.
    pub(super) fn change_user(&mut self, payload: &[u8], cx: &mut Cx<'_>) {
        self.sequence = 1;
        let Ok(asked) = ChangeUser::parse(payload, self.state.capabilities) else {
            return self.refuse(Code::MALFORMED, "Malformed communication packet", Close::BadRequest, cx);
        };
        let login = Login {
            scramble: self.state.scramble,
            offered: self.state.offered,
            capabilities: self.state.capabilities,
            collation: asked.collation.and_then(|id| u8::try_from(id).ok()).unwrap_or(self.state.collation),
            user: asked.user.to_vec(),
            database: asked.database.to_vec(),
            switched: None,
            has_key: false,
        };
        for side in [Side::Primary, Side::Replica] {
            self.drop_back(side, None, cx);
        }
        self.statements = Statements::default();
        (self.last_leg, self.diagnostics_until) = (None, None);
        let time = self.site(cx).times.handshake;
        self.deadlines.set(Timer::Client, cx.now + time);
        self.phase = Phase::Hello;
        let plugin =
            if asked.plugin.is_empty() { Some(Plugin::Native) } else { Plugin::of_name(asked.plugin) };
        let answer = if plugin.is_some() { asked.answer } else { b"" };
        let login = Box::new(login);
        if plugin == Some(Plugin::Sha2) && matches!(answer, b"" | b"\0") {
            // MySQL's client library does not answer to the greeting once more: it waits to be asked.
            let accounts = self.cluster(cx).accounts();
            let wanted =
                accounts.find(&login.user, self.from().0).map(|account| login::wanted(&login, account));
            return self.conclude(login, Verdict::Switch(wanted.unwrap_or(Plugin::Sha2)), cx);
        }
        self.judge(login, plugin.unwrap_or(Plugin::Clear), answer, cx);
    }

    fn judge(&mut self, login: Box<Login>, plugin: Plugin, answer: &[u8], cx: &mut Cx<'_>) {
        let cluster = self.cluster(cx).clone();
        let accounts = cluster.accounts();
        let account = accounts.find(&login.user, self.from().0);
        if account.is_none() {
            cluster.wish_accounts();
        }
        let known = |stored: &Stored| cluster.known(stored);
        let verdict = login::judge(&login, account, known, (plugin, answer), self.from());
        self.conclude(login, verdict, cx);
    }

    fn from(&self) -> login::From {
        (self.ends.client.map(|client| client.ip()), self.front.pipe().is_some())
    }

    /// The client sent its password, or wants a key to seal it with.
    fn judge_password(&mut self, mut login: Box<Login>, payload: &[u8], cx: &mut Cx<'_>) {
        let cluster = self.cluster(cx).clone();
        let (from, is_tls) = self.from();
        // MariaDB's client library does not seal a password within its own host.
        let is_local = from.is_none_or(|ip| ip.to_canonical().is_loopback());
        if !is_tls && !login.has_key && payload == [sha2::REQUEST_PUBLIC_KEY] {
            let Some(key) = cluster.key() else {
                return self.refuse(Code::AUTH_MODE, "ringgate has no key: use TLS", Close::SqlDenied, cx);
            };
            login.has_key = true;
            self.login = Some(login);
            return self.say(cx, |out| write_auth_more(out, key.pem().as_bytes()));
        }
        let password = match (is_tls, cluster.key()) {
            (true, _) => Password::from_packet(payload),
            (false, Some(key)) if login.has_key => key.decrypt(payload, &login.scramble),
            (false, _) if is_local => Password::from_packet(payload),
            _ => None,
        };
        let accounts = cluster.accounts();
        let account = accounts.find(&login.user, self.from().0);
        let verdict = match password {
            Some(password) => {
                let learn = |stored: &Stored| cluster.learn(stored, &password);
                login::judge_password(&login, account, &password, learn, self.from())
            }
            None => login::denied(&login, self.from(), true),
        };
        self.conclude(login, verdict, cx);
    }

    fn conclude(&mut self, mut login: Box<Login>, verdict: Verdict, cx: &mut Cx<'_>) {
        match verdict {
            Verdict::In(secrets, is_fast) => {
                self.secrets = secrets;
                self.key = None;
                *self.state = State::new(&login.user, &login.database, login.capabilities, login.collation);
                (self.state.offered, self.state.scramble) = (login.offered, login.scramble);
                if is_fast {
                    self.say(cx, |out| write_auth_more(out, &[sha2::FAST_AUTH_SUCCESS]));
                }
                self.phase = Phase::Entering;
                let wait = self.site(cx).times.primary;
                self.deadlines.set(Timer::Progress, cx.now + wait);
            }
            Verdict::Switch(plugin) => {
                let mut data = login.scramble.to_vec();
                data.push(0);
                login.switched = Some(plugin);
                self.login = Some(login);
                self.phase = Phase::Again;
                self.say(cx, |out| write_auth_switch(out, plugin.name(), &data));
            }
            Verdict::Full => {
                self.login = Some(login);
                self.phase = Phase::Full;
                self.say(cx, |out| write_auth_more(out, &[sha2::PERFORM_FULL_AUTHENTICATION]));
            }
            Verdict::Out(code, text) => self.refuse(code, &text, Close::SqlDenied, cx),
        }
    }

    /// Opens the first server connection, whose answer to the login is the client's.
    pub(super) fn run_entering(&mut self, cx: &mut Cx<'_>) {
        let (cluster, lag_max) = (self.cluster(cx), self.site(cx).lag_max);
        // Without a primary a replica will do: there may be nothing to write.
        let late = self.backs[0].is_none()
            && cluster.primary().is_none()
            && cluster.members().any(|(_, member)| member.may_read(lag_max));
        let side = if late { Side::Replica } else { Side::Primary };
        match self.prepare(side, cx) {
            Ok(false) => {}
            Ok(true) => {
                let back = self.backs[side as usize].as_ref();
                let (told, version) = (back.map(|back| back.status), back.and_then(|back| back.version()));
                // A replica's would tell our fence.
                let primary = self.backs[Side::Primary as usize].as_ref();
                self.initial = primary.map_or_else(Arc::default, |back| back.initial.clone());
                self.dialect = dialect(version, self.state.collation);
                self.begin_texts();
                self.texts.told_schema(self.state.database());
                // A connection that was used before told it long ago.
                let dialect = self.texts.dialect();
                let status = told
                    .unwrap_or(Status::AUTOCOMMIT)
                    .set(Status::AUTOCOMMIT, self.texts.is_autocommit())
                    .set(Status::NO_BACKSLASH_ESCAPES, dialect.no_backslash_escapes)
                    .set(
                        Status::ANSI_QUOTES,
                        dialect.ansi_quotes && dialect.vendor == lexer::Vendor::MariaDb,
                    );
                self.status = status;
                let ok = OkPacket {
                    header: OK,
                    affected_rows: 0,
                    last_insert_id: 0,
                    status: status.without(Status::SESSION_STATE_CHANGED),
                    warnings: 0,
                    info: b"",
                    state: b"",
                };
                let capabilities = self.state.capabilities;
                self.say(cx, |out| ok.write(out, capabilities));
                if capabilities.has(Capabilities::COMPRESS) {
                    self.front.compress();
                }
                self.deadlines.clear(Timer::Progress);
                self.deadlines.clear(Timer::Server);
                self.login = None;
                if self.phase == Phase::Entering {
                    self.phase = Phase::Ready;
                    self.rest(cx);
                }
            }
            Err(fault) => self.deny(&fault, cx),
        }
    }

    /// The session is at the server as it was after the login.
    pub(super) fn begin_texts(&mut self) {
        *self.texts = SessionState::new(self.dialect);
        for change in changes(&self.initial).filter_map(Result::ok) {
            if let Change::SystemVariable { name, value } = change {
                self.texts.told_variable(name, value);
            }
        }
    }

    /// The login comes to nothing because of a server.
    pub(super) fn deny(&mut self, fault: &Fault, cx: &mut Cx<'_>) {
        match fault {
            Fault::Refused(payload) => {
                self.say(cx, |out| out.extend_from_slice(payload));
                self.leave(Close::SqlDenied, cx);
            }
            Fault::Close(close) => {
                let text = format!("ringgate: {}", close.about());
                self.refuse(Code::TOO_MANY_CONNECTIONS, &text, *close, cx);
            }
        }
    }
}

/// How the first text of a session is read.
fn dialect(version: Option<Version>, collation: u8) -> Dialect {
    let dialect = match version {
        Some(Version { vendor: Vendor::MySql, number }) => Dialect::mysql(number),
        other => Dialect::mariadb(other.map_or(0, |version| version.number)),
    };
    let charset = match Multibyte::of_collation(collation.into()) {
        Some(Multibyte::Big5) => Charset::Big5,
        Some(Multibyte::Gbk) => Charset::Gbk,
        Some(Multibyte::Sjis | Multibyte::Cp932) => Charset::Sjis,
        Some(Multibyte::Gb18030) => Charset::Gb18030,
        // utf8mb3 and utf8mb4 by their ids, latin1 by its.
        None => match collation {
            33 | 45 | 46 | 76 | 83 | 192..=215 | 223..=247 | 255 => Charset::Utf8,
            5 | 8 | 15 | 31 | 47 | 48 | 49 | 94 => Charset::Latin1,
            _ => Charset::Other,
        },
    };
    Dialect { charset, ..dialect }
}
