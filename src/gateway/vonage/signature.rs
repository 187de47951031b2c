//! The signature of Vonage's webhooks.

use std::fmt;
use std::time::Duration;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64, Engine};
use hmac::{Hmac, KeyInit, Mac};
use http::header::AUTHORIZATION;
use serde::Deserialize;
use serde_json::Value;
use sha2::Sha256;

use crate::model::clock::Timestamp;
use crate::model::digest::{Digest, sha256_from_hex};
use crate::webhook::{Refusal, Scheme, SignatureCoverage, SigningSecret, Unverified, Verification, Verified};

/// The tolerance of a token's time of issue, in both directions.
const TOLERANCE: Duration = Duration::from_secs(300);

/// Verifies the JWT in `Authorization`: HS256 under the account's signature secret, with the SHA-256 of the body in
/// `payload_hash` and the time of issue in `iat`. (Vonage, signed webhooks, and its Python library 4.9.1, read
/// 2026-11-22 from stored copies.)
///
/// Vonage's own libraries check the HMAC alone, under which any body would pass. Here a token without `payload_hash`, of
/// another body, or issued more than five minutes before or after its arrival, is refused.
#[derive(Clone)]
pub struct WebhookToken {
    keys: Vec<(Hmac<Sha256>, SigningSecret)>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

impl WebhookToken {
    /// Creates the scheme with these secrets. Without any, it refuses every request.
    pub fn new(secrets: impl IntoIterator<Item = SigningSecret>) -> Self {
        let key = |secret: SigningSecret| {
            Some((Hmac::<Sha256>::new_from_slice(secret.secret().expose().as_bytes()).ok()?, secret))
        };
        Self { keys: secrets.into_iter().filter_map(key).collect() }
    }

    /// Returns the `Authorization` of a body issued at this time under the first secret, for tests and fake gateways.
    pub fn sign(&self, body: &[u8], issued: Timestamp) -> Option<String> {
        let (mac, _) = self.keys.first()?;
        let claims = serde_json::json!({ "iat": issued.as_secs(), "payload_hash": Digest::sha256(body).to_string() });
        let header = BASE64.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        let signed = format!("{header}.{}", BASE64.encode(claims.to_string()));
        let mut mac = mac.clone();
        mac.update(signed.as_bytes());
        Some(format!("Bearer {signed}.{}", BASE64.encode(mac.finalize().into_bytes())))
    }

    /// Returns the secret that signed a token, and the token's claims.
    fn open(&self, token: &str) -> Option<(&SigningSecret, Value)> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Header = serde_json::from_slice(&BASE64.decode(header).ok()?).ok()?;
        let signature = BASE64.decode(signature).ok().filter(|_| header.alg == "HS256")?;
        let matches = |(mac, _): &&(Hmac<Sha256>, SigningSecret)| {
            let mut mac = mac.clone();
            mac.update(signed.as_bytes());
            mac.verify_slice(&signature).is_ok()
        };
        let (_, secret) = self.keys.iter().find(matches)?;
        Some((secret, serde_json::from_slice(&BASE64.decode(claims).ok()?).ok()?))
    }
}

impl Scheme for WebhookToken {
    fn verify(&self, unverified: Unverified<'_>) -> Verification {
        let mut values = unverified.headers().get_all(AUTHORIZATION).iter();
        let Some(value) = values.next() else { return Verification::Refused(Refusal::Missing) };
        let value = value.to_str().ok().filter(|_| values.next().is_none());
        let token = value.and_then(|value| value.split_once(' '));
        let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let Some((secret, claims)) = token.and_then(|(_, token)| self.open(token)) else {
            return Verification::Refused(Refusal::Wrong);
        };
        let hash = claims.get("payload_hash").and_then(Value::as_str);
        let hash = hash.and_then(|hash| sha256_from_hex(hash.as_bytes()));
        if hash.as_ref() != Some(Digest::sha256(unverified.body()).as_bytes()) {
            return Verification::Refused(Refusal::Wrong);
        }
        let issued = claims.get("iat").and_then(Value::as_i64).and_then(|issued| issued.checked_mul(1_000));
        let Some(issued) = issued.map(Timestamp::from_millis) else { return Verification::Refused(Refusal::Wrong) };
        let arrived = unverified.arrived();
        if arrived.since(issued) > TOLERANCE || issued.since(arrived) > TOLERANCE {
            return Verification::Refused(Refusal::Stale);
        }
        Verification::Open(Verified::new(&unverified, unverified.body().clone(), secret).with_claims(claims))
    }

