//! What becomes of a message: its states, and the decision after each attempt.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::record::{Attempt, Claimed, End, Settle};
use crate::channel::Channel;
use crate::layer::failover::Selector;
use crate::layer::retry::{Attempts, Schedule, StopReason};
use crate::model::address::Address;
use crate::model::clock::Timestamp;
use crate::model::delivery::DeliveryState;
use crate::model::error::{Error, ErrorKind, Outcome, Result};
use crate::model::id::{AccountId, MessageId};
use crate::model::lookup::LookupOutcome;
use crate::model::message::{Accepted, Message, Money, OnUnknown, Purpose};

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

/// Where a message stands.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The gateway has it: see [`Status::delivery`] for how far it got.
    Accepted,
    /// It was called back before it went.
    Cancelled,
    /// A worker is about to send it. On SQLite, where one worker runs, this is not written down: see
    /// [`Queued`](Self::Queued).
    Claimed,
    /// It waits for a later time: its own, the policy's, that of its recipient's rate, or that of the next try.
    Deferred,
    /// Its `not_after` passed before it went.
    Expired,
    /// Nobody knows whether it went, or it failed too often: a person decides, by
    /// [`settle`](super::Switchboard::settle).
    Parked,
    /// It waits for a worker, or for the rate of its account.
    Queued,
    /// Our own policy said no.
    Refused,
    /// The gateway said no.
    Rejected,
    /// It is on its way to the gateway.
    Sending,
    /// It may have gone, and this is being found out.
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

    /// The state as one word, as it is stored.
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

    /// Whether it certainly did not go, and will not.
    pub(super) const fn is_no(self) -> bool {
        matches!(self, Self::Expired | Self::Refused | Self::Rejected)
    }

    /// Whether somebody should look.
    pub(super) const fn is_grave(self) -> bool {
        matches!(self, Self::Parked | Self::Unknown)
    }

    /// Whether nothing more will be done about it, unless a person does.
    pub const fn is_settled(self) -> bool {
        matches!(self, Self::Accepted | Self::Cancelled | Self::Expired | Self::Parked | Self::Refused | Self::Rejected)
    }
}

/// What became of a message.
///
/// Once its line's retention is over, the recipient, the reason and the gateway's id are gone; the rest stays.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its number.
    pub id: Id,
    /// The line that it is of.
    pub line: String,
    /// Its key.
    pub key: String,
    /// Its tag, under which it is counted in reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Who it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<Address>,
    /// Where it stands.
    pub state: State,
    /// When it is due, where it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// How often it was handed to a gateway.
    pub attempts: u32,
    /// The attempts, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<SendAttempt>,
    /// The gateway that it was handed to last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// The gateway's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_id: Option<MessageId>,
    /// How far it has got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliveryState>,
    /// Why it stands there, in plain words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The kind of the last attempt's error, or of our own refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ErrorKind>,
    /// The gateway's code of the last attempt's error, or the rule of the policy that refused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The number of segments that the gateway counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<u32>,
    /// The price that the gateway gave when it accepted the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Money>,
    /// What went instead of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Id>,
    /// The message that it went instead of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead_of: Option<Id>,
}

/// One attempt to hand a message to a gateway.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendAttempt {
    /// The gateway.
    pub gateway: String,
    /// Our account at the gateway.
    pub account: AccountId,
    /// When it began.
    pub begun: Timestamp,
    /// When it ended: none while it runs, and where the process ended first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// Its outcome: none while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<AttemptOutcome>,
    /// The kind of its error, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ErrorKind>,
    /// The gateway's code of its error, if it gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The number of segments that the gateway counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<u32>,
    /// The price that the gateway gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Money>,
}

/// The outcome of one attempt to send.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// The gateway has the message.
    Accepted,
    /// Certainly not sent: nothing of the request left this machine.
    NotSent,
    /// Certainly not sent: the gateway said no.
    Rejected,
    /// Certainly not sent: the account could not send at all.
    Suspended,
    /// It may have gone.
    Unknown,
}

