//! What the switchboard's calls cost in a store that has grown: most messages settled, a tenth waiting for their account, as
//! many events acknowledged. No floor: the same call in a small store is what it is compared with. `claim` is from the
//! end of `send` until the channel has the message, `waiting` lists what is queued, `tagged` what is queued
//! under a tag, and `purge` is one transaction of
//! 200 messages and 200 events. A tenth as many persons as messages wrote, of whom half wait for an answer: `persons` is the
//! first page of the longest-waiting of them, with their last messages.
//!
//! `CIVIC_ROWS` says how many messages (10,000 unless set); docs/evidence has those of a million.

use std::time::{Duration, Instant};

use civic_messaging::rate::Rate;
use civic_messaging::switchboard::{ConversationFilter, Line, MessageFilter, State, Store, Switchboard};
use civic_messaging::{Address, Message, Mock, Purpose};
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::cycle::Takes;

const COLUMNS: &str =
    "(line, key, recipient, body, digest, priority, lane, state, head, due, queued, settled, attempts, reason, tag)";

/// A message of each number: nine of ten are settled, and each person has ten.
fn rows(schema: &str, numbers: &str, rows: u64) -> String {
    let digest: String = Sha256::digest(TEXT).iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "{numbers}
         INSERT INTO {schema}message {COLUMNS}
         SELECT 'bulk', 'k' || n, '+4477009' || substr('00000' || (n / 10) % 100000, -5), '{TEXT}', '{digest}', 2, 'bulk/phone',
                CASE WHEN n % 10 = 0 THEN 'queued' ELSE 'accepted' END, n % 10 = 0, CASE WHEN n % 10 = 0 THEN 1 END, n,
                CASE WHEN n % 10 = 0 THEN NULL ELSE n END, 0, 'reason', 'tax'
         FROM numbers WHERE n <= {rows}"
    )
}

/// A conversation of each person who has messages, of which every other one waits.
fn of_persons(schema: &str, persons: &str) -> String {
    format!(
        "INSERT INTO {schema}conversation_state (line, person, address, last, answered, seen, waiting, unread)
         SELECT 'bulk', {persons}, '{{\"phone\":\"+447700900123\"}}', n, 0, 0, CASE WHEN n % 20 = 0 THEN n END, n % 20 / 10
         FROM numbers WHERE n % 10 = 0 ORDER BY n LIMIT 100000"
    )
}

const TEXT: &str = r#"{"version":1,"to":{"phone":"+447700900123"},"content":{"text":"Hello"}}"#;

