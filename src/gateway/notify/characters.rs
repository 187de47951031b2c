//! Text length as Notify counts it, and the characters that Notify replaces.

use std::borrow::Cow;

use crate::medium::sms::septets;

/// Returns the length of a text as Notify counts it: the UTF-16 code units of the sent text, without the service's name
/// in front.
///
/// Notify removes white space before a full stop or comma, trims each line, joins its words by single spaces, and
/// collapses empty lines to one. ([`BaseSMSTemplate`][utils] of notifications-utils, commit a9af02ae, read 2026-11-30.)
/// That commit counts an emoji as the `?` that replaces it; since September 2026 an emoji is kept and counts as two.
/// The longer count is used regardless of [`Config::unicode`](super::Config), so that Notify does not refuse a planned
/// text.
///
/// [utils]: https://github.com/alphagov/notifications-utils/blob/a9af02ae/notifications_utils/template.py
pub(super) fn text_length(text: &str) -> usize {
    let mut tidy = String::with_capacity(text.len());
    let mut empty_lines = 0;
    for line in strip_space_before_punctuation(text).replace("\r\n", "\n").split(is_line_end) {
        let visible: String = line.chars().filter(|c| !is_invisible(*c)).collect();
        let mut words = visible.split_whitespace();
        let Some(first) = words.next() else {
            empty_lines += 1;
            continue;
        };
        if !tidy.is_empty() {
            tidy.push_str(if empty_lines > 0 { "\n\n" } else { "\n" });
        }
        empty_lines = 0;
        tidy.push_str(first);
        words.for_each(|word| tidy.extend([" ", word]));
    }
    sanitise_unicode(&tidy).encode_utf16().count()
}

/// Removes spaces and tabs before a full stop or comma.
fn strip_space_before_punctuation(text: &str) -> String {
    let mut stripped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '.' | ',') {
            stripped.truncate(stripped.trim_end_matches([' ', '\t']).len());
        }
        stripped.push(c);
    }
    stripped
}

/// Returns `true` for a line end of Python's `splitlines`, except `\r\n`.
fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\u{B}' | '\u{C}' | '\r' | '\u{1C}'..='\u{1E}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Returns `true` for a zero-width character that Notify removes. It keeps the zero-width joiner, as in
/// [`sanitise_unicode`].
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{180E}' | '\u{200B}' | '\u{200C}' | '\u{2060}' | '\u{FEFF}')
}

/// Rewrites a text as Notify did until autumn 2026; plans use it unless [`Config::unicode`](super::Config) is set.
///
/// Typographic quotes, dashes, the ellipsis and special spaces become plain, and invisible characters are removed.
/// Letters outside the GSM alphabet lose their diacritics (`ç` becomes `c`), except the accented vowels of Welsh (`ŵ`,
/// `ŷ`, `á`), which are kept and make the text UCS-2. Everything else, such as an emoji or a Cyrillic letter, becomes
/// `?`.
///
/// The rule is `SanitiseSMS` of notifications-utils, commit a9af02ae. The letters are the 372 that Unicode 14.0
/// decomposes, in one step, into a permitted letter and combining marks; a separate combining mark, as in NFD text,
/// becomes `?`. That a letter based on any other becomes `?` (Cyrillic `й`) is inferred, not recorded. Trimming and the
/// removal of space before punctuation are not predicted.
///
/// ```
/// use civic_messaging::notify::sanitise;
///
/// assert_eq!(sanitise("It’s façade day 😀 — Dŵr"), "It's facade day ? - Dŵr");
/// ```
#[must_use]
pub fn sanitise(text: &str) -> Cow<'_, str> {
    let is_kept = |c| (septets(c).is_some() && c != '\u{C}') || c == '\u{1B}' || is_welsh(c);
    replace_characters(text, |c| (!is_kept(c)).then(|| plain(c).or_else(|| base_letter(c)).unwrap_or("?")))
}

/// Rewrites a text as Notify does since autumn 2026: with the typographic replacements of [`sanitise`] only.
///
/// Letters and emoji are kept, and such a text is sent and charged as UCS-2. Read in the changes merged into
/// notifications-utils in August and notifications-api in September 2026; not recorded from a running server.
///
/// ```
/// use civic_messaging::notify::sanitise_unicode;
///
/// assert_eq!(sanitise_unicode("It’s façade day 😀 — Dŵr"), "It's façade day 😀 - Dŵr");
/// ```
#[must_use]
pub fn sanitise_unicode(text: &str) -> Cow<'_, str> {
    // The zero-width joiner is part of emoji; only `sanitise` removes it.
    replace_characters(text, |c| plain(c).filter(|_| !matches!(c, '\u{200D}' | 'Ł' | 'ł')))
}

fn replace_characters(text: &str, replacement: impl Fn(char) -> Option<&'static str>) -> Cow<'_, str> {
    let Some(first) = text.char_indices().find(|(_, c)| replacement(*c).is_some()).map(|(at, _)| at) else {
        return Cow::Borrowed(text);
    };
    let (before, rest) = text.split_at_checked(first).unwrap_or((text, ""));
    let mut sent = String::with_capacity(text.len());
    sent.push_str(before);
    for c in rest.chars() {
        match replacement(c) {
            Some(replacement) => sent.push_str(replacement),
            None => sent.push(c),
        }
    }
    Cow::Owned(sent)
}

/// The plain look-alike that replaces a character.
fn plain(c: char) -> Option<&'static str> {
    Some(match c {
        '\u{2011}' | '\u{2013}' | '\u{2014}' | '\u{2212}' => "-",
        '…' => "...",
        '‘' | '’' | '‚' => "'",
        '“' | '”' | '„' => "\"",
        '\u{180E}' | '\u{200B}'..='\u{200D}' | '\u{2028}' | '\u{2029}' | '\u{2060}' | '\u{FEFF}' => "",
        '\u{A0}' | '\u{202F}' | '\t' => " ",
        'Ł' => "L",
        'ł' => "l",
        _ => return None,
    })
}

