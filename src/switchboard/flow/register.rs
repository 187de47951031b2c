//! The rules of the register, over the statements of each store.

use std::collections::BTreeSet;

use super::super::directory::{Addressee, Directory, Named, PersonKey};
use super::super::lanes::kind_of_lane;
use super::super::record::{Attempt, EventContent, Hold, MessageRow, opt_out_from, opted_out};
use super::super::register::{
    Lift, OptOutEntry, OptOutSource, Preference, PreferenceKind, Standing, Verdict, no_consent,
};
use super::super::status::PRIORITY_LAST;
use super::people::{Persons, controller, lines_of, person};
use super::{Statement, Tx, settle};
use crate::model::clock::Timestamp;
use crate::model::event::OptOutScope;
use crate::model::message::Purpose;
use crate::policy::Reason;

/// The statements of the register.
pub(in super::super) trait Register: Persons {
    /// Returns the active entries of a controller with one of these keys.
    fn standing(&self, controller: &str, keys: Vec<PersonKey>) -> impl Statement<Vec<Standing>, Self::Error>;

    /// Returns the active entries of a kind of a controller, oldest first, after one: each with its content, if it is a
    /// consent.
    fn preferences(
        &self,
        controller: &str,
        kind: PreferenceKind,
        after: i64,
        max: u32,
    ) -> impl Statement<Vec<(OptOutEntry, Option<String>)>, Self::Error>;

    /// Returns the number of the last event.
    fn last_event(&self) -> impl Statement<i64, Self::Error>;

    /// Returns the last messages of a person on a line after an event and up to a time, newest first.
    fn written_since(
        &self,
        line: &str,
        names: &[String],
        event: i64,
        until: Timestamp,
    ) -> impl Statement<Vec<String>, Self::Error>;

    /// Returns when the account of an attempt last rejected a message to a person because a window was closed.
    fn rejected_outside_window(
        &self,
        line: &str,
        names: &[String],
        attempt: &Attempt,
    ) -> impl Statement<Option<Timestamp>, Self::Error>;

    /// Inserts an entry, and returns its number.
    fn insert_preference(
        &self,
        controller: &str,
        preference: &Preference,
        event: i64,
        now: Timestamp,
    ) -> impl Statement<i64, Self::Error>;

    /// Adds keys to an entry.
    fn insert_preference_keys(&self, id: i64, controller: &str, keys: &[PersonKey]) -> impl Statement<(), Self::Error>;

    /// Dates an entry anew: the person said it again.
    fn renew_preference(
        &self,
        id: i64,
        line: &str,
        said: Timestamp,
        event: i64,
        now: Timestamp,
    ) -> impl Statement<(), Self::Error>;

    /// Returns the addresses of all entries of a controller, lifted or not, that have one of these keys.
    fn preference_addresses(&self, controller: &str, keys: Vec<PersonKey>) -> impl Statement<Vec<String>, Self::Error>;

    /// Removes an address from the entries of a controller, which keep its fingerprint. Returns their number.
    fn forget_address(&self, controller: &str, key: &PersonKey) -> impl Statement<u64, Self::Error>;

    /// Ends an entry.
    fn lift_preference(&self, id: i64, officer: Option<&str>, now: Timestamp) -> impl Statement<(), Self::Error>;

    /// Records the message that confirms an entry. Returns `false` if another does.
    fn set_confirmation(&self, id: i64, message: i64) -> impl Statement<bool, Self::Error>;

    /// Records the start of a send under its claim.
    fn begin_attempt(
        &self,
        hold: Hold,
        lease: Option<Timestamp>,
        attempt: &Attempt,
    ) -> impl Statement<bool, Self::Error>;
}

/// Returns the names of everybody linked to an address.
pub(super) async fn names_of<T: Register>(
    tx: &T,
    of: &Directory,
    line: &str,
    named: &Named,
) -> Result<Vec<String>, T::Error> {
    Ok(person(tx, of, line, named).await?.names)
}

