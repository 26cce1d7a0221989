//! Every phase of a client's connection met by every two events: nothing breaks, and time alone ends everything.

use std::time::Duration;

use super::rig::{HTTP, Rig, Wire};
use crate::balance::{Key, Pick};
use crate::clock::Moment;
use crate::ids::PoolId;
use crate::net::Errno;
use crate::session::{Event, Leg};

const GET: &str = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 40000\r\n\r\nstart";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
const UPGRADE: &str = "GET /a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhi";

const TCP: &str = r#"
[tcp.front]
listen = ["127.0.0.1:8080"]
pool = "db"
[pool.db]
servers = [ { address = "127.0.0.1:81" }, { address = "127.0.0.1:82" } ]
"#;

fn full(text: &str) -> String {
    text.replace(":81\" }", ":81\", connections = 1 }").replace(":82\" }", ":82\", connections = 1 }")
}

fn proxied(text: &str) -> String {
    text.replace(
        "listen = [\"127.0.0.1:8080\"]",
        "listen = [\"127.0.0.1:8080\"]\nproxy_protocol = true\ntrusted_proxies = [\"192.0.2.0/24\"]",
    )
}

/// A session with all places of its servers taken by others.
fn queued(text: &str) -> Rig {
    let mut rig = Rig::new(&full(text), 256);
    for _ in 0..2 {
        let key = Key { client: None, tried: &[], now: Moment(1), chance: 0, turn: false };
        let Pick::Server(claim) = rig.balancer.pick(PoolId(0), &key) else { panic!("a place is free") };
        rig.held.push(claim);
    }
    rig
}

fn exchange(request: &str, answer: &str) -> Rig {
    let mut rig = Rig::new(HTTP, 256);
    rig.client(request);
    rig.connected();
    if !answer.is_empty() {
        rig.server(answer);
    }
    rig
}

type Begin = fn() -> Rig;

/// A session in each phase, by name.
fn phases() -> Vec<(&'static str, Begin)> {
    vec![
        ("new", || Rig::new(HTTP, 256)),
        ("proxy", || Rig::new(&proxied(HTTP), 256)),
        ("handshake", || Rig::tls(HTTP, 256)),
        ("half a handshake", || {
            let mut rig = Rig::tls(HTTP, 256);
            rig.client([22, 3, 1, 0, 9, 1]);
            rig
        }),
        ("half a head", || {
            let mut rig = Rig::new(HTTP, 256);
            rig.client("GET / HTT");
            rig
        }),
        ("between requests", || exchange(GET, OK)),
        ("connecting", || {
            let mut rig = Rig::new(HTTP, 256);
            rig.client(POST);
            rig
        }),
        ("queued", || {
            let mut rig = queued(HTTP);
            rig.client(GET);
            assert!(rig.dialed.is_none());
            rig
        }),
        ("asked", || exchange(GET, "")),
        ("reused", || {
            let mut rig = exchange(GET, OK);
            rig.client(GET);
            rig.adopted();
            rig
        }),
        ("body", || exchange(POST, "")),
        ("half an answer's head", || exchange(GET, "HTTP/1.1 200 O")),
        ("interim", || exchange(POST, "HTTP/1.1 100 Continue\r\n\r\n")),
        ("half an answer", || exchange(GET, "HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\nok")),
        ("half a chunked answer", || exchange(GET, CHUNKED)),
        ("answer until the end", || exchange("GET /a HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nok")),
        ("early answer under way", || exchange(POST, CHUNKED)),
        ("early answer", || exchange(POST, OK)),
        ("tunnel", || exchange(UPGRADE, SWITCH)),
        ("refused head", || {
            let mut rig = Rig::new(HTTP, 256);
            rig.client("BAD\r\n\r\n");
            rig
        }),
        ("last answer", || exchange("GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", OK)),
        ("tcp connecting", || Rig::new(TCP, 256)),
        ("tcp proxy", || Rig::new(&proxied(TCP), 256)),
        ("tcp handshake", || Rig::tls(TCP, 256)),
        ("tcp open", || {
            let mut rig = Rig::new(TCP, 256);
            rig.connected();
            rig.client("hello");
            rig.server("hello");
            rig
        }),
    ]
}

type Act = fn(&mut Rig);

fn fails(rig: &mut Rig, leg: Leg, sending: bool) {
    let wire = rig.wire(leg);
    if sending {
        let Some(chain) = wire.sending.take() else { return };
        rig.pool.give_chain(chain);
        rig.tell(Event::SendFailed(leg, Errno(libc::EPIPE)));
    } else if std::mem::take(&mut wire.receiving) {
        rig.tell(Event::Failed(leg, Errno(libc::ECONNRESET)));
    }
}

fn back(rig: &Rig) -> Option<Leg> {
    rig.back.as_ref().filter(|back| back.end.is_none()).map(|back| back.leg)
}

fn from_client(rig: &mut Rig, bytes: &[u8]) {
    if rig.front.receiving && rig.front.end.is_none() {
        rig.client(bytes);
    }
}

