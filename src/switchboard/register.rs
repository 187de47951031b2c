//! The register of what persons want, opt-outs and consents: its rows, and the rules that follow from them alone.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::directory::{Directory, Named, address_of};
use crate::model::address::{Address, Medium};
use crate::model::clock::Timestamp;
use crate::model::event::{OptOut, OptOutScope};
use crate::model::message::Purpose;
use crate::policy::Reason;

/// The names of the rules in decisions and errors.
const RULE: &str = "opt-out";
const CONSENT: &str = "consent";

/// The time within which one confirmation of an opt-out may be sent.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(600);

/// The origin of an opt-out.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptOutSource {
    /// The person sent STOP.
    Keyword,
    /// The gateway reported it.
    Gateway,
    /// The gateway rejected a message because the person had opted out.
    Rejection,
    /// An officer recorded it.
    Officer {
        /// The officer's name.
        name: String,
    },
}

impl OptOutSource {
    /// Returns the name in the store and in CSV.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Keyword => "keyword",
            Self::Gateway => "gateway",
            Self::Rejection => "rejection",
            Self::Officer { .. } => "officer",
        }
    }

    /// Returns the officer, if one recorded it.
    pub(super) fn officer(&self) -> Option<&str> {
        match self {
            Self::Officer { name } => Some(name),
            _ => None,
        }
    }

    /// Reads a stored origin. One that a newer program wrote counts as a gateway's.
    pub(super) fn read(name: &str, officer: Option<String>) -> Self {
        match name {
            "keyword" => Self::Keyword,
            "rejection" => Self::Rejection,
            "officer" => Self::Officer { name: officer.unwrap_or_default() },
            _ => Self::Gateway,
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

/// Returns the name of a scope in the store and in CSV.
pub(super) fn scope_name(scope: OptOutScope) -> &'static str {
    match scope {
        OptOutScope::All => "all",
        OptOutScope::Marketing => "marketing",
    }
}

/// Reads a stored scope.
pub(super) fn scope_of(name: &str) -> OptOutScope {
    if name == "marketing" { OptOutScope::Marketing } else { OptOutScope::All }
}

/// Reads a stored medium. One that cannot be read counts as every medium: an opt-out is never narrowed.
pub(super) fn medium_of(name: Option<&str>) -> Option<Medium> {
    name.and_then(|name| name.parse().ok())
}

/// The kind of a preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PreferenceKind {
    OptOut,
    Consent,
}

impl PreferenceKind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::OptOut => "opt_out",
            Self::Consent => "consent",
        }
    }

    /// Reads a stored kind. One that a newer program wrote allows nothing.
    pub(super) fn read(name: &str) -> Self {
        if name == "consent" { Self::Consent } else { Self::OptOut }
    }
}

/// The content of a consent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ConsentText {
    pub(super) what: String,
    pub(super) how: String,
    pub(super) wording: String,
}

/// An opt-out or a consent to record.
#[derive(Clone)]
pub(super) struct Preference {
    pub(super) line: String,
    pub(super) persons: Vec<Named>,
    /// The fingerprints of a person whose addresses are not known.
    pub(super) fingerprints: Vec<String>,
    pub(super) scope: OptOutScope,
    /// `None`: every medium.
    pub(super) medium: Option<Medium>,
    pub(super) source: OptOutSource,
    pub(super) note: Option<String>,
    /// The content, if it is a consent.
    pub(super) consent: Option<ConsentText>,
    /// When the person said it, by the gateway's clock.
    pub(super) said: Timestamp,
    /// When it was recorded, if it was recorded elsewhere before.
    pub(super) recorded: Option<Timestamp>,
}

impl Preference {
    pub(super) fn kind(&self) -> PreferenceKind {
        if self.consent.is_some() { PreferenceKind::Consent } else { PreferenceKind::OptOut }
    }

