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
pub mod address;
pub mod capability;
pub mod channel;
pub mod clock;
pub mod context;
mod delivery;
pub mod endpoint;
pub mod error;
pub mod event;
pub mod gateway;
mod id;
mod json;
pub mod layer;
pub mod media;
pub mod medium;
pub mod message;
pub mod mock;
pub mod plan;
pub mod policy;
pub mod rate;
pub mod registry;
mod secret;
#[cfg(any(feature = "postgres", feature = "sqlite-system"))]
pub mod switchboard;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(any(feature = "postgres", feature = "reqwest"))]
mod tls;
pub mod transport;
pub mod webhook;
// Each gateway reads the kinds that its vendor writes.
#[cfg_attr(not(all(feature = "meta", feature = "x")), allow(dead_code))]
mod wire;

pub use address::{Address, Medium, Sender};
pub use async_trait::async_trait;
pub use capability::{Capability, TextLimit};
pub use channel::{Channel, ChannelExt, Cursor, Health, Indicator, Info, LookupOutcome, LookupQuery, Page};
pub use clock::{Clock, SystemClock, Timestamp, VirtualClock};
pub use context::{Context, TokenStore};
pub use delivery::DeliveryState;
pub use endpoint::{BaseUrl, Endpoint};
pub use error::{Error, ErrorClass, ErrorKind, Outcome, Result, Scope};
pub use event::{Account, AddressChanged, Delivery, Event, Inbound, InboundContent, OptOut, Unrecognised};
#[cfg(feature = "meta")]
pub use gateway::meta::{self, Meta};
#[cfg(feature = "notify")]
pub use gateway::notify::{self, Notify};
#[cfg(feature = "twilio")]
pub use gateway::twilio::{self, Twilio};
#[cfg(feature = "x")]
pub use gateway::x::{self, X};
pub use id::{AccountId, Digest, MessageId};
pub use media::{MediaStore, MediaStream};
pub use message::{
    Accepted, Choice, ContactCard, Content, Degradation, GatewayOptions, InfoRequest, Link, Location, Loss, Media,
    MediaKind, MediaRef, MediaSource, Message, Money, Native, OnUnknown, Purpose, Reaction, Row, Template,
};
pub use mock::Mock;
pub use plan::{Note, Plan};
pub use rate::{PairRate, Quota, Rate};
pub use registry::{Registry, Settings};
pub use secret::{Fingerprint, Secret};
pub use transport::Transport;
