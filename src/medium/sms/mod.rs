//! The rules of SMS: segments and cost, GSM-7 folding, and opt-out keywords.
//!
//! A text entirely in the GSM 7-bit alphabet (3GPP TS 23.038) is sent as septets, 160 per message. One character
//! outside it, such as `ŵ` or a curly quote, switches the whole text to UCS-2, 70 per message. A longer text is sent in
//! parts, each of which loses some space to the header that joins them, and each of which is charged.
//!
//! ```
//! use civic_messaging::medium::sms;
//!
//! let count = sms::count("Your collection is on Tuesday.");
//! assert_eq!((count.encoding(), count.units(), count.segments()), (sms::Encoding::Gsm7, 30, 1));
//!
//! let welsh = sms::count("Mae’ch casgliad ddydd Mawrth.");
//! assert_eq!(welsh.encoding(), sms::Encoding::Ucs2);
//! assert_eq!(sms::costly("Mae’ch casgliad ddydd Mawrth.")[0].character, '’');
//! assert_eq!(sms::count(&sms::fold("Mae’ch casgliad ddydd Mawrth.")).encoding(), sms::Encoding::Gsm7);
//! ```
//!
//! The national language shift tables are not used: no handset in the United Kingdom needs them.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::iter::FusedIterator;

mod gsm7;
mod keyword;

use self::gsm7::{ascii_septets, gsm_septets};
pub use self::gsm7::{decode_gsm7, encode_gsm7, pack, septets};
pub(crate) use self::keyword::title_keyword;
pub use self::keyword::{Keyword, is_one_of, keyword};

/// Septets in a single message, in GSM-7.
pub const GSM7_SINGLE: usize = 160;
/// Septets in each part of a longer message, in GSM-7, with [`ConcatHeader::Short`].
pub const GSM7_PART: usize = 153;
/// Septets in each part of a longer message, in GSM-7, with [`ConcatHeader::Long`].
pub const GSM7_PART_LONG: usize = 152;
/// UTF-16 code units in a single message, in UCS-2.
pub const UCS2_SINGLE: usize = 70;
/// UTF-16 code units in each part of a longer message, in UCS-2, with [`ConcatHeader::Short`].
pub const UCS2_PART: usize = 67;
/// UTF-16 code units in each part of a longer message, in UCS-2, with [`ConcatHeader::Long`].
pub const UCS2_PART_LONG: usize = 66;
/// Maximum parts of a message: the header numbers them in one octet. Gateways allow far fewer.
pub const PARTS_MAX: usize = 255;

/// The encoding of a message on the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Encoding {
    /// The GSM 7-bit default alphabet and its extension table, counted in septets.
    Gsm7,
    /// 16-bit units, counted in UTF-16 code units: an emoji is two.
    Ucs2,
}

impl Encoding {
    /// Returns the units that fit in a single message.
    #[must_use]
    pub const fn single(self) -> usize {
        match self {
            Self::Gsm7 => GSM7_SINGLE,
            Self::Ucs2 => UCS2_SINGLE,
        }
    }

    /// Returns the units that fit in each part of a longer message.
    #[must_use]
    pub const fn part(self, header: ConcatHeader) -> usize {
        match (self, header) {
            (Self::Gsm7, ConcatHeader::Short) => GSM7_PART,
            (Self::Gsm7, ConcatHeader::Long) => GSM7_PART_LONG,
            (Self::Ucs2, ConcatHeader::Short) => UCS2_PART,
            (Self::Ucs2, ConcatHeader::Long) => UCS2_PART_LONG,
        }
    }

    /// Returns the units of one character. In GSM-7 a character outside the alphabet counts as none; callers have ruled
    /// that out.
    fn cost(self, character: char) -> usize {
        match self {
            Self::Gsm7 => usize::from(septets(character).unwrap_or(0)),
            Self::Ucs2 => character.len_utf16(),
        }
    }
}

/// The header that joins the parts of a message, by the size of its reference number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ConcatHeader {
    /// An 8-bit reference, 6 octets of header: 153 septets or 67 code units remain.
    #[default]
    Short,
    /// A 16-bit reference, 7 octets of header: 152 septets or 66 code units remain.
    Long,
}

/// The encoding, length and segments of a text: see [`count`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Count {
    encoding: Encoding,
    units: usize,
    segments: usize,
}

