//! Inbound events: residents' messages, deliveries, opt-outs, address changes, account changes.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use base64::prelude::{BASE64_STANDARD as BASE64, Engine};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::medium::sms::{Keyword, keyword, title_keyword};
use crate::model::address::{Address, Medium};
use crate::model::clock::Timestamp;
pub(crate) use crate::model::delivery::DeliveryState;
use crate::model::digest::Digest;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::id::{AccountId, Code, Hidden, MessageId, Word};
use crate::model::json::digest;
use crate::model::message::{ContactCard, Location, MediaRef, Money};

/// An event from a gateway, received by webhook or by poll.
///
/// Gateways deliver events repeatedly and out of order: deduplicate by [`id`](Self::id), and use
/// [`DeliveryState::join`] to keep a delivery state from going backwards.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A change of our own account: a template, quality, limits, access.
    Account(Account),
    /// A person's new address.
    AddressChanged(AddressChanged),
    /// A delivery state of one of our messages.
    Delivery(Delivery),
    /// A message from a resident, or the echo of one of ours.
    Inbound(Inbound),
    /// An opt-out, or its withdrawal.
    OptOut(OptOut),
    /// Data that this version does not recognise. It is kept whole, and the webhook's response is still 200.
    Unrecognised(Unrecognised),
}

impl Event {
    /// Returns the envelope: gateway, account and time.
    pub fn envelope(&self) -> &Envelope {
        match self {
            Self::Account(e) => &e.envelope,
            Self::AddressChanged(e) => &e.envelope,
            Self::Delivery(e) => &e.envelope,
            Self::Inbound(e) => &e.envelope,
            Self::OptOut(e) => &e.envelope,
            Self::Unrecognised(e) => &e.envelope,
        }
    }

    /// Returns the event's deduplication id.
    ///
    /// It is the same on every redelivery, across restarts, by webhook or by poll. Derived from the gateway's ids;
    /// personal data.
    ///
    /// An event without an id at the gateway is identified by a digest of its JSON, which ignores white space and the
    /// order of members, and by the gateway's timestamp.
    pub fn id(&self) -> String {
        let Envelope { gateway, account, .. } = self.envelope();
        let of = match self {
            Self::Inbound(e) => match (&e.envelope.id, &e.content) {
                // One message may arrive as several events.
                (Some(id), _) => format!("inbound/{}", id.as_str()),
                // The gateway identifies an edit by the original message, but the edit is an event of its own.
                (None, InboundContent::Edited { id, content }) if *id == e.id => {
                    let now = Digest::sha256(&serde_json::to_vec(content).unwrap_or_default());
                    format!("inbound/{}/edited/{now}", id.as_str())
                }
                _ => format!("inbound/{}", e.id.as_str()),
            },
            Self::OptOut(e) => match (&e.envelope.id, &e.inbound) {
                (None, Some(id)) if e.edited => {
                    format!("opt-out/{}/edited/{}", id.as_str(), self.envelope().event_id())
                }
                (None, Some(id)) => format!("opt-out/{}", id.as_str()),
                _ => format!("opt-out/{}", self.envelope().event_id()),
            },
            Self::Delivery(e) => {
                let recipient = e.recipient.as_ref().map_or("", Address::expose);
                match &e.of {
                    DeliveryOf::Message { id, key } => {
                        let id = id.as_ref().map(MessageId::as_str).or(key.as_deref()).unwrap_or_default();
                        format!("delivery/{id}/{}/{recipient}", e.status)
                    }
                    DeliveryOf::UpTo { at, id } => {
                        let id = id.as_ref().map_or("", MessageId::as_str);
                        format!("delivery-up-to/{}/{id}/{}/{recipient}", at.as_millis(), e.status)
                    }
                }
            }
            Self::Account(_) => format!("account/{}", self.envelope().event_id()),
            Self::AddressChanged(_) => format!("address/{}", self.envelope().event_id()),
            Self::Unrecognised(_) => format!("unrecognised/{}", self.envelope().event_id()),
        };
        if of.contains(char::REPLACEMENT_CHARACTER) {
            // An id that was not decoded intact could equal another event's.
            return format!("{gateway}/{account}/{of}/{}", self.envelope().raw.digest());
        }
        format!("{gateway}/{account}/{of}")
    }

