use super::*;
use crate::load::{Errors, Load};
use crate::measure::Memory;
use crate::scenario;

fn sample(round: u32, scenario: &'static str, proxy: Proxy, cpu_us: f64) -> Sample {
    Sample {
        round,
        scenario,
        proxy,
        load: Load {
            requests: 30_000,
            seconds: 3.0,
            p50_us: 10.0 * cpu_us,
            p99_us: 20.0 * cpu_us,
            ..Load::default()
        },
        cpu_us,
        busy: 0.9,
        foreign: 0.01,
        memory: Memory { rss_kib: 2048, pss_kib: 1024, peak_kib: 3072 },
        idle_bytes: None,
        negotiated: None,
        failure: None,
    }
}

fn report(samples: Vec<Sample>) -> Report {
    Report { samples, facts: vec![("CPU", "one".to_owned())] }
}

fn one(name: &str) -> &'static Scenario {
    scenario::select(&[name.to_owned()]).unwrap()[0]
}

#[test]
fn a_ratio_is_the_median_of_the_rounds() {
    // The second round was noisy for both; the ratio of the medians would be another number.
    let report = report(vec![
        sample(0, "small", Proxy::Haproxy, 10.0),
        sample(0, "small", Proxy::Ringgate, 6.0),
        sample(1, "small", Proxy::Ringgate, 21.0),
        sample(1, "small", Proxy::Haproxy, 30.0),
        sample(2, "small", Proxy::Haproxy, 10.0),
        sample(2, "small", Proxy::Ringgate, 5.0),
    ]);
    let ratio = report.ratio(one("small"), Proxy::Haproxy).unwrap();
    assert_eq!((ratio.middle, ratio.low, ratio.high), (0.6, 0.5, 0.7));
    assert_eq!(report.ratio(one("small"), Proxy::Nginx), None);
}

#[test]
fn a_failed_run_counts_in_no_number_and_is_told() {
    let mut failed = sample(1, "small", Proxy::Ringgate, 0.0);
    failed.failure = Some("it ended by itself".to_owned());
    let report = report(vec![
        sample(0, "small", Proxy::Haproxy, 10.0),
        sample(0, "small", Proxy::Ringgate, 6.0),
        sample(1, "small", Proxy::Haproxy, 10.0),
        failed,
    ]);
    let ratio = report.ratio(one("small"), Proxy::Haproxy).unwrap();
    assert_eq!((ratio.low, ratio.high), (0.6, 0.6));
    assert!(report.markdown(&[one("small")]).contains("ringgate failed in round 2: it ended by itself"));
}

#[test]
fn tells_targets_met_and_missed() {
    let report = report(vec![
        sample(0, "small", Proxy::Haproxy, 10.0),
        sample(0, "small", Proxy::Nginx, 7.0),
        sample(0, "small", Proxy::Ringgate, 6.5),
    ]);
    let text = report.markdown(&[one("small")]);
    assert!(text.contains("≤ 0.65 of HAProxy: met"), "{text}");
    assert!(text.contains("≤ 0.85 of nginx: **missed**, 0.93 (+9 %)"), "{text}");
    let json = report.json(&[one("small")]);
    assert_eq!(json["summary"][0]["targets"][0]["met"], true);
    assert_eq!(json["summary"][0]["targets"][1]["met"], false);
}

#[test]
fn single_is_decided_by_the_median_latency() {
    let report =
        report(vec![sample(0, "single", Proxy::Haproxy, 8.0), sample(0, "single", Proxy::Ringgate, 6.0)]);
    assert_eq!(report.judged(one("single"), Proxy::Ringgate).unwrap().middle, 60.0);
    assert!(report.markdown(&[one("single")]).contains("≤ 1 of HAProxy: met"));
}

#[test]
fn idle_connections_are_decided_by_bytes() {
    let mut idle = sample(0, "idle", Proxy::Ringgate, 6.0);
    idle.idle_bytes = Some(1500.0);
    let text = report(vec![idle]).markdown(&[one("idle")]);
    assert!(text.contains("≤ 1,024: **missed**, 1,500 (+46 %)"), "{text}");
}

#[test]
fn every_row_of_a_table_has_as_many_cells_as_its_head() {
    let mut samples = Vec::new();
    for scenario in scenario::SCENARIOS {
        for proxy in [Proxy::Haproxy, Proxy::HaproxySplice, Proxy::Ringgate] {
            samples.push(sample(0, scenario.name, proxy, 5.0));
        }
    }
    let text = report(samples).markdown(&scenario::SCENARIOS.iter().collect::<Vec<_>>());
    let mut cells = None;
    for line in text.lines() {
        let count = line.starts_with('|').then(|| line.matches('|').count());
        assert!(cells.is_none() || count.is_none() || cells == count, "{line}");
        cells = count;
    }
}

#[test]
fn errors_are_shown() {
    let mut bad = sample(0, "small", Proxy::Nginx, 7.0);
    bad.load.errors = Errors { status: 3, body: 4, ..Errors::default() };
    assert!(report(vec![bad]).markdown(&[one("small")]).contains("| **7** |"));
}

#[test]
fn resumed_handshakes_are_shown_as_a_share() {
    let mut resumed = sample(0, "tls-resumed", Proxy::Nginx, 7.0);
    resumed.load.resumed = Some(29_400);
    assert!(report(vec![resumed]).markdown(&[one("tls-resumed")]).contains("| 98.0 % |"));
}

#[test]
fn bars_hold_what_cpu_decides() {
    let report = report(vec![sample(0, "small", Proxy::Nginx, 7.0), sample(0, "single", Proxy::Nginx, 7.0)]);
    let groups = report.bars(&[one("small"), one("single"), one("large")]);
    assert_eq!(groups.len(), 1);
    assert_eq!(groups[0].bars.len(), 1);
}

#[test]
fn bars_are_as_long_as_the_ratio_of_the_table() {
    let report = report(vec![
        sample(0, "small", Proxy::Haproxy, 10.0),
        sample(0, "small", Proxy::Ringgate, 5.0),
        sample(1, "small", Proxy::Haproxy, 40.0),
        sample(1, "small", Proxy::Ringgate, 20.0),
    ]);
    let bars = &report.bars(&[one("small")])[0].bars;
    assert_eq!((bars[0].share, bars[1].share, bars[1].value), (1.0, 0.5, 12.5));
}

#[test]
fn numbers_are_short() {
    for (number, expected) in [
        (0.0, "0"),
        (1.234, "1.23"),
        (5.0, "5"),
        (9.999, "10.0"),
        (12.34, "12.3"),
        (99.96, "100"),
        (1234.5, "1,234"),
        (1_048_576.0, "1,048,576"),
        (-1500.0, "-1,500"),
        (f64::NAN, "–"),
    ] {
        assert_eq!(plain(number), expected);
    }
}
