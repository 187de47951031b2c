//! What goes instead of a message that did not arrive: by another medium, mostly.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Line;
use super::outbox::State;
use crate::clock::Timestamp;
use crate::delivery::DeliveryState;
use crate::error::{Error, Result};
use crate::message::Message;
use crate::policy::Reason;

/// A message for [`Switchboard::send`](super::Switchboard::send), and what goes instead of it if it does not arrive.
///
/// A [`Message`] is one without a fallback.
///
/// ```
/// use std::time::Duration;
/// use civic_messaging::switchboard::{Fallback, Outgoing};
/// use civic_messaging::{Address, Message, Template};
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
    /// A message.
    pub fn new(message: Message) -> Self {
        Self { message, fallback: None }
    }

    /// Says what goes instead of it.
    #[must_use]
    pub fn fallback(mut self, fallback: Fallback) -> Self {
        self.fallback = Some(fallback);
        self
    }

    /// Whether it can go in time, where it is due at that moment, and put off until then by the policy for this reason.
    pub(super) fn check_time(&self, due: Timestamp, deferred: Option<&Reason>, now: Timestamp) -> Result<()> {
        let late = |message: &Message, at| message.not_after.is_some_and(|until| until < at);
        if late(&self.message, now) {
            return Err(Error::invalid("not_after", "is past: give a later one, or none"));
        }
        if late(&self.message, due) {
            let rule = match deferred {
                Some(reason) => format!("comes before the policy lets it go: {reason}"),
                None => "comes before the time at which it is to go: give a later one, or send it sooner".to_owned(),
            };
            return Err(Error::invalid("not_after", rule));
        }
        if let Some(fallback) = &self.fallback
            && late(&fallback.message, due.plus(fallback.within()))
        {
            let rule = "comes before the time at which it would go: give a later one, or let it wait for less long";
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

/// What goes instead of a message that was rejected, that could not be delivered, or that is not delivered in time.
///
/// | the message | the fallback |
/// |---|---|
/// | was rejected, refused, expired, or is reported as not delivered | goes at once |
/// | was rejected because the person said STOP | never goes |
/// | is accepted, and not reported as delivered in time | goes; the person may get both, one late |
/// | waits to be sent, or to be tried again, when the time is up | goes, and the message is called back |
/// | the same, and the policy puts the fallback off | waits until then; the message may go meanwhile |
/// | the same, and the policy refuses the fallback | never goes; the message is left as it is |
/// | may have gone, and nobody knows | waits until that is settled, unless it [goes even then](Self::even_if_unknown) |
/// | is delivered, or was called back by [`cancel`](super::Switchboard::cancel) | never goes |
///
/// It is a message of its own, with an [`Id`](super::Id) that [`Status::fallback`](super::Status::fallback) of the first
/// one gives, and is checked by the policy like any other.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Fallback {
    pub(super) message: Message,
    within_ms: u64,
    #[serde(default)]
    even_if_unknown: bool,
}

impl Fallback {
    /// This goes unless the first message is delivered within so long: from when it was taken, or from when it is due.
    ///
    /// Without a key: it gets one that is made of the first one's.
    pub fn new(message: Message, within: Duration) -> Self {
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        Self { message, within_ms, even_if_unknown: false }
    }

    /// It goes in time even if the first message may have gone: the person may get both.
    #[must_use]
    pub fn even_if_unknown(mut self) -> Self {
        self.even_if_unknown = true;
        self
    }

    /// Whether the line can carry it, and it is one at all.
    pub(super) fn check(&self, line: &Line) -> Result<()> {
        if self.message.key.is_some() {
            return Err(Error::invalid("fallback.key", "is made of the first message's: give it none"));
        }
        if self.within_ms == 0 {
            return Err(Error::invalid("fallback.within", "must be above 0, so that the first message can arrive"));
        }
        line.carries(&self.message).map_err(|error| {
            let field = format!("fallback.{}", error.field().unwrap_or("message"));
            error.with_field(field)
        })
    }

    pub(super) fn within(&self) -> Duration {
        Duration::from_millis(self.within_ms)
    }

    /// What is to be done now that the time is up, or that the first message is known not to arrive.
    pub(super) fn falls(&self, first: &First) -> Falls {
        match first.state {
            State::Accepted if first.delivery.is_some_and(|rung| rung >= DeliveryState::Delivered) => Falls::Never,
            State::Cancelled => Falls::Never,
            State::Rejected if first.opted_out => Falls::Never,
            State::Accepted | State::Expired | State::Rejected | State::Refused => Falls::Goes,
            State::Claimed | State::Sending => Falls::Waits,
            // What was due before a restore may have gone then, the fallback too: that is for a person.
            State::Unknown | State::Parked | State::Queued | State::Deferred if first.doubted => {
                if self.even_if_unknown && !first.restored { Falls::Goes } else { Falls::Waits }
            }
            State::Parked | State::Queued | State::Deferred => Falls::CallsBack,
            State::Unknown => Falls::Waits,
        }
    }
}

impl fmt::Debug for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback")
            .field("message", &self.message)
            .field("within", &self.within())
            .field("even_if_unknown", &self.even_if_unknown)
            .finish()
    }
}

