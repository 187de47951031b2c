//! Damages the file of a closed store: flips a bit, or truncates a file. The store must then be refused when opened,
//! fail with a typed error, or be correct; and nothing wrong is sent.
//!
//! `CIVIC_DAMAGES` sets the number of damages (200), `CIVIC_SEED` the seed.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use civic_messaging::clock::{Clock, SystemClock, VirtualClock};
use civic_messaging::switchboard::{Id, Line, State, Store, Switchboard};
use civic_messaging::{Error, ErrorKind, Message, Mock, OnUnknown, Outcome};
use tokio::task::JoinSet;

use super::{Database, Random, number, person, seed, stop};

/// The files of a store with messages in all states.
struct Template {
    /// After a crash: the database, and the WAL with half of the writes.
    crashed: (Vec<u8>, Vec<u8>),
    /// After a checkpoint.
    whole: Vec<u8>,
    /// The messages by key, and their states.
    messages: HashMap<String, (Message, Id, State)>,
}

fn board(store: Store, mock: &Mock) -> Switchboard {
    Switchboard::builder(store).line(line(mock)).route("sms", ["desk"]).build().unwrap()
}

fn line(mock: &Mock) -> Line {
    Line::new("desk").channel(mock.clone())
}

fn mock() -> Mock {
    // Without look-ups.
    Mock::sms().capability(|can| (can.look_up, can.poll) = (false, false))
}

fn message(n: u32) -> Message {
    let message = Message::text(person(n), format!("Message {n} of this council.")).key(format!("key-{n:03}"));
    message.on_unknown(if n.is_multiple_of(2) { OnUnknown::Park } else { OnUnknown::Reconcile })
}

fn waits(state: State) -> bool {
    matches!(state, State::Queued | State::Claimed | State::Sending)
}

async fn template() -> Template {
    let (database, mock) = (Database::new(), mock());
    let store = Store::open(&database.url()).await.unwrap();
    let board = board(store.clone(), &mock);
    let log = rusqlite::Connection::open(&database.0).unwrap();
    // A clock one second behind accepts messages that are expired by the worker's clock.
    let now = SystemClock::new().now();
    let slow = VirtualClock::starting_at(now.minus(Duration::from_secs(1)));
    let slow = Switchboard::builder(store.clone()).clock(slow).line(line(&mock)).build().unwrap();
    let (mut n, mut messages) = (0, HashMap::new());
    let later = now.plus(Duration::from_secs(3600));
    let mut next =
        |state: State, id: Id, message: Message| messages.insert(message.key.clone().unwrap(), (message, id, state));
    let mut one = || {
        n += 1;
        message(n)
    };
    for half in 0..2 {
        // Messages that wait and are sent together.
        for _ in 0..10 {
            let message = one();
            next(State::Accepted, board.send("desk", message.clone()).await.unwrap(), message);
        }
        let (stop, stopped) = stop();
        let worker = tokio::spawn(board.clone().run(stopped));
        while board.stats().await.unwrap().all().messages.iter().any(|(state, _)| waits(*state)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for round in 0..20 {
            let message = if round % 5 == 4 { one().not_after(now) } else { one() };
            let state = match round % 5 {
                0 => State::Accepted,
                1 => {
                    mock.will_fail(Error::new(ErrorKind::OptedOut, "said STOP").with_outcome(Outcome::Rejected));
                    State::Rejected
                }
                2 | 3 => {
                    mock.will_fail(Error::unknown("no answer in time"));
                    if message.on_unknown == OnUnknown::Park { State::Parked } else { State::Unknown }
                }
                _ => State::Expired,
            };
            let taken = if state == State::Expired { &slow } else { &board };
            let id = taken.send("desk", message.clone()).await.unwrap();
            while board.status(id).await.unwrap().unwrap().state != state {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            next(state, id, message);
            assert_eq!(board.receive("sms", mock.arrives("07700 900123", format!("{half} {round}"))).await.status, 200);
        }
        drop(stop);
        worker.await.unwrap().unwrap();
        for state in [State::Deferred, State::Cancelled, State::Deferred, State::Cancelled] {
            let message = one();
            let id = board.send_at("desk", message.clone(), later).await.unwrap();
            assert!(state == State::Deferred || board.cancel(id).await.unwrap());
            next(state, id, message);
        }
        if half == 0 {
            log.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        }
    }
    for n in 0..20 {
        let message = one();
        let id = board.send("desk", message.clone()).await.unwrap();
        let state = [State::Queued, State::Queued, State::Claimed, State::Sending][n % 4];
        next(state, id, message);
        // As a killed worker leaves them.
        if n % 4 > 1 {
            let id: i64 = id.to_string().parse().unwrap();
            let held = "UPDATE message SET state = ?2, lease = ?3, fence = 1, attempts = ?2 = 'sending' WHERE id = ?1";
            log.execute(held, (id, state.as_str(), later.as_millis())).unwrap();
            let attempt = "INSERT INTO attempt (message, n, gateway, account, begun)
                 SELECT id, 1, 'mock', 'mock-account', queued FROM message WHERE id = ?1 AND state = 'sending'";
            log.execute(attempt, (id,)).unwrap();
        }
    }
    let wal = format!("{}-wal", database.0.display());
    let crashed = (std::fs::read(&database.0).unwrap(), std::fs::read(&wal).unwrap());
    log.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    Template { crashed, whole: std::fs::read(&database.0).unwrap(), messages }
}

/// The result of one damage.
#[derive(Debug, Default)]
struct Tally {
    damages: usize,
    refused: usize,
    failed: usize,
    sent: usize,
    /// Sent although accepted before.
    again: usize,
    /// Sent although it must not be sent for another reason.
    astray: usize,
    /// Enqueued but missing.
    lost: usize,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.damages += other.damages;
        self.refused += other.refused;
        self.failed += other.failed;
        self.sent += other.sent;
        self.again += other.again;
        self.astray += other.astray;
        self.lost += other.lost;
    }
}

async fn opened(database: &Database, template: &Template) -> Tally {
    let mut tally = Tally { damages: 1, ..Tally::default() };
    let store = match Store::open(&database.url()).await {
        Ok(store) => store,
        Err(error) => {
            assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("store")), "{error}");
            assert!(error.to_string().contains("restore a backup"), "{error}");
            return Tally { refused: 1, ..tally };
        }
    };
    let (mock, mut failures) = (mock(), Vec::new());
    let board = board(store, &mock);
    let (stop, stopped) = stop();
    let worker = tokio::spawn(board.clone().run(stopped));
    // Until nothing is left to do, or for a limited time if it fails.
    for _ in 0..60 {
        match board.stats().await {
            Ok(stats) if !stats.all().messages.iter().any(|(state, _)| waits(*state)) => break,
            Ok(_) => {}
            Err(error) => failures.push(error),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for (key, (_, id, _)) in &template.messages {
        match board.by_key("desk", key).await {
            Ok(there) => tally.lost += usize::from(there != Some(*id)),
            Err(error) => failures.push(error),
        }
        failures.extend(board.status(*id).await.err());
    }
    match board.line("desk").unwrap().try_next().await {
        Ok(Some(event)) => failures.extend(event.ack().await.err()),
        Ok(None) => {}
        Err(error) => failures.push(error),
    }
    drop(stop);
    failures.extend(worker.await.unwrap().err());
    for error in &failures {
        assert_eq!((error.kind(), error.field()), (ErrorKind::Unavailable, Some("store")), "{error}");
        assert!(!error.to_string().contains("is closed"), "its thread ended");
    }
    tally.failed = usize::from(!failures.is_empty());
    let mut copies = BTreeMap::new();
    for sent in mock.sent() {
        let key = sent.key.clone().unwrap();
        let Some((message, _, state)) = template.messages.get(&key) else { panic!("unknown message {key}") };
        assert_eq!((&sent.to, &sent.content), (&message.to, &message.content), "{key} is not what was taken");
        tally.sent += 1;
        tally.again += usize::from(*state == State::Accepted);
        tally.astray += usize::from(!matches!(state, State::Accepted | State::Queued | State::Claimed));
        assert_eq!(copies.insert(key, ()), None, "one was sent twice");
    }
    tally
}

/// Counts panics in this test and in the store's threads.
fn panics() -> &'static AtomicU32 {
    static PANICS: OnceLock<AtomicU32> = OnceLock::new();
    PANICS.get_or_init(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            if name.starts_with("damage::") || name == "civic-store" {
                panics().fetch_add(1, Ordering::Relaxed);
            }
            before(panic);
        }));
        AtomicU32::new(0)
    })
}