/// A message whose end is known, or that waits for a person.
///
/// Its key and all that follows are as they are when the event is delivered, but for the attempts: these are those up to
/// the event. Once the line's retention is over, the recipient is gone.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Its number.
    pub id: Id,
    /// Where it stands.
    pub state: State,
    /// Why, in plain words.
    pub reason: Option<String>,
    /// The kind of the last attempt's error, or of our own refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ErrorKind>,
    /// The gateway's code of the last attempt's error, or the rule of the policy that refused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Its key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// Its tag, under which it is counted in reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Who it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<Address>,
    /// The number of segments that the gateway counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<u32>,
    /// The price that the gateway gave when it accepted the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Money>,
    /// The attempts, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<SendAttempt>,
}

impl Settled {
    /// The event as it is stored. The rest is read from the message when the event is delivered.
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

    /// Fills in what is known of the message, and of its attempts up to the time of the event.
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

/// The segments and the price of a message: those of the last attempt that has them.
pub(super) fn charged(history: &[SendAttempt]) -> (Option<u32>, Option<Money>) {
    let last = history.iter().rev();
    (last.clone().find_map(|attempt| attempt.segments), last.clone().find_map(|attempt| attempt.price))
}

/// What a person says of a message that may have gone, or that failed too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It went: somebody has seen it. Nothing goes instead of it any more.
    Sent,
    /// It did not go, and is not to be sent: what goes instead of it, if anything, goes now.
    NotSent,
    /// Send it, at the risk of a second copy: with as many tries as a new message has, from now on.
    Resend,
}

/// What goes last.
pub(super) const PRIORITY_LAST: u8 = 3;

/// What goes first: a smaller number before a larger.
pub(super) fn priority(purpose: Purpose) -> u8 {
    match purpose {
        Purpose::Emergency => 0,
        Purpose::Reply => 1,
        Purpose::Notice => 2,
        Purpose::Marketing => PRIORITY_LAST,
    }
}

/// Which suppliers a message is handed to next: of those that can carry it, the ones that were asked less often than
/// others. So each is asked once, and again only when all have been; one that said a final no is left out, unless all did.
pub(super) struct ToAsk {
    open: Vec<bool>,
    next: Vec<bool>,
}

impl ToAsk {
    pub(super) fn of(suppliers: &[&Arc<dyn Channel>], message: &Message, attempts: &[Attempt]) -> Self {
        let infos = || suppliers.iter().map(|channel| channel.info());
        let tries = |n: usize| {
            let info = infos().nth(n);
            attempts.iter().filter(move |attempt| {
                info.is_some_and(|info| attempt.gateway == info.gateway && attempt.account == info.account.as_str())
            })
        };
        // Once it may have gone by one that no other stands in for, it goes by that one or by none.
        let bound = attempts.iter().rfind(|attempt| attempt.bound);
        let may = |channel: &&Arc<dyn Channel>| bound.is_none_or(|bound| bound.is_by(channel));
        let able = suppliers.iter().map(|channel| may(channel) && channel.info().check(message).is_ok());
        let able: Vec<_> = able.collect();
        let said_no = |n: usize| tries(n).next_back().is_some_and(|last| !last.passing && !last.doubted);
        let mut open: Vec<_> = able.iter().enumerate().map(|(n, able)| *able && !said_no(n)).collect();
        if !open.contains(&true) {
            open = able;
        }
        let times = |n: usize| tries(n).count();
        let least = (0..open.len()).filter(|n| open.get(*n) == Some(&true)).map(times).min();
        let next = open.iter().enumerate().map(|(n, open)| *open && Some(times(n)) == least).collect();
        Self { open, next }
    }

    /// Whether this one may be asked now.
    pub(super) fn contains(&self, n: usize) -> bool {
        self.next.get(n) == Some(&true)
    }

    /// Whether nobody can carry it.
    pub(super) fn is_empty(&self) -> bool {
        !self.next.contains(&true)
    }

    /// Whether there is another one to ask before any is asked again.
    pub(super) fn another(&self) -> bool {
        self.next.iter().filter(|next| **next).count() > 1
    }

    /// Whether there is another one to ask later.
    pub(super) fn later(&self) -> bool {
        self.open.iter().filter(|open| **open).count() > 1
    }
}

