//! The files of residents' messages: fetched at once, for the gateways' links live for minutes only.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::Switchboard;
use super::inbox::InboxEvent;
use super::record::{ClaimedFile, Fetched};
use super::worker::told;
use crate::channel::Channel;
use crate::layer::retry::{Attempts, Schedule};
use crate::media::{MediaStore, StoredMedia};
use crate::model::error::{Error, ErrorKind, Outcome, Result};
use crate::model::message::MediaRef;
use crate::telemetry::switchboard as telemetry;

/// How many files are fetched at once, at most.
const AT_ONCE: usize = 8;

/// How long one fetch may take.
const LONGEST: Duration = Duration::from_secs(120);

/// How long a claim holds: longer than any fetch takes.
pub(super) const LEASE: Duration = Duration::from_secs(130);

/// How often a file is claimed, at most: one that takes the process with it each time is not fetched for ever.
const CLAIMS_MAX: i32 = 24;

/// How often it is looked for what was put off, or taken in by another process.
const LOOK: Duration = Duration::from_secs(1);

/// How long a file has to be forgotten in, and how long that may take before it is tried again.
pub(super) const REMOVAL: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(60));

/// What became of a file of a resident's message.
///
/// ```
/// use civic_messaging::media::{MediaStore, MemoryStore};
/// use civic_messaging::switchboard::{File, Line, Store, Switchboard};
/// use civic_messaging::Mock;
/// use civic_messaging::event::InboundContent;
///
/// # if !cfg!(feature = "sqlite-system") { return }
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let (whatsapp, files) = (Mock::whatsapp(), MemoryStore::new()); // a FolderStore, where they are to last
/// let board = Switchboard::builder(Store::open("sqlite::memory:").await?)
///     .media(files.clone())
///     .line(Line::new("enquiries").channel(whatsapp.clone()))
///     .route("whatsapp", ["enquiries"])
///     .build()?;
/// tokio::spawn(board.clone().run(std::future::pending()));
///
/// let media = vec![whatsapp.holds("image/jpeg", "a fallen tree")];
/// let photo = InboundContent::Media { text: Some("In Mill Lane".to_owned()), media };
/// board.receive("whatsapp", whatsapp.arrives_with("07700 900123", photo)).await;
/// while let Some(event) = board.line("enquiries")?.next().await? {
///     for file in event.files().await? {
///         let File::Held(tree) = file else { continue };
///         assert_eq!(files.open(&tree.sha256).await?.bytes().await?, "a fallen tree");
///     }
///     event.ack().await?;
/// #   break;
/// }
/// # Ok::<(), civic_messaging::Error>(()) }).unwrap();
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum File {
    /// It cannot be fetched, and why, in plain words.
    Failed(String),
    /// It lies in the [`MediaStore`] of the switchboard.
    Held(StoredMedia),
    /// It is not there yet, and may still come.
    Waiting,
}

impl File {
    pub(super) fn read(state: &str, stored: Option<StoredMedia>, reason: Option<String>) -> Self {
        match (state, stored) {
            ("held", Some(stored)) => Self::Held(stored),
            ("waiting" | "fetching", _) => Self::Waiting,
            ("unwanted" | "removing", _) => Self::Failed("it was kept for as long as the line keeps files".to_owned()),
            _ => Self::Failed(reason.unwrap_or_default()),
        }
    }

    /// The file, if it is there.
    pub fn as_held(&self) -> Option<&StoredMedia> {
        match self {
            Self::Held(stored) => Some(stored),
            Self::Failed(_) | Self::Waiting => None,
        }
    }
}

/// The number of an event in the store. It stays valid after the event was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(pub(super) i64);

impl From<i64> for EventId {
    fn from(number: i64) -> Self {
        Self(number)
    }
}

