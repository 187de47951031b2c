//! Webhook requests, whose contents cannot be read until their signature is verified.
//!
//! A [`Request`] holds the request as received; its body and query cannot be read. [`Request::open`] passes them to a
//! [`Scheme`], and only what the scheme accepts is returned, as [`Verified`].
//!
//! ```
//! use civic_messaging::{Channel, Mock};
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let sms = Mock::sms();
//! let forged = http::Request::post("/webhooks/sms").body(r#"{"text":"Hello"}"#)?;
//! let refused = sms.receive(&forged.into()).await.unwrap_err();
//! assert_eq!(refused.webhook_status(), 401);
//! # Ok::<(), http::Error>(()) }).unwrap();
//! ```

mod form;
mod received;
mod request;
mod response;
mod scheme;
mod secret;
mod verification;
mod verified;

pub use self::form::Form;
pub use self::received::{Discarded, Received};
pub use self::request::{BODY_MAX, Request, Unverified};
pub use self::response::Response;
pub use self::scheme::{Basic, BearerToken, HeaderToken, HmacSha256, QueryToken, SignatureEncoding, Unsigned};
pub use self::secret::{SigningSecret, Verifier, secrets};
pub use self::verification::{Opened, Refusal, Scheme, SignatureCoverage, Verification};
pub use self::verified::Verified;
pub use crate::model::id::CallbackUrl;
