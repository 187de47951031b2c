//! The files of residents' messages.

use tokio_postgres::Row;

use super::super::super::file::File;
use super::super::super::record::{AFTER_REMOVAL, ClaimedFile, Fetched, FileHold, HELD_BACK};
use super::session::{Fault, Session};
use super::{moment, text};
use crate::clock::Timestamp;
use crate::id::Digest;
use crate::media::Stored;

/// Writes down the files of an event that was put down just now, and holds it back for them.
pub(super) async fn put(db: &Session, dedupe: &str, files: usize, now: Timestamp) -> Result<(), Fault> {
    let Some(last) = files.checked_sub(1).map(|last| i32::try_from(last).unwrap_or(i32::MAX)) else { return Ok(()) };
    let put = "INSERT INTO civic_messaging.file (event, n, state, due)
         SELECT id, n, 'waiting', $3 FROM civic_messaging.event, generate_series(0, $2) AS n WHERE dedupe = $1";
    db.change(put, &[&dedupe, &last, &now.as_millis()]).await?;
    let hold = "UPDATE civic_messaging.event SET lease = $2 WHERE dedupe = $1";
    db.change(hold, &[&dedupe, &now.plus(HELD_BACK).as_millis()]).await.map(drop)
}

pub(super) async fn claim(
    db: &Session,
    now: Timestamp,
    until: Timestamp,
    most: u32,
) -> Result<Vec<ClaimedFile>, Fault> {
    let claim = "WITH found AS (
             SELECT event, n FROM civic_messaging.file
             WHERE due <= $1 AND due IS NOT NULL AND state IN ('waiting', 'fetching')
             ORDER BY due LIMIT $3 FOR UPDATE SKIP LOCKED)
         UPDATE civic_messaging.file AS f SET state = 'fetching', due = $2, tries = f.tries + 1
         FROM found, civic_messaging.event AS e
         WHERE f.event = found.event AND f.n = found.n AND e.id = f.event
         RETURNING f.event, f.n, f.tries, e.line, e.body, e.taken_in";
    let read = |row: &Row| {
        Ok(ClaimedFile {
            hold: FileHold { event: row.try_get(0)?, n: row.try_get(1)?, tries: row.try_get(2)? },
            line: row.try_get(3)?,
            event: serde_json::from_str(row.try_get(4)?).ok(),
            taken_in: moment(row, 5)?,
        })
    };
    db.rows(claim, &[&now.as_millis(), &until.as_millis(), &i64::from(most)]).await?.iter().map(read).collect()
}

pub(super) async fn fetched(db: &Session, hold: FileHold, fetched: &Fetched, now: Timestamp) -> Result<bool, Fault> {
    let (mut state, mut due, mut reason, mut stored) = ("waiting", None, None, None);
    let mut taken = true;
    match fetched {
        Fetched::Again(at) => due = Some(at.as_millis()),
        Fetched::Failed(why) => (state, reason) = ("failed", Some(text(why))),
        Fetched::Held(file) => {
            lock(db, std::slice::from_ref(&file.sha256)).await?;
            let removing = "SELECT 1 FROM civic_messaging.file WHERE sha256 = $1 AND state = 'removing' LIMIT 1";
            if db.row(removing, &[&file.sha256.to_string()]).await?.is_some() {
                (due, taken) = (Some(now.plus(AFTER_REMOVAL).as_millis()), false);
            } else {
                (state, stored) = ("held", Some(file));
            }
        }
    }
    // Of two files of one event that come at the same moment, the later one has to see the other.
    db.row("SELECT 1 FROM civic_messaging.event WHERE id = $1 FOR UPDATE", &[&hold.event]).await?;
    let sha256 = stored.map(|file| file.sha256.to_string());
    let len = stored.map(|file| i64::try_from(file.len).unwrap_or(i64::MAX));
    let mime = stored.map(|file| text(&file.mime));
    let put = "UPDATE civic_messaging.file
         SET state = $4, due = $5, sha256 = $6, len = $7, mime = $8, reason = $9
         WHERE event = $1 AND n = $2 AND tries = $3 AND state IN ('fetching', 'held')";
    let (event, n, tries) = (hold.event, hold.n, hold.tries);
    let put = db.change(put, &[&event, &n, &tries, &state, &due, &sha256, &len, &mime, &reason]).await?;
    // Not one that somebody has taken since.
    let release = "UPDATE civic_messaging.event SET lease = NULL
         WHERE id = $1 AND acked IS NULL AND lease = taken_in + $2 AND NOT EXISTS (
             SELECT 1 FROM civic_messaging.file WHERE event = $1 AND state IN ('waiting', 'fetching'))";
    let held_back = i64::try_from(HELD_BACK.as_millis()).unwrap_or(i64::MAX);
    db.change(release, &[&event, &held_back]).await?;
    Ok(put == 1 && taken)
}

pub(super) async fn of(db: &Session, event: i64) -> Result<Vec<File>, Fault> {
    let of = "SELECT state, sha256, len, mime, reason FROM civic_messaging.file WHERE event = $1 ORDER BY n";
    let read = |row: &Row| {
        let sha256 = row.try_get::<_, Option<&str>>(1)?.and_then(|sha256| sha256.parse().ok());
        let len = row.try_get::<_, Option<i64>>(2)?.unwrap_or(0).unsigned_abs();
        let mime = row.try_get::<_, Option<String>>(3)?.unwrap_or_default();
        let stored = sha256.map(|sha256| Stored::new(sha256, len, mime));
        Ok(File::read(row.try_get(0)?, stored, row.try_get(4)?))
    };
    db.rows(of, &[&event]).await?.iter().map(read).collect()
}

/// Locks these files until the end of the transaction: who notes that one is held, and who notes that it is being removed
/// because none is, would else do so at the same moment. They are locks on 256 places, taken in order.
pub(super) async fn lock(db: &Session, files: &[Digest]) -> Result<(), Fault> {
    let lock = "SELECT pg_advisory_xact_lock(1667854964, place) FROM (
             SELECT DISTINCT place FROM unnest($1::int[]) AS place ORDER BY place) AS places";
    let places: Vec<i32> = files.iter().map(|file| i32::from(file.as_bytes()[0])).collect();
    db.rows(lock, &[&places]).await.map(drop)
}
