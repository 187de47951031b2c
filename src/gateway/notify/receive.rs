//! What Notify tells, by callback and by poll, as events.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{GATEWAY, Notify};
use crate::address::{Address, Phone, Sender};
use crate::channel::{Cursor, Info, Page};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{
    Delivery, DeliveryOf, DeliveryState, Envelope, Event, Failure, Inbound, InboundContent, Raw, Unrecognised,
};
use crate::message::Money;
use crate::webhook::{Received, Verified};
use crate::wire::Str;

pub(super) const NOTIFICATION: &str = "/notifications/#";
const RECEIVED: &str = "/received_text_messages/#";

/// How far back a poll looks once more: Notify's clock and ours may be half a minute apart, and what it writes at one
/// moment is seen a moment later.
const OVERLAP: Duration = Duration::from_secs(60);

/// How long a message may go on without becoming final. Notify gives up after three days.
const OPEN: Duration = Duration::from_secs(4 * 24 * 3600);

/// How many pages of new messages one poll gives of each list.
const PAGES: usize = 8;

/// The events of a verified callback. It names no account, so that the token alone says whose it is.
pub(super) fn events(verified: &Verified, info: &Info) -> Received {
    if !verified.owns(info.account.as_str()) {
        return Received::new(Vec::new()).with_discarded(1);
    }
    let raw = Raw::whole(verified.body().clone());
    let event = match Told::read(verified.body()) {
        Some(told) => event(&told, info, raw, verified.arrived()),
        None => unrecognised("body", info, raw, verified.arrived()),
    };
    Received::new(vec![event])
}

/// One thing told, by a callback or in a list.
fn event(told: &Told<'_>, info: &Info, raw: Raw, now: Timestamp) -> Event {
    if let Some(from) = &told.source_number {
        return match inbound(told, from, info, raw.clone(), now) {
            Some(inbound) => inbound.into(),
            None => unrecognised("received_text_message", info, raw, now),
        };
    }
    match told.medium.as_deref() {
        None | Some("sms") => match delivery(told, info, raw.clone(), now) {
            Some(delivery) => delivery.into(),
            None => unrecognised("callback", info, raw, now),
        },
        // One callback serves all that the service sends.
        Some(other) => {
            unrecognised(if matches!(other, "email" | "letter") { other } else { "callback" }, info, raw, now)
        }
    }
}

fn unrecognised(what: &str, info: &Info, raw: Raw, now: Timestamp) -> Event {
    let envelope = Envelope::new(GATEWAY, info.medium.clone(), info.account.clone(), now, raw);
    Unrecognised::new(envelope, what).into()
}

fn inbound(told: &Told<'_>, from: &str, info: &Info, raw: Raw, now: Timestamp) -> Option<Inbound> {
    let from = match phone(from) {
        Some(phone) => phone,
        None => match from.parse().ok()? {
            Sender::Name(name) => Address::SenderName(name),
            Sender::Phone(phone) => Address::Phone(phone),
            Sender::ShortCode(code) => Address::ShortCode(code),
        },
    };
    let at = time(&told.date_received).or_else(|| time(&told.created_at)).unwrap_or(now);
    let envelope = Envelope::new(GATEWAY, info.medium.clone(), info.account.clone(), at, raw);
    let text = told.message.as_deref()?.to_owned();
    let mut inbound = Inbound::new(envelope, told.id.as_deref()?, from, InboundContent::Text(text));
    inbound.to = told.destination_number.as_deref().and_then(|number| number.parse::<Sender>().ok()).map(Address::from);
    Some(inbound)
}

