//! A gateway's API at its base URL: what every adapter's calls have in common.
//!
//! An adapter says how a request is written and how its vendor writes errors; here stand, once for all, what an
//! answer means for the message ([`Outcome`]), how long an answer may be, where files are fetched from, and that
//! nothing of it is shown in an error.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use http::{Method, Request, StatusCode, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::media::{FileUrl, HostRules, MediaStream};
use crate::model::clock::{Clock, Timestamp};
use crate::model::error::{Error, ErrorClass, ErrorKind, Outcome, Result};
use crate::model::id::MessageId;
use crate::model::message::Accepted;
use crate::model::secret::Secret;
use crate::transport::{BaseUrl, Body, Deadline, PublicOnly, SendProgress, Transport, normal};

/// One gateway's API at one base URL.
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

/// What a vendor's error body says, as the adapter reads it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct VendorError<'a> {
    /// The vendor's code, by which its table is looked up.
    pub code: Option<Cow<'a, str>>,
    /// The vendor's id of the call.
    pub trace: Option<Cow<'a, str>>,
    /// What the code means in this answer, where the code alone does not tell.
    pub class: Option<ErrorClass>,
    /// The vendor's page about it.
    pub help: Option<Cow<'static, str>>,
    /// What is wrong, in words of the adapter's own where the kind alone does not say it. No text of the vendor's.
    pub words: Option<&'static str>,
    /// How long to wait, where the vendor says so in a place of its own.
    pub retry_after: Option<Duration>,
}

impl<'a> VendorError<'a> {
    /// An error with this code.
    pub fn new(code: impl Into<Cow<'a, str>>) -> Self {
        Self { code: Some(code.into()), ..Self::default() }
    }
}

/// An answer, read whole.
#[derive(Clone)]
#[non_exhaustive]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body. Personal data.
    pub body: Bytes,
    gateway: &'static str,
    sending: bool,
}

impl Answer {
    /// Returns `true` for a web page, and for a refusal of a send without a word: no gateway's API explains it so.
    fn is_page(&self) -> bool {
        let body = self.body.trim_ascii_start();
        self.sending && body.is_empty()
            || body.starts_with(b"<!")
            || body.get(..5).is_some_and(|tag| tag.eq_ignore_ascii_case(b"<html"))
    }

