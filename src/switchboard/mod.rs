//! The switchboard: lines, a durable outbox and a durable inbox.
//!
//! Once [`Switchboard::send`] returns `Ok`, the message is in the [`Store`]: a crash at any point neither loses it nor
//! sends it twice. The outcome of a message that was being sent when the process ended is unknown. A status event, a
//! look-up at the gateway or a person settles it.
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

use std::collections::{BTreeMap, BTreeSet, HashMap};
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
use crate::model::random::{Random, SystemRandom};
use crate::model::secret::Secret;
use crate::policy::auto_reply::OutOfHours;
use crate::policy::budgets::Budget;
use crate::policy::tariffs::Tariffs;
use crate::policy::{self, Decision, Policy, PolicyInput};
use crate::telemetry::switchboard as telemetry;
use crate::webhook;

mod auto_reply;
mod budgets;
mod bulk;
mod campaign;
mod charge;
mod check;
mod consents;
mod conversation;
mod conversations;
mod directory;
mod engine;
mod fallback;
mod file;
mod flow;
mod inbox;
mod lanes;
mod limits;
mod line;
mod messages;
mod opt_outs;
mod outbox;
mod people;
mod record;
mod register;
mod route;
mod settings;
mod status;
mod store;
mod suspension;
mod unattended;
mod watch;
mod worker;

pub use budgets::BudgetState;
pub use bulk::{BulkCounts, BulkProgress, BulkRefusal, BulkSend};
pub use campaign::Campaign;
pub use consents::{Consents, NewConsent};
pub use conversation::{Entry, EntryContent};
pub use conversations::{ConversationFilter, ConversationSummary};
pub use directory::OptOutReach;
pub use fallback::{Fallback, Outgoing};
pub use file::{EventId, File};
pub use inbox::{InboxEvent, InboxEventKind, LineInbox};
pub use line::{Line, ReceiveBy};
pub use messages::MessageFilter;
pub use opt_outs::{ImportProblem, NewOptOut, OptOutImport, OptOuts};
pub use people::{People, PersonLink};
pub use register::{ConsentEntry, OptOutEntry, OptOutSource};
pub use settings::{Configuration, SettingsErrors};
pub use status::{AttemptOutcome, Id, Resolution, SendAttempt, Settled, State, Status};
pub use store::Store;
pub use suspension::Suspension;
pub use watch::{ChannelHealth, Counts, Stats};
pub use worker::ShutdownReport;

use budgets::Budgets;
use directory::Directory;
use inbox::EventNotify;
use limits::Limits;
use record::{Enqueued, Incoming, New, Settle};
use route::Route;
use suspension::AccountState;
use unattended::Watched;

/// Lines, routes and a store. Clones share one switchboard.
#[derive(Clone)]
pub struct Switchboard(Arc<Inner>);

struct Inner {
    store: Store,
    lines: BTreeMap<String, Line>,
    routes: BTreeMap<String, Route>,
    /// The channels to poll.
    polled: Vec<Arc<dyn Channel>>,
    /// The media of each account of a gateway, each with its line.
    accounts: HashMap<[String; 2], Vec<(Medium, String)>>,
    schedule: Schedule,
    policy: Option<Arc<dyn Policy>>,
    budgets: Budgets,
    /// The limits on recent messages.
    recent: Limits,
    /// The auto-reply of each line that has one.
    auto_replies: HashMap<String, OutOfHours>,
    lease: Duration,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    /// The store for the files of residents' messages.
    media: Option<Arc<dyn MediaStore>>,
    pepper: Option<Secret>,
    limits: HashMap<Account, Mutex<Limiter>>,
    account_states: HashMap<Account, Mutex<AccountState>>,
    /// The lines watched for messages that are due while no worker runs.
    watched: Watched,
    /// The selector of suppliers for each line and medium.
    choices: HashMap<(String, String), Mutex<Selector>>,
    /// Notified when there is a message to send.
    to_send: Notify,
    to_read: EventNotify,
    /// Notified when there is a file to fetch.
    to_fetch: Notify,
    intake: Semaphore,
    /// Serialises the messages during whose send a process has ended.
    suspects: Semaphore,
    /// The number of times the policy failed to decide about a message.
    undecided: Mutex<HashMap<Id, u32>>,
    /// The maximum number of messages in flight for one account.
    max_in_flight: u32,
    /// The number of running workers, and whether the last one has ended.
    running: AtomicUsize,
    stopped: AtomicBool,
    /// The latest time seen by a worker of this switchboard, in milliseconds.
    latest: AtomicI64,
}

