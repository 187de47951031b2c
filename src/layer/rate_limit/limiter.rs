//! The rate limiter, as a pure value.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::time::Duration;

use crate::adapter::RETRY_AFTER_MAX;
use crate::model::address::Address;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, ErrorKind, Outcome, Result};
use crate::model::message::Accepted;
use crate::model::rate::{PairRate, Quota, Rate};

/// Rate limiter of one account. A pure value: the caller passes the time.
///
/// Keeps one rate for the account and one for each recipient. A "too many requests" response pauses the one that it
/// concerns; a reported quota limits what is sent until it resets. The limiter stores hashes in place of addresses, and
/// forgets recipients whose rate has recovered.
///
/// All times come from one monotonic clock, such as [`Clock::monotonic`](crate::clock::Clock::monotonic).
///
/// ```
/// use std::time::Duration;
/// use civic_messaging::layer::rate_limit::Limiter;
/// use civic_messaging::Address;
/// use civic_messaging::rate::Rate;
///
/// let mut limiter = Limiter::new(Some(Rate::per_second(80)), Some(Rate::every_seconds(6).into()));
/// let (ann, bob) = (Address::phone("07700 900123")?, Address::phone("07700 900456")?);
/// let (now, later) = (Duration::ZERO, Duration::from_millis(13));
/// assert_eq!(limiter.try_acquire(&ann, now), Ok(()));
/// assert!(limiter.try_acquire(&bob, now).is_err()); // 80 per second
/// assert_eq!(limiter.try_acquire(&bob, later), Ok(()));
/// assert!(limiter.try_acquire(&ann, later).is_err_and(|wait| wait > Duration::from_secs(6)));
/// # Ok::<(), civic_messaging::Error>(())
/// ```
pub struct Limiter {
    rate: Option<Rate>,
    pair_rate: Option<PairRate>,
    booked: Calendar,
    account: GatewayLimits,
    pairs: HashMap<u64, Pair, BuildHasherDefault<Hashed>>,
    /// The number of pairs at which recovered ones are removed.
    sweep_at: usize,
    hasher: RandomState,
}

impl Limiter {
    /// Creates a limiter with a rate of the account and one of each recipient. With `None`, only the gateway's responses
    /// limit.
    pub fn new(rate: Option<Rate>, pair_rate: Option<PairRate>) -> Self {
        Self {
            rate,
            pair_rate,
            booked: Calendar::default(),
            account: GatewayLimits::default(),
            pairs: HashMap::default(),
            sweep_at: SWEEP_MIN,
            hasher: RandomState::new(),
        }
    }

    /// Takes a slot for a message to this recipient.
    ///
    /// # Errors
    /// The time until a slot may be free; none is taken.
    pub fn try_acquire(&mut self, to: &Address, now: Duration) -> Result<(), Duration> {
        self.book(to, now, now).map(|_| ()).map_err(|late| late.at.saturating_sub(now))
    }

    /// Records the result of a send. A limit error pauses the account or the recipient, for the gateway's `Retry-After` or
    /// for a time that grows with consecutive limit errors; a reported quota replaces the known one. `wall_clock` is the
    /// current time.
    pub fn report(&mut self, to: &Address, result: &Result<Accepted>, now: Duration, wall_clock: Timestamp) {
        self.account.in_flight = self.account.in_flight.saturating_sub(1);
        match result {
            Ok(accepted) => {
                self.account.refusals = 0;
                if let Some(pair) = self.key(to).and_then(|key| self.pairs.get_mut(&key)) {
                    pair.limits.refusals = 0;
                }
                if let Some(quota) = accepted.quota {
                    // Gateways report the reset in whole seconds.
                    let second = Duration::from_secs(1);
                    let time = quota.reset.map_or(WINDOW_DEFAULT, |reset| reset.since(wall_clock) + second);
                    self.account.learn(quota, now.saturating_add(time.min(RETRY_AFTER_MAX)), now);
                }
            }
            Err(error) if is_limit(error) => {
                self.sweep(now);
                let limits = match error.is_per_recipient() {
                    true => &mut self.pairs.entry(self.hasher.hash_one(to.expose())).or_default().limits,
                    false => &mut self.account,
                };
                limits.pause(error.retry_after().unwrap_or_default().min(RETRY_AFTER_MAX), now);
            }
            Err(_) => {}
        }
    }

