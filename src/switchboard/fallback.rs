//! Fallbacks: messages sent in place of others that do not arrive, usually over another medium.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Line;
use super::status::State;
use crate::model::capability::Capability;
use crate::model::clock::Timestamp;
use crate::model::delivery::DeliveryState;
use crate::model::error::{Error, Result};
use crate::model::message::Message;
use crate::policy::{Decision, Reason};

/// A message for [`Switchboard::send`](super::Switchboard::send), with an optional fallback.
///
/// A [`Message`] converts into one without a fallback.
///
/// ```
/// use std::time::Duration;
/// use civic_messaging::switchboard::{Fallback, Outgoing};
/// use civic_messaging::{Address, Message};
/// use civic_messaging::message::Template;
///
/// let template = Template::new("flood_warning").language("en_GB");
/// let whatsapp = Message::template(Address::whatsapp("07700 900123")?, template);
/// let sms = Message::text(Address::phone("07700 900123")?, "Flood warning for Mill Lane: move upstairs now.");
/// let warning = Outgoing::new(whatsapp.key("flood-17")).fallback(Fallback::new(sms, Duration::from_secs(15 * 60)));
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    pub(super) message: Message,
    pub(super) fallback: Option<Fallback>,
}

impl Outgoing {
    /// Returns a message without a fallback.
    pub fn new(message: Message) -> Self {
        Self { message, fallback: None }
    }

    /// Sets the fallback.
    #[must_use]
    pub fn fallback(mut self, fallback: Fallback) -> Self {
        self.fallback = Some(fallback);
        self
    }

    /// Checks that the message and its fallback can be sent in time, when the message is due then and the policy
    /// deferred it for this reason.
    pub(super) fn check_time(&self, due: Timestamp, deferred: Option<&Reason>, now: Timestamp) -> Result<()> {
        let late = |message: &Message, at| message.not_after.is_some_and(|until| until < at);
        if late(&self.message, now) {
            return Err(Error::invalid("not_after", "is past: give a later one, or none"));
        }
        if late(&self.message, due) {
            let rule = match deferred {
                Some(reason) => format!("is before the time to which the policy defers it: {reason}"),
                None => "is before the scheduled time: give a later one, or send it sooner".to_owned(),
            };
            return Err(Error::invalid("not_after", rule));
        }
        if let Some(fallback) = &self.fallback
            && late(&fallback.message, fallback.within_ms.map_or(due, |_| fallback.due(due)))
        {
            let rule = "is before the time at which it would be sent: give a later one, or a shorter wait";
            return Err(Error::invalid("fallback.not_after", rule));
        }
        Ok(())
    }
}

impl From<Message> for Outgoing {
    fn from(message: Message) -> Self {
        Self::new(message)
    }
}

/// A message sent in place of another that does not arrive.
///
#[doc = include_str!("../../docs/fallback.md")]
///
/// It is a message of its own, is checked by the policy like any other, and
/// [`Status::fallback`](super::Status::fallback) of the first message has its [`Id`](super::Id).
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Fallback {
    pub(super) message: Message,
    /// `None`: it is sent on a failure only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    within_ms: Option<u64>,
    #[serde(default)]
    even_if_unknown: bool,
}

