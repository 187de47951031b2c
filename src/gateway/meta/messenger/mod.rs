//! Facebook Messenger by the Send API: messages as Meta's JSON, its answers and errors, and its webhooks as events.
//!
//! The token, the host, the signature and the handshake are those of WhatsApp; what is said with them is not.

use std::borrow::Cow;
use std::time::Duration;

use http::HeaderValue;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Config, ErrorWire, GATEWAY, HOSTS, Meta, Options, Way, graph_error, is_id};
use crate::adapter::json::{Json, Text};
use crate::adapter::lenient;
use crate::adapter::{Answer, FetchLimits, VendorError};
use crate::channel::Indicator;
use crate::context::Context;
use crate::media::{MediaStream, published};
use crate::medium::messenger;
use crate::model::address::{Address, Medium};
use crate::model::capability::{ChoiceLimits, MediaLimits, TextLimit};
use crate::model::error::{Error, ErrorClass, ErrorKind, Result};
use crate::model::event::Inbound;
use crate::model::id::AccountId;
use crate::model::info::Info;
use crate::model::message::{Accepted, Choice, Content, Media, MediaKind, MediaRef, MediaSource, Message, Purpose};
use crate::model::rate::Rate;

mod receive;
pub(super) use receive::events;

impl Meta {
    /// A page on Facebook Messenger.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the setting that is wrong.
    #[cfg(feature = "reqwest")]
    pub fn messenger(config: Config) -> Result<Self> {
        Self::messenger_with(config, &Context::new())
    }

    /// A page on Facebook Messenger, in this context.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the setting that is wrong.
    pub fn messenger_with(config: Config, context: &Context) -> Result<Self> {
        let page = page(&config)?;
        let way = Way { errors: ERRORS, vendor_error, ..Way::graph(&config, &page)? };
        let info = Info::new(GATEWAY, Medium::Messenger, page).with_capability(|can| {
            can.receive = !config.app_secrets.is_empty();
            can.delivery_status = can.receive;
            can.fetch_media = true;
            can.read = true;
            can.typing = true;
            can.key = true;
            can.max_reference = Some(messenger::METADATA_MAX);
            can.reply_to = true;
            can.text = Some(TextLimit::characters(messenger::TEXT_MAX));
            can.media = Some(MediaLimits::messenger());
            can.choice = Some(ChoiceLimits::MESSENGER);
            can.native = true;
            // 300 texts a second for a page; files have a lower rate of their own (read 2026-11-22).
            can.rate = Some(Rate::per_second(300));
        });
        Self::new(info, way, config, context)
    }
}

/// The id of the page that the settings name. What only WhatsApp has is refused: it would be passed over in silence.
fn page(config: &Config) -> Result<AccountId> {
    for (set, field) in [
        (config.phone_number_id.is_some(), "phone_number_id"),
        (config.business_account_id.is_some(), "business_account_id"),
        (config.messaging_account_id.is_some(), "messaging_account_id"),
    ] {
        if set {
            return Err(Error::config(field, "is for WhatsApp: a page on Messenger has a page_id"));
        }
    }
    let id = config.page_id.as_ref().filter(|id| is_id(id.as_str())).cloned();
    id.ok_or_else(|| Error::config("page_id", "must be digits: Meta's id of the page"))
}

/// Puts a link in the place of each file that lies in the store. Nothing has gone when that fails.
pub(super) async fn publish(meta: &Meta, mut message: Message) -> Result<Message> {
    if let Content::Media(files) = &mut message.content {
        for file in files {
            if let MediaSource::Stored { .. } = file.source {
                file.source = published(file, meta.context.publish.as_ref()).await?.into();
            }
        }
    }
    Ok(message)
}

/// The body of `POST /{page-id}/messages`.
pub(super) fn encode(message: &Message, options: &Options) -> Result<Vec<u8>> {
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
    /// Beside the message and not in it: Meta's reference of this edge lists it so. (Graph API reference, Page Messages,
    /// read 2026-11-25 from stored copies; it gives no example.)
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
    payload: Held<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Held<'a> {
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
        MediaSource::Gateway { id, .. } if is_id(id) => Held::AtMeta { attachment_id: id },
        MediaSource::Gateway { .. } => return Err(Error::invalid("media.source", "is not an attachment id of Meta's")),
        MediaSource::Link(url) => Held::Link { url, is_reusable: true },
        MediaSource::Stored { .. } => return Err(Error::invalid("media.source", "was not published")),
    };
    Ok(Attached { kind, payload })
}

fn quick_replies(choice: &Choice) -> Vec<QuickReply<'_>> {
    choice.rows().map(|row| QuickReply { content_type: "text", title: &row.title, payload: &row.id }).collect()
}

