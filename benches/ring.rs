//! What the rings cost: the CPU time of one relaying thread per message and per megabyte.
//!
//! `cargo bench --bench ring [-- SECONDS [FILTER [ROUNDS]]]`. A client thread and a server thread (both over epoll) talk through a relay over the
//! kernel that is measured: 64 connections with small messages, one at a time each; then 8 connections that fetch 1 MiB
//! again and again; then connections that carry one message each.
#![allow(unsafe_code, clippy::unwrap_used, missing_docs)]

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use ringgate::buf::{Chunk, Queue};
use ringgate::clock;
use ringgate::ids::{ListenerId, SockId};
use ringgate::limits::OUTBOX_BYTES_MAX;
use ringgate::net::Address;
use ringgate::ring::uring::{Tuning, Uring};
use ringgate::ring::{Done, Epoll, Io, ListenOptions};

const OPTIONS: ListenOptions = ListenOptions { v6only: false, backlog: 1024 };
const PAGES: usize = 4096;

#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    connections: usize,
    question: usize,
    answer: usize,
    reconnect: bool,
}

const LOADS: [Load; 3] = [
    Load { name: "small", connections: 64, question: 100, answer: 300, reconnect: false },
    Load { name: "bulk", connections: 8, question: 100, answer: 1 << 20, reconnect: false },
    Load { name: "connect", connections: 64, question: 100, answer: 300, reconnect: true },
];

type Make = fn() -> Box<dyn Io>;

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Sends `bytes` of filler on a socket, a chain at a time.
struct Filler {
    left: usize,
    sending: bool,
}

fn fill(io: &mut dyn Io, sock: SockId, filler: &mut Filler) {
    if filler.sending || filler.left == 0 {
        return;
    }
    let mut queue = Queue::new();
    while queue.pages() < 4 && queue.len() < filler.left {
        let mut chunk = Chunk::empty(io.pool().take().unwrap());
        let count = chunk.tailroom().min(16 * 1024).min(filler.left - queue.len());
        chunk.filled(count);
        queue.push(chunk, io.pool());
    }
    filler.sending = true;
    io.send(sock, queue.take_chain());
}

/// Answers every question.
fn serve(address: SocketAddr, load: Load, stop: &AtomicBool) {
    let mut io = Epoll::new(PAGES).unwrap();
    io.listen(ListenerId(0), &Address::Tcp(address), &OPTIONS).unwrap();
    let mut open: HashMap<SockId, (usize, Filler)> = HashMap::new();
    let mut told = Vec::new();
    while !stop.load(Relaxed) {
        io.turn(clock::now() + Duration::from_millis(50), &mut told).unwrap();
        for done in told.drain(..) {
            match done {
                Done::Accepted { sock, .. } => {
                    open.insert(sock, (0, Filler { left: 0, sending: false }));
                    io.recv(sock);
                }
                Done::Received { sock, chain } => {
                    let (asked, filler) = open.get_mut(&sock).unwrap();
                    *asked += chain.len();
                    io.pool().give_chain(chain);
                    while *asked >= load.question {
                        *asked -= load.question;
                        filler.left += load.answer;
                    }
                    fill(&mut io, sock, filler);
                    io.recv(sock);
                }
                Done::Sent { sock, chain, bytes } => {
                    io.pool().give_chain(chain);
                    if let Some((_, filler)) = open.get_mut(&sock) {
                        filler.left -= bytes;
                        filler.sending = false;
                        fill(&mut io, sock, filler);
                    }
                }
                Done::Eof { sock } | Done::Failed { sock, .. } => {
                    open.remove(&sock);
                    io.close(sock);
                }
                _ => {}
            }
        }
    }
}

