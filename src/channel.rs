//! The one trait that everything here shares.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::address::{Address, Medium};
use crate::capability::Capability;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::event::{Delivery, Envelope, Event, Inbound, Raw, with_opt_outs};
use crate::id::{AccountId, Digest, MessageId};
use crate::media::MediaStream;
use crate::message::{Accepted, Media, MediaRef, Message};
use crate::plan::Plan;
use crate::webhook;

/// A medium through a gateway with one account: it sends, and it receives.
///
/// Embedders call it, mostly as `Arc<dyn Channel>`, with the conveniences of [`ChannelExt`]. Integrators implement it:
/// [`info`](Self::info), [`send`](Self::send) and [`receive`](Self::receive) must be written, and each other method
/// refuses until it is written and its flag in [`Capability`] is set.
///
/// # Contract
/// - `send` begins with [`Info::prepare`], so that what the channel cannot carry is refused before the network.
/// - One `send` makes at most one call that a resident can see, and never a second one by itself.
/// - A failed `send` says truthfully in [`Error::outcome`](crate::Error::outcome) whether the message may have gone.
/// - `receive` verifies, reads and returns; it stores nothing and calls nobody. What it does not know it returns as
///   [`Event::Unrecognised`], and never as an error.
/// - No error, `Debug` or log line holds a secret, a person or a text.
/// - The future of any method may be dropped at any time; the channel stays usable. A `send` that was dropped, by a time-out
///   of one's own say, may have gone: its outcome is unknown.
#[async_trait]
pub trait Channel: fmt::Debug + Send + Sync + 'static {
    /// Who this channel is and what it can do. Immutable.
    fn info(&self) -> &Info;

    /// Hands one message to the gateway.
    ///
    /// `Ok` means accepted, not delivered: deliveries come as events.
    ///
    /// # Errors
    /// See [`Error::outcome`](crate::Error::outcome) before doing anything else with one.
    async fn send(&self, message: &Message) -> Result<Accepted>;

    /// Turns a webhook's request into events, once its signature is verified.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthenticated`](crate::ErrorKind::Unauthenticated) when it is not the gateway's own,
    /// [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge) over 4 MiB; answer with
    /// [`Error::webhook_status`](crate::Error::webhook_status). A send-only channel refuses all.
    async fn receive(&self, request: &webhook::Request) -> Result<webhook::Received>;

    /// Returns the proof of this channel's webhooks, if another channel of its gateway and medium can be asked instead.
    ///
    /// Channels with equal verifiers have to make the same events of one request, but for ownership: then a webhook costs
    /// the same however many of them are behind its address. With none, the channel is asked for every webhook.
    fn verifier(&self) -> Option<&webhook::Verifier> {
        None
    }

    /// Fetches events that came since `after`, oldest first; with none, all that the gateway still has.
    ///
    /// Asking with a cursor acknowledges everything up to it. The events equal those of [`receive`](Self::receive)
    /// for the same messages. Requires [`Capability::poll`].
    async fn poll(&self, after: Option<&Cursor>) -> Result<Page> {
        let _ = after;
        Err(unsupported(self.info(), "be polled"))
    }

    /// Asks the gateway what became of a message, above all of one whose outcome is unknown.
    ///
    /// Requires [`Capability::look_up`].
    async fn look_up(&self, sent: &LookupQuery) -> Result<LookupOutcome> {
        let _ = sent;
        Err(unsupported(self.info(), "look messages up"))
    }

    /// Hands the gateway a file that messages can then refer to. No resident sees it, so it may be tried again.
    ///
    /// Requires [`Capability::upload_media`].
    async fn upload_media(&self, media: &Media, bytes: MediaStream) -> Result<MediaRef> {
        let _ = (media, bytes);
        Err(unsupported(self.info(), "take uploads"))
    }

    /// Fetches a file that the gateway holds: from its own hosts only, up to its cap, hash checked where it gave one.
    ///
    /// Requires [`Capability::fetch_media`].
    async fn fetch_media(&self, media: &MediaRef) -> Result<MediaStream> {
        let _ = media;
        Err(unsupported(self.info(), "fetch files"))
    }

    /// Shows the resident that their message was read, or that somebody is typing.
    ///
    /// Requires [`Capability::read`] or [`Capability::typing`].
    async fn send_indicator(&self, inbound: &Inbound, signal: Indicator) -> Result<()> {
        let _ = (inbound, signal);
        Err(unsupported(self.info(), "show signals"))
    }

    /// Asks the gateway whether credentials and settings are in order, without sending anything.
    ///
    /// Requires [`Capability::health`].
    async fn health(&self) -> Result<Health> {
        Err(unsupported(self.info(), "report on its health"))
    }
}