/// What Meta said to a send. Once there is an id, it was accepted: whatever else cannot be read costs only itself.
pub(super) fn decode(answer: &Answer) -> Result<Accepted> {
    lenient! {
        struct Taken<'a> {
            message_id: Text<'a>,
            recipient_id: Text<'a>,
        }
    }
    let json = Json::new(&answer.body);
    let taken: Taken<'_> = json.read().ok_or_else(|| answer.unreadable())?;
    let mut accepted = answer.accepted(taken.message_id.id())?;
    accepted.recipient = taken.recipient_id.id().and_then(|id| Address::messenger(id).ok());
    Ok(accepted)
}

/// Shows a signal, which is a request of its own on the path of messages.
pub(super) async fn send_indicator(meta: &Meta, inbound: &Inbound, signal: Indicator) -> Result<()> {
    #[derive(Serialize)]
    struct Action<'a> {
        recipient: Person<'a>,
        sender_action: &'static str,
    }
    let person = match &inbound.from {
        Address::Messenger(person) if !inbound.echo => person,
        _ => return Err(Error::invalid("inbound", "is not a message of a resident on Messenger")),
    };
    let sender_action = match signal {
        Indicator::Read => "mark_seen",
        Indicator::Typing => "typing_on",
    };
    let action = Action { recipient: Person { id: person.as_str() }, sender_action };
    let body = serde_json::to_vec(&action).map_err(|_| Error::invalid("inbound", "cannot be written"))?;
    meta.endpoint.call(meta.post(body)).await.map(|_| ())
}

/// Fetches a file that a resident sent, without the token: whoever has the address gets it.
pub(super) async fn fetch(meta: &Meta, media: &MediaRef) -> Result<MediaStream> {
    let Some(url) = &media.url else {
        let rule = "is needed: Messenger gives a file out by the address that its webhook had, and by no id";
        return Err(Error::invalid("media.url", rule).with_gateway(GATEWAY));
    };
    let limits = FetchLimits { cap: messenger::INBOUND_BYTES_MAX, time: Duration::from_secs(120) };
    meta.endpoint.fetch(url, &HOSTS, None::<HeaderValue>, limits).await
}

/// What Meta's codes mean on Messenger: [error codes][codes] of 18 March 2026, and notes on the changes since, read
/// 2026-11-22 from stored copies.
///
/// UNVERIFIED are 551 and 1545041: a person who cannot be reached or has blocked the page; one source takes the latter
/// for a closed window.
///
/// [codes]: https://developers.facebook.com/docs/messenger-platform/error-codes
const ERRORS: &[(&str, ErrorClass)] = {
    use ErrorKind::{Account, Forbidden, InvalidMessage, InvalidRecipient, RateLimited, Unauthenticated, Unavailable};
    const TOO_FAST: ErrorClass = ErrorClass::new(RateLimited).retry(Some(Duration::from_secs(60))).not_accepted();
    &[
        ("2", ErrorClass::new(Unavailable).retry(None)),
        ("4", TOO_FAST),
        // Or the window is closed: see `by_more`.
        ("10", ErrorClass::new(Forbidden)),
        ("32", TOO_FAST),
        ("100", ErrorClass::new(InvalidMessage)),
        ("190", ErrorClass::new(Unauthenticated)),
        ("368", ErrorClass::new(Account)),
        ("551", ErrorClass::new(InvalidRecipient)),
        ("613", TOO_FAST),
        ("1200", ErrorClass::new(Unavailable).retry(None)),
        ("1545041", ErrorClass::new(InvalidRecipient)),
    ]
};

const HELP: &str = "https://developers.facebook.com/docs/messenger-platform/error-codes";

fn vendor_error(answer: &Answer) -> VendorError<'_> {
    graph_error(answer, ERRORS, HELP, by_more)
}

const CLOSED: &str = "the person has done nothing on the page for 24 hours; what a person types may go for 7 days, with \
                      the option human_agent";

/// What a code means by its subcode, or by Meta's words where there is nothing else to go by.
///
/// The subcodes 2018278, 2018065 (window) and 2018001 (no such person) are UNVERIFIED: public programs know them, and no
/// page of Meta's that was read.
fn by_more(code: &str, error: &ErrorWire<'_>) -> Option<(ErrorClass, &'static str)> {
    match (code, error.subcode()) {
        ("10", Some("1893063")) => Some((ErrorClass::new(ErrorKind::Account), "Meta has restricted the page")),
        ("10", Some("2018278" | "2018065")) => Some((ErrorClass::new(ErrorKind::OutsideWindow), CLOSED)),
        ("10", _) => {
            let words: Cow<'_, str> = serde_json::from_str(error.message?.get()).ok()?;
            let closed = ["outside of allowed window", "outside the allowed window"];
            let closed = closed.iter().any(|said| words.to_ascii_lowercase().contains(said));
            closed.then_some((ErrorClass::new(ErrorKind::OutsideWindow), CLOSED))
        }
        ("100", Some("2018001")) => {
            Some((ErrorClass::new(ErrorKind::InvalidRecipient), "the page knows nobody by this id"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_purpose_and_the_option_make_of_a_message() {
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
    fn what_cannot_be_written_is_refused() {
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
