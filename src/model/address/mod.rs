//! Media, and the addresses of persons and senders.

mod lengths;
mod masked;
mod other;
mod person;
mod phone;
mod sender;
mod uk;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::other::{Conversation, OtherAddress};
pub use self::person::{PageScopedId, WhatsAppUser, XUser};
pub use self::phone::Phone;
pub use self::sender::{Sender, SenderName, ShortCode};
use crate::model::error::{Error, Result};
use crate::model::id::Masked;
use crate::model::secret::{Fingerprint, Secret};

/// A medium: the network on which a resident reads a message. Some products call it a channel type.
///
/// The list is open: [`Medium::other`] creates a medium that this crate does not implement.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Medium {
    /// Facebook Messenger.
    Messenger,
    /// SMS, and MMS where the gateway supports it.
    Sms,
    /// WhatsApp.
    WhatsApp,
    /// Direct messages on X.
    #[doc(alias = "Twitter")]
    X,
    /// Any other medium; created by [`Medium::other`].
    Other(OtherMedium),
}

/// The name of a medium that this crate does not implement.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OtherMedium(Box<str>);

impl Medium {
    /// Creates a medium from its name.
    ///
    /// A name has 1 to 32 lowercase letters, digits, `-` or `_`, and starts with a letter. The name of a built-in
    /// medium returns that medium.
    ///
    /// ```
    /// use civic_messaging::Medium;
    ///
    /// assert_eq!(Medium::other("rcs")?.as_str(), "rcs");
    /// assert_eq!(Medium::other("sms")?, Medium::Sms);
    /// # Ok::<(), civic_messaging::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) if the name breaks that rule.
    pub fn other(name: &str) -> Result<Self> {
        Ok(match name {
            "messenger" => Self::Messenger,
            "sms" => Self::Sms,
            "whatsapp" => Self::WhatsApp,
            "x" => Self::X,
            // Names are shown in logs, so a phone number must not be accepted as one.
            _ if (1..=32).contains(&name.len())
                && name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_')) =>
            {
                Self::Other(OtherMedium(name.into()))
            }
            _ => {
                return Err(Error::invalid(
                    "medium",
                    "must be 1 to 32 lowercase letters, digits, - or _, and start with a letter",
                ));
            }
        })
    }

    /// Returns the name used by configurations and stores.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Messenger => "messenger",
            Self::Sms => "sms",
            Self::WhatsApp => "whatsapp",
            Self::X => "x",
            Self::Other(OtherMedium(name)) => name,
        }
    }
}

impl fmt::Display for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for OtherMedium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Medium {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::other(name)
    }
}

impl Serialize for Medium {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Medium {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The address of a person or conversation.
///
/// Each variant is a kind of identifier. A medium accepts the kinds that are meaningful to it ([`fits`](Self::fits)): a
/// phone number works for SMS and WhatsApp. `Debug` and `Display` are masked.
///
/// ```
/// use civic_messaging::{Address, Medium};
///
/// let resident = Address::phone("07700 900123")?;
/// assert!(resident.fits(&Medium::Sms) && resident.fits(&Medium::WhatsApp) && !resident.fits(&Medium::X));
/// assert_eq!(resident.to_string(), "…123");
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Address {
    /// A group conversation: an X conversation, a WhatsApp group.
    Conversation(Conversation),
    /// A person on Facebook Messenger, identified within one page.
    Messenger(PageScopedId),
    /// An id on a medium that this crate does not implement.
    Other(OtherAddress),
    /// A phone number.
    Phone(Phone),
    /// An alphanumeric sender of a text message. It cannot be replied to.
    SenderName(SenderName),
    /// A short code that sent a text message.
    ShortCode(ShortCode),
    /// A person on WhatsApp.
    #[serde(rename = "whatsapp")]
    WhatsApp(WhatsAppUser),
    /// A person on X.
    X(XUser),
}

impl Address {
    /// Parses a phone number in any form that [`Phone`] accepts.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecipient`](crate::ErrorKind::InvalidRecipient) with the rule that it breaks.
    pub fn phone(number: &str) -> Result<Self> {
        number.parse().map(Self::Phone)
    }

    /// Parses an SMS sender as written by a gateway: a phone number with or without its `+`, a short code, or a name.
    ///
    /// Lenient, because a message must not be lost over its sender: a country's ranges and lengths are not checked, and
    /// an invalid name such as `O2+` becomes an SMS address that cannot be replied to. White space and control
    /// characters in it become `_`. `None` if it is blank or over 256 bytes.
    ///
    /// ```
    /// use civic_messaging::Address;
    ///
    /// assert_eq!(Address::sms_sender("353861234567"), Address::phone("+353 86 123 4567").ok());
    /// assert!(matches!(Address::sms_sender("60777"), Some(Address::ShortCode(_))));
    /// assert!(matches!(Address::sms_sender("GOV UK"), Some(Address::SenderName(_))));
    /// assert!(matches!(Address::sms_sender("O2+"), Some(Address::Other(_))));
    /// ```
    pub fn sms_sender(text: &str) -> Option<Self> {
        let text = text.trim();
        let sanitised = |c: char| if c.is_whitespace() || c.is_control() { '_' } else { c };
        let other = |_| Self::other(Medium::Sms, &text.chars().map(sanitised).collect::<String>());
        let sender = text.parse::<Sender>().map(Self::from);
        sender.or_else(|_| Phone::from_digits(text).map(Self::Phone)).or_else(other).ok()
    }

