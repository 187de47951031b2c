//! Signature schemes shared by several gateways.

use std::borrow::Cow;

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderName;
use http::header::AUTHORIZATION;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::request::Unverified;
use super::secret::SigningSecret;
use super::verification::{Refusal, Scheme, SignatureCoverage, Verification};
use super::verified::Verified;
use crate::model::digest::sha256_from_hex;

/// HMAC-SHA256 of the raw body in a header, after a prefix such as `sha256=`.
#[derive(Clone, Debug)]
pub struct HmacSha256 {
    header: HeaderName,
    prefix: Cow<'static, str>,
    encoding: SignatureEncoding,
    secrets: Vec<Key>,
}

/// The encoding of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureEncoding {
    /// Base64 with padding.
    Base64,
    /// Hexadecimal.
    Hex,
}

/// A secret with a precomputed HMAC key, so that each webhook costs only the hashing of its body.
#[derive(Clone)]
struct Key {
    mac: Hmac<Sha256>,
    secret: SigningSecret,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.secret.fmt(f)
    }
}

impl HmacSha256 {
    /// Creates the scheme with these secrets. Without any, it refuses every request.
    pub fn new(
        header: HeaderName,
        prefix: impl Into<Cow<'static, str>>,
        encoding: SignatureEncoding,
        secrets: impl IntoIterator<Item = SigningSecret>,
    ) -> Self {
        let key = |secret: SigningSecret| {
            let mac = Hmac::<Sha256>::new_from_slice(secret.secret().expose().as_bytes()).ok()?;
            Some(Key { mac, secret })
        };
        Self { header, prefix: prefix.into(), encoding, secrets: secrets.into_iter().filter_map(key).collect() }
    }

    /// Returns the header's value for a body under the first secret, for tests and simulated gateways.
    pub fn sign(&self, body: &[u8]) -> Option<String> {
        let mut mac = self.secrets.first()?.mac.clone();
        mac.update(body);
        let mac = mac.finalize().into_bytes();
        Some(match self.encoding {
            SignatureEncoding::Base64 => format!("{}{}", self.prefix, BASE64_STANDARD.encode(mac)),
            SignatureEncoding::Hex => format!("{}{}", self.prefix, base16ct::lower::encode_string(&mac)),
        })
    }
}

impl Scheme for HmacSha256 {
    fn verify(&self, unverified: Unverified<'_>) -> Verification {
        let Some(header) = unverified.headers().get(&self.header) else {
            return Verification::Refused(Refusal::Missing);
        };
        let Some(signature) = header.as_bytes().strip_prefix(self.prefix.as_bytes()) else {
            return Verification::Refused(Refusal::Wrong);
        };
        let signature = match self.encoding {
            SignatureEncoding::Base64 => BASE64_STANDARD.decode(signature).ok().and_then(|bytes| bytes.try_into().ok()),
            SignatureEncoding::Hex => sha256_from_hex(signature),
        };
        let Some(signature) = signature else { return Verification::Refused(Refusal::Wrong) };
        let matches = |key: &&Key| {
            let mut mac = key.mac.clone();
            mac.update(unverified.body());
            mac.verify_slice(&signature).is_ok()
        };
        match self.secrets.iter().find(matches) {
            Some(key) => Verification::Open(Verified::new(&unverified, unverified.body().clone(), &key.secret)),
            None => Verification::Refused(Refusal::Wrong),
        }
    }

    fn covers(&self) -> SignatureCoverage {
        SignatureCoverage::Body
    }
}

/// A fixed token in the `Authorization` header. It authenticates the sender, not the content.
#[derive(Clone, Debug)]
pub struct BearerToken {
    tokens: Vec<SigningSecret>,
}

impl BearerToken {
    /// Creates the scheme with these tokens. Without any, it refuses every request.
    pub fn new(tokens: impl IntoIterator<Item = SigningSecret>) -> Self {
        Self { tokens: tokens.into_iter().collect() }
    }
}

impl Scheme for BearerToken {
    fn verify(&self, unverified: Unverified<'_>) -> Verification {
        let Some(header) = unverified.headers().get(AUTHORIZATION) else {
            return Verification::Refused(Refusal::Missing);
        };
        let token = header.as_bytes().split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
        let Some((_, token)) = token else { return Verification::Refused(Refusal::Wrong) };
        opened(&unverified, &self.tokens, token)
    }

    fn covers(&self) -> SignatureCoverage {
        SignatureCoverage::Nothing
    }
}

