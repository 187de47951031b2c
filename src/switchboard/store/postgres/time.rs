//! The time by which the store goes: that of the database, which all that work on it share.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::session::{Fault, Session};
use crate::model::clock::{Clock, Timestamp};

/// Clocks that differ by less count as one, in milliseconds. No lease is so short that it matters; and on the database's
/// own machine, whose clock may be set while it is measured, a moment is then exactly what it was said to be.
const NEAR: i64 = 100;

/// How far the database's clock is ahead of this machine's, as far as is known.
pub(super) struct Ahead {
    ours: Arc<dyn Clock>,
    millis: AtomicI64,
}

impl Ahead {
    pub(super) fn new(ours: Arc<dyn Clock>) -> Self {
        Self { ours, millis: AtomicI64::new(0) }
    }

    pub(super) async fn measure(&self, db: &Session) -> Result<(), Fault> {
        // The time of the statement, where `now()` is that of its transaction.
        let theirs = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint";
        let before = self.ours.now();
        let theirs = db.row(theirs, &[]).await?.ok_or(Fault::Unreadable)?.try_get(0)?;
        self.learn(before.as_millis(), theirs, self.ours.now().as_millis());
        Ok(())
    }

    /// The database's clock said `theirs` at some moment between two of ours. What that does not contradict is left as it
    /// is, so that an answer that took long moves nothing.
    fn learn(&self, before: i64, theirs: i64, after: i64) {
        let (least, most) = (theirs.saturating_sub(after), theirs.saturating_sub(before));
        let known = self.millis.load(Ordering::Relaxed);
        if known < least.saturating_sub(NEAR) || known > most.saturating_add(NEAR) {
            self.millis.store(least.midpoint(most), Ordering::Relaxed);
        }
    }

    /// A moment of this machine's clock, or of one that a test moves, by the clock of the database.
    pub(super) fn theirs(&self, at: Timestamp) -> Timestamp {
        Timestamp::from_millis(at.as_millis().saturating_add(self.millis.load(Ordering::Relaxed)))
    }

    /// A moment of the database's clock, by that of this machine.
    pub(super) fn ours(&self, at: Timestamp) -> Timestamp {
        Timestamp::from_millis(at.as_millis().saturating_sub(self.millis.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::clock::SystemClock;

    #[test]
    fn what_a_measurement_does_not_contradict_stays() {
        let ahead = Ahead::new(Arc::new(SystemClock::new()));
        for (before, theirs, after, known) in [
            (1000, 1003, 1009, 0),
            (1000, 900, 1000, 0),
            (1000, 1100, 1000, 0),
            (1000, 5000, 1010, 3995),
            (1000, 5020, 1010, 3995),
            // It took long, and says little.
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
