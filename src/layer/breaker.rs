//! Whether a gateway that does not answer is asked at all.

use std::time::Duration;

use crate::model::error::{Error, ErrorKind, Outcome, Result};
use crate::model::info::Info;
use crate::model::message::Accepted;
use crate::telemetry;

/// Whether a gateway is asked, or left alone for a while because it does not answer: a pure value, which reads no
/// clock.
///
/// It counts faults of the gateway and of the way to it, one after another; a gateway that says no to a message is well.
/// After 5 of them it opens: nothing is asked for 10 seconds. Then one call may go, as a probe: if that goes well, all
/// may, and if not, the rest is twice as long, up to 5 minutes. So it never stays open for good, and a probe that
/// nobody reports on is followed by another one.
///
/// ```
/// use std::time::Duration;
/// use civic_messaging::layer::breaker::{Breaker, CallOutcome};
///
/// let (mut breaker, secs) = (Breaker::new(), Duration::from_secs);
/// for _ in 0..5 {
///     breaker.report(CallOutcome::Fault, secs(0));
/// }
/// assert_eq!(breaker.try_acquire(secs(4)), Err(secs(6)));
/// assert_eq!(breaker.try_acquire(secs(10)), Ok(())); // the probe
/// assert!(breaker.try_acquire(secs(10)).is_err());
/// breaker.report(CallOutcome::Well, secs(11));
/// assert_eq!(breaker.try_acquire(secs(11)), Ok(()));
/// ```
#[derive(Clone, Debug)]
pub struct Breaker {
    faults: u32,
    rest: Duration,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// All may go. So many faults came one after another.
    Closed(u32),
    /// Nothing may go until then, and it rests so long.
    Open(Duration, Duration),
    /// Nothing may go until then: the gateway asked for that itself. It had rested so long before.
    Asked(Duration, Duration),
    /// A probe is on its way, which is given up then; it had rested so long.
    Probing(Duration, Duration),
}

/// What changed for a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerTransition {
    /// It is left alone for this long, and was not before.
    Rests(Duration),
    /// It works again.
    Works,
}

impl BreakerTransition {
    pub(crate) fn record(self, info: &Info) {
        match self {
            Self::Rests(time) => telemetry::circuit_opened(info, time),
            Self::Works => telemetry::circuit_closed(info),
        }
    }
}

/// What the end of a call says of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// The gateway, or the way to it, does not work.
    Fault,
    /// It was not asked, so nothing is known.
    Unasked,
    /// It answered.
    Well,
}

const REST_MAX: Duration = Duration::from_secs(300);

impl Breaker {
    /// Opens after 5 faults, for 10 seconds.
    pub const fn new() -> Self {
        Self { faults: 5, rest: Duration::from_secs(10), state: State::Closed(0) }
    }

    /// Opens after another number of faults, 1 or more, for another time at first, up to 5 minutes.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for anything else.
    pub fn threshold(self, faults: u32, rest: Duration) -> Result<Self> {
        if faults == 0 {
            return Err(Error::config("faults", "must be 1 or more"));
        }
        if rest.is_zero() || rest > REST_MAX {
            return Err(Error::config("rest", "must be above nothing and at most 5 minutes"));
        }
        Ok(Self { faults, rest, ..self })
    }

    /// Whether a call may go, without taking anything. `now` is any time that does not go back.
    ///
    /// # Errors
    /// How long it is left alone yet.
    pub fn ready(&self, now: Duration) -> Result<(), Duration> {
        match self.state {
            State::Open(until, _) | State::Asked(until, _) | State::Probing(until, _) if now < until => {
                Err(until - now)
            }
            _ => Ok(()),
        }
    }

    /// Whether the gateway asked to be left alone at this time, so that it is not asked even as a last resort.
    pub fn asked_for_rest(&self, now: Duration) -> bool {
        matches!(self.state, State::Asked(until, _) if now < until)
    }

