//! The requests and responses that all adapters share.
//!
//! An adapter defines how requests are written and how its vendor reports errors. This module defines, once for all,
//! the [`Outcome`] of a response, its maximum length, the hosts that files are fetched from, and the masking of errors.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use http::{Method, Request, StatusCode, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::context::Context;
use crate::media::{FileUrl, HostRules, MediaStream};
use crate::model::clock::{Clock, Timestamp};
use crate::model::delivery::DeliveryState;
use crate::model::error::{Error, ErrorClass, ErrorKind, Outcome, Result};
use crate::model::event::Failure;
use crate::model::id::MessageId;
use crate::model::json::{self, Json, Text};
use crate::model::message::Accepted;
use crate::model::secret::Secret;
use crate::transport::{BaseUrl, Body, Deadline, PublicOnly, SendProgress, Transport, normal};

/// A gateway's API at a base URL.
///
/// Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Endpoint {
    gateway: &'static str,
    base: BaseUrl,
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    classes: &'static [(&'static str, ErrorClass)],
    overrides: Arc<BTreeMap<String, ErrorClass>>,
    vendor_error: fn(&Answer) -> VendorError<'_>,
}

/// A vendor's error body, as parsed by the adapter.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct VendorError<'a> {
    /// The vendor's code, the key of its table.
    pub code: Option<Cow<'a, str>>,
    /// The vendor's request id.
    pub request_id: Option<Cow<'a, str>>,
    /// The class of the code in this response, where the code alone does not determine it.
    pub class: Option<ErrorClass>,
    /// The vendor's documentation of the code.
    pub help: Option<Cow<'static, str>>,
    /// The adapter's own description, where the kind alone is not enough. Never text from the vendor.
    pub description: Option<&'static str>,
    /// The wait before a retry, where the vendor reports it outside the `Retry-After` header.
    pub retry_after: Option<Duration>,
}

impl<'a> VendorError<'a> {
    /// Creates an error with this code.
    pub fn new(code: impl Into<Cow<'a, str>>) -> Self {
        Self { code: Some(code.into()), ..Self::default() }
    }
}

/// A complete response.
#[derive(Clone)]
#[non_exhaustive]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body. Personal data.
    pub body: Bytes,
    gateway: &'static str,
    sending: bool,
}

impl Answer {
    /// Returns `true` for a web page, and for a refused send without a body: no gateway's API responds like that.
    fn is_page(&self) -> bool {
        let body = self.body.trim_ascii_start();
        self.sending && body.is_empty()
            || body.starts_with(b"<!")
            || body.get(..5).is_some_and(|tag| tag.eq_ignore_ascii_case(b"<html"))
    }

