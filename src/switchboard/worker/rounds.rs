//! Periodic work: recovery, look-ups, polls, retention and fallbacks.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;

use super::super::fallback::{Answer, has_delivery_reports};
use super::super::outbox::{self, EXPIRED};
use super::super::record::{Answers, Bounded, Claimed, FELL_BACK, FallbackRow, Leases, Settle, Unbounded};
use super::super::status::{Id, State};
use super::super::{Switchboard, inbox, refused};
use super::{DAMAGED, ROUND, contained, log_failure};
use crate::channel::Channel;
use crate::model::clock::{Clock, Timestamp};
use crate::model::error::Result;
use crate::model::event::{Delivery, DeliveryOf};
use crate::model::lookup::{LookupOutcome, LookupQuery};
use crate::model::message::Message;
use crate::policy::Decision;
use crate::telemetry::switchboard as telemetry;

/// Items removed in one transaction, the pause after it, and the maximum number of transactions in one round.
const PURGE_MAX: u32 = 200;
const PURGE_PAUSE: Duration = Duration::from_millis(50);
const PURGES_MAX: u32 = 100;

/// The pause between transactions while waits are bounded.
const BOUND_PAUSE: Duration = Duration::from_millis(10);

/// The maximum number of concurrent look-ups or polls, and the maximum time of each.
const LOOK_UPS_MAX: usize = 16;
const LOOK_UP_MAX: Duration = Duration::from_secs(30);
const POLL_MAX: Duration = Duration::from_secs(60);

/// The maximum number of messages expired at once.
const EXPIRED_MAX: u32 = 100;

/// The periodic work of a worker. Each kind runs concurrently with the others, and none delays another.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    correcting: JoinSet<()>,
    recovering: JoinSet<()>,
    asking: JoinSet<()>,
    polling: JoinSet<()>,
    purging: JoinSet<()>,
}

impl Rounds {
    /// Starts a round of each kind whose last one has ended.
    pub(super) fn spawn(&mut self, switchboard: &Switchboard) {
        again(&mut self.correcting, || switchboard.clone().correct_clock());
        again(&mut self.recovering, || switchboard.clone().recover());
        again(&mut self.asking, || switchboard.clone().ask());
        again(&mut self.polling, || switchboard.clone().poll_all());
        again(&mut self.purging, || switchboard.clone().tidy());
    }

    pub(super) async fn shutdown(&mut self) {
        let Self { correcting, recovering, asking, polling, purging } = self;
        for kind in [correcting, recovering, asking, polling, purging] {
            kind.shutdown().await;
        }
    }
}

fn again<F: Future<Output = ()> + Send + 'static>(kind: &mut JoinSet<()>, round: impl FnOnce() -> F) {
    while kind.try_join_next().is_some() {}
    if kind.is_empty() {
        kind.spawn(round());
    }
}

impl Switchboard {
    /// Records the time. If the clock was set back, bounds the waits that began while it was ahead.
    async fn correct_clock(self) {
        let (inner, store) = (&*self.0, &self.0.store.0);
        let (now, latest) = (inner.clock.now(), inner.latest.load(Ordering::Acquire));
        let set_back_by = log_failure("clock", store.clock_went_back(now, Timestamp::from_millis(latest)).await);
        let Some(Some(by)) = set_back_by else { return };
        telemetry::clock_moved_backwards(by);
        let leases = Leases {
            message: inner.lease,
            event: inbox::LEASE,
            file: super::files::LEASE,
            removal: super::files::REMOVAL.1,
        };
        let (mut next, mut all) = (Some(Unbounded::Messages(i64::MIN)), Bounded::default());
        while let Some(part) = next {
            // If the store fails, the next round starts again.
            let Some((after, bounded)) = log_failure("clock", store.bound(part, inner.clock.now(), leases).await)
            else {
                return;
            };
            all = all.plus(bounded);
            next = after;
            inner.clock.sleep(BOUND_PAUSE).await;
        }
        let now = inner.clock.now();
        if log_failure("clock", store.note_time(now).await).is_some() {
            inner.latest.store(now.as_millis(), Ordering::Release);
        }
        telemetry::waits_bounded(all.messages, all.events, all.files, all.implausible);
        inner.to_send.notify_one();
        inner.to_fetch.notify_one();
        inner.to_read.notify_all();
    }

    /// Recovers claims that were never released, also of other workers: this may be the only one left.
    async fn recover(self) {
        let lines = self.0.lines.keys().cloned().collect();
        log_failure("attend", self.0.store.0.attend(lines, self.0.clock.now()).await);
        if let Some(recovered) = log_failure("recover", self.0.store.0.recover(self.0.clock.now(), false).await) {
            telemetry::interrupted(recovered.unknown);
        }
        self.0.to_read.notify_all();
    }

