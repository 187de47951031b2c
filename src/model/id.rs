//! Identifiers and their masking.
//!
//! A gateway's message id can contain personal data: a WhatsApp id carries the phone number in base64. Ids are
//! therefore masked in `Debug` and `Display`, as numbers are; only `as_str` returns them in full.

use std::fmt;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD as BASE64, Engine};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A gateway's id for a message, or for one part of a message.
///
/// Opaque: compare it, store it, pass it back to the gateway; never parse it. `Debug` and `Display` show only the last
/// characters.
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
    /// Creates an id from the gateway's value.
    pub fn new(id: impl Into<Box<str>>) -> Self {
        Self(id.into())
    }

    /// Returns the full id. Personal data: keep it out of logs.
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

/// The council's account at a gateway: a phone-number id, an X user id, an account SID, a service id.
///
/// It identifies the council, not a person, so it is shown in full.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(Arc<str>);

impl AccountId {
    /// Creates an account id from the gateway's name for it.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// Returns the gateway's name for the account.
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

/// Shows `…` and the last three characters of a personal value, or `…` alone if it is short.
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

/// Shows the length of a personal text only.
pub(crate) struct Hidden<'a>(pub(crate) &'a str);

impl fmt::Debug for Hidden<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} characters>", self.0.chars().count())
    }
}

/// Returns `true` if `code` looks like an error code and not like a number, token or message id: up to 32 letters,
/// digits, `.`, `_` or `-`, with at most one run of up to 7 digits; no digits if longer than 12.
pub(crate) fn is_code(code: &str) -> bool {
    code.len() <= 32
        && !code.contains('/')
        && is_word(code)
        && (code.len() <= 12 || !code.bytes().any(|b| b.is_ascii_digit()))
}

/// Returns `true` if a gateway's name for a state or a kind of event looks like words: up to 64 letters, digits, `.`,
/// `_`, `-` or `/`, with at most one run of up to 7 digits.
pub(crate) fn is_word(word: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/');
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let runs = word.split(|c: char| !c.is_ascii_digit()).filter(|run| !run.is_empty()).count();
    // `BadRequestError` is words; a string that alternates case throughout is not.
    let letters = word.bytes().filter(u8::is_ascii_alphabetic).count();
    let pairs = word.bytes().zip(word.bytes().skip(1));
    let humps = pairs.filter(|(a, b)| a.is_ascii_lowercase() && b.is_ascii_uppercase()).count();
    (1..=64).contains(&word.len())
        && word.bytes().all(allowed)
        && digits <= 7
        && runs <= 1
        && humps * 4 <= letters
        && !is_credential(word)
        && !hides_number(word)
}

/// Returns `true` if a gateway's request id looks like one, and not like a number, token or message id.
///
/// Known forms: Meta (11 to 32 letters, digits, `_` or `-`), Twilio (`RQ` and 32 hexadecimal digits), X (16 hexadecimal
/// digits) and UUIDs.
pub(crate) fn is_request_id(id: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    if id.strip_prefix("RQ").is_some_and(|rest| rest.len() == 32 && hex(rest)) {
        return true;
    }
    if is_credential(id) || has_number(id, 10) {
        return false;
    }
    let uuid = id.len() == 36 && id.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && id.split('-').all(hex);
    let letter = id.bytes().any(|b| b.is_ascii_alphabetic());
    let plain = id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    match id.len() {
        16 if hex(id) => letter,
        // The length of a Twilio auth token.
        32 if hex(id) => false,
        1..=32 => plain && !has_number(id, 7) && !hides_number(id),
        _ => uuid,
    }
}

/// Returns `true` if it starts like a gateway's token or message id.
fn is_credential(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    text.starts_with("EAA") || ["wamid", "bearer", "basic "].iter().any(|part| lower.contains(part))
}

/// Returns `true` if it contains a run of at least `len` digits that are not all equal.
fn has_number(text: &str, len: usize) -> bool {
    let digits = text.split(|c: char| !c.is_ascii_digit());
    digits.filter(|run| run.len() >= len).any(|run| run.bytes().any(|b| Some(b) != run.bytes().next()))
}

/// Returns `true` if a run of digits is encoded in base64 at any offset, as in a WhatsApp id.
fn hides_number(text: &str) -> bool {
    let standard = text.replace('-', "+").replace('_', "/");
    (0..4).any(|skipped| {
        let part = standard.get(skipped..).unwrap_or_default();
        let whole = part.get(..part.len() / 4 * 4).unwrap_or_default();
        let decoded = BASE64.decode(whole).unwrap_or_default();
        has_number(&String::from_utf8_lossy(&decoded), 6)
    })
}

/// Shows a gateway's word, or the length of any other text.
pub(crate) struct Word<'a>(pub(crate) &'a str);

impl fmt::Debug for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_word(self.0) { fmt::Debug::fmt(self.0, f) } else { Hidden(self.0).fmt(f) }
    }
}

/// Shows a gateway's code, or the length of any other text.
pub(crate) struct Code<'a>(pub(crate) &'a str);

impl fmt::Debug for Code<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_code(self.0) { fmt::Debug::fmt(self.0, f) } else { Hidden(self.0).fmt(f) }
    }
}

/// Shows a media type without its parameters, or the length of any other text.
pub(crate) struct MediaType<'a>(pub(crate) &'a str);

impl fmt::Debug for MediaType<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const FAMILIES: [&str; 9] =
            ["application", "audio", "font", "image", "message", "model", "multipart", "text", "video"];
        let essence = self.0.split(';').next().unwrap_or_default().trim();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'+');
        match essence.split_once('/') {
            Some((family, kind))
                if FAMILIES.iter().any(|known| family.eq_ignore_ascii_case(known))
                    && (1..=72).contains(&kind.len())
                    && kind.bytes().all(allowed)
                    && kind.bytes().filter(u8::is_ascii_digit).count() <= 4
                    && !is_credential(kind) =>
            {
                fmt::Debug::fmt(essence, f)
            }
            _ => Hidden(self.0).fmt(f),
        }
    }
}

