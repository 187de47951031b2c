//! The records that a store reads and writes, and what follows from them alone.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::charge::Charge;
use super::fallback::{Answer, Fallback, FallbackDecision, First, ON_FAILURE};
use super::limits::Limits;
use super::status::{self, Id, PRIORITY_LAST, SendAttempt, Settled, State, Status};
use crate::channel::Channel;
use crate::media::StoredMedia;
use crate::model::address::{Address, Phone};
use crate::model::clock::Timestamp;
use crate::model::delivery::DeliveryState;
use crate::model::digest::Digest;
use crate::model::error::ErrorKind;
use crate::model::event::{Delivery, Event, Inbound};
use crate::model::id::MessageId;
use crate::model::info::Info;
use crate::model::message::{Credits, Message, Money, OnUnknown, Price};
use crate::policy::{self, Decision};

/// A message to enqueue.
#[derive(Debug)]
pub(super) struct New {
    pub(super) line: String,
    pub(super) key: String,
    pub(super) message: Message,
    pub(super) priority: u8,
    /// The account that alone can carry it, of several.
    pub(super) account: Option<String>,
    pub(super) due: Timestamp,
    /// The policy's reason, if it deferred the message.
    pub(super) deferred: Option<policy::Reason>,
    pub(super) fallback: Option<Fallback>,
    pub(super) now: Timestamp,
}

impl New {
    /// Returns when the fallback is due, unless something happens before.
    pub(super) fn fallback_due(&self) -> Option<Timestamp> {
        self.fallback.as_ref().map(|fallback| fallback.due(self.due))
    }

    /// Returns how long the message waits, unless the caller or the policy set its time.
    pub(super) fn wait(&self) -> Option<Duration> {
        (self.due <= self.now).then_some(Duration::ZERO)
    }

    /// Returns its initial state.
    pub(super) fn state(&self) -> State {
        if self.due > self.now { State::Deferred } else { State::Queued }
    }

    /// Returns `true` if the message stored under its key is the same: byte for byte, or once parsed, because another
    /// program may have written it.
    pub(super) fn is_same(&self, written: &Written, there: &Written) -> bool {
        let reads = |fallback: &str| serde_json::from_str::<Fallback>(fallback).ok();
        written.digest == there.digest
            || serde_json::from_str::<Message>(&there.body).is_ok_and(|there| there == self.message)
                && there.fallback.as_deref().and_then(reads) == self.fallback
    }
}

/// A message in its stored form.
pub(super) struct Written {
    pub(super) body: String,
    pub(super) fallback: Option<String>,
    /// The digest that identifies the same message: of its content and its fallback.
    pub(super) digest: String,
    /// The digests of the files that it sends: empty if it was read from the store.
    pub(super) files: BTreeSet<String>,
}

impl Written {
    pub(super) fn new(new: &New) -> serde_json::Result<Self> {
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

/// The result of enqueueing a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Enqueued {
    /// Stored now.
    New(Id),
    /// Stored before.
    Same(Id),
    /// A different message has its key.
    Other,
    /// Its recipient, or that of its fallback, opted out.
    Refused { reason: policy::Reason, is_fallback: bool },
}

/// The right to write to a message: a claim with its fencing token.
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
    /// Its lane, and its class there.
    pub(super) lane: String,
    pub(super) class: u8,
    /// `None` if this program cannot read it: a newer version may.
    pub(super) message: Option<Message>,
    /// The person's current address, if it has changed.
    pub(super) moved_to: Option<Address>,
    /// The stored content does not match its digest.
    pub(super) damaged: bool,
    pub(super) queued: Timestamp,
    /// The attempts so far, oldest first.
    pub(super) attempts: Vec<Attempt>,
    /// The number of look-ups.
    pub(super) lookups: u32,
    /// The time of the backup that it comes from, if any.
    pub(super) restored: Option<Timestamp>,
    /// The gateway's id, if there is one.
    pub(super) gateway_id: Option<MessageId>,
}

