//! Tests of the simulated kernel itself: an echo worker that knows nothing but `trait Io`, and scripted ends.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::buf::{Chain, Chunk};
use crate::ids::{ListenerId, SockId};
use crate::limits::RECV_BYTES;
use crate::net::Address;
use crate::ring::{Done, Failure, Io, ListenOptions};

const FRONT: ListenerId = ListenerId(0);

fn front() -> Address {
    Address::Tcp("10.0.0.1:80".parse().unwrap())
}

fn back() -> Address {
    Address::Tcp("10.0.1.1:8080".parse().unwrap())
}

fn options() -> ListenOptions {
    ListenOptions { v6only: false, backlog: 16 }
}

fn soon(world: &World, ms: u64) -> Moment {
    world.now() + Duration::from_millis(ms)
}

/// Sends back what it gets, and ends the stream when the other end does.
struct Echo {
    sim: Sim,
    ended: BTreeSet<SockId>,
    closed: BTreeMap<SockId, u32>,
    accepted: usize,
    accepts_failed: usize,
    refused: usize,
}

impl Echo {
    fn new(world: &World, pages_max: usize) -> Self {
        let mut sim = world.host(pages_max);
        sim.listen(FRONT, &front(), &options()).unwrap();
        Self {
            sim,
            ended: BTreeSet::new(),
            closed: BTreeMap::new(),
            accepted: 0,
            accepts_failed: 0,
            refused: 0,
        }
    }

    fn step(&mut self, until: Moment) -> Moment {
        let mut all = Vec::new();
        let now = self.sim.turn(until, &mut all).unwrap();
        let mut closing = BTreeSet::new();
        for done in all {
            match done {
                Done::Accepted { sock, .. } => {
                    self.accepted += 1;
                    self.sim.recv(sock);
                }
                Done::AcceptFailed { listener, .. } => {
                    self.accepts_failed += 1;
                    self.sim.accept(listener);
                }
                Done::Connected { .. } | Done::Woken => {}
                Done::Received { chain, sock } if closing.contains(&sock) => {
                    self.sim.pool().give_chain(chain);
                }
                Done::Received { sock, chain } => self.sim.send(sock, chain),
                Done::Eof { sock } => {
                    self.ended.insert(sock);
                    self.sim.shut(sock);
                    self.sim.close(sock);
                    closing.insert(sock);
                }
                Done::Sent { sock, chain, bytes } => self.sent(sock, chain, bytes, closing.contains(&sock)),
                Done::Failed { sock, .. } => {
                    self.refused += 1;
                    self.sim.close(sock);
                    closing.insert(sock);
                }
                Done::Closed { sock } => *self.closed.entry(sock).or_default() += 1,
            }
        }
        now
    }

    fn sent(&mut self, sock: SockId, chain: Chain, bytes: usize, closing: bool) {
        let mut rest = Chain::new();
        let mut skip = bytes;
        for mut chunk in chain.into_chunks() {
            let gone = skip.min(chunk.len());
            skip -= gone;
            chunk.advance(gone);
            if chunk.is_empty() || closing {
                self.sim.pool().give(chunk.into_page());
            } else {
                rest.push(chunk).unwrap();
            }
        }
        if closing {
        } else if rest.is_empty() {
            self.sim.recv(sock);
        } else {
            self.sim.send(sock, rest);
        }
    }
}

/// What a scripted client saw.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    got: Vec<u8>,
    connected: bool,
    refused: bool,
    eof: bool,
    reset: bool,
    hurt: bool,
}

/// Sends `bytes`, ends its stream, and reads to the end.
struct Sender {
    bytes: Vec<u8>,
    seen: Rc<RefCell<Seen>>,
}