/// Builds a [`Switchboard`].
#[derive(Debug)]
pub struct Builder {
    store: Store,
    lines: Vec<Line>,
    routes: Vec<(String, Vec<String>)>,
    schedule: Schedule,
    policy: Option<Arc<dyn Policy>>,
    budgets: Vec<Budget>,
    limits: Limits,
    tariffs: Option<Tariffs>,
    lease: Duration,
    max_in_flight: u32,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    media: Option<Arc<dyn MediaStore>>,
    pepper: Option<Secret>,
}

/// A message on its way into the store, as far as it is logged.
struct Intake {
    to: Address,
    state: State,
    why: Option<String>,
}

/// The maximum time for one decision of the policy.
const POLICY_MAX: Duration = Duration::from_secs(10);

/// The states from which a person may resend: unknown outcomes, and certainly not sent.
const SENDABLE: [State; 6] =
    [State::Cancelled, State::Expired, State::Parked, State::Refused, State::Rejected, State::Unknown];

/// The maximum number of webhooks processed at once; more are answered 503.
const INTAKE_MAX: usize = 256;

impl Switchboard {
    /// Returns a builder for a switchboard on this store.
    pub fn builder(store: Store) -> Builder {
        Builder {
            store,
            lines: Vec::new(),
            routes: Vec::new(),
            schedule: Schedule::DURABLE,
            policy: None,
            budgets: Vec::new(),
            limits: Limits::default(),
            tariffs: None,
            lease: worker::LEASE,
            max_in_flight: worker::MAX_IN_FLIGHT,
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom),
            media: None,
            pepper: None,
        }
    }

    /// Enqueues a message on a line. `Ok` means that it is durable, and is sent once a worker runs. The key is the
    /// idempotency key: sending the same message under the same key of a line again returns the same [`Id`], even if
    /// its `not_after` has passed since or the policy would now refuse it.
    ///
    /// An [`Outgoing`] adds a fallback, which is sent if the message does not arrive. A plain phone number is reached
    /// by SMS if the line has a channel for it, else by WhatsApp.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidMessage`]: unknown line; a key that belongs to a different message; a `not_after` before
    ///   the message would be sent; no channel of the line can carry it.
    ///
    /// - [`ErrorKind::Refused`]: the policy refuses it; the person opted out (with the code `opt-out`): see
    ///   [`opt_outs`](Self::opt_outs); or it is marketing without a consent (`consent`): see
    ///   [`consents`](Self::consents).
    ///
    /// - [`ErrorKind::Unavailable`]: the store or the policy is unavailable. The message may have been stored: send it
    ///   again, unchanged, under the same key.
    pub async fn send(&self, line: &str, message: impl Into<Outgoing>) -> Result<Id> {
        self.enqueue(line, message.into(), Timestamp::from_millis(i64::MIN), None).await
    }

    /// Enqueues a message that is not sent before this time. If it is already stored, its time does not change.
    ///
    /// # Errors
    /// Those of [`send`](Self::send).
    pub async fn send_at(&self, line: &str, message: impl Into<Outgoing>, at: Timestamp) -> Result<Id> {
        self.enqueue(line, message.into(), at, None).await
    }

    /// Enqueues a message, and acknowledges the event that it answers, if any, in the same transaction.
    async fn enqueue(&self, line: &str, outgoing: Outgoing, at: Timestamp, answered: Option<i64>) -> Result<Id> {
        let (new, intake) = self.0.prepare(line, outgoing, at).await?;
        let enqueued = match answered {
            Some(event) => self.0.store.0.enqueue_and_ack(new, event).await?,
            None => self.0.store.0.enqueue(new).await?,
        };
        self.taken_in(line, &intake, enqueued).map(|(id, _)| id)
    }

    /// Logs that a message was enqueued, and has it sent. Returns `true` if it is new.
    fn taken_in(&self, line: &str, intake: &Intake, enqueued: Enqueued) -> Result<(Id, bool)> {
        match enqueued {
            Enqueued::New(id) => {
                self.0.to_send.notify_one();
                self.watch(line, id);
                self.0.log_state(line, Some(id), intake.state, intake.why.as_deref(), Some(&intake.to));
                Ok((id, true))
            }
            Enqueued::Same(id) => Ok((id, false)),
            Enqueued::Other => {
                let rule = "belongs to a different message of this line, which may differ in its not_after, tag or fallback \
                            only: send that one again unchanged, or use a new key";
                Err(Error::invalid("key", rule))
            }
            Enqueued::Refused { reason, is_fallback } => {
                self.0.log_state(line, None, State::Refused, Some(&reason.to_string()), Some(&intake.to));
                let error = refused(&reason);
                Err(if is_fallback { error.with_field("fallback") } else { error })
            }
        }
    }

    /// Enqueues a text as the answer to a resident's message, quoting it if the channel can.
    ///
    /// The same text in answer to the same message is the same answer. A service that crashed before it acknowledged
    /// the event answers again, and the resident gets one answer. [`InboxEvent::reply_and_ack`] does both in one
    /// transaction.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`] if the message is not [live](Inbound::is_live) (see [`Event::as_answerable`]) or
    /// came to another line, and those of [`send`](Self::send).
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
        self.enqueue(line, message.into(), Timestamp::from_millis(i64::MIN), event).await
    }

    /// Stores a webhook's events and returns the response for the gateway: 2xx once all of them are durable.
    ///
    /// 503 makes the gateway redeliver the webhook: the store is unavailable, or a channel of the route failed for a
    /// reason other than a wrong signature. Events of the other channels are stored by then, and deduplicated on
    /// redelivery. 401 or 403 if no channel accepts the signature; the most specific reason is logged with its gateway.
    pub async fn receive(&self, route: &str, request: webhook::Request) -> webhook::Response {
        let response = match self.0.intake.try_acquire() {
            Ok(_place) => self.store_webhook(route, &request).await,
            Err(_) => Err(Error::new(ErrorKind::Unavailable, "256 webhooks are being processed already")),
        };
        response.unwrap_or_else(|error| self.reject(route, &error))
    }

    /// Logs that a webhook was rejected, and returns the response for the gateway.
    pub(crate) fn reject(&self, route: &str, error: &Error) -> webhook::Response {
        // The name of an unknown route comes from a stranger, and is not logged.
        let route = self.0.routes.get_key_value(route).map_or("unknown", |(route, _)| route);
        telemetry::webhook_rejected(route, error);
        error.into()
    }

    fn route(&self, route: &str) -> Result<&Route> {
        let unknown = || Error::config("route", "unknown route: see Builder::route");
        self.0.routes.get(route).ok_or_else(|| unknown().with_webhook_status(StatusCode::NOT_FOUND))
    }

    /// Fails for an unknown route.
    #[cfg(feature = "axum")]
    pub(crate) fn check_route(&self, route: &str) -> Result<()> {
        self.route(route).map(drop)
    }

    async fn store_webhook(&self, route: &str, request: &webhook::Request) -> Result<webhook::Response> {
        let route = self.route(route)?;
        let mut collected = route.receive(request).await;
        let events = std::mem::take(&mut collected.events);
        let mut incoming: Vec<_> = events.into_iter().map(|event| self.0.incoming(event)).collect();
        if !incoming.is_empty() {
            let replies = self.0.add_auto_replies(&mut incoming).await?;
            let lines: Vec<_> = incoming.iter().map(|incoming| incoming.line.clone()).collect();
            let files = incoming.iter().any(|incoming| incoming.files() > 0);
            self.0.store.0.store_events(incoming, None, self.0.clock.now()).await?;
            lines.iter().for_each(|line| self.0.to_read.notify(line.as_deref()));
            if files {
                self.0.to_fetch.notify_one();
            }
            if replies {
                self.0.to_send.notify_one();
            }
        }
        collected.reply()
    }

    /// Returns the inbox of one line.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`] for an unknown line.
    pub fn line(&self, line: &str) -> Result<LineInbox> {
        self.0.line(line)?;
        Ok(LineInbox::new(self.clone(), Some(line.to_owned())))
    }

    /// Returns the inbox of all lines of this switchboard, with the events of no line.
    ///
    /// Several programs with different lines may share a PostgreSQL store: each receives the events of its own lines,
    /// and any of them those of no line. Events of a line that this switchboard lacks are delivered here once no worker
    /// has run for that line for seven days, or ever: a line removed from the configuration leaves nothing behind. To
    /// read the rest of such a line at once, keep it configured until none of its events is [unread](Counts::unread).
    pub fn all(&self) -> LineInbox {
        LineInbox::new(self.clone(), None)
    }

    /// Returns the status of a message, or `None` if it is unknown.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if the store is unavailable.
    pub async fn status(&self, id: Id) -> Result<Option<Status>> {
        Ok(self.0.store.0.status(id).await?.map(|status| self.0.explained(status)))
    }

    /// Returns a conversation on a line, newest first: at most `max` entries before `before`, or the last ones.
    ///
    /// It covers every address of the person. When a gateway reports a new number, messages to the old one are sent to
    /// the new one, and both are one conversation.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`] for a line that neither the switchboard nor its store has, and those of
    /// [`status`](Self::status).
    pub async fn conversation(
        &self,
        line: &str,
        with: &Address,
        before: Option<&Entry>,
        max: u32,
    ) -> Result<Vec<Entry>> {
        self.0.known(line).await?;
        self.0.store.0.conversation(line, with.expose(), before.map(|entry| entry.place), max).await
    }

    /// Returns the message of a line with this idempotency key.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`] for a line that neither the switchboard nor its store has, and those of
    /// [`status`](Self::status).
    pub async fn by_key(&self, line: &str, key: &str) -> Result<Option<Id>> {
        self.0.known(line).await?;
        self.0.store.0.by_key(line, key).await
    }

    /// Cancels a message that has not been sent. Returns `false` if it was sent, is being sent or may have been
    /// accepted. A parked message is settled with [`settle`](Self::settle), which can also resend a cancelled one.
    ///
    /// # Errors
    /// Those of [`status`](Self::status).
    pub async fn cancel(&self, id: Id) -> Result<bool> {
        let (from, reason) = (&messages::WAITING, Some(messages::CANCELLED.to_owned()));
        self.settled(id, Settle { state: State::Cancelled, due: None, reason, from, now: self.0.clock.now() }).await
    }

    /// Settles a message whose outcome is unknown, or that failed too often, as a person decides.
    ///
    /// [`Resolution::Resend`] also sends a message that was certainly not sent: one that was rejected, refused or
    /// cancelled, or that expired. Returns `false` if the message is in none of these states.
    ///
    /// # Errors
    /// Those of [`status`](Self::status).
    pub async fn settle(&self, id: Id, resolution: Resolution) -> Result<bool> {
        let now = self.0.clock.now();
        let (state, due, reason) = match resolution {
            Resolution::Sent => (State::Accepted, None, "a person confirmed that it was sent"),
            Resolution::NotSent => (State::Rejected, None, "a person confirmed that it was not sent"),
            Resolution::Resend => (State::Queued, Some(now), "resent by a person"),
        };
        let from: &[State] = match resolution {
            Resolution::Resend => &SENDABLE,
            Resolution::Sent | Resolution::NotSent => &[State::Unknown, State::Parked],
        };
        // A person has confirmed it, whatever the gateway later reports about its delivery.
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
            self.0.log_state(line, Some(id), state, reason, None);
        }
        self.0.to_read.notify_all();
        line.is_some()
    }
}

