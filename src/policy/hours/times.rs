//! Opening times, as a council writes them.

use serde::{Deserialize, Serialize};

use super::bank_holidays::Division;
use super::day::{self, Date, Opening};
use super::zone::Zone;
use crate::model::error::{Error, Result};

/// The opening times from which [`Hours`](super::Hours) are built.
///
/// ```
/// use civic_messaging::policy::hours::{OpeningTimes, Division, Hours};
///
/// let hours = Hours::new(
///     &OpeningTimes::new("Mon-Wed, Fri 09:00-12:30, 13:30-17:00")
///         .week("Thu 09:00-19:00")
///         .bank_holidays(Division::Scotland)
///         .closed("2026-12-24".parse()?, "Christmas Eve")
///         .extra("2026-12-28".parse()?, "10:00-14:00"),
/// )?;
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpeningTimes {
    /// Lines such as `Mon-Fri 09:00-17:00` or `Mon, Thu 09:00-12:30, 13:30-17:00`: days, then the ranges of each of
    /// them. A range ends just before its second time; 24:00 is the end of the day. A day may appear in several lines.
    pub week: Vec<String>,
    /// The time zone.
    #[serde(default)]
    pub zone: Zone,
    /// The division whose bank holidays close the office. `None`: the office opens on bank holidays.
    ///
    /// If a holiday falls on a weekend, only its substitute day is a bank holiday: an office open on Saturdays has to list
    /// Saturday 25 December 2027 in `closed`.
    #[serde(default)]
    pub bank_holidays: Option<Division>,
    /// Days on which the office is closed.
    #[serde(default)]
    pub closed: Vec<Closure>,
    /// Days with opening hours of their own, which override the week and the bank holidays.
    #[serde(default)]
    pub extra: Vec<Extra>,
}

/// A day on which an office is closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closure {
    /// The day.
    pub date: Date,
    /// The reason: `Christmas Eve`, `staff training`.
    pub reason: String,
}

/// A day with opening times of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extra {
    /// The day.
    pub date: Date,
    /// The ranges, such as `10:00-12:00, 13:00-15:00`.
    pub open: String,
}

impl OpeningTimes {
    /// Creates a configuration with this line of the week, such as `Mon-Fri 09:00-17:00`.
    pub fn new(line: impl Into<String>) -> Self {
        Self { week: vec![line.into()], ..Self::default() }
    }

    /// Adds a line to the week.
    #[must_use]
    pub fn week(mut self, line: impl Into<String>) -> Self {
        self.week.push(line.into());
        self
    }

    /// Closes on the bank holidays of this division.
    #[must_use]
    pub fn bank_holidays(mut self, division: Division) -> Self {
        self.bank_holidays = Some(division);
        self
    }

    /// Closes on one day.
    #[must_use]
    pub fn closed(mut self, date: Date, reason: impl Into<String>) -> Self {
        self.closed.push(Closure { date, reason: reason.into() });
        self
    }

    /// Opens on one day at exactly these times, even if it is a bank holiday.
    #[must_use]
    pub fn extra(mut self, date: Date, open: impl Into<String>) -> Self {
        self.extra.push(Extra { date, open: open.into() });
        self
    }
}

/// Parses the ranges of each day of the week, from Monday.
pub(super) fn week(lines: &[String]) -> Result<[Vec<Opening>; 7]> {
    if lines.is_empty() {
        return Err(Error::config("week", "has no line: write one such as Mon-Fri 09:00-17:00"));
    }
    let mut week: [Vec<Opening>; 7] = Default::default();
    for (index, text) in lines.iter().enumerate() {
        let field = || format!("week[{index}]");
        let (days, openings) = day::line(text).map_err(|error| error.with_field(field()))?;
        for weekday in days {
            if let Some(day) = week.get_mut(weekday.index()) {
                day.extend(&openings);
                // Earlier lines do not overlap: an overlap involves this line.
                day::settle(day)
                    .map_err(|(one, other)| Error::config(field(), format!("{weekday} {}", overlap(one, other))))?;
            }
        }
    }
    Ok(week)
}

/// Parses the ranges of one day.
pub(super) fn day(text: &str) -> Result<Vec<Opening>> {
    let mut openings = day::openings(text)?;
    day::settle(&mut openings).map_err(|(one, other)| Error::config("open", overlap(one, other)))?;
    Ok(openings)
}

fn overlap(one: Opening, other: Opening) -> String {
    format!("has ranges that overlap: {one} and {other}")
}
