//! The ladder of delivery.

use serde::{Deserialize, Serialize};

/// How far a message has got: one ladder for all gateways, lowest rung first.
///
/// The order of the variants *is* the order of the ladder, and it is total: of any two states, whichever came first,
/// the higher one holds. A failure stands above being sent and below being delivered, because a later sign that the
/// message did arrive is worth more than an earlier guess that it did not. Status events may come in any order and
/// more than once; [`join`](Self::join) gives the same answer.
///
/// ```
/// use civic_messaging::DeliveryState::{Delivered, Failed, Read, Sent};
///
/// assert_eq!([Read, Sent, Delivered, Sent].into_iter().reduce(|a, b| a.join(b)), Some(Read));
/// assert!(Sent < Failed && Failed < Delivered);
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// A word of the gateway's that this version does not know.
    Unrecognised,
    /// The gateway has it.
    Accepted,
    /// The gateway is handing it on.
    Sending,
    /// It was handed on; nothing more is known.
    Sent,
    /// It was called back before it went.
    Cancelled,
    /// It could not be delivered in time.
    Expired,
    /// It was not delivered.
    Failed,
    /// It is on the person's device.
    Delivered,
    /// The person has seen it.
    Read,
    /// The person has listened to it.
    Played,
}

impl DeliveryState {
    /// The state of a message after both of these were heard of, in either order.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        self.max(other)
    }

    /// Whether the message has not reached the person and will not.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Cancelled | Self::Expired | Self::Failed)
    }
}
