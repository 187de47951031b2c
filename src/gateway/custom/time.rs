//! Times as suppliers write them.

use jiff::civil::DateTime;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use serde::de::{Deserialize, Deserializer, Error as _};

use crate::model::clock::Timestamp;

/// The format of a supplier's times: `rfc3339`, `unix`, `unix_ms`, or a pattern such as `%Y-%m-%d %H:%M:%S`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum TimeFormat {
    Pattern(String),
    #[default]
    Rfc3339,
    Unix,
    UnixMillis,
}

/// The zone of times that state none: `UTC`, `Europe/London`, or a zone of POSIX such as `CET-1CEST,M3.5.0,M10.5.0/3`.
#[derive(Clone, Debug)]
pub(super) struct Zone(TimeZone);

/// British time, as a rule of POSIX: no zone database is needed.
const LONDON: &str = "GMT0BST,M3.5.0/1,M10.5.0";

impl TimeFormat {
    /// Returns the time, or `None` if the text has another format.
    ///
    /// Where the clock goes back and a time occurs twice, it is the first of both.
    pub(super) fn read(&self, text: &str, zone: &Zone) -> Option<Timestamp> {
        let text = text.trim();
        match self {
            Self::Pattern(pattern) => {
                let parsed = strtime::parse(pattern, text).ok()?;
                let at = match parsed.to_timestamp() {
                    Ok(at) => at,
                    Err(_) => zone
                        .0
                        .to_timestamp(DateTime::from_parts(parsed.to_date().ok()?, parsed.to_time().ok()?))
                        .ok()?,
                };
                Some(Timestamp::from_millis(at.as_millisecond()))
            }
            Self::Rfc3339 => text.parse().ok(),
            Self::Unix => text.parse::<i64>().ok()?.checked_mul(1000).map(Timestamp::from_millis),
            Self::UnixMillis => text.parse().ok().map(Timestamp::from_millis),
        }
    }
}

impl<'de> Deserialize<'de> for TimeFormat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(match text.as_str() {
            "rfc3339" => Self::Rfc3339,
            "unix" => Self::Unix,
            "unix_ms" => Self::UnixMillis,
            pattern if ["%Y", "%m", "%d"].iter().all(|part| pattern.contains(part)) => Self::Pattern(text),
            _ => return Err(D::Error::custom("must be rfc3339, unix, unix_ms, or a pattern with %Y, %m and %d")),
        })
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self(TimeZone::UTC)
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let zone = match name.as_str() {
            "UTC" => Ok(TimeZone::UTC),
            "Europe/London" => TimeZone::posix(LONDON),
            posix => TimeZone::posix(posix),
        };
        let rule = "must be UTC, Europe/London, or a zone of POSIX such as CET-1CEST,M3.5.0,M10.5.0/3";
        zone.map(Self).map_err(|_| D::Error::custom(rule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_follow_format_and_zone() {
        let zone = |name: &str| serde_json::from_value::<Zone>(name.into()).unwrap();
        let format = |text: &str| serde_json::from_value::<TimeFormat>(text.into()).unwrap();
        for (text, form, of, expected) in [
            ("2026-11-22T13:46:42+01:00", "rfc3339", "UTC", "2026-11-22T12:46:42Z"),
            ("1795353820", "unix", "UTC", "2026-11-22T13:23:40Z"),
            ("1795353820500", "unix_ms", "UTC", "2026-11-22T13:23:40.5Z"),
            ("2026-07-01 10:00:00", "%Y-%m-%d %H:%M:%S", "Europe/London", "2026-07-01T09:00:00Z"),
            ("2026-12-01 10:00:00", "%Y-%m-%d %H:%M:%S", "Europe/London", "2026-12-01T10:00:00Z"),
            ("01/07/2026 10:00", "%d/%m/%Y %H:%M", "CET-1CEST,M3.5.0,M10.5.0/3", "2026-07-01T08:00:00Z"),
            ("2026-07-01 10:00:00 +0200", "%Y-%m-%d %H:%M:%S %z", "Europe/London", "2026-07-01T08:00:00Z"),
        ] {
            let at = format(form).read(text, &zone(of));
            assert_eq!(at, Some(expected.parse().unwrap()), "{text}");
        }
        for (text, form) in
            [("soon", "unix"), ("9223372036854775807", "unix"), ("2026-13-01", "%Y-%m-%d"), ("", "rfc3339")]
        {
            assert_eq!(format(form).read(text, &Zone::default()), None, "{text}");
        }
        assert!(serde_json::from_value::<TimeFormat>("%H:%M".into()).is_err());
        assert!(serde_json::from_value::<Zone>("Mars".into()).is_err());
    }
}