const _: fn(&dyn Channel) = |_| {};

fn unsupported(info: &Info, what: &str) -> Error {
    Error::unsupported(format!("this channel cannot {what}")).with_gateway(info.gateway)
}

/// Conveniences that every channel has.
pub trait ChannelExt: Channel {
    /// What would be sent, before sending: parts, segments, losses, and what stands against it. Pure and offline.
    fn plan(&self, message: &Message) -> Plan {
        Plan::new(message, self.info())
    }

    /// Whether this channel can carry the message as it is: offline, and the same that `send` begins with.
    ///
    /// # Errors
    /// The first thing that stands against it, with its field and rule.
    fn check(&self, message: &Message) -> Result<()> {
        self.info().check(message).map(|_| ())
    }

    /// Sends a text.
    ///
    /// # Errors
    /// Those of [`Channel::send`].
    fn send_text(&self, to: &Address, text: impl Into<String>) -> impl Future<Output = Result<Accepted>> + Send {
        let message = Message::text(to.clone(), text);
        async move { self.send(&message).await }
    }

    /// Answers a resident's message with a text: to its conversation or its writer, quoting it where the channel can.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) for one that is not [live](Inbound::is_live), and
    /// those of [`Channel::send`].
    fn reply(&self, inbound: &Inbound, text: impl Into<String>) -> impl Future<Output = Result<Accepted>> + Send {
        let message = reply_to(inbound, self.info(), text.into());
        async move { self.send(&message?).await }
    }
}

impl<C: Channel + ?Sized> ChannelExt for C {}

fn reply_to(inbound: &Inbound, info: &Info, text: String) -> Result<Message> {
    inbound.check_answerable()?;
    let message = Message::text(inbound.reply_address().clone(), text).purpose(crate::Purpose::Reply);
    Ok(if info.capability.reply_to { message.reply_to(inbound.id.clone()) } else { message })
}

/// The rule that an adapter states for addresses: what is wrong with one, in words that follow "to:".
pub type AddressRule = fn(&Address) -> Result<(), &'static str>;

/// The rule that an adapter states for messages, beyond what its [`Capability`] says. The error names the field.
pub type MessageRule = fn(&Message) -> Result<()>;

/// Who a channel is and what it can do.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Info {
    /// The gateway, as the registry names it.
    pub gateway: &'static str,
    /// The gateway whose native content it takes: its own, but for one that speaks another's wire.
    pub wire: &'static str,
    /// The medium.
    pub medium: Medium,
    /// Our own account there.
    pub account: AccountId,
    /// What it can do.
    pub capability: Capability,
    /// What is wrapped around the gateway, outermost first: `retry`, `failover`.
    pub layers: Vec<&'static str>,
    /// The rule for addresses of a medium that this crate does not know.
    pub address_rule: Option<AddressRule>,
    /// The rule for messages, beyond what the capability says.
    pub message_rule: Option<MessageRule>,
    /// How the gateway counts a text against its limit, if it does not count the text as it is.
    pub text_length: Option<fn(&str) -> usize>,
    /// How the gateway rewrites texts before it sends them, if it does.
    pub rewrites: Option<fn(&str) -> Cow<'_, str>>,
}

impl Info {
    /// A channel that sends nothing yet: add to its [`Capability`].
    ///
    /// ```
    /// use civic_messaging::{Info, Medium, TextLimit};
    ///
    /// let info = Info::new("acme", Medium::Sms, "desk").with_capability(|can| {
    ///     can.receive = true;
    ///     can.text = Some(TextLimit::characters(918));
    /// });
    /// ```
    pub fn new(gateway: &'static str, medium: Medium, account: impl Into<AccountId>) -> Self {
        Self {
            gateway,
            wire: gateway,
            medium,
            account: account.into(),
            capability: Capability::default(),
            layers: Vec::new(),
            address_rule: None,
            message_rule: None,
            text_length: None,
            rewrites: None,
        }
    }

    /// Says what the channel can do.
    #[must_use]
    pub fn with_capability(mut self, set: impl FnOnce(&mut Capability)) -> Self {
        set(&mut self.capability);
        self
    }

    /// States the rule for addresses, beyond that they are of the medium.
    #[must_use]
    pub fn with_address_rule(mut self, rule: AddressRule) -> Self {
        self.address_rule = Some(rule);
        self
    }

    /// States the rule for messages, beyond what the capability says: `plan`, `check` and `send` go by it.
    ///
    /// It is asked of the message as it would be sent: degraded where it must be, with its reference as its key, and of
    /// each part where it takes several.
    #[must_use]
    pub fn with_message_rule(mut self, rule: MessageRule) -> Self {
        self.message_rule = Some(rule);
        self
    }

