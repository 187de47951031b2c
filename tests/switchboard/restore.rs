//! A backup of the store, made under load and restored later.

use std::collections::HashMap;
use std::time::Duration;

use civic_messaging::clock::{Clock, SystemClock};
use civic_messaging::switchboard::{Line, State, Store, Switchboard};
use civic_messaging::testing::{FakeGateway, Step};
use civic_messaging::{Message, Mock, OnUnknown};

use super::crash::channel;
use super::{Database, number, person, virtual_clock};

const TAKEN: &str = r#"{"sid":"SM1a2b3c4d5e6f708192a3b4c5d6e7f809","status":"queued","num_segments":"1"}"#;

async fn open(database: &Database, gateway: &FakeGateway) -> (Store, Switchboard) {
    let store = Store::open(&database.url()).await.unwrap();
    let line = Line::new("desk").channel(channel(&gateway.base_url()));
    (store.clone(), Switchboard::builder(store).line(line).build().unwrap())
}

/// Runs until nothing can be sent.
async fn work(board: &Switchboard) {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let worker = tokio::spawn(board.clone().run(async { drop(stopped.await) }));
    let open = [State::Queued, State::Claimed, State::Sending];
    while board.stats().await.unwrap().all().messages.iter().any(|(state, count)| open.contains(state) && *count > 0) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(stop);
    worker.await.unwrap().unwrap();
}

/// Restores a backup, with or without `hold_after_restore`. Returns the number of messages with several copies, and the
/// number held.
async fn twice_after_a_restore(declared: bool, delay: Duration) -> (usize, u64) {
    let (gateway, original, copy) = (FakeGateway::start().await, Database::new(), Database::new());
    gateway.always(Step::any().answers(201, TAKEN));
    let (_, board) = open(&original, &gateway).await;
    for n in 0..40 {
        let way = [OnUnknown::Park, OnUnknown::Reconcile, OnUnknown::Resend][n as usize % 3];
        board.send("desk", Message::text(person(n), format!("Message {n}.")).on_unknown(way)).await.unwrap();
    }
    let begun = SystemClock::new().now();
    let working = tokio::spawn({
        let board = board.clone();
        async move { work(&board).await }
    });
    tokio::time::sleep(delay).await;
    let backup = rusqlite::Connection::open(&original.0).unwrap();
    backup.execute("VACUUM INTO ?1", [copy.0.to_str().unwrap()]).unwrap();
    working.await.unwrap();
    drop(board);

    let (store, board) = open(&copy, &gateway).await;
    let held = if declared { store.hold_after_restore(begun).await.unwrap() } else { 0 };
    work(&board).await;
    let mut copies = HashMap::<String, usize>::new();
    for request in gateway.requests().iter().filter(|request| request.accepted) {
        let texts = request.texts();
        *copies.entry(texts.iter().find(|text| text.starts_with("Message ")).unwrap().clone()).or_default() += 1;
    }
    assert_eq!(copies.len(), 40);
    (copies.values().filter(|copies| **copies > 1).count(), held)
}

#[tokio::test]
async fn restored_backup_sends_nothing_twice() {
    let runs = number("CIVIC_RESTORES", 10);
    let (mut twice, mut held) = (0, 0);
    for run in 0..runs {
        let (more, kept) = twice_after_a_restore(true, Duration::from_millis(run * 12)).await;
        (twice, held) = (twice + more, held + kept);
    }
    println!("{runs} restores: {held} messages were held, {twice} sent twice");
    assert!(twice == 0 && held > 0);
    // Without `hold_after_restore` messages are sent twice.
    assert!(twice_after_a_restore(false, Duration::ZERO).await.0 > 0);
}

#[tokio::test]
async fn restored_message_is_sent_only_if_the_gateway_lacks_it() {
    let clock = virtual_clock();
    let (mock, store) = (Mock::sms(), Store::open("sqlite::memory:").await.unwrap());
    let line = Line::new("desk").channel(mock.clone());
    let board = Switchboard::builder(store.clone()).line(line).clock(clock.clone()).build().unwrap();
    // The gateway accepted the first before the crash, which the backup does not contain.
    civic_messaging::Channel::send(&mock, &Message::text(person(1), "One").key("one")).await.unwrap();
    let one = board.send("desk", Message::text(person(1), "One").key("one")).await.unwrap();
    let two = board.send("desk", Message::text(person(2), "Two").key("two")).await.unwrap();
    assert_eq!(store.hold_after_restore(clock.now()).await.unwrap(), 2);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let worker = tokio::spawn(board.clone().run(async { drop(stopped.await) }));
    let state = async |id| board.status(id).await.unwrap().unwrap().state;
    let mut minutes = 0;
    while state(one).await != State::Accepted || state(two).await != State::Accepted {
        if minutes < 9 {
            assert_eq!((state(one).await, state(two).await), (State::Unknown, State::Unknown));
        }
        // The worker is idle until its next round and its next look-up.
        while clock.sleepers() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        clock.advance(Duration::from_secs(60));
        minutes += 1;
        assert!(minutes < 60, "{:?} {:?}", state(one).await, state(two).await);
    }
    mock.assert_sent(person(1).expose(), "One");
    mock.assert_sent(person(2).expose(), "Two");
    drop(stop);
    // The worker wakes for the shutdown at any time.
    worker.await.unwrap().unwrap();
}
