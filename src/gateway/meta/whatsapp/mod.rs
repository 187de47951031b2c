//! WhatsApp, by Meta's Cloud API and by 360dialog.

use super::graph::{Connection, is_id};
use super::webhook::secrets;
use super::{Config, GATEWAY, Meta};
use crate::adapter::sensitive;
use crate::context::Context;
use crate::medium::whatsapp;
use crate::model::address::Medium;
use crate::model::capability::{ChoiceLimits, MediaLimits, TemplateLimits, TextLimit};
use crate::model::error::{Error, Result};
use crate::model::id::AccountId;
use crate::model::info::Info;
use crate::model::rate::Rate;
use crate::webhook::{BearerToken, Verifier};
use http::header::HeaderName;

mod account;
mod content;
mod encode;
mod envelope;
mod errors;
mod flow;
mod media;
mod people;
mod receive;
mod send;
mod wire;

pub(super) use encode::encode;
pub(super) use errors::{ERRORS, vendor_error};
pub use flow::Flow;
pub(super) use media::HOSTS;
pub(super) use receive::events;
pub(super) use send::{decode, is_stored, send_indicator, upload};

impl Meta {
    /// Creates a channel for a WhatsApp number by the Cloud API.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) with the setting that is wrong.
    #[cfg(feature = "reqwest")]
    pub fn whatsapp(config: Config) -> Result<Self> {
        Self::whatsapp_with(config, &Context::new())
    }

    /// Creates a channel for a WhatsApp number by the Cloud API, in this context.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) with the setting that is wrong.
    pub fn whatsapp_with(config: Config, context: &Context) -> Result<Self> {
        let number = number(&config)?;
        let way = Connection::graph(&config, &number, ERRORS, vendor_error)?;
        Self::new(whatsapp_info(GATEWAY, number, &config), way, config, context)
    }

    /// Creates a channel for a WhatsApp number by 360dialog: the same wire format, another host and header.
    ///
    /// 360dialog does not sign webhooks. Configure it to send `Authorization: Bearer` with one of the `app_secrets`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) with the setting that is wrong.
    #[cfg(feature = "reqwest")]
    pub fn whatsapp_360dialog(config: Config) -> Result<Self> {
        Self::whatsapp_360dialog_with(config, &Context::new())
    }

    /// Creates a channel for a WhatsApp number by 360dialog, in this context.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) with the setting that is wrong.
    pub fn whatsapp_360dialog_with(config: Config, context: &Context) -> Result<Self> {
        let number = number(&config)?;
        let secrets = secrets(&config, &number);
        let way = Connection {
            base: "https://waba-v2.360dialog.io",
            verifier: Verifier::new([], &secrets),
            scheme: Box::new(BearerToken::new(secrets)),
            authorization: (HeaderName::from_static("d360-api-key"), sensitive(config.access_token.expose())?),
            root: String::new(),
            account: String::new(),
            own_files: true,
            errors: ERRORS,
            vendor_error,
        };
        Self::new(whatsapp_info("360dialog", number, &config), way, config, context)
    }
}

/// The id of the number that the settings name.
fn number(config: &Config) -> Result<AccountId> {
    if config.page_id.is_some() {
        return Err(Error::config("page_id", "is for Messenger: a WhatsApp number has a phone_number_id"));
    }
    let id = config.phone_number_id.as_ref().filter(|id| is_id(id.as_str())).cloned();
    id.ok_or_else(|| Error::config("phone_number_id", "must be digits: Meta's id of the number, not the number"))
}

fn whatsapp_info(gateway: &'static str, number: AccountId, config: &Config) -> Info {
    let mut info = Info::new(gateway, Medium::WhatsApp, number).with_capability(|can| {
        can.receive = !config.app_secrets.is_empty();
        can.delivery_status = can.receive;
        can.upload_media = true;
        can.fetch_media = true;
        // 360dialog documents no call that says whether its key is good.
        can.health = gateway == GATEWAY;
        can.read = true;
        can.typing = true;
        can.key = true;
        can.max_reference = Some(whatsapp::OPAQUE_DATA_MAX);
        can.conversation = true;
        can.reply_to = true;
        can.text = Some(TextLimit::characters(whatsapp::TEXT_MAX));
        can.media = Some(MediaLimits::whatsapp());
        can.template = Some(TemplateLimits { language: true, positional: true, named: true, components: true });
        can.choice = Some(ChoiceLimits::WHATSAPP);
        can.link = Some(whatsapp::LINK_LABEL_MAX);
        can.ask_location = true;
        can.ask_contact = true;
        can.location = true;
        can.contacts = true;
        can.reaction = true;
        can.native = true;
        // 80 a second for a number; 1 in 6 seconds to one person, of whom 45 may go at once on credit:
        // https://developers.facebook.com/documentation/business-messaging/whatsapp/throughput (read 2026-11-22).
        can.rate = Some(Rate::per_second(80));
        can.pair_rate = Some(Rate::every_seconds(6).with_burst(45));
    });
    info.wire = GATEWAY;
    info
}
