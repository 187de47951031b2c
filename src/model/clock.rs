//! Time and randomness, both provided by a [`Clock`].

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::model::error::{Error, Result};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z.
///
/// Displayed as RFC 3339 in UTC; stored as the number.
///
/// ```
/// use civic_messaging::Timestamp;
///
/// let at: Timestamp = "2026-11-22T13:46:42.108956Z".parse()?;
/// assert_eq!(at.as_millis(), 1_795_355_202_108);
/// assert_eq!(at.to_string(), "2026-11-22T13:46:42.108Z");
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Creates a timestamp from milliseconds since 1970.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Creates a timestamp from seconds since 1970.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Returns the milliseconds since 1970.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Returns the whole seconds since 1970.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Returns the time since `earlier`, or zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Returns the timestamp `duration` later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Returns the timestamp `duration` earlier.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Parses a Unix time in seconds, milliseconds or microseconds, by its number of digits.
    ///
    /// Gateways document one unit and send another. Seconds have at most eleven digits until the year 5138, so more
    /// digits are milliseconds or microseconds. `None` for nanoseconds, and for anything but a positive whole number.
    ///
    /// ```
    /// use civic_messaging::Timestamp;
    ///
    /// let at = Timestamp::from_secs(1_795_000_000);
    /// assert_eq!(Timestamp::from_unix("1795000000"), Some(at));
    /// assert_eq!(Timestamp::from_unix("1795000000000"), Some(at));
    /// assert_eq!(Timestamp::from_unix("soon"), None);
    /// ```
    pub fn from_unix(text: &str) -> Option<Self> {
        const SECONDS_END: i64 = 100_000_000_000;
        match text.parse::<i64>().ok()? {
            ..=0 => None,
            time @ ..SECONDS_END => Some(Self(time * 1_000)),
            time if time < SECONDS_END * 1_000 => Some(Self(time)),
            time if time < SECONDS_END * 1_000_000 => Some(Self(time / 1_000)),
            _ => None,
        }
    }

    /// Parses a date of e-mail and HTTP headers (RFC 2822): `Sun, 22 Nov 2026 13:46:42 GMT`.
    pub fn from_rfc2822(text: &str) -> Option<Self> {
        let zoned = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
        Some(Self(zoned.as_millisecond()))
    }

    /// Parses an HTTP date in any of its three forms (RFC 9110, 5.6.7).
    ///
    /// These are `Sun, 06 Nov 1994 08:49:37 GMT`, `Sunday, 06-Nov-94 08:49:37 GMT` and `Sun Nov  6 08:49:37 1994`.
    pub fn from_http_date(text: &str) -> Option<Self> {
        let since = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(Self(i64::try_from(since.as_millis()).ok()?))
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    /// Parses RFC 3339, such as `2026-09-01T09:30:00.000Z` or `2026-09-01T09:48:12+01:00`.
    fn from_str(text: &str) -> Result<Self> {
        text.parse::<jiff::Timestamp>()
            .map(|at| Self(at.as_millisecond()))
            .map_err(|_| Error::invalid("time", "is not an RFC 3339 time such as 2026-09-01T09:30:00Z"))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(at) => write!(f, "{at:.3}"),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(_) => fmt::Display::fmt(self, f),
            // Out of range: some other number, such as a telephone number.
            Err(_) => f.write_str("<no date>"),
        }
    }
}

/// A future returned by [`Clock::sleep`].
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A source of time.
///
/// Use [`SystemClock`] in production and [`VirtualClock`] in tests: a test of code that takes its clock from
/// [`Context`](crate::Context) never needs to wait.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Returns the wall-clock time.
    fn now(&self) -> Timestamp;

    /// Returns the time since a fixed moment; it never goes back. For deadlines and rates.
    fn monotonic(&self) -> Duration;

    /// Waits for `duration`. Dropping the future cancels the wait.
    fn sleep(&self, duration: Duration) -> Sleep;
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn monotonic(&self) -> Duration {
        (**self).monotonic()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        (**self).sleep(duration)
    }
}

/// The system's clock. Works under any async runtime; all instances share one monotonic origin.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Creates the system clock.
    pub fn new() -> Self {
        static START: OnceLock<Instant> = OnceLock::new();
        Self { start: *START.get_or_init(Instant::now) }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::default().plus(since)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        Box::pin(futures_timer::Delay::new(duration))
    }
}

/// A clock that advances only on request, for tests.
///
/// Clones share their time.
///
/// ```
/// use std::time::Duration;
/// use civic_messaging::Timestamp;
/// use civic_messaging::clock::{Clock, VirtualClock};
///
/// let clock = VirtualClock::starting_at(Timestamp::from_secs(1_795_000_000));
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now(), Timestamp::from_secs(1_795_000_060));
/// ```
#[derive(Clone, Debug)]
pub struct VirtualClock {
    shared: Arc<Mutex<Virtual>>,
}

#[derive(Debug)]
struct Virtual {
    start: Timestamp,
    elapsed: Duration,
    sleeps: u64,
    /// Ordered by wake-up time.
    sleepers: BTreeMap<(Duration, u64), Waker>,
}

