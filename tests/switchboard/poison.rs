//! A poison message that aborts the process whenever it is sent, among a thousand others that are all sent.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use civic_messaging::switchboard::{Line, State, Store, Switchboard};
use civic_messaging::webhook::{Received, Request};
use civic_messaging::{Accepted, Channel, Error, Info, Message, Mock, OnUnknown, Result, async_trait};

use super::{Database, person, stop};

const DATABASE: &str = "CIVIC_TEST_POISON";
const POISON: &str = "Message 500.";

/// An adapter with a fault that `catch_unwind` cannot catch; it records what it delivers.
#[derive(Debug)]
struct Fatal {
    mock: Mock,
    delivered: PathBuf,
}

#[async_trait]
impl Channel for Fatal {
    fn info(&self) -> &Info {
        self.mock.info()
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let words = message.content.as_text().unwrap();
        if words == POISON {
            std::process::abort();
        }
        let mut file = std::fs::File::options().create(true).append(true).open(&self.delivered).unwrap();
        file.write_all(format!("{words}\n").as_bytes()).unwrap();
        self.mock.send(message).await
    }

    async fn receive(&self, _: &Request) -> Result<Received> {
        Err(Error::unsupported("it only sends"))
    }
}

async fn switchboard(database: &str) -> Switchboard {
    let delivered = PathBuf::from(format!("{}-delivered", database.trim_start_matches("sqlite:")));
    let line = Line::new("desk").channel(Fatal { mock: Mock::sms(), delivered });
    Switchboard::builder(Store::open(database).await.unwrap()).line(line).build().unwrap()
}

/// The process that aborts. Does nothing without its variable.
#[tokio::test]
async fn child() {
    let Ok(database) = std::env::var(DATABASE) else { return };
    let board = switchboard(&database).await;
    let (stop, stopped) = stop();
    let worker = tokio::spawn(board.clone().run(stopped));
    while board.stats().await.unwrap().all().messages.iter().any(|(state, _)| !state.is_settled()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(stop);
    worker.await.unwrap().unwrap();
}

#[tokio::test]
async fn poison_message_is_parked_after_three_crashes() {
    let database = Database::new();
    let board = switchboard(&database.url()).await;
    let mut ids = Vec::new();
    for n in 0..=1000 {
        let message = Message::text(person(n), format!("Message {n}.")).on_unknown(OnUnknown::Resend);
        ids.push(board.send("desk", message).await.unwrap());
    }
    let mut deaths = 0;
    loop {
        let ended = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "poison::child", "--test-threads=1"])
            .env(DATABASE, database.url())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        if ended.success() {
            break;
        }
        // Only by the signal.
        assert_eq!(ended.code(), None);
        deaths += 1;
        assert!(deaths < 20, "it is never found");
    }
    let delivered_at = PathBuf::from(format!("{}-delivered", database.0.display()));
    let delivered = std::fs::read_to_string(&delivered_at).unwrap();
    std::fs::remove_file(&delivered_at).unwrap();
    let (mut accepted, mut harmed) = (0, 0);
    for (n, id) in ids.into_iter().enumerate() {
        let status = board.status(id).await.unwrap().unwrap();
        let words = format!("Message {n}.");
        let copies = delivered.lines().filter(|line| *line == words).count();
        if words == POISON {
            let reason = status.reason.unwrap();
            assert_eq!((status.state, status.attempts, copies), (State::Parked, 3, 0), "{reason}");
            assert!(reason.starts_with("outcome unknown: the process ended during each of three sends"), "{reason}");
            continue;
        }
        accepted += usize::from(status.state == State::Accepted && copies > 0);
        harmed += usize::from(status.attempts > 1);
    }
    println!(
        "{deaths} deaths: the cause is parked, {accepted} others went, {harmed} of them were in flight at a death"
    );
    assert_eq!((deaths, accepted), (3, 1000));
}
