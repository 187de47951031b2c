//! Messenger's webhooks as events: [webhook events][page], read 2026-11-22 and 2026-11-30 from stored copies.
//!
//! [page]: https://developers.facebook.com/docs/messenger-platform/reference/webhook-events

use std::collections::{BTreeMap, HashSet};

use serde::Deserializer;
use serde::de::IgnoredAny;

use super::super::GATEWAY;
use super::super::receive::product;
use crate::adapter::json::{self, Json, List, Member, Occurrences, Pass, Piece, Text};
use crate::adapter::{Collector, Owner, lenient};
use crate::model::address::Address;
use crate::model::clock::Timestamp;
use crate::model::event::{
    Delivery, DeliveryOf, DeliveryState, Envelope, Event, Inbound, InboundContent, Raw, Referral, Selection,
};
use crate::model::json::digest;
use crate::model::message::{Location, MediaKind, MediaRef};
use crate::webhook::Verified;

/// The most previews of links that are looked for in the text of their message.
const PREVIEWS_MAX: usize = 10;

/// The longest id of a message. Meta's have some 150 characters.
const ID_MAX: usize = 1_024;

/// Collects the events of a verified webhook.
pub(in super::super) fn events(webhook: &Verified, events: &mut Collector<'_>) {
    let json = Json::new(webhook.body());
    let hook: Hook<'_> = json.read().unwrap_or_default();
    if hook.entry.items.is_empty() {
        // It names no page, so that it may be any's.
        events.owner(None, 1);
    }
    // An object that cannot be read is taken for ours: the pages in it say more.
    let object = product(&hook.object).unwrap_or("page");
    let mut reader = Reader { json: &json, webhook, events };
    for piece in &hook.entry.items {
        reader.entry(piece, object);
    }
}

struct Reader<'r, 'w> {
    json: &'r Json<'r>,
    webhook: &'r Verified,
    events: &'r mut Collector<'w>,
}

impl Reader<'_, '_> {
    fn entry(&mut self, piece: &Piece<'_>, object: &str) {
        let entry: Entry<'_> = json::read(piece.get()).unwrap_or_default();
        let page = Named::new(entry.id.0.iter().copied());
        let parts = entry.parts();
        let count = parts.len().max(1);
        if page.is_disputed || (page.id().is_none() && (parts.is_empty() || object != "page")) {
            self.events.owner(None, count);
            return;
        }
        // What the page of an entry is known for is decided at once; else each thing says it.
        let owner = match page.id() {
            Some(page) => match self.events.owner(Some(page), count) {
                Some(owner) => Some(owner),
                None => return,
            },
            None => None,
        };
        let is_elsewhere = |part: &Part<'_>| part.is_item() && part.account(page.id(), self.webhook).is_none();
        match owner {
            Some(_) if object != "page" && parts.iter().any(is_elsewhere) => {
                self.events.owner(None, count);
            }
            Some(owner) if object != "page" || parts.iter().all(|part| part.is_odd) => {
                let envelope = self.envelope(&owner, piece, &entry, &entry.time);
                self.events.unrecognised(envelope, if object == "page" { "entry" } else { object }, None);
            }
            owner => {
                self.events.reserve(parts.len());
                for part in &parts {
                    self.part(part, &entry, page.id(), owner.as_ref());
                }
            }
        }
    }

    /// One thing of an entry, once it is known whose it is.
    fn part(&mut self, part: &Part<'_>, entry: &Entry<'_>, page: Option<&str>, owner: Option<&Owner>) {
        if part.is_item() {
            let item: Item<'_> = json::read(part.piece.get()).unwrap_or_default();
            let account = item.account(page, self.webhook);
            let owner = match (account, owner) {
                (Some(_), Some(owner)) => Some(owner.clone()),
                (account, _) => self.events.owner(account.as_deref(), 1),
            };
            if let Some(owner) = owner {
                self.item(&owner, entry, &item, part);
            }
            return;
        }
        let Some(owner) = owner else {
            self.events.owner(None, 1);
            return;
        };
        let envelope = self.envelope(owner, &part.piece, entry, &entry.time);
        let field = json::read::<Change<'_>>(part.piece.get()).and_then(|change| change.field.to_text());
        let what = if part.is_odd { "entry".to_owned() } else { field.unwrap_or_else(|| part.list.to_owned()) };
        self.events.unrecognised(envelope, what, None);
    }

