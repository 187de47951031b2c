//! The retry schedule, as a pure value.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use crate::adapter::{RETRY_AFTER_MAX, RETRY_AFTER_MIN};
use crate::model::clock::Timestamp;
use crate::model::error::{Error, ErrorKind, Outcome, Result};
use crate::model::message::{Message, OnUnknown};

/// Exponential backoff with full jitter. A pure value: the caller passes the time and the randomness.
///
/// The wait is the gateway's `Retry-After`, plus a random part of a time that doubles with each attempt, between
/// 1 second and 24 hours. An attempt is never made before the `Retry-After` has passed, nor after the message's
/// `not_after`.
///
/// ```
/// use std::time::Duration;
/// use civic_messaging::layer::retry::{Schedule, StopReason, Attempts};
/// use civic_messaging::{Error, ErrorKind, Timestamp};
///
/// let schedule = Schedule::default();
/// let attempts = Attempts::new(1, Duration::ZERO);
/// let busy = Error::new(ErrorKind::RateLimited, "too many").with_retry(true, Some(Duration::from_secs(7)));
/// let wait = schedule.next(&busy, None, attempts, Timestamp::default(), 0).unwrap();
/// assert_eq!(wait, Duration::from_secs(7));
///
/// let unknown = Error::unknown("no response");
/// assert_eq!(schedule.next(&unknown, None, attempts, Timestamp::default(), 0), Err(StopReason::Unknown));
///
/// // The gateway recognises a repeated send for another hour.
/// let repeatable = attempts.repeatable_for(Some(Duration::from_secs(3600)));
/// assert!(schedule.next(&unknown, None, repeatable, Timestamp::default(), 0).is_ok());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "ScheduleWire")]
pub struct Schedule {
    attempts: u32,
    base: Duration,
    max: Duration,
    within: Duration,
}

/// The attempts made so far.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempts {
    /// The number of attempts, including the first.
    pub times: u32,
    /// The time since the first attempt began.
    pub elapsed: Duration,
    /// An earlier attempt has an unknown outcome.
    pub has_unknown: bool,
    /// The time from now within which a resend makes no second message: what is left of
    /// [`Info::resend_window`](crate::Info::resend_window). `None` if it may make one.
    pub repeatable_for: Option<Duration>,
}

impl Attempts {
    /// Creates the attempts made so far, none with an unknown outcome, at a gateway without an idempotency window.
    pub const fn new(times: u32, elapsed: Duration) -> Self {
        Self { times, elapsed, has_unknown: false, repeatable_for: None }
    }

    /// Sets whether an earlier attempt has an unknown outcome.
    #[must_use]
    pub const fn has_unknown(self, has_unknown: bool) -> Self {
        Self { has_unknown, ..self }
    }

    /// Sets the time from now within which a resend makes no second message.
    #[must_use]
    pub const fn repeatable_for(self, repeatable_for: Option<Duration>) -> Self {
        Self { repeatable_for, ..self }
    }
}

/// The reason why a call is not retried.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// The schedule's attempts are exhausted.
    Attempts,
    /// The retry budget is exhausted: see [`RetryBudget`](super::RetryBudget).
    Budget,
    /// The error is not retryable.
    Final,
    /// The next attempt would come after the message's `not_after`, after the schedule's time limit, or in more than
    /// 24 hours.
    TooLate,
    /// The outcome is unknown.
    Unknown,
}

impl Schedule {
    /// 2 attempts within 5 seconds, for a gateway that another one follows.
    pub(crate) const BRIEF: Self = Self { attempts: 2, within: Duration::from_secs(5), ..Self::new() };

    /// 20 attempts within a day, with a backoff from 2 seconds to an hour, for messages that wait in a store.
    #[cfg(any(feature = "postgres", feature = "sqlite-system"))]
    pub(crate) const DURABLE: Self = Self {
        attempts: 20,
        base: Duration::from_secs(2),
        max: Duration::from_secs(3_600),
        within: Duration::from_secs(24 * 3_600),
    };

