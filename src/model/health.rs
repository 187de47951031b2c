//! The health of a channel: its credentials and settings.

use std::borrow::Cow;

use crate::model::error::{Error, ErrorKind, Result};

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

    /// Adds a check whose call failed: a refusal fails it, and after an error that may pass the result is unknown.
    #[must_use]
    pub fn check_error(self, name: &'static str, error: &Error) -> Self {
        let status = if may_pass(error) { CheckStatus::Unknown } else { CheckStatus::Fail };
        self.check_result(name, status, error.to_string())
    }

    /// Adds the check `webhook` of a gateway that does not report whether webhooks arrive: a warning while the setting
    /// that receiving needs is missing.
    #[must_use]
    pub fn check_webhook(self, receives: bool, setting: &'static str) -> Self {
        match receives {
            true => {
                self.check_result("webhook", CheckStatus::Unknown, "the gateway does not report whether they arrive")
            }
            false => {
                let detail = format!("{setting} is not set: webhooks cannot be received");
                self.check_result("webhook", CheckStatus::Warn, detail)
            }
        }
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

/// Returns the response to a health check's first call, or the finished result if the gateway refuses the call.
///
/// After a refusal, the check `credentials` fails and nothing else can be checked. An error that may pass, such as a
/// timeout, stays an error.
///
/// ```
/// # use civic_messaging::adapter::{Endpoint, probe};
/// # use civic_messaging::health::{CheckStatus, Health};
/// # use http::HeaderMap;
/// async fn health(endpoint: &Endpoint, headers: HeaderMap) -> civic_messaging::Result<Health> {
///     match probe(endpoint.get("/v1/account", headers).await)? {
///         Ok(_) => Ok(Health::default().check_result("credentials", CheckStatus::Pass, "Acme accepts the token")),
///         Err(refused) => Ok(refused),
///     }
/// }
/// ```
///
/// # Errors
/// The error of the call, if it may pass.
pub fn probe<T>(call: Result<T>) -> Result<Result<T, Health>> {
    match call {
        Err(error) if !may_pass(&error) => Ok(Err(Health::default().check_error("credentials", &error))),
        call => call.map(Ok),
    }
}

fn may_pass(error: &Error) -> bool {
    use ErrorKind::{QuotaExceeded, RateLimited, Unavailable, Unexpected};
    matches!(error.kind(), QuotaExceeded | RateLimited | Unavailable | Unexpected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probe_reports_refusals_and_returns_errors_that_may_pass() {
        let error = |kind| Err::<(), _>(Error::new(kind, "a fault"));
        for kind in [ErrorKind::Unauthenticated, ErrorKind::Forbidden, ErrorKind::Account, ErrorKind::Config] {
            let refused = probe(error(kind)).unwrap().unwrap_err();
            assert_eq!(refused.check("credentials").unwrap().status, CheckStatus::Fail, "{kind:?}");
        }
        for kind in [ErrorKind::Unavailable, ErrorKind::RateLimited, ErrorKind::QuotaExceeded, ErrorKind::Unexpected] {
            assert_eq!(probe(error(kind)).unwrap_err().kind(), kind);
            let health = Health::default().check_error("webhook", &error(kind).unwrap_err());
            assert_eq!(health.check("webhook").unwrap().status, CheckStatus::Unknown, "{kind:?}");
        }
    }
}
