//! A test per rule of the form of a head: tables, every prefix, limits, and httparse beside it.

mod meaning;

use super::*;
use crate::http::message::TargetForm;

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 16 * 1024, fields_max: 100, target_bytes_max: 8192 };

/// What a request said, owned.
#[derive(Debug, PartialEq)]
struct Said {
    method: Method,
    target: String,
    host: String,
    framing: Framing,
    keep_alive: bool,
    upgrade: Option<String>,
    expect: (bool, bool),
    used: usize,
}

fn request(bytes: &[u8]) -> Result<Option<Said>, (BadHead, usize)> {
    request_within(bytes, &LIMITS)
}

fn request_within(bytes: &[u8], limits: &HeadLimits) -> Result<Option<Said>, (BadHead, usize)> {
    let mut scratch = Scratch::new();
    match parse_request(bytes, limits, &mut scratch) {
        Parse::NeedMore => Ok(None),
        Parse::Bad(bad, at) => Err((bad, at)),
        Parse::Done(request) => Ok(Some(Said {
            method: request.method,
            target: request.target.path_and_query.to_owned(),
            host: request.host.to_owned(),
            framing: request.framing,
            keep_alive: request.keep_alive,
            upgrade: request.upgrade.map(str::to_owned),
            expect: (request.expect_continue, request.expect_other),
            used: request.head_bytes,
        })),
    }
}

fn response(bytes: &[u8], method: Method) -> Result<Option<(ResponseFraming, bool)>, (BadHead, usize)> {
    let mut scratch = Scratch::new();
    match parse_response(bytes, &LIMITS, method, &mut scratch) {
        Parse::NeedMore => Ok(None),
        Parse::Bad(bad, at) => Err((bad, at)),
        Parse::Done(response) => Ok(Some((response.framing, response.keep_alive))),
    }
}

/// The violation in a request, and what stands at its offset.
fn refused(head: &[u8]) -> (BadHead, &[u8]) {
    match request(head) {
        Err((bad, at)) => (bad, &head[at.min(head.len())..]),
        other => panic!("{:?} was not refused: {other:?}", String::from_utf8_lossy(head)),
    }
}

const GOOD: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
    b"\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
    b"POST /a?b HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 5\r\n\r\n",
    b"PUT / HTTP/1.1\r\nhost:a\r\nTRANSFER-ENCODING:\t chunked \t\r\n\r\n",
    b"GET http://a.example/x HTTP/1.1\r\nHost: b\r\nX-Empty:\r\nX-Blank: \t \r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"PROPFIND /d HTTP/1.1\r\nHost: a\r\nX-Text: b\xfccher \xf0\x9f\x8d\x8e\r\nExpect: 100-continue\r\n\r\n",
    b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, keep-alive\r\nUpgrade: websocket\r\n\r\n",
];

#[test]
fn every_prefix_of_a_good_request_needs_more() {
    for head in GOOD {
        for end in 0..head.len() {
            assert_eq!(request(&head[..end]), Ok(None), "{:?}", String::from_utf8_lossy(&head[..end]));
        }
        let alone = request(head).unwrap().unwrap();
        assert_eq!(alone.used, head.len());
        let mut followed = head.to_vec();
        followed.extend_from_slice(b"\x00\nrubbish");
        assert_eq!(request(&followed).unwrap().unwrap(), alone);
    }
}

#[test]
fn every_prefix_of_a_good_response_needs_more() {
    for head in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: x\r\n\r\n"[..],
        b"HTTP/1.0 404 \r\n\r\n",
        b"HTTP/1.1 302\r\nLocation: /\r\n\r\n",
        b"HTTP/1.1 200 Gr\xfc\xdf dich\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        for end in 0..head.len() {
            assert_eq!(response(&head[..end], Method::Get), Ok(None), "{:?}", &head[..end]);
        }
        assert!(response(head, Method::Get).unwrap().is_some());
    }
}

