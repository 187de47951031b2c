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
use super::lanes::{Claims, Rooms};
use crate::model::clock::Clock;
use crate::model::error::{Error, ErrorKind, Outcome, Result};
use crate::telemetry;

mod dispatch;
mod rounds;
mod send;

use dispatch::Dispatch;
use rounds::Rounds;

/// How many messages of one account are on their way at once, where nothing else is said.
pub(super) const MAX_IN_FLIGHT: u32 = 32;

/// How often the worker looks for messages that it was not notified of.
const LOOK: Duration = Duration::from_millis(250);

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
pub struct ShutdownReport {
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
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<ShutdownReport> {
        let inner = self.0.clone();
        let _working = inner.store.0.lock().await?;
        let _running = Running::new(&inner.running);
        inner.stopped.store(false, Ordering::Release);
        telemetry::switchboard::interrupted(inner.store.0.recover(inner.clock.now(), true).await?.unknown);
        inner.store.0.note(inner.lines.values().cloned().collect(), inner.clock.now()).await?;
        let ((stop_fetching, stopped), mut fetching) = (oneshot::channel(), JoinSet::new());
        fetching.spawn(self.clone().fetch(stopped));
        let mut shutdown = pin!(shutdown);
        let (mut dispatch, mut rounds, mut falling) = (Dispatch::new(self.clone()), Rounds::default(), JoinSet::new());
        dispatch.paused(&inner.store.0.pauses(inner.clock.now()).await?);
        let mut claiming = JoinSet::new();
        let mut round = inner.clock.sleep(Duration::ZERO);
        let mut fallbacks = inner.clock.sleep(Duration::ZERO);
        let (mut look, mut elsewhere) = (inner.clock.sleep(Duration::ZERO), inner.store.0.rung(Bell::ToSend));
        let mut news = true;
        loop {
            news |= dispatch.collect();
            let token = dispatch.start();
            // While those are on their way the next ones are claimed.
            if claiming.is_empty() && (news || dispatch.wants_more()) {
                news = false;
                claiming.spawn(self.clone().claim(dispatch.rooms()));
            }
            let until = |at: Duration| inner.clock.sleep(at.saturating_sub(inner.clock.monotonic()));
            let token = token.map(until);
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
                more = dispatch.next() => news |= more,
                Some(claimed) = claiming.join_next() => {
                    let claims = claimed.unwrap_or_default();
                    let due = claims.next_due.map_or(LOOK, |due| due.since(inner.clock.now()).min(LOOK));
                    look = inner.clock.sleep(due);
                    dispatch.admit(claims);
                }
                () = maybe(token) => news = true,
                () = inner.to_send.notified() => news = true,
                () = &mut elsewhere => {
                    elsewhere = inner.store.0.rung(Bell::ToSend);
                    news = true;
                }
                () = &mut look => {
                    look = inner.clock.sleep(LOOK);
                    news = true;
                }
            }
        }
        drop(stop_fetching);
        rounds.shutdown().await;
        falling.shutdown().await;
        let mut late = inner.clock.sleep(DRAIN);
        loop {
            dispatch.collect();
            dispatch.give_back();
            if dispatch.is_idle() && claiming.is_empty() && fetching.is_empty() {
                break;
            }
            tokio::select! {
                _ = dispatch.next() => {}
                Some(claimed) = claiming.join_next() => dispatch.admit(claimed.unwrap_or_default()),
                _ = fetching.join_next(), if !fetching.is_empty() => {}
                () = &mut late => break,
            }
        }
        let unfinished = dispatch.abort().await;
        fetching.shutdown().await;
        // Another worker of this switchboard may go on.
        inner.stopped.store(inner.running.load(Ordering::Acquire) <= 1, Ordering::Release);
        inner.to_read.ring_all();
        Ok(ShutdownReport { unfinished })
    }
}

impl Switchboard {
    async fn claim(self, rooms: Rooms) -> Claims {
        let now = self.0.clock.now();
        self.0.latest.fetch_max(now.as_millis(), Ordering::AcqRel);
        let claimed = self.0.store.0.claim(now, self.0.lease, rooms).await;
        told("claim", claimed).unwrap_or_default()
    }
}

/// Waits for this, if there is anything to wait for.
async fn maybe(wait: Option<impl Future<Output = ()>>) {
    match wait {
        Some(wait) => wait.await,
        None => future::pending().await,
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

/// Awaits a future, and returns `None` if it panics.
async fn caught<T>(call: impl Future<Output = T>) -> Option<T> {
    let mut call = pin!(call);
    future::poll_fn(|context| {
        let polled = panic::catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context)));
        polled.map_or(Poll::Ready(None), |polled| polled.map(Some))
    })
    .await
}

/// Awaits code that is not ours, and contains its faults: a panic in it, and a call that does not end within this time, are
/// errors.
pub(super) async fn contained<T>(
    who: &'static str,
    clock: &dyn Clock,
    max: Duration,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    let guarded = async {
        caught(call).await.unwrap_or_else(|| {
            Err(Error::new(ErrorKind::Unexpected, format!("{who} panicked")).with_outcome(Outcome::Unknown))
        })
    };
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
