//! What marks a request on its way: its id, its trace, and whether its client may see how it was decided.
//!
//! What goes in: a request, random bits. What comes out: fields for the server and for the answer, texts for the log. It
//! owns these texts, whose place is used again by the connection's next request. Always true: what a client said goes on
//! only when it is well-formed; the token never reaches a server.

use std::fmt::Write;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;

use arrayvec::{ArrayString, ArrayVec};

use crate::access::Steps;
use crate::clock::Moment;
use crate::config::model::Token;
use crate::http::h1::write::Extra;
use crate::http::message::{Kind, Request, is_alias};
use crate::limits::{MARK_BYTES_MAX, MARK_NAME_CHARS_MAX};

use super::Cx;
use super::dial::Dial;
use super::http::HttpSession;

const REQUEST_ID: &str = "X-Request-Id";
const TRACE_PARENT: &str = "traceparent";
const TRACE_STATE: &str = "tracestate";
const DEBUG: &str = "Ringgate-Debug";
const DECISION: &str = "Ringgate-Decision";

/// The marks of the request at hand.
#[derive(Debug, Default)]
pub struct Marks {
    /// Empty: it has none.
    id: ArrayString<MARK_BYTES_MAX>,
    /// The value of traceparent (W3C Trace Context); empty as the id is.
    trace: ArrayString<MARK_BYTES_MAX>,
    /// The trace begins here: what the client said about another one is dropped.
    begins: bool,
    /// The client showed the token.
    debug: bool,
    /// The route that was found, for `decision`.
    route: String,
    /// How it was decided; empty when the client may not see it.
    decision: String,
}

impl Marks {
    fn clear(&mut self) {
        self.id.clear();
        self.trace.clear();
        (self.begins, self.debug) = (false, false);
        self.route.clear();
        self.decision.clear();
    }

    /// Fields that an answer gains.
    pub(super) fn back(&self) -> ArrayVec<Extra<'_>, 2> {
        let mut extra = ArrayVec::new();
        if !self.id.is_empty() {
            extra.push((REQUEST_ID, Some(self.id.as_str())));
        }
        if !self.decision.is_empty() {
            extra.push((DECISION, Some(self.decision.as_str())));
        }
        extra
    }

    /// Notes how the request was decided, if its client may see it; `dial` is the way to its server, begun at `asked`.
    pub(super) fn decide(&mut self, dial: Option<(&Dial, Moment)>, cx: &Cx<'_>) {
        if !self.debug {
            return;
        }
        self.decision.clear();
        let text = &mut self.decision;
        // Writing to a String does not fail.
        let _ = write!(text, "edition={}", cx.balancer.edition());
        let route = if self.route.is_empty() { "-" } else { &self.route };
        let _ = write!(text, " route=\"{}\"", shown(route));
        let Some((dial, asked)) = dial else { return };
        let pool = &cx.config.pools[dial.pool.index()];
        let server = dial.last.and_then(|(server, _)| cx.config.servers.get(server.index()));
        let server = server.map_or("-", |server| &server.name);
        let _ = write!(text, " pool={} server={}", shown(&pool.name), shown(server));
        let _ = write!(text, " balance={} attempts={}", pool.balance.word(), dial.attempts());
        if let Some(waited) = Steps::between(asked, dial.picked) {
            let _ = write!(text, " queue_us={}", waited.as_micros());
        }
        let _ = write!(text, " reused={}", dial.last.is_some_and(|(_, reused)| reused));
    }
}

impl HttpSession {
    /// Marks a request, or a head that was not understood.
    pub(super) fn mark(&mut self, request: Option<&Request<'_>>, cx: &Cx<'_>) {
        let token = cx.config.admin.debug_token.as_ref();
        let ids = self.site(cx).request_id;
        if !ids && token.is_none() {
            self.marks = None;
            return;
        }
        let mut marks = self.marks.take().unwrap_or_default();
        marks.clear();
        let said = request.map(|request| Said::by(request, token)).unwrap_or_default();
        marks.debug = said.token;
        if ids {
            let chance = chance([
                cx.chance,
                cx.now.0,
                self.requests,
                cx.worker.index() as u64,
                u64::from(cx.me.slot) << 32 | u64::from(cx.me.generation),
            ]);
            match said.id.and_then(request_id) {
                Some(id) => marks.id.push_str(id),
                None => hex(&chance, &mut marks.id),
            }
            match said.trace.and_then(trace_parent) {
                Some(trace) => marks.trace.push_str(trace),
                None => {
                    marks.begins = true;
                    begin_trace(chance, &mut marks.trace);
                }
            }
        }
        self.marks = Some(marks);
    }

