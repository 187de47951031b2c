//! What stands where, and whether the channels work.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinSet;

use super::outbox::State;
use super::suspension::Suspension;
use super::{Switchboard, account, held};
use crate::model::address::Medium;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::health::Health;
use crate::model::id::AccountId;
#[cfg(feature = "metrics")]
use crate::telemetry::switchboard as telemetry;

/// How long a channel is waited for that is asked for its health.
const HEALTH_MAX: Duration = Duration::from_secs(10);

/// What stands where in a store, and what waits for how long.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Every line of the switchboard, and those of the store that this program does not know; under none the events that
    /// are of no line.
    pub lines: BTreeMap<Option<String>, Counts>,
    /// The accounts that cannot send until somebody repairs something. Their messages wait, and one at a time is tried: after
    /// 2 seconds, then ever more rarely, up to every 5 minutes.
    ///
    /// It is what the worker of this switchboard found: a program without one, or another process, does not know of it.
    pub suspended: Vec<Suspension>,
}

/// What stands where in one line, or in all.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many messages stand in each state; those that have lost their content count as well.
    pub messages: BTreeMap<State, u64>,
    /// How many messages could go now and have not been claimed yet.
    pub due: u64,
    /// Since when the oldest of these has been due.
    pub oldest_due: Option<Timestamp>,
    /// How many messages are queued or deferred for a time more than a year from now: nobody may have meant it. A caller or
    /// a policy named it, perhaps by a clock that ran ahead; [`Switchboard::cancel`] calls such a message back, and
    /// [`Resolution::Resend`](super::Resolution::Resend) then sends it now.
    pub implausible: u64,
    /// How many events nobody has acknowledged.
    pub unread: u64,
    /// When the oldest of these came.
    pub oldest_unread: Option<Timestamp>,
    /// How many events were delivered ten times and never acknowledged: see [`LineInbox::parked`](super::LineInbox::parked).
    pub parked_events: u64,
    /// How many files are still to be fetched.
    pub files: u64,
}

/// How a channel of a line is.
#[non_exhaustive]
#[derive(Debug)]
pub struct ChannelHealth {
    /// The line.
    pub line: String,
    /// The gateway.
    pub gateway: &'static str,
    /// The medium.
    pub medium: Medium,
    /// Our own account there.
    pub account: AccountId,
    /// What it says of itself, or why it says nothing: [`ErrorKind::Unsupported`] where the gateway has no such question.
    pub health: Result<Health>,
    /// Why the worker of this switchboard does not send by it, if it does not: see [`Stats::suspended`].
    pub suspended: Option<Suspension>,
}

impl Stats {
    /// All lines together.
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

    /// One line: none where neither the switchboard nor its store has it.
    pub fn line(&self, id: &str) -> Option<Counts> {
        self.lines.get(&Some(id.to_owned())).cloned()
    }

    pub(super) fn of(&mut self, line: Option<String>) -> &mut Counts {
        self.lines.entry(line).or_default()
    }
}

impl Counts {
    /// How many messages stand in this state.
    pub fn count(&self, state: State) -> u64 {
        self.messages.get(&state).copied().unwrap_or(0)
    }

    /// Adds messages of a state, and how many of them are due since when.
    pub(super) fn add(&mut self, state: State, count: u64, (due, oldest): (u64, Option<Timestamp>)) {
        *self.messages.entry(state).or_default() += count;
        if matches!(state, State::Deferred | State::Queued) {
            self.due += due;
            self.oldest_due = self.oldest_due.into_iter().chain(oldest).min();
        }
    }
}

impl Switchboard {
    /// What stands where, and what waits for how long: see [`Stats`].
    ///
    /// It holds nobody up, and reads no message that is settled.
    ///
    /// # Errors
    /// Those of [`status`](Self::status).
    pub async fn stats(&self) -> Result<Stats> {
        let mut stats = self.0.store.0.stats(self.0.clock.now()).await?;
        for line in self.0.lines.keys() {
            stats.of(Some(line.clone()));
        }
        let standings = self.0.standings.values().map(held);
        stats.suspended = standings.filter_map(|standing| standing.suspension().cloned()).collect();
        stats.suspended.sort_by_key(|one| (one.since, one.gateway, one.account.clone()));
        Ok(stats)
    }

    /// Asks every channel of every line how it is: all at once, and each for 10 seconds at most. It runs within tokio.
    pub async fn health(&self) -> Vec<ChannelHealth> {
        let mut asked = JoinSet::new();
        let mut healths = Vec::new();
        for (line, channel) in self.0.lines.values().flat_map(|line| line.channels.iter().map(move |one| (line, one))) {
            let (info, n, clock) = (channel.info(), healths.len(), self.0.clock.clone());
            healths.push(ChannelHealth {
                line: line.id.clone(),
                gateway: info.gateway,
                medium: info.medium.clone(),
                account: info.account.clone(),
                health: Err(failed(info.gateway, "the adapter panicked when it was asked")),
                suspended: self.0.standings.get(&account(info)).and_then(|one| held(one).suspension().cloned()),
            });
            let channel = channel.clone();
            asked.spawn(async move {
                tokio::select! {
                    health = channel.health() => (n, health),
                    () = clock.sleep(HEALTH_MAX) => (n, Err(failed(channel.info().gateway, "no answer in 10 seconds"))),
                }
            });
        }
        while let Some(answered) = asked.join_next().await {
            if let Ok((n, health)) = answered
                && let Some(asked) = healths.get_mut(n)
            {
                asked.health = health;
            }
        }
        healths
    }
}

#[cfg(feature = "metrics")]
impl Switchboard {
    /// Tells what stands where, and what waits for how long.
    pub(super) async fn tell_depth(&self) -> Result<()> {
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
