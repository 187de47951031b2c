//! The statements of the rules, each executed at once on the writer thread.

use std::collections::BTreeSet;
use std::future::{Future, Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Params, Row, params};

use super::super::super::charge::Charge;
use super::super::super::conversations::Heard;
use super::super::super::fallback::First;
use super::super::super::flow::Tx;
use super::super::super::lanes::lane_of;
use super::super::super::limits::{Check, Checked};
use super::super::super::outbox::{self};
use super::super::super::record::{
    DeliveryRow, EVENT_ATTEMPTS, End, EventContent, EventFilter, EventRow, EventWait, FALLBACKS_MAX, FallbackRow,
    FileHold, FileRow, HELD_BACK, Hold, InboxEvent, Leases, LinkRow, Mark, MessageRow, MessageWait, New, PersonOf,
    PutOff, RELEASED_MAX, RESTORED, Settle, Written, reached,
};
use super::super::super::status::{State, Status, priority};
use super::{budgets, claim, conversations, limits, status};
use crate::model::clock::Timestamp;
use crate::model::digest::Digest;
use crate::model::id::MessageId;
use crate::model::message::{Price, Purpose};
use crate::model::poll::Cursor;
use crate::policy::Reason;

/// A transaction.
pub(super) struct Db<'a>(pub(super) &'a Connection);

/// The error that stopped a rule.
pub(super) struct Fault(pub(super) rusqlite::Error);

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self(rusqlite::Error::ToSqlConversionFailure(error.into()))
    }
}

/// A completed statement.
pub(super) type Done<T> = Ready<Result<T, Fault>>;

pub(super) fn done<T>(done: rusqlite::Result<T>) -> Done<T> {
    ready(done.map_err(Fault))
}

pub(super) fn done_all<T>(work: impl FnOnce() -> rusqlite::Result<T>) -> Done<T> {
    done(work())
}

/// Runs a rule to its end. It never waits, because its statements are complete when they return.
pub(super) fn run<T>(rule: impl Future<Output = Result<T, Fault>>) -> rusqlite::Result<T> {
    match pin!(rule).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(ran) => ran.map_err(|fault| fault.0),
        Poll::Pending => Err(rusqlite::Error::InvalidQuery),
    }
}

impl Db<'_> {
    pub(super) fn change(&self, sql: &str, with: impl Params) -> rusqlite::Result<usize> {
        self.0.prepare_cached(sql)?.execute(with)
    }

    pub(super) fn put(&self, sql: &str, with: impl Params) -> Done<()> {
        done(self.change(sql, with).map(|_| ()))
    }

    pub(super) fn row<T>(
        &self,
        sql: &str,
        with: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Option<T>> {
        self.0.prepare_cached(sql)?.query_row(with, read).optional()
    }

    fn has(&self, sql: &str, with: impl Params) -> Done<bool> {
        done(self.row(sql, with, |_| Ok(())).map(|row| row.is_some()))
    }

    pub(super) fn rows<T>(
        &self,
        sql: &str,
        with: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        self.0.prepare_cached(sql)?.query_map(with, read)?.collect()
    }

    /// Returns the messages whose fallbacks are due to be examined by a time, or all with a fallback.
    pub(super) fn fallbacks(&self, by: Option<Timestamp>) -> rusqlite::Result<Vec<FallbackRow>> {
        let due = concat!(
            "SELECT id, line, key, fallback, state, delivery, restored IS NOT NULL,
                EXISTS (SELECT 1 FROM attempt WHERE message = m.id AND outcome = 'unknown')
                OR EXISTS (SELECT 1 FROM part WHERE message = m.id),
                EXISTS (SELECT 1 FROM attempt WHERE message = m.id AND kind = 'opted_out')
                OR EXISTS (SELECT 1 FROM decision WHERE message = m.id AND decision = 'opt_out'), lookups,
                EXISTS (SELECT 1 FROM decision WHERE message = m.id AND decision = 'refuse'), ",
            mark!(),
            " FROM message AS m WHERE fallback_due IS NOT NULL AND (?1 IS NULL OR fallback_due <= ?1)
             ORDER BY fallback_due LIMIT ?2"
        );
        let max = if by.is_some() { FALLBACKS_MAX } else { u32::MAX };
        self.rows(due, (by, max), |row| {
            let delivery = reached(row.get_ref(5)?.as_str_or_null()?, row.get_ref(11)?.as_str_or_null()?);
            let restored = row.get(6)?;
            let is_unknown = restored || row.get(7)?;
            let (state, opted_out, refused) = (row.get(4)?, row.get(8)?, row.get(10)?);
            let first = First { state, delivery, is_unknown, opted_out, refused, restored };
            let fallback = serde_json::from_str(&row.get::<_, String>(3)?).ok();
            let (id, line, key, lookups) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(9)?);
            Ok(FallbackRow { id, line, key, lookups, fallback, first })
        })
    }

    /// Returns the ids of the oldest events that can be delivered.
    fn open_events(
        &self,
        of: &EventFilter,
        foreign: &[String],
        now: Timestamp,
        max: u32,
    ) -> rusqlite::Result<Vec<i64>> {
        let id = |row: &Row<'_>| row.get(0);
        if let EventFilter::Line(line) = of {
            return self.rows(NEXT_OF_LINE, (now, max, line), id);
        }
        if foreign.is_empty() {
            return self.rows(NEXT_OF_ALL, (now, max), id);
        }
        // Line by line, so that events left to others are not scanned.
        let after = "SELECT min(line) FROM event
             WHERE acked IS NULL AND parked IS NULL AND NOT held AND line > ?1";
        let (mut found, mut line) = (self.rows(NEXT_OF_NONE, (now, max), id)?, String::new());
        while let Some(next) = self.row(after, (&line,), |row| row.get::<_, Option<String>>(0))?.flatten() {
            line = next;
            if !foreign.contains(&line) {
                found.extend(self.rows(NEXT_OF_LINE, (now, max, &line), id)?);
            }
        }
        found.sort_unstable();
        found.truncate(max as usize);
        Ok(found)
    }
}

