//! `civic-messaging health`: the check of each channel.

use civic_messaging::ErrorKind;
use civic_messaging::switchboard::ChannelHealth;
use serde_json::{Value, json};

use super::args::{Common, FileOnly};
use super::failure::{Code, Failure};
use super::output::{Table, print_json};
use super::{open, progress, shapes};

pub(crate) type Args = FileOnly;

pub(crate) async fn run(args: &Args, common: &Common) -> Result<Code, Failure> {
    let (switchboard, _) = open::switchboard(&args.file, common).await?;
    let channels = progress::shown("asking the gateways", switchboard.health()).await;
    if common.json {
        print_json(&json!({ "channels": channels.iter().map(shapes::health).collect::<Value>() }));
    } else {
        table(&channels).print();
    }
    let all_good = channels.iter().all(|channel| match &channel.health {
        Ok(health) => health.is_good(),
        Err(error) => error.kind() == ErrorKind::Unsupported,
    });
    Ok(if all_good { Code::Done } else { Code::Failed })
}

fn table(channels: &[ChannelHealth]) -> Table {
    let mut table = Table::new(&["line", "gateway", "medium", "check", "result", "detail"]);
    for channel in channels {
        let mut row = |check: &str, result: &str, detail: &str| {
            let (line, medium) = (channel.line.clone(), channel.medium.to_string());
            let of_channel = [line, channel.gateway.to_owned(), medium];
            let of_check = [check, result, detail].map(str::to_owned);
            table.row(of_channel.into_iter().chain(of_check));
        };
        match &channel.health {
            Ok(health) => health.checks.iter().for_each(|check| {
                row(check.name, &format!("{:?}", check.status).to_lowercase(), &check.detail);
            }),
            Err(error) if error.kind() == ErrorKind::Unsupported => row("", "none", "the gateway has no health check"),
            Err(error) => row("", "error", &error.to_string()),
        }
    }
    table
}
