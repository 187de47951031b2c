//! The store in one file of SQLite: one thread writes, and commits together what came meanwhile.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, TransactionBehavior, params};
use tokio::sync::oneshot;

use super::super::Line;
use super::super::conversation::{Entry, Place};
use super::super::fallback::{Answer, Falls, First};
use super::super::file::File;
use super::super::outbox::{self, Id, PRIORITY_LAST, SendAttempt, Settled, State, Status};
use super::super::watch::Stats;
use super::{
    ABANDONED, Answers, Attempt, Claimed, ClaimedFile, EVENT_ATTEMPTS, End, Engine, Enqueued, EventFilter,
    FALLBACK_RESTORED, FALLBACKS_MAX, FELL_BACK, Falling, Fell, Fetched, FileHold, Handed, Hold, Incoming, Kept,
    Looked, New, OPTED_OUT, Put, RESTORED, Recovered, Ruling, Settle, TOLD, There, Told, Wait, What, digest_of,
    files_of, link_of, message_of, named, opt_out_from, opt_out_of, opted_out, person_of, price_of, rung_of, told_by,
};
use crate::address::Address;
use crate::channel::Cursor;
use crate::clock::Timestamp;
use crate::delivery::DeliveryState;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Delivery, DeliveryOf, Event};
use crate::id::{AccountId, Digest, MessageId, is_code};
use crate::message::Message;
use crate::policy::Reason;

mod file;
mod keep;
mod log;
mod reader;
mod writer;

use reader::Reader;
use writer::Writer;

/// The steps from each version of the tables to the next; a file says which it has.
const MIGRATIONS: &[&str] = &[include_str!("sqlite.sql")];

/// How long a writer waits for another program that writes: ten seconds, in steps so short that it does not miss the
/// moments in between when many wait.
const BUSY_STEP: Duration = Duration::from_millis(5);
const BUSY_STEPS: i32 = 2000;

/// What to do about a file that is not as it was written.
const DAMAGED: &str = "is damaged, or no store: leave the file as it is, and restore a backup";

/// How many statements are kept prepared: more than there are.
const STATEMENTS: usize = 128;

pub(super) struct Sqlite {
    // It ends before the writer, which closes the file.
    reader: OnceLock<Reader>,
    writer: Writer,
    path: String,
    working: Arc<AtomicBool>,
    /// Something was removed whose traces stand in the log still.
    traces: AtomicBool,
}

/// The right to work on the store. Its file is one beside the database, so that other programs may still write
/// messages; the lock on it goes with the process.
struct Working {
    process: Arc<AtomicBool>,
    _file: Option<Connection>,
}

impl Drop for Working {
    fn drop(&mut self) {
        self.process.store(false, Ordering::Release);
    }
}

impl Sqlite {
    pub(super) async fn open(path: &str) -> Result<Self> {
        let name = path.to_owned();
        let writer = Writer::start(move || connect(&name)).await?;
        let (reader, working) = (OnceLock::new(), Arc::default());
        Ok(Self { reader, writer, path: path.to_owned(), working, traces: AtomicBool::new(true) })
    }

    /// Does this in a transaction, which is durable when it returns.
    async fn run<T: Send + 'static>(
        &self,
        work: impl Fn(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        self.writer.run(work).await
    }

    /// Does this as of one moment and beside the thread that writes: for what a person waits for.
    async fn look<T: Send + 'static>(
        &self,
        work: impl Fn(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.path == ":memory:" {
            return self.run(work).await;
        }
        if self.reader.get().is_none() {
            // Of two that come first one is dropped again.
            drop(self.reader.set(Reader::start(self.path.clone())?));
        }
        self.reader.get().ok_or_else(gone)?.run(work).await
    }

    /// Does this by a connection and on a thread of its own, beside the one that writes: for what takes long.
    async fn read<T: Send + 'static>(
        &self,
        work: impl Fn(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.path == ":memory:" {
            return self.run(work).await;
        }
        let ((told, done), path) = (oneshot::channel(), self.path.clone());
        let thread = std::thread::Builder::new().name("civic-store-read".to_owned());
        let read = move || {
            let read = Connection::open(path).and_then(|mut db| {
                wait_when_busy(&mut db)?;
                // Nothing is read twice.
                db.pragma_update(None, "cache_size", -500)?;
                work(&db)
            });
            drop(told.send(read.map_err(|error| failed(&error))));
        };
        thread.spawn(read).map_err(|_| gone())?;
        done.await.map_err(|_| gone())?
    }
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sqlite").field(&self.path).finish()
    }
}

fn connect(path: &str) -> Result<Connection> {
    // Before SQLite sees it, which would leave nothing of it.
    if log::is_broken(path) {
        return Err(Error::config("store", DAMAGED));
    }
    let opened = if path == ":memory:" { Connection::open_in_memory() } else { Connection::open(Path::new(path)) };
    let mut connection = opened.map_err(|error| cannot_open(&error))?;
    let check = has_stopped_uncleanly(&mut connection).map_err(|error| cannot_open(&error))?;
    prepare(&mut connection, MIGRATIONS, check).map_err(|error| cannot_open(&error))??;
    Ok(connection)
}

/// Returns `true` if the programs that had this file open last did not close it: it is in WAL mode, which the last of them
/// ends, and nobody has it open now. So is a copy of a file that was open.
fn has_stopped_uncleanly(db: &mut Connection) -> rusqlite::Result<bool> {
    wait_when_busy(db)?;
    let mode: String = db.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    Ok(mode == "wal" && is_alone(db)?)
}

/// Returns `true` if nobody else has the file open, and empties its log and ends WAL mode then.
fn is_alone(db: &Connection) -> rusqlite::Result<bool> {
    match db.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get::<_, String>(0)) {
        Ok(mode) => Ok(mode == "delete"),
        Err(error)
            if matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Returns `true` if the tables are whole, and their indexes, by which messages are found.
fn is_whole(db: &Connection) -> rusqlite::Result<bool> {
    db.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0).map(|check| check == "ok"))
}

fn wait_when_busy(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.busy_handler(Some(|times| {
        std::thread::sleep(BUSY_STEP);
        times < BUSY_STEPS
    }))
}

fn prepare(connection: &mut Connection, steps: &[&str], check: bool) -> rusqlite::Result<Result<()>> {
    wait_when_busy(connection)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // What is removed is overwritten, and not only forgotten.
    connection.pragma_update(None, "secure_delete", true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // With its indexes, by which messages are found: what they say and the tables do not would be sent, or missed.
    if check && !is_whole(connection)? {
        return Ok(Err(Error::config("store", DAMAGED)));
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: usize = transaction.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0))? as usize;
    let Some(missing) = steps.get(version..) else {
        return Ok(Err(Error::config("store", "was made by a newer version of this program")));
    };
    for step in missing {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", u32::try_from(steps.len()).unwrap_or(u32::MAX))?;
    transaction.commit()?;
    Ok(Ok(()))
}

/// The error of a store that does not do what it should: by SQLite's own words for the code, and nothing of the data.
fn failed(error: &rusqlite::Error) -> Error {
    let words = match error.sqlite_error() {
        Some(_) if is_full(error) => "its disk is full",
        Some(error) => rusqlite::ffi::code_to_str(error.extended_code),
        None => "what it holds cannot be read",
    };
    Error::new(ErrorKind::Unavailable, format!("does not work: {words}")).with_field("store")
}

fn is_full(error: &rusqlite::Error) -> bool {
    // So it says that there is no room for the index of its log.
    let no_room = |error: &rusqlite::ffi::Error| error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE;
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) || error.sqlite_error().is_some_and(no_room)
}

fn cannot_open(error: &rusqlite::Error) -> Error {
    use rusqlite::ErrorCode::{CannotOpen, DatabaseBusy, DatabaseCorrupt, NotADatabase, ReadOnly};
    let rule = match error.sqlite_error_code() {
        // It passes.
        _ if is_full(error) => return failed(error),
        Some(DatabaseBusy) => return failed(error),
        Some(CannotOpen | ReadOnly) => "cannot be opened: is its folder there, and may this user write to both?",
        Some(DatabaseCorrupt | NotADatabase) | None => DAMAGED,
        Some(_) => {
            let code = error.sqlite_error().map_or("unknown", |error| rusqlite::ffi::code_to_str(error.extended_code));
            return Error::config("store", format!("cannot be opened: {code}"));
        }
    };
    Error::config("store", rule)
}

fn gone() -> Error {
    Error::new(ErrorKind::Unavailable, "is closed").with_field("store")
}

impl ToSql for Timestamp {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.as_millis().into())
    }
}

impl FromSql for Timestamp {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_i64().map(Self::from_millis)
    }
}

impl ToSql for State {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.as_str().into())
    }
}