/// One attempt: its gateway, account and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) gateway: String,
    pub(super) account: String,
    pub(super) at: Timestamp,
    /// The reference that the gateway received in place of a key that is too long for it.
    pub(super) reference: Option<String>,
    /// The outcome is unknown.
    pub(super) is_unknown: bool,
    /// The failure was transient.
    pub(super) passing: bool,
    /// The process ended before the outcome was recorded.
    pub(super) died: bool,
    /// It failed by a fault of the account, and does not count as a try.
    pub(super) suspended: bool,
    /// The message must not fail over to another account.
    pub(super) bound: bool,
    /// A person resent the message afterwards, so that it does not count as a try.
    pub(super) earlier: bool,
    /// The time until which the same account makes no second message of a resend, if its gateway has an idempotency
    /// window: none once it is certain that this attempt was not accepted.
    pub(super) repeatable_until: Option<Timestamp>,
    /// What it takes from budgets, if it begins now.
    pub(super) charges: Vec<Charge>,
    /// The limits on it, if it begins now.
    pub(super) limits: Limits,
}

impl Attempt {
    /// Returns an attempt that begins.
    pub(super) fn new(gateway: &str, account: &str, at: Timestamp) -> Self {
        let (gateway, account) = (gateway.to_owned(), account.to_owned());
        Self {
            gateway,
            account,
            at,
            reference: None,
            is_unknown: false,
            passing: false,
            died: false,
            suspended: false,
            bound: false,
            earlier: false,
            repeatable_until: None,
            charges: Vec::new(),
            limits: Limits::default(),
        }
    }

    /// Returns the next attempt of a message through a channel.
    pub(super) fn next(channel: &Arc<dyn Channel>, message: &Message, attempts: &[Self], at: Timestamp) -> Self {
        let info = channel.info();
        let before = attempts.iter().filter(|attempt| attempt.is_by(channel)).map(|attempt| attempt.at);
        let (first, last) = before.fold((at, at), |(first, last), at| (first.min(at), last.max(at)));
        // `OnUnknown::Resend` needs no window. Attempts that began while the clock was ahead have no known age.
        let window = info.resend_window(message).filter(|_| message.on_unknown != OnUnknown::Resend && last <= at);
        let repeatable_until = window.map(|window| first.plus(window)).filter(|until| at < *until);
        let reference = reference_of(info, message);
        Self { reference, repeatable_until, ..Self::new(info.gateway, info.account.as_str(), at) }
    }

    /// Returns `true` if it was made through this channel.
    pub(super) fn is_by(&self, channel: &Arc<dyn Channel>) -> bool {
        let info = channel.info();
        info.gateway == self.gateway && info.account.as_str() == self.account
    }

    /// Returns `true` if its account makes no second message of a resend now.
    pub(super) fn is_repeatable(&self, now: Timestamp) -> bool {
        // One that began while the clock was ahead has no known age.
        self.at <= now && self.repeatable_until.is_some_and(|until| now < until)
    }

    /// Returns the same attempt with its times by another clock.
    #[cfg(feature = "postgres")]
    pub(super) fn by_clock(self, time: impl Fn(Timestamp) -> Timestamp) -> Self {
        Self { at: time(self.at), repeatable_until: self.repeatable_until.map(time), ..self }
    }
}

/// Returns the reference that a gateway receives in place of a key that is too long for it.
pub(super) fn reference_of(info: &Info, message: &Message) -> Option<String> {
    match info.reference(message) {
        Some(Cow::Owned(digest)) => Some(digest),
        _ => None,
    }
}

impl Claimed {
    /// Returns the attempts since a person last resent the message, or all.
    pub(super) fn tries(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(|attempt| !attempt.earlier)
    }

    /// Returns the last attempt with an unknown outcome, of a message that is sent again only while its account makes no
    /// second message of it.
    pub(super) fn repeated(&self) -> Option<&Attempt> {
        self.tries().filter(|attempt| attempt.is_unknown && attempt.repeatable_until.is_some()).last()
    }

    /// Returns how often the process ended during its send.
    pub(super) fn deaths(&self) -> usize {
        self.attempts.iter().filter(|attempt| attempt.died).count()
    }
}

/// The end of an attempt.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) state: State,
    /// When the message is due again, if it is.
    pub(super) due: Option<Timestamp>,
    /// The gateway's ids, if it accepted the message.
    pub(super) ids: Vec<MessageId>,
    /// The recipient as the gateway returned it.
    pub(super) recipient: Option<Address>,
    pub(super) delivery: Option<DeliveryState>,
    /// The recorded outcome, kind and code of the attempt.
    pub(super) outcome: &'static str,
    pub(super) kind: &'static str,
    pub(super) code: Option<String>,
    /// The failure was transient.
    pub(super) passing: bool,
    /// The message must not fail over to another account.
    pub(super) bound: bool,
    /// The lane in which the message waits from now on, if that is another.
    pub(super) lane: Option<String>,
    /// The gateway's number of parts, and its price.
    pub(super) segments: Option<u32>,
    pub(super) price: Option<Price>,
    /// The reason, in plain words.
    pub(super) reason: Option<String>,
    pub(super) now: Timestamp,
}

