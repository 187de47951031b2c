//! The list of conversations.

use std::collections::HashMap;

use tokio_postgres::Row;

use super::super::super::conversation::{Entry, Place};
use super::super::super::conversations::{ConversationFilter, ConversationPlace, ConversationRow, Heard};
use super::super::super::record::LinkRow;
use super::session::{Fault, Session};
use super::{indexed, moment, statuses};
use crate::model::clock::Timestamp;

/// The current name of a person.
const NAME: &str = "SELECT coalesce((SELECT current FROM civic_messaging.link WHERE line = $1 AND previous = $2), $2)";

/// The lists, each by its index.
const ALL: &str = "SELECT person, address, last, waiting, unread FROM civic_messaging.conversation_state
         WHERE line = $1 AND (last, person) < ($2, $3) ORDER BY last DESC, person DESC LIMIT $4";
const UNREAD: &str = "SELECT person, address, last, waiting, unread FROM civic_messaging.conversation_state
         WHERE line = $1 AND (last, person) < ($2, $3) AND unread > 0 ORDER BY last DESC, person DESC LIMIT $4";
const WAITING: &str = "SELECT person, address, last, waiting, unread FROM civic_messaging.conversation_state
         WHERE line = $1 AND (waiting, person) > ($2, $3) AND waiting IS NOT NULL ORDER BY waiting, person LIMIT $4";

async fn name(db: &Session, line: &str, of: &str) -> Result<String, Fault> {
    Ok(db.row(NAME, &[&indexed(line), &indexed(of)]).await?.ok_or(Fault::Unreadable)?.try_get(0)?)
}

pub(super) async fn set_heard(db: &Session, heard: &Heard<'_>) -> Result<(), Fault> {
    let Heard { line, person, ref address, waits, is_echo, at } = *heard;
    if is_echo {
        return answer(db, line, &name(db, line, person).await?, (at, at)).await;
    }
    let set = "INSERT INTO civic_messaging.conversation_state AS c
             (line, person, address, last, answered, seen, waiting, unread)
         VALUES ($1, coalesce((SELECT current FROM civic_messaging.link WHERE line = $1 AND previous = $2), $2),
                 coalesce((SELECT address FROM civic_messaging.link WHERE line = $1 AND previous = $2), $3), $4, $6, $6,
                 CASE WHEN $5 THEN $4::bigint END, $5::boolean::int)
         ON CONFLICT (line, person) DO UPDATE SET
             last = greatest(c.last, $4), waiting = coalesce(c.waiting, CASE WHEN $5 THEN $4::bigint END),
             unread = c.unread + $5::boolean::int";
    db.change(set, &[&indexed(line), &indexed(person), address, &at.as_millis(), &waits, &i64::MIN]).await.map(drop)
}

pub(super) async fn set_answered(db: &Session, id: i64, now: Timestamp) -> Result<(), Fault> {
    let of = "SELECT line, recipient, queued FROM civic_messaging.message
         WHERE id = $1 AND key NOT LIKE 'auto-reply-%'";
    let Some(row) = db.row(of, &[&id]).await? else { return Ok(()) };
    let (line, recipient): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    answer(db, &line, &name(db, &line, &recipient).await?, (moment(&row, 2)?, now)).await
}

/// Records an answer to what was written by a time.
async fn answer(db: &Session, line: &str, person: &str, (to, now): (Timestamp, Timestamp)) -> Result<(), Fault> {
    let set = "UPDATE civic_messaging.conversation_state
         SET last = greatest(last, $4), answered = greatest(answered, $3)
         WHERE line = $1 AND person = $2";
    if db.change(set, &[&indexed(line), &indexed(person), &to.as_millis(), &now.as_millis()]).await? == 0 {
        return Ok(());
    }
    recount(db, line, person).await
}

/// Counts again what waits for an answer, and what is unread.
async fn recount(db: &Session, line: &str, person: &str) -> Result<(), Fault> {
    let recount = "WITH who AS (
             SELECT $2::text AS person
             UNION ALL SELECT previous FROM civic_messaging.link WHERE line = $1 AND current = $2)
         UPDATE civic_messaging.conversation_state AS c SET
             waiting = (SELECT min(e.taken_in) FROM civic_messaging.event AS e
                        WHERE e.line = $1 AND e.person IN (SELECT person FROM who) AND e.waits
                          AND e.taken_in > c.answered),
             unread = (SELECT count(*) FROM civic_messaging.event AS e
                       WHERE e.line = $1 AND e.person IN (SELECT person FROM who) AND e.waits
                         AND e.taken_in > greatest(c.seen, c.answered))
         WHERE c.line = $1 AND c.person = $2";
    db.change(recount, &[&indexed(line), &indexed(person)]).await.map(drop)
}

