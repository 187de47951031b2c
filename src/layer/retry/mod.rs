//! Retries what was certainly not sent.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::Layer;
use crate::channel::{Channel, hand_on};
use crate::media::MediaStream;
use crate::model::clock::{Clock, SystemClock};
use crate::model::error::{Error, Outcome, Result};
use crate::model::health::Health;
use crate::model::info::Info;
use crate::model::lookup::{LookupOutcome, LookupQuery};
use crate::model::message::{Accepted, MediaRef, Message};
use crate::model::poll::{Cursor, Page};
use crate::model::random::{Random, SystemRandom};
use crate::telemetry;

mod budget;
mod schedule;
pub use budget::RetryBudget;
pub(crate) use schedule::ScheduleWire;
pub use schedule::{Attempts, Schedule, StopReason};

/// Retries what was certainly not sent, with exponential backoff and full jitter: see [`Schedule`].
///
/// A send is retried if the gateway certainly did not accept it and the error is retryable. After an unknown outcome it
/// is retried only within [`Info::resend_window`], in which the gateway recognises the message by its key, or if the
/// message has [`OnUnknown::Resend`](crate::OnUnknown::Resend). Read-only calls (`poll`, `look_up`,
/// `fetch_media`, `health`) are retried likewise; `receive`, `send_indicator` and `upload_media`, which consumes its
/// stream, are not. All calls share one [`RetryBudget`], as do all channels wrapped by the same layer.
///
/// ```
/// use civic_messaging::layer::{Layer, Retry};
/// use civic_messaging::{Address, Channel, ChannelExt, Error, ErrorKind, Mock, Timestamp};
/// use civic_messaging::clock::VirtualClock;
///
/// let clock = VirtualClock::starting_at(Timestamp::default());
/// let mock = Mock::sms();
/// mock.will_fail(Error::new(ErrorKind::Unavailable, "no connection could be made"));
///
/// let sms = Retry::new().clock(clock.clone()).layer(mock.clone());
/// clock.run(sms.send_text(&Address::phone("07700 900123")?, "Hello"))?;
/// assert_eq!(mock.sent().len(), 2);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Retry {
    schedule: Schedule,
    budget: Arc<Mutex<RetryBudget>>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl Retry {
    /// Creates the layer with [`Schedule::new`] and [`RetryBudget::new`].
    pub fn new() -> Self {
        Self {
            schedule: Schedule::new(),
            budget: Arc::new(Mutex::new(RetryBudget::new())),
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom),
        }
    }

    /// Sets the retry schedule.
    #[must_use]
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = schedule;
        self
    }

    /// Sets the retry budget.
    #[must_use]
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.budget = Arc::new(Mutex::new(budget));
        self
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the source of random bytes, for jitter.
    #[must_use]
    pub fn random(mut self, random: impl Random) -> Self {
        self.random = Arc::new(random);
        self
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self::new()
    }
}

impl Layer for Retry {
    fn wrap(&self, inner: Arc<dyn Channel>) -> Arc<dyn Channel> {
        let info = inner.info().clone().with_layer("retry");
        Arc::new(Retrying { info, inner, retry: self.clone() })
    }
}

struct Retrying {
    info: Info,
    inner: Arc<dyn Channel>,
    retry: Retry,
}

impl fmt::Debug for Retrying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Retry").field(&self.inner).finish()
    }
}

impl Retrying {
    fn budget(&self) -> MutexGuard<'_, RetryBudget> {
        self.retry.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next attempt, or returns the reason why there is none.
    async fn wait_for_retry(
        &self,
        error: &Error,
        message: Option<&Message>,
        attempted: Attempts,
    ) -> Result<(), StopReason> {
        let (retry, clock, attempts) = (&self.retry, &self.retry.clock, attempted.times);
        let now = clock.monotonic();
        if attempts == 1 && error.outcome() == Outcome::NotSent && !error.is_retryable() {
            // Refused before the network: it does not count as a first attempt of the budget.
            return Err(StopReason::Final);
        }
        if attempts == 1 {
            self.budget().record_first_attempt(now);
        }
        let wait = retry.schedule.next(error, message, attempted, clock.now(), retry.random.next_u64())?;
        if !self.budget().try_retry(now) {
            return Err(StopReason::Budget);
        }
        telemetry::retry_scheduled(&self.info, error, attempts, wait);
        clock.sleep(wait).await;
        Ok(())
    }

    fn attempted(&self, times: u32, started: Duration) -> Attempts {
        Attempts::new(times, self.retry.clock.monotonic().saturating_sub(started))
    }

    /// Counts a success at the first attempt.
    fn record_success(&self, attempts: u32, now: Duration) {
        if attempts == 1 {
            self.budget().record_first_attempt(now);
        }
    }

    /// Repeats a read-only call until it succeeds or no attempt is left.
    async fn read<T, F: Future<Output = Result<T>>>(&self, call: impl Fn() -> F) -> Result<T> {
        let started = self.retry.clock.monotonic();
        let mut attempts = 1;
        loop {
            match call().await {
                Err(error) if self.wait_for_retry(&error, None, self.attempted(attempts, started)).await.is_ok() => {
                    attempts += 1;
                }
                Ok(value) => {
                    self.record_success(attempts, started);
                    return Ok(value);
                }
                failed => return failed,
            }
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Channel for Retrying {
    async fn send(&self, message: &Message) -> Result<Accepted> {
        let started = self.retry.clock.monotonic();
        let (window, mut attempts, mut unknown) = (self.info.resend_window(message), 1, None::<Error>);
        loop {
            let error = match self.inner.send(message).await {
                Ok(accepted) => {
                    self.record_success(attempts, started);
                    return Ok(accepted);
                }
                Err(error) => error,
            };
            let attempted = self.attempted(attempts, started);
            let left = window.map(|window| window.saturating_sub(attempted.elapsed));
            // `OnUnknown::Resend` permits one resend after an unknown outcome, outside the window.
            let resent = unknown.is_some() && error.outcome() == Outcome::Unknown;
            let next = match resent && left.is_none_or(|left| left.is_zero()) {
                true => Err(StopReason::Unknown),
                false => {
                    let attempted = attempted.has_unknown(unknown.is_some()).repeatable_for(left);
                    self.wait_for_retry(&error, Some(message), attempted).await
                }
            };
            if let Err(reason) = next {
                telemetry::not_retried(&self.info, &error, attempts, reason.as_str());
                // One unknown attempt makes the send unknown, whatever the last attempt returned.
                return Err(match unknown {
                    Some(unknown) => error.after_unknown(unknown),
                    None => error,
                });
            }
            if error.outcome() == Outcome::Unknown {
                unknown = Some(error);
            }
            attempts += 1;
        }
    }

    async fn poll(&self, after: Option<&Cursor>) -> Result<Page> {
        self.read(|| self.inner.poll(after)).await
    }

    async fn look_up(&self, query: &LookupQuery) -> Result<LookupOutcome> {
        self.read(|| self.inner.look_up(query)).await
    }

    async fn fetch_media(&self, media: &MediaRef) -> Result<MediaStream> {
        self.read(|| self.inner.fetch_media(media)).await
    }

    async fn health(&self) -> Result<Health> {
        self.read(|| self.inner.health()).await
    }

    fn info(&self) -> &Info {
        &self.info
    }

    hand_on!(self => self.inner; receive verifier upload_media signal);
}