    /// Deserialises the JSON body.
    ///
    /// # Errors
    /// [`ErrorKind::Unexpected`] if it cannot be parsed. For a send the outcome is then unknown, because the status was
    /// a success.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|_| self.unreadable())
    }

    /// Returns a member of the JSON body's object, if it is a string or a number.
    pub fn member(&self, name: &str) -> Option<String> {
        let json = Json::new(&self.body);
        let members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(json.text()).ok()?;
        json::read::<Text<'_>>(members.get(name)?.get())?.to_text()
    }

    /// Returns the body as text.
    ///
    /// # Errors
    /// As [`json`](Self::json), if it is not UTF-8.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.body).map_err(|_| self.unreadable())
    }

    /// Returns the acceptance with these ids, one for each part of the message.
    ///
    /// # Errors
    /// As [`json`](Self::json), if there is no id, or one is empty or blank: the message could not be looked up later.
    pub fn accepted<I: Into<MessageId>>(&self, ids: impl IntoIterator<Item = I>) -> Result<Accepted> {
        Accepted::from_parts(self.gateway, ids, self.body.clone()).ok_or_else(|| self.unreadable())
    }

    /// Returns the error for a success response that cannot be parsed.
    pub fn unreadable(&self) -> Error {
        let outcome = if self.sending { Outcome::Unknown } else { Outcome::NotSent };
        Error::new(ErrorKind::Unexpected, "the response cannot be parsed")
            .with_gateway(self.gateway)
            .with_outcome(outcome)
            .with_status(self.status)
            .with_raw(self.body.clone())
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).field("len", &self.body.len()).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// The minimum upload rate before an upload times out, in bytes per second: half a megabit.
    pub const UPLOAD_RATE_MIN: u64 = 64 * 1024;

    /// The maximum length of a response in bytes.
    pub const ANSWER_MAX: usize = 8 * 1024 * 1024;

    /// Creates an endpoint.
    ///
    /// `classes` is the vendor's table of error codes, in which a row may list several with spaces between, and
    /// `vendor_error` parses the vendor's error bodies.
    pub fn new(
        gateway: &'static str,
        base: BaseUrl,
        context: &Context,
        classes: &'static [(&'static str, ErrorClass)],
        vendor_error: fn(&Answer) -> VendorError<'_>,
    ) -> Self {
        Self {
            gateway,
            base,
            transport: context.transport.clone(),
            clock: context.clock.clone(),
            classes,
            overrides: Arc::default(),
            vendor_error,
        }
    }

    /// Overrides the classes of some of the vendor's codes.
    #[must_use]
    pub fn with_overrides(mut self, overrides: BTreeMap<String, ErrorClass>) -> Self {
        self.overrides = Arc::new(overrides);
        self
    }

    /// Returns the gateway's name.
    pub fn gateway(&self) -> &'static str {
        self.gateway
    }

    /// Returns the base URL.
    pub fn base(&self) -> &BaseUrl {
        &self.base
    }

    /// Sends a message in one request, which a resident may see.
    ///
    /// # Errors
    /// [`Outcome::NotSent`] if nothing left this machine; [`Outcome::Rejected`] for a definite refusal;
    /// [`Outcome::Unknown`] for a broken connection or a timeout after something was sent, and for 408, 500, 502, 503
    /// and 504 unless the vendor documents that the code means "not accepted". If a vendor reports refusals with a 200,
    /// the adapter must detect that and pass the response to [`refused`](Self::refused).
    pub fn send(&self, request: Request<Body>) -> impl Future<Output = Result<Answer>> + Send {
        self.exchange(request, true)
    }

    /// Makes a call that no resident sees, so that an error never leaves a message's outcome unknown.
    ///
    /// # Errors
    /// According to the response, always with [`Outcome::NotSent`].
    ///
    /// A request with a body of more than 64 KiB, such as an upload, may take 30 seconds plus the body's time at
    /// [`UPLOAD_RATE_MIN`](Self::UPLOAD_RATE_MIN), unless it has a [`Deadline`]. Any other request has the transport's
    /// timeout.
    pub fn call(&self, request: Request<Body>) -> impl Future<Output = Result<Answer>> + Send {
        self.exchange(request, false)
    }

    /// Makes a GET call without a body.
    ///
    /// # Errors
    /// Those of [`call`](Self::call).
    pub async fn get(&self, path: &str, headers: HeaderMap) -> Result<Answer> {
        self.call(self.request(Method::GET, path, headers, Body::empty())?).await
    }

    /// Builds a POST request of JSON to a path under the base URL.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`] if the value cannot be serialised.
    pub fn json(&self, path: &str, mut headers: HeaderMap, value: &impl Serialize) -> Result<Request<Body>> {
        let body = serde_json::to_vec(value).map_err(|_| Error::invalid("content", "cannot be serialised to JSON"))?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.request(Method::POST, path, headers, body.into())
    }

    /// Builds a POST request of a form to a path under the base URL.
    ///
    /// A field is text or an `Option` of it; `None` is omitted.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the path is invalid.
    pub fn form<'p, V: Into<Option<&'p str>>>(
        &self,
        path: &str,
        mut headers: HeaderMap,
        pairs: impl IntoIterator<Item = (&'p str, V)>,
    ) -> Result<Request<Body>> {
        let pairs = pairs.into_iter().filter_map(|(name, value)| Some((name, value.into()?)));
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        self.request(Method::POST, path, headers, body.into())
    }

    /// Builds a request to a path under the base URL, with exactly these headers.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the path is invalid.
    pub fn request(&self, method: Method, path: &str, headers: HeaderMap, body: Body) -> Result<Request<Body>> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = self.uri(path)?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Returns the URI of a path under the base URL. Compute it once for a path that every send uses.
    ///
    /// A path that servers may interpret in different ways is refused: one with a `.`, `..` or empty segment, a
    /// backslash, or an encoded slash, in any spelling. Use [`segment`] to put an id into a path.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the path is invalid.
    pub fn uri(&self, path: &str) -> Result<Uri> {
        if normal(path.split_once('?').map_or(path, |(path, _)| path)).is_none() {
            return Err(Error::config("path", "must start with a slash and be unambiguous"));
        }
        let uri = Bytes::from([self.base.as_str(), path].concat());
        Uri::from_maybe_shared(uri).map_err(|_| Error::config("path", "is not a URL path"))
    }

    /// Fetches a file from one of the gateway's hosts, with the credential where it is allowed.
    ///
    /// Follows up to three redirects, each checked like the first URL. Decompresses nothing. On a host that receives
    /// the credential, an ambiguous path is refused, and [`Credential::access`] decides how the others are fetched.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`], with the field `media.url`, for a URL that is not the gateway's or that the credential
    /// refuses, [`ErrorKind::NotFound`] for a deleted file, [`ErrorKind::TooLarge`] over `limits.cap`.
    pub async fn fetch(
        &self,
        url: &str,
        hosts: &HostRules,
        credential: impl Credential,
        limits: FetchLimits,
    ) -> Result<MediaStream> {
        let fetched = self.fetch_within(url.to_owned(), hosts, credential, limits).await;
        fetched.map_err(|error| error.with_gateway(self.gateway))
    }

    async fn fetch_within(
        &self,
        mut url: String,
        hosts: &HostRules,
        credential: impl Credential,
        limits: FetchLimits,
    ) -> Result<MediaStream> {
        let started = self.clock.monotonic();
        for _ in 0..=3 {
            // The limit covers the whole fetch, redirects included.
            let left = limits.time.saturating_sub(self.clock.monotonic().saturating_sub(started));
            if left.is_zero() {
                return Err(Error::new(ErrorKind::Unavailable, "the media fetch timed out"));
            }
            let loopback = self.base.is_loopback();
            let (uri, trusted) = hosts.check(&url, &self.base)?;
            let access = if trusted { credential.access(&FileUrl::new(&uri)?) } else { Access::Anonymous };
            if access == Access::Refused {
                return Err(Error::new(ErrorKind::Forbidden, "is not a URL that the credential may be sent to")
                    .with_field("media.url"));
            }
            let mut request = Request::new(Body::empty());
            if access == Access::Credential
                && let Some(header) = credential.header(&uri)?
            {
                request.headers_mut().insert(credential.name(), header);
            }
            *request.uri_mut() = uri.clone();
            request.extensions_mut().insert(Deadline(left));
            if !loopback {
                request.extensions_mut().insert(PublicOnly);
            }
            let answer = self.transport.call(request).await.map_err(|e| self.unreachable(e, false))?;
            let (parts, body) = answer.into_parts();
            if parts.status.is_redirection() {
                let target = parts.headers.get(LOCATION).and_then(|to| to.to_str().ok()).filter(|to| !to.is_empty());
                let target = target.ok_or_else(|| Error::new(ErrorKind::Unexpected, "a redirect has no target"))?;
                url = redirected(&uri, target);
                continue;
            }
            if !parts.status.is_success() {
                let answer = self.read(parts, body, false).await?;
                // A file host may return web pages for deleted files.
                return Err(self.error_of(&answer, false));
            }
            let mime = parts.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(str::to_owned);
            let left = limits.time.saturating_sub(self.clock.monotonic().saturating_sub(started));
            return Ok(MediaStream::new(mime, body).capped(limits.cap)?.deadline(&*self.clock, left));
        }
        Err(Error::new(ErrorKind::Unexpected, "the file has too many redirects"))
    }

    /// Returns the class of a code: from the configuration, else from the vendor's table.
    pub fn class(&self, code: &str) -> Option<ErrorClass> {
        self.overrides.get(code).copied().or_else(|| row(self.classes, code))
    }

    /// Returns the reason of a failed delivery, classified as a refusal with this code would be.
    ///
    /// It is [`ErrorKind::Rejected`] if the code has no class. If a refusal could be retried, it is temporary.
    pub fn failure(&self, code: Option<&str>, detail: Option<String>) -> Failure {
        let class = code.and_then(|code| self.class(code)).unwrap_or(ErrorClass::new(ErrorKind::Rejected));
        let mut failure = Failure::new(class.kind).temporary(class.retryable).detail(detail);
        failure.code = code.map(str::to_owned);
        failure
    }

    async fn exchange(&self, mut request: Request<Body>, sending: bool) -> Result<Answer> {
        if request.extensions().get::<Deadline>().is_none()
            && let Some(time) = upload_time(request.body().len())
        {
            request.extensions_mut().insert(Deadline(time));
        }
        let answer = self.transport.call(request).await.map_err(|e| self.unreachable(e, sending))?;
        let (parts, body) = answer.into_parts();
        let answer = self.read(parts, body, sending).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(self.refused(&answer)) }
    }

    async fn read(&self, parts: http::response::Parts, mut body: Body, sending: bool) -> Result<Answer> {
        // A refusal stays definite without its explanation; a success that cannot be read is unknown.
        let refused = !parts.status.is_success() && !may_have_accepted(parts.status);
        let outcome = match sending {
            true if refused => Outcome::Rejected,
            true => Outcome::Unknown,
            false => Outcome::NotSent,
        };
        let mut answer =
            Answer { status: parts.status, headers: parts.headers, body: Bytes::new(), gateway: self.gateway, sending };
        let mut all: Option<BytesMut> = None;
        while let Some(piece) = body.chunk().await {
            let piece = match piece {
                Ok(piece) => piece,
                Err(_) if refused => break,
                Err(error) => {
                    return Err(error.with_gateway(self.gateway).with_status(answer.status).with_outcome(outcome));
                }
            };
            let received = all.as_ref().map_or(answer.body.len(), BytesMut::len);
            if received + piece.len() > Self::ANSWER_MAX {
                return Err(Error::new(ErrorKind::Unexpected, "the response is over 8 MiB")
                    .with_gateway(self.gateway)
                    .with_status(answer.status)
                    .with_outcome(outcome));
            }
            // Almost every response arrives in one piece, which needs no copy.
            match &mut all {
                None if answer.body.is_empty() => answer.body = piece,
                None => {
                    let mut both = BytesMut::from(&answer.body[..]);
                    both.extend_from_slice(&piece);
                    all = Some(both);
                }
                Some(all) => all.extend_from_slice(&piece),
            }
        }
        if let Some(all) = all {
            answer.body = all.freeze();
        }
        Ok(answer)
    }

    fn unreachable(&self, error: crate::transport::TransportError, sending: bool) -> Error {
        let outcome = match error.progress {
            SendProgress::MayHaveArrived if sending => Outcome::Unknown,
            _ => Outcome::NotSent,
        };
        let kind = match error.kind {
            crate::transport::TransportErrorKind::NotPublic => ErrorKind::Forbidden,
            crate::transport::TransportErrorKind::Body => ErrorKind::Unexpected,
            crate::transport::TransportErrorKind::Request => ErrorKind::Config,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, error.description()).with_gateway(self.gateway).with_outcome(outcome)
    }

    /// Returns the error of a response: a status other than 2xx, or a body that reports a refusal.
    ///
    /// A web page with a 4xx status, or a 4xx without a body for a send, comes from an intermediary such as a proxy and
    /// not from the gateway: it is [`ErrorKind::Config`].
    pub fn refused(&self, answer: &Answer) -> Error {
        self.error_of(answer, answer.is_page())
    }

    fn error_of(&self, answer: &Answer, is_page: bool) -> Error {
        let mut vendor = (self.vendor_error)(answer);
        let status = answer.status;
        let code = vendor.code.as_deref();
        let overridden = code.and_then(|code| self.overrides.get(code).copied());
        let class = overridden.or(vendor.class).or_else(|| self.class(code?));
        let outcome = match answer.sending {
            false => Outcome::NotSent,
            true if may_have_accepted(status) && !class.is_some_and(|class| class.not_accepted) => Outcome::Unknown,
            true => Outcome::Rejected,
        };
        let retry_after_wait = vendor.retry_after.or_else(|| {
            let value = answer.headers.get(RETRY_AFTER)?.to_str().ok()?;
            retry_after(value, self.clock.now())
        });
        let class = match class.unwrap_or_else(|| by_status(status)) {
            class if is_page && matches!(class.kind, ErrorKind::NotFound | ErrorKind::Rejected) => {
                vendor.description = Some(PAGE);
                ErrorClass::new(ErrorKind::Config)
            }
            class => class,
        };
        let mut error = Error::new(class.kind, vendor.description.unwrap_or_else(|| description(class.kind)))
            .with_gateway(self.gateway)
            .with_outcome(outcome)
            .with_status(status)
            .with_retry(class.retryable, retry_after_wait.or(class.after))
            .with_per_recipient(class.per_recipient)
            .with_raw(answer.body.clone());
        if let Some(scope) = class.scope {
            error = error.with_scope(scope);
        }
        if let Some(code) = &vendor.code {
            error = match self.class(code) {
                Some(_) => error.with_known_code(code),
                None => error.with_code(code),
            };
        }
        if let Some(id) = &vendor.request_id {
            error = error.with_request_id(id);
        }
        if let Some(help) = vendor.help {
            error = error.with_help(help);
        }
        error
    }
}

