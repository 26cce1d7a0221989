//! The SQL door before real servers: a MariaDB primary with two replicas, and the clients that people use.
//!
//! `SELECT @@server_id` says where a read ran: 1 is the primary.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

#[path = "sql/big.rs"]
mod big;
#[path = "sql/compress.rs"]
mod compress;
#[path = "sql/consistency.rs"]
mod consistency;
#[path = "sql/crowd.rs"]
mod crowd;
#[path = "sql/door.rs"]
mod door;
#[path = "sql/drivers.rs"]
mod drivers;
#[path = "sql/failures.rs"]
mod failures;
#[path = "sql/forms.rs"]
mod forms;
#[path = "sql/kill.rs"]
mod kill;
#[path = "sql/login.rs"]
mod login;
#[path = "sql/mysql9.rs"]
mod mysql9;
#[path = "sql/others.rs"]
mod others;
#[path = "sql/pooling.rs"]
mod pooling;
#[path = "sql/rust.rs"]
mod rust;
#[path = "sql/seeing.rs"]
mod seeing;
#[path = "sql/split.rs"]
mod split;
#[path = "sql/table.rs"]
mod table;
