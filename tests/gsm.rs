//! The GSM alphabet against Perl's `Encode::GSM0338`, and the laws of counting, cutting and folding.

#![allow(clippy::expect_used)]

use std::collections::BTreeMap;
use std::process::Command;

use civic_messaging::medium::sms::{
    ConcatHeader, Encoding, count, count_with, decode_gsm7, encode_gsm7, fold, folds, keyword, pack, segments, septets,
};
use proptest::prelude::*;

/// Perl's answers, made by `perl -MEncode -MEncode::GSM0338 -e PROGRAM`.
const TABLE: &str = include_str!("fixtures/sms/gsm0338_perl.txt");

/// Prints the module's version, each code point of the basic multilingual plane that has a code
/// with that code in hex, and how many code points were asked.
const PROGRAM: &str = r#"
print "version $Encode::GSM0338::VERSION\n";
for my $point (0 .. 0xFFFF) {
    next if $point >= 0xD800 && $point <= 0xDFFF;
    $asked++;
    my $text = chr $point;
    my $code = eval { Encode::encode("gsm0338", $text, Encode::FB_CROAK) };
    printf "%04X %s\n", $point, unpack("H*", $code) if defined $code;
}
print "asked $asked\n";
"#;

/// Where Perl and 3GPP TS 23.038 differ: the code point, Perl's code, ours, and why.
///
/// Version 2.10 of the module, which follows Release 16 of the standard, has no difference. Older
/// ones have; add them here by name should the table ever be made by one.
const DIFFERENCES: [(u32, Option<&str>, Option<&str>, &str); 0] = [];

/// Characters over which tables of the alphabet are known to disagree, and what both sides say here.
const DISPUTED: [(u32, Option<&str>, &str); 8] = [
    (0x0000, None, "NUL is no character, though @ has the code 00"),
    (0x0040, Some("00"), "@; lost by the module before version 2.8"),
    (0x000C, Some("1b0a"), "form feed is in the extension table"),
    (0x001B, None, "the escape is no character"),
    (0x0060, None, "the backtick is outside; smpplib has it"),
    (0x00A0, None, "the no-break space is outside"),
    (0x00C7, Some("09"), "capital Ç has 09"),
    (0x00E7, None, "small ç is outside; the oldest tables gave it 09"),
];

fn perl() -> BTreeMap<u32, &'static str> {
    lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(point, code)| Some((u32::from_str_radix(point, 16).ok()?, code)))
        .filter(|(point, _)| *point <= 0xFFFF)
        .collect()
}

/// The table without its header.
fn lines() -> impl Iterator<Item = &'static str> {
    TABLE.lines().filter(|line| !line.starts_with('#'))
}

