//! Servers that fail: who is used meanwhile, who probes, what happens when nobody is left.

use super::*;
use crate::limits;

fn is_none(balancer: &Balancer, key: &Key<'_>) -> bool {
    matches!(balancer.pick(POOL, key), Pick::None)
}

#[test]
fn one_request_probes_and_the_others_go_elsewhere() {
    let balancer = of_weights(Balance::RoundRobin, &[1, 1, 1]);
    assert_eq!(balancer.struck(ServerId(1), Evidence::Unreachable, at_ms(0)), Ejection::New(at_ms(1000)));
    assert_eq!(visits(&balancer, 999, 4), "acac");
    let claims: Vec<Claim> = (0..6).map(|_| claim(balancer.pick(POOL, &key(1000)))).collect();
    let probes: Vec<u32> = claims.iter().filter(|claim| claim.probe).map(|claim| claim.server.0).collect();
    assert_eq!(probes, [1]);
    assert_eq!(claims.iter().filter(|claim| claim.server.0 == 1).count(), 1);
    assert_eq!(
        balancer.struck(ServerId(1), Evidence::Unreachable, at_ms(1001)),
        Ejection::Longer(at_ms(3001))
    );
    for claim in claims {
        assert_eq!(balancer.release(claim), None);
    }
    assert!(!visits(&balancer, 3000, 6).contains('b'));
    assert!(visits(&balancer, 3001, 6).contains('b'));
}

#[test]
fn a_probe_that_ends_without_a_verdict_is_free_for_the_next() {
    let balancer = of_weights(Balance::RoundRobin, &[1, 1]);
    balancer.struck(ServerId(0), Evidence::Unreachable, at_ms(0));
    for _ in 0..2 {
        let claims: Vec<Claim> = (0..4).map(|_| claim(balancer.pick(POOL, &key(1000)))).collect();
        assert_eq!(claims.iter().filter(|claim| claim.probe).count(), 1);
        claims.into_iter().for_each(|claim| assert_eq!(balancer.release(claim), None));
    }
}

#[test]
fn one_refusal_does_not_turn_off_a_site_with_one_server() {
    let balancer = of_weights(Balance::RoundRobin, &[1]);
    balancer.struck(ServerId(0), Evidence::Unreachable, at_ms(0));
    assert_eq!(visits(&balancer, 1, 100), "a".repeat(100), "it may have been a blip: everybody tries");
    assert!(balancer.worked(ServerId(0), at_ms(2)), "and the first success ends it");
    assert_eq!(balancer.servers().next().unwrap().failures, 0);
    assert!(is_none(&balancer, &Key { tried: &[ServerId(0)], ..key(3) }), "but nobody is sent twice");
}

#[test]
fn a_site_that_stays_dead_is_tried_by_few_and_comes_back_at_once() {
    let balancer = of_weights(Balance::LeastConnections, &[1, 1]);
    for server in [ServerId(0), ServerId(1)] {
        balancer.struck(server, Evidence::Unreachable, at_ms(0));
        assert_eq!(
            balancer.struck(server, Evidence::Unreachable, at_ms(1000)),
            Ejection::Longer(at_ms(3000))
        );
    }
    let mut tries = 0;
    for ms in 1001..2001 {
        if let Pick::Server(claim) = balancer.pick(POOL, &key(ms)) {
            tries += 1;
            assert!(!claim.probe);
            assert_eq!(balancer.struck(claim.server, Evidence::Unreachable, at_ms(ms)), Ejection::Already);
            assert_eq!(balancer.release(claim), None);
        }
    }
    assert_eq!(tries, 10, "one per 100 ms");
    let claim = claim(balancer.pick(POOL, &key(2101)));
    let back = claim.server;
    assert!(is_none(&balancer, &key(2101)));
    assert!(balancer.worked(back, at_ms(2102)));
    assert_eq!(balancer.release(claim), None);
    assert!((0..20).all(|_| visit(&balancer, &key(2102)) == back.0), "all go to the one that is back");
}