    fn item(&mut self, owner: &Owner, entry: &Entry<'_>, item: &Item<'_>, part: &Part<'_>) {
        let page = Address::messenger(owner.account().as_str()).ok();
        let envelope = self.envelope(owner, &part.piece, entry, &item.timestamp);
        let sender = item.sender();
        let source = Source {
            json: self.json,
            envelope: &envelope,
            time: [&item.timestamp, &entry.time].into_iter().find_map(moment).unwrap_or_default(),
            standby: part.list == "standby",
        };
        let mut known = false;
        if let (Some(page), Some(sender)) = (&page, &sender) {
            let mut push = |event| {
                known = true;
                self.events.push(event);
            };
            item.events(page, sender, &source).into_iter().for_each(&mut push);
            // What we read ourselves says nothing about a message of ours.
            if sender != page {
                item.deliveries(sender, &source, &mut push);
            }
        }
        if !known {
            let what = [if source.standby { "standby." } else { "" }, &*kind(part.piece.get())].concat();
            let resident = sender.filter(|sender| Some(sender) != page.as_ref());
            self.events.unrecognised(envelope, what, resident);
        }
    }

    fn envelope(&self, owner: &Owner, piece: &Piece<'_>, entry: &Entry<'_>, time: &Text<'_>) -> Envelope {
        let at = [time, &entry.time].into_iter().find_map(|time| Timestamp::from_unix(time.as_deref()?));
        self.events.envelope(owner, Raw::new(self.json.raw(piece.get())), at)
    }
}

/// Where the events of one thing come from.
struct Source<'s> {
    json: &'s Json<'s>,
    /// With all of the thing as it stands.
    envelope: &'s Envelope,
    /// When it happened, as Meta wrote it.
    time: &'s str,
    standby: bool,
}

impl Source<'_> {
    /// The envelope of the nth part. The first keeps the whole: if each of them did, the body would be kept many times.
    fn part(&self, nth: usize, piece: &Piece<'_>) -> Envelope {
        if nth == 0 {
            return self.envelope.clone();
        }
        Envelope { raw: Raw::new(self.json.raw(piece.get())), ..self.envelope.clone() }
    }

    fn digest(&self) -> String {
        digest(self.envelope.raw.as_bytes()).to_string()
    }

    /// An id for what has none: what Meta repeats it repeats as it was. Without a time, it is told by all that it says.
    fn own_id(&self, name: &str) -> String {
        if self.time.is_empty() { format!("{name}/{}", self.digest()) } else { format!("{name}/{}", self.time) }
    }
}

/// A time as Meta wrote it, if it is one. It goes into ids, so that no text of any length may stand for it.
fn moment<'t>(time: &'t Text<'_>) -> Option<&'t str> {
    time.some().filter(|time| time.len() <= 32 && Timestamp::from_unix(time).is_some())
}

/// The account that values name which should all be the same.
#[derive(Default)]
struct Named<'a> {
    id: Text<'a>,
    /// They differ, so that it cannot be told whose the rest is.
    is_disputed: bool,
}

impl<'a> Named<'a> {
    fn new(values: impl IntoIterator<Item = Piece<'a>>) -> Self {
        let (mut named, mut rounded, mut read) = (Self::default(), 0, 0);
        for piece in values {
            let id: Text<'a> = json::read(piece.get()).unwrap_or_default();
            if id.some().is_none() {
                // A number that came out rounded is an id too, if not one that can be told.
                rounded += usize::from(piece.get().starts_with(|c: char| c == '-' || c.is_ascii_digit()));
                continue;
            }
            named.is_disputed |= read > 0 && id != named.id;
            (named.id, read) = (id, read + 1);
        }
        named.is_disputed |= rounded > 0 && rounded + read > 1;
        named
    }

    fn id(&self) -> Option<&str> {
        self.id.some().filter(|_| !self.is_disputed)
    }

