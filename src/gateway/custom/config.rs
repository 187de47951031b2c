//! The table that describes a supplier.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use http::Method;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::answer::{AnswerConfig, Id};
use super::template::{self, Fields, Template};
use super::webhook::WebhookConfig;
use crate::model::address::Address;
use crate::model::capability::TextLimit;
use crate::model::error::{Error, ErrorClass, Result};
use crate::model::secret::Secret;
use crate::transport::BaseUrl;
use crate::webhook::SigningSecret;

/// The description of a supplier: see the [module](super) for its settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub(super) name: GatewayName,
    /// Our number or name: the sender, and the owner of events.
    pub(super) account: String,
    pub(super) base_url: BaseUrl,
    pub(super) send: SendConfig,
    #[serde(default)]
    pub(super) answer: AnswerConfig,
    #[serde(default)]
    pub(super) errors: BTreeMap<String, ErrorClass>,
    #[serde(default)]
    pub(super) limits: Limits,
    #[serde(default)]
    pub(super) webhook: Option<WebhookConfig>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SendConfig {
    #[serde(default, deserialize_with = "method")]
    pub(super) method: Option<Method>,
    pub(super) path: Template,
    pub(super) body: BodyFormat,
    pub(super) auth: Auth,
    pub(super) fields: Fields,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, Template>,
}

/// The place of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum BodyFormat {
    Form,
    Json,
    Query,
}

/// The credential of a request.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Auth {
    Basic {
        user: String,
        password: Secret,
    },
    Bearer(Secret),
    /// Among the fields of the form or the query.
    Fields(BTreeMap<String, Secret>),
    Header {
        name: String,
        value: Secret,
    },
    /// In the query of the URL, whatever the body.
    Query(BTreeMap<String, Secret>),
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) bytes: Option<usize>,
    pub(super) characters: Option<usize>,
    pub(super) segments: Option<usize>,
    pub(super) utf16: Option<usize>,
    pub(super) max_reference: Option<usize>,
    pub(super) per_second: Option<u32>,
}

impl Limits {
    /// Returns the limit of a text: ten segments, unless one is set.
    pub(super) fn text(&self) -> Result<TextLimit> {
        let limits = [
            self.bytes.map(TextLimit::bytes),
            self.characters.map(TextLimit::characters),
            self.segments.map(TextLimit::segments),
            self.utf16.map(TextLimit::utf16),
        ];
        let mut set = limits.into_iter().flatten();
        match (set.next(), set.next()) {
            (None, _) => Ok(TextLimit::segments(10)),
            (Some(limit), None) if limit.max > 0 => Ok(limit),
            _ => Err(Error::config("limits", "must have one of bytes, characters, segments and utf16, above 0")),
        }
    }
}

/// The name of a gateway, as a static text.
#[derive(Clone, Copy, Debug)]
pub(super) struct GatewayName(pub(super) &'static str);

impl<'de> Deserialize<'de> for GatewayName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let is_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if name.is_empty() || name.len() > 32 || !name.bytes().all(is_name) {
            return Err(D::Error::custom("must be 1 to 32 lowercase letters, digits and _"));
        }
        Ok(Self(interned(name)))
    }
}

/// Returns a name that lives as long as the program: one copy of each, however often it is configured.
fn interned(name: String) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(known) = names.get(name.as_str()) {
        return known;
    }
    let name = &*name.leak();
    names.insert(name);
    name
}

impl Config {
    /// Sets the base URL.
    #[must_use]
    pub fn base_url(mut self, base_url: BaseUrl) -> Self {
        self.base_url = base_url;
        self
    }

    /// Sets the secrets of the webhook's proof, if it has one. Without any, webhooks are refused.
    #[must_use]
    pub fn webhook_secrets(mut self, secrets: Vec<SigningSecret>) -> Self {
        if let Some(webhook) = &mut self.webhook {
            webhook.proof.set_secrets(secrets);
        }
        self
    }

    /// Checks what no single setting shows.
    pub(super) fn check(&self) -> Result<()> {
        let send = &self.send;
        if send.body != BodyFormat::Json {
            template::check_flat(&send.fields)?;
        }
        if send.body == BodyFormat::Json && matches!(send.auth, Auth::Fields(_)) {
            return Err(Error::config("send.auth.fields", "needs the body form or query"));
        }
        if self.answer.id.is_none() {
            return Err(Error::config("answer.id", "is missing: without an id, nothing can be found later"));
        }
        if self.answer.id == Some(Id::Reference) {
            if !self.has_reference() {
                return Err(Error::config("answer.id", "is {reference}, which no field of send contains"));
            }
            if self.answer.code.is_none() || self.answer.accepted.is_empty() {
                let rule = "is missing: where the supplier returns no id, a code has to report the acceptance";
                return Err(Error::config("answer.accepted", rule));
            }
        }
        self.answer.check()?;
        self.webhook.as_ref().map_or(Ok(()), WebhookConfig::check)
    }

    /// Returns `true` if the supplier receives our reference.
    pub(super) fn has_reference(&self) -> bool {
        template::have_reference(&self.send.fields)
            || self.send.headers.values().any(Template::has_reference)
            || self.send.path.has_reference()
    }

    /// Returns our account as it is compared: a number in E.164, whatever its spelling.
    pub(super) fn account(&self) -> String {
        normalised(&self.account)
    }
}

