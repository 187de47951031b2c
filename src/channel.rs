//! The one trait that everything here shares.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;

use crate::media::MediaStream;
use crate::model::address::Address;
use crate::model::error::{Error, Result};
use crate::model::event::Inbound;
use crate::model::health::Health;
use crate::model::info::Info;
use crate::model::lookup::{LookupOutcome, LookupQuery};
use crate::model::message::{Accepted, Media, MediaRef, Message};
use crate::model::poll::{Cursor, Page};
use crate::plan::Plan;
use crate::webhook;

/// A medium through a gateway with one account: it sends, and it receives.
///
/// Embedders call it, mostly as `Arc<dyn Channel>`, with the conveniences of [`ChannelExt`]. Integrators implement it:
/// [`info`](Self::info), [`send`](Self::send) and [`receive`](Self::receive) must be written, and each other method
/// refuses until it is written and its flag in [`Capability`](crate::Capability) is set.
///
/// # Contract
/// - `send` begins with [`Info::prepare`], so that what the channel cannot carry is refused before the network.
/// - One `send` makes at most one call that a resident can see, and never a second one by itself.
/// - A failed `send` says truthfully in [`Error::outcome`](crate::Error::outcome) whether the message may have gone.
/// - `receive` verifies, reads and returns; it stores nothing and calls nobody. What it does not know it returns as
///   [`Event::Unrecognised`](crate::Event::Unrecognised), and never as an error.
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
    /// for the same messages. Requires [`Capability::poll`](crate::Capability::poll).
    async fn poll(&self, after: Option<&Cursor>) -> Result<Page> {
        let _ = after;
        Err(unsupported(self.info(), "be polled"))
    }

    /// Asks the gateway what became of a message, above all of one whose outcome is unknown.
    ///
    /// Requires [`Capability::look_up`](crate::Capability::look_up).
    async fn look_up(&self, sent: &LookupQuery) -> Result<LookupOutcome> {
        let _ = sent;
        Err(unsupported(self.info(), "look messages up"))
    }

    /// Hands the gateway a file that messages can then refer to. No resident sees it, so it may be tried again.
    ///
    /// Requires [`Capability::upload_media`](crate::Capability::upload_media).
    async fn upload_media(&self, media: &Media, bytes: MediaStream) -> Result<MediaRef> {
        let _ = (media, bytes);
        Err(unsupported(self.info(), "take uploads"))
    }

    /// Fetches a file that the gateway holds: from its own hosts only, up to its cap, hash checked where it gave one.
    ///
    /// Requires [`Capability::fetch_media`](crate::Capability::fetch_media).
    async fn fetch_media(&self, media: &MediaRef) -> Result<MediaStream> {
        let _ = media;
        Err(unsupported(self.info(), "fetch files"))
    }

    /// Shows the resident that their message was read, or that somebody is typing.
    ///
    /// Requires [`Capability::read`](crate::Capability::read) or [`Capability::typing`](crate::Capability::typing).
    async fn send_indicator(&self, inbound: &Inbound, signal: Indicator) -> Result<()> {
        let _ = (inbound, signal);
        Err(unsupported(self.info(), "show signals"))
    }

    /// Asks the gateway whether credentials and settings are in order, without sending anything.
    ///
    /// Requires [`Capability::health`](crate::Capability::health).
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
    let message = Message::text(inbound.reply_address().clone(), text).purpose(crate::model::message::Purpose::Reply);
    Ok(if info.capability.reply_to { message.reply_to(inbound.id.clone()) } else { message })
}

/// A sign to the resident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indicator {
    /// Their message was read.
    Read,
    /// Somebody is typing. On WhatsApp that marks the message read as well.
    Typing,
}

/// A future of a [`Channel`]'s method, as [`async_trait`](crate::async_trait) writes it.
pub(crate) type Answering<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Writes methods of a [`Channel`] that hand on to another channel, without boxing the future a second time.
macro_rules! hand_on {
    ($self:ident => $inner:expr; $($method:ident)*) => {
        $($crate::channel::hand_on!(@$method $self $inner);)*
    };
    (@info $self:ident $inner:expr) => {
        fn info(&$self) -> &$crate::model::info::Info {
            $inner.info()
        }
    };
    (@send $self:ident $inner:expr) => {
        fn send<'a, 'b, 'c>(
            &'a $self,
            message: &'b $crate::model::message::Message,
        ) -> $crate::channel::Answering<'c, $crate::model::message::Accepted>
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
            after: Option<&'b $crate::model::poll::Cursor>,
        ) -> $crate::channel::Answering<'c, $crate::model::poll::Page>
        where 'a: 'c, 'b: 'c, Self: 'c {
            $inner.poll(after)
        }
    };
    (@look_up $self:ident $inner:expr) => {
        fn look_up<'a, 'b, 'c>(
            &'a $self,
            sent: &'b $crate::model::lookup::LookupQuery,
        ) -> $crate::channel::Answering<'c, $crate::model::lookup::LookupOutcome>
        where 'a: 'c, 'b: 'c, Self: 'c {
            $inner.look_up(sent)
        }
    };
    (@upload_media $self:ident $inner:expr) => {
        fn upload_media<'a, 'b, 'c>(
            &'a $self,
            media: &'b $crate::model::message::Media,
            bytes: $crate::media::MediaStream,
        ) -> $crate::channel::Answering<'c, $crate::model::message::MediaRef>
        where 'a: 'c, 'b: 'c, Self: 'c {
            $inner.upload_media(media, bytes)
        }
    };
    (@fetch_media $self:ident $inner:expr) => {
        fn fetch_media<'a, 'b, 'c>(
            &'a $self,
            media: &'b $crate::model::message::MediaRef,
        ) -> $crate::channel::Answering<'c, $crate::media::MediaStream>
        where 'a: 'c, 'b: 'c, Self: 'c {
            $inner.fetch_media(media)
        }
    };
    (@signal $self:ident $inner:expr) => {
        fn send_indicator<'a, 'b, 'c>(
            &'a $self,
            inbound: &'b $crate::model::event::Inbound,
            signal: $crate::channel::Indicator,
        ) -> $crate::channel::Answering<'c, ()>
        where 'a: 'c, 'b: 'c, Self: 'c {
            $inner.send_indicator(inbound, signal)
        }
    };
    (@health $self:ident $inner:expr) => {
        fn health<'a, 'c>(&'a $self) -> $crate::channel::Answering<'c, $crate::model::health::Health>
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
    use crate::model::address::Medium;
    use crate::model::clock::Timestamp;

    fn named(key: impl Into<String>) -> Message {
        Message::text(Address::phone("07700 900123").unwrap(), "On Tuesday.").key(key)
    }

    fn info(limit: Option<usize>) -> Info {
        Info::new("acme", Medium::Sms, "desk").with_capability(|can| {
            can.max_reference = limit;
            can.text = Some(crate::model::capability::TextLimit::characters(918));
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
