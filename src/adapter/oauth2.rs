//! OAuth 2.0: access tokens, and refresh tokens that rotate (RFC 6749).

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;

use super::encode::basic;
use super::endpoint::Endpoint;
use crate::context::Context;
use crate::model::clock::{Clock, Timestamp};
use crate::model::error::{Error, ErrorKind, Outcome, Result};
use crate::model::secret::Secret;
use crate::tokens::{RefreshLock, TokenPair, TokenStore};

/// An OAuth 2.0 client with its initial tokens.
///
/// A refresh token works once: each refresh gives a new pair, which is kept in the context's
/// [`TokenStore`](crate::tokens::TokenStore) before it is used. **The store must outlive the process**: with the one in
/// memory, a restart comes back with a spent token. To start again, authorise the account again and put the new refresh
/// token here.
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
        let refresh_token = Secret::setting("refresh_token", refresh_token)?;
        Ok(Self { client_id: client_id.into(), client_secret: None, refresh_token, access_token: None })
    }

    /// Makes it a confidential client.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the secret is empty, blank or too short.
    pub fn client_secret(mut self, client_secret: impl Into<String>) -> Result<Self> {
        self.client_secret = Some(Secret::setting("client_secret", client_secret)?);
        Ok(self)
    }

    /// Sets the initial access token.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it is empty, blank or too short.
    pub fn access_token(mut self, token: impl Into<String>) -> Result<Self> {
        self.access_token = Some(Secret::setting("access_token", token)?);
        Ok(self)
    }
}

/// A token is refreshed this long before it expires, so that it does not expire on the way.
const EARLY: Duration = Duration::from_secs(60);

/// The lifetime of a token whose response states none.
const LIFETIME: Duration = Duration::from_secs(7_200);

/// The access tokens of one account, refreshed by one task at a time.
///
/// ```no_run
/// use civic_messaging::adapter::{Answer, Endpoint, OAuth2, TokenSource, bearer};
/// use civic_messaging::{Context, Result};
/// use http::header::{AUTHORIZATION, HeaderMap};
///
/// fn token_source(client: OAuth2, account: &str, endpoint: &Endpoint, context: &Context) -> TokenSource {
///     TokenSource::new(client, format!("acme/{account}"), endpoint, "/oauth2/token", context)
/// }
///
/// async fn balance(tokens: &TokenSource, endpoint: &Endpoint) -> Result<Answer> {
///     tokens
///         .authorise(|token| async move {
///             let headers = HeaderMap::from_iter([(AUTHORIZATION, bearer(&token)?)]);
///             endpoint.get("/v1/balance", headers).await
///         })
///         .await
/// }
/// ```
pub struct TokenSource {
    renewer: Arc<Renewer>,
    current: Mutex<Option<TokenPair>>,
    refresh: RefreshLock,
    /// A refresh under way. It is not dropped with the call that began it: the refresh token is spent then, and the
    /// only new one would be lost. The next call goes on with it.
    running: Mutex<Option<Running>>,
}

/// Renews the pair.
struct Renewer {
    name: String,
    client: OAuth2,
    endpoint: Endpoint,
    path: &'static str,
    store: Arc<dyn TokenStore>,
    clock: Arc<dyn Clock>,
    /// A new pair that the store failed to keep, with the refresh token that it was bought with.
    unsaved: Mutex<Option<(Secret, TokenPair)>>,
}

type Running = Pin<Box<dyn Future<Output = Result<TokenPair>> + Send>>;

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource").field("name", &self.renewer.name).finish_non_exhaustive()
    }
}

impl TokenSource {
    /// Creates the tokens of an account, kept under `name` in the context's store.
    ///
    /// `path` is the token endpoint's, under the base URL.
    pub fn new(
        client: OAuth2,
        name: impl Into<String>,
        endpoint: &Endpoint,
        path: &'static str,
        context: &Context,
    ) -> Self {
        let renewer = Renewer {
            name: name.into(),
            client,
            endpoint: endpoint.clone(),
            path,
            store: context.tokens.clone(),
            clock: context.clock.clone(),
            unsaved: Mutex::default(),
        };
        Self {
            renewer: Arc::new(renewer),
            current: Mutex::default(),
            refresh: RefreshLock::default(),
            running: Mutex::default(),
        }
    }

