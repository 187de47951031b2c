//! The statements of the rules. Locks of rows and names do here what the single writer thread does in SQLite.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql};

use super::super::super::charge::Charge;
use super::super::super::conversations::Heard;
use super::super::super::engine::Notification;
use super::super::super::fallback::First;
use super::super::super::flow::Tx;
use super::super::super::lanes::lane_of;
use super::super::super::limits::{Check, Checked};
use super::super::super::outbox::{self};
use super::super::super::record::{
    DeliveryRow, EVENT_ATTEMPTS, End, EventContent, EventFilter, EventRow, EventWait, FALLBACKS_MAX, FallbackRow,
    FileHold, FileRow, HELD_BACK, Hold, InboxEvent, Incoming, Leases, LinkRow, Mark, MessageRow, MessageWait, New,
    PersonOf, PutOff, RELEASED_MAX, RESTORED, Settle, Written, reached,
};
use super::super::super::status::{State, Status, priority};
use super::claim::lock_conversation;
use super::locks::{by_id, by_key, lock_names, lock_person};
use super::session::{Fault, Session};
use super::together::{
    AckEvent, EndAttempt, InsertEvent, InsertPart, LockMessage, MessageOf, PromoteHead, SetState, Spend, TakeEarly,
    promote_head,
};
use super::{budgets, conversations, count, file, indexed, moment, state, statuses, text};
use crate::model::clock::Timestamp;
use crate::model::digest::Digest;
use crate::model::event::Event;
use crate::model::id::MessageId;
use crate::model::message::Purpose;
use crate::model::poll::Cursor;
use crate::policy::Reason;

/// Converts a duration to milliseconds.
fn millis(wait: Duration) -> i64 {
    i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)
}

