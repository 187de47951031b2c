//! The rules of a store, written once over the statements of each store.

mod begin;
mod budgets;
mod conversations;
mod limits;
mod people;
mod register;
mod windows;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::future::{self, Future};
use std::time::Duration;

pub(super) use self::begin::begin;
pub(super) use self::budgets::used;
use self::budgets::{charge_end, release_unknown};
use self::conversations::{answered, heard, moved};
pub(super) use self::people::{Linked, LinkedTo, Persons, link_persons, person_links, unlink_persons};
pub(super) use self::register::{Register, lift, listed, opt_outs, pseudonymise, verdict};
use self::register::{opt_out, opt_out_by_message};
use super::charge::Charge;
use super::conversations::Heard;
use super::directory::{Directory, Named};
use super::fallback::{Answer, FallbackDecision};
use super::limits::{Check, Checked};
use super::messages::{CANCELLED, CancelledPart, WAITING};
use super::outbox::{self, EXPIRED};
use super::record::{
    ABANDONED, AFTER_REMOVAL, Answers, BOUNDED_MAX, Bounded, CLOCK_NOTED, CLOCK_TOLERANCE, Claimed, DeliveryRow,
    DueReply, EVENT_ATTEMPTS, End, Enqueued, EventContent, EventFilter, EventRow, EventWait, FALLBACK_RESTORED,
    FELL_BACK, FallbackResults, FallbackRow, FallbackUpdate, Fetched, FileHold, FileRow, Hold, InboxEvent, Incoming,
    Leases, LinkRow, Mark, MessageRow, MessageWait, NOT_DECIDED, New, PersonOf, PutOff, REPORTED, Receipt, Ruling,
    Settle, UNHANDLED, Unbounded, Written, delivery_state_of, link_of, mark_person, person_of,
};
use super::register::{Lift, Preference, Verdict};
use super::status::{Id, Settled, State, Status};
use crate::model::address::Address;
use crate::model::clock::Timestamp;
use crate::model::delivery::DeliveryState;
use crate::model::digest::Digest;
use crate::model::error::ErrorKind;
use crate::model::event::{Delivery, DeliveryOf, Event};
use crate::model::id::MessageId;
use crate::model::poll::Cursor;
use crate::policy::Reason;

/// A statement in progress, on any thread.
pub(super) trait Statement<T, E>: Future<Output = Result<T, E>> + Send {}

impl<T, E, F: Future<Output = Result<T, E>> + Send> Statement<T, E> for F {}

/// A transaction: the statements of which the rules consist.
///
/// In a store with a thread of its own, statements are complete when they return. Where several write concurrently, a
/// row that is read to be written is locked, and so is what a `lock_` method names; where one writes, these methods do
/// nothing.
pub(super) trait Tx {
    type Error: From<serde_json::Error> + Send;

