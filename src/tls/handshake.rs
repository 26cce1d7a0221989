//! The handshake: rustls is fed one record at a time and says what to send.
//!
//! What goes in: cipher bytes, until the handshake is over; bytes behind that stay with the caller, so that rustls
//! never opens application data. What comes out: flights for the other side, and at the end the keys and facts of
//! the connection. It owns the rustls connection and the bytes of the record (or the message over several records)
//! that is not complete. Always true: all of this is freed when the handshake is over or has failed.

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::pki_types::CertificateDer;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{CommonState, ExtractedSecrets, HandshakeKind};

use super::records::{ALERT, HANDSHAKE, HEADER, PLAIN_BYTES_MAX};
use super::{TlsError, names};
use crate::buf::{Chunk, Pool, Queue};

/// Bytes of a whole handshake from the other side. rustls allows 64 KiB for one message.
const HANDSHAKE_BYTES_MAX: usize = 128 * 1024;
/// Bytes of a protected record behind its header (RFC 5246 section 6.2.3).
const BODY_BYTES_MAX: usize = PLAIN_BYTES_MAX + 2048;

/// One of the two roles.
pub(super) enum Role {
    /// We are the server.
    Server(UnbufferedServerConnection),
    /// We are the client.
    Client(UnbufferedClientConnection),
}

/// What rustls keeps for a connection after the handshake: secrets for key updates, and tickets of servers.
pub(super) enum Kernel {
    /// We are the server.
    Server(Box<KernelConnection<ServerConnectionData>>),
    /// We are the client.
    Client(Box<KernelConnection<ClientConnectionData>>),
}

/// What rustls wants next.
enum Next {
    Again,
    Bytes,
    Finished,
}

/// A handshake in progress.
pub(super) struct Handshake {
    role: Role,
    /// The start of a record or message that is not complete.
    held: Vec<u8>,
    /// How much of `held` rustls has seen.
    seen: usize,
    received: usize,
    server_name: Option<Box<str>>,
}

impl Handshake {
    pub(super) const fn new(role: Role) -> Self {
        Self { role, held: Vec::new(), seen: 0, received: 0, server_name: None }
    }

    /// What the handshake has agreed on so far.
    pub(super) fn agreed(&self) -> &CommonState {
        match &self.role {
            Role::Server(connection) => connection,
            Role::Client(connection) => connection,
        }
    }