    /// The name under which the gateway gets a message: its key, or a digest of the key where that is too long.
    ///
    /// The limit is [`Capability::max_reference`], in bytes. A key over it becomes its SHA-256 in ASCII letters and digits,
    /// cut to the limit, which is the same after a restart and in every program. `None` for a message without a key, and
    /// where the gateway takes no reference.
    ///
    /// What [`prepare`](Self::prepare) returns has it as its key. Ask for it wherever a message was not prepared: in
    /// [`look_up`](Channel::look_up), and to find the message of a [`Delivery::key`]. A channel of several gateways says
    /// here what fits all of them, and each is handed its own.
    ///
    /// ```
    /// use civic_messaging::{Address, Info, Medium, Message};
    ///
    /// let info = Info::new("acme", Medium::Sms, "desk").with_capability(|can| can.max_reference = Some(20));
    /// let message = Message::text(Address::phone("07700 900123")?, "On Tuesday.");
    /// let reference = |key: &str| info.reference(&message.clone().key(key)).map(|reference| reference.into_owned());
    /// assert_eq!(reference("waste-4711").as_deref(), Some("waste-4711"));
    /// assert_eq!(reference("waste-2026-11-28-route-4711").map(|reference| reference.len()), Some(20));
    /// # Ok::<(), civic_messaging::Error>(())
    /// ```
    pub fn reference<'m>(&self, message: &'m Message) -> Option<Cow<'m, str>> {
        let limit = self.capability.reference_limit();
        let key = message.key.as_deref().filter(|_| limit > 0)?;
        Some(match key.len() <= limit {
            true => Cow::Borrowed(key),
            false => Cow::Owned(Digest::sha256(key.as_bytes()).to_base62(limit)),
        })
    }

    /// The message with its reference in place of its key.
    pub(crate) fn with_reference<'m>(&self, mut message: Cow<'m, Message>) -> Cow<'m, Message> {
        if message.key.as_ref().is_some_and(|key| key.len() > self.capability.reference_limit()) {
            let reference = self.reference(&message).map(Cow::into_owned);
            message.to_mut().key = reference;
        }
        message
    }

    /// Names a layer that is around all that was there: for those who write one.
    #[must_use]
    pub fn with_layer(mut self, layer: &'static str) -> Self {
        self.layers.insert(0, layer);
        self
    }

    /// The first line of every `send`: the message as this channel will carry it, or why it cannot.
    ///
    /// Degrades the content where the message allows it, puts the [`reference`](Self::reference) in place of the key, and
    /// borrows where there is nothing to change.
    ///
    /// # Errors
    /// What stands against it, with its field and rule; [`Outcome::NotSent`](crate::Outcome::NotSent). Among them: it
    /// would take several messages (see [`Plan::split`]), or its `not_after` has passed.
    pub fn prepare<'m>(&self, message: &'m Message, now: Timestamp) -> Result<Cow<'m, Message>> {
        if message.not_after.is_some_and(|not_after| now > not_after) {
            return Err(Error::invalid("not_after", "has passed").with_gateway(self.gateway));
        }
        self.check(message)
    }

    /// The envelope of what a webhook tells as a whole, of the channel's own account and at the time of arrival. Its
    /// fields can be set to what the gateway says.
    pub fn envelope(&self, verified: &webhook::Verified) -> Envelope {
        let raw = if verified.body().is_empty() {
            // By GET, the query is all there is.
            Raw::new(Bytes::copy_from_slice(verified.query().unwrap_or_default().as_bytes()))
        } else {
            Raw::new(verified.body().clone())
        };
        Envelope::new(self.gateway, self.medium.clone(), self.account.clone(), verified.arrived(), raw)
    }
}

/// A place in what a gateway has to tell. Opaque: keep it and hand it back. It may be made of the ids of messages, so
/// `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(String);

impl Cursor {
    /// A place as the adapter writes it.
    pub fn new(place: impl Into<String>) -> Self {
        Self(place.into())
    }

    /// The place as the adapter wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor").finish_non_exhaustive()
    }
}

/// Events from a poll.
#[non_exhaustive]
#[derive(Debug)]
pub struct Page {
    /// The events, oldest first.
    pub events: Vec<Event>,
    /// Where to go on; hand it to the next poll once the events are safe. None: where it was.
    pub next: Option<Cursor>,
    /// Whether there is more to fetch at once.
    pub more: bool,
}

impl Page {
    /// Events, and where to go on.
    pub fn new(events: Vec<Event>, next: Option<Cursor>) -> Self {
        Self { events: with_opt_outs(events), next, more: false }
    }

