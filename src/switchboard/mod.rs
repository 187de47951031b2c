//! The switchboard: lines, a durable outbox and a durable inbox.
//!
//! What it has said Ok to is in its [`Store`], and a crash at any moment loses none of it and sends none of it twice: a
//! message that was on its way when the process ended may have gone, and is settled by what the gateway tells of it, by
//! asking the gateway, or by a person.
//!
//! ```
//! use civic_messaging::switchboard::{Line, State, Store, Switchboard};
//! use civic_messaging::{Address, Message, Mock};
//!
//! # if !cfg!(feature = "sqlite-system") { return }
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let sms = Mock::sms();
//! let enquiries = Line::new("enquiries").controller("Exampleshire Council").channel(sms.clone());
//! let store = Store::open("sqlite::memory:").await?; // sqlite:desk.db, where it is to last
//! let switchboard = Switchboard::builder(store).line(enquiries).route("sms", ["enquiries"]).build()?;
//! let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
//! let worker = tokio::spawn(switchboard.clone().run(async { drop(stopped.await) }));
//!
//! // Ok means durable, and the same key is the same message.
//! let note = Message::text(Address::phone("07700 900123")?, "Your collection is on Tuesday.").key("waste-4711");
//! let id = switchboard.send("enquiries", note.clone()).await?;
//! assert_eq!(switchboard.send("enquiries", note).await?, id);
//!
//! // A webhook is answered 2xx once what it brought is durable.
//! let webhook = sms.arrives("07700 900123", "Thank you. And the paper?");
//! assert_eq!(switchboard.receive("sms", webhook).await.status, 200);
//!
//! // Each event at least once, until it is acknowledged.
//! let line = switchboard.line("enquiries")?;
//! while let Some(event) = line.next().await? {
//!     if let Some(inbound) = event.answerable() {
//!         switchboard.reply("enquiries", inbound, "On Friday.").await?;
//!     }
//!     let sent = event.as_settled().is_some_and(|settled| settled.id == id && settled.state == State::Accepted);
//!     event.ack().await?;
//!     if sent {
//!         break;
//!     }
//! }
//! drop(stop);
//! worker.await.unwrap()?;
//! sms.assert_sent("07700 900123", "Your collection is on Tuesday.");
//! # Ok::<(), civic_messaging::Error>(()) }).unwrap();
//! ```

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::{Notify, Semaphore};

use crate::channel::Channel;
use crate::layer::failover::{Order, Selector};
use crate::layer::rate_limit::Limiter;
use crate::layer::retry::Schedule;
use crate::media::MediaStore;
use crate::model::address::{Address, Medium};
use crate::model::clock::{Clock, SystemClock, Timestamp};
use crate::model::digest::Digest;
use crate::model::error::{Error, ErrorKind, Outcome, Result};
use crate::model::event::{Event, Inbound};
use crate::model::info::Info;
use crate::model::message::{Message, Purpose};
use crate::model::secret::Secret;
use crate::policy::{self, Decision, Policy, PolicyInput};
use crate::telemetry::switchboard as telemetry;
use crate::webhook;

mod conversation;
mod engine;
mod fallback;
mod file;
mod flow;
mod inbox;
mod lanes;
mod line;
mod outbox;
mod record;
mod route;
mod store;
mod suspension;
mod unattended;
mod watch;
mod worker;

pub use conversation::{Entry, EntryContent};
pub use fallback::{Fallback, Outgoing};
pub use file::{EventId, File};
pub use inbox::{InboxEvent, InboxEventKind, LineInbox};
pub use line::Line;
pub use outbox::{AttemptOutcome, Id, Resolution, SendAttempt, Settled, State, Status};
pub use store::Store;
pub use suspension::Suspension;
pub use watch::{ChannelHealth, Counts, Stats};
pub use worker::ShutdownReport;

use inbox::Bells;
use record::{Enqueued, Incoming, New, Settle};
use route::Route;
use suspension::Standing;
use unattended::Watched;

