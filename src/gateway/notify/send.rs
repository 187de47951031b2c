//! Messages as Notify takes them, and what it makes of their texts.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;

use super::{GATEWAY, Notify, Options, is_uuid};
use crate::adapter::Answer;
use crate::adapter::json::{Json, Text};
use crate::adapter::lenient;
use crate::medium::sms::septets;
use crate::model::error::{Error, Result};
use crate::model::message::{Accepted, Content, Message, Template};
use crate::plan::{Loss, changed};

/// The body of a send.
pub(super) fn encode(message: &Message, notify: &Notify) -> Result<Vec<u8>> {
    let (template_id, personalisation) = match &message.content {
        Content::Text(text) => {
            (notify.template_id.as_str(), BTreeMap::from([(notify.body_field.as_str(), text.as_str())]))
        }
        Content::Template(template) => (template_id(template)?, personalisation(template)),
        _ => return Err(Error::unsupported("Notify sends texts and templates").with_field("content")),
    };
    let sms_sender_id = sms_sender_id(message)?.map(Cow::Owned);
    let request = Request {
        phone_number: message.to.expose(),
        template_id,
        personalisation,
        reference: message.key.as_deref(),
        sms_sender_id: sms_sender_id.or(notify.sms_sender_id.as_deref().map(Cow::Borrowed)),
    };
    serde_json::to_vec(&request).map_err(|_| Error::invalid("content", "cannot be written as JSON"))
}

/// What can be said of a message beside what the capability says.
pub(super) fn rule(message: &Message) -> Result<()> {
    if let Content::Template(template) = &message.content {
        template_id(template)?;
    }
    sms_sender_id(message).map(|_| ())
}

fn sms_sender_id(message: &Message) -> Result<Option<String>> {
    let options: Option<Options> = message.options()?;
    match options.and_then(|options| options.sms_sender_id) {
        Some(id) if !is_uuid(&id) => Err(Error::invalid("options.sms_sender_id", "must be the UUID of a sender")),
        id => Ok(id),
    }
}

/// How long Notify finds a text: the UTF-16 code units of what it sends, without the name of the service before it.
///
/// It first takes white space before a full stop or comma away, trims each line and joins its words by one space, and
/// leaves one empty line of several. ([`BaseSMSTemplate`][utils] of notifications-utils, commit a9af02ae, read
/// 2026-11-30.) That commit still writes `?` for an emoji before it counts; since September 2026 an emoji stays, and is
/// two. The longer count holds here, whatever [`Config::unicode`](super::Config) says: a text must not fail at Notify.
///
/// [utils]: https://github.com/alphagov/notifications-utils/blob/a9af02ae/notifications_utils/template.py
pub(super) fn text_length(text: &str) -> usize {
    let mut tidy = String::with_capacity(text.len());
    let mut empty = 0;
    for line in tight(text).replace("\r\n", "\n").split(is_line_end) {
        let visible: String = line.chars().filter(|c| !is_invisible(*c)).collect();
        let mut words = visible.split_whitespace();
        let Some(first) = words.next() else {
            empty += 1;
            continue;
        };
        if !tidy.is_empty() {
            tidy.push_str(if empty > 0 { "\n\n" } else { "\n" });
        }
        empty = 0;
        tidy.push_str(first);
        words.for_each(|word| tidy.extend([" ", word]));
    }
    sanitise_unicode(&tidy).encode_utf16().count()
}

/// The text without spaces and tabs before a full stop or comma.
fn tight(text: &str) -> String {
    let mut tight = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '.' | ',') {
            tight.truncate(tight.trim_end_matches([' ', '\t']).len());
        }
        tight.push(c);
    }
    tight
}

/// Where Python's `splitlines` ends a line, `\r\n` aside.
fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\u{B}' | '\u{C}' | '\r' | '\u{1C}'..='\u{1E}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What has no width, and is left out. The joiner of emoji stays, as in [`sanitise_unicode`].
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{180E}' | '\u{200B}' | '\u{200C}' | '\u{2060}' | '\u{FEFF}')
}

fn template_id(template: &Template) -> Result<&str> {
    let id = template.native.get(GATEWAY).unwrap_or(&template.name);
    let rule = "must be the UUID of a Notify template, unless `native` gives that for notify";
    if is_uuid(id) { Ok(id) } else { Err(Error::invalid("template.name", rule).with_gateway(GATEWAY)) }
}

fn personalisation(template: &Template) -> BTreeMap<&str, &str> {
    let named = |parameter: &'_ crate::model::message::Parameter| parameter.name.is_some();
    let pairs = template.parameters.iter().filter(|parameter| named(parameter));
    pairs.filter_map(|parameter| Some((parameter.name.as_deref()?, parameter.value.as_str()))).collect()
}

