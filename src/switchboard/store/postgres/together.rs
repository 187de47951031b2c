//! Statements merged over the pieces of work that share a session.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::sync::{Mutex, PoisonError};
use std::task::Poll;

use tokio::sync::oneshot;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::super::super::charge::{self, Charge};
use super::super::super::directory::PersonKey;
use super::super::super::engine::Notification;
use super::super::super::flow::Linked;
use super::super::super::limits::{Check, Checked};
use super::super::super::record::{Attempt, End, Hold, MessageRow, PersonOf, Settle};
use super::super::super::register::Standing;
use super::super::super::status::PRIORITY_LAST;
use super::locks::{by_id, by_key, lock_names};
use super::session::{Fault, Session};
use super::standing::{links_of, share, standing_of};
use super::{budgets, indexed, limits, state, text};
use crate::model::clock::Timestamp;
use crate::model::id::MessageId;
use crate::model::message::Price;

/// A statement issued by a piece of work.
pub(super) trait Call: Sized + Send + Sync {
    type Done: Send;

    /// Returns the queue of waiting calls of this kind.
    fn gather(of: &Gathers) -> &Gather<Self>;

    /// Runs several calls as one statement: one result each, in order.
    fn all(db: &Session, calls: &[Self]) -> impl Future<Output = Result<Vec<Self::Done>, Fault>> + Send;
}

/// Calls of one statement that wait for those of the other pieces.
pub(super) struct Gather<C: Call>(Mutex<Vec<(C, oneshot::Sender<C::Done>)>>);

impl<C: Call> Default for Gather<C> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<C: Call> Gather<C> {
    /// Runs a call merged with those that other pieces make at the same time. The first runs the statement, once all
    /// pieces have advanced as far as they can.
    async fn call(&self, db: &Session, call: C) -> Result<C::Done, Fault> {
        let (sender, receiver) = oneshot::channel();
        if self.push(call, sender) {
            pass().await;
            let (calls, senders): (Vec<_>, Vec<_>) = self.take().into_iter().unzip();
            for (done, sender) in C::all(db, &calls).await?.into_iter().zip(senders) {
                drop(sender.send(done));
            }
        }
        receiver.await.map_err(|_| Fault::GivenUp)
    }

    /// Returns `true` for the first.
    fn push(&self, call: C, sender: oneshot::Sender<C::Done>) -> bool {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push((call, sender));
        waiting.len() == 1
    }

    fn take(&self) -> Vec<(C, oneshot::Sender<C::Done>)> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Session {
    /// Runs a statement, merged with those of other pieces that share this session.
    pub(super) async fn call<C: Call>(&self, call: C) -> Result<C::Done, Fault> {
        match self.gathers() {
            Some(gathers) => C::gather(gathers).call(self, call).await,
            None => C::all(self, &[call]).await?.pop().ok_or(Fault::Unreadable),
        }
    }
}

/// Yields to the other pieces once.
async fn pass() {
    let mut passed = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut passed, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The merged statements.
#[derive(Default)]
pub(super) struct Gathers {
    lock_conversation: Gather<LockConversation>,
    lock_message: Gather<LockMessage>,
    message: Gather<MessageOf>,
    begin: Gather<BeginOf>,
    end_attempt: Gather<EndAttempt>,
    insert_part: Gather<InsertPart>,
    set_state: Gather<SetState>,
    promote_head: Gather<PromoteHead>,
    insert_event: Gather<InsertEvent>,
    take_early: Gather<TakeEarly>,
    ack_event: Gather<AckEvent>,
    share_register: Gather<ShareRegister>,
    links_of: Gather<LinksOf>,
    standing_of: Gather<StandingOf>,
    spend: Gather<Spend>,
    check: Gather<Check>,
    /// Charges and checks of one moment are counted before those of the next.
    spending: tokio::sync::Mutex<()>,
}

/// Returns one empty result for each call.
fn done(calls: usize) -> Vec<()> {
    vec![(); calls]
}

/// The lock of a line and recipient.
pub(super) struct LockConversation(pub(super) String, pub(super) String);

impl Call for LockConversation {
    type Done = ();

    fn gather(of: &Gathers) -> &Gather<Self> {
        &of.lock_conversation
    }

    async fn all(db: &Session, calls: &[Self]) -> Result<Vec<()>, Fault> {
        let lock = "SELECT pg_advisory_xact_lock(conversation) FROM (
                 SELECT DISTINCT hashtextextended(line || chr(10) || recipient, 0) AS conversation
                 FROM unnest($1::text[], $2::text[]) AS of (line, recipient) ORDER BY conversation) AS all_of";
        let (lines, recipients): (Vec<_>, Vec<_>) = calls.iter().map(|Self(line, to)| (&**line, &**to)).unzip();
        db.rows(lock, &[&lines, &recipients]).await?;
        Ok(done(calls.len()))
    }
}

/// The lock of a message and its ids to come.
pub(super) struct LockMessage(pub(super) i64, pub(super) Vec<MessageId>);

impl Call for LockMessage {
    type Done = ();