    /// Returns a name in the form that this store compares.
    fn name<'a>(&self, name: &'a str) -> Cow<'a, str> {
        name.into()
    }

    /// Inserts a message into the order of its conversation, and returns its id, or `None` if its key exists.
    fn insert_message(
        &self,
        new: &New,
        written: &Written,
        instead_of: Option<i64>,
    ) -> impl Statement<Option<i64>, Self::Error>;

    /// Stores the files that a message sends.
    fn insert_files(&self, id: i64, files: &BTreeSet<String>) -> impl Statement<(), Self::Error>;

    /// Returns the message of a key.
    fn message_by_key(&self, line: &str, key: &str) -> impl Statement<Option<(i64, Written)>, Self::Error>;

    /// Returns a message that is about to change. With a fence, only while that holds: a stale claim waits for no lock.
    fn message(&self, id: i64, fence: Option<i64>) -> impl Statement<Option<MessageRow>, Self::Error>;

    /// Returns the message of a claim: being sent under it, or still to be sent.
    fn held(&self, hold: Hold) -> impl Statement<Option<MessageRow>, Self::Error>;

    /// Sets the state of a message, never as a head: `planned` is outside the order of its conversation. `wait` is the
    /// length of its wait, unless its time was set.
    fn set_state(
        &self,
        id: i64,
        delivery: Option<&str>,
        planned: bool,
        wait: Option<Duration>,
        settled: &Settle,
    ) -> impl Statement<(), Self::Error>;

    /// Sets the lane in which a message waits.
    fn set_lane(&self, id: i64, lane: &str) -> impl Statement<(), Self::Error>;

    /// Stops counting the attempts of a message so far as tries.
    fn set_earlier(&self, id: i64) -> impl Statement<(), Self::Error>;

    /// Puts a message off, not as a head. Its wait has no length: it is decided again at any time.
    fn set_off(&self, id: i64, off: &PutOff) -> impl Statement<(), Self::Error>;

    /// Makes the first message in the order of this one's conversation its only head. A message being sent, or with an
    /// unknown outcome, holds back the others.
    fn promote_head(&self, id: i64) -> impl Statement<(), Self::Error>;

    /// Determines the heads of all conversations.
    fn promote_heads(&self) -> impl Statement<(), Self::Error>;

    /// Sets the delivery state of a message. A delivered message loses its fallback; the fallback of a failed one is
    /// due.
    fn set_delivery(
        &self,
        id: i64,
        delivery: &str,
        failed: bool,
        arrived: bool,
        now: Timestamp,
    ) -> impl Statement<(), Self::Error>;

    /// Marks the outcomes of what may have been sent since a backup as unknown, and returns the number of messages.
    fn mark_unknown_since(&self, at: Timestamp, now: Timestamp) -> impl Statement<u64, Self::Error>;

    /// Records the end of a message's last attempt, and returns its stored charges.
    fn end_attempt(&self, id: i64, n: i32, end: &End) -> impl Statement<Option<String>, Self::Error>;

    /// Adds charges to their counters, all or none. Returns the place of one that has no room.
    fn spend(&self, charges: &[Charge]) -> impl Statement<Option<usize>, Self::Error>;

    /// Compares a message with recent ones, and adds it to them.
    fn check_recent(&self, check: Check) -> impl Statement<Checked, Self::Error>;

    /// Changes counters, each by a number of units, ordered by name.
    fn change_counters(&self, changes: &[(String, i64)]) -> impl Statement<(), Self::Error>;

    /// Removes and returns the stored charges of a message's attempts with an unknown outcome.
    fn take_charges(&self, id: i64) -> impl Statement<Vec<String>, Self::Error>;

    /// Returns the units of counters that are there.
    fn counters(&self, counters: &[String]) -> impl Statement<Vec<(String, i64)>, Self::Error>;

    /// Marks the unfinished attempts of a message as unknown.
    fn end_unknown(&self, id: i64) -> impl Statement<(), Self::Error>;

    /// Drops the idempotency windows of the attempts of a message, which were not accepted: it is sent again at any time.
    fn drop_windows(&self, id: i64) -> impl Statement<(), Self::Error>;

    /// Ends the idempotency windows of the attempts of the messages after one, up to another: their age is unknown, and
    /// they are not sent again.
    fn end_windows(&self, after: i64, last: i64) -> impl Statement<(), Self::Error>;

    /// Returns `true` if an attempt of a message has an unknown outcome.
    fn has_unknown_attempt(&self, id: i64) -> impl Statement<bool, Self::Error>;

    /// Returns `true` if a message is sent again within the idempotency window of an attempt with an unknown outcome.
    fn is_repeated(&self, id: i64) -> impl Statement<bool, Self::Error>;

    /// Returns waiting messages after their `not_after`.
    fn expired(&self, now: Timestamp, max: u32) -> impl Statement<Vec<i64>, Self::Error>;

    /// Records a decision of the policy other than to allow.
    fn insert_decision(&self, id: i64, decision: &str, why: &Reason, at: Timestamp) -> impl Statement<(), Self::Error>;

    /// Returns since when this decision is recorded for a message.
    fn decided_since(&self, id: i64, decision: &str, why: &Reason) -> impl Statement<Option<Timestamp>, Self::Error>;

    /// Records an id that the gateway of this attempt returned.
    fn insert_part(&self, id: i64, n: i32, part: &MessageId) -> impl Statement<(), Self::Error>;

    /// Records the id of a delivery as one of a message.
    fn insert_part_of(&self, of: &DeliveryRow<'_>, id: i64) -> impl Statement<(), Self::Error>;

    /// Locks what deliveries refer to, before their messages are looked for.
    fn lock_deliveries(&self, _: &[Incoming]) -> impl Statement<(), Self::Error> {
        future::ready(Ok(()))
    }

    /// Locks what deliveries of a message may refer to, including ids to come.
    fn lock_message(&self, _id: i64, _parts: &[MessageId]) -> impl Statement<(), Self::Error> {
        future::ready(Ok(()))
    }

    /// Returns the message of a delivery: by its id, its reference or its key.
    fn message_of_delivery(&self, of: &DeliveryRow<'_>) -> impl Statement<Option<i64>, Self::Error>;

    /// Raises the mark of a conversation; never lowers it.
    fn set_mark(
        &self,
        line: &str,
        person: &str,
        of: &DeliveryRow<'_>,
        mark: Mark,
        now: Timestamp,
    ) -> impl Statement<(), Self::Error>;

    /// Drops the fallbacks of a person's accepted messages whose attempts began by then.
    fn drop_arrived(
        &self,
        line: &str,
        person: &str,
        of: &DeliveryRow<'_>,
        until: Timestamp,
    ) -> impl Statement<(), Self::Error>;

    /// Stores a delivery whose message is not known yet.
    fn insert_early(&self, of: &DeliveryRow<'_>, receipt: &str, at: Timestamp) -> impl Statement<(), Self::Error>;

    /// Removes and returns the early deliveries of a message, in any order.
    fn take_early(&self, id: i64) -> impl Statement<Vec<String>, Self::Error>;

    /// Inserts an event and its files: held, if events of its person failed or are held. Returns `false` if it exists.
    fn insert_event(&self, event: &EventRow<'_>) -> impl Statement<bool, Self::Error>;

    /// Sets the cursor of a polled channel.
    fn set_cursor(&self, channel: &str, place: &Cursor) -> impl Statement<(), Self::Error>;

    /// Returns the oldest events to deliver, without those of these lines.
    fn next_events(
        &self,
        of: &EventFilter,
        foreign: &[String],
        now: Timestamp,
        max: u32,
    ) -> impl Statement<Vec<InboxEvent>, Self::Error>;

    /// Leases events until then, for the `attempts`th delivery of each.
    fn hold_events(&self, events: &[InboxEvent], until: Timestamp) -> impl Statement<(), Self::Error>;

    /// Parks events, and returns their persons.
    fn park_events(&self, ids: &[i64], now: Timestamp) -> impl Statement<Vec<PersonOf>, Self::Error>;

    /// Puts off an event that failed, or parks it if it failed too often. Returns whether it is parked now, and its
    /// person; `None` if it was acknowledged.
    fn nack_event(
        &self,
        id: i64,
        until: Timestamp,
        now: Timestamp,
    ) -> impl Statement<Option<(bool, Option<PersonOf>)>, Self::Error>;

    /// Marks the later events of its person as held, up to those that are.
    fn hold_later_events(&self, id: i64, of: &PersonOf) -> impl Statement<(), Self::Error>;

    /// Releases the first held events of a person, up to one that failed.
    fn release_events(&self, of: &PersonOf) -> impl Statement<(), Self::Error>;

    /// Returns parked events, oldest first, after one, without those of these lines.
    fn parked_events(
        &self,
        of: &EventFilter,
        foreign: &[String],
        after: i64,
        max: u32,
    ) -> impl Statement<Vec<InboxEvent>, Self::Error>;

    /// Acknowledges an event, and returns its person if events of that person failed or are held.
    fn ack_event(&self, id: i64, now: Timestamp) -> impl Statement<Option<PersonOf>, Self::Error>;

    /// Returns the lines with a worker active after a time.
    fn attended_since(&self, at: Timestamp) -> impl Statement<Vec<String>, Self::Error>;

    /// Returns the statuses of messages, in any order.
    fn statuses(&self, ids: Vec<i64>) -> impl Statement<Vec<Status>, Self::Error>;

    /// Locks the links of a line: each change reads what others wrote.
    fn lock_links(&self, _line: &str) -> impl Statement<(), Self::Error> {
        future::ready(Ok(()))
    }

    /// Returns the link from an address.
    fn link(&self, line: &str, previous: &str) -> impl Statement<Option<LinkRow>, Self::Error>;

    /// Deletes the link from an address.
    fn delete_link(&self, line: &str, previous: &str) -> impl Statement<(), Self::Error>;

    /// Redirects all links to an address.
    fn move_links(&self, line: &str, from: &str, to: &LinkRow) -> impl Statement<(), Self::Error>;

    /// Links an address to another.
    fn set_link(&self, line: &str, previous: &str, to: &LinkRow) -> impl Statement<(), Self::Error>;

    /// Returns all names of the person who has these.
    fn names_of(&self, line: &str, names: &[String]) -> impl Statement<Vec<String>, Self::Error>;

    /// Returns `true` if a reply to a person was enqueued at this time or later.
    fn has_reply_since(&self, line: &str, names: &[String], at: Timestamp) -> impl Statement<bool, Self::Error>;

    /// Returns the messages of this priority or later that a person's opt-out ends, with their lanes, ordered by id.
    fn ended_by_opt_out(
        &self,
        line: &str,
        names: &[String],
        from: u8,
    ) -> impl Statement<Vec<(i64, String)>, Self::Error>;

    /// Drops the fallback of a message, and those of a person's messages of this priority or later.
    fn drop_fallbacks(&self, id: i64, line: &str, names: &[String], from: u8) -> impl Statement<(), Self::Error>;

    /// Records that a person wrote on a line: a message that waits for an answer if `waits`, or an answer of ours that was
    /// written elsewhere.
    fn set_heard(&self, heard: &Heard<'_>) -> impl Statement<(), Self::Error>;

    /// Records that a message was an answer: to what its person wrote before it was enqueued, unless it is an auto-reply.
    fn set_answered(&self, id: i64, now: Timestamp) -> impl Statement<(), Self::Error>;

    /// Merges the conversation with a name into that of an address.
    fn merge_conversations(&self, line: &str, from: &str, to: &LinkRow) -> impl Statement<(), Self::Error>;

    /// Returns the message sent in place of another.
    fn instead_of(&self, id: i64) -> impl Statement<Option<i64>, Self::Error>;

    /// Returns the messages whose fallbacks are due by a time, the first hundred, or all with a fallback. Skips those
    /// that another worker has locked.
    fn take_fallbacks(&self, by: Option<Timestamp>) -> impl Statement<Vec<FallbackRow>, Self::Error>;

    /// Sets when a fallback is examined again, or drops it, and counts a look-up.
    fn set_fallback(&self, id: i64, again: Option<Timestamp>, looked_up: bool) -> impl Statement<(), Self::Error>;

    /// Returns the latest time that a worker has seen.
    fn seen(&self) -> impl Statement<Option<Timestamp>, Self::Error>;

    /// Stores the time that a worker sees.
    fn set_seen(&self, now: Timestamp) -> impl Statement<(), Self::Error>;

    /// Returns the waits of the next messages after one.
    fn message_waits(&self, after: i64, max: u32) -> impl Statement<Vec<MessageWait>, Self::Error>;

    /// Bounds the waits of a message, unless they have changed since they were read.
    fn set_message_wait(&self, before: &MessageWait, after: &MessageWait) -> impl Statement<bool, Self::Error>;

    /// Returns the leases and waits of the next unacknowledged events after one.
    fn event_waits(&self, after: i64, max: u32) -> impl Statement<Vec<EventWait>, Self::Error>;

    /// Bounds the wait of an event, unless it has changed since it was read.
    fn set_event_wait(&self, before: EventWait, until: Timestamp) -> impl Statement<bool, Self::Error>;

    /// Bounds the waits of files, and returns their number; files whose fetch failed are fetched again.
    fn bound_files(&self, now: Timestamp, leases: Leases) -> impl Statement<u64, Self::Error>;

    /// Bounds the times of workers' activity.
    fn bound_attended(&self, now: Timestamp) -> impl Statement<(), Self::Error>;

    /// Returns `true` if a file is being removed. From now on no removal of it begins.
    fn is_removing(&self, file: &Digest) -> impl Statement<bool, Self::Error>;

    /// Stores the state of a file. Returns `false` if another worker has claimed it. Releases the event that is held
    /// back for its files, once none is left to wait for and nobody has leased it since.
    fn set_file(&self, hold: FileHold, file: &FileRow<'_>) -> impl Statement<bool, Self::Error>;
}

/// Enqueues a message, which may be the fallback of another, unless its recipient opted out.
pub(super) async fn enqueue<T: Register>(
    tx: &T,
    of: &Directory,
    new: &New,
    written: &Written,
    instead_of: Option<i64>,
) -> Result<Enqueued, T::Error> {
    let decided = verdict(tx, of, &new.addressee(&new.message), None, new.now).await?;
    let mut refused = match &decided {
        // It is refused when it is due, and its fallback is sent.
        Verdict::Stopped(reason) if reason.is_for_medium() && new.fallback.is_some() => None,
        Verdict::Stopped(reason) => Some((reason.clone(), false)),
        _ => None,
    };
    if let (None, Some(fallback)) = (&refused, &new.fallback)
        && let Verdict::Stopped(reason) = verdict(tx, of, &new.addressee(fallback.message()), None, new.now).await?
    {
        refused = Some((reason, true));
    }
    if let Some((reason, is_fallback)) = refused {
        // A message stored earlier is returned, whatever the person said since.
        return Ok(match tx.message_by_key(&new.line, &new.key).await? {
            Some((id, there)) if new.is_same(written, &there) => Enqueued::Same(Id(id)),
            Some(_) => Enqueued::Other,
            None => Enqueued::Refused { reason, is_fallback },
        });
    }
    let enqueued = insert(tx, new, written, instead_of).await?;
    if let (Verdict::Confirms(entry), Enqueued::New(id)) = (decided, &enqueued) {
        tx.set_confirmation(entry, id.0).await?;
    }
    Ok(enqueued)
}

/// Inserts a message, whatever its recipient said.
async fn insert<T: Tx>(tx: &T, new: &New, written: &Written, instead_of: Option<i64>) -> Result<Enqueued, T::Error> {
    let Some(id) = tx.insert_message(new, written, instead_of).await? else {
        return Ok(match tx.message_by_key(&new.line, &new.key).await? {
            Some((id, there)) if new.is_same(written, &there) => Enqueued::Same(Id(id)),
            _ => Enqueued::Other,
        });
    };
    if !written.files.is_empty() {
        tx.insert_files(id, &written.files).await?;
    }
    if let Some(reason) = &new.deferred {
        tx.insert_decision(id, "defer", reason, new.now).await?;
    }
    Ok(Enqueued::New(Id(id)))
}

/// Enqueues a message and acknowledges the event that it answers, unless a different message has the key or the recipient
/// opted out.
pub(super) async fn enqueue_and_ack<T: Register>(
    tx: &T,
    of: &Directory,
    new: &New,
    written: &Written,
    event: i64,
) -> Result<Enqueued, T::Error> {
    let enqueued = enqueue(tx, of, new, written, None).await?;
    if matches!(enqueued, Enqueued::New(_) | Enqueued::Same(_)) {
        ack(tx, event, new.now).await?;
    }
    Ok(enqueued)
}

/// Puts a claimed message off.
pub(super) async fn put_off<T: Tx>(tx: &T, hold: Hold, off: &PutOff) -> Result<bool, T::Error> {
    if tx.held(hold).await?.is_none_or(|row| row.state == State::Sending) {
        return Ok(false);
    }
    tx.set_off(hold.id.0, off).await?;
    tx.promote_head(hold.id.0).await?;
    Ok(true)
}

/// Releases a claimed message into another lane.
pub(super) async fn change_lane<T: Tx>(tx: &T, hold: Hold, lane: &str) -> Result<(), T::Error> {
    match tx.held(hold).await? {
        Some(row) if row.state != State::Sending => tx.set_lane(hold.id.0, lane).await,
        _ => Ok(()),
    }
}

/// Ends waiting messages after their `not_after`; parks one with an earlier unknown outcome.
pub(super) async fn expire<T: Tx>(
    tx: &T,
    before: Timestamp,
    max: u32,
    now: Timestamp,
) -> Result<Vec<(Id, String, State)>, T::Error> {
    let mut ended = Vec::new();
    for id in tx.expired(before, max).await? {
        let state = if tx.has_unknown_attempt(id).await? { State::Parked } else { State::Expired };
        let (reason, from) = (Some(EXPIRED.to_owned()), &[State::Queued, State::Deferred]);
        if let Some(line) = settle(tx, id, &Settle { state, due: None, reason, from, now }).await? {
            ended.push((Id(id), line, state));
        }
    }
    Ok(ended)
}

/// Cancels messages that are still waiting, and returns those that were.
pub(super) async fn cancel_all<T: Tx>(tx: &T, ids: &[i64], now: Timestamp) -> Result<CancelledPart, T::Error> {
    let mut cancelled = Vec::new();
    for id in ids {
        let (reason, from) = (Some(CANCELLED.to_owned()), &WAITING);
        let settled = Settle { state: State::Cancelled, due: None, reason, from, now };
        cancelled.extend(settle(tx, *id, &settled).await?.map(|_| Id(*id)));
    }
    Ok(CancelledPart { cancelled, last: ids.last().copied().map(Id) })
}

/// Records that this program cannot handle a message, and returns since when.
pub(super) async fn unhandled_since<T: Tx>(
    tx: &T,
    id: i64,
    why: &Reason,
    now: Timestamp,
) -> Result<Timestamp, T::Error> {
    match tx.decided_since(id, UNHANDLED, why).await? {
        // Otherwise the clock was ahead then.
        Some(since) if since <= now => Ok(since),
        _ => tx.insert_decision(id, UNHANDLED, why, now).await.map(|()| now),
    }
}

/// Records the policy's decision about a claimed message, and puts it off or ends it.
pub(super) async fn ruled<T: Tx>(tx: &T, hold: Hold, ruling: &Ruling) -> Result<bool, T::Error> {
    if tx.held(hold).await?.is_none_or(|row| row.state == State::Sending) {
        return Ok(false);
    }
    tx.insert_decision(hold.id.0, ruling.decision, &ruling.reason, ruling.settle.now).await?;
    let wait = ruling.settle.wait().filter(|_| ruling.decision == NOT_DECIDED);
    settle_after(tx, hold.id.0, wait, &ruling.settle).await.map(|line| line.is_some())
}

/// Records the end of an attempt, and applies early deliveries.
pub(super) async fn finish<T: Register>(tx: &T, of: &Directory, hold: Hold, end: &End) -> Result<bool, T::Error> {
    let id = hold.id.0;
    let opted_out = end.kind == ErrorKind::OptedOut.as_str();
    if opted_out {
        // Before any other lock.
        tx.lock_register(true).await?;
    }
    tx.lock_message(id, &end.ids).await?;
    let Some(row) = tx.held(hold).await? else { return Ok(false) };
    let MessageRow { line, recipient, delivery, attempts, priority, .. } = row;
    if let Some(charges) = tx.end_attempt(id, attempts, end).await? {
        charge_end(tx, &charges, end).await?;
    }
    for part in &end.ids {
        tx.insert_part(id, attempts, part).await?;
    }
    for (name, address) in end.names(&recipient) {
        link(tx, &line, name, address, end.now).await?;
    }
    let delivery = match end.delivery {
        Some(state) => Some(raised(delivery.as_deref(), state)?),
        None => delivery,
    };
    if let Some(lane) = &end.lane {
        tx.set_lane(id, lane).await?;
    }
    let from = &[State::Claimed, State::Sending];
    let settled = Settle { state: end.state, due: end.due, reason: end.reason.clone(), from, now: end.now };
    transition(tx, id, &line, delivery.as_deref(), (false, settled.wait()), &settled).await?;
    if settled.state == State::Accepted {
        answered(tx, id, priority, end.now).await?;
    }
    if opted_out {
        opt_out_by_message(tx, of, id, end.now).await?;
    }
    match settled.state {
        State::Unknown | State::Parked => resolve_unknown(tx, of, id, end.now).await?,
        _ => apply_early(tx, of, id, end.now).await?,
    }
    Ok(true)
}

/// Marks the outcome of a message that a worker left while sending it as unknown.
pub(super) async fn left_behind<T: Register>(
    tx: &T,
    of: &Directory,
    message: &Claimed,
    now: Timestamp,
) -> Result<(), T::Error> {
    let id = message.hold.id.0;
    settle(tx, id, &outbox::left_behind(message, now)).await?;
    tx.end_unknown(id).await?;
    resolve_unknown(tx, of, id, now).await
}

/// Settles a message, and returns its line if that ends it.
pub(super) async fn settle<T: Tx>(tx: &T, id: i64, settled: &Settle) -> Result<Option<String>, T::Error> {
    if settled.state == State::Cancelled && tx.is_repeated(id).await? {
        return Ok(None);
    }
    // A look-up found that it was certainly not accepted: it may be sent again at any time, by any account.
    if settled.state == State::Queued && settled.from == [State::Unknown] {
        tx.drop_windows(id).await?;
    }
    // The policy is what defers here, and it set the time.
    let line = settle_after(tx, id, settled.wait().filter(|_| settled.state != State::Deferred), settled).await?;
    if line.is_some() && settled.is_certainly_not_sent() {
        release_unknown(tx, id).await?;
    }
    Ok(line)
}

/// Settles a message that a person resends: its attempts start over.
pub(super) async fn resend<T: Tx>(tx: &T, id: i64, settled: &Settle) -> Result<Option<String>, T::Error> {
    let line = settle(tx, id, settled).await?;
    if line.is_some() {
        tx.set_earlier(id).await?;
    }
    Ok(line)
}

/// Settles a message whose wait has this length.
async fn settle_after<T: Tx>(
    tx: &T,
    id: i64,
    wait: Option<Duration>,
    settled: &Settle,
) -> Result<Option<String>, T::Error> {
    let Some(row) = tx.message(id, None).await? else { return Ok(None) };
    let MessageRow { line, state, delivery, priority, .. } = row;
    if !settled.from.contains(&state) {
        return Ok(None);
    }
    // Only a decision of the policy waits outside the order of its conversation.
    let planned = settled.state == State::Deferred;
    transition(tx, id, &line, delivery.as_deref(), (planned, wait), settled).await?;
    if settled.state == State::Accepted {
        answered(tx, id, priority, settled.now).await?;
    }
    Ok(Some(line))
}

/// Writes a state transition, with an event for the line if it settles the message.
async fn transition<T: Tx>(
    tx: &T,
    id: i64,
    line: &str,
    delivery: Option<&str>,
    (planned, wait): (bool, Option<Duration>),
    settled: &Settle,
) -> Result<(), T::Error> {
    tx.set_state(id, delivery, planned, wait, settled).await?;
    tx.promote_head(id).await?;
    if settled.state.is_settled() {
        let body = Settled::new(Id(id), settled.state, settled.reason.clone());
        let (line, body) = (Some(line), &serde_json::to_string(&body)?);
        let taken_in = settled.now;
        let event =
            EventRow { line, dedupe: None, kind: "settled", person: None, waits: false, body, files: 0, taken_in };
        tx.insert_event(&event).await?;
    }
    Ok(())
}

/// Marks what may have been sent since a backup as unknown, and parks the fallbacks that may have been.
pub(super) async fn hold_after_restore<T: Tx>(tx: &T, at: Timestamp, now: Timestamp) -> Result<u64, T::Error> {
    let is_unknown = tx.mark_unknown_since(at, now).await?;
    tx.promote_heads().await?;
    for row in tx.take_fallbacks(None).await? {
        let id = row.id;
        tx.set_fallback(id, None, false).await?;
        let Some(instead) = row.instead(now) else { continue };
        if let Enqueued::New(id) = insert(tx, &instead, &Written::new(&instead)?, Some(id)).await? {
            let reason = Some(FALLBACK_RESTORED.to_owned());
            settle(tx, id.0, &Settle { state: State::Parked, due: None, reason, from: &[State::Queued], now }).await?;
        }
    }
    Ok(is_unknown)
}

/// Sends the fallbacks that are due, as the answers allow.
pub(super) async fn fall_back<T: Register>(
    tx: &T,
    of: &Directory,
    now: Timestamp,
    answers: &Answers,
) -> Result<FallbackResults, T::Error> {
    let mut results = FallbackResults::default();
    for row in tx.take_fallbacks(Some(now)).await? {
        let (id, FallbackUpdate { mut decision, mut again, mut recorded }) = (row.id, row.examine(answers, now));
        if matches!(decision, FallbackDecision::CancelFirst | FallbackDecision::Send)
            && let Some(to) = row.addressee(now)
            && let Verdict::Stopped(reason) = verdict(tx, of, &to, None, now).await?
        {
            (decision, again, recorded) = (FallbackDecision::Never, None, Some(("refuse_fallback", reason)));
        }
        if let Some((name, reason)) = &recorded {
            tx.insert_decision(id, name, reason, now).await?;
        }
        tx.set_fallback(id, again, matches!(answers.get(&id), Some(Answer::Unclear))).await?;
        if decision == FallbackDecision::Never && recorded.is_some() {
            results.refused.push(Id(id));
        }
        if decision == FallbackDecision::CancelFirst {
            let from = &[State::Queued, State::Deferred, State::Parked];
            let reason = Some(FELL_BACK.to_owned());
            let line = settle(tx, id, &Settle { state: State::Cancelled, due: None, reason, from, now }).await?;
            results.cancelled.extend(line.map(|line| (Id(id), line)));
        }
        if matches!(decision, FallbackDecision::CancelFirst | FallbackDecision::Send)
            && let Some(instead) = row.instead(now)
            && let Enqueued::New(sent) = enqueue(tx, of, &instead, &Written::new(&instead)?, Some(id)).await?
        {
            results.to_send.push((sent, instead));
        }
    }
    Ok(results)
}

/// Stores events and the poll's cursor, and returns the number of new events.
pub(super) async fn store_events<T: Register>(
    tx: &T,
    of: &Directory,
    events: &[Incoming],
    cursor: Option<&(String, Cursor)>,
    now: Timestamp,
) -> Result<usize, T::Error> {
    if events.iter().any(|incoming| incoming.may_opt_out()) {
        // Before any other lock.
        tx.lock_register(true).await?;
    }
    tx.lock_deliveries(events).await?;
    let mut new = 0;
    for incoming @ Incoming { line, event, .. } in events {
        let (dedupe, body) = (Digest::sha256(event.id().as_bytes()).to_string(), serde_json::to_string(event)?);
        let (line, person, files) = (line.as_deref(), person_of(event), incoming.files());
        let (dedupe, kind) = (Some(&*dedupe), "event");
        let waits = event.as_answerable().is_some();
        if !tx.insert_event(&EventRow { line, dedupe, kind, person, waits, body: &body, files, taken_in: now }).await? {
            continue;
        }
        new += 1;
        if let (Some(line), Event::Inbound(inbound)) = (line, event) {
            heard(tx, line, inbound, waits, now).await?;
        }
        if let Event::Delivery(delivery) = event {
            deliver(tx, of, line, delivery, now).await?;
        }
        if let (Some(line), Some((previous, current))) = (line, link_of(event)) {
            link(tx, line, previous, current, event.envelope().at).await?;
        }
        if let (Some(line), Some(reply)) = (line, &incoming.auto_reply) {
            auto_reply(tx, of, line, reply, now).await?;
        }
        if let (Some(line), Event::OptOut(event)) = (line, event) {
            if event.resume {
                lift(tx, of, line, &Named::new(&event.from), &Lift::from_event(event, now), now).await?;
            } else {
                opt_out(tx, of, &Preference::from_event(of, line, event, now), now).await?;
            }
        }
    }
    if let Some((channel, place)) = cursor {
        tx.set_cursor(channel, place).await?;
    }
    Ok(new)
}

/// Enqueues an auto-reply, unless the person got a reply since its period began.
async fn auto_reply<T: Register>(
    tx: &T,
    of: &Directory,
    line: &str,
    reply: &DueReply,
    now: Timestamp,
) -> Result<(), T::Error> {
    let names = tx.names_of(line, &[reply.message.to.expose().to_owned()]).await?;
    if names.len() > 1 {
        // Two addresses of a person have two keys: their messages are stored one after the other.
        tx.lock_links(line).await?;
    }
    if !tx.has_reply_since(line, &names, reply.since).await? {
        let new = reply.to_enqueue(line, now);
        enqueue(tx, of, &new, &Written::new(&new)?, None).await?;
    }
    Ok(())
}

/// Leases the oldest events, and parks those that were delivered too often.
pub(super) async fn next_batch<T: Tx>(
    tx: &T,
    of: &EventFilter,
    now: Timestamp,
    lease: Duration,
    max: u32,
) -> Result<Vec<InboxEvent>, T::Error> {
    let foreign = foreign(tx, of, now).await?;
    let mut batch = Vec::new();
    loop {
        let room = max.saturating_sub(u32::try_from(batch.len()).unwrap_or(u32::MAX));
        if room == 0 {
            break;
        }
        let found = tx.next_events(of, &foreign, now, room).await?;
        let (failed, mut held): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|event| event.attempts >= EVENT_ATTEMPTS);
        if !held.is_empty() {
            held.iter_mut().for_each(InboxEvent::begin);
            tx.hold_events(&held, now.plus(lease)).await?;
            batch.append(&mut held);
        }
        // A batch that is not full has everything, unless some were parked.
        if failed.is_empty() {
            break;
        }
        let failed: Vec<_> = failed.iter().map(|event| event.id).collect();
        for of in tx.park_events(&failed, now).await? {
            tx.release_events(&of).await?;
        }
    }
    complete(tx, &mut batch).await?;
    Ok(batch)
}

/// Acknowledges an event, and releases those that it held back.
pub(super) async fn ack<T: Tx>(tx: &T, id: i64, now: Timestamp) -> Result<(), T::Error> {
    match tx.ack_event(id, now).await? {
        Some(of) => tx.release_events(&of).await,
        None => Ok(()),
    }
}

/// Puts off an event that failed, and holds back the later ones of its person; or parks it, and releases them.
pub(super) async fn nack<T: Tx>(tx: &T, id: i64, until: Timestamp, now: Timestamp) -> Result<bool, T::Error> {
    let Some((is_parked, of)) = tx.nack_event(id, until, now).await? else { return Ok(false) };
    match of {
        Some(of) if is_parked => tx.release_events(&of).await?,
        Some(of) => tx.hold_later_events(id, &of).await?,
        None => {}
    }
    Ok(is_parked)
}

/// Returns parked events, oldest first, after one.
pub(super) async fn parked_events<T: Tx>(
    tx: &T,
    of: &EventFilter,
    after: i64,
    now: Timestamp,
    max: u32,
) -> Result<Vec<InboxEvent>, T::Error> {
    let foreign = foreign(tx, of, now).await?;
    let mut parked = tx.parked_events(of, &foreign, after, max).await?;
    complete(tx, &mut parked).await?;
    Ok(parked)
}

/// Returns the lines whose events are left to another program.
async fn foreign<T: Tx>(tx: &T, of: &EventFilter, now: Timestamp) -> Result<Vec<String>, T::Error> {
    match of {
        EventFilter::Line(_) => Ok(Vec::new()),
        EventFilter::All { .. } => Ok(of.foreign(tx.attended_since(now.minus(ABANDONED)).await?)),
    }
}

/// Completes events about settled messages from the messages.
async fn complete<T: Tx>(tx: &T, events: &mut [InboxEvent]) -> Result<(), T::Error> {
    let ids = events.iter().filter_map(|event| match &event.what {
        EventContent::Settled(settled) => Some(settled.id.into()),
        _ => None,
    });
    let ids: Vec<i64> = ids.collect();
    if ids.is_empty() {
        return Ok(());
    }
    let statuses: HashMap<_, _> = tx.statuses(ids).await?.into_iter().map(|status| (status.id, status)).collect();
    for event in events {
        if let EventContent::Settled(settled) = &mut event.what
            && let Some(status) = statuses.get(&settled.id)
        {
            settled.complete(status.clone(), event.taken_in);
        }
    }
    Ok(())
}

/// Applies a delivery to its message, or stores it until the message is known.
async fn deliver<T: Register>(
    tx: &T,
    directory: &Directory,
    line: Option<&str>,
    delivery: &Delivery,
    now: Timestamp,
) -> Result<(), T::Error> {
    let (gateway, account) = (&*delivery.envelope.gateway, delivery.envelope.account.as_str());
    let (id, key) = match &delivery.of {
        DeliveryOf::Message { id, key } => (id.as_ref().map(MessageId::as_str), key.as_deref()),
        DeliveryOf::UpTo { .. } => (None, None),
    };
    let of = DeliveryRow { gateway, account, id, key };
    if let DeliveryOf::UpTo { at, .. } = &delivery.of {
        // A message not sent yet cannot have been read, whatever a gateway's clock shows.
        let until = (*at).min(now);
        let (Some(line), Some(person), Some(mark)) =
            (line, mark_person(delivery), Mark::from_state(delivery.state, until))
        else {
            return Ok(());
        };
        // It applies to accepted messages: that everything before was read does not resolve an unknown outcome.
        tx.set_mark(line, person.expose(), &of, mark, now).await?;
        return tx.drop_arrived(line, person.expose(), &of, until).await;
    }
    let receipt = Receipt::by(delivery);
    let Some(message) = tx.message_of_delivery(&of).await? else {
        return tx.insert_early(&of, &serde_json::to_string(&receipt)?, now).await;
    };
    // A message found by its key is found by its id from now on.
    if id.is_some_and(|id| !id.is_empty()) {
        tx.insert_part_of(&of, message).await?;
    }
    apply_receipt(tx, directory, message, receipt, now).await
}

/// Applies a gateway's report about a message: its delivery state, and that the gateway has it.
async fn apply_receipt<T: Register>(
    tx: &T,
    of: &Directory,
    message: i64,
    receipt: Receipt,
    now: Timestamp,
) -> Result<(), T::Error> {
    let state = raise(tx, message, receipt.state, now).await?;
    if receipt.opted_out {
        opt_out_by_message(tx, of, message, now).await?;
    }
    let waits = matches!(state, Some(State::Queued | State::Deferred));
    // One that would be sent again after an unknown outcome was accepted then.
    let from: &[State] = match waits && tx.has_unknown_attempt(message).await? {
        true => &[State::Queued, State::Deferred],
        false => &[State::Unknown, State::Parked],
    };
    let settled = Settle { state: State::Accepted, due: None, reason: Some(REPORTED.to_owned()), from, now };
    settle(tx, message, &settled).await.map(drop)
}

/// Resolves the unknown outcome of a message by the reports received while it was being sent.
async fn resolve_unknown<T: Register>(tx: &T, of: &Directory, message: i64, now: Timestamp) -> Result<(), T::Error> {
    apply_early(tx, of, message, now).await?;
    let Some(row) = tx.message(message, None).await? else { return Ok(()) };
    match row.delivery.as_deref().and_then(delivery_state_of) {
        Some(state) if matches!(row.state, State::Unknown | State::Parked) => {
            apply_receipt(tx, of, message, Receipt { state, opted_out: false }, now).await
        }
        _ => Ok(()),
    }
}

/// Applies what arrived before the message's own id was stored.
async fn apply_early<T: Register>(tx: &T, of: &Directory, message: i64, now: Timestamp) -> Result<(), T::Error> {
    for receipt in tx.take_early(message).await? {
        if let Ok(receipt) = serde_json::from_str(&receipt) {
            apply_receipt(tx, of, message, receipt, now).await?;
        }
    }
    Ok(())
}

/// Raises the delivery state of a message, and never lowers it. Returns the message's state.
async fn raise<T: Tx>(tx: &T, message: i64, state: DeliveryState, now: Timestamp) -> Result<Option<State>, T::Error> {
    let Some(row) = tx.message(message, None).await? else { return Ok(None) };
    let after = raised(row.delivery.as_deref(), state)?;
    let failed = delivery_state_of(&after).is_some_and(DeliveryState::is_failure);
    let arrived = delivery_state_of(&after) >= Some(DeliveryState::Delivered);
    tx.set_delivery(message, &after, failed, arrived, now).await?;
    Ok(Some(row.state))
}

/// Returns the raised delivery state in its stored form.
fn raised(before: Option<&str>, state: DeliveryState) -> serde_json::Result<String> {
    serde_json::to_string(&before.and_then(delivery_state_of).map_or(state, |before| before.join(state)))
}

/// Records a person's current address: each former address links to the current one directly.
async fn link<T: Tx>(tx: &T, line: &str, previous: &str, to: &Address, at: Timestamp) -> Result<(), T::Error> {
    let (previous, here) = (&*tx.name(previous), tx.name(to.expose()));
    if tx.link(line, previous).await?.is_some_and(|link| link.current == here) {
        return Ok(());
    }
    tx.lock_links(line).await?;
    // Reports may arrive out of order.
    let is_later = |link: &LinkRow| link.at > at;
    if tx.link(line, previous).await?.is_some_and(|link| is_later(&link)) {
        return Ok(());
    }
    let to = match tx.link(line, &here).await?.filter(is_later) {
        Some(later) => LinkRow { at, ..later },
        None => LinkRow { current: here.into_owned(), address: serde_json::to_string(to)?, at },
    };
    // A person who returns to an address no longer links away from it.
    tx.delete_link(line, &to.current).await?;
    tx.move_links(line, previous, &to).await?;
    if to.current != previous {
        tx.set_link(line, previous, &to).await?;
    }
    moved(tx, line, previous, &to).await
}

/// Records the time that a worker sees; `latest` is the latest one that it has seen. Returns by how much the clock was
/// set back, if it was: then [`Tx::set_seen`] records the time once the waits are bounded.
pub(super) async fn set_back_by<T: Tx>(
    tx: &T,
    now: Timestamp,
    latest: Timestamp,
) -> Result<Option<Duration>, T::Error> {
    let seen = tx.seen().await?;
    let back = seen.map_or(latest, |seen| seen.max(latest)).since(now);
    if back > CLOCK_TOLERANCE {
        return Ok(Some(back));
    }
    if seen.is_none_or(|seen| now >= seen.plus(CLOCK_NOTED)) {
        tx.set_seen(now).await?;
    }
    Ok(None)
}

/// Bounds waits and leases that began while the clock was ahead to their own length from now on, a part at a time.
/// Returns the next part.
pub(super) async fn bound<T: Tx>(
    tx: &T,
    part: Unbounded,
    now: Timestamp,
    leases: Leases,
) -> Result<(Option<Unbounded>, Bounded), T::Error> {
    let mut bounded = Bounded::default();
    let next = match part {
        Unbounded::Messages(after) => {
            let waits = tx.message_waits(after, BOUNDED_MAX).await?;
            for before in &waits {
                let after = before.bounded(now, leases.message);
                bounded.implausible += u64::from(after.is_implausible(now));
                if after == *before {
                    continue;
                }
                let leaves = after.planned != before.planned;
                if leaves {
                    // The order of its conversation changes.
                    tx.message(before.id, None).await?;
                }
                let is_bounded = tx.set_message_wait(before, &after).await?;
                if is_bounded && leaves {
                    tx.promote_head(before.id).await?;
                }
                bounded.messages += u64::from(is_bounded);
            }
            if let Some(last) = waits.last() {
                tx.end_windows(after, last.id).await?;
            }
            waits.last().map_or(Unbounded::Events(i64::MIN), |last| Unbounded::Messages(last.id))
        }
        Unbounded::Events(after) => {
            let waits = tx.event_waits(after, BOUNDED_MAX).await?;
            for before in &waits {
                let until = now.plus(before.wait.unwrap_or(leases.event));
                if before.lease.is_some_and(|lease| lease > until) {
                    bounded.events += u64::from(tx.set_event_wait(*before, until).await?);
                }
            }
            waits.last().map_or(Unbounded::Rest, |last| Unbounded::Events(last.id))
        }
        Unbounded::Rest => {
            bounded.files = tx.bound_files(now, leases).await?;
            tx.bound_attended(now).await?;
            return Ok((None, bounded));
        }
    };
    Ok((Some(next), bounded))
}

/// Records the result of a fetch, and releases the event once no file is left to wait for.
pub(super) async fn fetched<T: Tx>(
    tx: &T,
    hold: FileHold,
    fetched: &Fetched,
    now: Timestamp,
) -> Result<bool, T::Error> {
    let waiting = FileRow { state: "waiting", due: None, stored: None, reason: None };
    let mut taken = true;
    let file = match fetched {
        Fetched::Again(at) => FileRow { due: Some(*at), ..waiting },
        Fetched::Failed(why) => FileRow { state: "failed", reason: Some(why), ..waiting },
        Fetched::Held(file) => {
            taken = !tx.is_removing(&file.sha256).await?;
            if taken {
                FileRow { state: "held", stored: Some(file), ..waiting }
            } else {
                FileRow { due: Some(now.plus(AFTER_REMOVAL)), ..waiting }
            }
        }
    };
    Ok(tx.set_file(hold, &file).await? && taken)
}
