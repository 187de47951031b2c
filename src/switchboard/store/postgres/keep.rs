//! Retention, and counts.

use tokio_postgres::Row;

use super::super::super::line::Line;
use super::super::super::record::{EARLY_KEPT, IMPLAUSIBLE, reached};
use super::super::super::watch::Stats;
use super::session::{Fault, Session};
use super::{file, indexed, moment, state, text};
use crate::model::clock::Timestamp;
use crate::model::digest::Digest;

pub(super) async fn note(db: &Session, lines: &[Line], now: Timestamp) -> Result<(), Fault> {
    let note = "INSERT INTO civic_messaging.line (id, name, controller, languages, retention, attended)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, controller = excluded.controller,
             languages = excluded.languages, retention = excluded.retention, attended = excluded.attended";
    // In an order that is the same for everybody.
    for line in lines {
        let retention = line.retention.map(|time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
        let (name, languages) = (text(&line.name), line.languages.join(" "));
        let controller = line.controller.as_deref().map(text);
        db.change(note, &[&indexed(&line.id), &name, &controller, &languages, &retention, &now.as_millis()]).await?;
    }
    Ok(())
}

pub(super) async fn attend(db: &Session, lines: &[String], now: i64) -> Result<(), Fault> {
    let attend = "UPDATE civic_messaging.line SET attended = $2 WHERE id = $1";
    for line in lines {
        db.change(attend, &[&indexed(line), &now]).await?;
    }
    Ok(())
}

pub(super) async fn purge(db: &Session, now: Timestamp, max: u32) -> Result<u64, Fault> {
    let (now, max) = (now.as_millis(), i64::from(max));
    // Oldest first: otherwise each transaction reads what the earlier ones removed, and a large table from any place.
    db.plan_by_index().await?;
    db.batch("SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off").await?;
    // Line by line, so that each query uses its index.
    let lines = "SELECT id, $1 - retention FROM civic_messaging.line WHERE retention IS NOT NULL ORDER BY id";
    let mut purged = 0;
    for line in db.rows(lines, &[&now]).await? {
        let (line, until): (String, i64) = (line.try_get(0)?, line.try_get(1)?);
        let messages = concat!(
            "SELECT id, delivery, ",
            mark!(),
            " FROM civic_messaging.message AS m
             WHERE line = $1 AND phase <> 'parked' AND removed IS NULL AND settled IS NOT NULL
               AND settled <= $2
               -- A fallback without a deadline, due at the last possible time, is removed with its message.
               AND coalesce(fallback_due, 9223372036854775807) = 9223372036854775807
             ORDER BY settled LIMIT $3 FOR UPDATE SKIP LOCKED"
        );
        let found = db.rows(messages, &[&line, &until, &max]).await?;
        let messages = ids(&found)?;
        // The mark of their conversation is not kept.
        let delivery = |row: &Row| {
            let notified = reached(row.try_get(1)?, row.try_get(2)?);
            Ok::<_, Fault>(notified.and_then(|notified| serde_json::to_string(&notified).ok()))
        };
        let deliveries = found.iter().map(delivery).collect::<Result<Vec<_>, _>>()?;
        let remove = "UPDATE civic_messaging.message AS m
             SET recipient = '', body = '', reason = NULL, fallback = NULL, fallback_due = NULL,
                 fallback_recipient = NULL, removed = $1, delivery = old.delivery
             FROM unnest($2::bigint[], $3::text[]) AS old (id, delivery) WHERE m.id = old.id";
        db.change(remove, &[&now, &messages, &deliveries]).await?;
        // A gateway's id may contain a phone number.
        db.change("DELETE FROM civic_messaging.part WHERE message = ANY ($1)", &[&messages]).await?;
        db.change("DELETE FROM civic_messaging.message_file WHERE message = ANY ($1)", &[&messages]).await?;
        let decisions = "UPDATE civic_messaging.decision SET reason = '' WHERE message = ANY ($1)";
        db.change(decisions, &[&messages]).await?;
        let events = "SELECT id FROM civic_messaging.event AS e
             WHERE line = $2 AND acked IS NOT NULL AND removed IS NULL AND taken_in <= $3
               -- Not as a join, which would read all files.
               AND (SELECT count(*) FROM civic_messaging.file
                    WHERE event = e.id AND state = 'fetching' AND due > $1) = 0
             ORDER BY taken_in LIMIT $4 FOR UPDATE SKIP LOCKED";
        let events = ids(&db.rows(events, &[&now, &line, &until, &max]).await?)?;
        empty(db, &events, now).await?;
        let links = "DELETE FROM civic_messaging.link WHERE line = $1 AND at <= $2";
        // The mark is kept while a message of the conversation has content.
        let marks = "DELETE FROM civic_messaging.conversation WHERE (line, person, gateway, account) IN (
                 SELECT line, person, gateway, account FROM civic_messaging.conversation AS c
                 WHERE line = $1 AND heard <= $2 AND NOT EXISTS (
                     SELECT 1 FROM civic_messaging.message AS m
                     WHERE m.conversation = hashtextextended(c.line || chr(10) || c.person, 0)
                       AND m.line = c.line AND m.recipient = c.person)
                 LIMIT $3 FOR UPDATE SKIP LOCKED)";
        // A conversation is listed while its last message has content.
        let listed = "DELETE FROM civic_messaging.conversation_state WHERE (line, person) IN (
                 SELECT line, person FROM civic_messaging.conversation_state
                 WHERE line = $1 AND last <= $2 LIMIT $3 FOR UPDATE SKIP LOCKED)";
        purged += (messages.len() + events.len()) as u64
            + db.change(links, &[&line, &until]).await?
            + db.change(marks, &[&line, &until, &max]).await?;
        db.change(listed, &[&line, &until, &max]).await?;
    }
    // Events of no line are kept as long as the longest retention.
    let events = "SELECT id FROM civic_messaging.event
         WHERE line IS NULL AND acked IS NOT NULL AND removed IS NULL
           AND taken_in <= $1 - (SELECT CASE WHEN count(*) = count(retention) THEN max(retention) END
                                 FROM civic_messaging.line)
         ORDER BY taken_in LIMIT $2 FOR UPDATE SKIP LOCKED";
    let events = ids(&db.rows(events, &[&now, &max]).await?)?;
    empty(db, &events, now).await?;
    // Oldest first.
    let early = "DELETE FROM civic_messaging.early
         WHERE at <= $1 AND n IN (SELECT n FROM civic_messaging.early ORDER BY n LIMIT $2)";
    let early = db.change(early, &[&Timestamp::from_millis(now).minus(EARLY_KEPT).as_millis(), &max]).await?;
    super::limits::purge(db, now, max).await?;
    Ok(purged + events.len() as u64 + early)
}

