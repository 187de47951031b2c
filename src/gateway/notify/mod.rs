//! GOV.UK Notify: text messages for central and local government.
//!
//! Vendor's pages: [REST API][api], [text message characters and prices][price]; the API's own source as of
//! autumn 2026; read 2026-11-22 from stored copies.
//!
//! Notify sends templates only. Free text goes through one whose whole content is `((body))`: make it once on
//! Notify's site, as a text message template, and give its id here. Messages with a [`Template`](crate::message::Template)
//! name a Notify template by its UUID, or by `native("notify", …)`.
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
//! What to know before relying on it:
//! - **It rewrites texts.** [`Plan::losses`](crate::plan::Plan::losses) says beforehand what it will change, and
//!   [`Accepted::losses`] what it did, from its answer. See [`sanitise`] and [`Config::unicode`].
//! - **It counts UTF-16 code units**, so that an emoji is two, without spaces at the ends and double spaces.
//! - **No idempotency key exists**: one reference sent twice is two messages. After an unknown outcome
//!   [`look_up`](Channel::look_up) by key tells, or a callback, which carries the key back.
//! - **Callbacks are not signed.** A bearer token shows who calls and not what it says. Notify calls again on a network
//!   error, 429 and 5xx, and drops a callback for good on any other 4xx: answer 503 when your store is down, as
//!   [`Error::webhook_status`](crate::Error::webhook_status) does. A wrong token is a 403, so a token must be set here before it is
//!   set at Notify. Callbacks tell final states only.
//! - **It keeps no list of opt-outs**: STOP arrives as a message like any other, and the service must act on it.
//! - **Numbers for tests**, with any key: `07700 900000`, `900111` and `900222` are accepted, not sent, and found by no
//!   call. With a test key, `900003` ends in temporary failure and `900002` in permanent failure.
//!
//! [api]: https://docs.notifications.service.gov.uk/rest-api.html
//! [price]: https://www.notifications.service.gov.uk/pricing/text-messages

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64, Engine};
use hmac::{Hmac, KeyInit, Mac};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::adapter::json::{self, Json, List, Piece, Text};
use crate::adapter::{self, lenient};
use crate::adapter::{Answer, Endpoint, VendorError, segment, sensitive};
use crate::channel::Channel;
use crate::context::Context;
use crate::model::address::{Address, Medium};
use crate::model::capability::{TemplateLimits, TextLimit};
use crate::model::clock::Clock;
use crate::model::error::{Error, ErrorClass, ErrorKind, Result, Scope};
use crate::model::event::Raw;
use crate::model::health::{CheckStatus, Health};
use crate::model::id::AccountId;
use crate::model::info::Info;
use crate::model::lookup::{LookupOutcome, LookupQuery};
use crate::model::message::{Accepted, GatewayOptions, Message};
use crate::model::poll::{Cursor, Page};
use crate::model::rate::Rate;
use crate::model::secret::Secret;
use crate::settings::Settings;
use crate::transport::BaseUrl;
use crate::transport::Body;
use crate::webhook::{self, BearerToken, Received, SigningSecret};

mod receive;
mod send;

pub use send::{sanitise, sanitise_unicode};

const GATEWAY: &str = "notify";
const HELP: &str = "https://docs.notifications.service.gov.uk/rest-api.html";

/// How long after a send Notify may still be filing the message. It saves one before it answers, but a busy service's
/// by way of a queue; five minutes stand for that, as no figure is published.
const FILING: Duration = Duration::from_secs(5 * 60);

/// How long a service surely keeps its messages. It is seven days unless the service chose otherwise, and the least that
/// it can choose is not published.
const KEPT: Duration = Duration::from_secs(3 * 24 * 3600);

