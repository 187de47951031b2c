//! Opening hours: when somebody is there to answer.
//!
//! A council says of its accounts that they are "monitored Monday to Friday between 9am and 5pm; messages outside of
//! these hours will be picked up, but may not be responded to instantly". This module knows when that is: by the clock
//! on the wall with its summer time, without the bank holidays of the council's part of the country, without the days
//! on which this office is closed, and with those on which it opens all the same.
//!
//! It never guesses. Bank holidays are known for some years only, and a question about a later day is an error that
//! says so.
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
//! let hours = Hours::new(&settings.read::<hours::Config>()?)?;
//!
//! let friday_evening = "2026-05-22T16:30:00Z".parse()?; // 17:30 by the clock on the wall
//! assert!(!hours.is_open(friday_evening)?);
//! let saturday: civic_messaging::Timestamp = "2026-05-23T09:00:00Z".parse()?;
//! assert_eq!(hours.next_opening(friday_evening)?, saturday);
//! // Monday 25 May is a bank holiday.
//! assert_eq!(hours.next_opening("2026-05-23T11:00:00Z".parse()?)?, "2026-05-26T08:00:00Z".parse()?);
//! # }
//! # Ok::<(), civic_messaging::Error>(())
//! ```

mod bank_holidays;
mod config;
mod day;
mod zone;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::bank_holidays::{BankHolidays, Division};
pub use self::config::{Closure, Config, Extra};
pub use self::day::{Date, Opening, Time, Weekday};
pub use self::zone::Zone;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, Result};

/// A time without an opening: from the moment of closing until the moment of opening again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Period {
    /// When the office closed.
    pub from: Timestamp,
    /// When it opens again.
    pub until: Timestamp,
}

/// When an office is open.
///
/// A moment is open when the clock on the wall shows a time of that day's ranges. So a range from 01:00 to 01:30 on a
/// Sunday comes twice where the clocks go back, and not at all where they go forward. Times of work are measured as
/// they pass, and not by the clock: from 00:00 to 03:00 of these Sundays are four hours, and two.
///
/// # Errors
/// Every question has an [`ErrorKind::Config`](crate::ErrorKind::Config) in place of an answer that would need a day
/// whose bank holidays, or whose summer time (before 1996, from 2100 on), are not known. See
/// [`known_until`](Self::known_until).
#[derive(Clone, Debug)]
pub struct Hours {
    zone: Zone,
    week: [Vec<Opening>; 7],
    /// The days that are not as the week says.
    special: BTreeMap<Date, Special>,
    known: Option<Known>,
}

/// A day that is not as the week says.
#[derive(Clone, Debug)]
struct Special {
    openings: Vec<Opening>,
    /// Why it is closed.
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
    /// Opening hours, with the bank holidays that this crate carries.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), with the field and its rule: ranges that overlap, are empty or
    /// end before they begin; a day or a time that is none; a date that is closed twice, has extra times twice, or both
    /// of these; a reason that is empty; a week without any opening.
    pub fn new(config: &Config) -> Result<Self> {
        match config.bank_holidays {
            Some(division) => Self::build(config, Some((division, &BankHolidays::bundled()?))),
            None => Self::build(config, None),
        }
    }

    /// Opening hours, with bank holidays from a newer list than this crate's.
    ///
    /// # Errors
    /// Those of [`new`](Self::new), and one for `bank_holidays` when the configuration names no division.
    pub fn bank_holidays(config: &Config, holidays: &BankHolidays) -> Result<Self> {
        let division = config.bank_holidays.ok_or_else(|| {
            Error::config("bank_holidays", "is missing: say england_and_wales, scotland or northern_ireland")
        })?;
        Self::build(config, Some((division, holidays)))
    }

