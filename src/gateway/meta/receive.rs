//! WhatsApp's webhooks as events.
//!
//! Each entry, change and value is read from its own piece of the body, and so is each message and status. So neither a
//! strange message nor a strange value around it costs a message beside it, and no piece holds its neighbours.

use std::collections::HashMap;
use std::time::Duration;

use super::account::account_event;
use super::wire::{
    Card, CardValue, Change, Contact, Cut, Edit, Entry, Fault, File, Hook, Message, Preference, Status, System, Value,
    unanimous,
};
use crate::adapter::Endpoint;
use crate::adapter::json::{self, Json, Piece, Text};
use crate::adapter::{Collector, Owner};
use crate::model::address::{Address, Medium, Phone, WhatsAppUser};
use crate::model::clock::Timestamp;
use crate::model::error::ErrorKind;
use crate::model::event::{
    Account, AddressChanged, Delivery, DeliveryOf, DeliveryState, Envelope, Failure, Inbound, InboundContent, OptOut,
    OptOutScope, Profile, Raw, Referral, Selection, Topic,
};
use crate::model::json::digest;
use crate::model::message::{ContactCard, LabelledValue, Location, MediaRef};
use crate::webhook::Verified;

/// Collects the events of a verified webhook.
pub(super) fn events(webhook: &Verified, endpoint: &Endpoint, events: &mut Collector<'_>) {
    let json = Json::new(webhook.body());
    // What is rare may be kept as it stands: its pieces are cut out in a second reading.
    let mut hook = Hook::default();
    let fits = json::read_into(&mut hook, json.text());
    if fits && is_whatsapp(&hook) && hook.is_plain() {
        return Reader { json: &json, endpoint, events }.hook(&hook);
    }
    match json::read_parts(json.text()) {
        Some(hook) => Reader { json: &json, endpoint, events }.hook(&hook),
        // It names no account that could be read, so that it may be anybody's.
        None => drop(events.owner(None, 1)),
    }
}

/// The product of Meta's that a webhook is of, if a name of one stands there.
pub(super) fn product<'t>(object: &'t Text<'_>) -> Option<&'t str> {
    object.some().filter(|object| object.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
}

/// An object that cannot be read is taken for ours: the accounts in it say more.
fn is_whatsapp(hook: &Hook<'_>) -> bool {
    hook.object.some() == Some("whatsapp_business_account") || product(&hook.object).is_none()
}

struct Reader<'r, 'w> {
    json: &'r Json<'r>,
    endpoint: &'r Endpoint,
    events: &'r mut Collector<'w>,
}

/// Where a message stands: who wrote it, and who may answer it.
#[derive(Clone, Copy, Default)]
struct Source {
    /// Typed in the phone app of the number, by us.
    echo: bool,
    history: bool,
    /// Of a conversation that another program holds, or in a field that is not known.
    standby: bool,
}

impl Source {
    fn new(field: &str) -> Self {
        let known = matches!(field, "messages" | "history" | "message_echoes" | "smb_message_echoes");
        Self { echo: field.ends_with("message_echoes"), history: field == "history", standby: !known }
    }

    fn is_live(self) -> bool {
        !(self.echo || self.history || self.standby)
    }
}

/// What stands around a message.
#[derive(Clone, Copy)]
struct Around<'v> {
    source: Source,
    people: &'v People<'v>,
    /// Our own number as it is shown.
    own: Option<&'v str>,
    /// The resident that a thread of the history is with.
    thread: Option<&'v str>,
}

impl Reader<'_, '_> {
    fn hook(&mut self, hook: &Hook<'_>) {
        let whatsapp = is_whatsapp(hook);
        self.events.reserve(hook.count());
        if hook.entry.is_empty() {
            self.events.owner(None, 1);
        }
        for entry in hook.entry.iter() {
            if entry.changes.is_empty() {
                // Of another product of the same app, such as Messenger, or of a form that is not known.
                self.unread(entry, entry.piece, "entry", entry.changes.odd);
            }
            for change in entry.changes.iter() {
                self.change(entry, change, whatsapp);
            }
        }
    }

