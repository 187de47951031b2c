//! Which of several gateways is asked.

use std::time::Duration;

use crate::adapter::RETRY_AFTER_MAX;
use crate::layer::breaker::{Breaker, BreakerTransition, CallOutcome};
use crate::model::error::{Error, ErrorKind, Outcome, Result};
use crate::model::message::{Accepted, Message, OnUnknown};

/// Which of several gateways is asked, and whether a failure may be carried to the next: a pure value, which reads no
/// clock and no random source.
///
/// It remembers of each how it did, by a [`Breaker`]: one that does not answer, or that refuses the account, is left
/// alone for a while and then asked with one message. There is always one to ask, unless all of them asked to be left
/// alone: where all rest, the one whose rest ends first.
///
/// ```
/// use std::time::Duration;
/// use civic_messaging::layer::failover::{Attempted, Selector, Order};
/// use civic_messaging::{Address, Error, ErrorKind, Message, Outcome};
///
/// let mut choice = Selector::new(2, Order::Preferred)?;
/// let (mut asked, now, message) = (Attempted::default(), Duration::ZERO, Message::text(Address::phone("07700 900123")?, "Hi"));
/// assert_eq!(choice.pick(&mut asked, now, 0), Some(0));
///
/// let opted_out = Error::new(ErrorKind::OptedOut, "no").with_outcome(Outcome::Rejected);
/// let locked = Error::new(ErrorKind::Account, "no").with_outcome(Outcome::Rejected);
/// assert!(!Selector::moves_on(&opted_out, &message));
/// assert!(!Selector::moves_on(&Error::unknown("no answer"), &message));
/// assert!(Selector::moves_on(&locked, &message));
/// assert_eq!(choice.pick(&mut asked, now, 0), Some(1));
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Selector {
    order: Order,
    members: Vec<Breaker>,
    /// Whose turn it is, where they take turns.
    turn: usize,
}

/// In which order gateways are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Always the first that works.
    #[default]
    Preferred,
    /// Each in turn.
    RoundRobin,
    /// By chance, in these proportions. One of weight 0 is asked only when no other can be.
    Weighted(Vec<u32>),
}

/// Which members one message was handed to, and which cannot carry it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempted {
    handed: u64,
    passed_over: u64,
}

/// How long an account rests that was refused without a time.
const ACCOUNT_REST: Duration = Duration::from_secs(60);

impl Selector {
    /// The most members.
    pub const MEMBERS_MAX: usize = 64;

    /// A choice of so many members, 1 to 64.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for another number, and for weights that are not one a member, or all 0.
    pub fn new(members: usize, order: Order) -> Result<Self> {
        if !(1..=Self::MEMBERS_MAX).contains(&members) {
            return Err(Error::config("suppliers", "must be 1 to 64"));
        }
        if let Order::Weighted(weights) = &order
            && (weights.len() != members || weights.iter().all(|weight| *weight == 0))
        {
            return Err(Error::config("weights", "must be one for each supplier, and not all 0"));
        }
        Ok(Self { order, members: vec![Breaker::new(); members], turn: 0 })
    }