/// Returns the value of a word in a vendor's table, in which a row may list several words with spaces between.
pub(crate) fn row<T: Copy>(table: &[(&str, T)], word: &str) -> Option<T> {
    table.iter().find(|(words, _)| words.split(' ').any(|one| one == word)).map(|(_, value)| *value)
}

/// Returns the delivery state of a vendor's status word by the vendor's table; [`DeliveryState::Unrecognised`] for any
/// other word.
///
/// A row may list several words with spaces between.
///
/// ```
/// use civic_messaging::DeliveryState;
/// use civic_messaging::adapter::delivery_state;
///
/// const STATES: &[(&str, DeliveryState)] =
///     &[("QUEUED SENT", DeliveryState::Sent), ("DELIVERED", DeliveryState::Delivered)];
///
/// assert_eq!(delivery_state(STATES, "SENT"), DeliveryState::Sent);
/// assert_eq!(delivery_state(STATES, "PONDERING"), DeliveryState::Unrecognised);
/// ```
pub fn delivery_state(states: &[(&str, DeliveryState)], word: &str) -> DeliveryState {
    row(states, word).unwrap_or(DeliveryState::Unrecognised)
}

/// Returns the timeout of a request with a body of this length: 30 seconds plus the body's time at
/// [`Endpoint::UPLOAD_RATE_MIN`].
///
/// An unknown length counts as 100 MiB. `None` for a short body, which has the transport's timeout.
fn upload_time(len: Option<u64>) -> Option<Duration> {
    const BASE: Duration = Duration::from_secs(30);
    const UNKNOWN: u64 = 100 * 1024 * 1024;
    match len.unwrap_or(UNKNOWN) {
        len if len <= Endpoint::UPLOAD_RATE_MIN => None,
        len => Some(BASE.saturating_add(Duration::from_secs(len.div_ceil(Endpoint::UPLOAD_RATE_MIN)))),
    }
}

