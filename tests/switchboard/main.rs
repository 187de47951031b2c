//! The switchboard, whole: what it promises in the face of gateways, restarts and crashes.
#![cfg(feature = "sqlite-system")]

#[cfg(all(feature = "testing", feature = "twilio"))]
mod crash;
mod desk;
mod intake;
#[cfg(all(feature = "testing", feature = "twilio"))]
mod restore;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use civic_messaging::Address;

fn person(n: u32) -> Address {
    Address::phone(&format!("+4477009{n:05}")).unwrap()
}

/// A database of its own in the folder for temporary files, taken away at the end.
struct Database(PathBuf);

impl Database {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("civic-{}-{}.db", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.0.display())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        for end in ["", "-wal", "-shm", "-worker", "-worker-journal"] {
            _ = std::fs::remove_file(format!("{}{end}", self.0.display()));
        }
    }
}
