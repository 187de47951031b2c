//! Values that are written into URLs and headers, encoded for their place.

use std::borrow::Cow;

use http::header::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};

use crate::model::error::{Error, Result};
use crate::model::secret::Secret;

/// Returns an id as one segment of a path, percent-encoded where necessary.
///
/// Ids come from webhooks, responses and callers, and must not redirect a request. An id is refused if it is empty, `.`
/// or `..`, or contains a control character or a character by which servers split or decode a URL (`/`, `\\`, `?`, `#`,
/// `%`).
///
/// ```
/// use civic_messaging::adapter::segment;
///
/// assert_eq!(segment("media.id", "900000000000001")?, "900000000000001");
/// assert_eq!(segment("media.id", "a file")?, "a%20file");
/// assert_eq!(segment("media.id", "..").unwrap_err().field(), Some("media.id"));
/// # Ok::<(), civic_messaging::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) with this field.
pub fn segment<'a>(field: &'static str, id: &'a str) -> Result<Cow<'a, str>> {
    let divides = |c: char| c.is_control() || matches!(c, '/' | '\\' | '?' | '#' | '%');
    if matches!(id, "" | "." | "..") || id.contains(divides) {
        return Err(Error::invalid(field, "cannot be used in a URL path"));
    }
    Ok(percent(id).into())
}

/// Returns the query string of these parameters, in which everything but the unreserved characters is percent-encoded.
///
/// No client encodes it any further, so that a signature over it holds.
///
/// ```
/// use civic_messaging::adapter::query;
///
/// assert_eq!(query(&[("to", "+44 7700"), ("page", "2")]), "to=%2B44%207700&page=2");
/// ```
pub fn query(pairs: &[(&str, &str)]) -> String {
    let pair = |(name, value): &(&str, &str)| format!("{}={}", percent(name), percent(value));
    pairs.iter().map(pair).collect::<Vec<_>>().join("&")
}

/// Percent-encodes everything but the unreserved characters.
pub(super) fn percent(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, RESERVED)
}

/// Everything but the unreserved characters (RFC 3986, 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Returns the value of a `Bearer` header, marked as sensitive.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) if the token contains characters that a header cannot.
pub fn bearer(token: &Secret) -> Result<HeaderValue> {
    sensitive(&format!("Bearer {}", token.expose()))
}

/// Returns the value of a `Basic` header, marked as sensitive.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) if the user is empty or contains a colon, which would end it (RFC 7617).
pub fn basic(user: &str, password: &Secret) -> Result<HeaderValue> {
    use base64::prelude::{BASE64_STANDARD, Engine};
    if user.is_empty() || user.contains(':') {
        return Err(Error::config("user", "must not be empty or contain a colon"));
    }
    sensitive(&format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{}", password.expose()))))
}

/// Returns a header's value, marked as sensitive.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) if it contains characters that a header cannot.
pub fn sensitive(value: &str) -> Result<HeaderValue> {
    let mut header = HeaderValue::from_str(value)
        .map_err(|_| Error::config("secret", "contains characters that a header cannot"))?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::error::{ErrorKind, Outcome};

    #[test]
    fn segment_refuses_ids_that_change_the_path() {
        for valid in ["900000000000001", "wamid.HBg_-~", "a..b", "...", "3e4", "CAFE"] {
            assert_eq!(segment("id", valid).unwrap(), valid);
        }
        for (id, written) in
            [("a b", "a%20b"), ("a:b@c;d", "a%3Ab%40c%3Bd"), ("ŵ", "%C5%B5"), ("a+b&c=d", "a%2Bb%26c%3Dd")]
        {
            assert_eq!(segment("id", id).unwrap(), written);
        }
        for bad in [
            "", ".", "..", "../x", "a/b", "/", "a\\b", "..\\", "?a=b", "1?a", "1#a", "#", "%2e%2e", "%2E.", "a%2fb",
            "%", "a\nb", "a\0", "\u{7f}", "\u{85}",
        ] {
            let error = segment("media.id", bad).unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::InvalidMessage, Some("media.id")), "{bad:?}");
            assert_eq!(error.outcome(), Outcome::NotSent);
        }
    }

    #[test]
    fn credentials_are_masked() {
        let secret = Secret::new("canary-token").unwrap();
        assert!(!format!("{:?}", bearer(&secret).unwrap()).contains("canary"));
        assert!(!format!("{:?}", basic("user", &secret).unwrap()).contains("canary"));
        assert!(basic("", &secret).is_err() && basic("a:b", &secret).is_err());
    }
}
