//! One check of one subject: its channels, its doubles, and what it came to.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};

use super::fake_gateway::FakeGateway;
use super::leaks::Capture;
use super::step::Step;
use super::subject::{Call, Exchange, Expectation, ExpectedEvent, Setup, Subject, Webhook, What};
use crate::channel::Channel;
use crate::context::Context;
use crate::media::MediaStream;
use crate::model::clock::{Timestamp, VirtualClock};
use crate::model::error::{Error, Result};
use crate::model::event::{Delivery, DeliveryOf, Event, Inbound, InboundContent};
use crate::model::health::Health;
use crate::model::id::AccountId;
use crate::model::info::Info;
use crate::model::lookup::LookupOutcome;
use crate::model::message::{Accepted, Content, MediaRef, Message};
use crate::model::poll::Page;
use crate::model::secret::Secret;
use crate::transport::{
    Body, Deadline, ReqwestTransport, SendProgress, Transport, TransportError, TransportErrorKind, is_loopback,
};
use crate::webhook::{self, Received, SigningSecret};

/// Why a check did not pass.
pub(super) enum Stop {
    DoesNotApply(&'static str),
    Failed(String),
}

pub(super) type Checked<T = ()> = std::result::Result<T, Stop>;

impl From<String> for Stop {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// Fails the check unless this holds.
macro_rules! ensure {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err($crate::testing::run::Stop::Failed(format!($($why)+)));
        }
    };
}
pub(super) use ensure;

/// Leaves the check out unless this holds.
pub(super) fn applies(holds: bool, why: &'static str) -> Checked {
    if holds { Ok(()) } else { Err(Stop::DoesNotApply(why)) }
}

/// The secret that webhooks are signed with.
pub(super) const OWN: &str = "conformance-secret-one";
/// The one that follows it in a rotation.
pub(super) const NEXT: &str = "conformance-secret-two";
/// That of another account.
pub(super) const OTHER: &str = "conformance-secret-elsewhere";

/// How long a channel waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// Longer than anything takes that is not meant to run out of time.
    Patient,
    /// Just so long that a stalled answer is noticed.
    Hasty(Duration),
}

impl Pace {
    pub(super) fn time(self) -> Duration {
        match self {
            Self::Patient => Duration::from_secs(20),
            Self::Hasty(time) => time,
        }
    }
}

/// One check of one subject.
pub(super) struct Run<'s> {
    pub(super) subject: &'s dyn Subject,
    pub(super) info: Info,
    pub(super) seed: u64,
    notes: Arc<Notes>,
    capture: Capture,
    /// Each thing that was shown, once: most things are shown often.
    shown: RefCell<BTreeSet<String>>,
}

/// What channels did through their transport.
#[derive(Debug, Default)]
pub(super) struct Notes {
    calls: AtomicUsize,
    strangers: Mutex<Vec<String>>,
}

impl<'s> Run<'s> {
    pub(super) fn new(subject: &'s dyn Subject, seed: u64) -> Checked<Self> {
        let capture = Capture::begin();
        // Nobody listens there, and nothing is asked of it.
        let setup = setup("http://127.0.0.1:9", subject.now(), seed, Arc::default(), Pace::Patient);
        let channel = subject.connect(&setup).map_err(|error| format!("it cannot be built: {error}"))?;
        let info = channel.info().clone();
        Ok(Self { subject, info, seed, notes: Arc::default(), capture, shown: RefCell::default() })
    }

    pub(super) fn setup(&self, base_url: &str, pace: Pace) -> Setup {
        setup(base_url, self.subject.now(), self.seed, self.notes.clone(), pace)
    }

    /// The channel, at this address.
    pub(super) fn connect(&self, base_url: &str, pace: Pace) -> Checked<Arc<dyn Channel>> {
        self.built(&self.setup(base_url, pace))
    }

    pub(super) fn built(&self, setup: &Setup) -> Checked<Arc<dyn Channel>> {
        self.subject.connect(setup).map_err(|error| Stop::Failed(format!("it cannot be built: {error}")))
    }

    /// A channel that is only to receive.
    pub(super) fn receiving(&self, secrets: &[&str]) -> Checked<Arc<dyn Channel>> {
        let mut setup = self.setup("http://127.0.0.1:9", Pace::Patient);
        setup.webhook_secrets = own(secrets);
        self.built(&setup)
    }

    /// How many requests went through the context's transport.
    pub(super) fn calls(&self) -> usize {
        self.notes.calls.load(Ordering::SeqCst)
    }

