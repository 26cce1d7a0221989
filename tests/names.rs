//! Names of servers: records of a real DNS server that change while requests are served.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{
    Engine, Nginx, Ringgate, Running, address, curl, curl_text, eventually, host, is_listening, noise, now,
    program,
};
use tempfile::TempDir;

/// The time of all records. An answer may also be used for one more round.
const TTL: Duration = Duration::from_secs(1);

/// A DNS server that knows only what the test says.
struct Dns {
    at: SocketAddr,
    folder: TempDir,
    running: Option<Running>,
}

impl Dns {
    /// One with these addresses of `web.internal`, and these lines for its configuration.
    #[track_caller]
    fn start(web: &[Ipv4Addr], lines: &str) -> Self {
        let mut dns = Self { at: address(), folder: TempDir::new().unwrap(), running: None };
        dns.write(web, lines);
        dns.start_again();
        dns
    }

    fn write(&self, web: &[Ipv4Addr], lines: &str) {
        let records: String = web.iter().map(|ip| format!("{ip} web.internal\n")).collect();
        let file = |name: &str| self.folder.path().join(name);
        std::fs::write(file("hosts"), records).unwrap();
        let (hosts, ttl) = (file("hosts"), TTL.as_secs());
        let config = format!(
            "no-resolv\nno-hosts\nbind-interfaces\nlisten-address={}\nport={}\nlocal=/internal/\naddn-hosts={}\n\
             local-ttl={ttl}\n{lines}\n",
            self.at.ip(),
            self.at.port(),
            hosts.display(),
        );
        std::fs::write(file("dnsmasq.conf"), config).unwrap();
    }

    /// Changes the addresses of `web.internal`.
    fn change(&self, web: &[Ipv4Addr]) {
        let records: String = web.iter().map(|ip| format!("{ip} web.internal\n")).collect();
        std::fs::write(self.folder.path().join("hosts"), records).unwrap();
        self.running.as_ref().unwrap().signal("HUP");
    }

    #[track_caller]
    fn start_again(&mut self) {
        let path = program("dnsmasq", "dnsmasq-base");
        let config = format!("--conf-file={}", self.folder.path().join("dnsmasq.conf").display());
        let mut running = Running::start("dnsmasq", &path, &["--no-daemon", &config], self.folder.path());
        let at = self.at;
        running.wait_until("dnsmasq listens", || is_listening(at));
        self.running = Some(running);
    }

    fn stop(&mut self) {
        self.running = None;
    }
}

/// Addresses of this test alone, beside that of its other programs.
fn ips() -> [Ipv4Addr; 3] {
    let [_, a, b, c] = host().octets();
    [Ipv4Addr::new(127, a, b, c), Ipv4Addr::new(127, a + 64, b, c), Ipv4Addr::new(127, a + 128, b, c)]
}

/// Origins `1`, `2`, `3`, each at its address and all at one port.
#[track_caller]
fn origins() -> (u16, Vec<Nginx>) {
    let port = address().port();
    let origin = |(number, ip): (usize, Ipv4Addr)| {
        let slow = "location /trickle/ { alias {folder}/files/; limit_rate 400k; }";
        Nginx::with(&number.to_string(), "", &format!("listen {ip}:{port};\n{slow}"))
    };
    (port, (1..).zip(ips()).map(origin).collect())
}

/// A site with one pool, and its admin interface.
fn site(front: SocketAddr, servers: &str, pool: &str, dns: &Dns) -> String {
    format!(
        "[http.main]\nlisten = [\"{front}\"]\npool = \"web\"\n[pool.web]\nservers = [{servers}]\n{pool}\n\
         [dns]\nservers = [\"{}\"]\ntimeout = \"900ms\"\n[admin]\nlisten = [\"unix:admin.sock\"]\n",
        dns.at
    )
}

/// Asks the admin interface.
#[track_caller]
fn admin(gate: &Ringgate, path: &str, more: &[&str]) -> String {
    let socket = gate.folder().join("admin.sock");
    let url = format!("http://localhost/v1/{path}");
    let own = ["--unix-socket", socket.to_str().unwrap(), "-H", "X-Ringgate: 1", &url];
    curl_text(&[&own, more].concat())
}

/// Who answered so many requests, in order of their numbers.
fn answers(front: SocketAddr, times: usize) -> String {
    let ask = |_| curl_text(&[&format!("http://{front}/whoami")]).trim().to_owned();
    let mut all: Vec<String> = (0..times).map(ask).collect();
    all.sort();
    all.concat()
}

/// Who answers at all.
fn seen(front: SocketAddr) -> String {
    let mut all: Vec<char> = answers(front, 9).chars().collect();
    all.dedup();
    all.into_iter().collect()
}

/// Waits until a line of the log contains this.
#[track_caller]
fn logged(gate: &Ringgate, what: &str) {
    eventually(what, || gate.running.text().contains(what).then_some(()));
}

