//! Fetching the files of residents' messages, at once because gateways' links live for minutes only.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::super::Switchboard;
use super::super::record::{ClaimedFile, Fetched};
use super::log_failure;
use crate::channel::Channel;
use crate::layer::retry::{Attempts, Schedule};
use crate::media::{MediaStore, StoredMedia};
use crate::model::error::{Error, ErrorKind, Outcome, Result};
use crate::model::message::MediaRef;
use crate::telemetry::switchboard as telemetry;

/// The maximum number of files fetched at once.
const AT_ONCE: usize = 8;

/// The maximum duration of one fetch.
const LONGEST: Duration = Duration::from_secs(120);

/// The lease of a claimed file: longer than any fetch.
pub(super) const LEASE: Duration = Duration::from_secs(130);

/// The maximum number of claims of a file: it may be what ends the process.
const CLAIMS_MAX: i32 = 24;

/// The polling interval for files that were put off, or received by another process.
const LOOK: Duration = Duration::from_secs(1);

/// The time within which a file must be removed, and after which the removal is retried.
pub(super) const REMOVAL: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(60));

impl Switchboard {
    /// Fetches files until it is stopped, and then finishes the fetches in progress.
    pub(super) async fn fetch(self, mut stop: oneshot::Receiver<()>) {
        let (inner, mut fetches) = (self.0.clone(), JoinSet::new());
        let Some(media) = &inner.media else { return };
        loop {
            while fetches.try_join_next().is_some() {}
            let room = u32::try_from(AT_ONCE - fetches.len()).unwrap_or(0);
            if room > 0 {
                let claimed = inner.store.0.claim_files(inner.clock.now(), LEASE, room).await;
                for claimed in log_failure("claim_files", claimed).unwrap_or_default() {
                    fetches.spawn(self.clone().fetch_one(media.clone(), claimed));
                }
            }
            tokio::select! {
                _ = &mut stop => break,
                _ = fetches.join_next(), if !fetches.is_empty() => {}
                () = inner.to_fetch.notified() => {}
                () = inner.clock.sleep(LOOK) => {}
            }
        }
        while fetches.join_next().await.is_some() {}
    }

    /// Fetches one file, and records the result.
    async fn fetch_one(self, media: Arc<dyn MediaStore>, claimed: ClaimedFile) {
        let inner = &*self.0;
        let fetched = match self.fetched(&media, &claimed).await {
            Ok(stored) => Fetched::Held(stored),
            Err(error) => self.after(&claimed, error),
        };
        let noted = inner.store.0.fetched(claimed.hold, fetched.clone(), inner.clock.now()).await;
        if log_failure("fetched", noted) == Some(true)
            && let Fetched::Held(stored) = &fetched
        {
            let now = inner.clock.now();
            telemetry::file_fetched(claimed.line.as_deref().unwrap_or_default(), now.since(claimed.taken_in));
            // The same file may have been removed after it was stored and before this was recorded: it is fetched
            // again.
            if media.open(&stored.sha256).await.is_err_and(|error| error.kind() == ErrorKind::NotFound) {
                log_failure("fetched", inner.store.0.fetched(claimed.hold, Fetched::Again(now), now).await);
            }
        }
        inner.to_read.notify_all();
    }

    async fn fetched(&self, media: &Arc<dyn MediaStore>, claimed: &ClaimedFile) -> Result<StoredMedia> {
        if claimed.hold.tries > CLAIMS_MAX {
            return Err(Error::new(ErrorKind::Unexpected, "the process ended during each fetch"));
        }
        let unread = || Error::new(ErrorKind::Unavailable, "unreadable event: it may need a newer version");
        let inbound = claimed.event.as_ref().and_then(|event| event.as_inbound()).ok_or_else(unread)?;
        let file = usize::try_from(claimed.hold.n).ok().and_then(|n| inbound.media().get(n)).ok_or_else(unread)?;
        let envelope = &inbound.envelope;
        let line = claimed.line.as_deref().and_then(|line| self.0.lines.get(line));
        let channel = line.and_then(|line| line.channel_of(envelope));
        let gone = || Error::config("line", "no longer has a channel of this account");
        let (channel, clock) = (channel.ok_or_else(gone)?.clone(), &self.0.clock);
        let mut fetch = JoinSet::new();
        fetch.spawn(into_store(channel, file.clone(), media.clone()));
        tokio::select! {
            fetched = fetch.join_next() => match fetched {
                Some(Ok(fetched)) => fetched,
                _ => Err(Error::new(ErrorKind::Unexpected, "the adapter panicked during the fetch")),
            },
            () = clock.sleep(LONGEST) => Err(Error::new(ErrorKind::Unavailable, "the fetch took longer than two minutes")),
        }
    }

    /// Decides whether and when to fetch the file again.
    fn after(&self, claimed: &ClaimedFile, error: Error) -> Fetched {
        let (now, tries) = (self.0.clock.now(), claimed.hold.tries);
        let tried = Attempts::new(tries.unsigned_abs(), now.since(claimed.taken_in));
        // A fetch has no effect at the gateway, so its outcome does not matter.
        let error = error.with_outcome(Outcome::NotSent);
        // A fault of the account never makes a fetch final.
        let (passes, after) = (error.is_retryable() || error.is_account_fault(), error.retry_after());
        let error = error.with_retry(passes, after);
        match Schedule::FILE.next(&error, None, tried, now, self.0.random.next_u64()) {
            Ok(wait) => Fetched::Again(now.plus(wait)),
            Err(_) => {
                telemetry::file_failed(claimed.line.as_deref().unwrap_or_default(), &error);
                Fetched::Failed(error.to_string())
            }
        }
    }

    /// Removes files that are no longer referenced.
    pub(super) async fn forget_files(&self) -> Result<()> {
        let inner = &*self.0;
        let Some(media) = &inner.media else { return Ok(()) };
        for file in inner.store.0.unwanted(inner.clock.now(), REMOVAL.1, 100).await? {
            let forgotten = tokio::select! {
                forgotten = media.remove(&file) => forgotten,
                () = inner.clock.sleep(REMOVAL.0) => Err(Error::new(ErrorKind::Unavailable, "the media store took too long")),
            };
            forgotten?;
            inner.store.0.removed(file).await?;
        }
        Ok(())
    }
}

async fn into_store(channel: Arc<dyn Channel>, file: MediaRef, media: Arc<dyn MediaStore>) -> Result<StoredMedia> {
    media.put(channel.fetch_media(&file).await?).await
}
