//! Webhook requests, whose contents cannot be read until their signature is verified.
//!
//! A [`Request`] holds the request as received; its body and query cannot be read. [`Request::open`] passes them to a
//! [`Scheme`], and only what the scheme accepts is returned, as [`Verified`].
//!
//! ```
//! use civic_messaging::{Channel, Mock};
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let sms = Mock::sms();
//! let forged = http::Request::post("/webhooks/sms").body(r#"{"text":"Hello"}"#)?;
//! let refused = sms.receive(&forged.into()).await.unwrap_err();
//! assert_eq!(refused.webhook_status(), 401);
//! # Ok::<(), http::Error>(()) }).unwrap();
//! ```

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::model::address::{Address, Phone};
use crate::model::clock::{Clock, SystemClock, Timestamp};
use crate::model::digest::Digest;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::event::{Envelope, Event, Inbound, OptOutScope, Raw, with_opt_outs};
use crate::model::id::{AccountId, Masked};
use crate::model::info::Info;
use crate::model::secret::Secret;

mod form;
mod scheme;
pub use crate::model::id::CallbackUrl;
pub use form::Form;
pub use scheme::{Basic, BearerToken, HeaderToken, HmacSha256, QueryToken, SignatureEncoding, Unsigned};

/// The maximum length of a body in bytes: 4 MiB. Meta sends up to 3 MB.
pub const BODY_MAX: usize = 4 * 1024 * 1024;

/// A webhook request as received, not yet verified.
///
/// Create it from any server's `http::Request`. The webhook's public URL is a setting of the channels that need it, and
/// is never taken from a forwarded header.
#[derive(Clone)]
pub struct Request {
    method: Method,
    path_and_query: Box<str>,
    headers: HeaderMap,
    body: Bytes,
    arrived: Timestamp,
}

impl Request {
    /// Creates a request that arrived now.
    pub fn new<B: Into<Bytes>>(request: http::Request<B>) -> Self {
        let (parts, body) = request.into_parts();
        Self {
            method: parts.method,
            path_and_query: parts.uri.path_and_query().map_or("/", |p| p.as_str()).into(),
            headers: parts.headers,
            body: body.into(),
            arrived: SystemClock::new().now(),
        }
    }

    /// Sets the time of arrival, for queued requests and for tests.
    #[must_use]
    pub fn arrived_at(mut self, at: Timestamp) -> Self {
        self.arrived = at;
        self
    }

    /// Returns the time of arrival.
    pub fn arrived(&self) -> Timestamp {
        self.arrived
    }

    /// Returns the method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Returns the path without the query.
    pub fn path(&self) -> &str {
        self.path_and_query.split_once('?').map_or(&self.path_and_query, |(path, _)| path)
    }

    /// Verifies the request with a scheme and returns its contents. There is no other access to its body and query.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] over [`BODY_MAX`], before anything is parsed; [`ErrorKind::Unauthenticated`] if the
    /// scheme refuses. [`Error::webhook_status`] is the status for the response.
    pub fn open(&self, scheme: &dyn Scheme) -> Result<Opened> {
        if self.body.len() > BODY_MAX {
            return Err(Error::new(ErrorKind::TooLarge, "the webhook's body is over 4 MiB"));
        }
        match scheme.verify(Unverified(self)) {
            Verification::Open(verified) => Ok(Opened::Verified(verified)),
            Verification::Answer(response) => {
                Ok(Opened::Handshake(Received { events: Vec::new(), response, discarded: Vec::new() }))
            }
            Verification::NeedKey(url) => Ok(Opened::NeedKey(url)),
            Verification::Refused(refusal) => {
                let what = match (refusal, scheme.covers()) {
                    (Refusal::Wrong, SignatureCoverage::UrlAndForm) => {
                        "the webhook's signature is wrong: check the secret, and that public_url is the address that the \
                         gateway calls"
                    }
                    _ => refusal.description(),
                };
                Err(Error::new(ErrorKind::Unauthenticated, what).with_webhook_status(refusal.status()))
            }
        }
    }

