//! Description of an adapter for the conformance suite.

use std::fmt;
use std::panic::Location;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use sha2::Sha256;

use super::step::Step;
use crate::channel::{Channel, Indicator};
use crate::context::Context;
use crate::model::clock::{Timestamp, VirtualClock};
use crate::model::delivery::DeliveryState;
use crate::model::error::{ErrorKind, Outcome, Result};
use crate::model::event::{Event, Inbound};
use crate::model::health::CheckStatus;
use crate::model::lookup::LookupQuery;
use crate::model::message::{Media, MediaRef, Message};
use crate::model::poll::Cursor;
use crate::webhook::{SignatureCoverage, SignatureEncoding, SigningSecret};

/// Describes an adapter to the conformance suite.
///
/// A unit struct is enough. The suite connects the adapter many times, to [fake gateways](super::FakeGateway) and with its
/// own secrets, and selects the checks by [`Info::capability`](crate::Info::capability): record an exchange for everything
/// that it declares; everything else must be refused.
///
/// See `examples/custom_gateway.rs`, and the guide in [the module's documentation](crate::testing).
pub trait Subject: Send + Sync {
    /// Builds the channel with this setup.
    ///
    /// # Errors
    /// The adapter's errors. It may refuse a setup without a webhook secret.
    fn connect(&self, setup: &Setup) -> Result<Arc<dyn Channel>>;

    /// Returns every credential that [`connect`](Self::connect) adds: none may appear in any output. The suite knows those
    /// of the [`Setup`].
    fn secrets(&self) -> Vec<String>;

    /// Returns the credentials among [`secrets`](Self::secrets) that never leave the process: they sign requests or
    /// webhooks. Defaults to none. Every other credential must occur in a recorded request.
    fn signing_secrets(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns recorded calls, with their requests and results.
    ///
    /// At least one for each declared capability; for sends, an accepted one for each kind of content, and the gateway's
    /// rejections.
    fn exchanges(&self) -> Vec<Exchange>;

    /// Returns recorded webhooks and their events. Defaults to none, for a channel that only sends.
    fn webhooks(&self) -> Vec<Webhook> {
        Vec::new()
    }

    /// Returns the signature scheme of webhooks. Defaults to none.
    fn signer(&self) -> Signer {
        Signer::unsigned()
    }

    /// Returns the time of the recordings, at which the channel's clock starts. Defaults to a day in November 2026.
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(1_795_000_000)
    }

    /// Returns the file of the snapshot. By default `tests/snapshots/GATEWAY_MEDIUM.json` in the package that is tested.
    ///
    /// It holds the whole result of each recording. `UPDATE_SNAPSHOTS=1` writes it; review it before you commit it.
    fn snapshot(&self) -> Option<PathBuf> {
        None
    }

    /// Returns the names of request headers whose values differ in each run: a signature of the URL covers the port of the
    /// fake gateway. Defaults to none. The snapshot masks them.
    fn varying_headers(&self) -> &[&'static str] {
        &[]
    }

    /// Returns `true` for a channel in memory, to which checks of requests do not apply. Defaults to `false`.
    fn in_memory(&self) -> bool {
        false
    }
}

/// The setup of a [`Subject`]'s channel.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Setup {
    /// The base URL of the gateway.
    pub base_url: String,
    /// The transport, clock and stores.
    pub context: Context,
    /// The secrets that verify webhooks: one, several during a rotation, or none.
    pub webhook_secrets: Vec<SigningSecret>,
    /// The clock of the context.
    pub(super) clock: VirtualClock,
}