impl FromSql for State {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Self::read(value.as_str()?).ok_or(rusqlite::types::FromSqlError::InvalidType)
    }
}

fn to_json(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

#[async_trait]
impl Engine for Sqlite {
    async fn lock(&self) -> Result<Box<dyn Send>> {
        let taken = || Error::config("store", "has a worker already, in this process or another: one at a time");
        if self.working.swap(true, Ordering::AcqRel) {
            return Err(taken());
        }
        let mut working = Working { process: self.working.clone(), _file: None };
        if self.path != ":memory:" {
            working._file = Some(lock_file(&self.path).map_err(|error| match error.sqlite_error_code() {
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => taken(),
                _ => Error::config(
                    "store",
                    format!("the lock of its worker, a file beside it, cannot be taken: {error}"),
                ),
            })?);
        }
        Ok(Box::new(working))
    }

    async fn enqueue(&self, new: New) -> Result<Enqueued> {
        let written = Written::of(&new).map_err(|error| failed(&error))?;
        self.run(move |db| enqueue(db, &new, &written, None)).await
    }

    async fn enqueue_and_ack(&self, new: New, event: i64) -> Result<Enqueued> {
        let written = Written::of(&new).map_err(|error| failed(&error))?;
        self.run(move |db| {
            let enqueued = enqueue(db, &new, &written, None)?;
            if enqueued != Enqueued::Other {
                ack(db, event, new.now)?;
            }
            Ok(enqueued)
        })
        .await
    }

    async fn claim(&self, now: Timestamp, lease: Duration, most: u32) -> Result<Vec<Claimed>> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let claimed = self.run(move |db| {
            let mut claimed = Vec::new();
            for id in ready(db, now, most)? {
                // Where a damaged index names another message, nothing is claimed.
                let changed = db
                    .prepare_cached(
                        "UPDATE message SET state = 'claimed', lease = ?2, fence = fence + 1
                         WHERE id = ?1 AND state IN ('queued', 'deferred')",
                    )?
                    .execute((id, now.plus(lease)))?;
                if changed != 1 {
                    return Err(rusqlite::Error::StatementChangedRows(changed));
                }
                claimed.push(read_held(db, id)?);
            }
            Ok(claimed)
        });
        Ok(claimed.await?.into_iter().map(Held::read).collect())
    }

    async fn release(&self, hold: Hold, due: Timestamp, why: &'static str) -> Result<bool> {
        self.run(move |db| {
            let changed = db
                .prepare_cached(
                    "UPDATE message SET state = 'deferred', due = ?3, reason = ?4, lease = NULL
                     WHERE id = ?1 AND fence = ?2 AND state = 'claimed'",
                )?
                .execute((hold.id.0, hold.fence, due, why))?;
            Ok(changed == 1)
        })
        .await
    }

    async fn ruled(&self, hold: Hold, ruling: Ruling) -> Result<bool> {
        self.run(move |db| {
            let held = "SELECT 1 FROM message WHERE id = ?1 AND fence = ?2 AND state = 'claimed'";
            if db.prepare_cached(held)?.query_row((hold.id.0, hold.fence), |_| Ok(())).optional()?.is_none() {
                return Ok(false);
            }
            put_decision(db, hold.id.0, ruling.decision, &ruling.reason, ruling.settle.now)?;
            settle(db, hold.id.0, &ruling.settle).map(|line| line.is_some())
        })
        .await
    }

    async fn falling(&self, now: Timestamp) -> Result<Vec<Falling>> {
        self.run(move |db| fallbacks(db, Some(now))).await
    }

    async fn fall_back(&self, now: Timestamp, answers: Answers) -> Result<Fell> {
        self.run(move |db| fall_back(db, now, &answers)).await
    }

    async fn read(&self, ids: Vec<i64>) -> Result<Vec<Claimed>> {
        let held = self.run(move |db| ids.iter().map(|id| read_held(db, *id)).collect::<Result<Vec<_>, _>>());
        Ok(held.await?.into_iter().map(Held::read).collect())
    }

    async fn begin(&self, hold: Hold, attempt: Attempt) -> Result<bool> {
        self.run(move |db| {
            let changed = db
                .prepare_cached(
                    "UPDATE message SET state = 'sending', attempts = attempts + 1
                     WHERE id = ?1 AND fence = ?2 AND state = 'claimed' AND lease > ?3",
                )?
                .execute((hold.id.0, hold.fence, attempt.at))?;
            if changed == 1 {
                db.prepare_cached(
                    "INSERT INTO attempt (message, n, gateway, account, begun, reference)
                     VALUES (?1, (SELECT attempts FROM message WHERE id = ?1), ?2, ?3, ?4, ?5)",
                )?
                .execute((
                    hold.id.0,
                    &attempt.gateway,
                    &attempt.account,
                    attempt.at,
                    &attempt.reference,
                ))?;
            }
            Ok(changed == 1)
        })
        .await
    }

    async fn finish(&self, hold: Hold, end: End) -> Result<bool> {
        self.run(move |db| finish(db, hold, &end)).await
    }

    async fn recover(&self, now: Timestamp, all: bool) -> Result<Recovered> {
        self.run(move |db| {
            let lapsed = "SELECT id FROM message WHERE lease IS NOT NULL AND state = 'sending' AND (lease <= ?1 OR ?2)";
            let read = |row: &Row<'_>| row.get(0);
            let lapsed = db.prepare_cached(lapsed)?.query_map((now, all), read)?.collect::<Result<Vec<i64>, _>>()?;
            for id in &lapsed {
                let held = read_held(db, *id)?.read();
                settle(db, *id, &outbox::left_behind(&held, now))?;
                db.prepare_cached("UPDATE attempt SET outcome = 'unknown' WHERE message = ?1 AND outcome IS NULL")?
                    .execute((id,))?;
                heard_of(db, *id, now)?;
            }
            let queued = db
                .prepare_cached(
                    "UPDATE message SET state = 'queued', due = ?1, lease = NULL
                     WHERE lease IS NOT NULL AND state = 'claimed' AND (lease <= ?1 OR ?2)",
                )?
                .execute((now, all))?;
            if all {
                file::recover(db, now)?;
            }
            Ok(Recovered { queued: queued as u64, unknown: lapsed.len() as u64 })
        })
        .await
    }

    async fn restored(&self, at: Timestamp, now: Timestamp) -> Result<u64> {
        self.run(move |db| {
            let held = db
                .prepare_cached(
                    "UPDATE message SET state = 'unknown', due = ?2, lookups = 0, lease = NULL, reason = ?3, restored = ?1
                     WHERE state IN ('queued', 'claimed', 'sending') OR state = 'deferred' AND due <= ?4",
                )?
                .execute((at, now.plus(outbox::RESTORED_LOOK_UP), RESTORED, now))?;
            // What goes instead of a message may have gone too, since.
            for falling in fallbacks(db, None)? {
                db.prepare_cached("UPDATE message SET fallback_due = NULL WHERE id = ?1")?.execute((falling.id,))?;
                let id = falling.id;
                let Some(instead) = falling.instead(now) else { continue };
                if let Enqueued::New(id) = enqueue(db, &instead, &Written::of(&instead)?, Some(id))? {
                    let reason = Some(FALLBACK_RESTORED.to_owned());
                    let from = &[State::Queued];
                    settle(db, id.0, &Settle { state: State::Parked, due: None, reason, from, now })?;
                }
            }
            Ok(held as u64)
        })
        .await
    }

    async fn doubtful(&self, now: Timestamp, wait: Duration, most: u32) -> Result<Vec<Claimed>> {
        let doubtful = self.run(move |db| {
            let due = "SELECT id FROM message WHERE state = 'unknown' AND due <= ?1 ORDER BY due LIMIT ?2";
            let ids =
                db.prepare_cached(due)?.query_map((now, most), |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
            let mut doubtful = Vec::with_capacity(ids.len());
            for id in ids {
                doubtful.push(read_held(db, id)?);
                // If nobody settles it, it is asked about again.
                db.prepare_cached("UPDATE message SET due = ?2, lookups = lookups + 1 WHERE id = ?1")?
                    .execute((id, now.plus(wait)))?;
            }
            Ok(doubtful)
        });
        Ok(doubtful.await?.into_iter().map(Held::read).collect())
    }

    async fn hold_fallback(&self, id: Id) -> Result<()> {
        let hold = "UPDATE message SET fallback_due = NULL WHERE id = ?1 AND state IN ('unknown', 'parked')";
        self.run(move |db| db.prepare_cached(hold)?.execute((id.0,)).map(|_| ())).await
    }

    async fn standing(&self, line: &str, state: State, after: Option<Id>, most: u32) -> Result<Vec<Status>> {
        let (line, after) = (line.to_owned(), after.map_or(i64::MIN, |id| id.0));
        self.look(move |db| {
            let mut ids = db.prepare_cached(listed(state))?;
            let ids = ids.query_map((&line, state, after, most), |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
            ids.into_iter().map(|id| status(db, id).map(|(status, _)| status)).collect()
        })
        .await
    }

    async fn settle(&self, id: Id, settled: Settle) -> Result<Option<String>> {
        self.run(move |db| settle(db, id.0, &settled)).await
    }

    async fn take_in(&self, events: Vec<Incoming>, cursor: Option<(String, Cursor)>, now: Timestamp) -> Result<usize> {
        self.run(move |db| {
            let mut new = 0;
            for incoming @ Incoming { line, event, .. } in &events {
                let dedupe = Digest::of(event.id().as_bytes()).to_string();
                let put = Put { line: line.as_deref(), dedupe: Some(&dedupe), kind: "event", person: person_of(event) };
                if !put_event(db, &put, &to_json(event)?, now)? {
                    continue;
                }
                new += 1;
                file::put(db, &dedupe, incoming.files(), now)?;
                if let Event::Delivery(delivery) = event {
                    deliver(db, line.as_deref(), delivery, now)?;
                }
                if let (Some(line), Some((previous, current))) = (line, link_of(event)) {
                    link(db, line, previous, current, event.envelope().at)?;
                }
                if let (Some(line), Some((names, from))) = (line, opt_out_of(event)) {
                    opt_out(db, line, &names, from, now)?;
                }
            }
            if let Some((channel, place)) = &cursor {
                db.prepare_cached("INSERT OR REPLACE INTO cursor (channel, place) VALUES (?1, ?2)")?
                    .execute((channel, place.as_str()))?;
            }
            Ok(new)
        })
        .await
    }

    async fn cursor(&self, channel: &str) -> Result<Option<Cursor>> {
        let channel = channel.to_owned();
        self.run(move |db| {
            let place = db.prepare_cached("SELECT place FROM cursor WHERE channel = ?1")?;
            let mut place = place;
            place.query_row((&channel,), |row| row.get::<_, String>(0).map(Cursor::new)).optional()
        })
        .await
    }

    async fn next_batch(&self, of: &EventFilter, now: Timestamp, lease: Duration, most: u32) -> Result<Vec<Handed>> {
        let of = of.clone();
        self.run(move |db| next_batch(db, &of, now, lease, most)).await
    }

    async fn nack(&self, event: i64, until: Timestamp, now: Timestamp) -> Result<bool> {
        self.run(move |db| {
            let nack = "UPDATE event SET nacked = 1, lease = ?2,
                        attempts = CASE WHEN parked IS NULL THEN attempts ELSE 0 END,
                        parked = CASE WHEN parked IS NULL AND attempts >= ?3 THEN ?4 END
                 WHERE id = ?1 AND acked IS NULL RETURNING parked IS NOT NULL";
            let parked = db.prepare_cached(nack)?.query_row((event, until, EVENT_ATTEMPTS, now), |row| row.get(0));
            Ok(parked.optional()?.unwrap_or(false))
        })
        .await
    }

    async fn parked_events(&self, of: &EventFilter, after: i64, now: Timestamp, most: u32) -> Result<Vec<Handed>> {
        let of = of.clone();
        self.look(move |db| parked_events(db, &of, after, now, most)).await
    }

    async fn ack(&self, event: i64, now: Timestamp) -> Result<()> {
        self.run(move |db| ack(db, event, now)).await
    }

    async fn status(&self, id: Id) -> Result<Option<Status>> {
        self.look(move |db| status(db, id.0).optional().map(|found| found.map(|(status, _)| status))).await
    }

    async fn conversation(&self, line: &str, with: &str, before: Option<Place>, most: u32) -> Result<Vec<Entry>> {
        let (line, with) = (line.to_owned(), with.to_owned());
        self.look(move |db| conversation(db, &line, &with, before, most)).await
    }

    async fn by_key(&self, line: &str, key: &str) -> Result<Option<Id>> {
        let (line, key) = (line.to_owned(), key.to_owned());
        self.look(move |db| {
            let mut id = db.prepare_cached("SELECT id FROM message WHERE line = ?1 AND key = ?2")?;
            id.query_row((&line, &key), |row| row.get(0).map(Id)).optional()
        })
        .await
    }

    async fn stats(&self, now: Timestamp) -> Result<Stats> {
        self.read(move |db| keep::stats(db, now)).await
    }

    async fn has_line(&self, line: &str) -> Result<bool> {
        let line = line.to_owned();
        self.look(move |db| {
            let has =
                "SELECT EXISTS (SELECT 1 FROM line WHERE id = ?1) OR EXISTS (SELECT 1 FROM message WHERE line = ?1)";
            db.prepare_cached(has)?.query_row((&line,), |row| row.get(0))
        })
        .await
    }

    async fn note(&self, lines: Vec<Line>) -> Result<()> {
        self.run(move |db| keep::note(db, &lines)).await
    }

    async fn attend(&self, lines: Vec<String>, now: Timestamp) -> Result<()> {
        let attend = "UPDATE line SET attended = ?2 WHERE id = ?1";
        self.run(move |db| lines.iter().try_for_each(|line| db.prepare_cached(attend)?.execute((line, now)).map(drop)))
            .await
    }

    async fn wait(&self, id: Id, now: Timestamp) -> Result<Option<Wait>> {
        let wait = "SELECT due, (SELECT attended FROM line WHERE id = m.line) FROM message AS m
             WHERE id = ?1 AND state IN ('queued', 'deferred') AND due IS NOT NULL";
        self.look(move |db| {
            let read = |row: &Row<'_>| Ok(Wait { due: row.get(0)?, attended: row.get(1)?, now });
            db.prepare_cached(wait)?.query_row((id.0,), read).optional()
        })
        .await
    }

    async fn claim_files(&self, now: Timestamp, lease: Duration, most: u32) -> Result<Vec<ClaimedFile>> {
        self.run(move |db| file::claim(db, now, now.plus(lease), most)).await
    }

    async fn fetched(&self, hold: FileHold, fetched: Fetched, now: Timestamp) -> Result<bool> {
        self.run(move |db| file::fetched(db, hold, &fetched, now)).await
    }

    async fn files(&self, event: i64) -> Result<Vec<File>> {
        self.look(move |db| file::of(db, event)).await
    }

    async fn purge(&self, now: Timestamp, most: u32) -> Result<u64> {
        let purged = self.run(move |db| keep::purge(db, now, most)).await?;
        if purged > 0 {
            self.traces.store(true, Ordering::Release);
        }
        // What was removed stands in the log until that is emptied: once there is no more.
        if purged < u64::from(most) && self.traces.swap(false, Ordering::AcqRel) {
            let emptied = self.read(keep::empty_log).await;
            if !matches!(emptied, Ok(true)) {
                self.traces.store(true, Ordering::Release);
            }
        }
        Ok(purged)
    }

    async fn unwanted(&self, now: Timestamp, lease: Duration, most: u32) -> Result<Vec<Digest>> {
        self.run(move |db| keep::unwanted(db, now, now.plus(lease), most)).await
    }

    async fn check(&self) -> Result<u64> {
        let checked = self.read(|db| Ok(if is_whole(db)? { Some(keep::changed(db)?) } else { None })).await;
        checked?.ok_or_else(|| Error::config("store", DAMAGED))
    }

    async fn removed(&self, file: Digest) -> Result<()> {
        self.run(move |db| keep::removed(db, &file)).await
    }
}

/// The statement that lists the messages of a line in a state, each by its index.
const fn listed(state: State) -> &'static str {
    match state {
        State::Queued | State::Deferred => {
            "SELECT id FROM message
             WHERE line = ?1 AND state = ?2 AND state IN ('queued', 'deferred') AND id > ?3 ORDER BY id LIMIT ?4"
        }
        State::Unknown => {
            "SELECT id FROM message
             WHERE line = ?1 AND state = 'unknown' AND ?2 = 'unknown' AND id > ?3 ORDER BY id LIMIT ?4"
        }
        // There are no more than are on their way at once.
        State::Claimed | State::Sending => {
            "SELECT id FROM message
             WHERE line = ?1 AND lease IS NOT NULL AND state = ?2 AND +id > ?3 ORDER BY id LIMIT ?4"
        }
        _ => {
            "SELECT id FROM message
             WHERE line = ?1 AND state = ?2 AND settled IS NOT NULL AND id > ?3 ORDER BY id LIMIT ?4"
        }
    }
}

/// The status of a message, and what it says: none where this program cannot read it, or its content was removed.
fn status(db: &Connection, id: i64) -> rusqlite::Result<(Status, Option<Message>)> {
    let mut status = db.prepare_cached(
        "SELECT line, key, tag, state, due, attempts, delivery, reason,
                (SELECT id FROM part WHERE message = m.id LIMIT 1), instead_of,
                (SELECT id FROM message WHERE instead_of = m.id),
                (SELECT rowid FROM decision WHERE message = m.id AND decision IN ('refuse', 'opt_out')
                 ORDER BY rowid DESC LIMIT 1),
                body, fallback, digest
         FROM message AS m WHERE id = ?1",
    )?;
    let (mut kept, refusal, message) = status.query_row((id,), |row| {
        let kept = Kept {
            id,
            line: row.get(0)?,
            key: row.get(1)?,
            tag: row.get(2)?,
            state: row.get(3)?,
            due: row.get(4)?,
            attempts: row.get(5)?,
            delivery: row.get(6)?,
            reason: row.get(7)?,
            gateway_id: row.get(8)?,
            instead_of: row.get(9)?,
            fallback: row.get(10)?,
            refusal: None,
        };
        let fallback = row.get::<_, Option<String>>(13)?;
        let (message, _) = message_of(row.get_ref(12)?.as_str()?, fallback.as_deref(), row.get_ref(14)?.as_str()?);
        Ok((kept, row.get::<_, Option<i64>>(11)?, message))
    })?;
    if let Some(refusal) = refusal {
        let mut of = db.prepare_cached("SELECT decision, rule FROM decision WHERE rowid = ?1")?;
        kept.refusal = of.query_row((refusal,), |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    }
    let history = if kept.attempts > 0 { history(db, id)? } else { Vec::new() };
    Ok((kept.status(message.as_ref(), history), message))
}

/// The attempts of a message, the oldest first.
fn history(db: &Connection, id: i64) -> rusqlite::Result<Vec<SendAttempt>> {
    let of = "SELECT gateway, account, begun, ended, outcome, kind, code, segments, price, currency
         FROM attempt WHERE message = ?1 ORDER BY n";
    let read = |row: &Row<'_>| {
        let word = |column| Ok::<_, rusqlite::Error>(row.get_ref(column)?.as_str_or_null()?);
        Ok(SendAttempt {
            gateway: row.get(0)?,
            account: AccountId::new(row.get::<_, String>(1)?),
            begun: row.get(2)?,
            ended: row.get(3)?,
            outcome: word(4)?.and_then(named),
            kind: word(5)?.and_then(named),
            code: row.get::<_, Option<String>>(6)?.filter(|code| is_code(code)),
            segments: row.get(7)?,
            price: price_of(row.get(8)?, word(9)?),
        })
    };
    db.prepare_cached(of)?.query_map((id,), read)?.collect()
}

fn conversation(
    db: &Connection,
    line: &str,
    with: &str,
    before: Option<Place>,
    most: u32,
) -> rusqlite::Result<Vec<Entry>> {
    let mut places = db.prepare_cached(
        "WITH now (person) AS (
             SELECT coalesce((SELECT current FROM link WHERE line = ?1 AND previous = ?2), ?2)),
         who (person) AS (
             SELECT person FROM now
             UNION SELECT previous FROM link WHERE line = ?1 AND current = (SELECT person FROM now))
         SELECT at, ours, id FROM (
             SELECT * FROM (
                 SELECT queued AS at, 1 AS ours, id FROM message
                 WHERE line = ?1 AND recipient IN (SELECT person FROM who)
                   AND (?3 IS NULL OR (queued, 1, id) < (?3, ?4, ?5))
                 ORDER BY queued DESC, id DESC LIMIT ?6)
             UNION ALL
             SELECT * FROM (
                 SELECT taken_in AS at, 0 AS ours, id FROM event
                 WHERE line = ?1 AND person IN (SELECT person FROM who)
                   AND (?3 IS NULL OR (taken_in, 0, id) < (?3, ?4, ?5))
                 ORDER BY taken_in DESC, id DESC LIMIT ?6))
         ORDER BY at DESC, ours DESC, id DESC LIMIT ?6",
    )?;
    let from = (before.map(|place| place.at), before.map(|place| place.ours), before.map(|place| place.id));
    let read = |row: &Row<'_>| Ok(Place { at: row.get(0)?, ours: row.get(1)?, id: row.get(2)? });
    let places = places.query_map(params![line, with, from.0, from.1, from.2, most], read)?;
    let mut said = db.prepare_cached("SELECT body FROM event WHERE id = ?1")?;
    let mut entries = Vec::new();
    for place in places {
        let place = place?;
        entries.push(if place.ours {
            let (status, message) = status(db, place.id)?;
            Entry::ours(place, status, message)
        } else {
            Entry::theirs(place, &said.query_row((place.id,), |row| row.get::<_, String>(0))?)
        });
    }
    Ok(entries)
}

