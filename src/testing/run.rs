//! The run of one check: its channels, fake gateways and results.

use std::cell::{Cell, RefCell};
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
use super::subject::{Call, EventKind, Exchange, Expectation, ExpectedEvent, Setup, Subject, Webhook};
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
use crate::model::random::SeededRandom;
use crate::model::secret::Secret;
use crate::transport::{
    Body, Deadline, ReqwestTransport, SendProgress, Transport, TransportError, TransportErrorKind, is_loopback,
};
use crate::webhook::{self, Received, SigningSecret};

/// The reason why a check did not pass.
pub(super) enum CheckError {
    DoesNotApply(&'static str),
    Failed(String),
}

pub(super) type CheckResult<T = ()> = std::result::Result<T, CheckError>;

impl From<String> for CheckError {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

/// Fails the check unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            return Err($crate::testing::run::CheckError::Failed(format!($($why)+)));
        }
    };
}
pub(super) use ensure;

/// Skips the check unless the condition holds.
pub(super) fn applies(condition: bool, reason: &'static str) -> CheckResult {
    if condition { Ok(()) } else { Err(CheckError::DoesNotApply(reason)) }
}

/// The current webhook secret.
pub(super) const OWN: &str = "conformance-secret-one";
/// The next webhook secret in a rotation.
pub(super) const NEXT: &str = "conformance-secret-two";
/// The webhook secret of another account.
pub(super) const OTHER: &str = "conformance-secret-elsewhere";

/// The timeout of a channel's calls.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// Long enough for every response.
    Patient,
    /// Short, to detect a stalled response.
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

/// The run of one check.
pub(super) struct Run<'s> {
    pub(super) subject: &'s dyn Subject,
    pub(super) info: Info,
    pub(super) seed: Cell<u64>,
    /// The time since the recordings at which the clock of a channel starts.
    pub(super) later: Cell<Duration>,
    notes: Arc<CallLog>,
    capture: Capture,
    /// All Debug and Display output, deduplicated.
    shown: RefCell<BTreeSet<String>>,
}

/// The calls of channels through their transport.
#[derive(Debug, Default)]
pub(super) struct CallLog {
    calls: AtomicUsize,
    foreign_hosts: Mutex<Vec<String>>,
}

impl<'s> Run<'s> {
    pub(super) fn new(subject: &'s dyn Subject, seed: u64) -> CheckResult<Self> {
        let capture = Capture::begin();
        // The discard port: no request is made.
        let setup = setup("http://127.0.0.1:9", subject.now(), seed, Arc::default(), Pace::Patient);
        let channel = subject.connect(&setup).map_err(|error| format!("connect failed: {error}"))?;
        let info = channel.info().clone();
        Ok(Self {
            subject,
            info,
            seed: Cell::new(seed),
            later: Cell::default(),
            notes: Arc::default(),
            capture,
            shown: RefCell::default(),
        })
    }

    pub(super) fn setup(&self, base_url: &str, pace: Pace) -> Setup {
        setup(base_url, self.subject.now().plus(self.later.get()), self.seed.get(), self.notes.clone(), pace)
    }

    /// Connects the channel to this base URL.
    pub(super) fn connect(&self, base_url: &str, pace: Pace) -> CheckResult<Arc<dyn Channel>> {
        self.built(&self.setup(base_url, pace))
    }

    pub(super) fn built(&self, setup: &Setup) -> CheckResult<Arc<dyn Channel>> {
        self.subject.connect(setup).map_err(|error| CheckError::Failed(format!("connect failed: {error}")))
    }

    /// Connects a channel that only receives.
    pub(super) fn receiving(&self, secrets: &[&str]) -> CheckResult<Arc<dyn Channel>> {
        let mut setup = self.setup("http://127.0.0.1:9", Pace::Patient);
        setup.webhook_secrets = own(secrets);
        self.built(&setup)
    }

    /// Returns the number of requests through the context's transport.
    pub(super) fn calls(&self) -> usize {
        self.notes.calls.load(Ordering::SeqCst)
    }

