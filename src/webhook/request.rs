//! Requests as received, whose contents only a scheme can read.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method};

use crate::model::clock::{Clock, SystemClock, Timestamp};

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
    pub(super) body: Bytes,
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

/// The contents of a request, visible only to a [`Scheme`](super::Scheme).
#[derive(Debug)]
pub struct Unverified<'a>(pub(super) &'a Request);

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_debug_hides_query_and_body() {
        let request = http::Request::post("/hook?token=canary-query").body("canary-body").unwrap();
        let request = Request::from(request);
        assert_eq!(request.path(), "/hook");
        assert!(!format!("{request:?}").contains("canary"));
    }
}