    /// In another order.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn order(self, order: Order) -> Result<Self> {
        let Self { order, turn, .. } = Self::new(self.members.len(), order)?;
        Ok(Self { order, turn, members: self.members })
    }

    /// How long the member rests yet whose rest ends first, of those that were not asked. None where none rests.
    pub fn rest_of(&self, asked: Attempted, now: Duration) -> Option<Duration> {
        let rests = self.indices().filter(|n| !asked.contains(*n)).map(|n| self.rest(n, now));
        rests.filter(|rest| !rest.is_zero()).min()
    }

    /// Watches the members by another breaker.
    #[must_use]
    pub fn breaker(mut self, breaker: &Breaker) -> Self {
        self.members.fill(breaker.clone());
        self
    }

    /// Whether a failure at one gateway may be carried to another.
    ///
    /// Never when the message may have gone, unless it says [`OnUnknown::Resend`], nor when a part of it went, nor for a
    /// limit of this one person. Else where another gateway could do better: see [`ErrorKind::is_failover_eligible`].
    pub fn moves_on(error: &Error, message: &Message) -> bool {
        // A limit of one person's is there to protect that person, whoever sends.
        if !error.accepted_parts().is_empty() || error.is_per_recipient() {
            return false;
        }
        match error.outcome() {
            // An answer that nobody could read is a doubt like any other.
            Outcome::Unknown if error.kind() == ErrorKind::Unexpected => message.on_unknown == OnUnknown::Resend,
            Outcome::Unknown => message.on_unknown == OnUnknown::Resend && error.kind().is_failover_eligible(),
            Outcome::NotSent | Outcome::Rejected => error.kind().is_failover_eligible(),
        }
    }

    /// The member to ask next, none when all that work were asked: it counts as asked then.
    ///
    /// A member that rests is asked only by a message that was handed to nobody yet, so that an outage of all is not
    /// answered with ever more calls; one that asked for its rest itself is not asked before its end. `chance` is any
    /// number, best a random one.
    pub fn pick(&mut self, asked: &mut Attempted, now: Duration, chance: u64) -> Option<usize> {
        let first = asked.handed == 0;
        let untried = |n: &usize| !asked.contains(*n);
        let ready = |n: &usize| untried(n) && self.members.get(*n).is_some_and(|member| member.ready(now).is_ok());
        // A last resort, but for those that asked to be left alone themselves.
        let resort = |n: &usize| {
            let asks = self.members.get(*n).is_none_or(|member| member.asked_for_rest(now));
            first && untried(n) && !asks
        };
        let last_resort = || self.indices().filter(resort).min_by_key(|n| self.rest(*n, now));
        let chosen = self.by_order(ready, chance).or_else(last_resort)?;
        if let Some(member) = self.members.get_mut(chosen) {
            // One that rests is asked all the same, being the last resort.
            _ = member.try_acquire(now);
        }
        if self.order == Order::RoundRobin && first {
            self.turn = (chosen + 1) % self.members.len().max(1);
        }
        asked.handed |= bit(chosen);
        Some(chosen)
    }

    /// Takes how a member did, and says what that changed for it.
    pub fn report(&mut self, member: usize, sent: &Result<Accepted>, now: Duration) -> Option<BreakerTransition> {
        let breaker = self.members.get_mut(member)?;
        let change = breaker.report(CallOutcome::from_result(sent), now);
        match sent {
            Err(error) if of_the_account(error) => match error.retry_after() {
                Some(wait) => breaker.pause(wait.min(RETRY_AFTER_MAX), now),
                None => breaker.open_for(ACCOUNT_REST, now),
            },
            _ => change,
        }
    }

    fn indices(&self) -> std::ops::Range<usize> {
        0..self.members.len()
    }

    fn rest(&self, member: usize, now: Duration) -> Duration {
        self.members.get(member).and_then(|breaker| breaker.ready(now).err()).unwrap_or_default()
    }

    fn by_order(&self, ready: impl Fn(&usize) -> bool, chance: u64) -> Option<usize> {
        match &self.order {
            Order::Preferred => self.indices().find(ready),
            Order::RoundRobin => {
                let from_turn = self.indices().cycle().skip(self.turn).take(self.members.len());
                from_turn.into_iter().find(ready)
            }
            Order::Weighted(weights) => {
                let ready = || self.indices().filter(&ready);
                let weight = |n: usize| u64::from(weights.get(n).copied().unwrap_or(0));
                let Some(mut left) = chance.checked_rem(ready().map(weight).sum()) else {
                    // Only those of weight 0 are left.
                    return ready().next();
                };
                ready().find(|n| {
                    let drawn = left < weight(*n);
                    left = left.saturating_sub(weight(*n));
                    drawn
                })
            }
        }
    }
}

impl Attempted {
    /// Leaves out a member that cannot carry the message.
    pub fn pass_over(&mut self, member: usize) {
        self.passed_over |= bit(member);
    }

    fn contains(self, member: usize) -> bool {
        (self.handed | self.passed_over) & bit(member) != 0
    }
}

