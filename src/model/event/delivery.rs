//! Delivery states of our messages, and why a delivery failed.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Envelope;
use crate::model::address::Address;
use crate::model::clock::Timestamp;
use crate::model::delivery::DeliveryState;
use crate::model::error::ErrorKind;
use crate::model::id::{Code, MessageId, Word};
use crate::model::message::Price;

/// A delivery state of one or more of our messages.
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// The origin and time.
    pub envelope: Envelope,
    /// The messages concerned.
    pub of: DeliveryOf,
    /// The state.
    pub state: DeliveryState,
    /// The gateway's own name for that state.
    pub status: String,
    /// The recipient, if reported.
    pub recipient: Option<Address>,
    /// The reason for a failure.
    pub failure: Option<Failure>,
    /// The price, if reported.
    pub price: Option<Price>,
    /// The gateway's billing category: `regular/utility`, `free_customer_service/service`.
    pub billing: Option<String>,
    /// The number of parts billed, if reported.
    pub segments: Option<u32>,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("envelope", &self.envelope)
            .field("of", &self.of)
            .field("state", &self.state)
            .field("status", &Word(&self.status))
            .field("recipient", &self.recipient)
            .field("failure", &self.failure)
            .field("price", &self.price)
            .field("billing", &self.billing.as_deref().map(Word))
            .field("segments", &self.segments)
            .finish()
    }
}

impl Delivery {
    /// Creates a delivery of one message.
    pub fn new(envelope: Envelope, id: impl Into<MessageId>, state: DeliveryState, status: impl Into<String>) -> Self {
        Self {
            envelope,
            of: DeliveryOf::Message { id: Some(id.into()), key: None },
            state,
            status: status.into(),
            recipient: None,
            failure: None,
            price: None,
            billing: None,
            segments: None,
        }
    }

    /// Sets our own key, where the gateway returns it. Has no effect on a delivery of more than one message.
    #[must_use]
    pub fn with_key(mut self, our: Option<String>) -> Self {
        if let DeliveryOf::Message { key, .. } = &mut self.of {
            *key = our;
        }
        self
    }

    /// Sets the reason for a failure. A [`Failed`](DeliveryState::Failed) delivery needs one: its kind decides what
    /// happens next.
    #[must_use]
    pub fn with_failure(mut self, failure: Option<Failure>) -> Self {
        self.failure = failure;
        self
    }

    /// Returns the gateway's id, if the delivery is of a single message.
    pub fn id(&self) -> Option<&MessageId> {
        match &self.of {
            DeliveryOf::Message { id, .. } => id.as_ref(),
            DeliveryOf::UpTo { .. } => None,
        }
    }

    /// Returns the key as the gateway received it, where it returns it: see
    /// [`Info::reference`](crate::Info::reference).
    pub fn key(&self) -> Option<&str> {
        match &self.of {
            DeliveryOf::Message { key, .. } => key.as_deref(),
            DeliveryOf::UpTo { .. } => None,
        }
    }
}

/// The messages that a delivery concerns.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryOf {
    /// One message, identified by the gateway's id, our key, or both.
    Message {
        /// The gateway's id.
        id: Option<MessageId>,
        /// Our key, or its [reference](crate::Info::reference).
        key: Option<String>,
    },
    /// Every message to this recipient up to a time.
    UpTo {
        /// The time.
        at: Timestamp,
        /// The last message, if the gateway identifies it.
        id: Option<MessageId>,
    },
}

impl fmt::Debug for DeliveryOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // An echo also contains other programs' keys, which may be anything.
            Self::Message { id, key } => {
                f.debug_struct("Message").field("id", id).field("key", &key.as_deref().map(Word)).finish()
            }
            Self::UpTo { at, id } => f.debug_struct("UpTo").field("at", at).field("id", id).finish(),
        }
    }
}

/// The reason why a message was not delivered.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind, which determines what to do.
    pub kind: ErrorKind,
    /// `true` if a later message may be delivered: a phone that was off, a network that was down.
    pub temporary: bool,
    /// The gateway's code.
    pub code: Option<String>,
    /// The gateway's description. It may contain personal data.
    pub detail: Option<String>,
}

impl Failure {
    /// Creates a failure of this kind.
    pub fn new(kind: ErrorKind) -> Self {
        Self { kind, temporary: false, code: None, detail: None }
    }

    /// Sets the gateway's code.
    #[must_use]
    pub fn code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// Sets the gateway's description.
    #[must_use]
    pub fn detail(mut self, detail: Option<String>) -> Self {
        self.detail = detail;
        self
    }

    /// Sets whether a later message may be delivered.
    #[must_use]
    pub fn temporary(mut self, temporary: bool) -> Self {
        self.temporary = temporary;
        self
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("kind", &self.kind)
            .field("temporary", &self.temporary)
            .field("code", &self.code.as_deref().map(Code))
            .finish_non_exhaustive()
    }
}
