//! What comes back: residents' messages, deliveries, opt-outs, changes of address and of our own account.

use std::borrow::Cow;
use std::fmt;

use base64::prelude::{BASE64_STANDARD as BASE64, Engine};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::address::{Address, Medium};
use crate::clock::Timestamp;
pub use crate::delivery::DeliveryState;
use crate::error::ErrorKind;
use crate::id::{AccountId, Code, Digest, Hidden, MessageId, Word};
use crate::medium::sms::{Keyword, keyword};
use crate::message::{ContactCard, Location, MediaRef, Money};

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
    pub fn id(&self) -> String {
        let Envelope { gateway, account, .. } = self.envelope();
        let of = match self {
            Self::Inbound(e) => format!("inbound/{}", e.id.as_str()),
            Self::OptOut(e) => match &e.inbound {
                Some(id) => format!("opt-out/{}", id.as_str()),
                None => format!("opt-out/{}", Digest::of(&self.envelope().raw.cut())),
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
            Self::Account(_) => format!("account/{}", Digest::of(&self.envelope().raw.cut())),
            Self::AddressChanged(_) => format!("address/{}", Digest::of(&self.envelope().raw.cut())),
            Self::Unrecognised(_) => format!("unrecognised/{}", Digest::of(&self.envelope().raw.cut())),
        };
        format!("{gateway}/{account}/{of}")
    }

    /// The message, if somebody should answer it: no echo of ours, no reaction, notice or withdrawal, and no word by which
    /// they stop or start our messages.
    pub fn to_answer(&self) -> Option<&Inbound> {
        use InboundContent::{Reaction, System, Withdrawn};
        let says = |inbound: &&Inbound| !matches!(inbound.content, Reaction { .. } | System(_) | Withdrawn(_));
        self.as_inbound().filter(says).filter(|inbound| !inbound.echo && wish(inbound).is_none())
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
}

impl Envelope {
    /// An envelope for an event of this account.
    pub fn new(gateway: &'static str, medium: Medium, account: AccountId, at: Timestamp, raw: Raw) -> Self {
        Self { gateway: Cow::Borrowed(gateway), medium, account, at, conversation: None, raw }
    }

    /// Says that it happened in a conversation of several people.
    #[must_use]
    pub fn within(mut self, conversation: Option<Address>) -> Self {
        self.conversation = conversation;
        self
    }
}

/// What the gateway wrote: the whole body, shared, and the place of one event in it.
///
/// The piece is cut out only when it is asked for. It holds personal data, so `Debug` shows the place alone; when it
/// is serialised, the piece goes and not the body around it.
#[derive(Clone, Default)]
pub struct Raw {
    body: Bytes,
    path: Path,
}

/// A JSON pointer with up to three numbers in it, which costs nothing to make.
#[derive(Clone, Copy, Default)]
struct Path {
    pattern: &'static str,
    at: [usize; 3],
}

impl Raw {
    /// A whole body.
    pub fn whole(body: Bytes) -> Self {
        Self { body, path: Path::default() }
    }

    /// A piece of a JSON body: a JSON pointer in which each `#` stands for the next number, such as
    /// `/entry/#/changes/#/value`.
    pub fn at(body: Bytes, pattern: &'static str, at: [usize; 3]) -> Self {
        Self { body, path: Path { pattern, at } }
    }

    /// The JSON pointer (RFC 6901) of the piece in the body; empty for the whole.
    pub fn path(&self) -> String {
        let mut at = self.path.at.iter();
        let mut path = String::with_capacity(self.path.pattern.len() + 8);
        for c in self.path.pattern.chars() {
            match c {
                '#' => path.push_str(&at.next().copied().unwrap_or_default().to_string()),
                c => path.push(c),
            }
        }
        path
    }

    /// The bytes of the piece, as the gateway wrote them. Personal data.
    ///
    /// A place that the body does not have gives the whole body.
    pub fn cut(&self) -> Bytes {
        let piece = std::str::from_utf8(&self.body).ok().and_then(|text| {
            let mut piece = text;
            for step in self.path().split('/').skip(1) {
                piece = child(piece, step)?;
            }
            Some(self.body.slice_ref(piece.as_bytes()))
        });
        piece.unwrap_or_else(|| self.body.clone())
    }
}

/// The text of one member or element of a JSON value.
fn child<'a>(json: &'a str, step: &str) -> Option<&'a str> {
    match step.parse::<usize>() {
        Ok(index) => serde_json::from_str::<Vec<&'a RawValue>>(json).ok()?.get(index).map(|v| v.get()),
        Err(_) => {
            let object: std::collections::HashMap<Cow<'a, str>, &'a RawValue> = serde_json::from_str(json).ok()?;
            object.get(step).map(|v| v.get())
        }
    }
}

