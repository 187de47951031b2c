//! Requests to the API: signing, one repeat with a new token, and rate limits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{GATEWAY, X};
use crate::adapter::Answer;
use crate::medium::x as rules;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, Result};
use crate::model::rate::Quota;
use crate::model::secret::Secret;
use crate::transport::{Body, Transport, TransportError};

impl X {
    /// Reads `data` from a response. X answers with `errors` in its place when there is none.
    pub(super) fn data<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T> {
        let response: DataResponse<T> = answer.json()?;
        response.data.ok_or_else(|| self.refusal(answer).unwrap_or_else(|| answer.unreadable()))
    }

    /// Makes a call and checks that X did not refuse it.
    pub(super) async fn done(&self, ask: ApiRequest) -> Result<()> {
        let answer = self.call(ask).await?;
        self.refusal(&answer).map_or(Ok(()), Err)
    }

    pub(super) async fn call(&self, ask: ApiRequest) -> Result<Answer> {
        self.exchange(&ask, false).await
    }

    /// Makes a call, with the app's credentials or in the name of the account.
    pub(super) async fn exchange(&self, ask: &ApiRequest, sending: bool) -> Result<Answer> {
        if let (Credentials::App, Some(bearer)) = (ask.by, &self.bearer) {
            return self.endpoint.call(self.request(ask, Some(bearer))?).await;
        }
        let once = |token: Option<Secret>| async move {
            let request = self.request(ask, token.as_ref())?;
            if sending { self.endpoint.send(request).await } else { self.endpoint.call(request).await }
        };
        self.signer.authorise(once).await
    }

    fn request(&self, ask: &ApiRequest, token: Option<&Secret>) -> Result<Request<Body>> {
        let body = if ask.body.is_empty() { Body::empty() } else { Body::from(ask.body.clone()) };
        let mut request = self.endpoint.request(ask.method.clone(), &ask.path, HeaderMap::new(), body)?;
        if let Some(header) = self.signer.header(token, &ask.method, request.uri())? {
            request.headers_mut().insert(AUTHORIZATION, header);
        }
        if let Some(content_type) = &ask.content_type {
            request.headers_mut().insert(CONTENT_TYPE, content_type.clone());
        }
        request.extensions_mut().insert(Call(ask.call));
        Ok(request)
    }
}

pub(super) fn numeric<'a>(field: &'static str, id: &'a str) -> Result<&'a str> {
    if rules::user_id(id) { Ok(id) } else { Err(Error::invalid(field, "must be 1 to 19 digits").with_gateway(GATEWAY)) }
}

/// The credentials of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// The app's bearer token; the user's where none is configured.
    App,
    /// The user's: OAuth 1.0a or OAuth 2.0.
    User,
}

/// The rate limits of a call, from X's last response to it.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// The call: `dm_send`, `dm_events`, `media_append` …
    pub call: &'static str,
    /// In 15 minutes.
    pub window: Option<Quota>,
    /// In 24 hours, for the account.
    pub user_day: Option<Quota>,
    /// In 24 hours, for the app over all its accounts.
    pub app_day: Option<Quota>,
}

impl RateLimits {
    pub(super) fn read(call: &'static str, headers: &HeaderMap) -> Self {
        let number = |name: String| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
        let rate = |prefix: &str| {
            let mut left = Quota::new(number(format!("{prefix}-remaining"))?);
            left.limit = number(format!("{prefix}-limit"));
            left.reset =
                number(format!("{prefix}-reset")).and_then(|at| i64::try_from(at).ok()).map(Timestamp::from_secs);
            Some(left)
        };
        Self {
            call,
            window: rate("x-rate-limit"),
            user_day: rate("x-user-limit-24hour"),
            app_day: rate("x-app-limit-24hour"),
        }
    }

    /// Returns the quota that limits the next call first, by our own clock.
    pub(super) fn tightest(headers: &HeaderMap, now: Timestamp) -> Option<Quota> {
        let mut tightest = Quota::tightest(Self::read("", headers).all())?;
        if let Some(there) = date(headers) {
            tightest.reset = tightest.reset.map(|reset| now.plus(reset.since(there)));
        }
        Some(tightest)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = Quota> {
        [self.window, self.user_day, self.app_day].into_iter().flatten()
    }
}

/// Returns the time at X, from the `Date` header.
pub(super) fn date(headers: &HeaderMap) -> Option<Timestamp> {
    headers.get(http::header::DATE)?.to_str().ok().and_then(Timestamp::from_http_date)
}

/// Records the rate limits of every response, refusals included: an error does not keep its headers.
#[derive(Debug)]
pub(super) struct RateRecorder {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) rates: Arc<Mutex<BTreeMap<&'static str, RateLimits>>>,
}

/// The name of a call, as an extension of its request.
#[derive(Clone, Copy)]
struct Call(&'static str);

#[async_trait]
impl Transport for RateRecorder {
    async fn call(&self, request: Request<Body>) -> Result<Response<Body>, TransportError> {
        let call = request.extensions().get::<Call>().copied();
        let answer = self.transport.call(request).await?;
        if let Some(Call(call)) = call {
            let rates = RateLimits::read(call, answer.headers());
            if rates.all().next().is_some() {
                self.rates.lock().unwrap_or_else(PoisonError::into_inner).insert(call, rates);
            }
        }
        Ok(answer)
    }
}

/// A request before it is signed, so that it can be made a second time.
pub(super) struct ApiRequest {
    pub(super) call: &'static str,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) content_type: Option<HeaderValue>,
    pub(super) body: Bytes,
    pub(super) by: Credentials,
}

impl ApiRequest {
    pub(super) fn new(call: &'static str, method: Method, path: impl Into<String>) -> Self {
        Self { call, method, path: path.into(), content_type: None, body: Bytes::new(), by: Credentials::User }
    }

    pub(super) fn get(call: &'static str, path: impl Into<String>) -> Self {
        Self::new(call, Method::GET, path)
    }

    pub(super) fn post(call: &'static str, path: impl Into<String>) -> Self {
        Self::new(call, Method::POST, path)
    }

    pub(super) fn json(mut self, body: &impl Serialize) -> Result<Self> {
        self.content_type = Some(HeaderValue::from_static("application/json"));
        self.body =
            serde_json::to_vec(body).map_err(|_| Error::invalid("content", "does not serialise to JSON"))?.into();
        Ok(self)
    }

    pub(super) fn by(mut self, credentials: Credentials) -> Self {
        self.by = credentials;
        self
    }
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct DataResponse<T> {
    data: Option<T>,
}