    /// The body as JSON of this type.
    ///
    /// # Errors
    /// [`ErrorKind::Unexpected`] when it does not read. For a send the outcome is then unknown: the gateway did say
    /// yes.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|_| self.unreadable())
    }

    /// The body as text.
    ///
    /// # Errors
    /// As [`json`](Self::json), when it is not UTF-8.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.body).map_err(|_| self.unreadable())
    }

    /// The acceptance that this answer is, under these ids: one for each part of the message.
    ///
    /// # Errors
    /// As [`json`](Self::json), when there is no id, or one is empty or blank: nobody could say later what became of the
    /// message.
    pub fn accepted<I: Into<MessageId>>(&self, ids: impl IntoIterator<Item = I>) -> Result<Accepted> {
        Accepted::of_parts(self.gateway, ids, self.body.clone()).ok_or_else(|| self.unreadable())
    }

    /// The error for an answer that said yes and cannot be read.
    pub fn unreadable(&self) -> Error {
        let outcome = if self.sending { Outcome::Unknown } else { Outcome::NotSent };
        Error::new(ErrorKind::Unexpected, "the answer cannot be read")
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
    /// The slowest upload that is waited for, in bytes a second: half a megabit.
    pub const UPLOAD_RATE_MIN: u64 = 64 * 1024;

    /// The longest answer that is read, in bytes.
    pub const ANSWER_MAX: usize = 8 * 1024 * 1024;

    /// A gateway's API.
    ///
    /// `classes` is the vendor's table of codes, and `vendor_error` reads the vendor's error bodies.
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

    /// Sets what some of the vendor's codes mean, over the table.
    #[must_use]
    pub fn with_overrides(mut self, overrides: BTreeMap<String, ErrorClass>) -> Self {
        self.overrides = Arc::new(overrides);
        self
    }

    /// The base URL.
    pub fn base(&self) -> &BaseUrl {
        &self.base
    }

    /// Sends a message: one request, that a resident may see.
    ///
    /// # Errors
    /// By how far it came. [`Outcome::NotSent`] when nothing left this machine; [`Outcome::Rejected`] for a definite
    /// no; [`Outcome::Unknown`] for a connection that broke or a time that ran out after something left, and for
    /// 408, 500, 502, 503 and 504 unless the vendor documents that the code means "not accepted". A vendor that says
    /// no with a 200 is for the adapter to notice: hand the answer to [`refused`](Self::refused).
    pub fn send(&self, request: Request<Body>) -> impl Future<Output = Result<Answer>> + Send {
        self.exchange(request, true)
    }

    /// Makes any other call: one that no resident sees, so that an error never leaves a doubt about a message.
    ///
    /// # Errors
    /// As the answer says, always with [`Outcome::NotSent`].
    ///
    /// A request with a body of more than 64 KiB, such as the upload of a file, may take 30 seconds and as long as the
    /// body takes at [`UPLOAD_RATE_MIN`](Self::UPLOAD_RATE_MIN), unless it has a [`Deadline`]; every other one has the
    /// time of the transport.
    pub fn call(&self, request: Request<Body>) -> impl Future<Output = Result<Answer>> + Send {
        self.exchange(request, false)
    }

    /// A call without a body.
    ///
    /// # Errors
    /// Those of [`call`](Self::call).
    pub async fn get(&self, path: &str, headers: HeaderMap) -> Result<Answer> {
        self.call(self.request(Method::GET, path, headers, Body::empty())?).await
    }

    /// Writes a POST of JSON to a path under the base URL.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`] when the value does not serialise.
    pub fn json(&self, path: &str, mut headers: HeaderMap, value: &impl Serialize) -> Result<Request<Body>> {
        let body = serde_json::to_vec(value).map_err(|_| Error::invalid("content", "does not serialise to JSON"))?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.request(Method::POST, path, headers, body.into())
    }

    /// Writes a POST of a form to a path under the base URL. A field is text, or an `Option` of it: none is left out.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the path is not one.
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

    /// Writes a request to a path under the base URL, with these headers and no others.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the path is not one.
    pub fn request(&self, method: Method, path: &str, headers: HeaderMap, body: Body) -> Result<Request<Body>> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = self.uri(path)?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// The address of a path under the base URL. One that every send goes to is best made once.
    ///
    /// A path that servers read in different ways is refused: one with a `.`, `..` or empty segment, a backslash, or an
    /// encoded slash, however it is written. Put an id into a path with [`segment`].
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the path is not one.
    pub fn uri(&self, path: &str) -> Result<Uri> {
        if normal(path.split_once('?').map_or(path, |(path, _)| path)).is_none() {
            return Err(Error::config("path", "must start with a slash, and be one path for every server"));
        }
        let uri = Bytes::from([self.base.as_str(), path].concat());
        Uri::from_maybe_shared(uri).map_err(|_| Error::config("path", "is not a URL path"))
    }

    /// Fetches a file from a host of the gateway, with the credential where it belongs.
    ///
    /// Redirects are followed up to three times, each checked like the first address. Nothing is decompressed. On a host
    /// that gets the credential, a path that servers read in different ways is refused, and the credential decides by
    /// [`Credential::access`] which of the others are fetched.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`], with the field `media.url`, for an address that is not of the gateway or that the
    /// credential refuses, [`ErrorKind::NotFound`] for a file that is gone, [`ErrorKind::TooLarge`] over `limits.cap`.
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
        let begun = self.clock.monotonic();
        for _ in 0..=3 {
            // The time is for all of it: redirects do not begin it anew.
            let left = limits.time.saturating_sub(self.clock.monotonic().saturating_sub(begun));
            if left.is_zero() {
                return Err(Error::new(ErrorKind::Unavailable, "the file took too long"));
            }
            let loopback = self.base.is_loopback();
            let (uri, trusted) = hosts.check(&url, &self.base)?;
            let access = if trusted { credential.access(&FileUrl::new(&uri)?) } else { Access::Anonymous };
            if access == Access::Refused {
                return Err(Error::new(ErrorKind::Forbidden, "is not an address that the credential is for")
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
                let target = target.ok_or_else(|| Error::new(ErrorKind::Unexpected, "a redirect leads nowhere"))?;
                url = redirected(&uri, target);
                continue;
            }
            if !parts.status.is_success() {
                let answer = self.read(parts, body, false).await?;
                // A host of files may have pages for those that are gone.
                return Err(self.error_of(&answer, false));
            }
            let mime = parts.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(str::to_owned);
            let left = limits.time.saturating_sub(self.clock.monotonic().saturating_sub(begun));
            return Ok(MediaStream::new(mime, body).capped(limits.cap)?.deadline(&*self.clock, left));
        }
        Err(Error::new(ErrorKind::Unexpected, "the file is behind too many redirects"))
    }

    /// What a code means: by the configuration, else by the vendor's table.
    pub fn class(&self, code: &str) -> Option<ErrorClass> {
        let row = || self.classes.iter().find(|(row, _)| *row == code).map(|(_, class)| *class);
        self.overrides.get(code).copied().or_else(row)
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
        // A definite no does not become doubtful because its explanation got lost; a yes does, as it is unread.
        let refused = !parts.status.is_success() && !doubtful(parts.status);
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
            let so_far = all.as_ref().map_or(answer.body.len(), BytesMut::len);
            if so_far + piece.len() > Self::ANSWER_MAX {
                return Err(Error::new(ErrorKind::Unexpected, "the answer is over 8 MiB")
                    .with_gateway(self.gateway)
                    .with_status(answer.status)
                    .with_outcome(outcome));
            }
            // Almost every answer is one piece, which then need not be copied.
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
        let outcome = match error.wire {
            SendProgress::MayHaveArrived if sending => Outcome::Unknown,
            _ => Outcome::NotSent,
        };
        let kind = match error.fault {
            crate::transport::TransportErrorKind::NotPublic => ErrorKind::Forbidden,
            crate::transport::TransportErrorKind::Body => ErrorKind::Unexpected,
            crate::transport::TransportErrorKind::Request => ErrorKind::Config,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, error.words()).with_gateway(self.gateway).with_outcome(outcome)
    }

    /// The error that an answer stands for: one other than 2xx, or one whose body says no.
    ///
    /// A web page with a 4xx status, and such a status without a body for a send, is from something on the way, such as a
    /// proxy, and says nothing of what was asked for: it is [`ErrorKind::Config`].
    pub fn refused(&self, answer: &Answer) -> Error {
        self.error_of(answer, answer.is_page())
    }

    fn error_of(&self, answer: &Answer, is_page: bool) -> Error {
        let mut said = (self.vendor_error)(answer);
        let status = answer.status;
        let code = said.code.as_deref();
        let overridden = code.and_then(|code| self.overrides.get(code).copied());
        let class = overridden.or(said.class).or_else(|| self.class(code?));
        let outcome = match answer.sending {
            false => Outcome::NotSent,
            true if doubtful(status) && !class.is_some_and(|class| class.not_accepted) => Outcome::Unknown,
            true => Outcome::Rejected,
        };
        let told = said.retry_after.or_else(|| {
            let value = answer.headers.get(RETRY_AFTER)?.to_str().ok()?;
            retry_after(value, self.clock.now())
        });
        let class = match class.unwrap_or_else(|| by_status(status)) {
            class if is_page && matches!(class.kind, ErrorKind::NotFound | ErrorKind::Rejected) => {
                said.words = Some(PAGE);
                ErrorClass::new(ErrorKind::Config)
            }
            class => class,
        };
        let mut error = Error::new(class.kind, said.words.unwrap_or_else(|| words(class.kind)))
            .with_gateway(self.gateway)
            .with_outcome(outcome)
            .with_status(status)
            .with_retry(class.retryable, told.or(class.after))
            .with_pair(class.pair)
            .with_raw(answer.body.clone());
        if let Some(scope) = class.scope {
            error = error.with_scope(scope);
        }
        if let Some(code) = &said.code {
            error = match self.class(code) {
                Some(_) => error.with_known_code(code),
                None => error.with_code(code),
            };
        }
        if let Some(trace) = &said.trace {
            error = error.with_request_id(trace);
        }
        if let Some(help) = said.help {
            error = error.with_help(help);
        }
        error
    }
}