    fn gather(of: &Gathers) -> &Gather<Self> {
        &of.lock_message
    }

    async fn all(db: &Session, calls: &[Self]) -> Result<Vec<()>, Fault> {
        let of = "SELECT m.key, (SELECT gateway FROM civic_messaging.attempt WHERE message = m.id ORDER BY n DESC LIMIT 1),
                 ARRAY(SELECT reference FROM civic_messaging.attempt WHERE message = m.id AND reference IS NOT NULL), m.id
             FROM civic_messaging.message AS m WHERE m.id = ANY ($1)";
        let ids: Vec<_> = calls.iter().map(|call| call.0).collect();
        let rows = db.rows(of, &[&ids]).await?;
        let parts: HashMap<_, _> = calls.iter().map(|Self(id, parts)| (*id, parts)).collect();
        let mut names = Vec::new();
        for row in &rows {
            let gateway = row.try_get::<_, Option<&str>>(1)?.unwrap_or_default();
            let references: Vec<&str> = row.try_get(2)?;
            names.extend(references.into_iter().chain([row.try_get(0)?]).map(by_key));
            let parts = parts.get(&row.try_get::<_, i64>(3)?).into_iter().copied().flatten();
            names.extend(parts.map(|part| by_id(gateway, part.as_str())));
        }
        lock_names(db, &names).await?;
        Ok(done(calls.len()))
    }
}

/// A message, with the fence that it must have.
pub(super) struct MessageOf(pub(super) i64, pub(super) Option<i64>);

impl Call for MessageOf {
    type Done = Option<MessageRow>;

    fn gather(of: &Gathers) -> &Gather<Self> {
        &of.message
    }

    async fn all(db: &Session, calls: &[Self]) -> Result<Vec<Option<MessageRow>>, Fault> {
        let lock = "SELECT pg_advisory_xact_lock(conversation) FROM (
                 SELECT DISTINCT m.conversation FROM unnest($1::bigint[], $2::bigint[]) AS of (id, fence)
                 JOIN civic_messaging.message AS m ON m.id = of.id AND (of.fence IS NULL OR m.fence = of.fence)
                 ORDER BY conversation) AS all_of";
        let of = "SELECT m.line, m.recipient, m.priority, m.state, m.delivery, m.attempts, m.id, m.fence, m.lane
             FROM unnest($1::bigint[], $2::bigint[]) AS of (id, fence)
             JOIN civic_messaging.message AS m ON m.id = of.id AND (of.fence IS NULL OR m.fence = of.fence)
             ORDER BY m.id FOR UPDATE OF m";
        let (ids, fences): (Vec<_>, Vec<_>) = calls.iter().map(|Self(id, fence)| (*id, *fence)).unzip();
        db.rows(lock, &[&ids, &fences]).await?;
        let rows = db.rows(of, &[&ids, &fences]).await?;
        let rows = rows.iter().map(|row| Ok((row.try_get::<_, i64>(6)?, row)));
        let rows = rows.collect::<Result<HashMap<_, _>, Fault>>()?;
        let read = |Self(id, fence): &Self| {
            let Some(row) = rows.get(id) else { return Ok(None) };
            let (of, row) = (row.try_get::<_, i64>(7)?, message_row(row)?);
            Ok(fence.is_none_or(|fence| fence == of).then_some(row))
        };
        calls.iter().map(read).collect()
    }
}

