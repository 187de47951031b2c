//! The list of conversations of a line: who wrote last, and who waits for an answer.

use serde::{Deserialize, Serialize};

use super::Switchboard;
use super::conversation::Entry;
use crate::model::address::Address;
use crate::model::clock::Timestamp;
use crate::model::error::Result;

/// A conversation in the list of a line.
///
/// `Debug` masks the person.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConversationSummary {
    /// The person, by the current address, or the group.
    pub person: Address,
    /// When the person wrote last, or got the last answer.
    pub at: Timestamp,
    /// The last entry, over every address of the person: `None` once its content was removed.
    pub last: Option<Entry>,
    /// The time of the oldest message that waits for an answer: `None` if none does.
    ///
    /// A message waits from its arrival until a reply was accepted that was enqueued after it, or an echo of an answer
    /// written elsewhere arrived. An auto-reply, a notice and a message that was not sent are no answers. A reaction, an
    /// opt-out and what nobody typed wait for none.
    pub waiting_since: Option<Timestamp>,
    /// The number of the person's messages since they were [marked as read](Switchboard::mark_read), or answered.
    pub unread: u32,
    pub(super) name: String,
}

/// The conversations to list, and their order.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConversationFilter {
    /// All, the newest first.
    #[default]
    All,
    /// Those that wait for an answer, the longest-waiting first.
    Waiting,
    /// Those with unread messages, the newest first.
    Unread,
}

/// The position behind which a page starts: the time by which a list is sorted, and the person.
#[derive(Clone, Debug)]
pub(super) struct ConversationPlace {
    pub(super) at: Timestamp,
    pub(super) name: String,
}

/// What a person wrote, or an echo of an answer.
pub(super) struct Heard<'a> {
    pub(super) line: &'a str,
    pub(super) person: &'a str,
    /// The address in its stored form.
    pub(super) address: String,
    /// It waits for an answer.
    pub(super) waits: bool,
    pub(super) is_echo: bool,
    pub(super) at: Timestamp,
}

/// A conversation, as stored.
#[derive(Clone, Debug)]
pub(super) struct ConversationRow {
    pub(super) name: String,
    /// The address in its stored form.
    pub(super) address: String,
    pub(super) last: Timestamp,
    pub(super) waiting: Option<Timestamp>,
    pub(super) unread: u32,
}

impl ConversationFilter {
    fn place(self, of: &ConversationSummary) -> ConversationPlace {
        let at = match self {
            Self::All | Self::Unread => of.at,
            Self::Waiting => of.waiting_since.unwrap_or(of.at),
        };
        ConversationPlace { at, name: of.name.clone() }
    }
}

impl Switchboard {
    /// Lists the conversations of a line in which a person wrote: at most `max`, starting behind `after`.
    ///
    /// The cost of a page does not grow with the number of conversations or messages. One that changes while pages are read
    /// may be left out, because it has moved to a page that was read already; none is listed twice unless it changes.
    ///
    /// ```
    /// use civic_messaging::switchboard::{ConversationFilter, Line, Store, Switchboard};
    /// use civic_messaging::Mock;
    ///
    /// # if !cfg!(feature = "sqlite-system") { return }
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let sms = Mock::sms();
    /// let line = Line::new("enquiries").channel(sms.clone());
    /// let switchboard = Switchboard::builder(Store::open("sqlite::memory:").await?)
    ///     .line(line)
    ///     .route("sms", ["enquiries"])
    ///     .build()?;
    /// switchboard.receive("sms", sms.arrives("07700 900123", "When is my bin day?")).await;
    ///
    /// let waiting = switchboard.conversations("enquiries", ConversationFilter::Waiting, None, 50).await?;
    /// assert_eq!((waiting[0].person.expose(), waiting[0].unread), ("+447700900123", 1));
    /// # Ok::<(), civic_messaging::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) for a line that neither the switchboard nor its store
    /// has, [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the store is unavailable.
    pub async fn conversations(
        &self,
        line: &str,
        filter: ConversationFilter,
        after: Option<&ConversationSummary>,
        max: u32,
    ) -> Result<Vec<ConversationSummary>> {
        self.0.known(line).await?;
        let store = &self.0.store.0;
        let rows = store.conversations(line, filter, after.map(|after| filter.place(after)), max).await?;
        let mut all = Vec::with_capacity(rows.len());
        for (ConversationRow { name, address, last: at, waiting: waiting_since, unread }, last) in rows {
            // Only a newer program writes an address that this one cannot read.
            let Ok(person) = serde_json::from_str(&address) else { continue };
            all.push(ConversationSummary { person, at, last, waiting_since, unread, name });
        }
        Ok(all)
    }

    /// Marks the messages of a person on a line as read. Returns `false` if none was unread.
    ///
    /// # Errors
    /// Those of [`conversations`](Self::conversations).
    pub async fn mark_read(&self, line: &str, person: &Address) -> Result<bool> {
        self.0.known(line).await?;
        self.0.store.0.mark_read(line, person.expose()).await
    }
}