    /// Returns the preference of an event on a line.
    pub(super) fn from_event(of: &Directory, line: &str, event: &OptOut, now: Timestamp) -> Self {
        Self {
            line: line.to_owned(),
            persons: vec![Named::new(&event.from)],
            fingerprints: Vec::new(),
            scope: event.scope,
            medium: of.reach(line, &event.envelope.medium),
            source: if event.inbound.is_some() { OptOutSource::Keyword } else { OptOutSource::Gateway },
            note: None,
            consent: None,
            // A gateway's clock may be ahead.
            said: event.envelope.at.min(now),
            recorded: None,
        }
    }
}

/// An active entry of the register of opt-outs.
///
/// `Debug` masks the addresses.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OptOutEntry {
    /// The person's addresses when it was recorded: none once they were erased.
    pub addresses: Vec<Address>,
    /// The keyed fingerprints of the addresses: none without a pepper.
    pub fingerprints: Vec<String>,
    /// The data controller whose lines must not message the person: `None` for the common one of lines without.
    pub controller: Option<String>,
    /// The line on which it arrived, or that the officer named.
    pub line: Option<String>,
    /// The messages concerned.
    pub scope: OptOutScope,
    /// The only medium concerned: `None` for every medium.
    pub medium: Option<Medium>,
    /// The origin.
    pub source: OptOutSource,
    /// The officer's note, if any.
    pub note: Option<String>,
    /// When it was recorded, or last said again.
    pub at: Timestamp,
    pub(super) id: i64,
}

impl OptOutEntry {
    /// Adds stored keys: addresses and fingerprints.
    pub(super) fn add_keys(&mut self, keys: impl IntoIterator<Item = (Option<String>, Option<String>)>) {
        for (address, fingerprint) in keys {
            self.addresses.extend(address.as_deref().and_then(address_of).filter(|new| !self.addresses.contains(new)));
            self.fingerprints.extend(fingerprint.filter(|new| !self.fingerprints.contains(new)));
        }
    }
}

/// A consent to marketing, recorded.
///
/// `Debug` masks the addresses.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConsentEntry {
    /// The person's addresses when it was recorded: none once they were erased.
    pub addresses: Vec<Address>,
    /// The keyed fingerprints of the addresses: none without a pepper.
    pub fingerprints: Vec<String>,
    /// The data controller who may send marketing: `None` for the common one of lines without.
    pub controller: Option<String>,
    /// The line for which it was recorded.
    pub line: Option<String>,
    /// What the consent is to.
    pub what: String,
    /// How it was given.
    pub how: String,
    /// The wording to which the person agreed.
    pub wording: String,
    /// Who recorded it.
    pub officer: String,
    /// When it was given.
    pub at: Timestamp,
    pub(super) id: i64,
}

impl ConsentEntry {
    /// Returns a stored consent: `None` if this program cannot read it.
    pub(super) fn read(entry: OptOutEntry, consent: Option<&str>) -> Option<Self> {
        let ConsentText { what, how, wording } = serde_json::from_str(consent?).ok()?;
        let OptOutEntry { addresses, fingerprints, controller, line, at, id, .. } = entry;
        let officer = entry.source.officer().unwrap_or_default().to_owned();
        Some(Self { addresses, fingerprints, controller, line, what, how, wording, officer, at, id })
    }
}

/// An active entry of the register.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) id: i64,
    pub(super) kind: PreferenceKind,
    pub(super) scope: OptOutScope,
    pub(super) medium: Option<Medium>,
    pub(super) source: OptOutSource,
    pub(super) line: Option<String>,
    pub(super) at: Timestamp,
    pub(super) said: Timestamp,
    /// The last event stored before it: the person's later messages may be answered.
    pub(super) event: i64,
    /// The message that confirms it.
    pub(super) confirmation: Option<i64>,
}

impl Standing {
    /// Returns `true` if it concerns messages of this purpose on this medium.
    pub(super) fn stops(&self, purpose: Purpose, medium: &Medium) -> bool {
        self.kind == PreferenceKind::OptOut
            && (self.scope == OptOutScope::All || purpose == Purpose::Marketing)
            && self.medium.as_ref().is_none_or(|only| only == medium)
    }