    /// Lets a call go, if one may; after a rest that is a probe, and no other call may go until it has ended.
    ///
    /// # Errors
    /// How long it is left alone yet.
    pub fn try_acquire(&mut self, now: Duration) -> Result<(), Duration> {
        self.ready(now)?;
        if let State::Open(_, rest) | State::Asked(_, rest) | State::Probing(_, rest) = self.state {
            self.state = State::Probing(now.saturating_add(rest), rest);
        }
        Ok(())
    }

    /// Takes the end of a call, and says what that changed.
    pub fn report(&mut self, verdict: CallOutcome, now: Duration) -> Option<BreakerTransition> {
        let before = self.state;
        let open = |rest: Duration| State::Open(now.saturating_add(rest), rest);
        self.state = match (verdict, self.state) {
            (CallOutcome::Well, State::Closed(_) | State::Probing(..)) => State::Closed(0),
            (CallOutcome::Fault, State::Closed(so_far)) if so_far.saturating_add(1) >= self.faults => open(self.rest),
            (CallOutcome::Fault, State::Closed(so_far)) => State::Closed(so_far + 1),
            (CallOutcome::Fault, State::Probing(_, rest)) => open((rest * 2).min(REST_MAX)),
            // The probe was not made: the next call is one.
            (CallOutcome::Unasked, State::Probing(_, rest)) => State::Open(now, rest),
            // What began before it opened says nothing new.
            (CallOutcome::Unasked, state) | (_, state @ (State::Open(..) | State::Asked(..))) => state,
        };
        match (before, self.state) {
            (State::Closed(_) | State::Probing(..), State::Open(until, rest)) if until > now => {
                Some(BreakerTransition::Rests(rest))
            }
            (State::Probing(..), State::Closed(_)) => Some(BreakerTransition::Works),
            _ => None,
        }
    }

    /// Leaves the gateway alone for this long at least, for a reason that is not counted, and says what that changed.
    pub fn open_for(&mut self, time: Duration, now: Duration) -> Option<BreakerTransition> {
        self.leave(State::Open(now.saturating_add(time), self.rest), time, now)
    }

    /// Leaves the gateway alone for this long at least, as it asked itself, and says what that changed.
    pub fn pause(&mut self, time: Duration, now: Duration) -> Option<BreakerTransition> {
        self.leave(State::Asked(now.saturating_add(time), self.rest), time, now)
    }

    fn leave(&mut self, state: State, time: Duration, now: Duration) -> Option<BreakerTransition> {
        let rested = self.ready(now).err();
        if rested.is_none_or(|left| left < time) {
            self.state = state;
        }
        rested.is_none().then_some(BreakerTransition::Rests(time))
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self::new()
    }
}

