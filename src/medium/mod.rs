//! What each medium allows, as pure rules: no gateway, no network, no clock.
//!
//! A gateway decides how a message is spelled on the wire; what is here holds for a medium by
//! whichever gateway it goes. Every function takes plain text and numbers and can be asked offline.

pub mod messenger;
pub mod sms;
pub mod whatsapp;
pub mod x;
