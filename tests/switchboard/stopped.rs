//! Pauses a worker at random moments for longer than its lease, as a paused machine would be, while another takes over.
//!
//! Two processes share one database under load. One of them is stopped (`SIGSTOP`) while it holds messages: claimed,
//! being sent, or with a response not yet recorded. It continues once the other has taken those over. A trigger in the
//! database records every change with its author, so that a write under a lost claim is detected; and the gateway
//! counts what it accepted.
//!
//! `CIVIC_STOPS` sets the number of stops (100), `CIVIC_SEED` the seed.

use std::collections::HashMap;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use civic_messaging::switchboard::{Line, Store, Switchboard};
use civic_messaging::testing::{FakeGateway, Step};
use civic_messaging::{Message, OnUnknown};
use tokio_postgres::Client;

use super::crash::{TAKEN, channel};
use super::{Random, cluster, number, person, seed};

const DATABASE: &str = "CIVIC_TEST_STOPPED";
const GATEWAY: &str = "CIVIC_TEST_GATEWAY";

const LEASE: Duration = Duration::from_millis(200);

/// The maximum number waiting: two workers, one of them stopped, send more slowly than messages arrive.
const WAITING_MAX: i64 = 300;

/// Records each change: author, old and new state, and claim.
const WATCH: &str = "
    CREATE TABLE public.change (
        n BIGINT GENERATED ALWAYS AS IDENTITY, message BIGINT, fence BIGINT, was TEXT, became TEXT, worker TEXT);
    CREATE INDEX ON public.change (message, fence);
    CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO public.change (message, fence, was, became, worker)
        VALUES (NEW.id, NEW.fence, OLD.state, NEW.state, current_setting('application_name'));
        RETURN NULL;
    END $$;
    CREATE TRIGGER tell AFTER UPDATE ON civic_messaging.message FOR EACH ROW
        WHEN (OLD.state <> NEW.state OR OLD.fence <> NEW.fence) EXECUTE FUNCTION public.tell()";

/// The messages that the first worker holds.
const HELD: &str = "SELECT count(*) FROM civic_messaging.message AS m
    JOIN public.change AS t ON t.message = m.id AND t.fence = m.fence AND t.became = 'claimed' AND t.worker = 'first'
    WHERE m.state IN ('claimed', 'sending')";

const OPEN: &str = "SELECT count(*) FROM civic_messaging.message
    WHERE state IN ('queued', 'claimed', 'sending', 'deferred')";

/// Takeovers, of claims and of sends.
const TAKEN_OVER: &str = "SELECT count(*) FILTER (WHERE t.was = 'claimed'), count(*) FILTER (WHERE t.was = 'sending')
    FROM public.change AS t JOIN public.change AS c ON c.message = t.message AND c.fence = t.fence AND c.became = 'claimed'
    WHERE t.worker <> c.worker AND t.became IN ('queued', 'unknown', 'parked')";

/// Writes under a claim that was never the worker's or had been taken over; and unknown messages recorded as sent
/// without evidence.
const STALE: &str = "SELECT count(*) FROM public.change AS t
    JOIN public.change AS c ON c.message = t.message AND c.fence = t.fence AND c.became = 'claimed'
    WHERE t.became IN ('sending', 'accepted', 'rejected', 'deferred', 'expired')
      AND (t.worker <> c.worker OR t.was IN ('queued', 'unknown', 'parked') OR EXISTS (
          SELECT 1 FROM public.change AS o WHERE o.message = t.message AND o.fence = t.fence AND o.n < t.n
            AND o.was IN ('claimed', 'sending') AND o.became IN ('queued', 'unknown', 'parked')))";

/// Each message's text, its attempts, and those whose end the store does not know.
const ATTEMPTS: &str = "SELECT m.body::json -> 'content' ->> 'text', count(*),
    count(*) FILTER (WHERE a.ended IS NULL)
    FROM civic_messaging.message AS m JOIN civic_messaging.attempt AS a ON a.message = m.id GROUP BY m.id";

async fn switchboard(database: &str, base: &str) -> Switchboard {
    let line = Line::new("desk").channel(channel(base));
    Switchboard::builder(Store::open(database).await.unwrap()).line(line).lease(LEASE).build().unwrap()
}

/// One of the processes. Does nothing without its variables.
#[tokio::test]
async fn child() {
    let (Ok(database), Ok(base)) = (std::env::var(DATABASE), std::env::var(GATEWAY)) else { return };
    switchboard(&database, &base).await.run(std::future::pending()).await.unwrap();
}

struct Worker(Child);

