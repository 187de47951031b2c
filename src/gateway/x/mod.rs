//! Direct messages on X, formerly Twitter.
//!
//! The unencrypted direct messages of X's API v2 (`/2/dm_*`): <https://docs.x.com/x-api/direct-messages>, OpenAPI
//! 2.167 of August 2026, read 2026-11-22 from stored copies. What residents write comes by webhook, from the X
//! Activity API or the older Account Activity API, or is polled. X's end-to-end encrypted chat is noticed and cannot
//! be read: such a message is an [`InboundContent::Encrypted`](crate::event::InboundContent::Encrypted).
//!
//! Write only to people who wrote first: X demands it of programs. X reports that it
//! accepted a message, and never that it arrived; a webhook can report that the resident has read it.
//!
//! ```no_run
//! use civic_messaging::adapter::OAuth1;
//! use civic_messaging::{Address, ChannelExt, X, x};
//!
//! # async fn example() -> civic_messaging::Result<()> {
//! let keys = OAuth1::new("consumer-key", "consumer-secret", "access-token", "access-token-secret")?;
//! let x = X::direct_messages(x::Config::new("1900000000000000202", keys))?;
//! let accepted = x.send_text(&Address::x("1900000000000000101")?, "Your bin collection is on Thursday.").await?;
//! println!("{}", accepted.id());
//! # Ok(()) }
//! ```
//!
//! The same in a file, from which [`Registry`](crate::Registry) builds the channel:
//!
//! ```toml
//! gateway = "x"
//! medium = "x"
//! user_id = "1900000000000000202"
//! consumer_key = { env = "X_CONSUMER_KEY" }
//! consumer_secret = { env = "X_CONSUMER_SECRET" }
//! access_token = { env = "X_ACCESS_TOKEN" }
//! access_token_secret = { env = "X_ACCESS_TOKEN_SECRET" }
//! ```
//!
//! | sends | receives | polls | looks up | uploads | fetches | health | conversations |
//! |---|---|---|---|---|---|---|---|
//! | text to 10,000 characters, one image, GIF or video | yes | yes, 30 days back | by id or text | yes | from webhooks' addresses | yes | yes |
//!
//! Errors carry X's own code: the number of the older API, or the last part of a problem's `type`, such as
//! `client-forbidden`. Three refusals have a sentence and no code, and are named here: `dm-not-permitted`,
//! `operation-not-permitted`, `credits-depleted`.
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use serde::Deserialize;

use crate::adapter::Endpoint;
use crate::channel::Channel;
use crate::context::Context;
use crate::media::MediaStore;
use crate::medium::x as rules;
use crate::model::address::Medium;
use crate::model::capability::{MediaLimits, TextLimit};
use crate::model::clock::Clock;
use crate::model::error::{Error, ErrorClass, Result};
use crate::model::id::AccountId;
use crate::model::info::Info;
use crate::model::random::Random;
use crate::model::secret::Secret;
use crate::settings::Settings;
use crate::transport::BaseUrl;
use crate::webhook::{SigningSecret, Verifier};

mod admin;
mod api;
mod auth;
mod channel;
mod errors;
mod events;
mod fetch;
mod lookup;
mod poll;
mod send;
mod text;
mod upload;
mod webhook;
mod wire;

pub use admin::RegisteredWebhook;
use api::RateRecorder;
pub use api::{Credentials, RateLimits};
pub use auth::Auth;
use auth::Signer;
pub use lookup::UserProfile;
use webhook::Signature;

use crate::adapter::{OAuth1, OAuth2};

const GATEWAY: &str = "x";
const BASE_URL: &str = "https://api.x.com";

