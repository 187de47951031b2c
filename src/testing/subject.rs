//! What the suite is told of an adapter.

use std::fmt;
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
use crate::model::error::{ErrorKind, Outcome, Result};
use crate::model::event::{DeliveryState, Event, Inbound};
use crate::model::health::CheckStatus;
use crate::model::lookup::LookupQuery;
use crate::model::message::{Media, MediaRef, Message};
use crate::model::poll::Cursor;
use crate::webhook::{SignatureCoverage, SignatureEncoding, SigningSecret};

/// An adapter, as the conformance suite is told of it.
///
/// It is a description: a unit struct does. The suite connects it many times, to [doubles](super::FakeGateway) of its gateway
/// and with secrets of the suite's own, and chooses its checks by what [`Info::capability`](crate::Info::capability)
/// declares: everything that is declared must be recorded here, and everything that is not must be refused.
///
/// The worked one is `examples/custom_gateway.rs`; the guide on [the page of this module](crate::testing) says how to record.
pub trait Subject: Send + Sync {
    /// Builds the channel, with all of this set.
    ///
    /// # Errors
    /// Those of the adapter. Without a webhook secret it may refuse to be built.
    fn connect(&self, setup: &Setup) -> Result<Arc<dyn Channel>>;

    /// Every credential that [`connect`](Self::connect) puts in: none may show anywhere. Those of the [`Setup`] are
    /// known.
    fn secrets(&self) -> Vec<String>;

    /// Calls, what they ask of the gateway, and what comes of them.
    ///
    /// Of each thing that is declared at least one; of sends one that is accepted for each kind of content, and
    /// refusals as the gateway words them.
    fn exchanges(&self) -> Vec<Exchange>;

    /// Webhooks as the gateway sends them, and the events that they bring. By default none: it sends only.
    fn webhooks(&self) -> Vec<Webhook> {
        Vec::new()
    }

    /// How the gateway proves its webhooks. By default not at all.
    fn signer(&self) -> Signer {
        Signer::unsigned()
    }

    /// The time at which everything was recorded; the channel's clock begins there. By default some day of November 2026.
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(1_795_000_000)
    }

    /// Whether it is a channel in memory, which reaches no gateway: what is asked of the wire then does not apply. By default
    /// it is not.
    fn in_memory(&self) -> bool {
        false
    }
}

/// What a [`Subject`] builds its channel with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Setup {
    /// Where its gateway is.
    pub base_url: String,
    /// Its transport, clock and stores.
    pub context: Context,
    /// The secrets that prove webhooks: one, or several during a rotation, or none.
    pub webhook_secrets: Vec<SigningSecret>,
    /// The clock of the context.
    pub(super) clock: VirtualClock,
}

/// A call of a channel, the requests that it makes, and what comes of it.
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
            Self::Indicator(..) => "signal",
            Self::Upload(..) => "upload_media",
        }
    }
}

/// What is to come of a call.
#[derive(Clone, Debug)]
pub(super) enum Expectation {
    NotFound,
    Accepted(Vec<String>),
    Brings(Vec<ExpectedEvent>),
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
    Graded(Vec<(&'static str, CheckStatus)>),
    Held(String),
}

impl Expectation {
    /// What is to come of it, in words.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::NotFound => "not found",
            Self::Accepted(_) => "accepted",
            Self::Brings(_) => "a page of events",
            Self::Inconclusive => "inconclusive",
            Self::Done => "done",
            Self::Fails { .. } => "a failure",
            Self::File(_) => "a file",
            Self::Found(_) => "found",
            Self::Graded(_) => "a health",
            Self::Held(_) => "an upload that is held",
        }
    }
}

impl Exchange {
    fn new(call: Call) -> Self {
        Self { call, stored: Vec::new(), steps: Vec::new(), result: Expectation::Done }
    }

    /// A message is sent.
    pub fn send(message: Message) -> Self {
        Self::new(Call::Send(message))
    }

    /// A file of this media type is uploaded.
    pub fn upload(media: Media, mime: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self::new(Call::Upload(media, mime.into(), bytes.into()))
    }

    /// A file is fetched. In its `url`, and in the answers of its steps, `{base}` stands for the base URL.
    pub fn fetch(media: MediaRef) -> Self {
        Self::new(Call::Fetch(media))
    }

