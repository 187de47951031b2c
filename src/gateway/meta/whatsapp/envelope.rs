//! The envelopes of WhatsApp's webhooks, and the account that each piece is of.

use std::borrow::Cow;
use std::ops::Deref;

use serde::Deserializer;

use super::wire::Contact;
use crate::adapter::json::{self, List, MapAccess, Member, Pass, Piece, Text};
use crate::adapter::lenient;
use crate::model::error::Result;

/// A value, and its JSON: cut out together, so that the JSON is always that of the value. Read in one pass, it has
/// none.
#[derive(Debug, Default)]
pub(super) struct Cut<'a, T> {
    pub(super) piece: Piece<'a>,
    pub(super) inner: T,
}

impl<'a, T: Member<'a>> Member<'a> for Cut<'a, T> {
    fn read<D: Deserializer<'a>>(&mut self, value: D, pass: Pass) -> Result<bool, D::Error> {
        if pass.is_once() {
            return self.inner.read(value, pass);
        }
        self.piece.read(value, pass)?;
        let read = json::read_part(self.piece, pass);
        let fits = read.is_some();
        self.inner = read.unwrap_or_default();
        Ok(fits)
    }

    fn object<M: MapAccess<'a>>(&mut self, members: M, pass: Pass) -> Result<bool, M::Error> {
        self.inner.object(members, pass)
    }
}

impl<T> Deref for Cut<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

/// The name of an account: what stands there first, and what else stands there that differs.
#[derive(Debug, Default)]
pub(super) struct Named<'a>([Text<'a>; 2]);

impl<'a> Named<'a> {
    fn is_named(&self) -> bool {
        let [first, _] = &self.0;
        first.some().is_some()
    }

    pub(super) fn texts(&self) -> impl Iterator<Item = &Text<'a>> {
        self.0.iter()
    }
}

impl<'a> Member<'a> for Named<'a> {
    fn text(&mut self, text: Cow<'a, str>) -> bool {
        let [first, other] = &mut self.0;
        match first.some() {
            None => first.text(text),
            Some(first) => *first == text || other.text(text),
        }
    }

    fn number(&mut self, _: f64, text: impl FnOnce() -> Option<String>) -> bool {
        text().is_some_and(|text| self.text(text.into()))
    }
}

lenient! {
    pub(super) struct Hook<'a> {
        pub(super) object: Text<'a>,
        pub(super) entry: List<Cut<'a, Entry<'a>>>,
    }

    pub(super) struct Entry<'a> {
        pub(super) id: Named<'a>,
        pub(super) time: Text<'a>,
        pub(super) changes: List<Cut<'a, Change<'a>>>,
    }

    pub(super) struct Change<'a> {
        pub(super) field: Text<'a>,
        pub(super) value: List<Cut<'a, Value<'a>>>,
    }

    pub(super) struct Value<'a> {
        pub(super) metadata: List<Metadata<'a>>,
        pub(super) phone_number_id: Named<'a>,
        pub(super) phone_number_settings: List<Metadata<'a>>,
        pub(super) contacts: List<Contact<'a>>,
        pub(super) messages: List<Piece<'a>>,
        pub(super) message_echoes: List<Piece<'a>>,
        pub(super) history: List<History<'a>>,
        pub(super) statuses: List<Piece<'a>>,
        pub(super) errors: List<Piece<'a>>,
        pub(super) user_preferences: List<Piece<'a>>,
        pub(super) calls: List<Piece<'a>>,
        pub(super) groups: List<Piece<'a>>,
    }

    pub(super) struct Metadata<'a> {
        pub(super) phone_number_id: Named<'a>,
        pub(super) display_phone_number: Text<'a>,
    }

    pub(super) struct History<'a> {
        pub(super) threads: List<Thread<'a>>,
        pub(super) errors: List<Piece<'a>>,
    }

    pub(super) struct Thread<'a> {
        pub(super) id: Text<'a>,
        pub(super) messages: List<Piece<'a>>,
    }
}

/// The account that an entry names, unless it names two.
pub(super) fn entry_account<'e>(entry: &'e Entry<'_>) -> Option<&'e str> {
    unanimous(entry.id.texts()).ok().flatten()
}

/// The account that owns a value: the number in its metadata. The entry's account counts only for what is of no number:
/// the other numbers of that account can have other owners.
pub(super) fn account<'e>(entry: &'e Entry<'_>, change: &Change<'_>, value: &'e Cut<'_, Value<'_>>) -> Option<&'e str> {
    // The settings of a number come without metadata.
    let places = value.metadata.iter().chain(value.phone_number_settings.iter());
    let numbers = places.flat_map(|metadata| metadata.phone_number_id.texts());
    // Some fields name it in the value itself.
    let numbers = numbers.chain(value.phone_number_id.texts());
    if let Some(number) = unanimous(numbers).ok()? {
        return Some(number);
    }
    let field = change.field.some().unwrap_or("messages");
    let unreadable = (value.metadata.malformed || !value.metadata.is_empty()) && !is_account_field(field);
    entry_account(entry).filter(|_| !unreadable && !value.is_of_a_number() && !names_a_number(value.piece))
}

