//! What a channel can do, as data that one validator reads.

use crate::medium::{messenger, whatsapp, x};
use crate::model::message::MediaKind;
use crate::model::rate::{PairRate, Rate};

/// What a channel can do, and its limits.
///
/// A flag that is not set is a refusal before the network.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capability {
    /// Takes webhooks.
    pub receive: bool,
    /// Can be polled.
    pub poll: bool,
    /// Can say what became of a message.
    pub look_up: bool,
    /// Reports deliveries by webhook or poll, as it is configured. A switchboard's timed fallback relies on it.
    pub delivery_status: bool,
    /// Takes uploads.
    pub upload_media: bool,
    /// Gives out files that it holds.
    pub fetch_media: bool,
    /// Reports on its health.
    pub health: bool,
    /// Can mark a message as read.
    pub read: bool,
    /// Can show that somebody is typing.
    pub typing: bool,
    /// Status events carry a message's key back, or its [`reference`](crate::Info::reference).
    pub key: bool,
    /// The longest reference that the gateway takes, in bytes of UTF-8: the gateway's name for what we call a key.
    ///
    /// `None` is 256; `Some(0)` means that it takes none. A longer key is never refused: the gateway gets a digest of it,
    /// as [`Info::reference`](crate::Info::reference) says. The shorter the limit, the sooner two digests are the same:
    /// below 8 bytes they are no names any more.
    pub max_reference: Option<usize>,
    /// Sends to conversations of several people.
    pub conversation: bool,
    /// Quotes a message of theirs.
    pub reply_to: bool,
    /// Sends text, up to a limit.
    pub text: Option<TextLimit>,
    /// Sends files.
    pub media: Option<MediaLimits>,
    /// Sends templates.
    pub template: Option<TemplateLimits>,
    /// Sends buttons and lists.
    pub choice: Option<ChoiceLimits>,
    /// Sends labelled links, with a label of up to so many characters.
    pub link: Option<usize>,
    /// Asks for a location.
    pub ask_location: bool,
    /// Asks for a contact card.
    pub ask_contact: bool,
    /// Sends places.
    pub location: bool,
    /// Sends contact cards.
    pub contacts: bool,
    /// Sends reactions.
    pub reaction: bool,
    /// Takes [`Native`](crate::message::Native) content.
    pub native: bool,
    /// How often it may send, as the gateway documents it. None where it documents nothing, or says so in its answers
    /// only ([`Accepted::allowance`](crate::Accepted::allowance)).
    pub rate: Option<Rate>,
    /// How often it may send to one person.
    pub pair_rate: Option<PairRate>,
}

impl Capability {
    /// What both can do. Where two limits of text are counted in different units, this one's stands.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        // Every field is named, so that a new one is not forgotten.
        Self {
            receive: self.receive && other.receive,
            poll: self.poll && other.poll,
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

    /// The longest reference in bytes, declared or by default.
    pub(crate) fn reference_limit(&self) -> usize {
        self.max_reference.unwrap_or(256)
    }
}

/// How long a text may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextLimit {
    /// The most units.
    pub max: usize,
    /// What is counted.
    pub unit: Unit,
}

/// What a text's length is counted in.
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
    /// So many Unicode characters.
    pub const fn characters(max: usize) -> Self {
        Self { max, unit: Unit::Characters }
    }

    /// So many SMS segments.
    pub const fn segments(max: usize) -> Self {
        Self { max, unit: Unit::Segments }
    }

    /// So many bytes of UTF-8.
    pub const fn bytes(max: usize) -> Self {
        Self { max, unit: Unit::Bytes }
    }

    /// So many UTF-16 code units.
    pub const fn utf16(max: usize) -> Self {
        Self { max, unit: Unit::Utf16 }
    }
}

impl TextLimit {
    fn intersection(self, other: Self) -> Self {
        if self.unit == other.unit && other.max < self.max { other } else { self }
    }
}

/// Which files a channel sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaLimits {
    /// How many one message holds.
    pub per_message: usize,
    /// Takes files by link.
    pub link: bool,
    /// Takes files from the store, by upload or by publishing them.
    pub stored: bool,
    /// Takes files that it holds already.
    pub gateway: bool,
    /// The rules for what it takes. Several of one kind differ in their types.
    pub kinds: Vec<MediaRule>,
}

/// The rule for one kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaRule {
    /// The kind.
    pub kind: MediaKind,
    /// The most bytes.
    pub max: u64,
    /// The media types that are taken; empty for any.
    pub types: &'static [&'static str],
    /// The longest caption in characters; 0 where there is none.
    pub caption: usize,
}

impl MediaRule {
    /// A rule for a kind of file.
    pub const fn new(kind: MediaKind, max: u64, types: &'static [&'static str], caption: usize) -> Self {
        Self { kind, max, types, caption }
    }
}

/// Which templates a channel sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemplateLimits {
    /// A template's language must be given.
    pub language: bool,
    /// Takes parameters without names.
    pub positional: bool,
    /// Takes parameters with names.
    pub named: bool,
    /// Takes headers and buttons.
    pub components: bool,
}

impl TemplateLimits {
    fn intersection(self, other: Self) -> Self {
        Self {
            // Needed by either.
            language: self.language || other.language,
            positional: self.positional && other.positional,
            named: self.named && other.named,
            components: self.components && other.components,
        }
    }
}

/// Limits of buttons and lists, in characters but for the counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChoiceLimits {
    /// The most buttons.
    pub buttons: usize,
    /// The longest title of a button.
    pub button_title: usize,
    /// The longest id of a button.
    pub button_id: usize,
    /// The longest text above buttons.
    pub button_body: usize,
    /// The most rows of a list, over all sections; 0 where there are no lists.
    pub rows: usize,
    /// The longest title of a row.
    pub row_title: usize,
    /// The longest id of a row.
    pub row_id: usize,
    /// The longest second line of a row.
    pub row_description: usize,
    /// The longest text above a list.
    pub list_body: usize,
    /// The longest label that opens a list.
    pub list_label: usize,
    /// The longest title of a section.
    pub section_title: usize,
    /// The longest header; 0 where there are none.
    pub header: usize,
    /// The longest footer; 0 where there are none.
    pub footer: usize,
}

impl ChoiceLimits {
    /// Messenger's, whose buttons are quick replies: see [`medium::messenger`](crate::medium::messenger).
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
    /// WhatsApp's: see [`medium::whatsapp`](crate::medium::whatsapp).
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
    /// A rule for each type that both take, or one where they take the same or any.
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
    /// Messenger's: one file a message, of any type, and no caption.
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

    /// WhatsApp's: one file a message.
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

    /// X's: one image (a GIF among them) or video a message, uploaded first.
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
    fn what_two_can_do_is_what_each_can_do() {
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
        let taken =
            |kind| media.kinds.iter().filter(|rule| rule.kind == kind).flat_map(|rule| rule.types).collect::<Vec<_>>();
        assert_eq!(taken(MediaKind::Image), [&"image/jpeg", &"image/png"]);
        assert_eq!(taken(MediaKind::Video), [&"video/mp4"]);
        assert!(taken(MediaKind::Audio).is_empty());
        assert!(media.kinds.iter().all(|rule| rule.max <= 16 * 1024 * 1024));
        // Any type of one and some of the other.
        let any = MediaLimits::messenger().intersection(&MediaLimits::whatsapp());
        assert!(any.kinds.iter().any(|rule| rule.kind == MediaKind::Document && rule.types.is_empty()));
    }
}
