//! Outbound messages, and the gateway's immediate response.

mod accepted;
mod choice;
mod content;
mod location;
mod media;
mod money;
mod template;

use std::collections::BTreeMap;
use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

pub use self::accepted::Accepted;
pub use self::choice::{Choice, InfoField, InfoRequest, Link, Row, Section};
pub use self::content::{ContactCard, Content, LabelledValue, Native, Reaction};
pub use self::location::Location;
pub use self::media::{Media, MediaKind, MediaRef, MediaSource};
pub use self::money::{Credits, Currency, Money, Price};
pub use self::template::{Parameter, Template, TemplateButton, TemplateHeader};
use crate::model::address::Address;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, Result};
use crate::model::id::MessageId;

/// An outbound message to one person or conversation.
///
/// Created by a constructor and the methods chained to it, and validated against a channel by
/// [`ChannelExt::check`](crate::ChannelExt::check) and again by every send, before the network. It round-trips through
/// serde, with a version, so that a store can keep it; `Debug` shows neither the text nor the address.
///
/// ```
/// use civic_messaging::{Address, Message, Purpose};
///
/// let message = Message::text(Address::phone("07700 900123")?, "Your collection is on Tuesday.")
///     .key("waste-4711")
///     .purpose(Purpose::Notice);
/// assert!(!format!("{message:?}").contains("Tuesday"));
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    version: Version,
    /// The recipient: a person or a conversation.
    pub to: Address,
    /// The content.
    pub content: Content,
    /// The resident's message that this one quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<MessageId>,
    /// The idempotency key: see [`key`](Self::key).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The purpose.
    #[serde(default)]
    pub purpose: Purpose,
    /// The language, as BCP 47.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// The time after which the message must not be sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
    /// The council's own label for statistics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The action if the outcome is unknown.
    #[serde(default, skip_serializing_if = "OnUnknown::is_default")]
    pub on_unknown: OnUnknown,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    allow: Vec<Degradation>,
    #[serde(default, skip_serializing_if = "Options::is_empty")]
    options: Options,
}

impl Message {
    /// Creates a message with any content.
    pub fn new(to: impl Into<Address>, content: impl Into<Content>) -> Self {
        Self {
            version: Version,
            to: to.into(),
            content: content.into(),
            reply_to: None,
            key: None,
            purpose: Purpose::default(),
            language: None,
            not_after: None,
            tag: None,
            on_unknown: OnUnknown::default(),
            allow: Vec::new(),
            options: Options::default(),
        }
    }

    /// Creates a text message.
    pub fn text(to: impl Into<Address>, text: impl Into<String>) -> Self {
        Self::new(to, Content::Text(text.into()))
    }

    /// Creates a message of one or several files.
    ///
    /// Where the medium carries one file per message, [`Plan::split`](crate::plan::Plan::split) splits it.
    pub fn media(to: impl Into<Address>, media: impl IntoIterator<Item = Media>) -> Self {
        Self::new(to, Content::Media(media.into_iter().collect()))
    }

    /// Creates a message from an approved template.
    pub fn template(to: impl Into<Address>, template: Template) -> Self {
        Self::new(to, template)
    }

    /// Quotes a resident's message.
    #[must_use]
    pub fn reply_to(mut self, id: impl Into<MessageId>) -> Self {
        self.reply_to = Some(id.into());
        self
    }

    /// Sets the idempotency key.
    ///
    /// It may have any length, but no control characters and no personal data: the gateway sees it.
    ///
    /// The gateway receives it as its reference, or a digest of it if it is too long: see
    /// [`Info::reference`](crate::Info::reference). Status events return the reference where the gateway supports it
    /// ([`Capability::key`](crate::Capability::key)), which settles a send whose outcome is unknown. None of the
    /// built-in gateways rejects a second message with the same key.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the purpose.
    #[must_use]
    pub fn purpose(mut self, purpose: Purpose) -> Self {
        self.purpose = purpose;
        self
    }

    /// Sets the language, as BCP 47: `en`, `cy`.
    #[must_use]
    pub fn language(mut self, language: impl Into<String>) -> Self {
        self.language = Some(language.into());
        self
    }

    /// Sets the time after which the message must not be sent.
    #[must_use]
    pub fn not_after(mut self, at: Timestamp) -> Self {
        self.not_after = Some(at);
        self
    }

    /// Sets a label for the council's statistics: a service, a campaign. The gateway does not receive it.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tag = Some(tag.into());
        self
    }

    /// Sets the action if the outcome is unknown.
    ///
    /// By default nothing is done that could duplicate the message; [`OnUnknown::Resend`] permits that.
    #[must_use]
    pub fn on_unknown(mut self, on_unknown: OnUnknown) -> Self {
        self.on_unknown = on_unknown;
        self
    }

    /// Permits one way of degrading the content where the channel cannot carry it.
    #[must_use]
    pub fn allow(mut self, degrade: Degradation) -> Self {
        if !self.allow.contains(&degrade) {
            self.allow.push(degrade);
        }
        self
    }

    /// Adds a gateway's own options. Other gateways ignore them.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) if the options cannot be serialised.
    pub fn gateway_options<O: GatewayOptions>(mut self, options: &O) -> Result<Self> {
        let value =
            serde_json::to_value(options).map_err(|_| Error::invalid("options", "cannot be serialised to JSON"))?;
        self.options.0.insert(O::GATEWAY.to_owned(), value);
        Ok(self)
    }

    /// Returns `true` if an option of a gateway is set to `true`.
    #[cfg(any(feature = "postgres", feature = "sqlite-system"))]
    pub(crate) fn has_option(&self, gateway: &str, option: &str) -> bool {
        self.options.0.get(gateway).and_then(|options| options.get(option)).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Returns `true` if the content may be degraded in this way.
    pub fn allows(&self, degrade: Degradation) -> bool {
        self.allow.contains(&degrade)
    }

    /// Returns the options for one gateway, if any.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) if they cannot be parsed.
    pub fn options<O: GatewayOptions>(&self) -> Result<Option<O>> {
        let Some(value) = self.options.0.get(O::GATEWAY) else { return Ok(None) };
        O::deserialize(value)
            .map(Some)
            .map_err(|_| Error::invalid(format!("options.{}", O::GATEWAY), "cannot be parsed by this gateway"))
    }

    pub(crate) fn with_content(mut self, content: Content) -> Self {
        self.content = content;
        self
    }

    /// Returns part `n` (from 1) of several, with its own key.
    pub(crate) fn part(&self, n: usize, content: Content) -> Self {
        let mut part = self.clone().with_content(content);
        part.key = self.key.as_ref().map(|key| format!("{key}/{n}"));
        if n > 1 {
            part.reply_to = None;
        }
        part
    }
}

