//! Heads: bytes to [`Request`] and [`Response`], strictly as RFC 9112 has them.
//!
//! A fast reader takes a complete, plainly correct head in one pass: lines, the kind of every field, and what the
//! exchange needs to know. Whatever it does not take goes to [`diagnose`], a slow second reader that names the first
//! violation and its place, also in a head that is not complete yet. In: bytes, limits, a scratch list. Out: a view that
//! borrows both. Owns nothing. Always true: what is accepted here cannot be read differently by another parser that
//! follows RFC 9112; the fuzzer compares both readers with each other and with httparse, which is more forgiving.

mod bad;
mod diagnose;
mod scan;
mod target;
#[cfg(test)]
mod tests;

use arrayvec::ArrayVec;

use super::length::{self, Framed, Role, body_length};
use crate::http::message::{
    Field, Framing, Kind, KindSet, Method, Request, Response, ResponseFraming, Target, TargetForm, Version,
    elements, is_alias, is_token, is_token_byte,
};
use crate::limits::{FIELDS_MAX, HEAD_BYTES_MAX};
pub use bad::BadHead;
pub use diagnose::{Start, diagnose};
pub use target::is_host;

/// What a parser says.
#[derive(Clone, Copy, Debug)]
pub enum Parse<T> {
    /// All is here.
    Done(T),
    /// A good beginning.
    NeedMore,
    /// A violation, and the offset of the byte that shows it.
    Bad(BadHead, usize),
}

/// Bounds of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the head; at most [`HEAD_BYTES_MAX`] count.
    pub head_bytes_max: usize,
    /// Fields; at most [`FIELDS_MAX`] count.
    pub fields_max: usize,
    /// Bytes of a request's target.
    pub target_bytes_max: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { head_bytes_max: HEAD_BYTES_MAX, fields_max: FIELDS_MAX, target_bytes_max: HEAD_BYTES_MAX }
    }
}

/// The memory for the fields of one head. Making one costs nothing; it borrows the bytes that were parsed.
#[derive(Debug, Default)]
pub struct Scratch<'b> {
    fields: ArrayVec<Field<'b>, FIELDS_MAX>,
}

impl Scratch<'_> {
    /// A scratch list without fields.
    #[inline]
    pub const fn new() -> Self {
        Self { fields: ArrayVec::new_const() }
    }
}

/// Reads a request head from the start of `bytes`, after at most one CRLF (RFC 9112, 2.2: "a server that is expecting
/// to receive and parse a request-line SHOULD ignore at least one empty line (CRLF) received prior to the request-line").
pub fn parse_request<'a, 'b: 'a>(
    bytes: &'b [u8],
    limits: &HeadLimits,
    scratch: &'a mut Scratch<'b>,
) -> Parse<Request<'a>> {
    let skipped = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let all = &bytes[skipped..];
    let head = &all[..all.len().min(limits.head_bytes_max).min(HEAD_BYTES_MAX)];
    let read = RequestLine::read(head)
        .filter(|line| line.target.len() <= limits.target_bytes_max)
        .and_then(|line| Found::read(head, line.fields_from, limits, scratch).map(|found| (line, found)));
    let Some((line, found)) = read else {
        return refuse(bytes, skipped, Start::Request, limits);
    };
    match understand_request(head, &line, &found, scratch) {
        Ok(mut request) => {
            request.head_bytes += skipped;
            Parse::Done(request)
        }
        Err((bad, at)) => Parse::Bad(bad, at + skipped),
    }
}

/// Reads a response head from the start of `bytes`. `method` is that of the request it answers.
pub fn parse_response<'a, 'b: 'a>(
    bytes: &'b [u8],
    limits: &HeadLimits,
    method: Method,
    scratch: &'a mut Scratch<'b>,
) -> Parse<Response<'a>> {
    let head = &bytes[..bytes.len().min(limits.head_bytes_max).min(HEAD_BYTES_MAX)];
    let read = StatusLine::read(head)
        .and_then(|line| Found::read(head, line.fields_from, limits, scratch).map(|found| (line, found)));
    let Some((line, found)) = read else {
        return refuse(bytes, 0, Start::Response, limits);
    };
    match understand_response(head, &line, &found, method, scratch) {
        Ok(response) => Parse::Done(response),
        Err((bad, at)) => Parse::Bad(bad, at),
    }
}

type Bad = (BadHead, usize);