/// A change of a message's state.
#[derive(Debug)]
pub(super) struct Settle {
    pub(super) state: State,
    pub(super) due: Option<Timestamp>,
    pub(super) reason: Option<String>,
    /// The states from which it applies.
    pub(super) from: &'static [State],
    pub(super) now: Timestamp,
}

impl Settle {
    /// Returns `true` if it states that unknown outcomes were certainly not sent: by a look-up, or by a person.
    pub(super) fn is_certainly_not_sent(&self) -> bool {
        self.state == State::Queued && self.from == [State::Unknown]
            || self.state == State::Rejected && self.from == [State::Unknown, State::Parked]
    }

    /// Returns how long the message waits until it is due.
    pub(super) fn wait(&self) -> Option<Duration> {
        self.due.map(|due| due.since(self.now))
    }

    /// Returns when the message is settled, if this settles it.
    pub(super) fn settled(&self) -> Option<Timestamp> {
        self.state.is_settled().then_some(self.now)
    }

    /// Returns the time after which due fallbacks are examined now, given the delivery state: all fallbacks if the
    /// message certainly does not arrive, and those that wait for a failure if nothing more is done about it.
    pub(super) fn fallbacks_after(&self, delivery: Option<&str>) -> Option<Timestamp> {
        if self.state.is_not_sent() || delivery.and_then(delivery_state_of).is_some_and(DeliveryState::is_failure) {
            return Some(self.now);
        }
        (self.state == State::Parked).then(|| ON_FAILURE.minus(Duration::from_millis(1)))
    }
}

/// The time at which a claimed message is claimed again, and the reason.
#[derive(Clone, Copy, Debug)]
pub(super) struct PutOff {
    pub(super) until: Timestamp,
    pub(super) why: &'static str,
    /// Until then it is outside the order of its conversation, and holds back none.
    pub(super) planned: bool,
}

/// A decision of the policy, and its effect on the message.
#[derive(Debug)]
pub(super) struct Ruling {
    /// The decision's name in the store.
    pub(super) decision: &'static str,
    pub(super) reason: policy::Reason,
    pub(super) settle: Settle,
}

/// The number of recovered messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Recovered {
    /// Claimed, and queued again.
    pub(super) queued: u64,
    /// Being sent: the outcome is unknown.
    pub(super) unknown: u64,
}

/// A message that waits for a worker, by the clock of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) due: Timestamp,
    /// When a worker of its line was last active.
    pub(super) attended: Option<Timestamp>,
    pub(super) now: Timestamp,
}

/// The tolerance for a clock that is set back, before waits are bounded: they last at most this much longer.
pub(super) const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// The interval at which the latest time is stored.
pub(super) const CLOCK_NOTED: Duration = Duration::from_secs(20);

/// The distance from which a due time counts as implausible.
pub(super) const IMPLAUSIBLE: Duration = Duration::from_secs(365 * 24 * 3600);

/// The number of rows bounded in one transaction.
pub(super) const BOUNDED_MAX: u32 = 1000;

/// The longest lease of each kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leases {
    pub(super) message: Duration,
    pub(super) event: Duration,
    pub(super) file: Duration,
    pub(super) removal: Duration,
}

/// The next part to bound after the clock was set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unbounded {
    /// Messages after this one.
    Messages(i64),
    /// Events after this one.
    Events(i64),
    /// Files, and the times of workers' activity.
    Rest,
}

/// The number of bounded waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bounded {
    pub(super) messages: u64,
    pub(super) events: u64,
    pub(super) files: u64,
    /// Messages that wait for an implausible time set by a caller or a policy.
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

/// The waits of a message.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct MessageWait {
    pub(super) id: i64,
    pub(super) state: State,
    pub(super) planned: bool,
    pub(super) due: Option<Timestamp>,
    pub(super) wait: Option<Duration>,
    pub(super) lease: Option<Timestamp>,
    pub(super) fallback_due: Option<Timestamp>,
    /// `None` if it has none, or this program cannot read it.
    pub(super) fallback: Option<Fallback>,
}