/// The events that nobody holds, and that wait behind no failing one of their person.
macro_rules! open_events {
    ($of:literal) => {
        concat!(
            "SELECT id FROM event AS e
             WHERE acked IS NULL AND parked IS NULL AND (lease IS NULL OR lease <= ?1) ",
            $of,
            " AND NOT EXISTS (SELECT 1 FROM event AS f WHERE f.acked IS NULL AND f.parked IS NULL
                              AND f.nacked AND f.line = e.line AND f.person = e.person AND f.id < e.id)
             ORDER BY id LIMIT ?2"
        )
    };
}

/// Each by its index: one search for all of these would go through all that was ever acknowledged.
const NEXT_OF_ALL: &str = open_events!("");
const NEXT_OF_LINE: &str = open_events!("AND line = ?3");
const NEXT_OF_NONE: &str = open_events!("AND line IS NULL");

fn next_batch(
    db: &Connection,
    of: &EventFilter,
    now: Timestamp,
    lease: Duration,
    most: u32,
) -> rusqlite::Result<Vec<Handed>> {
    let mut events = db.prepare_cached("SELECT id, line, kind, body, attempts, taken_in FROM event WHERE id = ?1")?;
    let mut batch = Vec::new();
    loop {
        let room = most.saturating_sub(u32::try_from(batch.len()).unwrap_or(u32::MAX));
        let ids = open_events(db, of, now, room)?;
        if ids.is_empty() {
            return Ok(batch);
        }
        for id in ids {
            let mut handed = events.query_row((id,), handed)?;
            if handed.attempts >= EVENT_ATTEMPTS {
                db.prepare_cached("UPDATE event SET parked = ?2 WHERE id = ?1")?.execute((id, now))?;
                continue;
            }
            let attempts = handed.begins();
            let hold = "UPDATE event SET lease = ?2, attempts = ?3 WHERE id = ?1";
            db.prepare_cached(hold)?.execute((id, now.plus(lease), attempts))?;
            complete(db, &mut handed)?;
            batch.push(handed);
        }
    }
}