    /// Returns the message if it needs a reply.
    ///
    /// It must be [live](Inbound::is_live), and must not be a reaction, notice, deletion, bare opening of a
    /// conversation, or opt-out keyword.
    ///
    /// An edited message counts as new, and may have been answered before the edit.
    pub fn as_answerable(&self) -> Option<&Inbound> {
        use InboundContent::{Opened, Reaction, System, Withdrawn};
        let needs_reply =
            |inbound: &&Inbound| !matches!(inbound.content, Opened | Reaction { .. } | System(_) | Withdrawn(_));
        self.as_inbound().filter(needs_reply).filter(|inbound| inbound.is_live() && opt_out_keyword(inbound).is_none())
    }

    /// Returns the message, if it is a resident's or an echo of ours.
    pub fn as_inbound(&self) -> Option<&Inbound> {
        match self {
            Self::Inbound(inbound) => Some(inbound),
            _ => None,
        }
    }

    /// Returns the delivery, if it is one.
    pub fn as_delivery(&self) -> Option<&Delivery> {
        match self {
            Self::Delivery(delivery) => Some(delivery),
            _ => None,
        }
    }
}

macro_rules! into_event {
    ($($type:ident),*) => {$(
        impl From<$type> for Event {
            #[inline]
            fn from(event: $type) -> Self {
                Self::$type(event)
            }
        }
    )*};
}

into_event!(Account, AddressChanged, Delivery, Inbound, OptOut, Unrecognised);

/// The origin and time of an event.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// The gateway that reported the event.
    pub gateway: Cow<'static, str>,
    /// The medium.
    pub medium: Medium,
    /// Our own account at the gateway.
    pub account: AccountId,
    /// The time of the event by the gateway's clock, or by ours if it gives none.
    pub at: Timestamp,
    /// The group conversation that it belongs to, if any.
    pub conversation: Option<Address>,
    /// The gateway's raw data.
    pub raw: Raw,
    /// `true` if [`at`](Self::at) is from the gateway, and so the same on redelivery.
    #[serde(default)]
    pub dated: bool,
    /// The gateway's own id for the event, if it has one: see [`Event::id`].
    #[serde(default)]
    pub id: Option<MessageId>,
}

impl Envelope {
    /// Creates an envelope for an event of this account. `at` is our time unless replaced by [`dated`](Self::dated).
    #[inline]
    pub fn new(gateway: &'static str, medium: Medium, account: AccountId, at: Timestamp, raw: Raw) -> Self {
        let gateway = Cow::Borrowed(gateway);
        Self { gateway, medium, account, at, conversation: None, raw, dated: false, id: None }
    }

    /// Sets the time from the gateway, if it gives one.
    #[inline]
    #[must_use]
    pub fn dated(mut self, at: Option<Timestamp>) -> Self {
        if let Some(at) = at {
            (self.at, self.dated) = (at, true);
        }
        self
    }

    /// Sets the gateway's own id for the event, if it has one.
    #[must_use]
    pub fn identified(mut self, id: Option<&str>) -> Self {
        self.id = id.filter(|id| !id.is_empty()).map(MessageId::from);
        self
    }

    /// Returns the id of an event without a message id: the gateway's, or a digest of content and time.
    fn event_id(&self) -> String {
        match &self.id {
            Some(id) => id.as_str().to_owned(),
            None if self.dated => format!("{}/{}", self.raw.digest(), self.at.as_millis()),
            None => self.raw.digest().to_string(),
        }
    }

    /// Sets the group conversation.
    #[must_use]
    pub fn with_conversation(mut self, conversation: Option<Address>) -> Self {
        self.conversation = conversation;
        self
    }
}

/// The gateway's raw bytes for one event, cut from the body during parsing.
///
/// Cloning is cheap: the bytes are shared with the body. They contain personal data, so `Debug` shows only the length.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Raw(Bytes);

impl Raw {
    /// Creates the raw data of exactly one event.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// Returns the bytes exactly as received. Personal data.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Returns a digest of the meaning of the JSON or form, for the id of an event that has none.
    ///
    /// It ignores white space, and the order of members or fields, so that it is the same for a redelivery.
    pub fn digest(&self) -> Digest {
        digest(&self.0)
    }
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Raw({} bytes)", self.0.len())
    }
}

/// The stored form: text almost always, else base64. Lossless, because ids are derived from it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Piece<'a> {
    Text(Cow<'a, str>),
    Bytes { base64: String },
}

impl Serialize for Raw {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => Piece::Text(text.into()),
            Err(_) => Piece::Bytes { base64: BASE64.encode(&self.0) },
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match Piece::deserialize(deserializer)? {
            Piece::Text(text) => text.into_owned().into(),
            Piece::Bytes { base64 } => BASE64.decode(base64).map_err(serde::de::Error::custom)?.into(),
        }))
    }
}