impl MessageWait {
    /// Returns the same waits, with none longer from now on than intended.
    pub(super) fn bounded(&self, now: Timestamp, lease: Duration) -> Self {
        let within = |at: Option<Timestamp>, max: Duration| at.map(|at| at.min(now.plus(max)));
        let due = self.wait.map_or(self.due, |wait| within(self.due, wait));
        let waits = matches!(self.state, State::Queued | State::Deferred);
        // A time set by a caller or a policy has not come: until then the message holds back none.
        let planned = self.planned || waits && due.is_some_and(|due| due > now) && self.wait.is_none();
        let again = self.fallback.as_ref().map_or(now.plus(UNREADABLE_WAIT), |fallback| fallback.bound(now));
        let falls_later = planned && self.wait.is_none();
        let fallback_due = self.fallback_due.map(|at| if at == ON_FAILURE || falls_later { at } else { at.min(again) });
        Self { planned, due, lease: within(self.lease, lease), fallback_due, ..self.clone() }
    }

    /// Returns `true` if it waits for an implausible time.
    pub(super) fn is_implausible(&self, now: Timestamp) -> bool {
        matches!(self.state, State::Queued | State::Deferred) && self.due.is_some_and(|due| due > now.plus(IMPLAUSIBLE))
    }
}

/// The end of an event's lease or wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct EventWait {
    pub(super) id: i64,
    pub(super) lease: Option<Timestamp>,
    pub(super) wait: Option<Duration>,
}

/// An event that arrived, with its line.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) line: Option<String>,
    pub(super) event: Event,
    /// Its files are fetched, and it is held back for them.
    pub(super) fetch: bool,
    /// The auto-reply that is stored with it.
    pub(super) auto_reply: Option<Box<DueReply>>,
}

/// An auto-reply, which is not sent if the person got a reply since its period began.
#[derive(Debug)]
pub(super) struct DueReply {
    /// With a key of its own for each person and period.
    pub(super) message: Message,
    /// The account that alone can carry it, of several.
    pub(super) account: Option<String>,
    pub(super) since: Timestamp,
}

impl DueReply {
    /// Returns it as a message that is due now.
    pub(super) fn to_enqueue(&self, line: &str, now: Timestamp) -> New {
        let (message, key) = (self.message.clone(), self.message.key.clone().unwrap_or_default());
        let (line, account, priority) = (line.to_owned(), self.account.clone(), status::priority(message.purpose));
        New { line, key, message, priority, account, due: now, deferred: None, fallback: None, now }
    }
}

/// An event to store.
pub(super) struct EventRow<'a> {
    pub(super) line: Option<&'a str>,
    /// `None` for an event of our own, which occurs once.
    pub(super) dedupe: Option<&'a str>,
    pub(super) kind: &'static str,
    pub(super) person: Option<&'a str>,
    /// It waits for an answer.
    pub(super) waits: bool,
    pub(super) body: &'a str,
    /// The number of its files to fetch, for which it is held back.
    pub(super) files: usize,
    pub(super) taken_in: Timestamp,
}

/// A message that is about to change.
pub(super) struct MessageRow {
    pub(super) line: String,
    pub(super) recipient: String,
    pub(super) priority: u8,
    pub(super) lane: String,
    pub(super) state: State,
    pub(super) delivery: Option<String>,
    /// The number of its last attempt.
    pub(super) attempts: i32,
}

/// The current address of a link, and since when.
pub(super) struct LinkRow {
    pub(super) current: String,
    /// The address in its stored form.
    pub(super) address: String,
    pub(super) at: Timestamp,
}

/// The references by which a delivery finds its message.
pub(super) struct DeliveryRow<'a> {
    pub(super) gateway: &'a str,
    pub(super) account: &'a str,
    pub(super) id: Option<&'a str>,
    pub(super) key: Option<&'a str>,
}

/// A mark: the extent to which a person has received and read what an account sent (messages whose send began by then).
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) delivered_up_to: Option<Timestamp>,
    pub(super) read_up_to: Option<Timestamp>,
}

