//! What comes in: webhooks of both of X's APIs, polled events, and residents' files.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Ask, GATEWAY, Signer, X, numeric, oauth};
use crate::address::{Address, Medium, XUser};
use crate::channel::{Cursor, Evidence, Page, Sent};
use crate::clock::Timestamp;
use crate::endpoint::{Access, Answer, Credential, FetchLimits};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{
    Account, Chosen, Delivery, DeliveryOf, DeliveryState, Envelope, Event, Inbound, InboundContent, Profile, Raw,
    Topic, Unrecognised,
};
use crate::id::{AccountId, MessageId};
use crate::media::{FileUrl, Hosts, MediaStream};
use crate::medium::x as rules;
use crate::message::{Content, MediaRef, MediaSource};
use crate::secret::Secret;
use crate::webhook::{
    Covers, Encoding, HmacSha256, Opened, Received, Refusal, Reply, Request, Scheme, Sealed, SigningSecret, Verdict,
};
use crate::wire::Str;

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
const HOSTS: Hosts = Hosts { trusted: &["ton.twitter.com", "ton.x.com", "api.x.com"], open: &[] };

/// X's proof: HMAC-SHA256 of the body under the app's consumer secret, and the same of a token in its handshake.
///
/// Both are made with one key, and anybody may ask for the handshake: whoever sends a forged body as the token gets
/// its signature. So a token that could be an event is refused, and so is a body that could not be one.
#[derive(Debug)]
pub(super) struct Signature(HmacSha256);

impl Signature {
    pub(super) fn new(secrets: impl IntoIterator<Item = SigningSecret>) -> Self {
        let header = HeaderName::from_static("x-twitter-webhooks-signature");
        Self(HmacSha256::new(header, "sha256=", Encoding::Base64, secrets))
    }
}

impl Scheme for Signature {
    fn verify(&self, sealed: Sealed<'_>) -> Verdict {
        if sealed.method() == Method::GET
            && let Some(token) = sealed.query_parameter("crc_token")
        {
            let answer = self.0.sign(token.as_bytes()).filter(|_| !token.is_empty() && !token.contains('{'));
            let Some(answer) = answer else { return Verdict::Refused(Refusal::Wrong) };
            let answer = serde_json::json!({ "response_token": answer }).to_string();
            return Verdict::Answer(Reply::body("application/json", answer));
        }
        match self.0.verify(sealed) {
            Verdict::Open(verified) if !verified.body().contains(&b'{') => Verdict::Refused(Refusal::Wrong),
            verdict => verdict,
        }
    }

    fn covers(&self) -> Covers {
        Covers::Body
    }
}

