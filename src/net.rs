//! Addresses and errors of the network: nouns that configuration, sessions and the ring share.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where to listen or to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IPv4 or IPv6 address and port.
    Tcp(SocketAddr),
    /// A Unix stream socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An error number of the kernel (`errno`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// True when the process or the system may not open more files (EMFILE, ENFILE).
    pub const fn is_out_of_descriptors(self) -> bool {
        self.0 == 24 || self.0 == 23
    }

    /// True when a send failed after the other end had ended its side in order (EPIPE): what it sent is whole.
    pub const fn is_broken_pipe(self) -> bool {
        self.0 == 32
    }
}

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

/// Both ends of an accepted connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The client's address; `None` for a Unix socket.
    pub client: Option<SocketAddr>,
    /// The address that the client connected to; `None` for a Unix socket.
    pub local: Option<SocketAddr>,
}