    /// Makes a call with the current token, and a second time with a new token if the first is refused with a 401.
    ///
    /// That is safe for a send too: the refusal is definite.
    ///
    /// # Errors
    /// Those of the call and of [`token`](Self::token).
    pub async fn authorise<T, F: Future<Output = Result<T>>>(&self, call: impl Fn(Secret) -> F) -> Result<T> {
        let token = self.token(None).await?;
        match call(token.clone()).await {
            Err(error) if error.status() == Some(StatusCode::UNAUTHORIZED) => {
                call(self.token(Some(&token)).await?).await
            }
            done => done,
        }
    }

    /// Returns a valid access token, other than the refused one.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthenticated`] if the refresh token is refused, and those of the request and of the store; the
    /// outcome is always [`Outcome::NotSent`].
    pub async fn token(&self, refused: Option<&Secret>) -> Result<Secret> {
        // A token comes before the send, whatever outcome a token store reports.
        self.fresh(refused).await.map_err(|error| error.with_outcome(Outcome::NotSent))
    }

    async fn fresh(&self, refused: Option<&Secret>) -> Result<Secret> {
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

    /// A pair that is good now: from the store if another process has been there, else from the gateway.
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
                Err(error) if error.status() == Some(StatusCode::BAD_REQUEST) => Err(self.refused()),
                bought => self.keep(Some(spent), bought?).await,
            },
            _ => Err(self.refused()),
        }
    }

    /// Requests a new pair. The old refresh token is spent from here on.
    async fn exchange(&self, refresh: &Secret) -> Result<TokenPair> {
        let (mut headers, mut client_id) = (HeaderMap::new(), None);
        match &self.client.client_secret {
            Some(secret) => _ = headers.insert(header::AUTHORIZATION, basic(&self.client.client_id, secret)?),
            None => client_id = Some(&*self.client.client_id),
        }
        let form = [
            ("grant_type", Some("refresh_token")),
            ("refresh_token", Some(refresh.expose())),
            ("client_id", client_id),
        ];
        let requested = self.clock.now();
        let answer = self.endpoint.call(self.endpoint.form(self.path, headers, form)?).await?;
        // The answer holds tokens, so it is not kept in the error.
        let unreadable = |_| self.error(ErrorKind::Unexpected, "the response with new tokens cannot be read");
        let response: TokenResponse = answer.json().map_err(unreadable)?;
        let expires = requested.plus(response.expires_in.map_or(LIFETIME, Duration::from_secs));
        Ok(TokenPair::new(response.access_token, response.refresh_token.unwrap_or_else(|| refresh.clone()), expires))
    }

    /// Stores a new pair before it is used. If another process was first, its pair is the valid one.
    async fn keep(&self, spent: Option<&Secret>, pair: TokenPair) -> Result<TokenPair> {
        *lock(&self.unsaved) = Some((spent.unwrap_or(&self.client.refresh_token).clone(), pair.clone()));
        let kept = self.store.replace(&self.name, spent, &pair).await?;
        *lock(&self.unsaved) = None;
        Ok(if kept { pair } else { self.store.load(&self.name).await?.unwrap_or(pair) })
    }

    fn refused(&self) -> Error {
        let what = "the refresh token was refused: authorise the account again, and configure the new `refresh_token`";
        self.error(ErrorKind::Unauthenticated, what).with_status(StatusCode::BAD_REQUEST)
    }

    fn error(&self, kind: ErrorKind, what: &'static str) -> Error {
        Error::new(kind, what).with_gateway(self.endpoint.gateway())
    }
}

fn same(one: &Secret, other: &Secret) -> bool {
    one.matches(other.expose().as_bytes())
}

/// The response with a new pair.
#[derive(Deserialize)]
struct TokenResponse {
    access_token: Secret,
    refresh_token: Option<Secret>,
    expires_in: Option<u64>,
}
