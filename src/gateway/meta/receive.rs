//! Meta's webhooks as events.
//!
//! A body is read in one pass. Only when something in it is not of the expected form is it read again piece by
//! piece, so that one strange message costs that message and not the thousand around it.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::address::{Address, Medium, Phone, WhatsAppUser};
use crate::channel::Info;
use crate::clock::Timestamp;
use crate::endpoint::Endpoint;
use crate::error::ErrorKind;
use crate::event::{
    Account, AddressChanged, Chosen, Delivery, DeliveryOf, DeliveryState, Envelope, Event, Failure, Inbound,
    InboundContent, OptOut, OptOutScope, Profile, Raw, Topic, Unrecognised,
};
use crate::id::AccountId;
use crate::message::{ContactCard, Labelled, Location, MediaRef};
use crate::webhook::{Received, Verified};
use crate::wire::Str;

const VALUE: &str = "/entry/#/changes/#/value";
const MESSAGE: &str = "/entry/#/changes/#/value/messages/#";
const STATUS: &str = "/entry/#/changes/#/value/statuses/#";
const PREFERENCE: &str = "/entry/#/changes/#/value/user_preferences/#";

/// The events of a verified webhook.
pub(super) fn events(verified: &Verified, info: &Info, endpoint: &Endpoint) -> Received {
    let mut reader = Reader { verified, info, endpoint, events: Vec::new(), discarded: 0 };
    let body = verified.body();
    // Checked once and whole, which is much quicker than string by string.
    let text = str::from_utf8(body).unwrap_or_default();
    if let Ok(hook) = serde_json::from_str::<Hook<'_, Message<'_>, Status<'_>>>(text) {
        reader.hook(hook, Some, Some);
    } else if let Ok(hook) = serde_json::from_str::<Hook<'_, &RawValue, &RawValue>>(text) {
        reader.hook(hook, |raw| serde_json::from_str(raw.get()).ok(), |raw| serde_json::from_str(raw.get()).ok());
    } else {
        let envelope = reader.envelope(info.account.clone(), verified.arrived(), Raw::whole(body.clone()));
        reader.events.push(Unrecognised::new(envelope, "body").into());
    }
    Received::new(reader.events).with_discarded(reader.discarded)
}

struct Reader<'v> {
    verified: &'v Verified,
    info: &'v Info,
    endpoint: &'v Endpoint,
    events: Vec<Event>,
    discarded: usize,
}

