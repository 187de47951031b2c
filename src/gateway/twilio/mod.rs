//! Twilio Programmable Messaging: SMS, MMS and WhatsApp.
//!
//! Sources: Twilio's pages on [Messages][messages], [webhooks][hooks], their [signature][signature] and
//! [error codes][codes], read 2026-11-22 from stored copies. Facts from elsewhere are marked *from memory*.
//!
//! ```no_run
//! use civic_messaging::{Address, ChannelExt, Twilio, twilio};
//! # async fn run() -> civic_messaging::Result<()> {
//! let config = twilio::Config::new("ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "the-auth-token-of-the-account")?
//!     .sender("+44 7700 900456")?
//!     .public_url("https://sms.example.gov.uk")?;
//! let sms = Twilio::sms(config)?;
//! sms.send_text(&Address::phone("07700 900123")?, "Your collection is on Tuesday.").await?;
//! # Ok(()) }
//! ```
//!
//! | medium | text | media | template | location | receive | look up | fetch | others |
//! |---|---|---|---|---|---|---|---|---|
//! | SMS | 1,600 characters | MMS: 10, by link | ContentSid, positional or named | no | signed: URL and form | yes | yes | health |
//! | WhatsApp | 1,600 characters | 1, by link | ContentSid, positional or named | yes | signed: URL and form | yes | yes | health |
//!
//! - **No idempotency key exists**, and status callbacks do not carry the caller's key. After an unknown outcome
//!   [`look_up`](crate::Channel::look_up) compares recipient, sender, text and time.
//! - **The state in the response to a send is not repeated** by a status callback.
//! - **Twilio queues a message for up to ten hours.** A message with a `not_after` gets a `ValidityPeriod` that ends
//!   then.
//! - **Media are sent by link only**: files of the media store need a `publish` hook in the [`Context`].
//! - **An event's account is our side of the conversation**: our number, name or short code, or the messaging service
//!   if the channel is configured with one. The AccountSid only decides ownership.
//!
//! [messages]: https://www.twilio.com/docs/messaging/api/message-resource
//! [hooks]: https://www.twilio.com/docs/messaging/guides/webhook-request
//! [signature]: https://www.twilio.com/docs/usage/webhooks/webhooks-security
//! [codes]: https://www.twilio.com/docs/api/errors

use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderMap};

use crate::adapter::{Endpoint, basic};
use crate::channel::Channel;
use crate::context::Context;
use crate::model::address::{Medium, Sender};
use crate::model::error::{Error, Result};
use crate::model::id::{AccountId, CallbackUrl};
use crate::model::info::Info;
use crate::settings::Settings;
use crate::webhook::SigningSecret;

mod address;
mod channel;
mod config;
mod lookup;
mod receive;
mod send;
mod signature;
mod url_variants;
mod wire;

pub use config::{ApiKey, Config};
pub use send::Options;
pub use signature::Signature;

const GATEWAY: &str = "twilio";

/// The path prefix of every API resource.
const API_PREFIX: &str = "/2010-04-01/";

/// A Twilio sender for SMS or WhatsApp.
///
/// Cloning is cheap, and clones share one connection pool.
#[derive(Clone, Debug)]
pub struct Twilio {
    info: Info,
    endpoint: Endpoint,
    context: Context,
    /// The credential.
    headers: HeaderMap,
    /// The path of the account's resource, without `.json`.
    account: Arc<str>,
    uses_api_key: bool,
    source: Source,
    status_callback: Option<CallbackUrl>,
    signature: Option<Arc<Signature>>,
}

/// The origin of outbound messages.
#[derive(Clone, Debug)]
enum Source {
    /// A sender as Twilio writes it on this medium.
    Sender(Arc<str>),
    /// The SID of a messaging service.
    Service(Arc<str>),
}

impl Twilio {
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

