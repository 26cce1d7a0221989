//! One TLS connection: cipher bytes to plain bytes and back.
//!
//! What goes in: received pages, and plain pages to send. What comes out: the same pages, opened or sealed in place. It
//! owns a handshake while there is one, then the keys; and one page while a record is half received. Always true: after
//! an error every further call answers [`TlsError::Closed`], and the pages that were given are home or in `out`.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::{ProtocolVersion, ServerConfig, SupportedCipherSuite};

use super::client::ClientTls;
use super::handshake::{Handshake, Role};
use super::posthandshake::Traffic;
use super::records::{DATA, HEADER, PLAIN_BYTES_MAX};
use super::server::ServerTls;
use super::{TlsError, subject};
use crate::buf::{Chunk, Pool, Queue};
use crate::limits::{BODY_COPY_BYTES_MAX, PAGE_HEADROOM};

/// How far [`Pipe::encrypt`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Every plain byte was moved.
    Done,
    /// Plain bytes are left because `bytes_max` was reached.
    More,
    /// Plain bytes are left because the pool has no page; nothing is lost.
    Starved,
    /// The handshake is not over yet; nothing was moved.
    Handshaking,
}

enum State {
    /// A server that has not received a byte: costs nothing yet.
    Waiting(Arc<ServerConfig>),
    Handshaking(Box<Handshake>),
    Open(Box<Traffic>),
    Failed,
}

/// What the handshake has agreed on.
#[derive(Default)]
struct Facts {
    server_name: Option<Box<str>>,
    subject: Option<Box<str>>,
    alpn: Option<Box<str>>,
    resumed: bool,
    version: Option<ProtocolVersion>,
    suite: Option<SupportedCipherSuite>,
}

/// One TLS connection, of either role.
pub struct Pipe {
    state: State,
    facts: Facts,
    /// The start of a record that is not complete.
    partial: Option<Chunk>,
}

impl std::fmt::Debug for Pipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match self.state {
            State::Waiting(_) => "waiting",
            State::Handshaking(_) => "handshaking",
            State::Open(_) => "open",
            State::Failed => "failed",
        };
        f.debug_struct("Pipe").field("state", &state).finish_non_exhaustive()
    }
}

impl Pipe {
    /// The server's side of a connection. Allocates nothing until bytes come.
    pub fn accept(tls: &ServerTls) -> Result<Self, TlsError> {
        Ok(Self::in_state(State::Waiting(tls.config())))
    }

    /// The client's side of a connection. `fallback_name` (the host of the server's address, a name or an IP address)
    /// is what the server must prove to be when no `server_name` is configured.
    pub fn connect(tls: &ClientTls, fallback_name: &str) -> Result<Self, TlsError> {
        let connection = UnbufferedClientConnection::new(tls.config(), tls.name(fallback_name)?)?;
        Ok(Self::in_state(State::Handshaking(Box::new(Handshake::new(Role::Client(connection))))))
    }

    fn in_state(state: State) -> Self {
        Self { state, facts: Facts::default(), partial: None }
    }

    /// Writes the client's first flight into `out`. To be called once; a server writes nothing.
    pub fn start(&mut self, out: &mut Queue, pool: &mut Pool) -> Result<(), TlsError> {
        match &mut self.state {
            State::Handshaking(handshake) => {
                let started = handshake.start(out, pool);
                self.settle(started, out, pool)
            }
            _ => Ok(()),
        }
    }

