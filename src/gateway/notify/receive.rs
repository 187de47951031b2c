//! What Notify tells, by callback and by poll, as events.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{GATEWAY, Notify};
use crate::adapter::json::{self, Json, List, Piece, Text};
use crate::adapter::{Collector, lenient};
use crate::model::address::{Address, Phone};
use crate::model::clock::Timestamp;
use crate::model::digest::Digest;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::event::{
    Delivery, DeliveryOf, DeliveryState, Envelope, Event, Failure, Inbound, InboundContent, Raw, Unrecognised,
};
use crate::model::info::Info;
use crate::model::message::Money;
use crate::model::poll::{Cursor, Page};
use crate::webhook::Verified;

/// How far back a poll looks once more: Notify's clock and ours may be half a minute apart, and what it writes at one
/// moment is seen a moment later.
const OVERLAP: Duration = Duration::from_secs(60);

/// How long a message may go on without becoming final. Notify gives up after three days.
const OPEN: Duration = Duration::from_secs(4 * 24 * 3600);

/// How many pages of new messages one poll gives of each list.
const PAGES: usize = 8;

/// Collects the event of a verified callback. It names no account, so that the token alone says whose it is.
pub(super) fn events(callback: &Verified, info: &Info, events: &mut Collector<'_>) {
    if events.channel().is_some() {
        let json = Json::new(callback.body());
        let raw = Raw::new(callback.body().clone());
        events.push(match json.read::<Told<'_>>() {
            Some(told) => event(&told, info, raw, callback.arrived()),
            None => unrecognised("body", info, raw, callback.arrived(), None),
        });
    }
}

/// One thing told, by a callback or in a list.
fn event(told: &Told<'_>, info: &Info, raw: Raw, now: Timestamp) -> Event {
    if let Some(from) = told.source_number.as_deref() {
        return match inbound(told, from, info, raw.clone(), now) {
            Some(inbound) => inbound.into(),
            None => unrecognised("received_text_message", info, raw, now, time(&told.created_at)),
        };
    }
    match told.medium.as_deref() {
        None | Some("sms") => match delivery(told, info, raw.clone(), now) {
            Some(delivery) => delivery.into(),
            None => unrecognised("callback", info, raw, now, time(&told.created_at)),
        },
        // One callback serves all that the service sends.
        Some(other) => {
            let what = if matches!(other, "email" | "letter") { other } else { "callback" };
            unrecognised(what, info, raw, now, time(&told.created_at))
        }
    }
}

fn unrecognised(what: &str, info: &Info, raw: Raw, now: Timestamp, made: Option<Timestamp>) -> Event {
    let envelope = Envelope::new(GATEWAY, info.medium.clone(), info.account.clone(), now, raw);
    Unrecognised::new(envelope.dated(made), what).into()
}

fn inbound(told: &Told<'_>, from: &str, info: &Info, raw: Raw, now: Timestamp) -> Option<Inbound> {
    let sender = source(from)?;
    let at = time(&told.date_received).or_else(|| time(&told.created_at));
    let envelope = Envelope::new(GATEWAY, info.medium.clone(), info.account.clone(), now, raw).dated(at);
    let text = told.message.as_deref()?.to_owned();
    // Without an id it is known by what it says, and when: that is the same when it comes again.
    let id = told.id.some().map_or_else(
        || {
            let date = told.date_received.as_deref().or(told.created_at.as_deref()).unwrap_or_default();
            Digest::sha256([from, date, &text].join("\n").as_bytes()).to_string()
        },
        str::to_owned,
    );
    let mut inbound = Inbound::new(envelope, &*id, sender, InboundContent::Text(text));
    inbound.to = told.destination_number.as_deref().and_then(source);
    Some(inbound)
}

