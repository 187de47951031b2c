//! The durable record: what a switchboard needs of a database.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::future::{self, Future};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::Line;
use super::conversation::{Entry, Place};
use super::fallback::{Answer, Fallback, Falls, First, ON_FAILURE};
use super::file::File;
use super::outbox::{self, Id, PRIORITY_LAST, SendAttempt, Settled, State, Status};
use super::watch::Stats;
use crate::address::{Address, Phone};
use crate::channel::{Channel, Cursor};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::delivery::DeliveryState;
use crate::error::ErrorKind;
use crate::error::{Error, Result};
use crate::event::{Delivery, Event, OptOutScope};
use crate::id::{Digest, MessageId};
use crate::media::Stored;
use crate::message::{Message, Money};
use crate::policy::{self, Decision};

// The tests of the whole want more of it.
#[allow(dead_code)]
#[cfg(all(test, feature = "postgres"))]
mod cluster;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite-system")]
mod sqlite;
#[cfg(test)]
mod suite;

/// The durable record of a switchboard.
///
/// ```no_run
/// # async fn run() -> civic_messaging::Result<()> {
/// use civic_messaging::switchboard::Store;
///
/// # #[cfg(feature = "sqlite-system")]
/// let store = Store::open("sqlite:desk.db").await?;
/// # #[cfg(feature = "postgres")]
/// let store = Store::open("postgres://desk@db.example.gov.uk/messages?sslmode=require").await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Store(pub(super) Arc<dyn Engine>);

impl Store {
    /// Opens a store: `sqlite:` and a path, or `postgres://` and where the database is.
    ///
    /// **SQLite** (features `sqlite` and `sqlite-system`): the file is made where it is not there yet, and brought up to
    /// date. `sqlite::memory:` is one that lives as long as it is held, for tests. One worker at a time.
    ///
    /// **PostgreSQL** (feature `postgres`), from version 12: `postgres://user:password@host:port/database?options`, as
    /// `tokio-postgres` reads it. A folder for the host is that of the Unix socket, written `%2Fvar%2Frun%2Fpostgresql`.
    /// `sslmode` is `disable`, `prefer` (which it is without, and which speaks in the clear with a server that has no
    /// TLS) or `require`; where there is TLS, the certificate has to be one that this machine trusts, for this host;
    /// docs/operations.md says how it trusts an authority of your own.
    ///
    /// Several workers may run at once, in several processes. Claims, and what is due, go by the clock of the database:
    /// those of the machines need not agree with it. Everything lies in the schema `civic_messaging`, which has to be
    /// there: see [`migrate`](Self::migrate). Four sessions are held at most, and a fifth that listens for what other
    /// processes put there; they keep statements prepared: a pooler before the server has to give out whole sessions, not
    /// transactions. It runs within tokio.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for another scheme; a path that cannot be opened, a file that is no
    /// database; a server that does not let the user in; tables that lack a step, and those of a version that is too new:
    /// for PostgreSQL by more than one step, so that the database may be ahead of the programs.
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) for a server that cannot be reached.
    pub async fn open(url: &str) -> Result<Self> {
        match Home::of(url)? {
            #[cfg(feature = "sqlite-system")]
            Home::Sqlite(path) => Ok(Self(Arc::new(sqlite::Sqlite::open(path).await?))),
            #[cfg(feature = "postgres")]
            Home::Postgres(url) => Ok(Self(Arc::new(postgres::Postgres::open(url).await?))),
        }
    }

    /// Makes the tables in a database, or brings them up to date: each step that is missing, all or none. It goes forward
    /// only, and may be run by several at once. The user needs the right to create in the database; the programs that work
    /// on it later do not.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub async fn migrate(url: &str) -> Result<()> {
        match Home::of(url)? {
            #[cfg(feature = "sqlite-system")]
            Home::Sqlite(path) => sqlite::Sqlite::open(path).await.map(|_| ()),
            #[cfg(feature = "postgres")]
            Home::Postgres(url) => postgres::migrate(url).await,
        }
    }

    /// The SQL that [`migrate`](Self::migrate) would run on this database now, for a DBA to read and to run. It is empty
    /// when nothing is missing, and always for SQLite, where [`open`](Self::open) does it.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub async fn migrations(url: &str) -> Result<String> {
        match Home::of(url)? {
            #[cfg(feature = "sqlite-system")]
            Home::Sqlite(_) => Ok(String::new()),
            #[cfg(feature = "postgres")]
            Home::Postgres(url) => postgres::migrations(url).await,
        }
    }
}

