//! The dashboard in a real browser, with the real program behind it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fmt::Write;
use std::net::SocketAddr;

use common::{Authority, Browser, Engine, Ringgate, Server, Wire, address, curl, eventually};
use serde_json::{Value, json};

/// A running ringgate with an admin interface on loopback.
struct Site {
    ringgate: Ringgate,
    at: SocketAddr,
    admin: SocketAddr,
}

impl Site {
    /// One with these further lines of the admin block, HTTP block and pool `web`, and this list of servers.
    fn start(admin_lines: &str, http: &str, pool: &str, servers: &str) -> Self {
        let (at, admin) = (address(), address());
        let ringgate = Ringgate::start(
            Engine::Epoll,
            &format!(
                "[http.main]\nlisten = [\"{at}\"]\npool = \"web\"\n{http}\n[pool.web]\nservers = [{servers}]\n{pool}\n
                 [admin]\nlisten = [\"{admin}\", \"unix:admin.sock\"]\n{admin_lines}\n"
            ),
        );
        eventually("the admin interface listens", || common::is_listening(admin).then_some(()));
        Self { ringgate, at, admin }
    }

    fn url(&self) -> String {
        format!("http://{}/", self.admin)
    }

    /// What the process says of a server.
    fn server(&self, name: &str) -> Value {
        let said = curl(&[&format!("{}v1/servers", self.url())]);
        let all: Value = serde_json::from_slice(&said.body).unwrap();
        let list = all["pools"][0]["servers"].as_array().unwrap().clone();
        list.into_iter().find(|server| server["name"] == name).unwrap_or(Value::Null)
    }

    fn ask(&self) {
        Wire::connect(self.at).ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    }
}

const ROW_A: &str = "[data-server=\"web/a\"]";

#[test]
fn servers_are_seen_and_directed() {
    let (a, b) = (Server::ok(), Server::ok());
    let servers = format!(
        "{{ address = \"{}\", name = \"a\" }}, {{ address = \"{}\", name = \"b\" }}",
        a.address, b.address
    );
    let site = Site::start("", "", "", &servers);
    (0..10).for_each(|_| site.ask());
    let mut browser = Browser::start();
    browser.open(&site.url());
    browser.until("document.querySelectorAll('[data-server]').length === 2");
    browser.until("document.getElementById('pulse').textContent === 'live'");
    let text = browser.text();
    let (address_a, at) = (a.address.to_string(), site.at.to_string());
    for word in ["ringgate", "web", "all 2 up", "Certificates", &address_a, &at] {
        assert!(text.contains(word), "{word} is missing:\n{text}");
    }

    // Drain: the process obeys, and the page follows.
    browser.click(&format!("{ROW_A} [data-state=drain]"));
    eventually("the process drains a", || (site.server("a")["admin"] == "drain").then_some(()));
    browser.until(&format!("document.querySelector('{ROW_A} .state').textContent === 'drained'"));
    let before = a.count("GET /");
    (0..6).for_each(|_| site.ask());
    assert_eq!(a.count("GET /"), before, "a drained server gets no requests");

    // Maintenance is asked for, and not done when the answer is no.
    browser.click(&format!("{ROW_A} [data-state=maint]"));
    browser.until("document.getElementById('confirm').open");
    browser.click("#confirm-no");
    browser.until("!document.getElementById('confirm').open");
    assert_eq!(site.server("a")["admin"], "drain");
    browser.click(&format!("{ROW_A} [data-state=maint]"));
    browser.until("document.getElementById('confirm').open");
    browser.click("#confirm-yes");
    eventually("the process takes a out", || (site.server("a")["admin"] == "maint").then_some(()));
    browser.until(&format!(
        "document.querySelector('{ROW_A} [data-state=maint]').getAttribute('aria-pressed') === 'true'"
    ));
    // The last one that takes requests is not drained unasked.
    browser.click("[data-server=\"web/b\"] [data-state=drain]");
    browser.until("document.getElementById('confirm').open");
    assert!(browser.text().contains("503"));
    browser.press("Escape");
    browser.until("!document.getElementById('confirm').open");
    assert_eq!(site.server("b")["admin"], "ready");
    browser.click(&format!("{ROW_A} [data-state=ready]"));
    eventually("a is ready again", || (site.server("a")["state"] == "up").then_some(()));

    // Weight: typed, then Enter.
    browser.until(&format!("!document.querySelector('{ROW_A} input').disabled"));
    browser.run(&format!("document.querySelector('{ROW_A} input').select()"));
    browser.type_in("7");
    browser.press("Enter");
    eventually("the weight is changed", || (site.server("a")["weight"] == 7).then_some(()));
    browser.until(&format!("document.querySelector('{ROW_A} .weight').dataset.changed === 'true'"));

    assert!(browser.complaints().is_empty(), "{:#?}", browser.complaints());
    let picture = browser.picture("directed");
    assert!(browser.colours(&picture) > 50);
}

#[test]
fn what_is_refused_is_said() {
    let site = Site::start("", "", "", "{ address = \"127.0.0.1:1\", name = \"a\" }, \"127.0.0.1:2\"");
    let mut browser = Browser::start();
    browser.open(&site.url());
    browser.until("document.querySelectorAll('[data-server]').length === 2");
    browser.until("document.getElementById('pulse').textContent === 'live'");
    // Somebody else removes the server between two looks.
    let remove = "fetch('/v1/pools/web/servers/a', { method: 'DELETE', headers: { 'X-Ringgate': '1' } })";
    let click = format!("document.querySelector('{ROW_A} [data-state=drain]').click()");
    browser.run(&format!("{remove}.then(() => {{ {click} }})"));
    browser.until("!document.getElementById('notice').hidden");
    let text = browser.text();
    assert!(text.contains("web/a") && text.contains("no server \"a\""), "{text}");
    browser.until("document.querySelectorAll('[data-server]').length === 1");
    // And what is no weight is refused before anybody is asked.
    browser.run("document.querySelector('.weight input').select()");
    browser.type_in("1001");
    browser.press("Enter");
    browser.until("document.getElementById('notice').textContent.includes('0 to 1000')");
    assert_eq!(site.server("127.0.0.1:2")["weight"], 1);
}

/// Texts of the configuration, of servers and of people become text in the page, never markup.
#[test]
fn a_name_is_never_markup() {
    let site = Site::start("", "", "", "\"127.0.0.1:1\"");
    let name = "<img src=x onerror=window.broken=1>";
    let add = json!({ "address": "127.0.0.1:3", "name": name }).to_string();
    let said = curl(&["-H", "X-Ringgate: 1", "-d", &add, &format!("{}v1/pools/web/servers", site.url())]);
    let mut browser = Browser::start();
    browser.open(&site.url());
    browser.until("document.querySelectorAll('[data-server]').length > 0");
    if said.status == 200 {
        browser.until("document.querySelectorAll('[data-server]').length === 2");
        assert!(browser.text().contains(name), "{}", browser.text());
        // Its path is encoded well: orders reach it.
        browser.click("[data-server*=img] [data-state=drain]");
        eventually("it is drained", || (site.server(name)["admin"] == "drain").then_some(()));
    } else {
        // A process that does not take such a name must say so; the page must not break either.
        assert!((400..500).contains(&said.status), "{said:?}");
        browser.run(&format!(
            "(known[0].servers.push({{ ...known[0].servers[0], name: {name:?} }}), takeServers(known, 0))"
        ));
        assert!(browser.text().contains(name), "{}", browser.text());
    }
    assert_eq!(browser.run("document.images.length"), 0);
    assert_eq!(browser.run("typeof window.broken"), "undefined");
    // The policy itself: no markup from texts, no script that is not the page's own.
    let refused =
        "(() => { try { document.body.innerHTML = '<b>x</b>'; return false; } catch { return true; } })()";
    assert_eq!(browser.run(refused), json!(true));
    let page = curl(&[&site.url()]);
    assert!(page.field("content-security-policy").unwrap().contains("default-src 'none'"));
    assert!(page.field("content-type").unwrap().starts_with("text/html"));
}

#[test]
fn a_token_is_asked_for() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "open-sesame-0123456789\n").unwrap();
    let site = Site::start(&format!("token_file = \"{}\"", file.display()), "", "", "\"127.0.0.1:1\"");
    let mut browser = Browser::start();
    browser.open(&site.url());
    browser.until("document.getElementById('ask').open");
    browser.type_in("not-the-token");
    browser.press("Enter");
    browser.until("document.getElementById('ask').open && document.getElementById('ask-text').textContent.includes('not the token')");
    browser.run("document.getElementById('token').focus()");
    browser.type_in("open-sesame-0123456789");
    browser.press("Enter");
    browser.until("document.querySelectorAll('[data-server]').length === 1");
    // It is kept for this tab.
    browser.call("Page.reload", &json!({}));
    browser.until("document.querySelectorAll('[data-server]').length === 1");
    assert_eq!(browser.run("document.getElementById('ask').open"), json!(false));
    assert!(!browser.text().contains("open-sesame"));
}