    fn build(config: &Config, holidays: Option<(Division, &BankHolidays)>) -> Result<Self> {
        let week = config::week(&config.week)?;
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
            let openings = config::day(open).map_err(|error| error.with_field(field()))?;
            if let Some(earlier) = seen.insert(*date, "given extra times") {
                let rule = format!("gives extra times to {date}, which is {earlier} already");
                return Err(Error::config(format!("extra[{index}].date"), rule));
            }
            special.insert(*date, Special { openings, reason: None });
        }
        Ok(Self { zone: config.zone, week, special, known })
    }

    /// Whether somebody is there at this moment.
    ///
    /// # Errors
    /// See [`Hours`].
    pub fn is_open(&self, at: Timestamp) -> Result<bool> {
        let (date, millis) = self.zone.local(at)?;
        let open = |opening: &Opening| opening.from().millis() <= millis && millis < opening.until().millis();
        Ok(self.openings(date)?.iter().any(open))
    }

    /// The first moment, from this one on, at which somebody is there: this one itself when it is open.
    ///
    /// ```
    /// use civic_messaging::policy::hours::{Config, Hours};
    ///
    /// let hours = Hours::new(&Config::new("Mon-Fri 09:00-17:00"))?;
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

    /// When the opening ends to which this moment belongs; none when it belongs to none.
    ///
    /// # Errors
    /// See [`Hours`]: also when it is always open, and does not close in any year that is known.
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
                // It may go on at midnight.
                Some(end) if self.zone.local(end)? == (date, 0) => {}
                end => return Ok(end),
            }
        }
    }

    /// How long somebody was there between two moments, in the time that passed; none when `to` is not after `from`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use civic_messaging::policy::hours::{Config, Hours};
    ///
    /// let hours = Hours::new(&Config::new("Mon-Fri 09:00-17:00"))?;
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

    /// The time without an opening to which this moment belongs; none when somebody is there.
    ///
    /// It is the same for each moment of it, and so it can tell what was done in it already.
    ///
    /// # Errors
    /// See [`Hours`]: both of its ends have to be known.
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

    /// Why the whole of this day is closed, where that is not for the week alone: the bank holiday's name, or the
    /// reason that the office gave.
    ///
    /// # Errors
    /// See [`Hours`].
    pub fn closed_for(&self, date: Date) -> Result<Option<&str>> {
        self.openings(date)?;
        Ok(self.special.get(&date).and_then(|special| special.reason.as_deref()))
    }

    /// The last day whose bank holidays are known; none if none are kept. Look at it once a month: after that day every
    /// question is an error, and some time before it [`next_opening`](Self::next_opening) may be one.
    pub fn known_until(&self) -> Option<Date> {
        self.known.as_ref().map(|known| known.last)
    }

    /// The day and the time that a clock on the wall shows.
    ///
    /// # Errors
    /// See [`Hours`].
    pub fn local(&self, at: Timestamp) -> Result<(Date, Time)> {
        let (date, millis) = self.zone.local(at)?;
        Ok((date, Time::from_millis(millis)))
    }

    /// The ranges of a day, in order; none of them touches another.
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

    /// The moments of a day from which and until which somebody is there, in order.
    fn moments(&self, date: Date) -> Result<Vec<(Timestamp, Timestamp)>> {
        let mut moments = Vec::new();
        let openings = self.openings(date)?;
        // A day without openings still has to be one whose clocks are known: the search for one goes no further.
        self.zone.moments(date, 0, 0).map(drop)?;
        for opening in openings {
            moments.extend(self.zone.moments(date, opening.from().millis(), opening.until().millis())?);
        }
        // Where the clocks go back, a part of an earlier range comes after a part of a later one.
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

    fn office() -> Config {
        Config::new("Mon-Fri 09:00-17:00")
    }

    #[test]
    fn a_closure_closes_and_an_extra_opening_opens_even_a_bank_holiday() {
        let config = office()
            .bank_holidays(Division::EnglandAndWales)
            .closed(date("2026-12-24"), "Christmas Eve")
            .extra(date("2026-12-28"), "10:00-12:00");
        let hours = Hours::new(&config).unwrap();
        assert!(!hours.is_open(at("2026-12-24T10:00:00Z")).unwrap());
        assert_eq!(hours.closed_for(date("2026-12-24")).unwrap(), Some("Christmas Eve"));
        assert_eq!(hours.closed_for(date("2026-12-25")).unwrap(), Some("Christmas Day"));
        // 28 December 2026 stands in for Boxing Day.
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
        let hours = Hours::new(&Config::new("Fri 20:00-24:00").week("Sat 00:00-04:00")).unwrap();
        let (friday, saturday) = (at("2026-11-27T23:59:00Z"), at("2026-11-28T04:00:00Z"));
        assert_eq!(hours.closes_at(friday).unwrap(), Some(saturday));
        assert_eq!(hours.closes_at(saturday).unwrap(), None);
        assert_eq!(hours.closed_period(saturday).unwrap().unwrap().from, saturday);
        let always = Hours::new(&Config::new("Mon-Sun 00:00-24:00")).unwrap();
        assert!(always.is_open(friday).unwrap());
        assert_eq!(always.closes_at(friday).unwrap_err().field(), Some("zone"));
    }

    #[test]
    fn the_data_ends_with_an_error_and_not_with_a_guess() {
        let hours = Hours::new(&office().bank_holidays(Division::Scotland)).unwrap();
        assert_eq!(hours.known_until(), Some(date("2028-12-31")));
        assert!(hours.is_open(at("2028-12-29T16:59:59.999Z")).unwrap());
        assert_eq!(hours.closes_at(at("2028-12-29T10:00:00Z")).unwrap(), Some(at("2028-12-29T17:00:00Z")));
        assert!(!hours.is_open(at("2028-12-31T23:59:59.999Z")).unwrap());
        // The first opening of 2029 may be a bank holiday or not: the question is about 2029.
        let asked = [
            hours.is_open(at("2029-01-01T00:00:00Z")).unwrap_err(),
            hours.next_opening(at("2028-12-29T17:00:00Z")).unwrap_err(),
            hours.closed_period(at("2028-12-30T10:00:00Z")).unwrap_err(),
            hours.working_time(at("2028-12-01T00:00:00Z"), at("2029-01-01T00:00:00.001Z")).unwrap_err(),
            hours.closed_for(date("2029-01-02")).unwrap_err(),
        ];
        for error in asked {
            assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("bank_holidays")));
            let text = error.to_string();
            assert!(text.contains("2012 to 2028 only") && text.contains("load a newer list"), "{text}");
        }
        assert!(hours.is_open(at("2011-12-31T12:00:00Z")).unwrap_err().to_string().contains("earlier years"));
        hours.working_time(at("2028-12-01T00:00:00Z"), at("2029-01-01T00:00:00Z")).unwrap();
        // Without bank holidays nothing is to be known of them.
        let any_day = Hours::new(&office()).unwrap();
        assert_eq!(any_day.next_opening(at("2050-01-01T12:00:00Z")).unwrap(), at("2050-01-03T09:00:00Z"));
        assert_eq!(any_day.known_until(), None);
    }

    #[test]
    fn a_day_that_the_office_settled_itself_needs_no_list() {
        let config = office().bank_holidays(Division::Scotland).extra(date("2029-01-02"), "09:00-17:00");
        assert!(Hours::new(&config).unwrap().is_open(at("2029-01-02T12:00:00Z")).unwrap());
    }

    #[test]
    fn a_newer_list_carries_further() {
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
    fn what_is_written_wrong_is_named() {
        let table: &[(Config, &str, &str)] = &[
            (Config::default(), "week", "no line"),
            (Config::new("Mon-Fri"), "week[0]", "no range"),
            (Config::new("Mon-Fry 09:00-17:00"), "week[0]", "none of Mon, Tue"),
            (Config::new("Mon 09:00-17:00 Tue 09:00-12:00"), "week[0]", "after a time"),
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
            (Config::new("Mon, Mon-Fri 09:00-17:00"), "week[0]", "Monday has ranges that overlap"),
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
    fn what_a_file_gets_wrong_is_named() {
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
            let error = settings.read::<Config>().unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some(field)), "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn a_configuration_survives_a_store() {
        let config = office().bank_holidays(Division::NorthernIreland).closed(date("2026-07-14"), "Local");
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config);
    }
}
