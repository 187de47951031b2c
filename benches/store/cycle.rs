//! The whole way of 100 messages: taken, claimed, sent to a channel in memory, settled, and the line's word of each read
//! and acknowledged; the next 100 come when these are done. Once with one line, where nothing else goes on meanwhile, and
//! once with six, which share commits.
//!
//! The floor is one thread with plain rusqlite, which writes the same rows, columns and indexes. It commits durably, as
//! often as the promises need, and no more: once when 100 are taken; once when they are marked as on their way, since the
//! mark of each has to be on the disk before its send begins, and all of these go at once; once when their ends are known;
//! once when the words of them are acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use civic_messaging::capability::TextLimit;
use civic_messaging::switchboard::{Line, Store, Switchboard};
use civic_messaging::webhook::{Received, Request};
use civic_messaging::{Accepted, Channel, Error, Info, Medium, Message, Result, Timestamp, async_trait};
use futures_util::future::join_all;
use rusqlite::{Connection, TransactionBehavior, params};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::common::{Pairs, Target, header, rounds};
use crate::file;
use crate::taking::{digest, message};

const BATCH: usize = 100;

pub(crate) fn measure(runtime: &Runtime) {
    let batches = if rounds(2) == 1 { 6 } else { 60 };
    header("a message's whole way, 100 at once", "by hand", "µs a message");
    for (lines, name) in [(1, "one line"), (6, "six lines")] {
        let ours = || ours(runtime, lines, batches / lines);
        let floor = || floor(runtime, batches);
        // 80 % of the floor's rate.
        Pairs::measure(rounds(11), ours, floor).print(name, Target::Times(1.25));
    }
}

/// A channel in memory that takes everything, and gives each an id of its own.
#[derive(Clone, Debug)]
pub(crate) struct Takes(Arc<(Info, AtomicU64)>);

impl Takes {
    pub(crate) fn new(account: &str) -> Self {
        let info = Info::new("memory", Medium::Sms, account);
        let info = info.with_capability(|can| can.text = Some(TextLimit::characters(4_096)));
        Self(Arc::new((info, AtomicU64::new(0))))
    }

    /// How many it took.
    pub(crate) fn taken(&self) -> u64 {
        self.0.1.load(Ordering::Acquire)
    }
}

#[async_trait]
impl Channel for Takes {
    fn info(&self) -> &Info {
        &self.0.0
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        self.0.0.prepare(message, Timestamp::default())?;
        let n = self.0.1.fetch_add(1, Ordering::AcqRel);
        Ok(Accepted::new("memory", format!("SM{n:032x}"), bytes::Bytes::new()))
    }

    async fn receive(&self, _request: &Request) -> Result<Received> {
        Err(Error::unsupported("it only takes messages"))
    }
}

/// Microseconds a message.
fn ours(runtime: &Runtime, lines: usize, batches: usize) -> f64 {
    let path = file("ours");
    let took = runtime.block_on(async {
        let store = Store::open(&format!("sqlite:{}", path.display())).await.expect("a file");
        whole_way(store, lines, batches).await
    });
    let _ = file("ours");
    took
}

/// Microseconds a message, of a store with a worker: so many batches on each of so many lines.
pub(crate) async fn whole_way(store: Store, lines: usize, batches: usize) -> f64 {
    let names: Vec<_> = (0..lines).map(|line| format!("desk-{line}")).collect();
    // The floor sends all of a batch at once.
    let mut builder = Switchboard::builder(store).max_in_flight(BATCH as u32);
    for name in &names {
        builder = builder.line(Line::new(name).channel(Takes::new(name)));
    }
    let board = builder.build().expect("a switchboard");
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = tokio::spawn(board.clone().run(async { drop(stopped.await) }));
    let start = Instant::now();
    let all = names.into_iter().map(|name| tokio::spawn(batches_of(board.clone(), name, batches)));
    for line in all.collect::<Vec<_>>() {
        line.await.expect("no panic");
    }
    let took = start.elapsed();
    drop(stop);
    worker.await.expect("no panic").expect("it works");
    took.as_secs_f64() * 1e6 / (lines * batches * BATCH) as f64
}

