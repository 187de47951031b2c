//! Lenient JSON parsing, in which a malformed value costs that value alone: see
//! [`adapter::json`](crate::adapter::json).

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, Range};

use bytes::Bytes;
#[doc(hidden)]
pub use serde::de::MapAccess;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::model::digest::Digest;

/// A JSON body whose strings are all readable, and from which each event's raw bytes are cut.
///
/// Bytes that are not UTF-8, and unpaired surrogates, are read as U+FFFD. The raw bytes remain exactly as received.
pub struct Json<'b> {
    body: &'b Bytes,
    text: Cow<'b, str>,
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
    fn replaced(&self) -> Vec<Vec<u8>> {
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
fn string_end(json: &[u8], start: usize) -> usize {
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

/// Parses a JSON value, or returns `None` if it is not one JSON value of this shape.
///
/// Usually one pass. If a value cannot be parsed at all, such as `1e999`, parses again member by member, down to 32
/// levels; anything deeper is absent.
pub fn read<'a, T: Member<'a>>(text: &'a str) -> Option<T> {
    let mut value = T::default();
    read_into(&mut value, text).then_some(value)
}

/// Parses a JSON value as [`read`] does, in place; returns `true` if it fits.
pub fn read_into<'a, T: Member<'a>>(value: &mut T, text: &'a str) -> bool {
    let mut once = serde_json::Deserializer::from_str(text);
    if let Ok(fits) = value.read(&mut once, Pass::ONCE)
        && once.end().is_ok()
    {
        return fits;
    }
    *value = T::default();
    let whole = serde_json::from_str::<&RawValue>(text);
    whole.is_ok_and(|whole| {
        value.read(&mut serde_json::Deserializer::from_str(whole.get()), Pass::PARTS).unwrap_or(false)
    })
}

/// Parses a JSON value as [`read`] does, but each part separately from the start, for callers that need the parts
/// unchanged.
pub fn read_parts<'a, T: Member<'a>>(text: &'a str) -> Option<T> {
    read_part(Piece(serde_json::from_str::<&RawValue>(text).ok()?.get()), Pass::PARTS)
}

/// Parses a part that was cut out during a pass over the parts.
pub fn read_part<'a, T: Member<'a>>(part: Piece<'a>, pass: Pass) -> Option<T> {
    let levels = pass.levels.map_or(Some(0), |levels| levels.checked_sub(1))?;
    let (mut value, pass) = (T::default(), Pass { levels: Some(levels) });
    let fits = value.read(&mut serde_json::Deserializer::from_str(part.get()), pass).unwrap_or(false);
    fits.then_some(value)
}

/// The parsing mode: one pass, or each part separately so that an error costs only that part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// The remaining levels, if each part is parsed separately: every level scans all that is below it again.
    levels: Option<u8>,
}

impl Pass {
    /// Returns `true` if everything is parsed in one pass.
    pub fn is_once(self) -> bool {
        self.levels.is_none()
    }

    const ONCE: Self = Self { levels: None };
    /// Deeper than any gateway nests.
    const PARTS: Self = Self { levels: Some(32) };
}

/// A type that a JSON value is parsed into; a value that does not fit leaves it unchanged.
///
/// Implemented by [`Text`], [`Piece`], [`List`], [`Occurrences`], `bool`, `f64`, `Option` and `Box` of them, and by the
/// types that [`lenient!`](crate::adapter::lenient) declares.
pub trait Member<'a>: Default {
    /// Parses a value, and returns `true` if it fits.
    ///
    /// # Errors
    /// Those of the JSON itself.
    #[inline]
    fn read<D: Deserializer<'a>>(&mut self, value: D, pass: Pass) -> Result<bool, D::Error> {
        value.deserialize_any(Reader { into: self, pass, lifetime: PhantomData })
    }

    /// Accepts a string.
    fn text(&mut self, text: Cow<'a, str>) -> bool {
        let _ = text;
        false
    }

    /// Accepts a number, and its text unless it was rounded.
    fn number(&mut self, number: f64, text: impl FnOnce() -> Option<String>) -> bool {
        let _ = (number, text);
        false
    }

    /// Accepts a boolean.
    fn boolean(&mut self, boolean: bool) -> bool {
        let _ = boolean;
        false
    }

    /// Accepts an object.
    ///
    /// # Errors
    /// Those of the JSON itself.
    fn object<M: MapAccess<'a>>(&mut self, mut members: M, pass: Pass) -> Result<bool, M::Error> {
        let _ = pass;
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(false)
    }

    /// Accepts an array.
    ///
    /// # Errors
    /// Those of the JSON itself.
    fn array<S: SeqAccess<'a>>(&mut self, mut elements: S, pass: Pass) -> Result<bool, S::Error> {
        let _ = pass;
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(false)
    }
}

