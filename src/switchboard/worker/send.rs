//! The send of one message, from the claim to its outcome.

use std::mem;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::SemaphorePermit;

use super::super::auto_reply::ANSWERED;
use super::super::directory::Addressee;
use super::super::lanes::{account_of, bound_lane, unbound_lane};
use super::super::outbox::{AttemptContext, EXPIRED, NextSuppliers};
use super::super::record::{Attempt, CLOCK_TOLERANCE, Claimed, End, NOT_DECIDED, PutOff, Ruling, Settle, reference_of};
use super::super::register::Begun;
use super::super::status::State;
use super::super::suspension::{AccountEffect, AccountState};
use super::super::{Account, Line, Switchboard, account, account_id, lock};
use super::{DAMAGED, caught, contained, log_failure};
use crate::channel::Channel;
use crate::layer::failover::Attempted;
use crate::layer::rate_limit::{Limiter, Slot};
use crate::model::address::Address;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, ErrorKind, Outcome, Result};
use crate::model::health::CheckStatus;
use crate::model::message::{Accepted, Message};
use crate::policy::{Decision, Reason};
use crate::telemetry;

/// The time that a claimed message waits for its turn before it is released.
const TURN_MAX: Duration = Duration::from_secs(2);

/// The wait of a message that this program cannot handle, each time and in total: a newer program may take it.
const UNHANDLED_WAIT: Duration = Duration::from_secs(60);
const UNHANDLED_MAX: Duration = Duration::from_secs(3600);

/// The first and the longest wait after a failed policy decision, and the number of failures before the message is
/// parked.
const UNDECIDED: Duration = Duration::from_secs(30);
const UNDECIDED_MAX: Duration = Duration::from_secs(3600);
const UNDECIDED_TIMES: u32 = 20;

/// The maximum number of messages with failed policy decisions to remember.
const UNDECIDED_MAX_COUNT: usize = 100_000;

/// The minimum wait for a message that the policy defers: it may return a time that has passed.
const DEFER_MIN: Duration = Duration::from_secs(1);

/// The shortest pause that is stored.
const PAUSE_NOTED: Duration = Duration::from_secs(1);

/// The delay before a failed store is retried.
pub(super) const AGAIN: Duration = Duration::from_millis(200);

/// The reason for a message held by the rate limit of its recipient.
pub(super) const LIMITED: &str = "the rate limit of its recipient";

/// The reason for a message whose gateways all have an open circuit breaker.
const CIRCUIT_OPEN: &str = "the circuit breakers of its gateways are open";

/// The reason for a message whose accounts are suspended.
const SUSPENDED: &str = "the account is suspended, and waits for a probe";

/// The maximum time for an account's health check.
const HEALTH_MAX: Duration = Duration::from_secs(10);

/// The reason why a claimed message is not sent now.
enum Blocked {
    /// Ends in this state.
    End(State, &'static str),
    /// Is claimed again at a later time.
    PutOff(PutOff),
    /// The lane pauses for this long.
    LanePaused(Duration),
    /// Waits in another lane: only one account may send it.
    Bound(String),
    /// An earlier attempt may have been accepted, and its account no longer recognises the message.
    Unrepeatable(Box<Message>),
    /// The policy deferred or refused it.
    Policy(Box<Ruling>),
    /// The store failed.
    Failed(Error),
}

/// A claimed message that may be sent.
pub(super) struct Decided {
    pub(super) claimed: Claimed,
    /// The message, with the person's current address.
    pub(super) message: Message,
    pub(super) supplier: Supplier,
    /// When it was claimed, and when it was decided.
    pub(super) claimed_at: Duration,
    pub(super) at: Duration,
}

/// The result of a decision about a claimed message.
pub(super) enum Step {
    Ready(Box<Decided>),
    /// No longer claimed.
    Released {
        lane: String,
        class: u8,
    },
    /// The lane pauses for this long.
    LanePaused {
        claimed: Box<Claimed>,
        wait: Duration,
    },
    /// Tokens of an account, from this time on.
    Reserved {
        account: Account,
        from: Duration,
        count: u32,
    },
}

/// The channel that sends a message.
pub(super) struct Supplier {
    channel: Arc<dyn Channel>,
    pub(super) account: Account,
    /// Its index among the suppliers of the line.
    n: usize,
    /// The line and the medium of its selector.
    choice: (String, String),
    next_suppliers: NextSuppliers,
    /// The line has other suppliers of this medium.
    pub(super) is_one_of_several: bool,
}

/// A token that was taken.
pub(super) struct Sending {
    pub(super) place: Slot,
    /// The message is sent as the probe of a suspended account.
    pub(super) is_probe: bool,
}

/// The effect of a send on its account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Nothing was sent: the token is free again.
    NotSent,
    Sent,
    /// The account was resumed.
    Resumed,
}

