//! Messages: list, send, settle, cancel.

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use civic_messaging::switchboard::{Id, Line, Status};
use civic_messaging::{Message, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::super::settle::{self, Decision};
use super::super::super::{messages, shapes};
use super::Api;
use super::answer::{Answer, Query, Refusal, Reply, body, id, limit, wrong};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Send {
    line: String,
    message: Value,
    #[serde(default)]
    at: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settle {
    decision: Decision,
}

impl Send {
    /// Reads the message, of the first version unless it says otherwise.
    fn message(&mut self) -> Result<Message, Refusal> {
        if let Value::Object(members) = &mut self.message {
            members.entry("version").or_insert_with(|| 1.into());
        }
        let bytes = Bytes::from(self.message.to_string());
        body(&bytes).map_err(|refusal: Refusal| refusal.below("message"))
    }
}

pub(super) async fn list(State(api): State<Api>, query: RawQuery) -> Answer {
    let mut query = Query::new(&query);
    let (line, state) = (query.required("line")?, query.required("state")?);
    let (after, max) = (query.number::<i64>("after")?.map(Id::from), limit(query.number("limit")?));
    query.finish()?;
    let state = messages::state(&state).map_err(|rule| wrong("state", &rule))?;
    let found = api.switchboard().messages(&line, state, after, max).await?;
    Ok(Reply(json!({ "messages": found.iter().map(|status| shapes::message(status, true)).collect::<Value>() })))
}

pub(super) async fn one(State(api): State<Api>, Path(number): Path<String>) -> Answer {
    Ok(Reply(shapes::message(&status(&api, &number).await?, true)))
}

pub(super) async fn send(State(api): State<Api>, bytes: Bytes) -> Answer {
    let mut send: Send = body(&bytes)?;
    let message = send.message()?;
    let at = send.at.unwrap_or(Timestamp::from_millis(0));
    let id = api.switchboard().send_at(&send.line, message, at).await?;
    Ok(Reply(shapes::message(&of(&api, id).await?, true)))
}

pub(super) async fn plan(State(api): State<Api>, bytes: Bytes) -> Answer {
    let mut send: Send = body(&bytes)?;
    let message = send.message()?;
    Ok(Reply(shapes::plan(&line(&api, &send.line)?.plan(&message)?)))
}

pub(super) async fn settle(State(api): State<Api>, Path(number): Path<String>, bytes: Bytes) -> Answer {
    let (Settle { decision }, id) = (body(&bytes)?, status(&api, &number).await?.id);
    settle::settle(api.switchboard(), id, decision).await?;
    Ok(Reply(shapes::message(&of(&api, id).await?, true)))
}

pub(super) async fn cancel(State(api): State<Api>, Path(number): Path<String>) -> Answer {
    let id = status(&api, &number).await?.id;
    if !api.switchboard().cancel(id).await? {
        return Err(Refusal::conflict("only a message that waits can be cancelled"));
    }
    Ok(Reply(shapes::message(&of(&api, id).await?, true)))
}

async fn status(api: &Api, number: &str) -> Result<Status, Refusal> {
    of(api, Id::from(id(number)?)).await
}

async fn of(api: &Api, id: Id) -> Result<Status, Refusal> {
    let status = api.switchboard().status(id).await?;
    status.ok_or_else(|| Refusal::not_found("there is no such message"))
}

/// Returns a line of the configuration.
pub(super) fn line<'a>(api: &'a Api, name: &str) -> Result<&'a Line, Refusal> {
    let found = api.0.lines.iter().find(|line| line.id == name);
    found.ok_or_else(|| Refusal::not_found("there is no such line"))
}
