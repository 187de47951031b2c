//! Several workers on one database.

use std::time::Duration;

use civic_messaging::switchboard::{Line, ShutdownReport, State, Store, Switchboard};
use civic_messaging::{ErrorKind, Message, Mock};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{cluster, person};

/// The switchboard and worker of one process.
async fn process(
    url: &str,
    mock: &Mock,
) -> (Switchboard, oneshot::Sender<()>, JoinHandle<civic_messaging::Result<ShutdownReport>>) {
    let store = Store::open(url).await.unwrap();
    let line = Line::new("desk").channel(mock.clone());
    let board = Switchboard::builder(store).line(line).route("sms", ["desk"]).build().unwrap();
    let (stop, stopped) = oneshot::channel();
    let worker = tokio::spawn(board.clone().run(async { drop(stopped.await) }));
    (board, stop, worker)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_share_messages_in_order_without_doubles() {
    let Some(database) = cluster::Database::new().await else { return };
    let error = Store::open(database.url()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(Store::migrations(database.url()).await.unwrap().contains("CREATE SCHEMA"));
    Store::migrate(database.url()).await.unwrap();

    let mocks = [Mock::sms(), Mock::sms(), Mock::sms()];
    let mut processes = Vec::new();
    for mock in &mocks {
        processes.push(process(database.url(), mock).await);
    }
    // 300, then more until each worker has a share: on a busy machine one may be idle for long.
    let mut all = 0;
    while all < 300 || mocks.iter().any(|mock| mock.sent().is_empty()) {
        let (board, ..) = &processes[all % 3];
        let message = Message::text(person(u32::try_from(all % 20).unwrap()), format!("{all:05}"));
        board.send("desk", message).await.unwrap();
        all += 1;
        assert!(all < 30_000, "one did it all");
    }
    let (board, ..) = &processes[0];
    while board.stats().await.unwrap().all().messages != [(State::Accepted, all as u64)].into() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let shares: Vec<_> = mocks.iter().map(Mock::sent).collect();
    assert_eq!(shares.iter().map(Vec::len).sum::<usize>(), all);
    for share in &shares {
        for n in 0..20 {
            let to = person(n);
            let of: Vec<_> =
                share.iter().filter(|message| message.to == to).map(|m| m.content.as_text().unwrap()).collect();
            assert!(of.is_sorted(), "{of:?}");
        }
    }

    // One process receives, another reads.
    let (mock, text) = (&mocks[1], "Thank you");
    let (taking, ..) = &processes[1];
    assert_eq!(taking.receive("sms", mock.arrives("07700 900123", text)).await.status, 200);
    let inbox = board.line("desk").unwrap();
    let inbound = loop {
        let handed = inbox.try_next().await.unwrap().expect("it is there");
        let words = handed.as_inbound().and_then(|inbound| inbound.text()).map(str::to_owned);
        handed.ack().await.unwrap();
        if words.is_some() {
            break words;
        }
    };
    assert_eq!(inbound.as_deref(), Some(text));
    for (_, stop, worker) in processes {
        drop(stop);
        assert_eq!(worker.await.unwrap().unwrap().unfinished, 0);
    }
}
