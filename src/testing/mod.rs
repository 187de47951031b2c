//! Conformance suite for adapters, and a fake gateway.
//!
//! Describe an adapter as a [`Subject`]; one line in its tests generates a test for each check:
//!
//! ```
//! # use std::sync::Arc;
//! # use civic_messaging::{Channel, Mock, Result, testing::{Exchange, Setup, Subject}};
//! # struct Acme;
//! # impl Subject for Acme {
//! #     fn connect(&self, _: &Setup) -> Result<Arc<dyn Channel>> { Ok(Arc::new(Mock::sms())) }
//! #     fn secrets(&self) -> Vec<String> { Vec::new() }
//! #     fn exchanges(&self) -> Vec<Exchange> { Vec::new() }
//! # }
//! civic_messaging::conformance_tests!(Acme);
//! ```
//!
//! [`conformance`] runs all checks and returns a [`Report`]. The channel's declared capabilities select the checks: what it
//! declares must work, and anything else must be refused before the network. [`CHECKS`] lists their names.
//!
//! Randomness is seeded: `CIVIC_SEED=n` replays a failure, which names its seed.
//!
//! [`FakeGateway`] is for tests of embedders as well: a gateway on loopback that injects socket faults and counts the
//! messages that it accepted.
//!
//! [The guide](crate::docs::adapter) walks through an adapter, from its files to the checks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

mod checks;
mod describe;
mod fake_gateway;
mod leaks;
mod multipart;
mod report;
mod request;
mod run;
mod snapshot;
mod step;
mod subject;

pub use fake_gateway::FakeGateway;
pub use multipart::Part;
pub use report::{CheckOutcome, Finding, Report};
pub use request::ReceivedRequest;
pub use step::{SocketFault, Step};
pub use subject::{Exchange, ExpectedEvent, Setup, Signer, Subject, Webhook};

use checks::{Check, TABLE};
use run::{CheckError, Run};

pub use checks::CHECKS;

/// Runs every check that applies to the adapter.
///
/// Takes some seconds, on its own threads; works under any async runtime.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use civic_messaging::{Channel, Mock, Result, testing::{self, Exchange, Setup, Subject}};
/// # struct Acme;
/// # impl Subject for Acme {
/// #     fn connect(&self, _: &Setup) -> Result<Arc<dyn Channel>> { Ok(Arc::new(Mock::sms())) }
/// #     fn secrets(&self) -> Vec<String> { Vec::new() }
/// #     fn exchanges(&self) -> Vec<Exchange> { Vec::new() }
/// # }
/// # async fn run() {
/// let report = testing::conformance(&Acme).await;
/// println!("{report}");
/// report.assert_good();
/// # }
/// ```
pub async fn conformance(subject: &'static dyn Subject) -> Report {
    let (done, report) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("conformance".to_owned());
    // Without a thread the report is empty.
    let started = thread.spawn(move || _ = done.send(run_all(subject)));
    match (started, report.await) {
        (Ok(_), Ok(report)) => report,
        _ => Report { info: None, covers: None, findings: Vec::new() },
    }
}

/// Generates a test for each check of the conformance suite, in a module `conformance`.
///
/// Takes a [`Subject`]. To test several, put each in its own module.
///
/// ```
/// # use std::sync::Arc;
/// # use civic_messaging::{Channel, Mock, Result, testing::{Exchange, Setup, Subject}};
/// # struct Acme;
/// # impl Subject for Acme {
/// #     fn connect(&self, _: &Setup) -> Result<Arc<dyn Channel>> { Ok(Arc::new(Mock::sms())) }
/// #     fn secrets(&self) -> Vec<String> { Vec::new() }
/// #     fn exchanges(&self) -> Vec<Exchange> { Vec::new() }
/// # }
/// civic_messaging::conformance_tests!(Acme);
/// ```
#[macro_export]
macro_rules! conformance_tests {
    ($subject:expr) => {
        mod conformance {
            #[allow(unused_imports)]
            use super::*;

            $crate::__conformance_checks!($subject);
        }
    };
}

/// Runs one check by its name. A check that does not apply prints the reason and passes.
///
/// # Panics
/// If the check fails or does not exist.
#[track_caller]
#[allow(clippy::panic, reason = "a test assertion")]
pub fn assert_check(subject: &dyn Subject, name: &str) {
    let Some(check) = TABLE.iter().find(|check| check.name == name) else { panic!("unknown check: {name}") };
    match run_check(subject, check) {
        CheckOutcome::Passed => {}
        CheckOutcome::DoesNotApply(reason) => println!("does not apply: {reason}"),
        CheckOutcome::Failed(reason) => panic!("{reason}"),
    }
}

fn run_all(subject: &dyn Subject) -> Report {
    // Most checks wait for timeouts: run more of them than there are processors.
    let workers = std::thread::available_parallelism().map_or(2, usize::from) * 2;
    let next = AtomicUsize::new(0);
    let findings = Mutex::new(vec![None; TABLE.len()]);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(check) = TABLE.get(at) else { break };
                    let verdict = run_check(subject, check);
                    let mut findings = findings.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(finding) = findings.get_mut(at) {
                        *finding = Some(Finding { check: check.name, verdict });
                    }
                }
            });
        }
    });
    let info = Run::new(subject, seed()).ok().map(|run| run.info);
    let receives = info.as_ref().is_some_and(|info| info.capability.receive);
    let findings = findings.into_inner().unwrap_or_else(PoisonError::into_inner);
    Report {
        info,
        covers: receives.then(|| subject.signer().covers),
        findings: findings.into_iter().flatten().collect(),
    }
}

/// The time limit of one check: a channel that hangs fails the check in place of the test run.
const CHECK_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs one check on its own thread, which isolates its log output and its panics.
fn run_check(subject: &dyn Subject, check: &Check) -> CheckOutcome {
    let seed = seed();
    let result = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| CheckError::Failed(format!("cannot build a runtime: {error}")))?;
            let run = Run::new(subject, seed)?;
            let checked = async {
                // One failure says it, not one for each check that makes a call.
                if check.needs_calls()
                    && let Some(exchange) = run.calling()
                    && !run.reaches(&exchange).await?
                {
                    return Err(CheckError::DoesNotApply("no request reaches the fake gateway"));
                }
                (check.run)(&run).await
            };
            let limited = async { tokio::time::timeout(CHECK_TIMEOUT, checked).await };
            let done = runtime.block_on(limited);
            // Remaining tasks belong to abandoned connections.
            runtime.shutdown_background();
            done.unwrap_or_else(|_| Err(CheckError::Failed("timed out after 60 seconds".to_owned())))
        });
        thread.join()
    });
    match result {
        Ok(Ok(())) => CheckOutcome::Passed,
        Ok(Err(CheckError::DoesNotApply(reason))) => CheckOutcome::DoesNotApply(reason),
        Ok(Err(CheckError::Failed(reason))) => CheckOutcome::Failed(format!("{reason} (seed {seed})")),
        Err(panic) => {
            let message = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            CheckOutcome::Failed(format!("panicked: {} (seed {seed})", message.unwrap_or("no message")))
        }
    }
}

fn seed() -> u64 {
    std::env::var("CIVIC_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(4711)
}
