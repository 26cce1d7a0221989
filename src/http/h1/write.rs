//! Writing heads: the request for a server, the response for a client, and answers of our own.
//!
//! A parsed view, what the session decided and the route's rules go in; bytes are copied into a slice of the caller.
//! Owns nothing and allocates nothing. Always true: what is written parses to what was meant; start lines, Host, framing
//! and everything about the connection are written from their meaning. A run of neighbouring lines is copied at
//! once only where the parser proved each to be, byte for byte, what would be written one by one. A writer answers
//! `None` when the slice is too short.

mod reason;
#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::http::message::{
    Field, Framing, Kind, KindSet, Request, Response, Version, is_alias, is_value_byte,
};
use crate::http::rules::{FieldRules, HOP_BY_HOP};
pub use reason::reason;

/// A field by its name, whatever the other side sent by that name: with this value, or not at all. Names and values must
/// be checked: see `rules::check_value`. A rule for the field goes first.
pub type Extra<'a> = (&'a str, Option<&'a str>);

/// What a request gains on its way to a server.
#[derive(Clone, Copy, Debug)]
pub struct Forward<'a> {
    /// The client's address as text, without port and brackets; empty when it has none (a Unix socket).
    pub client_text: &'a str,
    /// How the client reached us: `http` or `https`.
    pub proto: &'a str,
    /// The client is a trusted proxy: what it says about its own client is kept and appended to.
    pub trusted: bool,
    /// Whether `Forwarded` (RFC 7239) is written besides X-Forwarded-*.
    pub forwarded: bool,
    /// The field that carries the subject of the client's certificate, and the subject. The field is always removed
    /// from what the client sent.
    pub subject: Option<(&'a str, Option<&'a str>)>,
    /// The authority to name when an HTTP/1.0 request named none.
    pub host_default: &'a str,
    /// Whether the server is to keep its connection open.
    pub keep_alive: bool,
    /// Whether the upgrade that the request wants is forwarded.
    pub upgrade: bool,
    /// Fields that we say, or that are nobody else's business.
    pub extra: &'a [Extra<'a>],
}

/// What becomes of a client's connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// It stays open.
    KeepAlive,
    /// It is closed.
    Close,
    /// It becomes a tunnel.
    Upgrade,
}

/// How the body of an answer is framed for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutFraming {
    /// There is no body. An answer to HEAD, and a 304, keep the Content-Length that the server gave as information.
    None,
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// Until we close: for HTTP/1.0 clients, when the length is not known.
    UntilClose,
}

/// What a response gains on its way to a client.
#[derive(Clone, Copy, Debug)]
pub struct Relay<'a> {
    /// The client's version.
    pub version: Version,
    /// What becomes of the client's connection.
    pub connection: Connection,
    /// How the body is framed.
    pub framing: OutFraming,
    /// Now, as IMF-fixdate, for an answer without Date (RFC 9110, 6.6.1); `None` adds none.
    pub date: Option<&'a str>,
    /// Fields that we say.
    pub extra: &'a [Extra<'a>],
}

/// An answer of our own.
#[derive(Clone, Copy, Debug)]
pub struct OwnAnswer<'a> {
    /// The status.
    pub status: u16,
    /// The media type of the body; empty when there is none.
    pub content_type: &'a str,
    /// Bytes of the body. To HEAD the head is the same and the caller sends no body.
    pub body_len: u64,
    /// Further fields. Their names and values must be checked: see `rules::check_value`.
    pub fields: &'a [(&'a str, &'a str)],
    /// Now, as IMF-fixdate.
    pub date: &'a str,
    /// The client's version.
    pub version: Version,
    /// What becomes of the client's connection.
    pub connection: Connection,
}

/// Fields of a request that are written anew or dropped, whoever sent them. `Proxy` is no field, but CGI would make
/// `HTTP_PROXY` of it (CVE-2016-5385).
const REQUEST_DROPS: KindSet = HOP_BY_HOP.and(KindSet::of(&[
    Kind::Host,
    Kind::Expect,
    Kind::Proxy,
    Kind::XForwardedFor,
    Kind::Forwarded,
]));
/// What only a trusted proxy may say.
const TRUSTED_SAY: KindSet = KindSet::of(&[Kind::XForwardedProto, Kind::XForwardedHost]);

