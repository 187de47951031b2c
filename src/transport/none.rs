//! A transport without a network.

use async_trait::async_trait;

use super::{Body, SendProgress, Transport, TransportError, TransportErrorKind};

/// A transport that fails every call before anything is sent. For tests without a network.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTransport;

#[async_trait]
impl Transport for NoTransport {
    async fn call(&self, _: http::Request<Body>) -> Result<http::Response<Body>, TransportError> {
        Err(TransportError::new(TransportErrorKind::Connect, SendProgress::NothingSent))
    }
}
