//! Meta: WhatsApp Business by the Cloud API, and by 360dialog, which speaks the same wire; Facebook Messenger by the
//! Send API.
//!
//! Vendor's pages: [Cloud API messages][send], [webhooks][hooks], [error codes][codes], and of Messenger the
//! [Send API][page], [webhooks][events], [error codes][sends]; state of September 2026, read 2026-11-22 from stored
//! copies.
//!
//! ```no_run
//! use civic_messaging::{Address, ChannelExt, Meta, meta};
//! # async fn run() -> civic_messaging::Result<()> {
//! let config = meta::Config::new("EAAG-system-user-token", "200000000000001")?
//!     .app_secret("app-secret-of-the-meta-app")?
//!     .verify_token("verify-token-from-the-dashboard")?;
//! let whatsapp = Meta::whatsapp(config)?;
//! whatsapp.send_text(&Address::whatsapp("07700 900123")?, "Your report is logged.").await?;
//!
//! let messenger = Meta::messenger(meta::Config::for_page("EAAG-page-token", "7000000000000001")?)?;
//! messenger.send_text(&Address::messenger("6000000000000001")?, "Your report is logged.").await?;
//! # Ok(()) }
//! ```
//!
//! | medium | text | media | template | choice | link | ask | location | contacts | reaction | quote | receive | poll | look up | indicators |
//! |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
//! | WhatsApp | 4,096 characters | 1, by link, upload or id | positional, named, header, buttons | 3 buttons, 10 rows | yes | location, contact | yes | yes | yes | yes | signed | no | no | read, typing |
//! | Messenger | 2,000 characters | 1, by link, published or id; no caption | no; `Native` | 13 quick replies | no | no | no | no | no | yes | signed | no | no | read, typing |
//!
//! No idempotency key exists, and no call says what became of a message: after an unknown outcome, only a webhook with
//! the message's key settles it. On WhatsApp that is a status (`biz_opaque_callback_data`); on Messenger it is the echo
//! of the message (`metadata`), for which the page must be subscribed to `message_echoes`. Echoes come of every app of
//! the page, so that keys should be such as no other app would choose.
//!
//! [send]: https://developers.facebook.com/documentation/business-messaging/whatsapp/messages/send-messages
//! [hooks]: https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/overview
//! [codes]: https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes
//! [page]: https://developers.facebook.com/docs/messenger-platform/reference/send-api
//! [events]: https://developers.facebook.com/docs/messenger-platform/webhooks
//! [sends]: https://developers.facebook.com/docs/messenger-platform/error-codes

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Uri;
use serde::Deserialize;

use crate::adapter::Endpoint;
use crate::channel::Channel;
use crate::context::Context;
use crate::model::address::Medium;
use crate::model::error::{Error, ErrorClass, Result};
use crate::model::id::AccountId;
use crate::model::info::Info;
use crate::model::secret::Secret;
use crate::settings::Settings;
use crate::transport::BaseUrl;
use crate::webhook::SigningSecret;

mod channel;
mod graph;
mod health;
mod messenger;
mod options;
mod webhook;
mod whatsapp;

use graph::Connection;
pub use options::Options;
pub use whatsapp::Flow;

const GATEWAY: &str = "meta";

/// The settings of a WhatsApp number, or of a page on Messenger.
///
/// ```toml
/// gateway = "meta"
/// medium = "whatsapp"                             # or "messenger"
/// access_token = { env = "META_TOKEN" }
/// phone_number_id = "200000000000001"             # or page_id
/// app_secrets = { env = "META_APP_SECRET" }       # a list while it is rotated
/// verify_token = "verify-token-from-the-dashboard"
/// ```
///
/// An id of the other medium is an error.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The token of a system user with `whatsapp_business_messaging`, or of a page with `pages_messaging`; at 360dialog
    /// the API key.
    pub access_token: Secret,
    /// Of WhatsApp: Meta's id of the number, which is not the number.
    #[serde(default)]
    pub phone_number_id: Option<AccountId>,
    /// Of Messenger: Meta's id of the page.
    #[serde(default)]
    pub page_id: Option<AccountId>,
    /// Of WhatsApp: Meta's id of the business account. Set it to get account events (templates, quality, limits).
    #[serde(default)]
    pub business_account_id: Option<AccountId>,
    /// The secrets of the Meta app, which sign webhooks. 360dialog does not sign: there, the token that it sends as
    /// `Authorization: Bearer`. With several apps or numbers, each secret names the accounts that it owns.
    #[serde(default, deserialize_with = "crate::webhook::secrets")]
    pub app_secrets: Vec<SigningSecret>,
    /// The verify token of the dashboard, for the webhook's handshake.
    #[serde(default)]
    pub verify_token: Option<Secret>,
    /// The version of the Graph API, such as `v26.0`. Versions live about two years.
    #[serde(default = "version")]
    pub version: String,
    /// The base URL of the API.
    #[serde(default)]
    pub base_url: Option<BaseUrl>,
    /// Of WhatsApp: the messaging account to bill, where one number serves several.
    #[serde(default)]
    pub messaging_account_id: Option<String>,
    /// Of WhatsApp: refuses a file whose SHA-256 differs from that in its webhook. Meta does not define that hash.
    #[serde(default = "yes")]
    pub verify_hashes: bool,
    /// Overrides for the classes of Meta's error codes.
    #[serde(default)]
    pub errors: BTreeMap<String, ErrorClass>,
}