/// Returns the rows of recent messages of everybody linked to an address, and the one of the address: none for nobody.
pub(super) async fn keys_of<T: Register>(
    tx: &T,
    of: &Directory,
    line: &str,
    named: &Named,
) -> Result<(Vec<String>, Option<String>), T::Error> {
    let person = person(tx, of, line, named).await?;
    let key = |key: &PersonKey| tx.name(&format!("person {} {}", person.controller, key.address)).into_owned();
    let seeds: Vec<_> = named.names.iter().map(|name| tx.name(name).into_owned()).collect();
    let own = of.keys(&Named { kind: named.kind.clone(), names: seeds }).first().map(key);
    Ok((person.keys.iter().map(key).collect(), own))
}

/// Decides about a message: the one of this number, if it is stored.
pub(in super::super) async fn verdict<T: Register>(
    tx: &T,
    of: &Directory,
    message: &Addressee,
    id: Option<i64>,
    now: Timestamp,
) -> Result<Verdict, T::Error> {
    let person = person(tx, of, &message.line, &message.to).await?;
    if person.keys.is_empty() {
        return Ok(Verdict::Allowed);
    }
    let medium = of.medium(&message.line, &message.to.kind);
    let mut standing = tx.standing(&person.controller, person.keys.clone()).await?;
    let has_consent = standing.iter().any(|entry| entry.kind == PreferenceKind::Consent);
    standing.retain(|entry| entry.stops(message.purpose, &medium));
    // The reason that covers most comes first.
    standing.sort_by_key(|entry| (entry.medium.is_some(), entry.scope != OptOutScope::All, entry.id));
    let Some(first) = standing.first() else {
        let needs_consent = message.purpose == Purpose::Marketing && of.needs_consent(&message.line);
        return Ok(if needs_consent && !has_consent { Verdict::Stopped(no_consent()) } else { Verdict::Allowed });
    };
    let stopped = Verdict::Stopped(first.reason());
    match message.purpose {
        Purpose::Emergency if of.has_emergencies(&message.line) => Ok(Verdict::Overrides),
        Purpose::Reply => {
            let since = standing.iter().map(|entry| entry.event).max().unwrap_or(i64::MAX);
            if has_written(tx, &message.line, &person.names, since, message.queued).await? {
                return Ok(Verdict::Allowed);
            }
            let confirmed = standing.iter().rev().find(|entry| entry.is_confirmed_by(&message.line, id, now));
            Ok(confirmed.map_or(stopped, |entry| Verdict::Confirms(entry.id)))
        }
        _ => Ok(stopped),
    }
}

/// Returns `true` if a person wrote something to answer after an event, and by a time.
async fn has_written<T: Register>(
    tx: &T,
    line: &str,
    names: &[String],
    event: i64,
    until: Timestamp,
) -> Result<bool, T::Error> {
    let bodies = tx.written_since(line, names, event, until).await?;
    Ok(bodies.iter().any(|body| match EventContent::read("event", body) {
        EventContent::Event(event) => event.as_answerable().is_some(),
        _ => false,
    }))
}

