//! Meta: WhatsApp Business by the Cloud API, and by 360dialog, which speaks the same wire; Facebook Messenger by the Send
//! API.
//!
//! Vendor's pages: [Cloud API messages][send], [webhooks][hooks], [error codes][codes], and of Messenger the
//! [Send API][page], [webhooks][events], [error codes][sends]; state of September 2026, read 2026-11-22 from stored copies.
//!
//! ```no_run
//! use civic_messaging::{Address, ChannelExt, Meta, meta};
//! # async fn run() -> civic_messaging::Result<()> {
//! let config = meta::Config::new("EAAG-system-user-token", "200000000000001")?
//!     .app_secret("app-secret-of-the-meta-app")?
//!     .verify_token("what-the-dashboard-was-told")?;
//! let whatsapp = Meta::whatsapp(config)?;
//! whatsapp.send_text(&Address::whatsapp("07700 900123")?, "Your report is logged.").await?;
//!
//! let messenger = Meta::messenger(meta::Config::for_page("EAAG-page-token", "7000000000000001")?)?;
//! messenger.send_text(&Address::messenger("6000000000000001")?, "Your report is logged.").await?;
//! # Ok(()) }
//! ```
//!
//! | medium | text | media | template | choice | link | ask | location | contacts | reaction | quote | receive | poll | look up | signals |
//! |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
//! | WhatsApp | 4,096 characters | 1, by link, upload or id | positional, named, header, buttons | 3 buttons, 10 rows | yes | location, contact | yes | yes | yes | yes | signed | no | no | read, typing |
//! | Messenger | 2,000 characters | 1, by link, published or id; no caption | no; `Native` | 13 quick replies | no | no | no | no | no | yes | signed | no | no | read, typing |
//!
//! No idempotency key exists, and no call says what became of a message: after an unknown outcome, only a webhook with
//! the message's key settles it. On WhatsApp that is a status (`biz_opaque_callback_data`); on Messenger it is the echo of
//! the message (`metadata`), for which the page must be subscribed to `message_echoes`. Echoes come of every app of the
//! page, so that keys should be such as no other app would choose.
//!
//! [send]: https://developers.facebook.com/documentation/business-messaging/whatsapp/messages/send-messages
//! [hooks]: https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/overview
//! [codes]: https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes
//! [page]: https://developers.facebook.com/docs/messenger-platform/reference/send-api
//! [events]: https://developers.facebook.com/docs/messenger-platform/webhooks
//! [sends]: https://developers.facebook.com/docs/messenger-platform/error-codes

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::adapter;
use crate::adapter::wire::Str;
use crate::adapter::{Access, Answer, Credential, Endpoint, FetchLimits, VendorError, bearer, segment, sensitive};
use crate::channel::{Channel, Indicator};
use crate::context::Context;
use crate::media::{FileUrl, HostRules, MediaStream};
use crate::medium::whatsapp;
use crate::model::address::Medium;
use crate::model::capability::{ChoiceLimits, MediaLimits, TemplateLimits, TextLimit};
use crate::model::error::{Error, ErrorClass, ErrorKind, Result, Scope};
use crate::model::event::Inbound;
use crate::model::health::{CheckStatus, Health};
use crate::model::id::{AccountId, Hidden};
use crate::model::info::Info;
use crate::model::lookup::{LookupOutcome, LookupQuery};
use crate::model::message::{Accepted, GatewayOptions, Media, MediaRef, Message, Native};
use crate::model::poll::{Cursor, Page};
use crate::model::rate::Rate;
use crate::model::secret::Secret;
use crate::settings::Settings;
use crate::transport::BaseUrl;
use crate::transport::{Body, Multipart};
use crate::webhook::{
    self, BearerToken, HmacSha256, Received, Refusal, Response, Scheme, SignatureCoverage, SignatureEncoding,
    SigningSecret, Unverified, Verification, Verifier,
};

mod account;
mod messenger;
mod receive;
mod send;
mod wire;

const GATEWAY: &str = "meta";

