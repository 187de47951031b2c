//! The store in PostgreSQL, for several workers at once.
//!
//! What one thread does in the file of SQLite, locks do here, and each has its reason beside it: the conversation's in
//! `claim`, the row's wherever something is read to be written, and that of a delivery in `lock_told`. A lock that is
//! waited for is taken before any row is, so that no two wait for each other; rows that still cross are found by the
//! server, and the work is done again.
//!
//! Every time in it is by the clock of the database, so that those of the workers need not agree: what a program says is
//! put into that where it comes in, in the methods of `Engine` and nowhere else.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::config::Host;
use tokio_postgres::{Config, Row};

use super::super::Line;
use super::super::conversation::{Entry, Place};
use super::super::fallback::{Answer, Falls, First};
use super::super::file::File;
use super::super::outbox::{self, Id, PRIORITY_LAST, SendAttempt, Settled, State, Status};
use super::super::watch::Stats;
use super::{
    ABANDONED, Answers, Attempt, Bell, Claimed, ClaimedFile, EVENT_ATTEMPTS, End, Engine, Enqueued, EventFilter,
    FALLBACK_RESTORED, FALLBACKS_MAX, FELL_BACK, Falling, Fell, Fetched, FileHold, Handed, Hold, Incoming, Kept,
    Looked, New, OPTED_OUT, Put, RESTORED, Recovered, Ruling, Settle, TOLD, There, Told, Wait, What, digest_of,
    files_of, link_of, message_of, named, opt_out_from, opt_out_of, opted_out, person_of, price_of, rung_of, told_by,
};
use crate::address::Address;
use crate::channel::Cursor;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::delivery::DeliveryState;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Delivery, DeliveryOf, Event};
use crate::id::{AccountId, Digest, MessageId, is_code};
use crate::message::Message;
use crate::policy::{Decision, Reason};

mod bells;
mod file;
mod keep;
mod session;
mod time;

use bells::Bells;
use session::{Fault, Session, Sessions};

/// The steps from each version of the tables to the next; the table `migration` says which a database has.
const MIGRATIONS: &[&str] = &[include_str!("postgres.sql")];

/// One migration at a time.
const LOCK_MIGRATION: &str = "SELECT pg_advisory_xact_lock(hashtextextended('civic_messaging.migration', 0))";

/// The longest text that an index is asked to hold, in bytes.
const INDEXED_MAX: usize = 1000;

pub(super) struct Postgres {
    sessions: Sessions,
    bells: Bells,
    name: String,
}

impl Postgres {
    pub(super) async fn open(url: &str) -> Result<Self> {
        Self::open_on(url, Arc::new(SystemClock::new())).await
    }

    /// Opens it on a machine that has this clock.
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
        // A deploy that goes step by step moves the database first, and one step at a time.
        if step > ours + 1 {
            return Err(Error::config("store", "was made by a much newer version of this program"));
        }
        let store = Self { sessions: Sessions::new(config.clone(), clock), bells: Bells::new(config), name };
        store.sessions.keep(session).await.map_err(|fault| fault.error())?;
        Ok(store)
    }

    /// A moment that a program said, by the clock of the database.
    fn at(&self, said: Timestamp) -> Timestamp {
        self.sessions.theirs(said)
    }

    fn settle_at(&self, said: Settle) -> Settle {
        Settle { due: said.due.map(|due| self.at(due)), now: self.at(said.now), ..said }
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Postgres").field(&self.name).finish()
    }
}

/// Runs the steps that are missing.
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

/// The SQL of the steps that are missing.
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

/// The last step that a database has: 0 for one without our tables.
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
    // The driver's words may hold the password.
    let wrong = |_| Error::config("store", "is no URL that PostgreSQL reads: postgres://user@host/database");
    let config: Config = url.parse().map_err(wrong)?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(Error::config("store", "names no host: postgres://user@host/database"));
    }
    Ok(config)
}

/// The database and where it is, without the user and the password.
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
    /// Several workers may work: claims keep them apart.
    async fn lock(&self) -> Result<Box<dyn Send>> {
        Ok(Box::new(()))
    }

    async fn enqueue(&self, new: New) -> Result<Enqueued> {
        let new = New { due: self.at(new.due), now: self.at(new.now), ..new };
        self.sessions.run(new, |db, new| Box::pin(enqueue(db, new, None))).await
    }

    async fn enqueue_and_ack(&self, new: New, event: i64) -> Result<Enqueued> {
        let new = New { due: self.at(new.due), now: self.at(new.now), ..new };
        self.sessions.run(new, move |db, new| Box::pin(enqueue_and_ack(db, new, event))).await
    }

    async fn claim(&self, now: Timestamp, lease: Duration, most: u32) -> Result<Vec<Claimed>> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let now = self.at(now);
        self.sessions.run((), move |db, ()| Box::pin(claim(db, now, lease, most))).await
    }

    async fn release(&self, hold: Hold, due: Timestamp, why: &'static str) -> Result<bool> {
        let release = "UPDATE civic_messaging.message SET state = 'deferred', due = $3, reason = $4, lease = NULL
             WHERE id = $1 AND fence = $2 AND state = 'claimed'";
        let due = self.at(due);
        self.sessions
            .run((), move |db, ()| {
                Box::pin(async move {
                    let released = db.change(release, &[&hold.id.0, &hold.fence, &due.as_millis(), &why]).await?;
                    Ok(released == 1)
                })
            })
            .await
    }

    async fn ruled(&self, hold: Hold, ruling: Ruling) -> Result<bool> {
        let ruling = Ruling { settle: self.settle_at(ruling.settle), ..ruling };
        self.sessions.run(ruling, move |db, ruling| Box::pin(ruled(db, hold, ruling))).await
    }

    async fn falling(&self, now: Timestamp) -> Result<Vec<Falling>> {
        let now = self.at(now);
        self.sessions.run((), move |db, ()| Box::pin(fallbacks(db, FALLING, Some(now)))).await
    }

    async fn fall_back(&self, now: Timestamp, mut answers: Answers) -> Result<Fell> {
        for answer in answers.values_mut() {
            if let Answer::Policy(Decision::Defer { until, .. }) = answer {
                *until = self.at(*until);
            }
        }
        let now = self.at(now);
        self.sessions.run(answers, move |db, answers| Box::pin(fall_back(db, now, answers))).await
    }

    async fn read(&self, ids: Vec<i64>) -> Result<Vec<Claimed>> {
        self.sessions.run(ids, move |db, ids| Box::pin(read_claimed(db, ids))).await
    }

    async fn begin(&self, hold: Hold, attempt: Attempt) -> Result<bool> {
        let attempt = Attempt { at: self.at(attempt.at), ..attempt };
        self.sessions.run(attempt, move |db, attempt| Box::pin(begin(db, hold, attempt))).await
    }

    async fn finish(&self, hold: Hold, end: End) -> Result<bool> {
        let end = End { due: end.due.map(|due| self.at(due)), now: self.at(end.now), ..end };
        self.sessions.run(end, move |db, end| Box::pin(finish(db, hold, end))).await
    }

    /// Only what has lapsed is taken back, whatever `all` says: a worker that starts knows nothing of the others that
    /// live, and what one that died had claimed lapses.
    async fn recover(&self, now: Timestamp, _all: bool) -> Result<Recovered> {
        self.sessions.measure().await?;
        let now = self.at(now);
        let lapsed = self.sessions.run((), move |db, ()| Box::pin(lapsed(db, now))).await?;
        let mut recovered = Recovered::default();
        // Each for itself, so that at most one row is held while a lock is waited for.
        for id in lapsed {
            let doubted = self.sessions.run((), move |db, ()| Box::pin(doubt(db, id, now))).await?;
            recovered.unknown += u64::from(doubted);
        }
        let requeue = "UPDATE civic_messaging.message SET state = 'queued', due = $1, lease = NULL
             WHERE id IN (SELECT id FROM civic_messaging.message
                          WHERE phase = 'claimed' AND state = 'claimed' AND lease <= $1
                          FOR UPDATE SKIP LOCKED)";
        recovered.queued = self
            .sessions
            .run((), move |db, ()| Box::pin(async move { db.change(requeue, &[&now.as_millis()]).await }))
            .await?;
        Ok(recovered)
    }

    async fn restored(&self, at: Timestamp, now: Timestamp) -> Result<u64> {
        let now = self.at(now);
        self.sessions.run((), move |db, ()| Box::pin(restored(db, at, now))).await
    }

    async fn doubtful(&self, now: Timestamp, wait: Duration, most: u32) -> Result<Vec<Claimed>> {
        let now = self.at(now);
        self.sessions.run((), move |db, ()| Box::pin(doubtful(db, now, wait, most))).await
    }

    async fn hold_fallback(&self, id: Id) -> Result<()> {
        let hold = "UPDATE civic_messaging.message SET fallback_due = NULL
             WHERE id = $1 AND state IN ('unknown', 'parked')";
        self.sessions.run((), move |db, ()| Box::pin(async move { db.change(hold, &[&id.0]).await.map(drop) })).await
    }

    async fn standing(&self, line: &str, state: State, after: Option<Id>, most: u32) -> Result<Vec<Status>> {
        let after = after.map_or(i64::MIN, |id| id.0);
        self.sessions.run(line, move |db, line| Box::pin(standing(db, line, state, after, most))).await
    }

    async fn settle(&self, id: Id, settled: Settle) -> Result<Option<String>> {
        let settled = self.settle_at(settled);
        self.sessions.run(settled, move |db, settled| Box::pin(settle(db, id.0, settled))).await
    }

    async fn take_in(&self, events: Vec<Incoming>, cursor: Option<(String, Cursor)>, now: Timestamp) -> Result<usize> {
        let now = self.at(now);
        self.sessions
            .run((events, cursor), move |db, (events, cursor)| Box::pin(take_in(db, events, cursor.as_ref(), now)))
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

    async fn next_batch(&self, of: &EventFilter, now: Timestamp, lease: Duration, most: u32) -> Result<Vec<Handed>> {
        let now = self.at(now);
        self.sessions.run(of, move |db, of| Box::pin(next_batch(db, of, now, lease, most))).await
    }

    async fn ack(&self, event: i64, now: Timestamp) -> Result<()> {
        let now = self.at(now);
        self.sessions.run((), move |db, ()| Box::pin(ack(db, event, now))).await
    }

    async fn nack(&self, event: i64, until: Timestamp, now: Timestamp) -> Result<bool> {
        let (until, now) = (self.at(until).as_millis(), self.at(now).as_millis());
        self.sessions.run((), move |db, ()| Box::pin(nack(db, event, until, now))).await
    }

    async fn parked_events(&self, of: &EventFilter, after: i64, now: Timestamp, most: u32) -> Result<Vec<Handed>> {
        let now = self.at(now);
        self.sessions.run(of, move |db, of| Box::pin(parked_events(db, of, after, now, most))).await
    }

    async fn status(&self, id: Id) -> Result<Option<Status>> {
        let found = self.sessions.run((), move |db, ()| Box::pin(statuses(db, vec![id.0]))).await?;
        Ok(found.into_iter().next().map(|(status, _)| status))
    }

    async fn conversation(&self, line: &str, with: &str, before: Option<Place>, most: u32) -> Result<Vec<Entry>> {
        self.sessions
            .run((line, with), move |db, &(line, with)| Box::pin(conversation(db, line, with, before, most)))
            .await
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

    async fn note(&self, lines: Vec<Line>) -> Result<()> {
        self.sessions.run(lines, |db, lines| Box::pin(keep::note(db, lines))).await
    }

    async fn attend(&self, lines: Vec<String>, now: Timestamp) -> Result<()> {
        let now = self.at(now).as_millis();
        self.sessions.run(lines, move |db, lines| Box::pin(keep::attend(db, lines, now))).await
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

    async fn claim_files(&self, now: Timestamp, lease: Duration, most: u32) -> Result<Vec<ClaimedFile>> {
        let now = self.at(now);
        self.sessions.run((), move |db, ()| Box::pin(file::claim(db, now, now.plus(lease), most))).await
    }

    async fn fetched(&self, hold: FileHold, fetched: Fetched, now: Timestamp) -> Result<bool> {
        let now = self.at(now);
        let fetched = match fetched {
            Fetched::Again(at) => Fetched::Again(self.at(at)),
            fetched => fetched,
        };
        self.sessions.run(fetched, move |db, fetched| Box::pin(file::fetched(db, hold, fetched, now))).await
    }

    async fn files(&self, event: i64) -> Result<Vec<File>> {
        self.sessions.run((), move |db, ()| Box::pin(file::of(db, event))).await
    }

    async fn purge(&self, now: Timestamp, most: u32) -> Result<u64> {
        let now = self.at(now);
        self.sessions.run((), move |db, ()| Box::pin(keep::purge(db, now, most))).await
    }

    async fn unwanted(&self, now: Timestamp, lease: Duration, most: u32) -> Result<Vec<Digest>> {
        let now = self.at(now);
        self.sessions.run((), move |db, ()| Box::pin(keep::unwanted(db, now, now.plus(lease), most))).await
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

    fn rung(&self, bell: Bell) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.bells.rung(bell))
    }
}

/// Takes a message: it may be one that goes instead of another.
async fn enqueue(db: &Session, new: &New, instead_of: Option<i64>) -> Result<Enqueued, Fault> {
    let body = serde_json::to_string(&new.message)?;
    let fallback = new.fallback.as_ref().map(serde_json::to_string).transpose()?;
    let digest = digest_of(&body, fallback.as_deref());
    let (line, key) = (indexed(&new.line), indexed(&new.key));
    let due = if new.due > new.now { State::Deferred } else { State::Queued };
    let words = new.deferred.as_ref().map(ToString::to_string);
    // It waits for another that writes the same key at this moment, and then leaves it alone.
    let insert = "INSERT INTO civic_messaging.message
             (line, key, recipient, body, digest, priority, state, due, queued, fallback, fallback_due, instead_of, reason,
              fallback_recipient)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
         ON CONFLICT (line, key) DO NOTHING RETURNING id";
    let put = db
        .row(
            insert,
            &[
                &line,
                &key,
                &text(new.message.to.expose()),
                &body,
                &digest,
                &i16::from(new.priority),
                &due.as_str(),
                &new.due.as_millis(),
                &new.now.as_millis(),
                &fallback,
                &new.fallback_due().map(Timestamp::as_millis),
                &instead_of,
                &words.as_deref().map(text),
                &new.fallback.as_ref().map(|fallback| text(fallback.message.to.expose())),
            ],
        )
        .await?;
    if let Some(row) = put {
        let id = row.try_get(0)?;
        let files: Vec<_> = files_of(&body, fallback.as_deref()).into_iter().collect();
        if !files.is_empty() {
            let put = "INSERT INTO civic_messaging.message_file (sha256, message) SELECT unnest($1::text[]), $2";
            db.change(put, &[&files, &id]).await?;
        }
        if let Some(reason) = &new.deferred {
            put_decision(db, id, "defer", reason, new.now).await?;
        }
        if due == State::Queued {
            db.rings(Bell::ToSend);
        }
        return Ok(Enqueued::New(Id(id)));
    }
    let there = "SELECT id, digest, body, fallback FROM civic_messaging.message WHERE line = $1 AND key = $2";
    let row = db.row(there, &[&line, &key]).await?.ok_or(Fault::Unreadable)?;
    let there = There { digest: row.try_get(1)?, body: row.try_get(2)?, fallback: row.try_get(3)? };
    Ok(if new.is(&digest, &there) { Enqueued::Same(Id(row.try_get(0)?)) } else { Enqueued::Other })
}

/// What may be claimed: one at a time in a conversation, and nobody is overtaken but by what is more urgent; what is
/// planned for later holds up nobody.
macro_rules! ready {
    () => {
        "m.phase IN ('queued', 'deferred') AND m.due <= $1 AND NOT EXISTS (
             SELECT 1 FROM civic_messaging.message AS other
             WHERE other.conversation = m.conversation
               AND other.phase IN ('queued', 'deferred', 'claimed')
               AND (other.phase = 'claimed'
                    OR other.id < m.id AND other.priority <= m.priority
                       AND (other.due <= $1 OR other.attempts > 0)))"
    };
}