impl X {
    pub(super) fn receive_webhook(&self, request: &Request) -> Result<Received> {
        let verified = match request.open(&self.scheme).map_err(|error| error.with_gateway(GATEWAY))? {
            Opened::Handshake(received) => return Ok(received),
            Opened::Verified(verified) => verified,
            _ => {
                return Err(
                    Error::new(ErrorKind::Unauthenticated, "the webhook cannot be verified").with_gateway(GATEWAY)
                );
            }
        };
        let mut reader = Reader { x: self, body: verified.body(), arrived: verified.arrived(), found: Vec::new() };
        reader.webhook();
        let mut discarded = 0;
        let own = |event: &Found| {
            let owned = !event.attributed || verified.owns(event.event.envelope().account.as_str());
            discarded += usize::from(!owned);
            owned
        };
        let events: Vec<Event> = reader.found.into_iter().filter(own).map(|found| found.event).collect();
        Ok(Received::new(events).with_discarded(discarded))
    }

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
            let listing = Listing::read(&answer)?;
            let people = listing.includes();
            let mut reached = false;
            for (at, raw) in listing.data.iter().enumerate() {
                let event = serde_json::from_str::<DmEvent<'_>>(raw.get()).unwrap_or_default();
                let id = event.id.as_deref().and_then(number);
                if id.is_some_and(|id| known.is_some_and(|known| id <= known)) {
                    reached = true;
                    break;
                }
                newest = newest.max(id);
                found.push(self.listed(&event, Raw::at(answer.body.clone(), "/data/#", [at, 0, 0]), &people));
            }
            token = listing.next().filter(|_| !reached && !listing.data.is_empty());
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
        let at = event.created_at.as_deref().and_then(|at| at.parse().ok()).unwrap_or_else(|| self.clock.now());
        let conversation = event.dm_conversation_id.as_deref();
        let group =
            conversation.filter(|id| !id.contains('-')).and_then(|id| Address::conversation(Medium::X, id).ok());
        let envelope = Envelope::new(GATEWAY, Medium::X, self.info.account.clone(), at, raw).within(group);
        let kind = event.event_type.as_deref().unwrap_or("event");
        let sender = event.sender_id.as_deref().or_else(|| self.only_other(conversation?, people));
        let (Some(id), Some(from), "MessageCreate") = (&event.id, sender.and_then(|id| XUser::new(id).ok()), kind)
        else {
            return Unrecognised::new(envelope, kind).into();
        };
        let (urls, media) = (event.urls(), event.media(people));
        let content = content(event.text.as_deref(), &urls, media, None, self.unescape.poll);
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
    pub(super) async fn find(&self, sent: &Sent) -> Result<Evidence> {
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
                    return Ok(Evidence::Absent { conclusive: false });
                }
                answer => answer?,
            };
            return match self.data::<serde::de::IgnoredAny>(&answer) {
                Ok(_) => Ok(Evidence::Found(vec![delivery(id.as_str(), sent.at, Raw::whole(answer.body.clone()))])),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(Evidence::Absent { conclusive: false }),
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
            let listing = Listing::read(&answer)?;
            let mut older = false;
            for (at, raw) in listing.data.iter().enumerate() {
                let event = serde_json::from_str::<DmEvent<'_>>(raw.get()).unwrap_or_default();
                let created = event.created_at.as_deref().and_then(|at| at.parse::<Timestamp>().ok());
                older |= created.is_some_and(|created| created < since);
                if older || !event.says(&sent.message.content) {
                    continue;
                }
                match (event.sender_id.as_deref(), created, &event.id) {
                    (Some(sender), _, _) if sender != self.info.account.as_str() => {}
                    (Some(_), Some(created), Some(id)) => {
                        found.push(delivery(id, created, Raw::at(answer.body.clone(), "/data/#", [at, 0, 0])));
                    }
                    _ => unsure = true,
                }
            }
            token = listing.next().filter(|_| !older && !listing.data.is_empty());
            if token.is_none() {
                break;
            }
        }
        Ok(match (found.is_empty(), unsure || token.is_some()) {
            (false, _) => Evidence::Found(found),
            (true, true) => Evidence::CannotTell,
            (true, false) => Evidence::Absent { conclusive: false },
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

const MESSAGES: &str = "direct_message_events";
const READS: &str = "direct_message_mark_read_events";
const TYPING: &str = "direct_message_indicate_typing_events";

/// Makes events of a webhook's body.
struct Reader<'a> {
    x: &'a X,
    body: &'a Bytes,
    arrived: Timestamp,
    found: Vec<Found>,
}

/// An event, and whether X said which account it is about: one that is of none has no owner to ask for.
struct Found {
    event: Event,
    attributed: bool,
}

/// The members of an object whose names matter.
type Members<'a> = BTreeMap<String, &'a RawValue>;

/// Where one of the two APIs puts its lists, and how it writes text.
struct Source {
    messages: &'static str,
    reads: &'static str,
    typing: &'static str,
    unescape: bool,
}

impl<'a> Reader<'a> {
    fn webhook(&mut self) {
        let Ok(members) = serde_json::from_slice::<Members<'_>>(self.body) else {
            return self.unknown(None, "unreadable");
        };
        match members.get("data").map(|data| serde_json::from_str::<Activity<'_>>(data.get())) {
            Some(Ok(activity)) => self.activity(&activity),
            Some(Err(_)) => self.unknown(None, "data"),
            None => self.account_activity(&members),
        }
    }

    /// X Activity API: one envelope, in which the lists of the older API stand.
    fn activity(&mut self, activity: &Activity<'_>) {
        let account = activity.filter.as_ref().and_then(|filter| filter.user_id.as_deref());
        let source = Source {
            messages: "/data/payload/direct_message_events/#",
            reads: "/data/payload/direct_message_mark_read_events/#",
            typing: "/data/payload/direct_message_indicate_typing_events/#",
            unescape: self.x.unescape.activity,
        };
        let kind = activity.event_type.as_deref().unwrap_or("data");
        let payload = activity.payload.map(RawValue::get).unwrap_or_default();
        match kind {
            "chat.received" | "chat.sent" => self.encrypted(account, kind, payload),
            "oauth.revoke" => self.revoked(serde_json::from_str(payload).unwrap_or_default(), kind),
            _ => {
                let members: Members<'_> = serde_json::from_str(payload).unwrap_or_default();
                if !self.lists(&members, account, &source) {
                    self.unknown(account, kind);
                }
            }
        }
    }

    /// Account Activity API: lists beside each other.
    fn account_activity(&mut self, members: &Members<'_>) {
        let account: Option<Str<'_>> = members.get("for_user_id").and_then(|id| serde_json::from_str(id.get()).ok());
        let source = Source {
            messages: "/direct_message_events/#",
            reads: "/direct_message_mark_read_events/#",
            typing: "/direct_message_indicate_typing_events/#",
            unescape: self.x.unescape.account_activity,
        };
        let mut known = self.lists(members, account.as_deref(), &source);
        if let Some(happened) = members.get("user_event") {
            match serde_json::from_str::<UserEvent<'_>>(happened.get()) {
                Ok(UserEvent { revoke: Some(revoke) }) => self.revoked(revoke, "user_event"),
                _ => self.unknown(account.as_deref(), "user_event"),
            }
            known = true;
        }
        if let Some(job) = members.get("replay_job_status") {
            let job: ReplayJob<'_> = serde_json::from_str(job.get()).unwrap_or_default();
            let envelope = self.envelope(None, self.arrived, self.whole());
            let mut event = Account::new(envelope, Topic::Replay, job.job_state.as_deref().unwrap_or_default());
            (event.name, event.reason) =
                (job.job_id.map(Str::into_string), job.job_state_description.map(Str::into_string));
            self.push(None, event);
            known = true;
        }
        let passed_over = [MESSAGES, READS, TYPING, "users", "apps", "user_event", "replay_job_status"];
        let other = |name: &str, value: &RawValue| value.get().starts_with(['[', '{']) && !passed_over.contains(&name);
        let others: Vec<&str> =
            members.iter().filter(|(name, value)| other(name, value)).map(|(name, _)| name.as_str()).collect();
        if !others.is_empty() || !known {
            let what = if others.is_empty() { "webhook".to_owned() } else { others.join(" ") };
            self.unknown(account.as_deref(), &what);
        }
    }

    /// The lists of direct messages, reads and signs of typing that both APIs have. Whether there were any.
    fn lists(&mut self, members: &Members<'_>, account: Option<&str>, source: &Source) -> bool {
        let list = |name: &str| -> Vec<&RawValue> {
            members.get(name).and_then(|list| serde_json::from_str(list.get()).ok()).unwrap_or_default()
        };
        let users: Members<'_> =
            members.get("users").and_then(|u| serde_json::from_str(u.get()).ok()).unwrap_or_default();
        let before = self.found.len();
        for (at, raw) in list(MESSAGES).into_iter().enumerate() {
            self.message(account, raw, self.at(source.messages, at), &users, source.unescape);
        }
        for (at, raw) in list(READS).into_iter().enumerate() {
            self.read(account, raw, self.at(source.reads, at));
        }
        for (at, raw) in list(TYPING).into_iter().enumerate() {
            self.typing(account, raw, self.at(source.typing, at));
        }
        self.found.len() > before
    }

    fn message(&mut self, account: Option<&str>, raw: &RawValue, place: Raw, users: &Members<'_>, unescape: bool) {
        let event: DirectMessage<'_> = serde_json::from_str(raw.get()).unwrap_or_default();
        let envelope = self.envelope(account, event.at(self.arrived), place);
        let kind = event.r#type.as_deref().unwrap_or("direct_message");
        let create = event.message_create.unwrap_or_default();
        let from = create.sender_id.as_deref().and_then(|id| XUser::new(id).ok());
        // Without our own account nobody could tell an inbound message from an echo.
        let (Some(id), Some(from), Some(_)) = (event.id, from, account) else {
            return self.push(account, Unrecognised::new(envelope, kind));
        };
        let data = create.message_data.unwrap_or_default();
        let attachment = data.attachment.unwrap_or_default();
        let mut urls = data.entities.unwrap_or_default().urls.unwrap_or_default();
        urls.extend(attachment.media.as_ref().and_then(Attached::link));
        let media = attachment.media.and_then(Attached::reference).into_iter().collect::<Vec<_>>();
        let chosen = data.quick_reply_response.and_then(|reply| reply.metadata).map(Str::into_string);
        let mut content = content(data.text.as_deref(), &urls, media, chosen, unescape);
        if content == InboundContent::Unsupported(None) {
            content = InboundContent::Unsupported(attachment.r#type.map(Str::into_string));
        }
        let user: Option<User<'_>> = users.get(from.id()).and_then(|user| serde_json::from_str(user.get()).ok());
        let target = create.target.as_ref().and_then(|target| target.recipient_id.as_deref());
        self.push(account, inbound(envelope, &id, from, target, user.as_ref(), content));
    }

    fn read(&mut self, account: Option<&str>, raw: &RawValue, place: Raw) {
        let event: DirectMessage<'_> = serde_json::from_str(raw.get()).unwrap_or_default();
        let envelope = self.envelope(account, event.at(self.arrived), place);
        match (account, event.sender_id.as_deref().map(XUser::new), event.last_read_event_id) {
            // What we read ourselves says nothing about a message of ours.
            (Some(account), Some(Ok(reader)), Some(last)) if reader.id() != account => {
                let of = DeliveryOf::UpTo { at: envelope.at, id: Some(MessageId::from(&*last)) };
                let mut delivery = Delivery::new(envelope, "", DeliveryState::Read, "read");
                (delivery.of, delivery.recipient) = (of, Some(Address::X(reader)));
                self.push(Some(account), delivery);
            }
            _ => self.push(account, Unrecognised::new(envelope, "mark_read")),
        }
    }

    fn typing(&mut self, account: Option<&str>, raw: &RawValue, place: Raw) {
        let event: DirectMessage<'_> = serde_json::from_str(raw.get()).unwrap_or_default();
        let mut unknown = Unrecognised::new(self.envelope(account, event.at(self.arrived), place), "typing");
        unknown.from = event.sender_id.as_deref().and_then(|id| Address::x(id).ok());
        self.push(account, unknown);
    }

    /// A message of X's encrypted chat: who wrote, and nothing of what.
    fn encrypted(&mut self, account: Option<&str>, kind: &str, payload: &str) {
        let chat: Chat<'_> = serde_json::from_str(payload).unwrap_or_default();
        let at = chat.created_at_msec.as_deref().and_then(millis).unwrap_or(self.arrived);
        let envelope = self.envelope(account, at, Raw::at(self.body.clone(), "/data/payload", [0; 3]));
        let from = chat.sender_id.as_deref().and_then(|id| XUser::new(id).ok());
        match (account, chat.id, from) {
            (Some(_), Some(id), Some(from)) => {
                self.push(account, inbound(envelope, &id, from, None, None, InboundContent::Encrypted));
            }
            _ => self.push(account, Unrecognised::new(envelope, kind)),
        }
    }

    /// The account has taken its consent back, or somebody else's has.
    fn revoked(&mut self, revoke: Revoke<'_>, kind: &str) {
        let account = revoke.user_id.or(revoke.source.and_then(|source| source.user_id));
        let at = revoke.date_time.as_deref().and_then(|at| at.parse().ok()).unwrap_or(self.arrived);
        let envelope = self.envelope(account.as_deref(), at, self.whole());
        match &account {
            Some(_) => self.push(account.as_deref(), Account::new(envelope, Topic::Access, "revoke")),
            None => self.push(None, Unrecognised::new(envelope, kind)),
        }
    }

    fn unknown(&mut self, account: Option<&str>, what: &str) {
        let envelope = self.envelope(account, self.arrived, self.whole());
        self.push(account, Unrecognised::new(envelope, what));
    }

    fn envelope(&self, account: Option<&str>, at: Timestamp, raw: Raw) -> Envelope {
        let own = &self.x.info.account;
        let account = match account {
            Some(account) if account != own.as_str() => AccountId::from(account),
            _ => own.clone(),
        };
        Envelope::new(GATEWAY, Medium::X, account, at, raw)
    }

    fn at(&self, pattern: &'static str, at: usize) -> Raw {
        Raw::at(self.body.clone(), pattern, [at, 0, 0])
    }

    fn whole(&self) -> Raw {
        Raw::whole(self.body.clone())
    }

    fn push(&mut self, account: Option<&str>, event: impl Into<Event>) {
        self.found.push(Found { event: event.into(), attributed: account.is_some() });
    }
}

