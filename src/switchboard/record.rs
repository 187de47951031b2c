//! The records that a store keeps and hands out, and what is read from them alone.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fallback::{Answer, Fallback, Falls, First, ON_FAILURE};
use super::outbox::{self, Id, PRIORITY_LAST, SendAttempt, Settled, State, Status};
use crate::channel::Channel;
use crate::media::StoredMedia;
use crate::model::address::{Address, Phone};
use crate::model::clock::Timestamp;
use crate::model::delivery::DeliveryState;
use crate::model::digest::Digest;
use crate::model::error::ErrorKind;
use crate::model::event::{Delivery, Event, OptOutScope};
use crate::model::id::MessageId;
use crate::model::message::{Message, Money};
use crate::policy::{self, Decision};

/// A message to be taken.
#[derive(Debug)]
pub(super) struct New {
    pub(super) line: String,
    pub(super) key: String,
    pub(super) message: Message,
    pub(super) priority: u8,
    pub(super) due: Timestamp,
    /// Why the policy put it off, where it did.
    pub(super) deferred: Option<policy::Reason>,
    pub(super) fallback: Option<Fallback>,
    pub(super) now: Timestamp,
}

impl New {
    /// When its fallback goes, if nothing happens before.
    pub(super) fn fallback_due(&self) -> Option<Timestamp> {
        self.fallback.as_ref().map(|fallback| fallback.due(self.due))
    }

    /// How long it waits, unless the caller or the policy named its time.
    pub(super) fn wait(&self) -> Option<Duration> {
        (self.due <= self.now).then_some(Duration::ZERO)
    }

    /// The state that it is taken in.
    pub(super) fn state(&self) -> State {
        if self.due > self.now { State::Deferred } else { State::Queued }
    }

    /// Returns `true` if what is there under its key is the same message: to the letter, or when it is read, since another program
    /// may have written it.
    pub(super) fn is(&self, written: &Written, there: &Written) -> bool {
        let reads = |fallback: &str| serde_json::from_str::<Fallback>(fallback).ok();
        written.digest == there.digest
            || serde_json::from_str::<Message>(&there.body).is_ok_and(|there| there == self.message)
                && there.fallback.as_deref().and_then(reads) == self.fallback
    }
}

/// A message as it is stored.
pub(super) struct Written {
    pub(super) body: String,
    pub(super) fallback: Option<String>,
    /// By which the same message is known: what it says, and what goes instead of it.
    pub(super) digest: String,
    /// The files that it sends, by their digests: none where it is read back.
    pub(super) files: BTreeSet<String>,
}

impl Written {
    pub(super) fn of(new: &New) -> serde_json::Result<Self> {
        let body = serde_json::to_string(&new.message)?;
        let fallback = new.fallback.as_ref().map(serde_json::to_string).transpose()?;
        let (digest, files) = (digest_of(&body, fallback.as_deref()), files_of(&body, fallback.as_deref()));
        Ok(Self { body, fallback, digest, files })
    }
}

pub(super) fn digest_of(body: &str, fallback: Option<&str>) -> String {
    match fallback {
        None => Digest::sha256(body.as_bytes()),
        Some(fallback) => Digest::sha256(format!("{body}\n{fallback}").as_bytes()),
    }
    .to_string()
}

/// What came of taking it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Enqueued {
    /// It is new.
    New(Id),
    /// It was there.
    Same(Id),
    /// Another message has its key.
    Other,
}

/// The right to write to a message: the claim that it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hold {
    pub(super) id: Id,
    pub(super) fence: i64,
}

