//! Calls beside sending: conversations, blocks, webhooks and subscriptions.

use std::sync::PoisonError;

use http::Method;
use serde::{Deserialize, Serialize};

use super::api::{Ask, Credentials, RateLimits, numeric};
use super::{GATEWAY, X, send};
use crate::model::address::{Address, XUser};
use crate::model::clock::Clock;
use crate::model::error::{Error, Result};
use crate::model::id::{MessageId, UrlHost};
use crate::model::message::{Accepted, Message};

impl X {
    /// The rates that X told with its last answer to each call, refusals included.
    pub fn rate_limits(&self) -> Vec<RateLimits> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Begins a conversation of several people, 2 to 49 beside us, with a first message. Always a new one.
    ///
    /// # Errors
    /// Those of [`send`](Channel::send).
    pub async fn create_conversation(&self, people: &[XUser], text: &str) -> Result<(Address, Accepted)> {
        if !(2..=49).contains(&people.len()) {
            return Err(Error::recipient("must be 2 to 49 people").with_gateway(GATEWAY));
        }
        for person in people {
            let message = Message::text(person.clone(), text);
            self.info.prepare(&message, self.clock.now())?;
        }
        let ask = Ask::post("dm_create", "/2/dm_conversations").json(&send::Group::new(people, text))?;
        let answer = self.exchange(&ask, true).await?;
        let (accepted, conversation) = self.accepted(&answer)?;
        let conversation = conversation.ok_or_else(|| answer.unreadable())?;
        Ok((conversation, accepted))
    }

    /// Takes a message out of the account's own view. The other side keeps it, so far as is known (unverified).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when it is not there.
    pub async fn delete_event(&self, id: &MessageId) -> Result<()> {
        let path = format!("/2/dm_events/{}", numeric("id", id.as_str())?);
        self.done(Ask::new("dm_delete", Method::DELETE, path)).await
    }

    /// Takes no more messages from this person.
    ///
    /// # Errors
    /// As X answers.
    pub async fn block(&self, person: &XUser) -> Result<()> {
        self.done(Ask::post("dm_block", format!("/2/users/{}/dm/block", person.id()))).await
    }

    /// Takes messages from this person again.
    ///
    /// # Errors
    /// As X answers.
    pub async fn unblock(&self, person: &XUser) -> Result<()> {
        self.done(Ask::post("dm_block", format!("/2/users/{}/dm/unblock", person.id()))).await
    }

    /// Tells X where to send webhooks: `https`, without a port, up to 200 characters. X calls it at once and expects
    /// the handshake's answer, which [`receive`](Channel::receive) gives.
    ///
    /// Uses the bearer token, if one is configured.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an address that X does not take, and as X answers.
    pub async fn register_webhook(&self, url: &str) -> Result<Webhook> {
        let uri = url.parse::<http::Uri>().ok().filter(|uri| uri.scheme_str() == Some("https") && uri.port().is_none());
        if uri.is_none() || url.chars().count() > 200 {
            let rule = "must be an https address without a port, of up to 200 characters";
            return Err(Error::config("url", rule).with_gateway(GATEWAY));
        }
        let ask = Ask::post("webhooks", "/2/webhooks").json(&serde_json::json!({ "url": url }))?.by(Credentials::App);
        self.data(&self.call(ask).await?)
    }

    /// The webhooks of the app.
    ///
    /// # Errors
    /// As X answers.
    pub async fn webhooks(&self) -> Result<Vec<Webhook>> {
        let answer = self.call(Ask::get("webhooks", "/2/webhooks").by(Credentials::App)).await?;
        let listed: Listed = answer.json()?;
        Ok(listed.data.unwrap_or_default())
    }

    /// Has X repeat the handshake, and take up a webhook that it has stopped. Whether it began to, or what came of it
    /// if X waits for that: its two descriptions differ.
    ///
    /// # Errors
    /// As X answers.
    pub async fn revalidate_webhook(&self, id: &str) -> Result<bool> {
        let path = format!("/2/webhooks/{}", numeric("id", id)?);
        let answer = self.call(Ask::new("webhooks", Method::PUT, path).by(Credentials::App)).await?;
        let told: Revalidated = self.data(&answer)?;
        told.valid.or(told.attempted).ok_or_else(|| answer.unreadable())
    }

    /// Asks for events of one kind, such as `dm.received`, about our account, by the X Activity API. The id of the
    /// subscription.
    ///
    /// X's descriptions differ on whose credentials it takes for this; [`Credentials::User`] is known to have worked.
    ///
    /// # Errors
    /// As X answers.
    pub async fn subscribe(
        &self,
        event_type: &str,
        webhook_id: &str,
        tag: Option<&str>,
        by: Credentials,
    ) -> Result<String> {
        let wanted = Wanted {
            event_type,
            filter: Filter { user_id: self.info.account.as_str() },
            tag,
            webhook_id: numeric("webhook_id", webhook_id)?,
        };
        let ask = Ask::post("subscriptions", "/2/activity/subscriptions").json(&wanted)?.by(by);
        let answer = self.call(ask).await?;
        let subscription = match self.data(&answer)? {
            Subscribed::Several(several) => several.into_iter().next(),
            Subscribed::Wrapped { subscription } | Subscribed::Flat(subscription) => Some(subscription),
        };
        subscription.map(|subscription| subscription.subscription_id).ok_or_else(|| answer.unreadable())
    }

    /// Asks for all events about our account by the Account Activity API, which X calls deprecated.
    ///
    /// # Errors
    /// As X answers.
    pub async fn subscribe_account_activity(&self, webhook_id: &str) -> Result<()> {
        let webhook_id = numeric("webhook_id", webhook_id)?;
        let path = format!("/2/account_activity/webhooks/{webhook_id}/subscriptions/all");
        // An empty object: the body is required since OpenAPI 2.167 (read 2026-11-30), and has no members.
        self.done(Ask::post("subscriptions", path).json(&serde_json::json!({}))?).await
    }
}

/// An address to which X sends events.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Webhook {
    /// X's id of it.
    pub id: String,
    /// The address.
    #[serde(default)]
    pub url: String,
    /// Whether X sends events there: not after a failed handshake.
    #[serde(default)]
    pub valid: bool,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook")
            .field("id", &self.id)
            // Its path or query may hold a token.
            .field("url", &UrlHost(&self.url))
            .field("valid", &self.valid)
            .finish()
    }
}

#[derive(Deserialize)]
struct Listed {
    data: Option<Vec<Webhook>>,
}

#[derive(Deserialize)]
struct Revalidated {
    valid: Option<bool>,
    attempted: Option<bool>,
}

#[derive(Serialize)]
struct Wanted<'a> {
    event_type: &'a str,
    filter: Filter<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<&'a str>,
    webhook_id: &'a str,
}

#[derive(Serialize)]
struct Filter<'a> {
    user_id: &'a str,
}

/// The three shapes in which X's pages and its specification write the same answer.
#[derive(Deserialize)]
#[serde(untagged)]
enum Subscribed {
    Several(Vec<Subscription>),
    Wrapped { subscription: Subscription },
    Flat(Subscription),
}

#[derive(Deserialize)]
struct Subscription {
    subscription_id: String,
}