impl PartialEq for Raw {
    fn eq(&self, other: &Self) -> bool {
        self.cut() == other.cut()
    }
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Raw({} bytes at \"{}\")", self.body.len(), self.path())
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
        let piece = self.cut();
        match std::str::from_utf8(&piece) {
            Ok(text) => Piece::Text(text.into()),
            Err(_) => Piece::Bytes { base64: BASE64.encode(&piece) },
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::whole(match Piece::deserialize(deserializer)? {
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
}

impl Inbound {
    /// A message.
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
        }
    }

    /// The words of it: a text, a caption, or the answer that was chosen. Personal data.
    pub fn text(&self) -> Option<&str> {
        match self.content.now() {
            InboundContent::Text(text) => Some(text),
            InboundContent::Media { text, .. } => text.as_deref(),
            InboundContent::Chosen(chosen) => Some(&chosen.title),
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
    pub fn answer_to(&self) -> &Address {
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

/// What a resident wrote.
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InboundContent {
    /// An answer that they chose from buttons or a list.
    Chosen(Chosen),
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
    /// A place.
    Location(Location),
    /// Files, and a text with them.
    Media {
        /// The text.
        text: Option<String>,
        /// The files.
        media: Vec<MediaRef>,
    },
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
    /// A kind of message that the gateway does not hand on, with its name if it is told.
    Unsupported(Option<String>),
    /// They deleted an earlier message.
    Withdrawn(MessageId),
}

impl InboundContent {
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
            Self::Chosen(_) => f.write_str("Chosen(masked)"),
            Self::Contacts(cards) => write!(f, "Contacts({})", cards.len()),
            Self::Edited { id, content } => f.debug_struct("Edited").field("id", id).field("content", content).finish(),
            Self::Encrypted => f.write_str("Encrypted"),
            Self::Form(form) => f.debug_tuple("Form").field(&Hidden(form)).finish(),
            Self::Location(location) => location.fmt(f),
            Self::Media { text, media } => {
                f.debug_struct("Media").field("text", &text.as_deref().map(Hidden)).field("media", media).finish()
            }
            Self::Order(order) => f.debug_tuple("Order").field(&Hidden(order)).finish(),
            Self::Reaction { to, .. } => f.debug_struct("Reaction").field("to", to).finish_non_exhaustive(),
            Self::System(_) => f.write_str("System(masked)"),
            Self::Text(text) => f.debug_tuple("Text").field(&Hidden(text)).finish(),
            Self::Unsupported(kind) => f.debug_tuple("Unsupported").field(&kind.as_deref().map(Word)).finish(),
            Self::Withdrawn(id) => f.debug_tuple("Withdrawn").field(id).finish(),
        }
    }
}

/// An answer chosen from buttons or a list.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    /// The id of the answer, as the message that offered it said.
    pub id: String,
    /// What the person read.
    pub title: String,
}

impl fmt::Debug for Chosen {
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

    /// Our own key of the message, where the gateway carries it back.
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
        /// Our key.
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
/// Made of a word such as STOP or STOPIO ([`keyword`]), which also comes as the [`Inbound`] that it is, or of a
/// gateway's own signal. Nothing is suppressed by this crate's channels: a policy, or the service, does that.
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
    /// The message that said so, if one did.
    pub inbound: Option<MessageId>,
}

impl OptOut {
    /// A request for no more messages.
    pub fn new(envelope: Envelope, from: Address, scope: OptOutScope) -> Self {
        Self { envelope, from, scope, resume: false, inbound: None }
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
            .finish()
    }
}

impl Account {
    /// Something about our own account.
    pub fn new(envelope: Envelope, topic: Topic, state: impl Into<String>) -> Self {
        Self { envelope, topic, state: state.into(), name: None, reason: None }
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
    /// How much we may send.
    Limit,
    /// How well people take what we send.
    Quality,
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

/// The word by which somebody stops or starts our messages, where a message is that and nothing else.
fn wish(inbound: &Inbound) -> Option<Keyword> {
    let word = match &inbound.content {
        _ if inbound.echo => None,
        InboundContent::Text(text) => keyword(text),
        InboundContent::Chosen(chosen) => keyword(&chosen.id).or_else(|| keyword(&chosen.title)),
        _ => None,
    };
    word.filter(|word| matches!(word, Keyword::Stop | Keyword::Start))
}

/// Adds the [`OptOut`] to each message that is a STOP or START word and nothing else, right behind it.
///
/// Done once for every adapter, where [`Received`](crate::webhook::Received) and [`Page`](crate::Page) are made.
pub(crate) fn with_opt_outs(events: Vec<Event>) -> Vec<Event> {
    if !events.iter().filter_map(Event::as_inbound).any(|inbound| wish(inbound).is_some()) {
        return events;
    }
    let told: Vec<MessageId> = events
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
                resume: wish(inbound)? == Keyword::Start,
                envelope: inbound.envelope.clone(),
                from: inbound.from.clone(),
                scope: OptOutScope::All,
                inbound: Some(inbound.id.clone()),
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
    fn the_raw_piece_is_the_gateways_own_bytes() {
        let body =
            Bytes::from(r#"{"entry":[{"x":1},{"changes":[{"value": {"b\u0061r" : [1, {"k":"caf\u00e9"} ]}}]}]}"#);
        let raw = Raw::at(body.clone(), "/entry/#/changes/#/value/bar/#", [1, 0, 1]);
        assert_eq!(raw.path(), "/entry/1/changes/0/value/bar/1");
        assert_eq!(raw.cut(), r#"{"k":"caf\u00e9"}"#);
        assert_eq!(Raw::at(body.clone(), "/entry/#", [7, 0, 0]).cut(), body);
        assert_eq!(Raw::whole(Bytes::from_static(b"\xff")).cut(), &b"\xff"[..]);
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
            assert!(event.as_inbound().is_some() && event.to_answer().is_none(), "{event:?}");
        }
        assert!(text("Please stop the noise").to_answer().is_some());
    }

    #[test]
    fn a_stop_word_is_the_message_and_an_opt_out() {
        let events = with_opt_outs(vec![text("Hello"), text("STOP"), text("start")]);
        let kinds: Vec<_> = events.iter().map(|e| matches!(e, Event::OptOut(o) if !o.resume)).collect();
        assert_eq!(kinds, [false, false, true, false, false]);
        assert!(matches!(&events[4], Event::OptOut(o) if o.resume));
        assert_eq!(events[2].id(), "test/desk/opt-out/m1");
    }

    #[test]
    fn an_echo_of_ours_is_no_opt_out() {
        let Event::Inbound(mut inbound) = text("STOP") else { unreachable!() };
        inbound.echo = true;
        assert_eq!(with_opt_outs(vec![inbound.into()]).len(), 1);
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
        let event: Event = Unrecognised::new(envelope(Raw::whole(bytes.clone())), "body").into();
        let stored: Event = serde_json::from_str(&serde_json::to_string(&event).unwrap()).unwrap();
        assert_eq!((stored.envelope().raw.cut(), stored.id()), (bytes, event.id()));
    }
}