#[test]
fn a_lost_connection_is_said_and_found_again() {
    let mut site = Site::start("", "", "", "\"127.0.0.1:1\"");
    let mut browser = Browser::start();
    browser.open(&site.url());
    browser.until("document.getElementById('pulse').textContent === 'live'");
    site.ringgate.running.kill();
    browser.until("document.getElementById('pulse').textContent === 'connection lost'");
    browser.until("document.querySelector('[data-state=drain]').disabled");
    let file = site.ringgate.folder().join("ringgate.toml");
    let _again = common::Running::start(
        "again",
        Ringgate::program(),
        &["run", file.to_str().unwrap(), "--engine", "epoll"],
        site.ringgate.folder(),
    );
    browser.until("document.getElementById('pulse').textContent === 'live'");
    browser.until("!document.querySelector('[data-state=drain]').disabled");
}

/// Every size and both colour schemes; the pictures are for people (SCREENSHOTS=FOLDER).
#[test]
fn it_fits_phones_and_desktops() {
    let authority = Authority::new();
    let issued = authority.issue_with("site", &["www.example.org", "example.org"], |params| {
        params.not_after = rcgen::date_time_ymd(2099, 1, 1);
    });
    let servers: Vec<Server> = (0..3).map(|_| Server::ok()).collect();
    let mut list = String::new();
    for (at, server) in servers.iter().enumerate() {
        write!(list, "{{ address = \"{}\", name = \"app-{at}\", weight = {} }}, ", server.address, at + 1)
            .unwrap();
    }
    for at in 0..200 {
        write!(
            list,
            "{{ address = \"127.0.0.2:{}\", name = \"a-server-with-a-long-name-{at}\", backup = true }}, ",
            1000 + at
        )
        .unwrap();
    }
    let secure = address();
    let block = format!(
        "[http.secure]\nlisten = [\"{secure}\"]\npool = \"web\"\ncertificates = [\"{}\"]\nkeys = []",
        issued.both.display()
    );
    let block = block.replace("\nkeys = []", "");
    let site = Site::start("", &block, "", &list);
    for name in ["app-1", "a-server-with-a-long-name-5"] {
        let url = format!("{}v1/pools/web/servers/{name}", site.url());
        assert_eq!(
            curl(&["-X", "PATCH", "-H", "X-Ringgate: 1", "-d", "{\"state\":\"drain\"}", &url]).status,
            200
        );
    }
    let mut browser = Browser::start();
    for (name, width, height, is_dark) in [
        ("desktop", 1280, 900, false),
        ("desktop-dark", 1280, 900, true),
        ("tablet", 820, 1180, false),
        ("phone", 390, 844, false),
        ("phone-dark", 390, 844, true),
        ("narrow", 360, 640, false),
    ] {
        browser.size(width, height);
        browser.dark(is_dark);
        browser.open(&site.url());
        browser.until("document.querySelectorAll('[data-server]').length === 203");
        browser.until("document.getElementById('certs').children.length === 1");
        (0..20).for_each(|_| site.ask());
        assert_eq!(browser.run("document.documentElement.scrollWidth <= innerWidth"), json!(true), "{name}");
        let cut = "[...document.querySelectorAll('button, .value, input')].filter((e) => e.checkVisibility() && e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0).map((e) => e.className + e.textContent)";
        assert_eq!(browser.run(cut), json!([]), "{name}: texts that are cut");
        // The longest values too, which a quick server on loopback does not show.
        let longest = "[...document.querySelectorAll('.row .cell .value')].slice(0, 40).forEach((e) => e.textContent = '1,234/20,000')";
        let longest = format!("{longest}; {cut}");
        assert_eq!(browser.run(&longest), json!([]), "{name}: the longest values are cut");
        // What a finger must hit is large enough.
        if width < 600 {
            let low = "[...document.querySelectorAll('.row .choice button')].some((e) => e.getBoundingClientRect().height < 32)";
            assert_eq!(browser.run(low), json!(false), "{name}");
        }
        browser.picture(name);
    }
    // Everything that can be operated has a name for those who do not see it.
    let nameless = "[...document.querySelectorAll('input, button')].filter((e) => !(e.labels?.length || e.getAttribute('aria-label') || e.textContent.trim())).length";
    assert_eq!(browser.run(nameless), 0);
    // Finding, and trouble alone.
    browser.run("document.getElementById('find').focus()");
    browser.type_in("name-77");
    browser.until("document.querySelectorAll('[data-server]').length === 1");
    browser.run("document.getElementById('find').select()");
    browser.type_in("app-");
    browser.until("document.querySelectorAll('[data-server]').length === 3");
    browser.click("#trouble");
    browser.until("document.querySelectorAll('[data-server]').length === 1");
    assert!(browser.complaints().is_empty(), "{:#?}", browser.complaints());
}

