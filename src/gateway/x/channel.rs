//! [`X`] as a [`Channel`].

use async_trait::async_trait;

use super::X;
use super::api::ApiRequest;
use super::lookup::User;
use crate::channel::Channel;
use crate::media::MediaStream;
use crate::model::clock::Clock;
use crate::model::error::Result;
use crate::model::health::{CheckStatus, Health};
use crate::model::info::Info;
use crate::model::lookup::{LookupOutcome, LookupQuery};
use crate::model::message::{Accepted, Media, MediaRef, Message};
use crate::model::poll::{Cursor, Page};
use crate::webhook::{self, Verifier};

#[async_trait]
impl Channel for X {
    fn info(&self) -> &Info {
        &self.info
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        let message = self.info.prepare(message, self.clock.now())?;
        self.send_prepared(&message).await
    }

    async fn receive(&self, request: &webhook::Request) -> Result<webhook::Received> {
        self.receive_webhook(request)
    }

    fn verifier(&self) -> Option<&Verifier> {
        self.verifier.as_ref()
    }

    async fn poll(&self, after: Option<&Cursor>) -> Result<Page> {
        self.poll_events(after).await
    }

    async fn look_up(&self, sent: &LookupQuery) -> Result<LookupOutcome> {
        self.find(sent).await
    }

    async fn upload_media(&self, media: &Media, bytes: MediaStream) -> Result<MediaRef> {
        self.upload(media, bytes).await
    }

    async fn fetch_media(&self, media: &MediaRef) -> Result<MediaStream> {
        self.fetch(media).await
    }

    async fn health(&self) -> Result<Health> {
        let me = self.call(ApiRequest::get("me", "/2/users/me")).await;
        let health = match me.and_then(|answer| self.data::<User>(&answer)) {
            Ok(me) => {
                let (status, detail) = match me.id == self.info.account.as_str() {
                    true => (CheckStatus::Pass, "they belong to this account"),
                    false => (CheckStatus::Fail, "they belong to another account than `user_id`"),
                };
                Health::default().check_result("credentials", status, detail)
            }
            Err(error) => Health::default().check_error("credentials", &error),
        };
        if self.bearer.is_none() {
            return Ok(health);
        }
        let webhooks = match self.webhooks().await {
            Ok(webhooks) => webhooks,
            Err(error) => return Ok(health.check_error("webhook", &error)),
        };
        const DISABLED: &str = "X has disabled one that failed the handshake: correct the endpoint and revalidate it";
        let (status, detail) = match webhooks.as_slice() {
            [] => (CheckStatus::Warn, "no webhook is registered: poll for events"),
            all if all.iter().all(|webhook| webhook.valid) => (CheckStatus::Pass, "X reports it as valid"),
            _ => (CheckStatus::Fail, DISABLED),
        };
        Ok(health.check_result("webhook", status, detail))
    }
}