    /// Takes received bytes. Data goes to `plain`, in the page it came in; what has to be answered goes to `out`. After
    /// an error send what is in `out` (it may be an alert), then close. Bytes after the other side's end are dropped.
    pub fn received(
        &mut self,
        chunk: Chunk,
        plain: &mut Queue,
        out: &mut Queue,
        pool: &mut Pool,
    ) -> Result<(), TlsError> {
        let mut chunk = chunk;
        let shaken = self.shake(&mut chunk, out, pool);
        let result = match (&mut self.state, shaken) {
            (_, Err(error)) => Err(error),
            (State::Open(traffic), Ok(())) if !traffic.peer_closed && !chunk.is_empty() => {
                let opened = open_chunk(traffic, &mut self.partial, chunk, plain, out, pool);
                if opened.is_ok() && traffic.peer_closed {
                    self.clear(pool);
                }
                return self.settle(opened, out, pool);
            }
            (State::Failed, Ok(())) => Err(TlsError::Closed),
            _ => Ok(()),
        };
        pool.give(chunk.into_page());
        self.settle(result, out, pool)
    }

    /// Gives the front of the chunk to the handshake, if there is one.
    fn shake(&mut self, chunk: &mut Chunk, out: &mut Queue, pool: &mut Pool) -> Result<(), TlsError> {
        if let State::Waiting(config) = &self.state {
            let connection = UnbufferedServerConnection::new(Arc::clone(config))?;
            self.state = State::Handshaking(Box::new(Handshake::new(Role::Server(connection))));
        }
        let State::Handshaking(handshake) = &mut self.state else { return Ok(()) };
        if !handshake.received(chunk, out, pool)? {
            return Ok(());
        }
        let State::Handshaking(handshake) = std::mem::replace(&mut self.state, State::Failed) else {
            return Err(TlsError::Internal);
        };
        self.facts = facts_of(&handshake);
        let suite = self.facts.suite.ok_or(TlsError::Internal)?;
        let (secrets, kernel) = handshake.finish()?;
        self.state = State::Open(Box::new(Traffic::new(&secrets, suite, kernel)?));
        Ok(())
    }

    /// An error ends the connection: the alert goes out and the keys go away.
    fn settle(
        &mut self,
        result: Result<(), TlsError>,
        out: &mut Queue,
        pool: &mut Pool,
    ) -> Result<(), TlsError> {
        if let Err(error) = result {
            if let (State::Open(traffic), Some(alert)) = (&mut self.state, error.alert()) {
                traffic.alert(alert, out, pool);
            }
            self.state = State::Failed;
            self.clear(pool);
        }
        result
    }

    /// Moves bytes from `plain` to `out` as records, until `bytes_max` plain bytes were moved (the first record is
    /// moved whole even when it is longer). A page is sealed where it is; small neighbours share a record.
    pub fn encrypt(
        &mut self,
        plain: &mut Queue,
        out: &mut Queue,
        bytes_max: usize,
        pool: &mut Pool,
    ) -> Result<Progress, TlsError> {
        let result = match &mut self.state {
            State::Waiting(_) | State::Handshaking(_) => return Ok(Progress::Handshaking),
            State::Failed => return Err(TlsError::Closed),
            State::Open(traffic) if traffic.closed => return Err(TlsError::Closed),
            State::Open(traffic) => seal_queue(traffic, plain, out, bytes_max, pool),
        };
        match result {
            Err(TlsError::Starved) => Ok(Progress::Starved),
            Err(error) => self.settle(Err(error), out, pool).map(|()| Progress::Done),
            Ok(progress) => Ok(progress),
        }
    }

    /// Tells the other side that nothing more will be sent. Nothing happens when that was said before, or while the
    /// handshake lasts.
    pub fn close_notify(&mut self, out: &mut Queue, pool: &mut Pool) -> Result<(), TlsError> {
        match &mut self.state {
            State::Open(traffic) => traffic.close_notify(out, pool),
            _ => Ok(()),
        }
    }

    /// True until both sides have finished the handshake.
    pub const fn is_handshaking(&self) -> bool {
        matches!(self.state, State::Waiting(_) | State::Handshaking(_))
    }

    /// True when the other side has said that it sends nothing more (close_notify). The end of its byte stream without
    /// this is a truncation.
    pub fn peer_closed(&self) -> bool {
        matches!(&self.state, State::Open(traffic) if traffic.peer_closed)
    }

