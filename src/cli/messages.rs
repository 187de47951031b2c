//! `civic-messaging messages`: messages by state, or one with its attempts.

use std::path::PathBuf;

use civic_messaging::switchboard::{Id, Line, State, Status, Switchboard};
use serde_json::{Value, json};

use super::args::Common;
use super::failure::{Code, Failure};
use super::output::{Table, print, print_json};
use super::{open, person, send, shapes};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The configuration
    file: PathBuf,
    /// The number of one message, to show all about it
    id: Option<i64>,
    /// The line: all by default
    #[arg(long)]
    line: Option<String>,
    /// The states: parked and unknown, which need a person, by default
    #[arg(long, value_parser = state, value_delimiter = ',')]
    state: Vec<State>,
    /// The message of the line with this idempotency key
    #[arg(long, conflicts_with_all = ["id", "state"])]
    key: Option<String>,
    /// Start behind this message
    #[arg(long, value_name = "ID")]
    after: Option<i64>,
    /// The maximum number for each line and state
    #[arg(long, default_value_t = 50)]
    limit: u32,
}

/// Parses the name of a state.
pub(crate) fn state(name: &str) -> Result<State, String> {
    let unknown = "must be accepted, cancelled, claimed, deferred, expired, parked, queued, refused, rejected, sending or unknown";
    serde_json::from_value(Value::from(name)).map_err(|_| unknown.to_owned())
}

pub(crate) async fn run(args: Args, common: &Common) -> Result<Code, Failure> {
    let (switchboard, lines) = open::switchboard(&args.file, common).await?;
    let id = match &args.key {
        Some(key) => {
            let found = switchboard.by_key(&send::only_line(&lines, args.line.as_deref())?.id, key).await?;
            Some(found.ok_or_else(|| Failure::Failed("no message of this line has the key".to_owned()))?)
        }
        None => args.id.map(Id::from),
    };
    match id {
        Some(id) => one(&switchboard, id, common).await,
        None => list(&switchboard, &lines, &args, common).await,
    }
}

async fn one(switchboard: &Switchboard, id: Id, common: &Common) -> Result<Code, Failure> {
    let Some(status) = switchboard.status(id).await? else {
        return Err(Failure::Failed(format!("there is no message {id}")));
    };
    if common.json {
        print_json(&shapes::message(&status, common.show_personal_data));
        return Ok(Code::Done);
    }
    let recipient = status.recipient.as_ref().map(|to| person::shown(to, common.show_personal_data));
    let mut table = Table::new(&["", ""]);
    for (name, value) in [
        ("id", Some(status.id.to_string())),
        ("line", Some(status.line.clone())),
        ("key", Some(status.key.clone())),
        ("tag", status.tag.clone()),
        ("recipient", recipient),
        ("state", Some(status.state.as_str().to_owned())),
        ("reason", status.reason.clone()),
        ("code", status.code.clone()),
        ("due", status.due.map(|due| due.to_string())),
        ("delivery", status.delivery.map(|delivery| format!("{delivery:?}").to_lowercase())),
        ("segments", status.segments.map(|segments| segments.to_string())),
        ("fallback", status.fallback.map(|id| id.to_string())),
        ("instead of", status.instead_of.map(|id| id.to_string())),
    ] {
        if let Some(value) = value {
            table.row([name.to_owned(), value]);
        }
    }
    table.print();
    let mut attempts = Table::new(&["begun", "ended", "gateway", "outcome", "code"]);
    for attempt in &status.history {
        attempts.row([
            attempt.begun.to_string(),
            attempt.ended.map(|ended| ended.to_string()).unwrap_or_default(),
            attempt.gateway.clone(),
            attempt.outcome.map(|outcome| format!("{outcome:?}").to_lowercase()).unwrap_or_default(),
            attempt.code.clone().unwrap_or_default(),
        ]);
    }
    if !attempts.is_empty() {
        print("");
        attempts.print();
    }
    Ok(Code::Done)
}

async fn list(switchboard: &Switchboard, lines: &[Line], args: &Args, common: &Common) -> Result<Code, Failure> {
    let lines: Vec<_> = match &args.line {
        Some(line) => vec![line.as_str()],
        None => lines.iter().map(|line| &*line.id).collect(),
    };
    let states = if args.state.is_empty() { &[State::Parked, State::Unknown][..] } else { &args.state };
    let mut found: Vec<Status> = Vec::new();
    for line in lines {
        for state in states {
            found.extend(switchboard.messages(line, *state, args.after.map(Id::from), args.limit).await?);
        }
    }
    if common.json {
        let all: Value = found.iter().map(|status| shapes::message(status, common.show_personal_data)).collect();
        print_json(&json!({ "messages": all }));
        return Ok(Code::Done);
    }
    let mut table = Table::new(&["id", "line", "state", "recipient", "tag", "due", "tries", "reason"]);
    for status in &found {
        let recipient = status.recipient.as_ref().map(|to| person::shown(to, common.show_personal_data));
        table.row([
            status.id.to_string(),
            status.line.clone(),
            status.state.as_str().to_owned(),
            recipient.unwrap_or_default(),
            status.tag.clone().unwrap_or_default(),
            status.due.map(|due| due.to_string()).unwrap_or_default(),
            status.attempts.to_string(),
            status.reason.clone().unwrap_or_default(),
        ]);
    }
    if table.is_empty() {
        let names: Vec<_> = states.iter().map(|state| state.as_str()).collect();
        print(&format!("no messages are {}", names.join(" or ")));
    } else {
        table.print();
    }
    Ok(Code::Done)
}