    /// 24 attempts within a day, with a backoff from 1 second to an hour, for a media file: its link may expire within
    /// minutes, but some gateways serve the file for longer.
    #[cfg(any(feature = "postgres", feature = "sqlite-system"))]
    pub(crate) const FILE: Self = Self { attempts: 24, base: Duration::from_secs(1), ..Self::DURABLE };

    /// Creates a schedule of 4 attempts within a minute, with a backoff from 1 to 30 seconds.
    pub const fn new() -> Self {
        let secs = Duration::from_secs;
        Self { attempts: 4, base: secs(1), max: secs(30), within: secs(60) }
    }

    /// Sets the maximum number of attempts, including the first: 1 or more.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for 0.
    pub fn attempts(self, attempts: u32) -> Result<Self> {
        if attempts == 0 {
            return Err(Error::config("attempts", "must be 1 or more: the first attempt counts"));
        }
        Ok(Self { attempts, ..self })
    }

    /// Sets the backoff: a random wait of up to `base` after the first attempt, doubled after each further one, at most
    /// `max`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if `base` is 0 or above `max`, or if `max` is above 24 hours.
    pub fn backoff(self, base: Duration, max: Duration) -> Result<Self> {
        if base.is_zero() || base > max || max > RETRY_AFTER_MAX {
            let rule = "must be above 0 and at most max_seconds, which is at most 24 hours (86400 seconds)";
            return Err(Error::config("base_seconds", rule));
        }
        Ok(Self { base, max, ..self })
    }

    /// Sets the maximum time from the start of the first attempt to the start of the last one.
    #[must_use]
    pub const fn within(self, within: Duration) -> Self {
        Self { within, ..self }
    }

    /// Returns the wait from now until the next attempt.
    ///
    /// `message` is `None` for a call that sends nothing; `random` should be random.
    ///
    /// # Errors
    /// The reason why there is no further attempt. After an unknown outcome that is [`StopReason::Unknown`], unless the
    /// message has [`OnUnknown::Resend`], or the next attempt comes while a resend makes no second message
    /// ([`Attempts::repeatable_for`]).
    pub fn next(
        &self,
        error: &Error,
        message: Option<&Message>,
        attempts: Attempts,
        now: Timestamp,
        random: u64,
    ) -> Result<Duration, StopReason> {
        let unknown = error.outcome() == Outcome::Unknown;
        let resend = message.is_some_and(|message| message.on_unknown == OnUnknown::Resend);
        let is_transient =
            matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Unexpected | ErrorKind::RateLimited);
        if unknown && !(is_transient && error.accepted_parts().is_empty()) {
            return Err(StopReason::Unknown);
        }
        if !unknown && !error.is_retryable() {
            return Err(StopReason::Final);
        }
        let repeats = (unknown || attempts.has_unknown) && !resend;
        let repeatable_for = attempts.repeatable_for.filter(|_| repeats);
        if repeats && repeatable_for.is_none() {
            return Err(StopReason::Unknown);
        }
        if attempts.times >= self.attempts {
            return Err(StopReason::Attempts);
        }
        let retry_after = error.retry_after().unwrap_or_default();
        let wait =
            retry_after.saturating_add(self.jitter(attempts.times, random)).clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX);
        let expired = message.and_then(|message| message.not_after).is_some_and(|until| now.plus(wait) > until);
        if retry_after > RETRY_AFTER_MAX || expired || attempts.elapsed.saturating_add(wait) > self.within {
            return Err(StopReason::TooLate);
        }
        if repeatable_for.is_some_and(|left| wait > left) {
            return Err(StopReason::Unknown);
        }
        Ok(wait)
    }

    /// Returns the time that doubles with each attempt.
    pub(crate) fn backoff_after(&self, times: u32) -> Duration {
        let doubled = 1_u32.checked_shl(times.saturating_sub(1)).unwrap_or(u32::MAX);
        self.base.saturating_mul(doubled).min(self.max)
    }

    /// Returns a random part of the time that doubles with each attempt.
    fn jitter(&self, times: u32, random: u64) -> Duration {
        let ceiling = self.backoff_after(times);
        // At most 24 hours are fewer than 2^47 nanoseconds: the product fits.
        let nanos = (ceiling.as_nanos() * u128::from(random)) >> 64;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self::new()
    }
}

