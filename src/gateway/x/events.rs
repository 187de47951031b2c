//! The direct messages, read receipts and signs of typing in a webhook.

use std::borrow::Cow;
use std::collections::HashMap;

use super::X;
use super::text::content;
use super::wire::{Attached, DirectMessage, Members, User, place};
use crate::adapter::json::{self, Json, List, Piece};
use crate::adapter::{Collector, NamedAccount, Owner};
use crate::model::address::{Address, XUser};
use crate::model::delivery::DeliveryState;
use crate::model::event::{Delivery, DeliveryOf, Envelope, Inbound, InboundContent, Profile};
use crate::model::id::MessageId;

pub(super) const MESSAGES: &str = "direct_message_events";
pub(super) const READS: &str = "direct_message_mark_read_events";
pub(super) const TYPING: &str = "direct_message_indicate_typing_events";

/// Reads the events of a webhook's body.
pub(super) struct Reader<'r, 'w> {
    pub(super) x: &'r X,
    pub(super) json: &'r Json<'r>,
    /// The account that the body as a whole is for, which it says in the older API.
    pub(super) account: NamedAccount<'r>,
    pub(super) events: &'r mut Collector<'w>,
}

impl<'r> Reader<'r, '_> {
    /// The direct messages, read receipts and signs of typing, which both APIs have. Returns `true` if there were any.
    pub(super) fn lists(&mut self, owner: &Owner, lists: &Lists<'r>, unescape: bool) -> bool {
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
        for (piece, name) in &lists.malformed {
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
        // Without an id, sender and time identify the message, and a digest of the whole identifies the event.
        let digested = || format!("direct_message/{}", envelope.raw.digest());
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
            // Our own reading is no delivery state of our messages.
            (Some(Ok(reader)), Some(last)) if reader.id() != owner.account().as_str() => {
                let of = DeliveryOf::UpTo { at: envelope.at, id: Some(MessageId::from(last)) };
                let mut delivery = Delivery::new(envelope, "", DeliveryState::Read, "read");
                (delivery.of, delivery.recipient) = (of, Some(Address::X(reader)));
                self.events.push(delivery);
            }
            _ => self.events.unrecognised(envelope, "mark_read", None),
        }
    }
}

/// The lists of a webhook of either API.
pub(super) struct Lists<'a> {
    pub(super) messages: List<Piece<'a>>,
    pub(super) reads: List<Piece<'a>>,
    pub(super) typing: List<Piece<'a>>,
    pub(super) users: HashMap<Cow<'a, str>, User<'a>>,
    /// Values in the place of a list.
    pub(super) malformed: Vec<(Piece<'a>, &'static str)>,
}

impl<'a> Lists<'a> {
    pub(super) fn new(members: &Members<'a>) -> Self {
        let mut malformed = Vec::new();
        let mut list = |name: &'static str| {
            let mut joined = List::default();
            for piece in members.all(name) {
                match json::read::<List<Piece<'a>>>(piece.get()) {
                    Some(list) => joined.items.extend(list.items),
                    None => malformed.extend((piece.get() != "null").then_some((piece, name))),
                }
            }
            joined
        };
        let (messages, reads, typing) = (list(MESSAGES), list(READS), list(TYPING));
        let users = members.all("users").filter_map(|users| json::read::<Members<'a>>(users.get()));
        let users = users.flat_map(|users| users.0).filter_map(|(id, user)| Some((id, json::read(user.get())?)));
        Self { messages, reads, typing, users: users.collect(), malformed }
    }

    pub(super) fn count(&self) -> usize {
        self.messages.len() + self.reads.len() + self.typing.len() + self.malformed.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.reads.is_empty() && self.typing.is_empty() && self.malformed.is_empty()
    }
}

/// Builds an inbound message. `other` is the recipient of an echo; otherwise the recipient is our account.
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