#[test]
fn a_method_is_what_it_is_called() {
    for (text, method) in [
        ("GET", Method::Get),
        ("GDT", Method::Other),
        ("GETS", Method::Other),
        ("G", Method::Other),
        ("HEAD", Method::Head),
        ("a!b", Method::Other),
    ] {
        let head = format!("{text} / HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut scratch = Scratch::new();
        let Parse::Done(request) = parse_request(head.as_bytes(), &LIMITS, &mut scratch) else {
            panic!("{text}")
        };
        assert_eq!((request.method, request.method_text), (method, text));
    }
}

#[test]
fn refuses_a_broken_request_line() {
    use BadHead::{
        AsteriskWithoutOptions, BareCr, BareLf, EmptyLines, HostInvalid, MethodConnect, MethodInvalid,
        TargetInvalid, Tls, VersionInvalid, VersionUnknown,
    };
    for (line, expected) in [
        ("\n", EmptyLines),
        ("\r\n\r\n", EmptyLines),
        ("\r\n\n", EmptyLines),
        ("\rGET / HTTP/1.1\r\n", EmptyLines),
        (" GET / HTTP/1.1\r\n", MethodInvalid),
        ("\tGET / HTTP/1.1\r\n", MethodInvalid),
        ("GE\0T / HTTP/1.1\r\n", MethodInvalid),
        ("GE(T / HTTP/1.1\r\n", MethodInvalid),
        ("G\u{c9}T / HTTP/1.1\r\n", MethodInvalid),
        ("GET\t/ HTTP/1.1\r\n", MethodInvalid),
        ("GET\r\n", MethodInvalid),
        ("\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03", Tls),
        ("GET  / HTTP/1.1\r\n", TargetInvalid),
        ("GET \t/ HTTP/1.1\r\n", TargetInvalid),
        ("GET /a\tb HTTP/1.1\r\n", TargetInvalid),
        ("GET /a\0b HTTP/1.1\r\n", TargetInvalid),
        ("GET /a\x7fb HTTP/1.1\r\n", TargetInvalid),
        ("GET /b\u{fc}cher HTTP/1.1\r\n", TargetInvalid),
        ("GET /a#b HTTP/1.1\r\n", TargetInvalid),
        ("GET a HTTP/1.1\r\n", TargetInvalid),
        ("GET ?a HTTP/1.1\r\n", TargetInvalid),
        ("GET a.example:80 HTTP/1.1\r\n", TargetInvalid),
        ("GET ftp://a/ HTTP/1.1\r\n", TargetInvalid),
        ("GET //a:b@c HTTP/1.1 \r\n", VersionInvalid),
        ("GET http://user@a.example/ HTTP/1.1\r\n", HostInvalid),
        ("GET http://user:pw@a.example/ HTTP/1.1\r\n", HostInvalid),
        ("GET http:///x HTTP/1.1\r\n", HostInvalid),
        ("GET http://a,b/ HTTP/1.1\r\n", HostInvalid),
        ("GET http://a:99999/ HTTP/1.1\r\n", HostInvalid),
        ("GET * HTTP/1.1\r\n", AsteriskWithoutOptions),
        ("OPTIONS ** HTTP/1.1\r\n", TargetInvalid),
        ("CONNECT a.example:443 HTTP/1.1\r\n", MethodConnect),
        ("CONNECT / HTTP/1.1\r\n", MethodConnect),
        ("GET /\r\n", VersionInvalid),
        ("GET / \r\n", VersionInvalid),
        ("GET /  HTTP/1.1\r\n", VersionInvalid),
        ("GET / b HTTP/1.1\r\n", VersionInvalid),
        ("GET / http/1.1\r\n", VersionInvalid),
        ("GET / Http/1.1\r\n", VersionInvalid),
        ("GET / HTTP/1.1x\r\n", VersionInvalid),
        ("GET / HTTP/1.10\r\n", VersionInvalid),
        ("GET / HTTP/1.1 \r\n", VersionInvalid),
        ("GET / HTTP/11\r\n", VersionInvalid),
        ("GET / HTTP/1\r\n", VersionInvalid),
        ("GET / HTTPS/1.1\r\n", VersionInvalid),
        ("GET / ICY/1.1\r\n", VersionInvalid),
        ("GET / HTTP/1.2\r\n", VersionUnknown),
        ("GET / HTTP/0.9\r\n", VersionUnknown),
        ("GET / HTTP/2.0\r\n", VersionUnknown),
        ("GET / HTTP/9.9\r\n", VersionUnknown),
        ("PRI * HTTP/2.0\r\n", VersionUnknown),
        ("GET / HTTP/1.1\n", BareLf),
        ("GET / HTTP/1.1\r\r\n", BareCr),
        ("GET / HTTP/1.1\rHost: a\r\n", BareCr),
        ("GET /\n", BareLf),
        ("GET /\rHTTP/1.1\r\n", BareCr),
    ] {
        let head = format!("{line}Host: a\r\n\r\n");
        assert_eq!(refused(head.as_bytes()).0, expected, "{line:?}");
    }
}

#[test]
fn refuses_a_broken_field_line() {
    use BadHead::{
        BareCr, BareLf, BlankBeforeColon, FieldNameEmpty, FieldNameInvalid, FieldValueInvalid,
        FieldWithoutColon, ObsFold,
    };
    for (lines, expected) in [
        (&b"X-A: b\n"[..], BareLf),
        (b"X-A:\n", BareLf),
        (b"X-A: \n", BareLf),
        (b"X-A: b\r\n\n", BareLf),
        (b"\n", BareLf),
        (b"X-A: b\nX-C: d\r\n", BareLf),
        (b"X-A: b\rX-C: d\r\n", BareCr),
        (b"X-A: b\r\r\n", BareCr),
        (b"X-A: \rb\r\n", BareCr),
        (b"X-A:\r\r\n", BareCr),
        (b"\rX-A: b\r\n", BareCr),
        (b"X-A: b\r\n c\r\n", ObsFold),
        (b"X-A: b\r\n\tc\r\n", ObsFold),
        (b"X-A:\r\n b\r\n", ObsFold),
        (b" X-A: b\r\n", ObsFold),
        (b"\tX-A: b\r\n", ObsFold),
        (b" \r\n", ObsFold),
        (b"X-A : b\r\n", BlankBeforeColon),
        (b"X-A\t: b\r\n", BlankBeforeColon),
        (b"X A: b\r\n", BlankBeforeColon),
        (b": b\r\n", FieldNameEmpty),
        (b":\r\n", FieldNameEmpty),
        (b"X-A\r\n", FieldWithoutColon),
        (b"X-A\0: b\r\n", FieldNameInvalid),
        (b"\0X-A: b\r\n", FieldNameInvalid),
        (b"X(A): b\r\n", FieldNameInvalid),
        (b"X\x0bA: b\r\n", FieldNameInvalid),
        (b"X\xc4: b\r\n", FieldNameInvalid),
        (b"\"X\": b\r\n", FieldNameInvalid),
        (b"X/A: b\r\n", FieldNameInvalid),
        (b"X-A: b\0c\r\n", FieldValueInvalid),
        (b"X-A: \x0bb\r\n", FieldValueInvalid),
        (b"X-A: b\x0c\r\n", FieldValueInvalid),
        (b"X-A: b\x7f\r\n", FieldValueInvalid),
        (b"X-A: \x1b[31m\r\n", FieldValueInvalid),
        (b"X-A: \x01\r\n", FieldValueInvalid),
    ] {
        // At the start of the fields, in the middle, and at the end.
        let host: &[u8] = b"Host: a\r\n";
        let line: &[u8] = b"GET / HTTP/1.1\r\n";
        for head in [[line, lines, host, b"\r\n"].concat(), [line, host, lines, b"\r\n"].concat()] {
            assert_eq!(refused(&head).0, expected, "{:?}", String::from_utf8_lossy(&head));
        }
        let answer = [b"HTTP/1.1 200 OK\r\n", lines, b"\r\n"].concat();
        assert_eq!(response(&answer, Method::Get).map_err(|bad| bad.0), Err(expected), "{:?}", answer);
    }
}

#[test]
fn every_control_byte_is_refused_wherever_it_stands_in_a_value_or_name() {
    for byte in (0..0x20).chain([0x7f]) {
        for at in 0..4 {
            let mut head = b"GET / HTTP/1.1\r\nHost: a\r\nX-Ab: wxyz\r\n\r\n".to_vec();
            let (name, value) = (25 + at, 31 + at);
            let mut in_value = head.clone();
            in_value[value] = byte;
            // A tab is a blank within a value.
            assert_eq!(request(&in_value).is_ok(), byte == b'\t', "{byte:#x} at {at}");
            head[name] = byte;
            assert!(request(&head).is_err(), "{byte:#x} at {at}");
        }
    }
}

#[test]
fn the_offset_shows_the_bad_byte() {
    for (head, expected, rest) in [
        ("GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", BadHead::BlankBeforeColon, " : b\r\n\r\n"),
        ("\r\nGET / HTTP/1.1\r\nHost: a\n\r\n", BadHead::BareLf, "\n\r\n"),
        ("GET / HTTP/2.0\r\n\r\n", BadHead::VersionUnknown, "2.0\r\n\r\n"),
        ("GET /a b HTTP/1.1\r\n\r\n", BadHead::VersionInvalid, "b HTTP/1.1\r\n\r\n"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", BadHead::HostTwice, "Host: b\r\n\r\n"),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", BadHead::HostInvalid, "Host: a b\r\n\r\n"),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
            BadHead::ContentLengthInvalid,
            "Content-Length: x\r\n\r\n",
        ),
        ("\r\nGET a HTTP/1.1\r\nHost: a\r\n\r\n", BadHead::TargetInvalid, "a HTTP/1.1\r\nHost: a\r\n\r\n"),
    ] {
        assert_eq!(refused(head.as_bytes()), (expected, rest.as_bytes()));
    }
}

