//! Health: servers that are checked, servers that fail requests, servers that come back.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{Authority, MariaDb, Nginx, Ringgate, Server, address, curl, curl_text, eventually, now, site};

const FAST: &str = "every = \"100ms\", timeout = \"90ms\", rise = 2, fall = 2";

/// A site whose admin interface is a socket in its folder.
fn with_admin(site: &str) -> String {
    format!("{site}\n[admin]\nlisten = [\"unix:admin.sock\"]\n")
}

/// What the admin interface says about the servers.
fn servers(gate: &Ringgate) -> String {
    let socket = gate.folder().join("admin.sock");
    curl_text(&["--unix-socket", socket.to_str().unwrap(), "http://localhost/v1/servers"])
}

fn whoami(at: SocketAddr) -> String {
    curl_text(&[&format!("http://{at}/whoami")]).trim().to_owned()
}

/// Waits until a line of the log contains this.
#[track_caller]
fn logged(gate: &Ringgate, what: &str) {
    eventually(&format!("{what:?} is logged: {}", gate.running.text()), || {
        gate.running.text().contains(what).then_some(())
    });
}

both_engines! {
    fn a_server_that_fails_its_check_gets_nothing_until_it_is_back(engine) {
        let (mut a, mut b) = (Nginx::start("A"), Nginx::start("B"));
        let at = address();
        let pool = format!("check = {{ path = \"/whoami\", {FAST} }}\neject = false");
        let gate = Ringgate::start(engine, &with_admin(&site(at, "", &pool, &[a.address, b.address])));
        eventually("both are checked", || (servers(&gate).matches("200 in ").count() == 2).then_some(()));
        let (here, there) = (whoami(at), whoami(at));
        assert!(here != there, "{here} {there}");

        a.stop();
        logged(&gate, &format!("pool main: server {} is down: connection refused (2 of 2 checks)", a.address));
        assert!((0..6).all(|_| whoami(at) == "B"), "nobody is sent to it");
        let told = servers(&gate);
        assert!(told.contains("\"state\":\"down\"") && told.contains("\"result\":\"failed\""), "{told}");

        b.stop();
        logged(&gate, &format!("server {} is down", b.address));
        let start = now();
        let none = curl(&[&format!("http://{at}/whoami")]);
        assert_eq!(none.status, 503);
        assert!(start.elapsed() < Duration::from_secs(1), "at once");

        a.start_again();
        logged(&gate, &format!("pool main: server {} is up: 200 in ", a.address));
        assert!((0..6).all(|_| whoami(at) == "A"));
        assert_eq!(gate.running.text().matches(" is down").count(), 2, "told once: {}", gate.running.text());
    }

    fn answers_of_requests_count_where_the_rules_say_so(engine) {
        let (a, b) = (Nginx::start("A"), Nginx::start("B"));
        let at = address();
        let url = format!("http://{at}/status/500");
        let pool = "eject = { on = \"5xx\", failures = 2, time = \"30s\" }";
        let gate = Ringgate::start(engine, &with_admin(&site(at, "", pool, &[a.address, b.address])));
        // Two for each: the first to have two is left alone, and the other gets the rest.
        (0..3).for_each(|_| assert_eq!(curl(&[&url]).status, 500));
        let told = servers(&gate);
        assert_eq!(told.matches("\"state\":\"ejected\"").count(), 1, "{told}");
        let seen: Vec<String> = (0..4).map(|_| whoami(at)).collect();
        assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");

        let at = address();
        let plain = Ringgate::start(engine, &with_admin(&site(at, "", "", &[a.address, b.address])));
        (0..20).for_each(|_| assert_eq!(curl(&[&format!("http://{at}/status/500")]).status, 500));
        assert!(!servers(&plain).contains("ejected"), "by default an error is the request's business");
    }
}

#[test]
fn a_reload_keeps_what_checks_know() {
    let (a, mut b) = (Nginx::start("A"), Nginx::start("B"));
    let at = address();
    let both = [a.address, b.address];
    let with = |check: &str| with_admin(&site(at, "", check, &both)) + "[workers]\ncount = 2\n";
    let check = format!("check = {{ type = \"tcp\", {FAST} }}");
    let gate = Ringgate::start(common::Engine::Epoll, &with(&check));
    b.stop();
    logged(&gate, "is down: connection refused");
    let reload = |config: &str| {
        std::fs::write(gate.folder().join("ringgate.toml"), config).unwrap();
        let socket = gate.folder().join("admin.sock");
        let socket = socket.to_str().unwrap();
        let url = "http://localhost/v1/reload";
        let told = curl_text(&["--unix-socket", socket, "-X", "POST", "-H", "X-Ringgate: 1", url]);
        assert!(told.contains("\"applied\":true"), "{told}");
    };
    reload(&with(&format!("{check}\nattempts = 2")));
    assert!(servers(&gate).contains("\"state\":\"down\""), "{}", servers(&gate));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(gate.running.text().matches(" is down").count(), 1, "no news");
    reload(&with("attempts = 2"));
    assert!(!servers(&gate).contains("\"state\":\"down\""), "nobody says so any more");
    assert_eq!(servers(&gate).matches("\"result\":\"none\"").count(), 2);
}

/// A pool for each row: its server, and its lines.
fn of_table(table: &[(SocketAddr, String, &str)]) -> String {
    let at = address();
    let mut config = format!("[http.main]\nlisten = [\"{at}\"]\npool = \"p0\"\nroutes = [\n");
    for number in 0..table.len() {
        config += &format!("{{ path = \"/{number}\", pool = \"p{number}\" }},\n");
    }
    config += "]\n";
    for (number, (server, lines, _)) in table.iter().enumerate() {
        config += &format!("[pool.p{number}]\nservers = [\"{server}\"]\n{lines}\n");
    }
    config
}

