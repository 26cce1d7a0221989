//! What is known of an exchange when it is over: the access record, from which metrics and the access log are made.
//!
//! What goes in: a session writes one for every request that it answered or failed, and for every connection that ended
//! otherwise than between requests. What comes out: plain values. It owns the part of the log's line that was known when
//! the request came. Always true: every request leaves exactly one record.

pub mod line;

use std::time::Duration;

use crate::clock::Moment;
use crate::close::Close;
use crate::ids::{HttpId, PoolId, ServerId, SqlId, TcpId};

/// Which block served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// An `[http]` block.
    Http(HttpId),
    /// A `[tcp]` block.
    Tcp(TcpId),
    /// An `[sql]` block.
    Sql(SqlId),
}

/// TLS with the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// None.
    None,
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// When the steps of an exchange happened; [`Moment::NEVER`] for those that did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// The first byte of the head (TCP: the connection) came.
    pub begun: Moment,
    /// The head was complete.
    pub asked: Moment,
    /// A server was picked for the last attempt.
    pub picked: Moment,
    /// The connection to it stood (at once for one that was kept).
    pub connected: Moment,
    /// The head of the answer was complete.
    pub answered: Moment,
    /// The last byte of the answer was handed to the kernel, or the exchange failed.
    pub ended: Moment,
}

impl Steps {
    /// None of them yet, but the first.
    pub const fn new(begun: Moment) -> Self {
        let never = Moment::NEVER;
        Self { begun, asked: never, picked: never, connected: never, answered: never, ended: never }
    }

    /// From one step to another; `None` unless both happened.
    pub const fn between(from: Moment, to: Moment) -> Option<Duration> {
        if from.is_set() && to.is_set() { Some(to.since(from)) } else { None }
    }
}

/// What became of a read's wait at a replica for what it must see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The replica had it in time.
    Reached,
    /// It did not.
    TimedOut,
    /// The replica's connection was lost meanwhile, or the client left.
    Lost,
}

impl Wait {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Reached, Self::TimedOut, Self::Lost];

    /// The word for metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Reached => "reached",
            Self::TimedOut => "timed_out",
            Self::Lost => "lost",
        }
    }
}

/// What splitting reads from writes did with an SQL statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// What kept its session on its connections when it came: a bit for each pin.
    pub pins: u16,
    /// A replica's fence held it back.
    pub fenced: bool,
    /// It waited at a replica.
    pub wait: Option<Wait>,
}

/// An exchange that is over.
#[derive(Debug)]
pub struct Access {
    /// Who served it. The ids are those of the configuration that the session lives by.
    pub block: Block,
    /// The route within the block.
    pub route: Option<u32>,
    /// The pool.
    pub pool: Option<PoolId>,
    /// The server of the last attempt.
    pub server: Option<ServerId>,
    /// The status that the client got; 0 when it got none.
    pub status: u16,
    /// How it ended: `Done` for one that was answered.
    pub close: Close,
    /// Bytes of the request's head and body, or of the tunnel from the client.
    pub bytes_in: u64,
    /// Bytes of the answer's head and body, or of the tunnel to the client.
    pub bytes_out: u64,
    /// When what happened.
    pub steps: Steps,
    /// Attempts after the first.
    pub retries: u32,
    /// The server connection was kept from an earlier exchange.
    pub reused: bool,
    /// TLS with the client.
    pub tls: Tls,
    /// What was done with an SQL statement.
    pub split: Split,
    /// The part of the log's line that was known when the request came; empty when there is no line.
    pub line: Vec<u8>,
}