fn from_server(rig: &mut Rig, bytes: &[u8]) {
    if rig.back.as_ref().is_some_and(|back| back.receiving && back.end.is_none()) {
        rig.server(bytes);
    }
}

fn stalls(wire: &mut Wire) {
    wire.reads = false;
}

/// What can happen, by name; what cannot happen now does nothing.
const EVENTS: &[(&str, Act)] = &[
    ("nothing", |_| {}),
    ("a byte of the client", |rig| from_client(rig, b"x")),
    ("a request", |rig| from_client(rig, GET.as_bytes())),
    ("many requests", |rig| from_client(rig, GET.repeat(500).as_bytes())),
    ("a head and a part of a body", |rig| from_client(rig, POST.as_bytes())),
    ("much of the client", |rig| from_client(rig, &[b'x'; 16_000])),
    ("the client's end", |rig| {
        if rig.front.receiving && rig.front.end.is_none() {
            rig.client_ends();
        }
    }),
    ("a failed receive", |rig| fails(rig, Leg::Front, false)),
    ("a failed send", |rig| fails(rig, Leg::Front, true)),
    ("the client does not read", |rig| stalls(&mut rig.front)),
    ("the server does not read", |rig| {
        if let Some(back) = &mut rig.back {
            stalls(back);
        }
    }),
    ("everybody reads", |rig| {
        rig.front.reads = true;
        if let Some(back) = &mut rig.back {
            back.reads = true;
        }
        rig.settle();
    }),
    ("connected", |rig| {
        if rig.dialed.is_some() {
            rig.connected();
        }
    }),
    ("refused", |rig| {
        if rig.dialed.is_some() {
            rig.refused();
        }
    }),
    ("a byte of the server", |rig| from_server(rig, b"x")),
    ("an answer", |rig| from_server(rig, OK.as_bytes())),
    ("a large answer", |rig| {
        from_server(rig, b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n");
        (0..6).for_each(|_| from_server(rig, &[b'y'; 16_000]));
    }),
    ("an interim answer", |rig| from_server(rig, b"HTTP/1.1 103 Early Hints\r\n\r\n")),
    ("a switch", |rig| from_server(rig, SWITCH.as_bytes())),
    ("the server's end", |rig| {
        if rig.back.as_ref().is_some_and(|back| back.receiving && back.end.is_none()) {
            rig.server_ends();
        }
    }),
    ("a failed receive from the server", |rig| {
        if let Some(leg) = back(rig) {
            fails(rig, leg, false);
        }
    }),
    ("a failed send to the server", |rig| {
        if let Some(leg) = back(rig) {
            fails(rig, leg, true);
        }
    }),
    ("a second", |rig| rig.pass(Duration::from_secs(1))),
    ("half a minute", |rig| rig.pass(Duration::from_secs(30))),
    ("a turn", |rig| rig.tell(Event::Turn)),
    ("the order to drain", |rig| {
        rig.draining = true;
        rig.tell(Event::Drain);
    }),
    ("the order to end", |rig| rig.tell(Event::Kill)),
];

#[test]
fn every_phase_stands_every_two_events_and_time_ends_it() {
    for (phase, begin) in phases() {
        for (first, act_first) in EVENTS {
            for (second, act_second) in EVENTS {
                let told = format!("{phase}, then {first}, then {second}");
                let result = std::panic::catch_unwind(|| {
                    let mut rig = begin();
                    act_first(&mut rig);
                    act_second(&mut rig);
                    assert!(rig.is_bounded(), "it holds {} pages", rig.session().pages());
                    rig.pass(Duration::from_secs(400 * 3600));
                    assert!(rig.front.end.is_some(), "time alone must end it: {:?}", rig.session());
                    rig.kill();
                });
                assert!(result.is_ok(), "{told}");
            }
        }
    }
}

/// Long ways through all of this, from many seeds, with few pages too.
#[test]
fn no_way_through_the_events_breaks_a_session() {
    let mut chance: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut below = |bound: usize| {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        (chance >> 20) as usize % bound
    };
    let phases = phases();
    // Not the order to end.
    let events = &EVENTS[..EVENTS.len() - 1];
    for _ in 0..1000 {
        let (phase, begin) = phases[below(phases.len())];
        let way: Vec<_> = (0..below(30)).map(|_| events[below(events.len())]).collect();
        let told: Vec<_> = way.iter().map(|(name, _)| *name).collect();
        let result = std::panic::catch_unwind(|| {
            let mut rig = begin();
            for (_, act) in &way {
                act(&mut rig);
                assert!(rig.is_bounded(), "it holds {} pages", rig.session().pages());
            }
            rig.pass(Duration::from_secs(400 * 3600));
            assert!(rig.front.end.is_some(), "time alone must end it: {:?}", rig.session());
            rig.kill();
        });
        assert!(result.is_ok(), "{phase}, then {told:?}");
    }
}
