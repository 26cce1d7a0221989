//! The configuration as the program uses it: plain values, ids instead of names, everything checked and resolved.
//!
//! What goes in: `check.rs` builds it from a file, or a program that embeds ringgate builds it with
//! [`Config::parse`](crate::config). What comes out: read-only values shared by all workers in one `Arc`. Always true:
//! every id is valid within the same `Config`; nothing here needs a file or a name to be looked up again.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::http::rules::FieldRules;
use crate::ids::{HttpId, PoolId, ServerId, SqlId, TcpId};
use crate::limits;
use crate::net::Address;
use crate::proxyproto::Version as ProxyVersion;
use crate::route::Routes;
use crate::tls::certs::Description;
use crate::tls::{ClientTls, ServerTls};

mod dns;
mod log;
mod sql;
pub use dns::{Dns, Family, Found, Lookup, Records, Service};
pub use log::{Log, LogTo};
pub use sql::{Consistency, Pooling, Reads, Sql, SqlAccount, SqlTimes, SqlUsers};

/// Everything.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Listening addresses in the order of the file; a `ListenerId` is an index.
    pub listeners: Vec<Listener>,
    /// `[http.NAME]` blocks; an `HttpId` is an index.
    pub http: Vec<Http>,
    /// `[tcp.NAME]` blocks; a `TcpId` is an index.
    pub tcp: Vec<Tcp>,
    /// `[sql.NAME]` blocks; a `SqlId` is an index.
    pub sql: Vec<Sql>,
    /// `[pool.NAME]` blocks, and the servers of `[sql.NAME]` blocks as pools named `sql.NAME`; a `PoolId` is an index.
    pub pools: Vec<Pool>,
    /// Servers of all pools; a `ServerId` is an index.
    pub servers: Vec<Server>,
    /// `[limits]`.
    pub limits: Limits,
    /// `[workers]`.
    pub workers: Workers,
    /// `[admin]`.
    pub admin: AdminConfig,
    /// `[dns]`.
    pub dns: Dns,
    /// What the names of servers stood for when the configuration was loaded; those that could not be resolved are not here.
    pub found: HashMap<Lookup, Vec<Found>>,
    /// `[process]`.
    pub process: Process,
    /// `[log]`.
    pub log: Log,
    /// Files and folders that the configuration names.
    pub files: Files,
}

/// `[admin]`: where the process is looked at and directed.
#[derive(Clone, Debug, Default)]
pub struct AdminConfig {
    /// Where to listen; nowhere when empty.
    pub listen: Vec<Address>,
    /// TLS on addresses that are not Unix sockets.
    pub tls: Option<Arc<ServerTls>>,
    /// What every request must show.
    pub token: Option<Token>,
    /// A request that shows this is told how it was decided.
    pub debug_token: Option<Token>,
    /// Certificate files are looked at every few seconds, and loaded again when one has changed.
    pub watch: bool,
}

/// A secret, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl Token {
    /// Whether these bytes are the secret, without telling by the time it takes where the difference is.
    pub fn is(&self, shown: &[u8]) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(shown, self.0.as_bytes()).is_ok()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// One listening address.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where to listen.
    pub address: Address,
    /// An IPv6 address takes no IPv4 connections; false only for `:80` and `*:80`, which take both.
    pub v6only: bool,
    /// Which block serves its connections.
    pub serves: Serves,
}

/// What a listener's connections speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// HTTP (with or without TLS).
    Http(HttpId),
    /// Bytes.
    Tcp(TcpId),
    /// MySQL's protocol.
    Sql(SqlId),
}