    /// Where it wanted to connect to that is not this machine.
    pub(super) fn strangers(&self) -> Vec<String> {
        self.notes.strangers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps what something shows of itself.
    pub(super) fn note(&self, shown: &(impl Debug + ?Sized)) {
        self.shown.borrow_mut().extend([format!("{shown:?}"), format!("{shown:#?}")]);
    }

    pub(super) fn note_error(&self, error: &Error) {
        self.note(error);
        self.shown.borrow_mut().insert(error.to_string());
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            self.shown.borrow_mut().insert(format!("{cause} {cause:?}"));
            source = cause.source();
        }
    }

    /// What was logged while it ran.
    pub(super) fn logged(&self) -> String {
        self.capture.text()
    }

    /// Forgets what was shown so far.
    pub(super) fn forget_shown(&self) {
        self.shown.borrow_mut().clear();
    }

    pub(super) fn shown(&self) -> String {
        self.shown.borrow().iter().fold(String::new(), |all, shown| all + shown + "\n")
    }

    /// The sends that are accepted.
    pub(super) fn accepted_sends(&self) -> Vec<Exchange> {
        self.subject.exchanges().into_iter().filter(|exchange| exchange.accepted().is_some()).collect()
    }

    /// The send that other sends are made like, where one reaches a gateway.
    pub(super) fn model(&self) -> Checked<Model> {
        applies(!self.subject.in_memory(), "it reaches no gateway")?;
        let model = self.sample()?;
        applies(!model.steps.is_empty(), "its recorded send makes no request")?;
        Ok(model)
    }

    /// The send that other sends are made like: a text if there is one.
    pub(super) fn sample(&self) -> Checked<Model> {
        let sends = self.accepted_sends();
        let is_text = |exchange: &&Exchange| matches!(exchange.accepted().map(|m| &m.content), Some(Content::Text(_)));
        let plain = |exchange: &&Exchange| is_text(exchange) && exchange.stored.is_empty();
        let exchange = sends.iter().find(plain).or(sends.first());
        let exchange = exchange.ok_or_else(|| "no send that is accepted is recorded".to_owned())?.clone();
        let message = exchange.accepted().ok_or_else(|| "it is not a send".to_owned())?.clone();
        let steps: Vec<Step> = exchange.steps.iter().map(|step| step.clone().unconditional()).collect();
        Ok(Model { message, steps })
    }

    /// Plays a recorded exchange, and holds what comes of it against what was recorded.
    pub(super) async fn play(&self, nth: usize, exchange: &Exchange) -> Checked {
        let what = format!("exchange {} ({})", nth + 1, exchange.call.name());
        let Replayed { came, double, .. } = self.replay(exchange, |_, step| step).await?;
        let problems = double.problems();
        let failed = match (&came, &exchange.result) {
            (_, Expectation::Fails { .. }) => String::new(),
            (Came::Failed(error), _) => format!("; it failed: {error}"),
            _ => String::new(),
        };
        ensure!(problems.is_empty(), "{what}: {}{failed}", problems.join("; "));
        came.matches(&exchange.result).map_err(|why| Stop::Failed(format!("{what}: {why}")))
    }

    /// Makes a recorded call against a double that serves its steps, each changed so, by its place.
    pub(super) async fn replay(&self, exchange: &Exchange, change: impl Fn(usize, Step) -> Step) -> Checked<Replayed> {
        let double = FakeGateway::start().await;
        let steps = exchange.steps.iter().enumerate();
        steps.for_each(|(nth, step)| double.expects(change(nth, step.clone().based(&double.base_url()))));
        let setup = self.setup(&double.base_url(), Pace::Patient);
        let channel = self.built(&setup)?;
        let came = self.call(&*channel, &setup, exchange, &double).await;
        Ok(Replayed { came, double, channel })
    }

    /// Makes a recorded call.
    async fn call(&self, channel: &dyn Channel, setup: &Setup, exchange: &Exchange, double: &FakeGateway) -> Came {
        for (mime, bytes) in &exchange.stored {
            if let Err(error) = setup.context.media.put(MediaStream::from_bytes(mime.clone(), bytes.clone())).await {
                return Came::Failed(error);
            }
        }
        let base = double.base_url();
        let called = async {
            Ok(match &exchange.call {
                Call::Fetch(media) => Came::File(channel.fetch_media(&based(media, &base)).await?.bytes().await?),
                Call::Health => Came::Health(channel.health().await?),
                Call::LookUp(sent) => Came::LookupOutcome(channel.look_up(sent).await?),
                Call::Poll(after) => Came::Page(channel.poll(after.as_ref()).await?),
                Call::Send(message) => Came::Accepted(channel.send(message).await?),
                Call::Indicator(inbound, signal) => {
                    channel.send_indicator(inbound, *signal).await?;
                    Came::Done
                }
                Call::Upload(media, mime, bytes) => {
                    let stream = MediaStream::from_bytes(mime.clone(), bytes.clone());
                    Came::Held(channel.upload_media(media, stream).await?)
                }
            })
        };
        let came = driven(&setup.clock, called).await.unwrap_or_else(Came::Failed);
        match &came {
            Came::Failed(error) => self.note_error(error),
            // A file is the gateway's own bytes, and has nothing to hide.
            Came::File(_) => {}
            came => self.note(came),
        }
        came
    }

