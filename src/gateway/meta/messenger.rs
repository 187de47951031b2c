//! Facebook Messenger by the Send API: messages as Meta's JSON, its answers and errors, and its webhooks as events.
//!
//! The token, the host, the signature and the handshake are those of WhatsApp; what is said with them is not.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderValue;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{Config, ErrorWire, GATEWAY, HOSTS, Meta, Options, Way, graph_error, is_id};
use crate::address::{Address, Medium};
use crate::capability::{ChoiceLimits, MediaLimits, TextLimit};
use crate::channel::{Info, Signal};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::endpoint::{Answer, FetchLimits, VendorError};
use crate::error::{Class, Error, ErrorKind, Result};
use crate::event::{
    Chosen, Delivery, DeliveryOf, DeliveryState, Envelope, Event, Inbound, InboundContent, Raw, Unrecognised,
};
use crate::id::AccountId;
use crate::media::{MediaStream, published};
use crate::medium::messenger;
use crate::message::{Accepted, Choice, Content, Media, MediaKind, MediaRef, MediaSource, Message, Purpose};
use crate::rate::Rate;
use crate::webhook::{Received, Verified};
use crate::wire::{MaybeStr, Str};

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
            can.fetch_media = true;
            can.read = true;
            can.typing = true;
            can.key = true;
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

/// What Meta said to a send.
pub(super) fn decode(answer: &Answer) -> Result<Accepted> {
    #[derive(Deserialize)]
    struct Taken<'a> {
        #[serde(borrow)]
        message_id: Str<'a>,
        #[serde(borrow, default)]
        recipient_id: MaybeStr<'a>,
    }
    let taken: Taken<'_> = serde_json::from_slice(&answer.body).map_err(|_| answer.unreadable())?;
    let mut accepted = answer.accepted([&*taken.message_id])?;
    accepted.recipient = taken.recipient_id.as_deref().and_then(|id| Address::messenger(id).ok());
    Ok(accepted)
}

