//! Meta's webhooks as events.
//!
//! A body is read in one pass. Only when something in it is not of the expected form is it read again piece by
//! piece, so that one strange message costs that message and not the thousand around it.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
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
use crate::wire::{MaybeStr, Str};

const ENTRY: &str = "/entry/#";
const VALUE: &str = "/entry/#/changes/#/value";
const MESSAGE: &str = "/entry/#/changes/#/value/messages/#";
const STATUS: &str = "/entry/#/changes/#/value/statuses/#";
const PREFERENCE: &str = "/entry/#/changes/#/value/user_preferences/#";

/// The events of a verified webhook.
pub(super) fn events(verified: &Verified, info: &Info, endpoint: &Endpoint) -> Received {
    let mut reader = Reader { verified, info, endpoint, events: Vec::new(), discarded: 0 };
    let body = verified.body();
    // Checked once and whole, which is much quicker than string by string.
    let text = str::from_utf8(body).map_or_else(|_| String::from_utf8_lossy(body), Cow::Borrowed);
    if let Ok(hook) = serde_json::from_str::<Hook<'_, Message<'_>, Status<'_>>>(&text) {
        reader.hook(&hook, |message| Some(message), |status| Some(status));
    } else if let Ok(hook) = serde_json::from_str::<Hook<'_, Strange<Message<'_>>, Strange<Status<'_>>>>(&text) {
        reader.hook(&hook, |message| message.0.as_ref(), |status| status.0.as_ref());
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
        hook: &Hook<'a, M, S>,
        message: impl Fn(&M) -> Option<&Message<'a>>,
        status: impl Fn(&S) -> Option<&Status<'a>>,
    ) {
        let whatsapp = hook.object.as_deref() == Some("whatsapp_business_account");
        let values = hook.entry.iter().flat_map(|entry| &entry.changes).map(|change| &change.value);
        self.events = Vec::with_capacity(values.map(Value::count).sum());
        for (e, entry) in hook.entry.iter().enumerate() {
            if entry.changes.is_empty() {
                // Of another product of the same app, such as Messenger, or of a form that is not known.
                match entry.id.as_deref().filter(|id| self.verified.owns(id)) {
                    Some(id) => {
                        let envelope = self.piece(&AccountId::new(id), self.verified.arrived(), ENTRY, [e, 0, 0]);
                        self.events.push(Unrecognised::new(envelope, "entry").into());
                    }
                    None => self.discarded += 1,
                }
            }
            for (c, change) in entry.changes.iter().enumerate() {
                let value = &change.value;
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
                for (n, one) in value.messages.iter().enumerate() {
                    let read = message(one);
                    let time = read.and_then(|m| seconds(&m.timestamp)).unwrap_or_else(|| self.verified.arrived());
                    let envelope = self.piece(&account, time, MESSAGE, [e, c, n]);
                    let event = match read {
                        Some(read) => inbound(read, &value.contacts, envelope),
                        None => Unrecognised::new(envelope, "messages").into(),
                    };
                    self.events.push(event);
                }
                for (n, one) in value.statuses.iter().enumerate() {
                    let read = status(one);
                    let time = read.and_then(|s| seconds(&s.timestamp)).unwrap_or_else(|| self.verified.arrived());
                    let envelope = self.piece(&account, time, STATUS, [e, c, n]);
                    let event = match read {
                        Some(read) => self.delivery(read, envelope),
                        None => Unrecognised::new(envelope, "statuses").into(),
                    };
                    self.events.push(event);
                }
                for (n, preference) in value.user_preferences.iter().enumerate() {
                    let time = seconds(&preference.timestamp).unwrap_or_else(|| self.verified.arrived());
                    let envelope = self.piece(&account, time, PREFERENCE, [e, c, n]);
                    self.events.push(opt_out(preference, envelope));
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

    fn delivery(&self, status: &Status<'_>, envelope: Envelope) -> Event {
        let Some(word) = status.status.as_deref() else { return Unrecognised::new(envelope, "statuses").into() };
        let state = match word {
            "sent" => DeliveryState::Sent,
            "delivered" => DeliveryState::Delivered,
            "read" => DeliveryState::Read,
            "played" => DeliveryState::Played,
            "failed" => DeliveryState::Failed,
            _ => DeliveryState::Unrecognised,
        };
        let group = status.recipient_type.as_deref() == Some("group");
        let (phone, user_id) = if group {
            let participant = status.recipient_participant_id.as_ref().or(status.participant_recipient_id.as_ref());
            (participant, &status.recipient_participant_user_id)
        } else {
            (status.recipient_id.as_ref(), &status.recipient_user_id)
        };
        let conversation = status.recipient_id.as_deref().filter(|_| group);
        let conversation = conversation.and_then(|id| Address::conversation(Medium::WhatsApp, id).ok());
        let envelope = envelope.within(conversation);
        let of = DeliveryOf::Message {
            id: status.id.as_deref().map(Into::into),
            key: status.biz_opaque_callback_data.as_deref().map(Into::into),
        };
        let mut delivery = Delivery::new(envelope, "", state, word);
        delivery.of = of;
        delivery.recipient = person(phone.map(|phone| &**phone), user_id.as_deref());
        delivery.failure = status.errors.first().map(|error| {
            let class = self.endpoint.class(&error.code);
            Failure::new(class.map_or(ErrorKind::Rejected, |class| class.kind))
                .temporary(class.is_some_and(|class| class.retryable))
                .code(&*error.code)
                .detail(error.words())
        });
        delivery.billing = status.pricing.as_ref().and_then(|pricing| {
            match (pricing.kind.as_deref().or(pricing.pricing_model.as_deref()), pricing.category.as_deref()) {
                (Some(kind), Some(category)) => Some([kind, "/", category].concat()),
                (one, other) => one.or(other).map(str::to_owned),
            }
        });
        delivery.into()
    }
}

fn seconds(time: &Option<Str<'_>>) -> Option<Timestamp> {
    time.as_deref()?.parse().ok().map(Timestamp::from_secs)
}

/// A person, by what Meta gives of them. A user id where a phone number should be is taken for what it is.
fn person(phone: Option<&str>, user_id: Option<&str>) -> Option<Address> {
    let number = || phone.and_then(|digits| Phone::from_digits(digits).ok());
    let known = number();
    let user_id = user_id.or(phone.filter(|_| known.is_none()));
    let user = WhatsAppUser::new(known, user_id).or_else(|_| WhatsAppUser::new(number(), None));
    user.ok().map(Address::from)
}

fn inbound(message: &Message<'_>, contacts: &[Contact<'_>], envelope: Envelope) -> Event {
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
        kind => content_of(kind, message, &envelope),
    };
    let (from, id, content) = match (from, message.id.as_deref(), content) {
        (Some(from), Some(id), Some(content)) => (from, id, content),
        (from, ..) => {
            let mut event = Unrecognised::new(envelope, format!("messages.{kind}"));
            event.from = from;
            return event.into();
        }
    };
    let mut inbound = Inbound::new(envelope, id, from, content);
    if let Some(contact) = contacts.iter().find(|contact| contact.is(message)) {
        let profile = contact.profile.as_ref();
        let text = |text: &Option<Str<'_>>| text.as_ref().map(|text| text.0.to_string());
        inbound.profile = Profile {
            name: profile.and_then(|profile| text(&profile.name)),
            handle: profile
                .and_then(|profile| text(&profile.username))
                .map(|name| name.trim_start_matches('@').to_owned()),
        };
    }
    if let Some(context) = &message.context {
        inbound.reply_to = context.id.as_deref().map(Into::into);
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
        "interactive" => match message.interactive.as_deref() {
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

/// A piece that is nothing if it cannot be read, so that the others are.
struct Strange<T>(Option<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Strange<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Ok(Self(serde_json::from_str(raw.get()).ok()))
    }
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "M: Deserialize<'de>, S: Deserialize<'de>"))]
struct Hook<'a, M, S> {
    #[serde(borrow, default)]
    object: MaybeStr<'a>,
    #[serde(borrow)]
    entry: Vec<Entry<'a, M, S>>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "M: Deserialize<'de>, S: Deserialize<'de>"))]
struct Entry<'a, M, S> {
    #[serde(borrow, default)]
    id: MaybeStr<'a>,
    #[serde(borrow, default)]
    time: MaybeStr<'a>,
    #[serde(borrow = "'a", default = "Vec::new")]
    changes: Vec<Change<'a, M, S>>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "M: Deserialize<'de>, S: Deserialize<'de>"))]
struct Change<'a, M, S> {
    #[serde(borrow, default)]
    field: MaybeStr<'a>,
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
    phone_number_id: MaybeStr<'a>,
}

