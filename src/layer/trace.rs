//! The layer [`Trace`].

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::Layer;
use crate::channel::{Channel, Indicator};
use crate::media::MediaStream;
use crate::model::clock::{Clock, SystemClock};
use crate::model::error::Result;
use crate::model::event::Inbound;
use crate::model::health::Health;
use crate::model::info::Info;
use crate::model::lookup::{LookupOutcome, LookupQuery};
use crate::model::message::{Accepted, Media, MediaRef, Message};
use crate::model::poll::{Cursor, Page};
use crate::model::secret::Secret;
use crate::telemetry::{Span, call_finished, is_enabled, send_finished};
use crate::webhook::{self, Received};

/// Records calls as spans and events of `tracing`, and as counters and histograms of `metrics`.
///
/// Every call is a span that contains the events of the layers inside (a retry, a failover, a wait); every send ends with
/// one event that has its outcome. A person appears as a [`Fingerprint`](crate::address::Fingerprint), the same in every
/// line. No field holds a phone number, handle, id, text or secret.
///
/// | event | level | fields |
/// |---|---|---|
/// | `accepted`, `send failed: …` | info, warn | `messaging.system`, `civic.outcome`, `error.type`, `civic.took_ms` |
/// | `retry scheduled: …` | info | `messaging.system`, `error.type`, `civic.attempt`, `civic.wait_ms` |
/// | `failing over: …` | info | `messaging.system`, `error.type` |
/// | `circuit breaker opened`, `circuit breaker closed` | warn, info | `messaging.system`, `civic.wait_ms` |
/// | `retries exhausted: …`, `not retried: …` | debug | `messaging.system`, `error.type`, `civic.attempt`, `civic.stop` |
/// | `failover stopped: …` | debug | `messaging.system`, `error.type` |
/// | `waited for rate limit`, `skipped: circuit breaker open` | debug | `messaging.system`, `civic.wait_ms` |
/// | `poll done`, `receive failed: …` and so on | debug, warn | `civic.outcome`, `civic.events` |
///
/// The span `messaging`, at info, has `messaging.operation.name`, `civic.medium` and `civic.person`; put a span of your
/// own around a send to correlate it with your message. A fingerprint identifies a person, and so is personal data. A send
/// whose future is dropped has no final event.
///
/// The metrics are the histograms `civic_messaging.send.duration` (by `gateway`, `medium`, `outcome`, `kind`; its count is
/// the number of sends) and `.rate_limit.wait`, in seconds, and counters by `gateway`: `.retries` and `.failovers` (also
/// by `kind`), `.retries_exhausted` (sends not retried, by `stop`), `.circuit_breaker_opened`, `.calls` (other than sends,
/// by `call` and `outcome`) and `.events` (inbound).
///
/// ```
/// use civic_messaging::layer::{Layer, Trace};
/// use civic_messaging::{Mock, Secret};
///
/// let sms = Trace::new().pepper(Secret::new("of-this-deployment")?).layer(Mock::sms());
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Trace {
    pepper: Option<Secret>,
    clock: Arc<dyn Clock>,
}

impl Trace {
    /// Creates the layer, without fingerprints.
    pub fn new() -> Self {
        Self { pepper: None, clock: Arc::new(SystemClock::new()) }
    }

    /// Shows persons as fingerprints keyed with this pepper, which is private to the deployment.
    #[must_use]
    pub fn pepper(mut self, pepper: Secret) -> Self {
        self.pepper = Some(pepper);
        self
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }
}

impl Default for Trace {
    fn default() -> Self {
        Self::new()
    }
}

impl Layer for Trace {
    fn wrap(&self, inner: Arc<dyn Channel>) -> Arc<dyn Channel> {
        let info = inner.info().clone().with_layer("trace");
        Arc::new(Traced { info, inner, trace: self.clone() })
    }
}

struct Traced {
    info: Info,
    inner: Arc<dyn Channel>,
    trace: Trace,
}

impl fmt::Debug for Traced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trace").field(&self.inner).finish()
    }
}

impl Traced {
    async fn call<T>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<T>>,
        events: impl FnOnce(&T) -> usize,
    ) -> Result<T> {
        let span = Span::new(name, &self.info, || None);
        let result = span.run(call).await;
        span.in_scope(|| call_finished(&self.info, name, result.as_ref().map_or(0, events), result.as_ref().err()));
        result
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Channel for Traced {
    fn info(&self) -> &Info {
        &self.info
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        if !is_enabled() {
            return self.inner.send(message).await;
        }
        let person = || self.trace.pepper.as_ref().map(|pepper| message.to.fingerprint(pepper));
        let span = Span::new("send", &self.info, person);
        let started = self.trace.clock.monotonic();
        let result = span.run(self.inner.send(message)).await;
        let took = self.trace.clock.monotonic().saturating_sub(started);
        span.in_scope(|| send_finished(&self.info, &result, took));
        result
    }

    async fn receive(&self, request: &webhook::Request) -> Result<Received> {
        self.call("receive", self.inner.receive(request), |received| received.events.len()).await
    }

    fn verifier(&self) -> Option<&webhook::Verifier> {
        self.inner.verifier()
    }

    async fn poll(&self, after: Option<&Cursor>) -> Result<Page> {
        self.call("poll", self.inner.poll(after), |page| page.events.len()).await
    }

    async fn look_up(&self, query: &LookupQuery) -> Result<LookupOutcome> {
        self.call("look_up", self.inner.look_up(query), |_| 0).await
    }

    async fn upload_media(&self, media: &Media, bytes: MediaStream) -> Result<MediaRef> {
        self.call("upload_media", self.inner.upload_media(media, bytes), |_| 0).await
    }

    async fn fetch_media(&self, media: &MediaRef) -> Result<MediaStream> {
        self.call("fetch_media", self.inner.fetch_media(media), |_| 0).await
    }

    async fn send_indicator(&self, inbound: &Inbound, indicator: Indicator) -> Result<()> {
        self.call("send_indicator", self.inner.send_indicator(inbound, indicator), |()| 0).await
    }

    async fn health(&self) -> Result<Health> {
        self.call("health", self.inner.health(), |_| 0).await
    }
}
