//! The base URL of a gateway's API.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::is_loopback;
use crate::model::error::{Error, Result};

/// The base URL of an API: `https://host[:port][/path]`, or plain `http` on loopback for tests.
///
/// ```
/// use civic_messaging::transport::BaseUrl;
///
/// assert!("https://graph.facebook.com".parse::<BaseUrl>().is_ok());
/// assert!("http://127.0.0.1:8080".parse::<BaseUrl>()?.is_loopback());
/// assert!("http://graph.facebook.com".parse::<BaseUrl>().is_err());
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    url: Box<str>,
    host: Box<str>,
    loopback: bool,
}

impl BaseUrl {
    /// Returns the URL without a trailing slash.
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// Returns the host and port as written.
    pub(crate) fn authority(&self) -> &str {
        let after = self.url.split_once("://").map_or(&*self.url, |(_, rest)| rest);
        after.split('/').next().unwrap_or_default()
    }

    /// Returns the path, which precedes that of every request; usually empty.
    pub fn path(&self) -> &str {
        let after = self.url.split_once("://").map_or(&*self.url, |(_, rest)| rest);
        after.find('/').and_then(|at| after.get(at..)).unwrap_or_default()
    }

    /// Returns the host in lower case.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Returns `true` if the host is this machine.
    pub fn is_loopback(&self) -> bool {
        self.loopback
    }
}

impl std::str::FromStr for BaseUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::read(text).map_err(|rule| Error::config("base_url", rule))
    }
}

impl BaseUrl {
    /// Parses a URL, or returns the rule that it breaks.
    fn read(text: &str) -> Result<Self, &'static str> {
        let url = text.trim_end_matches('/');
        let uri: http::Uri = url.parse().map_err(|_| "is not a URL")?;
        let authority = uri.authority().ok_or("must start with https://")?;
        if authority.as_str().contains('@') {
            return Err("must not contain a user name or password");
        }
        if uri.query().is_some() || url.contains('#') {
            return Err("must not contain a query or fragment");
        }
        let loopback = is_loopback(authority.host());
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if loopback => {}
            _ => return Err("must be https, unless it is loopback"),
        }
        let host = authority.host().to_ascii_lowercase().into();
        Ok(Self { url: url.into(), host, loopback })
    }
}

impl<'de> serde::Deserialize<'de> for BaseUrl {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Decodes a path once; `None` if servers could interpret it in different ways.
pub(crate) fn normal(path: &str) -> Option<Cow<'_, str>> {
    let decoded = percent_decode_str(path).decode_utf8().ok()?;
    let slashes = |path: &str| path.bytes().filter(|b| *b == b'/').count();
    // An encoded slash, an escape that is left over, or double encoding.
    if slashes(&decoded) != slashes(path) || decoded.contains(|c: char| c.is_control() || matches!(c, '\\' | '%' | '#'))
    {
        return None;
    }
    let mut segments = decoded.strip_prefix('/')?.split('/').peekable();
    while let Some(segment) = segments.next() {
        if matches!(segment, "." | "..") || (segment.is_empty() && segments.peek().is_some()) {
            return None;
        }
    }
    Some(decoded)
}