/// A message from a resident, or the echo of one of ours.
///
/// ```
/// use civic_messaging::{Channel, Event, Mock};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let sms = Mock::sms();
/// let webhook = sms.arrives("07700 900123", "When is my bin collected?");
/// for event in sms.receive(&webhook).await?.events {
///     if let Event::Inbound(inbound) = event {
///         assert_eq!(inbound.text(), Some("When is my bin collected?"));
///     }
/// }
/// # Ok::<(), civic_messaging::Error>(()) }).unwrap();
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inbound {
    /// The origin and time.
    pub envelope: Envelope,
    /// The gateway's id of the message, which a reply quotes.
    pub id: MessageId,
    /// The sender.
    pub from: Address,
    /// The addressee, if reported: one of our numbers or, in an echo, the resident.
    #[serde(default)]
    pub to: Option<Address>,
    /// The sender's public profile.
    pub profile: Profile,
    /// The content.
    pub content: InboundContent,
    /// The message that this one quotes.
    pub reply_to: Option<MessageId>,
    /// `true` for an echo of our own message: never answer it.
    pub echo: bool,
    /// `true` if it was forwarded.
    pub forwarded: bool,
    /// `true` if it is from a conversation's history, which the gateway has transferred. Never answer it.
    #[serde(default)]
    pub history: bool,
    /// `true` if another app controls the conversation, or the gateway has not confirmed that we do. Never answer it
    /// here.
    #[serde(default)]
    pub standby: bool,
    /// The advertisement or link that brought the person here.
    #[serde(default)]
    pub referral: Option<Box<Referral>>,
}

impl Inbound {
    /// Creates a message.
    #[inline]
    pub fn new(envelope: Envelope, id: impl Into<MessageId>, from: Address, content: InboundContent) -> Self {
        Self {
            envelope,
            id: id.into(),
            from,
            to: None,
            profile: Profile::default(),
            content,
            reply_to: None,
            echo: false,
            forwarded: false,
            history: false,
            standby: false,
            referral: None,
        }
    }

    /// Refuses messages that must not be answered.
    pub(crate) fn check_answerable(&self) -> Result<()> {
        let rule = match self {
            _ if self.is_live() => return Ok(()),
            Self { echo: true, .. } => "is an echo of our own message, which must not be answered",
            Self { history: true, .. } => "is from the history of a conversation, which must not be answered",
            _ => "is in a conversation that another app controls, and must not be answered here",
        };
        Err(Error::invalid("inbound", rule))
    }

    /// Returns `true` if a resident has just written it to us: not an echo, history, or controlled by another app.
    pub fn is_live(&self) -> bool {
        !self.echo && !self.history && !self.standby
    }

    /// Returns the text: of a text, a caption or a selected option. Personal data.
    pub fn text(&self) -> Option<&str> {
        match self.content.now() {
            InboundContent::Text(text) => Some(text),
            InboundContent::Media { text, .. } => text.as_deref(),
            InboundContent::Selection(chosen) => Some(&chosen.title),
            _ => None,
        }
    }

    /// Returns the files, including those of an edited message.
    pub fn media(&self) -> &[MediaRef] {
        match self.content.now() {
            InboundContent::Media { media, .. } => media,
            _ => &[],
        }
    }

    /// Returns the address for a reply: the conversation, if there is one, else the person.
    pub fn reply_address(&self) -> &Address {
        self.envelope.conversation.as_ref().unwrap_or(&self.from)
    }
}

/// A person's public profile. For display only: people can change it at will.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The name.
    pub name: Option<String>,
    /// The handle or user name without `@`.
    pub handle: Option<String>,
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Profile(masked)")
    }
}

/// The origin of a conversation: an advertisement, a post, or a link that carries our own parameter.
#[non_exhaustive]
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Referral {
    /// The gateway's name for the kind of origin: `ad`, `post`, `SHORTLINK`.
    pub source: Option<String>,
    /// The gateway's id of the origin.
    pub id: Option<String>,
    /// The URL.
    pub url: Option<String>,
    /// The headline, or the parameter of the link.
    pub text: Option<String>,
}

impl fmt::Debug for Referral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Referral(masked)")
    }
}

