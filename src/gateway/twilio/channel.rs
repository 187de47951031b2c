//! The channel, its capability, and changes to messages at Twilio.

use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use http::header::AUTHORIZATION;

use super::wire::AccountResource;
use super::{API_PREFIX, GATEWAY, Twilio, is_sid, receive, send};
use crate::adapter::json::Json;
use crate::adapter::{self, Access, Credential, FetchLimits};
use crate::channel::Channel;
use crate::media::{FileUrl, HostRules, MediaStream, publish_files};
use crate::medium::whatsapp;
use crate::model::address::{Address, Medium};
use crate::model::capability::{MediaLimits, MediaRule, TemplateLimits, TextLimit};
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::health::{CheckStatus, Health};
use crate::model::id::{AccountId, MessageId};
use crate::model::info::Info;
use crate::model::lookup::{LookupOutcome, LookupQuery};
use crate::model::message::{Accepted, MediaKind, MediaRef, Message};
use crate::transport::Body;
use crate::webhook::{self, Received};

/// The maximum length of a `Body`, on either medium. (Twilio, Messages, read 2026-11-22 from stored copies.)
const MAX_TEXT: usize = 1_600;

/// The maximum size of the JPEG, PNG and GIF files of an MMS, each and together. Twilio writes 5 MB, read as MiB: the
/// larger reading. (Twilio, Messages and Media, read 2026-11-22 from stored copies.)
const MAX_IMAGE_BYTES: u64 = 5 * 1_024 * 1_024;

/// The maximum size of any other file of an MMS. Twilio writes 500 KB, read as KiB.
const MAX_FILE_BYTES: u64 = 500 * 1_024;

/// The API redirected to `media.twiliocdn.com` and `mms.twiliocdn.com` in 2020 and 2026; that it always redirects to a
/// host under that name is unverified.
const HOSTS: HostRules = HostRules { trusted: &["api.twilio.com"], open: &["*.twiliocdn.com"] };

const FETCH: FetchLimits = FetchLimits { cap: whatsapp::INBOUND_BYTES_MAX, time: Duration::from_secs(120) };

pub(super) fn info(medium: Medium, account: AccountId, receives: bool, has_status: bool, publishes: bool) -> Info {
    let is_whatsapp = medium == Medium::WhatsApp;
    let media = if is_whatsapp {
        MediaLimits { stored: publishes, gateway: false, ..MediaLimits::whatsapp() }
    } else {
        let image =
            MediaRule::new(MediaKind::Image, MAX_IMAGE_BYTES, &["image/jpeg", "image/png", "image/gif"], MAX_TEXT);
        let other = |kind| MediaRule::new(kind, MAX_FILE_BYTES, &[], MAX_TEXT);
        let kinds = [MediaKind::Image, MediaKind::Audio, MediaKind::Document, MediaKind::Video].map(other);
        let kinds = std::iter::once(image).chain(kinds).collect();
        MediaLimits { per_message: 10, link: true, stored: publishes, gateway: false, kinds }
    };
    let info = Info::new(GATEWAY, medium, account).with_capability(|can| {
        can.receive = receives;
        can.delivery_status = has_status;
        can.look_up = true;
        can.fetch_media = true;
        can.health = true;
        can.text = Some(TextLimit::characters(MAX_TEXT));
        can.media = Some(media);
        can.template = Some(TemplateLimits { language: false, positional: true, named: true, components: false });
        can.location = is_whatsapp;
    });
    if is_whatsapp {
        return info;
    }
    info.with_address_rule(|to| match to {
        Address::Phone(_) => Ok(()),
        _ => Err("must be a phone number: Twilio sends to no short code or name"),
    })
}

#[async_trait]
impl Channel for Twilio {
    fn info(&self) -> &Info {
        &self.info
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        let message = self.info.prepare(message, self.context.clock.now())?;
        let message = publish_files(message, self.context.publish.as_ref()).await;
        let request = message.and_then(|message| self.encode(&message)).map_err(|e| e.with_gateway(GATEWAY))?;
        send::decode(&self.endpoint.send(request).await?)
    }

    async fn receive(&self, request: &webhook::Request) -> Result<Received> {
        let scheme = self.signature.as_deref().map(|signature| signature as &dyn webhook::Scheme);
        let received = adapter::receive(request, &self.info, scheme, "public_url", |hook, events| {
            self.events(hook, events);
        })?;
        Ok(received.with_response(receive::empty_response()))
    }

    async fn look_up(&self, query: &LookupQuery) -> Result<LookupOutcome> {
        match &query.id {
            Some(id) => self.look_up_id(id).await,
            None => self.search(query).await,
        }
    }

