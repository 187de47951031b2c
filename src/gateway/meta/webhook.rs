//! The signature of Meta's webhooks, and the handshake.

use http::Method;
use http::header::HeaderName;

use super::Config;
use crate::adapter::json::Text;
use crate::model::id::AccountId;
use crate::model::secret::Secret;
use crate::webhook::{
    HmacSha256, Refusal, Response, Scheme, SignatureCoverage, SigningSecret, Unverified, Verification,
};

/// `X-Hub-Signature-256`, and the handshake, which carries no signature.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) hmac: HmacSha256,
    pub(super) verify_token: Option<Secret>,
}

pub(super) const SIGNATURE: HeaderName = HeaderName::from_static("x-hub-signature-256");

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

pub(super) fn secrets(config: &Config, account: &AccountId) -> Vec<SigningSecret> {
    let accounts: Vec<_> = std::iter::once(account).chain(&config.business_account_id).cloned().collect();
    config.app_secrets.iter().map(|secret| secret.clone().or_owns(&accounts)).collect()
}

/// The product of Meta's that a webhook is of, if a name of one stands there.
pub(super) fn product<'t>(object: &'t Text<'_>) -> Option<&'t str> {
    object.some().filter(|object| object.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
}