/// Writes the head of `request` for a server: always HTTP/1.1, in origin-form or `*`, Host first.
pub fn write_request(
    request: &Request,
    forward: &Forward,
    rules: &FieldRules,
    out: &mut [u8],
) -> Option<usize> {
    let mut out = Out { bytes: out, at: 0 };
    let mut drops = REQUEST_DROPS.and(rules.known());
    if !forward.trusted {
        drops = drops.and(TRUSTED_SAY);
    } else if !forward.forwarded && !rules.known().has(Kind::Forwarded) {
        drops = drops.without(KindSet::of(&[Kind::Forwarded]));
    }
    if request.framing != Framing::Chunked {
        drops = drops.with(Kind::Trailer);
    }
    let subject = forward.subject.map(|(name, _)| name);
    let (fields, run) = start_request(request, forward, rules, &mut out)?;
    out.lines(request.head, fields, run, |field| match field.kind {
        Kind::Other => {
            !rules.drops_other(field)
                && subject.is_none_or(|name| !is_alias(field.name, name.as_bytes()))
                && !is_extra(field, forward.extra)
        }
        kind => !drops.has(kind),
    })?;
    write_forwarded(request, forward, rules.known(), &mut out)?;
    if let Some((name, Some(subject))) = forward.subject {
        out.subject(name, subject)?;
    }
    out.extra(forward.extra, rules)?;
    out.put([rules.lines()])?;
    match request.framing {
        Framing::None => {}
        Framing::Length(length) => out.length(length)?,
        Framing::Chunked => out.put([b"Transfer-Encoding: chunked\r\n"])?,
    }
    if request.expect_continue {
        out.put([b"Expect: 100-continue\r\n"])?;
    }
    match request.upgrade {
        Some(protocol) if forward.upgrade => out.upgrade(protocol)?,
        _ if !forward.keep_alive => out.put([b"Connection: close\r\n"])?,
        _ => {}
    }
    out.put([b"\r\n"])?;
    Some(out.at)
}

/// The request line and Host. When both stand in the head as we would write them, they are not written but become the
/// beginning of the first run. Returns the fields that are left and that run.
fn start_request<'a>(
    request: &Request<'a>,
    forward: &Forward,
    rules: &FieldRules,
    out: &mut Out,
) -> Option<(&'a [Field<'a>], Range<usize>)> {
    if request.plain
        && rules.host().is_none()
        && let [host, rest @ ..] = request.fields
        && host.kind == Kind::Host
        && host.plain
    {
        return Some((rest, 0..host.to.into()));
    }
    let host = match rules.host() {
        Some(host) => host,
        None if request.host.is_empty() => forward.host_default,
        None => request.host,
    };
    let target = &request.target;
    out.put([
        request.method_text.as_bytes(),
        b" ",
        target.missing_slash().as_bytes(),
        target.path_and_query.as_bytes(),
        b" HTTP/1.1\r\nHost: ",
        host.as_bytes(),
        b"\r\n",
    ])?;
    Some((request.fields, 0..0))
}

/// X-Forwarded-For, -Proto, -Host and Forwarded, except those that a rule removes or sets.
fn write_forwarded(request: &Request, forward: &Forward, known: KindSet, out: &mut Out) -> Option<()> {
    let said = if forward.trusted { request.seen } else { KindSet::NONE };
    if !known.has(Kind::XForwardedFor) && (!forward.client_text.is_empty() || said.has(Kind::XForwardedFor)) {
        out.put([b"X-Forwarded-For: "])?;
        if said.has(Kind::XForwardedFor) {
            out.list(request.fields, Kind::XForwardedFor, !forward.client_text.is_empty())?;
        }
        out.put([forward.client_text.as_bytes(), b"\r\n"])?;
    }
    let known_or_said = known.and(said);
    if !known_or_said.has(Kind::XForwardedProto) {
        out.put([b"X-Forwarded-Proto: ", forward.proto.as_bytes(), b"\r\n"])?;
    }
    if !known_or_said.has(Kind::XForwardedHost) && !request.host.is_empty() {
        out.put([b"X-Forwarded-Host: ", request.host.as_bytes(), b"\r\n"])?;
    }
    if forward.forwarded && !known.has(Kind::Forwarded) {
        out.put([b"Forwarded: "])?;
        if said.has(Kind::Forwarded) {
            out.list(request.fields, Kind::Forwarded, true)?;
        }
        out.forwarded(request.host, forward)?;
    }
    Some(())
}