impl<'v> Reader<'v> {
    fn hook<'a, M, S>(
        &mut self,
        hook: Hook<'a, M, S>,
        message: impl Fn(M) -> Option<Message<'a>>,
        status: impl Fn(S) -> Option<Status<'a>>,
    ) {
        let whatsapp = hook.object.as_deref() == Some("whatsapp_business_account");
        for (e, entry) in hook.entry.into_iter().enumerate() {
            for (c, change) in entry.changes.into_iter().enumerate() {
                let value = change.value;
                let number = value.metadata.as_ref().and_then(|metadata| metadata.phone_number_id.as_deref());
                let Some(owner) = number.or(entry.id.as_deref()).filter(|id| self.verified.owns(id)) else {
                    self.discarded += value.count();
                    continue;
                };
                let account =
                    if owner == self.info.account.as_str() { self.info.account.clone() } else { AccountId::new(owner) };
                let at = [e, c, 0];
                let field = change.field.as_deref().unwrap_or_default();
                if !whatsapp {
                    let envelope = self.piece(&account, self.verified.arrived(), VALUE, at);
                    self.events.push(Unrecognised::new(envelope, field).into());
                    continue;
                }
                let count = self.events.len();
                for (n, one) in value.messages.into_iter().enumerate() {
                    let read = message(one);
                    let time =
                        read.as_ref().and_then(|m| seconds(&m.timestamp)).unwrap_or_else(|| self.verified.arrived());
                    let envelope = self.piece(&account, time, MESSAGE, [e, c, n]);
                    let event = match read {
                        Some(read) => inbound(read, &value.contacts, envelope),
                        None => Unrecognised::new(envelope, "messages").into(),
                    };
                    self.events.push(event);
                }
                for (n, one) in value.statuses.into_iter().enumerate() {
                    let read = status(one);
                    let time =
                        read.as_ref().and_then(|s| seconds(&s.timestamp)).unwrap_or_else(|| self.verified.arrived());
                    let envelope = self.piece(&account, time, STATUS, [e, c, n]);
                    let event = match read {
                        Some(read) => self.delivery(read, envelope),
                        None => Unrecognised::new(envelope, "statuses").into(),
                    };
                    self.events.push(event);
                }
                for (n, preference) in value.user_preferences.into_iter().enumerate() {
                    let time = seconds(&preference.timestamp).unwrap_or_else(|| self.verified.arrived());
                    let envelope = self.piece(&account, time, PREFERENCE, [e, c, n]);
                    self.events.push(opt_out(&preference, envelope));
                }
                let time = seconds(&entry.time).unwrap_or_else(|| self.verified.arrived());
                if let Some(error) = value.errors.first() {
                    let mut event = Account::new(self.piece(&account, time, VALUE, at), Topic::Error, &*error.code);
                    event.reason = error.words();
                    self.events.push(event.into());
                }
                if self.events.len() == count {
                    self.events.push(account_event(field, self.piece(&account, time, VALUE, at)));
                }
            }
        }
    }

    fn piece(&self, account: &AccountId, at: Timestamp, pattern: &'static str, place: [usize; 3]) -> Envelope {
        let body: Bytes = self.verified.body().clone();
        self.envelope(account.clone(), at, Raw::at(body, pattern, place))
    }

    fn envelope(&self, account: AccountId, at: Timestamp, raw: Raw) -> Envelope {
        Envelope::new(self.info.gateway, Medium::WhatsApp, account, at, raw)
    }

    fn delivery(&self, status: Status<'_>, envelope: Envelope) -> Event {
        let Some(word) = status.status else { return Unrecognised::new(envelope, "statuses").into() };
        let state = match &*word {
            "sent" => DeliveryState::Sent,
            "delivered" => DeliveryState::Delivered,
            "read" => DeliveryState::Read,
            "played" => DeliveryState::Played,
            "failed" => DeliveryState::Failed,
            _ => DeliveryState::Unrecognised,
        };
        let group = status.recipient_type.as_deref() == Some("group");
        let (phone, user_id) = if group {
            let participant = status.recipient_participant_id.or(status.participant_recipient_id);
            (participant, status.recipient_participant_user_id)
        } else {
            (status.recipient_id.clone(), status.recipient_user_id)
        };
        let conversation = status.recipient_id.filter(|_| group);
        let conversation = conversation.and_then(|id| Address::conversation(Medium::WhatsApp, &id).ok());
        let envelope = envelope.within(conversation);
        let mut delivery = Delivery::new(envelope, status.id.as_deref().unwrap_or_default(), state, word.into_string());
        delivery.of = DeliveryOf::Message {
            id: status.id.map(|id| (&*id).into()),
            key: status.biz_opaque_callback_data.map(Str::into_string),
        };
        delivery.recipient = person(phone.as_deref(), user_id.as_deref());
        delivery.failure = status.errors.first().map(|error| {
            let class = self.endpoint.class(&error.code);
            Failure::new(class.map_or(ErrorKind::Rejected, |class| class.kind))
                .temporary(class.is_some_and(|class| class.retryable))
                .code(&*error.code)
                .detail(error.words())
        });
        delivery.billing = status.pricing.and_then(|pricing| {
            let words = [pricing.kind.or(pricing.pricing_model), pricing.category];
            words.into_iter().flatten().map(Str::into_string).reduce(|a, b| format!("{a}/{b}"))
        });
        delivery.into()
    }
}

fn seconds(time: &Option<Str<'_>>) -> Option<Timestamp> {
    time.as_deref()?.parse().ok().map(Timestamp::from_secs)
}

/// A person, by what Meta gives of them. A user id where a phone number should be is taken for what it is.
fn person(phone: Option<&str>, user_id: Option<&str>) -> Option<Address> {
    let number = phone.and_then(|digits| Phone::from_digits(digits).ok());
    let user_id = user_id.or(phone.filter(|_| number.is_none()));
    let user = WhatsAppUser::new(number.clone(), user_id).or_else(|_| WhatsAppUser::new(number, None));
    user.ok().map(Address::from)
}