    /// Verifies the request, for a gateway without a handshake whose scheme needs no external key.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), and [`ErrorKind::Unsupported`] for anything but events.
    pub fn verified(&self, scheme: &dyn Scheme) -> Result<Verified> {
        match self.open(scheme)? {
            Opened::Verified(verified) => Ok(verified),
            Opened::Handshake(_) | Opened::NeedKey(_) => Err(Error::unsupported("the gateway has no handshake")),
        }
    }
}

impl<B: Into<Bytes>> From<http::Request<B>> for Request {
    fn from(request: http::Request<B>) -> Self {
        Self::new(request)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("method", &self.method).field("len", &self.body.len()).finish_non_exhaustive()
    }
}

/// The result of opening a request.
#[derive(Debug)]
#[non_exhaustive]
pub enum Opened {
    /// The gateway's handshake, with its response. It has no events.
    Handshake(Received),
    /// The scheme needs the key at this URL, which the adapter must fetch and check before opening again.
    NeedKey(String),
    /// Verified events.
    Verified(Verified),
}

/// The contents of a request, visible only to a [`Scheme`].
#[derive(Debug)]
pub struct Unverified<'a>(&'a Request);

impl<'a> Unverified<'a> {
    /// Returns the method.
    pub fn method(&self) -> &'a Method {
        &self.0.method
    }

    /// Returns the path and query, encoded as received.
    pub fn path_and_query(&self) -> &'a str {
        &self.0.path_and_query
    }

    /// Returns the query without its `?`, or an empty string.
    pub fn query(&self) -> &'a str {
        self.0.path_and_query.split_once('?').map_or("", |(_, query)| query)
    }

    /// Returns one parameter of the query, decoded.
    pub fn query_parameter(&self, name: &str) -> Option<Cow<'a, str>> {
        form_urlencoded::parse(self.query().as_bytes()).find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// Returns the headers.
    pub fn headers(&self) -> &'a HeaderMap {
        &self.0.headers
    }

    /// Returns one header as text.
    pub fn header(&self, name: &HeaderName) -> Option<&'a str> {
        self.0.headers.get(name)?.to_str().ok()
    }

    /// Returns the body.
    pub fn body(&self) -> &'a Bytes {
        &self.0.body
    }

    /// Returns the time of arrival.
    pub fn arrived(&self) -> Timestamp {
        self.0.arrived
    }
}

/// A signature scheme: proves that a webhook is from the gateway.
///
/// A scheme compares in constant time, verifies before it parses, and uses no clock but [`Unverified::arrived`].
/// [`HmacSha256`], [`BearerToken`], [`HeaderToken`], [`Basic`], [`QueryToken`] and [`Unsigned`] are shared by several
/// gateways. A gateway with a scheme of its own needs these few lines, here for a token in a header:
///
/// ```
/// use civic_messaging::webhook::{SignatureCoverage, Refusal, Scheme, Unverified, SigningSecret, Verification, Verified};
/// use http::HeaderName;
///
/// #[derive(Debug)]
/// struct HeaderToken(Vec<SigningSecret>);
///
/// impl Scheme for HeaderToken {
///     fn verify(&self, unverified: Unverified<'_>) -> Verification {
///         let Some(token) = unverified.headers().get(HeaderName::from_static("x-acme-token")) else {
///             return Verification::Refused(Refusal::Missing);
///         };
///         match self.0.iter().find(|secret| secret.secret().matches(token.as_bytes())) {
///             Some(secret) => Verification::Open(Verified::new(&unverified, unverified.body().clone(), secret)),
///             None => Verification::Refused(Refusal::Wrong),
///         }
///     }
///
///     fn covers(&self) -> SignatureCoverage {
///         SignatureCoverage::Nothing
///     }
/// }
/// ```
pub trait Scheme: fmt::Debug + Send + Sync {
    /// Verifies a request.
    fn verify(&self, unverified: Unverified<'_>) -> Verification;

    /// Returns the part of a request that the signature covers.
    fn covers(&self) -> SignatureCoverage;
}

/// The part of a request that a scheme's signature covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureCoverage {
    /// The raw body.
    Body,
    /// Named claims inside the body.
    Claims,
    /// Nothing: a shared token authenticates the sender, not the content.
    Nothing,
    /// The URL with its query, and the fields of the form.
    UrlAndForm,
}