impl Inner {
    fn line(&self, line: &str) -> Result<&Line> {
        self.lines.get(line).ok_or_else(|| {
            let known = self.lines.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            Error::invalid("line", format!("unknown line; known lines: {known}"))
        })
    }

    /// Refuses a line that neither the switchboard nor its store has.
    async fn known(&self, line: &str) -> Result<()> {
        match self.line(line) {
            Err(unknown) if !self.store.0.has_line(line).await? => Err(unknown),
            _ => Ok(()),
        }
    }

    /// Assigns an event to its line: none for an event of no account of ours, or of an account as such.
    fn incoming(&self, event: Event) -> Incoming {
        let envelope = event.envelope();
        let line = match event {
            Event::Account(_) => None,
            _ => {
                let account = [envelope.gateway.to_string(), envelope.account.as_str().to_owned()];
                let media = self.accounts.get(&account).map(Vec::as_slice).unwrap_or_default();
                let line = media.iter().find(|(medium, _)| *medium == envelope.medium);
                // Keep in step with Line::channel_of.
                let line = line.or_else(|| media.first().filter(|_| matches!(envelope.medium, Medium::Other(_))));
                line.map(|(_, line)| line.clone())
            }
        };
        // Without a channel there is nothing to fetch from.
        let fetch = self.media.is_some() && line.is_some();
        Incoming { line, event, fetch, auto_reply: None }
    }