/// A head that the fast reader did not take: bad, too large, or not complete.
#[cold]
fn refuse<T>(bytes: &[u8], skipped: usize, start: Start, limits: &HeadLimits) -> Parse<T> {
    let head_bytes_max = limits.head_bytes_max.min(HEAD_BYTES_MAX);
    let all = &bytes[skipped..];
    let head = &all[..all.len().min(head_bytes_max)];
    // A lone CR may still become the one empty line before a request.
    if start == Start::Request && bytes == b"\r" {
        return Parse::NeedMore;
    }
    match diagnose(head, start, limits) {
        Err((bad, at)) => Parse::Bad(bad, at + skipped),
        Ok(false) if all.len() >= head_bytes_max => Parse::Bad(BadHead::HeadTooLarge, skipped + head.len()),
        Ok(false) => Parse::NeedMore,
        Ok(true) => {
            debug_assert!(false, "both readers agree on what is well formed");
            Parse::Bad(BadHead::FieldValueInvalid, skipped)
        }
    }
}

/// A request line in pieces.
struct RequestLine<'b> {
    method: Method,
    method_text: &'b [u8],
    target: &'b [u8],
    version: Version,
    fields_from: usize,
}

impl<'b> RequestLine<'b> {
    #[inline]
    fn read(head: &'b [u8]) -> Option<Self> {
        let (method, method_bytes) = if head.starts_with(b"GET ") {
            (Method::Get, 3)
        } else {
            // Methods are short: a byte at a time finds their end soonest.
            let blank = head.iter().position(|byte| !is_token_byte(*byte)).filter(|at| *at > 0)?;
            (Method::of(head.get(..blank)?), blank)
        };
        let (method_text, rest) = head.split_at_checked(method_bytes)?;
        let rest = rest.strip_prefix(b" ")?;
        let (target_bytes, _) = scan::target_end(rest)?;
        let (target, rest) = rest.split_at_checked(target_bytes)?;
        let version = if rest.starts_with(b" HTTP/1.1\r\n") {
            Version::Http11
        } else if rest.starts_with(b" HTTP/1.0\r\n") {
            Version::Http10
        } else {
            return None;
        };
        if target.is_empty() {
            return None;
        }
        Some(Self { method, method_text, target, version, fields_from: method_bytes + 1 + target_bytes + 11 })
    }
}

/// A status line in pieces.
struct StatusLine<'b> {
    version: Version,
    status: u16,
    reason: &'b [u8],
    /// True when the blank before the reason is there.
    blank: bool,
    fields_from: usize,
}

impl<'b> StatusLine<'b> {
    #[inline]
    fn read(head: &'b [u8]) -> Option<Self> {
        let version = if head.starts_with(b"HTTP/1.1 ") {
            Version::Http11
        } else if head.starts_with(b"HTTP/1.0 ") {
            Version::Http10
        } else {
            return None;
        };
        let mut status = 0;
        for byte in head.get(9..12)? {
            if !byte.is_ascii_digit() {
                return None;
            }
            status = status * 10 + u16::from(byte - b'0');
        }
        let rest = head.get(12..)?;
        let (rest, blank) = match rest.strip_prefix(b" ") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let reason_bytes = if blank { scan::value_end(rest)?.0 } else { 0 };
        let (reason, rest) = rest.split_at_checked(reason_bytes)?;
        if status < 100 || !rest.starts_with(b"\r\n") {
            return None;
        }
        Some(Self { version, status, reason, blank, fields_from: head.len() - rest.len() + 2 })
    }
}

/// What one pass over the fields found.
struct Found<'b> {
    seen: KindSet,
    host: &'b [u8],
    content_length: Option<&'b [u8]>,
    transfer_encoding: Option<&'b [u8]>,
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    /// Connection names something else.
    nominates: bool,
    /// Where the first line of each of these begins, for `Bad`.
    host_at: u16,
    framing_at: u16,
    /// Bytes of the head.
    head_bytes: usize,
}

fn understand_request<'a, 'b: 'a>(
    head: &'b [u8],
    line: &RequestLine<'b>,
    found: &Found<'b>,
    scratch: &'a Scratch<'b>,
) -> Result<Request<'a>, Bad> {
    if line.method == Method::Connect {
        return Err((BadHead::MethodConnect, 0));
    }
    let target_at = line.method_text.len() + 1;
    let target = std::str::from_utf8(line.target).unwrap_or_default();
    let target = target::parse_target(target, line.method).map_err(|bad| (bad, target_at))?;
    let host = take_host(found, &target, line.version)?;
    let framed = Framed {
        version: line.version,
        transfer_encoding: found.transfer_encoding,
        content_length: found.content_length,
    };
    let framing = match body_length(Role::Request, &framed) {
        // Rule 8 speaks of responses alone.
        Ok(ResponseFraming::None | ResponseFraming::UntilClose) => Framing::None,
        Ok(ResponseFraming::Length(length)) => Framing::Length(length),
        Ok(ResponseFraming::Chunked) => Framing::Chunked,
        Err(bad) => return Err((bad, found.framing_at.into())),
    };
    let mut request = Request {
        method: line.method,
        method_text: line
            .method
            .text()
            .unwrap_or_else(|| std::str::from_utf8(line.method_text).unwrap_or_default()),
        target,
        version: line.version,
        fields: &scratch.fields,
        host,
        framing,
        keep_alive: !found.close && (line.version == Version::Http11 || found.keep_alive),
        expect_continue: false,
        expect_other: false,
        upgrade: None,
        head_bytes: found.head_bytes,
        seen: found.seen,
        head,
        plain: target.form == TargetForm::Origin && line.version == Version::Http11,
    };
    if line.version == Version::Http11 {
        if found.seen.has(Kind::Expect) {
            expect(&mut request);
        }
        if found.upgrade && matches!(request.framing, Framing::None | Framing::Length(0)) {
            request.upgrade = protocol(request.fields);
        }
    }
    Ok(request)
}