/// The result of verifying a request.
#[derive(Debug)]
#[non_exhaustive]
pub enum Verification {
    /// A handshake, with its response.
    Answer(Response),
    /// Needs the key at this URL.
    NeedKey(String),
    /// Verified.
    Open(Verified),
    /// Refused.
    Refused(Refusal),
}

/// The reason why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no signature.
    Missing,
    /// The signature is older or newer than the scheme allows.
    Stale,
    /// The signature is wrong.
    Wrong,
}

impl Refusal {
    fn description(self) -> &'static str {
        match self {
            Self::Missing => "the webhook has no signature",
            Self::Stale => "the webhook's signature has expired",
            Self::Wrong => "the webhook's signature is wrong",
        }
    }

    /// Returns the reason why a channel refused a webhook, or `None` for any other error.
    #[cfg_attr(
        not(any(feature = "postgres", feature = "sqlite-system")),
        allow(dead_code, reason = "the switchboard reads it")
    )]
    pub(crate) fn from_error(error: &Error) -> Option<Self> {
        match error.webhook_status() {
            _ if error.kind() != ErrorKind::Unauthenticated => None,
            StatusCode::UNAUTHORIZED => Some(Self::Missing),
            _ if error.what() == Self::Stale.description() => Some(Self::Stale),
            status => status.is_client_error().then_some(Self::Wrong),
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Missing => StatusCode::UNAUTHORIZED,
            Self::Stale | Self::Wrong => StatusCode::FORBIDDEN,
        }
    }
}

/// The verified part of a request.
///
/// Only a [`Scheme`] creates one. It records which secret matched and which accounts that secret owns: an adapter keeps
/// the events of those, and counts the others as [`Received::discarded`].
pub struct Verified {
    body: Bytes,
    query: Option<Box<str>>,
    form: Option<Form>,
    ownership: Ownership,
    claims: Option<serde_json::Value>,
    arrived: Timestamp,
}

impl Verified {
    /// Creates a verified body, with the secret that matched.
    pub fn new(unverified: &Unverified<'_>, body: Bytes, secret: &SigningSecret) -> Self {
        Self {
            body,
            query: None,
            form: None,
            ownership: secret.ownership.clone(),
            claims: None,
            arrived: unverified.arrived(),
        }
    }

    /// Returns the envelope of an event that is the whole webhook, of the channel's own account, at the time of
    /// arrival.
    pub fn envelope(&self, info: &Info) -> Envelope {
        let raw = if self.body().is_empty() {
            // A GET request has only a query.
            Raw::new(Bytes::copy_from_slice(self.query().unwrap_or_default().as_bytes()))
        } else {
            Raw::new(self.body().clone())
        };
        info.envelope(self.arrived(), raw)
    }

    /// Adds the query, if the signature covers it, or if the gateway calls by GET and has only a token.
    ///
    /// Remove a token from it first: the query is kept in [`Raw`] and in stores.
    #[must_use]
    pub fn with_query(mut self, query: &str) -> Self {
        self.query = Some(query.into());
        self
    }

    /// Adds the form that the scheme decoded for verification.
    #[must_use]
    pub fn with_form(mut self, form: Form) -> Self {
        self.form = Some(form);
        self
    }

    /// Adds the claims of the signature.
    #[must_use]
    pub fn with_claims(mut self, claims: serde_json::Value) -> Self {
        self.claims = Some(claims);
        self
    }

    /// Returns the body as received.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Returns the query, if the signature covers it.
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// Returns the form, if the scheme decoded one.
    pub fn form(&self) -> Option<&Form> {
        self.form.as_ref()
    }

