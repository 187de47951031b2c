//! Layers: channels around a channel, that decide when and how often.
//!
//! | layer | does | by the decision |
//! |---|---|---|
//! | `Trace` | says what happened, in `tracing` and `metrics` | |
//! | [`Failover`] | asks another gateway where that helps and doubles nothing | [`failover::Selector`] |
//! | [`Retry`] | tries again what certainly did not go | [`retry::Schedule`], [`retry::Budget`] |
//! | [`RateLimit`] | waits for its turn | [`rate_limit::Limiter`] |
//! | [`CircuitBreaker`] | leaves a gateway alone that does not answer | [`breaker::Breaker`] |
//!
//! Their order, outside in: `Trace -> Failover -> Retry -> RateLimit -> CircuitBreaker -> gateway`. [`Stack`] puts them so;
//! [docs/layers.md](https://docs.rs/crate/civic-messaging/latest/source/docs/layers.md) shows it beside three wrong ones,
//! and what goes wrong. [`Info::layers`](crate::Info::layers) says which are there.
//!
//! Each decision is a value that reads no clock and no random source, and can be asked without the layer.
//!
//! There is no layer for time-outs: one that drops the future of a send cannot know whether the message left. The
//! transport has the time-out, and an error of it says what is known.

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

/// A channel around a channel.
///
/// Its state is in the layer and not in what it wraps: given to several channels, it is one budget, one limit, one
/// memory for all of them.
pub trait Layer: Send + Sync {
    /// Puts it around a channel that is shared.
    fn wrap(&self, inner: Arc<dyn Channel>) -> Arc<dyn Channel>;

    /// Puts it around a channel.
    fn layer(&self, inner: impl Channel) -> Arc<dyn Channel>
    where
        Self: Sized,
    {
        self.wrap(Arc::new(inner))
    }
}

const _: fn(&dyn Layer) = |_| {};
