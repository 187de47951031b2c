//! The rules of WhatsApp Business: what fits, and when a free-form message may go.
//!
//! Lengths are in characters unless they say otherwise; Meta does not name the unit, so they are
//! checked as Unicode code points and Meta's refusal is mapped all the same. Sizes in bytes read
//! Meta's "MB" as 1,048,576, the larger of the two readings, which is unverified.
//!
//! Each constant names its page: "Meta, *page*, read 2026-11-22 from stored copies". Those copies are
//! excerpts of Meta's pages, notes that quote them, and Meta's OpenAPI file v23.0; no live page was read.

use std::time::Duration;

/// Characters in a text message. At least one. Meta, Text messages, read 2026-11-22 from stored copies.
pub const TEXT_MAX: usize = 4_096;
/// Characters in the caption of an image, a video or a document; audio and stickers carry none.
/// Meta, Media messages, read 2026-11-22 from stored copies.
pub const CAPTION_MAX: usize = 1_024;
/// Characters in `biz_opaque_callback_data`, which comes back in each status. No page of Meta's
/// states it; pywa 4.5.0 does, read 2026-11-22 from stored copies.
pub const OPAQUE_DATA_MAX: usize = 512;

/// Reply buttons in a message. At least one. Meta, Interactive reply buttons messages, read
/// 2026-11-22 from stored copies, as are the limits of buttons below.
pub const BUTTONS_MAX: usize = 3;
/// Characters in the title of a reply button. Titles of one message differ.
pub const BUTTON_TITLE_MAX: usize = 20;
/// Characters in the id of a reply button.
pub const BUTTON_ID_MAX: usize = 256;
/// Characters in the body of a message with reply buttons or a link button.
pub const BODY_WITH_BUTTONS_MAX: usize = 1_024;
/// Characters in the footer of an interactive message.
pub const FOOTER_MAX: usize = 60;
/// Characters in the text header of an interactive message.
pub const HEADER_MAX: usize = 60;
/// Characters in the label of a link button. Meta, Interactive call-to-action URL button messages,
/// read 2026-11-22 from stored copies.
pub const LINK_LABEL_MAX: usize = 20;

/// Rows of a list in total, over all its sections. Meta, Interactive list messages, read 2026-11-22
/// from stored copies, as are the limits of lists below.
pub const LIST_ROWS_MAX: usize = 10;
/// Sections of a list. At least one.
pub const LIST_SECTIONS_MAX: usize = 10;
/// Characters on the button that opens a list.
pub const LIST_BUTTON_MAX: usize = 20;
/// Characters in the body of a list message.
pub const LIST_BODY_MAX: usize = 4_096;
/// Characters in the title of a section, which is required where there is more than one.
pub const SECTION_TITLE_MAX: usize = 24;
/// Characters in the id of a row.
pub const ROW_ID_MAX: usize = 200;
/// Characters in the title of a row.
pub const ROW_TITLE_MAX: usize = 24;
/// Characters in the description of a row.
pub const ROW_DESCRIPTION_MAX: usize = 72;

const KIB: u64 = 1_024;
const MIB: u64 = 1_024 * KIB;

/// Bytes of an audio file: 16 MB. Meta, Media, read 2026-11-22 from stored copies, as are the sizes
/// and types below.
pub const AUDIO_BYTES_MAX: u64 = 16 * MIB;
/// Bytes of an audio file that shows as a voice note; a larger one shows as a download. 512 KB.
pub const VOICE_BYTES_MAX: u64 = 512 * KIB;
/// Bytes of a document: 100 MB.
pub const DOCUMENT_BYTES_MAX: u64 = 100 * MIB;
/// Bytes of an image: 5 MB.
pub const IMAGE_BYTES_MAX: u64 = 5 * MIB;
/// Bytes of a sticker that does not move: 100 KB.
pub const STICKER_BYTES_MAX: u64 = 100 * KIB;
/// Bytes of a sticker that moves: 500 KB.
pub const ANIMATED_STICKER_BYTES_MAX: u64 = 500 * KIB;
/// Bytes of a video: 16 MB.
pub const VIDEO_BYTES_MAX: u64 = 16 * MIB;
/// Bytes of what a resident can send us: 100 MB. Of a larger file only an error arrives (131052).
pub const INBOUND_BYTES_MAX: u64 = 100 * MIB;