fn bit(member: usize) -> u64 {
    u32::try_from(member).ok().and_then(|member| 1_u64.checked_shl(member)).unwrap_or(0)
}

/// Whether every message by this account would be refused for now.
fn of_the_account(error: &Error) -> bool {
    use ErrorKind::{Account, QuotaExceeded, RateLimited, Unauthenticated};
    let kind = matches!(error.kind(), Account | QuotaExceeded | RateLimited | Unauthenticated);
    // What our own limit says is of one message, and of nobody who was asked.
    kind && error.outcome() == Outcome::Rejected && !error.is_per_recipient()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::{Address, MessageId};

    const NOW: Duration = Duration::ZERO;

    fn message() -> Message {
        Message::text(Address::phone("07700 900123").unwrap(), "Hello")
    }

    fn failed(kind: ErrorKind, outcome: Outcome) -> Result<Accepted> {
        Err(Error::new(kind, "no").with_outcome(outcome))
    }

    fn went() -> Result<Accepted> {
        Ok(Accepted::new("mock", "1", Bytes::new()))
    }

    fn fails_often(choice: &mut Selector, member: usize, now: Duration) {
        for _ in 0..5 {
            _ = choice.report(member, &failed(ErrorKind::Unavailable, Outcome::NotSent), now);
        }
    }

    fn order(choice: &mut Selector, now: Duration, chance: u64) -> Vec<usize> {
        let mut asked = Attempted::default();
        std::iter::from_fn(|| choice.pick(&mut asked, now, chance)).collect()
    }

    #[test]
    fn what_may_have_gone_is_carried_on_only_when_the_message_says_so() {
        let doubtful = Error::unknown("no answer");
        assert!(!Selector::moves_on(&doubtful, &message()));
        assert!(!Selector::moves_on(&doubtful, &message().on_unknown(OnUnknown::Park)));
        assert!(Selector::moves_on(&doubtful, &message().on_unknown(OnUnknown::Resend)));
        let pair = Error::new(ErrorKind::RateLimited, "no").with_retry(true, None).with_pair(true);
        assert!(!Selector::moves_on(&pair, &message()));
        let half = Error::new(ErrorKind::Account, "no").with_accepted_parts(vec![MessageId::new("SM1")]);
        assert!(!Selector::moves_on(&half, &message().on_unknown(OnUnknown::Resend)));
    }

    #[test]
    fn a_no_that_is_the_persons_or_the_mediums_is_carried_to_nobody() {
        use ErrorKind::{InvalidMessage, InvalidRecipient, OptedOut, OutsideWindow, Rejected, TooLarge, Unexpected};
        for kind in [InvalidMessage, InvalidRecipient, OptedOut, OutsideWindow, Rejected, TooLarge, Unexpected] {
            for outcome in [Outcome::NotSent, Outcome::Rejected] {
                let error = Error::new(kind, "no").with_outcome(outcome).with_retry(true, None);
                assert!(!Selector::moves_on(&error, &message().on_unknown(OnUnknown::Resend)), "{kind:?}");
            }
        }
    }

    #[test]
    fn one_that_does_not_answer_rests_and_is_then_tried_with_one_message() {
        let mut choice = Selector::new(2, Order::Preferred).unwrap();
        assert_eq!(order(&mut choice, NOW, 0), [0, 1]);
        fails_often(&mut choice, 0, NOW);
        assert_eq!(order(&mut choice, NOW, 0), [1]);
        let later = Duration::from_secs(10);
        assert_eq!(order(&mut choice, later, 0), [0, 1]);
        assert_eq!(order(&mut choice, later, 0), [1]);
        _ = choice.report(0, &went(), later);
        assert_eq!(order(&mut choice, later, 0), [0, 1]);
    }

    #[test]
    fn an_account_that_is_refused_rests_for_as_long_as_it_was_told() {
        let mut choice = Selector::new(2, Order::Preferred).unwrap();
        let busy = Error::new(ErrorKind::QuotaExceeded, "no").with_outcome(Outcome::Rejected);
        _ = choice.report(0, &Err(busy.with_retry(true, Some(Duration::from_secs(3600)))), NOW);
        assert_eq!(order(&mut choice, Duration::from_secs(3599), 0), [1]);
        assert_eq!(order(&mut choice, Duration::from_secs(3600), 0), [0, 1]);
        // What is one person's makes nobody rest.
        let mut choice = Selector::new(2, Order::Preferred).unwrap();
        let pair = Error::new(ErrorKind::RateLimited, "no").with_outcome(Outcome::Rejected).with_pair(true);
        _ = choice.report(0, &Err(pair), NOW);
        _ = choice.report(0, &failed(ErrorKind::OptedOut, Outcome::Rejected), NOW);
        assert_eq!(order(&mut choice, NOW, 0), [0, 1]);
    }

    #[test]
    fn when_all_rest_the_one_whose_rest_ends_first_is_asked_and_no_other() {
        let mut choice = Selector::new(3, Order::Preferred).unwrap();
        for (member, at) in [(1, 0), (0, 1), (2, 2)] {
            let at = Duration::from_secs(at);
            fails_often(&mut choice, member, at);
        }
        assert_eq!(order(&mut choice, Duration::from_secs(3), 0), [1]);
        // One that cannot carry the message counts as nobody.
        let mut asked = Attempted::default();
        asked.pass_over(1);
        assert_eq!(choice.pick(&mut asked, Duration::from_secs(3), 0), Some(0));
        assert_eq!(choice.pick(&mut asked, Duration::from_secs(3), 0), None);
    }

    #[test]
    fn they_take_turns_or_are_drawn_by_their_weights() {
        let mut turns = Selector::new(3, Order::RoundRobin).unwrap();
        let firsts: Vec<_> = (0..4).map(|_| order(&mut turns, NOW, 0)).collect();
        assert_eq!(firsts, [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
        let mut drawn = Selector::new(3, Order::Weighted(vec![3, 0, 1])).unwrap();
        let firsts: Vec<_> = (0..4).map(|chance| order(&mut drawn, NOW, chance)).collect();
        assert_eq!(firsts, [[0, 2, 1], [0, 2, 1], [0, 2, 1], [2, 0, 1]]);
    }

    #[test]
    fn wrong_numbers_and_weights_are_refused_by_name() {
        for members in [0, 65] {
            assert_eq!(Selector::new(members, Order::Preferred).unwrap_err().field(), Some("suppliers"));
        }
        for weights in [vec![], vec![1], vec![0, 0], vec![1, 1, 1]] {
            assert_eq!(Selector::new(2, Order::Weighted(weights)).unwrap_err().field(), Some("weights"));
        }
    }

    proptest! {
        #[test]
        fn there_is_always_one_to_ask_and_none_twice(
            members in 1..=64_usize,
            reports in proptest::collection::vec((0..64_usize, 0..4_u8, 0..30_u64), 0..200),
            (kind, chance) in (0..3_u8, any::<u64>()),
        ) {
            let way = match kind {
                0 => Order::Preferred,
                1 => Order::RoundRobin,
                _ => Order::Weighted((0..members).map(|n| u32::try_from(n % 3).unwrap() + u32::from(n == 0)).collect()),
            };
            let mut choice = Selector::new(members, way).unwrap();
            let mut now = NOW;
            for (member, report, passed) in reports {
                now += Duration::from_secs(passed);
                let sent = match report {
                    0 => went(),
                    1 => failed(ErrorKind::Unavailable, Outcome::Unknown),
                    2 => failed(ErrorKind::Unauthenticated, Outcome::Rejected),
                    _ => failed(ErrorKind::OptedOut, Outcome::Rejected),
                };
                _ = choice.report(member, &sent, now);
                let mut asked = order(&mut choice, now, chance);
                prop_assert!(!asked.is_empty());
                let count = asked.len();
                asked.sort_unstable();
                asked.dedup();
                prop_assert!(asked.len() == count && asked.iter().all(|n| *n < members));
            }
        }
    }
}