    fn new(medium: Medium, config: Config, context: &Context) -> Result<Self> {
        // Twilio writes SIDs in lower case, and ownership compares with what Twilio writes.
        let account_sid = config.account_sid.to_lowercase().replacen("ac", "AC", 1);
        if !is_sid(&account_sid, "AC") {
            return Err(Error::config("account_sid", "must be AC and 32 hexadecimal digits"));
        }
        let (source, account) = source(&medium, config.from.as_ref(), config.messaging_service_sid)?;
        let authorization = match &config.api_key {
            Some(key) if is_sid(&key.sid, "SK") => basic(&key.sid, &key.secret)?,
            Some(_) => return Err(Error::config("api_key.sid", "must be SK and 32 hexadecimal digits")),
            None => basic(&account_sid, &config.auth_token)?,
        };
        if config.status_callback.as_ref().is_some_and(|url| !send::is_callback(url)) {
            return Err(Error::config("status_callback", send::CALLBACK_RULE));
        }
        let accounts = [AccountId::new(account_sid.as_str())];
        let owned = |secret: SigningSecret| secret.or_owns(&accounts);
        let signature = config.public_url.as_ref().map(|url| {
            let tokens = std::iter::once(config.auth_token.into()).chain(config.previous_auth_tokens);
            Arc::new(Signature::new(url, tokens.map(owned), config.shared_keys.into_iter().map(owned)))
        });
        let base = config.base_url.map_or_else(|| "https://api.twilio.com".parse(), Ok)?;
        let receives = signature.is_some();
        // A messaging service may set a status callback of its own, which is not visible here.
        let has_status = receives && config.status_callback.is_some();
        let info = channel::info(medium, account, receives, has_status, context.publish.is_some());
        let endpoint = Endpoint::new(GATEWAY, base, context, wire::ERRORS, wire::vendor_error);
        Ok(Self {
            info: info.with_message_rule(match source {
                Source::Sender(_) => send::rule::<false>,
                Source::Service(_) => send::rule::<true>,
            }),
            endpoint: endpoint.with_overrides(config.errors),
            context: context.clone(),
            headers: HeaderMap::from_iter([(AUTHORIZATION, authorization)]),
            account: format!("{API_PREFIX}Accounts/{account_sid}").into(),
            uses_api_key: config.api_key.is_some(),
            source,
            status_callback: config.status_callback,
            signature,
        })
    }
}

/// The source of messages and the account of their events.
fn source(medium: &Medium, from: Option<&Sender>, service: Option<String>) -> Result<(Source, AccountId)> {
    let is_whatsapp = *medium == Medium::WhatsApp;
    match (from, service) {
        (Some(Sender::Name(_) | Sender::ShortCode(_)), None) if is_whatsapp => {
            Err(Error::config("from", "must be a phone number on WhatsApp"))
        }
        (Some(sender), None) => {
            let written = [if is_whatsapp { address::WHATSAPP } else { "" }, sender.as_str()].concat();
            Ok((Source::Sender(written.into()), AccountId::new(sender.as_str())))
        }
        (None, Some(sid)) if is_sid(&sid, "MG") => Ok((Source::Service(sid.as_str().into()), AccountId::new(sid))),
        (None, Some(_)) => Err(Error::config("messaging_service_sid", "must be MG and 32 hexadecimal digits")),
        (None, None) => Err(Error::config("from", "is missing: set from or messaging_service_sid")),
        (Some(_), Some(_)) => {
            Err(Error::config("messaging_service_sid", "cannot be combined with from: set only one of them"))
        }
    }
}

/// Builds a channel from settings; its medium is `sms` or `whatsapp`.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) naming the invalid setting.
pub fn connect(settings: &Settings, context: &Context) -> Result<Arc<dyn Channel>> {
    match settings.medium()? {
        medium @ (Medium::Sms | Medium::WhatsApp) => Ok(Arc::new(Twilio::new(medium, settings.read()?, context)?)),
        _ => Err(Error::config("medium", "must be sms or whatsapp for this gateway")),
    }
}

/// Returns `true` if this is a SID with this prefix: two letters and 32 hexadecimal digits.
fn is_sid(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()))
}
