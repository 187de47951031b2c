//! Responses to webhooks.

use std::fmt;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use crate::model::error::Error;

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