    /// Marks what has no marks yet: what is answered before it was understood.
    pub(super) fn mark_unknown(&mut self, cx: &Cx<'_>) {
        let marked = self.marks.as_ref().is_some_and(|marks| !marks.id.is_empty());
        if !marked && self.site(cx).request_id {
            self.mark(None, cx);
        }
    }

    /// Forgets the marks of the request before.
    pub(super) fn unmark(&mut self) {
        if let Some(marks) = &mut self.marks {
            marks.clear();
        }
    }

    /// Remembers the route, if the client may see it.
    pub(super) fn mark_route(&mut self, index: usize, cx: &Cx<'_>) {
        let site = self.site(cx);
        if let Some(marks) = &mut self.marks
            && marks.debug
            && let Some((host, path, _)) = site.routes.get(index)
        {
            marks.route = format!("{host} {path}");
        }
    }

    /// Notes how the request was decided, if its client may see it.
    pub(super) fn decide(&mut self, cx: &Cx<'_>) {
        if let Some(marks) = &mut self.marks {
            let exchange = self.exchange.as_ref();
            marks.decide(exchange.map(|exchange| (&exchange.dial, exchange.asked)), cx);
        }
    }

    /// Fields that the request gains or loses on its way to a server.
    pub(super) fn marks_on(&self, cx: &Cx<'_>) -> ArrayVec<Extra<'_>, 4> {
        let mut extra = ArrayVec::new();
        if cx.config.admin.debug_token.is_some() {
            extra.push((DEBUG, None));
        }
        if let Some(marks) = self.marks.as_ref().filter(|marks| !marks.id.is_empty()) {
            extra.push((REQUEST_ID, Some(marks.id.as_str())));
            extra.push((TRACE_PARENT, Some(marks.trace.as_str())));
            if marks.begins {
                extra.push((TRACE_STATE, None));
            }
        }
        extra
    }

    /// The ids for the log: of the request, of its trace.
    pub(super) fn ids(&self) -> (Option<&[u8]>, Option<&[u8]>) {
        let marks = self.marks.as_ref().filter(|marks| !marks.id.is_empty());
        let trace = marks.and_then(|marks| marks.trace.as_bytes().get(TRACE_ID));
        (marks.map(|marks| marks.id.as_bytes()), trace)
    }
}

/// What a client said about its request; `None` also for what it said twice.
#[derive(Debug, Default)]
struct Said<'r> {
    id: Option<&'r [u8]>,
    trace: Option<&'r [u8]>,
    token: bool,
}

impl<'r> Said<'r> {
    fn by(request: &Request<'r>, token: Option<&Token>) -> Self {
        let (mut ids, mut traces, mut said) = (0, 0, Self::default());
        for field in request.fields.iter().filter(|field| field.kind == Kind::Other) {
            // Most names are told apart by their length.
            match field.name.len() {
                12 if is_alias(field.name, REQUEST_ID.as_bytes()) => {
                    ids += 1;
                    said.id = Some(field.value).filter(|_| ids == 1);
                }
                11 if is_alias(field.name, TRACE_PARENT.as_bytes()) => {
                    traces += 1;
                    said.trace = Some(field.value).filter(|_| traces == 1);
                }
                14 if field.name.eq_ignore_ascii_case(DEBUG.as_bytes()) => {
                    said.token |= token.is_some_and(|token| token.is(field.value));
                }
                _ => {}
            }
        }
        said
    }
}

/// A client's id, if it can stand everywhere: nothing in it separates, quotes or escapes.
fn request_id(value: &[u8]) -> Option<&str> {
    let is_fine = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:+/=@".contains(byte);
    let fine = !value.is_empty() && value.len() <= MARK_BYTES_MAX && value.iter().all(is_fine);
    std::str::from_utf8(value).ok().filter(|_| fine)
}

/// Where the id of the trace stands in a traceparent.
const TRACE_ID: std::ops::Range<usize> = 3..35;
/// Bytes of a traceparent of version 00.
const TRACE_BYTES: usize = 55;

