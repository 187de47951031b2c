//! The clock of the store: the database's, which all workers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::model::clock::{Clock, Timestamp};

/// The offset below which clocks count as equal, in milliseconds. No lease is so short that it matters. On the
/// database's own machine, whose clock may be set during a measurement, times then convert to themselves.
const NEAR: i64 = 100;

/// The measured offset of the database's clock from this machine's.
pub(super) struct Ahead {
    ours: Arc<dyn Clock>,
    millis: AtomicI64,
}

impl Ahead {
    pub(super) fn new(ours: Arc<dyn Clock>) -> Self {
        Self { ours, millis: AtomicI64::new(0) }
    }

    /// Measures the offset by a reading of the database's clock, in milliseconds.
    pub(super) async fn measure<E>(&self, reading: impl Future<Output = Result<i64, E>>) -> Result<(), E> {
        let before = self.ours.now();
        let theirs = reading.await?;
        self.learn(before.as_millis(), theirs, self.ours.now().as_millis());
        Ok(())
    }

    /// Learns that the database's clock showed `theirs` at some time between two of ours. An offset within that range
    /// is unchanged, so that a slow answer has no effect.
    fn learn(&self, before: i64, theirs: i64, after: i64) {
        let (least, max) = (theirs.saturating_sub(after), theirs.saturating_sub(before));
        let known = self.millis.load(Ordering::Relaxed);
        if known < least.saturating_sub(NEAR) || known > max.saturating_add(NEAR) {
            self.millis.store(least.midpoint(max), Ordering::Relaxed);
        }
    }

    /// Converts a time of this machine's clock, or a test's, to the clock of the database.
    pub(super) fn theirs(&self, at: Timestamp) -> Timestamp {
        Timestamp::from_millis(at.as_millis().saturating_add(self.millis.load(Ordering::Relaxed)))
    }

    /// Converts a time of the database to this machine's clock.
    pub(super) fn ours(&self, at: Timestamp) -> Timestamp {
        Timestamp::from_millis(at.as_millis().saturating_sub(self.millis.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::clock::SystemClock;

    #[test]
    fn offset_within_a_measurement_is_unchanged() {
        let ahead = Ahead::new(Arc::new(SystemClock::new()));
        for (before, theirs, after, known) in [
            (1000, 1003, 1009, 0),
            (1000, 900, 1000, 0),
            (1000, 1100, 1000, 0),
            (1000, 5000, 1010, 3995),
            (1000, 5020, 1010, 3995),
            // A slow answer, which shows little.
            (1000, 5020, 61_000, 3995),
            (1000, 5200, 1010, 4195),
            (1000, 0, 1002, -1001),
        ] {
            ahead.learn(before, theirs, after);
            assert_eq!(ahead.theirs(Timestamp::from_millis(7)), Timestamp::from_millis(7 + known), "{theirs}");
        }
        assert_eq!(ahead.theirs(Timestamp::from_millis(i64::MIN)), Timestamp::from_millis(i64::MIN));
    }
}
