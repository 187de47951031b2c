//! X's webhooks: their signature, and the events in them, of the X Activity API and the older Account Activity API.

use std::borrow::Cow;
use std::collections::HashMap;

use http::{HeaderName, Method};

use super::X;
use super::wire::{Attached, DirectMessage, Members, Named, User, content, place};
use crate::adapter::json::{self, Json, List, Occurrences, Piece, Text};
use crate::adapter::{self, Collector, Owner, lenient};
use crate::medium::x as rules;
use crate::model::address::{Address, Medium, XUser};
use crate::model::clock::Timestamp;
use crate::model::error::Result;
use crate::model::event::{
    Account, Delivery, DeliveryOf, DeliveryState, Envelope, Inbound, InboundContent, Profile, Raw, Topic,
};
use crate::model::id::MessageId;
use crate::model::json::digest;
use crate::webhook::{
    HmacSha256, Received, Refusal, Request, Response, Scheme, SignatureCoverage, SignatureEncoding, SigningSecret,
    Unverified, Verification, Verified,
};

/// X's proof: HMAC-SHA256 of the body under the app's consumer secret, and the same of a token in its handshake.
///
/// Both are made with one key, and anybody may ask for the handshake: whoever sends a forged body as the token gets
/// its signature. So a token that could be an event is refused, and so is a body that could not be one.
#[derive(Debug)]
pub(super) struct Signature(HmacSha256);

impl Signature {
    pub(super) fn new(secrets: impl IntoIterator<Item = SigningSecret>) -> Self {
        let header = HeaderName::from_static("x-twitter-webhooks-signature");
        Self(HmacSha256::new(header, "sha256=", SignatureEncoding::Base64, secrets))
    }
}

impl Scheme for Signature {
    fn verify(&self, sealed: Unverified<'_>) -> Verification {
        if sealed.method() == Method::GET
            && let Some(token) = sealed.query_parameter("crc_token")
        {
            let answer = self.0.sign(token.as_bytes()).filter(|_| !token.is_empty() && !token.contains('{'));
            let Some(answer) = answer else { return Verification::Refused(Refusal::Wrong) };
            let answer = serde_json::json!({ "response_token": answer }).to_string();
            return Verification::Answer(Response::body("application/json", answer));
        }
        match self.0.verify(sealed) {
            Verification::Open(verified) if !verified.body().contains(&b'{') => Verification::Refused(Refusal::Wrong),
            verdict => verdict,
        }
    }

    fn covers(&self) -> SignatureCoverage {
        SignatureCoverage::Body
    }
}

const MESSAGES: &str = "direct_message_events";
const READS: &str = "direct_message_mark_read_events";
const TYPING: &str = "direct_message_indicate_typing_events";

impl X {
    pub(super) fn receive_webhook(&self, request: &Request) -> Result<Received> {
        adapter::receive(request, &self.info, Some(&self.scheme), "webhook_secrets", |webhook, events| {
            self.events(webhook, events);
        })
    }

    fn events(&self, webhook: &Verified, events: &mut Collector<'_>) {
        let json = Json::new(webhook.body());
        let Some(members) = json.read::<Members<'_>>() else {
            // It names no account that could be read, so that it may be anybody's.
            events.owner(None, 1);
            return;
        };
        let mut reader = Reader { x: self, json: &json, account: Named::new(members.all("for_user_id")), events };
        let activities: Vec<_> = members.all("data").flat_map(activities).collect();
        for piece in &activities {
            reader.activity(piece);
        }
        let older = ["for_user_id", "user_event", "replay_job_status", MESSAGES, READS, TYPING];
        if activities.is_empty() || older.iter().any(|name| members.contains(name)) {
            reader.account_activity(&members, !activities.is_empty());
        }
    }
}

