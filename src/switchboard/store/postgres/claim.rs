//! Claims, and the order of conversations.
//!
//! One message of each conversation is its head, and only heads are claimed. Changing the head requires the lock of the
//! conversation. A claim takes no such lock, because it changes no order, and two workers that claim at the same time
//! skip each other's rows.

use std::collections::HashMap;
use std::time::Duration;

use tokio_postgres::Row;

use super::super::super::lanes::{Claims, Rooms, line_of};
use super::super::super::limits::Limits;
use super::super::super::record::{Attempt, Claimed, Hold, RESERVED_AHEAD, Reserved, SERVED, message_of};
use super::super::super::status::{Id, PRIORITY_LAST};
use super::session::{Fault, Session};
use super::together::{LockConversation, promote_head};
use super::{count, indexed, moment};
use crate::model::clock::Timestamp;
use crate::model::id::MessageId;

/// The maximum number of due messages of each class that enter the order of their conversations at once.
const PLACED_MAX: i64 = 64;

/// Locks a conversation until the end of the transaction.
pub(super) async fn lock_conversation(db: &Session, line: &str, recipient: &str) -> Result<(), Fault> {
    db.call(LockConversation(line.to_owned(), recipient.to_owned())).await
}

/// Locks the conversation of a message.
pub(super) async fn lock_conversation_of(db: &Session, message: i64) -> Result<(), Fault> {
    let lock = "SELECT pg_advisory_xact_lock(conversation) FROM civic_messaging.message WHERE id = $1";
    db.rows(lock, &[&message]).await.map(drop)
}

/// Moves scheduled messages that are due, and messages enqueued by other programs, into the order of their
/// conversations.
pub(super) async fn place(db: &Session, now: Timestamp) -> Result<(), Fault> {
    let due = "SELECT id, conversation FROM generate_series(0, $2) AS of (priority), LATERAL (
             SELECT m.id, m.conversation FROM civic_messaging.message AS m
             WHERE m.planned AND m.priority = of.priority AND m.due <= $1 ORDER BY m.due, m.id LIMIT $3) AS due";
    let due = db.rows(due, &[&now.as_millis(), &i32::from(PRIORITY_LAST), &PLACED_MAX]).await?;
    if due.is_empty() {
        return Ok(());
    }
    let ids = due.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    let of = due.iter().map(|row| row.try_get(1)).collect::<Result<Vec<i64>, _>>()?;
    let lock = "SELECT pg_advisory_xact_lock(conversation) FROM (
             SELECT DISTINCT unnest($1::bigint[]) AS conversation ORDER BY conversation) AS all_of";
    db.rows(lock, &[&of]).await?;
    // Another worker may have done it meanwhile.
    let free = "SELECT id FROM civic_messaging.message WHERE id = ANY ($1) AND planned ORDER BY due, id
         FOR UPDATE SKIP LOCKED";
    let free = db.rows(free, &[&ids]).await?;
    let ids = free.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    // Messages of other programs are placed behind everything committed before now.
    let number = "UPDATE civic_messaging.message SET seq = DEFAULT WHERE id = ANY ($1) AND seq = 0";
    db.change(number, &[&ids]).await?;
    let place = "UPDATE civic_messaging.message SET planned = FALSE, state = 'queued' WHERE id = ANY ($1)";
    db.change(place, &[&ids]).await?;
    promote_head(db, &ids).await
}

/// The lanes and classes with heads, and the due time of the first; and the first due times of scheduled messages.
pub(super) const PAIRS: &str = "WITH RECURSIVE pair AS (
             (SELECT lane, priority, due FROM civic_messaging.message
              WHERE head AND phase IN ('queued', 'deferred') ORDER BY lane, priority, due, id LIMIT 1)
             UNION ALL
             SELECT n.lane, n.priority, n.due FROM pair AS p, LATERAL (
                 SELECT lane, priority, due FROM civic_messaging.message
                 WHERE head AND phase IN ('queued', 'deferred') AND (lane, priority) > (p.lane, p.priority)
                 ORDER BY lane, priority, due, id LIMIT 1) AS n)
         SELECT lane, priority, due FROM pair
         UNION ALL
         (SELECT NULL, NULL, due FROM generate_series(0, $1) AS of (priority), LATERAL (
              SELECT due FROM civic_messaging.message AS m WHERE m.planned AND m.priority = of.priority
              ORDER BY m.due, m.id LIMIT 1) AS planned)";

/// Claims due heads, skipping those that another worker is claiming.
pub(super) const TAKE: &str = "WITH found AS (
             SELECT due.id FROM unnest($2::text[], $3::smallint[], $4::bigint[]) AS of (lane, priority, room), LATERAL (
                 SELECT m.id FROM civic_messaging.message AS m
                 WHERE m.lane = of.lane AND m.priority = of.priority AND m.due <= $1
                   AND m.head AND m.phase IN ('queued', 'deferred')
                 ORDER BY m.due, m.id LIMIT of.room FOR UPDATE SKIP LOCKED) AS due)
         UPDATE civic_messaging.message AS m SET state = 'claimed', lease = $5, fence = m.fence + 1
         FROM found WHERE m.id = found.id RETURNING m.priority, m.due, m.id";

