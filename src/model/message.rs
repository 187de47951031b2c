//! Outbound messages, and the gateway's immediate response.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::model::address::Address;
use crate::model::clock::Timestamp;
use crate::model::delivery::DeliveryState;
use crate::model::digest::Digest;
use crate::model::error::{Error, Result};
use crate::model::id::{Hidden, MediaType, MessageId, Word};
use crate::model::rate::Quota;

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
/// None of the built-in gateways rejects a duplicate, so the sender must choose between a possible duplicate and a
/// possible loss: a demand for payment must not arrive twice, a flood warning must arrive.
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

/// A reference to a file that is to be sent or was received.
///
/// ```
/// use civic_messaging::message::Media;
///
/// let map = Media::image("https://example.org/map.png").caption("Road closed").description("A map of Mill Lane");
/// ```
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Media {
    /// The kind of file.
    pub kind: MediaKind,
    /// The location of the bytes.
    pub source: MediaSource,
    /// The text shown with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<String>,
    /// A description for people who cannot see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The file name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
    /// Shows the file as a voice note (audio only).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub voice: bool,
}

impl Media {
    /// Creates a file of any kind.
    pub fn new(kind: MediaKind, source: impl Into<MediaSource>) -> Self {
        Self { kind, source: source.into(), caption: None, description: None, filename: None, voice: false }
    }

    /// Creates an audio file.
    pub fn audio(source: impl Into<MediaSource>) -> Self {
        Self::new(MediaKind::Audio, source)
    }

    /// Creates a document.
    pub fn document(source: impl Into<MediaSource>) -> Self {
        Self::new(MediaKind::Document, source)
    }

    /// Creates an image.
    pub fn image(source: impl Into<MediaSource>) -> Self {
        Self::new(MediaKind::Image, source)
    }

    /// Creates a sticker.
    pub fn sticker(source: impl Into<MediaSource>) -> Self {
        Self::new(MediaKind::Sticker, source)
    }

    /// Creates a video.
    pub fn video(source: impl Into<MediaSource>) -> Self {
        Self::new(MediaKind::Video, source)
    }

    /// Sets the caption.
    #[must_use]
    pub fn caption(mut self, caption: impl Into<String>) -> Self {
        self.caption = Some(caption.into());
        self
    }

    /// Sets the description for people who cannot see it.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Sets the file name.
    #[must_use]
    pub fn filename(mut self, filename: impl Into<String>) -> Self {
        self.filename = Some(filename.into());
        self
    }

    /// Shows an audio file as a voice note.
    #[must_use]
    pub fn voice(mut self) -> Self {
        self.voice = true;
        self
    }
}

impl fmt::Debug for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Media").field("kind", &self.kind).field("source", &self.source).finish_non_exhaustive()
    }
}

/// The kind of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaKind {
    /// Audio.
    Audio,
    /// Any other file.
    Document,
    /// An image.
    Image,
    /// A sticker.
    Sticker,
    /// A video.
    Video,
}

impl MediaKind {
    /// Returns the kind for a media type such as `image/jpeg`.
    pub fn from_mime(mime: &str) -> Self {
        match mime.split_once('/').map(|(family, _)| family) {
            Some("image") => Self::Image,
            Some("audio") => Self::Audio,
            Some("video") => Self::Video,
            _ => Self::Document,
        }
    }
}

impl fmt::Display for MediaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Audio => "audio",
            Self::Document => "document",
            Self::Image => "image",
            Self::Sticker => "sticker",
            Self::Video => "video",
        })
    }
}

/// The location of a file's bytes.
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaSource {
    /// At the gateway, uploaded or received.
    Gateway {
        /// The gateway.
        gateway: String,
        /// The gateway's id of the file.
        id: String,
        /// The time at which the gateway deletes it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires: Option<Timestamp>,
    },
    /// At an https URL that the gateway fetches.
    Link(String),
    /// In the [`MediaStore`](crate::media::MediaStore) of the context; uploaded on send.
    Stored {
        /// The file's SHA-256, its name in the store.
        sha256: Digest,
        /// The length in bytes.
        len: u64,
        /// The media type, such as `image/jpeg`.
        mime: String,
    },
}

