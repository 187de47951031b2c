//! The API key, and the JSON Web Tokens made with it.

use std::fmt;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64, Engine};
use hmac::{Hmac, KeyInit, Mac};
use http::header::HeaderValue;
use sha2::Sha256;

use super::is_uuid;
use crate::adapter::sensitive;
use crate::model::error::{Error, Result};
use crate::model::id::AccountId;
use crate::model::secret::Secret;

/// The service and the keyed HMAC of an API key.
pub(super) struct ApiKey {
    pub(super) service: AccountId,
    mac: Hmac<Sha256>,
}

impl ApiKey {
    /// Parses `{name}-{service}-{secret}` from its end, since the name may contain hyphens.
    pub(super) fn new(api_key: &Secret) -> Result<Self> {
        let invalid =
            || Error::config("api_key", "must be a name, the service's UUID and a secret UUID, with hyphens between");
        let split = |text: &'_ str| -> Option<(usize, usize)> {
            let secret = text.len().checked_sub(36)?;
            let service = secret.checked_sub(37)?;
            (text.get(..service)?.ends_with('-') || service == 0).then_some((service, secret))
        };
        let text = api_key.expose();
        let (service, secret) = split(text).ok_or_else(invalid)?;
        let service = text.get(service..).and_then(|rest| rest.get(..36)).filter(|id| is_uuid(id));
        let service = service.ok_or_else(invalid)?;
        let has_hyphen = text.get(..secret).is_some_and(|rest| rest.ends_with('-'));
        let secret = text.get(secret..).filter(|id| is_uuid(id) && has_hyphen).ok_or_else(invalid)?;
        let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(|_| invalid())?;
        Ok(Self { service: AccountId::new(service), mac })
    }

    /// Returns the `Authorization` of a request at this second: an HS256 JWT with the service's id and the time.
    pub(super) fn authorization(&self, now: i64) -> Result<HeaderValue> {
        // {"alg":"HS256","typ":"JWT"}
        const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";
        let claims = format!(r#"{{"iss":"{}","iat":{now}}}"#, self.service);
        let signed = format!("{HEADER}.{}", BASE64.encode(claims));
        let mut mac = self.mac.clone();
        mac.update(signed.as_bytes());
        sensitive(&format!("Bearer {signed}.{}", BASE64.encode(mac.finalize().into_bytes())))
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey").field("service", &self.service).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::error::ErrorKind;

    const VECTOR: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sms/notify_jwt.json"));

    #[test]
    fn token_equals_that_of_the_official_client() {
        let vector: serde_json::Value = serde_json::from_str(VECTOR).unwrap();
        let key = ApiKey::new(&Secret::new(vector["api_key"].as_str().unwrap()).unwrap()).unwrap();
        assert_eq!(key.service.as_str(), vector["service_id"]);
        let case = &vector["cases"][0];
        let header = key.authorization(case["iat"].as_i64().unwrap()).unwrap();
        assert_eq!(header.to_str().unwrap(), case["authorization"]);
        assert!(header.is_sensitive());
    }

    #[test]
    fn api_key_is_parsed_from_its_end_and_never_shown() {
        let (service, secret) = ("26785a09-ab16-4eb0-8407-a37497a57506", "3d844edf-8d35-48ac-975b-e847b4f122b0");
        let key = |text: &str| ApiKey::new(&Secret::new(text).unwrap()).map(|key| key.service);
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
}