/// What may be claimed, in order, and so that nobody else claims in its conversation meanwhile. Each priority is searched by
/// itself, and only while there are too few: a search of all in one would go through what is planned for later. `OFFSET 0`
/// keeps the lock out of the search: it is tried for what was found, in order, until that is enough.
const FIND: &str = concat!(
    "SELECT id FROM generate_series(0, $3) AS of (priority), LATERAL (
         SELECT id FROM (
             SELECT m.id, m.conversation FROM civic_messaging.message AS m WHERE m.priority = of.priority AND ",
    ready!(),
    " ORDER BY m.due, m.id OFFSET 0) AS ready
         WHERE pg_try_advisory_xact_lock(conversation) LIMIT $2) AS found
     LIMIT $2"
);

/// Two workers that look at the same moment see the same messages. So each first locks the conversations of what it
/// finds, by their hashes and without waiting: what another is choosing from is left to it. Only then, by a second
/// statement and so as of a later moment, is it looked at what may be claimed. The lock is held until the claim is
/// committed, and nobody claims without it: so whoever has it sees every claim in the conversation that there is, and
/// nobody can add one before this one is to be seen. A conversation is its hash all through: two of one hash, should they
/// ever meet, wait for each other as if they were one.
async fn claim(db: &Session, now: Timestamp, lease: Duration, most: u32) -> Result<Vec<Claimed>, Fault> {
    // A plan that was made while the tables were empty, or for any number of messages, would sort all of them.
    db.batch("SET LOCAL plan_cache_mode = force_custom_plan").await?;
    let found = db.rows(FIND, &[&now.as_millis(), &i64::from(most), &i32::from(PRIORITY_LAST)]).await?;
    let found = found.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    // Who calls a message back holds its row: it is passed over.
    let take = concat!(
        "WITH first AS (
             SELECT DISTINCT ON (m.conversation) m.id FROM civic_messaging.message AS m
             WHERE m.id = ANY ($2) AND ",
        ready!(),
        " ORDER BY m.conversation, m.priority, m.due, m.id),
         free AS (
             SELECT m.id FROM civic_messaging.message AS m WHERE m.id IN (SELECT id FROM first)
               AND m.state IN ('queued', 'deferred') FOR UPDATE SKIP LOCKED)
         UPDATE civic_messaging.message AS m SET state = 'claimed', lease = $3, fence = m.fence + 1
         FROM free WHERE m.id = free.id RETURNING m.priority, m.due, m.id"
    );
    let taken = db.rows(take, &[&now.as_millis(), &found, &now.plus(lease).as_millis()]).await?;
    let read = |row: &Row| Ok((row.try_get::<_, i16>(0)?, row.try_get::<_, i64>(1)?, row.try_get::<_, i64>(2)?));
    let mut taken = taken.iter().map(read).collect::<Result<Vec<_>, Fault>>()?;
    taken.sort_unstable();
    let taken: Vec<i64> = taken.into_iter().map(|(_, _, id)| id).collect();
    read_claimed(db, &taken).await
}