    /// The gateway is polled.
    pub fn poll(after: Option<Cursor>) -> Self {
        Self::new(Call::Poll(after))
    }

    /// A message is looked up.
    pub fn look_up(sent: LookupQuery) -> Self {
        Self::new(Call::LookUp(sent))
    }

    /// A signal is shown for this message.
    pub fn send_indicator(inbound: Inbound, signal: Indicator) -> Self {
        Self::new(Call::Indicator(Box::new(inbound), signal))
    }

    /// The gateway is asked for its health.
    pub fn health() -> Self {
        Self::new(Call::Health)
    }

    /// It makes this request, after those that were named before. In a send the last one is the send itself.
    pub fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// The media store of the context holds this file, of this media type.
    pub fn stored(mut self, mime: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        self.stored.push((mime.into(), bytes.into()));
        self
    }

    /// A send is accepted, under these ids: one for each part.
    pub fn accepts<I: Into<String>>(self, ids: impl IntoIterator<Item = I>) -> Self {
        self.with(Expectation::Accepted(ids.into_iter().map(Into::into).collect()))
    }

    /// It fails so. A send was definitely refused, and no second try cures it, unless
    /// [`unknown`](Self::unknown) or [`retryable`](Self::retryable) says otherwise.
    pub fn fails(self, kind: ErrorKind) -> Self {
        let outcome = matches!(self.call, Call::Send(_)).then_some(Outcome::Rejected);
        let retryable = matches!(self.call, Call::Send(_)).then_some(false);
        self.with(Expectation::Fails { kind, outcome, code: None, retryable, wait: None })
    }

    /// The failure has this code.
    pub fn code(mut self, expected: impl Into<String>) -> Self {
        if let Expectation::Fails { code, .. } = &mut self.result {
            *code = Some(expected.into());
        }
        self
    }

    /// The failed send may be tried again.
    pub fn retryable(mut self) -> Self {
        if let Expectation::Fails { retryable, .. } = &mut self.result {
            *retryable = Some(true);
        }
        self
    }

    /// The failure says to wait for this long.
    pub fn waits(mut self, expected: Duration) -> Self {
        if let Expectation::Fails { wait, .. } = &mut self.result {
            *wait = Some(expected);
        }
        self
    }

    /// The failed send may have gone.
    pub fn unknown(self) -> Self {
        self.comes_to(Outcome::Unknown)
    }

    /// The failed send never left: what was to be done before it failed.
    pub fn not_sent(self) -> Self {
        self.comes_to(Outcome::NotSent)
    }

    fn comes_to(mut self, expected: Outcome) -> Self {
        if let Expectation::Fails { outcome, .. } = &mut self.result {
            *outcome = Some(expected);
        }
        self
    }

    /// The upload is held under this id.
    pub fn holds(self, id: impl Into<String>) -> Self {
        self.with(Expectation::Held(id.into()))
    }

    /// The file is this.
    pub fn file(self, bytes: impl Into<Bytes>) -> Self {
        self.with(Expectation::File(bytes.into()))
    }

    /// The poll brings these events, oldest first.
    pub fn brings(self, told: impl IntoIterator<Item = ExpectedEvent>) -> Self {
        self.with(Expectation::Brings(told.into_iter().collect()))
    }

    /// The look-up finds the message in this state, or several of it.
    pub fn finds(self, states: impl IntoIterator<Item = DeliveryState>) -> Self {
        self.with(Expectation::Found(states.into_iter().collect()))
    }

    /// The gateway certainly does not have the message.
    pub fn not_found(self) -> Self {
        self.with(Expectation::NotFound)
    }

    /// The look-up proves nothing.
    pub fn inconclusive(self) -> Self {
        self.with(Expectation::Inconclusive)
    }

    /// The health holds this check, so graded. Name as many as there are.
    pub fn graded(self, name: &'static str, grade: CheckStatus) -> Self {
        let mut grades = match &self.result {
            Expectation::Graded(grades) => grades.clone(),
            _ => Vec::new(),
        };
        grades.push((name, grade));
        self.with(Expectation::Graded(grades))
    }

