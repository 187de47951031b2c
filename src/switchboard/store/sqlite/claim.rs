//! Claims, and the order of conversations.
//!
//! One worker process uses the file, so its claims are kept in memory. The file has the order of each conversation, of
//! which one message is the head, and the messages being sent.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, Row};

use super::super::super::charge;
use super::super::super::lanes::Rooms;
use super::super::super::limits::Limits;
use super::super::super::record::{Attempt, Claimed, Hold, Written, message_of};
use super::super::super::status::{Id, PRIORITY_LAST, State};
use crate::model::clock::Timestamp;
use crate::model::id::MessageId;

/// The maximum number of due messages of each class that enter the order of their conversations at once.
const PLACED_MAX: u32 = 64;

/// The claims of the worker.
#[derive(Clone, Debug, Default)]
pub(super) struct InMemory {
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
    claims: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    of: HashMap<i64, InMemoryClaim>,
    /// The last fencing token: each is used once.
    fence: i64,
}

#[derive(Clone, Copy, Debug)]
struct InMemoryClaim {
    fence: i64,
    lease: Timestamp,
}

impl InMemory {
    /// Claims a message, and returns its fencing token.
    pub(super) fn claim(&self, read: Hold, lease: Timestamp) -> i64 {
        let mut claims = self.lock();
        claims.fence = claims.fence.max(read.fence) + 1;
        let fence = claims.fence;
        claims.of.insert(read.id.0, InMemoryClaim { fence, lease });
        fence
    }

    /// Returns the lease of a claim, if it is the last one of its message and has not lapsed.
    pub(super) fn lease_of(&self, hold: Hold, now: Timestamp) -> Option<Timestamp> {
        let claim = self.lock().of.get(&hold.id.0).copied()?;
        (claim.fence == hold.fence && claim.lease > now).then_some(claim.lease)
    }

    /// Ends a claim, and returns `true` if it was the last one of its message.
    pub(super) fn end(&self, hold: Hold) -> bool {
        let mut claims = self.lock();
        let is_last = claims.of.get(&hold.id.0).is_some_and(|claim| claim.fence == hold.fence);
        if is_last {
            claims.of.remove(&hold.id.0);
        }
        is_last
    }

    /// Limits every lease to this time.
    pub(super) fn bound(&self, lease: Timestamp) {
        self.lock().of.values_mut().for_each(|claim| claim.lease = claim.lease.min(lease));
    }

    /// Ends the claims that have lapsed, or all, and returns their number.
    pub(super) fn lapse(&self, now: Timestamp, all: bool) -> u64 {
        let mut claims = self.lock();
        let before = claims.of.len();
        claims.of.retain(|_, claim| claim.lease > now && !all);
        (before - claims.of.len()) as u64
    }

