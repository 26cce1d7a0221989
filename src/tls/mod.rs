//! TLS as a pipe: cipher bytes in, plain bytes out, and the reverse. No sockets, no clock of its own.
//!
//! What goes in: [`Chunk`](crate::buf::Chunk)s as they were received, and plain bytes to send. What comes out: plain
//! bytes in the same pages, and records for the other side. It owns: per connection a [`Pipe`] (no page while no
//! record is half received); per listener a [`ServerTls`] (certificates, ticket keys); per pool a [`ClientTls`].
//!
//! rustls makes the handshake. When it is done the connection's keys are taken over by `records.rs`, which opens and
//! seals records in place, and everything that only the handshake needed is freed; rustls stays the owner of the
//! secrets that key updates and tickets need (`rustls::kernel`). Measured against rustls doing the records too, buffered
//! and unbuffered (`benches/tls.rs`): 2.2 KiB instead of 7.8 and 3.7 per idle connection; 0.55 us instead of 0.83 and 1.07
//! for 200 bytes in and 200 out; 2.8 instead of 8.7 and 9.1 with 16 KiB out; 3 us more per handshake.
//!
//! Always true: no byte reaches the plain side before the handshake is finished and the record that carried it was
//! authenticated; early data (0-RTT) and renegotiation do not exist; records that carry no data are bounded.

pub mod certs;
mod chain;
mod client;
pub mod demo;
mod error;
mod handshake;
mod names;
mod pem;
mod pipe;
mod posthandshake;
mod records;
mod server;
mod subject;
mod tickets;

#[cfg(test)]
mod tests;

pub use client::{ClientOptions, ClientTls};
pub use error::TlsError;
pub use pipe::{Pipe, Progress};
pub use server::{ClientCertificate, ServerOptions, ServerTls, Version};

pub use certs::CertError;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

/// The wall clock for rustls (certificate validity, ticket age), read through `clock.rs`.
#[derive(Debug)]
struct WallClock;

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        let since = crate::clock::wall().duration_since(std::time::SystemTime::UNIX_EPOCH).ok()?;
        Some(UnixTime::since_unix_epoch(since))
    }
}

/// The cryptography of both sides, in our order of preference.
///
/// AES-128-GCM comes first: with AES instructions it seals faster than AES-256, and its SHA-256 key schedule is
/// much cheaper than the SHA-384 of AES-256 where the processor has SHA instructions.
/// Key exchange keeps the order of rustls: X25519MLKEM768, X25519, P-256, P-384.
fn provider() -> Arc<CryptoProvider> {
    use rustls::crypto::aws_lc_rs::cipher_suite as suite;
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            suite::TLS13_AES_128_GCM_SHA256,
            suite::TLS13_AES_256_GCM_SHA384,
            suite::TLS13_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ],
        ..rustls::crypto::aws_lc_rs::default_provider()
    })
}
