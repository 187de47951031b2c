//! Dates, weekdays, times of day and ranges of opening hours.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::error::{Error, Result};

/// A calendar date, such as 2026-12-24.
///
/// Formatted, parsed and serialised as ISO 8601; TOML dates are accepted too.
///
/// ```
/// use civic_messaging::policy::hours::{Date, Weekday};
///
/// let date: Date = "2026-12-24".parse()?;
/// assert_eq!((date.year(), date.month(), date.day()), (2026, 12, 24));
/// assert_eq!(date.weekday(), Weekday::Thursday);
/// assert_eq!(date.plus_days(1).to_string(), "2026-12-25");
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    /// Days since 1970-01-01.
    days: i32,
}

impl Date {
    /// Creates a date from its year, its month from 1 and its day from 1.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the calendar has no such day.
    pub fn new(year: i16, month: i8, day: i8) -> Result<Self> {
        let at = jiff::civil::Date::new(year, month, day)
            .and_then(|date| jiff::tz::Offset::UTC.to_timestamp(date.to_datetime(jiff::civil::Time::midnight())));
        let days = at.ok().and_then(|at| i32::try_from(at.as_second().div_euclid(86_400)).ok());
        days.map(|days| Self { days }).ok_or_else(|| Error::config("date", RULE))
    }

    /// The year.
    pub fn year(self) -> i16 {
        self.civil().year()
    }

    /// The month, from 1.
    pub fn month(self) -> i8 {
        self.civil().month()
    }

    /// The day of the month, from 1.
    pub fn day(self) -> i8 {
        self.civil().day()
    }

    /// The day of the week.
    pub fn weekday(self) -> Weekday {
        // 1970-01-01 was a Thursday.
        match (self.days + 3).rem_euclid(7) {
            0 => Weekday::Monday,
            1 => Weekday::Tuesday,
            2 => Weekday::Wednesday,
            3 => Weekday::Thursday,
            4 => Weekday::Friday,
            5 => Weekday::Saturday,
            _ => Weekday::Sunday,
        }
    }

    /// Returns the date this number of days later, or earlier if negative.
    #[must_use]
    pub fn plus_days(self, days: i32) -> Self {
        Self { days: self.days.saturating_add(days) }
    }

    /// Returns the number of days since `earlier`.
    pub fn days_since(self, earlier: Self) -> i32 {
        self.days.saturating_sub(earlier.days)
    }

    pub(super) const fn from_days(days: i32) -> Self {
        Self { days }
    }

    pub(super) const fn days(self) -> i32 {
        self.days
    }

    fn civil(self) -> jiff::civil::Date {
        // No `Date` lies outside of jiff's calendar; the default avoids a panic.
        let at = jiff::Timestamp::from_second(i64::from(self.days) * 86_400).unwrap_or_default();
        jiff::tz::Offset::UTC.to_datetime(at).date()
    }
}

const RULE: &str = "is not a day of the calendar, such as 2026-12-24";

impl FromStr for Date {
    type Err = Error;

    /// Parses an ISO 8601 date such as `2026-12-24`, without a time.
    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split('-');
        let digits = |part: Option<&str>, len: usize| {
            part.filter(|part| part.len() == len && part.bytes().all(|b| b.is_ascii_digit())).map(str::to_owned)
        };
        let read = (digits(parts.next(), 4), digits(parts.next(), 2), digits(parts.next(), 2), parts.next());
        match read {
            (Some(year), Some(month), Some(day), None) => match (year.parse(), month.parse(), day.parse()) {
                (Ok(year), Ok(month), Ok(day)) => Self::new(year, month, day),
                _ => Err(Error::config("date", RULE)),
            },
            _ => Err(Error::config("date", RULE)),
        }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = self.civil();
        write!(f, "{:04}-{:02}-{:02}", date.year(), date.month(), date.day())
    }
}

impl fmt::Debug for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A date as a string, or as the table by which the crate `toml` represents an unquoted date.
#[derive(Deserialize)]
#[serde(untagged)]
enum DateRepr {
    Text(String),
    Toml {
        #[serde(rename = "$__toml_private_datetime")]
        date: String,
    },
}

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let repr = DateRepr::deserialize(deserializer).map_err(|_| serde::de::Error::custom(RULE))?;
        let (DateRepr::Text(text) | DateRepr::Toml { date: text }) = repr;
        text.parse().map_err(|_| serde::de::Error::custom(RULE))
    }
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weekday {
    /// Monday.
    Monday,
    /// Tuesday.
    Tuesday,
    /// Wednesday.
    Wednesday,
    /// Thursday.
    Thursday,
    /// Friday.
    Friday,
    /// Saturday.
    Saturday,
    /// Sunday.
    Sunday,
}