impl Worker {
    fn start(database: &cluster::Database, base: &str, name: &str) -> Self {
        let mark = if database.url().contains('?') { '&' } else { '?' };
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "stopped::child", "--test-threads=1"])
            .env(DATABASE, format!("{}{mark}application_name={name}", database.url()))
            .env(GATEWAY, base)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    fn send_indicator(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Returns `true` if none of these is left before the time-out.
async fn none(client: &Client, sql: &str, within: Duration) -> bool {
    let start = Instant::now();
    while count(client, sql).await > 0 {
        if start.elapsed() > within {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_worker_writes_nothing_under_a_lost_claim() {
    let Some(database) = cluster::Database::new().await else { return };
    let (stops, seed) = (number("CIVIC_STOPS", 100), seed(20_261_128));
    Store::migrate(database.url()).await.unwrap();
    let (client, connection) = tokio_postgres::connect(database.url(), tokio_postgres::NoTls).await.unwrap();
    let client = Arc::new(client);
    tokio::spawn(connection);
    client.batch_execute(WATCH).await.unwrap();
    let gateway = FakeGateway::start().await;
    gateway.always(Step::any().answers(201, TAKEN.replace("{}", "1a2b3c4d5e6f708192a3b4c5d6e7f809")));
    let workers = ["first", "second"].map(|name| Worker::start(&database, &gateway.base_url(), name));
    let (first, going) = (&workers[0], Arc::new(AtomicBool::new(true)));
    let (board, goes) = (switchboard(database.url(), &gateway.base_url()).await, going.clone());
    let counts = client.clone();
    let taking = tokio::spawn(async move {
        let mut taken = 0;
        while goes.load(Ordering::Acquire) {
            let way = [OnUnknown::Park, OnUnknown::Reconcile, OnUnknown::Resend][taken % 3];
            // An unknown message blocks later ones to the same person.
            let to = person(u32::try_from(taken % 100_000).unwrap());
            board.send("desk", Message::text(to, format!("Message {taken}.")).on_unknown(way)).await.unwrap();
            taken += 1;
            tokio::time::sleep(Duration::from_millis(4)).await;
            while taken % 50 == 0 && goes.load(Ordering::Acquire) && count(&counts, OPEN).await > WAITING_MAX {
                tokio::time::sleep(Duration::from_millis(4)).await;
            }
        }
        taken
    });

    let (mut stopped, random, start) = (0, Random::new(seed), Instant::now());
    while stopped < stops {
        assert!(start.elapsed() < Duration::from_secs(60 + 3 * stops), "after {stopped} stops");
        tokio::time::sleep(Duration::from_micros(random.below(20_000))).await;
        first.send_indicator("-STOP");
        if count(&client, HELD).await > 0 {
            stopped += 1;
            // Rows that it has locked stay locked until it continues.
            none(&client, HELD, 5 * LEASE).await;
        }
        first.send_indicator("-CONT");
    }
    going.store(false, Ordering::Release);
    let taken = taking.await.unwrap();
    let done = none(&client, OPEN, Duration::from_secs(60)).await;
    drop(workers);

    let mut copies = HashMap::<usize, usize>::new();
    for request in gateway.requests().iter().filter(|request| request.accepted) {
        let texts = request.texts();
        // A look-up has no text.
        let Some(n) = texts.iter().find_map(|text| text.strip_prefix("Message ")?.strip_suffix('.')) else { continue };
        *copies.entry(n.parse().unwrap()).or_default() += 1;
    }
    let twice: Vec<_> = copies.iter().filter(|(n, copies)| **copies > 1 && *n % 3 != 2).collect();
    let again = copies.iter().filter(|(n, copies)| **copies > 1 && *n % 3 == 2).count();
    let stale = count(&client, STALE).await;
    let over = client.query_one(TAKEN_OVER, &[]).await.unwrap();
    let (claimed, sending): (i64, i64) = (over.get(0), over.get(1));
    println!(
        "{stops} stops: {taken} messages, {claimed} taken over before they began, {sending} on their way; {stale} stale \
         writes accepted, {} sent twice, {again} of those that may come twice",
        twice.len()
    );
    assert!(stale == 0 && twice.is_empty(), "{twice:?}");
    assert!(done, "something is left");
    // Each copy has an attempt that was stored before its first byte, and `OnUnknown::Resend` resends an interrupted one
    // twice at most.
    for row in client.query(ATTEMPTS, &[]).await.unwrap() {
        let (text, attempts, interrupted): (String, i64, i64) = (row.get(0), row.get(1), row.get(2));
        let n = text.strip_prefix("Message ").and_then(|text| text.strip_suffix('.')).unwrap();
        let sent = copies.remove(&n.parse::<usize>().unwrap()).unwrap_or_default();
        assert!(i64::try_from(sent).unwrap() <= attempts && interrupted <= 3, "{text} {sent} {attempts} {interrupted}");
    }
    assert!(copies.is_empty(), "sent without an attempt: {copies:?}");
    assert!(claimed > 0 && sending > 0, "hardly anything happened");
}
