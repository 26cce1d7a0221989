//! Tests of the balancer as a whole.

mod next;
mod outage;
mod spread;
mod standing;
mod waiting;

use std::net::SocketAddr;

use super::*;
use crate::config::model::{Pool, PoolHealth, PoolTimes, Server};
use crate::ids::{SessionId, WorkerId};
use crate::net::Address;

const POOL: PoolId = PoolId(0);

/// A server: weight, backup, connections_max.
type Spec = (u32, bool, u32);

/// One pool with these servers and a queue of `queue_max`.
fn balancer(balance: Balance, queue_max: usize, specs: &[Spec]) -> Balancer {
    Balancer::new(&config(balance, queue_max, specs))
}

fn config(balance: Balance, queue_max: usize, specs: &[Spec]) -> Config {
    let server = |(n, (weight, backup, connections_max)): (u16, &Spec)| Server {
        name: n.to_string(),
        host: String::new(),
        pool: POOL,
        address: Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 8000 + n))),
        weight: *weight,
        backup: *backup,
        connections_max: *connections_max,
        lookup: None,
    };
    let servers: Vec<Server> = (0u16..).zip(specs).map(server).collect();
    let pool = Pool {
        name: "test".into(),
        balance,
        servers: (0u32..).take(servers.len()).map(ServerId).collect(),
        by_role: false,
        tls: None,
        send_proxy: None,
        times: PoolTimes::default(),
        attempts_max: 3,
        queue_max,
        idle_max: 0,
        keep_alive: true,
        health: PoolHealth::default(),
    };
    Config { pools: vec![pool], servers, ..Config::default() }
}

/// Servers without limits, all primaries.
fn of_weights(balance: Balance, weights: &[u32]) -> Balancer {
    let specs: Vec<Spec> = weights.iter().map(|weight| (*weight, false, 0)).collect();
    balancer(balance, 0, &specs)
}

fn at_ms(ms: u64) -> Moment {
    Moment(ms * 1_000_000)
}

fn key(ms: u64) -> Key<'static> {
    Key { client: None, tried: &[], now: at_ms(ms), chance: hash::mix(ms), turn: false }
}

fn claim(pick: Pick) -> Claim {
    match pick {
        Pick::Server(claim) => claim,
        other => panic!("no server: {other:?}"),
    }
}

/// Picks, gives back at once, and tells who it was.
fn visit(balancer: &Balancer, key: &Key<'_>) -> u32 {
    let claim = claim(balancer.pick(POOL, key));
    let server = claim.server;
    assert_eq!(balancer.release(claim), None);
    server.0
}

/// As many visits at one moment, as letters.
fn visits(balancer: &Balancer, ms: u64, times: usize) -> String {
    (0..times).map(|_| char::from(b'a' + visit(balancer, &key(ms)) as u8)).collect()
}

fn waiter(n: u32) -> Waiter {
    Waiter { worker: WorkerId(0), session: SessionId { slot: n, generation: 0 } }
}

fn in_flight(balancer: &Balancer) -> Vec<u32> {
    balancer.servers().map(|server| server.in_flight).collect()
}

#[test]
fn the_view_shows_load_and_health() {
    let balancer = balancer(Balance::RoundRobin, 0, &[(2, false, 0), (0, false, 0), (1, true, 0)]);
    let claim = claim(balancer.pick(POOL, &key(0)));
    assert_eq!(balancer.struck(ServerId(2), Evidence::Unreachable, at_ms(10)), Ejection::New(at_ms(1010)));
    let server = |n, weight, in_flight, failures, ejected_until| ServerView {
        server: ServerId(n),
        pool: POOL,
        weight,
        admin: Admin::Ready,
        in_flight,
        checked: false,
        failed: 0,
        down: false,
        failures,
        ejected_until,
        warming_until: None,
    };
    let expected =
        [server(0, 2, 1, 0, None), server(1, 0, 0, 0, None), server(2, 1, 0, 1, Some(at_ms(1010)))];
    assert_eq!(balancer.servers().collect::<Vec<_>>(), expected);
    assert_eq!(balancer.release(claim), None);
    assert_eq!(in_flight(&balancer), [0, 0, 0]);
}

#[test]
fn pools_are_apart() {
    let mut config = Config::default();
    for n in 0..2 {
        let one = balancer_config(n);
        config.pools.extend(one.pools);
        config.servers.extend(one.servers);
    }
    let balancer = Balancer::new(&config);
    balancer.struck(ServerId(0), Evidence::Unreachable, at_ms(0));
    for n in 0..2 {
        let claim = claim(balancer.pick(PoolId(n), &key(0)));
        assert_eq!(claim.server, ServerId(n));
        assert_eq!(balancer.release(claim), None);
    }
    assert!((0..10).all(|_| balancer.may_retry(PoolId(0), at_ms(0))));
    assert!(!balancer.may_retry(PoolId(0), at_ms(0)));
    assert!(balancer.may_retry(PoolId(1), at_ms(0)));
}

fn balancer_config(n: u32) -> Config {
    let server = Server {
        name: n.to_string(),
        host: String::new(),
        pool: PoolId(n),
        address: Address::Unix(format!("/run/{n}.sock").into()),
        weight: 1,
        backup: false,
        connections_max: 0,
        lookup: None,
    };
    let pool = Pool {
        name: n.to_string(),
        balance: Balance::RoundRobin,
        servers: vec![ServerId(n)],
        by_role: false,
        tls: None,
        send_proxy: None,
        times: PoolTimes::default(),
        attempts_max: 3,
        queue_max: 0,
        idle_max: 0,
        keep_alive: true,
        health: PoolHealth::default(),
    };
    Config { pools: vec![pool], servers: vec![server], ..Config::default() }
}
