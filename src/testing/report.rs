//! The report of the conformance suite.

use std::fmt;

use crate::model::info::Info;
use crate::webhook::SignatureCoverage;

/// The report of the conformance suite about one adapter.
///
/// `Display` prints a line for each check, and a summary.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Report {
    /// The channel's info, `None` if it cannot be built.
    pub info: Option<Info>,
    /// The coverage of webhook signatures, if the channel receives webhooks.
    pub covers: Option<SignatureCoverage>,
    /// The findings, in the suite's order.
    pub findings: Vec<Finding>,
}

/// One check with its outcome.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Finding {
    /// The name of the check.
    pub check: &'static str,
    /// The outcome.
    pub verdict: CheckOutcome,
}

/// The outcome of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckOutcome {
    /// Not applicable to this adapter, with the reason.
    DoesNotApply(&'static str),
    /// Failed, with the reason.
    Failed(String),
    /// Passed.
    Passed,
}

impl Report {
    /// Returns the number of checks that passed.
    pub fn passed(&self) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == CheckOutcome::Passed).count()
    }

    /// Returns the checks that failed, with the reasons.
    pub fn failed(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.findings.iter().filter_map(|finding| match &finding.verdict {
            CheckOutcome::Failed(why) => Some((finding.check, why.as_str())),
            _ => None,
        })
    }

    /// Returns the checks that do not apply, with the reasons.
    pub fn left_out(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.findings.iter().filter_map(|finding| match finding.verdict {
            CheckOutcome::DoesNotApply(why) => Some((finding.check, why)),
            _ => None,
        })
    }

    /// Returns `true` if no check failed.
    pub fn is_good(&self) -> bool {
        self.failed().next().is_none()
    }

    /// Asserts that no check failed.
    ///
    /// # Panics
    /// If a check failed, with the whole report.
    #[track_caller]
    pub fn assert_good(&self) {
        assert!(self.is_good(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { check, verdict } in &self.findings {
            match verdict {
                CheckOutcome::DoesNotApply(why) => writeln!(f, "  -     {check}: {why}")?,
                CheckOutcome::Failed(why) => writeln!(f, "  FAIL  {check}: {why}")?,
                CheckOutcome::Passed => writeln!(f, "  ok    {check}")?,
            }
        }
        match &self.info {
            Some(info) => write!(f, "{} {}: ", info.gateway, info.medium)?,
            None => f.write_str("a channel that cannot be built: ")?,
        }
        let (passed, failed) = (self.passed(), self.failed().count());
        let rest = self.findings.len() - passed - failed;
        write!(f, "{passed} checks passed, {failed} failed, {rest} do not apply")
    }
}