    /// Adds to a waiting message why its accounts send nothing, as far as this worker has found.
    fn explained(&self, mut status: Status) -> Status {
        let waits = matches!(status.state, State::Queued | State::Deferred) && status.reason.is_none();
        if let (true, Some(to), Some(line)) = (waits, &status.recipient, self.lines.get(&status.line)) {
            let suspended = |info| lock(self.account_states.get(&account(info))?).suspension().cloned();
            let all: Option<Vec<_>> = line.suppliers(to).into_iter().map(|channel| suspended(channel.info())).collect();
            status.reason = all.and_then(|all| all.into_iter().next()).map(|one| outbox::suspended(&one.reason));
        }
        status
    }

    /// Logs a state transition. A message without an id was not stored.
    fn log_state(&self, line: &str, id: Option<Id>, state: State, why: Option<&str>, person: Option<&Address>) {
        let person = || Some(person?.fingerprint(self.pepper.as_ref()?));
        telemetry::transition(line, id.map(|id| id.0), state.as_str(), state.is_actionable(), why, person);
    }

    /// Checks a message, has the policy decide about it, and returns it as one to enqueue.
    async fn prepare(&self, line: &str, outgoing: Outgoing, at: Timestamp) -> Result<(New, Intake)> {
        let of = self.line(line)?;
        of.check_message(&outgoing.message)?;
        if let Some(fallback) = &outgoing.fallback {
            fallback.check(of, &outgoing.message)?;
        }
        let now = self.clock.now();
        let (due, deferred) = match self.due(line, &outgoing, at, now).await {
            Ok(due) => due,
            // A message stored earlier is returned, whatever the policy decides now.
            Err(error) => match &outgoing.message.key {
                Some(key) if self.store.0.by_key(line, key).await?.is_some() => (now, None),
                _ => {
                    if error.kind() == ErrorKind::Refused {
                        let (why, to) = (error.to_string(), &outgoing.message.to);
                        self.log_state(line, None, State::Refused, Some(&why), Some(to));
                    }
                    return Err(error);
                }
            },
        };
        let Outgoing { mut message, fallback } = outgoing;
        let key = match &message.key {
            Some(key) => key.clone(),
            None => self.new_key()?,
        };
        message.key = Some(key.clone());
        let (priority, to) = (status::priority(message.purpose), message.to.clone());
        let why = deferred.as_ref().map(ToString::to_string);
        let account = of.only_account(&message, &[], now);
        let new = New { line: line.to_owned(), key, message, priority, account, due, deferred, fallback, now };
        let intake = Intake { to, state: new.state(), why };
        Ok((new, intake))
    }

