//! Randomness that a seed decides: the simulator's only source of chance.
//!
//! What goes in: a seed. What comes out: numbers, choices, lengths of time. It owns four words of state
//! (xoshiro256**, filled by splitmix64). Always true: the same seed and the same calls give the same answers.

use std::time::Duration;

/// A seeded generator of pseudo-random numbers.
#[derive(Clone, Debug)]
pub struct Random([u64; 4]);

impl Random {
    /// The generator of a seed; every seed is a good one.
    pub const fn new(seed: u64) -> Self {
        let mut state = [0u64; 4];
        let mut word = seed;
        let mut at = 0;
        while at < 4 {
            word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = word;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            state[at] = mixed ^ (mixed >> 31);
            at += 1;
        }
        Self(state)
    }

    /// 64 random bits.
    pub const fn bits(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.0;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included; `low` when `high` is not larger.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        if high <= low {
            return low;
        }
        low + self.below((high - low) as u64 + 1) as usize
    }

    /// True in `per_mille` of 1,000 cases. Zero draws nothing, so a fault that is off does not move the others.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.below(1000) < u64::from(per_mille)
    }

    /// True in half of the cases.
    pub fn coin(&mut self) -> bool {
        self.bits() & 1 == 1
    }

    /// One of several, all equally likely.
    ///
    /// # Panics
    /// When there are none.
    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }

    /// A length of time from `low` to `high`.
    pub fn time(&mut self, low: Duration, high: Duration) -> Duration {
        low + Duration::from_nanos(self.below(high.saturating_sub(low).as_nanos() as u64 + 1))
    }

    /// A generator of its own for one part of a run, so that its draws do not move those of other parts.
    pub const fn fork(&mut self) -> Self {
        Self::new(self.bits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..8).map(|_| random.bits()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn bounds_hold_and_are_reached() {
        let mut random = Random::new(1);
        let drawn: Vec<usize> = (0..200).map(|_| random.between(3, 5)).collect();
        for n in 3..=5 {
            assert!(drawn.contains(&n));
        }
        assert!(drawn.iter().all(|n| (3..=5).contains(n)));
        assert_eq!(random.between(9, 2), 9);
        assert!(!random.chance(0));
        assert!(random.chance(1000));
        let time = random.time(Duration::from_millis(1), Duration::from_millis(2));
        assert!(time >= Duration::from_millis(1) && time <= Duration::from_millis(2));
    }
}
