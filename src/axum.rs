//! Webhooks in axum: routers, and [`webhook::Request`] as an extractor.
//!
//! | for | use |
//! |---|---|
//! | a switchboard | [`Switchboard::router`](crate::switchboard::Switchboard::router) |
//! | channels by name | [`router`] |
//! | a handler of your own | [`webhook::Request`], [`webhook::Response`] and [`Error`] |
//!
//! A request's body is read into a [`webhook::Request`], where it stays sealed until its signature is verified. A body
//! over [`BODY_MAX`] is answered 413, before it is read where its length is declared; one that breaks off is answered
//! 503. [`DefaultBodyLimit`](::axum::extract::DefaultBodyLimit) has no effect; a smaller limit of a tower layer does.
//! Below [`Router::nest`] a signature still covers the whole path, as the gateway called it.
//!
//! Neither router limits how long a body may take, or how many arrive at once: add tower layers, as for any other
//! route. A webhook whose handler is cancelled by one of them is redelivered by the gateway, and deduplicated.
//!
//! A handler of your own:
//!
//! ```
//! use axum::{Router, extract::State, routing};
//! use civic_messaging::{Channel, Event, Mock, Result, webhook};
//!
//! async fn hook(State(sms): State<Mock>, request: webhook::Request) -> Result<webhook::Response> {
//!     let received = sms.receive(&request).await?;
//!     store(received.events).await?; // the gateway does not send them again
//!     Ok(received.response)
//! }
//! # async fn store(_: Vec<Event>) -> Result<()> { Ok(()) }
//!
//! let app: Router = Router::new().route("/webhooks/sms", routing::get(hook).post(hook)).with_state(Mock::sms());
//! ```

use std::collections::HashMap;
use std::error::Error as StdError;
use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::body::{self, Body};
use axum::extract::{self, FromRequest, OriginalUri, RawPathParams};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use bytes::Bytes;
use http::StatusCode;
use http_body::Body as _;
use http_body_util::LengthLimitError;

use crate::channel::Channel;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::event::Event;
use crate::webhook::{self, BODY_MAX};

/// Gateways call by POST; some shake hands or report by GET.
const METHODS: MethodFilter = MethodFilter::GET.or(MethodFilter::POST);

const PATH: &str = "/{route}";

/// Returns a router that receives the webhooks of channels at `/{name}`.
///
/// `store` gets the name and the events of each webhook. Once it returns `Ok`, the webhook is answered as its gateway
/// expects, and its events do not come again: make them durable before. An error is answered as it is, without a body
/// if it is an [`Error`]; answer 5xx, so that the gateway redelivers the webhook. A webhook without events, such as a
/// handshake, is answered without `store`.
///
/// Channels whose accounts share a webhook, such as the numbers of a Meta app, need a switchboard, or
/// [`Received::discarded`](webhook::Received::discarded).
///
/// ```
/// use civic_messaging::{Error, Event, Mock, axum};
///
/// let store = |name: String, events: Vec<Event>| async move {
///     println!("{name}: {} events", events.len());
///     Ok::<_, Error>(())
/// };
/// let webhooks = axum::router([("sms", Mock::sms()), ("bins", Mock::sms())], store);
/// let app = ::axum::Router::new().nest("/webhooks", webhooks);
/// # let _: ::axum::Router = app;
/// ```
pub fn router<N, C, F, R, E>(channels: impl IntoIterator<Item = (N, C)>, store: F) -> Router
where
    N: Into<String>,
    C: Channel,
    F: Fn(String, Vec<Event>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<(), E>> + Send,
    E: IntoResponse,
{
    let channels: Arc<HashMap<String, C>> =
        Arc::new(channels.into_iter().map(|(name, channel)| (name.into(), channel)).collect());
    let hook = async move |path: RawPathParams, request: extract::Request| {
        let name = route(&path);
        let Some(channel) = channels.get(name) else { return StatusCode::NOT_FOUND.into_response() };
        let received = match read(request).await {
            Ok(request) => channel.receive(&request).await,
            Err(error) => Err(error),
        };
        match received {
            Ok(received) if received.events.is_empty() => received.response.into_response(),
            Ok(received) => match store(name.to_owned(), received.events).await {
                Ok(()) => received.response.into_response(),
                Err(error) => error.into_response(),
            },
            Err(error) => error.into_response(),
        }
    };
    Router::new().route(PATH, on(METHODS, hook))
}

/// Returns the route of a path, which may have other parameters in a prefix of the service.
fn route(path: &RawPathParams) -> &str {
    path.iter().find(|(name, _)| *name == "route").map_or("", |(_, value)| value)
}

/// Reads a request without verifying it.
async fn read(request: extract::Request) -> Result<webhook::Request> {
    let (mut parts, body) = request.into_parts();
    // `nest` removes its prefix, which a signature of the URL covers.
    if let Some(OriginalUri(uri)) = parts.extensions.remove() {
        parts.uri = uri;
    }
    let too_large = || Error::new(ErrorKind::TooLarge, "the webhook's body is over 4 MiB");
    // A sender that declares its length has no reason to send the body.
    if body.size_hint().lower() > BODY_MAX as u64 {
        return Err(too_large());
    }
    match body::to_bytes(body, BODY_MAX).await {
        Ok(body) => Ok(webhook::Request::new(http::Request::from_parts(parts, body))),
        Err(error) if is_over_limit(&error) => Err(too_large()),
        Err(_) => Err(Error::new(ErrorKind::Unavailable, "the webhook's body broke off")),
    }
}

/// Returns `true` if a limit ended the body: ours, or a smaller one of a layer.
fn is_over_limit(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause.filter(|error| !error.is::<LengthLimitError>()) {
        cause = error.source();
    }
    cause.is_some()
}

/// Reads the request without verifying it: see [`webhook::Request::open`].
///
/// Rejects a body over [`BODY_MAX`] (413), and one that breaks off (503).
impl<S: Send + Sync> FromRequest<S> for webhook::Request {
    type Rejection = Error;

    async fn from_request(request: extract::Request, _: &S) -> Result<Self> {
        read(request).await
    }
}

impl IntoResponse for webhook::Response {
    fn into_response(self) -> Response {
        http::Response::<Bytes>::from(self).map(Body::from)
    }
}

/// Responds to a gateway: with [`Error::webhook_status`], and no body.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        webhook::Response::from(self).into_response()
    }
}