/// A claimed message.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) hold: Hold,
    pub(super) line: String,
    /// The lane that it waits in, and its class there.
    pub(super) lane: String,
    pub(super) class: u8,
    /// None where this program cannot read it: one of a newer version may.
    pub(super) message: Option<Message>,
    /// Where the person is reached now, where that is elsewhere.
    pub(super) moved_to: Option<Address>,
    /// What the store holds of it is not what was written down.
    pub(super) damaged: bool,
    /// The person said STOP after it was taken.
    pub(super) opted_out: bool,
    pub(super) queued: Timestamp,
    /// The attempts so far, oldest first: gateway and account.
    pub(super) attempts: Vec<Attempt>,
    /// How often it was asked about.
    pub(super) lookups: u32,
    /// When the backup was made that it comes from, if it does.
    pub(super) restored: Option<Timestamp>,
    /// The gateway's id, if it gave one.
    pub(super) gateway_id: Option<MessageId>,
}

/// One attempt: by whom, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) gateway: String,
    pub(super) account: String,
    pub(super) at: Timestamp,
    /// What the gateway got in place of the key, where it takes none so long.
    pub(super) reference: Option<String>,
    /// It may have gone.
    pub(super) doubted: bool,
    /// It failed for now, and may go another time.
    pub(super) passing: bool,
    /// Nobody wrote down how it ended: the process ended first.
    pub(super) died: bool,
    /// It failed by a fault of the account, and does not count as a try.
    pub(super) suspended: bool,
    /// It may have gone, for a reason with which no other gateway is asked.
    pub(super) bound: bool,
    /// A person had the message sent again since, so that it does not count as a try.
    pub(super) earlier: bool,
}

impl Attempt {
    /// One that begins.
    pub(super) fn new(gateway: &str, account: &str, at: Timestamp) -> Self {
        let (gateway, account) = (gateway.to_owned(), account.to_owned());
        let (doubted, passing, died, suspended, bound, earlier) = (false, false, false, false, false, false);
        Self { gateway, account, at, reference: None, doubted, passing, died, suspended, bound, earlier }
    }

    /// Notes the reference that the gateway gets in place of the key.
    pub(super) fn with_reference(self, reference: Option<String>) -> Self {
        Self { reference, ..self }
    }

    /// Returns `true` if it was handed to this channel.
    pub(super) fn is_by(&self, channel: &Arc<dyn Channel>) -> bool {
        let info = channel.info();
        info.gateway == self.gateway && info.account.as_str() == self.account
    }
}

impl Claimed {
    /// The attempts since a person had it sent again, or all.
    pub(super) fn tries(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(|attempt| !attempt.earlier)
    }

    /// How often the process ended while it was being sent.
    pub(super) fn deaths(&self) -> usize {
        self.attempts.iter().filter(|attempt| attempt.died).count()
    }
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) state: State,
    /// When it is due again, where it is.
    pub(super) due: Option<Timestamp>,
    /// The gateway's ids, where it took the message.
    pub(super) ids: Vec<MessageId>,
    /// The recipient as the gateway names it.
    pub(super) recipient: Option<Address>,
    pub(super) delivery: Option<DeliveryState>,
    /// What is recorded of the attempt: outcome, kind and code.
    pub(super) outcome: &'static str,
    pub(super) kind: &'static str,
    pub(super) code: Option<String>,
    /// It failed for now, and may go another time.
    pub(super) passing: bool,
    /// It may have gone, for a reason with which no other gateway is asked.
    pub(super) bound: bool,
    /// How many parts the gateway counts, and what it says they cost.
    pub(super) segments: Option<u32>,
    pub(super) price: Option<Money>,
    /// Why, for a person.
    pub(super) reason: Option<String>,
    pub(super) now: Timestamp,
}

/// How a doubt is settled.
#[derive(Debug)]
pub(super) struct Settle {
    pub(super) state: State,
    pub(super) due: Option<Timestamp>,
    pub(super) reason: Option<String>,
    /// Only what is in one of these states is changed.
    pub(super) from: &'static [State],
    pub(super) now: Timestamp,
}

impl Settle {
    /// How long the message waits until it is due.
    pub(super) fn wait(&self) -> Option<Duration> {
        self.due.map(|due| due.since(self.now))
    }

    /// When the message is settled, if this settles it.
    pub(super) fn settled(&self) -> Option<Timestamp> {
        self.state.is_settled().then_some(self.now)
    }