impl Mark {
    /// Returns the mark of a delivery that covers everything up to a time: `None` if it is below delivered.
    pub(super) fn from_state(state: DeliveryState, until: Timestamp) -> Option<Self> {
        match state {
            state if state >= DeliveryState::Read => Some(Self { delivered_up_to: None, read_up_to: Some(until) }),
            DeliveryState::Delivered => Some(Self { delivered_up_to: Some(until), read_up_to: None }),
            _ => None,
        }
    }
}

/// The new state of a file.
pub(super) struct FileRow<'a> {
    pub(super) state: &'static str,
    pub(super) due: Option<Timestamp>,
    pub(super) stored: Option<&'a StoredMedia>,
    pub(super) reason: Option<&'a str>,
}

impl Incoming {
    /// Returns `true` if it may be an opt-out, or the end of one.
    pub(super) fn may_opt_out(&self) -> bool {
        match &self.event {
            Event::OptOut(_) => true,
            Event::Delivery(delivery) => Receipt::by(delivery).opted_out,
            _ => false,
        }
    }

    /// Returns the number of its files to fetch.
    pub(super) fn files(&self) -> usize {
        self.event.as_inbound().filter(|_| self.fetch).map_or(0, |inbound| inbound.media().len())
    }
}

/// The right to write to a file: a claim with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHold {
    pub(super) event: i64,
    pub(super) n: i32,
    /// The number of claims, this one included.
    pub(super) tries: i32,
}

/// A file to fetch.
#[derive(Debug)]
pub(super) struct ClaimedFile {
    pub(super) hold: FileHold,
    pub(super) line: Option<String>,
    /// Its event: `None` if this program cannot read it.
    pub(super) event: Option<Event>,
    pub(super) taken_in: Timestamp,
}

/// The result of a fetch.
#[derive(Clone, Debug)]
pub(super) enum Fetched {
    /// To be fetched again at this time.
    Again(Timestamp),
    /// Failed permanently, with the reason.
    Failed(String),
    Held(StoredMedia),
}

/// The maximum time that an event is held back for its files.
pub(super) const HELD_BACK: Duration = Duration::from_secs(60);

/// The wait before a file that was being removed is fetched again.
pub(super) const AFTER_REMOVAL: Duration = Duration::from_secs(5);

/// The retention of deliveries without a known message.
pub(super) const EARLY_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// A row of a message's status, as far as it is the same in every store.
pub(super) struct StatusRow {
    pub(super) id: i64,
    pub(super) line: String,
    pub(super) key: String,
    /// The tag, if the content cannot be read.
    pub(super) tag: Option<String>,
    pub(super) state: State,
    pub(super) due: Option<Timestamp>,
    pub(super) attempts: u32,
    pub(super) delivery: Option<String>,
    /// The delivery state from the mark of its conversation.
    pub(super) mark: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) gateway_id: Option<String>,
    pub(super) instead_of: Option<i64>,
    pub(super) fallback: Option<i64>,
    /// The last refusal of our own: the decision and its rule.
    pub(super) refusal: Option<(String, String)>,
}

