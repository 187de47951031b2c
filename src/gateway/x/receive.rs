//! What is asked of X: polled events, what became of a message, and residents' files.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};

use super::events::inbound;
use super::wire::{DmEvent, Includes, Url, content, unescaped, without_media_link};
use super::{Ask, GATEWAY, Signer, X, numeric, oauth};
use crate::adapter::json::{self, Json, List, Piece, Text};
use crate::adapter::lenient;
use crate::adapter::{Access, Answer, Credential, FetchLimits};
use crate::media::{FileUrl, HostRules, MediaStream};
use crate::medium::x as rules;
use crate::model::address::{Address, Medium, XUser};
use crate::model::clock::Timestamp;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::event::{Delivery, DeliveryState, Envelope, Event, Raw, Unrecognised};
use crate::model::lookup::{LookupOutcome, LookupQuery};
use crate::model::message::{Content, MediaRef, MediaSource};
use crate::model::poll::{Cursor, Page};
use crate::model::secret::Secret;

/// How many pages of 100 events one poll fetches. X allows 15 in 15 minutes.
const PAGES_MAX: usize = 10;

/// How far X's clock may be behind ours when a message is looked for.
const SKEW: Duration = Duration::from_secs(30);

/// What is asked of each event. X's specification of August 2026 has lost three of these; whether its servers have is
/// unverified, so the shorter list stands by, with which the sender comes as an expansion.
const FIELDS: [&str; 2] = [
    "id,event_type,text,sender_id,dm_conversation_id,created_at,attachments,entities,participant_ids",
    "id,event_type,text,dm_conversation_id,created_at,attachments,entities",
];
const EXPANSIONS: [&str; 2] = ["sender_id,attachments.media_keys", "sender_id"];

/// Where residents' files are. The token goes nowhere else.
const HOSTS: HostRules = HostRules { trusted: &["ton.twitter.com", "ton.x.com", "api.x.com"], open: &[] };

impl X {
    /// Walks from the newest event back to the one that is known. What a walk of [`PAGES_MAX`] does not reach, the
    /// next poll goes on with: the cursor then keeps X's own token.
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