/// What the page makes of answers that a quiet process on loopback does not give.
#[test]
fn every_state_has_its_word_and_every_past_its_curve() {
    let site = Site::start("", "", "", "\"127.0.0.1:1\"");
    let mut browser = Browser::start();
    browser.open(&site.url());
    browser.until("document.getElementById('pulse').textContent === 'live'");
    // From here on the page is given its answers by this test.
    browser.run("(clearTimeout(timer), window.turn = () => {}, 1)");
    let server = |name: &str, state: &str, admin: &str, in_flight: u32| {
        json!({
            "name": name, "address": "10.0.0.1:80", "state": state, "admin": admin, "weight": 1, "weight_file": 1,
            "in_flight": in_flight, "rate": 12.5, "errors": 3, "latency_ms": { "p50": 1.0, "p90": 2.0, "p99": 3.25 },
            "check": { "result": if state == "down" { "failed" } else { "ok" }, "text": "says <b>", "failures": 2 },
            "history": {
                "step_s": 2, "rate": [1, 5, null, 9], "in_flight": [0, 1, 2, 3], "p99_ms": [null, null, 4, 5.5], "errors": [0, 2, 0, 0],
            },
        })
    };
    let states = [
        ("up", "ready", 1, "up", "good"),
        ("down", "ready", 0, "down", "bad"),
        ("ejected", "ready", 0, "ejected", "bad"),
        ("warming", "ready", 0, "warming", "good"),
        ("drain", "drain", 2, "draining", "warn"),
        ("drain", "drain", 0, "drained", "warn"),
        ("maint", "maint", 0, "maintenance", "warn"),
    ];
    let list: Vec<Value> = states
        .iter()
        .enumerate()
        .map(|(at, (state, admin, busy, ..))| server(&format!("s{at}"), state, admin, *busy))
        .collect();
    let pools = json!([{ "name": "p", "balance": "round_robin", "waiting": 4, "servers": list }]);
    browser.run(&format!("(rows.clear(), takeServers({pools}, 0))"));
    for (at, (.., word, tone)) in states.iter().enumerate() {
        let row = format!("[data-server=\"p/s{at}\"]");
        let shown = format!(
            "(() => {{ const s = document.querySelector('{row} .state'); return [s.textContent, s.dataset.tone]; }})()"
        );
        assert_eq!(browser.run(&shown), json!([word, tone]), "{at}");
        let drawn =
            format!("[...document.querySelectorAll('{row} .line')].map((line) => line.getAttribute('d'))");
        // 150 places; the newest value stands at the right edge, and where there is no value there is no line.
        let past = json!([
            "M146 24.2L147 13.1M149 2.0h-0.7",
            "M146 27.0L147 20.8L148 14.5L149 8.3",
            "M148 8.8L149 2.0"
        ]);
        assert_eq!(browser.run(&drawn), past);
        let marks = format!("document.querySelector('{row} .marks').getAttribute('d')");
        assert_eq!(browser.run(&marks), "M147 27.5V21.4");
    }
    let text = browser.text();
    for words in ["2 of 7 up", "4 waiting", "13", "3.3 ms", "says <b>, 2 times"] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
    let certificate = |days: i64| json!({ "block": "http.x", "file": "/x.pem", "names": ["x"], "issuer": "i", "days_left": days });
    let list = json!([certificate(90), certificate(14), certificate(13), certificate(1), certificate(-1)]);
    browser.run(&format!("takeCerts({list})"));
    let shown =
        "[...document.querySelectorAll('.days')].map((days) => days.textContent + ' ' + days.dataset.tone)";
    let expected = ["90 days left ", "14 days left ", "13 days left warn", "1 day left bad", "expired bad"];
    assert_eq!(browser.run(shown), json!(expected));
    assert!(browser.complaints().is_empty(), "{:#?}", browser.complaints());
}

