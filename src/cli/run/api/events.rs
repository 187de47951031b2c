//! Events for a program: delivered at least once, until they are acknowledged.

use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use civic_messaging::switchboard::{InboxEvent, InboxEventKind};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::super::shapes;
use super::Api;
use super::answer::{Answer, Refusal, Reply, body, id, limit};

/// An event, and when it was delivered.
pub(super) struct Delivered(InboxEvent, Instant);

/// The lease of an event.
const LEASE: Duration = Duration::from_secs(60);

/// The maximum time to wait for an event: less than the maximum time for a request.
const WAIT_MAX: u64 = 25;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Next {
    #[serde(default)]
    line: Option<String>,
    #[serde(default)]
    limit: Option<u32>,
    #[serde(default)]
    wait_seconds: u64,
}

pub(super) async fn next(State(api): State<Api>, bytes: Bytes) -> Answer {
    let Next { line, limit: max, wait_seconds } = body(&bytes)?;
    let (switchboard, max) = (api.switchboard(), limit(max));
    let inbox = match line {
        Some(line) => switchboard.line(&line)?,
        None => switchboard.all(),
    };
    let mut events: Vec<InboxEvent> = inbox.try_next().await?.into_iter().collect();
    if events.is_empty() && wait_seconds > 0 {
        let wait = Duration::from_secs(wait_seconds.min(WAIT_MAX));
        // What is delivered to a request that has ended comes again.
        events.extend(tokio::time::timeout(wait, inbox.next()).await.unwrap_or(Ok(None))?);
    }
    while !events.is_empty() && events.len() < usize::try_from(max).unwrap_or(usize::MAX) {
        match inbox.try_next().await? {
            Some(event) => events.push(event),
            None => break,
        }
    }
    let mut shapes = Vec::new();
    for event in &events {
        shapes.push(shape(event, &event.files().await?));
    }
    let mut delivered = delivered(&api);
    delivered.retain(|_, Delivered(_, since)| since.elapsed() < LEASE);
    delivered.extend(events.into_iter().map(|event| (event.id().into(), Delivered(event, Instant::now()))));
    Ok(Reply(json!({ "events": shapes })))
}

pub(super) async fn acknowledge(State(api): State<Api>, Path(number): Path<String>) -> Result<StatusCode, Refusal> {
    let event = delivered(&api).remove(&id(&number)?);
    let Some(Delivered(event, _)) = event.filter(|Delivered(_, since)| since.elapsed() < LEASE) else {
        return Err(Refusal::conflict("the event is not delivered now: it was acknowledged, or is delivered again"));
    };
    event.ack().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn delivered(api: &Api) -> MutexGuard<'_, std::collections::BTreeMap<i64, Delivered>> {
    api.0.delivered.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shape(event: &InboxEvent, files: &[civic_messaging::switchboard::File]) -> Value {
    let mut members = Map::new();
    members.insert("event".to_owned(), shapes::value(&event.id()));
    members.insert("line".to_owned(), shapes::value(&event.line_id()));
    members.insert("attempts".to_owned(), event.attempts().into());
    let (kind, content) = match &**event {
        InboxEventKind::Settled(settled) => ("settled", shapes::value(settled)),
        InboxEventKind::Received(received) => match received.as_inbound() {
            Some(inbound) => ("message", shapes::theirs(Some(inbound), files, true)),
            None => ("other", shapes::value(received)),
        },
        _ => ("other", Value::Null),
    };
    members.insert(kind.to_owned(), content);
    Value::Object(members)
}
