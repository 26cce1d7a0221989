//! The command line: the demo, `check`, `explain`, help, mistakes at start, signals.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use common::{
    Engine, Ringgate, Running, Server, Wire, address, curl, curl_text, eventually, is_listening,
    lone_address, now, site,
};
use tempfile::TempDir;

const ASK: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// The first `SCHEME://host:port` in a text.
fn url(text: &str, scheme: &str) -> Option<String> {
    let start = text.find(&format!("{scheme}://"))?;
    let end = text[start..]
        .find(|c: char| c.is_whitespace() || "\"'),;".contains(c))
        .map_or(text.len(), |end| start + end);
    // A start-up text that is still being written may end inside the address.
    (end < text.len()).then(|| text[start..end].trim_end_matches(['/', '.']).to_owned())
}

/// One test for both engines: a second demo would listen on the same ports.
#[test]
fn the_demo_works_without_a_file() {
    for engine in [Engine::IoUring, Engine::Epoll] {
        let folder = TempDir::new().unwrap();
        let arguments = ["run", "--engine", engine.flag()];
        // Other tests may run a demo too: it must say which ports it took, or that they are taken.
        let mut demo = eventually("a demo starts", || {
            let mut demo = Running::start("ringgate", Ringgate::program(), &arguments, folder.path());
            std::thread::sleep(Duration::from_millis(300));
            match demo.ended() {
                None => Some(demo),
                Some(_) => {
                    assert!(demo.text().contains("in use"), "{}", demo.text());
                    None
                }
            }
        });
        let (http, https) = eventually("it prints its addresses", || {
            let text = demo.text();
            Some((url(&text, "http")?, url(&text, "https")?))
        });
        for (page, insecure) in [(&http, "-s"), (&https, "-k")] {
            let pages: Vec<String> = (0..4).map(|_| curl_text(&[insecure, page])).collect();
            let page_of =
                |name: &str| pages.iter().filter(|page| page.contains(&format!("server {name}"))).count();
            let lower: Vec<String> = pages.iter().map(|page| page.to_lowercase()).collect();
            assert!(lower.iter().all(|page| page.contains("<html")), "{}", pages[0]);
            assert_eq!((page_of("A"), page_of("B")), (2, 2), "{page}: {}", pages[0]);
            assert_ne!(pages[0], pages[1]);
            assert!(curl(&[insecure, page]).field("content-type").unwrap().starts_with("text/html"));
        }
        let text = demo.text();
        let dashboard = url(text.split_once("The dashboard:").unwrap().1, "http").unwrap();
        assert!(curl_text(&[&dashboard]).contains("<title>ringgate"), "{text}");
        demo.signal("TERM");
        assert_eq!(demo.wait().code(), Some(0), "{}", demo.text());
    }
}

