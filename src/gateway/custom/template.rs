//! Texts with placeholders, and the fields of a request that consist of them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::adapter::{query, segment};
use crate::medium::sms::Encoding;
use crate::model::error::{Error, Result};

/// The values of a message's placeholders.
#[derive(Clone, Debug)]
pub(super) struct Values<'m> {
    pub(super) to: &'m str,
    pub(super) from: &'m str,
    pub(super) text: &'m str,
    pub(super) reference: Option<&'m str>,
    pub(super) encoding: Encoding,
}

/// A placeholder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    From,
    FromDigits,
    Reference,
    Text,
    To,
    ToDigits,
}

const NAMES: &[(&str, Name)] = &[
    ("from", Name::From),
    ("from_digits", Name::FromDigits),
    ("reference", Name::Reference),
    ("text", Name::Text),
    ("to", Name::To),
    ("to_digits", Name::ToDigits),
];

const NAMES_RULE: &str = "has an unknown placeholder: use {from}, {from_digits}, {reference}, {text}, {to} or \
                          {to_digits}, each also with :url, and write a brace as {{ or }}";

impl<'m> Values<'m> {
    fn get(&self, name: Name) -> Option<&'m str> {
        let digits = |address: &'m str| address.strip_prefix('+').unwrap_or(address);
        Some(match name {
            Name::From => self.from,
            Name::FromDigits => digits(self.from),
            Name::Reference => return self.reference,
            Name::Text => self.text,
            Name::To => self.to,
            Name::ToDigits => digits(self.to),
        })
    }
}

/// A text with placeholders in braces, such as `https://council.example/sms?id={reference:url}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// A placeholder, percent-encoded if it stands in a URL inside the text.
    Placeholder {
        name: Name,
        is_in_url: bool,
    },
}

impl Template {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            literal.push_str(before);
            if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
                literal.push_str(from.get(..1).unwrap_or_default());
                rest = after;
                continue;
            }
            let (inner, after) = from.strip_prefix('{').and_then(|from| from.split_once('}')).ok_or(NAMES_RULE)?;
            let (name, is_in_url) = inner.strip_suffix(":url").map_or((inner, false), |name| (name, true));
            let name = NAMES.iter().find(|(known, _)| *known == name).ok_or(NAMES_RULE)?.1;
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Placeholder { name, is_in_url });
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self(parts))
    }

    /// Returns the text with these values, or `None` if it is only a placeholder without a value.
    pub(super) fn render(&self, values: &Values<'_>) -> Option<String> {
        if let [Part::Placeholder { name, .. }] = &self.0[..] {
            values.get(*name)?;
        }
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Placeholder { name, is_in_url } => {
                    let value = values.get(*name).unwrap_or_default();
                    match is_in_url {
                        true => text.push_str(query(&[("", value)]).get(1..).unwrap_or_default()),
                        false => text.push_str(value),
                    }
                }
            }
        }
        Some(text)
    }

    /// Returns the path of a URL with these values, each as one segment.
    pub(super) fn path(&self, values: &Values<'_>) -> Result<String> {
        let part = |part: &Part| match part {
            Part::Literal(literal) => Ok(literal.clone()),
            Part::Placeholder { name, .. } => {
                segment("send.path", values.get(*name).unwrap_or_default()).map(Cow::into_owned)
            }
        };
        self.0.iter().map(part).collect()
    }

    /// Returns `true` if the text has the reference.
    pub(super) fn has_reference(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Placeholder { name: Name::Reference, .. }))
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// A field of a request: a text, a constant, a choice by the text's encoding, or a table or list of fields.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Field {
    ByEncoding { gsm7: Box<Self>, ucs2: Box<Self> },
    Constant(Value),
    List(Vec<Self>),
    Table(Fields),
    Text(Template),
}

pub(super) type Fields = BTreeMap<String, Field>;

impl Field {
    fn json(&self, values: &Values<'_>) -> Option<Value> {
        match self {
            Self::ByEncoding { gsm7, ucs2 } => by(values.encoding, gsm7, ucs2).json(values),
            Self::Constant(constant) => Some(constant.clone()),
            Self::List(fields) => Some(fields.iter().filter_map(|field| field.json(values)).collect()),
            Self::Table(fields) => Some(json(fields, values)),
            Self::Text(template) => template.render(values).map(Value::String),
        }
    }

    fn text(&self, values: &Values<'_>) -> Option<String> {
        match self {
            Self::ByEncoding { gsm7, ucs2 } => by(values.encoding, gsm7, ucs2).text(values),
            Self::Constant(constant) => Some(constant.to_string()),
            Self::Text(template) => template.render(values),
            Self::List(_) | Self::Table(_) => None,
        }
    }

    fn is_flat(&self) -> bool {
        match self {
            Self::ByEncoding { gsm7, ucs2 } => gsm7.is_flat() && ucs2.is_flat(),
            Self::Constant(_) | Self::Text(_) => true,
            Self::List(_) | Self::Table(_) => false,
        }
    }

