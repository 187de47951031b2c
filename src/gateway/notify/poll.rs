//! Polling of Notify's two lists.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::receive::{Record, RecordList, time};
use super::{GATEWAY, Notify};
use crate::adapter::json::{self, Json};
use crate::model::clock::Timestamp;
use crate::model::error::{Error, Result};
use crate::model::event::{Event, Raw};
use crate::model::poll::{Cursor, Page};

/// The overlap of two polls: Notify's clock and ours may differ by half a minute, and a record becomes visible shortly
/// after it is written.
const OVERLAP: Duration = Duration::from_secs(60);

/// The maximum time in which a message may become final. Notify gives up after three days.
const MAX_PENDING: Duration = Duration::from_secs(4 * 24 * 3600);

/// The maximum number of pages of new messages that one poll returns of each list.
const MAX_PAGES: usize = 8;

impl Notify {
    /// Returns the events since the last poll.
    pub(super) async fn poll_lists(&self, after: Option<&Cursor>) -> Result<Page> {
        let invalid = |_| Error::invalid("after", "is not a cursor of this channel").with_gateway(GATEWAY);
        let positions: Positions =
            after.map_or(Ok(Positions::default()), |cursor| serde_json::from_str(cursor.as_str())).map_err(invalid)?;
        let deliveries = self.read_list("/v2/notifications?template_type=sms", positions.deliveries).await?;
        let inbound = self.read_list("/v2/received-text-messages", positions.inbound).await?;
        let has_more = deliveries.has_more || inbound.has_more;
        let mut events = inbound.events;
        events.extend(deliveries.events);
        events.sort_by_key(|event| event.envelope().at);
        let positions = Positions { deliveries: deliveries.position, inbound: inbound.position };
        let next = serde_json::to_string(&positions).map_err(|_| Error::invalid("after", "cannot be written"))?;
        Ok(Page::new(events, Some(Cursor::new(next))).with_more(has_more))
    }

    /// Reads a list from its newest message back to where the last poll has to be repeated.
    async fn read_list(&self, path: &str, position: Option<Position>) -> Result<ListEvents> {
        let polled = self.clock.now();
        let floor = position.as_ref().map(|position| position.floor);
        let (mut new_pages, mut repeated) = (VecDeque::<Vec<Row>>::new(), Vec::new());
        // The creation time of the oldest row left for the next poll, and the last row of the previous page.
        let (mut left, mut end) = (None, None::<(Box<str>, Timestamp)>);
        loop {
            let separator = if path.contains('?') { '&' } else { '?' };
            let older = end.as_ref().map_or_else(String::new, |(id, _)| {
                let id: String = form_urlencoded::byte_serialize(id.as_bytes()).collect();
                format!("{separator}older_than={id}")
            });
            let answer = self.get(&[path, &older].concat()).await?;
            let mut rows = self.rows(&answer.body, polled).ok_or_else(|| answer.unreadable())?;
            let Some(oldest) = rows.last().map(|row| row.created) else { break };
            let last = rows.iter().rev().find(|row| !row.id.is_empty()).map(|row| row.id.clone());
            let last = last.ok_or_else(|| answer.unreadable())?;
            // A list that is not in descending order would never end.
            if end.as_ref().is_some_and(|(id, created)| *id == last || *created < oldest) {
                return Err(answer.unreadable());
            }
            end = Some((last, oldest));
            rows.retain(|row| floor.is_none_or(|floor| row.created >= floor));
            let is_new = |row: &&Row| position.as_ref().is_none_or(|position| row.created > position.top);
            let new = rows.iter().take_while(is_new).count();
            repeated.extend(rows.split_off(new));
            if !rows.is_empty() {
                new_pages.push_back(rows);
            }
            if new_pages.len() > MAX_PAGES {
                left = new_pages.pop_front().and_then(|rows| rows.last().map(|row| row.created));
            }
            if floor.is_some_and(|floor| oldest < floor) {
                break;
            }
        }
        let mut new: Vec<Row> = new_pages.into_iter().flatten().collect();
        // Rows of one millisecond are returned by the same poll; otherwise the next would skip the second.
        new.retain(|row| left.is_none_or(|left| row.created < left));
        let Some(top) = new.first().map(|row| row.created).or(position.as_ref().map(|position| position.top)) else {
            return Ok(ListEvents { events: Vec::new(), position, has_more: false });
        };
        let rows = || new.iter().chain(&repeated);
        let oldest_pending = rows().filter(|row| row.event.is_none()).map(|row| row.created).min();
        // Never above an unread row, and not held down by a message that never becomes final.
        let floor = top.minus(OVERLAP).min(oldest_pending.unwrap_or(polled).max(polled.minus(MAX_PENDING)));
        let is_recent = |row: &&Row| row.event.as_ref().is_some_and(|(at, _)| *at >= polled.minus(OVERLAP));
        let seen = rows().filter(is_recent).filter(|row| !row.id.is_empty()).map(|row| row.id.clone()).collect();
        repeated.retain(|row| match (&position, &row.event) {
            (Some(position), Some((at, _))) => {
                *at >= position.polled.minus(OVERLAP) && !position.seen.contains(&row.id)
            }
            _ => false,
        });
        let newest_first = new.into_iter().chain(repeated).filter_map(|row| row.event.map(|(_, event)| event));
        let mut events: Vec<Event> = newest_first.collect();
        events.reverse();
        let position = Some(Position { top, floor, polled, seen });
        Ok(ListEvents { events, position, has_more: left.is_some() })
    }

