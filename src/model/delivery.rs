//! Delivery states.

use serde::{Deserialize, Serialize};

/// A delivery state: one ladder for all gateways, lowest state first.
///
/// The order of the variants is the order of the ladder, and it is total: of any two states, in whichever order they
/// arrive, the higher one holds. `Failed` is above `Sent` and below `Delivered`, because a later receipt outweighs an
/// earlier report of failure. Status events may arrive in any order and more than once; [`join`](Self::join) gives the
/// same result.
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
    /// A state that this version does not recognise.
    Unrecognised,
    /// The gateway accepted it.
    Accepted,
    /// The gateway is sending it.
    Sending,
    /// The gateway sent it; nothing more is known.
    Sent,
    /// It was cancelled before it was sent.
    Cancelled,
    /// It could not be delivered in time.
    Expired,
    /// It was not delivered.
    Failed,
    /// It is on the person's device.
    Delivered,
    /// The person has read it.
    Read,
    /// The person has listened to it.
    Played,
}

impl DeliveryState {
    /// Returns the higher of two states.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        self.max(other)
    }

    /// Returns `true` if the message has not reached the person and will not.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Cancelled | Self::Expired | Self::Failed)
    }
}
