//! States of a message, and the decision after each attempt.

use std::sync::Arc;
use std::time::Duration;

use super::record::{Attempt, Claimed, End, LOOK_UPS, Settle};
use super::status::State;
use crate::channel::Channel;
use crate::layer::failover::Selector;
use crate::layer::retry::{Attempts, Schedule, StopReason};
use crate::model::clock::Timestamp;
use crate::model::error::{Error, ErrorKind, Outcome, Result};
use crate::model::lookup::LookupOutcome;
use crate::model::message::{Accepted, Message, OnUnknown};

/// The suppliers to try next: of those that can carry the message, the least tried. Each is tried once before any is
/// tried again; one with a permanent rejection is skipped, unless all have one.
pub(super) struct NextSuppliers {
    open: Vec<bool>,
    next: Vec<bool>,
}

impl NextSuppliers {
    pub(super) fn new(
        suppliers: &[&Arc<dyn Channel>],
        message: &Message,
        attempts: &[Attempt],
        now: Timestamp,
    ) -> Self {
        let infos = || suppliers.iter().map(|channel| channel.info());
        let tries = |n: usize| {
            let info = infos().nth(n);
            attempts.iter().filter(move |attempt| {
                info.is_some_and(|info| attempt.gateway == info.gateway && attempt.account == info.account.as_str())
            })
        };
        let bound = bound_by(suppliers, attempts, now);
        let may = |channel: &&Arc<dyn Channel>| bound.is_none_or(|bound| bound.is_by(channel));
        let able = suppliers.iter().map(|channel| may(channel) && channel.info().check(message).is_ok());
        let able: Vec<_> = able.collect();
        let rejected = |n: usize| tries(n).next_back().is_some_and(|last| !last.passing && !last.is_unknown);
        let mut open: Vec<_> = able.iter().enumerate().map(|(n, able)| *able && !rejected(n)).collect();
        if !open.contains(&true) {
            open = able;
        }
        let times = |n: usize| tries(n).count();
        let least = (0..open.len()).filter(|n| open.get(*n) == Some(&true)).map(times).min();
        let next = open.iter().enumerate().map(|(n, open)| *open && Some(times(n)) == least).collect();
        Self { open, next }
    }

    /// Returns `true` if this supplier may be tried now.
    pub(super) fn contains(&self, n: usize) -> bool {
        self.next.get(n) == Some(&true)
    }

    /// Returns `true` if no supplier can carry the message.
    pub(super) fn is_empty(&self) -> bool {
        !self.next.contains(&true)
    }

    /// Returns the only one that may be tried now, of several.
    pub(super) fn only(&self) -> Option<usize> {
        let mut next = (0..self.next.len()).filter(|n| self.contains(*n));
        next.next().filter(|_| self.next.len() > 1 && next.next().is_none())
    }

    /// Returns `true` if another supplier is tried before any is tried again.
    pub(super) fn has_another(&self) -> bool {
        self.next.iter().filter(|next| **next).count() > 1
    }

    /// Returns `true` if another supplier may be tried later.
    pub(super) fn has_later(&self) -> bool {
        self.open.iter().filter(|open| **open).count() > 1
    }
}

/// Returns the attempt whose supplier alone may send the message: the last one with an unknown outcome and without
/// failover, or of which the supplier makes no second message; else the last one of all, if its failure was of a kind
/// without failover.
fn bound_by<'a>(suppliers: &[&Arc<dyn Channel>], attempts: &'a [Attempt], now: Timestamp) -> Option<&'a Attempt> {
    let is_there = |attempt: &Attempt| suppliers.iter().any(|channel| attempt.is_by(channel));
    // Without that supplier, a person who resends the message has chosen another.
    let is_repeated = |attempt: &Attempt| attempt.is_repeatable(now) && (!attempt.earlier || is_there(attempt));
    if let Some(unknown) = attempts.iter().rfind(|one| one.is_unknown && (one.bound || is_repeated(one))) {
        return Some(unknown);
    }
    // A supplier that the line no longer has, or after whose failure a person resent the message, binds it no more.
    let is_held = |last: &&Attempt| last.bound && !last.earlier && is_there(last);
    attempts.last().filter(is_held)
}

