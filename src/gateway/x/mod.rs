//! Direct messages on X, formerly Twitter.
//!
//! The unencrypted direct messages of X's API v2 (`/2/dm_*`): <https://docs.x.com/x-api/direct-messages>, OpenAPI
//! 2.167 of August 2026, read 2026-11-22 from stored copies. What residents write comes by webhook, from the X
//! Activity API or the older Account Activity API, or is polled. X's end-to-end encrypted chat is noticed and cannot
//! be read: such a message is an [`InboundContent::Encrypted`](crate::event::InboundContent::Encrypted).
//!
//! Write only to people who wrote first: X demands it of programs. X says that it took a message, and never that it
//! arrived; a resident who has read it can be told of by webhook.
//!
//! ```no_run
//! use civic_messaging::{Address, ChannelExt, X, x};
//!
//! # async fn example() -> civic_messaging::Result<()> {
//! let keys = x::OAuth1::new("consumer-key", "consumer-secret", "access-token", "access-token-secret")?;
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
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::adapter::{Answer, Endpoint};
use crate::channel::Channel;
use crate::context::Context;
use crate::media::{MediaStore, MediaStream};
use crate::medium::x as rules;
use crate::model::address::{Address, Medium, XUser};
use crate::model::capability::{MediaLimits, TextLimit};
use crate::model::clock::{Clock, Timestamp};
use crate::model::error::{Error, ErrorClass, ErrorKind, Result};
use crate::model::health::{CheckStatus, Health};
use crate::model::id::{AccountId, MessageId, UrlHost};
use crate::model::info::Info;
use crate::model::lookup::{LookupOutcome, LookupQuery};
use crate::model::message::{Accepted, Media, MediaRef, Message};
use crate::model::poll::{Cursor, Page};
use crate::model::rate::Quota;
use crate::model::secret::Secret;
use crate::settings::Settings;
use crate::transport::BaseUrl;
use crate::transport::{Body, Transport, TransportError};
use crate::webhook::{self, SigningSecret, Verifier};

mod events;
mod oauth;
mod receive;
mod send;
mod wire;

use events::Signature;
use oauth::Signer;
pub use oauth::{Auth, OAuth1, OAuth2};

const GATEWAY: &str = "x";
const BASE_URL: &str = "https://api.x.com";

/// The configuration of a channel for direct messages on X.
///
/// In a file all settings stand side by side: those of [`OAuth1`] or those of [`OAuth2`] beside those named here.
/// With OAuth 2.0, `consumer_secret` may be given as well, for webhooks.
#[non_exhaustive]
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Written")]
pub struct Config {
    /// The council's own numeric user id.
    pub user_id: AccountId,
    /// How requests prove that they are the council's.
    pub auth: Auth,
    /// The app's consumer secret, which signs webhooks, or several while it changes; the first answers X's
    /// handshake. None: the consumer secret, where there is one; without any, no webhook is taken.
    pub webhook_secrets: Vec<SigningSecret>,
    /// The app's own bearer token, for managing webhooks. X refuses it for messages.
    pub bearer: Option<Secret>,
    /// Where the API is.
    pub base_url: Option<BaseUrl>,
    /// Which sources write `&` as `&amp;`.
    pub unescape: Unescape,
    /// What some of X's codes mean, over this gateway's own table.
    pub errors: BTreeMap<String, ErrorClass>,
}

impl Config {
    /// A configuration for the account with this numeric id.
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
    /// [`ErrorKind::Config`] when it is empty, blank or too short.
    pub fn webhook_secret(mut self, consumer_secret: impl Into<String>) -> Result<Self> {
        self.webhook_secrets.push(secret("webhook_secrets", consumer_secret)?.into());
        Ok(self)
    }

    /// Sets the app's own bearer token.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it is empty, blank or too short.
    pub fn bearer(mut self, token: impl Into<String>) -> Result<Self> {
        self.bearer = Some(secret("bearer", token)?);
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

    /// Sets which sources write `&` as `&amp;`.
    #[must_use]
    pub fn unescape(mut self, unescape: Unescape) -> Self {
        self.unescape = unescape;
        self
    }
}

fn secret(field: &'static str, text: impl Into<String>) -> Result<Secret> {
    Secret::new(text).map_err(|error| error.with_field(field))
}

/// Which sources write the three characters `&`, `<` and `>` as `&amp;`, `&lt;` and `&gt;`, to be read back once.
///
/// That the Account Activity API does is proven by other programs; for the other two it is unverified, and off.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Unescape {
    /// Webhooks of the Account Activity API.
    pub account_activity: bool,
    /// Webhooks of the X Activity API.
    pub activity: bool,
    /// What is polled.
    pub poll: bool,
}

