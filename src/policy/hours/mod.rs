//! Opening hours of an office.
//!
//! A council's accounts are "monitored Monday to Friday between 9am and 5pm; messages outside of these hours will be
//! picked up, but may not be responded to instantly". This module computes these hours: in local time with summer time,
//! with the bank holidays of the division, and with the office's own closures and extra openings.
//!
//! It never guesses: bank holidays are known for some years only, and a query about a later day is an error.
//!
//! ```
//! use civic_messaging::Settings;
//! use civic_messaging::policy::hours::{self, Hours};
//!
//! # #[cfg(feature = "toml")] {
//! let settings = Settings::from_toml(r#"
//!     week = ["Mon-Fri 09:00-17:00", "Sat 10:00-12:00"]
//!     bank_holidays = "england_and_wales"
//!     closed = [{ date = 2026-12-24, reason = "Christmas Eve" }]
//!     extra = [{ date = 2026-12-28, open = "10:00-14:00" }]
//! "#)?;
//! let hours = Hours::new(&settings.read::<hours::OpeningTimes>()?)?;
//!
//! let friday_evening = "2026-05-22T16:30:00Z".parse()?; // 17:30 local time
//! assert!(!hours.is_open(friday_evening)?);
//! let saturday: civic_messaging::Timestamp = "2026-05-23T09:00:00Z".parse()?;
//! assert_eq!(hours.next_opening(friday_evening)?, saturday);
//! // Monday 25 May is a bank holiday.
//! assert_eq!(hours.next_opening("2026-05-23T11:00:00Z".parse()?)?, "2026-05-26T08:00:00Z".parse()?);
//! # }
//! # Ok::<(), civic_messaging::Error>(())
//! ```

mod bank_holidays;
mod day;
mod times;
mod zone;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::bank_holidays::{BankHolidays, Division};
pub use self::day::{Date, Opening, Time, Weekday};
pub use self::times::{Closure, Extra, OpeningTimes};
pub use self::zone::Zone;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, Result};

/// A closed period, from one opening's end to the next one's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Period {
    /// The time at which the office closed.
    pub from: Timestamp,
    /// The time of the next opening.
    pub until: Timestamp,
}

/// Opening hours, with bank holidays, closures and extra openings.
///
/// The office is open while the local time is within one of the day's ranges. A range from 01:00 to 01:30 on a Sunday
/// thus occurs twice when the clocks go back, and not at all when they go forward. Working time is elapsed time: 00:00 to
/// 03:00 of these Sundays is four hours and two.
///
/// # Errors
/// Every method returns [`ErrorKind::Config`](crate::ErrorKind::Config) if the answer depends on a day whose bank
/// holidays, or whose summer time (before 1996, from 2100 on), are not known. See [`known_until`](Self::known_until).
#[derive(Clone, Debug)]
pub struct Hours {
    zone: Zone,
    week: [Vec<Opening>; 7],
    /// The days that differ from the week.
    special: BTreeMap<Date, Special>,
    known: Option<Known>,
}

/// A day that differs from the week.
#[derive(Clone, Debug)]
struct Special {
    openings: Vec<Opening>,
    /// The reason of a closure.
    reason: Option<String>,
}

/// The days whose bank holidays are known.
#[derive(Clone, Debug)]
struct Known {
    first: Date,
    last: Date,
    years: (i16, i16),
    as_of: Option<Date>,
}

impl Hours {
    /// Creates opening hours with the bank holidays bundled with this crate.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), with the field and its rule: ranges that overlap, are empty or end
    /// before they begin; an invalid day or time; a date with two closures, two extra openings, or both; an empty reason;
    /// a week without openings.
    pub fn new(config: &OpeningTimes) -> Result<Self> {
        match config.bank_holidays {
            Some(division) => Self::build(config, Some((division, &BankHolidays::bundled()?))),
            None => Self::build(config, None),
        }
    }

    /// Creates opening hours with bank holidays from another list.
    ///
    /// # Errors
    /// As [`new`](Self::new), and for `bank_holidays` if the configuration has no division.
    pub fn bank_holidays(config: &OpeningTimes, holidays: &BankHolidays) -> Result<Self> {
        let division = config.bank_holidays.ok_or_else(|| {
            Error::config("bank_holidays", "is missing: set england_and_wales, scotland or northern_ireland")
        })?;
        Self::build(config, Some((division, holidays)))
    }

