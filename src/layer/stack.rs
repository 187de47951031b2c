//! The builder [`Stack`].

use std::sync::Arc;

use super::breaker::Breaker;
use super::failover::{Order, Selector};
use super::retry::{RetryBudget, Schedule};
use super::{CircuitBreaker, Failover, Layer, RateLimit, Retry};
use crate::channel::Channel;
use crate::model::clock::{Clock, SystemClock};
use crate::model::error::{Error, Result};
use crate::model::random::{Random, SystemRandom};
#[cfg(any(feature = "metrics", feature = "tracing"))]
use crate::model::secret::Secret;

/// Builds the layers in the recommended order, around one gateway or several.
///
/// The order is `Trace -> Failover -> Retry -> RateLimit -> CircuitBreaker -> gateway`; `Failover` is present with
/// several gateways. Retries are then brief: 2 attempts within 5 seconds in place of 4 within a minute. Rates are those
/// that the gateways document, unless [`limit`](Self::limit) sets others.
///
/// ```
/// use civic_messaging::layer::Stack;
/// use civic_messaging::{Channel, Mock};
///
/// let sms = Stack::new(Mock::sms()).failover_to(Mock::sms()).build()?;
/// # #[cfg(feature = "tracing")]
/// assert_eq!(sms.info().layers, ["trace", "failover", "retry", "rate_limit", "circuit_breaker"]);
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[derive(Debug)]
pub struct Stack {
    suppliers: Vec<(Arc<dyn Channel>, Option<RateLimit>)>,
    order: Order,
    schedule: Option<Schedule>,
    budget: RetryBudget,
    breaker: Breaker,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    #[cfg(any(feature = "metrics", feature = "tracing"))]
    pepper: Option<Secret>,
}

impl Stack {
    /// Creates a stack around this gateway.
    pub fn new(channel: impl Channel) -> Self {
        Self {
            suppliers: vec![(Arc::new(channel), None)],
            order: Order::Preferred,
            schedule: None,
            budget: RetryBudget::new(),
            breaker: Breaker::new(),
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom),
            #[cfg(any(feature = "metrics", feature = "tracing"))]
            pepper: None,
        }
    }

    /// Adds a gateway that is tried if the previous ones cannot accept a message.
    #[must_use]
    pub fn failover_to(mut self, channel: impl Channel) -> Self {
        self.suppliers.push((Arc::new(channel), None));
        self
    }

    /// Sets the rate limit of the gateway added last. Give channels of one account the same one.
    #[must_use]
    pub fn limit(mut self, limit: RateLimit) -> Self {
        if let Some((_, last)) = self.suppliers.last_mut() {
            *last = Some(limit);
        }
        self
    }

    /// Sets the order in which gateways are tried.
    #[must_use]
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Sets the retry schedule.
    #[must_use]
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = Some(schedule);
        self
    }

    /// Sets the retry budget. Each gateway gets its own.
    #[must_use]
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.budget = budget;
        self
    }

    /// Sets the circuit breaker. Each gateway gets its own.
    #[must_use]
    pub fn breaker(mut self, breaker: Breaker) -> Self {
        self.breaker = breaker;
        self
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the source of random bytes, for jitter and weights.
    #[must_use]
    pub fn random(mut self, random: impl Random) -> Self {
        self.random = Arc::new(random);
        self
    }

    /// Shows persons in the trace as fingerprints keyed with this pepper. Without one, persons are not shown.
    #[cfg(any(feature = "metrics", feature = "tracing"))]
    #[must_use]
    pub fn pepper(mut self, pepper: Secret) -> Self {
        self.pepper = Some(pepper);
        self
    }

    /// Returns the default retry schedule.
    pub(crate) fn default_schedule(&self) -> Schedule {
        if self.suppliers.len() > 1 { Schedule::BRIEF } else { Schedule::new() }
    }

    /// Builds the stack.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a channel that already has layers, for gateways of several
    /// media, and for weights that do not match the gateways.
    pub fn build(self) -> Result<Arc<dyn Channel>> {
        // Validates the weights for a single gateway too.
        Selector::new(self.suppliers.len(), self.order.clone())?;
        let schedule = self.schedule.unwrap_or_else(|| self.default_schedule());
        let mut members = Vec::with_capacity(self.suppliers.len());
        for (channel, limit) in self.suppliers {
            let info = channel.info();
            if let Some(layer) = info.layers.first() {
                let rule =
                    format!("a channel of {} already has the layer {layer}: pass the bare channel", info.gateway);
                return Err(Error::config("suppliers", rule));
            }
            // A given limit may be shared, and keeps its own clock.
            let limit = limit.unwrap_or_else(|| RateLimit::from_info(info).clock(self.clock.clone()));
            let circuit = CircuitBreaker::from_breaker(self.breaker.clone()).clock(self.clock.clone());
            let retry = Retry::new().schedule(schedule).budget(self.budget.clone());
            let retry = retry.clock(self.clock.clone()).random(self.random.clone());
            members.push(retry.wrap(limit.wrap(circuit.wrap(channel))));
        }
        let stack: Arc<dyn Channel> = match members.pop() {
            Some(only) if members.is_empty() => only,
            last => {
                members.extend(last);
                let failover = Failover::new(members)?.order(self.order)?.breaker(&self.breaker);
                Arc::new(failover.clock(self.clock.clone()).random(self.random.clone()))
            }
        };
        #[cfg(any(feature = "metrics", feature = "tracing"))]
        let stack = {
            let trace = super::Trace::new().clock(self.clock);
            self.pepper.into_iter().fold(trace, super::Trace::pepper).wrap(stack)
        };
        Ok(stack)
    }
}