#[test]
fn a_violation_is_seen_before_the_head_is_complete() {
    for (start, expected) in [
        ("\x16", BadHead::Tls),
        ("GET / HTTP/1.1\n", BadHead::BareLf),
        ("GET / HTTP/1.1\r\nHost: a\n", BadHead::BareLf),
        ("GET / HTTP/1.1\r\nHost: a\r\n b", BadHead::ObsFold),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n", BadHead::HostTwice),
        ("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n", BadHead::ContentLengthTwice),
        ("GET / HTTP/2", BadHead::VersionUnknown),
        ("\r\n\r", BadHead::EmptyLines),
        ("\n", BadHead::EmptyLines),
        ("\rG", BadHead::EmptyLines),
        ("GET / HTTP/1.1\r\nA", BadHead::TooManyFields),
    ] {
        let limits = HeadLimits { fields_max: if start.ends_with('A') { 0 } else { 100 }, ..LIMITS };
        assert_eq!(
            request_within(start.as_bytes(), &limits).map_err(|bad| bad.0),
            Err(expected),
            "{start:?}"
        );
    }
}

#[test]
fn host_is_there_once_and_valid() {
    let with = |fields: &str| request(format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes());
    let host = |fields: &str| with(fields).map(|said| said.unwrap().host).map_err(|bad| bad.0);
    assert_eq!(host("Host: a.example:8080\r\n"), Ok("a.example:8080".into()));
    for (fields, expected) in [
        ("", BadHead::HostMissing),
        ("X-Host: a\r\n", BadHead::HostMissing),
        ("Host: a\r\nHost: b\r\n", BadHead::HostTwice),
        ("Host: a\r\nhOST: a\r\n", BadHead::HostTwice),
        ("Host:\r\n", BadHead::HostInvalid),
        ("Host: a b\r\n", BadHead::HostInvalid),
        ("Host: a, b\r\n", BadHead::HostInvalid),
        ("Host: u@a\r\n", BadHead::HostInvalid),
        ("Host: a/b\r\n", BadHead::HostInvalid),
        ("Host: http://a\r\n", BadHead::HostInvalid),
        ("Host: a:x\r\n", BadHead::HostInvalid),
        ("Host: [::1\r\n", BadHead::HostInvalid),
        ("Host: b\u{fc}cher\r\n", BadHead::HostInvalid),
    ] {
        assert_eq!(host(fields), Err(expected), "{fields:?}");
    }
    let old = |head: &str| request(head.as_bytes()).map(|said| said.unwrap().host).map_err(|bad| bad.0);
    assert_eq!(old("GET / HTTP/1.0\r\n\r\n"), Ok(String::new()));
    assert_eq!(old("GET / HTTP/1.0\r\nHost: a\r\n\r\n"), Ok("a".into()));
    assert_eq!(old("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"), Err(BadHead::HostTwice));
    assert_eq!(old("GET / HTTP/1.0\r\nHost: a b\r\n\r\n"), Err(BadHead::HostInvalid));
}