fn inbound(message: Message<'_>, contacts: &[Contact<'_>], envelope: Envelope) -> Event {
    let kind = message.kind.as_deref().unwrap_or_default();
    let group = message.group_id.as_deref().and_then(|id| Address::conversation(Medium::WhatsApp, id).ok());
    let envelope = envelope.within(group);
    if let (Some(system), "system") = (&message.system, kind)
        && let Some(event) = address_changed(system, message.from.as_deref(), &envelope)
    {
        return event;
    }
    let from = person(message.from.as_deref(), message.from_user_id.as_deref());
    let content = match kind {
        "edit" => message.edit.as_ref().and_then(|edit| {
            let content = edit.message.as_deref()?;
            let content = content_of(content.kind.as_deref().unwrap_or_default(), content, &envelope)?;
            Some(InboundContent::Edited {
                id: (&**edit.original_message_id.as_ref()?).into(),
                content: Box::new(content),
            })
        }),
        kind => content_of(kind, &message, &envelope),
    };
    let (Some(from), Some(id), Some(content)) = (&from, &message.id, content) else {
        let mut event = Unrecognised::new(envelope, format!("messages.{kind}"));
        event.from = from;
        return event.into();
    };
    let mut inbound = Inbound::new(envelope, &**id, from.clone(), content);
    if let Some(contact) = contacts.iter().find(|contact| contact.is(&message)) {
        let profile = contact.profile.as_ref();
        let text = |text: &Option<Str<'_>>| text.as_ref().map(|text| text.0.to_string());
        inbound.profile = Profile {
            name: profile.and_then(|profile| text(&profile.name)),
            handle: profile
                .and_then(|profile| text(&profile.username))
                .map(|name| name.trim_start_matches('@').to_owned()),
        };
    }
    if let Some(context) = message.context {
        inbound.reply_to = context.id.map(|id| (&*id).into());
        inbound.forwarded = context.forwarded == Some(true) || context.frequently_forwarded == Some(true);
    }
    inbound.into()
}

fn content_of(kind: &str, message: &Message<'_>, envelope: &Envelope) -> Option<InboundContent> {
    let text = |text: &Option<Str<'_>>| text.as_ref().map(|text| text.0.to_string());
    Some(match kind {
        "text" => InboundContent::Text(text(&message.text.as_ref()?.body)?),
        "image" | "video" | "document" | "audio" | "sticker" => {
            let files = [&message.image, &message.video, &message.document, &message.audio, &message.sticker];
            let file = files.into_iter().flatten().next()?;
            InboundContent::Media { text: text(&file.caption), media: vec![file.reference(envelope)?] }
        }
        "location" => {
            let place = message.location.as_ref()?;
            let mut location = Location::new(place.latitude?, place.longitude?);
            (location.name, location.address) = (text(&place.name), text(&place.address));
            InboundContent::Location(location)
        }
        "contacts" => InboundContent::Contacts(message.contacts.iter().map(Card::card).collect()),
        "button" => {
            let button = message.button.as_ref()?;
            let title = text(&button.text).unwrap_or_default();
            InboundContent::Chosen(Chosen { id: text(&button.payload).unwrap_or_else(|| title.clone()), title })
        }
        "interactive" => match &message.interactive {
            Some(Interactive { button_reply: Some(reply), .. } | Interactive { list_reply: Some(reply), .. }) => {
                InboundContent::Chosen(Chosen { id: text(&reply.id)?, title: text(&reply.title).unwrap_or_default() })
            }
            Some(Interactive { nfm_reply: Some(form), .. }) => InboundContent::Form(text(&form.response_json)?),
            Some(other) => InboundContent::Unsupported(text(&other.kind)),
            // Seen in the wild: no object, and an error beside the message.
            None => InboundContent::Unsupported(Some("interactive".to_owned())),
        },
        "reaction" => {
            let reaction = message.reaction.as_ref()?;
            let emoji = text(&reaction.emoji).filter(|emoji| !emoji.is_empty());
            InboundContent::Reaction { to: (&**reaction.message_id.as_ref()?).into(), emoji }
        }
        "order" => InboundContent::Order(message.order?.get().to_owned()),
        "system" => InboundContent::System(text(&message.system.as_ref()?.body)?),
        "revoke" => InboundContent::Withdrawn((&**message.revoke.as_ref()?.original_message_id.as_ref()?).into()),
        "unsupported" | "unknown" => {
            InboundContent::Unsupported(message.unsupported.as_ref().and_then(|unsupported| text(&unsupported.kind)))
        }
        _ => return None,
    })
}

