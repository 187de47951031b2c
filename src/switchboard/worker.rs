//! The worker: claims what is due, sends it, and finds out what became of what may have gone.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::Switchboard;
use super::store::Bell;
use crate::error::Result;
use crate::layer::telemetry;

mod rounds;
mod send;

/// How many messages are on their way at once, at most.
const AT_ONCE: usize = 128;

/// How much room there is before more is claimed that has waited: a claim is a commit, and not made for each by itself.
const CLAIM_LEAST: usize = AT_ONCE / 8;

/// How soon it is looked for more to claim, while some are on their way and while none is: what was put off is due some
/// time.
const LOOK: Duration = Duration::from_millis(20);
const LOOK_IDLE: Duration = Duration::from_millis(250);

/// How long a claim holds, where nothing else is said: longer than any send takes, its turn included.
pub(super) const LEASE: Duration = Duration::from_secs(180);

/// What is shorter would be over before a store has written.
pub(super) const LEASE_MIN: Duration = Duration::from_millis(100);

/// How long messages on their way are waited for at the end.
const DRAIN: Duration = Duration::from_secs(35);

/// How often it is looked at what goes instead of messages.
const FALLBACKS: Duration = Duration::from_millis(250);

/// Why a message is parked that is not what was written down.
const DAMAGED: &str = "what the store holds of it is damaged: it is not the message that was taken";

/// How often what may have gone is looked at, and channels are polled.
const ROUND: Duration = Duration::from_secs(30);

/// What a worker left when it ended.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Messages that were still on their way: they may have gone, and are settled when a worker runs again.
    pub unfinished: usize,
}

impl Switchboard {
    /// Works until `shutdown` is ready, and then until what is on its way has ended, but for 35 seconds at most.
    ///
    /// One worker at a time runs on a store in SQLite; it is the one that settles what an earlier one left. On a store in
    /// PostgreSQL several may run, and any of them settles what another left, once its claims have lapsed: see
    /// [`Builder::lease`](super::Builder::lease).
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when another process works on the store,
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when the store does not work at the beginning. Later
    /// failures of the store are waited out.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<Drained> {
        let inner = self.0.clone();
        let _working = inner.store.0.lock().await?;
        telemetry::switchboard::left_behind(inner.store.0.recover(inner.clock.now(), true).await?.unknown);
        inner.store.0.note(inner.lines.values().cloned().collect()).await?;
        let ((stop_fetching, stopped), mut fetching) = (oneshot::channel(), JoinSet::new());
        fetching.spawn(self.clone().fetch(stopped));
        let mut shutdown = pin!(shutdown);
        let (mut sends, mut rounds, mut falling) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
        let mut round = inner.clock.sleep(Duration::ZERO);
        let mut fallbacks = inner.clock.sleep(Duration::ZERO);
        let (mut look, mut elsewhere) = (inner.clock.sleep(Duration::ZERO), inner.store.0.rung(Bell::ToSend));
        let (mut news, mut more) = (true, false);
        loop {
            while sends.try_join_next().is_some() {}
            let room = AT_ONCE - sends.len();
            if news || more && room >= CLAIM_LEAST {
                let most = u32::try_from(room).unwrap_or(0);
                let claimed = told("claim", inner.store.0.claim(inner.clock.now(), inner.lease, most).await);
                let claimed = claimed.unwrap_or_default();
                (news, more) = (false, claimed.len() == room);
                let idle = claimed.is_empty() && sends.is_empty();
                look = inner.clock.sleep(if idle { LOOK_IDLE } else { LOOK });
                for claimed in claimed {
                    sends.spawn(self.clone().send_claimed(claimed));
                }
            }
            tokio::select! {
                () = &mut shutdown => break,
                () = &mut round => {
                    round = inner.clock.sleep(inner.lease.min(ROUND));
                    if rounds.try_join_next().is_some() || rounds.is_empty() {
                        rounds.spawn(self.clone().round());
                    }
                }
                () = &mut fallbacks => {
                    fallbacks = inner.clock.sleep(FALLBACKS);
                    if falling.try_join_next().is_some() || falling.is_empty() {
                        falling.spawn(self.clone().fall_back());
                    }
                }
                _ = sends.join_next(), if !sends.is_empty() => {}
                () = inner.to_send.notified() => news = true,
                () = &mut elsewhere => {
                    elsewhere = inner.store.0.rung(Bell::ToSend);
                    news = true;
                }
                () = &mut look => news = true,
            }
        }
        drop(stop_fetching);
        rounds.shutdown().await;
        falling.shutdown().await;
        let mut late = inner.clock.sleep(DRAIN);
        while !sends.is_empty() || !fetching.is_empty() {
            tokio::select! {
                _ = sends.join_next(), if !sends.is_empty() => {}
                _ = fetching.join_next(), if !fetching.is_empty() => {}
                () = &mut late => break,
            }
        }
        let unfinished = sends.len();
        sends.shutdown().await;
        fetching.shutdown().await;
        inner.stopped.store(true, Ordering::Release);
        inner.to_read.ring_all();
        Ok(Drained { unfinished })
    }
}

/// Tells of a failure that is waited out.
pub(super) fn told<T>(what: &'static str, done: Result<T>) -> Option<T> {
    done.inspect_err(|error| telemetry::work_failed(what, error)).ok()
}