/// Reads a message that is about to change.
fn message_row(row: &Row) -> Result<MessageRow, Fault> {
    let priority = u8::try_from(row.try_get::<_, i16>(2)?).unwrap_or(PRIORITY_LAST);
    let (line, recipient, state) = (row.try_get(0)?, row.try_get(1)?, state(row, 3)?);
    let (delivery, attempts, lane) = (row.try_get(4)?, row.try_get(5)?, row.try_get(8)?);
    Ok(MessageRow { line, recipient, priority, lane, state, delivery, attempts })
}

/// A claim, and the attempt that begins.
pub(super) struct BeginOf(pub(super) Hold, pub(super) Attempt);

impl Call for BeginOf {
    type Done = bool;

    fn gather(of: &Gathers) -> &Gather<Self> {
        &of.begin
    }

    async fn all(db: &Session, calls: &[Self]) -> Result<Vec<bool>, Fault> {
        let begin = "WITH begun AS (
                 UPDATE civic_messaging.message AS m SET state = 'sending', attempts = m.attempts + 1
                 FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::bigint[],
                             $8::text[])
                     AS of (id, fence, at, gateway, account, reference, repeatable_until, charges)
                 WHERE m.id = of.id AND m.fence = of.fence AND m.state = 'claimed' AND m.lease > of.at
                 RETURNING m.id, m.attempts, of.gateway, of.account, of.at, of.reference, of.repeatable_until, of.charges)
             INSERT INTO civic_messaging.attempt
                 (message, n, gateway, account, begun, reference, repeatable_until, charges)
             SELECT * FROM begun RETURNING message";
        let ids: Vec<_> = calls.iter().map(|Self(hold, _)| hold.id.0).collect();
        let fences: Vec<_> = calls.iter().map(|Self(hold, _)| hold.fence).collect();
        let at: Vec<_> = calls.iter().map(|Self(_, attempt)| attempt.at.as_millis()).collect();
        let gateways: Vec<_> = calls.iter().map(|Self(_, attempt)| text(&attempt.gateway)).collect();
        let accounts: Vec<_> = calls.iter().map(|Self(_, attempt)| text(&attempt.account)).collect();
        let references: Vec<_> = calls.iter().map(|Self(_, attempt)| attempt.reference.as_deref()).collect();
        let until: Vec<_> =
            calls.iter().map(|Self(_, attempt)| attempt.repeatable_until.map(Timestamp::as_millis)).collect();
        let charges: Vec<_> = calls.iter().map(|Self(_, attempt)| charge::stored(&attempt.charges)).collect();
        let begun = db.rows(begin, &[&ids, &fences, &at, &gateways, &accounts, &references, &until, &charges]).await?;
        let begun = begun.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
        Ok(ids.iter().map(|id| begun.contains(id)).collect())
    }
}

/// The shared lock of the register of opt-outs.
pub(super) struct ShareRegister;

impl Call for ShareRegister {
    type Done = ();

    fn gather(of: &Gathers) -> &Gather<Self> {
        &of.share_register
    }

    async fn all(db: &Session, calls: &[Self]) -> Result<Vec<()>, Fault> {
        share(db).await?;
        Ok(done(calls.len()))
    }
}

