//! Urgent messages beside a backlog, and the order of conversations under every disturbance at once. `.ci/run` runs a
//! small part of each, and `.ci/long` all: see docs/evidence/lanes.md.
//!
//! `CIVIC_SEED` sets the seed, `CIVIC_BACKLOG` the number of bulk messages, and `CIVIC_CONVERSATIONS` that of
//! conversations.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use civic_messaging::clock::{Clock, SystemClock, VirtualClock};
use civic_messaging::rate::Rate;
use civic_messaging::switchboard::{Id, Line, State, Store, Switchboard};
use civic_messaging::{
    Accepted, Channel, Content, Error, ErrorKind, Info, Message, Mock, OnUnknown, Outcome, Purpose, Result, Timestamp,
    webhook,
};
use futures_util::future::join_all;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::desk::text;
use super::{Database, Random, seed};

/// The number of bulk messages a second.
const BULK: u32 = 10;

/// The step of the clock while an urgent message waits.
const FINE: Duration = Duration::from_millis(10);

/// The time in which a message that may be sent must be, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A channel that records when it accepted each text, and fails one send in so many.
#[derive(Clone, Debug)]
struct Timed {
    mock: Mock,
    info: Info,
    clock: VirtualClock,
    taken: Arc<Mutex<Vec<(String, Timestamp)>>>,
    news: Arc<Notify>,
    fails: Option<u64>,
    random: Arc<Random>,
}

impl Timed {
    fn new(account: &str, clock: &VirtualClock, rate: Option<Rate>, fails: Option<u64>) -> Self {
        let mock = Mock::sms().account(account);
        let info = mock.info().clone().with_capability(|can| can.rate = rate);
        let (taken, news, random) = (Arc::default(), Arc::default(), Arc::new(Random::new(7)));
        Self { mock, info, clock: clock.clone(), taken, news, fails, random }
    }

    fn count(&self) -> usize {
        self.taken.lock().unwrap().len()
    }

    fn last(&self) -> Option<Timestamp> {
        self.taken.lock().unwrap().last().map(|(_, at)| *at)
    }

    fn when(&self, words: &str) -> Option<Timestamp> {
        self.taken.lock().unwrap().iter().rfind(|(taken, _)| taken == words).map(|(_, at)| *at)
    }

    /// Waits until it has accepted more than so many; the clock stands still. Returns `false` if it does not in time.
    async fn more_than(&self, count: usize, within: Duration) -> bool {
        let more = async {
            loop {
                let news = self.news.notified();
                if self.count() > count {
                    break;
                }
                news.await;
            }
        };
        tokio::time::timeout(within, more).await.is_ok()
    }
}

#[civic_messaging::async_trait]
impl Channel for Timed {
    fn info(&self) -> &Info {
        &self.info
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        let Content::Text(text) = &message.content else { panic!("a text") };
        if self.fails.is_some_and(|fails| self.random.below(fails) == 0) {
            let kind = [ErrorKind::Unavailable, ErrorKind::RateLimited][self.random.index(2)];
            return Err(Error::new(kind, "not now").with_outcome(Outcome::Rejected).with_gateway("mock"));
        }
        let accepted = self.mock.send(message).await?;
        self.taken.lock().unwrap().push((text.clone(), self.clock.now()));
        self.news.notify_one();
        Ok(accepted)
    }

    async fn receive(&self, request: &webhook::Request) -> Result<webhook::Received> {
        self.mock.receive(request).await
    }
}

fn size(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|size| size.parse().ok()).unwrap_or(default)
}

/// Advances the clock by a step; once a token is due, waits until the backlog has taken it.
async fn step(clock: &VirtualClock, bulk: &Timed, by: Duration) {
    let count = bulk.count();
    clock.advance(by);
    if bulk.last().is_none_or(|last| clock.now() < last.plus(token())) {
        return;
    }
    // A token of the database may be a little later.
    for _ in 0..100 {
        if bulk.more_than(count, Duration::from_millis(500)).await {
            return;
        }
        clock.advance(Duration::from_millis(1));
    }
    panic!("a message is due: {count} taken, the last at {:?} of {:?}", bulk.last(), clock.now());
}

/// The interval between two tokens of the backlog.
fn token() -> Duration {
    Rate::per_second(BULK).interval()
}