/// The longest that a request with a body of this length may take: 30 seconds, and as long as the body takes at
/// [`Endpoint::UPLOAD_RATE_MIN`]. One whose length is not known is taken for 100 MiB. None for a body that is no file's:
/// the transport's own time is for it.
fn upload_time(len: Option<u64>) -> Option<Duration> {
    const BASE: Duration = Duration::from_secs(30);
    const UNKNOWN: u64 = 100 * 1024 * 1024;
    match len.unwrap_or(UNKNOWN) {
        len if len <= Endpoint::UPLOAD_RATE_MIN => None,
        len => Some(BASE.saturating_add(Duration::from_secs(len.div_ceil(Endpoint::UPLOAD_RATE_MIN)))),
    }
}

/// Where a redirect leads: to an address, or to a path on the same host. Anything else is left as it is, and refused.
fn redirected(from: &http::Uri, to: &str) -> String {
    let scheme = from.scheme_str().unwrap_or("https");
    match from.authority() {
        Some(_) if to.starts_with("//") => format!("{scheme}:{to}"),
        Some(host) if to.starts_with('/') => format!("{scheme}://{host}{to}"),
        _ => to.to_owned(),
    }
}

/// How much of a file is fetched, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    /// The most bytes.
    pub cap: u64,
    /// The longest time for all of it.
    pub time: Duration,
}