/// How a message goes on after an attempt.
pub(super) struct After<'a> {
    pub(super) message: &'a Message,
    pub(super) schedule: &'a Schedule,
    /// How often it was tried, this time included.
    pub(super) times: u32,
    /// When it was first tried.
    pub(super) began: Timestamp,
    /// Another gateway is to be asked before any is asked again.
    pub(super) another: bool,
    /// Another gateway is to be asked again, which only failed for now.
    pub(super) later: bool,
    pub(super) now: Timestamp,
    pub(super) chance: u64,
}

/// How long after a doubtful send the gateway is asked, and after each answer that says nothing.
const LOOK_UPS: [Duration; 5] = [
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
    Duration::from_secs(3600),
    Duration::from_secs(6 * 3600),
];

/// How long after so many answers that say nothing the gateway is asked again. None: it has been asked often enough.
pub(super) fn look_up_wait(asked: u32) -> Option<Duration> {
    LOOK_UPS.get(asked as usize).copied()
}

/// How often a message may be handed to a gateway in all, whatever happens.
const ATTEMPTS_MAX: u32 = 20;

/// How often a message that may come twice is handed to a gateway, where each time nobody knows what became of it.
const RESENT_MAX: u32 = 3;

/// How an attempt ended that failed by a fault of the account.
const SUSPENDED: &str = "suspended";

/// How often the process may end while a message is being sent: then it is taken for the cause.
const DEATHS_MAX: usize = 3;

/// Why a message stands in doubt that a worker left behind.
pub(super) const INTERRUPTED: &str = "the process ended while it was being sent: it may have gone";

/// Why a message is parked that is taken for the cause.
pub(super) const POISON: &str =
    "the process ended each of three times while it was being sent: it may have gone, and may end the next process too";

/// How long after a restore it is asked what became of the messages: by then a gateway has filed what it took before.
pub(super) const RESTORED_LOOK_UP: Duration = Duration::from_secs(600);

/// Why a message ends whose time is over.
pub(super) const EXPIRED: &str = "its not_after passed before it went";

/// Why a message waits whose account is suspended.
pub(super) fn suspended(reason: &str) -> String {
    format!("the account is suspended: {reason}")
}

impl End {
    /// An end without an attempt.
    pub(super) fn without_attempt(state: State, reason: &str, now: Timestamp) -> Self {
        Self {
            state,
            due: None,
            ids: Vec::new(),
            recipient: None,
            delivery: None,
            outcome: "",
            kind: "",
            code: None,
            passing: false,
            bound: false,
            segments: None,
            price: None,
            reason: Some(reason.to_owned()),
            now,
        }
    }

    /// The same for a message that waits until its account works again.
    pub(super) fn suspended(mut self, wait: Duration) -> Self {
        (self.outcome, self.passing) = (SUSPENDED, true);
        // One that another gateway takes over does not wait.
        if self.state != State::Queued {
            (self.state, self.due) = (State::Deferred, Some(self.now.plus(wait)));
            self.reason = self.reason.take().map(|reason| suspended(&reason));
        }
        self
    }

    /// The same for a message of which an earlier try may have gone: that it did not go is then for a person to say.
    pub(super) fn after(mut self, attempts: &[Attempt]) -> Self {
        let doubted = attempts.iter().any(|attempt| attempt.doubted);
        if doubted && self.state.is_no() {
            let reason = self.reason.take().unwrap_or_default();
            self.state = State::Parked;
            self.reason = Some(format!("an earlier try may have gone; the last one: {reason}"));
        }
        self
    }
}