/// Resolves a redirect to a URL or to a path on the same host. Anything else is unchanged, and refused later.
fn redirected(from: &http::Uri, to: &str) -> String {
    let scheme = from.scheme_str().unwrap_or("https");
    match from.authority() {
        Some(_) if to.starts_with("//") => format!("{scheme}:{to}"),
        Some(host) if to.starts_with('/') => format!("{scheme}://{host}{to}"),
        _ => to.to_owned(),
    }
}

/// The limits of a fetch.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    /// The maximum number of bytes.
    pub cap: u64,
    /// The maximum time for the whole fetch.
    pub time: Duration,
}

/// The credential for a fetch, created for its URL: a bearer token is always the same, a signature is not.
pub trait Credential: Sync {
    /// Returns the header's value.
    ///
    /// # Errors
    /// If it cannot be created.
    fn header(&self, uri: &http::Uri) -> Result<Option<HeaderValue>>;

    /// Returns the header's name.
    fn name(&self) -> HeaderName {
        AUTHORIZATION
    }

    /// Decides how a file is fetched from a host that may receive the credential.
    ///
    /// Called for each URL before its request, redirects included.
    fn access(&self, _file: &FileUrl<'_>) -> Access {
        Access::Credential
    }

    /// Limits the credential to the files that `access` allows.
    ///
    /// Use it for a credential that opens more than files, because file URLs come from webhooks and redirects.
    ///
    /// ```
    /// use civic_messaging::adapter::{Access, Credential, bearer};
    /// use civic_messaging::media::FileUrl;
    ///
    /// # let token = civic_messaging::Secret::new("the-token-of-the-account")?;
    /// let credential = Some(bearer(&token)?).limited_to(|file: &FileUrl<'_>| {
    ///     if file.path().starts_with("/v1/files/") { Access::Credential } else { Access::Refused }
    /// });
    /// # Ok::<(), civic_messaging::Error>(())
    /// ```
    fn limited_to<A>(self, access: A) -> Limited<Self, A>
    where
        Self: Sized,
        A: Fn(&FileUrl<'_>) -> Access + Sync,
    {
        Limited { credential: self, access }
    }
}

/// The way a file is fetched from a host that may receive the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// With the credential.
    Credential,
    /// Without it.
    Anonymous,
    /// Not fetched.
    Refused,
}

