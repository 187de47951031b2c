//! Meta over HTTP on loopback, one module for each medium.
#![cfg(all(feature = "meta", feature = "reqwest"))]

mod messenger;
#[path = "../support/mod.rs"]
mod support;
mod whatsapp;

const SECRET: &str = "test_app_secret";
