//! Failures of a command, and its exit codes.

use std::io::Write;

use civic_messaging::switchboard::{SettingsErrors, State};
use civic_messaging::{Error, ErrorKind, Outcome};
use serde_json::{Value, json};

/// The exit codes of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// Done.
    Done = 0,
    /// Refused or failed.
    Failed = 1,
    /// Wrong usage or configuration.
    Usage = 2,
    /// The outcome is unknown: the message may have been accepted.
    Unknown = 3,
    /// Not possible now, or still waiting: try again later.
    Later = 4,
}

impl Code {
    /// Returns the exit code for a message in this state.
    pub(crate) fn of_state(state: State) -> Self {
        match state {
            State::Accepted => Self::Done,
            State::Parked | State::Unknown => Self::Unknown,
            state if state.is_settled() => Self::Failed,
            _ => Self::Later,
        }
    }
}

/// The reason why a command failed. It contains no personal data and no secret.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An error of the library.
    Error(Error),
    /// All errors of a configuration.
    Configuration(SettingsErrors),
    /// The command cannot be used so.
    Usage(String),
    /// It failed.
    Failed(String),
}

impl Failure {
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Error(error) => match error.kind() {
                _ if error.outcome() == Outcome::Unknown => Code::Unknown,
                ErrorKind::Config => Code::Usage,
                _ if error.is_retryable() || error.kind() == ErrorKind::Unavailable => Code::Later,
                _ => Code::Failed,
            },
            Self::Configuration(_) | Self::Usage(_) => Code::Usage,
            Self::Failed(_) => Code::Failed,
        }
    }

    /// Writes it to stderr: one line for each error, or JSON.
    pub(crate) fn print(&self, json: bool) {
        let text = match self {
            _ if json => json!({ "errors": self.shapes() }).to_string(),
            Self::Error(error) => format!("error: {error}"),
            Self::Usage(what) | Self::Failed(what) => format!("error: {what}"),
            Self::Configuration(errors) => {
                let lines: Vec<_> = errors.errors().iter().map(|error| format!("error: {error}")).collect();
                lines.join("\n")
            }
        };
        // Nobody is left to read it.
        _ = writeln!(std::io::stderr(), "{text}");
    }

    fn shapes(&self) -> Vec<Value> {
        match self {
            Self::Error(error) => vec![shape(error)],
            Self::Configuration(errors) => errors.errors().iter().map(shape).collect(),
            Self::Usage(what) => vec![json!({ "kind": "usage", "message": what })],
            Self::Failed(what) => vec![json!({ "kind": "failed", "message": what })],
        }
    }
}

/// Returns the JSON of an error.
pub(crate) fn shape(error: &Error) -> Value {
    json!({
        "kind": error.kind().as_str(),
        "field": error.field(),
        "code": error.code(),
        "outcome": error.outcome().as_str(),
        "message": error.to_string(),
    })
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<SettingsErrors> for Failure {
    fn from(errors: SettingsErrors) -> Self {
        Self::Configuration(errors)
    }
}