/// Returns `true` if a number's id stands in a piece, at a place where none is read.
pub(super) fn names_a_number(piece: Piece<'_>) -> bool {
    memchr::memmem::find(piece.get().as_bytes(), b"phone_number_id").is_some()
}

/// Returns `true` if Meta writes the field about the whole account, without metadata.
pub(super) fn is_account_field(field: &str) -> bool {
    let update = field.ends_with("_update") && !field.starts_with("group_");
    update || matches!(field, "account_alerts" | "flows" | "security")
}

/// Returns the text of a member that may occur more than once, unless two of its occurrences differ.
fn unanimous<'t>(mut texts: impl Iterator<Item = &'t Text<'t>>) -> Result<Option<&'t str>, Conflict> {
    let Some(first) = texts.find_map(|text| text.some()) else { return Ok(None) };
    let same = texts.filter_map(|text| text.some()).all(|text| text == first);
    if same { Ok(Some(first)) } else { Err(Conflict) }
}

/// Two occurrences of a member differ.
#[derive(Debug)]
struct Conflict;

impl Hook<'_> {
    /// The number of events in it.
    pub(super) fn count(&self) -> usize {
        let mut count = 0;
        for change in self.entry.iter().flat_map(|entry| entry.changes.iter()) {
            count += change.value.iter().map(|value| value.count()).sum::<usize>();
        }
        count
    }

    /// Returns `true` if it is what Meta posts as a rule, of which no entry, change or value is kept as it stands.
    pub(super) fn is_plain(&self) -> bool {
        !self.entry.malformed && !self.entry.is_empty() && self.entry.iter().all(|entry| entry.is_plain())
    }
}

impl Entry<'_> {
    fn is_plain(&self) -> bool {
        let filled = !self.changes.malformed && !self.changes.is_empty();
        filled
            && self.changes.iter().all(|change| {
                let filled = !change.value.malformed && !change.value.is_empty();
                filled && change.field.some() == Some("messages") && change.value.iter().all(|value| value.is_plain())
            })
    }
}

impl<'a> Value<'a> {
    /// Returns `true` if it holds messages or statuses of a number, and nothing else.
    pub(super) fn is_plain(&self) -> bool {
        let rest = [&self.message_echoes, &self.errors, &self.user_preferences, &self.calls, &self.groups];
        let is_filled = !self.messages.is_empty() || !self.statuses.is_empty();
        is_filled
            && rest.iter().all(|list| list.is_empty())
            && self.history.is_empty()
            && !self.is_odd()
            && self.metadata.iter().any(|metadata| metadata.phone_number_id.is_named())
    }

    /// The lists whose items are each an event.
    fn lists(&self) -> [&List<Piece<'a>>; 7] {
        let [messages, echoes] = [&self.messages, &self.message_echoes];
        [messages, echoes, &self.statuses, &self.errors, &self.user_preferences, &self.calls, &self.groups]
    }

    /// The number of events in it, at least one.
    pub(super) fn count(&self) -> usize {
        let mut count: usize = self.history.iter().map(History::count).sum();
        for list in self.lists() {
            count += list.len();
        }
        count.max(1)
    }

    /// Returns `true` if it has a member that only a phone number has: a message, a status, or a person beside them.
    pub(super) fn is_of_a_number(&self) -> bool {
        let is_there = |list: &List<Piece<'_>>| list.malformed || !list.is_empty();
        let [messages, echoes, statuses, _errors, preferences, calls, groups] = self.lists();
        [messages, echoes, statuses, preferences, calls, groups].into_iter().any(is_there)
            || self.contacts.malformed
            || !self.contacts.is_empty()
            || self.history.malformed
            || !self.history.is_empty()
    }

    /// Returns `true` if something in it is not as Meta writes it, and is no message, status or error by itself.
    pub(super) fn is_odd(&self) -> bool {
        let unread = |list: &&List<Piece<'_>>| list.malformed && list.is_empty();
        self.contacts.malformed
            || self.history.malformed
            || self.history.iter().any(History::is_odd)
            || self.lists().iter().any(unread)
    }
}

impl History<'_> {
    fn count(&self) -> usize {
        self.errors.len() + self.threads.iter().map(|thread| thread.messages.len()).sum::<usize>()
    }

    fn is_odd(&self) -> bool {
        self.threads.malformed
            || self.threads.iter().any(|thread| thread.messages.malformed && thread.messages.is_empty())
    }
}
