//! Polling of direct-message events.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::StatusCode;

use super::api::ApiRequest;
use super::events::inbound;
use super::text::content;
use super::wire::{DmEvent, Includes};
use super::{GATEWAY, X};
use crate::adapter::json::{self, Json, List, Piece, Text};
use crate::adapter::{Answer, lenient, query};
use crate::medium::x as rules;
use crate::model::address::{Address, Medium, XUser};
use crate::model::clock::Clock;
use crate::model::error::{Error, Result};
use crate::model::event::{Event, Raw, Unrecognised};
use crate::model::poll::{Cursor, Page};

/// The number of pages, of 100 events each, that one poll fetches. X allows 15 in 15 minutes.
pub(super) const PAGES_MAX: usize = 10;

/// The fields requested for each event. X's specification of August 2026 has lost three of these; whether its servers
/// have is unverified, so the shorter list is the fallback; with it the sender comes as an expansion.
const FIELDS: [&str; 2] = [
    "id,event_type,text,sender_id,dm_conversation_id,created_at,attachments,entities,participant_ids",
    "id,event_type,text,dm_conversation_id,created_at,attachments,entities",
];
const EXPANSIONS: [&str; 2] = ["sender_id,attachments.media_keys", "sender_id"];

impl X {
    /// Reads from the newest event back to the known one. After [`PAGES_MAX`] pages the cursor keeps X's pagination
    /// token, and the next poll continues there.
    pub(super) async fn poll_events(&self, after: Option<&Cursor>) -> Result<Page> {
        let Place { known, mut newest, mut token } = Place::read(after)?;
        let mut found = Vec::new();
        for page in 0..PAGES_MAX {
            let answer = match self.listing("/2/dm_events", token.as_deref()).await {
                // X no longer takes its token: begin again with the newest, down to the same known event.
                Err(error) if page == 0 && token.is_some() && error.status() == Some(StatusCode::BAD_REQUEST) => {
                    self.listing("/2/dm_events", None).await?
                }
                listed => listed?,
            };
            let json = Json::new(&answer.body);
            let listing = Listing::read(&json, &answer)?;
            let mut reached = false;
            for piece in listing.data.iter() {
                let event: DmEvent<'_> = json::read(piece.get()).unwrap_or_default();
                let id = event.id.as_deref().and_then(number);
                if id.is_some_and(|id| known.is_some_and(|known| id <= known)) {
                    reached = true;
                    break;
                }
                newest = newest.max(id);
                found.push(self.listed(&event, Raw::new(json.raw(piece.get())), &listing.includes));
            }
            token = listing.next().filter(|_| !reached);
            if token.is_none() {
                break;
            }
        }
        found.reverse();
        let more = token.is_some() && newest.is_some();
        let next = newest.is_some().then(|| Place { known, newest, token }.cursor());
        Ok(Page::new(found, next).with_more(more))
    }

    pub(super) async fn listing(&self, path: &str, token: Option<&str>) -> Result<Answer> {
        loop {
            let short = self.short_list.load(Ordering::Relaxed);
            let (fields, expansions) = match (FIELDS, EXPANSIONS) {
                ([_, fields], [_, expansions]) if short => (fields, expansions),
                ([fields, _], [expansions, _]) => (fields, expansions),
            };
            let mut parameters = query(&[
                ("max_results", "100"),
                ("dm_event.fields", fields),
                ("expansions", expansions),
                ("user.fields", "name,username"),
                ("media.fields", "type,url"),
            ]);
            if let Some(token) = token {
                parameters.push_str(&format!("&{}", query(&[("pagination_token", token)])));
            }
            let refused = match self.call(ApiRequest::get("dm_events", format!("{path}?{parameters}"))).await {
                Err(error) if !short && error.status() == Some(StatusCode::BAD_REQUEST) => error,
                done => return done,
            };
            let about_fields = |raw: &Bytes| String::from_utf8_lossy(raw).contains("dm_event.fields");
            if !refused.raw().is_some_and(about_fields) {
                return Err(refused);
            }
            self.short_list.store(true, Ordering::Relaxed);
        }
    }