#[tokio::test]
async fn damaged_store_sends_nothing_wrong() {
    let (damages, seed) = (number("CIVIC_DAMAGES", 200), seed(20_261_128));
    panics();
    let (template, mut working) = (Arc::new(template().await), JoinSet::new());
    let mut all = BTreeMap::<&str, Tally>::new();
    for n in 0..damages {
        working.spawn(damaged(template.clone(), Random::new(seed + n)));
        // They mostly wait for the disk.
        while working.len() >= 32 || n + 1 == damages && !working.is_empty() {
            let (what, tally) = working.join_next().await.unwrap().unwrap();
            all.entry(what).or_default().add(&tally);
        }
    }
    for (what, tally) in &all {
        println!("{what}: {tally:?}");
        // A missing end of the WAL cannot be detected.
        let wrong = if *what == "the log, cut off" { 0 } else { tally.again + tally.astray + tally.lost };
        assert_eq!(wrong, 0, "{what}");
    }
    assert_eq!(panics().load(Ordering::Relaxed), 0);
}

/// Damages the files of a store and opens it.
async fn damaged(template: Arc<Template>, random: Random) -> (&'static str, Tally) {
    let (database, (mut db, mut wal)) = (Database::new(), template.crashed.clone());
    let what = match random.below(10) {
        0..4 => {
            (db, wal) = (template.whole.clone(), Vec::new());
            "the database"
        }
        4..6 => "the database beside a log",
        _ => "the log",
    };
    let target = if what == "the log" { &mut wal } else { &mut db };
    let at = usize::try_from(random.below(target.len() as u64)).unwrap();
    let what = if random.below(4) == 0 {
        target.truncate(at);
        if what == "the log" { "the log, cut off" } else { what }
    } else {
        target[at] ^= 1 << random.below(8);
        what
    };
    std::fs::write(&database.0, &db).unwrap();
    if !wal.is_empty() {
        std::fs::write(format!("{}-wal", database.0.display()), &wal).unwrap();
    }
    (what, opened(&database, &template).await)
}