/// The table `{ attempts = 4, base_seconds = 1, max_seconds = 30, within_seconds = 60 }` of a configuration. Each field is
/// optional.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { attempts = 4, within_seconds = 60 }")]
pub(crate) struct ScheduleWire {
    attempts: Option<u32>,
    base_seconds: Option<u32>,
    max_seconds: Option<u32>,
    within_seconds: Option<u32>,
}

impl ScheduleWire {
    /// Returns `default` with the given fields changed.
    pub(crate) fn over(&self, default: Schedule) -> Result<Schedule> {
        let time = |secs: Option<u32>, or| secs.map_or(or, |secs| Duration::from_secs(secs.into()));
        default
            .attempts(self.attempts.unwrap_or(default.attempts))?
            .backoff(time(self.base_seconds, default.base), time(self.max_seconds, default.max))
            .map(|schedule| schedule.within(time(self.within_seconds, default.within)))
    }
}

impl TryFrom<ScheduleWire> for Schedule {
    type Error = Error;

    fn try_from(wire: ScheduleWire) -> Result<Self> {
        wire.over(Self::new())
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl StopReason {
    /// Returns the reason as one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Budget => "budget",
            Self::Final => "final",
            Self::TooLate => "too_late",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Address;

    const FIRST: Attempts = Attempts::new(1, Duration::ZERO);

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn message() -> Message {
        Message::text(Address::phone("07700 900123").unwrap(), "Hello")
    }

    fn busy(after: Option<Duration>) -> Error {
        Error::new(ErrorKind::RateLimited, "busy").with_retry(true, after)
    }

    fn next(error: &Error, message: &Message) -> Result<Duration, StopReason> {
        Schedule::new().next(error, Some(message), FIRST, Timestamp::default(), u64::MAX)
    }

    #[test]
    fn unknown_outcome_is_retried_only_with_resend() {
        let unknown = Error::unknown("no answer");
        for on_unknown in [OnUnknown::Park, OnUnknown::Reconcile] {
            assert_eq!(next(&unknown, &message().on_unknown(on_unknown)), Err(StopReason::Unknown));
        }
        let resend = message().on_unknown(OnUnknown::Resend);
        assert!(next(&unknown, &resend).is_ok());
        let partial = Error::unknown("no answer").with_accepted_parts(vec![crate::MessageId::new("SM1")]);
        assert_eq!(next(&partial, &resend), Err(StopReason::Unknown));
        let opted_out = Error::new(ErrorKind::OptedOut, "no").with_outcome(Outcome::Unknown);
        assert_eq!(next(&opted_out, &resend), Err(StopReason::Unknown));
        // A definite refusal stays final.
        assert_eq!(next(&Error::new(ErrorKind::OptedOut, "no"), &resend), Err(StopReason::Final));
    }

    #[test]
    fn unknown_outcome_is_repeated_within_the_window_only() {
        let unknown = Error::unknown("no answer");
        let next = |error: &Error, attempts| {
            Schedule::new().next(error, Some(&message()), attempts, Timestamp::default(), u64::MAX)
        };
        let left = |left| FIRST.repeatable_for(Some(secs(left)));
        assert!(next(&unknown, left(3)).is_ok());
        assert_eq!(next(&unknown, left(0)), Err(StopReason::Unknown));
        // After an unknown outcome even a refused connection is retried within the window only.
        assert!(next(&busy(None), left(3).has_unknown(true)).is_ok());
        assert_eq!(next(&busy(None), left(0).has_unknown(true)), Err(StopReason::Unknown));
        assert_eq!(next(&busy(None), FIRST.has_unknown(true)), Err(StopReason::Unknown));
        assert!(next(&busy(None), left(0)).is_ok());
        let partial = Error::unknown("no answer").with_accepted_parts(vec![crate::MessageId::new("SM1")]);
        assert_eq!(next(&partial, left(3)), Err(StopReason::Unknown));
        let opted_out = Error::new(ErrorKind::OptedOut, "no");
        assert_eq!(next(&opted_out, left(3).has_unknown(true)), Err(StopReason::Final));
    }

    #[test]
    fn attempts_time_limit_and_not_after_stop_retries() {
        let schedule = Schedule::new();
        let after = |times, elapsed| Attempts::new(times, secs(elapsed));
        let next_at = |attempts, error: &Error| schedule.next(error, None, attempts, Timestamp::default(), 0);
        assert_eq!(next_at(after(4, 0), &busy(None)), Err(StopReason::Attempts));
        assert_eq!(next_at(after(2, 59), &busy(None)), Ok(secs(1)));
        assert_eq!(next_at(after(2, 60), &busy(None)), Err(StopReason::TooLate));
        assert_eq!(next_at(FIRST, &busy(Some(secs(61)))), Err(StopReason::TooLate));
        let until = |secs| message().not_after(Timestamp::from_secs(secs));
        assert_eq!(next(&busy(Some(secs(7))), &until(7)), Err(StopReason::TooLate));
        assert!(next(&busy(Some(secs(7))), &until(8)).is_ok());
        // A `Retry-After` above a day is not shortened to a day.
        let days = Schedule::new().within(Duration::MAX);
        assert_eq!(
            days.next(&busy(Some(secs(86_401))), None, FIRST, Timestamp::default(), 0),
            Err(StopReason::TooLate)
        );
        assert_eq!(days.next(&busy(Some(secs(86_400))), None, FIRST, Timestamp::default(), 9), Ok(secs(86_400)));
    }

    #[test]
    fn invalid_settings_name_their_field() {
        assert_eq!(Schedule::new().attempts(0).unwrap_err().field(), Some("attempts"));
        for (base, max) in [(0, 1), (2, 1), (1, 86_401)] {
            assert_eq!(Schedule::new().backoff(secs(base), secs(max)).unwrap_err().field(), Some("base_seconds"));
        }
        let read = |json: &str| serde_json::from_str::<Schedule>(json);
        assert_eq!(read("{}").unwrap(), Schedule::new());
        assert_eq!(read(r#"{"attempts":2,"within_seconds":5}"#).unwrap().within, secs(5));
        assert!(read(r#"{"attempts":0}"#).unwrap_err().to_string().contains("attempts: must be 1"));
        assert!(read(r#"{"atempts":1}"#).is_err());
    }

    proptest! {
        #[test]
        fn wait_is_clamped_and_never_below_retry_after(
            after in proptest::option::of(any::<u64>()),
            (times, random) in any::<(u32, u64)>(),
            (base, more) in (1..1_000_000_u64, 0..80_000_000_u64),
        ) {
            let after = after.map(|nanos| Duration::from_nanos(nanos.wrapping_mul(7)));
            let millis = Duration::from_millis;
            let schedule = Schedule::new().attempts(u32::MAX).unwrap().within(Duration::MAX);
            let schedule = schedule.backoff(millis(base), millis(base + more).min(RETRY_AFTER_MAX)).unwrap();
            match schedule.next(&busy(after), None, Attempts::new(times, Duration::ZERO), Timestamp::default(), random) {
                Ok(wait) => {
                    prop_assert!((RETRY_AFTER_MIN..=RETRY_AFTER_MAX).contains(&wait));
                    prop_assert!(wait >= after.unwrap_or_default());
                }
                Err(StopReason::TooLate) => prop_assert!(after.unwrap_or_default() > RETRY_AFTER_MAX),
                Err(stop) => prop_assert_eq!((stop, times), (StopReason::Attempts, u32::MAX)),
            }
        }

        #[test]
        fn jitter_is_full_and_doubles_up_to_its_maximum(times in 1..40_u32, random in any::<u64>()) {
            let schedule = Schedule::new();
            let ceiling = (2_f64.powi(times as i32 - 1)).min(30.0);
            let jitter = schedule.jitter(times, random).as_secs_f64();
            prop_assert!(jitter <= ceiling);
            prop_assert_eq!(schedule.jitter(times, 0), Duration::ZERO);
            prop_assert!(schedule.jitter(times, u64::MAX).as_secs_f64() > ceiling * 0.999);
        }
    }
}