/// The content of an inbound message.
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InboundContent {
    /// A selected option of buttons or a list.
    Selection(Selection),
    /// Contact cards.
    Contacts(Vec<ContactCard>),
    /// An edit of an earlier message.
    Edited {
        /// The earlier message.
        id: MessageId,
        /// The new content.
        content: Box<Self>,
    },
    /// An end-to-end encrypted message that only the medium's own app can decrypt.
    Encrypted,
    /// A completed form, as the gateway's JSON.
    Form(String),
    /// A shared page: a post, a reel, or any other URL.
    Link {
        /// The title.
        title: Option<String>,
        /// The URL.
        url: String,
    },
    /// A location.
    Location(Location),
    /// Files, with an optional text.
    Media {
        /// The text.
        text: Option<String>,
        /// The files.
        media: Vec<MediaRef>,
    },
    /// The conversation was opened by a link or an advertisement, without a message yet: see [`Inbound::referral`].
    Opened,
    /// A shopping basket, as the gateway's JSON.
    Order(String),
    /// An emoji on one of our messages; `None` removes an earlier one.
    Reaction {
        /// The message.
        to: MessageId,
        /// The emoji.
        emoji: Option<String>,
    },
    /// A notice from the medium about this person.
    System(String),
    /// Plain text.
    Text(String),
    /// A kind of message that the gateway does not forward.
    Unsupported {
        /// The gateway's name for the kind.
        kind: Option<String>,
        /// The gateway's code for the reason.
        code: Option<String>,
    },
    /// A deletion of an earlier message.
    Withdrawn(MessageId),
}

impl InboundContent {
    /// Creates content for a kind of message that the gateway does not forward.
    pub fn unsupported(kind: Option<impl Into<String>>) -> Self {
        Self::Unsupported { kind: kind.map(Into::into), code: None }
    }

    /// Returns the current content: for an edit, the new content.
    fn now(&self) -> &Self {
        match self {
            Self::Edited { content, .. } => content,
            content => content,
        }
    }
}

impl fmt::Debug for InboundContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Selection(_) => f.write_str("Chosen(masked)"),
            Self::Contacts(cards) => write!(f, "Contacts({})", cards.len()),
            Self::Edited { id, content } => f.debug_struct("Edited").field("id", id).field("content", content).finish(),
            Self::Encrypted => f.write_str("Encrypted"),
            Self::Form(form) => f.debug_tuple("Form").field(&Hidden(form)).finish(),
            Self::Link { .. } => f.write_str("Link(masked)"),
            Self::Location(location) => location.fmt(f),
            Self::Media { text, media } => {
                f.debug_struct("Media").field("text", &text.as_deref().map(Hidden)).field("media", media).finish()
            }
            Self::Opened => f.write_str("Opened"),
            Self::Order(order) => f.debug_tuple("Order").field(&Hidden(order)).finish(),
            Self::Reaction { to, .. } => f.debug_struct("Reaction").field("to", to).finish_non_exhaustive(),
            Self::System(_) => f.write_str("System(masked)"),
            Self::Text(text) => f.debug_tuple("Text").field(&Hidden(text)).finish(),
            Self::Unsupported { kind, code } => f
                .debug_struct("Unsupported")
                .field("kind", &kind.as_deref().map(Word))
                .field("code", &code.as_deref().map(Code))
                .finish(),
            Self::Withdrawn(id) => f.debug_tuple("Withdrawn").field(id).finish(),
        }
    }
}

/// A selected option of buttons or a list.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// The id of the option, as set in our message.
    pub id: String,
    /// The title that the person saw.
    pub title: String,
}

impl fmt::Debug for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chosen(masked)")
    }
}

/// A delivery state of one or more of our messages.
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// The origin and time.
    pub envelope: Envelope,
    /// The messages concerned.
    pub of: DeliveryOf,
    /// The state.
    pub state: DeliveryState,
    /// The gateway's own name for that state.
    pub status: String,
    /// The recipient, if reported.
    pub recipient: Option<Address>,
    /// The reason for a failure.
    pub failure: Option<Failure>,
    /// The price, if reported.
    pub price: Option<Money>,
    /// The gateway's billing category: `regular/utility`, `free_customer_service/service`.
    pub billing: Option<String>,
    /// The number of parts billed, if reported.
    pub segments: Option<u32>,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("envelope", &self.envelope)
            .field("of", &self.of)
            .field("state", &self.state)
            .field("status", &Word(&self.status))
            .field("recipient", &self.recipient)
            .field("failure", &self.failure)
            .field("price", &self.price)
            .field("billing", &self.billing.as_deref().map(Word))
            .field("segments", &self.segments)
            .finish()
    }
}

