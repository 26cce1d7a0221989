//! `[sql.NAME]` blocks: reads and writes split over a primary and its replicas.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::ids::PoolId;
use crate::limits;
use crate::mysql::auth::Password;
use crate::tls::ServerTls;
use crate::tls::certs::Description;

/// An `[sql.NAME]` block.
#[derive(Clone, Debug)]
pub struct Sql {
    /// Its name in the file.
    pub name: String,
    /// TLS that clients may switch to; `None`: it is not offered.
    pub tls: Option<Arc<ServerTls>>,
    /// What there is to say about its certificates.
    pub certificates: Vec<Description>,
    /// Its servers, as a pool that has no block of its own.
    pub pool: PoolId,
    /// Who looks after the servers.
    pub account: SqlAccount,
    /// Who may log in.
    pub users: SqlUsers,
    /// Where reads go.
    pub reads: Reads,
    /// What a read must have seen.
    pub consistency: Consistency,
    /// How long a client keeps its server connections.
    pub pooling: Pooling,
    /// A replica that is further behind gets nothing.
    pub lag_max: Duration,
    /// Clients may compress.
    pub compression: bool,
    /// A PROXY protocol header must come first, from one of these networks.
    pub accept_proxy: Option<Vec<IpNet>>,
    /// Times.
    pub times: SqlTimes,
}

/// An account at the servers.
#[derive(Clone, Debug)]
pub struct SqlAccount {
    /// Its name.
    pub user: String,
    /// Its password.
    pub password: Password,
}

/// Who may log in.
#[derive(Clone, Debug, Default)]
pub enum SqlUsers {
    /// Those whom the primary's own account table has.
    #[default]
    FromServer,
    /// These.
    Listed(Vec<SqlAccount>),
}

impl Default for SqlAccount {
    fn default() -> Self {
        Self { user: String::new(), password: Password::new(b"") }
    }
}

/// Where reads go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reads {
    /// To replicas, as far as nothing speaks against it.
    #[default]
    Replicas,
    /// To the primary, as everything else.
    Primary,
}

/// What a read must have seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// Nothing in particular.
    Eventual,
    /// What its own session has written.
    #[default]
    ReadYourWrites,
    /// What any session has written through this process.
    Global,
}

/// How long a client keeps its server connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// For its life. Then they are reset and kept for the next client of the same user.
    #[default]
    Session,
    /// For a statement or a transaction, unless something is left behind on them.
    Transaction,
}

/// Times of an `[sql.NAME]` block.
#[derive(Clone, Copy, Debug)]
pub struct SqlTimes {
    /// From the connection to the end of the login.
    pub handshake: Duration,
    /// Without a command.
    pub idle: Duration,
    /// Without a byte of an answer that has begun, or of a command.
    pub progress: Duration,
    /// For an answer to begin, or to go on; a statement may run for long.
    pub first_byte: Duration,
    /// A write waits so long for a primary.
    pub primary: Duration,
}

impl Default for SqlTimes {
    fn default() -> Self {
        Self {
            handshake: limits::HANDSHAKE_TIME_DEFAULT,
            idle: limits::SQL_IDLE_TIME_DEFAULT,
            progress: limits::PROGRESS_TIME_DEFAULT,
            first_byte: limits::SQL_ANSWER_TIME_DEFAULT,
            primary: limits::SQL_PRIMARY_TIME_DEFAULT,
        }
    }
}
