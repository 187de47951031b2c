//! Tokens, keys and passwords that cannot be printed.

use std::fmt;

use ctutils::CtEq;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Deserializer};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::model::error::{Error, Result};

/// A token, key or password.
///
/// Construction fails if it is empty, blank or shorter than 8 bytes, because an HMAC under an empty key looks like any
/// other. It is masked in `Debug`, cannot be serialised, compares in constant time, and is wiped from memory on drop.
///
/// ```
/// use civic_messaging::Secret;
///
/// let token = Secret::new("EAAG-example-token")?;
/// assert_eq!(format!("{token:?}"), "Secret(masked)");
/// assert_eq!(token.expose(), "EAAG-example-token");
/// assert!(Secret::new("").is_err());
/// assert!(Secret::new("      \t    ").is_err());
/// assert!(Secret::new("short").is_err());
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The minimum length of a secret in bytes.
    pub const MIN_LEN: usize = 8;

    /// Creates a secret.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if it is empty, blank, or shorter than
    /// [`MIN_LEN`](Self::MIN_LEN) bytes.
    pub fn new(secret: impl Into<String>) -> Result<Self> {
        let secret = Zeroizing::new(secret.into());
        match rule(&secret) {
            Some(rule) => Err(Error::config("secret", rule)),
            None => Ok(Self(secret)),
        }
    }

    /// Creates the secret of a setting, which its error names.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn setting(field: &'static str, secret: impl Into<String>) -> Result<Self> {
        Self::new(secret).map_err(|error| error.with_field(field))
    }

    /// Returns the secret. Pass it only to the call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares with another secret in constant time.
    pub fn matches(&self, other: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(other).to_bool()
    }
}

fn rule(secret: &str) -> Option<&'static str> {
    match secret {
        "" => Some("is empty"),
        s if s.trim().is_empty() => Some("is blank"),
        s if s.len() < Secret::MIN_LEN => Some("is shorter than 8 bytes"),
        _ => None,
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(masked)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let secret = Zeroizing::new(String::deserialize(deserializer)?);
        match rule(&secret) {
            Some(rule) => Err(serde::de::Error::custom(format!("secret {rule}"))),
            None => Ok(Self(secret)),
        }
    }
}

/// A pseudonym for a person in log lines: stable for one person, and not reversible.
///
/// It is an HMAC-SHA256 under the deployment's pepper, cut to 64 bits. Without a pepper, trying all phone numbers would
/// reveal the person. See [`Address::fingerprint`](crate::Address::fingerprint).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 8]);

impl Fingerprint {
    pub(crate) fn of(pepper: &Secret, parts: &[&str]) -> Self {
        let mut bytes = [0; 8];
        if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(pepper.expose().as_bytes()) {
            for part in parts {
                mac.update(&(part.len() as u64).to_be_bytes());
                mac.update(part.as_bytes());
            }
            for (to, from) in bytes.iter_mut().zip(mac.finalize().into_bytes()) {
                *to = from;
            }
        }
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base16ct::lower::encode_string(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_secret_error_names_the_rule() {
        for (secret, rule) in [("", "is empty"), (" \n ", "is blank"), ("1234567", "is shorter than 8 bytes")] {
            let error = Secret::new(secret).unwrap_err();
            assert_eq!(error.field(), Some("secret"));
            assert!(error.to_string().contains(rule), "{error}");
        }
        assert!(Secret::new("12345678").is_ok());
    }

    #[test]
    fn matches_compares_every_byte() {
        let secret = Secret::new("correct horse").unwrap();
        assert!(secret.matches(b"correct horse"));
        for wrong in ["", "correct hors", "correct horse!", "Correct horse"] {
            assert!(!secret.matches(wrong.as_bytes()));
        }
    }

    #[test]
    fn fingerprint_depends_on_pepper_and_person() {
        let (a, b) = (Secret::new("pepper-one").unwrap(), Secret::new("pepper-two").unwrap());
        let one = Fingerprint::of(&a, &["sms", "+447700900123"]);
        assert_eq!(one, Fingerprint::of(&a, &["sms", "+447700900123"]));
        assert_ne!(one, Fingerprint::of(&b, &["sms", "+447700900123"]));
        assert_ne!(one, Fingerprint::of(&a, &["sms+", "447700900123"]));
        assert_eq!(one.to_string().len(), 16);
    }
}