fn understand_response<'a, 'b: 'a>(
    head: &'b [u8],
    line: &StatusLine<'b>,
    found: &Found<'b>,
    method: Method,
    scratch: &'a Scratch<'b>,
) -> Result<Response<'a>, Bad> {
    let at = usize::from(found.framing_at);
    let framed = Framed {
        version: line.version,
        transfer_encoding: found.transfer_encoding,
        content_length: found.content_length,
    };
    let framing = body_length(Role::Response(line.status, method), &framed).map_err(|bad| (bad, at))?;
    let content_length = match (framing, found.content_length) {
        (ResponseFraming::Length(length), _) => Some(length),
        (_, Some(digits)) => Some(length::parse_length(digits).ok_or((BadHead::ContentLengthInvalid, at))?),
        (_, None) => None,
    };
    // A body is announced where there can be none: what follows on this connection cannot be trusted.
    let contradicts = matches!(line.status, 100..=199 | 204)
        && (found.transfer_encoding.is_some() || content_length.is_some_and(|length| length > 0));
    let keep_alive = !found.close
        && (line.version == Version::Http11 || found.keep_alive)
        && framing != ResponseFraming::UntilClose
        && !contradicts;
    let mut response = Response {
        status: line.status,
        reason: line.reason,
        version: line.version,
        fields: &scratch.fields,
        framing,
        content_length,
        keep_alive,
        upgrade: None,
        head_bytes: found.head_bytes,
        seen: found.seen,
        head,
        plain: line.version == Version::Http11 && line.blank,
    };
    if line.status == 101 && found.upgrade {
        response.upgrade = protocol(response.fields);
    }
    Ok(response)
}

impl<'b> Found<'b> {
    /// Reads the fields of a head into `scratch`, from `at` to the empty line. `None` when anything is not exactly as it
    /// should be, when the head is not complete, or has too many fields.
    #[inline]
    fn read(
        head: &'b [u8],
        fields_from: usize,
        limits: &HeadLimits,
        scratch: &mut Scratch<'b>,
    ) -> Option<Self> {
        let mut found = Self {
            seen: KindSet::NONE,
            host: b"",
            content_length: None,
            transfer_encoding: None,
            close: false,
            keep_alive: false,
            upgrade: false,
            nominates: false,
            host_at: 0,
            framing_at: 0,
            head_bytes: 0,
        };
        scratch.fields.clear();
        let mut rest = head.get(fields_from..)?;
        let mut from = fields_from;
        while !rest.starts_with(b"\r\n") {
            let line = FieldLine::read(rest)?;
            let to = head.len() - line.next.len();
            let field = Field {
                name: line.name,
                value: line.value,
                kind: Kind::of(line.name),
                plain: line.plain,
                from: from as u16,
                to: to as u16,
            };
            if field.kind != Kind::Other {
                found.take(&field)?;
            }
            scratch.fields.try_push(field).ok()?;
            (rest, from) = (line.next, to);
        }
        if scratch.fields.len() > limits.fields_max {
            return None;
        }
        if found.nominates {
            nominate(&mut scratch.fields);
        }
        found.head_bytes = from + 2;
        Some(found)
    }

    /// Takes note of a special field; `None` when one that may come once came twice.
    #[inline]
    fn take(&mut self, field: &Field<'b>) -> Option<()> {
        let twice = self.seen.has(field.kind);
        self.seen = self.seen.with(field.kind);
        match field.kind {
            Kind::Host if twice => return None,
            Kind::Host => (self.host, self.host_at) = (field.value, field.from),
            Kind::ContentLength if twice => return None,
            Kind::ContentLength => (self.content_length, self.framing_at) = (Some(field.value), field.from),
            Kind::TransferEncoding if twice => return None,
            Kind::TransferEncoding => {
                (self.transfer_encoding, self.framing_at) = (Some(field.value), field.from)
            }
            Kind::Connection => self.connection(field.value),
            _ => {}
        }
        Some(())
    }