/// The settings of a WhatsApp number, or of a page on Messenger.
///
/// ```toml
/// gateway = "meta"
/// medium = "whatsapp"                             # or "messenger"
/// access_token = { env = "META_TOKEN" }
/// phone_number_id = "200000000000001"             # or page_id
/// app_secrets = { env = "META_APP_SECRET" }       # a list while it is rotated
/// verify_token = "what-the-dashboard-was-told"
/// ```
///
/// An id that is of the other medium is refused rather than passed over.
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
    /// What signs webhooks: the secret of the Meta app. At 360dialog, which does not sign, a token that it is told to
    /// send as `Authorization: Bearer`. One of several apps or numbers names the accounts that it owns.
    #[serde(default, deserialize_with = "webhook::secrets")]
    pub app_secrets: Vec<SigningSecret>,
    /// What the dashboard was told for the webhook's handshake.
    #[serde(default)]
    pub verify_token: Option<Secret>,
    /// The version of the Graph API, such as `v26.0`. Versions live about two years.
    #[serde(default = "version")]
    pub version: String,
    /// Where the API is.
    #[serde(default)]
    pub base_url: Option<BaseUrl>,
    /// Of WhatsApp: the messaging account to bill, where one number serves several.
    #[serde(default)]
    pub messaging_account_id: Option<String>,
    /// Of WhatsApp: whether a file is refused whose SHA-256 is not the one that its webhook gave. Meta does not define
    /// that hash.
    #[serde(default = "yes")]
    pub verify_hashes: bool,
    /// What some of Meta's codes mean, over the table.
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
    /// The settings that sending by a WhatsApp number needs.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a token that is no secret.
    pub fn new(access_token: impl Into<String>, phone_number_id: impl Into<AccountId>) -> Result<Self> {
        Ok(Self { phone_number_id: Some(phone_number_id.into()), ..Self::with_token(access_token)? })
    }

    /// The settings that sending by a page needs, on Messenger.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a token that is no secret.
    pub fn for_page(access_token: impl Into<String>, page_id: impl Into<AccountId>) -> Result<Self> {
        Ok(Self { page_id: Some(page_id.into()), ..Self::with_token(access_token)? })
    }

    fn with_token(access_token: impl Into<String>) -> Result<Self> {
        Ok(Self {
            access_token: Secret::new(access_token).map_err(|e| e.with_field("access_token"))?,
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
    /// [`ErrorKind::Config`] when it is empty, blank or too short.
    pub fn app_secret(mut self, secret: impl Into<String>) -> Result<Self> {
        self.app_secrets.push(Secret::new(secret).map_err(|e| e.with_field("app_secrets"))?.into());
        Ok(self)
    }

    /// Sets what the dashboard was told for the webhook's handshake.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it is empty, blank or too short.
    pub fn verify_token(mut self, token: impl Into<String>) -> Result<Self> {
        self.verify_token = Some(Secret::new(token).map_err(|e| e.with_field("verify_token"))?);
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

/// A WhatsApp number, by Meta's Cloud API or by 360dialog, or a page on Messenger.
#[derive(Debug)]
pub struct Meta {
    info: Info,
    endpoint: Endpoint,
    context: Context,
    scheme: Box<dyn Scheme>,
    verifier: Option<Verifier>,
    authorization: (HeaderName, HeaderValue),
    /// The path of the API's root, and of the number or page under it.
    root: String,
    account: String,
    /// Where messages go.
    messages: Uri,
    messaging_account_id: Option<String>,
    verify_hashes: bool,
    /// 360dialog hands files out at its own host, under the path that Meta's address has.
    own_files: bool,
}

/// What the ways to a number or page differ in.
struct Way {
    base: &'static str,
    scheme: Box<dyn Scheme>,
    verifier: Option<Verifier>,
    authorization: (HeaderName, HeaderValue),
    root: String,
    account: String,
    errors: &'static [(&'static str, ErrorClass)],
    vendor_error: fn(&Answer) -> VendorError<'_>,
}

impl Way {
    /// By Meta itself, to this account.
    fn graph(config: &Config, account: &AccountId) -> Result<Self> {
        if config.version.strip_prefix('v').is_none_or(|v| v.parse::<f32>().is_err()) {
            return Err(Error::config("version", "must be a Graph API version such as v26.0"));
        }
        let secrets = secrets(config, account);
        let verifier = Verifier::new(config.verify_token.iter().map(Secret::expose), &secrets);
        let signed = Signed {
            hmac: HmacSha256::new(SIGNATURE, "sha256=", SignatureEncoding::Hex, secrets),
            verify_token: config.verify_token.clone(),
        };
        let root = format!("/{}", config.version);
        Ok(Self {
            base: "https://graph.facebook.com",
            scheme: Box::new(signed),
            verifier,
            authorization: (http::header::AUTHORIZATION, bearer(&config.access_token)?),
            account: format!("{root}/{account}"),
            root,
            errors: ERRORS,
            vendor_error,
        })
    }
}

impl Meta {
    /// A WhatsApp number by the Cloud API.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the setting that is wrong.
    #[cfg(feature = "reqwest")]
    pub fn whatsapp(config: Config) -> Result<Self> {
        Self::whatsapp_with(config, &Context::new())
    }

    /// A WhatsApp number by the Cloud API, in this context.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the setting that is wrong.
    pub fn whatsapp_with(config: Config, context: &Context) -> Result<Self> {
        let number = number(&config)?;
        let way = Way::graph(&config, &number)?;
        Self::new(whatsapp_info(GATEWAY, number, &config), way, config, context)
    }

    /// A WhatsApp number by 360dialog: the same wire, another host and header.
    ///
    /// 360dialog does not sign webhooks. Tell it to send `Authorization: Bearer` with one of the `app_secrets`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the setting that is wrong.
    #[cfg(feature = "reqwest")]
    pub fn whatsapp_360dialog(config: Config) -> Result<Self> {
        Self::whatsapp_360dialog_with(config, &Context::new())
    }

    /// A WhatsApp number by 360dialog, in this context.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the setting that is wrong.
    pub fn whatsapp_360dialog_with(config: Config, context: &Context) -> Result<Self> {
        let number = number(&config)?;
        let secrets = secrets(&config, &number);
        let way = Way {
            base: "https://waba-v2.360dialog.io",
            verifier: Verifier::new([], &secrets),
            scheme: Box::new(BearerToken::new(secrets)),
            authorization: (HeaderName::from_static("d360-api-key"), sensitive(config.access_token.expose())?),
            root: String::new(),
            account: String::new(),
            errors: ERRORS,
            vendor_error,
        };
        Self::new(whatsapp_info("360dialog", number, &config), way, config, context)
    }

    fn new(info: Info, way: Way, config: Config, context: &Context) -> Result<Self> {
        let base = config.base_url.map_or_else(|| way.base.parse(), Ok)?;
        let endpoint =
            Endpoint::new(info.gateway, base, context, way.errors, way.vendor_error).with_overrides(config.errors);
        Ok(Self {
            messages: endpoint.uri(&format!("{}/messages", way.account))?,
            endpoint,
            own_files: info.gateway == "360dialog",
            info,
            context: context.clone(),
            scheme: way.scheme,
            verifier: way.verifier,
            authorization: way.authorization,
            root: way.root,
            account: way.account,
            messaging_account_id: config.messaging_account_id,
            verify_hashes: config.verify_hashes,
        })
    }

    fn is_messenger(&self) -> bool {
        self.info.medium == Medium::Messenger
    }

    fn headers(&self, content_type: &'static str) -> HeaderMap {
        // Room for what is added on the way: host, accept.
        let mut headers = HeaderMap::with_capacity(6);
        headers.insert(self.authorization.0.clone(), self.authorization.1.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers
    }

    fn post(&self, body: impl Into<Body>) -> http::Request<Body> {
        let mut request = http::Request::new(body.into());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.messages.clone();
        *request.headers_mut() = self.headers("application/json");
        request
    }

    /// Where a file is: its address, hash, type and length.
    async fn locate(&self, id: &str) -> Result<Located> {
        let id = segment("media.id", id).map_err(|error| error.with_gateway(self.info.gateway))?;
        let path = format!("{}/{id}", self.root);
        let answer = self.endpoint.get(&path, self.headers("application/json")).await;
        answer.map_err(|error| if is_unknown_object(&error) { not_found(&error) } else { error })?.json()
    }

    /// A file by its address. The credential opens the whole API, so that it goes to files and nowhere else.
    async fn fetch(&self, url: &str) -> Result<MediaStream> {
        let rewritten = match url.parse::<Uri>().ok().filter(|_| self.own_files) {
            Some(uri) if uri.host().is_some_and(|host| host.eq_ignore_ascii_case(FILES)) => {
                let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
                Cow::Owned([self.endpoint.base().as_str(), path].concat())
            }
            _ => Cow::Borrowed(url),
        };
        let base = self.endpoint.base().path();
        let (hosts, files) = match self.own_files {
            true => (&HOSTS_360DIALOG, [base, FILES_PATH].concat()),
            false => (&HOSTS, FILES_PATH.to_owned()),
        };
        let api = [base, &self.root, "/"].concat();
        let credential = (self.authorization.0.clone(), self.authorization.1.clone());
        let credential = credential.limited_to(|file: &FileUrl<'_>| {
            let of_files = match file.is_loopback() {
                // Where the API and its files are one host, what is not the API's.
                true => self.own_files || !file.path().starts_with(&api),
                false => file.path().starts_with(&files) && (self.own_files || file.host() == FILES),
            };
            if of_files { Access::Credential } else { Access::Refused }
        });
        let limits = FetchLimits { cap: whatsapp::INBOUND_BYTES_MAX, time: Duration::from_secs(120) };
        self.endpoint.fetch(&rewritten, hosts, credential, limits).await
    }
}

/// The id of the number that the settings name.
fn number(config: &Config) -> Result<AccountId> {
    if config.page_id.is_some() {
        return Err(Error::config("page_id", "is for Messenger: a WhatsApp number has a phone_number_id"));
    }
    let id = config.phone_number_id.as_ref().filter(|id| is_id(id.as_str())).cloned();
    id.ok_or_else(|| Error::config("phone_number_id", "must be digits: Meta's id of the number, not the number"))
}

fn is_id(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit())
}

fn whatsapp_info(gateway: &'static str, number: AccountId, config: &Config) -> Info {
    let mut info = Info::new(gateway, Medium::WhatsApp, number).with_capability(|can| {
        can.receive = !config.app_secrets.is_empty();
        can.delivery_status = can.receive;
        can.upload_media = true;
        can.fetch_media = true;
        // 360dialog documents no call that says whether its key is good.
        can.health = gateway == GATEWAY;
        can.read = true;
        can.typing = true;
        can.key = true;
        can.max_reference = Some(whatsapp::OPAQUE_DATA_MAX);
        can.conversation = true;
        can.reply_to = true;
        can.text = Some(TextLimit::characters(whatsapp::TEXT_MAX));
        can.media = Some(MediaLimits::whatsapp());
        can.template = Some(TemplateLimits { language: true, positional: true, named: true, components: true });
        can.choice = Some(ChoiceLimits::WHATSAPP);
        can.link = Some(whatsapp::LINK_LABEL_MAX);
        can.ask_location = true;
        can.ask_contact = true;
        can.location = true;
        can.contacts = true;
        can.reaction = true;
        can.native = true;
        // 80 a second for a number; 1 in 6 seconds to one person, of whom 45 may go at once on credit:
        // https://developers.facebook.com/documentation/business-messaging/whatsapp/throughput (read 2026-11-22).
        can.rate = Some(Rate::per_second(80));
        can.pair_rate = Some(Rate::every_seconds(6).with_burst(45));
    });
    info.wire = GATEWAY;
    info
}

/// Builds a channel by the Cloud API, or by Messenger's Send API, from settings.
///
/// # Errors
/// [`ErrorKind::Config`] with the setting that is wrong.
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
/// [`ErrorKind::Config`] with the setting that is wrong.
pub fn connect_360dialog(settings: &Settings, context: &Context) -> Result<Arc<dyn Channel>> {
    match settings.medium()? {
        Medium::WhatsApp => Ok(Arc::new(Meta::whatsapp_360dialog_with(settings.read()?, context)?)),
        _ => Err(Error::config("medium", "must be whatsapp for this gateway")),
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Channel for Meta {
    fn info(&self) -> &Info {
        &self.info
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        let body = {
            let mut message = self.info.prepare(message, self.context.clock.now())?;
            let options = Options::of(&message, &self.info.medium)?;
            if send::is_stored(&message.content) {
                // Boxed, so that the many sends without a file do not make room for it.
                message = Cow::Owned(match self.is_messenger() {
                    true => Box::pin(messenger::publish(self, message.into_owned())).await?,
                    false => Box::pin(send::upload(self, message.into_owned())).await?,
                });
            }
            match self.is_messenger() {
                true => messenger::encode(&message, &options)?,
                false => send::encode(self.info.gateway, &message, &options, self.messaging_account_id.as_deref())?,
            }
        };
        let answer = self.endpoint.send(self.post(body)).await?;
        match self.is_messenger() {
            true => messenger::decode(&answer),
            false => send::decode(&answer),
        }
    }

    async fn receive(&self, request: &webhook::Request) -> Result<Received> {
        adapter::receive(request, &self.info, Some(&*self.scheme), "app_secrets", |webhook, events| {
            match self.is_messenger() {
                true => messenger::events(webhook, events),
                false => receive::events(webhook, &self.endpoint, events),
            }
        })
    }

    fn verifier(&self) -> Option<&Verifier> {
        self.verifier.as_ref()
    }

    async fn poll(&self, _after: Option<&Cursor>) -> Result<Page> {
        Err(Error::unsupported("Meta keeps no events to poll").with_gateway(self.info.gateway))
    }

    async fn look_up(&self, _sent: &LookupQuery) -> Result<LookupOutcome> {
        Err(Error::unsupported("Meta says what became of a message by webhook only").with_gateway(self.info.gateway))
    }

    async fn upload_media(&self, media: &Media, bytes: MediaStream) -> Result<MediaRef> {
        if !self.info.capability.upload_media {
            return Err(Error::unsupported("this medium takes files by link").with_gateway(self.info.gateway));
        }
        let rules = self.info.capability.media.iter().flat_map(|limits| &limits.kinds);
        let rule = rules.into_iter().find(|rule| rule.kind == media.kind);
        let bytes = bytes.capped(rule.map_or(0, |rule| rule.max))?;
        let mime = bytes.mime().unwrap_or("application/octet-stream").to_owned();
        let filename = upload_name(media, &mime);
        let form = Multipart::new(&*self.context.clock)?.text("messaging_product", "whatsapp").text("type", &mime);
        let (content_type, body) = form.file("file", &filename, &mime, bytes.into_body());
        let mut headers = self.headers("");
        headers.insert(CONTENT_TYPE, content_type);
        let path = format!("{}/media", self.account);
        let answer = self.endpoint.call(self.endpoint.request(Method::POST, &path, headers, body)?).await?;
        let uploaded: Uploaded = answer.json()?;
        if uploaded.id.trim().is_empty() {
            return Err(answer.unreadable());
        }
        let mut held = MediaRef::new(self.info.gateway, uploaded.id);
        held.mime = Some(mime);
        held.filename = media.filename.clone();
        held.expires = Some(self.context.clock.now().plus(UPLOAD_KEPT));
        Ok(held)
    }

    async fn fetch_media(&self, media: &MediaRef) -> Result<MediaStream> {
        if media.gateway != self.info.gateway {
            return Err(Error::invalid("media.gateway", "is another gateway").with_gateway(self.info.gateway));
        }
        if self.is_messenger() {
            return messenger::fetch(self, media).await;
        }
        // The address in a webhook lives five minutes; the id lives a week.
        let at_once = match &media.url {
            Some(url) => Some(self.fetch(url).await),
            None => None,
        };
        let (stream, sha256) = match at_once {
            Some(Err(error)) if error.kind() != ErrorKind::NotFound => return Err(error),
            Some(Ok(stream)) => (stream, media.sha256),
            Some(Err(_)) | None => {
                let located = self.locate(&media.id).await?;
                let sha256 = media.sha256.or_else(|| located.sha256.as_deref()?.parse().ok());
                (self.fetch(&located.url).await?, sha256)
            }
        };
        Ok(match sha256.filter(|_| self.verify_hashes) {
            Some(sha256) => stream.hashed(sha256),
            None => stream,
        })
    }

    async fn send_indicator(&self, inbound: &Inbound, signal: Indicator) -> Result<()> {
        if self.is_messenger() {
            return messenger::send_indicator(self, inbound, signal).await;
        }
        let typing = matches!(signal, Indicator::Typing).then_some(Typing { kind: "text" });
        let read = MarkRead {
            messaging_product: "whatsapp",
            status: "read",
            message_id: inbound.id.as_str(),
            typing_indicator: typing,
        };
        let body = serde_json::to_vec(&read).map_err(|_| Error::invalid("inbound", "cannot be written"))?;
        self.endpoint.call(self.post(body)).await.map(|_| ())
    }

    async fn health(&self) -> Result<Health> {
        if !self.info.capability.health {
            return Err(Error::unsupported("this gateway has no call for its health").with_gateway(self.info.gateway));
        }
        let fields = "?fields=id,quality_rating,whatsapp_business_manager_messaging_limit";
        let answer = match self
            .endpoint
            .get(&format!("{}{fields}", self.account), self.headers("application/json"))
            .await
        {
            Ok(answer) => answer,
            Err(error)
                if matches!(error.kind(), ErrorKind::Unauthenticated | ErrorKind::Forbidden | ErrorKind::Config) =>
            {
                return Ok(Health::default().check_result("credentials", CheckStatus::Fail, error.to_string()));
            }
            Err(error) => return Err(error),
        };
        let number: Number = answer.json()?;
        let health =
            Health::default().check_result("credentials", CheckStatus::Pass, "Meta knows the token and the number");
        let health = match number.quality_rating.as_deref() {
            Some("RED") => {
                health.check_result("quality", CheckStatus::Warn, "people block or report what this number sends")
            }
            Some("GREEN" | "YELLOW") => {
                health.check_result("quality", CheckStatus::Pass, "people take what this number sends")
            }
            _ => health.check_result("quality", CheckStatus::Unknown, "Meta has not rated this number"),
        };
        Ok(match self.info.capability.receive {
            true => health.check_result(
                "webhook",
                CheckStatus::Unknown,
                "Meta tells by no call whether its webhooks arrive",
            ),
            false => {
                health.check_result("webhook", CheckStatus::Warn, "app_secrets are not set: nothing can be received")
            }
        })
    }
}

/// Options that only this gateway reads. One that is for the other medium is an error rather than passed over.
///
/// ```
/// use civic_messaging::{Address, Message, meta};
///
/// let mut options = meta::Options::default();
/// options.preview_url = Some(true);
/// let message = Message::text(Address::whatsapp("07700 900123")?, "See https://example.org/bins").gateway_options(&options)?;
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Options {
    /// Of WhatsApp: shows a preview of the first link in a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview_url: Option<bool>,
    /// Of WhatsApp: delivers only while the person's identity has this hash: code 137000 else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient_identity_key_hash: Option<String>,
    /// Of Messenger: a person typed this message, which lets it go up to 7 days after what the resident did last, in
    /// place of 24 hours (the tag `HUMAN_AGENT`).
    ///
    /// Set it for nothing that a program wrote: Meta's policy allows the tag for people only. The app needs the feature
    /// "Human Agent", which Meta's App Review gives. (Meta, Messenger Platform policy of 6 April 2026, read 2026-11-22
    /// from stored copies.) How long is left says [`medium::messenger::window`](crate::medium::messenger::window).
    #[serde(default, skip_serializing_if = "is_off")]
    pub human_agent: bool,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("preview_url", &self.preview_url)
            .field("recipient_identity_key_hash", &self.recipient_identity_key_hash.as_deref().map(Hidden))
            .field("human_agent", &self.human_agent)
            .finish()
    }
}

fn is_off(flag: &bool) -> bool {
    !flag
}

impl Options {
    /// The options of a message, if they are for this medium.
    fn of(message: &Message, medium: &Medium) -> Result<Self> {
        let options = message.options::<Self>()?.unwrap_or_default();
        let (preview, identity) = (options.preview_url.is_some(), options.recipient_identity_key_hash.is_some());
        let messenger = *medium == Medium::Messenger;
        for (wrong, field, rule) in [
            (messenger && preview, "options.meta.preview_url", "is for WhatsApp"),
            (messenger && identity, "options.meta.recipient_identity_key_hash", "is for WhatsApp"),
            (!messenger && options.human_agent, "options.meta.human_agent", "is for Messenger"),
        ] {
            if wrong {
                return Err(Error::invalid(field, rule));
            }
        }
        Ok(options)
    }
}

impl GatewayOptions for Options {
    const GATEWAY: &'static str = GATEWAY;
}

/// A form that opens in WhatsApp (Meta calls it a flow), as [`Native`] content.
///
/// It opens at its first screen, at the one that [`screen`](Self::screen) names, or at the one that the council's own
/// endpoint answers with ([`endpoint`](Self::endpoint)). (Meta, OpenAPI file v23.0: `flow_action` is `navigate` by
/// default, and only then has a payload, whose `screen` is by default the first one; read 2026-11-30.)
///
/// ```
/// use civic_messaging::{Address, Message, meta::Flow};
///
/// let form = Flow::new("500000000000001", "Report an issue", "Start").token("tok-1").screen("START");
/// let message = Message::new(Address::whatsapp("07700 900123")?, form.content()?);
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[derive(Clone)]
pub struct Flow {
    id: String,
    body: String,
    label: String,
    token: Option<String>,
    screen: Option<String>,
    endpoint: bool,
    draft: bool,
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow").field("draft", &self.draft).finish_non_exhaustive()
    }
}

impl Flow {
    /// A form by Meta's id of it, with the text above and the label of its button.
    pub fn new(id: impl Into<String>, body: impl Into<String>, label: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            body: body.into(),
            label: label.into(),
            token: None,
            screen: None,
            endpoint: false,
            draft: false,
        }
    }

    /// Sets what comes back with the answer, to tell one form from another.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Sets the screen that opens first, in place of the form's own first screen.
    #[must_use]
    pub fn screen(mut self, screen: impl Into<String>) -> Self {
        self.screen = Some(screen.into());
        self
    }

    /// Asks the form's endpoint for the screen that opens first (`data_exchange`). For a form that has an endpoint, and
    /// then without [`screen`](Self::screen).
    #[must_use]
    pub fn endpoint(mut self) -> Self {
        self.endpoint = true;
        self
    }

    /// Opens the draft of the form, for its makers.
    #[must_use]
    pub fn draft(mut self) -> Self {
        self.draft = true;
        self
    }

    /// The content of a message that offers the form.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`] when the text or the label is empty or too long, the id or the screen is empty, or a
    /// screen is given beside the endpoint.
    pub fn content(&self) -> Result<Native> {
        for (field, text, max) in [
            ("flow.body", &self.body, whatsapp::BODY_WITH_BUTTONS_MAX),
            ("flow.label", &self.label, whatsapp::LINK_LABEL_MAX),
        ] {
            if text.trim().is_empty() || text.chars().count() > max {
                return Err(Error::invalid(field, format!("must have 1 to {max} characters")));
            }
        }
        for (field, text) in [("flow.id", Some(&self.id)), ("flow.screen", self.screen.as_ref())] {
            if text.is_some_and(|text| text.trim().is_empty()) {
                return Err(Error::invalid(field, "is empty"));
            }
        }
        if self.endpoint && self.screen.is_some() {
            return Err(Error::invalid("flow.screen", "must not be given where the endpoint names the first screen"));
        }
        Native::new(GATEWAY, &send::flow(self))
    }
}

