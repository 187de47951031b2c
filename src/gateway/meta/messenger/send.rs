//! A message as the JSON of the Send API, Meta's answer, and indicators.

use serde::Serialize;
use serde_json::{Map, Value};

use super::super::graph::is_id;
use super::super::{Meta, Options};
use crate::adapter::json::{Json, Text};
use crate::adapter::{Answer, lenient};
use crate::channel::Indicator;
use crate::model::address::Address;
use crate::model::error::{Error, Result};
use crate::model::event::Inbound;
use crate::model::message::{Accepted, Choice, Content, Media, MediaKind, MediaSource, Message, Purpose};

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
    let outgoing = Outgoing {
        messaging_type,
        tag,
        recipient: Person { id: person.as_str() },
        message: content(&message.content, message.key.as_deref())?,
        reply_to: message.reply_to.as_ref().map(|mid| Quoted { mid: mid.as_str() }),
    };
    serde_json::to_vec(&outgoing).map_err(|_| Error::invalid("content", "cannot be written as JSON"))
}

#[derive(Serialize)]
struct Outgoing<'a> {
    messaging_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<&'static str>,
    recipient: Person<'a>,
    message: Outbound<'a>,
    /// Beside the message and not in it: Meta's reference of this edge lists it so. (Graph API reference, Page
    /// Messages, read 2026-11-25 from stored copies; it gives no example.)
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<Quoted<'a>>,
}

#[derive(Serialize)]
struct Person<'a> {
    id: &'a str,
}

#[derive(Serialize)]
struct Quoted<'a> {
    mid: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Outbound<'a> {
    Native(Map<String, Value>),
    Ours {
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        attachment: Option<Attached<'a>>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        quick_replies: Vec<QuickReply<'a>>,
        /// Comes back in the echo.
        #[serde(skip_serializing_if = "Option::is_none")]
        metadata: Option<&'a str>,
    },
}

#[derive(Serialize)]
struct Attached<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    payload: AttachmentPayload<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum AttachmentPayload<'a> {
    AtMeta { attachment_id: &'a str },
    Link { url: &'a str, is_reusable: bool },
}

#[derive(Serialize)]
struct QuickReply<'a> {
    content_type: &'static str,
    title: &'a str,
    payload: &'a str,
}

fn content<'a>(content: &'a Content, metadata: Option<&'a str>) -> Result<Outbound<'a>> {
    let (text, attachment, quick_replies) = match content {
        Content::Text(text) => (Some(text.as_str()), None, Vec::new()),
        Content::Media(files) => match files.as_slice() {
            [file] => (None, Some(attached(file)?), Vec::new()),
            _ => return Err(Error::invalid("media", "is not one file")),
        },
        Content::Choice(choice) => (Some(choice.body.as_str()), None, quick_replies(choice)),
        Content::Native(native) => {
            let mut value: Map<String, Value> = native.read()?;
            if let Some(key) = metadata
                && value.insert("metadata".to_owned(), key.into()).is_some()
            {
                return Err(Error::invalid("native", "has a metadata, which is where the message's key goes"));
            }
            return Ok(Outbound::Native(value));
        }
        _ => return Err(Error::unsupported("this channel cannot send this content").with_field("content")),
    };
    Ok(Outbound::Ours { text, attachment, quick_replies, metadata })
}

fn attached(file: &Media) -> Result<Attached<'_>> {
    let kind = match file.kind {
        MediaKind::Audio => "audio",
        MediaKind::Document => "file",
        MediaKind::Image => "image",
        MediaKind::Video => "video",
        MediaKind::Sticker => return Err(Error::unsupported("this channel cannot send stickers").with_field("media")),
    };
    let payload = match &file.source {
        // A file that a resident sent has no id at Meta: see `Attachment::reference`.
        MediaSource::Gateway { id, .. } if is_id(id) => AttachmentPayload::AtMeta { attachment_id: id },
        MediaSource::Gateway { .. } => return Err(Error::invalid("media.source", "is not an attachment id of Meta's")),
        MediaSource::Link(url) => AttachmentPayload::Link { url, is_reusable: true },
        MediaSource::Stored { .. } => return Err(Error::invalid("media.source", "was not published")),
    };
    Ok(Attached { kind, payload })
}

fn quick_replies(choice: &Choice) -> Vec<QuickReply<'_>> {
    choice.rows().map(|row| QuickReply { content_type: "text", title: &row.title, payload: &row.id }).collect()
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
    #[derive(Serialize)]
    struct Action<'a> {
        recipient: Person<'a>,
        sender_action: &'static str,
    }
    let person = match &inbound.from {
        Address::Messenger(person) if !inbound.echo => person,
        _ => return Err(Error::invalid("inbound", "is not a message of a resident on Messenger")),
    };
    let sender_action = match indicator {
        Indicator::Read => "mark_seen",
        Indicator::Typing => "typing_on",
    };
    let action = Action { recipient: Person { id: person.as_str() }, sender_action };
    let body = serde_json::to_vec(&action).map_err(|_| Error::invalid("inbound", "cannot be written"))?;
    meta.endpoint.call(meta.post(body)).await.map(|_| ())
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