/// Messages as they are handed to a worker, in the order of their numbers here.
async fn read_claimed(db: &Session, ids: &[i64]) -> Result<Vec<Claimed>, Fault> {
    let read = "SELECT m.id, m.fence, m.line, m.body, m.queued, m.lookups, m.restored,
                (SELECT p.id FROM civic_messaging.part AS p WHERE p.message = m.id
                 ORDER BY p.gateway COLLATE \"C\", p.id COLLATE \"C\" LIMIT 1),
                (SELECT l.address FROM civic_messaging.link AS l WHERE l.line = m.line AND l.previous = m.recipient),
                m.digest, m.fallback,
                EXISTS (SELECT 1 FROM civic_messaging.decision WHERE message = m.id AND decision = 'opt_out')
         FROM civic_messaging.message AS m WHERE m.id = ANY ($1) ORDER BY array_position($1, m.id)";
    let tries =
        "SELECT gateway, account, begun, message, outcome IS NOT DISTINCT FROM 'unknown', passing, ended IS NULL,
                outcome IS NOT DISTINCT FROM 'suspended', bound, reference
         FROM civic_messaging.attempt WHERE message = ANY ($1) ORDER BY message, n";
    let tries = db.rows(tries, &[&ids]).await?;
    let mut claimed = Vec::with_capacity(ids.len());
    for row in db.rows(read, &[&ids]).await? {
        let id: i64 = row.try_get(0)?;
        let mut attempts = Vec::new();
        for of in &tries {
            if of.try_get::<_, i64>(3)? == id {
                let (gateway, account, at) = (of.try_get(0)?, of.try_get(1)?, moment(of, 2)?);
                let (doubted, passing, died) = (of.try_get(4)?, of.try_get(5)?, of.try_get(6)?);
                let (suspended, bound, reference) = (of.try_get(7)?, of.try_get(8)?, of.try_get(9)?);
                attempts.push(Attempt { gateway, account, at, reference, doubted, passing, died, suspended, bound });
            }
        }
        let (message, damaged) = message_of(row.try_get(3)?, row.try_get(10)?, row.try_get(9)?);
        claimed.push(Claimed {
            hold: Hold { id: Id(id), fence: row.try_get(1)? },
            line: row.try_get(2)?,
            message,
            damaged,
            opted_out: row.try_get(11)?,
            queued: moment(&row, 4)?,
            attempts,
            lookups: count(&row, 5)?,
            restored: row.try_get::<_, Option<i64>>(6)?.map(Timestamp::from_millis),
            gateway_id: row.try_get::<_, Option<String>>(7)?.map(MessageId::from),
            moved_to: row.try_get::<_, Option<&str>>(8)?.and_then(|address| serde_json::from_str(address).ok()),
        });
    }
    Ok(claimed)
}

async fn begin(db: &Session, hold: Hold, attempt: &Attempt) -> Result<bool, Fault> {
    let begin = "UPDATE civic_messaging.message SET state = 'sending', attempts = attempts + 1
         WHERE id = $1 AND fence = $2 AND state = 'claimed' AND lease > $3";
    let begun = db.change(begin, &[&hold.id.0, &hold.fence, &attempt.at.as_millis()]).await? == 1;
    if begun {
        let note = "INSERT INTO civic_messaging.attempt (message, n, gateway, account, begun, reference)
             SELECT id, attempts, $2, $3, $4, $5 FROM civic_messaging.message WHERE id = $1";
        let (gateway, account) = (text(&attempt.gateway), text(&attempt.account));
        db.change(note, &[&hold.id.0, &gateway, &account, &attempt.at.as_millis(), &attempt.reference]).await?;
    }
    Ok(begun)
}

async fn finish(db: &Session, hold: Hold, end: &End) -> Result<bool, Fault> {
    let id = hold.id.0;
    lock_own(db, id, &end.ids).await?;
    let held = "SELECT line, delivery, recipient FROM civic_messaging.message
         WHERE id = $1 AND fence = $2 AND state IN ('claimed', 'sending') FOR UPDATE";
    let Some(held) = db.row(held, &[&id, &hold.fence]).await? else { return Ok(false) };
    let attempt = "UPDATE civic_messaging.attempt
         SET ended = $2, outcome = $3, kind = $4, code = $5, passing = $6, segments = $7, price = $8, currency = $9,
             bound = $10
         WHERE message = $1 AND n = (SELECT attempts FROM civic_messaging.message WHERE id = $1) AND outcome IS NULL";
    let (code, segments) = (end.code.as_deref().map(text), end.segments.and_then(|n| i32::try_from(n).ok()));
    let price = end.price.map(|price| price.micros);
    let currency = end.price.as_ref().map(|price| text(price.currency.as_str()));
    let ended = end.now.as_millis();
    let (passing, bound) = (end.passing, end.bound);
    db.change(attempt, &[&id, &ended, &end.outcome, &end.kind, &code, &passing, &segments, &price, &currency, &bound])
        .await?;
    let part = "INSERT INTO civic_messaging.part (gateway, account, id, message)
         SELECT gateway, account, $2, message FROM civic_messaging.attempt WHERE message = $1 ORDER BY n DESC LIMIT 1
         ON CONFLICT DO NOTHING";
    for gateway_id in &end.ids {
        db.change(part, &[&id, &indexed(gateway_id.as_str())]).await?;
    }
    for (name, recipient) in end.names(held.try_get(2)?) {
        link(db, held.try_get(0)?, name, recipient, end.now).await?;
    }
    let before = held.try_get::<_, Option<&str>>(1)?;
    let delivery = match end.delivery {
        Some(state) => Some(risen(before, state)?),
        None => before.map(str::to_owned),
    };
    let from = &[State::Claimed, State::Sending];
    let settled = Settle { state: end.state, due: end.due, reason: end.reason.clone(), from, now: end.now };
    put_settled(db, id, held.try_get(0)?, delivery.as_deref(), &settled).await?;
    if end.kind == ErrorKind::OptedOut.as_str() {
        opted_out_of(db, id, end.now).await?;
    }
    match settled.state {
        State::Unknown | State::Parked => heard_of(db, id, end.now).await?,
        _ => join_early(db, id, end.now).await?,
    }
    Ok(true)
}

async fn restored(db: &Session, at: Timestamp, now: Timestamp) -> Result<u64, Fault> {
    let held = "UPDATE civic_messaging.message
         SET state = 'unknown', due = $2, lookups = 0, lease = NULL, reason = $3, restored = $1
         WHERE state IN ('queued', 'claimed', 'sending') OR state = 'deferred' AND due <= $4";
    let look_up = now.plus(outbox::RESTORED_LOOK_UP).as_millis();
    let held = db.change(held, &[&at.as_millis(), &look_up, &RESTORED, &now.as_millis()]).await?;
    // What goes instead of a message may have gone too, since.
    for falling in fallbacks(db, FALLING_HELD, None).await? {
        let id = falling.id;
        db.change("UPDATE civic_messaging.message SET fallback_due = NULL WHERE id = $1", &[&id]).await?;
        let Some(instead) = falling.instead(now) else { continue };
        if let Enqueued::New(id) = enqueue(db, &instead, Some(id)).await? {
            let reason = Some(FALLBACK_RESTORED.to_owned());
            settle(db, id.0, &Settle { state: State::Parked, due: None, reason, from: &[State::Queued], now }).await?;
        }
    }
    Ok(held)
}

async fn ruled(db: &Session, hold: Hold, ruling: &Ruling) -> Result<bool, Fault> {
    let held = "SELECT 1 FROM civic_messaging.message WHERE id = $1 AND fence = $2 AND state = 'claimed' FOR UPDATE";
    if db.row(held, &[&hold.id.0, &hold.fence]).await?.is_none() {
        return Ok(false);
    }
    put_decision(db, hold.id.0, ruling.decision, &ruling.reason, ruling.settle.now).await?;
    settle(db, hold.id.0, &ruling.settle).await.map(|line| line.is_some())
}

/// Puts down what the policy said of a message when it was not yes.
async fn put_decision(db: &Session, id: i64, decision: &str, why: &Reason, at: Timestamp) -> Result<(), Fault> {
    let put = "INSERT INTO civic_messaging.decision (message, at, decision, rule, reason) VALUES ($1, $2, $3, $4, $5)";
    let (rule, words) = (text(why.rule()), why.to_string());
    db.change(put, &[&id, &at.as_millis(), &decision, &rule, &text(&words)]).await.map(drop)
}

/// The messages whose fallbacks are to be looked at by a moment, or all that have one.
macro_rules! with_fallback {
    ($lock:literal) => {
        concat!(
            "SELECT id, line, key, fallback, state, delivery, restored IS NOT NULL,
                EXISTS (SELECT 1 FROM civic_messaging.attempt WHERE message = m.id AND outcome = 'unknown')
                OR EXISTS (SELECT 1 FROM civic_messaging.part WHERE message = m.id),
                EXISTS (SELECT 1 FROM civic_messaging.attempt WHERE message = m.id AND kind = 'opted_out')
                OR EXISTS (SELECT 1 FROM civic_messaging.decision WHERE message = m.id AND decision = 'opt_out'), lookups,
                EXISTS (SELECT 1 FROM civic_messaging.decision WHERE message = m.id AND decision = 'refuse')
             FROM civic_messaging.message AS m
             WHERE fallback_due IS NOT NULL AND ($1::bigint IS NULL OR fallback_due <= $1)
             ORDER BY fallback_due, id LIMIT $2",
            $lock
        )
    };
}

/// They are read, and left to whoever holds them.
const FALLING: &str = with_fallback!("");

/// They are held: what another looks at is left to it.
const FALLING_HELD: &str = with_fallback!(" FOR UPDATE SKIP LOCKED");

async fn fallbacks(db: &Session, due: &'static str, by: Option<Timestamp>) -> Result<Vec<Falling>, Fault> {
    let most = by.map(|_| i64::from(FALLBACKS_MAX));
    let mut due_now = Vec::new();
    for row in db.rows(due, &[&by.map(Timestamp::as_millis), &most]).await? {
        let delivery = row.try_get::<_, Option<&str>>(5)?.and_then(rung_of);
        let restored = row.try_get(6)?;
        let doubted = restored || row.try_get(7)?;
        let (state, opted_out, refused) = (state(&row, 4)?, row.try_get(8)?, row.try_get(10)?);
        let first = First { state, delivery, doubted, opted_out, refused, restored };
        let fallback = serde_json::from_str(row.try_get(3)?).ok();
        let (id, line, key, lookups) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, count(&row, 9)?);
        due_now.push(Falling { id, line, key, lookups, fallback, first });
    }
    Ok(due_now)
}

async fn fall_back(db: &Session, now: Timestamp, answers: &Answers) -> Result<Fell, Fault> {
    let mut fell = Fell::default();
    for falling in fallbacks(db, FALLING_HELD, Some(now)).await? {
        let (id, Looked { falls, again, said }) = (falling.id, falling.looked_at(answers, now));
        if let Some((decision, reason)) = &said {
            put_decision(db, id, decision, reason, now).await?;
        }
        let asked = i32::from(matches!(answers.get(&id), Some(Answer::Unclear)));
        let note = "UPDATE civic_messaging.message SET fallback_due = $2, lookups = lookups + $3 WHERE id = $1";
        db.change(note, &[&id, &again.map(Timestamp::as_millis), &asked]).await?;
        if falls == Falls::Never && said.is_some() {
            fell.refused.push(Id(id));
        }
        if falls == Falls::CallsBack {
            let from = &[State::Queued, State::Deferred, State::Parked];
            let reason = Some(FELL_BACK.to_owned());
            let line = settle(db, id, &Settle { state: State::Cancelled, due: None, reason, from, now }).await?;
            fell.called_back.extend(line.map(|line| (Id(id), line)));
        }
        if matches!(falls, Falls::CallsBack | Falls::Goes)
            && let Some(instead) = falling.instead(now)
            && let Enqueued::New(went) = enqueue(db, &instead, Some(id)).await?
        {
            fell.went.push((went, instead));
        }
    }
    Ok(fell)
}

