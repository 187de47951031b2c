//! The rules of X direct messages: message limits, and the formats of ids, conversations and handles.
//!
//! Only a person who wrote first can be messaged; X documents no time window. Rate limits come from the headers of each
//! response, so there are no constants for them. Facts are from X's documentation and OpenAPI file 2.167, read
//! 2026-11-22 from stored copies.

use std::time::Duration;

/// Maximum characters in a message. **The unit is unverified** (code points, UTF-16 units or X's weighted count), and
/// so is the number for v2: 10,000 is from v1.1 `help/configuration`. Count code points, and map X's own rejection as
/// well. At least one, unless there is an attachment.
pub const TEXT_MAX: usize = 10_000;
/// Maximum attachments in a message: a text with three images is three messages.
pub const ATTACHMENTS_MAX: usize = 1;
/// The maximum age of events that can be fetched: 30 days.
pub const HISTORY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

const MIB: u64 = 1_024 * 1_024;

/// Maximum bytes of an image: 5 MB. The limits are those of any upload; none is documented for direct messages. Reading
/// MB as 1,048,576 bytes, the larger reading, is unverified.
pub const IMAGE_BYTES_MAX: u64 = 5 * MIB;
/// Maximum bytes of a GIF: 15 MB, with at most 1280 by 1080 pixels and 350 frames.
pub const GIF_BYTES_MAX: u64 = 15 * MIB;
/// Maximum bytes of a video: 512 MB, of 0.5 to 140 seconds.
pub const VIDEO_BYTES_MAX: u64 = 512 * MIB;

/// Accepted image types, sent as `dm_image`. PDF and audio cannot be attached: send a link.
pub const IMAGE_TYPES: &[&str] = &["image/jpeg", "image/png", "image/webp", "image/bmp", "image/pjpeg", "image/tiff"];
/// Accepted types of animated images, sent as `dm_gif`.
pub const GIF_TYPES: &[&str] = &["image/gif"];
/// Accepted video types, sent as `dm_video`.
pub const VIDEO_TYPES: &[&str] = &["video/mp4", "video/webm", "video/mp2t", "video/quicktime"];

/// Returns `true` for a user id: 1 to 19 digits. A handle can change and is not an id.
///
/// ```
/// use civic_messaging::medium::x::user_id;
///
/// assert!(user_id("1072250532645998596"));
/// assert!(!user_id("@ShropCouncil"));
/// ```
#[must_use]
pub fn user_id(text: &str) -> bool {
    digits(text, 1)
}

/// Returns `true` for a conversation id: two user ids joined by a hyphen, or 15 to 19 digits for a group.
#[must_use]
pub fn conversation_id(text: &str) -> bool {
    match text.split_once('-') {
        Some((one, other)) => user_id(one) && user_id(other),
        None => digits(text, 15),
    }
}

/// Returns the id of the conversation between two users, the smaller id first; `None` if either is not an id.
///
/// Ids are compared as numbers: compared as text, a long id that begins with 1 would precede a short one that begins
/// with 7. Prefer the id that X supplies, if there is one.
///
/// ```
/// use civic_messaging::medium::x::one_to_one;
///
/// assert_eq!(
///     one_to_one("1072250532645998596", "750362064426721281").as_deref(),
///     Some("750362064426721281-1072250532645998596"),
/// );
/// ```
#[must_use]
pub fn one_to_one(a: &str, b: &str) -> Option<String> {
    let (smaller, larger) = if number(a)? <= number(b)? { (a, b) } else { (b, a) };
    Some(format!("{smaller}-{larger}"))
}

/// Returns the other user of a one-to-one conversation.
///
/// `None` for a group, for anything but a conversation id, and if `me` is not a participant.
///
/// ```
/// use civic_messaging::medium::x::other_party;
///
/// assert_eq!(other_party("12-345", "345"), Some("12"));
/// assert_eq!(other_party("12-345", "6"), None);
/// ```
#[must_use]
pub fn other_party<'a>(conversation: &'a str, me: &str) -> Option<&'a str> {
    let (one, other) = conversation.split_once('-')?;
    if !user_id(one) || !user_id(other) {
        None
    } else if one == me {
        Some(other)
    } else if other == me {
        Some(one)
    } else {
        None
    }
}