/// A message. `other` is who it was written to when it is an echo of ours; else that is us.
fn inbound(
    envelope: Envelope,
    id: &str,
    from: XUser,
    other: Option<&str>,
    user: Option<&User<'_>>,
    content: InboundContent,
) -> Inbound {
    let echo = from.id() == envelope.account.as_str();
    let group = envelope.conversation.is_some();
    let to = if echo { other } else { Some(envelope.account.as_str()) };
    let to = to.filter(|_| !group).and_then(|id| Address::x(id).ok());
    let (name, handle) = user.map(User::shown).unwrap_or_default();
    let from = match &handle {
        Some(handle) => from.with_handle(handle),
        None => from,
    };
    let mut inbound = Inbound::new(envelope, id, Address::X(from), content);
    (inbound.echo, inbound.to) = (echo, to);
    inbound.profile = Profile { name, handle };
    inbound
}

fn content(
    text: Option<&str>,
    urls: &[Url<'_>],
    media: Vec<MediaRef>,
    chosen: Option<String>,
    unescape: bool,
) -> InboundContent {
    let text = text.unwrap_or_default();
    let text = if media.is_empty() { text } else { without_media_link(text, urls) };
    let text = if unescape { unescaped(text) } else { text.to_owned() };
    match chosen {
        _ if !media.is_empty() => InboundContent::Media { text: Some(text).filter(|text| !text.is_empty()), media },
        Some(id) => InboundContent::Chosen(Chosen { id, title: text }),
        None if text.is_empty() => InboundContent::Unsupported(None),
        None => InboundContent::Text(text),
    }
}

/// The text without the link that X puts at its end for a file. The entity says which link that is; its indices are
/// not trusted, since X does not say what they count.
fn without_media_link<'t>(text: &'t str, urls: &[Url<'_>]) -> &'t str {
    let links = urls.iter().filter(|url| url.expanded_url.as_deref().is_some_and(|to| to.contains("/messages/media/")));
    let cut = |link: &Url<'_>| text.trim_end().strip_suffix(link.url.as_deref().filter(|url| !url.is_empty())?);
    links.into_iter().find_map(cut).unwrap_or(text).trim_end()
}

/// Reads `&amp;`, `&lt;` and `&gt;` back, once: `&amp;lt;` was `&lt;`.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        plain.push_str(before);
        let known = [("amp;", '&'), ("lt;", '<'), ("gt;", '>')];
        let (c, left) =
            known.iter().find_map(|(name, c)| Some((*c, after.strip_prefix(name)?))).unwrap_or(('&', after));
        plain.push(c);
        rest = left;
    }
    plain.push_str(rest);
    plain
}

