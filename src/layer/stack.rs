//! The layers in their right order.

use std::sync::Arc;

use super::breaker::Breaker;
use super::failover::{Order, Selector};
use super::retry::{Budget, Schedule};
use super::{CircuitBreaker, Failover, Layer, RateLimit, Retry};
use crate::channel::Channel;
use crate::model::clock::{Clock, SystemClock};
use crate::model::error::{Error, Result};
#[cfg(any(feature = "metrics", feature = "tracing"))]
use crate::model::secret::Secret;

/// The layers in their right order, around one gateway or several.
///
/// `Trace -> Failover -> Retry -> RateLimit -> CircuitBreaker -> gateway`, of which `Failover` is there for several
/// gateways. A retry is brief then (2 tries within 5 seconds in place of 4 within a minute), since another gateway waits.
/// Limits are those that the gateways document, unless [`with_limit`](Self::limit) gives others.
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
    budget: Budget,
    breaker: Breaker,
    clock: Arc<dyn Clock>,
    #[cfg(any(feature = "metrics", feature = "tracing"))]
    pepper: Option<Secret>,
}

impl Stack {
    /// Around this gateway.
    pub fn new(channel: impl Channel) -> Self {
        Self {
            suppliers: vec![(Arc::new(channel), None)],
            order: Order::Preferred,
            schedule: None,
            budget: Budget::new(),
            breaker: Breaker::new(),
            clock: Arc::new(SystemClock::new()),
            #[cfg(any(feature = "metrics", feature = "tracing"))]
            pepper: None,
        }
    }

    /// Or this one, where those before cannot take a message.
    #[must_use]
    pub fn failover_to(mut self, channel: impl Channel) -> Self {
        self.suppliers.push((Arc::new(channel), None));
        self
    }

    /// Keeps the gateway that was given last to these limits. Channels of one account are given the same.
    #[must_use]
    pub fn limit(mut self, limit: RateLimit) -> Self {
        if let Some((_, own)) = self.suppliers.last_mut() {
            *own = Some(limit);
        }
        self
    }

    /// Asks several gateways in another order.
    #[must_use]
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Tries again by another schedule.
    #[must_use]
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = Some(schedule);
        self
    }

    /// Tries again within another budget, which each gateway has for itself.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// Leaves gateways alone by another breaker, which each has for itself.
    #[must_use]
    pub fn breaker(mut self, breaker: Breaker) -> Self {
        self.breaker = breaker;
        self
    }

    /// By another clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Shows a person in the trace as a fingerprint under this pepper. Without one, persons are not shown at all.
    #[cfg(any(feature = "metrics", feature = "tracing"))]
    #[must_use]
    pub fn pepper(mut self, pepper: Secret) -> Self {
        self.pepper = Some(pepper);
        self
    }

    /// How it tries again where nothing else was said.
    pub(crate) fn usual_schedule(&self) -> Schedule {
        if self.suppliers.len() > 1 { Schedule::BRIEF } else { Schedule::new() }
    }

    /// Puts it together.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a channel that has layers already, for gateways of several media,
    /// and for weights that do not fit.
    pub fn build(self) -> Result<Arc<dyn Channel>> {
        // Wrong weights are wrong for one gateway, too.
        Selector::new(self.suppliers.len(), self.order.clone())?;
        let schedule = self.schedule.unwrap_or_else(|| self.usual_schedule());
        let mut members = Vec::with_capacity(self.suppliers.len());
        for (channel, limit) in self.suppliers {
            let info = channel.info();
            if let Some(layer) = info.layers.first() {
                let rule =
                    format!("hold a channel of {} that has the layer {layer} already: give the bare one", info.gateway);
                return Err(Error::config("suppliers", rule));
            }
            // One that was given may be shared, and its times are of its own clock.
            let limit = limit.unwrap_or_else(|| RateLimit::from_info(info).clock(self.clock.clone()));
            let circuit = CircuitBreaker::from_breaker(self.breaker.clone()).clock(self.clock.clone());
            let retry = Retry::new().schedule(schedule).budget(self.budget.clone());
            members.push(retry.clock(self.clock.clone()).wrap(limit.wrap(circuit.wrap(channel))));
        }
        let stack: Arc<dyn Channel> = match members.pop() {
            Some(only) if members.is_empty() => only,
            last => {
                members.extend(last);
                let failover = Failover::new(members)?.order(self.order)?.breaker(&self.breaker);
                Arc::new(failover.clock(self.clock.clone()))
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
