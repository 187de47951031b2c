//! Checks of the credentials, the number and the webhook.

use serde::Deserialize;

use super::Meta;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::health::{CheckStatus, Health};

impl Meta {
    pub(super) async fn check_health(&self) -> Result<Health> {
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
                health.check_result("quality", CheckStatus::Pass, "Meta rates this number as good or medium")
            }
            _ => health.check_result("quality", CheckStatus::Unknown, "Meta has not rated this number"),
        };
        Ok(match self.info.capability.receive {
            true => health.check_result(
                "webhook",
                CheckStatus::Unknown,
                "Meta has no call that reports whether webhooks arrive",
            ),
            false => health.check_result(
                "webhook",
                CheckStatus::Warn,
                "app_secrets are not set: webhooks cannot be received",
            ),
        })
    }
}

#[derive(Deserialize)]
struct Number {
    #[serde(default)]
    quality_rating: Option<String>,
}