/// How far a message has got, by a callback or by the notification itself.
pub(super) fn delivery(told: &Told<'_>, info: &Info, raw: Raw, now: Timestamp) -> Option<Delivery> {
    let (id, status) = (told.id.as_deref()?, told.status.as_deref()?);
    let envelope = Envelope::new(GATEWAY, info.medium.clone(), info.account.clone(), told.at().unwrap_or(now), raw);
    let (state, failure) = state(status);
    let mut delivery = Delivery::new(envelope, id, state, status);
    delivery.of = DeliveryOf::Message { id: Some(id.into()), key: told.reference.as_deref().map(str::to_owned) };
    delivery.recipient = told.to.as_deref().and_then(phone);
    delivery.failure = failure.map(|(kind, temporary)| Failure::new(kind).code(status).temporary(temporary));
    delivery.price = told.cost_in_pounds.as_deref().and_then(|pounds| Money::parse(pounds, "GBP").ok());
    delivery.segments = told.segments();
    Some(delivery)
}

/// The rung of each of Notify's words, and why it failed and whether for now only.
fn state(status: &str) -> (DeliveryState, Option<(ErrorKind, bool)>) {
    match status {
        "created" => (DeliveryState::Accepted, None),
        "sending" | "pending" => (DeliveryState::Sending, None),
        // To a number abroad, of which nothing more will be heard.
        "sent" => (DeliveryState::Sent, None),
        "delivered" => (DeliveryState::Delivered, None),
        "permanent-failure" => (DeliveryState::Failed, Some((ErrorKind::InvalidRecipient, false))),
        "temporary-failure" | "technical-failure" => (DeliveryState::Failed, Some((ErrorKind::Unavailable, true))),
        _ => (DeliveryState::Unrecognised, None),
    }
}

/// A number in any of the spellings that Notify hands on: as it was submitted, or international without a `+`.
fn phone(number: &str) -> Option<Address> {
    let national = number.starts_with(['0', '+', '(']);
    let read = if national { number.parse() } else { Phone::from_digits(number).or_else(|_| number.parse()) };
    read.ok().map(Address::Phone)
}

/// A time as callbacks and lists write it. Notify's pages show some without the `Z`.
fn time(text: &Option<Str<'_>>) -> Option<Timestamp> {
    let text = text.as_deref()?;
    text.parse().or_else(|_| format!("{}Z", text.replacen(' ', "T", 1)).parse()).ok()
}

/// What Notify has to tell since the last poll.
pub(super) async fn poll(notify: &Notify, after: Option<&Cursor>) -> Result<Page> {
    let wrong = |_| Error::invalid("after", "is not a cursor of this channel").with_gateway(GATEWAY);
    let places: Places =
        after.map_or(Ok(Places::default()), |cursor| serde_json::from_str(cursor.as_str())).map_err(wrong)?;
    let deliveries = walk(notify, "/v2/notifications?template_type=sms", NOTIFICATION, places.deliveries).await?;
    let inbound = walk(notify, "/v2/received-text-messages", RECEIVED, places.inbound).await?;
    let more = deliveries.more || inbound.more;
    let mut events = inbound.events;
    events.extend(deliveries.events);
    events.sort_by_key(|event| event.envelope().at);
    let places = Places { deliveries: deliveries.place, inbound: inbound.place };
    let next = serde_json::to_string(&places).map_err(|_| Error::invalid("after", "cannot be written"))?;
    Ok(Page::new(events, Some(Cursor::new(next))).with_more(more))
}

/// Where a poll has got to, in each of the two lists. None: the list was empty so far.
#[derive(Default, Serialize, Deserialize)]
struct Places {
    deliveries: Option<Place>,
    inbound: Option<Place>,
}

/// Where a poll has got to in one list.
///
/// The list is in the order in which messages were made, and they become final in any order, so that one mark is not
/// enough: what is above `top` has never been looked at, and what is between `floor` and `top` and became final after
/// `looked` was not final then.
#[derive(Clone, Serialize, Deserialize)]
struct Place {
    /// When the newest message was made that has been looked at.
    top: Timestamp,
    /// When the oldest message was made that has to be looked at again.
    floor: Timestamp,
    /// When the last look began, by our clock.
    looked: Timestamp,
    /// What has been told and became final so shortly before that, that the next look will come upon it again.
    seen: Vec<Box<str>>,
}

struct Walk {
    events: Vec<Event>,
    place: Option<Place>,
    more: bool,
}