/// The oldest events that can be handed out: their numbers.
fn open_events(db: &Connection, of: &EventFilter, now: Timestamp, most: u32) -> rusqlite::Result<Vec<i64>> {
    let ids = |sql: &str, line: Option<&str>| {
        let mut found = db.prepare_cached(sql)?;
        let read = |row: &Row<'_>| row.get(0);
        match line {
            Some(line) => found.query_map((now, most, line), read)?.collect::<rusqlite::Result<Vec<i64>>>(),
            None => found.query_map((now, most), read)?.collect(),
        }
    };
    if let EventFilter::Line(line) = of {
        return ids(NEXT_OF_LINE, Some(line));
    }
    let foreign = foreign(db, of, now)?;
    if foreign.is_empty() {
        return ids(NEXT_OF_ALL, None);
    }
    // Line by line, so that what is left to others is not gone through.
    let after = "SELECT min(line) FROM event WHERE acked IS NULL AND parked IS NULL AND line > ?1";
    let (mut after, mut found, mut line) = (db.prepare_cached(after)?, ids(NEXT_OF_NONE, None)?, String::new());
    while let Some(next) = after.query_row((&line,), |row| row.get::<_, Option<String>>(0))? {
        line = next;
        if !foreign.contains(&line) {
            found.extend(ids(NEXT_OF_LINE, Some(&line))?);
        }
    }
    found.sort_unstable();
    found.truncate(most as usize);
    Ok(found)
}

/// The lines whose events are left to another program.
fn foreign(db: &Connection, of: &EventFilter, now: Timestamp) -> rusqlite::Result<Vec<String>> {
    let mut attended = db.prepare_cached("SELECT id FROM line WHERE attended > ?1")?;
    let attended = attended.query_map((now.minus(ABANDONED),), |row| row.get(0))?.collect::<Result<Vec<_>, _>>()?;
    Ok(of.foreign(attended))
}

fn ack(db: &Connection, event: i64, now: Timestamp) -> rusqlite::Result<()> {
    let ack = "UPDATE event SET acked = ?2 WHERE id = ?1 AND acked IS NULL";
    db.prepare_cached(ack)?.execute((event, now)).map(drop)
}

