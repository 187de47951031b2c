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
use super::answer::{Answer, Query, Reply, body, limit};

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

pub(super) async fn list(State(api): State<Api>, query: RawQuery) -> Answer {
    let mut query = Query::new(&query);
    let (line, after, max) = (query.required("line")?, query.number("after")?, limit(query.number("limit")?));
    query.finish()?;
    let after = after.and_then(place);
    let page = api.switchboard().opt_outs().list(&line, after.as_ref(), max).await?;
    Ok(Reply(json!({ "opt_outs": page.iter().map(|entry| shapes::opt_out(entry, true)).collect::<Value>() })))
}

/// Returns an entry with this id, of which only the place in the list counts.
fn place(id: i64) -> Option<OptOutEntry> {
    let nobody = json!({
        "addresses": [], "fingerprints": [], "controller": null, "line": null, "scope": "all", "medium": null,
        "source": "keyword", "note": null, "at": 0, "id": id,
    });
    serde_json::from_value(nobody).ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_of_an_id_is_an_entry() {
        let entry = place(4711).unwrap();
        assert_eq!(shapes::opt_out(&entry, true)["id"], 4711);
    }
}