async fn batches_of(board: Switchboard, line: String, batches: usize) {
    let inbox = board.line(&line).expect("a line");
    for batch in 0..batches {
        let send = |n: usize| board.send(&line, message(batch * BATCH + n));
        for taken in join_all((0..BATCH).map(send)).await {
            taken.expect("it is taken");
        }
        let read = |_| async { inbox.next().await.expect("it works").expect("there is one").ack().await };
        for acknowledged in join_all((0..BATCH).map(read)).await {
            acknowledged.expect("it is acknowledged");
        }
    }
}

fn floor(runtime: &Runtime, batches: usize) -> f64 {
    let path = file("floor");
    let mut db = Connection::open(&path).expect("a file");
    db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL").expect("it is set");
    db.execute_batch(include_str!("../../src/switchboard/store/sqlite/schema.sql")).expect("the tables");
    db.set_prepared_statement_cache_capacity(32);
    let channel = Takes::new("desk");
    let start = Instant::now();
    for batch in 0..batches {
        by_hand(&mut db, runtime, &channel, batch).expect("it works");
    }
    let took = start.elapsed();
    drop(db);
    let _ = file("floor");
    took.as_secs_f64() * 1e6 / (batches * BATCH) as f64
}

fn by_hand(db: &mut Connection, runtime: &Runtime, channel: &Takes, batch: usize) -> rusqlite::Result<()> {
    let taking = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for n in 0..BATCH {
        let message = message(batch * BATCH + n);
        let body = serde_json::to_string(&message).expect("it serialises");
        taking
            .prepare_cached(
                "INSERT INTO message (line, key, recipient, body, digest, priority, state, due, queued, lane, head)
                 VALUES ('desk', ?1, ?2, ?3, ?4, 2, 'queued', 1, 1, 'desk/phone', 1)",
            )?
            .execute(params![message.key, message.to.expose(), body, digest(&body)])?;
    }
    taking.commit()?;

    let claiming = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let claimed: Vec<(i64, String)> = claiming
        .prepare_cached(
            "SELECT id, body FROM message WHERE head AND lane = 'desk/phone' AND priority = 2 AND due <= 1
             ORDER BY due, id LIMIT 100",
        )?
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (id, _) in &claimed {
        claiming
            .prepare_cached(
                "UPDATE message SET state = 'sending', lease = 2, fence = fence + 1, attempts = attempts + 1
                 WHERE id = ?1",
            )?
            .execute((id,))?;
        claiming
            .prepare_cached(
                "INSERT INTO attempt (message, n, gateway, account, begun) VALUES (?1, 1, 'memory', 'desk', 1)",
            )?
            .execute((id,))?;
    }
    claiming.commit()?;
    assert_eq!(claimed.len(), BATCH);

    let sent = runtime.block_on(async {
        let mut sent = Vec::with_capacity(BATCH);
        for (id, body) in claimed {
            let message: Message = serde_json::from_str(&body).expect("it was written so");
            sent.push((id, channel.send(&message).await.expect("it is taken").id().clone()));
        }
        sent
    });
    let ending = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (id, gateway_id) in &sent {
        ending
            .prepare_cached(
                "UPDATE attempt SET ended = 2, outcome = 'accepted', kind = '' WHERE message = ?1 AND n = 1",
            )?
            .execute((id,))?;
        ending
            .prepare_cached("INSERT INTO part (gateway, account, id, message) VALUES ('memory', 'desk', ?2, ?1)")?
            .execute((id, gateway_id.as_str()))?;
        ending
            .prepare_cached(
                "UPDATE message SET state = 'accepted', due = NULL, lease = NULL, settled = 2, head = 0,
                        delivery = '\"accepted\"'
                 WHERE id = ?1",
            )?
            .execute((id,))?;
        let word = format!(r#"{{"id":{id},"state":"accepted","reason":null}}"#);
        ending
            .prepare_cached("INSERT INTO event (line, kind, body, taken_in) VALUES ('desk', 'settled', ?1, 2)")?
            .execute((word,))?;
    }
    ending.commit()?;

    let reading = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let words: Vec<(i64, String)> = reading
        .prepare_cached("SELECT id, body FROM event WHERE acked IS NULL AND line = 'desk' ORDER BY id LIMIT 100")?
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (id, word) in &words {
        let _: serde_json::Value = serde_json::from_str(word).expect("it was written so");
        reading.prepare_cached("UPDATE event SET lease = 3, acked = 3 WHERE id = ?1")?.execute((id,))?;
    }
    reading.commit()?;
    assert_eq!(words.len(), BATCH);
    Ok(())
}
