//! How many retries a channel may make in all.

use std::time::Duration;

use crate::model::error::{Error, Result};

/// How many retries there may be in all, so that a gateway that is down is not asked ever more: a fifth of what is
/// sent, or ten where that is more, over about ten minutes.
///
/// The ten are a floor under the fifth and not on top of it: without it a service that sends little could never try
/// again. What lies back counts less and less, to a third of itself in ten minutes.
///
/// ```
/// use std::time::Duration;
/// use civic_messaging::layer::retry::Budget;
///
/// let (mut budget, now) = (Budget::new(), Duration::ZERO);
/// (0..1_000).for_each(|_| budget.first_try(now));
/// assert_eq!((0..1_000).filter(|_| budget.try_retry(now)).count(), 200);
/// ```
#[derive(Clone, Debug)]
pub struct Budget {
    share: f64,
    floor: f64,
    firsts: f64,
    retries: f64,
    counted: Duration,
}

/// In which what lies back becomes a third.
const HORIZON: Duration = Duration::from_secs(600);

impl Budget {
    /// A fifth, or ten.
    pub const fn new() -> Self {
        Self { share: 0.2, floor: 10.0, firsts: 0.0, retries: 0.0, counted: Duration::ZERO }
    }

    /// Another share of what is sent, 0 to 1, and another floor.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a share outside 0 to 1.
    pub fn share(self, share: f64, floor: u32) -> Result<Self> {
        if !(0.0..=1.0).contains(&share) {
            return Err(Error::config("share", "must be between 0 and 1"));
        }
        Ok(Self { share, floor: floor.into(), ..self })
    }

    /// Counts a first try. `now` is any time that does not go back.
    pub fn first_try(&mut self, now: Duration) {
        self.forget(now);
        self.firsts += 1.0;
    }

    /// Takes a retry, if there is one left.
    pub fn try_retry(&mut self, now: Duration) -> bool {
        self.forget(now);
        // The sums of many small numbers are a little off.
        let left = self.retries + 1.0 <= (self.share * self.firsts).max(self.floor) + 1e-6;
        if left {
            self.retries += 1.0;
        }
        left
    }

    fn forget(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.counted);
        // Less than this changes nothing that matters, and is counted with what follows.
        if passed >= Duration::from_millis(100) {
            let kept = (-passed.as_secs_f64() / HORIZON.as_secs_f64()).exp();
            (self.firsts, self.retries, self.counted) = (self.firsts * kept, self.retries * kept, now);
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_service_that_sends_little_can_try_again_and_not_for_ever() {
        let mut budget = Budget::new();
        budget.first_try(Duration::ZERO);
        assert_eq!((0..100).filter(|_| budget.try_retry(Duration::ZERO)).count(), 10);
        let hour = Duration::from_secs(3600);
        assert_eq!((0..100).filter(|_| budget.try_retry(hour)).count(), 9);
        for wrong in [-0.1, 1.1, f64::NAN] {
            assert_eq!(Budget::new().share(wrong, 0).unwrap_err().field(), Some("share"));
        }
    }

    proptest! {
        /// Whenever the tries come: all retries are at most the share of all first tries.
        #[test]
        fn there_are_never_more_retries_than_the_share(
            steps in proptest::collection::vec((0..2_000_u64, any::<bool>(), 1..50_u32), 1..60)
        ) {
            let mut budget = Budget::new().share(0.2, 0).unwrap();
            let (mut now, mut firsts, mut retries) = (Duration::ZERO, 0_u32, 0_u32);
            for (passed, first, count) in steps {
                now += Duration::from_secs(passed);
                for _ in 0..count {
                    if first {
                        budget.first_try(now);
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