    /// Which fallbacks are looked at now, the message being on this rung: those that are due after this moment. All,
    /// where it certainly does not arrive; those that wait for a failure, where nothing more is done about it.
    pub(super) fn looked_at(&self, delivery: Option<&str>) -> Option<Timestamp> {
        if self.state.is_no() || delivery.and_then(rung_of).is_some_and(DeliveryState::is_failure) {
            return Some(self.now);
        }
        (self.state == State::Parked).then(|| ON_FAILURE.minus(Duration::from_millis(1)))
    }
}

/// When a claimed message is to be claimed again, and why.
#[derive(Clone, Copy, Debug)]
pub(super) struct PutOff {
    pub(super) until: Timestamp,
    pub(super) why: &'static str,
    /// It leaves the order of its conversation until then, and holds nobody up.
    pub(super) planned: bool,
}

/// What the policy said of a message, and what becomes of it.
#[derive(Debug)]
pub(super) struct Ruling {
    /// In one word.
    pub(super) decision: &'static str,
    pub(super) reason: policy::Reason,
    pub(super) settle: Settle,
}

/// What was taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Recovered {
    /// Was claimed, and is queued again.
    pub(super) queued: u64,
    /// Was being sent, and may have gone.
    pub(super) unknown: u64,
}

/// A message that waits for a worker, by the clock of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) due: Timestamp,
    /// When a worker of its line was last at work.
    pub(super) attended: Option<Timestamp>,
    pub(super) now: Timestamp,
}

/// How far a clock may go back until the waits that it began are bounded: they last longer by so much at most.
pub(super) const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// How often the latest time is noted.
pub(super) const CLOCK_NOTED: Duration = Duration::from_secs(20);

/// How far from now a time is that nobody may have meant.
pub(super) const IMPLAUSIBLE: Duration = Duration::from_secs(365 * 24 * 3600);

/// How many rows are bounded in one transaction.
pub(super) const BOUNDED_MAX: u32 = 1000;

/// The longest lease of each kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leases {
    pub(super) message: Duration,
    pub(super) event: Duration,
    pub(super) file: Duration,
    pub(super) removal: Duration,
}

/// What is bounded next, after the clock was set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unbounded {
    /// Messages, after this one.
    Messages(i64),
    /// Events, after this one.
    Events(i64),
    /// Files, and when workers were seen.
    Rest,
}

/// What was bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bounded {
    pub(super) messages: u64,
    pub(super) events: u64,
    pub(super) files: u64,
    /// Messages that wait for an implausible time, which a caller or a policy named.
    pub(super) implausible: u64,
}

impl Bounded {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            messages: self.messages + other.messages,
            events: self.events + other.events,
            files: self.files + other.files,
            implausible: self.implausible + other.implausible,
        }
    }
}

/// What a message waits for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct MessageWait {
    pub(super) id: i64,
    pub(super) state: State,
    pub(super) planned: bool,
    pub(super) due: Option<Timestamp>,
    pub(super) wait: Option<Duration>,
    pub(super) lease: Option<Timestamp>,
    pub(super) fallback_due: Option<Timestamp>,
    /// None where this program cannot read it, or it has none.
    pub(super) fallback: Option<Fallback>,
}

impl MessageWait {
    /// The same with waits that are no longer from now on than they were said to be.
    pub(super) fn bounded(&self, now: Timestamp, lease: Duration) -> Self {
        let within = |at: Option<Timestamp>, max: Duration| at.map(|at| at.min(now.plus(max)));
        let due = self.wait.map_or(self.due, |wait| within(self.due, wait));
        let waits = matches!(self.state, State::Queued | State::Deferred);
        // What was named has not come yet: it holds nobody up until then.
        let planned = self.planned || waits && due.is_some_and(|due| due > now) && self.wait.is_none();
        let again = self.fallback.as_ref().map_or(now.plus(UNREADABLE_WAIT), |fallback| fallback.bound(now));
        let falls_later = planned && self.wait.is_none();
        let fallback_due = self.fallback_due.map(|at| if at == ON_FAILURE || falls_later { at } else { at.min(again) });
        Self { planned, due, lease: within(self.lease, lease), fallback_due, ..self.clone() }
    }

