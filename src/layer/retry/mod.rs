//! Tries again what certainly did not go, for as long as that helps.

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
use crate::telemetry;

mod budget;
mod schedule;
pub use budget::Budget;
pub(crate) use schedule::ScheduleWire;
pub use schedule::{Attempts, Schedule, StopReason};

/// Tries again what certainly did not go, for as long as that helps: see [`Schedule`].
///
/// A send is tried again when the gateway certainly does not have it and the error says that the same request may be
/// made again; never when it may have gone, unless the message says [`OnUnknown::Resend`](crate::OnUnknown::Resend).
/// Questions that change nothing (`poll`, `look_up`, `fetch_media`, `health`) are tried again in the same way; `receive`,
/// `signal` and `upload_media`, whose file is used up, are not. All of it shares one [`Budget`], as do all channels
/// that are given the same layer.
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
    budget: Arc<Mutex<Budget>>,
    clock: Arc<dyn Clock>,
}

impl Retry {
    /// By [`Schedule::new`] and [`Budget::new`].
    pub fn new() -> Self {
        Self {
            schedule: Schedule::new(),
            budget: Arc::new(Mutex::new(Budget::new())),
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// By another schedule.
    #[must_use]
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = schedule;
        self
    }

    /// Within another budget.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Arc::new(Mutex::new(budget));
        self
    }

    /// By another clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
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
    fn budget(&self) -> MutexGuard<'_, Budget> {
        self.retry.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the next try, or says why there is none.
    async fn again(
        &self,
        error: &Error,
        message: Option<&Message>,
        times: u32,
        begun: Duration,
    ) -> Result<(), StopReason> {
        let (retry, clock) = (&self.retry, &self.retry.clock);
        let now = clock.monotonic();
        if times == 1 && error.outcome() == Outcome::NotSent && !error.is_retryable() {
            // It was refused before the network: no load, and so none to add to.
            return Err(StopReason::Final);
        }
        let tried = Attempts { times, elapsed: now.saturating_sub(begun) };
        if times == 1 {
            self.budget().first_try(now);
        }
        let wait = retry.schedule.next(error, message, tried, clock.now(), clock.chance())?;
        if !self.budget().try_retry(now) {
            return Err(StopReason::Budget);
        }
        telemetry::retrying(&self.info, error, times, wait);
        clock.sleep(wait).await;
        Ok(())
    }

    /// Counts what went well at the first try.
    fn went(&self, times: u32, now: Duration) {
        if times == 1 {
            self.budget().first_try(now);
        }
    }

    /// Makes a call that sends nothing, until it goes well or no further try is left.
    async fn ask<T, F: Future<Output = Result<T>>>(&self, call: impl Fn() -> F) -> Result<T> {
        let begun = self.retry.clock.monotonic();
        let mut times = 1;
        loop {
            match call().await {
                Err(error) if self.again(&error, None, times, begun).await.is_ok() => times += 1,
                Ok(done) => {
                    self.went(times, begun);
                    return Ok(done);
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
        let begun = self.retry.clock.monotonic();
        let (mut times, mut doubt) = (1, None::<Error>);
        loop {
            let error = match self.inner.send(message).await {
                Ok(accepted) => {
                    self.went(times, begun);
                    return Ok(accepted);
                }
                Err(error) => error,
            };
            // Where a second copy is asked for, one is enough.
            let doubled = doubt.is_some() && error.outcome() == Outcome::Unknown;
            let stop = match doubled {
                true => Err(StopReason::Unknown),
                false => self.again(&error, Some(message), times, begun).await,
            };
            if let Err(stop) = stop {
                telemetry::gave_up(&self.info, &error, times, stop.as_str());
                // One of them may have gone, whatever the last one says.
                return Err(match doubt {
                    Some(doubt) => error.after_unknown(doubt),
                    None => error,
                });
            }
            if error.outcome() == Outcome::Unknown {
                doubt = Some(error);
            }
            times += 1;
        }
    }

    async fn poll(&self, after: Option<&Cursor>) -> Result<Page> {
        self.ask(|| self.inner.poll(after)).await
    }

    async fn look_up(&self, sent: &LookupQuery) -> Result<LookupOutcome> {
        self.ask(|| self.inner.look_up(sent)).await
    }

    async fn fetch_media(&self, media: &MediaRef) -> Result<MediaStream> {
        self.ask(|| self.inner.fetch_media(media)).await
    }

    async fn health(&self) -> Result<Health> {
        self.ask(|| self.inner.health()).await
    }

    fn info(&self) -> &Info {
        &self.info
    }

    hand_on!(self => self.inner; receive verifier upload_media signal);
}