fn version() -> String {
    "v26.0".to_owned()
}

fn yes() -> bool {
    true
}

impl Config {
    /// Creates the settings of a WhatsApp number.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a token that is empty, blank or too short.
    pub fn new(access_token: impl Into<String>, phone_number_id: impl Into<AccountId>) -> Result<Self> {
        Ok(Self { phone_number_id: Some(phone_number_id.into()), ..Self::with_token(access_token)? })
    }

    /// Creates the settings of a page on Messenger.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a token that is empty, blank or too short.
    pub fn for_page(access_token: impl Into<String>, page_id: impl Into<AccountId>) -> Result<Self> {
        Ok(Self { page_id: Some(page_id.into()), ..Self::with_token(access_token)? })
    }

    fn with_token(access_token: impl Into<String>) -> Result<Self> {
        Ok(Self {
            access_token: Secret::setting("access_token", access_token)?,
            phone_number_id: None,
            page_id: None,
            business_account_id: None,
            app_secrets: Vec::new(),
            verify_token: None,
            version: version(),
            base_url: None,
            messaging_account_id: None,
            verify_hashes: true,
            errors: BTreeMap::new(),
        })
    }

    /// Adds the secret of the Meta app, which webhooks are signed with.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when it is empty, blank or too short.
    pub fn app_secret(mut self, secret: impl Into<String>) -> Result<Self> {
        self.app_secrets.push(Secret::setting("app_secrets", secret)?.into());
        Ok(self)
    }

    /// Sets the verify token of the dashboard, for the webhook's handshake.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when it is empty, blank or too short.
    pub fn verify_token(mut self, token: impl Into<String>) -> Result<Self> {
        self.verify_token = Some(Secret::setting("verify_token", token)?);
        Ok(self)
    }

    /// Sets the base URL of the API.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) unless it is https, or loopback.
    pub fn base_url(mut self, url: &str) -> Result<Self> {
        self.base_url = Some(url.parse()?);
        Ok(self)
    }
}

/// A WhatsApp number, by Meta's Cloud API or by 360dialog, or a page on Messenger.
///
/// Cloning is cheap, and clones share one connection pool.
#[derive(Clone, Debug)]
pub struct Meta {
    info: Info,
    endpoint: Endpoint,
    context: Context,
    connection: Arc<Connection>,
    /// The URL for sending.
    messages: Uri,
    messaging_account_id: Option<String>,
    verify_hashes: bool,
}

impl Meta {
    fn new(info: Info, connection: Connection, config: Config, context: &Context) -> Result<Self> {
        let base = config.base_url.map_or_else(|| connection.base.parse(), Ok)?;
        let endpoint = Endpoint::new(info.gateway, base, context, connection.errors, connection.vendor_error);
        Ok(Self {
            messages: endpoint.uri(&format!("{}/messages", connection.account))?,
            endpoint: endpoint.with_overrides(config.errors),
            info,
            context: context.clone(),
            connection: Arc::new(connection),
            messaging_account_id: config.messaging_account_id,
            verify_hashes: config.verify_hashes,
        })
    }

    fn is_messenger(&self) -> bool {
        self.info.medium == Medium::Messenger
    }
}

/// Builds a channel by the Cloud API, or by Messenger's Send API, from settings.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) with the setting that is wrong.
pub fn connect(settings: &Settings, context: &Context) -> Result<Arc<dyn Channel>> {
    match settings.medium()? {
        Medium::Messenger => Ok(Arc::new(Meta::messenger_with(settings.read()?, context)?)),
        Medium::WhatsApp => Ok(Arc::new(Meta::whatsapp_with(settings.read()?, context)?)),
        _ => Err(Error::config("medium", "must be messenger or whatsapp for this gateway")),
    }
}

/// Builds a channel by 360dialog from settings.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) with the setting that is wrong.
pub fn connect_360dialog(settings: &Settings, context: &Context) -> Result<Arc<dyn Channel>> {
    match settings.medium()? {
        Medium::WhatsApp => Ok(Arc::new(Meta::whatsapp_360dialog_with(settings.read()?, context)?)),
        _ => Err(Error::config("medium", "must be whatsapp for this gateway")),
    }
}