/// What was being sent by a worker whose claim has lapsed.
async fn lapsed(db: &Session, now: Timestamp) -> Result<Vec<i64>, Fault> {
    let lapsed = "SELECT id FROM civic_messaging.message
         WHERE phase = 'claimed' AND state = 'sending' AND lease <= $1 ORDER BY id";
    let lapsed = db.rows(lapsed, &[&now.as_millis()]).await?;
    Ok(lapsed.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

/// Puts a message in doubt whose claim has lapsed while it was being sent. False: its worker wrote just now.
async fn doubt(db: &Session, id: i64, now: Timestamp) -> Result<bool, Fault> {
    lock_own(db, id, &[]).await?;
    let held = "SELECT 1 FROM civic_messaging.message
         WHERE id = $1 AND state = 'sending' AND lease <= $2 FOR UPDATE SKIP LOCKED";
    if db.row(held, &[&id, &now.as_millis()]).await?.is_none() {
        return Ok(false);
    }
    for held in read_claimed(db, &[id]).await? {
        settle(db, id, &outbox::left_behind(&held, now)).await?;
    }
    let attempt = "UPDATE civic_messaging.attempt SET outcome = 'unknown' WHERE message = $1 AND outcome IS NULL";
    db.change(attempt, &[&id]).await?;
    heard_of(db, id, now).await?;
    Ok(true)
}

async fn doubtful(db: &Session, now: Timestamp, wait: Duration, most: u32) -> Result<Vec<Claimed>, Fault> {
    let due = "SELECT id FROM civic_messaging.message WHERE phase = 'unknown' AND due <= $1
         ORDER BY due, id LIMIT $2 FOR UPDATE SKIP LOCKED";
    let due = db.rows(due, &[&now.as_millis(), &i64::from(most)]).await?;
    let ids = due.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    let doubtful = read_claimed(db, &ids).await?;
    // If nobody settles it, it is asked about again.
    let later = "UPDATE civic_messaging.message SET due = $2, lookups = lookups + 1 WHERE id = ANY ($1)";
    db.change(later, &[&ids, &now.plus(wait).as_millis()]).await?;
    Ok(doubtful)
}

/// Puts a message into another state, and tells the line where that is an end: which line it is.
async fn settle(db: &Session, id: i64, settled: &Settle) -> Result<Option<String>, Fault> {
    let now = "SELECT line, state, delivery FROM civic_messaging.message WHERE id = $1 FOR UPDATE";
    let Some(now) = db.row(now, &[&id]).await? else { return Ok(None) };
    if !settled.from.contains(&state(&now, 1)?) {
        return Ok(None);
    }
    let line: String = now.try_get(0)?;
    put_settled(db, id, &line, now.try_get(2)?, settled).await?;
    Ok(Some(line))
}

async fn put_settled(db: &Session, id: i64, line: &str, delivery: Option<&str>, settled: &Settle) -> Result<(), Fault> {
    let put = "UPDATE civic_messaging.message
         SET state = $2, due = $3, reason = $4, lease = NULL, settled = $5, delivery = $6,
             fallback_due = CASE WHEN fallback_due > $7 THEN $8 ELSE fallback_due END
         WHERE id = $1";
    let at = settled.state.is_settled().then_some(settled.now.as_millis());
    let (due, reason) = (settled.due.map(Timestamp::as_millis), settled.reason.as_deref().map(text));
    let (looked_at, now) = (settled.looked_at(delivery).map(Timestamp::as_millis), settled.now.as_millis());
    db.change(put, &[&id, &settled.state.as_str(), &due, &reason, &at, &delivery, &looked_at, &now]).await?;
    if settled.state == State::Queued {
        db.rings(Bell::ToSend);
    }
    if settled.state.is_settled() {
        let told = Settled::new(Id(id), settled.state, settled.reason.clone());
        let put = Put { line: Some(line), dedupe: None, kind: "settled", person: None };
        put_event(db, &put, &serde_json::to_string(&told)?, settled.now).await?;
    }
    Ok(())
}

async fn take_in(
    db: &Session,
    events: &[Incoming],
    cursor: Option<&(String, Cursor)>,
    now: Timestamp,
) -> Result<usize, Fault> {
    let told = events.iter().filter_map(|incoming| match &incoming.event {
        Event::Delivery(delivery) => Some(delivery),
        _ => None,
    });
    let by_id = told.clone().filter_map(|told| Some(by_id(&told.envelope.gateway, told.id()?.as_str())));
    let names: Vec<_> = by_id.chain(told.filter_map(|told| Some(by_key(told.key()?)))).collect();
    lock_told(db, &names).await?;
    let mut new = 0;
    for incoming @ Incoming { line, event, .. } in events {
        let dedupe = Digest::of(event.id().as_bytes()).to_string();
        let body = serde_json::to_string(event)?;
        let put = Put { line: line.as_deref(), dedupe: Some(&dedupe), kind: "event", person: person_of(event) };
        if !put_event(db, &put, &body, now).await? {
            continue;
        }
        new += 1;
        file::put(db, &dedupe, incoming.files(), now).await?;
        if let Event::Delivery(delivery) = event {
            deliver(db, line.as_deref(), delivery, now).await?;
        }
        if let (Some(line), Some((previous, current))) = (line, link_of(event)) {
            link(db, line, previous, current, event.envelope().at).await?;
        }
        if let (Some(line), Some((names, from))) = (line, opt_out_of(event)) {
            opt_out(db, line, &names, from, now).await?;
        }
    }
    if let Some((channel, place)) = cursor {
        let put = "INSERT INTO civic_messaging.cursor (channel, place) VALUES ($1, $2)
             ON CONFLICT (channel) DO UPDATE SET place = excluded.place";
        db.change(put, &[&indexed(channel), &text(place.as_str())]).await?;
    }
    Ok(new)
}

/// Puts an event down. False: it was there.
async fn put_event(db: &Session, put: &Put<'_>, body: &str, now: Timestamp) -> Result<bool, Fault> {
    let event = "INSERT INTO civic_messaging.event (line, dedupe, kind, person, body, taken_in)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (dedupe) DO NOTHING";
    let (line, person) = (put.line.map(indexed), put.person.map(indexed));
    let new = db.change(event, &[&line, &put.dedupe, &put.kind, &person, &body, &now.as_millis()]).await? == 1;
    if new {
        db.rings(Bell::ToRead);
    }
    Ok(new)
}

/// Notes where a person is reached now: each address leads to the last one, however many lie between.
async fn link(db: &Session, line: &str, previous: &str, to: &Address, at: Timestamp) -> Result<(), Fault> {
    // One change of a line at a time: each reads what the others wrote.
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended('civic_messaging.link' || chr(10) || $1, 0))";
    let (line, previous, current, at) = (indexed(line), indexed(previous), indexed(to.expose()), at.as_millis());
    let there = "SELECT 1 FROM civic_messaging.link WHERE line = $1 AND previous = $2 AND current = $3";
    if db.row(there, &[&line, &previous, &current]).await?.is_some() {
        return Ok(());
    }
    db.rows(lock, &[&line]).await?;
    let newer = "SELECT current, address FROM civic_messaging.link WHERE line = $1 AND previous = $2 AND at > $3";
    // The later news may come first.
    if db.row(newer, &[&line, &previous, &at]).await?.is_some() {
        return Ok(());
    }
    let (current, address) = match db.row(newer, &[&line, &current, &at]).await? {
        Some(row) => (row.try_get(0)?, row.try_get(1)?),
        None => (current.into_owned(), serde_json::to_string(to)?),
    };
    // Who came back to an address leaves it no more.
    db.change("DELETE FROM civic_messaging.link WHERE line = $1 AND previous = $2", &[&line, &current]).await?;
    let lead = "UPDATE civic_messaging.link SET current = $3, address = $4 WHERE line = $1 AND current = $2";
    db.change(lead, &[&line, &previous, &current, &address]).await?;
    if *current != *previous {
        let put = "INSERT INTO civic_messaging.link (line, previous, current, address, at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (line, previous) DO UPDATE SET current = excluded.current, address = excluded.address,
                 at = excluded.at";
        db.change(put, &[&line, &previous, &current, &address, &at]).await?;
    }
    Ok(())
}

async fn ack(db: &Session, event: i64, now: Timestamp) -> Result<(), Fault> {
    let ack = "UPDATE civic_messaging.event SET acked = $2 WHERE id = $1 AND acked IS NULL";
    db.change(ack, &[&event, &now.as_millis()]).await.map(drop)
}

async fn enqueue_and_ack(db: &Session, new: &New, event: i64) -> Result<Enqueued, Fault> {
    let enqueued = enqueue(db, new, None).await?;
    if enqueued != Enqueued::Other {
        ack(db, event, new.now).await?;
    }
    Ok(enqueued)
}

/// The events that nobody holds, and that wait behind no failing one of their person.
macro_rules! open_events {
    ($of:literal) => {
        concat!(
            "acked IS NULL AND parked IS NULL AND (lease IS NULL OR lease <= $1) ",
            $of,
            " AND NOT EXISTS (SELECT 1 FROM civic_messaging.event AS f WHERE f.acked IS NULL AND f.parked IS NULL
                              AND f.nacked AND f.line = e.line AND f.person = e.person AND f.id < e.id)"
        )
    };
}

/// Who takes one at this moment has locked it.
const NEXT_OF_ALL: &str = concat!(
    "SELECT id, line, kind, body, attempts, taken_in FROM civic_messaging.event AS e WHERE ",
    open_events!(""),
    " ORDER BY id LIMIT $2 FOR UPDATE OF e SKIP LOCKED"
);
const NEXT_OF_LINE: &str = concat!(
    "SELECT id, line, kind, body, attempts, taken_in FROM civic_messaging.event AS e WHERE ",
    open_events!("AND line = $3"),
    " ORDER BY id LIMIT $2 FOR UPDATE OF e SKIP LOCKED"
);

