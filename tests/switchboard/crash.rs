//! Kills a worker at random moments with `kill -9`, with a gateway on loopback that counts what it accepted.
//!
//! `CIVIC_CYCLES` sets the number of kills (200, and 60 for PostgreSQL), `CIVIC_SEED` the seed.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use civic_messaging::clock::{Clock, SystemClock, VirtualClock};
use civic_messaging::switchboard::{Counts, Line, State, Store, Switchboard};
use civic_messaging::testing::{FakeGateway, Step};
use civic_messaging::{Channel, Message, OnUnknown, Twilio, twilio};

use super::{Ahead, Random, number, person, seed};

const DATABASE: &str = "CIVIC_TEST_DATABASE";
const GATEWAY: &str = "CIVIC_TEST_GATEWAY";
const CYCLE: &str = "CIVIC_TEST_CYCLE";
const AHEAD: &str = "CIVIC_TEST_AHEAD";

pub(super) const TAKEN: &str = r#"{"sid":"SM{}","status":"queued","num_segments":"1"}"#;

pub(super) fn channel(base: &str) -> Twilio {
    twilio::Config::new("ACa1b2c3d4e5f60718293a4b5c6d7e8f90", "0123456789abcdef0123456789abcdef")
        .and_then(|config| config.sender("+447700900999"))
        .and_then(|config| config.base_url(base))
        .and_then(Twilio::sms)
        .unwrap()
}

async fn switchboard(database: &str, base: &str, ahead: Duration) -> Switchboard {
    let store = Store::open(database).await.unwrap();
    // Ahead, so that claims of the previous worker have lapsed.
    Switchboard::builder(store).clock(Ahead::by(ahead)).line(Line::new("desk").channel(channel(base))).build().unwrap()
}

/// The process that is killed: it enqueues messages, prints the key of each, and sends them. Does nothing without its
/// variables.
#[tokio::test]
async fn child() {
    let (Ok(database), Ok(base)) = (std::env::var(DATABASE), std::env::var(GATEWAY)) else { return };
    let cycle: u32 = std::env::var(CYCLE).unwrap().parse().unwrap();
    let ahead = Duration::from_secs(std::env::var(AHEAD).unwrap().parse().unwrap());
    let board = switchboard(&database, &base, ahead).await;
    tokio::spawn(board.clone().run(std::future::pending()));
    for n in 0.. {
        let key = format!("{cycle:05}-{n:05}");
        let on_unknown = if n % 2 == 0 { OnUnknown::Park } else { OnUnknown::Reconcile };
        let message = Message::text(person((cycle * 50 + n % 50) % 100_000), format!("Message {key}."))
            .key(&key)
            .on_unknown(on_unknown);
        board.send("desk", message).await.unwrap();
        // From here on the message is durable.
        println!("took {key}");
        std::io::stdout().flush().unwrap();
    }
}

