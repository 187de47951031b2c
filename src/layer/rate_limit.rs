//! Sends no faster than the gateway allows.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{Layer, telemetry};
use crate::address::Address;
use crate::channel::{Channel, Info, hand_on};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Accepted, Message};
use crate::rate::{PairRate, Rate};

mod limiter;
pub use limiter::Limiter;

/// Sends no faster than the gateway allows: to everybody, and to each person.
///
/// A send waits for its turn, in the order in which they came, and those to other people go on. What the gateway says
/// itself is heard: a refusal for going too fast pauses what it means, and headers that say how many are left are kept
/// to. A turn that would come after the message's `not_after`, or after the longest wait (a minute, unless set), is an
/// error that says how long it would take, and takes no place.
///
/// The state is in the layer: channels of one account, to which a gateway's limits apply together, are given the same
/// one. Only sends are counted.
///
/// ```
/// use civic_messaging::layer::{Layer, RateLimit};
/// use civic_messaging::{Address, ChannelExt, Clock, Mock, Rate, Timestamp, VirtualClock};
///
/// let clock = VirtualClock::at(Timestamp::default());
/// let limit = RateLimit::new().with_rate(Rate::per_minute(60)).with_clock(clock.clone());
/// let sms = limit.layer(Mock::sms());
/// let to = Address::phone("07700 900123")?;
/// clock.run(async {
///     sms.send_text(&to, "One").await?;
///     sms.send_text(&to, "Two").await // a second later, and 2 % more
/// })?;
/// assert_eq!(clock.now(), Timestamp::from_millis(1_020));
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RateLimit {
    limiter: Arc<Mutex<Limiter>>,
    rates: (Option<Rate>, Option<PairRate>),
    longest: Duration,
    clock: Arc<dyn Clock>,
}

impl RateLimit {
    /// No limit but what the gateway says in its answers. See [`of`](Self::of) for what it documents.
    pub fn new() -> Self {
        Self {
            limiter: Arc::new(Mutex::new(Limiter::new(None, None))),
            rates: (None, None),
            longest: Duration::from_secs(60),
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// The rates that the channel's gateway documents.
    pub fn of(info: &Info) -> Self {
        let can = &info.capability;
        Self::new().with_rates(can.rate, can.pair_rate)
    }

    /// Sets how often it may send.
    #[must_use]
    pub fn with_rate(self, rate: Rate) -> Self {
        let pair = self.rates.1;
        self.with_rates(Some(rate), pair)
    }

    /// Sets how often it may send to one person.
    #[must_use]
    pub fn with_pair_rate(self, rate: impl Into<PairRate>) -> Self {
        let sender = self.rates.0;
        self.with_rates(sender, Some(rate.into()))
    }

    /// The longest that a send waits for its turn.
    #[must_use]
    pub fn with_longest_wait(mut self, longest: Duration) -> Self {
        self.longest = longest;
        self
    }

    /// By another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    fn with_rates(mut self, sender: Option<Rate>, pair: Option<PairRate>) -> Self {
        self.limiter = Arc::new(Mutex::new(Limiter::new(sender, pair)));
        self.rates = (sender, pair);
        self
    }

    fn limiter(&self) -> MutexGuard<'_, Limiter> {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn, and says how long it did.
    async fn turn(&self, message: &Message) -> Result<Duration> {
        let begun = self.clock.monotonic();
        let left = message.not_after.map_or(Duration::MAX, |until| until.since(self.clock.now()));
        let latest = begun.saturating_add(left.min(self.longest));
        let expires = left < self.longest;
        let mut now = begun;
        loop {
            let booked = self.limiter().book(&message.to, now, latest);
            let at = booked.map_err(|late| too_long(late.of_pair, expires, late.at.saturating_sub(now)))?;
            if at <= now {
                return Ok(now.saturating_sub(begun));
            }
            self.clock.sleep(at - now).await;
            now = self.clock.monotonic();
            // A pause that has begun meanwhile holds for this turn too.
            if self.limiter().paused(&message.to) <= now {
                return Ok(now.saturating_sub(begun));
            }
        }
    }

    fn heard(&self, to: &Address, sent: &Result<Accepted>) {
        // The times matter for what the gateway says of its limits only.
        let (now, today) = match sent {
            Ok(accepted) if accepted.allowance.is_none() => (Duration::ZERO, Timestamp::default()),
            _ => (self.clock.monotonic(), self.clock.now()),
        };
        self.limiter().report(to, sent, now, today);
    }
}

fn too_long(of_pair: bool, expires: bool, wait: Duration) -> Error {
    let what = match (expires, of_pair) {
        (true, _) => "its not_after comes before its turn",
        (false, true) => "it is too soon for the next message to this person",
        (false, false) => "too many messages wait for their turn",
    };
    Error::new(ErrorKind::RateLimited, what).with_retry(true, Some(wait)).with_pair(of_pair)
}

impl Default for RateLimit {
    fn default() -> Self {
        Self::new()
    }
}

impl Layer for RateLimit {
    fn wrap(&self, inner: Arc<dyn Channel>) -> Arc<dyn Channel> {
        let info = inner.info().clone().with_layer("rate_limit");
        Arc::new(Limited { info, inner, limit: self.clone() })
    }
}

struct Limited {
    info: Info,
    inner: Arc<dyn Channel>,
    limit: RateLimit,
}

impl fmt::Debug for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RateLimit").field(&self.inner).finish()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Channel for Limited {
    async fn send(&self, message: &Message) -> Result<Accepted> {
        // What would be refused takes no turn.
        match message.not_after {
            Some(_) => drop(self.info.prepare(message, self.limit.clock.now())?),
            None => drop(self.info.check(message)?),
        }
        let waited = self.limit.turn(message).await.map_err(|error| error.with_gateway(self.info.gateway))?;
        telemetry::waited(&self.info, waited);
        let sent = self.inner.send(message).await;
        self.limit.heard(&message.to, &sent);
        sent
    }

    fn info(&self) -> &Info {
        &self.info
    }

    hand_on!(self => self.inner; receive poll look_up upload_media fetch_media signal health);
}
