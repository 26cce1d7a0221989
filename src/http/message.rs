//! The model of a request and of a response: borrowed from the page they were received in, for one event.
//!
//! A parser makes these, a router reads them, a writer serialises them. They own nothing. Always true: names are
//! tokens, values hold no CR, LF, NUL or other control byte except HTAB, and nothing blank at their ends; the kind of
//! every field was found once, so that later passes compare no strings.

/// What a request asks for, as far as we treat methods differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// OPTIONS
    Options,
    /// PATCH
    Patch,
    /// TRACE
    Trace,
    /// CONNECT, which is refused
    Connect,
    /// Any other token; `Request::method_text` has it.
    Other,
}

impl Method {
    /// The method of this text. Methods are case-sensitive (RFC 9110, 9.1): `get` is `Other`.
    pub fn of(text: &[u8]) -> Self {
        match text {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"PATCH" => Self::Patch,
            b"TRACE" => Self::Trace,
            b"CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }

    /// Its text; `None` for `Other`.
    pub const fn text(self) -> Option<&'static str> {
        Some(match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Patch => "PATCH",
            Self::Trace => "TRACE",
            Self::Connect => "CONNECT",
            Self::Other => return None,
        })
    }

    /// RFC 9110, 9.2.1: the client does not ask for a change.
    pub const fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options | Self::Trace)
    }

    /// RFC 9110, 9.2.2: sending the request twice means the same as sending it once.
    pub const fn is_idempotent(self) -> bool {
        self.is_safe() || matches!(self, Self::Put | Self::Delete)
    }
}

/// The version of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

macro_rules! kinds {
    ($($name:ident $text:literal)*) => {
        /// Which of the fields that we treat specially a field is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Kind {
            $(#[doc = $text] $name,)*
            /// A field that the message's own Connection field names: it ends here (RFC 9110, 7.6.1).
            Nominated,
            /// A name with `_` that CGI-like servers read as one of the names above: never forwarded.
            Alias,
            /// Any other field.
            Other,
        }

        impl Kind {
            /// The kinds that have a name, with it, in lower case.
            pub const NAMED: &'static [(Kind, &'static str)] = &[$((Kind::$name, $text),)*];
        }
    };
}

kinds! {
    Connection "connection"
    KeepAlive "keep-alive"
    ProxyConnection "proxy-connection"
    TransferEncoding "transfer-encoding"
    ContentLength "content-length"
    Host "host"
    Upgrade "upgrade"
    Http2Settings "http2-settings"
    Te "te"
    Trailer "trailer"
    Expect "expect"
    XForwardedFor "x-forwarded-for"
    XForwardedProto "x-forwarded-proto"
    XForwardedHost "x-forwarded-host"
    Forwarded "forwarded"
    Proxy "proxy"
    Date "date"
    Server "server"
}

impl Kind {
    /// The kind of a field name (a token). Length and first letter leave one candidate at most.
    #[inline]
    pub fn of(name: &[u8]) -> Self {
        match name.first() {
            Some(first) if CANDIDATES[name.len() % 32] >> (first % 32) & 1 == 1 => {
                Self::of_candidate(name, *first)
            }
            _ => Self::Other,
        }
    }

    fn of_candidate(name: &[u8], first: u8) -> Self {
        match (name.len(), first | 0x20) {
            (2, b't') => Self::if_same(name, b"te", Self::Te),
            (4, b'h') => Self::if_same(name, b"host", Self::Host),
            (4, b'd') => Self::if_same(name, b"date", Self::Date),
            (5, b'p') => Self::if_same(name, b"proxy", Self::Proxy),
            (6, b'e') => Self::if_same(name, b"expect", Self::Expect),
            (6, b's') => Self::if_same(name, b"server", Self::Server),
            (7, b'u') => Self::if_same(name, b"upgrade", Self::Upgrade),
            (7, b't') => Self::if_same(name, b"trailer", Self::Trailer),
            (9, b'f') => Self::if_same(name, b"forwarded", Self::Forwarded),
            (10, b'c') => Self::if_same(name, b"connection", Self::Connection),
            (10, b'k') => Self::if_same(name, b"keep-alive", Self::KeepAlive),
            (14, b'c') => Self::if_same(name, b"content-length", Self::ContentLength),
            (14, b'h') => Self::if_same(name, b"http2-settings", Self::Http2Settings),
            (15, b'x') => Self::if_same(name, b"x-forwarded-for", Self::XForwardedFor),
            (16, b'x') => Self::if_same(name, b"x-forwarded-host", Self::XForwardedHost),
            (16, b'p') => Self::if_same(name, b"proxy-connection", Self::ProxyConnection),
            (17, b't') => Self::if_same(name, b"transfer-encoding", Self::TransferEncoding),
            (17, b'x') => Self::if_same(name, b"x-forwarded-proto", Self::XForwardedProto),
            _ => Self::Other,
        }
    }