/// A valid traceparent (W3C Trace Context, 3.2.2): of a later version there may be more, behind a dash.
fn trace_parent(value: &[u8]) -> Option<&str> {
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let (known, more) = value.split_at_checked(TRACE_BYTES)?;
    let mut parts = known.split(|byte| *byte == b'-');
    for (bytes, may_be_zero) in [(2, true), (32, false), (16, false), (2, true)] {
        let part = parts.next()?;
        let zero = part.iter().all(|byte| *byte == b'0');
        if part.len() != bytes || !part.iter().all(is_hex) || (zero && !may_be_zero) {
            return None;
        }
    }
    let fine = match &known[..2] {
        b"ff" => false,
        b"00" => more.is_empty(),
        _ => more.is_empty() || (more[0] == b'-' && more.iter().all(u8::is_ascii_graphic)),
    };
    std::str::from_utf8(value).ok().filter(|_| fine && value.len() <= MARK_BYTES_MAX)
}

/// 128 bits that nobody can guess, from what no other request has: a keyed hash, its key random for each process.
fn chance(of: [u64; 5]) -> [u64; 2] {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    let mut hasher = KEY.get_or_init(RandomState::new).build_hasher();
    for number in of {
        hasher.write_u64(number);
    }
    let first = hasher.finish();
    hasher.write_u64(first);
    [first, hasher.finish()]
}

/// A trace that begins here: version 00, no flags. Its bits are those of the request's id, mixed.
fn begin_trace(chance: [u64; 2], out: &mut ArrayString<MARK_BYTES_MAX>) {
    let [high, low] = chance;
    // Neither id may be zero.
    let trace = [mix(high), mix(low) | 1];
    let parent = [mix(high ^ low.rotate_left(32)) | 1];
    out.push_str("00-");
    hex(&trace, out);
    out.push('-');
    hex(&parent, out);
    out.push_str("-00");
}

/// The finish of splitmix64: each bit of the result depends on each bit of the number.
const fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

fn hex(numbers: &[u64], out: &mut ArrayString<MARK_BYTES_MAX>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for number in numbers {
        for byte in number.to_be_bytes() {
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
}

/// A name as it can stand within a field: no quotes, nothing but visible ASCII and blanks, not too long.
fn shown(name: &str) -> String {
    let show = |char: char| if matches!(char, ' '..='~') && char != '"' { char } else { '?' };
    name.chars().map(show).take(MARK_NAME_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_clients() {
        let long = "a".repeat(MARK_BYTES_MAX);
        for good in ["a", "0af7651916cd43dd8448eb211c80319c", "Root=1-67a:b/c+d@e.f_g~", &long] {
            assert_eq!(request_id(good.as_bytes()), Some(good));
        }
        for bad in [
            "",
            "a b",
            "a,b",
            "a;b",
            "a\"b",
            "a\\b",
            "<a>",
            "a'b",
            "a|b",
            "${a}",
            "\u{e9}",
            &format!("{long}a"),
        ] {
            assert_eq!(request_id(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn traces_of_clients() {
        const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let later = format!("cc{}-more", &GOOD[2..]);
        for good in [GOOD, &later, &later[..TRACE_BYTES]] {
            assert_eq!(trace_parent(good.as_bytes()), Some(good));
        }
        for bad in [
            "",
            &GOOD[1..],
            &GOOD.to_uppercase(),
            &format!("{GOOD}-more"),
            &format!("ff{}", &GOOD[2..]),
            &format!("cc{}.more", &GOOD[2..]),
            &format!("{later}{later}{later}"),
            &GOOD.replace("b7ad6b7169203331", "0000000000000000"),
            &GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &GOOD.replacen('-', "_", 1),
        ] {
            assert_eq!(trace_parent(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn what_begins_here_is_valid_and_differs() {
        let (mut id, mut trace) = (ArrayString::new(), ArrayString::new());
        let first = chance([1, 2, 3, 4, 5]);
        assert_ne!(first, chance([1, 2, 4, 4, 5]));
        hex(&first, &mut id);
        begin_trace(first, &mut trace);
        assert_eq!((id.len(), request_id(id.as_bytes())), (32, Some(id.as_str())));
        assert_eq!(trace_parent(trace.as_bytes()), Some(trace.as_str()));
        assert!(!trace.contains(id.as_str()));
        trace.clear();
        begin_trace([0, 0], &mut trace);
        assert_eq!(trace_parent(trace.as_bytes()), Some(trace.as_str()));
    }

    #[test]
    fn names_are_shown_without_quotes() {
        assert_eq!(shown("a b\"c\r\n\u{e9}"), "a b?c???");
        assert_eq!(shown(&"x".repeat(1000)).len(), MARK_NAME_CHARS_MAX);
    }
}
