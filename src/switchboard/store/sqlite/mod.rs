//! The SQLite store: one file, and one writer thread that commits in groups.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rusqlite::config::DbConfig;
use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, TransactionBehavior, params};
use tokio::sync::oneshot;

use super::super::Line;
use super::super::campaign::Campaign;
use super::super::conversation::{Entry, Place};
use super::super::conversations::{ConversationFilter, ConversationPlace, ConversationRow};
use super::super::directory::{Addressee, Directory, Named};
use super::super::engine::Engine;
use super::super::file::File;
use super::super::flow::{self, Tx};
use super::super::lanes::{Claims, Rooms};
use super::super::messages::{CancelledPart, MessageFilter};
use super::super::people::{LinkChange, PersonLink, PersonLinkRow};
use super::super::record::{
    Answers, Attempt, Bounded, Claimed, ClaimedFile, End, Enqueued, EventFilter, FallbackResults, FallbackRow, Fetched,
    FileHold, Hold, InboxEvent, Incoming, Leases, New, PutOff, Recovered, Ruling, Settle, StatusRow, Unbounded, Wait,
    Written, message_of, named, price_of,
};
use super::super::register::{Begun, Lift, OptOutEntry, Preference, PreferenceKind, Verdict};
use super::super::status::{Id, SendAttempt, State, Status};
use super::super::watch::Stats;
use crate::model::clock::Timestamp;
use crate::model::digest::Digest;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::id::{AccountId, is_code};
use crate::model::message::Message;
use crate::model::poll::Cursor;
use crate::policy::Reason;

/// The delivery state that the mark of its conversation gives an accepted message `m`.
macro_rules! mark {
    () => {
        "(SELECT CASE WHEN c.read_up_to >= a.begun THEN '\"read\"' WHEN c.delivered_up_to >= a.begun THEN '\"delivered\"' END
          FROM attempt AS a JOIN conversation AS c
              ON c.line = m.line AND c.person = m.recipient AND c.gateway = a.gateway AND c.account = a.account
          WHERE a.message = m.id AND a.n = m.attempts AND m.state = 'accepted')"
    };
}

mod budgets;
mod claim;
mod conversations;
mod file;
mod keep;
mod limits;
mod log;
mod messages;
mod people;
mod reader;
mod register;
mod tx;
mod writer;

use claim::{ClaimedRow, InMemory, read_claimed_row};
use reader::Reader;
use tx::{Db, Fault, run};
use writer::Writer;

/// The migrations from each version of the tables to the next; the file has its version.
const MIGRATIONS: &[&str] = &[include_str!("schema.sql")];

/// The wait for another program that writes: ten seconds, in steps short enough to find the gaps when many wait.
const BUSY_STEP: Duration = Duration::from_millis(5);
const BUSY_STEPS: i32 = 2000;
const BUSY_MAX: Duration = Duration::from_secs(10);

/// The advice about a damaged file.
const DAMAGED: &str = "is damaged, or not a store: leave the file unchanged, and restore a backup";

/// The size of the cache of prepared statements: more than there are.
const STATEMENTS: usize = 192;

pub(super) struct Sqlite {
    // Dropped before the writer, which closes the file.
    reader: OnceLock<Reader>,
    writer: Writer,
    path: String,
    working: Arc<AtomicBool>,
    /// Content was removed, and is still in the log.
    traces: AtomicBool,
    /// The claims of this process's worker, the only one.
    claims: InMemory,
    directory: Mutex<Arc<Directory>>,
}