    /// A recorded webhook as it arrives, signed with this secret.
    pub(super) fn arrives(&self, webhook: &Webhook, secret: &str) -> webhook::Request {
        self.arriving(self.signed(&webhook.request, webhook.signed, secret), self.subject.now())
    }

    pub(super) fn signed(&self, request: &http::Request<Bytes>, signed: bool, secret: &str) -> http::Request<Bytes> {
        let mut request = request.clone();
        if signed {
            self.subject.signer().sign(&mut request, secret, self.subject.now());
        }
        request
    }

    pub(super) fn arriving(&self, request: http::Request<Bytes>, at: Timestamp) -> webhook::Request {
        webhook::Request::new(request).arrived_at(at)
    }

    /// Receives, and catches a panic.
    pub(super) async fn receive(&self, channel: &dyn Channel, request: &webhook::Request) -> Checked<Result<Received>> {
        self.note(request);
        let received = caught(channel.receive(request)).await.ok_or_else(|| "receive panicked".to_owned())?;
        match &received {
            Ok(received) => self.note(received),
            Err(error) => self.note_error(error),
        }
        Ok(received)
    }
}

/// Waits for a future; none when it panics.
pub(super) async fn caught<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut future).poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(done)) => Poll::Ready(Some(done)),
        Err(_) => Poll::Ready(None),
    })
    .await
}

/// The send that other sends are made like.
pub(super) struct Model {
    message: Message,
    steps: Vec<Step>,
}

impl Model {
    /// A message that holds this mark, where it has a text; else the recorded one.
    pub(super) fn marked(&self, mark: &str) -> Message {
        match self.message.content {
            Content::Text(_) => self.with_text(format!("Your collection is on Tuesday. {mark}")),
            _ => self.message.clone(),
        }
    }

    pub(super) fn with_text(&self, text: impl Into<String>) -> Message {
        let mut message = self.message.clone().with_content(Content::Text(text.into()));
        // Two messages of one key would be one.
        message.key = None;
        message
    }

    pub(super) fn has_text(&self) -> bool {
        matches!(self.message.content, Content::Text(_))
    }

    pub(super) fn message(&self) -> &Message {
        &self.message
    }

    /// The step that is the send itself.
    pub(super) fn last(&self) -> Step {
        self.steps.last().cloned().unwrap_or_else(Step::any)
    }

    /// Lets the double expect one send, whose last step is changed so.
    pub(super) fn expect(&self, double: &FakeGateway, change: impl FnOnce(Step) -> Step) {
        let before = self.steps.len() - 1;
        for step in self.steps.iter().take(before) {
            double.expects(step.clone());
        }
        double.expects(change(self.last()));
    }

    /// A channel that needs nothing more before a send than the send itself: where the first one takes several requests it
    /// has made it, and holds the token that it got for it.
    pub(super) async fn begun(&self, run: &Run<'_>, double: &FakeGateway) -> Checked<Arc<dyn Channel>> {
        let channel = run.connect(&double.base_url(), Pace::Patient)?;
        if self.requests() > 1 {
            self.expect(double, |step| step);
            channel.send(&self.marked("first")).await.map_err(|error| format!("its first send fails: {error}"))?;
            let before = double.asked().len();
            double.always(self.last());
            _ = channel.send(&self.marked("second")).await;
            applies(double.asked().len() == before + 1, "each of its sends takes several requests")?;
        }
        Ok(channel)
    }

    /// How many requests one send makes.
    pub(super) fn requests(&self) -> usize {
        self.steps.len()
    }
}

/// A recorded call that was made again.
pub(super) struct Replayed {
    pub(super) came: Came,
    pub(super) double: FakeGateway,
    pub(super) channel: Arc<dyn Channel>,
}