impl Fallback {
    /// Returns a fallback with a deadline: sent unless the first message is delivered within this time.
    ///
    /// The time counts from when the first message was enqueued, or is due.
    ///
    /// Give it no key: its key is derived from that of the first message. A channel of the first message must report
    /// deliveries ([`Capability::delivery_status`](crate::Capability::delivery_status)) or support look-ups
    /// ([`Capability::look_up`](crate::Capability::look_up)); otherwise [`send`](super::Switchboard::send) refuses it.
    pub fn new(message: Message, within: Duration) -> Self {
        let within_ms = Some(u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
        Self { message, within_ms, even_if_unknown: false }
    }

    /// Returns a fallback without a deadline: sent only after a failure is reported.
    ///
    /// It is sent however late the failure is reported, and never for lack of a report.
    ///
    /// ```
    /// use civic_messaging::switchboard::{Fallback, Outgoing};
    /// use civic_messaging::{Address, Message};
    ///
    /// let whatsapp = Message::text(Address::whatsapp("07700 900123")?, "Your bin is collected on Tuesday.");
    /// let sms = Message::text(Address::phone("07700 900123")?, "Your bin is collected on Tuesday.");
    /// let note = Outgoing::new(whatsapp).fallback(Fallback::on_failure(sms));
    /// # Ok::<(), civic_messaging::Error>(())
    /// ```
    pub fn on_failure(message: Message) -> Self {
        Self { message, within_ms: None, even_if_unknown: false }
    }

    /// Sends the fallback even if the outcome of the first message is unknown: the person may get both.
    #[must_use]
    pub fn even_if_unknown(mut self) -> Self {
        self.even_if_unknown = true;
        self
    }

    /// Checks that the line can carry the fallback, and that it has a key and a deadline as required.
    pub(super) fn check(&self, line: &Line, first: &Message) -> Result<()> {
        if self.message.key.is_some() {
            return Err(Error::invalid("fallback.key", "is derived from that of the first message: give it none"));
        }
        if self.within_ms == Some(0) {
            return Err(Error::invalid("fallback.within", "must be above 0, so that the first message can arrive"));
        }
        line.check_message(&self.message).map_err(|error| {
            let field = format!("fallback.{}", error.field().unwrap_or("message"));
            error.with_field(field)
        })?;
        let suppliers = line.suppliers(&first.to);
        let mut carries = suppliers.iter().map(|channel| channel.info()).filter(|info| info.check(first).is_ok());
        let silent = carries.find(|info| !has_delivery_reports(&info.capability) && !info.capability.look_up);
        match silent.filter(|_| self.within_ms.is_some()) {
            Some(info) => {
                let rule = format!(
                    "has a deadline, but {} as configured neither reports deliveries nor supports look-ups: configure \
                     delivery reports, or use Fallback::on_failure",
                    info.gateway
                );
                Err(Error::invalid("fallback", rule))
            }
            None => Ok(()),
        }
    }

    /// Returns the message.
    pub(super) fn message(&self) -> &Message {
        &self.message
    }

    /// Returns when the fallback of a message that is due then is first examined.
    pub(super) fn due(&self, due: Timestamp) -> Timestamp {
        self.within_ms.map_or(ON_FAILURE, |within| due.plus(Duration::from_millis(within)))
    }

    /// Returns the latest time at which the fallback is next examined, if its message is due by now.
    pub(super) fn bound(&self, now: Timestamp) -> Timestamp {
        self.within_ms.map_or(now.plus(FALLBACK_WAIT), |within| now.plus(Duration::from_millis(within)))
    }

    /// Decides about the fallback at its deadline, or once the first message failed. Everything on which this and
    /// [`after`](Self::after) depend is in docs/fallback.md, which is generated from them.
    pub(super) fn decide(&self, first: &First) -> FallbackDecision {
        let timed = self.within_ms.is_some();
        match first.state {
            // A refusal that concerns the person or the council holds in every state.
            _ if first.opted_out || first.refused => FallbackDecision::Never,
            State::Cancelled => FallbackDecision::Never,
            State::Accepted => match first.delivery {
                Some(delivery) if delivery >= DeliveryState::Delivered => FallbackDecision::Never,
                Some(delivery) if delivery.is_failure() => FallbackDecision::Send,
                _ if timed => FallbackDecision::LookUp,
                _ => FallbackDecision::Wait,
            },
            State::Expired | State::Rejected | State::Refused => FallbackDecision::Send,
            State::Claimed | State::Sending => FallbackDecision::Wait,
            // Work that was due before a restore may have been accepted since, the fallback too: a person decides.
            State::Unknown | State::Parked | State::Queued | State::Deferred if first.is_unknown => {
                let is_sent = self.even_if_unknown && !first.restored && (timed || first.state == State::Parked);
                if is_sent { FallbackDecision::Send } else { FallbackDecision::Wait }
            }
            State::Parked => FallbackDecision::CancelFirst,
            State::Queued | State::Deferred if timed => FallbackDecision::CancelFirst,
            State::Queued | State::Deferred | State::Unknown => FallbackDecision::Wait,
        }
    }

    /// Decides again with the answer of the policy or the gateway.
    pub(super) fn after(&self, decision: FallbackDecision, answer: Option<&Answer>) -> FallbackDecision {
        match (decision, answer) {
            (FallbackDecision::CancelFirst, Some(Answer::Policy(Decision::Allow))) => FallbackDecision::CancelFirst,
            (FallbackDecision::CancelFirst, Some(Answer::Policy(Decision::Refuse(_)))) => FallbackDecision::Never,
            (FallbackDecision::LookUp, Some(Answer::NotDelivered)) => FallbackDecision::Send,
            (FallbackDecision::LookUp, Some(Answer::Unclear)) if self.even_if_unknown => FallbackDecision::Send,
            (FallbackDecision::CancelFirst | FallbackDecision::LookUp, _) => FallbackDecision::Wait,
            (decision, _) => decision,
        }
    }

    /// Returns when a waiting fallback is examined next.
    pub(super) fn again(&self, first: &First, now: Timestamp) -> Timestamp {
        // A failure brings it forward.
        let idle = self.within_ms.is_none() && first.state != State::Parked;
        if idle { ON_FAILURE } else { now.plus(FALLBACK_WAIT) }
    }
}

/// The due time of a fallback without a deadline: a failure brings it forward.
pub(super) const ON_FAILURE: Timestamp = Timestamp::from_millis(i64::MAX);

/// The wait before a waiting fallback is examined again.
const FALLBACK_WAIT: Duration = Duration::from_secs(5);

/// Returns `true` if the channel reports deliveries without a look-up.
pub(super) fn has_delivery_reports(can: &Capability) -> bool {
    can.delivery_status && (can.receive || can.poll)
}

impl fmt::Debug for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback")
            .field("message", &self.message)
            .field("within", &self.within_ms.map(Duration::from_millis))
            .field("even_if_unknown", &self.even_if_unknown)
            .finish()
    }
}

