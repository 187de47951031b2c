//! The channel, its capability, and API calls.

use std::time::Duration;

use async_trait::async_trait;
use http::header::{AUTHORIZATION, HeaderMap};
use serde::Serialize;

use super::characters::{sanitise, sanitise_unicode, text_length};
use super::{GATEWAY, Notify, send};
use crate::adapter::{self, Answer};
use crate::channel::Channel;
use crate::model::address::{Address, Medium};
use crate::model::capability::{TemplateLimits, TextLimit};
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::health::Health;
use crate::model::id::AccountId;
use crate::model::info::Info;
use crate::model::lookup::{LookupOutcome, LookupQuery};
use crate::model::message::{Accepted, Message};
use crate::model::poll::{Cursor, Page};
use crate::model::rate::Rate;
use crate::webhook::{self, Received};

pub(super) fn info(service: &AccountId, receives: bool, unicode: bool) -> Info {
    let mut info = Info::new(GATEWAY, Medium::Sms, service.clone())
        .with_capability(|can| {
            can.receive = receives;
            can.delivery_status = true;
            can.poll = true;
            can.look_up = true;
            can.health = true;
            can.key = true;
            can.max_reference = Some(1_000);
            can.text = Some(TextLimit::utf16(918));
            // Of requests, per service and key type.
            can.rate = Some(Rate::per_minute(3_000));
            can.template = Some(TemplateLimits { language: false, positional: false, named: true, components: false });
        })
        .with_address_rule(|to| match to {
            Address::Phone(_) => Ok(()),
            _ => Err("must be a phone number"),
        })
        .with_message_rule(send::rule);
    info.text_length = Some(text_length);
    info.rewrites = Some(if unicode { sanitise_unicode } else { sanitise });
    info
}

#[async_trait]
impl Channel for Notify {
    fn info(&self) -> &Info {
        &self.info
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        let message = self.info.prepare(message, self.clock.now())?;
        let answer = self.post("/v2/notifications/sms", &send::encode(&message, self)?, true).await?;
        send::decode(&message, &answer)
    }

    async fn receive(&self, request: &webhook::Request) -> Result<Received> {
        adapter::receive(request, &self.info, Some(&self.scheme), "callback_tokens", |callback, events| {
            self.events(callback, events);
        })
    }

    /// Polls for received messages and for deliveries that became final, as the same events that callbacks give.
    ///
    /// Notify lists messages by creation time, newest first, but a message becomes final later. Each poll therefore
    /// reads received messages back to the last poll, and sent messages back to the oldest that was not final then: one
    /// call per 250 messages, at least two, and back four days at most, since Notify stops trying a phone after three.
    /// While there is a backlog, each poll reads all its pages again and returns the oldest 2,000 messages of a list
    /// first.
    ///
    /// The list holds messages sent with keys of the same type (live, team or test) and those sent on Notify's site. A
    /// polled message is dated when Notify received it, and one from a callback when the network did, so the two times
    /// may differ by seconds; the id is the same.
    async fn poll(&self, after: Option<&Cursor>) -> Result<Page> {
        self.poll_lists(after).await
    }

    /// Looks up a message by its id, or else by its key, which Notify calls the reference.
    ///
    /// Absence by key is conclusive from five minutes after the send until Notify may have deleted the message (three
    /// days), and only if the key has the type (live, team, test) of the key that sent. A lookup is inconclusive for
    /// simulated numbers, which Notify does not store, and for an unknown id, since Notify accepted that message.
    async fn look_up(&self, query: &LookupQuery) -> Result<LookupOutcome> {
        self.look_up_message(query).await
    }

    /// Checks `credentials`, `template` (a text message template with the one field and no text of its own), `key`
    /// (proven or only declared), `characters` (whether [`Config::unicode`](super::Config::unicode) is right) and
    /// `webhook`.
    ///
    /// Makes two reads and one preview. Nothing is sent, and no number is transmitted.
    ///
    /// A billed message proves that the key is not a test key, but not whether it is team or live.
    async fn health(&self) -> Result<Health> {
        self.check_health().await
    }
}

impl Notify {
    /// The headers of one request. Notify accepts a token within 30 seconds of its `iat`, so each request has a new
    /// one.
    fn headers(&self) -> Result<HeaderMap> {
        Ok(HeaderMap::from_iter([(AUTHORIZATION, self.key.authorization(self.clock.now().as_secs())?)]))
    }

    pub(super) async fn get(&self, path: &str) -> Result<Answer> {
        self.endpoint.get(path, self.headers()?).await.map_err(|error| self.retry_at_midnight(error))
    }

    pub(super) async fn post(&self, path: &str, body: &impl Serialize, sending: bool) -> Result<Answer> {
        let request = self.endpoint.json(path, self.headers()?, body)?;
        let answer = if sending { self.endpoint.send(request).await } else { self.endpoint.call(request).await };
        answer.map_err(|error| self.retry_at_midnight(error))
    }

    /// Sets the wait of an exceeded daily quota, which Notify resets at midnight UTC but does not send.
    fn retry_at_midnight(&self, error: Error) -> Error {
        const DAY: i64 = 24 * 3600;
        if error.kind() != ErrorKind::QuotaExceeded || !error.is_retryable() || error.retry_after().is_some() {
            return error;
        }
        let left = DAY - self.clock.now().as_secs().rem_euclid(DAY);
        error.with_retry(true, Some(Duration::from_secs(left.unsigned_abs())))
    }
}
