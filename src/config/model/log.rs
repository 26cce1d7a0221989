//! `[log]`: the access log.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::access::line::Format;
use crate::limits;

/// `[log]`: a line for every exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Where the lines go; `None` is nowhere.
    pub access: Option<LogTo>,
    /// How they are written.
    pub format: Format,
    /// A file is rotated at this size; 0 is never.
    pub rotate_size: u64,
    /// Old files that are kept.
    pub rotate_keep: u32,
}

impl Default for Log {
    fn default() -> Self {
        let (rotate_size, rotate_keep) = (limits::LOG_ROTATE_DEFAULT, limits::LOG_KEEP_DEFAULT);
        Self { access: None, format: Format::default(), rotate_size, rotate_keep }
    }
}

/// Where the lines of a log go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTo {
    /// Behind what a file holds.
    File(PathBuf),
    /// The standard output.
    Stdout,
    /// A datagram each, to a socket of this host.
    SyslogUnix(PathBuf),
    /// A datagram each, to a host.
    SyslogUdp(SocketAddr),
}