    /// Books the next slot for a message to this recipient, now or later. Earlier slots stay free for other recipients.
    ///
    /// # Errors
    /// The time of the slot if it is after `latest`; none is booked.
    pub(crate) fn book(&mut self, to: &Address, now: Duration, latest: Duration) -> Result<Slot, Late> {
        self.sweep(now);
        self.booked.forget(now);
        self.account.forget(now);
        let key = self.key(to);
        let pair = key.and_then(|key| self.pairs.get(&key));
        let mut at = pair.map_or(now, |pair| pair.free(self.pair_rate, now));
        // A slot of one rate may conflict with the other: alternate until both agree.
        loop {
            let slot = self.booked.free(self.rate, self.account.free(at));
            at = pair.map_or(slot, |pair| pair.free(self.pair_rate, slot));
            if at == slot {
                break;
            }
        }
        if at > latest {
            // The account's rate alone would allow a slot in time.
            let per_recipient = self.booked.free(self.rate, self.account.free(now)) <= latest;
            return Err(Late { at, per_recipient });
        }
        self.booked.take(self.rate, at);
        if let (Some(rate), Some(key)) = (self.pair_rate, key) {
            self.pairs.entry(key).or_default().take(rate, at);
        }
        Ok(Slot { at, counted: self.account.count(at) })
    }

    /// Releases an unused slot.
    pub(crate) fn release(&mut self, to: &Address, slot: Slot) {
        self.booked.release(self.rate, slot.at);
        if let Some(pair) = self.key(to).and_then(|key| self.pairs.get_mut(&key))
            && let Some(rate) = self.pair_rate
        {
            pair.release(rate, slot.at);
        }
        self.account.uncount(slot);
    }

    /// Returns `true` if a slot may be used, now that its time has come. In the meantime a pause may have begun, or the
    /// gateway may have reported another quota.
    pub(crate) fn is_usable(&mut self, to: &Address, slot: &mut Slot, now: Duration) -> bool {
        if self.paused(to) > now {
            return false;
        }
        // A slot counted before the last reported quota does not count against it.
        let counted = slot.counted.is_some_and(|generation| generation >= self.account.learned);
        if !self.account.windows.is_empty() && !counted {
            if self.account.free(now) > now {
                return false;
            }
            slot.counted = self.account.count(now);
        }
        true
    }

    /// Counts a send as in flight, until [`report`](Self::report) or [`abandon`](Self::abandon).
    pub(crate) fn start(&mut self) {
        self.account.in_flight += 1;
    }

    /// Ends a send without a result.
    pub(crate) fn abandon(&mut self) {
        self.account.in_flight = self.account.in_flight.saturating_sub(1);
    }

    /// Sets the given rates, and keeps the slots already taken.
    pub(crate) fn retune(&mut self, rate: Option<Rate>, pair_rate: Option<PairRate>) {
        (self.rate, self.pair_rate) = (rate.or(self.rate), pair_rate.or(self.pair_rate));
    }

    /// Pauses all messages until this time.
    #[cfg(any(feature = "sqlite-system", feature = "postgres"))]
    pub(crate) fn pause_until(&mut self, until: Duration) {
        self.account.paused = self.account.paused.max(until);
    }

    /// Returns the end of the pause of all messages.
    #[cfg(any(feature = "sqlite-system", feature = "postgres"))]
    pub(crate) fn paused_until(&self) -> Duration {
        self.account.paused
    }

    /// Returns the end of the pause of messages to this recipient.
    pub(crate) fn paused(&self, to: &Address) -> Duration {
        let pair = self.key(to).and_then(|key| self.pairs.get(&key));
        pair.map_or(Duration::ZERO, |pair| pair.limits.paused).max(self.account.paused)
    }

    /// Returns the hash of a recipient, `None` if no recipient is limited.
    fn key(&self, to: &Address) -> Option<u64> {
        (self.pair_rate.is_some() || !self.pairs.is_empty()).then(|| self.hasher.hash_one(to.expose()))
    }

    /// Removes recovered recipients, whenever there are twice as many as the last sweep kept.
    fn sweep(&mut self, now: Duration) {
        if self.pairs.len() >= self.sweep_at {
            self.pairs.retain(|_, pair| pair.recovered_at > now || pair.limits.paused > now);
            self.sweep_at = (self.pairs.len() * 2).max(SWEEP_MIN);
        }
    }
}

