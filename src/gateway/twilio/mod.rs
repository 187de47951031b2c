//! Twilio Programmable Messaging: SMS, MMS and WhatsApp.
//!
//! Vendor's pages: [Messages][messages], [webhooks][hooks] and their [signature][signature], [error codes][codes]; read
//! 2026-11-22 from stored copies. What those copies do not say is marked *from memory* where it stands.
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
//! No idempotency key exists, no status carries our own key back, and none comes for the state that a send answers with:
//! after an unknown outcome [`look_up`](crate::Channel::look_up) compares recipient, sender, text and time. Twilio holds a
//! message for up to ten hours before it sends it; one with a `not_after` is given a `ValidityPeriod` that ends then.
//! Files go by link only: those of the store need a `publish` in the [`Context`].
//!
//! An event's account is our own side of it: the number, name or short code that was written to or sent from, or, where
//! the channel is configured by one, the messaging service. The AccountSid decides who owns it and no more.
//!
//! [messages]: https://www.twilio.com/docs/messaging/api/message-resource
//! [hooks]: https://www.twilio.com/docs/messaging/guides/webhook-request
//! [signature]: https://www.twilio.com/docs/usage/webhooks/webhooks-security
//! [codes]: https://www.twilio.com/docs/api/errors

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request};
use serde::Deserialize;

use crate::adapter;
use crate::adapter::wire::Str;
use crate::adapter::{Access, Answer, Credential, Endpoint, FetchLimits, VendorError, basic};
use crate::channel::Channel;
use crate::context::Context;
use crate::media::{FileUrl, HostRules, MediaStream};
use crate::medium::whatsapp;
use crate::model::address::{Address, Medium, Sender};
use crate::model::capability::{MediaLimits, MediaRule, TemplateLimits, TextLimit};
use crate::model::error::{Error, ErrorClass, ErrorKind, Result, Scope};
use crate::model::event::{DeliveryState, Failure};
use crate::model::health::{CheckStatus, Health};
use crate::model::id::{AccountId, MessageId, UrlHost, is_code};
use crate::model::info::Info;
use crate::model::lookup::{LookupOutcome, LookupQuery};
use crate::model::message::{Accepted, MediaKind, MediaRef, Message};
use crate::model::secret::Secret;
use crate::settings::Settings;
use crate::transport::BaseUrl;
use crate::transport::Body;
use crate::webhook::{self, Received, SigningSecret};

mod receive;
mod respell;
mod send;

pub use receive::Signature;
pub use send::Options;

const GATEWAY: &str = "twilio";

/// The settings of a sender at Twilio.
///
/// ```toml
/// gateway = "twilio"
/// medium = "sms"                                  # or "whatsapp"
/// account_sid = "ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
/// auth_token = { env = "TWILIO_AUTH_TOKEN" }
/// from = "+447700900456"                          # or messaging_service_sid = "MG…"
/// public_url = "https://sms.example.gov.uk"
/// ```
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The account: `AC` and 32 hexadecimal digits.
    pub account_sid: String,
    /// The account's primary token. It proves webhooks, and calls the API unless there is an `api_key`.
    pub auth_token: Secret,
    /// A key that calls the API in the token's place. It never proves a webhook: Twilio signs with the token.
    #[serde(default)]
    pub api_key: Option<ApiKey>,
    /// Who messages come from: a phone number, a short code or a name; on WhatsApp a phone number.
    #[serde(default)]
    pub from: Option<Sender>,
    /// The messaging service that chooses the sender, in place of `from`: `MG` and 32 hexadecimal digits.
    #[serde(default)]
    pub messaging_service_sid: Option<String>,
    /// Where Twilio reaches us, without the path and query of the request: `https://sms.example.gov.uk`, written as it
    /// is at Twilio. A prefix that a proxy takes away belongs to it. Nothing is received without it, because the
    /// signature covers the address.
    #[serde(default)]
    pub public_url: Option<BaseUrl>,
    /// Where status events go, whole; without it, to what the service or nothing at Twilio says.
    #[serde(default)]
    pub status_callback: Option<String>,
    /// Tokens that prove webhooks as well while the token is rotated, or those of subaccounts, each with its account.
    #[serde(default, deserialize_with = "webhook::secrets")]
    pub old_auth_tokens: Vec<SigningSecret>,
    /// Shared keys, which sign with HMAC-SHA256. Once there is one, HMAC-SHA1 under a token proves nothing any more.
    #[serde(default, deserialize_with = "webhook::secrets")]
    pub shared_keys: Vec<SigningSecret>,
    /// Where the API is; `https://api.twilio.com` if not set.
    #[serde(default)]
    pub base_url: Option<BaseUrl>,
    /// What some of Twilio's codes mean, over the table: for refusals and for deliveries that failed.
    #[serde(default)]
    pub errors: BTreeMap<String, ErrorClass>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("account_sid", &self.account_sid)
            .field("auth_token", &self.auth_token)
            .field("api_key", &self.api_key)
            .field("from", &self.from)
            .field("messaging_service_sid", &self.messaging_service_sid)
            .field("public_url", &self.public_url)
            // It may hold a token or a password.
            .field("status_callback", &self.status_callback.as_deref().map(UrlHost))
            .field("old_auth_tokens", &self.old_auth_tokens)
            .field("shared_keys", &self.shared_keys)
            .field("base_url", &self.base_url)
            .field("errors", &self.errors)
            .finish()
    }
}

