//! Conversations: what is said on one side and must be said on the other.

use std::time::Duration;

use super::rig::{Client, End, HTTP, Rig};
use crate::buf::{Chunk, Pool, Queue};
use crate::close::Close;
use crate::limits::{IDLE_TIME_DEFAULT, LAST_REQUEST_TIME, PROGRESS_TIME_DEFAULT};
use crate::net::Errno;
use crate::session::{Event, Leg};

const GET: &str = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
const FIXED: &str = "GET /fixed HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn a_request_is_answered_and_both_connections_are_kept() {
    let mut rig = Rig::new(HTTP, 64);
    rig.client(GET);
    rig.connected();
    assert!(rig.back.as_mut().unwrap().take().starts_with("GET /a HTTP/1.1\r\nHost: a\r\n"));
    rig.server(OK);
    assert!(rig.front.take().ends_with("\r\n\r\nok"));
    assert_eq!(rig.back.as_ref().unwrap().end, Some(End::Parked));
    rig.client(GET);
    rig.adopted();
    rig.server(OK);
    assert!(rig.front.take().ends_with("\r\n\r\nok"));
    rig.pass(IDLE_TIME_DEFAULT);
    assert_eq!((rig.front.end, rig.closed(Close::IdleTimeout)), (Some(End::Closed), 1));
    rig.kill();
}

/// Between the order to drain and its arrival at the client, requests are on their way.
#[test]
fn an_unused_connection_has_one_more_request_when_it_is_to_end() {
    let drain = |rig: &mut Rig| {
        rig.draining = true;
        rig.tell(Event::Drain);
    };
    let idle: fn() -> Rig = || {
        let mut rig = Rig::new(HTTP, 64);
        rig.client(FIXED);
        assert!(!rig.front.take().contains("Connection: close"));
        rig
    };
    // An answer that is under way when the order comes, and said already that the connection is kept.
    let busy: fn() -> Rig = || {
        let mut rig = Rig::new(HTTP, 64);
        rig.client(GET);
        rig.connected();
        rig.server(&OK[..OK.len() - 1]);
        rig
    };
    for (begin, is_busy) in [(idle, false), (busy, true), (|| Rig::new(HTTP, 64), false)] {
        for asks in [true, false] {
            let mut rig = begin();
            drain(&mut rig);
            if is_busy {
                rig.server("k");
                let answer = rig.front.take();
                assert!(answer.ends_with("ok") && !answer.contains("Connection: close"), "{answer}");
            }
            rig.pass(LAST_REQUEST_TIME - secs(1));
            assert_eq!(rig.front.end, None);
            if asks {
                rig.client(FIXED);
                let answer = rig.front.take();
                assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("Connection: close\r\n"));
                assert_eq!(rig.closed(Close::Drained), 0);
                rig.client_ends();
            } else {
                rig.pass(secs(1));
                assert_eq!(rig.closed(Close::Drained), 1);
            }
            assert_eq!(rig.front.end, Some(End::Closed));
            rig.kill();
        }
    }
}

/// The rest of a head that came too late must not be taken for a request: its answer would be one too many.
#[test]
fn a_late_head_ends_the_connection_also_after_other_requests() {
    let mut rig = Rig::new(HTTP, 64);
    rig.client(FIXED);
    assert!(rig.front.take().starts_with("HTTP/1.1 200 "));
    rig.client("GET /fixed HTTP/1.1\r\nHo");
    rig.pass(secs(11));
    let answer = rig.front.take();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("Connection: close\r\n"), "{answer}");
    if rig.front.end.is_none() {
        rig.client("st: a\r\n\r\n");
        assert_eq!(rig.front.take(), "");
    }
    rig.pass(secs(6));
    assert_eq!(rig.front.end, Some(End::Closed));
    rig.kill();
}

#[test]
fn a_client_that_does_not_read_is_not_answered_without_end() {
    for (request, head) in [("GET", false), ("GET", true)] {
        let mut rig = Rig::new(HTTP, 4096);
        rig.front.reads = false;
        let one = format!("{request} /fixed HTTP/1.1\r\nHost: a\r\n\r\n");
        let many = one.repeat(if head { 60 } else { 400 });
        for _ in 0..400 {
            if !rig.front.receiving {
                break;
            }
            rig.client(&many);
            assert!(rig.is_bounded(), "{} pages", rig.session().pages());
        }
        assert!(!rig.front.receiving, "what waits to be sent ends reading");
        rig.front.reads = true;
        rig.settle();
        assert!(rig.front.receiving, "and reading goes on");
        rig.kill();
    }
}

