//! The layers in time and under faults: what reaches a gateway, and what is said of it.

mod carried;
#[cfg(all(feature = "meta", feature = "reqwest"))]
mod each;
mod limits;
#[cfg(feature = "tracing")]
mod order;
mod outage;
#[cfg(all(feature = "meta", feature = "reqwest"))]
mod regressions;
#[cfg(feature = "tracing")]
mod telemetry;
#[cfg(all(feature = "testing", feature = "notify", feature = "twilio"))]
mod twice;
mod waits;

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};

use civic_messaging::clock::VirtualClock;
use civic_messaging::{Address, Timestamp};

fn clock() -> VirtualClock {
    VirtualClock::starting_at(Timestamp::from_secs(1_795_000_000))
}

fn person(n: u32) -> Address {
    civic_messaging::address::Phone::from_digits(&format!("4477009{n:05}")).unwrap().into()
}

/// Chance that repeats from its seed.
#[derive(Debug)]
struct Seeded(AtomicU64);

impl Seeded {
    fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed | 1))
    }

    /// A number below this one.
    fn below(&self, most: u64) -> u64 {
        let step = |mut x: u64| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            Some(x)
        };
        let x = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).unwrap();
        (x >> 11) % most
    }
}

/// The seed of this run: printed, so that a run can be repeated.
fn seed() -> u64 {
    let seed = std::env::var("CIVIC_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_125);
    println!("CIVIC_SEED={seed}");
    seed
}

/// Runs many futures at once, each polled only when it was woken.
async fn all<F: Future<Output = ()>>(futures: impl IntoIterator<Item = F>) {
    use futures_util::StreamExt;
    futures_util::stream::FuturesUnordered::from_iter(futures).collect::<()>().await;
}