    /// Returns the hosts other than this machine that were called.
    pub(super) fn foreign_hosts(&self) -> Vec<String> {
        self.notes.foreign_hosts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records the Debug output of a value.
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

    /// Returns the log output of the check.
    pub(super) fn logged(&self) -> String {
        self.capture.text()
    }

    /// Clears the recorded output.
    pub(super) fn forget_shown(&self) {
        self.shown.borrow_mut().clear();
    }

    pub(super) fn shown(&self) -> String {
        self.shown.borrow().iter().fold(String::new(), |all, shown| all + shown + "\n")
    }

    /// Returns the recorded sends that are accepted.
    pub(super) fn accepted_sends(&self) -> Vec<Exchange> {
        self.subject.exchanges().into_iter().filter(|exchange| exchange.accepted().is_some()).collect()
    }

    /// Returns a recorded call that makes a request: a send if one is recorded.
    pub(super) fn calling(&self) -> Option<Exchange> {
        let all = self.subject.exchanges();
        let send = all.iter().position(|exchange| exchange.accepted().is_some() && !exchange.steps.is_empty());
        let call = send.or_else(|| all.iter().position(|exchange| !exchange.steps.is_empty()))?;
        all.into_iter().nth(call)
    }

    /// Returns `true` if a recorded call reaches the fake gateway.
    pub(super) async fn reaches(&self, exchange: &Exchange) -> CheckResult<bool> {
        let gateway = self.replay(exchange, |_, step| step.unconditional()).await?.gateway;
        Ok(!gateway.requests().is_empty())
    }

    /// Returns the template of sends, if the channel calls a gateway.
    pub(super) fn model(&self) -> CheckResult<Model> {
        applies(!self.subject.in_memory(), "in memory: it calls no gateway")?;
        let model = self.sample()?;
        applies(!model.steps.is_empty(), "its recorded send makes no request")?;
        Ok(model)
    }

    /// Returns the template of sends: a text if one is recorded.
    pub(super) fn sample(&self) -> CheckResult<Model> {
        let sends = self.accepted_sends();
        let is_text = |exchange: &&Exchange| matches!(exchange.accepted().map(|m| &m.content), Some(Content::Text(_)));
        let plain = |exchange: &&Exchange| is_text(exchange) && exchange.stored.is_empty();
        let exchange = sends.iter().find(plain).or(sends.first());
        let exchange =
            exchange.ok_or_else(|| "expected a recorded send that is accepted, got none".to_owned())?.clone();
        let message = exchange.accepted().ok_or_else(|| "not a send".to_owned())?.clone();
        let steps: Vec<Step> = exchange.steps.iter().map(|step| step.clone().unconditional()).collect();
        Ok(Model { message, steps })
    }

    /// Plays a recorded exchange and compares the result with the recorded one.
    pub(super) async fn play(&self, nth: usize, exchange: &Exchange) -> CheckResult {
        let what = format!("exchange {} ({}, {})", nth + 1, exchange.call.name(), exchange.place);
        let Replayed { result, gateway, .. } = self.replay(exchange, |_, step| step).await?;
        let problems = gateway.problems();
        let failed = match (&result, &exchange.result) {
            (_, Expectation::Fails { .. }) => String::new(),
            (CallResult::Failed(error), _) => format!("; the call failed: {error}"),
            _ => String::new(),
        };
        ensure!(problems.is_empty(), "{what}: {}{failed}", problems.join("; "));
        result.matches(&exchange.result).map_err(|difference| CheckError::Failed(format!("{what}: {difference}")))
    }

    /// Replays a recorded call against a fake gateway that serves its steps, each changed by `change`.
    pub(super) async fn replay(
        &self,
        exchange: &Exchange,
        change: impl Fn(usize, Step) -> Step,
    ) -> CheckResult<Replayed> {
        let gateway = FakeGateway::start().await;
        let steps = exchange.steps.iter().enumerate();
        steps.for_each(|(nth, step)| gateway.expects(change(nth, step.clone().based(&gateway.base_url()))));
        let setup = self.setup(&gateway.base_url(), Pace::Patient);
        let channel = self.built(&setup)?;
        let result = self.call(&*channel, &setup, exchange, &gateway).await;
        Ok(Replayed { result, gateway, channel })
    }

    /// Makes a recorded call.
    async fn call(
        &self,
        channel: &dyn Channel,
        setup: &Setup,
        exchange: &Exchange,
        gateway: &FakeGateway,
    ) -> CallResult {
        for (mime, bytes) in &exchange.stored {
            if let Err(error) = setup.context.media.put(MediaStream::from_bytes(mime.clone(), bytes.clone())).await {
                return CallResult::Failed(error);
            }
        }
        let base = gateway.base_url();
        let called = async {
            Ok(match &exchange.call {
                Call::Fetch(media) => CallResult::File(channel.fetch_media(&based(media, &base)).await?.bytes().await?),
                Call::Health => CallResult::Health(channel.health().await?),
                Call::LookUp(query) => CallResult::LookupOutcome(channel.look_up(query).await?),
                Call::Poll(after) => CallResult::Page(channel.poll(after.as_ref()).await?),
                Call::Send(message) => CallResult::Accepted(channel.send(message).await?),
                Call::Indicator(inbound, indicator) => {
                    channel.send_indicator(inbound, *indicator).await?;
                    CallResult::Done
                }
                Call::Upload(media, mime, bytes) => {
                    let stream = MediaStream::from_bytes(mime.clone(), bytes.clone());
                    CallResult::Held(channel.upload_media(media, stream).await?)
                }
            })
        };
        let result = driven(&setup.clock, called).await.unwrap_or_else(CallResult::Failed);
        match &result {
            CallResult::Failed(error) => self.note_error(error),
            // A file's bytes come from the gateway, and are not searched.
            CallResult::File(_) => {}
            result => self.note(result),
        }
        result
    }

    /// Returns a recorded webhook, signed with this secret.
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

    /// Calls `receive` and turns a panic into a failure.
    pub(super) async fn receive(
        &self,
        channel: &dyn Channel,
        request: &webhook::Request,
    ) -> CheckResult<Result<Received>> {
        self.note(request);
        let received = caught(channel.receive(request)).await.ok_or_else(|| "receive panicked".to_owned())?;
        match &received {
            Ok(received) => self.note(received),
            Err(error) => self.note_error(error),
        }
        Ok(received)
    }
}

/// Awaits a future, `None` if it panics.
pub(super) async fn caught<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut future).poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(done)) => Poll::Ready(Some(done)),
        Err(_) => Poll::Ready(None),
    })
    .await
}

