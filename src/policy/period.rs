//! Periods after which budgets and free allowances start again.

use serde::{Deserialize, Serialize};

use super::hours::{Date, Zone};
use crate::model::clock::Timestamp;
use crate::model::error::Result;

/// A period after which a budget or a free allowance starts again, at midnight in British time.
///
/// ```
/// use civic_messaging::policy::BillingPeriod;
///
/// let at = "2026-03-31T23:30:00Z".parse()?; // 00:30 on 1 April in British Summer Time
/// assert_eq!(BillingPeriod::FinancialYear.start(at)?, "2026-04-01".parse()?);
/// assert_eq!(BillingPeriod::Month.end(at)?, "2026-04-30T23:00:00Z".parse()?);
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BillingPeriod {
    /// A day.
    Day,
    /// A calendar month.
    Month,
    /// A calendar year.
    Year,
    /// A council's financial year, from 1 April.
    FinancialYear,
}

impl BillingPeriod {
    /// Returns the name in configurations.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
            Self::Year => "year",
            Self::FinancialYear => "financial_year",
        }
    }

    /// Returns the first day of the period that contains this time.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) outside the years 1996 to 2099.
    pub fn start(self, at: Timestamp) -> Result<Date> {
        let (date, _) = Zone::default().local(at)?;
        match self {
            Self::Day => Ok(date),
            Self::Month => Date::new(date.year(), date.month(), 1),
            Self::Year => Date::new(date.year(), 1, 1),
            Self::FinancialYear => Date::new(date.year() - i16::from(date.month() < 4), 4, 1),
        }
    }

    /// Returns the time at which the next period starts.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn end(self, at: Timestamp) -> Result<Timestamp> {
        let start = self.start(at)?;
        let next = match self {
            Self::Day => start.plus_days(1),
            Self::Month if start.month() == 12 => Date::new(start.year() + 1, 1, 1)?,
            Self::Month => Date::new(start.year(), start.month() + 1, 1)?,
            Self::Year | Self::FinancialYear => Date::new(start.year() + 1, start.month(), 1)?,
        };
        Zone::default().midnight(next)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [BillingPeriod; 4] =
        [BillingPeriod::Day, BillingPeriod::Month, BillingPeriod::Year, BillingPeriod::FinancialYear];

    #[test]
    fn periods_change_at_local_midnight() {
        use BillingPeriod::{Day, FinancialYear, Month, Year};
        for (period, at, start, end) in [
            (Day, "2026-10-25T23:59:59Z", "2026-10-25", "2026-10-26T00:00:00Z"),
            (Day, "2026-10-24T23:30:00Z", "2026-10-25", "2026-10-26T00:00:00Z"), // 25 hours long
            (Month, "2026-12-31T12:00:00Z", "2026-12-01", "2027-01-01T00:00:00Z"),
            (Month, "2026-06-30T23:00:00Z", "2026-07-01", "2026-07-31T23:00:00Z"),
            (Year, "2026-12-01T12:00:00Z", "2026-01-01", "2027-01-01T00:00:00Z"),
            (FinancialYear, "2027-03-31T22:59:59Z", "2026-04-01", "2027-03-31T23:00:00Z"),
            (FinancialYear, "2027-03-31T23:00:00Z", "2027-04-01", "2028-03-31T23:00:00Z"),
        ] {
            let at = at.parse().unwrap();
            assert_eq!(period.start(at).unwrap().to_string(), start, "{period:?} {at}");
            assert_eq!(period.end(at).unwrap(), end.parse().unwrap(), "{period:?} {at}");
        }
        assert!(Day.start(Timestamp::from_millis(i64::MAX)).is_err());
    }

    proptest! {
        #[test]
        fn periods_follow_each_other_without_gap(secs in 900_000_000_i64..4_000_000_000) {
            let at = Timestamp::from_secs(secs);
            for period in ALL {
                let end = period.end(at).unwrap();
                prop_assert!(end > at);
                let before = Timestamp::from_millis(end.as_millis() - 1);
                prop_assert_eq!(period.start(before).unwrap(), period.start(at).unwrap());
                prop_assert!(period.start(end).unwrap() > period.start(at).unwrap());
            }
        }
    }
}