/// The activities in a `data`: one, or several at once, which X does not document. None if nothing is in it.
fn activities(data: Piece<'_>) -> Vec<Piece<'_>> {
    match data.get().as_bytes().first() {
        Some(b'[') => json::read::<List<Piece<'_>>>(data.get()).unwrap_or_default().items,
        Some(b'{') if json::read::<Members<'_>>(data.get()).is_none_or(|members| !members.0.is_empty()) => vec![data],
        _ => Vec::new(),
    }
}

/// Makes events of a webhook's body.
struct Reader<'r, 'w> {
    x: &'r X,
    json: &'r Json<'r>,
    /// The account that the body as a whole is for, which it says in the older API.
    account: Named<'r>,
    events: &'r mut Collector<'w>,
}

impl<'r> Reader<'r, '_> {
    /// X Activity API: one envelope, in which the lists of the older API stand.
    fn activity(&mut self, piece: &Piece<'r>) {
        let activity: Activity<'_> = json::read(piece.get()).unwrap_or_default();
        let kind = activity.event_type.some().unwrap_or("data");
        let filter = Named::new(activity.filter.0.iter().flat_map(|filter| &filter.user_id.0).copied());
        if kind == "oauth.revoke" {
            let revokes: Vec<_> =
                activity.payload.0.iter().filter_map(|payload| json::read::<Revoke<'_>>(payload.get())).collect();
            return self.revoked(piece, &revokes, |revoke| &revoke.user_id, &filter, kind);
        }
        if matches!(kind, "chat.received" | "chat.sent") {
            return self.encrypted(piece, &activity, &filter, kind);
        }
        let members = activity.payload.0.iter().filter_map(|payload| json::read::<Members<'_>>(payload.get()));
        let members = Members(members.flat_map(|members| members.0).collect());
        let lists = Lists::new(&members);
        let Some(owner) = self.events.owner(filter.id(), lists.count().max(1)) else { return };
        if !self.lists(&owner, &lists, self.x.unescape.activity) {
            let envelope = self.envelope(&owner, piece, None);
            self.events.unrecognised(envelope, kind, None);
        }
    }

    /// Account Activity API: lists beside each other. `told` says that something else of the body was read.
    fn account_activity(&mut self, members: &Members<'r>, mut told: bool) {
        let account = self.account.id().map(str::to_owned);
        for happened in members.all("user_event") {
            told = true;
            let event: UserEvent<'_> = json::read(happened.get()).unwrap_or_default();
            let whole = Named::new(members.all("for_user_id"));
            self.revoked(&happened, &event.revoke.0, |revoke| &revoke.source.user_id, &whole, "user_event");
        }
        for job in members.all("replay_job_status") {
            told = true;
            self.replayed(&job, members.contains("for_user_id"));
        }
        const PASSED_OVER: [&str; 7] = [MESSAGES, READS, TYPING, "users", "apps", "user_event", "replay_job_status"];
        let is_other = |name: &str, piece: &Piece<'_>| {
            piece.get().starts_with(['[', '{']) && !PASSED_OVER.contains(&name) && name != "data"
        };
        let mut others: Vec<_> = members.0.iter().filter(|(name, piece)| is_other(name, piece)).collect();
        others.sort_by(|(one, _), (other, _)| one.cmp(other));
        let lists = Lists::new(members);
        if told && others.is_empty() && lists.is_empty() {
            return;
        }
        let count = (lists.count() + others.len()).max(1);
        let Some(owner) = self.events.owner(account.as_deref(), count) else { return };
        let known = self.lists(&owner, &lists, self.x.unescape.account_activity);
        for (name, piece) in &others {
            // The piece alone: something of another account may stand beside it.
            self.unrecognised(&owner, piece, name);
        }
        if others.is_empty() && !known {
            let envelope = self.envelope(&owner, &Piece::whole(self.json.text()), None);
            self.events.unrecognised(envelope, "webhook", None);
        }
    }

    /// A replay is of the app, and of nobody's messages: whoever has the app's secret asked for it.
    fn replayed(&mut self, job: &Piece<'_>, is_named: bool) {
        let owner = if is_named { self.events.owner(self.account.id(), 1) } else { self.events.channel() };
        let Some(owner) = owner else { return };
        let read: ReplayJob<'_> = json::read(job.get()).unwrap_or_default();
        let envelope = self.envelope(&owner, job, None);
        let mut event = Account::new(envelope, Topic::Replay, read.job_state.as_deref().unwrap_or_default());
        (event.name, event.reason) = (read.job_id.to_text(), read.job_state_description.to_text());
        self.events.push(event);
    }

    /// Keeps a value that is told from others by its name and what is in it.
    fn unrecognised(&mut self, owner: &Owner, piece: &Piece<'_>, name: &str) {
        let envelope = self.envelope(owner, piece, None);
        let id = format!("{name}/{}", digest(envelope.raw.as_bytes()));
        self.events.unrecognised(envelope.identified(Some(&id)), name, None);
    }

    /// The direct messages, read receipts and signs of typing, which both APIs have. Returns `true` if there were any.
    fn lists(&mut self, owner: &Owner, lists: &Lists<'r>, unescape: bool) -> bool {
        for piece in lists.messages.iter() {
            self.message(owner, piece, lists, unescape);
        }
        for piece in lists.reads.iter() {
            self.read(owner, piece);
        }
        for piece in lists.typing.iter() {
            let event: DirectMessage<'_> = json::read(piece.get()).unwrap_or_default();
            let from = event.sender_id.as_deref().and_then(|id| Address::x(id).ok());
            let envelope = self.envelope(owner, piece, event.at());
            self.events.unrecognised(envelope, "typing", from);
        }
        for (piece, name) in &lists.odd {
            self.unrecognised(owner, piece, name);
        }
        !lists.is_empty()
    }

    fn message(&mut self, owner: &Owner, piece: &Piece<'_>, lists: &Lists<'_>, unescape: bool) {
        let event: DirectMessage<'_> = json::read(piece.get()).unwrap_or_default();
        let envelope = self.envelope(owner, piece, event.at());
        let create = &event.message_create;
        let from = create.sender_id.as_deref().and_then(|id| XUser::new(id).ok());
        let Some(from) = from else {
            return self.events.unrecognised(envelope, event.kind.some().unwrap_or("direct_message"), None);
        };
        // One without an id is told by who wrote it and when, and its event by all that it says as well.
        let digested = || format!("direct_message/{}", digest(envelope.raw.as_bytes()));
        let own_id = || match event.at() {
            Some(at) => format!("direct_message/{}/{}", from.id(), at.as_millis()),
            None => digested(),
        };
        let (id, key) = match event.id.some() {
            Some(id) => (id.to_owned(), id.to_owned()),
            None => (own_id(), digested()),
        };
        let envelope = if event.id.some().is_some() { envelope } else { envelope.identified(Some(&key)) };
        let data = &create.message_data;
        let media = data.attachment.media.as_ref();
        let mut urls = data.entities.urls.to_vec();
        urls.extend(media.and_then(Attached::link));
        let files = media.and_then(|media| media.reference(&id)).into_iter().collect();
        let chosen = data.quick_reply_response.metadata.to_text();
        let mut content = content(data.text.as_deref(), &urls, files, chosen, unescape);
        let location = data.attachment.location.and_then(|piece| Some((piece, place(&piece)?)));
        let nothing_else = content == InboundContent::unsupported(None::<String>);
        let mut second = None;
        match location {
            Some((_, place)) if nothing_else => content = place,
            None if nothing_else => content = InboundContent::unsupported(data.attachment.kind.some()),
            location => second = location,
        }
        let user = lists.users.get(from.id());
        let to = create.target.recipient_id.some();
        self.events.push(inbound(envelope, &id, from.clone(), to, user, content));
        if let Some((piece, place)) = second {
            let envelope = self.envelope(owner, &piece, event.at()).identified(Some(&format!("{key}/location")));
            self.events.push(inbound(envelope, &id, from, to, user, place));
        }
    }

    fn read(&mut self, owner: &Owner, piece: &Piece<'_>) {
        let event: DirectMessage<'_> = json::read(piece.get()).unwrap_or_default();
        let envelope = self.envelope(owner, piece, event.at());
        match (event.sender_id.as_deref().map(XUser::new), event.last_read_event_id.some()) {
            // What we read ourselves says nothing about a message of ours.
            (Some(Ok(reader)), Some(last)) if reader.id() != owner.account().as_str() => {
                let of = DeliveryOf::UpTo { at: envelope.at, id: Some(MessageId::from(last)) };
                let mut delivery = Delivery::new(envelope, "", DeliveryState::Read, "read");
                (delivery.of, delivery.recipient) = (of, Some(Address::X(reader)));
                self.events.push(delivery);
            }
            _ => self.events.unrecognised(envelope, "mark_read", None),
        }
    }

    /// A message of X's encrypted chat: who wrote and where, and nothing of what.
    ///
    /// X documents two shapes. The shorter one has no account to whom it is told, so that a conversation of two says it,
    /// and no id but that of the event. ([Real-time events][page], read 2026-11-30 from stored copies.)
    ///
    /// [page]: https://docs.x.com/xchat/real-time-events
    fn encrypted(&mut self, piece: &Piece<'_>, activity: &Activity<'_>, filter: &Named<'_>, kind: &str) {
        let payload = activity.payload.0.iter().rev().find(|payload| payload.get() != "null");
        let payload = payload.copied().unwrap_or_default();
        let chat: Chat<'_> = json::read(payload.get()).unwrap_or_default();
        let conversation = chat.conversation_id.some().unwrap_or_default();
        let two = conversation.split_once(['-', ':']);
        let sender = chat.sender_id.some();
        let implied = match (kind, sender, two) {
            // Whoever sent it is the account that it is told to.
            ("chat.sent", Some(sender), None) => Some(sender),
            ("chat.sent", Some(sender), Some((one, other))) => [one, other].into_iter().find(|id| *id == sender),
            (_, Some(sender), Some((one, other))) if sender == one => Some(other),
            (_, Some(sender), Some((one, other))) if sender == other => Some(one),
            _ => None,
        };
        // What is said of the body goes for a message that names nobody itself.
        let account = filter.or(implied.or(self.account.id()));
        let Some(owner) = self.events.owner(account, 1) else { return };
        let at = chat.created_at_msec.as_deref().and_then(Timestamp::from_unix);
        let group = Some(conversation).filter(|id| !id.is_empty() && two.is_none());
        let group = group.and_then(|id| Address::conversation(Medium::X, id).ok());
        let piece = if chat.id.some().is_some() { &payload } else { piece };
        let envelope = self.envelope(&owner, piece, at).with_conversation(group);
        let from = sender.and_then(|id| XUser::new(id).ok());
        match (chat.id.some().or(activity.event_uuid.some()), from) {
            (Some(id), Some(from)) => {
                let other =
                    rules::other_party(&conversation.replace(':', "-"), owner.account().as_str()).map(str::to_owned);
                self.events.push(inbound(envelope, id, from, other.as_deref(), None, InboundContent::Encrypted));
            }
            (_, from) => self.events.unrecognised(envelope, kind, from.map(Address::X)),
        }
    }

    /// The account has taken its consent back, or somebody else's has. `ids` are where a revocation names the account;
    /// `beside` is named beside it.
    fn revoked<'e>(
        &mut self,
        piece: &Piece<'_>,
        revokes: &'e [Revoke<'e>],
        ids: fn(&'e Revoke<'e>) -> &'e Occurrences<Piece<'e>>,
        beside: &Named<'_>,
        kind: &str,
    ) {
        let named = Named::new(revokes.iter().flat_map(|revoke| &ids(revoke).0).copied());
        let Some(owner) = self.events.owner(named.or(beside.id()), 1) else { return };
        let at = revokes.iter().find_map(|revoke| revoke.date_time.as_deref()?.parse().ok());
        let envelope = self.envelope(&owner, piece, at);
        match named.id().is_some() {
            true => self.events.push(Account::new(envelope, Topic::Access, "revoke")),
            false => self.events.unrecognised(envelope, kind, None),
        }
    }

    fn envelope(&self, owner: &Owner, piece: &Piece<'_>, at: Option<Timestamp>) -> Envelope {
        self.events.envelope(owner, Raw::new(self.json.raw(piece.get())), at)
    }
}

