//! Lookup of a message, by its id or by its reference.

use std::time::Duration;

use http::StatusCode;

use super::receive::{Record, RecordList};
use super::{Notify, is_uuid};
use crate::adapter::json::{self, Json};
use crate::model::address::Address;
use crate::model::error::Result;
use crate::model::event::Raw;
use crate::model::lookup::{LookupOutcome, LookupQuery};

/// The maximum time after a send in which Notify may not have stored the message yet. It stores one before it answers,
/// but uses a queue for a busy service; no figure is published.
const STORED_AFTER: Duration = Duration::from_secs(5 * 60);

/// The minimum retention of messages. It is seven days unless the service chose otherwise; the shortest choice is not
/// published.
const RETENTION: Duration = Duration::from_secs(3 * 24 * 3600);

impl Notify {
    pub(super) async fn look_up_message(&self, query: &LookupQuery) -> Result<LookupOutcome> {
        if let Some(id) = query.id.as_ref().map(|id| id.as_str()).filter(|id| is_uuid(id)) {
            return self.look_up_id(id).await;
        }
        match self.info.reference(&query.message).filter(|_| !is_simulated(&query.message.to)) {
            Some(reference) => self.look_up_reference(query, &reference).await,
            None => Ok(LookupOutcome::Inconclusive),
        }
    }

    async fn look_up_id(&self, id: &str) -> Result<LookupOutcome> {
        let answer = match self.get(&format!("/v2/notifications/{id}")).await {
            Ok(answer) => answer,
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => return Ok(LookupOutcome::Inconclusive),
            Err(error) => return Err(error),
        };
        let json = Json::new(&answer.body);
        let record: Record<'_> = json.read().ok_or_else(|| answer.unreadable())?;
        let delivery = self.delivery(&record, Raw::new(answer.body.clone()), self.clock.now());
        let delivery = delivery.filter(|delivery| delivery.id().is_some_and(|found| found.as_str() == id));
        delivery.map(|delivery| LookupOutcome::Found(vec![delivery])).ok_or_else(|| answer.unreadable())
    }

    async fn look_up_reference(&self, query: &LookupQuery, reference: &str) -> Result<LookupOutcome> {
        let encoded: String = form_urlencoded::byte_serialize(reference.as_bytes()).collect();
        let answer = self.get(&format!("/v2/notifications?template_type=sms&reference={encoded}")).await?;
        let json = Json::new(&answer.body);
        let list = json.read::<RecordList<'_>>().and_then(|list| list.records).ok_or_else(|| answer.unreadable())?;
        let (mut found, mut has_unreadable) = (Vec::new(), false);
        for piece in list.iter() {
            let record: Record<'_> = json::read(piece.get()).unwrap_or_default();
            let raw = Raw::new(json.raw(piece.get()));
            match (self.delivery(&record, raw, self.clock.now()), record.reference()) {
                (Some(delivery), Some(actual)) if actual == reference => found.push(delivery),
                (_, Some(actual)) if actual != reference => {}
                // It may be the queried message.
                _ => has_unreadable = true,
            }
        }
        if !found.is_empty() {
            return Ok(LookupOutcome::Found(found));
        }
        if has_unreadable {
            return Err(answer.unreadable());
        }
        let is_conclusive = (STORED_AFTER..RETENTION).contains(&self.clock.now().since(query.at));
        Ok(if is_conclusive { LookupOutcome::NotFound } else { LookupOutcome::Inconclusive })
    }
}

/// Returns `true` for the numbers whose messages Notify accepts and discards, with any key.
fn is_simulated(to: &Address) -> bool {
    matches!(to.expose(), "+447700900000" | "+447700900111" | "+447700900222")
}
