//! What a council sends, and what the gateway said to it at once.

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

/// One message of ours to one person or conversation.
///
/// Built by one of the constructors and the methods that follow it; what it asks for is checked against a channel
/// by [`ChannelExt::check`](crate::ChannelExt::check) and again by every send, before anything leaves. It
/// round-trips through serde whole, with a version, so that a store can keep it; `Debug` shows no text and no
/// address.
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
    /// Who it goes to: a person or a conversation.
    pub to: Address,
    /// What it says.
    pub content: Content,
    /// The message of theirs that it quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<MessageId>,
    /// Its name: see [`key`](Self::key).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What it is for.
    #[serde(default)]
    pub purpose: Purpose,
    /// The language that it is in, as BCP 47.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// The moment after which it must not be sent any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
    /// The council's own word for counting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// What to do when it may have gone.
    #[serde(default, skip_serializing_if = "OnUnknown::is_default")]
    pub on_unknown: OnUnknown,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    allow: Vec<Degradation>,
    #[serde(default, skip_serializing_if = "Options::is_empty")]
    options: Options,
}

impl Message {
    /// A message with any content.
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

    /// A text.
    pub fn text(to: impl Into<Address>, text: impl Into<String>) -> Self {
        Self::new(to, Content::Text(text.into()))
    }

    /// One file, or several: where the medium takes one at a time, [`Plan::split`](crate::plan::Plan::split) makes a
    /// message of each.
    pub fn media(to: impl Into<Address>, media: impl IntoIterator<Item = Media>) -> Self {
        Self::new(to, Content::Media(media.into_iter().collect()))
    }

    /// An approved template.
    pub fn template(to: impl Into<Address>, template: Template) -> Self {
        Self::new(to, template)
    }

    /// Quotes a message of theirs.
    #[must_use]
    pub fn reply_to(mut self, id: impl Into<MessageId>) -> Self {
        self.reply_to = Some(id.into());
        self
    }

    /// Names the message, in any length: no control characters, no personal data, since the gateway sees it.
    ///
    /// The gateway gets it as its reference, or a digest of it where it is longer than the gateway takes: see
    /// [`Info::reference`](crate::Info::reference). Status events carry that back where the gateway can
    /// ([`Capability::key`](crate::Capability::key)), so that a doubtful send can be settled. No gateway here refuses a
    /// second message under one key.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Says what the message is for.
    #[must_use]
    pub fn purpose(mut self, purpose: Purpose) -> Self {
        self.purpose = purpose;
        self
    }

    /// Says which language it is in, as BCP 47: `en`, `cy`.
    #[must_use]
    pub fn language(mut self, language: impl Into<String>) -> Self {
        self.language = Some(language.into());
        self
    }

    /// The moment after which it must not be sent any more.
    #[must_use]
    pub fn not_after(mut self, at: Timestamp) -> Self {
        self.not_after = Some(at);
        self
    }

    /// A free word for the council's own counting: a service, a campaign. The gateway does not see it.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tag = Some(tag.into());
        self
    }

    /// Says what to do when it may have gone: nothing that could double it, unless this says
    /// [`OnUnknown::Resend`].
    #[must_use]
    pub fn on_unknown(mut self, on_unknown: OnUnknown) -> Self {
        self.on_unknown = on_unknown;
        self
    }

    /// Permits one way to degrade the content where the channel cannot carry it as it is.
    #[must_use]
    pub fn allow(mut self, degrade: Degradation) -> Self {
        if !self.allow.contains(&degrade) {
            self.allow.push(degrade);
        }
        self
    }

    /// Adds a gateway's own options. Other gateways pass them over.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) when the options do not serialise.
    pub fn gateway_options<O: GatewayOptions>(mut self, options: &O) -> Result<Self> {
        let value = serde_json::to_value(options).map_err(|_| Error::invalid("options", "do not serialise to JSON"))?;
        self.options.0.insert(O::GATEWAY.to_owned(), value);
        Ok(self)
    }

    /// Whether the content may be degraded in this way.
    pub fn allows(&self, degrade: Degradation) -> bool {
        self.allow.contains(&degrade)
    }

    /// The options for one gateway, where there are any.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) when they are there and do not read.
    pub fn options<O: GatewayOptions>(&self) -> Result<Option<O>> {
        let Some(value) = self.options.0.get(O::GATEWAY) else { return Ok(None) };
        O::deserialize(value)
            .map(Some)
            .map_err(|_| Error::invalid(format!("options.{}", O::GATEWAY), "are not options of this gateway"))
    }

    pub(crate) fn with_content(mut self, content: Content) -> Self {
        self.content = content;
        self
    }

    /// The same message as part `n` (from 1) of several, with a key of its own.
    pub(crate) fn part(&self, n: usize, content: Content) -> Self {
        let mut part = self.clone().with_content(content);
        part.key = self.key.as_ref().map(|key| format!("{key}/{n}"));
        if n > 1 {
            part.reply_to = None;
        }
        part
    }
}

