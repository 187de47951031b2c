//! All that is wrong in a configuration.

use std::fmt;

use crate::model::error::Error;

/// Everything that is wrong in a configuration.
///
/// Each error names the table and the field in [`Error::field`], such as `lines.leader.hours.week[0]`, and the rule.
/// None contains a secret. `Display` writes one line for each.
#[derive(Debug)]
pub struct SettingsErrors(Vec<Error>);

impl SettingsErrors {
    /// Returns the errors: at least one.
    pub fn errors(&self) -> &[Error] {
        &self.0
    }

    pub(super) fn new(errors: Vec<Error>) -> Self {
        Self(errors)
    }
}

impl fmt::Display for SettingsErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if n == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsErrors {}

impl From<SettingsErrors> for Error {
    fn from(errors: SettingsErrors) -> Self {
        match <[Self; 1]>::try_from(errors.0) {
            Ok([only]) => only,
            Err(errors) => {
                let all = SettingsErrors(errors);
                Self::config("configuration", format!("has {} errors:\n{all}", all.0.len()))
            }
        }
    }
}