    /// Returns `true` if it waits for a time that nobody may have meant.
    pub(super) fn is_implausible(&self, now: Timestamp) -> bool {
        matches!(self.state, State::Queued | State::Deferred) && self.due.is_some_and(|due| due > now.plus(IMPLAUSIBLE))
    }
}

/// Until when an event is held, or waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct EventWait {
    pub(super) id: i64,
    pub(super) lease: Option<Timestamp>,
    pub(super) wait: Option<Duration>,
}

/// An event that came, and the line that it is of.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) line: Option<String>,
    pub(super) event: Event,
    /// Its files are fetched, and it is held back for them.
    pub(super) fetch: bool,
}

/// An event that is written down.
pub(super) struct EventRow<'a> {
    pub(super) line: Option<&'a str>,
    /// None for one of our own, which comes once.
    pub(super) dedupe: Option<&'a str>,
    pub(super) kind: &'static str,
    pub(super) person: Option<&'a str>,
    pub(super) body: &'a str,
    /// How many of its files are fetched: it is held back for them.
    pub(super) files: usize,
    pub(super) taken_in: Timestamp,
}

/// A message that is about to change.
pub(super) struct MessageRow {
    pub(super) line: String,
    pub(super) recipient: String,
    pub(super) priority: u8,
    pub(super) state: State,
    pub(super) delivery: Option<String>,
    /// The number of its last attempt.
    pub(super) attempts: i32,
}

/// Where an address leads to, and since when.
pub(super) struct LinkRow {
    pub(super) current: String,
    /// The address as it is kept.
    pub(super) address: String,
    pub(super) at: Timestamp,
}

/// What a delivery says of the message that it is of.
pub(super) struct DeliveryRow<'a> {
    pub(super) gateway: &'a str,
    pub(super) account: &'a str,
    pub(super) id: Option<&'a str>,
    pub(super) key: Option<&'a str>,
}

/// How far a person has received and read what an account sent them: what began by then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) delivered_up_to: Option<Timestamp>,
    pub(super) read_up_to: Option<Timestamp>,
}

impl Mark {
    /// The mark of a delivery that is of all up to a moment: none where it says less than that these were delivered.
    pub(super) fn of(state: DeliveryState, until: Timestamp) -> Option<Self> {
        match state {
            state if state >= DeliveryState::Read => Some(Self { delivered_up_to: None, read_up_to: Some(until) }),
            DeliveryState::Delivered => Some(Self { delivered_up_to: Some(until), read_up_to: None }),
            _ => None,
        }
    }
}

/// What becomes of a file.
pub(super) struct FileRow<'a> {
    pub(super) state: &'static str,
    pub(super) due: Option<Timestamp>,
    pub(super) stored: Option<&'a StoredMedia>,
    pub(super) reason: Option<&'a str>,
}

impl Incoming {
    /// How many files of it are fetched.
    pub(super) fn files(&self) -> usize {
        self.event.as_inbound().filter(|_| self.fetch).map_or(0, |inbound| inbound.media().len())
    }
}

/// The right to write to a file: the claim that it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHold {
    pub(super) event: i64,
    pub(super) n: i32,
    /// How often it was claimed, this time included.
    pub(super) tries: i32,
}

/// A file that is to be fetched.
#[derive(Debug)]
pub(super) struct ClaimedFile {
    pub(super) hold: FileHold,
    pub(super) line: Option<String>,
    /// The event that it is of: none where this program cannot read it.
    pub(super) event: Option<Event>,
    pub(super) taken_in: Timestamp,
}

/// What became of a fetch.
#[derive(Clone, Debug)]
pub(super) enum Fetched {
    /// To be fetched again at this time.
    Again(Timestamp),
    /// It cannot be fetched, and why.
    Failed(String),
    Held(StoredMedia),
}

