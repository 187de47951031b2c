//! When the next message may go.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::time::Duration;

use crate::address::Address;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::message::Accepted;
use crate::rate::{Allowance, PairRate, Rate};

/// When the next message of one account may go, to this person: a pure value, which reads no clock.
///
/// It keeps a rate for the sender and one for each pair of sender and recipient. A gateway that says "too many" pauses
/// the one of them that it means, and no other; what a gateway says of how many are left is kept to. It holds no
/// address, and of the people to whom nothing is owed it holds nothing.
///
/// All times are of one clock that does not go back, such as [`Clock::monotonic`](crate::Clock::monotonic).
///
/// ```
/// use std::time::Duration;
/// use civic_messaging::layer::rate_limit::Limiter;
/// use civic_messaging::{Address, Rate};
///
/// let mut limiter = Limiter::new(Some(Rate::per_second(80)), Some(Rate::every_seconds(6).into()));
/// let (ann, bob) = (Address::phone("07700 900123")?, Address::phone("07700 900456")?);
/// let (now, later) = (Duration::ZERO, Duration::from_millis(13));
/// assert_eq!(limiter.try_acquire(&ann, now), Ok(()));
/// assert!(limiter.try_acquire(&bob, now).is_err()); // 80 a second
/// assert_eq!(limiter.try_acquire(&bob, later), Ok(()));
/// assert!(limiter.try_acquire(&ann, later).is_err_and(|wait| wait > Duration::from_secs(6)));
/// # Ok::<(), civic_messaging::Error>(())
/// ```
pub struct Limiter {
    rate: Option<Rate>,
    pair_rate: Option<PairRate>,
    booked: Calendar,
    sender: Told,
    pairs: HashMap<u64, Pair, BuildHasherDefault<Hashed>>,
    /// Sweeps away what is paid back when there are so many pairs.
    sweep_at: usize,
    hasher: RandomState,
}

impl Limiter {
    /// A rate for all messages, and one for those to each person; none where there is no limit but what the gateway
    /// says itself.
    pub fn new(rate: Option<Rate>, pair_rate: Option<PairRate>) -> Self {
        Self {
            rate,
            pair_rate,
            booked: Calendar::default(),
            sender: Told::default(),
            pairs: HashMap::default(),
            sweep_at: SWEEP_MIN,
            hasher: RandomState::new(),
        }
    }

    /// Takes a place for a message to this person, if one is free.
    ///
    /// # Errors
    /// How long it takes until one may be free; nothing was taken.
    pub fn try_acquire(&mut self, to: &Address, now: Duration) -> Result<(), Duration> {
        self.book(to, now, now).map(|_| ()).map_err(|late| late.at - now)
    }

    /// Takes how a send ended. A gateway that says that it was too much pauses what it means, for the time that it says or
    /// for one that grows with each such word in a row; one that says how many more may go is kept to that. `today` is
    /// the time of day.
    pub fn report(&mut self, to: &Address, sent: &Result<Accepted>, now: Duration, today: Timestamp) {
        match sent {
            Ok(accepted) => {
                self.sender.refusals = 0;
                if let Some(pair) = self.key(to).and_then(|key| self.pairs.get_mut(&key)) {
                    pair.told.refusals = 0;
                }
                if let Some(left) = accepted.allowance {
                    // Gateways say so in whole seconds.
                    let second = Duration::from_secs(1);
                    let time = left.reset.map_or(WINDOW_UNKNOWN, |reset| reset.since(today) + second);
                    self.sender.learn(left, now.saturating_add(time), now);
                }
            }
            Err(error) if is_limit(error) => {
                self.sweep(now);
                let told = match error.is_of_pair() {
                    true => &mut self.pairs.entry(self.hasher.hash_one(to.expose())).or_default().told,
                    false => &mut self.sender,
                };
                told.pause(error.retry_after().unwrap_or_default(), now);
            }
            Err(_) => {}
        }
    }

