//! Eight processes on one file, while another repeatedly holds the write lock for two seconds.
//!
//! `CIVIC_OPERATIONS` sets how many messages each process sends and looks up by key (200).

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use civic_messaging::switchboard::{Line, State, Store, Switchboard};
use civic_messaging::{Message, Mock};
use futures_util::future::join_all;

use super::{Database, number, person};

const DATABASE: &str = "CIVIC_TEST_LOCKED";
const PROCESS: &str = "CIVIC_TEST_PROCESS";
const PROCESSES: u64 = 8;

/// The number of concurrent operations in a process.
const AT_ONCE: u64 = 20;

const HELD: Duration = Duration::from_secs(2);
const FREE: Duration = Duration::from_millis(250);

async fn switchboard(database: &str) -> Switchboard {
    let store = Store::open(database).await.unwrap();
    Switchboard::builder(store).line(Line::new("desk").channel(Mock::sms())).build().unwrap()
}

/// The process that sends. Does nothing without its variables.
#[tokio::test]
async fn child() {
    let (Ok(database), Ok(process)) = (std::env::var(DATABASE), std::env::var(PROCESS)) else { return };
    if process == "holds" {
        return hold(&database);
    }
    let board = switchboard(&database).await;
    let mut longest = Duration::ZERO;
    let operations = number("CIVIC_OPERATIONS", 200);
    for first in (0..operations).step_by(AT_ONCE as usize) {
        let begun = Instant::now();
        let some = join_all((first..operations.min(first + AT_ONCE)).map(|n| {
            let (board, key) = (&board, format!("{process}-{n}"));
            async move {
                let message = Message::text(person(u32::try_from(n).unwrap()), format!("Message {key}.")).key(&key);
                let id = board.send("desk", message).await.unwrap();
                assert_eq!(board.status(id).await.unwrap().unwrap().state, State::Queued);
            }
        }));
        some.await;
        longest = longest.max(begun.elapsed());
    }
    println!("\nlongest {}", longest.as_millis());
}

/// Holds the lock until its output is closed.
fn hold(database: &str) {
    let connection = rusqlite::Connection::open(database.trim_start_matches("sqlite:")).unwrap();
    connection.busy_timeout(Duration::from_secs(60)).unwrap();
    loop {
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        if writeln!(std::io::stdout(), "\nholds").is_err() {
            return;
        }
        std::thread::sleep(HELD);
        connection.execute_batch("COMMIT").unwrap();
        std::thread::sleep(FREE);
    }
}

fn start(database: &Database, process: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "locked::child", "--nocapture", "--test-threads=1"])
        .env(DATABASE, database.url())
        .env(PROCESS, process)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn lock_of_another_process_is_waited_for() {
    let (database, operations) = (Database::new(), number("CIVIC_OPERATIONS", 200));
    let board = switchboard(&database.url()).await;
    let mut holds = start(&database, "holds");
    let mut output = BufReader::new(holds.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(output.any(|line| line == "holds"));
    let begun = Instant::now();
    let children: Vec<_> = (0..PROCESSES).map(|process| start(&database, &process.to_string())).collect();
    let mut longest = 0;
    for child in children {
        let ended = child.wait_with_output().unwrap();
        assert!(ended.status.success(), "a caller heard of it");
        let text = String::from_utf8_lossy(&ended.stdout);
        let of: u128 = text.lines().find_map(|line| line.strip_prefix("longest ")?.parse().ok()).unwrap();
        longest = longest.max(of);
    }
    let took = begun.elapsed();
    holds.kill().unwrap();
    holds.wait().unwrap();
    let mut lost = 0;
    for process in 0..PROCESSES {
        for n in 0..operations {
            lost += u64::from(board.by_key("desk", &format!("{process}-{n}")).await.unwrap().is_none());
        }
    }
    println!(
        "{PROCESSES} processes x {operations}: {lost} lost, nobody heard of a lock, {} s in all, {longest} ms at most for \
         {AT_ONCE} at once",
        took.as_secs()
    );
    assert_eq!(lost, 0);
    assert_eq!(board.stats().await.unwrap().all().messages, [(State::Queued, PROCESSES * operations)].into());
}