/// Lines, routes and a store. Clones are one switchboard.
#[derive(Clone)]
pub struct Switchboard(Arc<Inner>);

struct Inner {
    store: Store,
    lines: BTreeMap<String, Line>,
    routes: BTreeMap<String, Route>,
    /// The media of each account of a gateway, with the line of each.
    accounts: HashMap<[String; 2], Vec<(Medium, String)>>,
    schedule: Schedule,
    policy: Option<Arc<dyn Policy>>,
    lease: Duration,
    clock: Arc<dyn Clock>,
    /// Where the files of residents' messages go.
    media: Option<Arc<dyn MediaStore>>,
    pepper: Option<Secret>,
    limits: HashMap<Account, Mutex<Limiter>>,
    standings: HashMap<Account, Mutex<Standing>>,
    /// The lines whose messages may wait for a worker that does not run.
    watched: Watched,
    /// The suppliers of each line and medium.
    choices: HashMap<(String, String), Mutex<Selector>>,
    /// Rings when there is something to send.
    to_send: Notify,
    to_read: Bells,
    /// And when there is a file to fetch.
    to_fetch: Notify,
    intake: Semaphore,
    /// One at a time is sent of those in which a process has ended.
    suspects: Semaphore,
    /// How often the policy could not decide about a message.
    undecided: Mutex<HashMap<Id, u32>>,
    /// How many messages of one account are on their way at once, at most.
    max_in_flight: u32,
    /// The workers that run, and whether the last of them has ended.
    running: AtomicUsize,
    stopped: AtomicBool,
    /// The latest time that a worker of this switchboard has seen, in milliseconds.
    latest: AtomicI64,
}

/// Puts a [`Switchboard`] together.
#[derive(Debug)]
pub struct Builder {
    store: Store,
    lines: Vec<Line>,
    routes: Vec<(String, Vec<String>)>,
    schedule: Schedule,
    policy: Option<Arc<dyn Policy>>,
    lease: Duration,
    max_in_flight: u32,
    clock: Arc<dyn Clock>,
    media: Option<Arc<dyn MediaStore>>,
    pepper: Option<Secret>,
}

/// How long a policy may take to decide about one message.
const POLICY_MAX: Duration = Duration::from_secs(10);

/// Where a message stands that a person may have sent: what may have gone, and what certainly did not.
const SENDABLE: [State; 6] =
    [State::Cancelled, State::Expired, State::Parked, State::Refused, State::Rejected, State::Unknown];

/// How many webhooks are taken in at once; more are asked to come again.
const INTAKE_MAX: usize = 256;

impl Switchboard {
    /// Begins one on a store.
    pub fn builder(store: Store) -> Builder {
        Builder {
            store,
            lines: Vec::new(),
            routes: Vec::new(),
            schedule: Schedule::DURABLE,
            policy: None,
            lease: worker::LEASE,
            max_in_flight: worker::MAX_IN_FLIGHT,
            clock: Arc::new(SystemClock::new()),
            media: None,
            pepper: None,
        }
    }

    /// Takes a message for a line: Ok means that it is durable, and will be sent once a worker runs. The same key of the
    /// same line gives the same message, even if its `not_after` is past by then or the policy would say no.
    ///
    /// With an [`Outgoing`], it says what goes instead of it if it does not arrive. A plain phone number goes by SMS where
    /// the line has that, else by WhatsApp.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`] for a line that is not there, a key that another message has, a `not_after` before
    /// the time at which it would go, and what no channel of the line can carry; [`ErrorKind::Refused`] for what the policy
    /// refuses; [`ErrorKind::Unavailable`] when the store or the policy does not work, and then it may be there: send it
    /// again under its key, as it was.
    pub async fn send(&self, line: &str, message: impl Into<Outgoing>) -> Result<Id> {
        self.take(line, message.into(), Timestamp::from_millis(i64::MIN), None).await
    }

