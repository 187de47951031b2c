//! Every name that is written to `tracing` and `metrics`, in this one place.
//!
//! The names are those of OpenTelemetry's conventions for messaging where there are any (they are still in development),
//! and begin with `civic` where there are none. No value is a secret, a number, a gateway's id or a text.

// Without either feature there is no layer `Trace`.
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

/// A try failed, and there is another one after this wait.
pub(crate) fn retrying(info: &Info, error: &Error, times: u32, wait: Duration) {
    #[cfg(feature = "tracing")]
    tracing::info!(
        target: TARGET,
        {
            messaging.system = info.gateway,
            error.type = error.kind().as_str(),
            civic.attempt = times,
            civic.wait_ms = millis(wait),
        },
        "to be tried again: {error}"
    );
    #[cfg(feature = "metrics")]
    metrics::counter!("civic_messaging.retries", "gateway" => info.gateway, "kind" => error.kind().as_str())
        .increment(1);
    _ = (info, error, times, wait);
}

/// The last try failed.
pub(crate) fn gave_up(info: &Info, error: &Error, times: u32, reason: &'static str) {
    #[cfg(feature = "tracing")]
    tracing::debug!(
        target: TARGET,
        {
            messaging.system = info.gateway,
            error.type = error.kind().as_str(),
            civic.attempt = times,
            civic.stop = reason,
        },
        "not tried again: {error}"
    );
    #[cfg(feature = "metrics")]
    metrics::counter!("civic_messaging.given_up", "gateway" => info.gateway, "stop" => reason).increment(1);
    _ = (info, error, times, reason);
}

/// One of several gateways failed, and the message is carried on, or not.
pub(crate) fn failed_at(info: &Info, error: &Error, moves_on: bool) {
    #[cfg(feature = "tracing")]
    if moves_on {
        tracing::info!(
            target: TARGET,
            { messaging.system = info.gateway, error.type = error.kind().as_str() },
            "carried to the next gateway: {error}"
        );
    } else {
        tracing::debug!(
            target: TARGET,
            { messaging.system = info.gateway, error.type = error.kind().as_str() },
            "carried no further: {error}"
        );
    }
    #[cfg(feature = "metrics")]
    if moves_on {
        metrics::counter!("civic_messaging.failovers", "gateway" => info.gateway, "kind" => error.kind().as_str())
            .increment(1);
    }
    _ = (info, error, moves_on);
}

/// A circuit breaker opened, for so long.
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

/// A circuit breaker closed.
pub(crate) fn circuit_closed(info: &Info) {
    #[cfg(feature = "tracing")]
    tracing::info!(target: TARGET, { messaging.system = info.gateway }, "circuit breaker closed");
    _ = info;
}

/// A gateway that did not answer lately was not asked.
pub(crate) fn left_alone(info: &Info, rest: Duration) {
    #[cfg(feature = "tracing")]
    tracing::debug!(
        target: TARGET,
        { messaging.system = info.gateway, civic.wait_ms = millis(rest) },
        "not asked, because it did not answer lately"
    );
    _ = (info, rest);
}

/// A message waited for its turn.
pub(crate) fn waited(info: &Info, wait: Duration) {
    if wait.is_zero() {
        return;
    }
    #[cfg(feature = "tracing")]
    tracing::debug!(
        target: TARGET,
        { messaging.system = info.gateway, civic.wait_ms = millis(wait) },
        "waited for its turn"
    );
    #[cfg(feature = "metrics")]
    metrics::histogram!("civic_messaging.rate_limit.wait", "gateway" => info.gateway).record(wait);
    _ = info;
}

/// A piece of a worker's work failed, and is waited out.
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

/// What a switchboard tells of its work.
#[cfg(any(feature = "postgres", feature = "sqlite-system"))]
pub(crate) mod switchboard {
    use std::time::Duration;

    #[cfg(feature = "tracing")]
    use super::{TARGET, millis};
    use crate::model::error::Error;
    use crate::model::info::Info;
    use crate::model::secret::Fingerprint;

    /// A message stands somewhere else now; `grave` where somebody should look. One that was not taken has no number.
    pub(crate) fn stands(
        line: &str,
        message: Option<i64>,
        state: &'static str,
        grave: bool,
        why: Option<&str>,
        person: impl FnOnce() -> Option<Fingerprint>,
    ) {
        #[cfg(feature = "tracing")]
        {
            let because = || why.map(|why| format!(": {why}")).unwrap_or_default();
            if grave {
                let person = person().map(tracing::field::display);
                tracing::warn!(
                    target: TARGET,
                    { civic.line = line, civic.message = message, civic.state = state, civic.person = person },
                    "a message is {state}{}", because()
                );
            } else if tracing::enabled!(target: TARGET, tracing::Level::INFO) {
                let person = person().map(tracing::field::display);
                tracing::info!(
                    target: TARGET,
                    { civic.line = line, civic.message = message, civic.state = state, civic.person = person },
                    "a message is {state}{}", because()
                );
            }
        }
        #[cfg(not(feature = "tracing"))]
        let _ = person;
        #[cfg(feature = "metrics")]
        metrics::counter!("civic_messaging.messages", "line" => line.to_owned(), "state" => state).increment(1);
        _ = (line, message, state, grave, why);
    }

    /// A claimed message is put off, without a try.
    pub(crate) fn put_off(line: &str, message: i64, why: &str) {
        #[cfg(feature = "tracing")]
        tracing::debug!(target: TARGET, { civic.line = line, civic.message = message }, "a message is put off: {why}");
        _ = (line, message, why);
    }

