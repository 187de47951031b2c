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
use crate::model::random::{Random, SystemRandom};
use crate::telemetry;
use crate::webhook::{self, Received};

mod selector;
pub use selector::{Attempted, Order, Selector};

/// Several gateways as one channel of one medium. Tries the next gateway if one certainly did not accept the message
/// and another could.
///
/// A message with an unknown outcome does not fail over, unless it has
/// [`OnUnknown::Resend`](crate::OnUnknown::Resend); nor does one that the recipient or the medium refused. See
/// [`Selector::can_fail_over`] and [`ErrorKind::is_failover_eligible`]. [`Accepted::gateway`] and [`Error::gateway`] name
/// the gateway; keep it for [`LookupQuery::gateway`].
///
/// Its capabilities are those that all members share. A webhook is offered to each member until one verifies it; a media
/// file and an indicator are passed to their own gateway. Poll and upload through the members: a cursor and a file belong
/// to one of them. If the members count texts in different units, the first member's limit applies, and a member that
/// cannot send a message is skipped.
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
/// first.will_fail(Error::new(ErrorKind::OptedOut, "recipient sent STOP").with_outcome(Outcome::Rejected));
/// assert!(sms.send_text(&to, "Never fails over").await.is_err());
/// second.assert_nothing_sent();
///
/// first.will_fail(Error::new(ErrorKind::Account, "out of credit").with_outcome(Outcome::Rejected));
/// sms.send_text(&to, "Fails over").await?;
/// second.assert_sent("07700 900123", "Fails over");
/// # Ok::<(), Error>(()) }).unwrap();
/// ```
pub struct Failover {
    info: Info,
    members: Vec<Arc<dyn Channel>>,
    selector: Mutex<Selector>,
    weighted: bool,
    /// The members differ in rules that `info` cannot combine: each checks a message by itself.
    heterogeneous: bool,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl Failover {
    /// Combines these channels, the preferred one first.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for none or more than 64, and for channels of several media: the text, the cost and the
    /// consent of another medium are for the service to decide.
    pub fn new(members: impl IntoIterator<Item = Arc<dyn Channel>>) -> Result<Self> {
        let members: Vec<_> = members.into_iter().collect();
        let selector = Selector::new(members.len(), Order::Preferred)?;
        let info = combined_info(&members)?;
        let heterogeneous = members.iter().any(|member| needs_own_check(member.info(), &info));
        Ok(Self {
            info,
            members,
            selector: Mutex::new(selector),
            weighted: false,
            heterogeneous,
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom),
        })
    }

    /// Sets the order.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for weights that are all 0 or not one for each member.
    pub fn order(mut self, order: Order) -> Result<Self> {
        self.weighted = matches!(order, Order::Weighted(_));
        let selector = self.selector.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.selector = Mutex::new(selector.order(order)?);
        Ok(self)
    }

    /// Sets the circuit breaker. Each member gets its own copy.
    #[must_use]
    pub fn breaker(mut self, breaker: &Breaker) -> Self {
        let selector = self.selector.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.selector = Mutex::new(selector.breaker(breaker));
        self
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the source of random bytes, for weights.
    #[must_use]
    pub fn random(mut self, random: impl Random) -> Self {
        self.random = Arc::new(random);
        self
    }

    fn selector(&self) -> MutexGuard<'_, Selector> {
        self.selector.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pick(&self, attempted: &mut Attempted, now: Duration) -> Option<(usize, &Arc<dyn Channel>)> {
        let random = if self.weighted { self.random.next_u64() } else { 0 };
        let n = self.selector().pick(attempted, now, random)?;
        Some((n, self.members.get(n)?))
    }

    fn members_of<'a>(&'a self, gateway: Option<&'a str>) -> impl Iterator<Item = &'a Arc<dyn Channel>> {
        self.members.iter().filter(move |member| gateway.is_none_or(|gateway| member.info().gateway == gateway))
    }
}

impl fmt::Debug for Failover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Failover").field(&self.members).finish()
    }
}

/// Returns the error of a send that failed everywhere: the final one; else the retryable one with the shortest wait; else
/// the last.
fn representative_error(mut errors: Vec<Error>, is_final: bool) -> Error {
    let wait = |n: &usize| errors.get(*n).and_then(Error::retry_after).unwrap_or_default();
    let soonest = (0..errors.len()).filter(|n| errors.get(*n).is_some_and(Error::is_retryable)).min_by_key(wait);
    match soonest.filter(|_| !is_final) {
        Some(n) => errors.swap_remove(n),
        None => errors.pop().unwrap_or_else(|| Error::new(ErrorKind::Unavailable, "no gateway available")),
    }
}

/// Returns `true` if a member may be unable to send a message that passes the combined check.
fn needs_own_check(member: &Info, combined: &Info) -> bool {
    let unit = |info: &Info| info.capability.text.map(|text| text.unit);
    unit(member) != unit(combined)
        || [
            member.address_rule.is_some(),
            member.message_rule.is_some(),
            member.rewrites.is_some(),
            member.text_length.is_some(),
        ]
        .contains(&true)
}