/// A recorded call of a channel, with its requests and its result.
///
/// ```
/// use civic_messaging::testing::{Exchange, Step};
/// use civic_messaging::{Address, ErrorKind, Message};
///
/// let to = Address::phone("07700 900123")?;
/// let sent = Exchange::send(Message::text(to.clone(), "Your collection is on Tuesday.").key("case-1"))
///     .step(Step::post("/messages").json(r#"{"to":"+447700900123","text":"Your collection is on Tuesday."}"#)
///         .answers(200, r#"{"id":"A-1"}"#))
///     .accepts(["A-1"]);
/// let barred = Exchange::send(Message::text(to, "Your collection is on Tuesday."))
///     .step(Step::any().answers(403, r#"{"code":"BARRED"}"#))
///     .fails(ErrorKind::OptedOut);
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Exchange {
    pub(super) call: Call,
    pub(super) stored: Vec<(String, Bytes)>,
    pub(super) steps: Vec<Step>,
    pub(super) result: Expectation,
    pub(super) place: &'static Location<'static>,
}

#[derive(Clone, Debug)]
pub(super) enum Call {
    Fetch(MediaRef),
    Health,
    LookUp(LookupQuery),
    Poll(Option<Cursor>),
    Send(Message),
    Indicator(Box<Inbound>, Indicator),
    Upload(Media, String, Bytes),
}

impl Call {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Fetch(_) => "fetch_media",
            Self::Health => "health",
            Self::LookUp(_) => "look_up",
            Self::Poll(_) => "poll",
            Self::Send(_) => "send",
            Self::Indicator(..) => "send_indicator",
            Self::Upload(..) => "upload_media",
        }
    }
}

/// The expected result of a call.
#[derive(Clone, Debug)]
pub(super) enum Expectation {
    NotFound,
    Accepted(Vec<String>),
    Events(Vec<ExpectedEvent>),
    Inconclusive,
    Done,
    Fails {
        kind: ErrorKind,
        outcome: Option<Outcome>,
        code: Option<String>,
        retryable: Option<bool>,
        wait: Option<Duration>,
    },
    File(Bytes),
    Found(Vec<DeliveryState>),
    HealthChecks(Vec<(&'static str, CheckStatus)>),
    MediaId(String),
}

impl Expectation {
    /// Returns the expectation in words, for findings.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::NotFound => "not found",
            Self::Accepted(_) => "accepted",
            Self::Events(_) => "a page of events",
            Self::Inconclusive => "inconclusive",
            Self::Done => "done",
            Self::Fails { .. } => "a failure",
            Self::File(_) => "a file",
            Self::Found(_) => "found",
            Self::HealthChecks(_) => "a health report",
            Self::MediaId(_) => "a media id",
        }
    }
}

impl Exchange {
    #[track_caller]
    fn new(call: Call) -> Self {
        let place = Location::caller();
        Self { call, stored: Vec::new(), steps: Vec::new(), result: Expectation::Done, place }
    }

    /// Sends a message.
    #[track_caller]
    pub fn send(message: Message) -> Self {
        Self::new(Call::Send(message))
    }

    /// Uploads a file of this media type.
    #[track_caller]
    pub fn upload(media: Media, mime: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self::new(Call::Upload(media, mime.into(), bytes.into()))
    }

    /// Fetches a file. `{base}` in its `url`, and in the responses of its steps, is replaced with the base URL.
    #[track_caller]
    pub fn fetch(media: MediaRef) -> Self {
        Self::new(Call::Fetch(media))
    }

    /// Polls the gateway.
    #[track_caller]
    pub fn poll(after: Option<Cursor>) -> Self {
        Self::new(Call::Poll(after))
    }

    /// Looks up a message.
    #[track_caller]
    pub fn look_up(query: LookupQuery) -> Self {
        Self::new(Call::LookUp(query))
    }

    /// Sends an indicator for this message.
    #[track_caller]
    pub fn send_indicator(inbound: Inbound, indicator: Indicator) -> Self {
        Self::new(Call::Indicator(Box::new(inbound), indicator))
    }

    /// Checks the gateway's health.
    #[track_caller]
    pub fn health() -> Self {
        Self::new(Call::Health)
    }

    /// Adds the next expected request. In a send, the last one is the send itself.
    pub fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Puts a file of this media type into the media store of the context.
    pub fn stored(mut self, mime: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        self.stored.push((mime.into(), bytes.into()));
        self
    }

    /// Expects acceptance with these ids, one for each part.
    pub fn accepts<I: Into<String>>(self, ids: impl IntoIterator<Item = I>) -> Self {
        self.with(Expectation::Accepted(ids.into_iter().map(Into::into).collect()))
    }