/// Where a store is.
enum Home<'a> {
    #[cfg(feature = "sqlite-system")]
    Sqlite(&'a str),
    #[cfg(feature = "postgres")]
    Postgres(&'a str),
}

impl<'a> Home<'a> {
    fn of(url: &'a str) -> Result<Self> {
        match url.split_once(':') {
            #[cfg(feature = "sqlite-system")]
            Some(("sqlite", path)) => Self::sqlite(path),
            #[cfg(not(feature = "sqlite-system"))]
            Some(("sqlite", _)) => Err(Error::config("store", "needs the feature sqlite of this crate")),
            #[cfg(feature = "postgres")]
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres(url)),
            #[cfg(not(feature = "postgres"))]
            Some(("postgres" | "postgresql", _)) => {
                Err(Error::config("store", "needs the feature postgres of this crate"))
            }
            _ => Err(Error::config("store", "must be sqlite: and the path of a file, or postgres:// and a database")),
        }
    }

    /// What SQLite would take for a file that is gone tomorrow, or for another file than is meant, is refused.
    #[cfg(feature = "sqlite-system")]
    fn sqlite(path: &'a str) -> Result<Self> {
        let wrong = |rule| Err(Error::config("store", rule));
        match path {
            ":memory:" => Ok(Self::Sqlite(path)),
            _ if path.trim().is_empty() => wrong("needs the path of a file after sqlite:, or :memory: in tests"),
            _ if path.starts_with("//") => wrong("is sqlite: and a path, without the two slashes: sqlite:desk.db"),
            _ if path.contains('?') => wrong("takes no options after the path of the file"),
            _ if path.trim_matches(':') == "memory" => wrong("is sqlite::memory: where it lives in memory"),
            _ => Ok(Self::Sqlite(path)),
        }
    }
}

impl Store {
    /// Says that this store was restored from a backup that was made at that moment: call it once, before a worker runs.
    ///
    /// So is a file that was put back with a part of its log (`-wal`), or with none.
    ///
    /// What waits in it may have gone since the backup was made. None of it is sent until a gateway says that it does not
    /// have it, which it is asked after ten minutes, or a person decides; what is planned for later than now stays as it
    /// is. Says how many messages are held so.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a store in SQLite that has a worker,
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) for a moment that is still to come,
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when the store does not work.
    pub async fn restored(&self, at: Timestamp) -> Result<u64> {
        let now = SystemClock::new().now();
        if at > now {
            return Err(Error::invalid("at", "is still to come: say when the backup was made"));
        }
        let _working = self.0.lock().await?;
        self.0.restored(at, now).await
    }
}

