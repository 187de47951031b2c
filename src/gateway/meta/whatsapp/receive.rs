//! WhatsApp's webhooks as events.
//!
//! Each entry, change and value is read from its own piece of the body, and so is each message and status. So neither a
//! strange message nor a strange value around it costs a message beside it, and no piece holds its neighbours.

use super::super::webhook::product;
use super::account::account_event;
use super::content::{content, kind};
use super::envelope::{Change, Cut, Entry, Hook, Value, account, entry_account, is_account_field, names_a_number};
use super::people::{MessageContext, People, Source, address_changed, is_ours, joined, resident, us};
use super::wire::{Fault, Message, Preference, Status};
use crate::adapter::json::{self, Json, Piece, Text};
use crate::adapter::{Collector, Endpoint, Owner, delivery_state};
use crate::model::address::{Address, Medium};
use crate::model::clock::Timestamp;
use crate::model::delivery::DeliveryState;
use crate::model::event::{
    Account, Delivery, DeliveryOf, Envelope, Inbound, OptOut, OptOutScope, Profile, Raw, Referral, Topic,
};
use crate::webhook::Verified;

/// Collects the events of a verified webhook.
pub(in super::super) fn events(webhook: &Verified, endpoint: &Endpoint, events: &mut Collector<'_>) {
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

/// An object that cannot be read is taken for ours: the accounts in it say more.
fn is_whatsapp(hook: &Hook<'_>) -> bool {
    hook.object.some() == Some("whatsapp_business_account") || product(&hook.object).is_none()
}

struct Reader<'r, 'w> {
    json: &'r Json<'r>,
    endpoint: &'r Endpoint,
    events: &'r mut Collector<'w>,
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
                self.unread(entry, entry.piece, "entry", entry.changes.malformed);
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
            self.unread(entry, change.piece, field, change.value.malformed && !is_account_field(field));
        }
        for value in change.value.iter() {
            let Some(owner) = self.events.owner(account(entry, change, value), value.count()) else { continue };
            match whatsapp {
                true => self.value(value, &owner, entry, change),
                false => self.whole(&owner, entry, change, value.piece),
            }
        }
    }

    /// Keeps an entry or a change of which nothing is read for the account that the entry names; or discards it, if
    /// there may be something of one of the account's numbers in it.
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
            self.messages(
                value,
                owner,
                MessageContext { source: Source::new(field), people: &people, own, thread: None },
            );
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
        // The errors of a flow or an account belong to that event.
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

    fn messages(&mut self, value: &Value<'_>, owner: &Owner, around: MessageContext<'_>) {
        for piece in value.messages.iter() {
            self.message(owner, piece, around);
        }
        let echo = Source { echo: true, ..around.source };
        for piece in value.message_echoes.iter() {
            self.message(owner, piece, MessageContext { source: echo, ..around });
        }
        let past = Source { echo: false, history: true, ..around.source };
        for thread in value.history.iter().flat_map(|history| history.threads.iter()) {
            for piece in thread.messages.iter() {
                self.message(owner, piece, MessageContext { source: past, thread: thread.id.some(), ..around });
            }
        }
    }

    fn message(&mut self, owner: &Owner, piece: &Piece<'_>, around: MessageContext<'_>) {
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
        // A message without an id has that of a digest, so that it is the same when Meta repeats it.
        let id = message.id.some().map_or_else(|| format!("digest/{}", envelope.raw.digest()), str::to_owned);
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
        let state = delivery_state(STATES, word);
        let mut delivery = Delivery::new(envelope.with_conversation(conversation), "", state, word);
        delivery.of = DeliveryOf::Message {
            id: status.id.some().map(Into::into),
            key: status.biz_opaque_callback_data.some().map(Into::into),
        };
        let contact = people.find([user_id.some(), phone.some()]);
        delivery.recipient = joined(phone.some(), user_id.some(), contact);
        let coded = status.errors.iter().find(|fault| fault.code.some().is_some());
        let fault = coded.or(status.errors.first());
        let unexplained = || (state == DeliveryState::Failed).then(|| self.endpoint.failure(None, None));
        let explained = fault.map(|fault| self.endpoint.failure(fault.code.some(), fault.words()));
        delivery.failure = explained.or_else(unexplained);
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

const STATES: &[(&str, DeliveryState)] = &[
    ("sent", DeliveryState::Sent),
    ("delivered", DeliveryState::Delivered),
    ("read", DeliveryState::Read),
    ("played", DeliveryState::Played),
    ("failed", DeliveryState::Failed),
];
