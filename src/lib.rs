// The README's examples need its gateways. Without them, the documentation is its first sentence only.
#![cfg_attr(all(feature = "notify", feature = "reqwest"), doc = include_str!("../README.md"))]
#![cfg_attr(
    not(all(feature = "notify", feature = "reqwest")),
    doc = "Send and receive a council's messages over WhatsApp, Messenger, X and SMS through one typed trait, [`Channel`]."
)]
#![cfg_attr(docsrs, feature(doc_cfg))]
// No input from a gateway, a resident or a configuration may cause a panic.
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
    //! Address types of each medium, and senders.

    pub use crate::model::address::{
        Conversation, OtherAddress, OtherMedium, PageScopedId, Phone, Sender, SenderName, ShortCode, WhatsAppUser,
        XUser,
    };
    pub use crate::model::secret::Fingerprint;
}

pub mod capability {
    //! Limits of a channel, as data.

    pub use crate::model::capability::{ChoiceLimits, MediaLimits, MediaRule, TemplateLimits, TextLimit, Unit};
}

pub mod clock {
    //! The system clock, and a virtual clock for tests.

    pub use crate::model::clock::{Clock, Sleep, SystemClock, VirtualClock};
}

pub mod error {
    //! Classes and scopes of gateway error codes.

    pub use crate::model::error::{ErrorClass, Scope};
}

pub mod event {
    //! Contents of events, and the less common kinds of event.

    pub use crate::model::event::{
        Account, AddressChanged, DeliveryOf, Envelope, Failure, InboundContent, OptOut, OptOutScope, Profile, Raw,
        Referral, Selection, Topic, Unrecognised, Upcoming,
    };
}

pub mod health {
    //! Health checks of a channel's credentials and settings.

    pub use crate::model::health::{Check, CheckStatus, Health};
}

pub mod lookup {
    //! Lookups of a send's outcome.

    pub use crate::model::lookup::{LookupOutcome, LookupQuery};
}

pub mod message {
    //! Contents of messages.

    pub use crate::model::message::{
        Choice, ContactCard, Currency, Degradation, GatewayOptions, InfoField, InfoRequest, LabelledValue, Link,
        Location, Media, MediaKind, MediaRef, MediaSource, Money, Native, Parameter, Reaction, Row, Section, Template,
        TemplateButton, TemplateHeader,
    };
}

pub mod poll {
    //! Pages of polled events.

    pub use crate::model::poll::{Cursor, Page};
}

pub mod rate {
    //! Rate limits and quotas, as data.

    pub use crate::model::rate::{PairRate, Quota, Rate};
}