/// A configuration with six mistakes, and on which lines they are.
const MISTAKES: &str = "\
[http.main]
listen = [\"127.0.0.1:99999\"]
routes = [ { path = \"api\", pool = \"nowhere\" } ]
lissten = 3

[pool.web]
balance = \"round-robbin\"
servers = [ { address = \"127.0.0.1\" } ]

[limits]
memory_max = \"lots\"
";

#[test]
fn check_shows_every_mistake_with_its_place() {
    let said = Ringgate::once(Some(MISTAKES), &["check", "{file}"]);
    let text = said.text();
    assert_eq!(said.code, Some(1), "{text}");
    for line in [2, 3, 4, 7, 8, 11] {
        assert!(text.contains(&format!("ringgate.toml:{line}:")), "line {line} is not named: {text}");
    }
    assert!(text.matches('^').count() >= 6, "carets: {text}");
    assert!(text.contains("lissten = 3"), "the line itself: {text}");
    assert!(text.contains("listen"), "did you mean: {text}");
    assert!(text.contains("round-robin"), "did you mean: {text}");
    // The caret stands under the mistake.
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|line| line.contains("lissten = 3")).unwrap();
    assert_eq!(lines[at].find("lissten"), lines[at + 1].find('^'), "{text}");
}

#[test]
fn check_accepts_what_run_accepts() {
    let good = site(address(), "", "", &[address()]);
    let said = Ringgate::once(Some(&good), &["check", "{file}"]);
    assert_eq!(said.code, Some(0), "{}", said.text());
    let broken = Ringgate::once(Some("[http.main\n"), &["check", "{file}"]);
    assert_eq!(broken.code, Some(1));
    assert!(broken.text().contains("ringgate.toml:1:"), "{}", broken.text());
    let missing = Ringgate::once(None, &["check", "{file}"]);
    assert_eq!(missing.code, Some(1));
    assert!(missing.text().contains("ringgate.toml"), "{}", missing.text());
}

#[test]
fn run_refuses_what_check_refuses() {
    let said = Ringgate::once(Some(MISTAKES), &["run", "{file}"]);
    assert_ne!(said.code, Some(0));
    assert!(said.text().contains("ringgate.toml:4:"), "{}", said.text());
    let missing = Ringgate::once(None, &["run", "{file}"]);
    assert_ne!(missing.code, Some(0));
    assert!(missing.text().contains("ringgate.toml"), "{}", missing.text());
}

/// The example of the documentation, with what a test can have.
fn documented(certificates: &str) -> String {
    format!(
        r#"
[http.public]
listen = ["0.0.0.0:80"]
redirect = "https"

[http.secure]
listen = ["0.0.0.0:443"]
certificates = ["{certificates}"]
routes = [
  {{ host = "www.foobar.com", path = "/api/", pool = "app" }},
  {{ pool = "web" }},
]

[pool.web]
balance = "round-robin"
servers = [ {{ address = "10.0.0.11:80" }}, {{ address = "10.0.0.12:80", weight = 2 }}, {{ address = "10.0.0.13:80", backup = true }} ]

[pool.app]
balance = "least-connections"
servers = [ {{ address = "unix:/run/app.sock" }} ]

[workers]
count = 2        # default: one per core
"#
    )
}

#[test]
fn explain_says_where_a_request_goes_and_why() {
    let authority = common::Authority::new();
    let cert = authority.issue("www", &["www.foobar.com"]);
    let config = documented(cert.both.to_str().unwrap());
    let check = Ringgate::once(Some(&config), &["check", "{file}"]);
    assert_eq!(check.code, Some(0), "{}", check.text());
    for (url, words) in [
        ("https://www.foobar.com:443/api/x", &["secure", "app", "www.foobar.com", "/api/", "10.0.0.99"][..]),
        ("https://www.foobar.com/api/x", &["secure", "app"]),
        ("https://other.org/api/x", &["secure", "web"]),
        ("http://www.foobar.com/", &["public", "https"]),
    ] {
        let arguments = ["explain", "http", "{file}", "--url", url, "--from", "10.0.0.99"];
        let said = Ringgate::once(Some(&config), &arguments);
        assert_eq!(said.code, Some(0), "{url}: {}", said.text());
        for word in words {
            assert!(said.stdout.contains(word), "{url}: {word} is not in {}", said.text());
        }
    }
    let bad = Ringgate::once(Some(&config), &["explain", "http", "{file}", "--url", "nonsense"]);
    assert_ne!(bad.code, Some(0), "{}", bad.text());
}

#[test]
fn explain_says_where_a_statement_goes_and_why() {
    let ask = |arguments: &[&str]| Ringgate::once(None, &[&["explain", "sql"], arguments].concat());
    let said = ask(&["select 1", "update t set a = 1", "--server", "mysql-9"]);
    assert_eq!(said.code, Some(0), "{}", said.text());
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert!(
        lines.len() == 2 && lines[0].starts_with("replica ") && lines[1].starts_with("primary "),
        "{lines:?}"
    );
    let said = ask(&["--session", "set autocommit = 0", "select 1"]);
    assert!(said.stdout.contains("autocommit is off"), "{}", said.text());
    for (arguments, word) in [
        (&["--server", "oracle-19", "select 1"][..], "mariadb-VERSION or mysql-VERSION"),
        (&["--sql-mode", "ANSI_QOUTES", "select 1"], "did you mean ANSI_QUOTES?"),
        (&["--charset", "utf16", "select 1"], "no character set that a client can use"),
    ] {
        let said = ask(arguments);
        assert!(said.code == Some(2) && said.stderr.contains(word), "{}", said.text());
    }
}

/// Its examples are what newcomers copy: they must be right.
#[test]
fn the_examples_of_the_readme_are_right() {
    let authority = common::Authority::new();
    let folder = authority.folder();
    let site = authority.issue("special", &["www.foobar.com", "*.foobar.com"]);
    std::fs::write(folder.join("sorry.html"), "sorry").unwrap();
    std::fs::copy(authority.ca(), folder.join("clients.pem")).unwrap();
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let blocks: Vec<&str> =
        readme.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 5, "{blocks:?}");
    // The first is a whole file; the others, one after the other, are another.
    for (name, text) in [("first.toml", blocks[0].to_owned()), ("others.toml", blocks[1..].concat())] {
        let file = folder.join(name);
        let text = text.replace("/etc/ringgate/certs", site.both.to_str().unwrap());
        let text = text.replace("/var/log/ringgate", folder.to_str().unwrap());
        let secret = folder.join("sql.secret");
        std::fs::write(&secret, "secret").unwrap();
        let text = text.replace("/etc/ringgate/sql.secret", secret.to_str().unwrap());
        std::fs::write(&file, text).unwrap();
        let said = Ringgate::once(None, &["check", file.to_str().unwrap()]);
        assert_eq!(said.code, Some(0), "{name}: {}", said.text());
        assert!(!said.text().contains("warning"), "{name}: {}", said.text());
    }
}

#[test]
fn help_teaches() {
    let help = Ringgate::once(None, &["--help"]);
    assert_eq!(help.code, Some(0));
    for word in ["run", "check", "explain", "https://", "ringgate run", "[pool."] {
        assert!(help.stdout.contains(word), "{word}: {}", help.stdout);
    }
    let run = Ringgate::once(None, &["run", "--help"]);
    assert!(run.stdout.contains("--engine") && run.stdout.contains("io_uring"), "{}", run.stdout);
    let version = Ringgate::once(None, &["--version"]);
    assert_eq!(version.stdout.trim(), format!("ringgate {}", env!("CARGO_PKG_VERSION")));
    let unknown = Ringgate::once(None, &["rum"]);
    assert_eq!(unknown.code, Some(2), "{}", unknown.text());
    assert!(unknown.stderr.contains("run"), "{}", unknown.stderr);
}

both_engines! {
    fn a_port_in_use_is_named(engine) {
        let at = address();
        let _taken = TcpListener::bind(at).unwrap();
        let config = site(at, "", "", &[address()]);
        let said = Ringgate::once(Some(&config), &["run", "{file}", "--engine", engine.flag()]);
        assert_ne!(said.code, Some(0));
        assert!(said.text().contains(&at.to_string()) && said.text().contains("in use"), "{}", said.text());
    }

    fn a_second_start_on_the_same_address_fails(engine) {
        let server = Server::ok();
        let at = address();
        let config = site(at, "", "", &[server.address]);
        let mut first = Ringgate::start(engine, &config);
        // Also when it wants all addresses of the host.
        let everywhere = config.replace(&at.to_string(), &format!("0.0.0.0:{}", at.port()));
        for (config, address) in [(&config, at.to_string()), (&everywhere, format!("0.0.0.0:{}", at.port()))] {
            let said = Ringgate::once(Some(config), &["run", "{file}", "--engine", engine.flag()]);
            assert_ne!(said.code, Some(0));
            assert!(said.text().contains(&address) && said.text().contains("in use"), "{}", said.text());
            assert!(said.text().contains(&format!("sport = :{}", at.port())), "{}", said.text());
        }
        // What a killed one leaves behind is no hindrance.
        for _ in 0..3 {
            assert_eq!(Wire::connect(at).ask(ASK).text(), "ok");
            first.running.kill();
            first = Ringgate::start(engine, &config);
            // The sockets of the killed one may be there a moment longer: what it says is the new one's own.
            eventually("the new one listens", || first.running.text().contains("workers").then_some(()));
        }
    }

    fn listeners_of_one_file_do_not_hinder_each_other(engine) {
        let at = lone_address();
        let every = format!("0.0.0.0:{}", at.port());
        let listen = format!("listen = [\"{at}\", \"{every}\", \"[::]:{}\"]", at.port());
        let config = site(at, "", "", &[Server::ok().address]).replace(&format!("listen = [\"{at}\"]"), &listen);
        let said = Ringgate::once(Some(&config), &["check", "{file}"]);
        assert_eq!(said.code, Some(0), "{}", said.text());
        let mut gate = Ringgate::start(engine, &config);
        gate.running.signal("TERM");
        assert_eq!(gate.running.wait().code(), Some(0), "{}", gate.running.text());
    }

    fn start_up_says_what_listens_where(engine) {
        let (one, two) = (address(), address());
        let config = format!(
            "[http.main]\nlisten = [\"{one}\"]\nroutes = [ {{ pool = \"main\" }} ]
            [tcp.other]\nlisten = [\"{two}\"]\npool = \"main\"\n[pool.main]\nservers = [ {{ address = \"{}\" }} ]\n",
            address()
        );
        let gate = Ringgate::start(engine, &config);
        eventually("it says so", || {
            let text = gate.running.text();
            [one.to_string(), two.to_string(), engine.flag().into()].iter().all(|word| text.contains(word)).then_some(())
        });
    }

    fn a_quick_restart_gets_its_port(engine) {
        let server = Server::ok();
        let at = address();
        for _ in 0..4 {
            let mut gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
            assert_eq!(Wire::connect(at).ask(ASK).text(), "ok");
            gate.running.signal("TERM");
            assert_eq!(gate.running.wait().code(), Some(0));
        }
    }
}

both_engines! {
    fn sigterm_lets_requests_finish(engine) {
        let server = Server::start(|wire| {
            while let Ok(Some(request)) = wire.request() {
                if !request.head.starts_with("GET /slow ") {
                    let _ = wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                    continue;
                }
                std::thread::sleep(Duration::from_millis(700));
                let _ = wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nlate \r\n");
                std::thread::sleep(Duration::from_millis(300));
                let _ = wire.send("6\r\nanswer\r\n0\r\n\r\n");
            }
        });
        let at = address();
        let mut gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let mut busy = Wire::connect(at);
        let mut idle = Wire::connect(at);
        assert_eq!(idle.ask(ASK).text(), "ok");
        busy.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        eventually("the request is on its way", || (server.count("GET /slow ") == 1).then_some(()));
        gate.running.signal("TERM");
        eventually("nobody listens", || (!is_listening(at)).then_some(()));
        let last = idle.ask(ASK);
        assert_eq!((last.text().as_str(), last.field("connection").as_deref()), ("ok", Some("close")));
        idle.assert_closed();
        assert!(TcpStream::connect(at).is_err(), "new connections are refused");
        assert_eq!(gate.running.ended(), None, "it waits for the request");
        let answer = busy.answer().unwrap();
        assert_eq!((answer.status(), answer.text().as_str()), (200, "late answer"));
        busy.assert_closed();
        assert_eq!(gate.running.wait().code(), Some(0), "{}", gate.running.text());
    }

    fn unused_connections_keep_nobody_waiting(engine) {
        let (at, server) = (address(), Server::ok());
        let mut gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let (mut idle, _new) = (Wire::connect(at), Wire::connect(at));
        assert_eq!(idle.ask(ASK).text(), "ok");
        let start = now();
        gate.running.signal("TERM");
        assert_eq!(gate.running.wait().code(), Some(0), "{}", gate.running.text());
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    }

    fn a_drain_has_an_end(engine) {
        let server = Server::start(|wire| {
            let _ = wire.rest_however();
        });
        let at = address();
        let config = site(at, "", "", &[server.address]) + "[limits]\ndrain = \"300ms\"\n";
        let mut gate = Ringgate::start(engine, &config);
        let mut busy = Wire::connect(at);
        busy.send(ASK).unwrap();
        eventually("the request is on its way", || (server.count("GET ") == 1).then_some(()));
        gate.running.signal("TERM");
        assert_eq!(gate.running.wait().code(), Some(0), "{}", gate.running.text());
    }

    fn a_second_sigterm_stops_at_once(engine) {
        let server = Server::start(|wire| {
            let _ = wire.rest_however();
        });
        let at = address();
        let mut gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        let mut busy = Wire::connect(at);
        busy.send(ASK).unwrap();
        eventually("the request is on its way", || (server.count("GET ") == 1).then_some(()));
        gate.running.signal("TERM");
        eventually("nobody listens", || (!is_listening(at)).then_some(()));
        assert_eq!(gate.running.ended(), None);
        gate.running.signal("TERM");
        // The drain would last 30 seconds, which is longer than any wait here.
        gate.running.wait();
    }

    fn sigint_stops_like_sigterm(engine) {
        let at = address();
        let mut gate = Ringgate::start(engine, &site(at, "", "", &[address()]));
        gate.running.signal("INT");
        assert_eq!(gate.running.wait().code(), Some(0), "{}", gate.running.text());
    }

    fn the_default_limit_of_locked_memory_is_enough(engine) {
        let server = Server::ok();
        let at = address();
        let gate = under(engine, "ulimit -l 8192 2>/dev/null || ulimit -l 64", &site(at, "", "", &[server.address]), at);
        assert_eq!(Wire::connect(at).ask(ASK).text(), "ok", "{}", gate.0.text());
    }

    fn few_open_files_are_said_at_start_and_survived(engine) {
        let server = Server::ok();
        let at = address();
        let gate = under(engine, "ulimit -n 256", &site(at, "", "", &[server.address]), at);
        eventually("it says how many connections that allows", || gate.0.text().contains("files").then_some(()));
        // More connections than files: those that have no place wait for one, and cost nothing meanwhile.
        let mut clients: Vec<Wire> = (0..300).map(|_| Wire::connect(at)).collect();
        std::thread::sleep(Duration::from_millis(200));
        let before = gate.0.processor_time("");
        std::thread::sleep(Duration::from_secs(1));
        let used = gate.0.processor_time("") - before;
        assert!(used <= Duration::from_millis(10), "{used:?}");
        // Each of them is answered, and none is told that there are no files.
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        }
        for (at, client) in clients.iter_mut().enumerate() {
            let answer = client.answer().unwrap_or_else(|error| panic!("client {at}: {error}"));
            assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"), "client {at}");
        }
        drop(clients);
        eventually("it serves again", || (curl(&[&format!("http://{at}/")]).status == 200).then_some(()));
    }

    fn kept_server_connections_do_not_use_up_the_files(engine) {
        let slow = || {
            Server::start(|wire| {
                while let Ok(Some(_)) = wire.request() {
                    std::thread::sleep(Duration::from_millis(300));
                    let _ = wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                }
            })
        };
        let servers = [slow(), slow(), slow(), slow()];
        let at = address();
        let mut routes = String::new();
        let mut pools = String::new();
        for (number, server) in servers.iter().enumerate() {
            routes += &format!("{{ path = \"/{number}\", pool = \"p{number}\" }}, ");
            pools += &format!("[pool.p{number}]\nservers = [ {{ address = \"{}\" }} ]\n", server.address);
        }
        let config = format!("[http.main]\nlisten = [\"{at}\"]\nroutes = [ {routes} ]\n{pools}");
        let gate = under(engine, "ulimit -n 256", &config, at);
        // It says so when both workers listen: one alone has no place for all clients.
        eventually("all workers listen", || gate.0.text().contains("files may be open").then_some(()));
        let mut clients: Vec<Wire> = (0..60).map(|_| Wire::connect(at)).collect();
        // All at once, so that each round needs a connection for each client: with what is kept, more than fits.
        for path in ["/0", "/1", "/2", "/3", "/0"] {
            for client in &mut clients {
                client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).unwrap();
            }
            for (number, client) in clients.iter_mut().enumerate() {
                assert_eq!(client.answer().unwrap().status(), 200, "client {number}, {path}");
            }
        }
    }
}

/// Starts ringgate from a shell that first runs `limits`.
fn under(engine: Engine, limits: &str, config: &str, at: SocketAddr) -> (Running, TempDir) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("ringgate.toml");
    std::fs::write(&file, format!("{config}\n[workers]\ncount = 2\n")).unwrap();
    let program = Ringgate::program().display();
    let script = format!("{limits}; exec {program} run {} --engine {}", file.display(), engine.flag());
    let mut running = Running::start("ringgate", "/bin/sh".as_ref(), &["-c", &script], folder.path());
    running.wait_until("it listens", || is_listening(at));
    (running, folder)
}

#[test]
fn an_unknown_engine_is_refused_with_the_known_ones() {
    let output = Command::new(Ringgate::program()).args(["run", "--engine", "kqueue"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("epoll") && text.contains("io_uring"), "{text}");
}
