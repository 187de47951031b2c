//! `civic-messaging send`: a text, on a line of a configuration or to a mock.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use civic_messaging::medium::sms::Encoding;
use civic_messaging::plan::Plan;
use civic_messaging::switchboard::{Id, Line, State, Status, Store, Switchboard};
use civic_messaging::{Address, Medium, Message, Mock, Purpose, Timestamp};
use clap::ValueEnum;
use serde_json::json;
use tokio::sync::oneshot;

use super::args::Common;
use super::failure::{Code, Failure};
use super::output::{print, print_json};
use super::{open, person, progress, shapes};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The configuration
    #[arg(required_unless_present = "mock", conflicts_with = "mock")]
    file: Option<PathBuf>,
    /// Send to a mock in memory: no file, no account, no network
    #[arg(long)]
    mock: bool,
    /// The line; it may be left out where there is only one
    #[arg(long)]
    line: Option<String>,
    /// The recipient: a phone number, or a medium and an id, such as whatsapp:+447700900123
    #[arg(long, value_name = "ADDRESS")]
    to: String,
    /// The text; - reads it from the standard input
    #[arg(long)]
    text: String,
    /// The purpose, on which rules and priority depend
    #[arg(long, value_enum, default_value_t = PurposeName::Notice)]
    purpose: PurposeName,
    /// The idempotency key: the same key never makes a second message
    #[arg(long)]
    key: Option<String>,
    /// A label for statistics
    #[arg(long)]
    tag: Option<String>,
    /// Do not send before this time, such as 2026-12-24T09:00:00Z
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Wait for the outcome, for at most so many seconds
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "30")]
    wait: Option<u32>,
    /// Show the plan only
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum PurposeName {
    Emergency,
    Marketing,
    Notice,
    Reply,
}

/// The time in which a mock has certainly answered.
const MOCK_WAIT: Duration = Duration::from_secs(10);

pub(crate) async fn run(args: Args, common: &Common) -> Result<Code, Failure> {
    let message = message(&args)?;
    let at = args.at.as_deref().map(str::parse::<Timestamp>).transpose()?;
    match &args.file {
        None => to_mock(message, &args, common).await,
        Some(file) => {
            let configuration = open::existing(file, common)?;
            let line = only_line(configuration.lines(), args.line.as_deref())?;
            let plan = line.plan(&message)?;
            if args.dry_run {
                return Ok(report(&plan, None, common));
            }
            let line = line.id.clone();
            let (switchboard, _) = open::opened(configuration).await?;
            let id = switchboard.send_at(&line, message, at.unwrap_or(Timestamp::from_millis(0))).await?;
            let wait = args.wait.map(|seconds| Duration::from_secs(seconds.into()));
            let status = progress::shown("waiting for the outcome", settled(&switchboard, id, wait)).await?;
            let code = report(&plan, Some(&status), common);
            // Durable is all that was asked for.
            Ok(if wait.is_none() && code == Code::Later { Code::Done } else { code })
        }
    }
}

fn message(args: &Args) -> Result<Message, Failure> {
    let to = person::parse(&args.to)?;
    let mut text = args.text.clone();
    if text == "-" {
        text.clear();
        let read = std::io::stdin().read_to_string(&mut text);
        read.map_err(|_| Failure::Usage("--text: the standard input is not text".to_owned()))?;
        text.truncate(text.trim_end_matches(['\n', '\r']).len());
    }
    let mut message = Message::text(to, text).purpose(match args.purpose {
        PurposeName::Emergency => Purpose::Emergency,
        PurposeName::Marketing => Purpose::Marketing,
        PurposeName::Notice => Purpose::Notice,
        PurposeName::Reply => Purpose::Reply,
    });
    (message.key, message.tag) = (args.key.clone(), args.tag.clone());
    Ok(message)
}

