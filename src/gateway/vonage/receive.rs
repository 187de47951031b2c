//! Events of Vonage's webhooks: statuses and inbound messages.

use super::wire::{Problem, STATES};
use super::{GATEWAY, Vonage, account};
use crate::adapter::json::{Json, Text};
use crate::adapter::{Collector, delivery_state, lenient};
use crate::model::address::{Address, Medium, Phone, WhatsAppUser};
use crate::model::delivery::DeliveryState;
use crate::model::event::{
    Delivery, DeliveryOf, Envelope, Inbound, InboundContent, Profile, Raw, Selection, Unrecognised,
};
use crate::model::message::{Location, MediaKind, MediaRef, Money, Price};
use crate::webhook::Verified;

lenient! {
    /// A status or an inbound message. The fields of WhatsApp's location and reaction are UNVERIFIED: no page with them was
    /// read.
    struct Callback<'a> {
        channel: Text<'a>,
        message_uuid: Text<'a>,
        to: Text<'a>,
        from: Text<'a>,
        timestamp: Text<'a>,
        // Of a status.
        status: Text<'a>,
        client_ref: Text<'a>,
        error: Problem<'a>,
        usage: Usage<'a>,
        sms: SmsPart<'a>,
        // Of an inbound message.
        message_type: Text<'a>,
        text: Text<'a>,
        image: File<'a>,
        audio: File<'a>,
        video: File<'a>,
        file: File<'a>,
        sticker: File<'a>,
        location: Place<'a>,
        reply: Chosen<'a>,
        button: Chosen<'a>,
        reaction: Emoji<'a>,
        context: Quoted<'a>,
        profile: Person<'a>,
    }

    struct Usage<'a> {
        currency: Text<'a>,
        price: Text<'a>,
    }

    struct SmsPart<'a> {
        count_total: Text<'a>,
    }

    struct File<'a> {
        url: Text<'a>,
        name: Text<'a>,
        caption: Text<'a>,
    }

    struct Place<'a> {
        lat: Text<'a>,
        long: Text<'a>,
        name: Text<'a>,
        address: Text<'a>,
    }

    struct Chosen<'a> {
        id = "id" | "payload": Text<'a>,
        title = "title" | "text": Text<'a>,
    }

    struct Emoji<'a> {
        action: Text<'a>,
        emoji: Text<'a>,
    }

    struct Quoted<'a> {
        message_uuid: Text<'a>,
    }

    struct Person<'a> {
        name: Text<'a>,
        username: Text<'a>,
    }
}

impl Vonage {
    /// Collects the event of a verified webhook.
    pub(super) fn events(&self, hook: &Verified, events: &mut Collector<'_>) {
        let json = Json::new(hook.body());
        let callback: Callback<'_> = json.read().unwrap_or_default();
        let medium = medium(callback.channel.some());
        let own = medium.as_ref().unwrap_or(&self.info.medium);
        let (to, from) = (callback.to.some(), callback.from.some());
        let (to, from) = (to.map(|to| account(own, to)), from.map(|from| account(own, from)));
        let is_status = callback.status.some().is_some();
        let is_inbound = !is_status && (callback.message_type.some().is_some() || callback.text.as_deref().is_some());
        let named = match (is_status, is_inbound) {
            (true, _) => from,
            (_, true) => to,
            // Of neither kind: our side is either.
            _ => to.filter(|to| hook.owns(to)).or(from),
        };
        // Another application of the account has the same secret.
        let application: Option<String> = hook.claim("application_id");
        let is_ours = application.is_none_or(|application| application == *self.application_id);
        let Some(owner) = events.owner(named.as_deref().filter(|_| is_ours), 1) else { return };
        let at = callback.timestamp.some().and_then(|at| at.parse().ok());
        let mut envelope = events.envelope(&owner, Raw::new(hook.body().clone()), at);
        if let Some(medium) = medium {
            envelope.medium = medium;
        } else if callback.channel.some().is_some() {
            return events.unrecognised(envelope, "channel", None);
        }
        let from = callback.from.some().and_then(|from| person(&envelope.medium, from));
        match (callback.message_uuid.id(), from) {
            (Some(id), _) if is_status => events.push(self.delivery(&callback, id, envelope)),
            (Some(id), Some(from)) if is_inbound => match content(&callback) {
                Some(content) => events.push(inbound(&callback, id, from, content, envelope)),
                None => events.unrecognised(envelope, "message", Some(from)),
            },
            (_, from) => {
                let mut event = Unrecognised::new(envelope, "webhook");
                event.from = from.filter(|_| is_inbound);
                events.push(event);
            }
        }
    }

