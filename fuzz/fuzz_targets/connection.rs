//! Two connections back to back: what one end writes, the other end reads.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ringgate_fuzz::connection::run(bytes));
