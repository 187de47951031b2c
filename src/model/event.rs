//! What comes back: residents' messages, deliveries, opt-outs, changes of address and of our own account.

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

/// Anything that a gateway told us, by webhook or by poll.
///
/// Gateways repeat themselves and change the order: tell repeats by [`id`](Self::id), and let
/// [`DeliveryState::join`] keep a delivery from going backwards.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Something about our own account, of no conversation: a template, quality, limits, access.
    Account(Account),
    /// A person is now reached at another address.
    AddressChanged(AddressChanged),
    /// How far a message of ours has got.
    Delivery(Delivery),
    /// A message from a resident, or the echo of one of ours.
    Inbound(Inbound),
    /// A person asked for no more messages, or for messages again.
    OptOut(OptOut),
    /// What this version does not know. It is kept whole, and the gateway is answered 200.
    Unrecognised(Unrecognised),
}

impl Event {
    /// Where and when it happened.
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

    /// The event's own id: the same each time the gateway repeats it, after a restart too, and whether it came by
    /// webhook or by poll. Made of the gateway's ids; personal data.
    ///
    /// An event for which the gateway has no id is told by a digest of its JSON, in which white space and the order of
    /// members do not count, and by the gateway's time of it.
    pub fn id(&self) -> String {
        let Envelope { gateway, account, .. } = self.envelope();
        let of = match self {
            Self::Inbound(e) => match (&e.envelope.id, &e.content) {
                // One message may come as several events.
                (Some(id), _) => format!("inbound/{}", id.as_str()),
                // A gateway that names an edit by the message: the edit is another event.
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
                let who = e.recipient.as_ref().map_or("", Address::expose);
                match &e.of {
                    DeliveryOf::Message { id, key } => {
                        let id = id.as_ref().map(MessageId::as_str).or(key.as_deref()).unwrap_or_default();
                        format!("delivery/{id}/{}/{who}", e.status)
                    }
                    DeliveryOf::UpTo { at, id } => {
                        let id = id.as_ref().map_or("", MessageId::as_str);
                        format!("delivery-up-to/{}/{id}/{}/{who}", at.as_millis(), e.status)
                    }
                }
            }
            Self::Account(_) => format!("account/{}", self.envelope().event_id()),
            Self::AddressChanged(_) => format!("address/{}", self.envelope().event_id()),
            Self::Unrecognised(_) => format!("unrecognised/{}", self.envelope().event_id()),
        };
        if of.contains(char::REPLACEMENT_CHARACTER) {
            // An id that did not come through whole may be read as that of another event too.
            return format!("{gateway}/{account}/{of}/{}", digest(self.envelope().raw.as_bytes()));
        }
        format!("{gateway}/{account}/{of}")
    }

    /// The message, if somebody should answer it: one that is [live](Inbound::is_live), no reaction, notice, withdrawal or
    /// bare opening of a conversation, and no word by which they stop or start our messages.
    ///
    /// An edited message counts as a new one, and may have been answered before it was edited.
    pub fn as_answerable(&self) -> Option<&Inbound> {
        use InboundContent::{Opened, Reaction, System, Withdrawn};
        let says = |inbound: &&Inbound| !matches!(inbound.content, Opened | Reaction { .. } | System(_) | Withdrawn(_));
        self.as_inbound().filter(says).filter(|inbound| inbound.is_live() && opt_out_keyword(inbound).is_none())
    }

    /// The message, if it is one from a resident, or an echo of ours.
    pub fn as_inbound(&self) -> Option<&Inbound> {
        match self {
            Self::Inbound(inbound) => Some(inbound),
            _ => None,
        }
    }

    /// The delivery, if it is one.
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

/// Where and when an event happened.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// The gateway that told us.
    pub gateway: Cow<'static, str>,
    /// The medium.
    pub medium: Medium,
    /// Our own account at the gateway.
    pub account: AccountId,
    /// When it happened, by the gateway's clock; by ours where it does not say.
    pub at: Timestamp,
    /// The conversation of several people that it belongs to, if it does.
    pub conversation: Option<Address>,
    /// What the gateway wrote.
    pub raw: Raw,
    /// Whether [`at`](Self::at) is the gateway's: a repeated event then has the same time.
    #[serde(default)]
    pub dated: bool,
    /// The gateway's own id of the event, where it gives one: see [`Event::id`].
    #[serde(default)]
    pub id: Option<MessageId>,
}