/// Writes the head of `response` for a client. The status line is always HTTP/1.1 (RFC 9110, 6.2: the version is that
/// of the sender, also towards HTTP/1.0 clients).
pub fn write_response(
    response: &Response,
    relay: &Relay,
    rules: &FieldRules,
    out: &mut [u8],
) -> Option<usize> {
    let mut out = Out { bytes: out, at: 0 };
    let mut drops = HOP_BY_HOP.and(rules.known());
    if relay.framing != OutFraming::Chunked {
        drops = drops.with(Kind::Trailer);
    }
    let run = if response.plain {
        0..STATUS_LINE_BYTES + response.reason.len()
    } else {
        out.status_line(response.status, response.reason)?;
        0..0
    };
    out.lines(response.head, response.fields, run, |field| match field.kind {
        Kind::Other => !rules.drops_other(field) && !is_extra(field, relay.extra),
        kind => !drops.has(kind),
    })?;
    if let Some(date) = relay.date
        && !response.seen.and(rules.known()).has(Kind::Date)
        && !response.is_interim()
    {
        out.put([b"Date: ", date.as_bytes(), b"\r\n"])?;
    }
    out.extra(relay.extra, rules)?;
    out.put([rules.lines()])?;
    match (relay.framing, response.content_length) {
        (OutFraming::Length(length), _) => out.length(length)?,
        (OutFraming::Chunked, _) => out.put([b"Transfer-Encoding: chunked\r\n"])?,
        // RFC 9110, 8.6: not in a 1xx or 204.
        (OutFraming::None, Some(length)) if !matches!(response.status, 100..=199 | 204) => {
            out.length(length)?
        }
        (OutFraming::None | OutFraming::UntilClose, _) => {}
    }
    match response.upgrade {
        Some(protocol) if relay.connection == Connection::Upgrade => out.upgrade(protocol)?,
        _ => out.connection(relay.connection, relay.version)?,
    }
    out.put([b"\r\n"])?;
    Some(out.at)
}

/// Writes the head of an answer of our own.
pub fn write_answer(answer: &OwnAnswer, out: &mut [u8]) -> Option<usize> {
    let mut out = Out { bytes: out, at: 0 };
    out.status_line(answer.status, reason(answer.status).as_bytes())?;
    out.put([b"Date: ", answer.date.as_bytes(), b"\r\n"])?;
    if !answer.content_type.is_empty() {
        out.put([b"Content-Type: ", answer.content_type.as_bytes(), b"\r\n"])?;
    }
    for (name, value) in answer.fields {
        out.put([name.as_bytes(), b": ", value.as_bytes(), b"\r\n"])?;
    }
    if !matches!(answer.status, 100..=199 | 204 | 304) {
        out.length(answer.body_len)?;
    }
    out.connection(answer.connection, answer.version)?;
    out.put([b"\r\n"])?;
    Some(out.at)
}

/// True for a field that one of `extra` replaces or removes.
#[inline]
fn is_extra(field: &Field, extra: &[Extra]) -> bool {
    extra.iter().any(|(name, _)| field.name.len() == name.len() && is_alias(field.name, name.as_bytes()))
}

/// Bytes of a status line without its reason: `HTTP/1.1 200  CRLF`.
const STATUS_LINE_BYTES: usize = 15;

/// A cursor over the slice that is written to.
struct Out<'o> {
    bytes: &'o mut [u8],
    at: usize,
}

