//! HTTP for adapters: one streamed request per call, with an exact report of what was sent.
//!
//! Adapters use an [`Endpoint`](crate::adapter::Endpoint), which calls the [`Transport`] of their
//! [`Context`](crate::Context). With the feature `reqwest` that is `ReqwestTransport`; without it, implement the trait.

use std::fmt;
use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use http::{Request, Response};

use crate::model::error::Result;

mod base_url;
mod multipart;
mod none;
#[cfg(feature = "reqwest")]
mod reqwest;
#[cfg(any(feature = "postgres", feature = "reqwest"))]
pub(crate) mod tls;
#[cfg(feature = "reqwest")]
pub use self::reqwest::ReqwestTransport;
pub use base_url::BaseUrl;
pub(crate) use base_url::normal;
pub use multipart::Multipart;
pub use none::NoTransport;

/// An HTTP client that makes exactly one request per call.
///
/// # Contract
/// - One call makes at most one request: no retry, no redirect, no cache.
/// - Nothing is decompressed.
/// - [`SendProgress`] of an error is accurate: if a byte of the request may have left, or if in doubt, it is
///   `MayHaveArrived`.
/// - A [`Deadline`] in the request's extensions bounds the whole exchange, response body included. Without one, the
///   transport's default does, of about 30 s.
/// - With [`PublicOnly`] in the extensions, an address that is private, loopback or otherwise not public is refused
///   after name resolution and before connecting. The check covers the URL's host, not a proxy's.
/// - No URL, header or body is logged.
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Makes one request.
    async fn call(&self, request: Request<Body>) -> Result<Response<Body>, TransportError>;
}

/// A request extension with the maximum time of an exchange.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(pub Duration);

/// A request extension that refuses addresses outside the public internet.
#[derive(Clone, Copy, Debug)]
pub struct PublicOnly;

/// A request or response body: empty, complete, or a stream.
pub struct Body(Inner);

enum Inner {
    Empty,
    Bytes(Bytes),
    #[cfg(feature = "reqwest")]
    Frames(reqwest::Frames),
    Stream(ByteStream, Option<u64>),
}

/// A stream of bytes.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

impl Body {
    /// Creates an empty body.
    pub const fn empty() -> Self {
        Self(Inner::Empty)
    }

    /// Creates a body from a stream, with its length in bytes if known.
    pub fn stream(stream: ByteStream, len: Option<u64>) -> Self {
        Self(Inner::Stream(stream, len))
    }

    /// Returns the remaining length in bytes, if known.
    pub fn len(&self) -> Option<u64> {
        match &self.0 {
            Inner::Empty => Some(0),
            Inner::Bytes(bytes) => Some(bytes.len() as u64),
            #[cfg(feature = "reqwest")]
            Inner::Frames(frames) => frames.len(),
            Inner::Stream(_, len) => *len,
        }
    }

    /// Returns `true` if the body is known to be empty.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// Returns the next piece, or `None` at the end.
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

/// The progress of a failed request: whether a byte may have left this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SendProgress {
    /// Part of it may have arrived.
    MayHaveArrived,
    /// Nothing was sent.
    NothingSent,
}

/// The cause of a failed call.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransportErrorKind {
    /// The request's body failed: a file over its cap, or with another hash.
    Body,
    /// The connection broke.
    Broken,
    /// The connection could not be established.
    Connect,
    /// The host name could not be resolved.
    Name,
    /// The address is not public, and the request allows no other.
    NotPublic,
    /// The request is not valid HTTP.
    Request,
    /// The call timed out.
    TimedOut,
    /// The TLS handshake failed: the certificate is invalid, or this machine has no trusted roots.
    Tls,
}

/// A call without a response. It contains no URL, header or body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportError {
    /// The cause.
    pub kind: TransportErrorKind,
    /// The progress of the request.
    pub progress: SendProgress,
}

impl TransportError {
    /// Creates an error.
    pub const fn new(kind: TransportErrorKind, progress: SendProgress) -> Self {
        Self { kind, progress }
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let progress = match self.progress {
            SendProgress::MayHaveArrived => "part of the request may have arrived",
            SendProgress::NothingSent => "nothing was sent",
        };
        write!(f, "{}: {progress}", self.description())
    }
}

impl TransportError {
    pub(crate) fn description(&self) -> &'static str {
        match self.kind {
            TransportErrorKind::Body => "the request body could not be read to its end",
            TransportErrorKind::Broken => "the connection broke",
            TransportErrorKind::Connect => "no connection could be made",
            TransportErrorKind::Name => "the host name could not be resolved",
            TransportErrorKind::NotPublic => "the host's address is not public",
            TransportErrorKind::Request => "the request is not valid HTTP",
            TransportErrorKind::TimedOut => "the request timed out",
            TransportErrorKind::Tls => "no TLS connection could be made",
        }
    }
}

impl std::error::Error for TransportError {}

