//! The rules of WhatsApp Business: message limits, and the customer service window.
//!
//! Lengths are in characters unless stated otherwise. Meta does not name the unit, so they are checked as Unicode code
//! points, and Meta's own rejection is mapped as well. Sizes in bytes read Meta's "MB" as 1,048,576, the larger of the
//! two readings, which is unverified.
//!
//! Each constant names its page: "Meta, *page*, read 2026-11-22 from stored copies". Those copies are excerpts of
//! Meta's pages, notes that quote them, and Meta's OpenAPI file v23.0; no live page was read.

use std::time::Duration;

/// Maximum characters in a text message, which has at least one. Meta, Text messages, read 2026-11-22 from stored
/// copies.
pub const TEXT_MAX: usize = 4_096;
/// Maximum characters in the caption of an image, video or document; audio and stickers have none. Meta, Media
/// messages, read 2026-11-22 from stored copies.
pub const CAPTION_MAX: usize = 1_024;
/// Maximum characters in `biz_opaque_callback_data`, which every status returns. Not documented by Meta; from pywa
/// 4.5.0, read 2026-11-22 from stored copies.
pub const OPAQUE_DATA_MAX: usize = 512;

/// Maximum reply buttons in a message, which has at least one. Meta, Interactive reply buttons messages, read
/// 2026-11-22 from stored copies, as are the limits of buttons below.
pub const BUTTONS_MAX: usize = 3;
/// Maximum characters in the title of a reply button. Titles must differ within a message.
pub const BUTTON_TITLE_MAX: usize = 20;
/// Maximum characters in the id of a reply button.
pub const BUTTON_ID_MAX: usize = 256;
/// Maximum characters in the body of a message with reply buttons or a link button.
pub const BODY_WITH_BUTTONS_MAX: usize = 1_024;
/// Maximum characters in the footer of an interactive message.
pub const FOOTER_MAX: usize = 60;
/// Maximum characters in the text header of an interactive message.
pub const HEADER_MAX: usize = 60;
/// Maximum characters in the label of a link button. Meta, Interactive call-to-action URL button messages, read
/// 2026-11-22 from stored copies.
pub const LINK_LABEL_MAX: usize = 20;

/// Maximum characters in the name of a template: lowercase letters, digits and underscores. pywa 4.5.0 and Meta,
/// Template management, read 2026-11-30 from stored copies.
pub const TEMPLATE_NAME_MAX: usize = 512;
/// Maximum characters in a text parameter of a template. Meta, OpenAPI file v23.0, read 2026-11-30.
pub const TEMPLATE_PARAMETER_MAX: usize = 32_768;
/// Maximum buttons of a template, so that the last index is 9. Meta, OpenAPI file v23.0, read 2026-11-30.
pub const TEMPLATE_BUTTONS_MAX: usize = 10;
/// Maximum characters in the coupon code that a template's button copies. Meta, Coupon code templates, as pywa 4.5.0
/// and Gupshup's page quote it, read 2026-11-30 from stored copies.
pub const COUPON_CODE_MAX: usize = 15;

/// Maximum rows of a list, over all of its sections. Meta, Interactive list messages, read 2026-11-22 from stored
/// copies, as are the limits of lists below.
pub const LIST_ROWS_MAX: usize = 10;
/// Maximum sections of a list, which has at least one.
pub const LIST_SECTIONS_MAX: usize = 10;
/// Maximum characters on the button that opens a list.
pub const LIST_BUTTON_MAX: usize = 20;
/// Maximum characters in the body of a list message.
pub const LIST_BODY_MAX: usize = 4_096;
/// Maximum characters in the title of a section, which is required if there is more than one.
pub const SECTION_TITLE_MAX: usize = 24;
/// Maximum characters in the id of a row.
pub const ROW_ID_MAX: usize = 200;
/// Maximum characters in the title of a row.
pub const ROW_TITLE_MAX: usize = 24;
/// Maximum characters in the description of a row.
pub const ROW_DESCRIPTION_MAX: usize = 72;

const KIB: u64 = 1_024;
const MIB: u64 = 1_024 * KIB;

