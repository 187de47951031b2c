//! `civic-messaging check`: all errors of a configuration, and what it would start.

use civic_messaging::switchboard::{Configuration, Line};
use serde_json::{Value, json};

use super::args::{Common, FileOnly};
use super::failure::{Code, Failure};
use super::open;
use super::output::{Table, print, print_json};

pub(crate) type Args = FileOnly;

pub(crate) fn run(args: &Args, common: &Common) -> Result<Code, Failure> {
    let configuration = open::configuration(&args.file, common)?;
    if common.json {
        print_json(&shape(&configuration));
        return Ok(Code::Done);
    }
    let store = match configuration.store_file() {
        Some(path) if path.exists() => format!("sqlite:{}", path.display()),
        Some(path) => format!("sqlite:{}, which `run` creates", path.display()),
        None => "not a file: PostgreSQL, or memory".to_owned(),
    };
    let media = configuration.media_folder().map(|folder| folder.display().to_string());
    print(&format!("store: {store}"));
    print(&format!("media: {}\n", media.as_deref().unwrap_or("none: files are not fetched")));
    let mut lines =
        Table::new(&["line", "name", "controller", "channels", "languages", "hours", "auto-reply", "retention"]);
    for line in configuration.lines() {
        let yes = |is: bool| if is { "yes" } else { "-" }.to_owned();
        let days = line.retention.map(|retention| format!("{} days", retention.as_secs() / 86_400));
        lines.row([
            line.id.clone(),
            line.name.clone(),
            line.controller.clone().unwrap_or_else(|| "-".to_owned()),
            channels(line).join(", "),
            line.languages.join(", "),
            yes(line.hours.is_some()),
            yes(line.auto_reply.is_some()),
            days.unwrap_or_else(|| "forever".to_owned()),
        ]);
    }
    lines.print();
    let mut routes = Table::new(&["route", "lines"]);
    configuration.routes().for_each(|(name, lines)| routes.row([format!("/{name}"), lines.join(", ")]));
    if !routes.is_empty() {
        print("");
        routes.print();
    }
    print("\nno errors");
    Ok(Code::Done)
}

fn channels(line: &Line) -> Vec<String> {
    line.channels().iter().map(|channel| format!("{} by {}", channel.info().medium, channel.info().gateway)).collect()
}

/// Returns the JSON of a line.
pub(crate) fn line(line: &Line) -> Value {
    let channel = |info: &civic_messaging::Info| json!({ "gateway": info.gateway, "medium": info.medium.as_str(), "account": info.account.as_str() });
    json!({
        "id": line.id,
        "name": line.name,
        "controller": line.controller,
        "languages": line.languages,
        "hours": line.hours.is_some(),
        "auto_reply": line.auto_reply.is_some(),
        "retention_days": line.retention.map(|retention| retention.as_secs() / 86_400),
        "channels": line.channels().iter().map(|one| channel(one.info())).collect::<Value>(),
    })
}

fn shape(configuration: &Configuration) -> Value {
    json!({
        "store_file": configuration.store_file(),
        "media_folder": configuration.media_folder(),
        "lines": configuration.lines().iter().map(line).collect::<Value>(),
        "routes": configuration.routes().map(|(name, lines)| (name.to_owned(), json!(lines))).collect::<serde_json::Map<_, _>>(),
    })
}
