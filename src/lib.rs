//! Sends and receives a council's messages over SMS, WhatsApp Business, Facebook Messenger and X (Twitter) direct messages,
//! through one typed trait, [`Channel`], and whichever gateway the council has a contract with.
//!
//! ```
//! use civic_messaging::{Address, Channel, ChannelExt, Message, Mock, Outcome};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let sms = Mock::sms(); // or `Notify::sms(..)`, `Twilio::sms(..)`, `Meta::whatsapp(..)`, `X::direct_messages(..)`
//! let note = Message::text(Address::phone("07700 900123")?, "Your collection is on Tuesday.").key("waste-4711");
//! match sms.send(&note).await {
//!     Ok(accepted) => println!("{}", accepted.id()), // accepted by the gateway, not yet delivered
//!     Err(e) if e.outcome() == Outcome::Unknown => println!("{e}"), // may have been accepted: never resend blindly
//!     Err(e) => return Err(e), // certainly not sent
//! }
//! # Ok(()) }).unwrap();
//! ```
//!
//! # Map
//!
//! | task | items |
//! |---|---|
//! | **Send** | [`Message`]: an [`Address`] of a [`Medium`], its [`Content`], an idempotency key, a [`Purpose`]; [`Channel::send`] returns [`Accepted`], with a [`MessageId`], or an [`Error`] with an [`ErrorKind`] and an [`Outcome`]; [`OnUnknown`] permits a resend. [`ChannelExt::plan`] returns a [`Plan`](plan::Plan): segments, losses, refusals, offline. The contents are in [`message`], kinds of addresses in [`address`] |
//! | **Receive** | [`webhook::Request`] in, [`Event`]s out: [`Inbound`] messages, [`Delivery`] reports with their [`DeliveryState`], and those in [`event`]. [`ChannelExt::reply`] answers, [`Indicator`] shows "read" or "typing". [`poll`] is for gateways without webhooks, [`lookup`] for the outcome of a send |
//! | **Test** | [`Mock`]: a channel in memory. `testing::FakeGateway`: a gateway on loopback with socket faults (feature `testing`). [`clock::VirtualClock`]: time without sleeping. [`random::SeededRandom`]: runs that repeat |
//! | **Configure** | A gateway's own `Config`: [`Meta`], [`Notify`], [`Twilio`], [`X`]. [`Registry`] and [`Settings`]: any gateway by name, from TOML, JSON or the environment. [`Context`]: transport, clock, randomness and stores, each replaceable. [`Secret`]: masked everywhere. [`health`]: credentials and settings, checked |
//! | **Layer** | [`layer`]: retries with backoff and jitter, rate limits, failover, circuit breaker, tracing |
//! | **Make durable** | `switchboard`: an outbox and an inbox in SQLite or PostgreSQL, with at-least-once delivery, leases and dead letters, and a register of opt-outs and consents, from code or from one file (features `sqlite`, `postgres`) |
//! | **Decide** | [`policy`]: opening hours, automatic replies, and rules of your own |
//! | **Write an adapter** | [`adapter`]: what a gateway's adapter is built of. A channel describes itself by its [`Info`]: its [`AccountId`] and [`Capability`], at a [`Timestamp`]. `testing::conformance` says when the adapter is done |
//!
//! SMS segments and opt-out words alone are in [`medium::sms`].
//!
//! # Features
//!
//! | feature | adds | default |
//! |---|---|---|
//! | `meta`, `notify`, `twilio`, `x` | a gateway; no dependency | yes |
//! | `custom` | any supplier, [described by a table](custom) | no |
//! | `reqwest` | HTTP with rustls (ring) | yes |
//! | `toml` | settings from TOML | yes |
//! | `tracing` | spans and events of [`layer::Trace`] | yes |
//! | `metrics` | counters and histograms | no |
//! | `sqlite`, `sqlite-system` | the switchboard's store in SQLite: bundled, or the system's | no |
//! | `postgres` | the switchboard's store in PostgreSQL | no |
//! | `axum` | the switchboard's webhooks as an axum router, and `webhook::Request` as an extractor | no |
//! | `cli` | the program `civic-messaging`, and nothing of the library | no |
//! | `testing` | the conformance suite and the fake gateway | no |
#![cfg_attr(docsrs, feature(doc_cfg))]
// The front page links to what a build with fewer features lacks.
#![cfg_attr(
    not(all(
        feature = "custom",
        feature = "meta",
        feature = "notify",
        feature = "tracing",
        feature = "twilio",
        feature = "x"
    )),
    allow(rustdoc::broken_intra_doc_links)
)]
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
#[cfg(feature = "axum")]
pub mod axum;
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
#[cfg(feature = "custom")]
pub use gateway::custom::{self, Custom};
#[cfg(feature = "meta")]
pub use gateway::meta::{self, Meta};
#[cfg(feature = "notify")]
pub use gateway::notify::{self, Notify};
#[cfg(feature = "twilio")]
pub use gateway::twilio::{self, Twilio};
#[cfg(feature = "vonage")]
pub use gateway::vonage::{self, Vonage};
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
        Choice, ContactCard, Credits, Currency, Degradation, GatewayOptions, InfoField, InfoRequest, LabelledValue,
        Link, Location, Media, MediaKind, MediaRef, MediaSource, Money, Native, Parameter, Price, Reaction, Row,
        Section, Template, TemplateButton, TemplateHeader,
    };
}

pub mod poll {
    //! Pages of polled events.

    pub use crate::model::poll::{Cursor, Page};
}

pub mod random {
    //! Sources of random bytes: the system's, and a seeded one for tests.

    pub use crate::model::random::{Random, SeededRandom, SystemRandom};
}

pub mod rate {
    //! Rate limits and quotas, as data.

    pub use crate::model::rate::{PairRate, Quota, Rate};
}

#[cfg(doc)]
pub mod docs {
    //! Guides: writing an adapter, the command line, layers, operations, and what each gateway supports.

    #[cfg(feature = "testing")]
    pub mod adapter {
        #![doc = include_str!("../docs/adapter.md")]
    }

    #[cfg(feature = "cli")]
    pub mod command_line {
        #![doc = include_str!("../docs/command_line.md")]
    }

    pub mod layers {
        #![doc = include_str!("../docs/layers.md")]
    }

    #[cfg(any(feature = "postgres", feature = "sqlite-system"))]
    pub mod operations {
        #![doc = "[fallback]: crate::switchboard::Fallback\n\n"]
        #![doc = include_str!("../docs/operations.md")]
    }

    pub mod support {
        #![cfg_attr(feature = "testing", doc = "[adapter]: crate::docs::adapter\n\n")]
        #![doc = include_str!("../docs/support.md")]
    }
}

#[cfg(all(doctest, feature = "notify", feature = "reqwest"))]
#[doc = include_str!("../README.md")]
struct Readme;
