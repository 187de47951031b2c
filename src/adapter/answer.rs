//! Responses of a gateway, and what an adapter reads from them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::model::error::{Error, ErrorClass, ErrorKind, Outcome, Result};
use crate::model::id::MessageId;
use crate::model::json::{self, Json, Text};
use crate::model::message::Accepted;

/// A vendor's error body, as parsed by the adapter.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct VendorError<'a> {
    /// The vendor's code, the key of its table.
    pub code: Option<Cow<'a, str>>,
    /// The vendor's request id.
    pub request_id: Option<Cow<'a, str>>,
    /// The class of the code in this response, where the code alone does not determine it.
    pub class: Option<ErrorClass>,
    /// The vendor's documentation of the code.
    pub help: Option<Cow<'static, str>>,
    /// The adapter's own description, where the kind alone is not enough. Never text from the vendor.
    pub description: Option<&'static str>,
    /// The wait before a retry, where the vendor reports it outside the `Retry-After` header.
    pub retry_after: Option<Duration>,
}

impl<'a> VendorError<'a> {
    /// Creates an error with this code.
    pub fn new(code: impl Into<Cow<'a, str>>) -> Self {
        Self { code: Some(code.into()), ..Self::default() }
    }
}

/// A complete response.
#[derive(Clone)]
#[non_exhaustive]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body. Personal data.
    pub body: Bytes,
    pub(super) gateway: &'static str,
    pub(super) sending: bool,
}

impl Answer {
    /// Returns `true` for a web page, and for a refused send without a body: no gateway's API responds like that.
    pub(super) fn is_page(&self) -> bool {
        let body = self.body.trim_ascii_start();
        self.sending && body.is_empty()
            || body.starts_with(b"<!")
            || body.get(..5).is_some_and(|tag| tag.eq_ignore_ascii_case(b"<html"))
    }

    /// Deserialises the JSON body.
    ///
    /// # Errors
    /// [`ErrorKind::Unexpected`] if it cannot be parsed. For a send the outcome is then unknown, because the status was
    /// a success.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|_| self.unreadable())
    }

    /// Returns a member of the JSON body's object, if it is a string or a number.
    pub fn member(&self, name: &str) -> Option<String> {
        let json = Json::new(&self.body);
        let members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(json.text()).ok()?;
        json::read::<Text<'_>>(members.get(name)?.get())?.to_text()
    }

    /// Returns the body as text.
    ///
    /// # Errors
    /// As [`json`](Self::json), if it is not UTF-8.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.body).map_err(|_| self.unreadable())
    }

    /// Returns the acceptance with these ids, one for each part of the message.
    ///
    /// # Errors
    /// As [`json`](Self::json), if there is no id, or one is empty or blank: the message could not be looked up later.
    pub fn accepted<I: Into<MessageId>>(&self, ids: impl IntoIterator<Item = I>) -> Result<Accepted> {
        Accepted::from_parts(self.gateway, ids, self.body.clone()).ok_or_else(|| self.unreadable())
    }

    /// Returns the error for a success response that cannot be parsed.
    pub fn unreadable(&self) -> Error {
        let outcome = if self.sending { Outcome::Unknown } else { Outcome::NotSent };
        Error::new(ErrorKind::Unexpected, "the response cannot be parsed")
            .with_gateway(self.gateway)
            .with_outcome(outcome)
            .with_status(self.status)
            .with_raw(self.body.clone())
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).field("len", &self.body.len()).finish_non_exhaustive()
    }
}