/// The token of a send, given back on drop if nothing is sent, and the turn of a probe.
struct Token<'a> {
    limit: &'a Mutex<Limiter>,
    account_state: &'a Mutex<AccountState>,
    to: &'a Address,
    place: Option<Slot>,
    is_probe: bool,
}

impl Token<'_> {
    /// Spends the token: the message is sent.
    fn spend(&mut self) {
        if self.place.take().is_some() {
            lock(self.limit).start();
        }
    }
}

impl Drop for Token<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            lock(self.limit).release(self.to, place);
        }
        if self.is_probe {
            lock(self.account_state).give_back();
        }
    }
}

impl Switchboard {
    /// Decides whether a claimed message is sent, or records why not.
    pub(super) async fn decide(self, mut claimed: Claimed) -> Step {
        let claimed_at = self.0.clock.monotonic();
        let may = match caught(self.prepare(&mut claimed)).await {
            Some(may) => may,
            // The adapter's message rule panicked, which is not our policy's failure.
            None => Err(self.undecided(&claimed, "the adapter panicked")),
        };
        match may {
            Ok((message, supplier)) => {
                let at = self.0.clock.monotonic();
                Step::Ready(Box::new(Decided { claimed, message, supplier, claimed_at, at }))
            }
            Err(Blocked::LanePaused(wait)) => Step::LanePaused { claimed: Box::new(claimed), wait },
            Err(blocked) => {
                let Claimed { lane, class, .. } = &claimed;
                let (lane, class) = (lane.clone(), *class);
                log_failure("send", self.record_blocked(&claimed, blocked).await);
                self.0.to_read.notify(Some(&claimed.line));
                Step::Released { lane, class }
            }
        }
    }

    async fn prepare(&self, claimed: &mut Claimed) -> Result<(Message, Supplier), Blocked> {
        let inner = &*self.0;
        let now = inner.clock.now();
        if claimed.damaged {
            return Err(Blocked::End(State::Parked, DAMAGED));
        }
        let Ok(line) = inner.line(&claimed.line) else {
            return Err(self.put_off_unhandled(claimed, "unknown-line", "unknown line").await);
        };
        let Some(message) = claimed.message.take() else {
            let why = "unreadable message: see its format in docs/operations.md";
            return Err(self.put_off_unhandled(claimed, "unreadable", why).await);
        };
        let message = current_message(claimed, message, now)?;
        if claimed.repeated().is_some_and(|last| !self.can_repeat(last, line, &message, now)) {
            return Err(Blocked::Unrepeatable(Box::new(message)));
        }
        if account_of(&claimed.lane).is_none()
            && let Some(account) = line.only_account(&message, &claimed.attempts, now)
        {
            return Err(Blocked::Bound(bound_lane(&claimed.lane, &account)));
        }
        match inner.is_answered(claimed, &message).await {
            Ok(false) => {}
            Ok(true) => return Err(Blocked::End(State::Cancelled, ANSWERED)),
            Err(error) => return Err(Blocked::Failed(error)),
        }
        let checked = match self.check_policy(claimed, &message, now).await {
            Ok(()) => self.supplier(claimed, line, &message),
            Err(blocked) => Err(blocked),
        };
        match checked {
            Ok(supplier) => Ok((message, supplier)),
            Err(blocked) => {
                claimed.message = Some(message);
                Err(blocked)
            }
        }
    }

