//! The way of one message: from the claim to what became of it.

use std::borrow::Cow;
use std::mem;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::SemaphorePermit;

use super::super::outbox::{After, EXPIRED, State, ToAsk};
use super::super::record::{Attempt, Claimed, End, NOT_DECIDED, OPTED_OUT, PutOff, Ruling, Settle};
use super::super::suspension::{Standing, Verdict};
use super::super::{Account, Line, Switchboard, account, account_id, held};
use super::{DAMAGED, caught, contained, told};
use crate::channel::Channel;
use crate::layer::failover::Attempted;
use crate::layer::rate_limit::{Limiter, Slot};
use crate::model::address::Address;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::health::CheckStatus;
use crate::model::message::{Accepted, Message};
use crate::policy::{Decision, Reason};
use crate::telemetry;

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

/// The shortest pause that is written down.
const PAUSE_NOTED: Duration = Duration::from_secs(1);

/// How soon a store that failed is tried again.
pub(super) const AGAIN: Duration = Duration::from_millis(200);

/// Why a message is put off that would go too soon after another one to its person.
pub(super) const LIMITED: &str = "it is too soon for the next message to this person";

/// Why a message waits whose gateways do not work.
const RESTING: &str = "its gateways are left alone for a while";

/// Why a message waits whose accounts are suspended.
const SUSPENDED: &str = "the account is suspended, and a probe is to come";

/// How long an account may take to say how it is.
const HEALTH_MAX: Duration = Duration::from_secs(10);

/// Why a claimed message does not go now.
enum Stays {
    /// It ends here.
    Ends(State, &'static str),
    /// It is claimed again at that time.
    PutOff(PutOff),
    /// Nothing of its lane goes for so long.
    Rests(Duration),
    /// The policy did not say yes.
    Ruled(Box<Ruling>),
    /// The store failed.
    Failed(Error),
}

/// A claimed message that may go.
pub(super) struct Decided {
    pub(super) claimed: Claimed,
    /// The message, to where the person is reached now.
    pub(super) message: Message,
    pub(super) supplier: Supplier,
    /// When it was claimed, and when it was decided.
    pub(super) claimed_at: Duration,
    pub(super) at: Duration,
}

/// What came of a claimed message before its token.
pub(super) enum Step {
    Ready(Box<Decided>),
    /// It is not claimed any more.
    Stayed {
        lane: String,
        class: u8,
    },
    /// Nothing of its lane goes for so long.
    Rests {
        claimed: Box<Claimed>,
        wait: Duration,
    },
    /// Tokens of an account: the first one at this time.
    Reserved {
        account: Account,
        from: Duration,
        count: u32,
    },
}

/// By whom a message goes.
pub(super) struct Supplier {
    channel: Arc<dyn Channel>,
    pub(super) account: Account,
    /// Its place among the suppliers of the line.
    n: usize,
    /// The line and the medium that it is chosen for.
    choice: (String, String),
    to_ask: ToAsk,
    /// The line has others of this medium.
    pub(super) is_one_of_several: bool,
}

/// A token that was taken.
pub(super) struct Sending {
    pub(super) place: Slot,
    /// It goes as the probe of a suspended account.
    pub(super) is_probe: bool,
}

/// What a send that was begun, or was not, says of its account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Nothing was sent: its token is free again.
    NotSent,
    Sent,
    /// The account works again.
    Resumed,
}

/// What a send holds of its account until it ends: the token, which is given back if nothing goes, and the turn of a probe.
struct Token<'a> {
    limit: &'a Mutex<Limiter>,
    standing: &'a Mutex<Standing>,
    to: &'a Address,
    place: Option<Slot>,
    is_probe: bool,
}

impl Token<'_> {
    /// Spends it: the message goes.
    fn spend(&mut self) {
        if self.place.take().is_some() {
            held(self.limit).start();
        }
    }
}

impl Drop for Token<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            held(self.limit).release(self.to, place);
        }
        if self.is_probe {
            held(self.standing).give_back();
        }
    }
}

impl Switchboard {
    /// Decides whether a claimed message goes, or notes why it stays.
    pub(super) async fn decide(self, mut claimed: Claimed) -> Step {
        let claimed_at = self.0.clock.monotonic();
        let may = match caught(self.may_be_sent(&mut claimed)).await {
            Some(may) => may,
            // A rule of an adapter's for its messages is not ours.
            None => Err(self.undecided(&claimed, "the adapter panicked")),
        };
        match may {
            Ok((message, supplier)) => {
                let at = self.0.clock.monotonic();
                Step::Ready(Box::new(Decided { claimed, message, supplier, claimed_at, at }))
            }
            Err(Stays::Rests(wait)) => Step::Rests { claimed: Box::new(claimed), wait },
            Err(stays) => {
                let Claimed { lane, class, .. } = &claimed;
                let (lane, class) = (lane.clone(), *class);
                told("send", self.stays(&claimed, stays).await);
                self.0.to_read.ring(Some(&claimed.line));
                Step::Stayed { lane, class }
            }
        }
    }

