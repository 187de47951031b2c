//! Leaves a gateway alone that does not answer.

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

/// Leaves a gateway alone that does not answer, so that a send fails at once in place of waiting: see [`Breaker`].
///
/// Such a failure says that nothing was sent, and how long the rest takes yet; a [`Retry`](super::Retry) around it waits
/// that out, if its schedule allows. Only sends are counted and refused. It stands nearest to the gateway, behind the
/// wait for a turn, so that what waited for its turn when the gateway went down is not sent into the dark.
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
    /// By [`Breaker::new`].
    pub fn new() -> Self {
        Self::from_breaker(Breaker::new())
    }

    /// By another breaker.
    pub fn from_breaker(breaker: Breaker) -> Self {
        Self { breaker: Arc::new(Mutex::new(breaker)), clock: Arc::new(SystemClock::new()) }
    }

    /// By another clock.
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
        Arc::new(Breaking { info, inner, circuit: self.clone() })
    }
}

struct Breaking {
    info: Info,
    inner: Arc<dyn Channel>,
    circuit: CircuitBreaker,
}

impl fmt::Debug for Breaking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CircuitBreaker").field(&self.inner).finish()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Channel for Breaking {
    async fn send(&self, message: &Message) -> Result<Accepted> {
        let begun = self.circuit.clock.monotonic();
        let asked = self.circuit.breaker().try_acquire(begun);
        if let Err(rest) = asked {
            telemetry::left_alone(&self.info, rest);
            return Err(Error::new(ErrorKind::Unavailable, "the gateway did not answer lately, and is left alone")
                .with_gateway(self.info.gateway)
                .with_retry(true, Some(rest)));
        }
        let sent = self.inner.send(message).await;
        // The time matters for a fault only.
        let now = if sent.is_ok() { begun } else { self.circuit.clock.monotonic() };
        let change = self.circuit.breaker().report(CallOutcome::from_result(&sent), now);
        if let Some(change) = change {
            change.record(&self.info);
        }
        sent
    }

    fn info(&self) -> &Info {
        &self.info
    }

    hand_on!(self => self.inner; receive verifier poll look_up upload_media fetch_media signal health);
}
