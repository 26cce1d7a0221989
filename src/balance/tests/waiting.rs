//! The queue: order, bounds, and that nobody waits forever.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::*;

fn turn(ms: u64) -> Key<'static> {
    Key { turn: true, ..key(ms) }
}

fn full(balancer: &Balancer, key: &Key<'_>) -> bool {
    matches!(balancer.pick(POOL, key), Pick::Full)
}

#[test]
fn a_place_goes_to_the_one_that_waited_longest() {
    let balancer = balancer(Balance::RoundRobin, 2, &[(1, false, 1)]);
    let held = claim(balancer.pick(POOL, &key(0)));
    assert!(full(&balancer, &key(0)));
    assert_eq!(balancer.enqueue(POOL, waiter(1), at_ms(0)), Ok(None));
    assert_eq!(balancer.enqueue(POOL, waiter(2), at_ms(0)), Ok(None));
    assert_eq!(balancer.enqueue(POOL, waiter(3), at_ms(0)), Err(QueueFull));
    assert_eq!(balancer.release(held), Some(waiter(1)));
    assert!(full(&balancer, &key(0)), "a newcomer does not overtake, although a place is free");
    let held = claim(balancer.pick(POOL, &turn(0)));
    assert_eq!(balancer.waiting(POOL), 1);
    assert!(full(&balancer, &turn(0)));
    assert_eq!(balancer.release(held), Some(waiter(2)));
    let held = claim(balancer.pick(POOL, &turn(0)));
    assert_eq!((balancer.release(held), balancer.waiting(POOL)), (None, 0));
    assert_eq!(visit(&balancer, &key(0)), 0, "nobody waits, so newcomers pick again");
}

#[test]
fn a_place_that_came_free_before_the_queue_was_entered_is_not_lost() {
    let balancer = balancer(Balance::RoundRobin, 9, &[(1, false, 1)]);
    let held = claim(balancer.pick(POOL, &key(0)));
    assert!(full(&balancer, &key(0)));
    assert_eq!(balancer.release(held), None);
    assert_eq!(balancer.enqueue(POOL, waiter(1), at_ms(0)), Ok(Some(waiter(1))));
    let held = claim(balancer.pick(POOL, &turn(0)));
    // The same for a turn that found nothing.
    assert_eq!(balancer.enqueue(POOL, waiter(2), at_ms(0)), Ok(None));
    assert_eq!(balancer.release(held), Some(waiter(2)));
    let held = claim(balancer.pick(POOL, &turn(0)));
    assert!(full(&balancer, &turn(0)));
    assert_eq!(balancer.release(held), None);
    assert_eq!(balancer.requeue_front(POOL, waiter(2), at_ms(0)), Some(waiter(2)));
}

#[test]
fn a_waiter_that_leaves_passes_its_turn_on() {
    let balancer = balancer(Balance::RoundRobin, 9, &[(1, false, 1)]);
    let held = claim(balancer.pick(POOL, &key(0)));
    for n in 1..4 {
        assert_eq!(balancer.enqueue(POOL, waiter(n), at_ms(0)), Ok(None));
    }
    assert_eq!(balancer.abandon(POOL, waiter(2)), None);
    assert_eq!(balancer.release(held), Some(waiter(1)));
    assert_eq!(balancer.abandon(POOL, waiter(1)), Some(waiter(3)));
    let held = claim(balancer.pick(POOL, &turn(0)));
    assert_eq!((balancer.release(held), balancer.waiting(POOL)), (None, 0));
}

#[test]
fn when_nobody_can_be_used_any_more_all_who_wait_are_told() {
    let balancer = balancer(Balance::RoundRobin, 9, &[(1, false, 1)]);
    let held = claim(balancer.pick(POOL, &key(0)));
    for n in 1..4 {
        assert_eq!(balancer.enqueue(POOL, waiter(n), at_ms(0)), Ok(None));
    }
    balancer.struck(ServerId(0), Evidence::Unreachable, at_ms(0));
    balancer.struck(ServerId(0), Evidence::Unreachable, at_ms(1000));
    let mut next = balancer.release(held);
    let trying = claim(balancer.pick(POOL, &turn(1001)));
    assert_eq!(next, Some(waiter(1)), "the first is the one that still tries");
    balancer.struck(ServerId(0), Evidence::Unreachable, at_ms(1001));
    next = balancer.release(trying);
    for n in 2..4 {
        assert_eq!(next, Some(waiter(n)));
        assert!(matches!(balancer.pick(POOL, &turn(1002)), Pick::None));
        next = balancer.abandon(POOL, waiter(n));
    }
    assert_eq!((next, balancer.waiting(POOL)), (None, 0));
}

