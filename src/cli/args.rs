//! The command line.

use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand};

use super::failure::Code;
use super::{check, conversations, health, messages, opt_outs, restore, run, send, settle, stats};

/// A council's messaging service from one file, and the commands to look after it.
///
/// Exit codes: 0 done, 1 refused or failed, 2 wrong usage or configuration, 3 outcome unknown (do not resend blindly),
/// 4 not possible now, or still waiting (try again later).
#[derive(Parser)]
#[command(name = "civic-messaging", version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// The options of every command.
#[derive(clap::Args)]
pub(crate) struct Common {
    /// Print JSON instead of tables
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Show numbers, names and texts, which are masked otherwise
    #[arg(long, global = true)]
    pub(crate) show_personal_data: bool,
    /// Do what cannot be undone without asking
    #[arg(long, global = true)]
    pub(crate) yes: bool,
    /// Replace a text of the file, such as gateways.notify.base_url=https://…
    #[arg(long, global = true, value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
}

/// The configuration of a command without other arguments.
#[derive(clap::Args)]
pub(crate) struct FileOnly {
    /// The configuration: TOML, or JSON if the name ends in .json
    pub(crate) file: PathBuf,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Check a configuration, and list all its errors
    Check(check::Args),
    /// Run the service: webhooks, worker, and the officers' API
    Run(run::Args),
    /// Send a text: --mock needs no file and no account
    Send(send::Args),
    /// List who waits for an answer, or show a conversation
    Conversations(conversations::Args),
    /// List messages by state, or show one
    Messages(messages::Args),
    /// Settle a message whose outcome is unknown, or that is parked
    Settle(settle::Args),
    /// List, record, lift, import or export opt-outs
    OptOuts(opt_outs::Args),
    /// Count messages and events by line, and show the budgets
    Stats(stats::Args),
    /// Check the health of each channel
    Health(health::Args),
    /// Hold the messages of a store that was restored from a backup
    HoldAfterRestore(restore::Args),
}

/// Parses the command line. Prints help, the version, or what is wrong, and returns the exit code then.
pub(crate) fn parse() -> Result<Args, Code> {
    Args::try_parse().map_err(|error| {
        let is_error = error.use_stderr();
        _ = without_values(error).print();
        if is_error { Code::Usage } else { Code::Done }
    })
}

/// Removes what was typed from an error: it may be a number or a text.
fn without_values(mut error: clap::Error) -> clap::Error {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return error;
    }
    let masked = || ContextValue::String("…".to_owned());
    error.insert(ContextKind::InvalidValue, masked());
    // The names of our own options may be shown.
    if matches!(error.kind(), ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand) {
        error.insert(ContextKind::InvalidArg, masked());
        error.insert(ContextKind::InvalidSubcommand, masked());
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(Vec::new()));
    }
    error
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn error(words: &[&str]) -> String {
        let all = ["civic-messaging"].iter().chain(words);
        match Args::try_parse_from(all) {
            Ok(_) => panic!("no error"),
            Err(error) => without_values(error).to_string(),
        }
    }

    #[test]
    fn command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn error_shows_nothing_that_was_typed() {
        for words in [
            &["send", "council.toml", "canary", "--to", "canary"][..],
            &["send", "--purpose", "canary", "--mock", "--to", "1", "--text", "t"],
            &["canary"],
            &["--canary"],
            &["send", "--wait=canary", "f"],
            &["settle", "f", "canary", "sent"],
            &["settle", "f", "1", "canary"],
            &["messages", "f", "--state", "canary"],
            &["stats", "f", "--show-personal-dat"],
        ] {
            let text = error(words);
            assert!(!text.contains("canary"), "{text}");
        }
        let text = error(&["send", "--purpose", "x", "--mock", "--to", "1", "--text", "t"]);
        assert!(text.contains("--purpose") && text.contains("marketing"), "{text}");
    }
}
