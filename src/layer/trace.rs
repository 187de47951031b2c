//! Says what happened.

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
use crate::telemetry::{Span, done, is_heard, sent};
use crate::webhook::{self, Received};

/// Says what happened, in spans and events of `tracing`, and in counters and histograms of `metrics`.
///
/// Every call is a span, and what the layers inside do to it (a retry, a move to another gateway, a wait) is written
/// under it; the end of every send is one event, with its outcome. A person is shown as a
/// [`Fingerprint`](crate::address::Fingerprint), the same in every line. It holds no number, handle, id, text or secret.
///
/// | event | level | fields |
/// |---|---|---|
/// | `accepted`, `not accepted: …` | info, warn | `messaging.system`, `civic.outcome`, `error.type`, `civic.took_ms` |
/// | `to be tried again: …` | info | `messaging.system`, `error.type`, `civic.attempt`, `civic.wait_ms` |
/// | `carried to the next gateway: …` | info | `messaging.system`, `error.type` |
/// | `… is left alone for a while`, `… works again` | warn, info | `messaging.system`, `civic.wait_ms` |
/// | `not tried again: …`, `carried no further: …` | debug | `messaging.system`, `error.type`, `civic.stop` |
/// | `waited for its turn`, `not asked, because …` | debug | `messaging.system`, `civic.wait_ms` |
/// | `poll done`, `receive failed: …` and so on | debug, warn | `civic.outcome`, `civic.events` |
///
/// The span `messaging`, at info, has `messaging.operation.name`, `civic.medium` and `civic.person`; put one of your own
/// around a send to tie it to your message. A fingerprint stands for a person, and so is personal data still. A send
/// whose future is dropped has no last event. The metrics
/// are the histogram `civic_messaging.send.duration` (by `gateway`, `medium`, `outcome`, `kind`; its count is that of the
/// sends) and `.rate_limit.wait`, in seconds, and counters by `gateway`: `.retries` and `.failovers` (also by `kind`),
/// `.given_up` (by `stop`), `.left_alone` (how often it began to be), `.calls` (of anything but sends, by `call` and
/// `outcome`) and `.events` (that came in).
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
    /// Without persons.
    pub fn new() -> Self {
        Self { pepper: None, clock: Arc::new(SystemClock::new()) }
    }

    /// Shows a person as a fingerprint under this pepper, which belongs to the deployment and to nobody else.
    #[must_use]
    pub fn pepper(mut self, pepper: Secret) -> Self {
        self.pepper = Some(pepper);
        self
    }

    /// By another clock.
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
        let span = Span::of(name, &self.info, || None);
        let ended = span.run(call).await;
        span.tell(|| done(&self.info, name, ended.as_ref().map_or(0, events), ended.as_ref().err()));
        ended
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Channel for Traced {
    fn info(&self) -> &Info {
        &self.info
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        if !is_heard() {
            return self.inner.send(message).await;
        }
        let person = || self.trace.pepper.as_ref().map(|pepper| message.to.fingerprint(pepper));
        let span = Span::of("send", &self.info, person);
        let begun = self.trace.clock.monotonic();
        let ended = span.run(self.inner.send(message)).await;
        let took = self.trace.clock.monotonic().saturating_sub(begun);
        span.tell(|| sent(&self.info, &ended, took));
        ended
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

    async fn look_up(&self, sent: &LookupQuery) -> Result<LookupOutcome> {
        self.call("look_up", self.inner.look_up(sent), |_| 0).await
    }

    async fn upload_media(&self, media: &Media, bytes: MediaStream) -> Result<MediaRef> {
        self.call("upload_media", self.inner.upload_media(media, bytes), |_| 0).await
    }

    async fn fetch_media(&self, media: &MediaRef) -> Result<MediaStream> {
        self.call("fetch_media", self.inner.fetch_media(media), |_| 0).await
    }

    async fn send_indicator(&self, inbound: &Inbound, signal: Indicator) -> Result<()> {
        self.call("signal", self.inner.send_indicator(inbound, signal), |()| 0).await
    }

    async fn health(&self) -> Result<Health> {
        self.call("health", self.inner.health(), |_| 0).await
    }
}