/// A fixed token in a header of the gateway's own. It authenticates the sender, not the content.
///
/// ```
/// use civic_messaging::Secret;
/// use civic_messaging::webhook::{HeaderToken, Request, SigningSecret};
/// use http::HeaderName;
///
/// let tokens = ["a-new-token", "an-old-token"].map(|token| SigningSecret::new(Secret::new(token).unwrap()));
/// let scheme = HeaderToken::new(HeaderName::from_static("x-acme-token"), tokens);
/// let request = http::Request::post("/").header("x-acme-token", "an-old-token").body("{}").unwrap();
/// assert!(Request::from(request).open(&scheme).is_ok());
/// ```
#[derive(Clone, Debug)]
pub struct HeaderToken {
    header: HeaderName,
    tokens: Vec<SigningSecret>,
}

impl HeaderToken {
    /// Creates the scheme with these tokens in this header. Without any, it refuses every request.
    pub fn new(header: HeaderName, tokens: impl IntoIterator<Item = SigningSecret>) -> Self {
        Self { header, tokens: tokens.into_iter().collect() }
    }
}

impl Scheme for HeaderToken {
    fn verify(&self, unverified: Unverified<'_>) -> Verification {
        // Two values are ambiguous: a proxy may check one of them, and we the other.
        let mut values = unverified.headers().get_all(&self.header).iter();
        let (Some(token), None) = (values.next(), values.next()) else {
            let missing = !unverified.headers().contains_key(&self.header);
            return Verification::Refused(if missing { Refusal::Missing } else { Refusal::Wrong });
        };
        opened(&unverified, &self.tokens, token.as_bytes())
    }

    fn covers(&self) -> SignatureCoverage {
        SignatureCoverage::Nothing
    }
}

/// A user and a password as `Authorization: Basic`. It authenticates the sender, not the content.
///
/// ```
/// use civic_messaging::Secret;
/// use civic_messaging::webhook::{Basic, Request, SigningSecret};
///
/// let scheme = Basic::new("acme", [SigningSecret::new(Secret::new("a-long-password").unwrap())]);
/// let request = http::Request::post("/").header("authorization", "Basic YWNtZTphLWxvbmctcGFzc3dvcmQ=").body("{}").unwrap();
/// assert!(Request::from(request).open(&scheme).is_ok());
/// ```
#[derive(Clone, Debug)]
pub struct Basic {
    user: String,
    passwords: Vec<SigningSecret>,
}

impl Basic {
    /// Creates the scheme with this user and these passwords. Without any, it refuses every request.
    pub fn new(user: impl Into<String>, passwords: impl IntoIterator<Item = SigningSecret>) -> Self {
        Self { user: user.into(), passwords: passwords.into_iter().collect() }
    }
}

impl Scheme for Basic {
    fn verify(&self, unverified: Unverified<'_>) -> Verification {
        let Some(header) = unverified.headers().get(AUTHORIZATION) else {
            return Verification::Refused(Refusal::Missing);
        };
        let encoded =
            header.as_bytes().split_at_checked(6).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"basic "));
        let Some(Ok(decoded)) = encoded.map(|(_, encoded)| BASE64_STANDARD.decode(encoded)) else {
            return Verification::Refused(Refusal::Wrong);
        };
        let decoded = Zeroizing::new(decoded);
        // A user contains no colon; a password may.
        let password = decoded.strip_prefix(self.user.as_bytes()).and_then(|rest| rest.strip_prefix(b":"));
        match password {
            Some(password) => opened(&unverified, &self.passwords, password),
            None => Verification::Refused(Refusal::Wrong),
        }
    }

    fn covers(&self) -> SignatureCoverage {
        SignatureCoverage::Nothing
    }
}

/// Opens a webhook that proves itself by a fixed token.
fn opened(unverified: &Unverified<'_>, tokens: &[SigningSecret], token: &[u8]) -> Verification {
    match tokens.iter().find(|expected| expected.secret().matches(token)) {
        Some(expected) => Verification::Open(Verified::new(unverified, unverified.body().clone(), expected)),
        None => Verification::Refused(Refusal::Wrong),
    }
}

/// A fixed token in the query of the webhook's URL, for gateways that offer nothing else, such as most that call by
/// GET.
///
/// It authenticates the sender, not the content.
///
/// A query with two tokens is refused. The token is removed from the query that is passed on. URLs appear in the logs
/// of proxies and servers: keep this one out of them, and rotate a token that was logged.
#[derive(Clone, Debug)]
pub struct QueryToken {
    parameter: Cow<'static, str>,
    tokens: Vec<SigningSecret>,
}

