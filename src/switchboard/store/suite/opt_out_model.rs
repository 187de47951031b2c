//! The register of opt-outs against a model of its rules.

use std::collections::{BTreeMap, BTreeSet};

use super::super::super::directory::*;
use super::super::super::register::*;
use super::super::super::status::{Id, PRIORITY_LAST, State, priority};
use super::opt_outs::{
    by_officer, change, configured, directory, heard, moved, phone, preference, question, to, whatsapp,
};
use super::*;

/// The register as it is meant, over the places of six addresses.
#[derive(Default)]
struct Model {
    entries: Vec<Modelled>,
    /// By line: the current address of a former one.
    links: BTreeMap<&'static str, BTreeMap<usize, usize>>,
    /// Officers' links.
    pairs: BTreeSet<(&'static str, usize, usize)>,
    /// What persons wrote: its place among all that happened, the line and the address.
    written: Vec<(u32, &'static str, usize, Timestamp)>,
    messages: Vec<ModelledMessage>,
}

#[derive(Debug)]
struct Modelled {
    controller: String,
    persons: BTreeSet<usize>,
    scope: OptOutScope,
    source: OptOutSource,
    line: &'static str,
    at: Timestamp,
    said: Timestamp,
    place: u32,
    confirmed_by: Option<String>,
    lifted: bool,
}

#[derive(Debug)]
struct ModelledMessage {
    id: Id,
    key: String,
    line: &'static str,
    to: usize,
    purpose: Purpose,
    queued: Timestamp,
    waits: bool,
}

const LINES: [&str; 3] = ["desk", "leader", "enquiries"];

impl Model {
    fn controller(line: &str) -> String {
        directory().controller(line).unwrap().to_owned()
    }

    fn persons(&self, line: &str, of: usize) -> BTreeSet<usize> {
        let ours = |other: &str| Self::controller(other) == Self::controller(line);
        let by_gateways = self.links.iter().flat_map(|(line, links)| links.iter().map(|(a, b)| (*line, *a, *b)));
        let edges: Vec<_> = by_gateways.chain(self.pairs.iter().copied()).filter(|(line, ..)| ours(line)).collect();
        let mut persons = BTreeSet::from([of]);
        loop {
            let more = edges.iter().filter(|(_, a, b)| persons.contains(a) != persons.contains(b));
            let more: Vec<_> = more.flat_map(|(_, a, b)| [*a, *b]).collect();
            if more.is_empty() {
                return persons;
            }
            persons.extend(more);
        }
    }

    fn standing(&mut self, line: &str, of: usize) -> Vec<&mut Modelled> {
        let (persons, controller) = (self.persons(line, of), Self::controller(line));
        let stands =
            |one: &&mut Modelled| !one.lifted && one.controller == controller && !one.persons.is_disjoint(&persons);
        self.entries.iter_mut().filter(stands).collect()
    }

    /// Decides about a message, and takes the confirmation if it is one.
    fn allows(&mut self, of: &ModelledMessage, now: Timestamp, takes: bool) -> bool {
        let (persons, written) = (self.persons(of.line, of.to), self.written.clone());
        let mut stopping = self.standing(of.line, of.to);
        stopping.retain(|one| one.scope == OptOutScope::All || of.purpose == Purpose::Marketing);
        let Some(since) = stopping.iter().map(|one| one.place).max() else { return true };
        if of.purpose == Purpose::Emergency {
            return of.line == "leader";
        }
        let answers = |(place, line, by, at): &(u32, &str, usize, Timestamp)| {
            *place > since && *line == of.line && persons.contains(by) && *at <= of.queued
        };
        if of.purpose != Purpose::Reply || written.iter().any(answers) {
            return of.purpose == Purpose::Reply;
        }
        let confirms = |one: &&mut &mut Modelled| {
            matches!(one.source, OptOutSource::Keyword | OptOutSource::Gateway)
                && one.line == of.line
                && now.since(one.at).as_millis() <= 600_000
                && one.confirmed_by.as_ref().is_none_or(|key| *key == of.key)
        };
        // The last one, as the store numbers them.
        let Some(entry) = stopping.iter_mut().rev().find(confirms) else { return false };
        if takes {
            entry.confirmed_by = Some(of.key.clone());
        }
        true
    }

    fn stop(&mut self, line: &'static str, of: usize, scope: OptOutScope, source: OptOutSource, at: (Timestamp, u32)) {
        let (persons, (now, place)) = (self.persons(line, of), at);
        let is_said = matches!(source, OptOutSource::Keyword | OptOutSource::Gateway);
        let mut standing = self.standing(line, of);
        let rejection_is_known = source == OptOutSource::Rejection && standing.iter().any(|one| one.scope == scope);
        let same = standing
            .iter_mut()
            .find(|one| one.scope == scope && std::mem::discriminant(&one.source) == std::mem::discriminant(&source));
        match same {
            Some(one) if is_said => {
                (one.line, one.at, one.said, one.place, one.confirmed_by) = (line, now, now, place, None);
                one.persons.extend(&persons);
            }
            Some(_) => return,
            None if rejection_is_known => return,
            None => {
                let (controller, confirmed_by, lifted) = (Self::controller(line), None, false);
                let persons = persons.clone();
                let (at, said) = (now, now);
                self.entries.push(Modelled {
                    controller,
                    persons,
                    scope,
                    source,
                    line,
                    at,
                    said,
                    place,
                    confirmed_by,
                    lifted,
                });
            }
        }
        for message in self.messages.iter_mut().filter(|one| Self::controller(one.line) == Self::controller(line)) {
            let from = match scope {
                OptOutScope::Marketing => PRIORITY_LAST,
                OptOutScope::All => u8::from(message.line == "leader"),
            };
            message.waits &= !persons.contains(&message.to) || priority(message.purpose) < from;
        }
    }

    fn lift(&mut self, line: &str, of: usize, ends: impl Fn(&Modelled) -> bool) -> u64 {
        let mut lifted = 0;
        for entry in self.standing(line, of) {
            if ends(entry) {
                entry.lifted = true;
                lifted += 1;
            }
        }
        lifted
    }

    /// Returns an officer's link of the controller between two addresses.
    fn pair(&self, line: &str, one: usize, other: usize) -> Option<(&'static str, usize, usize)> {
        let is_meant = |(of, a, b): &&(&str, usize, usize)| {
            Self::controller(of) == Self::controller(line) && [(one, other), (other, one)].contains(&(*a, *b))
        };
        self.pairs.iter().find(is_meant).copied()
    }

    fn link(&mut self, line: &'static str, previous: usize, current: usize) {
        let links = self.links.entry(line).or_default();
        if links.get(&previous) == Some(&current) {
            return;
        }
        links.remove(&current);
        links.values_mut().filter(|to| **to == previous).for_each(|to| *to = current);
        if previous != current {
            links.insert(previous, current);
        }
    }
}

/// Random schedules against the model: opt-outs, their ends, links of gateways and of officers, messages of both sides, and sends.
pub(super) async fn opt_outs_match_the_model(store: &dyn Engine, other: &dyn Engine) {
    use OptOutScope::{All, Marketing};
    use OptOutSource::{Gateway, Keyword, Rejection};
    configured(store, other);
    let random = seeded();
    let below = |n: usize| usize::try_from(random.next_u64() % n as u64).unwrap();
    let addresses = [
        phone(),
        Address::phone("+447700900456").unwrap(),
        whatsapp("GB.1"),
        whatsapp("GB.2"),
        whatsapp("GB.3"),
        Address::x("12345").unwrap(),
    ];
    let steps = std::env::var("CIVIC_STEPS").ok().and_then(|n| n.parse().ok()).unwrap_or(400_u32);
    let (mut model, mut now, mut went, mut kept) = (Model::default(), at(0), 0, 0);
    for place in 1..=steps {
        now = now.plus(Duration::from_millis(if below(15) == 0 { 660_000 } else { 50 }));
        let (line, who) = (LINES[below(3)], below(addresses.len()));
        let (person, on) = (&addresses[who], if below(2) == 0 { store } else { other });
        match below(23) {
            0 | 1 => {
                let (scope, typed) = [(All, true), (All, false), (Marketing, false)][below(3)];
                heard(on, line, preference(person, scope, typed, now), now).await;
                model.stop(line, who, scope, if typed { Keyword } else { Gateway }, (now, place));
            }
            2 => {
                let typed = below(2) == 0;
                heard(on, line, preference(person, All, typed, now).resumed(), now).await;
                model.lift(line, who, |one| match one.source {
                    Keyword | Rejection => true,
                    Gateway => one.scope == All,
                    OptOutSource::Officer { .. } => typed,
                });
            }
            3 => {
                heard(on, line, preference(person, Marketing, false, now).resumed(), now).await;
                let is_theirs = |one: &Modelled| matches!(one.source, Gateway | Rejection);
                model.lift(line, who, |one| one.scope == Marketing && is_theirs(one));
            }
            4 => {
                let preference = Preference { line: line.to_owned(), ..by_officer(person, now) };
                let source = preference.source.clone();
                on.record_preferences(vec![preference], now).await.unwrap();
                model.stop(line, who, All, source, (now, place));
            }
            5 => {
                let lift = Lift::Officer("J. Jones".to_owned());
                let lifted = on.lift_preferences(line, Named::new(person), lift, now).await.unwrap();
                assert_eq!(lifted, model.lift(line, who, |_| true), "step {place}");
            }
            6 => {
                // WhatsApp alone states two addresses of a person.
                let (previous, current) = (below(5), 2 + below(3));
                heard(on, line, moved(&addresses[previous], &addresses[current], now), now).await;
                model.link(line, previous, current);
            }
            20 | 21 => {
                let (one, another) = (who, below(addresses.len()));
                if one == another {
                    continue;
                }
                let change = change(line, &addresses[one], &addresses[another]);
                let known = model.pair(line, one, another);
                assert_eq!(on.link_persons(change, now).await.unwrap(), known.is_none(), "step {place}");
                if known.is_none() {
                    model.pairs.insert((line, one, another));
                }
            }
            22 => {
                // Nearly always one that is there.
                let Some((of, one, another)) = model.pairs.iter().nth(below(model.pairs.len().max(1))).copied() else {
                    continue;
                };
                let known = model.pair(line, one, another);
                let change = change(line, &addresses[another], &addresses[one]);
                assert_eq!(on.unlink_persons(change, now).await.unwrap(), known.is_some(), "step {place}: {of}");
                if let Some(known) = known {
                    model.pairs.remove(&known);
                }
            }
            7 | 8 => {
                heard(on, line, question(person, now), now).await;
                model.written.push((place, line, who, now));
            }
            9..16 => {
                let purposes =
                    [Purpose::Notice, Purpose::Reply, Purpose::Marketing, Purpose::Emergency, Purpose::Reply];
                let (purpose, key) = (purposes[below(5)], format!("{place}"));
                let enqueued = on.enqueue(to(line, &key, person, purpose, now)).await.unwrap();
                let mut message = ModelledMessage { id: Id(0), key, line, to: who, purpose, queued: now, waits: true };
                let allowed = model.allows(&message, now, true);
                match enqueued {
                    Enqueued::New(id) if allowed => {
                        message.id = id;
                        model.messages.push(message);
                    }
                    Enqueued::Refused { .. } if !allowed => kept += 1,
                    other => panic!("step {place}: {other:?} {message:?} {:#?}", model.entries),
                }
            }
            _ => {
                for claimed in claim(on, now).await {
                    let n = model.messages.iter().position(|one| one.id == claimed.hold.id).unwrap();
                    let message = model.messages.remove(n);
                    let allowed = message.waits && model.allows(&message, now, true);
                    match begin_send(on, &claimed, now).await {
                        Begun::Sending if allowed => {
                            went += 1;
                            let is_rejected = below(6) == 0;
                            let ended = if is_rejected {
                                End { kind: "opted_out", now, ..end("rejected") }
                            } else {
                                End { now, ..accepted(&format!("id-{}", message.key)) }
                            };
                            assert!(on.finish(claimed.hold, ended).await.unwrap());
                            if is_rejected {
                                let scope = if message.purpose == Purpose::Marketing { Marketing } else { All };
                                model.stop(message.line, message.to, scope, Rejection, (now, place));
                            }
                        }
                        Begun::Refused(_) if message.waits && !allowed => kept += 1,
                        // A rejection just before in this round ended it.
                        Begun::NotHeld if !message.waits => {}
                        begun => panic!("step {place}: {begun:?} {message:?} {:#?}", model.entries),
                    }
                }
            }
        }
        for message in &model.messages {
            let state = other.status(message.id).await.unwrap().unwrap().state;
            let waits = matches!(state, State::Queued | State::Deferred | State::Claimed);
            assert_eq!(waits, message.waits, "step {place}: {message:?} {state:?}");
        }
        model.messages.retain(|message| message.waits);
    }
    assert!(went > 10 && kept > 10, "hardly anything happened: {went} {kept}");
}