/// The lists of a webhook of either API.
struct Lists<'a> {
    messages: List<Piece<'a>>,
    reads: List<Piece<'a>>,
    typing: List<Piece<'a>>,
    users: HashMap<Cow<'a, str>, User<'a>>,
    /// What stands where a list should be.
    odd: Vec<(Piece<'a>, &'static str)>,
}

impl<'a> Lists<'a> {
    fn new(members: &Members<'a>) -> Self {
        let mut odd = Vec::new();
        let mut list = |name: &'static str| {
            let mut joined = List::default();
            for piece in members.all(name) {
                match json::read::<List<Piece<'a>>>(piece.get()) {
                    Some(list) => joined.items.extend(list.items),
                    None => odd.extend((piece.get() != "null").then_some((piece, name))),
                }
            }
            joined
        };
        let (messages, reads, typing) = (list(MESSAGES), list(READS), list(TYPING));
        let users = members.all("users").filter_map(|users| json::read::<Members<'a>>(users.get()));
        let users = users.flat_map(|users| users.0).filter_map(|(id, user)| Some((id, json::read(user.get())?)));
        Self { messages, reads, typing, users: users.collect(), odd }
    }

    fn count(&self) -> usize {
        self.messages.len() + self.reads.len() + self.typing.len() + self.odd.len()
    }

    fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.reads.is_empty() && self.typing.is_empty() && self.odd.is_empty()
    }
}

/// A message. `other` is who it was written to when it is an echo of ours; else that is us.
pub(super) fn inbound(
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

lenient! {
    struct Activity<'a> {
        event_uuid: Text<'a>,
        event_type: Text<'a>,
        filter: Occurrences<Subject<'a>>,
        payload: Occurrences<Piece<'a>>,
    }

    struct Subject<'a> {
        user_id: Occurrences<Piece<'a>>,
    }

    struct Chat<'a> {
        id: Text<'a>,
        created_at_msec: Text<'a>,
        sender_id: Text<'a>,
        conversation_id: Text<'a>,
    }

    struct UserEvent<'a> {
        revoke: Occurrences<Revoke<'a>>,
    }

    struct Revoke<'a> {
        date_time: Text<'a>,
        user_id: Occurrences<Piece<'a>>,
        source: Subject<'a>,
    }

    struct ReplayJob<'a> {
        job_id: Text<'a>,
        job_state: Text<'a>,
        job_state_description: Text<'a>,
    }
}
