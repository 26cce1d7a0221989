//! Many connections at once that do everything: long and short, whole and cut, asked late, closed early.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::thread::JoinHandle;
use std::time::Duration;

use ringgate::buf::Queue;
use ringgate::clock;
use ringgate::ids::SockId;
use ringgate::limits::OUTBOX_BYTES_MAX;
use ringgate::ring::Done;

use crate::Make;
use crate::rig::{Rig, descriptors, dial, pattern};

/// Small pseudo-random numbers (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// How a visit went.
#[derive(PartialEq)]
enum Visit {
    Whole,
    /// The visitor went away early.
    Cut,
    /// The other side did.
    Refused,
}

/// Writes a text, reads it back; or goes away in between.
fn visit(address: SocketAddr, seed: u64) -> Visit {
    let mut dice = Dice((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut client = dial(address);
    let text = pattern(dice.roll(400_000) as usize);
    let cut = dice.roll(4) == 0;
    let mut reader = client.try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).map(|_| all).unwrap_or_default()
    });
    let stop = if cut { dice.roll(text.len() as u64 + 1) as usize } else { text.len() };
    let mut at = 0;
    while at < stop {
        let most = [1, 100, 5_000, 100_000][dice.roll(4) as usize];
        let part = &text[at..stop.min(at + 1 + dice.roll(most) as usize)];
        if client.write_all(part).is_err() {
            break;
        }
        at += part.len();
        if dice.roll(8) == 0 {
            std::thread::sleep(Duration::from_micros(dice.roll(500)));
        }
    }
    if cut {
        let _ = socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
        let _ = client.shutdown(Shutdown::Both);
        drop(client);
        reading.join().unwrap();
        return Visit::Cut;
    }
    let _ = client.shutdown(Shutdown::Write);
    let all = reading.join().unwrap();
    assert!(text.starts_with(&all), "bytes that were never sent came back");
    if all.len() == text.len() { Visit::Whole } else { Visit::Refused }
}

/// One connection of the echoing side.
#[derive(Default)]
struct Echo {
    receiving: bool,
    sending: bool,
    ended: bool,
    outbox: Queue,
    /// It is closed at a time of our choosing instead of at its end.
    doomed: bool,
}

fn pump(rig: &mut Rig, sock: SockId, echo: &mut Echo) -> bool {
    if !echo.sending && !echo.outbox.is_empty() {
        echo.sending = true;
        rig.io.send(sock, echo.outbox.take_chain());
    }
    if !echo.receiving && !echo.ended && echo.outbox.len() < OUTBOX_BYTES_MAX {
        echo.receiving = true;
        rig.io.recv(sock);
    }
    echo.ended && !echo.sending && echo.outbox.is_empty()
}

/// What the echoing side has seen.
#[derive(Default)]
struct Seen {
    accepted: usize,
    closed: usize,
    doomed: usize,
}

fn on_done(rig: &mut Rig, done: Done, open: &mut HashMap<SockId, Echo>, dice: &mut Dice, seen: &mut Seen) {
    let sock = match done {
        Done::Accepted { sock, .. } => {
            seen.accepted += 1;
            let echo = Echo { doomed: dice.roll(8) == 0, ..Echo::default() };
            seen.doomed += usize::from(echo.doomed);
            assert!(open.insert(sock, echo).is_none());
            sock
        }
        Done::Received { sock, chain } => {
            let Some(echo) = open.get_mut(&sock) else { return rig.io.pool().give_chain(chain) };
            echo.receiving = false;
            chain.into_chunks().for_each(|chunk| echo.outbox.push(chunk, rig.io.pool()));
            sock
        }
        Done::Sent { sock, chain, bytes } => {
            let Some(echo) = open.get_mut(&sock) else { return rig.io.pool().give_chain(chain) };
            echo.sending = false;
            echo.outbox.untake(chain, bytes, rig.io.pool());
            sock
        }
        Done::Eof { sock } | Done::Failed { sock, .. } => {
            let Some(echo) = open.get_mut(&sock) else { return };
            echo.ended = true;
            echo.doomed |= matches!(done, Done::Failed { .. });
            sock
        }
        Done::Closed { .. } => {
            seen.closed += 1;
            return;
        }
        done => panic!("{done:?}"),
    };
    let Some(mut echo) = open.remove(&sock) else { return };
    let doom = echo.doomed && (echo.ended || dice.roll(10) == 0);
    if doom || pump(rig, sock, &mut echo) && !echo.doomed {
        echo.outbox.clear(rig.io.pool());
        if doom && dice.roll(2) == 0 { rig.io.reset(sock) } else { rig.io.close(sock) }
    } else {
        open.insert(sock, echo);
    }
}

pub fn a_storm_loses_no_byte_and_no_page(make: Make) {
    let before = descriptors();
    let mut rig = Rig::new(make(96));
    let address = rig.listen_tcp();
    let visitors: Vec<_> = (0..6)
        .map(|lane| {
            std::thread::spawn(move || (0..20).map(|at| visit(address, lane * 1000 + at)).collect::<Vec<_>>())
        })
        .collect();
    let mut dice = Dice(42);
    let mut open: HashMap<SockId, Echo> = HashMap::new();
    let (mut seen, mut told) = (Seen::default(), Vec::new());
    let late = clock::now() + Duration::from_secs(120);
    let running = |seen: &Seen| seen.closed < seen.accepted || !visitors.iter().all(JoinHandle::is_finished);
    while running(&seen) {
        assert!(clock::now() < late, "{} of {} closed", seen.closed, seen.accepted);
        rig.turn(100);
        told.append(&mut rig.told);
        for done in told.drain(..) {
            on_done(&mut rig, done, &mut open, &mut dice, &mut seen);
        }
        assert!(rig.io.pool().made() <= 96);
    }
    let visits: Vec<Visit> = visitors.into_iter().flat_map(|visitor| visitor.join().unwrap()).collect();
    assert!(open.is_empty());
    let count = |what: Visit| visits.iter().filter(|visit| **visit == what).count();
    let (whole, refused) = (count(Visit::Whole), count(Visit::Refused));
    assert!(refused <= seen.doomed, "{refused} refused, {} doomed: the others must end whole", seen.doomed);
    assert!(whole > 50 && seen.doomed > 0, "{whole} whole, {} doomed", seen.doomed);
    rig.all_pages_are_accounted_for();
    drop(rig);
    assert_eq!(descriptors(), before);
}