fn parked_events(
    db: &Connection,
    of: &EventFilter,
    after: i64,
    now: Timestamp,
    most: u32,
) -> rusqlite::Result<Vec<Handed>> {
    let parked = "SELECT id, line, kind, body, attempts, taken_in FROM event
         WHERE acked IS NULL AND parked IS NOT NULL AND (?1 IS NULL OR line = ?1) AND id > ?2
           AND (line IS NULL OR line NOT IN (SELECT value FROM json_each(?4)))
         ORDER BY id LIMIT ?3";
    let line = match of {
        EventFilter::Line(line) => Some(line),
        EventFilter::All { .. } => None,
    };
    let foreign = to_json(&foreign(db, of, now)?)?;
    let mut parked = db.prepare_cached(parked)?;
    let parked = parked.query_map((line, after, most, foreign), handed)?.collect::<Result<Vec<_>, _>>()?;
    parked.into_iter().map(|mut handed| complete(db, &mut handed).map(|()| handed)).collect()
}

/// Completes an event of a message that was settled with what is known of the message.
fn complete(db: &Connection, handed: &mut Handed) -> rusqlite::Result<()> {
    if let What::Settled(settled) = &mut handed.what
        && let Some((status, _)) = status(db, settled.id.0).optional()?
    {
        settled.complete(status, handed.taken_in);
    }
    Ok(())
}

fn handed(row: &Row<'_>) -> rusqlite::Result<Handed> {
    let what = What::read(&row.get::<_, String>(2)?, &row.get::<_, String>(3)?);
    Ok(Handed { id: row.get(0)?, line: row.get(1)?, what, attempts: row.get(4)?, taken_in: row.get(5)? })
}

/// Takes the lock that goes with the process, on a file beside the database: by whichever path that is opened.
fn lock_file(path: &str) -> rusqlite::Result<Connection> {
    let resolved = std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
    let mut beside = resolved.into_os_string();
    beside.push("-worker");
    let lock = Connection::open(beside)?;
    lock.busy_timeout(Duration::ZERO)?;
    lock.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT; BEGIN EXCLUSIVE")?;
    Ok(lock)
}

/// A message in the words in which it is kept. They are made and read outside of the thread that writes.
struct Written {
    body: String,
    fallback: Option<String>,
    digest: String,
    files: BTreeSet<String>,
}

impl Written {
    fn of(new: &New) -> rusqlite::Result<Self> {
        let (body, fallback) = (to_json(&new.message)?, new.fallback.as_ref().map(to_json).transpose()?);
        let (digest, files) = (digest_of(&body, fallback.as_deref()), files_of(&body, fallback.as_deref()));
        Ok(Self { body, fallback, digest, files })
    }
}

/// Takes a message: it may be one that goes instead of another.
fn enqueue(db: &Connection, new: &New, written: &Written, instead_of: Option<i64>) -> rusqlite::Result<Enqueued> {
    let there: Option<(i64, There)> = db
        .prepare_cached("SELECT id, digest, body, fallback FROM message WHERE line = ?1 AND key = ?2")?
        .query_row((&new.line, &new.key), |row| {
            Ok((row.get(0)?, There { digest: row.get(1)?, body: row.get(2)?, fallback: row.get(3)? }))
        })
        .optional()?;
    if let Some((id, there)) = there {
        return Ok(if new.is(&written.digest, &there) { Enqueued::Same(Id(id)) } else { Enqueued::Other });
    }
    let state = if new.due > new.now { State::Deferred } else { State::Queued };
    db.prepare_cached(
        "INSERT INTO message
             (line, key, recipient, body, digest, priority, state, due, queued, fallback, fallback_due, instead_of, reason,
              fallback_recipient)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?
    .execute(params![
        new.line,
        new.key,
        new.message.to.expose(),
        written.body,
        written.digest,
        new.priority,
        state,
        new.due,
        new.now,
        written.fallback,
        new.fallback_due(),
        instead_of,
        new.deferred.as_ref().map(ToString::to_string),
        new.fallback.as_ref().map(|fallback| fallback.message.to.expose())
    ])?;
    let id = db.last_insert_rowid();
    for sha256 in &written.files {
        let put = "INSERT INTO message_file (sha256, message) VALUES (?1, ?2)";
        db.prepare_cached(put)?.execute((sha256, id))?;
    }
    if let Some(reason) = &new.deferred {
        put_decision(db, id, "defer", reason, new.now)?;
    }
    Ok(Enqueued::New(Id(id)))
}

/// Puts down what the policy said of a message when it was not yes.
fn put_decision(db: &Connection, id: i64, decision: &str, why: &Reason, at: Timestamp) -> rusqlite::Result<()> {
    let put = "INSERT INTO decision (message, at, decision, rule, reason) VALUES (?1, ?2, ?3, ?4, ?5)";
    db.prepare_cached(put)?.execute((id, at, decision, why.rule(), why.to_string())).map(|_| ())
}

/// The messages whose fallbacks are to be looked at by a moment, or all that have one.
fn fallbacks(db: &Connection, by: Option<Timestamp>) -> rusqlite::Result<Vec<Falling>> {
    let mut due = db.prepare_cached(
        "SELECT id, line, key, fallback, state, delivery, restored IS NOT NULL,
                EXISTS (SELECT 1 FROM attempt WHERE message = m.id AND outcome = 'unknown')
                OR EXISTS (SELECT 1 FROM part WHERE message = m.id),
                EXISTS (SELECT 1 FROM attempt WHERE message = m.id AND kind = 'opted_out')
                OR EXISTS (SELECT 1 FROM decision WHERE message = m.id AND decision = 'opt_out'), lookups,
                EXISTS (SELECT 1 FROM decision WHERE message = m.id AND decision = 'refuse')
         FROM message AS m WHERE fallback_due IS NOT NULL AND (?1 IS NULL OR fallback_due <= ?1)
         ORDER BY fallback_due LIMIT ?2",
    )?;
    let read = |row: &Row<'_>| {
        let delivery = row.get::<_, Option<String>>(5)?.and_then(|rung| rung_of(&rung));
        let restored = row.get(6)?;
        let doubted = restored || row.get(7)?;
        let (state, opted_out, refused) = (row.get(4)?, row.get(8)?, row.get(10)?);
        let first = First { state, delivery, doubted, opted_out, refused, restored };
        let fallback = serde_json::from_str(&row.get::<_, String>(3)?).ok();
        let (id, line, key, lookups) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(9)?);
        Ok(Falling { id, line, key, lookups, fallback, first })
    };
    let most = if by.is_some() { FALLBACKS_MAX } else { u32::MAX };
    due.query_map((by, most), read)?.collect()
}

fn fall_back(db: &Connection, now: Timestamp, answers: &Answers) -> rusqlite::Result<Fell> {
    let mut fell = Fell::default();
    for falling in fallbacks(db, Some(now))? {
        let (id, Looked { falls, again, said }) = (falling.id, falling.looked_at(answers, now));
        if let Some((decision, reason)) = &said {
            put_decision(db, id, decision, reason, now)?;
        }
        let asked = matches!(answers.get(&id), Some(Answer::Unclear));
        db.prepare_cached("UPDATE message SET fallback_due = ?2, lookups = lookups + ?3 WHERE id = ?1")?
            .execute((id, again, asked))?;
        if falls == Falls::Never && said.is_some() {
            fell.refused.push(Id(id));
        }
        if falls == Falls::CallsBack {
            let from = &[State::Queued, State::Deferred, State::Parked];
            let reason = Some(FELL_BACK.to_owned());
            let line = settle(db, id, &Settle { state: State::Cancelled, due: None, reason, from, now })?;
            fell.called_back.extend(line.map(|line| (Id(id), line)));
        }
        if matches!(falls, Falls::CallsBack | Falls::Goes)
            && let Some(instead) = falling.instead(now)
            && let Enqueued::New(went) = enqueue(db, &instead, &Written::of(&instead)?, Some(id))?
        {
            fell.went.push((went, instead));
        }
    }
    Ok(fell)
}