    /// Returns `true` if the account of an attempt makes no second message of a resend now.
    fn can_repeat(&self, attempt: &Attempt, line: &Line, message: &Message, now: Timestamp) -> bool {
        let latest = Timestamp::from_millis(self.0.latest.load(Ordering::Acquire));
        let same = |channel: &&Arc<dyn Channel>| {
            let info = channel.info();
            attempt.is_by(channel)
                && info.resend_window(message).is_some()
                && reference_of(info, message) == attempt.reference
        };
        // After the clock was set back, the age of an attempt is unknown.
        attempt.is_repeatable(now)
            && latest.since(now) <= CLOCK_TOLERANCE
            && line.suppliers(&message.to).iter().any(same)
    }

    /// Sends a message for which a token was taken.
    pub(super) async fn send_decided(self, decided: Decided, sending: Sending) -> Ended {
        let Decided { claimed, message, supplier, claimed_at, .. } = decided;
        let ended = match self.send_claimed(&claimed, &message, &supplier, sending, claimed_at).await {
            Ok(ended) => ended,
            Err(blocked) => {
                // The lease releases the message.
                log_failure("send", self.record_blocked(&claimed, blocked).await);
                Ended::NotSent
            }
        };
        self.0.to_read.notify(Some(&claimed.line));
        ended
    }

    async fn send_claimed(
        &self,
        claimed: &Claimed,
        message: &Message,
        supplier: &Supplier,
        sending: Sending,
        claimed_at: Duration,
    ) -> Result<Ended, Blocked> {
        let inner = &*self.0;
        let (Some(limit), Some(account_state)) =
            (inner.limits.get(&supplier.account), inner.account_states.get(&supplier.account))
        else {
            return Ok(Ended::NotSent);
        };
        let Sending { place, is_probe } = sending;
        let mut token = Token { limit, account_state, to: &message.to, place: Some(place), is_probe };
        let _alone = self.acquire_suspect_turn(claimed).await?;
        if message.not_after.is_some_and(|until| inner.clock.now() > until) {
            return Err(Blocked::End(State::Expired, EXPIRED));
        }
        if is_probe {
            self.is_healthy(supplier, account_state).await?;
        }
        // From here on the outcome is unknown if this process ends.
        let now = inner.clock.now();
        let mut attempt = Attempt::next(&supplier.channel, message, &claimed.attempts, now);
        // A message that is sent again within an idempotency window is charged and counted already.
        if claimed.repeated().is_none() {
            let charges = inner.budgets.charges(&claimed.line, &*supplier.channel, message, now);
            attempt.charges = charges.map_err(|reason| refusal(claimed, reason, now))?;
            attempt.limits = inner.recent.on(&*supplier.channel, message);
        }
        let to = Addressee::new(&claimed.line, &message.to, message.purpose, claimed.queued);
        match self.record_begin(claimed, attempt.clone(), to).await? {
            Begun::Sending => {}
            Begun::NotHeld => return Ok(Ended::NotSent),
            Begun::Deferred(reason) => {
                let why = reason.to_string();
                inner.log_state(&claimed.line, Some(claimed.hold.id), State::Deferred, Some(&why), Some(&message.to));
                return Ok(Ended::NotSent);
            }
            Begun::Refused(reason) => {
                let is_unknown = claimed.attempts.iter().any(|attempt| attempt.is_unknown);
                let state = if is_unknown { State::Parked } else { State::Refused };
                let why = reason.to_string();
                inner.log_state(&claimed.line, Some(claimed.hold.id), state, Some(&why), Some(&message.to));
                return Ok(Ended::NotSent);
            }
        }
        token.spend();
        let begun = inner.clock.monotonic();
        // The send must end before the claim expires.
        let max = (inner.lease - inner.lease / 10).saturating_sub(begun.saturating_sub(claimed_at));
        let sent = contained("the adapter", &*inner.clock, max, supplier.channel.send(message)).await;
        let sent = sent.map_err(|error| match error.gateway() {
            None => error.with_gateway(supplier.channel.info().gateway),
            Some(_) => error,
        });
        Ok(self.ended(claimed, message, supplier, &token, (begun, attempt), &sent).await)
    }

