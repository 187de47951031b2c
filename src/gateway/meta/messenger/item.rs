//! The events of one item of a webhook: a message, a postback, a reaction, a receipt.

use std::collections::HashSet;

use super::receive::Source;
use super::wire::{Edit, Item, Message, Party, Postback, Reaction, ReferralWire};
use crate::adapter::NamedAccount;
use crate::adapter::json::{self, Occurrences, Piece, Text};
use crate::model::address::Address;
use crate::model::clock::Timestamp;
use crate::model::delivery::DeliveryState;
use crate::model::event::{Delivery, DeliveryOf, Event, Inbound, InboundContent};
use crate::webhook::Verified;

/// The longest id of a message. Meta's have some 150 characters.
const ID_MAX: usize = 1_024;

impl Item<'_> {
    pub(super) fn sender(&self) -> Option<Address> {
        address(&self.sender)
    }

    fn recipient(&self) -> Option<Address> {
        address(&self.recipient)
    }

    /// The page that it belongs to: that of its entry, unless it was written to another one; else the page of ours that
    /// it names.
    pub(super) fn account(&self, entry: Option<&str>, webhook: &Verified) -> Option<String> {
        let (sender, recipient) = (named(&self.sender), named(&self.recipient));
        if recipient.is_disputed() {
            return None;
        }
        let Some(page) = entry else {
            return [recipient.id(), sender.id()].into_iter().flatten().find(|id| webhook.owns(id)).map(str::to_owned);
        };
        let is_echo = self.message.as_ref().is_some_and(|message| message.is_echo == Some(true));
        let is_ours = [sender.id(), recipient.id()].contains(&Some(page));
        // An echo is written to a person.
        let is_unsigned_echo = is_echo && sender.id().is_none() && !sender.is_disputed();
        (is_ours || recipient.id().is_none() || is_unsigned_echo).then(|| page.to_owned())
    }

    /// The contents of the item: empty if unknown.
    pub(super) fn events(&self, page: &Address, sender: &Address, source: &Source<'_>) -> Vec<Event> {
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
            None => identified(inbound, &format!("{own_id}/{}", source.envelope.raw.digest())),
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
        Some(identified(inbound, &format!("{id}/{}", source.envelope.raw.digest())))
    }

    fn opened(&self, referral: &ReferralWire<'_>, sender: &Address, page: &Address, source: &Source<'_>) -> Event {
        let id = source.own_id(&format!("referral/{}", sender.expose()));
        let mut inbound = self.inbound(&id, sender, page, InboundContent::Opened, source);
        inbound.referral = Some(referral.referral());
        identified(inbound, &format!("{id}/{}", source.envelope.raw.digest()))
    }

    /// The deliveries of our messages. The first few events keep the whole body, and each later one its own value.
    pub(super) fn deliveries(&self, recipient: &Address, source: &Source<'_>, push: &mut dyn FnMut(Event)) {
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
            None => format!("message/{}", source.envelope.raw.digest()),
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

fn address(parties: &Occurrences<Party<'_>>) -> Option<Address> {
    named(parties).id().and_then(|id| Address::messenger(id).ok())
}

fn named<'a>(parties: &Occurrences<Party<'a>>) -> NamedAccount<'a> {
    NamedAccount::new(parties.0.iter().flat_map(|party| &party.id.0).copied())
}
