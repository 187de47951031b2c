//! The officers' API: JSON over HTTP, with a token. docs/command_line.md documents it.
//!
//! Persons are named in bodies, and never in URLs, which proxies and browsers keep.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use civic_messaging::Secret;
use civic_messaging::media::FolderStore;
use civic_messaging::switchboard::{Line, Switchboard};

use self::answer::Refusal;
use super::token;

mod answer;
mod conversations;
mod events;
mod messages;
mod opt_outs;
mod watch;

/// What all routes share.
#[derive(Clone)]
pub(super) struct Api(Arc<Inner>);

struct Inner {
    switchboard: Switchboard,
    lines: Vec<Line>,
    token: Secret,
    /// The files of residents' messages.
    media: Option<FolderStore>,
    /// The events that were delivered and not acknowledged, while their leases last.
    delivered: Mutex<BTreeMap<i64, events::Delivered>>,
}

impl Api {
    pub(super) fn new(switchboard: Switchboard, lines: Vec<Line>, media: Option<FolderStore>, token: Secret) -> Self {
        Self(Arc::new(Inner { switchboard, lines, token, media, delivered: Mutex::default() }))
    }

    /// Returns the routes, all behind the token.
    pub(super) fn router(self, metrics: bool) -> Router {
        let mut router = Router::new()
            .route("/v1/lines", get(watch::lines))
            .route("/v1/stats", get(watch::stats))
            .route("/v1/health", get(watch::health))
            .route("/v1/messages", get(messages::list).post(messages::send))
            .route("/v1/messages/{id}", get(messages::one))
            .route("/v1/messages/{id}/settle", post(messages::settle))
            .route("/v1/messages/{id}/cancel", post(messages::cancel))
            .route("/v1/plan", post(messages::plan))
            .route("/v1/conversations", post(conversations::list))
            .route("/v1/conversation", post(conversations::read))
            .route("/v1/conversation/read", post(conversations::mark_read))
            .route("/v1/reply", post(conversations::reply))
            .route("/v1/files", get(conversations::file))
            .route("/v1/events", post(events::next))
            .route("/v1/events/{id}/acknowledge", post(events::acknowledge))
            .route("/v1/opt-outs", get(opt_outs::list).post(opt_outs::record))
            .route("/v1/opt-outs/check", post(opt_outs::check))
            .route("/v1/opt-outs/lift", post(opt_outs::lift));
        if metrics {
            router = router.route("/metrics", get(watch::metrics));
        }
        router
            .fallback(async || Refusal::not_found("there is no such path"))
            .layer(middleware::from_fn_with_state(self.clone(), authorised))
            .with_state(self)
    }

    fn switchboard(&self) -> &Switchboard {
        &self.0.switchboard
    }
}

/// Answers 401 without the token. No answer may be kept by a browser or a proxy.
async fn authorised(State(api): State<Api>, request: Request, next: Next) -> Response {
    let mut response = if token::matches(&api.0.token, request.headers()) {
        next.run(request).await
    } else {
        let refusal =
            Refusal::new(StatusCode::UNAUTHORIZED, "unauthorised", "needs Authorization: Bearer and the token");
        let mut response = refusal.into_response();
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        response
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