    /// Takes a message that is not to go before this time. One that was taken already keeps its time.
    ///
    /// # Errors
    /// Those of [`send`](Self::send).
    pub async fn send_at(&self, line: &str, message: impl Into<Outgoing>, at: Timestamp) -> Result<Id> {
        self.take(line, message.into(), at, None).await
    }

    /// Takes a message, and acknowledges the event that it answers, if any, in the same commit.
    async fn take(&self, line: &str, outgoing: Outgoing, at: Timestamp, answered: Option<i64>) -> Result<Id> {
        let of = self.0.line(line)?;
        of.carries(&outgoing.message)?;
        if let Some(fallback) = &outgoing.fallback {
            fallback.check(of, &outgoing.message)?;
        }
        let now = self.0.clock.now();
        let (due, deferred) = match self.0.due(line, &outgoing, at, now).await {
            Ok(due) => due,
            // What was taken before is the same message still.
            Err(error) => match &outgoing.message.key {
                Some(key) if self.0.store.0.by_key(line, key).await?.is_some() => (now, None),
                _ => {
                    if error.kind() == ErrorKind::Refused {
                        let (why, to) = (error.to_string(), &outgoing.message.to);
                        self.0.stands(line, None, State::Refused, Some(&why), Some(to));
                    }
                    return Err(error);
                }
            },
        };
        let Outgoing { mut message, fallback } = outgoing;
        let key = match &message.key {
            Some(key) => key.clone(),
            None => self.0.new_key()?,
        };
        message.key = Some(key.clone());
        let (priority, to) = (outbox::priority(message.purpose), message.to.clone());
        let why = deferred.as_ref().map(ToString::to_string);
        let new = New { line: line.to_owned(), key, message, priority, due, deferred, fallback, now };
        let enqueued = match answered {
            Some(event) => self.0.store.0.enqueue_and_ack(new, event).await?,
            None => self.0.store.0.enqueue(new).await?,
        };
        match enqueued {
            Enqueued::New(id) => {
                self.0.to_send.notify_one();
                self.watch(line, id);
                let state = if due > now { State::Deferred } else { State::Queued };
                self.0.stands(line, Some(id), state, why.as_deref(), Some(&to));
                Ok(id)
            }
            Enqueued::Same(id) => Ok(id),
            Enqueued::Other => {
                let rule = "is that of a message of this line that differs, in its not_after, tag or fallback if nothing \
                            else: send that one again as it was, or take a new key for another message";
                Err(Error::invalid("key", rule))
            }
        }
    }

    /// Takes a text as an answer to a resident's message, quoting it where the line's channel can.
    ///
    /// The same text to the same message is the same answer: a service that crashed before it acknowledged the event
    /// answers it again, and the resident gets one. [`InboxEvent::reply_and_ack`] does both in one commit.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`] for a message that is not [live](Inbound::is_live) (see [`Event::as_answerable`]) and for
    /// one that came to another line, and those of [`send`](Self::send).
    pub async fn reply(&self, line: &str, inbound: &Inbound, text: impl Into<String>) -> Result<Id> {
        self.reply_to(line, inbound, text.into(), None).await
    }

    async fn reply_to(&self, line: &str, inbound: &Inbound, text: String, event: Option<i64>) -> Result<Id> {
        inbound.check_answerable()?;
        let of = self.0.line(line)?;
        let envelope = &inbound.envelope;
        let Some(channel) = of.channel_of(envelope) else {
            return Err(Error::invalid("inbound", "came to another line: answer it on that one"));
        };
        let of_this = format!("{}/{}", Event::Inbound(inbound.clone()).id(), text);
        let key = format!("reply-{}", Digest::sha256(of_this.as_bytes()));
        let message = Message::text(inbound.reply_address().clone(), text).purpose(Purpose::Reply).key(key);
        let quotes = channel.info().capability.reply_to;
        let message = if quotes { message.reply_to(inbound.id.clone()) } else { message };
        self.take(line, message.into(), Timestamp::from_millis(i64::MIN), event).await
    }

