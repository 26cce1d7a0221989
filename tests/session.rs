//! What happens at the edges of an exchange: who may use a connection again, who gets which bytes, who hears the end.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Authority, Ringgate, Server, Wire, address, eventually, noise, program, site};

const ASK: &str = "GET /next HTTP/1.1\r\nHost: x\r\n\r\n";
const UPGRADE: &str = "GET /up HTTP/1.1\r\nHost: x\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n";

both_engines! {
    fn answers_without_body_leave_their_server_connection_usable(engine) {
        let server = Server::start(|wire| {
            while let Ok(Some(request)) = wire.request() {
                let _ = wire.send(match request.head.split(' ').nth(1).unwrap() {
                    "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
                    "/304" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n",
                    "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
                    "/head-chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                    _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                });
            }
        });
        let at = address();
        let config = site(at, "", "", &[server.address]) + "[workers]\ncount = 1\n";
        let _gate = Ringgate::start(engine, &config);
        for request in ["GET /204", "GET /304", "HEAD /head", "HEAD /head-chunked", "GET /ok"] {
            // Other clients too get the same server connection.
            let answer = Wire::connect(at).ask(&format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n"));
            assert!([200, 204, 304].contains(&answer.status()), "{request}: {answer:?}");
            assert_eq!(server.connections(), 1, "after {request}");
        }
    }

    fn a_longer_answer_than_announced_is_cut_there(engine) {
        let extra = String::from_utf8(vec![b'x'; 5000]).unwrap();
        for (pause, body) in [(0, "ok"), (0, "ok and more"), (50, "ok and more")] {
            let (head, rest) = (format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()), extra.clone());
            let server = Server::start(move |wire| {
                while let Ok(Some(_)) = wire.request() {
                    if pause == 0 {
                        let _ = wire.send(format!("{head}{rest}"));
                    } else {
                        let _ = wire.send(&head);
                        std::thread::sleep(Duration::from_millis(pause));
                        let _ = wire.send(&rest);
                    }
                }
            });
            let at = address();
            let config = site(at, "", "", &[server.address]) + "[workers]\ncount = 1\n";
            let _gate = Ringgate::start(engine, &config);
            let mut client = Wire::connect(at);
            for round in 1..=3 {
                assert_eq!(client.ask(ASK).text(), body, "round {round}");
                client.assert_quiet(Duration::from_millis(pause + 100));
                assert_eq!(server.connections(), round, "each has its own server connection");
            }
        }
    }

    fn an_early_answer_to_expect_closes_after_the_client_could_read_it(engine) {
        let server = Server::start(|wire| {
            let _ = wire.head();
            let _ = wire.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nmuch");
            let _ = wire.rest_however();
        });
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let mut client = Wire::connect(at);
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\nExpect: 100-continue\r\n\r\n").unwrap();
        assert!(client.head().unwrap().to_lowercase().contains("connection: close\r\n"));
        // It sends its body all the same: a close that does not wait for it would be a reset and lose the answer.
        for piece in noise(300_000).chunks(10_000) {
            client.send(piece).unwrap();
        }
        assert_eq!(client.rest().unwrap(), b"much", "an orderly end");
    }

    fn bytes_behind_an_upgrade_wait_for_the_101(engine) {
        let server = Server::start(|wire| {
            let _ = wire.head();
            // Nothing of the new protocol may come before the switch.
            wire.assert_quiet(Duration::from_millis(200));
            let _ = wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n");
            while let Ok(byte) = wire.exactly(1) {
                if wire.send(byte).is_err() {
                    return;
                }
            }
        });
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let mut client = Wire::connect(at);
        client.send(format!("{UPGRADE}ahead")).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        client.send("more").unwrap();
        assert!(client.head().unwrap().starts_with("HTTP/1.1 101 "));
        assert_eq!(client.exactly(9).unwrap(), b"aheadmore");
    }

    fn bytes_behind_a_refused_upgrade_are_the_next_request(engine) {
        let server = Server::start(|wire| {
            while let Ok(Some(request)) = wire.request() {
                let path = request.head.split(' ').nth(1).unwrap().to_owned();
                if path == "/up" {
                    wire.assert_quiet(Duration::from_millis(200));
                }
                let _ = wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len()));
            }
        });
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let mut client = Wire::connect(at);
        client.send(format!("{UPGRADE}{}", &ASK[..10])).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        client.send(&ASK[10..]).unwrap();
        for path in ["/up", "/next"] {
            let answer = client.answer().unwrap();
            assert_eq!((answer.status(), answer.text().as_str()), (200, path));
        }
        // What is no request is refused as any other.
        client.send(format!("{UPGRADE}\x01\x02 nonsense\r\n\r\n")).unwrap();
        assert_eq!(client.answer().unwrap().text(), "/up");
        assert_eq!(client.answer().unwrap().status(), 400);
    }

    fn a_tls_client_may_say_goodbye_behind_its_request(engine) {
        let authority = Authority::new();
        let cert = authority.issue("one", &["one.test"]);
        let body = String::from_utf8(vec![b'b'; 100_000]).unwrap();
        let served = body.clone();
        let server = Server::start(move |wire| {
            while let Ok(Some(_)) = wire.request() {
                std::thread::sleep(Duration::from_millis(100));
                let _ = wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{served}", served.len()));
            }
        });
        let at = address();
        let http = format!("certificates = [\"{}\"]", cert.both.display());
        let gate = Ringgate::start(engine, &site(at, &http, "", &[server.address]));
        let before = gate.settled();
        // s_client ends its side at the end of its input, with close_notify, and reads on until it is answered.
        for arguments in [&["-tls1_3"][..], &["-tls1_2"]] {
            let mut client = Command::new(program("openssl", "openssl"))
                .args(["s_client", "-quiet", "-no_ign_eof", "-connect", &at.to_string(), "-servername", "one.test"])
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            client.stdin.take().unwrap().write_all(ASK.as_bytes()).unwrap();
            // Whatever it reads, it ends, and so does everything that was opened for it.
            client.wait().unwrap();
            eventually("its connections are closed", || (gate.running.descriptors() <= before + 2).then_some(()));
        }
        // And the next client is served.
        let answer = common::curl(&["-k", "--resolve", &format!("one.test:{}:{}", at.port(), at.ip()), &format!("https://one.test:{}/", at.port())]);
        assert_eq!((answer.status, answer.body.len()), (200, body.len()));
    }

    fn the_largest_fixed_answer_arrives_whole_a_hundred_times(engine) {
        const BYTES: usize = 64 * 1024;
        let at = address();
        let body: Vec<u8> = noise(BYTES).iter().map(|byte| b'a' + byte % 26).collect();
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("large.txt");
        std::fs::write(&file, &body).unwrap();
        let http = format!(
            "routes = [ {{ path = \"/page\", answer = {{ status = 200, file = \"{}\" }} }} ]\nerror_pages = {{ 404 = \"{}\" }}",
            file.display(),
            file.display(),
        );
        let config = site(at, &http, "", &[address()]) + "[limits]\nmemory_max = \"4MiB\"\n[workers]\ncount = 1\n";
        let gate = Ringgate::start(engine, &config);
        let memory = gate.running.memory_kib("VmRSS");
        let mut client = Wire::connect_small(at);
        client.send("GET /page HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100)).unwrap();
        client.send("GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        // While it does not read, its answers must not fill the memory: others are served.
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(Wire::connect(at).ask("GET /page HTTP/1.1\r\nHost: x\r\n\r\n").body, body);
        assert!(gate.running.memory_kib("VmRSS") < memory + 3 * 1024, "{memory}");
        for number in 0..100 {
            let answer = client.answer().unwrap();
            assert_eq!(answer.status(), 200, "answer {number}");
            assert!(answer.body == body, "answer {number}: {} bytes", answer.body.len());
        }
        let answer = client.answer().unwrap();
        assert_eq!(answer.status(), 404);
        assert!(answer.body == body);
    }
}

/// Nothing but the end of a stream.
#[test]
fn a_client_that_says_nothing_is_no_failure() {
    let server = Server::ok();
    let at = address();
    let _gate = Ringgate::start(common::Engine::Epoll, &site(at, "", "", &[server.address]));
    let mut stream = TcpStream::connect(at).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"");
}