    /// Expects a failure. For a send it is a definite rejection that is not retryable, unless changed by
    /// [`unknown`](Self::unknown) or [`retryable`](Self::retryable).
    pub fn fails(self, kind: ErrorKind) -> Self {
        let outcome = matches!(self.call, Call::Send(_)).then_some(Outcome::Rejected);
        let retryable = matches!(self.call, Call::Send(_)).then_some(false);
        self.with(Expectation::Fails { kind, outcome, code: None, retryable, wait: None })
    }

    /// Expects the failure to have this code.
    pub fn code(mut self, expected: impl Into<String>) -> Self {
        if let Expectation::Fails { code, .. } = &mut self.result {
            *code = Some(expected.into());
        }
        self
    }

    /// Expects the failure to be retryable.
    pub fn retryable(mut self) -> Self {
        if let Expectation::Fails { retryable, .. } = &mut self.result {
            *retryable = Some(true);
        }
        self
    }

    /// Expects the failure to have this `retry_after`.
    pub fn retry_after(mut self, expected: Duration) -> Self {
        if let Expectation::Fails { wait, .. } = &mut self.result {
            *wait = Some(expected);
        }
        self
    }

    /// Expects an unknown outcome.
    pub fn unknown(self) -> Self {
        self.outcome(Outcome::Unknown)
    }

    /// Expects that nothing was sent: a request before the send itself failed.
    pub fn not_sent(self) -> Self {
        self.outcome(Outcome::NotSent)
    }

    fn outcome(mut self, expected: Outcome) -> Self {
        if let Expectation::Fails { outcome, .. } = &mut self.result {
            *outcome = Some(expected);
        }
        self
    }

    /// Expects the upload to return this media id.
    pub fn media_id(self, id: impl Into<String>) -> Self {
        self.with(Expectation::MediaId(id.into()))
    }

    /// Expects these bytes of the file.
    pub fn file(self, bytes: impl Into<Bytes>) -> Self {
        self.with(Expectation::File(bytes.into()))
    }

    /// Expects the poll to return these events, oldest first.
    pub fn returns_events(self, events: impl IntoIterator<Item = ExpectedEvent>) -> Self {
        self.with(Expectation::Events(events.into_iter().collect()))
    }

    /// Expects the look-up to find the message in these states.
    pub fn finds(self, states: impl IntoIterator<Item = DeliveryState>) -> Self {
        self.with(Expectation::Found(states.into_iter().collect()))
    }

    /// Expects that the gateway certainly does not have the message.
    pub fn not_found(self) -> Self {
        self.with(Expectation::NotFound)
    }

    /// Expects an inconclusive look-up.
    pub fn inconclusive(self) -> Self {
        self.with(Expectation::Inconclusive)
    }

    /// Expects this status of a health check. Call it once for each check.
    pub fn health_check(self, name: &'static str, grade: CheckStatus) -> Self {
        let mut grades = match &self.result {
            Expectation::HealthChecks(grades) => grades.clone(),
            _ => Vec::new(),
        };
        grades.push((name, grade));
        self.with(Expectation::HealthChecks(grades))
    }

    fn with(self, result: Expectation) -> Self {
        Self { result, ..self }
    }

    /// Returns the message of an accepted send.
    pub(super) fn accepted(&self) -> Option<&Message> {
        match (&self.call, &self.result) {
            (Call::Send(message), Expectation::Accepted(_)) => Some(message),
            _ => None,
        }
    }
}

