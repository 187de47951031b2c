//! What came in, delivered until it is acknowledged.

use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::engine::Bell;
use super::file::EventId;
use super::outbox::{Id, Settled};
use super::record::{self, EventFilter, What};
use super::{Line, Switchboard};
use crate::model::error::{Error, Result};
use crate::model::event::{Event, Inbound};
use crate::telemetry::switchboard as telemetry;

/// How long an event is held for who took it: then it is delivered again.
pub(super) const LEASE: Duration = Duration::from_secs(60);

/// The events of a line, or of all.
#[derive(Clone)]
pub struct LineInbox {
    switchboard: Switchboard,
    line: Option<String>,
}

/// An event that was delivered. Without [`ack`](Self::ack) it comes again after a minute.
///
/// An event that failed, as [`nack`](Self::nack) says, holds back the later messages of its person, so that their order stays;
/// opt-outs are never held back. An event that was delivered ten times is parked: see [`LineInbox::parked`].
#[must_use = "an event that is not acknowledged comes again"]
pub struct InboxEvent {
    pub(super) switchboard: Switchboard,
    pub(super) id: i64,
    line: Option<String>,
    happening: InboxEventKind,
    attempts: u32,
}

/// What is delivered.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub enum InboxEventKind {
    /// What a gateway brought.
    Received(Box<Event>),
    /// A message of ours whose end is known, or that waits for a person.
    Settled(Box<Settled>),
}

impl LineInbox {
    pub(super) fn new(switchboard: Switchboard, line: Option<String>) -> Self {
        Self { switchboard, line }
    }

    /// The oldest event that nobody holds. It waits for one; none comes when the worker has stopped and nothing is left.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when the store does not work.
    pub async fn next(&self) -> Result<Option<InboxEvent>> {
        Ok(self.next_batch(1).await?.pop())
    }

    /// The oldest events that nobody holds, `max` of them at most, the oldest first, in one commit. It waits for the first as
    /// [`next`](Self::next) does, and not for more; none come when the worker has stopped and nothing is left.
    ///
    /// Handle them in their order, and within the minute after which those come again that were not acknowledged.
    ///
    /// # Errors
    /// Those of [`next`](Self::next).
    pub async fn next_batch(&self, max: u32) -> Result<Vec<InboxEvent>> {
        let inner = &self.switchboard.0;
        loop {
            // It is asked to ring before it is looked, so that nothing that comes in between is missed. What rings for
            // one that found something meanwhile, rings on for the next.
            let mut rings = pin!(inner.to_read.rings(self.line.as_deref()));
            rings.as_mut().enable();
            let elsewhere = inner.store.0.rung(Bell::ToRead);
            let batch = self.try_batch(max).await?;
            if !batch.is_empty() || inner.stopped.load(Ordering::Acquire) {
                return Ok(batch);
            }
            tokio::select! {
                () = &mut rings => {}
                () = elsewhere => {}
                // What was held and not acknowledged comes back without a ring.
                () = inner.clock.sleep(Duration::from_secs(5)) => {}
            }
        }
    }

    /// The oldest event that nobody holds, if there is one now.
    ///
    /// # Errors
    /// Those of [`next`](Self::next).
    pub async fn try_next(&self) -> Result<Option<InboxEvent>> {
        Ok(self.try_batch(1).await?.pop())
    }

    async fn try_batch(&self, max: u32) -> Result<Vec<InboxEvent>> {
        let (inner, of) = (&self.switchboard.0, self.filter());
        loop {
            let batch = inner.store.0.next_batch(&of, inner.clock.now(), LEASE, max.max(1)).await?;
            let none = batch.is_empty();
            let batch: Vec<_> = batch.into_iter().filter_map(|handed| self.handed(handed)).collect();
            // Those that cannot be read are held for a while, and those behind them come.
            if none || !batch.is_empty() {
                return Ok(batch);
            }
        }
    }

    fn filter(&self) -> EventFilter {
        match &self.line {
            Some(line) => EventFilter::Line(line.clone()),
            None => EventFilter::All { own: self.switchboard.0.lines.keys().cloned().collect() },
        }
    }

    /// The events that were delivered ten times and never acknowledged, the oldest first, `most` of them after one.
    ///
    /// [`InboxEvent::ack`] ends one, and [`InboxEvent::nack`] has it delivered again, up to ten times.
    ///
    /// # Errors
    /// Those of [`next`](Self::next).
    pub async fn parked(&self, after: Option<&InboxEvent>, most: u32) -> Result<Vec<InboxEvent>> {
        let (inner, after) = (&self.switchboard.0, after.map_or(0, |after| after.id));
        let parked = inner.store.0.parked_events(&self.filter(), after, inner.clock.now(), most).await?;
        Ok(parked.into_iter().filter_map(|handed| self.handed(handed)).collect())
    }

    fn handed(&self, handed: record::InboxEvent) -> Option<InboxEvent> {
        let record::InboxEvent { id, line, what, attempts, .. } = handed;
        let happening = match what {
            What::Event(event) => InboxEventKind::Received(event),
            What::Settled(settled) => InboxEventKind::Settled(settled),
            What::Unreadable => return None,
        };
        Some(InboxEvent { switchboard: self.switchboard.clone(), id, line, happening, attempts })
    }
}

