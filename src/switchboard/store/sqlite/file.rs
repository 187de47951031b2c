//! The files of residents' messages.

use rusqlite::{Connection, Row};

use super::super::super::file::File;
use super::super::super::record::{ClaimedFile, FileHold};
use crate::media::StoredMedia;
use crate::model::clock::Timestamp;

pub(super) fn claim(db: &Connection, now: Timestamp, until: Timestamp, max: u32) -> rusqlite::Result<Vec<ClaimedFile>> {
    let due = "SELECT f.event, f.n, f.tries + 1, e.line, e.body, e.taken_in
         FROM file AS f JOIN event AS e ON e.id = f.event
         WHERE f.due <= ?1 AND f.due IS NOT NULL AND f.state IN ('waiting', 'fetching') ORDER BY f.due LIMIT ?2";
    let read = |row: &Row<'_>| {
        Ok(ClaimedFile {
            hold: FileHold { event: row.get(0)?, n: row.get(1)?, tries: row.get(2)? },
            line: row.get(3)?,
            event: serde_json::from_str(&row.get::<_, String>(4)?).ok(),
            taken_in: row.get(5)?,
        })
    };
    let claimed = db.prepare_cached(due)?.query_map((now, max), read)?.collect::<Result<Vec<_>, _>>()?;
    let claim = "UPDATE file SET state = 'fetching', due = ?3, tries = tries + 1 WHERE event = ?1 AND n = ?2";
    for ClaimedFile { hold, .. } in &claimed {
        db.prepare_cached(claim)?.execute((hold.event, hold.n, until))?;
    }
    Ok(claimed)
}

/// Releases the files claimed by a worker that has ended.
pub(super) fn recover(db: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE file SET due = ?1 WHERE due > ?1 AND state IN ('fetching', 'removing')")?
        .execute((now,))
        .map(|_| ())
}

pub(super) fn of(db: &Connection, event: i64) -> rusqlite::Result<Vec<File>> {
    let of = "SELECT state, sha256, len, mime, reason FROM file WHERE event = ?1 ORDER BY n";
    let read = |row: &Row<'_>| {
        let sha256 = row.get::<_, Option<String>>(1)?.and_then(|sha256| sha256.parse().ok());
        let len = row.get::<_, Option<i64>>(2)?.unwrap_or(0).unsigned_abs();
        let mime = row.get::<_, Option<String>>(3)?.unwrap_or_default();
        let stored = sha256.map(|sha256| StoredMedia::new(sha256, len, mime));
        Ok(File::read(row.get_ref(0)?.as_str()?, stored, row.get(4)?))
    };
    db.prepare_cached(of)?.query_map((event,), read)?.collect()
}
