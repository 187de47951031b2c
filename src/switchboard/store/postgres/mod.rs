//! The PostgreSQL store, for several workers at once.
//!
//! Locks do here what the single writer thread does in SQLite, each with its reason beside it: for a conversation in
//! `claim`, for a row wherever it is read to be written, for a delivery in `lock_names`. A lock that may block is taken
//! before any row lock, to prevent deadlocks; for the deadlocks that remain, the server aborts one side, and its work
//! is repeated.
//!
//! Every time in the database is by its own clock, so the workers' clocks need not agree: the methods of `Engine`, and
//! nothing else, convert the times of a program.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::config::Host;
use tokio_postgres::{Config, Row};

use super::super::Line;
use super::super::campaign::Campaign;
use super::super::conversation::{Entry, Place};
use super::super::conversations::{ConversationFilter, ConversationPlace, ConversationRow};
use super::super::directory::{Addressee, Directory, Named};
use super::super::engine::{Engine, Notification};
use super::super::fallback::Answer;
use super::super::file::File;
use super::super::flow::{self, Tx};
use super::super::lanes::{Claims, Rooms};
use super::super::messages::{CancelledPart, MessageFilter};
use super::super::people::{LinkChange, PersonLink, PersonLinkRow};
use super::super::record::{
    Answers, Attempt, Bounded, Claimed, ClaimedFile, End, Enqueued, EventFilter, FallbackResults, FallbackRow, Fetched,
    FileHold, Hold, InboxEvent, Incoming, Leases, New, PutOff, Recovered, Reserved, Ruling, Settle, StatusRow,
    Unbounded, Wait, Written, message_of, named, price_of,
};
use super::super::register::{Begun, Lift, OptOutEntry, Preference, PreferenceKind, Verdict};
use super::super::status::{Id, SendAttempt, State, Status};
use super::super::watch::Stats;
use crate::model::clock::{Clock, SystemClock, Timestamp};
use crate::model::digest::Digest;
use crate::model::error::{Error, Result};
use crate::model::id::{AccountId, is_code};
use crate::model::message::Message;
use crate::model::poll::Cursor;
use crate::policy::{Decision, Reason};

/// The delivery state that the mark of its conversation gives an accepted message `m`.
macro_rules! mark {
    () => {
        "(SELECT CASE WHEN c.read_up_to >= a.begun THEN '\"read\"' WHEN c.delivered_up_to >= a.begun THEN '\"delivered\"' END
          FROM civic_messaging.attempt AS a JOIN civic_messaging.conversation AS c
              ON c.line = m.line AND c.person = m.recipient AND c.gateway = a.gateway AND c.account = a.account
          WHERE a.message = m.id AND a.n = m.attempts AND m.state = 'accepted')"
    };
}

mod budgets;
mod claim;
mod conversations;
mod file;
mod group;
mod keep;
mod limits;
mod listen;
mod locks;
mod messages;
mod people;
mod register;
mod session;
mod standing;
mod time;
mod together;
mod tx;

use claim::read_claimed;
use group::{Groups, Kind};
use listen::Listener;
use session::{Fault, Session, Sessions};
use tx::{FALLING, fallbacks};

/// The migrations from each version of the tables to the next; the table `migration` has the version of a database.
const MIGRATIONS: &[&str] = &[include_str!("schema.sql")];

/// One migration at a time.
const LOCK_MIGRATION: &str = "SELECT pg_advisory_xact_lock(hashtextextended('civic_messaging.migration', 0))";

/// The maximum length of an indexed text, in bytes.
const INDEXED_MAX: usize = 1000;

pub(super) struct Postgres {
    sessions: Arc<Sessions>,
    /// Enqueues, in a queue of their own: they may wait for a transaction of another program, and a worker must not.
    taking: Groups,
    working: Groups,
    listener: Listener,
    name: String,
    directory: Mutex<Arc<Directory>>,
}

impl Postgres {
    pub(super) async fn open(url: &str) -> Result<Self> {
        Self::open_on(url, Arc::new(SystemClock::new())).await
    }

    /// Opens the store on a machine with this clock.
    async fn open_on(url: &str, clock: Arc<dyn Clock>) -> Result<Self> {
        let config = read(url)?;
        let name = name_of(&config);
        let opened = async {
            let session = Session::open(&config).await?;
            Ok((step_of(&session).await?, session))
        };
        let ((step, session), ours) = (opened.await.map_err(|fault: Fault| fault.error())?, MIGRATIONS.len());
        if step < ours {
            let rule = format!(
                "has its tables at step {step} of {ours}: run Store::migrate as a user who may, or let a DBA run what \
                 Store::migrations writes"
            );
            return Err(Error::config("store", rule));
        }
        // A rolling deployment migrates the database first, one step at a time.
        if step > ours + 1 {
            return Err(Error::config("store", "was made by a much newer version of this program"));
        }
        let store = Self::new(config, clock, name);
        store.sessions.keep(session).await.map_err(|fault| fault.error())?;
        Ok(store)
    }

    fn new(config: Config, clock: Arc<dyn Clock>, name: String) -> Self {
        let sessions = Arc::new(Sessions::new(config.clone(), clock));
        let (taking, working) = (Groups::new(&sessions), Groups::new(&sessions));
        Self { sessions, taking, working, listener: Listener::new(config), name, directory: Mutex::default() }
    }

    fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Converts a program's time to the clock of the database.
    fn at(&self, at: Timestamp) -> Timestamp {
        self.sessions.theirs(at)
    }

    /// Converts the times of attempts to a program's clock.
    fn by_our_clock(&self, mut claimed: Vec<Claimed>) -> Vec<Claimed> {
        for of in &mut claimed {
            let attempts = mem::take(&mut of.attempts).into_iter();
            of.attempts = attempts.map(|attempt| attempt.by_clock(|at| self.sessions.ours(at))).collect();
        }
        claimed
    }

    fn settle_at(&self, settle: Settle) -> Settle {
        Settle { due: settle.due.map(|due| self.at(due)), now: self.at(settle.now), ..settle }
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Postgres").field(&self.name).finish()
    }
}

/// Runs the missing migrations.
pub(super) async fn migrate(url: &str) -> Result<()> {
    bring(url, MIGRATIONS).await
}

async fn bring(url: &str, steps: &[&str]) -> Result<()> {
    let config = read(url)?;
    let migrated = async {
        let session = Session::open(&config).await?;
        session.batch("BEGIN").await?;
        session.batch(LOCK_MIGRATION).await?;
        for (step, sql) in missing(steps, step_of(&session).await?) {
            session.batch(sql).await?;
            session.batch(&note(step)).await?;
        }
        session.batch("COMMIT").await
    };
    migrated.await.map_err(|fault: Fault| fault.error())
}

/// Returns the SQL of the missing migrations.
pub(super) async fn migrations(url: &str) -> Result<String> {
    print(url, MIGRATIONS).await
}

async fn print(url: &str, steps: &[&str]) -> Result<String> {
    let config = read(url)?;
    let step = async { step_of(&Session::open(&config).await?).await };
    let step = step.await.map_err(|fault| fault.error())?;
    let written = |(step, sql)| format!("BEGIN;\n{LOCK_MIGRATION};\n\n{sql}\n{};\nCOMMIT;\n", note(step));
    Ok(missing(steps, step).map(written).collect())
}

fn missing<'a>(steps: &[&'a str], step: usize) -> impl Iterator<Item = (usize, &'a str)> {
    (1..).zip(steps.iter().copied()).skip(step)
}

fn note(step: usize) -> String {
    format!("INSERT INTO civic_messaging.migration (step) VALUES ({step})")
}

/// Returns the version of a database: 0 without our tables.
async fn step_of(session: &Session) -> Result<usize, Fault> {
    let there = session.row("SELECT to_regclass('civic_messaging.migration') IS NOT NULL", &[]).await?;
    if !there.map_or(Ok(false), |row| row.try_get(0))? {
        return Ok(0);
    }
    let step = session.row("SELECT coalesce(max(step), 0) FROM civic_messaging.migration", &[]).await?;
    let step: i32 = step.map_or(Ok(0), |row| row.try_get(0))?;
    Ok(usize::try_from(step).unwrap_or(0))
}

fn read(url: &str) -> Result<Config> {
    // The driver's error may contain the password.
    let wrong = |_| Error::config("store", "is not a PostgreSQL URL: postgres://user@host/database");
    let config: Config = url.parse().map_err(wrong)?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(Error::config("store", "names no host: postgres://user@host/database"));
    }
    Ok(config)
}

/// Returns the database and its host, without the user and the password.
fn name_of(config: &Config) -> String {
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => Cow::Borrowed(&**name),
        #[cfg(unix)]
        Host::Unix(path) => path.to_string_lossy(),
    });
    let hosts = hosts.collect::<Vec<_>>().join(",");
    format!("{hosts}/{}", config.get_dbname().unwrap_or_default())
}

#[async_trait]
impl Engine for Postgres {
    fn configure(&self, directory: Directory) {
        let mut known = self.directory.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Arc::new(known.with(&directory));
    }