#[test]
fn a_server_that_is_back_takes_those_who_wait() {
    let balancer = balancer(Balance::RoundRobin, 9, &[(1, false, 1), (1, false, 2)]);
    balancer.struck(ServerId(1), Evidence::Unreachable, at_ms(0));
    let _held = claim(balancer.pick(POOL, &key(0)));
    for n in 1..4 {
        assert_eq!(balancer.enqueue(POOL, waiter(n), at_ms(0)), Ok(None));
    }
    assert_eq!(balancer.wake_next(POOL, at_ms(999)), None);
    assert_eq!(balancer.wake_next(POOL, at_ms(1000)), Some(waiter(1)), "the probe");
    let probe = claim(balancer.pick(POOL, &turn(1000)));
    assert!(probe.probe);
    assert_eq!(balancer.wake_next(POOL, at_ms(1000)), None, "there is only one probe");
    assert!(balancer.worked(ServerId(1), at_ms(1001)));
    assert_eq!(balancer.wake_next(POOL, at_ms(1001)), Some(waiter(2)));
    let second = claim(balancer.pick(POOL, &turn(1001)));
    assert_eq!((second.server, balancer.wake_next(POOL, at_ms(1001))), (ServerId(1), None));
}

#[test]
fn a_turn_takes_a_server_that_was_tried_rather_than_none() {
    let balancer = balancer(Balance::RoundRobin, 9, &[(1, false, 1), (1, false, 1)]);
    let (a, b) = (claim(balancer.pick(POOL, &key(0))), claim(balancer.pick(POOL, &key(0))));
    assert_eq!((a.server, b.server), (ServerId(0), ServerId(1)));
    let tried = [ServerId(1)];
    assert_eq!(balancer.enqueue(POOL, waiter(1), at_ms(0)), Ok(None));
    assert_eq!(balancer.release(b), Some(waiter(1)));
    let pick = claim(balancer.pick(POOL, &Key { tried: &tried, ..turn(0) }));
    assert_eq!(pick.server, ServerId(1));
}

/// A worker of the stress test: an inbox, sessions that hold or wait for a place.
struct StressWorker<'a> {
    id: u32,
    balancer: &'a Balancer,
    inboxes: &'a [Sender<Waiter>],
    inbox: Receiver<Waiter>,
    /// Independent of the balancer: who is at which server.
    at_server: &'a [AtomicU32],
    limits: &'a [u32],
    /// Virtual time in ms, which goes on with every request; servers fail only when there is one.
    clock: Option<&'a AtomicU64>,
    /// Most sessions at a time. With 1 a lost wake-up has nobody who would make up for it.
    sessions_max: usize,
    held: Vec<Claim>,
    /// Sessions in the queue.
    waiting: Vec<Waiter>,
    started: u32,
    served: u32,
    left: u32,
    chance: u64,
}