/// Returns `true` if an address is on the public internet.
///
/// Follows the IANA registries of special-purpose addresses for IPv4 and IPv6, as in `SPECIAL_V4` and `SPECIAL_V6`.
/// Loopback, private, link-local, shared, documentation, benchmarking, discard, reserved and multicast addresses are
/// not public, nor are their forms in IPv6 (mapped, NAT64, 6to4).
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let bits = ip.to_bits();
            let row = SPECIAL_V4.iter().filter(|(at, len, _)| same(bits.into(), at.to_bits().into(), 32, *len));
            row.max_by_key(|(_, len, _)| *len).is_none_or(|(_, _, public)| *public)
        }
        IpAddr::V6(ip) => {
            let embedded = |high: u16, low: u16| {
                let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
                is_public(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
            };
            match ip.segments() {
                // IPv4 embedded in IPv6: compatible, mapped, NAT64, 6to4.
                [0, 0, 0, 0, 0, 0 | 0xFFFF, high, low] | [0x64, 0xFF9B, 0, 0, 0, 0, high, low] => embedded(high, low),
                [0x2002, high, low, ..] => embedded(high, low),
                _ => {
                    let row = SPECIAL_V6.iter().filter(|(at, len, _)| same(ip.to_bits(), at.to_bits(), 128, *len));
                    row.max_by_key(|(_, len, _)| *len).is_some_and(|(_, _, public)| *public)
                }
            }
        }
    }
}

/// Returns `true` if the first `len` of `all` bits are equal.
fn same(one: u128, other: u128, all: u32, len: u32) -> bool {
    (one ^ other).checked_shr(all.saturating_sub(len)).unwrap_or(0) == 0
}

/// <https://www.iana.org/assignments/iana-ipv4-special-registry>, state of 4 September 2020 (read 2026-11-30 from a
/// stored copy), and multicast: the address, the length of the prefix, and `true` if it is globally reachable.
///
/// The longest prefix decides. "N/A" in the registry counts as not reachable.
const SPECIAL_V4: &[(Ipv4Addr, u32, bool)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8, false),
    (Ipv4Addr::new(10, 0, 0, 0), 8, false),
    (Ipv4Addr::new(100, 64, 0, 0), 10, false),
    (Ipv4Addr::new(127, 0, 0, 0), 8, false),
    (Ipv4Addr::new(169, 254, 0, 0), 16, false),
    (Ipv4Addr::new(172, 16, 0, 0), 12, false),
    (Ipv4Addr::new(192, 0, 0, 0), 24, false),
    // Anycast addresses of the Port Control Protocol and of TURN.
    (Ipv4Addr::new(192, 0, 0, 9), 32, true),
    (Ipv4Addr::new(192, 0, 0, 10), 32, true),
    (Ipv4Addr::new(192, 0, 2, 0), 24, false),
    (Ipv4Addr::new(192, 31, 196, 0), 24, true),
    (Ipv4Addr::new(192, 52, 193, 0), 24, true),
    // 6to4 relay anycast, deprecated.
    (Ipv4Addr::new(192, 88, 99, 0), 24, false),
    (Ipv4Addr::new(192, 168, 0, 0), 16, false),
    (Ipv4Addr::new(192, 175, 48, 0), 24, true),
    (Ipv4Addr::new(198, 18, 0, 0), 15, false),
    (Ipv4Addr::new(198, 51, 100, 0), 24, false),
    (Ipv4Addr::new(203, 0, 113, 0), 24, false),
    (Ipv4Addr::new(224, 0, 0, 0), 4, false),
    (Ipv4Addr::new(240, 0, 0, 0), 4, false),
];

/// <https://www.iana.org/assignments/iana-ipv6-special-registry>, state of 15 March 2023 (read 2026-11-30 from a stored
/// copy) and, from memory, the later rows of RFC 9602 (5f00::/16), 9637 (3fff::/20), 9665 (2001:1::3) and 9780
/// (100:0:0:1::/64); and the space allocated for the public internet, 2000::/3.
const SPECIAL_V6: &[(Ipv6Addr, u32, bool)] = &[
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 0, false),
    (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3, true),
    (Ipv6Addr::new(0x64, 0xFF9B, 1, 0, 0, 0, 0, 0), 48, false),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64, false),
    (Ipv6Addr::new(0x100, 0, 0, 1, 0, 0, 0, 0), 64, false),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, false),
    // Anycast addresses of the Port Control Protocol, of TURN and of service registration.
    (Ipv6Addr::new(0x2001, 1, 0, 0, 0, 0, 0, 1), 128, true),
    (Ipv6Addr::new(0x2001, 1, 0, 0, 0, 0, 0, 2), 128, true),
    (Ipv6Addr::new(0x2001, 1, 0, 0, 0, 0, 0, 3), 128, true),
    (Ipv6Addr::new(0x2001, 3, 0, 0, 0, 0, 0, 0), 32, true),
    (Ipv6Addr::new(0x2001, 4, 0x112, 0, 0, 0, 0, 0), 48, true),
    (Ipv6Addr::new(0x2001, 0x20, 0, 0, 0, 0, 0, 0), 28, true),
    (Ipv6Addr::new(0x2001, 0x30, 0, 0, 0, 0, 0, 0), 28, true),
    (Ipv6Addr::new(0x2001, 0xDB8, 0, 0, 0, 0, 0, 0), 32, false),
    (Ipv6Addr::new(0x3FFF, 0, 0, 0, 0, 0, 0, 0), 20, false),
    (Ipv6Addr::new(0x5F00, 0, 0, 0, 0, 0, 0, 0), 16, false),
    (Ipv6Addr::new(0xFC00, 0, 0, 0, 0, 0, 0, 0), 7, false),
    (Ipv6Addr::new(0xFE80, 0, 0, 0, 0, 0, 0, 0), 10, false),
    (Ipv6Addr::new(0xFF00, 0, 0, 0, 0, 0, 0, 0), 8, false),
];

