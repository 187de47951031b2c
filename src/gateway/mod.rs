//! Gateways: one file a vendor, sending and receiving.
//!
//! Every file has the same names: `Config`, the gateway's struct with a constructor for each medium and, beside it, one
//! that takes a [`Context`](crate::Context), and `Options` where the gateway has any.

#[cfg(feature = "meta")]
pub mod meta;
#[cfg(feature = "notify")]
pub mod notify;
#[cfg(feature = "twilio")]
pub mod twilio;
#[cfg(feature = "x")]
pub mod x;
