//! The states of the files of residents' messages.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::media::StoredMedia;

/// The state of a file of a resident's message.
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
/// let media = vec![whatsapp.add_file("image/jpeg", "a fallen tree")];
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
    /// The fetch failed permanently; the reason is in plain words.
    Failed(String),
    /// Held in the [`MediaStore`](crate::media::MediaStore) of the switchboard.
    Held(StoredMedia),
    /// Not fetched yet.
    Waiting,
}

impl File {
    pub(super) fn read(state: &str, stored: Option<StoredMedia>, reason: Option<String>) -> Self {
        match (state, stored) {
            ("held", Some(stored)) => Self::Held(stored),
            ("waiting" | "fetching", _) => Self::Waiting,
            ("unwanted" | "removing", _) => Self::Failed("removed after the retention of its line".to_owned()),
            _ => Self::Failed(reason.unwrap_or_default()),
        }
    }

    /// Returns the stored file, if it is held.
    pub fn as_held(&self) -> Option<&StoredMedia> {
        match self {
            Self::Held(stored) => Some(stored),
            Self::Failed(_) | Self::Waiting => None,
        }
    }
}

/// The number of an event in the store. It stays valid after the event is acknowledged.
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
