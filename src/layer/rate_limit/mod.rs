//! Sends no faster than the gateway allows.

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
pub(crate) use limiter::Place;

/// Sends no faster than the gateway allows: to everybody, and to each person.
///
/// A send waits for its turn, in the order in which they came (but for those that a pause puts off), and those to other
/// people go on. What the gateway says
/// itself is heard: a refusal for going too fast pauses what it means, and headers that say how many are left are kept
/// to. A turn that would come after the message's `not_after`, or after the longest wait (a minute, unless set), is an
/// error that says how long it would take, and takes no place.
///
/// The state is in the layer: channels of one account, to which a gateway's limits apply together, are given the same
/// one. Only sends are counted.
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
    /// No limit but what the gateway says in its answers. See [`of`](Self::from_info) for what it documents.
    pub fn new() -> Self {
        Self {
            limiter: Arc::new(Mutex::new(Limiter::new(None, None))),
            rates: (None, None),
            longest: Duration::from_secs(60),
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// The rates that the channel's gateway documents.
    pub fn from_info(info: &Info) -> Self {
        let can = &info.capability;
        Self::new().with_rates(can.rate, can.pair_rate)
    }

    /// Sets how often it may send.
    #[must_use]
    pub fn rate(self, rate: Rate) -> Self {
        let pair = self.rates.1;
        self.with_rates(Some(rate), pair)
    }

    /// Sets how often it may send to one person.
    #[must_use]
    pub fn pair_rate(self, rate: impl Into<PairRate>) -> Self {
        let sender = self.rates.0;
        self.with_rates(sender, Some(rate.into()))
    }

    /// The longest that a send waits for its turn.
    #[must_use]
    pub fn max_wait(mut self, longest: Duration) -> Self {
        self.longest = longest;
        self
    }

    /// By another clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the rates, where they are given, for all that share this.
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

    /// Waits for a turn. Nothing of it stays taken when nobody waits any more.
    async fn turn<'a>(&'a self, to: &'a Address, not_after: Option<Timestamp>) -> Result<Turn<'a>> {
        let begun = self.clock.monotonic();
        let left = not_after.map_or(Duration::MAX, |until| until.since(self.clock.now()));
        let latest = begun.saturating_add(left.min(self.longest));
        let expires = left < self.longest;
        let mut turn = Turn { limit: self, to, place: None, goes: false, waited: Duration::ZERO };
        let mut now = begun;
        loop {
            let booked = self.limiter().book(to, now, latest);
            let place = booked.map_err(|late| too_long(late.of_pair, expires, late.at.saturating_sub(now)))?;
            let place = turn.place.insert(place);
            if place.at > now {
                self.clock.sleep(place.at - now).await;
                now = self.clock.monotonic();
                turn.waited = now.saturating_sub(begun);
                if !self.limiter().may_go(to, place, now) {
                    turn.give_back();
                    continue;
                }
            }
            turn.place = None;
            turn.goes = true;
            self.limiter().goes();
            return Ok(turn);
        }
    }
}

/// A turn, from the wait for it to the end of the send.
struct Turn<'a> {
    limit: &'a RateLimit,
    to: &'a Address,
    /// The place that is waited for.
    place: Option<Place>,
    /// Whether the message is on its way.
    goes: bool,
    waited: Duration,
}

impl Turn<'_> {
    /// This is how the send ended.
    fn ended(mut self, sent: &Result<Accepted>) {
        self.goes = false;
        // The times matter for what the gateway says of its limits only.
        let (now, today) = match sent {
            Ok(accepted) if accepted.allowance.is_none() => (Duration::ZERO, Timestamp::default()),
            _ => (self.limit.clock.monotonic(), self.limit.clock.now()),
        };
        self.limit.limiter().report(self.to, sent, now, today);
    }

    fn give_back(&mut self) {
        if let Some(place) = self.place.take() {
            self.limit.limiter().give_back(self.to, place);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.give_back();
        if self.goes {
            self.limit.limiter().lost();
        }
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
        let turn = self.limit.turn(&message.to, message.not_after).await;
        let turn = turn.map_err(|error| error.with_gateway(self.info.gateway))?;
        telemetry::waited(&self.info, turn.waited);
        let sent = self.inner.send(message).await;
        turn.ended(&sent);
        sent
    }

    fn info(&self) -> &Info {
        &self.info
    }

    hand_on!(self => self.inner; receive verifier poll look_up upload_media fetch_media signal health);
}
