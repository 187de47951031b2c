//! The files of residents' messages.

use tokio_postgres::Row;

use super::super::super::file::File;
use super::super::super::record::{ClaimedFile, FileHold};
use super::moment;
use super::session::{Fault, Session};
use crate::media::StoredMedia;
use crate::model::clock::Timestamp;
use crate::model::digest::Digest;

pub(super) async fn claim(db: &Session, now: Timestamp, until: Timestamp, max: u32) -> Result<Vec<ClaimedFile>, Fault> {
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
    db.rows(claim, &[&now.as_millis(), &until.as_millis(), &i64::from(max)]).await?.iter().map(read).collect()
}

pub(super) async fn of(db: &Session, event: i64) -> Result<Vec<File>, Fault> {
    let of = "SELECT state, sha256, len, mime, reason FROM civic_messaging.file WHERE event = $1 ORDER BY n";
    let read = |row: &Row| {
        let sha256 = row.try_get::<_, Option<&str>>(1)?.and_then(|sha256| sha256.parse().ok());
        let len = row.try_get::<_, Option<i64>>(2)?.unwrap_or(0).unsigned_abs();
        let mime = row.try_get::<_, Option<String>>(3)?.unwrap_or_default();
        let stored = sha256.map(|sha256| StoredMedia::new(sha256, len, mime));
        Ok(File::read(row.try_get(0)?, stored, row.try_get(4)?))
    };
    db.rows(of, &[&event]).await?.iter().map(read).collect()
}

/// Locks these files until the end of the transaction: recording that one is held and recording that it is being
/// removed exclude each other. The locks are on 256 slots, taken in order.
pub(super) async fn lock(db: &Session, files: &[Digest]) -> Result<(), Fault> {
    let lock = "SELECT pg_advisory_xact_lock(1667854964, place) FROM (
             SELECT DISTINCT place FROM unnest($1::int[]) AS place ORDER BY place) AS places";
    let places: Vec<i32> = files.iter().map(|file| i32::from(file.as_bytes()[0])).collect();
    db.rows(lock, &[&places]).await.map(drop)
}
