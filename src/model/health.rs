//! The health of a channel: its credentials and settings.

use std::borrow::Cow;

/// The health of a channel's credentials and settings.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The checks that ran.
    pub checks: Vec<Check>,
}

/// A health check.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The name: `credentials`, `template`, `webhook`.
    pub name: &'static str,
    /// The result.
    pub status: CheckStatus,
    /// The finding, in plain words, and what to do.
    pub detail: Cow<'static, str>,
}

/// The result of a [`Check`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckStatus {
    /// It fails.
    Fail,
    /// It passes.
    Pass,
    /// It could not be determined.
    Unknown,
    /// It works, but needs a change before live use.
    Warn,
}

impl Health {
    /// Adds a check's result.
    #[must_use]
    pub fn check_result(
        mut self,
        name: &'static str,
        status: CheckStatus,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.checks.push(Check { name, status, detail: detail.into() });
        self
    }

    /// Returns `true` if no check failed.
    pub fn is_good(&self) -> bool {
        self.checks.iter().all(|check| check.status != CheckStatus::Fail)
    }

    /// Returns the check of this name.
    pub fn check(&self, name: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.name == name)
    }
}