    #[inline]
    fn if_same<const N: usize>(name: &[u8], want: &[u8; N], kind: Self) -> Self {
        let Some(name) = name.first_chunk::<N>() else { return Self::Other };
        // Setting bit 5 lowers letters and keeps `-`; no other byte of a token becomes a letter or `-` by it.
        let mut differs = 0;
        for at in 0..N {
            differs |= (name[at] | 0x20) ^ want[at];
        }
        if differs == 0 {
            return kind;
        }
        if is_alias(name, want) { Self::Alias } else { Self::Other }
    }
}

/// By length of a name, modulo 32: with which letters (their lowest five bits) names of a special kind begin.
const CANDIDATES: [u32; 32] = {
    let mut table = [0; 32];
    let mut at = 0;
    while at < Kind::NAMED.len() {
        let name = Kind::NAMED[at].1.as_bytes();
        table[name.len() % 32] |= 1 << (name[0] % 32);
        at += 1;
    }
    table
};

/// True when `name` and `want` (lower case) are the same to a server that maps `-` and `_` to one character, as CGI
/// (RFC 3875, 4.1.18) and its descendants do.
#[cold]
pub(crate) fn is_alias(name: &[u8], want: &[u8]) -> bool {
    let fold = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.len() == want.len() && name.iter().map(fold).eq(want.iter().map(fold))
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindSet(u32);

impl KindSet {
    /// The empty set.
    pub const NONE: Self = Self(0);

    /// The set of these kinds.
    pub const fn of(kinds: &[Kind]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < kinds.len() {
            bits |= 1 << kinds[at] as u32;
            at += 1;
        }
        Self(bits)
    }

    /// Whether `kind` is in the set.
    #[inline]
    pub const fn has(self, kind: Kind) -> bool {
        self.0 >> kind as u32 & 1 == 1
    }

    /// The set with `kind` in it.
    #[inline]
    #[must_use]
    pub const fn with(self, kind: Kind) -> Self {
        Self(self.0 | 1 << kind as u32)
    }

    /// What is in one of the two sets.
    #[inline]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this set and not in the other.
    #[inline]
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// One field of a head.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// Its name as received: a token.
    pub name: &'a [u8],
    /// Its value without blanks at the ends; may hold bytes above 0x7f.
    pub value: &'a [u8],
    /// Which of the special fields it is.
    pub kind: Kind,
    /// True when the line is, byte for byte, what we would write: `name: value CRLF`.
    pub(crate) plain: bool,
    /// Where its line begins in the head.
    pub(crate) from: u16,
    /// Where the next line begins.
    pub(crate) to: u16,
}

impl<'a> Field<'a> {
    /// Its name as text.
    pub fn name_text(&self) -> &'a str {
        // A token is ASCII.
        std::str::from_utf8(self.name).unwrap_or_default()
    }
}

/// How a request target was written (RFC 9112, 3.2); authority-form belongs to CONNECT and is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`
    Origin,
    /// `http://authority/path?query`
    Absolute,
    /// `*`
    Asterisk,
}

