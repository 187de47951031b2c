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
/// It refuses to be empty, blank or shorter than 8 bytes when it is made, because an HMAC under an empty key looks
/// like any other. It is masked in `Debug`, cannot be serialised, compares in constant time, and its memory is
/// wiped when it is dropped.
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
    /// The shortest secret that is taken, in bytes.
    pub const MIN_LEN: usize = 8;

    /// Takes a secret.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when it is empty, blank, or shorter than
    /// [`MIN_LEN`](Self::MIN_LEN) bytes.
    pub fn new(secret: impl Into<String>) -> Result<Self> {
        let secret = Zeroizing::new(secret.into());
        match rule(&secret) {
            Some(rule) => Err(Error::config("secret", rule)),
            None => Ok(Self(secret)),
        }
    }

    /// The secret itself. Hand it to the call that needs it and nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether this is the same secret, in a time that does not depend on where they differ.
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

/// A person in a log line: the same person gives the same fingerprint, and the fingerprint does not give the person.
///
/// It is an HMAC-SHA256 under a pepper of the deployment, cut to 64 bits. Without the pepper a phone number could be
/// found by trying all of them. See [`Address::fingerprint`](crate::Address::fingerprint).
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
    fn bad_secrets_are_named() {
        for (secret, rule) in [("", "is empty"), (" \n ", "is blank"), ("1234567", "is shorter than 8 bytes")] {
            let error = Secret::new(secret).unwrap_err();
            assert_eq!(error.field(), Some("secret"));
            assert!(error.to_string().contains(rule), "{error}");
        }
        assert!(Secret::new("12345678").is_ok());
    }

    #[test]
    fn matching_needs_every_byte() {
        let secret = Secret::new("correct horse").unwrap();
        assert!(secret.matches(b"correct horse"));
        for wrong in ["", "correct hors", "correct horse!", "Correct horse"] {
            assert!(!secret.matches(wrong.as_bytes()));
        }
    }

    #[test]
    fn a_fingerprint_depends_on_pepper_and_person() {
        let (a, b) = (Secret::new("pepper-one").unwrap(), Secret::new("pepper-two").unwrap());
        let one = Fingerprint::of(&a, &["sms", "+447700900123"]);
        assert_eq!(one, Fingerprint::of(&a, &["sms", "+447700900123"]));
        assert_ne!(one, Fingerprint::of(&b, &["sms", "+447700900123"]));
        assert_ne!(one, Fingerprint::of(&a, &["sms+", "447700900123"]));
        assert_eq!(one.to_string().len(), 16);
    }
}
