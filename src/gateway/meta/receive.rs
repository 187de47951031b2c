//! WhatsApp's webhooks as events.
//!
//! A body is read in one pass, in which nothing but the messages and statuses is cut out as it stands. What is cut out is
//! read by itself. So neither a strange message nor a strange value around it costs a message beside it.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::time::Duration;

use super::account::account_event;
use super::wire::{Card, Change, Contact, Edit, Entry, Fault, File, Hook, Message, Preference, Status, System, Value};
use crate::adapter::json::{self, Json, List, Occurrences, Piece, Text};
use crate::adapter::{Collector, Owner, lenient};
use crate::address::{Address, Medium, Phone, WhatsAppUser};
use crate::clock::Timestamp;
use crate::endpoint::Endpoint;
use crate::error::ErrorKind;
use crate::event::{
    Account, AddressChanged, Chosen, Delivery, DeliveryOf, DeliveryState, Envelope, Failure, Inbound, InboundContent,
    OptOut, OptOutScope, Profile, Raw, Referral, Topic,
};
use crate::message::{ContactCard, Labelled, Location, MediaRef};
use crate::webhook::Verified;

/// Collects the events of a verified webhook.
pub(super) fn events(webhook: &Verified, endpoint: &Endpoint, events: &mut Collector<'_>) {
    let json = Json::new(webhook.body());
    let Some(hook) = json.read::<Hook<'_>>() else {
        // It names no account that could be read, so that it may be anybody's.
        events.owner(None, 1);
        return;
    };
    let mut reader = Reader { json: &json, endpoint, events, outline: OnceCell::new() };
    reader.hook(&hook);
}

/// The product of Meta's that a webhook is of, if a name of one stands there.
pub(super) fn product<'t>(object: &'t Text<'_>) -> Option<&'t str> {
    object.some().filter(|object| object.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
}

struct Reader<'r, 'w> {
    json: &'r Json<'r>,
    endpoint: &'r Endpoint,
    events: &'r mut Collector<'w>,
    /// Every entry, and in it every value, as they stand: cut out when the first of them is needed.
    outline: OnceCell<Vec<Outlined<'r>>>,
}

struct Outlined<'r> {
    entry: &'r str,
    values: Vec<Vec<&'r str>>,
}

/// Where a message stands: who may answer it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Live,
    /// Typed in the phone app of the number, by us.
    Echo,
    History,
    /// Of a conversation that another program holds, or in a field that is not known.
    Standby,
}

