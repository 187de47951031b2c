//! Pages of events from a poll.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::event::{Event, with_opt_outs};

/// A place in what a gateway has to tell. Opaque: keep it and hand it back. It may be made of the ids of messages, so
/// `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(String);

impl Cursor {
    /// A place as the adapter writes it.
    pub fn new(place: impl Into<String>) -> Self {
        Self(place.into())
    }

    /// The place as the adapter wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor").finish_non_exhaustive()
    }
}

/// Events from a poll.
#[non_exhaustive]
#[derive(Debug)]
pub struct Page {
    /// The events, oldest first.
    pub events: Vec<Event>,
    /// Where to go on; hand it to the next poll once the events are safe. None: where it was.
    pub next: Option<Cursor>,
    /// Whether there is more to fetch at once.
    pub more: bool,
}

impl Page {
    /// Events, and where to go on.
    pub fn new(events: Vec<Event>, next: Option<Cursor>) -> Self {
        Self { events: with_opt_outs(events), next, more: false }
    }

    /// Says whether there is more to fetch at once.
    #[must_use]
    pub fn with_more(mut self, more: bool) -> Self {
        self.more = more;
        self
    }
}