fn start(database: &str, base: &str, cycle: u64, ahead: Duration) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--nocapture", "--test-threads=1"])
        .env(DATABASE, database)
        .env(GATEWAY, base)
        .env(CYCLE, cycle.to_string())
        .env(AHEAD, ahead.as_secs().to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[cfg(feature = "sqlite-system")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crash_neither_loses_nor_doubles_messages() {
    let file = super::Database::new();
    survives(&file.url(), 200, Duration::from_millis(80), Duration::ZERO).await;
}

/// A new worker cannot detect that the previous one died and waits until its claims lapse; here its clock is ahead by
/// that much.
#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crash_neither_loses_nor_doubles_messages_in_postgres() {
    let Some(database) = super::cluster::Database::new().await else { return };
    Store::migrate(database.url()).await.unwrap();
    survives(database.url(), 60, Duration::from_millis(200), Duration::from_secs(181)).await;
}

/// Kills `cycles` workers within `within` of their start, each with its clock `ahead` of the previous one.
async fn survives(database: &str, cycles: u64, within: Duration, ahead: Duration) {
    let (cycles, seed) = (number("CIVIC_CYCLES", cycles), seed(20_261_125));
    let gateway = FakeGateway::start().await;
    gateway.always(Step::any().answers(201, TAKEN.replace("{}", "1a2b3c4d5e6f708192a3b4c5d6e7f809")));

    let (mut taken, random, mut clock) = (Vec::new(), Random::new(seed), Duration::ZERO);
    for cycle in 0..cycles {
        clock += ahead;
        let mut child = start(database, &gateway.base_url(), cycle, clock);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, mut received) = tokio::sync::mpsc::unbounded_channel();
        let reading = tokio::task::spawn_blocking(move || {
            let keys = lines.map_while(Result::ok).filter_map(|line| Some(line.strip_prefix("took ")?.to_owned()));
            keys.for_each(|key| sender.send(key).unwrap());
        });
        // One of four is killed during its start, which takes about 20 ms; the others after they enqueued some
        // messages, on a machine of any speed.
        let first = random.below(4) * 2;
        for _ in 0..first {
            taken.extend(received.recv().await);
        }
        let within = u64::try_from(within.as_micros()).unwrap();
        let more = if first == 0 { 5_000 + random.below(within) } else { random.below(within) / 4 };
        tokio::time::sleep(Duration::from_micros(more)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        reading.await.unwrap();
        while let Some(key) = received.recv().await {
            taken.push(key);
        }
    }

    // The last worker runs until nothing is left to do. An unknown message blocks later ones to the same person until
    // enough look-ups were made.
    let time = VirtualClock::starting_at(SystemClock::new().now().plus(clock + ahead));
    let builder = Switchboard::builder(Store::open(database).await.unwrap()).clock(time.clone());
    let board = builder.line(Line::new("desk").channel(channel(&gateway.base_url()))).build().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let worker = tokio::spawn(board.clone().run(async { drop(stopped.await) }));
    let open = [State::Queued, State::Claimed, State::Sending, State::Deferred];
    let left = |stats: Counts| open.into_iter().map(|state| stats.count(state)).sum::<u64>();
    let mut before = 0;
    loop {
        let now = board.stats().await.unwrap().all();
        let is_sending = now.count(State::Claimed) + now.count(State::Sending) > 0;
        match left(now) {
            0 => break,
            // No message is sent any more.
            left if left == before && !is_sending => time.advance(Duration::from_secs(300)),
            left => before = left,
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(stop);
    worker.await.unwrap().unwrap();

    let mut copies = HashMap::<String, usize>::new();
    for request in gateway.requests().iter().filter(|request| request.accepted) {
        let texts = request.texts();
        // A look-up has no text.
        let Some(text) = texts.iter().find_map(|text| text.strip_prefix("Message ")) else { continue };
        *copies.entry(text.trim_end_matches('.').to_owned()).or_default() += 1;
    }
    let twice: Vec<_> = copies.iter().filter(|(_, copies)| **copies > 1).collect();
    let (mut lost, mut false_sent, mut unknown) = (Vec::new(), Vec::new(), 0);
    for key in &taken {
        let Some(id) = board.by_key("desk", key).await.unwrap() else {
            lost.push(key);
            continue;
        };
        let status = board.status(id).await.unwrap().unwrap();
        match status.state {
            State::Accepted if !copies.contains_key(key) => false_sent.push(key),
            State::Accepted => {}
            State::Unknown | State::Parked => unknown += 1,
            state => panic!("{key} is {state:?}: {:?}", status.reason),
        }
    }
    println!(
        "{cycles} kills: {} messages taken, {} accepted by the gateway, {unknown} in doubt, {} lost, {} called sent that \
         were not, {} sent twice",
        taken.len(),
        copies.len(),
        lost.len(),
        false_sent.len(),
        twice.len(),
    );
    assert!(lost.is_empty() && false_sent.is_empty() && twice.is_empty(), "{lost:?} {false_sent:?} {twice:?}");
    assert!(taken.len() > cycles as usize && copies.len() > cycles as usize, "hardly anything happened");
    assert!(channel(&gateway.base_url()).info().layers.is_empty());
}
