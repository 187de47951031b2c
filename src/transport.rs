//! HTTP, seen from an adapter: one call, streamed, that says what left the socket.
//!
//! Adapters speak through an [`Endpoint`](crate::Endpoint), which stands on this; what they send goes wherever the
//! [`Transport`] of their [`Context`](crate::Context) takes it. With the feature `reqwest` that is
//! `ReqwestTransport`; without it, bring your own.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use http::{Request, Response};

use crate::error::Result;

mod multipart;
#[cfg(feature = "reqwest")]
mod reqwest_transport;
pub use multipart::Multipart;
#[cfg(feature = "reqwest")]
pub use reqwest_transport::ReqwestTransport;

/// Carries one HTTP request, and its answer back.
///
/// # Contract
/// - One call makes at most one request: no retry, no redirect, no cache.
/// - Nothing is decompressed.
/// - An error says truthfully whether a byte of the request may have left: see [`Wire`]. When in doubt, it may have.
/// - A [`Deadline`] among the request's extensions bounds the whole exchange, answer body included. Without one, the
///   transport's own does: there is one, of about 30 s.
/// - With [`PublicOnly`] among them, an address that is private, loopback or otherwise not of the public internet is
///   refused after the name was resolved, and before a connection is made.
/// - No URL, header or body is logged.
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Makes one request.
    async fn call(&self, request: Request<Body>) -> Result<Response<Body>, TransportError>;
}

/// The longest that an exchange may take, as an extension of a request.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(pub Duration);

/// Refuses addresses that are not of the public internet, as an extension of a request.
#[derive(Clone, Copy, Debug)]
pub struct PublicOnly;

/// A body that is empty, all there, or a stream.
pub struct Body(Inner);

enum Inner {
    Empty,
    Bytes(Bytes),
    #[cfg(feature = "reqwest")]
    Frames(reqwest_transport::Frames),
    Stream(ByteStream, Option<u64>),
}

/// A stream of bytes.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

impl Body {
    /// No body.
    pub const fn empty() -> Self {
        Self(Inner::Empty)
    }

    /// A body that arrives in pieces, with its length in bytes where that is known.
    pub fn stream(stream: ByteStream, len: Option<u64>) -> Self {
        Self(Inner::Stream(stream, len))
    }

    /// Its length in bytes, where that is known; of what is left, once some of it was read.
    pub fn len(&self) -> Option<u64> {
        match &self.0 {
            Inner::Empty => Some(0),
            Inner::Bytes(bytes) => Some(bytes.len() as u64),
            #[cfg(feature = "reqwest")]
            Inner::Frames(frames) => frames.len(),
            Inner::Stream(_, len) => *len,
        }
    }

    /// Whether there is nothing in it, so far as is known.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// The next piece; none at the end.
    pub async fn chunk(&mut self) -> Option<Result<Bytes>> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        match std::mem::replace(&mut self.0, Inner::Empty) {
            Inner::Empty => Poll::Ready(None),
            Inner::Bytes(bytes) => Poll::Ready(Some(Ok(bytes)).filter(|b| !matches!(b, Ok(b) if b.is_empty()))),
            #[cfg(feature = "reqwest")]
            Inner::Frames(mut frames) => {
                let next = frames.poll_chunk(cx);
                if !matches!(next, Poll::Ready(None)) {
                    self.0 = Inner::Frames(frames);
                }
                next
            }
            Inner::Stream(mut stream, len) => {
                let next = stream.as_mut().poll_next(cx);
                let read = match &next {
                    Poll::Ready(None) => return next,
                    Poll::Ready(Some(Ok(piece))) => piece.len() as u64,
                    Poll::Ready(Some(Err(_))) | Poll::Pending => 0,
                };
                self.0 = Inner::Stream(stream, len.map(|len| len.saturating_sub(read)));
                next
            }
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(Inner::Bytes(bytes))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Inner::Bytes(bytes.into()))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self(Inner::Bytes(text.into()))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Whether a byte of a failed request may have left this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wire {
    /// Some of it may have arrived.
    MayHaveArrived,
    /// Certainly nothing left.
    NothingSent,
}

/// What stopped a call.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The request's own body failed: a file that was over its cap, or not the promised one.
    Body,
    /// The connection broke.
    Broken,
    /// No connection could be made.
    Connect,
    /// The name could not be resolved.
    Name,
    /// The address is not of the public internet, and the call may go nowhere else.
    NotPublic,
    /// The request could not be written as HTTP.
    Request,
    /// It took too long.
    TimedOut,
    /// No TLS connection could be made: the certificate is wrong, or this machine trusts none.
    Tls,
}

/// A call that brought no answer. It holds no URL, header or body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportError {
    /// What stopped it.
    pub fault: Fault,
    /// Whether a byte of it may have left.
    pub wire: Wire,
}

impl TransportError {
    /// A call that brought no answer.
    pub const fn new(fault: Fault, wire: Wire) -> Self {
        Self { fault, wire }
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

impl TransportError {
    pub(crate) fn words(&self) -> &'static str {
        match self.fault {
            Fault::Body => "the file to send could not be read to its end",
            Fault::Broken => "the connection broke",
            Fault::Connect => "no connection could be made",
            Fault::Name => "the host's name could not be resolved",
            Fault::NotPublic => "the host's address is not of the public internet",
            Fault::Request => "the request could not be written as HTTP",
            Fault::TimedOut => "it took too long",
            Fault::Tls => "no TLS connection could be made",
        }
    }
}

impl std::error::Error for TransportError {}

/// Whether an address is of the public internet: not loopback, private, link-local, shared, documentation,
/// benchmarking, multicast or reserved, nor a way to write one of those in IPv6.
pub fn is_public(ip: std::net::IpAddr) -> bool {
    use std::net::{IpAddr, Ipv4Addr};
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            !(ip.is_loopback()
                || ip.is_private()
                || ip.is_link_local()
                || ip.is_documentation()
                || a == 0
                || a >= 224
                || (a, b & 0xC0) == (100, 64)
                || (a, b, c) == (192, 0, 0)
                || (a, b & 0xFE) == (198, 18))
        }
        IpAddr::V6(ip) => {
            let words = ip.segments();
            let embedded = |high: u16, low: u16| {
                let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
                is_public(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
            };
            match words {
                // IPv4 in IPv6, by each of the ways there are: compatible, mapped, NAT64, 6to4.
                [0, 0, 0, 0, 0, 0 | 0xFFFF, high, low] | [0x64, 0xFF9B, 0, 0, 0, 0, high, low] => embedded(high, low),
                [0x2002, high, low, ..] => embedded(high, low),
                [0x2001, 0xDB8 | 0, ..] => false,
                [first, ..] => (0x2000..0x4000).contains(&first),
            }
        }
    }
}

/// Whether a URL's host is this machine, by what it says itself.
pub(crate) fn is_loopback(host: &str) -> bool {
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_is_public() {
        for ip in
            ["8.8.8.8", "192.0.1.1", "100.63.0.1", "100.128.0.1", "172.32.0.1", "2a00:1450::1", "64:ff9b::8.8.8.8"]
        {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    #[tokio::test]
    async fn a_body_ends_once() {
        let mut body = Body::from("abc".to_owned());
        assert_eq!(body.len(), Some(3));
        assert_eq!(body.chunk().await.unwrap().unwrap(), "abc");
        assert!(body.chunk().await.is_none());
        assert!(Body::from(Vec::new()).chunk().await.is_none());
    }
}