/// Shows a signal, which is a request of its own on the path of messages.
pub(super) async fn signal(meta: &Meta, inbound: &Inbound, signal: Signal) -> Result<()> {
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
        Signal::Read => "mark_seen",
        Signal::Typing => "typing_on",
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
const ERRORS: &[(&str, Class)] = {
    use ErrorKind::{Account, Forbidden, InvalidMessage, InvalidRecipient, RateLimited, Unauthenticated, Unavailable};
    const TOO_FAST: Class = Class::new(RateLimited).retry(Some(Duration::from_secs(60))).surely_not_sent();
    &[
        ("2", Class::new(Unavailable).retry(None)),
        ("4", TOO_FAST),
        // Or the window is closed: see `by_more`.
        ("10", Class::new(Forbidden)),
        ("32", TOO_FAST),
        ("100", Class::new(InvalidMessage)),
        ("190", Class::new(Unauthenticated)),
        ("368", Class::new(Account)),
        ("551", Class::new(InvalidRecipient)),
        ("613", TOO_FAST),
        ("1200", Class::new(Unavailable).retry(None)),
        ("1545041", Class::new(InvalidRecipient)),
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
fn by_more(code: &str, error: &ErrorWire<'_>) -> Option<(Class, &'static str)> {
    let subcode = error.error_subcode.map(|subcode| subcode.get().trim_matches('"'));
    match (code, subcode) {
        ("10", Some("1893063")) => Some((Class::new(ErrorKind::Account), "Meta has restricted the page")),
        ("10", Some("2018278" | "2018065")) => Some((Class::new(ErrorKind::OutsideWindow), CLOSED)),
        ("10", _) => {
            let words: Cow<'_, str> = serde_json::from_str(error.message?.get()).ok()?;
            let closed = ["outside of allowed window", "outside the allowed window"];
            let closed = closed.iter().any(|said| words.to_ascii_lowercase().contains(said));
            closed.then_some((Class::new(ErrorKind::OutsideWindow), CLOSED))
        }
        ("100", Some("2018001")) => Some((Class::new(ErrorKind::InvalidRecipient), "the page knows nobody by this id")),
        _ => None,
    }
}

const ENTRY: &str = "/entry/#";
const MESSAGING: &str = "/entry/#/messaging/#";
const STANDBY: &str = "/entry/#/standby/#";
const CHANGE: &str = "/entry/#/changes/#";

/// The events of a verified webhook.
pub(super) fn events(verified: &Verified, info: &Info) -> Received {
    let mut reader = Reader { verified, info, events: Vec::new(), discarded: 0 };
    let body = verified.body();
    let text = str::from_utf8(body).map_or_else(|_| String::from_utf8_lossy(body), Cow::Borrowed);
    match serde_json::from_str::<Hook<'_>>(&text) {
        Ok(hook) => {
            for (e, entry) in hook.entry.iter().enumerate() {
                reader.entry(e, entry.get(), hook.object.as_deref().unwrap_or_default());
            }
        }
        Err(_) => {
            let raw = Raw::whole(body.clone());
            let envelope = Envelope::new(GATEWAY, Medium::Messenger, info.account.clone(), verified.arrived(), raw);
            reader.events.push(Unrecognised::new(envelope, "body").into());
        }
    }
    Received::new(reader.events).with_discarded(reader.discarded)
}

struct Reader<'v> {
    verified: &'v Verified,
    info: &'v Info,
    events: Vec<Event>,
    discarded: usize,
}

impl Reader<'_> {
    fn entry(&mut self, e: usize, json: &str, object: &str) {
        let read = serde_json::from_str::<Entry<'_>>(json);
        let id = match &read {
            Ok(entry) => entry.id.as_deref().map(Cow::Borrowed),
            // Whose it is must be known even where nothing else is: it may be another page's.
            Err(_) => serde_json::from_str::<Named<'_>>(json).ok().and_then(|named| Some(named.id.0?.0)),
        };
        let Some(owner) = id.filter(|id| self.verified.owns(id)) else {
            self.discarded += read.as_ref().map_or(1, Entry::count);
            return;
        };
        let account =
            if *owner == *self.info.account.as_str() { self.info.account.clone() } else { AccountId::new(&*owner) };
        let arrived = self.verified.arrived();
        let (Ok(entry), "page") = (&read, object) else {
            let name = if read.is_ok() && !object.is_empty() { object } else { "entry" };
            let envelope = self.envelope(&account, arrived, ENTRY, [e, 0, 0]);
            return self.events.push(Unrecognised::new(envelope, name).into());
        };
        let time = millis(&entry.time).unwrap_or(arrived);
        let page = Address::messenger(&owner).ok();
        for (n, json) in entry.messaging.iter().enumerate() {
            let item = serde_json::from_str::<Item<'_>>(json.get()).ok();
            let at = item.as_ref().and_then(|item| millis(&item.timestamp)).unwrap_or(time);
            let envelope = self.envelope(&account, at, MESSAGING, [e, n, 0]);
            match (&item, &page) {
                (Some(item), Some(page)) if item.tell(page, &envelope, &mut self.events).is_some() => {}
                _ => self.unknown(json.get(), "", envelope, page.as_ref()),
            }
        }
        for (n, json) in entry.standby.iter().enumerate() {
            let item = serde_json::from_str::<Item<'_>>(json.get()).ok();
            let at = item.as_ref().and_then(|item| millis(&item.timestamp)).unwrap_or(time);
            // Another app holds the thread, so that nobody may answer here: it is kept, and is no message.
            let envelope = self.envelope(&account, at, STANDBY, [e, n, 0]);
            self.unknown(json.get(), "standby.", envelope, page.as_ref());
        }
        for (n, json) in entry.changes.iter().enumerate() {
            let field = serde_json::from_str::<Change<'_>>(json.get()).ok().and_then(|change| change.field.0);
            let envelope = self.envelope(&account, time, CHANGE, [e, n, 0]);
            let field = field.map_or_else(|| "changes".to_owned(), Str::into_string);
            self.events.push(Unrecognised::new(envelope, field).into());
        }
        if entry.is_empty() {
            let envelope = self.envelope(&account, time, ENTRY, [e, 0, 0]);
            self.events.push(Unrecognised::new(envelope, "entry").into());
        }
    }

    fn envelope(&self, account: &AccountId, at: Timestamp, pattern: &'static str, place: [usize; 3]) -> Envelope {
        let raw = Raw::at(self.verified.body().clone(), pattern, place);
        Envelope::new(GATEWAY, Medium::Messenger, account.clone(), at, raw)
    }

    fn unknown(&mut self, json: &str, prefix: &str, envelope: Envelope, page: Option<&Address>) {
        let mut event = Unrecognised::new(envelope, [prefix, &*kind(json)].concat());
        let sender = serde_json::from_str::<Sent<'_>>(json).ok().and_then(|sent| sent.sender?.address());
        event.from = sender.filter(|sender| Some(sender) != page);
        self.events.push(event.into());
    }
}