/// What Notify said to a message that it took.
///
/// It gives the text as it will send it, so what a free text lost is seen. Of a template that cannot be told from
/// what the template leaves out by itself.
pub(super) fn decode(message: &Message, answer: &Answer) -> Result<Accepted> {
    let json = Json::new(&answer.body);
    let taken: Taken<'_> = json.read().ok_or_else(|| answer.unreadable())?;
    let mut accepted = answer.accepted(taken.id.id())?;
    let sent = taken.content.as_ref().and_then(|content| content.body.as_deref());
    if let (Content::Text(text), Some(sent)) = (&message.content, sent) {
        // Space at either end is trimmed, which no reader misses.
        match changed(text.trim(), sent) {
            0 => {}
            characters => accepted.losses.push(Loss::Rewritten { characters }),
        }
    }
    Ok(accepted)
}

#[derive(Serialize)]
struct Request<'a> {
    phone_number: &'a str,
    template_id: &'a str,
    personalisation: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sms_sender_id: Option<Cow<'a, str>>,
}

lenient! {
    struct Taken<'a> {
        id: Text<'a>,
        content: Option<TakenContent<'a>>,
    }

    struct TakenContent<'a> {
        body: Text<'a>,
    }
}

/// What Notify made of a text until autumn 2026, and what is foretold unless [`Config::unicode`](super::Config) is
/// set.
///
/// Typographic quotes, dashes, the ellipsis and odd spaces become plain, and what cannot be seen is left out. Letters
/// outside the GSM alphabet lose their marks (`ç` becomes `c`), but for the vowels that Welsh writes (`ŵ`, `ŷ`, `á`),
/// which stay and make the text UCS-2. Everything else, an emoji or a Cyrillic letter, becomes `?`.
///
/// The rule is `SanitiseSMS` of notifications-utils, commit a9af02ae. The letters are the 372 that Unicode (14.0)
/// decomposes, in one step, into one that may stay and marks; a mark written by itself becomes `?`, as a text that is
/// not composed (NFD) will show. That a letter with another than those under its marks becomes `?` (Cyrillic `й`) is
/// inferred, not recorded. Trimming, and changes of space before punctuation, are not foretold.
///
/// ```
/// use civic_messaging::notify::sanitise;
///
/// assert_eq!(sanitise("It’s façade day 😀 — Dŵr"), "It's facade day ? - Dŵr");
/// ```
#[must_use]
pub fn sanitise(text: &str) -> Cow<'_, str> {
    let keeps = |c| (septets(c).is_some() && c != '\u{C}') || c == '\u{1B}' || is_welsh(c);
    rewritten(text, |c| (!keeps(c)).then(|| plain(c).or_else(|| unmarked(c)).unwrap_or("?")))
}

/// What Notify makes of a text since autumn 2026: only the typographic replacements of [`sanitise`], and no letter or
/// emoji is lost. Such a text goes, and is charged, as UCS-2.
///
/// Read in the changes that were merged into notifications-utils in August and notifications-api in September 2026; not
/// recorded from a running server.
///
/// ```
/// use civic_messaging::notify::sanitise_unicode;
///
/// assert_eq!(sanitise_unicode("It’s façade day 😀 — Dŵr"), "It's façade day 😀 - Dŵr");
/// ```
#[must_use]
pub fn sanitise_unicode(text: &str) -> Cow<'_, str> {
    // The joiner shapes emoji, and is left out only where emoji are not sent.
    rewritten(text, |c| plain(c).filter(|_| !matches!(c, '\u{200D}' | 'Ł' | 'ł')))
}

fn rewritten(text: &str, instead: impl Fn(char) -> Option<&'static str>) -> Cow<'_, str> {
    let Some(first) = text.char_indices().find(|(_, c)| instead(*c).is_some()).map(|(at, _)| at) else {
        return Cow::Borrowed(text);
    };
    let (before, rest) = text.split_at_checked(first).unwrap_or((text, ""));
    let mut sent = String::with_capacity(text.len());
    sent.push_str(before);
    for c in rest.chars() {
        match instead(c) {
            Some(instead) => sent.push_str(instead),
            None => sent.push(c),
        }
    }
    Cow::Owned(sent)
}

/// What Notify writes instead of a character that has a plain look-alike.
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

/// A vowel with a grave, acute, diaeresis or circumflex.
fn is_welsh(c: char) -> bool {
    "àèìòùẁỳáéíóúẃýäëïöüẅÿâêîôûŵŷÀÈÌÒÙẀỲÁÉÍÓÚẂÝÄËÏÖÜẄŸÂÊÎÔÛŴŶ".contains(c)
}

/// The letter under the marks of one.
fn unmarked(c: char) -> Option<&'static str> {
    MARKED.iter().find(|(_, marked)| marked.contains(c)).map(|(letter, _)| *letter)
}

