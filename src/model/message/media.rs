//! Files that are sent or were received.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::clock::Timestamp;
use crate::model::digest::Digest;
use crate::model::id::MediaType;

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
