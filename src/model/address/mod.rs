//! Media, and the addresses of persons and senders.

mod lengths;
mod uk;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::medium;
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
        Ok(Self::Conversation(Conversation { medium, id: opaque(id)? }))
    }

    /// Creates an address on a medium that this crate does not implement.
    ///
    /// The adapter sets its rule in [`Info`](crate::Info::with_address_rule).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecipient`](crate::ErrorKind::InvalidRecipient) if it is empty, over 256 bytes, or contains
    /// white space or control characters.
    pub fn other(medium: Medium, id: &str) -> Result<Self> {
        Ok(Self::Other(OtherAddress { medium, id: opaque(id)? }))
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
            Self::Conversation(c) => c.medium == *medium,
            Self::Messenger(_) => *medium == Medium::Messenger,
            Self::Other(o) => o.medium == *medium,
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
            Self::Conversation(c) => &c.id,
            Self::Messenger(id) => id.as_str(),
            Self::Other(o) => &o.id,
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
            Self::Other(o) => o.medium.as_str(),
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

/// A phone number in E.164: `+`, country code and number, 7 to 15 digits.
///
/// Parses the forms that people type:
///
/// - UK national: `07700 900123`, `020 7946 0000`, and a mobile without its 0, `7700 900123`;
/// - UK international: `+44 7700 900123`, `0044 (0)7700 900123`, `447700900123`;
/// - any other number with its `+` or `00`: `+353 (0)86 123 4567`.
///
/// Spaces, dots, hyphens, slashes, brackets, invisible marks and surrounding white space are ignored. A `(0)` after the
/// country code is dropped, and so is a bare 0 in countries with that trunk prefix. In countries where the 0 belongs to
/// the number, such as Italy, it is kept.
///
/// Parsing is strict, so that a mistyped number fails before sending. A UK number must be in a range that is in use or
/// that Ofcom reserves for drama (07700 900000 to 900999, 01632 960000 to 960999 and others). Any other number must
/// have a length that is valid in its country. Both follow libphonenumber's metadata, version 9.0.43. Two numbers in
/// one, such as `01632 960012/3`, are refused. Only the network can confirm that a number is in service.
///
/// [`from_digits`](Self::from_digits) parses numbers written by gateways and is lenient: a number that a message came
/// from exists, whatever a table contains. Stored numbers are deserialised by the same rule.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Phone(Box<str>);

impl Phone {
    /// Parses a phone number. See [`Phone`] for the accepted forms.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecipient`](crate::ErrorKind::InvalidRecipient) with the rule that it breaks.
    pub fn new(number: &str) -> Result<Self> {
        number.parse()
    }

    /// Returns the number in E.164, with its `+`. Personal data: keep it out of logs.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the digits without the `+`, as some gateways require. Personal data.
    pub fn digits(&self) -> &str {
        self.0.trim_start_matches('+')
    }

    /// Returns `true` if it is in the UK numbering plan, which includes the Isle of Man and the Channel Islands.
    pub fn is_uk(&self) -> bool {
        self.0.starts_with("+44")
    }

    /// Returns `true` if it is a UK mobile number.
    ///
    /// Personal numbers (070) and pagers (076) are not, except for the Isle of Man's mobiles (07624).
    pub fn is_uk_mobile(&self) -> bool {
        self.0.strip_prefix("+447").is_some_and(|rest| rest.starts_with("624") || !rest.starts_with(['0', '6']))
    }
}

impl FromStr for Phone {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let spelled = Spelled::read(text)?;
        let (code, national) = spelled.e164_parts()?;
        if !(7..=15).contains(&(code.len() + national.len())) {
            return Err(Error::recipient(LENGTH));
        }
        if code == "44" {
            is_in_uk_plan(national)?;
            if spelled.after_hyphen == Some(1) {
                return Err(Error::recipient(ONE_NUMBER));
            }
        } else {
            has_possible_length(code, national)?;
        }
        Self::e164(code, national)
    }
}