/// The facts on which the decision after an attempt depends.
pub(super) struct AttemptContext<'a> {
    pub(super) message: &'a Message,
    pub(super) schedule: &'a Schedule,
    /// The number of attempts, this one included.
    pub(super) times: u32,
    /// When the first attempt began.
    pub(super) began: Timestamp,
    /// An earlier attempt has an unknown outcome, and the message was sent again within the idempotency window.
    pub(super) has_unknown: bool,
    /// The time from now within which the supplier makes no second message of a resend.
    pub(super) repeatable_for: Option<Duration>,
    /// Another supplier is tried before any is tried again.
    pub(super) another: bool,
    /// Another supplier, whose failure was transient, is tried again.
    pub(super) later: bool,
    pub(super) now: Timestamp,
    pub(super) random: u64,
}

/// The maximum number of attempts for a message.
const ATTEMPTS_MAX: u32 = 20;

/// The maximum number of resends after unknown outcomes, for a message that allows duplicates.
const RESENT_MAX: u32 = 3;

/// The stored outcome of an attempt that failed by a fault of the account.
const SUSPENDED: &str = "suspended";

/// The number of times the process may end during a send before the message is taken for the cause.
const DEATHS_MAX: usize = 3;

/// The reason for a message that a worker left while it was being sent.
pub(super) const INTERRUPTED: &str = "outcome unknown: the process ended during the send";

/// The reason for a message with an unknown outcome that its gateway no longer recognises.
const UNREPEATABLE: &str =
    "outcome unknown: an earlier attempt may have been accepted, and the gateway no longer recognises a resend";

/// The reason for parking a message that is taken for the cause of the process's end.
pub(super) const POISON: &str =
    "outcome unknown: the process ended during each of three sends, perhaps because of this message";

/// The wait before look-ups after a restore: by then a gateway can find what it accepted before.
pub(super) const RESTORED_LOOK_UP: Duration = Duration::from_secs(600);

/// The reason for a message that was not sent before its `not_after`.
pub(super) const EXPIRED: &str = "its not_after passed before it was sent";

/// Returns the reason for a message that waits for a suspended account.
pub(super) fn suspended(reason: &str) -> String {
    format!("the account is suspended: {reason}")
}

impl End {
    /// Returns the end of a message whose earlier attempt may have been accepted, and that its account no longer
    /// recognises.
    pub(super) fn unrepeatable(message: &Message, now: Timestamp) -> Self {
        let (state, due) = unknown_outcome(message, RESENT_MAX, now);
        Self { due, ..Self::without_attempt(state, UNREPEATABLE, now) }
    }

    /// Returns an end without an attempt.
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
            lane: None,
            segments: None,
            price: None,
            reason: Some(reason.to_owned()),
            now,
        }
    }

    /// Returns this end for a message that waits until its account is resumed.
    pub(super) fn suspended(mut self, wait: Duration) -> Self {
        // Another supplier may take it over.
        (self.outcome, self.passing, self.bound) = (SUSPENDED, true, false);
        // One that another supplier takes over does not wait.
        if self.state != State::Queued {
            (self.state, self.due) = (State::Deferred, Some(self.now.plus(wait)));
            self.reason = self.reason.take().map(|reason| suspended(&reason));
        }
        self
    }

    /// Returns this end for a message with earlier attempts: if the outcome of one is unknown, only a person can decide
    /// that it was not sent.
    pub(super) fn after(mut self, attempts: &[Attempt]) -> Self {
        let is_unknown = attempts.iter().any(|attempt| attempt.is_unknown);
        if is_unknown && self.state.is_not_sent() {
            let reason = self.reason.take().unwrap_or_default();
            self.state = State::Parked;
            self.reason =
                Some(format!("outcome unknown: an earlier attempt may have been accepted; the last one: {reason}"));
        }
        self
    }
}

