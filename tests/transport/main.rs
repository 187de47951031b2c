//! Sends and files over misbehaving connections and malformed responses.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[cfg(all(feature = "meta", feature = "notify", feature = "twilio", feature = "x"))]
mod answers;
#[cfg(feature = "reqwest")]
mod media;
#[cfg(feature = "reqwest")]
mod outcomes;
#[path = "../support/mod.rs"]
mod support;
