//! A client of a MySQL or MariaDB server, as small as the monitor needs it.
//!
//! What goes in: where a server is, an account, queries. What comes out: tables, or why there are none, in words for
//! people. It owns the connection. Always true: no wait is longer than [`SQL_ASK_CONNECT_TIME`] or [`SQL_ASK_TIME_MAX`];
//! after an error the connection is not used again; the password leaves this process only over TLS, over a Unix socket, or
//! encrypted with the server's key.

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::super::checks::ask::{Stream, time, words};
use super::tables::{Reading, Step, Table};
use crate::config::model::SqlAccount;
use crate::limits::{
    SQL_ASK_BYTES_MAX, SQL_ASK_CONNECT_TIME, SQL_ASK_TIME_MAX, SQL_LOGIN_BYTES_MAX, SQL_LOGIN_PACKETS_MAX,
};
use crate::mysql::auth::{Plugin, ed25519, native, rsa, sha2};
use crate::mysql::facts::{Capabilities, Version};
use crate::mysql::generic::ErrPacket;
use crate::mysql::handshake::{
    First, Greeting, LoginReply, Response, Scramble, SslRequest, put_attribute, scramble_of,
};
use crate::mysql::packet::{self, Parse};
use crate::net::Address;
use crate::proxyproto;
use crate::tls::ClientTls;

/// The collation `binary`: texts come as they are stored.
const BINARY: u8 = 63;
const COM_QUIT: u8 = 0x01;
const COM_QUERY: u8 = 0x03;
const PACKET_BYTES_MAX: u32 = 1 << 24;
/// ER_ACCESS_DENIED_ERROR, ER_ACCESS_DENIED_NO_PASSWORD_ERROR.
const ACCESS_DENIED: [u16; 2] = [1045, 1698];

/// Whom to ask, as whom.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) address: Address,
    /// Its host as written; empty for a Unix socket.
    pub(super) host: String,
    pub(super) account: SqlAccount,
    pub(super) tls: Option<Arc<ClientTls>>,
    pub(super) send_proxy: Option<proxyproto::Version>,
}

impl Plan {
    /// Whether a connection that was made by the other would be made the same way by this one.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.address == other.address
            && self.account.user == other.account.user
            && self.account.password.reveal() == other.account.password.reveal()
            && self.tls.is_some() == other.tls.is_some()
            && self.send_proxy == other.send_proxy
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The connection is of no use any more.
    Broken(String),
    /// The server refuses a query; the connection goes on. Its number and text.
    Refused(u16, String),
}

impl Trouble {
    /// For people.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Broken(text) => text.clone(),
            Self::Refused(code, text) => format!("{text} ({code})"),
        }
    }
}

fn broken(text: impl Into<String>) -> Trouble {
    Trouble::Broken(text.into())
}

fn lost(error: &io::Error) -> Trouble {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => broken("it closed the connection"),
        _ => broken(words(error)),
    }
}

/// A connection that is logged in.
pub(super) struct Client {
    wire: Wire,
    /// What the server is.
    pub(super) version: Version,
}

impl Client {
    /// Connects and logs in.
    pub(super) async fn open(plan: &Plan) -> Result<Self, Trouble> {
        match timeout(SQL_ASK_CONNECT_TIME, Self::login(plan)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(broken(format!("no login within {}", time(SQL_ASK_CONNECT_TIME)))),
        }
    }

    async fn login(plan: &Plan) -> Result<Self, Trouble> {
        let stream = connect(plan).await.map_err(|error| lost(&error))?;
        let is_local = matches!(plan.address, Address::Unix(_));
        let mut wire = Wire { stream, bytes: Vec::new(), sequence: 0 };
        if let Some(version) = plan.send_proxy {
            wire.write(&proxyproto::write(version, None, None)).await?;
        }
        let payload = wire.packet(SQL_LOGIN_BYTES_MAX).await?;
        let greeting = match First::parse(&payload) {
            Ok(First::Greeting(greeting)) => greeting,
            Ok(First::Err(error)) => return Err(refused(&error)),
            Err(_) => return Err(broken("what it greets with is not MySQL")),
        };
        let Some(version) = Version::parse(greeting.version) else {
            return Err(broken("its version cannot be read"));
        };
        let capabilities = capabilities(&greeting, plan.tls.is_some());
        let request = SslRequest { capabilities, packet_bytes_max: PACKET_BYTES_MAX, collation: BINARY };
        if let Some(tls) = &plan.tls {
            if !greeting.capabilities.has(Capabilities::SSL) {
                return Err(broken("it offers no TLS, which server_tls asks for"));
            }
            wire.send(|out| request.write(out)).await?;
            wire = wire.secured(tls, plan).await?;
        }
        let mut login = Login { plan, scramble: greeting.scramble, is_safe: plan.tls.is_some() || is_local };
        let named = if greeting.plugin.is_empty() { Plugin::Native.name() } else { greeting.plugin };
        // What is not spoken is answered by nothing: the server then says what it wants for this account.
        let answer = login.answer(named, &greeting.scramble).unwrap_or_default();
        let plugin = Plugin::of_name(named).unwrap_or(Plugin::Native).name();
        let mut attributes = Vec::new();
        put_attribute(&mut attributes, b"program_name", b"ringgate");
        let response = Response {
            capabilities,
            packet_bytes_max: PACKET_BYTES_MAX,
            collation: BINARY,
            user: plan.account.user.as_bytes(),
            answer: &answer,
            database: b"",
            plugin,
            attributes: &attributes,
            zstd_level: 0,
        };
        wire.send(|out| response.write(out)).await?;
        login.finish(&mut wire).await?;
        Ok(Self { wire, version })
    }

