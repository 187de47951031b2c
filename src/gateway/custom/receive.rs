//! Events of a webhook that a table describes.

use std::borrow::Cow;

use super::Custom;
use super::answer::{Id, Source};
use super::config::normalised;
use super::webhook::{Condition, InboundConfig, ReceiptConfig, WebhookConfig, WebhookFormat};
use crate::adapter::Collector;
use crate::adapter::json::Json;
use crate::model::address::{Address, Medium};
use crate::model::delivery::DeliveryState;
use crate::model::error::ErrorKind;
use crate::model::event::{Delivery, DeliveryOf, Envelope, Event, Failure, Inbound, InboundContent, Raw, Unrecognised};
use crate::webhook::{Form, Verified};

/// The values of one event.
enum Record<'a> {
    Form(&'a Form),
    Json(&'a str),
}

impl<'a> Record<'a> {
    /// Returns a value that is not blank.
    fn some(&self, source: &Source) -> Option<Cow<'a, str>> {
        self.any(source).filter(|value| !value.trim().is_empty())
    }

    /// Returns a value, which may be empty.
    fn any(&self, source: &Source) -> Option<Cow<'a, str>> {
        match (self, source) {
            (Self::Form(form), Source::Field(name)) => form.get(name),
            (Self::Json(json), Source::Pointer(pointer)) => pointer.text(json).map(Cow::Owned),
            _ => None,
        }
    }

    fn optional(&self, source: Option<&Source>) -> Option<Cow<'a, str>> {
        self.some(source?)
    }

    /// Returns `true` for a receipt: it has a status, and names its message.
    fn is_receipt(&self, table: &ReceiptConfig) -> bool {
        let names_message = [&table.id, &table.reference].into_iter().any(|of| self.optional(of.as_ref()).is_some());
        self.fits(table.when.as_ref()) && self.some(&table.status).is_some() && names_message
    }

    /// Returns `true` for an inbound message: it has a sender and a text, which may be empty.
    fn is_inbound(&self, table: &InboundConfig) -> bool {
        self.fits(table.when.as_ref()) && self.some(&table.from).is_some() && self.any(&table.text).is_some()
    }

    fn fits(&self, when: Option<&Condition>) -> bool {
        when.is_none_or(|when| self.any(&when.field).is_some_and(|value| value == when.is))
    }
}

impl Custom {
    /// Collects the events of a verified webhook.
    pub(super) fn events(&self, verified: &Verified, events: &mut Collector<'_>) {
        let Some(webhook) = self.webhook.as_ref().map(|webhook| &webhook.0) else { return };
        match webhook.format {
            WebhookFormat::Form => {
                let Some(form) = verified.fields() else { return };
                // The query of a GET may have the secret of its proof.
                let raw = verified.query().filter(|_| verified.body().is_empty());
                let raw = raw.map_or_else(|| verified.body().clone(), |query| query.as_bytes().to_vec().into());
                self.event(webhook, &Record::Form(&form), Raw::new(raw), events);
            }
            WebhookFormat::Json => {
                let json = Json::new(verified.body());
                let pieces = match &webhook.each {
                    Some(each) => each.list(json.text()).unwrap_or_default(),
                    None => vec![json.text()],
                };
                events.reserve(pieces.len());
                for piece in pieces {
                    let raw = match webhook.each.is_some() {
                        true => json.raw(piece),
                        false => verified.body().clone(),
                    };
                    self.event(webhook, &Record::Json(piece), Raw::new(raw), events);
                }
            }
        }
    }

    fn event(&self, webhook: &WebhookConfig, record: &Record<'_>, raw: Raw, events: &mut Collector<'_>) {
        let receipt = webhook.receipt.as_ref().filter(|receipt| record.is_receipt(receipt));
        let inbound = webhook.inbound.as_ref().filter(|inbound| receipt.is_none() && record.is_inbound(inbound));
        let account = match (receipt, inbound) {
            (Some(receipt), _) => receipt.account.as_ref(),
            (None, Some(inbound)) => inbound.account.as_ref(),
            // It may be of either kind: where one names our number, it has to.
            (None, None) => {
                let inbound = webhook.inbound.as_ref().and_then(|inbound| inbound.account.as_ref());
                inbound.or_else(|| webhook.receipt.as_ref()?.account.as_ref())
            }
        };
        let owner = match account {
            Some(account) => {
                let account = record.some(account).map(|account| normalised(&account));
                events.owner(account.as_deref(), 1)
            }
            None => events.channel(),
        };
        let Some(owner) = owner else { return };
        let at = |source: Option<&Source>| webhook.time_format.read(&record.optional(source)?, &webhook.zone);
        let at = receipt.map_or_else(|| at(inbound.and_then(|of| of.at.as_ref())), |of| at(of.at.as_ref()));
        let envelope = events.envelope(&owner, raw, at);
        let event: Event = match (receipt, inbound) {
            (Some(receipt), _) => self.delivery(receipt, record, envelope).into(),
            (None, Some(inbound)) => self.inbound(inbound, record, envelope),
            (None, None) => Unrecognised::new(envelope, "webhook").into(),
        };
        events.push(event);
    }

    fn inbound(&self, table: &InboundConfig, record: &Record<'_>, envelope: Envelope) -> Event {
        let from = record.some(&table.from).and_then(|from| self.person(&from));
        let (Some(from), Some(text)) = (from, record.any(&table.text)) else {
            return Unrecognised::new(envelope, "webhook").into();
        };
        // A redelivery has the same content, and so the same digest.
        let id = record.optional(table.id.as_ref());
        let id = id.map_or_else(|| envelope.raw.digest().to_string(), Cow::into_owned);
        let mut inbound = Inbound::new(envelope, id, from, InboundContent::Text(text.into_owned()));
        inbound.to = record.optional(table.to.as_ref()).and_then(|to| self.person(&to));
        inbound.into()
    }

