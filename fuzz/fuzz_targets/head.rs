//! Heads of requests and responses: the fast reader against the careful one, and what is written against what was read.
//!
//! The first byte chooses role and options, the rest is the head.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringgate::http::h1::head::{
    BadHead, HeadLimits, Parse, Scratch, Start, diagnose, parse_request, parse_response,
};
use ringgate::http::h1::write::{Connection, Forward, OutFraming, Relay, write_request, write_response};
use ringgate::http::message::{Field, Framing, Kind, Method, Request, Response, ResponseFraming, Version};
use ringgate::http::rules::FieldRules;

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 4096, fields_max: 20, target_bytes_max: 200 };
const WIDE: HeadLimits =
    HeadLimits { head_bytes_max: 16 * 1024, fields_max: 128, target_bytes_max: 16 * 1024 };
const HOP: [&str; 7] = [
    "keep-alive",
    "proxy-connection",
    "te",
    "http2-settings",
    "proxy",
    "content_length",
    "transfer_encoding",
];

fuzz_target!(|input: &[u8]| {
    let Some((options, bytes)) = input.split_first() else { return };
    if options & 1 == 0 {
        request(bytes, *options);
    } else {
        response(bytes, *options);
    }
});

fn request(bytes: &[u8], options: u8) {
    let mut scratch = Scratch::new();
    let skipped = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let form = diagnose(&bytes[skipped..], Start::Request, &LIMITS);
    match parse_request(bytes, &LIMITS, &mut scratch) {
        Parse::NeedMore => assert!(form == Ok(false) || bytes == b"\r", "{form:?}"),
        Parse::Bad(bad, at) => {
            assert!(at <= bytes.len());
            match form {
                Err((named, from)) => {
                    let too_large = matches!(bad, BadHead::TargetTooLong | BadHead::HeadTooLarge);
                    assert!(
                        (named, from + skipped) == (bad, at) || too_large,
                        "{form:?}, but {bad:?} at {at}"
                    );
                }
                // Well formed, so it is the meaning or the size that was refused.
                Ok(_) => assert!(is_of_meaning(bad), "{bad:?} at {at}"),
            }
        }
        Parse::Done(request) => {
            let head = &bytes[skipped..request.head_bytes];
            assert_eq!(diagnose(head, Start::Request, &LIMITS), Ok(true));
            httparse_agrees_on_request(head, &request);
            let mut again = Scratch::new();
            let short = parse_request(&bytes[..request.head_bytes - 1], &LIMITS, &mut again);
            assert!(matches!(short, Parse::NeedMore), "{short:?}");
            forward(&request, options);
        }
    }
}

/// What we accept, httparse accepts, and reads the same from it.
fn httparse_agrees_on_request(head: &[u8], request: &Request) {
    let mut slots = [httparse::EMPTY_HEADER; 20];
    let mut other = httparse::Request::new(&mut slots);
    assert_eq!(other.parse(head), Ok(httparse::Status::Complete(head.len())));
    assert_eq!(other.method, Some(request.method_text));
    assert_eq!(other.version, Some(u8::from(request.version == Version::Http11)));
    same_fields(other.headers, request.fields);
}

fn same_fields(theirs: &[httparse::Header], ours: &[Field]) {
    assert_eq!(theirs.len(), ours.len());
    for (theirs, ours) in theirs.iter().zip(ours) {
        assert_eq!((theirs.name, theirs.value), (ours.name_text(), ours.value));
    }
}

const fn is_of_meaning(bad: BadHead) -> bool {
    use BadHead::*;
    matches!(
        bad,
        HeadTooLarge
            | TargetTooLong
            | MethodConnect
            | TargetInvalid
            | AsteriskWithoutOptions
            | HostMissing
            | HostInvalid
            | ContentLengthInvalid
            | TransferEncodingInvalid
            | TransferEncodingInHttp10
            | LengthAndTransferEncoding
            | CodingUnknown
    )
}

fn forward(request: &Request, options: u8) {
    let forward = Forward {
        client_text: if options & 2 == 0 { "2001:db8::1" } else { "" },
        proto: "https",
        trusted: options & 4 != 0,
        forwarded: options & 8 != 0,
        subject: (options & 16 != 0).then_some(("X-Subject", Some("CN=a\r\nb: c"))),
        host_default: "default.example",
        keep_alive: options & 32 != 0,
        upgrade: options & 64 != 0,
        extra: if options & 64 == 0 { &[] } else { &[("X-Request-Id", Some("a")), ("tracestate", None)] },
    };
    let rules = rules(options & 128 != 0);
    let mut out = vec![0; 16 * 1024];
    let Some(used) = write_request(request, &forward, &rules, &mut out) else { panic!("16 KiB are enough") };
    let written = &out[..used];
    assert_eq!(write_request(request, &forward, &rules, &mut vec![0; used - 1]), None);
    assert_eq!(diagnose(written, Start::Request, &WIDE), Ok(true), "{}", String::from_utf8_lossy(written));
    let mut scratch = Scratch::new();
    let Parse::Done(again) = parse_request(written, &WIDE, &mut scratch) else {
        panic!("{}", String::from_utf8_lossy(written))
    };
    assert_eq!((again.head_bytes, again.version), (used, Version::Http11));
    assert_eq!((again.method_text, again.target.path()), (request.method_text, request.target.path()));
    assert_eq!(again.target.query(), request.target.query());
    assert_eq!(again.framing, request.framing);
    assert_eq!(again.expect_continue, request.expect_continue);
    assert!(!again.expect_other);
    let upgrade = if forward.upgrade { request.upgrade } else { None };
    assert_eq!(again.upgrade, upgrade);
    assert_eq!(again.keep_alive, forward.keep_alive || upgrade.is_some());
    if request.host.is_empty() {
        assert_eq!(again.host, "default.example");
    } else {
        assert_eq!(again.host, request.host);
    }
    let names = lines(written);
    check_lines(&names, matches!(again.framing, Framing::Length(_)), again.framing == Framing::Chunked);
    if !forward.trusted {
        for name in ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"] {
            assert!(names.iter().filter(|found| *found == name).count() <= 1, "{name}");
        }
    }
}

