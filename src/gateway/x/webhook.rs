//! X's webhooks: their signature, and their envelopes in the X Activity API and the older Account Activity API.

use http::{HeaderName, Method};

use super::X;
use super::events::{Lists, MESSAGES, READS, Reader, TYPING, inbound};
use super::wire::Members;
use crate::adapter::json::{self, Json, List, Occurrences, Piece, Text};
use crate::adapter::{self, Collector, NamedAccount, Owner, lenient};
use crate::medium::x as rules;
use crate::model::address::{Address, Medium, XUser};
use crate::model::clock::Timestamp;
use crate::model::error::Result;
use crate::model::event::{Account, Envelope, InboundContent, Raw, Topic};
use crate::webhook::{
    HmacSha256, Received, Refusal, Request, Response, Scheme, SignatureCoverage, SignatureEncoding, SigningSecret,
    Unverified, Verification, Verified,
};

/// X's signature: HMAC-SHA256 under the app's consumer secret, of the body or of the handshake's token.
///
/// Both use one key, and anybody can request the handshake, so a forged body sent as the token would be signed.
/// A token that could be an event is therefore refused, and so is a body that could not be one.
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

impl X {
    pub(super) fn receive_webhook(&self, request: &Request) -> Result<Received> {
        adapter::receive(request, &self.info, Some(&*self.scheme), "webhook_secrets", |webhook, events| {
            self.events(webhook, events);
        })
    }

    fn events(&self, webhook: &Verified, events: &mut Collector<'_>) {
        let json = Json::new(webhook.body());
        let Some(members) = json.read::<Members<'_>>() else {
            // No account can be read, so the owner is unknown.
            events.owner(None, 1);
            return;
        };
        let mut reader =
            Reader { x: self, json: &json, account: NamedAccount::new(members.all("for_user_id")), events };
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

impl<'r> Reader<'r, '_> {
    /// X Activity API: one envelope, in which the lists of the older API stand.
    fn activity(&mut self, piece: &Piece<'r>) {
        let activity: Activity<'_> = json::read(piece.get()).unwrap_or_default();
        let kind = activity.event_type.some().unwrap_or("data");
        let filter = NamedAccount::new(activity.filter.0.iter().flat_map(|filter| &filter.user_id.0).copied());
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

    /// Account Activity API: lists beside each other. `is_read` states whether another part of the body was read.
    fn account_activity(&mut self, members: &Members<'r>, mut is_read: bool) {
        let account = self.account.id().map(str::to_owned);
        for happened in members.all("user_event") {
            is_read = true;
            let event: UserEvent<'_> = json::read(happened.get()).unwrap_or_default();
            let whole = NamedAccount::new(members.all("for_user_id"));
            self.revoked(&happened, &event.revoke.0, |revoke| &revoke.source.user_id, &whole, "user_event");
        }
        for job in members.all("replay_job_status") {
            is_read = true;
            self.replayed(&job, members.contains("for_user_id"));
        }
        const PASSED_OVER: [&str; 7] = [MESSAGES, READS, TYPING, "users", "apps", "user_event", "replay_job_status"];
        let is_other = |name: &str, piece: &Piece<'_>| {
            piece.get().starts_with(['[', '{']) && !PASSED_OVER.contains(&name) && name != "data"
        };
        let mut others: Vec<_> = members.0.iter().filter(|(name, piece)| is_other(name, piece)).collect();
        others.sort_by(|(one, _), (other, _)| one.cmp(other));
        let lists = Lists::new(members);
        if is_read && others.is_empty() && lists.is_empty() {
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

    /// Reads the state of a replay job, which belongs to the app and to no account's messages.
    fn replayed(&mut self, job: &Piece<'_>, is_named: bool) {
        let owner = if is_named { self.events.owner(self.account.id(), 1) } else { self.events.channel() };
        let Some(owner) = owner else { return };
        let read: ReplayJob<'_> = json::read(job.get()).unwrap_or_default();
        let envelope = self.envelope(&owner, job, None);
        let mut event = Account::new(envelope, Topic::Replay, read.job_state.as_deref().unwrap_or_default());
        (event.name, event.reason) = (read.job_id.to_text(), read.job_state_description.to_text());
        self.events.push(event);
    }

    /// Keeps a value, identified by its name and a digest of it.
    pub(super) fn unrecognised(&mut self, owner: &Owner, piece: &Piece<'_>, name: &str) {
        let envelope = self.envelope(owner, piece, None);
        let id = format!("{name}/{}", envelope.raw.digest());
        self.events.unrecognised(envelope.identified(Some(&id)), name, None);
    }

    /// Reads a message of X's encrypted chat: sender and conversation, without content.
    ///
    /// X documents two shapes. The shorter one names no receiving account, which a conversation of two implies,
    /// and no id but that of the event. ([Real-time events][page], read 2026-11-30 from stored copies.)
    ///
    /// [page]: https://docs.x.com/xchat/real-time-events
    fn encrypted(&mut self, piece: &Piece<'_>, activity: &Activity<'_>, filter: &NamedAccount<'_>, kind: &str) {
        let payload = activity.payload.0.iter().rev().find(|payload| payload.get() != "null");
        let payload = payload.copied().unwrap_or_default();
        let chat: Chat<'_> = json::read(payload.get()).unwrap_or_default();
        let conversation = chat.conversation_id.some().unwrap_or_default();
        let two = conversation.split_once(['-', ':']);
        let sender = chat.sender_id.some();
        let implied = match (kind, sender, two) {
            // The sender is the account that receives the event.
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
        beside: &NamedAccount<'_>,
        kind: &str,
    ) {
        let named = NamedAccount::new(revokes.iter().flat_map(|revoke| &ids(revoke).0).copied());
        let Some(owner) = self.events.owner(named.or(beside.id()), 1) else { return };
        let at = revokes.iter().find_map(|revoke| revoke.date_time.as_deref()?.parse().ok());
        let envelope = self.envelope(&owner, piece, at);
        match named.id().is_some() {
            true => self.events.push(Account::new(envelope, Topic::Access, "revoke")),
            false => self.events.unrecognised(envelope, kind, None),
        }
    }

    pub(super) fn envelope(&self, owner: &Owner, piece: &Piece<'_>, at: Option<Timestamp>) -> Envelope {
        self.events.envelope(owner, Raw::new(self.json.raw(piece.get())), at)
    }
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