    /// Several workers may run: claims keep them apart.
    async fn lock(&self) -> Result<Box<dyn Send>> {
        Ok(Box::new(()))
    }

    async fn enqueue(&self, new: New) -> Result<Enqueued> {
        let new = New { due: self.at(new.due), now: self.at(new.now), ..new };
        let written = Written::new(&new).map_err(|error| Fault::from(error).error())?;
        let new = (self.directory(), new, written);
        self.taking
            .run(Kind::Enqueue, None, new, |db, (of, new, written)| Box::pin(flow::enqueue(db, of, new, written, None)))
            .await
    }

    async fn enqueue_all(&self, all: Vec<New>) -> Result<Vec<Enqueued>> {
        let mut each = Vec::with_capacity(all.len());
        for new in all {
            let new = New { due: self.at(new.due), now: self.at(new.now), ..new };
            let written = Written::new(&new).map_err(|error| Fault::from(error).error())?;
            each.push((new, written));
        }
        let with = (self.directory(), each);
        self.sessions.run(with, |db, (of, each)| Box::pin(enqueue_all(db, of, each))).await
    }

    async fn enqueue_and_ack(&self, new: New, event: i64) -> Result<Enqueued> {
        let new = New { due: self.at(new.due), now: self.at(new.now), ..new };
        let written = Written::new(&new).map_err(|error| Fault::from(error).error())?;
        let new = (self.directory(), new, written);
        self.taking
            .run(Kind::Enqueue, None, new, move |db, (of, new, written)| {
                Box::pin(flow::enqueue_and_ack(db, of, new, written, event))
            })
            .await
    }

    async fn claim(&self, now: Timestamp, lease: Duration, rooms: Rooms) -> Result<Claims> {
        let now = self.at(now);
        self.sessions.run((), move |db, ()| Box::pin(claim::place(db, now))).await?;
        let mut claims =
            self.sessions.run(rooms, move |db, rooms| Box::pin(claim::claim(db, now, lease, rooms))).await?;
        claims.next_due = claims.next_due.map(|due| self.sessions.ours(due));
        claims.claimed = self.by_our_clock(claims.claimed);
        Ok(claims)
    }

    async fn pause(&self, account: String, until: Timestamp) -> Result<()> {
        let set = "INSERT INTO civic_messaging.account AS a (id, next_at) VALUES ($1, $2)
             ON CONFLICT (id) DO UPDATE SET next_at = greatest(a.next_at, excluded.next_at)";
        let until = claim::micros(self.at(until));
        self.sessions
            .run(account, move |db, account| {
                Box::pin(async move { db.change(set, &[&indexed(account), &until]).await.map(drop) })
            })
            .await
    }

    async fn pauses(&self, now: Timestamp) -> Result<Vec<(String, Timestamp)>> {
        let now = self.at(now);
        let paused = self.sessions.run((), move |db, ()| Box::pin(claim::pauses(db, now))).await?;
        Ok(paused.into_iter().map(|(account, until)| (account, self.sessions.ours(until))).collect())
    }

    fn has_shared_rates(&self) -> bool {
        true
    }

    async fn reserve(&self, account: String, interval: Duration, count: u32, now: Timestamp) -> Result<Reserved> {
        let now = self.at(now);
        let reserved =
            self.sessions.run(account, move |db, account| Box::pin(claim::reserve(db, account, interval, count, now)));
        let Reserved { from, count } = reserved.await?;
        Ok(Reserved { from: self.sessions.ours(from), count })
    }

    async fn unhandled_since(&self, id: Id, why: Reason, now: Timestamp) -> Result<Timestamp> {
        let now = self.at(now);
        let since = self.sessions.run(why, move |db, why| Box::pin(flow::unhandled_since(db, id.0, why, now))).await?;
        Ok(self.sessions.ours(since))
    }

    async fn unclaim(&self, hold: Hold) -> Result<()> {
        self.sessions.run((), move |db, ()| Box::pin(claim::unclaim(db, hold))).await
    }

    async fn change_lane(&self, hold: Hold, lane: String) -> Result<()> {
        self.sessions
            .run(lane, move |db, lane| {
                Box::pin(async move {
                    flow::change_lane(db, hold, lane).await?;
                    claim::unclaim(db, hold).await
                })
            })
            .await
    }

    async fn put_off(&self, hold: Hold, off: PutOff) -> Result<bool> {
        let off = PutOff { until: self.at(off.until), ..off };
        self.working
            .run(Kind::PutOff, Some(hold.id.0), off, move |db, off| Box::pin(flow::put_off(db, hold, off)))
            .await
    }

    async fn ruled(&self, hold: Hold, ruling: Ruling) -> Result<bool> {
        let ruling = Ruling { settle: self.settle_at(ruling.settle), ..ruling };
        self.working
            .run(Kind::PutOff, Some(hold.id.0), ruling, move |db, ruling| Box::pin(flow::ruled(db, hold, ruling)))
            .await
    }

    /// `not_after` is by the caller's own clock, as in the message.
    async fn expire(&self, now: Timestamp, max: u32) -> Result<Vec<(Id, String, State)>> {
        let at = self.at(now);
        self.sessions.run((), move |db, ()| Box::pin(flow::expire(db, now, max, at))).await
    }

    async fn due_fallbacks(&self, now: Timestamp) -> Result<Vec<FallbackRow>> {
        let now = self.at(now);
        self.sessions.run((), move |db, ()| Box::pin(fallbacks(db, FALLING, Some(now)))).await
    }

    async fn fall_back(&self, now: Timestamp, mut answers: Answers) -> Result<FallbackResults> {
        for answer in answers.values_mut() {
            if let Answer::Policy(Decision::Defer { until, .. }) = answer {
                *until = self.at(*until);
            }
        }
        let now = self.at(now);
        let with = (self.directory(), answers);
        self.sessions.run(with, move |db, (of, answers)| Box::pin(flow::fall_back(db, of, now, answers))).await
    }

    async fn read(&self, ids: Vec<i64>) -> Result<Vec<Claimed>> {
        let read = self.sessions.run(ids, move |db, ids| Box::pin(read_claimed(db, ids))).await?;
        Ok(self.by_our_clock(read))
    }

    async fn begin_send(&self, hold: Hold, attempt: Attempt, to: Addressee) -> Result<Begun> {
        let with = (self.directory(), attempt.by_clock(|at| self.at(at)), to);
        self.working
            .run(Kind::Begin, Some(hold.id.0), with, move |db, (of, attempt, to)| {
                Box::pin(flow::begin(db, of, (hold, None), attempt, to))
            })
            .await
    }

    async fn used(&self, counters: Vec<String>) -> Result<Vec<i64>> {
        self.sessions.run(counters, |db, counters| Box::pin(flow::used(db, counters))).await
    }

    async fn is_stopped(&self, message: Addressee, now: Timestamp) -> Result<bool> {
        let (with, now) = ((self.directory(), message), self.at(now));
        let decided =
            self.sessions.run(with, move |db, (of, message)| Box::pin(flow::verdict(db, of, message, None, now)));
        Ok(matches!(decided.await?, Verdict::Stopped(_)))
    }

    async fn record_preferences(&self, preferences: Vec<Preference>, now: Timestamp) -> Result<u64> {
        let at =
            |preference: Preference| Preference { recorded: preference.recorded.map(|at| self.at(at)), ..preference };
        let preferences: Vec<_> = preferences.into_iter().map(at).collect();
        let (with, now) = ((self.directory(), preferences), self.at(now));
        self.sessions.run(with, move |db, (of, preferences)| Box::pin(flow::opt_outs(db, of, preferences, now))).await
    }

    async fn preferences(
        &self,
        line: &str,
        kind: PreferenceKind,
        after: Option<i64>,
        max: u32,
    ) -> Result<Vec<(OptOutEntry, Option<String>)>> {
        let listed = self.sessions.run((self.directory(), line), move |db, (of, line)| {
            Box::pin(flow::listed(db, of, (line, kind), after, max))
        });
        let mut listed = listed.await?;
        for (entry, _) in &mut listed {
            entry.at = self.sessions.ours(entry.at);
        }
        Ok(listed)
    }

    async fn pseudonymise(&self, line: &str, person: Named) -> Result<u64> {
        let with = (self.directory(), line, person);
        self.sessions.run(with, move |db, (of, line, person)| Box::pin(flow::pseudonymise(db, of, line, person))).await
    }

    async fn link_persons(&self, change: LinkChange, now: Timestamp) -> Result<bool> {
        let (with, now) = ((self.directory(), change), self.at(now));
        self.sessions.run(with, move |db, (of, change)| Box::pin(flow::link_persons(db, of, change, now))).await
    }

    async fn unlink_persons(&self, change: LinkChange, now: Timestamp) -> Result<bool> {
        let (with, now) = ((self.directory(), change), self.at(now));
        self.sessions.run(with, move |db, (of, change)| Box::pin(flow::unlink_persons(db, of, change, now))).await
    }

