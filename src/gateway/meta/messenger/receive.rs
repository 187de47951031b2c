//! Messenger's webhooks as events: [webhook events][page], read 2026-11-22 and 2026-11-30 from stored copies.
//!
//! [page]: https://developers.facebook.com/docs/messenger-platform/reference/webhook-events

use super::super::webhook::product;
use super::wire::{Change, Entry, Hook, Item, Part, kind};
use crate::adapter::json::{self, Json, Piece, Text};
use crate::adapter::{Collector, NamedAccount, Owner};
use crate::model::address::Address;
use crate::model::clock::Timestamp;
use crate::model::event::{Envelope, Raw};
use crate::webhook::Verified;

/// Collects the events of a verified webhook.
pub(in super::super) fn events(webhook: &Verified, events: &mut Collector<'_>) {
    let json = Json::new(webhook.body());
    let hook: Hook<'_> = json.read().unwrap_or_default();
    if hook.entry.items.is_empty() {
        // It names no page, so that it may be any's.
        events.owner(None, 1);
    }
    // An object that cannot be read is taken for ours: the pages in it say more.
    let object = product(&hook.object).unwrap_or("page");
    let mut reader = Reader { json: &json, webhook, events };
    for piece in &hook.entry.items {
        reader.entry(piece, object);
    }
}

struct Reader<'r, 'w> {
    json: &'r Json<'r>,
    webhook: &'r Verified,
    events: &'r mut Collector<'w>,
}

impl Reader<'_, '_> {
    fn entry(&mut self, piece: &Piece<'_>, object: &str) {
        let entry: Entry<'_> = json::read(piece.get()).unwrap_or_default();
        let page = NamedAccount::new(entry.id.0.iter().copied());
        let parts = entry.parts();
        let count = parts.len().max(1);
        if page.is_disputed() || (page.id().is_none() && (parts.is_empty() || object != "page")) {
            self.events.owner(None, count);
            return;
        }
        // What the page of an entry is known for is decided at once; else each thing says it.
        let owner = match page.id() {
            Some(page) => match self.events.owner(Some(page), count) {
                Some(owner) => Some(owner),
                None => return,
            },
            None => None,
        };
        let is_elsewhere = |part: &Part<'_>| part.is_item() && part.account(page.id(), self.webhook).is_none();
        match owner {
            Some(_) if object != "page" && parts.iter().any(is_elsewhere) => {
                self.events.owner(None, count);
            }
            Some(owner) if object != "page" || parts.iter().all(|part| part.is_odd) => {
                let envelope = self.envelope(&owner, piece, &entry, &entry.time);
                self.events.unrecognised(envelope, if object == "page" { "entry" } else { object }, None);
            }
            owner => {
                self.events.reserve(parts.len());
                for part in &parts {
                    self.part(part, &entry, page.id(), owner.as_ref());
                }
            }
        }
    }

    /// Reads one part of an entry, once its owner is known.
    fn part(&mut self, part: &Part<'_>, entry: &Entry<'_>, page: Option<&str>, owner: Option<&Owner>) {
        if part.is_item() {
            let item: Item<'_> = json::read(part.piece.get()).unwrap_or_default();
            let account = item.account(page, self.webhook);
            let owner = match (account, owner) {
                (Some(_), Some(owner)) => Some(owner.clone()),
                (account, _) => self.events.owner(account.as_deref(), 1),
            };
            if let Some(owner) = owner {
                self.item(&owner, entry, &item, part);
            }
            return;
        }
        let Some(owner) = owner else {
            self.events.owner(None, 1);
            return;
        };
        let envelope = self.envelope(owner, &part.piece, entry, &entry.time);
        let field = json::read::<Change<'_>>(part.piece.get()).and_then(|change| change.field.to_text());
        let what = if part.is_odd { "entry".to_owned() } else { field.unwrap_or_else(|| part.list.to_owned()) };
        self.events.unrecognised(envelope, what, None);
    }

    fn item(&mut self, owner: &Owner, entry: &Entry<'_>, item: &Item<'_>, part: &Part<'_>) {
        let page = Address::messenger(owner.account().as_str()).ok();
        let envelope = self.envelope(owner, &part.piece, entry, &item.timestamp);
        let sender = item.sender();
        let source = Source {
            json: self.json,
            envelope: &envelope,
            time: [&item.timestamp, &entry.time].into_iter().find_map(moment).unwrap_or_default(),
            standby: part.list == "standby",
        };
        let mut known = false;
        if let (Some(page), Some(sender)) = (&page, &sender) {
            let mut push = |event| {
                known = true;
                self.events.push(event);
            };
            item.events(page, sender, &source).into_iter().for_each(&mut push);
            // What we read ourselves says nothing about a message of ours.
            if sender != page {
                item.deliveries(sender, &source, &mut push);
            }
        }
        if !known {
            let what = [if source.standby { "standby." } else { "" }, &*kind(part.piece.get())].concat();
            let resident = sender.filter(|sender| Some(sender) != page.as_ref());
            self.events.unrecognised(envelope, what, resident);
        }
    }

    fn envelope(&self, owner: &Owner, piece: &Piece<'_>, entry: &Entry<'_>, time: &Text<'_>) -> Envelope {
        let at = [time, &entry.time].into_iter().find_map(|time| Timestamp::from_unix(time.as_deref()?));
        self.events.envelope(owner, Raw::new(self.json.raw(piece.get())), at)
    }
}

/// Where the events of one thing come from.
pub(super) struct Source<'s> {
    pub(super) json: &'s Json<'s>,
    /// With all of the thing as it stands.
    pub(super) envelope: &'s Envelope,
    /// When it happened, as Meta wrote it.
    pub(super) time: &'s str,
    pub(super) standby: bool,
}

impl Source<'_> {
    /// The envelope of the nth part. The first keeps the whole: if each of them did, the body would be kept many times.
    pub(super) fn part(&self, nth: usize, piece: &Piece<'_>) -> Envelope {
        if nth == 0 {
            return self.envelope.clone();
        }
        Envelope { raw: Raw::new(self.json.raw(piece.get())), ..self.envelope.clone() }
    }

    /// Builds an id where Meta gives none, the same for a redelivery. Without a time, a digest identifies it.
    pub(super) fn own_id(&self, name: &str) -> String {
        if self.time.is_empty() {
            format!("{name}/{}", self.envelope.raw.digest())
        } else {
            format!("{name}/{}", self.time)
        }
    }
}

/// A time as Meta wrote it, if it is one. It goes into ids, so that no text of any length may stand for it.
fn moment<'t>(time: &'t Text<'_>) -> Option<&'t str> {
    time.some().filter(|time| time.len() <= 32 && Timestamp::from_unix(time).is_some())
}