/// Reads a stored duration.
fn wait(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

impl Session {
    async fn put(&self, sql: &'static str, with: &[&(dyn ToSql + Sync)]) -> Result<(), Fault> {
        self.change(sql, with).await.map(drop)
    }
}

impl Tx for Session {
    type Error = Fault;

    fn name<'a>(&self, name: &'a str) -> Cow<'a, str> {
        indexed(name)
    }

    async fn insert_message(
        &self,
        new: &New,
        written: &Written,
        instead_of: Option<i64>,
    ) -> Result<Option<i64>, Fault> {
        let (line, key, to) = (indexed(&new.line), indexed(&new.key), text(new.message.to.expose()));
        let planned = new.state() == State::Deferred;
        // This waits for a transaction that writes the same key now, and then changes nothing. Behind a message of the
        // same or a higher class it is not the head; it replaces a head of a lower class that is not being sent.
        let insert = "WITH first AS (
                 SELECT id, priority FROM civic_messaging.message
                 WHERE conversation = hashtextextended($1 || chr(10) || $3, 0) AND NOT $16
                   AND NOT planned AND phase IN ('queued', 'deferred', 'claimed', 'unknown')
                 ORDER BY priority, seq LIMIT 1),
             free AS (
                 SELECT first.id FROM first WHERE first.priority > $6 AND NOT EXISTS (
                     SELECT 1 FROM civic_messaging.message
                     WHERE conversation = hashtextextended($1 || chr(10) || $3, 0) AND phase = 'claimed')),
             behind AS (
                 UPDATE civic_messaging.message AS m SET head = FALSE FROM free
                 WHERE m.id = free.id AND m.phase IN ('queued', 'deferred', 'unknown') RETURNING m.id)
             INSERT INTO civic_messaging.message
                 (line, key, recipient, body, digest, priority, state, due, queued, fallback, fallback_due, instead_of,
                  reason, fallback_recipient, lane, planned, head, wait, not_after, tag)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,
                     NOT $16 AND (NOT EXISTS (SELECT 1 FROM first) OR EXISTS (SELECT 1 FROM behind)), $17, $18, $19)
             ON CONFLICT (key, line) DO NOTHING RETURNING id";
        lock_conversation(self, &line, &to).await?;
        let reason = new.deferred.as_ref().map(ToString::to_string);
        let row = self
            .row(
                insert,
                &[
                    &line,
                    &key,
                    &to,
                    &written.body,
                    &written.digest,
                    &i16::from(new.priority),
                    &new.state().as_str(),
                    &new.due.as_millis(),
                    &new.now.as_millis(),
                    &written.fallback,
                    &new.fallback_due().map(Timestamp::as_millis),
                    &instead_of,
                    &reason.as_deref().map(text),
                    &new.fallback.as_ref().map(|fallback| text(fallback.message.to.expose())),
                    &text(&lane_of(new)),
                    &planned,
                    &new.wait().map(millis),
                    &new.message.not_after.map(Timestamp::as_millis),
                    &new.message.tag.as_deref().map(indexed),
                ],
            )
            .await?;
        if row.is_none() {
            // The head is not replaced by a message that exists already.
            let there = self.message_by_key(&line, &key).await?;
            promote_head(self, &there.into_iter().map(|(id, _)| id).collect::<Vec<_>>()).await?;
        } else if !planned {
            self.notify(Notification::ToSend);
        }
        first(row.as_ref())
    }

    async fn insert_files(&self, id: i64, files: &BTreeSet<String>) -> Result<(), Fault> {
        let insert = "INSERT INTO civic_messaging.message_file (sha256, message) SELECT unnest($1::text[]), $2";
        self.put(insert, &[&files.iter().collect::<Vec<_>>(), &id]).await
    }

    async fn message_by_key(&self, line: &str, key: &str) -> Result<Option<(i64, Written)>, Fault> {
        let of = "SELECT id, digest, body, fallback FROM civic_messaging.message WHERE line = $1 AND key = $2";
        let Some(row) = self.row(of, &[&indexed(line), &indexed(key)]).await? else { return Ok(None) };
        let (digest, body, fallback) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        Ok(Some((row.try_get(0)?, Written { body, fallback, digest, files: BTreeSet::new() })))
    }

    async fn message(&self, id: i64, fence: Option<i64>) -> Result<Option<MessageRow>, Fault> {
        self.call(MessageOf(id, fence)).await
    }

    async fn held(&self, hold: Hold) -> Result<Option<MessageRow>, Fault> {
        let row = self.message(hold.id.0, Some(hold.fence)).await?;
        Ok(row.filter(|row| matches!(row.state, State::Claimed | State::Sending)))
    }

    async fn set_lane(&self, id: i64, lane: &str) -> Result<(), Fault> {
        self.put("UPDATE civic_messaging.message SET lane = $2 WHERE id = $1", &[&id, &text(lane)]).await
    }

    async fn set_earlier(&self, id: i64) -> Result<(), Fault> {
        self.put("UPDATE civic_messaging.message SET earlier = attempts WHERE id = $1", &[&id]).await
    }

    async fn set_off(&self, id: i64, off: &PutOff) -> Result<(), Fault> {
        let set = "UPDATE civic_messaging.message
             SET state = 'deferred', due = $2, wait = 0, reason = $3, planned = $4, lease = NULL, head = FALSE
             WHERE id = $1";
        self.put(set, &[&id, &off.until.as_millis(), &off.why, &off.planned]).await
    }

    async fn promote_head(&self, id: i64) -> Result<(), Fault> {
        self.call(PromoteHead(id)).await
    }

    async fn promote_heads(&self) -> Result<(), Fault> {
        let waiting = "SELECT id FROM civic_messaging.message WHERE phase = 'deferred' AND NOT planned";
        promote_head(self, &all(&self.rows(waiting, &[]).await?)?).await
    }

    async fn decided_since(&self, id: i64, decision: &str, why: &Reason) -> Result<Option<Timestamp>, Fault> {
        let since = "SELECT min(at) FROM civic_messaging.decision WHERE message = $1 AND decision = $2 AND rule = $3";
        let row = self.row(since, &[&id, &decision, &text(why.rule())]).await?.ok_or(Fault::Unreadable)?;
        Ok(row.try_get::<_, Option<i64>>(0)?.map(Timestamp::from_millis))
    }

    async fn set_state(
        &self,
        id: i64,
        delivery: Option<&str>,
        planned: bool,
        wait: Option<Duration>,
        settled: &Settle,
    ) -> Result<(), Fault> {
        self.call(SetState::new(id, delivery, planned, wait.map(millis), settled)).await?;
        if settled.state == State::Queued {
            self.notify(Notification::ToSend);
        }
        Ok(())
    }

    async fn set_delivery(
        &self,
        id: i64,
        delivery: &str,
        failed: bool,
        arrived: bool,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let set = "UPDATE civic_messaging.message
             SET delivery = $2,
                 fallback_due = CASE WHEN $5 THEN NULL WHEN $3 AND fallback_due > $4 THEN $4 ELSE fallback_due END
             WHERE id = $1";
        self.put(set, &[&id, &delivery, &failed, &now.as_millis(), &arrived]).await
    }

    async fn mark_unknown_since(&self, at: Timestamp, now: Timestamp) -> Result<u64, Fault> {
        let mark_unknown = "UPDATE civic_messaging.message
             SET state = 'unknown', due = $2, wait = $2::bigint - $4::bigint, lookups = 0, lease = NULL, reason = $3,
                 restored = $1, planned = FALSE, head = FALSE, seq = CASE seq WHEN 0 THEN id ELSE seq END
             WHERE state IN ('queued', 'claimed', 'sending') OR state = 'deferred' AND due <= $4";
        let look_up = now.plus(outbox::RESTORED_LOOK_UP).as_millis();
        self.change(mark_unknown, &[&at.as_millis(), &look_up, &RESTORED, &now.as_millis()]).await
    }

    async fn end_attempt(&self, id: i64, n: i32, end: &End) -> Result<Option<String>, Fault> {
        self.call(EndAttempt(id, n, end.clone())).await
    }

    async fn spend(&self, charges: &[Charge]) -> Result<Option<usize>, Fault> {
        self.call(Spend(charges.to_vec())).await
    }

    async fn check_recent(&self, check: Check) -> Result<Checked, Fault> {
        self.call(check).await
    }

    async fn change_counters(&self, changes: &[(String, i64)]) -> Result<(), Fault> {
        budgets::change(self, changes).await
    }

    async fn take_charges(&self, id: i64) -> Result<Vec<String>, Fault> {
        budgets::take_charges(self, id).await
    }

    async fn counters(&self, counters: &[String]) -> Result<Vec<(String, i64)>, Fault> {
        let of = "SELECT counter, units FROM civic_messaging.budget WHERE counter = ANY ($1)";
        let read = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?));
        self.rows(of, &[&counters]).await?.iter().map(read).collect()
    }

    async fn end_unknown(&self, id: i64) -> Result<(), Fault> {
        let set = "UPDATE civic_messaging.attempt SET outcome = 'unknown' WHERE message = $1 AND outcome IS NULL";
        self.put(set, &[&id]).await
    }

    async fn drop_windows(&self, id: i64) -> Result<(), Fault> {
        self.put("UPDATE civic_messaging.attempt SET repeatable_until = NULL WHERE message = $1", &[&id]).await
    }

    async fn end_windows(&self, after: i64, last: i64) -> Result<(), Fault> {
        let end = "UPDATE civic_messaging.attempt SET repeatable_until = begun
             WHERE message > $1 AND message <= $2 AND repeatable_until IS NOT NULL";
        self.put(end, &[&after, &last]).await
    }

    async fn has_unknown_attempt(&self, id: i64) -> Result<bool, Fault> {
        let unknown = "SELECT 1 FROM civic_messaging.attempt WHERE message = $1 AND outcome = 'unknown' LIMIT 1";
        Ok(self.row(unknown, &[&id]).await?.is_some())
    }

    async fn is_repeated(&self, id: i64) -> Result<bool, Fault> {
        let repeated = "SELECT 1 FROM civic_messaging.attempt
             WHERE message = $1 AND outcome = 'unknown' AND repeatable_until IS NOT NULL
               AND n > (SELECT earlier FROM civic_messaging.message WHERE id = $1) LIMIT 1";
        Ok(self.row(repeated, &[&id]).await?.is_some())
    }

    async fn expired(&self, now: Timestamp, max: u32) -> Result<Vec<i64>, Fault> {
        let expired = "SELECT id FROM civic_messaging.message
             WHERE not_after IS NOT NULL AND phase IN ('queued', 'deferred') AND not_after < $1
             ORDER BY not_after LIMIT $2";
        all(&self.rows(expired, &[&now.as_millis(), &i64::from(max)]).await?)
    }

    async fn insert_decision(&self, id: i64, decision: &str, why: &Reason, at: Timestamp) -> Result<(), Fault> {
        let insert = "INSERT INTO civic_messaging.decision (message, at, decision, rule, reason)
             VALUES ($1, $2, $3, $4, $5)";
        let (rule, reason) = (text(why.rule()), why.to_string());
        self.put(insert, &[&id, &at.as_millis(), &decision, &rule, &text(&reason)]).await
    }

    async fn insert_part(&self, id: i64, n: i32, part: &MessageId) -> Result<(), Fault> {
        self.call(InsertPart(id, n, part.clone())).await
    }

    async fn insert_part_of(&self, of: &DeliveryRow<'_>, id: i64) -> Result<(), Fault> {
        let insert = "INSERT INTO civic_messaging.part (gateway, account, id, message) VALUES ($1, $2, $3, $4)
             ON CONFLICT DO NOTHING";
        self.put(insert, &[&indexed(of.gateway), &text(of.account), &of.id.map(indexed), &id]).await
    }

    async fn lock_deliveries(&self, events: &[Incoming]) -> Result<(), Fault> {
        let mut names = Vec::new();
        for incoming in events {
            if let Event::Delivery(delivery) = &incoming.event {
                names.extend(delivery.id().map(|id| by_id(&delivery.envelope.gateway, id.as_str())));
                names.extend(delivery.key().map(by_key));
            }
        }
        lock_names(self, &names).await
    }

    async fn lock_message(&self, id: i64, parts: &[MessageId]) -> Result<(), Fault> {
        self.call(LockMessage(id, parts.to_vec())).await
    }

    async fn message_of_delivery(&self, of: &DeliveryRow<'_>) -> Result<Option<i64>, Fault> {
        let message = "SELECT message FROM (
                 SELECT 1 AS n, message FROM civic_messaging.part WHERE gateway = $1 AND account = $4 AND id = $2
                 UNION ALL
                 SELECT 2, message FROM civic_messaging.attempt WHERE reference = $3 AND gateway = $1 AND account = $4
                 UNION ALL
                 SELECT 3, m.id FROM civic_messaging.message AS m
                 JOIN civic_messaging.attempt AS a ON a.message = m.id AND a.gateway = $1 AND a.account = $4
                 WHERE m.key = $3) AS found
             ORDER BY n, message LIMIT 1";
        let (gateway, account) = (indexed(of.gateway), text(of.account));
        first(self.row(message, &[&gateway, &of.id.map(indexed), &of.key.map(indexed), &account]).await?.as_ref())
    }

    async fn set_mark(
        &self,
        line: &str,
        person: &str,
        of: &DeliveryRow<'_>,
        mark: Mark,
        now: Timestamp,
    ) -> Result<(), Fault> {
        // The greatest of both: NULLs are ignored.
        let set = "INSERT INTO civic_messaging.conversation AS c
                 (line, person, gateway, account, delivered_up_to, read_up_to, heard)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (line, person, gateway, account) DO UPDATE SET heard = greatest(c.heard, excluded.heard),
                 delivered_up_to = greatest(c.delivered_up_to, excluded.delivered_up_to),
                 read_up_to = greatest(c.read_up_to, excluded.read_up_to)";
        let (line, person) = (indexed(line), indexed(person));
        let (gateway, account) = (indexed(of.gateway), text(of.account));
        let [delivered, read] = [mark.delivered_up_to, mark.read_up_to].map(|at| at.map(Timestamp::as_millis));
        self.put(set, &[&line, &person, &gateway, &account, &delivered, &read, &now.as_millis()]).await
    }

    async fn drop_arrived(
        &self,
        line: &str,
        person: &str,
        of: &DeliveryRow<'_>,
        until: Timestamp,
    ) -> Result<(), Fault> {
        // Ordered, to prevent deadlocks.
        let arrived = "UPDATE civic_messaging.message SET fallback_due = NULL
             WHERE id IN (
                 SELECT m.id FROM civic_messaging.message AS m
                 JOIN civic_messaging.attempt AS a ON a.message = m.id AND a.n = m.attempts
                 WHERE m.conversation = hashtextextended($1 || chr(10) || $2, 0) AND m.recipient = $2
                   AND m.fallback_due IS NOT NULL AND m.state = 'accepted'
                   AND a.gateway = $3 AND a.account = $4 AND a.begun <= $5
                 ORDER BY m.id FOR UPDATE OF m)";
        let (gateway, account) = (indexed(of.gateway), text(of.account));
        self.put(arrived, &[&indexed(line), &text(person), &gateway, &account, &until.as_millis()]).await
    }

    async fn insert_early(&self, of: &DeliveryRow<'_>, receipt: &str, at: Timestamp) -> Result<(), Fault> {
        let insert = "INSERT INTO civic_messaging.early (gateway, account, id, key, delivery, at)
             VALUES ($1, $2, $3, $4, $5, $6)";
        let (gateway, account) = (indexed(of.gateway), text(of.account));
        let (id, key) = (of.id.map(indexed), of.key.map(indexed));
        self.put(insert, &[&gateway, &account, &id, &key, &receipt, &at.as_millis()]).await
    }

    async fn take_early(&self, id: i64) -> Result<Vec<String>, Fault> {
        self.call(TakeEarly(id)).await
    }

    async fn insert_event(&self, event: &EventRow<'_>) -> Result<bool, Fault> {
        if let EventRow { line, dedupe: None, kind, person: None, waits: false, body, files: 0, taken_in } = event {
            let line = line.map(|line| indexed(line).into_owned());
            let event = InsertEvent { line, kind, body: (*body).to_owned(), taken_in: taken_in.as_millis() };
            return self.call(event).await;
        }
        let EventRow { dedupe, kind, waits, body, files, taken_in, .. } = event;
        let insert =
            "INSERT INTO civic_messaging.event (line, dedupe, kind, person, body, taken_in, lease, waits, held)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, EXISTS (
                 SELECT 1 FROM civic_messaging.event WHERE line = $1 AND person = $4
                   AND acked IS NULL AND parked IS NULL AND (nacked OR held)))
             ON CONFLICT (dedupe) WHERE dedupe IS NOT NULL DO NOTHING RETURNING id, held";
        let (line, person) = (event.line.map(indexed), event.person.map(indexed));
        let (at, held_back) = (taken_in.as_millis(), (*files > 0).then(|| taken_in.plus(HELD_BACK).as_millis()));
        let row = self.row(insert, &[&line, dedupe, kind, &person, body, &at, &held_back, waits]).await?;
        let Some(id) = first(row.as_ref())? else { return Ok(false) };
        let is_held = row.map_or(Ok(false), |row| row.try_get(1))?;
        if let (true, Some(line), Some(person)) = (is_held, &line, &person) {
            // What holds it back may just have ended.
            lock_person(self, line, person).await?;
            let free = "UPDATE civic_messaging.event SET held = FALSE WHERE id = $1 AND NOT EXISTS (
                     SELECT 1 FROM civic_messaging.event WHERE line = $2 AND person = $3 AND id <> $1
                       AND acked IS NULL AND parked IS NULL AND (nacked OR held))";
            self.put(free, &[&id, line, person]).await?;
        }
        if *files > 0 {
            let insert = "INSERT INTO civic_messaging.file (event, n, state, due)
                 SELECT $1, n, 'waiting', $3 FROM generate_series(0, $2 - 1) AS n";
            self.put(insert, &[&id, &i32::try_from(*files).unwrap_or(i32::MAX), &at]).await?;
        }
        self.notify(Notification::ToRead);
        Ok(true)
    }

    async fn set_cursor(&self, channel: &str, place: &Cursor) -> Result<(), Fault> {
        let set = "INSERT INTO civic_messaging.cursor (channel, place) VALUES ($1, $2)
             ON CONFLICT (channel) DO UPDATE SET place = excluded.place";
        self.put(set, &[&indexed(channel), &text(place.as_str())]).await
    }

    async fn next_events(
        &self,
        of: &EventFilter,
        foreign: &[String],
        now: Timestamp,
        max: u32,
    ) -> Result<Vec<InboxEvent>, Fault> {
        let (at, max) = (now.as_millis(), i64::from(max));
        let rows = match of {
            EventFilter::Line(line) => self.rows(NEXT_OF_LINE, &[&at, &max, &indexed(line)]).await?,
            EventFilter::All { .. } if foreign.is_empty() => self.rows(NEXT_OF_ALL, &[&at, &max]).await?,
            EventFilter::All { .. } => self.rows(NEXT_OF_OWN, &[&at, &max, &foreign]).await?,
        };
        rows.iter().map(read_event).collect()
    }

    async fn hold_events(&self, events: &[InboxEvent], until: Timestamp) -> Result<(), Fault> {
        let hold = "UPDATE civic_messaging.event AS e SET lease = $3, wait = NULL, attempts = taken.attempts
             FROM unnest($1::bigint[], $2::int[]) AS taken (id, attempts) WHERE e.id = taken.id";
        let ids: Vec<_> = events.iter().map(|event| event.id).collect();
        let attempts: Vec<_> = events.iter().map(|event| event.attempts.cast_signed()).collect();
        self.put(hold, &[&ids, &attempts, &until.as_millis()]).await
    }

    async fn park_events(&self, ids: &[i64], now: Timestamp) -> Result<Vec<PersonOf>, Fault> {
        let park =
            "UPDATE civic_messaging.event SET parked = $2, held = FALSE WHERE id = ANY ($1) RETURNING line, person";
        let parked = self.rows(park, &[&ids, &now.as_millis()]).await?;
        parked.iter().filter_map(|row| person_row(row, 0).transpose()).collect()
    }

    async fn nack_event(
        &self,
        id: i64,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<Option<(bool, Option<PersonOf>)>, Fault> {
        let nack =
            "UPDATE civic_messaging.event SET nacked = TRUE, lease = $2, wait = greatest($2::bigint - $4::bigint, 0),
                attempts = CASE WHEN parked IS NULL THEN attempts ELSE 0 END,
                parked = CASE WHEN parked IS NULL AND attempts >= $3 THEN $4::bigint END,
                held = held AND NOT (parked IS NULL AND attempts >= $3)
             WHERE id = $1 AND acked IS NULL RETURNING parked IS NOT NULL, line, person";
        let of = "SELECT line, person FROM civic_messaging.event WHERE id = $1";
        if let Some((line, person)) = self.row(of, &[&id]).await?.map_or(Ok(None), |row| person_row(&row, 0))? {
            // Before any row.
            lock_person(self, &line, &person).await?;
        }
        let with: [&(dyn ToSql + Sync); 4] = [&id, &until.as_millis(), &EVENT_ATTEMPTS.cast_signed(), &now.as_millis()];
        let row = self.row(nack, &with).await?;
        row.map(|row| Ok((row.try_get(0)?, person_row(&row, 1)?))).transpose()
    }

    async fn hold_later_events(&self, id: i64, of: &PersonOf) -> Result<(), Fault> {
        // By time of arrival, so that no more of the conversation is read. Another transaction ends or leases what is
        // skipped.
        let hold = "UPDATE civic_messaging.event SET held = TRUE WHERE id IN (
                 SELECT id FROM civic_messaging.event
                 WHERE line = $2 AND person = $3 AND id > $1 AND acked IS NULL AND parked IS NULL AND NOT held
                   AND taken_in >= (SELECT taken_in FROM civic_messaging.event WHERE id = $1)
                   AND taken_in <= coalesce((
                       SELECT taken_in FROM civic_messaging.event
                       WHERE line = $2 AND person = $3 AND id > $1 AND acked IS NULL AND parked IS NULL
                         AND (nacked OR held) AND held ORDER BY id LIMIT 1), 9223372036854775807)
                 FOR UPDATE SKIP LOCKED)";
        self.put(hold, &[&id, &of.0, &of.1]).await
    }

    async fn release_events(&self, of: &PersonOf) -> Result<(), Fault> {
        let release = "WITH waiting AS MATERIALIZED (
                 SELECT id, nacked, held FROM civic_messaging.event
                 WHERE line = $1 AND person = $2 AND acked IS NULL AND parked IS NULL AND (nacked OR held)
                 ORDER BY id LIMIT $3)
             UPDATE civic_messaging.event SET held = FALSE WHERE id IN (
                 SELECT id FROM waiting
                 WHERE held AND id <= coalesce((SELECT min(id) FROM waiting WHERE nacked), 9223372036854775807))";
        lock_person(self, &of.0, &of.1).await?;
        if self.change(release, &[&of.0, &of.1, &i64::from(RELEASED_MAX)]).await? > 0 {
            self.notify(Notification::ToRead);
        }
        Ok(())
    }

    async fn parked_events(
        &self,
        of: &EventFilter,
        foreign: &[String],
        after: i64,
        max: u32,
    ) -> Result<Vec<InboxEvent>, Fault> {
        let parked = "SELECT id, line, kind, body, attempts, taken_in FROM civic_messaging.event
             WHERE acked IS NULL AND parked IS NOT NULL AND ($1::text IS NULL OR line = $1) AND id > $2
               AND (line IS NULL OR line <> ALL ($4))
             ORDER BY id LIMIT $3";
        let line = match of {
            EventFilter::Line(line) => Some(indexed(line)),
            EventFilter::All { .. } => None,
        };
        self.rows(parked, &[&line, &after, &i64::from(max), &foreign]).await?.iter().map(read_event).collect()
    }

    async fn ack_event(&self, id: i64, now: Timestamp) -> Result<Option<PersonOf>, Fault> {
        self.call(AckEvent(id, now.as_millis())).await
    }

    async fn attended_since(&self, at: Timestamp) -> Result<Vec<String>, Fault> {
        let attended = "SELECT id FROM civic_messaging.line WHERE attended > $1";
        all(&self.rows(attended, &[&at.as_millis()]).await?)
    }

    async fn statuses(&self, ids: Vec<i64>) -> Result<Vec<Status>, Fault> {
        Ok(statuses(self, ids).await?.into_iter().map(|(status, _)| status).collect())
    }

    async fn lock_links(&self, line: &str) -> Result<(), Fault> {
        self.alone()?;
        let lock = "SELECT pg_advisory_xact_lock(hashtextextended('civic_messaging.link' || chr(10) || $1, 0))";
        self.rows(lock, &[&indexed(line)]).await.map(drop)
    }

    async fn link(&self, line: &str, previous: &str) -> Result<Option<LinkRow>, Fault> {
        let of = "SELECT current, address, at FROM civic_messaging.link WHERE line = $1 AND previous = $2";
        let Some(row) = self.row(of, &[&indexed(line), &indexed(previous)]).await? else { return Ok(None) };
        Ok(Some(LinkRow { current: row.try_get(0)?, address: row.try_get(1)?, at: moment(&row, 2)? }))
    }

    async fn delete_link(&self, line: &str, previous: &str) -> Result<(), Fault> {
        let delete = "DELETE FROM civic_messaging.link WHERE line = $1 AND previous = $2";
        self.put(delete, &[&indexed(line), &indexed(previous)]).await
    }

    async fn move_links(&self, line: &str, from: &str, to: &LinkRow) -> Result<(), Fault> {
        let promote_head =
            "UPDATE civic_messaging.link SET current = $3, address = $4 WHERE line = $1 AND current = $2";
        self.put(promote_head, &[&indexed(line), &indexed(from), &indexed(&to.current), &to.address]).await
    }

    async fn set_link(&self, line: &str, previous: &str, to: &LinkRow) -> Result<(), Fault> {
        let set = "INSERT INTO civic_messaging.link (line, previous, current, address, at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (line, previous) DO UPDATE SET current = excluded.current, address = excluded.address,
                 at = excluded.at";
        let (line, previous, current) = (indexed(line), indexed(previous), indexed(&to.current));
        self.put(set, &[&line, &previous, &current, &to.address, &to.at.as_millis()]).await
    }

    async fn names_of(&self, line: &str, names: &[String]) -> Result<Vec<String>, Fault> {
        // An opt-out concerns other messages as well.
        self.alone()?;
        let of = "WITH now AS (
                 SELECT unnest($2::text[]) AS person
                 UNION SELECT current FROM civic_messaging.link WHERE line = $1 AND previous = ANY ($2))
             SELECT person FROM now
             UNION SELECT previous FROM civic_messaging.link
             WHERE line = $1 AND current IN (SELECT person FROM now)";
        let names: Vec<_> = names.iter().map(|name| text(name)).collect();
        all(&self.rows(of, &[&indexed(line), &names]).await?)
    }

    async fn set_heard(&self, heard: &Heard<'_>) -> Result<(), Fault> {
        conversations::set_heard(self, heard).await
    }

    async fn set_answered(&self, id: i64, now: Timestamp) -> Result<(), Fault> {
        conversations::set_answered(self, id, now).await
    }

    async fn merge_conversations(&self, line: &str, from: &str, to: &LinkRow) -> Result<(), Fault> {
        conversations::merge(self, line, from, to).await
    }

    async fn has_reply_since(&self, line: &str, names: &[String], at: Timestamp) -> Result<bool, Fault> {
        let of = "SELECT 1 FROM civic_messaging.message
             WHERE conversation
                   = ANY (SELECT hashtextextended($1 || chr(10) || person, 0) FROM unnest($2::text[]) AS person)
               AND line = $1 AND recipient = ANY ($2) AND queued >= $3 AND priority = $4 LIMIT 1";
        let priority = i16::from(priority(Purpose::Reply));
        Ok(self.row(of, &[&indexed(line), &names, &at.as_millis(), &priority]).await?.is_some())
    }

    async fn ended_by_opt_out(&self, line: &str, names: &[String], from: u8) -> Result<Vec<(i64, String)>, Fault> {
        // Each by its index, and in one order, to prevent deadlocks.
        let of = "SELECT id, lane FROM civic_messaging.message
             WHERE conversation
                   = ANY (SELECT hashtextextended($1 || chr(10) || person, 0) FROM unnest($2::text[]) AS person)
               AND line = $1 AND recipient = ANY ($2) AND priority >= $3
               AND (settled IS NULL OR state = 'parked' OR fallback_due IS NOT NULL)
             UNION SELECT id, lane FROM civic_messaging.message
             WHERE hashtextextended(fallback_recipient, 0)
                   = ANY (SELECT hashtextextended(person, 0) FROM unnest($2::text[]) AS person)
               AND line = $1 AND fallback_recipient = ANY ($2) AND priority >= $3 AND fallback_due IS NOT NULL
             UNION SELECT instead.id, instead.lane FROM civic_messaging.message AS first
             JOIN civic_messaging.message AS instead ON instead.instead_of = first.id
             WHERE first.conversation
                   = ANY (SELECT hashtextextended($1 || chr(10) || person, 0) FROM unnest($2::text[]) AS person)
               AND first.line = $1 AND first.recipient = ANY ($2) AND instead.priority >= $3
               AND instead.settled IS NULL
             ORDER BY id";
        let rows = self.rows(of, &[&indexed(line), &names, &i16::from(from)]).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    async fn drop_fallbacks(&self, id: i64, line: &str, names: &[String], from: u8) -> Result<(), Fault> {
        let drop_all = "UPDATE civic_messaging.message SET fallback_due = NULL
             WHERE id IN (
                 SELECT id FROM civic_messaging.message
                 WHERE id = $4 OR fallback_due IS NOT NULL AND line = $1 AND recipient = ANY ($2) AND priority >= $3
                   AND conversation
                       = ANY (SELECT hashtextextended($1 || chr(10) || person, 0) FROM unnest($2::text[]) AS person)
                 ORDER BY id FOR UPDATE)";
        self.put(drop_all, &[&indexed(line), &names, &i16::from(from), &id]).await
    }

    async fn instead_of(&self, id: i64) -> Result<Option<i64>, Fault> {
        let instead = "SELECT id FROM civic_messaging.message WHERE instead_of = $1";
        first(self.row(instead, &[&id]).await?.as_ref())
    }

    async fn take_fallbacks(&self, by: Option<Timestamp>) -> Result<Vec<FallbackRow>, Fault> {
        fallbacks(self, FALLING_HELD, by).await
    }

    async fn set_fallback(&self, id: i64, again: Option<Timestamp>, looked_up: bool) -> Result<(), Fault> {
        let set = "UPDATE civic_messaging.message SET fallback_due = $2, lookups = lookups + $3 WHERE id = $1";
        self.put(set, &[&id, &again.map(Timestamp::as_millis), &i32::from(looked_up)]).await
    }

    async fn seen(&self) -> Result<Option<Timestamp>, Fault> {
        let seen = self.row("SELECT seen FROM civic_messaging.clock", &[]).await?;
        seen.map(|row| moment(&row, 0)).transpose()
    }

    async fn set_seen(&self, now: Timestamp) -> Result<(), Fault> {
        let set = "INSERT INTO civic_messaging.clock (one, seen) VALUES (1, $1)
             ON CONFLICT (one) DO UPDATE SET seen = excluded.seen";
        self.put(set, &[&now.as_millis()]).await
    }

    async fn message_waits(&self, after: i64, max: u32) -> Result<Vec<MessageWait>, Fault> {
        let waits = "SELECT id, state, planned, due, wait, lease, fallback_due,
                 CASE WHEN fallback_due IS NOT NULL THEN fallback END
             FROM civic_messaging.message WHERE id > $1 ORDER BY id LIMIT $2";
        let at = |row: &Row, column| Ok::<_, Fault>(row.try_get::<_, Option<i64>>(column)?.map(Timestamp::from_millis));
        let read = |row: &Row| {
            Ok(MessageWait {
                id: row.try_get(0)?,
                state: state(row, 1)?,
                planned: row.try_get(2)?,
                due: at(row, 3)?,
                wait: row.try_get::<_, Option<i64>>(4)?.map(wait),
                lease: at(row, 5)?,
                fallback_due: at(row, 6)?,
                fallback: row.try_get::<_, Option<&str>>(7)?.and_then(|fallback| serde_json::from_str(fallback).ok()),
            })
        };
        self.rows(waits, &[&after, &i64::from(max)]).await?.iter().map(read).collect()
    }

    async fn set_message_wait(&self, before: &MessageWait, after: &MessageWait) -> Result<bool, Fault> {
        let set = "UPDATE civic_messaging.message
             SET due = $6, lease = $7, fallback_due = $8, planned = $9,
                 state = CASE WHEN $10 THEN 'deferred' ELSE state END, head = head AND NOT $10
             WHERE id = $1 AND state = $2 AND due IS NOT DISTINCT FROM $3 AND lease IS NOT DISTINCT FROM $4
               AND fallback_due IS NOT DISTINCT FROM $5";
        let times = |of: &MessageWait| [of.due, of.lease, of.fallback_due].map(|at| at.map(Timestamp::as_millis));
        let ([due, lease, fallback_due], [until, held, falls]) = (times(before), times(after));
        let (state, leaves) = (before.state.as_str(), after.planned != before.planned);
        let with: [&(dyn ToSql + Sync); 10] =
            [&before.id, &state, &due, &lease, &fallback_due, &until, &held, &falls, &after.planned, &leaves];
        Ok(self.change(set, &with).await? == 1)
    }

    async fn event_waits(&self, after: i64, max: u32) -> Result<Vec<EventWait>, Fault> {
        let waits = "(SELECT id, lease, wait FROM civic_messaging.event
             WHERE acked IS NULL AND parked IS NULL AND NOT held AND id > $1 ORDER BY id LIMIT $2)
             UNION ALL (SELECT id, lease, wait FROM civic_messaging.event
             WHERE acked IS NULL AND parked IS NULL AND (nacked OR held) AND held AND id > $1 ORDER BY id LIMIT $2)
             ORDER BY id LIMIT $2";
        let read = |row: &Row| {
            let lease = row.try_get::<_, Option<i64>>(1)?.map(Timestamp::from_millis);
            Ok(EventWait { id: row.try_get(0)?, lease, wait: row.try_get::<_, Option<i64>>(2)?.map(wait) })
        };
        self.rows(waits, &[&after, &i64::from(max)]).await?.iter().map(read).collect()
    }

    async fn set_event_wait(&self, before: EventWait, until: Timestamp) -> Result<bool, Fault> {
        let set = "UPDATE civic_messaging.event SET lease = $3 WHERE id = $1 AND lease = $2 AND acked IS NULL";
        let lease = before.lease.map(Timestamp::as_millis);
        Ok(self.change(set, &[&before.id, &lease, &until.as_millis()]).await? == 1)
    }

    async fn bound_files(&self, now: Timestamp, leases: Leases) -> Result<u64, Fault> {
        let bound = "UPDATE civic_messaging.file
             SET due = CASE state WHEN 'waiting' THEN $1::bigint WHEN 'fetching' THEN $2 ELSE $3 END
             WHERE due IS NOT NULL AND due > $1
               AND due > CASE state WHEN 'waiting' THEN $1 WHEN 'fetching' THEN $2 ELSE $3 END";
        let (fetching, removing) = (now.plus(leases.file).as_millis(), now.plus(leases.removal).as_millis());
        self.change(bound, &[&now.as_millis(), &fetching, &removing]).await
    }

    async fn bound_attended(&self, now: Timestamp) -> Result<(), Fault> {
        self.put("UPDATE civic_messaging.line SET attended = $1 WHERE attended > $1", &[&now.as_millis()]).await
    }

    async fn is_removing(&self, sha256: &Digest) -> Result<bool, Fault> {
        file::lock(self, std::slice::from_ref(sha256)).await?;
        let removing = "SELECT 1 FROM civic_messaging.file WHERE sha256 = $1 AND state = 'removing' LIMIT 1";
        Ok(self.row(removing, &[&sha256.to_string()]).await?.is_some())
    }

    async fn set_file(&self, hold: FileHold, file: &FileRow<'_>) -> Result<bool, Fault> {
        let set = "UPDATE civic_messaging.file
             SET state = $4, due = $5, sha256 = $6, len = $7, mime = $8, reason = $9
             WHERE event = $1 AND n = $2 AND tries = $3 AND state IN ('fetching', 'held')";
        let (FileHold { event, n, tries }, FileRow { state, due, stored, reason }) = (hold, file);
        let (due, reason) = (due.map(Timestamp::as_millis), reason.map(text));
        let sha256 = stored.map(|file| file.sha256.to_string());
        let len = stored.map(|file| i64::try_from(file.len).unwrap_or(i64::MAX));
        let mime = stored.map(|file| text(&file.mime));
        // Of two files of one event recorded at the same time, the later one must see the other.
        self.row("SELECT 1 FROM civic_messaging.event WHERE id = $1 FOR UPDATE", &[&event]).await?;
        let set = self.change(set, &[&event, &n, &tries, state, &due, &sha256, &len, &mime, &reason]).await?;
        // Unless somebody has leased it since.
        let release = "UPDATE civic_messaging.event SET lease = NULL
             WHERE id = $1 AND acked IS NULL AND lease = taken_in + $2 AND NOT EXISTS (
                 SELECT 1 FROM civic_messaging.file WHERE event = $1 AND state IN ('waiting', 'fetching'))";
        let held_back = i64::try_from(HELD_BACK.as_millis()).unwrap_or(i64::MAX);
        self.put(release, &[&event, &held_back]).await?;
        Ok(set == 1)
    }
}

