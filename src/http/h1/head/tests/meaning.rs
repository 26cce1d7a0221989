//! What a well-formed head means: framing, persistence, upgrades, and the payloads that smugglers use.

use super::{LIMITS, refused, request, response};
use crate::http::h1::head::{BadHead, Parse, Scratch, parse_request, parse_response};
use crate::http::message::{Framing, Kind, Method, ResponseFraming};

/// Requests that two parsers have read differently somewhere, with the answer they get.
const SMUGGLED: &[(&str, u16)] = &[
    // CL.TE and TE.CL.
    ("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", 400),
    ("Transfer-Encoding: chunked\r\nContent-Length: 6\r\n", 400),
    ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", 400),
    ("Content-Length: 6\r\nTransfer-Encoding: identity\r\n", 400),
    // CL.CL.
    ("Content-Length: 6\r\nContent-Length: 6\r\n", 400),
    ("Content-Length: 6\r\nContent-Length: 5\r\n", 400),
    ("Content-Length: 6\r\ncontent-length: 0\r\n", 400),
    ("Content-Length: 6, 6\r\n", 400),
    ("Content-Length: 6,5\r\n", 400),
    ("Content-Length: 6 5\r\n", 400),
    ("Content-Length: +6\r\n", 400),
    ("Content-Length: -6\r\n", 400),
    ("Content-Length: 0x6\r\n", 400),
    ("Content-Length: 6_0\r\n", 400),
    ("Content-Length: 6.0\r\n", 400),
    ("Content-Length: 1e3\r\n", 400),
    ("Content-Length: \"6\"\r\n", 400),
    ("Content-Length:\r\n", 400),
    ("Content-Length: 18446744073709551622\r\n", 400),
    ("Content-Length: 99999999999999999999999\r\n", 400),
    ("Content-Length : 6\r\n", 400),
    ("Content-Length\t: 6\r\n", 400),
    (" Content-Length: 6\r\n", 400),
    ("Content-Length: 6\r\n 0\r\n", 400),
    ("Content-\0Length: 6\r\n", 400),
    // TE.TE.
    ("Transfer-Encoding : chunked\r\n", 400),
    ("Transfer-Encoding\t: chunked\r\n", 400),
    ("Transfer-Encoding: xchunked\r\n", 400),
    ("Transfer-Encoding: chunkedx\r\n", 400),
    ("Transfer-Encoding: x chunked\r\n", 400),
    ("Transfer-Encoding: \x0bchunked\r\n", 400),
    ("Transfer-Encoding: \x0cchunked\r\n", 400),
    ("Transfer-Encoding: chunked\x0b\r\n", 400),
    ("Transfer-Encoding:\0chunked\r\n", 400),
    ("Transfer-Encoding: chunked\0\r\n", 400),
    ("Transfer-Encoding:\r\n chunked\r\n", 400),
    ("Transfer-Encoding:\n chunked\r\n", 400),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", 400),
    ("Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n", 400),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
    ("Transfer-Encoding: chunked, identity\r\n", 400),
    ("Transfer-Encoding: chunked, chunked\r\n", 400),
    ("Transfer-Encoding: identity, chunked\r\n", 501),
    ("Transfer-Encoding: gzip, chunked\r\n", 501),
    ("Transfer-Encoding: identity\r\n", 400),
    ("Transfer-Encoding: 'chunked'\r\n", 400),
    ("Transfer-Encoding: \"chunked\"\r\n", 400),
    ("Transfer-Encoding: chunked;foo=bar\r\n", 400),
    ("Transfer-Encoding: ,chunked\r\n", 400),
    ("Transfer-Encoding: chunk\u{212a}ed\r\n", 400),
    ("Transfer-Encoding: chun\u{212a}ed\r\n", 400),
    ("Transfer-Encoding:\r\n", 400),
    ("\0Transfer-Encoding: chunked\r\n", 400),
    ("X: y\rTransfer-Encoding: chunked\r\n", 400),
    ("X: y\nTransfer-Encoding: chunked\r\n", 400),
    ("X: y\r\n\rTransfer-Encoding: chunked\r\n", 400),
    ("Transfer\u{2010}Encoding: chunked\r\n", 400),
    (" Transfer-Encoding: chunked\r\n", 400),
    ("Foo\r\nTransfer-Encoding: chunked\r\n", 400),
    (": x\r\nTransfer-Encoding: chunked\r\n", 400),
    // Another request behind an early end of the head.
    ("X: y\n\nGET /admin HTTP/1.1\r\n", 400),
    ("\nGET /admin HTTP/1.1\r\n", 400),
    ("Host: b\r\n", 400),
];

