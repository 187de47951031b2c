//! Circuit breaker of a gateway, as a pure value.

use std::time::Duration;

use crate::model::error::{Error, ErrorKind, Outcome, Result};
use crate::model::info::Info;
use crate::model::message::Accepted;
use crate::telemetry;

/// Circuit breaker of a gateway. A pure value: the caller passes the time.
///
/// Counts consecutive failures of the gateway and of the connection to it; a rejected message is no failure. After 5 it
/// opens, and for 10 seconds allows no call. Then it is half-open and allows one call as a probe: a success closes it, a
/// failure opens it for twice as long, up to 5 minutes. A probe without a report times out and is followed by another
/// one, so that the breaker never stays open indefinitely.
///
/// ```
/// use std::time::Duration;
/// use civic_messaging::layer::breaker::{Breaker, CallOutcome};
///
/// let (mut breaker, secs) = (Breaker::new(), Duration::from_secs);
/// for _ in 0..5 {
///     breaker.report(CallOutcome::Failure, secs(0));
/// }
/// assert_eq!(breaker.try_acquire(secs(4)), Err(secs(6)));
/// assert_eq!(breaker.try_acquire(secs(10)), Ok(())); // half-open: the probe
/// assert!(breaker.try_acquire(secs(10)).is_err());
/// breaker.report(CallOutcome::Success, secs(11));
/// assert_eq!(breaker.try_acquire(secs(11)), Ok(()));
/// ```
#[derive(Clone, Debug)]
pub struct Breaker {
    threshold: u32,
    open_for: Duration,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed {
        /// Consecutive failures so far.
        failures: u32,
    },
    Open {
        until: Duration,
        open_for: Duration,
    },
    /// Open because the gateway asked for a pause.
    Paused {
        until: Duration,
        open_for: Duration,
    },
    /// One probe is in flight.
    HalfOpen {
        /// The time-out of the probe.
        until: Duration,
        open_for: Duration,
    },
}

/// A state transition of a [`Breaker`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerTransition {
    /// The breaker opened for this time.
    Opened(Duration),
    /// The breaker closed.
    Closed,
}

impl BreakerTransition {
    pub(crate) fn record(self, info: &Info) {
        match self {
            Self::Opened(time) => telemetry::circuit_opened(info, time),
            Self::Closed => telemetry::circuit_closed(info),
        }
    }
}

/// The outcome of a call, as a [`Breaker`] counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// The gateway, or the connection to it, failed.
    Failure,
    /// No request was made: the gateway's state is unknown.
    NotCalled,
    /// The gateway responded.
    Success,
}

const OPEN_FOR_MAX: Duration = Duration::from_secs(300);

impl Breaker {
    /// Creates a breaker that opens after 5 consecutive failures, for 10 seconds.
    pub const fn new() -> Self {
        Self { threshold: 5, open_for: Duration::from_secs(10), state: State::Closed { failures: 0 } }
    }

    /// Sets the number of consecutive failures that open the breaker, and for how long it opens at first.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for no failures, and for a time of 0 or above 5 minutes.
    pub fn threshold(self, failures: u32, open_for: Duration) -> Result<Self> {
        if failures == 0 {
            return Err(Error::config("failures", "must be 1 or more"));
        }
        if open_for.is_zero() || open_for > OPEN_FOR_MAX {
            return Err(Error::config("open_for", "must be above 0 and at most 5 minutes"));
        }
        Ok(Self { threshold: failures, open_for, ..self })
    }

    /// Checks that a call is allowed, without starting a probe. `now` comes from any monotonic clock.
    ///
    /// # Errors
    /// The remaining time for which the breaker is open.
    pub fn ready(&self, now: Duration) -> Result<(), Duration> {
        match self.state {
            State::Open { until, .. } | State::Paused { until, .. } | State::HalfOpen { until, .. } if now < until => {
                Err(until - now)
            }
            _ => Ok(()),
        }
    }

    /// Returns `true` if the gateway asked for a pause that has not ended: it is not called even as a last resort.
    pub fn is_paused(&self, now: Duration) -> bool {
        matches!(self.state, State::Paused { until, .. } if now < until)
    }

    /// Allows a call. If the breaker was open, the call is the probe, and no other call is allowed until it ends.
    ///
    /// # Errors
    /// The remaining time for which the breaker is open.
    pub fn try_acquire(&mut self, now: Duration) -> Result<(), Duration> {
        self.ready(now)?;
        if let State::Open { open_for, .. } | State::Paused { open_for, .. } | State::HalfOpen { open_for, .. } =
            self.state
        {
            self.state = State::HalfOpen { until: now.saturating_add(open_for), open_for };
        }
        Ok(())
    }