impl<'r> Reader<'r, '_> {
    fn hook(&mut self, hook: &Hook<'_>) {
        // An object that cannot be read is taken for ours: the accounts in it say more.
        let whatsapp = product(&hook.object).is_none_or(|object| object == "whatsapp_business_account");
        let values = hook.entry.iter().flat_map(|entry| entry.changes.iter()).flat_map(|change| &change.value.0);
        self.events.reserve(values.map(Value::count).sum());
        if hook.entry.is_empty() {
            self.events.owner(None, 1);
        }
        for (e, entry) in hook.entry.iter().enumerate() {
            if entry.changes.is_empty()
                && let Some(owner) = self.events.owner(entry.id.as_deref(), 1)
            {
                // Of another product of the same app, such as Messenger, or of a form that is not known.
                let piece = self.outlined(e).map_or("", |outlined| outlined.entry);
                let envelope = self.envelope(&owner, piece, &entry.time);
                self.events.unrecognised(envelope, "entry", None);
            }
            for (c, change) in entry.changes.iter().enumerate() {
                for (v, value) in change.value.0.iter().enumerate() {
                    let number = value.metadata.as_ref().and_then(|metadata| metadata.phone_number_id.as_deref());
                    let number = number.or(entry.id.as_deref());
                    let Some(owner) = self.events.owner(number, value.count()) else { continue };
                    match whatsapp {
                        true => self.value(value, &owner, entry, change, [e, c, v]),
                        false => self.whole(&owner, entry, change, [e, c, v]),
                    }
                }
                if change.value.0.is_empty()
                    && let Some(owner) = self.events.owner(entry.id.as_deref(), 1)
                {
                    let piece = self.outlined(e).map_or("", |outlined| outlined.entry);
                    let envelope = self.envelope(&owner, piece, &entry.time);
                    self.events.unrecognised(envelope, change.field.some().unwrap_or("changes"), None);
                }
            }
        }
    }

    fn value(&mut self, value: &Value<'_>, owner: &Owner, entry: &Entry<'_>, change: &Change<'_>, at: [usize; 3]) {
        let before = self.events.len();
        let field = change.field.some().unwrap_or("messages");
        let source = match field {
            "messages" => Source::Live,
            "history" => Source::History,
            _ => Source::Standby,
        };
        let people = People::new(&value.contacts);
        if field == "calls" {
            for piece in value.messages.iter().chain(value.statuses.iter()) {
                self.unrecognised(owner, piece, field);
            }
        } else {
            for piece in value.messages.iter() {
                self.message(owner, piece, source, &people, None);
            }
            for piece in value.message_echoes.iter() {
                self.message(owner, piece, Source::Echo, &people, None);
            }
            for thread in value.history.iter().flat_map(|history| history.threads.iter()) {
                for piece in thread.messages.iter() {
                    self.message(owner, piece, Source::History, &people, thread.id.some());
                }
            }
            for piece in value.statuses.iter() {
                self.status(owner, piece);
            }
        }
        for piece in value.user_preferences.iter() {
            self.preference(owner, piece);
        }
        // The errors of a flow or an account are a part of what is told there.
        if field == "messages" || self.events.len() > before {
            for piece in value.errors.iter() {
                self.fault(owner, piece, &entry.time);
            }
        }
        if self.events.len() == before {
            let piece = self.piece(at);
            let envelope = self.envelope(owner, piece, &entry.time);
            self.events.push(account_event(field, piece, envelope));
        } else if value.is_odd() {
            self.whole(owner, entry, change, at);
        }
    }

    fn message(&mut self, owner: &Owner, piece: &Piece<'_>, source: Source, people: &People<'_>, thread: Option<&str>) {
        let message: Message<'_> = json::read(piece.get()).unwrap_or_default();
        let envelope = self.envelope(owner, piece.get(), &message.timestamp);
        let envelope = match message.group_id.some() {
            Some(id) => envelope.within(Address::conversation(Medium::WhatsApp, id).ok()),
            None => envelope,
        };
        let kind = message.kind.as_deref().unwrap_or_default();
        if source == Source::Live
            && kind == "system"
            && let Some(changed) =
                message.system.as_ref().and_then(|system| address_changed(system, message.from.some(), &envelope))
        {
            return self.events.push(changed);
        }
        let contact = people.of(&message);
        let writer =
            person(message.from.some(), message.from_user_id.some().or(contact.and_then(|c| c.user_id.some())))
                .or_else(|| people.only().and_then(|only| person(only.wa_id.some(), only.user_id.some())));
        // A thread is with one person, and what in it has a recipient, or another writer, is ours.
        let ours = thread.is_some_and(|resident| message.to.0.is_some() || message.from.some() != Some(resident));
        let content = match kind {
            "edit" => edited(message.edit.as_deref(), &envelope),
            kind => content_of(kind, &message, &envelope),
        };
        let (Some(from), Some(id), Some(content)) = (writer.clone(), message.id.some(), content) else {
            let prefix = if source == Source::Standby { "standby.messages" } else { "messages" };
            let what = if kind.is_empty() { prefix.to_owned() } else { format!("{prefix}.{kind}") };
            return self.events.unrecognised(envelope, what, writer);
        };
        let mut inbound = Inbound::new(envelope, id, from, content);
        inbound.echo = source == Source::Echo || ours;
        (inbound.history, inbound.standby) = (source == Source::History, source == Source::Standby);
        inbound.to = message.to.some().or(thread.filter(|_| ours)).and_then(|to| person(Some(to), None));
        if let Some(profile) = contact.and_then(|contact| contact.profile.as_ref()) {
            let handle = profile.username.as_deref().map(|name| name.trim_start_matches('@').to_owned());
            inbound.profile = Profile { name: profile.name.to_text(), handle };
        }
        if let Some(context) = &message.context {
            inbound.reply_to = context.id.some().map(Into::into);
            inbound.forwarded = context.forwarded == Some(true) || context.frequently_forwarded == Some(true);
        }
        inbound.referral = message.referral.as_ref().map(|referral| {
            let mut read = Referral::default();
            (read.source, read.id) = (referral.source_type.to_text(), referral.source_id.to_text());
            (read.url, read.text) = (referral.source_url.to_text(), referral.headline.to_text());
            Box::new(read)
        });
        self.events.push(inbound);
    }

    fn status(&mut self, owner: &Owner, piece: &Piece<'_>) {
        let status: Status<'_> = json::read(piece.get()).unwrap_or_default();
        let envelope = self.envelope(owner, piece.get(), &status.timestamp);
        let named = status.id.some().or(status.biz_opaque_callback_data.some()).is_some();
        let Some(word) = status.status.some().filter(|_| named) else {
            return self.events.unrecognised(envelope, "statuses", None);
        };
        let group = status.recipient_type.as_deref() == Some("group");
        let (phone, user_id) = match group {
            true => (&status.participant, &status.recipient_participant_user_id),
            false => (&status.recipient_id, &status.recipient_user_id),
        };
        let conversation = status.recipient_id.some().filter(|_| group);
        let conversation = conversation.and_then(|id| Address::conversation(Medium::WhatsApp, id).ok());
        let mut delivery = Delivery::new(envelope.within(conversation), "", state(word), word);
        delivery.of = DeliveryOf::Message {
            id: status.id.some().map(Into::into),
            key: status.biz_opaque_callback_data.some().map(Into::into),
        };
        delivery.recipient = person(phone.some(), user_id.some());
        delivery.failure = status.errors.first().map(|fault| {
            let class = fault.code.some().and_then(|code| self.endpoint.class(code));
            let failure = Failure::new(class.map_or(ErrorKind::Rejected, |class| class.kind))
                .temporary(class.is_some_and(|class| class.retryable))
                .detail(fault.words());
            fault.code.some().map_or(failure.clone(), |code| failure.code(code))
        });
        delivery.billing = status.pricing.as_ref().and_then(|pricing| {
            match (pricing.kind.some().or(pricing.pricing_model.some()), pricing.category.some()) {
                (Some(kind), Some(category)) => Some([kind, "/", category].concat()),
                (one, other) => one.or(other).map(str::to_owned),
            }
        });
        self.events.push(delivery);
    }

    fn preference(&mut self, owner: &Owner, piece: &Piece<'_>) {
        let preference: Preference<'_> = json::read(piece.get()).unwrap_or_default();
        let envelope = self.envelope(owner, piece.get(), &preference.timestamp);
        let from = person(preference.wa_id.some(), preference.user_id.some());
        let marketing = preference.category.as_deref() == Some("marketing_messages");
        match (from, preference.value.as_deref()) {
            (Some(from), Some("stop")) if marketing => {
                self.events.push(OptOut::new(envelope, from, OptOutScope::Marketing));
            }
            (Some(from), Some("resume")) if marketing => {
                self.events.push(OptOut::new(envelope, from, OptOutScope::Marketing).resumed());
            }
            (from, _) => self.events.unrecognised(envelope, "user_preferences", from),
        }
    }

    /// An error that belongs to no message.
    fn fault(&mut self, owner: &Owner, piece: &Piece<'_>, time: &Text<'_>) {
        let envelope = self.envelope(owner, piece.get(), time);
        match json::read::<Fault<'_>>(piece.get()) {
            Some(fault) => {
                let code = fault.code.some().or(fault.title.some()).unwrap_or("error");
                let mut event = Account::new(envelope, Topic::Error, code);
                event.reason = fault.words();
                self.events.push(event);
            }
            None => self.events.unrecognised(envelope, "errors", None),
        }
    }

    /// Keeps a value as it stands.
    fn whole(&mut self, owner: &Owner, entry: &Entry<'_>, change: &Change<'_>, at: [usize; 3]) {
        let envelope = self.envelope(owner, self.piece(at), &entry.time);
        self.events.unrecognised(envelope, change.field.as_deref().unwrap_or_default(), None);
    }

    fn unrecognised(&mut self, owner: &Owner, piece: &Piece<'_>, what: &str) {
        let envelope = self.envelope(owner, piece.get(), &Text::default());
        self.events.unrecognised(envelope, what, None);
    }

    fn envelope(&self, owner: &Owner, piece: &str, time: &Text<'_>) -> Envelope {
        let at = time.as_deref().and_then(Timestamp::from_unix);
        self.events.envelope(owner, Raw::new(self.json.raw(piece)), at)
    }

    fn piece(&self, [e, c, v]: [usize; 3]) -> &'r str {
        let value = self.outlined(e).and_then(|outlined| outlined.values.get(c)?.get(v).copied());
        value.unwrap_or_default()
    }

    fn outlined(&self, entry: usize) -> Option<&Outlined<'r>> {
        self.outline.get_or_init(|| outline(self.json.text())).get(entry)
    }
}

