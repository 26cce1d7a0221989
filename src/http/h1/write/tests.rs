//! What is written, byte for byte and parsed again.

use super::*;
use crate::http::h1::head::{HeadLimits, Parse, Scratch, parse_request, parse_response};
use crate::http::message::{Method, ResponseFraming};

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 16 * 1024, fields_max: 100, target_bytes_max: 8192 };

const FORWARD: Forward = Forward {
    client_text: "192.0.2.7",
    proto: "http",
    trusted: false,
    forwarded: false,
    subject: None,
    host_default: "198.51.100.1:80",
    keep_alive: true,
    upgrade: false,
    extra: &[],
};

const RELAY: Relay = Relay {
    version: Version::Http11,
    connection: Connection::KeepAlive,
    framing: OutFraming::None,
    date: None,
    extra: &[],
};

fn parsed<'a, 'b: 'a>(head: &'b str, scratch: &'a mut Scratch<'b>) -> Request<'a> {
    match parse_request(head.as_bytes(), &LIMITS, scratch) {
        Parse::Done(request) => request,
        other => panic!("{head:?}: {other:?}"),
    }
}

/// `head` as a server gets it.
fn forwarded(head: &str, forward: &Forward, rules: &FieldRules) -> String {
    let mut scratch = Scratch::new();
    let request = parsed(head, &mut scratch);
    let mut out = [0xff; 4096];
    let used = write_request(&request, forward, rules, &mut out).unwrap();
    // Whatever was written fits exactly; one byte less does not, and nothing panics on the way.
    for short in 0..used {
        assert_eq!(write_request(&request, forward, rules, &mut out[..short]), None, "{short}");
    }
    assert_eq!(write_request(&request, forward, rules, &mut out[..used]), Some(used));
    String::from_utf8(out[..used].to_vec()).unwrap()
}

/// `head`, an answer to `method`, as a client gets it.
fn relayed(head: &str, method: Method, relay: &Relay, rules: &FieldRules) -> String {
    let mut scratch = Scratch::new();
    let response = match parse_response(head.as_bytes(), &LIMITS, method, &mut scratch) {
        Parse::Done(response) => response,
        other => panic!("{head:?}: {other:?}"),
    };
    let mut out = [0xff; 4096];
    let used = write_response(&response, relay, rules, &mut out).unwrap();
    for short in 0..used {
        assert_eq!(write_response(&response, relay, rules, &mut out[..short]), None, "{short}");
    }
    String::from_utf8(out[..used].to_vec()).unwrap()
}

fn rules(remove: &[&str], set: &[(&str, &str)], add: &[(&str, &str)]) -> FieldRules {
    let pairs =
        |list: &[(&str, &str)]| list.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    FieldRules::new(remove.iter().map(|name| (*name).into()).collect(), pairs(set), pairs(add)).unwrap()
}

const SAID: &str = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n";

#[test]
fn a_request_becomes_origin_form_with_host_first() {
    let none = FieldRules::default();
    for (head, expected) in [
        ("GET /x?y HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x?y HTTP/1.1\r\nHost: a\r\n"),
        (
            "GET / HTTP/1.1\r\nA: 1\r\nHost: a\r\nB: 2\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\n",
        ),
        ("GET / HTTP/1.1\r\nHOST:a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n"),
        ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n"),
        ("GET http://a/x HTTP/1.1\r\nHost: b\r\n\r\n", "GET /x HTTP/1.1\r\nHost: a\r\n"),
        ("GET http://a HTTP/1.1\r\nHost: b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n"),
        ("GET http://a?q HTTP/1.0\r\n\r\n", "GET /?q HTTP/1.1\r\nHost: a\r\n"),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n"),
        ("OPTIONS http://a HTTP/1.1\r\nHost: b\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n"),
        ("\r\nPURGE / HTTP/1.1\r\nHost: a\r\n\r\n", "PURGE / HTTP/1.1\r\nHost: a\r\n"),
        // Blanks around values go; what lies between lines that stay does not come along.
        (
            "GET / HTTP/1.1\r\nHost: a\r\nA:1\r\nB:  2 \r\nC: 3\r\nD:\r\nE: 5\r\nTE: x\r\nF: 6\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: \r\nE: 5\r\nF: 6\r\n",
        ),
    ] {
        assert_eq!(forwarded(head, &FORWARD, &none), format!("{expected}{SAID}\r\n"), "{head:?}");
    }
    let old = forwarded("GET / HTTP/1.0\r\n\r\n", &FORWARD, &none);
    assert_eq!(
        old,
        "GET / HTTP/1.1\r\nHost: 198.51.100.1:80\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n\r\n"
    );
}