impl Envelope {
    /// An envelope for an event of this account. `at` is our own time, unless it is [`dated`](Self::dated).
    #[inline]
    pub fn new(gateway: &'static str, medium: Medium, account: AccountId, at: Timestamp, raw: Raw) -> Self {
        let gateway = Cow::Borrowed(gateway);
        Self { gateway, medium, account, at, conversation: None, raw, dated: false, id: None }
    }

    /// Sets the time to the gateway's, where it gives one.
    #[inline]
    #[must_use]
    pub fn dated(mut self, at: Option<Timestamp>) -> Self {
        if let Some(at) = at {
            (self.at, self.dated) = (at, true);
        }
        self
    }

    /// Sets the gateway's own id of the event, where it gives one.
    #[must_use]
    pub fn identified(mut self, id: Option<&str>) -> Self {
        self.id = id.filter(|id| !id.is_empty()).map(MessageId::from);
        self
    }

    /// The id of an event that has none of its own: the gateway's, or a digest of what it says and when.
    fn event_id(&self) -> String {
        match &self.id {
            Some(id) => id.as_str().to_owned(),
            None if self.dated => format!("{}/{}", digest(self.raw.as_bytes()), self.at.as_millis()),
            None => digest(self.raw.as_bytes()).to_string(),
        }
    }

    /// Says that it happened in a conversation of several people.
    #[must_use]
    pub fn with_conversation(mut self, conversation: Option<Address>) -> Self {
        self.conversation = conversation;
        self
    }
}

/// The bytes that a gateway wrote for one event, cut out of the body while it was read.
///
/// Cloning is cheap: the bytes are shared with the body. They hold personal data, so `Debug` shows their length only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Raw(Bytes);

impl Raw {
    /// The bytes of one event, and of no other.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, as the gateway wrote them. Personal data.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Raw({} bytes)", self.0.len())
    }
}

/// A piece in a store: as text, which almost every one is, and else in base64. None changes there: ids are made of it.
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
    /// Where and when.
    pub envelope: Envelope,
    /// The gateway's id of the message; a reply quotes it.
    pub id: MessageId,
    /// Who wrote it.
    pub from: Address,
    /// Who it was written to, where the gateway says: a number of ours, or, in an echo, the resident.
    #[serde(default)]
    pub to: Option<Address>,
    /// What the medium shows of that person.
    pub profile: Profile,
    /// What they wrote.
    pub content: InboundContent,
    /// The message that theirs quotes.
    pub reply_to: Option<MessageId>,
    /// It is one of our own, echoed: never answer it.
    pub echo: bool,
    /// It was passed on from somebody else.
    pub forwarded: bool,
    /// It is from the past: the gateway hands over the history of a conversation. Never answer it.
    #[serde(default)]
    pub history: bool,
    /// Another program holds the conversation, or the gateway has not said that we do. Never answer it here.
    #[serde(default)]
    pub standby: bool,
    /// What brought the person here, such as an advertisement or a link.
    #[serde(default)]
    pub referral: Option<Box<Referral>>,
}

impl Inbound {
    /// A message.
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

    /// Refuses what nobody may answer.
    pub(crate) fn check_answerable(&self) -> Result<()> {
        let rule = match self {
            _ if self.is_live() => return Ok(()),
            Self { echo: true, .. } => "is an echo of our own message, which must not be answered",
            Self { history: true, .. } => "is of the history of a conversation, which must not be answered",
            _ => "is in the hands of another program, which answers it",
        };
        Err(Error::invalid("inbound", rule))
    }

    /// Returns `true` if a resident wrote it now and to us: it is no echo, no history, and in no other program's hands.
    pub fn is_live(&self) -> bool {
        !self.echo && !self.history && !self.standby
    }

    /// The words of it: a text, a caption, or the answer that was chosen. Personal data.
    pub fn text(&self) -> Option<&str> {
        match self.content.now() {
            InboundContent::Text(text) => Some(text),
            InboundContent::Media { text, .. } => text.as_deref(),
            InboundContent::Selection(chosen) => Some(&chosen.title),
            _ => None,
        }
    }

    /// The files of it: those of a message that was changed as well.
    pub fn media(&self) -> &[MediaRef] {
        match self.content.now() {
            InboundContent::Media { media, .. } => media,
            _ => &[],
        }
    }

    /// Where an answer goes: to the conversation, if it belongs to one, else to the person.
    pub fn reply_address(&self) -> &Address {
        self.envelope.conversation.as_ref().unwrap_or(&self.from)
    }
}

/// What a medium shows of a person. Display only: people change it as they like.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The name.
    pub name: Option<String>,
    /// The handle or user name, without `@`.
    pub handle: Option<String>,
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Profile(masked)")
    }
}