impl After<'_> {
    /// What is written down: a pure decision.
    pub(super) fn decide(&self, sent: &Result<Accepted>) -> End {
        let end = |state| End { reason: None, ..End::without_attempt(state, "", self.now) };
        match sent {
            Ok(accepted) => {
                let ids = accepted.ids().cloned().collect();
                let (segments, price) = (accepted.segments, accepted.price);
                let (delivery, recipient) = (Some(accepted.state), accepted.recipient.clone());
                End { ids, recipient, delivery, segments, price, outcome: "accepted", ..end(State::Accepted) }
            }
            Err(error) => {
                let (state, due) = self.failed(error);
                End {
                    due,
                    ids: error.accepted_parts().to_vec(),
                    outcome: error.outcome().as_str(),
                    kind: error.kind().as_str(),
                    code: error.code().map(str::to_owned),
                    passing: error.is_retryable(),
                    bound: error.outcome() == Outcome::Unknown
                        && self.message.on_unknown == OnUnknown::Resend
                        && !Selector::can_fail_over(error, self.message),
                    reason: Some(error.to_string()),
                    ..end(state)
                }
            }
        }
    }

    fn failed(&self, error: &Error) -> (State, Option<Timestamp>) {
        // A part of it went before the person said STOP.
        if error.outcome() == Outcome::Unknown && error.kind() == ErrorKind::OptedOut {
            return (State::Parked, None);
        }
        let spent = self.times >= ATTEMPTS_MAX;
        if self.another && !spent && Selector::can_fail_over(error, self.message) {
            return (State::Queued, Some(self.now));
        }
        // A no of this account's own is not the end where another one only failed for now.
        let waits = Error::new(ErrorKind::Unavailable, "another gateway is to be asked again");
        let elsewhere = self.later && !error.is_retryable() && Selector::can_fail_over(error, self.message);
        let error = if elsewhere { &waits } else { error };
        let elapsed = self.now.since(self.began);
        let tried = Attempts { times: self.times, elapsed };
        match self.schedule.next(error, Some(self.message), tried, self.now, self.chance) {
            Ok(wait) if !spent => (State::Deferred, Some(self.now.plus(wait))),
            Err(StopReason::Unknown) => in_doubt(self.message, self.times, self.now),
            // Half of it went: a person has to see to the rest.
            _ if !error.accepted_parts().is_empty() => (State::Parked, None),
            _ if error.outcome() == Outcome::Unknown => in_doubt(self.message, RESENT_MAX, self.now),
            // It failed for now, and goes on doing so.
            _ if error.is_retryable() => (State::Parked, None),
            _ => (State::Rejected, None),
        }
    }
}

/// Where a message goes that may have gone, after so many tries.
fn in_doubt(message: &Message, times: u32, now: Timestamp) -> (State, Option<Timestamp>) {
    match message.on_unknown {
        OnUnknown::Park => (State::Parked, None),
        // One that takes the process with it each time is not sent for ever.
        OnUnknown::Resend if times < RESENT_MAX => (State::Queued, Some(now)),
        OnUnknown::Reconcile | OnUnknown::Resend => (State::Unknown, LOOK_UPS.first().map(|wait| now.plus(*wait))),
    }
}

/// Where a message goes that a worker left behind while it was being sent.
pub(super) fn left_behind(held: &Claimed, now: Timestamp) -> Settle {
    let times = u32::try_from(held.tries().count()).unwrap_or(u32::MAX);
    let poison = held.deaths() >= DEATHS_MAX;
    let (state, due) = match &held.message {
        Some(message) if !poison => in_doubt(message, times, now),
        _ => (State::Parked, None),
    };
    let reason = Some((if poison { POISON } else { INTERRUPTED }).to_owned());
    Settle { state, due, reason, from: &[State::Sending], now }
}

/// What an answer about a doubtful message says.
pub(super) fn reconciled(evidence: &LookupOutcome, lookups: u32, now: Timestamp) -> Settle {
    let settle =
        |state, due, reason: &str| Settle { state, due, reason: Some(reason.to_owned()), from: &[State::Unknown], now };
    match evidence {
        LookupOutcome::Found(_) => settle(State::Accepted, None, "the gateway was asked, and has it"),
        LookupOutcome::NotFound => {
            settle(State::Queued, Some(now), "the gateway was asked, and certainly does not have it")
        }
        _ => match LOOK_UPS.get(lookups as usize + 1) {
            Some(wait) => {
                settle(State::Unknown, Some(now.plus(*wait)), "it may have gone; the gateway could not tell yet")
            }
            None => settle(State::Parked, None, "it may have gone, and the gateway cannot tell"),
        },
    }
}
