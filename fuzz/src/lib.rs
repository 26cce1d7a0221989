//! What the fuzz targets of whole sessions share: bytes as choices, a stand-in for the worker, and the other ends.
//!
//! What goes in: the fuzzer's bytes. What comes out: a panic when a rule is broken. It owns no socket and no thread, and
//! reads no clock but through ringgate. Always true: the same bytes do the same.

pub mod answers;
pub mod choices;
pub mod connection;
pub mod requests;
pub mod session;
pub mod talk;
pub mod worker;