both_engines! {
    fn a_name_stands_for_all_its_addresses_and_follows_them(engine) {
        let (port, _origins) = origins();
        let [one, two, three] = ips();
        let dns = Dns::start(&[one, two], "");
        let front = address();
        let gate = Ringgate::start(engine, &site(front, &format!("\"web.internal:{port}\""), "", &dns));
        // From the first request on.
        assert_eq!(answers(front, 10), "1111122222");
        let name = |ip: Ipv4Addr| format!("web.internal:{port}@{ip}");
        let told = admin(&gate, "servers", &[]);
        for ip in [one, two] {
            assert!(told.contains(&format!("\"name\":\"{}\"", name(ip))), "{told}");
            assert!(told.contains(&format!("\"address\":\"{ip}:{port}\"")), "{told}");
        }

        let start = now();
        dns.change(&[two, three]);
        eventually("the new one serves, the old one does not", || (seen(front) == "23").then_some(()));
        assert!(start.elapsed() < TTL * 4, "{:?}", start.elapsed());
        logged(&gate, &format!("the name \"web.internal\" stands for {two}:{port}, {three}:{port} now"));
        dns.change(&[three]);
        eventually("one is left", || (seen(front) == "3").then_some(()));
        assert!(!admin(&gate, "servers", &[]).contains(&name(two)));
    }
}