impl fmt::Debug for MediaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway { gateway, expires, .. } => {
                f.debug_struct("Gateway").field("gateway", gateway).field("expires", expires).finish_non_exhaustive()
            }
            Self::Link(_) => f.write_str("Link"),
            Self::Stored { len, mime, .. } => {
                f.debug_struct("Stored").field("len", len).field("mime", &MediaType(mime)).finish_non_exhaustive()
            }
        }
    }
}

impl From<&str> for MediaSource {
    fn from(link: &str) -> Self {
        Self::Link(link.to_owned())
    }
}

impl From<String> for MediaSource {
    fn from(link: String) -> Self {
        Self::Link(link)
    }
}

impl From<MediaRef> for MediaSource {
    fn from(media: MediaRef) -> Self {
        Self::Gateway { gateway: media.gateway, id: media.id, expires: media.expires }
    }
}

/// A file held by a gateway: uploaded by us, or sent by a resident.
///
/// [`fetch_media`](crate::Channel::fetch_media) returns its bytes. At some gateways the underlying link expires within
/// minutes, so fetch at once.
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct MediaRef {
    /// The gateway that holds it.
    pub gateway: String,
    /// The gateway's id of the file.
    pub id: String,
    /// The URL to fetch it from, if the gateway has already supplied one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The media type from the gateway, with parameters: `audio/ogg; codecs=opus`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime: Option<String>,
    /// The kind from the gateway, if it gives no media type: see [`kind`](Self::kind).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<MediaKind>,
    /// The file's SHA-256, if the gateway supplies it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// The length in bytes, if the gateway supplies it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub len: Option<u64>,
    /// The sender's file name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
    /// The time at which the gateway deletes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

impl MediaRef {
    /// Creates a reference from the gateway's id.
    pub fn new(gateway: impl Into<String>, id: impl Into<String>) -> Self {
        Self {
            gateway: gateway.into(),
            id: id.into(),
            url: None,
            mime: None,
            kind: None,
            sha256: None,
            len: None,
            filename: None,
            expires: None,
        }
    }

    /// Returns the kind of file from the gateway's classification, else from the media type.
    pub fn kind(&self) -> MediaKind {
        self.kind.or_else(|| self.mime.as_deref().map(MediaKind::from_mime)).unwrap_or(MediaKind::Document)
    }
}

impl fmt::Debug for MediaRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MediaRef")
            .field("gateway", &self.gateway)
            .field("mime", &self.mime.as_deref().map(MediaType))
            .field("len", &self.len)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// A geographic location.
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Location {
    /// Degrees north, -90 to 90.
    pub latitude: f64,
    /// Degrees east, -180 to 180.
    pub longitude: f64,
    /// The name of the place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The postal address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

impl Location {
    /// Creates a location from WGS 84 coordinates in degrees.
    pub fn new(latitude: f64, longitude: f64) -> Self {
        Self { latitude, longitude, name: None, address: None }
    }

    /// Sets the name of the place.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the postal address.
    #[must_use]
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = Some(address.into());
        self
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Location(masked)")
    }
}

/// A template approved by the gateway, with its parameters.
///
/// ```
/// use civic_messaging::message::Template;
///
/// let positional = Template::new("bin_day_reminder").language("en_GB").parameter("Alex").parameter("Tuesday");
/// let named = Template::new("bin_day_named").language("en_GB").named("first_name", "Alex").named("day", "Tuesday");
/// ```
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Template {
    /// The name.
    pub name: String,
    /// The gateway's code for the language, such as `en_GB`.
    ///
    /// Never derived from the resident's language: WhatsApp has no code for Welsh, so Welsh templates are filed under
    /// another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// The parameters of the body: all positional, or all named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Parameter>,
    /// The content of the header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<TemplateHeader>,
    /// The name of the parameter in the header's text, for a template with named parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_name: Option<String>,
    /// The parameters of the buttons, in any order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buttons: Vec<TemplateButton>,
    /// The template's own id at each gateway, by gateway.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub native: BTreeMap<String, String>,
}

/// A parameter of a template.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    /// The name, for a template with named parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The value.
    pub value: String,
}

