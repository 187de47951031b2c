//! Options that only this gateway reads.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Not;

use super::GATEWAY;
use crate::model::address::Medium;
use crate::model::error::{Error, Result};
use crate::model::id::Hidden;
use crate::model::message::{GatewayOptions, Message};

/// Options that only this gateway reads. An option of the other medium is an error.
///
/// ```
/// use civic_messaging::{Address, Message, meta};
///
/// let mut options = meta::Options::default();
/// options.preview_url = Some(true);
/// let message = Message::text(Address::whatsapp("07700 900123")?, "See https://example.org/bins").gateway_options(&options)?;
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Options {
    /// Of WhatsApp: shows a preview of the first link in a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview_url: Option<bool>,
    /// Of WhatsApp: delivers only while the person's identity has this hash: code 137000 else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient_identity_key_hash: Option<String>,
    /// Of Messenger: a person typed this message, which lets it go up to 7 days after what the resident did last, in
    /// place of 24 hours (the tag `HUMAN_AGENT`).
    ///
    /// Set it for nothing that a program wrote: Meta's policy allows the tag for people only. The app needs the feature
    /// "Human Agent", which Meta's App Review gives. (Meta, Messenger Platform policy of 6 April 2026, read 2026-11-22
    /// from stored copies.) How long is left says [`medium::messenger::window`](crate::medium::messenger::window).
    #[serde(default, skip_serializing_if = "Not::not")]
    pub human_agent: bool,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("preview_url", &self.preview_url)
            .field("recipient_identity_key_hash", &self.recipient_identity_key_hash.as_deref().map(Hidden))
            .field("human_agent", &self.human_agent)
            .finish()
    }
}

impl Options {
    /// The options of a message, if they are for this medium.
    pub(super) fn of(message: &Message, medium: &Medium) -> Result<Self> {
        let options = message.options::<Self>()?.unwrap_or_default();
        let (preview, identity) = (options.preview_url.is_some(), options.recipient_identity_key_hash.is_some());
        let messenger = *medium == Medium::Messenger;
        for (wrong, field, rule) in [
            (messenger && preview, "options.meta.preview_url", "is for WhatsApp"),
            (messenger && identity, "options.meta.recipient_identity_key_hash", "is for WhatsApp"),
            (!messenger && options.human_agent, "options.meta.human_agent", "is for Messenger"),
        ] {
            if wrong {
                return Err(Error::invalid(field, rule));
            }
        }
        Ok(options)
    }
}

impl GatewayOptions for Options {
    const GATEWAY: &'static str = GATEWAY;
}