    /// An event of a list.
    fn listed(&self, event: &DmEvent<'_>, raw: Raw, people: &Includes<'_>) -> Event {
        let at = event.created_at.as_deref().and_then(|at| at.parse().ok());
        let conversation = event.dm_conversation_id.as_deref();
        let group =
            conversation.filter(|id| !id.contains('-')).and_then(|id| Address::conversation(Medium::X, id).ok());
        let envelope = self.info.envelope(self.clock.now(), raw).dated(at).with_conversation(group);
        let kind = event.event_type.as_deref().unwrap_or("event");
        let sender = event.sender_id.as_deref().or_else(|| self.only_other(conversation?, people));
        let (Some(id), Some(from), "MessageCreate") =
            (event.id.some(), sender.and_then(|id| XUser::new(id).ok()), kind)
        else {
            return Unrecognised::new(envelope, kind).into();
        };
        let (urls, media) = (event.urls(), event.media(people));
        let content = content(event.text.as_deref(), urls, media, None, self.unescape.poll);
        let user = people.users.iter().find(|user| user.id.as_deref() == Some(from.id()));
        let other = conversation.and_then(|id| rules::other_party(id, self.info.account.as_str()));
        inbound(envelope, id, from, other, user, content).into()
    }

    /// The other person of a conversation of two, when the sender is missing and can be no one else: with the sender
    /// as an expansion the page names everybody who wrote, and we are not among them.
    fn only_other<'a>(&self, conversation: &'a str, people: &Includes<'_>) -> Option<&'a str> {
        let me = self.info.account.as_str();
        let other = rules::other_party(conversation, me)?;
        let wrote = |who: &str| people.users.iter().any(|user| user.id.as_deref() == Some(who));
        (wrote(other) && !wrote(me)).then_some(other)
    }
}

fn number(id: &str) -> Option<u64> {
    id.parse().ok().filter(|_| rules::user_id(id))
}

/// A position in X's list: the last known event, or an unfinished read back to it.
#[derive(Default)]
struct Place {
    known: Option<u64>,
    newest: Option<u64>,
    token: Option<String>,
}

impl Place {
    fn read(cursor: Option<&Cursor>) -> Result<Self> {
        let Some(cursor) = cursor else { return Ok(Self::default()) };
        let parts: Vec<&str> = cursor.as_str().split(':').collect();
        let place = match parts.as_slice() {
            [known] => number(known).map(|known| Self { known: Some(known), ..Self::default() }),
            [known, newest, token] if known.is_empty() || number(known).is_some() => number(newest)
                .map(|newest| Self { known: number(known), newest: Some(newest), token: Some((*token).to_owned()) }),
            _ => None,
        };
        place.ok_or_else(|| Error::invalid("after", "is not a cursor that this channel gave").with_gateway(GATEWAY))
    }

    fn cursor(&self) -> Cursor {
        let id = |id: Option<u64>| id.map(|id| id.to_string()).unwrap_or_default();
        Cursor::new(match &self.token {
            Some(token) => format!("{}:{}:{token}", id(self.known), id(self.newest)),
            None => id(self.newest.or(self.known)),
        })
    }
}

/// A page of events. An empty one has no `data` at all.
pub(super) struct Listing<'a> {
    pub(super) data: List<Piece<'a>>,
    pub(super) includes: Includes<'a>,
    next: Option<String>,
}

lenient! {
    struct ListingWire<'a> {
        data: List<Piece<'a>>,
        includes: Includes<'a>,
        meta: Option<Piece<'a>>,
    }

    struct Meta<'a> {
        next_token: Option<Piece<'a>>,
    }
}

impl<'a> Listing<'a> {
    /// Reads a page. A page whose next token cannot be read is an error: to continue would lose events.
    pub(super) fn read(json: &'a Json<'_>, answer: &Answer) -> Result<Self> {
        let unreadable = || answer.unreadable();
        let page: ListingWire<'_> = json.read().ok_or_else(unreadable)?;
        let meta = page.meta.map(|meta| json::read::<Meta<'_>>(meta.get()).ok_or_else(unreadable)).transpose()?;
        let token = meta.and_then(|meta| meta.next_token);
        let next = token.map(|token| json::read::<Text<'_>>(token.get()).and_then(|token| token.to_text()));
        match next {
            Some(None) => Err(unreadable()),
            _ if page.data.malformed && page.data.is_empty() => Err(unreadable()),
            next => Ok(Self { data: page.data, includes: page.includes, next: next.flatten() }),
        }
    }

    pub(super) fn next(&self) -> Option<String> {
        self.next.clone().filter(|_| !self.data.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_round_trips_and_others_are_refused() {
        for text in ["19", "12:19:18LAA5G1SL0NR5OG", ":19:18LAA"] {
            assert_eq!(Place::read(Some(&Cursor::new(text))).unwrap().cursor().as_str(), text);
        }
        for bad in ["", "x", "1:2", ":", "::", "1::t", "x:2:t", "-1", "1:2:t:u"] {
            assert_eq!(Place::read(Some(&Cursor::new(bad))).err().unwrap().field(), Some("after"), "{bad}");
        }
    }
}