    /// Says whether there is more to fetch at once.
    #[must_use]
    pub fn with_more(mut self, more: bool) -> Self {
        self.more = more;
        self
    }
}

/// What is known of a message that was sent, or may have been.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct LookupQuery {
    /// The message.
    pub message: Message,
    /// When the send began.
    pub at: Timestamp,
    /// The gateway's id, if it answered.
    pub id: Option<MessageId>,
    /// The gateway that it was handed to, as [`Error::gateway`](crate::Error::gateway) or
    /// [`Accepted::gateway`] names it; needed only where a channel has several.
    pub gateway: Option<String>,
}

impl LookupQuery {
    /// A message whose send began at this moment.
    pub fn new(message: Message, at: Timestamp) -> Self {
        Self { message, at, id: None, gateway: None }
    }

    /// Adds the gateway's id.
    #[must_use]
    pub fn with_id(mut self, id: MessageId) -> Self {
        self.id = Some(id);
        self
    }

    /// Says which gateway it was handed to.
    #[must_use]
    pub fn gateway(mut self, gateway: impl Into<String>) -> Self {
        self.gateway = Some(gateway.into());
        self
    }
}

/// What a gateway knows of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum LookupOutcome {
    /// The gateway has the message: its deliveries, several if it was sent more than once.
    Found(Vec<Delivery>),
    /// The gateway certainly does not have the message.
    NotFound,
    /// Proves nothing: the gateway may still be filing the message, or cannot distinguish it from others.
    Inconclusive,
}

/// A sign to the resident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indicator {
    /// Their message was read.
    Read,
    /// Somebody is typing. On WhatsApp that marks the message read as well.
    Typing,
}

/// Whether a channel's credentials and settings are in order.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// What was looked at.
    pub checks: Vec<Check>,
}

/// One thing that was looked at.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What it is: `credentials`, `template`, `webhook`.
    pub name: &'static str,
    /// How it came out.
    pub grade: CheckStatus,
    /// What was found, in plain words, and what to do.
    pub detail: Cow<'static, str>,
}

/// How a [`Check`] came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckStatus {
    /// It does not work.
    Fail,
    /// It works.
    Pass,
    /// It could not be told.
    Unknown,
    /// It works, but not as a live service wants it.
    Warn,
}

impl Health {
    /// Adds what was found.
    #[must_use]
    pub fn check_result(
        mut self,
        name: &'static str,
        grade: CheckStatus,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.checks.push(Check { name, grade, detail: detail.into() });
        self
    }

    /// Whether nothing failed.
    pub fn is_good(&self) -> bool {
        self.checks.iter().all(|check| check.grade != CheckStatus::Fail)
    }

    /// What was found under this name.
    pub fn check(&self, name: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.name == name)
    }
}

/// A future of a [`Channel`]'s method, as [`async_trait`](crate::async_trait) writes it.
pub(crate) type Answering<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Writes methods of a [`Channel`] that hand on to another channel, without boxing the future a second time.
macro_rules! hand_on {
    ($self:ident => $inner:expr; $($method:ident)*) => {
        $($crate::channel::hand_on!(@$method $self $inner);)*
    };
    (@info $self:ident $inner:expr) => {
        fn info(&$self) -> &$crate::channel::Info {
            $inner.info()
        }
    };
    (@send $self:ident $inner:expr) => {
        fn send<'a, 'b, 'c>(
            &'a $self,
            message: &'b $crate::message::Message,
        ) -> $crate::channel::Answering<'c, $crate::message::Accepted>
        where 'a: 'c, 'b: 'c, Self: 'c {
            $inner.send(message)
        }
    };
    (@receive $self:ident $inner:expr) => {
        fn receive<'a, 'b, 'c>(
            &'a $self,
            request: &'b $crate::webhook::Request,
        ) -> $crate::channel::Answering<'c, $crate::webhook::Received>
        where 'a: 'c, 'b: 'c, Self: 'c {
            $inner.receive(request)
        }
    };
    (@verifier $self:ident $inner:expr) => {
        fn verifier(&$self) -> Option<&$crate::webhook::Verifier> {
            $inner.verifier()
        }
    };
    (@poll $self:ident $inner:expr) => {
        fn poll<'a, 'b, 'c>(
            &'a $self,
            after: Option<&'b $crate::channel::Cursor>,
        ) -> $crate::channel::Answering<'c, $crate::channel::Page>
        where 'a: 'c, 'b: 'c, Self: 'c {
            $inner.poll(after)
        }
    };
    (@look_up $self:ident $inner:expr) => {
        fn look_up<'a, 'b, 'c>(
            &'a $self,
            sent: &'b $crate::channel::LookupQuery,
        ) -> $crate::channel::Answering<'c, $crate::channel::LookupOutcome>
        where 'a: 'c, 'b: 'c, Self: 'c {
            $inner.look_up(sent)
        }
    };
    (@upload_media $self:ident $inner:expr) => {
        fn upload_media<'a, 'b, 'c>(
            &'a $self,
            media: &'b $crate::message::Media,
            bytes: $crate::media::MediaStream,
        ) -> $crate::channel::Answering<'c, $crate::message::MediaRef>
        where 'a: 'c, 'b: 'c, Self: 'c {
            $inner.upload_media(media, bytes)
        }
    };
    (@fetch_media $self:ident $inner:expr) => {
        fn fetch_media<'a, 'b, 'c>(
            &'a $self,
            media: &'b $crate::message::MediaRef,
        ) -> $crate::channel::Answering<'c, $crate::media::MediaStream>
        where 'a: 'c, 'b: 'c, Self: 'c {
            $inner.fetch_media(media)
        }
    };
    (@signal $self:ident $inner:expr) => {
        fn send_indicator<'a, 'b, 'c>(
            &'a $self,
            inbound: &'b $crate::event::Inbound,
            signal: $crate::channel::Indicator,
        ) -> $crate::channel::Answering<'c, ()>
        where 'a: 'c, 'b: 'c, Self: 'c {
            $inner.send_indicator(inbound, signal)
        }
    };
    (@health $self:ident $inner:expr) => {
        fn health<'a, 'c>(&'a $self) -> $crate::channel::Answering<'c, $crate::channel::Health>
        where 'a: 'c, Self: 'c {
            $inner.health()
        }
    };
}
pub(crate) use hand_on;