    /// Serialises messages during whose send a process has ended: if this process ends too, the cause is known.
    async fn acquire_suspect_turn(&self, claimed: &Claimed) -> Result<Option<SemaphorePermit<'_>>, Blocked> {
        if claimed.deaths() == 0 {
            return Ok(None);
        }
        tokio::select! {
            turn = self.0.suspects.acquire() => Ok(turn.ok()),
            () = self.0.clock.sleep(TURN_MAX) => {
                let why = "another message that may have ended a process is sent first";
                Err(self.put_off(TURN_MAX, why))
            }
        }
    }

    /// Checks with the policy whether the message may be sent.
    async fn check_policy(&self, claimed: &Claimed, message: &Message, now: Timestamp) -> Result<(), Blocked> {
        let decided = match self.0.decide(&claimed.line, message, now).await {
            Ok(decided) => decided,
            Err(error) => {
                telemetry::work_failed("policy", &error);
                return Err(self.undecided(claimed, "the policy failed"));
            }
        };
        lock(&self.0.undecided).remove(&claimed.hold.id);
        match at_least_later(decided, now) {
            Decision::Allow => Ok(()),
            Decision::Defer { until, reason } => Err(ruled("defer", State::Deferred, Some(until), reason, now)),
            Decision::Refuse(reason) => Err(refusal(claimed, reason, now)),
        }
    }

    /// Puts off a message after a failed decision, with backoff, and parks it after the twentieth.
    fn undecided(&self, claimed: &Claimed, why: &'static str) -> Blocked {
        let (mut undecided, id, now) = (lock(&self.0.undecided), claimed.hold.id, self.0.clock.now());
        let before = undecided.remove(&id).unwrap_or(0);
        if before + 1 >= UNDECIDED_TIMES {
            return Blocked::End(State::Parked, "no decision after 20 attempts: the policy or an adapter failed");
        }
        if undecided.len() < UNDECIDED_MAX_COUNT {
            undecided.insert(id, before + 1);
        }
        let wait = UNDECIDED.saturating_mul(1 << before.min(16)).min(UNDECIDED_MAX);
        let reason = Reason::new("policy", why);
        let from = &[State::Claimed, State::Queued, State::Deferred];
        let (due, text) = (Some(now.plus(wait)), Some(reason.to_string()));
        let settle = Settle { state: State::Deferred, due, reason: text, from, now };
        Blocked::Policy(Box::new(Ruling { decision: NOT_DECIDED, reason, settle }))
    }

    /// Returns the policy's decision now: a deferral while the policy fails.
    pub(super) async fn decided(&self, line: &str, message: &Message, now: Timestamp) -> Decision {
        let decided = self.0.decide(line, message, now).await.unwrap_or_else(|error| {
            telemetry::work_failed("policy", &error);
            let reason = Reason::new("policy", "the policy failed");
            Decision::Defer { until: now.plus(UNDECIDED), reason }
        });
        at_least_later(decided, now)
    }

    /// Selects the supplier of the line for the next attempt.
    fn supplier(&self, claimed: &Claimed, line: &Line, message: &Message) -> Result<Supplier, Blocked> {
        let inner = &*self.0;
        let suppliers = line.suppliers(&message.to);
        let Some(medium) = suppliers.first().map(|channel| channel.info().medium.as_str().to_owned()) else {
            return Err(Blocked::End(State::Parked, "no channel of the line reaches this address any more"));
        };
        let next_suppliers = NextSuppliers::new(&suppliers, message, &claimed.attempts, inner.clock.now());
        if next_suppliers.is_empty() {
            return Err(Blocked::End(State::Parked, "no channel of the line can carry it"));
        }
        let mut attempted = Attempted::default();
        (0..suppliers.len()).filter(|n| !next_suppliers.contains(*n)).for_each(|n| attempted.exclude(n));
        let is_for_all = (0..suppliers.len()).all(|n| next_suppliers.contains(n));
        let choice = (claimed.line.clone(), medium);
        let mono = inner.clock.monotonic();
        let mut probe_in = None;
        for n in (0..suppliers.len()).filter(|n| next_suppliers.contains(*n)) {
            let account_state = suppliers.get(n).and_then(|channel| inner.account_states.get(&account(channel.info())));
            if let Some(wait) = account_state.and_then(|account_state| lock(account_state).wait(mono)) {
                probe_in = Some(probe_in.map_or(wait, |other: Duration| other.min(wait)));
                attempted.exclude(n);
            }
        }
        let of = inner.choices.get(&choice);
        let picked = of.and_then(|of| lock(of).pick(&mut attempted, mono, inner.random.next_u64()));
        let picked = picked.and_then(|n| Some((n, Arc::clone(suppliers.get(n)?))));
        let Some((n, channel)) = picked else {
            let (wait, why) = match probe_in {
                Some(wait) => (wait, SUSPENDED),
                // All suppliers have an open circuit breaker.
                None => (of.and_then(|of| lock(of).open_for(attempted, mono)).unwrap_or(TURN_MAX), CIRCUIT_OPEN),
            };
            // Unless it is an account's, other messages of the lane may have another supplier.
            return Err(if is_for_all || account_of(&claimed.lane).is_some() {
                Blocked::LanePaused(wait)
            } else {
                self.put_off(wait, why)
            });
        };
        let (account, is_one_of_several) = (account(channel.info()), suppliers.len() > 1);
        Ok(Supplier { channel, account, n, choice, next_suppliers, is_one_of_several })
    }

    fn put_off(&self, wait: Duration, why: &'static str) -> Blocked {
        Blocked::PutOff(PutOff { until: self.0.clock.now().plus(wait), why, planned: false })
    }

    /// Checks the health of a suspended account before a message is sent as its probe: if the gateway has a health
    /// check, no message is spent.
    async fn is_healthy(&self, supplier: &Supplier, account_state: &Mutex<AccountState>) -> Result<(), Blocked> {
        let clock = &self.0.clock;
        let health = contained("the adapter", &**clock, HEALTH_MAX, supplier.channel.health()).await;
        let fails = match health {
            Ok(health) => health.check("credentials").is_some_and(|check| check.status == CheckStatus::Fail),
            Err(error) => error.kind() == ErrorKind::Unauthenticated,
        };
        match fails {
            true => Err(Blocked::LanePaused(lock(account_state).probe_failed(clock.monotonic()))),
            false => Ok(()),
        }
    }

    /// Records the start of the send, unless the person opted out.
    async fn record_begin(&self, claimed: &Claimed, attempt: Attempt, to: Addressee) -> Result<Begun> {
        let (store, clock) = (&self.0.store.0, &self.0.clock);
        let record_begin = store.begin_send(claimed.hold, attempt, to).await;
        // Release it as soon as the store works again, rather than when the lease expires.
        while record_begin.is_err() && store.unclaim(claimed.hold).await.is_err() {
            clock.sleep(AGAIN).await;
        }
        record_begin
    }

    /// Records the end of the send.
    async fn ended(
        &self,
        claimed: &Claimed,
        message: &Message,
        supplier: &Supplier,
        token: &Token<'_>,
        (begun, attempt): (Duration, Attempt),
        sent: &Result<Accepted>,
    ) -> Ended {
        let (inner, mono, now) = (&*self.0, self.0.clock.monotonic(), self.0.clock.now());
        let choice = inner.choices.get(&supplier.choice);
        let change = choice.and_then(|choice| lock(choice).report(supplier.n, sent, mono));
        lock(token.limit).report(&message.to, sent, mono, now);
        let (id, failed, info) = (claimed.hold.id, sent.as_ref().err(), supplier.channel.info());
        let pause = lock(token.limit).paused_until().saturating_sub(mono);
        let verdict = lock(token.account_state).report(id, info, token.is_probe, begun, failed, (mono, now));
        let tries = || claimed.tries().filter(|attempt| !attempt.suspended);
        // An attempt that began while the clock was ahead has no known age.
        let began = tries().map(|attempt| attempt.at).filter(|at| *at <= now).min();
        let after = AttemptContext {
            message,
            schedule: &inner.schedule,
            times: u32::try_from(tries().count()).unwrap_or(u32::MAX).saturating_add(1),
            began: began.unwrap_or(now),
            has_unknown: claimed.repeated().is_some(),
            repeatable_for: attempt.repeatable_until.map(|until| until.since(now)),
            another: supplier.next_suppliers.has_another(),
            later: supplier.next_suppliers.has_later(),
            now,
            random: inner.random.next_u64(),
        };
        let end = after.decide(sent);
        let end = match &verdict {
            AccountEffect::Suspended(wait) | AccountEffect::Delay(wait) => end.suspended(*wait),
            AccountEffect::Unaffected | AccountEffect::Resumed(_) => end,
        };
        let end = end.after(&claimed.attempts);
        let lane = if supplier.is_one_of_several { self.next_lane(claimed, message, attempt, &end) } else { None };
        let end = End { lane, ..end };
        // If this is not recorded, the next worker finds an unknown outcome: retry for as long as this process lives.
        let finished = loop {
            match inner.store.0.finish(claimed.hold, end.clone()).await {
                Ok(finished) => break finished,
                Err(_) => inner.clock.sleep(AGAIN).await,
            }
        };
        if finished {
            inner.log_state(&claimed.line, Some(claimed.hold.id), end.state, end.reason.as_deref(), Some(&message.to));
        }
        if let Some(change) = change {
            change.record(supplier.channel.info());
        }
        if failed.is_some() && pause >= PAUSE_NOTED {
            // Other workers read it, and so does this one after a restart.
            log_failure("pause", inner.store.0.pause(account_id(&supplier.account), now.plus(pause)).await);
        }
        match (verdict, sent) {
            (AccountEffect::Suspended(_), Err(error)) => {
                telemetry::switchboard::suspended(info, error);
                Ended::Sent
            }
            (AccountEffect::Resumed(suspension), _) => {
                telemetry::switchboard::resumed(info, now.since(suspension.since));
                Ended::Resumed
            }
            _ => Ended::Sent,
        }
    }

    /// Returns the lane in which a message waits after an attempt, if that is another.
    fn next_lane(&self, claimed: &Claimed, message: &Message, attempt: Attempt, end: &End) -> Option<String> {
        let line = self.0.line(&claimed.line).ok().filter(|_| !end.state.is_settled())?;
        let is_unknown = end.outcome == Outcome::Unknown.as_str();
        let last = Attempt { is_unknown, passing: end.passing, bound: end.bound, ..attempt };
        let attempts: Vec<_> = claimed.attempts.iter().cloned().chain([last]).collect();
        let lane = match line.only_account(message, &attempts, end.now) {
            Some(account) => bound_lane(&claimed.lane, &account),
            None => unbound_lane(&claimed.lane).to_owned(),
        };
        (lane != claimed.lane).then_some(lane)
    }

    /// Records why the message is not sent now.
    async fn record_blocked(&self, claimed: &Claimed, blocked: Blocked) -> Result<()> {
        let (inner, hold) = (&*self.0, claimed.hold);
        let to = claimed.message.as_ref().map(|message| &message.to);
        match blocked {
            Blocked::End(state, why) => {
                let end = End::without_attempt(state, why, inner.clock.now()).after(&claimed.attempts);
                self.end_without_attempt(claimed, end, to).await
            }
            Blocked::Unrepeatable(message) => {
                let end = End::unrepeatable(&message, inner.clock.now());
                self.end_without_attempt(claimed, end, Some(&message.to)).await
            }
            Blocked::PutOff(off) => {
                if inner.store.0.put_off(hold, off).await? {
                    telemetry::switchboard::postponed(&claimed.line, hold.id.0, off.why);
                }
                Ok(())
            }
            Blocked::LanePaused(_) => inner.store.0.unclaim(hold).await,
            Blocked::Bound(lane) => inner.store.0.change_lane(hold, lane).await,
            Blocked::Policy(ruling) => {
                let (state, why) = (ruling.settle.state, ruling.settle.reason.clone());
                if inner.store.0.ruled(hold, *ruling).await? {
                    inner.log_state(&claimed.line, Some(hold.id), state, why.as_deref(), to);
                }
                Ok(())
            }
            Blocked::Failed(error) => Err(error),
        }
    }
}

