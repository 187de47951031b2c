//! Vonage Messages API: SMS, WhatsApp and Messenger.
//!
//! Sources: Vonage's pages on the [Messages API][api] (version 1.17.0), its [errors][errors] and signed webhooks, read
//! 2026-12-01 from stored copies, and its Python library 4.9.1. Facts from elsewhere are marked UNVERIFIED.
//!
//! ```no_run
//! use civic_messaging::{Address, ChannelExt, Vonage, vonage};
//! # async fn run() -> civic_messaging::Result<()> {
//! let pem = std::fs::read_to_string("/etc/council/vonage.pem").unwrap();
//! let config = vonage::Config::new("aaaaaaaa-bbbb-cccc-dddd-0123456789ab", pem, "+44 7700 900456")?
//!     .signature_secret("the-signature-secret-of-the-account")?;
//! let sms = Vonage::sms(config)?;
//! sms.send_text(&Address::phone("07700 900123")?, "Your collection is on Tuesday.").await?;
//! # Ok(()) }
//! ```
//!
//! | medium | text | template | quotes | receive | files |
//! |---|---|---|---|---|---|
//! | SMS | 1,000 characters | no | no | signed: body | by reference |
//! | WhatsApp | 4,096 characters | name and language, positional | yes | signed: body | by reference |
//! | Messenger | 640 characters | no | no | signed: body | by reference |
//!
//! - **No idempotency key exists.** `client_ref` is our key, which statuses carry; two messages may have the same.
//! - **A message that a person has opted out of is accepted**, and fails with a status: Vonage's Opt-out Assist works in
//!   the United States and Canada only. Elsewhere STOP is an ordinary message.
//! - **The SMS API (`rest.nexmo.com`) is not used**: set the account to the Messages API, so that its webhooks are signed.
//! - **Sends of media, polls and look-ups are not supported here**, and received files are named but not fetched.
//! - **An event's account is our number or page.** A webhook of another application is discarded.
//!
//! [api]: https://developer.vonage.com/en/api/messages
//! [errors]: https://developer.vonage.com/en/api-errors/messages

use std::sync::Arc;

use crate::adapter::Endpoint;
use crate::channel::Channel;
use crate::context::Context;
use crate::model::address::{Address, Medium, PageScopedId, Sender};
use crate::model::error::{Error, Result};
use crate::model::id::AccountId;
use crate::model::info::Info;
use crate::settings::Settings;

mod channel;
mod config;
mod jwt;
mod receive;
mod send;
mod signature;
mod wire;

pub use config::Config;
use jwt::PrivateKey;
pub use signature::WebhookToken;

const GATEWAY: &str = "vonage";

/// A Vonage sender for SMS, WhatsApp or Messenger.
///
/// Cloning is cheap, and clones share one connection pool.
#[derive(Clone, Debug)]
pub struct Vonage {
    info: Info,
    endpoint: Endpoint,
    context: Context,
    application_id: Arc<str>,
    key: Arc<PrivateKey>,
    /// The sender as Vonage writes it.
    from: Arc<str>,
    signature: Option<WebhookToken>,
}

impl Vonage {
    /// Creates an SMS sender.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) naming the invalid setting.
    #[cfg(feature = "reqwest")]
    pub fn sms(config: Config) -> Result<Self> {
        Self::sms_with(config, &Context::new())
    }

    /// Creates an SMS sender with this context.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) naming the invalid setting.
    pub fn sms_with(config: Config, context: &Context) -> Result<Self> {
        Self::new(Medium::Sms, config, context)
    }

    /// Creates a WhatsApp sender.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) naming the invalid setting.
    #[cfg(feature = "reqwest")]
    pub fn whatsapp(config: Config) -> Result<Self> {
        Self::whatsapp_with(config, &Context::new())
    }

    /// Creates a WhatsApp sender with this context.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) naming the invalid setting.
    pub fn whatsapp_with(config: Config, context: &Context) -> Result<Self> {
        Self::new(Medium::WhatsApp, config, context)
    }

    /// Creates a Messenger sender.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) naming the invalid setting.
    #[cfg(feature = "reqwest")]
    pub fn messenger(config: Config) -> Result<Self> {
        Self::messenger_with(config, &Context::new())
    }

    /// Creates a Messenger sender with this context.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) naming the invalid setting.
    pub fn messenger_with(config: Config, context: &Context) -> Result<Self> {
        Self::new(Medium::Messenger, config, context)
    }

    fn new(medium: Medium, config: Config, context: &Context) -> Result<Self> {
        if config.application_id.trim().is_empty() {
            return Err(Error::config("application_id", "is empty"));
        }
        let (from, account) = sender(&medium, &config.from)?;
        let owned = [account.clone()];
        let secrets: Vec<_> = config.signature_secrets.into_iter().map(|secret| secret.or_owns(&owned)).collect();
        let signature = (!secrets.is_empty()).then(|| WebhookToken::new(secrets));
        let base = config.base_url.map_or_else(|| "https://api.nexmo.com".parse(), Ok)?;
        Ok(Self {
            info: channel::info(medium, account, signature.is_some()),
            endpoint: Endpoint::new(GATEWAY, base, context, wire::ERRORS, wire::vendor_error)
                .with_overrides(config.errors),
            context: context.clone(),
            application_id: config.application_id.into(),
            key: PrivateKey::new(&config.private_key)?,
            from: from.into(),
            signature,
        })
    }
}

/// Returns the sender as Vonage writes it, without `+`, and the account of its events.
fn sender(medium: &Medium, from: &str) -> Result<(String, AccountId)> {
    let invalid = |rule: &'static str| Error::config("from", rule);
    if *medium == Medium::Messenger {
        let page = PageScopedId::new(from).map_err(|_| invalid("must be the id of the page on Messenger"))?;
        return Ok((page.as_str().to_owned(), AccountId::new(page.as_str())));
    }
    let sender: Sender = from.parse().map_err(|_| invalid("must be a phone number, a short code or a sender name"))?;
    if *medium == Medium::WhatsApp && !matches!(sender, Sender::Phone(_)) {
        return Err(invalid("must be a phone number on WhatsApp"));
    }
    Ok((sender.as_str().trim_start_matches('+').to_owned(), AccountId::new(sender.as_str())))
}

/// Returns our side of an event as an account: a number in E.164, or any other name unchanged.
fn account(medium: &Medium, name: &str) -> String {
    match medium {
        Medium::Messenger => name.to_owned(),
        _ => Address::sms_sender(name).map_or_else(|| name.to_owned(), |address| address.expose().to_owned()),
    }
}

/// Builds a channel from settings; its medium is `sms`, `whatsapp` or `messenger`.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) naming the invalid setting.
pub fn connect(settings: &Settings, context: &Context) -> Result<Arc<dyn Channel>> {
    match settings.medium()? {
        medium @ (Medium::Sms | Medium::WhatsApp | Medium::Messenger) => {
            Ok(Arc::new(Vonage::new(medium, settings.read()?, context)?))
        }
        _ => Err(Error::config("medium", "must be sms, whatsapp or messenger for this gateway")),
    }
}
