//! Several gateways as one channel.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::breaker::Breaker;
use crate::channel::{Channel, Indicator};
use crate::media::MediaStream;
use crate::model::clock::{Clock, SystemClock};
use crate::model::error::{Error, ErrorKind, Outcome, Result};
use crate::model::event::Inbound;
use crate::model::health::{CheckStatus, Health};
use crate::model::info::Info;
use crate::model::lookup::{LookupOutcome, LookupQuery};
use crate::model::message::{Accepted, Media, MediaRef, Message};
use crate::model::poll::{Cursor, Page};
use crate::telemetry;
use crate::webhook::{self, Received};

mod selector;
pub use selector::{Attempted, Order, Selector};

/// Several gateways as one channel of one medium: when the one certainly did not take a message, and another could,
/// the next is asked.
///
/// What may have gone stays where it is, unless the message says [`OnUnknown::Resend`](crate::OnUnknown::Resend); so
/// does what a person or the medium refused. See [`Selector::moves_on`] and [`ErrorKind::is_failover_eligible`].
/// [`Accepted::gateway`] and [`Error::gateway`] say by which it went; keep it for [`LookupQuery::gateway`].
///
/// It can do what all of them can. Webhooks are tried with each, and the one that verifies has it; a file and a signal go
/// to the gateway that they are of. To poll and to upload, use the members: a place and a file are of one of them.
/// Where texts are counted in different units, the first one's limit stands, and a member that cannot carry a message is
/// passed over.
///
/// ```
/// use std::sync::Arc;
/// use civic_messaging::layer::Failover;
/// use civic_messaging::{Address, Channel, ChannelExt, Error, ErrorKind, Mock, Outcome};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let (first, second) = (Mock::sms(), Mock::sms());
/// let sms = Failover::new([Arc::new(first.clone()) as Arc<dyn Channel>, Arc::new(second.clone())])?;
/// let to = Address::phone("07700 900123")?;
///
/// first.will_fail(Error::new(ErrorKind::OptedOut, "said STOP").with_outcome(Outcome::Rejected));
/// assert!(sms.send_text(&to, "Carried to nobody").await.is_err());
/// second.assert_nothing_sent();
///
/// first.will_fail(Error::new(ErrorKind::Account, "out of money").with_outcome(Outcome::Rejected));
/// sms.send_text(&to, "Carried to the second").await?;
/// second.assert_sent("07700 900123", "Carried to the second");
/// # Ok::<(), Error>(()) }).unwrap();
/// ```
pub struct Failover {
    info: Info,
    members: Vec<Arc<dyn Channel>>,
    choice: Mutex<Selector>,
    weighted: bool,
    /// They differ in what `info` cannot say for all, so each has to be asked whether it can carry a message.
    unlike: bool,
    clock: Arc<dyn Clock>,
}

impl Failover {
    /// These channels, the preferred one first.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for none or more than 64, and for channels of several media: what a message of another
    /// medium would say, cost and need is for the service to decide.
    pub fn new(members: impl IntoIterator<Item = Arc<dyn Channel>>) -> Result<Self> {
        let members: Vec<_> = members.into_iter().collect();
        let choice = Selector::new(members.len(), Order::Preferred)?;
        let info = together(&members)?;
        let unlike = members.iter().any(|member| unlike(member.info(), &info));
        let (choice, clock) = (Mutex::new(choice), Arc::new(SystemClock::new()));
        Ok(Self { info, members, choice, weighted: false, unlike, clock })
    }

    /// In another order.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for weights that are not one a member, or all 0.
    pub fn order(mut self, order: Order) -> Result<Self> {
        self.weighted = matches!(order, Order::Weighted(_));
        let choice = self.choice.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.choice = Mutex::new(choice.order(order)?);
        Ok(self)
    }

    /// Watches the members by another breaker.
    #[must_use]
    pub fn breaker(mut self, breaker: &Breaker) -> Self {
        let choice = self.choice.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.choice = Mutex::new(choice.breaker(breaker));
        self
    }

