//! HTTP/1.1 through the real program: methods, bodies, connections, interim answers, tunnels.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::Duration;

use common::{Nginx, Ringgate, Server, Wire, address, curl, curl_text, noise, site};

const SHORT: Duration = Duration::from_millis(300);

both_engines! {
    fn get_head_and_post_pass(engine) {
        let origin = Nginx::start("A");
        origin.file("small", b"twelve bytes");
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[origin.address]));

        let get = curl(&[&format!("http://{at}/small")]);
        assert_eq!((get.code, get.status, get.text().as_str()), (0, 200, "twelve bytes"), "{get:?}");
        let head = curl(&["--head", &format!("http://{at}/small")]);
        assert_eq!((head.code, head.status), (0, 200), "{head:?}");
        assert_eq!(head.field("content-length").as_deref(), Some("12"));
        assert_eq!(head.field("etag"), get.field("etag"));
        let post = curl(&["-d", "a=b", &format!("http://{at}/uri?x=1&y=%20")]);
        assert_eq!(post.text(), "POST /uri?x=1&y=%20\n");
        let delete = curl(&["-X", "DELETE", &format!("http://{at}/uri")]);
        assert_eq!(delete.text(), "DELETE /uri\n");
    }

    fn large_bodies_arrive_as_they_left(engine) {
        let origin = Nginx::start("A");
        let bytes = noise(1_000_003);
        origin.file("large", &bytes);
        let at = address();
        let gate = Ringgate::start(engine, &site(at, "", "", &[origin.address]));

        for path in ["large", "chunked/large"] {
            let down = curl(&[&format!("http://{at}/{path}")]);
            assert_eq!((down.code, down.status), (0, 200), "{path}: {}", down.complaint);
            assert!(down.body == bytes, "{path}: {} bytes came", down.body.len());
            let chunked = down.field("transfer-encoding").is_some();
            assert_eq!(chunked, path.starts_with("chunked"), "{path}: {}", down.head);
        }
        let file = gate.folder().join("upload");
        std::fs::write(&file, &bytes).unwrap();
        let by_length = curl(&["-T", file.to_str().unwrap(), &format!("http://{at}/put/by-length")]);
        assert_eq!(by_length.status, 201, "{by_length:?}");
        assert!(origin.uploaded("by-length") == bytes);
        let upload = format!("http://{at}/put/chunked");
        let chunked = curl(&["-H", "Transfer-Encoding: chunked", "-T", file.to_str().unwrap(), &upload]);
        assert_eq!(chunked.status, 201, "{chunked:?}");
        assert!(origin.uploaded("chunked") == bytes);
    }

    fn a_slow_origin_streams_through(engine) {
        let origin = Nginx::start("A");
        let bytes = noise(300_000);
        origin.file("large", &bytes);
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[origin.address]));
        let slow = curl(&[&format!("http://{at}/slow/large")]);
        assert_eq!((slow.code, slow.status), (0, 200), "{}", slow.complaint);
        assert!(slow.body == bytes);
    }

    fn client_connections_are_kept(engine) {
        let origin = Nginx::start("A");
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[origin.address]));
        let url = format!("http://{at}/whoami");
        let made = curl_text(&["-w", "%{num_connects} ", "-o", "/dev/null", &url, "-o", "/dev/null", &url]);
        assert_eq!(made, "1 0 ");
    }

    fn pipelined_requests_are_answered_in_order(engine) {
        let origin = Nginx::start("A");
        for n in 0..20 {
            origin.file(&format!("n{n}"), format!("answer {n}").repeat(n + 1).as_bytes());
        }
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[origin.address]));
        let mut client = Wire::connect(at);
        let ask = |n: usize| format!("GET /n{n} HTTP/1.1\r\nHost: x\r\n\r\n");
        client.send((0..20).map(ask).collect::<String>()).unwrap();
        for n in 0..20 {
            let answer = client.answer().unwrap();
            assert_eq!((answer.status(), answer.text()), (200, format!("answer {n}").repeat(n + 1)));
        }
    }

    fn pipelined_requests_with_bodies_are_kept_apart(engine) {
        let server = Server::start(|wire| {
            while let Ok(Some(request)) = wire.request() {
                let body = request.text();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                if wire.send(answer).is_err() {
                    return;
                }
            }
        });
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let mut client = Wire::connect(at);
        client.send(
            "POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nfirst\
             POST /2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nsec\r\n3\r\nond\r\n0\r\n\r\n\
             POST /3 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n\
             POST /4 HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nfourth",
        ).unwrap();
        for body in ["first", "second", "", "fourth"] {
            assert_eq!(client.answer().unwrap().text(), body);
        }
    }

    fn a_request_may_come_byte_by_byte(engine) {
        let server = Server::ok();
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let mut client = Wire::connect(at);
        let request = "POST /drip HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndrip\r\n0\r\nT: v\r\n\r\n";
        client.drip(request, Duration::from_millis(1)).unwrap();
        assert_eq!(client.answer().unwrap().text(), "ok");
        assert!(server.text().starts_with("POST /drip HTTP/1.1\r\n"), "{}", server.text());
    }

    fn an_answer_may_come_byte_by_byte(engine) {
        let server = Server::start(|wire| {
            let _ = wire.request();
            let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndrip\r\n0\r\n\r\n";
            let _ = wire.drip(answer, Duration::from_millis(1));
        });
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let answer = Wire::connect(at).ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "drip"));
    }

    fn http_1_0_clients_are_served(engine) {
        let origin = Nginx::start("A");
        let bytes = noise(100_000);
        origin.file("large", &bytes);
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[origin.address]));

        let mut client = Wire::connect(at);
        let answer = client.ask("GET /whoami HTTP/1.0\r\n\r\n");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "A\n"));
        client.assert_closed();

        // A 1.0 client does not know chunks: such an answer ends with the connection.
        let mut client = Wire::connect(at);
        client.send("GET /chunked/large HTTP/1.0\r\nHost: x\r\n\r\n").unwrap();
        let answer = client.answer().unwrap();
        assert_eq!(answer.field("transfer-encoding"), None, "{}", answer.head);
        assert!(answer.body == bytes);

        let mut client = Wire::connect(at);
        let kept = client.ask("GET /whoami HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(kept.field("connection").map(|value| value.to_lowercase()).as_deref(), Some("keep-alive"));
        assert_eq!(client.ask("GET /whoami HTTP/1.0\r\n\r\n").text(), "A\n");
    }

    fn connection_close_is_honoured(engine) {
        let server = Server::ok();
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let mut client = Wire::connect(at);
        let answer = client.ask("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert_eq!(answer.text(), "ok");
        assert_eq!(answer.field("connection").as_deref(), Some("close"), "{}", answer.head);
        client.assert_closed();
    }

    fn absolute_form_is_understood(engine) {
        let server = Server::ok();
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let mut client = Wire::connect(at);
        // RFC 9112 section 3.2.2: the authority of the target counts, the Host field is ignored.
        let answer = client.ask("GET http://www.foobar.com/a?b HTTP/1.1\r\nHost: other\r\n\r\n");
        assert_eq!(answer.status(), 200);
        let text = server.text().to_lowercase();
        assert!(text.contains("host: www.foobar.com\r\n"), "{text}");
        assert!(!text.contains("other"), "{text}");
        assert!(text.contains("/a?b http/1.1\r\n"), "{text}");
    }

    fn options_asterisk_passes(engine) {
        let server = Server::ok();
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let answer = Wire::connect(at).ask("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(answer.status(), 200);
        assert!(server.text().starts_with("OPTIONS * HTTP/1.1\r\n"), "{}", server.text());
    }

    fn answers_without_body_end_with_their_head(engine) {
        let server = Server::start(|wire| {
            while let Ok(Some(request)) = wire.request() {
                let answer = match request.head.split(' ').nth(1).unwrap() {
                    "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
                    "/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 1000\r\n\r\n",
                    "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
                    "/head-chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                    _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                };
                let _ = wire.send(answer);
            }
        });
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let mut client = Wire::connect(at);
        for (method, path, status) in
            [("GET", "/204", 204), ("GET", "/304", 304), ("HEAD", "/head", 200), ("HEAD", "/head-chunked", 200)]
        {
            let answer = client.ask(&format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
            assert_eq!(answer.status(), status, "{path}");
            assert!(!answer.head.contains("Transfer-Encoding") || method == "HEAD", "{}", answer.head);
            // The connection is in step: the next answer is the next request's.
            assert_eq!(client.ask("GET /ok HTTP/1.1\r\nHost: x\r\n\r\n").text(), "ok", "after {path}");
        }
    }

    fn a_body_until_close_is_complete_for_the_client(engine) {
        let server = Server::start(|wire| {
            let _ = wire.request();
            let _ = wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nfirst ");
            std::thread::sleep(Duration::from_millis(50));
            let _ = wire.send("second");
        });
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let answer = Wire::connect(at).ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "first second"));
        let old = Wire::connect(at).ask("GET / HTTP/1.0\r\nHost: x\r\n\r\n");
        assert_eq!((old.status(), old.text().as_str()), (200, "first second"));
    }

    fn an_http_1_0_server_is_understood(engine) {
        let server = Server::start(|wire| {
            let _ = wire.request();
            let _ = wire.send("HTTP/1.0 200 OK\r\n\r\nold");
        });
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let answer = Wire::connect(at).ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(answer.head.starts_with("HTTP/1.1 200 "), "{}", answer.head);
        assert_eq!(answer.text(), "old");
    }

    fn trailers_pass_in_both_directions(engine) {
        let server = Server::answering(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n",
        );
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let request = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-Up\r\n\r\n\
                       3\r\nabc\r\n0\r\nX-Up: 9\r\n\r\n";
        let answer = Wire::connect(at).ask(request);
        assert_eq!((answer.text().as_str(), answer.trailers.to_lowercase().as_str()), ("ok", "x-sum: 7\r\n"));
        let text = server.text().to_lowercase();
        assert!(text.ends_with("0\r\nx-up: 9\r\n\r\n"), "{text}");
    }

    fn trailers_cannot_set_framing_or_routing(engine) {
        let server = Server::ok();
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        for field in ["Content-Length: 5", "Transfer-Encoding: chunked", "Host: evil", "X-Forwarded-For: evil"] {
            let mut client = Wire::connect(at);
            let request = format!(
                "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n{field}\r\n\r\n"
            );
            let answer = client.ask(&request);
            assert!([200, 400].contains(&answer.status()), "{field}: {}", answer.head);
        }
        let text = server.text().to_lowercase();
        assert!(!text.contains("evil") && !text.contains("0\r\ncontent-length") && !text.contains("0\r\ntransfer-"), "{text}");
    }
}

both_engines! {
    fn continue_is_relayed(engine) {
        let server = Server::start(|wire| {
            let Ok(head) = wire.head() else { return };
            assert!(head.to_lowercase().contains("expect: 100-continue"), "{head}");
            let _ = wire.send("HTTP/1.1 100 Continue\r\n\r\n");
            let _ = wire.exactly(4);
            let _ = wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        });
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let mut client = Wire::connect(at);
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n").unwrap();
        assert_eq!(client.answer().unwrap().status(), 100);
        client.send("body").unwrap();
        assert_eq!(client.answer().unwrap().text(), "ok");
        assert!(server.text().ends_with("body"), "{}", server.text());
    }

    fn curl_may_expect_continue(engine) {
        let origin = Nginx::start("A");
        let bytes = noise(200_000);
        let at = address();
        let gate = Ringgate::start(engine, &site(at, "", "", &[origin.address]));
        let file = gate.folder().join("upload");
        std::fs::write(&file, &bytes).unwrap();
        let url = format!("http://{at}/put/x");
        let put = curl(&["-H", "Expect: 100-continue", "-T", file.to_str().unwrap(), &url]);
        assert_eq!((put.code, put.status), (0, 201), "{put:?}");
        assert!(put.heads.starts_with("HTTP/1.1 100 "), "{}", put.heads);
        assert!(origin.uploaded("x") == bytes);
    }

    fn a_final_answer_instead_of_continue_is_relayed(engine) {
        for status in ["417 Expectation Failed", "200 OK", "413 Content Too Large"] {
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno");
            let server = Server::start(move |wire| {
                let _ = wire.head();
                let _ = wire.send(&answer);
                let _ = wire.rest_however();
            });
            let at = address();
            let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
            let mut client = Wire::connect(at);
            client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n").unwrap();
            let answer = client.answer().unwrap();
            assert_eq!((format!("{}", answer.status()).as_str(), answer.text().as_str()), (&status[..3], "no"));
            // Whether the body still comes is not known: this connection serves nothing else (RFC 9110 section 10.1.1).
            client.send("GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let rest = String::from_utf8(client.rest_however().unwrap()).unwrap();
            assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 400 "), "{status}: {rest}");
            assert!(!server.text().contains("smuggled"), "{}", server.text());
        }
    }

    fn a_server_silent_on_expect_does_not_block_the_body(engine) {
        let server = Server::start(|wire| {
            if let Ok(Some(request)) = wire.request() {
                let text = request.text();
                let _ = wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()));
            }
        });
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        // curl sends its body after a second without an answer.
        let url = format!("http://{at}/");
        let post = curl(&["-H", "Expect: 100-continue", "-d", "patience", &url]);
        assert_eq!((post.code, post.status, post.text().as_str()), (0, 200, "patience"), "{post:?}");
    }

    fn other_expectations_are_refused(engine) {
        let server = Server::ok();
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let answer = Wire::connect(at).ask("POST / HTTP/1.1\r\nHost: x\r\nExpect: tea\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(answer.status(), 417);
        assert_eq!(server.text(), "");
    }

    fn early_hints_are_relayed(engine) {
        let server = Server::start(|wire| {
            let _ = wire.request();
            let _ = wire.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n");
            std::thread::sleep(Duration::from_millis(50));
            let _ = wire.send("HTTP/1.1 103 Early Hints\r\nLink: </b.css>; rel=preload\r\n\r\n");
            let _ = wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        });
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let mut client = Wire::connect(at);
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        for link in ["</a.css>; rel=preload", "</b.css>; rel=preload"] {
            let hint = client.answer().unwrap();
            assert_eq!((hint.status(), hint.field("link").as_deref()), (103, Some(link)));
        }
        assert_eq!(client.answer().unwrap().text(), "ok");
        // An HTTP/1.0 client does not know interim answers.
        assert_eq!(Wire::connect(at).ask("GET / HTTP/1.0\r\n\r\n").status(), 200);
    }
}

both_engines! {
    fn connect_is_refused(engine) {
        let server = Server::ok();
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let mut client = Wire::connect(at);
        let answer = client.ask("CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n");
        assert_eq!(answer.status(), 405);
        assert!(answer.field("allow").is_some(), "RFC 9110 section 15.5.6: {}", answer.head);
        assert_eq!(server.connections(), 0);
    }

    fn websockets_pass_both_ways(engine) {
        let listener = std::net::TcpListener::bind(address()).unwrap();
        let to = listener.local_addr().unwrap();
        let echo = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut socket = tungstenite::accept(stream).unwrap();
            while let Ok(message) = socket.read() {
                if message.is_close() {
                    let _ = socket.flush();
                    break;
                }
                if message.is_text() || message.is_binary() {
                    socket.send(message).unwrap();
                }
            }
        });
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[to]));
        let stream = std::net::TcpStream::connect(at).unwrap();
        let (mut socket, answer) = tungstenite::client(format!("ws://{at}/chat"), stream).unwrap();
        assert_eq!(answer.status().as_u16(), 101);
        for size in [0, 1, 125, 126, 70_000, 1_000_000] {
            let bytes = noise(size);
            socket.send(tungstenite::Message::binary(bytes.clone())).unwrap();
            let back = socket.read().unwrap().into_data();
            assert!(back.as_ref() == bytes.as_slice(), "{size} bytes");
        }
        socket.send(tungstenite::Message::text("hello")).unwrap();
        assert_eq!(socket.read().unwrap().into_text().unwrap().as_str(), "hello");
        socket.close(None).unwrap();
        while socket.read().is_ok() {}
        echo.join().unwrap();
    }

    fn a_tunnel_keeps_bytes_sent_with_its_heads(engine) {
        let server = Server::start(|wire| {
            let _ = wire.head();
            let _ = wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\nearly");
            while let Ok(byte) = wire.exactly(1) {
                let _ = wire.send(byte);
            }
            let _ = wire.send("bye");
        });
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let mut client = Wire::connect(at);
        client.send("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\nahead").unwrap();
        let answer = client.head().unwrap().to_lowercase();
        assert!(answer.starts_with("http/1.1 101 "), "{answer}");
        assert!(answer.contains("upgrade: echo\r\n") && answer.contains("connection: upgrade\r\n"), "{answer}");
        assert_eq!(client.exactly(10).unwrap(), b"earlyahead");
        // A half-closed tunnel still carries the other direction.
        client.half_close();
        assert_eq!(client.rest().unwrap(), b"bye");
        let head = server.text().to_lowercase();
        assert!(head.contains("upgrade: echo\r\n") && head.contains("connection: upgrade\r\n"), "{head}");
    }

    fn a_refused_upgrade_is_an_ordinary_answer(engine) {
        let server = Server::ok();
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let mut client = Wire::connect(at);
        let answer = client.ask("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
    }

    fn an_upgrade_nobody_asked_for_is_a_bad_answer(engine) {
        let server = Server::start(|wire| {
            let _ = wire.head();
            let _ = wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: evil\r\nConnection: Upgrade\r\n\r\nevil");
            let _ = wire.rest_however();
        });
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let answer = Wire::connect(at).ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(answer.status(), 502);
        assert!(!answer.text().contains("evil"));
    }
}

