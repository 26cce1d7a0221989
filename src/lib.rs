//! # ringgate: the design
//!
//! (written below, once the shape is proven)

pub mod buf;
pub mod clock;
pub mod close;
pub mod counters;
pub mod ids;
pub mod limits;
pub mod net;

pub mod http;
pub mod proxyproto;
pub mod tls;

pub mod balance;
pub mod config;
pub mod route;

pub mod session;

pub mod ring;

pub mod worker;

pub mod cli;
