//! The `Channel` trait and its extension methods.

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

/// A medium through a gateway with one account: sends and receives.
///
/// Embedders call it, usually as `Arc<dyn Channel>`, with the conveniences of [`ChannelExt`]. Integrators implement it
/// with `#[async_trait]`: [`info`](Self::info), [`send`](Self::send) and [`receive`](Self::receive) are required. Every
/// other method returns `Unsupported` until it is implemented and its flag in [`Capability`](crate::Capability) is set.
///
/// # Contract
/// - `send` starts with [`Info::prepare`], so that unsupported content is rejected before the network.
/// - One `send` makes at most one call that a resident can see. It never retries.
/// - [`Error::outcome`](crate::Error::outcome) of a failed `send` is accurate: `Unknown` whenever the gateway may have
///   accepted the message.
/// - `receive` verifies and parses; it stores nothing and makes no calls. Data that it does not recognise becomes
///   [`Event::Unrecognised`](crate::Event::Unrecognised), never an error.
/// - No error, `Debug` output or log line contains a secret, personal data or a message text.
/// - Every future may be dropped at any time and leaves the channel usable. The outcome of a dropped `send`, for
///   example after the caller's own timeout, is unknown.
#[async_trait]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `Channel`",
    label = "does not implement `Channel`",
    note = "write `#[async_trait] impl Channel for {Self}` with `info`, `send` and `receive`; `async_trait` is \
            re-exported as `civic_messaging::async_trait`"
)]
pub trait Channel: fmt::Debug + Send + Sync + 'static {
    /// Returns the gateway, medium, account and capability of this channel. Immutable.
    fn info(&self) -> &Info;

    /// Sends one message to the gateway.
    ///
    /// `Ok` means accepted, not delivered: delivery states arrive as events.
    ///
    /// # Errors
    /// Check [`Error::outcome`](crate::Error::outcome) before anything else.
    async fn send(&self, message: &Message) -> Result<Accepted>;

    /// Verifies a webhook request's signature and parses its events.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthenticated`](crate::ErrorKind::Unauthenticated) if the request is not from the gateway,
    /// [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge) over 4 MiB. Respond with
    /// [`Error::webhook_status`](crate::Error::webhook_status). A send-only channel rejects every request.
    async fn receive(&self, request: &webhook::Request) -> Result<webhook::Received>;

    /// Returns the verifier of this channel's webhooks, if channels with an equal verifier can parse them instead.
    ///
    /// Channels with equal verifiers must parse a request into the same events, except for ownership: one of them then
    /// handles a webhook for all, however many share the endpoint. With `None`, the switchboard calls `receive` of this
    /// channel for every webhook.
    fn verifier(&self) -> Option<&webhook::Verifier> {
        None
    }

    /// Fetches events after `after`, oldest first, or all that the gateway still holds if it is `None`.
    ///
    /// A poll with a cursor acknowledges everything up to that cursor. The events equal those of
    /// [`receive`](Self::receive) for the same messages. Requires [`Capability::poll`](crate::Capability::poll).
    async fn poll(&self, after: Option<&Cursor>) -> Result<Page> {
        let _ = after;
        Err(unsupported(self.info(), "be polled"))
    }

    /// Looks up a message at the gateway, usually one with an unknown outcome.
    ///
    /// Requires [`Capability::look_up`](crate::Capability::look_up).
    async fn look_up(&self, query: &LookupQuery) -> Result<LookupOutcome> {
        let _ = query;
        Err(unsupported(self.info(), "look messages up"))
    }

    /// Uploads a file that messages can then refer to. Invisible to residents, so it may be retried.
    ///
    /// Requires [`Capability::upload_media`](crate::Capability::upload_media).
    async fn upload_media(&self, media: &Media, bytes: MediaStream) -> Result<MediaRef> {
        let _ = (media, bytes);
        Err(unsupported(self.info(), "accept uploads"))
    }

    /// Fetches a file from the gateway's own hosts, capped in size, its hash checked where the gateway gives one.
    ///
    /// Requires [`Capability::fetch_media`](crate::Capability::fetch_media).
    async fn fetch_media(&self, media: &MediaRef) -> Result<MediaStream> {
        let _ = media;
        Err(unsupported(self.info(), "fetch files"))
    }

    /// Shows the resident that their message was read, or that a reply is being typed.
    ///
    /// Requires [`Capability::read`](crate::Capability::read) or [`Capability::typing`](crate::Capability::typing).
    async fn send_indicator(&self, inbound: &Inbound, indicator: Indicator) -> Result<()> {
        let _ = (inbound, indicator);
        Err(unsupported(self.info(), "send indicators"))
    }

    /// Checks credentials and settings at the gateway without sending a message.
    ///
    /// Requires [`Capability::health`](crate::Capability::health).
    async fn health(&self) -> Result<Health> {
        Err(unsupported(self.info(), "report its health"))
    }
}