/// Of all lines but these, line by line, so that what is left to others is not gone through; and of each a few more than are
/// wanted, for some may be locked.
const NEXT_OF_OWN: &str = concat!(
    "WITH RECURSIVE lines (line) AS (
         (SELECT line FROM civic_messaging.event WHERE acked IS NULL AND parked IS NULL AND line IS NOT NULL
          ORDER BY line LIMIT 1)
         UNION ALL
         SELECT (SELECT n.line FROM civic_messaging.event AS n
                 WHERE n.acked IS NULL AND n.parked IS NULL AND n.line > lines.line ORDER BY n.line LIMIT 1)
         FROM lines WHERE lines.line IS NOT NULL),
     found AS MATERIALIZED (
         SELECT of_line.id FROM lines, LATERAL (
             SELECT id FROM civic_messaging.event AS e WHERE ",
    open_events!("AND e.line = lines.line"),
    "        ORDER BY id LIMIT $2::bigint + 32) AS of_line
         WHERE lines.line IS NOT NULL AND lines.line <> ALL ($3)
         UNION ALL (SELECT id FROM civic_messaging.event AS e WHERE ",
    open_events!("AND e.line IS NULL"),
    "    ORDER BY id LIMIT $2::bigint + 32))
     SELECT id, line, kind, body, attempts, taken_in FROM civic_messaging.event AS e
     WHERE id IN (SELECT found.id FROM found) AND acked IS NULL AND parked IS NULL AND (lease IS NULL OR lease <= $1)
     ORDER BY id LIMIT $2 FOR UPDATE OF e SKIP LOCKED"
);

async fn next_batch(
    db: &Session,
    of: &EventFilter,
    now: Timestamp,
    lease: Duration,
    most: u32,
) -> Result<Vec<Handed>, Fault> {
    let at = now.as_millis();
    let foreign = foreign(db, of, now).await?;
    let mut batch = Vec::new();
    loop {
        let room = i64::from(most) - i64::try_from(batch.len()).unwrap_or(i64::MAX);
        if room <= 0 {
            break;
        }
        let rows = match of {
            EventFilter::Line(line) => db.rows(NEXT_OF_LINE, &[&at, &room, &indexed(line)]).await?,
            EventFilter::All { .. } if foreign.is_empty() => db.rows(NEXT_OF_ALL, &[&at, &room]).await?,
            EventFilter::All { .. } => db.rows(NEXT_OF_OWN, &[&at, &room, &foreign]).await?,
        };
        if rows.is_empty() {
            break;
        }
        let (mut failed, mut held, mut attempts) = (Vec::new(), Vec::new(), Vec::new());
        for row in &rows {
            let mut handed = handed(row)?;
            if handed.attempts >= EVENT_ATTEMPTS {
                failed.push(handed.id);
                continue;
            }
            held.push(handed.id);
            attempts.push(handed.begins().cast_signed());
            batch.push(handed);
        }
        if !failed.is_empty() {
            let park = "UPDATE civic_messaging.event SET parked = $2 WHERE id = ANY ($1)";
            db.change(park, &[&failed, &at]).await?;
        }
        let hold = "UPDATE civic_messaging.event AS e SET lease = $3, attempts = taken.attempts
             FROM unnest($1::bigint[], $2::int[]) AS taken (id, attempts) WHERE e.id = taken.id";
        db.change(hold, &[&held, &attempts, &now.plus(lease).as_millis()]).await?;
        // A batch that is not full is all that there is, unless some were parked.
        if failed.is_empty() {
            break;
        }
    }
    complete(db, &mut batch).await?;
    Ok(batch)
}

/// The lines whose events are left to another program.
async fn foreign(db: &Session, of: &EventFilter, now: Timestamp) -> Result<Vec<String>, Fault> {
    if matches!(of, EventFilter::Line(_)) {
        return Ok(Vec::new());
    }
    let attended = "SELECT id FROM civic_messaging.line WHERE attended > $1";
    let attended = db.rows(attended, &[&now.minus(ABANDONED).as_millis()]).await?;
    Ok(of.foreign(attended.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?))
}

fn handed(row: &Row) -> Result<Handed, Fault> {
    let what = What::read(row.try_get(2)?, row.try_get(3)?);
    let (attempts, taken_in) = (row.try_get::<_, i32>(4)?.unsigned_abs(), moment(row, 5)?);
    Ok(Handed { id: row.try_get(0)?, line: row.try_get(1)?, what, attempts, taken_in })
}

async fn nack(db: &Session, event: i64, until: i64, now: i64) -> Result<bool, Fault> {
    let nack = "UPDATE civic_messaging.event SET nacked = TRUE, lease = $2,
                attempts = CASE WHEN parked IS NULL THEN attempts ELSE 0 END,
                parked = CASE WHEN parked IS NULL AND attempts >= $3 THEN $4::bigint END
         WHERE id = $1 AND acked IS NULL RETURNING parked IS NOT NULL";
    let row = db.row(nack, &[&event, &until, &EVENT_ATTEMPTS.cast_signed(), &now]).await?;
    Ok(row.map_or(Ok(false), |row| row.try_get(0))?)
}

async fn parked_events(
    db: &Session,
    of: &EventFilter,
    after: i64,
    now: Timestamp,
    most: u32,
) -> Result<Vec<Handed>, Fault> {
    let parked = "SELECT id, line, kind, body, attempts, taken_in FROM civic_messaging.event
         WHERE acked IS NULL AND parked IS NOT NULL AND ($1::text IS NULL OR line = $1) AND id > $2
           AND (line IS NULL OR line <> ALL ($4))
         ORDER BY id LIMIT $3";
    let line = match of {
        EventFilter::Line(line) => Some(indexed(line)),
        EventFilter::All { .. } => None,
    };
    let foreign = foreign(db, of, now).await?;
    let rows = db.rows(parked, &[&line, &after, &i64::from(most), &foreign]).await?;
    let mut parked = rows.iter().map(handed).collect::<Result<Vec<_>, _>>()?;
    complete(db, &mut parked).await?;
    Ok(parked)
}

/// The statement that lists the messages of a line in a state, each by its index.
const fn listed(state: State) -> &'static str {
    match state {
        State::Queued | State::Deferred => {
            "SELECT id FROM civic_messaging.message
             WHERE line = $1 AND phase = $2 AND phase IN ('queued', 'deferred') AND id > $3 ORDER BY id LIMIT $4"
        }
        State::Unknown => {
            "SELECT id FROM civic_messaging.message
             WHERE line = $1 AND phase = 'unknown' AND state = $2 AND id > $3 ORDER BY id LIMIT $4"
        }
        // There are no more than are on their way at once.
        State::Claimed | State::Sending => {
            "SELECT id FROM civic_messaging.message
             WHERE line = $1 AND phase = 'claimed' AND state = $2 AND id > $3 ORDER BY id LIMIT $4"
        }
        _ => {
            "SELECT id FROM civic_messaging.message
             WHERE line = $1 AND phase = $2 AND settled IS NOT NULL AND id > $3 ORDER BY id LIMIT $4"
        }
    }
}

async fn standing(db: &Session, line: &str, state: State, after: i64, most: u32) -> Result<Vec<Status>, Fault> {
    let ids = db.rows(listed(state), &[&indexed(line), &state.as_str(), &after, &i64::from(most)]).await?;
    let ids = ids.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let mut standing: Vec<_> = statuses(db, ids).await?.into_iter().map(|(status, _)| status).collect();
    standing.sort_unstable_by_key(|status| status.id);
    Ok(standing)
}

/// The statuses of messages, and what they say: none where this program cannot read it, or its content was removed.
async fn statuses(db: &Session, ids: Vec<i64>) -> Result<Vec<(Status, Option<Message>)>, Fault> {
    let status = "SELECT id, line, key, tag, state, due, attempts, delivery, reason,
                (SELECT p.id FROM civic_messaging.part AS p WHERE p.message = m.id
                 ORDER BY p.gateway COLLATE \"C\", p.id COLLATE \"C\" LIMIT 1),
                instead_of, (SELECT id FROM civic_messaging.message WHERE instead_of = m.id), body, fallback, digest,
                refusal.decision, refusal.rule
         FROM civic_messaging.message AS m LEFT JOIN LATERAL (
             SELECT decision, rule FROM civic_messaging.decision
             WHERE message = m.id AND decision IN ('refuse', 'opt_out') ORDER BY n DESC LIMIT 1) AS refusal ON true
         WHERE id = ANY ($1)";
    let mut histories = histories(db, &ids).await?;
    let read = |row: &Row| {
        let id = row.try_get(0)?;
        let refusal = row.try_get::<_, Option<String>>(15)?.zip(row.try_get(16)?);
        let kept = Kept {
            id,
            line: row.try_get(1)?,
            key: row.try_get(2)?,
            tag: row.try_get(3)?,
            state: state(row, 4)?,
            due: row.try_get::<_, Option<i64>>(5)?.map(Timestamp::from_millis),
            attempts: count(row, 6)?,
            delivery: row.try_get(7)?,
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

/// The attempts of messages, the oldest first, by their numbers.
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

/// Completes events of messages that were settled with what is known of the messages.
async fn complete(db: &Session, events: &mut [Handed]) -> Result<(), Fault> {
    let ids = events.iter().filter_map(|handed| match &handed.what {
        What::Settled(settled) => Some(settled.id.0),
        _ => None,
    });
    let ids: Vec<_> = ids.collect();
    if ids.is_empty() {
        return Ok(());
    }
    let statuses: HashMap<_, _> = statuses(db, ids).await?.into_iter().map(|(status, _)| (status.id, status)).collect();
    for handed in events {
        if let What::Settled(settled) = &mut handed.what
            && let Some(status) = statuses.get(&settled.id)
        {
            settled.complete(status.clone(), handed.taken_in);
        }
    }
    Ok(())
}

async fn conversation(
    db: &Session,
    line: &str,
    with: &str,
    before: Option<Place>,
    most: u32,
) -> Result<Vec<Entry>, Fault> {
    let (line, with) = (indexed(line), indexed(with));
    let who = "WITH now AS (
             SELECT coalesce((SELECT current FROM civic_messaging.link WHERE line = $1 AND previous = $2), $2) AS person)
         SELECT person FROM now
         UNION SELECT previous FROM civic_messaging.link WHERE line = $1 AND current = (SELECT person FROM now)";
    let who = db.rows(who, &[&line, &with]).await?;
    let who = who.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
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
    let said = db.rows(places, &[&line, &who, &at, &ours, &id, &i64::from(most)]).await?;
    let place = |row: &Row| Ok::<_, Fault>(Place { at: moment(row, 0)?, ours: row.try_get(1)?, id: row.try_get(2)? });
    let places = said.iter().map(place).collect::<Result<Vec<_>, _>>()?;
    let ours = places.iter().filter(|place| place.ours).map(|place| place.id).collect();
    let mut ours: HashMap<_, _> = statuses(db, ours).await?.into_iter().map(|ours| (ours.0.id.0, ours)).collect();
    let mut entries = Vec::with_capacity(places.len());
    for (row, place) in said.iter().zip(places) {
        if !place.ours {
            entries.push(Entry::theirs(place, row.try_get(3)?));
        } else if let Some((status, message)) = ours.remove(&place.id) {
            entries.push(Entry::ours(place, status, message));
        }
    }
    Ok(entries)
}

/// Lets a delivery have its effect on the message that it is of, or keeps it until that is written down.
async fn deliver(db: &Session, line: Option<&str>, delivery: &Delivery, now: Timestamp) -> Result<(), Fault> {
    let (gateway, account) = (indexed(&delivery.envelope.gateway), text(delivery.envelope.account.as_str()));
    let (id, key) = match &delivery.of {
        DeliveryOf::Message { id, key } => (id, key),
        DeliveryOf::UpTo { at, .. } => {
            let Some(person) = told_by(delivery) else { return Ok(()) };
            // What may have gone is left as it is: that all before was read does not say that this went. Ordered, so that
            // two that cross do not wait for each other.
            let had = "SELECT m.id FROM civic_messaging.message AS m
                 JOIN civic_messaging.attempt AS a ON a.message = m.id AND a.n = m.attempts
                 WHERE m.conversation = hashtextextended($1 || chr(10) || $2, 0) AND m.recipient = $2
                   AND m.state = 'accepted' AND a.gateway = $3 AND a.account = $4 AND a.begun <= $5
                 ORDER BY m.id";
            let (line, person) = (line.map(indexed), text(person.expose()));
            for row in db.rows(had, &[&line, &person, &gateway, &account, &at.as_millis()]).await? {
                climb(db, row.try_get(0)?, delivery.state, now).await?;
            }
            return Ok(());
        }
    };
    let of = "SELECT message FROM (
             SELECT 1 AS n, message FROM civic_messaging.part WHERE gateway = $1 AND account = $4 AND id = $2
             UNION ALL
             SELECT 2, message FROM civic_messaging.attempt WHERE reference = $3 AND gateway = $1 AND account = $4
             UNION ALL
             SELECT 3, m.id FROM civic_messaging.message AS m
             JOIN civic_messaging.attempt AS a ON a.message = m.id AND a.gateway = $1 AND a.account = $4
             WHERE m.key = $3) AS found
         ORDER BY n, message LIMIT 1";
    let (id, key) = (id.as_ref().map(|id| indexed(id.as_str())), key.as_deref().map(indexed));
    if let Some(row) = db.row(of, &[&gateway, &id, &key, &account]).await? {
        let message: i64 = row.try_get(0)?;
        // What was found by its key is found by its id from now on.
        if let Some(id) = id.as_deref().filter(|id| !id.is_empty()) {
            let part = "INSERT INTO civic_messaging.part (gateway, account, id, message) VALUES ($1, $2, $3, $4)
                 ON CONFLICT DO NOTHING";
            db.change(part, &[&gateway, &account, &id, &message]).await?;
        }
        return told_of(db, message, Told::by(delivery), now).await;
    }
    let keep = "INSERT INTO civic_messaging.early (gateway, account, id, key, delivery, at)
         VALUES ($1, $2, $3, $4, $5, $6)";
    let told = serde_json::to_string(&Told::by(delivery))?;
    db.change(keep, &[&gateway, &account, &id, &key, &told, &now.as_millis()]).await.map(drop)
}

/// Ends what waits for a person who said STOP, and the fallbacks of all that they were sent.
async fn opt_out(db: &Session, line: &str, names: &[String], from: u8, now: Timestamp) -> Result<(), Fault> {
    // Each by its index, and in one order, so that two that cross do not wait for each other.
    let of = "SELECT id FROM civic_messaging.message
         WHERE conversation = ANY (SELECT hashtextextended($1 || chr(10) || person, 0) FROM unnest($2::text[]) AS person)
           AND line = $1 AND recipient = ANY ($2) AND priority >= $3
           AND (settled IS NULL OR state = 'parked' OR fallback_due IS NOT NULL)
         UNION SELECT id FROM civic_messaging.message
         WHERE hashtextextended(fallback_recipient, 0)
               = ANY (SELECT hashtextextended(person, 0) FROM unnest($2::text[]) AS person)
           AND line = $1 AND fallback_recipient = ANY ($2) AND priority >= $3 AND fallback_due IS NOT NULL
         UNION SELECT instead.id FROM civic_messaging.message AS first
         JOIN civic_messaging.message AS instead ON instead.instead_of = first.id
         WHERE first.conversation
               = ANY (SELECT hashtextextended($1 || chr(10) || person, 0) FROM unnest($2::text[]) AS person)
           AND first.line = $1 AND first.recipient = ANY ($2) AND instead.priority >= $3 AND instead.settled IS NULL
         ORDER BY id";
    let line = indexed(line);
    let names = names_of(db, &line, names).await?;
    for row in db.rows(of, &[&line, &names, &i16::from(from)]).await? {
        ends(db, row.try_get(0)?, now).await?;
    }
    Ok(())
}

/// The person of a message said STOP to it: it has no fallback any more, nor has another message to the same person.
async fn opted_out_of(db: &Session, message: i64, now: Timestamp) -> Result<(), Fault> {
    let of = "SELECT line, recipient, priority FROM civic_messaging.message WHERE id = $1";
    let Some(row) = db.row(of, &[&message]).await? else { return Ok(()) };
    let (line, priority): (&str, i16) = (row.try_get(0)?, row.try_get(2)?);
    let from = i16::from(opt_out_from(u8::try_from(priority).unwrap_or(PRIORITY_LAST)));
    let names = names_of(db, line, &[row.try_get(1)?]).await?;
    let fallbacks = "UPDATE civic_messaging.message SET fallback_due = NULL
         WHERE id IN (
             SELECT id FROM civic_messaging.message
             WHERE id = $4 OR fallback_due IS NOT NULL AND line = $1 AND recipient = ANY ($2) AND priority >= $3
               AND conversation = ANY (SELECT hashtextextended($1 || chr(10) || person, 0) FROM unnest($2::text[]) AS person)
             ORDER BY id FOR UPDATE)";
    db.change(fallbacks, &[&line, &names, &from, &message]).await?;
    let instead = "SELECT id FROM civic_messaging.message WHERE instead_of = $1";
    match db.row(instead, &[&message]).await? {
        Some(instead) => ends(db, instead.try_get(0)?, now).await,
        None => Ok(()),
    }
}

/// Ends a message, as far as it has not gone, and its fallback.
async fn ends(db: &Session, id: i64, now: Timestamp) -> Result<(), Fault> {
    put_decision(db, id, "opt_out", &Reason::new("opt-out", OPTED_OUT), now).await?;
    db.change("UPDATE civic_messaging.message SET fallback_due = NULL WHERE id = $1", &[&id]).await?;
    let doubted = "SELECT EXISTS (SELECT 1 FROM civic_messaging.attempt WHERE message = $1 AND outcome = 'unknown')";
    let Some(doubted) = db.row(doubted, &[&id]).await? else { return Ok(()) };
    settle(db, id, &opted_out(doubted.try_get(0)?, now)).await.map(drop)
}

/// All that a person is known by on a line, who is known by these names.
async fn names_of(db: &Session, line: &str, names: &[String]) -> Result<Vec<String>, Fault> {
    let of = "WITH now AS (
             SELECT unnest($2::text[]) AS person
             UNION SELECT current FROM civic_messaging.link WHERE line = $1 AND previous = ANY ($2))
         SELECT person FROM now
         UNION SELECT previous FROM civic_messaging.link WHERE line = $1 AND current IN (SELECT person FROM now)";
    let names: Vec<_> = names.iter().map(|name| text(name)).collect();
    let rows = db.rows(of, &[&line, &names]).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

/// What a gateway says of a message: how far it got, and so that it has it.
async fn told_of(db: &Session, message: i64, told: Told, now: Timestamp) -> Result<(), Fault> {
    climb(db, message, told.state, now).await?;
    if told.opted_out {
        opted_out_of(db, message, now).await?;
    }
    let from = &[State::Unknown, State::Parked];
    let settled = Settle { state: State::Accepted, due: None, reason: Some(TOLD.to_owned()), from, now };
    settle(db, message, &settled).await.map(drop)
}

/// Takes what a gateway told of a message while it was being sent.
async fn heard_of(db: &Session, message: i64, now: Timestamp) -> Result<(), Fault> {
    join_early(db, message, now).await?;
    let told = "SELECT delivery FROM civic_messaging.message
         WHERE id = $1 AND state IN ('unknown', 'parked') AND delivery IS NOT NULL";
    let Some(row) = db.row(told, &[&message]).await? else { return Ok(()) };
    match rung_of(row.try_get(0)?) {
        Some(state) => told_of(db, message, Told { state, opted_out: false }, now).await,
        None => Ok(()),
    }
}

/// Takes what came before the message's own id was written down.
async fn join_early(db: &Session, message: i64, now: Timestamp) -> Result<(), Fault> {
    let early = "DELETE FROM civic_messaging.early WHERE n IN (
             SELECT e.n FROM civic_messaging.part AS p
             JOIN civic_messaging.early AS e ON e.gateway = p.gateway AND e.account = p.account AND e.id = p.id
             WHERE p.message = $1
             UNION
             SELECT e.n FROM civic_messaging.message AS m JOIN civic_messaging.attempt AS a ON a.message = m.id
             JOIN civic_messaging.early AS e ON e.key = m.key AND e.gateway = a.gateway AND e.account = a.account
             WHERE m.id = $1
             UNION
             SELECT e.n FROM civic_messaging.attempt AS a
             JOIN civic_messaging.early AS e
                 ON e.key = a.reference AND e.gateway = a.gateway AND e.account = a.account
             WHERE a.message = $1)
         RETURNING delivery";
    // In any order: the ladder gives the same.
    for row in db.rows(early, &[&message]).await? {
        if let Ok(told) = serde_json::from_str(row.try_get(0)?) {
            told_of(db, message, told, now).await?;
        }
    }
    Ok(())
}

/// Takes a message up the ladder of delivery, and never down.
async fn climb(db: &Session, message: i64, state: DeliveryState, now: Timestamp) -> Result<(), Fault> {
    let before = "SELECT delivery FROM civic_messaging.message WHERE id = $1 FOR UPDATE";
    let Some(before) = db.row(before, &[&message]).await? else { return Ok(()) };
    let after = risen(before.try_get(0)?, state)?;
    let failed = rung_of(&after).is_some_and(DeliveryState::is_failure);
    let arrived = rung_of(&after) >= Some(DeliveryState::Delivered);
    let climb = "UPDATE civic_messaging.message
         SET delivery = $2,
             fallback_due = CASE WHEN $5 THEN NULL WHEN $3 AND fallback_due > $4 THEN $4 ELSE fallback_due END
         WHERE id = $1";
    db.change(climb, &[&message, &after, &failed, &now.as_millis(), &arrived]).await.map(drop)
}

/// The rung of a message that was on that one, as it is kept.
fn risen(before: Option<&str>, state: DeliveryState) -> Result<String, Fault> {
    Ok(serde_json::to_string(&before.and_then(rung_of).map_or(state, |before| before.join(state)))?)
}

/// Locks what a gateway may tell of this message: its key and references, and the ids that are about to be written down.
async fn lock_own(db: &Session, message: i64, ids: &[MessageId]) -> Result<(), Fault> {
    let of = "SELECT key, (SELECT gateway FROM civic_messaging.attempt WHERE message = $1 ORDER BY n DESC LIMIT 1),
             ARRAY(SELECT reference FROM civic_messaging.attempt WHERE message = $1 AND reference IS NOT NULL)
         FROM civic_messaging.message WHERE id = $1";
    let Some(row) = db.row(of, &[&message]).await? else { return Ok(()) };
    let gateway = row.try_get::<_, Option<&str>>(1)?.unwrap_or_default();
    let ids = ids.iter().map(|id| by_id(gateway, id.as_str()));
    let references: Vec<&str> = row.try_get(2)?;
    let names: Vec<_> = ids.chain(references.into_iter().chain([row.try_get(0)?]).map(by_key)).collect();
    lock_told(db, &names).await
}

/// Locks these names until the end of the transaction. Who writes down that a message has an id or a key, and who looks
/// for one, would else do so at the same moment, neither to be seen by the other: and the delivery would lie among the
/// early ones for ever. They are locks on 256 places, so that a page of thousands does not use up those of the server.
async fn lock_told(db: &Session, names: &[String]) -> Result<(), Fault> {
    if names.is_empty() {
        return Ok(());
    }
    let lock = "SELECT pg_advisory_xact_lock(1667854963, place) FROM (
             SELECT DISTINCT (hashtextextended(name, 0) & 255)::int AS place FROM unnest($1::text[]) AS name
             ORDER BY place) AS places";
    db.rows(lock, &[&names]).await.map(drop)
}

fn by_id(gateway: &str, id: &str) -> String {
    text(&format!("id\n{gateway}\n{id}")).into_owned()
}

fn by_key(key: &str) -> String {
    format!("key\n{}", indexed(key))
}

/// A text as PostgreSQL takes it, which knows no NUL.
fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

/// A text as an index takes it: a longer one than any gateway writes is known by its digest.
fn indexed(name: &str) -> Cow<'_, str> {
    if name.len() > INDEXED_MAX { Digest::of(name.as_bytes()).to_string().into() } else { text(name) }
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

/// Steps that a later version may have.
#[cfg(test)]
const LATER: &[&str] = &[
    "ALTER TABLE civic_messaging.message ADD COLUMN later TEXT;
     CREATE TABLE civic_messaging.later (id BIGINT PRIMARY KEY, body TEXT NOT NULL);
     CREATE INDEX message_later ON civic_messaging.message (later);
     ALTER TABLE civic_messaging.event ADD COLUMN later BIGINT DEFAULT 7;",
    "CREATE INDEX later_body ON civic_messaging.later (body);
     UPDATE civic_messaging.message SET later = key;",
];

/// Brings a database to one step more than this program has.
#[cfg(test)]
pub(super) async fn migrate_ahead(url: &str) {
    bring(url, &[MIGRATIONS, &LATER[..1]].concat()).await.unwrap();
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::sync::{Arc, Mutex};

    use super::super::cluster::{self, Database};
    use super::super::suite;
    use super::*;
    use crate::address::{Address, Phone};
    use crate::clock::VirtualClock;
    use crate::error::{ErrorKind, Outcome};
    use crate::message::Message;

    const LEASE: Duration = Duration::from_secs(180);

    fn new(key: &str, person: u32, priority: u8) -> New {
        let to = Address::from(Phone::from_digits(&format!("4477009{person:05}")).unwrap());
        let (line, key, now) = ("desk".to_owned(), key.to_owned(), Timestamp::from_millis(1));
        New { line, message: Message::text(to, "Hello"), key, priority, due: now, deferred: None, fallback: None, now }
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
    async fn it_opens_when_its_tables_are_there_and_never_makes_them() {
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
        // The suite runs on one step more.
        for (later, opens) in [(1, true), (2, false)] {
            bring(url, &[MIGRATIONS, &LATER[..later]].concat()).await.unwrap();
            let opened = Postgres::open(url).await;
            assert_eq!(opened.as_ref().err().map(Error::kind), (!opens).then_some(ErrorKind::Config), "{opened:?}");
            migrate(url).await.unwrap();
        }
    }

    #[tokio::test]
    async fn several_may_migrate_at_the_same_moment() {
        let Some(database) = Database::new().await else { return };
        let url = database.url();
        let steps = [MIGRATIONS, LATER].concat();
        let (one, two, three) = tokio::join!(bring(url, &steps), bring(url, &steps), bring(url, &steps));
        assert!([&one, &two, &three].iter().all(|done| done.is_ok()), "{one:?} {two:?} {three:?}");
        assert_eq!(print(url, &steps).await.unwrap(), "");
    }

    #[tokio::test]
    async fn from_every_step_the_tables_come_to_be_the_same_and_keep_what_they_hold() {
        let steps = [MIGRATIONS, LATER].concat();
        let mut all = Vec::new();
        for from in 0..=steps.len() {
            for by_hand in [false, true] {
                let Some(database) = Database::new().await else { return };
                let url = database.url();
                bring(url, &steps[..from]).await.unwrap();
                // A program of that step wrote there.
                let mut there = None;
                if from >= MIGRATIONS.len() {
                    let db = session(url).await;
                    there = Some(enqueue(&db, &new("k", 1, 2), None).await.ok().unwrap());
                }
                if by_hand {
                    cluster::psql(url, &print(url, &steps).await.unwrap());
                } else {
                    bring(url, &steps).await.unwrap();
                }
                assert_eq!(print(url, &steps).await.unwrap(), "");
                let db = session(url).await;
                if let Some(Enqueued::New(id)) = there {
                    assert_eq!(enqueue(&db, &new("k", 1, 2), None).await.ok(), Some(Enqueued::Same(id)));
                }
                all.push(shape(&db).await);
            }
        }
        assert!(all[0].len() > 60 && all[0].iter().any(|line| line.contains("plpgsql")), "{:?}", all[0]);
        assert!(all.iter().all(|shape| *shape == all[0]), "{all:?}");
    }

    #[tokio::test]
    async fn of_a_step_that_fails_and_of_those_before_it_nothing_stays() {
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

    /// All that is in the schema, line by line.
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
    async fn a_role_needs_the_rights_that_are_written_down_and_no_more() {
        let Some(database) = migrated().await else { return };
        let url = database.url_of_role();
        let error = Postgres::open(&url).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains("grant it USAGE"), "{error}");
        // With these the whole suite runs.
        assert_eq!(database.grant(MIGRATIONS[0], "the_role").await, 2);
        Postgres::open(&url).await.unwrap();
        let db = session(&url).await;
        for more in ["CREATE TABLE civic_messaging.more ()", "DROP TABLE civic_messaging.early", "CREATE SCHEMA more"] {
            let Err(Fault::Database(error)) = db.batch(more).await else { panic!("{more}") };
            assert_eq!(error.code(), Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE), "{more}");
        }
    }

    #[tokio::test]
    async fn a_session_is_ready_before_the_first_call() {
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
    async fn what_the_policy_said_when_a_message_was_taken_has_its_row() {
        let Some(database) = migrated().await else { return };
        let store = Postgres::open(database.url()).await.unwrap();
        let night = Some(Reason::new("quiet-hours", "it is night"));
        store.enqueue(New { deferred: night, ..new("k", 1, 2) }).await.unwrap();
        store.enqueue(new("l", 1, 2)).await.unwrap();
        let db = session(database.url()).await;
        let said = "SELECT concat_ws(' ', m.key, d.decision, d.rule, d.reason) FROM civic_messaging.decision AS d
             JOIN civic_messaging.message AS m ON m.id = d.message";
        let rows = db.rows(said, &[]).await.ok().unwrap();
        assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<&str>>(), ["k defer quiet-hours it is night"]);
    }

    #[tokio::test]
    async fn a_message_that_is_not_what_was_taken_is_known() {
        let Some(database) = migrated().await else { return };
        let store = Postgres::open(database.url()).await.unwrap();
        store.enqueue(new("k", 1, 2)).await.unwrap();
        let change = "UPDATE civic_messaging.message SET body = replace(body, 'Hello', 'Jello')";
        cluster::run(database.url(), change).await;
        let claimed = store.claim(Timestamp::from_millis(2), LEASE, 9).await.unwrap();
        assert!(claimed[0].damaged && claimed[0].message.is_none());
    }

    #[tokio::test]
    async fn a_session_that_was_lost_is_replaced() {
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
    async fn a_server_that_started_again_between_two_calls_goes_unnoticed() {
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
    async fn a_session_that_is_lost_in_the_middle_is_said_and_the_same_key_is_taken_again() {
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
    async fn a_url_without_a_host_is_said_to_be_that() {
        for url in ["postgres://", "postgres:///desk", "postgres://desk@/desk", "postgresql://?user=desk"] {
            let error = Postgres::open(url).await.unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("store")), "{url}: {error}");
            assert!(error.to_string().contains("names no host"), "{url}: {error}");
        }
    }

    #[tokio::test]
    async fn no_error_shows_the_password() {
        for (url, kind) in [
            ("postgres://desk:hunter2-hunter2@127.0.0.1:1/desk", ErrorKind::Unavailable),
            ("postgres://desk:hunter2-hunter2@127.0.0.1:port/desk", ErrorKind::Config),
            ("postgres://desk@127.0.0.1:1/desk?pasword=hunter2-hunter2", ErrorKind::Config),
        ] {
            let error = Postgres::open(url).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(kind == ErrorKind::Config || error.to_string().starts_with("store: does not work: "), "{error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
        let config = read("postgres://desk:hunter2-hunter2@db.example.gov.uk,%2Frun/desk").unwrap();
        let (name, clock) = (name_of(&config), Arc::new(SystemClock::new()));
        let store = Postgres { sessions: Sessions::new(config.clone(), clock), bells: Bells::new(config), name };
        assert_eq!(format!("{store:?}"), r#"Postgres("db.example.gov.uk,/run/desk")"#);
    }

    #[tokio::test]
    async fn a_claim_does_not_go_through_what_is_planned_for_later() {
        let Some(database) = migrated().await else { return };
        let fill = "INSERT INTO civic_messaging.message
                 (line, key, recipient, body, digest, priority, state, due, queued)
             SELECT 'desk', n, n, '', '', CASE WHEN n > 20000 THEN 2 ELSE 0 END,
                    CASE WHEN n > 20000 THEN 'queued' ELSE 'deferred' END, CASE WHEN n > 20000 THEN 1 ELSE 9 END, 1
             FROM generate_series(1, 20003) AS n;
             ANALYZE civic_messaging.message";
        cluster::run(database.url(), fill).await;
        let find = FIND.replace("$1", "1").replace("$2", "64").replace("$3", &PRIORITY_LAST.to_string());
        let plan = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {find}");
        let (client, connection) = tokio_postgres::connect(database.url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let answer = client.simple_query(&plan).await.unwrap();
        let plan = answer.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        let plan: serde_json::Value = serde_json::from_str(plan.unwrap()).unwrap();
        let plan = &plan[0]["Plan"];
        let blocks = ["Shared Hit Blocks", "Shared Read Blocks"].map(|blocks| plan[blocks].as_u64().unwrap());
        assert_eq!(plan["Actual Rows"].as_f64(), Some(3.0), "{plan:#}");
        // The index of those that are planned for later has about a hundred.
        assert!(blocks.iter().sum::<u64>() < 40, "{plan:#}");
    }

    #[tokio::test]
    async fn messages_of_a_state_are_listed_by_an_index() {
        let Some(database) = migrated().await else { return };
        let fill = "INSERT INTO civic_messaging.message
                 (line, key, recipient, body, digest, priority, state, due, queued, settled)
             SELECT 'desk', n, n, '', '', 2, state, 1, 1,
                    CASE WHEN state IN ('accepted', 'cancelled', 'expired', 'parked', 'refused', 'rejected') THEN 1 END
             FROM generate_series(1, 20000) AS n, LATERAL (
                 SELECT (ARRAY['accepted', 'queued', 'deferred', 'unknown', 'parked'])[n % 5 + 1] AS state) AS of_state;
             INSERT INTO civic_messaging.message (line, key, recipient, body, digest, priority, state, due, lease, queued)
             SELECT 'desk', state, '', '', '', 2, state, 1, 1, 1 FROM unnest(ARRAY['claimed', 'sending']) AS state;
             ANALYZE civic_messaging.message";
        cluster::run(database.url(), fill).await;
        let (client, connection) = tokio_postgres::connect(database.url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        for state in State::ALL {
            let list = listed(state).replace("$1", "'desk'").replace("$2", &format!("'{}'", state.as_str()));
            let list = list.replace("$3", "10000").replace("$4", "10");
            let answer = client.simple_query(&format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {list}")).await.unwrap();
            let plan = answer.iter().find_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            });
            let plan: serde_json::Value = serde_json::from_str(plan.unwrap()).unwrap();
            let plan = &plan[0]["Plan"];
            let blocks = ["Shared Hit Blocks", "Shared Read Blocks"].map(|blocks| plan[blocks].as_u64().unwrap());
            // All that there is has hundreds.
            assert!(blocks.iter().sum::<u64>() < 20, "{state:?}: {plan:#}");
        }
    }

    #[tokio::test]
    async fn a_send_that_begins_is_found_by_its_number_and_writes_no_index() {
        let Some(database) = migrated().await else { return };
        let (db, now) = (session(database.url()).await, Timestamp::from_millis(1));
        for n in 0..500 {
            enqueue(&db, &new(&n.to_string(), n, 2), None).await.ok().unwrap();
        }
        // As it mostly is when it is counted: nothing is claimed.
        db.batch("ANALYZE civic_messaging.message; BEGIN").await.ok().unwrap();
        let held = claim(&db, now, LEASE, 1).await.ok().unwrap();
        let counts = "SELECT pg_stat_get_xact_tuples_hot_updated('civic_messaging.message'::regclass),
                 pg_stat_get_xact_numscans('civic_messaging.message_held'::regclass)";
        let counts = async || {
            let row = db.row(counts, &[]).await.ok().unwrap().unwrap();
            (row.get::<_, i64>(0), row.get::<_, i64>(1))
        };
        let (written, searched) = counts().await;
        assert!(begin(&db, held[0].hold, &Attempt::new("mock", "desk", now)).await.ok().unwrap());
        let end = End::without_attempt(State::Accepted, "", now);
        assert_eq!(counts().await, (written + 1, searched));
        assert!(finish(&db, held[0].hold, &end).await.ok().unwrap());
        assert_eq!(counts().await, (written + 1, searched));
        db.batch("COMMIT").await.ok().unwrap();
    }

    #[tokio::test]
    async fn workers_whose_clocks_are_an_hour_apart_leave_each_other_what_is_theirs() {
        let Some(database) = migrated().await else { return };
        let (now, half_an_hour) = (SystemClock::new().now(), Duration::from_secs(1800));
        let on = async |now| {
            let clock = Arc::new(VirtualClock::at(now));
            (Postgres::open_on(database.url(), clock).await.unwrap(), now)
        };
        let (slow, fast) = (on(now.minus(half_an_hour)).await, on(now.plus(half_an_hour)).await);
        let (soon, late) = (LEASE - Duration::from_secs(60), LEASE + Duration::from_secs(60));
        for (n, (one, at_one), (two, at_two)) in [(0, &slow, &fast), (1, &fast, &slow)] {
            for key in 0..3 {
                let new = new(&format!("{n}-{key}"), n * 3 + key, 2);
                one.enqueue(New { due: *at_one, now: *at_one, ..new }).await.unwrap();
            }
            // The clocks of this test stand still, and that of the database does not.
            let at_two = &at_two.plus(Duration::from_secs(10));
            let held = two.claim(*at_two, LEASE, 9).await.unwrap();
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
            let again = one.claim(at_one.plus(late), LEASE, 9).await.unwrap();
            assert_eq!(again.iter().map(|again| again.hold.id).collect::<Vec<_>>(), [held[2].hold.id]);

            let photo = suite::incoming(&format!("photo-{n}"), 1);
            one.take_in(vec![photo], None, *at_one).await.unwrap();
            assert!(two.next(None, *at_two, LEASE).await.unwrap().is_none(), "it is held back for its file");
            let held = two.claim_files(*at_two, LEASE, 9).await.unwrap()[0].hold;
            assert!(one.claim_files(at_one.plus(soon), LEASE, 9).await.unwrap().is_empty());
            assert_eq!(one.claim_files(at_one.plus(late), LEASE, 9).await.unwrap().len(), 1);
            let again = Fetched::Again(at_two.plus(late));
            assert!(!two.fetched(held, again, at_two.plus(late)).await.unwrap());

            let handed = two.next(None, at_two.plus(soon), LEASE).await.unwrap().unwrap();
            assert!(one.next(None, at_one.plus(2 * soon), LEASE).await.unwrap().is_none());
            assert_eq!(one.next(None, at_one.plus(2 * late), LEASE).await.unwrap().unwrap().id, handed.id);
            one.ack(handed.id, *at_one).await.unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn several_workers_share_no_conversation_while_more_comes_in() {
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
                    for claimed in store.claim(now, LEASE, 2).await.unwrap() {
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
            // The later, the more urgent.
            let priority = 3 - u8::try_from(n % 4).unwrap();
            store.enqueue(new(&n.to_string(), n % 3, priority)).await.unwrap();
        }
        all_in.store(true, Ordering::Release);
        while let Some(worker) = workers.join_next().await {
            worker.unwrap();
        }
        assert_eq!(messages(&store).await, [(State::Accepted, u64::from(MESSAGES))].into());
    }

    /// `CIVIC_RESTARTS` says how often (12).
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_server_that_is_killed_under_load_loses_nothing_and_doubles_nothing() {
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
        // Of each writer the last may be there though nobody was told so.
        assert!(lost == 0 && twice == 0 && (taken.len()..=taken.len() + 2).contains(&usize::try_from(rows).unwrap()));
        assert!(!sent.is_empty() && u64::from(failures) >= restarts, "hardly anything happened");
    }

    /// Takes one message after the other, each again under its key until that is told.
    async fn taken(store: &Postgres, writer: u32, going: &AtomicBool, failures: &AtomicU32) -> Vec<(String, Id)> {
        let mut taken = Vec::new();
        while going.load(Ordering::Acquire) {
            let key = format!("{writer}-{}", taken.len());
            let person = u32::try_from(taken.len() % 1000).unwrap();
            match store.enqueue(new(&key, person, 2)).await {
                Ok(Enqueued::New(id) | Enqueued::Same(id)) => taken.push((key, id)),
                Ok(Enqueued::Other) => panic!("it is the same"),
                Err(error) => failed(&error, failures).await,
            }
        }
        taken
    }

    /// Sends what is claimed, as a worker does: what it could not begin it leaves, and what it began it ends.
    async fn sent(store: &Postgres, going: &AtomicBool, failures: &AtomicU32) -> Vec<Id> {
        let (mut sent, now) = (Vec::new(), Timestamp::from_millis(1));
        while going.load(Ordering::Acquire) {
            let claimed = match store.claim(now, LEASE, 4).await {
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
