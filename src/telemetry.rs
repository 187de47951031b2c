//! All names written to `tracing` and `metrics`.
//!
//! Names follow OpenTelemetry's messaging conventions where these have one (they are still in development), and start
//! with `civic` otherwise. No value is a secret, a phone number, a gateway's id or a text.

// The layer `Trace` needs one of the two features.
#![cfg_attr(not(any(feature = "metrics", feature = "tracing")), allow(dead_code))]

#[cfg(feature = "metrics")]
use std::borrow::Cow;
use std::future::Future;
use std::time::Duration;

#[cfg(feature = "metrics")]
use crate::model::address::Medium;
use crate::model::error::{Error, Result};
use crate::model::info::Info;
use crate::model::message::Accepted;
use crate::model::secret::Fingerprint;

#[cfg(feature = "tracing")]
const TARGET: &str = "civic_messaging";

/// Logs that an attempt failed and the next one follows after `wait`.
pub(crate) fn retry_scheduled(info: &Info, error: &Error, attempts: u32, wait: Duration) {
    #[cfg(feature = "tracing")]
    tracing::info!(
        target: TARGET,
        {
            messaging.system = info.gateway,
            error.type = error.kind().as_str(),
            civic.attempt = attempts,
            civic.wait_ms = millis(wait),
        },
        "retry scheduled: {error}"
    );
    #[cfg(feature = "metrics")]
    metrics::counter!("civic_messaging.retries", "gateway" => info.gateway, "kind" => error.kind().as_str())
        .increment(1);
    _ = (info, error, attempts, wait);
}

/// Logs that an attempt failed and none follows.
pub(crate) fn not_retried(info: &Info, error: &Error, attempts: u32, reason: &'static str) {
    #[cfg(feature = "tracing")]
    let message = match reason {
        "attempts" | "budget" => "retries exhausted",
        _ => "not retried",
    };
    #[cfg(feature = "tracing")]
    tracing::debug!(
        target: TARGET,
        {
            messaging.system = info.gateway,
            error.type = error.kind().as_str(),
            civic.attempt = attempts,
            civic.stop = reason,
        },
        "{message}: {error}"
    );
    #[cfg(feature = "metrics")]
    metrics::counter!("civic_messaging.retries_exhausted", "gateway" => info.gateway, "stop" => reason).increment(1);
    _ = (info, error, attempts, reason);
}

/// Logs that one of several gateways failed, and if the next one follows.
pub(crate) fn member_failed(info: &Info, error: &Error, failing_over: bool) {
    #[cfg(feature = "tracing")]
    if failing_over {
        tracing::info!(
            target: TARGET,
            { messaging.system = info.gateway, error.type = error.kind().as_str() },
            "failing over: {error}"
        );
    } else {
        tracing::debug!(
            target: TARGET,
            { messaging.system = info.gateway, error.type = error.kind().as_str() },
            "failover stopped: {error}"
        );
    }
    #[cfg(feature = "metrics")]
    if failing_over {
        metrics::counter!("civic_messaging.failovers", "gateway" => info.gateway, "kind" => error.kind().as_str())
            .increment(1);
    }
    _ = (info, error, failing_over);
}

/// Logs that a circuit breaker opened.
pub(crate) fn circuit_opened(info: &Info, open_for: Duration) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        target: TARGET,
        { messaging.system = info.gateway, civic.wait_ms = millis(open_for) },
        "circuit breaker opened"
    );
    #[cfg(feature = "metrics")]
    metrics::counter!("civic_messaging.circuit_breaker_opened", "gateway" => info.gateway).increment(1);
    _ = (info, open_for);
}

/// Logs that a circuit breaker closed.
pub(crate) fn circuit_closed(info: &Info) {
    #[cfg(feature = "tracing")]
    tracing::info!(target: TARGET, { messaging.system = info.gateway }, "circuit breaker closed");
    _ = info;
}

/// Logs that a send was skipped because the circuit breaker is open.
pub(crate) fn skipped(info: &Info, wait: Duration) {
    #[cfg(feature = "tracing")]
    tracing::debug!(
        target: TARGET,
        { messaging.system = info.gateway, civic.wait_ms = millis(wait) },
        "skipped: circuit breaker open"
    );
    _ = (info, wait);
}