/// Asks again when an answer is complete.
fn ask(address: SocketAddr, load: Load, stop: &AtomicBool, answers: &AtomicU64) {
    let mut io = Epoll::new(PAGES).unwrap();
    let mut open: HashMap<SockId, usize> = HashMap::new();
    let mut told = Vec::new();
    for _ in 0..load.connections {
        open.insert(io.connect(&Address::Tcp(address)).unwrap(), 0);
    }
    while !stop.load(Relaxed) {
        io.turn(clock::now() + Duration::from_millis(50), &mut told).unwrap();
        for done in told.drain(..) {
            match done {
                Done::Connected { sock } => {
                    fill(&mut io, sock, &mut Filler { left: load.question, sending: false });
                    io.recv(sock);
                }
                Done::Received { sock, chain } => {
                    let seen = open.get_mut(&sock).unwrap();
                    *seen += chain.len();
                    io.pool().give_chain(chain);
                    let complete = *seen == load.answer;
                    if complete {
                        *seen = 0;
                        answers.fetch_add(1, Relaxed);
                    }
                    if complete && load.reconnect {
                        open.remove(&sock);
                        io.close(sock);
                        open.insert(io.connect(&Address::Tcp(address)).unwrap(), 0);
                        continue;
                    }
                    io.recv(sock);
                    if complete {
                        fill(&mut io, sock, &mut Filler { left: load.question, sending: false });
                    }
                }
                Done::Sent { chain, .. } => io.pool().give_chain(chain),
                Done::Closed { .. } => {}
                done => assert!(stop.load(Relaxed), "{done:?}"),
            }
        }
    }
}

/// One side of a relayed connection.
struct Side {
    other: SockId,
    connected: bool,
    receiving: bool,
    sending: bool,
    ended: bool,
    outbox: Queue,
}

impl Side {
    const fn new(other: SockId, connected: bool) -> Self {
        Self { other, connected, receiving: false, sending: false, ended: false, outbox: Queue::new() }
    }
}

#[derive(Default)]
struct Cost {
    user: Duration,
    system: Duration,
}

fn thread_cost() -> Cost {
    // SAFETY: the struct is valid for the kernel to write.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
        usage
    };
    let time = |at: libc::timeval| Duration::from_micros(at.tv_sec as u64 * 1_000_000 + at.tv_usec as u64);
    Cost { user: time(usage.ru_utime), system: time(usage.ru_stime) }
}

fn pump(io: &mut dyn Io, sides: &mut HashMap<SockId, Side>, sock: SockId) {
    let Some(other) = sides.get(&sock).map(|side| side.other) else { return };
    for (to, from) in [(sock, other), (other, sock)] {
        let Some(side) = sides.get_mut(&to) else { return };
        if side.connected && !side.sending && !side.outbox.is_empty() {
            side.sending = true;
            io.send(to, side.outbox.take_chain());
        }
        let room = side.outbox.len() < OUTBOX_BYTES_MAX;
        let Some(side) = sides.get_mut(&from) else { return };
        if room && side.connected && !side.receiving && !side.ended {
            side.receiving = true;
            io.recv(from);
        }
    }
}

fn relay(make: Make, front: SocketAddr, back: SocketAddr, stop: &AtomicBool, turns: &AtomicU64) -> Cost {
    let mut io = make();
    let io = &mut *io;
    io.listen(ListenerId(0), &Address::Tcp(front), &OPTIONS).unwrap();
    let mut sides: HashMap<SockId, Side> = HashMap::new();
    let mut told = Vec::new();
    while !stop.load(Relaxed) {
        io.turn(clock::now() + Duration::from_millis(50), &mut told).unwrap();
        turns.fetch_add(1, Relaxed);
        for done in told.drain(..) {
            let sock = match done {
                Done::Accepted { sock, .. } => {
                    let other = io.connect(&Address::Tcp(back)).unwrap();
                    sides.insert(sock, Side::new(other, true));
                    sides.insert(other, Side::new(sock, false));
                    sock
                }
                Done::Connected { sock } => {
                    if let Some(side) = sides.get_mut(&sock) {
                        side.connected = true;
                    }
                    sock
                }
                Done::Received { sock, chain } => {
                    let Some(side) = sides.get_mut(&sock) else {
                        io.pool().give_chain(chain);
                        continue;
                    };
                    side.receiving = false;
                    let other = side.other;
                    let outbox = &mut sides.get_mut(&other).unwrap().outbox;
                    chain.into_chunks().for_each(|chunk| outbox.push(chunk, io.pool()));
                    sock
                }
                Done::Sent { sock, chain, bytes } => {
                    let Some(side) = sides.get_mut(&sock) else {
                        io.pool().give_chain(chain);
                        continue;
                    };
                    side.sending = false;
                    side.outbox.untake(chain, bytes, io.pool());
                    sock
                }
                Done::Eof { sock } | Done::Failed { sock, .. } => {
                    let Some(mut side) = sides.remove(&sock) else { continue };
                    side.outbox.clear(io.pool());
                    io.close(sock);
                    if let Some(mut other) = sides.remove(&side.other) {
                        other.outbox.clear(io.pool());
                        io.close(side.other);
                    }
                    continue;
                }
                _ => continue,
            };
            pump(io, &mut sides, sock);
        }
    }
    thread_cost()
}

