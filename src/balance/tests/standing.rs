//! Verdicts of checks, orders, rules of ejection and slow start.

use std::time::Duration;

use super::*;
use crate::config::model::Eject;

const KINDS: [Balance; 4] =
    [Balance::RoundRobin, Balance::LeastConnections, Balance::IpHash, Balance::RandomTwo];
const SLOW: Duration = Duration::from_secs(10);

/// Servers of equal weight, with rules and a slow start.
fn watched(balance: Balance, servers: usize, eject: Eject, slow_start: Duration) -> Balancer {
    let mut config = config(balance, 9, &vec![(1, false, 0); servers]);
    config.pools[0].health = PoolHealth { check: None, eject, slow_start };
    Balancer::new(&config)
}

fn is_none(balancer: &Balancer, ms: u64) -> bool {
    matches!(balancer.pick(POOL, &key(ms)), Pick::None)
}

/// What happens to server 0 at a moment, in ms.
#[derive(Clone, Copy, Debug)]
enum Event {
    CheckFails,
    CheckWorks,
    Refused,
    Answers,
    Drain,
    Maint,
    Ready,
}

/// Each state of a server times each event: the state after it.
#[test]
fn every_event_in_every_state() {
    use Event::*;
    let ways: [(&str, &[Event]); 8] = [
        ("up", &[]),
        ("down", &[CheckFails]),
        ("ejected", &[Refused]),
        ("warming", &[CheckFails, CheckWorks]),
        ("drain", &[Drain]),
        ("maint", &[Maint]),
        ("drain, down", &[Drain, CheckFails]),
        ("maint, ejected", &[Refused, Maint]),
    ];
    let events = [CheckFails, CheckWorks, Refused, Answers, Drain, Maint, Ready];
    let table = "
        state           CheckFails CheckWorks Refused  Answers  Drain  Maint  Ready
        up              down       up         ejected  up       drain  maint  up
        down            down       warming    down     down     drain  maint  down
        ejected         down       ejected    ejected  ejected  drain  maint  ejected
        warming         down       warming    ejected  warming  drain  maint  warming
        drain           drain      drain      drain    drain    drain  maint  warming
        maint           maint      maint      maint    maint    drain  maint  warming
        drain, down     drain      drain      drain    drain    drain  maint  down
        maint, ejected  maint      maint      maint    maint    drain  maint  warming";
    let mut found =
        format!("\n        {:15} CheckFails CheckWorks Refused  Answers  Drain  Maint  Ready", "state");
    for (name, way) in ways {
        found += &format!("\n        {name:15}");
        for (event, width) in events.iter().zip([10, 10, 8, 8, 6, 6, 0]) {
            let balancer = watched(Balance::RoundRobin, 1, Eject::default(), SLOW);
            way.iter().chain([event]).for_each(|event| happen(&balancer, *event));
            let state = balancer.servers().next().unwrap().state(at_ms(1));
            found += &format!(" {state:width$}");
            let gets = matches!(balancer.pick(POOL, &key(1)), Pick::Server(_));
            assert_eq!(
                gets,
                ["up", "warming", "ejected"].contains(&state),
                "{name} {event:?}: alone in its pool"
            );
        }
        found.truncate(found.trim_end().len());
    }
    assert_eq!(found, table);
}

fn happen(balancer: &Balancer, event: Event) {
    let (server, now) = (ServerId(0), at_ms(1));
    match event {
        Event::CheckFails => _ = balancer.set_checked(server, false, now),
        Event::CheckWorks => _ = balancer.set_checked(server, true, now),
        Event::Refused => _ = balancer.struck(server, Evidence::Unreachable, now),
        Event::Answers => _ = balancer.worked(server, now),
        Event::Drain => balancer.set_admin(server, Admin::Drain, now),
        Event::Maint => balancer.set_admin(server, Admin::Maint, now),
        Event::Ready => balancer.set_admin(server, Admin::Ready, now),
    }
}

#[test]
fn a_server_that_is_down_gets_nothing_and_nobody_tries_it_anyway() {
    for kind in KINDS {
        let balancer = watched(kind, 2, Eject::default(), Duration::ZERO);
        assert!(balancer.set_checked(ServerId(0), false, at_ms(0)));
        assert!(!balancer.set_checked(ServerId(0), false, at_ms(1)), "news only once");
        assert_eq!(visits(&balancer, 1, 20), "b".repeat(20), "{kind:?}");
        assert!(balancer.set_checked(ServerId(1), false, at_ms(2)));
        assert!(is_none(&balancer, 2), "{kind:?}");
        assert!(balancer.set_checked(ServerId(1), true, at_ms(3)));
        assert_eq!(visits(&balancer, 3, 20), "b".repeat(20), "{kind:?}");
        // One that requests found failing is tried rather than one that is down.
        balancer.struck(ServerId(1), Evidence::Unreachable, at_ms(4));
        assert_eq!(visits(&balancer, 4, 20), "b".repeat(20), "{kind:?}");
        assert!(balancer.clear_checked(ServerId(0), at_ms(5)));
        assert_eq!(visits(&balancer, 5, 20), "a".repeat(20), "{kind:?}");
    }
}

