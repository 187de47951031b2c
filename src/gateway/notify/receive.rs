//! Events from callbacks and lists.

use super::Notify;
use crate::adapter::json::{Json, List, Piece, Text};
use crate::adapter::{Collector, delivery_state, lenient};
use crate::model::address::{Address, Phone};
use crate::model::clock::Timestamp;
use crate::model::delivery::DeliveryState;
use crate::model::digest::Digest;
use crate::model::event::{Delivery, DeliveryOf, Envelope, Event, Inbound, InboundContent, Raw, Unrecognised};
use crate::model::message::{Money, Price};
use crate::webhook::Verified;

impl Notify {
    /// Collects the event of a verified callback. Callbacks name no account, so the token alone decides ownership.
    pub(super) fn events(&self, callback: &Verified, events: &mut Collector<'_>) {
        if events.channel().is_some() {
            let json = Json::new(callback.body());
            let raw = Raw::new(callback.body().clone());
            events.push(match json.read::<Record<'_>>() {
                Some(record) => self.event(&record, raw, callback.arrived()),
                None => self.unrecognised("body", raw, callback.arrived(), None),
            });
        }
    }

    /// The event of one record.
    pub(super) fn event(&self, record: &Record<'_>, raw: Raw, now: Timestamp) -> Event {
        let (event, what) = match (record.source_number.as_deref(), record.medium.as_deref()) {
            (Some(from), _) => (self.inbound(record, from, raw.clone(), now).map(Event::from), "received_text_message"),
            (None, None | Some("sms")) => (self.delivery(record, raw.clone(), now).map(Event::from), "callback"),
            // A callback covers every medium of the service.
            (None, Some(other @ ("email" | "letter"))) => (None, other),
            (None, Some(_)) => (None, "callback"),
        };
        event.unwrap_or_else(|| self.unrecognised(what, raw, now, time(&record.created_at)))
    }

    pub(super) fn unrecognised(&self, what: &str, raw: Raw, now: Timestamp, made: Option<Timestamp>) -> Event {
        Unrecognised::new(self.envelope(raw, now, made), what).into()
    }

    fn envelope(&self, raw: Raw, now: Timestamp, at: Option<Timestamp>) -> Envelope {
        self.info.envelope(now, raw).dated(at)
    }

    fn inbound(&self, record: &Record<'_>, from: &str, raw: Raw, now: Timestamp) -> Option<Inbound> {
        let sender = parse_sender(from)?;
        let envelope = self.envelope(raw, now, time(&record.date_received).or_else(|| time(&record.created_at)));
        let text = record.message.as_deref()?.to_owned();
        // Without an id, a digest of the content and date is stable across redeliveries.
        let id = record.id.to_text().filter(|id| !id.is_empty()).unwrap_or_else(|| {
            let date = record.date_received.as_deref().or(record.created_at.as_deref()).unwrap_or_default();
            Digest::sha256([from, date, &text].join("\n").as_bytes()).to_string()
        });
        let mut inbound = Inbound::new(envelope, &*id, sender, InboundContent::Text(text));
        inbound.to = record.destination_number.as_deref().and_then(parse_sender);
        Some(inbound)
    }

    /// The delivery state of a record.
    pub(super) fn delivery(&self, record: &Record<'_>, raw: Raw, now: Timestamp) -> Option<Delivery> {
        let (id, status) = (record.id.some()?, record.status.some()?);
        let state = delivery_state(STATES, status);
        let mut delivery = Delivery::new(self.envelope(raw, now, record.at()), id, state, status);
        delivery.of = DeliveryOf::Message { id: Some(id.into()), key: record.reference.to_text() };
        delivery.recipient = record.to.as_deref().and_then(parse_recipient);
        delivery.failure = (state == DeliveryState::Failed).then(|| self.endpoint.failure(Some(status), None));
        delivery.price =
            record.cost_in_pounds.as_deref().and_then(|pounds| Money::rounded(pounds, "GBP").ok()).map(Price::from);
        delivery.segments = record.segments();
        Some(delivery)
    }
}

/// The delivery states by Notify's status. The kinds of its failures are in the table of errors.
const STATES: &[(&str, DeliveryState)] = &[
    ("created", DeliveryState::Accepted),
    ("sending pending", DeliveryState::Sending),
    // To an international number; no further status follows.
    ("sent", DeliveryState::Sent),
    ("delivered", DeliveryState::Delivered),
    ("permanent-failure temporary-failure technical-failure", DeliveryState::Failed),
];