/// The credential for one fetch, made for its address: a bearer token is the same for all, a signature is not.
pub trait Credential: Sync {
    /// The value of its header.
    ///
    /// # Errors
    /// When it cannot be made.
    fn header(&self, uri: &http::Uri) -> Result<Option<HeaderValue>>;

    /// The name of its header.
    fn name(&self) -> HeaderName {
        AUTHORIZATION
    }

    /// Decides how a file is fetched from a host that gets the credential. Asked for each address, redirects included,
    /// before its request.
    fn access(&self, _file: &FileUrl<'_>) -> Access {
        Access::Credential
    }

    /// Limits the credential to the files for which `access` says so.
    ///
    /// A credential that opens more than files needs it: the address of a file comes from a webhook or a redirect.
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

/// How a file is fetched from a host that gets the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// With the credential.
    Credential,
    /// Without it.
    Anonymous,
    /// Not at all.
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

/// A credential in a header of the gateway's own, the same for every address.
impl Credential for (HeaderName, HeaderValue) {
    fn header(&self, _uri: &http::Uri) -> Result<Option<HeaderValue>> {
        Ok(Some(self.1.clone()))
    }

    fn name(&self) -> HeaderName {
        self.0.clone()
    }
}

/// No credential, or the same for every address.
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

const PAGE: &str = "a web page answered, and not the gateway's API: check the base URL, and proxies on the way";

/// Whether the gateway may have taken a message although it answered so.
fn doubtful(status: StatusCode) -> bool {
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

fn words(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Account => "the account is locked, restricted or out of money",
        ErrorKind::Config => "the gateway does not know what was asked of it: check the configuration",
        ErrorKind::Forbidden => "the credentials may not do this",
        ErrorKind::InvalidMessage => "the gateway does not take this message",
        ErrorKind::InvalidRecipient => "nobody can be reached at this address",
        ErrorKind::NotFound => "the gateway does not have it",
        ErrorKind::OptedOut => "this person does not want messages",
        ErrorKind::OutsideWindow => "the person has not written lately enough: use a template",
        ErrorKind::TooLarge => "it is too large for the gateway",
        ErrorKind::QuotaExceeded => "the quota is used up",
        ErrorKind::RateLimited => "too many requests",
        ErrorKind::Refused => "the policy says no",
        ErrorKind::Rejected => "the gateway refused",
        ErrorKind::Unauthenticated => "the credentials were not accepted",
        ErrorKind::Unavailable => "the gateway has a fault",
        ErrorKind::Unexpected => "the gateway answered something unexpected",
        ErrorKind::Unsupported => "the gateway cannot do this",
    }
}

/// How long a `Retry-After` header asks to wait: seconds, or an HTTP date in each of its three forms, kept between 1
/// second and 24 hours. Other values ask for nothing.
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
        // Some gateways write an offset in the place of `GMT`, which no form of HTTP has.
        Timestamp::from_http_date(value).or_else(|| Timestamp::from_rfc2822(value))?.since(now)
    };
    Some(wait.clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX))
}