    fn with(self, result: Expectation) -> Self {
        Self { result, ..self }
    }

    /// The message, if it is a send that is accepted.
    pub(super) fn accepted(&self) -> Option<&Message> {
        match (&self.call, &self.result) {
            (Call::Send(message), Expectation::Accepted(_)) => Some(message),
            _ => None,
        }
    }
}

/// A webhook as the gateway sends it, before it is signed, and what comes of it.
///
/// ```
/// use civic_messaging::DeliveryState;
/// use civic_messaging::testing::{ExpectedEvent, Webhook};
///
/// let text = Webhook::json(r#"{"id":"M-1","from":"+447700900123","text":"When is my bin day?"}"#)
///     .brings([ExpectedEvent::text("M-1", "When is my bin day?")]);
/// let receipt = Webhook::json(r#"{"id":"A-1","status":"DELIVERED"}"#)
///     .brings([ExpectedEvent::delivery("A-1", DeliveryState::Delivered)]);
/// let strange = Webhook::json(r#"{"id":"M-2","colour":"green"}"#).brings([ExpectedEvent::unrecognised()]);
/// ```
#[derive(Clone)]
#[must_use]
pub struct Webhook {
    pub(super) request: http::Request<Bytes>,
    pub(super) signed: bool,
    pub(super) result: Reception,
}

/// A body made of a webhook secret.
pub(super) type Made = dyn Fn(&str) -> Bytes + Send + Sync;

#[derive(Clone)]
pub(super) enum Reception {
    /// Nothing in particular is said of its events.
    Any,
    Brings(Vec<ExpectedEvent>),
    /// So many events of accounts that the secret does not own.
    Discards(usize),
    Refused,
    Replies(StatusCode, Arc<Made>),
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("len", &self.request.body().len()).finish_non_exhaustive()
    }
}

impl Webhook {
    /// A POST of JSON.
    pub fn json(body: impl Into<Bytes>) -> Self {
        Self::post("application/json", body.into())
    }

    /// A POST of a form.
    pub fn form(body: impl Into<Bytes>) -> Self {
        Self::post("application/x-www-form-urlencoded", body.into())
    }

    /// A GET with this query.
    pub fn get(query: &str) -> Self {
        let query = query.trim_start_matches('?');
        let mut request = http::Request::new(Bytes::new());
        *request.uri_mut() = format!("/webhook?{query}").parse().unwrap_or_default();
        Self { request, signed: true, result: Reception::Any }
    }

    fn post(content_type: &'static str, body: Bytes) -> Self {
        let mut request = http::Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = http::Uri::from_static("/webhook");
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { request, signed: true, result: Reception::Any }
    }

    /// It goes to this path and query, in place of `/webhook`.
    pub fn to(mut self, path_and_query: &str) -> Self {
        *self.request.uri_mut() = path_and_query.parse().unwrap_or_default();
        self
    }

    /// It carries this header, which is no part of its proof.
    pub fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.request.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }

    /// It carries no proof as other webhooks do: a handshake.
    pub fn unsigned(mut self) -> Self {
        self.signed = false;
        self
    }

    /// It brings these events, in this order. An opt-out that is made of a STOP is one of them.
    pub fn brings(mut self, told: impl IntoIterator<Item = ExpectedEvent>) -> Self {
        self.result = Reception::Brings(told.into_iter().collect());
        self
    }

    /// It is of an account that the secret does not own: it brings nothing, and counts so many events as discarded.
    pub fn discards(mut self, events: usize) -> Self {
        self.result = Reception::Discards(events);
        self
    }

    /// It is answered exactly so, and brings no event: a handshake.
    pub fn replies(self, status: u16, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        self.replies_with(status, move |_| body.clone())
    }

    /// It is answered with what is made of the webhook secret, and brings no event: a handshake.
    pub fn replies_with<B: Into<Bytes>>(
        mut self,
        status: u16,
        body: impl Fn(&str) -> B + Send + Sync + 'static,
    ) -> Self {
        let body: Arc<Made> = Arc::new(move |secret| body(secret).into());
        self.result = Reception::Replies(StatusCode::from_u16(status).unwrap_or_default(), body);
        self
    }

    /// It is refused: a handshake with the wrong token.
    pub fn refused(mut self) -> Self {
        self.result = Reception::Refused;
        self
    }

    pub(super) fn told(&self) -> &[ExpectedEvent] {
        match &self.result {
            Reception::Brings(told) => told,
            _ => &[],
        }
    }
}

