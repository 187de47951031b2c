//! Persons as WhatsApp, X and Messenger identify them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::masked::{masked_text, read_stored_by_parsing};
use super::phone::Phone;
use crate::medium;
use crate::model::error::{Error, Result};
use crate::model::id::Masked;

/// A person on WhatsApp: a phone number, a business-scoped user id (BSUID), or both.
///
/// Since 2026 a resident may hide the number, which leaves only the user id. It belongs to one business portfolio and
/// changes when the person's number changes. ([Meta, business-scoped user ids][page], state of September 2026, read
/// 2026-11-22 from stored copies.)
///
/// [page]: https://developers.facebook.com/documentation/business-messaging/whatsapp/business-scoped-user-ids
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct WhatsAppUser {
    phone: Option<Phone>,
    user_id: Option<Box<str>>,
}

impl WhatsAppUser {
    /// Creates a user from a phone number, a user id, or both.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecipient`](crate::ErrorKind::InvalidRecipient) if both are `None`, or the user id is not
    /// two uppercase letters, a dot, and up to 128 letters or digits (`GB.1349…`, `GB.ENT.1181…`).
    pub fn new(phone: Option<Phone>, user_id: Option<&str>) -> Result<Self> {
        if phone.is_none() && user_id.is_none() {
            return Err(Error::recipient("needs a phone number or a business-scoped user id"));
        }
        if user_id.is_some_and(|id| !is_user_id(id)) {
            return Err(Error::recipient("is not a business-scoped user id such as GB.13491208655302741918"));
        }
        Ok(Self { phone, user_id: user_id.map(Into::into) })
    }

    /// Returns the phone number, if the person shares it.
    pub fn phone(&self) -> Option<&Phone> {
        self.phone.as_ref()
    }

    /// Returns the business-scoped user id. Personal data: keep it out of logs.
    pub fn user_id(&self) -> Option<&str> {
        self.user_id.as_deref()
    }
}

impl FromStr for WhatsAppUser {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // Phone numbers have no letters, so the two forms cannot be confused.
        if text.starts_with(|c: char| c.is_ascii_uppercase()) {
            Self::new(None, Some(text))
        } else {
            Self::new(Some(text.parse()?), None)
        }
    }
}

fn is_user_id(id: &str) -> bool {
    let [first, second, b'.', rest @ ..] = id.as_bytes() else { return false };
    let rest = rest.strip_prefix(b"ENT.").unwrap_or(rest);
    first.is_ascii_uppercase()
        && second.is_ascii_uppercase()
        && (1..=128).contains(&rest.len())
        && rest.iter().all(u8::is_ascii_alphanumeric)
}

/// A person on X: the numeric user id, and the handle if known.
///
/// The handle is for display. It can change owner, so comparisons ignore it.
#[derive(Clone)]
#[doc(alias = "Twitter")]
pub struct XUser {
    id: Box<str>,
    handle: Option<Box<str>>,
}

impl XUser {
    /// Creates a user from a numeric user id.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecipient`](crate::ErrorKind::InvalidRecipient) unless it is 1 to 19 digits.
    pub fn new(id: &str) -> Result<Self> {
        if medium::x::user_id(id) {
            Ok(Self { id: id.into(), handle: None })
        } else {
            Err(Error::recipient("must be a numeric X user id of 1 to 19 digits; look up the handle to get it"))
        }
    }

    /// Sets the handle, without its `@`. An invalid handle is ignored.
    #[must_use]
    pub fn with_handle(mut self, handle: &str) -> Self {
        self.handle = Some(handle.trim_start_matches('@')).filter(|h| medium::x::handle(h)).map(Into::into);
        self
    }

    /// Returns the user id. Personal data: keep it out of logs.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the handle, without its `@`. Personal data: keep it out of logs.
    pub fn handle(&self) -> Option<&str> {
        self.handle.as_deref()
    }
}

impl PartialEq for XUser {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for XUser {}

impl std::hash::Hash for XUser {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

/// A person on Facebook Messenger, identified within one page (PSID). Another page cannot use it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PageScopedId(Box<str>);

impl PageScopedId {
    /// Creates a page-scoped id.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecipient`](crate::ErrorKind::InvalidRecipient) unless it is 1 to 64 digits.
    pub fn new(id: &str) -> Result<Self> {
        if (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_digit()) {
            Ok(Self(id.into()))
        } else {
            Err(Error::recipient("must be a page-scoped id of 1 to 64 digits"))
        }
    }

    /// Returns the id. Personal data: keep it out of logs.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PageScopedId {
    type Err = Error;

    fn from_str(id: &str) -> Result<Self> {
        Self::new(id)
    }
}

impl fmt::Debug for WhatsAppUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WhatsAppUser")
            .field("phone", &self.phone)
            .field("user_id", &self.user_id.as_deref().map(|id| Masked(id).to_string()))
            .finish()
    }
}

impl fmt::Debug for XUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "XUser({})", Masked(&self.id))
    }
}

#[derive(Serialize, Deserialize)]
struct WhatsAppParts {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    phone: Option<Phone>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_id: Option<Box<str>>,
}

impl Serialize for WhatsAppUser {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        WhatsAppParts { phone: self.phone.clone(), user_id: self.user_id.clone() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for WhatsAppUser {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let parts = WhatsAppParts::deserialize(deserializer)?;
        Self::new(parts.phone, parts.user_id.as_deref()).map_err(serde::de::Error::custom)
    }
}

#[derive(Serialize, Deserialize)]
struct XParts {
    id: Box<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    handle: Option<Box<str>>,
}

impl Serialize for XUser {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        XParts { id: self.id.clone(), handle: self.handle.clone() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for XUser {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let parts = XParts::deserialize(deserializer)?;
        let user = Self::new(&parts.id).map_err(serde::de::Error::custom)?;
        Ok(match parts.handle {
            Some(handle) => user.with_handle(&handle),
            None => user,
        })
    }
}

read_stored_by_parsing!(PageScopedId);
masked_text!(PageScopedId);
