//! What the durable record costs, beside plain SQL that writes the same columns and indexes: see each module for what it
//! measures and what its floor does.
//!
//! The disk decides much of it: what one `fdatasync` of 512 bytes costs here stands in the first line. An argument picks
//! one of them: `cargo bench --all-features --bench store -- cycle`.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use tokio::runtime::Runtime;

// The tests use more of it.
#[allow(dead_code)]
#[cfg(feature = "postgres")]
#[path = "../../src/switchboard/store/cluster.rs"]
mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod cycle;
mod growth;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
mod rate;
mod taking;

fn main() {
    if memory::child() {
        return;
    }
    let picked = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let picks = |name: &str| picked.as_deref().is_none_or(|picked| picked == name);
    println!("one fdatasync of 512 bytes: {:.0} µs", fsync());
    let runtime = runtime();
    if picks("taking") {
        taking::measure(&runtime);
    }
    if picks("cycle") {
        cycle::measure(&runtime);
    }
    #[cfg(feature = "postgres")]
    if picks("postgres") {
        postgres::measure(&runtime);
    }
    if picked.as_deref() == Some("rate") {
        rate::measure(&runtime);
    }
    if picked.as_deref() == Some("growth") {
        growth::measure(&runtime);
    }
    if picks("memory") {
        memory::measure();
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// The path of a file that is not there.
fn file(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("civic-bench-{name}-{}.db", std::process::id()));
    for end in ["", "-wal", "-shm", "-worker", "-worker-journal"] {
        let _ = std::fs::remove_file(format!("{}{end}", path.display()));
    }
    path
}

/// Microseconds of one append with `fdatasync`.
fn fsync() -> f64 {
    let path = file("fsync");
    let mut log = File::create(&path).expect("a file");
    let start = Instant::now();
    for _ in 0..100 {
        log.write_all(&[0; 512]).expect("it is written");
        log.sync_data().expect("it is durable");
    }
    let each = start.elapsed().as_secs_f64() * 1e6 / 100.0;
    let _ = file("fsync");
    each
}