impl QueryToken {
    /// Creates the scheme with these tokens in this parameter. Without any, it refuses every request.
    pub fn new(parameter: impl Into<Cow<'static, str>>, tokens: impl IntoIterator<Item = SigningSecret>) -> Self {
        Self { parameter: parameter.into(), tokens: tokens.into_iter().collect() }
    }

    fn is_token(&self, pair: &str) -> bool {
        form_urlencoded::parse(pair.as_bytes()).any(|(name, _)| name == self.parameter)
    }
}

impl Scheme for QueryToken {
    fn verify(&self, unverified: Unverified<'_>) -> Verification {
        let Some(token) = unverified.query_parameter(&self.parameter) else {
            return Verification::Refused(Refusal::Missing);
        };
        let (tokens, rest): (Vec<_>, Vec<_>) = unverified.query().split('&').partition(|pair| self.is_token(pair));
        let expected = self.tokens.iter().find(|expected| expected.secret().matches(token.as_bytes()));
        let Some(expected) = expected.filter(|_| tokens.len() == 1) else {
            return Verification::Refused(Refusal::Wrong);
        };
        Verification::Open(Verified::new(&unverified, unverified.body().clone(), expected).with_query(&rest.join("&")))
    }

    fn covers(&self) -> SignatureCoverage {
        SignatureCoverage::Nothing
    }
}

/// No verification, for a gateway that offers none: anybody who knows the URL can create events.
///
/// The name prevents choosing it by mistake. Keep the URL secret, and allow only the gateway's network.
#[derive(Clone, Debug)]
pub struct Unsigned {
    owner: SigningSecret,
}

impl Unsigned {
    /// Creates the scheme with the owner of its events. The secret is not used.
    pub fn new(owner: SigningSecret) -> Self {
        Self { owner }
    }
}

impl Scheme for Unsigned {
    fn verify(&self, unverified: Unverified<'_>) -> Verification {
        let body: Bytes = unverified.body().clone();
        Verification::Open(Verified::new(&unverified, body, &self.owner).with_query(unverified.query()))
    }