impl StatusRow {
    /// Returns the status, with what the message has if it can be read.
    pub(super) fn status(self, message: Option<&Message>, history: Vec<SendAttempt>) -> Status {
        let last = history.last();
        let gateway = last.map(|last| last.gateway.clone());
        let (kind, code) = match self.refusal.filter(|_| self.state == State::Refused) {
            Some((decision, rule)) if decision == "opt_out" => (Some(ErrorKind::OptedOut), Some(rule)),
            Some((_, rule)) => (Some(ErrorKind::Refused), Some(rule)),
            None => (last.and_then(|last| last.kind), last.and_then(|last| last.code.clone())),
        };
        let (segments, price) = status::charged(&history);
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

/// Reads a value by its stored name: `None` if this program does not know it.
pub(super) fn named<'a, T: Deserialize<'a>>(name: &'a str) -> Option<T> {
    if name.is_empty() {
        return None;
    }
    let name: serde::de::value::BorrowedStrDeserializer<'a, serde::de::value::Error> =
        serde::de::value::BorrowedStrDeserializer::new(name);
    T::deserialize(name).ok()
}

/// Reads a stored price: of credits, if it has no currency.
pub(super) fn price_of(micros: Option<i64>, currency: Option<&str>) -> Option<Price> {
    let micros = micros?;
    Some(match currency {
        Some(currency) => Money { micros, currency: named(currency)? }.into(),
        None => Credits { micros }.into(),
    })
}

/// A delivered event.
#[derive(Debug)]
pub(super) struct InboxEvent {
    pub(super) id: i64,
    pub(super) line: Option<String>,
    pub(super) what: EventContent,
    /// The number of deliveries, this one included.
    pub(super) attempts: u32,
    pub(super) taken_in: Timestamp,
}

/// The events to read.
#[derive(Clone, Debug)]
pub(super) enum EventFilter {
    Line(String),
    /// The events of own lines, of lines that no other program works on, and of no line.
    All {
        own: Vec<String>,
    },
}

impl EventFilter {
    /// Returns the lines whose events are left to another program, of those with a recently active worker.
    pub(super) fn foreign(&self, attended: Vec<String>) -> Vec<String> {
        match self {
            Self::Line(_) => Vec::new(),
            Self::All { own } => attended.into_iter().filter(|line| !own.contains(line)).collect(),
        }
    }
}

/// The time for which events of a line are left to its own programs after its last worker was active: longer than any
/// outage that goes unnoticed.
pub(super) const ABANDONED: Duration = Duration::from_secs(7 * 24 * 3600);

/// The maximum number of events of a person that are released at once, after the one that held them back: the end of
/// each of these releases more.
pub(super) const RELEASED_MAX: u32 = 32;

/// A line and a person on it.
pub(super) type PersonOf = (String, String);

/// The number of deliveries after which an event is parked.
pub(super) const EVENT_ATTEMPTS: u32 = 10;

impl InboxEvent {
    /// Counts another delivery, unless this program cannot read the event.
    pub(super) fn begin(&mut self) {
        self.attempts += u32::from(!matches!(self.what, EventContent::Unreadable));
    }
}

/// The content of an event.
#[derive(Debug)]
pub(super) enum EventContent {
    Event(Box<Event>),
    Settled(Box<Settled>),
    /// This program cannot read it: a newer version may.
    Unreadable,
}

impl EventContent {
    pub(super) fn read(kind: &str, body: &str) -> Self {
        let read = match kind {
            "settled" => serde_json::from_str(body).map(|settled| Self::Settled(Box::new(settled))),
            _ => serde_json::from_str(body).map(|event| Self::Event(Box::new(event))),
        };
        read.unwrap_or(Self::Unreadable)
    }
}

/// The tokens of an account reserved for a worker: the first at this time, the others at the account's interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reserved {
    /// When the first token is available; without tokens, when to try again.
    pub(super) from: Timestamp,
    pub(super) count: u32,
}

/// The time for which tokens are reserved ahead: those of a worker that stops are lost.
#[cfg(feature = "postgres")]
pub(super) const RESERVED_AHEAD: Duration = Duration::from_millis(200);

/// The decision recorded when the policy fails.
pub(super) const NOT_DECIDED: &str = "not_decided";

/// The decision recorded when a program cannot handle a message.
pub(super) const UNHANDLED: &str = "put_off";

/// The time for which a line counts as served after a worker of it was active.
#[cfg(feature = "postgres")]
pub(super) const SERVED: Duration = Duration::from_secs(3600);

/// The reason for an unknown outcome after a restore.
pub(super) const RESTORED: &str = "outcome unknown: restored from a backup, and it may have been sent since";

/// The reason for a message settled by a status event.
pub(super) const REPORTED: &str = "reported by the gateway";

/// The reason for a message that is cancelled in favour of its fallback.
pub(super) const FELL_BACK: &str = "replaced by its fallback";

/// The reason for a message whose recipient opted out.
pub(super) const OPTED_OUT: &str = "the person opted out after it was enqueued";

/// The reason for a fallback that is parked after a restore.
pub(super) const FALLBACK_RESTORED: &str =
    "outcome unknown: restored from a backup, and the fallback may have been sent since";

/// The wait before a fallback that this program cannot read is examined again.
pub(super) const UNREADABLE_WAIT: Duration = Duration::from_secs(60);

/// The maximum number of fallbacks examined in one transaction.
pub(super) const FALLBACKS_MAX: u32 = 100;

/// The reason for never sending a fallback after inconclusive look-ups.
pub(super) const UNCLEAR: &str = "look-ups are inconclusive about its delivery";

/// The answers of the policy and of the gateways, by message number.
pub(super) type Answers = HashMap<i64, Answer>;

/// A message with a fallback.
pub(super) struct FallbackRow {
    pub(super) id: i64,
    pub(super) line: String,
    pub(super) key: String,
    pub(super) lookups: u32,
    /// `None` if this program cannot read it: a newer version may.
    pub(super) fallback: Option<Fallback>,
    pub(super) first: First,
}

/// The result of examining a fallback.
pub(super) struct FallbackUpdate {
    pub(super) decision: FallbackDecision,
    /// When it is examined again.
    pub(super) again: Option<Timestamp>,
    /// The recorded decision, if it was not to send.
    pub(super) recorded: Option<(&'static str, policy::Reason)>,
}

impl FallbackRow {
    /// Returns what the policy must allow before the message is cancelled: the message's number, the line, and the
    /// fallback.
    pub(super) fn policy_query(&self) -> Option<(i64, &str, &Message)> {
        let fallback = self.fallback.as_ref().filter(|_| self.decision() == FallbackDecision::CancelFirst)?;
        Some((self.id, &self.line, &fallback.message))
    }