    /// Returns `true` if a reply on this line, this message if it has an id, is the one confirmation that may be sent.
    pub(super) fn is_confirmed_by(&self, line: &str, message: Option<i64>, now: Timestamp) -> bool {
        matches!(self.source, OptOutSource::Keyword | OptOutSource::Gateway)
            && self.line.as_deref() == Some(line)
            && now.since(self.at) <= CONFIRMED_WITHIN
            && (self.confirmation.is_none() || self.confirmation == message)
    }

    /// Returns `true` if this preference is the same entry again.
    pub(super) fn is_same(&self, preference: &Preference) -> bool {
        self.kind == preference.kind()
            && self.scope == preference.scope
            && self.medium == preference.medium
            && self.source.is_same(&preference.source)
    }

    /// Returns the reason for a message that it stops.
    pub(super) fn reason(&self) -> Reason {
        match (&self.scope, &self.medium) {
            (OptOutScope::All, None) => Reason::new(RULE, "the person opted out"),
            (OptOutScope::All, Some(_)) => Reason::new(RULE, "the person opted out on this medium").for_medium(),
            (OptOutScope::Marketing, None) => Reason::new(RULE, "the person opted out of marketing"),
            (OptOutScope::Marketing, Some(_)) => {
                Reason::new(RULE, "the person opted out of marketing on this medium").for_medium()
            }
        }
    }
}

/// Returns the reason for marketing without a consent.
pub(super) fn no_consent() -> Reason {
    Reason::new(CONSENT, "no consent of the person to marketing is recorded")
}

/// Returns the reason for an emergency that is sent despite an opt-out.
pub(super) fn overridden() -> Reason {
    Reason::new(RULE, "an emergency is sent despite the person's opt-out")
}

/// The end of an opt-out.
pub(super) enum Lift {
    /// The person wants messages again: by START if `typed`, otherwise as the gateway reports.
    Start { typed: bool, medium: Medium, said: Timestamp },
    /// The person wants marketing again, as the gateway reports.
    Marketing { said: Timestamp },
    /// An officer decided so.
    Officer(String),
    /// The person withdrew consents, as an officer records.
    Withdrawal(String),
}

impl Lift {
    pub(super) fn from_event(event: &OptOut, now: Timestamp) -> Self {
        let said = event.envelope.at.min(now);
        match event.scope {
            OptOutScope::All => {
                Self::Start { typed: event.inbound.is_some(), medium: event.envelope.medium.clone(), said }
            }
            OptOutScope::Marketing => Self::Marketing { said },
        }
    }

    /// Returns `true` if it ends this entry. What the person said later stands, in whatever order both arrive.
    pub(super) fn ends(&self, entry: &Standing) -> bool {
        use OptOutSource::{Gateway, Keyword, Officer, Rejection};
        let is_all = entry.scope == OptOutScope::All;
        if (entry.kind == PreferenceKind::Consent) != matches!(self, Self::Withdrawal(_)) {
            return false;
        }
        match self {
            Self::Officer(_) | Self::Withdrawal(_) => true,
            Self::Start { typed, medium, said } => {
                let is_lifted = match entry.source {
                    Keyword | Rejection => true,
                    // Meta's preference about marketing is apart from STOP and START.
                    Gateway => is_all,
                    Officer { .. } => is_all && *typed,
                };
                is_lifted && entry.said <= *said && entry.medium.as_ref().is_none_or(|only| only == medium)
            }
            Self::Marketing { said } => !is_all && matches!(entry.source, Gateway | Rejection) && entry.said <= *said,
        }
    }

    /// Returns the officer.
    pub(super) fn officer(&self) -> Option<&str> {
        match self {
            Self::Officer(name) | Self::Withdrawal(name) => Some(name),
            Self::Start { .. } | Self::Marketing { .. } => None,
        }
    }
}

/// The decision of the register about a message.
pub(super) enum Verdict {
    Allowed,
    /// It is the one confirmation of an entry.
    Confirms(i64),
    /// It is an emergency, sent despite an opt-out.
    Overrides,
    Stopped(Reason),
}

/// The result of recording the start of a send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// The send may begin.
    Sending,
    /// Another worker has claimed the message, or may have.
    NotHeld,
    /// The message waits instead, for this reason.
    Deferred(Reason),
    /// The message ended instead, for this reason.
    Refused(Reason),
}