/// Claims due heads lane by lane and class by class, without scanning the waiting messages.
pub(super) async fn claim(db: &Session, now: Timestamp, lease: Duration, rooms: &Rooms) -> Result<Claims, Fault> {
    // A plan made while the tables were empty, or for any number of rows, would sort all of them.
    db.plan_by_index().await?;
    db.batch("SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off").await?;
    let mut claims = Claims::default();
    let (mut lanes, mut classes, mut room) = (Vec::new(), Vec::new(), Vec::new());
    let mut served: Option<Vec<String>> = None;
    for pair in db.rows(PAIRS, &[&i32::from(PRIORITY_LAST)]).await? {
        let due = moment(&pair, 2)?;
        let Some(lane) = pair.try_get::<_, Option<String>>(0)? else {
            claims.due(due);
            continue;
        };
        let class: i16 = pair.try_get(1)?;
        if due > now {
            claims.due(due);
            continue;
        }
        let of = if rooms.has_lane(&lane) {
            rooms.room(&lane, u8::try_from(class).unwrap_or(PRIORITY_LAST))
        } else {
            if served.is_none() {
                let lately = "SELECT id FROM civic_messaging.line WHERE attended > $1";
                let rows = db.rows(lately, &[&now.minus(SERVED).as_millis()]).await?;
                served = Some(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?);
            }
            // A line that no worker serves: one message is examined here.
            u32::from(!served.as_deref().unwrap_or_default().iter().any(|line| line == line_of(&lane)))
        };
        if of > 0 {
            lanes.push(lane);
            classes.push(class);
            room.push(i64::from(of));
        }
    }
    if lanes.is_empty() {
        return Ok(claims);
    }
    let until = now.plus(lease).as_millis();
    let taken = db.rows(TAKE, &[&now.as_millis(), &lanes, &classes, &room, &until]).await?;
    let read = |row: &Row| Ok((row.try_get::<_, i16>(0)?, row.try_get::<_, i64>(1)?, row.try_get::<_, i64>(2)?));
    let mut taken = taken.iter().map(read).collect::<Result<Vec<_>, Fault>>()?;
    taken.sort_unstable();
    let taken: Vec<i64> = taken.into_iter().map(|(_, _, id)| id).collect();
    claims.claimed = read_claimed(db, &taken).await?;
    Ok(claims)
}

/// Converts a time to microseconds.
pub(super) fn micros(at: Timestamp) -> i64 {
    at.as_millis().saturating_mul(1000)
}

/// Reserves tokens of an account, one worker after the other, so that together they keep its rate.
pub(super) async fn reserve(
    db: &Session,
    account: &str,
    interval: Duration,
    count: u32,
    now: Timestamp,
) -> Result<Reserved, Fault> {
    let (account, at, soon) = (indexed(account), micros(now), micros(now.plus(RESERVED_AHEAD)));
    let taken = i64::try_from(interval.as_micros()).unwrap_or(i64::MAX).saturating_mul(count.into());
    let reserve = "INSERT INTO civic_messaging.account AS a (id, next_at) VALUES ($1, $2::bigint + $3::bigint)
         ON CONFLICT (id) DO UPDATE SET next_at = greatest(a.next_at, $2) + $3 WHERE a.next_at <= $4
         RETURNING next_at - $3";
    let from = |row: &Row| Ok::<_, Fault>(Timestamp::from_millis(row.try_get::<_, i64>(0)?.saturating_add(999) / 1000));
    if let Some(row) = db.row(reserve, &[&account, &at, &taken, &soon]).await? {
        return Ok(Reserved { from: from(&row)?, count });
    }
    let next = db.row("SELECT next_at FROM civic_messaging.account WHERE id = $1", &[&account]).await?;
    Ok(Reserved { from: next.as_ref().map_or(Ok(now), from)?, count: 0 })
}

/// Returns the paused accounts.
pub(super) async fn pauses(db: &Session, now: Timestamp) -> Result<Vec<(String, Timestamp)>, Fault> {
    let paused = "SELECT id, next_at / 1000 FROM civic_messaging.account WHERE next_at > $1";
    let rows = db.rows(paused, &[&micros(now)]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, moment(row, 1)?))).collect()
}

/// Releases a claimed message, unchanged.
pub(super) async fn unclaim(db: &Session, hold: Hold) -> Result<(), Fault> {
    lock_conversation_of(db, hold.id.0).await?;
    let unclaim = "UPDATE civic_messaging.message SET state = 'queued', lease = NULL, head = FALSE
         WHERE id = $1 AND fence = $2 AND state = 'claimed'";
    db.change(unclaim, &[&hold.id.0, &hold.fence]).await?;
    promote_head(db, &[hold.id.0]).await
}

