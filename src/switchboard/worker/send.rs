//! The way of one message: from the claim to what became of it.

use std::borrow::Cow;
use std::mem;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::SemaphorePermit;

use super::super::outbox::{After, State, ToAsk};
use super::super::record::{Attempt, Claimed, End, OPTED_OUT, Ruling, Settle};
use super::super::suspension::{Standing, Turn, Verdict};
use super::super::{Line, Switchboard, account, held};
use super::{DAMAGED, contained, told};
use crate::address::Address;
use crate::channel::{Channel, Grade};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::layer::failover::{Asked, Choice};
use crate::layer::rate_limit::Limiter;
use crate::layer::telemetry;
use crate::message::{Accepted, Message};
use crate::policy::{Decision, Reason};

/// How long a claimed message waits for its turn, before it is put back.
const TURN_MAX: Duration = Duration::from_secs(2);

/// How long a message is put off that is nothing to this program, each time and in all: a newer one may take it.
const STRANGE: Duration = Duration::from_secs(60);
const STRANGE_MAX: Duration = Duration::from_secs(3600);

/// How long a message is put off that the policy could not decide about: at first, and at most; and how often, until it is
/// parked.
const UNDECIDED: Duration = Duration::from_secs(30);
const UNDECIDED_MAX: Duration = Duration::from_secs(3600);
const UNDECIDED_TIMES: u32 = 20;

/// How many messages are remembered that the policy could not decide about.
const UNDECIDED_KEPT: usize = 100_000;

/// How long a message is put off at least that the policy puts off: one that says a moment that has come is asked again.
const DEFER_MIN: Duration = Duration::from_secs(1);

/// How soon a store that failed is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// Why a message is put off that would go too soon after others.
const LIMITED: &str = "the rate of its channel, or of its person, is used up";

/// Why a message waits whose accounts are suspended.
const SUSPENDED: &str = "the account is suspended, and a probe is to come";

/// How long an account may take to say how it is.
const HEALTH_MAX: Duration = Duration::from_secs(10);

/// Why a claimed message does not go now.
enum Stays {
    /// It ends here.
    Ends(State, &'static str),
    /// It is claimed again at that time.
    PutOff(Timestamp, &'static str),
    /// The policy did not say yes.
    Ruled(Box<Ruling>),
    /// The store failed.
    Failed(Error),
}

/// By whom a message goes.
struct Supplier<'a> {
    channel: &'a Arc<dyn Channel>,
    /// Its place among the suppliers of the line.
    n: usize,
    choice: &'a Mutex<Choice>,
    limit: Option<&'a Mutex<Limiter>>,
    to_ask: ToAsk,
    standing: Option<&'a Mutex<Standing>>,
    /// It goes as the probe of a suspended account.
    probe: Option<Probe<'a>>,
}

/// The turn of the probe of a suspended account: given back if nothing came of it.
struct Probe<'a>(&'a Mutex<Standing>);

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        held(self.0).give_back();
    }
}

impl Switchboard {
    /// Sends a claimed message, or notes why it stays.
    pub(super) async fn send_claimed(self, claimed: Claimed) {
        let done = match self.goes(&claimed).await {
            Ok(()) => Ok(()),
            Err(stays) => self.stays(&claimed, stays).await,
        };
        // The message is found again by its lease.
        told("send", done);
        self.0.to_read.ring(Some(&claimed.line));
    }

    async fn goes(&self, claimed: &Claimed) -> Result<(), Stays> {
        let inner = &*self.0;
        let claimed_at = inner.clock.monotonic();
        let message = readable(claimed, inner.clock.now())?;
        if claimed.opted_out {
            return Err(Stays::Ends(State::Refused, OPTED_OUT));
        }
        let _alone = self.alone(claimed).await?;
        let now = inner.clock.now();
        let message = still_to_go(claimed, message, now)?;
        let line = inner.line(&claimed.line).map_err(|_| strange(claimed, "no program here has this line", now))?;
        self.may_go(claimed, &message, now).await?;
        let supplier = self.supplier(claimed, line, &message, now)?;
        self.is_healthy(&supplier).await?;
        if let Some(limit) = supplier.limit {
            self.room(limit, &message.to, now).await?;
        }
        // From here on it may have gone, whatever happens to this process.
        if self.begins(claimed, &supplier).await? {
            let begun = inner.clock.monotonic();
            // Before its claim lapses it is certain that nobody sends it any more.
            let max = (inner.lease - inner.lease / 10).saturating_sub(begun.saturating_sub(claimed_at));
            let sent = contained("the adapter", &*inner.clock, max, supplier.channel.send(&message)).await;
            let sent = sent.map_err(|error| match error.gateway() {
                None => error.with_gateway(supplier.channel.info().gateway),
                Some(_) => error,
            });
            self.ended(claimed, &message, &supplier, begun, &sent).await;
        }
        Ok(())
    }