/// Types of audio. `audio/ogg` has to be OPUS in mono, and a voice note has to be that.
pub const AUDIO_TYPES: &[&str] = &["audio/aac", "audio/amr", "audio/mpeg", "audio/mp4", "audio/ogg"];
/// Types of documents that are listed. Others may pass (unverified), so warn rather than refuse.
pub const DOCUMENT_TYPES: &[&str] = &[
    "text/plain",
    "application/pdf",
    "application/msword",
    "application/vnd.ms-excel",
    "application/vnd.ms-powerpoint",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation",
];
/// Types of images, of 8 bits in RGB or RGBA.
pub const IMAGE_TYPES: &[&str] = &["image/jpeg", "image/png"];
/// Types of stickers, of 512 by 512 pixels.
pub const STICKER_TYPES: &[&str] = &["image/webp"];
/// Types of videos: H.264, with AAC in one track or no sound.
pub const VIDEO_TYPES: &[&str] = &["video/mp4", "video/3gpp"];

/// How long a resident's message or call keeps the door open for free-form messages: 24 hours.
/// Meta, Customer service windows, read 2026-11-22 from stored copies.
pub const SERVICE_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);
/// How long messages are free after a resident came by an advertisement or a Page button: 72 hours.
/// Meta, Pricing, read 2026-11-22 from stored copies.
pub const FREE_ENTRY_WINDOW: Duration = Duration::from_secs(72 * 60 * 60);

/// Whether a window is open: see [`window`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    /// Never opened, or over.
    Closed,
    /// Open until a moment that is no longer in it.
    Open {
        /// That moment, in milliseconds since 1970, UTC.
        until_ms: i64,
    },
}

impl Window {
    /// Whether it was open at the moment asked about.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// How long it stays open from `now_ms` on, in milliseconds' precision; zero if it is closed or
    /// has closed since.
    #[must_use]
    pub const fn remaining(self, now_ms: i64) -> Duration {
        match self {
            Self::Open { until_ms } if until_ms > now_ms => Duration::from_millis(until_ms.abs_diff(now_ms)),
            _ => Duration::ZERO,
        }
    }
}

/// Says whether a free-form message may go, by the time of the resident's last message or call.
///
/// Times are milliseconds since 1970, UTC; `last_inbound_ms` is Meta's own `timestamp` (which is in
/// seconds: multiply), not the time of arrival. Open from that moment and for less than 24 hours:
/// **at exactly 24 hours it is closed**. An inbound in the future, as skewed clocks give, is open, and
/// its 24 hours count from its own time. Each of a council's numbers has a window of its own with
/// each resident. Near the edge Meta's answer (131047) has the last word.
///
/// ```
/// use civic_messaging::medium::whatsapp::{Window, window};
///
/// let nine = 1_795_338_000_000;
/// let day = 24 * 60 * 60 * 1_000;
/// assert_eq!(window(Some(nine), nine + 1), Window::Open { until_ms: nine + day });
/// assert!(window(Some(nine), nine + day - 1).is_open());
/// assert!(!window(Some(nine), nine + day).is_open());
/// assert!(!window(None, nine).is_open());
/// ```
#[must_use]
pub const fn window(last_inbound_ms: Option<i64>, now_ms: i64) -> Window {
    open_for(SERVICE_WINDOW, last_inbound_ms, now_ms)
}

/// Says whether messages are still free for a resident who came by an advertisement or a Page button.
///
/// `entry_ms` is the time of the message by which they came, `None` if they did not come that way or
/// got no answer within 24 hours, which is Meta's condition. Whether the 72 hours count from that
/// message or from our answer is unverified; the earlier is taken, so that nothing is called free
/// that costs. Edges and units are those of [`window`]. It says what is paid, not what may go.
#[must_use]
pub const fn free_entry_window(entry_ms: Option<i64>, now_ms: i64) -> Window {
    open_for(FREE_ENTRY_WINDOW, entry_ms, now_ms)
}

const fn open_for(length: Duration, from_ms: Option<i64>, now_ms: i64) -> Window {
    let Some(from_ms) = from_ms else {
        return Window::Closed;
    };
    let until_ms = from_ms.saturating_add(length.as_millis() as i64);
    if now_ms < until_ms { Window::Open { until_ms } } else { Window::Closed }
}

/// Checks a text parameter of a template's body.
///
/// # Errors
///
/// What to change, if it holds a new line, a tab, or more than four spaces in a row. (A gateway's
/// statement of Meta's rule, read 2026-11-22; Meta's own page and code for it are unverified.)
///
/// ```
/// use civic_messaging::medium::whatsapp::template_parameter;
///
/// assert!(template_parameter("12 Mill Lane, Ludlow").is_ok());
/// assert!(template_parameter("12 Mill Lane\nLudlow").is_err());
/// ```
pub fn template_parameter(text: &str) -> Result<(), &'static str> {
    if text.contains(['\n', '\r']) {
        Err("a template parameter holds no new line: write a comma, or add a parameter")
    } else if text.contains('\t') {
        Err("a template parameter holds no tab: write a space")
    } else if text.contains("     ") {
        Err("a template parameter holds no more than four spaces in a row: write one")
    } else {
        Ok(())
    }
}