/// A template of sends.
pub(super) struct Model {
    message: Message,
    steps: Vec<Step>,
}

impl Model {
    /// Returns a text message that contains this mark, or the recorded message of another content.
    pub(super) fn marked(&self, mark: &str) -> Message {
        match self.message.content {
            Content::Text(_) => self.with_text(format!("Your collection is on Tuesday. {mark}")),
            _ => self.message.clone(),
        }
    }

    pub(super) fn with_text(&self, text: impl Into<String>) -> Message {
        let mut message = self.message.clone().with_content(Content::Text(text.into()));
        // A second message with the same idempotency key would be deduplicated.
        message.key = None;
        message
    }

    pub(super) fn has_text(&self) -> bool {
        matches!(self.message.content, Content::Text(_))
    }

    pub(super) fn message(&self) -> &Message {
        &self.message
    }

    /// Returns the step of the send itself.
    pub(super) fn last(&self) -> Step {
        self.steps.last().cloned().unwrap_or_else(Step::any)
    }

    /// Expects one send at the gateway, with its last step changed.
    pub(super) fn expect(&self, gateway: &FakeGateway, change: impl FnOnce(Step) -> Step) {
        let before = self.steps.len() - 1;
        for step in self.steps.iter().take(before) {
            gateway.expects(step.clone());
        }
        gateway.expects(change(self.last()));
    }

    /// Connects a channel that needs one request for each send: if the first send takes several, it has been made, and the
    /// channel holds its token.
    pub(super) async fn begun(&self, run: &Run<'_>, gateway: &FakeGateway) -> CheckResult<Arc<dyn Channel>> {
        let channel = run.connect(&gateway.base_url(), Pace::Patient)?;
        if self.requests() > 1 {
            self.expect(gateway, |step| step);
            channel.send(&self.marked("first")).await.map_err(|error| format!("first send failed: {error}"))?;
            let before = gateway.requests().len();
            gateway.always(self.last());
            _ = channel.send(&self.marked("second")).await;
            applies(gateway.requests().len() == before + 1, "each send takes several requests")?;
        }
        Ok(channel)
    }

    /// Returns the number of requests of one send.
    pub(super) fn requests(&self) -> usize {
        self.steps.len()
    }
}

/// A replayed call.
pub(super) struct Replayed {
    pub(super) result: CallResult,
    pub(super) gateway: FakeGateway,
    pub(super) channel: Arc<dyn Channel>,
}

