//! The layer [`RateLimit`].

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::Layer;
use crate::channel::{Channel, hand_on};
use crate::model::address::Address;
use crate::model::clock::{Clock, SystemClock, Timestamp};
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::info::Info;
use crate::model::message::{Accepted, Message};
use crate::model::rate::{PairRate, Rate};
use crate::telemetry;

mod limiter;
pub use limiter::Limiter;
pub(crate) use limiter::Slot;

/// Keeps to the rate limits of the gateway, in all and for each recipient.
///
/// A send waits for its slot, first come, first served (except those that a pause delays); a limit of one recipient does
/// not delay others. The layer also follows the gateway's responses: a 429 pauses the account or the recipient that it
/// concerns, and quota headers limit what is sent until they reset. If the slot would come after the message's
/// `not_after`, or after the maximum wait (a minute by default), the send fails with the remaining wait and takes no slot.
///
/// The layer holds the state: give channels of one account, which share the gateway's limits, the same layer. Only sends
/// are counted.
///
/// ```
/// use civic_messaging::layer::{Layer, RateLimit};
/// use civic_messaging::{Address, ChannelExt, Mock, Timestamp};
/// use civic_messaging::clock::{Clock, VirtualClock};
/// use civic_messaging::rate::Rate;
///
/// let clock = VirtualClock::starting_at(Timestamp::default());
/// let limit = RateLimit::new().rate(Rate::per_minute(60)).clock(clock.clone());
/// let sms = limit.layer(Mock::sms());
/// let to = Address::phone("07700 900123")?;
/// clock.run(async {
///     sms.send_text(&to, "One").await?;
///     sms.send_text(&to, "Two").await // 1 second later, plus 2 %
/// })?;
/// assert_eq!(clock.now(), Timestamp::from_millis(1_020));
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RateLimit {
    limiter: Arc<Mutex<Limiter>>,
    rates: (Option<Rate>, Option<PairRate>),
    max_wait: Duration,
    clock: Arc<dyn Clock>,
}

impl RateLimit {
    /// Creates a layer without rates, which follows the gateway's responses only. [`from_info`](Self::from_info) takes the
    /// documented rates.
    pub fn new() -> Self {
        Self {
            limiter: Arc::new(Mutex::new(Limiter::new(None, None))),
            rates: (None, None),
            max_wait: Duration::from_secs(60),
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// Creates a layer with the rates that the channel's gateway documents.
    pub fn from_info(info: &Info) -> Self {
        let capability = &info.capability;
        Self::new().with_rates(capability.rate, capability.pair_rate)
    }

    /// Sets the rate of the account.
    #[must_use]
    pub fn rate(self, rate: Rate) -> Self {
        let pair = self.rates.1;
        self.with_rates(Some(rate), pair)
    }

    /// Sets the rate for each recipient.
    #[must_use]
    pub fn pair_rate(self, rate: impl Into<PairRate>) -> Self {
        let sender = self.rates.0;
        self.with_rates(sender, Some(rate.into()))
    }

    /// Sets the maximum time that a send waits.
    #[must_use]
    pub fn max_wait(mut self, max_wait: Duration) -> Self {
        self.max_wait = max_wait;
        self
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the given rates for all channels that share this layer.
    pub(crate) fn retune(&self, rate: Option<Rate>, pair_rate: Option<PairRate>) {
        self.limiter().retune(rate, pair_rate);
    }

    fn with_rates(mut self, sender: Option<Rate>, pair: Option<PairRate>) -> Self {
        self.limiter = Arc::new(Mutex::new(Limiter::new(sender, pair)));
        self.rates = (sender, pair);
        self
    }

    fn limiter(&self) -> MutexGuard<'_, Limiter> {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a slot. Dropping the future releases the slot.
    async fn acquire<'a>(&'a self, to: &'a Address, not_after: Option<Timestamp>) -> Result<Permit<'a>> {
        let started = self.clock.monotonic();
        let remaining = not_after.map_or(Duration::MAX, |until| until.since(self.clock.now()));
        let latest = started.saturating_add(remaining.min(self.max_wait));
        let expires = remaining < self.max_wait;
        let mut permit = Permit { limit: self, to, slot: None, in_flight: false, waited: Duration::ZERO };
        let mut now = started;
        loop {
            let booked = self.limiter().book(to, now, latest);
            let slot =
                booked.map_err(|late| wait_too_long(late.per_recipient, expires, late.at.saturating_sub(now)))?;
            let slot = permit.slot.insert(slot);
            if slot.at > now {
                self.clock.sleep(slot.at - now).await;
                now = self.clock.monotonic();
                permit.waited = now.saturating_sub(started);
                if !self.limiter().is_usable(to, slot, now) {
                    permit.release();
                    continue;
                }
            }
            permit.slot = None;
            permit.in_flight = true;
            self.limiter().start();
            return Ok(permit);
        }
    }
}

/// A slot of the limiter, from the wait for it to the end of the send.
struct Permit<'a> {
    limit: &'a RateLimit,
    to: &'a Address,
    /// The slot being waited for.
    slot: Option<Slot>,
    in_flight: bool,
    waited: Duration,
}

impl Permit<'_> {
    /// Reports the result of the send to the limiter.
    fn finish(mut self, result: &Result<Accepted>) {
        self.in_flight = false;
        // Only pauses and quotas need the times.
        let (now, wall_clock) = match result {
            Ok(accepted) if accepted.quota.is_none() => (Duration::ZERO, Timestamp::default()),
            _ => (self.limit.clock.monotonic(), self.limit.clock.now()),
        };
        self.limit.limiter().report(self.to, result, now, wall_clock);
    }

    fn release(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.limit.limiter().release(self.to, slot);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.release();
        if self.in_flight {
            self.limit.limiter().abandon();
        }
    }
}

fn wait_too_long(per_recipient: bool, expires: bool, wait: Duration) -> Error {
    let text = match (expires, per_recipient) {
        (true, _) => "not_after comes before the next slot of the rate limit",
        (false, true) => "rate limit of this recipient: too soon for the next message",
        (false, false) => "rate limit: too many messages are waiting",
    };
    Error::new(ErrorKind::RateLimited, text).with_retry(true, Some(wait)).with_per_recipient(per_recipient)
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
        // An invalid message takes no slot.
        match message.not_after {
            Some(_) => drop(self.info.prepare(message, self.limit.clock.now())?),
            None => drop(self.info.check(message)?),
        }
        let permit = self.limit.acquire(&message.to, message.not_after).await;
        let permit = permit.map_err(|error| error.with_gateway(self.info.gateway))?;
        telemetry::rate_limited(&self.info, permit.waited);
        let result = self.inner.send(message).await;
        permit.finish(&result);
        result
    }

    fn info(&self) -> &Info {
        &self.info
    }

    hand_on!(self => self.inner; receive verifier poll look_up upload_media fetch_media signal health);
}
