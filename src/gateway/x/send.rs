//! Sending of messages, and X's response.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::api::{ApiRequest, RateLimits, numeric};
use super::{GATEWAY, X};
use crate::adapter::json::{Json, Text};
use crate::adapter::{Answer, lenient};
use crate::medium::x as rules;
use crate::model::address::{Address, Medium};
use crate::model::clock::Clock;
use crate::model::error::{Error, Outcome, Result};
use crate::model::json::without_nulls;
use crate::model::message::{Accepted, Content, Media, MediaSource, Message};

pub(super) fn address(to: &Address) -> Result<(), &'static str> {
    match to {
        Address::X(_) => Ok(()),
        Address::Conversation(conversation) if rules::conversation_id(conversation.id()) => Ok(()),
        _ => Err("must be a numeric user id on X, or the id of a conversation there"),
    }
}

impl X {
    /// Uploads the stored file, if any, and then makes the one call that the resident sees.
    pub(super) async fn send_prepared(&self, message: &Message) -> Result<Accepted> {
        let path = match &message.to {
            Address::X(user) => format!("/2/dm_conversations/with/{}/messages", user.id()),
            to => format!("/2/dm_conversations/{}/messages", to.expose()),
        };
        let (text, media) = match &message.content {
            Content::Text(text) => (Some(text.as_str()), None),
            Content::Media(media) => match media.as_slice() {
                [media] => (media.caption.as_deref(), Some(media)),
                _ => return Err(Error::invalid("media", "must be one file").with_gateway(GATEWAY)),
            },
            _ => return Err(Error::unsupported("this channel sends text and files").with_gateway(GATEWAY)),
        };
        let media = match media {
            Some(media) => Some(self.media_id(media).await?),
            None => None,
        };
        if media.is_some() {
            // The upload may have taken minutes.
            self.info.prepare(message, self.clock.now())?;
        }
        let request = ApiRequest::post("dm_send", path).json(&outgoing(text, media.as_deref()))?;
        let answer = self.exchange(&request, true).await?;
        self.accepted(&answer).map(|(accepted, _)| accepted)
    }

    /// X's answer to a message, and the conversation that it is in. With an id it was accepted, whatever errors stand
    /// beside it; without one, but with errors, X refused it in a 2xx. (X, Response codes and errors, "Partial errors",
    /// read 2026-11-30.)
    pub(super) fn accepted(&self, answer: &Answer) -> Result<(Accepted, Option<Address>)> {
        let json = Json::new(&answer.body);
        let created = json.read::<SendResponse<'_>>().and_then(|said| said.data).unwrap_or_default();
        let accepted = answer.accepted(created.dm_event_id.id());
        let mut accepted = accepted.map_err(|unreadable| self.refusal(answer).unwrap_or(unreadable))?;
        accepted.quota = RateLimits::tightest(&answer.headers, self.clock.now());
        let conversation = created.dm_conversation_id.some();
        let conversation = conversation.filter(|id| rules::conversation_id(id));
        accepted.recipient = conversation.and_then(|id| match rules::other_party(id, self.info.account.as_str()) {
            Some(person) => Address::x(person).ok(),
            None => Address::conversation(Medium::X, id).ok(),
        });
        let conversation = conversation.and_then(|id| Address::conversation(Medium::X, id).ok());
        Ok((accepted, conversation))
    }

    async fn media_id<'m>(&self, media: &'m Media) -> Result<Cow<'m, str>> {
        match &media.source {
            MediaSource::Gateway { id, .. } => numeric("media.source", id).map(Cow::Borrowed),
            MediaSource::Stored { sha256, .. } => {
                let bytes = self.media.open(sha256).await.map_err(|error| error.with_outcome(Outcome::NotSent))?;
                Ok(Cow::Owned(self.upload(media, bytes).await?.id))
            }
            MediaSource::Link(_) => Err(Error::unsupported("X takes no files by link").with_field("media.source")),
        }
    }
}

lenient! {
    /// X's answer to a message.
    struct SendResponse<'a> {
        data: Option<Created<'a>>,
    }

    /// X's response to an accepted message.
    struct Created<'a> {
        dm_event_id: Text<'a>,
        dm_conversation_id: Text<'a>,
    }
}

/// A message: no empty text, no nulls and no other keys.
pub(super) fn outgoing(text: Option<&str>, media_id: Option<&str>) -> Value {
    let text = text.filter(|text| !text.trim().is_empty());
    without_nulls(json!({ "text": text, "attachments": media_id.map(|id| json!([{ "media_id": id }])) }))
}
