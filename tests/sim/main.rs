//! The whole program in a simulated world: workers and sessions over the simulated kernel, scripted clients and servers.
//!
//! Each seed decides a configuration, servers, clients and their requests, and which faults strike. Checkers:
//!
//! * every request is answered exactly once, in order, with the right bytes, or ends in an error that has a reason;
//! * a client never sees another's bytes, and never takes a truncated answer for a complete one;
//! * a request that is not idempotent reaches servers at most once; nothing of a malformed one does;
//! * pages stay within the pool, nothing is stuck, and in the end no socket is open, every page is home, no server has a
//!   request in flight and every worker ends.
//!
//! `SEEDS=n` runs that many seeds (default 2,000). A failure prints its seed; `SEED=n cargo test --test sim every_seed`
//! replays it with a trace of everything that happened. After `FAILURES=n` (default 10) it stops. SQL has seeds of its own, see
//! `sql`.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod answer;
mod changes;
mod client;
mod closing;
mod ledger;
mod message;
mod pattern;
mod proxy;
mod raw;
mod run;
mod scenario;
mod script;
mod secure;
mod server;
mod shape;
mod sql;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use ledger::Tally;
use ringgate::close::Close;
use secure::Material;

const SEEDS: u64 = 2_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Runs one seed; a panic becomes an error.
fn attempt<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result,
        Err(panic) => {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(format!("panicked: {}", said.unwrap_or_default()))
        }
    }
}

/// Runs the seeds that the environment asks for, else so many; the answer is how many. `one` is told whether to trace.
fn sweep(test: &str, default: u64, one: impl Fn(u64, bool) -> Result<(), String> + Sync) -> u64 {
    if let Some(seed) = number("SEED") {
        if let Err(why) = one(seed, true) {
            panic!("seed {seed}: {why}");
        }
        return 1;
    }
    let seeds = number("SEEDS").unwrap_or(default);
    let next = AtomicU64::new(number("FROM").unwrap_or(0));
    let end = next.load(Ordering::Relaxed) + seeds;
    let failed = Mutex::new(Vec::new());
    let enough = number("FAILURES").unwrap_or(10) as usize;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || failed.lock().unwrap().len() >= enough {
                        return;
                    }
                    if let Err(why) = one(seed, false) {
                        failed.lock().unwrap().push((seed, why));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    for (seed, why) in &failed {
        let why: String = why.chars().take(12_000).collect();
        println!("seed {seed}: {why}\n  replay: SEED={seed} cargo test --test sim -- --nocapture {test}\n");
    }
    assert!(failed.is_empty(), "{} seeds failed", failed.len());
    seeds
}

#[test]
fn every_seed_holds() {
    let material = Material::new();
    let total = Mutex::new(Tally::default());
    let seeds = sweep("every_seed", SEEDS, |seed, trace| {
        let tally = attempt(|| run::run(seed, trace, &material))?;
        total.lock().unwrap().add(&tally);
        Ok(())
    });
    let total = total.into_inner().unwrap();
    println!("{seeds} seeds: {total:?}");
    for (close, count) in Close::ALL.iter().zip(&total.closes) {
        println!("  {count:8} {}", close.word());
    }
    if seeds >= SEEDS {
        let kinds =
            [total.relayed, total.cut, total.own, total.lost, total.retried, total.tunnels, total.refused];
        assert!(kinds.iter().all(|count| *count > 20), "the runs tested too little: {total:?}");
    }
}
