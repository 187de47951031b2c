//! The store behind a switchboard, as a trait.

use std::fmt;
use std::future::{self, Future};
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;

use super::Line;
use super::campaign::Campaign;
use super::conversation::{Entry, Place};
use super::conversations::{ConversationFilter, ConversationPlace, ConversationRow};
use super::directory::{Addressee, Directory, Named};
use super::file::File;
use super::lanes::{Claims, Rooms};
use super::messages::{CancelledPart, MessageFilter};
use super::people::{LinkChange, PersonLink};
use super::record::{
    Answers, Attempt, Bounded, Claimed, ClaimedFile, End, Enqueued, EventFilter, FallbackResults, FallbackRow, Fetched,
    FileHold, Hold, InboxEvent, Incoming, Leases, New, PutOff, Recovered, Reserved, Ruling, Settle, Unbounded, Wait,
};
use super::register::{Begun, Lift, OptOutEntry, Preference, PreferenceKind};
use super::status::{Id, State, Status};
use super::watch::Stats;
use crate::model::clock::Timestamp;
use crate::model::digest::Digest;
use crate::model::error::Result;
use crate::model::poll::Cursor;
use crate::policy::Reason;

/// A database of a switchboard. Every method is one transaction, durable when it returns.
#[async_trait]
pub(super) trait Engine: fmt::Debug + Send + Sync {
    /// Sets the lines on which the rules depend; those of several switchboards add up.
    fn configure(&self, directory: Directory);

    /// Acquires the right to work on the store while the value lives: for one worker, or for several if claims keep
    /// them apart.
    async fn lock(&self) -> Result<Box<dyn Send>>;

    /// Stores a message, unless its recipient opted out. The same key of the same line returns the stored one.
    async fn enqueue(&self, new: New) -> Result<Enqueued>;

    /// Stores messages in one transaction, each unless its recipient opted out, and returns the results in their order.
    async fn enqueue_all(&self, all: Vec<New>) -> Result<Vec<Enqueued>>;

    /// Stores a message and acknowledges an event, or neither if a different message has the key.
    async fn enqueue_and_ack(&self, new: New, event: i64) -> Result<Enqueued>;

    /// Claims due heads of conversations: as many of each lane and class as there is room for, and one of each lane of
    /// a line that no program serves.
    async fn claim(&self, now: Timestamp, lease: Duration, rooms: Rooms) -> Result<Claims>;

    /// Records a pause of an account that its gateway required.
    async fn pause(&self, account: String, until: Timestamp) -> Result<()>;

    /// Returns the paused accounts.
    async fn pauses(&self, now: Timestamp) -> Result<Vec<(String, Timestamp)>>;

    /// Returns `true` if several workers use one account, and so share its rate: see [`reserve`](Self::reserve).
    fn has_shared_rates(&self) -> bool {
        false
    }

    /// Reserves tokens of an account with this interval.
    async fn reserve(&self, _account: String, _interval: Duration, count: u32, now: Timestamp) -> Result<Reserved> {
        Ok(Reserved { from: now, count })
    }

    /// Records that this program cannot handle a message, and returns since when.
    async fn unhandled_since(&self, id: Id, why: Reason, now: Timestamp) -> Result<Timestamp>;

    /// Releases a claimed message, unchanged.
    async fn unclaim(&self, hold: Hold) -> Result<()>;

    /// Releases a claimed message into another lane.
    async fn change_lane(&self, hold: Hold, lane: String) -> Result<()>;

    /// Releases a claimed message until a later time. Returns `false` if another worker has claimed it.
    async fn put_off(&self, hold: Hold, off: PutOff) -> Result<bool>;

    /// Records a decision of the policy other than to allow, and puts the claimed message off or ends it. Returns
    /// `false` if another worker has claimed it.
    async fn ruled(&self, hold: Hold, ruling: Ruling) -> Result<bool>;

    /// Ends waiting messages after their `not_after`, and returns them with their lines and states.
    async fn expire(&self, now: Timestamp, max: u32) -> Result<Vec<(Id, String, State)>>;

    /// Returns the messages whose fallbacks are due to be examined.
    async fn due_fallbacks(&self, now: Timestamp) -> Result<Vec<FallbackRow>>;

    /// Sends the fallbacks that are due, as the answers allow.
    async fn fall_back(&self, now: Timestamp, answers: Answers) -> Result<FallbackResults>;

    /// Returns messages by number in the form of claimed ones, without a claim.
    async fn read(&self, ids: Vec<i64>) -> Result<Vec<Claimed>>;

    /// Records the start of a send, before its first byte, unless the recipient opted out or a budget has no room: then
    /// the message ends, or waits.
    async fn begin_send(&self, hold: Hold, attempt: Attempt, to: Addressee) -> Result<Begun>;