/// What is to be claimed: one at a time in a conversation, and nobody is overtaken but by what is more urgent. What is
/// planned for later holds up nobody, and is not gone through: so each priority is searched by itself.
fn ready(db: &Connection, now: Timestamp, most: u32) -> rusqlite::Result<Vec<i64>> {
    // The indexes are named, for another one would go through all that a person ever got.
    let mut due = db.prepare_cached(
        "SELECT id, line, recipient FROM message AS m
         WHERE state IN ('queued', 'deferred') AND priority = ?2 AND due <= ?1 AND NOT EXISTS (
             SELECT 1 FROM message AS held INDEXED BY message_held
             WHERE held.line = m.line AND held.recipient = m.recipient AND held.lease IS NOT NULL)
           AND NOT EXISTS (
             SELECT 1 FROM message AS other INDEXED BY message_open
             WHERE other.line = m.line AND other.recipient = m.recipient AND other.id < m.id
               AND other.settled IS NULL AND other.state IN ('queued', 'deferred', 'claimed', 'sending')
               AND other.priority <= m.priority AND (other.due <= ?1 OR other.attempts > 0))
         ORDER BY due, id",
    )?;
    let (mut ids, mut persons) = (Vec::new(), HashSet::new());
    for priority in 0..=PRIORITY_LAST {
        let mut rows = due.query((now, priority))?;
        while ids.len() < most as usize
            && let Some(row) = rows.next()?
        {
            if persons.insert((row.get::<_, String>(1)?, row.get::<_, String>(2)?)) {
                ids.push(row.get(0)?);
            }
        }
    }
    Ok(ids)
}

/// A claimed message, whose words are still to be read.
struct Held {
    claimed: Claimed,
    written: Written,
}

impl Held {
    fn read(self) -> Claimed {
        let Written { body, fallback, digest, .. } = &self.written;
        let (message, damaged) = message_of(body, fallback.as_deref(), digest);
        Claimed { message, damaged, ..self.claimed }
    }
}

fn read_held(db: &Connection, id: i64) -> rusqlite::Result<Held> {
    let mut held = db.prepare_cached(
        "SELECT line, body, fence, queued, lookups, restored, (SELECT id FROM part WHERE message = m.id LIMIT 1),
                (SELECT address FROM link WHERE line = m.line AND previous = m.recipient), digest, fallback, attempts,
                EXISTS (SELECT 1 FROM decision WHERE message = m.id AND decision = 'opt_out')
         FROM message AS m WHERE id = ?1",
    )?;
    let mut attempts = db.prepare_cached(
        "SELECT gateway, account, begun, outcome IS 'unknown', passing, ended IS NULL, outcome IS 'suspended', bound,
                reference
         FROM attempt WHERE message = ?1 ORDER BY n",
    )?;
    let read = |row: &Row<'_>| {
        let (gateway, account, at, reference) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(8)?);
        let (doubted, passing, died) = (row.get(3)?, row.get(4)?, row.get(5)?);
        let (suspended, bound) = (row.get(6)?, row.get(7)?);
        Ok(Attempt { gateway, account, at, reference, doubted, passing, died, suspended, bound })
    };
    held.query_row((id,), |row| {
        let tried = row.get::<_, u32>(10)? > 0;
        let claimed = Claimed {
            hold: Hold { id: Id(id), fence: row.get(2)? },
            line: row.get(0)?,
            message: None,
            damaged: false,
            opted_out: row.get(11)?,
            queued: row.get(3)?,
            attempts: if tried { attempts.query_map((id,), read)?.collect::<Result<_, _>>()? } else { Vec::new() },
            lookups: row.get(4)?,
            restored: row.get(5)?,
            gateway_id: row.get::<_, Option<String>>(6)?.map(MessageId::from),
            moved_to: row.get::<_, Option<String>>(7)?.and_then(|address| serde_json::from_str(&address).ok()),
        };
        let (body, fallback, digest) = (row.get(1)?, row.get(9)?, row.get(8)?);
        Ok(Held { claimed, written: Written { body, fallback, digest, files: BTreeSet::new() } })
    })
}

fn finish(db: &Connection, hold: Hold, end: &End) -> rusqlite::Result<bool> {
    let id = hold.id.0;
    let held = "SELECT line, delivery, attempts, recipient FROM message
         WHERE id = ?1 AND fence = ?2 AND state IN ('claimed', 'sending')";
    let read = |row: &Row<'_>| {
        let line = row.get::<_, String>(0)?;
        Ok((line, row.get::<_, Option<String>>(1)?, row.get::<_, u32>(2)?, row.get::<_, String>(3)?))
    };
    let Some((line, before, n, addressed)) = db.prepare_cached(held)?.query_row((id, hold.fence), read).optional()?
    else {
        return Ok(false);
    };
    db.prepare_cached(
        "UPDATE attempt SET ended = ?3, outcome = ?4, kind = ?5, code = ?6, passing = ?7, segments = ?8, price = ?9,
                currency = ?10, bound = ?11
         WHERE message = ?1 AND n = ?2 AND outcome IS NULL",
    )?
    .execute(params![
        id,
        n,
        end.now,
        end.outcome,
        end.kind,
        end.code,
        end.passing,
        end.segments,
        end.price.map(|price| price.micros),
        end.price.as_ref().map(|price| price.currency.as_str()),
        end.bound
    ])?;
    for gateway_id in &end.ids {
        db.prepare_cached(
            "INSERT OR IGNORE INTO part (gateway, account, id, message)
             VALUES ((SELECT gateway FROM attempt WHERE message = ?1 AND n = ?2),
                     (SELECT account FROM attempt WHERE message = ?1 AND n = ?2), ?3, ?1)",
        )?
        .execute((id, n, gateway_id.as_str()))?;
    }
    for (name, recipient) in end.names(&addressed) {
        link(db, &line, name, recipient, end.now)?;
    }
    let delivery = end.delivery.map_or(Ok(before.clone()), |delivery| risen(before.as_deref(), delivery).map(Some))?;
    let from = &[State::Claimed, State::Sending];
    let settled = Settle { state: end.state, due: end.due, reason: end.reason.clone(), from, now: end.now };
    put_settled(db, id, &line, delivery.as_deref(), &settled)?;
    if end.kind == ErrorKind::OptedOut.as_str() {
        opted_out_of(db, id, end.now)?;
    }
    match settled.state {
        State::Unknown | State::Parked => heard_of(db, id, end.now)?,
        _ => join_early(db, id, end.now)?,
    }
    Ok(true)
}