    /// Records the outcome of a call and returns the transition that it caused.
    pub fn report(&mut self, outcome: CallOutcome, now: Duration) -> Option<BreakerTransition> {
        let before = self.state;
        let open = |open_for: Duration| State::Open { until: now.saturating_add(open_for), open_for };
        self.state = match (outcome, self.state) {
            (CallOutcome::Success, State::Closed { .. } | State::HalfOpen { .. }) => State::Closed { failures: 0 },
            (CallOutcome::Failure, State::Closed { failures }) if failures.saturating_add(1) >= self.threshold => {
                open(self.open_for)
            }
            (CallOutcome::Failure, State::Closed { failures }) => State::Closed { failures: failures + 1 },
            (CallOutcome::Failure, State::HalfOpen { open_for, .. }) => open((open_for * 2).min(OPEN_FOR_MAX)),
            // The probe was not made: the next call is the probe.
            (CallOutcome::NotCalled, State::HalfOpen { open_for, .. }) => State::Open { until: now, open_for },
            // A call that began before the breaker opened adds nothing.
            (CallOutcome::NotCalled, state) | (_, state @ (State::Open { .. } | State::Paused { .. })) => state,
        };
        match (before, self.state) {
            (State::Closed { .. } | State::HalfOpen { .. }, State::Open { until, open_for }) if until > now => {
                Some(BreakerTransition::Opened(open_for))
            }
            (State::HalfOpen { .. }, State::Closed { .. }) => Some(BreakerTransition::Closed),
            _ => None,
        }
    }

    /// Opens the breaker for at least this time, whatever the number of failures, and returns the transition.
    pub fn open_for(&mut self, time: Duration, now: Duration) -> Option<BreakerTransition> {
        self.open(State::Open { until: now.saturating_add(time), open_for: self.open_for }, time, now)
    }

    /// Opens the breaker for at least the time that the gateway asked for, and returns the transition.
    pub fn pause(&mut self, time: Duration, now: Duration) -> Option<BreakerTransition> {
        self.open(State::Paused { until: now.saturating_add(time), open_for: self.open_for }, time, now)
    }

    fn open(&mut self, state: State, time: Duration, now: Duration) -> Option<BreakerTransition> {
        let remaining = self.ready(now).err();
        if remaining.is_none_or(|remaining| remaining < time) {
            self.state = state;
        }
        remaining.is_none().then_some(BreakerTransition::Opened(time))
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self::new()
    }
}

