//! Reloads: what changed is taken over, what did not is not touched, and a mistake changes nothing.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use common::{
    Authority, Engine, Message, Nginx, Ringgate, Server, Wire, address, curl_text, eventually, is_listening,
    lone_address, now, program,
};

/// A running ringgate, and a kept connection to its admin interface.
struct Site {
    gate: Ringgate,
    admin: SocketAddr,
    wire: Wire,
}

impl Site {
    fn start(engine: Engine, config: &str) -> Self {
        let admin = address();
        let gate = Ringgate::start(engine, &Self::whole(admin, config));
        eventually("the admin interface listens", || is_listening(admin).then_some(()));
        Self { gate, admin, wire: Wire::connect(admin) }
    }

    fn whole(admin: SocketAddr, config: &str) -> String {
        let watch = if config.contains("# watch") { "watch = true" } else { "" };
        format!("{config}\n[admin]\nlisten = [\"{admin}\"]\n{watch}\n[workers]\ncount = 2\n")
    }

    fn write(&self, config: &str) {
        let text = Self::whole(self.admin, config);
        std::fs::write(self.gate.folder().join("ringgate.toml"), text).unwrap();
    }

    fn order(&mut self, method: &str, path: &str, body: &str) -> Message {
        let host = self.admin;
        let fields = format!("Host: {host}\r\nX-Ringgate: 1\r\nContent-Length: {}\r\n", body.len());
        let json = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        self.wire.ask(&format!("{method} {path} HTTP/1.1\r\n{fields}{json}\r\n{body}"))
    }

    /// The text of the answer to a reload that was applied.
    #[track_caller]
    fn reload(&mut self, config: &str) -> String {
        self.write(config);
        let answer = self.order("POST", "/v1/reload", "");
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer.text()
    }

    /// The text of the answer to a reload that was refused.
    #[track_caller]
    fn refused(&mut self, config: &str) -> String {
        self.write(config);
        let answer = self.order("POST", "/v1/reload", "");
        assert_eq!(answer.status(), 422, "{}", answer.text());
        answer.text()
    }
}

/// A block that answers by itself.
fn says(name: &str, at: SocketAddr, text: &str) -> String {
    let answer = format!("routes = [ {{ answer = {{ status = 200, text = \"{text}\" }} }} ]");
    format!("[http.{name}]\nlisten = [\"{at}\"]\n{answer}\n")
}

/// A pool.
fn pool(name: &str, servers: &[SocketAddr]) -> String {
    let list: Vec<String> = servers.iter().map(|server| format!("\"{server}\"")).collect();
    format!("[pool.{name}]\nservers = [ {} ]\n", list.join(", "))
}

/// A block with one pool of its name.
fn passes(name: &str, at: SocketAddr, servers: &[SocketAddr]) -> String {
    format!("[http.{name}]\nlisten = [\"{at}\"]\npool = \"{name}\"\n{}", pool(name, servers))
}

fn get(at: SocketAddr) -> String {
    curl_text(&[&format!("http://{at}/")])
}

