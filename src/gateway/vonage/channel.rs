//! The channel and its capability.

use async_trait::async_trait;
use http::header::{AUTHORIZATION, HeaderMap};

use super::{GATEWAY, Vonage, send};
use crate::adapter;
use crate::channel::Channel;
use crate::model::address::{Address, Medium};
use crate::model::capability::{TemplateLimits, TextLimit};
use crate::model::error::Result;
use crate::model::id::AccountId;
use crate::model::info::Info;
use crate::model::message::{Accepted, Message};
use crate::webhook::{self, Received};

/// The maximum length of a `client_ref`. (Messages API 1.17.0.)
const REFERENCE_MAX: usize = 100;

pub(super) fn info(medium: Medium, account: AccountId, receives: bool) -> Info {
    let is_whatsapp = medium == Medium::WhatsApp;
    let text = match medium {
        Medium::WhatsApp => TextLimit::characters(4_096),
        Medium::Messenger => TextLimit::characters(640),
        _ => TextLimit::characters(1_000),
    };
    let is_messenger = medium == Medium::Messenger;
    let info = Info::new(GATEWAY, medium, account).with_capability(|can| {
        can.receive = receives;
        can.delivery_status = receives;
        can.key = receives;
        can.max_reference = Some(REFERENCE_MAX);
        can.text = Some(text);
        can.reply_to = is_whatsapp;
        can.template =
            is_whatsapp.then_some(TemplateLimits { language: true, positional: true, named: false, components: false });
    });
    if is_messenger {
        return info;
    }
    info.with_address_rule(|to| match to {
        Address::Phone(_) => Ok(()),
        // That Vonage accepts a user id of WhatsApp as a recipient is UNVERIFIED.
        Address::WhatsApp(user) if user.phone().is_some() => Ok(()),
        _ => Err("must have a phone number"),
    })
}

#[async_trait]
impl Channel for Vonage {
    fn info(&self) -> &Info {
        &self.info
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        let now = self.context.clock.now();
        let message = self.info.prepare(message, now)?;
        let authorization = self.key.authorization(&self.application_id, now.as_secs(), &*self.context.random)?;
        let headers = HeaderMap::from_iter([(AUTHORIZATION, authorization)]);
        let request = self.endpoint.json("/v1/messages", headers, &self.encode(&message, now)?)?;
        send::decode(&self.endpoint.send(request).await?)
    }

    async fn receive(&self, request: &webhook::Request) -> Result<Received> {
        let scheme = self.signature.as_ref().map(|signature| signature as &dyn webhook::Scheme);
        adapter::receive(request, &self.info, scheme, "signature_secrets", |callback, events| {
            self.events(callback, events);
        })
    }
}
