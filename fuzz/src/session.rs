//! Any list of events through sessions of HTTP and TCP.

use std::sync::LazyLock;

use ringgate::config::model::{Config, Serves};
use ringgate::config::{Nowhere, parse_in};
use ringgate::ids::{HttpId, TcpId};
use ringgate::session::Leg;

use crate::choices::Choices;
use crate::requests::Asked;
use crate::talk::{self, Said};
use crate::worker::Worker;

const TEXT: &str = r#"
[http.plain]
listen = ["127.0.0.1:1"]
routes = [
  { host = "fixed.x", answer = { status = 200, text = "hello" } },
  { host = "gone.x", redirect = { to = "https://new.x", status = 301 } },
  { host = "www.x", path = "/full/", pool = "full" },
  { host = "www.x", path = "/introduced/", pool = "introduced" },
  { host = "www.x", path = "/once/", pool = "once" },
  { host = "www.x", pool = "web" },
]

[http.small]
listen = ["127.0.0.1:2"]
limits = { head = 512, target = 64, fields = 6, body = 5000, requests = 3 }
request = { set = { X-Set = "1" }, remove = ["Cookie"] }
response = { add = { X-Add = "2" }, remove = ["Server"] }
forwarded = true
pool = "full"

[http.behind]
listen = ["127.0.0.1:3"]
proxy_protocol = true
trusted_proxies = ["10.0.0.0/8"]
pool = "web"

[tcp.relay]
listen = ["127.0.0.1:4"]
pool = "web"

[tcp.behind]
listen = ["127.0.0.1:5"]
proxy_protocol = true
trusted_proxies = ["10.0.0.0/8"]
pool = "introduced"

[tcp.full]
listen = ["127.0.0.1:6"]
pool = "full"

[pool.web]
servers = ["127.0.0.1:11", "127.0.0.1:12"]

[pool.full]
servers = [{ address = "127.0.0.1:13", connections = 1 }]
queue = { max = 2, timeout = "5s" }

[pool.introduced]
servers = ["127.0.0.1:14", "127.0.0.1:15"]
balance = "least-connections"
proxy_protocol = "v2"
attempts = 5

[pool.once]
servers = ["127.0.0.1:16", { address = "127.0.0.1:17", backup = true }]
balance = "ip-hash"
keep_alive = false
attempts = 1
"#;

static CONFIG: LazyLock<Config> = LazyLock::new(|| match parse_in(TEXT, "fuzz.toml", &Nowhere) {
    Ok(loaded) => loaded.config,
    Err(mistakes) => panic!("{mistakes}"),
});

const KINDS: [Serves; 8] = [
    Serves::Http(HttpId(0)),
    Serves::Http(HttpId(0)),
    Serves::Http(HttpId(0)),
    Serves::Http(HttpId(1)),
    Serves::Http(HttpId(2)),
    Serves::Tcp(TcpId(0)),
    Serves::Tcp(TcpId(1)),
    Serves::Tcp(TcpId(2)),
];

/// Plays a list of events.
pub fn run(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let pages = [32, 64, 512][choices.below(3)];
    let mut worker = Worker::new(&CONFIG, pages, u64::from(choices.byte()));
    let mut mark = 0;
    while let Some(step) = choices.next() {
        let at = usize::from(step >> 6);
        act(&mut worker, usize::from(step & 63) % 26, at, &mut choices, &mut mark);
    }
    if choices_end(bytes) {
        worker.kill();
    } else {
        worker.wind_down();
    }
    worker.check_end();
}

/// How it ends: the last byte chooses.
fn choices_end(bytes: &[u8]) -> bool {
    bytes.last().is_some_and(|last| last % 2 == 1)
}

fn act(worker: &mut Worker<'_>, step: usize, at: usize, choices: &mut Choices<'_>, mark: &mut u64) {
    let back = worker.leg(at, false);
    match step {
        0 | 1 => {
            let kind = choices.byte();
            worker.open(at, KINDS[usize::from(kind) % KINDS.len()], kind > 240);
        }
        2..=4 => {
            *mark += 1;
            let (kind, place, len) = (choices.below(256), choices.below(256), choices.size());
            worker.say(at, Leg::Front, &talk::request(kind, place, len, *mark));
        }
        5..=7 => answer(worker, at, choices),
        8 | 9 => drop(worker.deliver(at, Leg::Front, choices.size())),
        10 | 11 => drop(back.map(|leg| worker.deliver(at, leg, choices.size()))),
        12 => drop(worker.sent(at, Leg::Front, choices.below(256))),
        13 => drop(back.map(|leg| worker.sent(at, leg, choices.below(256)))),
        14 => drop(worker.connected(at, choices.below(4) == 0)),
        15 => worker.end(at, Leg::Front, choices.below(4) == 0),
        16 => back.into_iter().for_each(|leg| worker.end(at, leg, choices.below(4) == 0)),
        17 => {
            let leg = if choices.below(2) == 0 { Some(Leg::Front) } else { back };
            leg.into_iter().for_each(|leg| worker.fail_send(at, leg));
        }
        18 => {
            let unit = [1_000_000, 100_000_000, 5_000_000_000, 61_000_000_000][choices.below(4)];
            worker.wait(unit * choices.below(8) as u64);
        }
        19 => worker.wait_for_deadline(),
        20 => worker.hoard(choices.below(64)),
        21 | 22 => worker.settle(false),
        23 => rarely(worker, at, choices),
        24 => {
            worker.is_muddy = true;
            let count = choices.below(64);
            worker.say(at, Leg::Front, choices.bytes(count));
        }
        _ => {
            worker.is_muddy = true;
            let count = choices.below(64);
            let bytes = choices.bytes(count);
            back.into_iter().for_each(|leg| worker.say(at, leg, bytes));
        }
    }
}

fn rarely(worker: &mut Worker<'_>, at: usize, choices: &mut Choices<'_>) {
    match choices.below(10) {
        0 => worker.drain(),
        1 => worker.idle(choices.below(256), b""),
        2 => worker.idle(choices.below(256), b"x"),
        3 => worker.refuse_connects(true),
        4 => worker.refuse_connects(false),
        5 => worker.tick(at),
        6 => drop(worker.read_mail()),
        7 => worker.settle(true),
        8 => worker.feed_starved(),
        _ => worker.kill(),
    }
}

/// The server says something that fits to what it was asked, or talks without being asked.
fn answer(worker: &mut Worker<'_>, at: usize, choices: &mut Choices<'_>) {
    let (kind, len) = (choices.below(256), choices.size());
    let Some((leg, line)) = worker.server(at) else { return };
    let nobody = Asked { method: ringgate::http::message::Method::Get, mark: None, upgrade: false };
    let asked = line.requests.asked.get(line.answered).cloned();
    let fits = asked.is_some();
    let asked = asked.unwrap_or(nobody);
    let Said { bytes, body, is_final, is_clear } = talk::answer(kind, len, &asked);
    line.answered += usize::from(is_final);
    if kind % talk::ANSWERS == 3 && asked.upgrade {
        line.requests.switch();
        line.answered += 1;
    }
    worker.is_muddy |= !fits || !is_clear;
    if let Some(mark) = asked.mark {
        worker.lengths.insert(mark, body);
    }
    worker.say(at, leg, &bytes);
}