#[test]
fn nothing_about_the_clients_connection_reaches_the_server() {
    let head = "GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\n\
        Proxy-Connection: keep-alive\r\nTE: trailers\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nX-Hop: 1\r\n\
        Trailer: X-Sum\r\nProxy: http://evil/\r\nX_Forwarded_For: 1.2.3.4\r\nContent_Length: 5\r\n\
        Expect: 100-continue\r\nB: 2\r\n\r\n";
    let expected = format!("GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\n{SAID}\r\n");
    assert_eq!(forwarded(head, &FORWARD, &FieldRules::default()), expected);
}

#[test]
fn framing_is_written_from_its_meaning() {
    for (fields, expected) in [
        ("", ""),
        ("Content-Length: 0\r\n", "Content-Length: 0\r\n"),
        ("Content-Length: 0042\r\n", "Content-Length: 42\r\n"),
        ("content-length:999999999999999999\r\n", "Content-Length: 999999999999999999\r\n"),
        ("transfer-ENCODING: Chunked\r\n", "Transfer-Encoding: chunked\r\n"),
        ("Content-Length: 1\r\nExpect: 100-Continue\r\n", "Content-Length: 1\r\nExpect: 100-continue\r\n"),
    ] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let written = forwarded(&head, &FORWARD, &FieldRules::default());
        assert_eq!(written, format!("POST / HTTP/1.1\r\nHost: a\r\n{SAID}{expected}\r\n"));
    }
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n";
    let written = forwarded(head, &FORWARD, &FieldRules::default());
    assert_eq!(
        written,
        format!("POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\n{SAID}Transfer-Encoding: chunked\r\n\r\n")
    );
}

#[test]
fn who_the_client_is_comes_from_us_or_from_a_trusted_proxy() {
    let fields = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop\r\n\
        X-Forwarded-For:\r\nX-Forwarded-For: 203.0.113.10\r\nForwarded: for=203.0.113.9\r\n";
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let with = |forward: &Forward, head: &str| {
        let written = forwarded(head, forward, &FieldRules::default());
        written
            .strip_prefix("GET / HTTP/1.1\r\nHost: a\r\n")
            .unwrap()
            .strip_suffix("\r\n")
            .unwrap()
            .to_owned()
    };
    let plain = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let trusted = Forward { trusted: true, ..FORWARD };
    let both = Forward { forwarded: true, ..FORWARD };
    assert_eq!(with(&FORWARD, &head), SAID);
    assert_eq!(with(&trusted, plain), SAID);
    assert_eq!(
        with(&trusted, &head),
        "X-Forwarded-Proto: https\r\nX-Forwarded-Host: shop\r\nForwarded: for=203.0.113.9\r\n\
         X-Forwarded-For: 203.0.113.9, 203.0.113.10, 192.0.2.7\r\n"
    );
    assert_eq!(
        with(&Forward { client_text: "", ..trusted }, &head).rsplit_once("X-Forwarded-For: ").unwrap().1,
        "203.0.113.9, 203.0.113.10\r\n"
    );
    assert_eq!(with(&both, &head), format!("{SAID}Forwarded: for=192.0.2.7;host=\"a\";proto=http\r\n"));
    assert_eq!(
        with(&Forward { client_text: "2001:db8::7", proto: "https", ..both }, plain),
        "X-Forwarded-For: 2001:db8::7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: a\r\n\
         Forwarded: for=\"[2001:db8::7]\";host=\"a\";proto=https\r\n"
    );
    assert_eq!(
        with(&Forward { client_text: "", ..both }, plain),
        "X-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\nForwarded: for=unknown;host=\"a\";proto=http\r\n"
    );
    assert!(
        with(&Forward { trusted: true, ..both }, &head)
            .ends_with("Forwarded: for=203.0.113.9, for=192.0.2.7;host=\"a\";proto=http\r\n")
    );
}

#[test]
fn a_certificates_subject_is_ours_alone() {
    let head =
        "GET / HTTP/1.1\r\nHost: a\r\nX-Client-Subject: CN=forged\r\nx-client_SUBJECT: CN=f\r\nB: 2\r\n\r\n";
    let with = |subject| {
        let forward = Forward { subject: Some(("X-Client-Subject", subject)), ..FORWARD };
        forwarded(head, &forward, &FieldRules::default())
    };
    assert_eq!(with(None), format!("GET / HTTP/1.1\r\nHost: a\r\nB: 2\r\n{SAID}\r\n"));
    assert_eq!(
        with(Some("CN=alice,O=x\r\nEvil: y\0")),
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nB: 2\r\n{SAID}X-Client-Subject: CN=alice,O=x??Evil: y?\r\n\r\n"
        )
    );
}