fn address_changed(system: &System<'_>, from: Option<&str>, envelope: &Envelope) -> Option<Event> {
    if !matches!(system.kind.as_deref(), Some("user_changed_number" | "user_changed_user_id")) {
        return None;
    }
    let previous = person(from, system.previous_user_id.as_deref())?;
    let current = person(system.wa_id.as_deref(), system.user_id.as_deref())?;
    Some(AddressChanged::new(envelope.clone(), previous, current).into())
}

fn opt_out(preference: &Preference<'_>, envelope: Envelope) -> Event {
    let from = person(preference.wa_id.as_deref(), preference.user_id.as_deref());
    let marketing = preference.category.as_deref() == Some("marketing_messages");
    match (from, preference.value.as_deref()) {
        (Some(from), Some("stop")) if marketing => OptOut::new(envelope, from, OptOutScope::Marketing).into(),
        (Some(from), Some("resume")) if marketing => {
            OptOut::new(envelope, from, OptOutScope::Marketing).resumed().into()
        }
        (from, _) => {
            let mut event = Unrecognised::new(envelope, "user_preferences");
            event.from = from;
            event.into()
        }
    }
}

/// An event of the account: whatever Meta calls it, its raw piece is kept.
fn account_event(field: &str, envelope: Envelope) -> Event {
    let piece = envelope.raw.cut();
    let Ok(value) = serde_json::from_slice::<AccountValue<'_>>(&piece) else {
        return Unrecognised::new(envelope, field).into();
    };
    let (topic, state, reason) = match field {
        "message_template_status_update" => (Topic::Template, value.event, value.reason),
        "template_category_update" => (Topic::Template, value.new_category, value.previous_category),
        "message_template_quality_update" => (Topic::Quality, value.new_quality_score, value.previous_quality_score),
        "phone_number_quality_update" => (Topic::Quality, value.event, value.max_daily_conversations_per_business),
        "business_capability_update" => {
            (Topic::Limit, value.max_daily_conversations_per_business.or(value.max_daily_conversation_per_phone), None)
        }
        "account_update" | "account_alerts" => (Topic::Restriction, value.event.or(value.alert_type), value.ban_state),
        "security" => (Topic::Access, value.event, None),
        _ => return Unrecognised::new(envelope, field).into(),
    };
    let Some(state) = state else { return Unrecognised::new(envelope, field).into() };
    let mut account = Account::new(envelope, topic, state.into_string());
    account.name = value.message_template_name.map(Str::into_string);
    account.reason = reason.map(Str::into_string);
    account.into()
}

#[derive(Deserialize)]
struct AccountValue<'a> {
    #[serde(borrow, default)]
    event: Option<Str<'a>>,
    #[serde(borrow, default)]
    alert_type: Option<Str<'a>>,
    #[serde(borrow, default)]
    ban_state: Option<Str<'a>>,
    #[serde(borrow, default)]
    reason: Option<Str<'a>>,
    #[serde(borrow, default)]
    message_template_name: Option<Str<'a>>,
    #[serde(borrow, default)]
    new_category: Option<Str<'a>>,
    #[serde(borrow, default)]
    previous_category: Option<Str<'a>>,
    #[serde(borrow, default)]
    new_quality_score: Option<Str<'a>>,
    #[serde(borrow, default)]
    previous_quality_score: Option<Str<'a>>,
    #[serde(borrow, default)]
    max_daily_conversations_per_business: Option<Str<'a>>,
    #[serde(borrow, default)]
    max_daily_conversation_per_phone: Option<Str<'a>>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "M: Deserialize<'de>, S: Deserialize<'de>"))]
struct Hook<'a, M, S> {
    #[serde(borrow, default)]
    object: Option<Str<'a>>,
    #[serde(borrow)]
    entry: Vec<Entry<'a, M, S>>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "M: Deserialize<'de>, S: Deserialize<'de>"))]
