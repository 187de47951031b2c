//! A clock that ran ahead and was corrected.

use std::time::Duration;

use civic_messaging::clock::Clock;
use civic_messaging::switchboard::{Id, Line, State, Store, Switchboard};
use civic_messaging::{Error, ErrorKind, Message, Mock};

use super::{Ahead, Database, person, stop};

const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);

async fn until(board: &Switchboard, id: Id, state: State) {
    let found = async {
        loop {
            let status = board.status(id).await.unwrap().unwrap();
            if status.state == state && (state != State::Deferred || status.attempts > 0) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let status = tokio::time::timeout(Duration::from_secs(20), found).await;
    assert!(status.is_ok(), "{:?}", board.status(id).await);
}

async fn corrected(store: Store) {
    let (clock, mock) = (Ahead::by(YEAR), Mock::sms());
    let line = Line::new("desk").channel(mock.clone());
    let lease = Duration::from_millis(500);
    let board = Switchboard::builder(store).line(line).clock(clock.clone()).lease(lease).build().unwrap();
    let (stop, stopped) = stop();
    let worker = tokio::spawn(board.clone().run(stopped));
    let send = |n, words| board.send("desk", Message::text(person(n), words));
    let first = send(1, "before").await.unwrap();
    until(&board, first, State::Accepted).await;
    mock.will_fail(Error::new(ErrorKind::Unavailable, "busy").with_retry(true, None));
    let failed = send(2, "again").await.unwrap();
    until(&board, failed, State::Deferred).await;
    let planned = board.send_at("desk", Message::text(person(3), "planned"), clock.now().plus(YEAR)).await.unwrap();
    tokio::time::sleep(2 * lease).await;

    clock.set_back(YEAR);
    let late = send(4, "after").await.unwrap();
    until(&board, late, State::Accepted).await;
    until(&board, failed, State::Accepted).await;
    assert_eq!(board.status(failed).await.unwrap().unwrap().attempts, 2);
    // An account that a caller named is left to a person.
    assert_eq!(board.status(planned).await.unwrap().unwrap().state, State::Deferred);
    assert_eq!(board.stats().await.unwrap().all().implausible, 1);
    drop(stop);
    worker.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backoff_of_a_fast_clock_ends_in_sqlite() {
    let database = Database::new();
    corrected(Store::open(&database.url()).await.unwrap()).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backoff_of_a_fast_clock_ends_in_postgres() {
    let Some(database) = super::cluster::Database::new().await else { return };
    Store::migrate(database.url()).await.unwrap();
    corrected(Store::open(database.url()).await.unwrap()).await;
}
