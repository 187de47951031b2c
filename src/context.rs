//! Shared dependencies of channels.

use std::sync::Arc;

use crate::media::{MediaStore, MemoryStore, Publish};
use crate::model::clock::{Clock, SystemClock};
use crate::model::random::{Random, SystemRandom};
use crate::tokens::{MemoryTokens, TokenStore};
use crate::transport::Transport;

/// The dependencies of a channel beside its configuration: transport, clock, randomness, stores.
///
/// `Context::new()` (with the feature `reqwest`) has a default for each. Channels built from one context share its
/// connections. Every field can be replaced.
///
/// ```
/// use std::sync::Arc;
/// use civic_messaging::{Context, Timestamp};
/// use civic_messaging::clock::VirtualClock;
///
/// let clock = VirtualClock::starting_at(Timestamp::from_secs(1_795_000_000));
/// let context = Context::new().clock(clock);
/// ```
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Context {
    /// Sends HTTP requests.
    pub transport: Arc<dyn Transport>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Random bytes: nonces, boundaries, jitter.
    pub random: Arc<dyn Random>,
    /// Files that messages refer to.
    pub media: Arc<dyn MediaStore>,
    /// Credentials that rotate while the service runs.
    pub tokens: Arc<dyn TokenStore>,
    /// Publishes files under a URL, for gateways that accept only links.
    pub publish: Option<Arc<dyn Publish>>,
}

impl Context {
    /// Creates the defaults: reqwest, the system clock, in-memory stores, no publishing.
    #[cfg(feature = "reqwest")]
    pub fn new() -> Self {
        Self::with_transport(crate::transport::ReqwestTransport::new())
    }

    /// Creates the defaults with another transport.
    pub fn with_transport(transport: impl Transport) -> Self {
        Self {
            transport: Arc::new(transport),
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom),
            media: Arc::new(MemoryStore::new()),
            tokens: Arc::new(MemoryTokens::new()),
            publish: None,
        }
    }

    /// Sets the transport.
    #[must_use]
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport = Arc::new(transport);
        self
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the source of random bytes.
    #[must_use]
    pub fn random(mut self, random: impl Random) -> Self {
        self.random = Arc::new(random);
        self
    }

    /// Sets the media store.
    #[must_use]
    pub fn media(mut self, media: impl MediaStore) -> Self {
        self.media = Arc::new(media);
        self
    }

    /// Sets the token store.
    #[must_use]
    pub fn tokens(mut self, tokens: impl TokenStore) -> Self {
        self.tokens = Arc::new(tokens);
        self
    }

    /// Sets the publisher of files.
    #[must_use]
    pub fn publish(mut self, publish: impl Publish) -> Self {
        self.publish = Some(Arc::new(publish));
        self
    }
}

#[cfg(feature = "reqwest")]
impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}
