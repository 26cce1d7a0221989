//! Fields on their way through: who the client is, what is hop by hop, what routes add and remove; PROXY protocol.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::net::SocketAddr;

use common::{Ringgate, Server, Wire, address, curl, site};

/// Sends one request with these further fields and returns its head as the server received it, in small letters.
fn forwarded(at: SocketAddr, server: &Server, from: &str, fields: &str) -> String {
    server.forget();
    let mut client = Wire::connect_from(from, at);
    let answer = client.ask(&format!("GET / HTTP/1.1\r\nHost: www.foobar.com\r\n{fields}\r\n"));
    assert_eq!(answer.status(), 200, "{}", answer.head);
    server.text().to_lowercase()
}

/// The values of a field in a head in small letters.
fn values<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    head.split("\r\n").filter_map(|line| line.strip_prefix(&format!("{name}: "))).collect()
}

both_engines! {
    fn forwarded_fields_are_set_and_forged_ones_replaced(engine) {
        let server = Server::ok();
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        for forged in ["", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nForwarded: for=6.6.6.6\r\n"] {
            let head = forwarded(at, &server, "127.0.0.1", forged);
            assert_eq!(values(&head, "x-forwarded-for"), ["127.0.0.1"], "{head}");
            assert_eq!(values(&head, "x-forwarded-proto"), ["http"], "{head}");
            assert_eq!(values(&head, "x-forwarded-host"), ["www.foobar.com"], "{head}");
            assert!(!head.contains("evil") && !head.contains("6.6.6.6"), "{head}");
        }
    }

    fn forwarded_fields_are_appended_behind_trusted_proxies(engine) {
        let server = Server::ok();
        let at = address();
        let http = "trusted_proxies = [\"127.0.0.7/32\", \"10.0.0.0/8\"]\nforwarded = true";
        let _gate = Ringgate::start(engine, &site(at, http, "", &[server.address]));
        let came = "X-Forwarded-For: 203.0.113.9, 10.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: first.com\r\n\
                    Forwarded: for=203.0.113.9;proto=https\r\n";
        let head = forwarded(at, &server, "127.0.0.7", came);
        assert_eq!(values(&head, "x-forwarded-for").join(", "), "203.0.113.9, 10.1.1.1, 127.0.0.7", "{head}");
        assert_eq!(values(&head, "x-forwarded-proto"), ["https"], "{head}");
        assert_eq!(values(&head, "x-forwarded-host"), ["first.com"], "{head}");
        let list = values(&head, "forwarded").join(", ");
        assert!(list.starts_with("for=203.0.113.9;proto=https, ") && list.contains("for=127.0.0.7"), "{list}");

        let head = forwarded(at, &server, "127.0.0.8", came);
        assert_eq!(values(&head, "x-forwarded-for"), ["127.0.0.8"], "not trusted: {head}");
        assert_eq!(values(&head, "x-forwarded-proto"), ["http"], "{head}");
        let list = values(&head, "forwarded").join(", ");
        assert!(list.contains("for=127.0.0.8") && !list.contains("203.0.113.9"), "{list}");
        assert!(list.contains("proto=http") && list.replace('"', "").contains("host=www.foobar.com"), "{list}");
    }

    fn fields_of_one_hop_are_not_forwarded(engine) {
        let server = Server::answering(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-Secret, keep-alive\r\nX-Secret: s\r\n\
             Keep-Alive: timeout=9\r\nX-Kept: k\r\n\r\nok",
        );
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let mut client = Wire::connect(at);
        let answer = client.ask(
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, X-Hop , x-other\r\nX-Hop: h\r\nX-Other: o\r\n\
             Keep-Alive: timeout=9\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\n\
             Upgrade: h2c\r\nX-Kept: k\r\n\r\n",
        );
        let sent = server.text().to_lowercase();
        for gone in ["x-hop", "x-other", "keep-alive: timeout", "proxy-connection", "te: gzip"] {
            assert!(!sent.contains(gone), "{gone}: {sent}");
        }
        assert!(!sent.contains("upgrade: h2c"), "Upgrade without the option in Connection: {sent}");
        assert!(sent.contains("x-kept: k"), "{sent}");
        let back = answer.head.to_lowercase();
        for gone in ["x-secret", "keep-alive: timeout"] {
            assert!(!back.contains(gone), "{gone}: {back}");
        }
        assert!(back.contains("x-kept: k"), "{back}");
    }

    fn connection_cannot_remove_what_matters(engine) {
        let server = Server::ok();
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let head = forwarded(
            at, &server, "127.0.0.1",
            "Connection: Host, X-Forwarded-For, X-Forwarded-Proto, Content-Length, close\r\n",
        );
        assert_eq!(values(&head, "host"), ["www.foobar.com"], "{head}");
        assert_eq!(values(&head, "x-forwarded-for"), ["127.0.0.1"], "{head}");
        assert_eq!(values(&head, "x-forwarded-proto"), ["http"], "{head}");
    }

    fn ordinary_fields_pass_unchanged_and_in_order(engine) {
        let server = Server::answering(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nServer: origin\r\nX-Bytes: \u{e9}\r\n\r\nok",
        );
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let mut client = Wire::connect(at);
        let answer = client.ask("GET / HTTP/1.1\r\nHost: x\r\nAccept: a\r\nAccept: b\r\nCookie: c=d; e=f\r\nX-Empty:\r\n\r\n");
        assert_eq!(answer.fields("set-cookie"), ["a=1", "b=2"]);
        assert_eq!(answer.field("server").as_deref(), Some("origin"));
        assert_eq!(answer.field("x-bytes").as_deref(), Some("\u{e9}"));
        let sent = server.text();
        let accepts: Vec<&str> = sent.split("\r\n").filter(|line| line.to_lowercase().starts_with("accept:")).collect();
        assert_eq!(accepts, ["Accept: a", "Accept: b"]);
        assert!(sent.contains("Cookie: c=d; e=f\r\n"), "{sent}");
        assert!(sent.contains("X-Empty:"), "{sent}");
    }

    fn rules_of_a_route_change_fields(engine) {
        let server = Server::answering(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: secret\r\nX-Old: 1\r\nX-More: 1\r\n\r\nok",
        );
        let at = address();
        let http = "routes = [
            { path = \"/ruled\", pool = \"main\",
              request = { set = { \"X-Set\" = \"new\", \"Host\" = \"inside\" }, add = { \"X-Add\" = \"two\" }, remove = [\"X-Gone\"] },
              response = { set = { \"X-Old\" = \"2\" }, add = { \"X-More\" = \"2\" }, remove = [\"Server\"] } },
            { pool = \"main\" } ]";
        let _gate = Ringgate::start(engine, &site(at, http, "", &[server.address]));
        let mut client = Wire::connect(at);
        let fields = "Host: outside\r\nX-Set: old\r\nX-Add: one\r\nX-Gone: here\r\n";
        let ruled = client.ask(&format!("GET /ruled HTTP/1.1\r\n{fields}\r\n"));
        let sent = server.text().to_lowercase();
        assert_eq!(values(&sent, "x-set"), ["new"], "{sent}");
        assert_eq!(values(&sent, "host"), ["inside"], "{sent}");
        assert_eq!(values(&sent, "x-add"), ["one", "two"], "{sent}");
        assert!(!sent.contains("x-gone"), "{sent}");
        assert_eq!(ruled.fields("x-old"), ["2"]);
        assert_eq!(ruled.fields("x-more"), ["1", "2"]);
        assert_eq!(ruled.fields("server"), [""; 0]);

        server.forget();
        let plain = client.ask(&format!("GET /plain HTTP/1.1\r\n{fields}\r\n"));
        let sent = server.text().to_lowercase();
        assert_eq!((values(&sent, "x-set"), values(&sent, "host")), (vec!["old"], vec!["outside"]), "{sent}");
        assert_eq!(plain.field("server").as_deref(), Some("secret"));
    }
}

/// A v2 PROXY header for TCP over IPv4, with these trailing TLV bytes.
fn proxy_v2(command: u8, source: [u8; 4], tlvs: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, 0x11]);
    header.extend(u16::try_from(12 + tlvs.len()).unwrap().to_be_bytes());
    header.extend(source);
    header.extend([192, 0, 2, 1, 0x30, 0x39, 0, 80]);
    header.extend(tlvs);
    header
}

const ASK: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

both_engines! {
    fn proxy_headers_name_the_client(engine) {
        let server = Server::ok();
        let at = address();
        let http = "proxy_protocol = true\ntrusted_proxies = [\"127.0.0.0/8\"]";
        let _gate = Ringgate::start(engine, &site(at, http, "", &[server.address]));
        let v6 = "PROXY TCP6 2001:db8::7 2001:db8::1 12345 80\r\n";
        for (header, client) in [
            (b"PROXY TCP4 203.0.113.7 192.0.2.1 12345 80\r\n".to_vec(), "203.0.113.7"),
            (v6.as_bytes().to_vec(), "2001:db8::7"),
            (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
            (proxy_v2(1, [203, 0, 113, 9], b""), "203.0.113.9"),
            (proxy_v2(1, [203, 0, 113, 8], &[4, 0, 2, 1, 2]), "203.0.113.8"),
            (proxy_v2(0, [203, 0, 113, 9], b""), "127.0.0.1"),
        ] {
            server.forget();
            let mut wire = Wire::connect(at);
            wire.send([&header[..], ASK.as_bytes()].concat()).unwrap();
            assert_eq!(wire.answer().unwrap().status(), 200, "{client}");
            let head = server.text().to_lowercase();
            assert_eq!(values(&head, "x-forwarded-for"), [client], "{head}");
            // The header stands once, before the first request.
            server.forget();
            assert_eq!(wire.ask(ASK).status(), 200);
            assert_eq!(values(&server.text().to_lowercase(), "x-forwarded-for"), [client]);
        }
        let mut wire = Wire::connect(at);
        let header = [&proxy_v2(1, [203, 0, 113, 5], b"")[..], ASK.as_bytes()].concat();
        server.forget();
        wire.drip(header, std::time::Duration::from_millis(1)).unwrap();
        assert_eq!(wire.answer().unwrap().status(), 200);
        assert_eq!(values(&server.text().to_lowercase(), "x-forwarded-for"), ["203.0.113.5"]);
    }

    fn curl_sends_a_proxy_header(engine) {
        let server = Server::ok();
        let at = address();
        let http = "proxy_protocol = true\ntrusted_proxies = [\"127.0.0.0/8\"]";
        let _gate = Ringgate::start(engine, &site(at, http, "", &[server.address]));
        let reply = curl(&["--haproxy-protocol", &format!("http://{at}/")]);
        assert_eq!((reply.status, reply.text().as_str()), (200, "ok"), "{reply:?}");
    }

    fn without_a_good_proxy_header_the_connection_closes(engine) {
        let server = Server::ok();
        let at = address();
        let http = "proxy_protocol = true\ntrusted_proxies = [\"127.0.0.1/32\"]";
        let _gate = Ringgate::start(engine, &site(at, http, "", &[server.address]));
        for header in [
            &b""[..],
            b"PROXY TCP4 999.0.0.1 192.0.2.1 1 80\r\n",
            b"PROXY TCP4 203.0.113.7 192.0.2.1 99999 80\r\n",
            b"PROXY TCP4 203.0.113.7\r\n",
            b"PROXY  TCP4 203.0.113.7 192.0.2.1 1 80\r\n",
            b"PROXY TCP4 203.0.113.7 192.0.2.1 1 80\n",
            b"PROXY TCP4 2001:db8::7 192.0.2.1 1 80\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x31\x11\x00\x0c\x01\x02\x03\x04\x01\x02\x03\x04\x00\x01\x00\x01",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x02\x01\x02",
        ] {
            let mut wire = Wire::connect(at);
            let _ = wire.send([header, ASK.as_bytes()].concat());
            let rest = wire.rest_however().unwrap();
            assert_eq!(String::from_utf8_lossy(&rest), "", "{header:?}");
        }
        let mut untrusted = Wire::connect_from("127.9.9.9", at);
        let _ = untrusted.send(format!("PROXY TCP4 203.0.113.7 192.0.2.1 1 80\r\n{ASK}"));
        assert_eq!(untrusted.rest_however().unwrap(), b"");
        assert_eq!(server.connections(), 0);
    }

    fn without_the_key_a_proxy_header_is_a_bad_request(engine) {
        let server = Server::ok();
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let mut wire = Wire::connect(at);
        wire.send(format!("PROXY TCP4 203.0.113.7 192.0.2.1 1 80\r\n{ASK}")).unwrap();
        assert_eq!(wire.answer().unwrap().status(), 400);
        assert_eq!(server.connections(), 0);
    }

    fn proxy_headers_are_sent_to_servers(engine) {
        for version in ["v1", "v2"] {
            let server = Server::start(move |wire| {
                let good = if version == "v1" {
                    wire.until("\r\n").is_ok_and(|line| line.starts_with("PROXY TCP4 127.0.0.5 127."))
                } else {
                    let header = wire.exactly(28).unwrap_or_default();
                    header.starts_with(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x05\x7f")
                };
                while let Ok(Some(request)) = wire.request() {
                    let body = if good && request.head.starts_with("GET / ") { "good" } else { "evil" };
                    let _ = wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{body}"));
                }
            });
            let at = address();
            let pool = format!("proxy_protocol = \"{version}\"");
            let _gate = Ringgate::start(engine, &site(at, "", &pool, &[server.address]));
            let mut wire = Wire::connect_from("127.0.0.5", at);
            for _ in 0..3 {
                assert_eq!(wire.ask(ASK).text(), "good", "{version}");
            }
            // Another client's requests never go over a connection that names the first.
            let connections = server.connections();
            drop(wire);
            let mut other = Wire::connect_from("127.0.0.6", at);
            assert_eq!(other.ask(ASK).text(), "evil", "{version}: the server must see the other client's address");
            assert!(server.connections() > connections, "{version}");
        }
    }
}
