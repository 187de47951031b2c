//! Schemes that verify requests, and what they decide.

use std::fmt;

use http::StatusCode;

use super::received::Received;
use super::request::{BODY_MAX, Request, Unverified};
use super::response::Response;
use super::verified::Verified;
use crate::model::error::{Error, ErrorKind, Result};

/// A signature scheme: proves that a webhook is from the gateway.
///
/// A scheme compares in constant time, verifies before it parses, and uses no clock but [`Unverified::arrived`].
/// [`HmacSha256`](super::HmacSha256), [`BearerToken`](super::BearerToken), [`HeaderToken`](super::HeaderToken),
/// [`Basic`](super::Basic), [`QueryToken`](super::QueryToken) and [`Unsigned`](super::Unsigned) are shared by several
/// gateways. A gateway with a scheme of its own needs these few lines, here for a token in a header:
///
/// ```
/// use civic_messaging::webhook::{SignatureCoverage, Refusal, Scheme, Unverified, SigningSecret, Verification, Verified};
/// use http::HeaderName;
///
/// #[derive(Debug)]
/// struct HeaderToken(Vec<SigningSecret>);
///
/// impl Scheme for HeaderToken {
///     fn verify(&self, unverified: Unverified<'_>) -> Verification {
///         let Some(token) = unverified.headers().get(HeaderName::from_static("x-acme-token")) else {
///             return Verification::Refused(Refusal::Missing);
///         };
///         match self.0.iter().find(|secret| secret.secret().matches(token.as_bytes())) {
///             Some(secret) => Verification::Open(Verified::new(&unverified, unverified.body().clone(), secret)),
///             None => Verification::Refused(Refusal::Wrong),
///         }
///     }
///
///     fn covers(&self) -> SignatureCoverage {
///         SignatureCoverage::Nothing
///     }
/// }
/// ```
pub trait Scheme: fmt::Debug + Send + Sync {
    /// Verifies a request.
    fn verify(&self, unverified: Unverified<'_>) -> Verification;

    /// Returns the part of a request that the signature covers.
    fn covers(&self) -> SignatureCoverage;
}

/// The part of a request that a scheme's signature covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureCoverage {
    /// The raw body.
    Body,
    /// Named claims inside the body.
    Claims,
    /// Nothing: a shared token authenticates the sender, not the content.
    Nothing,
    /// The URL with its query, and the fields of the form.
    UrlAndForm,
}

/// The result of verifying a request.
#[derive(Debug)]
#[non_exhaustive]
pub enum Verification {
    /// A handshake, with its response.
    Answer(Response),
    /// Needs the key at this URL.
    NeedKey(String),
    /// Verified.
    Open(Verified),
    /// Refused.
    Refused(Refusal),
}

/// The reason why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no signature.
    Missing,
    /// The signature is older or newer than the scheme allows.
    Stale,
    /// The signature is wrong.
    Wrong,
}

impl Refusal {
    fn description(self) -> &'static str {
        match self {
            Self::Missing => "the webhook has no signature",
            Self::Stale => "the webhook's signature has expired",
            Self::Wrong => "the webhook's signature is wrong",
        }
    }

    /// Returns the reason why a channel refused a webhook, or `None` for any other error.
    #[cfg_attr(
        not(any(feature = "postgres", feature = "sqlite-system")),
        allow(dead_code, reason = "the switchboard reads it")
    )]
    pub(crate) fn from_error(error: &Error) -> Option<Self> {
        match error.webhook_status() {
            _ if error.kind() != ErrorKind::Unauthenticated => None,
            StatusCode::UNAUTHORIZED => Some(Self::Missing),
            _ if error.what() == Self::Stale.description() => Some(Self::Stale),
            status => status.is_client_error().then_some(Self::Wrong),
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Missing => StatusCode::UNAUTHORIZED,
            Self::Stale | Self::Wrong => StatusCode::FORBIDDEN,
        }
    }
}

/// The result of opening a request.
#[derive(Debug)]
#[non_exhaustive]
pub enum Opened {
    /// The gateway's handshake, with its response. It has no events.
    Handshake(Received),
    /// The scheme needs the key at this URL, which the adapter must fetch and check before opening again.
    NeedKey(String),
    /// Verified events.
    Verified(Verified),
}

impl Request {
    /// Verifies the request with a scheme and returns its contents. There is no other access to its body and query.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] over [`BODY_MAX`], before anything is parsed; [`ErrorKind::Unauthenticated`] if the
    /// scheme refuses. [`Error::webhook_status`] is the status for the response.
    pub fn open(&self, scheme: &dyn Scheme) -> Result<Opened> {
        if self.body.len() > BODY_MAX {
            return Err(Error::new(ErrorKind::TooLarge, "the webhook's body is over 4 MiB"));
        }
        match scheme.verify(Unverified(self)) {
            Verification::Open(verified) => Ok(Opened::Verified(verified)),
            Verification::Answer(response) => {
                Ok(Opened::Handshake(Received { events: Vec::new(), response, discarded: Vec::new() }))
            }
            Verification::NeedKey(url) => Ok(Opened::NeedKey(url)),
            Verification::Refused(refusal) => {
                let what = match (refusal, scheme.covers()) {
                    (Refusal::Wrong, SignatureCoverage::UrlAndForm) => {
                        "the webhook's signature is wrong: check the secret, and that public_url is the address that the \
                         gateway calls"
                    }
                    _ => refusal.description(),
                };
                Err(Error::new(ErrorKind::Unauthenticated, what).with_webhook_status(refusal.status()))
            }
        }
    }

    /// Verifies the request, for a gateway without a handshake whose scheme needs no external key.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), and [`ErrorKind::Unsupported`] for anything but events.
    pub fn verified(&self, scheme: &dyn Scheme) -> Result<Verified> {
        match self.open(scheme)? {
            Opened::Verified(verified) => Ok(verified),
            Opened::Handshake(_) | Opened::NeedKey(_) => Err(Error::unsupported("the gateway has no handshake")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_long_body_is_refused_before_the_scheme_runs() {
        #[derive(Debug)]
        struct Panics;
        impl Scheme for Panics {
            fn verify(&self, _: Unverified<'_>) -> Verification {
                panic!("it was read")
            }
            fn covers(&self) -> SignatureCoverage {
                SignatureCoverage::Nothing
            }
        }
        let request = Request::new(http::Request::new(vec![b' '; BODY_MAX + 1]));
        let error = request.open(&Panics).unwrap_err();
        assert_eq!((error.kind(), error.webhook_status()), (ErrorKind::TooLarge, StatusCode::PAYLOAD_TOO_LARGE));
    }
}