/// Returns `true` if the gateway reported a limit that passes. An error of our own [`RateLimit`](super::RateLimit) is
/// `NotSent`, and no report of the gateway.
fn is_limit(error: &Error) -> bool {
    let responded = error.outcome() != Outcome::NotSent;
    match error.kind() {
        ErrorKind::RateLimited | ErrorKind::QuotaExceeded => responded && error.is_transient(),
        // For example 503 with `Retry-After`, during maintenance.
        ErrorKind::Unavailable => responded && error.retry_after().is_some(),
        _ => false,
    }
}

/// A booked slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) at: Duration,
    /// The generation of the window in which it is counted.
    counted: Option<u64>,
}

/// The next free slot, which is too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Late {
    pub(crate) at: Duration,
    /// The recipient's rate is the cause, and not the account's.
    pub(crate) per_recipient: bool,
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

/// A hasher that returns its `u64` key: the key is a hash already.
#[derive(Clone, Copy, Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Keys use `write_u64`. Anything else gets a poor but valid hash.
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// The booked times, as a map from start to end of disjoint intervals.
#[derive(Default)]
struct Calendar(BTreeMap<Duration, Duration>);

impl Calendar {
    /// Returns the first free time from `at` on.
    fn free(&self, rate: Option<Rate>, mut at: Duration) -> Duration {
        let Some(rate) = rate else { return at };
        if let Some((_, until)) = self.0.range(..=at).next_back() {
            at = at.max(*until);
        }
        // `take` closes gaps that are too short for a message; only the gap after `at` can be short.
        for (from, until) in self.0.range(at..) {
            if *from >= at.saturating_add(rate.interval()) {
                break;
            }
            at = *until;
        }
        at
    }

    fn release(&mut self, rate: Option<Rate>, at: Duration) {
        let Some(rate) = rate else { return };
        let after = at.saturating_add(rate.interval());
        let enclosing = self.0.range(..=at).next_back().map(|(from, until)| (*from, *until));
        if let Some((from, until)) = enclosing.filter(|(_, until)| *until > at) {
            self.0.remove(&from);
            if from < at {
                self.0.insert(from, at);
            }
            if after < until {
                self.0.insert(after, until);
            }
        }
    }

    fn take(&mut self, rate: Option<Rate>, at: Duration) {
        let Some(rate) = rate else { return };
        let (mut from, mut until) = (at, at.saturating_add(rate.interval()));
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

    /// Removes past intervals except one: an empty map would free its memory and allocate again for each message.
    fn forget(&mut self, now: Duration) {
        while self.0.len() > 1
            && let Some(first) = self.0.first_entry()
            && *first.get() <= now
        {
            first.remove();
        }
    }
}

/// The use of one recipient's rate.
#[derive(Clone, Debug, Default)]
struct Pair {
    /// The time at which all slots taken have recovered.
    recovered_at: Duration,
    /// The start and the size of the last burst.
    burst_start: Duration,
    burst: u32,
    limits: GatewayLimits,
}

impl Pair {
    /// Returns the first free time from `at` on.
    fn free(&self, rate: Option<PairRate>, at: Duration) -> Duration {
        let at = self.limits.free(at);
        let Some(rate) = rate.filter(|_| self.recovered_at > at) else { return at };
        let in_burst = at.max(self.burst_start);
        if self.burst < rate.burst() && in_burst - self.burst_start < rate.interval() {
            in_burst
        } else {
            self.recovered_at
        }
    }

    fn take(&mut self, rate: PairRate, at: Duration) {
        if self.recovered_at <= at {
            (self.burst_start, self.burst, self.recovered_at) = (at, 1, at.saturating_add(rate.interval()));
        } else {
            self.burst += 1;
            self.recovered_at = self.recovered_at.saturating_add(rate.interval());
        }
    }