impl CallOutcome {
    /// What the end of a send says of the gateway.
    ///
    /// A message that was refused, and a limit that was reached, come from a gateway that works.
    pub fn from_result(sent: &Result<Accepted>) -> Self {
        match sent {
            Ok(_) => Self::Well,
            Err(error) => match (error.kind(), error.outcome()) {
                (ErrorKind::Unavailable | ErrorKind::Unexpected, _) => Self::Fault,
                (_, Outcome::NotSent) => Self::Unasked,
                (_, Outcome::Rejected | Outcome::Unknown) => Self::Well,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_one_message_is_no_fault() {
        let of = |kind, outcome| CallOutcome::from_result(&Err(Error::new(kind, "no").with_outcome(outcome)));
        for kind in [ErrorKind::OptedOut, ErrorKind::InvalidRecipient, ErrorKind::RateLimited, ErrorKind::Rejected] {
            assert_eq!(of(kind, Outcome::Rejected), CallOutcome::Well, "{kind:?}");
        }
        assert_eq!(of(ErrorKind::Unavailable, Outcome::NotSent), CallOutcome::Fault);
        assert_eq!(of(ErrorKind::Unavailable, Outcome::Unknown), CallOutcome::Fault);
        assert_eq!(of(ErrorKind::Unexpected, Outcome::Unknown), CallOutcome::Fault);
        assert_eq!(of(ErrorKind::InvalidMessage, Outcome::NotSent), CallOutcome::Unasked);
    }

    #[test]
    fn a_pause_never_shortens_a_rest() {
        let mut breaker = Breaker::new().threshold(1, Duration::from_secs(60)).unwrap();
        let rests = |secs| Some(BreakerTransition::Rests(Duration::from_secs(secs)));
        assert_eq!(breaker.report(CallOutcome::Fault, Duration::ZERO), rests(60));
        assert_eq!(breaker.pause(Duration::from_secs(5), Duration::ZERO), None);
        assert_eq!(breaker.ready(Duration::ZERO), Err(Duration::from_secs(60)));
        assert_eq!(breaker.pause(Duration::from_secs(90), Duration::ZERO), None);
        assert_eq!(breaker.ready(Duration::ZERO), Err(Duration::from_secs(90)));
        // The probe tells.
        let later = Duration::from_secs(90);
        assert_eq!((breaker.try_acquire(later), breaker.report(CallOutcome::Fault, later)), (Ok(()), rests(120)));
        let later = later * 3;
        assert_eq!(
            (breaker.try_acquire(later), breaker.report(CallOutcome::Well, later)),
            (Ok(()), Some(BreakerTransition::Works))
        );
        assert_eq!(breaker.pause(Duration::from_secs(7), later), rests(7));
        assert_eq!(Breaker::new().threshold(0, REST_MAX).unwrap_err().field(), Some("faults"));
        assert_eq!(Breaker::new().threshold(1, REST_MAX * 2).unwrap_err().field(), Some("rest"));
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
            3..5 => Op::Record(CallOutcome::Fault),
            5 => Op::Record(CallOutcome::Unasked),
            6 => Op::Record(CallOutcome::Well),
            7 => Op::Pause(time),
            _ => Op::Wait(time % 40),
        }
    }

    /// The same by another way of thinking: a list of what has happened, read anew for each question.
    #[derive(Default)]
    struct Model {
        run: u32,
        closed_until: Option<u64>,
        probe: Option<u64>,
        rest: u64,
    }

    impl Model {
        const FAULTS: u32 = 3;
        const REST: u64 = 10;

        fn blocked(&self, now: u64) -> Option<u64> {
            let until = self.closed_until?;
            let end = self.probe.unwrap_or(until);
            (now < end).then(|| end - now)
        }

        fn step(&mut self, op: Op, now: u64) -> Option<u64> {
            match op {
                Op::Acquire => {
                    let blocked = self.blocked(now);
                    if blocked.is_none() && self.closed_until.is_some() {
                        self.probe = Some(now + self.rest);
                    }
                    return blocked;
                }
                Op::Pause(time) => {
                    if self.blocked(now).is_none_or(|left| left < time) {
                        *self = Self { closed_until: Some(now + time), rest: Self::REST, ..Self::default() };
                    }
                }
                Op::Record(verdict) => match (self.closed_until, self.probe, verdict) {
                    (None, _, CallOutcome::Well) => self.run = 0,
                    (None, _, CallOutcome::Fault) => {
                        self.run += 1;
                        if self.run == Self::FAULTS {
                            (self.closed_until, self.rest) = (Some(now + Self::REST), Self::REST);
                        }
                    }
                    (Some(_), Some(_), CallOutcome::Well) => *self = Self::default(),
                    (Some(_), Some(_), CallOutcome::Fault) => {
                        self.rest = (self.rest * 2).min(300);
                        (self.closed_until, self.probe) = (Some(now + self.rest), None);
                    }
                    (Some(_), Some(_), CallOutcome::Unasked) => (self.closed_until, self.probe) = (Some(now), None),
                    _ => {}
                },
                Op::Wait(_) => {}
            }
            None
        }
    }

    #[test]
    fn it_does_as_its_model_does_over_100_000_sequences() {
        for seed in 1..=100_000_u64 {
            let mut breaker = Breaker::new().threshold(Model::FAULTS, Duration::from_secs(Model::REST)).unwrap();
            let (mut model, mut now, mut x) = (Model::default(), 0, seed);
            for step in 0..30 {
                // xorshift64: repeatable.
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
                    Op::Record(verdict) => {
                        _ = breaker.report(verdict, at);
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