impl From<EventId> for i64 {
    fn from(id: EventId) -> Self {
        id.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl InboxEvent {
    /// Returns what became of each file of the message: see [`Switchboard::files`], which reads them after
    /// [`ack`](Self::ack) as well.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when the store does not work.
    pub async fn files(&self) -> Result<Vec<File>> {
        self.switchboard.files(self.id()).await
    }
}

impl Switchboard {
    /// Returns what became of each file of a resident's message, in the order of
    /// [`Inbound::media`](crate::Inbound::media): of an event that was delivered, by [`InboxEvent::id`], acknowledged or not,
    /// or of a conversation's entry, by [`Entry::event_id`](super::Entry::event_id).
    ///
    /// It is empty where the program that took the message in had no [`Builder::media`](super::Builder::media): fetch the
    /// files yourself then, and at once, by [`Channel::fetch_media`]. With [`Line::retention`](super::Line::retention) they
    /// are removed with the message.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when the store does not work.
    pub async fn files(&self, event: EventId) -> Result<Vec<File>> {
        self.0.store.0.files(event.0).await
    }

    /// Fetches what is to be fetched until it is told to stop, and then what is on its way.
    pub(super) async fn fetch(self, mut stop: oneshot::Receiver<()>) {
        let (inner, mut fetches) = (self.0.clone(), JoinSet::new());
        let Some(media) = &inner.media else { return };
        loop {
            while fetches.try_join_next().is_some() {}
            let room = u32::try_from(AT_ONCE - fetches.len()).unwrap_or(0);
            if room > 0 {
                let claimed = inner.store.0.claim_files(inner.clock.now(), LEASE, room).await;
                for claimed in told("claim_files", claimed).unwrap_or_default() {
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

    /// Fetches one file, and writes down what became of that.
    async fn fetch_one(self, media: Arc<dyn MediaStore>, claimed: ClaimedFile) {
        let inner = &*self.0;
        let fetched = match self.fetched(&media, &claimed).await {
            Ok(stored) => Fetched::Held(stored),
            Err(error) => self.after(&claimed, error),
        };
        let noted = inner.store.0.fetched(claimed.hold, fetched.clone(), inner.clock.now()).await;
        if told("fetched", noted) == Some(true)
            && let Fetched::Held(stored) = &fetched
        {
            let now = inner.clock.now();
            telemetry::file_fetched(claimed.line.as_deref().unwrap_or_default(), now.since(claimed.taken_in));
            // Somebody may have forgotten the same file between its arrival and this note: then it is fetched again.
            if media.open(&stored.sha256).await.is_err_and(|error| error.kind() == ErrorKind::NotFound) {
                told("fetched", inner.store.0.fetched(claimed.hold, Fetched::Again(now), now).await);
            }
        }
        inner.to_read.ring_all();
    }

    async fn fetched(&self, media: &Arc<dyn MediaStore>, claimed: &ClaimedFile) -> Result<StoredMedia> {
        if claimed.hold.tries > CLAIMS_MAX {
            return Err(Error::new(ErrorKind::Unexpected, "the process ended each time while it was fetched"));
        }
        let unread = || Error::new(ErrorKind::Unavailable, "this program cannot read the message that it is of");
        let inbound = claimed.event.as_ref().and_then(|event| event.as_inbound()).ok_or_else(unread)?;
        let file = usize::try_from(claimed.hold.n).ok().and_then(|n| inbound.media().get(n)).ok_or_else(unread)?;
        let envelope = &inbound.envelope;
        let line = claimed.line.as_deref().and_then(|line| self.0.lines.get(line));
        let channel = line.and_then(|line| line.channel_of(envelope));
        let gone = || Error::config("line", "has no channel of this account any more");
        let (channel, clock) = (channel.ok_or_else(gone)?.clone(), &self.0.clock);
        let mut fetch = JoinSet::new();
        fetch.spawn(into_store(channel, file.clone(), media.clone()));
        tokio::select! {
            fetched = fetch.join_next() => match fetched {
                Some(Ok(fetched)) => fetched,
                _ => Err(Error::new(ErrorKind::Unexpected, "the adapter panicked while it fetched the file")),
            },
            () = clock.sleep(LONGEST) => Err(Error::new(ErrorKind::Unavailable, "the file took longer than two minutes")),
        }
    }

    /// Whether it is fetched again, and when.
    fn after(&self, claimed: &ClaimedFile, error: Error) -> Fetched {
        let (now, tries) = (self.0.clock.now(), claimed.hold.tries);
        let tried = Attempts { times: tries.unsigned_abs(), elapsed: now.since(claimed.taken_in) };
        // A fetch changes nothing: whether the gateway was asked is no matter.
        let error = error.with_outcome(Outcome::NotSent);
        // A fault of the account ends no file.
        let (passes, after) = (error.is_retryable() || error.is_account_fault(), error.retry_after());
        let error = error.with_retry(passes, after);
        match Schedule::FILE.next(&error, None, tried, now, self.0.clock.chance()) {
            Ok(wait) => Fetched::Again(now.plus(wait)),
            Err(_) => {
                telemetry::file_failed(claimed.line.as_deref().unwrap_or_default(), &error);
                Fetched::Failed(error.to_string())
            }
        }
    }

    /// Forgets files that nothing refers to any more.
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
