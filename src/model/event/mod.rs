//! Inbound events: residents' messages, deliveries, opt-outs, address changes, account changes.

mod account;
mod delivery;
mod inbound;
mod opt_out;

use std::borrow::Cow;
use std::fmt;

use base64::prelude::{BASE64_STANDARD as BASE64, Engine};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use self::account::{Account, AddressChanged, Topic, Unrecognised, Upcoming};
pub use self::delivery::{Delivery, DeliveryOf, Failure};
pub(crate) use self::inbound::opt_out_keyword;
pub use self::inbound::{Inbound, InboundContent, Profile, Referral, Selection};
pub(crate) use self::opt_out::with_opt_outs;
pub use self::opt_out::{OptOut, OptOutScope};
use crate::model::address::{Address, Medium};
use crate::model::clock::Timestamp;
use crate::model::digest::Digest;
use crate::model::error::Result;
use crate::model::id::{AccountId, MessageId};
use crate::model::json::digest;

/// An event from a gateway, received by webhook or by poll.
///
/// Gateways deliver events repeatedly and out of order: deduplicate by [`id`](Self::id), and use
/// [`DeliveryState::join`](crate::DeliveryState::join) to keep a delivery state from going backwards.
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