lenient! {
    struct Outline<'a> {
        entry: List<Piece<'a>>,
    }

    struct EntryOutline<'a> {
        changes: List<ChangeOutline<'a>>,
    }

    struct ChangeOutline<'a> {
        value: Occurrences<Piece<'a>>,
    }
}

fn outline(text: &str) -> Vec<Outlined<'_>> {
    let outline = json::read::<Outline<'_>>(text).unwrap_or_default();
    outline.entry.items.into_iter().map(Outlined::new).collect()
}

impl<'r> Outlined<'r> {
    fn new(entry: Piece<'r>) -> Self {
        let changes = json::read::<EntryOutline<'r>>(entry.get()).unwrap_or_default().changes.items;
        let values = changes.into_iter().map(|change| change.value.0.iter().map(Piece::get).collect());
        Self { entry: entry.get(), values: values.collect() }
    }
}

/// The contacts beside some messages. The two do not reliably stand in one order: they belong together by id.
struct People<'v> {
    contacts: &'v [Contact<'v>],
    /// Of the many, each by its ids.
    by_id: HashMap<&'v str, &'v Contact<'v>>,
}

impl<'v> People<'v> {
    /// Up to so many are looked through one by one, which is quicker.
    const FEW: usize = 4;

    fn new(contacts: &'v [Contact<'v>]) -> Self {
        let ids = |contact: &'v Contact<'v>| [&contact.user_id, &contact.wa_id].map(|id| Some((id.some()?, contact)));
        let many = if contacts.len() > Self::FEW { contacts } else { &[] };
        Self { contacts, by_id: many.iter().flat_map(ids).flatten().collect() }
    }

    fn of(&self, message: &Message<'_>) -> Option<&'v Contact<'v>> {
        let [user_id, phone] = [message.from_user_id.some(), message.from.some()];
        if self.contacts.len() > Self::FEW {
            return [user_id, phone].into_iter().flatten().find_map(|id| self.by_id.get(id).copied());
        }
        let same = |text: &Text<'_>, id: Option<&str>| id.is_some() && text.some() == id;
        self.contacts.iter().find(|contact| same(&contact.user_id, user_id) || same(&contact.wa_id, phone))
    }

    /// The only person that there is: the writer of a message that names none.
    fn only(&self) -> Option<&'v Contact<'v>> {
        let [only] = self.contacts else { return None };
        Some(only)
    }
}

