//! The calls that all adapters make.
//!
//! An adapter defines how requests are written and how its vendor reports errors. This module defines, once for all,
//! the [`Outcome`] of a response, its maximum length, the hosts that files are fetched from, and the masking of errors.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Method, Request, Uri};
use serde::Serialize;

use super::answer::{Answer, VendorError};
use super::outcome::{PAGE, by_status, description, may_have_accepted, retry_after, row};
use crate::context::Context;
use crate::model::clock::Clock;
use crate::model::error::{Error, ErrorClass, ErrorKind, Outcome, Result};
use crate::model::event::Failure;
use crate::transport::{BaseUrl, Body, Deadline, SendProgress, Transport, TransportError, TransportErrorKind, normal};

/// A gateway's API at a base URL.
///
/// Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub(super) gateway: &'static str,
    pub(super) base: BaseUrl,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) clock: Arc<dyn Clock>,
    classes: &'static [(&'static str, ErrorClass)],
    overrides: Arc<BTreeMap<String, ErrorClass>>,
    vendor_error: ReadError,
}

/// Parses the vendor's error bodies.
#[derive(Clone)]
struct ReadError(Arc<dyn Fn(&Answer) -> VendorError<'_> + Send + Sync>);

impl std::fmt::Debug for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReadError")
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
        vendor_error: impl Fn(&Answer) -> VendorError<'_> + Send + Sync + 'static,
    ) -> Self {
        Self {
            gateway,
            base,
            transport: context.transport.clone(),
            clock: context.clock.clone(),
            classes,
            overrides: Arc::default(),
            vendor_error: ReadError(Arc::new(vendor_error)),
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
    /// backslash, or an encoded slash, in any spelling. Use [`segment`](crate::adapter::segment) to put an id into a path.
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

    pub(super) async fn read(&self, parts: http::response::Parts, mut body: Body, sending: bool) -> Result<Answer> {
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

    pub(super) fn unreachable(&self, error: TransportError, sending: bool) -> Error {
        let outcome = match error.progress {
            SendProgress::MayHaveArrived if sending => Outcome::Unknown,
            _ => Outcome::NotSent,
        };
        let kind = match error.kind {
            TransportErrorKind::NotPublic => ErrorKind::Forbidden,
            TransportErrorKind::Body => ErrorKind::Unexpected,
            TransportErrorKind::Request => ErrorKind::Config,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, error.description()).with_gateway(self.gateway).with_outcome(outcome).with_source(error)
    }

    /// Returns the error of a response: a status other than 2xx, or a body that reports a refusal.
    ///
    /// A web page with a 4xx status, or a 4xx without a body for a send, comes from an intermediary such as a proxy and
    /// not from the gateway: it is [`ErrorKind::Config`].
    pub fn refused(&self, answer: &Answer) -> Error {
        self.error_of(answer, answer.is_page())
    }

    pub(super) fn error_of(&self, answer: &Answer, is_page: bool) -> Error {
        let mut vendor = (self.vendor_error.0)(answer);
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

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn call_without_a_response_has_the_transport_error_as_source() {
        const NO_CLASSES: &[(&str, ErrorClass)] = &[];
        let base = "https://gateway.example".parse().unwrap();
        let endpoint = Endpoint::new("acme", base, &Context::default(), NO_CLASSES, |_| VendorError::default());
        let cause = TransportError::new(TransportErrorKind::TimedOut, SendProgress::MayHaveArrived);
        let error = endpoint.unreachable(cause, true);
        assert_eq!(error.source().unwrap().downcast_ref(), Some(&cause));
        assert_eq!(error.source().unwrap().to_string(), "the request timed out: part of the request may have arrived");
        assert!(Error::new(ErrorKind::Config, "x").source().is_none());
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
}