    async fn may_be_sent(&self, claimed: &mut Claimed) -> Result<(Message, Supplier), Stays> {
        let inner = &*self.0;
        let now = inner.clock.now();
        if claimed.damaged {
            return Err(Stays::Ends(State::Parked, DAMAGED));
        }
        if claimed.opted_out {
            return Err(Stays::Ends(State::Refused, OPTED_OUT));
        }
        let Ok(line) = inner.line(&claimed.line) else {
            return Err(self.strange(claimed, "unknown-line", "no program here has this line").await);
        };
        let Some(message) = claimed.message.take() else {
            let why = "no program here can read it: see how a message is written";
            return Err(self.strange(claimed, "unreadable", why).await);
        };
        let message = still_to_go(claimed, message, now)?;
        let checked = match self.may_go(claimed, &message, now).await {
            Ok(()) => self.supplier(claimed, line, &message),
            Err(stays) => Err(stays),
        };
        match checked {
            Ok(supplier) => Ok((message, supplier)),
            Err(stays) => {
                claimed.message = Some(message);
                Err(stays)
            }
        }
    }

    /// Sends a message whose token was taken.
    pub(super) async fn send_decided(self, decided: Decided, sending: Sending) -> Ended {
        let Decided { claimed, message, supplier, claimed_at, .. } = decided;
        let ended = match self.goes(&claimed, &message, &supplier, sending, claimed_at).await {
            Ok(ended) => ended,
            Err(stays) => {
                // The message is found again by its lease.
                told("send", self.stays(&claimed, stays).await);
                Ended::NotSent
            }
        };
        self.0.to_read.ring(Some(&claimed.line));
        ended
    }

