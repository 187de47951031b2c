//! X's webhooks: their signature, and the events in them, of the X Activity API and the older Account Activity API.

use std::borrow::Cow;
use std::collections::HashMap;

use http::{HeaderName, Method};

use super::X;
use super::wire::{Attached, DirectMessage, Members, User, content};
use crate::adapter::json::{self, Json, List, Piece, Text};
use crate::adapter::{self, Collector, Owner, lenient};
use crate::address::{Address, Medium, XUser};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::event::{
    Account, Delivery, DeliveryOf, DeliveryState, Envelope, Inbound, InboundContent, Profile, Raw, Topic,
};
use crate::id::MessageId;
use crate::medium::x as rules;
use crate::webhook::{
    Covers, Encoding, HmacSha256, Received, Refusal, Reply, Request, Scheme, Sealed, SigningSecret, Verdict, Verified,
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
        let Some(Members(members)) = json.read() else {
            // It names no account that could be read, so that it may be anybody's.
            events.owner(None, 1);
            return;
        };
        let mut reader = Reader { x: self, json: &json, events };
        match members.get("data") {
            // Several at once, which X does not document.
            Some(data) if data.get().starts_with('[') => {
                let all = json::read::<Several<'_>>(json.text()).unwrap_or_default().data;
                if all.is_empty() {
                    reader.events.owner(None, 1);
                }
                for piece in all.iter() {
                    reader.activity(piece);
                }
            }
            Some(data) => reader.activity(data),
            None => reader.account_activity(&members),
        }
    }
}

/// Makes events of a webhook's body.
struct Reader<'r, 'w> {
    x: &'r X,
    json: &'r Json<'r>,
    events: &'r mut Collector<'w>,
}