    async fn fetch_media(&self, media: &MediaRef) -> Result<MediaStream> {
        let invalid = |field, rule: &'static str| Error::invalid(field, rule).with_gateway(GATEWAY);
        if media.gateway != GATEWAY {
            return Err(invalid("media.gateway", "is another gateway"));
        }
        let url = media.url.as_deref().ok_or_else(|| invalid("media.url", "is missing"))?;
        let credential = self.headers.get(AUTHORIZATION).cloned().limited_to(|file: &FileUrl<'_>| self.access(file));
        // Twilio's references always start at the API; only redirects lead elsewhere.
        let starts_at_api = HOSTS
            .check(url, self.endpoint.base())
            .and_then(|(uri, trusted)| Ok(trusted && credential.access(&FileUrl::new(&uri)?) == Access::Credential));
        if !starts_at_api.map_err(|error| error.with_gateway(GATEWAY))? {
            return Err(Error::new(ErrorKind::Forbidden, "is not a file of this account")
                .with_field("media.url")
                .with_gateway(GATEWAY));
        }
        self.endpoint.fetch(url, &HOSTS, credential, FETCH).await
    }

    async fn health(&self) -> Result<Health> {
        // A standard API key cannot read the account (from memory), so it is checked by listing messages.
        let path = match self.uses_api_key {
            true => [&*self.messages_path(), "?PageSize=1"].concat(),
            false => [&*self.account, ".json"].concat(),
        };
        let answer = match adapter::probe(self.endpoint.get(&path, self.headers.clone()).await)? {
            Ok(answer) => answer,
            Err(refused) => return Ok(refused),
        };
        let json = Json::new(&answer.body);
        let account: AccountResource<'_> = json.read().ok_or_else(|| answer.unreadable())?;
        let (status, detail) = match (account.status.as_deref(), account.kind.as_deref()) {
            _ if self.uses_api_key => (CheckStatus::Unknown, "an API key cannot read the account's state"),
            (Some("active"), Some("Trial")) => {
                (CheckStatus::Warn, "a trial account sends only to verified numbers: upgrade it")
            }
            (Some("active"), _) => (CheckStatus::Pass, "the account is active"),
            (Some(_), _) => (CheckStatus::Fail, "the account is suspended or closed"),
            (None, _) => (CheckStatus::Unknown, "Twilio did not report the account's state"),
        };
        Ok(Health::default()
            .check_result("credentials", CheckStatus::Pass, "Twilio accepts the credentials")
            .check_result("account", status, detail)
            .check_webhook(self.info.capability.receive, "public_url"))
    }
}

impl Twilio {
    /// Cancels a scheduled message.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the message does not exist, and Twilio's error if it was already sent.
    pub async fn cancel(&self, id: &MessageId) -> Result<()> {
        self.change(id, ("Status", "canceled")).await
    }

    /// Removes a message's text at Twilio and keeps the rest of its record.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the message does not exist.
    pub async fn redact(&self, id: &MessageId) -> Result<()> {
        self.change(id, ("Body", "")).await
    }

    /// Deletes a sent or received message at Twilio.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the message does not exist.
    pub async fn delete(&self, id: &MessageId) -> Result<()> {
        let path = self.message_path(id)?;
        let request = self.endpoint.request(Method::DELETE, &path, self.headers.clone(), Body::empty())?;
        self.endpoint.call(request).await.map(|_| ())
    }

    async fn change(&self, id: &MessageId, field: (&str, &str)) -> Result<()> {
        let request = self.endpoint.form(&self.message_path(id)?, self.headers.clone(), [field])?;
        self.endpoint.call(request).await.map(|_| ())
    }

    pub(super) fn messages_path(&self) -> String {
        [&*self.account, "/Messages.json"].concat()
    }

    pub(super) fn message_path(&self, id: &MessageId) -> Result<String> {
        if !is_sid(id.as_str(), "SM") && !is_sid(id.as_str(), "MM") {
            return Err(Error::invalid("id", "is not the SID of a Twilio message").with_gateway(GATEWAY));
        }
        Ok(format!("{}/Messages/{}.json", self.account, id.as_str()))
    }

    /// Limits the credential, which opens the whole API, to media of this account's messages. On loopback, where the
    /// API and its CDN share a host, paths outside the API are fetched without it.
    fn access(&self, file: &FileUrl<'_>) -> Access {
        let resource = file.path().strip_prefix(&*self.account).map(|path| path.split('/').collect::<Vec<_>>());
        match resource.as_deref() {
            Some(["", "Messages", message, "Media", media])
                if file.query().is_none()
                    && (is_sid(message, "MM") || is_sid(message, "SM"))
                    && is_sid(media, "ME") =>
            {
                Access::Credential
            }
            _ if file.is_loopback() && !file.path().starts_with(API_PREFIX) => Access::Anonymous,
            _ => Access::Refused,
        }
    }
}