/// Maximum bytes of an audio file: 16 MB. Meta, Media, read 2026-11-22 from stored copies, as are the sizes and types
/// below.
pub const AUDIO_BYTES_MAX: u64 = 16 * MIB;
/// Maximum bytes of an audio file shown as a voice note; a larger one is shown as a download. 512 KB.
pub const VOICE_BYTES_MAX: u64 = 512 * KIB;
/// Maximum bytes of a document: 100 MB.
pub const DOCUMENT_BYTES_MAX: u64 = 100 * MIB;
/// Maximum bytes of an image: 5 MB.
pub const IMAGE_BYTES_MAX: u64 = 5 * MIB;
/// Maximum bytes of a static sticker: 100 KB.
pub const STICKER_BYTES_MAX: u64 = 100 * KIB;
/// Maximum bytes of an animated sticker: 500 KB.
pub const ANIMATED_STICKER_BYTES_MAX: u64 = 500 * KIB;
/// Maximum bytes of a video: 16 MB.
pub const VIDEO_BYTES_MAX: u64 = 16 * MIB;
/// Maximum bytes of a resident's file: 100 MB. For a larger file only an error arrives (131052).
pub const INBOUND_BYTES_MAX: u64 = 100 * MIB;

/// Accepted audio types. `audio/ogg` must be OPUS in mono, as a voice note always is.
pub const AUDIO_TYPES: &[&str] = &["audio/aac", "audio/amr", "audio/mpeg", "audio/mp4", "audio/ogg"];
/// Documented document types. Others may be accepted (unverified), so warn rather than refuse.
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
/// Accepted image types, 8-bit RGB or RGBA.
pub const IMAGE_TYPES: &[&str] = &["image/jpeg", "image/png"];
/// Accepted sticker types, 512 by 512 pixels.
pub const STICKER_TYPES: &[&str] = &["image/webp"];
/// Accepted video types: H.264 with one AAC track or no audio.
pub const VIDEO_TYPES: &[&str] = &["video/mp4", "video/3gpp"];

/// The customer service window: free-form messages may be sent for 24 hours after a resident's message or call. Meta,
/// Customer service windows, read 2026-11-22 from stored copies.
pub const SERVICE_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);
/// The free entry window: messages are free for 72 hours after a resident came through an advertisement or a Page
/// button. Meta, Pricing, read 2026-11-22 from stored copies.
pub const FREE_ENTRY_WINDOW: Duration = Duration::from_secs(72 * 60 * 60);

/// The state of a window: see [`window`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServiceWindow {
    /// Never opened, or expired.
    Closed,
    /// Open until an exclusive end.
    Open {
        /// The end, in milliseconds since 1970, UTC.
        until_ms: i64,
    },
}

impl ServiceWindow {
    /// Returns `true` if it is open at the given time.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// Returns the time until it closes, in milliseconds' precision; zero if it is closed at `now_ms`.
    #[must_use]
    pub const fn remaining(self, now_ms: i64) -> Duration {
        match self {
            Self::Open { until_ms } if until_ms > now_ms => Duration::from_millis(until_ms.abs_diff(now_ms)),
            _ => Duration::ZERO,
        }
    }
}

/// Returns the customer service window from the time of the resident's last message or call.
///
/// Times are milliseconds since 1970, UTC; `last_inbound_ms` is Meta's own `timestamp` (in seconds: multiply), not the
/// time of arrival. The window opens at that time and lasts less than 24 hours: **at exactly 24 hours it is closed**. A
/// message in the future, due to clock skew, is open and counts from its own time. Each of a council's numbers has its
/// own window with each resident. Near the edge, Meta's response (131047) decides.
///
/// ```
/// use civic_messaging::medium::whatsapp::{ServiceWindow, window};
///
/// let nine = 1_795_338_000_000;
/// let day = 24 * 60 * 60 * 1_000;
/// assert_eq!(window(Some(nine), nine + 1), ServiceWindow::Open { until_ms: nine + day });
/// assert!(window(Some(nine), nine + day - 1).is_open());
/// assert!(!window(Some(nine), nine + day).is_open());
/// assert!(!window(None, nine).is_open());
/// ```
#[must_use]
pub const fn window(last_inbound_ms: Option<i64>, now_ms: i64) -> ServiceWindow {
    open_for(SERVICE_WINDOW, last_inbound_ms, now_ms)
}

/// Returns the window of free messages to a resident who came through an advertisement or a Page button.
///
/// `entry_ms` is the time of the message by which they came, or `None` if they did not, or were not answered within 24
/// hours, which Meta requires. It is unverified if the 72 hours count from that message or from our reply; the earlier
/// is used, so that no message is wrongly reported as free. Edges and units are those of [`window`]. This concerns the
/// price, not permission to send.
#[must_use]
pub const fn free_entry_window(entry_ms: Option<i64>, now_ms: i64) -> ServiceWindow {
    open_for(FREE_ENTRY_WINDOW, entry_ms, now_ms)
}