/// The largest bound, 2 to the power of 53, below which an `f64` represents every integer.
const EXACT: f64 = 9_007_199_254_740_992.0;

struct Reader<'f, 'a, F> {
    into: &'f mut F,
    pass: Pass,
    lifetime: PhantomData<&'a ()>,
}

impl<'a, F: Member<'a>> DeserializeSeed<'a> for Reader<'_, 'a, F> {
    type Value = bool;

    fn deserialize<D: Deserializer<'a>>(self, value: D) -> Result<bool, D::Error> {
        self.into.read(value, self.pass)
    }
}

impl<'a, F: Member<'a>> Visitor<'a> for Reader<'_, 'a, F> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    #[inline]
    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<bool, E> {
        Ok(self.into.text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<bool, E> {
        Ok(self.into.text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<bool, E> {
        Ok(self.into.number(number as f64, || Some(number.to_string())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<bool, E> {
        Ok(self.into.number(number as f64, || Some(number.to_string())))
    }

    fn visit_f64<E>(self, number: f64) -> Result<bool, E> {
        // A longer number would be rounded to another one: somebody else's id.
        Ok(self.into.number(number, || (number.abs() < EXACT).then(|| number.to_string())))
    }

    fn visit_bool<E>(self, boolean: bool) -> Result<bool, E> {
        Ok(self.into.boolean(boolean))
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_map<M: MapAccess<'a>>(self, members: M) -> Result<bool, M::Error> {
        self.into.object(members, self.pass)
    }

    fn visit_seq<S: SeqAccess<'a>>(self, elements: S) -> Result<bool, S::Error> {
        self.into.array(elements, self.pass)
    }
}

/// Parses a part separately, unless it is too deep.
fn read_separately<'a, F: Member<'a>>(raw: &'a RawValue, into: &mut F, levels: u8) -> bool {
    let Some(levels) = levels.checked_sub(1) else { return false };
    let pass = Pass { levels: Some(levels) };
    into.read(&mut serde_json::Deserializer::from_str(raw.get()), pass).unwrap_or(false)
}

/// The value of a member, for [`lenient!`](crate::adapter::lenient).
#[derive(Debug)]
pub struct MemberValue<'m, M> {
    members: &'m mut M,
    pass: Pass,
}

impl<'m, M> MemberValue<'m, M> {
    #[doc(hidden)]
    pub fn new(members: &'m mut M, pass: Pass) -> Self {
        Self { members, pass }
    }

    /// Parses the value into a field.
    ///
    /// # Errors
    /// Those of the JSON itself.
    #[inline]
    pub fn read<'a, F: Member<'a>>(self, field: &mut F) -> Result<(), M::Error>
    where
        M: MapAccess<'a>,
    {
        if let Some(levels) = self.pass.levels {
            read_separately(self.members.next_value()?, field, levels);
        } else {
            self.members.next_value_seed(Reader { into: field, pass: self.pass, lifetime: PhantomData })?;
        }
        Ok(())
    }

    /// Skips the value.
    ///
    /// # Errors
    /// Those of the JSON itself.
    pub fn skip<'a>(self) -> Result<(), M::Error>
    where
        M: MapAccess<'a>,
    {
        self.members.next_value::<IgnoredAny>().map(|_| ())
    }
}

/// The name of a member.
#[doc(hidden)]
#[derive(Debug)]
pub struct Name<'a>(Cow<'a, str>);

impl Name<'_> {
    #[doc(hidden)]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'a> Name<'a> {
    #[doc(hidden)]
    pub fn into_text(self) -> Cow<'a, str> {
        self.0
    }
}

impl<'a> Deserialize<'a> for Name<'a> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'a> Visitor<'a> for Names {
            type Value = Name<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a member")
            }

            #[inline]
            fn visit_borrowed_str<E>(self, name: &'a str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Names)
    }
}

