//! SHA-256 digests.

use std::fmt;
use std::str::FromStr;

use base64::prelude::{BASE64_STANDARD as BASE64, Engine};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::model::error::{Error, Result};

/// The SHA-256 digest of a file.
///
/// Parses hexadecimal and base64, since gateways use both, and displays as hexadecimal. It is the file's name in a
/// [`MediaStore`](crate::media::MediaStore).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Creates a digest from its bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Computes the digest of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Returns the bytes of the digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the digest in base 62, cut to `max` characters: ASCII letters and digits, at most 43.
    ///
    /// It starts with the least significant digit, so that the kept characters are evenly distributed.
    pub(crate) fn to_base62(self, max: usize) -> String {
        let mut number = self.0;
        let digits = (0..max.min(43)).map(|_| {
            let mut rest = 0;
            for byte in &mut number {
                let part = rest << 8 | u16::from(*byte);
                // Less than 256, since the rest is less than 62.
                (*byte, rest) = ((part / 62) as u8, part % 62);
            }
            let digit = rest as u8;
            char::from(match digit {
                0..=9 => b'0' + digit,
                10..=35 => b'A' + digit - 10,
                _ => b'a' + digit - 36,
            })
        });
        digits.collect()
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bytes = match text.len() {
            64 => sha256_from_hex(text.as_bytes()),
            _ => BASE64.decode(text).ok().and_then(|bytes| bytes.try_into().ok()),
        };
        bytes.map(Self).ok_or_else(|| Error::invalid("sha256", "is not 32 bytes in hexadecimal or base64"))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base16ct::lower::encode_string(&self.0))
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

/// Parses 32 bytes of hexadecimal, in either case.
pub(crate) fn sha256_from_hex(text: &[u8]) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let decoded = base16ct::mixed::decode(text, &mut bytes).is_ok_and(|decoded| decoded.len() == 32);
    decoded.then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_parses_hexadecimal_and_base64() {
        let hex = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let digest: Digest = hex.parse().unwrap();
        assert_eq!(digest, Digest::sha256(b"test"));
        assert_eq!(digest.to_string(), hex);
        assert_eq!("n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=".parse::<Digest>().unwrap(), digest);
        for wrong in ["", "9f86", "n4bQ", "zz86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"] {
            assert!(wrong.parse::<Digest>().is_err());
        }
    }

    #[test]
    fn digest_in_base62_is_stable() {
        // Computed independently: int.from_bytes(sha256(b"test"), "big") in base 62, least significant digit first.
        let digest = Digest::sha256(b"test");
        let whole = "6vhzrz95kiht2XjnE9MLF0Zo76GslnNyr2vKxHOQNpb";
        assert_eq!(digest.to_base62(usize::MAX), whole);
        for max in 0..=43 {
            assert_eq!(digest.to_base62(max), whole[..max]);
        }
        assert_eq!(Digest::new([0; 32]).to_base62(50), "0".repeat(43));
        assert_eq!(Digest::new([0xFF; 32]).to_base62(50), "1pX8wOr5j2ACunjH7GLL8mWZWHmY1LA1ZO6Adwksjhy");
    }
}