/// The names of a person, for which to find links.
pub(super) struct LinksOf(pub(super) Vec<String>);

impl Call for LinksOf {
    type Done = Vec<Linked>;

    fn gather(of: &Gathers) -> &Gather<Self> {
        &of.links_of
    }

    async fn all(db: &Session, calls: &[Self]) -> Result<Vec<Self::Done>, Fault> {
        links_of(db, &calls.iter().map(|call| &*call.0).collect::<Vec<_>>()).await
    }
}

/// A controller, and the keys of a person for whom to find opt-outs.
pub(super) struct StandingOf(pub(super) String, pub(super) Vec<PersonKey>);

impl Call for StandingOf {
    type Done = Vec<Standing>;

    fn gather(of: &Gathers) -> &Gather<Self> {
        &of.standing_of
    }

    async fn all(db: &Session, calls: &[Self]) -> Result<Vec<Self::Done>, Fault> {
        let persons = calls.iter().map(|Self(controller, keys)| (&**controller, &**keys));
        standing_of(db, &persons.collect::<Vec<_>>()).await
    }
}

/// The charges of an attempt.
pub(super) struct Spend(pub(super) Vec<Charge>);

impl Call for Spend {
    type Done = Option<usize>;

    fn gather(of: &Gathers) -> &Gather<Self> {
        &of.spend
    }

    async fn all(db: &Session, calls: &[Self]) -> Result<Vec<Option<usize>>, Fault> {
        let _turn = match db.gathers() {
            Some(gathers) => Some(gathers.spending.lock().await),
            None => None,
        };
        budgets::spend(db, &calls.iter().map(|call| &*call.0).collect::<Vec<_>>()).await
    }
}

impl Call for Check {
    type Done = Checked;

    fn gather(of: &Gathers) -> &Gather<Self> {
        &of.check
    }

    async fn all(db: &Session, calls: &[Self]) -> Result<Vec<Checked>, Fault> {
        let _turn = match db.gathers() {
            Some(gathers) => Some(gathers.spending.lock().await),
            None => None,
        };
        limits::check(db, &calls.iter().collect::<Vec<_>>()).await
    }
}

/// A message, the number of an attempt, and its end.
pub(super) struct EndAttempt(pub(super) i64, pub(super) i32, pub(super) End);

impl Call for EndAttempt {
    type Done = Option<String>;

    fn gather(of: &Gathers) -> &Gather<Self> {
        &of.end_attempt
    }

    async fn all(db: &Session, calls: &[Self]) -> Result<Vec<Self::Done>, Fault> {
        let set = "UPDATE civic_messaging.attempt AS a
             SET ended = of.ended, outcome = of.outcome, kind = of.kind, code = of.code, passing = of.passing,
                 segments = of.segments, price = of.price, currency = of.currency, bound = of.bound
             FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::bool[], $8::int[],
                         $9::bigint[], $10::text[], $11::bool[])
                 AS of (message, n, ended, outcome, kind, code, passing, segments, price, currency, bound)
             WHERE a.message = of.message AND a.n = of.n AND a.outcome IS NULL
             RETURNING a.message, a.charges";
        let ids: Vec<_> = calls.iter().map(|call| call.0).collect();
        let numbers: Vec<_> = calls.iter().map(|call| call.1).collect();
        let ends = || calls.iter().map(|call| &call.2);
        let ended: Vec<_> = ends().map(|end| end.now.as_millis()).collect();
        let outcomes: Vec<_> = ends().map(|end| end.outcome).collect();
        let kinds: Vec<_> = ends().map(|end| end.kind).collect();
        let codes: Vec<_> = ends().map(|end| end.code.as_deref().map(text)).collect();
        let passing: Vec<_> = ends().map(|end| end.passing).collect();
        let segments: Vec<_> = ends().map(|end| end.segments.and_then(|n| i32::try_from(n).ok())).collect();
        let prices: Vec<_> = ends().map(|end| end.price.as_ref().map(Price::micros)).collect();
        let money: Vec<_> = ends().map(|end| end.price.as_ref().and_then(Price::as_money)).collect();
        let currencies: Vec<_> =
            money.iter().map(|money| money.as_ref().map(|money| text(money.currency.as_str()))).collect();
        let bound: Vec<_> = ends().map(|end| end.bound).collect();
        let with: [&(dyn ToSql + Sync); 11] =
            [&ids, &numbers, &ended, &outcomes, &kinds, &codes, &passing, &segments, &prices, &currencies, &bound];
        let mut charges = HashMap::new();
        for row in db.rows(set, &with).await? {
            charges.insert(row.try_get::<_, i64>(0)?, row.try_get(1)?);
        }
        Ok(ids.iter().map(|id| charges.remove(id).flatten()).collect())
    }
}