/// What brought a person to us: an advertisement, a post, or a link with a word of ours in it.
#[non_exhaustive]
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Referral {
    /// The gateway's word for what it is: `ad`, `post`, `SHORTLINK`.
    pub source: Option<String>,
    /// The gateway's id of it.
    pub id: Option<String>,
    /// Its address.
    pub url: Option<String>,
    /// What it says: a headline, or the word that the link carries.
    pub text: Option<String>,
}

impl fmt::Debug for Referral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Referral(masked)")
    }
}

/// What a resident wrote.
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InboundContent {
    /// An answer that they chose from buttons or a list.
    Selection(Selection),
    /// Contact cards.
    Contacts(Vec<ContactCard>),
    /// They changed an earlier message.
    Edited {
        /// The earlier message.
        id: MessageId,
        /// What it says now.
        content: Box<Self>,
    },
    /// An end-to-end encrypted message that only the medium's own app can read.
    Encrypted,
    /// A form that they filled in, as the JSON that the gateway gives.
    Form(String),
    /// A page that they shared: a post, a reel, or any other address.
    Link {
        /// What it is called.
        title: Option<String>,
        /// The address.
        url: String,
    },
    /// A place.
    Location(Location),
    /// Files, and a text with them.
    Media {
        /// The text.
        text: Option<String>,
        /// The files.
        media: Vec<MediaRef>,
    },
    /// They opened the conversation by a link or an advertisement, and wrote nothing yet: see [`Inbound::referral`].
    Opened,
    /// A shopping basket, as the JSON that the gateway gives.
    Order(String),
    /// An emoji on a message of ours; none takes an earlier one back.
    Reaction {
        /// The message.
        to: MessageId,
        /// The emoji.
        emoji: Option<String>,
    },
    /// A notice of the medium itself about this person.
    System(String),
    /// Plain text.
    Text(String),
    /// A kind of message that the gateway does not hand on.
    Unsupported {
        /// The gateway's name of the kind.
        kind: Option<String>,
        /// The gateway's code of the reason.
        code: Option<String>,
    },
    /// They deleted an earlier message.
    Withdrawn(MessageId),
}

impl InboundContent {
    /// A kind of message that the gateway does not hand on, by its name of it.
    pub fn unsupported(kind: Option<impl Into<String>>) -> Self {
        Self::Unsupported { kind: kind.map(Into::into), code: None }
    }

    /// What it says now, where it was changed.
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

/// An answer chosen from buttons or a list.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// The id of the answer, as the message that offered it said.
    pub id: String,
    /// What the person read.
    pub title: String,
}

impl fmt::Debug for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chosen(masked)")
    }
}

/// How far a message of ours has got.
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// Where and when.
    pub envelope: Envelope,
    /// Which message or messages.
    pub of: DeliveryOf,
    /// How far.
    pub state: DeliveryState,
    /// The gateway's own word for that.
    pub status: String,
    /// Who it was for, where the gateway says.
    pub recipient: Option<Address>,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// What it costs, where the gateway says.
    pub price: Option<Money>,
    /// How the gateway bills it, in its own words: `regular/utility`, `free_customer_service/service`.
    pub billing: Option<String>,
    /// How many parts it was billed as, where the gateway says.
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
    /// A delivery of one message.
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

    /// Adds our own key of the message, where the gateway carries it back. A delivery that is of more than one message
    /// has none.
    #[must_use]
    pub fn with_key(mut self, our: Option<String>) -> Self {
        if let DeliveryOf::Message { key, .. } = &mut self.of {
            *key = our;
        }
        self
    }

    /// The gateway's id of the message, where the delivery is of one.
    pub fn id(&self) -> Option<&MessageId> {
        match &self.of {
            DeliveryOf::Message { id, .. } => id.as_ref(),
            DeliveryOf::UpTo { .. } => None,
        }
    }

    /// The key of the message as its gateway got it, where it carries that back: see
    /// [`Info::reference`](crate::Info::reference).
    pub fn key(&self) -> Option<&str> {
        match &self.of {
            DeliveryOf::Message { key, .. } => key.as_deref(),
            DeliveryOf::UpTo { .. } => None,
        }
    }
}

/// Which of our messages a delivery is of.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryOf {
    /// One message, by the gateway's id, by our key, or by both.
    Message {
        /// The gateway's id.
        id: Option<MessageId>,
        /// Our key, or its [reference](crate::Info::reference).
        key: Option<String>,
    },
    /// Every message to this recipient up to a moment.
    UpTo {
        /// The moment.
        at: Timestamp,
        /// The last message, where the gateway names it.
        id: Option<MessageId>,
    },
}