/// A key that calls Twilio's API.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ApiKey {
    /// The key: `SK` and 32 hexadecimal digits.
    pub sid: String,
    /// Its secret.
    pub secret: Secret,
}

impl Config {
    /// The settings that every sender needs; add [`sender`](Self::sender) or
    /// [`messaging_service`](Self::messaging_service).
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a token that is no secret.
    pub fn new(account_sid: impl Into<String>, auth_token: impl Into<String>) -> Result<Self> {
        Ok(Self {
            account_sid: account_sid.into(),
            auth_token: Secret::new(auth_token).map_err(|e| e.with_field("auth_token"))?,
            api_key: None,
            from: None,
            messaging_service_sid: None,
            public_url: None,
            status_callback: None,
            old_auth_tokens: Vec::new(),
            shared_keys: Vec::new(),
            base_url: None,
            errors: BTreeMap::new(),
        })
    }

    /// Sets who messages come from.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] unless it is a phone number, a short code or a name of up to 11 letters and digits.
    pub fn sender(mut self, from: &str) -> Result<Self> {
        self.from = Some(from.parse().map_err(|_| Error::config("from", SENDER))?);
        Ok(self)
    }

    /// Lets a messaging service choose the sender.
    #[must_use]
    pub fn messaging_service(mut self, sid: impl Into<String>) -> Self {
        self.messaging_service_sid = Some(sid.into());
        self
    }

    /// Calls the API with a key in the token's place.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a secret that is none.
    pub fn api_key(mut self, sid: impl Into<String>, secret: impl Into<String>) -> Result<Self> {
        let secret = Secret::new(secret).map_err(|e| e.with_field("api_key.secret"))?;
        self.api_key = Some(ApiKey { sid: sid.into(), secret });
        Ok(self)
    }

    /// Sets where Twilio reaches us.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] unless it is https, or loopback.
    pub fn public_url(mut self, url: &str) -> Result<Self> {
        self.public_url = Some(url.parse().map_err(|e: Error| e.with_field("public_url"))?);
        Ok(self)
    }

    /// Sets where status events go, whole.
    #[must_use]
    pub fn status_callback(mut self, url: impl Into<String>) -> Self {
        self.status_callback = Some(url.into());
        self
    }

    /// Adds a shared key, and with it ends HMAC-SHA1.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it is empty, blank or too short.
    pub fn shared_key(mut self, secret: impl Into<String>) -> Result<Self> {
        self.shared_keys.push(Secret::new(secret).map_err(|e| e.with_field("shared_keys"))?.into());
        Ok(self)
    }

    /// Sets where the API is.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] unless it is https, or loopback.
    pub fn base_url(mut self, url: &str) -> Result<Self> {
        self.base_url = Some(url.parse()?);
        Ok(self)
    }
}

const SENDER: &str = "must be a phone number, a short code, or a name of up to 11 letters, digits and spaces";

/// A sender at Twilio, for SMS or for WhatsApp.
///
/// Cloning is cheap, and clones share one connection pool.
#[derive(Clone)]
pub struct Twilio {
    info: Info,
    endpoint: Endpoint,
    context: Context,
    /// What the requests carry: the credential and the type of a form.
    headers: HeaderMap,
    /// The path of the account's resource, without `.json`.
    account: Arc<str>,
    by_key: bool,
    source: Source,
    status_callback: Option<Arc<str>>,
    signature: Option<Arc<Signature>>,
}