    /// Returns the fields of the body's form, or of the query if there is no body, as for a gateway that calls by GET.
    ///
    /// `None` if there are more than [`Form::FIELDS_MAX`].
    pub fn fields(&self) -> Option<Form> {
        match self.body.as_ref() {
            [] => Form::decode(self.query.as_deref().unwrap_or_default().as_bytes()),
            body => Form::decode(body),
        }
    }

    /// Returns one of the [`fields`](Self::fields) unless it is empty.
    ///
    /// For several fields, or one that may be empty, such as a text, decode them once.
    pub fn field(&self, name: &str) -> Option<String> {
        Some(self.fields()?.some(name)?.into_owned())
    }

    /// Returns one of the claims of the signature.
    pub fn claim<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        T::deserialize(self.claims.as_ref()?.get(name)?).ok()
    }

    /// Returns the time of arrival.
    pub fn arrived(&self) -> Timestamp {
        self.arrived
    }

    /// Returns `true` if the matched secret owns this account, and so may create events for it.
    pub fn owns(&self, account: &str) -> bool {
        self.ownership.account(account)
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified").field("len", &self.body.len()).field("owns", &self.ownership).finish_non_exhaustive()
    }
}

/// A secret that verifies webhooks, and the accounts it may create events for.
///
/// In a configuration it is a string, which owns the channel's own account, or a table with `secret` and `accounts`. To
/// rotate, list the old one and the new one.
#[derive(Clone, Debug)]
pub struct SigningSecret {
    secret: Secret,
    ownership: Ownership,
}

#[derive(Clone, Debug)]
enum Ownership {
    /// The channel's accounts, not yet filled in.
    Channel,
    Accounts(Arc<[AccountId]>),
}

impl Ownership {
    fn account(&self, account: &str) -> bool {
        match self {
            Self::Channel => false,
            Self::Accounts(accounts) => accounts.iter().any(|owned| owned.as_str() == account),
        }
    }
}

impl SigningSecret {
    /// Creates a secret that owns the account of its channel.
    pub fn new(secret: Secret) -> Self {
        Self { secret, ownership: Ownership::Channel }
    }

    /// Creates a secret that owns exactly these accounts.
    pub fn for_accounts(secret: Secret, accounts: impl IntoIterator<Item = AccountId>) -> Self {
        Self { secret, ownership: Ownership::Accounts(accounts.into_iter().collect()) }
    }

    /// Returns the secret.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Assigns the channel's accounts, unless the secret names its own.
    #[must_use]
    pub fn or_owns(mut self, accounts: &[AccountId]) -> Self {
        if matches!(self.ownership, Ownership::Channel) {
            self.ownership = Ownership::Accounts(accounts.into());
        }
        self
    }
}

impl From<Secret> for SigningSecret {
    fn from(secret: Secret) -> Self {
        Self::new(secret)
    }
}

impl<'de> Deserialize<'de> for SigningSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Setting {
            Plain(String),
            Owning { secret: String, accounts: Vec<AccountId> },
        }
        let secret = |text| Secret::new(text).map_err(serde::de::Error::custom);
        Ok(match Setting::deserialize(deserializer)? {
            Setting::Plain(text) => Self::new(secret(text)?),
            Setting::Owning { secret: text, accounts } => Self::for_accounts(secret(text)?, accounts),
        })
    }
}

/// An identity for a channel's verification: channels with equal verifiers accept the same requests.
///
/// Channels often share a webhook, such as all numbers of a Meta app. One of them then decides for all whether a
/// request is accepted, and [`Received::discarded`] names the accounts whose channels have to receive it too. See
/// [`Channel::verifier`](crate::Channel::verifier).
#[derive(Clone)]
pub struct Verifier {
    #[cfg_attr(
        not(any(feature = "postgres", feature = "sqlite-system")),
        allow(dead_code, reason = "the switchboard reads it")
    )]
    scheme: Digest,
    accounts: Arc<[AccountId]>,
}