/// Records an opt-out, and ends the person's waiting messages on every line of the controller, or a consent. Returns
/// `false` if it is recorded already, and is not said again.
pub(super) async fn opt_out<T: Register>(
    tx: &T,
    of: &Directory,
    preference: &Preference,
    now: Timestamp,
) -> Result<bool, T::Error> {
    tx.lock_register(true).await?;
    let (mut names, mut keys) = (BTreeSet::new(), Vec::new());
    for named in &preference.persons {
        let person = person(tx, of, &preference.line, named).await?;
        names.extend(person.names);
        keys.extend(person.keys.into_iter().filter(|key| !keys.contains(key)).collect::<Vec<_>>());
    }
    for fingerprint in &preference.fingerprints {
        if !keys.iter().any(|key| key.fingerprint.as_ref() == Some(fingerprint)) {
            keys.push(PersonKey { address: String::new(), fingerprint: Some(fingerprint.clone()) });
        }
    }
    if keys.is_empty() {
        return Ok(false);
    }
    let controller = controller(tx, of, &preference.line).await?;
    let mut standing = tx.standing(&controller, keys.clone()).await?;
    // Linked persons may have several: the oldest is renewed.
    standing.sort_by_key(|entry| entry.id);
    let is_said =
        preference.recorded.is_none() && matches!(preference.source, OptOutSource::Keyword | OptOutSource::Gateway);
    if preference.consent.is_some() {
        // Each is evidence of its own.
        let event = tx.last_event().await?;
        let id = tx.insert_preference(&controller, preference, event, preference.recorded.unwrap_or(now)).await?;
        tx.insert_preference_keys(id, &controller, &keys).await?;
        return Ok(true);
    }
    match standing.iter().find(|entry| entry.is_same(preference)) {
        Some(_) if !is_said => return Ok(false),
        Some(entry) => {
            let event = tx.last_event().await?;
            tx.renew_preference(entry.id, &preference.line, preference.said.max(entry.said), event, now).await?;
            tx.insert_preference_keys(entry.id, &controller, &keys).await?;
        }
        // The gateway's rejection says nothing new.
        None if preference.source == OptOutSource::Rejection
            && standing.iter().any(|entry| {
                entry.kind == PreferenceKind::OptOut
                    && entry.scope == preference.scope
                    && entry.medium == preference.medium
            }) =>
        {
            return Ok(false);
        }
        None => {
            let event = tx.last_event().await?;
            let id = tx.insert_preference(&controller, preference, event, preference.recorded.unwrap_or(now)).await?;
            tx.insert_preference_keys(id, &controller, &keys).await?;
        }
    }
    end_waiting(tx, of, &controller, preference, names.into_iter().collect(), now).await?;
    Ok(true)
}

/// Records opt-outs, and returns how many are new, or said again.
pub(in super::super) async fn opt_outs<T: Register>(
    tx: &T,
    of: &Directory,
    preferences: &[Preference],
    now: Timestamp,
) -> Result<u64, T::Error> {
    let mut recorded = 0;
    for preference in preferences {
        recorded += u64::from(opt_out(tx, of, preference, now).await?);
    }
    Ok(recorded)
}

/// Ends the waiting messages that an opt-out stops, and their fallbacks.
async fn end_waiting<T: Register>(
    tx: &T,
    of: &Directory,
    controller: &str,
    preference: &Preference,
    names: Vec<String>,
    now: Timestamp,
) -> Result<(), T::Error> {
    let mut lines = lines_of(tx, of, controller).await?;
    lines.insert(preference.line.clone());
    for line in lines {
        let from = match preference.scope {
            OptOutScope::Marketing => PRIORITY_LAST,
            OptOutScope::All => u8::from(of.has_emergencies(&line)),
        };
        for (id, lane) in tx.ended_by_opt_out(&line, &names, from).await? {
            match &preference.medium {
                None => end_opted_out(tx, id, now).await?,
                // Its fallback on another medium may still be sent.
                Some(medium) if *medium == of.medium(&line, kind_of_lane(&lane)) => {
                    let reason = Reason::new("opt-out", "the person opted out on this medium").for_medium();
                    end_refused(tx, id, &reason, now).await?;
                }
                Some(_) => {}
            }
        }
    }
    Ok(())
}

/// Returns the active entries of a kind of a line's controller, oldest first, after one.
pub(in super::super) async fn listed<T: Register>(
    tx: &T,
    of: &Directory,
    (line, kind): (&str, PreferenceKind),
    after: Option<i64>,
    max: u32,
) -> Result<Vec<(OptOutEntry, Option<String>)>, T::Error> {
    let controller = controller(tx, of, line).await?;
    tx.preferences(&controller, kind, after.unwrap_or(i64::MIN), max).await
}

