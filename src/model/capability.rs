//! The features and limits of a channel, as data for one validator.

use std::time::Duration;

use crate::medium::{messenger, whatsapp, x};
use crate::model::message::MediaKind;
use crate::model::rate::{PairRate, Rate};

/// The features and limits of a channel.
///
/// Anything that is not enabled here is rejected before the network.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capability {
    /// Receives webhooks.
    pub receive: bool,
    /// Can be polled.
    pub poll: bool,
    /// Delivers by webhook or by poll, never by both: a poll fails while a webhook is set, as at Telegram (409).
    pub webhook_excludes_poll: bool,
    /// Can look up messages.
    pub look_up: bool,
    /// Reports deliveries by webhook or poll, as configured. A switchboard's timed fallback relies on it.
    pub delivery_status: bool,
    /// Accepts uploads.
    pub upload_media: bool,
    /// Serves files that the gateway holds.
    pub fetch_media: bool,
    /// Reports its health.
    pub health: bool,
    /// Can mark a message as read.
    pub read: bool,
    /// Can show a typing indicator.
    pub typing: bool,
    /// Includes a message's key, or its [`reference`](crate::Info::reference), in status events.
    pub key: bool,
    /// The maximum length of a reference, the gateway's term for our key, in bytes of UTF-8.
    ///
    /// `None` is 256; `Some(0)` means that the gateway takes none. A longer key is never rejected: the gateway receives
    /// a digest of it, as [`Info::reference`](crate::Info::reference) describes. The shorter the limit, the likelier a
    /// collision of digests: below 8 bytes they do not identify messages.
    pub max_reference: Option<usize>,
    /// The time for which the gateway recognises a repeated send by its reference, and makes no second message of it.
    ///
    /// It is measured from the first attempt. Within it a send with an unknown outcome is repeated to the same account,
    /// with the same reference: see [`Info::resend_window`](crate::Info::resend_window). `None` if the gateway makes a
    /// second message; then an unknown outcome is final.
    pub idempotency_window: Option<Duration>,
    /// Sends to group conversations.
    pub conversation: bool,
    /// Quotes the resident's message.
    pub reply_to: bool,
    /// Sends text, up to a limit.
    pub text: Option<TextLimit>,
    /// Sends files.
    pub media: Option<MediaLimits>,
    /// Sends templates.
    pub template: Option<TemplateLimits>,
    /// Sends buttons and lists.
    pub choice: Option<ChoiceLimits>,
    /// Sends labelled links, with labels of at most this many characters.
    pub link: Option<usize>,
    /// Can request a location.
    pub ask_location: bool,
    /// Can request a contact card.
    pub ask_contact: bool,
    /// Sends locations.
    pub location: bool,
    /// Sends contact cards.
    pub contacts: bool,
    /// Sends reactions.
    pub reaction: bool,
    /// Accepts [`Native`](crate::message::Native) content.
    pub native: bool,
    /// The gateway's documented rate limit. `None` where it documents none or reports it only in its responses
    /// ([`Accepted::quota`](crate::Accepted::quota)).
    pub rate: Option<Rate>,
    /// The rate limit per recipient.
    pub pair_rate: Option<PairRate>,
}