/// A credential for some files only: see [`Credential::limited_to`].
#[derive(Clone, Copy)]
pub struct Limited<C, A> {
    credential: C,
    access: A,
}

impl<C, A> std::fmt::Debug for Limited<C, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Limited(masked)")
    }
}

impl<C: Credential, A: Fn(&FileUrl<'_>) -> Access + Sync> Credential for Limited<C, A> {
    fn header(&self, uri: &http::Uri) -> Result<Option<HeaderValue>> {
        self.credential.header(uri)
    }

    fn name(&self) -> HeaderName {
        self.credential.name()
    }

    fn access(&self, file: &FileUrl<'_>) -> Access {
        (self.access)(file)
    }
}

/// A credential in a gateway-specific header, the same for every URL.
impl Credential for (HeaderName, HeaderValue) {
    fn header(&self, _uri: &http::Uri) -> Result<Option<HeaderValue>> {
        Ok(Some(self.1.clone()))
    }

    fn name(&self) -> HeaderName {
        self.0.clone()
    }
}

/// No credential, or the same for every URL.
impl Credential for Option<HeaderValue> {
    fn header(&self, _uri: &http::Uri) -> Result<Option<HeaderValue>> {
        Ok(self.clone())
    }
}

impl<F: Fn(&http::Uri) -> Result<Option<HeaderValue>> + Sync> Credential for F {
    fn header(&self, uri: &http::Uri) -> Result<Option<HeaderValue>> {
        self(uri)
    }
}

