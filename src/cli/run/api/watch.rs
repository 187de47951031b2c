//! Lines, counts and health.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use civic_messaging::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use super::super::super::{check, shapes};
use super::super::metrics::text;
use super::Api;
use super::answer::{Answer, Refusal, Reply};

pub(super) async fn lines(State(api): State<Api>) -> Reply {
    Reply(json!({ "lines": api.0.lines.iter().map(check::line).collect::<Value>() }))
}

pub(super) async fn stats(State(api): State<Api>) -> Answer {
    let switchboard = api.switchboard();
    Ok(Reply(shapes::stats(&switchboard.stats().await?, &switchboard.budgets().await?)))
}

pub(super) async fn health(State(api): State<Api>) -> Reply {
    let channels = api.switchboard().health().await;
    Reply(json!({ "channels": channels.iter().map(shapes::health).collect::<Value>() }))
}

pub(super) async fn metrics(State(api): State<Api>) -> Result<Response, Refusal> {
    let text = text(&api.switchboard().stats().await?, SystemClock::new().now());
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}