/// Returns a decision of the policy, and its effect on the message.
fn ruled(decision: &'static str, state: State, due: Option<Timestamp>, reason: Reason, now: Timestamp) -> Blocked {
    let (text, from) = (Some(reason.to_string()), &[State::Claimed, State::Queued, State::Deferred]);
    let settle = Settle { state, due, reason: text, from, now };
    Blocked::Policy(Box::new(Ruling { decision, reason, settle }))
}

/// Returns a refusal by the policy. After an unknown outcome a person decides.
fn refusal(claimed: &Claimed, reason: Reason, now: Timestamp) -> Blocked {
    let is_unknown = claimed.attempts.iter().any(|attempt| attempt.is_unknown);
    let state = if is_unknown { State::Parked } else { State::Refused };
    ruled(if reason.is_for_medium() { "refuse_medium" } else { "refuse" }, state, None, reason, now)
}

impl Switchboard {
    async fn end_without_attempt(&self, claimed: &Claimed, end: End, to: Option<&Address>) -> Result<()> {
        if self.0.store.0.finish(claimed.hold, end.clone()).await? {
            self.0.log_state(&claimed.line, Some(claimed.hold.id), end.state, end.reason.as_deref(), to);
        }
        Ok(())
    }
}

impl From<Error> for Blocked {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Returns the decision with a wait that is not over yet.
fn at_least_later(decision: Decision, now: Timestamp) -> Decision {
    match decision {
        Decision::Defer { until, reason } => Decision::Defer { until: until.max(now.plus(DEFER_MIN)), reason },
        decision => decision,
    }
}

/// Returns the message with the person's current address, unless it has expired.
fn current_message(claimed: &Claimed, mut message: Message, now: Timestamp) -> Result<Message, Blocked> {
    if message.not_after.is_some_and(|until| now > until) {
        return Err(Blocked::End(State::Expired, EXPIRED));
    }
    // Same medium only: a new WhatsApp address does not change the person's phone number.
    let same = |to: &&Address| mem::discriminant(*to) == mem::discriminant(&message.to);
    if let Some(to) = claimed.moved_to.as_ref().filter(same) {
        message.to = to.clone();
    }
    Ok(message)
}

impl Switchboard {
    /// Puts off a message that this program cannot handle, so that a newer one can take it, as during a deployment.
    /// Parks it an hour after the first time.
    async fn put_off_unhandled(&self, claimed: &Claimed, rule: &'static str, why: &'static str) -> Blocked {
        let (now, reason) = (self.0.clock.now(), Reason::new(rule, why));
        match self.0.store.0.unhandled_since(claimed.hold.id, reason, now).await {
            Ok(since) if now.since(since) >= UNHANDLED_MAX => Blocked::End(State::Parked, why),
            Ok(_) => Blocked::PutOff(PutOff { until: now.plus(UNHANDLED_WAIT), why, planned: true }),
            Err(error) => Blocked::Failed(error),
        }
    }
}
