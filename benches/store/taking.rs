//! What durable taking of messages costs: 64 tasks that each wait for their own message to be on the disk, by the
//! switchboard, against plain rusqlite that writes the same columns and indexes, and commits together what came meanwhile.

use std::sync::mpsc;
use std::time::Instant;

use civic_messaging::address::Phone;
use civic_messaging::switchboard::{Line, Store, Switchboard};
use civic_messaging::{Address, Message, Mock};
use rusqlite::{Connection, TransactionBehavior, params};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::common::{Pairs, Target, header, rounds};
use crate::file;

const TASKS: usize = 64;

/// By which the same message is known.
pub(crate) fn digest(body: &str) -> String {
    civic_messaging::media::Digest::sha256(body.as_bytes()).to_string()
}

pub(crate) fn measure(runtime: &Runtime) {
    let messages = if rounds(2) == 1 { 640 } else { 12_800 };
    header("enqueueing a message durably, 64 concurrent", "by hand", "µs a message");
    let ours = || ours(runtime, messages);
    let floor = || floor(runtime, messages);
    // 80 % of the floor's rate.
    Pairs::measure(rounds(11), ours, floor).print("SQLite, WAL, FULL", Target::Times(1.25));
}

/// The number of persons to whom the messages go in turn.
pub(crate) const PERSONS: usize = 100_000;

pub(crate) fn message(n: usize) -> Message {
    let to = Address::from(Phone::from_digits(&format!("4477009{:05}", n % PERSONS)).expect("a number"));
    Message::text(to, "Your report of a missed bin in Mill Lane is logged: we collect it on Tuesday.")
        .key(format!("waste-{n}"))
}

/// Microseconds a message.
fn ours(runtime: &Runtime, messages: usize) -> f64 {
    let path = file("ours");
    let took = runtime.block_on(async {
        let store = Store::open(&format!("sqlite:{}", path.display())).await.expect("a file");
        let board =
            Switchboard::builder(store).line(Line::new("desk").channel(Mock::sms())).build().expect("a switchboard");
        let start = Instant::now();
        let task = |task: usize| {
            let board = board.clone();
            tokio::spawn(async move {
                for n in 0..messages / TASKS {
                    board.send("desk", message(task * messages + n)).await.expect("it is taken");
                }
            })
        };
        for task in (0..TASKS).map(task).collect::<Vec<_>>() {
            task.await.expect("no task panics");
        }
        start.elapsed()
    });
    let _ = file("ours");
    took.as_secs_f64() * 1e6 / messages as f64
}

type Row = (String, String, String, oneshot::Sender<()>);

fn floor(runtime: &Runtime, messages: usize) -> f64 {
    let path = file("floor");
    let mut db = Connection::open(&path).expect("a file");
    db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL").expect("it is set");
    db.execute_batch(include_str!("../../src/switchboard/store/sqlite/schema.sql")).expect("the tables");
    let (rows, inbox) = mpsc::channel::<Row>();
    let writer = std::thread::spawn(move || {
        while let Ok(first) = inbox.recv() {
            let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate).expect("a transaction");
            let mut waiting = Vec::new();
            let mut insert = transaction
                .prepare_cached(
                    "INSERT INTO message (line, key, recipient, body, digest, priority, state, due, queued, lane, head)
                     VALUES ('desk', ?1, ?2, ?3, ?4, 2, 'queued', 1, 1, 'desk/phone', 1)",
                )
                .expect("a statement");
            let mut next = Some(first);
            while let Some((key, to, body, tell)) = next {
                insert.execute(params![key, to, body, digest(&body)]).expect("a row");
                waiting.push(tell);
                next = if waiting.len() < 256 { inbox.try_recv().ok() } else { None };
            }
            drop(insert);
            transaction.commit().expect("it is durable");
            waiting.into_iter().for_each(|tell| tell.send(()).expect("somebody waits"));
        }
    });
    let took = runtime.block_on(async {
        let start = Instant::now();
        let task = |task: usize| {
            let rows = rows.clone();
            tokio::spawn(async move {
                for n in 0..messages / TASKS {
                    let message = message(task * messages + n);
                    let body = serde_json::to_string(&message).expect("it serialises");
                    let (tell, done) = oneshot::channel();
                    let row = (message.key.unwrap_or_default(), message.to.expose().to_owned(), body, tell);
                    rows.send(row).expect("the writer lives");
                    done.await.expect("it is durable");
                }
            })
        };
        for task in (0..TASKS).map(task).collect::<Vec<_>>() {
            task.await.expect("no task panics");
        }
        start.elapsed()
    });
    drop(rows);
    writer.join().expect("the writer ends");
    let _ = file("floor");
    took.as_secs_f64() * 1e6 / messages as f64
}
