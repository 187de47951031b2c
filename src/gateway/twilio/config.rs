//! The settings of a Twilio sender.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::model::address::Sender;
use crate::model::error::{Error, ErrorClass, Result};
use crate::model::id::CallbackUrl;
use crate::model::secret::Secret;
use crate::transport::BaseUrl;
use crate::webhook::{self, SigningSecret};

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
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The account SID: `AC` and 32 hexadecimal digits.
    pub account_sid: String,
    /// The account's primary auth token. It verifies webhooks and, without an `api_key`, authenticates API calls.
    pub auth_token: Secret,
    /// An API key for API calls. Webhooks are always verified with the auth token, because Twilio signs with that.
    #[serde(default)]
    pub api_key: Option<ApiKey>,
    /// The sender: a phone number, a short code or a name; on WhatsApp a phone number.
    #[serde(default)]
    pub from: Option<Sender>,
    /// The messaging service that chooses the sender, instead of `from`: `MG` and 32 hexadecimal digits.
    #[serde(default)]
    pub messaging_service_sid: Option<String>,
    /// The public base URL of the webhook as configured at Twilio, without the request's path and query:
    /// `https://sms.example.gov.uk`. Include a path prefix that a proxy strips. Required to receive, because the
    /// signature covers the URL.
    #[serde(default)]
    pub public_url: Option<BaseUrl>,
    /// The complete URL for status callbacks. Without it, the messaging service's own setting applies, if any.
    #[serde(default)]
    pub status_callback: Option<CallbackUrl>,
    /// Further tokens that verify webhooks.
    ///
    /// These are the previous token during rotation, or those of subaccounts, each with the account it owns.
    #[serde(default, deserialize_with = "webhook::secrets")]
    pub previous_auth_tokens: Vec<SigningSecret>,
    /// Shared keys for HMAC-SHA256 signatures. Once one is set, HMAC-SHA1 signatures are refused.
    #[serde(default, deserialize_with = "webhook::secrets")]
    pub shared_keys: Vec<SigningSecret>,
    /// The base URL of the API; `https://api.twilio.com` by default.
    #[serde(default)]
    pub base_url: Option<BaseUrl>,
    /// Error classes by Twilio code, overriding the built-in table for refusals and for failed deliveries.
    #[serde(default)]
    pub errors: BTreeMap<String, ErrorClass>,
}

/// An API key of a Twilio account.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ApiKey {
    /// The key's SID: `SK` and 32 hexadecimal digits.
    pub sid: String,
    /// The key's secret.
    pub secret: Secret,
}

const SENDER_RULE: &str = "must be a phone number, a short code, or a name of up to 11 letters, digits and spaces";

impl Config {
    /// Creates the settings that every sender needs.
    ///
    /// Add [`sender`](Self::sender) or [`messaging_service`](Self::messaging_service).
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the token is empty, blank or too short.
    pub fn new(account_sid: impl Into<String>, auth_token: impl Into<String>) -> Result<Self> {
        Ok(Self {
            account_sid: account_sid.into(),
            auth_token: Secret::setting("auth_token", auth_token)?,
            api_key: None,
            from: None,
            messaging_service_sid: None,
            public_url: None,
            status_callback: None,
            previous_auth_tokens: Vec::new(),
            shared_keys: Vec::new(),
            base_url: None,
            errors: BTreeMap::new(),
        })
    }

    /// Sets the sender.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) unless it is a phone number, a short code or a name of up to 11
    /// letters and digits.
    pub fn sender(mut self, from: &str) -> Result<Self> {
        self.from = Some(from.parse().map_err(|_| Error::config("from", SENDER_RULE))?);
        Ok(self)
    }

    /// Sets the messaging service that chooses the sender.
    #[must_use]
    pub fn messaging_service(mut self, sid: impl Into<String>) -> Self {
        self.messaging_service_sid = Some(sid.into());
        self
    }

    /// Sets an API key to use for API calls instead of the auth token.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the secret is empty, blank or too short.
    pub fn api_key(mut self, sid: impl Into<String>, secret: impl Into<String>) -> Result<Self> {
        let secret = Secret::setting("api_key.secret", secret)?;
        self.api_key = Some(ApiKey { sid: sid.into(), secret });
        Ok(self)
    }

    /// Sets the public base URL of the webhook.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) unless it is https or loopback.
    pub fn public_url(mut self, url: &str) -> Result<Self> {
        self.public_url = Some(url.parse().map_err(|e: Error| e.with_field("public_url"))?);
        Ok(self)
    }

    /// Sets the complete URL for status callbacks.
    #[must_use]
    pub fn status_callback(mut self, url: impl Into<CallbackUrl>) -> Self {
        self.status_callback = Some(url.into());
        self
    }

    /// Adds a shared key, after which HMAC-SHA1 signatures are refused.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if it is empty, blank or too short.
    pub fn shared_key(mut self, secret: impl Into<String>) -> Result<Self> {
        self.shared_keys.push(Secret::setting("shared_keys", secret)?.into());
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
