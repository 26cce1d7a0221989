//! Least connections: the server with the fewest requests in flight in relation to its weight.
//!
//! What goes in: the members of a group and their load as it is now. What comes out: the least loaded. It owns
//! nothing. Always true: servers that are equally loaded take turns in the order of the weighted schedule, so that
//! a quiet pool works like round robin and does not always hit the first.

use std::cmp::Ordering;
use std::sync::atomic::AtomicU64;

use super::{Group, robin};

/// Chooses among those members whose `load` (requests in flight) is `Some`; answers with the load it saw.
///
/// `None` when nobody is left, or when all loads changed while it looked.
pub(super) fn choose(
    group: &Group,
    tickets: &AtomicU64,
    load: impl Fn(usize) -> Option<u32>,
) -> Option<(usize, u32)> {
    let mut best: Option<(usize, u32)> = None;
    let mut shared = false;
    for at in 0..group.members.len() {
        let Some(in_flight) = load(at) else { continue };
        let order = best.map_or(Ordering::Less, |best| compare(group, (at, in_flight), best));
        if order == Ordering::Less {
            (best, shared) = (Some((at, in_flight)), false);
        } else if order == Ordering::Equal {
            shared = true;
        }
    }
    let best = best?;
    if !shared {
        return Some(best);
    }
    let equal = |at| load(at).filter(|in_flight| compare(group, (at, *in_flight), best) == Ordering::Equal);
    let at = robin::next(group, tickets, |at| equal(at).is_some())?;
    equal(at).map(|in_flight| (at, in_flight))
}

/// Compares in_flight / weight of two members without dividing.
pub(super) fn compare(group: &Group, (a, load_a): (usize, u32), (b, load_b): (usize, u32)) -> Ordering {
    let (weight_a, weight_b) = (group.members[a].weight, group.members[b].weight);
    (u64::from(load_a) * u64::from(weight_b)).cmp(&(u64::from(load_b) * u64::from(weight_a)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(weights: &[u32], loads: &[Option<u32>], times: usize) -> Vec<Option<(usize, u32)>> {
        let group = Group::of_weights(weights);
        let tickets = AtomicU64::new(0);
        (0..times).map(|_| choose(&group, &tickets, |at| loads[at])).collect()
    }

    /// Weights, loads, who is chosen at which load.
    type Row = (&'static [u32], &'static [Option<u32>], Option<(usize, u32)>);

    #[test]
    fn the_least_loaded_in_relation_to_its_weight_wins() {
        let table: &[Row] = &[
            (&[1, 1, 1], &[Some(3), Some(2), Some(4)], Some((1, 2))),
            (&[1, 10], &[Some(1), Some(9)], Some((1, 9))),
            (&[1, 10], &[Some(1), Some(11)], Some((0, 1))),
            (&[1, 1, 1], &[None, Some(7), None], Some((1, 7))),
            (&[1, 1], &[None, None], None),
            (&[], &[], None),
            (&[1000, 1], &[Some(u32::MAX), Some(u32::MAX)], Some((0, u32::MAX))),
        ];
        for (weights, loads, expected) in table {
            assert_eq!(run(weights, loads, 1), [*expected], "{weights:?} {loads:?}");
        }
    }

    #[test]
    fn equals_take_turns_by_weight() {
        let idle = |weights: &[u32], loads: &[Option<u32>], times| -> String {
            run(weights, loads, times).iter().flatten().map(|(at, _)| char::from(b'a' + *at as u8)).collect()
        };
        assert_eq!(idle(&[1, 1, 1], &[Some(0); 3], 6), "abcabc");
        assert_eq!(idle(&[5, 1, 1], &[Some(0); 3], 7), "aabacaa");
        // The busy first server does not hand its turns to the second alone.
        assert_eq!(idle(&[1, 1, 1], &[Some(1), Some(0), Some(0)], 6), "bcbcbc");
    }
}