fn state(word: &str) -> DeliveryState {
    match word {
        "sent" => DeliveryState::Sent,
        "delivered" => DeliveryState::Delivered,
        "read" => DeliveryState::Read,
        "played" => DeliveryState::Played,
        "failed" => DeliveryState::Failed,
        _ => DeliveryState::Unrecognised,
    }
}

/// A person, by what Meta gives of them. A user id where a phone number should be is taken for what it is.
pub(super) fn person(phone: Option<&str>, user_id: Option<&str>) -> Option<Address> {
    let number = || phone.and_then(|digits| Phone::from_digits(digits).ok());
    let known = number();
    let user_id = user_id.or(phone.filter(|_| known.is_none()));
    let user = WhatsAppUser::new(known, user_id).or_else(|_| WhatsAppUser::new(number(), None));
    user.ok().map(Address::from)
}

fn address_changed(system: &System<'_>, from: Option<&str>, envelope: &Envelope) -> Option<AddressChanged> {
    let kinds = ["user_changed_number", "customer_changed_number", "user_changed_user_id"];
    system.kind.as_deref().filter(|kind| kinds.contains(kind))?;
    let previous = person(from, system.previous_user_id.some())?;
    let current = person(system.wa_id.some().or(system.new_wa_id.some()), system.user_id.some())?;
    Some(AddressChanged::new(envelope.clone(), previous, current))
}

fn edited(edit: Option<&Edit<'_>>, envelope: &Envelope) -> Option<InboundContent> {
    let (edit, message) = (edit?, edit?.message.as_deref()?);
    let content = content_of(message.kind.as_deref().unwrap_or_default(), message, envelope)?;
    Some(InboundContent::Edited { id: edit.original_message_id.some()?.into(), content: Box::new(content) })
}