    /// Stores a webhook's events and returns the response for the gateway: 2xx once all of them are durable.
    ///
    /// 503 asks the gateway to send the webhook again: when it cannot be stored now, and when a channel of the route failed
    /// for another reason than a wrong signature. What the other channels received is stored by then, and the repeat of it is
    /// dropped. 401 or 403 when no channel accepts the signature: the most specific reason is logged with its gateway.
    pub async fn receive(&self, route: &str, request: webhook::Request) -> webhook::Response {
        let taken_in = match self.0.intake.try_acquire() {
            Ok(_place) => self.take_in(route, &request).await,
            Err(_) => Err(Error::new(ErrorKind::Unavailable, "256 webhooks are being taken in at this moment")),
        };
        taken_in.unwrap_or_else(|error| {
            // The name of one that is not ours is a stranger's words.
            let route = self.0.routes.get_key_value(route).map_or("unknown", |(route, _)| route);
            telemetry::webhook_rejected(route, &error);
            error.into()
        })
    }

    async fn take_in(&self, route: &str, request: &webhook::Request) -> Result<webhook::Response> {
        let Some(route) = self.0.routes.get(route) else {
            let rule = "is none of this switchboard's: see Builder::route";
            return Err(Error::config("route", rule).with_webhook_status(StatusCode::NOT_FOUND));
        };
        let mut collected = route.receive(request).await;
        let events = std::mem::take(&mut collected.events);
        let incoming: Vec<_> = events.into_iter().map(|event| self.0.incoming(event)).collect();
        if !incoming.is_empty() {
            let lines: Vec<_> = incoming.iter().map(|incoming| incoming.line.clone()).collect();
            let files = incoming.iter().any(|incoming| incoming.files() > 0);
            self.0.store.0.take_in(incoming, None, self.0.clock.now()).await?;
            lines.iter().for_each(|line| self.0.to_read.ring(line.as_deref()));
            if files {
                self.0.to_fetch.notify_one();
            }
        }
        collected.reply()
    }

    /// The events of one line.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`] for a line that is not there.
    pub fn line(&self, line: &str) -> Result<LineInbox> {
        self.0.line(line)?;
        Ok(LineInbox::new(self.clone(), Some(line.to_owned())))
    }

    /// The events of all lines of this switchboard, and those of no line.
    ///
    /// Several programs with lines of their own may share a store in PostgreSQL: each is handed the events of its own lines,
    /// and those of no line go to any of them. The events of a line that this switchboard does not have are delivered here
    /// only when no worker has run for that line, or none for seven days: a line that was taken out of the program leaves
    /// nothing behind. To read the rest of such a line at once, keep it in the program until nothing of it is
    /// [unread](Counts::unread).
    pub fn all(&self) -> LineInbox {
        LineInbox::new(self.clone(), None)
    }

    /// What became of a message.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when the store does not work.
    pub async fn status(&self, id: Id) -> Result<Option<Status>> {
        Ok(self.0.store.0.status(id).await?.map(|status| self.0.explained(status)))
    }

    /// The messages of a line that stand there, the oldest first, `most` of them after one: what is
    /// [`Parked`](State::Parked) waits for a person, who settles it by [`settle`](Self::settle).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`] for a line that neither the switchboard nor its store has, and those of
    /// [`status`](Self::status).
    pub async fn messages(&self, line: &str, state: State, after: Option<Id>, most: u32) -> Result<Vec<Status>> {
        self.0.known(line).await?;
        let all = self.0.store.0.messages(line, state, after, most).await?;
        Ok(all.into_iter().map(|status| self.0.explained(status)).collect())
    }

