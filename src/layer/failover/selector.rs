//! Selects one of several gateways, as a pure value.

use std::time::Duration;

use crate::adapter::RETRY_AFTER_MAX;
use crate::layer::breaker::{Breaker, BreakerTransition, CallOutcome};
use crate::model::error::{Error, ErrorKind, Outcome, Result};
use crate::model::message::{Accepted, Message, OnUnknown};

/// Selects the gateway for each attempt, and decides if a failure is eligible for failover. A pure value: the caller
/// passes the time and the randomness.
///
/// Each gateway has a [`Breaker`], which opens if the gateway does not respond or refuses the account, and is later
/// probed with one message. If all breakers are open, the gateway that closes first is selected as a last resort, unless
/// it asked for a pause itself.
///
/// ```
/// use std::time::Duration;
/// use civic_messaging::layer::failover::{Attempted, Selector, Order};
/// use civic_messaging::{Address, Error, ErrorKind, Message, Outcome};
///
/// let mut selector = Selector::new(2, Order::Preferred)?;
/// let message = Message::text(Address::phone("07700 900123")?, "Hi");
/// let (mut attempted, now) = (Attempted::default(), Duration::ZERO);
/// assert_eq!(selector.pick(&mut attempted, now, 0), Some(0));
///
/// let opted_out = Error::new(ErrorKind::OptedOut, "no").with_outcome(Outcome::Rejected);
/// let locked = Error::new(ErrorKind::Account, "no").with_outcome(Outcome::Rejected);
/// assert!(!Selector::can_fail_over(&opted_out, &message));
/// assert!(!Selector::can_fail_over(&Error::unknown("no answer"), &message));
/// assert!(Selector::can_fail_over(&locked, &message));
/// assert_eq!(selector.pick(&mut attempted, now, 0), Some(1));
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Selector {
    order: Order,
    members: Vec<Breaker>,
    /// The next member in round-robin order.
    turn: usize,
}

/// The order in which gateways are tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The first available gateway.
    #[default]
    Preferred,
    /// Each gateway in turn.
    RoundRobin,
    /// At random, in these proportions. A gateway of weight 0 is used only if no other is available.
    Weighted(Vec<u32>),
}

/// The gateways that one message was sent to, and those that cannot send it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempted {
    attempted: u64,
    excluded: u64,
}

/// The open time for a refused account if the gateway gives none.
const ACCOUNT_OPEN_FOR: Duration = Duration::from_secs(60);

impl Selector {
    /// The maximum number of members.
    pub const MEMBERS_MAX: usize = 64;

    /// Creates a selector of 1 to 64 members.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for another number of members, and for weights that are all 0 or not one for each member.
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

