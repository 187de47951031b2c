//! The JSON of messages, conversations and opt-outs, for the commands and for the API.
//!
//! docs/command_line.md documents them. Times are milliseconds since 1970. Without `show`, what identifies a person is
//! left out.

use civic_messaging::Inbound;
use civic_messaging::plan::Plan;
use civic_messaging::policy::budgets::BudgetCap;
use civic_messaging::switchboard::{
    BudgetState, ChannelHealth, ConversationSummary, Counts, Entry, EntryContent, File, OptOutEntry, Stats, Status,
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::failure::shape;

/// Returns a value of the library as JSON.
pub(crate) fn value(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Returns an object without these members.
fn without(mut value: Value, members: &[&str]) -> Value {
    if let Value::Object(all) = &mut value {
        members.iter().for_each(|member| drop(all.remove(*member)));
    }
    value
}

/// Returns the status of a message.
pub(crate) fn message(status: &Status, show: bool) -> Value {
    // A gateway's id may contain a number.
    without(value(status), if show { &[] } else { &["recipient", "gateway_id"] })
}

/// Returns the plan of a message.
pub(crate) fn plan(plan: &Plan) -> Value {
    let losses: Vec<_> = plan.losses().iter().map(ToString::to_string).collect();
    let notes: Vec<_> = plan.notes().iter().map(ToString::to_string).collect();
    let problems: Vec<_> = plan.problems().iter().map(shape).collect();
    json!({
        "parts": plan.parts(),
        "segments": plan.segments(),
        "encoding": plan.encoding().map(|encoding| format!("{encoding:?}").to_lowercase()),
        "losses": losses,
        "notes": notes,
        "problems": problems,
    })
}

/// Returns a conversation in a list. `files` are those of its last entry.
pub(crate) fn conversation(summary: &ConversationSummary, files: &[File], show: bool) -> Value {
    json!({
        "person": Some(value(&summary.person)).filter(|_| show),
        "at": summary.at,
        "waiting_since": summary.waiting_since,
        "unread": summary.unread,
        "last": summary.last.as_ref().map(|last| entry(last, files, show)),
    })
}

/// Returns an entry of a conversation. `files` are those of a resident's message.
pub(crate) fn entry(entry: &Entry, files: &[File], show: bool) -> Value {
    let mut shape = match &entry.content {
        EntryContent::Ours { status, message: content } => json!({
            "direction": "out",
            "status": message(status, show),
            "content": content.as_ref().filter(|_| show).map(|message| value(&message.content)),
        }),
        EntryContent::Theirs(inbound) => theirs(inbound.as_deref(), files, show),
        _ => json!({ "direction": "unknown" }),
    };
    if let Value::Object(members) = &mut shape {
        members.insert("at".to_owned(), value(&entry.at));
        if let Some(event) = entry.event_id() {
            members.insert("event".to_owned(), value(&event));
        }
    }
    shape
}

/// Returns a resident's message, or an echo of an answer from elsewhere.
pub(crate) fn theirs(inbound: Option<&Inbound>, files: &[File], show: bool) -> Value {
    let Some(inbound) = inbound else { return json!({ "direction": "in" }) };
    let mut members = Map::new();
    members.insert("files".to_owned(), files.iter().map(file).collect());
    members.insert("direction".to_owned(), if inbound.echo { "elsewhere" } else { "in" }.into());
    members.insert("answerable".to_owned(), inbound.is_live().into());
    members.insert("gateway".to_owned(), inbound.envelope.gateway.to_string().into());
    members.insert("medium".to_owned(), inbound.envelope.medium.as_str().into());
    if show {
        members.insert("from".to_owned(), value(&inbound.from));
        members.insert("content".to_owned(), value(&inbound.content));
    }
    Value::Object(members)
}

/// Returns the state of a file.
fn file(file: &File) -> Value {
    match file {
        File::Held(held) => {
            json!({ "state": "held", "mime": held.mime, "len": held.len, "sha256": held.sha256.to_string() })
        }
        File::Waiting => json!({ "state": "waiting" }),
        File::Failed(reason) => json!({ "state": "failed", "reason": reason }),
        _ => json!({ "state": "unknown" }),
    }
}

/// Returns an opt-out.
pub(crate) fn opt_out(entry: &OptOutEntry, show: bool) -> Value {
    without(value(entry), if show { &[] } else { &["addresses", "note"] })
}

/// Returns the state of a budget.
fn budget(budget: &BudgetState) -> Value {
    json!({
        "name": budget.name,
        "per": value(&budget.period),
        "ends": budget.ends,
        "cap": amount(budget.cap),
        "used": amount(budget.used),
    })
}

/// Returns a number of messages or segments, or money, as text.
pub(crate) fn amount(cap: BudgetCap) -> String {
    match cap {
        BudgetCap::Messages(messages) => format!("{messages} messages"),
        BudgetCap::Segments(segments) => format!("{segments} segments"),
        BudgetCap::Money(money) => money.to_string(),
        _ => String::new(),
    }
}

/// Returns the counts of all lines, and the budgets.
pub(crate) fn stats(stats: &Stats, budgets: &[BudgetState]) -> Value {
    let line = |(line, counts): (&Option<String>, &Counts)| {
        json!({
            "line": line,
            "messages": value(&counts.messages),
            "due": counts.due,
            "oldest_due": counts.oldest_due,
            "implausible": counts.implausible,
            "unread": counts.unread,
            "oldest_unread": counts.oldest_unread,
            "parked_events": counts.parked_events,
            "files": counts.files,
        })
    };
    let suspended = stats.suspended.iter().map(|one| {
        json!({
            "gateway": one.gateway,
            "medium": one.medium.as_str(),
            "account": one.account.as_str(),
            "since": one.since,
            "kind": one.kind.as_str(),
            "reason": one.reason,
        })
    });
    json!({
        "lines": stats.lines.iter().map(line).collect::<Value>(),
        "budgets": budgets.iter().map(budget).collect::<Value>(),
        "suspended": suspended.collect::<Value>(),
    })
}

/// Returns the health of a channel.
pub(crate) fn health(channel: &ChannelHealth) -> Value {
    let (checks, error) = match &channel.health {
        Ok(health) => {
            let check = |check: &civic_messaging::health::Check| {
                let status = format!("{:?}", check.status).to_lowercase();
                json!({ "name": check.name, "status": status, "detail": check.detail })
            };
            (health.checks.iter().map(check).collect::<Value>(), None)
        }
        Err(error) => (json!([]), Some(shape(error))),
    };
    json!({
        "line": channel.line,
        "gateway": channel.gateway,
        "medium": channel.medium.as_str(),
        "account": channel.account.as_str(),
        "checks": checks,
        "error": error,
        "suspended": channel.suspended.is_some(),
    })
}
