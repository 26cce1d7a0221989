//! Round robin: a smooth weighted schedule, computed once, and one counter that all workers share.
//!
//! What goes in: weights, then a counter and a test of who can be used. What comes out: whose turn it is. It owns
//! nothing. Always true: every value of the counter (a ticket) belongs to one pick of one worker, so over a whole
//! period each server gets exactly its share, however many workers draw. A ticket whose server cannot be used is
//! consumed for everybody: the others go on in their own order, which spreads the missing share over all of them
//! in relation to their weights, instead of giving it to whoever stands next in the schedule.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Group;
use crate::limits;

/// How often a skip is computed again because another worker drew a ticket meanwhile.
const SKIP_TRIES: u32 = 8;

/// Writes the turns of one period: indexes into `weights`, none of which may be 0.
///
/// The order is the smooth one: each turn every server gains its weight, the one that has most takes the turn and
/// pays the sum of all weights. Weights 5, 1, 1 give a a b a c a a. The weights are first reduced by their common
/// divisor; when their sum still exceeds [`limits::SCHEDULE_TURNS_MAX`] they are scaled down to it and rounded, but
/// never below 1 (so the period may be longer by the number of servers at most).
pub(super) fn schedule(weights: &[u32]) -> Box<[u32]> {
    let shares = reduce(scale(reduce(weights.iter().map(|weight| u64::from(*weight)).collect())));
    if shares.iter().all(|share| *share == 1) {
        return (0u32..).take(shares.len()).collect();
    }
    let sum: i64 = shares.iter().sum::<u64>().cast_signed();
    let mut gained = vec![0i64; shares.len()];
    let mut order = Vec::new();
    for _ in 0..sum {
        let mut best = 0;
        for at in 0..shares.len() {
            gained[at] += shares[at].cast_signed();
            if gained[at] > gained[best] {
                best = at;
            }
        }
        gained[best] -= sum;
        order.push(u32::try_from(best).unwrap_or(0));
    }
    order.into()
}

fn reduce(mut shares: Vec<u64>) -> Vec<u64> {
    let divisor = shares.iter().fold(0, |a, b| common_divisor(a, *b)).max(1);
    shares.iter_mut().for_each(|share| *share /= divisor);
    shares
}

fn scale(mut shares: Vec<u64>) -> Vec<u64> {
    let sum: u64 = shares.iter().sum();
    if sum > limits::SCHEDULE_TURNS_MAX {
        for share in &mut shares {
            *share = ((*share * limits::SCHEDULE_TURNS_MAX + sum / 2) / sum).max(1);
        }
    }
    shares
}

fn common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// Draws the next ticket whose server `fits`. `None` when nobody fits.
pub(super) fn next(group: &Group, tickets: &AtomicU64, fits: impl Fn(usize) -> bool) -> Option<usize> {
    if group.order.is_empty() {
        return None;
    }
    let ticket = tickets.fetch_add(1, Relaxed);
    let first = at(&group.order, ticket);
    if fits(first) { Some(first) } else { skip(group, tickets, ticket, fits) }
}

/// Moves the counter behind the next ticket whose server `fits`.
#[cold]
fn skip(group: &Group, tickets: &AtomicU64, drawn: u64, fits: impl Fn(usize) -> bool) -> Option<usize> {
    if !(0..group.members.len()).any(&fits) {
        // Nobody had this turn, so it is given back: else picks that ask twice (for servers that are well, then for
        // any) would draw two tickets each, and with two servers always reach the same.
        let _ = tickets.compare_exchange(drawn.wrapping_add(1), drawn, Relaxed, Relaxed);
        return None;
    }
    let turns = group.order.len() as u64;
    for _ in 0..SKIP_TRIES {
        let from = tickets.load(Relaxed);
        let ticket = (from..from.saturating_add(turns)).find(|ticket| fits(at(&group.order, *ticket)))?;
        if tickets.compare_exchange(from, ticket.wrapping_add(1), Relaxed, Relaxed).is_ok() {
            return Some(at(&group.order, ticket));
        }
    }
    // Too many others draw: one by one costs more, but nobody can interfere.
    let draw = |_| at(&group.order, tickets.fetch_add(1, Relaxed));
    (0..turns).map(draw).find(|at| fits(*at))
}

fn at(order: &[u32], ticket: u64) -> usize {
    order[(ticket % order.len() as u64) as usize] as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_smooth() {
        let table: &[(&[u32], &str)] = &[
            (&[], ""),
            (&[7], "a"),
            (&[1, 1], "ab"),
            (&[3, 3, 3], "abc"),
            (&[5, 1, 1], "aabacaa"),
            (&[2, 1], "aba"),
            (&[200, 100], "aba"),
            (&[1, 2], "bab"),
            (&[4, 2, 2], "abca"),
        ];
        for (weights, expected) in table {
            let order: String = schedule(weights).iter().map(|at| char::from(b'a' + *at as u8)).collect();
            assert_eq!(&order, expected, "{weights:?}");
        }
    }

    #[test]
    fn every_server_gets_exactly_its_weight_and_never_waits_long() {
        for weights in [&[5u32, 1, 1][..], &[1000, 999, 998], &[1, 2, 3, 4, 5, 6, 7], &[1000, 1]] {
            let order = schedule(weights);
            let sum: u32 = weights.iter().sum();
            assert_eq!(order.len(), sum as usize);
            for (at, weight) in weights.iter().enumerate() {
                let turns: Vec<usize> = (0..order.len()).filter(|i| order[*i] as usize == at).collect();
                assert_eq!(turns.len(), *weight as usize);
                let gap = turns.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
                assert!(gap <= 2 * (sum / weight) as usize + weights.len(), "{weights:?} {at} {gap}");
            }
        }
    }

    #[test]
    fn a_long_schedule_is_rounded_and_leaves_nobody_out() {
        let mut weights = vec![1000, 997, 1, 1];
        weights.extend([991; 10]);
        let order = schedule(&weights);
        let sum: u32 = weights.iter().sum();
        assert!(order.len() as u64 <= limits::SCHEDULE_TURNS_MAX + weights.len() as u64);
        for (at, weight) in weights.iter().enumerate() {
            let turns = order.iter().filter(|i| **i as usize == at).count();
            let exact = f64::from(*weight) * order.len() as f64 / f64::from(sum);
            assert!(turns >= 1 && (turns as f64 - exact).abs() <= 2.0, "{at} {turns} {exact}");
        }
    }

    #[test]
    fn skipped_tickets_are_consumed() {
        let group = Group::of_weights(&[1, 1, 1]);
        let tickets = AtomicU64::new(0);
        let picks: Vec<_> = (0..6).filter_map(|_| next(&group, &tickets, |at| at != 1)).collect();
        assert_eq!(picks, [0, 2, 0, 2, 0, 2]);
    }

    #[test]
    fn a_ticket_that_nobody_used_is_given_back() {
        let group = Group::of_weights(&[1, 1]);
        let tickets = AtomicU64::new(0);
        for expected in [0, 1, 0, 1] {
            assert_eq!(next(&group, &tickets, |_| false), None);
            assert_eq!(next(&group, &tickets, |_| true), Some(expected));
        }
        assert_eq!(next(&Group::of_weights(&[]), &tickets, |_| true), None);
    }
}