const fn open_for(length: Duration, from_ms: Option<i64>, now_ms: i64) -> ServiceWindow {
    let Some(from_ms) = from_ms else {
        return ServiceWindow::Closed;
    };
    let until_ms = from_ms.saturating_add(length.as_millis() as i64);
    if now_ms < until_ms { ServiceWindow::Open { until_ms } } else { ServiceWindow::Closed }
}

/// Checks a text parameter of a template: in its body, its header or the suffix of its link.
///
/// # Errors
///
/// The correction, if it is empty or too long, or contains a line break, a tab, or more than four spaces in a row: Meta
/// rejects the message with 132018 or 100. (Public reports of Meta's text, "Param text cannot have new-line/tab
/// characters or more than 4 consecutive spaces", read 2026-11-30; Meta's own page for it is unverified.)
///
/// ```
/// use civic_messaging::medium::whatsapp::template_parameter;
///
/// assert!(template_parameter("12 Mill Lane, Ludlow").is_ok());
/// assert!(template_parameter("12 Mill Lane\nLudlow").is_err());
/// assert!(template_parameter("").is_err());
/// ```
pub fn template_parameter(text: &str) -> Result<(), &'static str> {
    if text.trim().is_empty() {
        Err("a template parameter must not be empty: set a text, or use a template without it")
    } else if text.contains(['\n', '\r']) {
        Err("a template parameter must not contain a line break: use a comma, or add a parameter")
    } else if text.contains('\t') {
        Err("a template parameter must not contain a tab: use a space")
    } else if text.contains("     ") {
        Err("a template parameter must not contain more than four spaces in a row: use one")
    } else if text.len() > TEMPLATE_PARAMETER_MAX && text.chars().count() > TEMPLATE_PARAMETER_MAX {
        Err("a template parameter has more than 32768 characters")
    } else {
        Ok(())
    }
}

/// Checks the name of a template or of its named parameter: lowercase letters, digits and underscores.
///
/// # Errors
///
/// The correction, if it is empty, longer than [`TEMPLATE_NAME_MAX`], or contains another character. Meta stores names
/// in this form only, and finds no other (132001).
///
/// ```
/// use civic_messaging::medium::whatsapp::template_name;
///
/// assert!(template_name("bin_day_reminder").is_ok());
/// assert!(template_name("Bin-Day").is_err());
/// ```
pub fn template_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        Err("is empty")
    } else if name.len() > TEMPLATE_NAME_MAX {
        Err("has more than 512 characters")
    } else if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
        Err("must be lowercase letters, digits and underscores only: write bin_day")
    } else {
        Ok(())
    }
}

/// Returns `true` if a text is exactly one emoji, as a reaction is.
///
/// Follows the grammar of Unicode's emoji sequences (UTS #51): an emoji with a skin tone or variation selector, a flag,
/// a keycap, a tag sequence such as the flag of Wales, or several of them joined by U+200D. Sequences without a glyph
/// of their own are accepted. Emoji are those of Unicode 17, and the whole block U+1FA70 to U+1FAFF.
///
/// ```
/// use civic_messaging::medium::whatsapp::is_emoji;
///
/// for one in ["👍", "👍🏽", "❤️", "🇬🇧", "1️⃣", "🏴󠁧󠁢󠁷󠁬󠁳󠁿", "👨‍👩‍👧"] {
///     assert!(is_emoji(one), "{one}");
/// }
/// for none in ["", "ok", "👍👍", "👍 ", "1", ":)"] {
///     assert!(!is_emoji(none), "{none}");
/// }
/// ```
#[must_use]
pub fn is_emoji(text: &str) -> bool {
    const JOINER: char = '\u{200D}';
    text.split(JOINER).all(is_emoji_element)
}

