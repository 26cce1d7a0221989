//! Heads: bytes to [`Request`] and [`Response`], strictly as RFC 9112 has them.
//!
//! httparse finds the tokens of a complete head quickly but forgives bare LF and more; one pass over its fields finds
//! what it forgave, the kind of every field and what the exchange needs to know. Whatever is not a complete, plainly
//! correct head goes to [`diagnose`], a slow second reader that names the first violation and its place, also in a head
//! that is not complete yet. In: bytes, limits, a scratch list. Out: a view that borrows both. Owns nothing. Always
//! true: what is accepted here cannot be read differently by another parser that follows RFC 9112.

mod diagnose;
mod target;
#[cfg(test)]
mod tests;

use std::mem::MaybeUninit;

use arrayvec::ArrayVec;

use super::length::{self, Framed, Role, body_length};
use crate::close::Close;
use crate::http::message::{
    Field, Framing, Kind, KindSet, Method, Request, Response, ResponseFraming, Target, Version, elements,
    is_alias, is_token,
};
use crate::limits::{FIELDS_MAX, HEAD_BYTES_MAX};
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

/// How a head broke the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHead {
    /// More bytes than allowed.
    HeadTooLarge,
    /// More fields than allowed.
    TooManyFields,
    /// A target of more bytes than allowed.
    TargetTooLong,
    /// A TLS handshake where plain HTTP is spoken.
    Tls,
    /// More than one empty line before a request, or any before a response.
    EmptyLines,
    /// The method is empty or not a token.
    MethodInvalid,
    /// CONNECT.
    MethodConnect,
    /// The target is empty, of no known form, or holds a fragment, a blank, a control or non-ASCII byte.
    TargetInvalid,
    /// `*` with a method other than OPTIONS.
    AsteriskWithoutOptions,
    /// Not `HTTP/` digit `.` digit.
    VersionInvalid,
    /// A version other than 1.0 and 1.1.
    VersionUnknown,
    /// The status is not three digits from 100 on.
    StatusInvalid,
    /// A control byte in the reason phrase.
    ReasonInvalid,
    /// LF without CR.
    BareLf,
    /// CR without LF.
    BareCr,
    /// A line that begins with a blank.
    ObsFold,
    /// A line that begins with the colon.
    FieldNameEmpty,
    /// Blanks between name and colon.
    BlankBeforeColon,
    /// A line without a colon.
    FieldWithoutColon,
    /// A byte in a field name that no token has.
    FieldNameInvalid,
    /// NUL or another control byte in a field value.
    FieldValueInvalid,
    /// No Host in HTTP/1.1.
    HostMissing,
    /// Host more than once.
    HostTwice,
    /// Host, or the authority of the target, is not a name or address with an optional port.
    HostInvalid,
    /// Content-Length more than once, even with the same value.
    ContentLengthTwice,
    /// Content-Length is not digits alone, or absurdly large.
    ContentLengthInvalid,
    /// Transfer-Encoding more than once.
    TransferEncodingTwice,
    /// Transfer-Encoding does not end with `chunked`, or has it twice.
    TransferEncodingInvalid,
    /// Transfer-Encoding in HTTP/1.0.
    TransferEncodingInHttp10,
    /// Content-Length and Transfer-Encoding.
    LengthAndTransferEncoding,
    /// A coding other than `chunked` below `chunked`.
    CodingUnknown,
}

