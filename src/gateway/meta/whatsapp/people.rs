//! The sender and recipient of a message, from its ids and contacts.

use std::collections::HashMap;

use super::wire::{Contact, Message, System};
use crate::model::address::{Address, Phone, WhatsAppUser};
use crate::model::event::{AddressChanged, Envelope};

/// Where a message stands: who wrote it, and who may answer it.
#[derive(Clone, Copy, Default)]
pub(super) struct Source {
    /// Typed in the phone app of the number, by us.
    pub(super) echo: bool,
    pub(super) history: bool,
    /// Of a conversation that another program holds, or in a field that is not known.
    pub(super) standby: bool,
}

impl Source {
    pub(super) fn new(field: &str) -> Self {
        let known = matches!(field, "messages" | "history" | "message_echoes" | "smb_message_echoes");
        Self { echo: field.ends_with("message_echoes"), history: field == "history", standby: !known }
    }

    pub(super) fn is_live(self) -> bool {
        !(self.echo || self.history || self.standby)
    }
}

/// The context of a message: its source and its people.
#[derive(Clone, Copy)]
pub(super) struct MessageContext<'v> {
    pub(super) source: Source,
    pub(super) people: &'v People<'v>,
    /// Our own number as it is shown.
    pub(super) own: Option<&'v str>,
    /// The resident that a thread of the history is with.
    pub(super) thread: Option<&'v str>,
}

/// The contacts beside some messages. The two do not reliably stand in one order: they belong together by id.
pub(super) struct People<'v> {
    contacts: &'v [Contact<'v>],
    /// Each by its ids, if there are many.
    by_id: Option<HashMap<Id<'v>, &'v Contact<'v>>>,
}

impl<'v> People<'v> {
    /// Up to so many are looked through one by one, which is quicker.
    const FEW: usize = 4;

    pub(super) fn new(contacts: &'v [Contact<'v>]) -> Self {
        let ids =
            || contacts.iter().flat_map(|contact| ids(contact).into_iter().flatten().map(move |id| (id, contact)));
        Self { contacts, by_id: (contacts.len() > Self::FEW).then(|| ids().collect()) }
    }

    /// The first contact that has one of these ids, whichever it is: Meta writes user ids in the place of numbers too.
    pub(super) fn find(&self, of: [Option<&str>; 2]) -> Option<&'v Contact<'v>> {
        let mut of = of.into_iter().flatten().map(Id::new);
        match &self.by_id {
            Some(by_id) => of.find_map(|id| by_id.get(&id).copied()),
            None => of.find_map(|id| self.contacts.iter().find(|contact| has_id(contact, id))),
        }
    }

    /// The only person that there is: the writer of a message that names none.
    pub(super) fn only(&self) -> Option<&'v Contact<'v>> {
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
    pub(super) fn new(text: &'t str) -> Self {
        let text = text.strip_prefix('+').unwrap_or(text);
        // Mobile numbers of Brazil have nine digits, and some `wa_id`s have the eight of earlier times.
        let (area, rest) = text.split_at_checked(4).unwrap_or((text, ""));
        match rest.strip_prefix('9').filter(|rest| rest.len() == 8) {
            Some(rest) if area.starts_with("55") && is_number(text) => Self(area, rest),
            _ => Self(area, rest),
        }
    }
}

pub(super) fn is_number(text: &str) -> bool {
    text.strip_prefix('+').unwrap_or(text).bytes().all(|b| b.is_ascii_digit())
}

/// A person, by what stands at one place and by the contact that belongs to it.
pub(super) fn joined(phone: Option<&str>, user_id: Option<&str>, contact: Option<&Contact<'_>>) -> Option<Address> {
    let number = phone.filter(|phone| is_number(phone)).or(contact.and_then(|contact| contact.wa_id.some()));
    let user_id = user_id.or(phone.filter(|phone| !is_number(phone)));
    person(number, user_id.or(contact.and_then(|contact| contact.user_id.some())))
}

/// The resident who wrote a message. The only contact counts where the message names nobody, and not where it names
/// somebody who cannot be read.
pub(super) fn resident(message: &Message<'_>, contact: Option<&Contact<'_>>, people: &People<'_>) -> Option<Address> {
    let (phone, user_id) = (message.from.some(), message.from_user_id.some());
    match phone.or(user_id) {
        Some(_) => joined(phone, user_id, contact),
        None => joined(None, None, people.only()),
    }
}

/// We ourselves, as the writer of a message.
pub(super) fn us(message: &Message<'_>, own: Option<&str>) -> Option<Address> {
    let shown = || own.map(|own| own.chars().filter(char::is_ascii_digit).collect::<String>());
    person(message.from.some(), message.from_user_id.some()).or_else(|| person(shown().as_deref(), None))
}

/// Returns `true` if a message of the history is ours. A thread is with one person: what in it has a recipient, or
/// another writer, is ours.
pub(super) fn is_ours(message: &Message<'_>, around: MessageContext<'_>) -> bool {
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

pub(super) fn address_changed(
    system: &System<'_>,
    message: &Message<'_>,
    envelope: &Envelope,
) -> Option<AddressChanged> {
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