#[cfg(any(feature = "postgres", feature = "sqlite-system"))]
mod switchboard {
    use axum::extract::State;
    use axum::routing::{MethodRouter, get};

    use super::*;
    use crate::switchboard::Switchboard;

    impl Switchboard {
        /// Returns an axum router with every [route](crate::switchboard::Builder::route) at `/{route}`.
        ///
        /// GET and POST go to [`receive`](Self::receive): events, delivery reports and handshakes. An unknown route is
        /// answered 404 unread, a body over 4 MiB 413, and 503 asks the gateway to redeliver. See [`axum`](crate::axum).
        ///
        /// Gateways that sign their URL, such as Twilio, sign all of it: their `public_url` is the address of the
        /// service without this path, even below [`Router::nest`].
        ///
        /// ```
        /// use axum::Router;
        /// use axum::routing::get;
        /// use civic_messaging::switchboard::{Line, Store, Switchboard};
        /// use civic_messaging::Mock;
        ///
        /// # if !cfg!(feature = "sqlite-system") { return }
        /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        /// # let line = Line::new("enquiries").channel(Mock::sms());
        /// # let switchboard = Switchboard::builder(Store::open("sqlite::memory:").await?).line(line).route("sms", ["enquiries"]);
        /// # let switchboard = switchboard.build()?;
        /// # fn render() -> String { String::new() }
        /// let app = Router::new()
        ///     .nest("/webhooks", switchboard.router()) // /webhooks/sms
        ///     .route("/health", switchboard.health_endpoint())
        ///     .route("/metrics", get(|| async { render() })); // your metrics exporter
        /// # let _: Router = app;
        /// # Ok::<(), civic_messaging::Error>(()) }).unwrap();
        /// ```
        pub fn router(&self) -> Router {
            let hook = async |State(switchboard): State<Self>, path: RawPathParams, request: extract::Request| {
                let route = route(&path);
                // The body of an unknown route is not read.
                if let Err(error) = switchboard.check_route(route) {
                    return switchboard.reject(route, &error);
                }
                match read(request).await {
                    Ok(request) => switchboard.receive(route, request).await,
                    Err(error) => switchboard.reject(route, &error),
                }
            };
            Router::new().route(PATH, on(METHODS, hook)).with_state(self.clone())
        }

        /// Returns an axum endpoint for health checks: 200 if the store is available, else 503.
        ///
        /// It reads one row, at any size of the store. It says nothing about the gateways, whose failures a restart does not repair: see [`health`](Self::health)
        /// and [`stats`](Self::stats).
        pub fn health_endpoint<S: Clone + Send + Sync + 'static>(&self) -> MethodRouter<S> {
            let switchboard = self.clone();
            get(async move || match switchboard.check_store().await {
                Ok(()) => (StatusCode::OK, "ok\n").into_response(),
                Err(error) => (error.webhook_status(), "store unavailable\n").into_response(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use futures_util::FutureExt;
    use http_body::Frame;

    use super::*;

    /// A body of chunks, which may break off.
    struct Chunks(Vec<Result<&'static str, &'static str>>);

    impl http_body::Body for Chunks {
        type Data = Bytes;
        type Error = Box<dyn StdError + Send + Sync>;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            let next = (!self.0.is_empty()).then(|| self.0.remove(0));
            Poll::Ready(next.map(|next| next.map(|text| Frame::data(text.into())).map_err(Into::into)))
        }
    }

    fn read(chunks: &[Result<&'static str, &'static str>]) -> Result<webhook::Request> {
        let request = http::Request::post("/hook").body(Body::new(Chunks(chunks.to_vec()))).unwrap();
        super::read(request).now_or_never().unwrap()
    }

    #[test]
    fn broken_body_is_answered_503() {
        let request = read(&[Ok("canary"), Ok("canary")]).unwrap();
        assert_eq!((request.path(), format!("{request:?}").contains("canary")), ("/hook", false));
        let error = read(&[Ok("canary"), Err("reset by 192.0.2.1")]).unwrap_err();
        assert_eq!(error.webhook_status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(error.to_string(), "the webhook's body broke off");
        assert_eq!(error.into_response().status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