/// Returns `true` for one element of a joined sequence.
fn is_emoji_element(text: &str) -> bool {
    const VARIATION: char = '\u{FE0F}';
    let is_flag_letter = |c: char| ('\u{1F1E6}'..='\u{1F1FF}').contains(&c);
    let mut characters = text.chars();
    let Some(first) = characters.next() else { return false };
    let rest = characters.as_str();
    if is_flag_letter(first) {
        return rest.chars().count() == 1 && rest.chars().all(is_flag_letter);
    }
    if matches!(first, '0'..='9' | '#' | '*') {
        return matches!(rest, "\u{FE0F}\u{20E3}" | "\u{20E3}");
    }
    // Boundaries alternately begin and end ranges, so an odd number of them lies at or below an emoji.
    if EMOJI.partition_point(|boundary| *boundary <= u32::from(first)).is_multiple_of(2) {
        return false;
    }
    let rest = rest.strip_prefix(VARIATION).unwrap_or(rest);
    let rest = rest.strip_prefix(|c| ('\u{1F3FB}'..='\u{1F3FF}').contains(&c)).unwrap_or(rest);
    match rest.strip_suffix('\u{E007F}') {
        Some(tags) => !tags.is_empty() && tags.chars().all(|c| ('\u{E0020}'..='\u{E007E}').contains(&c)),
        None => rest.is_empty(),
    }
}

/// The standalone emoji as alternating boundaries: first of a range, first after it. The property `Emoji` of Unicode
/// 16.0 without digits, `#`, `*` and the letters of flags; U+1F6D8 and a whole block for newer ones.
#[rustfmt::skip]
const EMOJI: &[u32] = &[
    0xA9, 0xAA, 0xAE, 0xAF, 0x203C, 0x203D, 0x2049, 0x204A, 0x2122, 0x2123, 0x2139, 0x213A, 0x2194, 0x219A, 0x21A9,
    0x21AB, 0x231A, 0x231C, 0x2328, 0x2329, 0x23CF, 0x23D0, 0x23E9, 0x23F4, 0x23F8, 0x23FB, 0x24C2, 0x24C3, 0x25AA,
    0x25AC, 0x25B6, 0x25B7, 0x25C0, 0x25C1, 0x25FB, 0x25FF, 0x2600, 0x2605, 0x260E, 0x260F, 0x2611, 0x2612, 0x2614,
    0x2616, 0x2618, 0x2619, 0x261D, 0x261E, 0x2620, 0x2621, 0x2622, 0x2624, 0x2626, 0x2627, 0x262A, 0x262B, 0x262E,
    0x2630, 0x2638, 0x263B, 0x2640, 0x2641, 0x2642, 0x2643, 0x2648, 0x2654, 0x265F, 0x2661, 0x2663, 0x2664, 0x2665,
    0x2667, 0x2668, 0x2669, 0x267B, 0x267C, 0x267E, 0x2680, 0x2692, 0x2698, 0x2699, 0x269A, 0x269B, 0x269D, 0x26A0,
    0x26A2, 0x26A7, 0x26A8, 0x26AA, 0x26AC, 0x26B0, 0x26B2, 0x26BD, 0x26BF, 0x26C4, 0x26C6, 0x26C8, 0x26C9, 0x26CE,
    0x26D0, 0x26D1, 0x26D2, 0x26D3, 0x26D5, 0x26E9, 0x26EB, 0x26F0, 0x26F6, 0x26F7, 0x26FB, 0x26FD, 0x26FE, 0x2702,
    0x2703, 0x2705, 0x2706, 0x2708, 0x270E, 0x270F, 0x2710, 0x2712, 0x2713, 0x2714, 0x2715, 0x2716, 0x2717, 0x271D,
    0x271E, 0x2721, 0x2722, 0x2728, 0x2729, 0x2733, 0x2735, 0x2744, 0x2745, 0x2747, 0x2748, 0x274C, 0x274D, 0x274E,
    0x274F, 0x2753, 0x2756, 0x2757, 0x2758, 0x2763, 0x2765, 0x2795, 0x2798, 0x27A1, 0x27A2, 0x27B0, 0x27B1, 0x27BF,
    0x27C0, 0x2934, 0x2936, 0x2B05, 0x2B08, 0x2B1B, 0x2B1D, 0x2B50, 0x2B51, 0x2B55, 0x2B56, 0x3030, 0x3031, 0x303D,
    0x303E, 0x3297, 0x3298, 0x3299, 0x329A, 0x1F004, 0x1F005, 0x1F0CF, 0x1F0D0, 0x1F170, 0x1F172, 0x1F17E, 0x1F180,
    0x1F18E, 0x1F18F, 0x1F191, 0x1F19B, 0x1F201, 0x1F203, 0x1F21A, 0x1F21B, 0x1F22F, 0x1F230, 0x1F232, 0x1F23B,
    0x1F250, 0x1F252, 0x1F300, 0x1F322, 0x1F324, 0x1F394, 0x1F396, 0x1F398, 0x1F399, 0x1F39C, 0x1F39E, 0x1F3F1,
    0x1F3F3, 0x1F3F6, 0x1F3F7, 0x1F4FE, 0x1F4FF, 0x1F53E, 0x1F549, 0x1F54F, 0x1F550, 0x1F568, 0x1F56F, 0x1F571,
    0x1F573, 0x1F57B, 0x1F587, 0x1F588, 0x1F58A, 0x1F58E, 0x1F590, 0x1F591, 0x1F595, 0x1F597, 0x1F5A4, 0x1F5A6,
    0x1F5A8, 0x1F5A9, 0x1F5B1, 0x1F5B3, 0x1F5BC, 0x1F5BD, 0x1F5C2, 0x1F5C5, 0x1F5D1, 0x1F5D4, 0x1F5DC, 0x1F5DF,
    0x1F5E1, 0x1F5E2, 0x1F5E3, 0x1F5E4, 0x1F5E8, 0x1F5E9, 0x1F5EF, 0x1F5F0, 0x1F5F3, 0x1F5F4, 0x1F5FA, 0x1F650,
    0x1F680, 0x1F6C6, 0x1F6CB, 0x1F6D3, 0x1F6D5, 0x1F6D9, 0x1F6DC, 0x1F6E6, 0x1F6E9, 0x1F6EA, 0x1F6EB, 0x1F6ED,
    0x1F6F0, 0x1F6F1, 0x1F6F3, 0x1F6FD, 0x1F7E0, 0x1F7EC, 0x1F7F0, 0x1F7F1, 0x1F90C, 0x1F93B, 0x1F93C, 0x1F946,
    0x1F947, 0x1FA00, 0x1FA70, 0x1FB00,
];