/// Shapes of statements as a busy door has them, on a desk and on a phone.
#[test]
fn statements_are_shown_by_shape() {
    let site = Site::start("", "", "", "\"127.0.0.1:1\"");
    let mut browser = Browser::start();
    browser.open(&site.url());
    browser.until("document.getElementById('pulse').textContent === 'live'");
    assert_eq!(browser.run("document.getElementById('sql').hidden"), true, "there is no SQL here");
    browser.run("(clearTimeout(timer), window.turn = () => {}, 1)");
    let columns: Vec<String> = (0..60).map(|at| format!("orders.column_{at}")).collect();
    let texts = [
        "SELECT c FROM sbtest1 WHERE id = ?".to_owned(),
        format!(
            "SELECT {} FROM orders JOIN customers ON customers.id = orders.customer_id WHERE orders.state IN (?)",
            columns.join(", ")
        ),
        "INSERT INTO t(a, b) VALUES (?) -- <b>".to_owned(),
        "UPDATE sbtest1 SET k = k + ? WHERE id = ?".to_owned(),
    ];
    let shape = |at: usize, text: Option<&String>| {
        json!({
            "digest": format!("{at:016x}"), "text": text, "statements": 1_234_567_u64 >> (2 * at), "errors": if at == 2 { 17 } else { 0 },
            "on_replica": if at < 2 { 1_000_000_u64 >> (2 * at) } else { 0 }, "bytes_out": 123_456_789_u64, "share": 0.62 / (at + 1) as f64,
            "time_ms": 1e6, "mean_ms": 0.187, "max_ms": 1870.5 / (at + 1) as f64,
        })
    };
    let mut shapes: Vec<Value> = texts.iter().enumerate().map(|(at, text)| shape(at, Some(text))).collect();
    shapes.push(shape(4, None));
    let split = json!({
        "primary": 400_000, "replica": 1_200_000, "fenced": 3, "denied": 2, "state_lost": 1,
        "waits": { "reached": 812, "timed_out": 4, "lost": 0 }, "pinned": { "transaction": 70_123, "temporary-tables": 12 },
    });
    let block = json!({
        "block": "main", "statements": 1_600_000, "on_replica": 1_200_000, "shapes": shapes, "known": 512, "split": split,
        "gone": { "statements": 16_000 },
    });
    browser.run(&format!("takeShapes({{ blocks: [{block}] }})"));
    for (name, width, height, dark) in [
        ("shapes", 1280, 1000, false),
        ("shapes-phone", 390, 1500, false),
        ("shapes-phone-dark", 360, 1500, true),
    ] {
        browser.size(width, height);
        browser.dark(dark);
        browser.run("document.getElementById('sql').scrollIntoView()");
        let wide = "document.documentElement.scrollWidth > innerWidth";
        assert_eq!(browser.run(wide), json!(false), "{name} is wider than the window");
        let cut = "[...document.querySelectorAll('.shape .value')].filter((e) => e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0).map((e) => e.textContent)";
        assert_eq!(browser.run(cut), json!([]), "{name}: numbers that are cut");
        let low =
            "[...document.querySelectorAll('#by button')].some((e) => e.getBoundingClientRect().height < 32)";
        assert!(width > 600 || browser.run(low) == json!(false), "{name}: what a finger must hit");
        browser.picture(name);
    }
    let text = browser.text();
    for words in [
        "1.6M statements · 75 % at replicas · 3 fenced · waits: reached 812, timed out 4 · pinned: transaction 70,123, temporary tables 12 · 2 not let in · lost their state: 1 · 1.0 % of other shapes",
        "VALUES (?) -- <b>",
        "(no server has understood it)",
        "62 %",
        "0.19 ms",
        "1.87 s",
        "1.2M",
    ] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
    // A long one opens, and stays open when new numbers come.
    let height = "document.querySelector('[data-digest$=\"1\"]').getBoundingClientRect().height";
    let before = browser.run(height).as_f64().unwrap();
    browser.click("[data-digest$=\"1\"] summary");
    browser.until("document.querySelector('[data-digest$=\"1\"] details').open");
    browser.run(&format!("takeShapes({{ blocks: [{block}, {block}] }})"));
    assert!(browser.run(height).as_f64().unwrap() > before + 100.0);
    assert!(browser.complaints().is_empty(), "{:#?}", browser.complaints());
}
