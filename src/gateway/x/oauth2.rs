//! OAuth 2.0: access tokens, and refresh tokens that rotate.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Deserialize;

use super::oauth1::query;
use super::{GATEWAY, secret};
use crate::adapter::{self, Endpoint};
use crate::model::clock::{Clock, Timestamp};
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::secret::Secret;
use crate::tokens::{RefreshLock, TokenPair, TokenStore};
use crate::transport::Body;

/// An OAuth 2.0 client with its initial tokens.
///
/// The scopes are `dm.read dm.write tweet.read users.read media.write offline.access`. A refresh token works once:
/// each refresh gives a new pair, which is kept in the context's [`TokenStore`](crate::tokens::TokenStore) under
/// `x/<user_id>` before it is used. **The store must outlive the process**: with the one in memory, a restart comes
/// back with a spent token. To start again, authorise the account again and put the new refresh token here.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct OAuth2 {
    /// The client's id.
    pub client_id: String,
    /// The secret of a confidential client.
    pub client_secret: Option<Secret>,
    /// The initial refresh token, used while the store has none.
    pub refresh_token: Secret,
    /// The initial access token, used while the store has none.
    pub access_token: Option<Secret>,
}

impl OAuth2 {
    /// Creates a public client.
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

    /// Sets the initial access token.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it is empty, blank or too short.
    pub fn access_token(mut self, token: impl Into<String>) -> Result<Self> {
        self.access_token = Some(secret("access_token", token)?);
        Ok(self)
    }
}

/// A token is refreshed this long before it expires, so that it does not expire on the way.
const EARLY: Duration = Duration::from_secs(60);

/// The tokens of one account, refreshed by one task at a time.
pub(super) struct Tokens {
    pub(super) renewer: Arc<Renewer>,
    pub(super) current: Mutex<Option<TokenPair>>,
    pub(super) refresh: RefreshLock,
    /// A refresh under way. It is not dropped with the call that began it: X has then spent the refresh token, and
    /// the only new one would be lost. The next call goes on with it.
    pub(super) running: Mutex<Option<Running>>,
}

/// Renews the pair.
pub(super) struct Renewer {
    pub(super) name: String,
    pub(super) client: OAuth2,
    pub(super) endpoint: Endpoint,
    pub(super) store: Arc<dyn TokenStore>,
    pub(super) clock: Arc<dyn Clock>,
    /// A new pair that the store failed to keep, with the refresh token that it was bought with.
    pub(super) unsaved: Mutex<Option<(Secret, TokenPair)>>,
}

pub(super) type Running = Pin<Box<dyn Future<Output = Result<TokenPair>> + Send>>;

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("name", &self.renewer.name).finish_non_exhaustive()
    }
}

impl Tokens {
    pub(super) async fn get(&self, refused: Option<&Secret>) -> Result<Secret> {
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
                Err(error) if error.status() == Some(StatusCode::BAD_REQUEST) => Err(refresh_token_refused()),
                bought => self.keep(Some(spent), bought?).await,
            },
            _ => Err(refresh_token_refused()),
        }
    }

    /// Requests a new pair. The old refresh token is spent from here on.
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
        let requested = self.clock.now();
        let request = self.endpoint.request(Method::POST, "/2/oauth2/token", headers, body)?;
        let answer = self.endpoint.call(request).await?;
        // The answer holds tokens, so it is not kept in the error.
        let unreadable =
            |_| Error::new(ErrorKind::Unexpected, "the response with new tokens cannot be read").with_gateway(GATEWAY);
        let response: TokenResponse = answer.json().map_err(unreadable)?;
        let expires = requested.plus(Duration::from_secs(response.expires_in.unwrap_or(7200)));
        Ok(TokenPair::new(response.access_token, response.refresh_token.unwrap_or_else(|| refresh.clone()), expires))
    }

    /// Stores a new pair before it is used. If another process was first, its pair is the valid one.
    async fn keep(&self, spent: Option<&Secret>, pair: TokenPair) -> Result<TokenPair> {
        *lock(&self.unsaved) = Some((spent.unwrap_or(&self.client.refresh_token).clone(), pair.clone()));
        let kept = self.store.replace(&self.name, spent, &pair).await?;
        *lock(&self.unsaved) = None;
        Ok(if kept { pair } else { self.store.load(&self.name).await?.unwrap_or(pair) })
    }
}

fn refresh_token_refused() -> Error {
    let what = "X refused the refresh token: authorise the account again, and configure the new `refresh_token`";
    Error::new(ErrorKind::Unauthenticated, what).with_gateway(GATEWAY).with_status(StatusCode::BAD_REQUEST)
}

fn same(one: &Secret, other: &Secret) -> bool {
    one.matches(other.expose().as_bytes())
}

/// X's response with a new pair.
#[derive(Deserialize)]
struct TokenResponse {
    access_token: Secret,
    refresh_token: Option<Secret>,
    expires_in: Option<u64>,
}