impl Phone {
    /// Parses a number as written by gateways: the digits of E.164, with or without the `+`.
    ///
    /// Lenient, unlike [`FromStr`]: the ranges and lengths of a country are not checked, because they change and the
    /// gateway has seen the number in use. Use it also for numbers stored as [`as_str`](Self::as_str), and for ranges
    /// newer than this version.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecipient`](crate::ErrorKind::InvalidRecipient) with the rule that it breaks.
    pub fn from_digits(digits: &str) -> Result<Self> {
        let digits = digits.strip_prefix('+').unwrap_or(digits);
        if digits.bytes().all(|b| b.is_ascii_digit()) {
            Self::e164(digits, "")
        } else {
            Err(Error::recipient("must contain digits only"))
        }
    }

    /// Parses a number that a gateway wrote in one of the forms that people type; as lenient as
    /// [`from_digits`](Self::from_digits).
    #[cfg_attr(not(feature = "notify"), allow(dead_code, reason = "the other gateways write E.164"))]
    pub(crate) fn from_gateway(text: &str) -> Result<Self> {
        let spelled = Spelled::read(text)?;
        let (code, national) = spelled.e164_parts()?;
        Self::e164(code, national)
    }

    /// Builds a number from the digits of its two parts, or from all of them in the first.
    fn e164(code: &str, national: &str) -> Result<Self> {
        if !(7..=15).contains(&(code.len() + national.len())) {
            return Err(Error::recipient(LENGTH));
        }
        if code.starts_with('0') {
            return Err(Error::recipient(ZERO_CODE));
        }
        let uk = if national.is_empty() { code.strip_prefix("44") } else { (code == "44").then_some(national) };
        uk.map_or(Ok(()), has_uk_length)?;
        let mut number = String::with_capacity(1 + code.len() + national.len());
        number.push('+');
        number.push_str(code);
        number.push_str(national);
        Ok(Self(number.into()))
    }
}

const LENGTH: &str = "must have 7 to 15 digits with its country code";
const ZERO_CODE: &str = "has a country code that starts with 0";
const ONE_NUMBER: &str = "must be one number: write a second one out and apart";

/// The digits of a number without separators, and its prefix.
struct Spelled {
    digits: [u8; Self::MAX],
    len: usize,
    /// `true` if it started with `+`.
    plus: bool,
    /// `true` if a `(0)` after the country code was dropped.
    dropped_zero: bool,
    /// The digits after the last hyphen and after the last slash.
    after_hyphen: Option<usize>,
    after_slash: Option<usize>,
}

impl Spelled {
    /// Longer than any number with `00` before it.
    const MAX: usize = 20;

    fn read(text: &str) -> Result<Self> {
        let mut spelled = Self {
            digits: [0; Self::MAX],
            len: 0,
            plus: false,
            dropped_zero: false,
            after_hyphen: None,
            after_slash: None,
        };
        let mut rest = text.trim().chars();
        while let Some(c) = rest.next() {
            match c {
                '0'..='9' => spelled.push(c)?,
                '+' if spelled.len == 0 && !spelled.plus => spelled.plus = true,
                '(' => {
                    let within = rest.as_str().trim_start_matches(' ').strip_prefix('0');
                    let after = within.and_then(|rest| rest.trim_start_matches(' ').strip_prefix(')'));
                    if let Some(after) = after.filter(|_| spelled.ends_in_country_code()) {
                        spelled.dropped_zero = true;
                        rest = after.chars();
                    }
                }
                ' ' | '.' | ')' | '\t' => {}
                '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' => spelled.after_hyphen = Some(0),
                '/' => spelled.after_slash = Some(0),
                // Pasted from a web page or a contact card: spaces and direction marks.
                '\u{00A0}'
                | '\u{00AD}'
                | '\u{2000}'..='\u{200F}'
                | '\u{2028}'..='\u{202F}'
                | '\u{2060}'..='\u{2069}'
                | '\u{3000}'
                | '\u{FEFF}' => {}
                _ => return Err(Error::recipient("must contain only digits, spaces, brackets and a leading +")),
            }
        }
        // 030/123456 is an area code and a number; 01632 960012/3 is two numbers.
        if spelled.after_slash.is_some_and(|digits| digits < 3) {
            return Err(Error::recipient(ONE_NUMBER));
        }
        Ok(spelled)
    }

