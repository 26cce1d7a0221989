//! MySQL and MariaDB: what statements say.
//!
//! What goes in: the bytes of a statement. What comes out: tokens ([`lexer`]), a judgement of where the statement
//! belongs and what it leaves behind ([`classify`], [`verdict`]), its shape ([`digest`]). It owns nothing. Always true:
//! no I/O, no configuration.

pub mod classify;
pub mod digest;
pub mod lexer;
pub mod verdict;
pub mod words;
