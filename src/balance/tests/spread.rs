//! Who gets how much.

use super::*;

const KINDS: [Balance; 4] =
    [Balance::RoundRobin, Balance::LeastConnections, Balance::IpHash, Balance::RandomTwo];

/// Exact counts of so many round-robin visits, drawn by four workers at once.
fn counts(balancer: &Balancer, ms: u64, servers: usize, visits_per_worker: usize) -> Vec<usize> {
    let worker = || {
        let mut counts = vec![0; servers];
        (0..visits_per_worker).for_each(|_| counts[visit(balancer, &key(ms)) as usize] += 1);
        counts
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
        let mut sum = vec![0; servers];
        for counts in workers.into_iter().map(|worker| worker.join().unwrap()) {
            sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        sum
    })
}

#[test]
fn a_person_with_curl_sees_a_b_a_b() {
    assert_eq!(visits(&of_weights(Balance::RoundRobin, &[1, 1]), 0, 6), "ababab");
    assert_eq!(visits(&of_weights(Balance::RoundRobin, &[5, 1, 1]), 0, 14), "aabacaaaabacaa");
    assert_eq!(visits(&of_weights(Balance::LeastConnections, &[1, 1, 1]), 0, 6), "abcabc");
}

#[test]
fn round_robin_is_exact_over_all_workers() {
    for weights in [&[1u32, 1][..], &[5, 1, 1], &[3, 2, 7, 1], &[1000, 999]] {
        let sum: u32 = weights.iter().sum();
        let balancer = of_weights(Balance::RoundRobin, weights);
        let got = counts(&balancer, 0, weights.len(), 3 * sum as usize);
        let expected: Vec<usize> = weights.iter().map(|weight| *weight as usize * 12).collect();
        assert_eq!(got, expected, "{weights:?}");
        assert!(in_flight(&balancer).iter().all(|load| *load == 0));
    }
}

#[test]
fn the_share_of_a_dead_server_goes_to_all_others_by_weight() {
    for (weights, dead) in
        [(&[1u32, 1, 1, 1][..], 1), (&[5, 1, 1], 0), (&[3, 2, 7, 1], 2), (&[1000, 1, 2], 0)]
    {
        let balancer = of_weights(Balance::RoundRobin, weights);
        balancer.struck(ServerId(dead as u32), Evidence::Unreachable, at_ms(0));
        let left: u32 = weights.iter().sum::<u32>() - weights[dead];
        let got = counts(&balancer, 1, weights.len(), 5 * left as usize);
        for (at, weight) in weights.iter().enumerate() {
            let expected = if at == dead { 0 } else { 20 * *weight as usize };
            assert_eq!(got[at], expected, "{weights:?} {got:?}");
        }
    }
}

#[test]
fn a_retry_goes_elsewhere_and_to_all_others_alike() {
    let balancer = of_weights(Balance::RoundRobin, &[1, 1, 1]);
    let mut counts = [0; 3];
    for _ in 0..30 {
        counts[visit(&balancer, &Key { tried: &[ServerId(1)], ..key(0) }) as usize] += 1;
    }
    assert_eq!(counts, [15, 0, 15]);
    for kind in KINDS {
        let balancer = of_weights(kind, &[1, 1, 1]);
        let tried = [ServerId(0), ServerId(2)];
        assert!((0..30).all(|ms| visit(&balancer, &Key { tried: &tried, ..key(ms) }) == 1), "{kind:?}");
        let all = [ServerId(0), ServerId(1), ServerId(2)];
        assert!(matches!(balancer.pick(POOL, &Key { tried: &all, ..key(0) }), Pick::None), "{kind:?}");
    }
}

#[test]
fn no_weight_no_work() {
    for kind in KINDS {
        let balancer = of_weights(kind, &[0, 3, 0]);
        assert!((0..20).all(|ms| visit(&balancer, &key(ms)) == 1), "{kind:?}");
        assert!(matches!(of_weights(kind, &[0, 0]).pick(POOL, &key(0)), Pick::None), "{kind:?}");
        assert!(matches!(of_weights(kind, &[]).pick(POOL, &key(0)), Pick::None), "{kind:?}");
    }
}

#[test]
fn backups_work_only_when_no_primary_can() {
    for kind in KINDS {
        let balancer = balancer(kind, 0, &[(1, false, 1), (1, true, 0), (0, false, 0)]);
        let held = claim(balancer.pick(POOL, &key(0)));
        assert_eq!(held.server, ServerId(0));
        assert!(matches!(balancer.pick(POOL, &key(0)), Pick::Full), "{kind:?}: a backup is not an overflow");
        let retry = Key { tried: &[ServerId(0)], ..key(0) };
        assert_eq!(visit(&balancer, &retry), 1, "{kind:?}: for this request there is no primary left");
        balancer.struck(ServerId(0), Evidence::Unreachable, at_ms(0));
        assert_eq!(visits(&balancer, 999, 3), "bbb", "{kind:?}");
        assert_eq!(balancer.release(held), None);
        let probe = claim(balancer.pick(POOL, &key(1000)));
        assert!(probe.probe && probe.server == ServerId(0), "{kind:?}");
        assert_eq!(visits(&balancer, 1000, 2), "bb", "{kind:?}");
        assert!(balancer.worked(ServerId(0), at_ms(1001)));
        assert_eq!(balancer.release(probe), None);
        assert_eq!(visits(&balancer, 1001, 3), "aaa", "{kind:?}");
    }
}

