//! Opt-outs, as events.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::inbound::{InboundContent, opt_out_keyword};
use super::{Envelope, Event};
use crate::medium::sms::Keyword;
use crate::model::address::Address;
use crate::model::id::MessageId;

/// An opt-out, or its withdrawal.
///
/// Derived from an [`Inbound`](super::Inbound), which precedes it, or reported by the gateway. A text or a caption counts if it is STOP
/// or START as defined by [`keyword`](crate::medium::sms::keyword), and so does the new content of an edit. A selected option counts only if its
/// title is an unambiguous keyword (STOP, UNSUBSCRIBE, OPT OUT and their Welsh forms) or UNSTOP; its id never counts,
/// nor does "Cancel" or "Start" on a button. An adapter adds the keywords that only its gateway acts on. Channels
/// suppress nothing: that is the task of a policy or of the service.
///
/// A message of the [history](super::Inbound::history) creates none, since it was processed on arrival; one received by
/// another app ([`Inbound::standby`](super::Inbound::standby)) does. A STOP that is later edited still counts.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OptOut {
    /// The origin and time.
    pub envelope: Envelope,
    /// The person.
    pub from: Address,
    /// The messages concerned.
    pub scope: OptOutScope,
    /// `true` if the person wants messages again. A gateway's `resume` does not override a STOP that the person sent.
    pub resume: bool,
    /// The message with the request, if any; for an edit, the id of the edit itself.
    pub inbound: Option<MessageId>,
    /// `true` if the request came in an edit of that message, not in the original.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub edited: bool,
}

impl OptOut {
    /// Creates an opt-out.
    pub fn new(envelope: Envelope, from: Address, scope: OptOutScope) -> Self {
        Self { envelope, from, scope, resume: false, inbound: None, edited: false }
    }

    /// Turns it into a withdrawal of an opt-out.
    #[must_use]
    pub fn resumed(mut self) -> Self {
        self.resume = true;
        self
    }
}

/// The extent of an opt-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptOutScope {
    /// All messages.
    All,
    /// Marketing.
    Marketing,
}

/// Adds an [`OptOut`] after each STOP or START message, unless the adapter has already added it.
///
/// Called once for every adapter, by [`Received`](crate::webhook::Received) and [`Page`](crate::poll::Page).
pub(crate) fn with_opt_outs(events: Vec<Event>) -> Vec<Event> {
    if !events.iter().filter_map(Event::as_inbound).any(|inbound| opt_out_keyword(inbound).is_some()) {
        return events;
    }
    let reported: HashSet<MessageId> = events
        .iter()
        .filter_map(|event| match event {
            Event::OptOut(opt_out) => opt_out.inbound.clone(),
            _ => None,
        })
        .collect();
    let mut all = Vec::with_capacity(events.len() + 1);
    for event in events {
        let opt_out = event.as_inbound().filter(|inbound| !reported.contains(&inbound.id)).and_then(|inbound| {
            Some(OptOut {
                resume: opt_out_keyword(inbound)? == Keyword::Start,
                envelope: inbound.envelope.clone(),
                from: inbound.from.clone(),
                scope: OptOutScope::All,
                inbound: Some(inbound.id.clone()),
                edited: matches!(inbound.content, InboundContent::Edited { .. }),
            })
        });
        all.push(event);
        all.extend(opt_out.map(Event::OptOut));
    }
    all
}