/// Returns `true` if a URL's host is this machine, judged by the name alone.
pub(crate) fn is_loopback(host: &str) -> bool {
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_public_follows_the_iana_registries() {
        for ip in [
            "1.0.0.0",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "191.255.255.255",
            "192.0.0.9",
            "192.0.0.10",
            "192.0.1.0",
            "192.0.3.0",
            "192.31.196.1",
            "192.52.193.1",
            "192.88.98.255",
            "192.88.100.0",
            "192.167.255.255",
            "192.169.0.0",
            "192.175.48.1",
            "198.17.255.255",
            "198.20.0.0",
            "198.51.99.255",
            "198.51.101.0",
            "203.0.112.255",
            "203.0.114.0",
            "223.255.255.255",
            "64:ff9b::8.8.8.8",
            "::ffff:8.8.8.8",
            "2002:808:808::1",
            "2000::",
            "2001:1::1",
            "2001:1::2",
            "2001:1::3",
            "2001:3::1",
            "2001:4:112::1",
            "2001:20::1",
            "2001:2f:ffff::",
            "2001:30::1",
            "2001:200::1",
            "2001:db7::1",
            "2001:db9::1",
            "2003::1",
            "2620:4f:8000::1",
            "2a00:1450::1",
            "3ffe::1",
            "3fff:1000::1",
        ] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in [
            "0.0.0.0",
            "0.255.255.255",
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.0",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.0.0",
            "169.254.169.254",
            "169.254.255.255",
            "172.16.0.0",
            "172.31.255.255",
            "192.0.0.0",
            "192.0.0.7",
            "192.0.0.8",
            "192.0.0.11",
            "192.0.0.170",
            "192.0.0.171",
            "192.0.0.255",
            "192.0.2.0",
            "192.0.2.255",
            "192.88.99.0",
            "192.88.99.255",
            "192.168.0.0",
            "192.168.255.255",
            "198.18.0.0",
            "198.19.255.255",
            "198.51.100.0",
            "198.51.100.255",
            "203.0.113.0",
            "203.0.113.255",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.0",
            "255.255.255.254",
            "255.255.255.255",
            "::",
            "::1",
            "::2",
            "::127.0.0.1",
            "::10.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:192.88.99.1",
            "::ffff:0:127.0.0.1",
            "::ffff:0:8.8.8.8",
            "64:ff9b::10.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::",
            "64:ff9b:1::808:808",
            "64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
            "64:ff9b:2::1",
            "64:ff9b:0:1::1",
            "100::",
            "100::1",
            "100::ffff:ffff:ffff:ffff",
            "100:0:0:1::1",
            "101::1",
            "2001::",
            "2001::1",
            "2001:0:808:808::1",
            "2001:1::",
            "2001:1::4",
            "2001:2::1",
            "2001:4:111::1",
            "2001:5::1",
            "2001:10::1",
            "2001:1f::1",
            "2001:40::1",
            "2001:1ff:ffff::",
            "2001:db8::",
            "2001:db8:ffff::1",
            "2002:7f00:1::",
            "2002:a00:1::",
            "2002:c0a8:101::1",
            "3fff::1",
            "3fff:fff:ffff::1",
            "4000::1",
            "5f00::1",
            "5fff::1",
            "8000::1",
            "fc00::1",
            "fd12::1",
            "fdff::1",
            "fe00::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff00::",
            "ff02::1",
            "ff0e::1",
            "ffff::1",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    #[tokio::test]
    async fn body_ends_once() {
        let mut body = Body::from("abc".to_owned());
        assert_eq!(body.len(), Some(3));
        assert_eq!(body.chunk().await.unwrap().unwrap(), "abc");
        assert!(body.chunk().await.is_none());
        assert!(Body::from(Vec::new()).chunk().await.is_none());
    }
}
