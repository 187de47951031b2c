//! What a switchboard needs of a store.

use std::fmt;
use std::future::{self, Future};
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;

use super::Line;
use super::conversation::{Entry, Place};
use super::file::File;
use super::lanes::{Claims, Rooms};
use super::outbox::{Id, State, Status};
use super::record::{
    Answers, Attempt, Bounded, Claimed, ClaimedFile, End, Enqueued, EventFilter, FallbackRow, Fell, Fetched, FileHold,
    Hold, InboxEvent, Incoming, Leases, New, PutOff, Recovered, Reserved, Ruling, Settle, Unbounded, Wait,
};
use super::watch::Stats;
use crate::model::clock::Timestamp;
use crate::model::digest::Digest;
use crate::model::error::Result;
use crate::model::poll::Cursor;
use crate::policy::Reason;

/// What a switchboard needs of a database. Every method is one transaction, durable when it returns.
#[async_trait]
pub(super) trait Engine: fmt::Debug + Send + Sync {
    /// The right to work on the store, for as long as it is held: of one worker at a time, or of several where claims
    /// keep them apart.
    async fn lock(&self) -> Result<Box<dyn Send>>;

    /// Takes a message. The same key of the same line gives the message that is there.
    async fn enqueue(&self, new: New) -> Result<Enqueued>;

    /// Takes a message and acknowledges an event: both, or neither where another message has the key.
    async fn enqueue_and_ack(&self, new: New, event: i64) -> Result<Enqueued>;

    /// Claims messages that are due and the next of their conversations: as many of each lane and class as there is room for,
    /// and one of each lane whose line no program serves.
    async fn claim(&self, now: Timestamp, lease: Duration, rooms: Rooms) -> Result<Claims>;

    /// Notes that an account sends nothing before a time: its gateway said so.
    async fn pause(&self, account: String, until: Timestamp) -> Result<()>;

    /// The accounts that send nothing before a time.
    async fn pauses(&self, now: Timestamp) -> Result<Vec<(String, Timestamp)>>;

    /// Returns `true` if several workers send by one account, and so share its rate: see [`reserve`](Self::reserve).
    fn shares_rates(&self) -> bool {
        false
    }

    /// Reserves tokens of an account that has one each so long.
    async fn reserve(&self, _account: String, _interval: Duration, count: u32, now: Timestamp) -> Result<Reserved> {
        Ok(Reserved { from: now, count })
    }

    /// Notes that a message is nothing to this program, and why, and returns since when.
    async fn strange_since(&self, id: Id, why: Reason, now: Timestamp) -> Result<Timestamp>;

    /// Gives a claimed message back as it was.
    async fn unclaim(&self, hold: Hold) -> Result<()>;

    /// Gives a claimed message back, to be claimed at another time. Returns `false` if the claim was another's by then.
    async fn put_off(&self, hold: Hold, off: PutOff) -> Result<bool>;

    /// Notes what the policy said of a claimed message when it was not yes, and puts it off or ends it. False: the claim
    /// was another's by then.
    async fn ruled(&self, hold: Hold, ruling: Ruling) -> Result<bool>;

    /// Ends messages that wait and whose `not_after` has passed, and returns them with their lines and states.
    async fn expire(&self, now: Timestamp, most: u32) -> Result<Vec<(Id, String, State)>>;

    /// The messages whose fallbacks are to be looked at now.
    async fn falling(&self, now: Timestamp) -> Result<Vec<FallbackRow>>;

    /// Lets what goes instead of messages go, where it is time to and the answers say so.
    async fn fall_back(&self, now: Timestamp, answers: Answers) -> Result<Fell>;

    /// Messages by their numbers, as they are handed to a worker, though nobody claims them.
    async fn read(&self, ids: Vec<i64>) -> Result<Vec<Claimed>>;

    /// Notes that a send begins: before the first byte leaves. False: the claim was another's by then, or might have been.
    async fn begin(&self, hold: Hold, attempt: Attempt) -> Result<bool>;

    /// Notes how it ended, and settles what came in before. False: the claim was another's by then.
    async fn finish(&self, hold: Hold, end: End) -> Result<bool>;

    /// Takes back what nobody holds any more, or all, where one worker at a time has the right to work and so nobody else
    /// can hold any: what was being sent is unknown, what was claimed is queued.
    async fn recover(&self, now: Timestamp, all: bool) -> Result<Recovered>;

    /// Takes what was due when a backup was made, or since, for what it is: it may have gone. How many there are.
    async fn hold_after_restore(&self, at: Timestamp, now: Timestamp) -> Result<u64>;

    /// Messages that may have gone, and that it is time to ask about: they are not given out again for this long.
    async fn doubtful(&self, now: Timestamp, wait: Duration, most: u32) -> Result<Vec<Claimed>>;

    /// Lets nothing go instead of a message that may have gone, or failed too often, any more. Another one is left as it is.
    async fn hold_fallback(&self, id: Id) -> Result<()>;

    /// The messages of a line that stand there, the oldest first, after one.
    async fn messages(&self, line: &str, state: State, after: Option<Id>, most: u32) -> Result<Vec<Status>>;

