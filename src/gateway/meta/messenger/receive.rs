//! Messenger's webhooks as events: [webhook events][page], read 2026-11-22 and 2026-11-30 from stored copies.
//!
//! [page]: https://developers.facebook.com/docs/messenger-platform/reference/webhook-events

use std::cell::OnceCell;
use std::collections::BTreeMap;

use serde::de::IgnoredAny;

use super::super::GATEWAY;
use super::super::receive::product;
use crate::adapter::json::{self, Json, List, Piece, Text};
use crate::adapter::{Collector, Owner, lenient};
use crate::address::Address;
use crate::clock::Timestamp;
use crate::event::{
    Chosen, Delivery, DeliveryOf, DeliveryState, Envelope, Event, Inbound, InboundContent, Raw, Referral,
};
use crate::message::{Location, MediaKind, MediaRef};
use crate::webhook::Verified;

/// Collects the events of a verified webhook.
pub(in super::super) fn events(webhook: &Verified, events: &mut Collector<'_>) {
    let json = Json::new(webhook.body());
    let hook: Hook<'_> = json.read().unwrap_or_default();
    if hook.entry.is_empty() {
        // It names no page, so that it may be any's.
        events.owner(None, 1);
    }
    events.reserve(hook.entry.iter().map(Entry::count).sum());
    // An object that cannot be read is taken for ours: the pages in it say more.
    let object = product(&hook.object).unwrap_or("page");
    // The entries as they stand: cut out when the first of them is needed.
    let outline = OnceCell::<Outline<'_>>::new();
    for (e, entry) in hook.entry.iter().enumerate() {
        let Some(owner) = events.owner(entry.id.as_deref(), entry.count()) else { continue };
        let mut reader = Reader { json: &json, page: Address::messenger(owner.account().as_str()).ok(), owner, events };
        let whole =
            || outline.get_or_init(|| json.read().unwrap_or_default()).entry.get(e).copied().unwrap_or_default();
        if object != "page" || entry.is_empty() {
            let what = if object == "page" { "entry" } else { object };
            let envelope = reader.envelope(whole().get(), entry, &entry.time);
            reader.events.unrecognised(envelope, what, None);
            continue;
        }
        for (list, standby) in [(&entry.messaging, false), (&entry.standby, true)] {
            for piece in list.iter() {
                reader.item(entry, piece, standby);
            }
        }
        for piece in entry.changes.iter() {
            let field = json::read::<Change<'_>>(piece.get()).and_then(|change| change.field.to_text());
            let envelope = reader.envelope(piece.get(), entry, &entry.time);
            reader.events.unrecognised(envelope, field.unwrap_or_else(|| "changes".to_owned()), None);
        }
        if entry.is_odd() {
            let envelope = reader.envelope(whole().get(), entry, &entry.time);
            reader.events.unrecognised(envelope, "entry", None);
        }
    }
}

struct Reader<'r, 'w> {
    json: &'r Json<'r>,
    page: Option<Address>,
    owner: Owner,
    events: &'r mut Collector<'w>,
}

impl Reader<'_, '_> {
    fn item(&mut self, entry: &Entry<'_>, piece: &Piece<'_>, standby: bool) {
        let item: Item<'_> = json::read(piece.get()).unwrap_or_default();
        let envelope = self.envelope(piece.get(), entry, &item.timestamp);
        let sender = item.sender.as_ref().and_then(Party::address);
        let read = self.page.as_ref().and_then(|page| item.events(page, sender.clone()?, standby, &envelope));
        match read {
            Some(events) => events.into_iter().for_each(|event| self.events.push(event)),
            None => {
                let what = [if standby { "standby." } else { "" }, &*kind(piece.get())].concat();
                let resident = sender.filter(|sender| Some(sender) != self.page.as_ref());
                self.events.unrecognised(envelope, what, resident);
            }
        }
    }