    /// What was said on a line with a person, the newest first: the `most` entries before an entry, or the last ones.
    ///
    /// The person is meant wherever they are reached: when a gateway says that somebody has a new number, what is sent to the
    /// old one goes to the new one, and both are one conversation.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`] for a line that neither the switchboard nor its store has, and those of
    /// [`status`](Self::status).
    pub async fn conversation(
        &self,
        line: &str,
        with: &Address,
        before: Option<&Entry>,
        most: u32,
    ) -> Result<Vec<Entry>> {
        self.0.known(line).await?;
        self.0.store.0.conversation(line, with.expose(), before.map(|entry| entry.place), most).await
    }

    /// The message of a line that has this key.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`] for a line that neither the switchboard nor its store has, and those of
    /// [`status`](Self::status).
    pub async fn by_key(&self, line: &str, key: &str) -> Result<Option<Id>> {
        self.0.known(line).await?;
        self.0.store.0.by_key(line, key).await
    }

    /// Calls a message back that has not gone. False: it has, it may have, or it is on its way; one that is parked is
    /// settled by [`settle`](Self::settle), by which a message that was called back can be sent after all.
    ///
    /// # Errors
    /// Those of [`status`](Self::status).
    pub async fn cancel(&self, id: Id) -> Result<bool> {
        let from = &[State::Queued, State::Deferred];
        let reason = Some("it was called back".to_owned());
        self.settled(id, Settle { state: State::Cancelled, due: None, reason, from, now: self.0.clock.now() }).await
    }

    /// Settles a message as a person has found out: one that may have gone, or that failed too often.
    ///
    /// [`Resolution::Resend`] sends any message that certainly did not go as well: one that was rejected, refused or called
    /// back, or whose time had passed. Returns `false` if the message is in none of these states.
    ///
    /// # Errors
    /// Those of [`status`](Self::status).
    pub async fn settle(&self, id: Id, resolution: Resolution) -> Result<bool> {
        let now = self.0.clock.now();
        let (state, due, reason) = match resolution {
            Resolution::Sent => (State::Accepted, None, "a person found that it went"),
            Resolution::NotSent => (State::Rejected, None, "a person found that it did not go"),
            Resolution::Resend => (State::Queued, Some(now), "a person wants it sent"),
        };
        let from: &[State] = match resolution {
            Resolution::Resend => &SENDABLE,
            Resolution::Sent | Resolution::NotSent => &[State::Unknown, State::Parked],
        };
        // Somebody has seen it, whatever the gateway says of its delivery.
        if resolution == Resolution::Sent {
            self.0.store.0.hold_fallback(id).await?;
        }
        let settle = Settle { state, due, reason: Some(reason.to_owned()), from, now };
        let settled = if resolution == Resolution::Resend {
            let line = self.0.store.0.resend(id, settle).await?;
            self.has_settled(id, line.as_deref(), state, Some(reason))
        } else {
            self.settled(id, settle).await?
        };
        self.0.to_send.notify_one();
        Ok(settled)
    }

    async fn settled(&self, id: Id, settle: Settle) -> Result<bool> {
        let (state, reason) = (settle.state, settle.reason.clone());
        let line = self.0.store.0.settle(id, settle).await?;
        Ok(self.has_settled(id, line.as_deref(), state, reason.as_deref()))
    }

    fn has_settled(&self, id: Id, line: Option<&str>, state: State, reason: Option<&str>) -> bool {
        if let Some(line) = line {
            self.0.stands(line, Some(id), state, reason, None);
        }
        self.0.to_read.ring_all();
        line.is_some()
    }
}

impl Inner {
    fn line(&self, line: &str) -> Result<&Line> {
        self.lines.get(line).ok_or_else(|| {
            let known = self.lines.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            Error::invalid("line", format!("is none of this switchboard's: {known}"))
        })
    }

    /// Refuses a line that is none of ours and has nothing in the store.
    async fn known(&self, line: &str) -> Result<()> {
        match self.line(line) {
            Err(unknown) if !self.store.0.has_line(line).await? => Err(unknown),
            _ => Ok(()),
        }
    }