/// Returns the line that was named, or the only one.
pub(crate) fn only_line<'l>(lines: &'l [Line], name: Option<&str>) -> Result<&'l Line, Failure> {
    let known = || lines.iter().map(|line| &*line.id).collect::<Vec<_>>().join(", ");
    match (name, lines) {
        (None, [only]) => Ok(only),
        (None, _) => Err(Failure::Usage(format!("--line: is missing; lines: {}", known()))),
        (Some(name), _) => {
            let found = lines.iter().find(|line| line.id == name);
            found.ok_or_else(|| Failure::Usage(format!("--line: unknown line; lines: {}", known())))
        }
    }
}

/// Sends through a whole switchboard, in memory.
async fn to_mock(message: Message, args: &Args, common: &Common) -> Result<Code, Failure> {
    let mock = Mock::new(medium(&message.to)?);
    let line = Line::new(args.line.as_deref().unwrap_or("mock")).marketing_without_consent(true).channel(mock);
    let (id, plan) = (line.id.clone(), line.plan(&message)?);
    if args.dry_run {
        return Ok(report(&plan, None, common));
    }
    let switchboard = Switchboard::builder(Store::open("sqlite::memory:").await?).line(line).build()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = tokio::spawn(switchboard.clone().run(async { drop(stopped.await) }));
    let id = switchboard.send(&id, message).await?;
    let status = settled(&switchboard, id, Some(MOCK_WAIT)).await?;
    drop(stop);
    _ = worker.await;
    Ok(report(&plan, Some(&status), common))
}

fn medium(to: &Address) -> Result<Medium, Failure> {
    let media = [Medium::Sms, Medium::WhatsApp, Medium::X, Medium::Messenger];
    match (media.into_iter().find(|medium| to.fits(medium)), to) {
        (Some(medium), _) => Ok(medium),
        (None, Address::Other(other)) => Ok(other.medium().clone()),
        (None, _) => Err(Failure::Usage("--to: is not a person's address".to_owned())),
    }
}

/// Waits until a message is settled or its outcome is unknown, at most this long.
async fn settled(switchboard: &Switchboard, id: Id, wait: Option<Duration>) -> Result<Status, Failure> {
    let until = tokio::time::Instant::now() + wait.unwrap_or_default();
    loop {
        let status = switchboard.status(id).await?;
        let status = status.ok_or_else(|| Failure::Failed("the message is not in the store".to_owned()))?;
        if status.state.is_settled() || status.state == State::Unknown || tokio::time::Instant::now() >= until {
            return Ok(status);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Writes the plan, and the status of what was sent. Returns the exit code.
fn report(plan: &Plan, status: Option<&Status>, common: &Common) -> Code {
    let code = match status {
        Some(status) => Code::of_state(status.state),
        None if plan.problems().is_empty() => Code::Done,
        None => Code::Failed,
    };
    if common.json {
        let status = status.map(|status| shapes::message(status, common.show_personal_data));
        print_json(&json!({ "plan": shapes::plan(plan), "message": status }));
        return code;
    }
    let parts = match plan.parts() {
        1 => "1 message".to_owned(),
        parts => format!("{parts} messages"),
    };
    let segments = match (plan.segments(), plan.encoding()) {
        (Some(segments), Some(encoding)) => {
            let encoding = match encoding {
                Encoding::Gsm7 => "GSM-7",
                _ => "UCS-2",
            };
            format!(", {segments} segment{}, {encoding}", if segments == 1 { "" } else { "s" })
        }
        _ => String::new(),
    };
    print(&format!("plan     {parts}{segments}"));
    plan.notes().iter().for_each(|note| print(&format!("note     {note}")));
    let losses: Vec<_> = plan.losses().iter().map(ToString::to_string).collect();
    print(&format!("losses   {}", if losses.is_empty() { "none".to_owned() } else { losses.join("; ") }));
    plan.problems().iter().for_each(|problem| print(&format!("problem  {problem}")));
    if let Some(status) = status {
        let gateway = status.gateway.as_deref().map(|gateway| format!(" by {gateway}")).unwrap_or_default();
        let reason = status.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        print(&format!("outcome  {}{gateway}{reason}", status.state.as_str()));
        print(&format!("id       {}", status.id));
        print(&format!("key      {}", status.key));
    }
    code
}