#[test]
fn an_absolute_form_names_the_host_and_host_is_still_checked() {
    let mut scratch = Scratch::new();
    let head = b"GET HTTP://b.example:81/x?y HTTP/1.1\r\nHost: a.example\r\n\r\n";
    let Parse::Done(request) = parse_request(head, &LIMITS, &mut scratch) else { panic!("refused") };
    assert_eq!((request.host, request.host_name()), ("b.example:81", "b.example"));
    assert_eq!(request.target.form, TargetForm::Absolute);
    assert_eq!((request.target.path_and_query, request.target.path()), ("/x?y", "/x"));
    for (target, path_and_query, path) in [
        ("https://a", "", "/"),
        ("http://a?q", "?q", "/"),
        ("http://a/", "/", "/"),
        ("http://[::1]:8/z", "/z", "/z"),
    ] {
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut scratch = Scratch::new();
        let Parse::Done(request) = parse_request(head.as_bytes(), &LIMITS, &mut scratch) else {
            panic!("{target}")
        };
        assert_eq!((request.target.path_and_query, request.target.path()), (path_and_query, path));
    }
    let head = b"OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut scratch = Scratch::new();
    let Parse::Done(request) = parse_request(head, &LIMITS, &mut scratch) else { panic!("refused") };
    assert_eq!((request.target.path(), request.host), ("*", "b"));
    for head in ["GET http://a/ HTTP/1.1\r\n\r\n", "GET http://a/ HTTP/1.1\r\nHost: a b\r\n\r\n"] {
        assert!(super::tests::request(head.as_bytes()).is_err(), "{head:?}");
    }
}