    /// Looks up messages with an unknown outcome.
    async fn ask(self) {
        let look_ups_due = self.0.store.0.look_ups_due(self.0.clock.now(), ROUND, 100).await;
        let mut look_ups = JoinSet::new();
        for claimed in log_failure("doubtful", look_ups_due).unwrap_or_default() {
            if look_ups.len() >= LOOK_UPS_MAX {
                look_ups.join_next().await;
            }
            let switchboard = self.clone();
            look_ups.spawn(async move { log_failure("look_up", switchboard.look_up(&claimed).await) });
        }
        while look_ups.join_next().await.is_some() {}
        self.0.to_read.notify_all();
    }

    /// Polls the channels that are received by poll, concurrently.
    async fn poll_all(self) {
        let mut polled = JoinSet::new();
        for channel in &self.0.polled {
            let (switchboard, channel) = (self.clone(), channel.clone());
            polled.spawn(async move { log_failure("poll", switchboard.poll(&channel).await) });
        }
        while polled.join_next().await.is_some() {}
        self.0.to_read.notify_all();
    }

    /// Applies retention, and records metrics.
    async fn tidy(self) {
        log_failure("purge", self.purge().await);
        #[cfg(feature = "metrics")]
        log_failure("stats", self.record_depth().await);
    }

    /// Sends due fallbacks. A message that may still be sent is cancelled only if its fallback may be sent.
    pub(super) async fn fall_back(self) {
        let expired = self.0.store.0.expire(self.0.clock.now(), EXPIRED_MAX).await;
        for (id, line, state) in log_failure("expire", expired).unwrap_or_default() {
            self.0.log_state(&line, Some(id), state, Some(EXPIRED), None);
            self.0.to_read.notify(Some(&line));
        }
        let (store, now) = (&self.0.store.0, self.0.clock.now());
        let due_fallbacks = log_failure("fallback", store.due_fallbacks(now).await).unwrap_or_default();
        if due_fallbacks.is_empty() {
            return;
        }
        let ids: Vec<_> = due_fallbacks.iter().filter_map(FallbackRow::lookup_query).collect();
        let mut answers = self.delivered(ids).await;
        for (id, line, message) in due_fallbacks.iter().filter_map(FallbackRow::policy_query) {
            answers.insert(id, Answer::Policy(self.decided(line, message, now).await));
        }
        let Some(results) = log_failure("fallback", store.fall_back(now, answers.clone()).await) else { return };
        if !results.to_send.is_empty() {
            self.0.to_send.notify_one();
        }
        for (id, line) in &results.cancelled {
            self.0.log_state(line, Some(*id), State::Cancelled, Some(FELL_BACK), None);
        }
        for (id, instead) in &results.to_send {
            self.0.log_state(&instead.line, Some(*id), State::Queued, None, Some(&instead.message.to));
        }
        for (id, line, message) in due_fallbacks.iter().filter_map(FallbackRow::policy_query) {
            if let Some(Answer::Policy(Decision::Refuse(reason))) = answers.get(&id)
                && results.refused.contains(&Id(id))
            {
                let why = refused(reason).with_field("fallback").to_string();
                self.0.log_state(line, None, State::Refused, Some(&why), Some(&message.to));
            }
        }
    }

    /// Finds out whether accepted messages were delivered, by look-up if the channel reports no deliveries.
    async fn delivered(&self, ids: Vec<i64>) -> Answers {
        let mut answers: Answers = ids.iter().map(|id| (*id, Answer::Unclear)).collect();
        if ids.is_empty() {
            return answers;
        }
        let accepted = log_failure("fallback", self.0.store.0.read(ids).await).unwrap_or_default();
        let (mut accepted, mut look_ups) = (accepted.into_iter(), JoinSet::new());
        loop {
            for claimed in accepted.by_ref().take(LOOK_UPS_MAX - look_ups.len()) {
                let board = self.clone();
                look_ups.spawn(async move { (claimed.hold.id.0, board.delivery_of(&claimed).await) });
            }
            match look_ups.join_next().await {
                Some(Ok((id, answer))) => drop(answers.insert(id, answer)),
                // A panic of the adapter is inconclusive.
                Some(Err(_)) => {}
                None => return answers,
            }
        }
    }

    async fn delivery_of(&self, claimed: &Claimed) -> Answer {
        let (Some(message), Ok(line)) = (&claimed.message, self.0.line(&claimed.line)) else { return Answer::Unclear };
        let last = claimed.attempts.last();
        let mut suppliers = line.suppliers(&message.to).into_iter();
        let Some(channel) = suppliers.find(|channel| last.is_some_and(|last| last.is_by(channel))) else {
            return Answer::Unclear;
        };
        let can = &channel.info().capability;
        if has_delivery_reports(can) {
            return Answer::NotDelivered;
        }
        let at = last.map_or(claimed.queued, |last| last.at);
        match ask(&*self.0.clock, channel, claimed, message, at).await {
            LookupOutcome::Found(deliveries) => {
                let stored = log_failure("look_up", self.take_found(message, &deliveries).await);
                stored.map_or(Answer::Unclear, |()| Answer::NotDelivered)
            }
            _ => Answer::Unclear,
        }
    }