impl Default for Unescape {
    fn default() -> Self {
        Self { account_activity: true, activity: false, poll: false }
    }
}

/// The configuration as it is written in a file: side by side.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    user_id: AccountId,
    consumer_key: Option<Secret>,
    consumer_secret: Option<Secret>,
    access_token: Option<Secret>,
    access_token_secret: Option<Secret>,
    client_id: Option<String>,
    client_secret: Option<Secret>,
    refresh_token: Option<Secret>,
    #[serde(default, deserialize_with = "webhook::secrets")]
    webhook_secrets: Vec<SigningSecret>,
    bearer: Option<Secret>,
    base_url: Option<BaseUrl>,
    #[serde(default)]
    unescape: Unescape,
    #[serde(default)]
    errors: BTreeMap<String, ErrorClass>,
}

impl TryFrom<Written> for Config {
    type Error = Error;

    fn try_from(written: Written) -> Result<Self> {
        let needs = |field: &'static str, with: &str| Error::config(field, format!("is missing, beside {with}"));
        let mut webhook_secrets = written.webhook_secrets;
        let auth = match (written.client_id, written.consumer_key) {
            (Some(_), Some(_)) => {
                return Err(Error::config(
                    "client_id",
                    "is of OAuth 2.0 and consumer_key of OAuth 1.0a: give one of them",
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
#[doc(alias = "Twitter")]
#[derive(Debug)]
pub struct X {
    info: Info,
    endpoint: Endpoint,
    signer: Signer,
    bearer: Option<Secret>,
    scheme: Signature,
    verifier: Option<Verifier>,
    unescape: Unescape,
    clock: Arc<dyn Clock>,
    media: Arc<dyn MediaStore>,
    rates: Arc<Mutex<BTreeMap<&'static str, RateLimits>>>,
    /// X has refused the longer list of fields, so it is not asked for again.
    short_list: AtomicBool,
}

impl X {
    /// Direct messages of one account, with the defaults of [`Context`].
    ///
    /// # Errors
    /// [`ErrorKind::Config`], with the field and its rule.
    #[cfg(feature = "reqwest")]
    pub fn direct_messages(config: Config) -> Result<Self> {
        Self::direct_messages_with(config, &Context::new())
    }

    /// Direct messages of one account.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], with the field and its rule.
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
                // By webhook it tells what was read; a poll does not.
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
        let noting = Noting { transport: context.transport.clone(), rates: rates.clone() };
        let endpoint =
            Endpoint::new(GATEWAY, base, &context.clone().transport(noting), send::ERRORS, send::vendor_error)
                .with_overrides(config.errors);
        Ok(Self {
            info,
            signer: Signer::new(config.auth, &account, &endpoint, context),
            endpoint,
            bearer: config.bearer,
            verifier: Verifier::new([], &secrets),
            scheme: Signature::new(secrets),
            unescape: config.unescape,
            clock: context.clock.clone(),
            media: context.media.clone(),
            rates,
            short_list: AtomicBool::new(false),
        })
    }

    /// The person behind a handle, with or without its `@`. Keep the id: the handle can change hands.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecipient`] for what cannot be a handle, [`ErrorKind::NotFound`] when nobody has it.
    pub async fn look_up_user(&self, handle: &str) -> Result<Profile> {
        let handle = handle.strip_prefix('@').unwrap_or(handle);
        if !rules::handle(handle) {
            return Err(Error::recipient("must be 1 to 15 letters, digits or _ as a handle on X").with_gateway(GATEWAY));
        }
        let fields = oauth::query(&[("user.fields", "receives_your_dm,connection_status")]);
        let answer = self.call(Ask::get("user", format!("/2/users/by/username/{handle}?{fields}"))).await?;
        let user: User = self.data(&answer)?;
        let handle = user.username.as_deref().unwrap_or(handle);
        let id = XUser::new(&user.id).map_err(|_| answer.unreadable())?.with_handle(handle);
        Ok(Profile { user: id, name: user.name, receives_dm: user.receives_your_dm })
    }

    /// The rates that X told with its last answer to each call, refusals included.
    pub fn rate_limits(&self) -> Vec<RateLimits> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Begins a conversation of several people, 2 to 49 beside us, with a first message. Always a new one.
    ///
    /// # Errors
    /// Those of [`send`](Channel::send).
    pub async fn create_conversation(&self, people: &[XUser], text: &str) -> Result<(Address, Accepted)> {
        if !(2..=49).contains(&people.len()) {
            return Err(Error::recipient("must be 2 to 49 people").with_gateway(GATEWAY));
        }
        for person in people {
            let message = Message::text(person.clone(), text);
            self.info.prepare(&message, self.clock.now())?;
        }
        let ask = Ask::post("dm_create", "/2/dm_conversations").json(&send::Group::new(people, text))?;
        let answer = self.exchange(&ask, true).await?;
        let (accepted, conversation) = self.accepted(&answer)?;
        let conversation = conversation.ok_or_else(|| answer.unreadable())?;
        Ok((conversation, accepted))
    }

    /// Takes a message out of the account's own view. The other side keeps it, so far as is known (unverified).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when it is not there.
    pub async fn delete_event(&self, id: &MessageId) -> Result<()> {
        let path = format!("/2/dm_events/{}", numeric("id", id.as_str())?);
        self.done(Ask::new("dm_delete", Method::DELETE, path)).await
    }

    /// Takes no more messages from this person.
    ///
    /// # Errors
    /// As X answers.
    pub async fn block(&self, person: &XUser) -> Result<()> {
        self.done(Ask::post("dm_block", format!("/2/users/{}/dm/block", person.id()))).await
    }

    /// Takes messages from this person again.
    ///
    /// # Errors
    /// As X answers.
    pub async fn unblock(&self, person: &XUser) -> Result<()> {
        self.done(Ask::post("dm_block", format!("/2/users/{}/dm/unblock", person.id()))).await
    }

    /// Tells X where to send webhooks: `https`, without a port, up to 200 characters. X calls it at once and expects
    /// the handshake's answer, which [`receive`](Channel::receive) gives.
    ///
    /// Uses the bearer token, if one is configured.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an address that X does not take, and as X answers.
    pub async fn register_webhook(&self, url: &str) -> Result<Webhook> {
        let uri = url.parse::<http::Uri>().ok().filter(|uri| uri.scheme_str() == Some("https") && uri.port().is_none());
        if uri.is_none() || url.chars().count() > 200 {
            let rule = "must be an https address without a port, of up to 200 characters";
            return Err(Error::config("url", rule).with_gateway(GATEWAY));
        }
        let ask = Ask::post("webhooks", "/2/webhooks").json(&serde_json::json!({ "url": url }))?.by(Credentials::App);
        self.data(&self.call(ask).await?)
    }

    /// The webhooks of the app.
    ///
    /// # Errors
    /// As X answers.
    pub async fn webhooks(&self) -> Result<Vec<Webhook>> {
        let answer = self.call(Ask::get("webhooks", "/2/webhooks").by(Credentials::App)).await?;
        let listed: Listed = answer.json()?;
        Ok(listed.data.unwrap_or_default())
    }

    /// Has X repeat the handshake, and take up a webhook that it has stopped. Whether it began to, or what came of it
    /// if X waits for that: its two descriptions differ.
    ///
    /// # Errors
    /// As X answers.
    pub async fn revalidate_webhook(&self, id: &str) -> Result<bool> {
        let path = format!("/2/webhooks/{}", numeric("id", id)?);
        let answer = self.call(Ask::new("webhooks", Method::PUT, path).by(Credentials::App)).await?;
        let told: Revalidated = self.data(&answer)?;
        told.valid.or(told.attempted).ok_or_else(|| answer.unreadable())
    }

    /// Asks for events of one kind, such as `dm.received`, about our account, by the X Activity API. The id of the
    /// subscription.
    ///
    /// X's descriptions differ on whose credentials it takes for this; [`Credentials::User`] is known to have worked.
    ///
    /// # Errors
    /// As X answers.
    pub async fn subscribe(
        &self,
        event_type: &str,
        webhook_id: &str,
        tag: Option<&str>,
        by: Credentials,
    ) -> Result<String> {
        let wanted = Wanted {
            event_type,
            filter: Filter { user_id: self.info.account.as_str() },
            tag,
            webhook_id: numeric("webhook_id", webhook_id)?,
        };
        let ask = Ask::post("subscriptions", "/2/activity/subscriptions").json(&wanted)?.by(by);
        let answer = self.call(ask).await?;
        let subscription = match self.data(&answer)? {
            Subscribed::Several(several) => several.into_iter().next(),
            Subscribed::Wrapped { subscription } | Subscribed::Flat(subscription) => Some(subscription),
        };
        subscription.map(|subscription| subscription.subscription_id).ok_or_else(|| answer.unreadable())
    }

    /// Asks for all events about our account by the Account Activity API, which X calls deprecated.
    ///
    /// # Errors
    /// As X answers.
    pub async fn subscribe_account_activity(&self, webhook_id: &str) -> Result<()> {
        let webhook_id = numeric("webhook_id", webhook_id)?;
        let path = format!("/2/account_activity/webhooks/{webhook_id}/subscriptions/all");
        // An empty object: the body is required since OpenAPI 2.167 (read 2026-11-30), and has no members.
        self.done(Ask::post("subscriptions", path).json(&serde_json::json!({}))?).await
    }

    /// What stands under `data`. An answer that has `errors` in its place is X's way to say that there is none.
    fn data<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T> {
        let told: Answered<T> = answer.json()?;
        told.data.ok_or_else(|| self.refusal(answer).unwrap_or_else(|| answer.unreadable()))
    }

    /// Makes a call of which nothing is to be read but whether X did it.
    async fn done(&self, ask: Ask) -> Result<()> {
        let answer = self.call(ask).await?;
        self.refusal(&answer).map_or(Ok(()), Err)
    }

    async fn call(&self, ask: Ask) -> Result<Answer> {
        self.exchange(&ask, false).await
    }

    /// Makes a call, and a second time with a new token when X refuses the first one's: a refusal is definite.
    async fn exchange(&self, ask: &Ask, sending: bool) -> Result<Answer> {
        if let (Credentials::App, Some(bearer)) = (ask.by, &self.bearer) {
            return self.endpoint.call(self.request(ask, Some(bearer))?).await;
        }
        let token = self.signer.token(None).await?;
        match self.once(ask, sending, token.as_ref()).await {
            Err(error) if token.is_some() && error.status() == Some(StatusCode::UNAUTHORIZED) => {
                let token = self.signer.token(token.as_ref()).await?;
                self.once(ask, sending, token.as_ref()).await
            }
            done => done,
        }
    }

    async fn once(&self, ask: &Ask, sending: bool, token: Option<&Secret>) -> Result<Answer> {
        let request = self.request(ask, token)?;
        if sending { self.endpoint.send(request).await } else { self.endpoint.call(request).await }
    }

    fn request(&self, ask: &Ask, token: Option<&Secret>) -> Result<Request<Body>> {
        let body = if ask.body.is_empty() { Body::empty() } else { Body::from(ask.body.clone()) };
        let mut request = self.endpoint.request(ask.method.clone(), &ask.path, HeaderMap::new(), body)?;
        if let Some(header) = self.signer.header(token, &ask.method, request.uri())? {
            request.headers_mut().insert(AUTHORIZATION, header);
        }
        if let Some(content_type) = &ask.content_type {
            request.headers_mut().insert(CONTENT_TYPE, content_type.clone());
        }
        request.extensions_mut().insert(Call(ask.call));
        Ok(request)
    }
}

/// Builds a channel from configuration, for [`Registry`](crate::Registry).
///
/// # Errors
/// [`ErrorKind::Config`], with the field and its rule.
pub fn connect(settings: &Settings, context: &Context) -> Result<Arc<dyn Channel>> {
    match settings.medium()? {
        Medium::X => Ok(Arc::new(X::direct_messages_with(settings.read()?, context)?)),
        _ => Err(Error::config("medium", "must be x for this gateway")),
    }
}

#[async_trait]
impl Channel for X {
    fn info(&self) -> &Info {
        &self.info
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        let message = self.info.prepare(message, self.clock.now())?;
        self.send_prepared(&message).await
    }

    async fn receive(&self, request: &webhook::Request) -> Result<webhook::Received> {
        self.receive_webhook(request)
    }

    fn verifier(&self) -> Option<&Verifier> {
        self.verifier.as_ref()
    }

    async fn poll(&self, after: Option<&Cursor>) -> Result<Page> {
        self.poll_events(after).await
    }

    async fn look_up(&self, sent: &LookupQuery) -> Result<LookupOutcome> {
        self.find(sent).await
    }

    async fn upload_media(&self, media: &Media, bytes: MediaStream) -> Result<MediaRef> {
        self.upload(media, bytes).await
    }

    async fn fetch_media(&self, media: &MediaRef) -> Result<MediaStream> {
        self.fetch(media).await
    }

    async fn health(&self) -> Result<Health> {
        let health = Health::default();
        let health = match self.call(Ask::get("me", "/2/users/me")).await.and_then(|answer| self.data::<User>(&answer))
        {
            Ok(me) if me.id == self.info.account.as_str() => {
                health.check_result("credentials", CheckStatus::Pass, "they are of this account")
            }
            Ok(_) => {
                health.check_result("credentials", CheckStatus::Fail, "they are of another account than `user_id` says")
            }
            Err(error) => failed(health, "credentials", &error),
        };
        if self.bearer.is_none() {
            return Ok(health);
        }
        Ok(match self.webhooks().await {
            Ok(webhooks) if webhooks.is_empty() => {
                health.check_result("webhook", CheckStatus::Warn, "none is registered: events must be polled")
            }
            Ok(webhooks) if webhooks.iter().all(|webhook| webhook.valid) => {
                health.check_result("webhook", CheckStatus::Pass, "X finds it valid")
            }
            Ok(_) => health.check_result(
                "webhook",
                CheckStatus::Fail,
                "X has stopped one, as it failed the handshake: mend it and revalidate",
            ),
            Err(error) => failed(health, "webhook", &error),
        })
    }
}

fn failed(health: Health, name: &'static str, error: &Error) -> Health {
    let passing = matches!(
        error.kind(),
        ErrorKind::Unavailable | ErrorKind::RateLimited | ErrorKind::QuotaExceeded | ErrorKind::Unexpected
    );
    health.check_result(name, if passing { CheckStatus::Unknown } else { CheckStatus::Fail }, error.to_string())
}

fn numeric<'a>(field: &'static str, id: &'a str) -> Result<&'a str> {
    if rules::user_id(id) { Ok(id) } else { Err(Error::invalid(field, "must be 1 to 19 digits").with_gateway(GATEWAY)) }
}

/// A person, as a look-up by handle finds them.
#[non_exhaustive]
#[derive(Clone)]
pub struct Profile {
    /// The numeric id, with the handle.
    pub user: XUser,
    /// The name they show.
    pub name: Option<String>,
    /// Whether a message of ours would be taken, where X says.
    pub receives_dm: Option<bool>,
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profile").field("receives_dm", &self.receives_dm).finish_non_exhaustive()
    }
}

/// An address to which X sends events.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Webhook {
    /// X's id of it.
    pub id: String,
    /// The address.
    #[serde(default)]
    pub url: String,
    /// Whether X sends events there: not after a failed handshake.
    #[serde(default)]
    pub valid: bool,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook")
            .field("id", &self.id)
            // Its path or query may hold a token.
            .field("url", &UrlHost(&self.url))
            .field("valid", &self.valid)
            .finish()
    }
}

/// Whose credentials a call is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// The app's bearer token; the user's where none is configured.
    App,
    /// The user's: OAuth 1.0a or OAuth 2.0.
    User,
}

/// How often X lets a call be made, as its last answer said.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// The call: `dm_send`, `dm_events`, `media_append` …
    pub call: &'static str,
    /// In 15 minutes.
    pub window: Option<Quota>,
    /// In 24 hours, for the account.
    pub user_day: Option<Quota>,
    /// In 24 hours, for the app over all its accounts.
    pub app_day: Option<Quota>,
}