/// The configuration of a channel for direct messages on X.
///
/// In a file all settings stand side by side: those of [`OAuth1`] or those of [`OAuth2`] beside those named here.
/// With OAuth 2.0, `consumer_secret` may be given as well, for webhooks.
#[non_exhaustive]
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "ConfigFile")]
pub struct Config {
    /// The council's own numeric user id.
    pub user_id: AccountId,
    /// The credentials of requests.
    pub auth: Auth,
    /// The app's consumer secret, which signs webhooks, or several while it changes; the first answers X's
    /// handshake. None: the consumer secret, where there is one; without any, no webhook is taken.
    pub webhook_secrets: Vec<SigningSecret>,
    /// The app's own bearer token, for managing webhooks. X refuses it for messages.
    pub bearer: Option<Secret>,
    /// The base URL of the API.
    pub base_url: Option<BaseUrl>,
    /// The sources that escape `&` as `&amp;`.
    pub unescape: Unescape,
    /// Overrides for the classes of X's error codes.
    pub errors: BTreeMap<String, ErrorClass>,
}

impl Config {
    /// Creates a configuration for the account with this numeric id.
    pub fn new(user_id: impl Into<AccountId>, auth: impl Into<Auth>) -> Self {
        Self {
            user_id: user_id.into(),
            auth: auth.into(),
            webhook_secrets: Vec::new(),
            bearer: None,
            base_url: None,
            unescape: Unescape::default(),
            errors: BTreeMap::new(),
        }
    }

    /// Adds a secret that signs webhooks.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when it is empty, blank or too short.
    pub fn webhook_secret(mut self, consumer_secret: impl Into<String>) -> Result<Self> {
        self.webhook_secrets.push(Secret::setting("webhook_secrets", consumer_secret)?.into());
        Ok(self)
    }

    /// Sets the app's own bearer token.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when it is empty, blank or too short.
    pub fn bearer(mut self, token: impl Into<String>) -> Result<Self> {
        self.bearer = Some(Secret::setting("bearer", token)?);
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

    /// Sets the sources that escape `&` as `&amp;`.
    #[must_use]
    pub fn unescape(mut self, unescape: Unescape) -> Self {
        self.unescape = unescape;
        self
    }
}

/// The sources that escape `&`, `<` and `>`; their text is unescaped once.
///
/// The Account Activity API does, as other programs show; for the other two it is unverified, and off.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Unescape {
    /// Webhooks of the Account Activity API.
    pub account_activity: bool,
    /// Webhooks of the X Activity API.
    pub activity: bool,
    /// Polled events.
    pub poll: bool,
}

impl Default for Unescape {
    fn default() -> Self {
        Self { account_activity: true, activity: false, poll: false }
    }
}

/// The flat form of the configuration in a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    user_id: AccountId,
    consumer_key: Option<Secret>,
    consumer_secret: Option<Secret>,
    access_token: Option<Secret>,
    access_token_secret: Option<Secret>,
    client_id: Option<String>,
    client_secret: Option<Secret>,
    refresh_token: Option<Secret>,
    #[serde(default, deserialize_with = "crate::webhook::secrets")]
    webhook_secrets: Vec<SigningSecret>,
    bearer: Option<Secret>,
    base_url: Option<BaseUrl>,
    #[serde(default)]
    unescape: Unescape,
    #[serde(default)]
    errors: BTreeMap<String, ErrorClass>,
}

impl TryFrom<ConfigFile> for Config {
    type Error = Error;

    fn try_from(written: ConfigFile) -> Result<Self> {
        let needs = |field: &'static str, with: &str| Error::config(field, format!("is missing, beside {with}"));
        let mut webhook_secrets = written.webhook_secrets;
        let auth = match (written.client_id, written.consumer_key) {
            (Some(_), Some(_)) => {
                return Err(Error::config(
                    "client_id",
                    "is for OAuth 2.0 and consumer_key for OAuth 1.0a: set one of them",
                ));
            }
            (None, None) => {
                return Err(Error::config("consumer_key", "is missing (OAuth 1.0a), and so is client_id (OAuth 2.0)"));
            }
            (None, Some(consumer_key)) => Auth::OAuth1(OAuth1 {
                consumer_key,
                consumer_secret: written.consumer_secret.ok_or_else(|| needs("consumer_secret", "consumer_key"))?,
                access_token: written.access_token.ok_or_else(|| needs("access_token", "consumer_key"))?,
                access_token_secret: written
                    .access_token_secret
                    .ok_or_else(|| needs("access_token_secret", "consumer_key"))?,
            }),
            (Some(client_id), None) => {
                if webhook_secrets.is_empty() {
                    webhook_secrets.extend(written.consumer_secret.map(SigningSecret::from));
                }
                Auth::OAuth2(OAuth2 {
                    client_id,
                    client_secret: written.client_secret,
                    refresh_token: written.refresh_token.ok_or_else(|| needs("refresh_token", "client_id"))?,
                    access_token: written.access_token,
                })
            }
        };
        Ok(Self {
            user_id: written.user_id,
            auth,
            webhook_secrets,
            bearer: written.bearer,
            base_url: written.base_url,
            unescape: written.unescape,
            errors: written.errors,
        })
    }
}