    fn delivery(&self, callback: &Callback<'_>, id: &str, envelope: Envelope) -> Delivery {
        let status = callback.status.some().unwrap_or_default();
        let state = delivery_state(STATES, status);
        let recipient = callback.to.some().and_then(|to| person(&envelope.medium, to));
        let mut delivery = Delivery::new(envelope, id, state, status);
        delivery.of = DeliveryOf::Message { id: Some(id.into()), key: callback.client_ref.some().map(str::to_owned) };
        delivery.recipient = recipient;
        delivery.segments = callback.sms.count_total.some().and_then(|count| count.parse().ok());
        let price = callback.usage.price.some().zip(callback.usage.currency.some());
        delivery.price = price.and_then(|(price, currency)| Money::rounded(price, currency).ok()).map(Price::from);
        delivery.failure = (state == DeliveryState::Failed)
            .then(|| self.endpoint.failure(callback.error.code(), callback.error.detail.to_text()));
        delivery
    }
}

fn inbound(callback: &Callback<'_>, id: &str, from: Address, content: InboundContent, envelope: Envelope) -> Inbound {
    let to = callback.to.some().filter(|_| envelope.medium != Medium::Messenger);
    let to = to.and_then(|to| person(&envelope.medium, to));
    let mut inbound = Inbound::new(envelope, id, from, content);
    inbound.to = to;
    inbound.profile =
        Profile { name: callback.profile.name.to_text(), handle: callback.profile.username.some().map(str::to_owned) };
    inbound.reply_to = match inbound.content {
        InboundContent::Reaction { .. } => None,
        _ => callback.context.message_uuid.id().map(Into::into),
    };
    inbound
}

/// Returns the content of an inbound message, or `None` if its type has none.
fn content(callback: &Callback<'_>) -> Option<InboundContent> {
    let media = |kind: MediaKind, file: &File<'_>| {
        let url = file.url.some()?;
        let mut media = MediaRef::new(GATEWAY, url.rsplit('/').next().unwrap_or_default());
        media.kind = Some(kind);
        media.filename = file.name.some().map(str::to_owned);
        media.url = Some(url.to_owned());
        let text = file.caption.some().or(callback.text.some()).map(str::to_owned);
        Some(InboundContent::Media { text, media: vec![media] })
    };
    match callback.message_type.some().unwrap_or("text") {
        "text" => callback.text.to_text().map(InboundContent::Text),
        "image" => media(MediaKind::Image, &callback.image),
        "audio" => media(MediaKind::Audio, &callback.audio),
        "video" => media(MediaKind::Video, &callback.video),
        "file" => media(MediaKind::Document, &callback.file),
        "sticker" => media(MediaKind::Sticker, &callback.sticker),
        "location" => {
            let place = &callback.location;
            let degrees = |text: &Text<'_>| text.some()?.parse::<f64>().ok().filter(|degrees| degrees.is_finite());
            let mut location = Location::new(degrees(&place.lat)?, degrees(&place.long)?);
            (location.name, location.address) = (place.name.to_text(), place.address.to_text());
            Some(InboundContent::Location(location))
        }
        "reply" => selection(&callback.reply),
        "button" => selection(&callback.button),
        "reaction" => {
            let to = callback.context.message_uuid.id()?.into();
            let removes = callback.reaction.action.some() == Some("unreact");
            let emoji = callback.reaction.emoji.some().filter(|_| !removes).map(str::to_owned);
            Some(InboundContent::Reaction { to, emoji })
        }
        other => Some(InboundContent::unsupported(Some(other))),
    }
}

fn selection(chosen: &Chosen<'_>) -> Option<InboundContent> {
    let title = chosen.title.some().or(chosen.id.some())?;
    let id = chosen.id.some().unwrap_or(title);
    Some(InboundContent::Selection(Selection { id: id.to_owned(), title: title.to_owned() }))
}

/// Returns the medium of Vonage's channel; MMS are SMS with files.
fn medium(channel: Option<&str>) -> Option<Medium> {
    match channel? {
        "sms" | "mms" => Some(Medium::Sms),
        "whatsapp" => Some(Medium::WhatsApp),
        "messenger" => Some(Medium::Messenger),
        "rcs" => Medium::other("rcs").ok(),
        _ => None,
    }
}

fn person(medium: &Medium, id: &str) -> Option<Address> {
    match medium {
        Medium::Sms => Address::sms_sender(id),
        Medium::WhatsApp => {
            let phone = Phone::from_digits(id).and_then(|phone| WhatsAppUser::new(Some(phone), None));
            phone.map(Address::WhatsApp).or_else(|_| Address::whatsapp(id)).ok()
        }
        Medium::Messenger => Address::messenger(id).ok(),
        _ => Phone::from_digits(id).map(Address::Phone).ok(),
    }
}