/// The target of a request: visible ASCII without `#`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// How it was written.
    pub form: TargetForm,
    /// Path and query as written. Empty, or beginning with `?`, when an absolute-form had no path; `*` for `*`.
    pub path_and_query: &'a str,
    /// The authority of an absolute-form.
    pub authority: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// The path without the query: begins with `/`, or is `*`.
    pub fn path(&self) -> &'a str {
        let path = match self.path_and_query.find('?') {
            Some(at) => &self.path_and_query[..at],
            None => self.path_and_query,
        };
        if path.is_empty() { "/" } else { path }
    }

    /// The query without its `?`.
    pub fn query(&self) -> Option<&'a str> {
        self.path_and_query.split_once('?').map(|(_, query)| query)
    }

    /// What must stand before `path_and_query` to make it an origin-form: `/` or nothing.
    pub fn missing_slash(&self) -> &'static str {
        if matches!(self.path_and_query.as_bytes().first(), Some(b'/' | b'*')) { "" } else { "/" }
    }
}

/// How the body of a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body, and no Content-Length.
    None,
    /// After this many bytes; may be 0.
    Length(u64),
    /// With the last chunk.
    Chunked,
}

/// How the body of a response ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFraming {
    /// There is none, whatever the fields say: 1xx, 204, 304, and answers to HEAD.
    None,
    /// After this many bytes; may be 0.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// When the server closes.
    UntilClose,
}

/// A request head, understood.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// The method as received.
    pub method_text: &'a str,
    /// The target.
    pub target: Target<'a>,
    /// The client's version.
    pub version: Version,
    /// The fields in the order received.
    pub fields: &'a [Field<'a>],
    /// The authority that is asked for: of the absolute-form target, else of Host. Valid; empty only for an HTTP/1.0
    /// request that has neither.
    pub host: &'a str,
    /// How its body ends.
    pub framing: Framing,
    /// Whether the client keeps its connection open after this exchange.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends its body. Only true when a body is announced.
    pub expect_continue: bool,
    /// The client expects something that nobody knows: 417.
    pub expect_other: bool,
    /// The one protocol that the client wants to change to, when we forward that: not from HTTP/1.0, not with a
    /// body, not to another version of HTTP or to TLS.
    pub upgrade: Option<&'a str>,
    /// Bytes of the head, with the empty line and with a CRLF that preceded it.
    pub head_bytes: usize,
    /// Kinds of fields that are present.
    pub(crate) seen: KindSet,
    /// The head from its request line on, as received.
    pub(crate) head: &'a [u8],
    /// True when the request line is, byte for byte, what we would write.
    pub(crate) plain: bool,
}

impl<'a> Request<'a> {
    /// Whether a field of this kind is present.
    pub fn has(&self, kind: Kind) -> bool {
        self.seen.has(kind)
    }

    /// `host` without a port: a name, an IPv4 address, or an IPv6 address in brackets.
    pub fn host_name(&self) -> &'a str {
        host_name(self.host)
    }
}

/// An authority without its port: a name, an IPv4 address, or an IPv6 address in brackets.
pub fn host_name(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => authority,
    }
}

/// A response head, understood.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// The status, 100 to 999.
    pub status: u16,
    /// The reason phrase, maybe empty.
    pub reason: &'a [u8],
    /// The server's version.
    pub version: Version,
    /// The fields in the order received.
    pub fields: &'a [Field<'a>],
    /// How its body ends.
    pub framing: ResponseFraming,
    /// What Content-Length says, also where it is only information (HEAD, 304).
    pub content_length: Option<u64>,
    /// Whether the server keeps its connection open after this exchange and the framing can be trusted.
    pub keep_alive: bool,
    /// The protocol that a 101 changes to.
    pub upgrade: Option<&'a str>,
    /// Bytes of the head, with the empty line.
    pub head_bytes: usize,
    /// Kinds of fields that are present.
    pub(crate) seen: KindSet,
    /// The head as received.
    pub(crate) head: &'a [u8],
    /// True when the status line is, byte for byte, what we would write.
    pub(crate) plain: bool,
}

impl Response<'_> {
    /// Whether a field of this kind is present.
    pub fn has(&self, kind: Kind) -> bool {
        self.seen.has(kind)
    }

    /// An interim answer (1xx): another one follows it, except after 101.
    pub const fn is_interim(&self) -> bool {
        self.status < 200
    }
}

/// True for a byte of a token (RFC 9110, 5.6.2).
#[inline]
pub const fn is_token_byte(byte: u8) -> bool {
    TOKEN[byte as usize]
}