const PAGE: &str = "a web page responded instead of the gateway's API: check the base URL and any proxies";

/// Returns `true` if the gateway may have accepted the message despite this status.
fn may_have_accepted(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::REQUEST_TIMEOUT || status.as_u16() >= 500
}

fn by_status(status: StatusCode) -> ErrorClass {
    match status.as_u16() {
        300..=399 => ErrorClass::new(ErrorKind::Config),
        401 => ErrorClass::new(ErrorKind::Unauthenticated),
        402 => ErrorClass::new(ErrorKind::Account),
        403 => ErrorClass::new(ErrorKind::Forbidden),
        404 | 410 => ErrorClass::new(ErrorKind::NotFound),
        413 => ErrorClass::new(ErrorKind::TooLarge),
        429 => ErrorClass::new(ErrorKind::RateLimited).retry(None),
        408 | 500..=599 => ErrorClass::new(ErrorKind::Unavailable).retry(None),
        200..=299 | 400..=499 => ErrorClass::new(ErrorKind::Rejected),
        _ => ErrorClass::new(ErrorKind::Unexpected),
    }
}

fn description(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Account => "the account is locked, restricted or out of credit",
        ErrorKind::Config => "the gateway does not know the requested resource: check the configuration",
        ErrorKind::Forbidden => "the credentials lack a permission",
        ErrorKind::InvalidMessage => "the gateway does not accept this message",
        ErrorKind::InvalidRecipient => "the address cannot be reached",
        ErrorKind::NotFound => "the gateway does not have it",
        ErrorKind::OptedOut => "the person has opted out",
        ErrorKind::OutsideWindow => "the service window has closed: use a template",
        ErrorKind::TooLarge => "it is too large for the gateway",
        ErrorKind::QuotaExceeded => "the quota is exhausted",
        ErrorKind::RateLimited => "too many requests",
        ErrorKind::Refused => "our policy refused the message",
        ErrorKind::Rejected => "the gateway refused",
        ErrorKind::Unauthenticated => "the credentials were not accepted",
        ErrorKind::Unavailable => "the gateway is unavailable",
        ErrorKind::Unexpected => "the gateway returned an unexpected response",
        ErrorKind::Unsupported => "the gateway does not support this",
    }
}

/// Parses a `Retry-After` header: seconds or an HTTP date in any of its three forms.
///
/// The result is at least 1 second and at most 24 hours. `None` for any other value.
///
/// ```
/// use std::time::Duration;
/// use civic_messaging::Timestamp;
/// use civic_messaging::adapter::retry_after;
///
/// let now = Timestamp::from_rfc2822("Sun, 22 Nov 2026 12:00:00 GMT").unwrap();
/// assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
/// assert_eq!(retry_after("Sun, 22 Nov 2026 12:00:30 GMT", now), Some(Duration::from_secs(30)));
/// assert_eq!(retry_after("Sunday, 22-Nov-26 12:00:30 GMT", now), Some(Duration::from_secs(30)));
/// assert_eq!(retry_after("Sun Nov 22 12:00:30 2026", now), Some(Duration::from_secs(30)));
/// assert_eq!(retry_after("soon", now), None);
/// ```
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        // Some gateways write an offset in place of `GMT`, which no HTTP form allows.
        Timestamp::from_http_date(value).or_else(|| Timestamp::from_rfc2822(value))?.since(now)
    };
    Some(wait.clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX))
}

/// The minimum wait before a retry.
pub const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);

/// The maximum wait before a retry.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

