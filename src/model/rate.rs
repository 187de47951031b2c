//! Rate limits: documented by a gateway, and reported in its responses.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::clock::Timestamp;
use crate::model::error::{Error, Result};

/// A number of messages per period, evenly spaced.
///
/// ```
/// use std::time::Duration;
/// use civic_messaging::rate::Rate;
///
/// let notify = Rate::per_minute(3_000);
/// assert_eq!(notify.interval(), Duration::from_micros(20_400));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RateSetting", into = "RateSetting")]
pub struct Rate {
    count: u32,
    per: Duration,
}

impl Rate {
    /// Creates a rate of `count` messages per period.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if `count` is zero, or `per` is zero or longer than a day.
    pub fn new(count: u32, per: Duration) -> Result<Self> {
        let rule = |rule| Err(Error::config("rate", rule));
        match (count, per) {
            (0, _) => rule("must be at least one message: to send nothing, remove the channel"),
            (_, per) if per.is_zero() || per > Duration::from_secs(24 * 3600) => {
                rule("must have a period of more than zero and at most a day")
            }
            _ => Ok(Self { count, per }),
        }
    }

    /// Creates a rate per second. Zero is read as one.
    pub const fn per_second(count: u32) -> Self {
        Self { count: if count == 0 { 1 } else { count }, per: Duration::from_secs(1) }
    }

    /// Creates a rate per minute. Zero is read as one.
    pub const fn per_minute(count: u32) -> Self {
        Self { per: Duration::from_secs(60), ..Self::per_second(count) }
    }

    /// Creates a rate of one message every `secs` seconds. Zero is read as one.
    pub const fn every_seconds(secs: u64) -> Self {
        Self { count: 1, per: Duration::from_secs(if secs == 0 { 1 } else { secs }) }
    }

    /// Creates a per-recipient rate that allows a burst of up to `burst` messages. Zero is read as one.
    pub const fn with_burst(self, burst: u32) -> PairRate {
        PairRate { rate: self, burst: if burst == 0 { 1 } else { burst } }
    }

    /// Returns the interval between messages.
    ///
    /// It is 2 % longer than the rate requires, because the gateway measures when requests arrive, not when they were
    /// sent.
    pub fn interval(&self) -> Duration {
        (self.per / self.count.max(1)).mul_f64(1.02)
    }
}

/// A rate limit per recipient, with bursts.
///
/// A burst is sent within one [`interval`](Rate::interval), on credit: the next message waits until the whole burst is
/// paid back.
///
/// ```
/// use std::time::Duration;
/// use civic_messaging::rate::{PairRate, Rate};
///
/// let whatsapp = Rate::every_seconds(6).with_burst(45);
/// assert_eq!(whatsapp.interval(), Duration::from_millis(6_120));
/// assert_eq!(PairRate::from(Rate::every_seconds(6)).burst(), 1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PairRateSetting", into = "PairRateSetting")]
pub struct PairRate {
    rate: Rate,
    burst: u32,
}

impl PairRate {
    /// Returns the burst size.
    pub const fn burst(&self) -> u32 {
        self.burst
    }

    /// Returns the interval between messages: see [`Rate::interval`].
    pub fn interval(&self) -> Duration {
        self.rate.interval()
    }
}

impl PairRate {
    pub(crate) fn intersection(self, other: Self) -> Self {
        let rate = if other.interval() > self.interval() { other.rate } else { self.rate };
        rate.with_burst(self.burst.min(other.burst))
    }
}

impl From<Rate> for PairRate {
    fn from(rate: Rate) -> Self {
        rate.with_burst(1)
    }
}

/// The form in a configuration: `{ count = 3000, seconds = 60 }`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { count = 350, seconds = 60 }")]
struct RateSetting {
    count: u32,
    seconds: f64,
}

/// The form in a configuration: `{ count = 1, seconds = 6, burst = 45 }`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { count = 1, seconds = 6, burst = 45 }")]
struct PairRateSetting {
    count: u32,
    seconds: f64,
    #[serde(default = "one")]
    burst: u32,
}