    fn envelope(&self, piece: &str, entry: &Entry<'_>, time: &Text<'_>) -> Envelope {
        let at = [time, &entry.time].into_iter().find_map(|time| Timestamp::from_unix(time.as_deref()?));
        self.events.envelope(&self.owner, Raw::new(self.json.raw(piece)), at)
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
    /// Its events, or `None` if it is not known what it says.
    fn events(&self, page: &Address, sender: Address, standby: bool, envelope: &Envelope) -> Option<Vec<Event>> {
        let ours = sender == *page;
        if let Some(message) = &self.message {
            return self.message(message, sender, page, standby, envelope);
        }
        let inbound = |id: &str, content| {
            let mut inbound = self.inbound(id, sender.clone(), ours, content, envelope);
            inbound.standby = standby;
            inbound
        };
        // What has no id is told by who did it and when.
        let own_id =
            |name: &str| format!("{name}/{}/{}", sender.expose(), self.timestamp.as_deref().unwrap_or_default());
        if let Some(postback) = &self.postback {
            let title = postback.title.some();
            let chosen = postback.chosen(title)?;
            let id = postback.mid.some().map_or_else(|| own_id("postback"), str::to_owned);
            let mut inbound = inbound(&id, InboundContent::Chosen(chosen));
            inbound.referral = postback.referral.as_ref().map(ReferralWire::referral);
            return Some(vec![inbound.into()]);
        }
        if let Some(edit) = &self.message_edit {
            let mid = edit.mid.some()?;
            let content = Box::new(InboundContent::Text(edit.text.to_text()?));
            let mut inbound = inbound(mid, InboundContent::Edited { id: mid.into(), content });
            let nth = edit.num_edit.some().or(self.timestamp.some()).unwrap_or_default();
            inbound.envelope = inbound.envelope.identified(Some(&format!("{mid}/edit/{nth}")));
            return Some(vec![inbound.into()]);
        }
        if let Some(reaction) = &self.reaction {
            let (to, action) = (reaction.mid.some()?, reaction.action.some()?);
            let emoji = match action {
                "react" => Some(reaction.emoji.some()?.to_owned()),
                "unreact" => None,
                _ => return None,
            };
            // A reaction has no id of its own, and the id in it is that of the message that it is on. Of one message two
            // reactions differ in what was done or when, and Meta repeats both as they were.
            let id = format!("{to}/{action}/{}", self.timestamp.as_deref().unwrap_or_default());
            return Some(vec![inbound(&id, InboundContent::Reaction { to: to.into(), emoji }).into()]);
        }
        if let Some(referral) = &self.referral {
            let mut inbound = inbound(&own_id("referral"), InboundContent::Opened);
            inbound.referral = Some(referral.referral());
            return Some(vec![inbound.into()]);
        }
        // What we read ourselves says nothing about a message of ours.
        if ours {
            return None;
        }
        self.deliveries(&sender, envelope)
    }

    fn deliveries(&self, recipient: &Address, envelope: &Envelope) -> Option<Vec<Event>> {
        let up_to = |watermark: &Watermark<'_>, state, status| {
            let mut delivery = Delivery::new(envelope.clone(), "", state, status);
            let at = watermark.watermark.as_deref().and_then(Timestamp::from_unix)?;
            delivery.of = DeliveryOf::UpTo { at, id: None };
            delivery.recipient = Some(recipient.clone());
            Some(Event::from(delivery))
        };
        let events: Vec<Event> = match (&self.delivery, &self.read) {
            (Some(delivered), _) => {
                let one = |mid: &str| {
                    let mut delivery = Delivery::new(envelope.clone(), mid, DeliveryState::Delivered, "delivery");
                    delivery.recipient = Some(recipient.clone());
                    Event::from(delivery)
                };
                let mids = delivered.mids.iter().filter_map(Text::some).map(one);
                mids.chain(up_to(delivered, DeliveryState::Delivered, "delivery")).collect()
            }
            (None, Some(read)) => up_to(read, DeliveryState::Read, "read").into_iter().collect(),
            (None, None) => Vec::new(),
        };
        (!events.is_empty()).then_some(events)
    }

    /// The events of a message: several where it has files and something else beside them.
    fn message(
        &self,
        message: &Message<'_>,
        sender: Address,
        page: &Address,
        standby: bool,
        envelope: &Envelope,
    ) -> Option<Vec<Event>> {
        let mid = message.mid.some()?;
        let echo = message.is_echo == Some(true) || sender == *page;
        let from = if echo { page.clone() } else { sender };
        let mut events = Vec::new();
        for (n, content) in message.contents(mid).into_iter().enumerate() {
            let mut inbound = self.inbound(mid, from.clone(), echo, content, envelope);
            inbound.standby = standby;
            inbound.reply_to = message.reply_to.as_ref().and_then(|quoted| quoted.mid.some()).map(Into::into);
            inbound.referral = message.referral.as_ref().map(ReferralWire::referral);
            if n > 0 || message.is_deleted == Some(true) {
                let part = if n > 0 { n.to_string() } else { "deleted".to_owned() };
                inbound.envelope = inbound.envelope.identified(Some(&format!("{mid}/{part}")));
            }
            events.push(inbound.into());
        }
        if let Some(key) = message.metadata.to_text().filter(|key| echo && !key.is_empty()) {
            // The echo has our key, and so settles a send whose answer got lost.
            let mut delivery = Delivery::new(envelope.clone(), mid, DeliveryState::Sent, "echo").with_key(Some(key));
            delivery.recipient = self.recipient.as_ref().and_then(Party::address);
            events.push(delivery.into());
        }
        Some(events)
    }