/// What came of a call.
#[derive(Debug)]
pub(super) enum Came {
    Accepted(Accepted),
    Done,
    LookupOutcome(LookupOutcome),
    Failed(Error),
    File(Bytes),
    Health(Health),
    Held(MediaRef),
    Page(Page),
}

impl Came {
    /// How it differs from what is expected.
    fn matches(&self, expected: &Expectation) -> std::result::Result<(), String> {
        let differs = |holds: bool, why: String| if holds { Ok(()) } else { Err(why) };
        match (expected, self) {
            (Expectation::Accepted(ids), Self::Accepted(accepted)) => {
                let came: Vec<_> = accepted.ids().map(crate::model::id::MessageId::as_str).collect();
                differs(came == *ids, format!("it has {} ids that are not the {} recorded", came.len(), ids.len()))
            }
            (Expectation::Brings(told), Self::Page(page)) => tells(&page.events, told),
            (Expectation::Done, Self::Done | Self::Health(_)) => Ok(()),
            (Expectation::File(expected), Self::File(bytes)) => {
                differs(expected == bytes, format!("the file has {} bytes, which are not those recorded", bytes.len()))
            }
            (Expectation::Held(id), Self::Held(held)) => {
                differs(held.id == *id, "it is held under another id".to_owned())
            }
            (Expectation::Graded(grades), Self::Health(health)) => grades.iter().try_for_each(|(name, grade)| {
                let came = health.check(name).map(|check| check.grade);
                differs(
                    came == Some(*grade),
                    format!("the health's {name} is {}, and {grade:?} was recorded", said(came)),
                )
            }),
            (Expectation::NotFound, Self::LookupOutcome(LookupOutcome::NotFound)) => Ok(()),
            (Expectation::Inconclusive, Self::LookupOutcome(LookupOutcome::Inconclusive)) => Ok(()),
            (Expectation::Found(states), Self::LookupOutcome(LookupOutcome::Found(found))) => {
                let came: Vec<_> = found.iter().map(|delivery| delivery.state).collect();
                differs(came == *states, format!("it was found as {came:?}, and recorded as {states:?}"))
            }
            (Expectation::Fails { kind, outcome, code, retryable, wait }, Self::Failed(error)) => {
                differs(error.kind() == *kind, format!("its kind is {:?}, and {kind:?} was recorded", error.kind()))?;
                let same = outcome.is_none_or(|outcome| outcome == error.outcome());
                differs(same, format!("its outcome is {:?}, and {} was recorded", error.outcome(), said(*outcome)))?;
                let same = wait.is_none() || *wait == error.retry_after();
                differs(same, format!("its wait is {}, and {} was recorded", said(error.retry_after()), said(*wait)))?;
                let same = code.is_none() || code.as_deref() == error.code();
                differs(
                    same,
                    format!("its code is {}, and {} was recorded", said(error.code()), said(code.as_deref())),
                )?;
                let same = retryable.is_none_or(|retryable| retryable == error.is_retryable());
                differs(
                    same,
                    format!("it may be tried again: {}; recorded: {}", error.is_retryable(), said(*retryable)),
                )
            }
            (_, Self::Failed(error)) => Err(format!("it failed: {error}")),
            (Expectation::Fails { kind, .. }, Self::Accepted(accepted)) => Err(format!(
                "it was accepted, with {} ids, and a failure ({kind:?}) was recorded",
                accepted.ids().count()
            )),
            (Expectation::Fails { kind, .. }, _) => {
                Err(format!("it did not fail, and a failure ({kind:?}) was recorded"))
            }
            (expected, Self::LookupOutcome(evidence)) => {
                let came = match evidence {
                    LookupOutcome::NotFound => "not found".to_owned(),
                    LookupOutcome::Inconclusive => "inconclusive".to_owned(),
                    LookupOutcome::Found(found) => format!("found {} times", found.len()),
                };
                Err(format!("the message is {came}; recorded: {}", expected.name()))
            }
            (expected, _) => Err(format!("something else came of it than what was recorded: {}", expected.name())),
        }
    }
}

/// A value as a person reads it, or that there is none.
fn said(value: Option<impl Debug>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| format!("{value:?}"))
}