fn wrk(at: SocketAddr, seconds: u32, close: bool) -> Child {
    let close = if close { "Connection: close" } else { "X-Kept: yes" };
    Command::new(program("wrk", "wrk"))
        .args(["-t1", "-c8", &format!("-d{seconds}s"), "-H", close, &format!("http://{at}/whoami")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Has wrk stop and report.
fn finish(wrk: &Child) {
    let kill = format!("kill -INT {}", wrk.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

#[track_caller]
fn flawless(wrk: Child) {
    let output = wrk.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!text.contains("Socket errors") && !text.contains("Non-2xx"), "{text}");
    let requests = text.lines().find_map(|line| line.trim().split_once(" requests in")).unwrap().0;
    assert!(requests.parse::<u64>().unwrap() > 100, "{text}");
}

/// The listener went and came. A connection that is being made at the moment in which its listener closes can be reset by
/// the kernel; nothing else is lost, refused, late or wrong.
#[track_caller]
fn reset_at_most(wrk: Child, connections: usize) {
    let output = wrk.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!text.contains("Non-2xx"), "{text}");
    let Some((_, errors)) = text.split_once("Socket errors: connect 0, read ") else {
        return assert!(!text.contains("Socket errors"), "{text}");
    };
    let (read, rest) = errors.split_once(", write ").unwrap();
    let (write, rest) = rest.split_once(", timeout ").unwrap();
    let reset = read.parse::<usize>().unwrap() + write.parse::<usize>().unwrap();
    assert!(reset <= connections && rest.starts_with("0\n"), "{text}");
    println!("{reset} connections were reset");
}

/// Sends back what it gets, behind a head that switches protocols if one is asked for.
fn echo(upgrade: bool) -> Server {
    Server::start(move |wire| {
        if upgrade {
            let Ok(Some(_)) = wire.request() else { return };
            let head =
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
            wire.send(head).unwrap();
        }
        while let Ok(byte) = wire.exactly(1) {
            if wire.send(byte).is_err() {
                return;
            }
        }
    })
}

#[track_caller]
fn echoes(wire: &mut Wire, text: &str) {
    wire.send(text).unwrap();
    assert_eq!(String::from_utf8_lossy(&wire.exactly(text.len()).unwrap()), text);
}

/// The configurations that many reloads go through: everything but the blocks `kept` and `relay` changes.
fn changing(kept: &str, extra: SocketAddr, servers: &[SocketAddr], turn: usize) -> String {
    let mut text = String::new();
    if !turn.is_multiple_of(3) {
        text.push_str(&says("extra", extra, &format!("turn {turn}")));
    }
    text.push_str(kept);
    if turn.is_multiple_of(2) {
        text.push_str(&pool(&format!("unused{turn}"), servers));
    }
    text
}

both_engines! {
    fn long_connections_survive_a_hundred_reloads(engine) {
        let (socket, relay, other) = (echo(true), echo(false), Server::ok());
        let (at, tcp, extra) = (address(), address(), address());
        let kept = passes("kept", at, &[socket.address])
            + &format!("[tcp.relay]\nlisten = [\"{tcp}\"]\npool = \"relay\"\n")
            + &pool("relay", &[relay.address]);
        let mut site = Site::start(engine, &changing(&kept, extra, &[other.address], 0));
        let mut web = Wire::connect(at);
        web.send("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n").unwrap();
        assert!(web.head().unwrap().starts_with("HTTP/1.1 101"));
        let mut raw = Wire::connect(tcp);
        for turn in 1..=100 {
            site.reload(&changing(&kept, extra, &[other.address], turn));
            echoes(&mut web, &format!("web {turn}"));
            echoes(&mut raw, &format!("raw {turn}"));
        }
        assert_eq!((socket.connections(), relay.connections()), (1, 1));
    }

    fn a_thousand_reloads_leave_nothing_behind(engine) {
        let server = Server::ok();
        let (at, extra) = (address(), address());
        let kept = passes("kept", at, &[server.address]);
        let turn = |turn| changing(&kept, extra, &[server.address], turn);
        let mut site = Site::start(engine, &turn(0));
        let mut client = Wire::connect(at);
        let mut memory = Vec::new();
        let mut descriptors = Vec::new();
        for at in 1..=1000 {
            site.reload(&turn(at));
            if at % 10 == 0 {
                assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").text(), "ok");
            }
            if at == 300 || at == 1000 {
                site.reload(&turn(0));
                // Closed listeners are forgotten after a moment, and their editions with them.
                std::thread::sleep(Duration::from_millis(1200));
                site.reload(&turn(0));
                memory.push(site.gate.running.memory_kib("VmRSS"));
                descriptors.push(site.gate.settled());
            }
        }
        assert_eq!(descriptors[0], descriptors[1]);
        assert!(memory[1] <= memory[0] + 2048, "{memory:?}");
    }

    fn load_does_not_notice_reloads(engine) {
        let (a, b) = (Nginx::start("A"), Nginx::start("B"));
        let (at, extra, moved) = (address(), address(), lone_address());
        let everywhere = SocketAddr::from(([0, 0, 0, 0], moved.port()));
        let config = |turn: usize| {
            let servers = [[a.address, b.address], [b.address, a.address]][turn % 2];
            let servers = &servers[turn % 3 / 2..];
            let mut text = changing(&passes("main", at, servers), extra, &[a.address], turn);
            text.push_str(&passes("moved", if turn.is_multiple_of(2) { moved } else { everywhere }, servers));
            text
        };
        let mut site = Site::start(engine, &config(0));
        let loads = [(at, true), (at, false), (moved, false)].map(|(at, close)| wrk(at, 300, close));
        for turn in 1..=50 {
            site.reload(&config(turn));
            std::thread::sleep(Duration::from_millis(20));
        }
        loads.iter().for_each(finish);
        let [close, kept, moved] = loads;
        flawless(close);
        flawless(kept);
        reset_at_most(moved, 10);
    }

    fn a_removed_listener_finishes_what_it_began(engine) {
        let slow = Server::start(|wire| {
            let Ok(Some(request)) = wire.request() else { return };
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no").unwrap();
            if request.head.contains("/quick") {
                wire.send("k").unwrap();
                return;
            }
            let forever = request.head.contains("/forever");
            std::thread::sleep(Duration::from_millis(if forever { 8000 } else { 500 }));
            let _ = wire.send("k");
        });
        let (at, stays) = (address(), address());
        let with = "[limits]\ndrain = \"2s\"\n".to_owned() + &says("stays", stays, "here");
        let both = with.clone() + &passes("goes", at, &[slow.address]);
        let mut site = Site::start(engine, &both);
        let quick = "GET /quick HTTP/1.1\r\nHost: x\r\n\r\n";
        let [mut idle, mut asks] = [(); 2].map(|()| Wire::connect(at));
        for wire in [&mut idle, &mut asks] {
            assert_eq!(wire.ask(quick).text(), "ok");
        }
        let [mut soon, mut never] = ["/", "/forever"].map(|path| {
            let mut wire = Wire::connect(at);
            wire.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).unwrap();
            wire.head().unwrap();
            wire.exactly(1).unwrap();
            wire
        });
        let start = now();
        site.reload(&(with.clone() + &pool("goes", &[slow.address])));
        eventually("nobody listens", || (!is_listening(at)).then_some(()));
        let last = asks.ask(quick);
        assert_eq!((last.text().as_str(), last.field("connection").as_deref()), ("ok", Some("close")));
        asks.assert_closed();
        assert_eq!(soon.exactly(1).unwrap(), b"k");
        soon.assert_closed();
        idle.assert_closed();
        never.rest_however().unwrap();
        let took = start.elapsed().as_millis();
        assert!((1500..4000).contains(&took), "the deadline ends the rest: {took} ms");
        site.reload(&(with + &says("goes", at, "back")));
        assert_eq!((get(at).as_str(), get(stays).as_str()), ("back", "here"));
    }

    fn a_listener_moves_to_all_addresses_and_back(engine) {
        let at = lone_address();
        let everywhere = SocketAddr::from(([0, 0, 0, 0], at.port()));
        let mut site = Site::start(engine, &says("main", at, "one"));
        for turn in 0..6 {
            let to = if turn % 2 == 0 { everywhere } else { at };
            site.reload(&says("main", to, &format!("turn {turn}")));
            for _ in 0..5 {
                assert_eq!(get(at), format!("turn {turn}"));
            }
        }
    }

    fn a_unix_listener_comes_and_goes(engine) {
        let at = address();
        let without = says("main", at, "tcp");
        let folder = tempfile::TempDir::new().unwrap();
        // The sandbox lets it use folders that were named at the start.
        let other = format!("unix:{}", folder.path().join("other.sock").display());
        let without = without + &says("other", at, "other").replace(&at.to_string(), &other);
        let mut site = Site::start(engine, &without);
        let path = folder.path().join("site.sock");
        let with = without.clone() + &says("local", at, "local").replace(&at.to_string(), &format!("unix:{}", path.display()));
        let ask = |path: &Path| {
            let mut stream = UnixStream::connect(path).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        };
        for _ in 0..5 {
            site.reload(&with);
            assert!(ask(&path).ends_with("local"));
            site.reload(&with);
            assert!(ask(&path).ends_with("local"));
            site.reload(&without);
            eventually("the file goes", || (!path.exists()).then_some(()));
        }
    }

    fn a_mistake_changes_nothing(engine) {
        let (at, more, taken) = (address(), address(), address());
        let good = says("main", at, "as before");
        let mut site = Site::start(engine, &good);
        let said = site.refused(&(says("main", at, "new") + "[http.b]\nlistne = [\"x\"]\n"));
        assert!(said.contains("listne") && said.contains("ringgate.toml:5:1"), "{said}");
        site.gate.running.signal("HUP");
        eventually("it says so", || {
            let said = site.gate.running.stderr();
            (said.contains("ringgate.toml:5:1") && said.contains("nothing has changed")).then_some(())
        });
        assert_eq!(get(at), "as before");
        let _theirs = std::net::TcpListener::bind(taken).unwrap();
        let descriptors = site.gate.settled();
        let admin = site.admin;
        let other = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            let start = now();
            curl_text(&[&format!("http://{admin}/v1/status")]);
            start.elapsed()
        });
        let said =
            site.refused(&(says("main", at, "new") + &says("more", more, "new") + &says("taken", taken, "new")));
        assert!(said.contains(&taken.to_string()), "{said}");
        let waited = other.join().unwrap();
        assert!(waited < Duration::from_millis(400), "the admin interface answered after {waited:?}");
        assert_eq!(get(at), "as before");
        assert!(!is_listening(more));
        assert_eq!(site.gate.settled(), descriptors);
        site.reload(&says("main", at, "new"));
        assert_eq!(get(at), "new");
    }

    fn limits_take_effect_and_are_told_once(engine) {
        let at = address();
        let with = |max: usize| format!("[limits]\nconnections_max = {max}\n") + &says("main", at, "ok");
        let mut site = Site::start(engine, &with(90_000_000));
        let mut long: Vec<Wire> = (0..20).map(|_| Wire::connect(at)).collect();
        for wire in &mut long {
            assert_eq!(wire.ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").text(), "ok");
        }
        let said = site.reload(&with(90_000_000));
        assert!(!said.contains("files may be open"), "it was told at the start: {said}");
        let said = site.reload(&with(80_000_000));
        assert!(said.contains("files may be open"), "{said}");
        site.reload(&with(2));
        // The kernel spreads the twenty over both workers, each of which has one place now: nobody else gets in.
        let mut third = Wire::connect(at);
        third.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut fourth = Wire::connect(at);
        fourth.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        third.assert_quiet(Duration::from_millis(200));
        site.reload(&with(100));
        assert_eq!(third.answer().unwrap().text(), "ok");
        assert_eq!(fourth.answer().unwrap().text(), "ok");
    }
}

/// The configuration of one TLS block.
fn secure(at: SocketAddr, chain: &Path, text: &str) -> String {
    says("tls", at, text) + &format!("certificates = [ \"{}\" ]\n", chain.display())
}

/// What `openssl s_client` prints while it makes one request.
fn s_client(at: SocketAddr, more: &[&str]) -> String {
    let mut child = Command::new(program("openssl", "openssl"))
        .args(["s_client", "-connect", &at.to_string(), "-servername", "a.test", "-ign_eof"])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    child.stdin.take().unwrap().write_all(request).unwrap();
    String::from_utf8_lossy(&child.wait_with_output().unwrap().stdout).into_owned()
}

/// A TLS connection that stays.
struct Secure {
    child: Child,
    output: BufReader<ChildStdout>,
    /// The certificate of the handshake.
    shown: String,
}

impl Secure {
    fn connect(at: SocketAddr) -> Self {
        let mut child = Command::new(program("openssl", "openssl"))
            .args(["s_client", "-connect", &at.to_string(), "-servername", "a.test", "-ign_eof"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut shown = String::new();
        while !shown.contains("-----END") {
            assert_ne!(output.read_line(&mut shown).unwrap(), 0, "{shown}");
        }
        let shown =
            shown.split_once("-----BEGIN CERTIFICATE-----").unwrap().1.split_once("-----END").unwrap().0;
        Self { child, output, shown: shown.trim().to_owned() }
    }

    /// The body of the answer to a request.
    fn ask(&mut self) -> String {
        self.child.stdin.as_mut().unwrap().write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
        let mut text = String::new();
        // What the program itself says about the session may come in between.
        while !text.contains("HTTP/1.1 200") || !text.ends_with("\r\n\r\n") {
            assert_ne!(self.output.read_line(&mut text).unwrap(), 0, "{text}");
        }
        let mut body = [0; 2];
        self.output.read_exact(&mut body).unwrap();
        String::from_utf8_lossy(&body).into_owned()
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first certificate of the handshake, as PEM.
fn shown(at: SocketAddr) -> String {
    let text = s_client(at, &[]);
    let rest = text.split_once("-----BEGIN CERTIFICATE-----").unwrap_or_else(|| panic!("{text}")).1;
    rest.split_once("-----END").unwrap().0.trim().to_owned()
}

fn is_of(pem: &str, chain: &Path) -> bool {
    std::fs::read_to_string(chain).unwrap().contains(pem)
}

both_engines! {
    fn sessions_resume_after_a_reload(engine) {
        let authority = Authority::new();
        let cert = authority.issue("a", &["a.test"]);
        let at = address();
        let mut site = Site::start(engine, &secure(at, &cert.chain, "one"));
        for version in ["-tls1_2", "-tls1_3"] {
            let session = site.gate.folder().join(format!("session{version}"));
            let session = session.to_str().unwrap();
            s_client(at, &[version, "-sess_out", session]);
            for turn in 0..3 {
                site.reload(&secure(at, &cert.chain, &format!("turn {turn}")));
                let again = s_client(at, &[version, "-sess_in", session]);
                assert!(again.contains("\nReused, TLSv1."), "{version}, reload {turn}: {again}");
                assert!(again.contains(&format!("turn {turn}")), "{again}");
            }
        }
    }

    fn a_changed_certificate_is_picked_up(engine) {
        let authority = Authority::new();
        let [one, two, three] = ["one", "two", "three"].map(|name| authority.issue(name, &["a.test"]));
        let folder = authority.folder();
        // As certbot has it: a link that is switched.
        let switch = |to: &common::certs::Issued| {
            for (name, file) in [("live.key", &to.key), ("live.crt", &to.chain)] {
                let fresh = folder.join("fresh");
                std::os::unix::fs::symlink(file, &fresh).unwrap();
                std::fs::rename(&fresh, folder.join(name)).unwrap();
            }
        };
        switch(&one);
        let at = address();
        let config = secure(at, &folder.join("live.crt"), "ok") + "# watch\n";
        let mut site = Site::start(engine, &config);
        assert!(is_of(&shown(at), &one.chain));
        let mut kept = Secure::connect(at);
        assert_eq!((kept.ask(), is_of(&kept.shown, &one.chain)), ("ok".into(), true));
        switch(&two);
        site.reload(&config);
        assert!(is_of(&shown(at), &two.chain));
        assert_eq!(kept.ask(), "ok", "a connection lives on");
        switch(&three);
        eventually("the third is shown", || is_of(&shown(at), &three.chain).then_some(()));
        eventually("it is told what has changed", || {
            let said = site.gate.running.stderr();
            (said.contains("live.key and 1 more have changed: loaded") || said.contains("live.crt and 1 more have changed: loaded"))
                .then_some(())
        });
        assert_eq!(kept.ask(), "ok", "a connection lives on");
        // A key that does not fit is looked at too, and refused; the fitting one is taken again.
        let key = folder.join("live.key");
        std::fs::remove_file(&key).unwrap();
        std::os::unix::fs::symlink(&one.key, &key).unwrap();
        let said = "live.key has changed but cannot be used";
        eventually("it is refused", || site.gate.running.stderr().contains(said).then_some(()));
        assert!(is_of(&shown(at), &three.chain));
    }
}

/// Weights of the pool main, by name, with the admin state.
fn servers(site: &mut Site) -> String {
    let answer = site.order("GET", "/v1/servers", "").text();
    let json: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let mut text = String::new();
    for server in json["pools"][0]["servers"].as_array().unwrap() {
        let name = server["name"].as_str().unwrap();
        write!(text, "{name} {} {}; ", server["weight"], server["admin"].as_str().unwrap()).unwrap();
    }
    text
}

#[test]
fn live_settings_survive_a_reload_that_does_not_change_them() {
    let server = Server::ok();
    let (at, a) = (address(), server.address);
    let config = |weight: u32, more: &str| {
        format!(
            "[http.main]\nlisten = [\"{at}\"]\npool = \"main\"\n[pool.main]\nservers = [ {{ name = \"a\", address = \"{a}\", \
             weight = {weight} }}, {{ name = \"b\", address = \"127.0.0.1:9\" }}{more} ]\n"
        )
    };
    let mut site = Site::start(Engine::Epoll, &config(2, ""));
    let path = "/v1/pools/main/servers";
    for (method, path, body) in [
        ("PATCH", format!("{path}/a"), "{\"weight\":7}"),
        ("PATCH", format!("{path}/b"), "{\"state\":\"drain\"}"),
        ("POST", path.to_owned(), "{\"address\":\"127.0.0.1:10\",\"name\":\"c\"}"),
    ] {
        let answer = site.order(method, &path, body);
        assert!((200..300).contains(&answer.status()), "{}", answer.text());
    }
    assert_eq!(servers(&mut site), "a 7 ready; b 1 drain; c 1 ready; ");
    site.reload(&(config(2, "") + "[limits]\ndrain = \"5s\"\n"));
    assert_eq!(servers(&mut site), "a 7 ready; b 1 drain; c 1 ready; ");
    site.reload(&config(3, ""));
    assert_eq!(servers(&mut site), "a 3 ready; b 1 drain; c 1 ready; ");
    site.reload(&config(3, ", { name = \"c\", address = \"127.0.0.1:11\" }"));
    assert_eq!(servers(&mut site), "a 3 ready; b 1 drain; c 1 ready; ");
}
