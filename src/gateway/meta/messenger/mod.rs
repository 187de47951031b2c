//! Facebook Messenger by the Send API: messages as Meta's JSON, its answers and errors, and its webhooks as events.
//!
//! The token, the host, the signature and the handshake are those of WhatsApp.

use std::time::Duration;

use super::graph::{Connection, ErrorWire, graph_error, is_id};
use super::whatsapp::HOSTS;
use super::{Config, GATEWAY, Meta};
use crate::adapter::{Answer, FetchLimits, VendorError};
use crate::context::Context;
use crate::media::MediaStream;
use crate::medium::messenger;
use crate::model::address::Medium;
use crate::model::capability::{ChoiceLimits, MediaLimits, TextLimit};
use crate::model::error::{Error, ErrorClass, ErrorKind, Result};
use crate::model::id::AccountId;
use crate::model::info::Info;
use crate::model::message::MediaRef;
use crate::model::rate::Rate;
use http::header::HeaderValue;

mod item;
mod message;
mod receive;
mod send;
mod wire;

pub(super) use receive::events;
pub(super) use send::{decode, encode, send_indicator};

impl Meta {
    /// Creates a channel for a page on Facebook Messenger.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the setting that is wrong.
    #[cfg(feature = "reqwest")]
    pub fn messenger(config: Config) -> Result<Self> {
        Self::messenger_with(config, &Context::new())
    }

    /// Creates a channel for a page on Facebook Messenger, in this context.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the setting that is wrong.
    pub fn messenger_with(config: Config, context: &Context) -> Result<Self> {
        let page = page(&config)?;
        let way = Connection::graph(&config, &page, ERRORS, vendor_error)?;
        let info = Info::new(GATEWAY, Medium::Messenger, page).with_capability(|can| {
            can.receive = !config.app_secrets.is_empty();
            can.delivery_status = can.receive;
            can.fetch_media = true;
            can.read = true;
            can.typing = true;
            can.key = true;
            can.max_reference = Some(messenger::METADATA_MAX);
            can.reply_to = true;
            can.text = Some(TextLimit::characters(messenger::TEXT_MAX));
            can.media = Some(MediaLimits::messenger());
            can.choice = Some(ChoiceLimits::MESSENGER);
            can.native = true;
            // 300 texts a second for a page; files have a lower rate of their own (read 2026-11-22).
            can.rate = Some(Rate::per_second(300));
        });
        Self::new(info, way, config, context)
    }
}

/// The id of the page that the settings name. What only WhatsApp has is refused: it would be passed over in silence.
fn page(config: &Config) -> Result<AccountId> {
    for (set, field) in [
        (config.phone_number_id.is_some(), "phone_number_id"),
        (config.business_account_id.is_some(), "business_account_id"),
        (config.messaging_account_id.is_some(), "messaging_account_id"),
    ] {
        if set {
            return Err(Error::config(field, "is for WhatsApp: a page on Messenger has a page_id"));
        }
    }
    let id = config.page_id.as_ref().filter(|id| is_id(id.as_str())).cloned();
    id.ok_or_else(|| Error::config("page_id", "must be digits: Meta's id of the page"))
}

/// Fetches a file that a resident sent, without the token: whoever has the address gets it.
pub(super) async fn fetch(meta: &Meta, media: &MediaRef) -> Result<MediaStream> {
    let Some(url) = &media.url else {
        let rule = "is needed: Messenger gives a file out by the address that its webhook had, and by no id";
        return Err(Error::invalid("media.url", rule).with_gateway(GATEWAY));
    };
    let limits = FetchLimits { cap: messenger::INBOUND_BYTES_MAX, time: Duration::from_secs(120) };
    meta.endpoint.fetch(url, &HOSTS, None::<HeaderValue>, limits).await
}

/// The classes of Meta's codes on Messenger: [error codes][codes] of 18 March 2026, and notes on the changes since,
/// read 2026-11-22 from stored copies.
///
/// UNVERIFIED are 551 and 1545041: a person who cannot be reached or has blocked the page; one source takes the latter
/// for a closed window.
///
/// [codes]: https://developers.facebook.com/docs/messenger-platform/error-codes
const ERRORS: &[(&str, ErrorClass)] = {
    use ErrorKind::{Account, Forbidden, InvalidMessage, InvalidRecipient, RateLimited, Unauthenticated, Unavailable};
    const TOO_FAST: ErrorClass = ErrorClass::new(RateLimited).retry(Some(Duration::from_secs(60))).not_accepted();
    &[
        ("2", ErrorClass::new(Unavailable).retry(None)),
        ("4", TOO_FAST),
        // Or the window is closed: see `by_more`.
        ("10", ErrorClass::new(Forbidden)),
        ("32", TOO_FAST),
        ("100", ErrorClass::new(InvalidMessage)),
        ("190", ErrorClass::new(Unauthenticated)),
        ("368", ErrorClass::new(Account)),
        ("551", ErrorClass::new(InvalidRecipient)),
        ("613", TOO_FAST),
        ("1200", ErrorClass::new(Unavailable).retry(None)),
        ("1545041", ErrorClass::new(InvalidRecipient)),
    ]
};

const HELP: &str = "https://developers.facebook.com/docs/messenger-platform/error-codes";

fn vendor_error(answer: &Answer) -> VendorError<'_> {
    graph_error(answer, ERRORS, HELP, by_more)
}

const CLOSED: &str = "the person has done nothing on the page for 24 hours; what a person types may go for 7 days, with \
                      the option human_agent";

/// The meaning of a code by its subcode, or by Meta's text where there is none.
///
/// The subcodes 2018278, 2018065 (window) and 2018001 (no such person) are UNVERIFIED: public programs know them, and
/// no page of Meta's that was read.
fn by_more(code: &str, error: &ErrorWire<'_>) -> Option<(ErrorClass, &'static str)> {
    match (code, error.subcode.as_deref()) {
        ("10", Some("1893063")) => Some((ErrorClass::new(ErrorKind::Account), "Meta has restricted the page")),
        ("10", Some("2018278" | "2018065")) => Some((ErrorClass::new(ErrorKind::OutsideWindow), CLOSED)),
        ("10", _) => {
            let words = error.message.as_deref()?.to_ascii_lowercase();
            let closed = ["outside of allowed window", "outside the allowed window"];
            closed
                .iter()
                .any(|phrase| words.contains(phrase))
                .then_some((ErrorClass::new(ErrorKind::OutsideWindow), CLOSED))
        }
        ("100", Some("2018001")) => {
            Some((ErrorClass::new(ErrorKind::InvalidRecipient), "the page knows nobody by this id"))
        }
        _ => None,
    }
}