/// Returns an id as one segment of a path, percent-encoded where necessary.
///
/// Ids come from webhooks, responses and callers, and must not redirect a request. An id is refused if it is empty, `.`
/// or `..`, or contains a control character or a character by which servers split or decode a URL (`/`, `\\`, `?`, `#`,
/// `%`).
///
/// ```
/// use civic_messaging::adapter::segment;
///
/// assert_eq!(segment("media.id", "900000000000001")?, "900000000000001");
/// assert_eq!(segment("media.id", "a file")?, "a%20file");
/// assert_eq!(segment("media.id", "..").unwrap_err().field(), Some("media.id"));
/// # Ok::<(), civic_messaging::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::InvalidMessage`] with this field.
pub fn segment<'a>(field: &'static str, id: &'a str) -> Result<Cow<'a, str>> {
    let divides = |c: char| c.is_control() || matches!(c, '/' | '\\' | '?' | '#' | '%');
    if matches!(id, "" | "." | "..") || id.contains(divides) {
        return Err(Error::invalid(field, "cannot be used in a URL path"));
    }
    Ok(percent(id).into())
}

/// Returns the query string of these parameters, in which everything but the unreserved characters is percent-encoded.
///
/// No client encodes it any further, so that a signature over it holds.
///
/// ```
/// use civic_messaging::adapter::query;
///
/// assert_eq!(query(&[("to", "+44 7700"), ("page", "2")]), "to=%2B44%207700&page=2");
/// ```
pub fn query(pairs: &[(&str, &str)]) -> String {
    let pair = |(name, value): &(&str, &str)| format!("{}={}", percent(name), percent(value));
    pairs.iter().map(pair).collect::<Vec<_>>().join("&")
}

/// Percent-encodes everything but the unreserved characters.
pub(super) fn percent(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, RESERVED)
}

/// Everything but the unreserved characters (RFC 3986, 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Returns the value of a `Bearer` header, marked as sensitive.
///
/// # Errors
/// [`ErrorKind::Config`] if the token contains characters that a header cannot.
pub fn bearer(token: &Secret) -> Result<HeaderValue> {
    sensitive(&format!("Bearer {}", token.expose()))
}