    fn push(&mut self, digit: char) -> Result<()> {
        let place = self.digits.get_mut(self.len).ok_or_else(|| Error::recipient(LENGTH))?;
        *place = digit as u8;
        self.len += 1;
        for after in [&mut self.after_hyphen, &mut self.after_slash] {
            *after = after.map(|digits| digits + 1);
        }
        Ok(())
    }

    fn as_str(&self) -> &str {
        self.digits.get(..self.len).and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or_default()
    }

    /// Returns `true` if the digits so far are a country code whose national numbers do not begin with 0.
    fn ends_in_country_code(&self) -> bool {
        let digits = self.as_str();
        let code = if self.plus { digits } else { digits.strip_prefix("00").unwrap_or(digits) };
        let international = self.plus || code.len() < digits.len() || code == "44";
        international && lengths_of(code).is_some_and(|lengths| lengths & lengths::LEADING_ZERO == 0)
    }

    /// Returns the country code, and the national number without a trunk prefix.
    fn e164_parts(&self) -> Result<(&str, &str)> {
        let digits = self.as_str();
        let international = match digits {
            digits if self.plus => digits,
            "" => return Err(Error::recipient("is empty")),
            digits => match (digits.strip_prefix("00"), digits.strip_prefix('0')) {
                (Some(international), _) => international,
                (None, Some(national)) => return Ok(("44", without_trunk_zero(national))),
                (None, None) if digits.starts_with("44") && digits.len() >= 11 => digits,
                (None, None) if digits.starts_with('7') && digits.len() == 10 => return Ok(("44", digits)),
                _ => return Err(Error::recipient("must start with 0 (a UK number) or with + and its country code")),
            },
        };
        if international.is_empty() {
            return Err(Error::recipient("is empty"));
        }
        if international.starts_with('0') {
            return Err(Error::recipient(ZERO_CODE));
        }
        if !(7..=16).contains(&international.len()) {
            return Err(Error::recipient(LENGTH));
        }
        let split = (1..=3).find_map(|len| {
            let (code, national) = international.split_at_checked(len)?;
            Some((code, national, lengths_of(code)?))
        });
        let Some((code, national, lengths)) = split else {
            return Err(Error::recipient("has a country code that is not in use"));
        };
        if lengths & lengths::TRUNK_ZERO == 0 {
            return Ok((code, national));
        }
        let national = if self.dropped_zero { national } else { without_trunk_zero(national) };
        // It would be dropped when the number is parsed again.
        if national.starts_with('0') && code != "44" {
            return Err(Error::recipient("has a 0 after the country code that belongs to no number"));
        }
        Ok((code, national))
    }
}

fn without_trunk_zero(national: &str) -> &str {
    national.strip_prefix('0').unwrap_or(national)
}

/// Returns the mask of a country's national number lengths.
fn lengths_of(code: &str) -> Option<u32> {
    if !(1..=3).contains(&code.len()) {
        return None;
    }
    let code: u16 = code.parse().ok()?;
    let at = lengths::CALLING_CODES.binary_search_by_key(&code, |(code, _)| *code).ok()?;
    lengths::CALLING_CODES.get(at).map(|(_, lengths)| *lengths)
}

fn has_possible_length(code: &str, national: &str) -> Result<()> {
    let lengths = lengths_of(code).unwrap_or_default() & !(lengths::TRUNK_ZERO | lengths::LEADING_ZERO);
    if lengths & 1_u32.checked_shl(national.len() as u32).unwrap_or_default() != 0 {
        return Ok(());
    }
    let known = (0..u32::BITS).filter(|length| lengths & (1 << length) != 0).map(|length| length.to_string());
    let known = known.collect::<Vec<_>>().join(" or ");
    let uk = if code == "7" { "; a UK mobile number starts with 07 or +44" } else { "" };
    Err(Error::recipient(format!("must have {known} digits after the country code {code}{uk}")))
}