impl fmt::Debug for Twilio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Twilio")
            .field("info", &self.info)
            .field("endpoint", &self.endpoint)
            .field("context", &self.context)
            .field("by_key", &self.by_key)
            .field("source", &self.source)
            .field("status_callback", &self.status_callback.as_deref().map(UrlHost))
            .field("signature", &self.signature)
            .finish_non_exhaustive()
    }
}

/// Who messages come from.
#[derive(Clone, Debug)]
enum Source {
    /// A sender, in the spelling of the medium.
    Sender(Arc<str>),
    Service(Arc<str>),
}

impl Twilio {
    /// A sender of text messages.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the setting that is wrong.
    #[cfg(feature = "reqwest")]
    pub fn sms(config: Config) -> Result<Self> {
        Self::sms_with(config, &Context::new())
    }

    /// A sender of text messages, in this context.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the setting that is wrong.
    pub fn sms_with(config: Config, context: &Context) -> Result<Self> {
        Self::new(Medium::Sms, config, context)
    }

    /// A WhatsApp number.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the setting that is wrong.
    #[cfg(feature = "reqwest")]
    pub fn whatsapp(config: Config) -> Result<Self> {
        Self::whatsapp_with(config, &Context::new())
    }

    /// A WhatsApp number, in this context.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the setting that is wrong.
    pub fn whatsapp_with(config: Config, context: &Context) -> Result<Self> {
        Self::new(Medium::WhatsApp, config, context)
    }