    /// Lets nobody else go with a message in which a process has ended: should it end this one too, it is known which it
    /// was.
    async fn alone(&self, claimed: &Claimed) -> Result<Option<SemaphorePermit<'_>>, Stays> {
        if claimed.deaths() == 0 {
            return Ok(None);
        }
        tokio::select! {
            turn = self.0.suspects.acquire() => Ok(turn.ok()),
            () = self.0.clock.sleep(TURN_MAX) => {
                let why = "another one in which a process ended has its turn";
                Err(Stays::PutOff(self.0.clock.now().plus(TURN_MAX), why))
            }
        }
    }

    /// Whether the policy lets it go.
    async fn may_go(&self, claimed: &Claimed, message: &Message, now: Timestamp) -> Result<(), Stays> {
        let ruled = |decision, state, due, reason: Reason| {
            let words = Some(reason.to_string());
            let settle = Settle { state, due, reason: words, from: &[State::Claimed], now };
            Err(Stays::Ruled(Box::new(Ruling { decision, reason, settle })))
        };
        let decided = self.0.decide(&claimed.line, message, now).await;
        match self.counted(claimed, decided, now)? {
            Decision::Allow => Ok(()),
            Decision::Defer { until, reason } => ruled("defer", State::Deferred, Some(until), reason),
            Decision::Refuse(reason) => {
                let doubted = claimed.attempts.iter().any(|attempt| attempt.doubted);
                let state = if doubted { State::Parked } else { State::Refused };
                ruled(if reason.is_of_medium() { "refuse_medium" } else { "refuse" }, state, None, reason)
            }
        }
    }

    /// What the policy says of a claimed message: while it does not work, not yet, and ever more rarely.
    fn counted(&self, claimed: &Claimed, decided: Result<Decision>, now: Timestamp) -> Result<Decision, Stays> {
        let (mut undecided, id) = (held(&self.0.undecided), claimed.hold.id);
        match decided {
            Ok(decision) => {
                undecided.remove(&id);
                Ok(at_least_later(decision, now))
            }
            Err(error) => {
                telemetry::work_failed("policy", &error);
                let before = undecided.remove(&id).unwrap_or(0);
                if before + 1 >= UNDECIDED_TIMES {
                    return Err(Stays::Ends(State::Parked, "the policy could not decide about it, 20 times"));
                }
                if undecided.len() < UNDECIDED_KEPT {
                    undecided.insert(id, before + 1);
                }
                let wait = UNDECIDED.saturating_mul(1 << before.min(16)).min(UNDECIDED_MAX);
                let reason = Reason::new("policy", "the policy could not decide");
                Ok(Decision::Defer { until: now.plus(wait), reason })
            }
        }
    }

    /// What the policy says now: while it does not work, not yet.
    pub(super) async fn decided(&self, line: &str, message: &Message, now: Timestamp) -> Decision {
        let decided = self.0.decide(line, message, now).await.unwrap_or_else(|error| {
            telemetry::work_failed("policy", &error);
            let reason = Reason::new("policy", "the policy could not decide");
            Decision::Defer { until: now.plus(UNDECIDED), reason }
        });
        at_least_later(decided, now)
    }

    /// Who of the line's is asked next.
    fn supplier<'a>(
        &'a self,
        claimed: &Claimed,
        line: &'a Line,
        message: &Message,
        now: Timestamp,
    ) -> Result<Supplier<'a>, Stays> {
        let inner = &*self.0;
        let suppliers = line.suppliers(&message.to);
        let Some(medium) = suppliers.first().map(|channel| channel.info().medium.as_str().to_owned()) else {
            return Err(Stays::Ends(State::Parked, "the line has no channel to this address any more"));
        };
        let to_ask = ToAsk::of(&suppliers, message, &claimed.attempts);
        if to_ask.is_empty() {
            return Err(Stays::Ends(State::Parked, "no channel of the line can carry it"));
        }
        let mut asked = Asked::default();
        (0..suppliers.len()).filter(|n| !to_ask.contains(*n)).for_each(|n| asked.pass_over(n));
        let choice = inner.choices.get(&(claimed.line.clone(), medium));
        let mono = inner.clock.monotonic();
        let standing = |n: usize| inner.standings.get(&account(suppliers.get(n)?.info()));
        let mut probe_in = None;
        for n in (0..suppliers.len()).filter(|n| to_ask.contains(*n)) {
            if let Some(wait) = standing(n).and_then(|standing| held(standing).wait(mono)) {
                probe_in = Some(probe_in.map_or(wait, |other: Duration| other.min(wait)));
                asked.pass_over(n);
            }
        }
        let picked = choice.and_then(|choice| {
            let n = held(choice).pick(&mut asked, mono, inner.clock.chance())?;
            let channel = *suppliers.get(n)?;
            let limit = inner.limits.get(&account(channel.info()));
            Some(Supplier { channel, n, choice, limit, to_ask, standing: standing(n), probe: None })
        });
        let Some(mut supplier) = picked else {
            if let Some(wait) = probe_in {
                return Err(Stays::PutOff(now.plus(wait), SUSPENDED));
            }
            // All that could have asked to be left alone for a while.
            let rest = choice.and_then(|choice| held(choice).rest_of(asked, mono)).unwrap_or(TURN_MAX);
            return Err(Stays::PutOff(now.plus(rest), "its gateways are left alone for a while"));
        };
        if let Some(standing) = supplier.standing {
            match held(standing).turn(claimed.hold.id, mono) {
                Turn::Go => {}
                Turn::Probe => supplier.probe = Some(Probe(standing)),
                Turn::Wait(wait) => return Err(Stays::PutOff(now.plus(wait), SUSPENDED)),
            }
        }
        Ok(supplier)
    }

    /// Asks a suspended account how it is, before a message goes as its probe: where the gateway can say so, no message is
    /// spent on it.
    async fn is_healthy(&self, supplier: &Supplier<'_>) -> Result<(), Stays> {
        let Some(Probe(standing)) = supplier.probe else { return Ok(()) };
        let clock = &self.0.clock;
        let health = contained("the adapter", &**clock, HEALTH_MAX, supplier.channel.health()).await;
        let fails = match health {
            Ok(health) => health.check("credentials").is_some_and(|check| check.grade == Grade::Fail),
            Err(error) => error.kind() == ErrorKind::Unauthenticated,
        };
        if fails {
            let wait = held(standing).probe_failed(clock.monotonic());
            return Err(Stays::PutOff(clock.now().plus(wait), SUSPENDED));
        }
        Ok(())
    }

    /// Waits for a place at the rate of the account, where it comes soon.
    async fn room(&self, limit: &Mutex<Limiter>, to: &Address, now: Timestamp) -> Result<(), Stays> {
        let clock = &self.0.clock;
        let mono = clock.monotonic();
        let booked = held(limit).book(to, mono, mono + TURN_MAX);
        let mut place = booked.map_err(|late| Stays::PutOff(now.plus(late.at.saturating_sub(mono)), LIMITED))?;
        if place.at > mono {
            clock.sleep(place.at - mono).await;
            let mono = clock.monotonic();
            if !held(limit).may_go(to, &mut place, mono) {
                held(limit).give_back(to, place);
                return Err(Stays::PutOff(clock.now().plus(TURN_MAX), LIMITED));
            }
        }
        held(limit).goes();
        Ok(())
    }

    /// Notes that the send begins. False: the claim was another's by then.
    async fn begins(&self, claimed: &Claimed, supplier: &Supplier<'_>) -> Result<bool> {
        let (store, clock) = (&self.0.store.0, &self.0.clock);
        let info = supplier.channel.info();
        let reference = claimed.message.as_ref().and_then(|message| info.reference(message));
        let reference = reference.and_then(|name| if let Cow::Owned(digest) = name { Some(digest) } else { None });
        let attempt = Attempt::new(info.gateway, info.account.as_str(), clock.now()).with_reference(reference);
        let begins = store.begin(claimed.hold, attempt).await;
        if !matches!(begins, Ok(true)) {
            supplier.limit.into_iter().for_each(|limit| held(limit).lost());
        }
        // It goes back as soon as the store works again, and not when its claim has lapsed.
        let why = "the store did not work when it was to go";
        while begins.is_err() && store.release(claimed.hold, clock.now(), why).await.is_err() {
            clock.sleep(AGAIN).await;
        }
        begins
    }

    /// Notes how the send ended.
    async fn ended(
        &self,
        claimed: &Claimed,
        message: &Message,
        supplier: &Supplier<'_>,
        begun: Duration,
        sent: &Result<Accepted>,
    ) {
        let (inner, mono) = (&*self.0, self.0.clock.monotonic());
        let change = held(supplier.choice).report(supplier.n, sent, mono);
        if let Some(limit) = supplier.limit {
            held(limit).report(&message.to, sent, mono, inner.clock.now());
        }
        let (probe, now) = (supplier.probe.is_some(), inner.clock.now());
        let report = |standing: &Mutex<Standing>| {
            let (id, failed) = (claimed.hold.id, sent.as_ref().err());
            held(standing).report(id, supplier.channel.info(), probe, begun, failed, (mono, now))
        };
        let verdict = supplier.standing.map_or(Verdict::Own, report);
        let tries = || claimed.attempts.iter().filter(|attempt| !attempt.suspended);
        let after = After {
            message,
            schedule: &inner.schedule,
            times: u32::try_from(tries().count()).unwrap_or(u32::MAX).saturating_add(1),
            began: tries().next().map_or(now, |attempt| attempt.at),
            another: supplier.to_ask.another(),
            later: supplier.to_ask.later(),
            now,
            chance: inner.clock.chance(),
        };
        let end = after.decide(sent);
        let end = match &verdict {
            Verdict::Suspended(wait) | Verdict::Waits(wait) => end.suspended(*wait),
            Verdict::Own | Verdict::Resumed(_) => end,
        };
        let end = end.after(&claimed.attempts);
        // What is not written down now is found unknown by the next worker: so it is tried for as long as this one lives.
        let finished = loop {
            match inner.store.0.finish(claimed.hold, end.clone()).await {
                Ok(finished) => break finished,
                Err(_) => inner.clock.sleep(AGAIN).await,
            }
        };
        if finished {
            inner.stands(&claimed.line, Some(claimed.hold.id), end.state, end.reason.as_deref(), Some(&message.to));
        }
        telemetry::changed(supplier.channel.info(), change);
        match (verdict, sent) {
            (Verdict::Suspended(_), Err(error)) => telemetry::switchboard::suspended(supplier.channel.info(), error),
            (Verdict::Resumed(suspension), _) => {
                telemetry::switchboard::resumed(supplier.channel.info(), now.since(suspension.since));
                inner.to_send.notify_one();
            }
            _ => {}
        }
    }

    /// Notes why it does not go now.
    async fn stays(&self, claimed: &Claimed, stays: Stays) -> Result<()> {
        let (inner, hold) = (&*self.0, claimed.hold);
        let to = claimed.message.as_ref().map(|message| &message.to);
        match stays {
            Stays::Ends(state, why) => {
                let end = End::without_attempt(state, why, inner.clock.now()).after(&claimed.attempts);
                if inner.store.0.finish(hold, end.clone()).await? {
                    inner.stands(&claimed.line, Some(hold.id), end.state, end.reason.as_deref(), to);
                }
                Ok(())
            }
            Stays::PutOff(until, why) => {
                if inner.store.0.release(hold, until, why).await? {
                    telemetry::switchboard::put_off(&claimed.line, hold.id.0, why);
                }
                Ok(())
            }
            Stays::Ruled(ruling) => {
                let (state, why) = (ruling.settle.state, ruling.settle.reason.clone());
                if inner.store.0.ruled(hold, *ruling).await? {
                    inner.stands(&claimed.line, Some(hold.id), state, why.as_deref(), to);
                }
                Ok(())
            }
            Stays::Failed(error) => Err(error),
        }
    }
}

