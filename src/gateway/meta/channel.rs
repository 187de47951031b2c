//! [`Meta`] as a [`Channel`].

use std::borrow::Cow;

use async_trait::async_trait;

use super::{Meta, Options, messenger, whatsapp};
use crate::adapter;
use crate::channel::{Channel, Indicator};
use crate::media::{MediaStream, publish_files};
use crate::model::error::{Error, Result};
use crate::model::event::Inbound;
use crate::model::health::Health;
use crate::model::info::Info;
use crate::model::lookup::{LookupOutcome, LookupQuery};
use crate::model::message::{Accepted, Media, MediaRef, Message};
use crate::model::poll::{Cursor, Page};
use crate::webhook::{self, Received, Verifier};

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Channel for Meta {
    fn info(&self) -> &Info {
        &self.info
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        let body = {
            let mut message = self.info.prepare(message, self.context.clock.now())?;
            let options = Options::of(&message, &self.info.medium)?;
            if whatsapp::is_stored(&message.content) {
                // Boxed, so that sends without a file reserve no space for it.
                message = match self.is_messenger() {
                    true => Box::pin(publish_files(message, self.context.publish.as_ref())).await?,
                    false => Cow::Owned(Box::pin(whatsapp::upload(self, message.into_owned())).await?),
                };
            }
            match self.is_messenger() {
                true => messenger::encode(&message, &options)?,
                false => whatsapp::encode(self.info.gateway, &message, &options, self.messaging_account_id.as_deref())?,
            }
        };
        let answer = self.endpoint.send(self.post(body)).await?;
        match self.is_messenger() {
            true => messenger::decode(&answer),
            false => whatsapp::decode(&answer),
        }
    }

    async fn receive(&self, request: &webhook::Request) -> Result<Received> {
        adapter::receive(request, &self.info, Some(&*self.connection.scheme), "app_secrets", |webhook, events| {
            match self.is_messenger() {
                true => messenger::events(webhook, events),
                false => whatsapp::events(webhook, &self.endpoint, events),
            }
        })
    }

    fn verifier(&self) -> Option<&Verifier> {
        self.connection.verifier.as_ref()
    }

    async fn poll(&self, _after: Option<&Cursor>) -> Result<Page> {
        Err(Error::unsupported("Meta keeps no events to poll").with_gateway(self.info.gateway))
    }

    async fn look_up(&self, _query: &LookupQuery) -> Result<LookupOutcome> {
        Err(Error::unsupported("Meta reports delivery by webhook only").with_gateway(self.info.gateway))
    }
    async fn upload_media(&self, media: &Media, bytes: MediaStream) -> Result<MediaRef> {
        self.upload(media, bytes).await
    }

    async fn fetch_media(&self, media: &MediaRef) -> Result<MediaStream> {
        if media.gateway != self.info.gateway {
            return Err(Error::invalid("media.gateway", "is another gateway").with_gateway(self.info.gateway));
        }
        match self.is_messenger() {
            true => messenger::fetch(self, media).await,
            false => self.fetch_whatsapp(media).await,
        }
    }

    async fn send_indicator(&self, inbound: &Inbound, indicator: Indicator) -> Result<()> {
        match self.is_messenger() {
            true => messenger::send_indicator(self, inbound, indicator).await,
            false => whatsapp::send_indicator(self, inbound, indicator).await,
        }
    }

    async fn health(&self) -> Result<Health> {
        self.check_health().await
    }
}
