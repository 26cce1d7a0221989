//! Pools and routes: which server answers, what happens when one does not, and which rule leads where.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Nginx, Ringgate, Server, Wire, address, curl, curl_text, eventually, now, site};

const ASK: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// A server that answers with its name.
fn named(name: &'static str) -> Server {
    Server::answering(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len()))
}

/// What `requests` new connections get, as one text.
fn bodies(at: std::net::SocketAddr, requests: usize) -> String {
    (0..requests).map(|_| Wire::connect(at).ask(ASK).text()).collect()
}

both_engines! {
    fn a_person_with_curl_sees_a_b_a_b(engine) {
        let (a, b) = (Nginx::start("A"), Nginx::start("B"));
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "balance = \"round-robin\"", &[a.address, b.address]));
        // Each curl is a new connection, so it may meet either worker: the order is the pool's, not a worker's.
        let seen: String = (0..12).map(|_| curl_text(&[&format!("http://{at}/whoami")])).collect();
        let seen = seen.replace('\n', "");
        assert!(["AB".repeat(6), "BA".repeat(6)].contains(&seen), "{seen}");
        let url = format!("http://{at}/whoami");
        let kept = curl_text(&[&url, &url, &url, &url]).replace('\n', "");
        assert!(["ABAB", "BABA"].contains(&kept.as_str()), "{kept}");
    }

    fn weights_share_the_work_smoothly(engine) {
        let (a, b, c) = (named("a"), named("b"), named("c"));
        let at = address();
        let servers = format!(
            "[http.main]\nlisten = [\"{at}\"]\nroutes = [ {{ pool = \"main\" }} ]\n[pool.main]\nservers = [
            {{ address = \"{}\", weight = 3 }}, {{ address = \"{}\" }}, {{ address = \"{}\", weight = 0 }} ]\n",
            a.address, b.address, c.address
        );
        let _gate = Ringgate::start(engine, &servers);
        let seen = bodies(at, 40);
        let count = |letter| seen.matches(letter).count();
        assert_eq!((count('a'), count('b'), count('c')), (30, 10, 0), "{seen}");
        assert!(!seen.contains("bb") && !seen.contains("aaaa"), "not smooth: {seen}");
    }

    fn a_backup_works_only_while_all_others_do_not(engine) {
        let (mut a, backup) = (Nginx::start("A"), Nginx::start("backup"));
        let at = address();
        let config = format!(
            "[http.main]\nlisten = [\"{at}\"]\nroutes = [ {{ pool = \"main\" }} ]\n[pool.main]\nservers = [
            {{ address = \"{}\" }}, {{ address = \"{}\", backup = true }} ]\n",
            a.address, backup.address
        );
        let _gate = Ringgate::start(engine, &config);
        let url = format!("http://{at}/whoami");
        for _ in 0..6 {
            assert_eq!(curl_text(&[&url]), "A\n");
        }
        a.stop();
        for _ in 0..6 {
            assert_eq!(curl_text(&[&url]), "backup\n");
        }
        a.start_again();
        eventually("the first server is used again", || (curl_text(&[&url]) == "A\n").then_some(()));
    }

    fn least_connections_counts_over_all_workers(engine) {
        let slow = Server::start(|wire| {
            while let Ok(Some(request)) = wire.request() {
                if request.head.starts_with("GET /hold") {
                    std::thread::sleep(Duration::from_secs(3));
                }
                let _ = wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\ns");
            }
        });
        let fast = named("f");
        let at = address();
        let pool = "balance = \"least-connections\"";
        let _gate = Ringgate::start(engine, &site(at, "", pool, &[slow.address, fast.address]));
        // Requests are held until one of them sits at the slow server.
        let mut holding = Vec::new();
        eventually("the slow server is busy", || {
            let mut client = Wire::connect(at);
            client.send("GET /hold HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            holding.push(client);
            std::thread::sleep(Duration::from_millis(50));
            (slow.count("/hold") > 0).then_some(())
        });
        let seen = bodies(at, 20);
        assert_eq!(seen, "f".repeat(20));
    }

    fn an_address_hashes_to_one_server_and_stays_there(engine) {
        let names = ["a", "b", "c", "d"];
        let mut servers: Vec<Server> = names.into_iter().map(named).collect();
        let at = address();
        let all: Vec<_> = servers.iter().map(|server| server.address).collect();
        let _gate = Ringgate::start(engine, &site(at, "", "balance = \"ip-hash\"", &all));
        let ask = |client: usize| {
            let from = format!("127.1.{}.{}", client / 200, client % 200 + 1);
            Wire::connect_from(&from, at).ask(ASK).text()
        };
        let first: Vec<String> = (0..60).map(ask).collect();
        for round in 0..3 {
            let again: Vec<String> = (0..60).map(ask).collect();
            assert_eq!(first, again, "round {round}");
        }
        let mut shares: HashMap<&str, usize> = HashMap::new();
        first.iter().for_each(|name| *shares.entry(name).or_default() += 1);
        assert!(names.iter().all(|name| shares.get(name).is_some_and(|share| *share >= 3)), "{shares:?}");
        // Without one server, only its clients move.
        let gone = servers.remove(0);
        drop(gone);
        for (client, name) in first.iter().enumerate() {
            // The scripted server's kept connections outlive its listener: either answer is right for its own clients.
            let now = ask(client);
            assert!(now == *name || name == "a", "client {client} moved from {name} to {now}");
        }
    }

    fn random_two_uses_every_server(engine) {
        let (a, b, c) = (named("a"), named("b"), named("c"));
        let at = address();
        let pool = "balance = \"random-two\"";
        let _gate = Ringgate::start(engine, &site(at, "", pool, &[a.address, b.address, c.address]));
        let seen = bodies(at, 90);
        assert!(["a", "b", "c"].iter().all(|name| seen.contains(name)), "{seen}");
    }

    fn a_unix_socket_serves(engine) {
        let origin = Nginx::with("unix", "", "listen unix:{folder}/app.sock;");
        let at = address();
        let socket = origin.folder().join("app.sock");
        let config = format!(
            "[http.main]\nlisten = [\"{at}\"]\nroutes = [ {{ pool = \"app\" }} ]\n
            [pool.app]\nbalance = \"least-connections\"\nservers = [ {{ address = \"unix:{}\" }} ]\n",
            socket.display()
        );
        let _gate = Ringgate::start(engine, &config);
        for _ in 0..4 {
            assert_eq!(curl_text(&[&format!("http://{at}/whoami")]), "unix\n");
        }
    }
}

both_engines! {
    fn a_dead_server_costs_no_request_and_comes_back(engine) {
        let (a, mut b) = (Nginx::start("A"), Nginx::start("B"));
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[a.address, b.address]));
        let url = format!("http://{at}/whoami");
        assert_eq!(curl_text(&[&url, &url]).len(), 4);
        b.stop();
        for _ in 0..30 {
            assert_eq!(curl_text(&[&url]), "A\n");
        }
        for _ in 0..10 {
            assert_eq!(curl_text(&["-d", "x", &format!("http://{at}/uri")]), "POST /uri\n", "nothing was sent to B");
        }
        b.start_again();
        eventually("B is used again", || (curl_text(&[&url]) == "B\n").then_some(()));
        let seen: String = (0..10).map(|_| curl_text(&[&url])).collect::<String>().replace('\n', "");
        assert_eq!(seen.matches('A').count(), 5, "the shares are even again: {seen}");
    }

    fn a_refusing_server_is_left_alone_for_a_while(engine) {
        // It accepts and resets, so that its connections can be counted.
        let broken = Server::start(|wire| wire.reset_when_dropped());
        let good = named("g");
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[broken.address, good.address]));
        let start = now();
        assert_eq!(bodies(at, 60), "g".repeat(60));
        let (tried, seconds) = (broken.connections(), start.elapsed().as_secs());
        assert!((1..=15 + 4 * seconds as usize).contains(&tried), "{tried} connections for 60 requests in {seconds} s");
    }

    fn server_connections_are_kept_and_reused(engine) {
        let origin = Nginx::start("A");
        let at = address();
        let config = site(at, "", "", &[origin.address]) + "[workers]\ncount = 1\n";
        let _gate = Ringgate::start(engine, &config);
        let url = format!("http://{at}/connection");
        let seen: Vec<String> = (0..10).map(|_| curl_text(&[&url])).collect();
        let connection = seen[0].split(' ').next().unwrap();
        for (number, line) in seen.iter().enumerate() {
            assert_eq!(*line, format!("{connection} {}\n", number + 1), "{seen:?}");
        }
    }

    fn server_connections_are_closed_where_told(engine) {
        let origin = Nginx::start("A");
        let at = address();
        let config = site(at, "", "keep_alive = false", &[origin.address]) + "[workers]\ncount = 1\n";
        let gate = Ringgate::start(engine, &config);
        let before = gate.settled();
        let url = format!("http://{at}/connection");
        for _ in 0..4 {
            assert!(curl_text(&[&url]).ends_with(" 1\n"));
        }
        eventually("no connection is left", || (gate.running.descriptors() <= before).then_some(()));
    }

    fn unused_server_connections_are_closed_in_time(engine) {
        let origin = Nginx::start("A");
        let at = address();
        let pool = "timeouts = { idle = \"300ms\" }";
        let gate = Ringgate::start(engine, &site(at, "", pool, &[origin.address]));
        let before = gate.settled();
        curl_text(&[&format!("http://{at}/whoami")]);
        eventually("the kept connection is closed", || (gate.running.descriptors() <= before).then_some(()));
    }

    fn a_stale_connection_is_retried_silently(engine) {
        // The first connection closes without a word when its second request comes.
        let server = Server::start(|wire| {
            let mut served = 0;
            while let Ok(Some(_)) = wire.request() {
                served += 1;
                if served == 2 && wire.number == 0 {
                    return;
                }
                let _ = wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
        });
        let at = address();
        let config = site(at, "", "", &[server.address]) + "[workers]\ncount = 1\n";
        let _gate = Ringgate::start(engine, &config);
        let mut client = Wire::connect(at);
        for n in 0..4 {
            assert_eq!(client.ask(ASK).text(), "ok", "request {n}");
        }
        assert_eq!(server.connections(), 2);
    }

    fn a_connection_that_the_server_closed_is_not_used(engine) {
        // Every connection closes in order right after its first answer, without saying so.
        let server = Server::start(|wire| {
            let _ = wire.request();
            let _ = wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        });
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let mut client = Wire::connect(at);
        for n in 0..10 {
            let post = format!("POST /{n} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody");
            assert_eq!(client.ask(&post).text(), "ok", "request {n}");
            assert_eq!(server.count(&format!("POST /{n} ")), 1);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn only_idempotent_requests_are_sent_again(engine) {
        let broken = Server::start(|wire| {
            let _ = wire.request();
        });
        let good = named("g");
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "", &[broken.address, good.address]));
        let mut failed = 0;
        for n in 0..10 {
            assert_eq!(Wire::connect(at).ask(&format!("GET /get{n} HTTP/1.1\r\nHost: x\r\n\r\n")).text(), "g");
            let request = format!("POST /post{n} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi");
            let post = Wire::connect(at).ask(&request);
            let (there, here) = (broken.count(&format!("/post{n} ")), good.count(&format!("/post{n} ")));
            assert_eq!(there + here, 1, "POST {n} was sent {there} and {here} times");
            assert_eq!(post.status(), if there == 1 { 502 } else { 200 }, "POST {n}");
            failed += there;
        }
        assert!(broken.connections() > 0, "the test met the broken server ({failed} POSTs failed)");
    }

    fn attempts_are_bounded(engine) {
        let tried = Arc::new(AtomicUsize::new(0));
        let count = tried.clone();
        let broken = Server::start(move |wire| {
            if let Ok(Some(_)) = wire.request() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        let at = address();
        let _gate = Ringgate::start(engine, &site(at, "", "attempts = 1", &[broken.address]));
        assert_eq!(Wire::connect(at).ask(ASK).status(), 502);
        assert_eq!(tried.load(Ordering::SeqCst), 1);
    }
}

/// A pool of one server that takes one request at a time.
fn one_at_a_time(at: std::net::SocketAddr, server: std::net::SocketAddr, queue: &str) -> String {
    format!(
        "[http.main]\nlisten = [\"{at}\"]\nroutes = [ {{ pool = \"main\" }} ]
        [pool.main]\nqueue = {queue}\nservers = [ {{ address = \"{server}\", connections = 1 }} ]\n"
    )
}

both_engines! {
    fn a_full_server_is_waited_for_in_order(engine) {
        let (most, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (seen, inside) = (most.clone(), open.clone());
        let server = Server::start(move |wire| {
            while let Ok(Some(_)) = wire.request() {
                seen.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(30));
                inside.fetch_sub(1, Ordering::SeqCst);
                let _ = wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
        });
        let at = address();
        let _gate = Ringgate::start(engine, &one_at_a_time(at, server.address, "{ max = 100, timeout = \"8s\" }"));
        let mut clients: Vec<Wire> = (0..20).map(|_| Wire::connect(at)).collect();
        clients.iter_mut().for_each(|client| client.send(ASK).unwrap());
        for client in &mut clients {
            assert_eq!(client.answer().unwrap().text(), "ok");
        }
        assert_eq!(most.load(Ordering::SeqCst), 1, "one request at a time, over all workers");
    }

    fn waiting_ends_with_503(engine) {
        let server = Server::start(|wire| {
            let _ = wire.request();
            std::thread::sleep(Duration::from_secs(2));
            let _ = wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            let _ = wire.rest_however();
        });
        let at = address();
        let _gate = Ringgate::start(engine, &one_at_a_time(at, server.address, "{ max = 1, timeout = \"400ms\" }"));
        let mut served = Wire::connect(at);
        served.send(ASK).unwrap();
        eventually("the server is busy", || (server.count("GET ") == 1).then_some(()));
        let mut waits = Wire::connect(at);
        waits.send(ASK).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(Wire::connect(at).ask(ASK).status(), 503, "the queue is full");
        assert_eq!(waits.answer().unwrap().status(), 503, "the wait was too long");
        assert_eq!(served.answer().unwrap().text(), "ok");
        assert_eq!(server.count("GET "), 1);
    }

    fn a_client_that_leaves_the_queue_frees_its_place(engine) {
        let server = Server::start(|wire| {
            while let Ok(Some(_)) = wire.request() {
                std::thread::sleep(Duration::from_millis(500));
                let _ = wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
        });
        let at = address();
        let _gate = Ringgate::start(engine, &one_at_a_time(at, server.address, "{ max = 1, timeout = \"8s\" }"));
        let mut served = Wire::connect(at);
        served.send(ASK).unwrap();
        eventually("the server is busy", || (server.count("GET ") == 1).then_some(()));
        let mut leaves = Wire::connect(at);
        leaves.send("GET /left HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        std::thread::sleep(Duration::from_millis(50));
        leaves.reset();
        std::thread::sleep(Duration::from_millis(50));
        let mut stays = Wire::connect(at);
        assert_eq!(stays.ask(ASK).text(), "ok");
        assert_eq!(served.answer().unwrap().text(), "ok");
        assert_eq!(server.count("/left"), 0);
    }
}

both_engines! {
    fn routes_go_by_host_and_path(engine) {
        let at = address();
        let server = |name: &'static str| named(name);
        let pools = [
            ("web", server("web")), ("foobar", server("foobar")), ("api", server("api")), ("exact", server("exact")),
            ("wild", server("wild")), ("sub", server("sub")),
        ];
        let mut config = format!(
            "[http.main]\nlisten = [\"{at}\"]\nroutes = [
            {{ host = \"www.foobar.com\", pool = \"foobar\" }},
            {{ host = \"www.foobar.com\", path = \"/api/\", pool = \"api\" }},
            {{ host = \"www.foobar.com\", exact = \"/api/exact\", pool = \"exact\" }},
            {{ host = \"*.wild.org\", pool = \"wild\" }},
            {{ host = \"sub.wild.org\", pool = \"sub\" }},
            {{ pool = \"web\" }} ]\n"
        );
        for (name, server) in &pools {
            config += &format!("[pool.{name}]\nservers = [ {{ address = \"{}\" }} ]\n", server.address);
        }
        let _gate = Ringgate::start(engine, &config);
        let mut client = Wire::connect(at);
        for (host, path, pool) in [
            ("www.foobar.com", "/", "foobar"),
            ("www.foobar.com:8080", "/", "foobar"),
            ("WWW.FooBar.COM", "/x", "foobar"),
            ("www.foobar.com", "/api/", "api"),
            ("www.foobar.com", "/api/x?y=z", "api"),
            ("www.foobar.com", "/apix", "foobar"),
            ("www.foobar.com", "/x/api/", "foobar"),
            ("www.foobar.com", "/x?/api/", "foobar"),
            ("www.foobar.com", "/api/exact", "exact"),
            ("www.foobar.com", "/api/exact?q", "exact"),
            ("www.foobar.com", "/api/exactly", "api"),
            ("a.wild.org", "/", "wild"),
            ("sub.wild.org", "/", "sub"),
            ("wild.org", "/", "web"),
            ("evilwild.org", "/", "web"),
            ("foobar.com", "/api/", "web"),
            ("127.0.0.1", "/", "web"),
        ] {
            let answer = client.ask(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            assert_eq!(answer.text(), pool, "{host}{path}");
        }
        let absolute = client.ask("GET http://www.foobar.com/api/ HTTP/1.1\r\nHost: wild.org\r\n\r\n");
        assert_eq!(absolute.text(), "api");
    }

    fn a_rule_cannot_be_slipped_past_by_spelling(engine) {
        let server = named("open");
        let at = address();
        let config = format!(
            "[http.main]\nlisten = [\"{at}\"]\nroutes = [
            {{ path = \"/admin\", answer = {{ status = 403, text = \"closed\" }} }},
            {{ pool = \"main\" }} ]\n[pool.main]\nservers = [ {{ address = \"{}\" }} ]\n",
            server.address
        );
        let _gate = Ringgate::start(engine, &config);
        for path in ["/admin", "/admin/", "/admin/x", "/x/../admin", "/%61dmin", "/./admin", "/admin/../admin?x", "/x/%2e%2e/admin"] {
            let answer = Wire::connect(at).ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
            assert!([403, 400].contains(&answer.status()), "{path}: {}", answer.head);
        }
        for path in ["/", "/administrator", "/x/admin", "/%2561dmin"] {
            let answer = Wire::connect(at).ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
            assert_eq!(answer.text(), "open", "{path}");
        }
        assert!(server.text().contains("GET /%2561dmin HTTP/1.1\r\n"), "the target is forwarded as it came");
    }

    fn fixed_answers_and_redirects(engine) {
        let at = address();
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("page.html");
        std::fs::write(&file, "<p>from a file</p>").unwrap();
        let config = format!(
            "[http.main]\nlisten = [\"{at}\"]\nroutes = [
            {{ path = \"/old/\", redirect = {{ to = \"https://new.example\" }} }},
            {{ exact = \"/text\", answer = {{ status = 403, text = \"no\" }} }},
            {{ exact = \"/json\", answer = {{ status = 200, text = \"{{}}\", content_type = \"application/json\" }} }},
            {{ exact = \"/file\", answer = {{ status = 200, file = \"{}\" }} }},
            {{ redirect = \"https\" }} ]\n",
            file.display()
        );
        let _gate = Ringgate::start(engine, &config);
        let mut client = Wire::connect(at);
        let mut ask = |path: &str| client.ask(&format!("GET {path} HTTP/1.1\r\nHost: www.foobar.com\r\n\r\n"));
        let text = ask("/text");
        assert_eq!((text.status(), text.text().as_str()), (403, "no"));
        assert!(text.field("content-type").unwrap().starts_with("text/plain"), "{}", text.head);
        let json = ask("/json");
        assert_eq!((json.text().as_str(), json.field("content-type").as_deref()), ("{}", Some("application/json")));
        let page = ask("/file");
        assert_eq!((page.status(), page.text().as_str()), (200, "<p>from a file</p>"));
        assert!(page.field("content-type").unwrap().starts_with("text/html"), "{}", page.head);
        let secure = ask("/a/b?c=d");
        assert!([301, 308].contains(&secure.status()), "{}", secure.head);
        assert_eq!(secure.field("location").as_deref(), Some("https://www.foobar.com/a/b?c=d"));
        let moved = ask("/old/page?x=1");
        assert!((300..400).contains(&moved.status()), "{}", moved.head);
        assert!(moved.field("location").unwrap().starts_with("https://new.example"), "{}", moved.head);
        let head = curl(&["--head", &format!("http://{at}/file")]);
        assert_eq!((head.code, head.status, head.field("content-length").as_deref()), (0, 200, Some("18")));
        let posted = curl(&["-d", "some body", &format!("http://{at}/text")]);
        assert_eq!((posted.code, posted.status), (0, 403));
    }
}