    /// By another clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    fn choice(&self) -> MutexGuard<'_, Selector> {
        self.choice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pick(&self, asked: &mut Attempted, now: Duration) -> Option<(usize, &Arc<dyn Channel>)> {
        let chance = if self.weighted { self.clock.chance() } else { 0 };
        let n = self.choice().pick(asked, now, chance)?;
        Some((n, self.members.get(n)?))
    }

    fn of<'a>(&'a self, gateway: Option<&'a str>) -> impl Iterator<Item = &'a Arc<dyn Channel>> {
        self.members.iter().filter(move |member| gateway.is_none_or(|gateway| member.info().gateway == gateway))
    }
}

impl fmt::Debug for Failover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Failover").field(&self.members).finish()
    }
}

/// What is told of a send that failed everywhere: the no that ended it; else what passes soonest; else the last.
fn told(mut failed: Vec<Error>, ended: bool) -> Error {
    let wait = |n: &usize| failed.get(*n).and_then(Error::retry_after).unwrap_or_default();
    let soonest = (0..failed.len()).filter(|n| failed.get(*n).is_some_and(Error::is_retryable)).min_by_key(wait);
    match soonest.filter(|_| !ended) {
        Some(n) => failed.swap_remove(n),
        None => failed.pop().unwrap_or_else(|| Error::new(ErrorKind::Unavailable, "no gateway could be asked")),
    }
}

/// Whether one may not be able to carry what all of them together can.
fn unlike(one: &Info, together: &Info) -> bool {
    let unit = |info: &Info| info.capability.text.map(|text| text.unit);
    unit(one) != unit(together)
        || [one.address_rule.is_some(), one.message_rule.is_some(), one.rewrites.is_some(), one.text_length.is_some()]
            .contains(&true)
}

