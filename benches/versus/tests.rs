//! Tests of the parts of the comparison that are pure: parsing, medians, tables, the chart.
//!
//! What is this: the same files as `main.rs` without its `main`, as an ordinary test program, because a benchmark
//! without a harness has no tests of its own. In and out: nothing. Owns nothing. Always true: it starts no program.
#![allow(dead_code, reason = "what only main.rs uses")]
#![allow(clippy::disallowed_methods, reason = "a load generator reads the clock; sessions must not")]

mod chart;
mod configs;
mod load;
mod measure;
mod perf;
mod programs;
mod report;
mod sample;
mod scenario;
mod sql;
mod tls_load;
