//! Phone numbers, in every spelling, and the lengths that they can have.

use std::str::FromStr;

use super::masked::masked_text;
use super::{lengths, uk};
use crate::model::error::{Error, Result};

/// A phone number in E.164: `+`, country code and number, 7 to 15 digits.
///
/// Parses the forms that people type:
///
/// - UK national: `07700 900123`, `020 7946 0000`, and a mobile without its 0, `7700 900123`;
/// - UK international: `+44 7700 900123`, `0044 (0)7700 900123`, `447700900123`;
/// - any other number with its `+` or `00`: `+353 (0)86 123 4567`.
///
/// Spaces, dots, hyphens, slashes, brackets, invisible marks and surrounding white space are ignored. A `(0)` after the
/// country code is dropped, and so is a bare 0 in countries with that trunk prefix. In countries where the 0 belongs to
/// the number, such as Italy, it is kept.
///
/// Parsing is strict, so that a mistyped number fails before sending. A UK number must be in a range that is in use or
/// that Ofcom reserves for drama (07700 900000 to 900999, 01632 960000 to 960999 and others). Any other number must
/// have a length that is valid in its country. Both follow libphonenumber's metadata, version 9.0.43. Two numbers in
/// one, such as `01632 960012/3`, are refused. Only the network can confirm that a number is in service.
///
/// [`from_digits`](Self::from_digits) parses numbers written by gateways and is lenient: a number that a message came
/// from exists, whatever a table contains. Stored numbers are deserialised by the same rule.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Phone(Box<str>);

impl Phone {
    /// Parses a phone number. See [`Phone`] for the accepted forms.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecipient`](crate::ErrorKind::InvalidRecipient) with the rule that it breaks.
    pub fn new(number: &str) -> Result<Self> {
        number.parse()
    }

    /// Returns the number in E.164, with its `+`. Personal data: keep it out of logs.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the digits without the `+`, as some gateways require. Personal data.
    pub fn digits(&self) -> &str {
        self.0.trim_start_matches('+')
    }

    /// Returns `true` if it is in the UK numbering plan, which includes the Isle of Man and the Channel Islands.
    pub fn is_uk(&self) -> bool {
        self.0.starts_with("+44")
    }

    /// Returns `true` if it is a UK mobile number.
    ///
    /// Personal numbers (070) and pagers (076) are not, except for the Isle of Man's mobiles (07624).
    pub fn is_uk_mobile(&self) -> bool {
        self.0.strip_prefix("+447").is_some_and(|rest| rest.starts_with("624") || !rest.starts_with(['0', '6']))
    }
}

impl FromStr for Phone {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let spelled = Spelled::read(text)?;
        let (code, national) = spelled.e164_parts()?;
        if !(7..=15).contains(&(code.len() + national.len())) {
            return Err(Error::recipient(LENGTH));
        }
        if code == "44" {
            is_in_uk_plan(national)?;
            if spelled.after_hyphen == Some(1) {
                return Err(Error::recipient(ONE_NUMBER));
            }
        } else {
            has_possible_length(code, national)?;
        }
        Self::e164(code, national)
    }
}

impl Phone {
    /// Parses a number as written by gateways: the digits of E.164, with or without the `+`.
    ///
    /// Lenient, unlike [`FromStr`]: the ranges and lengths of a country are not checked, because they change and the
    /// gateway has seen the number in use. Use it also for numbers stored as [`as_str`](Self::as_str), and for ranges
    /// newer than this version.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecipient`](crate::ErrorKind::InvalidRecipient) with the rule that it breaks.
    pub fn from_digits(digits: &str) -> Result<Self> {
        let digits = digits.strip_prefix('+').unwrap_or(digits);
        if digits.bytes().all(|b| b.is_ascii_digit()) {
            Self::e164(digits, "")
        } else {
            Err(Error::recipient("must contain digits only"))
        }
    }

    /// Parses a number that a gateway wrote in one of the forms that people type; as lenient as
    /// [`from_digits`](Self::from_digits).
    #[cfg_attr(not(feature = "notify"), allow(dead_code, reason = "the other gateways write E.164"))]
    pub(crate) fn from_gateway(text: &str) -> Result<Self> {
        let spelled = Spelled::read(text)?;
        let (code, national) = spelled.e164_parts()?;
        Self::e164(code, national)
    }

