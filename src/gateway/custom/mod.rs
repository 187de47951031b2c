//! A supplier described by a table, not programmed: any gateway whose API takes one request for each message.
//!
//! The table says how a message is written, how the answer is read, which codes mean what, and how receipts and inbound
//! messages arrive. Every setting is typed and checked when it is loaded; placeholders are encoded for their place, so
//! that no text can break out of JSON, a form, a URL or a header. Tables of real suppliers, each with its page and the
//! conformance suite's result, are in `docs/suppliers`.
//!
//! ```
//! # #[cfg(feature = "toml")] {
//! use civic_messaging::{Context, Registry, Settings};
//!
//! let settings = Settings::from_toml(r#"
//!     gateway = "custom"
//!     medium = "sms"
//!     name = "severn"                               # the gateway's name in errors, logs and events
//!     account = "+447700900456"                     # our number
//!     base_url = "https://api.severn.example"
//!
//!     [send]
//!     path = "/v1/messages"
//!     body = "json"                                 # or "form", "query"
//!     auth.bearer = "severn-api-token"              # or basic, header, query, fields
//!     fields = { from = "{from}", to = "{to}", text = "{text}", reference = "{reference}" }
//!
//!     [answer]
//!     id = "/id"                                    # a JSON pointer
//!     code = "/code"
//!
//!     [errors]
//!     BARRED = { kind = "opted_out" }
//!     BUSY = { kind = "rate_limited", retryable = true, not_accepted = true }
//!
//!     [webhook]
//!     format = "json"                               # or "form", posted or as the query of a GET
//!     proof.hmac_sha256 = { header = "x-severn-signature", encoding = "hex", secrets = "webhook-secret" }
//!     inbound = { account = "/number", id = "/id", from = "/from", text = "/text", at = "/at" }
//!
//!     [webhook.receipt]
//!     account = "/number"
//!     id = "/id"
//!     reference = "/reference"
//!     status = "/status"
//!     at = "/at"
//!     states = { delivered = ["DELIVERED"], failed = ["FAILED"], sent = ["SENT"] }
//! "#)?;
//! let sms = Registry::standard().connect(&settings, &Context::new())?;
//! assert_eq!(sms.info().gateway, "severn");
//! # }
//! # Ok::<(), civic_messaging::Error>(())
//! ```
//!
//! # Settings
//!
//! | setting | value |
//! |---|---|
//! | `name` | 1 to 32 lowercase letters, digits and `_` |
//! | `account` | our number, short code or name: the sender, and the owner of events |
//! | `base_url` | https, or http on loopback |
//! | `send.method` | `POST`, or `GET` for the body `query`; `PUT` |
//! | `send.path` | a path with placeholders, each encoded as one segment |
//! | `send.body` | `json`, `form` or `query` |
//! | `send.auth` | one of `bearer`, `basic = { user, password }`, `header = { name, value }`, `query = { name = secret }`, `fields = { name = secret }` (in the form or query) |
//! | `send.fields` | texts with placeholders, constants, `{ gsm7 = …, ucs2 = … }` by the text's encoding; for JSON also tables and lists |
//! | `send.headers` | texts with placeholders |
//! | `answer.id` | where the id is, or `{reference}` if the supplier returns none and names our reference in receipts |
//! | `answer.code`, `accepted` | where the code is, and the codes of an acceptance; a code of neither `accepted` nor `errors` in a 2xx answer leaves the outcome unknown |
//! | `answer.parts`, `price`, `currency` | where the number of segments and the price are; the currency is an ISO 4217 code, or `credits` |
//! | `answer.patterns` | forms of a plain-text answer, such as `{code}: {text}`, whose names `id`, `code` and so on refer to |
//! | `errors` | code = `{ kind, retryable, after, not_accepted, per_recipient, scope }` |
//! | `limits` | one of `segments` (10), `characters`, `utf16`, `bytes`; `max_reference`, `per_second` |
//! | `webhook.proof` | one of `hmac_sha256`, `bearer`, `header`, `basic`, `query`, or `unproven = true`: anybody who knows the URL can write as any resident |
//! | `webhook.each` | where the list of events is, if a webhook has several |
//! | `webhook.time_format`, `zone` | `rfc3339`, `unix`, `unix_ms` or a pattern such as `%Y-%m-%d %H:%M:%S`; `UTC`, `Europe/London` or a zone of POSIX |
//! | `webhook.inbound` | where `from`, `text`, `id`, `to`, `at` and our number, `account`, are; without an id, the event has a digest of its content; without an account, the proof alone decides whose event it is |
//! | `webhook.receipt` | where `status`, `id`, `reference`, `code`, `to`, `at`, `parts`, `price` and `account` are; `states`, by state the supplier's words; `failures`, as `errors`, by code or else by status |
//! | `when`, of both | `{ field = place, is = value }`: what an event of this kind has |
//!
//! A place is a JSON pointer (`/messages/0/id`), the name of a form's field or of a pattern's value, or for an answer
//! `header:NAME`. A placeholder is `{to}`, `{to_digits}` (without `+`), `{from}`, `{from_digits}`, `{text}` or
//! `{reference}`; with `:url` it is percent-encoded, for a URL inside a field.