    fn inbound(&self, id: &str, from: Address, echo: bool, content: InboundContent, envelope: &Envelope) -> Inbound {
        let mut inbound = Inbound::new(envelope.clone(), id, from, content);
        inbound.to = self.recipient.as_ref().and_then(Party::address);
        inbound.echo = echo;
        inbound
    }
}

impl Message<'_> {
    /// What it says, in parts: the files with the text, and each thing that is no file.
    fn contents(&self, mid: &str) -> Vec<InboundContent> {
        if self.is_deleted == Some(true) {
            return vec![InboundContent::Withdrawn(mid.into())];
        }
        let text = self.text.some();
        if let Some(chosen) = self.quick_reply.as_ref().filter(|reply| reply.payload.some().is_some()) {
            return chosen.chosen(text).map(InboundContent::Chosen).into_iter().collect();
        }
        let (mut media, mut others, mut unread) = (Vec::new(), Vec::new(), None);
        for (n, attachment) in self.attachments.iter().enumerate() {
            match (attachment.file(mid, n), attachment.place_or_link()) {
                (Some(file), _) => media.push(file),
                // The preview of a link in the text says what the text says.
                (None, Some(InboundContent::Link { url, .. })) if text.is_some_and(|text| text.contains(&url)) => {}
                (None, None) if text.is_some() && attachment.kind.as_deref() == Some("fallback") => {}
                (None, Some(other)) => others.push(other),
                (None, None) => unread = unread.or(Some(attachment)),
            }
        }
        let mut contents = Vec::new();
        match text {
            text if !media.is_empty() => {
                contents.push(InboundContent::Media { text: text.map(str::to_owned), media });
            }
            Some(text) => contents.push(InboundContent::Text(text.to_owned())),
            None => {}
        }
        contents.append(&mut others);
        if unread.is_some() || contents.is_empty() {
            contents.push(InboundContent::unsupported(unread.and_then(|attachment| attachment.kind.some())));
        }
        contents
    }
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

    /// The place, or the page that was shared: a post, a reel, a product.
    fn place_or_link(&self) -> Option<InboundContent> {
        let payload = self.payload.as_ref();
        let title = self.title.some().or_else(|| payload?.title.some()).map(str::to_owned);
        let degrees = payload.and_then(|payload| payload.coordinates.as_ref());
        if let Some((latitude, longitude)) = degrees.and_then(|degrees| Some((degrees.lat?, degrees.long?))) {
            let mut place = Location::new(latitude, longitude);
            place.name = title;
            return Some(InboundContent::Location(place));
        }
        let url = payload.and_then(|payload| payload.url.some()).or(self.url.some())?;
        Some(InboundContent::Link { title, url: url.to_owned() })
    }
}

impl Postback<'_> {
    /// What was chosen: by our payload, or by its title where there is none.
    fn chosen(&self, title: Option<&str>) -> Option<Chosen> {
        let id = self.payload.some().or(title)?.to_owned();
        Some(Chosen { id, title: title.unwrap_or_default().to_owned() })
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

impl Entry<'_> {
    fn count(&self) -> usize {
        (self.messaging.len() + self.standby.len() + self.changes.len()).max(1)
    }

    fn is_empty(&self) -> bool {
        self.messaging.is_empty() && self.standby.is_empty() && self.changes.is_empty()
    }

    fn is_odd(&self) -> bool {
        [&self.messaging, &self.standby, &self.changes].iter().any(|list| list.odd && list.is_empty())
    }
}

impl Party<'_> {
    fn address(&self) -> Option<Address> {
        self.id.as_deref().and_then(|id| Address::messenger(id).ok())
    }
}

lenient! {
    struct Outline<'a> {
        entry: List<Piece<'a>>,
    }

    struct Hook<'a> {
        object: Text<'a>,
        entry: List<Entry<'a>>,
    }

    struct Entry<'a> {
        id: Text<'a>,
        time: Text<'a>,
        messaging: List<Piece<'a>>,
        /// Of conversations that another app holds.
        standby: List<Piece<'a>>,
        /// Of the page itself, such as posts: no messages.
        changes: List<Piece<'a>>,
    }

    struct Change<'a> {
        field: Text<'a>,
    }

    struct Party<'a> {
        id: Text<'a>,
    }

    /// One thing that happened in a conversation: which, is told by the member that is there.
    struct Item<'a> {
        sender: Option<Party<'a>>,
        recipient: Option<Party<'a>>,
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
        attachments: List<Attachment<'a>>,
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
        mids: List<Text<'a>>,
        watermark: Text<'a>,
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