    fn build(config: &OpeningTimes, holidays: Option<(Division, &BankHolidays)>) -> Result<Self> {
        let week = times::week(&config.week)?;
        let known = holidays.map(|(_, holidays)| Known::of(holidays)).transpose()?;
        let of_division = holidays.into_iter().flat_map(|(division, holidays)| holidays.dates(division));
        let mut special: BTreeMap<Date, Special> =
            of_division.map(|(date, title)| (date, Special::closed(title))).collect();
        let mut seen = BTreeMap::new();
        for (index, Closure { date, reason }) in config.closed.iter().enumerate() {
            if reason.trim().is_empty() {
                return Err(Error::config(format!("closed[{index}].reason"), "is empty"));
            }
            if seen.insert(*date, "closed").is_some() {
                return Err(Error::config(format!("closed[{index}].date"), format!("closes {date} twice")));
            }
            special.insert(*date, Special::closed(reason));
        }
        for (index, Extra { date, open }) in config.extra.iter().enumerate() {
            let field = || format!("extra[{index}].open");
            let openings = times::day(open).map_err(|error| error.with_field(field()))?;
            if let Some(earlier) = seen.insert(*date, "given extra times") {
                let rule = format!("gives extra times to {date}, which is {earlier} already");
                return Err(Error::config(format!("extra[{index}].date"), rule));
            }
            special.insert(*date, Special { openings, reason: None });
        }
        Ok(Self { zone: config.zone, week, special, known })
    }

    /// Returns `true` if the office is open at this time.
    ///
    /// # Errors
    /// See [`Hours`].
    pub fn is_open(&self, at: Timestamp) -> Result<bool> {
        let (date, millis) = self.zone.local(at)?;
        let open = |opening: &Opening| opening.from().millis() <= millis && millis < opening.until().millis();
        Ok(self.openings(date)?.iter().any(open))
    }

    /// Returns the first time from `from` on at which the office is open: `from` itself if it is open then.
    ///
    /// ```
    /// use civic_messaging::policy::hours::{OpeningTimes, Hours};
    ///
    /// let hours = Hours::new(&OpeningTimes::new("Mon-Fri 09:00-17:00"))?;
    /// let (sunday, noon) = ("2026-11-22T21:14:00Z".parse()?, "2026-11-23T12:00:00Z".parse()?);
    /// assert_eq!(hours.next_opening(sunday)?, "2026-11-23T09:00:00Z".parse()?);
    /// assert_eq!(hours.next_opening(noon)?, noon);
    /// # Ok::<(), civic_messaging::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Hours`].
    pub fn next_opening(&self, from: Timestamp) -> Result<Timestamp> {
        let mut date = self.zone.local(from)?.0;
        loop {
            let moments = self.moments(date)?;
            if let Some((opens, _)) = moments.into_iter().find(|(_, closes)| *closes > from) {
                return Ok(opens.max(from));
            }
            date = date.plus_days(1);
        }
    }

    /// Returns the end of the opening at this time, `None` if the office is closed.
    ///
    /// # Errors
    /// See [`Hours`]; also if the office never closes in the known years.
    pub fn closes_at(&self, at: Timestamp) -> Result<Option<Timestamp>> {
        let mut date = self.zone.local(at)?.0;
        let mut end = None;
        loop {
            for (opens, closes) in self.moments(date)? {
                match end {
                    None if opens <= at && at < closes => end = Some(closes),
                    Some(end_so_far) if opens == end_so_far => end = Some(closes),
                    _ => {}
                }
            }
            date = date.plus_days(1);
            match end {
                // The opening may continue at midnight.
                Some(end) if self.zone.local(end)? == (date, 0) => {}
                end => return Ok(end),
            }
        }
    }

    /// Returns the working time between two times, 0 if `to` is not after `from`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use civic_messaging::policy::hours::{OpeningTimes, Hours};
    ///
    /// let hours = Hours::new(&OpeningTimes::new("Mon-Fri 09:00-17:00"))?;
    /// let (friday, monday) = ("2026-11-20T16:45:00Z".parse()?, "2026-11-23T09:30:00Z".parse()?);
    /// assert_eq!(hours.working_time(friday, monday)?, Duration::from_secs(45 * 60));
    /// # Ok::<(), civic_messaging::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Hours`].
    pub fn working_time(&self, from: Timestamp, to: Timestamp) -> Result<Duration> {
        let mut worked = Duration::ZERO;
        if to <= from {
            return Ok(worked);
        }
        let mut date = self.zone.local(from)?.0;
        let last = self.zone.local(to.minus(Duration::from_millis(1)))?.0;
        while date <= last {
            for (opens, closes) in self.moments(date)? {
                worked += closes.min(to).since(opens.max(from));
            }
            date = date.plus_days(1);
        }
        Ok(worked)
    }

