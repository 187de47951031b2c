//! The program `civic-messaging` as a process: its commands, its API, and a council's scenes against fake gateways.
#![cfg(all(feature = "cli", feature = "testing"))]

mod api;
mod commands;
mod council;
mod scenes;
#[path = "../support/mod.rs"]
mod support;
