//! Bank holidays of the United Kingdom, from GOV.UK's dated list.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::day::Date;
use crate::model::error::{Error, Result};

/// A part of the United Kingdom with bank holidays of its own, as GOV.UK divides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Division {
    /// England and Wales.
    EnglandAndWales,
    /// Scotland. Councils there keep local holidays too: see [`OpeningTimes::closed`](super::OpeningTimes::closed).
    Scotland,
    /// Northern Ireland.
    NorthernIreland,
}

impl Division {
    /// All divisions.
    pub const ALL: [Self; 3] = [Self::EnglandAndWales, Self::Scotland, Self::NorthernIreland];

    /// Returns the name in GOV.UK's list.
    const fn name(self) -> &'static str {
        match self {
            Self::EnglandAndWales => "england-and-wales",
            Self::Scotland => "scotland",
            Self::NorthernIreland => "northern-ireland",
        }
    }
}

impl fmt::Display for Division {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EnglandAndWales => "England and Wales",
            Self::Scotland => "Scotland",
            Self::NorthernIreland => "Northern Ireland",
        })
    }
}

/// Bank holidays of all three divisions, for whole years.
///
/// This crate bundles a dated list. GOV.UK's own covers one or two years ahead, and a holiday may be proclaimed late:
/// download <https://www.gov.uk/bank-holidays.json> once a year, and pass it to [`from_json`](Self::from_json).
///
/// ```
/// use civic_messaging::policy::hours::{BankHolidays, Division};
///
/// let holidays = BankHolidays::bundled()?;
/// assert_eq!(holidays.years(), 2012..=2028);
/// let st_andrew = "2026-11-30".parse()?;
/// assert_eq!(holidays.on(Division::Scotland, st_andrew)?, Some("St Andrew’s Day"));
/// assert_eq!(holidays.on(Division::EnglandAndWales, st_andrew)?, None);
/// assert!(holidays.on(Division::Scotland, "2029-01-01".parse()?).is_err()); // not announced yet
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BankHolidays {
    source: Option<String>,
    as_of: Option<Date>,
    years: (i16, i16),
    holidays: BTreeMap<(Division, Date), String>,
}

/// GOV.UK's list. The fields before the divisions are additions of this crate.
#[derive(Deserialize)]
struct Feed {
    source: Option<String>,
    as_of: Option<Date>,
    first_year: Option<i16>,
    last_year: Option<i16>,
    #[serde(rename = "england-and-wales")]
    england_and_wales: Part,
    scotland: Part,
    #[serde(rename = "northern-ireland")]
    northern_ireland: Part,
}

#[derive(Deserialize)]
struct Part {
    division: String,
    events: Vec<Holiday>,
}

#[derive(Deserialize)]
struct Holiday {
    title: String,
    date: Date,
}

impl BankHolidays {
    /// Returns the list bundled with this crate.
    ///
    /// # Errors
    /// None for the bundled list; the signature avoids a panic.
    pub fn bundled() -> Result<Self> {
        Self::from_json(include_str!("bank_holidays.json"))
    }