    fn is_claimed(&self, id: i64, now: Timestamp) -> bool {
        self.lock().of.get(&id).is_some_and(|claim| claim.lease > now)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The claimable messages, and when the next is due.
pub(super) struct Found {
    pub(super) heads: Vec<ClaimedRow>,
    pub(super) next_due: Option<Timestamp>,
}

/// Finds due heads lane by lane and class by class, without scanning the waiting messages.
pub(super) fn find(db: &Connection, now: Timestamp, rooms: &Rooms, claims: &InMemory) -> rusqlite::Result<Found> {
    let mut next_due = place(db, now)?;
    let mut heads = Vec::new();
    // Two searches: comparing both columns at once would scan everything that waits in the lane.
    let mut next_class = db.prepare_cached(
        "SELECT lane, priority FROM message INDEXED BY message_head
         WHERE head AND lane = ?1 AND priority > ?2 ORDER BY priority LIMIT 1",
    )?;
    let mut next_lane = db.prepare_cached(
        "SELECT lane, priority FROM message INDEXED BY message_head
         WHERE head AND lane > ?1 ORDER BY lane, priority LIMIT 1",
    )?;
    let mut due = db.prepare_cached(
        "SELECT id, due, state FROM message INDEXED BY message_head
         WHERE head AND lane = ?1 AND priority = ?2 ORDER BY due, id",
    )?;
    let mut last = (String::new(), -1_i64);
    loop {
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let pair = match next_class.query_row((&last.0, last.1), read).optional()? {
            None => next_lane.query_row((&last.0,), read).optional()?,
            pair => pair,
        };
        let Some(pair) = pair else { break };
        last = pair;
        let (lane, class) = (&last.0, u8::try_from(last.1).unwrap_or(PRIORITY_LAST));
        // There is no other program to serve another line.
        let mut room = if rooms.has_lane(lane) { rooms.room(lane, class) } else { 1 };
        if room == 0 {
            continue;
        }
        let mut rows = due.query((lane, last.1))?;
        while let Some(row) = rows.next()? {
            let (id, at): (i64, Timestamp) = (row.get(0)?, row.get::<_, Option<_>>(1)?.unwrap_or(now));
            if at > now {
                next_due = Some(next_due.map_or(at, |next: Timestamp| next.min(at)));
                break;
            }
            if room == 0 {
                break;
            }
            // A message being sent is the head until the send ends.
            let waits = matches!(row.get(2)?, State::Queued | State::Deferred);
            if waits && !claims.is_claimed(id, now) {
                heads.push(read_claimed_row(db, id)?);
                room -= 1;
            }
        }
    }
    Ok(Found { heads, next_due })
}

/// Moves scheduled messages that are due into the order of their conversations, and returns when the next is due.
fn place(db: &Connection, now: Timestamp) -> rusqlite::Result<Option<Timestamp>> {
    let mut planned = db.prepare_cached(
        "SELECT id, due FROM message INDEXED BY message_planned WHERE planned AND priority = ?1 ORDER BY due, id LIMIT ?2",
    )?;
    let mut next: Option<Timestamp> = None;
    for class in 0..=PRIORITY_LAST {
        let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<Timestamp>>(1)?));
        let planned = planned.query_map((class, PLACED_MAX), read)?.collect::<Result<Vec<_>, _>>()?;
        let count = planned.len();
        let mut placed = 0;
        for (id, due) in planned {
            if let Some(later) = due.filter(|due| *due > now) {
                next = Some(next.map_or(later, |next| next.min(later)));
                break;
            }
            db.prepare_cached("UPDATE message SET planned = 0, state = 'queued' WHERE id = ?1")?.execute((id,))?;
            promote_head(db, id)?;
            placed += 1;
        }
        // There may be more.
        if placed == count && count == PLACED_MAX as usize {
            next = Some(now);
        }
    }
    Ok(next)
}

/// Makes the first message of a conversation its only head: the conversation of this message. A message being sent, or
/// with an unknown outcome, holds back the others.
pub(super) fn promote_head(db: &Connection, of: i64) -> rusqlite::Result<()> {
    let mut first = db.prepare_cached(
        "SELECT n.id, n.head, n.state FROM message AS m CROSS JOIN message AS n INDEXED BY message_open
         ON n.line = m.line AND n.recipient = m.recipient AND n.settled IS NULL AND n.planned = 0
         WHERE m.id = ?1 ORDER BY n.priority, n.id LIMIT 2",
    )?;
    let read = |row: &Row<'_>| {
        let waits = matches!(row.get(2)?, State::Queued | State::Deferred);
        Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?, waits))
    };
    let mut first = first.query_map((of,), read)?.collect::<Result<Vec<_>, _>>()?.into_iter();
    let Some((id, is_head, waits)) = first.next() else { return Ok(()) };
    if is_head {
        return Ok(());
    }
    if waits && is_in_flight(db, of)? {
        return Ok(());
    }
    let mut set = db.prepare_cached("UPDATE message SET head = ?2 WHERE id = ?1")?;
    if let Some((second, true, true)) = first.next() {
        set.execute((second, false))?;
    }
    if waits {
        set.execute((id, true))?;
    }
    Ok(())
}

fn is_in_flight(db: &Connection, of: i64) -> rusqlite::Result<bool> {
    let held = "SELECT EXISTS (SELECT 1 FROM message AS m CROSS JOIN message AS n INDEXED BY message_held
         ON n.line = m.line AND n.recipient = m.recipient AND n.lease IS NOT NULL WHERE m.id = ?1)";
    db.prepare_cached(held)?.query_row((of,), |row| row.get(0))
}

