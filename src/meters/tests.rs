//! Meters: buckets, percentiles, what carries over.

use super::*;
use crate::access::{Split, Tls};
use crate::clock::Moment;

#[test]
fn bounds_grow_and_hold_one_two_and_five_of_every_decade() {
    assert!(BOUNDS.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!((BOUNDS[0], BOUNDS[41]), (10_000, 70_000_000_000));
    for nanos in [10_000, 20_000, 50_000, 100_000, 5_000_000, 1_000_000_000, 20_000_000_000] {
        assert!(BOUNDS.contains(&nanos), "{nanos}");
    }
}

#[test]
fn a_time_is_in_the_bucket_whose_bound_it_does_not_exceed() {
    let cases = [(0, 0), (10_000, 0), (10_001, 1), (15_000, 1), (70_000_000_000, 41), (70_000_000_001, 42)];
    for (nanos, expected) in cases {
        let histogram = Histogram::default();
        histogram.note(Timed::new(Duration::from_nanos(nanos)));
        let mut spread = Spread::default();
        spread.add(&histogram);
        assert_eq!((spread.buckets[expected], spread.count(), spread.nanos), (1, 1, nanos), "{nanos}");
    }
}

#[test]
fn percentiles_lie_within_their_bucket() {
    let histogram = Histogram::default();
    (1..=1000).for_each(|ms| histogram.note(Timed::new(Duration::from_millis(ms))));
    let mut spread = Spread::default();
    assert_eq!(percentile_ms(&[0.0; 43], 0.5), None);
    spread.add(&histogram);
    let buckets = spread.buckets.map(|count| count as f64);
    for (share, exact) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0)] {
        let told = percentile_ms(&buckets, share).unwrap();
        assert!((told - exact).abs() < exact * 0.08, "{share}: {told}");
    }
    let later = spread;
    assert_eq!(later.since(&spread).count(), 0);
}

fn config(text: &str) -> Config {
    Config::parse(text, "site.toml").unwrap()
}

const SITE: &str = "[http.main]\nlisten = [\"127.0.0.1:80\"]\nroutes = [ { path = \"/a\", pool = \"one\" }, { pool = \"two\" } ]\n\
                    [pool.one]\nservers = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\n[pool.two]\nservers = [\"127.0.0.1:1\"]\n";

fn access(pool: u32, server: u32, status: u16, close: Close) -> Access {
    let steps = Steps {
        asked: Moment(2_000),
        picked: Moment(3_000),
        connected: Moment(10_000),
        answered: Moment(1_000_000),
        ended: Moment(2_000_000),
        ..Steps::new(Moment(1_000))
    };
    Access {
        block: Block::Http(HttpId(0)),
        route: Some(pool),
        pool: Some(PoolId(pool)),
        server: Some(ServerId(server)),
        status,
        close,
        bytes_in: 10,
        bytes_out: 20,
        steps,
        retries: 0,
        reused: false,
        tls: Tls::None,
        split: Split::default(),
        line: Vec::new(),
    }
}

#[test]
fn everything_that_took_part_counts_an_exchange() {
    let config = config(SITE);
    let meters = Meters::new(&config, 2);
    meters.note(WorkerId(0), &access(0, 1, 200, Close::Done));
    meters.note(WorkerId(1), &access(0, 1, 503, Close::Done));
    meters.note(WorkerId(1), &access(0, 1, 502, Close::ServerRefused));
    for meter in [meters.http(HttpId(0)), meters.pool(PoolId(0)), meters.routes(HttpId(0)).next().unwrap()] {
        let sums = meter.sums();
        assert_eq!(
            (sums.classes, sums.bytes_in, sums.bytes_out, sums.failed),
            ([0, 0, 1, 0, 0, 2], 30, 60, 2)
        );
    }
    // The refused one is the business of the attempt.
    assert_eq!(meters.server(ServerId(1)).sums().failed, 1);
    assert_eq!(meters.server(ServerId(0)).sums(), Sums::default());
    let spread = |step| meters.pool(PoolId(0)).spread(step);
    assert_eq!(Step::ALL.map(|step| spread(step).nanos), [2_970_000, 5_997_000, 3_000, 21_000]);
    assert_eq!(meters.server(ServerId(1)).spread(Step::Queue).count(), 0);
}

#[test]
fn what_two_configurations_have_goes_on() {
    let old = config(SITE);
    let meters = Meters::new(&old, 1);
    meters.note(WorkerId(0), &access(0, 1, 200, Close::Done));
    meters.listener(ListenerId(0)).enter(WorkerId(0));
    let text = SITE
        .replace("\"127.0.0.1:1\", \"127.0.0.1:2\"", "\"127.0.0.1:2\", \"127.0.0.1:3\"")
        .replace("/a", "/b");
    let new = config(&text);
    let next = meters.next(&old, &new);
    assert_eq!(next.pool(PoolId(0)).sums().exchanges(), 1);
    let servers = [0, 1, 2].map(|at| next.server(ServerId(at)).sums().exchanges());
    assert_eq!(servers, [1, 0, 0]);
    let routes: Vec<u64> = next.routes(HttpId(0)).map(|one| one.sums().exchanges()).collect();
    assert_eq!(routes, [0, 0]);
    // Late exchanges of the old edition count too.
    meters.note(WorkerId(0), &access(0, 1, 200, Close::Done));
    assert_eq!(next.http(HttpId(0)).sums().exchanges(), 2);
    meters.listener(ListenerId(0)).leave(WorkerId(0));
    assert_eq!(next.listener(ListenerId(0)).sums(), (1, 0));
}
