//! When the next message may go.

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

/// When the next message of one account may go, to this person: a pure value, which reads no clock.
///
/// It keeps a rate for the sender and one for each pair of sender and recipient. A gateway that says "too many" pauses
/// the one of them that it means, and no other; what a gateway says of how many are left is kept to. It holds no
/// address, and of the people to whom nothing is owed it holds nothing.
///
/// All times are of one clock that does not go back, such as [`Clock::monotonic`](crate::clock::Clock::monotonic).
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
        self.book(to, now, now).map(|_| ()).map_err(|late| late.at.saturating_sub(now))
    }

    /// Takes how a send ended. A gateway that says that it was too much pauses what it means, for the time that it says or
    /// for one that grows with each such word in a row; one that says how many more may go is kept to that. `today` is
    /// the time of day.
    pub fn report(&mut self, to: &Address, sent: &Result<Accepted>, now: Duration, today: Timestamp) {
        self.sender.in_flight = self.sender.in_flight.saturating_sub(1);
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
                    self.sender.learn(left, now.saturating_add(time.min(RETRY_AFTER_MAX)), now);
                }
            }
            Err(error) if is_limit(error) => {
                self.sweep(now);
                let told = match error.is_per_recipient() {
                    true => &mut self.pairs.entry(self.hasher.hash_one(to.expose())).or_default().told,
                    false => &mut self.sender,
                };
                told.pause(error.retry_after().unwrap_or_default().min(RETRY_AFTER_MAX), now);
            }
            Err(_) => {}
        }
    }

    /// Books the next place for a message to this person: now, or later. Places in between stay free for others.
    ///
    /// # Errors
    /// When that would be, where it is after `latest`; nothing was booked.
    pub(crate) fn book(&mut self, to: &Address, now: Duration, latest: Duration) -> Result<Place, Late> {
        self.sweep(now);
        self.booked.forget(now);
        self.sender.forget(now);
        let key = self.key(to);
        let pair = key.and_then(|key| self.pairs.get(&key));
        let mut at = pair.map_or(now, |pair| pair.free(self.pair_rate, now));
        // The one may lie in a time that the other does not allow: in turns, until both agree.
        loop {
            let slot = self.booked.free(self.rate, self.sender.free(at));
            at = pair.map_or(slot, |pair| pair.free(self.pair_rate, slot));
            if at == slot {
                break;
            }
        }
        if at > latest {
            // The account alone would have had a place in time.
            let of_pair = self.booked.free(self.rate, self.sender.free(now)) <= latest;
            return Err(Late { at, of_pair });
        }
        self.booked.take(self.rate, at);
        if let (Some(rate), Some(key)) = (self.pair_rate, key) {
            self.pairs.entry(key).or_default().take(rate, at);
        }
        Ok(Place { at, counted: self.sender.count(at) })
    }

    /// Gives a place back that nobody goes in.
    pub(crate) fn give_back(&mut self, to: &Address, place: Place) {
        self.booked.give_back(self.rate, place.at);
        if let Some(pair) = self.key(to).and_then(|key| self.pairs.get_mut(&key))
            && let Some(rate) = self.pair_rate
        {
            pair.give_back(rate, place.at);
        }
        self.sender.uncount(place);
    }

    /// Whether somebody may go in their place, now that its time has come. A pause may have begun meanwhile, and the
    /// gateway may have told another number than was thought.
    pub(crate) fn may_go(&mut self, to: &Address, place: &mut Place, now: Duration) -> bool {
        if self.paused(to) > now {
            return false;
        }
        // Counted in a window that the gateway has not corrected since; later ones roll on from it.
        let counted = place.counted.is_some_and(|generation| generation >= self.sender.learned);
        if !self.sender.windows.is_empty() && !counted {
            if self.sender.free(now) > now {
                return false;
            }
            place.counted = self.sender.count(now);
        }
        true
    }

    /// Notes that a message goes: until [`report`](Self::report) says how it ended, or [`lost`](Self::lost) that nobody
    /// will.
    pub(crate) fn goes(&mut self) {
        self.sender.in_flight += 1;
    }

    /// Notes that nobody will say how a send ended.
    pub(crate) fn lost(&mut self) {
        self.sender.in_flight = self.sender.in_flight.saturating_sub(1);
    }

    /// Sets the rates, where they are given, and keeps what was taken.
    pub(crate) fn retune(&mut self, rate: Option<Rate>, pair_rate: Option<PairRate>) {
        (self.rate, self.pair_rate) = (rate.or(self.rate), pair_rate.or(self.pair_rate));
    }

    /// Lets nothing go before this time.
    #[cfg(any(feature = "sqlite-system", feature = "postgres"))]
    pub(crate) fn pause_until(&mut self, until: Duration) {
        self.sender.paused = self.sender.paused.max(until);
    }

    /// Until when all messages are paused.
    #[cfg(any(feature = "sqlite-system", feature = "postgres"))]
    pub(crate) fn paused_until(&self) -> Duration {
        self.sender.paused
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
    let asked = error.outcome() != Outcome::NotSent;
    match error.kind() {
        ErrorKind::RateLimited | ErrorKind::QuotaExceeded => asked && error.is_transient(),
        // Down for maintenance, say, and until when.
        ErrorKind::Unavailable => asked && error.retry_after().is_some(),
        _ => false,
    }
}

