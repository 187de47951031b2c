//! The verified part of a request.

use std::fmt;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::form::Form;
use super::request::Unverified;
use super::secret::{Ownership, SigningSecret};
use crate::model::clock::Timestamp;
use crate::model::event::{Envelope, Raw};
use crate::model::info::Info;

/// The verified part of a request.
///
/// Only a [`Scheme`](super::Scheme) creates one. It records which secret matched and which accounts that secret owns: an adapter keeps
/// the events of those, and counts the others as [`Received::discarded`](super::Received::discarded).
pub struct Verified {
    body: Bytes,
    query: Option<Box<str>>,
    form: Option<Form>,
    ownership: Ownership,
    claims: Option<serde_json::Value>,
    arrived: Timestamp,
}

impl Verified {
    /// Creates a verified body, with the secret that matched.
    pub fn new(unverified: &Unverified<'_>, body: Bytes, secret: &SigningSecret) -> Self {
        Self {
            body,
            query: None,
            form: None,
            ownership: secret.ownership.clone(),
            claims: None,
            arrived: unverified.arrived(),
        }
    }

    /// Returns the envelope of an event that is the whole webhook, of the channel's own account, at the time of
    /// arrival.
    pub fn envelope(&self, info: &Info) -> Envelope {
        let raw = if self.body().is_empty() {
            // A GET request has only a query.
            Raw::new(Bytes::copy_from_slice(self.query().unwrap_or_default().as_bytes()))
        } else {
            Raw::new(self.body().clone())
        };
        info.envelope(self.arrived(), raw)
    }

    /// Adds the query, if the signature covers it, or if the gateway calls by GET and has only a token.
    ///
    /// Remove a token from it first: the query is kept in [`Raw`] and in stores.
    #[must_use]
    pub fn with_query(mut self, query: &str) -> Self {
        self.query = Some(query.into());
        self
    }

    /// Adds the form that the scheme decoded for verification.
    #[must_use]
    pub fn with_form(mut self, form: Form) -> Self {
        self.form = Some(form);
        self
    }

    /// Adds the claims of the signature.
    #[must_use]
    pub fn with_claims(mut self, claims: serde_json::Value) -> Self {
        self.claims = Some(claims);
        self
    }

    /// Returns the body as received.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Returns the query, if the signature covers it.
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// Returns the form, if the scheme decoded one.
    pub fn form(&self) -> Option<&Form> {
        self.form.as_ref()
    }

    /// Returns the fields of the body's form, or of the query if there is no body, as for a gateway that calls by GET.
    ///
    /// `None` if there are more than [`Form::FIELDS_MAX`].
    pub fn fields(&self) -> Option<Form> {
        match self.body.as_ref() {
            [] => Form::decode(self.query.as_deref().unwrap_or_default().as_bytes()),
            body => Form::decode(body),
        }
    }

    /// Returns one of the [`fields`](Self::fields) unless it is empty.
    ///
    /// For several fields, or one that may be empty, such as a text, decode them once.
    pub fn field(&self, name: &str) -> Option<String> {
        Some(self.fields()?.some(name)?.into_owned())
    }

    /// Returns one of the claims of the signature.
    pub fn claim<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        T::deserialize(self.claims.as_ref()?.get(name)?).ok()
    }

    /// Returns the time of arrival.
    pub fn arrived(&self) -> Timestamp {
        self.arrived
    }

    /// Returns `true` if the matched secret owns this account, and so may create events for it.
    pub fn owns(&self, account: &str) -> bool {
        self.ownership.account(account)
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified").field("len", &self.body.len()).field("owns", &self.ownership).finish_non_exhaustive()
    }
}
