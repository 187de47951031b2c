//! The list of conversations.

use rusqlite::{Connection, OptionalExtension, Row};

use super::super::super::conversations::{ConversationFilter, ConversationPlace, ConversationRow, Heard};
use super::super::super::record::LinkRow;
use crate::model::clock::Timestamp;

/// The current name of a person.
const NAME: &str = "SELECT coalesce((SELECT current FROM link WHERE line = ?1 AND previous = ?2), ?2)";

/// Counts again what waits for an answer, and what is unread.
const RECOUNT: &str = "WITH who (person) AS (SELECT ?2 UNION ALL SELECT previous FROM link WHERE line = ?1 AND current = ?2)
         UPDATE conversation_state AS c SET
             waiting = (SELECT min(e.taken_in) FROM event AS e
                        WHERE e.line = ?1 AND e.person IN (SELECT person FROM who) AND e.waits AND e.taken_in > c.answered),
             unread = (SELECT count(*) FROM event AS e
                       WHERE e.line = ?1 AND e.person IN (SELECT person FROM who) AND e.waits
                         AND e.taken_in > max(c.seen, c.answered))
         WHERE c.line = ?1 AND c.person = ?2";

/// The lists, each by its index.
const ALL: &str = "SELECT person, address, last, waiting, unread FROM conversation_state
         WHERE line = ?1 AND (last, person) < (?2, ?3) ORDER BY last DESC, person DESC LIMIT ?4";
const UNREAD: &str = "SELECT person, address, last, waiting, unread FROM conversation_state
         WHERE line = ?1 AND (last, person) < (?2, ?3) AND unread > 0 ORDER BY last DESC, person DESC LIMIT ?4";
const WAITING: &str = "SELECT person, address, last, waiting, unread FROM conversation_state
         WHERE line = ?1 AND (waiting, person) > (?2, ?3) AND waiting IS NOT NULL ORDER BY waiting, person LIMIT ?4";

fn name(db: &Connection, line: &str, of: &str) -> rusqlite::Result<String> {
    db.prepare_cached(NAME)?.query_row((line, of), |row| row.get(0))
}

pub(super) fn set_heard(db: &Connection, heard: &Heard<'_>) -> rusqlite::Result<()> {
    let Heard { line, person, ref address, waits, is_echo, at } = *heard;
    if is_echo {
        return answer(db, line, &name(db, line, person)?, (at, at));
    }
    let set = "INSERT INTO conversation_state (line, person, address, last, answered, seen, waiting, unread)
         VALUES (?1, coalesce((SELECT current FROM link WHERE line = ?1 AND previous = ?2), ?2),
                 coalesce((SELECT address FROM link WHERE line = ?1 AND previous = ?2), ?3), ?4, ?6, ?6,
                 CASE WHEN ?5 THEN ?4 END, ?5)
         ON CONFLICT (line, person) DO UPDATE SET
             last = max(last, ?4), waiting = coalesce(waiting, CASE WHEN ?5 THEN ?4 END), unread = unread + ?5";
    db.prepare_cached(set)?.execute((line, person, address, at, waits, i64::MIN)).map(drop)
}

pub(super) fn set_answered(db: &Connection, id: i64, now: Timestamp) -> rusqlite::Result<()> {
    let of = "SELECT line, recipient, queued FROM message WHERE id = ?1 AND key NOT LIKE 'auto-reply-%'";
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let found: Option<(String, String, Timestamp)> = db.prepare_cached(of)?.query_row((id,), read).optional()?;
    let Some((line, recipient, queued)) = found else { return Ok(()) };
    answer(db, &line, &name(db, &line, &recipient)?, (queued, now))
}

/// Records an answer to what was written by a time.
fn answer(db: &Connection, line: &str, person: &str, (to, now): (Timestamp, Timestamp)) -> rusqlite::Result<()> {
    let set = "UPDATE conversation_state SET last = max(last, ?4), answered = max(answered, ?3)
         WHERE line = ?1 AND person = ?2";
    if db.prepare_cached(set)?.execute((line, person, to, now))? == 0 {
        return Ok(());
    }
    db.prepare_cached(RECOUNT)?.execute((line, person)).map(drop)
}

/// Merges two conversations: what was written since the oldest unread message of either is unread.
pub(super) fn merge(db: &Connection, line: &str, from: &str, to: &LinkRow) -> rusqlite::Result<()> {
    let merge = "INSERT INTO conversation_state (line, person, address, last, answered, seen, waiting, unread)
         SELECT line, ?3, ?4, last, answered, seen, waiting, unread FROM conversation_state
         WHERE line = ?1 AND person = ?2
         ON CONFLICT (line, person) DO UPDATE SET
             address = excluded.address, last = max(last, excluded.last), answered = max(answered, excluded.answered),
             seen = CASE WHEN unread = 0 AND excluded.unread = 0 THEN max(seen, excluded.seen)
                         WHEN unread = 0 THEN excluded.seen WHEN excluded.unread = 0 THEN seen
                         ELSE min(seen, excluded.seen) END";
    if db.prepare_cached(merge)?.execute((line, from, &to.current, &to.address))? == 0 {
        return Ok(());
    }
    db.prepare_cached("DELETE FROM conversation_state WHERE line = ?1 AND person = ?2")?.execute((line, from))?;
    db.prepare_cached(RECOUNT)?.execute((line, &to.current)).map(drop)
}

pub(super) fn list(
    db: &Connection,
    line: &str,
    of: ConversationFilter,
    after: Option<&ConversationPlace>,
    max: u32,
) -> rusqlite::Result<Vec<ConversationRow>> {
    let (sql, first) = match of {
        ConversationFilter::All => (ALL, i64::MAX),
        ConversationFilter::Unread => (UNREAD, i64::MAX),
        ConversationFilter::Waiting => (WAITING, i64::MIN),
    };
    let at = after.map_or(first, |after| after.at.as_millis());
    let name = after.map_or("", |after| &after.name);
    let read = |row: &Row<'_>| {
        let (name, address, last, waiting) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        Ok(ConversationRow { name, address, last, waiting, unread: row.get(4)? })
    };
    db.prepare_cached(sql)?.query_map((line, at, name, max), read)?.collect()
}

pub(super) fn mark_read(db: &Connection, line: &str, with: &str) -> rusqlite::Result<bool> {
    let mark = "UPDATE conversation_state SET seen = max(seen, last), unread = 0
         WHERE line = ?1 AND person = ?2 AND unread > 0";
    Ok(db.prepare_cached(mark)?.execute((line, name(db, line, with)?))? == 1)
}
