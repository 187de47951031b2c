//! Consent to what cannot be undone.

use std::io::{BufRead, IsTerminal, Write};

use super::args::Common;
use super::failure::Failure;

/// Asks on the terminal, unless `--yes` was given. Without a terminal and without `--yes` it fails.
pub(crate) fn confirm(what: &str, common: &Common) -> Result<(), Failure> {
    if common.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Failure::Usage(format!("{what} This cannot be undone: add --yes")));
    }
    let mut stderr = std::io::stderr();
    _ = write!(stderr, "{what} This cannot be undone. Continue? [y/N] ");
    _ = stderr.flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    match read.map(|_| answer.trim().to_lowercase()) {
        Ok(answer) if matches!(&*answer, "y" | "yes") => Ok(()),
        _ => Err(Failure::Failed("nothing was done".to_owned())),
    }
}