impl fmt::Debug for DeliveryOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // An echo brings the keys of other programs as well, which may be anything.
            Self::Message { id, key } => {
                f.debug_struct("Message").field("id", id).field("key", &key.as_deref().map(Word)).finish()
            }
            Self::UpTo { at, id } => f.debug_struct("UpTo").field("at", at).field("id", id).finish(),
        }
    }
}

/// Why a message was not delivered.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What to do about it.
    pub kind: ErrorKind,
    /// Whether a later message may well arrive: a phone that was off, a network that was down.
    pub temporary: bool,
    /// The gateway's code.
    pub code: Option<String>,
    /// The gateway's words. They may hold personal data.
    pub detail: Option<String>,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: ErrorKind) -> Self {
        Self { kind, temporary: false, code: None, detail: None }
    }

    /// Keeps the gateway's code.
    #[must_use]
    pub fn code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// Keeps the gateway's words.
    #[must_use]
    pub fn detail(mut self, detail: Option<String>) -> Self {
        self.detail = detail;
        self
    }

    /// Says whether a later message may well arrive.
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

/// A person asked for no more messages, or for messages again.
///
/// Derived from an [`Inbound`], which comes before it, or reported by the gateway. A text or a caption counts if it is STOP
/// or START in the sense of [`keyword`], and so does an edit by what it says now. An answer that was selected counts only if
/// its title stops by name (STOP, UNSUBSCRIBE, OPT OUT and their Welsh forms) or is UNSTOP; its id never does, and "Cancel"
/// or "Start" on a button does not. An adapter adds the words that only its gateway acts on. This crate's channels suppress
/// nothing: a policy, or the service, does that.
///
/// A message of the [history](Inbound::history) makes none, since it was heard when it came; one that came to another app
/// ([`Inbound::standby`]) does. A STOP that is edited away still stands.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OptOut {
    /// Where and when.
    pub envelope: Envelope,
    /// Who asked.
    pub from: Address,
    /// What they want no more of, or again.
    pub scope: OptOutScope,
    /// They want messages again. A gateway's `resume` does not take back a STOP that the person typed.
    pub resume: bool,
    /// The message that said so, if one did; of an edit, the id of the edit itself.
    pub inbound: Option<MessageId>,
    /// An edit of that message said so, and not the message as it was first sent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub edited: bool,
}

impl OptOut {
    /// A request for no more messages.
    pub fn new(envelope: Envelope, from: Address, scope: OptOutScope) -> Self {
        Self { envelope, from, scope, resume: false, inbound: None, edited: false }
    }

    /// Makes it a request for messages again.
    #[must_use]
    pub fn resumed(mut self) -> Self {
        self.resume = true;
        self
    }
}

/// What a person wants no more of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptOutScope {
    /// Any message.
    All,
    /// Marketing.
    Marketing,
}

/// A person is now reached at another address.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AddressChanged {
    /// Where and when.
    pub envelope: Envelope,
    /// The address until now.
    pub previous: Address,
    /// The address from now on.
    pub current: Address,
}

impl AddressChanged {
    /// A change of address.
    pub fn new(envelope: Envelope, previous: Address, current: Address) -> Self {
        Self { envelope, previous, current }
    }
}

/// Something about our own account.
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// Where and when.
    pub envelope: Envelope,
    /// What it is about.
    pub topic: Topic,
    /// The gateway's word for what happened: `APPROVED`, `THROUGHPUT_UPGRADE`, `revoke`.
    pub state: String,
    /// The thing that it happened to, such as a template's name.
    pub name: Option<String>,
    /// The gateway's reason.
    pub reason: Option<String>,
    /// The gateway's id of the thing.
    #[serde(default)]
    pub id: Option<String>,
    /// The language of the thing, such as a template's.
    #[serde(default)]
    pub language: Option<String>,
    /// What will be, where the gateway announces it.
    #[serde(default)]
    pub upcoming: Option<Upcoming>,
}

/// A state that a gateway announces.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upcoming {
    /// The state, in the gateway's word.
    pub state: String,
    /// When it begins, where the gateway says.
    pub at: Option<Timestamp>,
}

impl fmt::Debug for Upcoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upcoming").field("state", &Word(&self.state)).field("at", &self.at).finish()
    }
}