    /// Parses a list in the format of <https://www.gov.uk/bank-holidays.json>.
    ///
    /// The keys `source`, `as_of` (a date), `first_year` and `last_year` may be added. Without the last two, the years are
    /// those of the first and the last holiday.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), with the field and the rule: invalid JSON, a missing division, an
    /// invalid date, a missing or incomplete year.
    pub fn from_json(text: &str) -> Result<Self> {
        let mut json = serde_json::Deserializer::from_str(text);
        let feed: Feed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            let field = if path == "." { "bank_holidays".to_owned() } else { format!("bank_holidays.{path}") };
            let error = error.into_inner();
            // The data are public: the error may quote them.
            let shape = if error.is_data() { "in the format of GOV.UK's list" } else { "JSON" };
            Error::config(field, format!("is not {shape}: {error}"))
        })?;
        let mut holidays = BTreeMap::new();
        for (division, part) in
            Division::ALL.into_iter().zip([feed.england_and_wales, feed.scotland, feed.northern_ireland])
        {
            if part.division != division.name() {
                let field = format!("bank_holidays.{}.division", division.name());
                return Err(Error::config(field, "is not the division of its key"));
            }
            holidays.extend(part.events.into_iter().map(|event| ((division, event.date), event.title)));
        }
        let mut all: Vec<i16> = holidays.keys().map(|(_, date): &(_, Date)| date.year()).collect();
        all.sort_unstable();
        let (Some(&first), Some(&last)) = (all.first(), all.last()) else {
            return Err(Error::config("bank_holidays", "has no holidays"));
        };
        for (name, declared, found) in [("first_year", feed.first_year, first), ("last_year", feed.last_year, last)] {
            if declared.is_some_and(|declared| declared != found) {
                return Err(Error::config(format!("bank_holidays.{name}"), format!("is not the year found: {found}")));
            }
        }
        let holidays = Self { source: feed.source, as_of: feed.as_of, years: (first, last), holidays };
        holidays.check_complete()?;
        Ok(holidays)
    }

    /// Returns the source of the list, if recorded.
    pub fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// Returns the date of the list, if recorded.
    pub fn as_of(&self) -> Option<Date> {
        self.as_of
    }

    /// Returns the complete years of the list, for all divisions.
    pub fn years(&self) -> RangeInclusive<i16> {
        self.years.0..=self.years.1
    }

    /// Returns the name of the bank holiday on this day in this division, if any.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a day outside of [`years`](Self::years).
    pub fn on(&self, division: Division, date: Date) -> Result<Option<&str>> {
        match self.years().contains(&date.year()) {
            true => Ok(self.holidays.get(&(division, date)).map(String::as_str)),
            false => Err(unknown(self.years(), self.as_of, date.year())),
        }
    }

    /// Returns the bank holidays of a division, in order.
    pub fn dates(&self, division: Division) -> impl Iterator<Item = (Date, &str)> {
        let own = self.holidays.iter().filter(move |((of, _), _)| *of == division);
        own.map(|((_, date), title)| (*date, title.as_str()))
    }

    /// Requires New Year and Christmas in every year: a year without them is incomplete.
    fn check_complete(&self) -> Result<()> {
        for division in Division::ALL {
            for year in self.years() {
                for (month, feast) in [(1, "New Year"), (12, "Christmas")] {
                    if !self.dates(division).any(|(date, _)| date.year() == year && date.month() == month) {
                        let field = format!("bank_holidays.{}", division.name());
                        let rule = format!("has no holiday at {feast} of {year}: the year is missing or incomplete");
                        return Err(Error::config(field, rule));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Returns the error for a year that a list does not cover.
pub(super) fn unknown(years: RangeInclusive<i16>, as_of: Option<Date>, year: i16) -> Error {
    let dated = as_of.map(|date| format!(", as of {date}")).unwrap_or_default();
    let (first, last) = (years.start(), years.end());
    let what = if year > *last { "a newer list" } else { "a list with the earlier years" };
    Error::config(
        "bank_holidays",
        format!(
            "are known for the years {first} to {last} only{dated}, and {year} is needed: load {what} in the format \
             of https://www.gov.uk/bank-holidays.json with BankHolidays::from_json"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(years: &[i32]) -> serde_json::Value {
        let events: Vec<_> = years
            .iter()
            .flat_map(|year| ["01-01", "12-25"].map(|day| serde_json::json!({"title": "A", "date": format!("{year}-{day}"), "notes": "", "bunting": true})))
            .collect();
        let part = |name: &str| serde_json::json!({ "division": name, "events": events });
        serde_json::json!({
            "england-and-wales": part("england-and-wales"),
            "scotland": part("scotland"),
            "northern-ireland": part("northern-ireland"),
        })
    }

    #[test]
    fn bundled_list_is_complete_and_has_a_source() {
        let holidays = BankHolidays::bundled().unwrap();
        assert!(holidays.source().unwrap().starts_with("https://www.gov.uk/bank-holidays.json"));
        assert!(holidays.as_of().is_some());
        // The minimum of each division in a year since 2012.
        for (division, min) in Division::ALL.into_iter().zip([8, 9, 10]) {
            for year in holidays.years() {
                let found = holidays.dates(division).filter(|(date, _)| date.year() == year).count();
                assert!((min..=min + 2).contains(&found), "{division} {year}: {found}");
            }
        }
        let coronation = "2023-05-08".parse().unwrap();
        assert!(Division::ALL.iter().all(|division| holidays.on(*division, coronation).unwrap().is_some()));
        let boyne = "2027-07-12".parse().unwrap();
        let is_holiday = |division: &Division| holidays.on(*division, boyne).unwrap().is_some();
        assert_eq!(Division::ALL.iter().map(is_holiday).collect::<Vec<_>>(), [false, false, true]);
    }

    #[test]
    fn gov_uk_list_covers_the_years_in_it() {
        let holidays = BankHolidays::from_json(&feed(&[2028, 2029, 2030]).to_string()).unwrap();
        assert_eq!((holidays.years(), holidays.source(), holidays.as_of()), (2028..=2030, None, None));
        let error = holidays.on(Division::Scotland, "2031-01-01".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("2028 to 2030 only") && error.to_string().contains("a newer list"));
        let error = holidays.on(Division::Scotland, "2027-12-31".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("earlier years"));
    }

    type Change = fn(&mut serde_json::Value);

    #[test]
    fn invalid_list_names_its_field() {
        let table: [(Change, &str, &str); 9] = [
            (|f| *f = serde_json::json!([]), "bank_holidays", "line 1"),
            (|f| drop(f.as_object_mut().unwrap().remove("scotland")), "bank_holidays", "missing field `scotland`"),
            (|f| f["scotland"]["division"] = "wales".into(), "bank_holidays.scotland.division", "is not the division"),
            (
                |f| f["scotland"]["events"][1]["date"] = "25/12/2028".into(),
                "bank_holidays.scotland.events[1].date",
                "day of the calendar",
            ),
            (|f| f["scotland"]["events"] = serde_json::json!([]), "bank_holidays.scotland", "New Year of 2028"),
            (|f| f["first_year"] = 2020.into(), "bank_holidays.first_year", "2028"),
            (|f| f["last_year"] = 2031.into(), "bank_holidays.last_year", "2029"),
            (|f| *f = feed(&[2027, 2029]), "bank_holidays.england-and-wales", "New Year of 2028: the year is missing"),
            (
                |f| drop(f["northern-ireland"]["events"].as_array_mut().unwrap().pop()),
                "bank_holidays.northern-ireland",
                "Christmas of 2029",
            ),
        ];
        for (change, field, words) in table {
            let mut feed = feed(&[2028, 2029]);
            change(&mut feed);
            let error = BankHolidays::from_json(&feed.to_string()).unwrap_err();
            assert_eq!(error.field(), Some(field), "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
        assert!(BankHolidays::from_json("{").unwrap_err().to_string().contains("is not JSON: EOF"));
        assert!(BankHolidays::from_json(&feed(&[]).to_string()).unwrap_err().to_string().contains("no holidays"));
    }
}
