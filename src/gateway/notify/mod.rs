//! GOV.UK Notify: text messages for central and local government.
//!
//! Sources: Notify's [REST API][api] pages, its [text message characters and prices][price] page, and the API's own
//! source as of autumn 2026; read 2026-11-22 from stored copies.
//!
//! Notify sends templates only. Free text is sent through a template with the content `((body))`: create it once on
//! Notify's site, as a text message template, and configure its id. Messages with a
//! [`Template`](crate::message::Template) name a Notify template by its UUID, or by `native("notify", …)`.
//!
//! ```no_run
//! use civic_messaging::{Address, ChannelExt, Notify, notify};
//! # async fn run(key: &str, template: &str) -> civic_messaging::Result<()> {
//! let sms = Notify::sms(notify::Config::new(key, template)?)?;
//! let accepted = sms.send_text(&Address::phone("07700 900123")?, "Your collection is on Tuesday.").await?;
//! println!("{} {:?}", accepted.id(), accepted.losses);
//! # Ok(()) }
//! ```
//!
//! | medium | text | media | template | choice | link | ask | location | contacts | reaction | quote | receive | poll | look up | signals |
//! |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
//! | SMS | 918 UTF-16 code units | no | named | no | no | no | no | no | no | no | bearer token | yes | yes, by key | no |
//!
//! Limitations:
//! - **Notify rewrites texts.** [`Plan::losses`](crate::plan::Plan::losses) predicts the changes, and
//!   [`Accepted::losses`](crate::Accepted::losses) reports those in the response. See [`sanitise`] and
//!   [`Config::unicode`].
//! - **Length is counted in UTF-16 code units**, so an emoji counts as two; spaces at the ends and double spaces are
//!   not counted.
//! - **No idempotency key exists**: a reference sent twice makes two messages. After an unknown outcome,
//!   [`look_up`](crate::Channel::look_up) by key or a callback, which carries the key, settles it.
//! - **Callbacks are not signed.** A bearer token authenticates the caller and does not cover the body. Notify retries
//!   a callback after a network error, 429 or 5xx, and drops it permanently on any other 4xx: answer 503 while your
//!   store is unavailable, as [`Error::webhook_status`](crate::Error::webhook_status) does. A wrong token is answered
//!   with 403, so configure a new token here before setting it at Notify. Callbacks report final states only.
//! - **Notify keeps no suppression list**: STOP arrives as an ordinary message, and the service must act on it.
//! - **Test numbers** work with any key: Notify accepts messages to `07700 900000`, `900111` and `900222` but neither
//!   sends nor stores them, so no call finds them. With a test key, `900003` ends in temporary failure and `900002` in
//!   permanent failure.
//!
//! [api]: https://docs.notifications.service.gov.uk/rest-api.html
//! [price]: https://www.notifications.service.gov.uk/pricing/text-messages

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::adapter::Endpoint;
use crate::channel::Channel;
use crate::context::Context;
use crate::model::address::Medium;
use crate::model::clock::Clock;
use crate::model::error::{Error, ErrorClass, Result};
use crate::model::info::Info;
use crate::model::secret::Secret;
use crate::settings::Settings;
use crate::transport::BaseUrl;
use crate::webhook::{self, BearerToken, SigningSecret};

mod channel;
mod characters;
mod errors;
mod health;
mod jwt;
mod lookup;
mod poll;
mod receive;
mod send;

pub use characters::{sanitise, sanitise_unicode};
pub use send::Options;

use jwt::ApiKey;

const GATEWAY: &str = "notify";

/// The settings of a Notify service.
///
/// ```toml
/// gateway = "notify"
/// medium = "sms"
/// api_key = { env = "NOTIFY_API_KEY" }
/// template_id = "5484cfca-668a-4c18-afb1-5ddd0e3521b1"     # content: ((body))
/// callback_tokens = { env = "NOTIFY_CALLBACK_TOKEN" }      # a list for two callbacks, or during rotation
/// key_type = "live"
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The API key as Notify showed it once: a name, the service's id and the secret, joined by hyphens.
    pub api_key: Secret,
    /// The UUID of the template for free text.
    pub template_id: String,
    /// The field of that template: `body` in `((body))`.
    #[serde(default = "body_field")]
    pub body_field: String,
    /// The UUID of the sender to use; the service's default if not set. [`Options`] overrides it for one message.
    #[serde(default)]
    pub sms_sender_id: Option<String>,
    /// The bearer tokens of callbacks, as set on Notify's site. Delivery and inbound callbacks may have different
    /// tokens: list both. Without one, callbacks are not received.
    #[serde(default, deserialize_with = "webhook::secrets")]
    pub callback_tokens: Vec<SigningSecret>,
    /// The type of the API key. No call reports it, so [`health`](crate::Channel::health) compares this declaration
    /// with what it can prove.
    #[serde(default)]
    pub key_type: Option<KeyType>,
    /// Plans texts with [`sanitise_unicode`] instead of [`sanitise`], for a Notify that keeps every letter and emoji,
    /// as its source does since September 2026. [`health`](crate::Channel::health) detects which applies and warns if
    /// this differs. It affects plans only, not what is sent.
    #[serde(default)]
    pub unicode: bool,
    /// The base URL of the API.
    #[serde(default)]
    pub base_url: Option<BaseUrl>,
    /// Error classes by the name in `error`, such as `RateLimitError`, or by the status of a failed delivery, overriding
    /// the built-in table.
    #[serde(default)]
    pub errors: BTreeMap<String, ErrorClass>,
}

