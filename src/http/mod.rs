//! HTTP: one request model, wire codecs beside it. No I/O.

pub mod rules;