    fn covers(&self) -> SignatureCoverage {
        SignatureCoverage::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::secret::Secret;
    use crate::webhook::{Opened, Request};

    fn secret(text: &str) -> SigningSecret {
        SigningSecret::for_accounts(Secret::new(text).unwrap(), ["desk".into()])
    }

    fn scheme(encoding: SignatureEncoding, secrets: &[&str]) -> HmacSha256 {
        HmacSha256::new(HeaderName::from_static("x-signature"), "sha256=", encoding, secrets.iter().map(|s| secret(s)))
    }

    fn signed(body: &'static str, header: &str) -> Request {
        http::Request::post("/").header("x-signature", header).body(body).unwrap().into()
    }

    #[test]
    fn only_the_right_signature_verifies() {
        for encoding in [SignatureEncoding::Hex, SignatureEncoding::Base64] {
            let scheme = scheme(encoding, &["old-secret", "new-secret"]);
            let good = scheme.sign(b"body").unwrap();
            let Ok(Opened::Verified(verified)) = signed("body", &good).open(&scheme) else { panic!("refused") };
            assert!(verified.owns("desk") && !verified.owns("other"));
            assert_eq!(verified.body(), "body");
            assert_eq!(verified.query(), None);
            let cut = &good[..good.len() - 1];
            for bad in [
                cut,
                "",
                "sha256=",
                &good[7..],
                "sha1=00",
                "sha256=zz",
                &format!("{good} "),
                &good.replace("sha256", "SHA256"),
            ] {
                assert_eq!(signed("body", bad).open(&scheme).unwrap_err().webhook_status(), 403, "{bad}");
            }
            assert_eq!(signed("body ", &good).open(&scheme).unwrap_err().webhook_status(), 403);
        }
    }

    #[test]
    fn both_secrets_verify_during_a_rotation() {
        let (old, new) =
            (scheme(SignatureEncoding::Hex, &["old-secret"]), scheme(SignatureEncoding::Hex, &["new-secret"]));
        let both = scheme(SignatureEncoding::Hex, &["old-secret", "new-secret"]);
        for signer in [&old, &new] {
            assert!(signed("body", &signer.sign(b"body").unwrap()).open(&both).is_ok());
        }
        assert!(signed("body", &old.sign(b"body").unwrap()).open(&new).is_err());
        assert!(signed("body", &old.sign(b"body").unwrap()).open(&scheme(SignatureEncoding::Hex, &[])).is_err());
        assert_eq!(Request::new(http::Request::new("body")).open(&both).unwrap_err().webhook_status(), 401);
    }

    #[test]
    fn query_token_is_compared_whole_and_removed() {
        let scheme = QueryToken::new("token", [secret("a-long-query-token")]);
        let with = |query: &str| {
            let request = http::Request::get(format!("/hook?{query}")).body("").unwrap();
            Request::from(request).open(&scheme).map_err(|e| e.webhook_status())
        };
        for query in ["id=7&token=a-long-query-token&text=a+b", "t%6Fken=a-long-query-token&id=7&text=a%20b"] {
            let Ok(Opened::Verified(verified)) = with(query) else { panic!("refused") };
            assert!(!verified.query().unwrap().contains("token"));
            let fields = verified.fields().unwrap();
            assert_eq!((fields.get("id").as_deref(), fields.get("text").as_deref()), (Some("7"), Some("a b")));
        }
        for bad in [
            "token=a-long-query-token&token=a-long-query-token",
            "token=a-long-query-toke",
            "token=a-long-query-token2",
            "token=",
            "token",
            "Token=a-long-query-token",
        ] {
            assert!(matches!(with(bad), Err(http::StatusCode::FORBIDDEN | http::StatusCode::UNAUTHORIZED)), "{bad}");
        }
        assert_eq!(with("id=7").unwrap_err(), 401);
    }

    #[test]
    fn header_token_is_compared_whole_and_stands_alone() {
        let scheme =
            HeaderToken::new(HeaderName::from_static("x-token"), [secret("first-token"), secret("next-token")]);
        let with = |values: &[&str]| {
            let request = http::Request::post("/");
            let request = values.iter().fold(request, |request, value| request.header("x-token", *value));
            let request = Request::from(request.body("{}").unwrap());
            request.open(&scheme).map(|_| ()).map_err(|e| e.webhook_status().as_u16())
        };
        assert_eq!((with(&["first-token"]), with(&["next-token"])), (Ok(()), Ok(())));
        assert_eq!(with(&[]), Err(401));
        for bad in
            [&["first-toke"][..], &["first-token2"], &[""], &["first-token", "first-token"], &["x", "first-token"]]
        {
            assert_eq!(with(bad), Err(403), "{bad:?}");
        }
        let none = HeaderToken::new(HeaderName::from_static("x-token"), []);
        assert!(Request::from(http::Request::post("/").header("x-token", "").body("").unwrap()).open(&none).is_err());
    }

    #[test]
    fn basic_compares_user_and_password_whole() {
        let scheme = Basic::new("acme", [secret("a-long:password"), secret("another-password")]);
        let with = |value: String| {
            let request = http::Request::post("/").header("authorization", value).body("{}").unwrap();
            Request::from(request).open(&scheme).map(|_| ()).map_err(|e| e.webhook_status().as_u16())
        };
        let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        assert_eq!(with(basic("acme:a-long:password")), Ok(()));
        assert_eq!(with(basic("acme:another-password").replace("Basic", "basic")), Ok(()));
        for bad in
            ["acme:a-long", "acme:", "acme", "", "acm:another-password", "acme2:another-password", ":another-password"]
        {
            assert_eq!(with(basic(bad)), Err(403), "{bad}");
        }
        for bad in ["Basic", "Basic ", "Basic ***", "Bearer another-password"] {
            assert_eq!(with(bad.to_owned()), Err(403), "{bad}");
        }
        let missing = Request::from(http::Request::post("/").body("{}").unwrap()).open(&scheme);
        assert_eq!(missing.unwrap_err().webhook_status(), 401);
    }

    #[test]
    fn bearer_token_is_compared_whole() {
        let scheme = BearerToken::new([secret("a-long-bearer-token")]);
        let with = |value: &str| {
            let request = http::Request::post("/").header("authorization", value).body("{}").unwrap();
            Request::from(request).open(&scheme).map(|_| ()).map_err(|e| e.webhook_status())
        };
        assert_eq!(with("Bearer a-long-bearer-token"), Ok(()));
        assert_eq!(with("bearer a-long-bearer-token"), Ok(()));
        for bad in
            ["Bearer a-long-bearer-toke", "Bearer a-long-bearer-token2", "Bearer ", "Basic a-long-bearer-token", ""]
        {
            assert_eq!(with(bad), Err(http::StatusCode::FORBIDDEN), "{bad}");
        }
    }
}
