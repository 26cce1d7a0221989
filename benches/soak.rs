//! A night in ten minutes: load without a pause, while everything that operators do goes on.
//!
//! What is this: `cargo bench --bench soak` starts four nginx, an echo server and ringgate, loads it with wrk (kept and
//! new connections), curl (TLS), POSTs, a TCP relay and a WebSocket, and meanwhile reloads changed files, drains servers,
//! changes weights, adds and removes servers, kills servers, and swaps the certificate. In: `--minutes`, `--seed`. Out:
//! what was done and what failed, memory and descriptors; the exit code is 1 unless all is well. Owns: what it started.
//! Always true: it talks to loopback only.
//!
//! All is well when no request failed (but for POSTs in progress at a server that was killed: they may have run there and
//! are never sent twice), both long connections lived through everything, and memory and descriptors did not grow.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a failed preparation ends the run"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;

use common::certs::Issued;
use common::{Authority, Engine, Nginx, Ringgate, Server, Wire, address, program};

/// A server that was killed comes back after this time.
const BACK_AFTER: Duration = Duration::from_millis(1500);
/// A POST that fails so shortly after a server was killed was in progress there.
const KILL_BLAME: Duration = Duration::from_millis(500);
/// Growth of memory that is none: pages that a longer run happens to touch.
const RSS_SLACK_KIB: u64 = 4096;

/// Load without a pause while the configuration, the servers and the certificates change.
#[derive(Parser, Debug)]
#[command(name = "soak", bin_name = "cargo bench --bench soak --")]
struct Options {
    /// How long.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Where the random choices start.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The engine: `io_uring` or `epoll`.
    #[arg(long, default_value = "io_uring")]
    engine: String,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Where what listens.
struct Places {
    http: SocketAddr,
    tls: SocketAddr,
    extra: SocketAddr,
    relay: SocketAddr,
    servers: Vec<SocketAddr>,
    spare: SocketAddr,
    echo: SocketAddr,
}

/// What was tried, and what failed.
#[derive(Default)]
struct Tally {
    tried: AtomicU64,
    failed: AtomicU64,
    /// Failures that the end of a server explains.
    killed: AtomicU64,
}

impl Tally {
    fn line(&self, name: &str) -> String {
        let [tried, failed, killed] =
            [&self.tried, &self.failed, &self.killed].map(|count| count.load(Relaxed));
        format!("{name:<28} {tried:>9} tried  {failed:>3} failed  {killed:>3} at a killed server\n")
    }
}

/// What all threads see.
struct Scene {
    over: AtomicBool,
    killed_at: Mutex<Option<Instant>>,
    complaints: Mutex<Vec<String>>,
    posts: Tally,
    tls: Tally,
    relay: Tally,
    socket: Tally,
}

impl Scene {
    fn goes_on(&self) -> bool {
        !self.over.load(Relaxed)
    }

