//! The health of a channel: its credentials and settings.

use std::borrow::Cow;

/// Whether a channel's credentials and settings are in order.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// What was looked at.
    pub checks: Vec<Check>,
}

/// One thing that was looked at.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What it is: `credentials`, `template`, `webhook`.
    pub name: &'static str,
    /// How it came out.
    pub grade: CheckStatus,
    /// What was found, in plain words, and what to do.
    pub detail: Cow<'static, str>,
}

/// How a [`Check`] came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckStatus {
    /// It does not work.
    Fail,
    /// It works.
    Pass,
    /// It could not be told.
    Unknown,
    /// It works, but not as a live service wants it.
    Warn,
}

impl Health {
    /// Adds what was found.
    #[must_use]
    pub fn check_result(
        mut self,
        name: &'static str,
        grade: CheckStatus,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.checks.push(Check { name, grade, detail: detail.into() });
        self
    }

    /// Whether nothing failed.
    pub fn is_good(&self) -> bool {
        self.checks.iter().all(|check| check.grade != CheckStatus::Fail)
    }

    /// What was found under this name.
    pub fn check(&self, name: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.name == name)
    }
}