#[derive(Deserialize)]
struct Contact<'a> {
    #[serde(borrow, default)]
    wa_id: MaybeStr<'a>,
    #[serde(borrow, default)]
    user_id: MaybeStr<'a>,
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
    name: MaybeStr<'a>,
    #[serde(borrow, default)]
    username: MaybeStr<'a>,
}

#[derive(Deserialize)]
struct WireError<'a> {
    #[serde(borrow)]
    code: Str<'a>,
    #[serde(borrow, default)]
    title: MaybeStr<'a>,
    #[serde(borrow, default)]
    message: MaybeStr<'a>,
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
    wa_id: MaybeStr<'a>,
    #[serde(borrow, default)]
    user_id: MaybeStr<'a>,
    #[serde(borrow, default)]
    category: MaybeStr<'a>,
    #[serde(borrow, default)]
    value: MaybeStr<'a>,
    #[serde(borrow, default)]
    timestamp: MaybeStr<'a>,
}

/// What only some messages have is boxed: a message is moved about, and most of them are texts.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    id: MaybeStr<'a>,
    #[serde(borrow, default)]
    timestamp: MaybeStr<'a>,
    #[serde(borrow, default)]
    from: MaybeStr<'a>,
    #[serde(borrow, default)]
    from_user_id: MaybeStr<'a>,
    #[serde(borrow, default)]
    group_id: MaybeStr<'a>,
    #[serde(borrow, default, rename = "type")]
    kind: MaybeStr<'a>,
    #[serde(borrow, default)]
    context: Option<Context<'a>>,
    #[serde(borrow, default)]
    text: Option<Text<'a>>,
    #[serde(borrow, default)]
    image: Option<Box<File<'a>>>,
    #[serde(borrow, default)]
    video: Option<Box<File<'a>>>,
    #[serde(borrow, default)]
    document: Option<Box<File<'a>>>,
    #[serde(borrow, default)]
    audio: Option<Box<File<'a>>>,
    #[serde(borrow, default)]
    sticker: Option<Box<File<'a>>>,
    #[serde(borrow, default)]
    location: Option<Box<Place<'a>>>,
    #[serde(borrow, default)]
    contacts: Vec<Card<'a>>,
    #[serde(borrow, default)]
    interactive: Option<Box<Interactive<'a>>>,
    #[serde(borrow, default)]
    button: Option<Box<Button<'a>>>,
    #[serde(borrow, default)]
    reaction: Option<Box<ReactionWire<'a>>>,
    #[serde(borrow, default)]
    order: Option<&'a RawValue>,
    #[serde(borrow, default)]
    system: Option<Box<System<'a>>>,
    #[serde(borrow, default)]
    edit: Option<Box<Edit<'a>>>,
    #[serde(borrow, default)]
    revoke: Option<Box<Revoke<'a>>>,
    #[serde(borrow, default)]
    unsupported: Option<Box<UnsupportedWire<'a>>>,
}

