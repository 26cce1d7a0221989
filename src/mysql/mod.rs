//! The MySQL and MariaDB client/server protocol, both roles, and what SQL text means, without I/O.
//!
//! Bytes go in, meaning comes out, and the other way round; each file is one part and says more. Owns no connection and no
//! configuration. Always true: nothing here panics or reserves memory because of what a packet claims. Names are those of
//! MySQL's protocol documentation (dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html) and of MariaDB's
//! (mariadb.com/kb/en/clientserver-protocol).

#[cfg(test)]
mod tests;

pub mod auth;
pub mod command;
pub mod compress;
pub mod errors;
pub mod facts;
pub mod generic;
pub mod handshake;
pub mod ownid;
pub mod packet;
pub mod prepared;
pub mod reply;
pub mod track;
pub mod wire;

pub mod classify;
pub mod digest;
pub mod lexer;
pub mod long;
pub mod verdict;
pub mod words;
