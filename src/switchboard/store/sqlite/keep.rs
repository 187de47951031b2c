//! Retention, and counts.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::super::line::Line;
use super::super::super::record::{EARLY_KEPT, IMPLAUSIBLE, digest_of, reached};
use super::super::super::watch::Stats;
use crate::model::clock::Timestamp;
use crate::model::digest::Digest;

/// A fallback without a deadline, due at the last possible time, is removed with its message.
const OLD_MESSAGES: &str = "SELECT m.id FROM line AS l CROSS JOIN message AS m ON m.line = l.id
         WHERE m.state <> 'parked' AND m.removed IS NULL AND m.settled IS NOT NULL
           AND m.settled <= ?1 - l.retention
           AND coalesce(m.fallback_due, 9223372036854775807) = 9223372036854775807 LIMIT ?2";

const OLD_EVENTS: &str = "SELECT e.id FROM line AS l CROSS JOIN event AS e ON e.line = l.id
         WHERE e.acked IS NOT NULL AND e.removed IS NULL AND e.taken_in <= ?1 - l.retention
           AND NOT EXISTS (SELECT 1 FROM file WHERE event = e.id AND state = 'fetching' AND due > ?1) LIMIT ?2";

/// The mark is kept while a message of the conversation has content.
const OLD_MARKS: &str = "DELETE FROM conversation WHERE (line, person, gateway, account) IN (
             SELECT c.line, c.person, c.gateway, c.account FROM line AS l CROSS JOIN conversation AS c ON c.line = l.id
             WHERE c.heard <= ?1 - l.retention
               AND NOT EXISTS (SELECT 1 FROM message AS m WHERE m.line = c.line AND m.recipient = c.person)
             LIMIT ?2)";

/// A conversation is listed while its last message has content.
const OLD_CONVERSATIONS: &str = "DELETE FROM conversation_state WHERE (line, person) IN (
             SELECT c.line, c.person FROM line AS l CROSS JOIN conversation_state AS c ON c.line = l.id
             WHERE c.last <= ?1 - l.retention LIMIT ?2)";

/// Returns a row if a waiting message, or a waiting fallback, sends a file.
const GOES_OUT: &str = "SELECT 1 FROM message_file AS f CROSS JOIN message AS m ON m.id = f.message
         WHERE f.sha256 = ?1 AND (m.settled IS NULL OR m.state = 'parked' OR m.fallback_due IS NOT NULL) LIMIT 1";

/// Uses an index only: settled messages, the majority, are counted without reading them.
const SETTLED: &str = "SELECT line, state, count(*) FROM message WHERE settled IS NOT NULL GROUP BY line, state";

/// Counted one by one: grouping would sort perhaps a million rows first.
const WAITING: &str = "SELECT line, state, CASE WHEN due <= ?1 THEN due END,
                state IN ('queued', 'deferred') AND due > ?2
         FROM message INDEXED BY message_open WHERE settled IS NULL";

/// The unread events: held ones are in an index of their own.
const UNREAD: [&str; 2] = [
    "SELECT line, n, (SELECT taken_in FROM event WHERE id = first)
     FROM (SELECT line, count(*) AS n, min(id) AS first FROM event
           WHERE acked IS NULL AND parked IS NULL AND NOT held GROUP BY line)",
    "SELECT line, n, (SELECT taken_in FROM event WHERE id = first)
     FROM (SELECT line, count(*) AS n, min(id) AS first FROM event
           WHERE acked IS NULL AND parked IS NULL AND (nacked OR held) AND held GROUP BY line)",
];