/// Parses the sender of a received message: a phone number as networks write it, in E.164 without `+`, or any other
/// sender that a network permits.
fn parse_sender(number: &str) -> Option<Address> {
    let number = number.trim();
    let is_international = number.len() > 7 && number.bytes().all(|b| b.is_ascii_digit()) && !number.starts_with('0');
    let phone = match is_international {
        true => mobile(number).or_else(|| Phone::from_digits(number).ok()),
        false => Phone::from_gateway(number).ok().filter(|_| number.starts_with(['0', '+'])),
    };
    phone.map(Address::Phone).or_else(|| Address::sms_sender(number).filter(|_| number.contains(char::is_alphanumeric)))
}

/// Parses the recipient of a message, which Notify returns as it was submitted by the request, a list of numbers or a
/// user.
///
/// Notify accepts numbers without their leading 0 or `+`, and with a surplus `+` or zeros. (notifications-utils, commit
/// a9af02ae, `PhoneNumber`, read 2026-11-30.) Nine or ten digits without a prefix are a number of the United Kingdom.
fn parse_recipient(number: &str) -> Option<Address> {
    if number.contains(char::is_alphabetic) {
        return None;
    }
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    let has_prefix = number.trim_start().starts_with(['0', '+', '(']);
    let phone = mobile(&digits).or_else(|| Phone::from_gateway(number).ok().filter(|_| has_prefix));
    let without_prefix = || {
        let digits = digits.trim_start_matches('0');
        match digits.strip_prefix("440").unwrap_or(digits) {
            national if matches!(national.len(), 9 | 10) => united_kingdom(national),
            _ => Phone::from_digits(digits).ok(),
        }
    };
    phone.or_else(without_prefix).map(Address::Phone)
}

/// Parses a mobile number of the United Kingdom without its 0. No international number has ten digits starting with 7:
/// those of +7 have eleven.
fn mobile(digits: &str) -> Option<Phone> {
    united_kingdom(digits).filter(|_| digits.len() == 10 && digits.starts_with('7'))
}

fn united_kingdom(national: &str) -> Option<Phone> {
    Phone::from_digits(&["44", national].concat()).ok()
}

/// Parses a time of a callback or list. Notify's pages show some without the `Z`.
pub(super) fn time(text: &Text<'_>) -> Option<Timestamp> {
    let text = text.as_deref()?;
    text.parse().or_else(|_| format!("{}Z", text.replacen(' ', "T", 1)).parse()).ok()
}

lenient! {
    /// A page of either list.
    pub(super) struct RecordList<'a> {
        pub(super) records = "notifications" | "received_text_messages": Option<List<Piece<'a>>>,
    }

    /// A notification, a received message, or a callback about one. Their field names differ.
    pub(super) struct Record<'a> {
        pub(super) id: Text<'a>,
        reference: Text<'a>,
        to = "to" | "phone_number": Text<'a>,
        pub(super) status: Text<'a>,
        medium = "notification_type" | "type": Text<'a>,
        pub(super) created_at: Text<'a>,
        sent_at: Text<'a>,
        pub(super) completed_at: Text<'a>,
        cost_in_pounds: Text<'a>,
        cost_details: Cost<'a>,
        pub(super) source_number = "source_number" | "user_number": Text<'a>,
        destination_number = "destination_number" | "notify_number": Text<'a>,
        pub(super) message = "message" | "content": Text<'a>,
        date_received: Text<'a>,
    }

    struct Cost<'a> {
        billable_sms_fragments: Text<'a>,
    }
}

impl Record<'_> {
    /// The time of the current status.
    fn at(&self) -> Option<Timestamp> {
        time(&self.completed_at).or_else(|| time(&self.sent_at)).or_else(|| time(&self.created_at))
    }

    /// Returns `true` if no further status follows. An unknown status is final once Notify sets `completed_at`.
    pub(super) fn is_final(&self) -> bool {
        let Some(status) = self.status.as_deref() else { return true };
        match delivery_state(STATES, status) {
            DeliveryState::Accepted | DeliveryState::Sending => false,
            DeliveryState::Unrecognised => self.completed_at.some().is_some(),
            _ => true,
        }
    }

    /// The key of the message.
    pub(super) fn reference(&self) -> Option<&str> {
        self.reference.as_deref()
    }

    pub(super) fn segments(&self) -> Option<u32> {
        self.cost_details.billable_sms_fragments.as_deref()?.parse().ok()
    }
}