impl Weekday {
    /// All weekdays, from Monday.
    pub const ALL: [Self; 7] =
        [Self::Monday, Self::Tuesday, Self::Wednesday, Self::Thursday, Self::Friday, Self::Saturday, Self::Sunday];

    /// Returns the number of days since Monday.
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl FromStr for Weekday {
    type Err = Error;

    /// Parses an English name, or its first three letters, in any case: `Mon`, `monday`.
    fn from_str(text: &str) -> Result<Self> {
        let text = text.to_ascii_lowercase();
        let named = |day: &&Self| {
            let name = day.to_string().to_ascii_lowercase();
            text == name || (text.len() == 3 && name.starts_with(&text))
        };
        Self::ALL
            .iter()
            .find(named)
            .copied()
            .ok_or_else(|| Error::config("week", "has an unknown day: use Mon, Tue, Wed, Thu, Fri, Sat or Sun"))
    }
}

impl fmt::Display for Weekday {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A local time of day to the minute; `24:00` is the end of the day.
///
/// ```
/// use civic_messaging::policy::hours::Time;
///
/// let five: Time = "17:00".parse()?;
/// assert_eq!((five.hour(), five.minute()), (17, 0));
/// assert!("24:01".parse::<Time>().is_err());
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    minutes: u16,
}

impl Time {
    /// The end of a day.
    pub const END_OF_DAY: Self = Self { minutes: 1440 };

    /// Creates a time from its hour and minute.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a time after 24:00, or a minute above 59.
    pub fn new(hour: u8, minute: u8) -> Result<Self> {
        let minutes = u16::from(hour) * 60 + u16::from(minute);
        match minute < 60 && minutes <= Self::END_OF_DAY.minutes {
            true => Ok(Self { minutes }),
            false => Err(Error::config("time", "is not a time of day from 00:00 to 24:00")),
        }
    }

    /// The hour, from 0 to 24.
    pub const fn hour(self) -> u16 {
        self.minutes / 60
    }

    /// The minute of the hour.
    pub const fn minute(self) -> u16 {
        self.minutes % 60
    }

    /// Milliseconds since midnight, on a day without a clock change.
    pub(super) const fn millis(self) -> i64 {
        self.minutes as i64 * 60_000
    }

    pub(super) fn from_millis(millis: i64) -> Self {
        Self { minutes: u16::try_from(millis.div_euclid(60_000)).unwrap_or(0).min(Self::END_OF_DAY.minutes) }
    }
}

impl FromStr for Time {
    type Err = Error;

    /// Parses a time of the 24-hour clock: `09:00`, `9:00`, `24:00`.
    fn from_str(text: &str) -> Result<Self> {
        let digits = |part: &str, least: usize| {
            ((least..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit()))
                .then(|| part.parse().ok())?
        };
        match text.split_once(':').map(|(hour, minute)| (digits(hour, 1), digits(minute, 2))) {
            Some((Some(hour), Some(minute))) => Self::new(hour, minute),
            _ => Err(Error::config("time", "must be hours and minutes, such as 09:00")),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| serde::de::Error::custom("must be hours and minutes, such as 09:00"))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.hour(), self.minute())
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A range of one day's opening hours. The start is included, the end is not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Opening {
    from: Time,
    until: Time,
}

impl Opening {
    /// Creates a range.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the range is empty, or ends before it begins.
    pub fn new(from: Time, until: Time) -> Result<Self> {
        match from.cmp(&until) {
            std::cmp::Ordering::Less => Ok(Self { from, until }),
            std::cmp::Ordering::Equal => Err(Error::config(
                "open",
                format!("has an empty range, {from}-{until}; for the whole day write 00:00-24:00"),
            )),
            std::cmp::Ordering::Greater => Err(Error::config(
                "open",
                format!(
                    "has a range that ends before it begins, {from}-{until}; over midnight, write one range until 24:00 \
                         and one from 00:00 of the next day"
                ),
            )),
        }
    }

    /// Returns the start.
    pub const fn from(self) -> Time {
        self.from
    }

    /// Returns the end: the first minute at which the office is closed.
    pub const fn until(self) -> Time {
        self.until
    }
}

impl FromStr for Opening {
    type Err = Error;