    fn address(&self) -> Option<Address> {
        self.id().and_then(|id| Address::messenger(id).ok())
    }
}

/// One value of a list of an entry.
struct Part<'a> {
    list: &'static str,
    piece: Piece<'a>,
    /// It stands where the list should be.
    is_odd: bool,
}

impl Part<'_> {
    fn is_item(&self) -> bool {
        !self.is_odd && self.list != "changes"
    }

    fn account(&self, page: Option<&str>, webhook: &Verified) -> Option<String> {
        let item: Item<'_> = json::read(self.piece.get()).unwrap_or_default();
        item.account(page, webhook)
    }
}

/// An array's values, as they stand. An object where an array should be is one value.
#[derive(Default)]
struct Pieces<'a> {
    items: Vec<Piece<'a>>,
    odd: Vec<Piece<'a>>,
}

impl<'a> Member<'a> for Pieces<'a> {
    fn read<D: Deserializer<'a>>(&mut self, value: D, pass: Pass) -> Result<bool, D::Error> {
        let mut piece = Piece::default();
        piece.read(value, pass)?;
        match piece.get().as_bytes().first() {
            Some(b'{') => self.items.push(piece),
            Some(b'[') => {
                self.items.extend(json::read::<List<Piece<'a>>>(piece.get()).unwrap_or_default().iter());
            }
            Some(b'n') | None => {}
            Some(_) => self.odd.push(piece),
        }
        Ok(self.odd.is_empty())
    }
}

/// What Meta calls a thing that happened: the member that holds it.
fn kind(json: &str) -> String {
    const KNOWN: [&str; 7] = ["message", "message_edit", "postback", "delivery", "read", "reaction", "referral"];
    const COMMON: [&str; 3] = ["sender", "recipient", "timestamp"];
    // In the order of the alphabet, so that what has two unknown members is called the same each time.
    let Ok(members) = serde_json::from_str::<BTreeMap<String, IgnoredAny>>(json) else { return "messaging".to_owned() };
    let known = KNOWN.into_iter().find(|name| members.contains_key(*name)).map(str::to_owned);
    let other = members.into_keys().find(|name| !COMMON.contains(&name.as_str()));
    known.or(other).unwrap_or_else(|| "messaging".to_owned())
}