    /// Stores the deliveries that a look-up found.
    async fn take_found(&self, message: &Message, deliveries: &[Delivery]) -> Result<()> {
        let ours = |mut delivery: Delivery| {
            // The gateway may have found it by other means than the key.
            if let DeliveryOf::Message { key, .. } = &mut delivery.of {
                key.clone_from(&message.key);
            }
            self.0.incoming(delivery.into())
        };
        let found = deliveries.iter().cloned().map(ours).collect();
        self.0.store.0.store_events(found, None, self.0.clock.now()).await.map(drop)
    }

    /// Looks up a message at the gateway of its last attempt; after a restore, at every gateway that may have accepted
    /// it.
    async fn look_up(&self, claimed: &Claimed) -> Result<()> {
        let inner = &*self.0;
        let Some(message) = &claimed.message else {
            if claimed.damaged {
                let (now, from) = (inner.clock.now(), &[State::Unknown]);
                let parked = Settle { state: State::Parked, due: None, reason: Some(DAMAGED.to_owned()), from, now };
                self.settled(claimed.hold.id, parked).await?;
            }
            return Ok(());
        };
        let line = inner.line(&claimed.line)?;
        let last = claimed.attempts.last().filter(|_| claimed.restored.is_none());
        let at = claimed.restored.or(last.map(|last| last.at)).unwrap_or(claimed.queued);
        let mut all = Vec::new();
        let suppliers = line.suppliers(&message.to).into_iter();
        for channel in suppliers.filter(|channel| last.is_none_or(|last| last.is_by(channel))) {
            all.push(ask(&*inner.clock, channel, claimed, message, at).await);
        }
        let evidence = together(all);
        if let LookupOutcome::Found(deliveries) = &evidence {
            self.take_found(message, deliveries).await?;
        }
        let settle = outbox::reconciled(&evidence, claimed.lookups, inner.clock.now());
        let (state, why) = (settle.state, settle.reason.clone());
        if inner.store.0.settle(claimed.hold.id, settle).await?.is_some() && state != State::Unknown {
            inner.log_state(&claimed.line, Some(claimed.hold.id), state, why.as_deref(), Some(&message.to));
        }
        inner.to_send.notify_one();
        Ok(())
    }

    async fn poll(&self, channel: &Arc<dyn Channel>) -> Result<()> {
        let inner = &*self.0;
        let info = channel.info();
        let name = format!("{}/{}/{}", info.gateway, info.medium, info.account);
        loop {
            let after = inner.store.0.cursor(&name).await?;
            let page = contained("the adapter", &*inner.clock, POLL_MAX, channel.poll(after.as_ref())).await?;
            let (more, next) = (page.more, page.next.map(|next| (name.clone(), next)));
            let mut events = page.events.into_iter().map(|event| inner.incoming(event)).collect::<Vec<_>>();
            inner.add_auto_replies(&mut events).await?;
            inner.store.0.store_events(events, next, inner.clock.now()).await?;
            inner.to_fetch.notify_one();
            inner.to_send.notify_one();
            if !more {
                return Ok(());
            }
        }
    }

    /// Removes expired content in small transactions, so that others do not wait.
    async fn purge(&self) -> Result<()> {
        let inner = &*self.0;
        for _ in 0..PURGES_MAX {
            if inner.store.0.purge(inner.clock.now(), PURGE_MAX).await? < u64::from(PURGE_MAX) {
                break;
            }
            inner.clock.sleep(PURGE_PAUSE).await;
        }
        self.forget_files().await
    }
}

/// Looks up a message that was sent at this time.
async fn ask(
    clock: &dyn Clock,
    channel: &Arc<dyn Channel>,
    claimed: &Claimed,
    message: &Message,
    at: Timestamp,
) -> LookupOutcome {
    if !channel.info().capability.look_up {
        return LookupOutcome::Inconclusive;
    }
    let mut sent = LookupQuery::new(message.clone(), at).gateway(channel.info().gateway);
    sent.id.clone_from(&claimed.gateway_id);
    // By the key that was sent, even if the channel would derive another now.
    let by_it = claimed.attempts.iter().rev().find(|attempt| attempt.is_by(channel));
    if let Some(reference) = by_it.and_then(|attempt| attempt.reference.clone()) {
        sent.message.key = Some(reference);
    }
    let look_ups = contained("the adapter", clock, LOOK_UP_MAX, channel.look_up(&sent));
    log_failure("look_up", look_ups.await).unwrap_or(LookupOutcome::Inconclusive)
}

/// Combines the answers of several gateways about one message.
fn together(all: Vec<LookupOutcome>) -> LookupOutcome {
    let absent = !all.is_empty() && all.iter().all(|one| *one == LookupOutcome::NotFound);
    let found =
        all.into_iter().filter_map(|one| if let LookupOutcome::Found(found) = one { Some(found) } else { None });
    let found: Vec<_> = found.flatten().collect();
    match (found.is_empty(), absent) {
        (false, _) => LookupOutcome::Found(found),
        (true, true) => LookupOutcome::NotFound,
        (true, false) => LookupOutcome::Inconclusive,
    }
}