    async fn listing(&self, path: &str, token: Option<&str>) -> Result<Answer> {
        loop {
            let short = self.short_list.load(Ordering::Relaxed);
            let (fields, expansions) = match (FIELDS, EXPANSIONS) {
                ([_, fields], [_, expansions]) if short => (fields, expansions),
                ([fields, _], [expansions, _]) => (fields, expansions),
            };
            let mut query = oauth::query(&[
                ("max_results", "100"),
                ("dm_event.fields", fields),
                ("expansions", expansions),
                ("user.fields", "name,username"),
                ("media.fields", "type,url"),
            ]);
            if let Some(token) = token {
                query.push_str(&format!("&{}", oauth::query(&[("pagination_token", token)])));
            }
            let refused = match self.call(Ask::get("dm_events", format!("{path}?{query}"))).await {
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
        let envelope = Envelope::new(GATEWAY, Medium::X, self.info.account.clone(), self.clock.now(), raw);
        let envelope = envelope.dated(at).with_conversation(group);
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

    /// Looks for a message by its id, or by what it says among our own since it was sent: X knows no key of ours.
    pub(super) async fn find(&self, sent: &LookupQuery) -> Result<LookupOutcome> {
        let delivery = |id: &str, at: Timestamp, raw: Raw| {
            let envelope = Envelope::new(GATEWAY, Medium::X, self.info.account.clone(), at, raw);
            let mut delivery = Delivery::new(envelope, id, DeliveryState::Accepted, "MessageCreate");
            delivery.recipient = Some(sent.message.to.clone());
            delivery
        };
        if let Some(id) = &sent.id {
            let path = format!("/2/dm_events/{}", numeric("id", id.as_str())?);
            let answer = match self.call(Ask::get("dm_event", path)).await {
                Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => {
                    return Ok(LookupOutcome::Inconclusive);
                }
                answer => answer?,
            };
            return match self.data::<serde::de::IgnoredAny>(&answer) {
                Ok(_) => Ok(LookupOutcome::Found(vec![delivery(id.as_str(), sent.at, Raw::new(answer.body.clone()))])),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(LookupOutcome::Inconclusive),
                Err(error) => Err(error),
            };
        }
        let path = match &sent.message.to {
            Address::X(user) => format!("/2/dm_conversations/with/{}/dm_events", user.id()),
            Address::Conversation(id) if rules::conversation_id(id.id()) => {
                format!("/2/dm_conversations/{}/dm_events", id.id())
            }
            _ => return Err(Error::recipient("is not an address on X").with_gateway(GATEWAY)),
        };
        let since = sent.at.minus(SKEW);
        let (mut found, mut unsure, mut token) = (Vec::new(), false, None::<String>);
        for _ in 0..PAGES_MAX {
            let answer = self.listing(&path, token.as_deref()).await?;
            let json = Json::new(&answer.body);
            let listing = Listing::read(&json, &answer)?;
            let mut older = false;
            for piece in listing.data.iter() {
                let event: DmEvent<'_> = json::read(piece.get()).unwrap_or_default();
                let created = event.created_at.as_deref().and_then(|at| at.parse::<Timestamp>().ok());
                older |= created.is_some_and(|created| created < since);
                if older || !event.says(&sent.message.content) {
                    continue;
                }
                match (event.sender_id.as_deref(), created, event.id.some()) {
                    (Some(sender), _, _) if sender != self.info.account.as_str() => {}
                    (Some(_), Some(created), Some(id)) => {
                        found.push(delivery(id, created, Raw::new(json.raw(piece.get()))));
                    }
                    _ => unsure = true,
                }
            }
            token = listing.next().filter(|_| !older);
            if token.is_none() {
                break;
            }
        }
        Ok(match (found.is_empty(), unsure || token.is_some()) {
            (false, _) => LookupOutcome::Found(found),
            (true, _) => LookupOutcome::Inconclusive,
        })
    }

    /// A resident's file. X's address for it is of the v1.1 API: a signed request goes there, a token to its
    /// successor under v2.
    pub(super) async fn fetch(&self, media: &MediaRef) -> Result<MediaStream> {
        let missing = || Error::new(ErrorKind::NotFound, "X gave no address for this file; its webhooks do");
        let url = media.url.as_deref().ok_or_else(|| missing().with_field("media.url").with_gateway(GATEWAY))?;
        let base = self.endpoint.base();
        // With a token the file is asked of the base URL, and this address only says which file it is.
        let named = HOSTS.check(url, base).or_else(|error| match base.is_loopback() {
            true => HOSTS.check(url, &super::BASE_URL.parse()?),
            false => Err(error),
        });
        let (uri, _) = named.map_err(|error| error.with_gateway(GATEWAY))?;
        let place = place(uri.path()).ok_or_else(|| {
            Error::new(ErrorKind::Forbidden, "is not the address of a file in a message")
                .with_field("media.url")
                .with_gateway(GATEWAY)
        })?;
        let url = match &self.signer {
            Signer::OAuth1 { .. } => url.to_owned(),
            Signer::OAuth2(_) => format!("{}/2/dm_conversations/media/{place}", base.as_str()),
        };
        let token = self.signer.token(None).await?;
        let stream = match self.fetch_once(&url, token.as_ref()).await {
            Err(error) if token.is_some() && error.status() == Some(StatusCode::UNAUTHORIZED) => {
                let token = self.signer.token(token.as_ref()).await?;
                self.fetch_once(&url, token.as_ref()).await?
            }
            stream => stream?,
        };
        Ok(match media.sha256 {
            Some(digest) => stream.hashed(digest),
            None => stream,
        })
    }

    async fn fetch_once(&self, url: &str, token: Option<&Secret>) -> Result<MediaStream> {
        let limits = FetchLimits { cap: rules::VIDEO_BYTES_MAX, time: Duration::from_secs(600) };
        let sign = |uri: &http::Uri| -> Result<Option<HeaderValue>> { self.signer.header(token, &Method::GET, uri) };
        // What is signed opens the whole API: it goes to files of messages alone, redirects included.
        let v2 = [self.endpoint.base().path(), "/2/dm_conversations/media/"].concat();
        let sign = sign.limited_to(|file: &FileUrl<'_>| {
            let folder = place(file.path()).and_then(|place| file.path().strip_suffix(&*place));
            let of_files = folder.is_some_and(|folder| folder == v2 || FOLDERS.contains(&folder));
            if of_files { Access::Credential } else { Access::Refused }
        });
        self.endpoint.fetch(url, &HOSTS, sign, limits).await
    }
}

/// The last three parts of a file's path, `{dm_id}/{media_id}/{resource_id}`, when nothing in the path is special.
fn place(path: &str) -> Option<String> {
    let resource = |part: &str| {
        (1..=50).contains(&part.len())
            && !matches!(part, "." | "..")
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
    };
    let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    match parts.as_slice() {
        [.., dm, media, file]
            if parts.iter().all(|part| resource(part)) && rules::user_id(dm) && rules::user_id(media) =>
        {
            Some(format!("{dm}/{media}/{file}"))
        }
        _ => None,
    }
}

/// What the paths of files begin with: those of X's webhooks, and those of its site.
const FOLDERS: [&str; 2] = ["/1.1/ton/data/dm/", "/i/ton/data/dm/"];

fn number(id: &str) -> Option<u64> {
    id.parse().ok().filter(|_| rules::user_id(id))
}

/// A place in X's list: the last known event, or one walk down to it that is not done.
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
struct Listing<'a> {
    data: List<Piece<'a>>,
    includes: Includes<'a>,
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
    /// Reads a page. One of which it cannot be told what follows is an error: to go on without it would lose events.
    fn read(json: &'a Json<'_>, answer: &Answer) -> Result<Self> {
        let unreadable = || answer.unreadable();
        let page: ListingWire<'_> = json.read().ok_or_else(unreadable)?;
        let meta = page.meta.map(|meta| json::read::<Meta<'_>>(meta.get()).ok_or_else(unreadable)).transpose()?;
        let token = meta.and_then(|meta| meta.next_token);
        let next = token.map(|token| json::read::<Text<'_>>(token.get()).and_then(|token| token.to_text()));
        match next {
            Some(None) => Err(unreadable()),
            _ if page.data.odd && page.data.is_empty() => Err(unreadable()),
            next => Ok(Self { data: page.data, includes: page.includes, next: next.flatten() }),
        }
    }

    fn next(&self) -> Option<String> {
        self.next.clone().filter(|_| !self.data.is_empty())
    }
}

impl DmEvent<'_> {
    /// Whether this is what a message says: its text, with links as they were and with or without escapes, and its
    /// file.
    fn says(&self, content: &Content) -> bool {
        let (text, file) = match content {
            Content::Text(text) => (text.as_str(), None),
            Content::Media(media) => match media.as_slice() {
                [media] => (media.caption.as_deref().unwrap_or_default(), Some(&media.source)),
                _ => return false,
            },
            _ => return false,
        };
        let files: Vec<&str> = self.media_ids().map(|(_, id)| id).collect();
        let same_file = match file {
            None => files.is_empty(),
            Some(MediaSource::Gateway { id, .. }) => files.contains(&id.as_str()),
            Some(_) => !files.is_empty(),
        };
        let (urls, said) = (self.urls(), self.text.as_deref().unwrap_or_default());
        let said = if files.is_empty() { said } else { without_media_link(said, urls) };
        let link = |text: String, url: &Url<'_>| match (url.url.some(), url.expanded_url.as_deref()) {
            (Some(short), Some(long)) => text.replace(short, long),
            _ => text,
        };
        let expanded = urls.iter().fold(said.to_owned(), link);
        let ways = [said.to_owned(), unescaped(said), unescaped(&expanded), expanded];
        same_file && ways.iter().any(|way| way.trim() == text.trim())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_anything_special_leads_nowhere() {
        assert_eq!(place("/1.1/ton/data/dm/12/34/Ab3d_E-f9h.jpg").as_deref(), Some("12/34/Ab3d_E-f9h.jpg"));
        let long = format!("/dm/12/34/{}", "a".repeat(51));
        for bad in [
            "",
            "/",
            "/12/34",
            "/dm/12/34/",
            "/dm/12/34/..",
            "/dm/12/34/.",
            "/dm/../12/34/a.jpg",
            "/dm/%2e%2e/12/34/a",
            "/dm/12/x/a.jpg",
            "/dm/12/34/a%2Fb",
            "/dm/12/34/a;b",
            "//12/34/a.jpg",
            "dm/12/34/a.jpg",
            &long,
        ] {
            assert_eq!(place(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_cursor_comes_back_as_it_was_and_no_other_is_taken() {
        for text in ["19", "12:19:18LAA5G1SL0NR5OG", ":19:18LAA"] {
            assert_eq!(Place::read(Some(&Cursor::new(text))).unwrap().cursor().as_str(), text);
        }
        for bad in ["", "x", "1:2", ":", "::", "1::t", "x:2:t", "-1", "1:2:t:u"] {
            assert_eq!(Place::read(Some(&Cursor::new(bad))).err().unwrap().field(), Some("after"), "{bad}");
        }
    }
}