/// Direct messages on X through its API v2.
///
/// Cloning is cheap, and clones share one connection pool and what they learn of rate limits.
#[doc(alias = "Twitter")]
#[derive(Clone, Debug)]
pub struct X {
    info: Info,
    endpoint: Endpoint,
    signer: Arc<Signer>,
    bearer: Option<Secret>,
    scheme: Arc<Signature>,
    verifier: Option<Verifier>,
    unescape: Unescape,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    media: Arc<dyn MediaStore>,
    rates: Arc<Mutex<BTreeMap<&'static str, RateLimits>>>,
    /// X has refused the longer list of fields, so the shorter one is requested.
    short_list: Arc<AtomicBool>,
}

impl X {
    /// Creates a channel for the direct messages of one account, with the defaults of [`Context`].
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), with the field and its rule.
    #[cfg(feature = "reqwest")]
    pub fn direct_messages(config: Config) -> Result<Self> {
        Self::direct_messages_with(config, &Context::new())
    }

    /// Creates a channel for the direct messages of one account, in this context.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), with the field and its rule.
    pub fn direct_messages_with(config: Config, context: &Context) -> Result<Self> {
        let account = config.user_id;
        if !rules::user_id(account.as_str()) {
            return Err(Error::config("user_id", "must be the account's numeric id of 1 to 19 digits, and no handle"));
        }
        let mut secrets = config.webhook_secrets;
        if let (true, Auth::OAuth1(keys)) = (secrets.is_empty(), &config.auth) {
            secrets.push(keys.consumer_secret.clone().into());
        }
        let secrets: Vec<_> =
            secrets.into_iter().map(|secret| secret.or_owns(std::slice::from_ref(&account))).collect();
        let info =
            Info::new(GATEWAY, Medium::X, account.clone()).with_address_rule(send::address).with_capability(|can| {
                can.receive = !secrets.is_empty();
                // Read receipts come by webhook only.
                can.delivery_status = can.receive;
                can.poll = true;
                can.look_up = true;
                can.upload_media = true;
                can.fetch_media = true;
                can.health = true;
                can.conversation = true;
                can.text = Some(TextLimit::characters(rules::TEXT_MAX));
                can.media = Some(MediaLimits::x());
            });
        let base = config.base_url.map_or_else(|| BASE_URL.parse(), Ok)?;
        let rates = Arc::<Mutex<BTreeMap<_, _>>>::default();
        let noting = RateRecorder { transport: context.transport.clone(), rates: rates.clone() };
        let endpoint =
            Endpoint::new(GATEWAY, base, &context.clone().transport(noting), errors::ERRORS, errors::vendor_error)
                .with_overrides(config.errors);
        Ok(Self {
            info,
            signer: Arc::new(Signer::new(config.auth, &account, &endpoint, context)),
            endpoint,
            bearer: config.bearer,
            verifier: Verifier::new([], &secrets),
            scheme: Arc::new(Signature::new(secrets)),
            unescape: config.unescape,
            clock: context.clock.clone(),
            random: context.random.clone(),
            media: context.media.clone(),
            rates,
            short_list: Arc::default(),
        })
    }
}

/// Builds a channel from configuration, for [`Registry`](crate::Registry).
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config), with the field and its rule.
pub fn connect(settings: &Settings, context: &Context) -> Result<Arc<dyn Channel>> {
    match settings.medium()? {
        Medium::X => Ok(Arc::new(X::direct_messages_with(settings.read()?, context)?)),
        _ => Err(Error::config("medium", "must be x for this gateway")),
    }
}