fn millis(text: &str) -> Option<Timestamp> {
    text.parse().ok().map(Timestamp::from_millis)
}

#[derive(Deserialize)]
struct Activity<'a> {
    #[serde(borrow)]
    event_type: Option<Str<'a>>,
    filter: Option<Subject<'a>>,
    payload: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Subject<'a> {
    #[serde(borrow)]
    user_id: Option<Str<'a>>,
}

/// A message, a read or a sign of typing: X writes them in one shape.
#[derive(Default, Deserialize)]
#[serde(default)]
struct DirectMessage<'a> {
    #[serde(borrow)]
    r#type: Option<Str<'a>>,
    id: Option<Str<'a>>,
    created_timestamp: Option<Str<'a>>,
    message_create: Option<MessageCreate<'a>>,
    sender_id: Option<Str<'a>>,
    last_read_event_id: Option<Str<'a>>,
}

impl DirectMessage<'_> {
    fn at(&self, arrived: Timestamp) -> Timestamp {
        self.created_timestamp.as_deref().and_then(millis).unwrap_or(arrived)
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MessageCreate<'a> {
    #[serde(borrow)]
    sender_id: Option<Str<'a>>,
    target: Option<Target<'a>>,
    message_data: Option<MessageData<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Target<'a> {
    #[serde(borrow)]
    recipient_id: Option<Str<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MessageData<'a> {
    #[serde(borrow)]
    text: Option<Str<'a>>,
    entities: Option<Entities<'a>>,
    quick_reply_response: Option<QuickReply<'a>>,
    attachment: Option<Attachment<'a>>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Entities<'a> {
    #[serde(borrow)]
    urls: Option<Vec<Url<'a>>>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Url<'a> {
    #[serde(borrow)]
    url: Option<Str<'a>>,
    expanded_url: Option<Str<'a>>,
}

#[derive(Deserialize)]
struct QuickReply<'a> {
    #[serde(borrow)]
    metadata: Option<Str<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Attachment<'a> {
    #[serde(borrow)]
    r#type: Option<Str<'a>>,
    media: Option<Attached<'a>>,
}

/// A file in a webhook. Its `id` is a number that JSON readers round, so `id_str` is read.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Attached<'a> {
    #[serde(borrow)]
    id_str: Option<Str<'a>>,
    media_url_https: Option<Str<'a>>,
    url: Option<Str<'a>>,
    expanded_url: Option<Str<'a>>,
    video_info: Option<VideoInfo<'a>>,
}