/// The result of a call.
#[derive(Debug)]
pub(super) enum CallResult {
    Accepted(Accepted),
    Done,
    LookupOutcome(LookupOutcome),
    Failed(Error),
    File(Bytes),
    Health(Health),
    Held(MediaRef),
    Page(Page),
}

impl CallResult {
    /// Compares the result with the expectation.
    fn matches(&self, expected: &Expectation) -> std::result::Result<(), String> {
        let differs = |equal: bool, difference: String| if equal { Ok(()) } else { Err(difference) };
        match (expected, self) {
            (Expectation::Accepted(ids), Self::Accepted(accepted)) => {
                let got: Vec<_> = accepted.ids().map(crate::model::id::MessageId::as_str).collect();
                differs(got == *ids, format!("expected the {} recorded ids, got {} others", ids.len(), got.len()))
            }
            (Expectation::Events(expected), Self::Page(page)) => compare_events(&page.events, expected),
            (Expectation::Done, Self::Done | Self::Health(_) | Self::Page(_)) => Ok(()),
            (Expectation::File(expected), Self::File(bytes)) => differs(
                expected == bytes,
                format!("expected the recorded file of {} bytes, got {} others", expected.len(), bytes.len()),
            ),
            (Expectation::MediaId(id), Self::Held(held)) => {
                differs(held.id == *id, "expected the recorded media id, got another".to_owned())
            }
            (Expectation::HealthChecks(grades), Self::Health(health)) => grades.iter().try_for_each(|(name, grade)| {
                let got = health.check(name).map(|check| check.status);
                differs(got == Some(*grade), format!("health check {name}: expected {grade:?}, got {}", or_none(got)))
            }),
            (Expectation::NotFound, Self::LookupOutcome(LookupOutcome::NotFound)) => Ok(()),
            (Expectation::Inconclusive, Self::LookupOutcome(LookupOutcome::Inconclusive)) => Ok(()),
            (Expectation::Found(states), Self::LookupOutcome(LookupOutcome::Found(found))) => {
                let got: Vec<_> = found.iter().map(|delivery| delivery.state).collect();
                differs(got == *states, format!("look-up: expected {states:?}, got {got:?}"))
            }
            (Expectation::Fails { kind, outcome, code, retryable, wait }, Self::Failed(error)) => {
                differs(error.kind() == *kind, format!("kind: expected {kind:?}, got {:?}", error.kind()))?;
                let same = outcome.is_none_or(|outcome| outcome == error.outcome());
                differs(same, format!("outcome: expected {}, got {:?}", or_none(*outcome), error.outcome()))?;
                let same = wait.is_none() || *wait == error.retry_after();
                differs(
                    same,
                    format!("retry_after: expected {}, got {}", or_none(*wait), or_none(error.retry_after())),
                )?;
                let same = code.is_none() || code.as_deref() == error.code();
                differs(same, format!("code: expected {}, got {}", or_none(code.as_deref()), or_none(error.code())))?;
                let same = retryable.is_none_or(|retryable| retryable == error.is_retryable());
                differs(same, format!("is_retryable: expected {}, got {}", or_none(*retryable), error.is_retryable()))
            }
            (expected, Self::Failed(error)) => Err(format!("expected {}, got an error: {error}", expected.name())),
            (Expectation::Fails { kind, .. }, Self::Accepted(accepted)) => {
                Err(format!("expected a failure ({kind:?}), got accepted with {} ids", accepted.ids().count()))
            }
            (Expectation::Fails { kind, .. }, _) => Err(format!("expected a failure ({kind:?}), got success")),
            (expected, Self::LookupOutcome(outcome)) => {
                let got = match outcome {
                    LookupOutcome::NotFound => "not found".to_owned(),
                    LookupOutcome::Inconclusive => "inconclusive".to_owned(),
                    LookupOutcome::Found(found) => format!("found {} times", found.len()),
                };
                Err(format!("look-up: expected {}, got {got}", expected.name()))
            }
            (expected, _) => Err(format!("expected {}, got something else", expected.name())),
        }
    }
}

/// Formats a value, or `none`.
fn or_none(value: Option<impl Debug>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| format!("{value:?}"))
}