    async fn person_links(&self, line: &str, after: Option<i64>, max: u32) -> Result<Vec<PersonLink>> {
        let with = (self.directory(), line);
        let rows = self
            .sessions
            .run(with, move |db, (of, line)| Box::pin(flow::person_links(db, of, line, after, max)))
            .await?;
        let ours = |row: PersonLinkRow| PersonLinkRow { at: self.sessions.ours(row.at), ..row };
        Ok(rows.into_iter().map(ours).filter_map(PersonLinkRow::read).collect())
    }

    #[cfg(test)]
    async fn decided_since(&self, id: Id, decision: &'static str, why: Reason) -> Result<Option<Timestamp>> {
        self.sessions.run(why, move |db, why| Box::pin(db.decided_since(id.0, decision, why))).await
    }

    async fn lift_preferences(&self, line: &str, person: Named, lift: Lift, now: Timestamp) -> Result<u64> {
        let (with, now) = ((self.directory(), line, person, lift), self.at(now));
        self.sessions
            .run(with, move |db, (of, line, person, lift)| Box::pin(flow::lift(db, of, line, person, lift, now)))
            .await
    }

    async fn finish(&self, hold: Hold, end: End) -> Result<bool> {
        let end = End { due: end.due.map(|due| self.at(due)), now: self.at(end.now), ..end };
        let with = (self.directory(), end);
        self.working
            .run(Kind::Finish, Some(hold.id.0), with, move |db, (of, end)| Box::pin(flow::finish(db, of, hold, end)))
            .await
    }

    /// Recovers lapsed claims only, whatever `all` is: a worker that starts knows nothing of others that live, and the
    /// claims of a dead one lapse.
    async fn recover(&self, now: Timestamp, _all: bool) -> Result<Recovered> {
        self.sessions.measure().await?;
        let now = self.at(now);
        let lapsed = self.sessions.run((), move |db, ()| Box::pin(lapsed(db, now))).await?;
        let mut recovered = Recovered::default();
        // One at a time, so that at most one row is locked while a lock is awaited.
        for id in lapsed {
            let of = self.directory();
            let is_unknown = self.sessions.run(of, move |db, of| Box::pin(mark_unknown(db, of, id, now))).await?;
            recovered.unknown += u64::from(is_unknown);
        }
        recovered.queued = self.sessions.run((), move |db, ()| Box::pin(claim::requeue_lapsed(db, now))).await?;
        Ok(recovered)
    }

    async fn hold_after_restore(&self, at: Timestamp, now: Timestamp) -> Result<u64> {
        let now = self.at(now);
        self.sessions.run((), move |db, ()| Box::pin(flow::hold_after_restore(db, at, now))).await
    }

    async fn look_ups_due(&self, now: Timestamp, wait: Duration, max: u32) -> Result<Vec<Claimed>> {
        let now = self.at(now);
        let due = self.sessions.run((), move |db, ()| Box::pin(look_ups_due(db, now, wait, max))).await?;
        Ok(self.by_our_clock(due))
    }

    async fn hold_fallback(&self, id: Id) -> Result<()> {
        let hold = "UPDATE civic_messaging.message SET fallback_due = NULL
             WHERE id = $1 AND state IN ('unknown', 'parked')";
        self.sessions.run((), move |db, ()| Box::pin(async move { db.change(hold, &[&id.0]).await.map(drop) })).await
    }

    async fn messages(&self, line: &str, of: &MessageFilter, after: Option<Id>, max: u32) -> Result<Vec<Status>> {
        let (of, after) = (of.by_clock(|at| self.at(at)), after.map_or(i64::MIN, |id| id.0));
        self.sessions.run((line, of), move |db, (line, of)| Box::pin(messages::list(db, line, of, after, max))).await
    }

    async fn cancel_many(
        &self,
        line: &str,
        of: &MessageFilter,
        after: Option<Id>,
        max: u32,
        now: Timestamp,
    ) -> Result<CancelledPart> {
        let (of, now) = (of.by_clock(|at| self.at(at)), self.at(now));
        let part = (after.map_or(i64::MIN, |id| id.0), max);
        self.sessions.run((line, of), move |db, (line, of)| Box::pin(messages::cancel(db, line, of, part, now))).await
    }

    async fn campaign(&self, line: &str, tag: &str) -> Result<Campaign> {
        self.sessions.run((line, tag), |db, &(line, tag)| Box::pin(messages::campaign(db, line, tag))).await
    }

    async fn settle(&self, id: Id, settled: Settle) -> Result<Option<String>> {
        let settled = self.settle_at(settled);
        self.sessions.run(settled, move |db, settled| Box::pin(flow::settle(db, id.0, settled))).await
    }

    async fn resend(&self, id: Id, settled: Settle) -> Result<Option<String>> {
        let settled = self.settle_at(settled);
        self.sessions.run(settled, move |db, settled| Box::pin(flow::resend(db, id.0, settled))).await
    }

    async fn store_events(
        &self,
        events: Vec<Incoming>,
        cursor: Option<(String, Cursor)>,
        now: Timestamp,
    ) -> Result<usize> {
        let now = self.at(now);
        let mut events = events;
        for reply in events.iter_mut().filter_map(|incoming| incoming.auto_reply.as_mut()) {
            reply.since = self.at(reply.since);
        }
        self.sessions
            .run((self.directory(), events, cursor), move |db, (of, events, cursor)| {
                Box::pin(flow::store_events(db, of, events, cursor.as_ref(), now))
            })
            .await
    }

    async fn cursor(&self, channel: &str) -> Result<Option<Cursor>> {
        let place = "SELECT place FROM civic_messaging.cursor WHERE channel = $1";
        self.sessions
            .run(channel, move |db, channel| {
                Box::pin(async move {
                    let row = db.row(place, &[&indexed(channel)]).await?;
                    Ok(row.map(|row| row.try_get::<_, String>(0)).transpose()?.map(Cursor::new))
                })
            })
            .await
    }

    async fn next_batch(&self, of: &EventFilter, now: Timestamp, lease: Duration, max: u32) -> Result<Vec<InboxEvent>> {
        let now = self.at(now);
        self.sessions.run(of, move |db, of| Box::pin(flow::next_batch(db, of, now, lease, max))).await
    }

    async fn ack(&self, event: i64, now: Timestamp) -> Result<()> {
        let now = self.at(now);
        self.working.run(Kind::Ack, None, (), move |db, ()| Box::pin(flow::ack(db, event, now))).await
    }

    async fn nack(&self, event: i64, until: Timestamp, now: Timestamp) -> Result<bool> {
        let (until, now) = (self.at(until), self.at(now));
        self.sessions.run((), move |db, ()| Box::pin(flow::nack(db, event, until, now))).await
    }

    async fn parked_events(&self, of: &EventFilter, after: i64, now: Timestamp, max: u32) -> Result<Vec<InboxEvent>> {
        let now = self.at(now);
        self.sessions.run(of, move |db, of| Box::pin(flow::parked_events(db, of, after, now, max))).await
    }

    async fn status(&self, id: Id) -> Result<Option<Status>> {
        let found = self.sessions.run((), move |db, ()| Box::pin(statuses(db, vec![id.0]))).await?;
        Ok(found.into_iter().next().map(|(status, _)| status))
    }

    async fn conversation(&self, line: &str, with: &str, before: Option<Place>, max: u32) -> Result<Vec<Entry>> {
        self.sessions
            .run((line, with), move |db, &(line, with)| Box::pin(conversation(db, line, with, before, max)))
            .await
    }

    async fn conversations(
        &self,
        line: &str,
        of: ConversationFilter,
        after: Option<ConversationPlace>,
        max: u32,
    ) -> Result<Vec<(ConversationRow, Option<Entry>)>> {
        self.sessions
            .run((line, after), move |db, (line, after)| {
                Box::pin(conversations::list(db, line, of, after.as_ref(), max))
            })
            .await
    }

    async fn mark_read(&self, line: &str, with: &str) -> Result<bool> {
        self.sessions.run((line, with), |db, &(line, with)| Box::pin(conversations::mark_read(db, line, with))).await
    }

    async fn by_key(&self, line: &str, key: &str) -> Result<Option<Id>> {
        let by_key = "SELECT id FROM civic_messaging.message WHERE line = $1 AND key = $2";
        self.sessions
            .run((line, key), move |db, &(line, key)| {
                Box::pin(async move {
                    let row = db.row(by_key, &[&indexed(line), &indexed(key)]).await?;
                    Ok(row.map(|row| row.try_get(0)).transpose()?.map(Id))
                })
            })
            .await
    }

    async fn stats(&self, now: Timestamp) -> Result<Stats> {
        let now = self.at(now);
        self.sessions.run((), move |db, ()| Box::pin(keep::stats(db, now))).await
    }

    async fn has_line(&self, line: &str) -> Result<bool> {
        let has = "SELECT EXISTS (SELECT 1 FROM civic_messaging.line WHERE id = $1)
             OR EXISTS (SELECT 1 FROM civic_messaging.message WHERE line = $1)";
        self.sessions
            .run(line, move |db, line| {
                Box::pin(async move {
                    let row = db.row(has, &[&indexed(line)]).await?;
                    Ok(row.map_or(Ok(false), |row| row.try_get(0))?)
                })
            })
            .await
    }