impl AttemptContext<'_> {
    /// Decides what is stored after an attempt, without side effects.
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
                    bound: !Selector::can_fail_over(error, self.message)
                        // Otherwise it is sent again only once it is certain that it was not accepted.
                        && (error.outcome() != Outcome::Unknown || self.message.on_unknown == OnUnknown::Resend),
                    reason: Some(error.to_string()),
                    ..end(state)
                }
            }
        }
    }

    fn failed(&self, error: &Error) -> (State, Option<Timestamp>) {
        // A part was accepted before the person opted out.
        if error.outcome() == Outcome::Unknown && error.kind() == ErrorKind::OptedOut {
            return (State::Parked, None);
        }
        let spent = self.times >= ATTEMPTS_MAX;
        if self.another && !spent && Selector::can_fail_over(error, self.message) {
            return (State::Queued, Some(self.now));
        }
        // A permanent failure of this account is not final while another supplier only failed transiently.
        let waits = Error::new(ErrorKind::Unavailable, "another gateway is tried again");
        let elsewhere = self.later && !error.is_retryable() && Selector::can_fail_over(error, self.message);
        let error = if elsewhere { &waits } else { error };
        let elapsed = self.now.since(self.began);
        let tried =
            Attempts::new(self.times, elapsed).has_unknown(self.has_unknown).repeatable_for(self.repeatable_for);
        match self.schedule.next(error, Some(self.message), tried, self.now, self.random) {
            Ok(wait) if !spent => (State::Deferred, Some(self.now.plus(wait))),
            Err(StopReason::Unknown) => unknown_outcome(self.message, self.times, self.now),
            // A part was accepted: a person decides about the rest.
            _ if !error.accepted_parts().is_empty() => (State::Parked, None),
            _ if error.outcome() == Outcome::Unknown || self.has_unknown && error.is_retryable() => {
                unknown_outcome(self.message, RESENT_MAX, self.now)
            }
            // Transient failures, for too long.
            _ if error.is_retryable() => (State::Parked, None),
            _ => (State::Rejected, None),
        }
    }
}

/// Returns the state of a message whose outcome is unknown after this many attempts.
fn unknown_outcome(message: &Message, times: u32, now: Timestamp) -> (State, Option<Timestamp>) {
    match message.on_unknown {
        OnUnknown::Park => (State::Parked, None),
        // Bounded, because the message may be what ends the process.
        OnUnknown::Resend if times < RESENT_MAX => (State::Queued, Some(now)),
        OnUnknown::Reconcile | OnUnknown::Resend => (State::Unknown, LOOK_UPS.first().map(|wait| now.plus(*wait))),
    }
}

/// Decides about a message that a worker left while it was being sent.
pub(super) fn left_behind(held: &Claimed, now: Timestamp) -> Settle {
    let times = u32::try_from(held.tries().count()).unwrap_or(u32::MAX);
    let poison = held.deaths() >= DEATHS_MAX;
    let is_repeatable = held.attempts.last().is_some_and(|last| last.is_repeatable(now));
    let (state, due) = match &held.message {
        Some(_) if !poison && is_repeatable => (State::Queued, Some(now.plus(Schedule::DURABLE.backoff_after(times)))),
        Some(message) if !poison => unknown_outcome(message, times, now),
        _ => (State::Parked, None),
    };
    let reason = Some((if poison { POISON } else { INTERRUPTED }).to_owned());
    Settle { state, due, reason, from: &[State::Sending], now }
}

/// Decides by the result of a look-up.
pub(super) fn reconciled(evidence: &LookupOutcome, lookups: u32, now: Timestamp) -> Settle {
    let settle =
        |state, due, reason: &str| Settle { state, due, reason: Some(reason.to_owned()), from: &[State::Unknown], now };
    match evidence {
        LookupOutcome::Found(_) => settle(State::Accepted, None, "found by look-up"),
        LookupOutcome::NotFound => settle(State::Queued, Some(now), "not found by look-up: certainly not accepted"),
        _ => match LOOK_UPS.get(lookups as usize + 1) {
            Some(wait) => {
                settle(State::Unknown, Some(now.plus(*wait)), "outcome unknown: look-ups are inconclusive so far")
            }
            None => settle(State::Parked, None, "outcome unknown: all look-ups were inconclusive"),
        },
    }
}
