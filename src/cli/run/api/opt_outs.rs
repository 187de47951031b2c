//! Opt-outs: list, record, check, lift.

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use civic_messaging::event::OptOutScope;
use civic_messaging::switchboard::{NewOptOut, OptOutEntry};
use civic_messaging::{Address, Medium};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::super::shapes;
use super::Api;
use super::answer::{Answer, ITEMS_MAX, Query, Reply, body};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    line: String,
    person: Address,
    officer: String,
    #[serde(default)]
    scope: Option<OptOutScope>,
    #[serde(default)]
    medium: Option<Medium>,
    #[serde(default)]
    note: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lift {
    line: String,
    person: Address,
    officer: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Check {
    line: String,
    person: Address,
}

/// Answers with the whole register of a line.
pub(super) async fn list(State(api): State<Api>, query: RawQuery) -> Answer {
    let mut query = Query::new(&query);
    let line = query.required("line")?;
    query.finish()?;
    let (opt_outs, mut all) = (api.switchboard().opt_outs(), Vec::<OptOutEntry>::new());
    loop {
        let page = opt_outs.list(&line, all.last(), ITEMS_MAX).await?;
        if page.is_empty() {
            break;
        }
        all.extend(page);
    }
    Ok(Reply(json!({ "opt_outs": all.iter().map(|entry| shapes::opt_out(entry, true)).collect::<Value>() })))
}

pub(super) async fn record(State(api): State<Api>, bytes: Bytes) -> Answer {
    let Record { line, person, officer, scope, medium, note } = body(&bytes)?;
    let mut new = NewOptOut::new(person, officer).scope(scope.unwrap_or(OptOutScope::All));
    if let Some(medium) = medium {
        new = new.medium(medium);
    }
    if let Some(note) = note {
        new = new.note(note);
    }
    Ok(Reply(json!({ "recorded": api.switchboard().opt_outs().record(&line, new).await? })))
}

pub(super) async fn check(State(api): State<Api>, bytes: Bytes) -> Answer {
    let Check { line, person } = body(&bytes)?;
    Ok(Reply(json!({ "opted_out": api.switchboard().opt_outs().is_opted_out(&line, &person).await? })))
}

pub(super) async fn lift(State(api): State<Api>, bytes: Bytes) -> Answer {
    let Lift { line, person, officer } = body(&bytes)?;
    Ok(Reply(json!({ "lifted": api.switchboard().opt_outs().lift(&line, &person, &officer).await? })))
}