/// The parameter of one template button.
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateButton {
    /// A code to copy.
    CopyCode {
        /// The index of the button, from 0.
        index: u8,
        /// The code.
        code: String,
    },
    /// A quick reply.
    QuickReply {
        /// The index of the button, from 0.
        index: u8,
        /// The payload returned when it is tapped.
        payload: String,
    },
    /// A link with a variable suffix.
    Url {
        /// The index of the button, from 0.
        index: u8,
        /// The suffix of the URL.
        suffix: String,
    },
}

impl Template {
    /// Creates a template from its name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            language: None,
            parameters: Vec::new(),
            header: None,
            header_name: None,
            buttons: Vec::new(),
            native: BTreeMap::new(),
        }
    }

    /// Sets the gateway's code for the language.
    #[must_use]
    pub fn language(mut self, code: impl Into<String>) -> Self {
        self.language = Some(code.into());
        self
    }

    /// Adds the next positional parameter.
    #[must_use]
    pub fn parameter(mut self, value: impl Into<String>) -> Self {
        self.parameters.push(Parameter { name: None, value: value.into() });
        self
    }

    /// Adds a named parameter.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.push(Parameter { name: Some(name.into()), value: value.into() });
        self
    }

    /// Sets the header.
    #[must_use]
    pub fn header(mut self, header: impl Into<TemplateHeader>) -> Self {
        self.header = Some(header.into());
        self
    }

    /// Sets the name of the parameter in the header's text, for a template with named parameters.
    ///
    /// ```
    /// use civic_messaging::message::Template;
    ///
    /// let closed = Template::new("road_closed").language("en_GB").named("day", "Tuesday");
    /// let closed = closed.header("Mill Lane").header_name("road");
    /// ```
    #[must_use]
    pub fn header_name(mut self, name: impl Into<String>) -> Self {
        self.header_name = Some(name.into());
        self
    }

    /// Adds a button's parameter.
    #[must_use]
    pub fn button(mut self, button: TemplateButton) -> Self {
        self.buttons.push(button);
        self
    }

    /// Sets the template's own id at one gateway.
    #[must_use]
    pub fn native(mut self, gateway: impl Into<String>, id: impl Into<String>) -> Self {
        self.native.insert(gateway.into(), id.into());
        self
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template")
            .field("name", &self.name)
            .field("language", &self.language)
            .field("parameters", &self.parameters.len())
            .finish_non_exhaustive()
    }
}

/// The header of a template or choice.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateHeader {
    /// A location.
    Location(Location),
    /// A file.
    Media(Media),
    /// A line of text.
    Text(String),
}

impl From<&str> for TemplateHeader {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Media> for TemplateHeader {
    fn from(media: Media) -> Self {
        Self::Media(media)
    }
}

impl From<Location> for TemplateHeader {
    fn from(location: Location) -> Self {
        Self::Location(location)
    }
}

/// A question with options: buttons or a list.
///
/// ```
/// use civic_messaging::message::{Choice, Row};
///
/// let buttons = Choice::buttons("Keep this appointment?").option("keep", "Keep").option("cancel", "Cancel");
/// let list = Choice::list("Choose a slot", "View slots")
///     .section("Monday", [Row::new("m9", "09:00").description("Bulky waste"), Row::new("m10", "10:00")]);
/// ```
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The question.
    pub body: String,
    /// The header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<TemplateHeader>,
    /// The footer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub footer: Option<String>,
    /// The label that opens a list; `None` for buttons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list_label: Option<String>,
    /// The options. Buttons are one section without a title.
    pub sections: Vec<Section>,
}

/// Options under one title.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Section {
    /// The title; required if there are several sections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The options.
    pub rows: Vec<Row>,
}

/// One option of a choice.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The id returned when it is selected.
    pub id: String,
    /// The title that the person reads.
    pub title: String,
    /// A second line (lists only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl Row {
    /// Creates an option.
    pub fn new(id: impl Into<String>, title: impl Into<String>) -> Self {
        Self { id: id.into(), title: title.into(), description: None }
    }

    /// Sets the second line.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }
}