impl BadHead {
    /// How an exchange with a client ends that sent this. (A server that sends this: `Close::ServerBadAnswer`.)
    pub const fn close(self) -> Close {
        match self {
            Self::HeadTooLarge | Self::TooManyFields => Close::HeadTooLarge,
            Self::TargetTooLong => Close::TargetTooLong,
            Self::MethodConnect => Close::MethodRefused,
            Self::VersionUnknown => Close::VersionRefused,
            Self::CodingUnknown => Close::CodingRefused,
            _ => Close::BadRequest,
        }
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
    let mut slots = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut raw = httparse::Request::new(&mut []);
    let found = match head.first() {
        None | Some(b'\r' | b'\n') => Ok(httparse::Status::Partial),
        Some(_) => raw.parse_with_uninit_headers(head, &mut slots[..limits.fields_max.min(FIELDS_MAX)]),
    };
    let parsed = match (found, raw.method, raw.path, raw.version) {
        (Ok(httparse::Status::Complete(used)), Some(method), Some(target), Some(version)) => {
            let line = Line { method, target, version: version_of(version) };
            match head.get(..used) {
                Some(head) => understand_request(head, &line, raw.headers, limits, scratch),
                None => Err((BadHead::HeadTooLarge, 0)),
            }
        }
        (Ok(httparse::Status::Partial), ..) => {
            return incomplete(bytes, skipped, head.len() < all.len(), Start::Request, limits);
        }
        _ => Err(name_it(head, Start::Request, limits)),
    };
    match parsed {
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
    let mut slots = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut raw = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let found = match head.first() {
        None | Some(b'\r' | b'\n') => Ok(httparse::Status::Partial),
        Some(_) => config.parse_response_with_uninit_headers(
            &mut raw,
            head,
            &mut slots[..limits.fields_max.min(FIELDS_MAX)],
        ),
    };
    let parsed = match (found, raw.version, raw.code, raw.reason) {
        (Ok(httparse::Status::Complete(used)), Some(version), Some(status), Some(reason)) => {
            let line = StatusLine { version: version_of(version), status, reason: reason.as_bytes(), method };
            match head.get(..used) {
                Some(head) => understand_response(head, &line, raw.headers, limits, scratch),
                None => Err((BadHead::HeadTooLarge, 0)),
            }
        }
        (Ok(httparse::Status::Partial), ..) => {
            return incomplete(bytes, 0, head.len() < bytes.len(), Start::Response, limits);
        }
        _ => Err(name_it(head, Start::Response, limits)),
    };
    match parsed {
        Ok(response) => Parse::Done(response),
        Err((bad, at)) => Parse::Bad(bad, at),
    }
}

type Bad = (BadHead, usize);

const fn version_of(minor: u8) -> Version {
    if minor == 0 { Version::Http10 } else { Version::Http11 }
}

/// A head that is not complete: bad already, too large already, or a good beginning. `cut`: there were more bytes than
/// a head may have.
#[cold]
fn incomplete<T>(bytes: &[u8], skipped: usize, cut: bool, start: Start, limits: &HeadLimits) -> Parse<T> {
    let head_bytes_max = limits.head_bytes_max.min(HEAD_BYTES_MAX);
    let all = &bytes[skipped..];
    let head = &all[..all.len().min(head_bytes_max)];
    // A lone CR may still become the one empty line before a request.
    let empty_line = start == Start::Request && skipped == 0 && head == b"\r";
    match diagnose(head, start, limits) {
        Some((bad, at)) if !empty_line => Parse::Bad(bad, at + skipped),
        _ if cut || head.len() == head_bytes_max => Parse::Bad(BadHead::HeadTooLarge, skipped + head.len()),
        _ => Parse::NeedMore,
    }
}

/// What is wrong with a head that httparse or our own checks refused.
#[cold]
fn name_it(head: &[u8], start: Start, limits: &HeadLimits) -> Bad {
    diagnose(head, start, limits).unwrap_or((BadHead::FieldNameInvalid, 0))
}

/// A request line in pieces.
struct Line<'b> {
    method: &'b str,
    target: &'b str,
    version: Version,
}

/// A status line in pieces, with the method of the request.
struct StatusLine<'b> {
    version: Version,
    status: u16,
    reason: &'b [u8],
    method: Method,
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
    /// Where the fields begin.
    fields_from: usize,
}