/// How long an event is held back for its files.
pub(super) const HELD_BACK: Duration = Duration::from_secs(60);

/// How soon a file is fetched again that was being removed.
pub(super) const AFTER_REMOVAL: Duration = Duration::from_secs(5);

/// How long deliveries are kept that are of no message of ours, or not yet.
pub(super) const EARLY_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// The status of a message as a row has it, beside what is the same in every store.
pub(super) struct Kept {
    pub(super) id: i64,
    pub(super) line: String,
    pub(super) key: String,
    /// Its tag, once its content was removed.
    pub(super) tag: Option<String>,
    pub(super) state: State,
    pub(super) due: Option<Timestamp>,
    pub(super) attempts: u32,
    pub(super) delivery: Option<String>,
    /// The state that the mark of its conversation gives it.
    pub(super) mark: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) gateway_id: Option<String>,
    pub(super) instead_of: Option<i64>,
    pub(super) fallback: Option<i64>,
    /// The last refusal of our own: the decision and its rule.
    pub(super) refusal: Option<(String, String)>,
}

impl Kept {
    /// The status of a message that says this, where it can be read, and was sent like this.
    pub(super) fn status(self, message: Option<&Message>, history: Vec<SendAttempt>) -> Status {
        let last = history.last();
        let gateway = last.map(|last| last.gateway.clone());
        let (kind, code) = match self.refusal.filter(|_| self.state == State::Refused) {
            Some((decision, rule)) if decision == "opt_out" => (Some(ErrorKind::OptedOut), Some(rule)),
            Some((_, rule)) => (Some(ErrorKind::Refused), Some(rule)),
            None => (last.and_then(|last| last.kind), last.and_then(|last| last.code.clone())),
        };
        let (segments, price) = outbox::charged(&history);
        Status {
            id: Id(self.id),
            line: self.line,
            key: self.key,
            tag: message.map_or(self.tag, |message| message.tag.clone()),
            recipient: message.map(|message| message.to.clone()),
            state: self.state,
            due: self.due,
            attempts: self.attempts,
            history,
            gateway,
            gateway_id: self.gateway_id.map(MessageId::from),
            delivery: reached(self.delivery.as_deref(), self.mark.as_deref()),
            reason: self.reason,
            kind,
            code,
            segments,
            price,
            fallback: self.fallback.map(Id),
            instead_of: self.instead_of.map(Id),
        }
    }
}

/// Reads a value as its name is kept: none where this program does not know it.
pub(super) fn named<'a, T: Deserialize<'a>>(name: &'a str) -> Option<T> {
    if name.is_empty() {
        return None;
    }
    let name: serde::de::value::BorrowedStrDeserializer<'a, serde::de::value::Error> =
        serde::de::value::BorrowedStrDeserializer::new(name);
    T::deserialize(name).ok()
}

/// Reads a price as it is kept.
pub(super) fn price_of(micros: Option<i64>, currency: Option<&str>) -> Option<Money> {
    Some(Money { micros: micros?, currency: named(currency?)? })
}

/// An event that is delivered.
#[derive(Debug)]
pub(super) struct InboxEvent {
    pub(super) id: i64,
    pub(super) line: Option<String>,
    pub(super) what: What,
    /// How often it was delivered, this time included.
    pub(super) attempts: u32,
    pub(super) taken_in: Timestamp,
}

/// The events that are read.
#[derive(Clone, Debug)]
pub(super) enum EventFilter {
    Line(String),
    /// Those of every line that is one's own, or that no other program works on, and those of no line.
    All {
        own: Vec<String>,
    },
}

impl EventFilter {
    /// The lines whose events are left to another program, of those on which a worker was seen lately.
    pub(super) fn foreign(&self, attended: Vec<String>) -> Vec<String> {
        match self {
            Self::Line(_) => Vec::new(),
            Self::All { own } => attended.into_iter().filter(|line| !own.contains(line)).collect(),
        }
    }
}

