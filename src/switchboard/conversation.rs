//! Conversations with a person.

use serde::{Deserialize, Serialize};

use super::file::EventId;
use super::record::EventContent;
use super::status::Status;
use crate::model::clock::Timestamp;
use crate::model::event::{Event, Inbound};
use crate::model::message::Message;

/// One entry of a conversation.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When we stored it, by our own clock.
    pub at: Timestamp,
    /// The content.
    pub content: EntryContent,
    pub(super) place: Place,
}

/// The content of an entry.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryContent {
    /// A message of ours, sent or not.
    Ours {
        /// Its status.
        status: Box<Status>,
        /// The message: `None` if its content was removed, or if a newer program wrote it.
        message: Option<Box<Message>>,
    },
    /// A message of theirs, or an echo of ours written elsewhere: `None` if a newer program wrote it.
    Theirs(Option<Box<Inbound>>),
}

/// The position of an entry. At the same time, theirs precede ours, which may answer them; else by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) at: Timestamp,
    pub(super) ours: bool,
    pub(super) id: i64,
}

impl Entry {
    /// Returns the event of a message of theirs, for [`Switchboard::files`](super::Switchboard::files).
    pub fn event_id(&self) -> Option<EventId> {
        (!self.place.ours).then_some(EventId(self.place.id))
    }

    pub(super) fn ours(place: Place, status: Status, message: Option<Message>) -> Self {
        let message = message.map(Box::new);
        Self { at: place.at, content: EntryContent::Ours { status: Box::new(status), message }, place }
    }

    pub(super) fn theirs(place: Place, body: &str) -> Self {
        let inbound = match EventContent::read("event", body) {
            EventContent::Event(event) => match *event {
                Event::Inbound(inbound) => Some(Box::new(inbound)),
                _ => None,
            },
            _ => None,
        };
        Self { at: place.at, content: EntryContent::Theirs(inbound), place }
    }
}
