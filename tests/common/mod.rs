//! What the black-box tests share: real programs started on loopback with folders of their own, and ended again.
//!
//! Every test process has a loopback address of its own (derived from its process id), so that tests may run side by
//! side without stepping on each other's ports. Everything started here is ended by a drop guard, by its process id.
//! A program that is not installed is a failure that says how to install it, never a silent skip; a
//! MySQL 9 and drivers that are no Debian packages are skipped with a word about it.

#![allow(dead_code, unused_macros, unused_imports, clippy::unwrap_used, clippy::expect_used)]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

pub mod browser;
pub mod certs;
pub mod curl;
pub mod mariadb;
pub mod mysql9;
pub mod nginx;
pub mod ringgate;
pub mod running;
pub mod server;
pub mod wire;

pub use browser::Browser;
pub use certs::Authority;
pub use curl::{Reply, curl, curl_text};
pub use mariadb::{MariaDb, PASSWORD, Replication};
pub use mysql9::{MySql, MySqlReplication};
pub use nginx::Nginx;
pub use ringgate::{Ringgate, site};
pub use running::Running;
pub use server::Server;
pub use wire::{Message, Wire};

/// How long a test waits for anything before it fails. It says nothing about speed.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Which of the two kernels interfaces a ringgate of the test uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    IoUring,
    Epoll,
}

impl Engine {
    /// As on the command line.
    pub fn flag(self) -> &'static str {
        match self {
            Engine::IoUring => "io_uring",
            Engine::Epoll => "epoll",
        }
    }
}

/// Makes two tests of one body: `NAME::io_uring` and `NAME::epoll`.
#[macro_export]
macro_rules! both_engines {
    ($($(#[$about:meta])* fn $name:ident($engine:ident) $body:block)*) => {
        $(
            $(#[$about])*
            mod $name {
                #[allow(unused_imports)]
                use super::*;

                fn on($engine: $crate::common::Engine) $body

                #[test]
                fn io_uring() {
                    on($crate::common::Engine::IoUring);
                }

                #[test]
                fn epoll() {
                    on($crate::common::Engine::Epoll);
                }
            }
        )*
    };
}

/// Reads the clock.
#[allow(clippy::disallowed_methods)]
pub fn now() -> Instant {
    Instant::now()
}

/// Asks until there is an answer; fails after [`PATIENCE`].
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The loopback address of this test process.
pub fn host() -> Ipv4Addr {
    let [_, a, b, c] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 + (a & 63), b, c)
}

/// An address on which nobody listens. Its port lies below those that the kernel gives to connections.
pub fn address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    loop {
        let address = SocketAddr::from((host(), NEXT.fetch_add(1, Ordering::Relaxed)));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// The same with a port that no other test uses: who listens on all addresses would be in their way, and they in his.
pub fn lone_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let own = (std::process::id() % 2000) as u16 * 5 + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + own % 10_000;
        if TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).is_ok() {
            return SocketAddr::from((host(), port));
        }
    }
}

/// The path of an installed program; a missing one is a failure.
#[track_caller]
pub fn program(name: &str, package: &str) -> PathBuf {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/sbin", "/usr/local/sbin", "/sbin"]);
    for folder in folders {
        let file = PathBuf::from(folder).join(name);
        if file.is_file() {
            return file;
        }
    }
    panic!(
        "this test needs the program `{name}`: install it with `apt-get install {package}`, or run tests/run"
    );
}

/// Bytes that look like nothing in particular and are the same in every run.
pub fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    noise.truncate(bytes);
    noise
}

/// Whether somebody listens on this TCP address, as the kernel's table says (no connection is made).
pub fn is_listening(address: SocketAddr) -> bool {
    let SocketAddr::V4(address) = address else { panic!("tests listen on IPv4 loopback") };
    let octets = address.ip().octets();
    let local = format!("{:08X}:{:04X}", u32::from_le_bytes(octets), address.port());
    let any = format!("00000000:{:04X}", address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().skip(1).any(|line| {
        let mut words = line.split_whitespace().skip(1);
        let at = words.next().unwrap_or_default();
        (at == local || at == any) && words.nth(1) == Some("0A")
    })
}

/// A data folder of this name that `make` fills once for all tests, in the target folder.
pub fn made_once(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let made = root.join(name);
    if made.is_dir() {
        return made;
    }
    std::fs::create_dir_all(root).unwrap();
    let making = tempfile::TempDir::new_in(root).unwrap();
    std::fs::set_permissions(making.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let data = making.path().join("data");
    make(&data);
    // Another test may have been quicker.
    if std::fs::rename(&data, &made).is_err() {
        assert!(made.is_dir(), "no data folder at {}", made.display());
    }
    made
}