    /// Sets the order.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn order(self, order: Order) -> Result<Self> {
        let Self { order, turn, .. } = Self::new(self.members.len(), order)?;
        Ok(Self { order, turn, members: self.members })
    }

    /// Returns the shortest time for which a member that was not attempted is still open, `None` if none is open.
    pub fn open_for(&self, attempted: Attempted, now: Duration) -> Option<Duration> {
        let waits = self.indices().filter(|n| !attempted.contains(*n)).map(|n| self.wait(n, now));
        waits.filter(|wait| !wait.is_zero()).min()
    }

    /// Sets the circuit breaker. Each member gets its own copy.
    #[must_use]
    pub fn breaker(mut self, breaker: &Breaker) -> Self {
        self.members.fill(breaker.clone());
        self
    }

    /// Returns `true` if the message may be sent through another gateway after this failure.
    ///
    /// Never after an unknown outcome, unless the message has [`OnUnknown::Resend`]; never after a partially accepted
    /// send, nor for a limit of this recipient. Otherwise by [`ErrorKind::is_failover_eligible`].
    pub fn can_fail_over(error: &Error, message: &Message) -> bool {
        // A limit of one recipient protects that person, whichever gateway sends.
        if !error.accepted_parts().is_empty() || error.is_per_recipient() {
            return false;
        }
        match error.outcome() {
            // An unreadable response is an unknown outcome like any other.
            Outcome::Unknown if error.kind() == ErrorKind::Unexpected => message.on_unknown == OnUnknown::Resend,
            Outcome::Unknown => message.on_unknown == OnUnknown::Resend && error.kind().is_failover_eligible(),
            Outcome::NotSent | Outcome::Rejected => error.kind().is_failover_eligible(),
        }
    }

    /// Selects the next member and marks it as attempted, `None` if no member is left.
    ///
    /// A member with an open breaker is selected only for the first attempt of a message, so that an outage of all
    /// gateways does not multiply the calls; never during a pause that the gateway asked for. `random` should be random.
    pub fn pick(&mut self, attempted: &mut Attempted, now: Duration, random: u64) -> Option<usize> {
        let first = attempted.attempted == 0;
        let untried = |n: &usize| !attempted.contains(*n);
        let ready = |n: &usize| untried(n) && self.members.get(*n).is_some_and(|member| member.ready(now).is_ok());
        let is_last_resort = |n: &usize| {
            let paused = self.members.get(*n).is_none_or(|member| member.is_paused(now));
            first && untried(n) && !paused
        };
        let last_resort = || self.indices().filter(is_last_resort).min_by_key(|n| self.wait(*n, now));
        let selected = self.by_order(ready, random).or_else(last_resort)?;
        if let Some(member) = self.members.get_mut(selected) {
            // The last resort is called although its breaker is open.
            _ = member.try_acquire(now);
        }
        if self.order == Order::RoundRobin && first {
            self.turn = (selected + 1) % self.members.len().max(1);
        }
        attempted.attempted |= bit(selected);
        Some(selected)
    }

    /// Records the result of a member's send and returns the transition of its breaker.
    pub fn report(&mut self, member: usize, result: &Result<Accepted>, now: Duration) -> Option<BreakerTransition> {
        let breaker = self.members.get_mut(member)?;
        let transition = breaker.report(CallOutcome::from_result(result), now);
        match result {
            Err(error) if has_account_scope(error) => match error.retry_after() {
                Some(wait) => breaker.pause(wait.min(RETRY_AFTER_MAX), now),
                None => breaker.open_for(ACCOUNT_OPEN_FOR, now),
            },
            _ => transition,
        }
    }

    fn indices(&self) -> std::ops::Range<usize> {
        0..self.members.len()
    }

    fn wait(&self, member: usize, now: Duration) -> Duration {
        self.members.get(member).and_then(|breaker| breaker.ready(now).err()).unwrap_or_default()
    }

    fn by_order(&self, ready: impl Fn(&usize) -> bool, random: u64) -> Option<usize> {
        match &self.order {
            Order::Preferred => self.indices().find(ready),
            Order::RoundRobin => {
                let from_turn = self.indices().cycle().skip(self.turn).take(self.members.len());
                from_turn.into_iter().find(ready)
            }
            Order::Weighted(weights) => {
                let ready = || self.indices().filter(&ready);
                let weight = |n: usize| u64::from(weights.get(n).copied().unwrap_or(0));
                let Some(mut left) = random.checked_rem(ready().map(weight).sum()) else {
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
    /// Excludes a member that cannot send the message.
    pub fn exclude(&mut self, member: usize) {
        self.excluded |= bit(member);
    }

    fn contains(self, member: usize) -> bool {
        (self.attempted | self.excluded) & bit(member) != 0
    }
}

fn bit(member: usize) -> u64 {
    u32::try_from(member).ok().and_then(|member| 1_u64.checked_shl(member)).unwrap_or(0)
}

/// Returns `true` if the gateway currently refuses every message of the account.
fn has_account_scope(error: &Error) -> bool {
    use ErrorKind::{Account, QuotaExceeded, RateLimited, Unauthenticated};
    let kind = matches!(error.kind(), Account | QuotaExceeded | RateLimited | Unauthenticated);
    // An error of our own rate limit is `NotSent`, and concerns one message.
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

    fn accepted() -> Result<Accepted> {
        Ok(Accepted::new("mock", "1", Bytes::new()))
    }

    fn fail_five_times(selector: &mut Selector, member: usize, now: Duration) {
        for _ in 0..5 {
            _ = selector.report(member, &failed(ErrorKind::Unavailable, Outcome::NotSent), now);
        }
    }

    fn order(selector: &mut Selector, now: Duration, chance: u64) -> Vec<usize> {
        let mut attempted = Attempted::default();
        std::iter::from_fn(|| selector.pick(&mut attempted, now, chance)).collect()
    }

    #[test]
    fn unknown_outcome_fails_over_only_with_on_unknown_resend() {
        let unknown = Error::unknown("no answer");
        assert!(!Selector::can_fail_over(&unknown, &message()));
        assert!(!Selector::can_fail_over(&unknown, &message().on_unknown(OnUnknown::Park)));
        assert!(Selector::can_fail_over(&unknown, &message().on_unknown(OnUnknown::Resend)));
        let pair = Error::new(ErrorKind::RateLimited, "no").with_retry(true, None).with_per_recipient(true);
        assert!(!Selector::can_fail_over(&pair, &message()));
        let partial = Error::new(ErrorKind::Account, "no").with_accepted_parts(vec![MessageId::new("SM1")]);
        assert!(!Selector::can_fail_over(&partial, &message().on_unknown(OnUnknown::Resend)));
    }

    #[test]
    fn refusal_by_recipient_or_medium_never_fails_over() {
        use ErrorKind::{InvalidMessage, InvalidRecipient, OptedOut, OutsideWindow, Rejected, TooLarge, Unexpected};
        for kind in [InvalidMessage, InvalidRecipient, OptedOut, OutsideWindow, Rejected, TooLarge, Unexpected] {
            for outcome in [Outcome::NotSent, Outcome::Rejected] {
                let error = Error::new(kind, "no").with_outcome(outcome).with_retry(true, None);
                assert!(!Selector::can_fail_over(&error, &message().on_unknown(OnUnknown::Resend)), "{kind:?}");
            }
        }
    }

    #[test]
    fn unavailable_gateway_is_skipped_then_probed_with_one_message() {
        let mut selector = Selector::new(2, Order::Preferred).unwrap();
        assert_eq!(order(&mut selector, NOW, 0), [0, 1]);
        fail_five_times(&mut selector, 0, NOW);
        assert_eq!(order(&mut selector, NOW, 0), [1]);
        let later = Duration::from_secs(10);
        assert_eq!(order(&mut selector, later, 0), [0, 1]);
        assert_eq!(order(&mut selector, later, 0), [1]);
        _ = selector.report(0, &accepted(), later);
        assert_eq!(order(&mut selector, later, 0), [0, 1]);
    }

    #[test]
    fn refused_account_is_paused_for_its_retry_after() {
        let mut selector = Selector::new(2, Order::Preferred).unwrap();
        let busy = Error::new(ErrorKind::QuotaExceeded, "no").with_outcome(Outcome::Rejected);
        _ = selector.report(0, &Err(busy.with_retry(true, Some(Duration::from_secs(3600)))), NOW);
        assert_eq!(order(&mut selector, Duration::from_secs(3599), 0), [1]);
        assert_eq!(order(&mut selector, Duration::from_secs(3600), 0), [0, 1]);
        // A limit of one recipient opens no breaker.
        let mut selector = Selector::new(2, Order::Preferred).unwrap();
        let pair = Error::new(ErrorKind::RateLimited, "no").with_outcome(Outcome::Rejected).with_per_recipient(true);
        _ = selector.report(0, &Err(pair), NOW);
        _ = selector.report(0, &failed(ErrorKind::OptedOut, Outcome::Rejected), NOW);
        assert_eq!(order(&mut selector, NOW, 0), [0, 1]);
    }

    #[test]
    fn last_resort_is_the_gateway_that_closes_first() {
        let mut selector = Selector::new(3, Order::Preferred).unwrap();
        for (member, at) in [(1, 0), (0, 1), (2, 2)] {
            let at = Duration::from_secs(at);
            fail_five_times(&mut selector, member, at);
        }
        assert_eq!(order(&mut selector, Duration::from_secs(3), 0), [1]);
        // A member that cannot send the message is no last resort.
        let mut attempted = Attempted::default();
        attempted.exclude(1);
        assert_eq!(selector.pick(&mut attempted, Duration::from_secs(3), 0), Some(0));
        assert_eq!(selector.pick(&mut attempted, Duration::from_secs(3), 0), None);
    }

    #[test]
    fn round_robin_and_weighted_orders_are_kept() {
        let mut turns = Selector::new(3, Order::RoundRobin).unwrap();
        let firsts: Vec<_> = (0..4).map(|_| order(&mut turns, NOW, 0)).collect();
        assert_eq!(firsts, [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
        let mut drawn = Selector::new(3, Order::Weighted(vec![3, 0, 1])).unwrap();
        let firsts: Vec<_> = (0..4).map(|chance| order(&mut drawn, NOW, chance)).collect();
        assert_eq!(firsts, [[0, 2, 1], [0, 2, 1], [0, 2, 1], [2, 0, 1]]);
    }

    #[test]
    fn invalid_member_counts_and_weights_are_config_errors() {
        for members in [0, 65] {
            assert_eq!(Selector::new(members, Order::Preferred).unwrap_err().field(), Some("suppliers"));
        }
        for weights in [vec![], vec![1], vec![0, 0], vec![1, 1, 1]] {
            assert_eq!(Selector::new(2, Order::Weighted(weights)).unwrap_err().field(), Some("weights"));
        }
    }

    proptest! {
        #[test]
        fn some_member_is_always_selected_and_none_twice(
            members in 1..=64_usize,
            reports in proptest::collection::vec((0..64_usize, 0..4_u8, 0..30_u64), 0..200),
            (kind, chance) in (0..3_u8, any::<u64>()),
        ) {
            let order_kind = match kind {
                0 => Order::Preferred,
                1 => Order::RoundRobin,
                _ => Order::Weighted((0..members).map(|n| u32::try_from(n % 3).unwrap() + u32::from(n == 0)).collect()),
            };
            let mut selector = Selector::new(members, order_kind).unwrap();
            let mut now = NOW;
            for (member, report, passed) in reports {
                now += Duration::from_secs(passed);
                let result = match report {
                    0 => accepted(),
                    1 => failed(ErrorKind::Unavailable, Outcome::Unknown),
                    2 => failed(ErrorKind::Unauthenticated, Outcome::Rejected),
                    _ => failed(ErrorKind::OptedOut, Outcome::Rejected),
                };
                _ = selector.report(member, &result, now);
                let mut selected = order(&mut selector, now, chance);
                prop_assert!(!selected.is_empty());
                let count = selected.len();
                selected.sort_unstable();
                selected.dedup();
                prop_assert!(selected.len() == count && selected.iter().all(|n| *n < members));
            }
        }
    }
}
