//! What the suite found.

use std::fmt;

use crate::model::info::Info;
use crate::webhook::SignatureCoverage;

/// What the conformance suite found about one adapter.
///
/// `Display` gives a line for each check, and a last one that counts them.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Report {
    /// What the channel says of itself; none when it could not be built.
    pub info: Option<Info>,
    /// What the proof of its webhooks covers, where it takes any.
    pub covers: Option<SignatureCoverage>,
    /// Each check and what came of it, in the suite's order.
    pub findings: Vec<Finding>,
}

/// One check, and what came of it.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Finding {
    /// The name of the check: a sentence.
    pub check: &'static str,
    /// What came of it.
    pub verdict: CheckOutcome,
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckOutcome {
    /// It does not apply to this adapter, and why.
    DoesNotApply(&'static str),
    /// It failed, and how.
    Failed(String),
    /// It passed.
    Passed,
}

impl Report {
    /// How many checks passed.
    pub fn passed(&self) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == CheckOutcome::Passed).count()
    }

    /// The names of the checks that failed, and how.
    pub fn failed(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.findings.iter().filter_map(|finding| match &finding.verdict {
            CheckOutcome::Failed(why) => Some((finding.check, why.as_str())),
            _ => None,
        })
    }

    /// The names of the checks that do not apply, and why.
    pub fn left_out(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.findings.iter().filter_map(|finding| match finding.verdict {
            CheckOutcome::DoesNotApply(why) => Some((finding.check, why)),
            _ => None,
        })
    }

    /// Whether no check failed.
    pub fn is_good(&self) -> bool {
        self.failed().next().is_none()
    }

    /// Asserts that no check failed.
    ///
    /// # Panics
    /// When one did, with all that did.
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
