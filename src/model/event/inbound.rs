//! Messages from residents.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Envelope;
use crate::medium::sms::{Keyword, keyword, title_keyword};
use crate::model::address::Address;
use crate::model::error::{Error, Result};
use crate::model::id::{Code, Hidden, MessageId, Word};
use crate::model::message::{ContactCard, Location, MediaRef};

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
