//! The worker: claims what is due, sends it, and finds out what became of what may have gone.

use std::borrow::Cow;
use std::future::Future;
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::outbox::{self, After, Round, State};
use super::store::{Attempt, Bell, Claimed, Decided, End, Falling, Ruling, Settle};
use super::{Switchboard, account, held};
use crate::address::Address;
use crate::channel::{Channel, Evidence, Sent};
use crate::clock::Timestamp;
use crate::error::{Error, Outcome, Result};
use crate::event::{Delivery, DeliveryOf};
use crate::layer::failover::Asked;
use crate::layer::telemetry;
use crate::message::{Accepted, Message};
use crate::policy::{Decision, Reason};

/// How many messages are on their way at once, at most.
const AT_ONCE: usize = 128;

/// How much room there is before more is claimed that has waited: a claim is a commit, and not made for each by itself.
const CLAIM_LEAST: usize = AT_ONCE / 8;

/// How soon it is looked for more to claim, while some are on their way and while none is: what was put off is due some
/// time.
const LOOK: Duration = Duration::from_millis(20);
const LOOK_IDLE: Duration = Duration::from_millis(250);

/// How long a claim holds, where nothing else is said: longer than any send takes, its turn included.
pub(super) const LEASE: Duration = Duration::from_secs(180);

/// What is shorter would be over before a store has written.
pub(super) const LEASE_MIN: Duration = Duration::from_millis(100);

/// How long a claimed message waits for its turn, before it is put back.
const TURN_MAX: Duration = Duration::from_secs(2);

/// How long messages on their way are waited for at the end.
const DRAIN: Duration = Duration::from_secs(35);

/// How long a message is put off that is nothing to this program, each time and in all: a newer one may take it.
const STRANGE: Duration = Duration::from_secs(60);
const STRANGE_MAX: Duration = Duration::from_secs(3600);

/// How long a message is put off that the policy could not decide about.
const UNDECIDED: Duration = Duration::from_secs(30);

/// How often it is looked at what goes instead of messages.
const FALLBACKS: Duration = Duration::from_millis(250);

/// How soon a store that failed is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// Why a message is parked that is not what was written down.
const DAMAGED: &str = "what the store holds of it is damaged: it is not the message that was taken";

/// Why a message is put off that would go too soon after others.
const LIMITED: &str = "the rate of its channel, or of its person, is used up";

/// How often what may have gone is looked at, and channels are polled.
const ROUND: Duration = Duration::from_secs(30);

/// How much loses its content at once, how long others have the store to themselves after it, and how often that is done
/// in one round.
const PURGE_MAX: u32 = 200;
const PURGE_PAUSE: Duration = Duration::from_millis(50);
const PURGES_MAX: u32 = 100;

/// What a worker left when it ended.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Messages that were still on their way: they may have gone, and are settled when a worker runs again.
    pub unfinished: usize,
}

