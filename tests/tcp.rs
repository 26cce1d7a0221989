//! `[tcp.NAME]`: bytes relayed as they are.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{Authority, Nginx, Ringgate, Server, Wire, address, curl, eventually, noise};

/// A `[tcp.main]` block with one pool.
fn relay(at: SocketAddr, tcp: &str, pool: &str, servers: &[SocketAddr]) -> String {
    let servers: String = servers.iter().map(|server| format!("{{ address = \"{server}\" }}, ")).collect();
    format!(
        "[tcp.main]\nlisten = [\"{at}\"]\npool = \"main\"\n{tcp}\n[pool.main]\nservers = [ {servers} ]\n{pool}\n"
    )
}

/// A server that sends back what it gets, and `bye` at the end.
fn echo() -> Server {
    Server::start(|wire| {
        while let Ok(byte) = wire.exactly(1) {
            if wire.send(byte).is_err() {
                return;
            }
        }
        let _ = wire.send("bye");
    })
}

both_engines! {
    fn real_traffic_passes(engine) {
        let (a, b) = (Nginx::start("A"), Nginx::start("B"));
        let bytes = noise(1_000_000);
        a.file("large", &bytes);
        b.file("large", &bytes);
        let at = address();
        let gate = Ringgate::start(engine, &relay(at, "", "", &[a.address, b.address]));
        let seen: String = (0..6).map(|_| curl(&[&format!("http://{at}/whoami")]).text()).collect();
        let seen = seen.replace('\n', "");
        assert!(["ABABAB", "BABABA"].contains(&seen.as_str()), "{seen}");
        assert!(curl(&[&format!("http://{at}/large")]).body == bytes);
        let file = gate.folder().join("upload");
        std::fs::write(&file, &bytes).unwrap();
        for name in ["x", "y"] {
            assert_eq!(curl(&["-T", file.to_str().unwrap(), &format!("http://{at}/put/{name}")]).status, 201);
            // In turn: the upload lies at one of the two.
            let there = [&a, &b].into_iter().find(|origin| origin.has_uploaded(name)).unwrap();
            assert!(there.uploaded(name) == bytes);
        }
    }

    fn each_side_may_end_first(engine) {
        let server = echo();
        let at = address();
        let _gate = Ringgate::start(engine, &relay(at, "", "", &[server.address]));
        let mut client = Wire::connect(at);
        client.send("hello").unwrap();
        assert_eq!(client.exactly(5).unwrap(), b"hello");
        client.half_close();
        assert_eq!(client.rest().unwrap(), b"bye", "the server still speaks to a client that sends no more");

        let first = Server::start(|wire| {
            let _ = wire.send("greeting");
            wire.half_close();
            let _ = wire.rest();
        });
        let at = address();
        let _gate = Ringgate::start(engine, &relay(at, "", "", &[first.address]));
        let mut client = Wire::connect(at);
        assert_eq!(client.rest().unwrap(), b"greeting", "the server speaks first");
        client.send("still heard").unwrap();
        client.half_close();
        eventually("the server heard the rest", || first.text().ends_with("still heard").then_some(()));
    }

    fn a_reset_reaches_the_other_side(engine) {
        let server = Server::start(|wire| {
            let _ = wire.exactly(1);
            let _ = wire.rest_however();
            wire.record.as_ref().unwrap().lock().unwrap()[0].extend_from_slice(b"ENDED");
        });
        let at = address();
        let gate = Ringgate::start(engine, &relay(at, "", "", &[server.address]));
        let before = gate.settled();
        let mut client = Wire::connect(at);
        client.send("x").unwrap();
        eventually("the byte arrived", || (server.text() == "x").then_some(()));
        client.reset();
        eventually("the server's side ended", || server.text().ends_with("ENDED").then_some(()));
        eventually("no descriptor is left", || (gate.running.descriptors() <= before).then_some(()));
    }

    fn a_dead_server_is_passed_over(engine) {
        let nobody = address();
        let server = echo();
        let at = address();
        let _gate = Ringgate::start(engine, &relay(at, "", "", &[nobody, server.address]));
        for _ in 0..6 {
            let mut client = Wire::connect(at);
            client.send("x").unwrap();
            assert_eq!(client.exactly(1).unwrap(), b"x");
        }
    }

    fn with_no_server_the_connection_closes(engine) {
        let at = address();
        let _gate = Ringgate::start(engine, &relay(at, "", "", &[address()]));
        let mut client = Wire::connect(at);
        let _ = client.send("x");
        assert_eq!(client.rest_however().unwrap(), b"");
    }

    fn a_quiet_relay_closes(engine) {
        let server = echo();
        let at = address();
        let _gate = Ringgate::start(engine, &relay(at, "timeouts = { idle = \"300ms\" }", "", &[server.address]));
        let mut client = Wire::connect(at);
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(100));
            client.send("x").unwrap();
            assert_eq!(client.exactly(1).unwrap(), b"x", "bytes keep it open");
        }
        client.rest_however().unwrap();
    }

    fn proxy_headers_pass_in_and_out(engine) {
        let server = Server::start(|wire| {
            let _ = wire.exactly(1);
            let _ = wire.rest_however();
        });
        let at = address();
        let config = relay(at, "proxy_protocol = true\ntrusted_proxies = [\"127.0.0.0/8\"]", "proxy_protocol = \"v1\"", &[server.address]);
        let _gate = Ringgate::start(engine, &config);
        let mut client = Wire::connect(at);
        client.send("PROXY TCP4 203.0.113.7 192.0.2.1 12345 80\r\nhello").unwrap();
        eventually("the bytes arrived", || server.text().ends_with("hello").then_some(()));
        assert_eq!(server.text(), "PROXY TCP4 203.0.113.7 192.0.2.1 12345 80\r\nhello");

        let mut missing = Wire::connect(at);
        let _ = missing.send("hello without a header\r\n");
        assert_eq!(missing.rest_however().unwrap(), b"");
        assert_eq!(server.connections(), 1);

        let v2 = Server::start(|wire| {
            let _ = wire.exactly(1);
            let _ = wire.rest_however();
        });
        let at = address();
        let _gate = Ringgate::start(engine, &relay(at, "", "proxy_protocol = \"v2\"", &[v2.address]));
        let mut client = Wire::connect_from("127.0.0.5", at);
        client.send("hello").unwrap();
        eventually("the bytes arrived", || v2.text().ends_with("hello").then_some(()));
        let bytes = v2.received().concat();
        assert!(bytes.starts_with(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x05"), "{bytes:?}");
    }

    fn tls_is_taken_off(engine) {
        let authority = Authority::new();
        let site = authority.issue("site", &["tcp.test"]);
        let origin = Nginx::start("A");
        let at = address();
        let tcp = format!("certificates = [\"{}\"]", site.both.display());
        let _gate = Ringgate::start(engine, &relay(at, &tcp, "", &[origin.address]));
        let ca = authority.ca();
        let resolve = format!("tcp.test:{}:{}", at.port(), at.ip());
        let url = format!("https://tcp.test:{}/whoami", at.port());
        let reply = curl(&["--cacert", ca.to_str().unwrap(), "--resolve", &resolve, &url]);
        assert_eq!((reply.status, reply.text().as_str()), (200, "A\n"), "{reply:?}");
    }
}