async fn empty(db: &Session, events: &[i64], now: i64) -> Result<(), Fault> {
    let empty = "UPDATE civic_messaging.event SET body = '', person = NULL, removed = $2 WHERE id = ANY ($1)";
    db.change(empty, &[&events, &now]).await?;
    let never = "DELETE FROM civic_messaging.file WHERE event = ANY ($1) AND sha256 IS NULL";
    db.change(never, &[&events]).await?;
    let unwanted = "UPDATE civic_messaging.file
         SET state = 'unwanted', due = $2, mime = NULL, len = NULL, reason = NULL WHERE event = ANY ($1)";
    db.change(unwanted, &[&events, &now]).await.map(drop)
}

fn ids(rows: &[Row]) -> Result<Vec<i64>, Fault> {
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

pub(super) async fn unwanted(db: &Session, now: Timestamp, until: Timestamp, max: u32) -> Result<Vec<Digest>, Fault> {
    let due = "SELECT sha256 FROM civic_messaging.file
         WHERE due <= $1 AND due IS NOT NULL AND state IN ('unwanted', 'removing')
         LIMIT $2 FOR UPDATE SKIP LOCKED";
    let due = db.rows(due, &[&now.as_millis(), &i64::from(max)]).await?;
    let due = due.iter().filter_map(|row| row.try_get::<_, &str>(0).ok()?.parse().ok()).collect::<Vec<Digest>>();
    file::lock(db, &due).await?;
    let held = "DELETE FROM civic_messaging.file AS f
         WHERE f.sha256 = $1 AND f.state IN ('unwanted', 'removing') AND EXISTS (
             SELECT 1 FROM civic_messaging.file AS held WHERE held.sha256 = $1 AND held.state = 'held')";
    let goes_out =
        "SELECT 1 FROM civic_messaging.message_file AS f JOIN civic_messaging.message AS m ON m.id = f.message
         WHERE f.sha256 = $1 AND (m.settled IS NULL OR m.phase = 'parked' OR m.fallback_due IS NOT NULL) LIMIT 1";
    let put = "UPDATE civic_messaging.file SET state = $2, due = $3
         WHERE sha256 = $1 AND state IN ('unwanted', 'removing')";
    let mut unwanted = Vec::new();
    for file in due {
        let sha256 = file.to_string();
        if unwanted.contains(&file) || db.change(held, &[&sha256]).await? > 0 {
            continue;
        }
        let goes_out = db.row(goes_out, &[&sha256]).await?.is_some();
        let state = if goes_out { "unwanted" } else { "removing" };
        db.change(put, &[&sha256, &state, &until.as_millis()]).await?;
        unwanted.extend((!goes_out).then_some(file));
    }
    Ok(unwanted)
}

/// Returns how many of the next messages differ from their digest, and the last of them: `None` if there are no more.
pub(super) async fn changed(db: &Session, after: i64) -> Result<Option<(i64, u64)>, Fault> {
    let changed = "SELECT max(id), count(*) FILTER (WHERE removed IS NULL AND digest <> encode(
                sha256(convert_to(body || coalesce(chr(10) || fallback, ''), 'UTF8')), 'hex'))
         FROM (SELECT id, removed, digest, body, fallback FROM civic_messaging.message
               WHERE id > $1 ORDER BY id LIMIT 10000) AS part";
    let Some(row) = db.row(changed, &[&after]).await? else { return Ok(None) };
    let last: Option<i64> = row.try_get(0)?;
    Ok(last.zip(Some(row.try_get::<_, i64>(1)?.unsigned_abs())))
}