impl Choice {
    /// Creates a question with buttons.
    pub fn buttons(body: impl Into<String>) -> Self {
        Self { body: body.into(), header: None, footer: None, list_label: None, sections: Vec::new() }
    }

    /// Creates a question with a list, opened by a label.
    pub fn list(body: impl Into<String>, label: impl Into<String>) -> Self {
        Self { list_label: Some(label.into()), ..Self::buttons(body) }
    }

    /// Adds an option to the last section.
    #[must_use]
    pub fn option(mut self, id: impl Into<String>, title: impl Into<String>) -> Self {
        let row = Row::new(id, title);
        match self.sections.last_mut() {
            Some(section) => section.rows.push(row),
            None => self.sections.push(Section { title: None, rows: vec![row] }),
        }
        self
    }

    /// Adds a section of options.
    #[must_use]
    pub fn section(mut self, title: impl Into<String>, rows: impl IntoIterator<Item = Row>) -> Self {
        self.sections.push(Section { title: Some(title.into()), rows: rows.into_iter().collect() });
        self
    }

    /// Sets the header.
    #[must_use]
    pub fn header(mut self, header: impl Into<TemplateHeader>) -> Self {
        self.header = Some(header.into());
        self
    }

    /// Sets the footer.
    #[must_use]
    pub fn footer(mut self, footer: impl Into<String>) -> Self {
        self.footer = Some(footer.into());
        self
    }

    /// Returns all options in order.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.sections.iter().flat_map(|section| &section.rows)
    }
}

/// A labelled link.
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// The text above it.
    pub body: String,
    /// The button's label.
    pub label: String,
    /// The URL.
    pub url: String,
    /// The footer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub footer: Option<String>,
}

impl Link {
    /// Creates a labelled link.
    pub fn new(body: impl Into<String>, label: impl Into<String>, url: impl Into<String>) -> Self {
        Self { body: body.into(), label: label.into(), url: url.into(), footer: None }
    }
}

/// A request for information that a button of the app supplies.
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct InfoRequest {
    /// The question.
    pub body: String,
    /// The requested information.
    pub what: InfoField,
}

/// The information that an [`InfoRequest`] requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InfoField {
    /// The person's contact card, which includes a phone number.
    Contact,
    /// The person's location.
    Location,
}

impl InfoRequest {
    /// Requests a contact card.
    pub fn contact(body: impl Into<String>) -> Self {
        Self { body: body.into(), what: InfoField::Contact }
    }