/// Logs the time that a message waited for the rate limit.
pub(crate) fn rate_limited(info: &Info, wait: Duration) {
    if wait.is_zero() {
        return;
    }
    #[cfg(feature = "tracing")]
    tracing::debug!(
        target: TARGET,
        { messaging.system = info.gateway, civic.wait_ms = millis(wait) },
        "waited for rate limit"
    );
    #[cfg(feature = "metrics")]
    metrics::histogram!("civic_messaging.rate_limit.wait", "gateway" => info.gateway).record(wait);
    _ = info;
}

/// Logs that a step of a worker failed; the worker runs it again later.
#[cfg(any(feature = "postgres", feature = "sqlite-system"))]
pub(crate) fn work_failed(what: &'static str, error: &Error) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        target: TARGET,
        { civic.work = what, error.type = error.kind().as_str() },
        "{what} failed: {error}"
    );
    _ = (what, error);
}

/// Logs and metrics of a switchboard.
#[cfg(any(feature = "postgres", feature = "sqlite-system"))]
pub(crate) mod switchboard {
    use std::time::Duration;

    #[cfg(feature = "tracing")]
    use super::{TARGET, millis};
    use crate::model::error::Error;
    use crate::model::info::Info;
    use crate::model::secret::Fingerprint;

    /// Logs a state transition, at `warn` if it needs attention. A message that `send` refused has no number.
    pub(crate) fn transition(
        line: &str,
        message: Option<i64>,
        state: &'static str,
        needs_attention: bool,
        reason: Option<&str>,
        person: impl FnOnce() -> Option<Fingerprint>,
    ) {
        #[cfg(feature = "tracing")]
        {
            let suffix = || reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            if needs_attention {
                let person = person().map(tracing::field::display);
                tracing::warn!(
                    target: TARGET,
                    { civic.line = line, civic.message = message, civic.state = state, civic.person = person },
                    "message {state}{}", suffix()
                );
            } else if tracing::enabled!(target: TARGET, tracing::Level::INFO) {
                let person = person().map(tracing::field::display);
                tracing::info!(
                    target: TARGET,
                    { civic.line = line, civic.message = message, civic.state = state, civic.person = person },
                    "message {state}{}", suffix()
                );
            }
        }
        #[cfg(not(feature = "tracing"))]
        let _ = person;
        #[cfg(feature = "metrics")]
        metrics::counter!("civic_messaging.messages", "line" => line.to_owned(), "state" => state).increment(1);
        _ = (line, message, state, needs_attention, reason);
    }

    /// Logs that a claimed message was postponed without an attempt.
    pub(crate) fn postponed(line: &str, message: i64, reason: &str) {
        #[cfg(feature = "tracing")]
        tracing::debug!(target: TARGET, { civic.line = line, civic.message = message }, "message postponed: {reason}");
        _ = (line, message, reason);
    }

    /// Logs the number of messages that a process was sending when it ended.
    pub(crate) fn interrupted(messages: u64) {
        #[cfg(feature = "tracing")]
        if messages > 0 {
            tracing::warn!(
                target: TARGET,
                { civic.messages = messages },
                "outcome unknown: process ended while sending"
            );
        }
        _ = messages;
    }

    /// Logs that the clock moved backwards.
    pub(crate) fn clock_moved_backwards(by: Duration) {
        #[cfg(feature = "tracing")]
        tracing::warn!(
            target: TARGET,
            { civic.seconds = by.as_secs() },
            "clock moved backwards: waits and leases are bounded"
        );
        _ = by;
    }

    /// Logs the number of waits shortened because they began while the clock was ahead. Implausible ones are due in more
    /// than a year.
    pub(crate) fn waits_bounded(messages: u64, events: u64, files: u64, implausible: u64) {
        #[cfg(feature = "tracing")]
        tracing::warn!(
            target: TARGET,
            {
                civic.messages = messages,
                civic.events = events,
                civic.files = files,
                civic.implausible = implausible,
            },
            "waits bounded after clock change"
        );
        _ = (messages, events, files, implausible);
    }

    /// Logs that a webhook was rejected.
    pub(crate) fn webhook_rejected(route: &str, error: &Error) {
        #[cfg(feature = "tracing")]
        tracing::warn!(
            target: TARGET,
            {
                civic.route = route,
                messaging.system = error.gateway().unwrap_or_default(),
                error.type = error.kind().as_str(),
            },
            "webhook rejected: {error}"
        );
        #[cfg(feature = "metrics")]
        metrics::counter!("civic_messaging.webhooks_rejected", "kind" => error.kind().as_str()).increment(1);
        _ = (route, error);
    }