/// As in v1.1; that direct messages still have it is unverified.
#[derive(Deserialize)]
struct VideoInfo<'a> {
    #[serde(borrow)]
    variants: Option<Vec<Variant<'a>>>,
}

#[derive(Deserialize)]
struct Variant<'a> {
    bitrate: Option<u64>,
    #[serde(borrow)]
    content_type: Option<Str<'a>>,
    url: Option<Str<'a>>,
}

impl<'a> Attached<'a> {
    fn link(&self) -> Option<Url<'a>> {
        Some(Url { url: Some(self.url.clone()?), expanded_url: self.expanded_url.clone() })
    }

    fn reference(self) -> Option<MediaRef> {
        let films = self.video_info.and_then(|info| info.variants).unwrap_or_default();
        let best = films.into_iter().filter(|film| film.bitrate.is_some()).max_by_key(|film| film.bitrate);
        let mut media = MediaRef::new(GATEWAY, self.id_str?.into_string());
        match best {
            Some(film) => {
                media.url = film.url.map(Str::into_string);
                media.mime = film.content_type.map(Str::into_string);
            }
            None => {
                media.mime = self.media_url_https.as_deref().and_then(mime_by_name).map(str::to_owned);
                media.url = self.media_url_https.map(Str::into_string);
            }
        }
        Some(media)
    }
}

