//! Time: the only place where a clock is read.
//!
//! What goes in: nothing. What comes out: [`Moment`]s (monotonic) and the wall clock for the `Date` field.
//! It owns nothing. Always true: a session never reads a clock; it is given `cx.now`, read once per turn of the
//! worker, so that the simulator can run the same code on virtual time.

use std::ops::{Add, Sub};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// A monotonic point in time: nanoseconds since the process first asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// A moment that never comes: the value of an unset deadline.
    pub const NEVER: Self = Self(u64::MAX);

    /// How long ago `earlier` was; zero when it lies in the future.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// True for every moment except [`Moment::NEVER`].
    pub const fn is_set(self) -> bool {
        self.0 != u64::MAX
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    /// Saturates below [`Moment::NEVER`]: a very long wait is long, not unset.
    #[allow(clippy::suspicious_arithmetic_impl)]
    fn add(self, wait: Duration) -> Self {
        let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos).min(u64::MAX - 1))
    }
}

impl Sub<Moment> for Moment {
    type Output = Duration;

    fn sub(self, earlier: Moment) -> Duration {
        self.since(earlier)
    }
}

/// Reads the monotonic clock.
#[allow(clippy::disallowed_methods)]
pub fn now() -> Moment {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    // One is added so that the first moment differs from the default value.
    Moment(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX - 1).saturating_add(1))
}

/// Reads the wall clock.
#[allow(clippy::disallowed_methods)]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Processor time that the calling thread used so far.
pub fn thread_time() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map_or(Duration::ZERO, Duration::from)
}

/// Processor time that the process used so far.
pub fn process_time() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID)
        .map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_wait_is_not_never() {
        assert!((Moment(5) + Duration::MAX).is_set());
        assert!(!Moment::NEVER.is_set());
    }

    #[test]
    fn time_goes_forward() {
        let first = now();
        assert!(now() >= first);
        assert_eq!(first.since(first + Duration::from_secs(1)), Duration::ZERO);
    }
}