/// `X-Hub-Signature-256`, and the handshake, which carries no signature.
#[derive(Debug)]
struct Signed {
    hmac: HmacSha256,
    verify_token: Option<Secret>,
}

const SIGNATURE: HeaderName = HeaderName::from_static("x-hub-signature-256");

impl Scheme for Signed {
    fn verify(&self, sealed: Unverified<'_>) -> Verification {
        if sealed.method() != Method::GET {
            return self.hmac.verify(sealed);
        }
        let parameter = |name| sealed.query_parameter(name);
        let token = parameter("hub.verify_token").unwrap_or_default();
        let known = self.verify_token.as_ref().is_some_and(|known| known.matches(token.as_bytes()));
        match (parameter("hub.mode").as_deref(), parameter("hub.challenge")) {
            (Some("subscribe"), Some(challenge)) if known => {
                Verification::Answer(Response::body("text/plain", challenge.into_owned()))
            }
            _ => Verification::Refused(Refusal::Wrong),
        }
    }

    fn covers(&self) -> SignatureCoverage {
        SignatureCoverage::Body
    }
}

fn secrets(config: &Config, account: &AccountId) -> Vec<SigningSecret> {
    let accounts: Vec<_> = std::iter::once(account).chain(&config.business_account_id).cloned().collect();
    config.app_secrets.iter().map(|secret| secret.clone().or_owns(&accounts)).collect()
}