    /// Parses a WhatsApp user's phone number or business-scoped user id (`GB.1349…`).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecipient`](crate::ErrorKind::InvalidRecipient) with the rule that it breaks.
    pub fn whatsapp(phone_or_user_id: &str) -> Result<Self> {
        phone_or_user_id.parse().map(Self::WhatsApp)
    }

    /// Creates the address of an X user from a numeric user id. A handle can change owner: look it up once and keep the
    /// id.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecipient`](crate::ErrorKind::InvalidRecipient) unless it is 1 to 19 digits.
    #[doc(alias = "Twitter")]
    pub fn x(user_id: &str) -> Result<Self> {
        XUser::new(user_id).map(Self::X)
    }

    /// Creates the address of a Messenger user from a page-scoped id.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecipient`](crate::ErrorKind::InvalidRecipient) unless it is 1 to 64 digits.
    pub fn messenger(page_scoped_id: &str) -> Result<Self> {
        PageScopedId::new(page_scoped_id).map(Self::Messenger)
    }

    /// Creates the address of a group conversation from the medium's id.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecipient`](crate::ErrorKind::InvalidRecipient) if it is empty, over 256 bytes, or contains
    /// white space or control characters.
    pub fn conversation(medium: Medium, id: &str) -> Result<Self> {
        Ok(Self::Conversation(OtherAddress::new(medium, id)?.into()))
    }

    /// Creates an address on a medium that this crate does not implement.
    ///
    /// The adapter sets its rule in [`Info`](crate::Info::with_address_rule).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecipient`](crate::ErrorKind::InvalidRecipient) if it is empty, over 256 bytes, or contains
    /// white space or control characters.
    pub fn other(medium: Medium, id: &str) -> Result<Self> {
        OtherAddress::new(medium, id).map(Self::Other)
    }

    /// Parses the usual form of an address of this medium, as typed in a form or a command line.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecipient`](crate::ErrorKind::InvalidRecipient) with the rule that it breaks.
    pub fn parse(medium: &Medium, text: &str) -> Result<Self> {
        match medium {
            Medium::Messenger => Self::messenger(text),
            Medium::Sms => Self::phone(text),
            Medium::WhatsApp => Self::whatsapp(text),
            Medium::X if text.contains('-') => Self::conversation(Medium::X, text),
            Medium::X => Self::x(text),
            Medium::Other(_) => Self::other(medium.clone(), text),
        }
    }

    /// Returns `true` if a message to this address can be sent over this medium.
    pub fn fits(&self, medium: &Medium) -> bool {
        match self {
            Self::Conversation(c) => c.medium() == medium,
            Self::Messenger(_) => *medium == Medium::Messenger,
            Self::Other(o) => o.medium() == medium,
            Self::Phone(_) => matches!(medium, Medium::Sms | Medium::WhatsApp),
            Self::SenderName(_) => false,
            Self::ShortCode(_) => *medium == Medium::Sms,
            Self::WhatsApp(_) => *medium == Medium::WhatsApp,
            Self::X(_) => *medium == Medium::X,
        }
    }

    /// Returns the phone number, if there is one.
    pub fn as_phone(&self) -> Option<&Phone> {
        match self {
            Self::Phone(phone) => Some(phone),
            Self::WhatsApp(user) => user.phone(),
            _ => None,
        }
    }

    /// Returns the full address. Personal data: keep it out of logs.
    pub fn expose(&self) -> &str {
        match self {
            Self::Conversation(c) => c.id(),
            Self::Messenger(id) => id.as_str(),
            Self::Other(o) => o.id(),
            Self::Phone(phone) => phone.as_str(),
            Self::SenderName(name) => name.as_str(),
            Self::ShortCode(code) => code.as_str(),
            Self::WhatsApp(user) => user.user_id().or(user.phone().map(Phone::as_str)).unwrap_or_default(),
            Self::X(user) => user.id(),
        }
    }

    /// Returns `true` if both addresses identify one person, as far as they show.
    ///
    /// On WhatsApp it compares user ids if both have one, else phone numbers.
    ///
    /// This is not equality: a phone number may have changed owner, and `==` compares everything that is known.
    pub fn same_person(&self, other: &Self) -> bool {
        if let (Self::WhatsApp(a), Self::WhatsApp(b)) = (self, other)
            && let (Some(a), Some(b)) = (a.user_id(), b.user_id())
        {
            return a == b;
        }
        match (self.as_phone(), other.as_phone()) {
            (Some(a), Some(b)) => a == b,
            (None, None) => {
                self.expose() == other.expose() && std::mem::discriminant(self) == std::mem::discriminant(other)
            }
            _ => false,
        }
    }