/// Puts a message into another state, and tells the line where that is an end: which line it is.
fn settle(db: &Connection, id: i64, settled: &Settle) -> rusqlite::Result<Option<String>> {
    let now: Option<(String, State, Option<String>)> = db
        .prepare_cached("SELECT line, state, delivery FROM message WHERE id = ?1")?
        .query_row((id,), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((line, _, delivery)) = now.filter(|(_, state, _)| settled.from.contains(state)) else { return Ok(None) };
    put_settled(db, id, &line, delivery.as_deref(), settled)?;
    Ok(Some(line))
}

fn put_settled(db: &Connection, id: i64, line: &str, delivery: Option<&str>, settled: &Settle) -> rusqlite::Result<()> {
    let at = settled.state.is_settled().then_some(settled.now);
    let looked_at = settled.looked_at(delivery);
    db.prepare_cached(
        "UPDATE message SET state = ?2, due = ?3, reason = ?4, lease = NULL, settled = ?5, delivery = ?6,
                fallback_due = CASE WHEN fallback_due > ?7 THEN ?8 ELSE fallback_due END
         WHERE id = ?1",
    )?
    .execute(params![id, settled.state, settled.due, settled.reason, at, delivery, looked_at, settled.now])?;
    if settled.state.is_settled() {
        let told = Settled::new(Id(id), settled.state, settled.reason.clone());
        let put = Put { line: Some(line), dedupe: None, kind: "settled", person: None };
        put_event(db, &put, &to_json(&told)?, settled.now)?;
    }
    Ok(())
}

/// Puts an event down. False: it was there.
fn put_event(db: &Connection, put: &Put<'_>, body: &str, now: Timestamp) -> rusqlite::Result<bool> {
    let event = "INSERT OR IGNORE INTO event (line, dedupe, kind, person, body, taken_in)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    Ok(db.prepare_cached(event)?.execute((put.line, put.dedupe, put.kind, put.person, body, now))? == 1)
}

/// Notes where a person is reached now: each address leads to the last one, however many lie between.
fn link(db: &Connection, line: &str, previous: &str, to: &Address, at: Timestamp) -> rusqlite::Result<()> {
    let there = "SELECT 1 FROM link WHERE line = ?1 AND previous = ?2 AND current = ?3";
    if db.prepare_cached(there)?.query_row((line, previous, to.expose()), |_| Ok(())).optional()?.is_some() {
        return Ok(());
    }
    let mut newer =
        db.prepare_cached("SELECT current, address FROM link WHERE line = ?1 AND previous = ?2 AND at > ?3")?;
    let mut newer = |from: &str| {
        let read = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
        newer.query_row((line, from, at), read).optional()
    };
    // The later news may come first.
    if newer(previous)?.is_some() {
        return Ok(());
    }
    let here = (to.expose().to_owned(), to_json(to)?);
    let (current, address) = newer(to.expose())?.unwrap_or(here);
    // Who came back to an address leaves it no more.
    db.prepare_cached("DELETE FROM link WHERE line = ?1 AND previous = ?2")?.execute((line, &current))?;
    db.prepare_cached("UPDATE link SET current = ?3, address = ?4 WHERE line = ?1 AND current = ?2")?
        .execute((line, previous, &current, &address))?;
    if current != previous {
        db.prepare_cached(
            "INSERT OR REPLACE INTO link (line, previous, current, address, at) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute((line, previous, &current, &address, at))?;
    }
    Ok(())
}

/// Lets a delivery have its effect on the message that it is of, or keeps it until that is written down.
fn deliver(db: &Connection, line: Option<&str>, delivery: &Delivery, now: Timestamp) -> rusqlite::Result<()> {
    let gateway = &*delivery.envelope.gateway;
    let (id, key) = match &delivery.of {
        DeliveryOf::Message { id, key } => (id, key),
        DeliveryOf::UpTo { at, .. } => {
            let Some(person) = told_by(delivery) else { return Ok(()) };
            // What may have gone is left as it is: that all before was read does not say that this went.
            let had = "SELECT m.id FROM message AS m JOIN attempt AS a ON a.message = m.id AND a.n = m.attempts
                 WHERE m.line = ?1 AND m.recipient = ?2 AND m.state = 'accepted'
                   AND a.gateway = ?3 AND a.account = ?4 AND a.begun <= ?5";
            let had = db
                .prepare_cached(had)?
                .query_map((line, person.expose(), gateway, delivery.envelope.account.as_str(), at), |row| row.get(0))?
                .collect::<Result<Vec<i64>, _>>()?;
            return had.into_iter().try_for_each(|message| climb(db, message, delivery.state, now));
        }
    };
    let id = id.as_ref().map(MessageId::as_str);
    let message: Option<i64> = db
        .prepare_cached(
            "SELECT message FROM part WHERE gateway = ?1 AND account = ?4 AND id = ?2
             UNION ALL
             SELECT message FROM attempt WHERE reference = ?3 AND gateway = ?1 AND account = ?4
             UNION ALL
             SELECT m.id FROM message AS m JOIN attempt AS a ON a.message = m.id AND a.gateway = ?1 AND a.account = ?4
             WHERE m.key = ?3 LIMIT 1",
        )?
        .query_row((gateway, id, key, delivery.envelope.account.as_str()), |row| row.get(0))
        .optional()?;
    match message {
        Some(message) => {
            // What was found by its key is found by its id from now on.
            if let Some(id) = id.filter(|id| !id.is_empty()) {
                db.prepare_cached(
                    "INSERT OR IGNORE INTO part (gateway, account, id, message) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute((gateway, delivery.envelope.account.as_str(), id, message))?;
            }
            told_of(db, message, Told::by(delivery), now)
        }
        None => db
            .prepare_cached(
                "INSERT INTO early (gateway, account, id, key, delivery, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute((gateway, delivery.envelope.account.as_str(), id, key, to_json(&Told::by(delivery))?, now))
            .map(|_| ()),
    }
}

/// Ends what waits for a person who said STOP, and the fallbacks of all that they were sent.
fn opt_out(db: &Connection, line: &str, names: &[String], from: u8, now: Timestamp) -> rusqlite::Result<()> {
    let mut of = db.prepare_cached(
        "SELECT id FROM message WHERE line = ?1 AND recipient = ?2 AND priority >= ?3
            AND (settled IS NULL OR state = 'parked' OR fallback_due IS NOT NULL)
         UNION SELECT id FROM message
         WHERE line = ?1 AND fallback_recipient = ?2 AND priority >= ?3 AND fallback_due IS NOT NULL
         UNION SELECT instead.id FROM message AS first JOIN message AS instead ON instead.instead_of = first.id
         WHERE first.line = ?1 AND first.recipient = ?2 AND instead.priority >= ?3 AND instead.settled IS NULL",
    )?;
    let mut ids = BTreeSet::new();
    for name in names_of(db, line, names)? {
        ids.extend(of.query_map((line, &name, from), |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?);
    }
    ids.into_iter().try_for_each(|id| ends(db, id, now))
}

/// The person of a message said STOP to it: it has no fallback any more, nor has another message to the same person.
fn opted_out_of(db: &Connection, message: i64, now: Timestamp) -> rusqlite::Result<()> {
    let of = "SELECT line, recipient, priority FROM message WHERE id = ?1";
    let read = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get(2)?));
    let (line, recipient, priority) = db.prepare_cached(of)?.query_row((message,), read)?;
    db.prepare_cached("UPDATE message SET fallback_due = NULL WHERE id = ?1")?.execute((message,))?;
    for name in names_of(db, &line, &[recipient])? {
        let fallbacks = "UPDATE message SET fallback_due = NULL
             WHERE line = ?1 AND recipient = ?2 AND priority >= ?3 AND fallback_due IS NOT NULL";
        db.prepare_cached(fallbacks)?.execute((&line, name, opt_out_from(priority)))?;
    }
    let instead: Option<i64> = db
        .prepare_cached("SELECT id FROM message WHERE instead_of = ?1")?
        .query_row((message,), |row| row.get(0))
        .optional()?;
    instead.map_or(Ok(()), |instead| ends(db, instead, now))
}

/// Ends a message, as far as it has not gone, and its fallback.
fn ends(db: &Connection, id: i64, now: Timestamp) -> rusqlite::Result<()> {
    put_decision(db, id, "opt_out", &Reason::new("opt-out", OPTED_OUT), now)?;
    db.prepare_cached("UPDATE message SET fallback_due = NULL WHERE id = ?1")?.execute((id,))?;
    let doubted = "SELECT EXISTS (SELECT 1 FROM attempt WHERE message = ?1 AND outcome = 'unknown')";
    let doubted = db.prepare_cached(doubted)?.query_row((id,), |row| row.get(0))?;
    settle(db, id, &opted_out(doubted, now)).map(drop)
}

/// All that a person is known by on a line, who is known by these names.
fn names_of(db: &Connection, line: &str, names: &[String]) -> rusqlite::Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    let linked = "SELECT current FROM link WHERE line = ?1 AND previous = ?2
         UNION SELECT previous FROM link
         WHERE line = ?1 AND (current = ?2 OR current = (SELECT current FROM link WHERE line = ?1 AND previous = ?2))";
    for name in names {
        let mut linked = db.prepare_cached(linked)?;
        let linked = linked.query_map((line, name), |row| row.get(0))?;
        all.extend(linked.collect::<Result<Vec<String>, _>>()?);
        all.insert(name.clone());
    }
    Ok(all)
}

/// What a gateway says of a message: how far it got, and so that it has it.
fn told_of(db: &Connection, message: i64, told: Told, now: Timestamp) -> rusqlite::Result<()> {
    climb(db, message, told.state, now)?;
    if told.opted_out {
        opted_out_of(db, message, now)?;
    }
    let reason = Some(TOLD.to_owned());
    let from = &[State::Unknown, State::Parked];
    settle(db, message, &Settle { state: State::Accepted, due: None, reason, from, now }).map(|_| ())
}

/// Takes what a gateway told of a message while it was being sent.
fn heard_of(db: &Connection, message: i64, now: Timestamp) -> rusqlite::Result<()> {
    join_early(db, message, now)?;
    let told = "SELECT delivery FROM message WHERE id = ?1 AND state IN ('unknown', 'parked') AND delivery IS NOT NULL";
    let told: Option<String> = db.prepare_cached(told)?.query_row((message,), |row| row.get(0)).optional()?;
    let state = told.as_deref().and_then(rung_of);
    state.map_or(Ok(()), |state| told_of(db, message, Told { state, opted_out: false }, now))
}

/// Takes what came before the message's own id was written down.
fn join_early(db: &Connection, message: i64, now: Timestamp) -> rusqlite::Result<()> {
    let by_id = "SELECT e.rowid, e.delivery FROM part AS p
         JOIN early AS e ON e.gateway = p.gateway AND e.account = p.account AND e.id = p.id WHERE p.message = ?1";
    let by_key = "SELECT e.rowid, e.delivery FROM message AS m JOIN early AS e ON e.key = m.key
         JOIN attempt AS a ON a.message = m.id AND a.gateway = e.gateway AND a.account = e.account WHERE m.id = ?1";
    let by_reference = "SELECT e.rowid, e.delivery FROM attempt AS a JOIN early AS e ON e.key = a.reference
         AND e.gateway = a.gateway AND e.account = a.account WHERE a.message = ?1";
    for early in [by_id, by_key, by_reference] {
        let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?));
        let early = db.prepare_cached(early)?.query_map((message,), read)?.collect::<Result<Vec<_>, _>>()?;
        for (rowid, delivery) in early {
            if let Ok(told) = serde_json::from_str(&delivery) {
                told_of(db, message, told, now)?;
            }
            db.prepare_cached("DELETE FROM early WHERE rowid = ?1")?.execute((rowid,))?;
        }
    }
    Ok(())
}

