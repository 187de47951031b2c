//! The worker: claims what is due, sends it, and finds out what became of what may have gone.

use std::future::{self, Future};
use std::panic::{self, AssertUnwindSafe};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::Switchboard;
use super::engine::Bell;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::layer::telemetry;

mod rounds;
mod send;

use rounds::Rounds;

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
    /// [`ErrorKind::Config`] when another process works on the store,
    /// [`ErrorKind::Unavailable`] when the store does not work at the beginning. Later
    /// failures of the store are waited out.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<Drained> {
        let inner = self.0.clone();
        let _working = inner.store.0.lock().await?;
        let _running = Running::new(&inner.running);
        inner.stopped.store(false, Ordering::Release);
        telemetry::switchboard::left_behind(inner.store.0.recover(inner.clock.now(), true).await?.unknown);
        inner.store.0.note(inner.lines.values().cloned().collect()).await?;
        let ((stop_fetching, stopped), mut fetching) = (oneshot::channel(), JoinSet::new());
        fetching.spawn(self.clone().fetch(stopped));
        let mut shutdown = pin!(shutdown);
        let (mut sends, mut rounds, mut falling) = (JoinSet::new(), Rounds::default(), JoinSet::new());
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
                    rounds.spawn(&self);
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
        // Another worker of this switchboard may go on.
        inner.stopped.store(inner.running.load(Ordering::Acquire) <= 1, Ordering::Release);
        inner.to_read.ring_all();
        Ok(Drained { unfinished })
    }
}

/// Counts a worker as running, until it ends in any way.
struct Running<'a>(&'a AtomicUsize);

impl<'a> Running<'a> {
    fn new(running: &'a AtomicUsize) -> Self {
        running.fetch_add(1, Ordering::AcqRel);
        Self(running)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Awaits code that is not ours, and contains its faults: a panic in it, and a call that does not end within this time, are
/// errors.
pub(super) async fn contained<T>(
    who: &'static str,
    clock: &dyn Clock,
    max: Duration,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    let mut call = pin!(call);
    let guarded = future::poll_fn(|context| {
        let polled = panic::catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context)));
        polled.unwrap_or_else(|_| {
            Poll::Ready(
                Err(Error::new(ErrorKind::Unexpected, format!("{who} panicked")).with_outcome(Outcome::Unknown)),
            )
        })
    });
    tokio::select! {
        biased;
        ended = guarded => ended,
        () = clock.sleep(max) => {
            Err(Error::unknown(format!("{who} took longer than {} seconds", max.as_secs().max(1))))
        }
    }
}

/// Tells of a failure that is waited out.
pub(super) fn told<T>(what: &'static str, done: Result<T>) -> Option<T> {
    done.inspect_err(|error| telemetry::work_failed(what, error)).ok()
}
