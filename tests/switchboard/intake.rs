//! Posts webhooks to a service that is killed between storing and acknowledging them, from a gateway that retries until
//! it gets a 2xx.
//!
//! `CIVIC_CYCLES` sets the number of kills (100), `CIVIC_SEED` the seed.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use civic_messaging::switchboard::{Line, Store, Switchboard};
use civic_messaging::{Channel, Mock, Secret};
use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::support::signature;
use super::{Database, Random, number, seed};

const DATABASE: &str = "CIVIC_TEST_INTAKE";
pub(super) const SECRET: &str = "the secret of this test";

async fn switchboard(database: &str) -> Switchboard {
    let store = Store::open(database).await.unwrap();
    let mock = Mock::sms().webhook_secrets([Secret::new(SECRET).unwrap().into()]);
    Switchboard::builder(store).line(Line::new("desk").channel(mock)).route("sms", ["desk"]).build().unwrap()
}

/// The process that is killed. Does nothing without its variable.
#[tokio::test]
async fn child() {
    let Ok(database) = std::env::var(DATABASE) else { return };
    let board = switchboard(&database).await;
    serve(&board).await;
}

/// Serves webhooks in a child process, and prints its address.
pub(super) async fn serve(board: &Switchboard) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    // Starts a new line, because the test runner has begun one.
    println!("\nat {}", listener.local_addr().unwrap());
    std::io::stdout().flush().unwrap();
    axum::serve(listener, board.router()).await.unwrap();
}

/// Starts it and returns its address.
pub(super) fn start(database: &Database) -> (Child, SocketAddr) {
    start_child("intake::child", DATABASE, &database.url())
}

/// Starts a test of this binary as a process that serves webhooks, and returns its address.
pub(super) fn start_child(test: &str, variable: &str, value: &str) -> (Child, SocketAddr) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(variable, value)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let at = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("at ")?.parse().ok());
    (child, at.expect("it says where it is"))
}

/// Posts a webhook once. Returns `true` if the response was 2xx.
pub(super) async fn post(at: SocketAddr, request: &[u8]) -> bool {
    let once = async {
        let mut stream = TcpStream::connect(at).await.ok()?;
        stream.write_all(request).await.ok()?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.ok()?;
        Some(answer.starts_with(b"HTTP/1.1 2"))
    };
    tokio::time::timeout(Duration::from_secs(20), once).await.ok().flatten().unwrap_or(false)
}

/// The bytes of a webhook with the mock's latest event.
pub(super) fn webhook_bytes(mock: &Mock, from: &str, text: String) -> Vec<u8> {
    drop(mock.arrives(from, text));
    let page = mock.poll(None).now_or_never().unwrap().unwrap();
    let body = serde_json::to_vec(&page.events[page.events.len() - 1..]).unwrap();
    let head = format!(
        "POST /sms HTTP/1.1\r\nhost: localhost\r\nx-mock-signature: {}\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        signature(SECRET, &body),
        body.len()
    );
    [head.into_bytes(), body].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhook_answered_2xx_survives_kill_exactly_once() {
    let (cycles, random) = (number("CIVIC_CYCLES", 100), Random::new(seed(20_261_125)));
    let (database, mock) = (Database::new(), Mock::sms());
    let (mut sent, mut posts) = (0, 0);
    let mut waiting: Vec<(usize, Vec<u8>)> = Vec::new();
    for _ in 0..cycles {
        let (mut child, at) = start(&database);
        // Some time after this many 2xx responses, on a machine of any speed.
        let (first, mut acknowledged) = (random.below(4) * 2, 0);
        let more = Duration::from_micros(random.below(10_000));
        let mut kill = pin!(tokio::time::sleep(more));
        loop {
            if waiting.is_empty() {
                waiting.push((sent, webhook_bytes(&mock, "07700 900123", format!("Message {sent}."))));
                sent += 1;
            }
            let request = waiting[0].1.clone();
            tokio::select! {
                done = post(at, &request) => {
                    posts += 1;
                    if done {
                        waiting.remove(0);
                        acknowledged += 1;
                        if acknowledged == first {
                            kill.as_mut().reset(Instant::now() + more);
                        }
                    }
                }
                // Kills it during a request.
                () = &mut kill, if acknowledged >= first => break,
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // The webhooks without a 2xx are posted again.
    let (mut child, at) = start(&database);
    for (_, request) in &waiting {
        while !post(at, request).await {}
    }
    child.kill().unwrap();
    child.wait().unwrap();

    let board = switchboard(&database.url()).await;
    let mut there = HashMap::<String, usize>::new();
    while let Some(event) = board.all().try_next().await.unwrap() {
        let text = event.as_inbound().unwrap().text().unwrap().to_owned();
        *there.entry(text).or_default() += 1;
        event.ack().await.unwrap();
    }
    println!("{cycles} kills: {sent} webhooks in {posts} posts; {} are there, each once", there.len());
    assert!((0..sent).all(|n| there.get(&format!("Message {n}.")) == Some(&1)), "{} of {sent}", there.len());
    assert!(sent > cycles as usize, "hardly anything happened");
}
