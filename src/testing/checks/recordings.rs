//! Checks of the recordings themselves: their snapshot, and what any recording must say.

use crate::testing::run::{CheckResult, OWN, Run, applies};
use crate::testing::snapshot::{self, Entry};

/// The seed of snapshots: nonces and boundaries are the same in each run.
const SEED: u64 = 4711;

/// Each recording has the reviewed result: every field of every event, acceptance, page, look-up and request.
pub(super) async fn results_match_their_snapshot(run: &Run<'_>) -> CheckResult {
    applies(!run.subject.in_memory(), "in memory: it has no recordings of a gateway")?;
    run.seed.set(SEED);
    let mut entries = Vec::new();
    if run.info.capability.receive {
        for (nth, webhook) in run.subject.webhooks().iter().enumerate() {
            let channel = run.receiving(&[OWN])?;
            let received = run.receive(&*channel, &run.arrives(webhook, OWN)).await?;
            entries.push(Entry::received(format!("webhook {}", nth + 1), &received));
        }
    }
    for (nth, exchange) in run.subject.exchanges().iter().enumerate() {
        let replayed = run.replay(exchange, |_, step| step).await?;
        entries.push(Entry::called(
            format!("exchange {} ({})", nth + 1, exchange.call.name()),
            &replayed,
            run.subject.varying_headers(),
        ));
    }
    snapshot::compare(run, entries)
}