impl Count {
    /// Returns the encoding that the text requires.
    #[must_use]
    pub const fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Returns the length of the text without headers: septets in GSM-7, UTF-16 code units in UCS-2.
    #[must_use]
    pub const fn units(&self) -> usize {
        self.units
    }

    /// Returns the number of segments, which a gateway charges for. Never 0.
    #[must_use]
    pub const fn segments(&self) -> usize {
        self.segments
    }
}

/// Counts a text with the usual [`ConcatHeader::Short`].
///
/// Allocates nothing, in about the time of reading the text once. An empty text is one segment. A pair (an escape and
/// its code, or two surrogates) is never split between segments, so a text can need one segment more than its units
/// divided by the capacity of a segment.
///
/// ```
/// use civic_messaging::medium::sms::{Encoding, count};
///
/// let eighty = count(&"€".repeat(80)); // a euro sign takes two septets
/// assert_eq!((eighty.encoding(), eighty.units(), eighty.segments()), (Encoding::Gsm7, 160, 1));
/// assert_eq!(count(&"€".repeat(81)).segments(), 2);
/// ```
#[must_use]
pub fn count(text: &str) -> Count {
    count_with(text, ConcatHeader::Short)
}

/// Counts a text split with this header; otherwise as [`count`].
#[must_use]
pub fn count_with(text: &str, header: ConcatHeader) -> Count {
    let (encoding, units) = measure(text);
    let segments = if units <= encoding.single() {
        1
    } else if units == text.chars().count() {
        units.div_ceil(encoding.part(header)) // no pair that could be split
    } else {
        Segments::new(text, encoding, encoding.part(header)).count()
    };
    Count { encoding, units, segments }
}

/// Splits a text into its segments.
///
/// Each item is a slice of the text; joined they equal the text, and their number is [`Count::segments`]. An empty text
/// gives one empty segment. A segment may be a unit short of full where a pair would not fit; an emoji of several
/// characters may be split between them.
///
/// ```
/// use civic_messaging::medium::sms::{ConcatHeader, segments};
///
/// let text = "a".repeat(152) + "€ a week"; // the euro would straddle the 153rd septet
/// let parts: Vec<&str> = segments(&text, ConcatHeader::Short).collect();
/// assert_eq!(parts, ["a".repeat(152).as_str(), "€ a week"]);
/// ```
#[must_use]
pub fn segments(text: &str, header: ConcatHeader) -> Segments<'_> {
    let (encoding, units) = measure(text);
    let budget = if units <= encoding.single() { encoding.single() } else { encoding.part(header) };
    Segments::new(text, encoding, budget)
}

/// An iterator over the segments of a text: see [`segments`]. Its `Debug` output shows no text.
#[derive(Clone)]
pub struct Segments<'a> {
    rest: Option<&'a str>,
    encoding: Encoding,
    budget: usize,
}

impl<'a> Segments<'a> {
    fn new(text: &'a str, encoding: Encoding, budget: usize) -> Self {
        Self { rest: Some(text), encoding, budget }
    }

    /// Returns the end of the first segment of a text in bytes.
    fn cut(&self, text: &str) -> usize {
        let mut units = 0;
        for (at, character) in text.char_indices() {
            units += self.encoding.cost(character);
            if units > self.budget {
                return at;
            }
        }
        text.len()
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.rest.take()?;
        let (part, rest) = text.split_at_checked(self.cut(text)).unwrap_or((text, ""));
        self.rest = Some(rest).filter(|rest| !rest.is_empty());
        Some(part)
    }
}

impl FusedIterator for Segments<'_> {}

impl fmt::Debug for Segments<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segments")
            .field("encoding", &self.encoding)
            .field("budget", &self.budget)
            .field("bytes_left", &self.rest.map_or(0, str::len))
            .finish()
    }
}

/// A character that increases the cost of a text: see [`costly`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct CostlyCharacter {
    /// The character itself.
    pub character: char,
    /// The number of occurrences.
    pub count: usize,
    /// The byte offset of the first occurrence.
    pub first: usize,
    /// The reason for the cost.
    pub reason: Cost,
}

/// The reason why a character increases the cost, most expensive first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Cost {
    /// It is not in the GSM alphabet, so the whole text is sent as UCS-2 with less than half the capacity.
    ForcesUcs2,
    /// It is in the extension table: two septets, unless something else forces UCS-2.
    TwoSeptets,
}

