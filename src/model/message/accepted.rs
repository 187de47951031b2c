//! The gateway's immediate response to a message.

use std::fmt;

use bytes::Bytes;

use super::Loss;
use super::money::Price;
use crate::model::address::Address;
use crate::model::delivery::DeliveryState;
use crate::model::id::{MessageId, Word};
use crate::model::rate::Quota;

/// The gateway's acceptance of a message. [`Delivery`](crate::Delivery) events report delivery.
#[non_exhaustive]
#[derive(Clone, PartialEq)]
pub struct Accepted {
    id: MessageId,
    more: Vec<MessageId>,
    /// The gateway that accepted it.
    pub gateway: &'static str,
    /// The delivery state from the response.
    pub state: DeliveryState,
    /// The gateway's own name for that state.
    pub status: Option<String>,
    /// The recipient according to the gateway, if reported: WhatsApp normalises numbers and adds a user id.
    pub recipient: Option<Address>,
    /// The number of parts counted by the gateway, if reported.
    pub segments: Option<u32>,
    /// The price, if reported at once.
    pub price: Option<Price>,
    /// The gateway's changes to the text, if reported: GOV.UK Notify rewrites characters.
    pub losses: Vec<Loss>,
    /// The remaining quota, if reported: X does.
    pub quota: Option<Quota>,
    /// The raw response. It may contain personal data.
    pub raw: Bytes,
}

impl Accepted {
    /// Creates an acceptance with one id.
    pub fn new(gateway: &'static str, id: impl Into<MessageId>, raw: Bytes) -> Self {
        Self {
            id: id.into(),
            more: Vec::new(),
            gateway,
            state: DeliveryState::Accepted,
            status: None,
            recipient: None,
            segments: None,
            price: None,
            losses: Vec::new(),
            quota: None,
            raw,
        }
    }

    /// Creates an acceptance of several parts; `None` if there is no id, or one is empty or blank.
    ///
    /// Adapters use [`Answer::accepted`](crate::adapter::Answer::accepted), which returns an error in that case.
    pub fn from_parts<I: Into<MessageId>>(
        gateway: &'static str,
        ids: impl IntoIterator<Item = I>,
        raw: Bytes,
    ) -> Option<Self> {
        let mut ids = ids.into_iter().map(Into::into);
        let named = |id: MessageId| Some(id).filter(|id| !id.as_str().trim().is_empty());
        let first = Self::new(gateway, named(ids.next()?)?, raw);
        ids.try_fold(first, |accepted, id| Some(accepted.and(named(id)?)))
    }

    /// Returns the gateway's id, of the first part if there are several.
    pub fn id(&self) -> &MessageId {
        &self.id
    }

    /// Returns the ids of all parts in order.
    pub fn ids(&self) -> impl Iterator<Item = &MessageId> {
        std::iter::once(&self.id).chain(&self.more)
    }

    /// Adds the id of another part.
    #[must_use]
    pub fn and(mut self, id: impl Into<MessageId>) -> Self {
        self.more.push(id.into());
        self
    }
}

impl fmt::Debug for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted")
            .field("gateway", &self.gateway)
            .field("id", &self.id)
            .field("more", &self.more)
            .field("state", &self.state)
            .field("status", &self.status.as_deref().map(Word))
            .field("recipient", &self.recipient)
            .field("segments", &self.segments)
            .field("price", &self.price)
            .field("losses", &self.losses)
            .finish_non_exhaustive()
    }
}
