//! Builds channels from configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::channel::Channel;
use crate::context::Context;
use crate::layer::RateLimit;
use crate::model::error::{Error, Result};
use crate::settings::Settings;

mod stack;

/// Builds channels from configuration, by the name of their gateway.
///
/// A gateway from another crate is registered and selected like the built-in ones.
///
/// ```
/// use civic_messaging::{Context, Registry, Settings};
///
/// # #[cfg(all(feature = "toml", feature = "notify", feature = "reqwest"))] {
/// let settings = Settings::from_toml(r#"
///     gateway = "notify"
///     medium = "sms"
///     api_key = "bins-26785a09-ab16-4eb0-8407-a37497a57506-3d844edf-8d35-48ac-975b-e847b4f122b0"
///     template_id = "5484cfca-668a-4c18-afb1-5ddd0e3521b1"
/// "#)?;
/// let sms = Registry::standard().connect(&settings, &Context::new())?;
/// assert_eq!(sms.info().gateway, "notify");
/// # }
/// # Ok::<(), civic_messaging::Error>(())
/// ```
///
/// This channel has no layers. Settings that list `suppliers`, even one, build a [`Stack`](crate::layer::Stack) of the
/// recommended layers, the preferred supplier first:
///
/// ```
/// # use civic_messaging::{Context, Registry, Settings};
/// # #[cfg(all(feature = "toml", feature = "notify", feature = "twilio", feature = "reqwest"))] {
/// let settings = Settings::from_toml(r#"
///     medium = "sms"
///     order = "preferred"                         # or "round_robin", "weighted"
///     retry = { attempts = 2, within_seconds = 5 }
///
///     [[suppliers]]
///     gateway = "notify"
///     api_key = "bins-26785a09-ab16-4eb0-8407-a37497a57506-3d844edf-8d35-48ac-975b-e847b4f122b0"
///     template_id = "5484cfca-668a-4c18-afb1-5ddd0e3521b1"
///     rate = { count = 350, seconds = 60 }        # in place of the 3,000 that Notify documents
///
///     [[suppliers]]
///     gateway = "twilio"
///     account_sid = "ACa1b2c3d4e5f60718293a4b5c6d7e8f90"
///     auth_token = "0123456789abcdef0123456789abcdef"
///     from = "+447700900999"
/// "#)?;
/// let sms = Registry::standard().connect(&settings, &Context::new())?;
/// assert!(sms.info().layers.contains(&"failover"));
/// # }
/// # Ok::<(), civic_messaging::Error>(())
/// ```
///
/// | setting | level | value |
/// |---|---|---|
/// | `medium` | top, or supplier | the medium of all suppliers, or of one |
/// | `order` | top | `"preferred"` (the default: the first available), `"round_robin"` or `"weighted"` |
/// | `retry` | top | `{ attempts, within_seconds, base_seconds, max_seconds }`, whole numbers; defaults as in [`Stack`](crate::layer::Stack) |
/// | `pepper` | top | the key of the fingerprints in the trace: 8 characters or more |
/// | `gateway`, and its own settings | supplier | as for a channel without layers |
/// | `rate`, `pair_rate` | supplier | `{ count, seconds }`, for a pair also `burst`; replaces the documented rate |
/// | `weight` | supplier | the supplier's share with `order = "weighted"`: 1 by default |
///
/// To poll a gateway of a stack, configure it again as a channel without layers, in a table of its own.
#[derive(Clone)]
pub struct Registry {
    gateways: BTreeMap<&'static str, Constructor>,
}

type Constructor = Arc<dyn Fn(&Settings, &Context) -> Result<Arc<dyn Channel>> + Send + Sync>;

impl Registry {
    /// Creates a registry without gateways.
    pub fn empty() -> Self {
        Self { gateways: BTreeMap::new() }
    }

    /// Creates a registry of this crate's gateways whose features are enabled.
    pub fn standard() -> Self {
        let registry = Self::empty();
        #[cfg(feature = "custom")]
        let registry = registry.register("custom", crate::gateway::custom::connect);
        #[cfg(feature = "meta")]
        let registry = registry
            .register("meta", crate::gateway::meta::connect)
            .register("360dialog", crate::gateway::meta::connect_360dialog);
        #[cfg(feature = "notify")]
        let registry = registry.register("notify", crate::gateway::notify::connect);
        #[cfg(feature = "twilio")]
        let registry = registry.register("twilio", crate::gateway::twilio::connect);
        #[cfg(feature = "vonage")]
        let registry = registry.register("vonage", crate::gateway::vonage::connect);
        #[cfg(feature = "x")]
        let registry = registry.register("x", crate::gateway::x::connect);
        registry
    }

    /// Adds or replaces a gateway.
    #[must_use]
    pub fn register(
        mut self,
        gateway: &'static str,
        connect: impl Fn(&Settings, &Context) -> Result<Arc<dyn Channel>> + Send + Sync + 'static,
    ) -> Self {
        self.gateways.insert(gateway, Arc::new(connect));
        self
    }

    /// Returns the names of the registered gateways.
    pub fn gateways(&self) -> impl Iterator<Item = &'static str> {
        self.gateways.keys().copied()
    }

    /// Builds the channel that the settings describe: the one of `gateway`, without layers, or a stack of `suppliers`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), with the field and its rule.
    pub fn connect(&self, settings: &Settings, context: &Context) -> Result<Arc<dyn Channel>> {
        self.connect_one(settings, context, &mut Limits::new())
    }

    /// Builds a channel from each table of a configuration, by the name of the table. Suppliers of one account share its
    /// rates.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), with the table, the field and its rule.
    pub fn connect_all(&self, settings: &Settings, context: &Context) -> Result<BTreeMap<String, Arc<dyn Channel>>> {
        let mut limits = Limits::new();
        let channel = |(name, settings): (String, Settings)| {
            let channel = self.connect_one(&settings, context, &mut limits);
            channel.map_err(|error| under(&name, error)).map(|channel| (name, channel))
        };
        settings.tables()?.map(channel).collect()
    }

    fn connect_one(&self, settings: &Settings, context: &Context, limits: &mut Limits) -> Result<Arc<dyn Channel>> {
        if settings.0.contains_key("suppliers") {
            return stack::connect(self, settings, context, limits);
        }
        self.connect_bare(settings, context)
    }

    fn connect_bare(&self, settings: &Settings, context: &Context) -> Result<Arc<dyn Channel>> {
        let name = settings.gateway()?;
        let Some(connect) = self.gateways.get(name.as_str()) else {
            let known = self.gateways().collect::<Vec<_>>().join(", ");
            return Err(Error::config("gateway", format!("unknown; known gateways: {known}")));
        };
        let channel = connect(settings, context)?;
        match settings.0.contains_key("medium") && settings.medium()? != channel.info().medium {
            true => Err(Error::config("medium", format!("is not the medium of {name}: {}", channel.info().medium))),
            false => Ok(channel),
        }
    }
}

/// The rate limit of each account, by gateway, medium and account, shared by all its suppliers.
type Limits = BTreeMap<(&'static str, String, String), Limit>;

struct Limit {
    limit: RateLimit,
    /// A supplier's settings contain the rate.
    configured: bool,
}

/// Prefixes an error's field with the name of the part.
fn under(part: &str, error: Error) -> Error {
    let field = error.field().map_or_else(|| part.to_owned(), |field| format!("{part}.{field}"));
    error.with_field(field)
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.gateways()).finish()
    }
}