impl Verifier {
    /// Creates a verifier from the scheme's settings and its secrets, which own these accounts only.
    ///
    /// The settings are everything else that the scheme's result depends on: a header's name, a public URL, a handshake
    /// token. `None` without a secret, and if the secrets own different accounts, because the matching secret would
    /// then decide which events a request may contain.
    pub fn new<'s>(settings: impl IntoIterator<Item = &'s str>, secrets: &[SigningSecret]) -> Option<Self> {
        let Ownership::Accounts(accounts) = &secrets.first()?.ownership else { return None };
        let mut described = Vec::new();
        let mut add = |text: &str| {
            described.extend_from_slice(&text.len().to_le_bytes());
            described.extend_from_slice(text.as_bytes());
        };
        settings.into_iter().for_each(&mut add);
        // Separates settings from secrets.
        add("");
        for secret in secrets {
            match &secret.ownership {
                Ownership::Accounts(owned) if owned == accounts => add(secret.secret.expose()),
                _ => return None,
            }
        }
        Some(Self { scheme: Digest::sha256(&described), accounts: accounts.clone() })
    }

    /// Returns `true` if both accept the same requests.
    #[cfg_attr(
        not(any(feature = "postgres", feature = "sqlite-system")),
        allow(dead_code, reason = "the switchboard reads it")
    )]
    pub(crate) fn is_equivalent(&self, other: &Self) -> bool {
        self.scheme == other.scheme
    }

    /// Returns the accounts that a request may contain events for.
    #[cfg_attr(
        not(any(feature = "postgres", feature = "sqlite-system")),
        allow(dead_code, reason = "the switchboard reads it")
    )]
    pub(crate) fn accounts(&self) -> &[AccountId] {
        &self.accounts
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The digest of a weak secret could be brute-forced.
        f.debug_struct("Verifier").field("accounts", &self.accounts).finish_non_exhaustive()
    }
}

/// Deserialises one secret, or a list of them, for a gateway's `Config`.
///
/// ```
/// use civic_messaging::webhook::{self, SigningSecret};
///
/// #[derive(serde::Deserialize)]
/// struct Config {
///     #[serde(deserialize_with = "webhook::secrets")]
///     secrets: Vec<SigningSecret>,
/// }
/// let one: Config = serde_json::from_str(r#"{ "secrets": "signing-secret" }"#).unwrap();
/// let two: Config = serde_json::from_str(r#"{ "secrets": ["old-secret", "new-secret"] }"#).unwrap();
/// assert_eq!((one.secrets.len(), two.secrets.len()), (1, 2));
/// ```
///
/// # Errors
/// The deserialiser's, with the rule that a secret breaks.
pub fn secrets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SigningSecret>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        Many(Vec<serde_json::Value>),
        One(serde_json::Value),
    }
    let values = match OneOrMany::deserialize(deserializer)? {
        OneOrMany::Many(values) => values,
        OneOrMany::One(value) => vec![value],
    };
    values.into_iter().map(|value| SigningSecret::deserialize(value).map_err(serde::de::Error::custom)).collect()
}

/// The events of a webhook, and the response for its gateway.
#[derive(Debug)]
#[non_exhaustive]
pub struct Received {
    /// The events in the gateway's order.
    pub events: Vec<Event>,
    /// The response. Return it only once the events are durable: the gateway will not send them again.
    pub response: Response,
    /// The events discarded because the secret does not own their account, for example if one Meta app serves several
    /// numbers.
    ///
    /// Pass the same request to the channels with these accounts in [`Info::account`](crate::Info::account). Store the
    /// events of all of them, then return the first one's response; if another fails, return its
    /// [`Error::webhook_status`](crate::Error::webhook_status): the gateway redelivers everything, and [`Event::id`]
    /// identifies the duplicates. Events that every channel discards, and those without an account, belong to none.
    ///
    /// ```
    /// use civic_messaging::{Channel, Error, Mock};
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// # let secrets = || [civic_messaging::webhook::SigningSecret::new(civic_messaging::Secret::new("shared-by-both").unwrap())];
    /// # let [enquiries, leader] = ["enquiries", "leader"].map(|account| {
    /// #     Mock::whatsapp().account(account).webhook_secrets(secrets())
    /// # });
    /// # let request = leader.arrives("07700 900123", "Thank you");
    /// let received = enquiries.receive(&request).await?;
    /// let mut events = received.events;
    /// for channel in [&leader] {
    ///     if received.discarded.iter().any(|one| one.account.as_ref() == Some(&channel.info().account)) {
    ///         events.extend(channel.receive(&request).await?.events);
    ///     }
    /// }
    /// assert_eq!((events.len(), received.response.status.as_u16()), (1, 200));
    /// # Ok::<(), Error>(()) }).unwrap();
    /// ```
    pub discarded: Vec<Discarded>,
}