    /// Requests a location.
    pub fn location(body: impl Into<String>) -> Self {
        Self { body: body.into(), what: InfoField::Location }
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

/// The gateway's acceptance of a message. [`Delivery`](crate::Delivery) events report delivery.
#[non_exhaustive]
#[derive(Clone, PartialEq)]
pub struct Accepted {
    id: MessageId,
    more: Vec<MessageId>,
    /// The gateway that accepted it.
    pub gateway: &'static str,
    /// The delivery state from the response.
    pub state: DeliveryState,
    /// The gateway's own name for that state.
    pub status: Option<String>,
    /// The recipient according to the gateway, if reported: WhatsApp normalises numbers and adds a user id.
    pub recipient: Option<Address>,
    /// The number of parts counted by the gateway, if reported.
    pub segments: Option<u32>,
    /// The price, if reported at once.
    pub price: Option<Money>,
    /// The gateway's changes to the text, if reported: GOV.UK Notify rewrites characters.
    pub losses: Vec<Loss>,
    /// The remaining quota, if reported: X does.
    pub quota: Option<Quota>,
    /// The raw response. It may contain personal data.
    pub raw: Bytes,
}

impl Accepted {
    /// Creates an acceptance with one id.
    pub fn new(gateway: &'static str, id: impl Into<MessageId>, raw: Bytes) -> Self {
        Self {
            id: id.into(),
            more: Vec::new(),
            gateway,
            state: DeliveryState::Accepted,
            status: None,
            recipient: None,
            segments: None,
            price: None,
            losses: Vec::new(),
            quota: None,
            raw,
        }
    }

    /// Creates an acceptance of several parts; `None` if there is no id, or one is empty or blank.
    ///
    /// Adapters use [`Answer::accepted`](crate::adapter::Answer::accepted), which returns an error in that case.
    pub fn from_parts<I: Into<MessageId>>(
        gateway: &'static str,
        ids: impl IntoIterator<Item = I>,
        raw: Bytes,
    ) -> Option<Self> {
        let mut ids = ids.into_iter().map(Into::into);
        let named = |id: MessageId| Some(id).filter(|id| !id.as_str().trim().is_empty());
        let first = Self::new(gateway, named(ids.next()?)?, raw);
        ids.try_fold(first, |accepted, id| Some(accepted.and(named(id)?)))
    }

    /// Returns the gateway's id, of the first part if there are several.
    pub fn id(&self) -> &MessageId {
        &self.id
    }

    /// Returns the ids of all parts in order.
    pub fn ids(&self) -> impl Iterator<Item = &MessageId> {
        std::iter::once(&self.id).chain(&self.more)
    }

    /// Adds the id of another part.
    #[must_use]
    pub fn and(mut self, id: impl Into<MessageId>) -> Self {
        self.more.push(id.into());
        self
    }
}

impl fmt::Debug for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted")
            .field("gateway", &self.gateway)
            .field("id", &self.id)
            .field("more", &self.more)
            .field("state", &self.state)
            .field("status", &self.status.as_deref().map(Word))
            .field("recipient", &self.recipient)
            .field("segments", &self.segments)
            .field("price", &self.price)
            .field("losses", &self.losses)
            .finish_non_exhaustive()
    }
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

/// An amount of money: millionths of a currency's main unit, and the currency's ISO 4217 code.
///
/// ```
/// use civic_messaging::message::Money;
///
/// let price = Money::parse("-0.0400", "GBP")?;
/// assert_eq!((price.micros, price.to_string().as_str()), (-40_000, "-0.040000 GBP"));
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    /// Millionths of the main unit: £0.04 is 40,000.
    pub micros: i64,
    /// The currency.
    pub currency: Currency,
}

/// An ISO 4217 code: three uppercase letters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency([u8; 3]);

impl Money {
    /// Parses an amount as gateways write it: a decimal number with up to six places, and a currency.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) if it is not a decimal number, has more than six
    /// places that are not zero, or is out of range.
    pub fn parse(amount: &str, currency: &str) -> Result<Self> {
        let micros =
            micros(amount).ok_or_else(|| Error::invalid("amount", "is not a decimal number with up to six places"))?;
        Ok(Self { micros, currency: Currency::new(currency)? })
    }

    /// Parses an amount as written in JSON, rounded to micros, half away from zero.
    ///
    /// A gateway that multiplies floating-point numbers reports three texts at £0.0227 as `0.06810000000000001`.
    /// [`parse`](Self::parse) is for amounts that a person wrote, where a seventh place is a mistake.
    ///
    /// ```
    /// use civic_messaging::message::Money;
    ///
    /// assert_eq!(Money::rounded("0.06810000000000001", "GBP")?.micros, 68_100);
    /// # Ok::<(), civic_messaging::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) if it is not a decimal number or is out of
    /// range.
    pub fn rounded(amount: &str, currency: &str) -> Result<Self> {
        let micros = rounded_micros(amount).ok_or_else(|| Error::invalid("amount", "is not a decimal number"))?;
        Ok(Self { micros, currency: Currency::new(currency)? })
    }
}

