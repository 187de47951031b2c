//! Senders of SMS: numbers, short codes and names.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::masked::{masked_text, read_stored_by_parsing};
use super::phone::Phone;
use crate::model::error::{Error, Result};

/// The sender of our own text messages: a phone number, a short code, or a name.
///
/// ```
/// use civic_messaging::address::Sender;
///
/// assert!(matches!("+44 7700 900456".parse()?, Sender::Phone(_)));
/// assert!(matches!("60777".parse()?, Sender::ShortCode(_)));
/// assert!(matches!("Exampleshr".parse()?, Sender::Name(_)));
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    /// A name of up to 11 letters and digits. It cannot be replied to.
    Name(SenderName),
    /// A phone number.
    Phone(Phone),
    /// A short code.
    ShortCode(ShortCode),
}

impl Sender {
    /// Returns the sender as gateways write it; a phone number in E.164.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Name(name) => name.as_str(),
            Self::Phone(phone) => phone.as_str(),
            Self::ShortCode(code) => code.as_str(),
        }
    }
}

impl FromStr for Sender {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.contains(|c: char| c.is_ascii_alphabetic()) {
            SenderName::new(text).map(Self::Name)
        } else if !text.starts_with(['0', '+']) && text.len() <= 8 {
            ShortCode::new(text).map(Self::ShortCode)
        } else {
            // Our own number, or one from a gateway, is in use, so its full form skips the range check.
            let in_full = |rule| text.starts_with('+').then(|| Phone::from_digits(text).ok()).flatten().ok_or(rule);
            text.parse().or_else(in_full).map(Self::Phone)
        }
    }
}

impl Serialize for Sender {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Sender {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let rule = "must be a phone number, a short code, or a name of up to 11 letters, digits and spaces";
        String::deserialize(deserializer)?.parse().map_err(|_| serde::de::Error::custom(rule))
    }
}

/// A short code: 3 to 8 digits, never an E.164 number.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ShortCode(Box<str>);

impl ShortCode {
    /// Creates a short code.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecipient`](crate::ErrorKind::InvalidRecipient) unless it is 3 to 8 digits.
    pub fn new(code: &str) -> Result<Self> {
        if (3..=8).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_digit()) {
            Ok(Self(code.into()))
        } else {
            Err(Error::recipient("must be a short code of 3 to 8 digits"))
        }
    }

    /// Returns the code.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ShortCode {
    type Err = Error;

    fn from_str(code: &str) -> Result<Self> {
        Self::new(code)
    }
}

/// An alphanumeric sender: 1 to 11 letters, digits and spaces, at least one of them a letter. One-way only.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SenderName(Box<str>);

impl SenderName {
    /// Creates a sender name.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecipient`](crate::ErrorKind::InvalidRecipient) if it breaks that rule.
    pub fn new(name: &str) -> Result<Self> {
        let letter = name.bytes().any(|b| b.is_ascii_alphabetic());
        if letter && name.len() <= 11 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b' ') {
            Ok(Self(name.into()))
        } else {
            Err(Error::recipient("must be 1 to 11 letters, digits or spaces, at least one a letter"))
        }
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SenderName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::new(name)
    }
}

read_stored_by_parsing!(SenderName, ShortCode);
masked_text!(SenderName, ShortCode);
