//! Whether a failed call is made again, and when.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use crate::adapter::{RETRY_AFTER_MAX, RETRY_AFTER_MIN};
use crate::model::clock::Timestamp;
use crate::model::error::{Error, ErrorKind, Outcome, Result};
use crate::model::message::{Message, OnUnknown};

/// Whether a failed call is made again, and when: a pure decision, which reads no clock and no random source.
///
/// It obeys the error. The wait is what the gateway asked for and, on top, a random part of a time that doubles with
/// each try (full jitter), between 1 second and 24 hours. It never falls before what the gateway asked for, and never
/// after the message's `not_after`.
///
/// ```
/// use std::time::Duration;
/// use civic_messaging::layer::retry::{Schedule, StopReason, Attempts};
/// use civic_messaging::{Error, ErrorKind, Timestamp};
///
/// let schedule = Schedule::default();
/// let tried = Attempts { times: 1, elapsed: Duration::ZERO };
/// let busy = Error::new(ErrorKind::RateLimited, "too many").with_retry(true, Some(Duration::from_secs(7)));
/// let wait = schedule.next(&busy, None, tried, Timestamp::default(), 0).unwrap();
/// assert_eq!(wait, Duration::from_secs(7));
///
/// let doubtful = Error::unknown("no answer");
/// assert_eq!(schedule.next(&doubtful, None, tried, Timestamp::default(), 0), Err(StopReason::Unknown));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "ScheduleWire")]
pub struct Schedule {
    attempts: u32,
    base: Duration,
    most: Duration,
    within: Duration,
}

/// What was tried so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempts {
    /// How often, the first time included.
    pub times: u32,
    /// Since the first try began.
    pub elapsed: Duration,
}

/// Why there is no further try.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// It was tried as often as the schedule allows.
    Attempts,
    /// The retries of this time are used up: see [`Budget`](super::Budget).
    Budget,
    /// The error says that the same request does not help.
    Final,
    /// The next try would come after the message's `not_after`, after the time that the schedule allows, or in more
    /// than 24 hours.
    TooLate,
    /// It may have gone.
    Unknown,
}

impl Schedule {
    /// 2 tries within 5 seconds: for where another gateway waits.
    pub(crate) const BRIEF: Self = Self { attempts: 2, within: Duration::from_secs(5), ..Self::new() };

    /// 20 tries within a day, the pauses growing from 2 seconds to an hour: for what waits in a store and not in a call.
    #[cfg(any(feature = "postgres", feature = "sqlite-system"))]
    pub(crate) const DURABLE: Self = Self {
        attempts: 20,
        base: Duration::from_secs(2),
        most: Duration::from_secs(3_600),
        within: Duration::from_secs(24 * 3_600),
    };

    /// 24 tries within a day, the pauses growing from 1 second to an hour: for a file whose link lives for minutes, and
    /// which some gateways give out for longer.
    #[cfg(any(feature = "postgres", feature = "sqlite-system"))]
    pub(crate) const FILE: Self = Self { attempts: 24, base: Duration::from_secs(1), ..Self::DURABLE };

    /// 4 tries within a minute, the pauses growing from 1 second to 30.
    pub const fn new() -> Self {
        let secs = Duration::from_secs;
        Self { attempts: 4, base: secs(1), most: secs(30), within: secs(60) }
    }

    /// How often it is tried in all, the first time included: 1 or more.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for 0.
    pub fn attempts(self, attempts: u32) -> Result<Self> {
        if attempts == 0 {
            return Err(Error::config("attempts", "must be 1 or more: the first try counts"));
        }
        Ok(Self { attempts, ..self })
    }

    /// The random part of the pauses: up to `base` after the first try, twice as much after each further one, and never
    /// more than `most`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when `base` is none or more than `most`, or `most` more than 24 hours.
    pub fn backoff(self, base: Duration, most: Duration) -> Result<Self> {
        if base.is_zero() || base > most || most > RETRY_AFTER_MAX {
            let rule = "must be above 0, and not above the longest one, which is at most 24 hours (86400 seconds)";
            return Err(Error::config("base_seconds", rule));
        }
        Ok(Self { base, most, ..self })
    }

