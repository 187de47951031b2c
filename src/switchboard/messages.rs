//! Messages of a line by filter: listed in pages, and cancelled together.

use std::collections::BTreeSet;

use super::Switchboard;
use super::status::{Id, State, Status};
use crate::model::address::Address;
use crate::model::clock::Timestamp;
use crate::model::error::Result;

/// The number of messages cancelled in one transaction.
const PART: u32 = 200;

/// The messages of a line to list or to cancel: all of them, until a method narrows it.
///
/// A [`State`] converts into a filter.
///
/// ```
/// use civic_messaging::switchboard::{MessageFilter, State};
///
/// let undelivered = MessageFilter::new().tag("council-tax-2027").state(State::Rejected).state(State::Expired);
/// # let _ = undelivered;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageFilter {
    pub(super) tag: Option<String>,
    /// All states if it is empty.
    pub(super) states: BTreeSet<State>,
    pub(super) person: Option<Address>,
    pub(super) since: Option<Timestamp>,
    pub(super) before: Option<Timestamp>,
}

impl MessageFilter {
    /// Returns a filter for all messages.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps the messages with this tag.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tag = Some(tag.into());
        self
    }

    /// Keeps the messages in this state, or in one of several.
    #[must_use]
    pub fn state(mut self, state: State) -> Self {
        self.states.insert(state);
        self
    }

    /// Keeps the messages to a person, at every linked address. Messages whose content was removed have no recipient.
    #[must_use]
    pub fn person(mut self, person: Address) -> Self {
        self.person = Some(person);
        self
    }

    /// Keeps the messages that were enqueued at this time or later.
    #[must_use]
    pub fn since(mut self, at: Timestamp) -> Self {
        self.since = Some(at);
        self
    }

    /// Keeps the messages that were enqueued before this time.
    #[must_use]
    pub fn before(mut self, at: Timestamp) -> Self {
        self.before = Some(at);
        self
    }

    /// Returns the states to look for.
    pub(super) fn states(&self) -> BTreeSet<State> {
        if self.states.is_empty() { State::ALL.into() } else { self.states.clone() }
    }

    /// Returns the states of these to look for.
    pub(super) fn states_of(&self, of: &[State]) -> BTreeSet<State> {
        self.states().into_iter().filter(|state| of.contains(state)).collect()
    }

    /// Returns the same filter with its times by another clock.
    #[cfg(feature = "postgres")]
    pub(super) fn by_clock(&self, time: impl Fn(Timestamp) -> Timestamp) -> Self {
        Self { since: self.since.map(&time), before: self.before.map(time), ..self.clone() }
    }

    /// Returns the messages of this filter that can be cancelled: `None` if it excludes them.
    pub(super) fn waiting(&self) -> Option<Self> {
        let states = self.states_of(&WAITING);
        (!states.is_empty()).then(|| Self { states, ..self.clone() })
    }
}

/// The states of a message that can be cancelled.
pub(super) const WAITING: [State; 2] = [State::Queued, State::Deferred];

impl From<State> for MessageFilter {
    fn from(state: State) -> Self {
        Self::new().state(state)
    }
}

impl Switchboard {
    /// Lists messages of a line, oldest first: at most `max`, starting behind `after`.
    ///
    /// A page by state, by tag or by person costs as much as the page, with two exceptions: queued and deferred messages
    /// without a tag cost as much as all that wait on the line, and a filter by time without a tag or a person as much as
    /// the messages of that time. A message that is enqueued while pages are read comes on the last one.
    ///
    /// [`Parked`](State::Parked) messages need a person, who settles them with [`settle`](Self::settle).
    ///
    /// ```
    /// use civic_messaging::switchboard::{Line, MessageFilter, State, Store, Switchboard};
    /// use civic_messaging::{Address, Message, Mock};
    ///
    /// # if !cfg!(feature = "sqlite-system") { return }
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let line = Line::new("enquiries").channel(Mock::sms());
    /// let switchboard = Switchboard::builder(Store::open("sqlite::memory:").await?).line(line).build()?;
    /// let resident = Address::phone("07700 900123")?;
    /// switchboard.send("enquiries", Message::text(resident.clone(), "Your bin day is Tuesday.").tag("bins")).await?;
    ///
    /// let about_bins = MessageFilter::new().tag("bins").person(resident);
    /// let page = switchboard.messages("enquiries", about_bins, None, 50).await?;
    /// assert_eq!(page[0].state, State::Queued);
    /// # Ok::<(), civic_messaging::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) for a line that neither the switchboard nor its store
    /// has, and those of [`status`](Self::status).
    pub async fn messages(
        &self,
        line: &str,
        filter: impl Into<MessageFilter>,
        after: Option<Id>,
        max: u32,
    ) -> Result<Vec<Status>> {
        self.0.known(line).await?;
        let all = self.0.store.0.messages(line, &filter.into(), after, max).await?;
        Ok(all.into_iter().map(|status| self.0.explained(status)).collect())
    }

    /// Cancels the messages of a line that match a filter and have not been sent, and returns their exact number.
    ///
    /// Each is cancelled if it is still waiting when its turn comes, as with [`cancel`](Self::cancel): a message that a
    /// worker is sending then is left, and is not counted. What is enqueued meanwhile may be cancelled or not. It works in
    /// transactions of 200 messages, so that others do not wait: after an error, call it again for the rest.
    ///
    /// ```
    /// # use civic_messaging::switchboard::{Line, MessageFilter, Store, Switchboard};
    /// # use civic_messaging::{Address, Message, Mock};
    /// # if !cfg!(feature = "sqlite-system") { return }
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let line = Line::new("enquiries").channel(Mock::sms());
    /// # let switchboard = Switchboard::builder(Store::open("sqlite::memory:").await?).line(line).build()?;
    /// # let note = Message::text(Address::phone("07700 900123")?, "The library is closed on Friday.").tag("library");
    /// # switchboard.send("enquiries", note).await?;
    /// let cancelled = switchboard.cancel_many("enquiries", MessageFilter::new().tag("library")).await?;
    /// assert_eq!(cancelled, 1);
    /// # Ok::<(), civic_messaging::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Those of [`messages`](Self::messages).
    pub async fn cancel_many(&self, line: &str, filter: impl Into<MessageFilter>) -> Result<u64> {
        self.0.known(line).await?;
        let Some(filter) = filter.into().waiting() else { return Ok(0) };
        let (mut count, mut after) = (0, None);
        loop {
            let part = self.0.store.0.cancel_many(line, &filter, after, PART, self.0.clock.now()).await?;
            for id in &part.cancelled {
                self.has_settled(*id, Some(line), State::Cancelled, Some(CANCELLED));
            }
            count += part.cancelled.len() as u64;
            after = part.last;
            if after.is_none() {
                return Ok(count);
            }
        }
    }
}

/// The reason for a message that its caller cancelled.
pub(super) const CANCELLED: &str = "cancelled by the caller";

/// A part of the messages to cancel.
#[derive(Debug)]
pub(super) struct CancelledPart {
    pub(super) cancelled: Vec<Id>,
    /// The last message of the part: `None` if there is none.
    pub(super) last: Option<Id>,
}