/// A message, the number of an attempt, and the id from its gateway.
pub(super) struct InsertPart(pub(super) i64, pub(super) i32, pub(super) MessageId);

impl Call for InsertPart {
    type Done = ();

    fn gather(of: &Gathers) -> &Gather<Self> {
        &of.insert_part
    }

    async fn all(db: &Session, calls: &[Self]) -> Result<Vec<()>, Fault> {
        let insert = "INSERT INTO civic_messaging.part (gateway, account, id, message)
             SELECT a.gateway, a.account, of.id, a.message FROM unnest($1::bigint[], $2::int[], $3::text[]) AS of (message, n, id)
             JOIN civic_messaging.attempt AS a ON a.message = of.message AND a.n = of.n
             ON CONFLICT DO NOTHING";
        let ids: Vec<_> = calls.iter().map(|call| call.0).collect();
        let numbers: Vec<_> = calls.iter().map(|call| call.1).collect();
        let parts: Vec<_> = calls.iter().map(|call| indexed(call.2.as_str())).collect();
        db.change(insert, &[&ids, &numbers, &parts]).await?;
        Ok(done(calls.len()))
    }
}

/// A message, and its new state.
pub(super) struct SetState {
    pub(super) id: i64,
    pub(super) delivery: Option<String>,
    pub(super) planned: bool,
    pub(super) wait: Option<i64>,
    pub(super) state: &'static str,
    pub(super) due: Option<i64>,
    pub(super) reason: Option<String>,
    pub(super) settled: Option<i64>,
    pub(super) fallbacks_after: Option<i64>,
    pub(super) now: i64,
}

impl SetState {
    pub(super) fn new(id: i64, delivery: Option<&str>, planned: bool, wait: Option<i64>, settled: &Settle) -> Self {
        Self {
            id,
            delivery: delivery.map(str::to_owned),
            planned,
            wait,
            state: settled.state.as_str(),
            due: settled.due.map(Timestamp::as_millis),
            reason: settled.reason.as_deref().map(|reason| text(reason).into_owned()),
            settled: settled.settled().map(Timestamp::as_millis),
            fallbacks_after: settled.fallbacks_after(delivery).map(Timestamp::as_millis),
            now: settled.now.as_millis(),
        }
    }
}

impl Call for SetState {
    type Done = ();

    fn gather(of: &Gathers) -> &Gather<Self> {
        &of.set_state
    }

