//! OAuth 1.0a: signed requests (RFC 5849).

use base64::prelude::{BASE64_STANDARD, Engine};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderValue, Method, Uri};
use sha1::Sha1;
use zeroize::Zeroizing;

use super::encode::{percent, sensitive};
use crate::context::Context;
use crate::model::clock::Clock;
use crate::model::error::Result;
use crate::model::random::Random;
use crate::model::secret::Secret;

/// The four keys of OAuth 1.0a, which sign requests with HMAC-SHA1.
///
/// The tokens do not expire, and each signature holds for one request and one second.
///
/// ```
/// use civic_messaging::adapter::OAuth1;
/// use civic_messaging::Context;
/// use http::Method;
///
/// let keys = OAuth1::new("consumer-key", "consumer-secret", "access-token", "access-token-secret")?;
/// let uri = "https://api.gateway.example/messages?limit=10".parse().unwrap();
/// let header = keys.authorization(&Method::GET, &uri, &[], &Context::new())?;
/// assert!(header.is_sensitive() && header.as_bytes().starts_with(b"OAuth oauth_consumer_key="));
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct OAuth1 {
    /// The app's key.
    pub consumer_key: Secret,
    /// The app's secret.
    pub consumer_secret: Secret,
    /// The account's token.
    pub access_token: Secret,
    /// The account's secret.
    pub access_token_secret: Secret,
}

impl OAuth1 {
    /// Creates the keys: the app's pair, then the account's.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for one that is empty, blank or too short.
    pub fn new(
        consumer_key: impl Into<String>,
        consumer_secret: impl Into<String>,
        access_token: impl Into<String>,
        access_token_secret: impl Into<String>,
    ) -> Result<Self> {
        Ok(Self {
            consumer_key: Secret::setting("consumer_key", consumer_key)?,
            consumer_secret: Secret::setting("consumer_secret", consumer_secret)?,
            access_token: Secret::setting("access_token", access_token)?,
            access_token_secret: Secret::setting("access_token_secret", access_token_secret)?,
        })
    }

    /// Returns the `Authorization` header of one request, marked as sensitive.
    ///
    /// `form` is the body of a form; any other body is not signed. A client must send the query exactly as it stands in
    /// `uri`, so encode it with [`query`](crate::adapter::query).
    ///
    /// # Errors
    /// If the context has no randomness.
    pub fn authorization(
        &self,
        method: &Method,
        uri: &Uri,
        form: &[(&str, &str)],
        context: &Context,
    ) -> Result<HeaderValue> {
        let timestamp = context.clock.now().as_secs().to_string();
        sensitive(&self.header(method, uri, form, &nonce(&*context.random)?, &timestamp))
    }

    fn header(&self, method: &Method, uri: &Uri, form: &[(&str, &str)], nonce: &str, timestamp: &str) -> String {
        let own = [
            ("oauth_consumer_key", self.consumer_key.expose()),
            ("oauth_nonce", nonce),
            ("oauth_signature_method", "HMAC-SHA1"),
            ("oauth_timestamp", timestamp),
            ("oauth_token", self.access_token.expose()),
            ("oauth_version", "1.0"),
        ];
        let base = base_string(method, uri, own.iter().chain(form));
        let signature = signature(self.consumer_secret.expose(), self.access_token_secret.expose(), &base);
        let last = [("oauth_signature", signature.as_str())];
        let signed = own.iter().chain(&last);
        let signed: Vec<_> = signed.map(|(name, value)| format!("{name}=\"{}\"", percent(value))).collect();
        format!("OAuth {}", signed.join(", "))
    }
}

/// The signature base string: the method, the URL as requested, and the parameters of query, header and form.
fn base_string<'p>(method: &Method, uri: &Uri, own: impl Iterator<Item = &'p (&'p str, &'p str)>) -> String {
    let encode = |name: &str, value: &str| (percent(name).to_string(), percent(value).to_string());
    let query = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let mut pairs: Vec<_> = query.map(|(name, value)| encode(&name, &value)).collect();
    pairs.extend(own.map(|(name, value)| encode(name, value)));
    pairs.sort();
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let scheme = uri.scheme_str().unwrap_or("https").to_ascii_lowercase();
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    let default_port = if scheme == "http" { 80 } else { 443 };
    let port = uri.port_u16().filter(|port| *port != default_port).map(|port| format!(":{port}")).unwrap_or_default();
    let address = format!("{scheme}://{host}{port}{}", uri.path());
    format!("{method}&{}&{}", percent(&address), percent(&pairs.join("&")))
}

fn signature(consumer_secret: &str, token_secret: &str, base: &str) -> String {
    let key = Zeroizing::new(format!("{}&{}", percent(consumer_secret), percent(token_secret)));
    // An HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(key.as_bytes()) else { return String::new() };
    mac.update(base.as_bytes());
    BASE64_STANDARD.encode(mac.finalize().into_bytes())
}