    fn connection(&mut self, value: &[u8]) {
        if value.eq_ignore_ascii_case(b"keep-alive") {
            self.keep_alive = true;
            return;
        }
        for option in elements(value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else {
                self.nominates = true;
            }
        }
    }
}

/// One field line in pieces.
struct FieldLine<'b> {
    name: &'b [u8],
    value: &'b [u8],
    /// True when the line is exactly `name: value CRLF`.
    plain: bool,
    /// What follows the line.
    next: &'b [u8],
}

impl<'b> FieldLine<'b> {
    /// RFC 9112, 5: `field-name ":" OWS field-value OWS CRLF`. `None` when the first line of `rest` is not complete or
    /// anything else.
    #[inline]
    fn read(rest: &'b [u8]) -> Option<Self> {
        let (name_bytes, colon) = scan::name_end(rest)?;
        let (name, after) = rest.split_at_checked(name_bytes)?;
        if colon != b':' || name.is_empty() {
            return None;
        }
        let (mut after, mut plain) = match after {
            [_, b' ', after @ ..] => (after, true),
            [_, after @ ..] => (after, false),
            [] => return None,
        };
        while let [b' ' | b'\t', rest @ ..] = after {
            (after, plain) = (rest, false);
        }
        let (value_bytes, _) = scan::value_end(after)?;
        let (mut value, after) = after.split_at_checked(value_bytes)?;
        let next = after.strip_prefix(b"\r\n")?;
        while let [rest @ .., b' ' | b'\t'] = value {
            (value, plain) = (rest, false);
        }
        Some(Self { name, value, plain, next })
    }
}

/// Fields that a Connection field may not take away: they are for the server behind us (RFC 9110, 7.6.1: "A sender
/// MUST NOT send a connection option corresponding to a field that is intended for all recipients of the content"), and
/// an attacker who names them wants a server to miss them. Fields of a kind of their own are safe anyway.
const END_TO_END: [&str; 12] = [
    "authorization",
    "cache-control",
    "content-encoding",
    "content-range",
    "content-type",
    "cookie",
    "origin",
    "range",
    "set-cookie",
    "via",
    "x-forwarded-port",
    "x-real-ip",
];

/// RFC 9110, 7.6.1: marks the fields that Connection names, so that they are not forwarded.
#[cold]
fn nominate(fields: &mut [Field]) {
    for at in 0..fields.len() {
        if fields[at].kind != Kind::Connection {
            continue;
        }
        for name in elements(fields[at].value) {
            let protected = END_TO_END.iter().any(|end| is_alias(name, end.as_bytes()));
            for field in fields.iter_mut().filter(|_| !protected) {
                if field.kind == Kind::Other && field.name.eq_ignore_ascii_case(name) {
                    field.kind = Kind::Nominated;
                }
            }
        }
    }
}

/// RFC 9112, 3.2: which authority a request is for, and that Host is there once and valid.
fn take_host<'b>(found: &Found<'b>, target: &Target<'b>, version: Version) -> Result<&'b str, Bad> {
    let at = usize::from(found.host_at);
    let host = if found.seen.has(Kind::Host) {
        target::parse_host(found.host).ok_or((BadHead::HostInvalid, at))?
    } else if version == Version::Http11 {
        return Err((BadHead::HostMissing, 0));
    } else {
        ""
    };
    // 3.2.2: "When an origin server receives a request with an absolute-form of request-target, the origin server MUST
    // ignore the received Host header field (if any) and instead use the host information of the request-target."
    Ok(target.authority.unwrap_or(host))
}

/// RFC 9110, 10.1.1: what the client expects. Without a body there is nothing to wait for.
#[cold]
fn expect(request: &mut Request) {
    let body = !matches!(request.framing, Framing::None | Framing::Length(0));
    for field in request.fields.iter().filter(|field| field.kind == Kind::Expect) {
        if field.value.eq_ignore_ascii_case(b"100-continue") {
            request.expect_continue = body;
        } else {
            request.expect_other = true;
        }
    }
}

/// RFC 9110, 7.8: the one protocol that Upgrade names. Other versions of HTTP are not forwarded: behind such a tunnel
/// no rule of ours would hold.
#[cold]
fn protocol<'a>(fields: &'a [Field<'a>]) -> Option<&'a str> {
    let mut named = fields.iter().filter(|field| field.kind == Kind::Upgrade);
    let (Some(field), None) = (named.next(), named.next()) else { return None };
    let text = std::str::from_utf8(field.value).ok()?;
    let (name, version) = text.split_once('/').unwrap_or((text, "1"));
    let refused = ["h2c", "h2", "http", "tls"].iter().any(|refused| name.eq_ignore_ascii_case(refused));
    (is_token(name.as_bytes()) && is_token(version.as_bytes()) && !refused).then_some(text)
}