    async fn all(db: &Session, calls: &[Self]) -> Result<Vec<()>, Fault> {
        let set = "UPDATE civic_messaging.message AS m
             SET state = of.state, due = of.due, reason = of.reason, lease = NULL, settled = of.settled,
                 delivery = of.delivery,
                 fallback_due = CASE WHEN m.fallback_due > of.fallbacks_after THEN of.now ELSE m.fallback_due END,
                 head = FALSE, planned = of.planned, wait = of.wait, seq = CASE m.seq WHEN 0 THEN m.id ELSE m.seq END
             FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::text[], $7::bigint[],
                         $8::bigint[], $9::bool[], $10::bigint[])
                 AS of (id, state, due, reason, settled, delivery, fallbacks_after, now, planned, wait)
             WHERE m.id = of.id";
        let ids: Vec<_> = calls.iter().map(|call| call.id).collect();
        let states: Vec<_> = calls.iter().map(|call| call.state).collect();
        let due: Vec<_> = calls.iter().map(|call| call.due).collect();
        let reasons: Vec<_> = calls.iter().map(|call| call.reason.as_deref()).collect();
        let settled: Vec<_> = calls.iter().map(|call| call.settled).collect();
        let deliveries: Vec<_> = calls.iter().map(|call| call.delivery.as_deref()).collect();
        let fallbacks_after: Vec<_> = calls.iter().map(|call| call.fallbacks_after).collect();
        let now: Vec<_> = calls.iter().map(|call| call.now).collect();
        let planned: Vec<_> = calls.iter().map(|call| call.planned).collect();
        let waits: Vec<_> = calls.iter().map(|call| call.wait).collect();
        let with: [&(dyn ToSql + Sync); 10] =
            [&ids, &states, &due, &reasons, &settled, &deliveries, &fallbacks_after, &now, &planned, &waits];
        db.change(set, &with).await?;
        Ok(done(calls.len()))
    }
}

/// A message of a conversation for which to determine the head.
pub(super) struct PromoteHead(pub(super) i64);

impl Call for PromoteHead {
    type Done = ();

    fn gather(of: &Gathers) -> &Gather<Self> {
        &of.promote_head
    }

    async fn all(db: &Session, calls: &[Self]) -> Result<Vec<()>, Fault> {
        let ids: Vec<_> = calls.iter().map(|call| call.0).collect();
        promote_head(db, &ids).await?;
        Ok(done(calls.len()))
    }
}

/// Makes the first message of each conversation its only head: the conversations of these messages, which are locked. A
/// message being sent, or with an unknown outcome, holds back the others.
///
/// The previous head was the first, so it is among the first n + 1 for n messages.
pub(super) async fn promote_head(db: &Session, of: &[i64]) -> Result<(), Fault> {
    let promote_head = "WITH first AS (
             SELECT n.id, n.place = 1 AND NOT busy.is AS head
             FROM (SELECT conversation, count(*) AS new FROM civic_messaging.message WHERE id = ANY ($1)
                   GROUP BY conversation) AS c,
             LATERAL (SELECT EXISTS (SELECT 1 FROM civic_messaging.message
                                     WHERE conversation = c.conversation AND phase = 'claimed') AS is) AS busy,
             LATERAL (SELECT id, row_number() OVER (ORDER BY priority, seq) AS place FROM (
                          SELECT id, priority, seq FROM civic_messaging.message
                          WHERE conversation = c.conversation AND NOT planned
                            AND phase IN ('queued', 'deferred', 'claimed', 'unknown')
                          ORDER BY priority, seq LIMIT 1 + c.new) AS those) AS n)
         UPDATE civic_messaging.message AS m SET head = first.head FROM first
         WHERE m.id = first.id AND m.phase IN ('queued', 'deferred') AND m.head <> first.head";
    if db.change(promote_head, &[&of]).await? > 0 {
        db.notify(Notification::ToSend);
    }
    Ok(())
}

/// An event of our own, without files.
pub(super) struct InsertEvent {
    pub(super) line: Option<String>,
    pub(super) kind: &'static str,
    pub(super) body: String,
    pub(super) taken_in: i64,
}

impl Call for InsertEvent {
    type Done = bool;

    fn gather(of: &Gathers) -> &Gather<Self> {
        &of.insert_event
    }