    fn new(medium: Medium, config: Config, context: &Context) -> Result<Self> {
        let whatsapp = medium == Medium::WhatsApp;
        // Twilio writes SIDs in lower case, however this one was typed, and ownership goes by what Twilio writes.
        let account_sid = config.account_sid.to_lowercase().replacen("ac", "AC", 1);
        if !is_sid(&account_sid, "AC") {
            return Err(Error::config("account_sid", "must be AC and 32 hexadecimal digits"));
        }
        let (source, account) = match (&config.from, config.messaging_service_sid) {
            (Some(Sender::Name(_) | Sender::ShortCode(_)), None) if whatsapp => {
                return Err(Error::config("from", "must be a phone number on WhatsApp"));
            }
            (Some(sender), None) => {
                let spelled = [if whatsapp { WHATSAPP } else { "" }, sender.as_str()].concat();
                (Source::Sender(spelled.into()), AccountId::new(sender.as_str()))
            }
            (None, Some(sid)) if is_sid(&sid, "MG") => (Source::Service(sid.as_str().into()), AccountId::new(sid)),
            (None, Some(_)) => {
                return Err(Error::config("messaging_service_sid", "must be MG and 32 hexadecimal digits"));
            }
            (None, None) => return Err(Error::config("from", "is missing, and so is messaging_service_sid: set one")),
            (Some(_), Some(_)) => {
                return Err(Error::config("messaging_service_sid", "stands beside from: set one of them only"));
            }
        };
        let authorization = match &config.api_key {
            Some(key) if is_sid(&key.sid, "SK") => basic(&key.sid, &key.secret)?,
            Some(_) => return Err(Error::config("api_key.sid", "must be SK and 32 hexadecimal digits")),
            None => basic(&account_sid, &config.auth_token)?,
        };
        if config.status_callback.as_deref().is_some_and(|url| !send::is_callback(url)) {
            return Err(Error::config("status_callback", send::CALLBACK));
        }
        let accounts = [AccountId::new(account_sid.as_str())];
        let owned = |secret: SigningSecret| secret.or_owns(&accounts);
        let signature = config.public_url.as_ref().map(|url| {
            let tokens = std::iter::once(config.auth_token.into()).chain(config.old_auth_tokens);
            Arc::new(Signature::new(url, tokens.map(owned), config.shared_keys.into_iter().map(owned)))
        });
        let base = config.base_url.map_or_else(|| "https://api.twilio.com".parse(), Ok)?;
        // Twilio posts a status only where it is told to; that a messaging service tells it so is not known here.
        let (receives, tells) = (signature.is_some(), signature.is_some() && config.status_callback.is_some());
        Ok(Self {
            info: info(medium, account, receives, tells, context.publish.is_some()).with_message_rule(match source {
                Source::Sender(_) => send::rule::<false>,
                Source::Service(_) => send::rule::<true>,
            }),
            endpoint: Endpoint::new(GATEWAY, base, context, ERRORS, vendor_error).with_overrides(config.errors),
            context: context.clone(),
            headers: HeaderMap::from_iter([
                (AUTHORIZATION, authorization),
                (CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded")),
            ]),
            account: format!("{API}Accounts/{account_sid}").into(),
            by_key: config.api_key.is_some(),
            source,
            status_callback: config.status_callback.map(Into::into),
            signature,
        })
    }

    /// Calls a scheduled message back before it goes.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for a message that is not there, and what Twilio says to one that went already.
    pub async fn cancel(&self, id: &MessageId) -> Result<()> {
        self.endpoint.call(self.change(Method::POST, id, "Status=canceled")?).await.map(|_| ())
    }

    /// Removes the text of a message at Twilio, and keeps what else it has of it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for a message that is not there.
    pub async fn redact(&self, id: &MessageId) -> Result<()> {
        self.endpoint.call(self.change(Method::POST, id, "Body=")?).await.map(|_| ())
    }

    /// Deletes a message at Twilio, sent or received.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for a message that is not there.
    pub async fn delete(&self, id: &MessageId) -> Result<()> {
        self.endpoint.call(self.change(Method::DELETE, id, "")?).await.map(|_| ())
    }

    fn change(&self, method: Method, id: &MessageId, form: &'static str) -> Result<Request<Body>> {
        self.endpoint.request(method, &self.message_path(id)?, self.headers.clone(), Body::from(form.to_owned()))
    }

    fn message_path(&self, id: &MessageId) -> Result<String> {
        if !is_sid(id.as_str(), "SM") && !is_sid(id.as_str(), "MM") {
            return Err(Error::invalid("id", "is not the SID of a message at Twilio").with_gateway(GATEWAY));
        }
        Ok(format!("{}/Messages/{}.json", self.account, id.as_str()))
    }
}

/// Builds a channel from settings; its medium is `sms` or `whatsapp`.
///
/// # Errors
/// [`ErrorKind::Config`] with the setting that is wrong.
pub fn connect(settings: &Settings, context: &Context) -> Result<Arc<dyn Channel>> {
    match settings.medium()? {
        medium @ (Medium::Sms | Medium::WhatsApp) => Ok(Arc::new(Twilio::new(medium, settings.read()?, context)?)),
        _ => Err(Error::config("medium", "must be sms or whatsapp for this gateway")),
    }
}

/// What the paths of the API begin with.
const API: &str = "/2010-04-01/";

/// How Twilio marks an address of WhatsApp.
const WHATSAPP: &str = "whatsapp:";

/// How Twilio marks an address of RCS.
const RCS: &str = "rcs:";

/// Characters of a `Body`, on either medium. (Twilio, Messages, read 2026-11-22 from stored copies.)
const TEXT_MAX: usize = 1_600;

/// Bytes of a JPEG, PNG or GIF in an MMS, of all of them together too, and of any other file. Twilio writes 5 MB and
/// 500 KB; the larger reading of both is taken. (Twilio, Messages and Media, read 2026-11-22 from stored copies.)
const PICTURE_MAX: u64 = 5 * 1_024 * 1_024;
const FILE_MAX: u64 = 500 * 1_024;

fn info(medium: Medium, account: AccountId, receives: bool, tells: bool, publishes: bool) -> Info {
    let whatsapp = medium == Medium::WhatsApp;
    let media = if whatsapp {
        MediaLimits { stored: publishes, gateway: false, ..MediaLimits::whatsapp() }
    } else {
        let picture =
            MediaRule::new(MediaKind::Image, PICTURE_MAX, &["image/jpeg", "image/png", "image/gif"], TEXT_MAX);
        let other = |kind| MediaRule::new(kind, FILE_MAX, &[], TEXT_MAX);
        let kinds = [MediaKind::Image, MediaKind::Audio, MediaKind::Document, MediaKind::Video].map(other);
        let kinds = std::iter::once(picture).chain(kinds).collect();
        MediaLimits { per_message: 10, link: true, stored: publishes, gateway: false, kinds }
    };
    let info = Info::new(GATEWAY, medium, account).with_capability(|can| {
        can.receive = receives;
        can.delivery_status = tells;
        can.look_up = true;
        can.fetch_media = true;
        can.health = true;
        can.text = Some(TextLimit::characters(TEXT_MAX));
        can.media = Some(media);
        can.template = Some(TemplateLimits { language: false, positional: true, named: true, components: false });
        can.location = whatsapp;
    });
    if whatsapp {
        return info;
    }
    info.with_address_rule(|to| match to {
        Address::Phone(_) => Ok(()),
        _ => Err("must be a phone number: Twilio sends to no short code or name"),
    })
}

#[async_trait]
impl Channel for Twilio {
    fn info(&self) -> &Info {
        &self.info
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        let message = self.info.prepare(message, self.context.clock.now())?;
        let form = self.encode(&message).await.map_err(|e| e.with_gateway(GATEWAY))?;
        let path = [&*self.account, "/Messages.json"].concat();
        let request = self.endpoint.request(Method::POST, &path, self.headers.clone(), Body::from(form))?;
        send::decode(&self.endpoint.send(request).await?)
    }

