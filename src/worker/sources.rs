//! Where a worker's date and its random numbers come from.
//!
//! What goes in: the time of a turn; the random number before. What comes out: the text of the `Date` field; the next
//! number. It owns the text. Always true: a date is at most a second old; a state of the random numbers is never zero.

use std::time::Duration;

use crate::clock::{self, Moment};

/// The `Date` field's value, made once per second.
#[derive(Debug, Default)]
pub(super) struct Date {
    text: String,
    until: Moment,
}

impl Date {
    /// Brings it up to date; true once per second.
    pub(super) fn refresh(&mut self, now: Moment) -> bool {
        let is_old = now >= self.until;
        if is_old {
            self.text = httpdate::fmt_http_date(clock::wall());
            self.until = now + Duration::from_secs(1);
        }
        is_old
    }

    /// Its text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// The next state of a worker's random numbers (xorshift64*).
pub(super) const fn next_chance(mut state: u64) -> u64 {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_does_not_repeat_soon() {
        let mut seen = std::collections::HashSet::new();
        let mut state = 7;
        for _ in 0..10_000 {
            state = next_chance(state);
            assert!(seen.insert(state));
        }
    }
}