impl RateLimits {
    fn read(call: &'static str, headers: &HeaderMap) -> Self {
        let number = |name: String| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
        let rate = |prefix: &str| {
            let mut left = Quota::new(number(format!("{prefix}-remaining"))?);
            left.limit = number(format!("{prefix}-limit"));
            left.reset =
                number(format!("{prefix}-reset")).and_then(|at| i64::try_from(at).ok()).map(Timestamp::from_secs);
            Some(left)
        };
        Self {
            call,
            window: rate("x-rate-limit"),
            user_day: rate("x-user-limit-24hour"),
            app_day: rate("x-app-limit-24hour"),
        }
    }

    /// What holds back the next call first, by our own clock.
    fn tightest(headers: &HeaderMap, now: Timestamp) -> Option<Quota> {
        let mut tightest = Quota::tightest(Self::read("", headers).all())?;
        if let Some(there) = date(headers) {
            tightest.reset = tightest.reset.map(|reset| now.plus(reset.since(there)));
        }
        Some(tightest)
    }

    fn all(&self) -> impl Iterator<Item = Quota> {
        [self.window, self.user_day, self.app_day].into_iter().flatten()
    }
}

/// The time at X.
fn date(headers: &HeaderMap) -> Option<Timestamp> {
    headers.get(http::header::DATE)?.to_str().ok().and_then(Timestamp::from_http_date)
}

