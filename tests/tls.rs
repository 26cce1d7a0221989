//! TLS on both sides, with curl, openssl and nginx.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::{Authority, Nginx, Reply, Ringgate, Server, Wire, address, curl, noise, program};

/// One HTTPS block over one pool.
fn secure(at: SocketAddr, certificates: &[&Path], http: &str, server: SocketAddr) -> String {
    let list: String = certificates.iter().map(|path| format!("\"{}\", ", path.display())).collect();
    format!(
        "[http.secure]\nlisten = [\"{at}\"]\ncertificates = [ {list} ]\nroutes = [ {{ pool = \"main\" }} ]\n{http}
        [pool.main]\nservers = [ {{ address = \"{server}\" }} ]\n"
    )
}

/// Asks `https://NAME/PATH` at this address, verifying with this authority.
fn ask(authority: &Authority, name: &str, at: SocketAddr, path: &str, more: &[&str]) -> Reply {
    let ca = authority.ca();
    let resolve = format!("{name}:{}:{}", at.port(), at.ip());
    let url = format!("https://{name}:{}{path}", at.port());
    curl(&[&["--cacert", ca.to_str().unwrap(), "--resolve", &resolve, &url], more].concat())
}

/// What `openssl s_client` prints while it makes one request.
fn s_client(at: SocketAddr, name: &str, arguments: &[&str]) -> String {
    let mut child = Command::new(program("openssl", "openssl"))
        .args(["s_client", "-connect", &at.to_string(), "-ign_eof"])
        .args(if name.is_empty() { vec!["-noservername"] } else { vec!["-servername", name] })
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let request = b"GET /whoami HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    let _ = child.stdin.take().unwrap().write_all(request);
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

both_engines! {
    fn both_versions_are_spoken(engine) {
        let authority = Authority::new();
        let cert = authority.issue("a", &["a.test"]);
        let origin = Nginx::start("A");
        let bytes = noise(1_000_000);
        origin.file("large", &bytes);
        let at = address();
        let gate = Ringgate::start(engine, &secure(at, &[&cert.both], "", origin.address));
        let file = gate.folder().join("upload");
        std::fs::write(&file, &bytes).unwrap();
        for version in [["--tlsv1.2", "--tls-max", "1.2"], ["--tlsv1.3", "--tls-max", "1.3"]] {
            let small = ask(&authority, "a.test", at, "/whoami", &version);
            assert_eq!((small.code, small.status, small.text().as_str()), (0, 200, "A\n"), "{version:?} {small:?}");
            let large = ask(&authority, "a.test", at, "/large", &version);
            assert!(large.code == 0 && large.body == bytes, "{version:?}: {}", large.complaint);
            let name = version[0].trim_start_matches("--");
            let more = [&version[..], &["-T", file.to_str().unwrap()]].concat();
            let put = ask(&authority, "a.test", at, &format!("/put/{name}"), &more);
            assert_eq!(put.status, 201, "{version:?}: {put:?}");
            assert!(origin.uploaded(name) == bytes);
        }
        let old = ask(&authority, "a.test", at, "/whoami", &["--tls-max", "1.1", "--tlsv1.0"]);
        assert_ne!(old.code, 0, "TLS 1.1 is not spoken");
    }

    fn versions_can_be_bounded(engine) {
        let authority = Authority::new();
        let cert = authority.issue("a", &["a.test"]);
        let origin = Nginx::start("A");
        for (tls, works, fails) in [("{ min = \"1.3\" }", "1.3", "1.2"), ("{ max = \"1.2\" }", "1.2", "1.3")] {
            let at = address();
            let _gate = Ringgate::start(engine, &secure(at, &[&cert.both], &format!("tls = {tls}"), origin.address));
            let only = |version: &str| {
                let least = format!("--tlsv{version}");
                ask(&authority, "a.test", at, "/whoami", &[&least, "--tls-max", version]).status
            };
            assert_eq!((only(works), only(fails)), (200, 0), "{tls}");
        }
    }

    fn the_certificate_is_chosen_by_name(engine) {
        let authority = Authority::new();
        let first = authority.issue("first", &["first.test"]);
        let exact = authority.issue("exact", &["a.wild.test"]);
        let wild = authority.issue("wild", &["*.wild.test"]);
        let origin = Nginx::start("A");
        let at = address();
        let config = secure(at, &[&first.both, &exact.both, &wild.both], "", origin.address);
        let _gate = Ringgate::start(engine, &config);
        for (name, subject) in [
            ("first.test", "first.test"), ("a.wild.test", "a.wild.test"), ("A.Wild.Test", "a.wild.test"),
            ("b.wild.test", "*.wild.test"), ("unknown.test", "first.test"), ("b.c.wild.test", "first.test"),
            ("", "first.test"),
        ] {
            let text = s_client(at, name, &[]);
            assert!(text.contains(&format!("subject=CN = {subject}\n")), "{name}: {text}");
        }
        for name in ["first.test", "a.wild.test", "b.wild.test"] {
            assert_eq!(ask(&authority, name, at, "/whoami", &[]).status, 200, "{name}");
        }
    }

    fn a_folder_of_certificates_is_read(engine) {
        let authority = Authority::new();
        let folder = tempfile::TempDir::new().unwrap();
        for name in ["one.test", "two.test"] {
            let cert = authority.issue(name, &[name]);
            std::fs::copy(&cert.both, folder.path().join(format!("{name}.pem"))).unwrap();
        }
        let split = authority.issue("three", &["three.test"]);
        std::fs::copy(&split.chain, folder.path().join("three.crt")).unwrap();
        std::fs::copy(&split.key, folder.path().join("three.key")).unwrap();
        let origin = Nginx::start("A");
        let at = address();
        let _gate = Ringgate::start(engine, &secure(at, &[folder.path()], "", origin.address));
        for name in ["one.test", "two.test", "three.test"] {
            let reply = ask(&authority, name, at, "/whoami", &[]);
            assert_eq!(reply.status, 200, "{name}: {reply:?}");
        }
    }

    fn alpn_is_http_1_1(engine) {
        let authority = Authority::new();
        let cert = authority.issue("a", &["a.test"]);
        let origin = Nginx::start("A");
        let at = address();
        let _gate = Ringgate::start(engine, &secure(at, &[&cert.both], "", origin.address));
        let both = s_client(at, "a.test", &["-alpn", "h2,http/1.1"]);
        assert!(both.contains("ALPN protocol: http/1.1"), "{both}");
        let none = s_client(at, "a.test", &[]);
        assert!(none.contains("HTTP/1.1 200") && none.contains("No ALPN negotiated"), "{none}");
        let http2 = ask(&authority, "a.test", at, "/whoami", &["--http2"]);
        assert_eq!(http2.status, 200, "curl falls back: {http2:?}");
    }

    fn sessions_resume_on_every_worker(engine) {
        let authority = Authority::new();
        let cert = authority.issue("a", &["a.test"]);
        let origin = Nginx::start("A");
        let at = address();
        let gate = Ringgate::start(engine, &secure(at, &[&cert.both], "", origin.address));
        for version in ["-tls1_2", "-tls1_3"] {
            let session = gate.folder().join(format!("session{version}"));
            let session = session.to_str().unwrap();
            let first = s_client(at, "a.test", &[version, "-sess_out", session]);
            assert!(first.contains("\nNew, TLSv1."), "{first}");
            assert!(Path::new(session).exists(), "no ticket came: {first}");
            for n in 0..10 {
                let again = s_client(at, "a.test", &[version, "-sess_in", session]);
                assert!(again.contains("\nReused, TLSv1."), "{version}, connection {n}: {again}");
                assert!(again.contains("HTTP/1.1 200"), "{again}");
            }
        }
    }

    fn key_exchange_is_post_quantum(engine) {
        let authority = Authority::new();
        let cert = authority.issue("a", &["a.test"]);
        let origin = Nginx::start("A");
        let at = address();
        let _gate = Ringgate::start(engine, &secure(at, &[&cert.both], "", origin.address));
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = rustls::pki_types::ServerName::try_from("a.test").unwrap();
        let mut tls = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut socket = std::net::TcpStream::connect(at).unwrap();
        tls.complete_io(&mut socket).unwrap();
        let group = tls.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
    }
}

both_engines! {
    fn client_certificates_can_be_required(engine) {
        let authority = Authority::new();
        let cert = authority.issue("a", &["a.test"]);
        let client = authority.issue("client", &["alice"]);
        let stranger = Authority::new().issue_kept("client", &["mallory"]);
        let origin = Nginx::start("A");
        let at = address();
        let tls = format!(
            "tls = {{ client_ca = \"{}\", client_certificate = \"required\", client_subject_field = \"X-Client-Subject\" }}",
            authority.ca().display()
        );
        let _gate = Ringgate::start(engine, &secure(at, &[&cert.both], &tls, origin.address));
        let with = |issued: &common::certs::Issued, version: &str| {
            let (chain, key) = (issued.chain.to_str().unwrap(), issued.key.to_str().unwrap());
            let more = ["--cert", chain, "--key", key, "--tls-max", version, "-H", "X-Client-Subject: CN=forged"];
            ask(&authority, "a.test", at, "/fields", &more)
        };
        for version in ["1.2", "1.3"] {
            let good = with(&client, version);
            assert_eq!(good.status, 200, "{good:?}");
            assert!(good.text().contains("subject=") && good.text().contains("alice"), "{}", good.text());
            assert!(!good.text().contains("forged"), "{}", good.text());
            assert_eq!(with(&stranger.1, version).status, 0);
            let none = ask(&authority, "a.test", at, "/fields", &["--tls-max", version]);
            assert_eq!(none.status, 0, "{none:?}");
        }
    }

    fn client_certificates_can_be_optional(engine) {
        let authority = Authority::new();
        let cert = authority.issue("a", &["a.test"]);
        let client = authority.issue("client", &["alice"]);
        let origin = Nginx::start("A");
        let at = address();
        let tls = format!(
            "tls = {{ client_ca = \"{}\", client_certificate = \"optional\", client_subject_field = \"X-Client-Subject\" }}",
            authority.ca().display()
        );
        let _gate = Ringgate::start(engine, &secure(at, &[&cert.both], &tls, origin.address));
        let (chain, key) = (client.chain.to_str().unwrap(), client.key.to_str().unwrap());
        let with = ask(&authority, "a.test", at, "/fields", &["--cert", chain, "--key", key]);
        assert!(with.status == 200 && with.text().contains("alice"), "{with:?}");
        let without = ask(&authority, "a.test", at, "/fields", &["-H", "X-Client-Subject: CN=forged"]);
        assert_eq!(without.status, 200, "{without:?}");
        assert!(without.text().contains("subject=\n"), "a forged field must not pass: {}", without.text());
    }

    fn the_server_learns_that_it_was_https(engine) {
        let authority = Authority::new();
        let cert = authority.issue("a", &["a.test"]);
        let origin = Nginx::start("A");
        let at = address();
        let _gate = Ringgate::start(engine, &secure(at, &[&cert.both], "", origin.address));
        let reply = ask(&authority, "a.test", at, "/fields", &[]);
        assert!(reply.text().contains("proto=https\n") && reply.text().contains("for=127.0.0.1\n"), "{}", reply.text());
    }

    fn plain_http_on_a_tls_port_gets_a_plain_400(engine) {
        let authority = Authority::new();
        let cert = authority.issue("a", &["a.test"]);
        let server = Server::ok();
        let at = address();
        let _gate = Ringgate::start(engine, &secure(at, &[&cert.both], "", server.address));
        let mut client = Wire::connect(at);
        let answer = client.ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        assert_eq!(answer.status(), 400);
        client.assert_closed();
        assert_eq!(server.connections(), 0);
    }

    fn nonsense_and_silence_on_a_tls_port_close(engine) {
        let authority = Authority::new();
        let cert = authority.issue("a", &["a.test"]);
        let server = Server::ok();
        let at = address();
        let http = "timeouts = { handshake = \"300ms\" }";
        let _gate = Ringgate::start(engine, &secure(at, &[&cert.both], http, server.address));
        for bytes in [&b""[..], b"\x16\x03\x01", b"\x16\x03\x01\x40\x00", b"\x00\x01\x02\x03nonsense"] {
            let mut client = Wire::connect(at);
            client.send(bytes).unwrap();
            client.rest_however().unwrap();
        }
        let mut client = Wire::connect(at);
        let _ = client.drip([&b"\x16\x03\x01\x00\xff\x01\x00\x00\xfb"[..], &[0; 60]].concat(), Duration::from_millis(20));
        client.rest_however().unwrap();
        assert_eq!(server.connections(), 0);
    }

    fn http_leads_to_https(engine) {
        let authority = Authority::new();
        let cert = authority.issue("a", &["a.test"]);
        let origin = Nginx::start("A");
        let (plain, at) = (address(), address());
        let config = format!("[http.public]\nlisten = [\"{plain}\"]\nredirect = \"https\"\n")
            + &secure(at, &[&cert.both], "", origin.address);
        let _gate = Ringgate::start(engine, &config);
        let reply = curl(&["-H", "Host: a.test", &format!("http://{plain}/x?y=z")]);
        assert!([301, 308].contains(&reply.status), "{reply:?}");
        let location = reply.field("location").unwrap();
        let with_port = format!("https://a.test:{}/x?y=z", at.port());
        assert!(location == with_port || location == "https://a.test/x?y=z", "{location}");
    }
}

both_engines! {
    fn servers_are_verified(engine) {
        let authority = Authority::new();
        let cert = authority.issue("origin", &["origin.test"]);
        let origin = Nginx::with_tls("A", &cert.chain, &cert.key, "");
        let ca = authority.ca();
        let other = Authority::new();
        let other_ca = other.ca();
        for (tls, status) in [
            ("true".to_owned(), 502),
            (format!("{{ ca = \"{}\", server_name = \"origin.test\" }}", ca.display()), 200),
            (format!("{{ ca = \"{}\", server_name = \"other.test\" }}", ca.display()), 502),
            (format!("{{ ca = \"{}\" }}", ca.display()), 502),
            (format!("{{ ca = \"{}\", server_name = \"origin.test\" }}", other_ca.display()), 502),
            ("{ verify = false, server_name = \"any.test\" }".to_owned(), 200),
            ("{ verify = false }".to_owned(), 200),
        ] {
            let at = address();
            let pool = format!("tls = {tls}");
            let _gate = Ringgate::start(engine, &common::site(at, "", &pool, &[origin.address]));
            let reply = curl(&[&format!("http://{at}/fields")]);
            assert_eq!(reply.status, status, "{tls}: {reply:?}");
            if let Some(name) = tls.split("server_name = \"").nth(1).filter(|_| status == 200) {
                let name = name.split('"').next().unwrap();
                assert!(reply.text().contains(&format!(" {name} ")), "SNI: {}", reply.text());
            }
        }
    }

    fn bodies_pass_over_tls_to_servers(engine) {
        let authority = Authority::new();
        let cert = authority.issue("origin", &["origin.test"]);
        let origin = Nginx::with_tls("A", &cert.chain, &cert.key, "");
        let bytes = noise(1_000_000);
        origin.file("large", &bytes);
        let at = address();
        let pool = format!("tls = {{ ca = \"{}\", server_name = \"origin.test\" }}", authority.ca().display());
        let gate = Ringgate::start(engine, &common::site(at, "", &pool, &[origin.address]));
        for path in ["/large", "/chunked/large", "/whoami", "/large"] {
            let reply = curl(&[&format!("http://{at}{path}")]);
            assert_eq!((reply.code, reply.status), (0, 200), "{path}: {}", reply.complaint);
            assert!(path == "/whoami" || reply.body == bytes, "{path}");
        }
        let file = gate.folder().join("upload");
        std::fs::write(&file, &bytes).unwrap();
        assert_eq!(curl(&["-T", file.to_str().unwrap(), &format!("http://{at}/put/x")]).status, 201);
        assert!(origin.uploaded("x") == bytes);
    }

    fn a_client_certificate_is_shown_to_servers(engine) {
        let authority = Authority::new();
        let cert = authority.issue("origin", &["origin.test"]);
        let own = authority.issue("gate", &["gate.test"]);
        let ca = authority.ca();
        let verify = format!("ssl_verify_client on; ssl_client_certificate {};", ca.display());
        let origin = Nginx::with_tls("A", &cert.chain, &cert.key, &verify);
        for (shown, status) in [(true, 200), (false, 400)] {
            let at = address();
            let (certificate, key) = (own.chain.display(), own.key.display());
            let show = format!(", certificate = \"{certificate}\", key = \"{key}\"");
            let show = if shown { show.as_str() } else { "" };
            let pool = format!("tls = {{ ca = \"{}\", server_name = \"origin.test\"{show} }}", ca.display());
            let _gate = Ringgate::start(engine, &common::site(at, "", &pool, &[origin.address]));
            let reply = curl(&[&format!("http://{at}/fields")]);
            assert_eq!(reply.status, status, "{reply:?}");
            assert_eq!(reply.text().contains("CN=gate.test"), shown, "{}", reply.text());
        }
    }
}

#[test]
fn check_names_what_is_wrong_with_a_certificate() {
    let authority = Authority::new();
    let good = authority.issue("good", &["a.test"]);
    let other = authority.issue("other", &["a.test"]);
    let expired = authority.issue_with("expired", &["a.test"], |params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    });
    let early = authority.issue_with("early", &["a.test"], |params| {
        params.not_before = rcgen::date_time_ymd(2999, 1, 1);
    });
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let write = |name: &str, text: String| {
        let file = authority.folder().join(name);
        std::fs::write(&file, text).unwrap();
        file
    };
    let wrong_key = write("wrong-key.pem", read(&good.chain) + &read(&other.key));
    let no_key = write("no-key.pem", read(&good.chain));
    let stranger = Authority::new();
    let leaf = read(&good.chain).split_inclusive("-----END CERTIFICATE-----\n").next().unwrap().to_owned();
    let broken_chain = write("broken-chain.pem", leaf + &read(&stranger.ca()) + &read(&good.key));
    let no_pem = write("no-pem.pem", "hello".into());
    let missing = authority.folder().join("missing.pem");

    let check = |file: &Path| {
        let config = secure(address(), &[file], "", address());
        Ringgate::once(Some(&config), &["check", "{file}"])
    };
    let fine = check(&good.both);
    assert_eq!(fine.code, Some(0), "{}", fine.text());
    for (file, words) in [
        (&wrong_key, &["key"][..]),
        (&no_key, &["key"]),
        (&expired.both, &["expired"]),
        (&early.both, &["valid", "2999"]),
        (&broken_chain, &["chain", "sign", "issue"]),
        (&no_pem, &["certificate"]),
        (&missing, &["No such file", "not found", "not exist", "cannot be read"]),
    ] {
        let said = check(file);
        let name = file.file_name().unwrap().to_str().unwrap();
        assert_eq!(said.code, Some(1), "{name}: {}", said.text());
        assert!(said.text().contains(name), "{name} is not named: {}", said.text());
        let mut words = words.iter();
        assert!(words.any(|word| said.text().contains(word)), "{name}: {}", said.text());
        let config = secure(address(), &[file], "", address());
        let start = Ringgate::once(Some(&config), &["run", "{file}"]);
        assert_ne!(start.code, Some(0), "{name}");
        assert!(start.text().contains(name), "{name} is not named at start: {}", start.text());
    }
}
