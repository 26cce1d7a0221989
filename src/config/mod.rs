//! Configuration: text -> raw (serde, spans) -> check (collects all mistakes) -> model (plain, ids instead of names).

pub mod model;
