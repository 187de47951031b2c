//! Inboxes: events, delivered at min once until they are acknowledged.

use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::engine::Notification;
use super::file::{EventId, File};
use super::record::{self, EventContent, EventFilter};
use super::status::{Id, Settled};
use super::{Line, Switchboard};
use crate::model::error::{Error, Result};
use crate::model::event::{Event, Inbound};
use crate::telemetry::switchboard as telemetry;

/// The lease of a delivered event.
pub(super) const LEASE: Duration = Duration::from_secs(60);

/// The inbox of a line, or of all lines.
#[derive(Clone)]
pub struct LineInbox {
    switchboard: Switchboard,
    line: Option<String>,
}

/// A delivered event. Without [`ack`](Self::ack) it is redelivered after a minute.
///
/// An event that failed (see [`nack`](Self::nack)) holds back later messages of its person, to keep their order;
/// opt-outs are never held back. An event that was delivered ten times is parked: see [`LineInbox::parked`].
#[must_use = "an event that is not acknowledged comes again"]
pub struct InboxEvent {
    pub(super) switchboard: Switchboard,
    pub(super) id: i64,
    line: Option<String>,
    kind: InboxEventKind,
    attempts: u32,
}

/// The content of a delivered event.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub enum InboxEventKind {
    /// An event from a gateway.
    Received(Box<Event>),
    /// A message of ours that has ended, or that needs a person.
    Settled(Box<Settled>),
}

impl LineInbox {
    pub(super) fn new(switchboard: Switchboard, line: Option<String>) -> Self {
        Self { switchboard, line }
    }

    /// Waits for the oldest event that is not leased, and leases it. Returns `None` once the worker has stopped and
    /// nothing is left.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the store is unavailable.
    pub async fn next(&self) -> Result<Option<InboxEvent>> {
        Ok(self.next_batch(1).await?.pop())
    }

    /// Leases the oldest events, at most `max`, oldest first, in one transaction. Waits for the first event as
    /// [`next`](Self::next) does, and not for more; returns none once the worker has stopped and nothing is left.
    ///
    /// Handle them in order, and within a minute: events not acknowledged by then are redelivered.
    ///
    /// # Errors
    /// Those of [`next`](Self::next).
    pub async fn next_batch(&self, max: u32) -> Result<Vec<InboxEvent>> {
        let inner = &self.switchboard.0;
        loop {
            // Register for the notification before the query, so that no event in between is missed. A notification
            // that reaches a reader which found an event meanwhile is passed on when the future is dropped.
            let mut here = pin!(inner.to_read.notified(self.line.as_deref()));
            here.as_mut().enable();
            let elsewhere = inner.store.0.notified(Notification::ToRead);
            let batch = self.try_batch(max).await?;
            if !batch.is_empty() || inner.stopped.load(Ordering::Acquire) {
                return Ok(batch);
            }
            tokio::select! {
                () = &mut here => {}
                () = elsewhere => {}
                // An expired lease sends no notification.
                () = inner.clock.sleep(Duration::from_secs(5)) => {}
            }
        }
    }

    /// Leases the oldest event, if there is one now.
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
            let batch: Vec<_> = batch.into_iter().filter_map(|delivered| self.deliver(delivered)).collect();
            // Unreadable events stay leased for a while, and do not block those behind them.
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

    /// Lists events that were delivered ten times and never acknowledged, oldest first.
    ///
    /// Returns at most `max`, starting behind `after`.
    ///
    /// [`InboxEvent::ack`] ends one, and [`InboxEvent::nack`] delivers it again, up to ten times.
    ///
    /// # Errors
    /// Those of [`next`](Self::next).
    pub async fn parked(&self, after: Option<&InboxEvent>, max: u32) -> Result<Vec<InboxEvent>> {
        let (inner, after) = (&self.switchboard.0, after.map_or(0, |after| after.id));
        let parked = inner.store.0.parked_events(&self.filter(), after, inner.clock.now(), max).await?;
        Ok(parked.into_iter().filter_map(|delivered| self.deliver(delivered)).collect())
    }

    fn deliver(&self, delivered: record::InboxEvent) -> Option<InboxEvent> {
        let record::InboxEvent { id, line, what, attempts, .. } = delivered;
        let kind = match what {
            EventContent::Event(event) => InboxEventKind::Received(event),
            EventContent::Settled(settled) => InboxEventKind::Settled(settled),
            EventContent::Unreadable => return None,
        };
        Some(InboxEvent { switchboard: self.switchboard.clone(), id, line, kind, attempts })
    }
}

impl fmt::Debug for LineInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LineInbox").field("line", &self.line).finish_non_exhaustive()
    }
}

impl InboxEvent {
    /// Returns the number in the store, which reads the event's files even after `ack`: see [`Switchboard::files`].
    pub fn id(&self) -> EventId {
        EventId(self.id)
    }

    /// Returns the id of the event's line: `None` for an event of no line.
    pub fn line_id(&self) -> Option<&str> {
        self.line.as_deref()
    }

    /// Returns the event's line: `None` for an event of no line, or of one that this switchboard lacks.
    pub fn line(&self) -> Option<&Line> {
        self.switchboard.0.lines.get(self.line.as_deref()?)
    }

