//! Workers (stub).