#[test]
fn answers_without_bodies_are_bounded_too() {
    let mut rig = Rig::new(HTTP, 4096);
    rig.front.reads = false;
    rig.client("HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000));
    rig.connected();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Long: {}\r\n\r\n", "x".repeat(8000));
    let mut answered = 0;
    loop {
        rig.server(&head);
        answered += 1;
        assert!(rig.is_bounded(), "{} pages after {answered}", rig.session().pages());
        if rig.dialed.is_none() {
            break;
        }
        rig.adopted();
    }
    assert!(answered < 100);
    rig.front.reads = true;
    rig.settle();
    assert!(rig.dialed.is_some(), "the next request goes on");
    rig.kill();
}

/// The answer to a request must not be lost because the client ended its side with a byte too many.
#[test]
fn an_answer_leaves_before_a_connection_with_half_a_head_ends() {
    let mut rig = Rig::new(HTTP, 64);
    rig.client(format!("{GET}\r\n"));
    rig.connected();
    rig.client_ends();
    rig.server(OK);
    assert!(rig.front.take().ends_with("ok"));
    assert_eq!(rig.front.end, Some(End::Closed));
    rig.kill();
}

/// An answer may take longer to leave than a connection may be unused.
#[test]
fn a_connection_is_not_unused_while_its_answer_leaves() {
    let mut rig = Rig::new(HTTP, 64);
    rig.client(GET);
    rig.connected();
    rig.front.reads = false;
    let body = "x".repeat(60_000);
    rig.server(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    for _ in 0..5 {
        rig.pass(secs(20));
        assert_eq!(rig.front.end, None, "it reads slowly, but it reads");
        if let Some(chain) = rig.front.sending.take() {
            rig.tell(Event::Sent(Leg::Front, chain, 2000));
        }
    }
    rig.front.reads = true;
    rig.settle();
    rig.pass(IDLE_TIME_DEFAULT - secs(1));
    assert_eq!(rig.front.end, None, "unused since it left, not since it was queued");
    rig.pass(secs(1));
    assert_eq!(rig.front.end, Some(End::Closed));
    rig.kill();
}

#[test]
fn an_earlier_answer_does_not_shorten_the_time_for_a_body() {
    let mut rig = Rig::new(HTTP, 64);
    rig.client(FIXED);
    rig.pass(PROGRESS_TIME_DEFAULT - secs(1));
    rig.client("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
    rig.connected();
    rig.front.take();
    rig.pass(secs(2));
    assert_eq!((rig.front.take().as_str(), rig.front.end), ("", None));
    rig.pass(PROGRESS_TIME_DEFAULT);
    assert!(rig.front.take().starts_with("HTTP/1.1 408 "));
    rig.kill();
}

/// A server that reads no more and says nothing (a Unix socket can) is late, not the client.
#[test]
fn a_server_that_takes_no_more_of_a_body_must_answer_in_time() {
    let mut rig = Rig::new(HTTP, 64);
    rig.client("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n");
    rig.connected();
    rig.back.as_mut().unwrap().reads = false;
    rig.client("12345");
    let leg = rig.back.as_ref().unwrap().leg;
    let chain = rig.back.as_mut().unwrap().sending.take();
    chain.into_iter().for_each(|chain| rig.pool.give_chain(chain));
    rig.tell(Event::SendFailed(leg, Errno(libc::EPIPE)));
    rig.pass(secs(61));
    let answer = rig.front.take();
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    rig.kill();
}

#[test]
fn a_client_that_only_sends_does_not_keep_its_last_answer_waiting() {
    let mut rig = Rig::new(HTTP, 64);
    rig.client("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n");
    rig.connected();
    rig.front.reads = false;
    let body = "x".repeat(9000);
    rig.server(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    for _ in 0..300 {
        if rig.front.receiving && rig.front.end.is_none() {
            rig.client([b'y'; 16 * 1024]);
        }
        rig.pass(secs(1));
    }
    assert_eq!(rig.front.end, Some(End::Closed));
    rig.kill();
}

/// Plain alerts end a handshake; nothing is to be said to that, and nobody else ends the connection.
#[test]
fn a_failed_handshake_ends_the_connection_at_once() {
    for bytes in [&[21, 3, 1, 0, 2, 2, 40][..], &[22, 3, 1, 0, 4, 1, 0, 0, 0]] {
        let mut rig = Rig::tls(HTTP, 64);
        rig.client(bytes);
        rig.pass(secs(1));
        assert_eq!(rig.front.end, Some(End::Closed), "{bytes:?}");
        rig.kill();
    }
}

#[test]
fn a_broken_stream_ends_the_connection_at_once() {
    let mut rig = Rig::tls(HTTP, 64);
    let mut client = Client::shake(&mut rig);
    assert!(client.say(&mut rig, FIXED.as_bytes()).ends_with("hello"));
    let mut record = client.record(FIXED.as_bytes());
    record[20] ^= 1;
    rig.client(record);
    rig.pass(secs(1));
    assert_eq!(rig.front.end, Some(End::Closed));
    rig.kill();
}

/// Each record comes in a page of its own; what is kept of it must not be a page each.
#[test]
fn dripping_records_do_not_hold_a_page_each() {
    let mut rig = Rig::tls(HTTP, 256);
    let mut client = Client::shake(&mut rig);
    client.say(&mut rig, GET.as_bytes());
    rig.connected();
    for _ in 0..200 {
        let record = client.record(b"G");
        rig.client(record);
    }
    assert!(rig.session().pages() < 4, "{} pages", rig.session().pages());
    rig.kill();
}

/// The server may have said it to somebody else, late, or to nobody.
#[test]
fn an_answer_that_came_before_its_request_is_not_its_answer() {
    for (request, retried) in [(GET, true), ("POST /a HTTP/1.1\r\nHost: a\r\n\r\n", false)] {
        let mut rig = Rig::new(HTTP, 64);
        rig.client(GET);
        rig.connected();
        rig.server(OK);
        rig.front.take();
        rig.client(request);
        rig.adopted_with(false);
        rig.server("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n");
        if retried {
            rig.connected();
            rig.server(OK);
            assert!(rig.front.take().ends_with("ok"));
        } else {
            assert!(rig.front.take().starts_with("HTTP/1.1 502 "));
        }
        rig.kill();
    }
}

#[test]
fn a_refused_head_is_answered_as_itself() {
    let mut rig = Rig::new(HTTP, 64);
    rig.client("HEAD /fixed HTTP/1.1\r\nHost: a\r\n\r\nBAD\r\n\r\n");
    let answers = rig.front.take();
    assert!(answers.contains("HTTP/1.1 400 ") && answers.ends_with("</html>\n"), "{answers}");
    rig.kill();
}

/// What is cut must not look complete to the other side.
#[test]
fn a_broken_side_of_a_relay_is_shown_to_the_other_as_broken() {
    let tunnel = || {
        let mut rig = Rig::new(HTTP, 64);
        rig.client("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
        rig.connected();
        rig.server("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
        rig
    };
    let tcp = || {
        let mut rig = Rig::new(super::table::TCP, 64);
        rig.connected();
        rig
    };
    for begin in [tunnel as fn() -> Rig, tcp] {
        let mut rig = begin();
        rig.front.receiving = false;
        rig.tell(Event::Failed(Leg::Front, Errno(libc::ECONNRESET)));
        assert_eq!(rig.back.as_ref().unwrap().end, Some(End::Reset));
        rig.kill();

        let mut rig = begin();
        let leg = rig.back.as_ref().unwrap().leg;
        rig.back.as_mut().unwrap().receiving = false;
        rig.tell(Event::Failed(leg, Errno(libc::ECONNRESET)));
        assert_eq!(rig.front.end, Some(End::Reset));
        rig.kill();

        let mut rig = begin();
        rig.server_ends();
        rig.back.as_mut().unwrap().reads = false;
        rig.client("for nobody");
        let chain = rig.back.as_mut().unwrap().sending.take();
        chain.into_iter().for_each(|chain| rig.pool.give_chain(chain));
        rig.tell(Event::SendFailed(leg, Errno(libc::EPIPE)));
        assert_eq!(rig.front.end, Some(End::Closed), "nobody is left to relay to");
        rig.kill();
    }
}

#[test]
fn a_server_that_refuses_or_says_nothing_gives_one_502() {
    for refuses in [true, false] {
        let mut rig = Rig::new(HTTP, 64);
        rig.client(GET);
        let mut attempts = 0;
        while rig.dialed.is_some() {
            attempts += 1;
            assert!(attempts < 10, "attempts are bounded");
            if refuses {
                rig.refused();
            } else {
                rig.connected();
                rig.server_ends();
            }
        }
        let answer = rig.front.take();
        assert!(answer.starts_with("HTTP/1.1 502 "), "refuses: {refuses}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        let close = if refuses { Close::ServerRefused } else { Close::ServerClosedEarly };
        assert_eq!(rig.closed(close), 1);
        rig.client(FIXED);
        assert!(rig.front.take().starts_with("HTTP/1.1 200 "), "the client's connection goes on");
        rig.kill();
    }
}

/// A handshake that finds no page says nothing about the server.
#[test]
fn a_want_of_pages_in_a_handshake_is_not_the_servers_fault() {
    let (mut rig, mut pipe) = Rig::tls_to_servers(HTTP, 64);
    rig.client(GET);
    rig.connected();
    let (mut pool, mut plain, mut out) = (Pool::new(16), Queue::new(), Queue::new());
    let mut hello = Chunk::empty(pool.take().unwrap());
    hello.append(&std::mem::take(&mut rig.back.as_mut().unwrap().sent));
    pipe.received(hello, &mut plain, &mut out, &mut pool).unwrap();
    let mut flight = Vec::new();
    while let Some(chunk) = out.pop() {
        flight.extend_from_slice(chunk.bytes());
    }
    assert!(!flight.is_empty());
    while let Some(page) = rig.pool.take_last() {
        rig.hoard.push(page);
    }
    // One page to receive into.
    let page = rig.hoard.pop().unwrap();
    rig.pool.give(page);
    rig.server(flight);
    assert_eq!((rig.closed(Close::ServerTls), rig.closed(Close::NoMemory)), (0, 1));
    assert!(rig.balancer.servers().all(|server| server.failures == 0), "nobody is ejected for it");
    rig.kill();
}
