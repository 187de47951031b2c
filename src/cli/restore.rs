//! `civic-messaging hold-after-restore`: the first step after a backup was put back.

use std::path::PathBuf;

use civic_messaging::Timestamp;
use serde_json::json;

use super::args::Common;
use super::confirm::confirm;
use super::failure::{Code, Failure};
use super::open;
use super::output::{print, print_json};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The configuration
    file: PathBuf,
    /// The time of the backup, such as 2026-11-28T02:00:00Z
    #[arg(long, value_name = "TIME")]
    at: String,
}

pub(crate) async fn run(args: &Args, common: &Common) -> Result<Code, Failure> {
    let at: Timestamp = args.at.parse()?;
    let configuration = open::existing(&args.file, common)?;
    confirm("What waited at the time of the backup is held until a look-up or a person decides.", common)?;
    let held = configuration.open_store().await?.hold_after_restore(at).await?;
    match common.json {
        true => print_json(&json!({ "held": held })),
        false if held == 1 => print("1 message is held"),
        false => print(&format!("{held} messages are held")),
    }
    Ok(Code::Done)
}
