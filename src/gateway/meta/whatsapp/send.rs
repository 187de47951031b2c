//! Sending: stored files, Meta's response and indicators.

use serde_json::json;

use super::super::Meta;
use super::people::person;
use super::wire::SendResponse;
use crate::adapter::Answer;
use crate::adapter::json::Json;
use crate::channel::{Channel, Indicator};
use crate::model::error::Result;
use crate::model::event::Inbound;
use crate::model::json::without_nulls;
use crate::model::message::{Accepted, Choice, Content, Media, MediaSource, Message, Template, TemplateHeader};

/// Uploads what lies in the store. No resident sees that, so a failure is no doubt about the message.
pub(in super::super) async fn upload(meta: &Meta, mut message: Message) -> Result<Message> {
    for media in media_mut(&mut message.content) {
        if let MediaSource::Stored { sha256, .. } = &media.source {
            let bytes = meta.context.media.open(sha256).await?;
            media.source = meta.upload_media(media, bytes).await?.into();
        }
    }
    Ok(message)
}

/// Returns `true` if a file of the content lies in the store.
pub(in super::super) fn is_stored(content: &Content) -> bool {
    media(content).any(|media| matches!(media.source, MediaSource::Stored { .. }))
}

fn media(content: &Content) -> impl Iterator<Item = &Media> {
    let header = match content {
        Content::Choice(Choice { header: Some(TemplateHeader::Media(media)), .. })
        | Content::Template(Template { header: Some(TemplateHeader::Media(media)), .. }) => Some(media),
        _ => None,
    };
    let files = match content {
        Content::Media(media) => media.as_slice(),
        _ => &[],
    };
    files.iter().chain(header)
}

fn media_mut(content: &mut Content) -> Vec<&mut Media> {
    match content {
        Content::Media(media) => media.iter_mut().collect(),
        Content::Choice(Choice { header: Some(TemplateHeader::Media(media)), .. })
        | Content::Template(Template { header: Some(TemplateHeader::Media(media)), .. }) => vec![media],
        _ => Vec::new(),
    }
}

/// Reads the response to a send. An id means accepted: an unreadable value beside it costs only itself.
pub(in super::super) fn decode(answer: &Answer) -> Result<Accepted> {
    let json = Json::new(&answer.body);
    let response: SendResponse<'_> = json.read().ok_or_else(|| answer.unreadable())?;
    let messages = || response.messages.iter().filter(|message| message.id.id().is_some());
    let mut accepted = answer.accepted(messages().filter_map(|message| message.id.id()))?;
    accepted.status = messages().next().and_then(|first| first.message_status.to_text());
    // The number as Meta normalises it (of Brazil with 8 digits or 9), the user id of one who hides the number, or
    // both.
    let mut contacts = response.contacts.iter().map(|contact| person(contact.wa_id.some(), contact.user_id.some()));
    accepted.recipient = contacts.find_map(|recipient| recipient);
    Ok(accepted)
}

pub(in super::super) async fn send_indicator(meta: &Meta, inbound: &Inbound, indicator: Indicator) -> Result<()> {
    let typing = matches!(indicator, Indicator::Typing).then(|| json!({ "type": "text" }));
    let read = without_nulls(json!({
        "messaging_product": "whatsapp",
        "status": "read",
        "message_id": inbound.id.as_str(),
        "typing_indicator": typing,
    }));
    meta.endpoint.call(meta.post(read.to_string())).await.map(|_| ())
}
