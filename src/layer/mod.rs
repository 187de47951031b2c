//! Layers: channels that wrap a channel and decide when and how often it is called.
//!
//! | layer | does | decision |
//! |---|---|---|
//! | `Trace` | records outcomes in `tracing` and `metrics` | |
//! | [`Failover`] | tries another gateway if that helps and cannot duplicate the message | [`failover::Selector`] |
//! | [`Retry`] | retries what was certainly not sent | [`retry::Schedule`], [`retry::RetryBudget`] |
//! | [`RateLimit`] | waits for the rate limit | [`rate_limit::Limiter`] |
//! | [`CircuitBreaker`] | stops calling a gateway that does not respond | [`breaker::Breaker`] |
//!
//! Their order, outside in: `Trace -> Failover -> Retry -> RateLimit -> CircuitBreaker -> gateway`. [`Stack`] builds it;
//! [docs/layers.md](https://docs.rs/crate/civic-messaging/latest/source/docs/layers.md) compares it with three wrong
//! orders. [`Info::layers`](crate::Info::layers) lists the layers of a channel.
//!
//! Each decision is a value that reads no clock and no random source, usable without the layer.
//!
//! There is no timeout layer: dropping the future of a send leaves its outcome unknown. Set the timeout on the transport,
//! whose errors record whether any byte left.

use std::sync::Arc;

use crate::channel::Channel;

pub mod breaker;
mod circuit_breaker;
pub mod failover;
pub mod rate_limit;
pub mod retry;
mod stack;
#[cfg(any(feature = "metrics", feature = "tracing"))]
mod trace;

pub use circuit_breaker::CircuitBreaker;
pub use failover::Failover;
pub use rate_limit::RateLimit;
pub use retry::Retry;
pub use stack::Stack;
#[cfg(any(feature = "metrics", feature = "tracing"))]
pub use trace::Trace;

/// Wraps channels in another channel.
///
/// A layer holds its state itself: several channels wrapped by the same layer share one budget or one limit.
pub trait Layer: Send + Sync {
    /// Wraps a shared channel.
    fn wrap(&self, inner: Arc<dyn Channel>) -> Arc<dyn Channel>;

    /// Wraps a channel.
    fn layer(&self, inner: impl Channel) -> Arc<dyn Channel>
    where
        Self: Sized,
    {
        self.wrap(Arc::new(inner))
    }
}

const _: fn(&dyn Layer) = |_| {};