    /// Logs that an event was parked because its tenth attempt failed.
    pub(crate) fn event_parked(line: &str, event: i64) {
        #[cfg(feature = "tracing")]
        tracing::warn!(target: TARGET, { civic.line = line, civic.event = event }, "event parked after 10 attempts");
        _ = (line, event);
    }

    /// Logs that a message of a line is due and no worker runs.
    pub(crate) fn unattended(line: &str, message: i64) {
        #[cfg(feature = "tracing")]
        tracing::warn!(
            target: TARGET,
            { civic.line = line, civic.message = message },
            "messages are due and no worker is running: start one for this line with Switchboard::run"
        );
        _ = (line, message);
    }

    /// Logs that an account cannot send until a person repairs the cause.
    pub(crate) fn suspended(info: &Info, error: &Error) {
        #[cfg(feature = "tracing")]
        tracing::warn!(
            target: TARGET,
            {
                messaging.system = info.gateway,
                civic.medium = info.medium.as_str(),
                civic.account = info.account.as_str(),
                error.type = error.kind().as_str(),
            },
            "account suspended: {error}"
        );
        #[cfg(feature = "metrics")]
        suspensions(info, 1.0);
        _ = (info, error);
    }

    /// Logs that a suspended account sends again.
    pub(crate) fn resumed(info: &Info, after: Duration) {
        #[cfg(feature = "tracing")]
        tracing::warn!(
            target: TARGET,
            {
                messaging.system = info.gateway,
                civic.medium = info.medium.as_str(),
                civic.account = info.account.as_str(),
                civic.took_ms = millis(after),
            },
            "account resumed"
        );
        #[cfg(feature = "metrics")]
        suspensions(info, 0.0);
        _ = (info, after);
    }

    #[cfg(feature = "metrics")]
    fn suspensions(info: &Info, suspended: f64) {
        let labels = [("system", info.gateway.to_owned()), ("medium", info.medium.as_str().to_owned())];
        metrics::gauge!("civic_messaging.suspended", &labels).set(suspended);
    }

    /// Logs that the file of an inbound message was fetched.
    pub(crate) fn file_fetched(line: &str, after: Duration) {
        #[cfg(feature = "tracing")]
        tracing::debug!(target: TARGET, { civic.line = line, civic.took_ms = millis(after) }, "media fetched");
        #[cfg(feature = "metrics")]
        metrics::histogram!("civic_messaging.files.duration").record(after);
        _ = (line, after);
    }

    /// Logs that the file of an inbound message cannot be fetched.
    pub(crate) fn file_failed(line: &str, error: &Error) {
        #[cfg(feature = "tracing")]
        tracing::warn!(
            target: TARGET,
            {
                messaging.system = error.gateway().unwrap_or_default(),
                error.type = error.kind().as_str(),
                civic.line = line,
            },
            "media fetch failed permanently: {error}"
        );
        #[cfg(feature = "metrics")]
        metrics::counter!("civic_messaging.files_failed", "kind" => error.kind().as_str()).increment(1);
        _ = (line, error);
    }

    /// Sets the gauge of a line's items of one kind.
    #[cfg(feature = "metrics")]
    pub(crate) fn depth(line: &str, kind: &'static str, count: u64) {
        #[allow(clippy::cast_precision_loss, reason = "a gauge is read by people")]
        metrics::gauge!("civic_messaging.depth", "line" => line.to_owned(), "kind" => kind).set(count as f64);
    }

    /// Sets the gauge of the age of a line's oldest item of one kind.
    #[cfg(feature = "metrics")]
    pub(crate) fn oldest_age(line: &str, kind: &'static str, age: Duration) {
        metrics::gauge!("civic_messaging.oldest", "line" => line.to_owned(), "kind" => kind).set(age.as_secs_f64());
    }
}

/// Returns `true` if a subscriber or a recorder may exist.
pub(crate) fn is_enabled() -> bool {
    #[cfg(feature = "tracing")]
    let traced = tracing::level_filters::LevelFilter::current() >= tracing::Level::ERROR;
    #[cfg(not(feature = "tracing"))]
    let traced = false;
    // `metrics` cannot be asked for a recorder.
    traced || cfg!(feature = "metrics")
}