    /// Returns the closed period at this time, `None` if the office is open.
    ///
    /// All times of one closed period return the same value, which can serve as a key.
    ///
    /// # Errors
    /// See [`Hours`]: both ends of the period have to be known.
    pub fn closed_period(&self, at: Timestamp) -> Result<Option<Period>> {
        let until = self.next_opening(at)?;
        if until == at {
            return Ok(None);
        }
        let mut date = self.zone.local(at)?.0;
        loop {
            let moments = self.moments(date)?;
            if let Some((_, from)) = moments.into_iter().rev().find(|(_, closes)| *closes <= at) {
                return Ok(Some(Period { from, until }));
            }
            date = date.plus_days(-1);
        }
    }

    /// Returns the name of the bank holiday or the reason of the closure, `None` for a day that follows the week.
    ///
    /// # Errors
    /// See [`Hours`].
    pub fn closed_for(&self, date: Date) -> Result<Option<&str>> {
        self.openings(date)?;
        Ok(self.special.get(&date).and_then(|special| special.reason.as_deref()))
    }

    /// Returns the last day whose bank holidays are known, `None` without bank holidays. Check it once a month: after that
    /// day every query is an error, and [`next_opening`](Self::next_opening) may fail some time before it.
    pub fn known_until(&self) -> Option<Date> {
        self.known.as_ref().map(|known| known.last)
    }

    /// Returns the local date and time.
    ///
    /// # Errors
    /// See [`Hours`].
    pub fn local(&self, at: Timestamp) -> Result<(Date, Time)> {
        let (date, millis) = self.zone.local(at)?;
        Ok((date, Time::from_millis(millis)))
    }

    /// Returns the time at which a day begins.
    pub(crate) fn midnight(&self, date: Date) -> Result<Timestamp> {
        self.zone.midnight(date)
    }

    /// Returns the ranges of a day, sorted and disjoint.
    fn openings(&self, date: Date) -> Result<&[Opening]> {
        if let Some(special) = self.special.get(&date) {
            return Ok(&special.openings);
        }
        match &self.known {
            Some(known) if date < known.first || known.last < date => {
                Err(bank_holidays::unknown(known.years.0..=known.years.1, known.as_of, date.year()))
            }
            _ => Ok(self.week.get(date.weekday().index()).map_or(&[], Vec::as_slice)),
        }
    }

    /// Returns the starts and ends of a day's openings, sorted.
    fn moments(&self, date: Date) -> Result<Vec<(Timestamp, Timestamp)>> {
        let mut moments = Vec::new();
        let openings = self.openings(date)?;
        // Fail on a day outside of the known years even without openings: a search must end.
        self.zone.moments(date, 0, 0).map(drop)?;
        for opening in openings {
            moments.extend(self.zone.moments(date, opening.from().millis(), opening.until().millis())?);
        }
        // When the clocks go back, part of an earlier range follows part of a later one.
        moments.sort_unstable();
        moments.dedup_by(|next, last| {
            let touches = last.1 == next.0;
            if touches {
                last.1 = next.1;
            }
            touches
        });
        let moment = Timestamp::from_millis;
        Ok(moments.into_iter().map(|(opens, closes)| (moment(opens), moment(closes))).collect())
    }
}

impl Special {
    fn closed(reason: &str) -> Self {
        Self { openings: Vec::new(), reason: Some(reason.to_owned()) }
    }
}