    /// Builds a number from the digits of its two parts, or from all of them in the first.
    fn e164(code: &str, national: &str) -> Result<Self> {
        if !(7..=15).contains(&(code.len() + national.len())) {
            return Err(Error::recipient(LENGTH));
        }
        if code.starts_with('0') {
            return Err(Error::recipient(ZERO_CODE));
        }
        let uk = if national.is_empty() { code.strip_prefix("44") } else { (code == "44").then_some(national) };
        uk.map_or(Ok(()), has_uk_length)?;
        let mut number = String::with_capacity(1 + code.len() + national.len());
        number.push('+');
        number.push_str(code);
        number.push_str(national);
        Ok(Self(number.into()))
    }
}

const LENGTH: &str = "must have 7 to 15 digits with its country code";
const ZERO_CODE: &str = "has a country code that starts with 0";
const ONE_NUMBER: &str = "must be one number: write a second one out and apart";

/// The digits of a number without separators, and its prefix.
struct Spelled {
    digits: [u8; Self::MAX],
    len: usize,
    /// `true` if it started with `+`.
    plus: bool,
    /// `true` if a `(0)` after the country code was dropped.
    dropped_zero: bool,
    /// The digits after the last hyphen and after the last slash.
    after_hyphen: Option<usize>,
    after_slash: Option<usize>,
}

impl Spelled {
    /// Longer than any number with `00` before it.
    const MAX: usize = 20;

    fn read(text: &str) -> Result<Self> {
        let mut spelled = Self {
            digits: [0; Self::MAX],
            len: 0,
            plus: false,
            dropped_zero: false,
            after_hyphen: None,
            after_slash: None,
        };
        let mut rest = text.trim().chars();
        while let Some(c) = rest.next() {
            match c {
                '0'..='9' => spelled.push(c)?,
                '+' if spelled.len == 0 && !spelled.plus => spelled.plus = true,
                '(' => {
                    let within = rest.as_str().trim_start_matches(' ').strip_prefix('0');
                    let after = within.and_then(|rest| rest.trim_start_matches(' ').strip_prefix(')'));
                    if let Some(after) = after.filter(|_| spelled.ends_in_country_code()) {
                        spelled.dropped_zero = true;
                        rest = after.chars();
                    }
                }
                ' ' | '.' | ')' | '\t' => {}
                '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' => spelled.after_hyphen = Some(0),
                '/' => spelled.after_slash = Some(0),
                // Pasted from a web page or a contact card: spaces and direction marks.
                '\u{00A0}'
                | '\u{00AD}'
                | '\u{2000}'..='\u{200F}'
                | '\u{2028}'..='\u{202F}'
                | '\u{2060}'..='\u{2069}'
                | '\u{3000}'
                | '\u{FEFF}' => {}
                _ => return Err(Error::recipient("must contain only digits, spaces, brackets and a leading +")),
            }
        }
        // 030/123456 is an area code and a number; 01632 960012/3 is two numbers.
        if spelled.after_slash.is_some_and(|digits| digits < 3) {
            return Err(Error::recipient(ONE_NUMBER));
        }
        Ok(spelled)
    }

    fn push(&mut self, digit: char) -> Result<()> {
        let place = self.digits.get_mut(self.len).ok_or_else(|| Error::recipient(LENGTH))?;
        *place = digit as u8;
        self.len += 1;
        for after in [&mut self.after_hyphen, &mut self.after_slash] {
            *after = after.map(|digits| digits + 1);
        }
        Ok(())
    }

    fn as_str(&self) -> &str {
        self.digits.get(..self.len).and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or_default()
    }

    /// Returns `true` if the digits so far are a country code whose national numbers do not begin with 0.
    fn ends_in_country_code(&self) -> bool {
        let digits = self.as_str();
        let code = if self.plus { digits } else { digits.strip_prefix("00").unwrap_or(digits) };
        let international = self.plus || code.len() < digits.len() || code == "44";
        international && lengths_of(code).is_some_and(|lengths| lengths & lengths::LEADING_ZERO == 0)
    }