    /// Releases a slot of the last burst. Later slots were booked at a distance from earlier bursts, which stay.
    fn release(&mut self, rate: PairRate, at: Duration) {
        if at >= self.burst_start && self.burst > 0 {
            self.burst -= 1;
            self.recovered_at = self.recovered_at.saturating_sub(rate.interval());
        }
    }
}

/// The limits that the gateway reported.
#[derive(Clone, Debug, Default)]
struct GatewayLimits {
    /// The end of the pause.
    paused: Duration,
    /// The number of consecutive limit errors.
    refusals: u32,
    /// The reported window, and later ones in which slots are booked. These are assumed to be as long as the longest
    /// reported one.
    windows: VecDeque<QuotaWindow>,
    longest: Duration,
    /// The generation of the last window, and of the last reported one.
    generation: u64,
    learned: u64,
    /// The number of sends without a result.
    in_flight: u64,
}

/// A quota between two times.
#[derive(Clone, Copy, Debug)]
struct QuotaWindow {
    generation: u64,
    limit: Option<u64>,
    remaining: u64,
    from: Duration,
    until: Duration,
}

/// The maximum pause if the gateway gives no time.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// The assumed length of a window if the gateway gives no reset.
const WINDOW_DEFAULT: Duration = Duration::from_secs(60);

impl GatewayLimits {
    /// Returns the first allowed time from `at` on.
    fn free(&self, at: Duration) -> Duration {
        let mut at = at.max(self.paused);
        for window in &self.windows {
            if at < window.until {
                if window.remaining > 0 {
                    return at.max(window.from);
                }
                at = window.until;
            }
        }
        at
    }

    /// Counts a slot and returns the generation of its window.
    fn count(&mut self, at: Duration) -> Option<u64> {
        let within = |window: &&mut QuotaWindow| window.from <= at && at < window.until;
        if let Some(window) = self.windows.iter_mut().find(within) {
            window.remaining = window.remaining.saturating_sub(1);
            return Some(window.generation);
        }
        let last = self.windows.back().filter(|last| at >= last.until)?;
        let (limit, remaining) = (last.limit, last.limit?.checked_sub(1)?);
        self.generation += 1;
        let until = at.saturating_add(self.longest);
        self.windows.push_back(QuotaWindow { generation: self.generation, limit, remaining, from: at, until });
        Some(self.generation)
    }

    fn uncount(&mut self, slot: Slot) {
        let counted = |window: &&mut QuotaWindow| Some(window.generation) == slot.counted;
        if let Some(window) = self.windows.iter_mut().find(counted) {
            window.remaining = window.remaining.saturating_add(1).min(window.limit.unwrap_or(u64::MAX));
        }
    }

    /// Removes past windows except the last, from which the next one is derived.
    fn forget(&mut self, now: Duration) {
        while self.windows.len() > 1 && self.windows.front().is_some_and(|first| first.until <= now) {
            self.windows.pop_front();
        }
    }

    fn pause(&mut self, retry_after: Duration, now: Duration) {
        // Sends that were in flight when the pause began are refused as well: count them once.
        if self.paused <= now {
            self.refusals = self.refusals.saturating_add(1);
        }
        let grown = Duration::from_secs(4_u64.saturating_pow(self.refusals.saturating_sub(1))).min(PAUSE_MAX);
        self.paused = self.paused.max(now.saturating_add(retry_after.max(grown)));
    }

