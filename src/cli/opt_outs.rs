//! `civic-messaging opt-outs`: the register of persons who must not be messaged.

use std::io::Write;
use std::path::{Path, PathBuf};

use civic_messaging::event::OptOutScope;
use civic_messaging::switchboard::{NewOptOut, OptOutEntry, OptOuts};
use clap::Subcommand;
use serde_json::{Value, json};

use super::args::Common;
use super::confirm::confirm;
use super::failure::{Code, Failure};
use super::output::{Table, print, print_json};
use super::{open, person, progress, send, shapes};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List the opt-outs that reach a line
    List {
        #[command(flatten)]
        of: Register,
    },
    /// Record an opt-out that came by letter, by telephone or in person
    Record {
        #[command(flatten)]
        of: Register,
        #[command(flatten)]
        change: Change,
        /// Marketing only, and not all messages
        #[arg(long)]
        marketing: bool,
        /// How it came, such as "by letter"
        #[arg(long)]
        note: Option<String>,
    },
    /// Lift the opt-outs of a person, who wants messages again
    Lift {
        #[command(flatten)]
        of: Register,
        #[command(flatten)]
        change: Change,
    },
    /// Record a list: CSV with a column of numbers
    Import {
        #[command(flatten)]
        of: Register,
        /// The list
        list: PathBuf,
        /// Your name, which is recorded
        #[arg(long)]
        officer: String,
    },
    /// Write the register as CSV, which import reads
    Export {
        #[command(flatten)]
        of: Register,
        /// The file to write, readable by you only
        #[arg(long, required_unless_present = "show_personal_data")]
        output: Option<PathBuf>,
    },
}

#[derive(clap::Args)]
struct Register {
    /// The configuration
    file: PathBuf,
    /// The line: the register is that of its controller. It may be left out where there is only one
    #[arg(long)]
    line: Option<String>,
}

#[derive(clap::Args)]
struct Change {
    /// The person: a phone number, or a medium and an id, such as x:44196397
    #[arg(long, value_name = "ADDRESS")]
    person: String,
    /// Your name, which is recorded
    #[arg(long)]
    officer: String,
}

const PAGE: u32 = 500;

pub(crate) async fn run(args: Args, common: &Common) -> Result<Code, Failure> {
    let (Action::List { of }
    | Action::Record { of, .. }
    | Action::Lift { of, .. }
    | Action::Import { of, .. }
    | Action::Export { of, .. }) = &args.action;
    let configuration = open::existing(&of.file, common)?;
    let line = send::only_line(configuration.lines(), of.line.as_deref())?.id.clone();
    let opt_outs = open::opened(configuration).await?.0.opt_outs();
    match args.action {
        Action::List { .. } => list(&opt_outs, &line, common).await,
        Action::Record { change, marketing, note, .. } => {
            let mut new = NewOptOut::new(person::parse(&change.person)?, change.officer);
            if marketing {
                new = new.scope(OptOutScope::Marketing);
            }
            if let Some(note) = note {
                new = new.note(note);
            }
            let is_new = opt_outs.record(&line, new).await?;
            match common.json {
                true => print_json(&json!({ "recorded": is_new })),
                false => print(if is_new { "recorded" } else { "was recorded before" }),
            }
            Ok(Code::Done)
        }
        Action::Lift { change, .. } => {
            let person = person::parse(&change.person)?;
            confirm("The person gets messages again.", common)?;
            let lifted = opt_outs.lift(&line, &person, &change.officer).await?;
            match common.json {
                true => print_json(&json!({ "lifted": lifted })),
                false => print(&format!("{lifted} lifted")),
            }
            Ok(Code::Done)
        }
        Action::Import { list, officer, .. } => import(&opt_outs, &line, &list, &officer, common).await,
        Action::Export { output, .. } => export(&opt_outs, &line, output.as_deref()).await,
    }
}

async fn list(opt_outs: &OptOuts, line: &str, common: &Common) -> Result<Code, Failure> {
    let mut all: Vec<OptOutEntry> = Vec::new();
    loop {
        let page = opt_outs.list(line, all.last(), PAGE).await?;
        if page.is_empty() {
            break;
        }
        all.extend(page);
    }
    let show = common.show_personal_data;
    if common.json {
        print_json(&json!({ "opt_outs": all.iter().map(|entry| shapes::opt_out(entry, show)).collect::<Value>() }));
        return Ok(Code::Done);
    }
    let mut table = Table::new(&["person", "scope", "medium", "source", "line", "at"]);
    for entry in &all {
        let persons: Vec<_> = entry.addresses.iter().map(|address| person::shown(address, show)).collect();
        let shape = shapes::value(entry);
        let source = match shape.get("source") {
            Some(Value::String(name)) => name.clone(),
            _ => "officer".to_owned(),
        };
        table.row([
            if persons.is_empty() { "erased".to_owned() } else { persons.join(" ") },
            shape.get("scope").and_then(Value::as_str).unwrap_or_default().to_owned(),
            entry.medium.as_ref().map_or("all", |medium| medium.as_str()).to_owned(),
            source,
            entry.line.clone().unwrap_or_default(),
            entry.at.to_string(),
        ]);
    }
    match table.is_empty() {
        true => print("nobody opted out"),
        false => table.print(),
    }
    Ok(Code::Done)
}

async fn import(opt_outs: &OptOuts, line: &str, list: &Path, officer: &str, common: &Common) -> Result<Code, Failure> {
    let csv = std::fs::read(list)
        .map_err(|error| Failure::Usage(format!("{}: cannot be read: {}", list.display(), error.kind())))?;
    let import = progress::shown("importing", opt_outs.import_csv(line, csv, officer)).await?;
    let problems = &import.problems;
    if common.json {
        let problem = |one: &civic_messaging::switchboard::ImportProblem| json!({ "line": one.line, "column": one.column, "rule": one.rule });
        let problems: Value = problems.iter().map(problem).collect();
        print_json(&json!({ "recorded": import.recorded, "unchanged": import.unchanged, "problems": problems }));
    } else {
        print(&format!("{} recorded, {} unchanged, {} problems", import.recorded, import.unchanged, problems.len()));
        let mut table = Table::new(&["line", "column", "problem"]);
        problems.iter().for_each(|one| table.row([one.line.to_string(), one.column.to_string(), one.rule.clone()]));
        if !table.is_empty() {
            table.print();
        }
    }
    Ok(if problems.is_empty() { Code::Done } else { Code::Failed })
}

async fn export(opt_outs: &OptOuts, line: &str, output: Option<&Path>) -> Result<Code, Failure> {
    let csv = progress::shown("exporting", opt_outs.export_csv(line)).await?;
    let Some(path) = output else {
        print(csv.trim_end());
        return Ok(Code::Done);
    };
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(path).and_then(|mut file| {
        file.write_all(csv.as_bytes())?;
        file.sync_all()
    });
    let failed = |error: std::io::Error| format!("{}: cannot be written: {}", path.display(), error.kind());
    written.map_err(|error| Failure::Failed(failed(error)))?;
    Ok(Code::Done)
}