    /// Acknowledges the event: it is not redelivered.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the store is unavailable: the event is redelivered
    /// then.
    pub async fn ack(self) -> Result<()> {
        let inner = &self.switchboard.0;
        inner.store.0.ack(self.id, inner.clock.now()).await
    }

    /// Enqueues a text as the answer to the resident's message and acknowledges the event, in one transaction. See
    /// [`Switchboard::reply`].
    ///
    /// On an error the event is not acknowledged: answer otherwise, or [`nack`](Self::nack) it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) if the event is not a resident's message, and
    /// those of [`Switchboard::reply`].
    pub async fn reply_and_ack(&self, text: impl Into<String>) -> Result<Id> {
        let Some((line, inbound)) = self.line.as_deref().zip(self.as_inbound()) else {
            return Err(Error::invalid("event", "is no message to a line of this switchboard: acknowledge it by ack"));
        };
        self.switchboard.reply_to(line, inbound, text.into(), Some(self.id)).await
    }

    /// Returns the number of deliveries, this one included.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Reports that handling failed: the event is redelivered after this delay, or parked after its tenth delivery.
    ///
    /// The delay is at min 1, 2, 4 seconds and so on with each delivery. For a parked event it is as given.
    ///
    /// # Errors
    /// Those of [`ack`](Self::ack); the event is then redelivered when its lease expires.
    pub async fn nack(self, delay: Duration) -> Result<()> {
        let inner = &self.switchboard.0;
        let (now, attempts) = (inner.clock.now(), self.attempts.saturating_sub(1));
        let min =
            if self.attempts < record::EVENT_ATTEMPTS { Duration::from_secs(1 << attempts) } else { Duration::ZERO };
        if inner.store.0.nack(self.id, now.plus(delay.max(min)), now).await? {
            telemetry::event_parked(self.line.as_deref().unwrap_or_default(), self.id);
        }
        inner.to_read.notify(self.line.as_deref());
        Ok(())
    }

    /// Returns the state of each file of the message: see [`Switchboard::files`], which also reads them after
    /// [`ack`](Self::ack).
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the store is unavailable.
    pub async fn files(&self) -> Result<Vec<File>> {
        self.switchboard.files(self.id()).await
    }
}

impl fmt::Debug for InboxEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboxEvent")
            .field("id", &self.id)
            .field("line", &self.line)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl Deref for InboxEvent {
    type Target = InboxEventKind;

    fn deref(&self) -> &InboxEventKind {
        &self.kind
    }
}

impl InboxEventKind {
    /// Returns the message, if it should be answered: see [`Event::as_answerable`].
    pub fn answerable(&self) -> Option<&Inbound> {
        self.as_event()?.as_answerable()
    }

    /// Returns the message, if it came from a resident or is an echo of ours.
    pub fn as_inbound(&self) -> Option<&Inbound> {
        self.as_event()?.as_inbound()
    }

    /// Returns the event, if it came from a gateway.
    pub fn as_event(&self) -> Option<&Event> {
        match self {
            Self::Received(event) => Some(event),
            Self::Settled(_) => None,
        }
    }

    /// Returns the event about a message of ours, if it is one.
    pub fn as_settled(&self) -> Option<&Settled> {
        match self {
            Self::Received(_) => None,
            Self::Settled(settled) => Some(settled),
        }
    }
}

/// Notifies those who wait for events: for each event one reader of its line and one of all lines, so that many readers
/// of one line do not compete for the same event.
pub(super) struct EventNotify {
    all: Notify,
    lines: HashMap<String, Notify>,
}

impl EventNotify {
    pub(super) fn new<'a>(lines: impl Iterator<Item = &'a String>) -> Self {
        Self { all: Notify::new(), lines: lines.map(|line| (line.clone(), Notify::new())).collect() }
    }

    /// Notifies that there may be an event of this line, or of none.
    pub(super) fn notify(&self, line: Option<&str>) {
        self.all.notify_one();
        if let Some(notify) = line.and_then(|line| self.lines.get(line)) {
            notify.notify_one();
        }
    }

    /// Notifies that there may be any number of events of any line.
    pub(super) fn notify_all(&self) {
        self.all.notify_waiters();
        self.lines.values().for_each(Notify::notify_waiters);
    }

    fn notified(&self, line: Option<&str>) -> Notified<'_> {
        line.and_then(|line| self.lines.get(line)).unwrap_or(&self.all).notified()
    }
}

impl Switchboard {
    /// Returns the state of each file of a resident's message.
    ///
    /// They are in the order of [`Inbound::media`](crate::Inbound::media). The event comes from [`InboxEvent::id`],
    /// acknowledged or not, or from [`Entry::event_id`](super::Entry::event_id).
    ///
    /// It is empty if the program that received the message has no [`Builder::media`](super::Builder::media): fetch the
    /// files yourself then, at once, with [`Channel::fetch_media`](crate::Channel::fetch_media). [`Line::retention`](super::Line::retention) removes
    /// them with the message.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the store is unavailable.
    pub async fn files(&self, event: EventId) -> Result<Vec<File>> {
        self.0.store.0.files(event.0).await
    }
}