/// Hosts that serve Meta's files. The redirect target is unverified, and so is `cdn.fbsbx.com`: public programs show that
/// Messenger's sounds and documents lie there, and no page of Meta's says it.
const HOSTS: HostRules = HostRules { trusted: &[FILES], open: &["*.fbcdn.net", "cdn.fbsbx.com"] };

/// 360dialog's key goes to its own host alone, as Meta's token goes to none of 360dialog's.
const HOSTS_360DIALOG: HostRules =
    HostRules { trusted: &["waba-v2.360dialog.io"], open: &["*.fbcdn.net", "cdn.fbsbx.com"] };

/// The host of the files that residents send by WhatsApp, and what their paths begin with there, by Meta's examples:
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/media> (read
/// 2026-11-22 from stored copies).
const FILES: &str = "lookaside.fbsbx.com";
const FILES_PATH: &str = "/whatsapp_business/";

/// The name of a file in its upload, with an extension that fits its type: Meta goes by the name where the type of the
/// part does not tell, and refuses a file that it takes for `application/octet-stream`. (Public reports of error 100,
/// read 2026-11-30.)
fn upload_name(media: &Media, mime: &str) -> String {
    let base = mime.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let name = media.filename.as_deref().map(|name| name.trim().trim_end_matches('.')).filter(|name| !name.is_empty());
    let name = name.map_or_else(|| media.kind.to_string(), str::to_owned);
    let extension = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map(|(_, extension)| extension);
    match EXTENSIONS.iter().find(|(kind, _)| *kind == base).map(|(_, extensions)| *extensions) {
        Some(known) if extension.is_some_and(|own| known.iter().any(|one| one.eq_ignore_ascii_case(own))) => name,
        Some([first, ..]) => format!("{name}.{first}"),
        _ if extension.is_some() => name,
        _ => format!("{name}.bin"),
    }
}

/// The extensions that fit a type, the usual one first.
const EXTENSIONS: &[(&str, &[&str])] = &[
    ("application/msword", &["doc"]),
    ("application/pdf", &["pdf"]),
    ("application/vnd.ms-excel", &["xls"]),
    ("application/vnd.ms-powerpoint", &["ppt"]),
    ("application/vnd.openxmlformats-officedocument.presentationml.presentation", &["pptx"]),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", &["xlsx"]),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", &["docx"]),
    ("audio/aac", &["aac"]),
    ("audio/amr", &["amr"]),
    ("audio/mp4", &["m4a", "mp4"]),
    ("audio/mpeg", &["mp3"]),
    ("audio/ogg", &["ogg", "oga", "opus"]),
    ("image/jpeg", &["jpg", "jpeg"]),
    ("image/png", &["png"]),
    ("image/webp", &["webp"]),
    ("text/csv", &["csv"]),
    ("text/plain", &["txt", "text", "log", "csv"]),
    ("video/3gpp", &["3gp"]),
    ("video/mp4", &["mp4", "m4v"]),
];