fn understand_request<'a, 'b: 'a>(
    head: &'b [u8],
    line: &Line<'b>,
    headers: &[httparse::Header<'b>],
    limits: &HeadLimits,
    scratch: &'a mut Scratch<'b>,
) -> Result<Request<'a>, Bad> {
    let target_at = line.method.len() + 1;
    if line.target.len() > limits.target_bytes_max {
        return Err((BadHead::TargetTooLong, target_at + limits.target_bytes_max));
    }
    let found = take_fields(head, headers, scratch).ok_or_else(|| name_it(head, Start::Request, limits))?;
    let method = Method::of(line.method);
    if method == Method::Connect {
        return Err((BadHead::MethodConnect, 0));
    }
    let target = target::parse_target(line.target, method).map_err(|bad| (bad, target_at))?;
    let host = take_host(&found, &target, line.version)?;
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
        method,
        method_text: line.method,
        target,
        version: line.version,
        fields: &scratch.fields,
        host,
        framing,
        keep_alive: !found.close && (line.version == Version::Http11 || found.keep_alive),
        expect_continue: false,
        expect_other: false,
        upgrade: None,
        head_bytes: head.len(),
        seen: found.seen,
        head,
        plain: target.form == crate::http::message::TargetForm::Origin && line.version == Version::Http11,
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
    headers: &[httparse::Header<'b>],
    limits: &HeadLimits,
    scratch: &'a mut Scratch<'b>,
) -> Result<Response<'a>, Bad> {
    if line.status < 100 {
        return Err((BadHead::StatusInvalid, 9));
    }
    let found = take_fields(head, headers, scratch).ok_or_else(|| name_it(head, Start::Response, limits))?;
    let at = usize::from(found.framing_at);
    let framed = Framed {
        version: line.version,
        transfer_encoding: found.transfer_encoding,
        content_length: found.content_length,
    };
    let framing = body_length(Role::Response(line.status, line.method), &framed).map_err(|bad| (bad, at))?;
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
        head_bytes: head.len(),
        seen: found.seen,
        head,
        // Version, blank, three digits, blank, reason, CRLF: anything shorter or longer is written anew.
        plain: line.version == Version::Http11 && found.fields_from == 15 + line.reason.len(),
    };
    if line.status == 101 && found.upgrade {
        response.upgrade = protocol(response.fields);
    }
    Ok(response)
}

/// Fills `scratch` with the fields of a complete head that httparse accepted. `None` when it forgave something that we
/// do not (a bare LF), or a field that frames the message came twice: the slow reader names it.
fn take_fields<'b>(
    head: &'b [u8],
    headers: &[httparse::Header<'b>],
    scratch: &mut Scratch<'b>,
) -> Option<Found<'b>> {
    let base = head.as_ptr() as usize;
    let end = head.len().checked_sub(2)?;
    let offset = |header: &httparse::Header| header.name.as_ptr() as usize - base;
    let fields_from = headers.first().map_or(end, offset);
    let mut found = Found {
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
        fields_from,
    };
    // httparse ends a line at LF and finds CR nowhere else: a line is right when CR stands before its LF. The start
    // line and the empty line are lines too.
    let ends_well = |to: usize| head.get(to.wrapping_sub(2)) == Some(&b'\r');
    if !ends_well(fields_from) || head.get(end) != Some(&b'\r') {
        return None;
    }
    scratch.fields.clear();
    let mut from = fields_from;
    for (at, header) in headers.iter().enumerate() {
        let to = headers.get(at + 1).map_or(end, offset);
        if !ends_well(to) {
            return None;
        }
        let kind = Kind::of(header.name);
        // `name: value CRLF` and nothing else: three positions decide it, because blanks were trimmed from the value.
        let value_from = header.value.as_ptr() as usize - base;
        let plain = value_from == from + header.name.len() + 2
            && head.get(value_from - 1) == Some(&b' ')
            && value_from + header.value.len() + 2 == to;
        let field =
            Field { name: header.name, value: header.value, kind, plain, from: from as u16, to: to as u16 };
        if kind != Kind::Other {
            found.take(&field)?;
        }
        scratch.fields.try_push(field).ok()?;
        from = to;
    }
    if found.nominates {
        nominate(&mut scratch.fields);
    }
    Some(found)
}

impl<'b> Found<'b> {
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
                if field.kind == Kind::Other && field.name.as_bytes().eq_ignore_ascii_case(name) {
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