    /// Books the next place for a message to this person, and says when it is: now, or later. Places in between stay
    /// free for others.
    ///
    /// # Errors
    /// When that would be, where it is after `latest`; nothing was booked.
    pub(crate) fn book(&mut self, to: &Address, now: Duration, latest: Duration) -> Result<Duration, Late> {
        self.sweep(now);
        self.booked.forget(now);
        let key = self.key(to);
        let pair = key.and_then(|key| self.pairs.get(&key));
        let by_pair = pair.map(|pair| pair.free(self.pair_rate, now));
        let mut at = by_pair.unwrap_or(now);
        // The one may lie in a time that the other does not allow: in turns, until both agree.
        loop {
            let slot = self.booked.free(self.rate, self.sender.free(at));
            at = pair.map_or(slot, |pair| pair.free(self.pair_rate, slot));
            if at == slot {
                break;
            }
        }
        if at > latest {
            return Err(Late { at, of_pair: by_pair == Some(at) && at > now });
        }
        self.booked.take(self.rate, at);
        self.sender.count(at);
        if let (Some(rate), Some(key)) = (self.pair_rate, key) {
            self.pairs.entry(key).or_default().take(rate, at);
        }
        Ok(at)
    }

    /// Until when messages to this person are paused.
    pub(crate) fn paused(&self, to: &Address) -> Duration {
        let pair = self.key(to).and_then(|key| self.pairs.get(&key));
        pair.map_or(Duration::ZERO, |pair| pair.told.paused).max(self.sender.paused)
    }

    /// What stands for a person here; nothing where no person has a rate.
    fn key(&self, to: &Address) -> Option<u64> {
        (self.pair_rate.is_some() || !self.pairs.is_empty()).then(|| self.hasher.hash_one(to.expose()))
    }

    /// Forgets the people to whom nothing is owed, each time there are twice as many as were left the last time.
    fn sweep(&mut self, now: Duration) {
        if self.pairs.len() >= self.sweep_at {
            self.pairs.retain(|_, pair| pair.owed > now || pair.told.paused > now);
            self.sweep_at = (self.pairs.len() * 2).max(SWEEP_MIN);
        }
    }
}

/// Whether a gateway says that it was too much, and will take it later. What a [`RateLimit`](super::RateLimit) of our own
/// says is of nobody who was asked.
fn is_limit(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::RateLimited | ErrorKind::QuotaExceeded)
        && error.is_retryable()
        && error.outcome() == Outcome::Rejected
}

/// A place that lies too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Late {
    pub(crate) at: Duration,
    /// Whether it is this person's rate that it waits for.
    pub(crate) of_pair: bool,
}

const SWEEP_MIN: usize = 1024;

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter")
            .field("rate", &self.rate)
            .field("pair_rate", &self.pair_rate)
            .field("pairs", &self.pairs.len())
            .finish_non_exhaustive()
    }
}

/// Leaves a key that is a hash as it is.
#[derive(Clone, Copy, Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Keys are whole numbers, which come by `write_u64`; whatever else comes is hashed, if badly.
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// The places that are taken, as times from and to, none of them touching another.
#[derive(Default)]
struct Calendar(BTreeMap<Duration, Duration>);

impl Calendar {
    /// The first free place from this time on.
    fn free(&self, rate: Option<Rate>, mut at: Duration) -> Duration {
        let Some(rate) = rate else { return at };
        if let Some((_, until)) = self.0.range(..=at).next_back() {
            at = at.max(*until);
        }
        // A gap that is too short for a message was closed when it came about, but for the one behind `at`.
        for (from, until) in self.0.range(at..) {
            if *from >= at + rate.interval() {
                break;
            }
            at = *until;
        }
        at
    }

    fn take(&mut self, rate: Option<Rate>, at: Duration) {
        let Some(rate) = rate else { return };
        let (mut from, mut until) = (at, at + rate.interval());
        if let Some((start, end)) = self.0.range(..=at).next_back()
            && at - *end < rate.interval()
        {
            from = *start;
        }
        if let Some((start, end)) = self.0.range(at..).next()
            && start.saturating_sub(until) < rate.interval()
        {
            let start = *start;
            until = *end;
            self.0.remove(&start);
        }
        self.0.insert(from, until);
    }

    /// Forgets what is past, but for one: an empty map gives its memory back, and would take it again for each message.
    fn forget(&mut self, now: Duration) {
        while self.0.len() > 1
            && let Some(first) = self.0.first_entry()
            && *first.get() <= now
        {
            first.remove();
        }
    }
}

