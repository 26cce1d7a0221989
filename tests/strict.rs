//! What is not HTTP is refused: requests with 400 and a closed connection, answers with 502.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Ringgate, Server, Wire, address, eventually, site};

/// Follows every bad request in the same packet; it must never be served.
const NEXT: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

/// Heads that break a rule of RFC 9112 or RFC 9110, and which.
const BAD_HEADS: &[(&str, &[u8])] = &[
    ("bare LF everywhere", b"GET / HTTP/1.1\nHost: x\n\n"),
    ("bare LF after the request line", b"GET / HTTP/1.1\nHost: x\r\n\r\n"),
    ("bare LF after a field", b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n"),
    ("bare LF as the empty line", b"GET / HTTP/1.1\r\nHost: x\r\n\n"),
    ("bare CR after the request line", b"GET / HTTP/1.1\rHost: x\r\n\r\n"),
    ("bare CR in a value", b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n"),
    ("CR CR LF", b"GET / HTTP/1.1\r\nHost: x\r\r\n\r\n"),
    ("obs-fold with a blank", b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n"),
    ("obs-fold with a tab", b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n\tc\r\n\r\n"),
    ("a blank before the first field", b"GET / HTTP/1.1\r\n Host: x\r\n\r\n"),
    ("a blank before the colon", b"GET / HTTP/1.1\r\nHost : x\r\n\r\n"),
    ("a tab before the colon", b"GET / HTTP/1.1\r\nHost: x\r\nA\t: b\r\n\r\n"),
    ("a blank before the colon of Transfer-Encoding", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    ("an empty field name", b"GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n"),
    ("a field without a colon", b"GET / HTTP/1.1\r\nHost: x\r\nA\r\n\r\n"),
    ("a blank in a field name", b"GET / HTTP/1.1\r\nHost: x\r\nA b: c\r\n\r\n"),
    ("a separator in a field name", b"GET / HTTP/1.1\r\nHost: x\r\nA(b): c\r\n\r\n"),
    ("a control byte in a field name", b"GET / HTTP/1.1\r\nHost: x\r\nA\x01: c\r\n\r\n"),
    ("a byte beyond ASCII in a field name", b"GET / HTTP/1.1\r\nHost: x\r\nA\xff: c\r\n\r\n"),
    ("NUL in a value", b"GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n"),
    ("a control byte in a value", b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x01c\r\n\r\n"),
    ("DEL in a value", b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x7fc\r\n\r\n"),
    ("Content-Length twice", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
    ("Content-Length twice and equal", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na"),
    ("a list in Content-Length", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\na"),
    ("an empty Content-Length", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: \r\n\r\n"),
    ("a plus sign in Content-Length", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na"),
    ("a minus sign in Content-Length", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\na"),
    ("a blank in Content-Length", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1 1\r\n\r\na"),
    ("a hexadecimal Content-Length", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x1\r\n\r\na"),
    ("a fraction in Content-Length", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1.0\r\n\r\na"),
    ("a Content-Length beyond 64 bits", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551617\r\n\r\na"),
    ("an endless Content-Length", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999999999999999\r\n\r\na"),
    ("Content-Length with Transfer-Encoding", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("Transfer-Encoding with Content-Length", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    ("a coding other than chunked", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n"),
    ("chunked not last", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    ("chunked twice", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    ("chunked in two fields", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("chunked, then another coding in a second field", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
    ("the coding identity", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
    ("a coding that looks like chunked", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("a quoted coding", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
    ("a parameter of chunked", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n"),
    ("an odd blank before chunked", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    ("an empty Transfer-Encoding", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \r\n\r\n0\r\n\r\n"),
    ("Transfer-Encoding in HTTP/1.0", b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("no Host", b"GET / HTTP/1.1\r\n\r\n"),
    ("two Hosts", b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"),
    ("two equal Hosts", b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n"),
    ("a list in Host", b"GET / HTTP/1.1\r\nHost: x, y\r\n\r\n"),
    ("a blank in Host", b"GET / HTTP/1.1\r\nHost: x y\r\n\r\n"),
    ("a path in Host", b"GET / HTTP/1.1\r\nHost: x/y\r\n\r\n"),
    ("a user in Host", b"GET / HTTP/1.1\r\nHost: u@x\r\n\r\n"),
    ("a bad port in Host", b"GET / HTTP/1.1\r\nHost: x:8o\r\n\r\n"),
    ("an open bracket in Host", b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"),
    ("two blanks in the request line", b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("two blanks before the version", b"GET /  HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("a tab in the request line", b"GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("a blank behind the version", b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n"),
    ("a blank before the method", b" GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("a blank in the target", b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("no target", b"GET HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("a method that is no token", b"G@T / HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("a version in small letters", b"GET / http/1.1\r\nHost: x\r\n\r\n"),
    ("a version without a dot", b"GET / HTTP/11\r\nHost: x\r\n\r\n"),
    ("a version with two digits", b"GET / HTTP/1.10\r\nHost: x\r\n\r\n"),
    ("HTTP/0.9", b"GET /\r\n\r\n"),
    ("a target without a slash", b"GET foo HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("an asterisk for GET", b"GET * HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("NUL in the target", b"GET /a\0b HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("a control byte in the target", b"GET /a\x01b HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("TLS on a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    ("nonsense", b"\r\n\r\n\xff\xfe\xfd nonsense \r\n\r\n"),
];

/// Bodies that break the rules, behind `Transfer-Encoding: chunked`.
const BAD_CHUNKS: &[(&str, &[u8])] = &[
    ("a size that is no number", b"g\r\na\r\n0\r\n\r\n"),
    ("an empty size", b"\r\na\r\n0\r\n\r\n"),
    ("a plus sign", b"+1\r\na\r\n0\r\n\r\n"),
    ("a minus sign", b"-1\r\na\r\n0\r\n\r\n"),
    ("a blank before the size", b" 1\r\na\r\n0\r\n\r\n"),
    ("0x before the size", b"0x1\r\na\r\n0\r\n\r\n"),
    ("an underscore in the size", b"1_0\r\na\r\n0\r\n\r\n"),
    ("a size beyond 64 bits", b"10000000000000001\r\na\r\n0\r\n\r\n"),
    ("an endless size", b"fffffffffffffffffffffffffffffffff\r\na\r\n0\r\n\r\n"),
    (
        "leading zeros without bound",
        b"000000000000000000000000000000000000000000000000000000000000000000001\r\na\r\n0\r\n\r\n",
    ),
    ("bare LF behind the size", b"1\na\r\n0\r\n\r\n"),
    ("bare CR behind the size", b"1\ra\r\n0\r\n\r\n"),
    ("bare LF behind the data", b"1\r\na\n0\r\n\r\n"),
    ("no line end behind the data", b"1\r\nab\r\n0\r\n\r\n"),
    ("data longer than its size", b"1\r\nabcd\r\n0\r\n\r\n"),
    ("bare LF in an extension", b"1;a\n=b\r\na\r\n0\r\n\r\n"),
    ("a control byte in an extension", b"1;a=\x01\r\na\r\n0\r\n\r\n"),
    ("bare LF behind the last chunk", b"1\r\na\r\n0\n\r\n"),
    ("bare LF at the end", b"1\r\na\r\n0\r\n\n"),
    ("bare LF in trailers", b"1\r\na\r\n0\r\nA: b\n\r\n"),
    ("obs-fold in trailers", b"1\r\na\r\n0\r\nA: b\r\n c\r\n\r\n"),
    ("a blank before the colon in trailers", b"1\r\na\r\n0\r\nA : b\r\n\r\n"),
    ("a trailer without a colon", b"1\r\na\r\n0\r\nA\r\n\r\n"),
];

/// Heads of servers that must not pass.
const BAD_ANSWERS: &[(&str, &[u8])] = &[
    ("nonsense", b"nonsense\r\n\r\n"),
    ("another protocol", b"220 mail ESMTP\r\n\r\n"),
    ("bare LF", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
    ("bare LF after a field", b"HTTP/1.1 200 OK\r\nA: b\nContent-Length: 2\r\n\r\nok"),
    ("bare CR in a value", b"HTTP/1.1 200 OK\r\nA: b\rSet-Cookie: evil\r\nContent-Length: 2\r\n\r\nok"),
    ("obs-fold", b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 2\r\n\r\nok"),
    ("a blank before the colon", b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok"),
    ("an empty field name", b"HTTP/1.1 200 OK\r\n: b\r\nContent-Length: 2\r\n\r\nok"),
    ("a bad field name", b"HTTP/1.1 200 OK\r\nA(b): c\r\nContent-Length: 2\r\n\r\nok"),
    ("NUL in a value", b"HTTP/1.1 200 OK\r\nA: \0\r\nContent-Length: 2\r\n\r\nok"),
    ("two digits of status", b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("four digits of status", b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("a status below 100", b"HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("a status with a sign", b"HTTP/1.1 +20 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("another version", b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("Content-Length twice", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"),
    ("a sign in Content-Length", b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok"),
    ("a huge Content-Length", b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551618\r\n\r\nok"),
    (
        "Content-Length with Transfer-Encoding",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("an unknown coding", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok"),
    ("chunked not last", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    ("bytes before the head", b" HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
];

both_engines! {
    fn bad_heads_get_400_and_reach_no_server(engine) {
        let server = Server::ok();
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let mut wrong = Vec::new();
        for (what, head) in BAD_HEADS {
            if let Err(why) = refuses(at, &[head, NEXT].concat(), &[400]) {
                wrong.push(format!("{what}: {why}"));
            }
            if !server.text().is_empty() {
                wrong.push(format!("{what}: the server received {:?}", server.text()));
                server.forget();
            }
        }
        assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    }

    fn bad_chunks_get_400_and_never_complete_at_the_server(engine) {
        let server = Server::ok();
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let mut wrong = Vec::new();
        for (what, body) in BAD_CHUNKS {
            let head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
            if let Err(why) = refuses(at, &[head, *body, NEXT].concat(), &[400]) {
                wrong.push(format!("{what}: {why}"));
            }
            let text = server.text();
            if text.contains("0\r\n\r\n") || text.contains("smuggled") {
                wrong.push(format!("{what}: the server received {text:?}"));
            }
            server.forget();
        }
        assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    }

    fn long_chunk_extensions_and_trailers_are_refused(engine) {
        let server = Server::ok();
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        let extension = format!("{head}1;{}\r\na\r\n0\r\n\r\n", "e".repeat(10_000));
        refuses(at, extension.as_bytes(), &[400]).unwrap();
        let trailers = format!("{head}1\r\na\r\n0\r\n{}\r\n", format!("T: {}\r\n", "v".repeat(100)).repeat(200));
        refuses(at, trailers.as_bytes(), &[400]).unwrap();
        // A short extension is legal, and is not forwarded.
        let answer = Wire::connect(at).ask(&format!("{head}1;name=\"value\"\r\na\r\n0;last\r\n\r\n"));
        assert_eq!(answer.status(), 200);
        assert!(!server.text().contains("name=") && !server.text().contains("last"), "{}", server.text());
    }

    fn other_versions_and_codings_have_their_own_answer(engine) {
        let server = Server::ok();
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        refuses(at, b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", &[505, 400]).unwrap();
        refuses(at, b"GET / HTTP/3.1\r\nHost: x\r\n\r\n", &[505, 400]).unwrap();
        refuses(at, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[505, 400]).unwrap();
        let gzip = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n";
        refuses(at, gzip, &[501, 400]).unwrap();
        assert_eq!(server.text(), "");
    }

    fn the_forwarded_message_is_written_anew(engine) {
        let server = Server::ok();
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let request = "POST /a HTTP/1.1\r\nhOsT:   x  \r\nA:  b\t \r\nTransfer-Encoding: CHUNKED\r\n\r\n\
                       001;x=y\r\na\r\nB\r\n0123456789a\r\n000\r\n\r\n";
        assert_eq!(Wire::connect(at).ask(request).text(), "ok");
        let text = server.text();
        assert!(text.contains("\r\nA: b\r\n"), "blanks around values are dropped: {text:?}");
        assert!(text.to_lowercase().contains("\r\nhost: x\r\n"), "{text:?}");
        assert!(!text.contains("x=y") && !text.contains("001") && !text.contains("000\r\n"), "{text:?}");
        let body = text.split_once("\r\n\r\n").unwrap().1;
        assert!(body.ends_with("0\r\n\r\n") && body.contains('a'), "{body:?}");
    }

    fn blank_lines_before_a_request_are_tolerated(engine) {
        let server = Server::ok();
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        // RFC 9112 section 2.2: at least one CRLF before the request line is ignored.
        let mut client = Wire::connect(at);
        assert_eq!(client.ask("\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n").status(), 200);
    }

    fn bad_answers_become_502(engine) {
        let mut wrong = Vec::new();
        for (what, answer) in BAD_ANSWERS {
            let server = Server::start(move |wire| {
                if let Ok(Some(_)) = wire.request() {
                    let _ = wire.send(answer);
                    let _ = wire.rest_however();
                }
            });
            let at = address();
            let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
            let mut client = Wire::connect(at);
            client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            match client.answer() {
                Ok(answer) if answer.status() == 502 => {}
                Ok(answer) => wrong.push(format!("{what}: {answer:?}")),
                Err(error) => wrong.push(format!("{what}: {error}")),
            }
        }
        assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    }

    fn oversized_answer_heads_become_502(engine) {
        let many: String = (0..300).map(|n| format!("F{n}: v\r\n")).collect();
        let heads = [
            format!("HTTP/1.1 200 OK\r\nA: {}\r\nContent-Length: 2\r\n\r\nok", "v".repeat(70_000)),
            format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 2\r\n\r\nok"),
            "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100) + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ];
        for (number, head) in heads.into_iter().enumerate() {
            let server = Server::start(move |wire| {
                if let Ok(Some(_)) = wire.request() {
                    let _ = wire.send(&head);
                    let _ = wire.rest_however();
                }
            });
            let at = address();
            let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
            let mut client = Wire::connect(at);
            client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut answer = client.answer().unwrap();
            while answer.status() == 103 {
                answer = client.answer().unwrap();
            }
            assert_eq!(answer.status(), 502, "head {number}");
        }
    }

    fn a_body_of_a_server_that_breaks_is_seen_as_broken(engine) {
        for chunks in ["2\r\nok\r\nzz\r\n", "2\r\nokay\r\n0\r\n\r\n", "2\nok\r\n0\r\n\r\n", "-2\r\nok\r\n0\r\n\r\n"] {
            let server = Server::start(move |wire| {
                if let Ok(Some(_)) = wire.request() {
                    let _ = wire.send(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"));
                    let _ = wire.rest_however();
                }
            });
            let at = address();
            let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
            let mut client = Wire::connect(at);
            client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            match client.answer() {
                Ok(answer) => assert_eq!(answer.status(), 502, "{chunks:?}: {answer:?}"),
                Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "{chunks:?} hangs"),
            }
        }
    }

    fn bytes_behind_an_answer_reach_nobody(engine) {
        let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
        for answer in [
            format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{evil}"),
            format!("HTTP/1.1 204 No Content\r\n\r\n{evil}"),
            format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n{evil}"),
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{evil}"),
        ] {
            let body = answer.clone();
            let server = Server::start(move |wire| {
                while let Ok(Some(request)) = wire.request() {
                    let good = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood";
                    let bytes = if request.head.starts_with("GET /first") { body.as_str() } else { good };
                    if wire.send(bytes).is_err() {
                        return;
                    }
                }
            });
            let at = address();
            let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
            let mut client = Wire::connect(at);
            let first = client.ask("GET /first HTTP/1.1\r\nHost: x\r\n\r\n");
            assert!(!first.text().contains("evil"), "{first:?}");
            for _ in 0..4 {
                let next = Wire::connect(at).ask("GET /next HTTP/1.1\r\nHost: x\r\n\r\n");
                assert_eq!(next.text(), "good", "after {answer:?}");
            }
        }
    }

    fn an_answer_before_any_request_reaches_nobody(engine) {
        let server = Server::start(|wire| {
            if wire.number == 0 {
                let _ = wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
            }
            while let Ok(Some(_)) = wire.request() {
                let _ = wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
                std::thread::sleep(std::time::Duration::from_millis(20));
                // Speaks again without being asked: this connection must not serve the next request.
                let _ = wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
            }
        });
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let mut client = Wire::connect(at);
        let first = client.ask("GET /0 HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!([200, 502].contains(&first.status()), "{first:?}");
        for n in 1..6 {
            std::thread::sleep(std::time::Duration::from_millis(60));
            let answer = eventually("the server is usable", || {
                let answer = Wire::connect(at).ask(&format!("GET /{n} HTTP/1.1\r\nHost: x\r\n\r\n"));
                (answer.status() == 200).then_some(answer)
            });
            assert_eq!(answer.text(), "good", "request {n}");
        }
    }
}

/// Sends these bytes; the answer must have one of these statuses, be the only one, and the connection must close.
fn refuses(at: std::net::SocketAddr, bytes: &[u8], statuses: &[u16]) -> Result<(), String> {
    let mut client = Wire::connect(at);
    let _ = client.send(bytes);
    let answer = client.answer().map_err(|error| format!("no answer: {error}"))?;
    if !statuses.contains(&answer.status()) {
        return Err(format!("answered {:?}", answer.head));
    }
    let rest = client.rest().map_err(|error| format!("the connection did not close in order: {error}"))?;
    if !rest.is_empty() {
        return Err(format!("more came: {:?}", String::from_utf8_lossy(&rest)));
    }
    Ok(())
}