    async fn goes(
        &self,
        claimed: &Claimed,
        message: &Message,
        supplier: &Supplier,
        sending: Sending,
        claimed_at: Duration,
    ) -> Result<Ended, Stays> {
        let inner = &*self.0;
        let (Some(limit), Some(standing)) =
            (inner.limits.get(&supplier.account), inner.standings.get(&supplier.account))
        else {
            return Ok(Ended::NotSent);
        };
        let Sending { place, is_probe } = sending;
        let mut token = Token { limit, standing, to: &message.to, place: Some(place), is_probe };
        let _alone = self.alone(claimed).await?;
        if message.not_after.is_some_and(|until| inner.clock.now() > until) {
            return Err(Stays::Ends(State::Expired, EXPIRED));
        }
        if is_probe {
            self.is_healthy(supplier, standing).await?;
        }
        // From here on it may have gone, whatever happens to this process.
        if !self.begins(claimed, message, supplier).await? {
            return Ok(Ended::NotSent);
        }
        token.spend();
        let begun = inner.clock.monotonic();
        // Before its claim lapses it is certain that nobody sends it any more.
        let max = (inner.lease - inner.lease / 10).saturating_sub(begun.saturating_sub(claimed_at));
        let sent = contained("the adapter", &*inner.clock, max, supplier.channel.send(message)).await;
        let sent = sent.map_err(|error| match error.gateway() {
            None => error.with_gateway(supplier.channel.info().gateway),
            Some(_) => error,
        });
        Ok(self.ended(claimed, message, supplier, &token, begun, &sent).await)
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
                Err(self.put_off(TURN_MAX, why))
            }
        }
    }

    /// Whether the policy lets it go.
    async fn may_go(&self, claimed: &Claimed, message: &Message, now: Timestamp) -> Result<(), Stays> {
        let ruled = |decision, state, due, reason: Reason| {
            let words = Some(reason.to_string());
            let from = &[State::Claimed, State::Queued, State::Deferred];
            let settle = Settle { state, due, reason: words, from, now };
            Err(Stays::Ruled(Box::new(Ruling { decision, reason, settle })))
        };
        let decided = match self.0.decide(&claimed.line, message, now).await {
            Ok(decided) => decided,
            Err(error) => {
                telemetry::work_failed("policy", &error);
                return Err(self.undecided(claimed, "the policy could not decide"));
            }
        };
        held(&self.0.undecided).remove(&claimed.hold.id);
        match at_least_later(decided, now) {
            Decision::Allow => Ok(()),
            Decision::Defer { until, reason } => ruled("defer", State::Deferred, Some(until), reason),
            Decision::Refuse(reason) => {
                let doubted = claimed.attempts.iter().any(|attempt| attempt.doubted);
                let state = if doubted { State::Parked } else { State::Refused };
                ruled(if reason.is_of_medium() { "refuse_medium" } else { "refuse" }, state, None, reason)
            }
        }
    }

    /// Puts a message off about which nothing could be decided, each time for longer, and parks it after the twentieth.
    fn undecided(&self, claimed: &Claimed, why: &'static str) -> Stays {
        let (mut undecided, id, now) = (held(&self.0.undecided), claimed.hold.id, self.0.clock.now());
        let before = undecided.remove(&id).unwrap_or(0);
        if before + 1 >= UNDECIDED_TIMES {
            return Stays::Ends(
                State::Parked,
                "nothing could be decided about it, 20 times: the policy or an adapter failed",
            );
        }
        if undecided.len() < UNDECIDED_KEPT {
            undecided.insert(id, before + 1);
        }
        let wait = UNDECIDED.saturating_mul(1 << before.min(16)).min(UNDECIDED_MAX);
        let reason = Reason::new("policy", why);
        let from = &[State::Claimed, State::Queued, State::Deferred];
        let (due, words) = (Some(now.plus(wait)), Some(reason.to_string()));
        let settle = Settle { state: State::Deferred, due, reason: words, from, now };
        Stays::Ruled(Box::new(Ruling { decision: NOT_DECIDED, reason, settle }))
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
    fn supplier(&self, claimed: &Claimed, line: &Line, message: &Message) -> Result<Supplier, Stays> {
        let inner = &*self.0;
        let suppliers = line.suppliers(&message.to);
        let Some(medium) = suppliers.first().map(|channel| channel.info().medium.as_str().to_owned()) else {
            return Err(Stays::Ends(State::Parked, "the line has no channel to this address any more"));
        };
        let to_ask = ToAsk::of(&suppliers, message, &claimed.attempts);
        if to_ask.is_empty() {
            return Err(Stays::Ends(State::Parked, "no channel of the line can carry it"));
        }
        let mut asked = Attempted::default();
        (0..suppliers.len()).filter(|n| !to_ask.contains(*n)).for_each(|n| asked.exclude(n));
        let is_for_all = (0..suppliers.len()).all(|n| to_ask.contains(n));
        let choice = (claimed.line.clone(), medium);
        let mono = inner.clock.monotonic();
        let mut probe_in = None;
        for n in (0..suppliers.len()).filter(|n| to_ask.contains(*n)) {
            let standing = suppliers.get(n).and_then(|channel| inner.standings.get(&account(channel.info())));
            if let Some(wait) = standing.and_then(|standing| held(standing).wait(mono)) {
                probe_in = Some(probe_in.map_or(wait, |other: Duration| other.min(wait)));
                asked.exclude(n);
            }
        }
        let of = inner.choices.get(&choice);
        let picked = of.and_then(|of| held(of).pick(&mut asked, mono, inner.clock.chance()));
        let picked = picked.and_then(|n| Some((n, Arc::clone(suppliers.get(n)?))));
        let Some((n, channel)) = picked else {
            let (wait, why) = match probe_in {
                Some(wait) => (wait, SUSPENDED),
                // All that could have asked to be left alone for a while.
                None => (of.and_then(|of| held(of).open_for(asked, mono)).unwrap_or(TURN_MAX), RESTING),
            };
            // The others of its lane may go by somebody else.
            return Err(if is_for_all { Stays::Rests(wait) } else { self.put_off(wait, why) });
        };
        let (account, is_one_of_several) = (account(channel.info()), suppliers.len() > 1);
        Ok(Supplier { channel, account, n, choice, to_ask, is_one_of_several })
    }

    fn put_off(&self, wait: Duration, why: &'static str) -> Stays {
        Stays::PutOff(PutOff { until: self.0.clock.now().plus(wait), why, planned: false })
    }

    /// Asks a suspended account how it is, before a message goes as its probe: where the gateway can say so, no message is
    /// spent on it.
    async fn is_healthy(&self, supplier: &Supplier, standing: &Mutex<Standing>) -> Result<(), Stays> {
        let clock = &self.0.clock;
        let health = contained("the adapter", &**clock, HEALTH_MAX, supplier.channel.health()).await;
        let fails = match health {
            Ok(health) => health.check("credentials").is_some_and(|check| check.grade == CheckStatus::Fail),
            Err(error) => error.kind() == ErrorKind::Unauthenticated,
        };
        match fails {
            true => Err(Stays::Rests(held(standing).probe_failed(clock.monotonic()))),
            false => Ok(()),
        }
    }

    /// Notes that the send begins. False: it waits no more, or the claim was another's by then.
    async fn begins(&self, claimed: &Claimed, message: &Message, supplier: &Supplier) -> Result<bool> {
        let (store, clock) = (&self.0.store.0, &self.0.clock);
        let info = supplier.channel.info();
        let reference = info.reference(message);
        let reference = reference.and_then(|name| if let Cow::Owned(digest) = name { Some(digest) } else { None });
        let attempt = Attempt::new(info.gateway, info.account.as_str(), clock.now()).with_reference(reference);
        let begins = store.begin(claimed.hold, attempt).await;
        // It goes back as soon as the store works again, and not when its claim has lapsed.
        while begins.is_err() && store.unclaim(claimed.hold).await.is_err() {
            clock.sleep(AGAIN).await;
        }
        begins
    }

    /// Notes how the send ended.
    async fn ended(
        &self,
        claimed: &Claimed,
        message: &Message,
        supplier: &Supplier,
        token: &Token<'_>,
        begun: Duration,
        sent: &Result<Accepted>,
    ) -> Ended {
        let (inner, mono, now) = (&*self.0, self.0.clock.monotonic(), self.0.clock.now());
        let choice = inner.choices.get(&supplier.choice);
        let change = choice.and_then(|choice| held(choice).report(supplier.n, sent, mono));
        held(token.limit).report(&message.to, sent, mono, now);
        let (id, failed, info) = (claimed.hold.id, sent.as_ref().err(), supplier.channel.info());
        let pause = held(token.limit).paused_until().saturating_sub(mono);
        let verdict = held(token.standing).report(id, info, token.is_probe, begun, failed, (mono, now));
        let tries = || claimed.tries().filter(|attempt| !attempt.suspended);
        // One that began while the clock was ahead says nothing of how long ago that was.
        let began = tries().map(|attempt| attempt.at).filter(|at| *at <= now).min();
        let after = After {
            message,
            schedule: &inner.schedule,
            times: u32::try_from(tries().count()).unwrap_or(u32::MAX).saturating_add(1),
            began: began.unwrap_or(now),
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
        if let Some(change) = change {
            change.record(supplier.channel.info());
        }
        if failed.is_some() && pause >= PAUSE_NOTED {
            // Other workers hear of it, and so does this one when it starts again.
            told("pause", inner.store.0.pause(account_id(&supplier.account), now.plus(pause)).await);
        }
        match (verdict, sent) {
            (Verdict::Suspended(_), Err(error)) => {
                telemetry::switchboard::suspended(info, error);
                Ended::Sent
            }
            (Verdict::Resumed(suspension), _) => {
                telemetry::switchboard::resumed(info, now.since(suspension.since));
                Ended::Resumed
            }
            _ => Ended::Sent,
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
            Stays::PutOff(off) => {
                if inner.store.0.put_off(hold, off).await? {
                    telemetry::switchboard::postponed(&claimed.line, hold.id.0, off.why);
                }
                Ok(())
            }
            Stays::Rests(_) => inner.store.0.unclaim(hold).await,
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

/// The message to where the person is reached now, unless it is too late.
fn still_to_go(claimed: &Claimed, mut message: Message, now: Timestamp) -> Result<Message, Stays> {
    if message.not_after.is_some_and(|until| now > until) {
        return Err(Stays::Ends(State::Expired, EXPIRED));
    }
    // By the same medium only: that somebody is elsewhere on WhatsApp says nothing of their phone.
    let same = |to: &&Address| mem::discriminant(*to) == mem::discriminant(&message.to);
    if let Some(to) = claimed.moved_to.as_ref().filter(same) {
        message.to = to.clone();
    }
    Ok(message)
}

impl Switchboard {
    /// Leaves a message alone that is nothing to this program: it holds up nobody, and waits for one that knows better, as
    /// there is while a deploy goes on. An hour after that was first found it is parked.
    async fn strange(&self, claimed: &Claimed, rule: &'static str, why: &'static str) -> Stays {
        let (now, reason) = (self.0.clock.now(), Reason::new(rule, why));
        match self.0.store.0.strange_since(claimed.hold.id, reason, now).await {
            Ok(since) if now.since(since) >= STRANGE_MAX => Stays::Ends(State::Parked, why),
            Ok(_) => Stays::PutOff(PutOff { until: now.plus(STRANGE), why, planned: true }),
            Err(error) => Stays::Failed(error),
        }
    }
}
