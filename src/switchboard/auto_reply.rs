//! Auto-replies, stored in the transaction of the message that they answer.

use std::collections::{HashMap, HashSet};

use super::Inner;
use super::conversation::{Entry, EntryContent};
use super::record::{Claimed, DueReply, Incoming};
use crate::model::clock::Timestamp;
use crate::model::digest::Digest;
use crate::model::error::Result;
use crate::model::event::{Event, Inbound};
use crate::model::id::MessageId;
use crate::model::message::{Message, Purpose};
use crate::policy::auto_reply::{History, Language};
use crate::telemetry;

/// The tag of auto-replies.
const TAG: &str = "auto-reply";

/// The start of their keys.
const KEY: &str = "auto-reply-";

/// The reason for an auto-reply that is not sent any more.
pub(super) const ANSWERED: &str = "the person was answered before it was sent";

/// The number of entries of a conversation in which an answer and a language are looked for. The transaction looks for
/// an answer of ours in the whole period again.
const ENTRIES: u32 = 20;

impl Inner {
    /// Adds the auto-replies that are due to these events, and returns `true` if there are any.
    ///
    /// The decision precedes the transaction, which checks again what may have changed, and stores each reply with its
    /// message or not at all. A gateway that redelivers the message finds both stored.
    pub(super) async fn add_auto_replies(&self, events: &mut [Incoming]) -> Result<bool> {
        if self.auto_replies.is_empty() {
            return Ok(false);
        }
        let now = self.clock.now();
        let heard = Heard::new(events);
        let mut replies = Vec::new();
        for (n, Incoming { line, event, .. }) in events.iter().enumerate() {
            if let (Some(line), Some(inbound)) = (line, event.as_answerable())
                && !heard.opted_out.contains(&inbound.id)
                && let Some(reply) = self.auto_reply(line, inbound, &heard, now).await?
            {
                replies.push((n, reply));
            }
        }
        let any = !replies.is_empty();
        for (n, reply) in replies {
            if let Some(incoming) = events.get_mut(n) {
                incoming.auto_reply = Some(Box::new(reply));
            }
        }
        Ok(any)
    }

    /// Returns the auto-reply to a message, if one is due. A fault of the configuration, such as bank holidays that are
    /// not known yet, is logged, and costs the reply and not the message.
    async fn auto_reply(&self, id: &str, inbound: &Inbound, heard: &Heard, now: Timestamp) -> Result<Option<DueReply>> {
        let Some(out_of_hours) = self.auto_replies.get(id) else { return Ok(None) };
        let decide = |history: &History| {
            let decided = out_of_hours.reply(inbound, history, now);
            decided.unwrap_or_else(|error| {
                telemetry::work_failed("auto_reply", &error);
                None
            })
        };
        // In opening hours nothing is read.
        if decide(&History::new()).is_none() {
            return Ok(None);
        }
        let to = inbound.reply_address();
        let entries = self.store.0.conversation(id, to.expose(), None, ENTRIES).await?;
        let mut history = history_of(&entries);
        if let Some(at) = heard.echoed.get(to.expose()) {
            history.replied(*at);
        }
        let Some(reply) = decide(&history) else { return Ok(None) };
        let of_this = format!("{id}\n{}\n{}", to.expose(), reply.period.from.as_millis());
        let key = format!("{KEY}{}", Digest::sha256(of_this.as_bytes()));
        let message = Message::text(to.clone(), reply.text).purpose(Purpose::Reply).key(key).tag(TAG);
        // Once the line is open, it would be wrong.
        let message = message.not_after(reply.period.until);
        let message = match reply.language {
            Some(language) => message.language(language.tag()),
            None => message,
        };
        let line = self.line(id)?;
        if let Err(error) = line.check_message(&message) {
            telemetry::work_failed("auto_reply", &error);
            return Ok(None);
        }
        let account = line.only_account(&message, &[], now);
        Ok(Some(DueReply { message, account, since: reply.period.from }))
    }
}

impl Inner {
    /// Returns `true` for an auto-reply to a person who got an answer after it was enqueued: while a policy deferred it,
    /// it held back none.
    pub(super) async fn is_answered(&self, claimed: &Claimed, message: &Message) -> Result<bool> {
        if !message.key.as_deref().is_some_and(|key| key.starts_with(KEY)) {
            return Ok(false);
        }
        let entries = self.store.0.conversation(&claimed.line, message.to.expose(), None, ENTRIES).await?;
        let answers = |entry: &Entry| match &entry.content {
            EntryContent::Ours { status, message: Some(ours) } => {
                ours.purpose == Purpose::Reply && ours.key != message.key && !status.state.is_not_sent()
            }
            EntryContent::Ours { message: None, .. } => false,
            EntryContent::Theirs(inbound) => inbound.as_ref().is_some_and(|inbound| inbound.echo),
        };
        Ok(entries.iter().take_while(|entry| entry.at >= claimed.queued).any(answers))
    }
}

/// What the other events of a webhook say about a message.
struct Heard {
    /// The messages by which somebody opted out.
    opted_out: HashSet<MessageId>,
    /// The time of the last echo of a reply to each person.
    echoed: HashMap<String, Timestamp>,
}

impl Heard {
    fn new(events: &[Incoming]) -> Self {
        let mut heard = Self { opted_out: HashSet::new(), echoed: HashMap::new() };
        for incoming in events {
            match &incoming.event {
                Event::OptOut(opt_out) => heard.opted_out.extend(opt_out.inbound.clone()),
                Event::Inbound(echo) if echo.echo => {
                    if let Some(to) = echo.envelope.conversation.as_ref().or(echo.to.as_ref()) {
                        let last = heard.echoed.entry(to.expose().to_owned()).or_insert(echo.envelope.at);
                        *last = echo.envelope.at.max(*last);
                    }
                }
                _ => {}
            }
        }
        heard
    }
}

/// Returns what a conversation, newest entry first, says about a reply and its language.
fn history_of(entries: &[Entry]) -> History {
    let (mut history, mut language) = (History::new(), None);
    for Entry { at, content, .. } in entries {
        match content {
            EntryContent::Ours { message: Some(message), .. } => {
                if message.tag.as_deref() == Some(TAG) {
                    history.auto_replied(*at);
                } else if message.purpose == Purpose::Reply {
                    history.replied(*at);
                }
                language = language.or_else(|| Language::from_tag(message.language.as_deref()?));
            }
            EntryContent::Theirs(Some(inbound)) if inbound.echo => history.replied(inbound.envelope.at),
            EntryContent::Theirs(Some(inbound)) => {
                language = language.or_else(|| Language::detect(inbound.text()?));
            }
            EntryContent::Ours { message: None, .. } | EntryContent::Theirs(None) => {}
        }
    }
    language.into_iter().for_each(|language| history.language(language));
    history
}
