//! Tests of the whole switchboard: its promises under gateway faults, restarts and crashes.
#![cfg(any(feature = "postgres", feature = "sqlite-system"))]

#[cfg(feature = "sqlite-system")]
mod answers;
#[cfg(all(feature = "axum", feature = "postgres", feature = "sqlite-system"))]
mod auto_reply;
#[cfg(all(feature = "meta", feature = "sqlite-system"))]
mod batch;
#[cfg(all(feature = "testing", feature = "twilio"))]
mod budgets;
#[cfg(feature = "sqlite-system")]
mod bulk;
// The store's own tests use the rest of it.
mod cancelled;
#[cfg(feature = "sqlite-system")]
mod clock;
#[allow(dead_code)]
#[cfg(feature = "postgres")]
#[path = "../../src/switchboard/store/cluster.rs"]
mod cluster;
#[cfg(feature = "sqlite-system")]
mod contained;
#[cfg(all(feature = "testing", feature = "twilio"))]
mod crash;
#[cfg(feature = "sqlite-system")]
mod damage;
#[cfg(feature = "sqlite-system")]
mod desk;
#[cfg(all(feature = "sqlite-system", target_os = "linux"))]
mod disk;
#[cfg(feature = "sqlite-system")]
mod fallback;
#[cfg(feature = "sqlite-system")]
mod files;
#[cfg(feature = "sqlite-system")]
mod full_size;
#[cfg(feature = "sqlite-system")]
mod idempotency;
#[cfg(all(feature = "axum", feature = "sqlite-system"))]
mod intake;
#[cfg(feature = "sqlite-system")]
mod keep;
#[cfg(feature = "sqlite-system")]
mod keys;
#[cfg(feature = "sqlite-system")]
mod lanes;
#[cfg(feature = "sqlite-system")]
mod limits;
#[cfg(all(feature = "axum", feature = "sqlite-system"))]
mod load;
#[cfg(feature = "sqlite-system")]
mod locked;
#[cfg(all(feature = "testing", feature = "twilio"))]
mod opt_outs;
#[cfg(feature = "sqlite-system")]
mod order;
#[cfg(feature = "sqlite-system")]
mod poison;
#[cfg(feature = "sqlite-system")]
mod receive_by;
#[cfg(all(feature = "sqlite-system", feature = "testing", feature = "twilio"))]
mod restore;
#[cfg(feature = "sqlite-system")]
mod route;
#[cfg(all(feature = "axum", feature = "meta", feature = "sqlite-system", feature = "twilio"))]
mod router;
#[cfg(all(
    feature = "meta",
    feature = "notify",
    feature = "sqlite-system",
    feature = "testing",
    feature = "toml",
    feature = "twilio",
    feature = "x"
))]
mod settings;
#[cfg(feature = "postgres")]
mod sql;
#[cfg(all(feature = "postgres", feature = "testing", feature = "twilio"))]
mod stopped;
#[path = "../support/mod.rs"]
mod support;
#[cfg(feature = "sqlite-system")]
mod suspended;
#[cfg(feature = "postgres")]
mod tls;
#[cfg(feature = "postgres")]
mod wakeups;
#[cfg(feature = "sqlite-system")]
mod watch;
#[cfg(feature = "postgres")]
mod workers;

#[cfg(feature = "sqlite-system")]
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use civic_messaging::Timestamp;
use civic_messaging::clock::{Clock, Sleep, SystemClock, VirtualClock};

use support::{Random, number, person, seed};

/// A shutdown signal for `run`, which fires when the sender is dropped.
fn stop() -> (tokio::sync::oneshot::Sender<()>, impl Future<Output = ()> + Send) {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    (stop, async { drop(stopped.await) })
}

fn virtual_clock() -> VirtualClock {
    VirtualClock::starting_at(SystemClock::new().now())
}

/// Advances the clock in steps until the condition holds.
#[cfg(feature = "sqlite-system")]
async fn until(clock: &VirtualClock, step: Duration, mut is_so: impl AsyncFnMut() -> bool) {
    let passing = async {
        while !is_so().await {
            clock.advance(step);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), passing).await.expect("it never is");
}

/// The system clock with an offset.
#[derive(Clone, Debug, Default)]
struct Ahead(SystemClock, Arc<AtomicU64>);

impl Ahead {
    fn by(by: Duration) -> Self {
        let clock = Self::default();
        clock.advance_by(by);
        clock
    }

    fn advance_by(&self, by: Duration) {
        self.1.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::Relaxed);
    }

    #[cfg(feature = "sqlite-system")]
    fn set_back(&self, by: Duration) {
        self.1.fetch_sub(u64::try_from(by.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        self.0.now().plus(Duration::from_millis(self.1.load(Ordering::Relaxed)))
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        self.0.sleep(duration)
    }
}

/// A temporary database file, removed at the end.
#[cfg(feature = "sqlite-system")]
struct Database(PathBuf);

#[cfg(feature = "sqlite-system")]
impl Database {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("civic-{}-{}.db", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let new = Self(std::env::temp_dir().join(name));
        // A killed process with the same id may have left one.
        new.remove();
        new
    }

    fn remove(&self) {
        for end in ["", "-wal", "-shm", "-worker", "-worker-journal"] {
            _ = std::fs::remove_file(format!("{}{end}", self.0.display()));
        }
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.0.display())
    }
}

#[cfg(feature = "sqlite-system")]
impl Drop for Database {
    fn drop(&mut self) {
        self.remove();
    }
}
