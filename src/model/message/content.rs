//! Contents of messages.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::choice::{Choice, InfoRequest, Link, Row, Section};
use super::location::Location;
use super::media::Media;
use super::template::{Parameter, Template, TemplateButton, TemplateHeader};
use crate::model::error::{Error, Result};
use crate::model::id::{Hidden, MessageId};

/// The content of a message.
///
/// A channel's [`Capability`](crate::Capability) lists which of these it carries.
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// A button that requests a location or a contact card.
    InfoRequest(InfoRequest),
    /// Buttons or a list to choose from.
    Choice(Choice),
    /// Contact cards.
    Contacts(Vec<ContactCard>),
    /// A labelled link.
    Link(Link),
    /// A location.
    Location(Location),
    /// Files: images, audio, video, documents, stickers.
    Media(Vec<Media>),
    /// Content of one gateway's own format.
    Native(Native),
    /// An emoji on a resident's message.
    Reaction(Reaction),
    /// An approved template.
    Template(Template),
    /// Plain text.
    Text(String),
}

impl Content {
    /// Returns the text that the person reads, for counting. Personal data.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::InfoRequest(ask) => Some(&ask.body),
            Self::Choice(choice) => Some(&choice.body),
            Self::Link(link) => Some(&link.body),
            Self::Media(media) => media.iter().find_map(|m| m.caption.as_deref()),
            Self::Text(text) => Some(text),
            Self::Contacts(_) | Self::Location(_) | Self::Native(_) | Self::Reaction(_) | Self::Template(_) => None,
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::InfoRequest(_) => "ask",
            Self::Choice(_) => "choice",
            Self::Contacts(_) => "contacts",
            Self::Link(_) => "link",
            Self::Location(_) => "location",
            Self::Media(_) => "media",
            Self::Native(_) => "native",
            Self::Reaction(_) => "reaction",
            Self::Template(_) => "template",
            Self::Text(_) => "text",
        }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.debug_tuple("Text").field(&Hidden(text)).finish(),
            Self::Media(media) => f.debug_tuple("Media").field(media).finish(),
            Self::Template(template) => f.debug_tuple("Template").field(template).finish(),
            other => f.debug_tuple(other.kind()).finish(),
        }
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

macro_rules! into_content {
    ($($type:ident => $variant:ident),*) => {$(
        impl From<$type> for Content {
            fn from(content: $type) -> Self {
                Self::$variant(content)
            }
        }
    )*};
}

into_content!(InfoRequest => InfoRequest, Choice => Choice, Link => Link, Location => Location, Native => Native, Reaction => Reaction,
    Template => Template);

impl From<Media> for Content {
    fn from(media: Media) -> Self {
        Self::Media(vec![media])
    }
}

impl From<ContactCard> for Content {
    fn from(card: ContactCard) -> Self {
        Self::Contacts(vec![card])
    }
}

/// An emoji on a resident's message, or its removal.
///
/// It must be exactly one emoji as defined by [`is_emoji`](crate::medium::whatsapp::is_emoji).
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Reaction {
    /// The message.
    pub to: MessageId,
    /// The emoji; `None` removes an earlier one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emoji: Option<String>,
}

impl Reaction {
    /// Adds an emoji to a message.
    pub fn new(to: impl Into<MessageId>, emoji: impl Into<String>) -> Self {
        Self { to: to.into(), emoji: Some(emoji.into()) }
    }

    /// Removes an earlier emoji.
    pub fn remove(from: impl Into<MessageId>) -> Self {
        Self { to: from.into(), emoji: None }
    }
}

/// A contact card of a person or office.
#[non_exhaustive]
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ContactCard {
    /// The display name.
    pub name: String,
    /// The first name, or the first word of an office's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_name: Option<String>,
    /// The organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    /// Phone numbers as written on the card.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phones: Vec<LabelledValue>,
    /// E-mail addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub emails: Vec<LabelledValue>,
    /// Web addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<LabelledValue>,
}

/// A value of a contact card, with a label such as `WORK`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelledValue {
    /// The value.
    pub value: String,
    /// The label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

impl ContactCard {
    /// Creates a card with a name.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Sets the first name.
    #[must_use]
    pub fn first_name(mut self, name: impl Into<String>) -> Self {
        self.first_name = Some(name.into());
        self
    }

    /// Adds a phone number with a label.
    #[must_use]
    pub fn phone(mut self, number: impl Into<String>, label: impl Into<String>) -> Self {
        self.phones.push(LabelledValue { value: number.into(), label: Some(label.into()) });
        self
    }

    /// Adds an e-mail address with a label.
    #[must_use]
    pub fn email(mut self, email: impl Into<String>, label: impl Into<String>) -> Self {
        self.emails.push(LabelledValue { value: email.into(), label: Some(label.into()) });
        self
    }
}

/// Content in one gateway's own format: JSON that is sent unchanged.
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Native {
    gateway: String,
    value: Value,
}

impl Native {
    /// Creates content for one gateway. Any other gateway rejects it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) if the value cannot be serialised.
    pub fn new(gateway: impl Into<String>, value: &impl Serialize) -> Result<Self> {
        let value =
            serde_json::to_value(value).map_err(|_| Error::invalid("native", "cannot be serialised to JSON"))?;
        Ok(Self { gateway: gateway.into(), value })
    }

    /// Returns the gateway that it is for.
    pub fn gateway(&self) -> &str {
        &self.gateway
    }

    /// Deserialises the value as the gateway's type.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) if it does not match that type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        T::deserialize(&self.value).map_err(|_| Error::invalid("native", "cannot be parsed by this gateway"))
    }
}

macro_rules! masked_debug {
    ($($type:ident),*) => {$(
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($type), "(masked)"))
            }
        }
    )*};
}

masked_debug!(
    InfoRequest,
    Choice,
    ContactCard,
    TemplateHeader,
    LabelledValue,
    Link,
    Native,
    Parameter,
    Reaction,
    Row,
    Section,
    TemplateButton
);
