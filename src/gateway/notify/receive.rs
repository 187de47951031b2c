//! Events from callbacks and lists.

use super::GATEWAY;
use crate::adapter::json::{Json, List, Piece, Text};
use crate::adapter::{Collector, lenient};
use crate::model::address::{Address, Phone};
use crate::model::clock::Timestamp;
use crate::model::digest::Digest;
use crate::model::error::ErrorKind;
use crate::model::event::{
    Delivery, DeliveryOf, DeliveryState, Envelope, Event, Failure, Inbound, InboundContent, Raw, Unrecognised,
};
use crate::model::info::Info;
use crate::model::message::Money;
use crate::webhook::Verified;

/// Collects the event of a verified callback. Callbacks name no account, so the token alone decides ownership.
pub(super) fn events(callback: &Verified, info: &Info, events: &mut Collector<'_>) {
    if events.channel().is_some() {
        let json = Json::new(callback.body());
        let raw = Raw::new(callback.body().clone());
        events.push(match json.read::<Record<'_>>() {
            Some(record) => event(&record, info, raw, callback.arrived()),
            None => unrecognised("body", info, raw, callback.arrived(), None),
        });
    }
}

/// The event of one record.
pub(super) fn event(record: &Record<'_>, info: &Info, raw: Raw, now: Timestamp) -> Event {
    if let Some(from) = record.source_number.as_deref() {
        return match inbound(record, from, info, raw.clone(), now) {
            Some(inbound) => inbound.into(),
            None => unrecognised("received_text_message", info, raw, now, time(&record.created_at)),
        };
    }
    match record.medium.as_deref() {
        None | Some("sms") => match delivery(record, info, raw.clone(), now) {
            Some(delivery) => delivery.into(),
            None => unrecognised("callback", info, raw, now, time(&record.created_at)),
        },
        // A callback covers every medium of the service.
        Some(other) => {
            let what = if matches!(other, "email" | "letter") { other } else { "callback" };
            unrecognised(what, info, raw, now, time(&record.created_at))
        }
    }
}

pub(super) fn unrecognised(what: &str, info: &Info, raw: Raw, now: Timestamp, made: Option<Timestamp>) -> Event {
    let envelope = Envelope::new(GATEWAY, info.medium.clone(), info.account.clone(), now, raw);
    Unrecognised::new(envelope.dated(made), what).into()
}

fn inbound(record: &Record<'_>, from: &str, info: &Info, raw: Raw, now: Timestamp) -> Option<Inbound> {
    let sender = parse_sender(from)?;
    let at = time(&record.date_received).or_else(|| time(&record.created_at));
    let envelope = Envelope::new(GATEWAY, info.medium.clone(), info.account.clone(), now, raw).dated(at);
    let text = record.message.as_deref()?.to_owned();
    // Without an id, a digest of the content and date is stable across redeliveries.
    let id = record.id.some().map_or_else(
        || {
            let date = record.date_received.as_deref().or(record.created_at.as_deref()).unwrap_or_default();
            Digest::sha256([from, date, &text].join("\n").as_bytes()).to_string()
        },
        str::to_owned,
    );
    let mut inbound = Inbound::new(envelope, &*id, sender, InboundContent::Text(text));
    inbound.to = record.destination_number.as_deref().and_then(parse_sender);
    Some(inbound)
}

/// The delivery state of a record.
pub(super) fn delivery(record: &Record<'_>, info: &Info, raw: Raw, now: Timestamp) -> Option<Delivery> {
    let (id, status) = (record.id.some()?, record.status.some()?);
    let envelope = Envelope::new(GATEWAY, info.medium.clone(), info.account.clone(), now, raw).dated(record.at());
    let (state, failure) = delivery_state(status);
    let mut delivery = Delivery::new(envelope, id, state, status);
    delivery.of = DeliveryOf::Message { id: Some(id.into()), key: record.reference.as_deref().map(str::to_owned) };
    delivery.recipient = record.to.as_deref().and_then(parse_recipient);
    delivery.failure = failure.map(|(kind, temporary)| Failure::new(kind).code(status).temporary(temporary));
    delivery.price = record.cost_in_pounds.as_deref().and_then(|pounds| Money::rounded(pounds, "GBP").ok());
    delivery.segments = record.segments();
    Some(delivery)
}

/// Maps a Notify status to a delivery state, and for a failure to its kind and whether it is temporary.
fn delivery_state(status: &str) -> (DeliveryState, Option<(ErrorKind, bool)>) {
    match status {
        "created" => (DeliveryState::Accepted, None),
        "sending" | "pending" => (DeliveryState::Sending, None),
        // To an international number; no further status follows.
        "sent" => (DeliveryState::Sent, None),
        "delivered" => (DeliveryState::Delivered, None),
        "permanent-failure" => (DeliveryState::Failed, Some((ErrorKind::InvalidRecipient, false))),
        "temporary-failure" | "technical-failure" => (DeliveryState::Failed, Some((ErrorKind::Unavailable, true))),
        _ => (DeliveryState::Unrecognised, None),
    }
}

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
        let is_pending = |status| matches!(delivery_state(status).0, DeliveryState::Accepted | DeliveryState::Sending);
        match self.status.as_deref() {
            Some(status) if is_pending(status) => false,
            Some(status) if delivery_state(status).0 == DeliveryState::Unrecognised => {
                self.completed_at.some().is_some()
            }
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
