//! HTTP, seen from an adapter: one call, streamed, that says what left the socket.
//!
//! Adapters speak through an [`Endpoint`](crate::adapter::Endpoint), which stands on this; what they send goes wherever the
//! [`Transport`] of their [`Context`](crate::Context) takes it. With the feature `reqwest` that is
//! `ReqwestTransport`; without it, bring your own.

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

/// Carries one HTTP request, and its answer back.
///
/// # Contract
/// - One call makes at most one request: no retry, no redirect, no cache.
/// - Nothing is decompressed.
/// - An error says truthfully whether a byte of the request may have left: see [`SendProgress`]. When in doubt, it may have.
/// - A [`Deadline`] among the request's extensions bounds the whole exchange, answer body included. Without one, the
///   transport's own does: there is one, of about 30 s.
/// - With [`PublicOnly`] among them, an address that is private, loopback or otherwise not of the public internet is
///   refused after the name was resolved, and before a connection is made. It is the URL's host that is checked, and not
///   a proxy's.
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
    Frames(reqwest::Frames),
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
pub enum SendProgress {
    /// Some of it may have arrived.
    MayHaveArrived,
    /// Certainly nothing left.
    NothingSent,
}

/// What stopped a call.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransportErrorKind {
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
    pub fault: TransportErrorKind,
    /// Whether a byte of it may have left.
    pub wire: SendProgress,
}

impl TransportError {
    /// A call that brought no answer.
    pub const fn new(fault: TransportErrorKind, wire: SendProgress) -> Self {
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
            TransportErrorKind::Body => "the file to send could not be read to its end",
            TransportErrorKind::Broken => "the connection broke",
            TransportErrorKind::Connect => "no connection could be made",
            TransportErrorKind::Name => "the host's name could not be resolved",
            TransportErrorKind::NotPublic => "the host's address is not of the public internet",
            TransportErrorKind::Request => "the request could not be written as HTTP",
            TransportErrorKind::TimedOut => "it took too long",
            TransportErrorKind::Tls => "no TLS connection could be made",
        }
    }
}

impl std::error::Error for TransportError {}

/// Returns `true` if an address is of the public internet.
///
/// By the IANA registries of special-purpose addresses for IPv4 and IPv6, as in `SPECIAL_V4` and `SPECIAL_V6`: loopback,
/// private, link-local, shared, documentation, benchmarking, discard and reserved addresses are not, multicast is not,
/// nor is a way to write one of those in IPv6 (mapped, NAT64, 6to4).
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
                // IPv4 in IPv6, by each of the ways there are: compatible, mapped, NAT64, 6to4.
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

/// Returns `true` if the first `len` of `all` bits are the same.
fn same(one: u128, other: u128, all: u32, len: u32) -> bool {
    (one ^ other).checked_shr(all.saturating_sub(len)).unwrap_or(0) == 0
}

/// <https://www.iana.org/assignments/iana-ipv4-special-registry>, state of 4 September 2020 (read 2026-11-30 from a stored
/// copy), and multicast: the address, the length of
/// the prefix, and whether it is globally reachable. The longest prefix decides. Where the registry says "N/A" it is not.
const SPECIAL_V4: &[(Ipv4Addr, u32, bool)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8, false),
    (Ipv4Addr::new(10, 0, 0, 0), 8, false),
    (Ipv4Addr::new(100, 64, 0, 0), 10, false),
    (Ipv4Addr::new(127, 0, 0, 0), 8, false),
    (Ipv4Addr::new(169, 254, 0, 0), 16, false),
    (Ipv4Addr::new(172, 16, 0, 0), 12, false),
    (Ipv4Addr::new(192, 0, 0, 0), 24, false),
    // Anycast of the Port Control Protocol and of TURN.
    (Ipv4Addr::new(192, 0, 0, 9), 32, true),
    (Ipv4Addr::new(192, 0, 0, 10), 32, true),
    (Ipv4Addr::new(192, 0, 2, 0), 24, false),
    (Ipv4Addr::new(192, 31, 196, 0), 24, true),
    (Ipv4Addr::new(192, 52, 193, 0), 24, true),
    // The relays of 6to4, which are no more.
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
/// (100:0:0:1::/64); and what is given out for the public internet, 2000::/3.
const SPECIAL_V6: &[(Ipv6Addr, u32, bool)] = &[
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 0, false),
    (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3, true),
    (Ipv6Addr::new(0x64, 0xFF9B, 1, 0, 0, 0, 0, 0), 48, false),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64, false),
    (Ipv6Addr::new(0x100, 0, 0, 1, 0, 0, 0, 0), 64, false),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, false),
    // Anycast of the Port Control Protocol, of TURN and of service registration.
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

/// Whether a URL's host is this machine, by what it says itself.
pub(crate) fn is_loopback(host: &str) -> bool {
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_is_public() {
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
    async fn a_body_ends_once() {
        let mut body = Body::from("abc".to_owned());
        assert_eq!(body.len(), Some(3));
        assert_eq!(body.chunk().await.unwrap().unwrap(), "abc");
        assert!(body.chunk().await.is_none());
        assert!(Body::from(Vec::new()).chunk().await.is_none());
    }
}