    async fn note(&self, lines: Vec<Line>, now: Timestamp) -> Result<()> {
        let now = self.at(now);
        self.sessions.run(lines, move |db, lines| Box::pin(keep::note(db, lines, now))).await
    }

    async fn attend(&self, lines: Vec<String>, now: Timestamp) -> Result<()> {
        let now = self.at(now).as_millis();
        self.sessions.run(lines, move |db, lines| Box::pin(keep::attend(db, lines, now))).await
    }

    async fn clock_went_back(&self, now: Timestamp, latest: Timestamp) -> Result<Option<Duration>> {
        self.sessions.measure().await?;
        let (now, latest) = (self.at(now), self.at(latest));
        self.sessions.run((), move |db, ()| Box::pin(flow::set_back_by(db, now, latest))).await
    }

    async fn bound(&self, part: Unbounded, now: Timestamp, leases: Leases) -> Result<(Option<Unbounded>, Bounded)> {
        let now = self.at(now);
        self.sessions.run((), move |db, ()| Box::pin(flow::bound(db, part, now, leases))).await
    }

    async fn note_time(&self, now: Timestamp) -> Result<()> {
        let now = self.at(now);
        self.sessions.run((), move |db, ()| Box::pin(db.set_seen(now))).await
    }

    async fn wait(&self, id: Id, now: Timestamp) -> Result<Option<Wait>> {
        let wait = "SELECT due, (SELECT attended FROM civic_messaging.line WHERE id = m.line)
             FROM civic_messaging.message AS m
             WHERE id = $1 AND state IN ('queued', 'deferred') AND due IS NOT NULL";
        let now = self.at(now);
        self.sessions
            .run((), move |db, ()| {
                Box::pin(async move {
                    let Some(row) = db.row(wait, &[&id.0]).await? else { return Ok(None) };
                    let attended = row.try_get::<_, Option<i64>>(1)?.map(Timestamp::from_millis);
                    Ok(Some(Wait { due: moment(&row, 0)?, attended, now }))
                })
            })
            .await
    }

    async fn claim_files(&self, now: Timestamp, lease: Duration, max: u32) -> Result<Vec<ClaimedFile>> {
        let now = self.at(now);
        self.sessions.run((), move |db, ()| Box::pin(file::claim(db, now, now.plus(lease), max))).await
    }

    async fn fetched(&self, hold: FileHold, fetched: Fetched, now: Timestamp) -> Result<bool> {
        let now = self.at(now);
        let fetched = match fetched {
            Fetched::Again(at) => Fetched::Again(self.at(at)),
            fetched => fetched,
        };
        self.sessions.run(fetched, move |db, fetched| Box::pin(flow::fetched(db, hold, fetched, now))).await
    }

    async fn files(&self, event: i64) -> Result<Vec<File>> {
        self.sessions.run((), move |db, ()| Box::pin(file::of(db, event))).await
    }

    async fn purge(&self, now: Timestamp, max: u32) -> Result<u64> {
        let now = self.at(now);
        self.sessions.run((), move |db, ()| Box::pin(keep::purge(db, now, max))).await
    }

    async fn unwanted(&self, now: Timestamp, lease: Duration, max: u32) -> Result<Vec<Digest>> {
        let now = self.at(now);
        self.sessions.run((), move |db, ()| Box::pin(keep::unwanted(db, now, now.plus(lease), max))).await
    }

    async fn check(&self) -> Result<u64> {
        let (mut changed, mut after) = (0, i64::MIN);
        loop {
            let part = self.sessions.run((), move |db, ()| Box::pin(keep::changed(db, after))).await?;
            let Some((last, of_these)) = part else { return Ok(changed) };
            (after, changed) = (last, changed + of_these);
        }
    }

    async fn removed(&self, file: Digest) -> Result<()> {
        self.sessions.run(file, |db, file| Box::pin(keep::removed(db, file))).await
    }

    fn notified(&self, kind: Notification) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.listener.notified(kind))
    }
}

/// Enqueues messages one after the other.
async fn enqueue_all(db: &Session, of: &Directory, each: &[(New, Written)]) -> Result<Vec<Enqueued>, Fault> {
    locks::lock_conversations_with(db, each).await?;
    let mut done = Vec::with_capacity(each.len());
    for (new, written) in each {
        done.push(flow::enqueue(db, of, new, written, None).await?);
    }
    Ok(done)
}

