//! Lines and persons, as the register knows them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::lanes::kind_of;
use super::record::{FallbackRow, New};
use crate::model::address::{Address, Medium, Phone};
use crate::model::clock::Timestamp;
use crate::model::message::{Message, Purpose};
use crate::model::secret::Secret;

/// The media that an opt-out covers, for opt-outs that arrive on a line: see
/// [`Line::opt_out_reach`](super::Line::opt_out_reach).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptOutReach {
    /// The person on every medium of the controller's lines.
    #[default]
    Person,
    /// The medium on which it arrived, on the controller's lines.
    Medium,
}

/// The settings of a line on which the register depends.
#[derive(Clone, Debug)]
pub(super) struct LineRules {
    pub(super) controller: String,
    /// Emergencies are sent despite an opt-out.
    pub(super) emergencies: bool,
    /// Marketing needs a recorded consent.
    pub(super) consent: bool,
    pub(super) reach: OptOutReach,
    /// The medium of a plain phone number.
    pub(super) phone: Medium,
}

/// The lines of this program, and the pepper of the fingerprints.
#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    pub(super) lines: BTreeMap<String, LineRules>,
    pub(super) pepper: Option<Secret>,
}

impl Directory {
    /// Returns this directory with the lines of another, which take precedence.
    pub(super) fn with(&self, other: &Self) -> Self {
        let mut lines = self.lines.clone();
        lines.extend(other.lines.clone());
        Self { lines, pepper: other.pepper.clone().or_else(|| self.pepper.clone()) }
    }

    /// Returns the controller of a line of this program.
    pub(super) fn controller(&self, line: &str) -> Option<&str> {
        self.lines.get(line).map(|line| &*line.controller)
    }

    /// Returns the lines of a controller.
    pub(super) fn lines_of<'a>(&'a self, controller: &'a str) -> impl Iterator<Item = &'a str> {
        self.lines.iter().filter(move |(_, line)| line.controller == controller).map(|(id, _)| &**id)
    }

    pub(super) fn has_emergencies(&self, line: &str) -> bool {
        self.lines.get(line).is_some_and(|line| line.emergencies)
    }

    /// Returns `true` if marketing on a line needs a recorded consent.
    pub(super) fn needs_consent(&self, line: &str) -> bool {
        self.lines.get(line).is_none_or(|line| line.consent)
    }

    /// Returns the medium of messages to addresses of a kind.
    pub(super) fn medium(&self, line: &str, kind: &str) -> Medium {
        let name = kind.rsplit('/').next().unwrap_or(kind);
        match name {
            "phone" | "short_code" | "sender_name" => self.lines.get(line).map_or(Medium::Sms, |of| of.phone.clone()),
            name => name.parse().unwrap_or(Medium::Sms),
        }
    }

    /// Returns the medium of an opt-out that arrives on a line: `None` for every medium.
    pub(super) fn reach(&self, line: &str, medium: &Medium) -> Option<Medium> {
        let is_medium = self.lines.get(line).is_some_and(|line| line.reach == OptOutReach::Medium);
        is_medium.then(|| medium.clone())
    }

    /// Returns the keys of a person of whom these names are known.
    pub(super) fn keys(&self, of: &Named) -> Vec<PersonKey> {
        let names = of.names.iter().filter(|name| !name.is_empty());
        names.map(|name| self.key(format!("{}:{name}", kind_beside(&of.kind, name)))).collect()
    }

    /// Returns the key of an address with its kind.
    pub(super) fn key(&self, address: String) -> PersonKey {
        let of = |pepper: &Secret| Some(address_of(&address)?.fingerprint(pepper).to_string());
        let fingerprint = self.pepper.as_ref().and_then(of);
        PersonKey { address, fingerprint }
    }
}

/// Returns the kind of a name that belongs to an address of this kind: WhatsApp alone links two kinds, a phone number and
/// a user id.
pub(super) fn kind_beside<'a>(kind: &'a str, name: &str) -> &'a str {
    match kind {
        _ if name.starts_with('+') => "phone",
        "phone" => "whatsapp",
        kind => kind,
    }
}

/// A person by what one address says: its kind, and its names in the store.
#[derive(Clone, PartialEq)]
pub(super) struct Named {
    pub(super) kind: String,
    pub(super) names: Vec<String>,
}

impl Named {
    pub(super) fn new(address: &Address) -> Self {
        let mut names = vec![address.expose().to_owned()];
        names.extend(
            address.as_phone().map(Phone::as_str).filter(|phone| *phone != address.expose()).map(str::to_owned),
        );
        Self { kind: kind_of(address), names }
    }
}

/// A person in the register: an address with its kind, and the keyed fingerprint that outlives it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct PersonKey {
    pub(super) address: String,
    pub(super) fingerprint: Option<String>,
}

/// Returns the key of an address: with its kind, so that ids of two media differ.
pub(super) fn key_of(address: &Address) -> String {
    let kind = kind_of(address);
    format!("{}:{}", kind_beside(&kind, address.expose()), address.expose())
}

/// Returns the address of a key, if it can be shown.
pub(super) fn address_of(key: &str) -> Option<Address> {
    let (kind, name) = key.split_once(':')?;
    match kind.split_once('/') {
        Some(("other", medium)) => Address::other(medium.parse().ok()?, name).ok(),
        Some(("conversation", medium)) => Address::conversation(medium.parse().ok()?, name).ok(),
        Some(_) => None,
        None => match kind {
            "messenger" => Address::messenger(name).ok(),
            "phone" => Address::phone(name).ok(),
            "whatsapp" => Address::whatsapp(name).ok(),
            "x" => Address::x(name).ok(),
            _ => None,
        },
    }
}

/// A message, as far as the register decides about it.
#[derive(Clone)]
pub(super) struct Addressee {
    pub(super) line: String,
    pub(super) to: Named,
    pub(super) purpose: Purpose,
    /// When it was enqueued, by the clock of the store.
    pub(super) queued: Timestamp,
}

impl New {
    /// Returns the recipient of this message, or of its fallback.
    pub(super) fn addressee(&self, message: &Message) -> Addressee {
        Addressee::new(&self.line, &message.to, message.purpose, self.now)
    }
}

impl FallbackRow {
    /// Returns the recipient of the fallback.
    pub(super) fn addressee(&self, now: Timestamp) -> Option<Addressee> {
        let message = self.fallback.as_ref()?.message();
        Some(Addressee::new(&self.line, &message.to, message.purpose, now))
    }
}

impl Addressee {
    /// Returns a message to nobody who could have opted out.
    #[cfg(test)]
    pub(super) fn nobody() -> Self {
        let to = Named { kind: String::new(), names: Vec::new() };
        Self { line: String::new(), to, purpose: Purpose::Notice, queued: Timestamp::from_millis(0) }
    }

    pub(super) fn new(line: &str, to: &Address, purpose: Purpose, queued: Timestamp) -> Self {
        Self { line: line.to_owned(), to: Named::new(to), purpose, queued }
    }
}
