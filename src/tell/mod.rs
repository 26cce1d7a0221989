//! A configuration in words: what listens, what leads where, what would happen to a request and why.
//!
//! What goes in: a configuration, and the balancer at work where there is one. What comes out: text for people, the same on
//! the command line and in the admin interface. It owns nothing. Always true: it decides nothing itself; it asks the
//! code that serves requests.

pub mod explain;
pub mod summary;
pub mod url;