    /// Asks one or more statements, whose answers have so many bytes at most together.
    pub(super) async fn query(&mut self, text: &str, bytes_max: usize) -> Result<Vec<Table>, Trouble> {
        match timeout(SQL_ASK_TIME_MAX, self.ask(text, bytes_max)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(broken(format!("no answer within {}", time(SQL_ASK_TIME_MAX)))),
        }
    }

    async fn ask(&mut self, text: &str, bytes_max: usize) -> Result<Vec<Table>, Trouble> {
        self.wire.sequence = 0;
        self.wire
            .send(|out| {
                out.push(COM_QUERY);
                out.extend_from_slice(text.as_bytes());
            })
            .await?;
        let mut reading = Reading::new(bytes_max);
        loop {
            let payload = self.wire.packet(SQL_ASK_BYTES_MAX).await?;
            match reading.take(&payload) {
                Ok(Step::More) => {}
                Ok(Step::Done) => return Ok(reading.into_tables()),
                Ok(Step::Refused(code, text)) => return Err(Trouble::Refused(code, printable(text))),
                Err(bad) => return Err(broken(format!("its answer cannot be read: {:?}", bad.reason))),
            }
        }
    }

    /// Waits until the server says something without having been asked, or closes: both are the end of the connection.
    pub(super) async fn ended(&mut self) {
        let mut byte = [0];
        let _ = self.wire.stream.read(&mut byte).await;
    }

    /// Ends in order, as far as the server takes it.
    pub(super) async fn quit(mut self) {
        self.wire.sequence = 0;
        let _ = timeout(SQL_ASK_TIME_MAX, self.wire.send(|out| out.push(COM_QUIT))).await;
    }
}

/// What is asked of the server, as far as it offers it.
fn capabilities(greeting: &Greeting<'_>, tls: bool) -> Capabilities {
    let wanted = Capabilities::MYSQL
        | Capabilities::LONG_FLAG
        | Capabilities::PROTOCOL_41
        | Capabilities::TRANSACTIONS
        | Capabilities::SECURE_CONNECTION
        | Capabilities::MULTI_STATEMENTS
        | Capabilities::MULTI_RESULTS
        | Capabilities::PLUGIN_AUTH
        | Capabilities::PLUGIN_AUTH_LENENC
        | Capabilities::CONNECT_ATTRS;
    let wanted = if tls { wanted | Capabilities::SSL } else { wanted };
    // A MariaDB that speaks its own half does not offer this bit; without it our packet would have to have that half.
    (wanted & greeting.capabilities) | Capabilities::MYSQL
}

async fn connect(plan: &Plan) -> io::Result<Box<dyn Stream>> {
    Ok(match &plan.address {
        Address::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
        Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
    })
}

fn refused(error: &ErrPacket<'_>) -> Trouble {
    let text = printable(error.message);
    let advice = if ACCESS_DENIED.contains(&error.code) {
        "; check user and password_file of the block's account, and that it exists at the server"
    } else {
        ""
    };
    broken(format!("it refuses the login: {text} ({}){advice}", error.code))
}

/// A text of a server, without what steers terminals.
pub(super) fn printable(text: impl AsRef<[u8]>) -> String {
    String::from_utf8_lossy(text.as_ref()).chars().filter(|letter| !letter.is_control()).take(200).collect()
}

/// Packets over a stream.
struct Wire {
    stream: Box<dyn Stream>,
    /// What came and was not taken yet.
    bytes: Vec<u8>,
    /// Of the next packet.
    sequence: u8,
}