/// How the first message stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct First {
    pub(super) state: State,
    pub(super) delivery: Option<DeliveryState>,
    /// One of its tries may have gone.
    pub(super) doubted: bool,
    /// The person said STOP.
    pub(super) opted_out: bool,
    /// It comes from a backup.
    pub(super) restored: bool,
}

/// What becomes of a fallback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Falls {
    /// The message has not gone: it is called back, and the fallback goes.
    CallsBack,
    Goes,
    Never,
    /// It is looked at again in a while.
    Waits,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;

    #[test]
    fn it_goes_only_when_the_first_certainly_did_not_arrive_or_the_time_is_up() {
        use DeliveryState::{Accepted, Delivered, Failed, Read, Sent};
        let sms = Message::text(Address::phone("07700 900123").unwrap(), "Hello");
        let plain = Fallback::new(sms, Duration::from_secs(60));
        let even = plain.clone().even_if_unknown();
        let first = First { state: State::Queued, delivery: None, doubted: false, opted_out: false, restored: false };
        for (state, delivery, doubted, falls, even_so) in [
            (State::Accepted, Some(Accepted), false, Falls::Goes, Falls::Goes),
            (State::Accepted, Some(Sent), true, Falls::Goes, Falls::Goes),
            (State::Accepted, Some(Failed), false, Falls::Goes, Falls::Goes),
            (State::Accepted, Some(Delivered), false, Falls::Never, Falls::Never),
            (State::Accepted, Some(Read), true, Falls::Never, Falls::Never),
            (State::Rejected, None, false, Falls::Goes, Falls::Goes),
            (State::Refused, None, false, Falls::Goes, Falls::Goes),
            (State::Expired, None, false, Falls::Goes, Falls::Goes),
            (State::Cancelled, None, false, Falls::Never, Falls::Never),
            (State::Queued, None, false, Falls::CallsBack, Falls::CallsBack),
            (State::Deferred, None, false, Falls::CallsBack, Falls::CallsBack),
            (State::Deferred, None, true, Falls::Waits, Falls::Goes),
            (State::Parked, None, false, Falls::CallsBack, Falls::CallsBack),
            (State::Parked, None, true, Falls::Waits, Falls::Goes),
            (State::Unknown, None, true, Falls::Waits, Falls::Goes),
            (State::Claimed, None, false, Falls::Waits, Falls::Waits),
            (State::Sending, None, false, Falls::Waits, Falls::Waits),
        ] {
            let first = First { state, delivery, doubted, ..first };
            assert_eq!((plain.falls(&first), even.falls(&first)), (falls, even_so), "{first:?}");
        }
        let stop = First { state: State::Rejected, opted_out: true, ..first };
        let restored = First { state: State::Unknown, doubted: true, restored: true, ..first };
        assert_eq!((plain.falls(&stop), even.falls(&stop)), (Falls::Never, Falls::Never));
        assert_eq!(even.falls(&restored), Falls::Waits);
    }
}