impl From<Error> for Stays {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The same decision, with a wait that is not over already.
fn at_least_later(decision: Decision, now: Timestamp) -> Decision {
    match decision {
        Decision::Defer { until, reason } => Decision::Defer { until: until.max(now.plus(DEFER_MIN)), reason },
        decision => decision,
    }
}

/// The message as it was taken.
fn readable(claimed: &Claimed, now: Timestamp) -> Result<&Message, Stays> {
    if claimed.damaged {
        return Err(Stays::Ends(State::Parked, DAMAGED));
    }
    let unreadable = || strange(claimed, "no program here can read it: see how a message is written", now);
    claimed.message.as_ref().ok_or_else(unreadable)
}

/// The message to where the person is reached now, unless it is too late.
fn still_to_go<'a>(claimed: &Claimed, message: &'a Message, now: Timestamp) -> Result<Cow<'a, Message>, Stays> {
    if message.not_after.is_some_and(|until| now > until) {
        return Err(Stays::Ends(State::Expired, "its not_after passed before it went"));
    }
    let mut message = Cow::Borrowed(message);
    // By the same medium only: that somebody is elsewhere on WhatsApp says nothing of their phone.
    let same = |to: &&Address| mem::discriminant(*to) == mem::discriminant(&message.to);
    if let Some(to) = claimed.moved_to.as_ref().filter(same) {
        message.to_mut().to = to.clone();
    }
    Ok(message)
}

/// A message that is nothing to this program: it holds up nobody, and waits an hour for one that knows better, as there is
/// while a deploy goes on.
fn strange(claimed: &Claimed, why: &'static str, now: Timestamp) -> Stays {
    if now.since(claimed.queued) >= STRANGE_MAX {
        return Stays::Ends(State::Parked, why);
    }
    Stays::PutOff(now.plus(STRANGE), why)
}