pub(super) async fn removed(db: &Session, file: &Digest) -> Result<(), Fault> {
    let removed = "DELETE FROM civic_messaging.file WHERE sha256 = $1 AND state = 'removing'";
    db.change(removed, &[&file.to_string()]).await.map(drop)
}

/// Uses indexes only: settled messages, the majority, are counted without reading them.
pub(super) async fn stats(db: &Session, now: Timestamp) -> Result<Stats, Fault> {
    let mut stats = Stats::default();
    let count = |row: &Row, column: usize| Ok::<_, Fault>(row.try_get::<_, i64>(column)?.unsigned_abs());
    let messages = "SELECT line, phase, count(*), 0::bigint, NULL::bigint, 0::bigint FROM civic_messaging.message
         WHERE settled IS NOT NULL GROUP BY line, phase
         UNION ALL SELECT line, phase, count(*), 0, NULL, 0 FROM civic_messaging.message
         WHERE phase = 'unknown' GROUP BY line, phase
         UNION ALL SELECT line, state, count(*), count(*) FILTER (WHERE due <= $1), min(due) FILTER (WHERE due <= $1),
             count(*) FILTER (WHERE due > $2 AND state IN ('queued', 'deferred'))
         FROM civic_messaging.message
         WHERE phase IN ('queued', 'deferred', 'claimed') GROUP BY line, state";
    for row in db.rows(messages, &[&now.as_millis(), &now.plus(IMPLAUSIBLE).as_millis()]).await? {
        let due = (count(&row, 3)?, row.try_get::<_, Option<i64>>(4)?.map(Timestamp::from_millis));
        let of = stats.counts_mut(row.try_get(0)?);
        of.add(state(&row, 1)?, count(&row, 2)?, due);
        of.implausible += count(&row, 5)?;
    }
    let events = "SELECT e.line, n, e.taken_in
         FROM (SELECT sum(n)::bigint AS n, min(first) AS first FROM (
                   SELECT line, count(*) AS n, min(id) AS first FROM civic_messaging.event
                   WHERE acked IS NULL AND parked IS NULL AND NOT held GROUP BY line
                   -- Held events are in an index of their own.
                   UNION ALL SELECT line, count(*), min(id) FROM civic_messaging.event
                   WHERE acked IS NULL AND parked IS NULL AND (nacked OR held) AND held GROUP BY line) AS each
               GROUP BY line) AS open
         JOIN civic_messaging.event AS e ON e.id = open.first";
    for row in db.rows(events, &[]).await? {
        let of = stats.counts_mut(row.try_get(0)?);
        (of.unread, of.oldest_unread) = (count(&row, 1)?, Some(moment(&row, 2)?));
    }
    let parked = "SELECT line, count(*) FROM civic_messaging.event
         WHERE acked IS NULL AND parked IS NOT NULL GROUP BY line";
    for row in db.rows(parked, &[]).await? {
        stats.counts_mut(row.try_get(0)?).parked_events = count(&row, 1)?;
    }
    let files =
        "SELECT e.line, count(*) FROM civic_messaging.file AS f JOIN civic_messaging.event AS e ON e.id = f.event
         WHERE f.due IS NOT NULL AND f.state IN ('waiting', 'fetching') GROUP BY e.line";
    for row in db.rows(files, &[]).await? {
        stats.counts_mut(row.try_get(0)?).files = count(&row, 1)?;
    }
    Ok(stats)
}