/// Returns 32 unpredictable hexadecimal digits.
fn nonce(random: &dyn Random) -> Result<String> {
    let mut bytes = [0; 16];
    random.fill(&mut bytes)?;
    Ok(base16ct::lower::encode_string(&bytes))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::num::NonZeroU64;

    use oauth1_request as oracle;
    use serde_json::Value;

    use super::super::query;
    use super::*;
    use crate::model::random::SystemRandom;

    fn vectors() -> Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/x/vectors.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn percent_encoding_matches_vectors() {
        let vectors = vectors();
        for pair in vectors["percent_encoding"].as_array().unwrap() {
            assert_eq!(percent(pair[0].as_str().unwrap()).to_string(), pair[1].as_str().unwrap());
        }
    }

    #[test]
    fn signatures_match_vectors() {
        let vectors = vectors();
        let vectors = vectors["oauth1_hmac_sha1"].as_array().unwrap();
        assert_eq!(vectors.len(), 5);
        for vector in vectors {
            let text = |name: &str| vector[name].as_str().unwrap();
            let all: BTreeMap<&str, &str> =
                vector["params"].as_object().unwrap().iter().map(|(k, v)| (k.as_str(), v.as_str().unwrap())).collect();
            let (own, asked): (Vec<_>, Vec<_>) = all.into_iter().partition(|(name, _)| name.starts_with("oauth_"));
            // What is asked stands in the query, as it is sent.
            let uri: Uri = format!("{}?{}", text("url"), query(&asked)).parse().unwrap();
            let base = base_string(&text("method").parse().unwrap(), &uri, own.iter());
            assert_eq!(base, text("base_string"), "{}", text("name"));
            assert_eq!(signature(text("consumer_secret"), text("token_secret"), &base), text("signature"));
        }
    }

    /// xorshift64*, so that a failure can be repeated.
    struct Random(u64);

    impl Random {
        fn below(&mut self, n: u64) -> usize {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            usize::try_from((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n).unwrap()
        }

        fn text(&mut self, least: u64, characters: &str) -> String {
            let characters: Vec<char> = characters.chars().collect();
            let length = least + self.below(12) as u64;
            (0..length).map(|_| characters[self.below(characters.len() as u64)]).collect()
        }
    }

    const ANY: &str = "abcXYZ019-._~ +&=%!*'(),;:/?#[]@$\"<>{}|^`\\\t\nÿŵé☃😀";
    /// The other implementation does not encode names, so they are of characters that need none.
    const NAME: &str = "abcXYZ019-._~";

    #[test]
    fn signatures_match_oauth1_request_crate() {
        let mut random = Random(0x5EED_2026);
        for n in 0..10_000 {
            let keys = OAuth1::new(
                random.text(8, ANY) + "key",
                random.text(8, ANY) + "secret",
                random.text(8, ANY) + "token",
                random.text(8, ANY) + "end",
            );
            // All-blank secrets are refused; the words behind them see to that.
            let keys = keys.unwrap();
            let host = ["https://api.x.com", "https://ton.twitter.com", "http://127.0.0.1:8080"][random.below(3)];
            let path = ["/2/dm_events", "/2/dm_conversations/with/19/messages", "/1.1/ton/data/dm/1/2/a-b_c.jpg"]
                [random.below(3)];
            let method = ["GET", "POST", "PUT", "DELETE"][random.below(4)];
            let mut asked: Vec<(String, String)> = Vec::new();
            for _ in 0..random.below(6) {
                let name = random.text(1, NAME);
                // The other implementation wants no two parameters of one name.
                if asked.iter().all(|(other, _)| *other != name) {
                    asked.push((name, random.text(0, ANY)));
                }
            }
            let pairs: Vec<_> = asked.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let uri: Uri = format!("{host}{path}?{}", query(&pairs)).parse().unwrap();
            let (nonce, timestamp) = (random.text(4, ANY), 1 + random.below(4_000_000_000) as u64);
            let ours = keys.header(&method.parse().unwrap(), &uri, &[], &nonce, &timestamp.to_string());

            let client = oracle::Credentials::new(keys.consumer_key.expose(), keys.consumer_secret.expose());
            let mut theirs = oracle::Builder::new(client, oracle::HMAC_SHA1);
            theirs
                .token(oracle::Credentials::new(keys.access_token.expose(), keys.access_token_secret.expose()))
                .nonce(nonce.as_str())
                .timestamp(NonZeroU64::new(timestamp))
                .version(true);
            let list = oracle::ParameterList::new(pairs);
            let theirs = theirs.authorize_with_buf(String::new(), method, format!("{host}{path}"), &list);
            assert_eq!(parts(&ours), parts(&theirs), "request {n}");
        }
    }

    fn parts(header: &str) -> BTreeMap<String, String> {
        let parts = header.strip_prefix("OAuth ").unwrap().split(',');
        parts.map(|part| part.trim().split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).unwrap()).collect()
    }

    #[test]
    fn nonces_are_unique() {
        let nonces: std::collections::BTreeSet<_> = (0..1000).map(|_| nonce(&SystemRandom).unwrap()).collect();
        assert_eq!(nonces.len(), 1000);
        assert!(nonces.iter().all(|nonce| nonce.len() == 32 && nonce.bytes().all(|b| b.is_ascii_alphanumeric())));
    }

    #[test]
    fn form_is_signed_like_a_query() {
        let base = |uri: &str, form: &[(&str, &str)]| base_string(&Method::POST, &uri.parse().unwrap(), form.iter());
        assert_eq!(
            base("https://a.example/m?to=1&text=a%20b", &[]),
            base("https://a.example/m?to=1", &[("text", "a b")])
        );
    }

    #[test]
    fn default_port_is_not_signed() {
        let base = |uri: &str| base_string(&Method::GET, &uri.parse().unwrap(), [].iter());
        assert_eq!(base("https://api.x.com:443/a"), base("https://API.x.com/a"));
        assert_eq!(base("http://127.0.0.1:80/a"), base("http://127.0.0.1/a"));
        assert_ne!(base("https://api.x.com:8443/a"), base("https://api.x.com/a"));
        assert_ne!(base("https://api.x.com/a"), base("https://api.twitter.com/a"));
    }
}