    /// Parses two times joined by a hyphen or an en dash: `09:00-17:00`.
    fn from_str(text: &str) -> Result<Self> {
        let Some((from, until)) = text.split_once(['-', '–']) else {
            return Err(Error::config("open", "has a range that is not two times such as 09:00-17:00"));
        };
        Self::new(from.trim().parse()?, until.trim().parse()?)
    }
}

impl fmt::Display for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.from, self.until)
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Parses a line of a week: days, then the ranges of each of them.
pub(super) fn line(text: &str) -> Result<(Vec<Weekday>, Vec<Opening>)> {
    let (mut days, mut openings) = (Vec::new(), Vec::new());
    for word in text.split([' ', ',', '\t']).filter(|word| !word.is_empty()) {
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            openings.push(word.parse()?);
        } else if !openings.is_empty() {
            return Err(Error::config(
                "week",
                "has a day after a time: write one line for each, such as Sat 10:00-12:00",
            ));
        } else {
            span(word, &mut days)?;
        }
    }
    match (days.is_empty(), openings.is_empty()) {
        (true, _) => Err(Error::config("week", "names no day: write Mon-Fri 09:00-17:00")),
        (_, true) => Err(Error::config("week", "has no range of times: write Mon-Fri 09:00-17:00")),
        _ => Ok((days, openings)),
    }
}

/// Adds a day or a span of days, which may wrap around the end of the week.
fn span(word: &str, days: &mut Vec<Weekday>) -> Result<()> {
    let (first, last) = word.split_once(['-', '–']).unwrap_or((word, word));
    let (first, last): (Weekday, Weekday) = (first.parse()?, last.parse()?);
    let count = (last.index() + 7 - first.index()) % 7 + 1;
    days.extend(Weekday::ALL.iter().cycle().skip(first.index()).take(count));
    Ok(())
}

/// Parses a list of ranges such as `10:00-12:00, 13:00-15:00`.
pub(super) fn openings(text: &str) -> Result<Vec<Opening>> {
    let openings: Vec<Opening> =
        text.split([' ', ',', '\t']).filter(|word| !word.is_empty()).map(str::parse).collect::<Result<_>>()?;
    match openings.is_empty() {
        true => Err(Error::config("open", "has no range of times: to close a day, use closed")),
        false => Ok(openings),
    }
}

/// Sorts a day's ranges and merges those that touch. Returns the first two that overlap as an error.
pub(super) fn settle(openings: &mut Vec<Opening>) -> Result<(), (Opening, Opening)> {
    openings.sort_unstable();
    let mut settled: Vec<Opening> = Vec::with_capacity(openings.len());
    for &next in openings.iter() {
        match settled.last_mut() {
            Some(last) if last.until > next.from => return Err((*last, next)),
            Some(last) if last.until == next.from => last.until = next.until,
            _ => settled.push(next),
        }
    }
    *openings = settled;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_follow_the_calendar() {
        for (text, weekday) in [
            ("1970-01-01", Weekday::Thursday),
            ("1969-12-31", Weekday::Wednesday),
            ("2024-02-29", Weekday::Thursday),
            ("2026-11-25", Weekday::Wednesday),
        ] {
            let date: Date = text.parse().unwrap();
            assert_eq!((date.to_string().as_str(), date.weekday()), (text, weekday));
        }
        for wrong in ["2026-02-29", "2026-13-01", "26-12-24", "2026-12-24T00:00", "+026-1-01", "2026-12", "Christmas"] {
            assert_eq!(wrong.parse::<Date>().unwrap_err().field(), Some("date"), "{wrong}");
        }
        let (first, last): (Date, Date) = ("2024-02-28".parse().unwrap(), "2024-03-01".parse().unwrap());
        assert_eq!((last.days_since(first), first.plus_days(2)), (2, last));
    }

    #[test]
    fn week_lines_are_parsed_leniently() {
        use Weekday::{Friday, Monday, Saturday, Sunday, Thursday, Tuesday};
        for (text, days, ranges) in [
            ("Mon-Tue 09:00-17:00", vec![Monday, Tuesday], "09:00-17:00"),
            ("mon, tuesday,THU  9:00-12:30, 13:30-17:00", vec![Monday, Tuesday, Thursday], "09:00-12:30 13:30-17:00"),
            ("Fri–Mon 00:00–24:00", vec![Friday, Saturday, Sunday, Monday], "00:00-24:00"),
        ] {
            let (read, openings) = line(text).unwrap();
            let openings: Vec<_> = openings.iter().map(Opening::to_string).collect();
            assert_eq!((read, openings.join(" ").as_str()), (days, ranges), "{text}");
        }
        for wrong in ["", "Mon", "09:00-17:00", "Mo 09:00-17:00", "Mon 09:00-17:00 Tue", "Mon 9-17", "Mon 09:00"] {
            assert!(line(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn touching_ranges_merge_and_overlapping_ranges_fail() {
        let mut touching = openings("12:00-17:00, 09:00-12:00").unwrap();
        settle(&mut touching).unwrap();
        assert_eq!(touching, openings("09:00-17:00").unwrap());
        assert!(settle(&mut openings("09:00-12:00, 11:59-17:00").unwrap()).is_err());
        assert!(settle(&mut openings("09:00-17:00, 09:00-17:00").unwrap()).is_err());
    }
}