/// What all of them can do.
fn together(members: &[Arc<dyn Channel>]) -> Result<Info> {
    let first = members.first().ok_or_else(|| Error::config("suppliers", "must be one at least"))?.info();
    let mut info = first.clone();
    for member in members.iter().map(|member| member.info()) {
        if member.medium != first.medium {
            return Err(Error::config(
                "suppliers",
                format!("must be of one medium, and not {} and {}", first.medium, member.medium),
            ));
        }
        info.capability = info.capability.intersection(&member.capability);
        info.capability.native &= member.wire == first.wire;
        let new = member.layers.iter().filter(|layer| !info.layers.contains(layer)).copied().collect::<Vec<_>>();
        info.layers.extend(new);
    }
    (info.capability.poll, info.capability.upload_media) = (false, false);
    (info.capability.rate, info.capability.pair_rate) = (None, None);
    if let Some(media) = &mut info.capability.media {
        // A file that a gateway holds is that gateway's.
        media.gateway = false;
    }
    info.gateway = "failover";
    Ok(info.with_layer("failover"))
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Channel for Failover {
    fn info(&self) -> &Info {
        &self.info
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        self.info.check(message)?;
        let (mut asked, mut doubt, mut failed, mut ended) = (Attempted::default(), None::<Error>, Vec::new(), false);
        for (n, member) in self.members.iter().enumerate().filter(|_| self.unlike) {
            if let Err(error) = member.info().check(message) {
                asked.pass_over(n);
                failed.push(error);
            }
        }
        let mut now = self.clock.monotonic();
        let mut picked = self.pick(&mut asked, now);
        while let Some((n, member)) = picked {
            let sent = member.send(message).await;
            // The time matters for a fault only.
            now = if sent.is_ok() { now } else { self.clock.monotonic() };
            let change = self.choice().report(n, &sent, now);
            if let Some(change) = change {
                change.record(member.info());
            }
            let error = match sent {
                Ok(accepted) => return Ok(accepted),
                Err(error) => error,
            };
            picked = if Selector::moves_on(&error, message) { self.pick(&mut asked, now) } else { None };
            telemetry::failed_at(member.info(), &error, picked.is_some());
            ended = picked.is_none() && !Selector::moves_on(&error, message);
            match (error.outcome(), doubt.take()) {
                (_, Some(before)) => doubt = Some(error.after_unknown(before)),
                (Outcome::Unknown, None) => doubt = Some(error),
                (Outcome::NotSent | Outcome::Rejected, None) => failed.push(error),
            }
        }
        // What one may have taken stays in doubt, whatever the others said.
        if let Some(doubt) = doubt {
            return Err(doubt);
        }
        if !ended && let Some(rest) = self.choice().rest_of(asked, now) {
            let words = "a gateway that was not asked is left alone for a while";
            failed.push(Error::new(ErrorKind::Unavailable, words).with_retry(true, Some(rest)));
        }
        Err(told(failed, ended))
    }

    async fn receive(&self, request: &webhook::Request) -> Result<Received> {
        let (mut all, mut refused) = (None::<Received>, None);
        for member in &self.members {
            match member.receive(request).await {
                // What this one leaves out as another's may be the next one's: of one app, say, that serves two numbers.
                Ok(received) => match &mut all {
                    None => all = Some(received),
                    Some(all) => {
                        all.discarded.retain(|left| received.discarded.iter().any(|one| one.account == left.account));
                        all.events.extend(received.events);
                    }
                },
                // Not its own, so it may be the next one's. What is more than that says more.
                Err(error) if error.kind() == ErrorKind::Unauthenticated => drop(refused.get_or_insert(error)),
                Err(error) => refused = Some(error),
            }
            if all.as_ref().is_some_and(|all| all.discarded.is_empty()) {
                break;
            }
        }
        all.ok_or_else(|| refused.unwrap_or_else(|| Error::unsupported("this channel takes no webhooks")))
    }

    /// None: each member has its own.
    fn verifier(&self) -> Option<&webhook::Verifier> {
        None
    }

    async fn poll(&self, _after: Option<&Cursor>) -> Result<Page> {
        Err(Error::unsupported("a failover cannot be polled: poll its members").with_gateway(self.info.gateway))
    }

    /// Asks the gateway that the message was handed to, or all where that is not said.
    async fn look_up(&self, sent: &LookupQuery) -> Result<LookupOutcome> {
        let (mut found, mut outcome) = (Vec::new(), None);
        let mut failed = None;
        for member in self.of(sent.gateway.as_deref()) {
            match member.look_up(sent).await {
                Ok(LookupOutcome::Found(deliveries)) => found.extend(deliveries),
                Ok(LookupOutcome::NotFound) => outcome = outcome.or(Some(LookupOutcome::NotFound)),
                Ok(LookupOutcome::Inconclusive) => outcome = Some(LookupOutcome::Inconclusive),
                Err(error) => failed = Some(error),
            }
        }
        match (found.is_empty(), failed) {
            (false, _) => Ok(LookupOutcome::Found(found)),
            (true, Some(error)) => Err(error),
            (true, None) => Ok(outcome.unwrap_or(LookupOutcome::Inconclusive)),
        }
    }

    async fn upload_media(&self, _media: &Media, _bytes: MediaStream) -> Result<MediaRef> {
        let words = "a failover takes no uploads, since a file is of one gateway: upload by its members";
        Err(Error::unsupported(words).with_gateway(self.info.gateway))
    }

    async fn fetch_media(&self, media: &MediaRef) -> Result<MediaStream> {
        let mut failed =
            Error::unsupported("no gateway of this channel holds the file").with_gateway(self.info.gateway);
        for member in self.of(Some(&media.gateway)) {
            match member.fetch_media(media).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    async fn send_indicator(&self, inbound: &Inbound, signal: Indicator) -> Result<()> {
        let mut failed =
            Error::unsupported("no gateway of this channel brought the message").with_gateway(self.info.gateway);
        for member in self.of(Some(&inbound.envelope.gateway)).filter(|m| m.info().account == inbound.envelope.account)
        {
            match member.send_indicator(inbound, signal).await {
                Ok(()) => return Ok(()),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    async fn health(&self) -> Result<Health> {
        let mut health = Health::default();
        for member in &self.members {
            match member.health().await {
                Ok(found) => health.checks.extend(found.checks),
                Err(error) => health = health.check_result(member.info().gateway, CheckStatus::Fail, error.to_string()),
            }
        }
        Ok(health)
    }
}
