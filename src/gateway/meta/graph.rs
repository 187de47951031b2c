//! The Graph API: connections, requests and errors.

use std::borrow::Cow;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use super::webhook::{SIGNATURE, Signed, secrets};
use super::{Config, Meta};
use crate::adapter::json::{Json, Piece, Text};
use crate::adapter::{Answer, VendorError, bearer, lenient, row};
use crate::model::error::{Error, ErrorClass, ErrorKind, Result};
use crate::model::id::AccountId;
use crate::model::secret::Secret;
use crate::transport::Body;
use crate::webhook::{HmacSha256, Scheme, SignatureEncoding, Verifier};

/// The parts that differ between the APIs.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) base: &'static str,
    pub(super) scheme: Box<dyn Scheme>,
    pub(super) verifier: Option<Verifier>,
    pub(super) authorization: (HeaderName, HeaderValue),
    /// The path of the API's root, and of the number or page under it.
    pub(super) root: String,
    pub(super) account: String,
    /// Files are served at the API's own host, under the path of Meta's address.
    pub(super) own_files: bool,
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
            own_files: false,
            errors,
            vendor_error,
        })
    }
}

impl Meta {
    pub(super) fn headers(&self, content_type: &'static str) -> HeaderMap {
        // Room for what is added on the way: host, accept.
        let mut headers = HeaderMap::with_capacity(6);
        headers.insert(self.connection.authorization.0.clone(), self.connection.authorization.1.clone());
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
pub(super) fn graph_error(
    answer: &Answer,
    table: &[(&str, ErrorClass)],
    help: &'static str,
    by_more: fn(&str, &ErrorWire<'_>) -> Option<(ErrorClass, &'static str)>,
) -> VendorError<'static> {
    let json = Json::new(&answer.body);
    let error = json.read::<ErrorBody<'_>>().unwrap_or_default().error;
    let Some(code) = error.code.as_deref() else { return VendorError::default() };
    let known = row(table, code).is_some();
    let unknown_object = error.is_of_unknown_object().then_some(UNKNOWN_OBJECT);
    let (class, description) = match unknown_object.or_else(|| by_more(code, &error)) {
        Some((class, description)) => (Some(class), Some(description)),
        None => (
            match code.parse::<u32>().ok() {
                Some(200..=299) => Some(ErrorClass::new(ErrorKind::Forbidden)),
                _ if known => None,
                _ if error.is_transient == Some(true) => Some(ErrorClass::new(ErrorKind::Unavailable).retry(None)),
                _ if answer.status == StatusCode::TOO_MANY_REQUESTS => None,
                _ => Some(ErrorClass::new(ErrorKind::Rejected)).filter(|_| answer.status.is_client_error()),
            },
            None,
        ),
    };
    let mut vendor_error = VendorError::new(code.to_owned());
    (vendor_error.class, vendor_error.description) = (class, description);
    vendor_error.request_id = error.fbtrace_id.to_text().map(Cow::Owned);
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
    error
        .raw()
        .is_some_and(|raw| Json::new(raw).read::<ErrorBody<'_>>().is_some_and(|body| body.error.is_of_unknown_object()))
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

lenient! {
    struct ErrorBody<'a> {
        error: ErrorWire<'a>,
    }

    pub(super) struct ErrorWire<'a> {
        pub(super) code: Text<'a>,
        pub(super) subcode = "error_subcode": Text<'a>,
        error_data: Option<Piece<'a>>,
        pub(super) message: Text<'a>,
        is_transient: Option<bool>,
        fbtrace_id: Text<'a>,
    }
}

impl ErrorWire<'_> {
    /// Returns `true` if the requested id is unknown to Meta. One whose details name a parameter is of the
    /// message, under the same subcode.
    fn is_of_unknown_object(&self) -> bool {
        self.code.as_deref() == Some("100") && self.subcode.as_deref() == Some("33") && self.error_data.is_none()
    }
}