    /// The name that the client asked for (SNI), in lower case.
    pub fn server_name(&self) -> Option<&str> {
        self.facts.server_name.as_deref()
    }

    /// True when an earlier session was resumed.
    pub const fn resumed(&self) -> bool {
        self.facts.resumed
    }

    /// The subject of the client's certificate, as RFC 4514 writes it.
    pub fn subject(&self) -> Option<&str> {
        self.facts.subject.as_deref()
    }

    /// The application protocol agreed on (ALPN).
    pub fn alpn(&self) -> Option<&str> {
        self.facts.alpn.as_deref()
    }

    /// The protocol version, as OpenSSL writes it; empty before the handshake is over.
    pub const fn version(&self) -> &'static str {
        match self.facts.version {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "",
        }
    }

    /// The cipher suite's name in the registry of IANA; empty before the handshake is over.
    pub fn cipher(&self) -> &'static str {
        self.facts.suite.and_then(|suite| suite.suite().as_str()).unwrap_or("")
    }

    /// Pages held inside: 1 while a record is half received after the handshake, else 0.
    pub const fn pages(&self) -> usize {
        self.partial.is_some() as usize
    }

    /// Gives the pages back that are held inside.
    pub fn clear(&mut self, pool: &mut Pool) {
        if let Some(partial) = self.partial.take() {
            pool.give(partial.into_page());
        }
    }

    /// Pretends that the keys have sealed, and opened, this many records.
    #[cfg(test)]
    pub(super) fn set_numbers(&mut self, sealed: Option<u64>, opened: Option<u64>) {
        let State::Open(traffic) = &mut self.state else { return };
        if let Some(sealed) = sealed {
            traffic.seal.set_number(sealed);
        }
        if let Some(opened) = opened {
            traffic.open.set_number(opened);
        }
    }

    /// How many records the keys have sealed.
    #[cfg(test)]
    pub(super) fn records_sealed(&self) -> u64 {
        if let State::Open(traffic) = &self.state { traffic.seal.number() } else { 0 }
    }

    /// Sends a record of any kind.
    #[cfg(test)]
    pub(super) fn seal_raw(&mut self, kind: u8, content: &[u8], padding: usize) -> Vec<u8> {
        let State::Open(traffic) = &mut self.state else { return Vec::new() };
        let layout = traffic.seal.layout();
        let mut record = vec![0; layout.front()];
        record.extend_from_slice(content);
        if padding > 0 {
            record.push(kind);
            record.resize(record.len() + padding - 1, 0);
        }
        record.resize(record.len() + layout.back(), 0);
        let outer = if padding > 0 { 0 } else { kind };
        traffic.seal.seal(outer, &mut record).unwrap();
        record
    }

    /// Announces and uses new keys, and may ask the other side for new ones.
    #[cfg(test)]
    pub(super) fn update_keys(&mut self, out: &mut Queue, pool: &mut Pool) {
        if let State::Open(traffic) = &mut self.state {
            traffic.update_keys(out, pool).unwrap();
        }
    }
}

fn facts_of(handshake: &Handshake) -> Facts {
    let agreed = handshake.agreed();
    Facts {
        server_name: handshake.server_name().map(Into::into),
        subject: handshake.client_certificate().and_then(|der| subject::of_certificate(der)).map(Into::into),
        alpn: agreed.alpn_protocol().and_then(|name| std::str::from_utf8(name).ok()).map(Into::into),
        resumed: handshake.resumed(),
        version: agreed.protocol_version(),
        suite: agreed.negotiated_cipher_suite(),
    }
}

