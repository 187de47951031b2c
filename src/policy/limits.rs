//! Limits on unprompted messages: to one person, and to adjacent numbers.

#![cfg_attr(
    not(any(feature = "postgres", feature = "sqlite-system")),
    allow(dead_code, reason = "the switchboard enforces them")
)]

use std::time::Duration;

use serde::Deserialize;

use super::Reason;
use super::budgets::AtCap;
use crate::model::error::{Error, Result};
use crate::model::message::Purpose;

/// The maximum number of notices and marketing messages to one person within a time.
///
/// A person is everybody whose addresses are linked, on all media and lines of a controller. A message counts from its
/// first attempt, whatever its outcome; replies and emergencies are neither counted nor stopped. Everything further is
/// refused when it is due, or waits: see [`AtCap`]. The rule is `frequency`. In a configuration:
/// `{ messages = 3, days = 7 }`, and `at_cap = "wait"`.
///
/// ```
/// use std::time::Duration;
/// use civic_messaging::policy::limits::Frequency;
///
/// let week = Duration::from_secs(7 * 24 * 3600);
/// assert_eq!(Frequency::new(3, week)?.max, 3);
/// assert_eq!(Frequency::new(0, week).unwrap_err().field(), Some("messages"));
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "FrequencyWire")]
pub struct Frequency {
    /// The maximum number of messages.
    pub max: u32,
    /// The time within which they are counted.
    pub window: Duration,
    /// The consequence for a message beyond it.
    pub at_cap: AtCap,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { messages = 3, days = 7 }")]
struct FrequencyWire {
    messages: u32,
    days: u32,
    #[serde(default)]
    at_cap: AtCap,
}

/// The maximum number of messages to one person that a frequency counts.
const MESSAGES_MAX: u32 = 100;

/// The longest time within which messages are counted.
const WINDOW_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

impl Frequency {
    /// Creates the limit, which refuses what is beyond it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) unless there are 1 to 100 messages, and 1 second to 366 days.
    pub fn new(max: u32, window: Duration) -> Result<Self> {
        if !(1..=MESSAGES_MAX).contains(&max) {
            return Err(Error::config("messages", "must be 1 to 100"));
        }
        if window < Duration::from_secs(1) || window > WINDOW_MAX {
            return Err(Error::config("days", "must be at least a second, and at most 366 days"));
        }
        Ok(Self { max, window, at_cap: AtCap::default() })
    }

    /// Sets the consequence for a message beyond the limit.
    #[must_use]
    pub fn at_cap(mut self, at_cap: AtCap) -> Self {
        self.at_cap = at_cap;
        self
    }

    /// Returns the reason for a message beyond the limit.
    pub(crate) fn reason(&self) -> Reason {
        let messages = if self.max == 1 { "one message".to_owned() } else { format!("{} messages", self.max) };
        Reason::new("frequency", format!("this person was sent {messages} without asking, the most within the time"))
    }
}

impl TryFrom<FrequencyWire> for Frequency {
    type Error = Error;

    fn try_from(wire: FrequencyWire) -> Result<Self> {
        let day = Duration::from_secs(24 * 3600);
        Ok(Self::new(wire.messages, day.saturating_mul(wire.days))?.at_cap(wire.at_cap))
    }
}

/// The maximum number of adjacent phone numbers to which a line sends SMS notices and marketing: a guard against SMS pumping.
///
/// SMS pumping asks for messages to ranges of numbers whose operator shares the revenue. Numbers are adjacent if they are
/// within 1,000 of each other. Of the last 200 distinct numbers of a line within the window, at most 15 may be adjacent to
/// the next one, which is refused otherwise. Refused numbers count as well, so that a range stays stopped while it is
/// tried. Replies and emergencies are neither counted nor stopped. The rule is `burst`. In a configuration:
/// `{ numbers = 15, minutes = 60 }`, or `{}` for these values.
///
/// It compares a number with recent ones only, so that the size of a campaign does not matter. UK residents' mobiles lie
/// among some hundred million numbers: of 200 at random, 0.004 are adjacent to another on average, and the probability of
/// 15 is below 10^-40. Of a list of 100,000 in numerical order, which lie some 1,000 apart, one or two are adjacent to the
/// next. A list of a million in numerical order would be stopped: shuffle it. A council's own consecutive numbers, such as
/// a contract's, may be stopped as well: send these as replies, or raise the maximum.
///
/// ```
/// use civic_messaging::policy::limits::Bursts;
///
/// assert_eq!(Bursts::new().max, 15);
/// assert!(Bursts::new().max(0).is_err());
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "BurstsWire")]
pub struct Bursts {
    /// The maximum number of adjacent numbers.
    pub max: u32,
    /// The time within which they are counted.
    pub window: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { numbers = 15, minutes = 60 }")]
struct BurstsWire {
    numbers: Option<u32>,
    minutes: Option<u32>,
}

/// The distance within which two phone numbers are adjacent.
pub(crate) const ADJACENT: u64 = 1_000;

/// The number of recent phone numbers of a line that are compared.
pub(crate) const NUMBERS_KEPT: usize = 200;

impl Bursts {
    /// Creates the limit of 15 adjacent numbers within an hour.
    pub const fn new() -> Self {
        Self { max: 15, window: Duration::from_secs(3600) }
    }