/// Sends a backlog at its rate, with an emergency and a reply a minute on its line and on another: no emergency waits
/// longer than two tokens.
async fn urgent_messages_pass(url: &str) {
    let (seed, backlog) = (seed(20_261_201), size("CIVIC_BACKLOG", 1_200));
    let (random, begun) = (Random::new(seed), Instant::now());
    let clock = VirtualClock::starting_at(SystemClock::new().now());
    let rate = Some(Rate::per_second(BULK));
    let (bulk, other) = (Timed::new("desk", &clock, rate, None), Timed::new("other", &clock, rate, None));
    let builder = Switchboard::builder(Store::open(url).await.unwrap()).clock(clock.clone());
    let lines = [
        Line::new("desk").channel(bulk.clone()).marketing_without_consent(true),
        Line::new("other").channel(other.clone()),
    ];
    let board = lines.into_iter().fold(builder, |builder, line| builder.line(line)).build().unwrap();
    for of in (0..backlog).collect::<Vec<_>>().chunks(500) {
        let each = of.iter().map(|n| board.send("desk", text(*n, &format!("Bulk {n}")).purpose(Purpose::Marketing)));
        join_all(each).await.into_iter().for_each(|sent| {
            sent.unwrap();
        });
    }
    let (stop, stopped) = super::stop();
    let worker = tokio::spawn(board.clone().run(stopped));
    assert!(bulk.more_than(0, PATIENCE).await);
    let (mut waits, mut urgent) = (HashMap::<&str, Vec<Duration>>::new(), 0);
    while bulk.count() < (backlog + urgent) as usize {
        // A minute's tokens, with both at a random moment of it.
        let tokens = (60 * BULK as usize).min((backlog + urgent) as usize - bulk.count());
        let quiet = random.index(tokens);
        for _ in 0..quiet {
            step(&clock, &bulk, token()).await;
        }
        let rest = tokens - quiet;
        clock.advance(Duration::from_millis(random.below(90)));
        for (name, purpose) in [("emergency", Purpose::Emergency), ("reply", Purpose::Reply)] {
            let (words, since) = (format!("{name} {urgent}"), clock.now());
            board.send("other", text(60_000, &words).purpose(purpose)).await.unwrap();
            let before = other.count();
            board.send("desk", text(60_000, &words).purpose(purpose)).await.unwrap();
            assert!(other.more_than(before, PATIENCE).await);
            waits.entry("other line").or_default().push(other.when(&words).unwrap().since(since));
            while bulk.when(&words).is_none() {
                let count = bulk.count();
                step(&clock, &bulk, FINE).await;
                // The work of the store takes no time of this clock: let it have some of the machine's.
                bulk.more_than(count, 5 * FINE).await;
            }
            waits.entry(name).or_default().push(bulk.when(&words).unwrap().since(since));
            urgent += 1;
            // The other account has its next token, too.
            step(&clock, &bulk, token()).await;
        }
        for _ in 0..rest {
            if bulk.count() < (backlog + urgent) as usize {
                step(&clock, &bulk, token()).await;
            }
        }
    }
    drop(stop);
    worker.await.unwrap().unwrap();
    println!("{backlog} bulk messages at {BULK}/s and {urgent} urgent ones, in {:.0?}", begun.elapsed());
    for (name, max) in [("emergency", 200), ("reply", 500), ("other line", 100)] {
        let mut waits = waits.remove(name).unwrap();
        waits.sort_unstable();
        let p99 = waits[(waits.len() * 99 / 100).min(waits.len() - 1)];
        println!("{name}: p50 {:?}, p99 {p99:?}, max {:?}", waits[waits.len() / 2], waits[waits.len() - 1]);
        assert!(p99 <= Duration::from_millis(max), "{name}: {p99:?}");
    }
}