    /// Returns the country code, and the national number without a trunk prefix.
    fn e164_parts(&self) -> Result<(&str, &str)> {
        let digits = self.as_str();
        let international = match digits {
            digits if self.plus => digits,
            "" => return Err(Error::recipient("is empty")),
            digits => match (digits.strip_prefix("00"), digits.strip_prefix('0')) {
                (Some(international), _) => international,
                (None, Some(national)) => return Ok(("44", without_trunk_zero(national))),
                (None, None) if digits.starts_with("44") && digits.len() >= 11 => digits,
                (None, None) if digits.starts_with('7') && digits.len() == 10 => return Ok(("44", digits)),
                _ => return Err(Error::recipient("must start with 0 (a UK number) or with + and its country code")),
            },
        };
        if international.is_empty() {
            return Err(Error::recipient("is empty"));
        }
        if international.starts_with('0') {
            return Err(Error::recipient(ZERO_CODE));
        }
        if !(7..=16).contains(&international.len()) {
            return Err(Error::recipient(LENGTH));
        }
        let split = (1..=3).find_map(|len| {
            let (code, national) = international.split_at_checked(len)?;
            Some((code, national, lengths_of(code)?))
        });
        let Some((code, national, lengths)) = split else {
            return Err(Error::recipient("has a country code that is not in use"));
        };
        if lengths & lengths::TRUNK_ZERO == 0 {
            return Ok((code, national));
        }
        let national = if self.dropped_zero { national } else { without_trunk_zero(national) };
        // It would be dropped when the number is parsed again.
        if national.starts_with('0') && code != "44" {
            return Err(Error::recipient("has a 0 after the country code that belongs to no number"));
        }
        Ok((code, national))
    }
}

fn without_trunk_zero(national: &str) -> &str {
    national.strip_prefix('0').unwrap_or(national)
}

/// Returns the mask of a country's national number lengths.
fn lengths_of(code: &str) -> Option<u32> {
    if !(1..=3).contains(&code.len()) {
        return None;
    }
    let code: u16 = code.parse().ok()?;
    let at = lengths::CALLING_CODES.binary_search_by_key(&code, |(code, _)| *code).ok()?;
    lengths::CALLING_CODES.get(at).map(|(_, lengths)| *lengths)
}

fn has_possible_length(code: &str, national: &str) -> Result<()> {
    let lengths = lengths_of(code).unwrap_or_default() & !(lengths::TRUNK_ZERO | lengths::LEADING_ZERO);
    if lengths & 1_u32.checked_shl(national.len() as u32).unwrap_or_default() != 0 {
        return Ok(());
    }
    let known = (0..u32::BITS).filter(|length| lengths & (1 << length) != 0).map(|length| length.to_string());
    let known = known.collect::<Vec<_>>().join(" or ");
    let uk = if code == "7" { "; a UK mobile number starts with 07 or +44" } else { "" };
    Err(Error::recipient(format!("must have {known} digits after the country code {code}{uk}")))
}

/// Checks every UK number, whatever its source.
fn has_uk_length(national: &str) -> Result<()> {
    match national.len() {
        // It would be parsed as the trunk prefix when read from a store.
        _ if national.starts_with('0') => Err(Error::recipient("has a 0 after +44 that belongs to no number")),
        10 => Ok(()),
        _ if national.starts_with('7') => {
            Err(Error::recipient("must have 11 digits as a UK mobile number, such as 07700 900123"))
        }
        9 => Ok(()),
        7 if is_short_uk_number(national) => Ok(()),
        _ => Err(Error::recipient("must have 10 or 11 digits as a UK number with its leading 0")),
    }
}

/// Returns `true` for 0800 1111 and 0845 46 4x.
fn is_short_uk_number(national: &str) -> bool {
    national == "8001111" || national.len() == 7 && national.starts_with("845464")
}

fn is_in_uk_plan(national: &str) -> Result<()> {
    has_uk_length(national)?;
    let start = |digits: usize| national.get(..digits).and_then(|start| start.parse::<u32>().ok()).unwrap_or_default();
    let is_within = |ranges: &[(u32, u32)], start: u32| {
        let after = ranges.partition_point(|(low, _)| *low <= start);
        after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, high)| start <= *high)
    };
    match national.len() {
        10 if is_within(&uk::TEN, start(7)) || uk::DRAMA.contains(&start(7)) => Ok(()),
        9 if is_within(&uk::NINE, start(6)) => Ok(()),
        7 => Ok(()),
        9 => Err(Error::recipient("must have 11 digits with its leading 0: its area has no shorter numbers")),
        _ => Err(Error::recipient("is not in a UK range that is in use: check its first digits")),
    }
}