/// The type of an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyType {
    /// Sends to anybody, once the service is live.
    Live,
    /// Sends to the service's team and guest list.
    Team,
    /// Simulates sending.
    Test,
}

fn body_field() -> String {
    "body".to_owned()
}

impl Config {
    /// Creates the settings that sending needs.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the key is empty, blank or too short. [`Notify::sms_with`]
    /// checks its format.
    pub fn new(api_key: impl Into<String>, template_id: impl Into<String>) -> Result<Self> {
        Ok(Self {
            api_key: Secret::setting("api_key", api_key)?,
            template_id: template_id.into(),
            body_field: body_field(),
            sms_sender_id: None,
            callback_tokens: Vec::new(),
            key_type: None,
            unicode: false,
            base_url: None,
            errors: BTreeMap::new(),
        })
    }

    /// Adds a bearer token for callbacks.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if it is empty, blank or too short.
    pub fn callback_token(mut self, token: impl Into<String>) -> Result<Self> {
        self.callback_tokens.push(Secret::setting("callback_tokens", token)?.into());
        Ok(self)
    }

    /// Sets the sender by its UUID.
    #[must_use]
    pub fn sms_sender_id(mut self, id: impl Into<String>) -> Self {
        self.sms_sender_id = Some(id.into());
        self
    }

    /// Declares the type of the API key.
    #[must_use]
    pub fn key_type(mut self, key_type: KeyType) -> Self {
        self.key_type = Some(key_type);
        self
    }

    /// Sets the base URL of the API.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) unless it is https or loopback.
    pub fn base_url(mut self, url: &str) -> Result<Self> {
        self.base_url = Some(url.parse()?);
        Ok(self)
    }
}

/// A Notify service that sends and receives text messages.
///
/// Cloning is cheap, and clones share one connection pool.
#[derive(Clone, Debug)]
pub struct Notify {
    info: Info,
    endpoint: Endpoint,
    clock: Arc<dyn Clock>,
    scheme: BearerToken,
    key: Arc<ApiKey>,
    template_id: String,
    body_field: String,
    sms_sender_id: Option<String>,
    key_type: Option<KeyType>,
    unicode: bool,
}

impl Notify {
    /// Creates a channel for a Notify service.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) naming the invalid setting.
    #[cfg(feature = "reqwest")]
    pub fn sms(config: Config) -> Result<Self> {
        Self::sms_with(config, &Context::new())
    }

    /// Creates a channel for a Notify service with this context.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) naming the invalid setting.
    pub fn sms_with(config: Config, context: &Context) -> Result<Self> {
        let key = ApiKey::new(&config.api_key)?;
        if !is_uuid(&config.template_id) {
            let rule = "must be the UUID of a text message template: copy it from the template's page on Notify's site";
            return Err(Error::config("template_id", rule));
        }
        if config.body_field.trim().is_empty() {
            return Err(Error::config("body_field", "is empty"));
        }
        if config.sms_sender_id.as_ref().is_some_and(|id| !is_uuid(id)) {
            return Err(Error::config("sms_sender_id", "must be the UUID of a sender, not its number or name"));
        }
        let base = config.base_url.map_or_else(|| "https://api.notifications.service.gov.uk".parse(), Ok)?;
        let info = channel::info(&key.service, !config.callback_tokens.is_empty(), config.unicode);
        let endpoint = Endpoint::new(GATEWAY, base, context, errors::ERRORS, errors::vendor_error);
        let owned = [key.service.clone()];
        Ok(Self {
            info,
            endpoint: endpoint.with_overrides(config.errors),
            clock: context.clock.clone(),
            scheme: BearerToken::new(config.callback_tokens.into_iter().map(|token| token.or_owns(&owned))),
            key: Arc::new(key),
            template_id: config.template_id,
            body_field: config.body_field,
            sms_sender_id: config.sms_sender_id,
            key_type: config.key_type,
            unicode: config.unicode,
        })
    }
}

/// Builds a channel from settings.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) naming the invalid setting.
pub fn connect(settings: &Settings, context: &Context) -> Result<Arc<dyn Channel>> {
    match settings.medium()? {
        Medium::Sms => Ok(Arc::new(Notify::sms_with(settings.read()?, context)?)),
        _ => Err(Error::config("medium", "must be sms for this gateway")),
    }
}

fn is_uuid(text: &str) -> bool {
    let is_hyphen = |n: usize| matches!(n, 8 | 13 | 18 | 23);
    let is_valid = |(n, byte): (usize, u8)| if is_hyphen(n) { byte == b'-' } else { byte.is_ascii_hexdigit() };
    text.len() == 36 && text.bytes().enumerate().all(is_valid)
}