/// How long Meta keeps an uploaded file.
const UPLOAD_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// What Meta's codes mean: [error codes][codes], state of June 2026, read 2026-11-22 from stored copies. Codes of groups
/// are those of pywa 4.5.0, and 132018 is that of public reports, read 2026-11-30.
///
/// UNVERIFIED is 100 with the subcode 33 and without details, which public reports show for an id that Meta does not know
/// or that the token may not see: of the number on a send, of the file where a file is asked for. See [`graph_error`].
///
/// [codes]: https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes
const ERRORS: &[(&str, ErrorClass)] = {
    use ErrorKind::{
        Account, Config, Forbidden, InvalidMessage, InvalidRecipient, OptedOut, OutsideWindow, QuotaExceeded,
        RateLimited, Rejected, Unauthenticated, Unavailable,
    };
    const fn wait(secs: u64) -> Option<Duration> {
        Some(Duration::from_secs(secs))
    }
    &[
        ("0", ErrorClass::new(Unauthenticated)),
        ("1", ErrorClass::new(Unavailable).retry(None)),
        ("2", ErrorClass::new(Unavailable).retry(None)),
        ("3", ErrorClass::new(Forbidden)),
        ("4", ErrorClass::new(RateLimited).retry(wait(60)).not_accepted()),
        ("10", ErrorClass::new(Forbidden)),
        ("33", ErrorClass::new(Config)),
        ("100", ErrorClass::new(InvalidMessage)),
        ("190", ErrorClass::new(Unauthenticated)),
        ("368", ErrorClass::new(Account)),
        ("613", ErrorClass::new(RateLimited).retry(wait(60)).not_accepted()),
        ("80007", ErrorClass::new(RateLimited).retry(wait(60)).not_accepted()),
        // We blocked this person.
        ("130403", ErrorClass::new(InvalidRecipient)),
        ("130429", ErrorClass::new(RateLimited).retry(wait(1)).not_accepted()),
        // Marketing held back from people in an experiment.
        ("130472", ErrorClass::new(Rejected)),
        ("130497", ErrorClass::new(Account)),
        ("131000", ErrorClass::new(Unavailable).retry(None)),
        ("131005", ErrorClass::new(Forbidden)),
        ("131008", ErrorClass::new(InvalidMessage)),
        ("131009", ErrorClass::new(InvalidMessage)),
        ("131014", ErrorClass::new(InvalidMessage)),
        ("131016", ErrorClass::new(Unavailable).retry(None)),
        ("131020", ErrorClass::new(InvalidMessage)),
        ("131021", ErrorClass::new(InvalidRecipient)),
        ("131026", ErrorClass::new(InvalidRecipient)),
        ("131030", ErrorClass::new(Config).scope(Scope::Recipient)),
        ("131031", ErrorClass::new(Account)),
        ("131037", ErrorClass::new(Config)),
        ("131041", ErrorClass::new(InvalidMessage)),
        ("131042", ErrorClass::new(Account)),
        ("131044", ErrorClass::new(Account)),
        ("131045", ErrorClass::new(Config)),
        ("131047", ErrorClass::new(OutsideWindow)),
        ("131048", ErrorClass::new(Account)),
        // A person's share of marketing is used up; trying again within 24 hours makes it longer.
        ("131049", ErrorClass::new(QuotaExceeded).per_recipient()),
        ("131050", ErrorClass::new(OptedOut)),
        ("131051", ErrorClass::new(InvalidMessage)),
        ("131053", ErrorClass::new(InvalidMessage)),
        ("131056", ErrorClass::new(RateLimited).retry(wait(6)).not_accepted().per_recipient()),
        ("131057", ErrorClass::new(Unavailable).retry(wait(60))),
        // A one-time code cannot go to a user id: it needs the phone number.
        ("131062", ErrorClass::new(InvalidRecipient)),
        ("131063", ErrorClass::new(Config).scope(Scope::Message)),
        ("131064", ErrorClass::new(Account)),
        // Of groups: suspended, too fast, and a number that may have none.
        ("131207", ErrorClass::new(InvalidRecipient)),
        ("131208", ErrorClass::new(RateLimited).retry(None)),
        ("131215", ErrorClass::new(Config)),
        ("132000", ErrorClass::new(InvalidMessage)),
        ("132001", ErrorClass::new(InvalidMessage).scope(Scope::Template)),
        ("132005", ErrorClass::new(InvalidMessage).scope(Scope::Template)),
        ("132007", ErrorClass::new(InvalidMessage).scope(Scope::Template)),
        ("132008", ErrorClass::new(InvalidMessage)),
        ("132012", ErrorClass::new(InvalidMessage)),
        ("132015", ErrorClass::new(InvalidMessage).scope(Scope::Template)),
        ("132016", ErrorClass::new(InvalidMessage).scope(Scope::Template)),
        // A parameter with a new line, a tab or more than four spaces in a row.
        ("132018", ErrorClass::new(InvalidMessage)),
        ("132068", ErrorClass::new(InvalidMessage).scope(Scope::Template)),
        ("132069", ErrorClass::new(RateLimited).retry(wait(3600)).scope(Scope::Template)),
        ("133004", ErrorClass::new(Unavailable).retry(None)),
        ("133005", ErrorClass::new(Config)),
        ("133006", ErrorClass::new(Config)),
        ("133008", ErrorClass::new(Config)),
        ("133009", ErrorClass::new(Config)),
        ("133010", ErrorClass::new(Config)),
        ("133015", ErrorClass::new(Unavailable).retry(wait(300))),
        ("133016", ErrorClass::new(RateLimited)),
        ("134011", ErrorClass::new(Config)),
        ("135000", ErrorClass::new(InvalidMessage)),
        ("137000", ErrorClass::new(InvalidRecipient)),
    ]
};