    /// The time from the first try to the beginning of the last one.
    #[must_use]
    pub const fn within(self, within: Duration) -> Self {
        Self { within, ..self }
    }

    /// How long to wait before the next try, from now, or why there is none.
    ///
    /// `message` is what is being sent, none for a call that sends nothing; `chance` is any number, best a random one.
    ///
    /// # Errors
    /// The reason why there is no further try: [`StopReason::Unknown`] unless the message says
    /// [`OnUnknown::Resend`].
    pub fn next(
        &self,
        error: &Error,
        message: Option<&Message>,
        tried: Attempts,
        now: Timestamp,
        chance: u64,
    ) -> Result<Duration, StopReason> {
        let unknown = error.outcome() == Outcome::Unknown;
        let resend = message.is_some_and(|message| message.on_unknown == OnUnknown::Resend);
        let passes = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Unexpected | ErrorKind::RateLimited);
        if unknown && !(resend && passes && error.accepted_parts().is_empty()) {
            return Err(StopReason::Unknown);
        }
        if !unknown && !error.is_retryable() {
            return Err(StopReason::Final);
        }
        if tried.times >= self.attempts {
            return Err(StopReason::Attempts);
        }
        let told = error.retry_after().unwrap_or_default();
        let wait = told.saturating_add(self.jitter(tried.times, chance)).clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX);
        let expired = message.and_then(|message| message.not_after).is_some_and(|until| now.plus(wait) > until);
        if told > RETRY_AFTER_MAX || expired || tried.elapsed.saturating_add(wait) > self.within {
            return Err(StopReason::TooLate);
        }
        Ok(wait)
    }

    /// A random part of the time that doubles with each try.
    fn jitter(&self, times: u32, chance: u64) -> Duration {
        let doubled = 1_u32.checked_shl(times.saturating_sub(1)).unwrap_or(u32::MAX);
        let ceiling = self.base.saturating_mul(doubled).min(self.most);
        // Within 24 hours, so that the nanoseconds are below 2 to the power of 47.
        let nanos = (ceiling.as_nanos() * u128::from(chance)) >> 64;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self::new()
    }
}

/// What a configuration writes: `{ attempts = 4, base_seconds = 1, max_seconds = 30, within_seconds = 60 }`, or some of
/// them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { attempts = 4, within_seconds = 60 }")]
pub(crate) struct ScheduleWire {
    attempts: Option<u32>,
    base_seconds: Option<u32>,
    max_seconds: Option<u32>,
    within_seconds: Option<u32>,
}