/// Returns the value of a `Basic` header, marked as sensitive.
///
/// # Errors
/// [`ErrorKind::Config`] if the user is empty or contains a colon, which would end it (RFC 7617).
pub fn basic(user: &str, password: &Secret) -> Result<HeaderValue> {
    use base64::prelude::{BASE64_STANDARD, Engine};
    if user.is_empty() || user.contains(':') {
        return Err(Error::config("user", "must not be empty or contain a colon"));
    }
    sensitive(&format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{}", password.expose()))))
}

/// Returns a header's value, marked as sensitive.
///
/// # Errors
/// [`ErrorKind::Config`] if it contains characters that a header cannot.
pub fn sensitive(value: &str) -> Result<HeaderValue> {
    let mut header = HeaderValue::from_str(value)
        .map_err(|_| Error::config("secret", "contains characters that a header cannot"))?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_parsed_and_clamped() {
        let now = Timestamp::from_secs(1_795_000_000);
        let secs = |value: &str| retry_after(value, now).map(|d| d.as_secs());
        assert_eq!([secs("0"), secs("1"), secs(" 7 "), secs("999999999")], [Some(1), Some(1), Some(7), Some(86_400)]);
        assert_eq!(secs("99999999999999999999999999"), Some(86_400));
        for past in ["Thu, 01 Jan 1970 00:00:00 GMT", "Thursday, 01-Jan-70 00:00:00 GMT", "Thu Jan  1 00:00:00 1970"] {
            assert_eq!(secs(past), Some(1), "{past}");
        }
        for soon in ["Wed, 18 Nov 2026 11:07:30 GMT", "Wednesday, 18-Nov-26 11:07:30 GMT", "Wed Nov 18 11:07:30 2026"] {
            assert_eq!(secs(soon), Some(50), "{soon}");
        }
        for far in ["Sat, 01 Jan 2050 00:00:00 GMT", "Saturday, 01-Jan-50 00:00:00 GMT", "Sat Jan  1 00:00:00 2050"] {
            assert_eq!(secs(far), Some(86_400), "{far}");
        }
        for nonsense in ["", "-1", "1.5", "soon", "2026-11-22T12:00:00Z", "1e3", "٣"] {
            assert_eq!(secs(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn base_url_is_https_or_loopback() {
        for valid in
            ["https://api.x.com", "https://gw.example/sub/", "http://localhost:1", "http://[::1]:1", "http://127.9.9.9"]
        {
            assert!(valid.parse::<BaseUrl>().is_ok(), "{valid}");
        }
        for bad in [
            "",
            "api.x.com",
            "http://api.x.com",
            "ftp://127.0.0.1",
            "https://user:pw@api.x.com",
            "https://api.x.com?a=b",
            "http://127.0.0.1.example.org",
            "http://10.0.0.1",
            "https://",
        ] {
            let error = bad.parse::<BaseUrl>().unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("base_url")), "{bad}");
        }
        assert_eq!("https://gw.example/sub/".parse::<BaseUrl>().unwrap().as_str(), "https://gw.example/sub");
    }

    #[tokio::test]
    async fn form_and_json_have_their_content_type() {
        let context = Context::with_transport(crate::transport::NoTransport);
        let base = "https://gw.example/sub".parse().unwrap();
        let endpoint = Endpoint::new("acme", base, &context, &[], |_| VendorError::default());
        let fields = [("to", Some("+44")), ("text", Some("a b&c")), ("ref", None)];
        let form = endpoint.form("/sms", HeaderMap::new(), fields).unwrap();
        assert!(endpoint.form("/sms", HeaderMap::new(), [("to", "+44")]).is_ok());
        let json = endpoint.json("/sms", HeaderMap::new(), &["a"]).unwrap();
        for (mut request, kind, body) in [
            (form, "application/x-www-form-urlencoded", "to=%2B44&text=a+b%26c"),
            (json, "application/json", r#"["a"]"#),
        ] {
            assert_eq!(
                (request.method(), request.uri().to_string().as_str()),
                (&Method::POST, "https://gw.example/sub/sms")
            );
            assert_eq!(request.headers()[CONTENT_TYPE], kind);
            assert_eq!(request.body_mut().chunk().await.unwrap().unwrap(), body);
        }
    }

    #[test]
    fn upload_time_grows_with_the_file() {
        let secs = |len| upload_time(len).map(|time| time.as_secs());
        assert_eq!([secs(Some(0)), secs(Some(4_096)), secs(Some(65_536))], [None; 3]);
        assert_eq!(
            [secs(Some(65_537)), secs(Some(5 << 20)), secs(Some(100 << 20))],
            [Some(32), Some(110), Some(1_630)]
        );
        assert_eq!(secs(None), Some(1_630));
        assert!(upload_time(Some(u64::MAX)).is_some());
    }

    #[test]
    fn segment_refuses_ids_that_change_the_path() {
        for valid in ["900000000000001", "wamid.HBg_-~", "a..b", "...", "3e4", "CAFE"] {
            assert_eq!(segment("id", valid).unwrap(), valid);
        }
        for (id, written) in
            [("a b", "a%20b"), ("a:b@c;d", "a%3Ab%40c%3Bd"), ("ŵ", "%C5%B5"), ("a+b&c=d", "a%2Bb%26c%3Dd")]
        {
            assert_eq!(segment("id", id).unwrap(), written);
        }
        for bad in [
            "", ".", "..", "../x", "a/b", "/", "a\\b", "..\\", "?a=b", "1?a", "1#a", "#", "%2e%2e", "%2E.", "a%2fb",
            "%", "a\nb", "a\0", "\u{7f}", "\u{85}",
        ] {
            let error = segment("media.id", bad).unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::InvalidMessage, Some("media.id")), "{bad:?}");
            assert_eq!(error.outcome(), Outcome::NotSent);
        }
    }

    #[test]
    fn uri_refuses_ambiguous_paths() {
        let context = Context::with_transport(crate::transport::NoTransport);
        let endpoint =
            Endpoint::new("acme", "https://gw.example/sub".parse().unwrap(), &context, &[], |_| VendorError::default());
        for valid in ["/a", "/", "/a/b.c/", "/a..b/...", "/a%20b/%C5%B5", "/a?x=..//%2e%2e/%25", "/a:b@c"] {
            assert_eq!(endpoint.uri(valid).unwrap().to_string(), format!("https://gw.example/sub{valid}"));
        }
        for bad in [
            "",
            "a",
            "?a",
            ".evil.example/",
            "@evil.example/",
            ":80/",
            "/..",
            "/.",
            "/a/../b",
            "/a/./b",
            "/%2e%2e/b",
            "/%2E./b",
            "/.%2e",
            "/%2e",
            "/a//b",
            "//b",
            "/a%2fb",
            "/a%2F..%2Fb",
            "/a%5cb",
            "/a\\b",
            "/%252e%252e/b",
            "/%25",
            "/%",
            "/%zz",
            "/a%00",
            "/a%0a",
            "/%ff",
            "/a#b",
        ] {
            let error = endpoint.uri(bad).unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("path")), "{bad:?}");
        }
    }

    #[test]
    fn credentials_are_masked() {
        let secret = Secret::new("canary-token").unwrap();
        assert!(!format!("{:?}", bearer(&secret).unwrap()).contains("canary"));
        assert!(!format!("{:?}", basic("user", &secret).unwrap()).contains("canary"));
        assert!(basic("", &secret).is_err() && basic("a:b", &secret).is_err());
    }
}