impl CallOutcome {
    /// Classifies the result of a send.
    ///
    /// A gateway that rejects a message, or that reports a limit, works: a [`Success`](Self::Success).
    pub fn from_result(result: &Result<Accepted>) -> Self {
        match result {
            Ok(_) => Self::Success,
            Err(error) => match (error.kind(), error.outcome()) {
                (ErrorKind::Unavailable | ErrorKind::Unexpected, _) => Self::Failure,
                (_, Outcome::NotSent) => Self::NotCalled,
                (_, Outcome::Rejected | Outcome::Unknown) => Self::Success,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_message_is_not_a_failure() {
        let of = |kind, outcome| CallOutcome::from_result(&Err(Error::new(kind, "no").with_outcome(outcome)));
        for kind in [ErrorKind::OptedOut, ErrorKind::InvalidRecipient, ErrorKind::RateLimited, ErrorKind::Rejected] {
            assert_eq!(of(kind, Outcome::Rejected), CallOutcome::Success, "{kind:?}");
        }
        assert_eq!(of(ErrorKind::Unavailable, Outcome::NotSent), CallOutcome::Failure);
        assert_eq!(of(ErrorKind::Unavailable, Outcome::Unknown), CallOutcome::Failure);
        assert_eq!(of(ErrorKind::Unexpected, Outcome::Unknown), CallOutcome::Failure);
        assert_eq!(of(ErrorKind::InvalidMessage, Outcome::NotSent), CallOutcome::NotCalled);
    }

    #[test]
    fn pause_never_shortens_the_open_time() {
        let mut breaker = Breaker::new().threshold(1, Duration::from_secs(60)).unwrap();
        let opened = |secs| Some(BreakerTransition::Opened(Duration::from_secs(secs)));
        assert_eq!(breaker.report(CallOutcome::Failure, Duration::ZERO), opened(60));
        assert_eq!(breaker.pause(Duration::from_secs(5), Duration::ZERO), None);
        assert_eq!(breaker.ready(Duration::ZERO), Err(Duration::from_secs(60)));
        assert_eq!(breaker.pause(Duration::from_secs(90), Duration::ZERO), None);
        assert_eq!(breaker.ready(Duration::ZERO), Err(Duration::from_secs(90)));
        // Half-open: the probe decides.
        let later = Duration::from_secs(90);
        assert_eq!((breaker.try_acquire(later), breaker.report(CallOutcome::Failure, later)), (Ok(()), opened(120)));
        let later = later * 3;
        assert_eq!(
            (breaker.try_acquire(later), breaker.report(CallOutcome::Success, later)),
            (Ok(()), Some(BreakerTransition::Closed))
        );
        assert_eq!(breaker.pause(Duration::from_secs(7), later), opened(7));
        assert_eq!(Breaker::new().threshold(0, OPEN_FOR_MAX).unwrap_err().field(), Some("failures"));
        assert_eq!(Breaker::new().threshold(1, OPEN_FOR_MAX * 2).unwrap_err().field(), Some("open_for"));
    }

    #[derive(Clone, Copy, Debug)]
    enum Op {
        Acquire,
        Pause(u64),
        Record(CallOutcome),
        Wait(u64),
    }

    fn op(random: u64) -> Op {
        let time = (random >> 8) % 400;
        match random % 10 {
            0..3 => Op::Acquire,
            3..5 => Op::Record(CallOutcome::Failure),
            5 => Op::Record(CallOutcome::NotCalled),
            6 => Op::Record(CallOutcome::Success),
            7 => Op::Pause(time),
            _ => Op::Wait(time % 40),
        }
    }

    /// A reference model with optional fields in place of states.
    #[derive(Default)]
    struct Model {
        failures: u32,
        open_until: Option<u64>,
        probe: Option<u64>,
        open_for: u64,
    }

    impl Model {
        const THRESHOLD: u32 = 3;
        const OPEN_FOR: u64 = 10;

        fn blocked(&self, now: u64) -> Option<u64> {
            let until = self.open_until?;
            let end = self.probe.unwrap_or(until);
            (now < end).then(|| end - now)
        }

        fn step(&mut self, op: Op, now: u64) -> Option<u64> {
            match op {
                Op::Acquire => {
                    let blocked = self.blocked(now);
                    if blocked.is_none() && self.open_until.is_some() {
                        self.probe = Some(now + self.open_for);
                    }
                    return blocked;
                }
                Op::Pause(time) => {
                    if self.blocked(now).is_none_or(|left| left < time) {
                        *self = Self { open_until: Some(now + time), open_for: Self::OPEN_FOR, ..Self::default() };
                    }
                }
                Op::Record(outcome) => match (self.open_until, self.probe, outcome) {
                    (None, _, CallOutcome::Success) => self.failures = 0,
                    (None, _, CallOutcome::Failure) => {
                        self.failures += 1;
                        if self.failures == Self::THRESHOLD {
                            (self.open_until, self.open_for) = (Some(now + Self::OPEN_FOR), Self::OPEN_FOR);
                        }
                    }
                    (Some(_), Some(_), CallOutcome::Success) => *self = Self::default(),
                    (Some(_), Some(_), CallOutcome::Failure) => {
                        self.open_for = (self.open_for * 2).min(300);
                        (self.open_until, self.probe) = (Some(now + self.open_for), None);
                    }
                    (Some(_), Some(_), CallOutcome::NotCalled) => (self.open_until, self.probe) = (Some(now), None),
                    _ => {}
                },
                Op::Wait(_) => {}
            }
            None
        }
    }

    #[test]
    fn breaker_matches_its_model_over_100_000_sequences() {
        for seed in 1..=100_000_u64 {
            let mut breaker = Breaker::new().threshold(Model::THRESHOLD, Duration::from_secs(Model::OPEN_FOR)).unwrap();
            let (mut model, mut now, mut x) = (Model::default(), 0, seed);
            for step in 0..30 {
                // xorshift64: reproducible.
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                let (op, at) = (op(x >> 3), Duration::from_secs(now));
                let got = match op {
                    Op::Acquire => breaker.try_acquire(at).err().map(|left| left.as_secs()),
                    Op::Pause(time) => {
                        _ = breaker.pause(Duration::from_secs(time), at);
                        None
                    }
                    Op::Record(outcome) => {
                        _ = breaker.report(outcome, at);
                        None
                    }
                    Op::Wait(time) => {
                        now += time;
                        None
                    }
                };
                assert_eq!(got, model.step(op, at.as_secs()), "seed {seed}, step {step}: {op:?} at {at:?}");
            }
        }
    }
}