/// A recorded webhook before it is signed, with the expected result.
///
/// ```
/// use civic_messaging::DeliveryState;
/// use civic_messaging::testing::{ExpectedEvent, Webhook};
///
/// let text = Webhook::json(r#"{"id":"M-1","from":"+447700900123","text":"When is my bin day?"}"#)
///     .returns_events([ExpectedEvent::text("M-1", "When is my bin day?")]);
/// let receipt = Webhook::json(r#"{"id":"A-1","status":"DELIVERED"}"#)
///     .returns_events([ExpectedEvent::delivery("A-1", DeliveryState::Delivered)]);
/// let strange = Webhook::json(r#"{"id":"M-2","colour":"green"}"#).returns_events([ExpectedEvent::unrecognised()]);
/// ```
#[derive(Clone)]
#[must_use]
pub struct Webhook {
    pub(super) request: http::Request<Bytes>,
    pub(super) signed: bool,
    pub(super) result: Reception,
    /// The address of the group that the messages belong to.
    pub(super) group: Option<String>,
    pub(super) place: &'static Location<'static>,
}

/// Builds a response body from a webhook secret.
pub(super) type BodyFn = dyn Fn(&str) -> Bytes + Send + Sync;

#[derive(Clone)]
pub(super) enum Reception {
    Any,
    Events(Vec<ExpectedEvent>),
    /// The number of events of accounts that the secret does not own.
    Discards(usize),
    Refused,
    Replies(StatusCode, Arc<BodyFn>),
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("len", &self.request.body().len()).finish_non_exhaustive()
    }
}

impl Webhook {
    /// Creates a POST of JSON.
    #[track_caller]
    pub fn json(body: impl Into<Bytes>) -> Self {
        Self::post("application/json", body.into())
    }

    /// Creates a POST of a form.
    #[track_caller]
    pub fn form(body: impl Into<Bytes>) -> Self {
        Self::post("application/x-www-form-urlencoded", body.into())
    }

    /// Creates a GET with this query.
    #[track_caller]
    pub fn get(query: &str) -> Self {
        let query = query.trim_start_matches('?');
        let mut request = http::Request::new(Bytes::new());
        *request.uri_mut() = format!("/webhook?{query}").parse().unwrap_or_default();
        Self { request, signed: true, result: Reception::Any, group: None, place: Location::caller() }
    }

    #[track_caller]
    fn post(content_type: &'static str, body: Bytes) -> Self {
        let mut request = http::Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = http::Uri::from_static("/webhook");
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { request, signed: true, result: Reception::Any, group: None, place: Location::caller() }
    }

    /// Returns the body, as it will be signed.
    pub fn body(&self) -> &[u8] {
        self.request.body()
    }

    /// Sets the path and query, `/webhook` by default.
    pub fn to(mut self, path_and_query: &str) -> Self {
        *self.request.uri_mut() = path_and_query.parse().unwrap_or_default();
        self
    }

    /// Adds a header that is not part of the signature.
    pub fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.request.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }

    /// Declares that its messages belong to a group with this address, in the format of
    /// [`Address::expose`](crate::Address::expose). Their replies must go there.
    pub fn group(mut self, address: impl Into<String>) -> Self {
        self.group = Some(address.into());
        self
    }

    /// Leaves the webhook unsigned: a handshake.
    pub fn unsigned(mut self) -> Self {
        self.signed = false;
        self
    }

    /// Expects these events, in this order, including the opt-out derived from a STOP.
    pub fn returns_events(mut self, events: impl IntoIterator<Item = ExpectedEvent>) -> Self {
        self.result = Reception::Events(events.into_iter().collect());
        self
    }

    /// Expects no event and this number of discarded ones: they belong to an account that the secret does not own.
    pub fn discards(mut self, events: usize) -> Self {
        self.result = Reception::Discards(events);
        self
    }

    /// Expects this response and no event: a handshake.
    pub fn replies(self, status: u16, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        self.replies_with(status, move |_| body.clone())
    }

    /// Expects a response computed from the webhook secret and no event: a handshake.
    pub fn replies_with<B: Into<Bytes>>(
        mut self,
        status: u16,
        body: impl Fn(&str) -> B + Send + Sync + 'static,
    ) -> Self {
        let body: Arc<BodyFn> = Arc::new(move |secret| body(secret).into());
        self.result = Reception::Replies(StatusCode::from_u16(status).unwrap_or_default(), body);
        self
    }

    /// Expects a rejection: a handshake with the wrong token.
    pub fn refused(mut self) -> Self {
        self.result = Reception::Refused;
        self
    }

    pub(super) fn expected_events(&self) -> &[ExpectedEvent] {
        match &self.result {
            Reception::Events(events) => events,
            _ => &[],
        }
    }
}

