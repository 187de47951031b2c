//! Who asks: OAuth 1.0a signatures, and OAuth 2.0 tokens that rotate.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use hmac::{Hmac, KeyInit, Mac};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::Deserialize;
use sha1::Sha1;
use zeroize::Zeroizing;

use super::{GATEWAY, secret};
use crate::adapter::{self, Endpoint};
use crate::context::Context;
use crate::model::clock::{Clock, Timestamp};
use crate::model::error::{Error, ErrorKind, Outcome, Result};
use crate::model::id::AccountId;
use crate::model::secret::Secret;
use crate::tokens::{RefreshLock, TokenPair, TokenStore};
use crate::transport::Body;

/// How requests prove that they are the council's.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum Auth {
    /// Requests are signed. The tokens do not expire.
    OAuth1(OAuth1),
    /// Requests carry a token, which is refreshed every two hours.
    OAuth2(OAuth2),
}

impl From<OAuth1> for Auth {
    fn from(keys: OAuth1) -> Self {
        Self::OAuth1(keys)
    }
}

impl From<OAuth2> for Auth {
    fn from(client: OAuth2) -> Self {
        Self::OAuth2(client)
    }
}

/// The four keys of OAuth 1.0a.
///
/// The app's permission must be "Read, Write and Direct Messages" *before* the access token is made.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct OAuth1 {
    /// The app's key.
    pub consumer_key: Secret,
    /// The app's secret. It signs webhooks too.
    pub consumer_secret: Secret,
    /// The council account's token.
    pub access_token: Secret,
    /// The council account's secret.
    pub access_token_secret: Secret,
}

impl OAuth1 {
    /// The four keys, in the order in which X's developer portal lists them.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for one that is empty, blank or too short.
    pub fn new(
        consumer_key: impl Into<String>,
        consumer_secret: impl Into<String>,
        access_token: impl Into<String>,
        access_token_secret: impl Into<String>,
    ) -> Result<Self> {
        Ok(Self {
            consumer_key: secret("consumer_key", consumer_key)?,
            consumer_secret: secret("consumer_secret", consumer_secret)?,
            access_token: secret("access_token", access_token)?,
            access_token_secret: secret("access_token_secret", access_token_secret)?,
        })
    }
}

/// An OAuth 2.0 client, and the tokens that it begins with.
///
/// The scopes are `dm.read dm.write tweet.read users.read media.write offline.access`. A refresh token is good once:
/// each refresh gives a new pair, which is kept in the context's [`TokenStore`](crate::tokens::TokenStore) under
/// `x/<user_id>` before it is used. **The store must outlive the process**: with the one in memory, a restart comes
/// back with a spent token. To begin anew, authorise the account again and put the new refresh token here.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct OAuth2 {
    /// The client's id.
    pub client_id: String,
    /// The secret of a confidential client.
    pub client_secret: Option<Secret>,
    /// The refresh token to begin with, while the store has none.
    pub refresh_token: Secret,
    /// The access token to begin with, while the store has none.
    pub access_token: Option<Secret>,
}

impl OAuth2 {
    /// A public client.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the token is empty, blank or too short.
    pub fn new(client_id: impl Into<String>, refresh_token: impl Into<String>) -> Result<Self> {
        let refresh_token = secret("refresh_token", refresh_token)?;
        Ok(Self { client_id: client_id.into(), client_secret: None, refresh_token, access_token: None })
    }

    /// Makes it a confidential client.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the secret is empty, blank or too short.
    pub fn client_secret(mut self, client_secret: impl Into<String>) -> Result<Self> {
        self.client_secret = Some(secret("client_secret", client_secret)?);
        Ok(self)
    }

    /// Sets the access token to begin with.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it is empty, blank or too short.
    pub fn access_token(mut self, token: impl Into<String>) -> Result<Self> {
        self.access_token = Some(secret("access_token", token)?);
        Ok(self)
    }
}

/// The unreserved characters of RFC 3986; every other byte is written `%XX`.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A token is refreshed this long before it expires, so that it does not expire on the way.
const EARLY: Duration = Duration::from_secs(60);

pub(super) fn percent(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, RESERVED)
}