    fn change(&mut self, entry: &Entry<'_>, change: &Cut<'_, Change<'_>>, whatsapp: bool) {
        if change.value.is_empty() {
            let field = change.field.some().unwrap_or("changes");
            // A value that cannot be read may be of any number of the account.
            self.unread(entry, change.piece, field, change.value.odd && !is_account_field(field));
        }
        for value in change.value.iter() {
            let Some(owner) = self.events.owner(account(entry, change, value), value.count()) else { continue };
            match whatsapp {
                true => self.value(value, &owner, entry, change),
                false => self.whole(&owner, entry, change, value.piece),
            }
        }
    }

    /// Keeps an entry or a change of which nothing is read for the account that the entry names; or discards it, if there
    /// may be something of one of the account's numbers in it.
    fn unread(&mut self, entry: &Entry<'_>, piece: Piece<'_>, what: &str, anybodys: bool) {
        let account = entry_account(entry).filter(|_| !anybodys && !names_a_number(piece));
        if let Some(owner) = self.events.owner(account, 1) {
            let envelope = self.envelope(&owner, piece.get(), &entry.time);
            self.events.unrecognised(envelope, what, None);
        }
    }

    fn value(&mut self, value: &Cut<'_, Value<'_>>, owner: &Owner, entry: &Entry<'_>, change: &Change<'_>) {
        let before = self.events.len();
        let field = change.field.some().unwrap_or("messages");
        let people = People::new(&value.contacts);
        if field == "calls" {
            for piece in value.messages.iter().chain(value.message_echoes.iter()).chain(value.statuses.iter()) {
                self.unrecognised(owner, piece, field);
            }
        } else {
            let own = value.metadata.iter().find_map(|metadata| metadata.display_phone_number.some());
            self.messages(value, owner, Around { source: Source::new(field), people: &people, own, thread: None });
            for piece in value.statuses.iter() {
                self.status(owner, piece, &people);
            }
            if field == "messages" && value.is_plain() {
                return;
            }
        }
        for piece in value.user_preferences.iter() {
            self.preference(owner, piece, &people);
        }
        // The errors of a flow or an account are a part of what is told there.
        if field == "messages" || self.events.len() > before {
            for piece in value.errors.iter() {
                self.fault(owner, piece, &entry.time);
            }
        }
        if self.events.len() == before && !value.is_plain() {
            let envelope = self.envelope(owner, value.piece.get(), &entry.time);
            self.events.push(account_event(field, value.piece.get(), envelope));
            return;
        }
        let past = value.history.iter().flat_map(|history| history.errors.iter());
        let past = past.map(|piece| ("history.errors", piece));
        let calls = value.calls.iter().map(|piece| ("calls", piece));
        let groups = value.groups.iter().map(|piece| ("groups", piece));
        for (what, piece) in past.chain(calls).chain(groups) {
            self.unrecognised(owner, piece, what);
        }
        if value.is_odd() || field == "calls" && !value.history.is_empty() {
            self.whole(owner, entry, change, value.piece);
        }
    }

    fn messages(&mut self, value: &Value<'_>, owner: &Owner, around: Around<'_>) {
        for piece in value.messages.iter() {
            self.message(owner, piece, around);
        }
        let echo = Source { echo: true, ..around.source };
        for piece in value.message_echoes.iter() {
            self.message(owner, piece, Around { source: echo, ..around });
        }
        let past = Source { echo: false, history: true, ..around.source };
        for thread in value.history.iter().flat_map(|history| history.threads.iter()) {
            for piece in thread.messages.iter() {
                self.message(owner, piece, Around { source: past, thread: thread.id.some(), ..around });
            }
        }
    }