impl fmt::Debug for LineInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LineInbox").field("line", &self.line).finish_non_exhaustive()
    }
}

impl InboxEvent {
    /// Its number in the store, by which its files are read after it was acknowledged: see [`Switchboard::files`].
    pub fn id(&self) -> EventId {
        EventId(self.id)
    }

    /// The id of the line that it is of: none for what is of no line.
    pub fn line_id(&self) -> Option<&str> {
        self.line.as_deref()
    }

    /// The line that it is of: none for what is of no line, and for a line that this switchboard does not have.
    pub fn line(&self) -> Option<&Line> {
        self.switchboard.0.lines.get(self.line.as_deref()?)
    }

    /// Acknowledges it: it does not come again.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when the store does not work; it comes again then.
    pub async fn ack(self) -> Result<()> {
        let inner = &self.switchboard.0;
        inner.store.0.ack(self.id, inner.clock.now()).await
    }

    /// Takes a text as an answer to the resident's message and acknowledges the event, in one commit: the answer is sent, or
    /// the event comes again. See [`Switchboard::reply`].
    ///
    /// Where it fails, the event is not acknowledged: answer otherwise, or [`nack`](Self::nack) it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) for an event that is no message from a resident, and
    /// those of [`Switchboard::reply`].
    pub async fn reply_and_ack(&self, text: impl Into<String>) -> Result<Id> {
        let Some((line, inbound)) = self.line.as_deref().zip(self.as_inbound()) else {
            return Err(Error::invalid("event", "is no message to a line of this switchboard: acknowledge it by ack"));
        };
        self.switchboard.reply_to(line, inbound, text.into(), Some(self.id)).await
    }

    /// How often it was delivered, this time included.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Says that it failed: it comes again after this delay, or is parked if this was its tenth attempt.
    ///
    /// The delay grows with the attempts: it is at least 1, 2, 4 seconds and so on. One that is parked has the delay as given.
    ///
    /// # Errors
    /// Those of [`ack`](Self::ack); it comes again later then.
    pub async fn nack(self, delay: Duration) -> Result<()> {
        let inner = &self.switchboard.0;
        let (now, attempts) = (inner.clock.now(), self.attempts.saturating_sub(1));
        let least =
            if self.attempts < record::EVENT_ATTEMPTS { Duration::from_secs(1 << attempts) } else { Duration::ZERO };
        if inner.store.0.nack(self.id, now.plus(delay.max(least)), now).await? {
            telemetry::event_parked(self.line.as_deref().unwrap_or_default(), self.id);
        }
        inner.to_read.ring(self.line.as_deref());
        Ok(())
    }
}

impl fmt::Debug for InboxEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handed")
            .field("id", &self.id)
            .field("line", &self.line)
            .field("happening", &self.happening)
            .finish_non_exhaustive()
    }
}

impl Deref for InboxEvent {
    type Target = InboxEventKind;

    fn deref(&self) -> &InboxEventKind {
        &self.happening
    }
}

impl InboxEventKind {
    /// The message, if somebody should answer it: see [`Event::as_answerable`].
    pub fn answerable(&self) -> Option<&Inbound> {
        self.as_event()?.as_answerable()
    }

    /// The message, if it is one from a resident, or an echo of ours.
    pub fn as_inbound(&self) -> Option<&Inbound> {
        self.as_event()?.as_inbound()
    }

    /// The event, if a gateway brought it.
    pub fn as_event(&self) -> Option<&Event> {
        match self {
            Self::Received(event) => Some(event),
            Self::Settled(_) => None,
        }
    }

    /// The message of ours, if one was settled.
    pub fn as_settled(&self) -> Option<&Settled> {
        match self {
            Self::Received(_) => None,
            Self::Settled(settled) => Some(settled),
        }
    }
}

/// What wakes those who wait for something to read: for each event one of its line and one of all, so that the many who
/// share a line do not all look for the same one.
pub(super) struct Bells {
    of_all: Notify,
    of_lines: HashMap<String, Notify>,
}

impl Bells {
    pub(super) fn new<'a>(lines: impl Iterator<Item = &'a String>) -> Self {
        Self { of_all: Notify::new(), of_lines: lines.map(|line| (line.clone(), Notify::new())).collect() }
    }

    /// There may be one more of this line, or of none.
    pub(super) fn ring(&self, line: Option<&str>) {
        self.of_all.notify_one();
        if let Some(bell) = line.and_then(|line| self.of_lines.get(line)) {
            bell.notify_one();
        }
    }

    /// There may be any number of any line.
    pub(super) fn ring_all(&self) {
        self.of_all.notify_waiters();
        self.of_lines.values().for_each(Notify::notify_waiters);
    }

    fn rings(&self, line: Option<&str>) -> Notified<'_> {
        line.and_then(|line| self.of_lines.get(line)).unwrap_or(&self.of_all).notified()
    }
}