/// Returns a number in E.164, or any other sender unchanged.
pub(super) fn normalised(sender: &str) -> String {
    Address::sms_sender(sender).map_or_else(|| sender.to_owned(), |address| address.expose().to_owned())
}

fn method<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Method>, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "GET" => Ok(Some(Method::GET)),
        "POST" => Ok(Some(Method::POST)),
        "PUT" => Ok(Some(Method::PUT)),
        _ => Err(D::Error::custom("must be GET, POST or PUT")),
    }
}

#[cfg(test)]
mod tests {
    use crate::context::Context;
    use crate::gateway::custom::Custom;
    use crate::model::address::Medium;
    use crate::settings::Settings;

    const TABLE: &str = r#"{
        "name": "acme", "account": "+447700900456", "base_url": "https://api.acme.example",
        "send": {
            "path": "/messages", "body": "form", "auth": { "bearer": "acme-api-token" },
            "fields": { "to": "{to}", "text": "{text}", "ref": "{reference}" }
        },
        "answer": { "id": "/id", "code": "/code", "accepted": ["0"] },
        "webhook": {
            "format": "form", "proof": { "bearer": { "tokens": "webhook-token" } },
            "inbound": { "from": "from", "text": "text" },
            "receipt": { "id": "id", "status": "status", "states": { "delivered": ["D"] } }
        }
    }"#;

    /// Returns the field and the rule of the error after one change of the table.
    fn error(before: &str, after: &str) -> (String, String) {
        assert!(TABLE.contains(before), "{before}");
        let settings = Settings::from_json(&TABLE.replacen(before, after, 1)).unwrap();
        let read = settings.read().and_then(|config| Custom::new(Medium::Sms, config, &Context::default()));
        let error = read.expect_err(after);
        (error.field().unwrap_or_default().to_owned(), error.to_string())
    }

    #[test]
    fn wrong_setting_is_named_with_its_rule() {
        for (before, after, field, rule) in [
            (r#""acme""#, r#""Acme Ltd""#, "name", "lowercase"),
            (r#""https://api.acme.example""#, r#""http://api.acme.example""#, "base_url", "https"),
            (r#""form", "auth""#, r#""xml", "auth""#, "send.body", "unknown variant"),
            (r#""path": "/messages""#, r#""path": "/{number}""#, "send.path", "unknown placeholder"),
            (r#""{text}""#, r#""{body}""#, "send.fields.text", "unknown placeholder"),
            (r#""{text}""#, r#"{ "text": "{text}" }"#, "send.fields.text", "only JSON has tables"),
            (r#"{ "bearer": "acme-api-token" }"#, r#"{ "bearer": "" }"#, "send.auth.bearer", "secret"),
            (r#"{ "bearer": "acme-api-token" }"#, r#"{ "token": "acme-api-token" }"#, "send.auth", "unknown variant"),
            (r#""id": "/id", "#, "", "answer.id", "missing"),
            (r#""id": "/id""#, r#""id": "id""#, "answer.id", "JSON pointer"),
            (r#""id": "/id""#, r#""id": "/id", "price": "/price""#, "answer.currency", "missing"),
            (
                r#""id": "/id", "code": "/code", "accepted": ["0"]"#,
                r#""id": "{reference}""#,
                "answer.accepted",
                "missing",
            ),
            (r#""id": "/id""#, r#""id": "/id", "patterns": ["{a}{b}"]"#, "answer.patterns[0]", "braces"),
            (
                r#"{ "bearer": { "tokens": "webhook-token" } }"#,
                r#"{ "unproven": false }"#,
                "webhook.proof",
                "nothing proves",
            ),
            (r#"{ "bearer": { "tokens": "webhook-token" } }"#, r#""none""#, "webhook.proof", "unknown variant"),
            (r#""from": "from""#, r#""from": "/from""#, "webhook.inbound", "name of a field"),
            (r#""from": "from""#, r#""from": "header:x-from""#, "webhook.inbound", "header"),
            (r#""id": "id", "#, "", "webhook.receipt", "id, reference"),
            (r#"{ "delivered": ["D"] }"#, r#"{ "arrived": ["D"] }"#, "webhook.receipt.states", "unknown variant"),
            (r#""format": "form""#, r#""format": "form", "each": "/results""#, "webhook.each", "json"),
            (r#""format": "form""#, r#""format": "form", "colour": 1"#, "webhook.colour", "unknown field"),
            (r#""format": "form""#, r#""format": "form", "time_format": "%H:%M""#, "webhook.time_format", "rfc3339"),
            (r#""format": "form""#, r#""format": "form", "zone": "Mars""#, "webhook.zone", "Europe/London"),
        ] {
            let (at, text) = error(before, after);
            assert!(at.starts_with(field) && text.contains(rule), "{after}: {at}: {text}");
        }
    }

    #[test]
    fn table_states_what_the_channel_can_do() {
        let config = Settings::from_json(TABLE).unwrap().read().unwrap();
        let custom = Custom::new(Medium::Sms, config, &Context::default()).unwrap();
        let can = &custom.info.capability;
        assert_eq!((custom.info.gateway, custom.info.account.as_str()), ("acme", "+447700900456"));
        assert!(can.receive && can.delivery_status && !can.key && can.max_reference.is_none());
        assert!(!format!("{custom:?}").contains("-token"));
    }
}