/// A place that was booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) at: Duration,
    /// The window that it was counted in, if it was.
    counted: Option<u64>,
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
            if *from >= at.saturating_add(rate.interval()) {
                break;
            }
            at = *until;
        }
        at
    }

    fn give_back(&mut self, rate: Option<Rate>, at: Duration) {
        let Some(rate) = rate else { return };
        let after = at.saturating_add(rate.interval());
        let around = self.0.range(..=at).next_back().map(|(from, until)| (*from, *until));
        if let Some((from, until)) = around.filter(|(_, until)| *until > at) {
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
            (self.begun, self.burst, self.owed) = (at, 1, at.saturating_add(rate.interval()));
        } else {
            self.burst += 1;
            self.owed = self.owed.saturating_add(rate.interval());
        }
    }

    /// Only of the burst that was taken last: what was booked behind an earlier one keeps its distance to that.
    fn give_back(&mut self, rate: PairRate, at: Duration) {
        if at >= self.begun && self.burst > 0 {
            self.burst -= 1;
            self.owed = self.owed.saturating_sub(rate.interval());
        }
    }
}

/// What the gateway said itself.
#[derive(Clone, Debug, Default)]
struct Told {
    paused: Duration,
    /// How often in a row it said that it was too much.
    refusals: u32,
    /// The window that it told of, and those behind it of which places are booked: each is taken to be like the longest one
    /// that it told of.
    windows: VecDeque<Window>,
    longest: Duration,
    /// How many windows there were, and which of them was the last that it told of.
    generation: u64,
    learned: u64,
    /// How many are on their way, of which it has not said anything.
    in_flight: u64,
}

/// How many it said are left, from a time and until one.
#[derive(Clone, Copy, Debug)]
struct Window {
    generation: u64,
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

    /// Counts a place, and says in which window.
    fn count(&mut self, at: Duration) -> Option<u64> {
        let within = |window: &&mut Window| window.from <= at && at < window.until;
        if let Some(window) = self.windows.iter_mut().find(within) {
            window.remaining = window.remaining.saturating_sub(1);
            return Some(window.generation);
        }
        let last = self.windows.back().filter(|last| at >= last.until)?;
        let (limit, remaining) = (last.limit, last.limit?.checked_sub(1)?);
        self.generation += 1;
        let until = at.saturating_add(self.longest);
        self.windows.push_back(Window { generation: self.generation, limit, remaining, from: at, until });
        Some(self.generation)
    }

    fn uncount(&mut self, place: Place) {
        let counted = |window: &&mut Window| Some(window.generation) == place.counted;
        if let Some(window) = self.windows.iter_mut().find(counted) {
            window.remaining = window.remaining.saturating_add(1).min(window.limit.unwrap_or(u64::MAX));
        }
    }

    /// Forgets the windows that are past, but for the last: of the next one nothing else is known.
    fn forget(&mut self, now: Duration) {
        while self.windows.len() > 1 && self.windows.front().is_some_and(|first| first.until <= now) {
            self.windows.pop_front();
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

    fn learn(&mut self, left: Quota, until: Duration, now: Duration) {
        const SAME: Duration = Duration::from_secs(2);
        self.forget(now);
        // It began when the last one ended, where that is known.
        let began = self.windows.back().map(|last| last.until).filter(|end| *end <= now).unwrap_or(now);
        self.longest = self.longest.max(until.saturating_sub(began));
        let current = self.windows.iter().position(|window| window.from <= now && now < window.until);
        match current.and_then(|n| self.windows.get_mut(n)) {
            // Answers do not come in order: of one window the least holds.
            Some(window) if until.abs_diff(window.until) < SAME => {
                window.remaining = window.remaining.min(left.remaining);
            }
            // One of an older window.
            _ if until <= now => {}
            // It is another one than was thought, and so are all behind it. What is on its way is counted by nobody yet.
            _ => {
                self.windows.truncate(current.unwrap_or(0));
                self.generation += 1;
                self.learned = self.generation;
                let remaining = left.remaining.saturating_sub(self.in_flight);
                let (generation, limit) = (self.generation, left.limit);
                self.windows.push_back(Window { generation, limit, remaining, from: now, until });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn person(n: u32) -> Address {
        crate::model::address::Phone::from_digits(&format!("4477009{n:05}")).unwrap().into()
    }

    fn secs(secs: f64) -> Duration {
        Duration::from_secs_f64(secs)
    }

    fn busy(after: Option<u64>, pair: bool) -> Result<Accepted> {
        let error = Error::new(ErrorKind::RateLimited, "busy").with_outcome(Outcome::Rejected);
        Err(error.with_retry(true, after.map(Duration::from_secs)).with_pair(pair))
    }

    fn accepted(allowance: Option<Quota>) -> Result<Accepted> {
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
        let left = |n, until| accepted(Some(Quota::new(n).of(15).until(TODAY.plus(secs(until)))));
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
                let at = limiter.book(&person(who), now, Duration::MAX).unwrap().at;
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