/// Lists the characters that increase the cost of a text, each once, most expensive first.
///
/// Characters that force UCS-2 precede those of two septets; within each group, the most frequent comes first, then the
/// first in the text. Empty if every character takes one septet.
///
/// ```
/// use civic_messaging::medium::sms::{Cost, costly};
///
/// let found = costly("Dŵr: €5 [tŷ], dŵr");
/// let found: Vec<_> = found.iter().map(|c| (c.character, c.count, c.reason)).collect();
/// assert_eq!(found[0], ('ŵ', 2, Cost::ForcesUcs2));
/// assert_eq!(found[1], ('ŷ', 1, Cost::ForcesUcs2));
/// assert_eq!(found[2], ('€', 1, Cost::TwoSeptets));
/// ```
#[must_use]
pub fn costly(text: &str) -> Vec<CostlyCharacter> {
    let mut found: HashMap<char, CostlyCharacter> = HashMap::new();
    for (first, character) in text.char_indices() {
        let reason = match septets(character) {
            None => Cost::ForcesUcs2,
            Some(2) => Cost::TwoSeptets,
            Some(_) => continue,
        };
        found.entry(character).or_insert(CostlyCharacter { character, count: 0, first, reason }).count += 1;
    }
    let mut found: Vec<CostlyCharacter> = found.into_values().collect();
    found.sort_unstable_by_key(|c| (c.reason, Reverse(c.count), c.first));
    found
}

/// Replaces typographic characters with look-alikes from the GSM alphabet.
///
/// Quotes, dashes, the ellipsis, bullets, special spaces and line breaks are replaced as in [`folds`], and invisible
/// characters are dropped. **Letters never change**, Welsh or other, nor do digits, accents and emoji. The joiners and
/// direction marks that shape emoji, Persian or Urdu are dropped only if that brings the text into GSM-7; if it needs
/// UCS-2 anyway, they stay.
///
/// Borrows if nothing changes; folding twice equals folding once. A text that needs UCS-2 for its letters gains nothing
/// (an ellipsis even grows from one unit to three), so [`count`] before and after.
///
/// ```
/// use civic_messaging::medium::sms::fold;
///
/// assert_eq!(fold("“It’s due”… – now"), "\"It's due\"... - now");
/// assert_eq!(fold("Dŵr yfed, tŷ bach"), "Dŵr yfed, tŷ bach");
/// ```
#[must_use]
pub fn fold(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| folds(c).is_none() && !shapes(c)) {
        return Cow::Borrowed(text);
    }
    let plain = text.chars().all(|c| shapes(c) || folds(c).is_some() || septets(c).is_some());
    let mut folded = String::with_capacity(text.len());
    for character in text.chars() {
        match folds(character) {
            Some(instead) => folded.push_str(instead),
            None if plain && shapes(character) => {}
            None => folded.push(character),
        }
    }
    if folded == text {
        return Cow::Borrowed(text); // shaped, and stays so
    }
    Cow::Owned(folded)
}

/// Returns the replacement that [`fold`] uses for a character, or `None` if it stays.
///
/// The replacement is in the GSM alphabet, and empty for a dropped character. `None` for joiners and direction marks,
/// because they depend on the rest of the text.
#[must_use]
pub const fn folds(character: char) -> Option<&'static str> {
    Some(match character {
        '‘' | '’' | '‚' | '‛' | '‹' | '›' | '′' | '´' | '`' => "'",
        '“' | '”' | '„' | '‟' | '«' | '»' | '″' => "\"",
        // Hyphens, dashes and the minus sign.
        '\u{2010}'..='\u{2015}' | '\u{2212}' => "-",
        // Bullets: round, triangular, hyphen, white, square, black circle.
        '\u{2022}' | '\u{2023}' | '\u{2043}' | '\u{25E6}' | '\u{25AA}' | '\u{25CF}' => "-",
        '…' => "...",
        // Tab, no-break space, and the spaces of every width.
        '\t' | '\u{A0}' | '\u{1680}' | '\u{2000}'..='\u{200A}' => " ",
        '\u{202F}' | '\u{205F}' | '\u{3000}' => " ",
        // Vertical tab (a word processor's soft line end), next line, line and paragraph separators.
        '\u{0B}' | '\u{85}' | '\u{2028}' | '\u{2029}' => "\n",
        // Soft hyphen, Mongolian vowel separator, zero-width space, word joiner, byte order mark.
        '\u{AD}' | '\u{180E}' | '\u{200B}' | '\u{2060}' | '\u{FEFF}' => "",
        _ => return None,
    })
}

