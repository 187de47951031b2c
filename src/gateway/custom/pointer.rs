//! JSON pointers (RFC 6901) into a body of any shape.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::adapter::json::{self, Text};

/// A pointer to a value, such as `/messages/0/id`; the empty pointer is the whole body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pointer(Vec<String>);

/// The maximum number of segments: each reads all that is below it again.
const SEGMENTS_MAX: usize = 8;

impl Pointer {
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let Some(segments) = text.strip_prefix('/') else {
            return if text.is_empty() {
                Ok(Self(Vec::new()))
            } else {
                Err("must start with / as a JSON pointer does")
            };
        };
        let segments: Vec<_> = segments.split('/').map(|one| one.replace("~1", "/").replace("~0", "~")).collect();
        match segments.len() {
            1..=SEGMENTS_MAX => Ok(Self(segments)),
            _ => Err("has more than 8 segments"),
        }
    }

    /// Returns the JSON of the value; `None` if it is missing, or a member on the way to it occurs twice.
    pub(super) fn get<'a>(&self, json: &'a str) -> Option<&'a str> {
        let whole = serde_json::from_str::<&RawValue>(json).ok()?.get();
        self.0.iter().try_fold(whole, |json, segment| {
            if json.starts_with('[') {
                let list: Vec<&'a RawValue> = serde_json::from_str(json).ok()?;
                return Some(list.get(segment.parse::<usize>().ok()?)?.get());
            }
            let Members(members) = serde_json::from_str(json).ok()?;
            let mut named = members.into_iter().filter(|(name, _)| name == segment);
            named.next().filter(|_| named.next().is_none()).map(|(_, value)| value.get())
        })
    }

    /// Returns the value as text, if it is a string or a number.
    pub(super) fn text(&self, json: &str) -> Option<String> {
        json::read::<Text<'_>>(self.get(json)?)?.to_text()
    }

    /// Returns the elements of the list.
    pub(super) fn list<'a>(&self, json: &'a str) -> Option<Vec<&'a str>> {
        let list: Vec<&'a RawValue> = serde_json::from_str(self.get(json)?).ok()?;
        Some(list.into_iter().map(RawValue::get).collect())
    }
}

impl<'de> Deserialize<'de> for Pointer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// The members of an object in order, with those that occur twice.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut entries: M) -> Result<Members<'de>, M::Error> {
                let mut members = Vec::new();
                while let Some(name) = entries.next_key::<json::Name<'de>>()? {
                    members.push((name.into_text(), entries.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointer_finds_one_value() {
        let json = r#" {"a":[{"b~/c":"x"},1e999],"n":7,"twice":1,"twice":2,"d":{"":null}} "#;
        let text = |pointer: &str| Pointer::parse(pointer).unwrap().text(json);
        assert_eq!(text("/a/0/b~0~1c").as_deref(), Some("x"));
        assert_eq!(text("/n").as_deref(), Some("7"));
        for absent in ["/twice", "/a/1", "/a/2", "/a/-1", "/a/x", "/d/", "/d", "/n/0", "/missing/0", ""] {
            assert_eq!(text(absent), None, "{absent}");
        }
        assert_eq!(Pointer::parse("/a").unwrap().list(json).unwrap(), [r#"{"b~/c":"x"}"#, "1e999"]);
        assert!(Pointer::parse("a").is_err() && Pointer::parse("/1/2/3/4/5/6/7/8/9").is_err());
    }
}
