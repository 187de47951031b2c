//! `civic-messaging conversations`: what was written, newest first.

use std::path::PathBuf;

use civic_messaging::Result;
use civic_messaging::switchboard::{Entry, EntryContent, File, Switchboard};
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
    /// The person: a phone number, or a medium and an id, such as x:44196397
    #[arg(long, value_name = "ADDRESS")]
    person: String,
    /// The maximum number of entries
    #[arg(long, default_value_t = 20)]
    limit: u32,
}

pub(crate) async fn run(args: Args, common: &Common) -> Result<Code, Failure> {
    let (switchboard, lines) = open::switchboard(&args.file, common).await?;
    let line = send::only_line(&lines, args.line.as_deref())?;
    let person = person::parse(&args.person)?;
    let entries = switchboard.conversation(&line.id, &person, None, args.limit).await?;
    let show = common.show_personal_data;
    if common.json {
        let mut shapes = Vec::new();
        for entry in &entries {
            shapes.push(shapes::entry(entry, &files(&switchboard, entry).await?, show));
        }
        print_json(&json!({ "entries": Value::from(shapes) }));
        return Ok(Code::Done);
    }
    let mut table = Table::new(&["at", "", "state", "text"]);
    for entry in &entries {
        let (direction, state, text) = cells(entry, files(&switchboard, entry).await?.len());
        let text = if show { text } else { format!("({} characters)", text.chars().count()) };
        table.row([entry.at.to_string(), direction.to_owned(), state, text]);
    }
    match table.is_empty() {
        true => print("nothing was written"),
        false => table.print(),
    }
    Ok(Code::Done)
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
