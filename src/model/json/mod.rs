//! Lenient JSON parsing, in which a malformed value costs that value alone: see
//! [`adapter::json`](crate::adapter::json).

mod body;
mod digest;
mod value;

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

#[doc(hidden)]
pub use serde::de::MapAccess;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

pub use self::body::Json;
pub(crate) use self::digest::digest;
pub use self::value::{List, Occurrences, Piece, Text};

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

/// Removes the members of an object that are `null`: the optional ones of a request that are not set.
#[cfg(any(feature = "meta", feature = "notify", feature = "vonage", feature = "x"))]
pub(crate) fn without_nulls(mut value: serde_json::Value) -> serde_json::Value {
    if let serde_json::Value::Object(members) = &mut value {
        members.retain(|_, member| !member.is_null());
    }
    value
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
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