fn mime_by_name(url: &str) -> Option<&'static str> {
    match url.rsplit_once('.')?.1 {
        "gif" => Some("image/gif"),
        "jpg" | "jpeg" => Some("image/jpeg"),
        "mp4" => Some("video/mp4"),
        "png" => Some("image/png"),
        "webp" => Some("image/webp"),
        _ => None,
    }
}

/// A person, under the names of v1.1, those of v2, or those of v2 in a `data` of their own.
#[derive(Default, Deserialize)]
#[serde(default)]
struct User<'a> {
    #[serde(borrow)]
    id: Option<Str<'a>>,
    name: Option<Str<'a>>,
    screen_name: Option<Str<'a>>,
    username: Option<Str<'a>>,
    data: Option<Box<Self>>,
}

impl User<'_> {
    fn shown(&self) -> (Option<String>, Option<String>) {
        let user = self.data.as_deref().unwrap_or(self);
        let text = |text: &Option<Str<'_>>| text.as_deref().map(str::to_owned);
        (text(&user.name), text(&user.username).or_else(|| text(&user.screen_name)))
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Chat<'a> {
    #[serde(borrow)]
    id: Option<Str<'a>>,
    created_at_msec: Option<Str<'a>>,
    sender_id: Option<Str<'a>>,
}

#[derive(Deserialize)]
struct UserEvent<'a> {
    #[serde(borrow)]
    revoke: Option<Revoke<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Revoke<'a> {
    #[serde(borrow)]
    date_time: Option<Str<'a>>,
    user_id: Option<Str<'a>>,
    source: Option<Subject<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReplayJob<'a> {
    #[serde(borrow)]
    job_id: Option<Str<'a>>,
    job_state: Option<Str<'a>>,
    job_state_description: Option<Str<'a>>,
}

/// A page of events. An empty one has no `data` at all.
#[derive(Deserialize)]
struct Listing<'a> {
    #[serde(borrow, default)]
    data: Vec<&'a RawValue>,
    includes: Option<&'a RawValue>,
    meta: Option<Meta<'a>>,
}

#[derive(Deserialize)]
struct Meta<'a> {
    #[serde(borrow)]
    next_token: Option<Str<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Includes<'a> {
    #[serde(borrow)]
    users: Vec<User<'a>>,
    media: Vec<IncludedMedia<'a>>,
}