/// Converts a duration to milliseconds.
pub(super) fn millis(wait: Duration) -> i64 {
    i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)
}

/// Reads a stored duration.
fn wait(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

fn message_row(row: &Row<'_>) -> rusqlite::Result<MessageRow> {
    let (line, recipient, priority, lane) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(6)?);
    let (state, delivery, attempts) = (row.get(3)?, row.get(4)?, row.get(5)?);
    Ok(MessageRow { line, recipient, priority, lane, state, delivery, attempts })
}

/// Reads the line and the person of an event.
fn person_row(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<PersonOf>> {
    Ok(row.get::<_, Option<String>>(column)?.zip(row.get(column + 1)?))
}

/// Reads a delivered event.
fn read_event(row: &Row<'_>) -> rusqlite::Result<InboxEvent> {
    let what = EventContent::read(&row.get::<_, String>(2)?, &row.get::<_, String>(3)?);
    Ok(InboxEvent { id: row.get(0)?, line: row.get(1)?, what, attempts: row.get(4)?, taken_in: row.get(5)? })
}

/// The events that are not leased, and do not wait behind a failed event of their person: all that do are marked as
/// held, but the condition alone decides.
macro_rules! open_events {
    ($of:literal) => {
        concat!(
            "SELECT id FROM event AS e
             WHERE acked IS NULL AND parked IS NULL AND NOT held AND (lease IS NULL OR lease <= ?1) ",
            $of,
            " AND NOT EXISTS (SELECT 1 FROM event AS f WHERE f.acked IS NULL AND f.parked IS NULL
                              AND (f.nacked OR f.held) AND f.line = e.line AND f.person = e.person AND f.id < e.id)
             ORDER BY id LIMIT ?2"
        )
    };
}

/// Each by its index: one search for all would scan every acknowledged event.
const NEXT_OF_ALL: &str = open_events!("");
const NEXT_OF_LINE: &str = open_events!("AND line = ?3");
const NEXT_OF_NONE: &str = open_events!("AND line IS NULL");