#[test]
fn the_servers_connection_is_told_what_becomes_of_it() {
    let none = FieldRules::default();
    let head = "GET /c HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-X: 1\r\n\r\n";
    let start = format!("GET /c HTTP/1.1\r\nHost: a\r\nSec-X: 1\r\n{SAID}");
    let upgrade = Forward { upgrade: true, ..FORWARD };
    assert_eq!(
        forwarded(head, &upgrade, &none),
        format!("{start}Connection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    );
    assert_eq!(forwarded(head, &FORWARD, &none), format!("{start}\r\n"));
    let last = Forward { keep_alive: false, ..FORWARD };
    assert_eq!(forwarded(head, &last, &none), format!("{start}Connection: close\r\n\r\n"));
    let plain = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(forwarded(plain, &upgrade, &none), format!("GET / HTTP/1.1\r\nHost: a\r\n{SAID}\r\n"));
}

#[test]
fn rules_remove_set_and_add_in_this_order() {
    let head = "GET / HTTP/1.1\r\nHost: a\r\nX-Team: red\r\nCookie: c\r\nx-team: blue\r\nB: 2\r\n\r\n";
    let all =
        rules(&["cookie"], &[("X-Team", "green"), ("Host", "inside:8080")], &[("B", "3"), ("Via", "x")]);
    assert_eq!(
        forwarded(head, &FORWARD, &all),
        format!(
            "GET / HTTP/1.1\r\nHost: inside:8080\r\nB: 2\r\n{SAID}X-Team: green\r\nB: 3\r\nVia: x\r\n\r\n"
        )
    );
    let private = rules(&["X-Forwarded-For", "X-Forwarded-Host"], &[("X-Forwarded-Proto", "https")], &[]);
    for forward in [FORWARD, Forward { trusted: true, ..FORWARD }] {
        assert_eq!(
            forwarded("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: x\r\n\r\n", &forward, &private),
            "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\n\r\n"
        );
    }
    let answer = "HTTP/1.1 200 OK\r\nServer: x\r\nX-Powered-By: y\r\nDate: z\r\nContent-Length: 0\r\n\r\n";
    let relay = Relay { framing: OutFraming::Length(0), date: Some("now"), ..RELAY };
    let hide = rules(&["server", "x-powered-by", "date"], &[], &[("X-Frame-Options", "DENY")]);
    assert_eq!(
        relayed(answer, Method::Get, &relay, &hide),
        "HTTP/1.1 200 OK\r\nX-Frame-Options: DENY\r\nContent-Length: 0\r\n\r\n"
    );
}

#[test]
fn an_answer_keeps_its_fields_and_loses_its_connection() {
    let head = "HTTP/1.1 200 Fine\r\nServer: nginx\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: x\r\n\
        Transfer-Encoding: chunked\r\nSet-Cookie: a\r\nSet-Cookie:b\r\nTrailer: X-Sum\r\nUpgrade: h2\r\nETag: \"e\"\r\n\r\n";
    let start = "HTTP/1.1 200 Fine\r\nServer: nginx\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n";
    let none = FieldRules::default();
    let with = |relay: &Relay| relayed(head, Method::Get, relay, &none);
    let chunked = Relay { framing: OutFraming::Chunked, ..RELAY };
    assert_eq!(
        with(&chunked),
        format!("{start}Trailer: X-Sum\r\nETag: \"e\"\r\nTransfer-Encoding: chunked\r\n\r\n")
    );
    let last = Relay { framing: OutFraming::UntilClose, connection: Connection::Close, ..RELAY };
    assert_eq!(with(&last), format!("{start}ETag: \"e\"\r\nConnection: close\r\n\r\n"));
    let old = Relay { version: Version::Http10, framing: OutFraming::Length(7), date: Some("now"), ..RELAY };
    assert_eq!(
        with(&old),
        format!("{start}ETag: \"e\"\r\nDate: now\r\nContent-Length: 7\r\nConnection: keep-alive\r\n\r\n")
    );
}

#[test]
fn status_lines_are_ours() {
    for (line, expected) in [
        ("HTTP/1.1 200 OK", "HTTP/1.1 200 OK"),
        ("HTTP/1.0 200 OK", "HTTP/1.1 200 OK"),
        ("HTTP/1.1 302", "HTTP/1.1 302 "),
        ("HTTP/1.1 302 ", "HTTP/1.1 302 "),
        ("HTTP/1.1 418 I'm\ta teapot", "HTTP/1.1 418 I'm\ta teapot"),
        ("HTTP/1.0 200 Gr\u{fc}n", "HTTP/1.1 200 Gr\u{fc}n"),
        ("HTTP/1.0 999 x", "HTTP/1.1 999 x"),
    ] {
        let head = format!("{line}\r\nContent-Length: 0\r\nA: b\r\n\r\n");
        let relay = Relay { framing: OutFraming::Length(0), ..RELAY };
        let written = relayed(&head, Method::Get, &relay, &FieldRules::default());
        assert_eq!(written, format!("{expected}\r\nA: b\r\nContent-Length: 0\r\n\r\n"));
        let bare = relayed(&format!("{line}\r\n\r\n"), Method::Head, &RELAY, &FieldRules::default());
        assert_eq!(bare, format!("{expected}\r\n\r\n"));
    }
}

#[test]
fn a_length_without_a_body_is_information() {
    let none = FieldRules::default();
    let relay = Relay { date: Some("now"), ..RELAY };
    for (head, method, expected) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 42\r\n\r\n",
            Method::Head,
            "Date: now\r\nContent-Length: 42\r\n",
        ),
        (
            "HTTP/1.1 304 OK\r\nContent-Length: 42\r\nDate: then\r\n\r\n",
            Method::Get,
            "Date: then\r\nContent-Length: 42\r\n",
        ),
        ("HTTP/1.1 204 OK\r\nContent-Length: 0\r\n\r\n", Method::Get, "Date: now\r\n"),
        ("HTTP/1.1 103 OK\r\nContent-Length: 5\r\nLink: x\r\n\r\n", Method::Get, "Link: x\r\n"),
    ] {
        let written = relayed(head, method, &relay, &none);
        assert_eq!(written, format!("{}\r\n{expected}\r\n", head.split("\r\n").next().unwrap()));
    }
    let head = "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-X: 1\r\n\r\n";
    let tunnel = Relay { connection: Connection::Upgrade, ..relay };
    assert_eq!(
        relayed(head, Method::Get, &tunnel, &none),
        "HTTP/1.1 101 Switching\r\nSec-X: 1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    );
}

#[test]
fn answers_of_our_own() {
    let answer = OwnAnswer {
        status: 308,
        content_type: "text/html",
        body_len: 12,
        fields: &[("Location", "https://a/"), ("Cache-Control", "no-store")],
        date: "Sun, 06 Nov 1994 08:49:37 GMT",
        version: Version::Http11,
        connection: Connection::Close,
    };
    let written = |answer: &OwnAnswer| {
        let mut out = [0; 512];
        let used = write_answer(answer, &mut out).unwrap();
        assert_eq!(write_answer(answer, &mut out[..used - 1]), None);
        String::from_utf8(out[..used].to_vec()).unwrap()
    };
    assert_eq!(
        written(&answer),
        "HTTP/1.1 308 Permanent Redirect\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/html\r\n\
         Location: https://a/\r\nCache-Control: no-store\r\nContent-Length: 12\r\nConnection: close\r\n\r\n"
    );
    let empty = OwnAnswer { status: 204, content_type: "", body_len: 0, fields: &[], ..answer };
    let old = OwnAnswer { version: Version::Http10, connection: Connection::KeepAlive, ..empty };
    assert_eq!(
        written(&old),
        "HTTP/1.1 204 No Content\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: keep-alive\r\n\r\n"
    );
}

#[test]
fn what_is_written_parses_to_what_was_meant() {
    for head in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /x?y=z HTTP/1.1\r\nA:1\r\nHost:a.example:8080\r\nContent-Length:  17\r\nCookie: \t x; y \r\n\r\n",
        "PUT http://[::1]:8080/ HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
        "GET /c HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ] {
        let mut first = Scratch::new();
        let before = parsed(head, &mut first);
        let forward = Forward { upgrade: true, ..FORWARD };
        let written = forwarded(head, &forward, &FieldRules::default());
        let mut second = Scratch::new();
        let after = parsed(&written, &mut second);
        assert_eq!((before.method_text, before.host), (after.method_text, after.host));
        assert_eq!(before.target.path(), after.target.path());
        assert_eq!(before.target.query(), after.target.query());
        assert_eq!((before.framing, before.upgrade), (after.framing, after.upgrade));
        assert_eq!(before.expect_continue, after.expect_continue);
        let ends = |request: &Request| -> Vec<(String, Vec<u8>)> {
            let other = request.fields.iter().filter(|field| field.kind == Kind::Other);
            other.map(|field| (field.name_text().to_owned(), field.value.to_vec())).collect()
        };
        assert_eq!(ends(&before), ends(&after));
        // Writing what was written again changes nothing but who the client is.
        assert_eq!(forwarded(&written, &forward, &FieldRules::default()), written);
    }
    let head = "HTTP/1.0 200 OK\r\nContent-Length:5\r\nA: b\r\n\r\n";
    let relay = Relay { framing: OutFraming::Length(5), ..RELAY };
    let written = relayed(head, Method::Get, &relay, &FieldRules::default());
    let mut scratch = Scratch::new();
    let Parse::Done(after) = parse_response(written.as_bytes(), &LIMITS, Method::Get, &mut scratch) else {
        panic!("{written:?}")
    };
    assert_eq!((after.framing, after.keep_alive), (ResponseFraming::Length(5), true));
}