/// Accepts `5e-05`, as JSON and Python write small numbers.
fn rounded_micros(amount: &str) -> Option<i64> {
    let (digits, exponent) = match amount.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (amount, 0),
    };
    let (negative, digits) = digits.strip_prefix('-').map_or((false, digits), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !all(whole) || !all(fraction) {
        return None;
    }
    // The number of digits that are micros: the first `kept`, padded with zeros where there are fewer.
    let kept = i32::try_from(whole.len()).ok()?.checked_add(exponent)?.checked_add(6)?;
    // Zeros with a large exponent would be padded one by one.
    if [whole, fraction].iter().all(|digits| digits.bytes().all(|digit| digit == b'0')) {
        return Some(0);
    }
    let digits = || whole.bytes().chain(fraction.bytes()).map(|digit| i64::from(digit - b'0'));
    let mut micros = 0_i64;
    if let Ok(kept) = usize::try_from(kept) {
        let mut shown = digits().chain(std::iter::repeat(0)).take(kept).skip_while(|digit| *digit == 0);
        micros = shown.by_ref().take(20).try_fold(0_i64, |sum, digit| sum.checked_mul(10)?.checked_add(digit))?;
        if shown.next().is_some() {
            return None;
        }
        let half = digits().nth(kept).is_some_and(|digit| digit >= 5);
        micros = micros.checked_add(i64::from(half))?;
    }
    Some(if negative { -micros } else { micros })
}

fn micros(amount: &str) -> Option<i64> {
    let (negative, digits) = amount.strip_prefix('-').map_or((false, amount), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let (kept, rest) = fraction.split_at_checked(6).unwrap_or((fraction, ""));
    let all = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !all(whole) || !all(kept) || rest.bytes().any(|b| b != b'0') {
        return None;
    }
    let micros =
        format!("{kept:0<6}").parse::<i64>().ok()?.checked_add(whole.parse::<i64>().ok()?.checked_mul(1_000_000)?)?;
    Some(if negative { -micros } else { micros })
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.micros < 0 { "-" } else { "" };
        let (whole, fraction) = (self.micros.unsigned_abs() / 1_000_000, self.micros.unsigned_abs() % 1_000_000);
        write!(f, "{sign}{whole}.{fraction:06} {}", self.currency)
    }
}

impl Currency {
    /// Creates a currency from its code.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) unless it is three ASCII letters.
    pub fn new(code: &str) -> Result<Self> {
        match code.to_ascii_uppercase().as_bytes() {
            &[a, b, c] if [a, b, c].iter().all(u8::is_ascii_uppercase) => Ok(Self([a, b, c])),
            _ => Err(Error::invalid("currency", "must be three letters, such as GBP")),
        }
    }

    /// Returns the code.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
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

    #[test]
    fn money_is_exact_or_an_error() {
        for (amount, micros) in
            [("0", 0), ("1", 1_000_000), ("-0.00750", -7_500), ("0.0333", 33_300), ("0.04000000", 40_000)]
        {
            assert_eq!(Money::parse(amount, "USD").unwrap().micros, micros, "{amount}");
        }
        for wrong in ["", ".", "1.", ".5", "1,5", "0.0000001", "--1", "9223372036854775807"] {
            assert!(Money::parse(wrong, "USD").is_err(), "{wrong}");
        }
        assert!(Money::parse("1", "POUND").is_err());
    }

    #[test]
    fn rounded_money_is_the_nearest_micro() {
        for (amount, micros) in [
            ("0.06810000000000001", 68_100),
            ("-0.06810000000000001", -68_100),
            ("0.0680999999999999", 68_100),
            ("0.0227", 22_700),
            ("12", 12_000_000),
            ("0", 0),
            ("-0.0", 0),
            ("0.0000005", 1),
            ("0.00000049", 0),
            ("-0.0000005", -1),
            ("0.9999999", 1_000_000),
            ("5e-05", 50),
            ("6.81E-2", 68_100),
            ("5e-7", 1),
            ("5e-8", 0),
            ("1e3", 1_000_000_000),
            ("0e2000000000", 0),
            ("1e-2000000000", 0),
            ("00000000000000000000000001.5", 1_500_000),
            ("9223372036854.775807", i64::MAX),
        ] {
            assert_eq!(Money::rounded(amount, "GBP").unwrap().micros, micros, "{amount}");
        }
        for wrong in [
            "",
            ".",
            "1.",
            ".5",
            "1,5",
            "--1",
            "1e",
            "e5",
            "1e2000000000",
            "9223372036854.775808",
            "NaN",
            "1e99999999999",
        ] {
            assert!(Money::rounded(wrong, "GBP").is_err(), "{wrong}");
        }
    }
}