/// A string, or a number in place of a string, as text; `None` for anything else.
///
/// Borrows from the body unless the string has escapes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Text<'a>(pub Option<Cow<'a, str>>);

impl Text<'_> {
    /// Returns the text, which may be empty.
    pub fn as_deref(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Returns the text unless it is empty.
    pub fn some(&self) -> Option<&str> {
        self.as_deref().filter(|text| !text.is_empty())
    }

    /// Returns the text if it can be an id: not blank, and decoded intact.
    pub fn id(&self) -> Option<&str> {
        self.as_deref().filter(|id| !id.trim().is_empty() && !id.contains(char::REPLACEMENT_CHARACTER))
    }

    /// Returns an owned copy of the text, which may be empty.
    pub fn to_text(&self) -> Option<String> {
        self.as_deref().map(str::to_owned)
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Text(masked)" } else { "Text(none)" })
    }
}

impl<'a> Member<'a> for Text<'a> {
    #[inline]
    fn text(&mut self, text: Cow<'a, str>) -> bool {
        self.0 = Some(text);
        true
    }

    fn number(&mut self, _: f64, text: impl FnOnce() -> Option<String>) -> bool {
        let text = text().map(Cow::Owned);
        let exact = text.is_some();
        self.0 = text.or_else(|| self.0.take());
        exact
    }
}

/// A JSON value exactly as in the body.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a>(&'a str);

impl<'a> Piece<'a> {
    /// Creates a piece from a complete JSON text.
    pub fn whole(json: &'a str) -> Self {
        Self(json)
    }

    /// Returns the JSON of the value.
    pub fn get(&self) -> &'a str {
        self.0
    }
}

impl Default for Piece<'_> {
    fn default() -> Self {
        Self("null")
    }
}

impl fmt::Debug for Piece<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Piece({} bytes)", self.0.len())
    }
}

impl<'a> Member<'a> for Piece<'a> {
    fn read<D: Deserializer<'a>>(&mut self, value: D, _: Pass) -> Result<bool, D::Error> {
        self.0 = <&RawValue>::deserialize(value)?.get();
        Ok(self.0 != "null")
    }
}

/// An array. An object in its place is an array of one; any other value has no items.
#[derive(Clone)]
pub struct List<T> {
    /// The elements, each as far as it could be parsed.
    pub items: Vec<T>,
    /// `true` if the value was neither an array nor an object nor `null`, or an element did not fit.
    pub malformed: bool,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { items: Vec::new(), malformed: false }
    }
}

impl<T> fmt::Debug for List<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("List").field("len", &self.items.len()).field("malformed", &self.malformed).finish()
    }
}

impl<T> Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items
    }
}