    /// Returns the message to look up for its delivery, if any.
    pub(super) fn lookup_query(&self) -> Option<i64> {
        (self.decision() == FallbackDecision::LookUp).then_some(self.id)
    }

    pub(super) fn decision(&self) -> FallbackDecision {
        self.fallback.as_ref().map_or(FallbackDecision::Wait, |fallback| fallback.decide(&self.first))
    }

    /// Decides by these answers.
    pub(super) fn examine(&self, answers: &Answers, now: Timestamp) -> FallbackUpdate {
        let Some(fallback) = &self.fallback else {
            return FallbackUpdate {
                decision: FallbackDecision::Wait,
                again: Some(now.plus(UNREADABLE_WAIT)),
                recorded: None,
            };
        };
        let (asks, answer) = (self.decision(), answers.get(&self.id));
        let decision = fallback.after(asks, answer);
        let again = fallback.again(&self.first, now);
        let (decision, again, recorded) = match (asks, answer) {
            // The state has changed since the answers were collected.
            (FallbackDecision::CancelFirst | FallbackDecision::LookUp, None) => (decision, now, None),
            (FallbackDecision::CancelFirst, Some(Answer::Policy(Decision::Defer { until, reason }))) => {
                (decision, again.max(*until), Some(("defer_fallback", reason.clone())))
            }
            (FallbackDecision::CancelFirst, Some(Answer::Policy(Decision::Refuse(reason)))) => {
                (decision, now, Some(("refuse_fallback", reason.clone())))
            }
            (FallbackDecision::LookUp, Some(Answer::Unclear)) if decision == FallbackDecision::Wait => {
                match look_up_wait(self.lookups) {
                    Some(wait) => (decision, now.plus(wait), None),
                    None => (
                        FallbackDecision::Never,
                        now,
                        Some(("no_fallback", policy::Reason::new("unclear-delivery", UNCLEAR))),
                    ),
                }
            }
            _ => (decision, again, None),
        };
        FallbackUpdate { decision, again: (decision == FallbackDecision::Wait).then_some(again), recorded }
    }