impl Capability {
    /// Returns the features of both. Where text limits have different units, keeps that of `self`.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        // Names every field, so that a new one cannot be forgotten.
        Self {
            receive: self.receive && other.receive,
            poll: self.poll && other.poll,
            webhook_excludes_poll: self.webhook_excludes_poll || other.webhook_excludes_poll,
            look_up: self.look_up && other.look_up,
            delivery_status: self.delivery_status && other.delivery_status,
            upload_media: self.upload_media && other.upload_media,
            fetch_media: self.fetch_media && other.fetch_media,
            health: self.health && other.health,
            read: self.read && other.read,
            typing: self.typing && other.typing,
            key: self.key && other.key,
            max_reference: match (self.max_reference, other.max_reference) {
                (None, None) => None,
                _ => Some(self.reference_limit().min(other.reference_limit())),
            },
            idempotency_window: self.idempotency_window.zip(other.idempotency_window).map(|(one, two)| one.min(two)),
            conversation: self.conversation && other.conversation,
            reply_to: self.reply_to && other.reply_to,
            text: self.text.zip(other.text).map(|(one, other)| one.intersection(other)),
            media: self.media.as_ref().zip(other.media.as_ref()).map(|(one, other)| one.intersection(other)),
            template: self.template.zip(other.template).map(|(one, other)| one.intersection(other)),
            choice: self.choice.zip(other.choice).map(|(one, other)| one.intersection(other)),
            link: self.link.zip(other.link).map(|(one, other)| one.min(other)),
            ask_location: self.ask_location && other.ask_location,
            ask_contact: self.ask_contact && other.ask_contact,
            location: self.location && other.location,
            contacts: self.contacts && other.contacts,
            reaction: self.reaction && other.reaction,
            native: self.native && other.native,
            rate: self.rate.into_iter().chain(other.rate).max_by_key(Rate::interval),
            pair_rate: match (self.pair_rate, other.pair_rate) {
                (Some(one), Some(other)) => Some(one.intersection(other)),
                (one, other) => one.or(other),
            },
        }
    }

    /// Returns the maximum length of a reference in bytes, declared or default.
    pub(crate) fn reference_limit(&self) -> usize {
        self.max_reference.unwrap_or(256)
    }
}

/// The maximum length of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextLimit {
    /// The maximum number of units.
    pub max: usize,
    /// The unit.
    pub unit: Unit,
}

/// The unit of a text's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of UTF-8.
    Bytes,
    /// Unicode characters.
    Characters,
    /// SMS segments: 160 or 153 septets, 70 or 67 UTF-16 units.
    Segments,
    /// UTF-16 code units: an emoji is two.
    Utf16,
}

impl TextLimit {
    /// Creates a limit in Unicode characters.
    pub const fn characters(max: usize) -> Self {
        Self { max, unit: Unit::Characters }
    }

    /// Creates a limit in SMS segments.
    pub const fn segments(max: usize) -> Self {
        Self { max, unit: Unit::Segments }
    }

    /// Creates a limit in bytes of UTF-8.
    pub const fn bytes(max: usize) -> Self {
        Self { max, unit: Unit::Bytes }
    }

    /// Creates a limit in UTF-16 code units.
    pub const fn utf16(max: usize) -> Self {
        Self { max, unit: Unit::Utf16 }
    }
}

impl TextLimit {
    fn intersection(self, other: Self) -> Self {
        if self.unit == other.unit && other.max < self.max { other } else { self }
    }
}

/// The files that a channel sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaLimits {
    /// The maximum number of files in a message.
    pub per_message: usize,
    /// Accepts files by link.
    pub link: bool,
    /// Accepts files from the media store, by upload or by publishing them.
    pub stored: bool,
    /// Accepts files that the gateway already holds.
    pub gateway: bool,
    /// The rules for accepted files. Several rules of one kind differ in their types.
    pub kinds: Vec<MediaRule>,
}

/// The rule for one kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaRule {
    /// The kind.
    pub kind: MediaKind,
    /// The maximum size in bytes.
    pub max: u64,
    /// The accepted media types; empty for any.
    pub types: &'static [&'static str],
    /// The maximum length of a caption in characters; 0 if captions are not supported.
    pub caption: usize,
}

impl MediaRule {
    /// Creates a rule for a kind of file.
    pub const fn new(kind: MediaKind, max: u64, types: &'static [&'static str], caption: usize) -> Self {
        Self { kind, max, types, caption }
    }
}

/// The templates that a channel sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemplateLimits {
    /// Requires a template's language.
    pub language: bool,
    /// Accepts positional parameters.
    pub positional: bool,
    /// Accepts named parameters.
    pub named: bool,
    /// Accepts headers and buttons.
    pub components: bool,
}

impl TemplateLimits {
    fn intersection(self, other: Self) -> Self {
        Self {
            // Required by either.
            language: self.language || other.language,
            positional: self.positional && other.positional,
            named: self.named && other.named,
            components: self.components && other.components,
        }
    }
}