    async fn all(db: &Session, calls: &[Self]) -> Result<Vec<bool>, Fault> {
        let insert = "INSERT INTO civic_messaging.event (line, kind, body, taken_in)
             SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])";
        let lines: Vec<_> = calls.iter().map(|call| call.line.as_deref()).collect();
        let kinds: Vec<_> = calls.iter().map(|call| call.kind).collect();
        let bodies: Vec<_> = calls.iter().map(|call| &*call.body).collect();
        let taken_in: Vec<_> = calls.iter().map(|call| call.taken_in).collect();
        db.change(insert, &[&lines, &kinds, &bodies, &taken_in]).await?;
        db.notify(Notification::ToRead);
        Ok(vec![true; calls.len()])
    }
}

/// A message for which to take the early deliveries.
pub(super) struct TakeEarly(pub(super) i64);

impl Call for TakeEarly {
    type Done = Vec<String>;

    fn gather(of: &Gathers) -> &Gather<Self> {
        &of.take_early
    }

    async fn all(db: &Session, calls: &[Self]) -> Result<Vec<Vec<String>>, Fault> {
        // A delivery that fits several messages applies to one of them, as when they come one after the other.
        let early = "WITH found AS (
                 SELECT e.n, p.message FROM civic_messaging.part AS p
                 JOIN civic_messaging.early AS e ON e.gateway = p.gateway AND e.account = p.account AND e.id = p.id
                 WHERE p.message = ANY ($1)
                 UNION
                 SELECT e.n, m.id FROM civic_messaging.message AS m JOIN civic_messaging.attempt AS a ON a.message = m.id
                 JOIN civic_messaging.early AS e ON e.key = m.key AND e.gateway = a.gateway AND e.account = a.account
                 WHERE m.id = ANY ($1)
                 UNION
                 SELECT e.n, a.message FROM civic_messaging.attempt AS a
                 JOIN civic_messaging.early AS e
                     ON e.key = a.reference AND e.gateway = a.gateway AND e.account = a.account
                 WHERE a.message = ANY ($1)),
             taken AS (DELETE FROM civic_messaging.early WHERE n IN (SELECT n FROM found) RETURNING n, delivery)
             SELECT (SELECT min(message) FROM found WHERE found.n = taken.n), delivery FROM taken";
        let ids: Vec<_> = calls.iter().map(|call| call.0).collect();
        let mut taken = HashMap::<i64, Vec<String>>::new();
        for row in db.rows(early, &[&ids]).await? {
            taken.entry(row.try_get(0)?).or_default().push(row.try_get(1)?);
        }
        Ok(ids.iter().map(|id| taken.remove(id).unwrap_or_default()).collect())
    }
}

/// An event, and when it is acknowledged.
pub(super) struct AckEvent(pub(super) i64, pub(super) i64);

impl Call for AckEvent {
    type Done = Option<PersonOf>;

    fn gather(of: &Gathers) -> &Gather<Self> {
        &of.ack_event
    }

    async fn all(db: &Session, calls: &[Self]) -> Result<Vec<Option<PersonOf>>, Fault> {
        let ack = "UPDATE civic_messaging.event AS e SET acked = of.at FROM (
                 SELECT id, min(at) AS at FROM unnest($1::bigint[], $2::bigint[]) AS of (id, at) GROUP BY id) AS of
             WHERE e.id = of.id AND e.acked IS NULL
             RETURNING e.id, e.line, e.person, e.person IS NOT NULL AND EXISTS (
                 SELECT 1 FROM civic_messaging.event AS f
                 WHERE f.acked IS NULL AND f.parked IS NULL AND (f.nacked OR f.held)
                   AND f.line = e.line AND f.person = e.person)";
        let (ids, at): (Vec<_>, Vec<_>) = calls.iter().map(|Self(id, at)| (*id, *at)).unzip();
        let mut waits = HashMap::new();
        for row in db.rows(ack, &[&ids, &at]).await? {
            if row.try_get(3)? {
                waits.insert(row.try_get::<_, i64>(0)?, (row.try_get(1)?, row.try_get(2)?));
            }
        }
        Ok(ids.iter().map(|id| waits.remove(id)).collect())
    }
}