/// The events that are not leased, and do not wait behind a failed event of their person.
macro_rules! open_events {
    ($of:literal) => {
        concat!(
            "acked IS NULL AND parked IS NULL AND NOT held AND (lease IS NULL OR lease <= $1) ",
            $of,
            " AND NOT EXISTS (SELECT 1 FROM civic_messaging.event AS f WHERE f.acked IS NULL AND f.parked IS NULL
                              AND (f.nacked OR f.held) AND f.line = e.line AND f.person = e.person AND f.id < e.id)"
        )
    };
}

/// Whoever leases one now has locked it.
pub(super) const NEXT_OF_ALL: &str = concat!(
    "SELECT id, line, kind, body, attempts, taken_in FROM civic_messaging.event AS e WHERE ",
    open_events!(""),
    " ORDER BY id LIMIT $2 FOR UPDATE OF e SKIP LOCKED"
);
pub(super) const NEXT_OF_LINE: &str = concat!(
    "SELECT id, line, kind, body, attempts, taken_in FROM civic_messaging.event AS e WHERE ",
    open_events!("AND line = $3"),
    " ORDER BY id LIMIT $2 FOR UPDATE OF e SKIP LOCKED"
);

/// All lines but these, line by line, so that events left to others are not scanned; a few more of each line than
/// needed, because some may be locked.
pub(super) const NEXT_OF_OWN: &str = concat!(
    "WITH RECURSIVE lines (line) AS (
         (SELECT line FROM civic_messaging.event
          WHERE acked IS NULL AND parked IS NULL AND NOT held AND line IS NOT NULL
          ORDER BY line LIMIT 1)
         UNION ALL
         SELECT (SELECT n.line FROM civic_messaging.event AS n
                 WHERE n.acked IS NULL AND n.parked IS NULL AND NOT n.held AND n.line > lines.line
                 ORDER BY n.line LIMIT 1)
         FROM lines WHERE lines.line IS NOT NULL),
     found AS MATERIALIZED (
         SELECT of_line.id FROM lines, LATERAL (
             SELECT id FROM civic_messaging.event AS e WHERE ",
    open_events!("AND e.line = lines.line"),
    "        ORDER BY id LIMIT $2::bigint + 32) AS of_line
         WHERE lines.line IS NOT NULL AND lines.line <> ALL ($3)
         UNION ALL (SELECT id FROM civic_messaging.event AS e WHERE ",
    open_events!("AND e.line IS NULL"),
    "    ORDER BY id LIMIT $2::bigint + 32))
     SELECT id, line, kind, body, attempts, taken_in FROM civic_messaging.event AS e
     WHERE id IN (SELECT found.id FROM found) AND acked IS NULL AND parked IS NULL AND NOT held
       AND (lease IS NULL OR lease <= $1)
     ORDER BY id LIMIT $2 FOR UPDATE OF e SKIP LOCKED"
);

/// Returns the number in a row.
fn first(row: Option<&Row>) -> Result<Option<i64>, Fault> {
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Returns the first column of all rows.
pub(super) fn all<'a, T: FromSql<'a>>(rows: &'a [Row]) -> Result<Vec<T>, Fault> {
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

/// Reads the line and the person of an event.
fn person_row(row: &Row, column: usize) -> Result<Option<PersonOf>, Fault> {
    Ok(row.try_get::<_, Option<String>>(column)?.zip(row.try_get(column + 1)?))
}

/// Reads a delivered event.
fn read_event(row: &Row) -> Result<InboxEvent, Fault> {
    let what = EventContent::read(row.try_get(2)?, row.try_get(3)?);
    let (attempts, taken_in) = (row.try_get::<_, i32>(4)?.unsigned_abs(), moment(row, 5)?);
    Ok(InboxEvent { id: row.try_get(0)?, line: row.try_get(1)?, what, attempts, taken_in })
}

/// The messages whose fallbacks are due to be examined by a time, or all with a fallback.
macro_rules! with_fallback {
    ($lock:literal) => {
        concat!(
            "SELECT id, line, key, fallback, state, delivery, restored IS NOT NULL,
                EXISTS (SELECT 1 FROM civic_messaging.attempt WHERE message = m.id AND outcome = 'unknown')
                OR EXISTS (SELECT 1 FROM civic_messaging.part WHERE message = m.id),
                EXISTS (SELECT 1 FROM civic_messaging.attempt WHERE message = m.id AND kind = 'opted_out')
                OR EXISTS (SELECT 1 FROM civic_messaging.decision WHERE message = m.id AND decision = 'opt_out'), lookups,
                EXISTS (SELECT 1 FROM civic_messaging.decision WHERE message = m.id AND decision = 'refuse'), ",
            mark!(),
            " FROM civic_messaging.message AS m
             WHERE fallback_due IS NOT NULL AND ($1::bigint IS NULL OR fallback_due <= $1)
             ORDER BY fallback_due, id LIMIT $2",
            $lock
        )
    };
}

/// Reads them without locks.
pub(super) const FALLING: &str = with_fallback!("");

/// Locks them, and skips those that others have locked.
const FALLING_HELD: &str = with_fallback!(" FOR UPDATE SKIP LOCKED");

pub(super) async fn fallbacks(
    db: &Session,
    due: &'static str,
    by: Option<Timestamp>,
) -> Result<Vec<FallbackRow>, Fault> {
    let max = by.map(|_| i64::from(FALLBACKS_MAX));
    let mut due_now = Vec::new();
    for row in db.rows(due, &[&by.map(Timestamp::as_millis), &max]).await? {
        let delivery = reached(row.try_get(5)?, row.try_get(11)?);
        let restored = row.try_get(6)?;
        let is_unknown = restored || row.try_get(7)?;
        let (state, opted_out, refused) = (state(&row, 4)?, row.try_get(8)?, row.try_get(10)?);
        let first = First { state, delivery, is_unknown, opted_out, refused, restored };
        let fallback = serde_json::from_str(row.try_get(3)?).ok();
        let (id, line, key, lookups) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, count(&row, 9)?);
        due_now.push(FallbackRow { id, line, key, lookups, fallback, first });
    }
    Ok(due_now)
}
