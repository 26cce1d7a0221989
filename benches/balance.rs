//! Nanoseconds of one pick and its release, per kind of balancing and number of servers; and of counting an exchange.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ringgate::access::{Access, Block, Split, Steps, Tls};
use ringgate::balance::{Balancer, Key, Pick};
use ringgate::clock::Moment;
use ringgate::close::Close;
use ringgate::config::model::{Balance, Config, Pool, PoolHealth, PoolTimes, Server};
use ringgate::ids::{HttpId, PoolId, ServerId, WorkerId};
use ringgate::meters::Meters;
use ringgate::net::Address;

fn config(balance: Balance, count: u32, weighted: bool) -> Config {
    let server = |n: u32| Server {
        name: n.to_string(),
        host: String::new(),
        pool: PoolId(0),
        address: Address::Tcp(SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 80))),
        weight: if weighted { 1 + n % 7 } else { 1 },
        backup: false,
        connections_max: 0,
        lookup: None,
    };
    let pool = Pool {
        name: "bench".into(),
        balance,
        servers: (0..count).map(ServerId).collect(),
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
    Config { pools: vec![pool], servers: (0..count).map(server).collect(), ..Config::default() }
}

fn pick_and_release(criterion: &mut Criterion) {
    let kinds = [
        ("round-robin", Balance::RoundRobin),
        ("least-connections", Balance::LeastConnections),
        ("ip-hash", Balance::IpHash),
        ("random-two", Balance::RandomTwo),
    ];
    for weighted in [false, true] {
        for (name, balance) in kinds {
            let name = if weighted { format!("{name}, weighted") } else { name.to_string() };
            let mut group = criterion.benchmark_group(name);
            for count in [2, 10, 100] {
                let balancer = Balancer::new(&config(balance, count, weighted));
                let mut chance = 0u64;
                group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
                    bencher.iter(|| {
                        chance = chance
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1_442_695_040_888_963_407);
                        let client = Some(IpAddr::V4(Ipv4Addr::from_bits(chance as u32)));
                        let key = Key { client, tried: &[], now: Moment(1), chance, turn: false };
                        match balancer.pick(PoolId(0), black_box(&key)) {
                            Pick::Server(claim) => balancer.release(claim),
                            Pick::Full | Pick::None => None,
                        }
                    });
                });
            }
            group.finish();
        }
    }
}

#[allow(clippy::unwrap_used, reason = "the configuration is written above")]
fn count(criterion: &mut Criterion) {
    let config = Config::parse(
        "[http.main]\nlisten = [\"127.0.0.1:80\"]\nroutes = [ { pool = \"web\" } ]\n\
         [pool.web]\nservers = [\"127.0.0.1:1\", \"127.0.0.1:2\", \"127.0.0.1:3\", \"127.0.0.1:4\"]\n",
        "bench",
    );
    let meters = Meters::new(&config.unwrap(), 2);
    let steps = Steps {
        asked: Moment(2_000),
        picked: Moment(3_000),
        connected: Moment(3_000),
        answered: Moment(153_000),
        ended: Moment(154_000),
        ..Steps::new(Moment(1_000))
    };
    let mut access = Access {
        block: Block::Http(HttpId(0)),
        route: Some(0),
        pool: Some(PoolId(0)),
        server: Some(ServerId(0)),
        status: 200,
        close: Close::Done,
        bytes_in: 100,
        bytes_out: 1000,
        steps,
        retries: 0,
        reused: true,
        tls: Tls::None,
        split: Split::default(),
        line: Vec::new(),
    };
    let mut turn = 0;
    criterion.bench_function("count an exchange", |bencher| {
        bencher.iter(|| {
            turn += 1;
            access.server = Some(ServerId(turn % 4));
            meters.note(WorkerId(0), black_box(&access));
        });
    });
}

criterion_group!(benches, pick_and_release, count);
criterion_main!(benches);