#[test]
fn when_all_fail_those_with_the_fewest_failures_are_used() {
    // (failures of the primaries, failures of the backup, who is used)
    let table: &[(&[u8], u8, &str)] =
        &[(&[1, 1, 3], 1, "abab"), (&[2, 1, 3], 1, "bbbb"), (&[3, 2, 3], 1, "dddd"), (&[3, 2, 3], 0, "dddd")];
    for kind in [Balance::RoundRobin, Balance::LeastConnections] {
        for (primaries, backup, expected) in table {
            let balancer = eject_all(kind, primaries, *backup);
            assert_eq!(visits(&balancer, 0, 4), *expected, "{kind:?} {primaries:?} {backup}");
        }
    }
}

/// Primaries and one backup with that many failures in a row, each at the end of the time of the one before. At moment
/// 0 all of them are ejected, except those without failures.
fn eject_all(kind: Balance, primaries: &[u8], backup: u8) -> Balancer {
    let mut specs: Vec<Spec> = primaries.iter().map(|_| (1, false, 0)).collect();
    specs.push((1, true, 0));
    let balancer = balancer(kind, 0, &specs);
    for (at, failures) in (0..).zip(primaries.iter().chain([&backup])) {
        (0..*failures).for_each(|_| {
            let view = balancer.servers().nth(at as usize).unwrap();
            balancer.struck(ServerId(at), Evidence::Unreachable, view.ejected_until.unwrap_or(Moment(0)));
        });
    }
    balancer
}

#[test]
fn a_poisoned_request_does_not_turn_off_the_servers() {
    let balancer = of_weights(Balance::RoundRobin, &[1, 1, 1]);
    for ms in 0..30 {
        let claim = claim(balancer.pick(POOL, &key(ms)));
        let ejection = balancer.ended(claim.server, Close::ServerClosedEarly, true, at_ms(ms));
        assert_eq!(ejection, Ejection::No);
        assert_eq!(balancer.release(claim), None);
        for n in 0..3 {
            assert!(!balancer.worked(ServerId(n), at_ms(ms)), "others are served in between");
        }
    }
    for n in 0..limits::EJECT_CLOSES_DEFAULT {
        let ejection = balancer.ended(ServerId(0), Close::ServerClosedEarly, true, at_ms(50));
        assert_eq!(ejection != Ejection::No, n + 1 == limits::EJECT_CLOSES_DEFAULT);
    }
}

#[test]
fn ends_that_concern_one_request_eject_nobody() {
    let balancer = of_weights(Balance::RoundRobin, &[1]);
    for close in Close::ALL.iter().filter(|close| evidence(**close, true) == Evidence::Nothing) {
        assert_eq!(balancer.ended(ServerId(0), *close, true, at_ms(0)), Ejection::No, "{close:?}");
    }
    for _ in 0..100 {
        assert_eq!(balancer.ended(ServerId(0), Close::ServerClosedEarly, false, at_ms(0)), Ejection::No);
    }
    assert_eq!(
        balancer.ended(ServerId(0), Close::ServerRefused, false, at_ms(0)),
        Ejection::New(at_ms(1000))
    );
}

#[test]
fn a_full_ejected_server_is_waited_for_when_it_is_the_only_one() {
    let balancer = balancer(Balance::RoundRobin, 1, &[(1, false, 1)]);
    let held = claim(balancer.pick(POOL, &key(0)));
    balancer.struck(ServerId(0), Evidence::Unreachable, at_ms(0));
    assert!(matches!(balancer.pick(POOL, &key(1)), Pick::Full));
    assert_eq!(balancer.enqueue(POOL, waiter(1), at_ms(1)), Ok(None));
    assert_eq!(balancer.release(held), Some(waiter(1)));
    let claim = claim(balancer.pick(POOL, &Key { turn: true, ..key(2) }));
    assert_eq!(balancer.release(claim), None);
}