/// A query string that is the same in the signature and on the wire: no client encodes it any further.
pub(super) fn query(pairs: &[(&str, &str)]) -> String {
    let pair = |(name, value): &(&str, &str)| format!("{}={}", percent(name), percent(value));
    pairs.iter().map(pair).collect::<Vec<_>>().join("&")
}

/// What OAuth 1.0a signs: the method, the address as it is called, and the parameters of query and header. A body
/// that is no form, which none here is, takes no part.
fn base_string(method: &Method, uri: &Uri, own: &[(&str, &str)]) -> String {
    let encode = |name: &str, value: &str| (percent(name).to_string(), percent(value).to_string());
    let asked = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let mut pairs: Vec<_> = asked.map(|(name, value)| encode(&name, &value)).collect();
    pairs.extend(own.iter().map(|(name, value)| encode(name, value)));
    pairs.sort();
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let scheme = uri.scheme_str().unwrap_or("https").to_ascii_lowercase();
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    let usual = if scheme == "http" { 80 } else { 443 };
    let port = uri.port_u16().filter(|port| *port != usual).map(|port| format!(":{port}")).unwrap_or_default();
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

/// The value of the `Authorization` header for one request.
fn authorization(keys: &OAuth1, method: &Method, uri: &Uri, nonce: &str, timestamp: &str) -> String {
    let own = [
        ("oauth_consumer_key", keys.consumer_key.expose()),
        ("oauth_nonce", nonce),
        ("oauth_signature_method", "HMAC-SHA1"),
        ("oauth_timestamp", timestamp),
        ("oauth_token", keys.access_token.expose()),
        ("oauth_version", "1.0"),
    ];
    let base = base_string(method, uri, &own);
    let signature = signature(keys.consumer_secret.expose(), keys.access_token_secret.expose(), &base);
    let signed = own
        .iter()
        .chain(&[("oauth_signature", signature.as_str())])
        .map(|(k, v)| format!("{k}=\"{}\"", percent(v)))
        .collect::<Vec<_>>();
    format!("OAuth {}", signed.join(", "))
}

/// Makes the `Authorization` header of a request in the user's name.
#[derive(Debug)]
pub(super) enum Signer {
    OAuth1 { keys: OAuth1, clock: Arc<dyn Clock> },
    OAuth2(Tokens),
}

impl Signer {
    pub(super) fn new(auth: Auth, account: &AccountId, endpoint: &Endpoint, context: &Context) -> Self {
        match auth {
            Auth::OAuth1(keys) => Self::OAuth1 { keys, clock: context.clock.clone() },
            Auth::OAuth2(client) => {
                let renewer = Renewer {
                    name: format!("{GATEWAY}/{account}"),
                    client,
                    endpoint: endpoint.clone(),
                    store: context.tokens.clone(),
                    clock: context.clock.clone(),
                    unsaved: Mutex::default(),
                };
                Self::OAuth2(Tokens {
                    renewer: Arc::new(renewer),
                    current: Mutex::default(),
                    refresh: RefreshLock::default(),
                    running: Mutex::default(),
                })
            }
        }
    }

    /// The access token to ask with, other than one that X has just refused; none where requests are signed.
    pub(super) async fn token(&self, refused: Option<&Secret>) -> Result<Option<Secret>> {
        match self {
            Self::OAuth1 { .. } => Ok(None),
            // No message has gone while a token is fetched, whatever a store says of its own failure.
            Self::OAuth2(tokens) => tokens.get(refused).await.map(Some).map_err(|e| e.with_outcome(Outcome::NotSent)),
        }
    }

    /// The header, new for each request: a signature holds for one nonce and one second.
    pub(super) fn header(&self, token: Option<&Secret>, method: &Method, uri: &Uri) -> Result<Option<HeaderValue>> {
        match (self, token) {
            (_, Some(token)) => adapter::bearer(token).map(Some),
            (Self::OAuth1 { keys, clock }, None) => {
                let nonce = nonce(&**clock)?;
                let timestamp = clock.now().as_secs().to_string();
                adapter::sensitive(&authorization(keys, method, uri, &nonce, &timestamp)).map(Some)
            }
            (Self::OAuth2(_), None) => Ok(None),
        }
    }
}

/// 32 letters and digits that nobody can guess.
pub(super) fn nonce(clock: &dyn Clock) -> Result<String> {
    let mut bytes = [0; 16];
    clock.random(&mut bytes)?;
    Ok(base16ct::lower::encode_string(&bytes))
}

/// The tokens of one account, refreshed by one task at a time.
pub(super) struct Tokens {
    renewer: Arc<Renewer>,
    current: Mutex<Option<TokenPair>>,
    refresh: RefreshLock,
    /// A refresh under way. It is not dropped with the call that began it: X has then spent the refresh token, and
    /// the only new one would be lost. The next call goes on with it.
    running: Mutex<Option<Running>>,
}

/// Where a good pair comes from.
struct Renewer {
    name: String,
    client: OAuth2,
    endpoint: Endpoint,
    store: Arc<dyn TokenStore>,
    clock: Arc<dyn Clock>,
    /// A new pair that the store failed to keep, with the refresh token that it was bought with.
    unsaved: Mutex<Option<(Secret, TokenPair)>>,
}

type Running = Pin<Box<dyn Future<Output = Result<TokenPair>> + Send>>;

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("name", &self.renewer.name).finish_non_exhaustive()
    }
}

