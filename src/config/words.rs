//! Words of the file for values of the model.
//!
//! What goes in: a value. What comes out: its word. It owns nothing. Always true: the file takes the word for that value.

use super::model::Balance;

impl Balance {
    /// The word of the file.
    pub const fn word(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::LeastConnections => "least-connections",
            Self::IpHash => "ip-hash",
            Self::RandomTwo => "random-two",
        }
    }
}