pub(super) fn note(db: &Connection, lines: &[Line], now: Timestamp) -> rusqlite::Result<()> {
    for line in lines {
        let retention = line.retention.map(|time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
        let languages = line.languages.join(" ");
        db.prepare_cached(
            "INSERT OR REPLACE INTO line (id, name, controller, languages, retention, attended)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![line.id, line.name, line.controller, languages, retention, now])?;
    }
    Ok(())
}

pub(super) fn purge(db: &Connection, now: Timestamp, max: u32) -> rusqlite::Result<u64> {
    let ids = |sql: &str| {
        db.prepare_cached(sql)?.query_map((now, max), |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()
    };
    let messages = ids(OLD_MESSAGES)?;
    for id in &messages {
        let of = concat!("SELECT delivery, ", mark!(), " FROM message AS m WHERE id = ?1");
        let delivery = db.prepare_cached(of)?.query_row((id,), |row| {
            Ok(reached(row.get_ref(0)?.as_str_or_null()?, row.get_ref(1)?.as_str_or_null()?))
        })?;
        // The mark of its conversation is not kept.
        let delivery = delivery.and_then(|notified| serde_json::to_string(&notified).ok());
        db.prepare_cached(
            "UPDATE message SET recipient = '', body = '', reason = NULL, fallback = NULL, fallback_due = NULL,
                    fallback_recipient = NULL, removed = ?2, delivery = ?3
             WHERE id = ?1",
        )?
        .execute((id, now, delivery))?;
        // A gateway's id may contain a phone number.
        db.prepare_cached("DELETE FROM part WHERE message = ?1")?.execute((id,))?;
        db.prepare_cached("DELETE FROM message_file WHERE message = ?1")?.execute((id,))?;
        db.prepare_cached("UPDATE decision SET reason = '' WHERE message = ?1")?.execute((id,))?;
    }
    let mut events = ids(OLD_EVENTS)?;
    // Events of no line are kept as long as the longest retention.
    events.extend(ids("SELECT e.id FROM event AS e
         WHERE e.line IS NULL AND e.acked IS NOT NULL AND e.removed IS NULL
           AND e.taken_in <= ?1 - (SELECT CASE WHEN count(*) = count(retention) THEN max(retention) END FROM line) LIMIT ?2")?);
    for id in &events {
        db.prepare_cached("UPDATE event SET body = '', person = NULL, removed = ?2 WHERE id = ?1")?
            .execute((id, now))?;
        db.prepare_cached("DELETE FROM file WHERE event = ?1 AND sha256 IS NULL")?.execute((id,))?;
        db.prepare_cached(
            "UPDATE file SET state = 'unwanted', due = ?2, mime = NULL, len = NULL, reason = NULL WHERE event = ?1",
        )?
        .execute((id, now))?;
    }
    let links = db
        .prepare_cached("DELETE FROM link WHERE at <= ?1 - (SELECT retention FROM line WHERE line.id = link.line)")?
        .execute((now,))?;
    let marks = db.prepare_cached(OLD_MARKS)?.execute((now, max))?;
    db.prepare_cached(OLD_CONVERSATIONS)?.execute((now, max))?;
    // Oldest first.
    let early = db
        .prepare_cached(
            "DELETE FROM early WHERE at <= ?1 AND rowid IN (SELECT rowid FROM early ORDER BY rowid LIMIT ?2)",
        )?
        .execute((now.minus(EARLY_KEPT), max))?;
    super::limits::purge(db, now, max)?;
    Ok((messages.len() + events.len() + links + marks + early) as u64)
}

pub(super) fn unwanted(db: &Connection, now: Timestamp, until: Timestamp, max: u32) -> rusqlite::Result<Vec<Digest>> {
    let due = "SELECT DISTINCT sha256 FROM file
         WHERE due <= ?1 AND due IS NOT NULL AND state IN ('unwanted', 'removing') LIMIT ?2";
    let due = db.prepare_cached(due)?.query_map((now, max), |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    let mut unwanted = Vec::new();
    for sha256 in due {
        let held = "SELECT 1 FROM file WHERE sha256 = ?1 AND state = 'held' LIMIT 1";
        if db.prepare_cached(held)?.query_row((&sha256,), |_| Ok(())).optional()?.is_some() {
            let forget = "DELETE FROM file WHERE sha256 = ?1 AND state IN ('unwanted', 'removing')";
            db.prepare_cached(forget)?.execute((&sha256,))?;
            continue;
        }
        let goes_out = db.prepare_cached(GOES_OUT)?.query_row((&sha256,), |_| Ok(())).optional()?.is_some();
        let state = if goes_out { "unwanted" } else { "removing" };
        let put = "UPDATE file SET state = ?2, due = ?3 WHERE sha256 = ?1 AND state IN ('unwanted', 'removing')";
        db.prepare_cached(put)?.execute((&sha256, state, until))?;
        unwanted.extend(sha256.parse::<Digest>().ok().filter(|_| !goes_out));
    }
    Ok(unwanted)
}

/// Returns the number of messages that differ from their digest.
pub(super) fn changed(db: &Connection) -> rusqlite::Result<u64> {
    let mut messages = db.prepare("SELECT body, fallback, digest FROM message WHERE removed IS NULL")?;
    let (mut rows, mut changed) = (messages.query(())?, 0);
    while let Some(row) = rows.next()? {
        let fallback = row.get_ref(1)?.as_str_or_null()?;
        changed += u64::from(digest_of(row.get_ref(0)?.as_str()?, fallback) != row.get_ref(2)?.as_str()?);
    }
    Ok(changed)
}

pub(super) fn removed(db: &Connection, file: &Digest) -> rusqlite::Result<()> {
    let removed = "DELETE FROM file WHERE sha256 = ?1 AND state = 'removing'";
    db.prepare_cached(removed)?.execute((file.to_string(),)).map(|_| ())
}

pub(super) fn stats(db: &Connection, now: Timestamp) -> rusqlite::Result<Stats> {
    let mut stats = Stats::default();
    let count = |row: &Row<'_>, column| Ok::<_, rusqlite::Error>(row.get::<_, i64>(column)?.unsigned_abs());
    let mut settled = db.prepare_cached(SETTLED)?;
    let mut rows = settled.query(())?;
    while let Some(row) = rows.next()? {
        stats.counts_mut(row.get(0)?).add(row.get(1)?, count(row, 2)?, (0, None));
    }
    let mut waiting = db.prepare_cached(WAITING)?;
    let mut rows = waiting.query((now, now.plus(IMPLAUSIBLE)))?;
    while let Some(row) = rows.next()? {
        let due: Option<Timestamp> = row.get(2)?;
        let of = stats.counts_mut(row.get(0)?);
        of.add(row.get(1)?, 1, (due.is_some().into(), due));
        of.implausible += count(row, 3)?;
    }
    for unread in UNREAD {
        let mut events = db.prepare_cached(unread)?;
        let mut rows = events.query(())?;
        while let Some(row) = rows.next()? {
            let (of, oldest) = (stats.counts_mut(row.get(0)?), row.get::<_, Option<Timestamp>>(2)?);
            of.unread += count(row, 1)?;
            of.oldest_unread = of.oldest_unread.into_iter().chain(oldest).min();
        }
    }
    let parked = "SELECT line, count(*) FROM event WHERE acked IS NULL AND parked IS NOT NULL GROUP BY line";
    let mut parked = db.prepare_cached(parked)?;
    let mut rows = parked.query(())?;
    while let Some(row) = rows.next()? {
        stats.counts_mut(row.get(0)?).parked_events = count(row, 1)?;
    }
    let files = "SELECT e.line, count(*) FROM file AS f JOIN event AS e ON e.id = f.event
         WHERE f.due IS NOT NULL AND f.state IN ('waiting', 'fetching') GROUP BY e.line";
    let mut files = db.prepare_cached(files)?;
    let mut rows = files.query(())?;
    while let Some(row) = rows.next()? {
        stats.counts_mut(row.get(0)?).files = count(row, 1)?;
    }
    Ok(stats)
}

/// Empties the log. Returns `false` if somebody is reading from it.
pub(super) fn empty_log(db: &Connection) -> rusqlite::Result<bool> {
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0).map(|busy| busy == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stats_and_retention_use_indexes() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(include_str!("schema.sql")).unwrap();
        for (sql, by) in [
            (SETTLED, &["COVERING INDEX message_settled"]),
            (WAITING, &["INDEX message_open"]),
            (OLD_MESSAGES, &["INDEX message_kept (line=? AND settled>? AND settled<?"]),
            (GOES_OUT, &["SEARCH f USING PRIMARY KEY (sha256=?)"]),
            (OLD_MARKS, &["INDEX conversation_heard (line=? AND heard<?"]),
            (OLD_CONVERSATIONS, &["INDEX conversation_state_last (line=? AND last<?"]),
            (UNREAD[0], &["INDEX event_open_line"]),
            (UNREAD[1], &["INDEX event_waiting"]),
            (OLD_EVENTS, &["INDEX event_kept (line=? AND taken_in<?"]),
        ] {
            let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            for n in 1..=plan.parameter_count() {
                plan.raw_bind_parameter(n, 9).unwrap();
            }
            let (mut rows, mut steps) = (plan.raw_query(), Vec::new());
            while let Some(row) = rows.next().unwrap() {
                steps.push(row.get::<_, String>(3).unwrap());
            }
            for by in by {
                assert!(steps.iter().any(|step| step.contains(by)), "{by}: {steps:#?}");
            }
            // Nothing is sorted, and no table that grows is scanned.
            assert!(!steps.iter().any(|step| step.contains("TEMP B-TREE")), "{steps:#?}");
            assert!(!steps.iter().any(|step| ["SCAN message", "SCAN m", "SCAN e"].contains(&&**step)), "{steps:#?}");
        }
    }
}
