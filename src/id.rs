//! Identifiers, masked.
//!
//! A gateway's message id can hold a person: a WhatsApp id carries the phone number in base64. Ids are therefore
//! masked in `Debug` and `Display` like the number itself, and handed out whole only by `as_str`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD as BASE64, Engine};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

/// The id that a gateway gave to a message, or to one part of it.
///
/// Opaque: compare it, store it, hand it back to the gateway; never parse it. `Debug` and `Display` show the last
/// characters only.
///
/// ```
/// use civic_messaging::MessageId;
///
/// let id = MessageId::new("wamid.HBgMNDQ3NzAwOTAwMTIzFQIAERgSMEE5");
/// assert_eq!(id.to_string(), "…EE5");
/// assert!(!format!("{id:?}").contains("HBgMNDQ3"));
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(Box<str>);

impl MessageId {
    /// An id as the gateway wrote it.
    pub fn new(id: impl Into<Box<str>>) -> Self {
        Self(id.into())
    }

    /// The whole id. Personal data: keep it out of logs.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for MessageId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

impl From<String> for MessageId {
    fn from(id: String) -> Self {
        Self(id.into())
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageId({})", Masked(&self.0))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Masked(&self.0).fmt(f)
    }
}

/// The name of our own account at a gateway: a phone-number id, an X user id, an account SID, a service id.
///
/// It names the council and not a person, so it is shown whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(Arc<str>);

impl AccountId {
    /// An account as the gateway names it.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// The account as the gateway names it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for AccountId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

impl From<String> for AccountId {
    fn from(id: String) -> Self {
        Self(id.into())
    }
}

impl Serialize for AccountId {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for AccountId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The SHA-256 of a file.
///
/// Reads the hexadecimal and the base64 spelling, since gateways write both. It is the file's name in a
/// [`MediaStore`](crate::MediaStore), and is shown in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// A digest from its bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The bytes of the digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bytes = match text.len() {
            64 => unhex(text.as_bytes()),
            _ => BASE64.decode(text).ok().and_then(|bytes| bytes.try_into().ok()),
        };
        bytes.map(Self).ok_or_else(|| Error::invalid("sha256", "is not 32 bytes in hexadecimal or base64"))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Reads 32 bytes of hexadecimal, of either case.
pub(crate) fn unhex(text: &[u8]) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let pairs: &[[u8; 2]; 32] = text.as_chunks().0.try_into().ok().filter(|_| text.len() == 64)?;
    let mut bytes = [0; 32];
    for (byte, &[high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(bytes)
}

/// Shows `…` and the last three characters of something personal, or `…` alone when it is short.
pub(crate) struct Masked<'a>(pub(crate) &'a str);

impl fmt::Display for Masked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")?;
        if self.0.chars().count() < 8 {
            return Ok(());
        }
        let tail = self.0.char_indices().rev().nth(2).map_or(0, |(at, _)| at);
        f.write_str(self.0.get(tail..).unwrap_or_default())
    }
}

/// Shows how long a personal text is, and nothing of it.
pub(crate) struct Hidden<'a>(pub(crate) &'a str);

impl fmt::Debug for Hidden<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} characters>", self.0.chars().count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_values_show_nothing() {
        assert_eq!(Masked("1234567").to_string(), "…");
        assert_eq!(Masked("").to_string(), "…");
        assert_eq!(Masked("+447700900123").to_string(), "…123");
        assert_eq!(Masked("ŵŵŵŵŵŵŵŵ").to_string(), "…ŵŵŵ");
    }

    #[test]
    fn a_digest_is_read_in_both_spellings() {
        let hex = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let digest: Digest = hex.parse().unwrap();
        assert_eq!(digest, Digest::of(b"test"));
        assert_eq!(digest.to_string(), hex);
        assert_eq!("n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=".parse::<Digest>().unwrap(), digest);
        for wrong in ["", "9f86", "n4bQ", "zz86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"] {
            assert!(wrong.parse::<Digest>().is_err());
        }
    }

    #[test]
    fn an_account_is_shown_and_an_id_is_not() {
        assert_eq!(AccountId::new("200000000000001").to_string(), "200000000000001");
        assert_eq!(format!("{:?}", MessageId::new("wamid.FIXTURE_OUT_0001")), "MessageId(…001)");
    }
}
