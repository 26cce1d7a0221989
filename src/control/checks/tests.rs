//! Counting: what a row of outcomes leads to.

use super::*;
use crate::config::model::Ask;

fn check(rise: u32, fall: u32) -> Check {
    let time = Duration::from_secs(1);
    Check { ask: Ask::Tcp, every: time, timeout: time, rise, fall, port: None, tls: None }
}

fn watched(check: &Check) -> Watched {
    let plan = Plan {
        check: check.clone(),
        address: Address::Unix("/run/a".into()),
        host: String::new(),
        send_proxy: None,
    };
    Watched {
        title: "pool web: server a (10.0.0.1:80)".into(),
        plan: RefCell::new(Rc::new(plan)),
        server: Cell::new(ServerId(0)),
        view: RefCell::default(),
        successes: Cell::new(0),
        is_down: Cell::new(false),
        task: RefCell::default(),
    }
}

#[test]
fn a_row_of_outcomes_is_a_verdict() {
    // `+` and `-` are checks; behind each comes what it leads to: `.` nothing, `u` up, `d` down, `s` up as before.
    for (rise, fall, row) in [
        (2, 3, "+s+.+.-.-.+.-.-.-d-.-.+.-.+.+u+."),
        (1, 1, "-d+u-d+u"),
        (2, 3, "-.-.-d+.+u"),
        (3, 2, "-.+.-.-d+.+.-.+.+.+u"),
    ] {
        let check = check(rise, fall);
        let watched = watched(&check);
        let mut found = String::new();
        for outcome in row.chars().step_by(2) {
            let verdict =
                watched.judge(if outcome == '+' { Ok("200".into()) } else { Err("no".into()) }, &check);
            found.push(outcome);
            found.push(match verdict {
                Verdict::Same => '.',
                Verdict::StillUp => 's',
                Verdict::Up(_) => 'u',
                Verdict::Down(_) => 'd',
            });
        }
        assert_eq!(found, row);
    }
}

#[test]
fn changes_are_told_in_one_line() {
    let check = check(2, 3);
    let watched = watched(&check);
    let refused = || watched.judge(Err("connection refused".into()), &check);
    _ = (refused(), refused());
    let Verdict::Down(line) = refused() else { panic!("three in a row") };
    assert_eq!(line, "pool web: server a (10.0.0.1:80) is down: connection refused (3 of 3 checks)");
    let view = watched.view.borrow().clone();
    assert_eq!((view.result(), view.failures, view.at.is_some()), ("failed", 3, true));
    _ = watched.judge(Ok("200 in 1.2 ms".into()), &check);
    let Verdict::Up(line) = watched.judge(Ok("200 in 1.2 ms".into()), &check) else { panic!("two in a row") };
    assert_eq!(line, "pool web: server a (10.0.0.1:80) is up: 200 in 1.2 ms (2 of 2 checks)");
}

#[test]
fn places_in_the_interval_are_spread() {
    let second = Duration::from_secs(1);
    let mut places: Vec<u128> = (0..100).map(|n| part(second, mix(n)).as_millis()).collect();
    places.sort_unstable();
    assert!(places[99] < 1000 && places.windows(2).all(|pair| pair[1] - pair[0] < 100), "{places:?}");
    assert_eq!((part(second, 0), part(Duration::ZERO, u64::MAX)), (Duration::ZERO, Duration::ZERO));
}