fn content_of(kind: &str, message: &Message<'_>, envelope: &Envelope) -> Option<InboundContent> {
    Some(match kind {
        "text" => InboundContent::Text(message.text.as_ref()?.body.to_text()?),
        "image" | "video" | "document" | "audio" | "sticker" => {
            let file = message.file.as_ref()?;
            InboundContent::Media { text: file.caption.to_text(), media: vec![reference(file, envelope)?] }
        }
        "location" => {
            let place = message.location.as_ref()?;
            let mut location = Location::new(place.latitude?, place.longitude?);
            (location.name, location.address) = (place.name.to_text(), place.address.to_text());
            InboundContent::Location(location)
        }
        "contacts" => InboundContent::Contacts(message.contacts.iter().map(card).collect()),
        "button" => {
            let button = message.button.as_ref()?;
            let title = button.text.to_text().unwrap_or_default();
            InboundContent::Chosen(Chosen { id: button.payload.to_text().unwrap_or_else(|| title.clone()), title })
        }
        "interactive" => match message.interactive.as_deref() {
            // Seen in the wild: no object, and an error beside the message.
            None => InboundContent::unsupported(Some("interactive")),
            Some(interactive) => match (&interactive.reply, &interactive.nfm_reply) {
                (Some(reply), _) => InboundContent::Chosen(Chosen {
                    id: reply.id.to_text()?,
                    title: reply.title.to_text().unwrap_or_default(),
                }),
                (None, Some(form)) => InboundContent::Form(form.response_json.to_text()?),
                (None, None) => InboundContent::unsupported(interactive.kind.to_text()),
            },
        },
        "reaction" => {
            let reaction = message.reaction.as_ref()?;
            let emoji = reaction.emoji.some().map(str::to_owned);
            InboundContent::Reaction { to: reaction.message_id.some()?.into(), emoji }
        }
        "order" => InboundContent::Order(message.order?.get().to_owned()),
        "system" => InboundContent::System(message.system.as_ref()?.body.to_text()?),
        "revoke" => InboundContent::Withdrawn(message.revoke.as_ref()?.original_message_id.some()?.into()),
        "unsupported" | "unknown" => InboundContent::Unsupported {
            kind: message.unsupported.as_ref().and_then(|unsupported| unsupported.kind.to_text()),
            code: message.errors.first().and_then(|fault| fault.code.to_text()),
        },
        _ => return None,
    })
}

/// How long Meta keeps a file that a resident sent.
const RECEIVED_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

fn reference(file: &File<'_>, envelope: &Envelope) -> Option<MediaRef> {
    let mut media = MediaRef::new(envelope.gateway.clone(), file.id.some()?);
    media.url = file.url.to_text();
    media.mime = file.mime_type.to_text();
    media.sha256 = file.sha256.as_deref().and_then(|hash| hash.parse().ok());
    media.filename = file.filename.to_text();
    media.expires = Some(envelope.at.plus(RECEIVED_KEPT));
    Some(media)
}

fn card(card: &Card<'_>) -> ContactCard {
    let (name, vcard) = (card.name.as_ref(), card.vcard.as_deref().unwrap_or_default());
    let values = |list: &[super::wire::CardValue<'_>], property: &str| -> Vec<Labelled> {
        let value = |one: &super::wire::CardValue<'_>| {
            Some(Labelled { value: one.value.to_text()?, label: one.label.to_text() })
        };
        let listed: Vec<_> = list.iter().filter_map(value).collect();
        if listed.is_empty() { vcard_values(vcard, property).collect() } else { listed }
    };
    let written = |property| vcard_values(vcard, property).next().map(|one| one.value);
    let shown = name.and_then(|name| name.formatted_name.to_text()).or_else(|| written("FN"));
    let mut read = ContactCard::new(shown.unwrap_or_default());
    read.first_name = name.and_then(|name| name.first_name.to_text());
    read.organisation = card.org.as_ref().and_then(|org| org.company.to_text()).or_else(|| written("ORG"));
    read.phones = values(&card.phones, "TEL");
    read.emails = values(&card.emails, "EMAIL");
    read.urls = values(&card.urls, "URL");
    read
}

/// The values of one property of a vCard (RFC 6350), without its groups and parameters. Folded lines are not joined:
/// what is read here is short.
fn vcard_values(vcard: &str, property: &str) -> impl Iterator<Item = Labelled> {
    vcard.lines().filter_map(move |line| {
        let (name, value) = line.split_once(':')?;
        let name = name.split(';').next()?;
        let name = name.rsplit('.').next()?;
        let value = value.trim();
        let found = name.eq_ignore_ascii_case(property) && !value.is_empty();
        found.then(|| Labelled { value: value.replace("\\,", ",").replace("\\;", ";"), label: None })
    })
}