/// The settings of a Notify service.
///
/// ```toml
/// gateway = "notify"
/// medium = "sms"
/// api_key = { env = "NOTIFY_API_KEY" }
/// template_id = "5484cfca-668a-4c18-afb1-5ddd0e3521b1"     # whose content is ((body))
/// callback_tokens = { env = "NOTIFY_CALLBACK_TOKEN" }      # a list for two callbacks, or while one is rotated
/// key_type = "live"
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The API key as Notify showed it once: a name, the service's id and the secret, with hyphens between.
    pub api_key: Secret,
    /// The template that carries free text.
    pub template_id: String,
    /// The field of that template: `body` in `((body))`.
    #[serde(default = "body_field")]
    pub body_field: String,
    /// Which of the service's senders texts come from; its default one if none. [`Options`] can name another for one
    /// message.
    #[serde(default)]
    pub sms_sender_id: Option<String>,
    /// The bearer tokens that callbacks carry, as they were typed on Notify's site. Deliveries and received messages
    /// may have different ones: list both. None: nothing is received by callback.
    #[serde(default, deserialize_with = "webhook::secrets")]
    pub callback_tokens: Vec<SigningSecret>,
    /// Which kind of key it is. No call says so: [`health`](Channel::health) tells what is declared here from what it
    /// can prove.
    #[serde(default)]
    pub key_type: Option<KeyType>,
    /// Plan texts by [`sanitise_unicode`] instead of [`sanitise`]: for a Notify that keeps every letter and emoji, as
    /// its source does since September 2026. [`health`](Channel::health) finds out which holds and warns if this
    /// differs. It changes what is foretold, and nothing that is sent.
    #[serde(default)]
    pub unicode: bool,
    /// Where the API is.
    #[serde(default)]
    pub base_url: Option<BaseUrl>,
    /// What some of Notify's errors mean, over the table, by the name in `error`: `RateLimitError`.
    #[serde(default)]
    pub errors: BTreeMap<String, ErrorClass>,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyType {
    /// Sends to anybody, once the service is live.
    Live,
    /// Sends to the service's team and guest list.
    Team,
    /// Sends to nobody.
    Test,
}

fn body_field() -> String {
    "body".to_owned()
}