impl Actor for Sender {
    fn on(&mut self, io: &mut ActorIo<'_>, what: Happening<'_>) {
        let mut seen = self.seen.borrow_mut();
        match what {
            Happening::Start => {
                let conn = io.connect(&front(), None);
                let pace = Pace { piece_max: 3000, pause: (Duration::ZERO, Duration::from_millis(1)) };
                io.pace(conn, pace, pace);
            }
            Happening::Connected(conn) => {
                seen.connected = true;
                io.send(conn, &self.bytes);
                io.shut(conn);
            }
            Happening::Data(_, bytes) => seen.got.extend_from_slice(bytes),
            Happening::Eof(conn) => {
                seen.eof = true;
                seen.hurt = io.hurt(conn);
                io.close(conn);
                io.finish();
            }
            Happening::Refused(..) => {
                seen.refused = true;
                io.finish();
            }
            Happening::Reset(conn, _) => {
                seen.reset = true;
                seen.hurt = io.hurt(conn);
                io.finish();
            }
            Happening::Accepted { .. } | Happening::Flushed(_) | Happening::Timer(_) => {}
        }
    }
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 % 251) as u8).collect()
}

fn sender(world: &World, len: usize) -> Rc<RefCell<Seen>> {
    let seen = Rc::new(RefCell::new(Seen::default()));
    world.add(Box::new(Sender { bytes: text(len), seen: Rc::clone(&seen) }), Duration::ZERO);
    seen
}

#[test]
fn every_byte_crosses_under_harmless_faults() {
    for seed in 0..150 {
        let mut random = Random::new(seed);
        let world = World::new(seed, Faults::harmless(&mut random));
        let mut echo = Echo::new(&world, random.between(1, 6));
        let len = random.pick(&[0, 1, 100, RECV_BYTES, 60_000]);
        let seen: Vec<_> = (0..3).map(|_| sender(&world, len)).collect();
        let end = soon(&world, 600_000);
        while world.busy() > 0 || world.report(0).sockets > 0 {
            let now = echo.step(soon(&world, 20));
            assert!(now < end, "seed {seed}: stuck: {:?}", world.sockets(0));
        }
        for seen in seen {
            let seen = seen.borrow();
            assert!(seen.got == text(len) && seen.eof && !seen.hurt, "seed {seed}");
        }
        assert_eq!(world.injected(), Injected::default(), "seed {seed}");
        assert_eq!(echo.accepted, 3);
        assert!(echo.closed.len() == 3 && echo.closed.values().all(|count| *count == 1), "seed {seed}");
        let pool = echo.sim.pool();
        assert_eq!(pool.free(), pool.made(), "seed {seed}");
    }
}

#[test]
fn under_all_faults_nothing_leaks_and_bytes_are_never_wrong() {
    let mut total = Injected::default();
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let world = World::new(seed, Faults::swarm(&mut random));
        let mut echo = Echo::new(&world, 8);
        let seen: Vec<_> = (0..4).map(|_| sender(&world, 20_000)).collect();
        let end = soon(&world, 200_000);
        while echo.step(end) < end {}
        for seen in seen {
            let seen = seen.borrow();
            assert!(text(20_000).starts_with(&seen.got), "seed {seed}: wrong bytes");
            let whole = seen.got.len() == 20_000 && seen.eof;
            assert!(whole || seen.hurt || world.injected().clients_hurt > 0, "seed {seed}: {seen:?}");
        }
        assert!(echo.closed.values().all(|count| *count == 1), "seed {seed}");
        assert_eq!(world.report(0).sockets + echo.closed.len(), echo.accepted, "seed {seed}");
        let lent = echo.sim.lent();
        assert_eq!(echo.sim.pool().free() + lent, echo.sim.pool().made(), "seed {seed}");
        let injected = world.injected();
        total.clients_hurt += injected.clients_hurt;
        total.silenced += injected.silenced;
        total.accepts_failed += injected.accepts_failed;
    }
    assert!(total.clients_hurt > 50 && total.silenced > 5 && total.accepts_failed > 20, "{total:?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let world = World::new(seed, Faults::swarm(&mut Random::new(seed)));
        let lines = Rc::new(RefCell::new(Vec::new()));
        let sink = Rc::clone(&lines);
        world.on_trace(Box::new(move |at, line| sink.borrow_mut().push(format!("{} {line}", at.0))));
        let mut echo = Echo::new(&world, 8);
        sender(&world, 5_000);
        sender(&world, 5_000);
        let end = soon(&world, 60_000);
        while echo.step(end) < end {}
        lines.take()
    };
    for seed in 0..20 {
        let first = run(seed);
        assert!(first.len() > 5);
        assert_eq!(first, run(seed), "seed {seed}");
    }
}