impl<'r> Reader<'r, '_> {
    /// X Activity API: one envelope, in which the lists of the older API stand.
    fn activity(&mut self, piece: &Piece<'r>) {
        let activity: Activity<'_> = json::read(piece.get()).unwrap_or_default();
        let kind = activity.event_type.some().unwrap_or("data");
        let payload = activity.payload.unwrap_or_default();
        if kind == "oauth.revoke" {
            let revoke: Revoke<'_> = json::read(payload.get()).unwrap_or_default();
            let account = revoke.user_id.some().or(activity.filter.user_id.some());
            return self.revoked(piece, account, &revoke, kind);
        }
        if matches!(kind, "chat.received" | "chat.sent") {
            return self.encrypted(piece, &activity, kind);
        }
        let Members(members) = json::read(payload.get()).unwrap_or_default();
        let lists = Lists::new(&members);
        let Some(owner) = self.events.owner(activity.filter.user_id.some(), lists.count()) else { return };
        if !self.lists(&owner, &lists, self.x.unescape.activity) {
            let envelope = self.envelope(&owner, piece, None);
            self.events.unrecognised(envelope, kind, None);
        }
    }

    /// Account Activity API: lists beside each other.
    fn account_activity(&mut self, members: &HashMap<Cow<'r, str>, Piece<'r>>) {
        let account = members.get("for_user_id").and_then(|id| json::read::<Text<'_>>(id.get())).unwrap_or_default();
        let whole = Piece::whole(self.json.text());
        if let Some(happened) = members.get("user_event") {
            let event: UserEvent<'_> = json::read(happened.get()).unwrap_or_default();
            let revoke = event.revoke.unwrap_or_default();
            let named = revoke.source.user_id.some().or(account.some());
            self.revoked(happened, named, &revoke, "user_event");
        }
        let passed_over = [MESSAGES, READS, TYPING, "users", "apps", "user_event", "replay_job_status"];
        let is_other = |name: &str, piece: &Piece<'_>| {
            (piece.get().starts_with(['[', '{']) && !passed_over.contains(&name)).then(|| name.to_owned())
        };
        let mut others: Vec<_> = members.iter().filter_map(|(name, piece)| is_other(name, piece)).collect();
        others.sort_unstable();
        let lists = Lists::new(members);
        if let Some(job) = members.get("replay_job_status") {
            // Of the app, and of nobody's messages: whoever has the app's secret asked for it.
            let owner =
                if account.some().is_some() { self.events.owner(account.some(), 1) } else { self.events.channel() };
            if let Some(owner) = owner {
                let read: ReplayJob<'_> = json::read(job.get()).unwrap_or_default();
                let envelope = self.envelope(&owner, job, None);
                let mut event = Account::new(envelope, Topic::Replay, read.job_state.as_deref().unwrap_or_default());
                (event.name, event.reason) = (read.job_id.to_text(), read.job_state_description.to_text());
                self.events.push(event);
            }
        }
        let told = members.contains_key("user_event") || members.contains_key("replay_job_status");
        if told && others.is_empty() && lists.is_empty() {
            return;
        }
        let Some(owner) = self.events.owner(account.some(), lists.count().max(others.len())) else { return };
        let known = self.lists(&owner, &lists, self.x.unescape.account_activity);
        if !others.is_empty() || !(known || told) {
            let what = if others.is_empty() { "webhook".to_owned() } else { others.join(" ") };
            let envelope = self.envelope(&owner, &whole, None);
            self.events.unrecognised(envelope, what, None);
        }
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
            let envelope = self.envelope(owner, piece, None);
            self.events.unrecognised(envelope, *name, None);
        }
        !lists.is_empty()
    }

    fn message(&mut self, owner: &Owner, piece: &Piece<'_>, lists: &Lists<'_>, unescape: bool) {
        let event: DirectMessage<'_> = json::read(piece.get()).unwrap_or_default();
        let envelope = self.envelope(owner, piece, event.at());
        let create = &event.message_create;
        let from = create.sender_id.as_deref().and_then(|id| XUser::new(id).ok());
        let (Some(id), Some(from)) = (event.id.some(), from) else {
            return self.events.unrecognised(envelope, event.kind.some().unwrap_or("direct_message"), None);
        };
        let data = &create.message_data;
        let media = data.attachment.media.as_ref();
        let mut urls = data.entities.urls.items.clone();
        urls.extend(media.and_then(Attached::link));
        let files = media.and_then(Attached::reference).into_iter().collect();
        let chosen = data.quick_reply_response.metadata.to_text();
        let mut content = content(data.text.as_deref(), &urls, files, chosen, unescape);
        if content == InboundContent::unsupported(None::<String>) {
            content = InboundContent::unsupported(data.attachment.kind.some());
        }
        let user = lists.users.get(from.id()).and_then(|user| json::read::<User<'_>>(user.get()));
        self.events.push(inbound(envelope, id, from, create.target.recipient_id.some(), user.as_ref(), content));
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
    fn encrypted(&mut self, piece: &Piece<'_>, activity: &Activity<'_>, kind: &str) {
        let payload = activity.payload.unwrap_or_default();
        let chat: Chat<'_> = json::read(payload.get()).unwrap_or_default();
        let conversation = chat.conversation_id.some().unwrap_or_default();
        let two = conversation.split_once(['-', ':']);
        let sender = chat.sender_id.some();
        let implied = two.and_then(|(one, other)| match (kind, sender) {
            ("chat.sent", Some(sender)) => [one, other].into_iter().find(|id| *id == sender),
            (_, Some(sender)) if sender == one => Some(other),
            (_, Some(sender)) if sender == other => Some(one),
            _ => None,
        });
        let Some(owner) = self.events.owner(activity.filter.user_id.some().or(implied), 1) else { return };
        let at = chat.created_at_msec.as_deref().and_then(Timestamp::from_unix);
        let group = Some(conversation).filter(|id| !id.is_empty() && two.is_none());
        let group = group.and_then(|id| Address::conversation(Medium::X, id).ok());
        let piece = if chat.id.some().is_some() { &payload } else { piece };
        let envelope = self.envelope(&owner, piece, at).within(group);
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

    /// The account has taken its consent back, or somebody else's has.
    fn revoked(&mut self, piece: &Piece<'_>, account: Option<&str>, revoke: &Revoke<'_>, kind: &str) {
        let Some(owner) = self.events.owner(account, 1) else { return };
        let at = revoke.date_time.as_deref().and_then(|at| at.parse().ok());
        let envelope = self.envelope(&owner, piece, at);
        let known = revoke.user_id.some().or(revoke.source.user_id.some()).is_some();
        match known {
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
    users: HashMap<Cow<'a, str>, Piece<'a>>,
    /// What stands where a list should be.
    odd: Vec<(Piece<'a>, &'static str)>,
}

impl<'a> Lists<'a> {
    fn new(members: &HashMap<Cow<'a, str>, Piece<'a>>) -> Self {
        let mut odd = Vec::new();
        let mut list = |name: &'static str| -> List<Piece<'a>> {
            let Some(piece) = members.get(name) else { return List::default() };
            json::read(piece.get()).unwrap_or_else(|| {
                odd.extend((piece.get() != "null").then_some((*piece, name)));
                List::default()
            })
        };
        let (messages, reads, typing) = (list(MESSAGES), list(READS), list(TYPING));
        let users = members.get("users").and_then(|users| json::read::<Members<'a>>(users.get())).unwrap_or_default();
        Self { messages, reads, typing, users: users.0, odd }
    }

    fn count(&self) -> usize {
        (self.messages.len() + self.reads.len() + self.typing.len() + self.odd.len()).max(1)
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
    struct Several<'a> {
        data: List<Piece<'a>>,
    }

    struct Activity<'a> {
        event_uuid: Text<'a>,
        event_type: Text<'a>,
        filter: Subject<'a>,
        payload: Option<Piece<'a>>,
    }

    struct Subject<'a> {
        user_id: Text<'a>,
    }

    struct Chat<'a> {
        id: Text<'a>,
        created_at_msec: Text<'a>,
        sender_id: Text<'a>,
        conversation_id: Text<'a>,
    }

    struct UserEvent<'a> {
        revoke: Option<Revoke<'a>>,
    }

    struct Revoke<'a> {
        date_time: Text<'a>,
        user_id: Text<'a>,
        source: Subject<'a>,
    }

    struct ReplayJob<'a> {
        job_id: Text<'a>,
        job_state: Text<'a>,
        job_state_description: Text<'a>,
    }
}
