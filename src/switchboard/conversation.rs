//! What was said with a person.

use serde::{Deserialize, Serialize};

use super::file::EventId;
use super::outbox::Status;
use super::record::What;
use crate::model::clock::Timestamp;
use crate::model::event::{Event, Inbound};
use crate::model::message::Message;

/// Something that was said on a line, by us or by them.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When we took it: by our own clock.
    pub at: Timestamp,
    /// What it is.
    pub said: EntryContent,
    pub(super) place: Place,
}

/// What was said.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryContent {
    /// A message of ours, which need not have gone.
    Ours {
        /// What became of it.
        status: Box<Status>,
        /// The message: none where its content was removed, and where a newer program wrote it.
        message: Option<Box<Message>>,
    },
    /// A message of theirs, or an echo of one of ours that was written elsewhere: none where a newer program wrote it.
    Theirs(Option<Box<Inbound>>),
}

/// Where an entry stands: of one moment, theirs comes before ours, which may answer it; and else by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) at: Timestamp,
    pub(super) ours: bool,
    pub(super) id: i64,
}

impl Entry {
    /// The event of a message of theirs, by which its files are read: see [`Switchboard::files`](super::Switchboard::files).
    pub fn event_id(&self) -> Option<EventId> {
        (!self.place.ours).then_some(EventId(self.place.id))
    }

    pub(super) fn ours(place: Place, status: Status, message: Option<Message>) -> Self {
        let message = message.map(Box::new);
        Self { at: place.at, said: EntryContent::Ours { status: Box::new(status), message }, place }
    }

    pub(super) fn theirs(place: Place, body: &str) -> Self {
        let inbound = match What::read("event", body) {
            What::Event(event) => match *event {
                Event::Inbound(inbound) => Some(Box::new(inbound)),
                _ => None,
            },
            _ => None,
        };
        Self { at: place.at, said: EntryContent::Theirs(inbound), place }
    }
}