struct Entry<'a, M, S> {
    #[serde(borrow, default)]
    id: Option<Str<'a>>,
    #[serde(borrow, default)]
    time: Option<Str<'a>>,
    #[serde(borrow = "'a", default = "Vec::new")]
    changes: Vec<Change<'a, M, S>>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "M: Deserialize<'de>, S: Deserialize<'de>"))]
struct Change<'a, M, S> {
    #[serde(borrow, default)]
    field: Option<Str<'a>>,
    #[serde(borrow = "'a")]
    value: Value<'a, M, S>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "M: Deserialize<'de>, S: Deserialize<'de>"))]
struct Value<'a, M, S> {
    #[serde(borrow, default)]
    metadata: Option<Metadata<'a>>,
    #[serde(borrow, default)]
    contacts: Vec<Contact<'a>>,
    #[serde(default = "Vec::new")]
    messages: Vec<M>,
    #[serde(default = "Vec::new")]
    statuses: Vec<S>,
    #[serde(borrow, default)]
    errors: Vec<WireError<'a>>,
    #[serde(borrow, default)]
    user_preferences: Vec<Preference<'a>>,
}

impl<M, S> Value<'_, M, S> {
    fn count(&self) -> usize {
        (self.messages.len() + self.statuses.len() + self.user_preferences.len() + self.errors.len().min(1)).max(1)
    }
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, default)]
    phone_number_id: Option<Str<'a>>,
}

#[derive(Deserialize)]
struct Contact<'a> {
    #[serde(borrow, default)]
    wa_id: Option<Str<'a>>,
    #[serde(borrow, default)]
    user_id: Option<Str<'a>>,
    #[serde(borrow, default)]
    profile: Option<ProfileWire<'a>>,
}

impl Contact<'_> {
    /// Contacts and messages do not reliably stand in one order: they belong together by id.
    fn is(&self, message: &Message<'_>) -> bool {
        let same = |a: &Option<Str<'_>>, b: &Option<Str<'_>>| a.is_some() && a == b;
        same(&self.user_id, &message.from_user_id) || same(&self.wa_id, &message.from)
    }
}

#[derive(Deserialize)]
struct ProfileWire<'a> {
    #[serde(borrow, default)]
    name: Option<Str<'a>>,
    #[serde(borrow, default)]
    username: Option<Str<'a>>,
}

#[derive(Deserialize)]
struct WireError<'a> {
    #[serde(borrow)]
    code: Str<'a>,
    #[serde(borrow, default)]
    title: Option<Str<'a>>,
    #[serde(borrow, default)]
    message: Option<Str<'a>>,
    #[serde(borrow, default)]
    error_data: Option<&'a RawValue>,
}

impl WireError<'_> {
    fn words(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Details<'a> {
            #[serde(borrow)]
            details: Cow<'a, str>,
        }
        let data = self.error_data.map(RawValue::get);
        let details = data.and_then(|data| Some(serde_json::from_str::<Details<'_>>(data).ok()?.details.into_owned()));
        let bare = || data.and_then(|data| serde_json::from_str::<String>(data).ok());
        let title = || self.title.as_ref().or(self.message.as_ref()).map(|title| title.0.to_string());
        details.or_else(bare).or_else(title)
    }
}

#[derive(Deserialize)]
struct Preference<'a> {
    #[serde(borrow, default)]
    wa_id: Option<Str<'a>>,
    #[serde(borrow, default)]
    user_id: Option<Str<'a>>,
    #[serde(borrow, default)]
    category: Option<Str<'a>>,
    #[serde(borrow, default)]
    value: Option<Str<'a>>,
    #[serde(borrow, default)]
    timestamp: Option<Str<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    id: Option<Str<'a>>,
    #[serde(borrow, default)]
    timestamp: Option<Str<'a>>,
    #[serde(borrow, default)]
    from: Option<Str<'a>>,
    #[serde(borrow, default)]
    from_user_id: Option<Str<'a>>,
    #[serde(borrow, default)]
    group_id: Option<Str<'a>>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<Str<'a>>,
    #[serde(borrow, default)]
    context: Option<Context<'a>>,
    #[serde(borrow, default)]
    text: Option<Text<'a>>,
    #[serde(borrow, default)]
    image: Option<File<'a>>,
    #[serde(borrow, default)]
    video: Option<File<'a>>,
    #[serde(borrow, default)]
    document: Option<File<'a>>,
    #[serde(borrow, default)]
    audio: Option<File<'a>>,
    #[serde(borrow, default)]
    sticker: Option<File<'a>>,
    #[serde(borrow, default)]
    location: Option<Place<'a>>,
    #[serde(borrow, default)]
    contacts: Vec<Card<'a>>,
    #[serde(borrow, default)]
    interactive: Option<Interactive<'a>>,
    #[serde(borrow, default)]
    button: Option<Button<'a>>,
    #[serde(borrow, default)]
    reaction: Option<ReactionWire<'a>>,
    #[serde(borrow, default)]
    order: Option<&'a RawValue>,
    #[serde(borrow, default)]
    system: Option<System<'a>>,
    #[serde(borrow, default)]
    edit: Option<Edit<'a>>,
    #[serde(borrow, default)]
    revoke: Option<Revoke<'a>>,
    #[serde(borrow, default)]
    unsupported: Option<UnsupportedWire<'a>>,
}