/// True for a non-empty token: a method, a field name, a protocol without its version.
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is_token_byte(*byte))
}

/// True for a byte of a field value (RFC 9110, 5.5): HTAB, SP, visible ASCII, and bytes above 0x7f.
#[inline]
pub const fn is_value_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | 0x20..=0x7e | 0x80..)
}

static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let it = byte as u8;
        table[byte] = it.is_ascii_alphanumeric()
            || matches!(it, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.')
            || matches!(it, b'^' | b'_' | b'`' | b'|' | b'~');
        byte += 1;
    }
    table
};

/// The elements of a comma-separated list (RFC 9110, 5.6.1), trimmed, without the empty ones.
pub fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim).filter(|element| !element.is_empty())
}

/// `value` without SP and HTAB at its ends.
pub const fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_kind_is_found_in_any_case_and_nothing_else_is() {
        for (kind, name) in Kind::NAMED {
            assert_eq!(Kind::of(name.as_bytes()), *kind);
            assert_eq!(Kind::of(name.to_ascii_uppercase().as_bytes()), *kind);
            if name.contains('-') {
                assert_eq!(Kind::of(name.replace('-', "_").as_bytes()), Kind::Alias, "{name}");
            }
            for at in 0..name.len() {
                let mut other = name.as_bytes().to_vec();
                for byte in (0x21..0x7f).filter(|byte| is_token_byte(*byte)) {
                    other[at] = byte;
                    let text = std::str::from_utf8(&other).unwrap();
                    if !text.eq_ignore_ascii_case(name) && !is_alias(&other, name.as_bytes()) {
                        assert_eq!(Kind::of(text.as_bytes()), Kind::Other, "{text}");
                    }
                }
            }
            assert_eq!(Kind::of(format!("{name}x").as_bytes()), Kind::Other);
            assert_eq!(Kind::of(&name.as_bytes()[1..]), Kind::Other);
        }
        assert_eq!(Kind::of(b""), Kind::Other);
    }

    #[test]
    fn a_set_holds_what_was_put_in() {
        let set = KindSet::of(&[Kind::Host, Kind::Other]);
        assert!(set.has(Kind::Host) && set.has(Kind::Other) && !set.has(Kind::Te));
        assert!(set.with(Kind::Te).has(Kind::Te));
        assert_eq!(set.without(KindSet::of(&[Kind::Other])), KindSet::of(&[Kind::Host]));
    }

    #[test]
    fn methods_are_case_sensitive_and_know_their_properties() {
        for (text, method, safe, idempotent) in [
            ("GET", Method::Get, true, true),
            ("HEAD", Method::Head, true, true),
            ("OPTIONS", Method::Options, true, true),
            ("TRACE", Method::Trace, true, true),
            ("PUT", Method::Put, false, true),
            ("DELETE", Method::Delete, false, true),
            ("POST", Method::Post, false, false),
            ("PATCH", Method::Patch, false, false),
            ("CONNECT", Method::Connect, false, false),
            ("get", Method::Other, false, false),
            ("PURGE", Method::Other, false, false),
        ] {
            let found = Method::of(text.as_bytes());
            assert_eq!((found, found.is_safe(), found.is_idempotent()), (method, safe, idempotent), "{text}");
        }
    }

    #[test]
    fn host_name_drops_the_port_alone() {
        for (authority, name) in [
            ("a.example", "a.example"),
            ("a.example:80", "a.example"),
            ("a.example:", "a.example"),
            ("[::1]", "[::1]"),
            ("[::1]:80", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(host_name(authority), name);
        }
    }

    #[test]
    fn path_and_query_are_told_apart() {
        for (text, path, query, slash) in [
            ("/", "/", None, ""),
            ("/a/b?c=d?e", "/a/b", Some("c=d?e"), ""),
            ("", "/", None, "/"),
            ("?q", "/", Some("q"), "/"),
            ("*", "*", None, ""),
        ] {
            let target = Target { form: TargetForm::Absolute, path_and_query: text, authority: None };
            assert_eq!(
                (target.path(), target.query(), target.missing_slash()),
                (path, query, slash),
                "{text}"
            );
        }
    }
}