impl Phone {
    /// A stored number was accepted earlier, perhaps from a gateway, so no table is checked again.
    fn read_stored(text: &str) -> Result<Self> {
        if text.starts_with('+') { Self::from_digits(text).or_else(|_| text.parse()) } else { text.parse() }
    }
}

masked_text!(Phone);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::address::{Address, Sender};

    #[test]
    fn uk_number_parses_in_every_spelling() {
        for spelling in [
            "07700900123",
            "07700 900123",
            "+447700900123",
            "+44 7700 900123",
            "00447700900123",
            "447700900123",
            "0044 (0)7700 900123",
            "+44 (0) 7700-900-123",
            "\u{202A}+44 7700 900123\u{202C}",
            "07700\u{00A0}900123",
        ] {
            assert_eq!(Phone::new(spelling).unwrap().as_str(), "+447700900123", "{spelling}");
        }
        assert_eq!(Phone::new("020 7946 0000").unwrap().as_str(), "+442079460000");
        assert_eq!(Phone::new("+1 202 555 0123").unwrap().as_str(), "+12025550123");
    }

    #[test]
    fn wrong_number_error_names_the_rule() {
        for (number, rule) in [
            ("", "is empty"),
            ("0770090012", "11 digits"),
            ("077009001234", "11 digits"),
            ("07700 9OOOOO", "only digits"),
            ("60777", "must start with 0"),
            ("+0123456789", "starts with 0"),
            ("+123456", "7 to 15 digits"),
            ("+1234567890123456", "7 to 15 digits"),
            ("07700900123+", "only digits"),
            ("GB.10000000000000000001", "only digits"),
        ] {
            let error = Phone::new(number).unwrap_err();
            assert_eq!(error.field(), Some("to"));
            assert!(error.to_string().contains(rule), "{number}: {error}");
        }
    }

    #[test]
    fn zero_in_brackets_after_country_code_is_dropped() {
        for (spelled, number) in [
            ("+353 (0)86 123 4567", "+353861234567"),
            ("00353 (0) 86 123 4567", "+353861234567"),
            ("(+353) ( 0 )86 123 4567", "+353861234567"),
            ("+49 (0)30/123456", "+4930123456"),
            ("+33(0)6 12 34 56 78", "+33612345678"),
            ("+34 (0)612 345 678", "+34612345678"),
            ("+1 (0) 202 555 0123", "+12025550123"),
            ("44 (0)7700 900123", "+447700900123"),
            ("+44(0)20 7946 0000", "+442079460000"),
            ("(0)7700 900123", "+447700900123"),
            // A bare 0 as the trunk prefix.
            ("+353 086 123 4567", "+353861234567"),
            ("+49 (030) 123456", "+4930123456"),
            // In Italy the 0 belongs to the number.
            ("+39 (0)6 1234 5678", "+390612345678"),
            ("+39 06 1234 5678", "+390612345678"),
        ] {
            assert_eq!(Phone::new(spelled).unwrap().as_str(), number, "{spelled}");
        }
        assert!(Phone::new("020 (0)7946 0000").is_err(), "not behind a country code");
        assert!(Phone::new("+49 (0)0151 2345678").is_err(), "one 0 too many");
    }

    #[test]
    fn uk_mobile_parses_without_its_zero_and_with_line_break() {
        for spelled in ["7700 900123", "7700900123", "07700 900123\r\n", " 07700 900123 \n", "+44 7700 900123\r\n\r\n"]
        {
            assert_eq!(Phone::new(spelled).unwrap().as_str(), "+447700900123", "{spelled:?}");
        }
        for wrong in ["7700 90012", "7700 9001234", "1632 960001", "7700\n900123"] {
            assert!(Phone::new(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn number_outside_its_plan_is_refused_with_the_rule() {
        for (number, rule) in [
            ("+7700900123", "must have 10 or 14 digits after the country code 7; a UK mobile number starts with 07"),
            ("01632 96001/2", "one number"),
            ("01632 960012/3", "one number"),
            ("01632 96001-2", "one number"),
            ("+353 86 123 456/7", "one number"),
            ("07700 900123/07700 900456", "7 to 15 digits"),
            ("01632 960001, 960002", "only digits"),
            ("020 7946 000", "must have 11 digits with its leading 0"),
            ("01632 96001", "must have 11 digits with its leading 0"),
            ("+44 7700 90012", "11 digits as a UK mobile number"),
            ("01234 567890", "accepted"),
            ("04321 567890", "not in a UK range"),
            ("+44 7700 201000", "not in a UK range"),
            ("+1 202 555 012", "must have 10 digits after the country code 1"),
            ("+210 123 456 789", "country code that is not in use"),
        ] {
            match Phone::new(number) {
                Ok(_) => assert_eq!(rule, "accepted", "{number}"),
                Err(error) => assert!(error.to_string().contains(rule), "{number}: {error}"),
            }
        }
    }

    #[test]
    fn numbers_for_drama_are_accepted() {
        for number in ["07700 900000", "07700 900999", "020 7946 0123", "01632 960999", "0115 496 0000", "08081 570000"]
        {
            assert!(Phone::new(number).is_ok(), "{number}");
        }
        assert!(Phone::new("01632 961000").is_err());
    }

    #[test]
    fn results_agree_with_libphonenumber() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sms/phone_verdicts.csv");
        let file = std::fs::read_to_string(file).unwrap();
        let mut uk = 0;
        for line in file.lines() {
            let (number, verdict) = line.split_once(',').unwrap();
            let expected = match verdict {
                "0" => None,
                "1" => Some(number),
                e164 => Some(e164),
            };
            let parsed = Phone::new(number).ok();
            assert_eq!(parsed.as_ref().map(Phone::as_str), expected, "{number}");
            if let Some(national) = number.strip_prefix("+44").filter(|national| !national.starts_with('0')) {
                assert_eq!(Phone::new(&format!("0{national}")).ok(), parsed, "{number}, typed with its 0");
                uk += 1;
            }
        }
        assert!(file.lines().count() > 4_500 && uk > 1_500, "{uk}");
    }

    #[test]
    fn parsed_number_parses_again_unchanged() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sms/phone_verdicts.csv");
        for line in std::fs::read_to_string(file).unwrap().lines() {
            let (number, _) = line.split_once(',').unwrap();
            if let Ok(phone) = Phone::new(number) {
                assert_eq!(Phone::new(phone.as_str()).unwrap(), phone, "{number}");
                assert_eq!(Phone::from_digits(phone.digits()).unwrap(), phone, "{number}");
            }
        }
    }

    #[test]
    fn number_from_a_gateway_survives_a_store() {
        // Lengths and ranges that no table contains.
        for digits in ["7700900123", "447700201000", "2101234567", "+35386123456789"] {
            let phone = Phone::from_digits(digits).unwrap();
            assert!(Phone::new(phone.as_str()).is_err(), "{digits}");
            let json = serde_json::to_string(&Address::from(phone.clone())).unwrap();
            assert_eq!(serde_json::from_str::<Address>(&json).unwrap(), phone.into(), "{digits}");
            let sender = format!("+{}", digits.trim_start_matches('+'));
            assert!(matches!(sender.parse().unwrap(), Sender::Phone(_)), "{digits}");
        }
        for (spelled, number) in
            [("07700 201000", "+447700201000"), ("7700201000", "+447700201000"), ("+353 (0)86 12", "+3538612")]
        {
            assert_eq!(Phone::from_gateway(spelled).ok().as_ref().map(Phone::as_str), Some(number), "{spelled}");
        }
        for garbage in ["12", "0123456789", "4412", "440123456789", "1234567890123456", "44x"] {
            assert!(Phone::from_digits(garbage).is_err(), "{garbage}");
        }
    }

    #[test]
    fn is_uk_mobile_excludes_other_numbers() {
        for (number, mobile) in [
            ("07700900123", true),
            ("07624300000", true),
            ("07012345678", false),
            ("07623456789", false),
            ("02079460000", false),
            ("+12025550123", false),
        ] {
            assert_eq!(Phone::new(number).unwrap().is_uk_mobile(), mobile, "{number}");
        }
    }
}
