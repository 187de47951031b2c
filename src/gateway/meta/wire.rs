//! What Meta writes in WhatsApp's webhooks and answers: [messages][page], read 2026-11-22 from stored copies.
//!
//! [page]: https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages

use std::borrow::Cow;
use std::ops::Deref;

use serde::Deserializer;

use crate::adapter::json::{self, List, MapAccess, Member, Pass, Piece, Text};
use crate::adapter::lenient;

/// A value, and its JSON: cut out together, so that the JSON is always that of the value. Read in one pass, it has none.
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

    pub(super) struct Contact<'a> {
        pub(super) wa_id: Text<'a>,
        pub(super) user_id: Text<'a>,
        pub(super) profile: Option<Profile<'a>>,
    }

    pub(super) struct Profile<'a> {
        pub(super) name: Text<'a>,
        pub(super) username: Text<'a>,
    }

    /// An error. Its code may be missing, and its details stand in one of two places.
    pub(super) struct Fault<'a> {
        pub(super) code: Text<'a>,
        pub(super) title: Text<'a>,
        pub(super) message: Text<'a>,
        /// An object with the details, or the details themselves.
        pub(super) error_data: Option<Piece<'a>>,
        pub(super) details: Text<'a>,
    }

    pub(super) struct FaultData<'a> {
        pub(super) details: Text<'a>,
    }

    pub(super) struct Preference<'a> {
        pub(super) wa_id: Text<'a>,
        pub(super) user_id: Text<'a>,
        pub(super) category: Text<'a>,
        pub(super) value: Text<'a>,
        pub(super) timestamp: Text<'a>,
    }

    /// A message. What only some have is boxed: a message is moved about, and most are texts.
    pub(super) struct Message<'a> {
        pub(super) id: Text<'a>,
        pub(super) timestamp: Text<'a>,
        pub(super) from: Text<'a>,
        pub(super) from_user_id: Text<'a>,
        pub(super) to: Text<'a>,
        pub(super) to_user_id: Text<'a>,
        pub(super) group_id: Text<'a>,
        pub(super) kind = "type": Text<'a>,
        pub(super) context: Option<Context<'a>>,
        pub(super) text: Option<Body<'a>>,
        pub(super) file = "image" | "video" | "document" | "audio" | "sticker": Option<Box<File<'a>>>,
        pub(super) location: Option<Box<Place<'a>>>,
        pub(super) contacts: List<Card<'a>>,
        pub(super) interactive: Option<Box<Interactive<'a>>>,
        pub(super) button: Option<Box<Button<'a>>>,
        pub(super) reaction: Option<Box<Reaction<'a>>>,
        pub(super) order: Option<Piece<'a>>,
        pub(super) system: Option<Box<System<'a>>>,
        pub(super) edit: Option<Box<Edit<'a>>>,
        pub(super) revoke: Option<Box<Edit<'a>>>,
        pub(super) unsupported: Option<Box<Kind<'a>>>,
        pub(super) errors: List<Fault<'a>>,
        pub(super) referral: Option<Box<Referral<'a>>>,
    }

    pub(super) struct Context<'a> {
        pub(super) id: Text<'a>,
        pub(super) forwarded: Option<bool>,
        pub(super) frequently_forwarded: Option<bool>,
    }

    pub(super) struct Body<'a> {
        pub(super) body: Text<'a>,
    }

    pub(super) struct File<'a> {
        pub(super) id: Text<'a>,
        pub(super) mime_type: Text<'a>,
        pub(super) sha256: Text<'a>,
        pub(super) url: Text<'a>,
        pub(super) caption: Text<'a>,
        pub(super) filename: Text<'a>,
    }

    pub(super) struct Place<'a> {
        pub(super) latitude: Option<f64>,
        pub(super) longitude: Option<f64>,
        pub(super) name: Text<'a>,
        pub(super) address: Text<'a>,
    }

    pub(super) struct Card<'a> {
        pub(super) name: Option<CardName<'a>>,
        pub(super) org: Option<CardOrg<'a>>,
        pub(super) phones: List<CardValue<'a>>,
        pub(super) emails: List<CardValue<'a>>,
        pub(super) urls: List<CardValue<'a>>,
        pub(super) vcard: Text<'a>,
    }

    pub(super) struct CardName<'a> {
        pub(super) formatted_name: Text<'a>,
        pub(super) first_name: Text<'a>,
        pub(super) last_name: Text<'a>,
    }

    pub(super) struct CardOrg<'a> {
        pub(super) company: Text<'a>,
    }

    pub(super) struct CardValue<'a> {
        pub(super) value = "phone" | "email" | "url": Text<'a>,
        pub(super) wa_id: Text<'a>,
        pub(super) label = "type": Text<'a>,
    }

    pub(super) struct Interactive<'a> {
        pub(super) kind = "type": Text<'a>,
        pub(super) reply = "button_reply" | "list_reply": Option<Reply<'a>>,
        pub(super) nfm_reply: Option<Form<'a>>,
    }

    pub(super) struct Reply<'a> {
        pub(super) id: Text<'a>,
        pub(super) title: Text<'a>,
    }

    pub(super) struct Form<'a> {
        pub(super) response_json: Text<'a>,
    }

    pub(super) struct Button<'a> {
        pub(super) payload: Text<'a>,
        pub(super) text: Text<'a>,
    }

    pub(super) struct Reaction<'a> {
        pub(super) message_id: Text<'a>,
        pub(super) emoji: Text<'a>,
    }

    pub(super) struct System<'a> {
        pub(super) kind = "type": Text<'a>,
        pub(super) body: Text<'a>,
        pub(super) wa_id: Text<'a>,
        pub(super) new_wa_id: Text<'a>,
        /// The old number, in older webhooks.
        pub(super) customer: Text<'a>,
        pub(super) user_id: Text<'a>,
        pub(super) previous_user_id: Text<'a>,
    }

    pub(super) struct Edit<'a> {
        pub(super) original_message_id: Text<'a>,
        /// A message: read when it is needed, so that edits in edits go no deeper.
        pub(super) message: Option<Piece<'a>>,
    }

    pub(super) struct Kind<'a> {
        pub(super) kind = "type": Text<'a>,
    }

    pub(super) struct Referral<'a> {
        pub(super) source_type: Text<'a>,
        pub(super) source_id: Text<'a>,
        pub(super) source_url: Text<'a>,
        pub(super) headline: Text<'a>,
    }

    pub(super) struct Status<'a> {
        pub(super) id: Text<'a>,
        pub(super) status: Text<'a>,
        pub(super) kind = "type": Text<'a>,
        pub(super) timestamp: Text<'a>,
        pub(super) recipient_id: Text<'a>,
        pub(super) recipient_user_id: Text<'a>,
        pub(super) recipient_type: Text<'a>,
        pub(super) participant = "recipient_participant_id" | "participant_recipient_id": Text<'a>,
        pub(super) recipient_participant_user_id: Text<'a>,
        pub(super) biz_opaque_callback_data: Text<'a>,
        pub(super) pricing: Option<Pricing<'a>>,
        pub(super) errors: List<Fault<'a>>,
    }

    /// The answer to a send.
    pub(super) struct Taken<'a> {
        pub(super) messages: List<TakenMessage<'a>>,
        pub(super) contacts: List<Contact<'a>>,
    }

    pub(super) struct TakenMessage<'a> {
        pub(super) id: Text<'a>,
        pub(super) message_status: Text<'a>,
    }

    pub(super) struct Pricing<'a> {
        pub(super) kind = "type": Text<'a>,
        pub(super) pricing_model: Text<'a>,
        pub(super) category: Text<'a>,
    }
}