#[derive(Deserialize)]
struct Context<'a> {
    #[serde(borrow, default)]
    id: MaybeStr<'a>,
    #[serde(default)]
    forwarded: Option<bool>,
    #[serde(default)]
    frequently_forwarded: Option<bool>,
}

#[derive(Deserialize)]
struct Text<'a> {
    #[serde(borrow, default)]
    body: MaybeStr<'a>,
}

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow, default)]
    id: MaybeStr<'a>,
    #[serde(borrow, default)]
    mime_type: MaybeStr<'a>,
    #[serde(borrow, default)]
    sha256: MaybeStr<'a>,
    #[serde(borrow, default)]
    url: MaybeStr<'a>,
    #[serde(borrow, default)]
    caption: MaybeStr<'a>,
    #[serde(borrow, default)]
    filename: MaybeStr<'a>,
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
    name: MaybeStr<'a>,
    #[serde(borrow, default)]
    address: MaybeStr<'a>,
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
    formatted_name: MaybeStr<'a>,
    #[serde(borrow, default)]
    first_name: MaybeStr<'a>,
}

#[derive(Deserialize)]
struct CardOrg<'a> {
    #[serde(borrow, default)]
    company: MaybeStr<'a>,
}

#[derive(Deserialize)]
struct CardPhone<'a> {
    #[serde(borrow, default)]
    phone: MaybeStr<'a>,
    #[serde(borrow, default, rename = "type")]
    kind: MaybeStr<'a>,
}