    /// The rows of a page, newest first. An unreadable row takes the time of its neighbour and gives an unrecognised
    /// event.
    fn rows(&self, body: &Bytes, now: Timestamp) -> Option<Vec<Row>> {
        let json = Json::new(body);
        let list = json.read::<RecordList<'_>>()?.records?;
        let mut rows: Vec<Row> = Vec::with_capacity(list.len());
        for piece in list.iter() {
            let raw = Raw::new(json.raw(piece.get()));
            let record: Record<'_> = json::read(piece.get()).unwrap_or_default();
            let created = time(&record.created_at).unwrap_or_else(|| rows.last().map_or(now, |row| row.created));
            let event = if record.source_number.some().is_some() && record.message.as_deref().is_some() {
                // A received message is final from the start.
                Some((created, self.event(&record, raw, created)))
            } else if record.id.some().is_some() && record.status.some().is_some() {
                let at = time(&record.completed_at).unwrap_or(now);
                record.is_final().then(|| (at, self.event(&record, raw, at)))
            } else {
                Some((created, self.unrecognised("row", raw, created, None)))
            };
            rows.push(Row { id: record.id.some().unwrap_or_default().into(), created, event });
        }
        Some(rows)
    }
}

/// The cursor: a position in each of the two lists, or `None` while a list is empty.
#[derive(Default, Serialize, Deserialize)]
struct Positions {
    deliveries: Option<Position>,
    inbound: Option<Position>,
}

/// A position in one list.
///
/// The list is in creation order, but messages become final in any order, so one mark is not enough: rows above `top`
/// are unread, and rows between `floor` and `top` were not final at the last poll if they became final after `polled`.
#[derive(Clone, Serialize, Deserialize)]
struct Position {
    /// The creation time of the newest message read.
    top: Timestamp,
    /// The creation time of the oldest message to read again.
    floor: Timestamp,
    /// The start of the last poll, by our clock.
    #[serde(rename = "looked")]
    polled: Timestamp,
    /// The ids of returned messages that became final so recently that the next poll reads them again.
    seen: Vec<Box<str>>,
}

struct ListEvents {
    events: Vec<Event>,
    position: Option<Position>,
    has_more: bool,
}

/// A row of a list.
struct Row {
    /// Empty if unreadable.
    id: Box<str>,
    created: Timestamp,
    /// The event and the time since which it holds; `None` while the message is not final.
    event: Option<(Timestamp, Event)>,
}
