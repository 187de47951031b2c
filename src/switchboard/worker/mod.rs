//! The worker: claims due messages, sends them, and resolves unknown outcomes.

use std::future::{self, Future};
use std::panic::{self, AssertUnwindSafe};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::Switchboard;
use super::engine::Notification;
use super::lanes::{Claims, Rooms};
use crate::model::clock::Clock;
use crate::model::error::{Error, ErrorKind, Outcome, Result};
use crate::telemetry;

mod dispatch;
pub(super) mod files;
mod rounds;
mod send;

use dispatch::Dispatch;
use rounds::Rounds;

/// The default maximum number of messages in flight for one account.
pub(super) const MAX_IN_FLIGHT: u32 = 32;

/// The polling interval for messages without a notification.
const LOOK: Duration = Duration::from_millis(250);

/// The default lease of a claim: longer than any send, with the wait before it.
pub(super) const LEASE: Duration = Duration::from_secs(180);

/// A shorter lease would expire before the store has written.
pub(super) const LEASE_MIN: Duration = Duration::from_millis(100);

/// The maximum wait for messages in flight at shutdown.
const DRAIN: Duration = Duration::from_secs(35);

/// The interval at which fallbacks are examined.
const FALLBACKS: Duration = Duration::from_millis(250);

/// The reason for parking a message that does not match its digest.
const DAMAGED: &str = "the stored message is damaged: it does not match its digest";

/// The interval of look-ups and polls.
const ROUND: Duration = Duration::from_secs(30);

/// The result of a worker's shutdown.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShutdownReport {
    /// The number of messages still in flight: their outcomes are unknown, and are resolved when a worker runs again.
    pub unfinished: usize,
}

impl Switchboard {
    /// Runs a worker until `shutdown` is ready, and then until messages in flight have ended, for at most 35 seconds.
    ///
    /// A SQLite store has one worker at a time, which recovers what an earlier one left. A PostgreSQL store may have
    /// several, and any of them recovers what another left once its lease expires: see
    /// [`Builder::lease`](super::Builder::lease).
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if another worker uses a SQLite store, [`ErrorKind::Unavailable`] if the store is
    /// unavailable at the start. Later failures of the store are retried.
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
        let (mut dispatch, mut rounds, mut due_fallbacks) =
            (Dispatch::new(self.clone()), Rounds::default(), JoinSet::new());
        dispatch.paused(&inner.store.0.pauses(inner.clock.now()).await?);
        let mut claiming = JoinSet::new();
        let mut round = inner.clock.sleep(Duration::ZERO);
        let mut fallbacks = inner.clock.sleep(Duration::ZERO);
        let (mut look, mut elsewhere) =
            (inner.clock.sleep(Duration::ZERO), inner.store.0.notified(Notification::ToSend));
        let mut news = true;
        loop {
            news |= dispatch.collect();
            let token = dispatch.start();
            // Claim the next messages while these are in flight.
            if claiming.is_empty() && (news || dispatch.can_claim_more()) {
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
                    if due_fallbacks.try_join_next().is_some() || due_fallbacks.is_empty() {
                        due_fallbacks.spawn(self.clone().fall_back());
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
                    elsewhere = inner.store.0.notified(Notification::ToSend);
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
        due_fallbacks.shutdown().await;
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
        // Another worker of this switchboard may still run.
        inner.stopped.store(inner.running.load(Ordering::Acquire) <= 1, Ordering::Release);
        inner.to_read.notify_all();
        Ok(ShutdownReport { unfinished })
    }
}

impl Switchboard {
    async fn claim(self, rooms: Rooms) -> Claims {
        let now = self.0.clock.now();
        self.0.latest.fetch_max(now.as_millis(), Ordering::AcqRel);
        let claimed = self.0.store.0.claim(now, self.0.lease, rooms).await;
        log_failure("claim", claimed).unwrap_or_default()
    }
}

/// Awaits the future, or waits forever if there is none.
async fn maybe(wait: Option<impl Future<Output = ()>>) {
    match wait {
        Some(wait) => wait.await,
        None => future::pending().await,
    }
}

/// Counts a worker as running until it is dropped.
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

/// Awaits code that is not ours: a panic, or a call that exceeds this time, becomes an error.
pub(super) async fn contained<T>(
    subject: &'static str,
    clock: &dyn Clock,
    max: Duration,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    let guarded = async {
        caught(call).await.unwrap_or_else(|| {
            Err(Error::new(ErrorKind::Unexpected, format!("{subject} panicked")).with_outcome(Outcome::Unknown))
        })
    };
    tokio::select! {
        biased;
        ended = guarded => ended,
        () = clock.sleep(max) => {
            Err(Error::unknown(format!("{subject} took longer than {} seconds", max.as_secs().max(1))))
        }
    }
}

/// Logs a failure that is retried later.
pub(super) fn log_failure<T>(what: &'static str, done: Result<T>) -> Option<T> {
    done.inspect_err(|error| telemetry::work_failed(what, error)).ok()
}