impl Item<'_> {
    fn sender(&self) -> Option<Address> {
        named(&self.sender).address()
    }

    fn recipient(&self) -> Option<Address> {
        named(&self.recipient).address()
    }

    /// The page that it belongs to: that of its entry, unless it was written to another one; else the page of ours that
    /// it names.
    fn account(&self, entry: Option<&str>, webhook: &Verified) -> Option<String> {
        let (sender, recipient) = (named(&self.sender), named(&self.recipient));
        if recipient.is_disputed {
            return None;
        }
        let Some(page) = entry else {
            return [recipient.id(), sender.id()].into_iter().flatten().find(|id| webhook.owns(id)).map(str::to_owned);
        };
        let is_echo = self.message.as_ref().is_some_and(|message| message.is_echo == Some(true));
        let is_ours = [sender.id(), recipient.id()].contains(&Some(page));
        // An echo is written to a person.
        let is_unsigned_echo = is_echo && sender.id().is_none() && !sender.is_disputed;
        (is_ours || recipient.id().is_none() || is_unsigned_echo).then(|| page.to_owned())
    }

    /// What was said and done in it: nothing, if that is not known.
    fn events(&self, page: &Address, sender: &Address, source: &Source<'_>) -> Vec<Event> {
        let mut events = Vec::new();
        if let Some(message) = &self.message {
            events.extend(self.message(message, sender.clone(), page, source).into_iter().flatten());
        }
        if let Some(postback) = &self.postback {
            events.extend(self.postback(postback, sender, page, !events.is_empty(), source));
        }
        if let Some(edit) = &self.message_edit {
            events.extend(self.edit(edit, sender, page, source));
        }
        if let Some(reaction) = &self.reaction {
            events.extend(self.reaction(reaction, sender, page, source));
        }
        // Beside a message, it is what brought that one.
        if let Some(referral) = self.referral.as_ref().filter(|_| events.is_empty()) {
            events.push(self.opened(referral, sender, page, source));
        }
        events
    }

    fn inbound(
        &self,
        id: &str,
        from: &Address,
        page: &Address,
        content: InboundContent,
        source: &Source<'_>,
    ) -> Inbound {
        let mut inbound = Inbound::new(source.envelope.clone(), id, from.clone(), content);
        inbound.to = self.recipient();
        inbound.echo = from == page;
        inbound.standby = source.standby;
        inbound
    }

    /// A postback. One that stands `beside` a message may have the id of that.
    fn postback(
        &self,
        postback: &Postback<'_>,
        sender: &Address,
        page: &Address,
        beside: bool,
        source: &Source<'_>,
    ) -> Option<Event> {
        let chosen = InboundContent::Selection(postback.chosen(postback.title.some())?);
        let own_id = source.own_id(&format!("postback/{}", sender.expose()));
        let mut inbound = self.inbound(postback.mid.some().unwrap_or(&own_id), sender, page, chosen, source);
        inbound.referral = postback.referral.as_ref().or(self.referral.as_ref()).map(ReferralWire::referral);
        Some(match postback.mid.some() {
            Some(mid) if beside => identified(inbound, &format!("{mid}/postback")),
            Some(_) => inbound.into(),
            // Two taps may be of one millisecond.
            None => identified(inbound, &format!("{own_id}/{}", source.digest())),
        })
    }

    fn edit(&self, edit: &Edit<'_>, sender: &Address, page: &Address, source: &Source<'_>) -> Option<Event> {
        let mid = edit.mid.some()?;
        let content = Box::new(InboundContent::Text(edit.text.to_text()?));
        let inbound = self.inbound(mid, sender, page, InboundContent::Edited { id: mid.into(), content }, source);
        let id = match edit.num_edit.some() {
            Some(nth) => format!("{mid}/edit/{nth}"),
            None => source.own_id(&format!("{mid}/edit")),
        };
        Some(identified(inbound, &id))
    }

    fn reaction(
        &self,
        reaction: &Reaction<'_>,
        sender: &Address,
        page: &Address,
        source: &Source<'_>,
    ) -> Option<Event> {
        let (to, action) = (reaction.mid.some()?, reaction.action.some()?);
        let emoji = match action {
            "react" => Some(reaction.emoji.some()?.to_owned()),
            "unreact" => None,
            _ => return None,
        };
        // A reaction has no id of its own, and the id in it is that of the message that it is on.
        let id = source.own_id(&format!("{to}/{action}"));
        let inbound = self.inbound(&id, sender, page, InboundContent::Reaction { to: to.into(), emoji }, source);
        Some(identified(inbound, &format!("{id}/{}", source.digest())))
    }

    fn opened(&self, referral: &ReferralWire<'_>, sender: &Address, page: &Address, source: &Source<'_>) -> Event {
        let id = source.own_id(&format!("referral/{}", sender.expose()));
        let mut inbound = self.inbound(&id, sender, page, InboundContent::Opened, source);
        inbound.referral = Some(referral.referral());
        identified(inbound, &format!("{id}/{}", source.digest()))
    }

    /// What became of our messages. The first few events keep the whole, and each other one its own value.
    fn deliveries(&self, recipient: &Address, source: &Source<'_>, push: &mut dyn FnMut(Event)) {
        let mut count = 0;
        let mut add = |mut delivery: Delivery, piece: &Piece<'_>| {
            delivery.recipient = Some(recipient.clone());
            delivery.envelope = source.part(count, piece);
            count += 1;
            push(delivery.into());
        };
        let new = |mid: &str, state, status| Delivery::new(source.envelope.clone(), mid, state, status);
        let wires = [(&self.delivery, DeliveryState::Delivered, "delivery"), (&self.read, DeliveryState::Read, "read")];
        for (wire, state, status) in wires {
            let Some(wire) = wire else { continue };
            let mut known = HashSet::new();
            for piece in wire.mids.iter().filter(|_| status == "delivery") {
                let mid: Text<'_> = json::read(piece.get()).unwrap_or_default();
                if let Some(mid) = mid.some().filter(|mid| known.insert((*mid).to_owned())) {
                    add(new(mid, state, status), piece);
                }
            }
            let Some(piece) = &wire.watermark else { continue };
            let watermark: Text<'_> = json::read(piece.get()).unwrap_or_default();
            if let Some(at) = watermark.as_deref().and_then(Timestamp::from_unix) {
                let mut delivery = new("", state, status);
                delivery.of = DeliveryOf::UpTo { at, id: None };
                add(delivery, piece);
            }
        }
    }

    /// The events of a message: several where it has files and something else beside them.
    fn message(
        &self,
        message: &Message<'_>,
        sender: Address,
        page: &Address,
        source: &Source<'_>,
    ) -> Option<Vec<Event>> {
        // Each event of the message has its id: one of any length would be kept many times over.
        let own = message.mid.some().filter(|mid| mid.len() <= ID_MAX);
        let mid = match own {
            Some(mid) => mid.to_owned(),
            None if message.says_nothing() => return None,
            None => format!("message/{}", source.digest()),
        };
        let echo = message.is_echo == Some(true) || sender == *page;
        let from = if echo { page.clone() } else { sender };
        let quoted = message.reply_to.as_ref().and_then(|quoted| quoted.mid.some()).filter(|mid| mid.len() <= ID_MAX);
        let mut events = Vec::new();
        for (n, (piece, content)) in message.contents(&mid).into_iter().enumerate() {
            let mut inbound = self.inbound(&mid, &from, page, content, source);
            inbound.reply_to = quoted.map(Into::into);
            let referral = message.referral.as_ref().or(self.referral.as_ref()).filter(|_| n == 0);
            inbound.referral = referral.map(ReferralWire::referral);
            if let Some(piece) = piece {
                inbound.envelope = source.part(n, &piece);
            }
            let part = match (n, message.is_deleted) {
                (0, Some(true)) => Some("deleted".to_owned()),
                (0, _) => None,
                (n, _) => Some(n.to_string()),
            };
            events.push(match part {
                Some(part) => identified(inbound, &format!("{mid}/{part}")),
                None => inbound.into(),
            });
        }
        if let Some(key) = message.metadata.to_text().filter(|key| echo && !key.is_empty()) {
            // The echo has our key, and so settles a send whose answer got lost.
            let mut delivery = Delivery::new(source.envelope.clone(), &*mid, DeliveryState::Sent, "echo");
            delivery.of = DeliveryOf::Message { id: own.map(Into::into), key: Some(key) };
            delivery.recipient = self.recipient();
            events.push(delivery.into());
        }
        Some(events)
    }
}