    /// Returns when a new message is due, and the policy's reason if it was deferred. Fails if it is refused or cannot
    /// be sent in time.
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
            // It is refused when it is due, and its fallback is sent.
            Decision::Refuse(reason) if reason.is_for_medium() && outgoing.fallback.is_some() => (due, None),
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
        self.random.fill(&mut bytes)?;
        Ok(base16ct::lower::encode_string(&bytes))
    }
}

/// Returns the error for a message that the policy refuses.
fn refused(reason: &policy::Reason) -> Error {
    Error::new(ErrorKind::Refused, reason.to_string()).with_known_code(reason.rule())
}

/// An account with its own rate: gateway, medium and account.
type Account = [String; 3];

fn account(info: &Info) -> Account {
    [info.gateway.to_owned(), info.medium.as_str().to_owned(), info.account.as_str().to_owned()]
}

/// Returns the name of an account in the store.
fn account_id(account: &Account) -> String {
    account.join("/")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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

    /// Adds a webhook route and the lines behind it: one app at a gateway may serve many. Its name is one segment of a
    /// URL's path. A webhook is accepted if the
    /// secret of one of these lines verifies it. Each event is assigned to the line that has its account, behind this
    /// route or not.
    #[must_use]
    pub fn route<L: Into<String>>(mut self, name: impl Into<String>, lines: impl IntoIterator<Item = L>) -> Self {
        self.routes.push((name.into(), lines.into_iter().map(Into::into).collect()));
        self
    }

    /// Sets the retry schedule.
    ///
    /// The default is 20 attempts within a day, with backoff from up to 2 seconds to up to an hour.
    #[must_use]
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = schedule;
        self
    }

    /// Sets the policy, which decides whether a message may be sent.
    ///
    /// It decides when a message is enqueued, and again just before the send. While the policy fails, messages wait.
    ///
    /// It has 10 seconds for each decision, and a panic counts as a failure. A message for which it keeps failing is
    /// decided with backoff, and parked after 20 failures; other messages are not affected.
    #[must_use]
    pub fn policy(mut self, policy: impl Policy) -> Self {
        self.policy = Some(Arc::new(policy));
        self
    }

    /// Sets how long the claims of a silent worker last before another worker takes them over: 3 minutes by default.
    /// The outcome of what it was sending is then unknown, and [`OnUnknown`](crate::OnUnknown) of each message applies.
    ///
    /// It must exceed the longest send by two seconds, and be at least 100 milliseconds: a worker that takes longer
    /// loses its claim, and the result of its send is discarded. A send is therefore abandoned after nine tenths of the
    /// lease, with an unknown outcome. A call of the transport in this crate ends after 30 seconds, and a message with
    /// a file may need two. A SQLite store has one worker, which takes over at once when it starts.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets the maximum number of messages in flight for one account: 32 by default, and at least 1.
    ///
    /// A slow or hanging gateway therefore does not delay other accounts.
    #[must_use]
    pub fn max_in_flight(mut self, max: u32) -> Self {
        self.max_in_flight = max.max(1);
        self
    }

    /// Sets the store for the files of residents' messages.
    ///
    /// They are fetched at once, because some gateways' links live for five minutes. Set it in every program that
    /// receives webhooks, and in the worker, which fetches.
    ///
    /// A message with files is held back until each file is fetched or has failed, for at most a minute; later messages
    /// may be delivered first. See [`InboxEvent::files`]. Eight files are fetched at once. A transient failure is
    /// retried after a second, with backoff, for a day; an interrupted fetch is repeated. Without a store nothing is
    /// fetched or held back: fetch the files of [`Inbound::media`] yourself, at once, with [`Channel::fetch_media`].
    ///
    /// The switchboard owns the files: [`Line::retention`] removes them with the message, unless another message has
    /// the same file or a waiting one sends it.
    #[must_use]
    pub fn media(mut self, media: impl MediaStore) -> Self {
        self.media = Some(Arc::new(media));
        self
    }

    /// Sets the pepper of the fingerprints that represent persons in `tracing` events and in the register of
    /// [`opt_outs`](Switchboard::opt_outs). With the pepper of [`Trace`](crate::layer::Trace) both show the same
    /// fingerprint. Without one no person appears in the trace, and an opt-out ends with the erasure of its person.
    ///
    /// Every program on a store needs the same pepper. Keep it as long as the register: an entry of an erased person
    /// matches nobody under another pepper.
    #[must_use]
    pub fn pepper(mut self, pepper: Secret) -> Self {
        self.pepper = Some(pepper);
        self
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the source of random bytes, for keys and jitter.
    #[must_use]
    pub fn random(mut self, random: impl Random) -> Self {
        self.random = Arc::new(random);
        self
    }

    /// Builds the switchboard.
    ///
    /// # Errors
    /// [`ErrorKind::Config`]: no line; a duplicate line, a line without a channel or with a channel that has layers; an
    /// account in two lines; a line that receives a gateway in a way that its channel lacks; an auto-reply without hours,
    /// or without a text in a language of its line; a route that is a duplicate, has no name or no lines, names an unknown line, or has no
    /// channel that can verify webhooks; a budget with the name of another, for an unknown line, or in a currency in which
    /// a channel that it covers has no tariff; a lease below 100 milliseconds.
    pub fn build(self) -> Result<Switchboard> {
        if self.lease < worker::LEASE_MIN {
            return Err(Error::config("lease", "must be at least 100 milliseconds, and longer than any send"));
        }
        if let Some(fault) = check::faults(&self.lines, &self.routes, &BTreeSet::new()).into_iter().next() {
            return Err(fault);
        }
        let budgets = Budgets::new(self.budgets, self.tariffs)?;
        if let Some(fault) = budgets.faults(&self.lines).into_iter().next() {
            return Err(fault);
        }
        let (mut lines, mut limits, mut choices) = (BTreeMap::new(), HashMap::new(), HashMap::new());
        let (mut account_states, mut auto_replies) = (HashMap::new(), HashMap::new());
        for line in self.lines {
            if let Some(auto_reply) = line.out_of_hours()? {
                auto_replies.insert(line.id.clone(), auto_reply);
            }
            for info in line.channels.iter().map(|channel| channel.info()) {
                let can = &info.capability;
                account_states.entry(account(info)).or_insert_with(Mutex::default);
                limits.entry(account(info)).or_insert_with(|| Mutex::new(Limiter::new(can.rate, can.pair_rate)));
                let suppliers = line.channels.iter().filter(|channel| channel.info().medium == info.medium).count();
                let choice = Selector::new(suppliers, Order::Preferred)?;
                choices.insert((line.id.clone(), info.medium.as_str().to_owned()), Mutex::new(choice));
            }
            lines.insert(line.id.clone(), line);
        }
        let channels = |of: &[String]| {
            let of = of.iter().filter_map(|line| lines.get(line));
            Route::new(of.flat_map(|line: &Line| &line.channels))
        };
        let routes = self.routes.iter().map(|(name, of)| (name.clone(), channels(of))).collect();
        let routed: BTreeSet<_> = self.routes.iter().flat_map(|(_, of)| of).collect();
        let polled = lines.values().flat_map(|line| line.polled(routed.contains(&line.id))).cloned().collect();
        let mut accounts = HashMap::<_, Vec<_>>::new();
        for line in lines.values() {
            for info in line.channels.iter().map(|channel| channel.info()) {
                let account = [info.gateway.to_owned(), info.account.as_str().to_owned()];
                accounts.entry(account).or_default().push((info.medium.clone(), line.id.clone()));
            }
        }
        let to_read = EventNotify::new(lines.keys());
        let rules = lines.values().map(|line: &Line| (line.id.clone(), line.rules())).collect();
        self.store.0.configure(Directory { lines: rules, pepper: self.pepper.clone() });
        Ok(Switchboard(Arc::new(Inner {
            store: self.store,
            lines,
            routes,
            polled,
            accounts,
            schedule: self.schedule,
            policy: self.policy,
            budgets,
            recent: self.limits,
            auto_replies,
            lease: self.lease,
            clock: self.clock,
            random: self.random,
            media: self.media,
            pepper: self.pepper,
            limits,
            account_states,
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