impl Delivery {
    /// Creates a delivery of one message.
    pub fn new(envelope: Envelope, id: impl Into<MessageId>, state: DeliveryState, status: impl Into<String>) -> Self {
        Self {
            envelope,
            of: DeliveryOf::Message { id: Some(id.into()), key: None },
            state,
            status: status.into(),
            recipient: None,
            failure: None,
            price: None,
            billing: None,
            segments: None,
        }
    }

    /// Sets our own key, where the gateway returns it. Has no effect on a delivery of more than one message.
    #[must_use]
    pub fn with_key(mut self, our: Option<String>) -> Self {
        if let DeliveryOf::Message { key, .. } = &mut self.of {
            *key = our;
        }
        self
    }

    /// Sets the reason for a failure. A [`Failed`](DeliveryState::Failed) delivery needs one: its kind decides what
    /// happens next.
    #[must_use]
    pub fn with_failure(mut self, failure: Option<Failure>) -> Self {
        self.failure = failure;
        self
    }

    /// Returns the gateway's id, if the delivery is of a single message.
    pub fn id(&self) -> Option<&MessageId> {
        match &self.of {
            DeliveryOf::Message { id, .. } => id.as_ref(),
            DeliveryOf::UpTo { .. } => None,
        }
    }

    /// Returns the key as the gateway received it, where it returns it: see
    /// [`Info::reference`](crate::Info::reference).
    pub fn key(&self) -> Option<&str> {
        match &self.of {
            DeliveryOf::Message { key, .. } => key.as_deref(),
            DeliveryOf::UpTo { .. } => None,
        }
    }
}

/// The messages that a delivery concerns.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryOf {
    /// One message, identified by the gateway's id, our key, or both.
    Message {
        /// The gateway's id.
        id: Option<MessageId>,
        /// Our key, or its [reference](crate::Info::reference).
        key: Option<String>,
    },
    /// Every message to this recipient up to a time.
    UpTo {
        /// The time.
        at: Timestamp,
        /// The last message, if the gateway identifies it.
        id: Option<MessageId>,
    },
}

impl fmt::Debug for DeliveryOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // An echo also contains other programs' keys, which may be anything.
            Self::Message { id, key } => {
                f.debug_struct("Message").field("id", id).field("key", &key.as_deref().map(Word)).finish()
            }
            Self::UpTo { at, id } => f.debug_struct("UpTo").field("at", at).field("id", id).finish(),
        }
    }
}

/// The reason why a message was not delivered.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind, which determines what to do.
    pub kind: ErrorKind,
    /// `true` if a later message may be delivered: a phone that was off, a network that was down.
    pub temporary: bool,
    /// The gateway's code.
    pub code: Option<String>,
    /// The gateway's description. It may contain personal data.
    pub detail: Option<String>,
}

impl Failure {
    /// Creates a failure of this kind.
    pub fn new(kind: ErrorKind) -> Self {
        Self { kind, temporary: false, code: None, detail: None }
    }

    /// Sets the gateway's code.
    #[must_use]
    pub fn code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// Sets the gateway's description.
    #[must_use]
    pub fn detail(mut self, detail: Option<String>) -> Self {
        self.detail = detail;
        self
    }

    /// Sets whether a later message may be delivered.
    #[must_use]
    pub fn temporary(mut self, temporary: bool) -> Self {
        self.temporary = temporary;
        self
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("kind", &self.kind)
            .field("temporary", &self.temporary)
            .field("code", &self.code.as_deref().map(Code))
            .finish_non_exhaustive()
    }
}

/// An opt-out, or its withdrawal.
///
/// Derived from an [`Inbound`], which precedes it, or reported by the gateway. A text or a caption counts if it is STOP
/// or START as defined by [`keyword`], and so does the new content of an edit. A selected option counts only if its
/// title is an unambiguous keyword (STOP, UNSUBSCRIBE, OPT OUT and their Welsh forms) or UNSTOP; its id never counts,
/// nor does "Cancel" or "Start" on a button. An adapter adds the keywords that only its gateway acts on. Channels
/// suppress nothing: that is the task of a policy or of the service.
///
/// A message of the [history](Inbound::history) creates none, since it was processed on arrival; one received by
/// another app ([`Inbound::standby`]) does. A STOP that is later edited still counts.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OptOut {
    /// The origin and time.
    pub envelope: Envelope,
    /// The person.
    pub from: Address,
    /// The messages concerned.
    pub scope: OptOutScope,
    /// `true` if the person wants messages again. A gateway's `resume` does not override a STOP that the person sent.
    pub resume: bool,
    /// The message with the request, if any; for an edit, the id of the edit itself.
    pub inbound: Option<MessageId>,
    /// `true` if the request came in an edit of that message, not in the original.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub edited: bool,
}