/// The right to work on the store: a lock on a file beside the database, so that other programs may still write
/// messages. The lock ends with the process.
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
        Ok(Self {
            reader: OnceLock::new(),
            writer,
            path: path.to_owned(),
            working: Arc::default(),
            traces: AtomicBool::new(true),
            claims: InMemory::default(),
            directory: Mutex::default(),
        })
    }

    /// Opens the file a second time, for the same worker.
    #[cfg(test)]
    pub(super) async fn beside(&self) -> Result<Self> {
        Ok(Self { claims: self.claims.clone(), ..Self::open(&self.path).await? })
    }

    fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does this if the claim is the last one of its message.
    async fn by_claim(
        &self,
        hold: Hold,
        work: impl Fn(&Connection) -> rusqlite::Result<bool> + Send + 'static,
    ) -> Result<bool> {
        match self.claims.lease_of(hold, Timestamp::from_millis(i64::MIN)) {
            Some(_) => self.run(work).await,
            None => Ok(false),
        }
    }

    /// Does this in a transaction, which is durable when it returns.
    async fn run<T: Send + 'static>(
        &self,
        work: impl Fn(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        self.writer.run(work).await
    }

    /// Reads a snapshot beside the writer thread, for interactive queries.
    async fn look<T: Send + 'static>(
        &self,
        work: impl Fn(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.path == ":memory:" {
            return self.run(work).await;
        }
        if self.reader.get().is_none() {
            // If two start a reader, one is dropped.
            drop(self.reader.set(Reader::start(self.path.clone())?));
        }
        self.reader.get().ok_or_else(gone)?.run(work).await
    }

    /// Reads on a connection and thread of its own, for long work.
    async fn read<T: Send + 'static>(
        &self,
        work: impl Fn(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.path == ":memory:" {
            return self.run(work).await;
        }
        let ((sender, done), path) = (oneshot::channel(), self.path.clone());
        let thread = std::thread::Builder::new().name("civic-store-read".to_owned());
        let read = move || {
            let read = Connection::open(path).and_then(|mut db| {
                wait_when_busy(&mut db)?;
                // No page is read twice.
                db.pragma_update(None, "cache_size", -500)?;
                work(&db)
            });
            drop(sender.send(read.map_err(|error| failed(&error))));
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
    // Before SQLite opens it, which would discard the broken rest.
    if log::is_broken(path) {
        return Err(Error::config("store", DAMAGED));
    }
    let (mut check, begun) = (false, Instant::now());
    loop {
        match open_once(path, &mut check) {
            // Another program is opening the file or changing its journal mode, for which SQLite does not wait.
            Err(error) if is_busy(&error) && begun.elapsed() < BUSY_MAX => std::thread::sleep(BUSY_STEP),
            opened => return opened.map_err(|error| cannot_open(&error))?,
        }
    }
}

/// Opens a file, and records whether it has to be checked: a retry no longer sees what the first try found.
fn open_once(path: &str, check: &mut bool) -> rusqlite::Result<Result<Connection>> {
    let opened = if path == ":memory:" { Connection::open_in_memory() } else { Connection::open(Path::new(path)) };
    let mut connection = opened?;
    *check |= has_stopped_uncleanly(&mut connection)?;
    Ok(prepare(&mut connection, MIGRATIONS, *check)?.map(|()| connection))
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Returns `true` if the programs that last had this file open did not close it: it is in WAL mode, which the last of
/// them ends, and nobody has it open now. This also holds for a copy of an open file.
fn has_stopped_uncleanly(db: &mut Connection) -> rusqlite::Result<bool> {
    wait_when_busy(db)?;
    let mode: String = db.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    Ok(mode == "wal" && is_alone(db)?)
}

/// Returns `true` if nobody else has the file open; then also empties its log and ends WAL mode.
fn is_alone(db: &Connection) -> rusqlite::Result<bool> {
    match db.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get::<_, String>(0)) {
        Ok(mode) => Ok(mode == "delete"),
        Err(error) if is_busy(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns `true` if the tables and their indexes are intact.
fn is_whole(db: &Connection) -> rusqlite::Result<bool> {
    db.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0).map(|check| check == "ok"))
}

fn wait_when_busy(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.busy_handler(Some(|times| {
        std::thread::sleep(BUSY_STEP);
        times < BUSY_STEPS
    }))
}

/// Keeps each statement prepared, and planned once. Without this setting SQLite plans a statement again for each value
/// compared with the condition of a partial index.
fn keep_statements(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

fn prepare(connection: &mut Connection, steps: &[&str], check: bool) -> rusqlite::Result<Result<()>> {
    wait_when_busy(connection)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Removed content is overwritten.
    connection.pragma_update(None, "secure_delete", true)?;
    keep_statements(connection)?;
    // With the indexes, which find messages: an index that disagrees with its table would send a message wrongly, or
    // miss it.
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

/// Returns the error of a failing store: SQLite's text for the code, and none of the data.
fn failed(error: &rusqlite::Error) -> Error {
    let text = match error.sqlite_error() {
        Some(_) if is_full(error) => "its disk is full",
        Some(error) => rusqlite::ffi::code_to_str(error.extended_code),
        None => "the stored data cannot be read",
    };
    Error::new(ErrorKind::Unavailable, format!("unavailable: {text}")).with_field("store")
}

fn is_full(error: &rusqlite::Error) -> bool {
    // SQLite's code for no space for the index of its log.
    let no_room = |error: &rusqlite::ffi::Error| error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE;
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) || error.sqlite_error().is_some_and(no_room)
}

fn cannot_open(error: &rusqlite::Error) -> Error {
    use rusqlite::ErrorCode::{CannotOpen, DatabaseBusy, DatabaseCorrupt, NotADatabase, ReadOnly};
    let rule = match error.sqlite_error_code() {
        // Transient.
        _ if is_full(error) => return failed(error),
        Some(DatabaseBusy) => return failed(error),
        Some(CannotOpen | ReadOnly) => {
            "cannot be opened: check that its folder exists, and that this user may write to both"
        }
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

#[async_trait]
impl Engine for Sqlite {
    fn configure(&self, directory: Directory) {
        let mut known = self.directory.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Arc::new(known.with(&directory));
    }

    async fn lock(&self) -> Result<Box<dyn Send>> {
        let taken =
            || Error::config("store", "another worker is running, in this process or another: only one at a time");
        if self.working.swap(true, Ordering::AcqRel) {
            return Err(taken());
        }
        let mut working = Working { process: self.working.clone(), _file: None };
        if self.path != ":memory:" {
            working._file = Some(lock_file(&self.path).map_err(|error| match error.sqlite_error_code() {
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => taken(),
                _ => Error::config("store", format!("the lock file of its worker cannot be locked: {error}")),
            })?);
        }
        Ok(Box::new(working))
    }

    async fn enqueue(&self, new: New) -> Result<Enqueued> {
        // Outside the writer thread.
        let written = Written::new(&new).map_err(|error| failed(&Fault::from(error).0))?;
        let of = self.directory();
        self.run(move |db| run(flow::enqueue(&Db(db), &of, &new, &written, None))).await
    }

    async fn enqueue_all(&self, all: Vec<New>) -> Result<Vec<Enqueued>> {
        let of = self.directory();
        let written = all.into_iter().map(|new| Written::new(&new).map(|written| (new, written)));
        let all = written.collect::<Result<Vec<_>, _>>().map_err(|error| failed(&Fault::from(error).0))?;
        self.run(move |db| {
            let enqueue = |(new, written): &(New, Written)| run(flow::enqueue(&Db(db), &of, new, written, None));
            all.iter().map(enqueue).collect()
        })
        .await
    }

    async fn enqueue_and_ack(&self, new: New, event: i64) -> Result<Enqueued> {
        let written = Written::new(&new).map_err(|error| failed(&Fault::from(error).0))?;
        let of = self.directory();
        self.run(move |db| run(flow::enqueue_and_ack(&Db(db), &of, &new, &written, event))).await
    }

    async fn claim(&self, now: Timestamp, lease: Duration, rooms: Rooms) -> Result<Claims> {
        // One claim at a time: it is recorded after the read.
        let _turn = self.claims.turn.lock().await;
        let (rooms, claims) = (Arc::new(rooms), self.claims.clone());
        let found = self.run(move |db| claim::find(db, now, &rooms, &claims)).await?;
        let mut all = Claims { next_due: found.next_due, ..Claims::default() };
        for held in found.heads {
            let mut claimed = held.read();
            claimed.hold.fence = self.claims.claim(claimed.hold, now.plus(lease));
            all.claimed.push(claimed);
        }
        Ok(all)
    }

    async fn pause(&self, account: String, until: Timestamp) -> Result<()> {
        let set = "INSERT INTO account (id, next_at) VALUES (?1, ?2)
             ON CONFLICT (id) DO UPDATE SET next_at = max(next_at, excluded.next_at)";
        self.run(move |db| Db(db).change(set, (&account, until.as_millis().saturating_mul(1000))).map(|_| ())).await
    }

    async fn pauses(&self, now: Timestamp) -> Result<Vec<(String, Timestamp)>> {
        let paused = "SELECT id, next_at / 1000 FROM account WHERE next_at > ?1";
        let now = now.as_millis().saturating_mul(1000);
        self.run(move |db| Db(db).rows(paused, (now,), |row| Ok((row.get(0)?, row.get(1)?)))).await
    }

    async fn unhandled_since(&self, id: Id, why: Reason, now: Timestamp) -> Result<Timestamp> {
        self.run(move |db| run(flow::unhandled_since(&Db(db), id.0, &why, now))).await
    }

    async fn unclaim(&self, hold: Hold) -> Result<()> {
        self.claims.end(hold);
        Ok(())
    }

    async fn change_lane(&self, hold: Hold, lane: String) -> Result<()> {
        let changed = self.by_claim(hold, move |db| run(flow::change_lane(&Db(db), hold, &lane)).map(|()| true)).await;
        self.claims.end(hold);
        changed.map(drop)
    }

    async fn put_off(&self, hold: Hold, off: PutOff) -> Result<bool> {
        let done = self.by_claim(hold, move |db| run(flow::put_off(&Db(db), hold, &off))).await?;
        self.claims.end(hold);
        Ok(done)
    }

    async fn ruled(&self, hold: Hold, ruling: Ruling) -> Result<bool> {
        let done = self.by_claim(hold, move |db| run(flow::ruled(&Db(db), hold, &ruling))).await?;
        self.claims.end(hold);
        Ok(done)
    }

    async fn expire(&self, now: Timestamp, max: u32) -> Result<Vec<(Id, String, State)>> {
        self.run(move |db| run(flow::expire(&Db(db), now, max, now))).await
    }

    async fn due_fallbacks(&self, now: Timestamp) -> Result<Vec<FallbackRow>> {
        self.run(move |db| Db(db).fallbacks(Some(now))).await
    }

    async fn fall_back(&self, now: Timestamp, answers: Answers) -> Result<FallbackResults> {
        let of = self.directory();
        self.run(move |db| run(flow::fall_back(&Db(db), &of, now, &answers))).await
    }

    async fn read(&self, ids: Vec<i64>) -> Result<Vec<Claimed>> {
        let held = self.run(move |db| ids.iter().map(|id| read_claimed_row(db, *id)).collect::<Result<Vec<_>, _>>());
        Ok(held.await?.into_iter().map(ClaimedRow::read).collect())
    }

    async fn begin_send(&self, hold: Hold, attempt: Attempt, to: Addressee) -> Result<Begun> {
        let Some(lease) = self.claims.lease_of(hold, attempt.at) else { return Ok(Begun::NotHeld) };
        let of = self.directory();
        let begin = move |db: &Connection| run(flow::begin(&Db(db), &of, (hold, Some(lease)), &attempt, &to));
        let begun = self.run(begin).await?;
        if begun != Begun::Sending {
            self.claims.end(hold);
        }
        Ok(begun)
    }

    async fn used(&self, counters: Vec<String>) -> Result<Vec<i64>> {
        self.run(move |db: &Connection| run(flow::used(&Db(db), &counters))).await
    }

    async fn is_stopped(&self, message: Addressee, now: Timestamp) -> Result<bool> {
        let of = self.directory();
        let decided = self.look(move |db| run(flow::verdict(&Db(db), &of, &message, None, now))).await?;
        Ok(matches!(decided, Verdict::Stopped(_)))
    }

    async fn record_preferences(&self, preferences: Vec<Preference>, now: Timestamp) -> Result<u64> {
        let of = self.directory();
        self.run(move |db| run(flow::opt_outs(&Db(db), &of, &preferences, now))).await
    }

    async fn preferences(
        &self,
        line: &str,
        kind: PreferenceKind,
        after: Option<i64>,
        max: u32,
    ) -> Result<Vec<(OptOutEntry, Option<String>)>> {
        let (of, line) = (self.directory(), line.to_owned());
        self.look(move |db| run(flow::listed(&Db(db), &of, (&line, kind), after, max))).await
    }

    async fn pseudonymise(&self, line: &str, person: Named) -> Result<u64> {
        let (of, line) = (self.directory(), line.to_owned());
        self.run(move |db| run(flow::pseudonymise(&Db(db), &of, &line, &person))).await
    }

    async fn link_persons(&self, change: LinkChange, now: Timestamp) -> Result<bool> {
        let of = self.directory();
        self.run(move |db| run(flow::link_persons(&Db(db), &of, &change, now))).await
    }

    async fn unlink_persons(&self, change: LinkChange, now: Timestamp) -> Result<bool> {
        let of = self.directory();
        self.run(move |db| run(flow::unlink_persons(&Db(db), &of, &change, now))).await
    }

    async fn person_links(&self, line: &str, after: Option<i64>, max: u32) -> Result<Vec<PersonLink>> {
        let (of, line) = (self.directory(), line.to_owned());
        let rows = self.look(move |db| run(flow::person_links(&Db(db), &of, &line, after, max))).await?;
        Ok(rows.into_iter().filter_map(PersonLinkRow::read).collect())
    }

    #[cfg(test)]
    async fn decided_since(&self, id: Id, decision: &'static str, why: Reason) -> Result<Option<Timestamp>> {
        self.run(move |db| run(Db(db).decided_since(id.0, decision, &why))).await
    }

    async fn lift_preferences(&self, line: &str, person: Named, lift: Lift, now: Timestamp) -> Result<u64> {
        let (of, line) = (self.directory(), line.to_owned());
        self.run(move |db| run(flow::lift(&Db(db), &of, &line, &person, &lift, now))).await
    }

    async fn finish(&self, hold: Hold, end: End) -> Result<bool> {
        let of = self.directory();
        let done = self.by_claim(hold, move |db| run(flow::finish(&Db(db), &of, hold, &end))).await?;
        self.claims.end(hold);
        Ok(done)
    }

    async fn recover(&self, now: Timestamp, all: bool) -> Result<Recovered> {
        let (ended, of) = (self.claims.lapse(now, all), self.directory());
        let lapsed = "SELECT id FROM message WHERE lease IS NOT NULL AND state = 'sending' AND (lease <= ?1 OR ?2)";
        let unknown = self.run(move |db| {
            let lapsed = Db(db).rows(lapsed, (now, all), |row| row.get(0))?;
            for id in &lapsed {
                run(flow::left_behind(&Db(db), &of, &read_claimed_row(db, *id)?.read(), now))?;
            }
            if all {
                file::recover(db, now)?;
            }
            Ok(lapsed.len() as u64)
        });
        let unknown = unknown.await?;
        Ok(Recovered { queued: ended.saturating_sub(unknown), unknown })
    }

    async fn hold_after_restore(&self, at: Timestamp, now: Timestamp) -> Result<u64> {
        self.run(move |db| run(flow::hold_after_restore(&Db(db), at, now))).await
    }

    async fn look_ups_due(&self, now: Timestamp, wait: Duration, max: u32) -> Result<Vec<Claimed>> {
        let due = "SELECT id FROM message WHERE state = 'unknown' AND due <= ?1 ORDER BY due LIMIT ?2";
        let later = "UPDATE message SET due = ?2, wait = ?3, lookups = lookups + 1 WHERE id = ?1";
        let look_ups_due = self.run(move |db| {
            let mut look_ups_due = Vec::new();
            for id in Db(db).rows(due, (now, max), |row| row.get(0))? {
                look_ups_due.push(read_claimed_row(db, id)?);
                // If it is not settled, it is looked up again.
                Db(db).change(later, (id, now.plus(wait), tx::millis(wait)))?;
            }
            Ok(look_ups_due)
        });
        Ok(look_ups_due.await?.into_iter().map(ClaimedRow::read).collect())
    }

    async fn hold_fallback(&self, id: Id) -> Result<()> {
        let hold = "UPDATE message SET fallback_due = NULL WHERE id = ?1 AND state IN ('unknown', 'parked')";
        self.run(move |db| Db(db).change(hold, (id.0,)).map(|_| ())).await
    }

    async fn messages(&self, line: &str, of: &MessageFilter, after: Option<Id>, max: u32) -> Result<Vec<Status>> {
        let (line, of, after) = (line.to_owned(), of.clone(), after.map_or(i64::MIN, |id| id.0));
        self.look(move |db| {
            let ids = messages::ids(db, &line, &of, after, max)?;
            ids.into_iter().map(|id| status(db, id).map(|(status, _)| status)).collect()
        })
        .await
    }

    async fn cancel_many(
        &self,
        line: &str,
        of: &MessageFilter,
        after: Option<Id>,
        max: u32,
        now: Timestamp,
    ) -> Result<CancelledPart> {
        let (line, of, after) = (line.to_owned(), of.clone(), after.map_or(i64::MIN, |id| id.0));
        self.run(move |db| {
            let ids = messages::ids(db, &line, &of, after, max)?;
            run(flow::cancel_all(&Db(db), &ids, now))
        })
        .await
    }

    async fn campaign(&self, line: &str, tag: &str) -> Result<Campaign> {
        let (line, tag) = (line.to_owned(), tag.to_owned());
        self.read(move |db| messages::campaign(db, &line, &tag)).await
    }

    async fn settle(&self, id: Id, settled: Settle) -> Result<Option<String>> {
        self.run(move |db| run(flow::settle(&Db(db), id.0, &settled))).await
    }

    async fn resend(&self, id: Id, settled: Settle) -> Result<Option<String>> {
        self.run(move |db| run(flow::resend(&Db(db), id.0, &settled))).await
    }

    async fn store_events(
        &self,
        events: Vec<Incoming>,
        cursor: Option<(String, Cursor)>,
        now: Timestamp,
    ) -> Result<usize> {
        let of = self.directory();
        self.run(move |db| run(flow::store_events(&Db(db), &of, &events, cursor.as_ref(), now))).await
    }

    async fn cursor(&self, channel: &str) -> Result<Option<Cursor>> {
        let (channel, place) = (channel.to_owned(), "SELECT place FROM cursor WHERE channel = ?1");
        let read = |row: &Row<'_>| row.get::<_, String>(0).map(Cursor::new);
        self.run(move |db| Db(db).row(place, (&channel,), read)).await
    }

    async fn next_batch(&self, of: &EventFilter, now: Timestamp, lease: Duration, max: u32) -> Result<Vec<InboxEvent>> {
        let of = of.clone();
        self.run(move |db| run(flow::next_batch(&Db(db), &of, now, lease, max))).await
    }

    async fn nack(&self, event: i64, until: Timestamp, now: Timestamp) -> Result<bool> {
        self.run(move |db| run(flow::nack(&Db(db), event, until, now))).await
    }

    async fn parked_events(&self, of: &EventFilter, after: i64, now: Timestamp, max: u32) -> Result<Vec<InboxEvent>> {
        let of = of.clone();
        self.look(move |db| run(flow::parked_events(&Db(db), &of, after, now, max))).await
    }

    async fn ack(&self, event: i64, now: Timestamp) -> Result<()> {
        self.run(move |db| run(flow::ack(&Db(db), event, now))).await
    }

    async fn status(&self, id: Id) -> Result<Option<Status>> {
        self.look(move |db| status(db, id.0).optional().map(|found| found.map(|(status, _)| status))).await
    }

    async fn conversation(&self, line: &str, with: &str, before: Option<Place>, max: u32) -> Result<Vec<Entry>> {
        let (line, with) = (line.to_owned(), with.to_owned());
        self.look(move |db| conversation(db, &line, &with, before, max)).await
    }

    async fn conversations(
        &self,
        line: &str,
        of: ConversationFilter,
        after: Option<ConversationPlace>,
        max: u32,
    ) -> Result<Vec<(ConversationRow, Option<Entry>)>> {
        let line = line.to_owned();
        self.look(move |db| {
            let rows = conversations::list(db, &line, of, after.as_ref(), max)?;
            let last =
                |row: ConversationRow| conversation(db, &line, &row.name, None, 1).map(|mut last| (row, last.pop()));
            rows.into_iter().map(last).collect()
        })
        .await
    }

    async fn mark_read(&self, line: &str, with: &str) -> Result<bool> {
        let (line, with) = (line.to_owned(), with.to_owned());
        self.run(move |db| conversations::mark_read(db, &line, &with)).await
    }

    async fn by_key(&self, line: &str, key: &str) -> Result<Option<Id>> {
        let (line, key) = (line.to_owned(), key.to_owned());
        let id = "SELECT id FROM message WHERE line = ?1 AND key = ?2";
        self.look(move |db| Db(db).row(id, (&line, &key), |row| row.get(0).map(Id))).await
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

    async fn note(&self, lines: Vec<Line>, now: Timestamp) -> Result<()> {
        self.run(move |db| keep::note(db, &lines, now)).await
    }

    async fn attend(&self, lines: Vec<String>, now: Timestamp) -> Result<()> {
        let attend = "UPDATE line SET attended = ?2 WHERE id = ?1";
        self.run(move |db| lines.iter().try_for_each(|line| db.prepare_cached(attend)?.execute((line, now)).map(drop)))
            .await
    }

    async fn clock_went_back(&self, now: Timestamp, latest: Timestamp) -> Result<Option<Duration>> {
        self.run(move |db| run(flow::set_back_by(&Db(db), now, latest))).await
    }

    async fn bound(&self, part: Unbounded, now: Timestamp, leases: Leases) -> Result<(Option<Unbounded>, Bounded)> {
        self.claims.bound(now.plus(leases.message));
        self.run(move |db| run(flow::bound(&Db(db), part, now, leases))).await
    }

    async fn note_time(&self, now: Timestamp) -> Result<()> {
        self.run(move |db| run(Db(db).set_seen(now))).await
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

    async fn claim_files(&self, now: Timestamp, lease: Duration, max: u32) -> Result<Vec<ClaimedFile>> {
        self.run(move |db| file::claim(db, now, now.plus(lease), max)).await
    }

    async fn fetched(&self, hold: FileHold, fetched: Fetched, now: Timestamp) -> Result<bool> {
        self.run(move |db| run(flow::fetched(&Db(db), hold, &fetched, now))).await
    }

    async fn files(&self, event: i64) -> Result<Vec<File>> {
        self.look(move |db| file::of(db, event)).await
    }

    async fn purge(&self, now: Timestamp, max: u32) -> Result<u64> {
        let purged = self.run(move |db| keep::purge(db, now, max)).await?;
        if purged > 0 {
            self.traces.store(true, Ordering::Release);
        }
        // Removed content stays in the log until that is emptied, which is done once nothing is left to remove.
        if purged < u64::from(max) && self.traces.swap(false, Ordering::AcqRel) {
            let emptied = self.read(keep::empty_log).await;
            if !matches!(emptied, Ok(true)) {
                self.traces.store(true, Ordering::Release);
            }
        }
        Ok(purged)
    }

    async fn unwanted(&self, now: Timestamp, lease: Duration, max: u32) -> Result<Vec<Digest>> {
        self.run(move |db| keep::unwanted(db, now, now.plus(lease), max)).await
    }

    async fn check(&self) -> Result<u64> {
        let checked = self.read(|db| Ok(if is_whole(db)? { Some(keep::changed(db)?) } else { None })).await;
        checked?.ok_or_else(|| Error::config("store", DAMAGED))
    }

    async fn removed(&self, file: Digest) -> Result<()> {
        self.run(move |db| keep::removed(db, &file)).await
    }
}

/// Returns the status and the message: `None` if this program cannot read it, or its content was removed.
fn status(db: &Connection, id: i64) -> rusqlite::Result<(Status, Option<Message>)> {
    let mut status = db.prepare_cached(concat!(
        "SELECT line, key, tag, state, due, attempts, delivery, reason,
                (SELECT id FROM part WHERE message = m.id LIMIT 1), instead_of,
                (SELECT id FROM message WHERE instead_of = m.id),
                (SELECT rowid FROM decision WHERE message = m.id AND decision IN ('refuse', 'opt_out')
                 ORDER BY rowid DESC LIMIT 1),
                body, fallback, digest, ",
        mark!(),
        " FROM message AS m WHERE id = ?1"
    ))?;
    let (mut kept, refusal, message) = status.query_row((id,), |row| {
        let kept = StatusRow {
            id,
            line: row.get(0)?,
            key: row.get(1)?,
            tag: row.get(2)?,
            state: row.get(3)?,
            due: row.get(4)?,
            attempts: row.get(5)?,
            delivery: row.get(6)?,
            mark: row.get(15)?,
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

/// Returns the attempts of a message, oldest first.
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

/// The places of a conversation's entries, over every address of the person.
const CONVERSATION: &str = "WITH now (person) AS (
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
     ORDER BY at DESC, ours DESC, id DESC LIMIT ?6";

fn conversation(
    db: &Connection,
    line: &str,
    with: &str,
    before: Option<Place>,
    max: u32,
) -> rusqlite::Result<Vec<Entry>> {
    let mut places = db.prepare_cached(CONVERSATION)?;
    let from = (before.map(|place| place.at), before.map(|place| place.ours), before.map(|place| place.id));
    let read = |row: &Row<'_>| Ok(Place { at: row.get(0)?, ours: row.get(1)?, id: row.get(2)? });
    let places = places.query_map(params![line, with, from.0, from.1, from.2, max], read)?;
    let mut inbound = db.prepare_cached("SELECT body FROM event WHERE id = ?1")?;
    let mut entries = Vec::new();
    for place in places {
        let place = place?;
        entries.push(if place.ours {
            let (status, message) = status(db, place.id)?;
            Entry::ours(place, status, message)
        } else {
            Entry::theirs(place, &inbound.query_row((place.id,), |row| row.get::<_, String>(0))?)
        });
    }
    Ok(entries)
}

/// Locks a file beside the database, by whichever path that is opened, until the process ends.
fn lock_file(path: &str) -> rusqlite::Result<Connection> {
    let resolved = std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
    let mut beside = resolved.into_os_string();
    beside.push("-worker");
    let lock = Connection::open(beside)?;
    lock.busy_timeout(Duration::ZERO)?;
    lock.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT; BEGIN EXCLUSIVE")?;
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::address::Address;
    use crate::model::message::Message;

    /// Migrations of a later version.
    const LATER: &[&str] = &[
        "ALTER TABLE message ADD COLUMN later TEXT; CREATE TABLE later (id INTEGER PRIMARY KEY) STRICT;",
        "CREATE INDEX message_later ON message (later); UPDATE message SET later = key;",
    ];

    fn store(path: &str) -> rusqlite::Result<Connection> {
        let mut connection = Connection::open(path)?;
        prepare(&mut connection, MIGRATIONS, true).unwrap().unwrap();
        Ok(connection)
    }

    /// Returns everything in the file, line by line, and its version.
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
            account: None,
            due: now,
            deferred: None,
            fallback: None,
            now,
        }
    }

    #[test]
    fn conversation_reads_no_more_than_its_person() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(include_str!("schema.sql")).unwrap();
        let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {CONVERSATION}")).unwrap();
        let steps = plan.query_map(params!["desk", "p", 1, 1, 1, 9], |row| row.get::<_, String>(3)).unwrap();
        let steps: Vec<_> =
            steps.map(Result::unwrap).filter(|step| step.contains(" message") || step.contains(" event")).collect();
        let uses = |index: &str| steps.iter().any(|step| step.contains(index));
        assert!(uses("INDEX message_person (line=? AND recipient=?"), "{steps:?}");
        assert!(uses("INDEX event_person (line=? AND person=?"), "{steps:?}");
    }

    #[test]
    fn migration_from_every_version_gives_the_same_tables() {
        let steps = [MIGRATIONS, LATER].concat();
        let mut all = Vec::new();
        for from in 0..=steps.len() {
            let mut db = Connection::open_in_memory().unwrap();
            prepare(&mut db, &steps[..from], true).unwrap().unwrap();
            // A program of that version wrote there.
            if from >= MIGRATIONS.len() {
                let put = "INSERT INTO message (line, key, recipient, body, digest, priority, state, queued, lane)
                     VALUES ('desk', 'k', '+447700900123', '{}', 'd', 2, 'queued', 1, 'desk/phone')";
                db.execute(put, ()).unwrap();
            }
            prepare(&mut db, &steps, true).unwrap().unwrap();
            if from >= MIGRATIONS.len() {
                let there = "SELECT count(*) FROM message WHERE key = 'k' AND digest = 'd'";
                assert_eq!(db.query_row(there, (), |row| row.get(0)), Ok(1));
            }
            all.push(shape(&db));
            // An older program refuses it.
            let error = prepare(&mut db, MIGRATIONS, true).unwrap().unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("store")));
        }
        assert!(all[0].len() > 12 && all.iter().all(|shape| *shape == all[0]), "{all:?}");
    }

    #[test]
    fn failed_migration_rolls_back_all_steps() {
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
    async fn new_file_may_be_opened_concurrently() {
        let file = super::super::suite::OnDisk::new();
        let url = file.url();
        let path = url.strip_prefix("sqlite:").unwrap();
        let (one, two, three) = tokio::join!(Sqlite::open(path), Sqlite::open(path), Sqlite::open(path));
        assert!([&one, &two, &three].iter().all(|opened| opened.is_ok()), "{one:?} {two:?} {three:?}");
        assert_eq!(shape(&store(path).unwrap()).last(), Some(&MIGRATIONS.len().to_string()));
    }

    /// Flips a bit of the last occurrence of this text in a file, which is in an index.
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
        // Opened beside an open one, which was checked.
        assert!(Sqlite::open(path).await.is_ok());
        assert!(std::path::Path::new(&format!("{path}-wal")).exists());
        assert!(opened.read(keep::empty_log).await.unwrap());
        std::fs::copy(path, copied).unwrap();
        // Once this returns the file is closed, without a log.
        drop(opened);
        assert!(!std::path::Path::new(&format!("{path}-wal")).exists());
        assert!(!has_stopped_uncleanly(&mut Connection::open(path).unwrap()).unwrap());
        flip(path, "a-key-of-its-own");
        let opened = Sqlite::open(path).await.unwrap();
        let error = opened.check().await.unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains("restore a backup"), "{error}");
        // As after a crash, and as in a copy of an open file.
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
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains("has 2 messages"), "{error}");
    }

    #[tokio::test]
    async fn message_is_the_same_in_other_json() {
        let file = super::super::suite::OnDisk::new();
        let url = file.url();
        let path = url.strip_prefix("sqlite:").unwrap();
        let opened = Sqlite::open(path).await.unwrap();
        let Enqueued::New(id) = opened.enqueue(message("Hello")).await.unwrap() else { panic!("it is new") };
        // As another program, or a later version, may write it.
        let words = r#"{"key":"k","content":{"text":"H\u0065llo"},"to":{"phone":"07700 900123"},"version":1}"#;
        store(path).unwrap().execute("UPDATE message SET body = ?1, digest = 'another'", (words,)).unwrap();
        assert_eq!(opened.enqueue(message("Hello")).await.unwrap(), Enqueued::Same(id));
        assert_eq!(opened.enqueue(message("Hallo")).await.unwrap(), Enqueued::Other);
    }
}