/// Merges two conversations: what was written since the oldest unread message of either is unread.
pub(super) async fn merge(db: &Session, line: &str, from: &str, to: &LinkRow) -> Result<(), Fault> {
    let merge = "WITH moved AS (
             DELETE FROM civic_messaging.conversation_state WHERE line = $1 AND person = $2
             RETURNING line, last, answered, seen, waiting, unread)
         INSERT INTO civic_messaging.conversation_state AS c
             (line, person, address, last, answered, seen, waiting, unread)
         SELECT line, $3, $4, last, answered, seen, waiting, unread FROM moved
         ON CONFLICT (line, person) DO UPDATE SET
             address = excluded.address, last = greatest(c.last, excluded.last),
             answered = greatest(c.answered, excluded.answered), 
             seen = CASE WHEN c.unread = 0 AND excluded.unread = 0 THEN greatest(c.seen, excluded.seen)
                         WHEN c.unread = 0 THEN excluded.seen WHEN excluded.unread = 0 THEN c.seen
                         ELSE least(c.seen, excluded.seen) END";
    let with = (indexed(line), indexed(from), indexed(&to.current));
    if db.change(merge, &[&with.0, &with.1, &with.2, &to.address]).await? == 0 {
        return Ok(());
    }
    recount(db, line, &to.current).await
}

pub(super) async fn list(
    db: &Session,
    line: &str,
    of: ConversationFilter,
    after: Option<&ConversationPlace>,
    max: u32,
) -> Result<Vec<(ConversationRow, Option<Entry>)>, Fault> {
    let (sql, first) = match of {
        ConversationFilter::All => (ALL, i64::MAX),
        ConversationFilter::Unread => (UNREAD, i64::MAX),
        ConversationFilter::Waiting => (WAITING, i64::MIN),
    };
    let at = after.map_or(first, |after| after.at.as_millis());
    let name = after.map_or("", |after| &after.name);
    let read = |row: &Row| {
        let (name, address, last, unread): (_, _, _, i32) =
            (row.try_get(0)?, row.try_get(1)?, moment(row, 2)?, row.try_get(4)?);
        let waiting = row.try_get::<_, Option<i64>>(3)?.map(Timestamp::from_millis);
        Ok(ConversationRow { name, address, last, waiting, unread: u32::try_from(unread).unwrap_or(0) })
    };
    let rows = db.rows(sql, &[&indexed(line), &at, &name, &i64::from(max)]).await?;
    let rows = rows.iter().map(read).collect::<Result<Vec<_>, Fault>>()?;
    let mut last = last_entries(db, line, &rows.iter().map(|row| &*row.name).collect::<Vec<_>>()).await?;
    let with_last = |row: ConversationRow| {
        let entry = last.remove(&row.name);
        (row, entry)
    };
    Ok(rows.into_iter().map(with_last).collect())
}

/// Returns the last entry of each conversation, by the current name of its person.
async fn last_entries(db: &Session, line: &str, names: &[&str]) -> Result<HashMap<String, Entry>, Fault> {
    let last = "SELECT named.person, said.at, said.ours, said.id, said.body
         FROM unnest($2::text[]) AS named (person)
         CROSS JOIN LATERAL (
             SELECT last.*
             FROM (SELECT named.person AS name
                   UNION ALL SELECT previous FROM civic_messaging.link WHERE line = $1 AND current = named.person) AS who
             CROSS JOIN LATERAL (
                 (SELECT queued AS at, true AS ours, id, NULL AS body FROM civic_messaging.message
                  WHERE conversation = hashtextextended($1 || chr(10) || who.name, 0)
                    AND recipient = who.name AND line = $1
                  ORDER BY queued DESC, id DESC LIMIT 1)
                 UNION ALL
                 (SELECT taken_in, false, id, body FROM civic_messaging.event
                  WHERE line = $1 AND person = who.name ORDER BY taken_in DESC, id DESC LIMIT 1)) AS last
             ORDER BY at DESC, ours DESC, id DESC LIMIT 1) AS said";
    let rows = db.rows(last, &[&indexed(line), &names]).await?;
    let place = |row: &Row| Ok::<_, Fault>(Place { at: moment(row, 1)?, ours: row.try_get(2)?, id: row.try_get(3)? });
    let places = rows.iter().map(place).collect::<Result<Vec<_>, _>>()?;
    let ours = places.iter().filter(|place| place.ours).map(|place| place.id).collect();
    let mut ours: HashMap<_, _> = statuses(db, ours).await?.into_iter().map(|ours| (ours.0.id.0, ours)).collect();
    let mut entries = HashMap::new();
    for (row, place) in rows.iter().zip(places) {
        let entry = if place.ours {
            let Some((status, message)) = ours.remove(&place.id) else { continue };
            Entry::ours(place, status, message)
        } else {
            Entry::theirs(place, row.try_get(4)?)
        };
        entries.insert(row.try_get(0)?, entry);
    }
    Ok(entries)
}

pub(super) async fn mark_read(db: &Session, line: &str, with: &str) -> Result<bool, Fault> {
    let mark = "UPDATE civic_messaging.conversation_state SET seen = greatest(seen, last), unread = 0
         WHERE line = $1 AND person = $2 AND unread > 0";
    let person = name(db, line, with).await?;
    Ok(db.change(mark, &[&indexed(line), &person]).await? == 1)
}