#[test]
fn a_server_that_is_up_again_has_no_past() {
    let balancer = watched(Balance::RoundRobin, 1, Eject::default(), Duration::ZERO);
    balancer.struck(ServerId(0), Evidence::Unreachable, at_ms(0));
    assert!(balancer.set_checked(ServerId(0), false, at_ms(1)));
    assert!(balancer.set_checked(ServerId(0), true, at_ms(2)));
    let view = balancer.servers().next().unwrap();
    assert_eq!((view.failures, view.state(at_ms(2)), view.checked), (0, "up", true));
}

#[test]
fn a_probe_that_meets_an_order_does_not_occupy_the_server() {
    let balancer = watched(Balance::RoundRobin, 1, Eject::default(), Duration::ZERO);
    balancer.struck(ServerId(0), Evidence::Unreachable, at_ms(0));
    let probe = claim(balancer.pick(POOL, &key(1000)));
    assert!(probe.probe);
    balancer.set_admin(ServerId(0), Admin::Drain, at_ms(1001));
    assert_eq!(balancer.release(probe), None);
    balancer.set_admin(ServerId(0), Admin::Ready, at_ms(1002));
    assert!(claim(balancer.pick(POOL, &key(1003))).probe, "the next one is the probe");
}

#[test]
fn who_waits_is_told_when_the_last_server_goes_down() {
    let mut config = config(Balance::RoundRobin, 9, &[(1, false, 1)]);
    config.pools[0].health = PoolHealth::default();
    let balancer = Balancer::new(&config);
    let held = claim(balancer.pick(POOL, &key(0)));
    for n in 0..3 {
        assert_eq!(balancer.enqueue(POOL, waiter(n), at_ms(0)), Ok(None));
    }
    assert_eq!(balancer.wake_vacant(POOL, at_ms(0)), [], "no place is free");
    assert!(balancer.set_checked(ServerId(0), false, at_ms(1)));
    assert_eq!(balancer.wake_vacant(POOL, at_ms(1)), [waiter(0), waiter(1), waiter(2)]);
    for n in 0..3 {
        assert!(matches!(balancer.pick(POOL, &Key { turn: true, ..key(1) }), Pick::None));
        assert_eq!(balancer.abandon(POOL, waiter(n)), None);
    }
    assert_eq!(balancer.release(held), None);
}

#[test]
fn as_many_are_woken_as_places_come_free() {
    let balancer = balancer(Balance::RoundRobin, 9, &[(1, false, 1), (1, false, 2)]);
    balancer.set_admin(ServerId(1), Admin::Maint, at_ms(0));
    let held = claim(balancer.pick(POOL, &key(0)));
    for n in 0..4 {
        assert_eq!(balancer.enqueue(POOL, waiter(n), at_ms(0)), Ok(None));
    }
    balancer.set_admin(ServerId(1), Admin::Ready, at_ms(1));
    assert_eq!(balancer.wake_vacant(POOL, at_ms(1)), [waiter(0), waiter(1)]);
    assert_eq!(balancer.release(held), Some(waiter(2)));
}

#[test]
fn what_ejects_is_what_the_rules_say() {
    use Evidence::{Closed, Error, Late, Nothing, Unreachable};
    let time = Duration::from_secs(40);
    let rules = Eject { connect: 2, closed: 0, timeout: 3, error: 4, time };
    // What happened in a row, and whether the last of it ejects.
    let table: &[(&[Evidence], bool)] = &[
        (&[Unreachable], false),
        (&[Unreachable, Unreachable], true),
        (&[Closed; 9], false),
        (&[Nothing; 9], false),
        (&[Late, Late], false),
        (&[Late, Late, Late], true),
        (&[Error, Error, Error], false),
        (&[Error, Error, Error, Error], true),
        (&[Error, Late, Late], true),
        (&[Late, Unreachable], true),
    ];
    for (events, ejects) in table {
        let balancer = watched(Balance::RoundRobin, 1, rules, Duration::ZERO);
        let strike = |_, evidence: &Evidence| Some(balancer.struck(ServerId(0), *evidence, at_ms(0)));
        let last = events.iter().fold(None, strike);
        let expected = if *ejects { Ejection::New(at_ms(40_000)) } else { Ejection::No };
        assert_eq!(last, Some(expected), "{events:?}");
    }
    let balancer = watched(Balance::RoundRobin, 1, rules, Duration::ZERO);
    for _ in 0..9 {
        assert_eq!(balancer.struck(ServerId(0), Error, at_ms(0)), Ejection::No);
        assert!(!balancer.worked(ServerId(0), at_ms(0)), "in a row means without a success between");
    }
    (0..2).for_each(|_| _ = balancer.struck(ServerId(0), Unreachable, at_ms(0)));
    assert_eq!(
        balancer.struck(ServerId(0), Error, at_ms(40_000)),
        Ejection::Longer(at_ms(80_000)),
        "no more than time"
    );
    assert!(balancer.minds_errors(POOL));
    let never = watched(Balance::RoundRobin, 1, Eject::NEVER, Duration::ZERO);
    assert!((0..300).all(|_| never.struck(ServerId(0), Unreachable, at_ms(0)) == Ejection::No));
    assert!(!never.minds_errors(POOL));
}