/// An expected event of a webhook or a poll.
#[derive(Clone, Debug)]
pub struct ExpectedEvent {
    pub(super) kind: EventKind,
    pub(super) id: Option<String>,
    pub(super) key: Option<String>,
    pub(super) text: Option<String>,
    pub(super) from: Option<String>,
    pub(super) state: Option<DeliveryState>,
    pub(super) at: Option<Timestamp>,
    pub(super) resume: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventKind {
    Account,
    AddressChanged,
    Delivery,
    Inbound,
    OptOut,
    Unrecognised,
}

impl EventKind {
    pub(super) fn of(event: &Event) -> Self {
        match event {
            Event::Account(_) => Self::Account,
            Event::AddressChanged(_) => Self::AddressChanged,
            Event::Delivery(_) => Self::Delivery,
            Event::Inbound(_) => Self::Inbound,
            Event::OptOut(_) => Self::OptOut,
            Event::Unrecognised(_) => Self::Unrecognised,
        }
    }
}

impl ExpectedEvent {
    fn new(kind: EventKind) -> Self {
        Self { kind, id: None, key: None, text: None, from: None, state: None, at: None, resume: None }
    }

    /// Creates an inbound message with this id and any content.
    pub fn inbound(id: impl Into<String>) -> Self {
        Self { id: Some(id.into()), ..Self::new(EventKind::Inbound) }
    }

    /// Creates an inbound message with this id and text, or with a file of this caption.
    pub fn text(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..Self::inbound(id) }
    }

    /// Expects the sender's address, in the format of [`Address::expose`](crate::Address::expose). Record it for at least
    /// one message: a reply to the wrong person is an adapter's worst error.
    #[must_use]
    pub fn from(mut self, address: impl Into<String>) -> Self {
        self.from = Some(address.into());
        self
    }

    /// Expects the gateway's time of the event. Record at least one: it detects seconds parsed as milliseconds.
    #[must_use]
    pub fn time(mut self, at: Timestamp) -> Self {
        self.at = Some(at);
        self
    }

    /// Creates a delivery with this state of the message with this id.
    pub fn delivery(id: impl Into<String>, state: DeliveryState) -> Self {
        Self { id: Some(id.into()), state: Some(state), ..Self::new(EventKind::Delivery) }
    }

    /// Creates a delivery with this state of all messages up to a time.
    pub fn delivery_up_to(state: DeliveryState) -> Self {
        Self { state: Some(state), ..Self::new(EventKind::Delivery) }
    }

    /// Expects the message's idempotency key.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Creates an opt-out.
    pub fn opt_out() -> Self {
        Self { resume: Some(false), ..Self::new(EventKind::OptOut) }
    }

    /// Creates the withdrawal of an opt-out.
    pub fn opt_in() -> Self {
        Self { resume: Some(true), ..Self::new(EventKind::OptOut) }
    }

    /// Creates a change of a person's address.
    pub fn address_changed() -> Self {
        Self::new(EventKind::AddressChanged)
    }

    /// Creates an event about our own account.
    pub fn account() -> Self {
        Self::new(EventKind::Account)
    }

    /// Creates an event that the adapter does not recognise.
    pub fn unrecognised() -> Self {
        Self::new(EventKind::Unrecognised)
    }
}

/// Signs webhooks as a gateway does.
#[derive(Clone)]
pub struct Signer {
    pub(super) covers: SignatureCoverage,
    pub(super) tolerance: Option<Duration>,
    pub(super) signs: bool,
    sign: Arc<Sign>,
}

type Sign = dyn Fn(&mut http::Request<Bytes>, &str, Timestamp) + Send + Sync;