    fn has_reference(&self) -> bool {
        match self {
            Self::ByEncoding { gsm7, ucs2 } => gsm7.has_reference() && ucs2.has_reference(),
            Self::Constant(_) => false,
            Self::List(fields) => fields.iter().any(Self::has_reference),
            Self::Table(fields) => fields.values().any(Self::has_reference),
            Self::Text(template) => template.has_reference(),
        }
    }
}

fn by<'f>(encoding: Encoding, gsm7: &'f Field, ucs2: &'f Field) -> &'f Field {
    match encoding {
        Encoding::Gsm7 => gsm7,
        Encoding::Ucs2 => ucs2,
    }
}

/// Returns the fields as a JSON object; a field without a value is left out.
pub(super) fn json(fields: &Fields, values: &Values<'_>) -> Value {
    let pair = |(name, field): (&String, &Field)| Some((name.clone(), field.json(values)?));
    Value::Object(fields.iter().filter_map(pair).collect())
}

/// Returns the fields as pairs of texts; a field without a value is left out.
pub(super) fn pairs<'f>(fields: &'f Fields, values: &Values<'_>) -> Vec<(&'f str, String)> {
    fields.iter().filter_map(|(name, field)| Some((name.as_str(), field.text(values)?))).collect()
}

/// Checks that the fields fit into a form or a query.
pub(super) fn check_flat(fields: &Fields) -> Result<()> {
    match fields.iter().find(|(_, field)| !field.is_flat()) {
        Some((name, _)) => Err(Error::config(format!("send.fields.{name}"), "must be a text: only JSON has tables")),
        None => Ok(()),
    }
}

/// Returns `true` if a field has the reference.
pub(super) fn have_reference(fields: &Fields) -> bool {
    fields.values().any(Field::has_reference)
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Field;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, true, false, a table or a list")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Field, E> {
                Ok(Field::Constant(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Field, E> {
                Ok(Field::Constant(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Field, E> {
                Ok(Field::Constant(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Field, E> {
                Ok(Field::Constant(value.into()))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Field, E> {
                Template::parse(text).map(Field::Text).map_err(E::custom)
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<Field, S::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Field::List(list))
            }

            fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Field, M::Error> {
                let mut fields = Fields::new();
                while let Some((name, field)) = members.next_entry()? {
                    fields.insert(name, field);
                }
                match (fields.len(), fields.contains_key("gsm7"), fields.contains_key("ucs2")) {
                    (2, true, true) => {
                        let mut take = |name| fields.remove(name).map(Box::new).ok_or_else(|| M::Error::custom(name));
                        Ok(Field::ByEncoding { gsm7: take("gsm7")?, ucs2: take("ucs2")? })
                    }
                    _ => Ok(Field::Table(fields)),
                }
            }
        }
        deserializer.deserialize_any(Read)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn values(text: &str) -> Values<'_> {
        let (to, from) = ("+447700900123", "+447700900456");
        Values { to, from, text, reference: None, encoding: Encoding::Gsm7 }
    }

    #[test]
    fn template_names_its_placeholders() {
        let render = |template: &str| Template::parse(template).unwrap().render(&values("a&b{text}"));
        assert_eq!(render("{to} {to_digits} {from}").unwrap(), "+447700900123 447700900123 +447700900456");
        assert_eq!(render("{{{text:url}}}").unwrap(), "{a%26b%7Btext%7D}");
        assert_eq!(render("{reference}"), None);
        assert_eq!(render("id={reference}").unwrap(), "id=");
        for wrong in ["{body}", "{", "}", "{to", "{to:form}", "{TO}"] {
            assert_eq!(Template::parse(wrong), Err(NAMES_RULE), "{wrong}");
        }
    }

    #[test]
    fn field_follows_the_encoding() {
        let fields: Fields = serde_json::from_value(json!({
            "coding": { "gsm7": 0, "ucs2": "2" }, "list": [{ "to": "{to}" }], "flag": true, "ref": "{reference}"
        }))
        .unwrap();
        let ucs2 = Values { encoding: Encoding::Ucs2, ..values("") };
        let expected = json!({ "coding": "2", "list": [{ "to": "+447700900123" }], "flag": true });
        assert_eq!(super::json(&fields, &ucs2), expected);
        assert_eq!(pairs(&fields, &values("")), [("coding", "0".to_owned()), ("flag", "true".to_owned())]);
        assert!(have_reference(&fields));
        assert_eq!(check_flat(&fields).unwrap_err().field(), Some("send.fields.list"));
    }

    proptest! {
        #[test]
        fn text_stays_in_its_place(text in any::<String>()) {
            let fields: Fields = serde_json::from_value(json!({ "a": "1", "text": "<{text}>" })).unwrap();
            let json = super::json(&fields, &values(&text)).to_string();
            let read: Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(read.as_object().unwrap().len(), 2);
            prop_assert_eq!(read["text"].as_str().unwrap(), format!("<{text}>"));
            let inner = Template::parse("https://a.example/?t={text:url}&u=1").unwrap().render(&values(&text)).unwrap();
            let url: http::Uri = inner.parse().unwrap();
            let parsed: Vec<_> = form_urlencoded::parse(url.query().unwrap().as_bytes()).into_owned().collect();
            prop_assert_eq!(parsed, [("t".to_owned(), text.clone()), ("u".to_owned(), "1".to_owned())]);
        }
    }
}