/// What is taken of one person's rate.
#[derive(Clone, Debug, Default)]
struct Pair {
    /// When all that was taken is paid back.
    owed: Duration,
    /// When the last burst began, and how many were of it.
    begun: Duration,
    burst: u32,
    told: Told,
}

impl Pair {
    /// The first free place from this time on.
    fn free(&self, rate: Option<PairRate>, at: Duration) -> Duration {
        let at = self.told.free(at);
        let Some(rate) = rate.filter(|_| self.owed > at) else { return at };
        let in_burst = at.max(self.begun);
        if self.burst < rate.burst() && in_burst - self.begun < rate.interval() { in_burst } else { self.owed }
    }

    fn take(&mut self, rate: PairRate, at: Duration) {
        if self.owed <= at {
            (self.begun, self.burst, self.owed) = (at, 1, at + rate.interval());
        } else {
            self.burst += 1;
            self.owed += rate.interval();
        }
    }
}

/// What the gateway said itself.
#[derive(Clone, Debug, Default)]
struct Told {
    paused: Duration,
    /// How often in a row it said that it was too much.
    refusals: u32,
    window: Option<Window>,
}

/// How many it said are left, from a time and until one. It may be one that has not begun, of which places are booked.
#[derive(Clone, Copy, Debug)]
struct Window {
    limit: Option<u64>,
    remaining: u64,
    from: Duration,
    until: Duration,
}

/// The longest pause where the gateway does not say how long.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// How long a window is taken to be until the gateway says when it ends.
const WINDOW_UNKNOWN: Duration = Duration::from_secs(60);

impl Told {
    /// The first time from this one on that it allows.
    fn free(&self, at: Duration) -> Duration {
        let by_window = match self.window {
            Some(window) if window.remaining == 0 => window.until,
            Some(window) => window.from,
            None => at,
        };
        at.max(by_window).max(self.paused)
    }

    fn count(&mut self, at: Duration) {
        match &mut self.window {
            Some(window) if at < window.until => window.remaining = window.remaining.saturating_sub(1),
            // A new one begins: until an answer tells, it is taken to be as the last one.
            window => *window = window.and_then(|last| last.next(at)),
        }
    }

    fn pause(&mut self, told: Duration, now: Duration) {
        // What was on its way when it was paused is refused as well, and says nothing new.
        if self.paused <= now {
            self.refusals = self.refusals.saturating_add(1);
        }
        let grown = Duration::from_secs(4_u64.saturating_pow(self.refusals.saturating_sub(1))).min(PAUSE_MAX);
        self.paused = self.paused.max(now.saturating_add(told.max(grown)));
    }

    fn learn(&mut self, left: Allowance, until: Duration, now: Duration) {
        const SAME: Duration = Duration::from_secs(2);
        let (limit, remaining) = (left.limit, left.remaining);
        match &mut self.window {
            // Answers do not come in order: of one window the least holds, and of an older one nothing does.
            Some(window) if until.abs_diff(window.until) < SAME => window.remaining = window.remaining.min(remaining),
            Some(window) if now < window.from && until < window.until => {}
            window => {
                // It began when the last one ended, if that is known.
                let from = window.map_or(now, |last| last.until.min(now));
                *window = Some(Window { limit, remaining, from, until });
            }
        }
    }
}