    /// A worker that ended left messages behind that may have gone.
    pub(crate) fn left_behind(messages: u64) {
        #[cfg(feature = "tracing")]
        if messages > 0 {
            tracing::warn!(
                target: TARGET,
                { civic.messages = messages },
                "messages may have gone: a process ended while they were being sent"
            );
        }
        _ = messages;
    }

    /// The clock was set back.
    pub(crate) fn clock_went_back(by: Duration) {
        #[cfg(feature = "tracing")]
        tracing::warn!(
            target: TARGET,
            { civic.seconds = by.as_secs() },
            "the clock was set back: waits and leases that began before are bounded"
        );
        _ = by;
    }

    /// What began while the clock was ahead waits no longer than it was to, from now on.
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
            "waits bounded after the clock was set back; implausible ones are due in more than a year"
        );
        _ = (messages, events, files, implausible);
    }

    /// A webhook was not taken in.
    pub(crate) fn refused(route: &str, error: &Error) {
        #[cfg(feature = "tracing")]
        tracing::warn!(
            target: TARGET,
            {
                civic.route = route,
                messaging.system = error.gateway().unwrap_or_default(),
                error.type = error.kind().as_str(),
            },
            "a webhook was refused: {error}"
        );
        #[cfg(feature = "metrics")]
        metrics::counter!("civic_messaging.webhooks_refused", "kind" => error.kind().as_str()).increment(1);
        _ = (route, error);
    }

    /// Logs that an event was parked, because its tenth attempt failed.
    pub(crate) fn event_parked(line: &str, event: i64) {
        #[cfg(feature = "tracing")]
        tracing::warn!(target: TARGET, { civic.line = line, civic.event = event }, "event parked after 10 attempts");
        _ = (line, event);
    }

    /// Logs that a message of a line is due, and no worker has been there to claim it.
    pub(crate) fn unattended(line: &str, message: i64) {
        #[cfg(feature = "tracing")]
        tracing::warn!(
            target: TARGET,
            { civic.line = line, civic.message = message },
            "messages are due and no worker is running: start one for this line with Switchboard::run"
        );
        _ = (line, message);
    }

    /// An account cannot send, for a reason that somebody has to repair.
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
            "account suspended, its messages wait: {error}"
        );
        #[cfg(feature = "metrics")]
        suspensions(info, 1.0);
        _ = (info, error);
    }

    /// A suspended account sends again, after this time.
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

    /// A file of a resident's message was fetched after this time.
    pub(crate) fn file_held(line: &str, after: Duration) {
        #[cfg(feature = "tracing")]
        tracing::debug!(target: TARGET, { civic.line = line, civic.took_ms = millis(after) }, "media fetched");
        #[cfg(feature = "metrics")]
        metrics::histogram!("civic_messaging.files.duration").record(after);
        _ = (line, after);
    }

    /// A file of a resident's message cannot be fetched.
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

    /// How much of one kind there is of a line now.
    #[cfg(feature = "metrics")]
    pub(crate) fn depth(line: &str, kind: &'static str, count: u64) {
        #[allow(clippy::cast_precision_loss, reason = "a gauge is read by people")]
        metrics::gauge!("civic_messaging.depth", "line" => line.to_owned(), "kind" => kind).set(count as f64);
    }

    /// How long the oldest of one kind has waited.
    #[cfg(feature = "metrics")]
    pub(crate) fn age(line: &str, kind: &'static str, age: Duration) {
        metrics::gauge!("civic_messaging.oldest", "line" => line.to_owned(), "kind" => kind).set(age.as_secs_f64());
    }
}

/// Whether anybody could be listening.
pub(crate) fn is_heard() -> bool {
    #[cfg(feature = "tracing")]
    let traced = tracing::level_filters::LevelFilter::current() >= tracing::Level::ERROR;
    #[cfg(not(feature = "tracing"))]
    let traced = false;
    // `metrics` does not tell whether there is a recorder.
    traced || cfg!(feature = "metrics")
}

/// What all that happens in one call is written under.
pub(crate) struct Span {
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

impl Span {
    pub(crate) fn of(call: &'static str, info: &Info, person: impl FnOnce() -> Option<Fingerprint>) -> Self {
        #[cfg(feature = "tracing")]
        {
            let span = tracing::info_span!(
                target: TARGET,
                "messaging",
                messaging.operation.name = call,
                civic.medium = info.medium.as_str(),
                civic.person = tracing::field::Empty,
            );
            // A fingerprint takes a while to make: only where somebody reads it.
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

    pub(crate) fn tell(&self, tell: impl FnOnce()) {
        #[cfg(feature = "tracing")]
        self.span.in_scope(tell);
        #[cfg(not(feature = "tracing"))]
        tell();
    }
}

/// A send has ended.
pub(crate) fn sent(info: &Info, sent: &Result<Accepted>, took: Duration) {
    let (outcome, kind) = match sent {
        Ok(_) => ("accepted", "none"),
        Err(error) => (error.outcome().as_str(), error.kind().as_str()),
    };
    #[cfg(feature = "tracing")]
    match sent {
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
                "not accepted: {error}"
            )
        }
    }
    #[cfg(feature = "metrics")]
    {
        let gateway = match sent {
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
        // Its count is that of the sends.
        metrics::histogram!(
            "civic_messaging.send.duration",
            "gateway" => gateway, "medium" => medium, "outcome" => outcome, "kind" => kind
        )
        .record(took);
    }
    _ = (info, outcome, kind, took);
}

/// Another call has ended; `events` are those that it brought.
pub(crate) fn done(info: &Info, call: &'static str, events: usize, failed: Option<&Error>) {
    let outcome = failed.map_or("ok", |error| error.kind().as_str());
    #[cfg(feature = "tracing")]
    match failed {
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
