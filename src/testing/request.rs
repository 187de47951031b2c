//! The requests that a fake gateway received.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};
use serde_json::Value;

use super::multipart::{self, Part};

/// A request that a [`FakeGateway`](super::FakeGateway) received.
#[non_exhaustive]
#[derive(Clone)]
pub struct ReceivedRequest {
    /// The method.
    pub method: Method,
    /// The path with its query, unchanged.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as far as it was received.
    pub body: Bytes,
    /// The request is complete.
    pub whole: bool,
    /// The request counts as accepted: see [`FakeGateway`](super::FakeGateway).
    pub accepted: bool,
    /// The number of bytes received, including the head.
    pub len: usize,
    /// The request line and the headers, unchanged.
    pub(super) head: String,
}

impl ReceivedRequest {
    /// Returns the parts of a multipart form: `None` if the body is none, or not complete.
    pub fn parts(&self) -> Option<Vec<Part>> {
        multipart::parse(&self.headers, &self.body)
    }

    /// Returns all texts, decoded: the strings of JSON, the values of a form and of the query, the parts of a multipart
    /// form; any other body as one text.
    pub fn texts(&self) -> Vec<String> {
        let query = self.path.split_once('?').map_or("", |(_, query)| query);
        let pairs = |text: &[u8]| form_urlencoded::parse(text).map(|(_, value)| value.into_owned()).collect::<Vec<_>>();
        let mut texts = pairs(query.as_bytes());
        match serde_json::from_slice::<Value>(&self.body) {
            Ok(json) => strings(&json, &mut texts),
            Err(_) if self.is_form() => texts.extend(pairs(&self.body)),
            Err(_) => {
                let bodies = self.parts().map(|parts| parts.into_iter().map(|part| part.body).collect());
                let bodies: Vec<_> = bodies.unwrap_or_else(|| vec![self.body.clone()]);
                texts.extend(bodies.iter().map(|body| String::from_utf8_lossy(body).into_owned()));
            }
        }
        texts
    }

    /// Returns the values by their place: headers, parameters of the query and of a form, and members of JSON; any other
    /// body as one value.
    pub(super) fn fields(&self) -> BTreeMap<String, String> {
        let (path, query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        let mut fields = BTreeMap::from([("path".to_owned(), path.to_owned())]);
        let mut add = |place: String, value: &str| fields.entry(place).or_default().push_str(value);
        for (name, value) in &self.headers {
            add(format!("header {name}"), &String::from_utf8_lossy(value.as_bytes()));
        }
        form_urlencoded::parse(query.as_bytes()).for_each(|(name, value)| add(format!("query {name}"), &value));
        match serde_json::from_slice::<Value>(&self.body) {
            Ok(json) => members(&json, "body", &mut add),
            Err(_) if self.is_form() => {
                form_urlencoded::parse(&self.body).for_each(|(name, value)| add(format!("field {name}"), &value));
            }
            Err(_) => match self.parts() {
                Some(parts) => parts
                    .iter()
                    .for_each(|part| add(format!("part {}", part.name), &String::from_utf8_lossy(&part.body))),
                None => add("body".to_owned(), &String::from_utf8_lossy(&self.body)),
            },
        }
        fields
    }

    pub(super) fn is_form(&self) -> bool {
        let kind = self.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        kind.starts_with("application/x-www-form-urlencoded")
    }

    /// Returns `true` if a text or the path contains this text.
    pub fn contains(&self, text: &str) -> bool {
        self.path.contains(text) || self.texts().iter().any(|there| there.contains(text))
    }
}

impl fmt::Debug for ReceivedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceivedRequest")
            .field("method", &self.method)
            .field("len", &self.len)
            .field("whole", &self.whole)
            .field("accepted", &self.accepted)
            .finish_non_exhaustive()
    }
}

fn strings(json: &Value, all: &mut Vec<String>) {
    match json {
        Value::Array(values) => values.iter().for_each(|value| strings(value, all)),
        Value::Object(members) => members.values().for_each(|value| strings(value, all)),
        Value::String(text) => all.push(text.clone()),
        _ => {}
    }
}

/// Adds each value of JSON by its place.
fn members(json: &Value, place: &str, add: &mut impl FnMut(String, &str)) {
    match json {
        Value::Array(values) => values.iter().for_each(|value| members(value, &format!("{place}/*"), add)),
        Value::Object(all) => all.iter().for_each(|(name, value)| members(value, &format!("{place}/{name}"), add)),
        Value::String(text) => add(place.to_owned(), text),
        other => add(place.to_owned(), &other.to_string()),
    }
}
