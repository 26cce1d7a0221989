//! Every limit and its answer: sizes, times, numbers of connections, own pages.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::Duration;

use common::{Ringgate, Server, Wire, address, curl, eventually, noise, site};

const ASK: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

both_engines! {
    fn sizes_of_requests_are_bounded(engine) {
        let server = Server::ok();
        let at = address();
        let http = "limits = { head = \"2KiB\", fields = 10, target = \"200B\", body = \"1000B\" }";
        let _gate = Ringgate::start(engine, &site(at, http, "", &[server.address]));
        let long = |bytes: usize| "v".repeat(bytes);
        let fields = |count: usize| (0..count).map(|n| format!("F{n}: v\r\n")).collect::<String>();
        for (request, status) in [
            (format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", long(1500)), 200),
            (format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", long(2500)), 431),
            (format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", long(100_000)), 431),
            (format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", fields(9)), 200),
            (format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", fields(10)), 431),
            (format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", long(199)), 200),
            (format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", long(200)), 414),
            (format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", long(50_000)), 414),
            (format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{}", long(1000)), 200),
            (format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n{}", long(1001)), 413),
            (format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000000000\r\n\r\n{}", long(5000)), 413),
            (format!("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3E8\r\n{}\r\n0\r\n\r\n", long(1000)), 200),
            (format!("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3E9\r\n{}\r\n0\r\n\r\n", long(1001)), 413),
            (format!("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", "64\r\n".to_owned() + &(long(100) + "\r\n64\r\n").repeat(10) + &long(100) + "\r\n"), 413),
        ] {
            let mut client = Wire::connect(at);
            let _ = client.send(&request);
            let shown = &request[..request.len().min(100)];
            let answer = client.answer().unwrap_or_else(|error| panic!("{shown}: {error}"));
            assert_eq!(answer.status(), status, "{shown}");
            // A connection whose bytes were not understood to the end, closes; one that is kept is in step.
            let is_last = answer.field("connection").as_deref() == Some("close");
            assert!(is_last || !matches!(status, 414 | 431), "{shown}: {}", answer.head);
            if is_last {
                client.assert_closed();
            } else {
                assert_eq!(client.ask(ASK).status(), 200, "{shown}");
            }
        }
        let complete = server.received().into_iter().filter(|bytes| !bytes.is_empty());
        assert!(complete.map(|bytes| bytes.len()).max().unwrap() < 20_000);
    }

    fn an_oversized_upload_is_refused_before_it_is_sent(engine) {
        let server = Server::ok();
        let at = address();
        let gate = Ringgate::start(engine, &site(at, "limits = { body = \"1MiB\" }", "", &[server.address]));
        let file = gate.folder().join("upload");
        std::fs::write(&file, noise(3_000_000)).unwrap();
        for expect in ["Expect: 100-continue", "Expect:"] {
            let put = curl(&["-H", expect, "-T", file.to_str().unwrap(), &format!("http://{at}/x")]);
            assert_eq!(put.status, 413, "{expect}: {put:?}");
        }
    }

    fn requests_on_one_connection_are_bounded(engine) {
        let server = Server::ok();
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "limits = { requests = 3 }", "", &[server.address]));
        let mut client = Wire::connect(at);
        for n in 1..=3 {
            let answer = client.ask(ASK);
            let closes = answer.field("connection").as_deref() == Some("close");
            assert_eq!((answer.status(), closes), (200, n == 3), "{}", answer.head);
        }
        client.assert_closed();
    }

    fn a_head_must_come_in_time(engine) {
        let server = Server::ok();
        let at = address();
        let http = "timeouts = { head = \"300ms\", idle = \"5s\" }";
        let _gate = Ringgate::start(engine, &site(at, http, "", &[server.address]));
        let mut client = Wire::connect(at);
        client.send("GET / HTTP/1.1\r\nHost").unwrap();
        let answer = client.answer().unwrap();
        assert_eq!(answer.status(), 408);
        client.assert_closed();
        // Dripping does not help.
        let mut client = Wire::connect(at);
        let slow = format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}", "v".repeat(100));
        let _ = client.drip(slow, Duration::from_millis(20));
        assert_eq!(client.answer().unwrap().status(), 408);
        assert_eq!(server.connections(), 0);
        // A kept connection has the same time for its next head.
        let mut client = Wire::connect(at);
        client.ask(ASK);
        client.send("GET / HT").unwrap();
        assert_eq!(client.answer().unwrap().status(), 408);
    }

    fn an_unused_connection_closes_silently(engine) {
        let server = Server::ok();
        let at = address();
        let http = "timeouts = { head = \"300ms\", idle = \"300ms\" }";
        let _gate = Ringgate::start(engine, &site(at, http, "", &[server.address]));
        let mut kept = Wire::connect(at);
        assert_eq!(kept.ask(ASK).status(), 200);
        kept.assert_closed();
    }

    fn a_body_must_make_progress(engine) {
        let server = Server::start(|wire| {
            let _ = wire.request();
        });
        let at = address();
        let http = "timeouts = { progress = \"300ms\" }";
        let _gate = Ringgate::start(engine, &site(at, http, "", &[server.address]));
        let mut client = Wire::connect(at);
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nbegin").unwrap();
        assert_eq!(client.answer().unwrap().status(), 408);
        client.assert_closed();
        // One byte now and then is no progress either.
        let mut client = Wire::connect(at);
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n").unwrap();
        let _ = client.drip("v".repeat(60), Duration::from_millis(20));
        assert_eq!(client.answer().unwrap().status(), 408);
    }

    fn a_client_that_does_not_read_is_let_go(engine) {
        let bytes = String::from_utf8(vec![b'x'; 8_000_000]).unwrap();
        let server = Server::answering(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{bytes}", bytes.len()));
        let at = address();
        let http = "timeouts = { progress = \"300ms\" }";
        let gate = Ringgate::start(engine, &site(at, http, "", &[server.address]));
        let before = gate.settled();
        let mut client = Wire::connect_small(at);
        client.send(ASK).unwrap();
        eventually("the session exists", || (gate.running.descriptors() > before).then_some(()));
        eventually("the session is gone", || (gate.running.descriptors() <= before).then_some(()));
        assert!(client.answer().is_err(), "the answer cannot be complete");
    }
}

both_engines! {
    fn a_server_that_cannot_be_reached_gives_502(engine) {
        let nobody = address();
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[nobody]));
        let answer = Wire::connect(at).ask(ASK);
        assert_eq!(answer.status(), 502);
        assert!(answer.field("content-type").unwrap().starts_with("text/html"), "{}", answer.head);
        assert!(answer.field("content-length").is_some() && answer.field("date").is_some(), "{}", answer.head);
    }

    fn a_connection_that_does_not_stand_in_time_gives_504(engine) {
        // A full accept queue: further connections stay half open.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let full = address();
        socket.bind(&full.into()).unwrap();
        socket.listen(0).unwrap();
        let mut fill = Vec::new();
        for _ in 0..4 {
            let stream = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            stream.set_nonblocking(true).unwrap();
            let _ = stream.connect(&full.into());
            fill.push(stream);
        }
        let at = address();
        let pool = "timeouts = { connect = \"300ms\" }\nattempts = 1";
        let _gate = Ringgate::start(engine, &site(at, "", pool, &[full]));
        assert_eq!(Wire::connect(at).ask(ASK).status(), 504);
    }

    fn an_answer_that_does_not_begin_in_time_gives_504(engine) {
        let server = Server::start(|wire| {
            let _ = wire.request();
            let _ = wire.rest_however();
        });
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "timeouts = { first_byte = \"300ms\" }", &[server.address]));
        let mut client = Wire::connect(at);
        assert_eq!(client.ask(ASK).status(), 504);
        assert_eq!(server.count("GET / "), 1, "a request that may have been acted upon is not repeated");
    }

    fn an_answer_that_stops_is_cut_off(engine) {
        let server = Server::start(|wire| {
            let _ = wire.request();
            let _ = wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nbegin");
            let _ = wire.rest_however();
        });
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "timeouts = { progress = \"300ms\" }", &[server.address]));
        let reply = curl(&[&format!("http://{at}/")]);
        assert!([18, 56].contains(&reply.code), "{reply:?}");
    }

    fn a_quiet_tunnel_closes(engine) {
        let server = Server::start(|wire| {
            let _ = wire.head();
            let _ = wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n");
            let _ = wire.rest_however();
        });
        let at = address();
        let http = "timeouts = { tunnel = \"300ms\" }";
        let _gate = Ringgate::start(engine, &site(at, http, "", &[server.address]));
        let mut client = Wire::connect(at);
        client.send("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n").unwrap();
        client.head().unwrap();
        assert_eq!(client.rest_however().unwrap(), b"");
    }

    fn connections_of_one_client_are_bounded(engine) {
        let server = Server::ok();
        let at = address();
        let limits = "\n[limits]\nconnections_per_client_max = 2\n";
        let _gate = Ringgate::start(engine, &(site(at, "", "", &[server.address]) + limits));
        let mut first = Wire::connect(at);
        let mut second = Wire::connect(at);
        assert_eq!((first.ask(ASK).status(), second.ask(ASK).status()), (200, 200));
        let mut third = Wire::connect(at);
        let _ = third.send(ASK);
        assert_eq!(third.answer().unwrap().status(), 429);
        third.assert_closed();
        assert_eq!(Wire::connect_from("127.0.0.9", at).ask(ASK).status(), 200, "another client is not affected");
        drop(first);
        eventually("there is room again", || (Wire::connect(at).ask(ASK).status() == 200).then_some(()));
        assert_eq!(second.ask(ASK).status(), 200);
    }

    fn connections_in_total_are_bounded(engine) {
        let server = Server::ok();
        let at = address();
        let limits = "\n[limits]\nconnections_max = 4\n";
        let _gate = Ringgate::start(engine, &(site(at, "", "", &[server.address]) + limits));
        let mut clients: Vec<Wire> = (0..4).map(|_| Wire::connect(at)).collect();
        let served = clients.iter_mut().filter_map(|client| {
            client.patience(Duration::from_millis(500));
            client.send(ASK).ok()?;
            client.answer().ok()
        });
        assert!(served.count() >= 2, "each worker serves its share at least");
        // One more waits until there is room, and then is served.
        let mut waits = Wire::connect(at);
        waits.send(ASK).unwrap();
        drop(clients);
        assert_eq!(waits.answer().unwrap().status(), 200);
    }

    fn error_pages_replace_own_answers(engine) {
        let nobody = address();
        let at = address();
        let folder = tempfile::TempDir::new().unwrap();
        let page = folder.path().join("sorry.html");
        std::fs::write(&page, "<h1>Sorry, back soon</h1>").unwrap();
        let http = format!("error_pages = {{ 502 = \"{0}\", 400 = \"{0}\" }}", page.display());
        let server = Server::answering("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nown");
        let config = site(at, &format!("{http}\nroutes = [ {{ path = \"/own\", pool = \"own\" }}, {{ pool = \"main\" }} ]"), "", &[nobody])
            + &format!("[pool.own]\nservers = [ {{ address = \"{}\" }} ]\n", server.address);
        let _gate = Ringgate::start(engine, &config);
        let answer = Wire::connect(at).ask(ASK);
        assert_eq!((answer.status(), answer.text().as_str()), (502, "<h1>Sorry, back soon</h1>"));
        assert!(answer.field("content-type").unwrap().starts_with("text/html"), "{}", answer.head);
        let bad = Wire::connect(at).ask("GET / HTTP/1.1\r\n\r\n");
        assert_eq!((bad.status(), bad.text().as_str()), (400, "<h1>Sorry, back soon</h1>"));
        let own = Wire::connect(at).ask("GET /own HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!((own.status(), own.text().as_str()), (502, "own"), "a server's own page passes");
    }

    fn own_answers_are_small_correct_pages(engine) {
        let nobody = address();
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "routes = [ { host = \"known\", pool = \"main\" } ]", "", &[nobody]));
        let mut client = Wire::connect(at);
        let missing = client.ask(ASK);
        assert_eq!(missing.status(), 404);
        assert!(missing.text().contains("404") && missing.body.len() < 2000, "{}", missing.text());
        // It answers HEAD without a body, and the connection goes on.
        let head = client.ask("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(head.status(), 404);
        assert_eq!(head.field("content-length"), missing.field("content-length"));
        assert_eq!(client.ask(ASK).status(), 404);
    }
}