impl Out<'_> {
    /// Copies `parts` one after another.
    #[inline]
    fn put<const N: usize>(&mut self, parts: [&[u8]; N]) -> Option<()> {
        for part in parts {
            let to = self.at + part.len();
            self.bytes.get_mut(self.at..to)?.copy_from_slice(part);
            self.at = to;
        }
        Some(())
    }

    /// Copies `run` of the head and the lines of those `fields` that `keep` keeps. Neighbouring lines that are plain
    /// are copied together.
    #[inline]
    fn lines(
        &mut self,
        head: &[u8],
        fields: &[Field],
        mut run: Range<usize>,
        keep: impl Fn(&Field) -> bool,
    ) -> Option<()> {
        for field in fields {
            if !keep(field) {
                continue;
            }
            let (from, to) = (usize::from(field.from), usize::from(field.to));
            if field.plain && run.end == from {
                run.end = to;
                continue;
            }
            self.put([head.get(run)?])?;
            if field.plain {
                run = from..to;
            } else {
                self.put([field.name, b": ", field.value, b"\r\n"])?;
                run = to..to;
            }
        }
        self.put([head.get(run)?])
    }

    /// The values of all fields of a kind as one list, with a comma behind the last when more `follows`.
    #[cold]
    fn list(&mut self, fields: &[Field], kind: Kind, follows: bool) -> Option<()> {
        let mut separator: &[u8] = b"";
        for field in fields.iter().filter(|field| field.kind == kind && !field.value.is_empty()) {
            self.put([separator, field.value])?;
            separator = b", ";
        }
        if follows { self.put([separator]) } else { Some(()) }
    }

    /// RFC 7239, section 4: one element. An IPv6 address is bracketed, and quoted as every value with a colon is.
    fn forwarded(&mut self, host: &str, forward: &Forward) -> Option<()> {
        let client = forward.client_text;
        match client {
            "" => self.put([b"for=unknown"])?,
            _ if client.contains(':') => self.put([b"for=\"[", client.as_bytes(), b"]\""])?,
            _ => self.put([b"for=", client.as_bytes()])?,
        }
        if !host.is_empty() {
            self.put([b";host=\"", host.as_bytes(), b"\""])?;
        }
        self.put([b";proto=", forward.proto.as_bytes(), b"\r\n"])
    }

    #[inline]
    fn extra(&mut self, extra: &[Extra], rules: &FieldRules) -> Option<()> {
        for (name, value) in extra {
            if let Some(value) = value
                && !rules.drops_name(name.as_bytes())
            {
                self.put([name.as_bytes(), b": ", value.as_bytes(), b"\r\n"])?;
            }
        }
        Some(())
    }

    /// The field with the subject of the client's certificate. Its text comes from a certificate: what cannot stand in
    /// a field becomes `?`.
    #[cold]
    fn subject(&mut self, name: &str, subject: &str) -> Option<()> {
        self.put([name.as_bytes(), b": "])?;
        for byte in subject.trim().bytes() {
            self.put([&[if is_value_byte(byte) { byte } else { b'?' }]])?;
        }
        self.put([b"\r\n"])
    }

    fn status_line(&mut self, status: u16, reason: &[u8]) -> Option<()> {
        let digit = |place: u16| b'0' + (status / place % 10) as u8;
        let digits = [digit(100), digit(10), digit(1)];
        self.put([b"HTTP/1.1 ", &digits, b" ", reason, b"\r\n"])
    }

    fn length(&mut self, length: u64) -> Option<()> {
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut rest = length;
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.put([b"Content-Length: ", &digits[at..], b"\r\n"])
    }

    fn upgrade(&mut self, protocol: &str) -> Option<()> {
        self.put([b"Connection: upgrade\r\nUpgrade: ", protocol.as_bytes(), b"\r\n"])
    }

    /// RFC 9112, 9.3: open is the default of HTTP/1.1 and must be said to HTTP/1.0.
    fn connection(&mut self, connection: Connection, version: Version) -> Option<()> {
        match connection {
            Connection::Close => self.put([b"Connection: close\r\n"]),
            Connection::KeepAlive if version == Version::Http10 => self.put([b"Connection: keep-alive\r\n"]),
            Connection::KeepAlive | Connection::Upgrade => Some(()),
        }
    }
}