    /// The line that an event is of: none for what is of no account of ours, or of an account as such.
    fn incoming(&self, event: Event) -> Incoming {
        let envelope = event.envelope();
        let line = match event {
            Event::Account(_) => None,
            _ => {
                let account = [envelope.gateway.to_string(), envelope.account.as_str().to_owned()];
                let media = self.accounts.get(&account).map(Vec::as_slice).unwrap_or_default();
                let line = media.iter().find(|(medium, _)| *medium == envelope.medium);
                // As Line::channel_of has it.
                let line = line.or_else(|| media.first().filter(|_| matches!(envelope.medium, Medium::Other(_))));
                line.map(|(_, line)| line.clone())
            }
        };
        // Without a channel there is nobody to fetch from.
        let fetch = self.media.is_some() && line.is_some();
        Incoming { line, event, fetch }
    }

    /// Adds to a message that waits why its accounts send nothing, as far as this worker knows.
    fn explained(&self, mut status: Status) -> Status {
        let waits = matches!(status.state, State::Queued | State::Deferred) && status.reason.is_none();
        if let (true, Some(to), Some(line)) = (waits, &status.recipient, self.lines.get(&status.line)) {
            let suspended = |info| held(self.standings.get(&account(info))?).suspension().cloned();
            let all: Option<Vec<_>> = line.suppliers(to).into_iter().map(|channel| suspended(channel.info())).collect();
            status.reason = all.and_then(|all| all.into_iter().next()).map(|one| outbox::suspended(&one.reason));
        }
        status
    }

    /// Tells that a message stands somewhere else now: one without a number was not taken.
    fn stands(&self, line: &str, id: Option<Id>, state: State, why: Option<&str>, person: Option<&Address>) {
        let person = || Some(person?.fingerprint(self.pepper.as_ref()?));
        telemetry::transition(line, id.map(|id| id.0), state.as_str(), state.is_grave(), why, person);
    }

    /// When a new message is due, and why the policy put it off, if it did: where it can go in time, and is not refused.
    async fn due(
        &self,
        line: &str,
        outgoing: &Outgoing,
        at: Timestamp,
        now: Timestamp,
    ) -> Result<(Timestamp, Option<policy::Reason>)> {
        let due = at.max(now);
        let (due, deferred) = match self.decide(line, &outgoing.message, due).await? {
            Decision::Allow => (due, None),
            Decision::Defer { until, reason } => (due.max(until), Some(reason)),
            // It is refused when it would go, and its fallback goes.
            Decision::Refuse(reason) if reason.is_of_medium() && outgoing.fallback.is_some() => (due, None),
            Decision::Refuse(reason) => return Err(refused(&reason)),
        };
        outgoing.check_time(due, deferred.as_ref(), now)?;
        if let Some(fallback) = &outgoing.fallback
            && let Decision::Refuse(reason) = self.decide(line, &fallback.message, due).await?
        {
            return Err(refused(&reason).with_field("fallback"));
        }
        Ok((due, deferred))
    }

    async fn decide(&self, line: &str, message: &Message, at: Timestamp) -> Result<Decision> {
        let Some(policy) = &self.policy else { return Ok(Decision::Allow) };
        let question = PolicyInput::new(line, message, at);
        let decided = worker::contained("the policy", &*self.clock, POLICY_MAX, policy.decide(&question)).await;
        decided.map_err(|error| error.with_outcome(Outcome::NotSent))
    }

    fn new_key(&self) -> Result<String> {
        let mut bytes = [0; 16];
        self.clock.random(&mut bytes)?;
        Ok(base16ct::lower::encode_string(&bytes))
    }
}

/// What is told of a message that the policy refuses.
fn refused(reason: &policy::Reason) -> Error {
    Error::new(ErrorKind::Refused, reason.to_string()).with_known_code(reason.rule())
}

/// An account whose rates are kept: gateway, medium and account.
type Account = [String; 3];

fn account(info: &Info) -> Account {
    [info.gateway.to_owned(), info.medium.as_str().to_owned(), info.account.as_str().to_owned()]
}

