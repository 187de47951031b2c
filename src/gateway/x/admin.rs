//! Administrative calls: conversations, blocks, webhooks and subscriptions.

use std::sync::PoisonError;

use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::api::{ApiRequest, Credentials, RateLimits, numeric};
use super::send::outgoing;
use super::{GATEWAY, X};
use crate::model::address::{Address, XUser};
use crate::model::clock::Clock;
use crate::model::error::{Error, Result};
use crate::model::id::{CallbackUrl, MessageId};
use crate::model::json::without_nulls;
use crate::model::message::{Accepted, Message};

impl X {
    /// Returns the rate limits from X's last response to each call, refusals included.
    pub fn rate_limits(&self) -> Vec<RateLimits> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Creates a group conversation of 2 to 49 people beside us, with a first message. It is always a new one.
    ///
    /// # Errors
    /// Those of [`send`](crate::Channel::send).
    pub async fn create_conversation(&self, people: &[XUser], text: &str) -> Result<(Address, Accepted)> {
        if !(2..=49).contains(&people.len()) {
            return Err(Error::recipient("must be 2 to 49 people").with_gateway(GATEWAY));
        }
        for person in people {
            let message = Message::text(person.clone(), text);
            self.info.prepare(&message, self.clock.now())?;
        }
        let group = json!({
            "conversation_type": "Group",
            "participant_ids": people.iter().map(XUser::id).collect::<Vec<_>>(),
            "message": outgoing(Some(text), None),
        });
        let request = ApiRequest::post("dm_create", "/2/dm_conversations").json(&group)?;
        let answer = self.exchange(&request, true).await?;
        let (accepted, conversation) = self.accepted(&answer)?;
        let conversation = conversation.ok_or_else(|| answer.unreadable())?;
        Ok((conversation, accepted))
    }

    /// Deletes a message from the account's own view. The other side is believed to keep it (unverified).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) when it is not there.
    pub async fn delete_event(&self, id: &MessageId) -> Result<()> {
        let path = format!("/2/dm_events/{}", numeric("id", id.as_str())?);
        self.done(ApiRequest::new("dm_delete", Method::DELETE, path)).await
    }

    /// Blocks messages from this person.
    ///
    /// # Errors
    /// X's error.
    pub async fn block(&self, person: &XUser) -> Result<()> {
        self.done(ApiRequest::post("dm_block", format!("/2/users/{}/dm/block", person.id()))).await
    }

    /// Unblocks messages from this person.
    ///
    /// # Errors
    /// X's error.
    pub async fn unblock(&self, person: &XUser) -> Result<()> {
        self.done(ApiRequest::post("dm_block", format!("/2/users/{}/dm/unblock", person.id()))).await
    }

    /// Registers the webhook URL: `https`, without a port, up to 200 characters. X calls it at once and expects the
    /// handshake's response, which [`receive`](crate::Channel::receive) returns.
    ///
    /// Uses the bearer token, if one is configured.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for an address that X does not take, and X's error.
    pub async fn register_webhook(&self, url: &str) -> Result<RegisteredWebhook> {
        let uri = url.parse::<http::Uri>().ok().filter(|uri| uri.scheme_str() == Some("https") && uri.port().is_none());
        if uri.is_none() || url.chars().count() > 200 {
            let rule = "must be an https address without a port, of up to 200 characters";
            return Err(Error::config("url", rule).with_gateway(GATEWAY));
        }
        let request = ApiRequest::post("webhooks", "/2/webhooks").json(&json!({ "url": url }))?.by(Credentials::App);
        self.data(&self.call(request).await?)
    }

    /// Lists the webhooks of the app.
    ///
    /// # Errors
    /// X's error.
    pub async fn webhooks(&self) -> Result<Vec<RegisteredWebhook>> {
        let answer = self.call(ApiRequest::get("webhooks", "/2/webhooks").by(Credentials::App)).await?;
        let listed: WebhookList = answer.json()?;
        Ok(listed.data.unwrap_or_default())
    }

    /// Repeats the handshake, which re-enables a disabled webhook. Returns whether X started it, or its result if X
    /// waits for that: X's two descriptions differ.
    ///
    /// # Errors
    /// X's error.
    pub async fn revalidate_webhook(&self, id: &str) -> Result<bool> {
        let path = format!("/2/webhooks/{}", numeric("id", id)?);
        let answer = self.call(ApiRequest::new("webhooks", Method::PUT, path).by(Credentials::App)).await?;
        let response: RevalidateResponse = self.data(&answer)?;
        response.valid.or(response.attempted).ok_or_else(|| answer.unreadable())
    }

    /// Subscribes our account to one kind of event, such as `dm.received`, by the X Activity API.
    ///
    /// Returns the id of the subscription.
    ///
    /// X's descriptions differ on the credentials for this; [`Credentials::User`] is known to have worked.
    ///
    /// # Errors
    /// X's error.
    pub async fn subscribe(
        &self,
        event_type: &str,
        webhook_id: &str,
        tag: Option<&str>,
        by: Credentials,
    ) -> Result<String> {
        let wanted = without_nulls(json!({
            "event_type": event_type,
            "filter": { "user_id": self.info.account.as_str() },
            "tag": tag,
            "webhook_id": numeric("webhook_id", webhook_id)?,
        }));
        let request = ApiRequest::post("subscriptions", "/2/activity/subscriptions").json(&wanted)?.by(by);
        let answer = self.call(request).await?;
        let subscription = match self.data(&answer)? {
            SubscribeResponse::Several(several) => several.into_iter().next(),
            SubscribeResponse::Wrapped { subscription } | SubscribeResponse::Flat(subscription) => Some(subscription),
        };
        subscription.map(|subscription| subscription.subscription_id).ok_or_else(|| answer.unreadable())
    }

    /// Subscribes our account to all events of the Account Activity API, which X calls deprecated.
    ///
    /// # Errors
    /// X's error.
    pub async fn subscribe_account_activity(&self, webhook_id: &str) -> Result<()> {
        let webhook_id = numeric("webhook_id", webhook_id)?;
        let path = format!("/2/account_activity/webhooks/{webhook_id}/subscriptions/all");
        // An empty object: the body is required since OpenAPI 2.167 (read 2026-11-30), and has no members.
        self.done(ApiRequest::post("subscriptions", path).json(&json!({}))?).await
    }
}

/// A registered webhook.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RegisteredWebhook {
    /// X's id of the webhook.
    pub id: String,
    /// The address.
    #[serde(default)]
    pub url: CallbackUrl,
    /// `true` while X sends events there; `false` after a failed handshake.
    #[serde(default)]
    pub valid: bool,
}

#[derive(Deserialize)]
struct WebhookList {
    data: Option<Vec<RegisteredWebhook>>,
}

#[derive(Deserialize)]
struct RevalidateResponse {
    valid: Option<bool>,
    attempted: Option<bool>,
}

/// The three shapes in which X's pages and its specification write the same answer.
#[derive(Deserialize)]
#[serde(untagged)]
enum SubscribeResponse {
    Several(Vec<Subscription>),
    Wrapped { subscription: Subscription },
    Flat(Subscription),
}

#[derive(Deserialize)]
struct Subscription {
    subscription_id: String,
}
