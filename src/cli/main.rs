//! The program `civic-messaging`: a council's messaging service from one file, and the commands to look after it.
//!
//! docs/command_line.md describes the commands, the shapes of their JSON and the exit codes.

// No input from a gateway, a resident, an officer or a configuration may cause a panic.
#![cfg_attr(
    not(test),
    warn(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

use std::process::ExitCode;

mod args;
mod check;
mod confirm;
mod conversations;
mod failure;
mod health;
mod messages;
mod open;
mod opt_outs;
mod output;
mod person;
mod progress;
mod restore;
mod run;
mod send;
mod settle;
mod shapes;
mod stats;

use args::{Args, Command};
use failure::{Code, Failure};

fn main() -> ExitCode {
    let Args { command, common } = match args::parse() {
        Ok(args) => args,
        Err(code) => return code.into(),
    };
    let done = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(async {
            match command {
                Command::Check(args) => check::run(&args, &common),
                Command::Run(args) => run::run(args, &common).await,
                Command::Send(args) => send::run(args, &common).await,
                Command::Conversations(args) => conversations::run(args, &common).await,
                Command::Messages(args) => messages::run(args, &common).await,
                Command::Settle(args) => settle::run(&args, &common).await,
                Command::OptOuts(args) => opt_outs::run(args, &common).await,
                Command::Stats(args) => stats::run(&args, &common).await,
                Command::Health(args) => health::run(&args, &common).await,
                Command::HoldAfterRestore(args) => restore::run(&args, &common).await,
            }
        }),
        Err(_) => Err(Failure::Failed("the runtime cannot start: no threads or no descriptors are left".to_owned())),
    };
    done.unwrap_or_else(|failure| {
        failure.print(common.json);
        failure.code()
    })
    .into()
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}
