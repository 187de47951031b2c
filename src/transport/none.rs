//! No transport.

use async_trait::async_trait;

use super::{Body, SendProgress, Transport, TransportError, TransportErrorKind};

/// A transport that leads nowhere: every call fails before anything is sent. For tests that must not reach out.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTransport;

#[async_trait]
impl Transport for NoTransport {
    async fn call(&self, _: http::Request<Body>) -> Result<http::Response<Body>, TransportError> {
        Err(TransportError::new(TransportErrorKind::Connect, SendProgress::NothingSent))
    }
}
