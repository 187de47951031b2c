//! Bulk: many messages under one tag, stored batch by batch.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::directory::key_of;
use super::{Outgoing, Switchboard};
use crate::model::address::Address;
use crate::model::clock::Timestamp;
use crate::model::digest::Digest;
use crate::model::error::{Error, ErrorKind, Result};

/// The number of messages stored in one transaction.
const BATCH: usize = 200;

/// Messages that are being enqueued under one tag: see [`Switchboard::send_many`].
#[must_use = "nothing is stored until `next` or `finish` is called"]
pub struct BulkSend<'a> {
    switchboard: Switchboard,
    line: String,
    tag: String,
    due: Timestamp,
    messages: Pin<Box<dyn Stream<Item = Outgoing> + Send + 'a>>,
    has_ended: bool,
    /// The messages that were read and not stored, with their positions.
    pending: VecDeque<(u64, Outgoing)>,
    read: u64,
    counts: BulkCounts,
}

/// Counts of a bulk's messages.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BulkCounts {
    /// The number of messages that were stored.
    pub stored: u64,
    /// The number of messages that were in the store already: by an earlier call, or earlier in the stream.
    pub existing: u64,
    /// The number of messages that were refused.
    pub refused: u64,
}

/// The progress of a bulk after a batch.
#[non_exhaustive]
#[derive(Debug)]
pub struct BulkProgress {
    /// The counts so far.
    pub counts: BulkCounts,
    /// The refusals of this batch.
    pub refusals: Vec<BulkRefusal>,
}

/// A message of a bulk that was not enqueued.
#[non_exhaustive]
#[derive(Debug)]
pub struct BulkRefusal {
    /// The position in the stream: 0 for the first message.
    pub position: u64,
    /// The idempotency key.
    pub key: String,
    /// The reason, as [`Switchboard::send`] returns it.
    pub error: Error,
}

impl Switchboard {
    /// Enqueues a stream of messages on a line, all under this tag, with progress and refusals for each batch.
    ///
    /// A message without a key gets one from the tag and its address: one message for each address and tag. Sending the
    /// same stream again, after a crash or an error, therefore stores only what is missing; a second message to an address
    /// under the same tag needs a key of its own, and is refused without one unless it is the same. The tag replaces that
    /// of each message, and a fallback without a tag gets it too.
    ///
    /// Batches have up to 200 messages and are one transaction each: durable once [`BulkSend::next`] returns. A message
    /// that the line cannot carry, that the policy refuses or whose recipient opted out is reported, and the rest goes on.
    /// Replies and emergencies overtake what is enqueued here: see [`Purpose`](crate::Purpose).
    ///
    /// [`cancel_many`](Self::cancel_many) with [`MessageFilter::tag`](super::MessageFilter::tag) cancels the rest of it, and
    /// [`campaign`](Self::campaign) has its figures.
    ///
    /// ```
    /// use civic_messaging::switchboard::{Line, Store, Switchboard};
    /// use civic_messaging::{Address, Message, Mock};
    ///
    /// # if !cfg!(feature = "sqlite-system") { return }
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let line = Line::new("revenues").channel(Mock::sms());
    /// let switchboard = Switchboard::builder(Store::open("sqlite::memory:").await?).line(line).build()?;
    ///
    /// let residents = ["07700 900123", "07700 900124", "07700 900123"];
    /// let reminders = residents.map(|phone| Ok(Message::text(Address::phone(phone)?, "Council tax is due on 1 April.")));
    /// let reminders = reminders.into_iter().collect::<civic_messaging::Result<Vec<_>>>()?;
    ///
    /// let mut bulk = switchboard.send_many("revenues", "council-tax-2027", futures_util::stream::iter(reminders));
    /// while let Some(progress) = bulk.next().await? {
    ///     println!("{} stored, {} refused", progress.counts.stored, progress.counts.refused);
    ///     for refusal in progress.refusals {
    ///         eprintln!("row {}: {}", refusal.position, refusal.error);
    ///     }
    /// }
    /// // The third is the first again.
    /// assert_eq!((bulk.counts().stored, bulk.counts().existing), (2, 1));
    /// # Ok::<(), civic_messaging::Error>(()) }).unwrap();
    /// ```
    pub fn send_many<'a, M: Into<Outgoing> + 'a>(
        &self,
        line: &str,
        tag: &str,
        messages: impl Stream<Item = M> + Send + 'a,
    ) -> BulkSend<'a> {
        BulkSend {
            switchboard: self.clone(),
            line: line.to_owned(),
            tag: tag.to_owned(),
            due: Timestamp::from_millis(i64::MIN),
            messages: Box::pin(Converted(Box::pin(messages))),
            has_ended: false,
            pending: VecDeque::new(),
            read: 0,
            counts: BulkCounts::default(),
        }
    }
}

