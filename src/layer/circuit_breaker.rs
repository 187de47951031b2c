//! The layer [`CircuitBreaker`].

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::Layer;
use super::breaker::{Breaker, CallOutcome};
use crate::channel::{Channel, hand_on};
use crate::model::clock::{Clock, SystemClock};
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::info::Info;
use crate::model::message::{Accepted, Message};
use crate::telemetry;

/// Stops calling a gateway that does not respond, so that a send fails at once: see [`Breaker`].
///
/// While the breaker is open, a send fails with [`Outcome::NotSent`](crate::Outcome::NotSent) and the remaining time in
/// [`Error::retry_after`]; a [`Retry`](super::Retry) around it waits that long if its schedule allows. Only sends are
/// counted and skipped. Place it innermost, inside the rate limit: a message that waited for the rate limit while the
/// gateway went down is then not sent to it.
///
/// ```
/// use civic_messaging::layer::{CircuitBreaker, Layer};
/// use civic_messaging::{Address, Channel, ChannelExt, Error, Mock, Outcome};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let mock = Mock::sms();
/// (0..5).for_each(|_| mock.will_fail(Error::unknown("no answer in time")));
/// let sms = CircuitBreaker::new().layer(mock.clone());
/// let to = Address::phone("07700 900123")?;
/// for _ in 0..5 {
///     assert_eq!(sms.send_text(&to, "Hello").await.unwrap_err().outcome(), Outcome::Unknown);
/// }
/// assert_eq!(sms.send_text(&to, "Hello").await.unwrap_err().outcome(), Outcome::NotSent);
/// assert_eq!(mock.sent().len(), 5);
/// # Ok::<(), Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct CircuitBreaker {
    breaker: Arc<Mutex<Breaker>>,
    clock: Arc<dyn Clock>,
}

impl CircuitBreaker {
    /// Creates the layer with [`Breaker::new`].
    pub fn new() -> Self {
        Self::from_breaker(Breaker::new())
    }

    /// Creates the layer with this breaker.
    pub fn from_breaker(breaker: Breaker) -> Self {
        Self { breaker: Arc::new(Mutex::new(breaker)), clock: Arc::new(SystemClock::new()) }
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self::new()
    }
}

impl Layer for CircuitBreaker {
    fn wrap(&self, inner: Arc<dyn Channel>) -> Arc<dyn Channel> {
        let info = inner.info().clone().with_layer("circuit_breaker");
        Arc::new(BreakerChannel { info, inner, circuit: self.clone() })
    }
}

struct BreakerChannel {
    info: Info,
    inner: Arc<dyn Channel>,
    circuit: CircuitBreaker,
}

impl fmt::Debug for BreakerChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CircuitBreaker").field(&self.inner).finish()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Channel for BreakerChannel {
    async fn send(&self, message: &Message) -> Result<Accepted> {
        let started = self.circuit.clock.monotonic();
        let allowed = self.circuit.breaker().try_acquire(started);
        if let Err(wait) = allowed {
            telemetry::skipped(&self.info, wait);
            return Err(Error::new(ErrorKind::Unavailable, "circuit breaker open: the gateway failed recently")
                .with_gateway(self.info.gateway)
                .with_retry(true, Some(wait)));
        }
        let result = self.inner.send(message).await;
        // Only a failure needs the current time.
        let now = if result.is_ok() { started } else { self.circuit.clock.monotonic() };
        let transition = self.circuit.breaker().report(CallOutcome::from_result(&result), now);
        if let Some(transition) = transition {
            transition.record(&self.info);
        }
        result
    }

    fn info(&self) -> &Info {
        &self.info
    }

    hand_on!(self => self.inner; receive verifier poll look_up upload_media fetch_media signal health);
}