/// Checks the shape of a template's language code, such as `en_GB` or `en`.
///
/// This checks only the format; Meta decides if it supports the language. Welsh (`cy`) was not in its list when last
/// read, so a Welsh template is filed under another code, set by the caller and never derived from the resident's
/// language.
///
/// # Errors
///
/// The correction, if the code is not two or three lowercase letters, optionally followed by an underscore and two
/// uppercase letters.
///
/// ```
/// use civic_messaging::medium::whatsapp::language;
///
/// assert!(language("en_GB").is_ok());
/// assert!(language("en-GB").unwrap_err().contains("underscore"));
/// ```
pub fn language(code: &str) -> Result<(), &'static str> {
    if code.contains('-') {
        return Err("a template language has an underscore, never a hyphen: write en_GB");
    }
    let (language, region) = match code.split_once('_') {
        Some((language, region)) => (language, Some(region)),
        None => (code, None),
    };
    if !(2..=3).contains(&language.len()) || !language.bytes().all(|b| b.is_ascii_lowercase()) {
        return Err("a template language starts with two or three lowercase letters: write en or en_GB");
    }
    if region.is_some_and(|r| r.len() != 2 || !r.bytes().all(|b| b.is_ascii_uppercase())) {
        return Err("a template language ends with two uppercase letters: write en_GB");
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    #[test]
    fn window_closes_at_exactly_a_day() {
        for now in [0, 1, DAY / 2, DAY - 1] {
            assert_eq!(window(Some(0), now), ServiceWindow::Open { until_ms: DAY }, "{now}");
        }
        for now in [DAY, DAY + 1, i64::MAX] {
            assert_eq!(window(Some(0), now), ServiceWindow::Closed, "{now}");
        }
        assert_eq!(window(None, 0), ServiceWindow::Closed);
    }

    #[test]
    fn future_message_opens_the_window_from_its_own_time() {
        let skewed = window(Some(5_000), 0);
        assert_eq!(skewed, ServiceWindow::Open { until_ms: 5_000 + DAY });
        assert_eq!(skewed.remaining(0), SERVICE_WINDOW + Duration::from_secs(5));
    }

    #[test]
    fn extreme_times_do_not_overflow() {
        assert_eq!(window(Some(i64::MIN), i64::MAX), ServiceWindow::Closed);
        assert_eq!(window(Some(i64::MAX), i64::MAX), ServiceWindow::Closed);
        let open = window(Some(i64::MAX), i64::MIN);
        assert!(open.is_open());
        assert_eq!(open.remaining(i64::MIN), Duration::from_millis(u64::MAX));
    }

    #[test]
    fn remaining_shrinks_to_zero() {
        let open = window(Some(0), 1);
        assert_eq!(open.remaining(DAY - 1), Duration::from_millis(1));
        assert_eq!(open.remaining(DAY), Duration::ZERO);
        assert_eq!(open.remaining(DAY + 1), Duration::ZERO);
        assert_eq!(ServiceWindow::Closed.remaining(0), Duration::ZERO);
    }

    #[test]
    fn free_entry_lasts_three_days() {
        assert!(free_entry_window(Some(0), 3 * DAY - 1).is_open());
        assert!(!free_entry_window(Some(0), 3 * DAY).is_open());
        assert!(!free_entry_window(None, 0).is_open());
    }

    #[test]
    fn template_parameter_refuses_what_meta_rejects() {
        let longest = "ŷ".repeat(TEMPLATE_PARAMETER_MAX);
        for valid in ["Tuesday", "a    b", "tŷ 🏠", &longest] {
            assert_eq!(template_parameter(valid), Ok(()), "{valid:?}");
        }
        let longer = format!("{longest}y");
        for (bad, word) in [
            ("", "empty"),
            (" ", "empty"),
            ("\u{A0}", "empty"),
            ("a\nb", "line break"),
            ("a\r\nb", "line break"),
            ("a\tb", "tab"),
            ("a     b", "spaces"),
            (&longer, "32768"),
        ] {
            let error = template_parameter(bad).expect_err(bad);
            assert!(error.contains(word), "{bad:?}: {error}");
        }
    }

    #[test]
    fn language_needs_letters_and_an_underscore() {
        for valid in ["en", "en_GB", "en_US", "ga", "fil", "zh_CN", "cy"] {
            assert_eq!(language(valid), Ok(()), "{valid:?}");
        }
        for (bad, word) in [
            ("en-GB", "underscore"),
            ("cy-GB", "underscore"),
            ("en_gb", "uppercase"),
            ("en_", "uppercase"),
            ("en_GBR", "uppercase"),
            ("en_GB_x", "uppercase"),
            ("EN", "lowercase"),
            ("EN_GB", "lowercase"),
            ("", "lowercase"),
            ("e", "lowercase"),
            ("_GB", "lowercase"),
            ("english", "lowercase"),
            ("ŷŷ", "lowercase"),
        ] {
            let error = language(bad).expect_err(bad);
            assert!(error.contains(word), "{bad:?}: {error}");
        }
    }

    #[test]
    fn template_name_has_lowercase_letters_digits_underscores() {
        let longest = "a".repeat(TEMPLATE_NAME_MAX);
        for valid in ["bin_day", "a", "7", "_", &longest] {
            assert_eq!(template_name(valid), Ok(()), "{valid}");
        }
        let longer = "a".repeat(TEMPLATE_NAME_MAX + 1);
        for bad in ["", " ", "Bin_day", "bin-day", "bin day", "bin.day", "tŷ", "bin_day ", &longer] {
            assert!(template_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reaction_is_exactly_one_emoji() {
        for one in [
            "👍",
            "👍🏿",
            "❤",
            "❤️",
            "☎️",
            "©️",
            "🇬🇧",
            "🏴󠁧󠁢󠁷󠁬󠁳󠁿",
            "🏳️‍🌈",
            "👨‍👩‍👧‍👦",
            "🕵🏽‍♂️",
            "👩🏾‍❤️‍💋‍👨🏻",
            "5️⃣",
            "#⃣",
            "🫠",
            "\u{1FAE9}",
            "\u{1FAEA}",
        ] {
            assert!(is_emoji(one), "{one} {}", one.escape_unicode());
        }
        for none in [
            "",
            " ",
            "a",
            "1",
            "#",
            "👍👍",
            "👍👎",
            "👍 ",
            " 👍",
            "👍a",
            "❤️❤️",
            "🇬",
            "🇬🇧🇮",
            "🇬🇧🇮🇪",
            "1️",
            "\u{200D}",
            "👍\u{200D}",
            "\u{200D}👍",
            "👩\u{200D}\u{200D}👧",
            "👍\u{FE0F}\u{FE0F}",
            "👍\u{1F3FD}\u{1F3FD}",
            "\u{FE0F}",
            "\u{E007F}",
            "🏴\u{E007F}",
            "🏴\u{E0067}",
            "e\u{301}",
            "ok 👍",
        ] {
            assert!(!is_emoji(none), "{none} {}", none.escape_unicode());
        }
        assert!(EMOJI.is_sorted_by(|a, b| a < b) && EMOJI.len().is_multiple_of(2));
    }
}