const HELP: &str = "https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes";

fn vendor_error(answer: &Answer) -> VendorError<'_> {
    graph_error(answer, ERRORS, HELP, |_, _| None)
}

/// What an error of the Graph API says: by what else stands in it where the code alone does not tell, then by code, then
/// by what Meta says of retrying, then by HTTP status.
fn graph_error<'a>(
    answer: &'a Answer,
    table: &[(&str, ErrorClass)],
    help: &'static str,
    by_more: fn(&str, &ErrorWire<'a>) -> Option<(ErrorClass, &'static str)>,
) -> VendorError<'a> {
    let Ok(ErrorBody { error }) = serde_json::from_slice::<ErrorBody<'_>>(&answer.body) else {
        return VendorError::default();
    };
    let number = error.code.parse::<u32>().ok();
    let known = table.iter().any(|(row, _)| *error.code == **row);
    let unknown_object = error.is_of_unknown_object().then_some(UNKNOWN_OBJECT);
    let (class, words) = match unknown_object.or_else(|| by_more(&error.code, &error)) {
        Some((class, words)) => (Some(class), Some(words)),
        None => (
            match number {
                Some(200..=299) => Some(ErrorClass::new(ErrorKind::Forbidden)),
                _ if known => None,
                _ if error.is_transient == Some(true) => Some(ErrorClass::new(ErrorKind::Unavailable).retry(None)),
                _ if answer.status == StatusCode::TOO_MANY_REQUESTS => None,
                _ => Some(ErrorClass::new(ErrorKind::Rejected)).filter(|_| answer.status.is_client_error()),
            },
            None,
        ),
    };
    let mut said = VendorError::new(error.code.0);
    (said.class, said.words) = (class, words);
    said.trace = error.fbtrace_id.map(|trace| trace.0);
    said.help = Some(Cow::Borrowed(help));
    said
}