#[test]
fn time_goes_to_until_when_nothing_happens() {
    let world = World::new(1, Faults::none());
    let mut sim = world.host(1);
    let until = soon(&world, 5_000);
    let mut done = Vec::new();
    let now = sim.turn(until, &mut done).unwrap();
    assert!(now >= until && now.since(until) < Duration::from_millis(1) && done.is_empty());
}

#[test]
fn a_world_without_events_and_deadlines_is_asleep() {
    let world = World::new(1, Faults::none());
    let mut sim = world.host(1);
    assert!(world.asleep());
    let mut done = Vec::new();
    sim.turn(Moment::NEVER, &mut done).unwrap();
    assert!(world.asleep() && done.is_empty());
    sim.waker().wake();
    assert!(!world.asleep());
    sim.turn(Moment::NEVER, &mut done).unwrap();
    assert!(matches!(done[..], [Done::Woken]));
}

/// One accepted socket, with a client that does what `script` says.
fn accepted(world: &World, script: impl FnMut(&mut ActorIo<'_>, Happening<'_>) + 'static) -> (Sim, SockId) {
    world.add(Box::new(Script(script)), Duration::ZERO);
    let mut sim = world.host(4);
    sim.listen(FRONT, &front(), &options()).unwrap();
    let mut done = Vec::new();
    while done.is_empty() {
        sim.turn(soon(world, 1000), &mut done).unwrap();
    }
    let [Done::Accepted { listener: FRONT, sock, .. }] = done[..] else { panic!("{done:?}") };
    (sim, sock)
}

struct Script<F>(F);

impl<F: FnMut(&mut ActorIo<'_>, Happening<'_>)> Actor for Script<F> {
    fn on(&mut self, io: &mut ActorIo<'_>, what: Happening<'_>) {
        if matches!(what, Happening::Start) {
            io.finish();
            io.connect(&front(), Some("192.0.2.7:4444".parse().unwrap()));
        }
        (self.0)(io, what);
    }
}

fn drain(sim: &mut Sim, world: &World, ms: u64) -> Vec<Done> {
    let (mut all, until) = (Vec::new(), soon(world, ms));
    while world.now() < until {
        sim.turn(until, &mut all).unwrap();
    }
    all
}

fn page_of(sim: &mut Sim, bytes: &[u8]) -> Chain {
    let mut chunk = Chunk::empty(sim.pool().take().unwrap());
    chunk.append(bytes);
    let mut chain = Chain::new();
    chain.push(chunk).unwrap();
    chain
}

