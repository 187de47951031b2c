//! `civic-messaging stats`: counts by line, and budgets.

use civic_messaging::switchboard::State;

use super::args::{Common, FileOnly};
use super::failure::{Code, Failure};
use super::output::{Table, print, print_json};
use super::{open, shapes};

pub(crate) type Args = FileOnly;

pub(crate) async fn run(args: &Args, common: &Common) -> Result<Code, Failure> {
    let (switchboard, _) = open::switchboard(&args.file, common).await?;
    let (stats, budgets) = (switchboard.stats().await?, switchboard.budgets().await?);
    if common.json {
        print_json(&shapes::stats(&stats, &budgets));
        return Ok(Code::Done);
    }
    let mut table = Table::new(&[
        "line",
        "waiting",
        "accepted",
        "unknown",
        "parked",
        "rejected",
        "refused",
        "expired",
        "cancelled",
        "oldest due",
        "unread",
        "parked events",
        "files",
    ]);
    for (line, counts) in &stats.lines {
        let count = |states: &[State]| states.iter().map(|state| counts.count(*state)).sum::<u64>().to_string();
        table.row([
            line.clone().unwrap_or_else(|| "(none)".to_owned()),
            count(&[State::Queued, State::Deferred, State::Claimed, State::Sending]),
            count(&[State::Accepted]),
            count(&[State::Unknown]),
            count(&[State::Parked]),
            count(&[State::Rejected]),
            count(&[State::Refused]),
            count(&[State::Expired]),
            count(&[State::Cancelled]),
            counts.oldest_due.map(|due| due.to_string()).unwrap_or_default(),
            counts.unread.to_string(),
            counts.parked_events.to_string(),
            counts.files.to_string(),
        ]);
    }
    table.print();
    let mut table = Table::new(&["budget", "used", "cap", "until"]);
    for budget in budgets {
        let [used, cap] = [budget.used, budget.cap].map(shapes::amount);
        table.row([budget.name, used, cap, budget.ends.to_string()]);
    }
    if !table.is_empty() {
        print("");
        table.print();
    }
    Ok(Code::Done)
}