/// Returns the messages that were being sent under a claim that has lapsed.
async fn lapsed(db: &Session, now: Timestamp) -> Result<Vec<i64>, Fault> {
    let lapsed = "SELECT id FROM civic_messaging.message
         WHERE phase = 'claimed' AND state = 'sending' AND lease <= $1 ORDER BY id";
    let lapsed = db.rows(lapsed, &[&now.as_millis()]).await?;
    Ok(lapsed.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

/// Marks a message with a lapsed claim that was being sent as unknown. Returns `false` if its worker has just written.
async fn mark_unknown(db: &Session, of: &Directory, id: i64, now: Timestamp) -> Result<bool, Fault> {
    db.lock_message(id, &[]).await?;
    claim::lock_conversation_of(db, id).await?;
    let held = "SELECT 1 FROM civic_messaging.message
         WHERE id = $1 AND state = 'sending' AND lease <= $2 FOR UPDATE SKIP LOCKED";
    if db.row(held, &[&id, &now.as_millis()]).await?.is_none() {
        return Ok(false);
    }
    for held in read_claimed(db, &[id]).await? {
        flow::left_behind(db, of, &held, now).await?;
    }
    Ok(true)
}

async fn look_ups_due(db: &Session, now: Timestamp, wait: Duration, max: u32) -> Result<Vec<Claimed>, Fault> {
    let due = "SELECT id FROM civic_messaging.message WHERE phase = 'unknown' AND due <= $1
         ORDER BY due, id LIMIT $2 FOR UPDATE SKIP LOCKED";
    let due = db.rows(due, &[&now.as_millis(), &i64::from(max)]).await?;
    let ids = due.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    let look_ups_due = read_claimed(db, &ids).await?;
    // If it is not settled, it is looked up again.
    let later = "UPDATE civic_messaging.message SET due = $2, wait = $2::bigint - $3::bigint, lookups = lookups + 1
         WHERE id = ANY ($1)";
    db.change(later, &[&ids, &now.plus(wait).as_millis(), &now.as_millis()]).await?;
    Ok(look_ups_due)
}

/// Returns statuses and messages: `None` for a message that this program cannot read, or without content.
async fn statuses(db: &Session, ids: Vec<i64>) -> Result<Vec<(Status, Option<Message>)>, Fault> {
    let status = concat!(
        "SELECT id, line, key, tag, state, due, attempts, delivery, reason,
                (SELECT p.id FROM civic_messaging.part AS p WHERE p.message = m.id
                 ORDER BY p.gateway COLLATE \"C\", p.id COLLATE \"C\" LIMIT 1),
                instead_of, (SELECT id FROM civic_messaging.message WHERE instead_of = m.id), body, fallback, digest,
                refusal.decision, refusal.rule, ",
        mark!(),
        " FROM civic_messaging.message AS m LEFT JOIN LATERAL (
             SELECT decision, rule FROM civic_messaging.decision
             WHERE message = m.id AND decision IN ('refuse', 'opt_out') ORDER BY n DESC LIMIT 1) AS refusal ON true
         WHERE id = ANY ($1)"
    );
    let mut histories = histories(db, &ids).await?;
    let read = |row: &Row| {
        let id = row.try_get(0)?;
        let refusal = row.try_get::<_, Option<String>>(15)?.zip(row.try_get(16)?);
        let kept = StatusRow {
            id,
            line: row.try_get(1)?,
            key: row.try_get(2)?,
            tag: row.try_get(3)?,
            state: state(row, 4)?,
            due: row.try_get::<_, Option<i64>>(5)?.map(Timestamp::from_millis),
            attempts: count(row, 6)?,
            delivery: row.try_get(7)?,
            mark: row.try_get(17)?,
            reason: row.try_get(8)?,
            gateway_id: row.try_get(9)?,
            instead_of: row.try_get(10)?,
            fallback: row.try_get(11)?,
            refusal,
        };
        let (message, _) = message_of(row.try_get(12)?, row.try_get(13)?, row.try_get(14)?);
        Ok((kept.status(message.as_ref(), histories.remove(&id).unwrap_or_default()), message))
    };
    db.rows(status, &[&ids]).await?.iter().map(read).collect()
}

/// Returns the attempts of messages, oldest first, by number.
async fn histories(db: &Session, ids: &[i64]) -> Result<HashMap<i64, Vec<SendAttempt>>, Fault> {
    let of = "SELECT message, gateway, account, begun, ended, outcome, kind, code, segments, price, currency
         FROM civic_messaging.attempt WHERE message = ANY ($1) ORDER BY message, n";
    let mut histories = HashMap::<_, Vec<_>>::new();
    for row in db.rows(of, &[&ids]).await? {
        let attempt = SendAttempt {
            gateway: row.try_get(1)?,
            account: AccountId::new(row.try_get::<_, String>(2)?),
            begun: moment(&row, 3)?,
            ended: row.try_get::<_, Option<i64>>(4)?.map(Timestamp::from_millis),
            outcome: row.try_get::<_, Option<&str>>(5)?.and_then(named),
            kind: row.try_get::<_, Option<&str>>(6)?.and_then(named),
            code: row.try_get::<_, Option<String>>(7)?.filter(|code| is_code(code)),
            segments: row.try_get::<_, Option<i32>>(8)?.and_then(|segments| u32::try_from(segments).ok()),
            price: price_of(row.try_get(9)?, row.try_get(10)?),
        };
        histories.entry(row.try_get(0)?).or_default().push(attempt);
    }
    Ok(histories)
}

/// Returns all names of a person on a line.
async fn persons(db: &Session, line: &str, of: &str) -> Result<Vec<String>, Fault> {
    let persons = "WITH now AS (
             SELECT coalesce((SELECT current FROM civic_messaging.link WHERE line = $1 AND previous = $2), $2) AS person)
         SELECT person FROM now
         UNION SELECT previous FROM civic_messaging.link WHERE line = $1 AND current = (SELECT person FROM now)";
    let persons = db.rows(persons, &[&line, &of]).await?;
    Ok(persons.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

async fn conversation(
    db: &Session,
    line: &str,
    with: &str,
    before: Option<Place>,
    max: u32,
) -> Result<Vec<Entry>, Fault> {
    let line = indexed(line);
    let person = persons(db, &line, &indexed(with)).await?;
    let places = "SELECT * FROM (
             (SELECT queued AS at, true AS ours, id, NULL AS body FROM civic_messaging.message
              WHERE conversation = ANY (SELECT hashtextextended($1 || chr(10) || person, 0) FROM unnest($2::text[]) AS person)
                AND recipient = ANY ($2) AND line = $1
                AND ($3::bigint IS NULL OR (queued, true, id) < ($3, $4::boolean, $5::bigint))
              ORDER BY queued DESC, id DESC LIMIT $6)
             UNION ALL
             (SELECT taken_in, false, id, body FROM civic_messaging.event
              WHERE line = $1 AND person = ANY ($2)
                AND ($3::bigint IS NULL OR (taken_in, false, id) < ($3, $4, $5))
              ORDER BY taken_in DESC, id DESC LIMIT $6)) AS said
         ORDER BY at DESC, ours DESC, id DESC LIMIT $6";
    let (at, ours) = (before.map(|place| place.at.as_millis()), before.map(|place| place.ours));
    let id = before.map(|place| place.id);
    let rows = db.rows(places, &[&line, &person, &at, &ours, &id, &i64::from(max)]).await?;
    let place = |row: &Row| Ok::<_, Fault>(Place { at: moment(row, 0)?, ours: row.try_get(1)?, id: row.try_get(2)? });
    let places = rows.iter().map(place).collect::<Result<Vec<_>, _>>()?;
    let ours = places.iter().filter(|place| place.ours).map(|place| place.id).collect();
    let mut ours: HashMap<_, _> = statuses(db, ours).await?.into_iter().map(|ours| (ours.0.id.0, ours)).collect();
    let mut entries = Vec::with_capacity(places.len());
    for (row, place) in rows.iter().zip(places) {
        if !place.ours {
            entries.push(Entry::theirs(place, row.try_get(3)?));
        } else if let Some((status, message)) = ours.remove(&place.id) {
            entries.push(Entry::ours(place, status, message));
        }
    }
    Ok(entries)
}

/// Returns a text that PostgreSQL accepts: without NUL.
fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

/// Returns a text for an index: the digest of one that is longer than any gateway writes.
fn indexed(name: &str) -> Cow<'_, str> {
    if name.len() > INDEXED_MAX { Digest::sha256(name.as_bytes()).to_string().into() } else { text(name) }
}

fn state(row: &Row, column: usize) -> Result<State, Fault> {
    State::read(row.try_get(column)?).ok_or(Fault::Unreadable)
}

fn moment(row: &Row, column: usize) -> Result<Timestamp, Fault> {
    Ok(Timestamp::from_millis(row.try_get(column)?))
}

fn count(row: &Row, column: usize) -> Result<u32, Fault> {
    Ok(u32::try_from(row.try_get::<_, i32>(column)?).unwrap_or(0))
}

/// Migrations of a later version.
#[cfg(test)]
const LATER: &[&str] = &[
    "ALTER TABLE civic_messaging.message ADD COLUMN later TEXT;
     CREATE TABLE civic_messaging.later (id BIGINT PRIMARY KEY, body TEXT NOT NULL);
     CREATE INDEX message_later ON civic_messaging.message (later);
     ALTER TABLE civic_messaging.event ADD COLUMN later BIGINT DEFAULT 7;",
    "CREATE INDEX later_body ON civic_messaging.later (body);
     UPDATE civic_messaging.message SET later = key;",
];

/// Migrates a database one step further than this program's version.
#[cfg(test)]
pub(super) async fn migrate_ahead(url: &str) {
    bring(url, &[MIGRATIONS, &LATER[..1]].concat()).await.unwrap();
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::sync::{Arc, Mutex};

    use super::super::super::register::OptOutSource;
    use super::super::super::status::PRIORITY_LAST;
    use super::super::cluster::{self, Database};
    use super::super::suite;
    use super::*;
    use crate::model::address::{Address, Phone};
    use crate::model::clock::VirtualClock;
    use crate::model::error::{ErrorKind, Outcome};
    use crate::model::event::OptOutScope;
    use crate::model::message::Purpose;
    use crate::policy::Reason;

    const LEASE: Duration = Duration::from_secs(180);

    fn new(key: &str, person: u32, priority: u8) -> New {
        let to = Address::from(Phone::from_digits(&format!("4477009{person:05}")).unwrap());
        let (line, key, now) = ("desk".to_owned(), key.to_owned(), Timestamp::from_millis(1));
        let (message, account, deferred, fallback) = (Message::text(to, "Hello"), None, None, None);
        New { line, message, key, priority, account, due: now, deferred, fallback, now }
    }

    async fn enqueue(db: &Session, new: New) -> Option<Enqueued> {
        flow::enqueue(db, &Directory::default(), &new, &Written::new(&new).unwrap(), None).await.ok()
    }

    fn rooms(room: u32) -> Rooms {
        Rooms { lines: HashMap::from([("desk".to_owned(), room)]), ..Rooms::default() }
    }

    async fn claimed(store: &Postgres, now: Timestamp, room: u32) -> Result<Vec<Claimed>> {
        Ok(store.claim(now, LEASE, rooms(room)).await?.claimed)
    }

    async fn messages(store: &Postgres) -> BTreeMap<State, u64> {
        store.stats(Timestamp::from_millis(1)).await.unwrap().all().messages
    }

    async fn migrated() -> Option<Database> {
        let database = Database::new().await?;
        migrate(database.url()).await.unwrap();
        Some(database)
    }

    #[tokio::test]
    async fn open_requires_tables_and_never_creates_them() {
        let Some(database) = Database::new().await else { return };
        let url = database.url();
        for _ in 0..2 {
            let error = Postgres::open(url).await.unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("store")));
            assert!(error.to_string().contains("at step 0 of 1: run Store::migrate"), "{error}");
        }
        // As a DBA runs it.
        let sql = migrations(url).await.unwrap();
        cluster::run(url, &sql).await;
        Postgres::open(url).await.unwrap();
        assert_eq!(migrations(url).await.unwrap(), "");
        migrate(url).await.unwrap();
        // The suite runs on one more migration.
        for (later, opens) in [(1, true), (2, false)] {
            bring(url, &[MIGRATIONS, &LATER[..later]].concat()).await.unwrap();
            let opened = Postgres::open(url).await;
            assert_eq!(opened.as_ref().err().map(Error::kind), (!opens).then_some(ErrorKind::Config), "{opened:?}");
            migrate(url).await.unwrap();
        }
    }

    #[tokio::test]
    async fn migration_may_run_concurrently() {
        let Some(database) = Database::new().await else { return };
        let url = database.url();
        let steps = [MIGRATIONS, LATER].concat();
        let (one, two, three) = tokio::join!(bring(url, &steps), bring(url, &steps), bring(url, &steps));
        assert!([&one, &two, &three].iter().all(|done| done.is_ok()), "{one:?} {two:?} {three:?}");
        assert_eq!(print(url, &steps).await.unwrap(), "");
    }

    #[tokio::test]
    async fn migration_from_every_version_gives_the_same_tables() {
        let steps = [MIGRATIONS, LATER].concat();
        let mut all = Vec::new();
        for from in 0..=steps.len() {
            for by_hand in [false, true] {
                let Some(database) = Database::new().await else { return };
                let url = database.url();
                bring(url, &steps[..from]).await.unwrap();
                // A program of that version wrote there.
                let mut there = None;
                if from >= MIGRATIONS.len() {
                    let db = session(url).await;
                    there = Some(enqueue(&db, new("k", 1, 2)).await.unwrap());
                }
                if by_hand {
                    cluster::psql(url, &print(url, &steps).await.unwrap());
                } else {
                    bring(url, &steps).await.unwrap();
                }
                assert_eq!(print(url, &steps).await.unwrap(), "");
                let db = session(url).await;
                if let Some(Enqueued::New(id)) = there {
                    assert_eq!(enqueue(&db, new("k", 1, 2)).await, Some(Enqueued::Same(id)));
                }
                all.push(shape(&db).await);
            }
        }
        assert!(all[0].len() > 60 && all[0].iter().any(|line| line.contains("plpgsql")), "{:?}", all[0]);
        assert!(all.iter().all(|shape| *shape == all[0]), "{all:?}");
    }

    #[tokio::test]
    async fn failed_migration_rolls_back_all_steps() {
        let fails = "CREATE TABLE half (n INTEGER); SELECT 1 / 0;";
        let Some(database) = Database::new().await else { return };
        let url = database.url();
        for done in 0..=MIGRATIONS.len() {
            bring(url, &MIGRATIONS[..done]).await.unwrap();
            let error = bring(url, &[MIGRATIONS, &[fails]].concat()).await.unwrap_err();
            assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("22012"), "{error}");
            let db = session(url).await;
            assert_eq!(step_of(&db).await.ok(), Some(done));
            let nothing = "SELECT to_regclass('half') IS NULL AND ($1 OR to_regnamespace('civic_messaging') IS NULL)";
            assert!(db.row(nothing, &[&(done > 0)]).await.ok().unwrap().unwrap().get::<_, bool>(0));
        }
    }

    async fn session(url: &str) -> Session {
        Session::open(&read(url).unwrap()).await.ok().unwrap()
    }

    /// Returns everything in the schema, line by line.
    async fn shape(db: &Session) -> Vec<String> {
        let shape =
            "SELECT format('%s.%s %s %s %s %s', table_name, column_name, data_type, is_nullable, column_default,
                           generation_expression)
             FROM information_schema.columns WHERE table_schema = 'civic_messaging'
             UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'civic_messaging'
             UNION ALL SELECT format('%s %s', conname, pg_get_constraintdef(oid)) FROM pg_constraint
             WHERE connamespace = 'civic_messaging'::regnamespace
             UNION ALL SELECT format('%s %s', pg_get_functiondef(oid), proacl) FROM pg_proc
             WHERE pronamespace = 'civic_messaging'::regnamespace
             UNION ALL SELECT format('step %s', step) FROM civic_messaging.migration ORDER BY 1";
        let rows = db.rows(shape, &[]).await.ok().unwrap();
        rows.iter().map(|row| row.try_get(0).unwrap()).collect()
    }

    #[tokio::test]
    async fn role_needs_the_documented_grants_only() {
        let Some(database) = migrated().await else { return };
        let url = database.url_of_role();
        let error = Postgres::open(&url).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains("grant it USAGE"), "{error}");
        // The whole suite runs with these.
        assert_eq!(database.grant(MIGRATIONS[0], "the_role").await, 2);
        Postgres::open(&url).await.unwrap();
        let db = session(&url).await;
        for more in ["CREATE TABLE civic_messaging.more ()", "DROP TABLE civic_messaging.early", "CREATE SCHEMA more"] {
            let Err(Fault::Database(error)) = db.batch(more).await else { panic!("{more}") };
            assert_eq!(error.code(), Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE), "{more}");
        }
    }

    #[tokio::test]
    async fn session_is_ready_before_the_first_call() {
        let Some(database) = migrated().await else { return };
        let store = Postgres::open(database.url()).await.unwrap();
        let db = session(database.url()).await;
        let others = "SELECT pid FROM pg_stat_activity
             WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
        let pids = async || {
            let rows = db.rows(others, &[]).await.ok().unwrap();
            rows.iter().map(|row| row.try_get::<_, i32>(0).unwrap()).collect::<Vec<_>>()
        };
        let ready = pids().await;
        assert_eq!(ready.len(), 1);
        store.enqueue(new("k", 1, 2)).await.unwrap();
        assert_eq!(pids().await, ready);
    }

    #[tokio::test]
    async fn deferral_at_enqueue_is_recorded() {
        let Some(database) = migrated().await else { return };
        let store = Postgres::open(database.url()).await.unwrap();
        let night = Some(Reason::new("quiet-hours", "it is night"));
        store.enqueue(New { deferred: night, ..new("k", 1, 2) }).await.unwrap();
        store.enqueue(new("l", 1, 2)).await.unwrap();
        let db = session(database.url()).await;
        let rows = "SELECT concat_ws(' ', m.key, d.decision, d.rule, d.reason) FROM civic_messaging.decision AS d
             JOIN civic_messaging.message AS m ON m.id = d.message";
        let rows = db.rows(rows, &[]).await.ok().unwrap();
        assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<&str>>(), ["k defer quiet-hours it is night"]);
    }

    #[tokio::test]
    async fn changed_message_is_detected() {
        let Some(database) = migrated().await else { return };
        let store = Postgres::open(database.url()).await.unwrap();
        store.enqueue(new("k", 1, 2)).await.unwrap();
        let change = "UPDATE civic_messaging.message SET body = replace(body, 'Hello', 'Jello')";
        cluster::run(database.url(), change).await;
        let claimed = claimed(&store, Timestamp::from_millis(2), 9).await.unwrap();
        assert!(claimed[0].damaged && claimed[0].message.is_none());
    }

    #[tokio::test]
    async fn lost_session_is_replaced() {
        let Some(database) = migrated().await else { return };
        let store = Postgres::open(database.url()).await.unwrap();
        let (one, two) = tokio::join!(store.enqueue(new("a", 1, 2)), store.enqueue(new("b", 2, 2)));
        assert!(one.is_ok() && two.is_ok());
        for _ in 0..3 {
            cluster::run(database.url(), &kill("")).await;
            assert_eq!(messages(&store).await, [(State::Queued, 2)].into());
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn server_restart_between_calls_goes_unnoticed() {
        let Some((mut server, url)) = cluster::Own::start() else { return };
        migrate(&url).await.unwrap();
        let store = Postgres::open(&url).await.unwrap();
        for n in 0..3 {
            tokio::task::block_in_place(|| server.kill());
            let (one, two) = (format!("{n}-one"), format!("{n}-two"));
            let (one, two) = tokio::join!(store.enqueue(new(&one, 1, 2)), store.enqueue(new(&two, 2, 2)));
            assert!(matches!((&one, &two), (Ok(Enqueued::New(_)), Ok(Enqueued::New(_)))), "{one:?} {two:?}");
        }
    }

    #[tokio::test]
    async fn session_lost_in_a_call_is_an_error_and_can_be_retried() {
        let Some(database) = migrated().await else { return };
        let store = Postgres::open(database.url()).await.unwrap();
        let (client, connection) = tokio_postgres::connect(database.url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("BEGIN; LOCK TABLE civic_messaging.message").await.unwrap();
        let error = tokio::join!(store.enqueue(new("k", 1, 2)), async {
            let waits = "SELECT 1 FROM pg_locks WHERE NOT granted
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
            while client.query(waits, &[]).await.unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
            client.batch_execute(&kill("AND wait_event_type = 'Lock'")).await.unwrap();
        });
        let error = error.0.unwrap_err();
        assert_eq!(
            (error.kind(), error.outcome(), error.is_retryable()),
            (ErrorKind::Unavailable, Outcome::NotSent, true)
        );
        client.batch_execute("COMMIT").await.unwrap();
        assert!(matches!(store.enqueue(new("k", 1, 2)).await.unwrap(), Enqueued::New(_)));
    }

    fn kill(only: &str) -> String {
        format!(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid() {only}"
        )
    }

    #[tokio::test]
    async fn url_without_host_is_refused() {
        for url in ["postgres://", "postgres:///desk", "postgres://desk@/desk", "postgresql://?user=desk"] {
            let error = Postgres::open(url).await.unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("store")), "{url}: {error}");
            assert!(error.to_string().contains("names no host"), "{url}: {error}");
        }
    }

    #[tokio::test]
    async fn error_never_shows_the_password() {
        for (url, kind) in [
            ("postgres://desk:hunter2-hunter2@127.0.0.1:1/desk", ErrorKind::Unavailable),
            ("postgres://desk:hunter2-hunter2@127.0.0.1:port/desk", ErrorKind::Config),
            ("postgres://desk@127.0.0.1:1/desk?pasword=hunter2-hunter2", ErrorKind::Config),
        ] {
            let error = Postgres::open(url).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(kind == ErrorKind::Config || error.to_string().starts_with("store: unavailable: "), "{error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
        let config = read("postgres://desk:hunter2-hunter2@db.example.gov.uk,%2Frun/desk").unwrap();
        let (name, clock) = (name_of(&config), Arc::new(SystemClock::new()));
        let store = Postgres::new(config, clock, name);
        assert_eq!(format!("{store:?}"), r#"Postgres("db.example.gov.uk,/run/desk")"#);
    }

    #[tokio::test]
    async fn claim_reads_no_waiting_messages() {
        let Some(database) = migrated().await else { return };
        // One conversation with many waiting messages, as many scheduled ones, and three others.
        let fill = "INSERT INTO civic_messaging.message
                 (line, key, recipient, body, digest, priority, state, due, queued, lane, planned, head)
             SELECT 'desk', n, CASE WHEN n > 20000 THEN n ELSE 1 END, '', '', 2,
                    CASE WHEN n > 10000 THEN 'queued' ELSE 'deferred' END, CASE WHEN n > 10000 THEN 1 ELSE 9 END, 1,
                    'desk/phone', n <= 10000, n > 20000 OR n = 10001
             FROM generate_series(1, 20003) AS n;
             ANALYZE civic_messaging.message";
        cluster::run(database.url(), fill).await;
        let pairs = claim::PAIRS.replace("$1", &PRIORITY_LAST.to_string());
        let take = claim::TAKE
            .replace("$1", "1")
            .replace("$2", "ARRAY['desk/phone']")
            .replace("$3", "ARRAY[2]")
            .replace("$4", "ARRAY[64]")
            .replace("$5", "9");
        for (sql, rows) in [(pairs, 2.0), (take, 4.0)] {
            let (found, blocks) = measured(database.url(), &sql).await;
            assert_eq!(found, rows);
            // The index of waiting messages has about a hundred blocks.
            assert!(blocks < 90, "{blocks} blocks");
        }
    }

    /// Returns the rows of a query, and the blocks that it reads.
    async fn measured(url: &str, sql: &str) -> (f64, u64) {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let answer = client.simple_query(&format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}")).await.unwrap();
        let plan = answer.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        let plan: serde_json::Value = serde_json::from_str(plan.unwrap()).unwrap();
        let plan = &plan[0]["Plan"];
        let blocks = ["Shared Hit Blocks", "Shared Read Blocks"].map(|blocks| plan[blocks].as_u64().unwrap());
        (plan["Actual Rows"].as_f64().unwrap(), blocks.iter().sum())
    }

    #[tokio::test]
    async fn held_events_are_not_searched() {
        let Some(database) = migrated().await else { return };
        let fill = "INSERT INTO civic_messaging.event (line, kind, person, body, taken_in)
             SELECT 'desk', 'event', 'they', '', n FROM generate_series(1, 10000) AS n";
        cluster::run(database.url(), fill).await;
        let (store, now) = (Postgres::open(database.url()).await.unwrap(), Timestamp::from_millis(20_000));
        store.nack(1, now.plus(Duration::from_secs(3600)), now).await.unwrap();
        cluster::run(database.url(), "VACUUM ANALYZE civic_messaging.event").await;
        let foreign = "ARRAY['other']";
        for (next, third) in [(tx::NEXT_OF_LINE, "'desk'"), (tx::NEXT_OF_ALL, ""), (tx::NEXT_OF_OWN, foreign)] {
            let next = next.replace("$1", &now.as_millis().to_string()).replace("$2", "1").replace("$3", third);
            let (found, blocks) = measured(database.url(), &next).await;
            assert_eq!(found, 0.0);
            // The table has more than a hundred.
            assert!(blocks < 20, "{blocks} blocks");
        }
    }

    #[tokio::test]
    async fn retention_removes_the_oldest_first() {
        let Some(database) = migrated().await else { return };
        // The oldest are the last in the table.
        let fill = "INSERT INTO civic_messaging.line (id, name, languages, retention, attended)
             VALUES ('desk', '', '', 1000, 1);
             INSERT INTO civic_messaging.message
                 (line, key, recipient, body, digest, priority, lane, state, queued, settled)
             SELECT 'desk', n, n, '', '', 2, 'desk/phone', 'accepted', 1, 20001 - n FROM generate_series(1, 20000) AS n;
             INSERT INTO civic_messaging.event (line, kind, body, taken_in, acked)
             SELECT 'desk', 'event', '', 20001 - n, 1 FROM generate_series(1, 20000) AS n;
             ANALYZE";
        cluster::run(database.url(), fill).await;
        let (store, db) = (Postgres::open(database.url()).await.unwrap(), session(database.url()).await);
        let removed = "SELECT (SELECT count(*) FROM civic_messaging.message WHERE removed IS NOT NULL),
                 (SELECT max(settled) FROM civic_messaging.message WHERE removed IS NOT NULL),
                 (SELECT max(taken_in) FROM civic_messaging.event WHERE removed IS NOT NULL)";
        for n in 1..=3 {
            assert_eq!(store.purge(Timestamp::from_secs(100), 200).await.unwrap(), 400);
            let row = db.row(removed, &[]).await.ok().unwrap().unwrap();
            let [count, settled, taken_in] = [0, 1, 2].map(|column| row.get::<_, i64>(column));
            assert_eq!((count, settled, taken_in), (200 * n, 200 * n, 200 * n));
        }
    }

    #[tokio::test]
    async fn begin_finds_by_number_and_writes_no_index() {
        let Some(database) = migrated().await else { return };
        let (db, now) = (session(database.url()).await, Timestamp::from_millis(1));
        for n in 0..500 {
            enqueue(&db, new(&n.to_string(), n, 2)).await.unwrap();
        }
        // The usual state when this is counted: nothing is claimed.
        db.batch("ANALYZE civic_messaging.message; BEGIN").await.ok().unwrap();
        let held = claim::claim(&db, now, LEASE, &rooms(1)).await.ok().unwrap().claimed;
        let counts = "SELECT pg_stat_get_xact_tuples_hot_updated('civic_messaging.message'::regclass),
                 pg_stat_get_xact_numscans('civic_messaging.message_held'::regclass)";
        let counts = async || {
            let row = db.row(counts, &[]).await.ok().unwrap().unwrap();
            (row.get::<_, i64>(0), row.get::<_, i64>(1))
        };
        let (written, searched) = counts().await;
        let (of, attempt) = (Directory::default(), Attempt::new("mock", "desk", now));
        let begun = flow::begin(&db, &of, (held[0].hold, None), &attempt, &Addressee::nobody()).await;
        assert!(begun.is_ok_and(|begun| begun == Begun::Sending));
        let end = End::without_attempt(State::Accepted, "", now);
        assert_eq!(counts().await, (written + 1, searched));
        assert!(flow::finish(&db, &of, held[0].hold, &end).await.ok().unwrap());
        assert_eq!(counts().await, (written + 1, searched));
        db.batch("COMMIT").await.ok().unwrap();
    }

    #[tokio::test]
    async fn begin_waits_for_an_opt_out_in_progress() {
        let Some(database) = migrated().await else { return };
        let store = Arc::new(Postgres::open(database.url()).await.unwrap());
        let (db, now) = (session(database.url()).await, Timestamp::from_millis(1));
        let person = new("", 1, 2).message.to;
        let preference = |line: &str| Preference {
            line: line.to_owned(),
            persons: vec![Named::new(&person)],
            fingerprints: Vec::new(),
            scope: OptOutScope::All,
            medium: None,
            source: OptOutSource::Keyword,
            note: None,
            consent: None,
            said: now,
            recorded: None,
        };
        let begin = |store: &Arc<Postgres>, claimed: &Claimed| {
            let to = Addressee::new("desk", &person, Purpose::Notice, claimed.queued);
            let (store, hold) = (Arc::clone(store), claimed.hold);
            tokio::spawn(async move { store.begin_send(hold, Attempt::new("mock", "desk", now), to).await.unwrap() })
        };
        // The opt-out is first: nothing waits for the person yet that it could end.
        db.batch("BEGIN").await.ok().unwrap();
        flow::opt_outs(&db, &Directory::default(), &[preference("elsewhere")], now).await.ok().unwrap();
        assert!(matches!(store.enqueue(new("a", 1, 2)).await.unwrap(), Enqueued::New(_)));
        let held = claimed(&store, now, 1).await.unwrap();
        let begun = begin(&store, &held[0]);
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert!(!begun.is_finished());
        db.batch("COMMIT").await.ok().unwrap();
        assert!(matches!(begun.await.unwrap(), Begun::Refused(_)));
        // A send that is first makes the opt-out wait.
        store.lift_preferences("desk", Named::new(&person), Lift::Officer("J. Jones".to_owned()), now).await.unwrap();
        assert!(matches!(store.enqueue(new("b", 1, 2)).await.unwrap(), Enqueued::New(_)));
        let held = claimed(&store, now, 1).await.unwrap();
        db.batch("BEGIN").await.ok().unwrap();
        let to = Addressee::new("desk", &person, Purpose::Notice, held[0].queued);
        let (of, attempt) = (Directory::default(), Attempt::new("mock", "desk", now));
        let first = flow::begin(&db, &of, (held[0].hold, None), &attempt, &to).await;
        assert!(first.is_ok_and(|begun| begun == Begun::Sending));
        let (writer, preference) = (Arc::clone(&store), preference("desk"));
        let stopping = tokio::spawn(async move { writer.record_preferences(vec![preference], now).await.unwrap() });
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!stopping.is_finished());
        db.batch("COMMIT").await.ok().unwrap();
        assert_eq!(stopping.await.unwrap(), 1);
    }

    #[tokio::test]
    async fn workers_with_clocks_an_hour_apart_respect_leases() {
        let Some(database) = migrated().await else { return };
        let (now, half_an_hour) = (SystemClock::new().now(), Duration::from_secs(1800));
        let on = async |now| {
            let clock = Arc::new(VirtualClock::starting_at(now));
            (Postgres::open_on(database.url(), clock).await.unwrap(), now)
        };
        let (slow, fast) = (on(now.minus(half_an_hour)).await, on(now.plus(half_an_hour)).await);
        let (soon, late) = (LEASE - Duration::from_secs(60), LEASE + Duration::from_secs(60));
        for (n, (one, at_one), (two, at_two)) in [(0, &slow, &fast), (1, &fast, &slow)] {
            for key in 0..3 {
                let new = new(&format!("{n}-{key}"), n * 3 + key, 2);
                one.enqueue(New { due: *at_one, now: *at_one, ..new }).await.unwrap();
            }
            // The clocks of this test stand still, and the database's does not.
            let at_two = &at_two.plus(Duration::from_secs(10));
            let held = claimed(two, *at_two, 9).await.unwrap();
            assert_eq!(held.len(), 3, "what is due for one is for all");
            let begins = async |n: usize, after| {
                two.begin(held[n].hold, Attempt::new("mock", "desk", at_two.plus(after))).await.unwrap()
            };
            assert!(begins(0, Duration::ZERO).await);
            assert_eq!(one.recover(at_one.plus(soon), false).await.unwrap(), Recovered::default());
            assert!(begins(1, soon).await);
            assert_eq!(one.recover(at_one.plus(late), false).await.unwrap(), Recovered { queued: 1, unknown: 2 });
            assert!(!begins(2, soon).await);
            let end = End::without_attempt(State::Accepted, "", at_two.plus(soon));
            assert!(!two.finish(held[0].hold, end).await.unwrap());
            let again = claimed(one, at_one.plus(late), 9).await.unwrap();
            assert_eq!(again.iter().map(|again| again.hold.id).collect::<Vec<_>>(), [held[2].hold.id]);

            let photo = suite::incoming(&format!("photo-{n}"), 1);
            one.store_events(vec![photo], None, *at_one).await.unwrap();
            assert!(two.next(None, *at_two, LEASE).await.unwrap().is_none(), "it is held back for its file");
            let held = two.claim_files(*at_two, LEASE, 9).await.unwrap()[0].hold;
            assert!(one.claim_files(at_one.plus(soon), LEASE, 9).await.unwrap().is_empty());
            assert_eq!(one.claim_files(at_one.plus(late), LEASE, 9).await.unwrap().len(), 1);
            let again = Fetched::Again(at_two.plus(late));
            assert!(!two.fetched(held, again, at_two.plus(late)).await.unwrap());

            let event = two.next(None, at_two.plus(soon), LEASE).await.unwrap().unwrap();
            assert!(one.next(None, at_one.plus(2 * soon), LEASE).await.unwrap().is_none());
            assert_eq!(one.next(None, at_one.plus(2 * late), LEASE).await.unwrap().unwrap().id, event.id);
            one.ack(event.id, *at_one).await.unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn workers_share_no_conversation_under_load() {
        const MESSAGES: u32 = 600;
        let Some(database) = migrated().await else { return };
        let now = Timestamp::from_millis(1);
        let (on_the_way, done) = (Arc::new(Mutex::new(HashSet::new())), Arc::new(AtomicU32::new(0)));
        let all_in = Arc::new(AtomicBool::new(false));
        let mut workers = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let store = Postgres::open(database.url()).await.unwrap();
            let (on_the_way, done, all_in) = (on_the_way.clone(), done.clone(), all_in.clone());
            workers.spawn(async move {
                while !all_in.load(Ordering::Acquire) || done.load(Ordering::Acquire) < MESSAGES {
                    for claimed in claimed(&store, now, 2).await.unwrap() {
                        let to = claimed.message.as_ref().unwrap().to.expose().to_owned();
                        assert!(on_the_way.lock().unwrap().insert(to.clone()), "two of one conversation");
                        let attempt = Attempt::new("mock", "desk", now);
                        assert!(store.begin(claimed.hold, attempt).await.unwrap());
                        assert!(on_the_way.lock().unwrap().remove(&to));
                        let end = End::without_attempt(State::Accepted, "", now);
                        assert!(store.finish(claimed.hold, end).await.unwrap());
                        done.fetch_add(1, Ordering::AcqRel);
                    }
                }
            });
        }
        let store = Postgres::open(database.url()).await.unwrap();
        for n in 0..MESSAGES {
            // Later messages are more urgent.
            let priority = 3 - u8::try_from(n % 4).unwrap();
            store.enqueue(new(&n.to_string(), n % 3, priority)).await.unwrap();
        }
        all_in.store(true, Ordering::Release);
        while let Some(worker) = workers.join_next().await {
            worker.unwrap();
        }
        assert_eq!(messages(&store).await, [(State::Accepted, u64::from(MESSAGES))].into());
    }

    /// `CIVIC_RESTARTS` sets the number of restarts (12).
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn server_killed_under_load_loses_and_doubles_nothing() {
        let Some((mut server, url)) = cluster::Own::start() else { return };
        let restarts: u64 = std::env::var("CIVIC_RESTARTS").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
        migrate(&url).await.unwrap();
        let (going, failures) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)));
        let (mut writers, mut workers) = (tokio::task::JoinSet::new(), tokio::task::JoinSet::new());
        for n in 0..2 {
            let (store, going, failures) = (Postgres::open(&url).await.unwrap(), going.clone(), failures.clone());
            writers.spawn(async move { taken(&store, n, &going, &failures).await });
        }
        for _ in 0..2 {
            let (store, going, failures) = (Postgres::open(&url).await.unwrap(), going.clone(), failures.clone());
            workers.spawn(async move { sent(&store, &going, &failures).await });
        }
        for n in 0..restarts {
            tokio::time::sleep(Duration::from_millis(20 + n * 37 % 150)).await;
            tokio::task::block_in_place(|| server.kill());
        }
        going.store(false, Ordering::Release);
        let (taken, sent) = (writers.join_all().await.concat(), workers.join_all().await.concat());
        let store = Postgres::open(&url).await.unwrap();
        let mut lost = 0;
        for (key, id) in &taken {
            lost += u32::from(store.by_key("desk", key).await.unwrap() != Some(*id));
        }
        let rows: u64 = messages(&store).await.values().sum();
        let once: HashSet<_> = sent.iter().collect();
        let (failures, twice) = (failures.load(Ordering::Acquire), sent.len() - once.len());
        println!(
            "{restarts} restarts, {failures} failures: {} messages taken, {lost} lost, {rows} rows; {} sent, {twice} twice",
            taken.len(),
            sent.len()
        );
        // The last message of each writer may be stored without a reply.
        assert!(lost == 0 && twice == 0 && (taken.len()..=taken.len() + 2).contains(&usize::try_from(rows).unwrap()));
        assert!(!sent.is_empty() && u64::from(failures) >= restarts, "hardly anything happened");
    }

    /// Enqueues one message after the other, each again under its key until it succeeds.
    async fn taken(store: &Postgres, writer: u32, going: &AtomicBool, failures: &AtomicU32) -> Vec<(String, Id)> {
        let mut taken = Vec::new();
        while going.load(Ordering::Acquire) {
            let key = format!("{writer}-{}", taken.len());
            let person = u32::try_from(taken.len() % 1000).unwrap();
            match store.enqueue(new(&key, person, 2)).await {
                Ok(Enqueued::New(id) | Enqueued::Same(id)) => taken.push((key, id)),
                Ok(Enqueued::Other | Enqueued::Refused { .. }) => panic!("it is the same"),
                Err(error) => failed(&error, failures).await,
            }
        }
        taken
    }

    /// Sends claimed messages as a worker does: drops those it could not begin, and finishes the others.
    async fn sent(store: &Postgres, going: &AtomicBool, failures: &AtomicU32) -> Vec<Id> {
        let (mut sent, now) = (Vec::new(), Timestamp::from_millis(1));
        while going.load(Ordering::Acquire) {
            let claimed = match claimed(store, now, 4).await {
                Ok(claimed) => claimed,
                Err(error) => {
                    failed(&error, failures).await;
                    Vec::new()
                }
            };
            for Claimed { hold, .. } in claimed {
                let attempt = Attempt::new("mock", "desk", now);
                match store.begin(hold, attempt).await {
                    Ok(true) => sent.push(hold.id),
                    Ok(false) => panic!("nobody else can hold it"),
                    Err(error) => {
                        failed(&error, failures).await;
                        continue;
                    }
                }
                while let Err(error) = store.finish(hold, End::without_attempt(State::Accepted, "", now)).await {
                    failed(&error, failures).await;
                }
            }
        }
        sent
    }

    async fn failed(error: &Error, failures: &AtomicU32) {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        failures.fetch_add(1, Ordering::AcqRel);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
