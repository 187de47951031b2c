//! Conversations with their files, and replies.

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use civic_messaging::media::MediaStore;
use civic_messaging::switchboard::{ConversationFilter, ConversationSummary, Entry, EntryContent, EventId};
use civic_messaging::{Address, Inbound};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::super::conversations::{files, last_files};
use super::super::super::shapes;
use super::Api;
use super::answer::{Answer, Query, Refusal, Reply, body, limit, wrong};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    line: String,
    #[serde(default)]
    filter: ConversationFilter,
    #[serde(default)]
    after: Option<Value>,
    #[serde(default)]
    limit: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MarkRead {
    line: String,
    person: Address,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Read {
    line: String,
    person: Address,
    #[serde(default)]
    before: Option<Value>,
    #[serde(default)]
    limit: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Write {
    line: String,
    person: Address,
    text: String,
    /// The message to answer; the last one if it is missing.
    #[serde(default)]
    event: Option<EventId>,
}

/// The number of entries in which a message to answer is searched.
const REPLY_WITHIN: u32 = 200;

pub(super) async fn list(State(api): State<Api>, bytes: Bytes) -> Answer {
    let List { line, filter, after, limit: max } = body(&bytes)?;
    let wrong_place = |_| wrong("after", "must be the `next` of an answer");
    let after = after.map(serde_json::from_value::<ConversationSummary>).transpose().map_err(wrong_place)?;
    let max = limit(max);
    let all = api.switchboard().conversations(&line, filter, after.as_ref(), max).await?;
    let mut shapes = Vec::new();
    for summary in &all {
        shapes.push(shapes::conversation(summary, &last_files(api.switchboard(), summary).await?, true));
    }
    let is_full = all.len() >= usize::try_from(max).unwrap_or(usize::MAX);
    let next = all.into_iter().next_back().filter(|_| is_full).map(|mut last| {
        // Its content is not needed.
        last.last = None;
        shapes::value(&last)
    });
    Ok(Reply(json!({ "conversations": shapes, "next": next })))
}

pub(super) async fn mark_read(State(api): State<Api>, bytes: Bytes) -> Answer {
    let MarkRead { line, person } = body(&bytes)?;
    Ok(Reply(json!({ "read": api.switchboard().mark_read(&line, &person).await? })))
}

pub(super) async fn read(State(api): State<Api>, bytes: Bytes) -> Answer {
    let Read { line, person, before, limit: max } = body(&bytes)?;
    let before = before.as_ref().map(cursor).transpose()?;
    let max = limit(max);
    let entries = api.switchboard().conversation(&line, &person, before.as_ref(), max).await?;
    let mut shapes = Vec::new();
    for entry in &entries {
        shapes.push(shapes::entry(entry, &files(api.switchboard(), entry).await?, true));
    }
    let is_full = entries.len() >= usize::try_from(max).unwrap_or(usize::MAX);
    let next = entries.last().filter(|_| is_full).map(place);
    Ok(Reply(json!({ "entries": shapes, "next": next })))
}

/// Returns what leads to the entries before one, without its content.
fn place(entry: &Entry) -> Value {
    shapes::value(entry).get_mut("place").map(Value::take).unwrap_or_default()
}

/// Returns an entry at this place.
fn cursor(place: &Value) -> Result<Entry, Refusal> {
    let entry = json!({ "at": place.get("at"), "content": { "theirs": null }, "place": place });
    serde_json::from_value(entry).map_err(|_| wrong("before", "must be the `next` of an answer"))
}

pub(super) async fn reply(State(api): State<Api>, bytes: Bytes) -> Answer {
    let Write { line, person, text, event } = body(&bytes)?;
    let entries = api.switchboard().conversation(&line, &person, None, REPLY_WITHIN).await?;
    let inbound = entries.iter().find_map(|entry| answerable(entry, event));
    let Some(inbound) = inbound else {
        return Err(Refusal::conflict("there is no message of this person to answer: send a message instead"));
    };
    let id = api.switchboard().reply(&line, inbound, text).await?;
    let status = api.switchboard().status(id).await?;
    Ok(Reply(status.map_or(Value::Null, |status| shapes::message(&status, true))))
}

fn answerable(entry: &Entry, event: Option<EventId>) -> Option<&Inbound> {
    match &entry.content {
        EntryContent::Theirs(Some(inbound)) if event.is_none_or(|event| entry.event_id() == Some(event)) => {
            Some(&**inbound).filter(|inbound| inbound.is_live())
        }
        _ => None,
    }
}

/// Answers with a resident's file, to be saved and not to be opened in the browser.
pub(super) async fn file(State(api): State<Api>, query: RawQuery) -> Result<Response, Refusal> {
    let mut query = Query::new(&query);
    let event = query.number::<i64>("event")?.ok_or_else(|| wrong("event", "is missing"))?;
    let number = query.number::<usize>("file")?.unwrap_or(0);
    query.finish()?;
    let files = api.switchboard().files(EventId::from(event)).await?;
    let held = files.get(number).and_then(|file| file.as_held());
    let Some(held) = held else { return Err(Refusal::not_found("the file is not held")) };
    let stream = api.0.media.as_ref().ok_or_else(|| Refusal::not_found("no file is held without [media]"))?;
    let bytes = stream.open(&held.sha256).await?.bytes().await?;
    let headers =
        [(CONTENT_TYPE, held.mime.as_str()), (CONTENT_DISPOSITION, "attachment"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    Ok((headers, Body::from(bytes)).into_response())
}
