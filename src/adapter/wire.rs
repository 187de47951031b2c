//! Strings in gateways' JSON: borrowed where possible, numbers accepted.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

/// A string, or a number in place of a string, as text.
///
/// For responses in which a malformed value may cost no more than a description. Data that must not be lost is parsed
/// by [`lenient!`](crate::adapter::lenient).
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Str<'a>(pub(crate) Cow<'a, str>);

impl Str<'_> {
    #[cfg(feature = "x")]
    pub(crate) fn into_string(self) -> String {
        self.0.into_owned()
    }
}

impl Deref for Str<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Str<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text)?.ok_or_else(|| Error::invalid_type(Unexpected::Unit, &Text))
    }
}

/// The bound, 2 to the power of 53, below which an `f64` represents every integer.
const EXACT: f64 = 9_007_199_254_740_992.0;

struct Text;

impl<'de> Visitor<'de> for Text {
    type Value = Option<Str<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a number")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Some(Str(Cow::Borrowed(text))))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(Str(Cow::Owned(text.to_owned()))))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(Str(Cow::Owned(number.to_string()))))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Some(Str(Cow::Owned(number.to_string()))))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        // A longer number would be rounded to another one: somebody else's id.
        if number.abs() < EXACT {
            Ok(Some(Str(Cow::Owned(number.to_string()))))
        } else {
            Err(E::invalid_value(Unexpected::Float(number), &self))
        }
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn str_borrows_unless_there_is_an_escape() {
        let read = |json: &'static str| serde_json::from_str::<Option<Str<'_>>>(json).unwrap().unwrap().0;
        assert!(matches!(read(r#""plain""#), Cow::Borrowed("plain")));
        assert_eq!(read(r#""caf\u00e9""#), "café");
        assert_eq!(read("303833"), "303833");
        assert_eq!(read("-6850472171600526495"), "-6850472171600526495");
        assert_eq!((read("18446744073709551615"), read("0.5")), ("18446744073709551615".into(), "0.5".into()));
        for rounded in ["18446744073709551617", "-9223372036854775809", "9007199254740993.0", "1e300"] {
            assert!(serde_json::from_str::<Str<'_>>(rounded).is_err(), "{rounded}");
        }
        assert!(serde_json::from_str::<Option<Str<'_>>>("null").unwrap().is_none());
        for wrong in ["null", "true", "[]", "{}"] {
            assert!(serde_json::from_str::<Str<'_>>(wrong).is_err(), "{wrong}");
        }
    }
}