/// How long the events of a line are left to the programs that worked on it, after the last of their workers was seen: longer
/// than any outage that nobody notices.
pub(super) const ABANDONED: Duration = Duration::from_secs(7 * 24 * 3600);

/// How often an event is delivered, until it is parked.
pub(super) const EVENT_ATTEMPTS: u32 = 10;

impl InboxEvent {
    /// Begins another attempt. One that this program cannot read is no attempt.
    pub(super) fn begin(&mut self) {
        self.attempts += u32::from(!matches!(self.what, What::Unreadable));
    }
}

/// What is delivered.
#[derive(Debug)]
pub(super) enum What {
    Event(Box<Event>),
    Settled(Box<Settled>),
    /// This program cannot read it: one of a newer version may.
    Unreadable,
}

impl What {
    pub(super) fn read(kind: &str, body: &str) -> Self {
        let read = match kind {
            "settled" => serde_json::from_str(body).map(|settled| Self::Settled(Box::new(settled))),
            _ => serde_json::from_str(body).map(|event| Self::Event(Box::new(event))),
        };
        read.unwrap_or(Self::Unreadable)
    }
}

/// The tokens of an account that a worker may use: one at this time, and the others each an interval later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reserved {
    /// When the first one is there; where there is none, when to ask again.
    pub(super) from: Timestamp,
    pub(super) count: u32,
}

/// How far ahead tokens are reserved at most: a worker that stops uses none of its own.
#[cfg(feature = "postgres")]
pub(super) const RESERVED_AHEAD: Duration = Duration::from_millis(200);

/// How a message is noted that the policy could not decide about.
pub(super) const NOT_DECIDED: &str = "not_decided";

/// How a message is noted that is nothing to a program.
pub(super) const STRANGE: &str = "put_off";

/// How long a line is taken to be served after a worker of it was last at work.
#[cfg(feature = "postgres")]
pub(super) const SERVED: Duration = Duration::from_secs(3600);

/// Why a message stands in doubt that comes from a backup.
pub(super) const RESTORED: &str = "the store was restored from a backup: it may have gone since";

/// Why a message that may have gone is settled by a delivery.
pub(super) const TOLD: &str = "the gateway told of it";

/// Why a message is called back whose fallback goes.
pub(super) const FELL_BACK: &str = "its time was up: what goes instead of it goes";

/// Why a message ends whose person said STOP.
pub(super) const OPTED_OUT: &str = "the person said STOP after it was taken";

/// Why what goes instead of a message waits for a person.
pub(super) const FALLBACK_RESTORED: &str =
    "the store was restored from a backup: it may have gone instead of its message since";

/// How long a fallback is left alone that this program cannot read.
pub(super) const UNREADABLE_WAIT: Duration = Duration::from_secs(60);

/// How many fallbacks are looked at in one transaction.
pub(super) const FALLBACKS_MAX: u32 = 100;

/// Why a fallback never goes where nobody can tell whether its message was delivered.
pub(super) const UNCLEAR: &str = "the gateway was asked, and could not tell whether it was delivered";

/// What the policy and the gateways say for fallbacks, by the numbers of their messages.
pub(super) type Answers = HashMap<i64, Answer>;

/// A message that has a fallback.
pub(super) struct FallbackRow {
    pub(super) id: i64,
    pub(super) line: String,
    pub(super) key: String,
    pub(super) lookups: u32,
    /// None where this program cannot read it: one of a newer version may.
    pub(super) fallback: Option<Fallback>,
    pub(super) first: First,
}

/// What is put down of a fallback that was looked at.
pub(super) struct Looked {
    pub(super) falls: Falls,
    /// When it is looked at again.
    pub(super) again: Option<Timestamp>,
    /// What was said of it when it was not yes.
    pub(super) said: Option<(&'static str, policy::Reason)>,
}

impl FallbackRow {
    /// What the policy is to be asked of before its message is called back: the message, the line, and what would go.
    pub(super) fn asks_policy(&self) -> Option<(i64, &str, &Message)> {
        let fallback = self.fallback.as_ref().filter(|_| self.falls() == Falls::CallsBack)?;
        Some((self.id, &self.line, &fallback.message))
    }