    /// Sets the maximum number of adjacent numbers.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) unless it is 1 to 100.
    pub fn max(mut self, max: u32) -> Result<Self> {
        if !(1..=100).contains(&max) {
            return Err(Error::config("numbers", "must be 1 to 100"));
        }
        self.max = max;
        Ok(self)
    }

    /// Sets the time within which numbers are counted.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) unless it is a minute to a day.
    pub fn window(mut self, window: Duration) -> Result<Self> {
        if !(60..=24 * 3600).contains(&window.as_secs()) || window > Duration::from_secs(24 * 3600) {
            return Err(Error::config("minutes", "must be a minute to a day"));
        }
        self.window = window;
        Ok(self)
    }

    /// Returns the reason for a message beyond the limit.
    pub(crate) fn reason(self) -> Reason {
        Reason::new("burst", "too many adjacent phone numbers were sent messages within a short time")
    }
}

impl Default for Bursts {
    fn default() -> Self {
        Self::new()
    }
}

impl TryFrom<BurstsWire> for Bursts {
    type Error = Error;

    fn try_from(wire: BurstsWire) -> Result<Self> {
        let bursts = wire.numbers.map_or(Ok(Self::new()), |numbers| Self::new().max(numbers))?;
        wire.minutes.map_or(Ok(bursts), |minutes| bursts.window(Duration::from_secs(60 * u64::from(minutes))))
    }
}

/// Returns `true` if a person did not ask for a message of this purpose, and nobody is in danger.
pub(crate) fn is_unprompted(purpose: Purpose) -> bool {
    !matches!(purpose, Purpose::Reply | Purpose::Emergency)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_name_their_fields() {
        let frequency = |json: &str| serde_json::from_str::<Frequency>(json).map_err(|error| error.to_string());
        let week = frequency(r#"{"messages":3,"days":7,"at_cap":"wait"}"#).unwrap();
        assert_eq!((week.max, week.window.as_secs(), week.at_cap), (3, 604_800, AtCap::Wait));
        for (json, rule) in [
            (r#"{"messages":0,"days":7}"#, "messages: must be 1 to 100"),
            (r#"{"messages":3,"days":0}"#, "days: must be at least a second"),
            (r#"{"messages":3,"days":4000000000}"#, "days: must be at least a second"),
            (r#"{"messages":3}"#, "missing field `days`"),
            (r#"{"messages":3,"days":7,"per":"day"}"#, "unknown field `per`"),
        ] {
            assert!(frequency(json).unwrap_err().contains(rule), "{json}");
        }
        let bursts = |json: &str| serde_json::from_str::<Bursts>(json).map_err(|error| error.to_string());
        assert_eq!(bursts("{}").unwrap(), Bursts::new());
        assert_eq!(bursts(r#"{"numbers":5,"minutes":10}"#).unwrap().window.as_secs(), 600);
        assert!(bursts(r#"{"numbers":101}"#).unwrap_err().contains("numbers: must be 1 to 100"));
        assert!(bursts(r#"{"minutes":0}"#).unwrap_err().contains("minutes: must be a minute to a day"));
        assert!(bursts(r#"{"minutes":1441}"#).unwrap_err().contains("minutes: must be a minute to a day"));
    }
}