#[derive(Deserialize)]
struct Context<'a> {
    #[serde(borrow, default)]
    id: Option<Str<'a>>,
    #[serde(default)]
    forwarded: Option<bool>,
    #[serde(default)]
    frequently_forwarded: Option<bool>,
}

#[derive(Deserialize)]
struct Text<'a> {
    #[serde(borrow, default)]
    body: Option<Str<'a>>,
}

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow, default)]
    id: Option<Str<'a>>,
    #[serde(borrow, default)]
    mime_type: Option<Str<'a>>,
    #[serde(borrow, default)]
    sha256: Option<Str<'a>>,
    #[serde(borrow, default)]
    url: Option<Str<'a>>,
    #[serde(borrow, default)]
    caption: Option<Str<'a>>,
    #[serde(borrow, default)]
    filename: Option<Str<'a>>,
}

impl File<'_> {
    fn reference(&self, envelope: &Envelope) -> Option<MediaRef> {
        let text = |text: &Option<Str<'_>>| text.as_ref().map(|text| text.0.to_string());
        let mut media = MediaRef::new(envelope.gateway.clone(), text(&self.id)?);
        media.url = text(&self.url);
        media.mime = text(&self.mime_type);
        media.sha256 = self.sha256.as_deref().and_then(|hash| hash.parse().ok());
        media.filename = text(&self.filename);
        media.expires = Some(envelope.at.plus(RECEIVED_KEPT));
        Some(media)
    }
}

/// How long Meta keeps a file that a resident sent.
const RECEIVED_KEPT: std::time::Duration = std::time::Duration::from_secs(7 * 24 * 3600);

#[derive(Deserialize)]
struct Place<'a> {
    #[serde(default)]
    latitude: Option<f64>,
    #[serde(default)]
    longitude: Option<f64>,
    #[serde(borrow, default)]
    name: Option<Str<'a>>,
    #[serde(borrow, default)]
    address: Option<Str<'a>>,
}

#[derive(Deserialize)]
struct Card<'a> {
    #[serde(borrow, default)]
    name: Option<CardName<'a>>,
    #[serde(borrow, default)]
    org: Option<CardOrg<'a>>,
    #[serde(borrow, default)]
    phones: Vec<CardPhone<'a>>,
    #[serde(borrow, default)]
    emails: Vec<CardEmail<'a>>,
    #[serde(borrow, default)]
    urls: Vec<CardUrl<'a>>,
}

impl Card<'_> {
    fn card(&self) -> ContactCard {
        let text = |text: &Option<Str<'_>>| text.as_ref().map(|text| text.0.to_string());
        let labelled = |value: &Option<Str<'_>>, label: &Option<Str<'_>>| {
            Some(Labelled { value: text(value)?, label: text(label) })
        };
        let mut card =
            ContactCard::new(self.name.as_ref().and_then(|name| text(&name.formatted_name)).unwrap_or_default());
        card.first_name = self.name.as_ref().and_then(|name| text(&name.first_name));
        card.organisation = self.org.as_ref().and_then(|org| text(&org.company));
        card.phones = self.phones.iter().filter_map(|phone| labelled(&phone.phone, &phone.kind)).collect();
        card.emails = self.emails.iter().filter_map(|email| labelled(&email.email, &email.kind)).collect();
        card.urls = self.urls.iter().filter_map(|url| labelled(&url.url, &url.kind)).collect();
        card
    }
}

