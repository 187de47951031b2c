//! The rules of each medium, as pure functions: no gateway, no network, no clock.
//!
//! A gateway defines the format of requests; these rules apply to a medium through any gateway. Every function takes
//! plain text and numbers and works offline.

pub mod messenger;
pub mod sms;
pub mod whatsapp;
pub mod x;
