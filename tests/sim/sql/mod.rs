//! SQL in the simulated world: a primary and replicas that follow it late, sessions of the program between them and
//! scripted clients, and servers whose connections die at any byte.
//!
//! The seed decides who lags, who dies, who takes over, and what clients say. Checkers:
//!
//! * no write runs at a replica; none runs twice; what was acknowledged is there once, what was refused or rolled back is
//!   not there;
//! * all statements of a transaction run on one server connection, which is the one that began it;
//! * a session reads what it wrote (and, if the configuration says so, what anybody wrote), with its own variables,
//!   database, prepared statements and last insert id;
//! * a client gets its own rows, in whole packets with the right sequence ids, and hears of no change that it did not ask for;
//! * in the end no session, socket, page or claim is left, and nothing has waited for longer than it may.
//!
//! `SEEDS`, `SEED`, `FROM` and `FAILURES` are as for the other runs: `SEED=n cargo test --test sim -- --nocapture every_sql_seed`.

mod backend;
mod caller;
mod mind;
mod monitor;
mod plot;
mod run;
mod serving;
mod statement;
mod truth;
mod wire;

use std::sync::Mutex;

use crate::{attempt, sweep};
use truth::Tally;

const SEEDS: u64 = 500;

#[test]
fn every_sql_seed_holds() {
    let folder = tempfile::TempDir::new().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "watching\n").unwrap();
    let total = Mutex::new(Tally::default());
    let seeds = sweep("every_sql_seed", SEEDS, |seed, trace| {
        let tally = attempt(|| run::run(seed, trace, &secret))?;
        total.lock().unwrap().add(&tally);
        Ok(())
    });
    let total = total.into_inner().unwrap();
    println!("{seeds} seeds: {total:?}");
    if seeds >= SEEDS {
        let kinds = [
            total.at_replicas,
            total.fenced,
            total.waits,
            total.waited_in_vain,
            total.committed,
            total.failed,
            total.lost,
            total.unknown,
            total.deaths,
            total.promotions,
            total.survived,
            total.shared,
            total.resets,
            total.brought,
            total.pings,
            total.queued,
            total.borrowed,
            total.locks,
            total.rotations,
        ];
        assert!(kinds.iter().all(|count| *count > 20), "the runs tested too little: {total:?}");
    }
}
