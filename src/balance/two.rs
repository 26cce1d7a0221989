//! The less loaded of two servers picked by chance.
//!
//! What goes in: random bits, the members of a group and their load. What comes out: one of them. It owns nothing.
//! Always true: both are different whenever two fit, and each is drawn with a chance proportional to its weight.

use std::cmp::Ordering;

use super::{Group, hash, least};

/// Chooses among those members whose `load` (requests in flight) is `Some`.
pub(super) fn choose(group: &Group, chance: u64, load: impl Fn(usize) -> Option<u32>) -> Option<usize> {
    if group.order.is_empty() {
        return None;
    }
    // The schedule holds every server as often as its weight says: any turn of it is a weighted draw.
    let turns = group.order.len() as u64;
    let draw = |bits: u64| group.order[((bits * turns) >> 32) as usize] as usize;
    let (a, b) = (draw(chance & 0xffff_ffff), draw(chance >> 32));
    let fresh = hash::mix(chance);
    let a = if load(a).is_some() { a } else { among(group, fresh, |at| load(at).is_some())? };
    let fits = |at| at != a && load(at).is_some();
    let b = if fits(b) { Some(b) } else { among(group, hash::mix(fresh), fits) };
    let Some((b, load_b)) = b.and_then(|b| Some((b, load(b)?))) else { return Some(a) };
    Some(load(a).map_or(b, |load_a| less(group, (a, load_a), (b, load_b))))
}

fn less(group: &Group, a: (usize, u32), b: (usize, u32)) -> usize {
    if least::compare(group, b, a) == Ordering::Less { b.0 } else { a.0 }
}

/// A weighted draw among those that fit.
fn among(group: &Group, chance: u64, fits: impl Fn(usize) -> bool) -> Option<usize> {
    let members = || group.members.iter().enumerate().filter(|(at, _)| fits(*at));
    let sum: u64 = members().map(|(_, member)| u64::from(member.weight)).sum();
    let mut left = ((u128::from(chance) * u128::from(sum)) >> 64) as u64;
    let mut last = None;
    for (at, member) in members() {
        last = Some(at);
        match left.checked_sub(u64::from(member.weight)) {
            None => break,
            Some(rest) => left = rest,
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u64 = 30_000;

    fn count(weights: &[u32], loads: &[Option<u32>]) -> Vec<u64> {
        let group = Group::of_weights(weights);
        let mut counts = vec![0; weights.len()];
        for n in 0..DRAWS {
            if let Some(at) = choose(&group, hash::mix(n), |at| loads[at]) {
                counts[at] += 1;
            }
        }
        counts
    }

    fn near(got: u64, expected: f64) -> bool {
        (got as f64 - expected).abs() < 5.0 * expected.sqrt().max(1.0)
    }

    #[test]
    fn the_most_loaded_of_all_is_never_chosen() {
        let counts = count(&[1, 1, 1, 1], &[Some(1), Some(2), Some(3), Some(9)]);
        // The best of 4 wins whenever it is drawn: 1 - (3/4 * 2/3) = 1/2; the next ones 1/3 and 1/6.
        assert_eq!(counts[3], 0);
        for (at, share) in [(0, 2.0), (1, 3.0), (2, 6.0)] {
            assert!(near(counts[at], DRAWS as f64 / share), "{counts:?}");
        }
    }

    #[test]
    fn equals_are_drawn_by_weight() {
        let counts = count(&[3, 1], &[Some(0), Some(0)]);
        assert!(near(counts[0], DRAWS as f64 * 0.75), "{counts:?}");
    }

    #[test]
    fn only_those_that_fit_are_drawn() {
        let counts = count(&[1, 1, 1], &[Some(0), None, Some(0)]);
        assert_eq!(counts[1], 0);
        assert!(near(counts[0], DRAWS as f64 / 2.0), "{counts:?}");
        assert_eq!(count(&[1, 1], &[None, Some(5)]), [0, DRAWS]);
        assert_eq!(count(&[1, 1], &[None, None]), [0, 0]);
        assert_eq!(count(&[1], &[Some(5)]), [DRAWS]);
        assert_eq!(choose(&Group::of_weights(&[]), 1, |_| Some(0)), None);
    }

    #[test]
    fn a_heavy_server_does_not_hide_the_other() {
        let counts = count(&[1000, 1], &[Some(1000), Some(0)]);
        assert_eq!(counts, [0, DRAWS], "two that fit are always both looked at");
    }
}