/// Returns `true` for a handle without its `@`: 1 to 15 ASCII letters, digits and underscores.
#[must_use]
pub fn handle(text: &str) -> bool {
    (1..=15).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Returns a link by which a resident starts a message to the council, with a prefilled text.
///
/// `council_id` is the council's own user id, which is not validated. An empty text is omitted. Both are encoded, so
/// that neither can add parameters.
///
/// ```
/// use civic_messaging::medium::x::compose_link;
///
/// assert_eq!(
///     compose_link("14161072", "Missed bin: tŷ 5"),
///     "https://x.com/messages/compose?recipient_id=14161072&text=Missed%20bin%3A%20t%C5%B7%205",
/// );
/// ```
#[must_use]
pub fn compose_link(council_id: &str, text: &str) -> String {
    let mut link = String::from("https://x.com/messages/compose?recipient_id=");
    percent_encode(&mut link, council_id);
    if !text.is_empty() {
        link.push_str("&text=");
        percent_encode(&mut link, text);
    }
    link
}

fn digits(text: &str, min: usize) -> bool {
    (min..=19).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Nineteen digits always fit in 64 bits.
fn number(id: &str) -> Option<u64> {
    id.parse().ok().filter(|_| user_id(id))
}

/// Percent-encodes everything but the unreserved characters of RFC 3986.
fn percent_encode(link: &mut String, text: &str) {
    const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            link.push(char::from(byte));
        } else {
            let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied();
            link.push('%');
            link.extend(digit(byte >> 4));
            link.extend(digit(byte & 0x0F));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_id_is_1_to_19_digits() {
        for valid in ["0", "12", "1234567890123456789", "9999999999999999999"] {
            assert!(user_id(valid), "{valid}");
        }
        for bad in ["", "12345678901234567890", "-1", "+1", "1 ", "1a", "１", "@a"] {
            assert!(!user_id(bad), "{bad}");
        }
    }

    #[test]
    fn conversation_id_is_a_pair_or_a_group() {
        for valid in ["1-2", "123456789012345", "1234567890123456789"] {
            assert!(conversation_id(valid), "{valid}");
        }
        for bad in
            ["", "-", "1-", "-2", "1-2-3", "12345678901234", "12345678901234567890", "1-12345678901234567890", "a-b"]
        {
            assert!(!conversation_id(bad), "{bad}");
        }
    }

    #[test]
    fn one_to_one_puts_the_smaller_number_first() {
        let id = "750362064426721281-1072250532645998596";
        let (small, large) = ("750362064426721281", "1072250532645998596");
        assert!(large < small, "a string sort would reverse them");
        assert_eq!(one_to_one(small, large).as_deref(), Some(id));
        assert_eq!(one_to_one(large, small).as_deref(), Some(id));
        assert!(conversation_id(id));
        assert_eq!(one_to_one("9999999999999999999", "9").as_deref(), Some("9-9999999999999999999"));
        for (a, b) in [("", "1"), ("1", "+2"), ("1", "12345678901234567890")] {
            assert_eq!(one_to_one(a, b), None, "{a} {b}");
        }
    }

    #[test]
    fn other_party_needs_a_pair_with_me() {
        assert_eq!(other_party("1-23", "1"), Some("23"));
        assert_eq!(other_party("1-23", "23"), Some("1"));
        for (conversation, me) in [
            ("1-23", "2"),
            ("1-23", ""),
            ("123456789012345", "123456789012345"),
            ("1-x", "1"),
            ("1-2-3", "1"),
            ("", ""),
        ] {
            assert_eq!(other_party(conversation, me), None, "{conversation} {me}");
        }
    }

    #[test]
    fn handle_is_1_to_15_characters() {
        for valid in ["a", "ShropCouncil", "_1234567890_abc"] {
            assert!(handle(valid), "{valid}");
        }
        for bad in ["", "@ShropCouncil", "abcdefghijklmnop", "tŷ", "a b", "a-b"] {
            assert!(!handle(bad), "{bad}");
        }
    }

    #[test]
    fn compose_link_encodes_its_parameters() {
        assert_eq!(
            compose_link("1&text=x#", "a&b=c%\n~-._"),
            "https://x.com/messages/compose?recipient_id=1%26text%3Dx%23&text=a%26b%3Dc%25%0A~-._"
        );
        assert_eq!(compose_link("1", ""), "https://x.com/messages/compose?recipient_id=1");
    }
}