#[derive(Deserialize)]
struct IncludedMedia<'a> {
    #[serde(borrow)]
    media_key: Option<Str<'a>>,
    url: Option<Str<'a>>,
}

impl<'a> Listing<'a> {
    fn read(answer: &'a Answer) -> Result<Self> {
        serde_json::from_slice(&answer.body).map_err(|_| answer.unreadable())
    }

    fn includes(&self) -> Includes<'_> {
        self.includes.and_then(|includes| serde_json::from_str(includes.get()).ok()).unwrap_or_default()
    }

    fn next(&self) -> Option<String> {
        self.meta.as_ref()?.next_token.as_deref().map(str::to_owned)
    }
}

/// An event of a list. What the specification of August 2026 names anew, and a shared post, are not read.
#[derive(Default, Deserialize)]
#[serde(default)]
struct DmEvent<'a> {
    #[serde(borrow)]
    id: Option<Str<'a>>,
    event_type: Option<Str<'a>>,
    text: Option<Str<'a>>,
    sender_id: Option<Str<'a>>,
    dm_conversation_id: Option<Str<'a>>,
    created_at: Option<Str<'a>>,
    attachments: Option<Attachments<'a>>,
    entities: Option<Entities<'a>>,
    urls: Option<Vec<Url<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Attachments<'a> {
    #[serde(borrow)]
    media_keys: Option<Vec<Str<'a>>>,
}

impl<'a> DmEvent<'a> {
    /// The links, which stood beside the text before they stood under `entities`.
    fn urls(&self) -> Vec<Url<'a>> {
        let entities = self.entities.clone().unwrap_or_default();
        entities.urls.or_else(|| self.urls.clone()).unwrap_or_default()
    }

    fn media_ids(&self) -> impl Iterator<Item = (&str, &str)> {
        let keys = self.attachments.iter().flat_map(|attachments| attachments.media_keys.iter().flatten());
        keys.filter_map(|key| Some((&**key, key.split_once('_')?.1)))
    }

    fn media(&self, people: &Includes<'_>) -> Vec<MediaRef> {
        let reference = |(key, id): (&str, &str)| {
            let mut media = MediaRef::new(GATEWAY, id);
            let included = people.media.iter().find(|included| included.media_key.as_deref() == Some(key));
            media.url = included.and_then(|included| included.url.as_deref().map(str::to_owned));
            media.mime = media.url.as_deref().and_then(mime_by_name).map(str::to_owned);
            media
        };
        self.media_ids().map(reference).collect()
    }

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
        let said = if files.is_empty() { said } else { without_media_link(said, &urls) };
        let link = |text: String, url: &Url<'_>| match (&url.url, &url.expanded_url) {
            (Some(short), Some(long)) if !short.is_empty() => text.replace(&**short, long),
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
    fn three_characters_are_read_back_and_once() {
        for (written, read) in [
            ("Bins &amp; recycling: is 7 &lt; 8 &gt; 6?", "Bins & recycling: is 7 < 8 > 6?"),
            ("&amp;lt;", "&lt;"),
            ("&amp;amp;amp;", "&amp;amp;"),
            ("&quot;&#39;&nbsp;&AMP;", "&quot;&#39;&nbsp;&AMP;"),
            ("a & b &", "a & b &"),
            ("&&lt;&", "&<&"),
            ("tŷ&amp;😀", "tŷ&😀"),
            ("", ""),
        ] {
            assert_eq!(unescaped(written), read);
        }
    }

    #[test]
    fn only_the_link_of_the_file_is_cut_off() {
        let file = Url {
            url: Some(Str("https://t.co/b".into())),
            expanded_url: Some(Str("https://x.com/messages/media/1".into())),
        };
        let page =
            Url { url: Some(Str("https://t.co/a".into())), expanded_url: Some(Str("https://x.com/i/status/1".into())) };
        let empty = Url { url: Some(Str("".into())), ..file.clone() };
        let cut = |text: &'static str| without_media_link(text, &[page.clone(), file.clone(), empty.clone()]);
        assert_eq!(cut("😀 Photo https://t.co/b"), "😀 Photo");
        assert_eq!(cut("https://t.co/b"), "");
        assert_eq!(cut("See https://t.co/a"), "See https://t.co/a");
        assert_eq!(cut("https://t.co/b first"), "https://t.co/b first");
        assert_eq!(cut("https://t.co/a https://t.co/b "), "https://t.co/a");
    }

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