/// Typed options for one gateway.
///
/// ```
/// use civic_messaging::{Address, Message};
/// use civic_messaging::message::GatewayOptions;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Options { flash: bool }
/// impl GatewayOptions for Options { const GATEWAY: &'static str = "acme"; }
///
/// let message = Message::text(Address::phone("07700 900123")?, "Hello").gateway_options(&Options { flash: true })?;
/// assert!(message.options::<Options>()?.is_some_and(|o| o.flash));
/// # Ok::<(), civic_messaging::Error>(())
/// ```
pub trait GatewayOptions: Serialize + DeserializeOwned {
    /// The gateway that reads them, as in [`Info::gateway`](crate::Info::gateway).
    const GATEWAY: &'static str;
}

/// The version of a stored message: 1.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Version;

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_u8(1)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            1 => Ok(Self),
            other => Err(serde::de::Error::custom(format!("message version {other} is newer than this program"))),
        }
    }
}

#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Options(BTreeMap<String, Value>);

impl Options {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The purpose of a message. Policies depend on it; of the built-in gateways, only Messenger receives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A danger to people; sent at any hour.
    Emergency,
    /// Promotion; requires consent.
    Marketing,
    /// News about a service that the person uses.
    #[default]
    Notice,
    /// A reply to the person's message.
    Reply,
}

/// The action for a message with an unknown outcome ([`Outcome::Unknown`](crate::Outcome::Unknown)).
///
/// None of the built-in gateways recognises a repeated send, so the sender must choose between a possible duplicate and a
/// possible loss: a demand for payment must not arrive twice, a flood warning must arrive. Where a gateway does
/// ([`Capability::idempotency_window`](crate::Capability::idempotency_window)), the message is first sent again within
/// that window, whatever the choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnknown {
    /// Parks the message until a person decides.
    Park,
    /// Waits for status events or calls [`look_up`](crate::Channel::look_up); if neither settles it, parks the message
    /// until a person decides.
    #[default]
    Reconcile,
    /// Resends the message, accepting duplicates: at most two copies through each gateway tried.
    Resend,
}

impl OnUnknown {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A way of degrading content that a channel cannot carry. Each must be permitted by the message.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Degradation {
    /// Turns buttons or a list into numbered lines of text.
    ChoiceToText,
    /// Turns a labelled link into text with the URL.
    LinkToText,
    /// Turns a location into text with a map URL.
    LocationToText,
    /// Turns a linked file into its caption and URL.
    MediaToText,
    /// Drops the quote.
    DropQuote,
    /// Replaces typographic characters with their GSM look-alikes (`’` with `'`). Letters are unchanged, so Welsh stays
    /// intact.
    Typography,
}

/// A loss of content on the way to the recipient.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// The description of an image is dropped: the channel does not support it.
    Description,
    /// The content is degraded in a way that the message permits.
    Degraded(Degradation),
    /// The gateway rewrites the text.
    Rewritten {
        /// The number of characters that differ from the original.
        characters: usize,
    },
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Description => f.write_str("the image description is dropped"),
            Self::Degraded(Degradation::ChoiceToText) => f.write_str("buttons or a list become numbered lines"),
            Self::Degraded(Degradation::LinkToText) => f.write_str("a labelled link becomes text"),
            Self::Degraded(Degradation::LocationToText) => f.write_str("a location becomes a map URL"),
            Self::Degraded(Degradation::MediaToText) => f.write_str("a file becomes its URL"),
            Self::Degraded(Degradation::DropQuote) => f.write_str("the quote is dropped"),
            Self::Degraded(Degradation::Typography) => f.write_str("typographic characters become plain ones"),
            Self::Rewritten { characters: 1 } => f.write_str("the gateway rewrites 1 character"),
            Self::Rewritten { characters } => write!(f, "the gateway rewrites {characters} characters"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resident() -> Address {
        Address::phone("07700 900123").unwrap()
    }

    #[test]
    fn newer_version_is_refused() {
        let mut json = serde_json::to_value(Message::text(resident(), "Hello")).unwrap();
        json["version"] = 2.into();
        assert!(serde_json::from_value::<Message>(json).unwrap_err().to_string().contains("newer"));
    }

    #[test]
    fn parts_have_own_keys_and_only_the_first_quotes() {
        let message = Message::text(resident(), "Hello").key("k").reply_to("m1");
        let parts = [message.part(1, "a".into()), message.part(2, "b".into())];
        assert_eq!(parts.each_ref().map(|p| p.key.as_deref()), [Some("k/1"), Some("k/2")]);
        assert_eq!(parts.each_ref().map(|p| p.reply_to.is_some()), [true, false]);
    }
}