impl Tokens {
    async fn get(&self, refused: Option<&Secret>) -> Result<Secret> {
        if let Some(good) = self.current(refused) {
            return Ok(good);
        }
        let _guard = self.refresh.acquire().await;
        loop {
            // Those who waited find the work done.
            if let Some(good) = self.current(refused) {
                return Ok(good);
            }
            let resumed = lock(&self.running).is_some();
            let pair = poll_fn(|cx| {
                let mut running = lock(&self.running);
                let renewal = running.get_or_insert_with(|| Box::pin(self.renewer.clone().renew(refused.cloned())));
                let pair = renewal.as_mut().poll(cx);
                if pair.is_ready() {
                    *running = None;
                }
                pair
            })
            .await;
            match pair {
                // What another call left behind may have failed because nobody went on with it.
                Err(_) if resumed => {}
                Err(error) => return Err(error),
                Ok(pair) => {
                    *lock(&self.current) = Some(pair.clone());
                    if !resumed {
                        return Ok(pair.access);
                    }
                }
            }
        }
    }

    fn current(&self, refused: Option<&Secret>) -> Option<Secret> {
        lock(&self.current).as_ref().filter(|pair| self.renewer.is_good(pair, refused)).map(|pair| pair.access.clone())
    }
}

impl Renewer {
    fn is_good(&self, pair: &TokenPair, refused: Option<&Secret>) -> bool {
        let refused = refused.is_some_and(|refused| same(refused, &pair.access));
        !refused && pair.expires > self.clock.now().plus(EARLY)
    }

    /// A pair that is good now: from the store if another process has been there, else from X.
    async fn renew(self: Arc<Self>, refused: Option<Secret>) -> Result<TokenPair> {
        let unsaved = lock(&self.unsaved).clone();
        if let Some((spent, pair)) = unsaved {
            return self.keep(Some(&spent), pair).await;
        }
        let kept = self.store.load(&self.name).await?;
        let given =
            self.client.access_token.clone().map(|access| {
                TokenPair::new(access, self.client.refresh_token.clone(), Timestamp::from_millis(i64::MAX))
            });
        if let Some(pair) = kept.clone().or(given).filter(|pair| self.is_good(pair, refused.as_ref())) {
            return Ok(pair);
        }
        let configured = &self.client.refresh_token;
        let spent = kept.as_ref().map_or(configured, |pair| &pair.refresh);
        match self.exchange(spent).await {
            Err(error) if error.status() == Some(StatusCode::BAD_REQUEST) => {}
            bought => return self.keep(kept.as_ref().map(|pair| &pair.refresh), bought?).await,
        }
        match self.store.load(&self.name).await? {
            // Another process spent it first, and this is what it got.
            Some(newer) if !same(&newer.refresh, spent) => Ok(newer),
            // Somebody authorised the account again, and put the new token into the configuration.
            Some(_) if !same(configured, spent) => match self.exchange(configured).await {
                Err(error) if error.status() == Some(StatusCode::BAD_REQUEST) => Err(refused_for_good()),
                bought => self.keep(Some(spent), bought?).await,
            },
            _ => Err(refused_for_good()),
        }
    }