/// Checks every UK number, whatever its source.
fn has_uk_length(national: &str) -> Result<()> {
    match national.len() {
        // It would be parsed as the trunk prefix when read from a store.
        _ if national.starts_with('0') => Err(Error::recipient("has a 0 after +44 that belongs to no number")),
        10 => Ok(()),
        _ if national.starts_with('7') => {
            Err(Error::recipient("must have 11 digits as a UK mobile number, such as 07700 900123"))
        }
        9 => Ok(()),
        7 if is_short_uk_number(national) => Ok(()),
        _ => Err(Error::recipient("must have 10 or 11 digits as a UK number with its leading 0")),
    }
}

/// Returns `true` for 0800 1111 and 0845 46 4x.
fn is_short_uk_number(national: &str) -> bool {
    national == "8001111" || national.len() == 7 && national.starts_with("845464")
}

fn is_in_uk_plan(national: &str) -> Result<()> {
    has_uk_length(national)?;
    let start = |digits: usize| national.get(..digits).and_then(|start| start.parse::<u32>().ok()).unwrap_or_default();
    let is_within = |ranges: &[(u32, u32)], start: u32| {
        let after = ranges.partition_point(|(low, _)| *low <= start);
        after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, high)| start <= *high)
    };
    match national.len() {
        10 if is_within(&uk::TEN, start(7)) || uk::DRAMA.contains(&start(7)) => Ok(()),
        9 if is_within(&uk::NINE, start(6)) => Ok(()),
        7 => Ok(()),
        9 => Err(Error::recipient("must have 11 digits with its leading 0: its area has no shorter numbers")),
        _ => Err(Error::recipient("is not in a UK range that is in use: check its first digits")),
    }
}

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

/// A group conversation.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "OtherAddress", into = "OtherAddress")]
pub struct Conversation {
    medium: Medium,
    id: Box<str>,
}

impl Conversation {
    /// Returns the medium.
    pub fn medium(&self) -> &Medium {
        &self.medium
    }

    /// Returns the medium's id. Personal data: an X conversation's id contains both user ids.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// An address on a medium that this crate does not implement.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OtherAddress {
    medium: Medium,
    #[serde(deserialize_with = "opaque_id")]
    id: Box<str>,
}

impl OtherAddress {
    /// Returns the medium.
    pub fn medium(&self) -> &Medium {
        &self.medium
    }

    /// Returns the id. Personal data: keep it out of logs.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl From<OtherAddress> for Conversation {
    fn from(OtherAddress { medium, id }: OtherAddress) -> Self {
        Self { medium, id }
    }
}

impl From<Conversation> for OtherAddress {
    fn from(Conversation { medium, id }: Conversation) -> Self {
        Self { medium, id }
    }
}

fn opaque(id: &str) -> Result<Box<str>> {
    match id {
        "" => Err(Error::recipient("is empty")),
        _ if id.len() > 256 => Err(Error::recipient("is over 256 bytes")),
        _ if id.contains(|c: char| c.is_whitespace() || c.is_control()) => {
            Err(Error::recipient("contains white space or control characters"))
        }
        _ => Ok(id.into()),
    }
}

fn opaque_id<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Box<str>, D::Error> {
    opaque(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

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

/// Implements masked formatting, and serde as a string that is validated on deserialisation.
macro_rules! masked_text {
    ($($type:ident),*) => {$(
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($type), "({})"), Masked(&self.0))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                Masked(&self.0).fmt(f)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                Self::read_stored(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    )*};
}

/// Parses a stored value by the rule of its type.
macro_rules! read_stored_by_parsing {
    ($($type:ident),*) => {$(
        impl $type {
            fn read_stored(text: &str) -> Result<Self> {
                text.parse()
            }
        }
    )*};
}

read_stored_by_parsing!(PageScopedId, SenderName, ShortCode);

impl Phone {
    /// A stored number was accepted earlier, perhaps from a gateway, so no table is checked again.
    fn read_stored(text: &str) -> Result<Self> {
        if text.starts_with('+') { Self::from_digits(text).or_else(|_| text.parse()) } else { text.parse() }
    }
}

masked_text!(PageScopedId, Phone, SenderName, ShortCode);

/// Implements masked formatting for addresses of several parts.
macro_rules! masked_parts {
    ($($type:ident { $($field:ident),* }),*) => {$(
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($type))
                    $(.field(stringify!($field), &format_args!("{}", self.$field)))*
                    .finish_non_exhaustive()
            }
        }
    )*};
}

