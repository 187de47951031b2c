//! Lookup of a message, by its SID or by search.

use std::time::Duration;

use form_urlencoded::Serializer;

use super::send::body_text;
use super::wire::{MessageList, MessageResource};
use super::{Source, Twilio};
use crate::adapter::json::{self, Json};
use crate::medium::sms::fold;
use crate::model::clock::Timestamp;
use crate::model::error::{ErrorKind, Result};
use crate::model::event::{Delivery, Raw};
use crate::model::id::MessageId;
use crate::model::lookup::{LookupOutcome, LookupQuery};

/// The maximum difference between Twilio's creation time of a message and our time of the send.
const TIME_TOLERANCE: Duration = Duration::from_secs(300);

/// The maximum number of pages to search, each of 200 messages to one recipient.
const MAX_PAGES: usize = 5;

impl Twilio {
    pub(super) async fn look_up_id(&self, id: &MessageId) -> Result<LookupOutcome> {
        let answer = match self.endpoint.get(&self.message_path(id)?, self.headers.clone()).await {
            Ok(answer) => answer,
            // Twilio accepted the message and may have sent it before it was deleted.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(LookupOutcome::Inconclusive),
            Err(error) => return Err(error),
        };
        let json = Json::new(&answer.body);
        let resource: MessageResource<'_> = json.read().ok_or_else(|| answer.unreadable())?;
        let delivery = self.delivery(&resource, Raw::new(answer.body.clone()));
        let delivery = delivery.filter(|delivery| delivery.id() == Some(id));
        delivery.map(|delivery| LookupOutcome::Found(vec![delivery])).ok_or_else(|| answer.unreadable())
    }

    /// Searches the messages to the recipient for those with the same sender and text, created within
    /// [`TIME_TOLERANCE`] of the send.
    ///
    /// The list is not filtered by `DateSent`, which a message in Twilio's queue does not have. Finding nothing is
    /// inconclusive, because Twilio does not document how soon a message is listed.
    pub(super) async fn search(&self, query: &LookupQuery) -> Result<LookupOutcome> {
        let options = query.message.options::<super::Options>()?.unwrap_or_default();
        let text = match body_text(&query.message.content) {
            Some(text) if !options.discard_content && !options.obfuscate_address => fold(&text).into_owned(),
            // Twilio composes a template's text, and discarded content cannot be compared.
            _ => return Ok(LookupOutcome::Inconclusive),
        };
        let to = self.written(&query.message.to);
        let filter = Serializer::new(String::new()).append_pair("To", &to).append_pair("PageSize", "200").finish();
        let list = self.messages_path();
        let mut next = Some(format!("{list}?{filter}"));
        let mut found = Vec::new();
        for _ in 0..MAX_PAGES {
            let Some(path) = next.take() else { break };
            let answer = self.endpoint.get(&path, self.headers.clone()).await?;
            let json = Json::new(&answer.body);
            let page: MessageList<'_> = json.read().ok_or_else(|| answer.unreadable())?;
            let mut is_older = !page.messages.is_empty();
            for piece in page.messages.iter() {
                let resource: &MessageResource<'_> = &json::read(piece.get()).unwrap_or_default();
                let created = resource.date_created.as_deref().and_then(Timestamp::from_rfc2822);
                is_older &= created.is_some_and(|created| created.plus(TIME_TOLERANCE) < query.at);
                let is_near = created.is_some_and(|created| {
                    created.plus(TIME_TOLERANCE) >= query.at && created <= query.at.plus(TIME_TOLERANCE)
                });
                let body = fold(resource.body.as_deref().unwrap_or_default().trim_end());
                if is_near && self.is_from_source(resource) && body == text.trim_end() {
                    found.extend(self.delivery(resource, Raw::new(json.raw(piece.get()))));
                }
            }
            // Any other path would take the credential elsewhere.
            let is_same_list = |next: &str| next.strip_prefix(&*list).is_some_and(|rest| rest.starts_with('?'));
            next = page.next_page_uri.to_text().filter(|next| !is_older && is_same_list(next));
        }
        Ok(if found.is_empty() { LookupOutcome::Inconclusive } else { LookupOutcome::Found(found) })
    }

    fn is_from_source(&self, resource: &MessageResource<'_>) -> bool {
        let is_outbound = resource.direction.as_deref().is_none_or(|direction| direction.starts_with("outbound"));
        let (actual, expected) = match &self.source {
            Source::Sender(from) => (&resource.from, from),
            Source::Service(sid) => (&resource.messaging_service_sid, sid),
        };
        is_outbound && actual.as_deref() == Some(&**expected)
    }

    fn delivery(&self, resource: &MessageResource<'_>, raw: Raw) -> Option<Delivery> {
        let id = resource.sid.as_deref()?;
        let dates = [&resource.date_updated, &resource.date_sent, &resource.date_created];
        let at = dates.into_iter().find_map(|date| Timestamp::from_rfc2822(date.as_deref()?));
        let at = at.unwrap_or_else(|| self.context.clock.now());
        let state = resource.state();
        let status = resource.status.as_deref().unwrap_or_default();
        let mut delivery = Delivery::new(self.info.envelope(at, raw), id, state, status);
        delivery.recipient = resource.recipient();
        let (code, detail) = (resource.error_code.as_deref(), resource.error_message.as_deref());
        delivery.failure = self.failure(state, code, detail.map(str::to_owned));
        delivery.price = resource.price();
        delivery.segments = resource.segments();
        Some(delivery)
    }
}