/// Typed options that one gateway understands, carried by a message for it alone.
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
    /// The gateway that reads them, as [`Info::gateway`](crate::Info::gateway) names it.
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

/// What a message is for. Policy decides by it; no gateway here is told, but for Messenger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A danger to people, which goes out at any hour.
    Emergency,
    /// Promotion of something, which needs consent.
    Marketing,
    /// News about a service that the person uses.
    #[default]
    Notice,
    /// An answer to what the person wrote.
    Reply,
}

/// What to do with a message that may have gone ([`Outcome::Unknown`](crate::Outcome::Unknown)).
///
/// No gateway here refuses a second copy, so this is a choice between perhaps twice and perhaps not at all, which only
/// the sender can make: a demand for payment must not come twice, a flood warning must come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnknown {
    /// Leave it until a person decides.
    Park,
    /// Find out what became of it, by its status events or by [`look_up`](crate::Channel::look_up); where that shows
    /// nothing, leave it until a person decides.
    #[default]
    Reconcile,
    /// Send it again, and accept that it may come twice: by each gateway that is asked, up to two copies.
    Resend,
}

impl OnUnknown {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// One way to degrade content that a channel cannot carry as it is. None happens unless a message allows it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Degradation {
    /// Buttons or a list become numbered lines of text.
    ChoiceToText,
    /// A labelled link becomes text with the address.
    LinkToText,
    /// A location becomes text with a map address.
    LocationToText,
    /// A file given by link becomes its caption and the address.
    MediaToText,
    /// A quote is left out.
    DropQuote,
    /// Typographic characters become their GSM look-alikes (`’` to `'`). No letter is touched, so Welsh stays Welsh.
    Typography,
}

/// What a message says.
///
/// A channel states in [`Capability`](crate::Capability) which of these it carries.
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Asks for a location or a contact card, with a button.
    InfoRequest(InfoRequest),
    /// Buttons or a list to choose from.
    Choice(Choice),
    /// Contact cards.
    Contacts(Vec<ContactCard>),
    /// A labelled link.
    Link(Link),
    /// A place.
    Location(Location),
    /// Files: images, audio, video, documents, stickers.
    Media(Vec<Media>),
    /// What only one gateway knows.
    Native(Native),
    /// An emoji on a message of theirs.
    Reaction(Reaction),
    /// An approved template.
    Template(Template),
    /// Plain text.
    Text(String),
}

