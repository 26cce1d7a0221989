//! Slow start: a server that comes back gets a tenth of its share at first, and all of it at the end of its time.
//!
//! What goes in: until when a server warms up, and the pick. What comes out: whether it takes part in this pick. It owns
//! nothing. Always true: when nobody else has a place, servers that warm up are used without this question.
//!
//! Chance decides, except for `IpHash`: there the client's address does, so that with a growing share each client moves to
//! the server once and stays. With `LeastConnections` a server that has next to nothing in flight wins every pick that it
//! takes part in, unless others are idle too: else it takes part in no more than its share of all picks.

use std::time::Duration;

use super::state::{Group, Member, PoolState};
use super::{Key, hash};
use crate::clock::Moment;
use crate::config::model::Balance;
use crate::limits::SLOW_START_PERCENT;

/// A share of one.
const WHOLE: u64 = 1 << 32;

/// Whether a member that warms up until then takes part in a pick.
pub(super) fn admits(member: &Member, until: Moment, group: &Group, pool: &PoolState, key: &Key<'_>) -> bool {
    let share = share(until.since(key.now), pool.slow_start);
    let bits = match pool.balance {
        Balance::IpHash => hash::client_key(key.client),
        _ => key.chance,
    };
    let share = match pool.balance {
        Balance::LeastConnections if !has_idle(group, member) => {
            share * u64::from(member.weight) / group.weights.max(1)
        }
        _ => share,
    };
    hash::mix(hash::mix(bits) ^ member.seed) >> 32 < share
}

/// Whether another member has nothing in flight.
fn has_idle(group: &Group, member: &Member) -> bool {
    group.members.iter().any(|other| other.server != member.server && other.state.is_idle())
}

/// The share of a server that is fully warm after `left`, of `WHOLE`.
fn share(left: Duration, slow_start: Duration) -> u64 {
    let begin = WHOLE * SLOW_START_PERCENT / 100;
    let cold = left.min(slow_start).as_nanos();
    let missing = u128::from(WHOLE - begin) * cold / slow_start.as_nanos().max(1);
    WHOLE - u64::try_from(missing).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_grows_from_a_tenth_to_all() {
        let time = Duration::from_secs(10);
        for (left_ms, percent) in [(20_000, 10), (10_000, 10), (5_000, 55), (1_000, 91), (0, 100)] {
            let share = share(Duration::from_millis(left_ms), time);
            assert_eq!((share * 100 + WHOLE / 2) / WHOLE, percent, "{left_ms}");
        }
        assert_eq!(share(Duration::from_secs(1), Duration::ZERO), WHOLE, "it was turned off meanwhile");
    }
}
