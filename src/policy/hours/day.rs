//! Days, weekdays and times of day, as an office writes them on its door.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::error::{Error, Result};

/// A day of the calendar, such as 2026-12-24.
///
/// Written, read and stored as ISO 8601; TOML's own dates are read too.
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
    /// A day by its year, its month from 1 and its day from 1.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when the calendar has no such day.
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

    /// The day so many days later; earlier, if there are fewer than none.
    #[must_use]
    pub fn plus_days(self, days: i32) -> Self {
        Self { days: self.days.saturating_add(days) }
    }

    /// How many days it is from `earlier` to this day.
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
        // Days outside of jiff's calendar are not made; the default is there so that nothing can panic.
        let at = jiff::Timestamp::from_second(i64::from(self.days) * 86_400).unwrap_or_default();
        jiff::tz::Offset::UTC.to_datetime(at).date()
    }
}

const RULE: &str = "is not a day of the calendar, such as 2026-12-24";

impl FromStr for Date {
    type Err = Error;

    /// Reads ISO 8601: `2026-12-24`, and nothing with a time.
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

/// A date as text, or as the table that the crate `toml` makes of a date without quotes.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Toml {
        #[serde(rename = "$__toml_private_datetime")]
        date: String,
    },
}

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(deserializer).map_err(|_| serde::de::Error::custom(RULE))?;
        let (Written::Text(text) | Written::Toml { date: text }) = written;
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
    /// All of them, from Monday.
    pub const ALL: [Self; 7] =
        [Self::Monday, Self::Tuesday, Self::Wednesday, Self::Thursday, Self::Friday, Self::Saturday, Self::Sunday];

    /// How many days it is after Monday.
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl FromStr for Weekday {
    type Err = Error;

    /// Reads an English name, or its first three letters, in any case: `Mon`, `monday`.
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
            .ok_or_else(|| Error::config("week", "names a day that is none of Mon, Tue, Wed, Thu, Fri, Sat and Sun"))
    }
}

impl fmt::Display for Weekday {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A time of day to the minute, by the clock on the wall; `24:00` is the end of the day.
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

    /// A time by its hour from 0 and its minute from 0.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for anything after 24:00, or a minute after 59.
    pub fn new(hour: u8, minute: u8) -> Result<Self> {
        let minutes = u16::from(hour) * 60 + u16::from(minute);
        match minute < 60 && minutes <= Self::END_OF_DAY.minutes {
            true => Ok(Self { minutes }),
            false => Err(Error::config("time", "is no time of day from 00:00 to 24:00")),
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

    /// Milliseconds since the day began, by a clock that is not changed that day.
    pub(super) const fn millis(self) -> i64 {
        self.minutes as i64 * 60_000
    }

    pub(super) fn from_millis(millis: i64) -> Self {
        Self { minutes: u16::try_from(millis.div_euclid(60_000)).unwrap_or(0).min(Self::END_OF_DAY.minutes) }
    }
}

impl FromStr for Time {
    type Err = Error;

    /// Reads hours and minutes of 24 hours: `09:00`, `9:00`, `24:00`.
    fn from_str(text: &str) -> Result<Self> {
        let digits = |part: &str, least: usize| {
            ((least..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit()))
                .then(|| part.parse().ok())?
        };
        match text.split_once(':').map(|(hour, minute)| (digits(hour, 1), digits(minute, 2))) {
            Some((Some(hour), Some(minute))) => Self::new(hour, minute),
            _ => Err(Error::config("time", "is not written as hours and minutes, such as 09:00")),
        }
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

/// A stretch of one day in which somebody is there: from the first time on, and until just before the second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Opening {
    from: Time,
    until: Time,
}

impl Opening {
    /// A stretch of a day.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when it is empty, or ends before it begins.
    pub fn new(from: Time, until: Time) -> Result<Self> {
        match from.cmp(&until) {
            std::cmp::Ordering::Less => Ok(Self { from, until }),
            std::cmp::Ordering::Equal => Err(Error::config(
                "open",
                format!("has an empty range, {from}-{until}; the whole day is 00:00-24:00, and no day is left out"),
            )),
            std::cmp::Ordering::Greater => Err(Error::config(
                "open",
                format!(
                    "has a range that ends before it begins, {from}-{until}; over midnight, write one until 24:00 \
                         and one from 00:00 of the next day"
                ),
            )),
        }
    }

    /// When it begins.
    pub const fn from(self) -> Time {
        self.from
    }

    /// When it ends: the first minute in which nobody is there.
    pub const fn until(self) -> Time {
        self.until
    }
}

impl FromStr for Opening {
    type Err = Error;

    /// Reads two times with a hyphen or a dash between them: `09:00-17:00`.
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

/// Reads a line of a week: days first, then the ranges of each of them.
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

/// Adds a day, or those from one to another, over the week's end too.
fn span(word: &str, days: &mut Vec<Weekday>) -> Result<()> {
    let (first, last) = word.split_once(['-', '–']).unwrap_or((word, word));
    let (first, last): (Weekday, Weekday) = (first.parse()?, last.parse()?);
    let count = (last.index() + 7 - first.index()) % 7 + 1;
    days.extend(Weekday::ALL.iter().cycle().skip(first.index()).take(count));
    Ok(())
}

/// The ranges of a list such as `10:00-12:00, 13:00-15:00`.
pub(super) fn openings(text: &str) -> Result<Vec<Opening>> {
    let openings: Vec<Opening> =
        text.split([' ', ',', '\t']).filter(|word| !word.is_empty()).map(str::parse).collect::<Result<_>>()?;
    match openings.is_empty() {
        true => Err(Error::config("open", "has no range of times; a day without any belongs to closed")),
        false => Ok(openings),
    }
}

/// The first two of one day's ranges that overlap. Sorts them; those that touch become one.
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
    fn days_are_those_of_the_calendar() {
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
    fn a_line_of_a_week_is_read_as_people_write_it() {
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
    fn ranges_that_touch_are_one_and_ranges_that_overlap_are_none() {
        let mut touching = openings("12:00-17:00, 09:00-12:00").unwrap();
        settle(&mut touching).unwrap();
        assert_eq!(touching, openings("09:00-17:00").unwrap());
        assert!(settle(&mut openings("09:00-12:00, 11:59-17:00").unwrap()).is_err());
        assert!(settle(&mut openings("09:00-17:00, 09:00-17:00").unwrap()).is_err());
    }
}
