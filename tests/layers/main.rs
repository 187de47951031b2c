//! The layers over time and under faults: which requests reach a gateway, and which outcome is reported.

mod carried;
#[cfg(all(feature = "meta", feature = "reqwest"))]
mod each;
mod idempotency;
mod limits;
#[cfg(feature = "tracing")]
mod order;
mod outage;
#[cfg(all(feature = "meta", feature = "reqwest"))]
mod regressions;
#[path = "../support/mod.rs"]
mod support;
#[cfg(feature = "tracing")]
mod telemetry;
#[cfg(all(feature = "testing", feature = "notify", feature = "twilio"))]
mod twice;
mod waits;

use std::future::Future;

use civic_messaging::Timestamp;
use civic_messaging::clock::VirtualClock;

use support::{Random, person};

fn clock() -> VirtualClock {
    VirtualClock::starting_at(Timestamp::from_secs(1_795_000_000))
}

/// The seed of this run.
fn seed() -> u64 {
    support::seed(20_261_125)
}

/// Runs futures concurrently, each polled only when woken.
async fn all<F: Future<Output = ()>>(futures: impl IntoIterator<Item = F>) {
    use futures_util::StreamExt;
    futures_util::stream::FuturesUnordered::from_iter(futures).collect::<()>().await;
}

/// The randomness of layers under test: the same in each run.
fn random() -> civic_messaging::random::SeededRandom {
    civic_messaging::random::SeededRandom::new(1)
}
