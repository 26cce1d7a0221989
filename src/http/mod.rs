//! HTTP: one request model, wire codecs beside it. No I/O.
//!
//! Bytes of a head go in, a [`message::Request`] or [`message::Response`] comes out: a borrowed view that lives for one
//! event. [`h1::write`] turns such a view back into bytes for the other side. This folder owns nothing of a
//! connection. Always true: what is written was parsed first, and framing is written from its meaning, never copied.

pub mod h1;
pub mod message;
pub mod rules;