/// How far a message has got, by a callback or by the notification itself.
pub(super) fn delivery(told: &Told<'_>, info: &Info, raw: Raw, now: Timestamp) -> Option<Delivery> {
    let (id, status) = (told.id.some()?, told.status.some()?);
    let envelope = Envelope::new(GATEWAY, info.medium.clone(), info.account.clone(), now, raw).dated(told.at());
    let (state, failure) = state(status);
    let mut delivery = Delivery::new(envelope, id, state, status);
    delivery.of = DeliveryOf::Message { id: Some(id.into()), key: told.reference.as_deref().map(str::to_owned) };
    delivery.recipient = told.to.as_deref().and_then(submitted);
    delivery.failure = failure.map(|(kind, temporary)| Failure::new(kind).code(status).temporary(temporary));
    delivery.price = told.cost_in_pounds.as_deref().and_then(|pounds| Money::rounded(pounds, "GBP").ok());
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

/// Who a received message came from: a phone number as networks write it, in E.164 without its `+`, or what else a network
/// lets through.
fn source(number: &str) -> Option<Address> {
    let number = number.trim();
    let international = number.len() > 7 && number.bytes().all(|b| b.is_ascii_digit()) && !number.starts_with('0');
    let phone = match international {
        true => mobile(number).or_else(|| Phone::from_digits(number).ok()),
        false => Phone::from_gateway(number).ok().filter(|_| number.starts_with(['0', '+'])),
    };
    phone.map(Address::Phone).or_else(|| Address::sms_sender(number).filter(|_| number.contains(char::is_alphanumeric)))
}

/// The recipient of a message, as the request, a list of numbers or a person gave it: Notify hands on what was submitted.
///
/// It takes numbers without their leading 0 or `+`, and with a `+` or noughts too many. (notifications-utils, commit
/// a9af02ae, `PhoneNumber`, read 2026-11-30.) Of 9 or 10 digits without a prefix all are read as of the United Kingdom.
fn submitted(number: &str) -> Option<Address> {
    if number.contains(char::is_alphabetic) {
        return None;
    }
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    let prefixed = number.trim_start().starts_with(['0', '+', '(']);
    let phone = mobile(&digits).or_else(|| Phone::from_gateway(number).ok().filter(|_| prefixed));
    let bare = || {
        let digits = digits.trim_start_matches('0');
        match digits.strip_prefix("440").unwrap_or(digits) {
            national if matches!(national.len(), 9 | 10) => united_kingdom(national),
            _ => Phone::from_digits(digits).ok(),
        }
    };
    phone.or_else(bare).map(Address::Phone)
}

/// A mobile number of the United Kingdom without its 0. No number abroad has these ten digits: those of +7 have eleven.
fn mobile(digits: &str) -> Option<Phone> {
    united_kingdom(digits).filter(|_| digits.len() == 10 && digits.starts_with('7'))
}

fn united_kingdom(national: &str) -> Option<Phone> {
    Phone::from_digits(&["44", national].concat()).ok()
}

/// A time as callbacks and lists write it. Notify's pages show some without the `Z`.
fn time(text: &Text<'_>) -> Option<Timestamp> {
    let text = text.as_deref()?;
    text.parse().or_else(|_| format!("{}Z", text.replacen(' ', "T", 1)).parse()).ok()
}

/// What Notify has to tell since the last poll.
pub(super) async fn poll(notify: &Notify, after: Option<&Cursor>) -> Result<Page> {
    let wrong = |_| Error::invalid("after", "is not a cursor of this channel").with_gateway(GATEWAY);
    let places: Places =
        after.map_or(Ok(Places::default()), |cursor| serde_json::from_str(cursor.as_str())).map_err(wrong)?;
    let deliveries = walk(notify, "/v2/notifications?template_type=sms", places.deliveries).await?;
    let inbound = walk(notify, "/v2/received-text-messages", places.inbound).await?;
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
async fn walk(notify: &Notify, path: &str, place: Option<Place>) -> Result<Walk> {
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
        let mut rows = rows(&answer.body, &notify.info, looked).ok_or_else(|| answer.unreadable())?;
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
fn rows(body: &Bytes, info: &Info, now: Timestamp) -> Option<Vec<Row>> {
    let json = Json::new(body);
    let list: Rows<'_> = json.read()?;
    let list = list.rows?;
    let mut rows: Vec<Row> = Vec::with_capacity(list.len());
    for piece in list.iter() {
        let raw = Raw::new(json.raw(piece.get()));
        let told: Told<'_> = json::read(piece.get()).unwrap_or_default();
        let made = time(&told.created_at).unwrap_or_else(|| rows.last().map_or(now, |row| row.made));
        let event = if told.source_number.some().is_some() && told.message.as_deref().is_some() {
            // A received message is final as it is made.
            Some((made, event(&told, info, raw, made)))
        } else if told.id.some().is_some() && told.status.some().is_some() {
            // And a notification when Notify says, if it does.
            let at = time(&told.completed_at).unwrap_or(now);
            told.is_final().then(|| (at, event(&told, info, raw, at)))
        } else {
            Some((made, unrecognised("row", info, raw, made, None)))
        };
        rows.push(Row { id: told.id.some().unwrap_or_default().into(), made, told: event });
    }
    Some(rows)
}

lenient! {
    /// A page of either list.
    pub(super) struct Rows<'a> {
        pub(super) rows = "notifications" | "received_text_messages": Option<List<Piece<'a>>>,
    }

    /// A notification, a received message, or a callback about one: the names differ and mean the same.
    pub(super) struct Told<'a> {
        id: Text<'a>,
        reference: Text<'a>,
        to = "to" | "phone_number": Text<'a>,
        status: Text<'a>,
        medium = "notification_type" | "type": Text<'a>,
        created_at: Text<'a>,
        sent_at: Text<'a>,
        completed_at: Text<'a>,
        cost_in_pounds: Text<'a>,
        cost_details: Cost<'a>,
        source_number = "source_number" | "user_number": Text<'a>,
        destination_number = "destination_number" | "notify_number": Text<'a>,
        message = "message" | "content": Text<'a>,
        date_received: Text<'a>,
    }

    struct Cost<'a> {
        billable_sms_fragments: Text<'a>,
    }
}

impl Told<'_> {
    /// When it came to be as it is.
    fn at(&self) -> Option<Timestamp> {
        time(&self.completed_at).or_else(|| time(&self.sent_at)).or_else(|| time(&self.created_at))
    }

    /// Whether nothing more will be heard of it. A word that is not known is final when Notify says that it is.
    fn is_final(&self) -> bool {
        let open = |status| matches!(state(status).0, DeliveryState::Accepted | DeliveryState::Sending);
        match self.status.as_deref() {
            Some(status) if open(status) => false,
            Some(status) if state(status).0 == DeliveryState::Unrecognised => self.completed_at.some().is_some(),
            _ => true,
        }
    }

    /// The key of the message that it is about.
    pub(super) fn reference(&self) -> Option<&str> {
        self.reference.as_deref()
    }

    pub(super) fn segments(&self) -> Option<u32> {
        self.cost_details.billable_sms_fragments.as_deref()?.parse().ok()
    }
}