    /// Records the start of a send to nobody who could have opted out.
    #[cfg(test)]
    async fn begin(&self, hold: Hold, attempt: Attempt) -> Result<bool> {
        let to = Addressee::nobody();
        Ok(self.begin_send(hold, attempt, to).await? == Begun::Sending)
    }

    /// Returns the units of budgets' counters.
    async fn used(&self, counters: Vec<String>) -> Result<Vec<i64>>;

    /// Returns `true` if the register stops this message now.
    async fn is_stopped(&self, message: Addressee, now: Timestamp) -> Result<bool>;

    /// Records opt-outs and consents, and returns how many are new, or said again.
    async fn record_preferences(&self, preferences: Vec<Preference>, now: Timestamp) -> Result<u64>;

    /// Returns the active entries of a kind of a line's controller, oldest first, after one: each with its content, if it
    /// is a consent.
    async fn preferences(
        &self,
        line: &str,
        kind: PreferenceKind,
        after: Option<i64>,
        max: u32,
    ) -> Result<Vec<(OptOutEntry, Option<String>)>>;

    /// Removes a person's addresses from the register, which keeps their fingerprints. Returns the number removed.
    async fn pseudonymise(&self, line: &str, person: Named) -> Result<u64>;

    /// Links two addresses of a person. Returns `false` if they are linked already.
    async fn link_persons(&self, change: LinkChange, now: Timestamp) -> Result<bool>;

    /// Ends the link between two addresses. Returns `false` if there is none.
    async fn unlink_persons(&self, change: LinkChange, now: Timestamp) -> Result<bool>;

    /// Returns the active links of a line's controller, oldest first, after one.
    async fn person_links(&self, line: &str, after: Option<i64>, max: u32) -> Result<Vec<PersonLink>>;