impl Switchboard {
    /// Works until `shutdown` is ready, and then until what is on its way has ended, but for 35 seconds at most.
    ///
    /// One worker at a time runs on a store in SQLite; it is the one that settles what an earlier one left. On a store in
    /// PostgreSQL several may run, and any of them settles what another left, once its claims have lapsed: see
    /// [`Builder::lease`](super::Builder::lease).
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when another process works on the store,
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when the store does not work at the beginning. Later
    /// failures of the store are waited out.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<Drained> {
        let inner = self.0.clone();
        let _working = inner.store.0.lock().await?;
        telemetry::switchboard::left_behind(inner.store.0.recover(inner.clock.now(), true).await?.unknown);
        inner.store.0.note(inner.lines.values().cloned().collect()).await?;
        let ((stop_fetching, stopped), mut fetching) = (oneshot::channel(), JoinSet::new());
        fetching.spawn(self.clone().fetch(stopped));
        let mut shutdown = pin!(shutdown);
        let (mut sends, mut rounds, mut falling) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
        let mut round = inner.clock.sleep(Duration::ZERO);
        let mut fallbacks = inner.clock.sleep(Duration::ZERO);
        let (mut look, mut elsewhere) = (inner.clock.sleep(Duration::ZERO), inner.store.0.rung(Bell::ToSend));
        let (mut news, mut more) = (true, false);
        loop {
            while sends.try_join_next().is_some() {}
            let room = AT_ONCE - sends.len();
            if news || more && room >= CLAIM_LEAST {
                let most = u32::try_from(room).unwrap_or(0);
                let claimed = told("claim", inner.store.0.claim(inner.clock.now(), inner.lease, most).await);
                let claimed = claimed.unwrap_or_default();
                (news, more) = (false, claimed.len() == room);
                let idle = claimed.is_empty() && sends.is_empty();
                look = inner.clock.sleep(if idle { LOOK_IDLE } else { LOOK });
                for claimed in claimed {
                    sends.spawn(self.clone().handle(claimed));
                }
            }
            tokio::select! {
                () = &mut shutdown => break,
                () = &mut round => {
                    round = inner.clock.sleep(inner.lease.min(ROUND));
                    if rounds.try_join_next().is_some() || rounds.is_empty() {
                        rounds.spawn(self.clone().round());
                    }
                }
                () = &mut fallbacks => {
                    fallbacks = inner.clock.sleep(FALLBACKS);
                    if falling.try_join_next().is_some() || falling.is_empty() {
                        falling.spawn(self.clone().fall_back());
                    }
                }
                _ = sends.join_next(), if !sends.is_empty() => {}
                () = inner.to_send.notified() => news = true,
                () = &mut elsewhere => {
                    elsewhere = inner.store.0.rung(Bell::ToSend);
                    news = true;
                }
                () = &mut look => news = true,
            }
        }
        drop(stop_fetching);
        rounds.shutdown().await;
        falling.shutdown().await;
        let mut late = inner.clock.sleep(DRAIN);
        while !sends.is_empty() || !fetching.is_empty() {
            tokio::select! {
                _ = sends.join_next(), if !sends.is_empty() => {}
                _ = fetching.join_next(), if !fetching.is_empty() => {}
                () = &mut late => break,
            }
        }
        let unfinished = sends.len();
        sends.shutdown().await;
        fetching.shutdown().await;
        inner.stopped.store(true, Ordering::Release);
        inner.to_read.ring_all();
        Ok(Drained { unfinished })
    }

    /// Sends one message, or puts it off.
    async fn handle(self, claimed: Claimed) {
        // The message is found again by its lease.
        told("send", self.send_claimed(&claimed).await);
        self.0.to_read.ring(Some(&claimed.line));
    }

    async fn send_claimed(&self, claimed: &Claimed) -> Result<()> {
        let (inner, hold) = (&*self.0, claimed.hold);
        if claimed.damaged {
            return self.ends(claimed, State::Parked, DAMAGED).await;
        }
        let Some(message) = &claimed.message else {
            return self.strange(claimed, "no program here can read it: see how a message is written").await;
        };
        // Should it end this process too, it is known which it was.
        let _alone = if claimed.deaths() > 0 {
            tokio::select! {
                turn = inner.suspects.acquire() => turn.ok(),
                () = inner.clock.sleep(TURN_MAX) => {
                    let why = "another one in which a process ended has its turn";
                    return self.put_off(claimed, inner.clock.now().plus(TURN_MAX), why).await;
                }
            }
        } else {
            None
        };
        let now = inner.clock.now();
        let mut message = Cow::Borrowed(message);
        // By the same medium only: that somebody is elsewhere on WhatsApp says nothing of their phone.
        let same = |to: &&Address| mem::discriminant(*to) == mem::discriminant(&message.to);
        if let Some(to) = claimed.moved_to.as_ref().filter(same) {
            message.to_mut().to = to.clone();
        }
        let message = &*message;
        if message.not_after.is_some_and(|until| now > until) {
            return self.ends(claimed, State::Expired, "its not_after passed before it went").await;
        }
        let Ok(line) = inner.line(&claimed.line) else {
            return self.strange(claimed, "no program here has this line").await;
        };
        if let Some(ruling) = self.ruling(claimed, message).await {
            return inner.store.0.ruled(hold, ruling).await.map(|_| ());
        }
        let suppliers = line.suppliers(&message.to);
        let Some(medium) = suppliers.first().map(|channel| channel.info().medium.as_str().to_owned()) else {
            return self.ends(claimed, State::Parked, "the line has no channel to this address any more").await;
        };
        let round = Round::of(&suppliers, message, &claimed.attempts);
        let mut picked_from = Asked::default();
        (0..suppliers.len()).filter(|n| !round.asks(*n)).for_each(|n| picked_from.pass_over(n));
        let choice = inner.choices.get(&(claimed.line.clone(), medium));
        let mono = inner.clock.monotonic();
        let picked = choice.and_then(|choice| held(choice).pick(&mut picked_from, mono, inner.clock.chance()));
        let Some((n, channel)) = picked.and_then(|n| Some((n, Arc::clone(suppliers.get(n)?)))) else {
            if round.is_empty() {
                return self.ends(claimed, State::Parked, "no channel of the line can carry it").await;
            }
            // All that could have asked to be left alone for a while.
            let rest = choice.and_then(|choice| held(choice).rest_of(picked_from, mono)).unwrap_or(TURN_MAX);
            return self.put_off(claimed, now.plus(rest), "its gateways are left alone for a while").await;
        };
        let info = channel.info();
        let limit = inner.limits.get(&account(info));
        if let Some(limit) = limit {
            let booked = held(limit).book(&message.to, mono, mono + TURN_MAX);
            let mut place = match booked {
                Ok(place) => place,
                Err(late) => {
                    return self.put_off(claimed, now.plus(late.at.saturating_sub(mono)), LIMITED).await;
                }
            };
            if place.at > mono {
                inner.clock.sleep(place.at - mono).await;
                let mono = inner.clock.monotonic();
                if !held(limit).may_go(&message.to, &mut place, mono) {
                    held(limit).give_back(&message.to, place);
                    return self.put_off(claimed, inner.clock.now().plus(TURN_MAX), LIMITED).await;
                }
            }
            held(limit).goes();
        }
        let attempt = Attempt::new(info.gateway, info.account.as_str(), inner.clock.now());
        // From here on it may have gone, whatever happens to this process.
        let begins = inner.store.0.begin(hold, attempt).await;
        if !matches!(begins, Ok(true)) {
            limit.into_iter().for_each(|limit| held(limit).lost());
            // It goes back as soon as the store works again, and not when its claim has lapsed.
            while begins.is_err() && inner.store.0.release(hold, inner.clock.now()).await.is_err() {
                inner.clock.sleep(AGAIN).await;
            }
            return begins.map(|_| ());
        }
        let sent = guarded(channel.clone(), message.clone()).await;
        let mono = inner.clock.monotonic();
        if let Some(choice) = inner.choices.get(&(claimed.line.clone(), info.medium.as_str().to_owned())) {
            held(choice).report(n, &sent, mono);
        }
        if let Some(limit) = limit {
            held(limit).report(&message.to, &sent, mono, inner.clock.now());
        }
        let after = After {
            message,
            schedule: &inner.schedule,
            times: u32::try_from(claimed.attempts.len()).unwrap_or(u32::MAX).saturating_add(1),
            queued: claimed.queued,
            another: round.another(),
            later: round.later(),
            now: inner.clock.now(),
            chance: inner.clock.chance(),
        };
        let end = after.decide(&sent).after(&claimed.attempts);
        // What is not written down now is found unknown by the next worker: so it is tried for as long as this one lives.
        let finished = loop {
            match inner.store.0.finish(hold, end.clone()).await {
                Ok(finished) => break finished,
                Err(_) => inner.clock.sleep(AGAIN).await,
            }
        };
        if finished {
            inner.stands(&claimed.line, Some(hold.id), end.state, end.reason.as_deref(), Some(&message.to));
        }
        Ok(())
    }

    /// Asks the policy, and says what it makes of the message when that is not yes.
    async fn ruling(&self, claimed: &Claimed, message: &Message) -> Option<Ruling> {
        let now = self.0.clock.now();
        let ruling = |decision, state, due, reason: Reason| {
            let words = Some(reason.to_string());
            let settle = Settle { state, due, reason: words, from: &[State::Claimed], now };
            Some(Ruling { decision, reason, settle })
        };
        match self.decided(&claimed.line, message, now).await {
            Decision::Allow => None,
            Decision::Defer { until, reason } => ruling("defer", State::Deferred, Some(until), reason),
            Decision::Refuse(reason) if claimed.attempts.iter().any(|attempt| attempt.doubted) => {
                ruling("refuse", State::Parked, None, reason)
            }
            Decision::Refuse(reason) => ruling("refuse", State::Refused, None, reason),
        }
    }

    /// What the policy says now: while it does not work, not yet.
    async fn decided(&self, line: &str, message: &Message, now: Timestamp) -> Decision {
        self.0.decide(line, message, now).await.unwrap_or_else(|error| {
            telemetry::work_failed("policy", &error);
            let reason = Reason::new("policy", "the policy could not decide");
            Decision::Defer { until: now.plus(UNDECIDED), reason }
        })
    }

    /// Lets what goes instead of messages go. A message that may still go is called back only for what may go as well.
    async fn fall_back(self) {
        let (store, now) = (&self.0.store.0, self.0.clock.now());
        let falling = told("fallback", store.falling(now).await).unwrap_or_default();
        if falling.is_empty() {
            return;
        }
        let mut decided = Decided::new();
        for (id, line, message) in falling.iter().filter_map(Falling::asks) {
            decided.insert(id, self.decided(line, message, now).await);
        }
        if told("fallback", store.fall_back(now, decided).await).is_some_and(|went| went > 0) {
            self.0.to_send.notify_one();
        }
    }

    /// A message that is nothing to this program: it holds up nobody, and waits an hour for one that knows better, as there
    /// is while a deploy goes on.
    async fn strange(&self, claimed: &Claimed, reason: &str) -> Result<()> {
        let now = self.0.clock.now();
        if now.since(claimed.queued) >= STRANGE_MAX {
            return self.ends(claimed, State::Parked, reason).await;
        }
        self.put_off(claimed, now.plus(STRANGE), reason).await
    }

    async fn put_off(&self, claimed: &Claimed, until: Timestamp, why: &str) -> Result<()> {
        if self.0.store.0.release(claimed.hold, until).await? {
            telemetry::switchboard::put_off(&claimed.line, claimed.hold.id.0, why);
        }
        Ok(())
    }

    async fn ends(&self, claimed: &Claimed, state: State, reason: &str) -> Result<()> {
        let end = End::without_attempt(state, reason, self.0.clock.now());
        let (end, to) = (end.after(&claimed.attempts), claimed.message.as_ref().map(|message| &message.to));
        if self.0.store.0.finish(claimed.hold, end.clone()).await? {
            self.0.stands(&claimed.line, Some(claimed.hold.id), end.state, end.reason.as_deref(), to);
        }
        Ok(())
    }

    /// Takes back what has lapsed, asks about what may have gone, polls, and removes what was kept long enough.
    async fn round(self) {
        let now = self.0.clock.now();
        // What was claimed, and could not be written back: by another worker too, where there are several, for this may be
        // the only one left.
        if let Some(recovered) = told("recover", self.0.store.0.recover(now, false).await) {
            telemetry::switchboard::left_behind(recovered.unknown);
        }
        if let Some(doubtful) = told("doubtful", self.0.store.0.doubtful(now, ROUND, 100).await) {
            for claimed in &doubtful {
                told("look_up", self.ask(claimed).await);
            }
        }
        for channel in self.0.lines.values().flat_map(|line| &line.channels) {
            if channel.info().capability.poll {
                told("poll", self.poll(channel).await);
            }
        }
        told("purge", self.purge().await);
        #[cfg(feature = "metrics")]
        told("stats", self.tell_depth().await);
        self.0.to_read.ring_all();
    }

    /// Removes the content of what was kept long enough, in small pieces, so that nobody waits behind it.
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

    /// Asks the gateway that a message was handed to last what became of it; after a restore, all that it may have been
    /// handed to.
    async fn ask(&self, claimed: &Claimed) -> Result<()> {
        let inner = &*self.0;
        let Some(message) = &claimed.message else {
            if claimed.damaged {
                let (now, from) = (inner.clock.now(), &[State::Unknown]);
                let parked = Settle { state: State::Parked, due: None, reason: Some(DAMAGED.to_owned()), from, now };
                inner.store.0.settle(claimed.hold.id, parked).await?;
            }
            return Ok(());
        };
        let line = inner.line(&claimed.line)?;
        let last = claimed.attempts.last().filter(|_| claimed.restored.is_none());
        let of = |channel: &&Arc<dyn Channel>| {
            let info = channel.info();
            last.is_none_or(|last| info.gateway == last.gateway && info.account.as_str() == last.account)
        };
        let at = claimed.restored.or(last.map(|last| last.at)).unwrap_or(claimed.queued);
        let mut all = Vec::new();
        for channel in line.suppliers(&message.to).into_iter().filter(of) {
            let mut sent = Sent::new(message.clone(), at).by(channel.info().gateway);
            sent.id.clone_from(&claimed.gateway_id);
            let can = channel.info().capability.look_up;
            all.push(if can {
                channel.look_up(&sent).await.unwrap_or(Evidence::CannotTell)
            } else {
                Evidence::CannotTell
            });
        }
        let evidence = together(all);
        if let Evidence::Found(deliveries) = &evidence {
            let ours = |mut delivery: Delivery| {
                // The gateway found it by other means, and it is this one.
                if let DeliveryOf::Message { key, .. } = &mut delivery.of {
                    key.clone_from(&message.key);
                }
                inner.incoming(delivery.into())
            };
            let found = deliveries.iter().cloned().map(ours).collect();
            inner.store.0.take_in(found, None, inner.clock.now()).await?;
        }
        let settle = outbox::reconciled(&evidence, claimed.lookups, inner.clock.now());
        let (state, why) = (settle.state, settle.reason.clone());
        if inner.store.0.settle(claimed.hold.id, settle).await? && state != State::Unknown {
            inner.stands(&claimed.line, Some(claimed.hold.id), state, why.as_deref(), Some(&message.to));
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
            let page = channel.poll(after.as_ref()).await?;
            let (more, next) = (page.more, page.next.map(|next| (name.clone(), next)));
            let events = page.events.into_iter().map(|event| inner.incoming(event)).collect();
            inner.store.0.take_in(events, next, inner.clock.now()).await?;
            inner.to_fetch.notify_one();
            if !more {
                return Ok(());
            }
        }
    }
}