impl Wire {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.stream.write_all(bytes).await.map_err(|error| lost(&error))?;
        self.stream.flush().await.map_err(|error| lost(&error))
    }

    async fn send(&mut self, fill: impl FnOnce(&mut Vec<u8>)) -> Result<(), Trouble> {
        let mut out = Vec::new();
        packet::put(&mut out, &mut self.sequence, fill);
        self.write(&out).await
    }

    /// The payload of the next packet.
    async fn packet(&mut self, payload_max: usize) -> Result<Vec<u8>, Trouble> {
        loop {
            match packet::parse(&self.bytes, payload_max) {
                Parse::Done(packet, used) => {
                    self.sequence = packet.sequence.wrapping_add(1);
                    let payload = packet.payload.to_vec();
                    self.bytes.drain(..used);
                    return Ok(payload);
                }
                Parse::Bad(_) => {
                    return Err(broken("a packet of it is too long, or what it says is not MySQL"));
                }
                Parse::NeedMore => {
                    let mut page = [0; 4096];
                    let count = self.stream.read(&mut page).await.map_err(|error| lost(&error))?;
                    if count == 0 {
                        return Err(lost(&io::ErrorKind::UnexpectedEof.into()));
                    }
                    self.bytes.extend(page.iter().take(count));
                }
            }
        }
    }

    /// The same over TLS.
    async fn secured(self, tls: &ClientTls, plan: &Plan) -> Result<Self, Trouble> {
        if !self.bytes.is_empty() {
            return Err(broken("it says more than a greeting before TLS"));
        }
        let host = if plan.host.is_empty() { "localhost" } else { &plan.host };
        let name = tls.name(host).map_err(|_| broken(format!("\"{host}\" is not a name for TLS")))?;
        let connected = TlsConnector::from(tls.config()).connect(name, self.stream).await;
        let stream = connected.map_err(|error| broken(format!("TLS failed: {}", words(&error))))?;
        Ok(Self { stream: Box::new(stream), bytes: Vec::new(), sequence: self.sequence })
    }
}

/// A login that is under way.
struct Login<'p> {
    plan: &'p Plan,
    /// What the plugin in use answers.
    scramble: Scramble,
    /// Nobody listens: TLS or a Unix socket.
    is_safe: bool,
}

impl Login<'_> {
    /// The answer of a plugin to its data.
    fn answer(&mut self, plugin: &[u8], data: &[u8]) -> Result<Vec<u8>, Trouble> {
        let password = self.plan.account.password.reveal();
        let name = printable(plugin);
        let odd = || broken(format!("what it sends for {name} cannot be read"));
        Ok(match Plugin::of_name(plugin) {
            Some(Plugin::Native) => {
                self.scramble = scramble_of(data).ok_or_else(odd)?;
                native::answer(&native::secret_of(password), &self.scramble).to_vec()
            }
            Some(Plugin::Sha2) => {
                self.scramble = scramble_of(data).ok_or_else(odd)?;
                sha2::answer(&sha2::secret_of(password), &self.scramble).to_vec()
            }
            Some(Plugin::Ed25519) => {
                let nonce = data.first_chunk().ok_or_else(odd)?;
                ed25519::Key::of_password(password).answer(nonce).to_vec()
            }
            Some(Plugin::Clear) if self.is_safe => [password, b"\0"].concat(),
            Some(Plugin::Clear) => return Err(broken("it wants the password in the clear: set server_tls")),
            None => {
                let advice = "give the account mysql_native_password, caching_sha2_password or ed25519";
                return Err(broken(format!("its account logs in by {name}, which is not spoken: {advice}")));
            }
        })
    }

    /// Goes on until the server lets in or refuses.
    async fn finish(&mut self, wire: &mut Wire) -> Result<(), Trouble> {
        for _ in 0..SQL_LOGIN_PACKETS_MAX {
            let payload = wire.packet(SQL_LOGIN_BYTES_MAX).await?;
            match LoginReply::parse(&payload) {
                Ok(LoginReply::Ok(_)) => return Ok(()),
                Ok(LoginReply::Err(error)) => return Err(refused(&error)),
                Ok(LoginReply::Switch { plugin, data }) => {
                    let answer = self.answer(plugin, data)?;
                    wire.send(|out| out.extend_from_slice(&answer)).await?;
                }
                Ok(LoginReply::More([sha2::FAST_AUTH_SUCCESS])) => {}
                Ok(LoginReply::More([sha2::PERFORM_FULL_AUTHENTICATION])) => self.full(wire).await?,
                Ok(LoginReply::More(pem)) => {
                    let password = self.plan.account.password.reveal();
                    let encrypted = rsa::encrypt(password, &self.scramble, pem);
                    let encrypted = encrypted.map_err(|_| broken("the key that it sends cannot be used"))?;
                    wire.send(|out| out.extend_from_slice(&encrypted)).await?;
                }
                Ok(LoginReply::OldSwitch) => {
                    return Err(broken("its account has a password of before MySQL 4.1"));
                }
                Err(_) => return Err(broken("what it says to the login cannot be read")),
            }
        }
        Err(broken("its login does not come to an end"))
    }

    /// The slow path of `caching_sha2_password`: the password itself where nobody listens, else the wish for a key.
    async fn full(&self, wire: &mut Wire) -> Result<(), Trouble> {
        if !self.is_safe {
            return wire.send(|out| out.push(sha2::REQUEST_PUBLIC_KEY)).await;
        }
        let password = self.plan.account.password.reveal();
        wire.send(|out| {
            out.extend_from_slice(password);
            out.push(0);
        })
        .await
    }
}
