//! Looking up the outcome of a send.

use crate::model::clock::Timestamp;
use crate::model::event::Delivery;
use crate::model::id::MessageId;
use crate::model::message::Message;

/// What is known of a message that was sent, or may have been.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct LookupQuery {
    /// The message.
    pub message: Message,
    /// When the send began.
    pub at: Timestamp,
    /// The gateway's id, if it answered.
    pub id: Option<MessageId>,
    /// The gateway that it was handed to, as [`Error::gateway`](crate::Error::gateway) or
    /// [`Accepted::gateway`](crate::Accepted::gateway) names it; needed only where a channel has several.
    pub gateway: Option<String>,
}

impl LookupQuery {
    /// A message whose send began at this moment.
    pub fn new(message: Message, at: Timestamp) -> Self {
        Self { message, at, id: None, gateway: None }
    }

    /// Adds the gateway's id.
    #[must_use]
    pub fn with_id(mut self, id: MessageId) -> Self {
        self.id = Some(id);
        self
    }

    /// Says which gateway it was handed to.
    #[must_use]
    pub fn gateway(mut self, gateway: impl Into<String>) -> Self {
        self.gateway = Some(gateway.into());
        self
    }
}

/// What a gateway knows of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum LookupOutcome {
    /// The gateway has the message: its deliveries, several if it was sent more than once.
    Found(Vec<Delivery>),
    /// The gateway certainly does not have the message.
    NotFound,
    /// Proves nothing: the gateway may still be filing the message, or cannot distinguish it from others.
    Inconclusive,
}