/// The block that serves a listener's connections.
#[derive(Clone, Copy, Debug)]
pub enum Block<'c> {
    /// HTTP (with or without TLS).
    Http(&'c Http),
    /// Bytes.
    Tcp(&'c Tcp),
    /// MySQL's protocol.
    Sql(&'c Sql),
}

impl Config {
    /// The block behind an id.
    pub fn block(&self, serves: Serves) -> Block<'_> {
        match serves {
            Serves::Http(id) => Block::Http(&self.http[id.index()]),
            Serves::Tcp(id) => Block::Tcp(&self.tcp[id.index()]),
            Serves::Sql(id) => Block::Sql(&self.sql[id.index()]),
        }
    }

    /// What there is to say about the certificates of all blocks, with the names of their blocks.
    pub fn certificates(&self) -> impl Iterator<Item = (&str, &Description)> {
        let http = self.http.iter().map(|block| (&block.name, &block.certificates));
        let tcp = self.tcp.iter().map(|block| (&block.name, &block.certificates));
        let sql = self.sql.iter().map(|block| (&block.name, &block.certificates));
        let all = http.chain(tcp).chain(sql);
        all.flat_map(|(name, list)| list.iter().map(move |one| (name.as_str(), one)))
    }
}

/// An `[http.NAME]` block.
#[derive(Clone, Debug)]
pub struct Http {
    /// Its name in the file.
    pub name: String,
    /// TLS with clients; `None` is plain HTTP.
    pub tls: Option<Arc<ServerTls>>,
    /// What there is to say about its certificates.
    pub certificates: Vec<Description>,
    /// Which pool, redirect or answer for which request. `redirect = "https"` is a route like any other.
    pub routes: Routes<Route>,
    /// A PROXY protocol header (v1 or v2) must come first, from one of these networks.
    pub accept_proxy: Option<Vec<IpNet>>,
    /// Behind these clients X-Forwarded-* and Forwarded are appended to; from others they are replaced.
    pub trusted_proxies: Vec<IpNet>,
    /// Name of the request field that gets the client certificate's subject.
    pub client_subject_field: Option<String>,
    /// Whether `Forwarded` (RFC 7239) is sent besides X-Forwarded-*.
    pub forwarded: bool,
    /// Bounds of requests.
    pub limits: HttpLimits,
    /// Times of clients.
    pub times: HttpTimes,
    /// Its exchanges leave lines in the log.
    pub log: bool,
    /// Requests get ids: of their own, and of their trace.
    pub request_id: bool,
    /// Own pages by status; others are built in.
    pub error_pages: HashMap<u16, Answer>,
}

/// Bounds of an HTTP block.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Bytes of a head.
    pub head_bytes_max: usize,
    /// Fields of a head.
    pub fields_max: usize,
    /// Bytes of a target.
    pub target_bytes_max: usize,
    /// Bytes of a body; `u64::MAX` is no limit.
    pub body_bytes_max: u64,
    /// Requests on one connection; then it is closed in an orderly way, so that load spreads again.
    pub requests_max: u64,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            head_bytes_max: limits::HEAD_BYTES_DEFAULT,
            fields_max: limits::FIELDS_DEFAULT,
            target_bytes_max: limits::TARGET_BYTES_DEFAULT,
            body_bytes_max: u64::MAX,
            requests_max: u64::MAX,
        }
    }
}

/// Times of an HTTP block, all about the client.
#[derive(Clone, Copy, Debug)]
pub struct HttpTimes {
    /// For the TLS handshake and PROXY header.
    pub handshake: Duration,
    /// For a complete head.
    pub head: Duration,
    /// Without a request on a kept connection.
    pub idle: Duration,
    /// Within which a body must make progress, in either direction.
    pub progress: Duration,
    /// Without a byte in a tunnel.
    pub tunnel: Duration,
}

impl Default for HttpTimes {
    fn default() -> Self {
        Self {
            handshake: limits::HANDSHAKE_TIME_DEFAULT,
            head: limits::HEAD_TIME_DEFAULT,
            idle: limits::IDLE_TIME_DEFAULT,
            progress: limits::PROGRESS_TIME_DEFAULT,
            tunnel: limits::TUNNEL_TIME_DEFAULT,
        }
    }
}

/// What a route leads to, with its field rules.
#[derive(Clone, Debug)]
pub struct Route {
    /// What to do.
    pub action: Action,
    /// Changes to the request's fields before it goes to a server.
    pub request: FieldRules,
    /// Changes to the answer's fields before it goes to the client. An exchange keeps them across a reload.
    pub response: Arc<FieldRules>,
}

/// What a route leads to.
#[derive(Clone, Debug)]
pub enum Action {
    /// A server of this pool answers.
    Pool(PoolId),
    /// A redirect.
    Redirect(Redirect),
    /// A fixed answer.
    Answer(Answer),
}

/// A redirect.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// Where to.
    pub to: RedirectTo,
}

/// Where a redirect leads to.
#[derive(Clone, Debug)]
pub enum RedirectTo {
    /// The same host and target with `https`; a port other than 443 is written.
    Https(u16),
    /// This URL with the request's target (path and query) behind it.
    Prefix(String),
    /// Exactly this URL.
    Exact(String),
}