    /// The message of which it is to be known whether it was delivered.
    pub(super) fn asks_gateway(&self) -> Option<i64> {
        (self.falls() == Falls::Asks).then_some(self.id)
    }

    pub(super) fn falls(&self) -> Falls {
        self.fallback.as_ref().map_or(Falls::Waits, |fallback| fallback.falls(&self.first))
    }

    /// What becomes of it by these answers.
    pub(super) fn looked_at(&self, answers: &Answers, now: Timestamp) -> Looked {
        let Some(fallback) = &self.fallback else {
            return Looked { falls: Falls::Waits, again: Some(now.plus(UNREADABLE_WAIT)), said: None };
        };
        let (asks, answer) = (self.falls(), answers.get(&self.id));
        let falls = fallback.after(asks, answer);
        let again = fallback.again(&self.first, now);
        let (falls, again, said) = match (asks, answer) {
            // It has come to this since they were asked.
            (Falls::CallsBack | Falls::Asks, None) => (falls, now, None),
            (Falls::CallsBack, Some(Answer::Policy(Decision::Defer { until, reason }))) => {
                (falls, again.max(*until), Some(("defer_fallback", reason.clone())))
            }
            (Falls::CallsBack, Some(Answer::Policy(Decision::Refuse(reason)))) => {
                (falls, now, Some(("refuse_fallback", reason.clone())))
            }
            (Falls::Asks, Some(Answer::Unclear)) if falls == Falls::Waits => match outbox::look_up_wait(self.lookups) {
                Some(wait) => (falls, now.plus(wait), None),
                None => (Falls::Never, now, Some(("no_fallback", policy::Reason::new("unclear-delivery", UNCLEAR)))),
            },
            _ => (falls, again, None),
        };
        Looked { falls, again: (falls == Falls::Waits).then_some(again), said }
    }

    /// What goes instead of the message: now, and under a key that is made of the message's own.
    pub(super) fn instead(self, now: Timestamp) -> Option<New> {
        if self.falls() == Falls::Never {
            return None;
        }
        let mut message = self.fallback?.message;
        let key = format!("fallback-{}", Digest::sha256(self.key.as_bytes()));
        message.key = Some(key.clone());
        let priority = outbox::priority(message.purpose);
        Some(New { line: self.line, key, message, priority, due: now, deferred: None, fallback: None, now })
    }
}

/// What became of fallbacks that were looked at.
#[derive(Debug, Default)]
pub(super) struct Fell {
    /// The messages that were called back, and their lines.
    pub(super) called_back: Vec<(Id, String)>,
    /// The messages whose fallbacks never go, since the policy refused them.
    pub(super) refused: Vec<Id>,
    /// What goes now.
    pub(super) went: Vec<(Id, New)>,
}

/// What a gateway reported of a message.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Receipt {
    pub(super) state: DeliveryState,
    /// It did not arrive, because the person said STOP.
    pub(super) opted_out: bool,
}

impl Receipt {
    pub(super) fn by(delivery: &Delivery) -> Self {
        let opted_out = delivery.failure.as_ref().is_some_and(|failure| failure.kind == ErrorKind::OptedOut);
        Self { state: delivery.state, opted_out }
    }
}

/// Reads a message as it is kept: none where this program cannot; and whether it is damaged, by the digest that was made
/// of it when it was taken.
pub(super) fn message_of(body: &str, fallback: Option<&str>, digest: &str) -> (Option<Message>, bool) {
    let damaged = digest_of(body, fallback) != digest;
    (serde_json::from_str(body).ok().filter(|_| !damaged), damaged)
}

/// The files that a message or its fallback sends, by their digests, as the two are kept.
fn files_of(body: &str, fallback: Option<&str>) -> BTreeSet<String> {
    // Wherever in a message a file is named.
    let named = |text: &str| {
        let named = text.split("\"sha256\":\"").skip(1).filter_map(|named| Some(named.split_once('"')?.0.to_owned()));
        named.filter(|sha256| sha256.parse::<Digest>().is_ok()).collect::<Vec<_>>()
    };
    named(body).into_iter().chain(fallback.map(named).unwrap_or_default()).collect()
}