/// The share of server 0 among so many picks at that moment after it came back.
fn share(kind: Balance, servers: usize, busy: bool, ms: u64) -> f64 {
    const PICKS: u32 = 20_000;
    let balancer = watched(kind, servers, Eject::default(), SLOW);
    let many = if busy { 1000 * servers as u64 } else { 0 };
    let others = Key { tried: &[ServerId(0)], ..key(0) };
    let held: Vec<Claim> =
        (0..many).map(|n| claim(balancer.pick(POOL, &Key { chance: hash::mix(n), ..others }))).collect();
    _ = balancer.set_checked(ServerId(0), false, at_ms(0));
    _ = balancer.set_checked(ServerId(0), true, at_ms(0));
    let mut count = 0;
    for n in 0..PICKS {
        let client = Some(IpAddr::from((0x0a00_0000 + n).to_be_bytes()));
        let key = Key { client, chance: hash::mix(u64::from(n)), ..key(ms) };
        count += u32::from(visit(&balancer, &key) == 0);
    }
    held.into_iter().for_each(|claim| _ = balancer.release(claim));
    f64::from(count) / f64::from(PICKS)
}

#[test]
fn a_server_that_comes_back_warms_up() {
    for (kind, servers, busy) in [
        (Balance::RoundRobin, 2, false),
        (Balance::RoundRobin, 4, true),
        (Balance::LeastConnections, 4, false),
        (Balance::LeastConnections, 4, true),
        (Balance::IpHash, 4, false),
        (Balance::RandomTwo, 4, false),
    ] {
        let shares = [0, 2_500, 5_000, 7_500, 10_000].map(|ms| share(kind, servers, busy, ms));
        assert!(shares.is_sorted(), "{kind:?} {shares:?}");
        if kind == Balance::LeastConnections && busy {
            // A warm one with nothing to do takes all until it is as busy as the others.
            assert!((0.01..0.05).contains(&shares[0]) && shares[4] == 1.0, "{kind:?} {shares:?}");
            continue;
        }
        let full = 1.0 / servers as f64;
        let cold = shares[0] / full;
        assert!((0.05..0.25).contains(&cold), "{kind:?} begins with a tenth: {shares:?}");
        assert!((shares[4] - full).abs() < full / 5.0, "{kind:?} has all of it at the end: {shares:?}");
    }
}

#[test]
fn clients_move_once_to_a_server_that_warms_up() {
    let balancer = watched(Balance::IpHash, 4, Eject::default(), SLOW);
    balancer.set_admin(ServerId(0), Admin::Maint, at_ms(0));
    balancer.set_admin(ServerId(0), Admin::Ready, at_ms(0));
    for n in 0..500u32 {
        let client = Some(IpAddr::from((0x0a00_0000 + n).to_be_bytes()));
        let at = |ms| visit(&balancer, &Key { client, chance: hash::mix(ms), ..key(ms) });
        let way: Vec<u32> = (0..=11).map(|second| at(second * 1000)).collect();
        let moves = way.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(moves == 0 || (moves == 1 && way[11] == 0), "{way:?}");
    }
}

#[test]
fn nobody_is_refused_while_all_warm_up() {
    for kind in KINDS {
        let balancer = watched(kind, 2, Eject::default(), SLOW);
        for server in [ServerId(0), ServerId(1)] {
            _ = balancer.set_checked(server, false, at_ms(0));
            _ = balancer.set_checked(server, true, at_ms(0));
        }
        (0..1000).for_each(|ms| _ = visit(&balancer, &key(ms)));
    }
    let mut config = config(Balance::RoundRobin, 0, &[(1, false, 1), (1, false, 0)]);
    config.pools[0].health.slow_start = SLOW;
    let balancer = Balancer::new(&config);
    _ = balancer.set_checked(ServerId(1), false, at_ms(0));
    _ = balancer.set_checked(ServerId(1), true, at_ms(0));
    let held: Vec<Claim> = (0..50).map(|ms| claim(balancer.pick(POOL, &key(ms)))).collect();
    assert_eq!(held.iter().filter(|claim| claim.server.0 == 1).count(), 49, "the other one is full");
}

#[test]
fn an_ejected_server_warms_up_too_and_is_free_of_it_at_the_end() {
    let balancer = watched(Balance::RoundRobin, 2, Eject::default(), SLOW);
    balancer.struck(ServerId(0), Evidence::Unreachable, at_ms(0));
    assert!(balancer.worked(ServerId(0), at_ms(1000)));
    let state = |ms| balancer.servers().next().unwrap().state(at_ms(ms));
    assert_eq!((state(1000), state(10_999), state(11_000)), ("warming", "warming", "up"));
    assert!(!balancer.worked(ServerId(0), at_ms(11_000)));
    assert_eq!(balancer.servers().next().unwrap().warming_until, None, "its word is 0 again");
}