/// One message of a list.
struct Row {
    /// Empty where it cannot be read.
    id: Box<str>,
    made: Timestamp,
    /// What it tells, and since when. None: it is not final.
    told: Option<(Timestamp, Event)>,
}

/// Reads a list from its newest message down to where the last look has to be repeated.
async fn walk(notify: &Notify, path: &str, pattern: &'static str, place: Option<Place>) -> Result<Walk> {
    let looked = notify.clock.now();
    let floor = place.as_ref().map(|place| place.floor);
    let (mut fresh, mut again) = (VecDeque::<Vec<Row>>::new(), Vec::new());
    // What was left for the next poll, and where the last page ended.
    let (mut left, mut end) = (None, None::<(Box<str>, Timestamp)>);
    loop {
        let join = if path.contains('?') { '&' } else { '?' };
        let older = end.as_ref().map_or_else(String::new, |(id, _)| {
            let id: String = form_urlencoded::byte_serialize(id.as_bytes()).collect();
            format!("{join}older_than={id}")
        });
        let answer = notify.get(&[path, &older].concat()).await?;
        let mut rows = rows(&answer.body, pattern, &notify.info, looked).ok_or_else(|| answer.unreadable())?;
        let Some(oldest) = rows.last().map(|row| row.made) else { break };
        let last = rows.iter().rev().find(|row| !row.id.is_empty()).map(|row| row.id.clone());
        let last = last.ok_or_else(|| answer.unreadable())?;
        // A list that does not go down would never end.
        if end.as_ref().is_some_and(|(id, made)| *id == last || *made < oldest) {
            return Err(answer.unreadable());
        }
        end = Some((last, oldest));
        rows.retain(|row| floor.is_none_or(|floor| row.made >= floor));
        let new = rows.iter().take_while(|row| place.as_ref().is_none_or(|place| row.made > place.top)).count();
        again.extend(rows.split_off(new));
        if !rows.is_empty() {
            fresh.push_back(rows);
        }
        if fresh.len() > PAGES {
            left = fresh.pop_front().and_then(|rows| rows.last().map(|row| row.made));
        }
        if floor.is_some_and(|floor| oldest < floor) {
            break;
        }
    }
    let mut fresh: Vec<Row> = fresh.into_iter().flatten().collect();
    // Two messages of one millisecond are looked at together, or the second would be taken for one that was.
    fresh.retain(|row| left.is_none_or(|left| row.made < left));
    let Some(top) = fresh.first().map(|row| row.made).or(place.as_ref().map(|place| place.top)) else {
        return Ok(Walk { events: Vec::new(), place, more: false });
    };
    let rows = || fresh.iter().chain(&again);
    let open = rows().filter(|row| row.told.is_none()).map(|row| row.made).min();
    // Never above what was not looked at, and not for ever down at a message that does not become final.
    let floor = top.minus(OVERLAP).min(open.unwrap_or(looked).max(looked.minus(OPEN)));
    let lately = |row: &&Row| row.told.as_ref().is_some_and(|(at, _)| *at >= looked.minus(OVERLAP));
    let seen = rows().filter(lately).filter(|row| !row.id.is_empty()).map(|row| row.id.clone()).collect();
    again.retain(|row| match (&place, &row.told) {
        (Some(place), Some((at, _))) => *at >= place.looked.minus(OVERLAP) && !place.seen.contains(&row.id),
        _ => false,
    });
    let newest_first = fresh.into_iter().chain(again).filter_map(|row| row.told.map(|(_, event)| event));
    let mut events: Vec<Event> = newest_first.collect();
    events.reverse();
    Ok(Walk { events, place: Some(Place { top, floor, looked, seen }), more: left.is_some() })
}