impl Content {
    /// The words of it that the person reads, for counting. Personal data.
    pub fn words(&self) -> Option<&str> {
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

/// A file to send, or one that was received, as a message refers to it.
///
/// ```
/// use civic_messaging::message::Media;
///
/// let map = Media::image("https://example.org/map.png").caption("Road closed").description("A map of Mill Lane");
/// ```
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Media {
    /// What kind of file it is.
    pub kind: MediaKind,
    /// Where the bytes are.
    pub source: MediaSource,
    /// Text shown with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<String>,
    /// What it shows, for somebody who cannot see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The name of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
    /// Shown as a voice note (audio only).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub voice: bool,
}

impl Media {
    /// A file of any kind.
    pub fn new(kind: MediaKind, source: impl Into<MediaSource>) -> Self {
        Self { kind, source: source.into(), caption: None, description: None, filename: None, voice: false }
    }

    /// A sound.
    pub fn audio(source: impl Into<MediaSource>) -> Self {
        Self::new(MediaKind::Audio, source)
    }

    /// A document.
    pub fn document(source: impl Into<MediaSource>) -> Self {
        Self::new(MediaKind::Document, source)
    }

    /// A picture.
    pub fn image(source: impl Into<MediaSource>) -> Self {
        Self::new(MediaKind::Image, source)
    }

    /// A sticker.
    pub fn sticker(source: impl Into<MediaSource>) -> Self {
        Self::new(MediaKind::Sticker, source)
    }

    /// A film.
    pub fn video(source: impl Into<MediaSource>) -> Self {
        Self::new(MediaKind::Video, source)
    }

    /// Sets the text shown with it.
    #[must_use]
    pub fn caption(mut self, caption: impl Into<String>) -> Self {
        self.caption = Some(caption.into());
        self
    }

    /// Says what it shows, for somebody who cannot see it.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Names the file.
    #[must_use]
    pub fn filename(mut self, filename: impl Into<String>) -> Self {
        self.filename = Some(filename.into());
        self
    }

    /// Shows a sound as a voice note.
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

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaKind {
    /// Sound.
    Audio,
    /// Anything that is none of the others.
    Document,
    /// A picture.
    Image,
    /// A sticker.
    Sticker,
    /// A film.
    Video,
}

impl MediaKind {
    /// The kind that a media type such as `image/jpeg` names.
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

/// Where the bytes of a file are.
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaSource {
    /// At the gateway, where it was uploaded or received.
    Gateway {
        /// The gateway.
        gateway: String,
        /// Its id of the file.
        id: String,
        /// When the gateway forgets it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires: Option<Timestamp>,
    },
    /// At an https address that the gateway fetches it from.
    Link(String),
    /// In the [`MediaStore`](crate::media::MediaStore) of the context; uploaded when it is sent.
    Stored {
        /// The file's SHA-256, which is its name in the store.
        sha256: Digest,
        /// Its length in bytes.
        len: u64,
        /// Its media type, such as `image/jpeg`.
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

/// A file that a gateway holds: uploaded by us, or sent by a resident.
///
/// [`fetch_media`](crate::Channel::fetch_media) gets its bytes; links inside live for minutes at some gateways, so
/// fetch at once.
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct MediaRef {
    /// The gateway that holds it.
    pub gateway: String,
    /// The gateway's id of it.
    pub id: String,
    /// Where to fetch it, if the gateway said so already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Its media type as the gateway gives it, parameters included: `audio/ogg; codecs=opus`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime: Option<String>,
    /// What kind of file it is, where the gateway says so and gives no media type: see [`kind`](Self::kind).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<MediaKind>,
    /// The file's SHA-256, if the gateway gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Its length in bytes, if the gateway gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub len: Option<u64>,
    /// The name that the sender gave the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
    /// When the gateway forgets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

impl MediaRef {
    /// A file by the gateway's id of it.
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

    /// The kind of file: what the gateway calls it, else by its media type.
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

/// A place on the map.
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Location {
    /// Degrees north, -90 to 90.
    pub latitude: f64,
    /// Degrees east, -180 to 180.
    pub longitude: f64,
    /// What the place is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its postal address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

impl Location {
    /// A place by its co-ordinates, in degrees (WGS 84).
    pub fn new(latitude: f64, longitude: f64) -> Self {
        Self { latitude, longitude, name: None, address: None }
    }

    /// Says what the place is called.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Gives its postal address.
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

/// A template that the gateway has approved, with what fills it.
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
    /// Its name.
    pub name: String,
    /// The gateway's code of its language, such as `en_GB`. Never derived from the resident's language: a Welsh
    /// template is filed under another code, because WhatsApp has none for Welsh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// What fills its body: all positional, or all named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Parameter>,
    /// What fills its header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<TemplateHeader>,
    /// The name of the parameter that the header's text fills, for a template with named parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_name: Option<String>,
    /// What fills its buttons, in any order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buttons: Vec<TemplateButton>,
    /// A gateway's own id of this template, by gateway.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub native: BTreeMap<String, String>,
}

/// One value that fills a template.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    /// Its name, for a template with named parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its value.
    pub value: String,
}

/// What fills one button of a template.
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateButton {
    /// A code to copy.
    CopyCode {
        /// The button, from 0.
        index: u8,
        /// The code.
        code: String,
    },
    /// A quick reply.
    QuickReply {
        /// The button, from 0.
        index: u8,
        /// What comes back when it is tapped.
        payload: String,
    },
    /// A link whose end is filled in.
    Url {
        /// The button, from 0.
        index: u8,
        /// The end of the address.
        suffix: String,
    },
}

impl Template {
    /// A template by its name.
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

    /// Sets the gateway's code of its language.
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

    /// Fills the header.
    #[must_use]
    pub fn header(mut self, header: impl Into<TemplateHeader>) -> Self {
        self.header = Some(header.into());
        self
    }

    /// Sets the name of the parameter that the header's text fills. A template with named parameters has one.
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

    /// Fills a button.
    #[must_use]
    pub fn button(mut self, button: TemplateButton) -> Self {
        self.buttons.push(button);
        self
    }

    /// Sets one gateway's own id of this template.
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

/// What stands above a template or a choice.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateHeader {
    /// A place.
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

/// Something to choose from.
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
    /// What stands above it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<TemplateHeader>,
    /// Small print below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub footer: Option<String>,
    /// The label that opens a list; none for buttons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list_label: Option<String>,
    /// The answers. Buttons are one section without a title.
    pub sections: Vec<Section>,
}

/// Answers under one title.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Section {
    /// The title; needed where there are several sections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The answers.
    pub rows: Vec<Row>,
}

/// One answer.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What comes back when it is chosen.
    pub id: String,
    /// What the person reads.
    pub title: String,
    /// A second line (lists only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl Row {
    /// An answer.
    pub fn new(id: impl Into<String>, title: impl Into<String>) -> Self {
        Self { id: id.into(), title: title.into(), description: None }
    }

    /// Adds a second line.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }
}

impl Choice {
    /// A question with buttons.
    pub fn buttons(body: impl Into<String>) -> Self {
        Self { body: body.into(), header: None, footer: None, list_label: None, sections: Vec::new() }
    }

    /// A question with a list that opens at a label.
    pub fn list(body: impl Into<String>, label: impl Into<String>) -> Self {
        Self { list_label: Some(label.into()), ..Self::buttons(body) }
    }

    /// Adds an answer to the last section.
    #[must_use]
    pub fn option(mut self, id: impl Into<String>, title: impl Into<String>) -> Self {
        let row = Row::new(id, title);
        match self.sections.last_mut() {
            Some(section) => section.rows.push(row),
            None => self.sections.push(Section { title: None, rows: vec![row] }),
        }
        self
    }

    /// Adds answers under a title.
    #[must_use]
    pub fn section(mut self, title: impl Into<String>, rows: impl IntoIterator<Item = Row>) -> Self {
        self.sections.push(Section { title: Some(title.into()), rows: rows.into_iter().collect() });
        self
    }

    /// Sets what stands above.
    #[must_use]
    pub fn header(mut self, header: impl Into<TemplateHeader>) -> Self {
        self.header = Some(header.into());
        self
    }

    /// Sets the small print below.
    #[must_use]
    pub fn footer(mut self, footer: impl Into<String>) -> Self {
        self.footer = Some(footer.into());
        self
    }

    /// All answers, in order.
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
    /// The label of the button.
    pub label: String,
    /// Where it goes.
    pub url: String,
    /// Small print below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub footer: Option<String>,
}

impl Link {
    /// A labelled link.
    pub fn new(body: impl Into<String>, label: impl Into<String>, url: impl Into<String>) -> Self {
        Self { body: body.into(), label: label.into(), url: url.into(), footer: None }
    }
}

/// A question that a button of the app answers.
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct InfoRequest {
    /// The question.
    pub body: String,
    /// What is asked for.
    pub what: InfoField,
}

/// What an [`InfoRequest`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InfoField {
    /// The person's contact card, and with it a phone number.
    Contact,
    /// Where the person is.
    Location,
}

impl InfoRequest {
    /// Asks for a contact card.
    pub fn contact(body: impl Into<String>) -> Self {
        Self { body: body.into(), what: InfoField::Contact }
    }

    /// Asks for a location.
    pub fn location(body: impl Into<String>) -> Self {
        Self { body: body.into(), what: InfoField::Location }
    }
}

/// An emoji on a message of theirs, or its removal. Exactly one emoji, in the sense of
/// [`is_emoji`](crate::medium::whatsapp::is_emoji).
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Reaction {
    /// The message.
    pub to: MessageId,
    /// The emoji; none takes an earlier one back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emoji: Option<String>,
}

impl Reaction {
    /// An emoji on a message.
    pub fn new(to: impl Into<MessageId>, emoji: impl Into<String>) -> Self {
        Self { to: to.into(), emoji: Some(emoji.into()) }
    }

    /// Takes an earlier emoji back.
    pub fn remove(from: impl Into<MessageId>) -> Self {
        Self { to: from.into(), emoji: None }
    }
}

/// A person or office, as an address book knows them.
#[non_exhaustive]
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ContactCard {
    /// The name as it is shown.
    pub name: String,
    /// The first name, or the first word of an office's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_name: Option<String>,
    /// The organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    /// Phone numbers as the card writes them.
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
    /// A card with a name.
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

/// What only one gateway knows, as JSON that goes to it as it stands.
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Native {
    gateway: String,
    value: Value,
}

impl Native {
    /// Content for one gateway. Any other refuses it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) when the value does not serialise.
    pub fn new(gateway: impl Into<String>, value: &impl Serialize) -> Result<Self> {
        let value = serde_json::to_value(value).map_err(|_| Error::invalid("native", "does not serialise to JSON"))?;
        Ok(Self { gateway: gateway.into(), value })
    }

    /// The gateway that it is for.
    pub fn gateway(&self) -> &str {
        &self.gateway
    }

    /// The value, as the type that the gateway reads.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) when it does not read as that type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        T::deserialize(&self.value).map_err(|_| Error::invalid("native", "is not what this gateway reads"))
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

/// What the gateway said at once: it took the message. Whether it arrives, [`Delivery`](crate::Delivery) events say.
#[non_exhaustive]
#[derive(Clone, PartialEq)]
pub struct Accepted {
    id: MessageId,
    more: Vec<MessageId>,
    /// The gateway that took it.
    pub gateway: &'static str,
    /// How far it has got, so far as the answer says.
    pub state: DeliveryState,
    /// The gateway's own word for that.
    pub status: Option<String>,
    /// Who it went to as the gateway sees it, where it says: WhatsApp normalises numbers and adds a user id.
    pub recipient: Option<Address>,
    /// How many parts the gateway counts, where it says.
    pub segments: Option<u32>,
    /// What it costs, where the gateway says so at once.
    pub price: Option<Money>,
    /// What the gateway changed in the text, where it says: GOV.UK Notify rewrites characters.
    pub losses: Vec<Loss>,
    /// How many more may go, where the gateway says: X does.
    pub allowance: Option<Quota>,
    /// The whole answer. It may hold personal data.
    pub raw: Bytes,
}

impl Accepted {
    /// An acceptance under this id.
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
            allowance: None,
            raw,
        }
    }

    /// An acceptance of several parts, each with an id; none when there is no id, or one is empty or blank.
    ///
    /// An adapter makes it by [`Answer::accepted`](crate::adapter::Answer::accepted), which gives an error otherwise.
    pub fn of_parts<I: Into<MessageId>>(
        gateway: &'static str,
        ids: impl IntoIterator<Item = I>,
        raw: Bytes,
    ) -> Option<Self> {
        let mut ids = ids.into_iter().map(Into::into);
        let named = |id: MessageId| Some(id).filter(|id| !id.as_str().trim().is_empty());
        let first = Self::new(gateway, named(ids.next()?)?, raw);
        ids.try_fold(first, |accepted, id| Some(accepted.and(named(id)?)))
    }

    /// The gateway's id, of the first part where there are several.
    pub fn id(&self) -> &MessageId {
        &self.id
    }

    /// The ids of all parts, in order.
    pub fn ids(&self) -> impl Iterator<Item = &MessageId> {
        std::iter::once(&self.id).chain(&self.more)
    }

    /// Adds the id of a further part.
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

/// What is lost of a message on its way.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// The description of a picture, for which the channel has no place.
    Description,
    /// The content was degraded in a way that the message allows.
    Degraded(Degradation),
    /// The gateway rewrites the text: so many characters are not as they were written.
    Rewritten {
        /// How many characters.
        characters: usize,
    },
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Description => f.write_str("the description of a picture is left out"),
            Self::Degraded(Degradation::ChoiceToText) => f.write_str("buttons or a list become numbered lines"),
            Self::Degraded(Degradation::LinkToText) => f.write_str("a labelled link becomes text"),
            Self::Degraded(Degradation::LocationToText) => f.write_str("a place becomes a map address"),
            Self::Degraded(Degradation::MediaToText) => f.write_str("a file becomes its address"),
            Self::Degraded(Degradation::DropQuote) => f.write_str("the quote is left out"),
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

/// An ISO 4217 code: three capital letters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency([u8; 3]);

impl Money {
    /// An amount as gateways write it: a decimal number with up to six places, and a currency.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) when it is not a decimal number, has more
    /// than six places that are not zero, or does not fit.
    pub fn parse(amount: &str, currency: &str) -> Result<Self> {
        let micros =
            micros(amount).ok_or_else(|| Error::invalid("amount", "is not a decimal number with up to six places"))?;
        Ok(Self { micros, currency: Currency::new(currency)? })
    }

    /// An amount as a JSON number is written, rounded to micros, half away from zero.
    ///
    /// A gateway that multiplies floating-point numbers writes three texts at £0.0227 as `0.06810000000000001`.
    /// [`parse`](Self::parse) is for what a person wrote, where a seventh place is a mistake.
    ///
    /// ```
    /// use civic_messaging::message::Money;
    ///
    /// assert_eq!(Money::rounded("0.06810000000000001", "GBP")?.micros, 68_100);
    /// # Ok::<(), civic_messaging::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) when it is not a decimal number or does not
    /// fit.
    pub fn rounded(amount: &str, currency: &str) -> Result<Self> {
        let micros = rounded_micros(amount).ok_or_else(|| Error::invalid("amount", "is not a decimal number"))?;
        Ok(Self { micros, currency: Currency::new(currency)? })
    }
}

/// JSON writes `5e-05` for small numbers, as Python does.
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
    // How many of the digits are micros: the first `kept` of them, and noughts behind where there are fewer.
    let kept = i32::try_from(whole.len()).ok()?.checked_add(exponent)?.checked_add(6)?;
    // Noughts with a great exponent would be counted one by one.
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
    /// A currency by its code.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) unless it is three ASCII letters.
    pub fn new(code: &str) -> Result<Self> {
        match code.to_ascii_uppercase().as_bytes() {
            &[a, b, c] if [a, b, c].iter().all(u8::is_ascii_uppercase) => Ok(Self([a, b, c])),
            _ => Err(Error::invalid("currency", "must be three letters, such as GBP")),
        }
    }

    /// The code.
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
    fn a_newer_version_is_refused() {
        let mut json = serde_json::to_value(Message::text(resident(), "Hello")).unwrap();
        json["version"] = 2.into();
        assert!(serde_json::from_value::<Message>(json).unwrap_err().to_string().contains("newer"));
    }

    #[test]
    fn parts_have_keys_of_their_own_and_only_the_first_quotes() {
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
