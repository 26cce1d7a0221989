//! Connections that break: the other side must not take what it got for complete.

use super::rig::{End, HTTP, Rig};
use crate::net::Errno;
use crate::session::{Event, Leg};

const TCP: &str = r#"
[tcp.relay]
listen = ["127.0.0.1:5000"]
pool = "web"
[pool.web]
servers = [ { address = "127.0.0.1:81" } ]
"#;
const RESET: Errno = Errno(libc::ECONNRESET);
const UPGRADE: &str = "GET /a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";

/// A relay of either kind in which bytes have passed both ways.
fn relays() -> [Rig; 2] {
    let mut tunnel = Rig::new(HTTP, 64);
    tunnel.client(UPGRADE);
    tunnel.connected();
    tunnel.server(SWITCH);
    let mut relay = Rig::new(TCP, 64);
    relay.connected();
    for rig in [&mut tunnel, &mut relay] {
        rig.client("up");
        rig.server("down");
        assert!(rig.front.take().ends_with("down"));
        assert!(rig.back.as_mut().unwrap().take().ends_with("up"));
    }
    [tunnel, relay]
}

/// Takes the send in flight away, as a kernel that could not finish it.
fn fail_send(rig: &mut Rig, leg: Leg, errno: i32) {
    let wire = if leg == Leg::Front { &mut rig.front } else { rig.back.as_mut().unwrap() };
    let chain = wire.sending.take().unwrap();
    rig.pool.give_chain(chain);
    rig.tell(Event::SendFailed(leg, Errno(errno)));
}

fn ends(rig: &Rig) -> [Option<End>; 2] {
    [rig.front.end, rig.back.as_ref().unwrap().end]
}

#[test]
fn a_client_that_breaks_off_is_broken_for_the_server_too() {
    for mut rig in relays() {
        rig.tell(Event::Failed(Leg::Front, RESET));
        assert_eq!(ends(&rig)[1], Some(End::Reset));
        rig.kill();
    }
    for mut rig in relays() {
        rig.front.reads = false;
        rig.server("more");
        fail_send(&mut rig, Leg::Front, libc::ECONNRESET);
        assert_eq!(ends(&rig)[1], Some(End::Reset));
        rig.kill();
    }
}

#[test]
fn a_server_that_breaks_off_is_broken_for_the_client_too() {
    for mut rig in relays() {
        let leg = rig.back.as_ref().unwrap().leg;
        rig.tell(Event::Failed(leg, RESET));
        assert_eq!(ends(&rig)[0], Some(End::Reset));
        rig.kill();
    }
}

/// A reset is told once: when the send hears of it, the receive finds an end like any other.
#[test]
fn an_end_after_a_reset_is_no_end_in_order() {
    for (errno, expected) in [(libc::ECONNRESET, End::Reset), (libc::EPIPE, End::Closed)] {
        for mut rig in relays() {
            let leg = rig.back.as_ref().unwrap().leg;
            rig.back.as_mut().unwrap().reads = false;
            rig.client("more");
            fail_send(&mut rig, leg, errno);
            rig.server("last");
            rig.server_ends();
            assert_eq!(rig.front.take(), "last");
            assert_eq!(rig.front.end, Some(expected));
            rig.kill();
        }
    }
}

/// A server may answer and end before it has read the whole request: what it sent before it ended is complete.
#[test]
fn an_early_answer_is_whole_although_the_request_cannot_be_sent() {
    let mut rig = Rig::new(HTTP, 64);
    rig.client("POST /a HTTP/1.0\r\nHost: a\r\nContent-Length: 99999\r\n\r\n");
    rig.connected();
    rig.back.as_mut().unwrap().reads = false;
    rig.client("start");
    rig.front.reads = false;
    rig.server("HTTP/1.1 413 Too Large\r\nConnection: close\r\n\r\ntoo ");
    let leg = rig.back.as_ref().unwrap().leg;
    fail_send(&mut rig, leg, libc::EPIPE);
    rig.server("large");
    rig.server_ends();
    rig.front.reads = true;
    rig.settle();
    assert!(rig.front.take().ends_with("\r\n\r\ntoo large"));
    assert_ne!(rig.front.end, Some(End::Reset));
    rig.kill();
}

#[test]
fn a_malformed_request_is_answered_whatever_was_asked_before() {
    let mut rig = Rig::new(HTTP, 64);
    rig.client("HEAD /fixed HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(rig.front.take().ends_with("\r\n\r\n"));
    rig.client("GET /fixed HTTP/1.1\r\n\r\n");
    let answer = rig.front.take();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.ends_with("</html>\n"), "{answer}");
    rig.kill();
}
