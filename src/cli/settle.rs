//! `civic-messaging settle`: a person's decision about a message.

use std::path::PathBuf;

use civic_messaging::switchboard::{Id, Resolution, Switchboard};
use clap::ValueEnum;
use serde::Deserialize;

use super::args::Common;
use super::confirm::confirm;
use super::failure::{Code, Failure};
use super::output::{print, print_json};
use super::{open, shapes};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The configuration
    file: PathBuf,
    /// The number of the message
    id: i64,
    /// The decision
    #[arg(value_enum)]
    decision: Decision,
}

#[derive(Clone, Copy, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Decision {
    /// The gateway's pages show that it was sent
    Sent,
    /// It was not sent, and is not to be sent
    NotSent,
    /// Send it now, at the risk of a duplicate
    Resend,
}

pub(crate) async fn run(args: &Args, common: &Common) -> Result<Code, Failure> {
    let (switchboard, _) = open::switchboard(&args.file, common).await?;
    let id = args.id;
    confirm(
        &match args.decision {
            Decision::Sent => format!("Message {id} is recorded as sent."),
            Decision::NotSent => format!("Message {id} is recorded as not sent."),
            Decision::Resend => format!("Message {id} is sent again, and the person may get it twice."),
        },
        common,
    )?;
    settle(&switchboard, Id::from(id), args.decision).await?;
    let status = switchboard.status(Id::from(id)).await?;
    match status {
        Some(status) if common.json => print_json(&shapes::message(&status, common.show_personal_data)),
        Some(status) => print(&format!("message {id} is {}", status.state.as_str())),
        None => {}
    }
    Ok(Code::Done)
}

/// Settles a message, or returns why it cannot be settled so.
pub(crate) async fn settle(switchboard: &Switchboard, id: Id, decision: Decision) -> Result<(), Failure> {
    let resolution = match decision {
        Decision::Sent => Resolution::Sent,
        Decision::NotSent => Resolution::NotSent,
        Decision::Resend => Resolution::Resend,
    };
    if switchboard.settle(id, resolution).await? {
        return Ok(());
    }
    let rule = match decision {
        Decision::Resend => "only a message that is unknown, parked, or certainly not sent can be resent",
        Decision::Sent | Decision::NotSent => "only a message that is unknown or parked can be settled",
    };
    Err(Failure::Failed(match switchboard.status(id).await? {
        Some(status) => format!("message {id} is {}: {rule}", status.state.as_str()),
        None => format!("there is no message {id}"),
    }))
}