impl Fault<'_> {
    /// Meta's words, the most telling first.
    pub(super) fn words(&self) -> Option<String> {
        let data = self.error_data.as_ref().map(Piece::get);
        let details = data.and_then(|data| json::read::<FaultData<'_>>(data)?.details.to_text());
        let bare = || data.and_then(|data| json::read::<Text<'_>>(data)?.to_text());
        let rest = || self.details.to_text().or_else(|| self.title.to_text()).or_else(|| self.message.to_text());
        details.or_else(bare).or_else(rest)
    }
}

/// Returns the text of a member that may occur more than once, unless two of its occurrences differ.
pub(super) fn unanimous<'t>(mut texts: impl Iterator<Item = &'t Text<'t>>) -> Result<Option<&'t str>, Conflict> {
    let Some(first) = texts.find_map(|text| text.some()) else { return Ok(None) };
    let same = texts.filter_map(|text| text.some()).all(|text| text == first);
    if same { Ok(Some(first)) } else { Err(Conflict) }
}

/// Two occurrences of a member differ.
#[derive(Debug)]
pub(super) struct Conflict;

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
        !self.entry.odd && !self.entry.is_empty() && self.entry.iter().all(|entry| entry.is_plain())
    }
}

impl Entry<'_> {
    fn is_plain(&self) -> bool {
        let filled = !self.changes.odd && !self.changes.is_empty();
        filled
            && self.changes.iter().all(|change| {
                let filled = !change.value.odd && !change.value.is_empty();
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
        let is_there = |list: &List<Piece<'_>>| list.odd || !list.is_empty();
        let [messages, echoes, statuses, _errors, preferences, calls, groups] = self.lists();
        [messages, echoes, statuses, preferences, calls, groups].into_iter().any(is_there)
            || self.contacts.odd
            || !self.contacts.is_empty()
            || self.history.odd
            || !self.history.is_empty()
    }

    /// Returns `true` if something in it is not as Meta writes it, and is no message, status or error by itself.
    pub(super) fn is_odd(&self) -> bool {
        let unread = |list: &&List<Piece<'_>>| list.odd && list.is_empty();
        self.contacts.odd
            || self.history.odd
            || self.history.iter().any(History::is_odd)
            || self.lists().iter().any(unread)
    }
}

impl History<'_> {
    fn count(&self) -> usize {
        self.errors.len() + self.threads.iter().map(|thread| thread.messages.len()).sum::<usize>()
    }

    fn is_odd(&self) -> bool {
        self.threads.odd || self.threads.iter().any(|thread| thread.messages.odd && thread.messages.is_empty())
    }
}