/// The shortest wait before a message is tried again.
pub const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);

/// The longest wait before a message is tried again.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

/// An id as one segment of a path, percent-encoded where it must be.
///
/// Ids come from webhooks, answers and callers, and must not lead a request elsewhere: one that is empty, `.` or `..`, or
/// that holds a character by which servers divide or decode a URL (`/`, `\\`, `?`, `#`, `%`) or a control character, is
/// refused.
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
        return Err(Error::invalid(field, "is not an id that can stand in a URL"));
    }
    Ok(utf8_percent_encode(id, SEGMENT).into())
}

/// All but the unreserved characters (RFC 3986, 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The value of a `Bearer` header, marked so that nothing prints it.
///
/// # Errors
/// [`ErrorKind::Config`] when the token holds what a header cannot.
pub fn bearer(token: &Secret) -> Result<HeaderValue> {
    sensitive(&format!("Bearer {}", token.expose()))
}

/// The value of a `Basic` header, marked so that nothing prints it.
///
/// # Errors
/// [`ErrorKind::Config`] for a user that is empty or holds a colon, which would be read as its end (RFC 7617).
pub fn basic(user: &str, password: &Secret) -> Result<HeaderValue> {
    use base64::prelude::{BASE64_STANDARD, Engine};
    if user.is_empty() || user.contains(':') {
        return Err(Error::config("user", "must not be empty, and must not hold a colon"));
    }
    sensitive(&format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{}", password.expose()))))
}

/// A header's value, marked so that nothing prints it.
///
/// # Errors
/// [`ErrorKind::Config`] when it holds what a header cannot.
pub fn sensitive(value: &str) -> Result<HeaderValue> {
    let mut header =
        HeaderValue::from_str(value).map_err(|_| Error::config("secret", "holds characters that a header cannot"))?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_read_and_clamped() {
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
    fn a_base_url_is_https_or_loopback() {
        for good in
            ["https://api.x.com", "https://gw.example/sub/", "http://localhost:1", "http://[::1]:1", "http://127.9.9.9"]
        {
            assert!(good.parse::<BaseUrl>().is_ok(), "{good}");
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
    async fn a_form_and_json_are_written_with_their_type() {
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
    fn segment_refuses_ids_that_lead_elsewhere() {
        for good in ["900000000000001", "wamid.HBg_-~", "a..b", "...", "3e4", "CAFE"] {
            assert_eq!(segment("id", good).unwrap(), good);
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
    fn uri_refuses_paths_with_two_readings() {
        let context = Context::with_transport(crate::transport::NoTransport);
        let endpoint =
            Endpoint::new("acme", "https://gw.example/sub".parse().unwrap(), &context, &[], |_| VendorError::default());
        for good in ["/a", "/", "/a/b.c/", "/a..b/...", "/a%20b/%C5%B5", "/a?x=..//%2e%2e/%25", "/a:b@c"] {
            assert_eq!(endpoint.uri(good).unwrap().to_string(), format!("https://gw.example/sub{good}"));
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
    fn credentials_are_not_shown() {
        let secret = Secret::new("canary-token").unwrap();
        assert!(!format!("{:?}", bearer(&secret).unwrap()).contains("canary"));
        assert!(!format!("{:?}", basic("user", &secret).unwrap()).contains("canary"));
        assert!(basic("", &secret).is_err() && basic("a:b", &secret).is_err());
    }
}