masked_parts!(Conversation { medium }, OtherAddress { medium });

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uk_number_parses_in_every_spelling() {
        for spelling in [
            "07700900123",
            "07700 900123",
            "+447700900123",
            "+44 7700 900123",
            "00447700900123",
            "447700900123",
            "0044 (0)7700 900123",
            "+44 (0) 7700-900-123",
            "\u{202A}+44 7700 900123\u{202C}",
            "07700\u{00A0}900123",
        ] {
            assert_eq!(Phone::new(spelling).unwrap().as_str(), "+447700900123", "{spelling}");
        }
        assert_eq!(Phone::new("020 7946 0000").unwrap().as_str(), "+442079460000");
        assert_eq!(Phone::new("+1 202 555 0123").unwrap().as_str(), "+12025550123");
    }

    #[test]
    fn wrong_number_error_names_the_rule() {
        for (number, rule) in [
            ("", "is empty"),
            ("0770090012", "11 digits"),
            ("077009001234", "11 digits"),
            ("07700 9OOOOO", "only digits"),
            ("60777", "must start with 0"),
            ("+0123456789", "starts with 0"),
            ("+123456", "7 to 15 digits"),
            ("+1234567890123456", "7 to 15 digits"),
            ("07700900123+", "only digits"),
            ("GB.10000000000000000001", "only digits"),
        ] {
            let error = Phone::new(number).unwrap_err();
            assert_eq!(error.field(), Some("to"));
            assert!(error.to_string().contains(rule), "{number}: {error}");
        }
    }

    #[test]
    fn zero_in_brackets_after_country_code_is_dropped() {
        for (spelled, number) in [
            ("+353 (0)86 123 4567", "+353861234567"),
            ("00353 (0) 86 123 4567", "+353861234567"),
            ("(+353) ( 0 )86 123 4567", "+353861234567"),
            ("+49 (0)30/123456", "+4930123456"),
            ("+33(0)6 12 34 56 78", "+33612345678"),
            ("+34 (0)612 345 678", "+34612345678"),
            ("+1 (0) 202 555 0123", "+12025550123"),
            ("44 (0)7700 900123", "+447700900123"),
            ("+44(0)20 7946 0000", "+442079460000"),
            ("(0)7700 900123", "+447700900123"),
            // A bare 0 as the trunk prefix.
            ("+353 086 123 4567", "+353861234567"),
            ("+49 (030) 123456", "+4930123456"),
            // In Italy the 0 belongs to the number.
            ("+39 (0)6 1234 5678", "+390612345678"),
            ("+39 06 1234 5678", "+390612345678"),
        ] {
            assert_eq!(Phone::new(spelled).unwrap().as_str(), number, "{spelled}");
        }
        assert!(Phone::new("020 (0)7946 0000").is_err(), "not behind a country code");
        assert!(Phone::new("+49 (0)0151 2345678").is_err(), "one 0 too many");
    }

    #[test]
    fn uk_mobile_parses_without_its_zero_and_with_line_break() {
        for spelled in ["7700 900123", "7700900123", "07700 900123\r\n", " 07700 900123 \n", "+44 7700 900123\r\n\r\n"]
        {
            assert_eq!(Phone::new(spelled).unwrap().as_str(), "+447700900123", "{spelled:?}");
        }
        for wrong in ["7700 90012", "7700 9001234", "1632 960001", "7700\n900123"] {
            assert!(Phone::new(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn number_outside_its_plan_is_refused_with_the_rule() {
        for (number, rule) in [
            ("+7700900123", "must have 10 or 14 digits after the country code 7; a UK mobile number starts with 07"),
            ("01632 96001/2", "one number"),
            ("01632 960012/3", "one number"),
            ("01632 96001-2", "one number"),
            ("+353 86 123 456/7", "one number"),
            ("07700 900123/07700 900456", "7 to 15 digits"),
            ("01632 960001, 960002", "only digits"),
            ("020 7946 000", "must have 11 digits with its leading 0"),
            ("01632 96001", "must have 11 digits with its leading 0"),
            ("+44 7700 90012", "11 digits as a UK mobile number"),
            ("01234 567890", "accepted"),
            ("04321 567890", "not in a UK range"),
            ("+44 7700 201000", "not in a UK range"),
            ("+1 202 555 012", "must have 10 digits after the country code 1"),
            ("+210 123 456 789", "country code that is not in use"),
        ] {
            match Phone::new(number) {
                Ok(_) => assert_eq!(rule, "accepted", "{number}"),
                Err(error) => assert!(error.to_string().contains(rule), "{number}: {error}"),
            }
        }
    }

    #[test]
    fn numbers_for_drama_are_accepted() {
        for number in ["07700 900000", "07700 900999", "020 7946 0123", "01632 960999", "0115 496 0000", "08081 570000"]
        {
            assert!(Phone::new(number).is_ok(), "{number}");
        }
        assert!(Phone::new("01632 961000").is_err());
    }

    #[test]
    fn results_agree_with_libphonenumber() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sms/phone_verdicts.csv");
        let file = std::fs::read_to_string(file).unwrap();
        let mut uk = 0;
        for line in file.lines() {
            let (number, verdict) = line.split_once(',').unwrap();
            let expected = match verdict {
                "0" => None,
                "1" => Some(number),
                e164 => Some(e164),
            };
            let parsed = Phone::new(number).ok();
            assert_eq!(parsed.as_ref().map(Phone::as_str), expected, "{number}");
            if let Some(national) = number.strip_prefix("+44").filter(|national| !national.starts_with('0')) {
                assert_eq!(Phone::new(&format!("0{national}")).ok(), parsed, "{number}, typed with its 0");
                uk += 1;
            }
        }
        assert!(file.lines().count() > 4_500 && uk > 1_500, "{uk}");
    }

    #[test]
    fn parsed_number_parses_again_unchanged() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sms/phone_verdicts.csv");
        for line in std::fs::read_to_string(file).unwrap().lines() {
            let (number, _) = line.split_once(',').unwrap();
            if let Ok(phone) = Phone::new(number) {
                assert_eq!(Phone::new(phone.as_str()).unwrap(), phone, "{number}");
                assert_eq!(Phone::from_digits(phone.digits()).unwrap(), phone, "{number}");
            }
        }
    }

    #[test]
    fn number_from_a_gateway_survives_a_store() {
        // Lengths and ranges that no table contains.
        for digits in ["7700900123", "447700201000", "2101234567", "+35386123456789"] {
            let phone = Phone::from_digits(digits).unwrap();
            assert!(Phone::new(phone.as_str()).is_err(), "{digits}");
            let json = serde_json::to_string(&Address::from(phone.clone())).unwrap();
            assert_eq!(serde_json::from_str::<Address>(&json).unwrap(), phone.into(), "{digits}");
            let sender = format!("+{}", digits.trim_start_matches('+'));
            assert!(matches!(sender.parse().unwrap(), Sender::Phone(_)), "{digits}");
        }
        for (spelled, number) in
            [("07700 201000", "+447700201000"), ("7700201000", "+447700201000"), ("+353 (0)86 12", "+3538612")]
        {
            assert_eq!(Phone::from_gateway(spelled).ok().as_ref().map(Phone::as_str), Some(number), "{spelled}");
        }
        for garbage in ["12", "0123456789", "4412", "440123456789", "1234567890123456", "44x"] {
            assert!(Phone::from_digits(garbage).is_err(), "{garbage}");
        }
    }

    #[test]
    fn is_uk_mobile_excludes_other_numbers() {
        for (number, mobile) in [
            ("07700900123", true),
            ("07624300000", true),
            ("07012345678", false),
            ("07623456789", false),
            ("02079460000", false),
            ("+12025550123", false),
        ] {
            assert_eq!(Phone::new(number).unwrap().is_uk_mobile(), mobile, "{number}");
        }
    }

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