#[test]
fn refuses_what_smugglers_send() {
    for (fields, status) in SMUGGLED {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n0\r\n\r\n");
        let (bad, _) = refused(head.as_bytes());
        assert_eq!(bad.close().status(), Some(*status), "{fields:?} {bad:?}");
    }
    let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(refused(old).0, BadHead::TransferEncodingInHttp10);
}

#[test]
fn framing_and_persistence_of_good_requests() {
    for (head, framing, keep_alive) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n", Framing::None, true),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n", Framing::None, false),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: Keep-Alive, CLOSE\r\n", Framing::None, false),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: close\r\n", Framing::None, false),
        ("GET / HTTP/1.1\r\nHost: a\r\nProxy-Connection: close\r\n", Framing::None, true),
        ("GET / HTTP/1.0\r\n", Framing::None, false),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n", Framing::None, true),
        ("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n", Framing::None, false),
        ("GET / HTTP/1.0\r\nProxy-Connection: keep-alive\r\n", Framing::None, false),
        ("POST / HTTP/1.0\r\nContent-Length: 3\r\n", Framing::Length(3), false),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n", Framing::Length(0), true),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: cHuNkEd\r\n", Framing::Chunked, true),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 010\r\n", Framing::Length(10), true),
    ] {
        let said = request(format!("{head}\r\n").as_bytes()).unwrap().unwrap();
        assert_eq!((said.framing, said.keep_alive), (framing, keep_alive), "{head:?}");
    }
}

#[test]
fn framing_and_persistence_of_answers() {
    use ResponseFraming::{Chunked, Length, None as NoBody, UntilClose};
    for (head, method, framing, keep_alive) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", Method::Get, Length(5), true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n", Method::Get, Length(5), false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n", Method::Get, Length(5), false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n", Method::Get, Length(5), true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", Method::Get, Chunked, true),
        ("HTTP/1.1 200 OK\r\n", Method::Get, UntilClose, false),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", Method::Get, UntilClose, false),
        ("HTTP/1.1 200 OK\r\n", Method::Head, NoBody, true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", Method::Head, NoBody, true),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n", Method::Get, NoBody, true),
        ("HTTP/1.1 204 No Content\r\n", Method::Delete, NoBody, true),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n", Method::Delete, NoBody, true),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n", Method::Delete, NoBody, false),
        ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n", Method::Delete, NoBody, false),
        ("HTTP/1.1 100 Continue\r\n", Method::Post, NoBody, true),
        ("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n", Method::Get, NoBody, true),
        ("HTTP/1.1 999 \r\nContent-Length: 0\r\n", Method::Get, Length(0), true),
    ] {
        let found = response(format!("{head}\r\n").as_bytes(), method);
        assert_eq!(found, Ok(Some((framing, keep_alive))), "{head:?}");
    }
}

#[test]
fn refuses_a_broken_answer() {
    use BadHead::*;
    for (head, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n", ContentLengthTwice),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n", LengthAndTransferEncoding),
        ("HTTP/1.1 200 OK\r\nContent-Length: five\r\n", ContentLengthInvalid),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: five\r\n", ContentLengthInvalid),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n", TransferEncodingInvalid),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n", CodingUnknown),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            TransferEncodingTwice,
        ),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n", TransferEncodingInHttp10),
        ("\r\nHTTP/1.1 200 OK\r\n", EmptyLines),
        ("HTTP/2.0 200 OK\r\n", VersionUnknown),
        ("HTTP/1.1  200 OK\r\n", StatusInvalid),
        ("HTTP/1.1 20 OK\r\n", StatusInvalid),
        ("HTTP/1.1 2000 OK\r\n", StatusInvalid),
        ("HTTP/1.1 099 OK\r\n", StatusInvalid),
        ("HTTP/1.1 2x0 OK\r\n", StatusInvalid),
        ("HTTP/1.1 -20 OK\r\n", StatusInvalid),
        ("HTTP/1.1 200\tOK\r\n", StatusInvalid),
        ("HTTP/1.1\r\n", VersionInvalid),
        ("HTTP/1.1 200 O\0K\r\n", ReasonInvalid),
        ("HTTP/1.1 200 O\x1bK\r\n", ReasonInvalid),
        ("HTTP/1.1 200 OK\n", BareLf),
        ("HTTP/1.1 200\n", BareLf),
        ("HTTP/1.1 200 O\rK\r\n", BareCr),
        ("ICY 200 OK\r\n", VersionInvalid),
        ("<html>", VersionInvalid),
    ] {
        let found = response(format!("{head}\r\n").as_bytes(), Method::Get);
        assert_eq!(found.map_err(|bad| bad.0), Err(expected), "{head:?}");
    }
}

