//! The Graph API: connections, requests and errors.

use std::borrow::Cow;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::webhook::{SIGNATURE, Signed, secrets};
use super::{Config, Meta};
use crate::adapter::wire::Str;
use crate::adapter::{Answer, VendorError, bearer};
use crate::model::error::{Error, ErrorClass, ErrorKind, Result};
use crate::model::id::AccountId;
use crate::model::secret::Secret;
use crate::transport::Body;
use crate::webhook::{HmacSha256, Scheme, SignatureEncoding, Verifier};

/// The parts that differ between the APIs.
pub(super) struct Connection {
    pub(super) base: &'static str,
    pub(super) scheme: Box<dyn Scheme>,
    pub(super) verifier: Option<Verifier>,
    pub(super) authorization: (HeaderName, HeaderValue),
    pub(super) root: String,
    pub(super) account: String,
    pub(super) errors: &'static [(&'static str, ErrorClass)],
    pub(super) vendor_error: fn(&Answer) -> VendorError<'_>,
}

impl Connection {
    /// Meta's own API, for this account, with the error codes of one of its products.
    pub(super) fn graph(
        config: &Config,
        account: &AccountId,
        errors: &'static [(&'static str, ErrorClass)],
        vendor_error: fn(&Answer) -> VendorError<'_>,
    ) -> Result<Self> {
        if config.version.strip_prefix('v').is_none_or(|v| v.parse::<f32>().is_err()) {
            return Err(Error::config("version", "must be a Graph API version such as v26.0"));
        }
        let secrets = secrets(config, account);
        let verifier = Verifier::new(config.verify_token.iter().map(Secret::expose), &secrets);
        let signed = Signed {
            hmac: HmacSha256::new(SIGNATURE, "sha256=", SignatureEncoding::Hex, secrets),
            verify_token: config.verify_token.clone(),
        };
        let root = format!("/{}", config.version);
        Ok(Self {
            base: "https://graph.facebook.com",
            scheme: Box::new(signed),
            verifier,
            authorization: (http::header::AUTHORIZATION, bearer(&config.access_token)?),
            account: format!("{root}/{account}"),
            root,
            errors,
            vendor_error,
        })
    }
}

impl Meta {
    pub(super) fn headers(&self, content_type: &'static str) -> HeaderMap {
        // Room for what is added on the way: host, accept.
        let mut headers = HeaderMap::with_capacity(6);
        headers.insert(self.authorization.0.clone(), self.authorization.1.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers
    }

    pub(super) fn post(&self, body: impl Into<Body>) -> http::Request<Body> {
        let mut request = http::Request::new(body.into());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.messages.clone();
        *request.headers_mut() = self.headers("application/json");
        request
    }
}

pub(super) fn is_id(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit())
}

/// The meaning of a Graph API error: by its other members where the code alone is ambiguous, then by code,
/// then by what Meta says of retrying, then by HTTP status.
pub(super) fn graph_error<'a>(
    answer: &'a Answer,
    table: &[(&str, ErrorClass)],
    help: &'static str,
    by_more: fn(&str, &ErrorWire<'a>) -> Option<(ErrorClass, &'static str)>,
) -> VendorError<'a> {
    let Ok(ErrorBody { error }) = serde_json::from_slice::<ErrorBody<'_>>(&answer.body) else {
        return VendorError::default();
    };
    let number = error.code.parse::<u32>().ok();
    let known = table.iter().any(|(row, _)| *error.code == **row);
    let unknown_object = error.is_of_unknown_object().then_some(UNKNOWN_OBJECT);
    let (class, description) = match unknown_object.or_else(|| by_more(&error.code, &error)) {
        Some((class, description)) => (Some(class), Some(description)),
        None => (
            match number {
                Some(200..=299) => Some(ErrorClass::new(ErrorKind::Forbidden)),
                _ if known => None,
                _ if error.is_transient == Some(true) => Some(ErrorClass::new(ErrorKind::Unavailable).retry(None)),
                _ if answer.status == StatusCode::TOO_MANY_REQUESTS => None,
                _ => Some(ErrorClass::new(ErrorKind::Rejected)).filter(|_| answer.status.is_client_error()),
            },
            None,
        ),
    };
    let mut vendor_error = VendorError::new(error.code.0);
    (vendor_error.class, vendor_error.description) = (class, description);
    vendor_error.request_id = error.fbtrace_id.map(|trace| trace.0);
    vendor_error.help = Some(Cow::Borrowed(help));
    vendor_error
}

/// Our own fault: an id in the configuration is wrong, or the token is another account's.
const UNKNOWN_OBJECT: (ErrorClass, &str) = (
    ErrorClass::new(ErrorKind::Config),
    "Meta does not know the number or page by its id, or the token may not use it: check the configuration",
);

/// Returns `true` if the requested id is unknown to Meta.
pub(super) fn is_unknown_object(error: &Error) -> bool {
    let body = error.raw().and_then(|raw| serde_json::from_slice::<ErrorBody<'_>>(raw).ok());
    body.is_some_and(|body| body.error.is_of_unknown_object())
}

/// The same error as one of a file that is not there.
pub(super) fn not_found(error: &Error, help: &'static str) -> Error {
    // The same answer comes for a token that may not use it (UNVERIFIED which is which): so it may be asked for again.
    let mut gone = Error::new(ErrorKind::NotFound, "Meta does not have the file, or no longer").with_help(help);
    gone = gone.with_retry(true, None);
    if let Some(gateway) = error.gateway() {
        gone = gone.with_gateway(gateway.to_owned());
    }
    if let Some(status) = error.status() {
        gone = gone.with_status(status);
    }
    if let Some(code) = error.code() {
        gone = gone.with_code(code);
    }
    if let Some(trace) = error.request_id() {
        gone = gone.with_request_id(trace);
    }
    match error.raw() {
        Some(raw) => gone.with_raw(raw.clone()),
        None => gone,
    }
}

#[derive(Deserialize)]
struct ErrorBody<'a> {
    #[serde(borrow)]
    error: ErrorWire<'a>,
}

#[derive(Deserialize)]
pub(super) struct ErrorWire<'a> {
    #[serde(borrow)]
    pub(super) code: Str<'a>,
    /// Read only where it is needed, so that a strange one costs nothing else.
    #[serde(borrow, default)]
    pub(super) error_subcode: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) error_data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) message: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) is_transient: Option<bool>,
    #[serde(borrow, default)]
    pub(super) fbtrace_id: Option<Str<'a>>,
}

impl ErrorWire<'_> {
    pub(super) fn subcode(&self) -> Option<&str> {
        self.error_subcode.map(|subcode| subcode.get().trim_matches('"'))
    }

    /// Returns `true` if the requested id is unknown to Meta. One whose details name a parameter is of the
    /// message, under the same subcode.
    fn is_of_unknown_object(&self) -> bool {
        &*self.code == "100" && self.subcode() == Some("33") && self.error_data.is_none()
    }
}