    /// Buys a new pair. The old refresh token is spent from here on.
    async fn exchange(&self, refresh: &Secret) -> Result<TokenPair> {
        let mut form = vec![("grant_type", "refresh_token"), ("refresh_token", refresh.expose())];
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        match &self.client.client_secret {
            Some(secret) => {
                headers.insert(AUTHORIZATION, adapter::basic(&self.client.client_id, secret)?);
            }
            None => form.push(("client_id", &self.client.client_id)),
        }
        let body = Body::from(query(&form));
        let asked = self.clock.now();
        let request = self.endpoint.request(Method::POST, "/2/oauth2/token", headers, body)?;
        let answer = self.endpoint.call(request).await?;
        // The answer holds tokens, so it is not kept in the error.
        let unreadable =
            |_| Error::new(ErrorKind::Unexpected, "the answer with new tokens cannot be read").with_gateway(GATEWAY);
        let told: Told = answer.json().map_err(unreadable)?;
        let expires = asked.plus(Duration::from_secs(told.expires_in.unwrap_or(7200)));
        Ok(TokenPair::new(told.access_token, told.refresh_token.unwrap_or_else(|| refresh.clone()), expires))
    }

    /// Stores a new pair before anybody uses it. Where another process was first, its pair is the good one.
    async fn keep(&self, spent: Option<&Secret>, pair: TokenPair) -> Result<TokenPair> {
        *lock(&self.unsaved) = Some((spent.unwrap_or(&self.client.refresh_token).clone(), pair.clone()));
        let kept = self.store.replace(&self.name, spent, &pair).await?;
        *lock(&self.unsaved) = None;
        Ok(if kept { pair } else { self.store.load(&self.name).await?.unwrap_or(pair) })
    }
}

fn refused_for_good() -> Error {
    let what = "X refused the refresh token: authorise the account again, and configure the new `refresh_token`";
    Error::new(ErrorKind::Unauthenticated, what).with_gateway(GATEWAY).with_status(StatusCode::BAD_REQUEST)
}

fn same(one: &Secret, other: &Secret) -> bool {
    one.matches(other.expose().as_bytes())
}

/// X's answer with a new pair.
#[derive(Deserialize)]
struct Told {
    access_token: Secret,
    refresh_token: Option<Secret>,
    expires_in: Option<u64>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::num::NonZeroU64;

    use oauth1_request as oracle;
    use serde_json::Value;

    use super::*;
    use crate::model::clock::VirtualClock;

    fn vectors() -> Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/x/vectors.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn characters_are_encoded_as_x_does() {
        let vectors = vectors();
        for pair in vectors["percent_encoding"].as_array().unwrap() {
            assert_eq!(percent(pair[0].as_str().unwrap()).to_string(), pair[1].as_str().unwrap());
        }
    }

    #[test]
    fn signatures_equal_the_vectors() {
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
            let base = base_string(&text("method").parse().unwrap(), &uri, &own);
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
    fn ten_thousand_requests_are_signed_as_another_implementation_does() {
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
            let ours = authorization(&keys, &method.parse().unwrap(), &uri, &nonce, &timestamp.to_string());

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
    fn no_two_requests_have_one_nonce() {
        let clock = VirtualClock::starting_at(Timestamp::default());
        let nonces: std::collections::BTreeSet<_> = (0..1000).map(|_| nonce(&clock).unwrap()).collect();
        assert_eq!(nonces.len(), 1000);
        assert!(nonces.iter().all(|nonce| nonce.len() == 32 && nonce.bytes().all(|b| b.is_ascii_alphanumeric())));
    }

    #[test]
    fn a_usual_port_is_not_signed_and_another_is() {
        let base = |uri: &str| base_string(&Method::GET, &uri.parse().unwrap(), &[]);
        assert_eq!(base("https://api.x.com:443/a"), base("https://API.x.com/a"));
        assert_eq!(base("http://127.0.0.1:80/a"), base("http://127.0.0.1/a"));
        assert_ne!(base("https://api.x.com:8443/a"), base("https://api.x.com/a"));
        assert_ne!(base("https://api.x.com/a"), base("https://api.twitter.com/a"));
    }
}