#[test]
fn breaches_of_the_rules_panic() {
    type Breach = (&'static str, fn(&mut Sim, SockId));
    let breaches: [Breach; 8] = [
        ("a second receive", |sim, sock| {
            sim.recv(sock);
            sim.recv(sock);
        }),
        ("a second send", |sim, sock| {
            let (first, second) = (page_of(sim, b"a"), page_of(sim, b"b"));
            sim.send(sock, first);
            sim.send(sock, second);
        }),
        ("an empty send", |sim, sock| sim.send(sock, Chain::new())),
        ("an empty send", |sim, sock| {
            let empty = page_of(sim, b"");
            sim.send(sock, empty);
        }),
        ("a send after shut", |sim, sock| {
            let chain = page_of(sim, b"a");
            sim.shut(sock);
            sim.send(sock, chain);
        }),
        ("shut with a send in flight", |sim, sock| {
            let chain = page_of(sim, b"a");
            sim.send(sock, chain);
            sim.shut(sock);
        }),
        ("is Closing", |sim, sock| {
            sim.close(sock);
            sim.recv(sock);
        }),
        ("closed socket", |sim, sock| {
            sim.recv(SockId { slot: sock.slot, generation: sock.generation + 1 });
        }),
    ];
    for (rule, breach) in breaches {
        let world = World::new(3, Faults::none());
        let (mut sim, sock) = accepted(&world, |_, _| {});
        let caught = catch_unwind(AssertUnwindSafe(|| breach(&mut sim, sock))).unwrap_err();
        let said = caught.downcast_ref::<String>().cloned();
        let said = said.or_else(|| caught.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap();
        assert!(said.contains(rule), "{rule}: {said}");
        std::mem::forget(sim);
    }
}

#[test]
fn after_close_comes_closed_alone_and_once() {
    for seed in 0..200 {
        let world = World::new(seed, Faults::harmless(&mut Random::new(seed)));
        let (mut sim, sock) = accepted(&world, |io, what| {
            if let Happening::Connected(conn) = what {
                io.send(conn, &[1; 100_000]);
            }
        });
        sim.recv(sock);
        let chain = page_of(&mut sim, &[2; 9000]);
        sim.send(sock, chain);
        if seed % 2 == 0 {
            world.pass(Duration::from_millis(seed));
        }
        sim.close(sock);
        sim.close(sock);
        sim.reset(sock);
        let done = drain(&mut sim, &world, 1000);
        assert!(
            matches!(done[..], [Done::Closed { sock: closed }] if closed == sock),
            "seed {seed}: {done:?}"
        );
        assert_eq!((sim.pool().free(), sim.lent()), (sim.pool().made(), 0), "seed {seed}");
        assert_eq!(world.report(0).sockets, 0);
    }
}

#[test]
fn a_receive_without_pages_waits_for_them() {
    let world = World::new(5, Faults::none());
    let (mut sim, sock) = accepted(&world, |io, what| {
        if let Happening::Connected(conn) = what {
            io.send(conn, b"hello");
        }
    });
    let held: Vec<_> = std::iter::from_fn(|| sim.pool().take()).collect();
    sim.recv(sock);
    assert!(drain(&mut sim, &world, 50).is_empty());
    assert_eq!(sim.starved(), 1);
    held.into_iter().for_each(|page| sim.pool().give(page));
    let done = drain(&mut sim, &world, 50);
    assert!(
        matches!(&done[..], [Done::Received { chain, .. }] if chain.chunks()[0].bytes() == b"hello"),
        "{done:?}"
    );
}

#[test]
fn nothing_is_received_after_the_end() {
    let world = World::new(6, Faults::none());
    let (mut sim, sock) = accepted(&world, |io, what| {
        if let Happening::Connected(conn) = what {
            io.shut(conn);
        }
    });
    sim.recv(sock);
    let done = drain(&mut sim, &world, 50);
    assert!(matches!(done[..], [Done::Eof { .. }]), "{done:?}");
    assert!(catch_unwind(AssertUnwindSafe(|| sim.recv(sock))).is_err());
}

/// What the client sees when the worker ends its connection.
fn ending(seed: u64, unread: bool, end: fn(&mut Sim, SockId)) -> (Vec<u8>, &'static str) {
    let world = World::new(seed, Faults::none());
    let seen = Rc::new(RefCell::new((Vec::new(), "nothing")));
    let told = Rc::clone(&seen);
    let (mut sim, sock) = accepted(&world, move |io, what| match what {
        Happening::Connected(conn) if unread => io.send(conn, b"never read"),
        Happening::Data(_, bytes) => told.borrow_mut().0.extend_from_slice(bytes),
        Happening::Eof(_) => told.borrow_mut().1 = "eof",
        Happening::Reset(..) => told.borrow_mut().1 = "reset",
        _ => {}
    });
    let chain = page_of(&mut sim, b"bye");
    sim.send(sock, chain);
    for done in drain(&mut sim, &world, 50) {
        if let Done::Sent { chain, .. } = done {
            sim.pool().give_chain(chain);
        }
    }
    end(&mut sim, sock);
    drain(&mut sim, &world, 50);
    seen.take()
}

#[test]
fn an_orderly_close_a_reset_and_a_close_with_unread_bytes() {
    for seed in 0..10 {
        assert_eq!(ending(seed, false, |sim, sock| sim.close(sock)), (b"bye".to_vec(), "eof"));
        assert_eq!(ending(seed, false, |sim, sock| sim.reset(sock)), (b"bye".to_vec(), "reset"));
        assert_eq!(ending(seed, true, |sim, sock| sim.close(sock)), (b"bye".to_vec(), "reset"));
        assert_eq!(ending(seed, false, |sim, sock| sim.shut(sock)), (b"bye".to_vec(), "eof"));
    }
}

#[test]
fn a_reset_is_told_once() {
    for (told_once, ends_with_eof) in [(1000, true), (0, false)] {
        let world = World::new(7, Faults { told_once, ..Faults::none() });
        let (mut sim, sock) = accepted(&world, |io, what| {
            if let Happening::Data(conn, _) = what {
                io.reset(conn);
            }
        });
        let chain = page_of(&mut sim, b"first");
        sim.send(sock, chain);
        let mut done = drain(&mut sim, &world, 50);
        assert!(matches!(done[..], [Done::Sent { .. }]), "{done:?}");
        let chain = page_of(&mut sim, b"second");
        sim.send(sock, chain);
        done = drain(&mut sim, &world, 50);
        assert!(matches!(done[..], [Done::Failed { what: Failure::Send, .. }]), "{done:?}");
        sim.recv(sock);
        done = drain(&mut sim, &world, 50);
        assert_eq!(matches!(done[..], [Done::Eof { .. }]), ends_with_eof, "{done:?}");
        assert_eq!(
            matches!(done[..], [Done::Failed { what: Failure::Recv, .. }]),
            !ends_with_eof,
            "{done:?}"
        );
    }
}

#[test]
fn a_closing_listener_gives_what_is_in_its_queue() {
    let world = World::new(8, Faults::none());
    let mut sim = world.host(1);
    sim.listen(FRONT, &front(), &options()).unwrap();
    sim.pause(FRONT);
    for _ in 0..3 {
        sender(&world, 10);
    }
    assert!(drain(&mut sim, &world, 50).is_empty());
    sim.unlisten(FRONT);
    let late = sender(&world, 10);
    let done = drain(&mut sim, &world, 50);
    assert_eq!(done.iter().filter(|done| matches!(done, Done::Accepted { .. })).count(), 3);
    assert!(late.borrow().refused);
    assert_eq!(world.report(0).listeners, 0);
}

#[test]
fn no_more_is_accepted_than_allowed_and_one_that_was_on_its_way() {
    for seed in 0..50 {
        let world = World::new(seed, Faults::none());
        let mut sim = world.host(1);
        sim.listen(FRONT, &front(), &options()).unwrap();
        sim.allow(2);
        for _ in 0..8 {
            sender(&world, 10);
        }
        let first = drain(&mut sim, &world, 50).len();
        assert!((2..=3).contains(&first), "seed {seed}: {first}");
        sim.allow(0);
        let late = drain(&mut sim, &world, 50).len();
        assert!(first + late <= 4, "seed {seed}: {late} more");
        sim.allow(100);
        assert_eq!(first + late + drain(&mut sim, &world, 50).len(), 8, "seed {seed}");
    }
}

#[test]
fn several_pieces_may_come_at_once_and_in_order() {
    let mut most = 0;
    for seed in 0..50 {
        let world = World::new(seed, Faults { read_ahead: 800, partial_reads: 900, ..Faults::none() });
        let (mut sim, sock) = accepted(&world, |io, what| {
            if let Happening::Connected(conn) = what {
                io.send(conn, &text(5000));
            }
        });
        let mut got = Vec::new();
        while got.len() < 5000 {
            sim.recv(sock);
            let done = drain(&mut sim, &world, 10);
            let [Done::Received { chain, .. }] = &done[..] else { panic!("{done:?}") };
            most = most.max(chain.chunks().len());
            chain.chunks().iter().for_each(|chunk| got.extend_from_slice(chunk.bytes()));
            for done in done {
                if let Done::Received { chain, .. } = done {
                    sim.pool().give_chain(chain);
                }
            }
        }
        assert_eq!(got, text(5000), "seed {seed}");
        assert_eq!(sim.pool().free(), sim.pool().made(), "seed {seed}");
    }
    assert!(most > 2, "{most} at most");
}

#[test]
fn workers_share_an_address() {
    let world = World::new(9, Faults::none());
    let mut workers = [Echo::new(&world, 4), Echo::new(&world, 4)];
    let seen: Vec<_> = (0..40).map(|_| sender(&world, 1000)).collect();
    let end = soon(&world, 60_000);
    let mut turns = 0;
    while world.busy() > 0 {
        assert!(workers[turns % 2].step(soon(&world, 20)) < end);
        turns += 1;
    }
    assert!(seen.iter().all(|seen| seen.borrow().got == text(1000)));
    assert!(workers.iter().all(|worker| worker.accepted > 5));
}

struct Listener;

impl Actor for Listener {
    fn on(&mut self, io: &mut ActorIo<'_>, what: Happening<'_>) {
        match what {
            Happening::Start => io.listen(&back()),
            Happening::Accepted { conn, .. } => io.send(conn, b"welcome"),
            _ => {}
        }
    }
}

#[test]
fn connects_stand_or_fail_as_the_world_says() {
    let outcome = |listens: bool, faults: Faults| {
        let world = World::new(10, faults);
        if listens {
            world.add(Box::new(Listener), Duration::ZERO);
            world.pass(Duration::from_millis(1));
        }
        let mut sim = world.host(1);
        let Ok(sock) = sim.connect(&back()) else { return "no descriptors" };
        let outcome = match drain(&mut sim, &world, 5000)[..] {
            [Done::Connected { .. }] => "connected",
            [Done::Failed { what: Failure::Connect, errno, .. }] if errno.0 == libc::ECONNREFUSED => {
                "refused"
            }
            [Done::Failed { what: Failure::Connect, .. }] => "failed",
            [] => "silence",
            _ => "something else",
        };
        sim.close(sock);
        assert!(matches!(drain(&mut sim, &world, 50)[..], [Done::Closed { .. }]));
        outcome
    };
    let hurt = || Faults { hurts_servers: true, ..Faults::none() };
    assert_eq!(outcome(true, Faults::none()), "connected");
    assert_eq!(outcome(false, Faults::none()), "refused");
    assert_eq!(outcome(true, Faults { connect_refused: 1000, ..hurt() }), "refused");
    assert_eq!(outcome(true, Faults { connect_unreachable: 1000, ..hurt() }), "failed");
    assert_eq!(outcome(true, Faults { connect_silent: 1000, ..hurt() }), "silence");
    assert_eq!(outcome(true, Faults { connect_slow: 1000, ..hurt() }), "connected");
    assert_eq!(outcome(true, Faults { connect_no_descriptors: 1000, ..hurt() }), "no descriptors");
}

#[test]
fn a_worker_can_connect_to_a_worker() {
    let world = World::new(11, Faults::none());
    let mut echo = Echo::new(&world, 4);
    let mut sim = world.host(4);
    let sock = sim.connect(&front()).unwrap();
    let mut got = Vec::new();
    for _ in 0..200 {
        let mut done = Vec::new();
        echo.step(soon(&world, 10));
        sim.turn(soon(&world, 10), &mut done).unwrap();
        for done in done {
            match done {
                Done::Connected { .. } => {
                    let chain = page_of(&mut sim, b"ping");
                    sim.send(sock, chain);
                    sim.recv(sock);
                }
                Done::Sent { chain, .. } => sim.pool().give_chain(chain),
                Done::Received { chain, .. } => {
                    chain.chunks().iter().for_each(|chunk| got.extend_from_slice(chunk.bytes()));
                    sim.pool().give_chain(chain);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(got, b"ping");
}