/// What is said about each server once all are checked.
#[track_caller]
fn verdicts(config: &str) -> Vec<String> {
    let gate = Ringgate::start(common::Engine::Epoll, &with_admin(config));
    let told = eventually("all are checked", || {
        let told = servers(&gate);
        (told.matches("\"result\":\"none\"").count() == 0).then_some(told)
    });
    told.split("\"text\":\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

#[test]
fn a_check_speaks_what_the_server_speaks() {
    let authority = Authority::new();
    let issued = authority.issue("server", &["app.example.org"]);
    let tls = Nginx::with_tls("T", &issued.chain, &issued.key, "");
    let by_host = "location = /host { if ($http_host = \"check.example.org\") { return 204; } return 421; }";
    let behind = Nginx::with("P", "", by_host);
    let nobody = address();
    let proxied = address();
    let proxying = Nginx::with("Q", "", &format!("listen {proxied} proxy_protocol;"));
    let mute = Server::start(|wire| _ = wire.rest_however());
    let closing = Server::start(|_| {});
    let odd = Server::start(|wire| _ = wire.send("SSH-2.0-OpenSSH\r\n").and_then(|()| wire.rest_however()));
    let ca = authority.ca();
    // What is checked how, and what comes of it.
    let table = [
        (
            tls.address,
            format!(
                "check = {{ path = \"/whoami\", {FAST} }}\ntls = {{ ca = \"{}\", server_name = \"app.example.org\" }}",
                ca.display()
            ),
            "200 in ",
        ),
        (
            tls.address,
            format!(
                "check = {{ path = \"/whoami\", {FAST} }}\ntls = {{ ca = \"{}\", server_name = \"other.org\" }}",
                ca.display()
            ),
            "TLS failed: ",
        ),
        (tls.address, format!("check = {{ type = \"tls\", {FAST} }}"), "TLS 1."),
        (behind.address, format!("check = {{ type = \"tls\", {FAST} }}"), "TLS failed: "),
        (
            behind.address,
            format!("check = {{ path = \"/status/404\", {FAST} }}"),
            "answered 404, not 200-399",
        ),
        (
            behind.address,
            format!("check = {{ path = \"/status/500\", status = [200, \"5xx\"], {FAST} }}"),
            "500 in ",
        ),
        (behind.address, format!("check = {{ path = \"/whoami\", method = \"HEAD\", {FAST} }}"), "200 in "),
        (proxied, format!("check = {{ path = \"/whoami\", {FAST} }}\nproxy_protocol = \"v2\""), "200 in "),
        (proxied, format!("check = {{ path = \"/whoami\", {FAST} }}\nproxy_protocol = \"v1\""), "200 in "),
        (mute.address, format!("check = {{ port = {}, {FAST} }}", proxying.address.port()), "200 in "),
        (mute.address, format!("check = {{ {FAST} }}"), "no answer within 90 ms"),
        (mute.address, format!("check = {{ type = \"mysql\", {FAST} }}"), "no answer within 90 ms"),
        (mute.address, format!("check = {{ type = \"tcp\", {FAST} }}"), "connected in "),
        (nobody, format!("check = {{ type = \"tcp\", {FAST} }}"), "connection refused"),
        (nobody, format!("check = {{ type = \"tls\", {FAST} }}"), "connection refused"),
        (nobody, format!("check = {{ type = \"mysql\", {FAST} }}"), "connection refused"),
        (
            behind.address,
            format!("check = {{ path = \"/host\", host = \"check.example.org\", {FAST} }}"),
            "204 in ",
        ),
        (behind.address, format!("check = {{ path = \"/host\", {FAST} }}"), "answered 421, not 200-399"),
        (closing.address, format!("check = {{ type = \"mysql\", {FAST} }}"), "closed without a greeting"),
        (odd.address, format!("check = {{ {FAST} }}"), "what it answered is not HTTP"),
        (odd.address, format!("check = {{ type = \"mysql\", {FAST} }}"), "what it greets with is not MySQL"),
    ];
    std::fs::write(behind.folder().join("files/index.html"), "x").unwrap();
    std::fs::write(proxying.folder().join("files/index.html"), "x").unwrap();
    let texts = verdicts(&of_table(&table));
    for ((server, lines, expected), text) in table.iter().zip(&texts) {
        assert!(text.starts_with(expected), "{server} {lines}: {text:?}, expected {expected:?}");
    }
    assert_eq!(texts.len(), table.len());
}

#[test]
fn a_database_is_asked_as_databases_are() {
    // The host is blocked after one client that leaves after the greeting: checks must not be such clients.
    let mut database = MariaDb::with(1, &["--max-connect-errors=1", "--skip-name-resolve=0"]);
    let at = database.address;
    let front = address();
    let config = format!(
        "[tcp.db]\nlisten = [\"{front}\"]\npool = \"db\"\n[pool.db]\nservers = [\"{at}\"]\ncheck = {{ type = \"mysql\", {FAST} }}\n"
    );
    let gate = Ringgate::start(common::Engine::Epoll, &with_admin(&config));
    eventually("it is checked", || servers(&gate).contains("-MariaDB").then_some(()));
    std::thread::sleep(Duration::from_secs(1));
    let told = database.sql("show global status like 'Aborted_connects%'");
    assert!(told.contains("Aborted_connects"), "{told}");
    assert!(servers(&gate).contains("\"state\":\"up\""), "{}", servers(&gate));
    database.stop();
    logged(&gate, "is down: connection refused (2 of 2 checks)");
    database.start_again();
    logged(&gate, &format!("server {at} is up: 10."));
}