#[expect(refining_impl_trait, reason = "the trait is for stores that wait, too")]
impl Tx for Db<'_> {
    type Error = Fault;

    fn insert_message(&self, new: &New, written: &Written, instead_of: Option<i64>) -> Done<Option<i64>> {
        let insert = "INSERT INTO message
                 (line, key, recipient, body, digest, priority, state, due, queued, fallback, fallback_due, instead_of,
                  reason, fallback_recipient, lane, planned, wait, not_after, tag)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)
             ON CONFLICT (key, line) DO NOTHING";
        let planned = new.state() == State::Deferred;
        let with = params![
            new.line,
            new.key,
            new.message.to.expose(),
            written.body,
            written.digest,
            new.priority,
            new.state(),
            new.due,
            new.now,
            written.fallback,
            new.fallback_due(),
            instead_of,
            new.deferred.as_ref().map(ToString::to_string),
            new.fallback.as_ref().map(|fallback| fallback.message.to.expose()),
            lane_of(new),
            planned,
            new.wait().map(millis),
            new.message.not_after,
            new.message.tag
        ];
        done_all(|| {
            if self.change(insert, with)? == 0 {
                return Ok(None);
            }
            let id = self.0.last_insert_rowid();
            if !planned {
                claim::promote_head(self.0, id)?;
            }
            Ok(Some(id))
        })
    }

    fn insert_files(&self, id: i64, files: &BTreeSet<String>) -> Done<()> {
        let insert = "INSERT INTO message_file (sha256, message) VALUES (?1, ?2)";
        done(files.iter().try_for_each(|sha256| self.change(insert, (sha256, id)).map(drop)))
    }

    fn message_by_key(&self, line: &str, key: &str) -> Done<Option<(i64, Written)>> {
        let of = "SELECT id, digest, body, fallback FROM message WHERE line = ?1 AND key = ?2";
        let read = |row: &Row<'_>| {
            let (digest, body, fallback) = (row.get(1)?, row.get(2)?, row.get(3)?);
            Ok((row.get(0)?, Written { body, fallback, digest, files: BTreeSet::new() }))
        };
        done(self.row(of, (line, key), read))
    }

    fn message(&self, id: i64, fence: Option<i64>) -> Done<Option<MessageRow>> {
        let of = "SELECT line, recipient, priority, state, delivery, attempts, lane FROM message
             WHERE id = ?1 AND (?2 IS NULL OR fence = ?2)";
        done(self.row(of, (id, fence), message_row))
    }

    fn held(&self, hold: Hold) -> Done<Option<MessageRow>> {
        // The claim was already checked, in memory.
        let of = "SELECT line, recipient, priority, state, delivery, attempts, lane FROM message
             WHERE id = ?1 AND (fence = ?2 AND state = 'sending' OR fence < ?2 AND state IN ('queued', 'deferred'))";
        done(self.row(of, (hold.id.0, hold.fence), message_row))
    }

    fn set_lane(&self, id: i64, lane: &str) -> Done<()> {
        self.put("UPDATE message SET lane = ?2 WHERE id = ?1", (id, lane))
    }

    fn set_earlier(&self, id: i64) -> Done<()> {
        self.put("UPDATE message SET earlier = attempts WHERE id = ?1", (id,))
    }

    fn set_off(&self, id: i64, off: &PutOff) -> Done<()> {
        let set = "UPDATE message SET state = 'deferred', due = ?2, wait = 0, reason = ?3, planned = ?4, head = 0
             WHERE id = ?1";
        self.put(set, (id, off.until, off.why, off.planned))
    }

    fn promote_head(&self, id: i64) -> Done<()> {
        done(claim::promote_head(self.0, id))
    }

    fn promote_heads(&self) -> Done<()> {
        done(claim::promote_heads(self.0))
    }

    fn decided_since(&self, id: i64, decision: &str, why: &Reason) -> Done<Option<Timestamp>> {
        let since = "SELECT min(at) FROM decision WHERE message = ?1 AND decision = ?2 AND rule = ?3";
        done(self.row(since, (id, decision, why.rule()), |row| row.get(0)).map(Option::flatten))
    }

    fn set_state(
        &self,
        id: i64,
        delivery: Option<&str>,
        planned: bool,
        wait: Option<Duration>,
        settled: &Settle,
    ) -> Done<()> {
        let set = "UPDATE message SET state = ?2, due = ?3, reason = ?4, lease = NULL, settled = ?5, delivery = ?6,
                fallback_due = CASE WHEN fallback_due > ?7 THEN ?8 ELSE fallback_due END, head = 0, planned = ?9,
                wait = ?10
             WHERE id = ?1";
        let (at, fallbacks_after) = (settled.settled(), settled.fallbacks_after(delivery));
        let Settle { state, due, reason, now, .. } = settled;
        self.put(set, params![id, state, due, reason, at, delivery, fallbacks_after, now, planned, wait.map(millis)])
    }

    fn set_delivery(&self, id: i64, delivery: &str, failed: bool, arrived: bool, now: Timestamp) -> Done<()> {
        let set = "UPDATE message SET delivery = ?2,
                fallback_due = CASE WHEN ?5 THEN NULL WHEN ?3 AND fallback_due > ?4 THEN ?4 ELSE fallback_due END
             WHERE id = ?1";
        self.put(set, (id, delivery, failed, now, arrived))
    }

    fn mark_unknown_since(&self, at: Timestamp, now: Timestamp) -> Done<u64> {
        let mark_unknown = "UPDATE message
             SET state = 'unknown', due = ?2, wait = ?2 - ?4, lookups = 0, lease = NULL, reason = ?3, restored = ?1, planned = 0,
                 head = 0
             WHERE state IN ('queued', 'claimed', 'sending') OR state = 'deferred' AND due <= ?4";
        let is_unknown = self.change(mark_unknown, (at, now.plus(outbox::RESTORED_LOOK_UP), RESTORED, now));
        done(is_unknown.map(|is_unknown| is_unknown as u64))
    }

    fn end_attempt(&self, id: i64, n: i32, end: &End) -> Done<Option<String>> {
        let set = "UPDATE attempt SET ended = ?3, outcome = ?4, kind = ?5, code = ?6, passing = ?7, segments = ?8,
                price = ?9, currency = ?10, bound = ?11
             WHERE message = ?1 AND n = ?2 AND outcome IS NULL RETURNING charges";
        let price = end.price.as_ref().map(Price::micros);
        let money = end.price.as_ref().and_then(Price::as_money);
        let currency = money.as_ref().map(|money| money.currency.as_str());
        let End { now, outcome, kind, code, passing, segments, bound, .. } = end;
        let with = params![id, n, now, outcome, kind, code, passing, segments, price, currency, bound];
        done(self.row(set, with, |row| row.get(0)).map(Option::flatten))
    }

    fn spend(&self, charges: &[Charge]) -> Done<Option<usize>> {
        done(budgets::spend(self.0, charges))
    }

    fn check_recent(&self, check: Check) -> Done<Checked> {
        done(limits::check(self.0, &check))
    }

    fn change_counters(&self, changes: &[(String, i64)]) -> Done<()> {
        done(changes.iter().try_for_each(|(counter, units)| budgets::add(self.0, counter, *units)))
    }

    fn take_charges(&self, id: i64) -> Done<Vec<String>> {
        done(budgets::take_charges(self.0, id))
    }

    fn counters(&self, counters: &[String]) -> Done<Vec<(String, i64)>> {
        done(counters.iter().map(|counter| Ok((counter.clone(), budgets::units(self.0, counter)?))).collect())
    }

    fn end_unknown(&self, id: i64) -> Done<()> {
        self.put("UPDATE attempt SET outcome = 'unknown' WHERE message = ?1 AND outcome IS NULL", (id,))
    }

    fn drop_windows(&self, id: i64) -> Done<()> {
        self.put("UPDATE attempt SET repeatable_until = NULL WHERE message = ?1", (id,))
    }

    fn end_windows(&self, after: i64, last: i64) -> Done<()> {
        let end = "UPDATE attempt SET repeatable_until = begun
             WHERE message > ?1 AND message <= ?2 AND repeatable_until IS NOT NULL";
        self.put(end, (after, last))
    }

    fn has_unknown_attempt(&self, id: i64) -> Done<bool> {
        self.has("SELECT 1 FROM attempt WHERE message = ?1 AND outcome = 'unknown'", (id,))
    }

    fn is_repeated(&self, id: i64) -> Done<bool> {
        let repeated =
            "SELECT 1 FROM attempt WHERE message = ?1 AND outcome = 'unknown' AND repeatable_until IS NOT NULL
               AND n > (SELECT earlier FROM message WHERE id = ?1)";
        self.has(repeated, (id,))
    }

    fn expired(&self, now: Timestamp, max: u32) -> Done<Vec<i64>> {
        let expired = "SELECT id FROM message INDEXED BY message_expiring
             WHERE not_after IS NOT NULL AND state IN ('queued', 'deferred') AND not_after < ?1
             ORDER BY not_after LIMIT ?2";
        done(self.rows(expired, (now, max), |row| row.get(0)))
    }

    fn insert_decision(&self, id: i64, decision: &str, why: &Reason, at: Timestamp) -> Done<()> {
        let insert = "INSERT INTO decision (message, at, decision, rule, reason) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.put(insert, (id, at, decision, why.rule(), why.to_string()))
    }

    fn insert_part(&self, id: i64, n: i32, part: &MessageId) -> Done<()> {
        let insert = "INSERT OR IGNORE INTO part (gateway, account, id, message)
             SELECT gateway, account, ?3, message FROM attempt WHERE message = ?1 AND n = ?2";
        self.put(insert, (id, n, part.as_str()))
    }

    fn insert_part_of(&self, of: &DeliveryRow<'_>, id: i64) -> Done<()> {
        let insert = "INSERT OR IGNORE INTO part (gateway, account, id, message) VALUES (?1, ?2, ?3, ?4)";
        self.put(insert, (of.gateway, of.account, of.id, id))
    }

    fn message_of_delivery(&self, of: &DeliveryRow<'_>) -> Done<Option<i64>> {
        let message = "SELECT message FROM part WHERE gateway = ?1 AND account = ?4 AND id = ?2
             UNION ALL
             SELECT message FROM attempt WHERE reference = ?3 AND gateway = ?1 AND account = ?4
             UNION ALL
             SELECT m.id FROM message AS m JOIN attempt AS a ON a.message = m.id AND a.gateway = ?1 AND a.account = ?4
             WHERE m.key = ?3 LIMIT 1";
        done(self.row(message, (of.gateway, of.id, of.key, of.account), |row| row.get(0)))
    }

    fn set_mark(&self, line: &str, person: &str, of: &DeliveryRow<'_>, mark: Mark, now: Timestamp) -> Done<()> {
        let set = "INSERT INTO conversation (line, person, gateway, account, delivered_up_to, read_up_to, heard)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (line, person, gateway, account) DO UPDATE SET heard = max(heard, excluded.heard),
                 delivered_up_to = max(coalesce(delivered_up_to, excluded.delivered_up_to),
                                       coalesce(excluded.delivered_up_to, delivered_up_to)),
                 read_up_to = max(coalesce(read_up_to, excluded.read_up_to),
                                  coalesce(excluded.read_up_to, read_up_to))";
        let Mark { delivered_up_to, read_up_to } = mark;
        self.put(set, (line, person, of.gateway, of.account, delivered_up_to, read_up_to, now))
    }

    fn drop_arrived(&self, line: &str, person: &str, of: &DeliveryRow<'_>, until: Timestamp) -> Done<()> {
        let arrived = "UPDATE message SET fallback_due = NULL
             WHERE line = ?1 AND recipient = ?2 AND fallback_due IS NOT NULL AND state = 'accepted'
               AND EXISTS (SELECT 1 FROM attempt AS a WHERE a.message = message.id AND a.n = message.attempts
                           AND a.gateway = ?3 AND a.account = ?4 AND a.begun <= ?5)";
        self.put(arrived, (line, person, of.gateway, of.account, until))
    }

    fn insert_early(&self, of: &DeliveryRow<'_>, receipt: &str, at: Timestamp) -> Done<()> {
        let insert = "INSERT INTO early (gateway, account, id, key, delivery, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        self.put(insert, (of.gateway, of.account, of.id, of.key, receipt, at))
    }

    fn take_early(&self, id: i64) -> Done<Vec<String>> {
        let by_id = "SELECT e.rowid, e.delivery FROM part AS p
             JOIN early AS e ON e.gateway = p.gateway AND e.account = p.account AND e.id = p.id WHERE p.message = ?1";
        let by_key = "SELECT e.rowid, e.delivery FROM message AS m JOIN early AS e ON e.key = m.key
             JOIN attempt AS a ON a.message = m.id AND a.gateway = e.gateway AND a.account = e.account WHERE m.id = ?1";
        let by_reference = "SELECT e.rowid, e.delivery FROM attempt AS a JOIN early AS e ON e.key = a.reference
             AND e.gateway = a.gateway AND e.account = a.account WHERE a.message = ?1";
        done_all(|| {
            let mut taken = Vec::new();
            for early in [by_id, by_key, by_reference] {
                let early: Vec<(i64, String)> = self.rows(early, (id,), |row| Ok((row.get(0)?, row.get(1)?)))?;
                for (rowid, delivery) in early {
                    self.change("DELETE FROM early WHERE rowid = ?1", (rowid,))?;
                    taken.push(delivery);
                }
            }
            Ok(taken)
        })
    }

    fn insert_event(&self, event: &EventRow<'_>) -> Done<bool> {
        let EventRow { line, dedupe, kind, person, waits, body, files, taken_in } = *event;
        let insert = "INSERT OR IGNORE INTO event (line, dedupe, kind, person, body, taken_in, lease, waits, held)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, EXISTS (
                 SELECT 1 FROM event WHERE line = ?1 AND person = ?4
                   AND acked IS NULL AND parked IS NULL AND (nacked OR held)))";
        let file = "INSERT INTO file (event, n, state, due) VALUES (?1, ?2, 'waiting', ?3)";
        done_all(|| {
            let held_back = (files > 0).then(|| taken_in.plus(HELD_BACK));
            if self.change(insert, (line, dedupe, kind, person, body, taken_in, held_back, waits))? == 0 {
                return Ok(false);
            }
            let id = self.0.last_insert_rowid();
            for n in 0..i64::try_from(files).unwrap_or(i64::MAX) {
                self.change(file, (id, n, taken_in))?;
            }
            Ok(true)
        })
    }

    fn set_cursor(&self, channel: &str, place: &Cursor) -> Done<()> {
        self.put("INSERT OR REPLACE INTO cursor (channel, place) VALUES (?1, ?2)", (channel, place.as_str()))
    }

    fn next_events(&self, of: &EventFilter, foreign: &[String], now: Timestamp, max: u32) -> Done<Vec<InboxEvent>> {
        let event = "SELECT id, line, kind, body, attempts, taken_in FROM event WHERE id = ?1";
        done_all(|| {
            let ids = self.open_events(of, foreign, now, max)?;
            let events = ids.into_iter().map(|id| self.row(event, (id,), read_event));
            events.filter_map(Result::transpose).collect()
        })
    }

    fn hold_events(&self, events: &[InboxEvent], until: Timestamp) -> Done<()> {
        let hold = "UPDATE event SET lease = ?2, wait = NULL, attempts = ?3 WHERE id = ?1";
        done(events.iter().try_for_each(|event| self.change(hold, (event.id, until, event.attempts)).map(drop)))
    }

    fn park_events(&self, ids: &[i64], now: Timestamp) -> Done<Vec<PersonOf>> {
        let park = "UPDATE event SET parked = ?2, held = 0 WHERE id = ?1 RETURNING line, person";
        done_all(|| {
            let parked = ids.iter().map(|id| self.row(park, (id, now), |row| person_row(row, 0)).map(Option::flatten));
            parked.filter_map(Result::transpose).collect()
        })
    }

    fn nack_event(&self, id: i64, until: Timestamp, now: Timestamp) -> Done<Option<(bool, Option<PersonOf>)>> {
        let nack = "UPDATE event SET nacked = 1, lease = ?2, wait = max(?2 - ?4, 0),
                attempts = CASE WHEN parked IS NULL THEN attempts ELSE 0 END,
                parked = CASE WHEN parked IS NULL AND attempts >= ?3 THEN ?4 END,
                held = CASE WHEN parked IS NULL AND attempts >= ?3 THEN 0 ELSE held END
             WHERE id = ?1 AND acked IS NULL RETURNING parked IS NOT NULL, line, person";
        done(self.row(nack, (id, until, EVENT_ATTEMPTS, now), |row| Ok((row.get(0)?, person_row(row, 1)?))))
    }

    fn hold_later_events(&self, id: i64, of: &PersonOf) -> Done<()> {
        // By time of arrival, so that no more of the conversation is read.
        let hold = "UPDATE event SET held = 1
             WHERE line = ?2 AND person = ?3 AND id > ?1 AND acked IS NULL AND parked IS NULL AND NOT held
               AND taken_in >= (SELECT taken_in FROM event WHERE id = ?1)
               AND taken_in <= coalesce((
                   SELECT taken_in FROM event INDEXED BY event_waiting
                   WHERE line = ?2 AND person = ?3 AND id > ?1 AND acked IS NULL AND parked IS NULL
                     AND (nacked OR held) AND held ORDER BY id LIMIT 1), 9223372036854775807)";
        self.put(hold, (id, &of.0, &of.1))
    }

    fn release_events(&self, of: &PersonOf) -> Done<()> {
        let release = "WITH waiting (id, nacked, held) AS MATERIALIZED (
                 SELECT id, nacked, held FROM event INDEXED BY event_waiting
                 WHERE line = ?1 AND person = ?2 AND acked IS NULL AND parked IS NULL AND (nacked OR held)
                 ORDER BY id LIMIT ?3)
             UPDATE event SET held = 0 WHERE id IN (
                 SELECT id FROM waiting
                 WHERE held AND id <= coalesce((SELECT min(id) FROM waiting WHERE nacked), 9223372036854775807))";
        self.put(release, (&of.0, &of.1, RELEASED_MAX))
    }

    fn parked_events(&self, of: &EventFilter, foreign: &[String], after: i64, max: u32) -> Done<Vec<InboxEvent>> {
        let parked = "SELECT id, line, kind, body, attempts, taken_in FROM event
             WHERE acked IS NULL AND parked IS NOT NULL AND (?1 IS NULL OR line = ?1) AND id > ?2
               AND (line IS NULL OR line NOT IN (SELECT value FROM json_each(?4)))
             ORDER BY id LIMIT ?3";
        let line = match of {
            EventFilter::Line(line) => Some(line),
            EventFilter::All { .. } => None,
        };
        match serde_json::to_string(foreign) {
            Ok(foreign) => done(self.rows(parked, (line, after, max, foreign), read_event)),
            Err(error) => ready(Err(error.into())),
        }
    }

    fn ack_event(&self, id: i64, now: Timestamp) -> Done<Option<PersonOf>> {
        let ack = "UPDATE event SET acked = ?2 WHERE id = ?1 AND acked IS NULL RETURNING line, person";
        let waits = "SELECT 1 FROM event INDEXED BY event_waiting
             WHERE line = ?1 AND person = ?2 AND acked IS NULL AND parked IS NULL AND (nacked OR held) LIMIT 1";
        done_all(|| {
            let Some(of) = self.row(ack, (id, now), |row| person_row(row, 0))?.flatten() else { return Ok(None) };
            Ok(self.row(waits, (&of.0, &of.1), |_| Ok(()))?.map(|()| of))
        })
    }

    fn attended_since(&self, at: Timestamp) -> Done<Vec<String>> {
        done(self.rows("SELECT id FROM line WHERE attended > ?1", (at,), |row| row.get(0)))
    }

    fn statuses(&self, ids: Vec<i64>) -> Done<Vec<Status>> {
        let found = ids.into_iter().map(|id| status(self.0, id).map(|(status, _)| status).optional());
        done(found.filter_map(Result::transpose).collect())
    }

    fn link(&self, line: &str, previous: &str) -> Done<Option<LinkRow>> {
        let of = "SELECT current, address, at FROM link WHERE line = ?1 AND previous = ?2";
        done(self.row(of, (line, previous), |row| {
            Ok(LinkRow { current: row.get(0)?, address: row.get(1)?, at: row.get(2)? })
        }))
    }

    fn delete_link(&self, line: &str, previous: &str) -> Done<()> {
        self.put("DELETE FROM link WHERE line = ?1 AND previous = ?2", (line, previous))
    }

    fn move_links(&self, line: &str, from: &str, to: &LinkRow) -> Done<()> {
        let promote_head = "UPDATE link SET current = ?3, address = ?4 WHERE line = ?1 AND current = ?2";
        self.put(promote_head, (line, from, &to.current, &to.address))
    }

    fn set_link(&self, line: &str, previous: &str, to: &LinkRow) -> Done<()> {
        let set = "INSERT OR REPLACE INTO link (line, previous, current, address, at) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.put(set, (line, previous, &to.current, &to.address, to.at))
    }

    fn names_of(&self, line: &str, names: &[String]) -> Done<Vec<String>> {
        let linked = "SELECT current FROM link WHERE line = ?1 AND previous = ?2
             UNION SELECT previous FROM link WHERE line = ?1
               AND (current = ?2 OR current = (SELECT current FROM link WHERE line = ?1 AND previous = ?2))";
        done_all(|| {
            let mut all: BTreeSet<String> = names.iter().cloned().collect();
            for name in names {
                all.extend(self.rows(linked, (line, name), |row| row.get(0))?);
            }
            Ok(all.into_iter().collect())
        })
    }

    fn set_heard(&self, heard: &Heard<'_>) -> Done<()> {
        done(conversations::set_heard(self.0, heard))
    }

    fn set_answered(&self, id: i64, now: Timestamp) -> Done<()> {
        done(conversations::set_answered(self.0, id, now))
    }

    fn merge_conversations(&self, line: &str, from: &str, to: &LinkRow) -> Done<()> {
        done(conversations::merge(self.0, line, from, to))
    }

    fn has_reply_since(&self, line: &str, names: &[String], at: Timestamp) -> Done<bool> {
        let of = "SELECT 1 FROM message
             WHERE line = ?1 AND recipient = ?2 AND queued >= ?3 AND priority = ?4 LIMIT 1";
        done_all(|| {
            for name in names {
                if self.row(of, (line, name, at, priority(Purpose::Reply)), |_| Ok(()))?.is_some() {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    fn ended_by_opt_out(&self, line: &str, names: &[String], from: u8) -> Done<Vec<(i64, String)>> {
        let of = "SELECT id, lane FROM message WHERE line = ?1 AND recipient = ?2 AND priority >= ?3
                AND (settled IS NULL OR state = 'parked' OR fallback_due IS NOT NULL)
             UNION SELECT id, lane FROM message
             WHERE line = ?1 AND fallback_recipient = ?2 AND priority >= ?3 AND fallback_due IS NOT NULL
             UNION SELECT instead.id, instead.lane FROM message AS first JOIN message AS instead ON instead.instead_of = first.id
             WHERE first.line = ?1 AND first.recipient = ?2 AND instead.priority >= ?3 AND instead.settled IS NULL";
        done_all(|| {
            let mut ids = BTreeSet::new();
            for name in names {
                ids.extend(self.rows(of, (line, name, from), |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))?);
            }
            Ok(ids.into_iter().collect())
        })
    }

    fn drop_fallbacks(&self, id: i64, line: &str, names: &[String], from: u8) -> Done<()> {
        let of_person = "UPDATE message SET fallback_due = NULL
             WHERE line = ?1 AND recipient = ?2 AND priority >= ?3 AND fallback_due IS NOT NULL";
        done_all(|| {
            self.change("UPDATE message SET fallback_due = NULL WHERE id = ?1", (id,))?;
            names.iter().try_for_each(|name| self.change(of_person, (line, name, from)).map(|_| ()))
        })
    }

    fn instead_of(&self, id: i64) -> Done<Option<i64>> {
        done(self.row("SELECT id FROM message WHERE instead_of = ?1", (id,), |row| row.get(0)))
    }

    fn take_fallbacks(&self, by: Option<Timestamp>) -> Done<Vec<FallbackRow>> {
        done(self.fallbacks(by))
    }

    fn set_fallback(&self, id: i64, again: Option<Timestamp>, looked_up: bool) -> Done<()> {
        let set = "UPDATE message SET fallback_due = ?2, lookups = lookups + ?3 WHERE id = ?1";
        self.put(set, (id, again, looked_up))
    }

    fn seen(&self) -> Done<Option<Timestamp>> {
        done(self.row("SELECT seen FROM clock", (), |row| row.get(0)))
    }

    fn set_seen(&self, now: Timestamp) -> Done<()> {
        self.put("INSERT OR REPLACE INTO clock (one, seen) VALUES (1, ?1)", (now,))
    }

    fn message_waits(&self, after: i64, max: u32) -> Done<Vec<MessageWait>> {
        let waits = "SELECT id, state, planned, due, wait, lease, fallback_due,
                CASE WHEN fallback_due IS NOT NULL THEN fallback END
             FROM message WHERE id > ?1 ORDER BY id LIMIT ?2";
        done(self.rows(waits, (after, max), |row| {
            let fallback = row.get_ref(7)?.as_str_or_null()?.and_then(|fallback| serde_json::from_str(fallback).ok());
            Ok(MessageWait {
                id: row.get(0)?,
                state: row.get(1)?,
                planned: row.get(2)?,
                due: row.get(3)?,
                wait: row.get::<_, Option<i64>>(4)?.map(wait),
                lease: row.get(5)?,
                fallback_due: row.get(6)?,
                fallback,
            })
        }))
    }

    fn set_message_wait(&self, before: &MessageWait, after: &MessageWait) -> Done<bool> {
        let set = "UPDATE message SET due = ?6, lease = ?7, fallback_due = ?8, planned = ?9,
                state = CASE WHEN ?10 THEN 'deferred' ELSE state END, head = CASE WHEN ?10 THEN 0 ELSE head END
             WHERE id = ?1 AND state = ?2 AND due IS ?3 AND lease IS ?4 AND fallback_due IS ?5";
        let MessageWait { id, state, due, lease, fallback_due, .. } = before;
        let leaves = after.planned != before.planned;
        let (until, held) = (after.due, after.lease);
        let with = params![id, state, due, lease, fallback_due, until, held, after.fallback_due, after.planned, leaves];
        done(self.change(set, with).map(|set| set == 1))
    }

    fn event_waits(&self, after: i64, max: u32) -> Done<Vec<EventWait>> {
        let waits = "SELECT * FROM (
                 SELECT id, lease, wait FROM event
                 WHERE acked IS NULL AND parked IS NULL AND NOT held AND id > ?1 ORDER BY id LIMIT ?2)
             UNION ALL SELECT * FROM (
                 SELECT id, lease, wait FROM event INDEXED BY event_waiting
                 WHERE acked IS NULL AND parked IS NULL AND (nacked OR held) AND held AND id > ?1
                 ORDER BY id LIMIT ?2)
             ORDER BY id LIMIT ?2";
        done(self.rows(waits, (after, max), |row| {
            Ok(EventWait { id: row.get(0)?, lease: row.get(1)?, wait: row.get::<_, Option<i64>>(2)?.map(wait) })
        }))
    }

    fn set_event_wait(&self, before: EventWait, until: Timestamp) -> Done<bool> {
        let set = "UPDATE event SET lease = ?3 WHERE id = ?1 AND lease IS ?2 AND acked IS NULL";
        done(self.change(set, (before.id, before.lease, until)).map(|set| set == 1))
    }

    fn bound_files(&self, now: Timestamp, leases: Leases) -> Done<u64> {
        let bound = "UPDATE file SET due = CASE state WHEN 'waiting' THEN ?1 WHEN 'fetching' THEN ?2 ELSE ?3 END
             WHERE due IS NOT NULL AND due > ?1
               AND due > CASE state WHEN 'waiting' THEN ?1 WHEN 'fetching' THEN ?2 ELSE ?3 END";
        let (fetching, removing) = (now.plus(leases.file), now.plus(leases.removal));
        done(self.change(bound, (now, fetching, removing)).map(|bound| bound as u64))
    }

    fn bound_attended(&self, now: Timestamp) -> Done<()> {
        self.put("UPDATE line SET attended = ?1 WHERE attended > ?1", (now,))
    }

    fn is_removing(&self, file: &Digest) -> Done<bool> {
        self.has("SELECT 1 FROM file WHERE sha256 = ?1 AND state = 'removing'", (file.to_string(),))
    }

    fn set_file(&self, hold: FileHold, file: &FileRow<'_>) -> Done<bool> {
        let set = "UPDATE file SET state = ?4, due = ?5, sha256 = ?6, len = ?7, mime = ?8, reason = ?9
             WHERE event = ?1 AND n = ?2 AND tries = ?3 AND state IN ('fetching', 'held')";
        let (FileHold { event, n, tries }, FileRow { state, due, stored, reason }) = (hold, file);
        let (sha256, mime) = (stored.map(|file| file.sha256.to_string()), stored.map(|file| &file.mime));
        let len = stored.map(|file| i64::try_from(file.len).unwrap_or(i64::MAX));
        // Unless somebody has leased it since.
        let release = "UPDATE event SET lease = NULL WHERE id = ?1 AND acked IS NULL AND lease = taken_in + ?2
             AND NOT EXISTS (SELECT 1 FROM file WHERE event = ?1 AND state IN ('waiting', 'fetching'))";
        let held_back = i64::try_from(HELD_BACK.as_millis()).unwrap_or(i64::MAX);
        done_all(|| {
            let set = self.change(set, params![event, n, tries, state, due, sha256, len, mime, reason])?;
            self.change(release, (event, held_back))?;
            Ok(set == 1)
        })
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::super::super::super::directory::Directory;
    use super::super::super::super::flow;
    use super::super::super::super::record::Incoming;
    use super::*;
    use crate::model::address::{Address, Medium};
    use crate::model::delivery::DeliveryState;
    use crate::model::event::{Delivery, DeliveryOf, Envelope, Raw};
    use crate::model::id::AccountId;

    #[test]
    fn receipt_up_to_a_time_writes_a_constant_number_of_rows() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(include_str!("schema.sql")).unwrap();
        let person = Address::phone("07700 900123").unwrap();
        let message = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1000)
             INSERT INTO message (line, key, recipient, body, digest, priority, lane, state, queued, settled, attempts)
             SELECT 'desk', n, ?1, '', '', 2, 'desk/phone', 'accepted', 1, 1, 1 FROM n";
        db.execute(message, (person.expose(),)).unwrap();
        let attempt =
            "INSERT INTO attempt (message, n, gateway, account, begun) SELECT id, 1, 'mock', 'desk', 1 FROM message";
        db.execute(attempt, ()).unwrap();
        let changes = || db.query_row("SELECT total_changes()", (), |row| row.get::<_, i64>(0)).unwrap();
        for (n, state) in [DeliveryState::Delivered, DeliveryState::Read].into_iter().enumerate() {
            let at = Timestamp::from_millis(5 + i64::try_from(n).unwrap());
            let envelope = Envelope::new("mock", Medium::Sms, AccountId::new("desk"), at, Raw::default());
            let mut delivery = Delivery::new(envelope, "", state, "");
            (delivery.of, delivery.recipient) = (DeliveryOf::UpTo { at, id: None }, Some(person.clone()));
            let incoming =
                Incoming { line: Some("desk".to_owned()), event: delivery.into(), fetch: false, auto_reply: None };
            let before = changes();
            assert_eq!(run(flow::store_events(&Db(&db), &Directory::default(), &[incoming], None, at)).unwrap(), 1);
            assert_eq!(changes() - before, 2, "the event and the mark");
        }
        for id in [1, 1000] {
            assert_eq!(status(&db, id).unwrap().0.delivery, Some(DeliveryState::Read));
        }
    }

    #[test]
    fn statement_is_planned_once_whatever_is_bound() {
        let db = Connection::open_in_memory().unwrap();
        super::super::keep_statements(&db).unwrap();
        db.execute_batch(include_str!("schema.sql")).unwrap();
        let mut next = db.prepare(NEXT_OF_LINE).unwrap();
        for n in 1..=3_i64 {
            assert!(next.query((n, n, n.to_string())).unwrap().next().unwrap().is_none());
        }
        assert_eq!(next.get_status(StatementStatus::RePrepare), 0);
    }

    #[test]
    fn held_events_are_not_searched() {
        let db = Connection::open_in_memory().unwrap();
        super::super::keep_statements(&db).unwrap();
        db.execute_batch(include_str!("schema.sql")).unwrap();
        // As many of one person, behind the first, which failed.
        let insert = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 10000)
             INSERT INTO event (line, kind, person, body, taken_in) SELECT 'desk', 'event', 'they', '', n FROM n";
        db.execute(insert, ()).unwrap();
        let now = Timestamp::from_millis(20_000);
        let in_steps = |sql: &str, find: &dyn Fn(&mut rusqlite::Statement<'_>) -> Option<i64>| {
            let mut statement = db.prepare(sql).unwrap();
            let found = find(&mut statement);
            (found, statement.get_status(StatementStatus::VmStep))
        };
        let of_line =
            || in_steps(NEXT_OF_LINE, &|next| next.query_row((now, 1, "desk"), |row| row.get(0)).optional().unwrap());
        let of_all = || in_steps(NEXT_OF_ALL, &|next| next.query_row((now, 1), |row| row.get(0)).optional().unwrap());
        run(flow::nack(&Db(&db), 1, now.plus(Duration::from_secs(60)), now)).unwrap();
        for (found, steps) in [of_line(), of_all()] {
            assert!(found.is_none() && steps < 200, "{steps} steps");
        }
        // Nor does a further failure, or a release, mark or read all of them.
        let changes = || db.query_row("SELECT total_changes()", (), |row| row.get::<_, i64>(0)).unwrap();
        let before = changes();
        run(flow::nack(&Db(&db), 1, now.plus(Duration::from_secs(90)), now)).unwrap();
        run(flow::ack(&Db(&db), 1, now)).unwrap();
        for id in 2..50 {
            assert_eq!(of_line().0, Some(id));
            run(flow::ack(&Db(&db), id, now)).unwrap();
        }
        assert!(changes() - before < 50 * i64::from(RELEASED_MAX + 1), "{}", changes() - before);
        assert!(of_line().1 < 200, "{} steps", of_line().1);
    }

    #[test]
    fn rule_that_waits_is_an_error() {
        assert!(run(std::future::pending::<Result<(), Fault>>()).is_err());
    }
}