    fn learn(&mut self, quota: Quota, until: Duration, now: Duration) {
        const SAME: Duration = Duration::from_secs(2);
        self.forget(now);
        // The window began when the last one ended, if that is known.
        let began = self.windows.back().map(|last| last.until).filter(|end| *end <= now).unwrap_or(now);
        self.longest = self.longest.max(until.saturating_sub(began));
        let current = self.windows.iter().position(|window| window.from <= now && now < window.until);
        match current.and_then(|n| self.windows.get_mut(n)) {
            // Responses arrive out of order: the lowest value of a window counts.
            Some(window) if until.abs_diff(window.until) < SAME => {
                window.remaining = window.remaining.min(quota.remaining);
            }
            // A response of an older window.
            _ if until <= now => {}
            // A new window replaces the assumed ones. Its quota does not include sends in flight.
            _ => {
                self.windows.truncate(current.unwrap_or(0));
                self.generation += 1;
                self.learned = self.generation;
                let remaining = quota.remaining.saturating_sub(self.in_flight);
                let (generation, limit) = (self.generation, quota.limit);
                self.windows.push_back(QuotaWindow { generation, limit, remaining, from: now, until });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn recipient(n: u32) -> Address {
        crate::model::address::Phone::from_digits(&format!("4477009{n:05}")).unwrap().into()
    }

    fn secs(secs: f64) -> Duration {
        Duration::from_secs_f64(secs)
    }

    fn busy(after: Option<u64>, pair: bool) -> Result<Accepted> {
        let error = Error::new(ErrorKind::RateLimited, "busy").with_outcome(Outcome::Rejected);
        Err(error.with_retry(true, after.map(Duration::from_secs)).with_per_recipient(pair))
    }

    fn accepted(quota: Option<Quota>) -> Result<Accepted> {
        let mut accepted = Accepted::new("mock", "1", bytes::Bytes::new());
        accepted.quota = quota;
        Ok(accepted)
    }

    const TODAY: Timestamp = Timestamp::from_secs(1_000_000);

    #[test]
    fn burst_is_immediate_and_recovers_before_the_next() {
        let mut limiter = Limiter::new(None, Some(Rate::every_seconds(6).with_burst(20)));
        let (ann, bob) = (recipient(1), recipient(2));
        assert_eq!((0..100).filter(|_| limiter.try_acquire(&ann, secs(1.0)).is_ok()).count(), 20);
        // Meta: after a burst of 20, about two minutes.
        assert_eq!(limiter.try_acquire(&ann, secs(1.0)), Err(secs(20.0 * 6.12)));
        assert_eq!(limiter.try_acquire(&bob, secs(1.0)), Ok(()));
        assert!(limiter.try_acquire(&ann, secs(120.0)).is_err());
        assert_eq!(limiter.try_acquire(&ann, secs(1.0 + 20.0 * 6.12)), Ok(()));
        // A burst ends after its first six seconds.
        let mut limiter = Limiter::new(None, Some(Rate::every_seconds(6).with_burst(20)));
        assert_eq!((limiter.try_acquire(&ann, secs(0.0)), limiter.try_acquire(&ann, secs(5.0))), (Ok(()), Ok(())));
        assert_eq!(limiter.try_acquire(&ann, secs(7.0)), Err(secs(12.24 - 7.0)));
    }

    #[test]
    fn limit_error_pauses_only_what_it_concerns() {
        let mut limiter = Limiter::new(Some(Rate::per_second(1_000)), Some(Rate::every_seconds(1).into()));
        let (ann, bob) = (recipient(1), recipient(2));
        limiter.report(&ann, &busy(Some(30), true), secs(0.0), TODAY);
        assert_eq!(limiter.try_acquire(&ann, secs(1.0)), Err(secs(29.0)));
        assert_eq!(limiter.try_acquire(&bob, secs(1.0)), Ok(()));
        limiter.report(&bob, &busy(Some(60), false), secs(2.0), TODAY);
        assert_eq!(limiter.try_acquire(&recipient(3), secs(2.0)), Err(secs(60.0)));
        // Errors other than rate limits pause nothing.
        let mut limiter = Limiter::new(None, None);
        let quota = Error::new(ErrorKind::QuotaExceeded, "of this recipient")
            .with_outcome(Outcome::Rejected)
            .with_per_recipient(true);
        let own_limit =
            Error::new(ErrorKind::RateLimited, "too many messages are waiting").with_retry(true, Some(secs(9.0)));
        for error in [Error::new(ErrorKind::Unavailable, "down"), quota, own_limit] {
            limiter.report(&ann, &Err(error), secs(0.0), TODAY);
        }
        assert_eq!(limiter.try_acquire(&ann, secs(0.0)), Ok(()));
    }

    #[test]
    fn pause_without_retry_after_grows_with_consecutive_errors() {
        let mut limiter = Limiter::new(None, None);
        let ann = recipient(1);
        let mut now = secs(0.0);
        for wait in [1, 4, 16, 64, 256, 300, 300] {
            // Sends in flight count once.
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
    fn reported_quota_limits_sends_until_its_reset() {
        let mut limiter = Limiter::new(None, None);
        let ann = recipient(1);
        let left = |n, until| accepted(Some(Quota::new(n).limit(15).until(TODAY.plus(secs(until)))));
        limiter.report(&ann, &left(3, 900.0), secs(0.0), TODAY);
        // A response that arrives out of order.
        limiter.report(&ann, &left(5, 900.0), secs(0.0), TODAY);
        assert_eq!((0..9).filter(|_| limiter.try_acquire(&ann, secs(1.0)).is_ok()).count(), 3);
        assert_eq!(limiter.try_acquire(&ann, secs(1.0)), Err(secs(900.0)));
        // The next window is assumed to be as long, until a response reports it.
        assert_eq!((0..99).filter(|_| limiter.try_acquire(&ann, secs(901.0)).is_ok()).count(), 15);
        assert_eq!(limiter.try_acquire(&ann, secs(901.0)), Err(secs(901.0)));
        limiter.report(&ann, &left(2, 960.0), secs(902.0), TODAY.plus(secs(902.0)));
        assert_eq!((0..9).filter(|_| limiter.try_acquire(&ann, secs(902.0)).is_ok()).count(), 2);
        assert_eq!(limiter.try_acquire(&ann, secs(902.0)), Err(secs(59.0)));
    }

    #[test]
    fn recovered_recipients_are_forgotten() {
        let mut limiter = Limiter::new(None, Some(Rate::every_seconds(6).into()));
        for n in 0..50_000 {
            limiter.try_acquire(&recipient(n), secs(f64::from(n))).unwrap();
        }
        assert!(limiter.pairs.len() <= SWEEP_MIN, "{}", limiter.pairs.len());
        assert!(!format!("{limiter:?}").contains("7700"));
    }

    proptest! {
        /// At any times of the calls: no window at the gateway sees more than the rate allows, and no wait is too long.
        #[test]
        fn no_window_exceeds_the_rate(
            count in 1..20_u32, per in 1..10_u64, burst in 1..20_u32,
            gaps in proptest::collection::vec(0.0..2.0_f64, 1..200),
        ) {
            let rate = Rate::new(count, Duration::from_secs(per)).unwrap().with_burst(burst);
            let mut limiter = Limiter::new(None, Some(rate));
            let (mut now, mut sends) = (Duration::ZERO, Vec::new());
            for gap in gaps {
                now += secs(gap * per as f64 / f64::from(count));
                match limiter.try_acquire(&recipient(1), now) {
                    Ok(()) => sends.push(now),
                    Err(wait) => {
                        prop_assert!(limiter.try_acquire(&recipient(1), now + wait - Duration::from_nanos(1)).is_err());
                        prop_assert!(wait <= rate.interval() * burst);
                    }
                }
            }
            let each = Duration::from_secs(per) / count;
            let max = |time: Duration| time.as_nanos() / each.as_nanos() + u128::from(burst);
            for (n, from) in sends.iter().enumerate() {
                for (m, to) in sends.iter().enumerate().skip(n) {
                    prop_assert!((m - n + 1) as u128 <= max(*to - *from), "{} in {:?}", m - n + 1, *to - *from);
                }
            }
        }

        /// In any order of bookings: slots keep the distance of the account's and the recipient's rate, and each booking
        /// gets the first free slot.
        #[test]
        fn slots_keep_their_distance_and_leave_no_gap(
            count in 1..20_u32,
            bookings in proptest::collection::vec((0..4_u32, 0..400_u64), 1..60),
        ) {
            let (rate, pair) = (Rate::new(count, Duration::from_secs(1)).unwrap(), Rate::every_seconds(1));
            let mut limiter = Limiter::new(Some(rate), Some(pair.into()));
            let (mut now, mut all) = (Duration::ZERO, Vec::<(u32, Duration)>::new());
            for (to, passed) in bookings {
                now += Duration::from_millis(passed);
                let at = limiter.book(&recipient(to), now, Duration::MAX).unwrap().at;
                let apart = |at: Duration| {
                    all.iter().all(|(other, taken)| {
                        let gap = at.abs_diff(*taken);
                        // Messages to one recipient stay in order.
                        gap >= rate.interval() && (*other != to || at >= *taken + pair.interval())
                    })
                };
                prop_assert!(at >= now && apart(at));
                // The first slot is now, or directly after another message.
                let ends = all.iter().flat_map(|(_, taken)| [*taken + rate.interval(), *taken + pair.interval()]);
                let first = ends.chain([now]).filter(|start| *start >= now && apart(*start)).min();
                prop_assert_eq!(Some(at), first);
                all.push((to, at));
            }
        }
    }
}