/// Our own fault: an id in the configuration is wrong, or the token is another account's.
const UNKNOWN_OBJECT: (ErrorClass, &str) = (
    ErrorClass::new(ErrorKind::Config),
    "Meta does not know the number or page by its id, or the token may not use it: check the configuration",
);

/// Returns `true` if Meta does not know what was asked for by its id.
fn is_unknown_object(error: &Error) -> bool {
    let body = error.raw().and_then(|raw| serde_json::from_slice::<ErrorBody<'_>>(raw).ok());
    body.is_some_and(|body| body.error.is_of_unknown_object())
}

/// The same error as one of a file that is not there.
fn not_found(error: &Error) -> Error {
    // The same answer comes for a token that may not use it (UNVERIFIED which is which): so it may be asked for again.
    let mut gone = Error::new(ErrorKind::NotFound, "Meta does not have the file, or no longer").with_help(HELP);
    gone = gone.with_retry(true, None);
    if let Some(gateway) = error.gateway() {
        gone = gone.with_gateway(gateway.to_owned());
    }
    if let Some(status) = error.status() {
        gone = gone.with_status(status);
    }
    if let Some(code) = error.code() {
        gone = gone.with_code(code);
    }
    if let Some(trace) = error.request_id() {
        gone = gone.with_request_id(trace);
    }
    match error.raw() {
        Some(raw) => gone.with_raw(raw.clone()),
        None => gone,
    }
}

#[derive(Deserialize)]
struct ErrorBody<'a> {
    #[serde(borrow)]
    error: ErrorWire<'a>,
}

