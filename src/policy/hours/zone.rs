//! Local time in the United Kingdom: GMT, and BST in summer.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::day::Date;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, Result};

/// The time zone of an office.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Zone {
    /// `Europe/London`: the whole of the United Kingdom.
    #[default]
    #[serde(rename = "Europe/London")]
    London,
}

/// A time between two clock changes; all in milliseconds.
#[derive(Debug)]
struct Season {
    from: i64,
    until: i64,
    ahead: i64,
}

/// The rule since 1996: summer time from the last Sunday of March to that of October, both at 01:00 UTC.
const RULE: &str = "GMT0BST,M3.5.0/1,M10.5.0";

/// 1996-01-01 and 2100-01-01. Earlier years had other rules; later ones are not known.
const YEARS: (i64, i64) = (820_454_400_000, 4_102_444_800_000);

const DAY: i64 = 86_400_000;

static LONDON: LazyLock<Vec<Season>> = LazyLock::new(|| seasons().unwrap_or_default());

fn seasons() -> Result<Vec<Season>, jiff::Error> {
    let zone = jiff::tz::TimeZone::posix(RULE)?;
    let mut season = Season { from: YEARS.0, until: YEARS.1, ahead: 0 };
    let mut seasons = Vec::new();
    for change in zone.following(jiff::Timestamp::from_millisecond(YEARS.0)?) {
        let at = change.timestamp().as_millisecond();
        if at >= YEARS.1 {
            break;
        }
        let next = Season { from: at, until: YEARS.1, ahead: i64::from(change.offset().seconds()) * 1000 };
        seasons.push(Season { until: at, ..std::mem::replace(&mut season, next) });
    }
    seasons.push(season);
    Ok(seasons)
}

impl Zone {
    /// Returns the local date, and the local time in milliseconds since midnight.
    pub(in crate::policy) fn local(self, at: Timestamp) -> Result<(Date, i64)> {
        let millis = at.as_millis();
        let seasons = self.seasons();
        let season = seasons.partition_point(|season| season.until <= millis);
        let season = seasons.get(season).filter(|season| season.from <= millis).ok_or_else(outside)?;
        let local = millis + season.ahead;
        let day = i32::try_from(local.div_euclid(DAY)).map_err(|_| outside())?;
        Ok((Date::from_days(day), local.rem_euclid(DAY)))
    }

    /// Returns the times at which the local time is in a range of this day, in milliseconds since midnight: usually one,
    /// two pieces when the clocks go back, a shorter one or none when they go forward.
    pub(super) fn moments(self, date: Date, from: i64, until: i64) -> Result<impl Iterator<Item = (i64, i64)>> {
        let midnight = i64::from(date.days()) * DAY;
        if midnight < YEARS.0 || midnight >= YEARS.1 {
            return Err(outside());
        }
        let (from, until) = (midnight + from, midnight + until);
        let seasons = self.seasons();
        // No offset exceeds a day.
        let first = seasons.partition_point(|season| season.until <= from - DAY);
        let near = seasons.iter().skip(first).take_while(move |season| season.from < until);
        let pieces =
            near.map(move |season| ((from - season.ahead).max(season.from), (until - season.ahead).min(season.until)));
        Ok(pieces.filter(|(from, until)| from < until))
    }

    /// Returns the time at which a day begins.
    pub(in crate::policy) fn midnight(self, date: Date) -> Result<Timestamp> {
        let mut first = self.moments(date, 0, 1)?.map(|(from, _)| Timestamp::from_millis(from));
        first.next().ok_or_else(|| Error::config("zone", "has no midnight on this day"))
    }

    fn seasons(self) -> &'static [Season] {
        match self {
            Self::London => &LONDON,
        }
    }
}

fn outside() -> Error {
    Error::config("zone", "the rule of summer time is known for the years 1996 to 2099 only")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(at: &str) -> (String, i64) {
        let (date, millis) = Zone::London.local(at.parse().unwrap()).unwrap();
        (date.to_string(), millis / 60_000)
    }

    #[test]
    fn clocks_change_at_0100_utc_on_the_last_sunday() {
        // The dates published by GOV.UK.
        for (spring, autumn) in [
            ("2024-03-31", "2024-10-27"),
            ("2025-03-30", "2025-10-26"),
            ("2026-03-29", "2026-10-25"),
            ("2027-03-28", "2027-10-31"),
        ] {
            assert_eq!(local(&format!("{spring}T00:59:59Z")), (spring.to_owned(), 59));
            assert_eq!(local(&format!("{spring}T01:00:00Z")), (spring.to_owned(), 120));
            assert_eq!(local(&format!("{autumn}T00:59:59Z")), (autumn.to_owned(), 119));
            assert_eq!(local(&format!("{autumn}T01:00:00Z")), (autumn.to_owned(), 60));
        }
        assert_eq!(LONDON.len(), 2 * 104 + 1);
    }

    #[test]
    fn years_without_a_known_rule_are_an_error() {
        for at in ["1995-12-31T23:59:59.999Z", "2100-01-01T00:00:00Z"] {
            assert_eq!(Zone::London.local(at.parse().unwrap()).unwrap_err().field(), Some("zone"));
        }
        assert_eq!(local("1996-01-01T00:00:00Z").1, 0);
        assert_eq!(local("2099-12-31T23:59:00Z").1, 1439);
        for millis in [i64::MIN, i64::MAX] {
            assert!(Zone::London.local(Timestamp::from_millis(millis)).is_err());
        }
    }
}