/// A fixed answer or error page.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The media type of the body.
    pub content_type: String,
    /// The body.
    pub body: Arc<[u8]>,
}

/// A `[tcp.NAME]` block.
#[derive(Clone, Debug)]
pub struct Tcp {
    /// Its name in the file.
    pub name: String,
    /// TLS with clients; `None` relays the bytes as they are.
    pub tls: Option<Arc<ServerTls>>,
    /// What there is to say about its certificates.
    pub certificates: Vec<Description>,
    /// Where connections go.
    pub pool: PoolId,
    /// A PROXY protocol header must come first, from one of these networks.
    pub accept_proxy: Option<Vec<IpNet>>,
    /// For the TLS handshake and PROXY header.
    pub handshake: Duration,
    /// Without a byte in either direction.
    pub idle: Duration,
}

/// A `[pool.NAME]` block.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Its name in the file.
    pub name: String,
    /// How a server is chosen.
    pub balance: Balance,
    /// Its servers, backups too, in the order of the file.
    pub servers: Vec<ServerId>,
    /// Who serves what follows from the servers' roles: without weight a server gets no reads, and writes all the same.
    pub by_role: bool,
    /// TLS to the servers.
    pub tls: Option<Arc<ClientTls>>,
    /// A PROXY protocol header is sent first.
    pub send_proxy: Option<ProxyVersion>,
    /// Times.
    pub times: PoolTimes,
    /// Attempts for one request, the first included.
    pub attempts_max: u32,
    /// Requests that may wait for a place.
    pub queue_max: usize,
    /// Unused connections kept per server and worker.
    pub idle_max: usize,
    /// Whether connections are kept and used again at all.
    pub keep_alive: bool,
    /// How its servers are watched.
    pub health: PoolHealth,
}

/// How the servers of a pool are watched, and what follows.
#[derive(Clone, Debug, Default)]
pub struct PoolHealth {
    /// Asked again and again whether they work; `None` asks nobody.
    pub check: Option<Check>,
    /// Which failures of requests make a server be left alone.
    pub eject: Eject,
    /// For so long a server that comes back gets less than its share; zero gives it all at once.
    pub slow_start: Duration,
}

/// How a server is asked whether it works.
#[derive(Clone, Debug)]
pub struct Check {
    /// What is asked.
    pub ask: Ask,
    /// How often.
    pub every: Duration,
    /// Within which the answer must be complete.
    pub timeout: Duration,
    /// Successes in a row until a server that is down is up.
    pub rise: u32,
    /// Failures in a row until a server that is up is down.
    pub fall: u32,
    /// Another port than that of the server.
    pub port: Option<u16>,
    /// TLS first.
    pub tls: Option<Arc<ClientTls>>,
}

/// What a check asks of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// That it takes connections.
    Tcp,
    /// That it completes a TLS handshake.
    Tls,
    /// That it greets as a MySQL or MariaDB server does.
    Mysql,
    /// That it answers an HTTP request.
    Http(AskHttp),
}

/// The request of an HTTP check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskHttp {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The `Host` field; `None` is the server's address as written.
    pub host: Option<String>,
    /// Statuses of a server that works.
    pub status: Vec<RangeInclusive<u16>>,
}

/// Which failures of requests make a server be left alone: as many in a row as these numbers say; 0 is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eject {
    /// Connections that were refused, came too late or failed in their TLS handshake.
    pub connect: u8,
    /// Fresh connections that were closed without a byte of an answer.
    pub closed: u8,
    /// Answers that did not begin in time.
    pub timeout: u8,
    /// Answers with a status of 500 and above.
    pub error: u8,
    /// How long it is left alone at first; each further failure doubles that.
    pub time: Duration,
}

impl Eject {
    /// Nobody is ever left alone.
    pub const NEVER: Self =
        Self { connect: 0, closed: 0, timeout: 0, error: 0, time: limits::EJECT_TIME_DEFAULT };
}

impl Default for Eject {
    fn default() -> Self {
        Self { connect: limits::EJECT_REFUSALS_DEFAULT, closed: limits::EJECT_CLOSES_DEFAULT, ..Self::NEVER }
    }
}

