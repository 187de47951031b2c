//! `civic-messaging conversations`: who waits for an answer, and what was written.

use std::path::PathBuf;

use civic_messaging::switchboard::{ConversationFilter, ConversationSummary, Entry, EntryContent, File, Switchboard};
use civic_messaging::{Address, Result};
use clap::ValueEnum;
use serde_json::{Value, json};

use super::args::Common;
use super::failure::{Code, Failure};
use super::output::{Table, print, print_json};
use super::{open, person, send, shapes};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The configuration
    file: PathBuf,
    /// The line; it may be left out where there is only one
    #[arg(long)]
    line: Option<String>,
    /// Show the conversation with a person: a phone number, or a medium and an id, such as x:44196397
    #[arg(long, value_name = "ADDRESS")]
    person: Option<String>,
    /// The conversations to list: those that wait, the longest-waiting first; or all or the unread ones, newest first
    #[arg(long, value_enum, default_value_t = FilterName::Waiting, conflicts_with = "person")]
    filter: FilterName,
    /// The maximum number of entries
    #[arg(long, default_value_t = 20)]
    limit: u32,
}

#[derive(Clone, Copy, ValueEnum)]
enum FilterName {
    All,
    Unread,
    Waiting,
}

pub(crate) async fn run(args: Args, common: &Common) -> Result<Code, Failure> {
    let (switchboard, lines) = open::switchboard(&args.file, common).await?;
    let line = send::only_line(&lines, args.line.as_deref())?;
    match &args.person {
        Some(person) => one(&switchboard, &line.id, &person::parse(person)?, args.limit, common).await,
        None => list(&switchboard, &line.id, args.filter, args.limit, common).await,
    }
}

/// Lists conversations.
async fn list(
    switchboard: &Switchboard,
    line: &str,
    filter: FilterName,
    limit: u32,
    common: &Common,
) -> Result<Code, Failure> {
    let filter = match filter {
        FilterName::All => ConversationFilter::All,
        FilterName::Unread => ConversationFilter::Unread,
        FilterName::Waiting => ConversationFilter::Waiting,
    };
    let all = switchboard.conversations(line, filter, None, limit).await?;
    let show = common.show_personal_data;
    if common.json {
        let mut shapes = Vec::new();
        for summary in &all {
            shapes.push(shapes::conversation(summary, &last_files(switchboard, summary).await?, show));
        }
        print_json(&json!({ "conversations": Value::from(shapes) }));
        return Ok(Code::Done);
    }
    let mut table = Table::new(&["person", "waiting since", "unread", "last", "by", "text"]);
    for summary in &all {
        let (by, _, text) = summary.last.as_ref().map(|last| cells(last, 0)).unwrap_or_default();
        table.row([
            person::shown(&summary.person, show),
            summary.waiting_since.map(|since| since.to_string()).unwrap_or_default(),
            summary.unread.to_string(),
            summary.at.to_string(),
            by.to_owned(),
            if show { text } else { format!("({} characters)", text.chars().count()) },
        ]);
    }
    match table.is_empty() {
        true => print("no such conversations"),
        false => table.print(),
    }
    Ok(Code::Done)
}

/// Shows one conversation.
async fn one(
    switchboard: &Switchboard,
    line: &str,
    person: &Address,
    limit: u32,
    common: &Common,
) -> Result<Code, Failure> {
    let entries = switchboard.conversation(line, person, None, limit).await?;
    let show = common.show_personal_data;
    if common.json {
        let mut shapes = Vec::new();
        for entry in &entries {
            shapes.push(shapes::entry(entry, &files(switchboard, entry).await?, show));
        }
        print_json(&json!({ "entries": Value::from(shapes) }));
        return Ok(Code::Done);
    }
    let mut table = Table::new(&["at", "", "state", "text"]);
    for entry in &entries {
        let (direction, state, text) = cells(entry, files(switchboard, entry).await?.len());
        let text = if show { text } else { format!("({} characters)", text.chars().count()) };
        table.row([entry.at.to_string(), direction.to_owned(), state, text]);
    }
    match table.is_empty() {
        true => print("nothing was written"),
        false => table.print(),
    }
    Ok(Code::Done)
}

/// Returns the files of the last message of a conversation.
pub(crate) async fn last_files(switchboard: &Switchboard, summary: &ConversationSummary) -> Result<Vec<File>> {
    match &summary.last {
        Some(last) => files(switchboard, last).await,
        None => Ok(Vec::new()),
    }
}

/// Returns the files of a resident's message.
pub(crate) async fn files(switchboard: &Switchboard, entry: &Entry) -> Result<Vec<File>> {
    match entry.event_id() {
        Some(event) => switchboard.files(event).await,
        None => Ok(Vec::new()),
    }
}

fn cells(entry: &Entry, files: usize) -> (&'static str, String, String) {
    match &entry.content {
        EntryContent::Ours { status, message } => {
            let text = message.as_ref().and_then(|message| message.content.as_text()).unwrap_or("(not a text)");
            ("out", status.state.as_str().to_owned(), text.to_owned())
        }
        EntryContent::Theirs(Some(inbound)) => {
            let direction = if inbound.echo { "elsewhere" } else { "in" };
            let text = inbound.text().unwrap_or("(not a text)");
            let state = match files {
                0 => String::new(),
                1 => "1 file".to_owned(),
                files => format!("{files} files"),
            };
            (direction, state, text.to_owned())
        }
        _ => ("in", String::new(), "(written by a newer program)".to_owned()),
    }
}