#[test]
fn limits_hold_before_and_after_the_head_is_complete() {
    let limits = HeadLimits { head_bytes_max: 64, fields_max: 2, target_bytes_max: 8 };
    let bad = |head: &[u8]| request_within(head, &limits).map_err(|bad| bad.0);
    let head = |bytes: usize| {
        let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
        format!("{start}{}\r\n\r\n", "x".repeat(bytes - start.len() - 4)).into_bytes()
    };
    assert!(bad(&head(64)).unwrap().is_some());
    assert_eq!(bad(&head(65)), Err(BadHead::HeadTooLarge));
    assert_eq!(bad(&head(600)), Err(BadHead::HeadTooLarge));
    assert_eq!(bad(&head(600)[..63]), Ok(None));
    assert_eq!(bad(&head(600)[..64]), Err(BadHead::HeadTooLarge));
    // The empty line before a request does not count.
    assert!(bad(&[b"\r\n", &head(64)[..]].concat()).unwrap().is_some());
    assert_eq!(bad(&[b"\r\n", &head(65)[..]].concat()), Err(BadHead::HeadTooLarge));

    assert!(bad(b"GET /1234567 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().is_some());
    assert_eq!(bad(b"GET /12345678 HTTP/1.1\r\nHost: a\r\n\r\n"), Err(BadHead::TargetTooLong));
    assert_eq!(bad(b"GET /1234567"), Ok(None));
    assert_eq!(bad(b"GET /12345678"), Err(BadHead::TargetTooLong));

    assert!(bad(b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\n").unwrap().is_some());
    assert_eq!(bad(b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nC: d\r\n\r\n"), Err(BadHead::TooManyFields));
    assert_eq!(bad(b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nC"), Err(BadHead::TooManyFields));

    for (violation, status) in
        [(BadHead::HeadTooLarge, 431), (BadHead::TooManyFields, 431), (BadHead::TargetTooLong, 414)]
    {
        assert_eq!(violation.close().status(), Some(status));
    }
    let huge =
        HeadLimits { head_bytes_max: usize::MAX, fields_max: usize::MAX, target_bytes_max: usize::MAX };
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(FIELDS_MAX - 1));
    assert!(request_within(many.as_bytes(), &huge).unwrap().is_some());
    let more = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(FIELDS_MAX));
    assert_eq!(request_within(more.as_bytes(), &huge).map_err(|bad| bad.0), Err(BadHead::TooManyFields));
    let long = vec![b'x'; 2 * HEAD_BYTES_MAX];
    let long = [b"GET / HTTP/1.1\r\nHost: a\r\nX: ", &long[..], b"\r\n\r\n"].concat();
    assert_eq!(request_within(&long, &huge).map_err(|bad| bad.0), Err(BadHead::HeadTooLarge));
}

/// Changes `head` in a few places, as `seed` has it.
fn mutated(head: &[u8], seed: &mut u64) -> Vec<u8> {
    let mut next = |below: usize| {
        // xorshift64 (Marsaglia 2003)
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        (*seed % below as u64) as usize
    };
    const BYTES: &[u8] = b"\r\n: \t\0a1-_#?*/,;\x7f\x80\xff\x0bHT@";
    let mut head = head.to_vec();
    for _ in 0..=next(3) {
        let length = head.len();
        let (at, byte) = (next(length), BYTES[next(BYTES.len())]);
        match next(4) {
            0 => head[at] = byte,
            1 => head.insert(at, byte),
            2 => drop(head.remove(at)),
            _ => head.swap(at, (at + 1) % length),
        }
    }
    head
}

#[test]
fn httparse_accepts_what_we_accept_and_reads_the_same() {
    let (mut seed, mut accepted, mut refused) = (0x9e37_79b9_7f4a_7c15, 0, 0);
    for round in 0..20_000 {
        let head = mutated(GOOD[round % GOOD.len()], &mut seed);
        let mut scratch = Scratch::new();
        let skipped = if head.starts_with(b"\r\n") { 2 } else { 0 };
        let found = parse_request(&head, &LIMITS, &mut scratch);
        let form = diagnose(&head[skipped..], Start::Request, &LIMITS);
        let Parse::Done(request) = found else {
            refused += 1;
            assert!(!matches!(found, Parse::NeedMore) || form != Ok(true) || head == b"\r");
            continue;
        };
        accepted += 1;
        assert_eq!(form, Ok(true));
        let mut slots = [httparse::EMPTY_HEADER; 16];
        let mut other = httparse::Request::new(&mut slots);
        assert_eq!(other.parse(&head), Ok(httparse::Status::Complete(request.head_bytes)));
        assert_eq!(other.method, Some(request.method_text));
        let theirs = other.headers.iter().map(|field| (field.name, field.value));
        assert!(theirs.eq(request.fields.iter().map(|field| (field.name_text(), field.value))));
    }
    assert!(accepted > 2_000 && refused > 2_000, "{accepted} accepted, {refused} refused");
}