/// What Meta calls a thing that happened: the member that holds it.
fn kind(json: &str) -> Cow<'_, str> {
    const KNOWN: [&str; 5] = ["message", "postback", "delivery", "read", "reaction"];
    const COMMON: [&str; 3] = ["sender", "recipient", "timestamp"];
    // In the order of the alphabet, so that what has two unknown members is called the same each time.
    let Ok(members) = serde_json::from_str::<BTreeMap<Cow<'_, str>, IgnoredAny>>(json) else {
        return "messaging".into();
    };
    let known = KNOWN.into_iter().find(|name| members.contains_key(*name)).map(Cow::Borrowed);
    let other = members.into_keys().find(|name| !COMMON.contains(&&**name));
    known.or(other).unwrap_or_else(|| "messaging".into())
}

/// A moment as Messenger writes it: milliseconds, as a number.
fn millis(time: &MaybeStr<'_>) -> Option<Timestamp> {
    time.as_deref()?.parse().ok().filter(|millis| *millis > 0).map(Timestamp::from_millis)
}

fn words(text: &MaybeStr<'_>) -> Option<String> {
    text.as_deref().filter(|text| !text.is_empty()).map(str::to_owned)
}

#[derive(Deserialize)]
struct Hook<'a> {
    #[serde(borrow, default)]
    object: MaybeStr<'a>,
    #[serde(borrow)]
    entry: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow, default)]
    id: MaybeStr<'a>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow, default)]
    id: MaybeStr<'a>,
    #[serde(borrow, default)]
    time: MaybeStr<'a>,
    #[serde(borrow, default)]
    messaging: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    standby: Vec<&'a RawValue>,
    /// Of the page itself, such as posts: no messages.
    #[serde(borrow, default)]
    changes: Vec<&'a RawValue>,
}

impl Entry<'_> {
    fn count(&self) -> usize {
        (self.messaging.len() + self.standby.len() + self.changes.len()).max(1)
    }

    fn is_empty(&self) -> bool {
        self.messaging.is_empty() && self.standby.is_empty() && self.changes.is_empty()
    }
}

#[derive(Deserialize)]
struct Change<'a> {
    #[serde(borrow, default)]
    field: MaybeStr<'a>,
}

#[derive(Deserialize)]
struct Sent<'a> {
    #[serde(borrow, default)]
    sender: Option<Party<'a>>,
}

#[derive(Deserialize)]
struct Party<'a> {
    #[serde(borrow, default)]
    id: MaybeStr<'a>,
}

impl Party<'_> {
    fn address(&self) -> Option<Address> {
        self.id.as_deref().and_then(|id| Address::messenger(id).ok())
    }
}

/// One thing that happened in a conversation. Which, says the member that is there.
#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow, default)]
    sender: Option<Party<'a>>,
    #[serde(borrow, default)]
    recipient: Option<Party<'a>>,
    #[serde(borrow, default)]
    timestamp: MaybeStr<'a>,
    #[serde(borrow, default)]
    message: Option<Box<Said<'a>>>,
    #[serde(borrow, default)]
    postback: Option<Postback<'a>>,
    #[serde(borrow, default)]
    delivery: Option<Watermark<'a>>,
    #[serde(borrow, default)]
    read: Option<Watermark<'a>>,
    #[serde(borrow, default)]
    reaction: Option<Reacted<'a>>,
}