/// Takes a message up the ladder of delivery, and never down.
fn climb(db: &Connection, message: i64, state: DeliveryState, now: Timestamp) -> rusqlite::Result<()> {
    let before: Option<String> =
        db.prepare_cached("SELECT delivery FROM message WHERE id = ?1")?.query_row((message,), |row| row.get(0))?;
    let after = risen(before.as_deref(), state)?;
    let failed = rung_of(&after).is_some_and(DeliveryState::is_failure);
    let arrived = rung_of(&after) >= Some(DeliveryState::Delivered);
    db.prepare_cached(
        "UPDATE message SET delivery = ?2,
                fallback_due = CASE WHEN ?5 THEN NULL WHEN ?3 AND fallback_due > ?4 THEN ?4 ELSE fallback_due END
         WHERE id = ?1",
    )?
    .execute((message, after, failed, now, arrived))
    .map(|_| ())
}

/// The rung of a message that was on that one, as it is kept.
fn risen(before: Option<&str>, state: DeliveryState) -> rusqlite::Result<String> {
    to_json(&before.and_then(rung_of).map_or(state, |before| before.join(state)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;
    use crate::message::Message;

    /// Steps that a later version may have.
    const LATER: &[&str] = &[
        "ALTER TABLE message ADD COLUMN later TEXT; CREATE TABLE later (id INTEGER PRIMARY KEY) STRICT;",
        "CREATE INDEX message_later ON message (later); UPDATE message SET later = key;",
    ];

    fn store(path: &str) -> rusqlite::Result<Connection> {
        let mut connection = Connection::open(path)?;
        prepare(&mut connection, MIGRATIONS, true).unwrap().unwrap();
        Ok(connection)
    }

    /// All that is in the file, line by line, and the step.
    fn shape(db: &Connection) -> Vec<String> {
        let mut shape = db.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").unwrap();
        let mut lines: Vec<String> = shape.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        lines.push(db.query_row("PRAGMA user_version", (), |row| row.get::<_, u32>(0)).unwrap().to_string());
        lines
    }

    fn message(text: &str) -> New {
        let to = Address::phone("+447700900123").unwrap();
        let (line, key, now) = ("desk".to_owned(), "k".to_owned(), Timestamp::from_millis(1));
        New {
            line,
            message: Message::text(to, text).key("k"),
            key,
            priority: 2,
            due: now,
            deferred: None,
            fallback: None,
            now,
        }
    }

    #[test]
    fn from_every_step_the_tables_come_to_be_the_same_and_keep_what_they_hold() {
        let steps = [MIGRATIONS, LATER].concat();
        let mut all = Vec::new();
        for from in 0..=steps.len() {
            let mut db = Connection::open_in_memory().unwrap();
            prepare(&mut db, &steps[..from], true).unwrap().unwrap();
            // A program of that step wrote there.
            if from >= MIGRATIONS.len() {
                let put = "INSERT INTO message (line, key, recipient, body, digest, priority, state, queued)
                     VALUES ('desk', 'k', '+447700900123', '{}', 'd', 2, 'queued', 1)";
                db.execute(put, ()).unwrap();
            }
            prepare(&mut db, &steps, true).unwrap().unwrap();
            if from >= MIGRATIONS.len() {
                let there = "SELECT count(*) FROM message WHERE key = 'k' AND digest = 'd'";
                assert_eq!(db.query_row(there, (), |row| row.get(0)), Ok(1));
            }
            all.push(shape(&db));
            // An older program does not work on it.
            let error = prepare(&mut db, MIGRATIONS, true).unwrap().unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("store")));
        }
        assert!(all[0].len() > 12 && all.iter().all(|shape| *shape == all[0]), "{all:?}");
    }

    #[test]
    fn of_a_step_that_fails_and_of_those_before_it_nothing_stays() {
        let fails = "CREATE TABLE half (n INTEGER); INSERT INTO nowhere VALUES (1);";
        let mut db = Connection::open_in_memory().unwrap();
        for done in 0..=MIGRATIONS.len() {
            let before = shape(&db);
            assert!(prepare(&mut db, &[MIGRATIONS, &[fails]].concat(), true).is_err());
            assert_eq!(shape(&db), before);
            assert_eq!(before.last(), Some(&done.to_string()));
            if done < MIGRATIONS.len() {
                prepare(&mut db, &MIGRATIONS[..=done], true).unwrap().unwrap();
            }
        }
    }

    #[tokio::test]
    async fn several_may_open_a_new_file_at_the_same_moment() {
        let file = super::super::suite::OnDisk::new();
        let url = file.url();
        let path = url.strip_prefix("sqlite:").unwrap();
        let (one, two, three) = tokio::join!(Sqlite::open(path), Sqlite::open(path), Sqlite::open(path));
        assert!([&one, &two, &three].iter().all(|opened| opened.is_ok()), "{one:?} {two:?} {three:?}");
        assert_eq!(shape(&store(path).unwrap()).last(), Some(&MIGRATIONS.len().to_string()));
    }

    /// Changes a bit of the last word of these in a file, which is one of an index.
    fn flip(path: &str, word: &str) {
        let mut bytes = std::fs::read(path).unwrap();
        let at = bytes.windows(word.len()).rposition(|found| found == word.as_bytes()).unwrap();
        bytes[at] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }

    #[tokio::test]
    async fn file_is_checked_after_an_unclean_stop_and_on_demand() {
        let (file, copy) = (super::super::suite::OnDisk::new(), super::super::suite::OnDisk::new());
        let [url, copied] = [file.url(), copy.url()];
        let [path, copied] = [&url, &copied].map(|url| url.strip_prefix("sqlite:").unwrap());
        let opened = Sqlite::open(path).await.unwrap();
        let new = New { key: "a-key-of-its-own".to_owned(), ..message("Hello") };
        assert!(matches!(opened.enqueue(new).await.unwrap(), Enqueued::New(_)));
        assert_eq!(opened.check().await.unwrap(), 0);
        // Opened beside one that is open, which has seen to it.
        assert!(Sqlite::open(path).await.is_ok());
        assert!(std::path::Path::new(&format!("{path}-wal")).exists());
        assert!(opened.read(keep::empty_log).await.unwrap());
        std::fs::copy(path, copied).unwrap();
        // It is closed, and no log is left, by the time that this is over.
        drop(opened);
        assert!(!std::path::Path::new(&format!("{path}-wal")).exists());
        assert!(!has_stopped_uncleanly(&mut Connection::open(path).unwrap()).unwrap());
        flip(path, "a-key-of-its-own");
        let opened = Sqlite::open(path).await.unwrap();
        let error = opened.check().await.unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains("restore a backup"), "{error}");
        // As a crash leaves it, and a copy of what was open.
        assert!(has_stopped_uncleanly(&mut Connection::open(copied).unwrap()).unwrap());
        Connection::open(copied).unwrap().pragma_update(None, "journal_mode", "WAL").unwrap();
        std::fs::write(format!("{copied}-wal"), "").unwrap();
        flip(copied, "a-key-of-its-own");
        let error = Sqlite::open(copied).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains("restore a backup"), "{error}");
    }

    #[tokio::test]
    async fn changed_message_fails_the_check() {
        let file = super::super::suite::OnDisk::new();
        let opened = super::super::Store::open(&file.url()).await.unwrap();
        for key in ["one", "two", "three"] {
            let new = New { key: key.to_owned(), ..message("Hello") };
            assert!(matches!(opened.0.enqueue(new).await.unwrap(), Enqueued::New(_)));
        }
        opened.check().await.unwrap();
        let url = file.url();
        let db = Connection::open(url.strip_prefix("sqlite:").unwrap()).unwrap();
        db.execute("UPDATE message SET body = replace(body, 'Hello', 'Hallo') WHERE id < 3", ()).unwrap();
        let error = opened.check().await.unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains("holds 2 messages"), "{error}");
    }

    #[tokio::test]
    async fn a_message_is_the_same_in_other_words() {
        let file = super::super::suite::OnDisk::new();
        let url = file.url();
        let path = url.strip_prefix("sqlite:").unwrap();
        let opened = Sqlite::open(path).await.unwrap();
        let Enqueued::New(id) = opened.enqueue(message("Hello")).await.unwrap() else { panic!("it is new") };
        // As another program, or a later one, would write it.
        let words = r#"{"key":"k","content":{"text":"H\u0065llo"},"to":{"phone":"07700 900123"},"version":1}"#;
        store(path).unwrap().execute("UPDATE message SET body = ?1, digest = 'another'", (words,)).unwrap();
        assert_eq!(opened.enqueue(message("Hello")).await.unwrap(), Enqueued::Same(id));
        assert_eq!(opened.enqueue(message("Hallo")).await.unwrap(), Enqueued::Other);
    }
}
