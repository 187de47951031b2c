//! Where a value stands in a response or a webhook.

use std::collections::{BTreeMap, BTreeSet};

use http::HeaderMap;
use http::header::HeaderName;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::pointer::Pointer;
use crate::adapter::json::Json;
use crate::adapter::{Answer, VendorError};
use crate::model::error::{Error, Result};
use crate::model::message::{Credits, Money, Price};

/// The table that says how an answer is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AnswerConfig {
    /// The forms of a plain-text answer. Without any, the answer is JSON.
    pub(super) patterns: Vec<Pattern>,
    pub(super) id: Option<Id>,
    pub(super) code: Option<Source>,
    /// The codes that report an acceptance.
    pub(super) accepted: BTreeSet<String>,
    pub(super) parts: Option<Source>,
    pub(super) price: Option<Source>,
    pub(super) currency: Option<String>,
}

/// The place of a value: a JSON pointer, the name of a field of a form or of a pattern, or a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Field(String),
    Header(HeaderName),
    Pointer(Pointer),
}

impl Source {
    /// Checks that the source is of the body's format.
    pub(super) fn check(&self, setting: &str, is_text: bool) -> Result<()> {
        let rule = match self {
            Self::Pointer(_) if is_text => "must be the name of a field: the format is not JSON",
            Self::Field(_) if !is_text => "must be a JSON pointer, which starts with /",
            _ => return Ok(()),
        };
        Err(Error::config(setting.to_owned(), rule))
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Some(header) = text.strip_prefix("header:") {
            return header.trim().parse().map(Self::Header).map_err(|_| D::Error::custom("is not a header's name"));
        }
        match text.starts_with('/') {
            true => Pointer::parse(&text).map(Self::Pointer).map_err(D::Error::custom),
            false if text.is_empty() => Err(D::Error::custom("is empty")),
            false => Ok(Self::Field(text)),
        }
    }
}

/// The place of an accepted message's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Id {
    /// The supplier returns none, and names our reference in receipts.
    Reference,
    Source(Source),
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "{reference}" => Ok(Self::Reference),
            _ => Source::deserialize(serde::de::value::StringDeserializer::new(text)).map(Self::Source),
        }
    }
}

/// A form of a plain-text answer, such as `{code}: {text}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    first: String,
    /// The name of each value, and what follows it.
    values: Vec<(String, String)>,
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, &'static str> {
        const RULE: &str = "must have names in braces, with text between them";
        let mut pieces = text.split('{');
        let first = pieces.next().unwrap_or_default().to_owned();
        let values = pieces.map(|piece| {
            let (name, after) = piece.split_once('}').filter(|(name, _)| !name.is_empty()).ok_or(RULE)?;
            Ok((name.to_owned(), after.to_owned()))
        });
        let values = values.collect::<Result<Vec<_>, &'static str>>()?;
        let is_ambiguous = values.iter().rev().skip(1).any(|(_, after)| after.is_empty());
        if is_ambiguous || first.contains('}') || values.iter().any(|(_, after)| after.contains('}')) {
            return Err(RULE);
        }
        Ok(Self { first, values })
    }

    pub(super) fn check(&self, setting: &str) -> Result<()> {
        match self.values.is_empty() {
            true => Err(Error::config(setting.to_owned(), "has no name in braces")),
            false => Ok(()),
        }
    }

    /// Returns the values, or `None` if the text has another form.
    fn read<'a>(&'a self, text: &'a str) -> Option<BTreeMap<&'a str, &'a str>> {
        let mut rest = text.strip_prefix(self.first.as_str())?;
        let mut read = BTreeMap::new();
        let last = self.values.len().checked_sub(1)?;
        for (n, (name, after)) in self.values.iter().enumerate() {
            let (value, next) = match n == last {
                true => (rest.strip_suffix(after.as_str())?, ""),
                false => rest.split_once(after.as_str())?,
            };
            read.insert(name.as_str(), value.trim());
            rest = next;
        }
        Some(read)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl AnswerConfig {
    /// Checks what no single setting shows.
    pub(super) fn check(&self) -> Result<()> {
        if self.price.is_some() && self.currency.is_none() {
            return Err(Error::config("answer.currency", "is missing: the price has none"));
        }
        for (n, pattern) in self.patterns.iter().enumerate() {
            pattern.check(&format!("answer.patterns[{n}]"))?;
        }
        let id = match &self.id {
            Some(Id::Source(source)) => Some(source),
            Some(Id::Reference) | None => None,
        };
        let sources =
            [("id", id), ("code", self.code.as_ref()), ("parts", self.parts.as_ref()), ("price", self.price.as_ref())];
        let mut sources = sources.into_iter().filter_map(|(name, source)| Some((name, source?)));
        sources.try_for_each(|(name, source)| source.check(&format!("answer.{name}"), !self.patterns.is_empty()))
    }

    /// Returns a value of a response.
    pub(super) fn value(&self, source: &Source, answer: &Answer) -> Option<String> {
        let value = match source {
            Source::Field(name) => {
                let text = std::str::from_utf8(&answer.body).ok()?.trim();
                self.patterns.iter().find_map(|pattern| pattern.read(text))?.get(name.as_str())?.to_string()
            }
            Source::Header(name) => header(&answer.headers, name)?.to_owned(),
            Source::Pointer(pointer) => pointer.text(Json::new(&answer.body).text())?,
        };
        Some(value).filter(|value| !value.trim().is_empty())
    }

    /// Returns a price in the table's currency.
    pub(super) fn price_of(&self, amount: &str) -> Option<Price> {
        match self.currency.as_deref()? {
            "credits" => Credits::rounded(amount).ok().map(Price::from),
            currency => Money::rounded(amount, currency).ok().map(Price::from),
        }
    }

    /// Returns the code of an error.
    pub(super) fn error<'a>(&self, answer: &'a Answer) -> VendorError<'a> {
        let code = self.code.as_ref().and_then(|code| self.value(code, answer));
        code.map_or_else(VendorError::default, VendorError::new)
    }
}

/// Returns a header's value, unless it occurs twice.
fn header<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_reads_values_between_texts() {
        let read = |pattern: &str, text: &str| {
            let pattern = Pattern::parse(pattern).unwrap();
            let read = pattern.read(text);
            read.map(|read| {
                read.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
            })
        };
        assert_eq!(read("{code}: {text}", "0: Accepted: yes").as_deref(), Some("code=0,text=Accepted: yes"));
        assert_eq!(read("Success \"{id}\"", "Success \"a-1\"").as_deref(), Some("id=a-1"));
        assert_eq!(read("Success \"{id}\"", "Error \"a-1\""), None);
        assert_eq!(read("{code}: {text}", "0"), None);
        for wrong in ["{a}{b}", "{", "}", "{}", "a}b{c}", "{a}b}"] {
            assert!(Pattern::parse(wrong).is_err(), "{wrong}");
        }
    }
}