impl Signer {
    /// Creates a scheme from its coverage and a function that adds the signature to a request.
    ///
    /// ```
    /// use civic_messaging::testing::Signer;
    /// use civic_messaging::webhook::SignatureCoverage;
    ///
    /// let token_in_a_header = Signer::new(SignatureCoverage::Nothing, |request, secret, _now| {
    ///     if let Ok(secret) = secret.parse() {
    ///         request.headers_mut().insert("x-acme-token", secret);
    ///     }
    /// });
    /// ```
    pub fn new(
        covers: SignatureCoverage,
        sign: impl Fn(&mut http::Request<Bytes>, &str, Timestamp) + Send + Sync + 'static,
    ) -> Self {
        Self { covers, tolerance: None, signs: true, sign: Arc::new(sign) }
    }

    /// Signs with HMAC-SHA256 of the body in a header, after a prefix such as `sha256=`.
    pub fn hmac_sha256(header: &'static str, prefix: &'static str, encoding: SignatureEncoding) -> Self {
        Self::new(SignatureCoverage::Body, move |request, secret, _| {
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return };
            mac.update(request.body());
            let mac = mac.finalize().into_bytes();
            let value = match encoding {
                SignatureEncoding::Base64 => format!("{prefix}{}", BASE64_STANDARD.encode(mac)),
                SignatureEncoding::Hex => mac.iter().fold(prefix.to_owned(), |text, byte| format!("{text}{byte:02x}")),
            };
            insert(request, HeaderName::from_static(header), &value);
        })
    }

    /// Adds a fixed token as `Authorization: Bearer`.
    pub fn bearer() -> Self {
        Self::new(SignatureCoverage::Nothing, |request, secret, _| {
            insert(request, AUTHORIZATION, &format!("Bearer {secret}"))
        })
    }

    /// Adds a fixed token in this header.
    pub fn header_token(header: &'static str) -> Self {
        Self::new(SignatureCoverage::Nothing, move |request, secret, _| {
            insert(request, HeaderName::from_static(header), secret);
        })
    }

    /// Adds this user and the secret as `Authorization: Basic`.
    pub fn basic(user: &'static str) -> Self {
        Self::new(SignatureCoverage::Nothing, move |request, secret, _| {
            let credentials = BASE64_STANDARD.encode(format!("{user}:{secret}"));
            insert(request, AUTHORIZATION, &format!("Basic {credentials}"));
        })
    }

    /// Adds a fixed token in this query parameter.
    pub fn query_token(parameter: &'static str) -> Self {
        Self::new(SignatureCoverage::Nothing, move |request, secret, _| {
            let uri = request.uri().to_string();
            let join = if uri.contains('?') { '&' } else { '?' };
            let token: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
            if let Ok(uri) = format!("{uri}{join}{parameter}={token}").parse() {
                *request.uri_mut() = uri;
            }
        })
    }

    /// Adds no signature: anyone who knows the URL can create events.
    pub fn unsigned() -> Self {
        Self { signs: false, ..Self::new(SignatureCoverage::Nothing, |_, _, _| {}) }
    }

    /// Sets the tolerance of the signature's timestamp, in both directions.
    #[must_use]
    pub fn tolerance(mut self, tolerance: Duration) -> Self {
        self.tolerance = Some(tolerance);
        self
    }

    /// Signs a request with this secret at this time. Also useful in tests of webhook receivers.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use civic_messaging::Timestamp;
    /// use civic_messaging::testing::Signer;
    /// use civic_messaging::webhook::SignatureEncoding;
    ///
    /// let meta = Signer::hmac_sha256("x-hub-signature-256", "sha256=", SignatureEncoding::Hex);
    /// let mut request = http::Request::post("/webhooks/meta").body(Bytes::from("{}")).unwrap();
    /// meta.sign(&mut request, "app-secret-of-the-test", Timestamp::default());
    /// let webhook = civic_messaging::webhook::Request::from(request);
    /// ```
    pub fn sign(&self, request: &mut http::Request<Bytes>, secret: &str, now: Timestamp) {
        (self.sign)(request, secret, now);
    }
}

fn insert(request: &mut http::Request<Bytes>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        request.headers_mut().insert(name, value);
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("covers", &self.covers)
            .field("tolerance", &self.tolerance)
            .finish_non_exhaustive()
    }
}