impl VirtualClock {
    /// Creates a clock that shows `now`.
    pub fn starting_at(now: Timestamp) -> Self {
        let (elapsed, sleeps, sleepers) = (Duration::ZERO, 0, BTreeMap::new());
        Self { shared: Arc::new(Mutex::new(Virtual { start: now, elapsed, sleeps, sleepers })) }
    }

    /// Advances the time and wakes every sleeper that is due.
    pub fn advance(&self, by: Duration) {
        let due: Vec<Waker> = {
            let mut state = self.state();
            state.elapsed = state.elapsed.saturating_add(by);
            let until = (state.elapsed, u64::MAX);
            let later = state.sleepers.split_off(&until);
            std::mem::replace(&mut state.sleepers, later).into_values().collect()
        };
        due.into_iter().for_each(Waker::wake);
    }

    /// Runs a future to completion without a runtime, advancing the time to the next sleeper whenever it waits.
    ///
    /// A day of retries takes as long as its work does.
    ///
    /// ```
    /// use std::time::Duration;
    /// use civic_messaging::Timestamp;
    /// use civic_messaging::clock::{Clock, VirtualClock};
    ///
    /// let clock = VirtualClock::starting_at(Timestamp::default());
    /// clock.run(clock.sleep(Duration::from_secs(86_400)));
    /// assert_eq!(clock.now(), Timestamp::from_secs(86_400));
    /// ```
    ///
    /// # Panics
    /// If the future waits for anything but this clock, which would never end.
    #[track_caller]
    #[allow(clippy::panic, reason = "a test that waits forever must fail at its own line")]
    pub fn run<F: Future>(&self, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(woken.clone());
        loop {
            while woken.0.swap(false, Ordering::AcqRel) {
                if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return output;
                }
            }
            let next = self.state().sleepers.first_key_value().map(|((until, _), _)| *until);
            match next {
                Some(until) => self.advance(until.saturating_sub(self.monotonic())),
                None => {
                    panic!("the future waits for something other than this clock: pass the clock to every part of it")
                }
            }
        }
    }

    /// Returns the number of waiting sleepers. A test waits for this to exceed zero before it advances the time.
    pub fn sleepers(&self) -> usize {
        self.state().sleepers.len()
    }

    fn state(&self) -> MutexGuard<'_, Virtual> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let state = self.state();
        state.start.plus(state.elapsed)
    }

    fn monotonic(&self) -> Duration {
        self.state().elapsed
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        let (until, id) = {
            let mut state = self.state();
            state.sleeps += 1;
            (state.elapsed.saturating_add(duration), state.sleeps)
        };
        Box::pin(VirtualSleep { clock: self.clone(), until, id })
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

struct VirtualSleep {
    clock: VirtualClock,
    until: Duration,
    id: u64,
}

impl Future for VirtualSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.clock.state();
        if state.elapsed >= self.until {
            return Poll::Ready(());
        }
        state.sleepers.insert((self.until, self.id), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for VirtualSleep {
    fn drop(&mut self) {
        self.clock.state().sleepers.remove(&(self.until, self.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamp_parses_every_gateway_format() {
        let at = Timestamp::from_secs(1_788_254_400);
        assert_eq!("2026-09-01T09:20:00.000Z".parse::<Timestamp>().unwrap(), at);
        assert_eq!("2026-09-01T10:20:00+01:00".parse::<Timestamp>().unwrap(), at);
        assert_eq!(Timestamp::from_rfc2822("Tue, 01 Sep 2026 09:20:00 GMT"), Some(at));
        assert_eq!(Timestamp::from_rfc2822("Tue, 01 Sep 2026 09:20:00 +0000"), Some(at));
        assert!("yesterday".parse::<Timestamp>().is_err());
        assert_eq!(Timestamp::from_rfc2822("soon"), None);
        let at = Timestamp::from_secs(784_111_777);
        for form in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(Timestamp::from_http_date(form), Some(at), "{form}");
        }
        assert_eq!(Timestamp::from_http_date("soon"), None);
    }

    #[test]
    fn arithmetic_saturates() {
        let end = Timestamp::from_millis(i64::MAX);
        assert_eq!(end.plus(Duration::MAX), end);
        assert_eq!(Timestamp::default().since(end), Duration::ZERO);
        assert!(end.to_string().ends_with(" ms"));
    }

    #[tokio::test]
    async fn virtual_sleeper_wakes_only_when_time_advances() {
        let clock = VirtualClock::starting_at(Timestamp::default());
        let sleeper = tokio::spawn(clock.sleep(Duration::from_secs(3600)));
        while clock.sleepers() == 0 {
            tokio::task::yield_now().await;
        }
        clock.advance(Duration::from_secs(3599));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(Duration::from_secs(1));
        sleeper.await.unwrap();
        assert_eq!(clock.now(), Timestamp::from_secs(3600));
    }

    #[test]
    fn system_clocks_share_a_monotonic_origin() {
        let (one, other) = (SystemClock::new(), SystemClock::new());
        assert_eq!(one.start, other.start);
    }
}