/// An account as the store names it.
fn account_id(account: &Account) -> String {
    account.join("/")
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Switchboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switchboard")
            .field("store", &self.0.store)
            .field("lines", &self.0.lines.keys())
            .field("routes", &self.0.routes.keys())
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// Adds a line.
    #[must_use]
    pub fn line(mut self, line: Line) -> Self {
        self.lines.push(line);
        self
    }

    /// Adds a webhook address, and the lines behind it: one app at a gateway may serve many. A webhook is taken when the
    /// secret of one of these verifies it; what it brings goes to the line whose account it names, here or not.
    #[must_use]
    pub fn route<L: Into<String>>(mut self, name: impl Into<String>, lines: impl IntoIterator<Item = L>) -> Self {
        self.routes.push((name.into(), lines.into_iter().map(Into::into).collect()));
        self
    }

    /// Tries again by another schedule: the default is 20 tries within a day, the pauses growing from up to 2
    /// seconds to up to an hour.
    #[must_use]
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = schedule;
        self
    }

    /// Decides by this policy whether a message may go: when it is taken, and again when it is about to be sent. While it
    /// does not work, messages wait.
    ///
    /// It has 10 seconds for each message, and a panic in it counts as a failure: neither costs more than that message. A
    /// message about which it fails again and again is asked about ever more rarely, and parked after 20 times.
    #[must_use]
    pub fn policy(mut self, policy: impl Policy) -> Self {
        self.policy = Some(Arc::new(policy));
        self
    }

    /// How long a worker that is not heard of keeps what it claimed, before another takes that over: the default is 3
    /// minutes. What it was sending by then may have gone, and is settled as [`OnUnknown`](crate::OnUnknown) says of each
    /// message.
    ///
    /// It must be longer than any send takes, and two seconds more, and 100 milliseconds at least: a worker whose send takes
    /// longer is taken for dead, and what it then says of the message is not written down. So a send is given up after
    /// nine tenths of it, and its outcome is unknown. A call of the transport that comes with this crate ends after 30
    /// seconds, and a message with a file may take two. A store in SQLite has one worker, which takes over at once when it
    /// starts.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// The maximum number of messages that are on their way to one account at once: 32 unless set, and 1 at least.
    ///
    /// A gateway that is slow or hangs so costs other accounts nothing.
    #[must_use]
    pub fn max_in_flight(mut self, max: u32) -> Self {
        self.max_in_flight = max.max(1);
        self
    }

    /// Fetches the files of residents' messages into this store, for the links of some gateways live for five minutes
    /// only. It is for every program that takes messages in, and for the worker, which fetches.
    ///
    /// A message with files is held back until each of them is there or cannot be fetched, but for a minute at most; others
    /// may be delivered before it meanwhile. See [`InboxEvent::files`]. Eight are fetched at once. A failure that passes is
    /// tried again after a second and then ever more rarely, for a day; a file that was being fetched when the process
    /// ended is fetched again. Without this nothing is fetched and nothing held back: take the files of
    /// [`Inbound::media`] yourself, at once, by [`Channel::fetch_media`].
    ///
    /// The files are the switchboard's: with [`Line::retention`] they are removed with the message, unless another message
    /// has the same file, or one that still waits sends it.
    #[must_use]
    pub fn media(mut self, media: impl MediaStore) -> Self {
        self.media = Some(Arc::new(media));
        self
    }

    /// Shows a person as a fingerprint under this pepper in what is told to `tracing`: the one of
    /// [`Trace`](crate::layer::Trace), so that both show the same. Without it no person is shown.
    #[must_use]
    pub fn pepper(mut self, pepper: Secret) -> Self {
        self.pepper = Some(pepper);
        self
    }

    /// By another clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Puts it together.
    ///
    /// # Errors
    /// [`ErrorKind::Config`]: no line at all; a line twice, without a channel or with one that has layers already; an account
    /// in two lines; a route twice, without a name, without lines, with a line that is not there, or without a channel that
    /// can verify webhooks; a lease of less than 100 milliseconds.
    pub fn build(self) -> Result<Switchboard> {
        if self.lease < worker::LEASE_MIN {
            return Err(Error::config("lease", "must be 100 milliseconds at least, and longer than any send takes"));
        }
        if self.lines.is_empty() {
            return Err(Error::config("line", "is missing: give one at least, by Builder::line"));
        }
        let (mut lines, mut limits, mut choices) = (BTreeMap::new(), HashMap::new(), HashMap::new());
        let mut standings = HashMap::new();
        for line in self.lines {
            line.check()?;
            for info in line.channels.iter().map(|channel| channel.info()) {
                let can = &info.capability;
                standings.entry(account(info)).or_insert_with(Mutex::default);
                limits.entry(account(info)).or_insert_with(|| Mutex::new(Limiter::new(can.rate, can.pair_rate)));
                let suppliers = line.channels.iter().filter(|channel| channel.info().medium == info.medium).count();
                let choice = Selector::new(suppliers, Order::Preferred)?;
                choices.insert((line.id.clone(), info.medium.as_str().to_owned()), Mutex::new(choice));
            }
            for info in line.channels.iter().map(|channel| channel.info()) {
                let also = |other: &&Line| other.owns(info.gateway, info.account.as_str(), &info.medium);
                if let Some(other) = lines.values().find(also).filter(|other| other.id != line.id) {
                    let rule = format!(
                        "has an account of {} for {} that the line {} has too",
                        info.gateway, info.medium, other.id
                    );
                    return Err(Error::config(format!("line {}", line.id), rule));
                }
            }
            if let Some(twice) = lines.insert(line.id.clone(), line) {
                return Err(Error::config("line", format!("{} is there twice", twice.id)));
            }
        }
        let mut routes = BTreeMap::new();
        for (name, of) in self.routes {
            if name.trim().is_empty() {
                return Err(Error::config("route", "needs a name, by which Switchboard::receive is told of it"));
            }
            if of.is_empty() {
                return Err(Error::config(
                    format!("route {name}"),
                    "has no lines: name those that its webhooks are for",
                ));
            }
            if let Some(unknown) = of.iter().find(|line| !lines.contains_key(*line)) {
                return Err(Error::config(
                    format!("route {name}"),
                    format!("names the line {unknown}, which is not there"),
                ));
            }
            let of = Route::new(of.iter().filter_map(|line| lines.get(line)).flat_map(|line: &Line| &line.channels));
            if of.is_empty() {
                let rule = "has no channel that can verify a webhook: set a webhook secret for a channel of its lines (and \
                            public_url, where the gateway signs its address), or leave the route out";
                return Err(Error::config(format!("route {name}"), rule));
            }
            if routes.insert(name.clone(), of).is_some() {
                return Err(Error::config(format!("route {name}"), "is there twice"));
            }
        }
        let mut accounts = HashMap::<_, Vec<_>>::new();
        for line in lines.values() {
            for info in line.channels.iter().map(|channel| channel.info()) {
                let account = [info.gateway.to_owned(), info.account.as_str().to_owned()];
                accounts.entry(account).or_default().push((info.medium.clone(), line.id.clone()));
            }
        }
        let to_read = Bells::new(lines.keys());
        Ok(Switchboard(Arc::new(Inner {
            store: self.store,
            lines,
            routes,
            accounts,
            schedule: self.schedule,
            policy: self.policy,
            lease: self.lease,
            clock: self.clock,
            media: self.media,
            pepper: self.pepper,
            limits,
            standings,
            watched: Watched::default(),
            choices,
            to_send: Notify::new(),
            to_read,
            to_fetch: Notify::new(),
            intake: Semaphore::new(INTAKE_MAX),
            suspects: Semaphore::new(1),
            undecided: Mutex::default(),
            max_in_flight: self.max_in_flight,
            running: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            latest: AtomicI64::new(i64::MIN),
        })))
    }
}
