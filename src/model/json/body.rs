//! Bodies whose strings are all readable, and the bytes behind each piece.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use super::{Member, read};

/// A JSON body whose strings are all readable, and from which each event's raw bytes are cut.
///
/// Bytes that are not UTF-8, and unpaired surrogates, are read as U+FFFD. The raw bytes remain exactly as received.
pub struct Json<'b> {
    body: &'b Bytes,
    pub(super) text: Cow<'b, str>,
    /// The offsets in `text` and `body` at which both continue after a part that differs in length.
    resumes: Vec<[usize; 2]>,
    /// The parts of the body that are read as U+FFFD.
    replaced: Vec<Range<usize>>,
}

impl<'b> Json<'b> {
    /// Prepares a body for parsing. Copies it only if something has to be replaced.
    #[inline]
    pub fn new(body: &'b Bytes) -> Self {
        match std::str::from_utf8(body) {
            Ok(text) if is_sound(body) => {
                Self { body, text: Cow::Borrowed(text), resumes: Vec::new(), replaced: Vec::new() }
            }
            _ => Repair::of(body),
        }
    }

    /// Returns the body as text.
    pub fn text(&self) -> &str {
        self.text.strip_prefix('\u{FEFF}').unwrap_or(&self.text)
    }

    /// Parses the body, or returns `None` if it is not one JSON value of this shape.
    pub fn read<'a, T: Member<'a>>(&'a self) -> Option<T> {
        read(self.text())
    }

    /// Returns the bytes as received for a piece of [`text`](Self::text).
    pub fn raw(&self, piece: &str) -> Bytes {
        let start = piece.as_ptr().addr().checked_sub(self.text.as_ptr().addr());
        let bounds = start.map(|start| (self.body_offset(start), self.body_offset(start.saturating_add(piece.len()))));
        match bounds {
            Some((from, to)) if from <= to && to <= self.body.len() => self.body.slice(from..to),
            // Not a piece of this body.
            _ => Bytes::copy_from_slice(piece.as_bytes()),
        }
    }

    /// Converts an offset in the text to one in the body.
    fn body_offset(&self, at: usize) -> usize {
        let before = self.resumes.partition_point(|[text, _]| *text <= at);
        let resume = before.checked_sub(1).and_then(|last| self.resumes.get(last));
        resume.map_or(at, |[text, body]| body.saturating_add(at - text))
    }

    /// Returns the bytes that were read as U+FFFD, sorted, because members may come in any order.
    pub(super) fn replaced(&self) -> Vec<Vec<u8>> {
        let parts = self.replaced.iter().filter_map(|part| self.body.get(part.clone()));
        let mut parts: Vec<_> = parts.map(<[u8]>::to_ascii_lowercase).collect();
        parts.sort_unstable();
        parts
    }
}

impl fmt::Debug for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Json").field("len", &self.body.len()).finish_non_exhaustive()
    }
}

/// Returns `true` if all strings of a body are readable as they are, as is usual.
fn is_sound(body: &[u8]) -> bool {
    // No early exit, so that the compiler can vectorise it.
    let has_escape = body.iter().fold(false, |found, byte| found | (*byte == b'\\'));
    if !has_escape && !has_control(body) {
        return true;
    }
    let mut at = 0;
    while let Some(next) = body.get(at..).and_then(|rest| memchr::memchr(b'\\', rest)) {
        at += next;
        match escape(body, at) {
            Some(len) => at += len,
            None => return false,
        }
    }
    // Line breaks and tabs are allowed between values, but not within strings.
    !has_control(body) || strings(body).all(|string| !has_control(string))
}

/// No early exit, so that the compiler can vectorise it.
fn has_control(bytes: &[u8]) -> bool {
    bytes.iter().fold(u8::MAX, |least, byte| least.min(*byte)) < b' '
}

/// Returns the length of an escape that encodes a character; `None` for an unpaired surrogate or an invalid escape.
fn escape(json: &[u8], at: usize) -> Option<usize> {
    match json.get(at.checked_add(1)?)? {
        b'u' => match (unit(json, at)?, unit(json, at + 6)) {
            (0xD800..=0xDBFF, Some(0xDC00..=0xDFFF)) => Some(12),
            (0xD800..=0xDFFF, _) => None,
            _ => Some(6),
        },
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        _ => None,
    }
}

/// Returns the UTF-16 unit of the escape at `at`.
fn unit(json: &[u8], at: usize) -> Option<u32> {
    let [b'\\', b'u', hex @ ..] = json.get(at..at.checked_add(6)?)? else { return None };
    hex.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
}

/// Returns the contents of each string, without the quotes.
fn strings(json: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + memchr::memchr(b'"', json.get(at..)?)? + 1;
        let end = string_end(json, start);
        at = end + 1;
        json.get(start..end)
    })
}

/// Returns the offset of the closing quote of a string, or of the end of the text.
pub(super) fn string_end(json: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(next) = json.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += next;
        match json.get(at) {
            Some(b'\\') => at += 2,
            _ => return at,
        }
    }
    json.len()
}

/// Rewrites a body so that each of its strings is readable.
struct Repair<'b> {
    json: Json<'b>,
    text: String,
    in_string: bool,
}

impl<'b> Repair<'b> {
    fn of(body: &'b Bytes) -> Json<'b> {
        let json = Json { body, text: Cow::Borrowed(""), resumes: Vec::new(), replaced: Vec::new() };
        let mut repair = Self { json, text: String::with_capacity(body.len() + 8), in_string: false };
        let mut read = 0;
        for chunk in body.utf8_chunks() {
            repair.valid(chunk.valid(), read);
            read += chunk.valid().len();
            let invalid = read..read + chunk.invalid().len();
            if !invalid.is_empty() {
                read = invalid.end;
                repair.text.push(char::REPLACEMENT_CHARACTER);
                repair.json.replaced.push(invalid);
                repair.resume(read);
            }
        }
        Json { text: Cow::Owned(repair.text), ..repair.json }
    }

    /// Appends valid text from an offset in the body.
    fn valid(&mut self, text: &str, place: usize) {
        let bytes = text.as_bytes();
        let (mut at, mut copied) = (0, 0);
        while let Some(byte) = bytes.get(at) {
            let (written, len) = match byte {
                b'"' => {
                    self.in_string = !self.in_string;
                    at += 1;
                    continue;
                }
                b'\\' if self.in_string => match (escape(bytes, at), unit(bytes, at)) {
                    (Some(len), _) => {
                        at += len;
                        continue;
                    }
                    (None, half) => ("\\uFFFD".to_owned(), if half.is_some() { 6 } else { 1 }),
                },
                byte if self.in_string && *byte < b' ' => (format!("\\u{byte:04x}"), 1),
                _ => {
                    at += 1;
                    continue;
                }
            };
            self.text.push_str(text.get(copied..at).unwrap_or_default());
            self.text.push_str(&written);
            if *byte == b'\\' {
                self.json.replaced.push(place + at..place + at + len);
            }
            at += len;
            copied = at;
            self.resume(place + at);
        }
        self.text.push_str(text.get(copied..).unwrap_or_default());
    }

    fn resume(&mut self, body: usize) {
        self.json.resumes.push([self.text.len(), body]);
    }
}