/// An event that a webhook or a poll brings.
#[derive(Clone, Debug)]
pub struct ExpectedEvent {
    pub(super) what: What,
    pub(super) id: Option<String>,
    pub(super) key: Option<String>,
    pub(super) text: Option<String>,
    pub(super) from: Option<String>,
    pub(super) state: Option<DeliveryState>,
    pub(super) at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Account,
    AddressChanged,
    Delivery,
    Inbound,
    OptOut,
    Unrecognised,
}

impl What {
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
    fn new(what: What) -> Self {
        Self { what, id: None, key: None, text: None, from: None, state: None, at: None }
    }

    /// A resident's message with this id, whatever it says.
    pub fn inbound(id: impl Into<String>) -> Self {
        Self { id: Some(id.into()), ..Self::new(What::Inbound) }
    }

    /// A resident's message with this id and text, or a file with this text.
    pub fn text(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..Self::inbound(id) }
    }

    /// It was written by the person at this address, spelled as [`Address::expose`](crate::Address::expose) does. The gravest
    /// mistake that an adapter can make is an answer to somebody else: record it for one message at least.
    #[must_use]
    pub fn from(mut self, address: impl Into<String>) -> Self {
        self.from = Some(address.into());
        self
    }

    /// It happened then, by the gateway's own time: seconds that are read as milliseconds are found only where one is
    /// recorded.
    #[must_use]
    pub fn now_at(mut self, at: Timestamp) -> Self {
        self.at = Some(at);
        self
    }

    /// How far the message with this id has got.
    pub fn delivery(id: impl Into<String>, state: DeliveryState) -> Self {
        Self { id: Some(id.into()), state: Some(state), ..Self::new(What::Delivery) }
    }

    /// How far all messages up to a moment have got.
    pub fn delivery_up_to(state: DeliveryState) -> Self {
        Self { state: Some(state), ..Self::new(What::Delivery) }
    }

    /// It carries the message's key back.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// A person wants no more messages, or some again.
    pub fn opt_out() -> Self {
        Self::new(What::OptOut)
    }

    /// A person is reached at another address.
    pub fn address_changed() -> Self {
        Self::new(What::AddressChanged)
    }

    /// Something about our own account.
    pub fn account() -> Self {
        Self::new(What::Account)
    }

    /// Something that the adapter does not know, and keeps.
    pub fn unrecognised() -> Self {
        Self::new(What::Unrecognised)
    }
}

/// How a gateway proves its webhooks: what it adds to a request, given a secret and the time.
#[derive(Clone)]
pub struct Signer {
    pub(super) covers: SignatureCoverage,
    pub(super) tolerance: Option<Duration>,
    pub(super) proves: bool,
    sign: Arc<Sign>,
}

type Sign = dyn Fn(&mut http::Request<Bytes>, &str, Timestamp) + Send + Sync;

impl Signer {
    /// A scheme of the gateway's own: what its proof covers, and how it is added to a request.
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
        Self { covers, tolerance: None, proves: true, sign: Arc::new(sign) }
    }

    /// HMAC-SHA256 of the body in a header, after a prefix such as `sha256=`.
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

    /// A fixed token as `Authorization: Bearer`.
    pub fn bearer() -> Self {
        Self::new(SignatureCoverage::Nothing, |request, secret, _| {
            insert(request, AUTHORIZATION, &format!("Bearer {secret}"))
        })
    }

    /// A fixed token in this parameter of the query.
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

    /// No proof: whoever knows the address can make events.
    pub fn unsigned() -> Self {
        Self { proves: false, ..Self::new(SignatureCoverage::Nothing, |_, _, _| {}) }
    }

    /// A proof that is good for this long before and after its time.
    #[must_use]
    pub fn tolerance(mut self, tolerance: Duration) -> Self {
        self.tolerance = Some(tolerance);
        self
    }

    /// Adds the proof to a request, under this secret and at this time: for tests of those who receive webhooks, too.
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