#[derive(Deserialize)]
struct CardEmail<'a> {
    #[serde(borrow, default)]
    email: MaybeStr<'a>,
    #[serde(borrow, default, rename = "type")]
    kind: MaybeStr<'a>,
}

#[derive(Deserialize)]
struct CardUrl<'a> {
    #[serde(borrow, default)]
    url: MaybeStr<'a>,
    #[serde(borrow, default, rename = "type")]
    kind: MaybeStr<'a>,
}

#[derive(Deserialize)]
struct Interactive<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: MaybeStr<'a>,
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
    id: MaybeStr<'a>,
    #[serde(borrow, default)]
    title: MaybeStr<'a>,
}

#[derive(Deserialize)]
struct Form<'a> {
    #[serde(borrow, default)]
    response_json: MaybeStr<'a>,
}

#[derive(Deserialize)]
struct Button<'a> {
    #[serde(borrow, default)]
    payload: MaybeStr<'a>,
    #[serde(borrow, default)]
    text: MaybeStr<'a>,
}

#[derive(Deserialize)]
struct ReactionWire<'a> {
    #[serde(borrow, default)]
    message_id: MaybeStr<'a>,
    #[serde(borrow, default)]
    emoji: MaybeStr<'a>,
}

#[derive(Deserialize)]
struct System<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: MaybeStr<'a>,
    #[serde(borrow, default)]
    body: MaybeStr<'a>,
    #[serde(borrow, default)]
    wa_id: MaybeStr<'a>,
    #[serde(borrow, default)]
    user_id: MaybeStr<'a>,
    #[serde(borrow, default)]
    previous_user_id: MaybeStr<'a>,
}

#[derive(Deserialize)]
struct Edit<'a> {
    #[serde(borrow, default)]
    original_message_id: MaybeStr<'a>,
    #[serde(borrow, default)]
    message: Option<Box<Message<'a>>>,
}

#[derive(Deserialize)]
struct Revoke<'a> {
    #[serde(borrow, default)]
    original_message_id: MaybeStr<'a>,
}

#[derive(Deserialize)]
struct UnsupportedWire<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: MaybeStr<'a>,
}

#[derive(Deserialize)]
struct Status<'a> {
    #[serde(borrow, default)]
    id: MaybeStr<'a>,
    #[serde(borrow, default)]
    status: MaybeStr<'a>,
    #[serde(borrow, default)]
    timestamp: MaybeStr<'a>,
    #[serde(borrow, default)]
    recipient_id: MaybeStr<'a>,
    #[serde(borrow, default)]
    recipient_user_id: MaybeStr<'a>,
    #[serde(borrow, default)]
    recipient_type: MaybeStr<'a>,
    #[serde(borrow, default)]
    recipient_participant_id: MaybeStr<'a>,
    #[serde(borrow, default)]
    participant_recipient_id: MaybeStr<'a>,
    #[serde(borrow, default)]
    recipient_participant_user_id: MaybeStr<'a>,
    #[serde(borrow, default)]
    biz_opaque_callback_data: MaybeStr<'a>,
    #[serde(borrow, default)]
    pricing: Option<Pricing<'a>>,
    #[serde(borrow, default)]
    errors: Vec<WireError<'a>>,
}

#[derive(Deserialize)]
struct Pricing<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: MaybeStr<'a>,
    #[serde(borrow, default)]
    pricing_model: MaybeStr<'a>,
    #[serde(borrow, default)]
    category: MaybeStr<'a>,
}
