//! Writes of one process wake another at once; no time passes, so nothing is found by polling.

use std::time::{Duration, Instant};

use civic_messaging::clock::{Clock, Sleep, SystemClock};
use civic_messaging::switchboard::{Line, State, Store, Switchboard};
use civic_messaging::{Message, Mock, Timestamp};
use tokio_postgres::{Client, NoTls};

use super::{cluster, person};

/// A clock on which no sleep ever ends.
#[derive(Debug)]
struct Still(SystemClock);

impl Clock for Still {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    fn sleep(&self, _: Duration) -> Sleep {
        Box::pin(std::future::pending())
    }
}

/// The switchboard of one process.
async fn process(url: &str, mock: &Mock) -> Switchboard {
    let line = Line::new("desk").channel(mock.clone());
    let builder = Switchboard::builder(Store::open(url).await.unwrap()).clock(Still(SystemClock::new()));
    builder.line(line).route("sms", ["desk"]).build().unwrap()
}

/// Waits until `count` messages are sent and the worker is idle. Returns the time taken.
async fn sent(mock: &Mock, board: &Switchboard, count: usize) -> Duration {
    let begun = Instant::now();
    while mock.sent().len() < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = begun.elapsed();
    while board.stats().await.unwrap().all().messages != [(State::Accepted, count as u64)].into() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    took
}

/// Terminates the listening sessions and returns their number.
async fn terminate_listeners(db: &Client) -> usize {
    let kill = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE 'LISTEN%'";
    db.query(kill, &[]).await.unwrap().len()
}

#[tokio::test]
async fn worker_wakes_for_messages_of_another_process() {
    let Some(database) = cluster::Database::new().await else { return };
    Store::migrate(database.url()).await.unwrap();
    let mock = Mock::sms();
    let worker = tokio::spawn(process(database.url(), &mock).await.run(std::future::pending()));
    let other = process(database.url(), &Mock::sms()).await;
    let (db, connection) = tokio_postgres::connect(database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);

    // It is noticed whether the worker already listens or is starting to.
    other.send("desk", Message::text(person(0), "Hello")).await.unwrap();
    sent(&mock, &other, 1).await;
    let mut waits = Vec::new();
    for n in 1..=40 {
        if n % 2 == 0 {
            other.send("desk", Message::text(person(n), "Hello")).await.unwrap();
        } else {
            let text = format!(r#"{{"to": {{"phone": "+4477009{n:05}"}}, "content": {{"text": "Hello"}}}}"#);
            db.query("SELECT civic_messaging.enqueue('desk', $1)", &[&text]).await.unwrap();
        }
        waits.push(sent(&mock, &other, n as usize + 1).await);
    }
    waits.sort_unstable();
    println!("sent after it was handed in elsewhere: median {:?}, longest {:?}", waits[20], waits[39]);

    // A lost session is reopened, and work that arrived meanwhile is found.
    assert_eq!(terminate_listeners(&db).await, 1);
    other.send("desk", Message::text(person(50), "Hello")).await.unwrap();
    sent(&mock, &other, 42).await;
    other.send("desk", Message::text(person(51), "Hello")).await.unwrap();
    sent(&mock, &other, 43).await;
    worker.abort();
}

#[tokio::test]
async fn reader_wakes_for_events_of_another_process() {
    let Some(database) = cluster::Database::new().await else { return };
    Store::migrate(database.url()).await.unwrap();
    let (mock, here) = (Mock::sms(), Mock::sms());
    let (reads, takes) = (process(database.url(), &here).await, process(database.url(), &mock).await);
    let line = reads.line("desk").unwrap();
    for n in 0..20 {
        let text = format!("Hello {n}");
        let (event, reply) = tokio::join!(line.next(), takes.receive("sms", mock.arrives("07700 900123", &text)));
        let event = event.unwrap().unwrap();
        assert_eq!((event.as_inbound().unwrap().text(), reply.status.as_u16()), (Some(&*text), 200));
        event.ack().await.unwrap();
    }
    let id = takes.send("desk", Message::text(person(1), "Hello")).await.unwrap();
    let (event, cancelled) = tokio::join!(line.next(), takes.cancel(id));
    let event = event.unwrap().unwrap();
    assert_eq!((event.as_settled().unwrap().state, cancelled.unwrap()), (State::Cancelled, true));
    event.ack().await.unwrap();
}
