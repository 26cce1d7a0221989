//! HTTP/1.0 and 1.1 on the wire (RFC 9112).
//!
//! Heads ([`head`]), the length of a body ([`length`]), the chunked coding ([`chunked`]) and what we write ([`write`](mod@write)).
//! Pure functions and small values over byte slices that the caller owns.

pub mod chunked;
pub mod head;
pub mod length;
pub mod write;
