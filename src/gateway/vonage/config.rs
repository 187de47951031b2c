//! The settings of a Vonage sender.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::model::error::{ErrorClass, Result};
use crate::model::secret::Secret;
use crate::transport::BaseUrl;
use crate::webhook::{self, SigningSecret};

/// The settings of a sender at Vonage.
///
/// ```toml
/// gateway = "vonage"
/// medium = "sms"                                  # or "whatsapp", "messenger"
/// application_id = "aaaaaaaa-bbbb-cccc-dddd-0123456789ab"
/// private_key = { file = "/etc/council/vonage.pem" }
/// from = "+447700900456"                          # on Messenger the id of the page
/// signature_secrets = { env = "VONAGE_SIGNATURE_SECRET" }
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The id of the application, which has the numbers and the webhooks.
    pub application_id: String,
    /// The application's private key: the PEM file that Vonage makes with it.
    pub private_key: Secret,
    /// The sender: a phone number, a short code or a name; on WhatsApp a phone number; on Messenger the id of the page.
    pub from: String,
    /// The account's signature secret, which signs webhooks; a list while it is rotated. Required to receive.
    #[serde(default, deserialize_with = "webhook::secrets")]
    pub signature_secrets: Vec<SigningSecret>,
    /// The base URL of the API; `https://api.nexmo.com` by default.
    #[serde(default)]
    pub base_url: Option<BaseUrl>,
    /// Error classes by Vonage code, overriding the built-in table for refusals and for failed deliveries.
    #[serde(default)]
    pub errors: BTreeMap<String, ErrorClass>,
}

impl Config {
    /// Creates the settings that every sender needs.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the key is empty, blank or too short.
    pub fn new(
        application_id: impl Into<String>,
        private_key: impl Into<String>,
        from: impl Into<String>,
    ) -> Result<Self> {
        Ok(Self {
            application_id: application_id.into(),
            private_key: Secret::setting("private_key", private_key)?,
            from: from.into(),
            signature_secrets: Vec::new(),
            base_url: None,
            errors: BTreeMap::new(),
        })
    }

    /// Adds a signature secret.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if it is empty, blank or too short.
    pub fn signature_secret(mut self, secret: impl Into<String>) -> Result<Self> {
        self.signature_secrets.push(Secret::setting("signature_secrets", secret)?.into());
        Ok(self)
    }

    /// Sets the base URL of the API.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) unless it is https or loopback.
    pub fn base_url(mut self, url: &str) -> Result<Self> {
        self.base_url = Some(url.parse()?);
        Ok(self)
    }
}
