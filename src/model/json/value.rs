//! The values that members are parsed into.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::{Deserialize as _, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess};
use serde_json::value::RawValue;

use super::{Member, Pass, Reader, read_part, read_separately};

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
pub struct Piece<'a>(pub(super) &'a str);

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