    async fn receive(&self, request: &webhook::Request) -> Result<Received> {
        let scheme = self.signature.as_deref().map(|signature| signature as &dyn webhook::Scheme);
        let received = adapter::receive(request, &self.info, scheme, "public_url", |hook, events| {
            self.events(hook, events);
        })?;
        Ok(received.with_response(receive::nothing_back()))
    }

    async fn look_up(&self, sent: &LookupQuery) -> Result<LookupOutcome> {
        match &sent.id {
            Some(id) => self.find(id).await,
            None => self.search(sent).await,
        }
    }

    async fn fetch_media(&self, media: &MediaRef) -> Result<MediaStream> {
        let wrong = |field, rule: &'static str| Error::invalid(field, rule).with_gateway(GATEWAY);
        if media.gateway != GATEWAY {
            return Err(wrong("media.gateway", "is another gateway"));
        }
        let url = media.url.as_deref().ok_or_else(|| wrong("media.url", "is missing"))?;
        let credential = self.headers.get(AUTHORIZATION).cloned().limited_to(|file: &FileUrl<'_>| self.access(file));
        // Twilio gives no other address for a file; a redirect leads away from it.
        let first = HOSTS
            .check(url, self.endpoint.base())
            .and_then(|(uri, trusted)| Ok(trusted && credential.access(&FileUrl::new(&uri)?) == Access::Credential));
        if !first.map_err(|error| error.with_gateway(GATEWAY))? {
            return Err(Error::new(ErrorKind::Forbidden, "is not a file of this account")
                .with_field("media.url")
                .with_gateway(GATEWAY));
        }
        self.endpoint.fetch(url, &HOSTS, credential, FETCH).await
    }

    async fn health(&self) -> Result<Health> {
        let mut headers = self.headers.clone();
        headers.remove(CONTENT_TYPE);
        // A standard key may do everything but read the account (from memory), so that it is tried on a list.
        let path = [&*self.account, if self.by_key { "/Messages.json?PageSize=1" } else { ".json" }].concat();
        let answer = match self.endpoint.get(&path, headers).await {
            Ok(answer) => answer,
            Err(error)
                if matches!(error.kind(), ErrorKind::Unauthenticated | ErrorKind::Forbidden | ErrorKind::NotFound) =>
            {
                return Ok(Health::default().check_result("credentials", CheckStatus::Fail, error.to_string()));
            }
            Err(error) => return Err(error),
        };
        let health = Health::default().check_result("credentials", CheckStatus::Pass, "Twilio knows them");
        let account: Account<'_> = serde_json::from_slice(&answer.body).map_err(|_| answer.unreadable())?;
        let health = match (account.status.as_deref(), account.kind.as_deref()) {
            _ if self.by_key => {
                health.check_result("account", CheckStatus::Unknown, "an API key cannot read the account's state")
            }
            (Some("active"), Some("Trial")) => {
                health.check_result("account", CheckStatus::Warn, "a trial account sends to verified numbers only")
            }
            (Some("active"), _) => health.check_result("account", CheckStatus::Pass, "the account is active"),
            (Some(_), _) => health.check_result("account", CheckStatus::Fail, "the account is suspended or closed"),
            (None, _) => health.check_result(
                "account",
                CheckStatus::Unknown,
                "Twilio does not say in which state the account is",
            ),
        };
        Ok(match self.signature {
            Some(_) => health.check_result(
                "webhook",
                CheckStatus::Unknown,
                "Twilio tells by no call whether its webhooks arrive",
            ),
            None => health.check_result("webhook", CheckStatus::Warn, "public_url is not set: nothing can be received"),
        })
    }
}

/// `media.twiliocdn.com` and `mms.twiliocdn.com` are where the API was seen to redirect to in 2020 and 2026; that it
/// will always be a host under that name is unverified.
const HOSTS: HostRules = HostRules { trusted: &["api.twilio.com"], open: &["*.twiliocdn.com"] };

const FETCH: FetchLimits = FetchLimits { cap: whatsapp::INBOUND_BYTES_MAX, time: Duration::from_secs(120) };

/// What a status word of Twilio's means.
///
/// `partially_delivered`, which Twilio calls deprecated, says that some parts of a text arrived: not all, so that it is
/// `LookupQuery`. A failure with code 30036 is a `ValidityPeriod` that ran out.
fn state(status: &str, code: Option<&str>) -> DeliveryState {
    match status {
        "accepted" | "queued" | "scheduled" => DeliveryState::Accepted,
        "sending" => DeliveryState::Sending,
        "partially_delivered" | "sent" => DeliveryState::Sent,
        "delivered" => DeliveryState::Delivered,
        "read" => DeliveryState::Read,
        "canceled" => DeliveryState::Cancelled,
        "failed" | "undelivered" if code == Some("30036") => DeliveryState::Expired,
        "failed" | "undelivered" => DeliveryState::Failed,
        _ => DeliveryState::Unrecognised,
    }
}

impl Twilio {
    /// The credential opens the whole API: it goes to a file of a message of this account, and nowhere else. On loopback,
    /// where the API and its CDN are one host, what is not of the API is fetched without it.
    fn access(&self, file: &FileUrl<'_>) -> Access {
        let of_message = file.path().strip_prefix(&*self.account).map(|path| path.split('/').collect::<Vec<_>>());
        match of_message.as_deref() {
            Some(["", "Messages", message, "Media", media])
                if file.query().is_none()
                    && (is_sid(message, "MM") || is_sid(message, "SM"))
                    && is_sid(media, "ME") =>
            {
                Access::Credential
            }
            _ if file.is_loopback() && !file.path().starts_with(API) => Access::Anonymous,
            _ => Access::Refused,
        }
    }