#[test]
fn only_one_plain_protocol_can_be_changed_to() {
    let upgrade = |fields: &str| {
        request(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes()).unwrap().unwrap().upgrade
    };
    assert_eq!(upgrade("Connection: upgrade\r\nUpgrade: websocket\r\n").as_deref(), Some("websocket"));
    assert_eq!(upgrade("Connection: x, Upgrade\r\nUpgrade: IRC/6.9\r\n").as_deref(), Some("IRC/6.9"));
    for fields in [
        "Upgrade: websocket\r\n",
        "Connection: keep-alive\r\nUpgrade: websocket\r\n",
        "Connection: upgrade\r\n",
        "Connection: upgrade\r\nUpgrade:\r\n",
        "Connection: upgrade\r\nUpgrade: websocket, h2c\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "Connection: upgrade\r\nUpgrade: HTTP/2.0\r\n",
        "Connection: upgrade\r\nUpgrade: TLS/1.0\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n",
    ] {
        assert_eq!(upgrade(fields), None, "{fields:?}");
    }
    // RFC 9110, 7.8: "A server MUST ignore an Upgrade header field that is received in an HTTP/1.0 request."
    let old = b"GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(request(old).unwrap().unwrap().upgrade, None);

    let mut scratch = Scratch::new();
    let head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let Parse::Done(response) = parse_response(head, &LIMITS, Method::Get, &mut scratch) else {
        panic!("refused")
    };
    assert_eq!(response.upgrade, Some("websocket"));
    let mut scratch = Scratch::new();
    let head = b"HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let Parse::Done(response) = parse_response(head, &LIMITS, Method::Get, &mut scratch) else {
        panic!("refused")
    };
    assert_eq!(response.upgrade, None);
}

#[test]
fn expectations() {
    let expect = |start: &str, fields: &str| {
        request(format!("{start}Host: a\r\n{fields}\r\n").as_bytes()).unwrap().unwrap().expect
    };
    let post = "POST / HTTP/1.1\r\n";
    for (fields, expected) in [
        ("Content-Length: 5\r\nExpect: 100-continue\r\n", (true, false)),
        ("Transfer-Encoding: chunked\r\nExpect: 100-Continue\r\n", (true, false)),
        ("Content-Length: 0\r\nExpect: 100-continue\r\n", (false, false)),
        ("Expect: 100-continue\r\n", (false, false)),
        ("Content-Length: 5\r\nExpect: y 100-continue\r\n", (false, true)),
        ("Content-Length: 5\r\nExpect: 100-continue\r\nExpect: x\r\n", (true, true)),
        ("Content-Length: 5\r\nExpect:\r\n", (false, true)),
        ("Content-Length: 5\r\n", (false, false)),
    ] {
        assert_eq!(expect(post, fields), expected, "{fields:?}");
    }
    assert_eq!(
        expect("POST / HTTP/1.0\r\n", "Content-Length: 5\r\nExpect: 100-continue\r\n"),
        (false, false)
    );
}

#[test]
fn connection_takes_away_only_what_is_of_the_connection() {
    let kinds = |fields: &str| -> Vec<Kind> {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut scratch = Scratch::new();
        let Parse::Done(request) = parse_request(head.as_bytes(), &LIMITS, &mut scratch) else {
            panic!("{fields}")
        };
        request.fields[1..].iter().map(|field| field.kind).collect()
    };
    let nominated = [Kind::Nominated, Kind::Connection, Kind::Nominated];
    assert_eq!(kinds("X-Hop: 1\r\nConnection: close, X-HOP\r\nx-hop: 2\r\n"), nominated);
    assert_eq!(kinds("Connection: a\r\nConnection: x-hop,,\r\nX-Hop: 1\r\n")[2], Kind::Nominated);
    for name in ["Cookie", "Authorization", "Content-Type", "X-Real-IP", "Cache-Control", "X-Forwarded-Port"]
    {
        assert_eq!(kinds(&format!("Connection: {name}\r\n{name}: 1\r\n"))[1], Kind::Other, "{name}");
    }
    for (name, kind) in [
        ("X-Forwarded-For", Kind::XForwardedFor),
        ("X-Forwarded-Proto", Kind::XForwardedProto),
        ("Forwarded", Kind::Forwarded),
        ("Content-Length", Kind::ContentLength),
    ] {
        assert_eq!(kinds(&format!("Connection: {name}\r\n{name}: 1\r\n"))[1], kind, "{name}");
    }
}