    fn covers(&self) -> SignatureCoverage {
        SignatureCoverage::Body
    }
}

impl fmt::Debug for WebhookToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(_, secret)| secret)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::secret::Secret;
    use crate::webhook::Request;

    const VECTORS: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sms/vonage_signature.json"));

    fn status(scheme: &WebhookToken, authorization: &str, body: &str, at: i64) -> u16 {
        let request = http::Request::post("/vonage").header("authorization", authorization);
        let request = Request::new(request.body(body.to_owned()).unwrap()).arrived_at(Timestamp::from_secs(at));
        request.verified(scheme).map_or_else(|error| error.webhook_status().as_u16(), |_| 200)
    }

    #[test]
    fn signed_webhooks_of_vonages_library_are_verified() {
        let vectors: Value = serde_json::from_str(VECTORS).unwrap();
        let mut count = 0;
        for case in vectors["cases"].as_array().unwrap().iter().filter(|case| case.get("authorization").is_some()) {
            let text = |name: &str| case[name].as_str().unwrap();
            let secret = SigningSecret::for_accounts(Secret::new(text("secret")).unwrap(), ["desk".into()]);
            let scheme = WebhookToken::new([secret]);
            let expected = if case["valid"] == true { 200 } else { 403 };
            assert_eq!(status(&scheme, text("authorization"), text("body"), 1_795_352_400), expected);
            count += 1;
        }
        assert_eq!(count, 2);
    }

    #[test]
    fn token_needs_payload_hash_time_and_algorithm() {
        let secret = "signature-secret-of-the-test";
        let scheme = WebhookToken::new([SigningSecret::for_accounts(Secret::new(secret).unwrap(), ["desk".into()])]);
        let token = |header: &str, claims: &str| {
            let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
            let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
            mac.update(signed.as_bytes());
            format!("Bearer {signed}.{}", BASE64.encode(mac.finalize().into_bytes()))
        };
        let (hs256, hash) = (r#"{"alg":"HS256","typ":"JWT"}"#, Digest::sha256(b"{}").to_string());
        let good = token(hs256, &format!(r#"{{"iat":1000,"payload_hash":"{hash}"}}"#));
        for (at, expected) in [(1000, 200), (1300, 200), (700, 200), (1301, 403), (699, 403)] {
            assert_eq!(status(&scheme, &good, "{}", at), expected, "{at}");
        }
        for bad in [
            token(r#"{"alg":"none"}"#, &format!(r#"{{"iat":1000,"payload_hash":"{hash}"}}"#)),
            token(r#"{"alg":"HS512"}"#, &format!(r#"{{"iat":1000,"payload_hash":"{hash}"}}"#)),
            token(hs256, r#"{"iat":1000}"#),
            token(hs256, &format!(r#"{{"payload_hash":"{hash}"}}"#)),
            token(hs256, &format!(r#"{{"iat":9223372036854775807,"payload_hash":"{hash}"}}"#)),
            token(hs256, "7"),
            good.replace("Bearer ", "Basic "),
            good[7..].to_owned(),
            "Bearer a.b.c".to_owned(),
            "Bearer ".to_owned(),
        ] {
            assert_eq!(status(&scheme, &bad, "{}", 1000), 403, "{bad}");
        }
        let request = Request::new(http::Request::post("/").body("{}").unwrap());
        assert_eq!(request.verified(&scheme).unwrap_err().webhook_status(), 401);
    }
}