/// Releases the messages whose claims have lapsed, and returns their number.
pub(super) async fn requeue_lapsed(db: &Session, now: Timestamp) -> Result<u64, Fault> {
    let lapsed = "SELECT id, conversation FROM civic_messaging.message
         WHERE phase = 'claimed' AND state = 'claimed' AND lease <= $1";
    let lapsed = db.rows(lapsed, &[&now.as_millis()]).await?;
    if lapsed.is_empty() {
        return Ok(0);
    }
    let ids = lapsed.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    let of = lapsed.iter().map(|row| row.try_get(1)).collect::<Result<Vec<i64>, _>>()?;
    let lock = "SELECT pg_advisory_xact_lock(conversation) FROM (
             SELECT DISTINCT unnest($1::bigint[]) AS conversation ORDER BY conversation) AS all_of";
    db.rows(lock, &[&of]).await?;
    let requeue = "UPDATE civic_messaging.message SET state = 'queued', due = $1, wait = 0, lease = NULL, head = FALSE
         WHERE id IN (SELECT id FROM civic_messaging.message
                      WHERE id = ANY ($2) AND state = 'claimed' AND lease <= $1 FOR UPDATE SKIP LOCKED)";
    let queued = db.change(requeue, &[&now.as_millis(), &ids]).await?;
    promote_head(db, &ids).await?;
    Ok(queued)
}

/// Reads messages in the form of claimed ones, in the order of these numbers.
pub(super) async fn read_claimed(db: &Session, ids: &[i64]) -> Result<Vec<Claimed>, Fault> {
    let read = "SELECT m.id, m.fence, m.line, m.body, m.queued, m.lookups, m.restored,
                (SELECT p.id FROM civic_messaging.part AS p WHERE p.message = m.id
                 ORDER BY p.gateway COLLATE \"C\", p.id COLLATE \"C\" LIMIT 1),
                (SELECT l.address FROM civic_messaging.link AS l WHERE l.line = m.line AND l.previous = m.recipient),
                m.digest, m.fallback, m.lane, m.priority
         FROM civic_messaging.message AS m WHERE m.id = ANY ($1) ORDER BY array_position($1, m.id)";
    let tries =
        "SELECT gateway, account, begun, message, outcome IS NOT DISTINCT FROM 'unknown', passing, ended IS NULL,
                outcome IS NOT DISTINCT FROM 'suspended', bound, reference,
                n <= (SELECT earlier FROM civic_messaging.message WHERE id = message), repeatable_until
         FROM civic_messaging.attempt WHERE message = ANY ($1) ORDER BY message, n";
    let mut attempts = HashMap::<i64, Vec<Attempt>>::new();
    for of in db.rows(tries, &[&ids]).await? {
        let (gateway, account, at) = (of.try_get(0)?, of.try_get(1)?, moment(&of, 2)?);
        let (is_unknown, passing, died) = (of.try_get(4)?, of.try_get(5)?, of.try_get(6)?);
        let (suspended, bound, reference) = (of.try_get(7)?, of.try_get(8)?, of.try_get(9)?);
        let earlier = of.try_get(10)?;
        let repeatable_until = of.try_get::<_, Option<i64>>(11)?.map(Timestamp::from_millis);
        let attempt = Attempt {
            gateway,
            account,
            at,
            reference,
            is_unknown,
            passing,
            died,
            suspended,
            bound,
            earlier,
            repeatable_until,
            charges: Vec::new(),
            limits: Limits::default(),
        };
        attempts.entry(of.try_get(3)?).or_default().push(attempt);
    }
    let mut claimed = Vec::with_capacity(ids.len());
    for row in db.rows(read, &[&ids]).await? {
        let id: i64 = row.try_get(0)?;
        let (message, damaged) = message_of(row.try_get(3)?, row.try_get(10)?, row.try_get(9)?);
        claimed.push(Claimed {
            hold: Hold { id: Id(id), fence: row.try_get(1)? },
            line: row.try_get(2)?,
            lane: row.try_get(11)?,
            class: u8::try_from(row.try_get::<_, i16>(12)?).unwrap_or(PRIORITY_LAST),
            message,
            damaged,
            queued: moment(&row, 4)?,
            attempts: attempts.remove(&id).unwrap_or_default(),
            lookups: count(&row, 5)?,
            restored: row.try_get::<_, Option<i64>>(6)?.map(Timestamp::from_millis),
            gateway_id: row.try_get::<_, Option<String>>(7)?.map(MessageId::from),
            moved_to: row.try_get::<_, Option<&str>>(8)?.and_then(|address| serde_json::from_str(address).ok()),
        });
    }
    Ok(claimed)
}