/// Returns the encoding that a text requires, and its length in units.
fn measure(text: &str) -> (Encoding, usize) {
    match ascii_septets(text).or_else(|| gsm_septets(text)) {
        Some(septets) => (Encoding::Gsm7, septets),
        None => (Encoding::Ucs2, text.chars().map(char::len_utf16).sum()),
    }
}

// Folding.

/// Returns `true` for invisible characters that other scripts and emoji need: joiners, direction marks and similar.
const fn shapes(character: char) -> bool {
    matches!(
        character,
        '\u{061C}' | '\u{200C}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}'
    )
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::indexing_slicing)]
mod tests {
    use super::gsm7::{DEFAULT, EXTENSION};
    use super::*;
    use serde_json::Value;

    fn fixture() -> Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sms/text_segmentation.json");
        serde_json::from_str(&std::fs::read_to_string(path).expect("the fixture")).expect("JSON")
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn every_fixture_case_agrees() {
        let fixture = fixture();
        let cases = fixture["cases"].as_array().expect("cases");
        assert_eq!(cases.len(), 33);
        let mut encoded = 0;
        for case in cases {
            let name = case["name"].as_str().expect("name");
            let text = case["text"].as_str().expect("text");
            let count = count(text);
            let encoding = match count.encoding() {
                Encoding::Gsm7 => "GSM-7",
                Encoding::Ucs2 => "UCS-2",
            };
            assert_eq!(case["encoding"], encoding, "{name}");
            assert_eq!(case["units"], count.units(), "{name}");
            assert_eq!(case["parts"], count.segments(), "{name}");
            let parts: Vec<&str> = segments(text, ConcatHeader::Short).collect();
            assert_eq!(case["part_texts"], Value::from(parts), "{name}");
            assert_eq!(encode_gsm7(text).is_some(), encoding == "GSM-7", "{name}");
            if let Some(unpacked) = case.get("unpacked_hex") {
                let septets = encode_gsm7(text).expect(name);
                assert_eq!(*unpacked, hex(&septets), "{name}");
                assert_eq!(case["packed_hex"], hex(&pack(&septets)), "{name}");
                assert_eq!(decode_gsm7(&septets), text, "{name}");
                encoded += 1;
            }
        }
        assert_eq!(encoded, 7, "cases with hex");
    }

    #[test]
    fn tables_match_the_fixture() {
        let fixture = fixture();
        let default: String = DEFAULT.iter().collect();
        assert_eq!(fixture["gsm_default_table"], default);
        let extension = fixture["gsm_extension"].as_object().expect("extension");
        assert_eq!(extension.len(), EXTENSION.len());
        for (code, character) in EXTENSION {
            assert_eq!(extension[&character.to_string()], code, "{character:?}");
        }
    }

    #[test]
    fn ascii_fast_path_agrees_with_the_table() {
        for byte in 0..=0x7F_u8 {
            let character = char::from(byte);
            let septets = septets(character).map(usize::from);
            assert_eq!(ascii_septets(&character.to_string()), septets, "{character:?}");
        }
        assert_eq!(ascii_septets("é"), None);
        assert_eq!(ascii_septets(&"~".repeat(1_000)), Some(2_000));
        assert_eq!(ascii_septets(&("~".repeat(1_000) + "`")), None);
    }

    #[test]
    fn disputed_characters_follow_the_standard() {
        for outside in ['`', 'ç', '\t', '\0', '\u{1B}', '\u{A0}', 'á', 'ŵ', '’'] {
            assert_eq!(septets(outside), None, "{outside:?}");
        }
        for (character, septets) in [('@', "00"), ('Ç', "09"), ('\u{0C}', "1b0a"), ('€', "1b65")] {
            let encoded = encode_gsm7(&character.to_string()).expect("in the alphabet");
            assert_eq!(hex(&encoded), septets, "{character:?}");
        }
    }

    #[test]
    fn long_headers_leave_less_room() {
        for (text, short, long) in [
            ("a".repeat(306), 2, 3),
            ("a".repeat(304), 2, 2),
            ("ŵ".repeat(134), 2, 3),
            ("ŵ".repeat(132), 2, 2),
            ("a".repeat(160), 1, 1),
        ] {
            assert_eq!(count(&text).segments(), short);
            assert_eq!(count_with(&text, ConcatHeader::Long).segments(), long);
            assert_eq!(segments(&text, ConcatHeader::Long).count(), long);
        }
    }

