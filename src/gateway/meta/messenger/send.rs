//! A message as the JSON of the Send API, Meta's answer, and indicators.

use serde_json::{Map, Value, json};

use super::super::graph::is_id;
use super::super::{Meta, Options};
use crate::adapter::json::{Json, Text};
use crate::adapter::{Answer, lenient};
use crate::channel::Indicator;
use crate::model::address::Address;
use crate::model::error::{Error, Result};
use crate::model::event::Inbound;
use crate::model::json::without_nulls;
use crate::model::message::{Accepted, Content, Media, MediaKind, MediaSource, Message, Purpose, Row};

/// The body of `POST /{page-id}/messages`.
pub(in super::super) fn encode(message: &Message, options: &Options) -> Result<Vec<u8>> {
    let Address::Messenger(person) = &message.to else {
        return Err(Error::recipient("is not an address on Messenger"));
    };
    let (messaging_type, tag) = match message.purpose {
        _ if options.human_agent => ("MESSAGE_TAG", Some("HUMAN_AGENT")),
        Purpose::Reply => ("RESPONSE", None),
        Purpose::Emergency | Purpose::Marketing | Purpose::Notice => ("UPDATE", None),
    };
    let body = without_nulls(json!({
        "messaging_type": messaging_type,
        "tag": tag,
        "recipient": { "id": person.as_str() },
        "message": content(&message.content, message.key.as_deref())?,
        // Beside the message and not in it: Meta's reference of this edge lists it so. (Graph API reference, Page
        // Messages, read 2026-11-25 from stored copies; it gives no example.)
        "reply_to": message.reply_to.as_ref().map(|mid| json!({ "mid": mid.as_str() })),
    }));
    Ok(body.to_string().into_bytes())
}

/// The message, whose `metadata` comes back in the echo.
fn content(content: &Content, metadata: Option<&str>) -> Result<Map<String, Value>> {
    let mut message = match content {
        Content::Text(text) => Map::from_iter([("text".to_owned(), text.as_str().into())]),
        Content::Media(files) => match files.as_slice() {
            [file] => Map::from_iter([("attachment".to_owned(), attachment(file)?)]),
            _ => return Err(Error::invalid("media", "is not one file")),
        },
        Content::Choice(choice) => {
            let reply = |row: &Row| json!({ "content_type": "text", "title": row.title, "payload": row.id });
            let replies = choice.rows().map(reply).collect();
            Map::from_iter([("text".to_owned(), choice.body.as_str().into()), ("quick_replies".to_owned(), replies)])
        }
        Content::Native(native) => native.read()?,
        _ => return Err(Error::unsupported("this channel cannot send this content").with_field("content")),
    };
    if let Some(key) = metadata
        && message.insert("metadata".to_owned(), key.into()).is_some()
    {
        return Err(Error::invalid("native", "has a metadata, which is where the message's key goes"));
    }
    Ok(message)
}

fn attachment(file: &Media) -> Result<Value> {
    let kind = match file.kind {
        MediaKind::Audio => "audio",
        MediaKind::Document => "file",
        MediaKind::Image => "image",
        MediaKind::Video => "video",
        MediaKind::Sticker => return Err(Error::unsupported("this channel cannot send stickers").with_field("media")),
    };
    let payload = match &file.source {
        // A file that a resident sent has no id at Meta: see `Attachment::reference`.
        MediaSource::Gateway { id, .. } if is_id(id) => json!({ "attachment_id": id }),
        MediaSource::Gateway { .. } => return Err(Error::invalid("media.source", "is not an attachment id of Meta's")),
        MediaSource::Link(url) => json!({ "url": url, "is_reusable": true }),
        MediaSource::Stored { .. } => return Err(Error::invalid("media.source", "was not published")),
    };
    Ok(json!({ "type": kind, "payload": payload }))
}

/// Reads the response to a send. An id means accepted: an unreadable value beside it costs only itself.
pub(in super::super) fn decode(answer: &Answer) -> Result<Accepted> {
    lenient! {
        struct SendResponse<'a> {
            message_id: Text<'a>,
            recipient_id: Text<'a>,
        }
    }
    let json = Json::new(&answer.body);
    let response: SendResponse<'_> = json.read().ok_or_else(|| answer.unreadable())?;
    let mut accepted = answer.accepted(response.message_id.id())?;
    accepted.recipient = response.recipient_id.id().and_then(|id| Address::messenger(id).ok());
    Ok(accepted)
}

/// Sends an indicator, a request of its own on the path of messages.
pub(in super::super) async fn send_indicator(meta: &Meta, inbound: &Inbound, indicator: Indicator) -> Result<()> {
    let person = match &inbound.from {
        Address::Messenger(person) if !inbound.echo => person,
        _ => return Err(Error::invalid("inbound", "is not a message of a resident on Messenger")),
    };
    let sender_action = match indicator {
        Indicator::Read => "mark_seen",
        Indicator::Typing => "typing_on",
    };
    let action = json!({ "recipient": { "id": person.as_str() }, "sender_action": sender_action });
    meta.endpoint.call(meta.post(action.to_string())).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::super::super::GATEWAY;
    use super::*;
    use crate::model::message::MediaRef;

    #[test]
    fn purpose_and_option_set_messaging_type() {
        let to = Address::messenger("6000000000000001").unwrap();
        let typed = Options { human_agent: true, ..Options::default() };
        for (purpose, options, kind, tag) in [
            (Purpose::Reply, Options::default(), "RESPONSE", None),
            (Purpose::Notice, Options::default(), "UPDATE", None),
            (Purpose::Emergency, Options::default(), "UPDATE", None),
            (Purpose::Marketing, Options::default(), "UPDATE", None),
            (Purpose::Notice, typed.clone(), "MESSAGE_TAG", Some("HUMAN_AGENT")),
            (Purpose::Reply, typed, "MESSAGE_TAG", Some("HUMAN_AGENT")),
        ] {
            let message = Message::text(to.clone(), "Hello").purpose(purpose);
            let body: Value = serde_json::from_slice(&encode(&message, &options).unwrap()).unwrap();
            assert_eq!((&body["messaging_type"], body.get("tag").and_then(Value::as_str)), (&kind.into(), tag));
        }
    }

    #[test]
    fn unencodable_message_is_refused() {
        let to = || Address::messenger("6000000000000001").unwrap();
        let held = MediaSource::from(MediaRef::new(GATEWAY, "m_1/0"));
        let native =
            crate::model::message::Native::new(GATEWAY, &serde_json::json!({ "text": "a", "metadata": "b" })).unwrap();
        for (field, message) in [
            ("media.source", Message::media(to(), [Media::image(held)])),
            ("native", Message::new(to(), native).key("case-1")),
            ("to", Message::text(Address::x("1").unwrap(), "Hello")),
        ] {
            assert_eq!(encode(&message, &Options::default()).unwrap_err().field(), Some(field));
        }
    }
}