/// Times of a pool, all about servers.
#[derive(Clone, Copy, Debug)]
pub struct PoolTimes {
    /// For a connection to stand, TLS included.
    pub connect: Duration,
    /// For the first byte of an answer.
    pub first_byte: Duration,
    /// Within which an answer must make progress.
    pub progress: Duration,
    /// For which an unused connection is kept.
    pub idle: Duration,
    /// For which a request waits for a place.
    pub queue: Duration,
}

impl Default for PoolTimes {
    fn default() -> Self {
        Self {
            connect: limits::CONNECT_TIME_DEFAULT,
            first_byte: limits::FIRST_BYTE_TIME_DEFAULT,
            progress: limits::SERVER_PROGRESS_TIME_DEFAULT,
            idle: limits::SERVER_IDLE_TIME_DEFAULT,
            queue: limits::QUEUE_TIME_DEFAULT,
        }
    }
}

/// How a server is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// In turn, weighted and smooth, global over all workers.
    RoundRobin,
    /// The one with the fewest requests in flight in relation to its weight, exact over all workers.
    LeastConnections,
    /// By a consistent hash of the client's address.
    IpHash,
    /// The less loaded of two picked by chance.
    RandomTwo,
}

/// A server of a pool.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its name for people: `name`, or the address as written.
    pub name: String,
    /// Its pool.
    pub pool: PoolId,
    /// Where it is.
    pub address: Address,
    /// Host name or IP address as written, without port; empty for a Unix socket. Where the pool's TLS names no
    /// server, this is the name that the certificate must be for.
    pub host: String,
    /// Its share of the work, 1 to 1000; 0 gets nothing new.
    pub weight: u32,
    /// Used only when no other server of the pool can be.
    pub backup: bool,
    /// Requests (TCP: connections) in flight at most, over all workers; 0 is no limit.
    pub connections_max: u32,
    /// The name that `address` came from, to be resolved again when its time is over. Before the name was ever resolved,
    /// `address` is 0.0.0.0 and the server gets nothing.
    pub lookup: Option<Lookup>,
}

impl Server {
    /// False for a name that was never resolved.
    pub const fn is_found(&self) -> bool {
        match (&self.lookup, &self.address) {
            (Some(_), Address::Tcp(address)) => !address.ip().is_unspecified(),
            _ => true,
        }
    }

    /// Its name in the file. Those that stand for one name each have `@` and an address behind it.
    pub fn name_in_file(&self) -> &str {
        match self.name.rsplit_once('@') {
            Some((name, _)) if self.lookup.is_some() => name,
            _ => &self.name,
        }
    }
}

/// `[limits]`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of all pages of the process.
    pub memory_max: u64,
    /// Client connections in total.
    pub connections_max: usize,
    /// Client connections per client address; 0 is no limit.
    pub connections_per_client_max: u32,
    /// How long a drain waits.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_max: limits::MEMORY_DEFAULT,
            connections_max: limits::CONNECTIONS_DEFAULT,
            connections_per_client_max: 0,
            drain: limits::DRAIN_TIME_DEFAULT,
        }
    }
}

/// `[workers]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Workers {
    /// How many; `None` is one per core that the process may use.
    pub count: Option<usize>,
    /// Which kernel interface.
    pub engine: Engine,
}

/// Which kernel interface moves the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// io_uring where the host allows it, else epoll.
    #[default]
    Auto,
    /// io_uring or nothing.
    IoUring,
    /// epoll.
    Epoll,
}

/// `[process]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Who the process becomes when it was started as root: a name, or a number.
    pub user: Option<String>,
    /// Its group instead of the user's own: a name, or a number.
    pub group: Option<String>,
    /// Whether the process gives up what it does not need.
    pub sandbox: Sandbox,
}

/// Whether the process gives up what it does not need after its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// As far as the kernel lets it; what it does not is told.
    #[default]
    Auto,
    /// Wholly, or the process does not start.
    On,
    /// Not at all.
    Off,
}

/// Files and folders that the configuration names, besides listening sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Those that are read: certificates, keys, authorities, answers, error pages.
    pub read: Vec<PathBuf>,
    /// Those that are written.
    pub written: Vec<PathBuf>,
}

/// True when `ip` lies in one of the networks (an IPv4-mapped IPv6 address counts as IPv4).
pub fn contains(networks: &[IpNet], ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    networks.iter().any(|network| network.contains(&ip))
}
