//! Who a channel is, and what it can do.

use std::borrow::Cow;

use crate::model::address::{Address, Medium};
use crate::model::capability::Capability;
use crate::model::digest::Digest;
use crate::model::error::Result;
use crate::model::id::AccountId;
use crate::model::message::Message;

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
    /// [`look_up`](crate::Channel::look_up), and to find the message of a [`Delivery::key`](crate::Delivery::key). A channel of several gateways says
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
}
