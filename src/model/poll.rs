//! Pages of events from a poll.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::event::{Event, with_opt_outs};

/// A position in a gateway's events.
///
/// Opaque: store it and pass it back. It may contain message ids, so `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(String);

impl Cursor {
    /// Creates a cursor from the adapter's position.
    pub fn new(place: impl Into<String>) -> Self {
        Self(place.into())
    }

    /// Returns the adapter's position.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor").finish_non_exhaustive()
    }
}

/// A page of polled events.
#[non_exhaustive]
#[derive(Debug)]
pub struct Page {
    /// The events, oldest first.
    pub events: Vec<Event>,
    /// The position after this page; pass it to the next poll once the events are durable. `None`: unchanged.
    pub next: Option<Cursor>,
    /// `true` if more events can be fetched at once.
    pub more: bool,
}

impl Page {
    /// Creates a page.
    pub fn new(events: Vec<Event>, next: Option<Cursor>) -> Self {
        Self { events: with_opt_outs(events), next, more: false }
    }

    /// Sets whether more events can be fetched at once.
    #[must_use]
    pub fn with_more(mut self, more: bool) -> Self {
        self.more = more;
        self
    }
}