/// Notes the rates in every answer, refusals too, whose headers an error does not keep.
#[derive(Debug)]
struct Noting {
    transport: Arc<dyn Transport>,
    rates: Arc<Mutex<BTreeMap<&'static str, RateLimits>>>,
}

/// The name of a call, as an extension of its request.
#[derive(Clone, Copy)]
struct Call(&'static str);

#[async_trait]
impl Transport for Noting {
    async fn call(&self, request: Request<Body>) -> Result<Response<Body>, TransportError> {
        let call = request.extensions().get::<Call>().copied();
        let answer = self.transport.call(request).await?;
        if let Some(Call(call)) = call {
            let rates = RateLimits::read(call, answer.headers());
            if rates.all().next().is_some() {
                self.rates.lock().unwrap_or_else(PoisonError::into_inner).insert(call, rates);
            }
        }
        Ok(answer)
    }
}

/// A request before it is signed, so that it can be made a second time.
struct Ask {
    call: &'static str,
    method: Method,
    path: String,
    content_type: Option<HeaderValue>,
    body: Bytes,
    by: Credentials,
}

impl Ask {
    fn new(call: &'static str, method: Method, path: impl Into<String>) -> Self {
        Self { call, method, path: path.into(), content_type: None, body: Bytes::new(), by: Credentials::User }
    }

    fn get(call: &'static str, path: impl Into<String>) -> Self {
        Self::new(call, Method::GET, path)
    }

    fn post(call: &'static str, path: impl Into<String>) -> Self {
        Self::new(call, Method::POST, path)
    }

    fn json(mut self, body: &impl Serialize) -> Result<Self> {
        self.content_type = Some(HeaderValue::from_static("application/json"));
        self.body =
            serde_json::to_vec(body).map_err(|_| Error::invalid("content", "does not serialise to JSON"))?.into();
        Ok(self)
    }

    fn by(mut self, credentials: Credentials) -> Self {
        self.by = credentials;
        self
    }
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Answered<T> {
    data: Option<T>,
}

#[derive(Deserialize)]
struct User {
    id: String,
    name: Option<String>,
    username: Option<String>,
    receives_your_dm: Option<bool>,
}

#[derive(Deserialize)]
struct Listed {
    data: Option<Vec<Webhook>>,
}

#[derive(Deserialize)]
struct Revalidated {
    valid: Option<bool>,
    attempted: Option<bool>,
}

#[derive(Serialize)]
struct Wanted<'a> {
    event_type: &'a str,
    filter: Filter<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<&'a str>,
    webhook_id: &'a str,
}

#[derive(Serialize)]
struct Filter<'a> {
    user_id: &'a str,
}

/// The three shapes in which X's pages and its specification write the same answer.
#[derive(Deserialize)]
#[serde(untagged)]
enum Subscribed {
    Several(Vec<Subscription>),
    Wrapped { subscription: Subscription },
    Flat(Subscription),
}

#[derive(Deserialize)]
struct Subscription {
    subscription_id: String,
}