#[derive(Deserialize)]
struct ErrorWire<'a> {
    #[serde(borrow)]
    code: Str<'a>,
    /// Read only where it is needed, so that a strange one costs nothing else.
    #[serde(borrow, default)]
    error_subcode: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error_data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(default)]
    is_transient: Option<bool>,
    #[serde(borrow, default)]
    fbtrace_id: Option<Str<'a>>,
}

impl ErrorWire<'_> {
    fn subcode(&self) -> Option<&str> {
        self.error_subcode.map(|subcode| subcode.get().trim_matches('"'))
    }

    /// Returns `true` if Meta does not know what was asked for by its id. One whose details name a parameter is of the
    /// message, under the same subcode.
    fn is_of_unknown_object(&self) -> bool {
        &*self.code == "100" && self.subcode() == Some("33") && self.error_data.is_none()
    }
}

#[derive(Serialize)]
struct MarkRead<'a> {
    messaging_product: &'static str,
    status: &'static str,
    message_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    typing_indicator: Option<Typing>,
}

#[derive(Serialize)]
struct Typing {
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Deserialize)]
struct Uploaded {
    id: String,
}

#[derive(Deserialize)]
struct Located {
    url: String,
    #[serde(default)]
    sha256: Option<String>,
}

#[derive(Deserialize)]
struct Number {
    #[serde(default)]
    quality_rating: Option<String>,
}
