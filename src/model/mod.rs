//! Messages, events and a channel's description of itself: values without a network.

pub(crate) mod address;
pub(crate) mod capability;
pub(crate) mod clock;
pub(crate) mod delivery;
pub(crate) mod digest;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod health;
pub(crate) mod id;
pub(crate) mod info;
pub(crate) mod json;
pub(crate) mod lookup;
pub(crate) mod message;
pub(crate) mod poll;
pub(crate) mod random;
pub(crate) mod rate;
pub(crate) mod secret;