/// Lifts the opt-outs of a person that this ends, and returns their number.
pub(in super::super) async fn lift<T: Register>(
    tx: &T,
    of: &Directory,
    line: &str,
    named: &Named,
    lift: &Lift,
    now: Timestamp,
) -> Result<u64, T::Error> {
    tx.lock_register(true).await?;
    let person = person(tx, of, line, named).await?;
    let mut lifted = 0;
    for entry in tx.standing(&person.controller, person.keys).await? {
        if lift.ends(&entry) {
            tx.lift_preference(entry.id, lift.officer(), now).await?;
            lifted += 1;
        }
    }
    Ok(lifted)
}

/// Removes a person's addresses from the register, which keeps their fingerprints. Returns the number removed.
pub(in super::super) async fn pseudonymise<T: Register>(
    tx: &T,
    of: &Directory,
    line: &str,
    named: &Named,
) -> Result<u64, T::Error> {
    tx.lock_register(true).await?;
    let person = person(tx, of, line, named).await?;
    // Without the links the entries must match each address by themselves.
    for entry in tx.standing(&person.controller, person.keys.clone()).await? {
        tx.insert_preference_keys(entry.id, &person.controller, &person.keys).await?;
    }
    tx.forget_person_links(&person.keys).await?;
    let mut removed = 0;
    for address in tx.preference_addresses(&person.controller, person.keys).await? {
        let key = of.key(address);
        // Without a fingerprint the entry would be lost.
        if key.fingerprint.is_some() {
            removed += tx.forget_address(&person.controller, &key).await?;
        }
    }
    Ok(removed)
}

/// Applies an opt-out in answer to a message: records it, and drops the fallbacks of this message and of others to the
/// person.
pub(super) async fn opt_out_by_message<T: Register>(
    tx: &T,
    of: &Directory,
    message: i64,
    now: Timestamp,
) -> Result<(), T::Error> {
    tx.lock_register(true).await?;
    let Some(row) = tx.message(message, None).await? else { return Ok(()) };
    let MessageRow { line, recipient, priority, lane, .. } = row;
    let names = tx.names_of(&line, std::slice::from_ref(&recipient)).await?;
    tx.drop_fallbacks(message, &line, &names, opt_out_from(priority)).await?;
    if let Some(instead) = tx.instead_of(message).await? {
        end_opted_out(tx, instead, now).await?;
    }
    let kind = kind_of_lane(&lane);
    let preference = Preference {
        medium: of.reach(&line, &of.medium(&line, kind)),
        persons: vec![Named { kind: kind.to_owned(), names: vec![recipient] }],
        fingerprints: Vec::new(),
        scope: if priority == PRIORITY_LAST { OptOutScope::Marketing } else { OptOutScope::All },
        source: OptOutSource::Rejection,
        note: None,
        consent: None,
        said: now,
        recorded: None,
        line,
    };
    opt_out(tx, of, &preference, now).await.map(drop)
}

/// Ends a message, unless it was sent, and its fallback.
async fn end_opted_out<T: Tx>(tx: &T, id: i64, now: Timestamp) -> Result<(), T::Error> {
    end_refused(tx, id, &Reason::new("opt-out", super::super::record::OPTED_OUT), now).await
}

/// Ends a message, unless it was sent. Its fallback ends as well, unless the reason is limited to the medium.
pub(super) async fn end_refused<T: Tx>(tx: &T, id: i64, reason: &Reason, now: Timestamp) -> Result<(), T::Error> {
    let decision = match reason.rule() {
        _ if reason.is_for_medium() => "refuse_medium",
        "opt-out" => "opt_out",
        _ => "refuse",
    };
    tx.insert_decision(id, decision, reason, now).await?;
    let is_unknown = tx.has_unknown_attempt(id).await?;
    settle(tx, id, &opted_out(is_unknown, reason, now)).await?;
    if reason.is_for_medium() { Ok(()) } else { tx.set_fallback(id, None, false).await }
}
