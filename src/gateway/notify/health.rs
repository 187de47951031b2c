//! Health checks: credentials, template, key type, characters and webhook.

use std::collections::BTreeMap;

use http::StatusCode;

use super::receive::{Record, RecordList};
use super::{KeyType, Notify};
use crate::adapter::json::{self, Json, Piece, Text};
use crate::adapter::{lenient, segment};
use crate::model::error::{Error, Result};
use crate::model::health::{CheckStatus, Health};

impl Notify {
    pub(super) async fn check_health(&self) -> Result<Health> {
        let health = Health::default();
        let path = format!("/v2/template/{}", segment("template_id", &self.template_id)?);
        let (status, detail) = match self.get(&path).await {
            Ok(answer) => {
                let json = Json::new(&answer.body);
                let template: TemplateResource<'_> = json.read().ok_or_else(|| answer.unreadable())?;
                template.check(&self.body_field)
            }
            Err(error) if matches!(error.status(), Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)) => {
                return Ok(health.check_result("credentials", CheckStatus::Fail, refusal_reason(&error)));
            }
            Err(error) if matches!(error.status(), Some(StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST)) => {
                (CheckStatus::Fail, "the service has no template with this id: check template_id")
            }
            Err(error) => return Err(error),
        };
        let health = health
            .check_result("credentials", CheckStatus::Pass, "Notify accepts the key")
            .check_result("template", status, detail);
        let (status, detail) = check_key(self.key_type, self.is_billed().await);
        let health = health.check_result("key", status, detail);
        let (status, detail) = match self.keeps_unicode().await {
            Some(keeps) if keeps == self.unicode => (CheckStatus::Pass, "a preview matched the setting `unicode`"),
            Some(true) => (CheckStatus::Warn, "a preview kept every character: set unicode = true"),
            Some(false) => (CheckStatus::Warn, "a preview lost characters: set unicode = false"),
            None => (CheckStatus::Unknown, "the template could not be previewed"),
        };
        let health = health.check_result("characters", status, detail);
        Ok(health.check_webhook(self.info.capability.receive, "callback_tokens"))
    }

    /// Returns whether delivered messages of this key were billed, if any has cost data.
    async fn is_billed(&self) -> Option<bool> {
        let answer = self.get("/v2/notifications?template_type=sms&status=delivered").await.ok()?;
        let json = Json::new(&answer.body);
        let list = json.read::<RecordList<'_>>()?.records?;
        let fragments = list.iter().filter_map(|piece| json::read::<Record<'_>>(piece.get())?.segments());
        fragments.map(|segments| segments > 0).reduce(|one, other| one || other)
    }

    /// Returns whether Notify keeps every character, by previewing an emoji.
    async fn keeps_unicode(&self) -> Option<bool> {
        let body = serde_json::json!({ "personalisation": { &*self.body_field: "\u{1F600}" } });
        let path = format!("/v2/template/{}/preview", segment("template_id", &self.template_id).ok()?);
        let answer = self.post(&path, &body, false).await.ok()?;
        let json = Json::new(&answer.body);
        let preview: TemplateResource<'_> = json.read()?;
        match preview.body.as_deref()?.trim() {
            "\u{1F600}" => Some(true),
            "?" => Some(false),
            _ => None,
        }
    }
}

/// The reason of a refused token, by the message of Notify's error.
fn refusal_reason(error: &Error) -> &'static str {
    let message = error.raw().map(|raw| String::from_utf8_lossy(raw)).unwrap_or_default();
    if message.contains("system clock") {
        "this machine's clock is wrong: set it to within 30 seconds"
    } else if message.contains("service not found") || message.contains("archived") {
        "the service of this key does not exist or is archived"
    } else {
        "Notify does not accept this key, or it was revoked: create a new one"
    }
}

/// Compares the declared key type with whether delivered messages were billed. Notify bills no message of a test key.
fn check_key(declared: Option<KeyType>, billed: Option<bool>) -> (CheckStatus, &'static str) {
    match (declared, billed) {
        (Some(KeyType::Live), Some(true)) => (
            CheckStatus::Pass,
            "declared live; a billed message proves that it is not a test key, but not whether it is live or team",
        ),
        (Some(KeyType::Live), Some(false)) => {
            (CheckStatus::Warn, "declared live, but its delivered messages were not billed, as with a test key")
        }
        (Some(KeyType::Live), None) => (CheckStatus::Unknown, "declared live; no message proves it"),
        (Some(KeyType::Team), Some(false)) => {
            (CheckStatus::Warn, "declared team, but its delivered messages were not billed, as with a test key")
        }
        (Some(KeyType::Team), _) => {
            (CheckStatus::Warn, "declared team: it sends only to the service's team and guest list")
        }
        (Some(KeyType::Test), Some(true)) => {
            (CheckStatus::Fail, "declared test, but a billed message proves that it sends: it is a team or live key")
        }
        (Some(KeyType::Test), _) => (CheckStatus::Warn, "declared test: it sends to nobody"),
        (None, Some(true)) => {
            (CheckStatus::Unknown, "a billed message proves a team or live key: declare which in key_type")
        }
        (None, Some(false)) => (
            CheckStatus::Unknown,
            "its delivered messages were not billed, as with a test key: declare its type in key_type",
        ),
        (None, None) => (CheckStatus::Unknown, "Notify's API does not report the key's type: declare it in key_type"),
    }
}

lenient! {
    /// A template, or a preview of one.
    struct TemplateResource<'a> {
        template_type = "type": Text<'a>,
        body: Text<'a>,
        personalisation: Option<Piece<'a>>,
    }
}

impl TemplateResource<'_> {
    /// Checks that the template carries free text unchanged.
    fn check(&self, field: &str) -> (CheckStatus, &'static str) {
        let fields: Option<BTreeMap<String, serde::de::IgnoredAny>> =
            self.personalisation.as_ref().and_then(|fields| serde_json::from_str(fields.get()).ok());
        if self.template_type.as_deref() != Some("sms") {
            return (CheckStatus::Fail, "it is not a text message template");
        }
        let Some(fields) = fields.filter(|fields| fields.keys().any(|name| name.eq_ignore_ascii_case(field))) else {
            return (CheckStatus::Fail, "it lacks the field that body_field names");
        };
        if fields.len() > 1 {
            (CheckStatus::Fail, "it has fields besides the one that body_field names")
        } else if !self.body.as_deref().is_some_and(|body| body.trim().eq_ignore_ascii_case(&format!("(({field}))"))) {
            (CheckStatus::Warn, "it adds text of its own to every message")
        } else {
            (CheckStatus::Pass, "it carries text unchanged")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_check_passes_only_a_proven_live_key() {
        use KeyType::{Live, Team, Test};
        for declared in [None, Some(Live), Some(Team), Some(Test)] {
            for billed in [None, Some(true), Some(false)] {
                let (status, _) = check_key(declared, billed);
                assert_eq!(status == CheckStatus::Pass, (declared, billed) == (Some(Live), Some(true)));
                assert_eq!(status == CheckStatus::Fail, (declared, billed) == (Some(Test), Some(true)));
            }
        }
    }
}
