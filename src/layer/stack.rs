//! The layers in their right order.

use std::sync::Arc;
use std::time::Duration;

use super::failover::{Choice, Order};
use super::retry::{Budget, Schedule};
use super::{CircuitBreaker, Failover, Layer, RateLimit, Retry};
use crate::channel::Channel;
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Result};
#[cfg(any(feature = "metrics", feature = "tracing"))]
use crate::secret::Secret;

/// The layers in their right order, around one gateway or several.
///
/// Around one: `Trace -> Retry -> CircuitBreaker -> RateLimit -> gateway`. Around several: `Trace -> Failover`, and in it
/// `Retry -> RateLimit -> gateway` for each; a retry is brief then, since another gateway waits. Limits are those that the
/// gateways document, unless a channel has a [`RateLimit`] of its own already.
///
/// ```
/// use civic_messaging::layer::Stack;
/// use civic_messaging::{Channel, Mock};
///
/// let sms = Stack::of(Mock::sms()).or(Mock::sms()).build()?;
/// # #[cfg(feature = "tracing")]
/// assert_eq!(sms.info().layers, ["trace", "failover", "retry", "rate_limit"]);
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[derive(Debug)]
pub struct Stack {
    suppliers: Vec<Arc<dyn Channel>>,
    order: Order,
    schedule: Option<Schedule>,
    budget: Budget,
    clock: Arc<dyn Clock>,
    #[cfg(any(feature = "metrics", feature = "tracing"))]
    pepper: Option<Secret>,
}

impl Stack {
    /// Around this gateway.
    pub fn of(channel: impl Channel) -> Self {
        Self {
            suppliers: vec![Arc::new(channel)],
            order: Order::Preferred,
            schedule: None,
            budget: Budget::new(),
            clock: Arc::new(SystemClock::new()),
            #[cfg(any(feature = "metrics", feature = "tracing"))]
            pepper: None,
        }
    }

    /// Or this one, where those before cannot take a message.
    #[must_use]
    pub fn or(mut self, channel: impl Channel) -> Self {
        self.suppliers.push(Arc::new(channel));
        self
    }

    /// Asks several gateways in another order.
    #[must_use]
    pub fn with_order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Tries again by another schedule.
    #[must_use]
    pub fn with_schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = Some(schedule);
        self
    }

    /// Tries again within another budget, which each gateway has for itself.
    #[must_use]
    pub fn with_budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// By another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Shows a person in the trace as a fingerprint under this pepper. Without one, persons are not shown at all.
    #[cfg(any(feature = "metrics", feature = "tracing"))]
    #[must_use]
    pub fn with_pepper(mut self, pepper: Secret) -> Self {
        self.pepper = Some(pepper);
        self
    }

    /// Puts it together.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a channel that retries or fails over already, for gateways of
    /// several media, and for weights that do not fit.
    pub fn build(self) -> Result<Arc<dyn Channel>> {
        let several = self.suppliers.len() > 1;
        // Wrong weights are wrong for one gateway, too.
        Choice::new(self.suppliers.len(), self.order.clone())?;
        let brief = || Schedule::new().with_attempts(2).map(|schedule| schedule.within(Duration::from_secs(5)));
        let schedule = match self.schedule {
            Some(schedule) => schedule,
            None if several => brief()?,
            None => Schedule::new(),
        };
        let mut members = Vec::with_capacity(self.suppliers.len());
        for channel in self.suppliers {
            let info = channel.info();
            if let Some(layer) = info.layers.iter().find(|layer| **layer != "rate_limit") {
                let rule =
                    format!("hold a channel of {} that has the layer {layer} already: give the bare one", info.gateway);
                return Err(Error::config("suppliers", rule));
            }
            let limited = info.layers.contains(&"rate_limit");
            let limit = RateLimit::of(info).with_clock(self.clock.clone());
            let channel = if limited { channel } else { limit.wrap(channel) };
            let channel =
                if several { channel } else { CircuitBreaker::new().with_clock(self.clock.clone()).wrap(channel) };
            let retry = Retry::new().with_schedule(schedule).with_budget(self.budget.clone());
            members.push(retry.with_clock(self.clock.clone()).wrap(channel));
        }
        let stack: Arc<dyn Channel> = match members.pop() {
            Some(only) if members.is_empty() => only,
            last => {
                members.extend(last);
                Arc::new(Failover::new(members)?.with_order(self.order)?.with_clock(self.clock.clone()))
            }
        };
        #[cfg(any(feature = "metrics", feature = "tracing"))]
        let stack = {
            let trace = super::Trace::new().with_clock(self.clock);
            self.pepper.into_iter().fold(trace, super::Trace::with_pepper).wrap(stack)
        };
        Ok(stack)
    }
}