/// Checks the shape of a template's language code, such as `en_GB` or `en`.
///
/// Only the shape: whether Meta has the language is for Meta to say. Welsh (`cy`) was not in its list
/// when last read, so a Welsh template is filed under another code and named by the caller, never
/// derived from the resident's language.
///
/// # Errors
///
/// What to write instead, if the code is not two or three small letters, or these, an underscore and
/// two capital letters.
///
/// ```
/// use civic_messaging::medium::whatsapp::language;
///
/// assert!(language("en_GB").is_ok());
/// assert!(language("en-GB").unwrap_err().contains("underscore"));
/// ```
pub fn language(code: &str) -> Result<(), &'static str> {
    if code.contains('-') {
        return Err("a template language takes an underscore, never a hyphen: write en_GB");
    }
    let (language, region) = match code.split_once('_') {
        Some((language, region)) => (language, Some(region)),
        None => (code, None),
    };
    if !(2..=3).contains(&language.len()) || !language.bytes().all(|b| b.is_ascii_lowercase()) {
        return Err("a template language begins with two or three small letters: write en or en_GB");
    }
    if region.is_some_and(|r| r.len() != 2 || !r.bytes().all(|b| b.is_ascii_uppercase())) {
        return Err("a template language ends with two capital letters: write en_GB");
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    #[test]
    fn the_window_closes_at_exactly_a_day() {
        for now in [0, 1, DAY / 2, DAY - 1] {
            assert_eq!(window(Some(0), now), Window::Open { until_ms: DAY }, "{now}");
        }
        for now in [DAY, DAY + 1, i64::MAX] {
            assert_eq!(window(Some(0), now), Window::Closed, "{now}");
        }
        assert_eq!(window(None, 0), Window::Closed);
    }

    #[test]
    fn a_message_from_the_future_is_open_from_its_own_time() {
        let skewed = window(Some(5_000), 0);
        assert_eq!(skewed, Window::Open { until_ms: 5_000 + DAY });
        assert_eq!(skewed.remaining(0), SERVICE_WINDOW + Duration::from_secs(5));
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        assert_eq!(window(Some(i64::MIN), i64::MAX), Window::Closed);
        assert_eq!(window(Some(i64::MAX), i64::MAX), Window::Closed);
        let open = window(Some(i64::MAX), i64::MIN);
        assert!(open.is_open());
        assert_eq!(open.remaining(i64::MIN), Duration::from_millis(u64::MAX));
    }

    #[test]
    fn what_remains_shrinks_to_nothing() {
        let open = window(Some(0), 1);
        assert_eq!(open.remaining(DAY - 1), Duration::from_millis(1));
        assert_eq!(open.remaining(DAY), Duration::ZERO);
        assert_eq!(open.remaining(DAY + 1), Duration::ZERO);
        assert_eq!(Window::Closed.remaining(0), Duration::ZERO);
    }

    #[test]
    fn free_entry_lasts_three_days() {
        assert!(free_entry_window(Some(0), 3 * DAY - 1).is_open());
        assert!(!free_entry_window(Some(0), 3 * DAY).is_open());
        assert!(!free_entry_window(None, 0).is_open());
    }

    #[test]
    fn template_parameters() {
        for good in ["", "Tuesday", "a    b", "tŷ 🏠"] {
            assert_eq!(template_parameter(good), Ok(()), "{good:?}");
        }
        for (bad, word) in [("a\nb", "new line"), ("a\r\nb", "new line"), ("a\tb", "tab"), ("a     b", "spaces")] {
            let error = template_parameter(bad).expect_err(bad);
            assert!(error.contains(word), "{bad:?}: {error}");
        }
    }

    #[test]
    fn language_codes() {
        for good in ["en", "en_GB", "en_US", "ga", "fil", "zh_CN", "cy"] {
            assert_eq!(language(good), Ok(()), "{good:?}");
        }
        for (bad, word) in [
            ("en-GB", "underscore"),
            ("cy-GB", "underscore"),
            ("en_gb", "capital"),
            ("en_", "capital"),
            ("en_GBR", "capital"),
            ("en_GB_x", "capital"),
            ("EN", "small"),
            ("EN_GB", "small"),
            ("", "small"),
            ("e", "small"),
            ("_GB", "small"),
            ("english", "small"),
            ("ŷŷ", "small"),
        ] {
            let error = language(bad).expect_err(bad);
            assert!(error.contains(word), "{bad:?}: {error}");
        }
    }
}