/// The discarded events of one account: see [`Received::discarded`].
///
/// `Debug` masks the account: a malformed webhook may have personal data in its place.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq)]
pub struct Discarded {
    /// The account, or `None` if they name none.
    pub account: Option<AccountId>,
    /// The number of events, as far as they could be counted.
    pub events: usize,
}

impl fmt::Debug for Discarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A malformed webhook may have personal data in place of an account.
        let account = self.account.as_ref().map(|account| Masked(account.as_str()).to_string());
        f.debug_struct("Discarded").field("account", &account).field("events", &self.events).finish()
    }
}

impl Discarded {
    /// Creates a count of discarded events.
    pub fn new(account: Option<AccountId>, events: usize) -> Self {
        Self { account, events }
    }
}

impl Received {
    /// Creates a result with these events and an empty 200 response.
    ///
    /// Adds an [`OptOut`](crate::event::OptOut) for each STOP or START message, for every adapter alike.
    pub fn new(events: Vec<Event>) -> Self {
        Self { events: with_opt_outs(events), response: Response::ok(), discarded: Vec::new() }
    }

    /// Returns the messages that need a reply, by [`Event::as_answerable`], except those of a person who sends STOP in
    /// this webhook.
    ///
    /// Gateways redeliver events: deduplicate by [`Event::id`] first.
    pub fn answerable(&self) -> impl Iterator<Item = &Inbound> {
        let mut resumed = HashSet::new();
        // By each identifier of the person: a phone number, a user id.
        let mut stopped: HashMap<&str, Vec<&Address>> = HashMap::new();
        for event in &self.events {
            match event {
                Event::OptOut(start) if start.resume => resumed.extend(&start.inbound),
                Event::OptOut(stop) if stop.scope == OptOutScope::All => {
                    identifiers(&stop.from).for_each(|name| stopped.entry(name).or_default().push(&stop.from));
                }
                _ => {}
            }
        }
        let has_stopped = move |from: &Address| {
            identifiers(from).filter_map(|name| stopped.get(name)).flatten().any(|stopped| stopped.same_person(from))
        };
        let answerable = self.events.iter().filter_map(Event::as_answerable);
        answerable.filter(move |inbound| !resumed.contains(&inbound.id) && !has_stopped(&inbound.from))
    }

    /// Sets the response.
    #[must_use]
    pub fn with_response(mut self, response: Response) -> Self {
        self.response = response;
        self
    }

    /// Returns the number of discarded events over all accounts.
    pub fn discarded_events(&self) -> usize {
        self.discarded.iter().map(|discarded| discarded.events).sum()
    }

    /// Adds discarded events.
    #[must_use]
    pub fn with_discarded(mut self, account: Option<AccountId>, events: usize) -> Self {
        self.discarded.push(Discarded::new(account, events));
        self
    }
}

fn identifiers(person: &Address) -> impl Iterator<Item = &str> {
    std::iter::once(person.expose()).chain(person.as_phone().map(Phone::as_str))
}