/// Opens the records of a received chunk; gives the page on, keeps it, or sends it home.
fn open_chunk(
    traffic: &mut Traffic,
    partial: &mut Option<Chunk>,
    chunk: Chunk,
    plain: &mut Queue,
    out: &mut Queue,
    pool: &mut Pool,
) -> Result<(), TlsError> {
    let mut chunk = chunk;
    if let Some(started) = partial.take() {
        if chunk.prepend(started.bytes()) {
            // A few bytes of a record: cheaper to put them before the rest than the rest behind them.
            pool.give(started.into_page());
        } else if let Err(error) = open_started(traffic, partial, started, &mut chunk, plain, out, pool) {
            pool.give(chunk.into_page());
            return Err(error);
        }
    }
    if chunk.is_empty() {
        pool.give(chunk.into_page());
        return Ok(());
    }
    match open_records(traffic, &mut chunk, out, pool) {
        Ok(opened) => keep_rest(traffic, partial, chunk, &opened, plain, pool),
        Err(error) => {
            pool.give(chunk.into_page());
            Err(error)
        }
    }
}

/// What [`open_records`] found in a chunk, as positions in it.
struct Opened {
    data_from: usize,
    data_to: usize,
    /// Where the record starts that is not complete.
    rest_from: usize,
}

/// Opens every complete record of the chunk and moves their data together.
fn open_records(
    traffic: &mut Traffic,
    chunk: &mut Chunk,
    out: &mut Queue,
    pool: &mut Pool,
) -> Result<Opened, TlsError> {
    let bytes = chunk.bytes_mut();
    let mut opened = Opened { data_from: 0, data_to: 0, rest_from: 0 };
    while !traffic.peer_closed {
        let from = opened.rest_from;
        let Some(len) = traffic.open.record_len(&bytes[from..])? else { break };
        let Some(record) = bytes.get_mut(from..from + len) else { break };
        let (kind, data) = traffic.open.open(record)?;
        opened.rest_from += len;
        if kind != DATA {
            traffic.on_record(kind, &record[data], out, pool)?;
            continue;
        }
        traffic.on_data(data.len())?;
        let (data_from, data_to) = (from + data.start, from + data.end);
        if opened.data_to == opened.data_from {
            (opened.data_from, opened.data_to) = (data_from, data_to);
        } else {
            bytes.copy_within(data_from..data_to, opened.data_to);
            opened.data_to += data.len();
        }
    }
    Ok(opened)
}

/// Gives the data on and keeps the record that is not complete.
fn keep_rest(
    traffic: &Traffic,
    partial: &mut Option<Chunk>,
    chunk: Chunk,
    opened: &Opened,
    plain: &mut Queue,
    pool: &mut Pool,
) -> Result<(), TlsError> {
    let mut chunk = chunk;
    let rest_len = if traffic.peer_closed { 0 } else { chunk.len() - opened.rest_from };
    if rest_len > 0 && opened.data_from == opened.data_to {
        chunk.advance(opened.rest_from);
        *partial = Some(chunk);
        return Ok(());
    }
    if rest_len > 0 {
        let Some(page) = pool.take_last() else {
            pool.give(chunk.into_page());
            return Err(TlsError::Starved);
        };
        let mut rest = Chunk::empty(page);
        rest.append(&chunk.bytes()[opened.rest_from..]);
        *partial = Some(rest);
    }
    chunk.truncate(opened.data_to);
    chunk.advance(opened.data_from);
    plain.push(chunk, pool);
    Ok(())
}

/// Completes a started record from the front of `chunk` and opens it; keeps it when the chunk is too short.
fn open_started(
    traffic: &mut Traffic,
    partial: &mut Option<Chunk>,
    started: Chunk,
    chunk: &mut Chunk,
    plain: &mut Queue,
    out: &mut Queue,
    pool: &mut Pool,
) -> Result<(), TlsError> {
    let mut started = started;
    let missing = loop {
        let missing = match traffic.open.record_len(started.bytes()) {
            Ok(Some(len)) => len - started.len(),
            Ok(None) => HEADER - started.len(),
            Err(error) => {
                pool.give(started.into_page());
                return Err(error);
            }
        };
        if missing == 0 || chunk.is_empty() {
            break missing;
        }
        if started.tailroom() < missing {
            started = to_front(started);
        }
        let count = missing.min(chunk.len());
        started.append(&chunk.bytes()[..count]);
        chunk.advance(count);
    };
    if missing > 0 {
        *partial = Some(started);
        return Ok(());
    }
    let opened = open_records(traffic, &mut started, out, pool);
    let data = opened.as_ref().map_or(0..0, |opened| opened.data_from..opened.data_to);
    started.truncate(data.end);
    started.advance(data.start);
    plain.push(started, pool);
    opened.map(|_| ())
}

