//! A channel's description of itself.

use std::borrow::Cow;
use std::time::Duration;

use crate::model::address::{Address, Medium};
use crate::model::capability::Capability;
use crate::model::clock::Timestamp;
use crate::model::digest::Digest;
use crate::model::error::Result;
use crate::model::event::{Envelope, Raw};
use crate::model::id::AccountId;
use crate::model::message::Message;

/// The time before the end of an idempotency window from which a message is not sent again.
const RESEND_MARGIN: Duration = Duration::from_secs(120);

/// An adapter's rule for addresses. An error completes the phrase "to: …".
pub type AddressRule = fn(&Address) -> Result<(), &'static str>;

/// An adapter's rule for messages, in addition to its [`Capability`]. An error names the field.
pub type MessageRule = fn(&Message) -> Result<()>;

/// The gateway, medium, account and capability of a channel.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Info {
    /// The gateway's name in the registry.
    pub gateway: &'static str,
    /// The gateway whose native content it accepts: its own, unless it implements another gateway's API.
    pub wire: &'static str,
    /// The medium.
    pub medium: Medium,
    /// The council's account at the gateway.
    pub account: AccountId,
    /// The features and limits of the channel.
    pub capability: Capability,
    /// The layers around the gateway, outermost first: `retry`, `failover`.
    pub layers: Vec<&'static str>,
    /// The address rule of a medium that this crate does not implement.
    pub address_rule: Option<AddressRule>,
    /// The message rule, in addition to the capability.
    pub message_rule: Option<MessageRule>,
    /// The gateway's own count of a text's length, if it is not that of the text as written.
    pub text_length: Option<fn(&str) -> usize>,
    /// The gateway's rewriting of texts before it sends them, if any.
    pub rewrites: Option<fn(&str) -> Cow<'_, str>>,
}

impl Info {
    /// Creates the description of a channel with an empty [`Capability`].
    ///
    /// ```
    /// use civic_messaging::capability::TextLimit;
    /// use civic_messaging::{Info, Medium};
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

    /// Changes the capability.
    #[must_use]
    pub fn with_capability(mut self, set: impl FnOnce(&mut Capability)) -> Self {
        set(&mut self.capability);
        self
    }

    /// Sets the address rule, in addition to the check of the medium.
    #[must_use]
    pub fn with_address_rule(mut self, rule: AddressRule) -> Self {
        self.address_rule = Some(rule);
        self
    }

    /// Sets the message rule, in addition to the capability. `plan`, `check` and `send` all apply it.
    ///
    /// It receives the message as it would be sent: degraded where necessary, with its reference as its key, and each
    /// part separately if there are several.
    #[must_use]
    pub fn with_message_rule(mut self, rule: MessageRule) -> Self {
        self.message_rule = Some(rule);
        self
    }

    /// Returns the reference that the gateway receives: the message's key, or a digest of a key that is too long.
    ///
    /// The limit is [`Capability::max_reference`], in bytes. A key over the limit becomes its SHA-256 in ASCII letters
    /// and digits, cut to the limit; this is stable across restarts and programs. `None` for a message without a key,
    /// and where the gateway takes no reference.
    ///
    /// [`prepare`](Self::prepare) sets it as the key. Call this method for messages that were not prepared: in
    /// [`look_up`](crate::Channel::look_up), and to match a [`Delivery::key`](crate::Delivery::key). A channel of
    /// several gateways returns a reference that fits them all, and passes each gateway its own.
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

    /// Returns the time after its first attempt within which a message may be sent again to the same account, even
    /// after an unknown outcome: the gateway makes no second message.
    ///
    /// It is the gateway's [`idempotency_window`](Capability::idempotency_window), less a tenth, or two minutes if that
    /// is shorter: a request takes time to arrive, and clocks are corrected. `None` without such a window, and for a
    /// message without a [`reference`](Self::reference).
    ///
    /// ```
    /// use std::time::Duration;
    /// use civic_messaging::{Address, Info, Medium, Message};
    ///
    /// const HOUR: Duration = Duration::from_secs(3600);
    /// let info = Info::new("acme", Medium::Sms, "desk").with_capability(|can| can.idempotency_window = Some(12 * HOUR));
    /// let message = Message::text(Address::phone("07700 900123")?, "On Tuesday.");
    /// assert_eq!(info.resend_window(&message), None);
    /// let keyed = message.key("waste-4711");
    /// assert_eq!(info.resend_window(&keyed), Some(12 * HOUR - Duration::from_secs(120)));
    /// # Ok::<(), civic_messaging::Error>(())
    /// ```
    pub fn resend_window(&self, message: &Message) -> Option<Duration> {
        let window = self.capability.idempotency_window?;
        self.reference(message)?;
        Some(window - (window / 10).min(RESEND_MARGIN))
    }

    /// Replaces the message's key with its reference.
    pub(crate) fn with_reference<'m>(&self, mut message: Cow<'m, Message>) -> Cow<'m, Message> {
        if message.key.as_ref().is_some_and(|key| key.len() > self.capability.reference_limit()) {
            let reference = self.reference(&message).map(Cow::into_owned);
            message.to_mut().key = reference;
        }
        message
    }

    /// Creates the envelope of an event of the channel's own account, received by webhook, poll or look-up.
    ///
    /// `at` is the time of arrival, by our clock: pass the gateway's time to [`Envelope::dated`].
    ///
    /// ```
    /// use civic_messaging::event::Raw;
    /// use civic_messaging::{Info, Medium, Timestamp};
    ///
    /// let info = Info::new("acme", Medium::Sms, "desk");
    /// let envelope = info.envelope(Timestamp::from_secs(1_795_000_000), Raw::new(r#"{"id":"M-1"}"#));
    /// assert_eq!((&*envelope.gateway, envelope.account.as_str()), ("acme", "desk"));
    /// ```
    #[inline]
    pub fn envelope(&self, at: Timestamp, raw: Raw) -> Envelope {
        Envelope::new(self.gateway, self.medium.clone(), self.account.clone(), at, raw)
    }

    /// Adds an outermost layer's name. For authors of layers.
    #[must_use]
    pub fn with_layer(mut self, layer: &'static str) -> Self {
        self.layers.insert(0, layer);
        self
    }
}