    /// Puts a message into another state, and gives its line. None: it did not stand where it is settled from.
    async fn settle(&self, id: Id, settled: Settle) -> Result<Option<String>>;

    /// The same for a message that a person has sent again: with tries of its own.
    async fn resend(&self, id: Id, settled: Settle) -> Result<Option<String>>;

    /// Takes events in, and where to go on polling; those that are there already are left out. How many were new.
    async fn take_in(&self, events: Vec<Incoming>, cursor: Option<(String, Cursor)>, now: Timestamp) -> Result<usize>;

    /// Where to go on polling.
    async fn cursor(&self, channel: &str) -> Result<Option<Cursor>>;

    /// The oldest events that nobody holds and nobody acknowledged, so many at most.
    async fn next_batch(&self, of: &EventFilter, now: Timestamp, lease: Duration, most: u32)
    -> Result<Vec<InboxEvent>>;

    /// The oldest of these of a line, or of all.
    #[cfg(test)]
    async fn next(&self, line: Option<&str>, now: Timestamp, lease: Duration) -> Result<Option<InboxEvent>> {
        let of = line.map_or(EventFilter::All { own: Vec::new() }, |line| EventFilter::Line(line.to_owned()));
        Ok(self.next_batch(&of, now, lease, 1).await?.pop())
    }

    /// Acknowledges an event.
    async fn ack(&self, event: i64, now: Timestamp) -> Result<()>;

    /// Puts an event off that was delivered and failed, or parks it if it failed too often; one that is parked is delivered
    /// again. Returns `true` if it is parked now.
    async fn nack(&self, event: i64, until: Timestamp, now: Timestamp) -> Result<bool>;

    /// The parked events, the oldest first, after one.
    async fn parked_events(&self, of: &EventFilter, after: i64, now: Timestamp, most: u32) -> Result<Vec<InboxEvent>>;

    /// What became of a message.
    async fn status(&self, id: Id) -> Result<Option<Status>>;

    /// What was said on a line with a person, wherever they were reached: the newest first, and before a place.
    async fn conversation(&self, line: &str, with: &str, before: Option<Place>, most: u32) -> Result<Vec<Entry>>;

    /// The message of this key.
    async fn by_key(&self, line: &str, key: &str) -> Result<Option<Id>>;

    /// What stands where, and what waits for how long.
    async fn stats(&self, now: Timestamp) -> Result<Stats>;

    /// Whether a line was noted some time, or has a message.
    async fn has_line(&self, line: &str) -> Result<bool>;

    /// Notes who answers for what, and that a worker of these lines is at work.
    async fn note(&self, lines: Vec<Line>, now: Timestamp) -> Result<()>;

    /// Notes that a worker of these lines is at work still.
    async fn attend(&self, lines: Vec<String>, now: Timestamp) -> Result<()>;

    /// Notes the time that a worker sees, `latest` being the latest one that it has seen. Returns by how much the clock has
    /// gone back, if it has: then the waits are to be bounded, and the time to be noted anew.
    async fn clock_went_back(&self, now: Timestamp, latest: Timestamp) -> Result<Option<Duration>>;

    /// Bounds waits and leases by their own length from now on, a part at a time, and returns the next part.
    async fn bound(&self, part: Unbounded, now: Timestamp, leases: Leases) -> Result<(Option<Unbounded>, Bounded)>;

    /// Notes the time that a worker sees, once the waits are bounded.
    async fn note_time(&self, now: Timestamp) -> Result<()>;

    /// How long a message has been due, and its line without a worker. None: it does not wait for one.
    async fn wait(&self, id: Id, now: Timestamp) -> Result<Option<Wait>>;

    /// Claims files that are to be fetched.
    async fn claim_files(&self, now: Timestamp, lease: Duration, most: u32) -> Result<Vec<ClaimedFile>>;

    /// Notes what became of a fetch, and lets the event go once there is nothing to wait for. False: the claim was
    /// another's by then, or the file is being removed at this moment and has to be fetched again.
    async fn fetched(&self, hold: FileHold, fetched: Fetched, now: Timestamp) -> Result<bool>;

    /// The files of an event, in their order.
    async fn files(&self, event: i64) -> Result<Vec<File>>;

    /// Takes the content from what is older than its line keeps it, of each kind so many at most, and forgets the
    /// deliveries that were of no message of ours. How much there was.
    async fn purge(&self, now: Timestamp, most: u32) -> Result<u64>;

    /// Files that nothing refers to any more, and that are to be removed within this time: then they are listed again.
    async fn unwanted(&self, now: Timestamp, lease: Duration, most: u32) -> Result<Vec<Digest>>;

    /// Checks the tables, and counts the messages that are not what was taken.
    async fn check(&self) -> Result<u64>;

    /// Notes that a file was removed.
    async fn removed(&self, file: Digest) -> Result<()>;

    /// Waits until another process may have put something there, from this call on: for ever where none is heard. It
    /// may not come, and who waits looks by itself some time.
    fn rung(&self, _bell: Bell) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(future::pending())
    }
}

/// What is rung for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bell {
    ToSend,
    ToRead,
}