/// The URL that a gateway calls, of which `Debug` shows the host only: the rest may hold a token or a password.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallbackUrl(String);

impl CallbackUrl {
    /// Returns the whole URL. Keep it out of logs.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for CallbackUrl {
    fn from(url: &str) -> Self {
        Self(url.to_owned())
    }
}

impl From<String> for CallbackUrl {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl fmt::Debug for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.parse::<http::Uri>().ok().as_ref().and_then(http::Uri::host) {
            Some(host) => write!(f, "<URL at {host}>"),
            None => Hidden(&self.0).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A WhatsApp id, with and without its prefix.
    const WAMID: &str = "wamid.HBgMNDQ3NzAwOTAwMTIzFQIAERgSMEE5";
    const BARE: &str = "HBgMNDQ3NzAwOTAwMTIzFQIAERgSMEE5";

    #[test]
    fn codes_differ_from_numbers_and_tokens() {
        for code in [
            "30017",
            "131047",
            "1545041",
            "12",
            "0",
            "BadRequestError",
            "TooManyRequestsError",
            "ValidationError",
            "AuthError",
            "NO_SUCH_NUMBER",
            "rate-limit-exceeded",
            "unsupported-authentication",
            "E1234",
            "TIER_100K",
            "invalid_grant",
        ] {
            assert!(is_code(code), "{code}");
        }
        for other in [
            "",
            "12345678",
            "447700900123",
            "+447700900123",
            "07700900123",
            "a447700900123",
            "hello there",
            "case-44770090",
            "code/4",
            WAMID,
            BARE,
            "wamid",
            "EAAGm0PX4ZCps",
            "EAAGtoken",
            "canary-7Q4Z",
            "a1b2c3",
            "AKIAIOSFODNN7EXAMPLE",
            "f3b0c44298fc1c14",
            "GhIjKlMnOpQrStUvWxYz",
            "Bearer",
            "3d844edf-8d35-48ac-975b-e847b4f122b0",
            "an-overlong-code-of-letters-alone",
            "ffion@example.org",
            "Ffion\nBowen",
            "ŵ",
        ] {
            assert!(!is_code(other), "{other}");
        }
    }

    #[test]
    fn request_ids_differ_from_numbers_and_tokens() {
        for id in [
            "AbCdEf123GhIjKlMnOpQrSt",
            "AfixtureTrace0000000000",
            "EJplcsCHuLu",
            "RQ11111111111111111111111111111111",
            "RQ1",
            "RQ0123456789abcdef0123456789abcdef",
            "a1b2c3d4e5f60718",
            "26785a09-ab16-4eb0-8407-a37497a57506",
        ] {
            assert!(is_request_id(id), "{id}");
        }
        for other in [
            "",
            "447700900123",
            "a447700900123",
            "4477009001230000",
            "req-7700900123",
            WAMID,
            BARE,
            "NDQ3NzAwOTAwMTIz",
            "EAAGm0PX4ZCpsBAK",
            "EAAG-test-token",
            "0123456789abcdef0123456789abcdef",
            "hello there",
            "Bearer-abc",
            "an-overlong-trace-of-letters-alone",
            "f3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ] {
            assert!(!is_request_id(other), "{other}");
        }
    }

    #[test]
    fn only_words_media_types_and_hosts_are_shown() {
        for (shown, expected) in [
            (format!("{:?}", Word("messages.request_welcome")), "\"messages.request_welcome\""),
            (format!("{:?}", Word("free_customer_service/service")), "\"free_customer_service/service\""),
            (format!("{:?}", Word("Ffion Bowen")), "<11 characters>"),
            (format!("{:?}", Word(WAMID)), "<38 characters>"),
            (format!("{:?}", MediaType("image/jpeg")), "\"image/jpeg\""),
            (format!("{:?}", MediaType("audio/ogg; codecs=opus")), "\"audio/ogg\""),
            (
                format!("{:?}", MediaType("application/vnd.openxmlformats-officedocument.wordprocessingml.document")),
                "\"application/vnd.openxmlformats-officedocument.wordprocessingml.document\"",
            ),
            (format!("{:?}", MediaType("image/447700900123")), "<18 characters>"),
            (format!("{:?}", MediaType("image/png; name=Ffion")), "\"image/png\""),
            (format!("{:?}", MediaType("+447700900123")), "<13 characters>"),
            (format!("{:?}", MediaType("Ffion/Bowen")), "<11 characters>"),
            (format!("{:?}", CallbackUrl::from("https://sms.example/status?token=1")), "<URL at sms.example>"),
            (format!("{:?}", CallbackUrl::from("https://user:word@sms.example/status")), "<URL at sms.example>"),
            (format!("{:?}", CallbackUrl::from("07700 900123")), "<12 characters>"),
        ] {
            assert_eq!(shown, expected);
        }
    }

    #[test]
    fn short_values_show_nothing() {
        assert_eq!(Masked("1234567").to_string(), "…");
        assert_eq!(Masked("").to_string(), "…");
        assert_eq!(Masked("+447700900123").to_string(), "…123");
        assert_eq!(Masked("ŵŵŵŵŵŵŵŵ").to_string(), "…ŵŵŵ");
    }

    #[test]
    fn account_is_shown_and_message_id_masked() {
        assert_eq!(AccountId::new("200000000000001").to_string(), "200000000000001");
        assert_eq!(format!("{:?}", MessageId::new("wamid.FIXTURE_OUT_0001")), "MessageId(…001)");
    }
}