const _: fn(&dyn Channel) = |_| {};

fn unsupported(info: &Info, what: &str) -> Error {
    Error::unsupported(format!("this channel cannot {what}")).with_gateway(info.gateway)
}

/// Convenience methods for every channel.
pub trait ChannelExt: Channel {
    /// Plans a message offline: parts, segments, losses, and the reasons why it cannot be sent.
    fn plan(&self, message: &Message) -> Plan {
        Plan::new(message, self.info())
    }

    /// Checks offline that this channel can carry the message; `send` performs the same check first.
    ///
    /// # Errors
    /// The first reason why it cannot be sent, with the field and the rule.
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

    /// Replies to a resident's message with a text: to its conversation or its sender, quoting it where the channel
    /// can.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) if the message is not [live](Inbound::is_live),
    /// and those of [`Channel::send`].
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

/// A read receipt or typing indicator for the resident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indicator {
    /// The message was read.
    Read,
    /// A reply is being typed. On WhatsApp this also marks the message as read.
    Typing,
}

/// The boxed future of a [`Channel`] method, as [`async_trait`](crate::async_trait) generates it.
pub(crate) type ChannelFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Generates [`Channel`] methods that delegate to another channel without boxing the future a second time.
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
        ) -> $crate::channel::ChannelFuture<'c, $crate::model::message::Accepted>
        where 'a: 'c, 'b: 'c, Self: 'c {
            $inner.send(message)
        }
    };
    (@receive $self:ident $inner:expr) => {
        fn receive<'a, 'b, 'c>(
            &'a $self,
            request: &'b $crate::webhook::Request,
        ) -> $crate::channel::ChannelFuture<'c, $crate::webhook::Received>
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
        ) -> $crate::channel::ChannelFuture<'c, $crate::model::poll::Page>
        where 'a: 'c, 'b: 'c, Self: 'c {
            $inner.poll(after)
        }
    };
    (@look_up $self:ident $inner:expr) => {
        fn look_up<'a, 'b, 'c>(
            &'a $self,
            query: &'b $crate::model::lookup::LookupQuery,
        ) -> $crate::channel::ChannelFuture<'c, $crate::model::lookup::LookupOutcome>
        where 'a: 'c, 'b: 'c, Self: 'c {
            $inner.look_up(query)
        }
    };
    (@upload_media $self:ident $inner:expr) => {
        fn upload_media<'a, 'b, 'c>(
            &'a $self,
            media: &'b $crate::model::message::Media,
            bytes: $crate::media::MediaStream,
        ) -> $crate::channel::ChannelFuture<'c, $crate::model::message::MediaRef>
        where 'a: 'c, 'b: 'c, Self: 'c {
            $inner.upload_media(media, bytes)
        }
    };
    (@fetch_media $self:ident $inner:expr) => {
        fn fetch_media<'a, 'b, 'c>(
            &'a $self,
            media: &'b $crate::model::message::MediaRef,
        ) -> $crate::channel::ChannelFuture<'c, $crate::media::MediaStream>
        where 'a: 'c, 'b: 'c, Self: 'c {
            $inner.fetch_media(media)
        }
    };
    (@signal $self:ident $inner:expr) => {
        fn send_indicator<'a, 'b, 'c>(
            &'a $self,
            inbound: &'b $crate::model::event::Inbound,
            indicator: $crate::channel::Indicator,
        ) -> $crate::channel::ChannelFuture<'c, ()>
        where 'a: 'c, 'b: 'c, Self: 'c {
            $inner.send_indicator(inbound, indicator)
        }
    };
    (@health $self:ident $inner:expr) => {
        fn health<'a, 'c>(&'a $self) -> $crate::channel::ChannelFuture<'c, $crate::model::health::Health>
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
        /// Any key fits any limit, is unchanged where it already fits, and has a reference of its own.
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
