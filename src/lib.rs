// The README's examples need its gateways; without them the documentation has its first sentence only.
#![cfg_attr(all(feature = "notify", feature = "reqwest"), doc = include_str!("../README.md"))]
#![cfg_attr(
    not(all(feature = "notify", feature = "reqwest")),
    doc = "Send and receive a council's messages over WhatsApp, Messenger, X and SMS through one typed trait, [`Channel`]."
)]
#![cfg_attr(docsrs, feature(doc_cfg))]
// Nothing that a gateway, a resident or a configuration can write is a panic.
#![cfg_attr(
    not(test),
    warn(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

pub mod adapter;
mod channel;
mod context;
mod gateway;
pub mod layer;
pub mod media;
pub mod medium;
mod mock;
mod model;
pub mod plan;
pub mod policy;
mod registry;
mod settings;
#[cfg(any(feature = "postgres", feature = "sqlite-system"))]
pub mod switchboard;
mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tokens;
pub mod transport;
pub mod webhook;

pub use async_trait::async_trait;
pub use http;

pub use channel::{Channel, ChannelExt, Indicator};
pub use context::Context;
#[cfg(feature = "meta")]
pub use gateway::meta::{self, Meta};
#[cfg(feature = "notify")]
pub use gateway::notify::{self, Notify};
#[cfg(feature = "twilio")]
pub use gateway::twilio::{self, Twilio};
#[cfg(feature = "x")]
pub use gateway::x::{self, X};
pub use mock::Mock;
pub use model::address::{Address, Medium};
pub use model::capability::Capability;
pub use model::clock::Timestamp;
pub use model::delivery::DeliveryState;
pub use model::error::{Error, ErrorKind, Outcome, Result};
pub use model::event::{Delivery, Event, Inbound};
pub use model::id::{AccountId, MessageId};
pub use model::info::Info;
pub use model::message::{Accepted, Content, Message, OnUnknown, Purpose};
pub use model::secret::Secret;
pub use registry::Registry;
pub use settings::Settings;

pub mod address {
    //! Kinds of addresses and senders.

    pub use crate::model::address::{
        Conversation, OtherAddress, OtherMedium, PageScopedId, Phone, Sender, SenderName, ShortCode, WhatsAppUser,
        XUser,
    };
    pub use crate::model::secret::Fingerprint;
}

pub mod capability {
    //! The limits of a channel, as data.

    pub use crate::model::capability::{ChoiceLimits, MediaLimits, MediaRule, TemplateLimits, TextLimit, Unit};
}

pub mod clock {
    //! Clocks: of the system, and virtual ones for tests.

    pub use crate::model::clock::{Clock, Sleep, SystemClock, VirtualClock};
}

pub mod error {
    //! The classes of a gateway's error codes.

    pub use crate::model::error::{ErrorClass, Scope};
}

pub mod event {
    //! The contents of events, and the rarer kinds of them.

    pub use crate::model::event::{
        Account, AddressChanged, DeliveryOf, Envelope, Failure, InboundContent, OptOut, OptOutScope, Profile, Raw,
        Referral, Selection, Topic, Unrecognised, Upcoming,
    };
}

pub mod health {
    //! The health of a channel: its credentials and settings.

    pub use crate::model::health::{Check, CheckStatus, Health};
}

pub mod lookup {
    //! Looking up the outcome of a send.

    pub use crate::model::lookup::{LookupOutcome, LookupQuery};
}

pub mod message {
    //! The contents of messages.

    pub use crate::model::message::{
        Choice, ContactCard, Currency, Degradation, GatewayOptions, InfoField, InfoRequest, LabelledValue, Link,
        Location, Media, MediaKind, MediaRef, MediaSource, Money, Native, Parameter, Reaction, Row, Section, Template,
        TemplateButton, TemplateHeader,
    };
}

pub mod poll {
    //! Pages of events from a poll.

    pub use crate::model::poll::{Cursor, Page};
}

pub mod rate {
    //! Rate limits and quotas, as data.

    pub use crate::model::rate::{PairRate, Quota, Rate};
}