impl Item<'_> {
    /// Its events, or nothing at all if it is not known what it says.
    fn tell(&self, page: &Address, envelope: &Envelope, events: &mut Vec<Event>) -> Option<()> {
        let sender = self.sender.as_ref()?.address()?;
        let ours = sender == *page;
        if let Some(message) = &self.message {
            return self.message(message, sender, page, envelope, events);
        }
        if let Some(postback) = &self.postback {
            let content = InboundContent::Chosen(Chosen {
                id: words(&postback.payload)?,
                title: words(&postback.title).unwrap_or_default(),
            });
            events.push(self.inbound(words(&postback.mid)?, sender, ours, content, envelope).into());
            return Some(());
        }
        if let Some(reaction) = &self.reaction {
            let (to, action) = (words(&reaction.mid)?, words(&reaction.action)?);
            let emoji = match action.as_str() {
                "react" => Some(words(&reaction.emoji)?),
                "unreact" => None,
                _ => return None,
            };
            // A reaction has no id of its own, and the id in it is that of the message that it is on. Of one message two
            // reactions differ in what was done or when, and Meta repeats both as they were.
            let id = format!("{to}/{action}/{}", self.timestamp.as_deref().unwrap_or_default());
            let content = InboundContent::Reaction { to: to.into(), emoji };
            events.push(self.inbound(id, sender, ours, content, envelope).into());
            return Some(());
        }
        // What we read ourselves says nothing about a message of ours.
        let sender = Some(sender).filter(|_| !ours)?;
        let up_to = |told: &Watermark<'_>, state, status| {
            let mut delivery = Delivery::new(envelope.clone(), "", state, status);
            delivery.of = DeliveryOf::UpTo { at: millis(&told.watermark)?, id: None };
            delivery.recipient = Some(sender.clone());
            Some(Event::from(delivery))
        };
        let before = events.len();
        if let Some(delivered) = &self.delivery {
            for mid in delivered.mids.iter().flatten().filter(|mid| !mid.is_empty()) {
                let mut delivery = Delivery::new(envelope.clone(), &**mid, DeliveryState::Delivered, "delivery");
                delivery.recipient = Some(sender.clone());
                events.push(delivery.into());
            }
            events.extend(up_to(delivered, DeliveryState::Delivered, "delivery"));
        } else if let Some(read) = &self.read {
            events.extend(up_to(read, DeliveryState::Read, "read"));
        }
        (events.len() > before).then_some(())
    }

    fn message(
        &self,
        message: &Said<'_>,
        sender: Address,
        page: &Address,
        envelope: &Envelope,
        events: &mut Vec<Event>,
    ) -> Option<()> {
        let mid = words(&message.mid)?;
        let echo = message.is_echo == Some(true) || sender == *page;
        let from = if echo { page.clone() } else { sender };
        let mut inbound = self.inbound(mid.clone(), from, echo, message.content(&mid), envelope);
        inbound.reply_to = message.reply_to.as_ref().and_then(|quoted| words(&quoted.mid)).map(Into::into);
        let resident = inbound.to.clone();
        events.push(inbound.into());
        if let Some(key) = words(&message.metadata).filter(|_| echo) {
            // The echo has our key, and so settles a send whose answer got lost.
            let mut delivery = Delivery::new(envelope.clone(), mid, DeliveryState::Sent, "echo").with_key(Some(key));
            delivery.recipient = resident;
            events.push(delivery.into());
        }
        Some(())
    }

    fn inbound(&self, id: String, from: Address, echo: bool, content: InboundContent, envelope: &Envelope) -> Inbound {
        let mut inbound = Inbound::new(envelope.clone(), id, from, content);
        inbound.to = self.recipient.as_ref().and_then(Party::address);
        inbound.echo = echo;
        inbound
    }
}

#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow, default)]
    mid: MaybeStr<'a>,
    #[serde(borrow, default)]
    text: MaybeStr<'a>,
    #[serde(borrow, default)]
    quick_reply: Option<Postback<'a>>,
    #[serde(borrow, default)]
    attachments: Option<Vec<Attachment<'a>>>,
    #[serde(borrow, default)]
    reply_to: Option<Reference<'a>>,
    #[serde(default)]
    is_echo: Option<bool>,
    #[serde(borrow, default)]
    metadata: MaybeStr<'a>,
}