impl Window {
    fn next(self, at: Duration) -> Option<Self> {
        let remaining = self.limit?.checked_sub(1)?;
        Some(Self { remaining, from: at, until: at + (self.until - self.from), ..self })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn person(n: u32) -> Address {
        Address::phone(&format!("+4477009{n:05}")).unwrap()
    }

    fn secs(secs: f64) -> Duration {
        Duration::from_secs_f64(secs)
    }

    fn busy(after: Option<u64>, pair: bool) -> Result<Accepted> {
        let error = Error::new(ErrorKind::RateLimited, "busy").with_outcome(Outcome::Rejected);
        Err(error.with_retry(true, after.map(Duration::from_secs)).with_pair(pair))
    }

    fn accepted(allowance: Option<Allowance>) -> Result<Accepted> {
        let mut accepted = Accepted::new("mock", "1", bytes::Bytes::new());
        accepted.allowance = allowance;
        Ok(accepted)
    }

    const TODAY: Timestamp = Timestamp::from_secs(1_000_000);

    #[test]
    fn a_burst_goes_at_once_and_is_paid_back_before_the_next() {
        let mut limiter = Limiter::new(None, Some(Rate::every_seconds(6).with_burst(20)));
        let (ann, bob) = (person(1), person(2));
        assert_eq!((0..100).filter(|_| limiter.try_acquire(&ann, secs(1.0)).is_ok()).count(), 20);
        // Meta: after a burst of 20, about two minutes.
        assert_eq!(limiter.try_acquire(&ann, secs(1.0)), Err(secs(20.0 * 6.12)));
        assert_eq!(limiter.try_acquire(&bob, secs(1.0)), Ok(()));
        assert!(limiter.try_acquire(&ann, secs(120.0)).is_err());
        assert_eq!(limiter.try_acquire(&ann, secs(1.0 + 20.0 * 6.12)), Ok(()));
        // After the first six seconds a burst is over, and what is owed is owed.
        let mut limiter = Limiter::new(None, Some(Rate::every_seconds(6).with_burst(20)));
        assert_eq!((limiter.try_acquire(&ann, secs(0.0)), limiter.try_acquire(&ann, secs(5.0))), (Ok(()), Ok(())));
        assert_eq!(limiter.try_acquire(&ann, secs(7.0)), Err(secs(12.24 - 7.0)));
    }

    #[test]
    fn a_refusal_pauses_what_it_means_and_nothing_else() {
        let mut limiter = Limiter::new(Some(Rate::per_second(1_000)), Some(Rate::every_seconds(1).into()));
        let (ann, bob) = (person(1), person(2));
        limiter.report(&ann, &busy(Some(30), true), secs(0.0), TODAY);
        assert_eq!(limiter.try_acquire(&ann, secs(1.0)), Err(secs(29.0)));
        assert_eq!(limiter.try_acquire(&bob, secs(1.0)), Ok(()));
        limiter.report(&bob, &busy(Some(60), false), secs(2.0), TODAY);
        assert_eq!(limiter.try_acquire(&person(3), secs(2.0)), Err(secs(60.0)));
        // What is not about how often pauses nothing.
        let mut limiter = Limiter::new(None, None);
        let share =
            Error::new(ErrorKind::QuotaExceeded, "of this person").with_outcome(Outcome::Rejected).with_pair(true);
        let waits = Error::new(ErrorKind::RateLimited, "too many wait").with_retry(true, Some(secs(9.0)));
        for error in [Error::new(ErrorKind::Unavailable, "down"), share, waits] {
            limiter.report(&ann, &Err(error), secs(0.0), TODAY);
        }
        assert_eq!(limiter.try_acquire(&ann, secs(0.0)), Ok(()));
    }

    #[test]
    fn where_the_gateway_does_not_say_how_long_the_pause_grows_with_each_refusal_in_a_row() {
        let mut limiter = Limiter::new(None, None);
        let ann = person(1);
        let mut now = secs(0.0);
        for wait in [1, 4, 16, 64, 256, 300, 300] {
            // All that were on their way count once.
            (0..64).for_each(|_| limiter.report(&ann, &busy(None, true), now, TODAY));
            assert_eq!(limiter.try_acquire(&ann, now), Err(Duration::from_secs(wait)));
            now += Duration::from_secs(wait);
            assert_eq!(limiter.try_acquire(&ann, now), Ok(()));
        }
        limiter.report(&ann, &accepted(None), now, TODAY);
        limiter.report(&ann, &busy(None, true), now, TODAY);
        assert_eq!(limiter.try_acquire(&ann, now), Err(secs(1.0)));
    }

    #[test]
    fn what_the_gateway_says_is_left_is_kept_to() {
        let mut limiter = Limiter::new(None, None);
        let ann = person(1);
        let left = |n, until| accepted(Some(Allowance::new(n).of(15).until(TODAY.plus(secs(until)))));
        limiter.report(&ann, &left(3, 900.0), secs(0.0), TODAY);
        // An older answer that comes later.
        limiter.report(&ann, &left(5, 900.0), secs(0.0), TODAY);
        assert_eq!((0..9).filter(|_| limiter.try_acquire(&ann, secs(1.0)).is_ok()).count(), 3);
        assert_eq!(limiter.try_acquire(&ann, secs(1.0)), Err(secs(900.0)));
        // The next one is taken to be as long, until an answer tells.
        assert_eq!((0..99).filter(|_| limiter.try_acquire(&ann, secs(901.0)).is_ok()).count(), 15);
        assert_eq!(limiter.try_acquire(&ann, secs(901.0)), Err(secs(901.0)));
        limiter.report(&ann, &left(2, 960.0), secs(902.0), TODAY.plus(secs(902.0)));
        assert_eq!((0..9).filter(|_| limiter.try_acquire(&ann, secs(902.0)).is_ok()).count(), 2);
        assert_eq!(limiter.try_acquire(&ann, secs(902.0)), Err(secs(59.0)));
    }

    #[test]
    fn it_holds_nothing_of_those_to_whom_nothing_is_owed() {
        let mut limiter = Limiter::new(None, Some(Rate::every_seconds(6).into()));
        for n in 0..50_000 {
            limiter.try_acquire(&person(n), secs(f64::from(n))).unwrap();
        }
        assert!(limiter.pairs.len() <= SWEEP_MIN, "{}", limiter.pairs.len());
        assert!(!format!("{limiter:?}").contains("7700"));
    }

    proptest! {
        /// However the calls come: no window of the receiving side sees more than the rate allows, and nobody waits
        /// longer than needed.
        #[test]
        fn no_window_holds_more_than_the_rate(
            count in 1..20_u32, per in 1..10_u64, burst in 1..20_u32,
            gaps in proptest::collection::vec(0.0..2.0_f64, 1..200),
        ) {
            let rate = Rate::new(count, Duration::from_secs(per)).unwrap().with_burst(burst);
            let mut limiter = Limiter::new(None, Some(rate));
            let (mut now, mut went) = (Duration::ZERO, Vec::new());
            for gap in gaps {
                now += secs(gap * per as f64 / f64::from(count));
                match limiter.try_acquire(&person(1), now) {
                    Ok(()) => went.push(now),
                    Err(wait) => {
                        prop_assert!(limiter.try_acquire(&person(1), now + wait - Duration::from_nanos(1)).is_err());
                        prop_assert!(wait <= rate.interval() * burst);
                    }
                }
            }
            let each = Duration::from_secs(per) / count;
            let most = |time: Duration| time.as_nanos() / each.as_nanos() + u128::from(burst);
            for (n, from) in went.iter().enumerate() {
                for (m, to) in went.iter().enumerate().skip(n) {
                    prop_assert!((m - n + 1) as u128 <= most(*to - *from), "{} in {:?}", m - n + 1, *to - *from);
                }
            }
        }

        /// Whatever is booked in whichever order: every message is apart from every other and from those to the same
        /// person, and each has the first place that was free for it.
        #[test]
        fn places_keep_their_distance_and_leave_no_gap(
            count in 1..20_u32,
            asks in proptest::collection::vec((0..4_u32, 0..400_u64), 1..60),
        ) {
            let (rate, pair) = (Rate::new(count, Duration::from_secs(1)).unwrap(), Rate::every_seconds(1));
            let mut limiter = Limiter::new(Some(rate), Some(pair.into()));
            let (mut now, mut all) = (Duration::ZERO, Vec::<(u32, Duration)>::new());
            for (who, passed) in asks {
                now += Duration::from_millis(passed);
                let at = limiter.book(&person(who), now, Duration::MAX).unwrap();
                let apart = |at: Duration| {
                    all.iter().all(|(other, taken)| {
                        let gap = at.abs_diff(*taken);
                        // Within a person's own messages nobody is overtaken.
                        gap >= rate.interval() && (*other != who || at >= *taken + pair.interval())
                    })
                };
                prop_assert!(at >= now && apart(at));
                // The first place is now, or just behind another message.
                let ends = all.iter().flat_map(|(_, taken)| [*taken + rate.interval(), *taken + pair.interval()]);
                let first = ends.chain([now]).filter(|start| *start >= now && apart(*start)).min();
                prop_assert_eq!(Some(at), first);
                all.push((who, at));
            }
        }
    }
}