#[test]
fn backups_share_by_weight_too() {
    let balancer = balancer(Balance::RoundRobin, 0, &[(0, false, 0), (2, true, 0), (1, true, 0)]);
    assert_eq!(visits(&balancer, 0, 6), "bcbbcb");
}

#[test]
fn least_connections_follows_the_load_exactly() {
    let balancer = of_weights(Balance::LeastConnections, &[1, 2, 1]);
    let claims: Vec<Claim> = (0..12).map(|_| claim(balancer.pick(POOL, &key(0)))).collect();
    assert_eq!(in_flight(&balancer), [3, 6, 3]);
    for claim in claims {
        if claim.server != ServerId(0) {
            assert_eq!(balancer.release(claim), None);
        }
    }
    let more: Vec<Claim> = (0..9).map(|_| claim(balancer.pick(POOL, &key(0)))).collect();
    assert_eq!(in_flight(&balancer), [3, 6, 3], "the busy one got nothing until the others had caught up");
    assert_eq!(more.len(), 9);
}

#[test]
fn least_connections_is_exact_over_all_workers() {
    let balancer = of_weights(Balance::LeastConnections, &[1, 1, 1, 1, 1]);
    let hold = || (0..1000).map(|_| claim(balancer.pick(POOL, &key(0)))).collect::<Vec<_>>();
    let held: Vec<Claim> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(hold)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert_eq!(in_flight(&balancer), [800; 5]);
    assert_eq!(held.into_iter().filter_map(|claim| balancer.release(claim)).count(), 0);
    assert_eq!(in_flight(&balancer), [0; 5]);
}

#[test]
fn a_client_keeps_its_server() {
    let balancer = of_weights(Balance::IpHash, &[1, 1, 1, 1]);
    let of = |n: u32, ms| {
        let client = Some(IpAddr::V4(std::net::Ipv4Addr::from_bits(n)));
        visit(&balancer, &Key { client, ..key(ms) })
    };
    let before: Vec<u32> = (0..1000).map(|n| of(n, 0)).collect();
    assert_eq!(before, (0..1000).map(|n| of(n, 1)).collect::<Vec<_>>());
    balancer.struck(ServerId(3), Evidence::Unreachable, at_ms(1));
    for (n, was) in (0..1000).zip(&before) {
        let is = of(n, 2);
        assert!(is != 3 && (is == *was || *was == 3), "client {n}");
    }
    balancer.worked(ServerId(3), at_ms(1001));
    assert_eq!(before, (0..1000).map(|n| of(n, 1002)).collect::<Vec<_>>(), "exactly those are back");
}

#[test]
fn a_full_server_s_clients_go_to_their_second_choice() {
    let balancer = balancer(Balance::IpHash, 0, &[(1, false, 1), (1, false, 1)]);
    let (first, second) = (claim(balancer.pick(POOL, &key(0))), claim(balancer.pick(POOL, &key(0))));
    assert_ne!(first.server, second.server);
    assert!(matches!(balancer.pick(POOL, &key(0)), Pick::Full));
}

#[test]
fn random_two_prefers_the_less_loaded() {
    let balancer = of_weights(Balance::RandomTwo, &[1, 1, 1]);
    let held: Vec<Claim> = (0..300).map(|ms| claim(balancer.pick(POOL, &key(ms)))).collect();
    let load = in_flight(&balancer);
    let (least, most) = (load.iter().min().unwrap(), load.iter().max().unwrap());
    assert!(most - least <= 6, "{load:?}");
    assert_eq!(held.len(), 300);
}

#[test]
fn limits_hold_for_every_kind() {
    for kind in KINDS {
        let balancer = balancer(kind, 0, &[(1, false, 3), (5, false, 2), (1, true, 1)]);
        let held: Vec<Claim> = (0..5).map(|ms| claim(balancer.pick(POOL, &key(ms)))).collect();
        assert_eq!(in_flight(&balancer), [3, 2, 0], "{kind:?}");
        assert!(matches!(balancer.pick(POOL, &key(9)), Pick::Full), "{kind:?}");
        for claim in held {
            assert_eq!(balancer.release(claim), None);
        }
        assert_eq!(in_flight(&balancer), [0, 0, 0], "{kind:?}");
    }
}