impl Said<'_> {
    fn content(&self, mid: &str) -> InboundContent {
        let text = words(&self.text);
        if let Some(id) = self.quick_reply.as_ref().and_then(|reply| words(&reply.payload)) {
            return InboundContent::Chosen(Chosen { id, title: text.unwrap_or_default() });
        }
        let attachments = self.attachments.as_deref().unwrap_or_default();
        let media: Vec<_> =
            attachments.iter().enumerate().filter_map(|(n, attachment)| attachment.reference(mid, n)).collect();
        match text {
            text if !media.is_empty() => InboundContent::Media { text, media },
            Some(text) => InboundContent::Text(text),
            None => InboundContent::Unsupported(attachments.first().and_then(|attachment| words(&attachment.kind))),
        }
    }
}

#[derive(Deserialize)]
struct Attachment<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: MaybeStr<'a>,
    /// Of as many forms as there are kinds.
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

impl Attachment<'_> {
    /// The file, if it is one. Messenger gives no id for it, so it has its place in the message for one.
    fn reference(&self, mid: &str, n: usize) -> Option<MediaRef> {
        #[derive(Deserialize)]
        struct Payload<'a> {
            #[serde(borrow, default)]
            url: MaybeStr<'a>,
        }
        let kind = match self.kind.as_deref()? {
            "audio" => MediaKind::Audio,
            "file" => MediaKind::Document,
            "image" => MediaKind::Image,
            "sticker" => MediaKind::Sticker,
            "video" => MediaKind::Video,
            _ => return None,
        };
        let payload: Payload<'_> = serde_json::from_str(self.payload?.get()).ok()?;
        let mut media = MediaRef::new(GATEWAY, format!("{mid}/{n}"));
        media.url = Some(words(&payload.url)?);
        media.kind = Some(kind);
        Some(media)
    }
}

#[derive(Deserialize)]
struct Reference<'a> {
    #[serde(borrow, default)]
    mid: MaybeStr<'a>,
}

#[derive(Deserialize)]
struct Postback<'a> {
    #[serde(borrow, default)]
    mid: MaybeStr<'a>,
    #[serde(borrow, default)]
    title: MaybeStr<'a>,
    #[serde(borrow, default)]
    payload: MaybeStr<'a>,
}

#[derive(Deserialize)]
struct Watermark<'a> {
    #[serde(borrow, default)]
    mids: Option<Vec<Str<'a>>>,
    #[serde(borrow, default)]
    watermark: MaybeStr<'a>,
}

#[derive(Deserialize)]
struct Reacted<'a> {
    #[serde(borrow, default)]
    mid: MaybeStr<'a>,
    #[serde(borrow, default)]
    action: MaybeStr<'a>,
    #[serde(borrow, default)]
    emoji: MaybeStr<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_called_by_the_member_that_holds_it() {
        for (json, name) in [
            (r#"{"sender":{},"recipient":{},"timestamp":1,"optin":{}}"#, "optin"),
            (r#"{"sender":{},"pass_thread_control":{},"app_roles":{}}"#, "app_roles"),
            (r#"{"client_timestamp":1,"read":7}"#, "read"),
            (r#"{"sender":{}}"#, "messaging"),
            ("[]", "messaging"),
        ] {
            assert_eq!(kind(json), name, "{json}");
        }
    }

    #[test]
    fn times_are_milliseconds_and_exact() {
        let read = |json: &'static str| millis(&serde_json::from_str(json).unwrap());
        assert_eq!(read("1795000000123"), Some(Timestamp::from_millis(1_795_000_000_123)));
        assert_eq!(read("\"1795000000123\""), Some(Timestamp::from_millis(1_795_000_000_123)));
        for wrong in ["0", "-1", "18446744073709551615", "\"soon\"", "null", "1.5"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

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
        let native = crate::Native::new(GATEWAY, &serde_json::json!({ "text": "a", "metadata": "b" })).unwrap();
        for (field, message) in [
            ("media.source", Message::media(to(), [Media::image(held)])),
            ("native", Message::new(to(), native).key("case-1")),
            ("to", Message::text(Address::x("1").unwrap(), "Hello")),
        ] {
            assert_eq!(encode(&message, &Options::default()).unwrap_err().field(), Some(field));
        }
    }
}
