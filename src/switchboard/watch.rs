//! Counts of what waits, and the health of the channels.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinSet;

use super::status::State;
use super::suspension::Suspension;
use super::{Switchboard, account, lock};
use crate::model::address::Medium;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::health::Health;
use crate::model::id::AccountId;
#[cfg(feature = "metrics")]
use crate::telemetry::switchboard as telemetry;

/// The maximum time for one channel's health check.
const HEALTH_MAX: Duration = Duration::from_secs(10);

/// Counts of messages and events in a store, and how long they have waited.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The counts of every line of the switchboard and of its store; under `None` the events of no line.
    pub lines: BTreeMap<Option<String>, Counts>,
    /// The suspended accounts, which need a repair. Their messages wait, and one at a time is sent as a probe: after 2
    /// seconds, then with backoff up to every 5 minutes.
    ///
    /// It is local to the worker of this switchboard: a program without a worker, and other processes, do not have it.
    pub suspended: Vec<Suspension>,
}

/// Counts of one line, or of all.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The number of messages in each state, including those with removed content.
    pub messages: BTreeMap<State, u64>,
    /// The number of messages that are due and not claimed.
    pub due: u64,
    /// The due time of the oldest of these.
    pub oldest_due: Option<Timestamp>,
    /// The number of queued or deferred messages due in more than a year, probably by mistake.
    ///
    /// A caller or a policy set the time, perhaps by a clock that ran ahead. [`Switchboard::cancel`] cancels one, and
    /// [`Resolution::Resend`](super::Resolution::Resend) then sends it now.
    pub implausible: u64,
    /// The number of unacknowledged events.
    pub unread: u64,
    /// The arrival time of the oldest of these.
    pub oldest_unread: Option<Timestamp>,
    /// The number of parked events: see [`LineInbox::parked`](super::LineInbox::parked).
    pub parked_events: u64,
    /// The number of files that are still to be fetched.
    pub files: u64,
}

/// The health of a channel of a line.
#[non_exhaustive]
#[derive(Debug)]
pub struct ChannelHealth {
    /// The line.
    pub line: String,
    /// The gateway.
    pub gateway: &'static str,
    /// The medium.
    pub medium: Medium,
    /// Our account at the gateway.
    pub account: AccountId,
    /// The result of its health check: [`ErrorKind::Unsupported`] if the gateway has none.
    pub health: Result<Health>,
    /// The suspension, if the worker of this switchboard has suspended the account: see [`Stats::suspended`].
    pub suspended: Option<Suspension>,
}

impl Stats {
    /// Returns the sum over all lines.
    pub fn all(&self) -> Counts {
        let older = |one: Option<Timestamp>, other: Option<Timestamp>| one.into_iter().chain(other).min();
        self.lines.values().fold(Counts::default(), |mut all, line| {
            for (state, count) in &line.messages {
                *all.messages.entry(*state).or_default() += count;
            }
            all.due += line.due;
            all.implausible += line.implausible;
            all.oldest_due = older(all.oldest_due, line.oldest_due);
            all.unread += line.unread;
            all.oldest_unread = older(all.oldest_unread, line.oldest_unread);
            all.parked_events += line.parked_events;
            all.files += line.files;
            all
        })
    }

    /// Returns the counts of one line: `None` if neither the switchboard nor its store has it.
    pub fn line(&self, id: &str) -> Option<Counts> {
        self.lines.get(&Some(id.to_owned())).cloned()
    }

    pub(super) fn counts_mut(&mut self, line: Option<String>) -> &mut Counts {
        self.lines.entry(line).or_default()
    }
}

impl Counts {
    /// Returns the number of messages in this state.
    pub fn count(&self, state: State) -> u64 {
        self.messages.get(&state).copied().unwrap_or(0)
    }

    /// Adds messages of a state, with the number due and the oldest due time.
    pub(super) fn add(&mut self, state: State, count: u64, (due, oldest): (u64, Option<Timestamp>)) {
        *self.messages.entry(state).or_default() += count;
        if matches!(state, State::Deferred | State::Queued) {
            self.due += due;
            self.oldest_due = self.oldest_due.into_iter().chain(oldest).min();
        }
    }
}

impl Switchboard {
    /// Returns the counts of messages and events: see [`Stats`].
    ///
    /// It blocks no writer, and reads no settled message.
    ///
    /// # Errors
    /// Those of [`status`](Self::status).
    pub async fn stats(&self) -> Result<Stats> {
        let mut stats = self.0.store.0.stats(self.0.clock.now()).await?;
        for line in self.0.lines.keys() {
            stats.counts_mut(Some(line.clone()));
        }
        let account_states = self.0.account_states.values().map(lock);
        stats.suspended = account_states.filter_map(|account_state| account_state.suspension().cloned()).collect();
        stats.suspended.sort_by_key(|one| (one.since, one.gateway, one.account.clone()));
        Ok(stats)
    }

    /// Checks that the store can be read.
    #[cfg(feature = "axum")]
    pub(crate) async fn check_store(&self) -> Result<()> {
        let first = self.0.lines.keys().next().map(String::as_str).unwrap_or_default();
        self.0.store.0.has_line(first).await.map(drop)
    }

    /// Checks the health of every channel of every line, concurrently, each for at most 10 seconds. Requires a tokio
    /// runtime.
    pub async fn health(&self) -> Vec<ChannelHealth> {
        let mut checks = JoinSet::new();
        let mut healths = Vec::new();
        for (line, channel) in self.0.lines.values().flat_map(|line| line.channels.iter().map(move |one| (line, one))) {
            let (info, n, clock) = (channel.info(), healths.len(), self.0.clock.clone());
            healths.push(ChannelHealth {
                line: line.id.clone(),
                gateway: info.gateway,
                medium: info.medium.clone(),
                account: info.account.clone(),
                health: Err(failed(info.gateway, "the adapter panicked during the health check")),
                suspended: self.0.account_states.get(&account(info)).and_then(|one| lock(one).suspension().cloned()),
            });
            let channel = channel.clone();
            checks.spawn(async move {
                tokio::select! {
                    health = channel.health() => (n, health),
                    () = clock.sleep(HEALTH_MAX) => (n, Err(failed(channel.info().gateway, "no response within 10 seconds"))),
                }
            });
        }
        while let Some(checked) = checks.join_next().await {
            if let Ok((n, health)) = checked
                && let Some(checks) = healths.get_mut(n)
            {
                checks.health = health;
            }
        }
        healths
    }
}

#[cfg(feature = "metrics")]
impl Switchboard {
    /// Records the counts and the ages as metrics.
    pub(super) async fn record_depth(&self) -> Result<()> {
        let (stats, now) = (self.stats().await?, self.0.clock.now());
        for (line, counts) in &stats.lines {
            let line = line.as_deref().unwrap_or_default();
            for state in State::ALL {
                telemetry::depth(line, state.as_str(), counts.count(state));
            }
            for (kind, count) in [
                ("due", counts.due),
                ("implausible", counts.implausible),
                ("unread", counts.unread),
                ("files", counts.files),
                ("parked_events", counts.parked_events),
            ] {
                telemetry::depth(line, kind, count);
            }
            for (kind, oldest) in [("due", counts.oldest_due), ("unread", counts.oldest_unread)] {
                telemetry::oldest_age(line, kind, oldest.map_or(Duration::ZERO, |oldest| now.since(oldest)));
            }
        }
        Ok(())
    }
}

fn failed(gateway: &'static str, what: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, what).with_gateway(gateway)
}
