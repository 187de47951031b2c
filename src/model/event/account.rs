//! News of an account, of a person's address, and events that are not understood.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Envelope;
use crate::model::address::Address;
use crate::model::clock::Timestamp;
use crate::model::id::{Hidden, Word};

/// A person's change of address.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AddressChanged {
    /// The origin and time.
    pub envelope: Envelope,
    /// The previous address.
    pub previous: Address,
    /// The new address.
    pub current: Address,
}

impl AddressChanged {
    /// Creates a change of address.
    pub fn new(envelope: Envelope, previous: Address, current: Address) -> Self {
        Self { envelope, previous, current }
    }
}

/// A change of our own account.
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// The origin and time.
    pub envelope: Envelope,
    /// The topic.
    pub topic: Topic,
    /// The gateway's name for the new state: `APPROVED`, `THROUGHPUT_UPGRADE`, `revoke`.
    pub state: String,
    /// The name of the affected resource, such as a template.
    pub name: Option<String>,
    /// The gateway's reason.
    pub reason: Option<String>,
    /// The gateway's id of the resource.
    #[serde(default)]
    pub id: Option<String>,
    /// The language of the resource, such as a template's.
    #[serde(default)]
    pub language: Option<String>,
    /// The next state, if the gateway announces it.
    #[serde(default)]
    pub upcoming: Option<Upcoming>,
}

/// A state announced by a gateway.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upcoming {
    /// The state, in the gateway's terms.
    pub state: String,
    /// The time at which it takes effect, if given.
    pub at: Option<Timestamp>,
}

impl fmt::Debug for Upcoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upcoming").field("state", &Word(&self.state)).field("at", &self.at).finish()
    }
}

impl Upcoming {
    /// Creates an announced state.
    pub fn new(state: impl Into<String>, at: Option<Timestamp>) -> Self {
        Self { state: state.into(), at }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The name may be a person's or a number and the reason may be free text, unless it is a constant of the
        // gateway's.
        let constant = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let is_constant = self.reason.as_deref().is_some_and(|reason| reason.chars().all(constant));
        let (constant, text) = (self.reason.as_deref().map(Word), self.reason.as_deref().map(Hidden));
        let reason: &dyn fmt::Debug = if is_constant { &constant } else { &text };
        f.debug_struct("Account")
            .field("envelope", &self.envelope)
            .field("topic", &self.topic)
            .field("state", &Word(&self.state))
            .field("name", &self.name.as_deref().map(Hidden))
            .field("reason", reason)
            .field("upcoming", &self.upcoming)
            .finish_non_exhaustive()
    }
}

impl Account {
    /// Creates a change of our own account.
    pub fn new(envelope: Envelope, topic: Topic, state: impl Into<String>) -> Self {
        let state = state.into();
        Self { envelope, topic, state, name: None, reason: None, id: None, language: None, upcoming: None }
    }
}

/// The topic of an [`Account`] event.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// Our access: a revoked consent, an expired key.
    Access,
    /// An error that concerns no message.
    Error,
    /// Information that requires no action.
    Information,
    /// Our sending limits.
    Limit,
    /// The quality rating of our messages.
    Quality,
    /// The end of a restriction.
    Reinstatement,
    /// Events redelivered at our request.
    Replay,
    /// A restriction for a violation of the gateway's policy.
    Restriction,
    /// A message template.
    Template,
}

/// Data that this version does not recognise.
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Unrecognised {
    /// The origin and time; its [`Raw`](super::Raw) holds all of the data.
    pub envelope: Envelope,
    /// The gateway's name for it.
    pub what: String,
    /// The sender, if known.
    pub from: Option<Address>,
}

impl fmt::Debug for Unrecognised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unrecognised")
            .field("envelope", &self.envelope)
            .field("what", &Word(&self.what))
            .field("from", &self.from)
            .finish()
    }
}

impl Unrecognised {
    /// Creates an unrecognised event with the gateway's name for it.
    pub fn new(envelope: Envelope, what: impl Into<String>) -> Self {
        Self { envelope, what: what.into(), from: None }
    }
}
