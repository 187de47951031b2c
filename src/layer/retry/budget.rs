//! The retry budget, as a pure value.

use std::time::Duration;

use crate::model::error::{Error, Result};

/// Retry budget: limits retries to a fifth of the first attempts, or to 10 if that is more, over about ten minutes. It
/// keeps retries from multiplying the load on a gateway that is down.
///
/// The 10 are a minimum and not added to the fifth: without it, a service that sends little could never retry. Older
/// attempts count exponentially less: about a third (1/e) after ten minutes.
///
/// ```
/// use std::time::Duration;
/// use civic_messaging::layer::retry::RetryBudget;
///
/// let (mut budget, now) = (RetryBudget::new(), Duration::ZERO);
/// (0..1_000).for_each(|_| budget.record_first_attempt(now));
/// assert_eq!((0..1_000).filter(|_| budget.try_retry(now)).count(), 200);
/// ```
#[derive(Clone, Debug)]
pub struct RetryBudget {
    share: f64,
    min: f64,
    firsts: f64,
    retries: f64,
    counted: Duration,
}

/// The time constant of the exponential decay.
const DECAY: Duration = Duration::from_secs(600);

impl RetryBudget {
    /// Creates a budget of a fifth of the first attempts, and at least 10.
    pub const fn new() -> Self {
        Self { share: 0.2, min: 10.0, firsts: 0.0, retries: 0.0, counted: Duration::ZERO }
    }

    /// Sets the share of first attempts, 0 to 1, and the minimum.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a share outside 0 to 1.
    pub fn share(self, share: f64, min: u32) -> Result<Self> {
        if !(0.0..=1.0).contains(&share) {
            return Err(Error::config("share", "must be between 0 and 1"));
        }
        Ok(Self { share, min: min.into(), ..self })
    }

    /// Counts a first attempt. `now` comes from any monotonic clock.
    pub fn record_first_attempt(&mut self, now: Duration) {
        self.decay(now);
        self.firsts += 1.0;
    }

    /// Takes one retry from the budget. Returns `true` if there was one left.
    pub fn try_retry(&mut self, now: Duration) -> bool {
        self.decay(now);
        // The tolerance absorbs the rounding errors of many small sums.
        let left = self.retries + 1.0 <= (self.share * self.firsts).max(self.min) + 1e-6;
        if left {
            self.retries += 1.0;
        }
        left
    }

    fn decay(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.counted);
        // A shorter time is negligible by itself, and is counted with the next one.
        if passed >= Duration::from_millis(100) {
            let kept = (-passed.as_secs_f64() / DECAY.as_secs_f64()).exp();
            (self.firsts, self.retries, self.counted) = (self.firsts * kept, self.retries * kept, now);
        }
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn low_volume_service_gets_the_minimum_of_retries() {
        let mut budget = RetryBudget::new();
        budget.record_first_attempt(Duration::ZERO);
        assert_eq!((0..100).filter(|_| budget.try_retry(Duration::ZERO)).count(), 10);
        let hour = Duration::from_secs(3600);
        assert_eq!((0..100).filter(|_| budget.try_retry(hour)).count(), 9);
        for wrong in [-0.1, 1.1, f64::NAN] {
            assert_eq!(RetryBudget::new().share(wrong, 0).unwrap_err().field(), Some("share"));
        }
    }

    proptest! {
        /// At any time, retries are at most the share of all first attempts.
        #[test]
        fn retries_never_exceed_the_share(
            steps in proptest::collection::vec((0..2_000_u64, any::<bool>(), 1..50_u32), 1..60)
        ) {
            let mut budget = RetryBudget::new().share(0.2, 0).unwrap();
            let (mut now, mut firsts, mut retries) = (Duration::ZERO, 0_u32, 0_u32);
            for (passed, first, count) in steps {
                now += Duration::from_secs(passed);
                for _ in 0..count {
                    if first {
                        budget.record_first_attempt(now);
                        firsts += 1;
                    } else {
                        retries += u32::from(budget.try_retry(now));
                    }
                }
                prop_assert!(f64::from(retries) <= 0.2 * f64::from(firsts) + 1e-6, "{} of {}", retries, firsts);
            }
        }
    }
}