impl Upcoming {
    /// A state that begins at this moment.
    pub fn new(state: impl Into<String>, at: Option<Timestamp>) -> Self {
        Self { state: state.into(), at }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The name may be a person's or a number, and the reason a text of anybody's, unless it is a word of the gateway's.
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
    /// Something about our own account.
    pub fn new(envelope: Envelope, topic: Topic, state: impl Into<String>) -> Self {
        let state = state.into();
        Self { envelope, topic, state, name: None, reason: None, id: None, language: None, upcoming: None }
    }
}

/// What an [`Account`] event is about.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// What we may do: a consent that was taken back, a key that ended.
    Access,
    /// An error that belongs to no message.
    Error,
    /// What takes nothing from us and asks nothing of us.
    Information,
    /// How much we may send.
    Limit,
    /// How well people take what we send.
    Quality,
    /// A restriction that was lifted.
    Reinstatement,
    /// Events that the gateway sends again, at our request.
    Replay,
    /// What we may no longer do, for breaking a rule.
    Restriction,
    /// A message template.
    Template,
}

/// What this version does not know.
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Unrecognised {
    /// Where and when; its [`Raw`] holds all there is.
    pub envelope: Envelope,
    /// The gateway's name for what it is.
    pub what: String,
    /// Who it came from, where that could be told.
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
    /// Something unknown, by the gateway's name for it.
    pub fn new(envelope: Envelope, what: impl Into<String>) -> Self {
        Self { envelope, what: what.into(), from: None }
    }
}

/// Returns the keyword by which a message stops or starts our messages, for events, answers and auto-replies alike.
///
/// The words of an edit, a caption and a selected answer's title count. The answer's id does not: it is ours.
pub(crate) fn opt_out_keyword(inbound: &Inbound) -> Option<Keyword> {
    let keyword = match inbound.content.now() {
        // What is past was answered in its time.
        _ if inbound.echo || inbound.history => None,
        InboundContent::Text(text) => keyword(text),
        InboundContent::Media { text, .. } => text.as_deref().and_then(keyword),
        InboundContent::Selection(chosen) => title_keyword(&chosen.title),
        _ => None,
    };
    keyword.filter(|keyword| matches!(keyword, Keyword::Stop | Keyword::Start))
}

/// Adds the [`OptOut`] behind each message that is STOP or START, unless the adapter has added it.
///
/// Done once for every adapter, where [`Received`](crate::webhook::Received) and [`Page`](crate::poll::Page) are made.
pub(crate) fn with_opt_outs(events: Vec<Event>) -> Vec<Event> {
    if !events.iter().filter_map(Event::as_inbound).any(|inbound| opt_out_keyword(inbound).is_some()) {
        return events;
    }
    let told: HashSet<MessageId> = events
        .iter()
        .filter_map(|event| match event {
            Event::OptOut(opt_out) => opt_out.inbound.clone(),
            _ => None,
        })
        .collect();
    let mut all = Vec::with_capacity(events.len() + 1);
    for event in events {
        let opt_out = event.as_inbound().filter(|inbound| !told.contains(&inbound.id)).and_then(|inbound| {
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
    fn what_asks_nothing_is_not_to_be_answered() {
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
    fn a_stop_word_is_the_message_and_an_opt_out() {
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

    /// The opt-out that a message gives: `Some(true)` for messages again.
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
    fn echo_of_ours_is_no_opt_out() {
        for content in [InboundContent::Text("STOP".into()), edit("m0", InboundContent::Text("STOP".into()))] {
            assert_eq!(resumes(&Inbound { echo: true, ..inbound("m1", content) }), None);
        }
    }

    #[test]
    fn selected_answer_opts_out_by_unmistakable_title_only() {
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
        // Gateways that give an edit its own id, and gateways that name it by the message.
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
    fn an_event_survives_a_store() {
        let event = text("Hello");
        let stored: Event = serde_json::from_str(&serde_json::to_string(&event).unwrap()).unwrap();
        assert_eq!(stored, event);
        assert_eq!(stored.id(), event.id());
    }

    #[test]
    fn bytes_that_are_no_text_survive_a_store_and_give_the_same_id() {
        let bytes = Bytes::from_static(b"\xff\xfe not text");
        let event: Event = Unrecognised::new(envelope(Raw::new(bytes.clone())), "body").into();
        let stored: Event = serde_json::from_str(&serde_json::to_string(&event).unwrap()).unwrap();
        assert_eq!((stored.envelope().raw.as_bytes(), stored.id()), (&bytes, event.id()));
    }
}
