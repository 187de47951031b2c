//! The GSM 7-bit alphabet of 3GPP TS 23.038.

/// Returns the septets of a character: 1, or 2 if it needs an escape; `None` outside the alphabet.
///
/// `ç` and the backtick are outside it; `Ç` is in it. The escape itself is not a character.
///
/// ```
/// use civic_messaging::medium::sms::septets;
///
/// assert_eq!([septets('£'), septets('€'), septets('ŵ')], [Some(1), Some(2), None]);
/// ```
#[must_use]
pub fn septets(character: char) -> Option<u8> {
    code(character).map(|code| 1 + (code >> 7))
}

/// Encodes a text in the GSM alphabet, one septet per byte, with an escape `0x1B` before each code of the extension
/// table.
///
/// `None` if a character is outside the alphabet.
///
/// ```
/// use civic_messaging::medium::sms::{decode_gsm7, encode_gsm7, pack};
///
/// let septets = encode_gsm7("£5 or €6").expect("all of it is in the alphabet");
/// assert_eq!(septets, [0x01, b'5', b' ', b'o', b'r', b' ', 0x1B, 0x65, b'6']);
/// assert_eq!(decode_gsm7(&septets), "£5 or €6");
/// assert_eq!(pack(&septets).len(), 8);
/// assert_eq!(encode_gsm7("dŵr"), None);
/// ```
#[must_use]
pub fn encode_gsm7(text: &str) -> Option<Vec<u8>> {
    let mut septets = Vec::with_capacity(text.len());
    for character in text.chars() {
        let code = code(character)?;
        if code & EXTENDED != 0 {
            septets.push(ESCAPE);
        }
        septets.push(code & !EXTENDED);
    }
    Some(septets)
}

/// Decodes septets, one per byte. Never fails.
///
/// An escape with a code that the extension table lacks decodes to one space, as does an escape at the end; a byte of
/// `0x80` or more is not a septet and becomes U+FFFD.
#[must_use]
pub fn decode_gsm7(septets: &[u8]) -> String {
    let mut text = String::with_capacity(septets.len());
    let mut septets = septets.iter().copied();
    while let Some(septet) = septets.next() {
        text.push(if septet == ESCAPE {
            septets.next().and_then(extended).unwrap_or(' ')
        } else {
            DEFAULT.get(usize::from(septet)).copied().unwrap_or(char::REPLACEMENT_CHARACTER)
        });
    }
    text
}

/// Packs septets, one per byte, into octets: eight septets in seven octets.
///
/// The top bit of each byte is ignored. The last octet is padded with zero bits, and seven of them decode as `@`, so
/// the number of septets must be transmitted with the octets, as SMS does.
#[must_use]
pub fn pack(septets: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(septets.len() - septets.len() / 8);
    let (mut held, mut bits) = (0_u16, 0_u32);
    for septet in septets {
        held |= u16::from(septet & 0x7F) << bits;
        bits += 7;
        if bits >= 8 {
            octets.push((held & 0xFF) as u8);
            held >>= 8;
            bits -= 8;
        }
    }
    if bits > 0 {
        octets.push((held & 0xFF) as u8);
    }
    octets
}

/// The septet before a code of the extension table.
const ESCAPE: u8 = 0x1B;

/// The default alphabet of 3GPP TS 23.038 by code. The escape's position is never decoded as a character. 0x09 is `Ç`;
/// tables with `ç` there are wrong.
#[rustfmt::skip]
pub(super) const DEFAULT: [char; 128] = [
    '@', '£', '$', '¥', 'è', 'é', 'ù', 'ì', 'ò', 'Ç', '\n', 'Ø', 'ø', '\r', 'Å', 'å',
    'Δ', '_', 'Φ', 'Γ', 'Λ', 'Ω', 'Π', 'Ψ', 'Σ', 'Θ', 'Ξ', '\u{1B}', 'Æ', 'æ', 'ß', 'É',
    ' ', '!', '"', '#', '¤', '%', '&', '\'', '(', ')', '*', '+', ',', '-', '.', '/',
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', ':', ';', '<', '=', '>', '?',
    '¡', 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O',
    'P', 'Q', 'R', 'S', 'T', 'U', 'V', 'W', 'X', 'Y', 'Z', 'Ä', 'Ö', 'Ñ', 'Ü', '§',
    '¿', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o',
    'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z', 'ä', 'ö', 'ñ', 'ü', 'à',
];

/// The extension table: the codes after an escape.
#[rustfmt::skip]
pub(super) const EXTENSION: [(u8, char); 10] = [
    (0x0A, '\u{0C}'), (0x14, '^'), (0x28, '{'), (0x29, '}'), (0x2F, '\\'),
    (0x3C, '['), (0x3D, '~'), (0x3E, ']'), (0x40, '|'), (0x65, '€'),
];

/// Marks a code of the extension table in [`CODES`].
const EXTENDED: u8 = 0x80;
/// Marks a character without a code in [`CODES`]. The extension table has nothing at 0x7F that this could hide.
const NO_CODE: u8 = 0xFF;

/// The code of each character below U+0400; the euro sign is the only one above.
#[allow(clippy::indexing_slicing, reason = "done when compiling, where an index out of bounds is an error")]
static CODES: [u8; 0x400] = {
    let mut codes = [NO_CODE; 0x400];
    let mut at = 0;
    while at < DEFAULT.len() {
        if at != ESCAPE as usize {
            codes[DEFAULT[at] as usize] = at as u8;
        }
        at += 1;
    }
    let mut at = 0;
    while at < EXTENSION.len() {
        let (code, character) = EXTENSION[at];
        if (character as usize) < codes.len() {
            codes[character as usize] = EXTENDED | code;
        }
        at += 1;
    }
    codes
};

fn code(character: char) -> Option<u8> {
    match CODES.get(character as usize) {
        Some(&NO_CODE) => None,
        Some(&code) => Some(code),
        None if character == '€' => Some(EXTENDED | 0x65),
        None => None,
    }
}

fn extended(code: u8) -> Option<char> {
    EXTENSION.iter().find(|(extension, _)| *extension == code).map(|(_, character)| *character)
}

// Measuring.

/// Returns the septets of a text in the alphabet. A plain loop: `try_fold` takes twice as long.
pub(super) fn gsm_septets(text: &str) -> Option<usize> {
    let mut units = 0;
    for character in text.chars() {
        units += usize::from(septets(character)?);
    }
    Some(units)
}

/// Returns the septets of a text that is ASCII and in the alphabet, as nearly all texts are.
///
/// Plain comparisons over short chunks, which the compiler vectorises; a table lookup for each byte takes 50 % longer.
pub(super) fn ascii_septets(text: &str) -> Option<usize> {
    let mut septets = text.len();
    for chunk in text.as_bytes().chunks(128) {
        let (mut pairs, mut outside) = (0_u8, 0_u8); // 128 of either fit
        for &byte in chunk {
            pairs += u8::from(ascii_pair(byte));
            outside |= u8::from(!ascii_plain(byte) & !ascii_pair(byte));
        }
        if outside != 0 {
            return None;
        }
        septets += usize::from(pairs);
    }
    Some(septets)
}

const fn ascii_pair(byte: u8) -> bool {
    (byte >= b'[') & (byte <= b'^') | (byte >= b'{') & (byte <= b'~') | (byte == 0x0C)
}

const fn ascii_plain(byte: u8) -> bool {
    (byte >= b' ') & (byte < 0x7F) & (byte != b'`') | (byte == b'\n') | (byte == b'\r')
}