impl OptOut {
    /// Creates an opt-out.
    pub fn new(envelope: Envelope, from: Address, scope: OptOutScope) -> Self {
        Self { envelope, from, scope, resume: false, inbound: None, edited: false }
    }

    /// Turns it into a withdrawal of an opt-out.
    #[must_use]
    pub fn resumed(mut self) -> Self {
        self.resume = true;
        self
    }
}

/// The extent of an opt-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptOutScope {
    /// All messages.
    All,
    /// Marketing.
    Marketing,
}

/// A person's change of address.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AddressChanged {
    /// The origin and time.
    pub envelope: Envelope,
    /// The previous address.
    pub previous: Address,
    /// The new address.
    pub current: Address,
}

impl AddressChanged {
    /// Creates a change of address.
    pub fn new(envelope: Envelope, previous: Address, current: Address) -> Self {
        Self { envelope, previous, current }
    }
}

/// A change of our own account.
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// The origin and time.
    pub envelope: Envelope,
    /// The topic.
    pub topic: Topic,
    /// The gateway's name for the new state: `APPROVED`, `THROUGHPUT_UPGRADE`, `revoke`.
    pub state: String,
    /// The name of the affected resource, such as a template.
    pub name: Option<String>,
    /// The gateway's reason.
    pub reason: Option<String>,
    /// The gateway's id of the resource.
    #[serde(default)]
    pub id: Option<String>,
    /// The language of the resource, such as a template's.
    #[serde(default)]
    pub language: Option<String>,
    /// The next state, if the gateway announces it.
    #[serde(default)]
    pub upcoming: Option<Upcoming>,
}

/// A state announced by a gateway.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upcoming {
    /// The state, in the gateway's terms.
    pub state: String,
    /// The time at which it takes effect, if given.
    pub at: Option<Timestamp>,
}

impl fmt::Debug for Upcoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upcoming").field("state", &Word(&self.state)).field("at", &self.at).finish()
    }
}

impl Upcoming {
    /// Creates an announced state.
    pub fn new(state: impl Into<String>, at: Option<Timestamp>) -> Self {
        Self { state: state.into(), at }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The name may be a person's or a number and the reason may be free text, unless it is a constant of the
        // gateway's.
        let constant = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let is_constant = self.reason.as_deref().is_some_and(|reason| reason.chars().all(constant));
        let (constant, text) = (self.reason.as_deref().map(Word), self.reason.as_deref().map(Hidden));
        let reason: &dyn fmt::Debug = if is_constant { &constant } else { &text };
        f.debug_struct("Account")
            .field("envelope", &self.envelope)
            .field("topic", &self.topic)
            .field("state", &Word(&self.state))
            .field("name", &self.name.as_deref().map(Hidden))
            .field("reason", reason)
            .field("upcoming", &self.upcoming)
            .finish_non_exhaustive()
    }
}

impl Account {
    /// Creates a change of our own account.
    pub fn new(envelope: Envelope, topic: Topic, state: impl Into<String>) -> Self {
        let state = state.into();
        Self { envelope, topic, state, name: None, reason: None, id: None, language: None, upcoming: None }
    }
}

/// The topic of an [`Account`] event.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// Our access: a revoked consent, an expired key.
    Access,
    /// An error that concerns no message.
    Error,
    /// Information that requires no action.
    Information,
    /// Our sending limits.
    Limit,
    /// The quality rating of our messages.
    Quality,
    /// The end of a restriction.
    Reinstatement,
    /// Events redelivered at our request.
    Replay,
    /// A restriction for a violation of the gateway's policy.
    Restriction,
    /// A message template.
    Template,
}

/// Data that this version does not recognise.
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Unrecognised {
    /// The origin and time; its [`Raw`] holds all of the data.
    pub envelope: Envelope,
    /// The gateway's name for it.
    pub what: String,
    /// The sender, if known.
    pub from: Option<Address>,
}

impl fmt::Debug for Unrecognised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unrecognised")
            .field("envelope", &self.envelope)
            .field("what", &Word(&self.what))
            .field("from", &self.from)
            .finish()
    }
}