/// Returns the capabilities that all members share.
fn combined_info(members: &[Arc<dyn Channel>]) -> Result<Info> {
    let first = members.first().ok_or_else(|| Error::config("suppliers", "must be 1 or more"))?.info();
    let mut info = first.clone();
    for member in members.iter().map(|member| member.info()) {
        if member.medium != first.medium {
            return Err(Error::config(
                "suppliers",
                format!("must share one medium, but are {} and {}", first.medium, member.medium),
            ));
        }
        info.capability = info.capability.intersection(&member.capability);
        info.capability.native &= member.wire == first.wire;
        let new = member.layers.iter().filter(|layer| !info.layers.contains(layer)).copied().collect::<Vec<_>>();
        info.layers.extend(new);
    }
    (info.capability.poll, info.capability.upload_media) = (false, false);
    (info.capability.rate, info.capability.pair_rate) = (None, None);
    // A resend may go to another member, which does not recognise it.
    info.capability.idempotency_window = None;
    if let Some(media) = &mut info.capability.media {
        // An uploaded file belongs to one gateway.
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
        let (mut attempted, mut unknown, mut errors) = (Attempted::default(), None::<Error>, Vec::new());
        let mut is_final = false;
        for (n, member) in self.members.iter().enumerate().filter(|_| self.heterogeneous) {
            if let Err(error) = member.info().check(message) {
                attempted.exclude(n);
                errors.push(error);
            }
        }
        let mut now = self.clock.monotonic();
        let mut picked = self.pick(&mut attempted, now);
        while let Some((n, member)) = picked {
            let result = member.send(message).await;
            // Only a failure needs the current time.
            now = if result.is_ok() { now } else { self.clock.monotonic() };
            let transition = self.selector().report(n, &result, now);
            if let Some(transition) = transition {
                transition.record(member.info());
            }
            let error = match result {
                Ok(accepted) => return Ok(accepted),
                Err(error) => error,
            };
            let can_fail_over = Selector::can_fail_over(&error, message);
            picked = if can_fail_over { self.pick(&mut attempted, now) } else { None };
            telemetry::member_failed(member.info(), &error, picked.is_some());
            is_final = !can_fail_over;
            match (error.outcome(), unknown.take()) {
                (_, Some(before)) => unknown = Some(error.after_unknown(before)),
                (Outcome::Unknown, None) => unknown = Some(error),
                (Outcome::NotSent | Outcome::Rejected, None) => errors.push(error),
            }
        }
        // One unknown outcome makes the send unknown, whatever the other gateways answered.
        if let Some(unknown) = unknown {
            return Err(unknown);
        }
        if !is_final && let Some(wait) = self.selector().open_for(attempted, now) {
            let text = "circuit breaker open: a gateway was not tried";
            errors.push(Error::new(ErrorKind::Unavailable, text).with_retry(true, Some(wait)));
        }
        Err(representative_error(errors, is_final))
    }

    async fn receive(&self, request: &webhook::Request) -> Result<Received> {
        let (mut all, mut failed) = (None::<Received>, None);
        for member in &self.members {
            match member.receive(request).await {
                // An event that this member discards as foreign may belong to the next one: one app may serve two numbers.
                Ok(received) => match &mut all {
                    None => all = Some(received),
                    Some(all) => {
                        all.discarded.retain(|left| received.discarded.iter().any(|one| one.account == left.account));
                        all.events.extend(received.events);
                    }
                },
                // Possibly signed for the next member. Any other error is more specific.
                Err(error) if error.kind() == ErrorKind::Unauthenticated => drop(failed.get_or_insert(error)),
                Err(error) => failed = Some(error),
            }
            if all.as_ref().is_some_and(|all| all.discarded.is_empty()) {
                break;
            }
        }
        all.ok_or_else(|| failed.unwrap_or_else(|| Error::unsupported("this channel receives no webhooks")))
    }

    /// Returns `None`: each member has its own.
    fn verifier(&self) -> Option<&webhook::Verifier> {
        None
    }

    async fn poll(&self, _after: Option<&Cursor>) -> Result<Page> {
        Err(Error::unsupported("a failover cannot be polled: poll its members").with_gateway(self.info.gateway))
    }

    /// Queries the gateway that the query names, or all gateways if it names none.
    async fn look_up(&self, query: &LookupQuery) -> Result<LookupOutcome> {
        let (mut found, mut outcome) = (Vec::new(), None);
        let mut failed = None;
        for member in self.members_of(query.gateway.as_deref()) {
            match member.look_up(query).await {
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
        let text = "a failover accepts no uploads, because a file belongs to one gateway: upload through its members";
        Err(Error::unsupported(text).with_gateway(self.info.gateway))
    }

    async fn fetch_media(&self, media: &MediaRef) -> Result<MediaStream> {
        let mut failed =
            Error::unsupported("no gateway of this channel holds the file").with_gateway(self.info.gateway);
        for member in self.members_of(Some(&media.gateway)) {
            match member.fetch_media(media).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    async fn send_indicator(&self, inbound: &Inbound, indicator: Indicator) -> Result<()> {
        let mut failed =
            Error::unsupported("no gateway of this channel received the message").with_gateway(self.info.gateway);
        for member in
            self.members_of(Some(&inbound.envelope.gateway)).filter(|m| m.info().account == inbound.envelope.account)
        {
            match member.send_indicator(inbound, indicator).await {
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