/// Seals chunks from the front of `plain` until it is empty or enough was moved.
fn seal_queue(
    traffic: &mut Traffic,
    plain: &mut Queue,
    out: &mut Queue,
    bytes_max: usize,
    pool: &mut Pool,
) -> Result<Progress, TlsError> {
    let mut moved = 0;
    while let Some(first) = plain.front() {
        let next_len = first.len().min(PLAIN_BYTES_MAX);
        if moved >= bytes_max || (moved > 0 && moved + next_len > bytes_max) {
            return Ok(Progress::More);
        }
        traffic.renew_if_due(out, pool)?;
        let Some(chunk) = plain.pop() else { break };
        let (front, back) = (traffic.seal.layout().front(), traffic.seal.layout().back());
        let mut chunk = fitted(chunk, front, back, plain, pool)?;
        gather(&mut chunk, back, bytes_max - moved, plain, pool);
        moved += chunk.len();
        chunk = grown(chunk, front, back);
        let sealed = traffic.seal.seal(DATA, chunk.bytes_mut());
        out.push(chunk, pool);
        sealed?;
    }
    Ok(Progress::Done)
}

/// Makes sure that a chunk fits a record and has room around it. What does not fit goes back to the front of `plain`.
fn fitted(
    chunk: Chunk,
    front: usize,
    back: usize,
    plain: &mut Queue,
    pool: &mut Pool,
) -> Result<Chunk, TlsError> {
    let mut chunk = chunk;
    if chunk.headroom() >= front && chunk.tailroom() >= back && chunk.len() <= PLAIN_BYTES_MAX {
        return Ok(chunk);
    }
    if chunk.len() > PLAIN_BYTES_MAX {
        let Some(page) = pool.take() else {
            plain.push_front(chunk, pool);
            return Err(TlsError::Starved);
        };
        let mut rest = Chunk::empty(page);
        rest.append(&chunk.bytes()[PLAIN_BYTES_MAX..]);
        chunk.truncate(PLAIN_BYTES_MAX);
        plain.push_front(rest, pool);
    }
    if chunk.headroom() < front || chunk.tailroom() < back {
        chunk = to_front(chunk);
    }
    Ok(chunk)
}

/// Moves the bytes to where a received chunk starts, so that there is room on both sides.
fn to_front(chunk: Chunk) -> Chunk {
    let (from, len) = (chunk.headroom(), chunk.len());
    let mut page = chunk.into_page();
    page.bytes_mut().copy_within(from..from + len, PAGE_HEADROOM);
    Chunk::new(page, PAGE_HEADROOM, PAGE_HEADROOM + len)
}

/// Extends the range of a chunk to both sides.
fn grown(chunk: Chunk, front: usize, back: usize) -> Chunk {
    let (from, len) = (chunk.headroom(), chunk.len());
    Chunk::new(chunk.into_page(), from - front, from + len + back)
}

/// Copies the chunks that follow behind this one as long as they are small and fit the same record.
fn gather(chunk: &mut Chunk, back: usize, bytes_max: usize, plain: &mut Queue, pool: &mut Pool) {
    while let Some(next) = plain.front() {
        let len = chunk.len() + next.len();
        let fits = len <= PLAIN_BYTES_MAX.min(bytes_max) && next.len() + back <= chunk.tailroom();
        if !fits || next.len() > BODY_COPY_BYTES_MAX {
            return;
        }
        let Some(next) = plain.pop() else { return };
        chunk.append(next.bytes());
        pool.give(next.into_page());
    }
}