#[derive(Deserialize)]
struct CardName<'a> {
    #[serde(borrow, default)]
    formatted_name: Option<Str<'a>>,
    #[serde(borrow, default)]
    first_name: Option<Str<'a>>,
}

#[derive(Deserialize)]
struct CardOrg<'a> {
    #[serde(borrow, default)]
    company: Option<Str<'a>>,
}

#[derive(Deserialize)]
struct CardPhone<'a> {
    #[serde(borrow, default)]
    phone: Option<Str<'a>>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<Str<'a>>,
}

#[derive(Deserialize)]
struct CardEmail<'a> {
    #[serde(borrow, default)]
    email: Option<Str<'a>>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<Str<'a>>,
}

#[derive(Deserialize)]
struct CardUrl<'a> {
    #[serde(borrow, default)]
    url: Option<Str<'a>>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<Str<'a>>,
}

#[derive(Deserialize)]
struct Interactive<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Str<'a>>,
    #[serde(borrow, default)]
    button_reply: Option<ChosenWire<'a>>,
    #[serde(borrow, default)]
    list_reply: Option<ChosenWire<'a>>,
    #[serde(borrow, default)]
    nfm_reply: Option<Form<'a>>,
}

#[derive(Deserialize)]
struct ChosenWire<'a> {
    #[serde(borrow, default)]
    id: Option<Str<'a>>,
    #[serde(borrow, default)]
    title: Option<Str<'a>>,
}

#[derive(Deserialize)]
struct Form<'a> {
    #[serde(borrow, default)]
    response_json: Option<Str<'a>>,
}

#[derive(Deserialize)]
struct Button<'a> {
    #[serde(borrow, default)]
    payload: Option<Str<'a>>,
    #[serde(borrow, default)]
    text: Option<Str<'a>>,
}

#[derive(Deserialize)]
struct ReactionWire<'a> {
    #[serde(borrow, default)]
    message_id: Option<Str<'a>>,
    #[serde(borrow, default)]
    emoji: Option<Str<'a>>,
}

#[derive(Deserialize)]
struct System<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Str<'a>>,
    #[serde(borrow, default)]
    body: Option<Str<'a>>,
    #[serde(borrow, default)]
    wa_id: Option<Str<'a>>,
    #[serde(borrow, default)]
    user_id: Option<Str<'a>>,
    #[serde(borrow, default)]
    previous_user_id: Option<Str<'a>>,
}

#[derive(Deserialize)]
struct Edit<'a> {
    #[serde(borrow, default)]
    original_message_id: Option<Str<'a>>,
    #[serde(borrow, default)]
    message: Option<Box<Message<'a>>>,
}

#[derive(Deserialize)]
struct Revoke<'a> {
    #[serde(borrow, default)]
    original_message_id: Option<Str<'a>>,
}

#[derive(Deserialize)]
struct UnsupportedWire<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Str<'a>>,
}

#[derive(Deserialize)]
struct Status<'a> {
    #[serde(borrow, default)]
    id: Option<Str<'a>>,
    #[serde(borrow, default)]
    status: Option<Str<'a>>,
    #[serde(borrow, default)]
    timestamp: Option<Str<'a>>,
    #[serde(borrow, default)]
    recipient_id: Option<Str<'a>>,
    #[serde(borrow, default)]
    recipient_user_id: Option<Str<'a>>,
    #[serde(borrow, default)]
    recipient_type: Option<Str<'a>>,
    #[serde(borrow, default)]
    recipient_participant_id: Option<Str<'a>>,
    #[serde(borrow, default)]
    participant_recipient_id: Option<Str<'a>>,
    #[serde(borrow, default)]
    recipient_participant_user_id: Option<Str<'a>>,
    #[serde(borrow, default)]
    biz_opaque_callback_data: Option<Str<'a>>,
    #[serde(borrow, default)]
    pricing: Option<Pricing<'a>>,
    #[serde(borrow, default)]
    errors: Vec<WireError<'a>>,
}

#[derive(Deserialize)]
struct Pricing<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Str<'a>>,
    #[serde(borrow, default)]
    pricing_model: Option<Str<'a>>,
    #[serde(borrow, default)]
    category: Option<Str<'a>>,
}