    /// The name that the client asked for.
    pub(super) fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// The client's certificate, when one was asked for and sent.
    pub(super) fn client_certificate(&self) -> Option<&CertificateDer<'static>> {
        match &self.role {
            Role::Server(connection) => connection.peer_certificates().and_then(<[_]>::first),
            Role::Client(_) => None,
        }
    }

    /// True when a session was resumed.
    pub(super) fn resumed(&self) -> bool {
        self.agreed().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Writes the first flight of a client; a server has nothing to say yet.
    pub(super) fn start(&mut self, out: &mut Queue, pool: &mut Pool) -> Result<(), TlsError> {
        self.turn(out, pool).map(|_| ())
    }

    /// Takes bytes from the front of `chunk`. True when the handshake is over; the rest of the chunk is application
    /// data then. On an error an alert was put into `out` if one is due.
    pub(super) fn received(
        &mut self,
        chunk: &mut Chunk,
        out: &mut Queue,
        pool: &mut Pool,
    ) -> Result<bool, TlsError> {
        while !chunk.is_empty() {
            let wanted = self.wanted(chunk)?;
            let count = wanted.min(chunk.len());
            self.held.extend_from_slice(&chunk.bytes()[..count]);
            self.received += count;
            chunk.advance(count);
            if self.received > HANDSHAKE_BYTES_MAX {
                return Err(TlsError::Flood);
            }
            if count < wanted || self.record_bytes_missing() > 0 {
                continue;
            }
            self.seen = self.held.len();
            if self.turn(out, pool)? {
                // Something behind the last message of the handshake, in the same record.
                return if self.held.is_empty() { Ok(true) } else { Err(TlsError::Unexpected) };
            }
        }
        Ok(false)
    }

    /// How many bytes to take next: the rest of a header, or the rest of a record.
    fn wanted(&self, chunk: &Chunk) -> Result<usize, TlsError> {
        let first = self.held.first().or_else(|| chunk.bytes().first());
        let second = if self.held.is_empty() { chunk.bytes().get(1) } else { self.held.get(1) };
        if self.received <= HEADER {
            let kind_fits = first.is_none_or(|&kind| kind == HANDSHAKE || kind == ALERT);
            if !kind_fits || second.is_some_and(|&version| version != 3) {
                return Err(TlsError::NotTls);
            }
        }
        Ok(self.record_bytes_missing())
    }

    /// Bytes that are missing to the header or, behind that, to the record; 0 when the record is complete, or when it
    /// is so long that rustls should see its header and refuse it.
    fn record_bytes_missing(&self) -> usize {
        let held = self.held.get(self.seen..).unwrap_or_default();
        match *held {
            [_, _, _, high, low, ..] => {
                let len = usize::from(u16::from_be_bytes([high, low]));
                if len > BODY_BYTES_MAX { 0 } else { (HEADER + len).saturating_sub(held.len()) }
            }
            _ => HEADER - held.len(),
        }
    }

    /// Lets rustls work until it wants bytes (false) or is finished (true).
    fn turn(&mut self, out: &mut Queue, pool: &mut Pool) -> Result<bool, TlsError> {
        let mut flight = None;
        let result = loop {
            match self.step(&mut flight, out, pool) {
                Ok(Next::Again) => {}
                Ok(Next::Bytes) => break Ok(false),
                Ok(Next::Finished) => break Ok(!self.agreed().is_handshaking()),
                Err(error) => break Err(error),
            }
        };
        // After an error rustls must not see the bytes again: it panics when it looks for a message that it has
        // half read. While it has something to send (its alert), it looks at no bytes.
        while result.is_err() && self.agreed().wants_write() {
            if self.step(&mut flight, out, pool).is_err() {
                break;
            }
        }
        if let Some(flight) = flight {
            out.push(flight, pool);
        }
        result
    }

    fn step(
        &mut self,
        flight: &mut Option<Chunk>,
        out: &mut Queue,
        pool: &mut Pool,
    ) -> Result<Next, TlsError> {
        let held = &mut self.held[..];
        let (used, next) = match &mut self.role {
            Role::Server(connection) => on_state(connection.process_tls_records(held), flight, out, pool),
            Role::Client(connection) => on_state(connection.process_tls_records(held), flight, out, pool),
        };
        if let Some(name) = names::take_asked() {
            self.server_name = Some(name);
        }
        self.held.drain(..used);
        self.seen = self.seen.saturating_sub(used);
        next
    }

    /// Ends the handshake: hands out the keys.
    pub(super) fn finish(self) -> Result<(ExtractedSecrets, Kernel), TlsError> {
        match self.role {
            Role::Server(connection) => {
                let (secrets, kernel) = connection.dangerous_into_kernel_connection()?;
                Ok((secrets, Kernel::Server(Box::new(kernel))))
            }
            Role::Client(connection) => {
                let (secrets, kernel) = connection.dangerous_into_kernel_connection()?;
                Ok((secrets, Kernel::Client(Box::new(kernel))))
            }
        }
    }
}

/// Handles one state of rustls: how many bytes it has used, and what is next.
fn on_state<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    flight: &mut Option<Chunk>,
    out: &mut Queue,
    pool: &mut Pool,
) -> (usize, Result<Next, TlsError>) {
    let next = match status.state {
        Err(error) => Err(error.into()),
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            write_flight(flight, out, pool, |room| data.encode(room)).map(|()| Next::Again)
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Next::Again)
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(Next::Bytes),
        Ok(ConnectionState::WriteTraffic(_)) => Ok(Next::Finished),
        // Application data is never shown to rustls, and a close in the middle of a handshake is an error.
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Err(TlsError::Closed),
        Ok(_) => Err(TlsError::Unexpected),
    };
    (status.discard, next)
}

/// Writes one piece of a flight behind the others, or into a new page when it does not fit.
fn write_flight(
    flight: &mut Option<Chunk>,
    out: &mut Queue,
    pool: &mut Pool,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), TlsError> {
    if let Some(chunk) = flight
        && let Ok(count) = encode(chunk.tail_mut())
    {
        chunk.filled(count);
        return Ok(());
    }
    let mut chunk = Chunk::empty(pool.take_last().ok_or(TlsError::Starved)?);
    let written = encode(chunk.tail_mut());
    if let Ok(count) = written {
        chunk.filled(count);
    }
    if let Some(full) = flight.replace(chunk) {
        out.push(full, pool);
    }
    written.map(|_| ()).map_err(|_| TlsError::Internal)
}