/// Compares events with the expected ones.
pub(super) fn compare_events(events: &[Event], expected: &[ExpectedEvent]) -> std::result::Result<(), String> {
    let got: Vec<EventKind> = events.iter().map(EventKind::of).collect();
    let kinds: Vec<EventKind> = expected.iter().map(|expected| expected.kind).collect();
    if got != kinds {
        return Err(format!("events: expected {kinds:?}, got {got:?}"));
    }
    let both = events.iter().zip(expected).enumerate();
    both.into_iter().try_for_each(|(n, (event, expected))| {
        let nth = n + 1;
        let differs = |field: &str| Err(format!("event {nth}: expected the recorded {field}, got another"));
        if expected.id.is_some() && id(event) != expected.id.as_deref() {
            return differs("id");
        }
        if expected.from.is_some()
            && event.as_inbound().map(|inbound| inbound.from.expose()) != expected.from.as_deref()
        {
            return differs("sender");
        }
        if expected.text.is_some() && event.as_inbound().and_then(text) != expected.text.as_deref() {
            return differs("text");
        }
        if expected.key.is_some() && event.as_delivery().and_then(Delivery::key) != expected.key.as_deref() {
            return differs("key");
        }
        if expected.at.is_some_and(|at| event.envelope().at != at) {
            return differs("time");
        }
        if let (Some(resume), Event::OptOut(opt_out)) = (expected.resume, event)
            && opt_out.resume != resume
        {
            let name = |resume| if resume { "an opt-in" } else { "an opt-out" };
            return Err(format!("event {nth}: expected {}, got {}", name(resume), name(opt_out.resume)));
        }
        match (expected.state, event.as_delivery().map(|delivery| delivery.state)) {
            (Some(expected), Some(got)) if expected != got => {
                Err(format!("event {nth}: expected {expected:?}, got {got:?}"))
            }
            _ => Ok(()),
        }
    })
}

/// Returns the gateway's id of the message that an event is about.
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

/// Returns the text of an inbound message of any content.
pub(super) fn text(inbound: &Inbound) -> Option<&str> {
    match &inbound.content {
        InboundContent::Selection(selection) => Some(&selection.title),
        InboundContent::Media { text, .. } => text.as_deref(),
        InboundContent::Text(text) => Some(text),
        _ => None,
    }
}

pub(super) fn own(secrets: &[&str]) -> Vec<SigningSecret> {
    secrets.iter().filter_map(|secret| Secret::new(*secret).ok()).map(SigningSecret::new).collect()
}

/// Returns a secret of another account.
pub(super) fn elsewhere() -> Option<SigningSecret> {
    Some(SigningSecret::for_accounts(Secret::new(OTHER).ok()?, [AccountId::new("conformance-elsewhere")]))
}

/// Replaces `{base}` in a file's URL with the gateway's base URL.
pub(super) fn based(media: &MediaRef, base: &str) -> MediaRef {
    let mut media = media.clone();
    media.url = media.url.map(|url| url.replace("{base}", base));
    media
}

/// Awaits a call, and advances its virtual clock while it sleeps.
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

fn setup(base_url: &str, now: Timestamp, seed: u64, notes: Arc<CallLog>, pace: Pace) -> Setup {
    let transport = ReqwestTransport::from_settings(move |builder| {
        builder.no_proxy().connect_timeout(pace.time()).timeout(pace.time())
    });
    let clock = VirtualClock::starting_at(now);
    let context = Context::new().clock(clock.clone()).random(SeededRandom::new(seed)).transport(RecordingTransport {
        transport,
        notes,
        pace,
    });
    Setup { base_url: base_url.to_owned(), context, webhook_secrets: own(&[OWN]), clock }
}

/// The transport of a channel under test: records calls, and connects to this machine only.
#[derive(Debug)]
struct RecordingTransport {
    transport: ReqwestTransport,
    notes: Arc<CallLog>,
    pace: Pace,
}

#[async_trait]
impl Transport for RecordingTransport {
    async fn call(&self, mut request: Request<Body>) -> Result<Response<Body>, TransportError> {
        self.notes.calls.fetch_add(1, Ordering::SeqCst);
        let host = request.uri().host().unwrap_or_default();
        if !is_loopback(host) {
            self.notes.foreign_hosts.lock().unwrap_or_else(PoisonError::into_inner).push(host.to_owned());
            return Err(TransportError::new(TransportErrorKind::Connect, SendProgress::NothingSent));
        }
        if let Some(Deadline(deadline)) = request.extensions_mut().get_mut() {
            *deadline = self.pace.time().min(*deadline);
        }
        self.transport.call(request).await
    }
}
