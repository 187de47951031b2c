//! Checks of the credentials, the number and the webhook.

use serde::Deserialize;

use super::Meta;
use crate::adapter::probe;
use crate::model::error::{Error, Result};
use crate::model::health::{CheckStatus, Health};

impl Meta {
    pub(super) async fn check_health(&self) -> Result<Health> {
        if !self.info.capability.health {
            return Err(Error::unsupported("this gateway has no call for its health").with_gateway(self.info.gateway));
        }
        let path =
            format!("{}?fields=id,quality_rating,whatsapp_business_manager_messaging_limit", self.connection.account);
        let answer = match probe(self.endpoint.get(&path, self.headers("application/json")).await)? {
            Ok(answer) => answer,
            Err(refused) => return Ok(refused),
        };
        let number: Number = answer.json()?;
        let (quality, detail) = match number.quality_rating.as_deref() {
            Some("RED") => (CheckStatus::Warn, "people block or report what this number sends"),
            Some("GREEN" | "YELLOW") => (CheckStatus::Pass, "Meta rates this number as good or medium"),
            _ => (CheckStatus::Unknown, "Meta has not rated this number"),
        };
        Ok(Health::default()
            .check_result("credentials", CheckStatus::Pass, "Meta knows the token and the number")
            .check_result("quality", quality, detail)
            .check_webhook(self.info.capability.receive, "app_secrets"))
    }
}

#[derive(Deserialize)]
struct Number {
    #[serde(default)]
    quality_rating: Option<String>,
}