/// Returns `true` for a vowel with one of the four accents of Welsh.
fn is_welsh(c: char) -> bool {
    "àèìòùẁỳáéíóúẃýäëïöüẅÿâêîôûŵŷÀÈÌÒÙẀỲÁÉÍÓÚẂÝÄËÏÖÜẄŸÂÊÎÔÛŴŶ".contains(c)
}

/// The letter without its diacritics.
fn base_letter(c: char) -> Option<&'static str> {
    marked().find(|(_, marked)| marked.contains(c)).map(|(letter, _)| letter)
}

fn marked() -> impl Iterator<Item = (&'static str, &'static str)> {
    MARKED.split(' ').filter_map(|group| group.split_at_checked(group.chars().next()?.len_utf8()))
}

/// Letters, each followed by the characters that decompose into it and combining marks, in one canonical step of
/// Unicode 14.0.
const MARKED: &str = "\
    ;\u{37E} <\u{226E} =\u{2260} >\u{226F} AÃĀĂĄǍȀȂȦḀẠẢ BḂḄḆ CĆĈĊČ DĎḊḌḎḐḒ EĒĔĖĘĚȄȆȨḘḚẸẺẼ FḞ GĜĞĠĢǦǴḠ \
    HĤȞḢḤḦḨḪ IĨĪĬĮİǏȈȊḬỈỊ JĴ KĶǨḰḲḴ\u{212A} LĹĻĽḶḺḼ MḾṀṂ NŃŅŇǸṄṆṈṊ OÕŌŎŐƠǑǪȌȎȮỌỎ PṔṖ RŔŖŘȐȒṘṚṞ SŚŜŞŠȘṠṢ \
    TŢŤȚṪṬṮṰ UŨŪŬŮŰŲƯǓȔȖṲṴṶỤỦ VṼṾ WẆẈ XẊẌ YȲẎỴỶỸ ZŹŻŽẐẒẔ aãāăąǎȁȃȧḁạả bḃḅḇ cçćĉċč dďḋḍḏḑḓ eēĕėęěȅȇȩḙḛẹẻẽ fḟ \
    gĝğġģǧǵḡ hĥȟḣḥḧḩḫẖ iĩīĭįǐȉȋḭỉị jĵǰ kķǩḱḳḵ lĺļľḷḻḽ mḿṁṃ nńņňǹṅṇṉṋ oõōŏőơǒǫȍȏȯọỏ pṕṗ rŕŗřȑȓṙṛṟ sśŝşšșṡṣ \
    tţťțṫṭṯṱẗ uũūŭůűųưǔȕȗṳṵṷụủ vṽṿ wẇẉẘ xẋẍ yȳẏẙỵỷỹ zźżžẑẓẕ ÂẤẦẨẪ ÄǞ ÅǺ\u{212B} ÆǢǼ ÇḈ ÊẾỀỂỄ ÏḮ ÔỐỒỔỖ ÖȪ ØǾ \
    ÜǕǗǙǛ âấầẩẫ äǟ åǻ æǣǽ êếềểễ ïḯ ôốồổỗ öȫ øǿ üǖǘǚǜ Ω\u{38F}\u{1F68}\u{1F69}\u{1FFA}\u{1FFC}\u{2126}";

#[cfg(test)]
mod tests {
    use super::*;

    const CASES: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sms/text_segmentation.json"));

    #[test]
    fn sanitise_matches_recorded_texts() {
        let file: serde_json::Value = serde_json::from_str(CASES).unwrap();
        let cases = file["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 33);
        for case in cases {
            let (text, expected) = (case["text"].as_str().unwrap(), case["notify_sanitised"].as_str().unwrap());
            let sent = sanitise(text);
            assert_eq!(sent, expected, "{}", case["name"]);
            assert_eq!(matches!(sent, Cow::Borrowed(_)), text == expected, "{}", case["name"]);
            assert_eq!(sanitise(&sent), sent, "{}", case["name"]);
        }
    }

    #[test]
    fn marked_table_is_complete_and_maps_to_kept_letters() {
        assert_eq!(marked().map(|(_, marked)| marked.chars().count()).sum::<usize>(), 372);
        for (letter, marked) in marked() {
            assert_eq!(sanitise(letter), letter);
            assert!(marked.chars().all(|c| sanitise(&c.to_string()) == letter), "{letter}");
        }
        for (text, sent) in [("ế", "ê"), ("ǖ", "ü"), ("≠", "="), ("\u{212A}", "K"), ("e\u{301}", "e?"), ("й", "?")]
        {
            assert_eq!(sanitise(text), sent);
        }
    }

    #[test]
    fn sanitise_unicode_replaces_only_look_alikes() {
        for (text, sent) in [
            ("“It’s”… – a\u{A0}b", "\"It's\"... - a b"),
            ("Привет Łódź ç `x` \u{C}", "Привет Łódź ç `x` \u{C}"),
            ("👨\u{200D}👩", "👨\u{200D}👩"),
            ("gov\u{200B}.uk", "gov.uk"),
        ] {
            assert_eq!(sanitise_unicode(text), sent);
        }
    }
}