/// Determines the heads of all conversations.
pub(super) fn promote_heads(db: &Connection) -> rusqlite::Result<()> {
    db.execute("UPDATE message SET head = 0 WHERE head", ())?;
    let mut waiting =
        db.prepare("SELECT min(id) FROM message WHERE settled IS NULL AND planned = 0 GROUP BY line, recipient")?;
    let of = waiting.query_map((), |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
    of.into_iter().try_for_each(|of| promote_head(db, of))
}

/// Records the start of a send, if the message is still the head of its conversation.
pub(super) fn begin(db: &Connection, hold: Hold, lease: Timestamp, attempt: &Attempt) -> rusqlite::Result<bool> {
    let begun = db
        .prepare_cached(
            "UPDATE message SET state = 'sending', attempts = attempts + 1, fence = ?2, lease = ?3
             WHERE id = ?1 AND fence < ?2 AND state IN ('queued', 'deferred') AND head",
        )?
        .execute((hold.id.0, hold.fence, lease))?;
    if begun == 1 {
        db.prepare_cached(
            "INSERT INTO attempt (message, n, gateway, account, begun, reference, repeatable_until, charges)
             VALUES (?1, (SELECT attempts FROM message WHERE id = ?1), ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute((
            hold.id.0,
            &attempt.gateway,
            &attempt.account,
            attempt.at,
            &attempt.reference,
            attempt.repeatable_until,
            charge::stored(&attempt.charges),
        ))?;
    }
    Ok(begun == 1)
}

/// A claimed message, not parsed yet.
pub(super) struct ClaimedRow {
    claimed: Claimed,
    written: Written,
}

impl ClaimedRow {
    pub(super) fn read(self) -> Claimed {
        let Written { body, fallback, digest, .. } = &self.written;
        let (message, damaged) = message_of(body, fallback.as_deref(), digest);
        Claimed { message, damaged, ..self.claimed }
    }
}

pub(super) fn read_claimed_row(db: &Connection, id: i64) -> rusqlite::Result<ClaimedRow> {
    let mut held = db.prepare_cached(
        "SELECT line, body, fence, queued, lookups, restored, (SELECT id FROM part WHERE message = m.id LIMIT 1),
                (SELECT address FROM link WHERE line = m.line AND previous = m.recipient), digest, fallback, attempts,
                lane, priority
         FROM message AS m WHERE id = ?1",
    )?;
    let mut attempts = db.prepare_cached(
        "SELECT gateway, account, begun, outcome IS 'unknown', passing, ended IS NULL, outcome IS 'suspended', bound,
                reference, n <= (SELECT earlier FROM message WHERE id = ?1), repeatable_until
         FROM attempt WHERE message = ?1 ORDER BY n",
    )?;
    let read = |row: &Row<'_>| {
        let (gateway, account, at, reference) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(8)?);
        let (is_unknown, passing, died) = (row.get(3)?, row.get(4)?, row.get(5)?);
        let (suspended, bound, earlier, repeatable_until) = (row.get(6)?, row.get(7)?, row.get(9)?, row.get(10)?);
        Ok(Attempt {
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
        })
    };
    held.query_row((id,), |row| {
        let tried = row.get::<_, u32>(10)? > 0;
        let claimed = Claimed {
            hold: Hold { id: Id(id), fence: row.get(2)? },
            line: row.get(0)?,
            lane: row.get(11)?,
            class: row.get(12)?,
            message: None,
            damaged: false,
            queued: row.get(3)?,
            attempts: if tried { attempts.query_map((id,), read)?.collect::<Result<_, _>>()? } else { Vec::new() },
            lookups: row.get(4)?,
            restored: row.get(5)?,
            gateway_id: row.get::<_, Option<String>>(6)?.map(MessageId::from),
            moved_to: row.get::<_, Option<String>>(7)?.and_then(|address| serde_json::from_str(&address).ok()),
        };
        let (body, fallback, digest) = (row.get(1)?, row.get(9)?, row.get(8)?);
        Ok(ClaimedRow { claimed, written: Written { body, fallback, digest, files: BTreeSet::new() } })
    })
}