/// Reads the tag of a message as it is kept.
pub(super) fn tag_of(body: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Tagged {
        tag: Option<String>,
    }
    serde_json::from_str::<Tagged>(body).ok()?.tag
}

/// Reads a rung of the ladder as it is kept.
pub(super) fn rung_of(text: &str) -> Option<DeliveryState> {
    serde_json::from_str(text).ok()
}

/// How far a message has got: by what was said of it, and of all in its conversation.
pub(super) fn reached(own: Option<&str>, mark: Option<&str>) -> Option<DeliveryState> {
    own.and_then(rung_of).max(mark.and_then(rung_of))
}

/// Whose deliveries these are, where they are of all that a person had.
pub(super) fn told_by(delivery: &Delivery) -> Option<&Address> {
    delivery.recipient.as_ref().or(delivery.envelope.conversation.as_ref())
}

/// The two addresses of one person that an event tells of: the one that leads to the other.
pub(super) fn link_of(event: &Event) -> Option<(&str, &Address)> {
    match event {
        Event::AddressChanged(changed) => Some((changed.previous.expose(), &changed.current)),
        Event::Inbound(inbound) => Some((number_of(inbound.reply_address())?, inbound.reply_address())),
        Event::Delivery(delivery) => {
            let recipient = delivery.recipient.as_ref()?;
            Some((number_of(recipient)?, recipient))
        }
        _ => None,
    }
}

/// The number of a person who is known by more than that.
pub(super) fn number_of(person: &Address) -> Option<&str> {
    match person {
        Address::WhatsApp(user) if user.user_id().is_some() => user.phone().map(Phone::as_str),
        _ => None,
    }
}

impl End {
    /// The names that lead to the recipient as the gateway calls it: what the message was addressed to, and the number
    /// of a person who hides it. On WhatsApp alone: elsewhere a gateway repeats what it was told.
    pub(super) fn names<'e>(&'e self, addressed: &'e str) -> impl Iterator<Item = (&'e str, &'e Address)> {
        let recipient = self.recipient.as_ref().filter(|recipient| matches!(recipient, Address::WhatsApp(_)));
        let names = recipient.into_iter().flat_map(move |recipient| {
            [Some(addressed), number_of(recipient)].into_iter().flatten().map(move |name| (name, recipient))
        });
        names.filter(|(name, recipient)| *name != recipient.expose())
    }
}

/// Who said STOP, by each of their names, and from which priority on their messages end.
pub(super) fn opt_out_of(event: &Event) -> Option<(Vec<String>, u8)> {
    let Event::OptOut(wish) = event else { return None };
    let names = [Some(wish.from.expose()), wish.from.as_phone().map(Phone::as_str)];
    let from = match wish.scope {
        OptOutScope::All => 0,
        OptOutScope::Marketing => PRIORITY_LAST,
    };
    (!wish.resume).then(|| (names.into_iter().flatten().map(str::to_owned).collect(), from))
}

/// From which priority on other fallbacks of a person end who said STOP to a message of this one.
pub(super) fn opt_out_from(priority: u8) -> u8 {
    if priority == PRIORITY_LAST { PRIORITY_LAST } else { 0 }
}

/// The end of a message whose person said STOP: by our own will, unless one of its tries may have gone.
pub(super) fn opted_out(doubted: bool, now: Timestamp) -> Settle {
    let state = if doubted { State::Parked } else { State::Refused };
    let from = &[State::Queued, State::Deferred, State::Claimed];
    Settle { state, due: None, reason: Some(OPTED_OUT.to_owned()), from, now }
}

/// Whose message it is: the person or the conversation that an answer would go to.
pub(super) fn person_of(event: &Event) -> Option<&str> {
    event.as_inbound().map(|inbound| inbound.reply_address().expose())
}