fn one() -> u32 {
    1
}

impl TryFrom<RateSetting> for Rate {
    type Error = &'static str;

    fn try_from(setting: RateSetting) -> Result<Self, Self::Error> {
        let per =
            Duration::try_from_secs_f64(setting.seconds).map_err(|_| "a rate's seconds must be more than zero")?;
        Self::new(setting.count, per).map_err(|_| "a rate needs a count of at least one, and seconds of at most a day")
    }
}

impl TryFrom<PairRateSetting> for PairRate {
    type Error = &'static str;

    fn try_from(setting: PairRateSetting) -> Result<Self, Self::Error> {
        let PairRateSetting { count, seconds, burst } = setting;
        if burst == 0 {
            return Err("a rate's burst must be at least one: omit it for no bursts");
        }
        Rate::try_from(RateSetting { count, seconds }).map(|rate| rate.with_burst(burst))
    }
}

impl From<Rate> for RateSetting {
    fn from(rate: Rate) -> Self {
        Self { count: rate.count, seconds: rate.per.as_secs_f64() }
    }
}

impl From<PairRate> for PairRateSetting {
    fn from(PairRate { rate, burst }: PairRate) -> Self {
        let RateSetting { count, seconds } = rate.into();
        Self { count, seconds, burst }
    }
}

/// The remaining quota that a gateway reports in a response header.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// The number of calls allowed in all.
    pub limit: Option<u64>,
    /// The number of calls left.
    pub remaining: u64,
    /// The time of the next reset.
    pub reset: Option<Timestamp>,
}

impl Quota {
    /// Creates a quota with this many calls left.
    pub const fn new(remaining: u64) -> Self {
        Self { limit: None, remaining, reset: None }
    }

    /// Sets the number of calls allowed in all.
    #[must_use]
    pub const fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Sets the time of the next reset.
    #[must_use]
    pub const fn until(mut self, reset: Timestamp) -> Self {
        self.reset = Some(reset);
        self
    }

    /// Returns the most restrictive quota: the last to reset of those that are exhausted, else the one with the fewest
    /// calls left.
    pub fn tightest(all: impl IntoIterator<Item = Self>) -> Option<Self> {
        all.into_iter().min_by_key(|one| (one.remaining, std::cmp::Reverse(one.reset)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_is_read_from_configuration() {
        let read = |json: &str| serde_json::from_str::<Rate>(json);
        assert_eq!(read(r#"{"count":3000,"seconds":60}"#).unwrap(), Rate::per_minute(3_000));
        let pair = |json: &str| serde_json::from_str::<PairRate>(json);
        assert_eq!(pair(r#"{"count":1,"seconds":6,"burst":45}"#).unwrap(), Rate::every_seconds(6).with_burst(45));
        assert_eq!(pair(r#"{"count":1,"seconds":6}"#).unwrap(), Rate::every_seconds(6).into());
        for wrong in [
            r#"{"count":0,"seconds":60}"#,
            r#"{"count":1,"seconds":0}"#,
            r#"{"count":1,"seconds":-1}"#,
            r#"{"count":1,"seconds":1e300}"#,
            r#"{"count":1,"seconds":86401}"#,
            r#"{"count":1,"second":1}"#,
            r#"{"count":1,"seconds":1,"burst":2}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(pair(r#"{"count":1,"seconds":1,"burst":0}"#).is_err());
        assert!(read("350").unwrap_err().to_string().contains("a table such as"));
        let rate = Rate::every_seconds(6).with_burst(45);
        assert_eq!(pair(&serde_json::to_string(&rate).unwrap()).unwrap(), rate);
    }

    #[test]
    fn tightest_quota_restricts_longest() {
        let at = Timestamp::from_secs;
        let [soon, late] = [Quota::new(0).until(at(10)), Quota::new(0).until(at(20))];
        let some = Quota::new(3).until(at(90));
        assert_eq!(Quota::tightest([some, soon, late]), Some(late));
        assert_eq!(Quota::tightest([Quota::new(7), some]), Some(some));
        assert_eq!(Quota::tightest([]), None);
    }
}
