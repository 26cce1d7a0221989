//! Under stress: many connections, slow readers, a server killed under load, and rest afterwards.
//!
//! Sized for a small machine; `STRESS=1` asks for 10,000 connections and 1,000 slow readers. The tests run one at a
//! time, because some of them look at the process as a whole.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::{
    Nginx, Ringgate, Server, Wire, address, curl, curl_text, eventually, noise, now, program, site,
};

const ASK: &str = "GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n";

/// One test of this file at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `large` where `STRESS` is set, else `small`.
fn sized(small: usize, large: usize) -> usize {
    if std::env::var_os("STRESS").is_some() { large } else { small }
}

/// How many files this process may open, so that a test can say what it needs.
fn assert_files(needed: usize) {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let limit: usize = line.split_whitespace().nth(3).unwrap().parse().unwrap_or(usize::MAX);
    assert!(
        limit >= needed,
        "this test opens {needed} files, but only {limit} are allowed: run `ulimit -n {needed}` first"
    );
}

/// A running wrk.
struct Load(Child);

impl Load {
    fn start(url: &str, connections: usize, seconds: u32) -> Self {
        let child = Command::new(program("wrk", "wrk"))
            .args([
                "-t",
                "1",
                "-c",
                &connections.to_string(),
                "-d",
                &format!("{seconds}s"),
                "--timeout",
                "10s",
                url,
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// What it says at its end.
    fn report(self) -> String {
        let output = self.0.wait_with_output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }
}

/// Fails unless a report of wrk tells of requests and of no failure.
#[track_caller]
fn assert_flawless(report: &str) {
    assert!(report.contains("requests in"), "{report}");
    assert!(!report.contains("Non-2xx"), "{report}");
    assert!(!report.contains("Socket errors"), "{report}");
}

both_engines! {
    fn many_connections_at_once(engine) {
        let _alone = alone();
        let count = sized(2_000, 10_000);
        assert_files(count + 200);
        let origin = Nginx::start("A");
        let at = address();
        let pool = "timeouts = { idle = \"500ms\" }";
        let gate = Ringgate::start(engine, &site(at, "", pool, &[origin.address]));
        let before = gate.settled();
        let mut clients: Vec<Wire> = (0..count).map(|_| Wire::connect(at)).collect();
        for round in 0..2 {
            clients.iter_mut().for_each(|client| client.send(ASK).unwrap());
            for (number, client) in clients.iter_mut().enumerate() {
                let answer = client.answer().unwrap_or_else(|error| panic!("round {round}, client {number}: {error}"));
                assert_eq!((answer.status(), answer.text().as_str()), (200, "A\n"));
            }
        }
        drop(clients);
        eventually("all descriptors are closed", || (gate.running.descriptors() <= before).then_some(()));
    }

    fn slow_readers_stay_within_the_memory(engine) {
        let _alone = alone();
        let count = sized(200, 1_000);
        let origin = Nginx::start("A");
        let bytes = noise(1_000_000);
        origin.file("large", &bytes);
        let at = address();
        let config = site(at, "", "", &[origin.address]) + "[limits]\nmemory_max = \"64MiB\"\n";
        let gate = Ringgate::start(engine, &config);
        assert_eq!(curl(&[&format!("http://{at}/whoami")]).status, 200);
        let rest = gate.running.memory_kib("VmRSS");
        let mut clients: Vec<Wire> = (0..count).map(|_| Wire::connect_small(at)).collect();
        clients.iter_mut().for_each(|client| client.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n").unwrap());
        let start = now();
        while start.elapsed() < Duration::from_secs(2) {
            let grown = gate.running.memory_kib("VmRSS").saturating_sub(rest);
            assert!(grown < (64 + 16) * 1024, "{grown} KiB for {count} slow readers");
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut refused = 0;
        for (number, client) in clients.iter_mut().enumerate() {
            let answer = client.answer().unwrap_or_else(|error| panic!("reader {number}: {error}"));
            match answer.status() {
                200 => assert!(answer.body == bytes, "reader {number} got other bytes"),
                503 => refused += 1,
                status => panic!("reader {number}: {status}"),
            }
        }
        assert!(refused * 2 <= count, "{refused} of {count} were refused");
        assert!(count > 200 || refused == 0, "64 MiB are enough for {count}, but {refused} were refused");
        drop(clients);
        assert_eq!(curl(&[&format!("http://{at}/whoami")]).text(), "A\n");
    }

    fn little_memory_refuses_rather_than_breaks(engine) {
        let _alone = alone();
        let origin = Nginx::start("A");
        let bytes = noise(1_000_000);
        origin.file("large", &bytes);
        let at = address();
        let config = site(at, "", "", &[origin.address]) + "[limits]\nmemory_max = \"4MiB\"\n[workers]\ncount = 1\n";
        let gate = Ringgate::start(engine, &config);
        let mut clients: Vec<Wire> = (0..150).map(|_| Wire::connect_small(at)).collect();
        clients.iter_mut().for_each(|client| client.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n").unwrap());
        std::thread::sleep(Duration::from_secs(1));
        let mut whole = 0;
        for client in &mut clients {
            match client.answer() {
                Ok(answer) if answer.status() == 200 => {
                    assert!(answer.body == bytes);
                    whole += 1;
                }
                Ok(answer) => assert_eq!(answer.status(), 503),
                // A connection may be closed instead of answered, but it must not be left alone.
                Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "it hangs"),
            }
        }
        assert!(whole > 0, "some were served");
        drop(clients);
        eventually("it recovers", || (curl(&[&format!("http://{at}/whoami")]).status == 200).then_some(()));
        assert!(gate.running.memory_kib("VmRSS") < 64 * 1024);
    }

    fn a_server_killed_under_load_costs_no_request(engine) {
        let _alone = alone();
        let (a, mut b) = (Nginx::start("A"), Nginx::start("B"));
        let at = address();
        let pool = "timeouts = { idle = \"500ms\" }";
        let gate = Ringgate::start(engine, &site(at, "", pool, &[a.address, b.address]));
        let url = format!("http://{at}/whoami");
        curl_text(&[&url]);
        let before = gate.settled();
        let load = Load::start(&url, 64, sized(4, 10) as u32);
        std::thread::sleep(Duration::from_secs(1));
        b.stop();
        std::thread::sleep(Duration::from_secs(1));
        b.start_again();
        let report = load.report();
        assert_flawless(&report);
        eventually("B is used again", || (curl_text(&[&url]) == "B\n").then_some(()));
        eventually("all descriptors are closed", || (gate.running.descriptors() <= before).then_some(()));
    }

    fn load_with_new_connections_leaks_nothing(engine) {
        let _alone = alone();
        let origin = Nginx::start("A");
        let at = address();
        let pool = "timeouts = { idle = \"500ms\" }";
        let gate = Ringgate::start(engine, &site(at, "", pool, &[origin.address]));
        let before = gate.settled();
        // Every answer closes its connection: HTTP/1.0 without keep-alive, by ab.
        let output = Command::new(program("ab", "apache2-utils"))
            .args(["-n", &sized(3_000, 30_000).to_string(), "-c", "50", "-q", &format!("http://{at}/whoami")])
            .output()
            .unwrap();
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(report.contains("Failed requests:        0"), "{report}{}", String::from_utf8_lossy(&output.stderr));
        assert!(!report.contains("Non-2xx"), "{report}");
        eventually("all descriptors are closed", || (gate.running.descriptors() <= before).then_some(()));
    }

    fn clients_that_leave_at_any_time_leak_nothing(engine) {
        let _alone = alone();
        let origin = Nginx::start("A");
        origin.file("large", &noise(1_000_000));
        let at = address();
        let pool = "timeouts = { idle = \"500ms\" }";
        let gate = Ringgate::start(engine, &site(at, "", pool, &[origin.address]));
        let before = gate.settled();
        let upload = "PUT /put/x HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nsome";
        let parts = ["", "GET", "GET / HTTP/1.1\r\nHost: x\r\n", ASK, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n", upload];
        for round in 0..sized(20, 200) {
            for (number, part) in parts.iter().enumerate() {
                let mut client = Wire::connect(at);
                let _ = client.send(part);
                std::thread::sleep(Duration::from_millis((round % 4) as u64));
                if (round + number) % 2 == 0 {
                    client.reset();
                }
            }
        }
        eventually("all descriptors are closed", || (gate.running.descriptors() <= before).then_some(()));
        assert_eq!(curl_text(&[&format!("http://{at}/whoami")]), "A\n");
    }
}

both_engines! {
    fn at_rest_it_uses_no_processor(engine) {
        let _alone = alone();
        let server = Server::ok();
        let at = address();
        let gate = Ringgate::start(engine, &site(at, "", "", &[server.address]));
        // Kept connections on both sides are rest, too.
        let mut clients: Vec<Wire> = (0..20).map(|_| Wire::connect(at)).collect();
        for client in &mut clients {
            assert_eq!(client.ask(ASK).text(), "ok");
        }
        std::thread::sleep(Duration::from_millis(500));
        let before = (gate.running.processor_time("worker"), gate.running.processor_time(""));
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(gate.running.processor_time("worker"), before.0, "of the workers");
        // The control thread asks itself once a second what there is to do.
        let all = gate.running.processor_time("") - before.1;
        assert!(all < Duration::from_millis(10), "{all:?}");
    }

    fn at_rest_it_fits_a_router(engine) {
        let _alone = alone();
        let server = Server::ok();
        let at = address();
        let config = site(at, "", "", &[server.address]) + "[workers]\ncount = 1\n";
        let gate = Ringgate::start(engine, &config);
        assert_eq!(curl(&[&format!("http://{at}/")]).status, 200);
        let kib = gate.running.memory_kib("VmRSS");
        // An unoptimised program is larger, which says nothing about the released one: there the bound is only against
        // gross mistakes. tests/run asks the release build, too.
        let most = if Ringgate::is_released() { 12 } else { 64 };
        assert!(kib <= most * 1024, "{kib} KiB at rest");
    }
}