impl BulkSend<'_> {
    /// Sets the time before which none of the messages is sent.
    pub fn due(mut self, at: Timestamp) -> Self {
        self.due = at;
        self
    }

    /// Returns the counts so far.
    pub fn counts(&self) -> BulkCounts {
        self.counts
    }

    /// Stores the next batch, and returns the progress after it: `None` once the stream has ended and all is stored.
    ///
    /// A batch is smaller than 200 messages if the stream has no more at the moment. After an error, and after a call that
    /// was dropped, the next call stores the same batch again.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`] for an unknown line or a blank tag, [`ErrorKind::Unavailable`] if the store or the
    /// policy is unavailable.
    pub async fn next(&mut self) -> Result<Option<BulkProgress>> {
        self.switchboard.0.line(&self.line)?;
        if self.tag.trim().is_empty() {
            return Err(Error::invalid("tag", "is blank: it names the bulk in counts and filters"));
        }
        if self.pending.is_empty() {
            self.read().await;
        }
        if self.pending.is_empty() {
            return Ok(None);
        }
        let (mut counts, mut refusals) = (self.counts, Vec::new());
        let (mut intakes, mut all) = (Vec::new(), Vec::new());
        let mut refuse = |position, key: String, error: Error| match error.kind() {
            ErrorKind::Unavailable => Err(error),
            _ => {
                counts.refused += 1;
                refusals.push(BulkRefusal { position, key, error });
                Ok(())
            }
        };
        for (position, outgoing) in &self.pending {
            let key = outgoing.message.key.clone().unwrap_or_default();
            match self.switchboard.0.prepare(&self.line, outgoing.clone(), self.due).await {
                Ok((new, intake)) => {
                    all.push(new);
                    intakes.push((*position, key, intake));
                }
                Err(error) => refuse(*position, key, error)?,
            }
        }
        let enqueued = self.switchboard.0.store.0.enqueue_all(all).await?;
        let (mut stored, mut existing) = (0, 0);
        for ((position, key, intake), enqueued) in intakes.into_iter().zip(enqueued) {
            match self.switchboard.taken_in(&self.line, &intake, enqueued) {
                Ok((_, true)) => stored += 1,
                Ok((_, false)) => existing += 1,
                Err(error) => refuse(position, key, error)?,
            }
        }
        counts.stored += stored;
        counts.existing += existing;
        self.pending.clear();
        self.counts = counts;
        refusals.sort_by_key(|refusal| refusal.position);
        Ok(Some(BulkProgress { counts, refusals }))
    }

    /// Stores the rest, and returns the counts. Call [`next`](Self::next) instead to see the refusals.
    ///
    /// # Errors
    /// Those of [`next`](Self::next).
    pub async fn finish(mut self) -> Result<BulkCounts> {
        while self.next().await?.is_some() {}
        Ok(self.counts)
    }

    /// Reads messages until a batch is full, or the stream has none at the moment.
    async fn read(&mut self) {
        let Self { messages, has_ended, pending, read, tag, .. } = self;
        poll_fn(|context| {
            while pending.len() < BATCH && !*has_ended {
                match messages.as_mut().poll_next(context) {
                    Poll::Ready(Some(outgoing)) => {
                        pending.push_back((*read, tagged(outgoing, tag)));
                        *read += 1;
                    }
                    Poll::Ready(None) => *has_ended = true,
                    Poll::Pending if pending.is_empty() => return Poll::Pending,
                    Poll::Pending => break,
                }
            }
            Poll::Ready(())
        })
        .await;
    }
}

/// A stream of messages as outgoing ones.
struct Converted<'a, M>(Pin<Box<dyn Stream<Item = M> + Send + 'a>>);

impl<M: Into<Outgoing>> Stream for Converted<'_, M> {
    type Item = Outgoing;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Outgoing>> {
        self.0.as_mut().poll_next(context).map(|message| message.map(Into::into))
    }
}

/// Returns the message as one of a bulk: with its tag, and a key.
fn tagged(mut outgoing: Outgoing, tag: &str) -> Outgoing {
    let message = &mut outgoing.message;
    if message.key.is_none() {
        message.key = Some(bulk_key(tag, &message.to));
    }
    message.tag = Some(tag.to_owned());
    if let Some(fallback) = &mut outgoing.fallback {
        fallback.message.tag.get_or_insert_with(|| tag.to_owned());
    }
    outgoing
}

/// Returns the key of an address in a bulk.
fn bulk_key(tag: &str, to: &Address) -> String {
    format!("bulk-{}", Digest::sha256(format!("{tag}\n{}", key_of(to)).as_bytes()))
}

impl fmt::Debug for BulkSend<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkSend")
            .field("line", &self.line)
            .field("tag", &self.tag)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}