    fn delivery(&self, table: &ReceiptConfig, record: &Record<'_>, envelope: Envelope) -> Delivery {
        let status = record.some(&table.status).unwrap_or_default();
        let (id, reference) = (record.optional(table.id.as_ref()), record.optional(table.reference.as_ref()));
        let state = table.states.iter().find(|(_, words)| words.iter().any(|word| *word == status));
        let state = state.map_or(DeliveryState::Unrecognised, |(state, _)| *state);
        let id = id.or_else(|| reference.clone().filter(|_| self.answer.id == Some(Id::Reference)));
        let mut delivery = Delivery::new(envelope, "", state, &*status);
        delivery.of = DeliveryOf::Message { id: id.map(|id| (&*id).into()), key: reference.map(Cow::into_owned) };
        delivery.recipient = record.optional(table.to.as_ref()).and_then(|to| self.person(&to));
        delivery.segments = record.optional(table.parts.as_ref()).and_then(|parts| parts.parse().ok());
        delivery.price = record.optional(table.price.as_ref()).and_then(|price| self.answer.price_of(&price));
        delivery.failure = (state == DeliveryState::Failed).then(|| {
            let code = record.optional(table.code.as_ref());
            let class = table.failures.get(code.as_deref().unwrap_or(&status));
            let failure = Failure::new(class.map_or(ErrorKind::Rejected, |class| class.kind));
            let failure = failure.temporary(class.is_some_and(|class| class.retryable));
            match code {
                Some(code) => failure.code(code),
                None => failure,
            }
        });
        delivery
    }

    fn person(&self, text: &str) -> Option<Address> {
        match &self.info.medium {
            Medium::Sms => Address::sms_sender(text),
            medium => Address::parse(medium, text).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::channel::Channel;
    use crate::context::Context;
    use crate::gateway::custom::Custom;
    use crate::model::address::Medium;
    use crate::model::event::Event;
    use crate::settings::Settings;
    use crate::webhook;

    /// Returns the events of a recorded callback, in words.
    async fn words(custom: &Custom, case: &Value) -> Vec<String> {
        let (target, body) = (case["target"].as_str().unwrap(), case["body"].as_str().unwrap().to_owned());
        let request = http::Request::builder().method(case["method"].as_str().unwrap()).uri(target).body(body).unwrap();
        let received = custom.receive(&webhook::Request::new(request)).await.unwrap();
        let word = |event: &Event| match event {
            Event::Inbound(inbound) => format!("{}: {}", inbound.from.expose(), inbound.text().unwrap()),
            Event::Delivery(delivery) => format!("{}: {:?}", delivery.key().unwrap(), delivery.state),
            other => format!("{other:?}").split('(').next().unwrap().to_owned(),
        };
        received.events.iter().map(word).collect()
    }

    #[tokio::test]
    async fn recorded_callbacks_are_read() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sms/kannel_jasmin_callbacks_recorded.json");
        let fixture: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let table = |reference: &str, status: &str, text: &str| {
            let json = format!(
                r#"{{
                    "name": "recorded", "account": "60777", "base_url": "http://127.0.0.1:1",
                    "send": {{
                        "path": "/send", "body": "query", "auth": {{ "fields": {{ "password": "a-password" }} }},
                        "fields": {{ "to": "{{to}}", "text": "{{text}}" }}
                    }},
                    "answer": {{ "id": "/id" }},
                    "webhook": {{
                        "format": "form", "proof": {{ "unproven": true }}, "time_format": "unix",
                        "inbound": {{ "account": "to", "id": "id", "from": "from", "text": "{text}", "at": "ts" }},
                        "receipt": {{
                            "reference": "{reference}", "status": "{status}", "at": "ts",
                            "states": {{ "delivered": ["1"], "failed": ["2", "16"], "sent": ["8"] }}
                        }}
                    }}
                }}"#
            );
            let config = Settings::from_json(&json).unwrap().read().unwrap();
            Custom::new(Medium::Sms, config, &Context::default()).unwrap()
        };
        let (fake, smpp, jasmin) =
            (table("id", "status", "text"), table("ref", "s", "text"), table("none", "none", "content"));
        for (name, custom, expected) in [
            ("kannel_dlr_smsc_accept", &fake, "abc: Sent"),
            ("kannel_dlr_delivered_fakesmsc", &fake, "abc: Delivered"),
            ("kannel_dlr_rejected_smpp", &smpp, "m1: Failed"),
            ("kannel_dlr_delivered_smpp", &smpp, "m1: Delivered"),
            ("kannel_dlr_undelivered_smpp", &smpp, "m1: Failed"),
            ("kannel_mo_text", &fake, "+447700900123: STOP my council texts"),
            ("kannel_mo_ucs2_emoji", &fake, "+447700900124: Hi€😀"),
            ("jasmin_mo", &jasmin, "+447700900123: STOP \u{1} \u{1b}e please"),
        ] {
            let case = fixture["cases"].as_array().unwrap().iter().find(|case| case["name"] == name).unwrap();
            let words = words(custom, case).await;
            assert_eq!(words.first().map(String::as_str), Some(expected), "{name}");
        }
        assert_eq!(fixture["cases"].as_array().unwrap().len(), 8);
    }
}