    /// Returns a pseudonym for this person in log lines, stable within one deployment.
    pub fn fingerprint(&self, pepper: &Secret) -> Fingerprint {
        match self.as_phone() {
            // A person has the same phone number on SMS and WhatsApp, and so the same fingerprint.
            Some(phone) => Fingerprint::of(pepper, &["phone", phone.as_str()]),
            None => Fingerprint::of(pepper, &[self.kind(), self.expose()]),
        }
    }

    fn kind(&self) -> &str {
        match self {
            Self::Conversation(_) => "conversation",
            Self::Messenger(_) => "messenger",
            Self::Other(o) => o.medium().as_str(),
            Self::Phone(_) => "phone",
            Self::SenderName(_) => "sender-name",
            Self::ShortCode(_) => "short-code",
            Self::WhatsApp(_) => "whatsapp",
            Self::X(_) => "x",
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Masked(self.expose()).fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{self}", self.kind())
    }
}

impl From<Phone> for Address {
    fn from(phone: Phone) -> Self {
        Self::Phone(phone)
    }
}

impl From<WhatsAppUser> for Address {
    fn from(user: WhatsAppUser) -> Self {
        Self::WhatsApp(user)
    }
}

impl From<XUser> for Address {
    fn from(user: XUser) -> Self {
        Self::X(user)
    }
}

impl From<PageScopedId> for Address {
    fn from(id: PageScopedId) -> Self {
        Self::Messenger(id)
    }
}

impl From<Sender> for Address {
    fn from(sender: Sender) -> Self {
        match sender {
            Sender::Phone(phone) => Self::Phone(phone),
            Sender::Name(name) => Self::SenderName(name),
            Sender::ShortCode(code) => Self::ShortCode(code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatsapp_user_needs_a_phone_or_a_user_id() {
        let hidden: WhatsAppUser = "GB.10000000000000000001".parse().unwrap();
        assert_eq!((hidden.phone(), hidden.user_id()), (None, Some("GB.10000000000000000001")));
        assert!("GB.ENT.20000000000000000002".parse::<WhatsAppUser>().is_ok());
        for wrong in ["GB.", "gb.1", "GBR.1", "GB.1 2", "GB"] {
            assert!(WhatsAppUser::new(None, Some(wrong)).is_err(), "{wrong}");
        }
        assert!(WhatsAppUser::new(None, None).is_err());
    }

    #[test]
    fn same_person_compares_user_id_before_phone() {
        let user =
            |phone: Option<&str>, id| Address::from(WhatsAppUser::new(phone.map(|p| p.parse().unwrap()), id).unwrap());
        let known = user(Some("07700900123"), Some("GB.1"));
        assert!(known.same_person(&user(Some("07700900789"), Some("GB.1"))));
        assert!(!known.same_person(&user(Some("07700900123"), Some("GB.2"))));
        assert!(known.same_person(&Address::phone("07700 900123").unwrap()));
        assert!(!known.same_person(&Address::x("1").unwrap()));
        assert!(!Address::x("1").unwrap().same_person(&Address::messenger("1").unwrap()));
    }

    #[test]
    fn sender_parses_as_phone_short_code_or_name() {
        assert_eq!("60777".parse::<Sender>().unwrap(), Sender::ShortCode(ShortCode::new("60777").unwrap()));
        assert_eq!("GOV UK".parse::<Sender>().unwrap().as_str(), "GOV UK");
        assert!("Exampleshire".parse::<Sender>().is_err());
        assert!(!Address::from("GOVUK".parse::<Sender>().unwrap()).fits(&Medium::Sms));
    }

    #[test]
    fn handle_is_ignored_by_comparisons() {
        let plain = XUser::new("1900000000000000101").unwrap();
        let named = plain.clone().with_handle("@resident_one");
        assert_eq!(plain, named);
        assert_eq!(named.handle(), Some("resident_one"));
        assert_eq!(format!("{named:?}"), "XUser(…101)");
        assert_eq!(plain.with_handle("not a handle").handle(), None);
    }

    #[test]
    fn serde_keeps_all_and_validates_input() {
        for address in [
            Address::phone("07700900123").unwrap(),
            Address::whatsapp("GB.1").unwrap(),
            serde_json::from_str(r#"{"whatsapp":{"phone":"+447700900123"}}"#).unwrap(),
            Address::X(XUser::new("19").unwrap().with_handle("me")),
            Address::messenger("42").unwrap(),
            Address::conversation(Medium::X, "1-2").unwrap(),
            Address::other(Medium::other("rcs").unwrap(), "a1").unwrap(),
        ] {
            let json = serde_json::to_string(&address).unwrap();
            assert_eq!(serde_json::from_str::<Address>(&json).unwrap(), address, "{json}");
        }
        for wrong in [
            r#"{"phone":"12"}"#,
            r#"{"whatsapp":{}}"#,
            r#"{"x":{"id":"abc"}}"#,
            r#"{"other":{"medium":"rcs","id":""}}"#,
        ] {
            assert!(serde_json::from_str::<Address>(wrong).is_err(), "{wrong}");
        }
    }
}