impl Unrecognised {
    /// Creates an unrecognised event with the gateway's name for it.
    pub fn new(envelope: Envelope, what: impl Into<String>) -> Self {
        Self { envelope, what: what.into(), from: None }
    }
}

/// Returns the opt-out keyword of a message; used for events, replies and auto-replies alike.
///
/// An edit's new text, a caption and a selected option's title count. The option's id does not: it is ours.
pub(crate) fn opt_out_keyword(inbound: &Inbound) -> Option<Keyword> {
    let keyword = match inbound.content.now() {
        // History was processed on arrival.
        _ if inbound.echo || inbound.history => None,
        InboundContent::Text(text) => keyword(text),
        InboundContent::Media { text, .. } => text.as_deref().and_then(keyword),
        InboundContent::Selection(chosen) => title_keyword(&chosen.title),
        _ => None,
    };
    keyword.filter(|keyword| matches!(keyword, Keyword::Stop | Keyword::Start))
}

/// Adds an [`OptOut`] after each STOP or START message, unless the adapter has already added it.
///
/// Called once for every adapter, by [`Received`](crate::webhook::Received) and [`Page`](crate::poll::Page).
pub(crate) fn with_opt_outs(events: Vec<Event>) -> Vec<Event> {
    if !events.iter().filter_map(Event::as_inbound).any(|inbound| opt_out_keyword(inbound).is_some()) {
        return events;
    }
    let reported: HashSet<MessageId> = events
        .iter()
        .filter_map(|event| match event {
            Event::OptOut(opt_out) => opt_out.inbound.clone(),
            _ => None,
        })
        .collect();
    let mut all = Vec::with_capacity(events.len() + 1);
    for event in events {
        let opt_out = event.as_inbound().filter(|inbound| !reported.contains(&inbound.id)).and_then(|inbound| {
            Some(OptOut {
                resume: opt_out_keyword(inbound)? == Keyword::Start,
                envelope: inbound.envelope.clone(),
                from: inbound.from.clone(),
                scope: OptOutScope::All,
                inbound: Some(inbound.id.clone()),
                edited: matches!(inbound.content, InboundContent::Edited { .. }),
            })
        });
        all.push(event);
        all.extend(opt_out.map(Event::OptOut));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(raw: Raw) -> Envelope {
        Envelope::new("test", Medium::Sms, AccountId::new("desk"), Timestamp::from_secs(1), raw)
    }

    fn text(text: &str) -> Event {
        let from = Address::phone("07700 900123").unwrap();
        Inbound::new(envelope(Raw::default()), "m1", from, InboundContent::Text(text.into())).into()
    }

    #[test]
    fn as_answerable_skips_what_needs_no_reply() {
        let of = |content| {
            let from = Address::phone("07700 900123").unwrap();
            Inbound::new(envelope(Raw::default()), "m1", from, content)
        };
        let echo = Inbound { echo: true, ..of(InboundContent::Text("Hello".into())) };
        for event in [
            text("STOP"),
            text("start"),
            echo.into(),
            of(InboundContent::Reaction { to: "m0".into(), emoji: None }).into(),
            of(InboundContent::System("has a new number".into())).into(),
            of(InboundContent::Withdrawn("m0".into())).into(),
        ] {
            assert!(event.as_inbound().is_some() && event.as_answerable().is_none(), "{event:?}");
        }
        assert!(text("Please stop the noise").as_answerable().is_some());
    }

    #[test]
    fn stop_is_an_inbound_and_an_opt_out() {
        let events = with_opt_outs(vec![text("Hello"), text("STOP"), text("start")]);
        let kinds: Vec<_> = events.iter().map(|e| matches!(e, Event::OptOut(o) if !o.resume)).collect();
        assert_eq!(kinds, [false, false, true, false, false]);
        assert!(matches!(&events[4], Event::OptOut(o) if o.resume));
        assert_eq!(events[2].id(), "test/desk/opt-out/m1");
    }

    fn inbound(id: &str, content: InboundContent) -> Inbound {
        Inbound::new(envelope(Raw::default()), id, Address::phone("07700 900123").unwrap(), content)
    }

    fn edit(of: &str, content: InboundContent) -> InboundContent {
        InboundContent::Edited { id: of.into(), content: Box::new(content) }
    }

    fn caption(text: &str) -> InboundContent {
        InboundContent::Media { text: Some(text.into()), media: Vec::new() }
    }

    /// Returns the opt-out of a message: `Some(true)` for its withdrawal.
    fn resumes(inbound: &Inbound) -> Option<bool> {
        let event = Event::from(inbound.clone());
        let events = with_opt_outs(vec![event.clone()]);
        let found = events.iter().find_map(|event| match event {
            Event::OptOut(opt_out) => Some((opt_out.resume, opt_out.inbound == Some(inbound.id.clone()))),
            _ => None,
        });
        assert_eq!(event.as_answerable().is_none(), found.is_some() || inbound.echo, "{inbound:?}");
        found.map(|(resume, is_of_it)| {
            assert!(is_of_it);
            resume
        })
    }

    #[test]
    fn echo_is_not_an_opt_out() {
        for content in [InboundContent::Text("STOP".into()), edit("m0", InboundContent::Text("STOP".into()))] {
            assert_eq!(resumes(&Inbound { echo: true, ..inbound("m1", content) }), None);
        }
    }

    #[test]
    fn selected_option_opts_out_by_unambiguous_title_only() {
        let selected = |id: &str, title: &str| {
            inbound("m1", InboundContent::Selection(Selection { id: id.into(), title: title.into() }))
        };
        for title in
            ["STOP", "Stop", "Unsubscribe", "OPT OUT", "Opt out", "STOPIO", "Atal", "Stopiwch", "Dad-danysgrifio"]
        {
            assert_eq!(resumes(&selected("1", title)), Some(false), "{title}");
        }
        assert_eq!(resumes(&selected("1", "UNSTOP")), Some(true));
        for title in ["Cancel", "End", "Remove", "Start", "Quit", "Revoke", "Dechrau", "Yes", "Stop the bins"] {
            for id in ["cancel", "STOP", "UNSUBSCRIBE", "START", "UNSTOP"] {
                assert_eq!(resumes(&selected(id, title)), None, "{id} {title}");
            }
        }
    }

    #[test]
    fn stop_counts_in_an_edit_and_in_a_caption() {
        let text = |text: &str| InboundContent::Text(text.into());
        for (content, resume) in [
            (caption("Stop."), Some(false)),
            (caption("Please stop the lorry"), None),
            (InboundContent::Media { text: None, media: Vec::new() }, None),
            (edit("m0", text("STOP")), Some(false)),
            (edit("m0", text("START")), Some(true)),
            (edit("m0", text("Stop the lorry")), None),
            (edit("m0", caption("unsubscribe")), Some(false)),
        ] {
            assert_eq!(resumes(&inbound("m1", content.clone())), resume, "{content:?}");
        }
    }

    #[test]
    fn opt_out_of_an_edit_has_its_own_id() {
        let stop = || InboundContent::Text("STOP".into());
        // Gateways give an edit its own id, or identify it by the message.
        for id in ["m1", "m2"] {
            let first = with_opt_outs(vec![inbound("m1", stop()).into()]);
            let edited = with_opt_outs(vec![inbound(id, edit("m1", stop())).into()]);
            let again = with_opt_outs(vec![inbound(id, edit("m1", stop())).into()]);
            let ids = |events: &[Event]| events.iter().map(Event::id).collect::<Vec<_>>();
            assert_eq!(ids(&edited), ids(&again), "{id}");
            assert_eq!(edited.len(), 2);
            assert!(ids(&edited).iter().all(|of_edit| !ids(&first).contains(of_edit)), "{id}");
            let stored: Event = serde_json::from_str(&serde_json::to_string(&edited[1]).unwrap()).unwrap();
            assert_eq!(stored.id(), edited[1].id());
        }
        let other = inbound("m1", edit("m1", InboundContent::Text("Hello".into())));
        assert_ne!(Event::from(other).id(), Event::from(inbound("m1", edit("m1", stop()))).id());
    }

    #[test]
    fn event_survives_a_store() {
        let event = text("Hello");
        let stored: Event = serde_json::from_str(&serde_json::to_string(&event).unwrap()).unwrap();
        assert_eq!(stored, event);
        assert_eq!(stored.id(), event.id());
    }

    #[test]
    fn non_text_bytes_keep_their_id_through_a_store() {
        let bytes = Bytes::from_static(b"\xff\xfe not text");
        let event: Event = Unrecognised::new(envelope(Raw::new(bytes.clone())), "body").into();
        let stored: Event = serde_json::from_str(&serde_json::to_string(&event).unwrap()).unwrap();
        assert_eq!((stored.envelope().raw.as_bytes(), stored.id()), (&bytes, event.id()));
    }
}
