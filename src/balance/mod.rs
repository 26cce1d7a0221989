//! Balancing (stub).
