//! The states of a message, and what is reported of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::address::Address;
use crate::model::clock::Timestamp;
use crate::model::delivery::DeliveryState;
use crate::model::error::ErrorKind;
use crate::model::id::{AccountId, MessageId};
use crate::model::message::{Price, Purpose};

/// The number of a message in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Id(pub(super) i64);

impl From<i64> for Id {
    fn from(number: i64) -> Self {
        Self(number)
    }
}

impl From<Id> for i64 {
    fn from(id: Id) -> Self {
        id.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The state of a message.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Accepted by the gateway: [`Status::delivery`] has the delivery state.
    Accepted,
    /// Cancelled before it was sent.
    Cancelled,
    /// Claimed by a worker that is about to send it. SQLite, with its one worker, does not store this state: see
    /// [`Queued`](Self::Queued).
    Claimed,
    /// Waits for a later time: its own, the policy's, that of its recipient's rate limit, or that of the next attempt.
    Deferred,
    /// Not sent before its `not_after`.
    Expired,
    /// Dead letter: the outcome is unknown, or too many attempts failed. A person [settles](super::Switchboard::settle)
    /// it.
    Parked,
    /// Waits for a worker, or for the rate limit of its account.
    Queued,
    /// Refused by our own policy.
    Refused,
    /// Rejected by the gateway.
    Rejected,
    /// Being sent to the gateway.
    Sending,
    /// May have been accepted; a status event or a look-up may settle it.
    Unknown,
}

impl State {
    pub(super) const ALL: [Self; 11] = [
        Self::Accepted,
        Self::Cancelled,
        Self::Claimed,
        Self::Deferred,
        Self::Expired,
        Self::Parked,
        Self::Queued,
        Self::Refused,
        Self::Rejected,
        Self::Sending,
        Self::Unknown,
    ];

    /// Returns the name under which the state is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Cancelled => "cancelled",
            Self::Claimed => "claimed",
            Self::Deferred => "deferred",
            Self::Expired => "expired",
            Self::Parked => "parked",
            Self::Queued => "queued",
            Self::Refused => "refused",
            Self::Rejected => "rejected",
            Self::Sending => "sending",
            Self::Unknown => "unknown",
        }
    }

    pub(super) fn read(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Returns `true` if the message was certainly not sent, and will not be.
    pub(super) const fn is_not_sent(self) -> bool {
        matches!(self, Self::Expired | Self::Refused | Self::Rejected)
    }

    /// Returns `true` if a person should look at it.
    pub(super) const fn is_actionable(self) -> bool {
        matches!(self, Self::Parked | Self::Unknown)
    }

    /// Returns `true` if nothing more is done about the message unless a person acts.
    pub const fn is_settled(self) -> bool {
        matches!(self, Self::Accepted | Self::Cancelled | Self::Expired | Self::Parked | Self::Refused | Self::Rejected)
    }
}

/// The status of a message.
///
/// After its line's retention the recipient, the reason and the gateway's id are removed; the rest stays.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The number in the store.
    pub id: Id,
    /// The line.
    pub line: String,
    /// The idempotency key.
    pub key: String,
    /// The tag, under which the message is counted in reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The recipient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<Address>,
    /// The state.
    pub state: State,
    /// When it is due, if it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// The number of attempts to send it.
    pub attempts: u32,
    /// The attempts, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<SendAttempt>,
    /// The gateway of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// The gateway's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_id: Option<MessageId>,
    /// The delivery state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliveryState>,
    /// The reason for the state, in plain words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The kind of the last attempt's error, or of the policy's refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ErrorKind>,
    /// The gateway's code of the last attempt's error, or the policy rule that refused the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The number of segments that the gateway counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<u32>,
    /// The price that the gateway returned when it accepted the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// The fallback that was sent instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Id>,
    /// The message for which this one is the fallback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead_of: Option<Id>,
}

/// One attempt to send a message through a gateway.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendAttempt {
    /// The gateway.
    pub gateway: String,
    /// Our account at the gateway.
    pub account: AccountId,
    /// The start of the attempt.
    pub begun: Timestamp,
    /// The end of the attempt: `None` while it runs, and if the process ended first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// The outcome: `None` while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<AttemptOutcome>,
    /// The kind of the error, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ErrorKind>,
    /// The gateway's code of the error, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The number of segments that the gateway counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<u32>,
    /// The price that the gateway returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
}

/// The outcome of one attempt to send.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// Accepted by the gateway.
    Accepted,
    /// Certainly not sent: no byte of the request left this machine.
    NotSent,
    /// Certainly not sent: the gateway rejected it.
    Rejected,
    /// Certainly not sent: the account was unable to send.
    Suspended,
    /// May have been accepted.
    Unknown,
}

/// An event about a message that has ended, or that needs a person.
///
/// The fields from `key` on are read when the event is delivered; `history` ends at the time of the event. After the
/// line's retention the recipient is removed.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The number in the store.
    pub id: Id,
    /// The state.
    pub state: State,
    /// The reason for the state, in plain words.
    pub reason: Option<String>,
    /// The kind of the last attempt's error, or of the policy's refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ErrorKind>,
    /// The gateway's code of the last attempt's error, or the policy rule that refused the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The idempotency key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// The tag, under which the message is counted in reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The recipient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<Address>,
    /// The number of segments that the gateway counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<u32>,
    /// The price that the gateway returned when it accepted the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// The attempts, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<SendAttempt>,
}

impl Settled {
    /// Returns the event as it is stored. The other fields are read from the message on delivery.
    pub(super) fn new(id: Id, state: State, reason: Option<String>) -> Self {
        Self {
            id,
            state,
            reason,
            kind: None,
            code: None,
            key: String::new(),
            tag: None,
            recipient: None,
            segments: None,
            price: None,
            history: Vec::new(),
        }
    }

    /// Fills in the fields read from the message, with the attempts up to the time of the event.
    pub(super) fn complete(&mut self, status: Status, at: Timestamp) {
        let history: Vec<_> = status.history.into_iter().filter(|attempt| attempt.begun <= at).collect();
        let last = history.last();
        (self.kind, self.code) = if self.state == status.state {
            (status.kind, status.code)
        } else {
            (last.and_then(|last| last.kind), last.and_then(|last| last.code.clone()))
        };
        (self.segments, self.price) = charged(&history);
        (self.key, self.tag, self.recipient, self.history) = (status.key, status.tag, status.recipient, history);
    }
}

/// Returns the segments and the price of the last attempt that has them.
pub(super) fn charged(history: &[SendAttempt]) -> (Option<u32>, Option<Price>) {
    let last = history.iter().rev();
    (last.clone().find_map(|attempt| attempt.segments), last.clone().find_map(|attempt| attempt.price))
}

/// A person's decision about a message with an unknown outcome, or with too many failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It was sent: a person has confirmed it. Its fallback is not sent.
    Sent,
    /// It was not sent, and is not to be sent. Its fallback, if any, is sent now.
    NotSent,
    /// Send it, at the risk of a duplicate: with a full set of attempts from now on.
    Resend,
}

/// The lowest priority.
pub(super) const PRIORITY_LAST: u8 = 3;

/// Returns the priority of a message: smaller numbers first.
pub(super) fn priority(purpose: Purpose) -> u8 {
    match purpose {
        Purpose::Emergency => 0,
        Purpose::Reply => 1,
        Purpose::Notice => 2,
        Purpose::Marketing => PRIORITY_LAST,
    }
}
