//! For tests: the conformance suite, which says when an adapter is right, and a double of any gateway.
//!
//! Describe an adapter as a [`Subject`], and one line in its tests makes a test of each check:
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
//! [`conformance`] runs them all and gives a [`Report`]. The checks are chosen by what the channel declares: what is
//! declared must work, and what is not must be refused before the network. They are named in [`CHECKS`].
//!
//! Wherever chance plays a part it is seeded: `CIVIC_SEED=n` replays a failure, which names its seed.
//!
//! A [`FakeGateway`] serves the tests of embedders as well: a gateway on loopback that breaks connections as it is told, and
//! counts what it accepted.
//!
//! [The guide](crate::docs::adapter) walks through an adapter, from its files to the checks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

mod checks;
mod fake_gateway;
mod leaks;
mod report;
mod run;
mod step;
mod subject;

pub use fake_gateway::{FakeGateway, ReceivedRequest};
pub use report::{CheckOutcome, Finding, Report};
pub use step::{SocketFault, Step};
pub use subject::{Exchange, ExpectedEvent, Setup, Signer, Subject, Webhook};

use checks::{Check, TABLE};
use run::{Run, Stop};

pub use checks::CHECKS;

/// Runs every check that applies to the adapter.
///
/// Takes some seconds, on threads of its own; works under any async runtime.
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
    let all = std::thread::Builder::new().name("conformance".to_owned());
    // A machine that gives no thread gives no report either.
    let started = all.spawn(move || _ = done.send(examined(subject)));
    match (started, report.await) {
        (Ok(_), Ok(report)) => report,
        _ => Report { info: None, covers: None, findings: Vec::new() },
    }
}

/// Makes a test of each check of the conformance suite, in a module `conformance`.
///
/// Takes a [`Subject`]. Used for several, each stands in a module of its own.
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

/// Runs one check, by its name; a check that does not apply passes, and says why.
///
/// # Panics
/// When the check fails, and when there is none of that name.
#[track_caller]
#[allow(clippy::panic, reason = "it is what a test does")]
pub fn assert_check(subject: &dyn Subject, name: &str) {
    let Some(check) = TABLE.iter().find(|check| check.name == name) else { panic!("no check is called {name}") };
    match verdict(subject, check) {
        CheckOutcome::Passed => {}
        CheckOutcome::DoesNotApply(why) => println!("does not apply: {why}"),
        CheckOutcome::Failed(why) => panic!("{why}"),
    }
}

fn examined(subject: &dyn Subject) -> Report {
    // Most checks wait for time-outs, so that more can run at once than there are processors.
    let workers = std::thread::available_parallelism().map_or(2, usize::from) * 2;
    let next = AtomicUsize::new(0);
    let findings = Mutex::new(vec![None; TABLE.len()]);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(check) = TABLE.get(at) else { break };
                    let verdict = verdict(subject, check);
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

/// The longest that one check may take: a channel that never comes back is a failure, and no test that hangs.
const TIME: Duration = Duration::from_secs(60);

/// Runs one check on a thread of its own: what it logs is its own, and a panic ends nothing else.
fn verdict(subject: &dyn Subject, check: &Check) -> CheckOutcome {
    let seed = seed();
    let checked = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| Stop::Failed(format!("no runtime can be built: {error}")))?;
            let run = Run::new(subject, seed)?;
            let limited = async { tokio::time::timeout(TIME, (check.run)(&run)).await };
            let done = runtime.block_on(limited);
            // What still runs there belongs to connections that nobody waits for.
            runtime.shutdown_background();
            done.unwrap_or_else(|_| Err(Stop::Failed("it did not come to an end within 60 seconds".to_owned())))
        });
        thread.join()
    });
    match checked {
        Ok(Ok(())) => CheckOutcome::Passed,
        Ok(Err(Stop::DoesNotApply(why))) => CheckOutcome::DoesNotApply(why),
        Ok(Err(Stop::Failed(why))) => CheckOutcome::Failed(format!("{why} (seed {seed})")),
        Err(panic) => {
            let words = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            CheckOutcome::Failed(format!("it panicked: {} (seed {seed})", words.unwrap_or("no words")))
        }
    }
}

fn seed() -> u64 {
    std::env::var("CIVIC_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(4711)
}