/// The HTTP response to a webhook.
///
/// ```
/// use civic_messaging::webhook::Response;
///
/// let response: http::Response<bytes::Bytes> = Response::ok().into();
/// assert_eq!(response.status(), 200);
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The media type of the body, if there is a body.
    pub content_type: Option<&'static str>,
    /// The body.
    pub body: Bytes,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A handshake's body proves the secret.
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("content_type", &self.content_type)
            .field("len", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl Response {
    /// An empty 200.
    pub fn ok() -> Self {
        Self { status: StatusCode::OK, content_type: None, body: Bytes::new() }
    }

    /// An empty response with this status, such as that of [`Error::webhook_status`].
    pub fn status(status: StatusCode) -> Self {
        Self { status, ..Self::ok() }
    }

    /// A 200 with a body.
    pub fn body(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { content_type: Some(content_type), body: body.into(), ..Self::ok() }
    }
}

impl From<Response> for http::Response<Bytes> {
    fn from(response: Response) -> Self {
        let mut http = Self::new(response.body);
        *http.status_mut() = response.status;
        if let Some(content_type) = response.content_type {
            http.headers_mut().insert(::http::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        http
    }
}

impl From<Error> for Response {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl From<&Error> for Response {
    fn from(error: &Error) -> Self {
        Self::status(error.webhook_status())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_long_body_is_refused_before_the_scheme_runs() {
        #[derive(Debug)]
        struct Panics;
        impl Scheme for Panics {
            fn verify(&self, _: Unverified<'_>) -> Verification {
                panic!("it was read")
            }
            fn covers(&self) -> SignatureCoverage {
                SignatureCoverage::Nothing
            }
        }
        let request = Request::new(http::Request::new(vec![b' '; BODY_MAX + 1]));
        let error = request.open(&Panics).unwrap_err();
        assert_eq!((error.kind(), error.webhook_status()), (ErrorKind::TooLarge, StatusCode::PAYLOAD_TOO_LARGE));
    }

    #[tokio::test]
    async fn answerable_skips_echoes_and_stop() {
        use crate::model::event::InboundContent;
        use crate::{Channel, Mock};
        let sms = Mock::sms();
        let answered = async |text: &str, echo: bool| {
            let content = InboundContent::Text(text.to_owned());
            sms.arrives_with("07700 900123", content);
            let mut events = sms.poll(None).await.unwrap().events;
            let Some(Event::Inbound(mut inbound)) = events.drain(..).rfind(|event| event.as_inbound().is_some()) else {
                panic!("nothing arrived")
            };
            inbound.echo = echo;
            Received::new(vec![inbound.into()]).answerable().count()
        };
        assert_eq!(answered("When is my bin day?", false).await, 1);
        assert_eq!(answered("When is my bin day?", true).await, 0);
        assert_eq!(answered("STOP", false).await, 0);
    }

    #[tokio::test]
    async fn answerable_skips_people_who_stop_and_reactions() {
        use crate::model::event::InboundContent;
        use crate::{Channel, Mock};
        let sms = Mock::sms();
        sms.arrives("07700 900123", "When is my bin day?");
        sms.arrives("07700 900456", "And mine?");
        sms.arrives("07700 900123", "STOP");
        sms.arrives("07700 900789", "START");
        let reaction = InboundContent::Reaction { to: "m1".into(), emoji: Some("👍".to_owned()) };
        sms.arrives_with("07700 900456", reaction);
        let received = Received::new(sms.poll(None).await.unwrap().events);
        let texts: Vec<_> = received.answerable().map(Inbound::text).collect();
        assert_eq!(texts, [Some("And mine?")]);
    }

    #[test]
    fn request_debug_hides_query_and_body() {
        let request = http::Request::post("/hook?token=canary-query").body("canary-body").unwrap();
        let request = Request::from(request);
        assert_eq!(request.path(), "/hook");
        assert!(!format!("{request:?}").contains("canary"));
    }

    #[test]
    fn secret_owns_named_accounts_or_the_channels() {
        let plain: SigningSecret = serde_json::from_str(r#""signing-secret""#).unwrap();
        assert!(!plain.ownership.account("1"));
        assert!(plain.or_owns(&["1".into()]).ownership.account("1"));
        let named: SigningSecret = serde_json::from_str(r#"{"secret":"signing-secret","accounts":["2"]}"#).unwrap();
        let named = named.or_owns(&["1".into()]);
        assert!(named.ownership.account("2") && !named.ownership.account("1"));
        assert!(serde_json::from_str::<SigningSecret>(r#""short""#).unwrap_err().to_string().contains("8 bytes"));
    }
}