    /// Returns the fallback as a message that is due now, with a key derived from the first one's.
    pub(super) fn instead(self, now: Timestamp) -> Option<New> {
        if self.decision() == FallbackDecision::Never {
            return None;
        }
        let mut message = self.fallback?.message;
        let key = format!("fallback-{}", Digest::sha256(self.key.as_bytes()));
        message.key = Some(key.clone());
        let priority = status::priority(message.purpose);
        let (account, deferred, fallback) = (None, None, None);
        Some(New { line: self.line, key, message, priority, account, due: now, deferred, fallback, now })
    }
}

/// The results of examining fallbacks.
#[derive(Debug, Default)]
pub(super) struct FallbackResults {
    /// The cancelled messages, with their lines.
    pub(super) cancelled: Vec<(Id, String)>,
    /// The messages whose fallbacks the policy refused, permanently.
    pub(super) refused: Vec<Id>,
    /// The fallbacks to send now.
    pub(super) to_send: Vec<(Id, New)>,
}

/// A gateway's report about a message.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Receipt {
    pub(super) state: DeliveryState,
    /// Not delivered, because the person opted out.
    pub(super) opted_out: bool,
}

impl Receipt {
    pub(super) fn by(delivery: &Delivery) -> Self {
        let opted_out = delivery.failure.as_ref().is_some_and(|failure| failure.kind == ErrorKind::OptedOut);
        Self { state: delivery.state, opted_out }
    }
}

/// Reads a stored message, `None` if this program cannot, and whether it differs from its digest.
pub(super) fn message_of(body: &str, fallback: Option<&str>, digest: &str) -> (Option<Message>, bool) {
    let damaged = digest_of(body, fallback) != digest;
    (serde_json::from_str(body).ok().filter(|_| !damaged), damaged)
}

/// Returns the digests of the files that a stored message or its fallback sends.
fn files_of(body: &str, fallback: Option<&str>) -> BTreeSet<String> {
    // Anywhere in the message.
    let named = |text: &str| {
        let named = text.split("\"sha256\":\"").skip(1).filter_map(|named| Some(named.split_once('"')?.0.to_owned()));
        named.filter(|sha256| sha256.parse::<Digest>().is_ok()).collect::<Vec<_>>()
    };
    named(body).into_iter().chain(fallback.map(named).unwrap_or_default()).collect()
}

/// Reads a stored delivery state.
pub(super) fn delivery_state_of(text: &str) -> Option<DeliveryState> {
    serde_json::from_str(text).ok()
}

/// Returns the delivery state of a message: from its own reports and the mark of its conversation.
pub(super) fn reached(own: Option<&str>, mark: Option<&str>) -> Option<DeliveryState> {
    own.and_then(delivery_state_of).max(mark.and_then(delivery_state_of))
}

/// Returns the person of a delivery that covers all their messages.
pub(super) fn mark_person(delivery: &Delivery) -> Option<&Address> {
    delivery.recipient.as_ref().or(delivery.envelope.conversation.as_ref())
}

/// Returns the two addresses of one person from an event: the former and the current one.
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

/// Returns the number of a person who has another identity as well.
pub(super) fn number_of(person: &Address) -> Option<&str> {
    match person {
        Address::WhatsApp(user) if user.user_id().is_some() => user.phone().map(Phone::as_str),
        _ => None,
    }
}

impl End {
    /// Returns the names that lead to the recipient as the gateway returned it: the address of the message, and the
    /// number of a person who hides it. WhatsApp only: other gateways repeat the request's address.
    pub(super) fn names<'e>(&'e self, addressed: &'e str) -> impl Iterator<Item = (&'e str, &'e Address)> {
        let recipient = self.recipient.as_ref().filter(|recipient| matches!(recipient, Address::WhatsApp(_)));
        let names = recipient.into_iter().flat_map(move |recipient| {
            [Some(addressed), number_of(recipient)].into_iter().flatten().map(move |name| (name, recipient))
        });
        names.filter(|(name, recipient)| *name != recipient.expose())
    }
}

/// Returns the priority from which the person's other fallbacks end after an opt-out in answer to a message of this
/// priority.
pub(super) fn opt_out_from(priority: u8) -> u8 {
    if priority == PRIORITY_LAST { PRIORITY_LAST } else { 0 }
}

/// Settles a message whose recipient opted out: refused by us, unless the outcome of an attempt is unknown.
pub(super) fn opted_out(is_unknown: bool, reason: &policy::Reason, now: Timestamp) -> Settle {
    let state = if is_unknown { State::Parked } else { State::Refused };
    let from = &[State::Queued, State::Deferred, State::Claimed];
    Settle { state, due: None, reason: Some(reason.to_string()), from, now }
}

/// Returns the person or the conversation to which an answer to this event is sent.
pub(super) fn person_of(event: &Event) -> Option<&str> {
    event.as_inbound().map(|inbound| partner_of(inbound).expose())
}

/// Returns the person or the conversation of a message: of an echo, to whom it was sent.
pub(super) fn partner_of(inbound: &Inbound) -> &Address {
    let to = inbound.to.as_ref().filter(|_| inbound.echo && inbound.envelope.conversation.is_none());
    to.unwrap_or_else(|| inbound.reply_address())
}

/// The wait before the first look-up of an unknown outcome, and after each inconclusive one.
pub(super) const LOOK_UPS: [Duration; 5] = [
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
    Duration::from_secs(3600),
    Duration::from_secs(6 * 3600),
];

/// Returns the wait after this many inconclusive look-ups, or `None` if there were enough.
pub(super) fn look_up_wait(asked: u32) -> Option<Duration> {
    LOOK_UPS.get(asked as usize).copied()
}