impl ScheduleWire {
    /// What is not set stays as it is.
    pub(crate) fn over(&self, usual: Schedule) -> Result<Schedule> {
        let time = |secs: Option<u32>, or| secs.map_or(or, |secs| Duration::from_secs(secs.into()));
        usual
            .attempts(self.attempts.unwrap_or(usual.attempts))?
            .backoff(time(self.base_seconds, usual.base), time(self.max_seconds, usual.most))
            .map(|schedule| schedule.within(time(self.within_seconds, usual.within)))
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
    /// The reason as one word.
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

    const FIRST: Attempts = Attempts { times: 1, elapsed: Duration::ZERO };

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
    fn an_unknown_outcome_is_tried_again_only_when_the_message_says_so() {
        let doubtful = Error::unknown("no answer");
        for leave in [OnUnknown::Park, OnUnknown::Reconcile] {
            assert_eq!(next(&doubtful, &message().on_unknown(leave)), Err(StopReason::Unknown));
        }
        let resend = message().on_unknown(OnUnknown::Resend);
        assert!(next(&doubtful, &resend).is_ok());
        let half = Error::unknown("no answer").with_accepted_parts(vec![crate::MessageId::new("SM1")]);
        assert_eq!(next(&half, &resend), Err(StopReason::Unknown));
        let said_stop = Error::new(ErrorKind::OptedOut, "no").with_outcome(Outcome::Unknown);
        assert_eq!(next(&said_stop, &resend), Err(StopReason::Unknown));
        // A definite no stays one.
        assert_eq!(next(&Error::new(ErrorKind::OptedOut, "no"), &resend), Err(StopReason::Final));
    }

    #[test]
    fn it_ends_by_attempts_by_time_and_by_the_end_of_the_message() {
        let schedule = Schedule::new();
        let tried = |times, elapsed| Attempts { times, elapsed: secs(elapsed) };
        let by = |tried, error: &Error| schedule.next(error, None, tried, Timestamp::default(), 0);
        assert_eq!(by(tried(4, 0), &busy(None)), Err(StopReason::Attempts));
        assert_eq!(by(tried(2, 59), &busy(None)), Ok(secs(1)));
        assert_eq!(by(tried(2, 60), &busy(None)), Err(StopReason::TooLate));
        assert_eq!(by(FIRST, &busy(Some(secs(61)))), Err(StopReason::TooLate));
        let until = |secs| message().not_after(Timestamp::from_secs(secs));
        assert_eq!(next(&busy(Some(secs(7))), &until(7)), Err(StopReason::TooLate));
        assert!(next(&busy(Some(secs(7))), &until(8)).is_ok());
        // Longer than a day is not shortened to a day.
        let days = Schedule::new().within(Duration::MAX);
        assert_eq!(
            days.next(&busy(Some(secs(86_401))), None, FIRST, Timestamp::default(), 0),
            Err(StopReason::TooLate)
        );
        assert_eq!(days.next(&busy(Some(secs(86_400))), None, FIRST, Timestamp::default(), 9), Ok(secs(86_400)));
    }

    #[test]
    fn wrong_settings_are_refused_by_name() {
        assert_eq!(Schedule::new().attempts(0).unwrap_err().field(), Some("attempts"));
        for (base, most) in [(0, 1), (2, 1), (1, 86_401)] {
            assert_eq!(Schedule::new().backoff(secs(base), secs(most)).unwrap_err().field(), Some("base_seconds"));
        }
        let read = |json: &str| serde_json::from_str::<Schedule>(json);
        assert_eq!(read("{}").unwrap(), Schedule::new());
        assert_eq!(read(r#"{"attempts":2,"within_seconds":5}"#).unwrap().within, secs(5));
        assert!(read(r#"{"attempts":0}"#).unwrap_err().to_string().contains("attempts: must be 1"));
        assert!(read(r#"{"atempts":1}"#).is_err());
    }

    proptest! {
        #[test]
        fn a_wait_is_inside_the_clamp_and_never_before_what_was_asked_for(
            after in proptest::option::of(any::<u64>()),
            (times, chance) in any::<(u32, u64)>(),
            (base, more) in (1..1_000_000_u64, 0..80_000_000_u64),
        ) {
            let after = after.map(|nanos| Duration::from_nanos(nanos.wrapping_mul(7)));
            let millis = Duration::from_millis;
            let schedule = Schedule::new().attempts(u32::MAX).unwrap().within(Duration::MAX);
            let schedule = schedule.backoff(millis(base), millis(base + more).min(RETRY_AFTER_MAX)).unwrap();
            match schedule.next(&busy(after), None, Attempts { times, elapsed: Duration::ZERO }, Timestamp::default(), chance) {
                Ok(wait) => {
                    prop_assert!((RETRY_AFTER_MIN..=RETRY_AFTER_MAX).contains(&wait));
                    prop_assert!(wait >= after.unwrap_or_default());
                }
                Err(StopReason::TooLate) => prop_assert!(after.unwrap_or_default() > RETRY_AFTER_MAX),
                Err(stop) => prop_assert_eq!((stop, times), (StopReason::Attempts, u32::MAX)),
            }
        }

        #[test]
        fn jitter_is_full_and_doubles_up_to_its_most(times in 1..40_u32, chance in any::<u64>()) {
            let schedule = Schedule::new();
            let ceiling = (2_f64.powi(times as i32 - 1)).min(30.0);
            let jitter = schedule.jitter(times, chance).as_secs_f64();
            prop_assert!(jitter <= ceiling);
            prop_assert_eq!(schedule.jitter(times, 0), Duration::ZERO);
            prop_assert!(schedule.jitter(times, u64::MAX).as_secs_f64() > ceiling * 0.999);
        }
    }
}