fn identified(mut inbound: Inbound, id: &str) -> Event {
    inbound.envelope = inbound.envelope.identified(Some(id));
    inbound.into()
}

fn named<'a>(parties: &Occurrences<Party<'a>>) -> Named<'a> {
    Named::new(parties.0.iter().flat_map(|party| &party.id.0).copied())
}

impl Message<'_> {
    /// It has neither an id nor anything that a reader could show.
    fn says_nothing(&self) -> bool {
        let has_choice = self.quick_reply.as_ref().is_some_and(|reply| reply.payload.some().is_some());
        self.is_deleted == Some(true)
            || (self.text.some().is_none() && !has_choice && self.attachments.items.is_empty())
    }

    /// What it says, in parts: the files with the text, and each thing that is no file, with its own piece.
    fn contents(&self, mid: &str) -> Vec<(Option<Piece<'_>>, InboundContent)> {
        if self.is_deleted == Some(true) {
            return vec![(None, InboundContent::Withdrawn(mid.into()))];
        }
        let mut contents = Vec::new();
        let chosen = self.quick_reply.as_ref().filter(|reply| reply.payload.some().is_some());
        let chosen = chosen.and_then(|chosen| chosen.chosen(self.text.some()));
        // The text of a choice is its title.
        let text = self.text.some().filter(|_| chosen.is_none());
        contents.extend(chosen.map(|chosen| (None, InboundContent::Selection(chosen))));
        let attached = self.attached(mid);
        match text {
            text if !attached.media.is_empty() => {
                contents.push((None, InboundContent::Media { text: text.map(str::to_owned), media: attached.media }));
            }
            Some(text) => contents.push((None, InboundContent::Text(text.to_owned()))),
            None => {}
        }
        contents.extend(attached.others);
        if contents.is_empty() {
            contents.push((None, InboundContent::unsupported(None::<String>)));
        }
        contents
    }

    fn attached(&self, mid: &str) -> Attached<'_> {
        let mut attached = Attached { media: Vec::new(), others: Vec::new() };
        let (mut unread, mut previews) = (HashSet::new(), 0);
        let text = self.text.some();
        for (n, piece) in self.attachments.items.iter().chain(&self.attachments.odd).enumerate() {
            let attachment: Attachment<'_> = json::read(piece.get()).unwrap_or_default();
            if let Some(file) = attachment.file(mid, n) {
                attached.media.push(file);
                continue;
            }
            let mut is_preview = |url: &str| {
                previews += 1;
                previews <= PREVIEWS_MAX && text.is_some_and(|text| text.contains(url))
            };
            let kind = attachment.kind.some();
            let place = attachment.place();
            match attachment.link() {
                // The preview of a link in the text says what the text says.
                Some((_, url)) if place.is_none() && is_preview(url) => continue,
                None if place.is_none() && text.is_some() && kind == Some("fallback") => continue,
                None if place.is_none() => {
                    if unread.insert(kind.map(str::to_owned)) {
                        attached.others.push((Some(*piece), InboundContent::unsupported(kind)));
                    }
                }
                link => {
                    let link = link.map(|(title, url)| InboundContent::Link { title, url: url.to_owned() });
                    let both = place.map(InboundContent::Location).into_iter().chain(link);
                    attached.others.extend(both.map(|content| (Some(*piece), content)));
                }
            }
        }
        attached
    }
}