mod answer;
mod config;
mod pointer;
mod proof;
mod receive;
mod template;
mod time;
mod webhook;

use std::sync::Arc;

use async_trait::async_trait;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request};

use self::answer::{AnswerConfig, Id};
pub use self::config::Config;
use self::config::{Auth, BodyFormat, SendConfig};
use self::proof::header_name;
use self::template::Values;
use self::webhook::WebhookConfig;
use crate::adapter::{self, Answer, Endpoint, basic, bearer, sensitive};
use crate::channel::Channel;
use crate::context::Context;
use crate::medium::sms;
use crate::model::address::Medium;
use crate::model::error::{Error, Result};
use crate::model::id::AccountId;
use crate::model::info::Info;
use crate::model::message::{Accepted, Content, Message};
use crate::model::rate::Rate;
use crate::settings::Settings;
use crate::transport::Body;
use crate::webhook::{Received, Request as WebhookRequest, Scheme};

/// A channel through a supplier that a table describes.
///
/// Cloning is cheap, and clones share one connection pool.
#[derive(Clone, Debug)]
pub struct Custom {
    info: Info,
    endpoint: Endpoint,
    context: Context,
    send: Arc<SendConfig>,
    answer: Arc<AnswerConfig>,
    webhook: Option<Arc<(WebhookConfig, Box<dyn Scheme>)>>,
}

impl Custom {
    /// Creates a channel for a medium.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) with the setting and the rule that it breaks.
    pub fn new(medium: Medium, config: Config, context: &Context) -> Result<Self> {
        config.check()?;
        let account = AccountId::from(config.account());
        let limits = &config.limits;
        let text = limits.text()?;
        let scheme = match &config.webhook {
            Some(webhook) => webhook.proof.scheme(&account)?,
            None => None,
        };
        let receipt = config.webhook.as_ref().and_then(|webhook| webhook.receipt.as_ref());
        let info = Info::new(config.name.0, medium, account).with_capability(|can| {
            can.receive = scheme.is_some();
            can.delivery_status = can.receive && receipt.is_some();
            can.key = can.delivery_status && receipt.is_some_and(|receipt| receipt.reference.is_some());
            can.max_reference = match config.has_reference() {
                true => limits.max_reference,
                false => Some(0),
            };
            can.text = Some(text);
            can.rate = limits.per_second.map(Rate::per_second);
        });
        config.send.headers.keys().try_for_each(|name| header_name("send.headers", name).map(drop))?;
        let answer = Arc::new(config.answer);
        let codes = Arc::clone(&answer);
        Ok(Self {
            endpoint: Endpoint::new(info.gateway, config.base_url, context, &[], move |answer| codes.error(answer))
                .with_overrides(config.errors),
            info,
            context: context.clone(),
            send: Arc::new(config.send),
            answer,
            webhook: config.webhook.zip(scheme).map(Arc::new),
        })
    }