impl StressWorker<'_> {
    fn dice(&mut self, sides: u64) -> bool {
        self.chance = hash::mix(self.chance);
        self.chance.is_multiple_of(sides)
    }

    /// Lets others come in between.
    fn dawdle(&mut self) {
        if self.dice(2) {
            std::thread::yield_now();
        }
    }

    fn run(mut self, requests: u32) -> (u32, u32) {
        while self.served + self.left < requests {
            while let Ok(waiter) = self.inbox.try_recv() {
                self.woken(waiter);
            }
            if self.started < requests && self.held.len() + self.waiting.len() < self.sessions_max {
                self.start();
            } else if !self.held.is_empty() {
                self.finish();
            } else if !self.waiting.is_empty() {
                let woken = self.inbox.recv_timeout(Duration::from_secs(20)).expect("a wake-up was lost");
                self.woken(woken);
            }
            if self.dice(3) && !self.held.is_empty() {
                self.finish();
            }
            if self.dice(50)
                && let Some(waiter) = self.waiting.pop()
            {
                self.left += 1;
                self.wake(self.balancer.abandon(POOL, waiter));
            }
        }
        assert!(self.held.is_empty() && self.waiting.is_empty());
        (self.served, self.left)
    }

    fn ms(&self) -> u64 {
        self.clock.map_or(0, |clock| clock.fetch_add(1, Ordering::Relaxed))
    }

    fn key(&self, turn: bool) -> Key<'static> {
        Key { turn, chance: self.chance, ..key(self.ms()) }
    }

    fn start(&mut self) {
        let session = SessionId { slot: self.started, generation: 0 };
        self.started += 1;
        match self.balancer.pick(POOL, &self.key(false)) {
            Pick::Server(claim) => self.hold(claim),
            Pick::Full => {
                let waiter = Waiter { worker: WorkerId(self.id), session };
                self.waiting.push(waiter);
                self.dawdle();
                let next =
                    self.balancer.enqueue(POOL, waiter, at_ms(self.ms())).expect("the queue is large enough");
                self.wake(next);
            }
            Pick::None => self.nobody(),
        }
    }

    /// No server can be used: the request is answered with 503.
    fn nobody(&mut self) {
        assert!(self.clock.is_some(), "servers never fail here");
        self.left += 1;
    }

    fn woken(&mut self, waiter: Waiter) {
        // It may have left while the message was under way; then it has passed its turn on.
        let Some(at) = self.waiting.iter().position(|other| *other == waiter) else { return };
        match self.balancer.pick(POOL, &self.key(true)) {
            Pick::Server(claim) => {
                self.waiting.swap_remove(at);
                self.hold(claim);
                if self.dice(2) {
                    self.wake(self.balancer.wake_next(POOL, at_ms(self.ms())));
                }
            }
            Pick::Full => {
                self.dawdle();
                self.wake(self.balancer.requeue_front(POOL, waiter, at_ms(self.ms())));
            }
            Pick::None => {
                self.waiting.swap_remove(at);
                self.nobody();
                self.wake(self.balancer.abandon(POOL, waiter));
            }
        }
    }

    fn hold(&mut self, claim: Claim) {
        let at = claim.server.index();
        let before = self.at_server[at].fetch_add(1, Ordering::SeqCst);
        assert!(before < self.limits[at], "more in flight than allowed");
        self.held.push(claim);
    }

    fn finish(&mut self) {
        let Some(claim) = self.held.pop() else { return };
        self.at_server[claim.server.index()].fetch_sub(1, Ordering::SeqCst);
        self.served += 1;
        if self.clock.is_some() {
            let now = at_ms(self.ms());
            // Server 0 is down for half of the time, the others fail now and then.
            let down = claim.server == ServerId(0) && (now.0 / 4_000_000_000).is_multiple_of(2);
            if down || self.dice(200) {
                self.balancer.struck(claim.server, Evidence::Unreachable, now);
            } else if self.balancer.worked(claim.server, now) {
                self.wake(self.balancer.wake_next(POOL, now));
            }
        }
        self.dawdle();
        self.wake(self.balancer.release(claim));
    }

    fn wake(&self, waiter: Option<Waiter>) {
        if let Some(waiter) = waiter {
            // A worker that is done has no waiters any more, so nobody is lost with its inbox.
            let _ = self.inboxes[waiter.worker.index()].send(waiter);
        }
    }
}

/// Four workers send requests at servers with these limits, all at once.
fn stress(kind: Balance, limits: &[u32], sessions_max: usize, clock: Option<&AtomicU64>) {
    const WORKERS: u32 = 4;
    const REQUESTS: u32 = 5_000;
    let specs: Vec<Spec> = (0..).zip(limits).map(|(at, limit)| (1, at == 2, *limit)).collect();
    let balancer = balancer(kind, 1000, &specs);
    let at_server: Vec<AtomicU32> = limits.iter().map(|_| AtomicU32::new(0)).collect();
    let (inboxes, receivers): (Vec<_>, Vec<_>) = (0..WORKERS).map(|_| channel()).unzip();
    let worker = |id, inbox| StressWorker {
        id,
        balancer: &balancer,
        inboxes: &inboxes,
        inbox,
        at_server: &at_server,
        limits,
        clock,
        sessions_max,
        held: Vec::new(),
        waiting: Vec::new(),
        started: 0,
        served: 0,
        left: 0,
        chance: u64::from(id),
    };
    let done = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..WORKERS)
            .zip(receivers)
            .map(|(id, inbox)| scope.spawn(move || worker(id, inbox).run(REQUESTS)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(done.iter().map(|(served, left)| served + left).sum::<u32>(), WORKERS * REQUESTS, "{kind:?}");
    assert!(done.iter().all(|(served, _)| *served > REQUESTS / 10), "{kind:?} {done:?}");
    assert!(in_flight(&balancer).iter().all(|load| *load == 0), "{kind:?}");
    assert_eq!(balancer.waiting(POOL), 0, "{kind:?}");
}

const KINDS: [Balance; 4] =
    [Balance::RoundRobin, Balance::LeastConnections, Balance::IpHash, Balance::RandomTwo];

#[test]
fn limits_hold_and_everybody_is_served_over_many_workers() {
    for kind in KINDS {
        stress(kind, &[1], 1, None);
        stress(kind, &[1], 8, None);
        stress(kind, &[2, 3], 8, None);
    }
}

#[test]
fn nobody_waits_forever_while_servers_fail_and_come_back() {
    for kind in KINDS {
        stress(kind, &[1], 1, Some(&AtomicU64::new(0)));
        stress(kind, &[2, 1, 3], 8, Some(&AtomicU64::new(0)));
    }
}