/// The limits of buttons and lists: lengths in characters, and counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChoiceLimits {
    /// The maximum number of buttons.
    pub buttons: usize,
    /// The maximum length of a button's title.
    pub button_title: usize,
    /// The maximum length of a button's id.
    pub button_id: usize,
    /// The maximum length of the text above buttons.
    pub button_body: usize,
    /// The maximum number of rows of a list, over all sections; 0 if lists are not supported.
    pub rows: usize,
    /// The maximum length of a row's title.
    pub row_title: usize,
    /// The maximum length of a row's id.
    pub row_id: usize,
    /// The maximum length of a row's second line.
    pub row_description: usize,
    /// The maximum length of the text above a list.
    pub list_body: usize,
    /// The maximum length of the label that opens a list.
    pub list_label: usize,
    /// The maximum length of a section's title.
    pub section_title: usize,
    /// The maximum length of a header; 0 if headers are not supported.
    pub header: usize,
    /// The maximum length of a footer; 0 if footers are not supported.
    pub footer: usize,
}

impl ChoiceLimits {
    /// Messenger's limits; its buttons are quick replies. See [`medium::messenger`](crate::medium::messenger).
    pub const MESSENGER: Self = Self {
        buttons: messenger::QUICK_REPLIES_MAX,
        button_title: messenger::QUICK_REPLY_TITLE_MAX,
        button_id: messenger::QUICK_REPLY_PAYLOAD_MAX,
        button_body: messenger::TEXT_MAX,
        rows: 0,
        row_title: 0,
        row_id: 0,
        row_description: 0,
        list_body: 0,
        list_label: 0,
        section_title: 0,
        header: 0,
        footer: 0,
    };
    /// WhatsApp's limits: see [`medium::whatsapp`](crate::medium::whatsapp).
    pub const WHATSAPP: Self = Self {
        buttons: whatsapp::BUTTONS_MAX,
        button_title: whatsapp::BUTTON_TITLE_MAX,
        button_id: whatsapp::BUTTON_ID_MAX,
        button_body: whatsapp::BODY_WITH_BUTTONS_MAX,
        rows: whatsapp::LIST_ROWS_MAX,
        row_title: whatsapp::ROW_TITLE_MAX,
        row_id: whatsapp::ROW_ID_MAX,
        row_description: whatsapp::ROW_DESCRIPTION_MAX,
        list_body: whatsapp::LIST_BODY_MAX,
        list_label: whatsapp::LIST_BUTTON_MAX,
        section_title: whatsapp::SECTION_TITLE_MAX,
        header: whatsapp::HEADER_MAX,
        footer: whatsapp::FOOTER_MAX,
    };
}

impl ChoiceLimits {
    fn intersection(self, other: Self) -> Self {
        Self {
            buttons: self.buttons.min(other.buttons),
            button_title: self.button_title.min(other.button_title),
            button_id: self.button_id.min(other.button_id),
            button_body: self.button_body.min(other.button_body),
            rows: self.rows.min(other.rows),
            row_title: self.row_title.min(other.row_title),
            row_id: self.row_id.min(other.row_id),
            row_description: self.row_description.min(other.row_description),
            list_body: self.list_body.min(other.list_body),
            list_label: self.list_label.min(other.list_label),
            section_title: self.section_title.min(other.section_title),
            header: self.header.min(other.header),
            footer: self.footer.min(other.footer),
        }
    }
}

impl MediaLimits {
    fn intersection(&self, other: &Self) -> Self {
        let both = |one: &MediaRule| {
            let one = *one;
            other.kinds.iter().filter(move |two| two.kind == one.kind).flat_map(move |two| one.intersection(two))
        };
        Self {
            per_message: self.per_message.min(other.per_message),
            link: self.link && other.link,
            stored: self.stored && other.stored,
            gateway: self.gateway && other.gateway,
            kinds: self.kinds.iter().flat_map(both).collect(),
        }
    }
}

impl MediaRule {
    /// Returns a rule for each type that both accept, or one rule where they accept the same types or any.
    fn intersection(self, other: &Self) -> Vec<Self> {
        let limit = |types| Self::new(self.kind, self.max.min(other.max), types, self.caption.min(other.caption));
        match (self.types, other.types) {
            ([], types) | (types, []) => vec![limit(types)],
            (one, two) if one == two => vec![limit(one)],
            (one, two) => {
                one.iter().filter(|kind| two.contains(kind)).map(|kind| limit(std::slice::from_ref(kind))).collect()
            }
        }
    }
}