/// The first message, as far as the fallback depends on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct First {
    pub(super) state: State,
    pub(super) delivery: Option<DeliveryState>,
    /// The outcome of one of its attempts is unknown.
    pub(super) is_unknown: bool,
    /// The person opted out.
    pub(super) opted_out: bool,
    /// Our own policy refused it, and not for a reason of the medium only.
    pub(super) refused: bool,
    /// It is from a backup.
    pub(super) restored: bool,
}

/// The decision about a fallback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FallbackDecision {
    /// The message was not sent: once the policy allows the fallback, the message is cancelled and the fallback sent.
    CancelFirst,
    /// The deadline has passed without a report of delivery: a channel without reports is queried.
    LookUp,
    Send,
    Never,
    /// The fallback is examined again later.
    Wait,
}

/// The answer that a decision needs.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// The policy's decision about the fallback.
    Policy(Decision),
    /// The channel reports deliveries, or its look-up found none.
    NotDelivered,
    /// The look-up is inconclusive, or failed.
    Unclear,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::address::Address;

    const QUEUED: First = First {
        state: State::Queued,
        delivery: None,
        is_unknown: false,
        opted_out: false,
        refused: false,
        restored: false,
    };

    /// Every case in words, with the answer.
    fn cases() -> Vec<(&'static str, First, Option<Answer>)> {
        let policy = |decision| Some(Answer::Policy(decision));
        let reason = || Reason::new("r", "w");
        let first_in = |state| First { state, ..QUEUED };
        let is_unknown = |state| First { state, is_unknown: true, ..QUEUED };
        let accepted = |delivery| First { delivery: Some(delivery), ..first_in(State::Accepted) };
        let waits = first_in(State::Deferred);
        let until = Timestamp::from_millis(1);
        vec![
            ("rejected, or expired before it was sent", first_in(State::Rejected), None),
            ("reported as not delivered", accepted(DeliveryState::Failed), None),
            ("refused by the policy, for a reason of the medium", first_in(State::Refused), None),
            ("refused by the policy, for any other reason", First { refused: true, ..first_in(State::Refused) }, None),
            (
                "to a person who opted out, however reported",
                First { opted_out: true, ..is_unknown(State::Parked) },
                None,
            ),
            ("delivered", accepted(DeliveryState::Delivered), None),
            ("cancelled with `cancel`", first_in(State::Cancelled), None),
            (
                "accepted, and not reported as delivered in time",
                accepted(DeliveryState::Sent),
                Some(Answer::NotDelivered),
            ),
            ("accepted, and look-ups are inconclusive", accepted(DeliveryState::Accepted), Some(Answer::Unclear)),
            ("queued or waiting for a retry at the deadline", waits, policy(Decision::Allow)),
            (
                "queued or waiting for a retry at the deadline, and the policy defers the fallback",
                waits,
                policy(Decision::Defer { until, reason: reason() }),
            ),
            (
                "queued or waiting for a retry at the deadline, and the policy refuses the fallback",
                waits,
                policy(Decision::Refuse(reason())),
            ),
            ("parked, and certainly not sent", first_in(State::Parked), policy(Decision::Allow)),
            ("parked, with an unknown outcome", is_unknown(State::Parked), None),
            ("unknown outcome, look-ups pending", is_unknown(State::Unknown), None),
            ("being sent", first_in(State::Sending), None),
            ("unknown outcome from before a restore", First { restored: true, ..is_unknown(State::Parked) }, None),
        ]
    }

    fn fallback() -> Fallback {
        Fallback::new(Message::text(Address::phone("07700 900123").unwrap(), "Hello"), Duration::from_secs(60))
    }

    /// Generates the table of docs/fallback.md: `CIVIC_WRITE=1 cargo test --all-features --lib switchboard::fallback`.
    #[test]
    fn fallback_table_matches_the_decision() {
        let timed = fallback();
        let on_failure = Fallback::on_failure(timed.message.clone());
        let mut page = "| first message | `Fallback::new` | `Fallback::on_failure` |\n|---|---|---|\n".to_owned();
        for (case, first, answer) in cases() {
            let decide = |fallback: &Fallback| fallback.after(fallback.decide(&first), answer.as_ref());
            let cell = |fallback: &Fallback| {
                let (decision, even) = (decide(fallback), decide(&fallback.clone().even_if_unknown()));
                let text = match decision {
                    FallbackDecision::LookUp | FallbackDecision::CancelFirst => "sent; the first is cancelled",
                    FallbackDecision::Send => "sent",
                    FallbackDecision::Never => "never sent",
                    FallbackDecision::Wait => "waits",
                };
                let even = if even == decision { "" } else { "; sent with `even_if_unknown`" };
                format!("{text}{even}")
            };
            page.push_str(&format!("| {case} | {} | {} |\n", cell(&timed), cell(&on_failure)));
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/fallback.md");
        if std::env::var_os("CIVIC_WRITE").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        let there = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(there, page, "docs/fallback.md is out of date: write it anew with CIVIC_WRITE=1");
    }

    #[test]
    fn fallback_is_never_sent_after_refusal_or_opt_out() {
        let timed = fallback();
        let on_failure = Fallback::on_failure(timed.message.clone());
        for fallback in [timed.clone().even_if_unknown(), on_failure.even_if_unknown(), timed] {
            for state in State::ALL {
                for is_unknown in [false, true] {
                    let first = First { state, is_unknown, delivery: Some(DeliveryState::Failed), ..QUEUED };
                    let stop = First { opted_out: true, ..first };
                    let refused = First { refused: true, ..first };
                    assert_eq!(
                        (fallback.decide(&stop), fallback.decide(&refused)),
                        (FallbackDecision::Never, FallbackDecision::Never)
                    );
                }
            }
        }
    }

    #[test]
    fn fallback_without_deadline_keeps_its_form() {
        let on_failure = Fallback::on_failure(fallback().message);
        for fallback in [fallback(), on_failure.even_if_unknown()] {
            let json = serde_json::to_string(&fallback).unwrap();
            assert_eq!(serde_json::from_str::<Fallback>(&json).unwrap(), fallback);
        }
    }
}