    /// Why a message was not delivered. One that may be tried again has failed for now only.
    fn failure(&self, state: DeliveryState, code: Option<&str>, detail: Option<String>) -> Option<Failure> {
        if !matches!(state, DeliveryState::Failed | DeliveryState::Expired) {
            return None;
        }
        let class = code.and_then(|code| self.endpoint.class(code)).unwrap_or(ErrorClass::new(ErrorKind::Rejected));
        let mut failure = Failure::new(class.kind).temporary(class.retryable).detail(detail);
        failure.code = code.map(str::to_owned);
        Some(failure)
    }
}

/// Whether this is a SID: two letters that say of what, and 32 hexadecimal digits.
fn is_sid(text: &str, of: &str) -> bool {
    text.strip_prefix(of).is_some_and(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// What Twilio's codes mean, for a refusal and for a delivery that failed; where a refusal may be tried again, a
/// delivery failed for now.
///
/// Each code has a page under <https://www.twilio.com/docs/api/errors>. Read there, from copies stored until 2026-11-30:
/// 14107, 20003, 20404, 20429, 21211, 21602, 21606, 21610, 21611, 21617, 21623, 21635, 21654 to 21656, 21659, 21660, 21701,
/// 21705, 21715, 21730, 30001, 30003 to 30007, 30017, 30020 to 30022, 30024, 30034, 30500, 63003, 63006 to 63008, 63011,
/// 63014, 63016, 63017, 63023, 63028, 63038 and 63049. What 63001, 63005, 63010, 63012, 63013, 63018 to 63022, 63024, 63025,
/// 63027, 63029, 63030, 63032 and 63033 mean follows from the codes of WhatsApp that Twilio's [mapping] gives for them.
/// The others are from memory, UNVERIFIED, and so is what of 30xxx is for ever. A code that is not here is
/// [`ErrorKind::Rejected`]. Twilio asks not to build on codes since it changes them: the configuration's `errors` go over
/// this table.
///
/// [mapping]: https://www.twilio.com/docs/whatsapp/api/error-code-mapping
const ERRORS: &[(&str, ErrorClass)] = &[
    // So many a second to one recipient.
    ("14107", ErrorClass::new(ErrorKind::RateLimited).retry(None).per_recipient()),
    ("20003", ErrorClass::new(ErrorKind::Unauthenticated)),
    ("20404", ErrorClass::new(ErrorKind::NotFound)),
    ("20429", ErrorClass::new(ErrorKind::RateLimited).retry(None)),
    ("20500", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("21211", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("21212", ErrorClass::new(ErrorKind::Config)),
    ("21217", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("21265", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("21266", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("21268", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("21408", ErrorClass::new(ErrorKind::Forbidden).scope(Scope::Recipient)),
    ("21602", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("21603", ErrorClass::new(ErrorKind::Config)),
    ("21604", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("21606", ErrorClass::new(ErrorKind::Config)),
    ("21607", ErrorClass::new(ErrorKind::Config)),
    ("21608", ErrorClass::new(ErrorKind::Forbidden).scope(Scope::Recipient)),
    ("21609", ErrorClass::new(ErrorKind::Config)),
    ("21610", ErrorClass::new(ErrorKind::OptedOut)),
    ("21611", ErrorClass::new(ErrorKind::RateLimited).retry(None)),
    ("21612", ErrorClass::new(ErrorKind::Rejected)),
    ("21614", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("21617", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("21618", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("21619", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("21620", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("21621", ErrorClass::new(ErrorKind::Config)),
    ("21623", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("21624", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("21635", ErrorClass::new(ErrorKind::InvalidRecipient)),
    // The template of a message, or what fills it.
    ("21654", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("21655", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("21656", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("21659", ErrorClass::new(ErrorKind::Config)),
    ("21660", ErrorClass::new(ErrorKind::Config)),
    ("21661", ErrorClass::new(ErrorKind::Config)),
    // The messaging service: it is not there, is of another account, has no sender, or has one that cannot send.
    ("21701", ErrorClass::new(ErrorKind::Config)),
    ("21702", ErrorClass::new(ErrorKind::Config)),
    ("21703", ErrorClass::new(ErrorKind::Config)),
    ("21704", ErrorClass::new(ErrorKind::Config)),
    ("21705", ErrorClass::new(ErrorKind::Config)),
    ("21706", ErrorClass::new(ErrorKind::Config)),
    ("21707", ErrorClass::new(ErrorKind::Config)),
    ("21708", ErrorClass::new(ErrorKind::Config)),
    ("21709", ErrorClass::new(ErrorKind::Config)),
    ("21710", ErrorClass::new(ErrorKind::Config)),
    ("21711", ErrorClass::new(ErrorKind::Config)),
    ("21712", ErrorClass::new(ErrorKind::Config)),
    ("21713", ErrorClass::new(ErrorKind::Config)),
    ("21714", ErrorClass::new(ErrorKind::Config)),
    ("21715", ErrorClass::new(ErrorKind::Config)),
    ("21716", ErrorClass::new(ErrorKind::Config)),
    ("21717", ErrorClass::new(ErrorKind::Config)),
    // Maintenance.
    ("21730", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("30001", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("30002", ErrorClass::new(ErrorKind::Account)),
    ("30003", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("30004", ErrorClass::new(ErrorKind::Rejected)),
    ("30005", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("30006", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("30007", ErrorClass::new(ErrorKind::Rejected)),
    ("30008", ErrorClass::new(ErrorKind::Rejected).retry(None)),
    ("30010", ErrorClass::new(ErrorKind::Config).scope(Scope::Message)),
    ("30012", ErrorClass::new(ErrorKind::InvalidMessage)),
    // The carrier's network is congested.
    ("30017", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("30018", ErrorClass::new(ErrorKind::Config).scope(Scope::Recipient)),
    ("30019", ErrorClass::new(ErrorKind::InvalidMessage)),
    // Internal faults, of scheduling and of messaging services.
    ("30020", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("30021", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    // Carriers' limits: of a second, and of a day.
    ("30022", ErrorClass::new(ErrorKind::RateLimited).retry(None)),
    ("30023", ErrorClass::new(ErrorKind::QuotaExceeded).retry(Some(HOUR))),
    // A numeric sender that the carrier does not know (yet).
    ("30024", ErrorClass::new(ErrorKind::Config).scope(Scope::Recipient)),
    ("30027", ErrorClass::new(ErrorKind::QuotaExceeded).retry(Some(HOUR))),
    // A toll-free number that is not verified, a campaign that is suspended or not registered.
    ("30032", ErrorClass::new(ErrorKind::Config)),
    ("30033", ErrorClass::new(ErrorKind::Account)),
    ("30034", ErrorClass::new(ErrorKind::Config).scope(Scope::Recipient)),
    ("30035", ErrorClass::new(ErrorKind::Config).scope(Scope::Recipient)),
    ("30036", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("30410", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("30500", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("63001", ErrorClass::new(ErrorKind::Config)),
    ("63002", ErrorClass::new(ErrorKind::Config)),
    ("63003", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("63005", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("63006", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("63007", ErrorClass::new(ErrorKind::Config)),
    ("63008", ErrorClass::new(ErrorKind::Config)),
    ("63009", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("63010", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("63011", ErrorClass::new(ErrorKind::Rejected)),
    ("63012", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("63013", ErrorClass::new(ErrorKind::Rejected)),
    // The person blocked the sender, or took consent back.
    ("63014", ErrorClass::new(ErrorKind::OptedOut)),
    ("63015", ErrorClass::new(ErrorKind::Forbidden).scope(Scope::Recipient)),
    ("63016", ErrorClass::new(ErrorKind::OutsideWindow)),
    ("63017", ErrorClass::new(ErrorKind::RateLimited).retry(None)),
    ("63018", ErrorClass::new(ErrorKind::RateLimited).retry(None)),
    ("63019", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("63020", ErrorClass::new(ErrorKind::Account)),
    ("63021", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("63022", ErrorClass::new(ErrorKind::Config)),
    // A generic fault of the medium, as 30008 is of a network.
    ("63023", ErrorClass::new(ErrorKind::Rejected).retry(None)),
    ("63024", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("63025", ErrorClass::new(ErrorKind::Rejected)),
    // Templates: not in this language, other parameters.
    ("63027", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("63028", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("63029", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("63030", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("63031", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("63032", ErrorClass::new(ErrorKind::Rejected)),
    ("63033", ErrorClass::new(ErrorKind::OptedOut)),
    ("63034", ErrorClass::new(ErrorKind::InvalidMessage)),
    // A phone that has no RCS, and may well have SMS.
    ("63036", ErrorClass::new(ErrorKind::Unsupported)),
    // The account's messages of a rolling 24 hours are used up.
    ("63038", ErrorClass::new(ErrorKind::QuotaExceeded).retry(Some(HOUR))),
    // Templates: rejected, paused, disabled.
    ("63040", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("63041", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("63042", ErrorClass::new(ErrorKind::InvalidMessage)),
    // Meta sends this person no more marketing for the time being.
    ("63049", ErrorClass::new(ErrorKind::QuotaExceeded).per_recipient()),
    ("63051", ErrorClass::new(ErrorKind::Account)),
];

const HOUR: Duration = Duration::from_secs(3_600);

/// `{"code":21211,"message":"…","more_info":"https://…","status":400}`; the message may repeat the number, and is left.
fn vendor_error(answer: &Answer) -> VendorError<'_> {
    let refused: Refused<'_> = serde_json::from_slice(&answer.body).unwrap_or_default();
    let mut error = VendorError::default();
    let request_id = HeaderName::from_static("twilio-request-id");
    error.trace = answer.headers.get(request_id).and_then(|id| id.to_str().ok()).map(Into::into);
    if let Some(code) = refused.code {
        if is_code(&code) && code.bytes().all(|b| b.is_ascii_digit()) {
            error.help = Some(format!("https://www.twilio.com/docs/errors/{}", &*code).into());
        }
        error.code = Some(code.0);
    }
    error
}

#[derive(Default, Deserialize)]
struct Refused<'a> {
    #[serde(borrow, default)]
    code: Option<Str<'a>>,
}

#[derive(Deserialize)]
struct Account<'a> {
    #[serde(borrow, default)]
    status: Option<Str<'a>>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<Str<'a>>,
}
