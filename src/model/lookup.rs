//! Looking up the outcome of a send.

use crate::model::clock::Timestamp;
use crate::model::event::Delivery;
use crate::model::id::MessageId;
use crate::model::message::Message;

/// The known facts of a message that was sent, or may have been.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct LookupQuery {
    /// The message.
    pub message: Message,
    /// The time at which the send started.
    pub at: Timestamp,
    /// The gateway's id, if it responded.
    pub id: Option<MessageId>,
    /// The gateway it was sent through, as in [`Error::gateway`](crate::Error::gateway) or
    /// [`Accepted::gateway`](crate::Accepted::gateway); needed only if a channel has several.
    pub gateway: Option<String>,
}

impl LookupQuery {
    /// Creates a query for a message whose send started at `at`.
    pub fn new(message: Message, at: Timestamp) -> Self {
        Self { message, at, id: None, gateway: None }
    }

    /// Adds the gateway's id.
    #[must_use]
    pub fn with_id(mut self, id: MessageId) -> Self {
        self.id = Some(id);
        self
    }

    /// Sets the gateway it was sent through.
    #[must_use]
    pub fn gateway(mut self, gateway: impl Into<String>) -> Self {
        self.gateway = Some(gateway.into());
        self
    }
}

/// The result of a lookup.
#[derive(Clone, Debug, PartialEq)]
pub enum LookupOutcome {
    /// The gateway has the message. Contains its deliveries: several if it was sent more than once.
    Found(Vec<Delivery>),
    /// The gateway certainly does not have the message.
    NotFound,
    /// No conclusion: the gateway may not have recorded the message yet, or cannot distinguish it from others.
    Inconclusive,
}
