//! What a store with a million queued messages takes: memory, and time to claim.
//!
//! Each depth has a process of its own, which opens the store, runs a worker that sends some thousands of them to a channel
//! in memory, takes as many in, and asks for the counts. Its peak (`VmHWM`) less what it had before it opened the store is
//! what the store and the worker take. No floor: the target is that the depth does not show.

use std::process::Command;
use std::time::{Duration, Instant};

use civic_messaging::switchboard::{Line, State, Store, Switchboard};
use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use crate::common::{median, rounds};
use crate::cycle::Takes;
use crate::taking::{PERSONS, digest, message};
use crate::{file, runtime};

const DATABASE: &str = "CIVIC_BENCH_DATABASE";

/// How many are sent, and taken in, while it is measured.
const AT_WORK: usize = 5_000;

pub(crate) fn measure() {
    println!("\nmemory and time by how many are queued");
    println!(
        "{:<12} {:>9} {:>9} {:>9} {:>9} {:>9} {:>12} {:>12}",
        "queued", "idle kB", "peak kB", "above", "open ms", "stats ms", "send µs each", "take µs each"
    );
    let depths: &[usize] = if rounds(2) == 1 { &[10_000] } else { &[10_000, 1_000_000] };
    for depth in depths {
        let path = file("depth");
        runtime().block_on(async { Store::open(&format!("sqlite:{}", path.display())).await.expect("a file") });
        fill(&path, *depth);
        let child = Command::new(std::env::current_exe().expect("this program")).env(DATABASE, &path).output();
        let child = child.expect("it runs");
        let row = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
        println!("{depth:<12} {}", row.trim_end());
        let _ = file("depth");
    }
    println!("target: 16384 kB above idle, and the same at each depth");
}

fn fill(path: &std::path::Path, depth: usize) {
    let mut db = Connection::open(path).expect("a file");
    let transaction = db.transaction().expect("a transaction");
    let mut insert = transaction
        .prepare(
            "INSERT INTO message (line, key, recipient, body, digest, priority, lane, state, head, due, queued)
             VALUES ('desk', ?1, ?2, ?3, ?4, 2, 'desk/phone', 'queued', ?6, ?5, ?5)",
        )
        .expect("a statement");
    for n in 0..depth {
        let message = message(n);
        let body = serde_json::to_string(&message).expect("it serialises");
        // The first message of each conversation is its head.
        let row = params![message.key, message.to.expose(), body, digest(&body), n as i64, n < PERSONS];
        insert.execute(row).expect("a row");
    }
    drop(insert);
    transaction.commit().expect("it is durable");
}

/// The process that is measured. False: this is not it.
pub(crate) fn child() -> bool {
    let Ok(path) = std::env::var(DATABASE) else { return false };
    let row = runtime().block_on(async {
        let idle = kilobytes("VmRSS:");
        let start = Instant::now();
        let store = Store::open(&format!("sqlite:{path}")).await.expect("a file");
        let opened = start.elapsed();
        let channel = Takes::new("desk");
        let line = Line::new("desk").channel(channel.clone());
        let board = Switchboard::builder(store).line(line).build().expect("a switchboard");

        let (stop, stopped) = oneshot::channel::<()>();
        let start = Instant::now();
        let worker = tokio::spawn(board.clone().run(async { drop(stopped.await) }));
        while channel.taken() < AT_WORK as u64 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let sending = start.elapsed().as_secs_f64() * 1e6 / channel.taken() as f64;
        drop(stop);
        worker.await.expect("no panic").expect("it works");

        let start = Instant::now();
        let task = |task: usize| {
            let board = board.clone();
            tokio::spawn(async move {
                for n in 0..AT_WORK / 50 {
                    board.send("desk", message(10_000_000 + task * AT_WORK + n)).await.expect("it is taken");
                }
            })
        };
        for task in (0..50).map(task).collect::<Vec<_>>() {
            task.await.expect("no panic");
        }
        let taking = start.elapsed().as_secs_f64() * 1e6 / AT_WORK as f64;

        let mut stats = Vec::new();
        for _ in 0..5 {
            let start = Instant::now();
            let counts = board.stats().await.expect("it works");
            stats.push(start.elapsed().as_secs_f64() * 1e3);
            assert!(counts.all().count(State::Accepted) >= AT_WORK as u64);
        }
        let peak = kilobytes("VmHWM:");
        format!(
            "{idle:>9} {peak:>9} {:>9} {:>9.1} {:>9.2} {sending:>12.1} {taking:>12.1}",
            peak.saturating_sub(idle),
            opened.as_secs_f64() * 1e3,
            median(stats),
        )
    });
    println!("{row}");
    true
}

/// A line of what Linux says of this process.
fn kilobytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}