/// By letter, those that decompose into it and marks, in one canonical step of Unicode 14.0.
const MARKED: &[(&str, &str)] = &[
    (";", "\u{37E}"),
    ("<", "\u{226E}"),
    ("=", "\u{2260}"),
    (">", "\u{226F}"),
    ("A", "ÃĀĂĄǍȀȂȦḀẠẢ"),
    ("B", "ḂḄḆ"),
    ("C", "ĆĈĊČ"),
    ("D", "ĎḊḌḎḐḒ"),
    ("E", "ĒĔĖĘĚȄȆȨḘḚẸẺẼ"),
    ("F", "Ḟ"),
    ("G", "ĜĞĠĢǦǴḠ"),
    ("H", "ĤȞḢḤḦḨḪ"),
    ("I", "ĨĪĬĮİǏȈȊḬỈỊ"),
    ("J", "Ĵ"),
    ("K", "ĶǨḰḲḴ\u{212A}"),
    ("L", "ĹĻĽḶḺḼ"),
    ("M", "ḾṀṂ"),
    ("N", "ŃŅŇǸṄṆṈṊ"),
    ("O", "ÕŌŎŐƠǑǪȌȎȮỌỎ"),
    ("P", "ṔṖ"),
    ("R", "ŔŖŘȐȒṘṚṞ"),
    ("S", "ŚŜŞŠȘṠṢ"),
    ("T", "ŢŤȚṪṬṮṰ"),
    ("U", "ŨŪŬŮŰŲƯǓȔȖṲṴṶỤỦ"),
    ("V", "ṼṾ"),
    ("W", "ẆẈ"),
    ("X", "ẊẌ"),
    ("Y", "ȲẎỴỶỸ"),
    ("Z", "ŹŻŽẐẒẔ"),
    ("a", "ãāăąǎȁȃȧḁạả"),
    ("b", "ḃḅḇ"),
    ("c", "çćĉċč"),
    ("d", "ďḋḍḏḑḓ"),
    ("e", "ēĕėęěȅȇȩḙḛẹẻẽ"),
    ("f", "ḟ"),
    ("g", "ĝğġģǧǵḡ"),
    ("h", "ĥȟḣḥḧḩḫẖ"),
    ("i", "ĩīĭįǐȉȋḭỉị"),
    ("j", "ĵǰ"),
    ("k", "ķǩḱḳḵ"),
    ("l", "ĺļľḷḻḽ"),
    ("m", "ḿṁṃ"),
    ("n", "ńņňǹṅṇṉṋ"),
    ("o", "õōŏőơǒǫȍȏȯọỏ"),
    ("p", "ṕṗ"),
    ("r", "ŕŗřȑȓṙṛṟ"),
    ("s", "śŝşšșṡṣ"),
    ("t", "ţťțṫṭṯṱẗ"),
    ("u", "ũūŭůűųưǔȕȗṳṵṷụủ"),
    ("v", "ṽṿ"),
    ("w", "ẇẉẘ"),
    ("x", "ẋẍ"),
    ("y", "ȳẏẙỵỷỹ"),
    ("z", "źżžẑẓẕ"),
    ("Â", "ẤẦẨẪ"),
    ("Ä", "Ǟ"),
    ("Å", "Ǻ\u{212B}"),
    ("Æ", "ǢǼ"),
    ("Ç", "Ḉ"),
    ("Ê", "ẾỀỂỄ"),
    ("Ï", "Ḯ"),
    ("Ô", "ỐỒỔỖ"),
    ("Ö", "Ȫ"),
    ("Ø", "Ǿ"),
    ("Ü", "ǕǗǙǛ"),
    ("â", "ấầẩẫ"),
    ("ä", "ǟ"),
    ("å", "ǻ"),
    ("æ", "ǣǽ"),
    ("ê", "ếềểễ"),
    ("ï", "ḯ"),
    ("ô", "ốồổỗ"),
    ("ö", "ȫ"),
    ("ø", "ǿ"),
    ("ü", "ǖǘǚǜ"),
    ("Ω", "\u{38F}\u{1F68}\u{1F69}\u{1FFA}\u{1FFC}\u{2126}"),
];

#[cfg(test)]
mod tests {
    use super::*;

    const CASES: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sms/text_segmentation.json"));

    #[test]
    fn every_recorded_text_is_rewritten_as_notify_did() {
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
    fn the_table_is_whole_and_its_letters_may_stay() {
        assert_eq!(MARKED.iter().map(|(_, marked)| marked.chars().count()).sum::<usize>(), 372);
        for (letter, marked) in MARKED {
            assert_eq!(sanitise(letter), *letter);
            assert!(marked.chars().all(|c| sanitise(&c.to_string()) == *letter), "{letter}");
        }
        for (text, sent) in [("ế", "ê"), ("ǖ", "ü"), ("≠", "="), ("\u{212A}", "K"), ("e\u{301}", "e?"), ("й", "?")]
        {
            assert_eq!(sanitise(text), sent);
        }
    }

    #[test]
    fn since_autumn_2026_only_look_alikes_are_replaced() {
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