#[test]
fn what_is_in_progress_at_an_address_that_disappears_is_finished() {
    let (port, origins) = origins();
    let [one, two, _] = ips();
    let dns = Dns::start(&[one], "");
    let front = address();
    let gate = Ringgate::start(Engine::Epoll, &site(front, &format!("\"web.internal:{port}\""), "", &dns));
    let bytes = noise(2 << 20);
    origins[0].file("long", &bytes);
    let curl = program("curl", "curl");
    let download = Command::new(curl)
        .args(["-sS", "--fail", &format!("http://{front}/trickle/long")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let reader = std::thread::spawn(move || download.wait_with_output().unwrap());
    eventually("it has begun", || admin(&gate, "servers", &[]).contains("\"in_flight\":1").then_some(()));
    dns.change(&[two]);
    eventually("nobody new is sent there", || (seen(front) == "2").then_some(()));
    assert!(!reader.is_finished(), "the transfer takes five seconds");
    let output = reader.join().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == bytes, "{} bytes of {}", output.stdout.len(), bytes.len());
}

#[test]
fn settings_of_a_name_last_while_its_addresses_change() {
    let (port, _origins) = origins();
    let [one, two, three] = ips();
    let dns = Dns::start(&[one, two], "");
    let front = address();
    let servers = format!("\"web.internal:{port}\"");
    let gate = Ringgate::start(Engine::Epoll, &site(front, &servers, "", &dns));
    let set = |name: &str, what: &str| {
        admin(&gate, &format!("pools/web/servers/{name}"), &["-X", "PATCH", "-d", what])
    };
    let of = |ip: Ipv4Addr| format!("web.internal:{port}@{ip}");
    assert!(set(&of(one), "{\"state\":\"drain\"}").contains("\"admin\":\"drain\""));
    assert!(set(&of(two), "{\"weight\":7}").contains("\"weight_file\":1"));
    assert_eq!(seen(front), "2");
    dns.change(&[one, two, three]);
    eventually("the third joins, the first is still out", || (seen(front) == "23").then_some(()));
    assert_eq!(answers(front, 16), "2222222222222233", "seven to one");
    let told = admin(&gate, "diff", &[]);
    assert!(told.contains(&of(one)) && told.contains(&of(two)) && !told.contains(&of(three)), "{told}");

    // Under the name in the file: for all, also for one that comes later.
    dns.change(&[one, two]);
    eventually("the third has left", || (seen(front) == "2").then_some(()));
    set(&format!("web.internal:{port}"), "{\"state\":\"ready\",\"weight\":3}");
    dns.change(&[one, two, three]);
    eventually("all three", || (seen(front) == "123").then_some(()));
    assert_eq!(admin(&gate, "servers", &[]).matches("\"weight\":3").count(), 3);
    assert_eq!(admin(&gate, "diff", &[]).matches("\"what\"").count(), 1);
    // The same from the command line.
    let socket = format!("unix:{}", gate.folder().join("admin.sock").display());
    let ctl = |arguments: &[&str]| Ringgate::once(None, &[&["ctl", "--admin", &socket], arguments].concat());
    let told = ctl(&["weight", &format!("web/web.internal:{port}"), "2"]);
    assert_eq!(told.code, Some(0), "{}", told.text());
    assert_eq!(admin(&gate, "servers", &[]).matches("\"weight\":2").count(), 3);
    let told = ctl(&["diff"]);
    assert!(told.stdout.contains(&format!("web.internal:{port}")), "{}", told.text());
    let told = ctl(&["weight", &format!("web.internal:{port}"), "3"]);
    assert_eq!(told.code, Some(0), "{}", told.text());
    // A reload of the same file changes nothing of it.
    let told = admin(&gate, "reload", &["-X", "POST"]);
    assert!(told.contains("\"applied\":true"), "{told}");
    assert_eq!(admin(&gate, "servers", &[]).matches("\"weight\":3").count(), 3);
    assert_eq!(seen(front), "123");
}

#[test]
fn serving_goes_on_without_the_dns_server() {
    let (port, _origins) = origins();
    let [one, two, three] = ips();
    let mut dns = Dns::start(&[one, two], "");
    let front = address();
    let config = site(front, &format!("\"web.internal:{port}\""), "", &dns);
    let gate = Ringgate::start(Engine::Epoll, &config);
    assert_eq!(seen(front), "12");
    dns.stop();
    logged(&gate, "the name \"web.internal\" cannot be resolved, its last answer stays");
    assert_eq!(seen(front), "12");
    eventually("it is counted", || {
        let told = admin(&gate, "status", &[]);
        (told.contains(&format!("\"name\":\"web.internal:{port}\"")) && told.contains("\"failing\":1"))
            .then_some(())
    });
    // A reload is not in need of it either.
    let told = admin(&gate, "reload", &["-X", "POST"]);
    assert!(told.contains("\"applied\":true") && told.contains("cannot be resolved"), "{told}");
    assert_eq!(seen(front), "12");
    dns.start_again();
    logged(&gate, "the name \"web.internal\" is resolved again");
    let lost = gate.running.text().matches("its last answer stays").count();
    assert_eq!(lost, 1, "told once: {}", gate.running.text());

    // The name disappears: whoever maintains the records is more likely wrong than all servers gone.
    dns.change(&[]);
    eventually("it is told", || gate.running.text().contains("stays: there is no such name").then_some(()));
    assert_eq!(seen(front), "12");
    dns.change(&[three]);
    eventually("it is followed again", || (seen(front) == "3").then_some(()));
    assert!(admin(&gate, "status", &[]).contains("\"failing\":0"));
}

#[test]
fn a_service_has_ports_weights_and_backups() {
    let (one, mut two, mut three) = (Nginx::start("1"), Nginx::start("2"), Nginx::start("3"));
    let record = |name: &str, at: &Nginx, priority: u32, weight: u32| {
        let (ip, port) = (at.address.ip(), at.address.port());
        format!(
            "host-record={name}.internal,{ip}\nsrv-host=_http._tcp.web.internal,{name}.internal,{port},{priority},{weight}\n"
        )
    };
    // A record that leads nowhere is not in the way of the others.
    let dead = "srv-host=_http._tcp.web.internal,gone.internal,80,10,5\n";
    let lines = [record("a", &one, 20, 9), record("b", &two, 10, 1), record("c", &three, 10, 3), dead.into()];
    let mut dns = Dns::start(&[], &lines.concat());
    let front = address();
    let config = site(front, "\"srv:_http._tcp.web.internal\"", "eject = { failures = 1 }", &dns);
    let gate = Ringgate::start(Engine::Epoll, &config);
    assert_eq!(answers(front, 12), "222333333333");
    let told = admin(&gate, "servers", &[]);
    assert!(told.contains(&format!("\"name\":\"srv:_http._tcp.web.internal@{}\"", one.address)), "{told}");
    assert_eq!(told.matches("\"backup\":true").count(), 1, "{told}");
    assert!(told.contains("\"weight\":9") && told.contains("\"weight\":3"), "{told}");
    two.stop();
    three.stop();
    assert_eq!(seen(front), "1", "the backup serves");
    two.start_again();

    // Other records, other weights.
    dns.stop();
    dns.write(&[], &[record("a", &one, 10, 1), record("b", &two, 10, 1)].concat());
    dns.start_again();
    eventually("both serve alike", || (answers(front, 10) == "1111122222").then_some(()));
}

#[test]
fn a_name_that_is_not_known_yet_does_not_hinder_the_start() {
    let (port, _origins) = origins();
    let [one, ..] = ips();
    let dns = Dns::start(&[], "");
    let front = address();
    let config = site(
        front,
        &format!("\"web.internal:{port}\""),
        "check = { every = \"200ms\", path = \"/whoami\" }",
        &dns,
    );
    let gate = Ringgate::start(Engine::Epoll, &config);
    logged(&gate, "warning: the name \"web.internal\" cannot be resolved: there is no such name");
    let start = now();
    assert_eq!(curl(&[&format!("http://{front}/whoami")]).status, 503);
    assert!(start.elapsed() < Duration::from_secs(1), "at once");
    let told = admin(&gate, "servers", &[]);
    assert!(told.contains("\"state\":\"down\"") && told.contains("its name cannot be resolved"), "{told}");
    std::thread::sleep(Duration::from_millis(500));
    assert!(admin(&gate, "status", &[]).contains("\"done\":0"), "there is nobody to check");
    dns.change(&[one]);
    eventually("it serves", || (curl(&[&format!("http://{front}/whoami")]).status == 200).then_some(()));
    assert!(admin(&gate, "servers", &[]).contains("\"state\":\"up\""));

    let checked = Ringgate::once(
        Some(
            "http.a = { listen = [\"127.0.0.1:1\"], pool = \"p\" }\npool.p = { servers = [\"web.invalid:80\", \"10.0.0.1:80\"] }\ndns = { servers = [\"127.0.0.1:1\"], timeout = \"300ms\" }",
        ),
        &["check", "{file}"],
    );
    assert_eq!(checked.code, Some(0), "{}", checked.text());
    assert!(checked.stderr.contains("\"web.invalid\" cannot be resolved"), "{}", checked.stderr);
    assert!(checked.stdout.contains("not resolved  web.invalid:80"), "{}", checked.stdout);
}

#[test]
fn the_system_says_who_is_asked() {
    let origin = Nginx::start("unused");
    let port = address().port();
    let _local = Nginx::with("L", "", &format!("listen 127.0.0.1:{port};"));
    drop(origin);
    let front = address();
    let config = format!(
        "[http.main]\nlisten = [\"{front}\"]\npool = \"web\"\n[pool.web]\nservers = [\"localhost:{port}\"]\n\
         [admin]\nlisten = [\"unix:admin.sock\"]\n[process]\nsandbox = \"on\"\n"
    );
    for engine in [Engine::Epoll, Engine::IoUring] {
        let gate = Ringgate::start(engine, &config);
        assert_eq!(seen(front), "L");
        // Time for a round in the sandbox.
        std::thread::sleep(TTL * 2);
        let told = admin(&gate, "status", &[]);
        assert!(told.contains("\"failures\":0"), "{told}");
        assert!(admin(&gate, "servers", &[]).contains(&format!("localhost:{port}@127.0.0.1")));
        assert_eq!(seen(front), "L");
    }
}

#[test]
fn no_more_servers_come_of_a_name_than_can_be_used() {
    let records = |count: usize| -> String {
        (0..count).map(|n| format!("host-record=many.internal,127.1.{}.{}\n", n / 250, n % 250 + 1)).collect()
    };
    // More than one datagram holds.
    let mut dns = Dns::start(&[], &records(300));
    let config = site(address(), "\"many.internal:80\"", "", &dns);
    let gate = Ringgate::start(Engine::Epoll, &config);
    logged(&gate, "the name \"many.internal\" has 300 addresses: 256 are used");
    let count = || admin(&gate, "servers", &[]).matches("\"name\":\"many.internal:80@127.1.").count();
    assert_eq!(count(), 256);
    dns.stop();
    dns.write(&[], &records(20));
    dns.start_again();
    logged(&gate, "127.1.0.8:80 and 12 more now");
    assert_eq!(count(), 20);
}

#[test]
fn a_name_that_is_drained_stays_so_while_its_addresses_change() {
    let (port, _origins) = origins();
    let [one, two, three] = ips();
    let dns = Dns::start(&[one, two], "");
    let front = address();
    let servers = format!("\"web.internal:{port}\"");
    let gate = Ringgate::start(Engine::Epoll, &site(front, &servers, "", &dns));
    let set = |name: &str, what: &str| {
        admin(&gate, &format!("pools/web/servers/{name}"), &["-X", "PATCH", "-d", what])
    };
    let states = || -> String {
        let told = admin(&gate, "servers", &[]);
        told.split("\"admin\":\"").skip(1).map(|rest| &rest[..1]).collect()
    };
    let first = format!("web.internal:{port}@{one}");
    set(&first, "{\"state\":\"drain\"}");
    dns.change(&[two]);
    eventually("the first has left", || (states() == "r").then_some(()));
    dns.change(&[one, two]);
    eventually("it is back, and drained as before", || (states() == "dr").then_some(()));
    assert_eq!(seen(front), "2");
    set(&format!("web.internal:{port}"), "{\"state\":\"maint\"}");
    dns.change(&[one, two, three]);
    eventually("the third has come, and gets nothing", || (states() == "mmm").then_some(()));
    set(&first, "{\"state\":\"ready\"}");
    assert_eq!(seen(front), "1");
    assert_eq!(admin(&gate, "diff", &[]).matches("\"what\"").count(), 2);
    set(&format!("web.internal:{port}"), "{\"state\":\"ready\"}");
    assert_eq!((seen(front).as_str(), admin(&gate, "diff", &[]).as_str()), ("123", "[]"));
}