    /// Returns since when this decision is recorded for a message.
    #[cfg(test)]
    async fn decided_since(&self, id: Id, decision: &'static str, why: Reason) -> Result<Option<Timestamp>>;

    /// Lifts the opt-outs of a person that this ends, and returns their number.
    async fn lift_preferences(&self, line: &str, person: Named, lift: Lift, now: Timestamp) -> Result<u64>;

    /// Records the end of a send, and applies early deliveries. Returns `false` if another worker has claimed the
    /// message.
    async fn finish(&self, hold: Hold, end: End) -> Result<bool>;

    /// Recovers messages whose claims have lapsed, or all if only one worker can hold claims: those being sent become
    /// unknown, claimed ones are queued.
    async fn recover(&self, now: Timestamp, all: bool) -> Result<Recovered>;

    /// Holds what was due at the time of a backup, or since, because it may have been sent. Returns the number.
    async fn hold_after_restore(&self, at: Timestamp, now: Timestamp) -> Result<u64>;

    /// Returns messages with an unknown outcome that are due for a look-up, and skips them for this long.
    async fn look_ups_due(&self, now: Timestamp, wait: Duration, max: u32) -> Result<Vec<Claimed>>;

    /// Drops the fallback of a message that is unknown or parked; others are unchanged.
    async fn hold_fallback(&self, id: Id) -> Result<()>;

    /// Returns the messages of a line that match a filter, oldest first, after one.
    async fn messages(&self, line: &str, of: &MessageFilter, after: Option<Id>, max: u32) -> Result<Vec<Status>>;

    /// Cancels the next waiting messages of a line that match a filter, after one.
    async fn cancel_many(
        &self,
        line: &str,
        of: &MessageFilter,
        after: Option<Id>,
        max: u32,
        now: Timestamp,
    ) -> Result<CancelledPart>;

    /// Returns the figures of the messages of a line under a tag.
    async fn campaign(&self, line: &str, tag: &str) -> Result<Campaign>;

    /// Changes the state of a message, and returns its line, or `None` if it is not in one of the states of `from`.
    async fn settle(&self, id: Id, settled: Settle) -> Result<Option<String>>;

    /// Changes the state of a message that a person resends: its attempts start over.
    async fn resend(&self, id: Id, settled: Settle) -> Result<Option<String>>;

    /// Stores events, deduplicated, and a poll's cursor. Returns the number of new events.
    async fn store_events(
        &self,
        events: Vec<Incoming>,
        cursor: Option<(String, Cursor)>,
        now: Timestamp,
    ) -> Result<usize>;

    /// Returns the cursor of a polled channel.
    async fn cursor(&self, channel: &str) -> Result<Option<Cursor>>;

    /// Leases the oldest unacknowledged events that are not leased.
    async fn next_batch(&self, of: &EventFilter, now: Timestamp, lease: Duration, max: u32) -> Result<Vec<InboxEvent>>;

    /// Leases the oldest event of a line, or of all.
    #[cfg(test)]
    async fn next(&self, line: Option<&str>, now: Timestamp, lease: Duration) -> Result<Option<InboxEvent>> {
        let of = line.map_or(EventFilter::All { own: Vec::new() }, |line| EventFilter::Line(line.to_owned()));
        Ok(self.next_batch(&of, now, lease, 1).await?.pop())
    }

    /// Acknowledges an event.
    async fn ack(&self, event: i64, now: Timestamp) -> Result<()>;

    /// Puts off an event that failed, or parks it if it failed too often; a parked one is delivered again. Returns
    /// `true` if it is parked now.
    async fn nack(&self, event: i64, until: Timestamp, now: Timestamp) -> Result<bool>;

    /// Returns parked events, oldest first, after one.
    async fn parked_events(&self, of: &EventFilter, after: i64, now: Timestamp, max: u32) -> Result<Vec<InboxEvent>>;

    /// Returns the status of a message.
    async fn status(&self, id: Id) -> Result<Option<Status>>;

    /// Returns the conversation with a person on a line, over all their addresses: newest first, before a place.
    async fn conversation(&self, line: &str, with: &str, before: Option<Place>, max: u32) -> Result<Vec<Entry>>;

    /// Returns conversations of a line with their last entries, in the order of the filter, after a place.
    async fn conversations(
        &self,
        line: &str,
        of: ConversationFilter,
        after: Option<ConversationPlace>,
        max: u32,
    ) -> Result<Vec<(ConversationRow, Option<Entry>)>>;

    /// Marks a conversation as read. Returns `false` if nothing was unread.
    async fn mark_read(&self, line: &str, with: &str) -> Result<bool>;

    /// Returns the message of this key.
    async fn by_key(&self, line: &str, key: &str) -> Result<Option<Id>>;

    /// Returns the counts of messages and events.
    async fn stats(&self, now: Timestamp) -> Result<Stats>;

    /// Returns `true` if a line is or was configured, or has a message.
    async fn has_line(&self, line: &str) -> Result<bool>;

    /// Records the settings of these lines, and that a worker of them is active.
    async fn note(&self, lines: Vec<Line>, now: Timestamp) -> Result<()>;

    /// Records that a worker of these lines is still active.
    async fn attend(&self, lines: Vec<String>, now: Timestamp) -> Result<()>;

    /// Records the time that a worker sees; `latest` is the latest one that it has seen. Returns by how much the clock
    /// was set back, if it was: then bound the waits, and record the time again.
    async fn clock_went_back(&self, now: Timestamp, latest: Timestamp) -> Result<Option<Duration>>;

    /// Bounds waits and leases to their own length from now on, a part at a time, and returns the next part.
    async fn bound(&self, part: Unbounded, now: Timestamp, leases: Leases) -> Result<(Option<Unbounded>, Bounded)>;

    /// Records the time that a worker sees, once the waits are bounded.
    async fn note_time(&self, now: Timestamp) -> Result<()>;

    /// Returns how long a message has been due and its line without a worker, or `None` if it waits for none.
    async fn wait(&self, id: Id, now: Timestamp) -> Result<Option<Wait>>;

    /// Claims files to fetch.
    async fn claim_files(&self, now: Timestamp, lease: Duration, max: u32) -> Result<Vec<ClaimedFile>>;

    /// Records the result of a fetch, and releases the event once no file is left to wait for. Returns `false` if
    /// another worker has claimed the file, or if it is being removed now and must be fetched again.
    async fn fetched(&self, hold: FileHold, fetched: Fetched, now: Timestamp) -> Result<bool>;

    /// Returns the files of an event, in order.
    async fn files(&self, event: i64) -> Result<Vec<File>>;

    /// Removes content after its retention, at most `max` of each kind, and old deliveries without a message. Returns
    /// the number removed.
    async fn purge(&self, now: Timestamp, max: u32) -> Result<u64>;

    /// Returns files without references, to be removed within this time; after it they are listed again.
    async fn unwanted(&self, now: Timestamp, lease: Duration, max: u32) -> Result<Vec<Digest>>;

    /// Checks the tables, and returns the number of messages that differ from their digest.
    async fn check(&self) -> Result<u64>;

    /// Records that a file was removed.
    async fn removed(&self, file: Digest) -> Result<()>;

    /// Waits for a notification from another process, from this call on; forever if the store has none. Notifications
    /// may be lost: whoever waits must also poll.
    fn notified(&self, _bell: Notification) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(future::pending())
    }
}

/// The kind of a notification.
#[derive(Clone, Copy, Debug)]
pub(super) enum Notification {
    ToSend,
    ToRead,
}