impl Store {
    /// Checks the whole store: each message against the digest that was made when it was taken, and in SQLite the tables and
    /// indexes as well. It reads everything, beside the work that goes on: seconds for a million messages.
    ///
    /// A file of SQLite is checked when it is opened after a crash, and when it is a copy of one that was open. Run this every
    /// now and then, and after a fault of the disk.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a store that is damaged,
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when the store does not work.
    pub async fn check(&self) -> Result<()> {
        match self.0.check().await? {
            0 => Ok(()),
            1 => Err(Error::config("store", "holds a message that is not as it was taken: restore a backup")),
            n => Err(Error::config(
                "store",
                format!("holds {n} messages that are not as they were taken: restore a backup"),
            )),
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

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

    /// Claims messages that are due, in the order of their priority and of their conversations.
    async fn claim(&self, now: Timestamp, lease: Duration, most: u32) -> Result<Vec<Claimed>>;

    /// Gives a claimed message back, to be claimed at that time, and notes why. False: the claim was another's by then.
    async fn release(&self, hold: Hold, due: Timestamp, why: &'static str) -> Result<bool>;

    /// Notes what the policy said of a claimed message when it was not yes, and puts it off or ends it. False: the claim
    /// was another's by then.
    async fn ruled(&self, hold: Hold, ruling: Ruling) -> Result<bool>;

    /// The messages whose fallbacks are to be looked at now.
    async fn falling(&self, now: Timestamp) -> Result<Vec<Falling>>;

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
    async fn restored(&self, at: Timestamp, now: Timestamp) -> Result<u64>;

    /// Messages that may have gone, and that it is time to ask about: they are not given out again for this long.
    async fn doubtful(&self, now: Timestamp, wait: Duration, most: u32) -> Result<Vec<Claimed>>;

    /// Lets nothing go instead of a message that may have gone, or failed too often, any more. Another one is left as it is.
    async fn hold_fallback(&self, id: Id) -> Result<()>;

    /// The messages of a line that stand there, the oldest first, after one.
    async fn standing(&self, line: &str, state: State, after: Option<Id>, most: u32) -> Result<Vec<Status>>;

    /// Puts a message into another state, and gives its line. None: it did not stand where it is settled from.
    async fn settle(&self, id: Id, settled: Settle) -> Result<Option<String>>;

    /// Takes events in, and where to go on polling; those that are there already are left out. How many were new.
    async fn take_in(&self, events: Vec<Incoming>, cursor: Option<(String, Cursor)>, now: Timestamp) -> Result<usize>;

    /// Where to go on polling.
    async fn cursor(&self, channel: &str) -> Result<Option<Cursor>>;

    /// The oldest events that nobody holds and nobody acknowledged, so many at most.
    async fn next_batch(&self, of: &EventFilter, now: Timestamp, lease: Duration, most: u32) -> Result<Vec<Handed>>;

    /// The oldest of these of a line, or of all.
    #[cfg(test)]
    async fn next(&self, line: Option<&str>, now: Timestamp, lease: Duration) -> Result<Option<Handed>> {
        let of = line.map_or(EventFilter::All { own: Vec::new() }, |line| EventFilter::Line(line.to_owned()));
        Ok(self.next_batch(&of, now, lease, 1).await?.pop())
    }

    /// Acknowledges an event.
    async fn ack(&self, event: i64, now: Timestamp) -> Result<()>;

    /// Puts an event off that was handed out and failed, or parks it if it failed too often; one that is parked is handed out
    /// again. Returns `true` if it is parked now.
    async fn nack(&self, event: i64, until: Timestamp, now: Timestamp) -> Result<bool>;

    /// The parked events, the oldest first, after one.
    async fn parked_events(&self, of: &EventFilter, after: i64, now: Timestamp, most: u32) -> Result<Vec<Handed>>;

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

    /// Notes who answers for what.
    async fn note(&self, lines: Vec<Line>) -> Result<()>;

    /// Notes that a worker of these lines is at work.
    async fn attend(&self, lines: Vec<String>, now: Timestamp) -> Result<()>;

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

    /// Files that nothing refers to any more, and that are to be removed within this time: then they are told again.
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

/// A message that waits for a worker, by the clock of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) due: Timestamp,
    /// When a worker of its line was last at work.
    pub(super) attended: Option<Timestamp>,
    pub(super) now: Timestamp,
}

/// What is rung for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bell {
    ToSend,
    ToRead,
}

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
    fn fallback_due(&self) -> Option<Timestamp> {
        self.fallback.as_ref().map(|fallback| fallback.due(self.due))
    }

    /// Whether what is there under its key is the same message: to the letter, or when it is read, since another program
    /// may have written it.
    fn is(&self, digest: &str, there: &There) -> bool {
        let reads = |fallback: &str| serde_json::from_str::<Fallback>(fallback).ok();
        digest == there.digest
            || serde_json::from_str::<Message>(&there.body).is_ok_and(|there| there == self.message)
                && there.fallback.as_deref().and_then(reads) == self.fallback
    }
}

/// What is there under a key.
struct There {
    digest: String,
    body: String,
    fallback: Option<String>,
}

/// By which the same message is known: what it says, and what goes instead of it.
fn digest_of(body: &str, fallback: Option<&str>) -> String {
    match fallback {
        None => Digest::of(body.as_bytes()),
        Some(fallback) => Digest::of(format!("{body}\n{fallback}").as_bytes()),
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
}

impl Attempt {
    /// One that begins.
    pub(super) fn new(gateway: &str, account: &str, at: Timestamp) -> Self {
        let (gateway, account) = (gateway.to_owned(), account.to_owned());
        let (doubted, passing, died, suspended, bound) = (false, false, false, false, false);
        Self { gateway, account, at, reference: None, doubted, passing, died, suspended, bound }
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
    /// What is told of the attempt: outcome, kind and code.
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
    /// Which fallbacks are looked at now, the message being on this rung: those that are due after this moment. All,
    /// where it certainly does not arrive; those that wait for a failure, where nothing more is done about it.
    fn looked_at(&self, delivery: Option<&str>) -> Option<Timestamp> {
        if self.state.is_no() || delivery.and_then(rung_of).is_some_and(DeliveryState::is_failure) {
            return Some(self.now);
        }
        (self.state == State::Parked).then(|| ON_FAILURE.minus(Duration::from_millis(1)))
    }
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

/// An event that came, and the line that it is of.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) line: Option<String>,
    pub(super) event: Event,
    /// Its files are fetched, and it is held back for them.
    pub(super) fetch: bool,
}

/// An event that is put down: beside what it says.
struct Put<'a> {
    line: Option<&'a str>,
    /// None for one of our own, which comes once.
    dedupe: Option<&'a str>,
    kind: &'static str,
    person: Option<&'a str>,
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
    /// It will not be had, and why.
    Failed(String),
    Held(Stored),
}

/// How long an event is held back for its files.
const HELD_BACK: Duration = Duration::from_secs(60);

/// How soon a file is fetched again that was being removed.
const AFTER_REMOVAL: Duration = Duration::from_secs(5);

/// How long deliveries are kept that are of no message of ours, or not yet.
const EARLY_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// The status of a message as a row has it, beside what is the same in every store.
struct Kept {
    id: i64,
    line: String,
    key: String,
    /// Its tag, once its content was removed.
    tag: Option<String>,
    state: State,
    due: Option<Timestamp>,
    attempts: u32,
    delivery: Option<String>,
    reason: Option<String>,
    gateway_id: Option<String>,
    instead_of: Option<i64>,
    fallback: Option<i64>,
    /// The last refusal of our own: the decision and its rule.
    refusal: Option<(String, String)>,
}

impl Kept {
    /// The status of a message that says this, where it can be read, and was sent like this.
    fn status(self, message: Option<&Message>, history: Vec<SendAttempt>) -> Status {
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
            delivery: self.delivery.as_deref().and_then(rung_of),
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
fn named<'a, T: Deserialize<'a>>(name: &'a str) -> Option<T> {
    let name: serde::de::value::BorrowedStrDeserializer<'a, serde::de::value::Error> =
        serde::de::value::BorrowedStrDeserializer::new(name);
    T::deserialize(name).ok()
}

/// Reads a price as it is kept.
fn price_of(micros: Option<i64>, currency: Option<&str>) -> Option<Money> {
    Some(Money { micros: micros?, currency: named(currency?)? })
}

/// An event that is handed out.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) id: i64,
    pub(super) line: Option<String>,
    pub(super) what: What,
    /// How often it was handed out, this time included.
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
    fn foreign(&self, attended: Vec<String>) -> Vec<String> {
        match self {
            Self::Line(_) => Vec::new(),
            Self::All { own } => attended.into_iter().filter(|line| !own.contains(line)).collect(),
        }
    }
}

/// How long the events of a line are left to the programs that worked on it, after the last of their workers was seen: longer
/// than any outage that nobody notices.
const ABANDONED: Duration = Duration::from_secs(7 * 24 * 3600);

/// How often an event is handed out, until it is parked.
pub(super) const EVENT_ATTEMPTS: u32 = 10;

impl Handed {
    /// Begins another attempt, and says how many there are with it. One that this program cannot read is no attempt.
    fn begins(&mut self) -> u32 {
        self.attempts += u32::from(!matches!(self.what, What::Unreadable));
        self.attempts
    }
}

/// What is handed out.
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

/// Why a message stands in doubt that comes from a backup.
const RESTORED: &str = "the store was restored from a backup: it may have gone since";

/// Why a message that may have gone is settled by a delivery.
const TOLD: &str = "the gateway told of it";

/// Why a message is called back whose fallback goes.
pub(super) const FELL_BACK: &str = "its time was up: what goes instead of it goes";

/// Why a message ends whose person said STOP.
pub(super) const OPTED_OUT: &str = "the person said STOP after it was taken";

/// Why what goes instead of a message waits for a person.
const FALLBACK_RESTORED: &str = "the store was restored from a backup: it may have gone instead of its message since";

/// How long a fallback is left alone that this program cannot read.
const UNREADABLE_WAIT: Duration = Duration::from_secs(60);

/// How many fallbacks are looked at in one transaction.
const FALLBACKS_MAX: u32 = 100;

/// Why a fallback never goes where nobody can tell whether its message was delivered.
const UNCLEAR: &str = "the gateway was asked, and could not tell whether it was delivered";

/// What the policy and the gateways say for fallbacks, by the numbers of their messages.
pub(super) type Answers = HashMap<i64, Answer>;

/// A message that has a fallback.
pub(super) struct Falling {
    id: i64,
    line: String,
    key: String,
    lookups: u32,
    /// None where this program cannot read it: one of a newer version may.
    fallback: Option<Fallback>,
    first: First,
}

/// What is put down of a fallback that was looked at.
struct Looked {
    falls: Falls,
    /// When it is looked at again.
    again: Option<Timestamp>,
    /// What was said of it when it was not yes.
    said: Option<(&'static str, policy::Reason)>,
}

impl Falling {
    /// What the policy is to be asked of before its message is called back: the message, the line, and what would go.
    pub(super) fn asks_policy(&self) -> Option<(i64, &str, &Message)> {
        let fallback = self.fallback.as_ref().filter(|_| self.falls() == Falls::CallsBack)?;
        Some((self.id, &self.line, &fallback.message))
    }

    /// The message of which it is to be known whether it was delivered.
    pub(super) fn asks_gateway(&self) -> Option<i64> {
        (self.falls() == Falls::Asks).then_some(self.id)
    }

    fn falls(&self) -> Falls {
        self.fallback.as_ref().map_or(Falls::Waits, |fallback| fallback.falls(&self.first))
    }

    /// What becomes of it by these answers.
    fn looked_at(&self, answers: &Answers, now: Timestamp) -> Looked {
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
    fn instead(self, now: Timestamp) -> Option<New> {
        if self.falls() == Falls::Never {
            return None;
        }
        let mut message = self.fallback?.message;
        let key = format!("fallback-{}", Digest::of(self.key.as_bytes()));
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

/// What a gateway told of a message.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Told {
    state: DeliveryState,
    /// It did not arrive, because the person said STOP.
    opted_out: bool,
}

impl Told {
    fn by(delivery: &Delivery) -> Self {
        let opted_out = delivery.failure.as_ref().is_some_and(|failure| failure.kind == ErrorKind::OptedOut);
        Self { state: delivery.state, opted_out }
    }
}

/// Reads a message as it is kept: none where this program cannot; and whether it is damaged, by the digest that was made
/// of it when it was taken.
fn message_of(body: &str, fallback: Option<&str>, digest: &str) -> (Option<Message>, bool) {
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
fn tag_of(body: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Tagged {
        tag: Option<String>,
    }
    serde_json::from_str::<Tagged>(body).ok()?.tag
}

/// Reads a rung of the ladder as it is kept.
fn rung_of(text: &str) -> Option<DeliveryState> {
    serde_json::from_str(text).ok()
}

/// Whose deliveries these are, where they are of all that a person had.
fn told_by(delivery: &Delivery) -> Option<&Address> {
    delivery.recipient.as_ref().or(delivery.envelope.conversation.as_ref())
}

/// The two addresses of one person that an event tells of: the one that leads to the other.
fn link_of(event: &Event) -> Option<(&str, &Address)> {
    match event {
        Event::AddressChanged(changed) => Some((changed.previous.expose(), &changed.current)),
        Event::Inbound(inbound) => Some((number_of(inbound.answer_to())?, inbound.answer_to())),
        Event::Delivery(delivery) => {
            let recipient = delivery.recipient.as_ref()?;
            Some((number_of(recipient)?, recipient))
        }
        _ => None,
    }
}

/// The number of a person who is known by more than that.
fn number_of(person: &Address) -> Option<&str> {
    match person {
        Address::WhatsApp(user) if user.user_id().is_some() => user.phone().map(Phone::as_str),
        _ => None,
    }
}

impl End {
    /// The names that lead to the recipient as the gateway calls it: what the message was addressed to, and the number
    /// of a person who hides it. On WhatsApp alone: elsewhere a gateway repeats what it was told.
    fn names<'e>(&'e self, addressed: &'e str) -> impl Iterator<Item = (&'e str, &'e Address)> {
        let recipient = self.recipient.as_ref().filter(|recipient| matches!(recipient, Address::WhatsApp(_)));
        let names = recipient.into_iter().flat_map(move |recipient| {
            [Some(addressed), number_of(recipient)].into_iter().flatten().map(move |name| (name, recipient))
        });
        names.filter(|(name, recipient)| *name != recipient.expose())
    }
}

/// Who said STOP, by each of their names, and from which priority on their messages end.
fn opt_out_of(event: &Event) -> Option<(Vec<String>, u8)> {
    let Event::OptOut(wish) = event else { return None };
    let names = [Some(wish.from.expose()), wish.from.as_phone().map(Phone::as_str)];
    let from = match wish.scope {
        OptOutScope::All => 0,
        OptOutScope::Marketing => PRIORITY_LAST,
    };
    (!wish.resume).then(|| (names.into_iter().flatten().map(str::to_owned).collect(), from))
}

/// From which priority on other fallbacks of a person end who said STOP to a message of this one.
fn opt_out_from(priority: u8) -> u8 {
    if priority == PRIORITY_LAST { PRIORITY_LAST } else { 0 }
}

/// The end of a message whose person said STOP: by our own will, unless one of its tries may have gone.
fn opted_out(doubted: bool, now: Timestamp) -> Settle {
    let state = if doubted { State::Parked } else { State::Refused };
    let from = &[State::Queued, State::Deferred, State::Claimed];
    Settle { state, due: None, reason: Some(OPTED_OUT.to_owned()), from, now }
}

/// Whose message it is: the person or the conversation that an answer would go to.
fn person_of(event: &Event) -> Option<&str> {
    event.as_inbound().map(|inbound| inbound.answer_to().expose())
}