/// What is attached to a message: its files, and the rest with the piece of each.
struct Attached<'a> {
    media: Vec<MediaRef>,
    others: Vec<(Option<Piece<'a>>, InboundContent)>,
}

impl Attachment<'_> {
    /// The file, if it is one. Messenger gives no id for it, so it has its place in the message for one.
    fn file(&self, mid: &str, n: usize) -> Option<MediaRef> {
        let kind = match self.kind.as_deref()? {
            "audio" => MediaKind::Audio,
            "file" => MediaKind::Document,
            "image" => MediaKind::Image,
            "sticker" => MediaKind::Sticker,
            "video" => MediaKind::Video,
            _ => return None,
        };
        let mut media = MediaRef::new(GATEWAY, format!("{mid}/{n}"));
        media.url = Some(self.payload.as_ref()?.url.some()?.to_owned());
        media.kind = Some(kind);
        Some(media)
    }

    fn shown_title(&self) -> Option<String> {
        self.title.some().or_else(|| self.payload.as_ref()?.title.some()).map(str::to_owned)
    }

    fn place(&self) -> Option<Location> {
        let degrees = self.payload.as_ref()?.coordinates.as_ref()?;
        let mut place = Location::new(degrees.lat?, degrees.long?);
        place.name = self.shown_title();
        Some(place)
    }

    /// The page that was shared, such as a post, a reel or a product: its title and its address.
    fn link(&self) -> Option<(Option<String>, &str)> {
        let url = self.payload.as_ref().and_then(|payload| payload.url.some()).or(self.url.some())?;
        Some((self.shown_title(), url))
    }
}

impl Postback<'_> {
    /// What was chosen: by our payload, or by its title where there is none.
    fn chosen(&self, title: Option<&str>) -> Option<Selection> {
        let id = self.payload.some().or(title)?.to_owned();
        Some(Selection { id, title: title.unwrap_or_default().to_owned() })
    }
}

impl ReferralWire<'_> {
    fn referral(&self) -> Box<Referral> {
        let mut referral = Referral::default();
        (referral.source, referral.id) = (self.source.to_text(), self.ad_id.to_text());
        (referral.url, referral.text) = (self.referer_uri.to_text(), self.word.to_text());
        Box::new(referral)
    }
}