fn measure(make: Make, load: Load, seconds: u64) -> Round {
    let (front, back) = (free_port(), free_port());
    let stop = AtomicBool::new(false);
    let (answers, turns) = (AtomicU64::new(0), AtomicU64::new(0));
    let (cost, count) = std::thread::scope(|scope| {
        scope.spawn(|| serve(back, load, &stop));
        let relay = scope.spawn(|| relay(make, front, back, &stop, &turns));
        std::thread::sleep(Duration::from_millis(200));
        scope.spawn(|| ask(front, load, &stop, &answers));
        std::thread::sleep(Duration::from_secs(seconds));
        let count = answers.load(Relaxed);
        stop.store(true, Relaxed);
        (relay.join().unwrap(), count)
    });
    let per = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
    Round {
        rate: count / seconds,
        user: per(cost.user),
        system: per(cost.system),
        turns: turns.load(Relaxed) as f64 / count as f64,
    }
}

/// What one message cost in one round: microseconds, and turns of the relay.
#[derive(Clone, Copy)]
struct Round {
    rate: u64,
    user: f64,
    system: f64,
    turns: f64,
}

impl Round {
    fn sum(self) -> f64 {
        self.user + self.system
    }
}

const ALL: Tuning = Tuning {
    multishot: true,
    limit: 64 * 1024,
    multishot_accept: true,
    defer: true,
    lend: 128,
    gather_us: 100,
    restricted: true,
};

macro_rules! uring {
    ($($field:ident: $value:expr),*) => {
        || Box::new(Uring::with(PAGES, Tuning { $($field: $value,)* ..ALL }).unwrap())
    };
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let seconds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(2);
    let filter = arguments.next().unwrap_or_default();
    let kernels: [(&str, Make); 11] = [
        ("epoll", || Box::new(Epoll::new(PAGES).unwrap())),
        ("uring", uring!()),
        ("uring one-shot", uring!(multishot: false)),
        ("uring limit none", uring!(limit: 0)),
        ("uring limit 16k", uring!(limit: 16 * 1024)),
        ("uring limit 32k", uring!(limit: 32 * 1024)),
        ("uring limit 128k", uring!(limit: 128 * 1024)),
        ("uring lend 16", uring!(lend: 16)),
        ("uring lend 32", uring!(lend: 32)),
        ("uring accept one-shot", uring!(multishot_accept: false)),
        ("uring no defer", uring!(defer: false)),
    ];
    let rounds: usize = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(3);
    println!(
        "load     kernel                  answers/s  user us   sys us   sum us (least)  (median)   turns"
    );
    for load in LOADS {
        let chosen: Vec<_> =
            kernels.iter().filter(|(name, _)| format!("{}/{name}/", load.name).contains(&filter)).collect();
        // Round by round, so that what else the machine does hits all alike.
        let mut results = vec![Vec::new(); chosen.len()];
        for _ in 0..rounds {
            for (results, (_, make)) in results.iter_mut().zip(&chosen) {
                results.push(measure(*make, load, seconds));
            }
        }
        for (mut results, (name, _)) in results.into_iter().zip(chosen) {
            results.sort_by(|one, two| one.sum().total_cmp(&two.sum()));
            let (least, median) = (results[0], results[results.len() / 2].sum());
            println!(
                "{:8} {name:24} {:8} {:8.2} {:8.2} {:8.2}         {median:8.2}   {:6.2}",
                load.name,
                least.rate,
                least.user,
                least.system,
                least.sum(),
                least.turns,
            );
        }
    }
}