impl<'a, T: Member<'a>> Member<'a> for List<T> {
    fn read<D: Deserializer<'a>>(&mut self, value: D, pass: Pass) -> Result<bool, D::Error> {
        if pass.is_once() {
            return value.deserialize_any(Reader { into: self, pass, lifetime: PhantomData });
        }
        let mut piece = Piece::default();
        if !piece.read(value, pass)? {
            return Ok(false);
        }
        match piece.get().as_bytes().first() {
            Some(b'{') => {
                let one = read_part::<T>(piece, pass);
                self.malformed |= one.is_none();
                let fits = one.is_some();
                self.items.extend(one);
                Ok(fits)
            }
            _ => Ok(serde_json::Deserializer::from_str(piece.get())
                .deserialize_any(Reader { into: self, pass, lifetime: PhantomData })
                .unwrap_or(false)),
        }
    }

    fn text(&mut self, _: Cow<'a, str>) -> bool {
        self.malformed = true;
        false
    }

    fn number(&mut self, _: f64, _: impl FnOnce() -> Option<String>) -> bool {
        self.malformed = true;
        false
    }

    fn boolean(&mut self, _: bool) -> bool {
        self.malformed = true;
        false
    }

    fn object<M: MapAccess<'a>>(&mut self, members: M, pass: Pass) -> Result<bool, M::Error> {
        push(&mut self.items, T::default());
        if let [.., item] = self.items.as_mut_slice()
            && item.object(members, pass)?
        {
            return Ok(true);
        }
        self.items.pop();
        // An element that is kept unchanged has to be cut out in another pass.
        Err(M::Error::custom("an object in place of an array"))
    }

    fn array<S: SeqAccess<'a>>(&mut self, mut elements: S, pass: Pass) -> Result<bool, S::Error> {
        while let Some(fits) = elements.next_element_seed(Element { items: &mut self.items, pass })? {
            self.malformed |= !fits;
        }
        Ok(true)
    }
}

/// Parses an element in its place in the list, so that it is not moved.
struct Element<'f, T> {
    items: &'f mut Vec<T>,
    pass: Pass,
}

impl<'a, T: Member<'a>> DeserializeSeed<'a> for Element<'_, T> {
    type Value = bool;

    #[inline]
    fn deserialize<D: Deserializer<'a>>(self, value: D) -> Result<bool, D::Error> {
        push(self.items, T::default());
        let [.., item] = self.items.as_mut_slice() else { return Ok(false) };
        match self.pass.levels {
            Some(levels) => Ok(read_separately(<&RawValue>::deserialize(value)?, item, levels)),
            None => item.read(value, self.pass),
        }
    }
}

/// Appends an item. Most lists have one, for which a `Vec` would allocate four.
fn push<T>(items: &mut Vec<T>, item: T) {
    if items.capacity() == 0 {
        *items = Vec::with_capacity(1);
    }
    items.push(item);
}

/// One value for each occurrence of a member in its object; usually one.
///
/// For members with parts that belong together, so that two of them are not merged.
#[derive(Clone)]
pub struct Occurrences<T>(pub Vec<T>);

impl<T> Default for Occurrences<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> fmt::Debug for Occurrences<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Occurrences({})", self.0.len())
    }
}

impl<'a, T: Member<'a>> Member<'a> for Occurrences<T> {
    fn read<D: Deserializer<'a>>(&mut self, value: D, pass: Pass) -> Result<bool, D::Error> {
        let mut one = T::default();
        let fits = one.read(value, pass)?;
        push(&mut self.0, one);
        Ok(fits)
    }
}

impl<'a> Member<'a> for bool {
    fn boolean(&mut self, boolean: bool) -> bool {
        *self = boolean;
        true
    }
}

impl<'a> Member<'a> for f64 {
    fn number(&mut self, number: f64, _: impl FnOnce() -> Option<String>) -> bool {
        *self = number;
        number.is_finite()
    }

    fn text(&mut self, text: Cow<'a, str>) -> bool {
        text.trim().parse().is_ok_and(|number| self.number(number, || None))
    }
}

impl<'a, T: Member<'a>> Member<'a> for Box<T> {
    fn read<D: Deserializer<'a>>(&mut self, value: D, pass: Pass) -> Result<bool, D::Error> {
        T::read(self, value, pass)
    }

    fn object<M: MapAccess<'a>>(&mut self, members: M, pass: Pass) -> Result<bool, M::Error> {
        T::object(self, members, pass)
    }
}