#[deny(clippy::missing_trait_methods)]
impl<C: Channel + ?Sized> Channel for Arc<C> {
    hand_on!(self => (**self); info send receive verifier poll look_up upload_media fetch_media signal health);
}

#[deny(clippy::missing_trait_methods)]
impl<C: Channel + ?Sized> Channel for Box<C> {
    hand_on!(self => (**self); info send receive verifier poll look_up upload_media fetch_media signal health);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(key: impl Into<String>) -> Message {
        Message::text(Address::phone("07700 900123").unwrap(), "On Tuesday.").key(key)
    }

    fn info(limit: Option<usize>) -> Info {
        Info::new("acme", Medium::Sms, "desk").with_capability(|can| {
            can.max_reference = limit;
            can.text = Some(crate::TextLimit::characters(918));
        })
    }

    #[test]
    fn reference_is_counted_in_bytes() {
        let of = |limit, key: &str| info(Some(limit)).reference(&named(key)).unwrap().into_owned();
        assert_eq!(of(8, "ŵŵŵŵ"), "ŵŵŵŵ");
        assert_ne!(of(7, "ŵŵŵŵ"), "ŵŵŵŵ");
        assert_eq!(of(7, "ŵŵŵŵ").len(), 7);
        assert_eq!(info(None).reference(&named("k".repeat(256))).unwrap(), "k".repeat(256));
        assert_eq!(info(None).reference(&named("k".repeat(257))).unwrap().len(), 43);
    }

    #[test]
    fn message_without_a_key_has_no_reference() {
        let mut message = named("k");
        message.key = None;
        assert_eq!(info(None).reference(&message), None);
        let none = info(Some(0));
        assert_eq!(none.reference(&named("k")), None);
        assert_eq!(none.prepare(&named("k"), Timestamp::default()).unwrap().key, None);
    }

    proptest! {
        /// Any key fits any limit, is not changed where it fits already, and is one name for each.
        #[test]
        fn reference_fits_and_names_one_key(key in "\\PC{1,1000}", other in "\\PC{1,1000}", limit in 8usize..300) {
            let info = info(Some(limit));
            let message = named(&*key);
            let reference = info.reference(&message).unwrap().into_owned();
            prop_assert!(!reference.is_empty() && reference.len() <= limit);
            prop_assert_eq!(key.len() <= limit, reference == key);
            prop_assert!(reference == key || reference.bytes().all(|b| b.is_ascii_alphanumeric()));
            prop_assert!(info.reference(&named(&*reference)).as_deref() == Some(&*reference));
            let prepared = info.prepare(&message, Timestamp::default()).unwrap();
            prop_assert_eq!(prepared.key.as_deref(), Some(&*reference));
            let is_same = info.reference(&named(&*other)).as_deref() == Some(&*reference);
            prop_assert_eq!(key == other, is_same);
        }
    }
}
