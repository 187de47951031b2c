//! Files at a gateway's hosts, with the credential where it is allowed.

use std::time::Duration;

use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};

use super::endpoint::Endpoint;
use crate::media::{FileUrl, HostRules, MediaStream};
use crate::model::error::{Error, ErrorKind, Result};
use crate::transport::{Body, Deadline, PublicOnly};

impl Endpoint {
    /// Fetches a file from one of the gateway's hosts, with the credential where it is allowed.
    ///
    /// Follows up to three redirects, each checked like the first URL. Decompresses nothing. On a host that receives
    /// the credential, an ambiguous path is refused, and [`Credential::access`] decides how the others are fetched.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`], with the field `media.url`, for a URL that is not the gateway's or that the credential
    /// refuses, [`ErrorKind::NotFound`] for a deleted file, [`ErrorKind::TooLarge`] over `limits.cap`.
    pub async fn fetch(
        &self,
        url: &str,
        hosts: &HostRules,
        credential: impl Credential,
        limits: FetchLimits,
    ) -> Result<MediaStream> {
        let fetched = self.fetch_within(url.to_owned(), hosts, credential, limits).await;
        fetched.map_err(|error| error.with_gateway(self.gateway))
    }

    async fn fetch_within(
        &self,
        mut url: String,
        hosts: &HostRules,
        credential: impl Credential,
        limits: FetchLimits,
    ) -> Result<MediaStream> {
        let started = self.clock.monotonic();
        for _ in 0..=3 {
            // The limit covers the whole fetch, redirects included.
            let left = limits.time.saturating_sub(self.clock.monotonic().saturating_sub(started));
            if left.is_zero() {
                return Err(Error::new(ErrorKind::Unavailable, "the media fetch timed out"));
            }
            let loopback = self.base.is_loopback();
            let (uri, trusted) = hosts.check(&url, &self.base)?;
            let access = if trusted { credential.access(&FileUrl::new(&uri)?) } else { Access::Anonymous };
            if access == Access::Refused {
                return Err(Error::new(ErrorKind::Forbidden, "is not a URL that the credential may be sent to")
                    .with_field("media.url"));
            }
            let mut request = Request::new(Body::empty());
            if access == Access::Credential
                && let Some(header) = credential.header(&uri)?
            {
                request.headers_mut().insert(credential.name(), header);
            }
            *request.uri_mut() = uri.clone();
            request.extensions_mut().insert(Deadline(left));
            if !loopback {
                request.extensions_mut().insert(PublicOnly);
            }
            let answer = self.transport.call(request).await.map_err(|e| self.unreachable(e, false))?;
            let (parts, body) = answer.into_parts();
            if parts.status.is_redirection() {
                let target = parts.headers.get(LOCATION).and_then(|to| to.to_str().ok()).filter(|to| !to.is_empty());
                let target = target.ok_or_else(|| Error::new(ErrorKind::Unexpected, "a redirect has no target"))?;
                url = redirected(&uri, target);
                continue;
            }
            if !parts.status.is_success() {
                let answer = self.read(parts, body, false).await?;
                // A file host may return web pages for deleted files.
                return Err(self.error_of(&answer, false));
            }
            let mime = parts.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(str::to_owned);
            let left = limits.time.saturating_sub(self.clock.monotonic().saturating_sub(started));
            return Ok(MediaStream::new(mime, body).capped(limits.cap)?.deadline(&*self.clock, left));
        }
        Err(Error::new(ErrorKind::Unexpected, "the file has too many redirects"))
    }
}

/// The limits of a fetch.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    /// The maximum number of bytes.
    pub cap: u64,
    /// The maximum time for the whole fetch.
    pub time: Duration,
}

/// The credential for a fetch, created for its URL: a bearer token is always the same, a signature is not.
pub trait Credential: Sync {
    /// Returns the header's value.
    ///
    /// # Errors
    /// If it cannot be created.
    fn header(&self, uri: &http::Uri) -> Result<Option<HeaderValue>>;

    /// Returns the header's name.
    fn name(&self) -> HeaderName {
        AUTHORIZATION
    }

    /// Decides how a file is fetched from a host that may receive the credential.
    ///
    /// Called for each URL before its request, redirects included.
    fn access(&self, _file: &FileUrl<'_>) -> Access {
        Access::Credential
    }

    /// Limits the credential to the files that `access` allows.
    ///
    /// Use it for a credential that opens more than files, because file URLs come from webhooks and redirects.
    ///
    /// ```
    /// use civic_messaging::adapter::{Access, Credential, bearer};
    /// use civic_messaging::media::FileUrl;
    ///
    /// # let token = civic_messaging::Secret::new("the-token-of-the-account")?;
    /// let credential = Some(bearer(&token)?).limited_to(|file: &FileUrl<'_>| {
    ///     if file.path().starts_with("/v1/files/") { Access::Credential } else { Access::Refused }
    /// });
    /// # Ok::<(), civic_messaging::Error>(())
    /// ```
    fn limited_to<A>(self, access: A) -> Limited<Self, A>
    where
        Self: Sized,
        A: Fn(&FileUrl<'_>) -> Access + Sync,
    {
        Limited { credential: self, access }
    }
}

/// The way a file is fetched from a host that may receive the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// With the credential.
    Credential,
    /// Without it.
    Anonymous,
    /// Not fetched.
    Refused,
}

/// A credential for some files only: see [`Credential::limited_to`].
#[derive(Clone, Copy)]
pub struct Limited<C, A> {
    credential: C,
    access: A,
}

impl<C, A> std::fmt::Debug for Limited<C, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Limited(masked)")
    }
}

impl<C: Credential, A: Fn(&FileUrl<'_>) -> Access + Sync> Credential for Limited<C, A> {
    fn header(&self, uri: &http::Uri) -> Result<Option<HeaderValue>> {
        self.credential.header(uri)
    }

    fn name(&self) -> HeaderName {
        self.credential.name()
    }

    fn access(&self, file: &FileUrl<'_>) -> Access {
        (self.access)(file)
    }
}

/// A credential in a gateway-specific header, the same for every URL.
impl Credential for (HeaderName, HeaderValue) {
    fn header(&self, _uri: &http::Uri) -> Result<Option<HeaderValue>> {
        Ok(Some(self.1.clone()))
    }

    fn name(&self) -> HeaderName {
        self.0.clone()
    }
}

/// No credential, or the same for every URL.
impl Credential for Option<HeaderValue> {
    fn header(&self, _uri: &http::Uri) -> Result<Option<HeaderValue>> {
        Ok(self.clone())
    }
}

impl<F: Fn(&http::Uri) -> Result<Option<HeaderValue>> + Sync> Credential for F {
    fn header(&self, uri: &http::Uri) -> Result<Option<HeaderValue>> {
        self(uri)
    }
}

/// Resolves a redirect to a URL or to a path on the same host. Anything else is unchanged, and refused later.
fn redirected(from: &http::Uri, to: &str) -> String {
    let scheme = from.scheme_str().unwrap_or("https");
    match from.authority() {
        Some(_) if to.starts_with("//") => format!("{scheme}:{to}"),
        Some(host) if to.starts_with('/') => format!("{scheme}://{host}{to}"),
        _ => to.to_owned(),
    }
}
