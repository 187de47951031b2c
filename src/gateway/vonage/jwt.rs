//! The JSON Web Tokens that authorise requests.

use std::fmt;
use std::sync::Arc;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64, Engine};
use http::header::HeaderValue;
use rustls::SignatureScheme;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::Signer;

use crate::adapter::sensitive;
use crate::model::error::{Error, Result};
use crate::model::random::Random;
use crate::model::secret::Secret;

/// The lifetime of a token in seconds, as in Vonage's own libraries.
const LIFETIME: i64 = 900;

/// The private key of an application.
pub(super) struct PrivateKey(Box<dyn Signer>);

impl PrivateKey {
    /// Parses the PEM file that Vonage makes with the application.
    pub(super) fn new(pem: &Secret) -> Result<Arc<Self>> {
        let invalid = || Error::config("private_key", "must be the PEM file of the application's RSA private key");
        let key = PrivateKeyDer::from_pem_slice(pem.expose().as_bytes()).map_err(|_| invalid())?;
        let key = any_supported_type(&key).map_err(|_| invalid())?;
        let signer = key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]).ok_or_else(invalid)?;
        Ok(Arc::new(Self(signer)))
    }

    /// Returns the `Authorization` of one request at this second: an RS256 JWT of the application with an id of its own.
    pub(super) fn authorization(&self, application_id: &str, now: i64, random: &dyn Random) -> Result<HeaderValue> {
        let mut id = [0; 16];
        random.fill(&mut id)?;
        let id = base16ct::lower::encode_string(&id);
        let claims = serde_json::json!({
            "application_id": application_id, "iat": now, "exp": now.saturating_add(LIFETIME), "jti": id,
        });
        let header = BASE64.encode(r#"{"alg":"RS256","typ":"JWT"}"#);
        let signed = format!("{header}.{}", BASE64.encode(claims.to_string()));
        let signature = self.0.sign(signed.as_bytes());
        let signature = signature.map_err(|_| Error::config("private_key", "cannot sign: make a new key at Vonage"))?;
        sensitive(&format!("Bearer {signed}.{}", BASE64.encode(signature)))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(masked)")
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::ring::default_provider;
    use rustls::pki_types::SubjectPublicKeyInfoDer;
    use serde_json::Value;

    use super::*;
    use crate::model::random::SystemRandom;

    const PEM: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/vonage/private_key.pem"));
    const VECTORS: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sms/vonage_signature.json"));

    /// Returns the header and the claims of a token.
    fn read(token: &str) -> (Value, Value) {
        let mut parts = token.split('.').map(|part| BASE64.decode(part).unwrap());
        let mut json = || serde_json::from_slice(&parts.next().unwrap()).unwrap();
        (json(), json())
    }

    /// Returns `true` if the signature fits the key.
    fn verify(token: &str, spki: &SubjectPublicKeyInfoDer<'_>) -> bool {
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let algorithms = default_provider().signature_verification_algorithms;
        let (_, rsa) = algorithms.mapping.iter().find(|(name, _)| *name == SignatureScheme::RSA_PKCS1_SHA256).unwrap();
        // The key is the last part of the structure: SEQUENCE { algorithm, BIT STRING { 0, key } }.
        let key = spki.as_ref().get(24..).unwrap();
        rsa[0].verify_signature(key, signed.as_bytes(), &BASE64.decode(signature).unwrap()).is_ok()
    }

    #[test]
    fn token_has_the_form_of_vonages_library() {
        let vectors: Value = serde_json::from_str(VECTORS).unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        let case = cases.iter().find(|case| case["name"] == "application_jwt_rs256").unwrap();
        let theirs = case["jwt"].as_str().unwrap();
        let spki = SubjectPublicKeyInfoDer::from_pem_slice(case["public_key_pem"].as_str().unwrap().as_bytes());
        assert!(verify(theirs, &spki.unwrap()));

        let key = PrivateKey::new(&Secret::new(PEM).unwrap()).unwrap();
        let application = case["application_id"].as_str().unwrap();
        let ours = key.authorization(application, 1_795_352_400, &SystemRandom).unwrap();
        assert!(ours.is_sensitive());
        let ours = ours.to_str().unwrap().strip_prefix("Bearer ").unwrap().to_owned();
        let ((header, mut claims), (their_header, mut their_claims)) = (read(&ours), read(theirs));
        assert_eq!(header, their_header);
        for claims in [&mut claims, &mut their_claims] {
            claims.as_object_mut().unwrap().remove("jti").unwrap();
        }
        assert_eq!(claims, their_claims);
        let signer = any_supported_type(&PrivateKeyDer::from_pem_slice(PEM.as_bytes()).unwrap()).unwrap();
        assert!(verify(&ours, &signer.public_key().unwrap()));
        let again = key.authorization(application, 1_795_352_400, &SystemRandom).unwrap();
        assert_ne!(again.to_str().unwrap(), format!("Bearer {ours}"));
    }

    #[test]
    fn private_key_is_never_shown() {
        let key = PrivateKey::new(&Secret::new(PEM).unwrap()).unwrap();
        assert_eq!(format!("{key:?}"), "PrivateKey(masked)");
        for bad in ["canary-key", &PEM.replace("PRIVATE", "PUBLIC"), &PEM.replace('A', "B")] {
            let error = PrivateKey::new(&Secret::new(bad).unwrap()).unwrap_err();
            assert_eq!(error.field(), Some("private_key"));
            assert!(!format!("{error} {error:?}").contains("canary"));
        }
    }
}