both_engines! {
    fn an_early_answer_ends_the_upload(engine) {
        let server = Server::start(|wire| {
            let _ = wire.head();
            let _ = wire.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo much");
            // Neither reads nor closes while the client is still sending.
            std::thread::sleep(Duration::from_millis(500));
        });
        let at = address();
        let gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let file = gate.folder().join("upload");
        std::fs::write(&file, noise(5_000_000)).unwrap();
        let url = format!("http://{at}/");
        let put = curl(&["-H", "Expect:", "-T", file.to_str().unwrap(), &url]);
        assert_eq!((put.status, put.text().as_str()), (413, "too much"), "{put:?}");

        let mut client = Wire::connect(at);
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf").unwrap();
        let answer = client.answer().unwrap();
        assert_eq!((answer.status(), answer.text().as_str()), (413, "too much"));
    }

    fn an_answer_may_overtake_a_body_that_still_comes(engine) {
        let server = Server::start(|wire| {
            let Ok(head) = wire.head() else { return };
            assert!(head.starts_with("POST"));
            let _ = wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            // An echo: what comes is sent back before the request is complete.
            for _ in 0..3 {
                let Ok(piece) = wire.exactly(4) else { return };
                let _ = wire.send(format!("4\r\n{}\r\n", String::from_utf8_lossy(&piece)));
            }
            let _ = wire.send("0\r\n\r\n");
        });
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let mut client = Wire::connect(at);
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n").unwrap();
        assert!(client.head().unwrap().starts_with("HTTP/1.1 200 "));
        for piece in ["abcd", "efgh", "ijkl"] {
            client.send(piece).unwrap();
            assert!(client.until("\r\n").unwrap().starts_with('4'));
            assert_eq!(client.exactly(6).unwrap(), format!("{piece}\r\n").into_bytes());
        }
        assert_eq!(client.until("0\r\n\r\n").unwrap(), "0\r\n\r\n");
    }

    fn a_half_closed_client_gets_its_answer(engine) {
        let server = Server::start(|wire| {
            while let Ok(Some(_)) = wire.request() {
                std::thread::sleep(Duration::from_millis(100));
                let _ = wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
        });
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let mut client = Wire::connect(at);
        client.send("GET /1 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        client.half_close();
        assert_eq!(client.answer().unwrap().text(), "ok");
        client.assert_closed();

        let mut client = Wire::connect(at);
        client.send("GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        client.half_close();
        assert_eq!(client.answer().unwrap().text(), "ok");
        assert_eq!(client.answer().unwrap().text(), "ok");
        client.assert_closed();
    }

    fn a_client_that_stops_in_the_middle_is_let_go(engine) {
        let server = Server::ok();
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        for part in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: x\r\n", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf"] {
            let mut client = Wire::connect(at);
            client.send(part).unwrap();
            client.half_close();
            let rest = String::from_utf8(client.rest_however().unwrap()).unwrap();
            assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 400 "), "{part:?}: {rest}");
        }
        assert!(!server.text().contains("GET"), "{}", server.text());
        // The server of the broken upload saw no complete request.
        assert_eq!(Wire::connect(at).ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").text(), "ok");
    }

    fn a_server_that_closes_without_an_answer_gives_502(engine) {
        for reset in [false, true] {
            let server = Server::start(move |wire| {
                let _ = wire.request();
                if reset {
                    wire.reset_when_dropped();
                }
            });
            let at = address();
            let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
            let mut client = Wire::connect(at);
            let answer = client.ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi");
            assert_eq!(answer.status(), 502, "reset: {reset}");
            assert_eq!(server.count("POST / "), 1, "not idempotent: never sent twice");
        }
    }

    fn a_server_that_closes_inside_its_head_gives_502(engine) {
        let server = Server::start(|wire| {
            let _ = wire.request();
            let _ = wire.send("HTTP/1.1 200 OK\r\nContent-Le");
        });
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let answer = Wire::connect(at).ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(answer.status(), 502);
    }

    fn a_truncated_answer_is_seen_as_broken(engine) {
        for (begin, code) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", 18),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n", 18),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nshort", 18),
        ] {
            let server = Server::start(move |wire| {
                let _ = wire.request();
                let _ = wire.send(begin);
            });
            let at = address();
            let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
            let reply = curl(&[&format!("http://{at}/")]);
            assert!([code, 56].contains(&reply.code), "curl took it for complete: {begin:?} {reply:?}");
        }
    }

    fn a_client_that_leaves_frees_its_server(engine) {
        let server = Server::start(|wire| {
            let _ = wire.request();
            let _ = wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
            let _ = wire.rest_however();
            wire.record.as_ref().unwrap().lock().unwrap()[0].extend_from_slice(b"LEFT");
        });
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let mut client = Wire::connect(at);
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        client.until("a\r\n").unwrap();
        client.reset();
        common::eventually("the server's connection is closed", || server.text().ends_with("LEFT").then_some(()));
    }

    fn slow_readers_and_slow_writers_hold_nobody_up(engine) {
        let origin = Nginx::start("A");
        let bytes = noise(3_000_000);
        origin.file("large", &bytes);
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[origin.address]));
        let mut slow = Wire::connect_small(at);
        slow.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut writer = Wire::connect(at);
        writer.send("PUT /put/x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf").unwrap();
        std::thread::sleep(SHORT);
        for _ in 0..4 {
            assert_eq!(curl(&[&format!("http://{at}/whoami")]).text(), "A\n");
        }
        assert!(slow.answer().unwrap().body == bytes);
        writer.send("-other").unwrap();
        assert_eq!(writer.answer().unwrap().status(), 201);
        assert_eq!(origin.uploaded("x"), b"half-other");
    }
}