/// Tells of a failure that is waited out.
pub(super) fn told<T>(what: &'static str, done: Result<T>) -> Option<T> {
    done.inspect_err(|error| telemetry::work_failed(what, error)).ok()
}

/// What several gateways know of one message.
fn together(all: Vec<Evidence>) -> Evidence {
    let absent = !all.is_empty() && all.iter().all(|one| *one == Evidence::Absent { conclusive: true });
    let found = all.into_iter().filter_map(|one| if let Evidence::Found(found) = one { Some(found) } else { None });
    let found: Vec<_> = found.flatten().collect();
    match (found.is_empty(), absent) {
        (false, _) => Evidence::Found(found),
        (true, true) => Evidence::Absent { conclusive: true },
        (true, false) => Evidence::CannotTell,
    }
}

/// Sends, and takes a panic of an adapter for what it is: a message that may have gone.
async fn guarded(channel: Arc<dyn Channel>, message: Message) -> Result<Accepted> {
    let gateway = channel.info().gateway;
    let sent = tokio::spawn(async move { channel.send(&message).await }).await;
    sent.unwrap_or_else(|_| {
        let error = Error::new(crate::ErrorKind::Unexpected, "the adapter panicked while it sent");
        Err(error.with_gateway(gateway).with_outcome(Outcome::Unknown))
    })
}