/// Holds a value that fits, if there is one.
impl<'a, T: Member<'a>> Member<'a> for Option<T> {
    fn read<D: Deserializer<'a>>(&mut self, value: D, pass: Pass) -> Result<bool, D::Error> {
        let mut one = T::default();
        let fits = one.read(value, pass)?;
        if fits {
            *self = Some(one);
        }
        Ok(fits)
    }
}

/// Removes the members of an object that are `null`: the optional ones of a request that are not set.
#[cfg(any(feature = "meta", feature = "notify", feature = "x"))]
pub(crate) fn without_nulls(mut value: serde_json::Value) -> serde_json::Value {
    if let serde_json::Value::Object(members) = &mut value {
        members.retain(|_, member| !member.is_null());
    }
    value
}

/// Digests the meaning of a JSON value or form: ignores white space, and the order of members or fields.
pub(crate) fn digest(piece: &Bytes) -> Digest {
    let json = Json::new(piece);
    if let Some(hash) = hash_value(json.text()) {
        let replaced = json.replaced();
        return match replaced.is_empty() {
            true => Digest::new(hash),
            // Different bytes may be read as the same text.
            false => Digest::sha256(&[&hash[..], &replaced.concat()].concat()),
        };
    }
    let mut fields: Vec<_> = piece.split(|byte| *byte == b'&').collect();
    fields.sort_unstable();
    Digest::sha256(&fields.join(&b'&'))
}

/// Returns the hash of one JSON value of any depth, with numbers of any length; `None` if it is not one.
fn hash_value(text: &str) -> Option<[u8; 32]> {
    let json = serde_json::from_str::<&RawValue>(text).ok()?.get();
    let bytes = json.as_bytes();
    // The contents of the open objects and arrays, outermost first; below them all, the value.
    let mut open: Vec<Vec<[u8; 32]>> = vec![Vec::new()];
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let (end, hash) = match byte {
            b'{' | b'[' => {
                open.push(Vec::new());
                at += 1;
                continue;
            }
            b'}' | b']' => {
                let mut all = open.pop()?;
                if *byte == b'}' {
                    let (members, _) = all.as_chunks_mut::<2>();
                    members.sort_unstable();
                }
                (at + 1, hash(*byte, all.as_flattened()))
            }
            b'"' => {
                let end = string_end(bytes, at + 1) + 1;
                let text: Cow<'_, str> = serde_json::from_str::<Name<'_>>(json.get(at..end)?).ok()?.into_text();
                (end, hash(b'"', text.as_bytes()))
            }
            b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => {
                at += 1;
                continue;
            }
            _ => {
                let scalar = bytes.get(at..)?;
                let len = scalar.iter().position(|byte| b",]} \t\n\r".contains(byte)).unwrap_or(scalar.len());
                (at + len, hash(b'0', scalar.get(..len)?))
            }
        };
        open.last_mut()?.push(hash);
        at = end;
    }
    open.pop()?.pop()
}