    fn message(&mut self, owner: &Owner, piece: &Piece<'_>, around: Around<'_>) {
        let mut message = Message::default();
        json::read_into(&mut message, piece.get());
        let (source, people) = (around.source, around.people);
        let mut envelope = self.envelope(owner, piece.get(), &message.timestamp);
        let group = message.group_id.some();
        envelope.conversation = group.and_then(|id| Address::conversation(Medium::WhatsApp, id).ok());
        let kind = kind(&message);
        if source.is_live()
            && kind == "system"
            && let Some(changed) =
                message.system.as_ref().and_then(|system| address_changed(system, &message, &envelope))
        {
            return self.events.push(changed);
        }
        let ours = source.echo || source.history && is_ours(&message, around);
        let contact = people.find([message.from_user_id.some(), message.from.some()]).filter(|_| !ours);
        let writer = if ours { us(&message, around.own) } else { resident(&message, contact, people) };
        let id = message.id.some().map_or_else(|| own_id(&envelope), str::to_owned);
        let (from, content) = match (writer, content(&message, &envelope)) {
            (Some(from), Some(content)) => (from, content),
            (writer, _) => {
                let prefix = if source.standby { "standby.messages" } else { "messages" };
                let what = if kind.is_empty() { prefix.to_owned() } else { format!("{prefix}.{kind}") };
                return self.events.unrecognised(envelope, what, writer);
            }
        };
        let mut inbound = Inbound::new(envelope, id, from, content);
        (inbound.echo, inbound.history, inbound.standby) = (ours, source.history, source.standby);
        let to = [message.to_user_id.some(), message.to.some()];
        if to != [None, None] {
            inbound.to = joined(message.to.some(), message.to_user_id.some(), people.find(to));
        }
        if ours && inbound.to.is_none() {
            inbound.to = joined(around.thread, None, people.find([around.thread, None]));
        }
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

    fn status(&mut self, owner: &Owner, piece: &Piece<'_>, people: &People<'_>) {
        let mut status = Status::default();
        json::read_into(&mut status, piece.get());
        let envelope = self.envelope(owner, piece.get(), &status.timestamp);
        if status.kind.as_deref() == Some("call") {
            return self.events.unrecognised(envelope, "calls", None);
        }
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
        let mut delivery = Delivery::new(envelope.with_conversation(conversation), "", state(word), word);
        delivery.of = DeliveryOf::Message {
            id: status.id.some().map(Into::into),
            key: status.biz_opaque_callback_data.some().map(Into::into),
        };
        let contact = people.find([user_id.some(), phone.some()]);
        delivery.recipient = joined(phone.some(), user_id.some(), contact);
        let coded = status.errors.iter().find(|fault| fault.code.some().is_some());
        delivery.failure = coded.or(status.errors.first()).map(|fault| {
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

    fn preference(&mut self, owner: &Owner, piece: &Piece<'_>, people: &People<'_>) {
        let preference: Preference<'_> = json::read(piece.get()).unwrap_or_default();
        let envelope = self.envelope(owner, piece.get(), &preference.timestamp);
        let (phone, user_id) = (preference.wa_id.some(), preference.user_id.some());
        let from = match phone.or(user_id) {
            Some(_) => joined(phone, user_id, people.find([user_id, phone])),
            None => joined(None, None, people.only()),
        };
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
    fn whole(&mut self, owner: &Owner, entry: &Entry<'_>, change: &Change<'_>, piece: Piece<'_>) {
        let envelope = self.envelope(owner, piece.get(), &entry.time);
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
}

/// The account that an entry names, unless it names two.
fn entry_account<'e>(entry: &'e Entry<'_>) -> Option<&'e str> {
    unanimous(entry.id.texts()).ok().flatten()
}

/// The account whose a value is: the number in its metadata. The entry's account counts only for what is of no number: the
/// other numbers of that account can have other owners.
fn account<'e>(entry: &'e Entry<'_>, change: &Change<'_>, value: &'e Cut<'_, Value<'_>>) -> Option<&'e str> {
    // The settings of a number come without metadata.
    let places = value.metadata.iter().chain(value.phone_number_settings.iter());
    let numbers = places.flat_map(|metadata| metadata.phone_number_id.texts());
    // Some fields name it in the value itself.
    let numbers = numbers.chain(value.phone_number_id.texts());
    if let Some(number) = unanimous(numbers).ok()? {
        return Some(number);
    }
    let field = change.field.some().unwrap_or("messages");
    let unreadable = (value.metadata.odd || !value.metadata.is_empty()) && !is_account_field(field);
    entry_account(entry).filter(|_| !unreadable && !value.is_of_a_number() && !names_a_number(value.piece))
}

/// Returns `true` if a number's id stands in a piece, at a place where none is read.
fn names_a_number(piece: Piece<'_>) -> bool {
    memchr::memmem::find(piece.get().as_bytes(), b"phone_number_id").is_some()
}

/// Returns `true` if Meta writes the field about the whole account, without metadata.
fn is_account_field(field: &str) -> bool {
    let update = field.ends_with("_update") && !field.starts_with("group_");
    update || matches!(field, "account_alerts" | "flows" | "security")
}

/// The contacts beside some messages. The two do not reliably stand in one order: they belong together by id.
struct People<'v> {
    contacts: &'v [Contact<'v>],
    /// Each by its ids, if there are many.
    by_id: Option<HashMap<Id<'v>, &'v Contact<'v>>>,
}

impl<'v> People<'v> {
    /// Up to so many are looked through one by one, which is quicker.
    const FEW: usize = 4;

    fn new(contacts: &'v [Contact<'v>]) -> Self {
        let ids =
            || contacts.iter().flat_map(|contact| ids(contact).into_iter().flatten().map(move |id| (id, contact)));
        Self { contacts, by_id: (contacts.len() > Self::FEW).then(|| ids().collect()) }
    }

    /// The first contact that has one of these ids, whichever it is: Meta writes user ids in the place of numbers too.
    fn find(&self, of: [Option<&str>; 2]) -> Option<&'v Contact<'v>> {
        let mut of = of.into_iter().flatten().map(Id::new);
        match &self.by_id {
            Some(by_id) => of.find_map(|id| by_id.get(&id).copied()),
            None => of.find_map(|id| self.contacts.iter().find(|contact| has_id(contact, id))),
        }
    }

    /// The only person that there is: the writer of a message that names none.
    fn only(&self) -> Option<&'v Contact<'v>> {
        let [only] = self.contacts else { return None };
        Some(only)
    }
}

fn ids<'c>(contact: &'c Contact<'_>) -> [Option<Id<'c>>; 2] {
    [&contact.user_id, &contact.wa_id].map(|id| id.some().map(Id::new))
}

fn has_id(contact: &Contact<'_>, id: Id<'_>) -> bool {
    [&contact.user_id, &contact.wa_id].into_iter().any(|own| own.some().is_some_and(|own| Id::new(own) == id))
}

/// A number or a user id of a person, equal however Meta writes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Id<'t>(&'t str, &'t str);

impl<'t> Id<'t> {
    fn new(text: &'t str) -> Self {
        let text = text.strip_prefix('+').unwrap_or(text);
        // Mobile numbers of Brazil have nine digits, and some `wa_id`s have the eight of earlier times.
        let (area, rest) = text.split_at_checked(4).unwrap_or((text, ""));
        match rest.strip_prefix('9').filter(|rest| rest.len() == 8) {
            Some(rest) if area.starts_with("55") && is_number(text) => Self(area, rest),
            _ => Self(area, rest),
        }
    }
}

fn is_number(text: &str) -> bool {
    text.strip_prefix('+').unwrap_or(text).bytes().all(|b| b.is_ascii_digit())
}

/// A person, by what stands at one place and by the contact that belongs to it.
fn joined(phone: Option<&str>, user_id: Option<&str>, contact: Option<&Contact<'_>>) -> Option<Address> {
    let number = phone.filter(|phone| is_number(phone)).or(contact.and_then(|contact| contact.wa_id.some()));
    let user_id = user_id.or(phone.filter(|phone| !is_number(phone)));
    person(number, user_id.or(contact.and_then(|contact| contact.user_id.some())))
}

/// The resident who wrote a message. The only contact counts where the message names nobody, and not where it names
/// somebody who cannot be read.
fn resident(message: &Message<'_>, contact: Option<&Contact<'_>>, people: &People<'_>) -> Option<Address> {
    let (phone, user_id) = (message.from.some(), message.from_user_id.some());
    match phone.or(user_id) {
        Some(_) => joined(phone, user_id, contact),
        None => joined(None, None, people.only()),
    }
}

/// We ourselves, as the writer of a message.
fn us(message: &Message<'_>, own: Option<&str>) -> Option<Address> {
    let shown = || own.map(|own| own.chars().filter(char::is_ascii_digit).collect::<String>());
    person(message.from.some(), message.from_user_id.some()).or_else(|| person(shown().as_deref(), None))
}

/// Returns `true` if a message of the history is ours. A thread is with one person: what in it has a recipient, or another
/// writer, is ours.
fn is_ours(message: &Message<'_>, around: Around<'_>) -> bool {
    let same = |one: Option<&str>, other: Option<&str>| one.is_some() && one.map(Id::new) == other.map(Id::new);
    let own = around.own.map(|own| own.chars().filter(char::is_ascii_digit).collect::<String>());
    let (from, to) = (message.from.some(), message.to.some());
    if same(from, own.as_deref()) {
        return true;
    }
    if same(to, own.as_deref()) {
        return false;
    }
    if to.or(message.to_user_id.some()).is_some() {
        return true;
    }
    let (Some(thread), Some(from)) = (around.thread, from) else { return false };
    let resident = around.people.find([Some(thread), None]);
    let ids = [Some(Id::new(thread)), resident.and_then(|one| ids(one)[0]), resident.and_then(|one| ids(one)[1])];
    let writer = [Some(from), message.from_user_id.some()].map(|id| id.map(Id::new));
    let is_resident = writer.iter().flatten().any(|id| ids.contains(&Some(*id)));
    // A number and a user id that nothing joins can be one person: then only our own number says that it is ours.
    !is_resident && is_number(thread) == is_number(from)
}

/// The id of a message that has none: a digest of it, so that it is the same when Meta repeats it.
fn own_id(envelope: &Envelope) -> String {
    format!("digest/{}", digest(envelope.raw.as_bytes()))
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
    let user = match user_id.or(phone.filter(|_| known.is_none())) {
        Some(id) => WhatsAppUser::new(known, Some(id)).ok(),
        None => WhatsAppUser::new(Some(known?), None).ok(),
    };
    user.or_else(|| WhatsAppUser::new(Some(number()?), None).ok()).map(Address::from)
}

fn address_changed(system: &System<'_>, message: &Message<'_>, envelope: &Envelope) -> Option<AddressChanged> {
    let kinds = ["user_changed_number", "customer_changed_number", "user_changed_user_id"];
    system.kind.as_deref().filter(|kind| kinds.contains(kind))?;
    let (wa_id, new_wa_id, user_id) = (system.wa_id.some(), system.new_wa_id.some(), system.user_id.some());
    // Beside a new number `wa_id` is the old one.
    let phone = message.from.some().or(system.customer.some()).or(wa_id.filter(|_| new_wa_id.is_some()));
    let writer = message.from_user_id.some().filter(|writer| Some(*writer) != user_id);
    let previous = person(phone, system.previous_user_id.some().or(writer))?;
    let current = person(new_wa_id.or(wa_id), user_id)?;
    (previous != current).then(|| AddressChanged::new(envelope.clone(), previous, current))
}

/// The kind of a message, by its `type`, or else by the member that it has.
fn kind<'m>(message: &'m Message<'_>) -> &'m str {
    if let Some(kind) = message.kind.some() {
        return kind;
    }
    let members = [
        ("edit", message.edit.is_some()),
        ("revoke", message.revoke.is_some()),
        ("system", message.system.is_some()),
        ("text", message.text.is_some()),
        ("image", message.file.is_some()),
        ("location", message.location.is_some()),
        ("contacts", !message.contacts.is_empty()),
        ("interactive", message.interactive.is_some()),
        ("button", message.button.is_some()),
        ("reaction", message.reaction.is_some()),
        ("order", message.order.is_some()),
        ("unsupported", message.unsupported.is_some() || !message.errors.is_empty()),
    ];
    members.iter().find(|(_, is_there)| *is_there).map(|(kind, _)| *kind).unwrap_or_default()
}

/// The content of a message; at least its words, if the rest cannot be read.
fn content(message: &Message<'_>, envelope: &Envelope) -> Option<InboundContent> {
    let read = match kind(message) {
        "edit" => edited(message.edit.as_deref(), envelope),
        kind => content_of(kind, message, envelope),
    };
    read.or_else(|| words(message))
}

fn edited(edit: Option<&Edit<'_>>, envelope: &Envelope) -> Option<InboundContent> {
    let edit = edit?;
    let message: Message<'_> = json::read(edit.message?.get())?;
    // An edit in an edit is of no form that is known, and is not followed.
    let content = content_of(kind(&message), &message, envelope).or_else(|| words(&message))?;
    Some(match edit.original_message_id.some() {
        Some(id) => InboundContent::Edited { id: id.into(), content: Box::new(content) },
        // Of which message is not known, but the words can be STOP.
        None => content,
    })
}

/// The words of a message that cannot be read as what it is.
fn words(message: &Message<'_>) -> Option<InboundContent> {
    let text = message.text.as_ref().and_then(|text| text.body.some());
    let caption = message.file.as_ref().and_then(|file| file.caption.some());
    let button = message.button.as_ref().and_then(|button| button.text.some());
    let words = text.or(caption).or(button)?;
    Some(InboundContent::Text(words.to_owned()))
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
            InboundContent::Selection(Selection {
                id: button.payload.to_text().unwrap_or_else(|| title.clone()),
                title,
            })
        }
        "interactive" => match message.interactive.as_deref() {
            // Seen in the wild: no object, and an error beside the message.
            None => InboundContent::unsupported(Some("interactive")),
            Some(interactive) => match (&interactive.reply, &interactive.nfm_reply) {
                (Some(reply), _) => InboundContent::Selection(Selection {
                    id: reply.id.some().or(reply.title.some())?.to_owned(),
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
    let values = |list: &[CardValue<'_>], property: &str| -> Vec<LabelledValue> {
        let listed: Vec<_> = list.iter().filter_map(card_value).collect();
        if listed.is_empty() { vcard_values(vcard, property) } else { listed }
    };
    let written = |property| vcard_values(vcard, property).into_iter().next().map(|one| one.value);
    let parts = || {
        let parts = name.map(|name| [name.first_name.some(), name.last_name.some()])?;
        full_name(parts.into_iter().flatten())
    };
    // In a vCard the family name comes first.
    let structured = || full_name(written("N")?.split(';').take(2).collect::<Vec<_>>().into_iter().rev());
    let shown = name.and_then(|name| name.formatted_name.some().map(str::to_owned));
    let shown = shown.or_else(parts).or_else(|| written("FN")).or_else(structured);
    let mut read = ContactCard::new(shown.unwrap_or_default());
    read.first_name = name.and_then(|name| name.first_name.to_text());
    read.organisation = card.org.as_ref().and_then(|org| org.company.to_text()).or_else(|| written("ORG"));
    read.phones = values(&card.phones, "TEL");
    read.emails = values(&card.emails, "EMAIL");
    read.urls = values(&card.urls, "URL");
    read
}

fn card_value(one: &CardValue<'_>) -> Option<LabelledValue> {
    let on_whatsapp = || one.wa_id.some().map(|id| if is_number(id) { format!("+{id}") } else { id.to_owned() });
    let value = one.value.some().map(str::to_owned).or_else(on_whatsapp)?;
    Some(LabelledValue { value, label: one.label.to_text() })
}

fn full_name<'n>(parts: impl Iterator<Item = &'n str>) -> Option<String> {
    let parts: Vec<_> = parts.map(str::trim).filter(|part| !part.is_empty()).collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

/// The values of one property of a vCard (RFC 6350), without its groups and parameters.
fn vcard_values(vcard: &str, property: &str) -> Vec<LabelledValue> {
    let value = |line: String| {
        let (name, value) = line.split_once(':')?;
        let name = name.split(';').next()?;
        let name = name.rsplit('.').next()?;
        let value = value.trim();
        let value = value.strip_prefix("tel:").or_else(|| value.strip_prefix("mailto:")).unwrap_or(value);
        let found = name.eq_ignore_ascii_case(property) && !value.is_empty();
        found.then(|| LabelledValue { value: value.replace("\\,", ",").replace("\\;", ";"), label: None })
    };
    unfolded(vcard).into_iter().filter_map(value).collect()
}

/// The lines of a vCard. One that begins with white space goes on with the line before it.
fn unfolded(vcard: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in vcard.lines() {
        match (line.strip_prefix([' ', '\t']), lines.last_mut()) {
            (Some(rest), Some(last)) => last.push_str(rest),
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}