/// The span of one call.
pub(crate) struct Span {
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

impl Span {
    pub(crate) fn new(call: &'static str, info: &Info, person: impl FnOnce() -> Option<Fingerprint>) -> Self {
        #[cfg(feature = "tracing")]
        {
            let span = tracing::info_span!(
                target: TARGET,
                "messaging",
                messaging.operation.name = call,
                civic.medium = info.medium.as_str(),
                civic.person = tracing::field::Empty,
            );
            // An HMAC is not cheap: compute it only if the span is recorded.
            if !span.is_disabled()
                && let Some(person) = person()
            {
                span.record("civic.person", tracing::field::display(person));
            }
            Self { span }
        }
        #[cfg(not(feature = "tracing"))]
        {
            _ = (call, info, person);
            Self {}
        }
    }

    pub(super) async fn run<T>(&self, call: impl Future<Output = T>) -> T {
        #[cfg(feature = "tracing")]
        let call = tracing::Instrument::instrument(call, self.span.clone());
        call.await
    }

    pub(crate) fn in_scope(&self, log: impl FnOnce()) {
        #[cfg(feature = "tracing")]
        self.span.in_scope(log);
        #[cfg(not(feature = "tracing"))]
        log();
    }
}

/// Logs and counts the outcome of a send.
pub(crate) fn send_finished(info: &Info, result: &Result<Accepted>, took: Duration) {
    let (outcome, kind) = match result {
        Ok(_) => ("accepted", "none"),
        Err(error) => (error.outcome().as_str(), error.kind().as_str()),
    };
    #[cfg(feature = "tracing")]
    match result {
        Ok(accepted) => {
            tracing::info!(
                target: TARGET,
                { messaging.system = accepted.gateway, civic.outcome = outcome, civic.took_ms = millis(took) },
                "accepted"
            )
        }
        Err(error) => {
            tracing::warn!(
                target: TARGET,
                {
                    messaging.system = error.gateway().unwrap_or(info.gateway),
                    error.type = kind,
                    civic.outcome = outcome,
                    civic.took_ms = millis(took),
                },
                "send failed: {error}"
            )
        }
    }
    #[cfg(feature = "metrics")]
    {
        let gateway = match result {
            Ok(accepted) => Cow::Borrowed(accepted.gateway),
            Err(error) => error.gateway().map_or(Cow::Borrowed(info.gateway), |gateway| Cow::Owned(gateway.to_owned())),
        };
        let medium = match info.medium {
            Medium::Messenger => Cow::Borrowed("messenger"),
            Medium::Sms => Cow::Borrowed("sms"),
            Medium::WhatsApp => Cow::Borrowed("whatsapp"),
            Medium::X => Cow::Borrowed("x"),
            Medium::Other(_) => Cow::Owned(info.medium.as_str().to_owned()),
        };
        // The count of this histogram is the number of sends.
        metrics::histogram!(
            "civic_messaging.send.duration",
            "gateway" => gateway, "medium" => medium, "outcome" => outcome, "kind" => kind
        )
        .record(took);
    }
    _ = (info, outcome, kind, took);
}

/// Logs and counts the outcome of any other call, with the number of events that it returned.
pub(crate) fn call_finished(info: &Info, call: &'static str, events: usize, error: Option<&Error>) {
    let outcome = error.map_or("ok", |error| error.kind().as_str());
    #[cfg(feature = "tracing")]
    match error {
        None => {
            tracing::debug!(
                target: TARGET,
                { messaging.system = info.gateway, civic.outcome = outcome, civic.events = events },
                "{call} done"
            )
        }
        Some(error) => {
            tracing::warn!(
                target: TARGET,
                { messaging.system = info.gateway, civic.outcome = outcome, error.type = outcome },
                "{call} failed: {error}"
            )
        }
    }
    #[cfg(feature = "metrics")]
    {
        metrics::counter!("civic_messaging.calls", "gateway" => info.gateway, "call" => call, "outcome" => outcome)
            .increment(1);
        metrics::counter!("civic_messaging.events", "gateway" => info.gateway).increment(events as u64);
    }
    _ = (info, call, events, outcome);
}

#[cfg(feature = "tracing")]
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