    fn complain(&self, text: String) {
        eprintln!("soak: {text}");
        self.complaints.lock().unwrap().push(text);
    }
}

fn main() -> ExitCode {
    // cargo test, nextest: nothing here is a test, and nothing slow may start.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    run(&Options::parse())
}

fn run(options: &Options) -> ExitCode {
    let authority = Authority::new();
    let certificate = authority.issue("site", &["site.test"]);
    let mut origins: Vec<Nginx> = (0..4).map(|at| Nginx::start(&format!("origin{at}"))).collect();
    let spare = Nginx::start("spare");
    let echo = Server::start(echo);
    let places = Places {
        http: address(),
        tls: address(),
        extra: address(),
        relay: address(),
        servers: origins.iter().map(|origin| origin.address).collect(),
        spare: spare.address,
        echo: echo.address,
    };
    let engine = if options.engine == "epoll" { Engine::Epoll } else { Engine::IoUring };
    let gate = Ringgate::start(engine, &config(&places, &certificate, 0));
    let before = gate.settled();
    let scene = Scene {
        over: AtomicBool::new(false),
        killed_at: Mutex::new(None),
        complaints: Mutex::default(),
        posts: Tally::default(),
        tls: Tally::default(),
        relay: Tally::default(),
        socket: Tally::default(),
    };
    let time = Duration::from_secs_f64(options.minutes * 60.0);
    let (done, memory, loads) = thread::scope(|threads| {
        let kept = threads.spawn(|| wrk(&places, time, &["-c", "16"]));
        let new = threads.spawn(|| wrk(&places, time, &["-c", "4", "-H", "Connection: close"]));
        threads.spawn(|| post(&places, &scene));
        threads.spawn(|| ask_by_tls(&places, &authority, &scene));
        threads.spawn(|| converse(places.relay, None, &scene.relay, &scene));
        threads.spawn(|| converse(places.http, Some(UPGRADE), &scene.socket, &scene));
        let memory = threads.spawn(|| watch_memory(&gate, time, &scene));
        let done =
            disturb(options.seed, time, &gate, &places, &authority, &certificate, &mut origins, &scene);
        scene.over.store(true, Relaxed);
        (
            done,
            memory.join().unwrap(),
            [("wrk, kept connections", kept.join().unwrap()), ("wrk, new connections", new.join().unwrap())],
        )
    });
    report(&gate, before, &done, &memory, &loads, &scene)
}

/// The text with which a WebSocket begins.
const UPGRADE: &str = "GET /socket HTTP/1.1\r\nHost: site.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Echoes lines; what begins like a request is upgraded first.
fn echo(wire: &mut Wire) {
    wire.patience(Duration::from_secs(3600));
    let Ok(first) = wire.until("\n") else { return };
    if first.starts_with("GET ") {
        let _ = wire.until("\r\n\r\n");
        let _ = wire
            .send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    } else {
        let _ = wire.send(first);
    }
    while let Ok(line) = wire.until("\n") {
        if wire.send(line).is_err() {
            return;
        }
    }
}

/// The configuration, in as many variants as there are numbers.
fn config(places: &Places, certificate: &Issued, variant: u64) -> String {
    let Places { http, tls, extra, relay, servers, echo, .. } = places;
    let mut text = format!(
        "[http.main]\nlisten = [\"{http}\"]\nroutes = [\n  {{ path = \"/socket\", pool = \"echo\" }},\n"
    );
    if variant % 2 == 1 {
        writeln!(
            text,
            "  {{ path = \"/new/{variant}\", answer = {{ status = 200, text = \"{variant}\" }} }},"
        )
        .unwrap();
    }
    let pem = certificate.both.display();
    let balance = ["round-robin", "least-connections"][(variant / 3 % 2) as usize];
    write!(
        text,
        "  {{ pool = \"main\" }},\n]\n\n[http.secure]\nlisten = [\"{tls}\"]\n\
         certificates = [ \"{pem}\" ]\n\
         routes = [ {{ pool = \"main\" }} ]\n\n[tcp.relay]\nlisten = [\"{relay}\"]\npool = \"echo\"\n\n"
    )
    .unwrap();
    if variant % 3 == 1 {
        writeln!(
            text,
            "[http.extra]\nlisten = [\"{extra}\"]\nroutes = [ {{ answer = {{ status = 204 }} }} ]\n"
        )
        .unwrap();
    }
    writeln!(text, "[pool.main]\nbalance = \"{balance}\"\ncheck = {{ path = \"/whoami\", every = \"500ms\", timeout = \"400ms\" }}\nslow_start = \"1s\"\ntimeouts = {{ idle = \"2s\" }}\nservers = [").unwrap();
    for (at, server) in (0u64..).zip(servers) {
        writeln!(
            text,
            "  {{ address = \"{server}\", name = \"origin{at}\", weight = {} }},",
            1 + (variant / 2 + at) % 3
        )
        .unwrap();
    }
    write!(
        text,
        "]\n\n[pool.echo]\nservers = [ {{ address = \"{echo}\" }} ]\n\n[admin]\nlisten = [\"unix:admin.sock\"]\nwatch = true\n\n\
         [limits]\ndrain = \"5s\"\n\n[workers]\ncount = 2\n"
    )
    .unwrap();
    text
}

/// Loads for the whole time; the report of wrk.
fn wrk(places: &Places, time: Duration, more: &[&str]) -> String {
    let seconds = time.as_secs().max(1).to_string();
    let output = Command::new(program("wrk", "wrk"))
        .args(["-t", "1", "-d", &seconds, "--timeout", "5s"])
        .args(more)
        .arg(format!("http://{}/whoami", places.http))
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Requests that must not run twice: one in progress at a killed server fails, no other does.
fn post(places: &Places, scene: &Scene) {
    let request = "POST /uri HTTP/1.1\r\nHost: site.test\r\nContent-Length: 5\r\n\r\nhello";
    let mut wire = Wire::connect(places.http);
    while scene.goes_on() {
        scene.posts.tried.fetch_add(1, Relaxed);
        let answer = wire.send(request).map_err(|error| error.to_string()).and_then(|()| {
            let answer = wire.answer().map_err(|error| error.to_string())?;
            if answer.status() == 200 {
                Ok(answer)
            } else {
                Err(format!("{}: {}", answer.status(), answer.text()))
            }
        });
        let closes = |answer: &common::Message| answer.field("connection").as_deref() == Some("close");
        match answer {
            Ok(answer) if closes(&answer) => wire = Wire::connect(places.http),
            Ok(_) => {}
            Err(why) => {
                let killed = *scene.killed_at.lock().unwrap();
                if killed.is_some_and(|at| at.elapsed() < KILL_BLAME) {
                    scene.posts.killed.fetch_add(1, Relaxed);
                } else {
                    scene.posts.failed.fetch_add(1, Relaxed);
                    scene.complain(format!("POST: {why}"));
                }
                wire = Wire::connect(places.http);
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Two requests on each of many TLS connections, the certificate verified.
fn ask_by_tls(places: &Places, authority: &Authority, scene: &Scene) {
    let url = format!("https://site.test:{}/whoami", places.tls.port());
    let resolve = format!("site.test:{}:{}", places.tls.port(), places.tls.ip());
    let ca = authority.ca();
    while scene.goes_on() {
        scene.tls.tried.fetch_add(2, Relaxed);
        let output = Command::new(program("curl", "curl"))
            .args(["-sS", "--max-time", "5", "--resolve", &resolve, "--cacert", ca.to_str().unwrap()])
            .args(["-w", "%{http_code}\n", "-o", "/dev/null", "-o", "/dev/null", &url, &url])
            .output()
            .unwrap();
        if output.stdout != b"200\n200\n" {
            scene.tls.failed.fetch_add(1, Relaxed);
            let said = [output.stdout, output.stderr].concat();
            scene.complain(format!("TLS: {}", String::from_utf8_lossy(&said)));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// One connection that lives through everything.
fn converse(to: SocketAddr, upgrade: Option<&str>, tally: &Tally, scene: &Scene) {
    let mut wire = Wire::connect(to);
    if let Some(upgrade) = upgrade {
        wire.send(upgrade).unwrap();
        assert!(wire.head().unwrap().starts_with("HTTP/1.1 101"));
    }
    for count in 0u64.. {
        if !scene.goes_on() {
            return;
        }
        tally.tried.fetch_add(1, Relaxed);
        let line = format!("line {count}\n");
        let back = wire.send(&line).and_then(|()| wire.until("\n"));
        if !matches!(&back, Ok(back) if *back == line) {
            tally.failed.fetch_add(1, Relaxed);
            scene.complain(format!("a long connection to {to} ended after {count} lines: {back:?}"));
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Resident memory in KiB and descriptors, twenty times.
fn watch_memory(gate: &Ringgate, time: Duration, scene: &Scene) -> Vec<(u64, usize)> {
    let mut list = Vec::new();
    while scene.goes_on() {
        thread::sleep(time / 20);
        list.push((gate.running.memory_kib("VmRSS"), gate.running.descriptors()));
        let (memory, descriptors) = list[list.len() - 1];
        println!("{:>3} %  {memory:>6} KiB  {descriptors:>4} descriptors", list.len() * 5);
    }
    list
}

/// How often what was done.
#[derive(Default)]
struct Done {
    reloads: u64,
    drains: u64,
    weights: u64,
    kills: u64,
    added: u64,
    certificates: u64,
}

fn ctl(folder: &Path, words: &[&str], scene: &Scene) {
    let socket = format!("unix:{}", folder.join("admin.sock").display());
    let output = Command::new(Ringgate::program())
        .args(["ctl", "--admin", &socket])
        .args(words)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    if !output.status.success() {
        scene.complain(format!("ctl {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr)));
    }
}

/// Puts a file in its place in one step.
fn replace(path: &Path, text: &[u8]) {
    let beside = PathBuf::from(format!("{}.new", path.display()));
    fs::write(&beside, text).unwrap();
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(&beside, path).unwrap();
}

/// Everything that is done to the running process.
#[allow(clippy::too_many_arguments)]
fn disturb(
    seed: u64,
    time: Duration,
    gate: &Ringgate,
    places: &Places,
    authority: &Authority,
    certificate: &Issued,
    origins: &mut [Nginx],
    scene: &Scene,
) -> Done {
    let end = Instant::now() + time;
    let mut done = Done::default();
    let mut down: Option<(usize, Instant)> = None;
    let mut state = seed | 1;
    let mut variant = 0;
    let folder = gate.folder();
    while Instant::now() < end {
        thread::sleep(Duration::from_millis(250));
        if let Some((at, _)) = down.take_if(|(_, since)| since.elapsed() > BACK_AFTER) {
            origins[at].start_again();
        }
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let server = (state >> 8) % 4;
        let name = format!("main/origin{server}");
        match state % 16 {
            0..=6 => {
                variant += 1;
                done.reloads += 1;
                replace(&folder.join("ringgate.toml"), config(places, certificate, variant).as_bytes());
                if state & 0x10000 == 0 {
                    gate.running.signal("HUP");
                } else {
                    ctl(folder, &["reload"], scene);
                }
            }
            7..=8 => {
                done.drains += 1;
                let word = if state & 0x10000 == 0 { "drain" } else { "maint" };
                ctl(folder, &[word, &name], scene);
                thread::sleep(Duration::from_millis(400));
                ctl(folder, &["ready", &name], scene);
            }
            9..=10 => {
                done.weights += 1;
                ctl(folder, &["weight", &name, &(state >> 20 & 7).max(1).to_string()], scene);
            }
            11 => {
                done.added += 1;
                let spare = places.spare.to_string();
                ctl(folder, &["add", "main", &spare, "--name", "spare"], scene);
                thread::sleep(Duration::from_millis(400));
                ctl(folder, &["remove", "main/spare"], scene);
            }
            12..=13 if down.is_none() => {
                done.kills += 1;
                *scene.killed_at.lock().unwrap() = Some(Instant::now());
                origins[server as usize].stop();
                *scene.killed_at.lock().unwrap() = Some(Instant::now());
                down = Some((server as usize, Instant::now()));
            }
            _ => {
                done.certificates += 1;
                let fresh = authority.issue("fresh", &["site.test"]);
                replace(&certificate.both, &fs::read(fresh.both).unwrap());
            }
        }
    }
    done
}

/// Prints what happened; a failure unless all is well.
fn report(
    gate: &Ringgate,
    before: usize,
    done: &Done,
    memory: &[(u64, usize)],
    loads: &[(&str, String)],
    scene: &Scene,
) -> ExitCode {
    let mut complaints = scene.complaints.lock().unwrap().clone();
    let Done { reloads, drains, weights, kills, added, certificates } = done;
    println!(
        "\ndone: {reloads} reloads, {drains} drains, {weights} weights, {added} servers added and removed, {kills} servers killed, \
         {certificates} certificates swapped\n"
    );
    for (name, report) in loads {
        let line = |words: &[&str]| {
            let found = report.lines().find(|line| words.iter().all(|word| line.contains(word)));
            found.map(|line| line.trim().to_owned())
        };
        println!("{name:<28} {}", line(&["requests in"]).unwrap_or_default());
        for bad in ["Socket errors", "Non-2xx"] {
            complaints.extend(line(&[bad]).map(|line| format!("{name}: {line}")));
        }
        if line(&["requests in"]).is_none_or(|line| line.starts_with("0 ")) {
            complaints.push(format!("{name}: no requests: {report}"));
        }
    }
    let tallies = [
        ("POST", &scene.posts),
        ("TLS, new connections", &scene.tls),
        ("lines of one TCP relay", &scene.relay),
        ("lines of one WebSocket", &scene.socket),
    ];
    tallies.iter().for_each(|(name, tally)| print!("{}", tally.line(name)));
    let early = memory.get(memory.len() / 4).map_or(0, |(memory, _)| *memory);
    let late = memory.last().map_or(0, |(memory, _)| *memory);
    println!("memory: {early} KiB after a quarter of the time, {late} KiB at the end");
    if late > early + early / 10 + RSS_SLACK_KIB {
        complaints.push("memory grows".into());
    }
    // Kept server connections end after two seconds.
    thread::sleep(Duration::from_secs(4));
    let after = gate.settled();
    println!("descriptors: {before} before, {after} after");
    // The extra listener of two workers may be there or not.
    if after > before + 4 {
        complaints.push("descriptors grow".into());
    }
    println!("ringgate said:\n{}", tail(&gate.running.stderr()));
    if complaints.is_empty() {
        println!("all is well");
        return ExitCode::SUCCESS;
    }
    complaints.iter().for_each(|complaint| println!("NOT WELL: {complaint}"));
    ExitCode::FAILURE
}

/// The last lines.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