impl Config {
    /// The settings that sending needs.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a key that is empty, blank or too short. Its shape is checked by
    /// [`Notify::sms_with`].
    pub fn new(api_key: impl Into<String>, template_id: impl Into<String>) -> Result<Self> {
        Ok(Self {
            api_key: Secret::new(api_key).map_err(|e| e.with_field("api_key"))?,
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

    /// Adds a bearer token that callbacks carry.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it is empty, blank or too short.
    pub fn callback_token(mut self, token: impl Into<String>) -> Result<Self> {
        self.callback_tokens.push(Secret::new(token).map_err(|e| e.with_field("callback_tokens"))?.into());
        Ok(self)
    }

    /// Sets which of the service's senders texts come from.
    #[must_use]
    pub fn sms_sender_id(mut self, id: impl Into<String>) -> Self {
        self.sms_sender_id = Some(id.into());
        self
    }

    /// Declares which kind of key it is.
    #[must_use]
    pub fn key_type(mut self, key_type: KeyType) -> Self {
        self.key_type = Some(key_type);
        self
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

/// A Notify service that sends and receives text messages.
#[derive(Debug)]
pub struct Notify {
    info: Info,
    endpoint: Endpoint,
    clock: Arc<dyn Clock>,
    scheme: BearerToken,
    key: Key,
    template_id: String,
    body_field: String,
    sms_sender_id: Option<String>,
    key_type: Option<KeyType>,
    unicode: bool,
}

impl Notify {
    /// A Notify service.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the setting that is wrong.
    #[cfg(feature = "reqwest")]
    pub fn sms(config: Config) -> Result<Self> {
        Self::sms_with(config, &Context::new())
    }

    /// A Notify service, in this context.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the setting that is wrong.
    pub fn sms_with(config: Config, context: &Context) -> Result<Self> {
        let key = Key::new(&config.api_key)?;
        if !is_uuid(&config.template_id) {
            let rule = "must be the UUID of a text message template: copy it from the template's page on Notify's site";
            return Err(Error::config("template_id", rule));
        }
        if config.body_field.trim().is_empty() {
            return Err(Error::config("body_field", "is empty"));
        }
        if config.sms_sender_id.as_ref().is_some_and(|id| !is_uuid(id)) {
            return Err(Error::config("sms_sender_id", "must be the UUID of a sender, and not its number or name"));
        }
        let base = config.base_url.map_or_else(|| "https://api.notifications.service.gov.uk".parse(), Ok)?;
        let receives = !config.callback_tokens.is_empty();
        let mut info = Info::new(GATEWAY, Medium::Sms, key.service.clone())
            .with_capability(|can| {
                can.receive = receives;
                can.delivery_status = true;
                can.poll = true;
                can.look_up = true;
                can.health = true;
                can.key = true;
                can.max_reference = Some(1_000);
                can.text = Some(TextLimit::utf16(918));
                // Of requests, for each kind of key of a service.
                can.rate = Some(Rate::per_minute(3_000));
                can.template =
                    Some(TemplateLimits { language: false, positional: false, named: true, components: false });
            })
            .with_address_rule(|to| match to {
                Address::Phone(_) => Ok(()),
                _ => Err("must be a phone number"),
            })
            .with_message_rule(send::rule);
        info.text_length = Some(send::text_length);
        info.rewrites = Some(if config.unicode { sanitise_unicode } else { sanitise });
        let owned = [key.service.clone()];
        Ok(Self {
            info,
            endpoint: Endpoint::new(GATEWAY, base, context, ERRORS, vendor_error).with_overrides(config.errors),
            clock: context.clock.clone(),
            scheme: BearerToken::new(config.callback_tokens.into_iter().map(|token| token.or_owns(&owned))),
            key,
            template_id: config.template_id,
            body_field: config.body_field,
            sms_sender_id: config.sms_sender_id,
            key_type: config.key_type,
            unicode: config.unicode,
        })
    }

    /// The headers of one request. Notify takes a token for 30 seconds around its `iat`, so each has its own.
    fn headers(&self) -> Result<HeaderMap> {
        let mut headers = HeaderMap::with_capacity(2);
        headers.insert(AUTHORIZATION, self.key.authorization(self.clock.now().as_secs())?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(headers)
    }

    async fn get(&self, path: &str) -> Result<Answer> {
        self.endpoint.get(path, self.headers()?).await.map_err(|error| self.until_midnight(error))
    }

    async fn post(&self, path: &str, body: Vec<u8>, sending: bool) -> Result<Answer> {
        let request = self.endpoint.request(Method::POST, path, self.headers()?, Body::from(body))?;
        let answer = if sending { self.endpoint.send(request).await } else { self.endpoint.call(request).await };
        answer.map_err(|error| self.until_midnight(error))
    }

    /// Adds the wait to a used-up quota of the day, which begins again at midnight UTC. Notify does not send it.
    fn until_midnight(&self, error: Error) -> Error {
        const DAY: i64 = 24 * 3600;
        if error.kind() != ErrorKind::QuotaExceeded || !error.is_retryable() || error.retry_after().is_some() {
            return error;
        }
        let left = DAY - self.clock.now().as_secs().rem_euclid(DAY);
        error.with_retry(true, Some(Duration::from_secs(left.unsigned_abs())))
    }

    /// What the newest delivered messages of this key prove about it.
    async fn billed(&self) -> Option<bool> {
        let answer = self.get("/v2/notifications?template_type=sms&status=delivered").await.ok()?;
        let json = Json::new(&answer.body);
        let list = json.read::<receive::Rows<'_>>()?.rows?;
        let fragments = list.iter().filter_map(|row| json::read::<receive::Told<'_>>(row.get())?.segments());
        fragments.map(|segments| segments > 0).reduce(|one, other| one || other)
    }

    /// Whether Notify keeps every character, found out by a preview.
    async fn keeps_unicode(&self) -> Option<bool> {
        let personalisation = BTreeMap::from([(self.body_field.as_str(), "\u{1F600}")]);
        let body = serde_json::to_vec(&BTreeMap::from([("personalisation", personalisation)])).ok()?;
        let path = format!("/v2/template/{}/preview", segment("template_id", &self.template_id).ok()?);
        let answer = self.post(&path, body, false).await.ok()?;
        let json = Json::new(&answer.body);
        let preview: TemplateTold<'_> = json.read()?;
        match preview.body.as_deref()?.trim() {
            "\u{1F600}" => Some(true),
            "?" => Some(false),
            _ => None,
        }
    }
}

/// Builds a channel from settings.
///
/// # Errors
/// [`ErrorKind::Config`] with the setting that is wrong.
pub fn connect(settings: &Settings, context: &Context) -> Result<Arc<dyn Channel>> {
    match settings.medium()? {
        Medium::Sms => Ok(Arc::new(Notify::sms_with(settings.read()?, context)?)),
        _ => Err(Error::config("medium", "must be sms for this gateway")),
    }
}

#[async_trait]
impl Channel for Notify {
    fn info(&self) -> &Info {
        &self.info
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        let message = self.info.prepare(message, self.clock.now())?;
        let body = send::encode(&message, self)?;
        let answer = self.post("/v2/notifications/sms", body, true).await?;
        send::decode(&message, &answer)
    }

    async fn receive(&self, request: &webhook::Request) -> Result<Received> {
        adapter::receive(request, &self.info, Some(&self.scheme), "callback_tokens", |callback, events| {
            receive::events(callback, &self.info, events);
        })
    }

    /// Fetches received messages, and deliveries that have become final, as callbacks tell them.
    ///
    /// Notify lists messages by when they were made, newest first, and a message becomes final later. So each poll
    /// reads the received messages back to the last poll, and the sent ones back to the oldest that was not final
    /// then: one call for each 250 messages, at least two, at most those of the last four days, since Notify gives a
    /// phone up after three. While there is much to catch up with, every page of it is read again by each poll, and
    /// the oldest 2,000 of a list come first.
    ///
    /// The list holds the messages that keys of the same kind sent (live, team or test), and what people sent on
    /// Notify's site. A message is made when Notify received it, and in a callback when the network did, so that the
    /// times of one message may differ by seconds; its id does not.
    async fn poll(&self, after: Option<&Cursor>) -> Result<Page> {
        receive::poll(self, after).await
    }

    /// Asks what became of a message: by its id, else by its key, which Notify calls the reference.
    ///
    /// By key the answer is conclusive from five minutes after the send until Notify may have deleted the message
    /// (three days), and only if the key that asks is of the kind (live, team, test) that sent. Numbers that Notify
    /// simulates are found by no call, so that nothing can be told of them; no more can it of an id that is not
    /// found, since Notify did say yes to it.
    async fn look_up(&self, sent: &LookupQuery) -> Result<LookupOutcome> {
        if let Some(id) = sent.id.as_ref().map(|id| id.as_str()).filter(|id| is_uuid(id)) {
            return match self.get(&format!("/v2/notifications/{id}")).await {
                Ok(answer) => {
                    let json = Json::new(&answer.body);
                    let told: receive::Told<'_> = json.read().ok_or_else(|| answer.unreadable())?;
                    let raw = Raw::new(answer.body.clone());
                    let delivery = receive::delivery(&told, &self.info, raw, self.clock.now());
                    delivery.map(|delivery| LookupOutcome::Found(vec![delivery])).ok_or_else(|| answer.unreadable())
                }
                Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Ok(LookupOutcome::Inconclusive),
                Err(error) => Err(error),
            };
        }
        let Some(ours) = self.info.reference(&sent.message).filter(|_| !is_simulated(&sent.message.to)) else {
            return Ok(LookupOutcome::Inconclusive);
        };
        let written: String = form_urlencoded::byte_serialize(ours.as_bytes()).collect();
        let answer = self.get(&format!("/v2/notifications?template_type=sms&reference={written}")).await?;
        let json = Json::new(&answer.body);
        let list = json.read::<receive::Rows<'_>>().and_then(|list| list.rows).ok_or_else(|| answer.unreadable())?;
        let (mut found, mut unreadable) = (Vec::new(), false);
        for row in list.iter() {
            let told: receive::Told<'_> = json::read(row.get()).unwrap_or_default();
            let raw = Raw::new(json.raw(row.get()));
            match (receive::delivery(&told, &self.info, raw, self.clock.now()), told.reference()) {
                (Some(delivery), Some(reference)) if reference == ours => found.push(delivery),
                (_, Some(reference)) if reference != ours => {}
                // It may be the message that is looked for.
                _ => unreadable = true,
            }
        }
        if !found.is_empty() {
            return Ok(LookupOutcome::Found(found));
        }
        if unreadable {
            return Err(answer.unreadable());
        }
        let since = self.clock.now().since(sent.at);
        let is_conclusive = (FILING..KEPT).contains(&since);
        Ok(if is_conclusive { LookupOutcome::NotFound } else { LookupOutcome::Inconclusive })
    }

    /// Checks `credentials`, `template` (of text messages, with the one field and no words of its own), `key` (what
    /// is proven and what only declared), `characters` (whether [`Config::unicode`] is right) and `webhook`.
    ///
    /// It makes two reads and one preview. Nothing is sent, and no number is named.
    ///
    /// A key that bills is no test key: Notify bills no message of one. It cannot tell team from live.
    async fn health(&self) -> Result<Health> {
        let health = Health::default();
        let template = format!("/v2/template/{}", segment("template_id", &self.template_id)?);
        let health = match self.get(&template).await {
            Ok(answer) => {
                let json = Json::new(&answer.body);
                let template: TemplateTold<'_> = json.read().ok_or_else(|| answer.unreadable())?;
                let (grade, detail) = template.grade(&self.body_field);
                health
                    .check_result("credentials", CheckStatus::Pass, "Notify knows the key")
                    .check_result("template", grade, detail)
            }
            Err(error) if matches!(error.status(), Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)) => {
                return Ok(health.check_result("credentials", CheckStatus::Fail, refused(&error)));
            }
            Err(error)
                if error.status().is_some_and(|s| s == StatusCode::NOT_FOUND || s == StatusCode::BAD_REQUEST) =>
            {
                let absent = "the service has no template of this id: see template_id";
                health.check_result("credentials", CheckStatus::Pass, "Notify knows the key").check_result(
                    "template",
                    CheckStatus::Fail,
                    absent,
                )
            }
            Err(error) => return Err(error),
        };
        let (grade, detail) = key_grade(self.key_type, self.billed().await);
        let health = health.check_result("key", grade, detail);
        let health = match self.keeps_unicode().await {
            Some(keeps) if keeps == self.unicode => {
                health.check_result("characters", CheckStatus::Pass, "a preview was changed as `unicode` says")
            }
            Some(true) => health.check_result(
                "characters",
                CheckStatus::Warn,
                "a preview kept every character: set unicode = true",
            ),
            Some(false) => {
                health.check_result("characters", CheckStatus::Warn, "a preview lost characters: set unicode = false")
            }
            None => health.check_result("characters", CheckStatus::Unknown, "no preview could be made of the template"),
        };
        Ok(match self.info.capability.receive {
            true => health.check_result("webhook", CheckStatus::Unknown, "no call says where Notify's callbacks go"),
            false => health.check_result(
                "webhook",
                CheckStatus::Warn,
                "callback_tokens are not set: nothing is received by callback",
            ),
        })
    }
}

/// What a refused token needs, from Notify's words about it.
fn refused(error: &Error) -> &'static str {
    let words = error.raw().map(|raw| String::from_utf8_lossy(raw)).unwrap_or_default();
    if words.contains("system clock") {
        "this machine's clock is wrong: Notify allows 30 seconds"
    } else if words.contains("service not found") || words.contains("archived") {
        "the service of this key is not there or is archived"
    } else {
        "Notify does not know this key, or it was revoked"
    }
}

/// What a declaration and a proof come to. `billed` is whether a delivered message of the key was billed, if any was
/// delivered that says.
fn key_grade(declared: Option<KeyType>, billed: Option<bool>) -> (CheckStatus, &'static str) {
    match (declared, billed) {
        (Some(KeyType::Live), Some(true)) => (
            CheckStatus::Pass,
            "declared live; a billed message proves that it is no test key, and nothing tells live from team",
        ),
        (Some(KeyType::Live), Some(false)) => {
            (CheckStatus::Warn, "declared live, but its delivered messages were not billed, as with a test key")
        }
        (Some(KeyType::Live), None) => (CheckStatus::Unknown, "declared live; no message of it proves that"),
        (Some(KeyType::Team), Some(false)) => {
            (CheckStatus::Warn, "declared team, but its delivered messages were not billed, as with a test key")
        }
        (Some(KeyType::Team), _) => {
            (CheckStatus::Warn, "declared team: it reaches the service's team and guest list only")
        }
        (Some(KeyType::Test), Some(true)) => {
            (CheckStatus::Fail, "declared test, but a billed message proves that it sends: it is a team or live key")
        }
        (Some(KeyType::Test), _) => (CheckStatus::Warn, "declared test: it reaches nobody"),
        (None, Some(true)) => {
            (CheckStatus::Unknown, "a billed message proves a team or live key: say which in key_type")
        }
        (None, Some(false)) => (
            CheckStatus::Unknown,
            "its delivered messages were not billed, as with a test key: say in key_type what it is",
        ),
        (None, None) => {
            (CheckStatus::Unknown, "no call says whether it is a live, team or test key: say it in key_type")
        }
    }
}

/// What a key consists of, with its HMAC keyed once.
struct Key {
    service: AccountId,
    mac: Hmac<Sha256>,
}

impl Key {
    /// Reads `{name}-{service}-{secret}` from its end, since the name may hold hyphens.
    fn new(api_key: &Secret) -> Result<Self> {
        let wrong =
            || Error::config("api_key", "must be a name, the service's UUID and a secret UUID, with hyphens between");
        let split = |text: &'_ str| -> Option<(usize, usize)> {
            let secret = text.len().checked_sub(36)?;
            let service = secret.checked_sub(37)?;
            (text.get(..service)?.ends_with('-') || service == 0).then_some((service, secret))
        };
        let text = api_key.expose();
        let (service, secret) = split(text).ok_or_else(wrong)?;
        let service = text.get(service..).and_then(|rest| rest.get(..36)).filter(|id| is_uuid(id)).ok_or_else(wrong)?;
        let hyphen = text.get(..secret).is_some_and(|rest| rest.ends_with('-'));
        let secret = text.get(secret..).filter(|id| is_uuid(id) && hyphen).ok_or_else(wrong)?;
        let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(|_| wrong())?;
        Ok(Self { service: AccountId::new(service), mac })
    }

    /// The token of a request made at this second: a JWT of the service's id and the time, under HS256.
    fn authorization(&self, now: i64) -> Result<HeaderValue> {
        // {"alg":"HS256","typ":"JWT"}
        const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";
        let claims = format!(r#"{{"iss":"{}","iat":{now}}}"#, self.service);
        let signed = format!("{HEADER}.{}", BASE64.encode(claims));
        let mut mac = self.mac.clone();
        mac.update(signed.as_bytes());
        sensitive(&format!("Bearer {signed}.{}", BASE64.encode(mac.finalize().into_bytes())))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("service", &self.service).finish_non_exhaustive()
    }
}

fn is_uuid(text: &str) -> bool {
    let hyphen = |n: usize| matches!(n, 8 | 13 | 18 | 23);
    text.len() == 36 && text.bytes().enumerate().all(|(n, b)| if hyphen(n) { b == b'-' } else { b.is_ascii_hexdigit() })
}

/// Whether Notify takes messages to this number and does nothing with them, whatever the key.
fn is_simulated(to: &Address) -> bool {
    matches!(to.expose(), "+447700900000" | "+447700900111" | "+447700900222")
}

/// Options that only this gateway reads.
///
/// ```
/// use civic_messaging::{Address, Message, notify};
///
/// let mut options = notify::Options::default();
/// options.sms_sender_id = Some("8e222534-7f05-4972-86e3-17c5d9f894e2".into());
/// let message = Message::text(Address::phone("07700 900123")?, "Hello").gateway_options(&options)?;
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Options {
    /// Which of the service's senders this message comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sms_sender_id: Option<String>,
}

impl GatewayOptions for Options {
    const GATEWAY: &'static str = GATEWAY;
}

/// By the name in `error`. Every 5xx carries the name of an exception of Notify's own, which says nothing; it may have
/// come after the message was taken.
const ERRORS: &[(&str, ErrorClass)] = &[
    ("AuthError", ErrorClass::new(ErrorKind::Unauthenticated)),
    ("BadRequestError", ErrorClass::new(ErrorKind::Rejected)),
    ("InvalidPhoneError", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("InvalidRecipientError", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("NoResultFound", ErrorClass::new(ErrorKind::NotFound)),
    // 3,000 requests a minute for each kind of key. The answer does not say how long to wait.
    ("RateLimitError", ErrorClass::new(ErrorKind::RateLimited).retry(None)),
    // The quota of the day, until midnight UTC.
    ("TooManyRequestsError", ErrorClass::new(ErrorKind::QuotaExceeded).retry(None)),
    ("ValidationError", ErrorClass::new(ErrorKind::InvalidMessage)),
];

/// How messages begin that tell one `BadRequestError` or `ValidationError` from another. Notify may change its words,
/// and then the row of [`ERRORS`] holds.
const WORDS: &[(&str, &str, ErrorKind)] = &[
    ("BadRequestError", "Can’t send to this recipient", ErrorKind::Forbidden),
    ("BadRequestError", "Cannot send to international", ErrorKind::Forbidden),
    ("BadRequestError", "Cannot send to this recipient", ErrorKind::Forbidden),
    ("BadRequestError", "Missing personalisation", ErrorKind::InvalidMessage),
    ("BadRequestError", "Service is not allowed", ErrorKind::Forbidden),
    ("BadRequestError", "Template ", ErrorKind::Config),
    ("BadRequestError", "Text messages cannot be longer", ErrorKind::InvalidMessage),
    ("BadRequestError", "Your message ", ErrorKind::InvalidMessage),
    ("BadRequestError", "email template is not", ErrorKind::Config),
    ("BadRequestError", "letter template is not", ErrorKind::Config),
    ("BadRequestError", "sms_sender_id ", ErrorKind::Config),
    ("ValidationError", "phone_number ", ErrorKind::InvalidRecipient),
    ("ValidationError", "sms_sender_id ", ErrorKind::Config),
    ("ValidationError", "template_id ", ErrorKind::Config),
];

fn vendor_error(answer: &Answer) -> VendorError<'_> {
    let json = Json::new(&answer.body);
    let refusals: Refusals<'_> = json.read().unwrap_or_default();
    let mut said = VendorError { help: Some(HELP.into()), ..VendorError::default() };
    let Some(first) = refusals.errors.first() else { return said };
    let (code, words) = (first.error.as_deref(), first.message.as_deref().unwrap_or_default());
    said.class = match answer.status {
        // Its pages call a refused token a BadRequestError, and the server an AuthError: the status is what holds.
        StatusCode::FORBIDDEN if code != Some("AuthError") => Some(ErrorKind::Unauthenticated),
        StatusCode::BAD_REQUEST => {
            let row = |(name, start, _): &&(&str, &str, _)| code == Some(*name) && words.starts_with(start);
            WORDS.iter().find(row).map(|(_, _, kind)| *kind)
        }
        _ => None,
    }
    .map(|kind| match kind {
        // A key that may send to the team only, or not abroad.
        ErrorKind::Forbidden if !words.starts_with("Service ") => ErrorClass::new(kind).scope(Scope::Recipient),
        kind => ErrorClass::new(kind),
    });
    said.code = code.map(|code| code.to_owned().into());
    said
}

lenient! {
    struct Refusals<'a> {
        errors: List<Refusal<'a>>,
    }

    struct Refusal<'a> {
        error: Text<'a>,
        message: Text<'a>,
    }

    /// A template, or a preview of one.
    struct TemplateTold<'a> {
        medium = "type": Text<'a>,
        body: Text<'a>,
        personalisation: Option<Piece<'a>>,
    }
}

impl TemplateTold<'_> {
    /// Whether it carries a free text as it is.
    fn grade(&self, field: &str) -> (CheckStatus, &'static str) {
        let fields = self.personalisation.as_ref();
        let fields = fields
            .and_then(|fields| serde_json::from_str::<BTreeMap<String, serde::de::IgnoredAny>>(fields.get()).ok());
        let fields = fields.as_ref();
        if self.medium.as_deref() != Some("sms") {
            (CheckStatus::Fail, "it is not a template of text messages")
        } else if !fields.is_some_and(|fields| fields.keys().any(|name| name.eq_ignore_ascii_case(field))) {
            (CheckStatus::Fail, "it does not have the field that body_field names")
        } else if fields.is_some_and(|fields| fields.len() > 1) {
            (CheckStatus::Fail, "it has more fields than the one that body_field names")
        } else if !self.body.as_deref().is_some_and(|body| body.trim().eq_ignore_ascii_case(&format!("(({field}))"))) {
            (CheckStatus::Warn, "it puts words of its own around every text")
        } else {
            (CheckStatus::Pass, "it carries a text as it is")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::NoTransport;

    const VECTOR: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sms/notify_jwt.json"));

    fn vector() -> serde_json::Value {
        serde_json::from_str(VECTOR).unwrap()
    }

    #[test]
    fn the_token_is_that_of_the_official_client() {
        let vector = vector();
        let key = Key::new(&Secret::new(vector["api_key"].as_str().unwrap()).unwrap()).unwrap();
        assert_eq!(key.service.as_str(), vector["service_id"]);
        let case = &vector["cases"][0];
        let header = key.authorization(case["iat"].as_i64().unwrap()).unwrap();
        assert_eq!(header.to_str().unwrap(), case["authorization"]);
        assert!(header.is_sensitive());
    }

    #[test]
    fn a_key_is_read_from_its_end_and_a_wrong_one_is_not_shown() {
        let (service, secret) = ("26785a09-ab16-4eb0-8407-a37497a57506", "3d844edf-8d35-48ac-975b-e847b4f122b0");
        let key = |text: &str| Key::new(&Secret::new(text).unwrap()).map(|key| key.service);
        for name in ["bins-", "a-b--c-", "sécret-", "-", ""] {
            assert_eq!(key(&format!("{name}{service}-{secret}")).unwrap().as_str(), service, "{name}");
        }
        for bad in [
            "canary-key",
            secret,
            &format!("bins{service}-{secret}"),
            &format!("bins-{service}_{secret}"),
            &format!("bins-{service}-{secret} "),
            &format!("bins-{}-{secret}", service.replace('a', "g")),
            &format!("bins-{service}-{}", secret.replace('4', "ü")),
            &format!("bins-{service}"),
        ] {
            let error = key(bad).unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("api_key")), "{bad}");
            assert!(!error.to_string().contains("26785a09") && !format!("{error:?}").contains("3d844edf"));
        }
    }

    #[test]
    fn a_setting_that_is_wrong_is_named_and_no_secret_is_shown() {
        let vector = vector();
        let config =
            || Config::new(vector["api_key"].as_str().unwrap(), "5484cfca-668a-4c18-afb1-5ddd0e3521b1").unwrap();
        let built = |config| Notify::sms_with(config, &Context::with_transport(NoTransport));
        assert!(built(config()).is_ok());
        let mut bad = config();
        bad.template_id = "bins".into();
        assert_eq!(built(bad).unwrap_err().field(), Some("template_id"));
        let mut bad = config();
        bad.body_field = " ".into();
        assert_eq!(built(bad).unwrap_err().field(), Some("body_field"));
        assert_eq!(built(config().sms_sender_id("Shropshire")).unwrap_err().field(), Some("sms_sender_id"));
        assert_eq!(Config::new("", "x").unwrap_err().field(), Some("api_key"));
        assert_eq!(config().callback_token(" ").unwrap_err().field(), Some("callback_tokens"));
        let shown = format!("{:?} {:?}", config(), built(config()).unwrap());
        assert!(!shown.contains("3d844edf") && !shown.contains("my_test_key"), "{shown}");
    }

    #[test]
    fn a_key_is_never_called_live_by_guess() {
        use KeyType::{Live, Team, Test};
        for declared in [None, Some(Live), Some(Team), Some(Test)] {
            for billed in [None, Some(true), Some(false)] {
                let (grade, _) = key_grade(declared, billed);
                assert_eq!(grade == CheckStatus::Pass, (declared, billed) == (Some(Live), Some(true)));
                assert_eq!(grade == CheckStatus::Fail, (declared, billed) == (Some(Test), Some(true)));
            }
        }
    }
}