fn ours(character: char) -> Option<String> {
    let septets = encode_gsm7(character.encode_utf8(&mut [0; 4]))?;
    Some(septets.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[test]
fn basic_multilingual_plane_agrees_with_perl() {
    assert_eq!(lines().last(), Some("asked 63488"), "the whole plane was asked");
    let perl = perl();
    assert_eq!(perl.len(), 137, "127 in the default alphabet, 10 in the extension");

    let mut differences = Vec::new();
    let mut asked = 0;
    for character in '\0'..='\u{FFFF}' {
        let point = u32::from(character);
        let (theirs, ours) = (perl.get(&point).copied(), ours(character));
        if theirs != ours.as_deref() {
            differences.push((point, theirs, ours.clone()));
        }
        let length = ours.map(|code| (code.len() / 2) as u8);
        assert_eq!(septets(character), length, "{character:?}");
        asked += 1;
    }
    assert_eq!(asked, 63_488);
    let documented: Vec<_> =
        DIFFERENCES.iter().map(|(point, theirs, ours, _)| (*point, *theirs, ours.map(str::to_owned))).collect();
    assert_eq!(differences, documented);
}

#[test]
fn disputed_characters_are_decided_individually() {
    let perl = perl();
    for (point, code, why) in DISPUTED {
        let character = char::from_u32(point).expect("a character");
        assert_eq!(perl.get(&point).copied(), code, "Perl: {why}");
        assert_eq!(ours(character).as_deref(), code, "ours: {why}");
    }
}

#[test]
fn gsm_alphabet_has_no_supplementary_characters() {
    for character in '\u{10000}'..=char::MAX {
        assert_eq!(septets(character), None, "{character:?}");
    }
}

#[test]
fn perl_table_is_up_to_date() {
    let run = Command::new("perl").args(["-MEncode", "-MEncode::GSM0338", "-e", PROGRAM]).output();
    let fresh = match run {
        Ok(run) if run.status.success() => String::from_utf8(run.stdout).expect("ASCII"),
        Ok(run) => {
            let error = String::from_utf8_lossy(&run.stderr);
            return eprintln!("NOT COMPARED: perl is here without Encode::GSM0338: {error}");
        }
        Err(error) => return eprintln!("NOT COMPARED: perl is not here: {error}"),
    };
    let version = |text: &str| text.lines().find(|l| l.starts_with("version ")).map(str::to_owned);
    if version(&fresh) != version(TABLE) {
        let (here, there) = (version(&fresh), version(TABLE));
        return eprintln!("NOT COMPARED: the module here is {here:?}, the table is of {there:?}");
    }
    assert!(fresh.lines().eq(lines()), "tests/fixtures/sms/gsm0338_perl.txt is out of date");
}

/// Texts in which what matters is frequent: plain letters, pairs, Welsh, typography, anything.
fn text() -> impl Strategy<Value = String> {
    let character = prop_oneof![
        8 => any::<u8>().prop_map(|b| char::from(b'a' + b % 26)),
        3 => prop::sample::select("€[]{}\\^~|\u{0C}".chars().collect::<Vec<_>>()),
        2 => prop::sample::select("@£éÇΔ\n\r \u{1B}`ç\t\0".chars().collect::<Vec<_>>()),
        1 => prop::sample::select("ŵŷâ’–…•\u{A0}\u{200B}\u{200D}\u{2028}".chars().collect::<Vec<_>>()),
        1 => prop::sample::select("😀👨𝒮".chars().collect::<Vec<_>>()),
        1 => any::<char>(),
    ];
    let gsm = prop_oneof![
        3 => any::<u8>().prop_map(|b| char::from(b'a' + b % 26)),
        2 => prop::sample::select("€[]{}\\^~|é".chars().collect::<Vec<_>>()),
    ];
    let ucs = prop_oneof![Just('ŵ'), Just('😀'), Just('a')];
    prop_oneof![collect(character, 0..40), collect(gsm, 100..700), collect(ucs, 50..300),]
}

fn collect(character: impl Strategy<Value = char>, length: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    prop::collection::vec(character, length).prop_map(String::from_iter)
}

/// What a text takes in an encoding, told without the code under test.
fn units(text: &str, encoding: Encoding) -> usize {
    match encoding {
        Encoding::Gsm7 => encode_gsm7(text).expect("GSM-7").len(),
        _ => text.encode_utf16().count(),
    }
}

/// Eight septets in seven octets by way of a string of bits, least significant first.
fn packed(septets: &[u8]) -> Vec<u8> {
    let bits: Vec<u8> = septets.iter().flat_map(|septet| (0..7).map(move |bit| septet >> bit & 1)).collect();
    bits.chunks(8).map(|octet| octet.iter().rev().fold(0, |value, bit| value << 1 | bit)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parts_fit_and_join_to_the_text(text in text(), long in any::<bool>()) {
        let header = if long { ConcatHeader::Long } else { ConcatHeader::Short };
        let whole = count_with(&text, header);
        let encoding = whole.encoding();
        prop_assert_eq!(encoding == Encoding::Gsm7, text.chars().all(|c| septets(c).is_some()));
        prop_assert_eq!(whole.units(), units(&text, encoding));

        let parts: Vec<&str> = segments(&text, header).collect();
        prop_assert_eq!(parts.concat(), text.as_str());
        prop_assert_eq!(parts.len(), whole.segments());
        prop_assert_eq!(parts.len() == 1, whole.units() <= encoding.single());

        let room = if parts.len() == 1 { encoding.single() } else { encoding.part(header) };
        for (at, part) in parts.iter().enumerate() {
            let taken = units(part, encoding);
            prop_assert!(taken <= room, "part {} takes {} of {}", at, taken, room);
            if encoding == Encoding::Gsm7 {
                prop_assert!(!encode_gsm7(part).expect("GSM-7").ends_with(&[0x1B]), "half an escape");
            } else {
                let last = part.encode_utf16().last();
                prop_assert!(!last.is_some_and(|unit| (0xD800..0xDC00).contains(&unit)), "half a surrogate pair");
            }
            // Greedy: the first character of the next part would not have fitted.
            if let Some(next) = parts.get(at + 1).and_then(|next| next.chars().next()) {
                prop_assert!(taken + units(next.encode_utf8(&mut [0; 4]), encoding) > room);
            }
        }
    }

    #[test]
    fn folding_is_idempotent_and_leaves_letters(text in text()) {
        let folded = fold(&text);
        let again = fold(&folded);
        prop_assert_eq!(&again, &folded);
        prop_assert!(matches!(again, std::borrow::Cow::Borrowed(_)));
        let letters = |text: &str| text.chars().filter(|c| c.is_alphabetic()).collect::<String>();
        prop_assert_eq!(letters(&folded), letters(&text));
        prop_assert!(folded.chars().all(|c| folds(c).is_none()));
        if count(&text).encoding() == Encoding::Gsm7 {
            prop_assert_eq!(&folded, &text);
        }
    }

    #[test]
    fn encoding_round_trips(text in text()) {
        if let Some(septets) = encode_gsm7(&text) {
            prop_assert_eq!(decode_gsm7(&septets), text);
        }
    }

    #[test]
    fn packing_concatenates_septet_bits(septets in prop::collection::vec(0_u8..0x80, 0..200)) {
        prop_assert_eq!(pack(&septets), packed(&septets));
    }

    #[test]
    fn text_functions_never_panic(text in any::<String>(), bytes in any::<Vec<u8>>()) {
        let _ = (keyword(&text), fold(&text), count(&text), decode_gsm7(&bytes), pack(&bytes));
        prop_assert!(decode_gsm7(&bytes).chars().count() <= bytes.len());
    }
}

#[test]
fn letters_do_not_fold() {
    for character in '\0'..=char::MAX {
        if let Some(instead) = folds(character) {
            assert!(!character.is_alphanumeric(), "{character:?}");
            assert!(instead.chars().all(|c| septets(c) == Some(1)), "{character:?}");
            assert_eq!(septets(character), None, "{character:?} is in the alphabet already");
        }
    }
}