fn hash(kind: u8, content: &[u8]) -> [u8; 32] {
    Sha256::new_with_prefix([kind]).chain_update(content).finalize().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::adapter::lenient;

    lenient! {
        struct Odd<'a> {
            id: Text<'a>,
            name = "alias" | "other": Text<'a>,
            flag: Option<bool>,
            number: Option<f64>,
            inner: Option<Box<Inner<'a>>>,
            list: List<Inner<'a>>,
            pieces: List<Piece<'a>>,
            twice: Occurrences<Inner<'a>>,
        }

        struct Inner<'a> {
            id: Text<'a>,
            inner: Option<Box<Inner<'a>>>,
            nested: Option<Box<Inner<'a>>>,
        }
    }

    fn parse(json: &str) -> Odd<'_> {
        read(json).unwrap()
    }

    #[test]
    fn values_that_fit_are_read() {
        let all = parse(
            r#"{"id":"caf\u00e9","other":7,"flag":true,"number":"1.5","inner":{"id":"in"},"list":[{"id":-1}],
            "pieces":[ {"a": 1}, null],"x":1}"#,
        );
        assert_eq!((all.id.as_deref(), all.name.as_deref()), (Some("café"), Some("7")));
        assert_eq!((all.flag, all.number), (Some(true), Some(1.5)));
        assert_eq!(all.inner.unwrap().id.some(), Some("in"));
        assert_eq!((all.list[0].id.some(), all.list.malformed), (Some("-1"), false));
        assert_eq!(all.pieces.iter().map(Piece::get).collect::<Vec<_>>(), [r#"{"a": 1}"#, "null"]);
    }

    #[test]
    fn value_that_does_not_fit_costs_itself_alone() {
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        for value in ["null", "true", "[]", "[1]", "{}", r#"{"id":[]}"#, "1e999", "-1e999", "0.1", r#""text""#, &deep] {
            for name in ["flag", "number", "inner", "list", "pieces", "twice", "unknown"] {
                let json = format!(r#"{{"id":"before","{name}":{value},"alias":"after"}}"#);
                let read = parse(&json);
                assert_eq!((read.id.as_deref(), read.name.as_deref()), (Some("before"), Some("after")), "{json}");
            }
            let json = format!(r#"{{"list":[{{"id":"one"}},{value},{{"id":"two"}}],"id":{value}}}"#);
            let read = parse(&json);
            let ids: Vec<_> = read.list.iter().filter_map(|inner| inner.id.as_deref()).collect();
            assert!(ids.first() == Some(&"one") && ids.last() == Some(&"two"), "{json}");
        }
    }

    #[test]
    fn member_that_occurs_twice_loses_nothing() {
        let all = parse(
            r#"{"id":"a","id":"b","id":null,"list":[{"id":1}],"list":[{"id":2}],"twice":{"id":3},"twice":{"id":4}}"#,
        );
        assert_eq!(all.id.as_deref(), Some("b"));
        let ids = |inner: &[Inner<'_>]| inner.iter().filter_map(|inner| inner.id.to_text()).collect::<Vec<_>>();
        assert_eq!((ids(&all.list), ids(&all.twice.0)), (vec!["1".into(), "2".into()], vec!["3".into(), "4".into()]));
    }

    #[test]
    fn rounded_number_is_not_text() {
        let id = |json: &str| parse(&format!(r#"{{"id":{json}}}"#)).id.to_text();
        assert_eq!(id("18446744073709551615").as_deref(), Some("18446744073709551615"));
        assert_eq!(id("-6850472171600526495").as_deref(), Some("-6850472171600526495"));
        assert_eq!(id("0.5").as_deref(), Some("0.5"));
        for rounded in ["18446744073709551617", "-9223372036854775809", "9007199254740993.0", "1e300"] {
            assert_eq!(id(rounded), None, "{rounded}");
        }
    }

    #[test]
    fn text_borrows_unless_there_is_an_escape() {
        let plain = r#"{"id":"plain"}"#;
        assert!(matches!(parse(plain).id.0, Some(Cow::Borrowed("plain"))));
        assert!(matches!(Json::new(&Bytes::from_static(plain.as_bytes())).text, Cow::Borrowed(_)));
    }

    #[test]
    fn body_that_is_not_json_is_not_read() {
        for wrong in ["", "{", r#"{"id":"a""#, r#"{"id":"a"} x"#, "id=a", "\0", "[]", "null", "7", "\"a\""] {
            assert!(read::<Odd<'_>>(wrong).is_none(), "{wrong}");
        }
        assert!(Json::new(&Bytes::from_static(b"\xEF\xBB\xBF{}")).read::<Odd<'_>>().is_some());
    }

    #[test]
    fn invalid_text_becomes_the_replacement_character() {
        for (written, text) in [
            (&br#"{"id":"a\ud83d"}"#[..], "a\u{FFFD}"),
            (br#"{"id":"\udC00b"}"#, "\u{FFFD}b"),
            (br#"{"id":"\ud83d\ud83d\ude00"}"#, "\u{FFFD}\u{1F600}"),
            (br#"{"id":"\\ud83d \uD83D\\"}"#, "\\ud83d \u{FFFD}\\"),
            (br#"{"id":"\ud83d\u0041"}"#, "\u{FFFD}A"),
            (b"{\"id\":\"a\xff\xe2\x82b\"}", "a\u{FFFD}\u{FFFD}b"),
            (b"{\"id\":\"\xff\\ud83d\"}", "\u{FFFD}\u{FFFD}"),
        ] {
            let body = Bytes::from_static(written);
            let json = Json::new(&body);
            assert_eq!(json.read::<Odd<'_>>().unwrap().id.as_deref(), Some(text), "{}", written.escape_ascii());
        }
    }

    #[test]
    fn piece_is_what_the_gateway_wrote() {
        let body = Bytes::from_static(b"{\"id\":\"\xff\",\"pieces\":[{\"a\":\"\xe2\x82\"},{\"b\":\"\\ud83d\"},[]]}");
        let json = Json::new(&body);
        let read: Odd<'_> = json.read().unwrap();
        let pieces: Vec<_> = read.pieces.iter().map(|piece| json.raw(piece.get())).collect();
        assert_eq!(pieces, [&b"{\"a\":\"\xe2\x82\"}"[..], b"{\"b\":\"\\ud83d\"}", b"[]"]);
        assert_eq!(json.raw("elsewhere"), "elsewhere");
    }

    #[test]
    fn digest_ignores_white_space_and_order_alone() {
        let of = |json: &'static str| digest(&Bytes::from_static(json.as_bytes()));
        let one = of(r#"{"a":[1,{"b":"\u00e9","c":null}],"d":true}"#);
        assert_eq!(one, of(r#" { "d" : true, "a" : [ 1, { "c":null, "b":"é" } ] } "#));
        for other in [
            r#"{"a":[{"b":"é","c":null},1],"d":true}"#,
            r#"{"a":[1,{"b":"é","c":null}],"d":false}"#,
            r#"{"a":[1,{"b":"é","c":0}],"d":true}"#,
            r#"{"a":["1",{"b":"é","c":null}],"d":true}"#,
            r#"{"a":[1,{"b":"c","é":null}],"d":true}"#,
        ] {
            assert_ne!(one, of(other), "{other}");
        }
        assert_eq!(of(r#"{"a":"\ud800","b":"\udfff"}"#), of(r#"{ "b":"\uDFFF", "a":"\uD800" }"#));
        assert_ne!(of(r#"{"a":"\ud800"}"#), of(r#"{"a":"\ud801"}"#));
        assert_ne!(digest(&Bytes::from_static(b"\"\xff\"")), digest(&Bytes::from_static(b"\"\xfe\"")));
        assert_eq!(of("a=1&b=2"), of("b=2&a=1"));
        assert_ne!(of("a=1&b=2"), of("a=2&b=1"));
    }

    #[test]
    fn digest_covers_numbers_of_any_length_and_any_depth() {
        let of = |json: &str| digest(&Bytes::from(json.to_owned()));
        let deep = |inner: &str| format!("{}{inner}{}", r#"{"a":["#.repeat(200), "]}".repeat(200));
        assert_eq!(of(r#"{"a":1e999,"b":[]}"#), of(r#"{ "b" : [ ], "a" : 1e999 }"#));
        assert_eq!(of(&deep(r#"{"x":1,"y":2}"#)), of(&deep(r#" {"y":2, "x":1} "#)));
        assert_ne!(of(&deep("1")), of(&deep("2")));
        assert_ne!(of("[99999999999999999617]"), of("[99999999999999999618]"));
        for [one, other] in
            [["[1,2]", "[12]"], ["[[],1]", "[[1]]"], ["{}", "[]"], [r#"["1"]"#, "[1]"], ["[[1],[2]]", "[[1,2]]"]]
        {
            assert_ne!(of(one), of(other), "{one} {other}");
        }
    }

    #[test]
    fn invalid_characters_cost_no_string() {
        for (body, name) in [
            (&b"{\"id\":\"a\nb\"}"[..], "a\nb"),
            (b"{\n\t\"id\":\"a\tb\x00\x1b\"\n}", "a\tb\0\u{1b}"),
            (br#"{"id":"a\xb"}"#, "a\u{FFFD}xb"),
            (br#"{"id":"a\u12G4"}"#, "a\u{FFFD}u12G4"),
            (br#"{"id":"a\ud83d\"b"}"#, "a\u{FFFD}\"b"),
            (b"{\"id\":\"a\xff\\ud83d\n\xfe\"}", "a\u{FFFD}\u{FFFD}\n\u{FFFD}"),
            (b"{\"id\":\"\\\xff\"}", "\u{FFFD}\u{FFFD}"),
        ] {
            let body = Bytes::from([b"[", body, b",{\"id\":\"next\"}]"].concat());
            let json = Json::new(&body);
            let [first, next]: [Piece<'_>; 2] = json.read::<List<Piece<'_>>>().unwrap().items.try_into().unwrap();
            assert_eq!(read::<Odd<'_>>(first.get()).unwrap().id.as_deref(), Some(name));
            assert_eq!(json.raw(next.get()), r#"{"id":"next"}"#);
            assert_eq!(json.raw(first.get()), body.slice(1..body.len() - 15));
        }
    }

    #[test]
    fn deep_value_takes_bounded_memory_and_costs_only_itself() {
        let deep = |levels: usize| {
            let [open, close] = [r#"{"inner":{"nested":"#, "}}"].map(|part| part.repeat(levels));
            format!(r#"{{"inner":{open}{{}}{close},"id":"beside"}}"#)
        };
        for levels in [1, 20, 200, 50_000] {
            assert_eq!(read::<Odd<'_>>(&deep(levels)).unwrap().id.as_deref(), Some("beside"), "{levels}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(|number| json!(number)),
            "\\PC{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let name = prop_oneof![Just("id"), Just("list"), Just("inner"), Just("pieces"), Just("twice"), Just("x")];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec((name, inner), 0..4)
                    .prop_map(|members| members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
            ]
        })
    }

    #[test]
    fn object_in_place_of_list_is_its_only_element() {
        let malformed: Odd<'_> = read(r#"{"pieces":{"id": 1},"list":{"text":"a"},"id":"7"}"#).unwrap();
        assert_eq!(malformed.pieces.iter().map(Piece::get).collect::<Vec<_>>(), [r#"{"id": 1}"#]);
        assert_eq!((malformed.list.len(), malformed.id.some(), malformed.pieces.malformed), (1, Some("7"), false));
    }

    proptest! {
        #[test]
        fn any_object_parses_alike_at_once_and_by_parts(value in any_json()) {
            let text = value.to_string();
            let (mut once, mut parts) = (Odd::default(), Odd::default());
            let fits = read_into(&mut once, &text);
            prop_assert_eq!(fits, parts.read(&mut serde_json::Deserializer::from_str(&text), Pass::PARTS).unwrap());
            prop_assert_eq!(fits, value.is_object());
            let summary = |malformed: &Odd<'_>| (malformed.id.to_text(), malformed.flag, malformed.list.len(), malformed.list.malformed, malformed.twice.0.len());
            prop_assert_eq!(summary(&once), summary(&parts));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let body = Bytes::from(bytes);
            let json = Json::new(&body);
            let _ = json.read::<Odd<'_>>();
            for (at, _) in json.text().char_indices() {
                let _ = json.raw(&json.text()[at..]);
            }
            let whole = json.raw(json.text());
            prop_assert!(body.ends_with(&whole) && body.len() - whole.len() <= 3);
        }
    }
}
