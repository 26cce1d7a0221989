//! Records: each request leaves exactly one, which tells how it went.

use std::time::Duration;

use super::rig::{HTTP, Rig};
use crate::close::Close;
use crate::ids::ServerId;

const GET: &str = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
const FIXED: &str = "GET /fixed HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// What a conversation leaves: close, status, whether a server was asked.
fn records(talk: impl FnOnce(&mut Rig)) -> Vec<(Close, u16, bool)> {
    let mut rig = Rig::new(HTTP, 64);
    talk(&mut rig);
    let list = rig.accesses.iter().map(|one| (one.close, one.status, one.server.is_some())).collect();
    rig.accesses.clear();
    rig.kill();
    list
}

#[test]
fn every_request_leaves_one_record() {
    assert_eq!(
        records(|rig| {
            rig.client(GET);
            rig.connected();
            rig.server(OK);
            rig.client([FIXED, FIXED].concat());
            rig.client(GET);
            rig.adopted();
            rig.server("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
            rig.client_ends();
        }),
        [
            (Close::Done, 200, true),
            (Close::Done, 200, false),
            (Close::Done, 200, false),
            (Close::Done, 404, true)
        ]
    );
}

#[test]
fn what_fails_leaves_one_record_too() {
    let bad = records(|rig| rig.client("GET / HTTP/1.1\r\nbad field\r\n\r\n"));
    assert_eq!(bad, [(Close::BadRequest, 400, false)]);
    let late = records(|rig| {
        rig.client("GET / HT");
        rig.pass(Duration::from_secs(11));
        rig.pass(Duration::from_secs(6));
    });
    assert_eq!(late, [(Close::HeadTimeout, 408, false)]);
    let gone = records(|rig| {
        rig.client("GET / HT");
        rig.client_ends();
    });
    assert_eq!(gone, [(Close::ClientGone, 0, false)]);
    let expects = records(|rig| rig.client("GET / HTTP/1.1\r\nHost: a\r\nExpect: gold\r\n\r\n"));
    assert_eq!(expects, [(Close::ExpectationFailed, 417, false)]);
    let refused = records(|rig| {
        rig.client("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
        rig.connected();
        rig.server("HTTP/1.1 nonsense\r\n\r\n");
    });
    assert_eq!(refused, [(Close::ServerBadAnswer, 502, true)]);
    let cut = records(|rig| {
        rig.client(GET);
        rig.connected();
        rig.server("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok");
        rig.server_ends();
    });
    assert_eq!(cut, [(Close::ServerTruncated, 200, true)]);
    let unused = records(|rig| rig.client_ends());
    assert_eq!(unused, [], "a connection without a request leaves none");
}

#[test]
fn a_record_tells_bytes_steps_and_attempts() {
    let mut rig = Rig::new(HTTP, 64);
    rig.client(&GET[..10]);
    rig.pass(Duration::from_millis(5));
    rig.client(&GET[10..]);
    rig.refused();
    rig.pass(Duration::from_millis(7));
    rig.connected();
    rig.pass(Duration::from_millis(11));
    rig.server(OK);
    let record = rig.accesses.pop().unwrap();
    let steps = record.steps;
    let ms = |from: crate::clock::Moment, to: crate::clock::Moment| to.since(from).as_millis();
    assert_eq!(ms(steps.begun, steps.asked), 5);
    assert_eq!((ms(steps.picked, steps.connected), ms(steps.connected, steps.answered)), (7, 11));
    assert_eq!((record.bytes_in, record.bytes_out > OK.len() as u64), (GET.len() as u64, true));
    assert_eq!((record.retries, record.server, record.route), (1, Some(ServerId(1)), Some(2)));
    rig.accesses.clear();
    rig.kill();
}