fn response(bytes: &[u8], options: u8) {
    let method = if options & 2 == 0 { Method::Get } else { Method::Head };
    let form = diagnose(bytes, Start::Response, &LIMITS);
    let mut scratch = Scratch::new();
    match parse_response(bytes, &LIMITS, method, &mut scratch) {
        Parse::NeedMore => assert_eq!(form, Ok(false)),
        Parse::Bad(bad, at) => match form {
            Err(named) => {
                assert!(named == (bad, at) || bad == BadHead::HeadTooLarge, "{form:?}, but {bad:?} at {at}")
            }
            Ok(_) => assert!(is_of_meaning(bad), "{bad:?} at {at}"),
        },
        Parse::Done(response) => {
            let head = &bytes[..response.head_bytes];
            assert_eq!(diagnose(head, Start::Response, &LIMITS), Ok(true));
            let mut slots = [httparse::EMPTY_HEADER; 20];
            let mut other = httparse::Response::new(&mut slots);
            assert_eq!(other.parse(head), Ok(httparse::Status::Complete(head.len())));
            assert_eq!(other.code, Some(response.status));
            same_fields(other.headers, response.fields);
            relay(&response, method, options);
        }
    }
}

fn relay(response: &Response, method: Method, options: u8) {
    let framing = match response.framing {
        ResponseFraming::None => OutFraming::None,
        ResponseFraming::Length(length) => OutFraming::Length(length),
        ResponseFraming::Chunked => OutFraming::Chunked,
        ResponseFraming::UntilClose if options & 4 == 0 => OutFraming::Chunked,
        ResponseFraming::UntilClose => OutFraming::UntilClose,
    };
    let close = options & 8 != 0 || framing == OutFraming::UntilClose;
    let relay = Relay {
        version: if options & 16 == 0 { Version::Http11 } else { Version::Http10 },
        connection: if close { Connection::Close } else { Connection::KeepAlive },
        framing,
        date: Some("Sun, 06 Nov 1994 08:49:37 GMT"),
        extra: if options & 32 == 0 { &[] } else { &[("X-Request-Id", Some("a"))] },
    };
    let rules = rules(options & 128 != 0);
    let mut out = vec![0; 16 * 1024];
    let Some(used) = write_response(response, &relay, &rules, &mut out) else { panic!("16 KiB are enough") };
    let written = &out[..used];
    let mut scratch = Scratch::new();
    let Parse::Done(again) = parse_response(written, &WIDE, method, &mut scratch) else {
        panic!("{}", String::from_utf8_lossy(written))
    };
    assert_eq!((again.head_bytes, again.status), (used, response.status));
    let expected = match framing {
        OutFraming::None => ResponseFraming::None,
        OutFraming::Length(length) => ResponseFraming::Length(length),
        OutFraming::Chunked => ResponseFraming::Chunked,
        OutFraming::UntilClose => ResponseFraming::UntilClose,
    };
    assert_eq!((again.framing, again.keep_alive), (expected, !close));
    if framing == OutFraming::None && !matches!(response.status, 100..=199 | 204) {
        assert_eq!(again.content_length, response.content_length);
    }
    let names = lines(written);
    check_lines(&names, again.content_length.is_some(), framing == OutFraming::Chunked);
    assert!(response.is_interim() || again.has(Kind::Date));
}

/// Field names of a head, lower case, found by a reader that knows nothing but CRLF and the first colon.
fn lines(head: &[u8]) -> Vec<String> {
    let text: String = head.iter().map(|byte| char::from(*byte)).collect();
    let Some(fields) = text.strip_suffix("\r\n\r\n") else { panic!("no empty line at the end") };
    assert!(!fields.contains("\r\n\r\n") && !fields.replace("\r\n", "").contains(['\r', '\n', '\0']));
    let name = |line: &str| line.split_once(": ").map(|(name, _)| name.to_ascii_lowercase());
    fields.split("\r\n").skip(1).map(|line| name(line).unwrap_or_else(|| panic!("{line:?}"))).collect()
}

fn check_lines(names: &[String], length: bool, chunked: bool) {
    let count = |name: &str| names.iter().filter(|found| *found == name).count();
    assert_eq!(count("content-length"), usize::from(length));
    assert_eq!(count("transfer-encoding"), usize::from(chunked));
    assert!(count("connection") <= 1 && count("upgrade") <= 1 && count("host") <= 1);
    assert!(HOP[..4].iter().chain(&HOP[5..]).all(|name| count(name) == 0), "{names:?}");
}

fn rules(some: bool) -> FieldRules {
    let pair = |name: &str| vec![(name.to_owned(), "value".to_owned())];
    if !some {
        return FieldRules::default();
    }
    FieldRules::new(vec!["cookie".into()], pair("X-Set"), pair("X-Add")).unwrap_or_default()
}