pub(crate) fn measure(runtime: &Runtime) {
    let rows = std::env::var("CIVIC_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(10_000);
    println!("\nmilliseconds a call, with {rows} messages and as many events");
    println!(
        "{:<12}{:>10}{:>10}{:>10}{:>10}{:>14}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
        "", "open", "send", "claim", "next", "conversation", "persons", "list", "tagged", "waiting", "stats", "purge"
    );
    runtime.block_on(sqlite(rows));
    #[cfg(feature = "postgres")]
    runtime.block_on(postgres(rows));
}

async fn sqlite(n: u64) {
    let path = crate::file("growth");
    let url = format!("sqlite:{}", path.display());
    drop(Store::open(&url).await.expect("a file"));
    let db = rusqlite::Connection::open(&path).expect("a file");
    let numbers = format!("WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {n})");
    db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF").expect("it is set");
    db.execute_batch(&rows("", &numbers, n)).expect("messages");
    let events = format!(
        "{numbers} INSERT INTO event (line, dedupe, kind, person, body, taken_in, acked)
         SELECT 'bulk', 'd' || n, 'event', '+447700900001', '', n, n FROM numbers"
    );
    db.execute_batch(&events).expect("events");
    let persons = "'+4477009' || substr('00000' || (n / 10) % 100000, -5)";
    db.execute_batch(&format!("{numbers} {}", of_persons("", persons))).expect("conversations");
    db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = DELETE").expect("it is closed");
    drop(db);
    calls("SQLite", &url).await;
    let _ = crate::file("growth");
}

#[cfg(feature = "postgres")]
async fn postgres(n: u64) {
    let Some(database) = crate::cluster::Database::new().await else { return };
    Store::migrate(database.url()).await.expect("the tables");
    let (client, connection) = tokio_postgres::connect(database.url(), tokio_postgres::NoTls).await.expect("a session");
    tokio::spawn(connection);
    let numbers = format!("WITH numbers AS (SELECT generate_series(1, {n}::bigint) AS n)");
    let messages = rows("civic_messaging.", &numbers, n)
        .replace("substr('00000' || (n / 10) % 100000, -5)", "lpad(((n / 10) % 100000)::text, 5, '0')");
    client.batch_execute(&messages).await.expect("messages");
    let events = format!(
        "{numbers} INSERT INTO civic_messaging.event (line, dedupe, kind, person, body, taken_in, acked)
         SELECT 'bulk', 'd' || n, 'event', '+447700900001', '', n, n FROM numbers"
    );
    client.batch_execute(&events).await.expect("events");
    let persons = "'+4477009' || lpad(((n / 10) % 100000)::text, 5, '0')";
    client
        .batch_execute(&format!("{numbers} {}", of_persons("civic_messaging.", persons)))
        .await
        .expect("conversations");
    client.batch_execute("VACUUM ANALYZE").await.expect("it is counted");
    calls("PostgreSQL", database.url()).await;
}

async fn calls(name: &str, url: &str) {
    let (opened, store) = timed(Store::open(url)).await;
    let channel = Takes::new("desk");
    let slow = Mock::sms().account("bulk").capability(|can| can.rate = Some(Rate::every_seconds(60)));
    let lines = [Line::new("desk").channel(channel.clone()), Line::new("bulk").channel(slow.clone())];
    let builder =
        lines.into_iter().fold(Switchboard::builder(store.expect("a store")), |builder, line| builder.line(line));
    let board = builder.route("all", ["bulk"]).build().expect("a switchboard");
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = tokio::spawn(board.clone().run(async { drop(stopped.await) }));
    tokio::time::sleep(Duration::from_millis(500)).await;

    let to = Address::phone("07700 900123").expect("a number");
    let (mut sends, mut claims) = (Vec::new(), Vec::new());
    for n in 0..50 {
        let before = channel.taken();
        let message = Message::text(to.clone(), format!("Message {n}")).purpose(Purpose::Emergency);
        let start = Instant::now();
        board.send("desk", message).await.expect("it is taken");
        sends.push(start.elapsed());
        let start = Instant::now();
        while channel.taken() == before {
            tokio::task::yield_now().await;
        }
        claims.push(start.elapsed());
    }
    let mut next = Vec::new();
    let inbox = board.line("bulk").expect("a line");
    for n in 0..50 {
        let webhook = slow.arrives("07700 900123", format!("Hello {n}"));
        assert_eq!(board.receive("all", webhook).await.status, 200);
        let (took, event) = timed(inbox.next()).await;
        next.push(took);
        event.expect("it works").expect("there is one").ack().await.expect("it works");
    }
    let (mut conversation, mut persons, mut list) = (Vec::new(), Vec::new(), Vec::new());
    let (mut tagged, mut waiting, mut stats) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..20 {
        conversation.push(timed(board.conversation("bulk", &to, None, 50)).await.0);
        let (took, page) = timed(board.conversations("bulk", ConversationFilter::Waiting, None, 50)).await;
        assert_eq!(page.expect("it works").len(), 50);
        persons.push(took);
        list.push(timed(board.messages("bulk", State::Accepted, None, 50)).await.0);
        let of_tag = MessageFilter::from(State::Queued).tag("tax");
        let (took, queued) = timed(board.messages("bulk", of_tag, None, 50)).await;
        assert_eq!(queued.expect("it works").len(), 50);
        tagged.push(took);
        let (took, queued) = timed(board.messages("bulk", State::Queued, None, 50)).await;
        assert_eq!(queued.expect("it works").len(), 50);
        waiting.push(took);
        stats.push(timed(board.stats()).await.0);
    }
    let median = |mut took: Vec<Duration>| {
        took.sort_unstable();
        took.get(took.len() / 2).copied().unwrap_or_default()
    };
    drop(stop);
    worker.await.expect("no panic").expect("it works");
    let purge = purge(url, &slow).await;
    print!("{name:<12}");
    for (took, width) in [
        (opened, 10),
        (median(sends), 10),
        (median(claims), 10),
        (median(next), 10),
        (median(conversation), 14),
        (median(persons), 10),
        (median(list), 10),
        (median(tagged), 10),
        (median(waiting), 10),
        (median(stats), 10),
        (purge, 10),
    ] {
        print!("{:>width$.2}", took.as_secs_f64() * 1e3);
    }
    println!();
}

/// Has a worker remove the content of the oldest messages and events.
async fn purge(url: &str, slow: &Mock) -> Duration {
    const REMOVED: u32 = 7_200;
    /// What the worker waits after each transaction.
    const PAUSE: Duration = Duration::from_millis(50);
    let store = Store::open(url).await.expect("a store");
    let line = Line::new("bulk").channel(slow.clone()).retention(Duration::from_secs(24 * 3600));
    let board = Switchboard::builder(store).line(line).build().expect("a switchboard");
    // Nine of ten are settled, oldest first.
    let key = format!("k{}", REMOVED * 10 / 9 - 1);
    let id = board.by_key("bulk", &key).await.expect("it works").expect("it is there");
    let (stop, stopped) = oneshot::channel::<()>();
    let start = Instant::now();
    let worker = tokio::spawn(board.clone().run(async { drop(stopped.await) }));
    let is_kept = async || board.status(id).await.expect("it works").expect("it is there").reason.is_some();
    while is_kept().await {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = (start.elapsed() / (REMOVED / 200)).saturating_sub(PAUSE);
    drop(stop);
    worker.await.expect("no panic").expect("it works");
    took
}

async fn timed<T>(call: impl Future<Output = T>) -> (Duration, T) {
    let start = Instant::now();
    let done = call.await;
    (start.elapsed(), done)
}