    /// Writes the request of a message.
    fn request(&self, values: &Values<'_>) -> Result<Request<Body>> {
        let send = &*self.send;
        let mut headers = self.headers(values)?;
        let mut path = send.path.path(values)?;
        let mut pairs = template::pairs(&send.fields, values);
        if let Auth::Fields(fields) = &send.auth {
            pairs.extend(fields.iter().map(|(name, secret)| (name.as_str(), secret.expose().to_owned())));
        }
        let mut parameters = Vec::new();
        if let Auth::Query(secrets) = &send.auth {
            parameters.extend(secrets.iter().map(|(name, secret)| (name.as_str(), secret.expose())));
        }
        if send.body == BodyFormat::Query {
            parameters.extend(pairs.iter().map(|(name, value)| (*name, value.as_str())));
        }
        if !parameters.is_empty() {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(&adapter::query(&parameters));
        }
        let (method, body) = match send.body {
            BodyFormat::Json => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                (Method::POST, Body::from(template::json(&send.fields, values).to_string().into_bytes()))
            }
            BodyFormat::Form => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
                let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
                (Method::POST, form.into())
            }
            BodyFormat::Query => (Method::GET, Body::empty()),
        };
        self.endpoint.request(send.method.clone().unwrap_or(method), &path, headers, body)
    }

    fn headers(&self, values: &Values<'_>) -> Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        for (name, template) in &self.send.headers {
            let Some(value) = template.render(values) else { continue };
            let value = sensitive(&value).map_err(|_| Error::invalid("text", "cannot be sent in a header"))?;
            headers.insert(header_name("send.headers", name)?, value);
        }
        let (name, value) = match &self.send.auth {
            Auth::Basic { user, password } => (AUTHORIZATION, basic(user, password)?),
            Auth::Bearer(token) => (AUTHORIZATION, bearer(token)?),
            Auth::Header { name, value } => (header_name("send.auth.header.name", name)?, sensitive(value.expose())?),
            Auth::Fields(_) | Auth::Query(_) => return Ok(headers),
        };
        headers.insert::<HeaderName>(name, value);
        Ok(headers)
    }

    /// Reads the acceptance of a message, or why it was refused.
    fn accepted(&self, answer: &Answer, reference: Option<&str>) -> Result<Accepted> {
        let table = &*self.answer;
        let value = |source: &Option<answer::Source>| table.value(source.as_ref()?, answer);
        match value(&table.code) {
            Some(code) if table.accepted.contains(&code) => {}
            Some(code) if self.endpoint.class(&code).is_some() => return Err(self.endpoint.refused(answer)),
            // It may report an acceptance that the table does not list.
            Some(_) => return Err(answer.unreadable()),
            // Without an id in the answer, the code alone is the proof of an acceptance.
            None if table.id == Some(Id::Reference) => return Err(answer.unreadable()),
            None => {}
        }
        let id = match &table.id {
            Some(Id::Source(source)) => table.value(source, answer),
            Some(Id::Reference) | None => reference.map(str::to_owned),
        };
        let mut accepted = answer.accepted(id)?;
        accepted.segments = value(&table.parts).and_then(|parts| parts.parse().ok());
        accepted.price = value(&table.price).and_then(|price| table.price_of(&price));
        Ok(accepted)
    }
}

/// Builds a channel from a supplier's table, for [`Registry`](crate::Registry).
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) with the setting and the rule that it breaks.
pub fn connect(settings: &Settings, context: &Context) -> Result<Arc<dyn Channel>> {
    Ok(Arc::new(Custom::new(settings.medium()?, settings.read()?, context)?))
}

#[async_trait]
impl Channel for Custom {
    fn info(&self) -> &Info {
        &self.info
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        let message = self.info.prepare(message, self.context.clock.now())?;
        let Content::Text(text) = &message.content else { return Err(Error::unsupported("the table sends text only")) };
        let mut reference = self.info.reference(&message).map(std::borrow::Cow::into_owned);
        if reference.is_none() && self.answer.id == Some(Id::Reference) {
            let mut random = [0; 16];
            self.context.random.fill(&mut random)?;
            reference = Some(base16ct::lower::encode_string(&random));
        }
        let encoding = sms::count(text).encoding();
        let (to, from, reference) = (message.to.expose(), self.info.account.as_str(), reference.as_deref());
        let request = self.request(&Values { to, from, text, reference, encoding })?;
        let answer = self.endpoint.send(request).await?;
        self.accepted(&answer, reference)
    }

    async fn receive(&self, request: &WebhookRequest) -> Result<Received> {
        let scheme = self.webhook.as_ref().map(|webhook| &*webhook.1);
        adapter::receive(request, &self.info, scheme, "webhook", |webhook, events| self.events(webhook, events))
    }
}
