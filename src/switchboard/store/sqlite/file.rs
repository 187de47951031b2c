//! The files of residents' messages.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::super::file::File;
use super::super::super::record::{AFTER_REMOVAL, ClaimedFile, Fetched, FileHold, HELD_BACK};
use crate::clock::Timestamp;
use crate::media::Stored;

/// Writes down the files of an event that was put down just now, and holds it back for them.
pub(super) fn put(db: &Connection, dedupe: &str, files: usize, now: Timestamp) -> rusqlite::Result<()> {
    let mut put = db.prepare_cached(
        "INSERT INTO file (event, n, state, due) SELECT id, ?2, 'waiting', ?3 FROM event WHERE dedupe = ?1",
    )?;
    for n in 0..i64::try_from(files).unwrap_or(i64::MAX) {
        put.execute((dedupe, n, now))?;
    }
    if files > 0 {
        let hold = "UPDATE event SET lease = ?2 WHERE dedupe = ?1";
        db.prepare_cached(hold)?.execute((dedupe, now.plus(HELD_BACK)))?;
    }
    Ok(())
}

pub(super) fn claim(
    db: &Connection,
    now: Timestamp,
    until: Timestamp,
    most: u32,
) -> rusqlite::Result<Vec<ClaimedFile>> {
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
    let claimed = db.prepare_cached(due)?.query_map((now, most), read)?.collect::<Result<Vec<_>, _>>()?;
    let claim = "UPDATE file SET state = 'fetching', due = ?3, tries = tries + 1 WHERE event = ?1 AND n = ?2";
    for ClaimedFile { hold, .. } in &claimed {
        db.prepare_cached(claim)?.execute((hold.event, hold.n, until))?;
    }
    Ok(claimed)
}

/// Lets the files go that a worker held that is no more.
pub(super) fn recover(db: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE file SET due = ?1 WHERE due > ?1 AND state IN ('fetching', 'removing')")?
        .execute((now,))
        .map(|_| ())
}

pub(super) fn fetched(db: &Connection, hold: FileHold, fetched: &Fetched, now: Timestamp) -> rusqlite::Result<bool> {
    let (mut state, mut due, mut reason, mut stored) = ("waiting", None, None, None);
    let mut taken = true;
    match fetched {
        Fetched::Again(at) => due = Some(*at),
        Fetched::Failed(why) => (state, reason) = ("failed", Some(why)),
        Fetched::Held(file) => {
            let removing = "SELECT 1 FROM file WHERE sha256 = ?1 AND state = 'removing'";
            let sha256 = file.sha256.to_string();
            if db.prepare_cached(removing)?.query_row((sha256,), |_| Ok(())).optional()?.is_some() {
                (due, taken) = (Some(now.plus(AFTER_REMOVAL)), false);
            } else {
                (state, stored) = ("held", Some(file));
            }
        }
    }
    let sha256 = stored.map(|file| file.sha256.to_string());
    let len = stored.map(|file| i64::try_from(file.len).unwrap_or(i64::MAX));
    let put = "UPDATE file SET state = ?4, due = ?5, sha256 = ?6, len = ?7, mime = ?8, reason = ?9
         WHERE event = ?1 AND n = ?2 AND tries = ?3 AND state IN ('fetching', 'held')";
    let mime = stored.map(|file| &file.mime);
    let (event, n, tries) = (hold.event, hold.n, hold.tries);
    let put = db.prepare_cached(put)?.execute(params![event, n, tries, state, due, sha256, len, mime, reason])?;
    // Not one that somebody has taken since.
    let release = "UPDATE event SET lease = NULL WHERE id = ?1 AND acked IS NULL AND lease = taken_in + ?2
         AND NOT EXISTS (SELECT 1 FROM file WHERE event = ?1 AND state IN ('waiting', 'fetching'))";
    let held_back = i64::try_from(HELD_BACK.as_millis()).unwrap_or(i64::MAX);
    db.prepare_cached(release)?.execute((hold.event, held_back))?;
    Ok(put == 1 && taken)
}

pub(super) fn of(db: &Connection, event: i64) -> rusqlite::Result<Vec<File>> {
    let of = "SELECT state, sha256, len, mime, reason FROM file WHERE event = ?1 ORDER BY n";
    let read = |row: &Row<'_>| {
        let sha256 = row.get::<_, Option<String>>(1)?.and_then(|sha256| sha256.parse().ok());
        let len = row.get::<_, Option<i64>>(2)?.unwrap_or(0).unsigned_abs();
        let mime = row.get::<_, Option<String>>(3)?.unwrap_or_default();
        let stored = sha256.map(|sha256| Stored::new(sha256, len, mime));
        Ok(File::read(row.get_ref(0)?.as_str()?, stored, row.get(4)?))
    };
    db.prepare_cached(of)?.query_map((event,), read)?.collect()
}