    #[test]
    fn pair_at_the_edge_costs_an_extra_segment() {
        let gsm = "a".repeat(152) + &"€".repeat(77);
        assert_eq!((count(&gsm).units(), count(&gsm).segments()), (306, 3));
        let ucs = "ŵ".repeat(66) + &"😀".repeat(34);
        assert_eq!((count(&ucs).units(), count(&ucs).segments()), (134, 3));
    }

    #[test]
    fn unknown_codes_decode_to_a_space_or_replacement() {
        assert_eq!(decode_gsm7(&[0x1B, 0x41, b'b']), " b");
        assert_eq!(decode_gsm7(&[0x1B, 0x1B, 0x65]), " e");
        assert_eq!(decode_gsm7(&[b'a', 0x1B]), "a ");
        assert_eq!(decode_gsm7(&[0x80, 0xFF]), "\u{FFFD}\u{FFFD}");
        assert_eq!(decode_gsm7(&[0x1B, 0x0A]), "\u{0C}");
    }

    #[test]
    fn packing_eight_septets_takes_seven_octets() {
        assert_eq!(hex(&pack(b"hellohello")), "e8329bfd4697d9ec37");
        assert_eq!(pack(&[0x7F; 8]), [0xFF; 7]);
        assert_eq!(pack(&[0xFF]), [0x7F], "the top bit is ignored");
        assert!(pack(&[]).is_empty());
    }

    #[test]
    fn costly_lists_the_most_expensive_first() {
        let found: Vec<_> =
            costly("[[[ a ŷ ŵŵ € ’").iter().map(|c| (c.character, c.count, c.first, c.reason)).collect();
        assert_eq!(
            found,
            [
                ('ŵ', 2, 9, Cost::ForcesUcs2),
                ('ŷ', 1, 6, Cost::ForcesUcs2),
                ('’', 1, 18, Cost::ForcesUcs2),
                ('[', 3, 0, Cost::TwoSeptets),
                ('€', 1, 14, Cost::TwoSeptets),
            ]
        );
        assert!(costly("Bin day is £5, café").is_empty());
    }

    #[test]
    fn folding_changes_typography() {
        for (given, folded) in [
            ("‘a’ ‚b‛ `c´ ‹d›", "'a' 'b' 'c' 'd'"),
            ("“a” „b‟ «c» 5′ 6″", "\"a\" \"b\" \"c\" 5' 6\""),
            ("a\u{2010}b\u{2011}c\u{2012}d–e—f―g−h", "a-b-c-d-e-f-g-h"),
            ("wait…", "wait..."),
            ("a\u{A0}b\u{202F}c\td\u{3000}e\u{2009}f", "a b c d e f"),
            ("• one\u{2028}• two", "- one\n- two"),
            ("gov\u{200B}.u\u{AD}k\u{FEFF}\u{2060}", "gov.uk"),
            ("\u{202A}+44 7700 900123\u{202C}", "+44 7700 900123"),
        ] {
            assert_eq!(fold(given), folded);
            assert_eq!(count(&fold(given)).encoding(), Encoding::Gsm7, "{folded}");
        }
    }

    #[test]
    fn folding_keeps_letters_and_their_joiners() {
        let welsh = "âêîôûŵŷ ÂÊÎÔÛŴŶ áéíóúẃý ÁÉÍÓÚẂÝ àèìòùẁỳ ÀÈÌÒÙẀỲ äëïöüẅÿ ÄËÏÖÜẄŸ";
        for text in [welsh, "façade Łódź ʼn Привет", "w\u{302}", "👨\u{200D}👩\u{200D}👧 می\u{200C}خواهم", "plain", ""]
        {
            assert!(matches!(fold(text), Cow::Borrowed(same) if same == text), "{text}");
        }
        assert_eq!(fold("Mae’r dŵr – yma"), "Mae'r dŵr - yma");
        assert_eq!(fold("a\u{200D}b"), "ab");
    }

    #[test]
    fn debug_shows_no_text() {
        let shown = format!("{:?}", segments("canary", ConcatHeader::Short));
        assert!(shown.contains("bytes_left: 6") && !shown.contains("canary"), "{shown}");
    }
}