impl<'a> Entry<'a> {
    /// What is in its lists, in the order of the body, so that what is of one page is not joined over what is of another.
    fn parts(&self) -> Vec<Part<'a>> {
        let mut parts = Vec::new();
        let lists = [("messaging", &self.messaging), ("standby", &self.standby), ("changes", &self.changes)];
        for (list, pieces) in lists {
            parts.extend(pieces.items.iter().map(|piece| Part { list, piece: *piece, is_odd: false }));
            parts.extend(pieces.odd.iter().map(|piece| Part { list, piece: *piece, is_odd: true }));
        }
        parts.sort_by_key(|part| part.piece.get().as_ptr().addr());
        parts
    }
}

lenient! {
    struct Hook<'a> {
        object: Text<'a>,
        entry: Pieces<'a>,
    }

    struct Entry<'a> {
        id: Occurrences<Piece<'a>>,
        time: Text<'a>,
        messaging: Pieces<'a>,
        /// Of conversations that another app holds.
        standby: Pieces<'a>,
        /// Of the page itself, such as posts: no messages.
        changes: Pieces<'a>,
    }

    struct Change<'a> {
        field: Text<'a>,
    }

    struct Party<'a> {
        id: Occurrences<Piece<'a>>,
    }

    /// One thing that happened in a conversation: which, is told by the member that is there.
    struct Item<'a> {
        sender: Occurrences<Party<'a>>,
        recipient: Occurrences<Party<'a>>,
        timestamp: Text<'a>,
        message: Option<Box<Message<'a>>>,
        message_edit: Option<Edit<'a>>,
        postback: Option<Postback<'a>>,
        delivery: Option<Watermark<'a>>,
        read: Option<Watermark<'a>>,
        reaction: Option<Reaction<'a>>,
        referral: Option<ReferralWire<'a>>,
    }

    struct Message<'a> {
        mid: Text<'a>,
        text: Text<'a>,
        quick_reply: Option<Postback<'a>>,
        attachments: Pieces<'a>,
        reply_to: Option<Quoted<'a>>,
        is_echo: Option<bool>,
        is_deleted: Option<bool>,
        metadata: Text<'a>,
        referral: Option<ReferralWire<'a>>,
    }

    struct Edit<'a> {
        mid: Text<'a>,
        text: Text<'a>,
        num_edit: Text<'a>,
    }

    struct Attachment<'a> {
        kind = "type": Text<'a>,
        title: Text<'a>,
        url = "url" | "URL": Text<'a>,
        payload: Option<Payload<'a>>,
    }

    struct Payload<'a> {
        url: Text<'a>,
        title: Text<'a>,
        coordinates: Option<Coordinates<'a>>,
    }

    struct Coordinates<'a> {
        lat: Option<f64>,
        long = "long" | "lon" | "lng": Option<f64>,
    }

    struct Quoted<'a> {
        mid: Text<'a>,
    }

    struct Postback<'a> {
        mid: Text<'a>,
        title: Text<'a>,
        payload: Text<'a>,
        referral: Option<ReferralWire<'a>>,
    }

    struct Watermark<'a> {
        mids: List<Piece<'a>>,
        watermark: Option<Piece<'a>>,
    }

    struct Reaction<'a> {
        mid: Text<'a>,
        action: Text<'a>,
        emoji: Text<'a>,
    }

    struct ReferralWire<'a> {
        word = "ref": Text<'a>,
        source: Text<'a>,
        ad_id: Text<'a>,
        referer_uri: Text<'a>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn item_is_named_by_the_member_that_holds_it() {
        for (json, name) in [
            (r#"{"sender":{},"recipient":{},"timestamp":1,"optin":{}}"#, "optin"),
            (r#"{"sender":{},"pass_thread_control":{},"app_roles":{}}"#, "app_roles"),
            (r#"{"client_timestamp":1,"read":7}"#, "read"),
            (r#"{"sender":{}}"#, "messaging"),
            ("[]", "messaging"),
        ] {
            assert_eq!(kind(json), name, "{json}");
        }
    }
}
