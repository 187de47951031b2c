//! Gateways: a module for each vendor.
//!
//! Every module has the same names: `Config`, the gateway's struct with a constructor for each medium and one that also
//! takes a [`Context`](crate::Context), and `Options` if the gateway has any. Its files are named by role: `channel`,
//! `send`, `receive`, `lookup` and so on.

#[cfg(feature = "custom")]
pub mod custom;
#[cfg(feature = "meta")]
pub mod meta;
#[cfg(feature = "notify")]
pub mod notify;
#[cfg(feature = "twilio")]
pub mod twilio;
#[cfg(feature = "vonage")]
pub mod vonage;
#[cfg(feature = "x")]
pub mod x;