impl MediaLimits {
    /// Messenger's limits: one file in a message, of any type, without a caption.
    pub fn messenger() -> Self {
        let kinds = [MediaKind::Audio, MediaKind::Document, MediaKind::Image, MediaKind::Video];
        Self {
            per_message: messenger::ATTACHMENTS_MAX,
            link: true,
            stored: true,
            gateway: true,
            kinds: kinds.map(|kind| MediaRule::new(kind, messenger::ATTACHMENT_BYTES_MAX, &[], 0)).to_vec(),
        }
    }

    /// WhatsApp's limits: one file in a message.
    pub fn whatsapp() -> Self {
        let caption = whatsapp::CAPTION_MAX;
        Self {
            per_message: 1,
            link: true,
            stored: true,
            gateway: true,
            kinds: vec![
                MediaRule::new(MediaKind::Audio, whatsapp::AUDIO_BYTES_MAX, whatsapp::AUDIO_TYPES, 0),
                MediaRule::new(MediaKind::Document, whatsapp::DOCUMENT_BYTES_MAX, &[], caption),
                MediaRule::new(MediaKind::Image, whatsapp::IMAGE_BYTES_MAX, whatsapp::IMAGE_TYPES, caption),
                MediaRule::new(MediaKind::Sticker, whatsapp::ANIMATED_STICKER_BYTES_MAX, whatsapp::STICKER_TYPES, 0),
                MediaRule::new(MediaKind::Video, whatsapp::VIDEO_BYTES_MAX, whatsapp::VIDEO_TYPES, caption),
            ],
        }
    }

    /// X's limits: one image (including GIF) or video in a message, uploaded first.
    pub fn x() -> Self {
        Self {
            per_message: x::ATTACHMENTS_MAX,
            link: false,
            stored: true,
            gateway: true,
            kinds: vec![
                MediaRule::new(MediaKind::Image, x::IMAGE_BYTES_MAX, x::IMAGE_TYPES, x::TEXT_MAX),
                MediaRule::new(MediaKind::Image, x::GIF_BYTES_MAX, x::GIF_TYPES, x::TEXT_MAX),
                MediaRule::new(MediaKind::Video, x::VIDEO_BYTES_MAX, x::VIDEO_TYPES, x::TEXT_MAX),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intersection_keeps_what_both_support() {
        let can = |text, media, rate| Capability { text, media: Some(media), rate, key: true, ..Capability::default() };
        let one = can(Some(TextLimit::characters(918)), MediaLimits::whatsapp(), Some(Rate::per_second(80)));
        let two = can(Some(TextLimit::characters(1600)), MediaLimits::x(), None);
        let both = one.intersection(&two);
        assert_eq!(both, Capability { receive: false, ..both.clone() });
        assert_eq!((both.text, both.key, both.native), (one.text, true, false));
        let shorter = Capability { max_reference: Some(300), ..Capability::default() };
        assert_eq!(shorter.intersection(&one).max_reference, Some(256));
        assert_eq!((both.max_reference, shorter.intersection(&shorter)), (None, shorter.clone()));
        assert_eq!(both.rate, Some(Rate::per_second(80)));
        assert_eq!(one.intersection(&one), one);
        let media = both.media.unwrap();
        assert!(!media.link && media.stored);
        let accepted_types =
            |kind| media.kinds.iter().filter(|rule| rule.kind == kind).flat_map(|rule| rule.types).collect::<Vec<_>>();
        assert_eq!(accepted_types(MediaKind::Image), [&"image/jpeg", &"image/png"]);
        assert_eq!(accepted_types(MediaKind::Video), [&"video/mp4"]);
        assert!(accepted_types(MediaKind::Audio).is_empty());
        assert!(media.kinds.iter().all(|rule| rule.max <= 16 * 1024 * 1024));
        // Any type in one, specific types in the other.
        let any = MediaLimits::messenger().intersection(&MediaLimits::whatsapp());
        assert!(any.kinds.iter().any(|rule| rule.kind == MediaKind::Document && rule.types.is_empty()));
    }
}