/// How events differ from those that are told.
pub(super) fn tells(events: &[Event], told: &[ExpectedEvent]) -> std::result::Result<(), String> {
    let came: Vec<What> = events.iter().map(What::of).collect();
    let expected: Vec<What> = told.iter().map(|told| told.what).collect();
    if came != expected {
        return Err(format!("the events are {came:?}, and {expected:?} were recorded"));
    }
    let both = events.iter().zip(told).enumerate();
    both.into_iter().try_for_each(|(n, (event, told))| {
        let nth = n + 1;
        let differs = |what: &str| Err(format!("event {nth} has {what} that is not the recorded one"));
        if told.id.is_some() && id(event) != told.id.as_deref() {
            return differs("an id");
        }
        if told.from.is_some() && event.as_inbound().map(|inbound| inbound.from.expose()) != told.from.as_deref() {
            return differs("a writer");
        }
        if told.text.is_some() && event.as_inbound().and_then(text) != told.text.as_deref() {
            return differs("a text");
        }
        if told.key.is_some() && event.as_delivery().and_then(Delivery::key) != told.key.as_deref() {
            return differs("a key");
        }
        if told.at.is_some_and(|at| event.envelope().at != at) {
            return differs("a time");
        }
        match (told.state, event.as_delivery().map(|delivery| delivery.state)) {
            (Some(recorded), Some(came)) if recorded != came => {
                Err(format!("event {nth} is {came:?}, and {recorded:?} was recorded"))
            }
            _ => Ok(()),
        }
    })
}

/// The id that a gateway gave to what an event is of.
pub(super) fn id(event: &Event) -> Option<&str> {
    match event {
        Event::Delivery(delivery) => match &delivery.of {
            DeliveryOf::Message { id, .. } | DeliveryOf::UpTo { id, .. } => {
                id.as_ref().map(crate::model::id::MessageId::as_str)
            }
        },
        Event::Inbound(inbound) => Some(inbound.id.as_str()),
        _ => None,
    }
}

/// The text of a resident's message, whatever form it has.
pub(super) fn text(inbound: &Inbound) -> Option<&str> {
    match &inbound.content {
        InboundContent::Selection(chosen) => Some(&chosen.title),
        InboundContent::Media { text, .. } => text.as_deref(),
        InboundContent::Text(text) => Some(text),
        _ => None,
    }
}

pub(super) fn own(secrets: &[&str]) -> Vec<SigningSecret> {
    secrets.iter().filter_map(|secret| Secret::new(*secret).ok()).map(SigningSecret::new).collect()
}

/// A secret that owns another account than the channel's.
pub(super) fn elsewhere() -> Option<SigningSecret> {
    Some(SigningSecret::for_accounts(Secret::new(OTHER).ok()?, [AccountId::new("conformance-elsewhere")]))
}

/// A file's reference, with the double's address in the place of `{base}`.
pub(super) fn based(media: &MediaRef, base: &str) -> MediaRef {
    let mut media = media.clone();
    media.url = media.url.map(|url| url.replace("{base}", base));
    media
}

/// Waits for a call, and moves its virtual clock on while it waits for that.
pub(super) async fn driven<T>(clock: &VirtualClock, call: impl Future<Output = T>) -> T {
    let mut call = pin!(call);
    loop {
        match tokio::time::timeout(Duration::from_millis(20), call.as_mut()).await {
            Ok(done) => return done,
            Err(_) if clock.sleepers() > 0 => clock.advance(Duration::from_secs(1)),
            Err(_) => {}
        }
    }
}

fn setup(base_url: &str, now: Timestamp, seed: u64, notes: Arc<Notes>, pace: Pace) -> Setup {
    let transport = ReqwestTransport::from_settings(move |builder| {
        builder.no_proxy().connect_timeout(pace.time()).timeout(pace.time())
    });
    let clock = VirtualClock::starting_at(now).seeded(seed);
    let context = Context::new().clock(clock.clone()).transport(Watched { transport, notes, pace });
    Setup { base_url: base_url.to_owned(), context, webhook_secrets: own(&[OWN]), clock }
}

/// The transport of a channel under test: it notes what is asked of it, and goes nowhere but to this machine.
#[derive(Debug)]
struct Watched {
    transport: ReqwestTransport,
    notes: Arc<Notes>,
    pace: Pace,
}

#[async_trait]
impl Transport for Watched {
    async fn call(&self, mut request: Request<Body>) -> Result<Response<Body>, TransportError> {
        self.notes.calls.fetch_add(1, Ordering::SeqCst);
        let host = request.uri().host().unwrap_or_default();
        if !is_loopback(host) {
            self.notes.strangers.lock().unwrap_or_else(PoisonError::into_inner).push(host.to_owned());
            return Err(TransportError::new(TransportErrorKind::Connect, SendProgress::NothingSent));
        }
        if let Some(Deadline(deadline)) = request.extensions_mut().get_mut() {
            *deadline = self.pace.time().min(*deadline);
        }
        self.transport.call(request).await
    }
}
