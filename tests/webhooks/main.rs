//! Webhooks that are malformed, hostile, or were once read wrongly, for all gateways.
#![cfg(all(
    feature = "custom",
    feature = "meta",
    feature = "notify",
    feature = "twilio",
    feature = "vonage",
    feature = "x"
))]

mod cases;
#[cfg(feature = "toml")]
mod corpus;
mod mutations;
#[path = "../support/mod.rs"]
mod support;
#[cfg(feature = "testing")]
mod tokens;
