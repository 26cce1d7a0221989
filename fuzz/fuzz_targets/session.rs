//! Any list of events: sessions keep their contract, and what they write is well formed.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ringgate_fuzz::session::run(bytes));