#[tokio::test]
async fn urgent_messages_pass_a_backlog() {
    let file = Database::new();
    urgent_messages_pass(&file.url()).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn urgent_messages_pass_a_backlog_in_postgres() {
    let Some(database) = super::cluster::Database::new().await else { return };
    Store::migrate(database.url()).await.unwrap();
    urgent_messages_pass(database.url()).await;
    // Nothing was put back: each message was claimed once.
    let (client, connection) = tokio_postgres::connect(database.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let row = client.query_one("SELECT max(fence) FROM civic_messaging.message", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
}

/// Sends messages to as many persons, at a rate or at none.
async fn sends(url: &str, count: u32, rate: Option<Rate>) {
    let clock = VirtualClock::starting_at(SystemClock::new().now());
    let channel = Timed::new("desk", &clock, rate, None);
    let builder = Switchboard::builder(Store::open(url).await.unwrap()).clock(clock.clone());
    let board = builder.line(Line::new("desk").channel(channel.clone())).build().unwrap();
    let before = u32::from(rate.is_some()) * count;
    for n in 0..count {
        board.send("desk", text(before + n, "Hello").key(format!("{}", before + n))).await.unwrap();
    }
    let (stop, stopped) = super::stop();
    let worker = tokio::spawn(board.clone().run(stopped));
    until(&clock, Duration::from_millis(20), async || channel.count() == count as usize).await;
    drop(stop);
    worker.await.unwrap().unwrap();
}

/// A rate puts no message back: it writes no row more often.
fn at_most_a_tenth_more((without, with): (i64, i64)) {
    println!("{without} rows written without a rate, {with} with one");
    assert!(without > 0 && with * 10 <= without * 11, "{with} rows written, and {without} without a rate");
}

#[tokio::test]
async fn rate_writes_no_more_rows() {
    let file = Database::new();
    drop(Store::open(&file.url()).await.unwrap());
    let db = rusqlite::Connection::open(&file.0).unwrap();
    let counts = "CREATE TABLE written (n INTEGER); INSERT INTO written VALUES (0);
         CREATE TRIGGER counts AFTER UPDATE ON message BEGIN UPDATE written SET n = n + 1; END";
    db.execute_batch(counts).unwrap();
    let written = || db.query_row("SELECT n FROM written", (), |row| row.get::<_, i64>(0)).unwrap();
    sends(&file.url(), 200, None).await;
    let without = written();
    sends(&file.url(), 200, Some(Rate::per_second(BULK))).await;
    at_most_a_tenth_more((without, written() - without));
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn rate_writes_no_more_rows_in_postgres() {
    let Some(database) = super::cluster::Database::new().await else { return };
    Store::migrate(database.url()).await.unwrap();
    let counts = "CREATE SEQUENCE written;
         CREATE FUNCTION counts() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             PERFORM nextval('written'); RETURN NEW; END $$;
         CREATE TRIGGER counts AFTER UPDATE ON civic_messaging.message FOR EACH ROW EXECUTE FUNCTION counts()";
    super::cluster::run(database.url(), counts).await;
    let (client, connection) = tokio_postgres::connect(database.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let written = async || client.query_one("SELECT nextval('written')", &[]).await.unwrap().get::<_, i64>(0);
    sends(database.url(), 200, None).await;
    let without = written().await;
    sends(database.url(), 200, Some(Rate::per_second(BULK))).await;
    at_most_a_tenth_more((without, written().await - without));
}

/// A worker that is started again when its store fails at the start.
struct Supervised {
    board: Switchboard,
    stop: watch::Sender<()>,
    worker: JoinHandle<()>,
}

impl Supervised {
    fn new(board: Switchboard) -> Self {
        let ((stop, stopped), runs) = (watch::channel(()), board.clone());
        let worker = tokio::spawn(async move {
            loop {
                let mut stopped = stopped.clone();
                match runs.clone().run(async move { drop(stopped.changed().await) }).await {
                    Ok(report) => return assert_eq!(report.unfinished, 0),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
                }
            }
        });
        Self { board, stop, worker }
    }

    /// Aborts the worker at an arbitrary point.
    async fn kill(self) {
        self.worker.abort();
        assert!(self.worker.await.unwrap_err().is_cancelled());
    }

    async fn close(self) {
        drop(self.stop);
        self.worker.await.unwrap();
    }
}

/// Sends five messages to each person at five rates, with failing sends, a failing store and workers killed during
/// their sends: each person gets them in order.
async fn stays_in_order(url: &str, workers: usize) {
    let (seed, persons) = (seed(20_261_202), size("CIVIC_CONVERSATIONS", 30));
    let (random, clock) = (Random::new(seed), VirtualClock::starting_at(SystemClock::new().now()));
    let rates = [None, Some(20), Some(50), Some(100), Some(200)];
    let (mut sent, mut taken, mut store_failures, mut kills) = (0, 0, 0, 0);
    let begun = Instant::now();
    for (round, rate) in rates.into_iter().enumerate() {
        let channel = Timed::new("desk", &clock, rate.map(Rate::per_second), Some(5));
        let open = async || {
            let store = loop {
                // Tables that fail fail here, too.
                if let Ok(store) = Store::open(url).await {
                    break store;
                }
            };
            let builder = Switchboard::builder(store).clock(clock.clone());
            Supervised::new(builder.line(Line::new("desk").channel(channel.clone())).build().unwrap())
        };
        let mut desks = Vec::new();
        for _ in 0..workers {
            desks.push(open().await);
        }
        let mut ids = Vec::new();
        for n in 0..5 {
            let before = channel.count();
            for to in 0..persons {
                let key = format!("{round}/{to}/{n}");
                let message = text(to, &format!("{to}/{n}")).on_unknown(OnUnknown::Park).key(key);
                // The same key again, until the store has it.
                let id = loop {
                    let desk = &desks[random.index(workers)];
                    match desk.board.send("desk", message.clone()).await {
                        Ok(id) => break id,
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
                    }
                    store_failures += 1;
                };
                ids.push(id);
                if to % 20 == 0 {
                    clock.advance(Duration::from_millis(50));
                }
            }
            let some = before + random.index(persons as usize) / 2;
            until(&clock, Duration::from_millis(20), async || channel.count() >= some).await;
            if n < 3 {
                // During its sends.
                desks.swap_remove(random.index(workers)).kill().await;
                kills += 1;
                clock.advance(Duration::from_secs(181));
                desks.push(open().await);
            }
        }
        let board = &desks[0].board;
        let is_settled = async |id: &Id| board.status(*id).await.unwrap().unwrap().state.is_settled();
        for id in &ids {
            until(&clock, Duration::from_millis(100), async || is_settled(id).await).await;
        }
        let states = join_all(ids.iter().map(|id| board.status(*id))).await;
        let parked = states.iter().filter(|status| matches!(status, Ok(Some(one)) if one.state != State::Accepted));
        // Of each kill, those that were being sent.
        let (parked, texts) = (parked.count(), channel.taken.lock().unwrap().clone());
        assert!(parked <= 3 * 32, "hardly anything went: {parked} did not, of {}", ids.len());
        let mut last = HashMap::<u32, u32>::new();
        for (words, _) in &texts {
            let (to, n) = words.split_once('/').unwrap();
            let (to, n) = (to.parse().unwrap(), n.parse().unwrap());
            let before = last.insert(to, n);
            assert!(before.is_none_or(|before| before < n), "at {rate:?}: {to} had {before:?} before {n}");
        }
        (sent, taken) = (sent + ids.len(), taken + texts.len());
        for desk in desks {
            desk.close().await;
        }
    }
    println!(
        "{sent} messages to {persons} persons at five rates, {taken} accepted, {kills} kills, {store_failures} failed \
         enqueues, {workers} workers: 0 out of order, in {:.0?}",
        begun.elapsed()
    );
    assert!(store_failures > 0, "the store did not fail");
}

/// Advances the clock in steps until the condition holds.
async fn until(clock: &VirtualClock, step: Duration, mut is_so: impl AsyncFnMut() -> bool) {
    let passing = async {
        while !is_so().await {
            clock.advance(step);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(600), passing).await.expect("it never is");
}

#[tokio::test]
async fn conversations_stay_in_order_while_the_store_fails() {
    let file = Database::new();
    drop(Store::open(&file.url()).await.unwrap());
    let fails = ["INSERT", "UPDATE"].map(|what| {
        let when = format!("CREATE TRIGGER fails_{what} BEFORE {what} ON message WHEN random() % 40 = 0");
        format!("{when} BEGIN SELECT RAISE(ABORT, 'it fails'); END;")
    });
    rusqlite::Connection::open(&file.0).unwrap().execute_batch(&fails.concat()).unwrap();
    stays_in_order(&file.url(), 1).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn conversations_stay_in_order_while_the_store_fails_in_postgres() {
    let Some(database) = super::cluster::Database::new().await else { return };
    Store::migrate(database.url()).await.unwrap();
    let fails = "CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF random() < 0.02 THEN RAISE EXCEPTION USING ERRCODE = 'disk_full'; END IF;
             RETURN NEW; END $$;
         CREATE TRIGGER fails BEFORE INSERT OR UPDATE ON civic_messaging.message FOR EACH ROW EXECUTE FUNCTION fails()";
    super::cluster::run(database.url(), fails).await;
    stays_in_order(database.url(), 2).await;
}