impl Known {
    fn of(holidays: &BankHolidays) -> Result<Self> {
        let years = (*holidays.years().start(), *holidays.years().end());
        Ok(Self { first: Date::new(years.0, 1, 1)?, last: Date::new(years.1, 12, 31)?, years, as_of: holidays.as_of() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::error::ErrorKind;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn date(text: &str) -> Date {
        text.parse().unwrap()
    }

    fn office() -> OpeningTimes {
        OpeningTimes::new("Mon-Fri 09:00-17:00")
    }

    #[test]
    fn closures_and_extra_openings_override_the_week() {
        let config = office()
            .bank_holidays(Division::EnglandAndWales)
            .closed(date("2026-12-24"), "Christmas Eve")
            .extra(date("2026-12-28"), "10:00-12:00");
        let hours = Hours::new(&config).unwrap();
        assert!(!hours.is_open(at("2026-12-24T10:00:00Z")).unwrap());
        assert_eq!(hours.closed_for(date("2026-12-24")).unwrap(), Some("Christmas Eve"));
        assert_eq!(hours.closed_for(date("2026-12-25")).unwrap(), Some("Christmas Day"));
        // 28 December 2026 is the substitute day for Boxing Day.
        assert!(!hours.is_open(at("2026-12-28T09:59:59Z")).unwrap());
        assert!(hours.is_open(at("2026-12-28T10:00:00Z")).unwrap());
        assert_eq!(hours.closed_for(date("2026-12-28")).unwrap(), None);
        assert_eq!(
            hours.closed_period(at("2026-12-25T00:00:00Z")).unwrap(),
            Some(Period { from: at("2026-12-23T17:00:00Z"), until: at("2026-12-28T10:00:00Z") })
        );
    }

    #[test]
    fn openings_that_meet_at_midnight_are_one() {
        let hours = Hours::new(&OpeningTimes::new("Fri 20:00-24:00").week("Sat 00:00-04:00")).unwrap();
        let (friday, saturday) = (at("2026-11-27T23:59:00Z"), at("2026-11-28T04:00:00Z"));
        assert_eq!(hours.closes_at(friday).unwrap(), Some(saturday));
        assert_eq!(hours.closes_at(saturday).unwrap(), None);
        assert_eq!(hours.closed_period(saturday).unwrap().unwrap().from, saturday);
        let always = Hours::new(&OpeningTimes::new("Mon-Sun 00:00-24:00")).unwrap();
        assert!(always.is_open(friday).unwrap());
        assert_eq!(always.closes_at(friday).unwrap_err().field(), Some("zone"));
    }

    #[test]
    fn days_beyond_the_data_are_an_error() {
        let hours = Hours::new(&office().bank_holidays(Division::Scotland)).unwrap();
        assert_eq!(hours.known_until(), Some(date("2028-12-31")));
        assert!(hours.is_open(at("2028-12-29T16:59:59.999Z")).unwrap());
        assert_eq!(hours.closes_at(at("2028-12-29T10:00:00Z")).unwrap(), Some(at("2028-12-29T17:00:00Z")));
        assert!(!hours.is_open(at("2028-12-31T23:59:59.999Z")).unwrap());
        // The first opening of 2029 depends on the bank holidays of 2029.
        let errors = [
            hours.is_open(at("2029-01-01T00:00:00Z")).unwrap_err(),
            hours.next_opening(at("2028-12-29T17:00:00Z")).unwrap_err(),
            hours.closed_period(at("2028-12-30T10:00:00Z")).unwrap_err(),
            hours.working_time(at("2028-12-01T00:00:00Z"), at("2029-01-01T00:00:00.001Z")).unwrap_err(),
            hours.closed_for(date("2029-01-02")).unwrap_err(),
        ];
        for error in errors {
            assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("bank_holidays")));
            let text = error.to_string();
            assert!(text.contains("2012 to 2028 only") && text.contains("load a newer list"), "{text}");
        }
        assert!(hours.is_open(at("2011-12-31T12:00:00Z")).unwrap_err().to_string().contains("earlier years"));
        hours.working_time(at("2028-12-01T00:00:00Z"), at("2029-01-01T00:00:00Z")).unwrap();
        // Without bank holidays no list is needed.
        let any_day = Hours::new(&office()).unwrap();
        assert_eq!(any_day.next_opening(at("2050-01-01T12:00:00Z")).unwrap(), at("2050-01-03T09:00:00Z"));
        assert_eq!(any_day.known_until(), None);
    }

    #[test]
    fn extra_opening_needs_no_bank_holiday_list() {
        let config = office().bank_holidays(Division::Scotland).extra(date("2029-01-02"), "09:00-17:00");
        assert!(Hours::new(&config).unwrap().is_open(at("2029-01-02T12:00:00Z")).unwrap());
    }

    #[test]
    fn newer_list_extends_the_known_years() {
        let newer = include_str!("bank_holidays.json").replace("2028", "2034").replace("2027", "2033");
        let newer = serde_json::from_str::<serde_json::Value>(&newer).and_then(|mut list| {
            for division in ["england-and-wales", "scotland", "northern-ireland"] {
                let events = list[division]["events"].as_array_mut().unwrap();
                events.retain(|event| event["date"].as_str().unwrap() > "2033");
            }
            list["first_year"] = 2033.into();
            serde_json::to_string(&list)
        });
        let list = BankHolidays::from_json(&newer.unwrap()).unwrap();
        let hours = Hours::bank_holidays(&office().bank_holidays(Division::Scotland), &list).unwrap();
        assert_eq!(hours.known_until(), Some(date("2034-12-31")));
        assert!(!hours.is_open(at("2033-12-27T12:00:00Z")).unwrap());
        assert_eq!(Hours::bank_holidays(&office(), &list).unwrap_err().field(), Some("bank_holidays"));
    }

    #[test]
    fn invalid_config_names_its_field() {
        let table: &[(OpeningTimes, &str, &str)] = &[
            (OpeningTimes::default(), "week", "no line"),
            (OpeningTimes::new("Mon-Fri"), "week[0]", "no range"),
            (OpeningTimes::new("Mon-Fry 09:00-17:00"), "week[0]", "unknown day: use Mon, Tue"),
            (OpeningTimes::new("Mon 09:00-17:00 Tue 09:00-12:00"), "week[0]", "after a time"),
            (office().week("Sat 9am-5pm"), "week[1]", "hours and minutes"),
            (office().week("Sat 10:00-25:00"), "week[1]", "from 00:00 to 24:00"),
            (office().week("Sat 10:00-11:60"), "week[1]", "from 00:00 to 24:00"),
            (office().week("Sat 17:00-09:00"), "week[1]", "ends before it begins, 17:00-09:00"),
            (office().week("Sat 10:00-10:00"), "week[1]", "empty range, 10:00-10:00"),
            (
                office().week("Thu 16:00-19:00"),
                "week[1]",
                "Thursday has ranges that overlap: 09:00-17:00 and 16:00-19:00",
            ),
            (OpeningTimes::new("Mon, Mon-Fri 09:00-17:00"), "week[0]", "Monday has ranges that overlap"),
            (office().closed(date("2026-12-24"), " "), "closed[0].reason", "is empty"),
            (
                office().closed(date("2026-12-24"), "a").closed(date("2026-12-24"), "b"),
                "closed[1].date",
                "closes 2026-12-24 twice",
            ),
            (
                office().closed(date("2026-12-24"), "a").extra(date("2026-12-24"), "10:00-12:00"),
                "extra[0].date",
                "closed already",
            ),
            (
                office().extra(date("2026-12-24"), "10:00-12:00").extra(date("2026-12-24"), "13:00-14:00"),
                "extra[1].date",
                "given extra times already",
            ),
            (office().extra(date("2026-12-24"), ""), "extra[0].open", "no range"),
            (office().extra(date("2026-12-24"), "10:00-12:00, 11:00-13:00"), "extra[0].open", "overlap"),
        ];
        for (config, field, words) in table {
            let error = Hours::new(config).unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some(*field)), "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn invalid_file_names_its_field() {
        for (field, rest, words) in [
            ("zone", r#""zone":"Europe/Paris""#, "Europe/London"),
            ("bank_holidays", r#""bank_holidays":"mercia""#, "england_and_wales"),
            ("closed[0].date", r#""closed":[{"date":"2026-02-30","reason":"x"}]"#, "day of the calendar"),
            ("closed[0].why", r#""closed":[{"date":"2026-02-03","why":"x"}]"#, "unknown field"),
            ("extra[0]", r#""extra":[{"date":"2026-02-03"}]"#, "missing field `open`"),
            ("bank_holiday", r#""bank_holiday":"scotland""#, "unknown field"),
        ] {
            let json = format!(r#"{{"week":["Mon-Fri 09:00-17:00"],{rest}}}"#);
            let settings = crate::settings::Settings::from_json(&json).unwrap();
            let error = settings.read::<OpeningTimes>().unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some(field)), "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn config_round_trips_through_serde() {
        let config = office().bank_holidays(Division::NorthernIreland).closed(date("2026-07-14"), "Local");
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<OpeningTimes>(&json).unwrap(), config);
    }
}