/// The rows of a page, newest first. One that cannot be read is told as it is, in the place of its neighbour.
fn rows(body: &Bytes, pattern: &'static str, info: &Info, now: Timestamp) -> Option<Vec<Row>> {
    let list: List<'_> = serde_json::from_slice(body).ok()?;
    let mut rows: Vec<Row> = Vec::with_capacity(list.rows().len());
    for (n, row) in list.rows().iter().enumerate() {
        let raw = Raw::at(body.clone(), pattern, [n, 0, 0]);
        let told = Told::read(row.get().as_bytes()).filter(|told| told.id.is_some());
        let made = told.as_ref().and_then(|told| time(&told.created_at));
        let neighbour = || rows.last().map_or(now, |row| row.made);
        rows.push(match (told, made) {
            (Some(told), Some(made)) => {
                // A received message is final as it is made, and a notification when Notify says, if it does.
                let at = if told.source_number.is_some() { made } else { time(&told.completed_at).unwrap_or(now) };
                let event = told.is_final().then(|| (at, event(&told, info, raw, at)));
                Row { id: told.id?.into_string().into(), made, told: event }
            }
            _ => {
                // Its place is read whatever else is strange in it: where the next page begins is told by an id.
                let strange: serde_json::Value = serde_json::from_str(row.get()).unwrap_or_default();
                let text = |field: &str| strange.get(field).and_then(serde_json::Value::as_str);
                let made = time(&text("created_at").map(|at| Str(at.into()))).unwrap_or_else(neighbour);
                let event = unrecognised("row", info, raw, made);
                Row { id: text("id").unwrap_or_default().into(), made, told: Some((made, event)) }
            }
        });
    }
    Some(rows)
}

/// A page of either list.
#[derive(Deserialize)]
pub(super) struct List<'a> {
    #[serde(borrow, alias = "received_text_messages")]
    notifications: Vec<&'a RawValue>,
}

impl<'a> List<'a> {
    pub(super) fn rows(&self) -> &[&'a RawValue] {
        &self.notifications
    }
}

/// A notification, a received message, or a callback about one: the names differ and mean the same.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Told<'a> {
    #[serde(borrow)]
    id: Option<Str<'a>>,
    #[serde(borrow)]
    reference: Option<Str<'a>>,
    #[serde(borrow, alias = "phone_number")]
    to: Option<Str<'a>>,
    #[serde(borrow)]
    status: Option<Str<'a>>,
    #[serde(borrow, alias = "type", rename = "notification_type")]
    medium: Option<Str<'a>>,
    #[serde(borrow)]
    created_at: Option<Str<'a>>,
    #[serde(borrow)]
    sent_at: Option<Str<'a>>,
    #[serde(borrow)]
    completed_at: Option<Str<'a>>,
    #[serde(borrow)]
    cost_in_pounds: Option<Str<'a>>,
    #[serde(borrow)]
    cost_details: Option<Cost<'a>>,
    #[serde(borrow, alias = "user_number")]
    source_number: Option<Str<'a>>,
    #[serde(borrow, alias = "notify_number")]
    destination_number: Option<Str<'a>>,
    #[serde(borrow, alias = "content")]
    message: Option<Str<'a>>,
    #[serde(borrow)]
    date_received: Option<Str<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Cost<'a> {
    #[serde(borrow)]
    billable_sms_fragments: Option<Str<'a>>,
}

impl<'a> Told<'a> {
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        // Left to itself, serde takes an array for the fields in their order.
        body.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(body).ok())?
    }

    /// When it came to be as it is.
    fn at(&self) -> Option<Timestamp> {
        time(&self.completed_at).or_else(|| time(&self.sent_at)).or_else(|| time(&self.created_at))
    }

    /// Whether nothing more will be heard of it. A word that is not known is final when Notify says that it is.
    fn is_final(&self) -> bool {
        let open = |status| matches!(state(status).0, DeliveryState::Accepted | DeliveryState::Sending);
        match self.status.as_deref() {
            Some(status) if open(status) => false,
            Some(status) if state(status).0 == DeliveryState::Unrecognised => self.completed_at.is_some(),
            _ => true,
        }
    }

    pub(super) fn segments(&self) -> Option<u32> {
        self.cost_details.as_ref()?.billable_sms_fragments.as_deref()?.parse().ok()
    }
}
