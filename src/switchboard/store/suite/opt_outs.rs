//! The register of opt-outs in every store.

use std::sync::atomic::{AtomicBool, Ordering};

use super::super::super::directory::*;
use super::super::super::people::LinkChange;
use super::super::super::register::*;
use super::super::super::status::{Id, State, priority};
use super::*;
use crate::model::event::{AddressChanged, Event, OptOut};
use crate::model::secret::Secret;

const COUNCIL: &str = "Exampleshire Council";
const MINUTE: i64 = 60_000;

/// Two lines of the council, one of which sends emergencies to everybody, and one of a councillor.
pub(super) fn directory() -> Directory {
    let rules = |controller: &str, emergencies| LineRules {
        controller: controller.to_owned(),
        emergencies,
        consent: false,
        reach: OptOutReach::Person,
        phone: Medium::Sms,
    };
    let lines = [
        ("desk", rules(COUNCIL, false)),
        ("leader", rules(COUNCIL, true)),
        ("enquiries", rules("Councillor A. Adams", false)),
    ];
    Directory {
        lines: lines.map(|(line, rules)| (line.to_owned(), rules)).into(),
        pepper: Some(Secret::new("a-pepper-for-tests").unwrap()),
    }
}

pub(super) fn configured(store: &dyn Engine, other: &dyn Engine) {
    store.configure(directory());
    other.configure(directory());
}

pub(super) fn phone() -> Address {
    Address::phone("+447700900123").unwrap()
}

pub(super) fn whatsapp(id: &str) -> Address {
    Address::whatsapp(id).unwrap()
}

pub(super) fn to(line: &str, key: &str, to: &Address, purpose: Purpose, now: Timestamp) -> New {
    let message = Message::text(to.clone(), "Your collection is on Tuesday.").key(key).purpose(purpose);
    New { line: line.to_owned(), message, priority: priority(purpose), due: now, now, ..new(key, 0) }
}

async fn refused(store: &dyn Engine, new: New) -> bool {
    match store.enqueue(new).await.unwrap() {
        Enqueued::New(_) => false,
        Enqueued::Refused { reason, .. } => {
            assert_eq!(reason.rule(), "opt-out");
            true
        }
        other => panic!("{other:?}"),
    }
}

/// Stores one event of a line.
pub(super) async fn heard(store: &dyn Engine, line: &str, event: impl Into<Event>, now: Timestamp) {
    let incoming = Incoming { line: Some(line.to_owned()), event: event.into(), fetch: false, auto_reply: None };
    assert_eq!(store.store_events(vec![incoming], None, now).await.unwrap(), 1);
}

fn envelope_at(now: Timestamp) -> Envelope {
    let mut envelope = envelope();
    (envelope.at, envelope.id) = (now, Some(format!("{}", now.as_millis()).into()));
    envelope
}

/// A preference that the gateway reports, or that the person typed.
pub(super) fn preference(from: &Address, scope: OptOutScope, typed: bool, now: Timestamp) -> OptOut {
    let mut preference = OptOut::new(envelope_at(now), from.clone(), scope);
    preference.inbound = typed.then(|| format!("stop-{}", now.as_millis()).into());
    preference
}

fn stop_by(from: &Address, now: Timestamp) -> OptOut {
    preference(from, OptOutScope::All, true, now)
}

pub(super) fn question(from: &Address, now: Timestamp) -> Inbound {
    let id = format!("in-{}", now.as_millis());
    Inbound::new(envelope_at(now), id, from.clone(), InboundContent::Text("When is my bin day?".to_owned()))
}

pub(super) fn moved(from: &Address, to: &Address, now: Timestamp) -> AddressChanged {
    AddressChanged::new(envelope_at(now), from.clone(), to.clone())
}

pub(super) fn by_officer(person: &Address, now: Timestamp) -> Preference {
    Preference {
        line: "desk".to_owned(),
        persons: vec![Named::new(person)],
        fingerprints: Vec::new(),
        scope: OptOutScope::All,
        medium: None,
        source: OptOutSource::Officer { name: "J. Jones".to_owned() },
        note: None,
        consent: None,
        said: now,
        recorded: None,
    }
}

pub(super) fn change(line: &str, one: &Address, other: &Address) -> LinkChange {
    let (officer, reason) = ("J. Jones".to_owned(), "gave both".to_owned());
    LinkChange { line: line.to_owned(), keys: [key_of(one), key_of(other)], officer, reason }
}

/// Links of officers: over media and lines of one controller, as long as they last.
pub(super) async fn opt_out_follows_links_of_officers(store: &dyn Engine, other: &dyn Engine) {
    configured(store, other);
    let (x, number) = (Address::x("12345").unwrap(), Address::whatsapp("+447700900123").unwrap());
    // An id of another medium with the same digits is another person.
    let stranger = Address::messenger("12345").unwrap();
    heard(store, "desk", stop_by(&phone(), at(1)), at(1)).await;
    let waits = put(store, to("leader", "a", &x, Purpose::Notice, at(2))).await;
    assert!(store.link_persons(change("leader", &x, &whatsapp("GB.1")), at(3)).await.unwrap());
    assert!(!other.link_persons(change("desk", &whatsapp("GB.1"), &x), at(3)).await.unwrap());
    assert!(!stopped(other, "desk", &x, Purpose::Notice, at(4)).await);
    // A gateway states that the user is the number.
    heard(other, "desk", moved(&number, &whatsapp("GB.1"), at(5)), at(5)).await;
    for person in [&x, &phone(), &whatsapp("GB.1")] {
        assert!(stopped(other, "desk", person, Purpose::Notice, at(6)).await, "{person:?}");
        assert!(!stopped(other, "enquiries", person, Purpose::Notice, at(6)).await, "{person:?}");
    }
    assert!(!stopped(other, "desk", &stranger, Purpose::Notice, at(6)).await);
    assert!(matches!(&begun(store, at(8)).await[..], [(id, Begun::Refused(_))] if *id == waits));
    let links = other.person_links("desk", None, 9).await.unwrap();
    let [link] = &links[..] else { panic!("{links:?}") };
    assert_eq!((&link.addresses[0], &link.addresses[1]), (&x, &whatsapp("GB.1")));
    assert_eq!((&*link.line, &*link.officer, &*link.reason, link.at), ("leader", "J. Jones", "gave both", at(3)));
    assert!(!format!("{link:?}").contains("12345"));
    assert!(other.person_links("enquiries", None, 9).await.unwrap().is_empty());
    assert!(other.person_links("desk", Some(link.id), 9).await.unwrap().is_empty());
    assert!(!store.unlink_persons(change("enquiries", &x, &whatsapp("GB.1")), at(9)).await.unwrap());
    assert!(store.unlink_persons(change("desk", &x, &whatsapp("GB.1")), at(9)).await.unwrap());
    assert!(!stopped(other, "desk", &x, Purpose::Notice, at(10)).await);
    assert!(stopped(other, "desk", &whatsapp("GB.1"), Purpose::Notice, at(10)).await);
    assert!(other.person_links("desk", None, 9).await.unwrap().is_empty());
    // Erasure removes the link, and each address keeps the opt-out.
    assert!(store.link_persons(change("desk", &x, &phone()), at(11)).await.unwrap());
    assert!(store.pseudonymise("desk", Named::new(&x)).await.unwrap() > 0);
    assert!(other.person_links("desk", None, 9).await.unwrap().is_empty());
    for person in [&x, &phone()] {
        assert!(stopped(other, "desk", person, Purpose::Notice, at(12)).await, "{person:?}");
    }
}

async fn lift_by_officer(store: &dyn Engine, person: &Address, now: Timestamp) -> u64 {
    store.lift_preferences("desk", Named::new(person), Lift::Officer("J. Jones".to_owned()), now).await.unwrap()
}

async fn stopped(store: &dyn Engine, line: &str, person: &Address, purpose: Purpose, now: Timestamp) -> bool {
    store.is_stopped(Addressee::new(line, person, purpose, now), now).await.unwrap()
}

async fn listed(store: &dyn Engine, line: &str, after: Option<i64>, max: u32) -> Vec<OptOutEntry> {
    let listed = store.preferences(line, PreferenceKind::OptOut, after, max).await.unwrap();
    listed.into_iter().map(|(entry, _)| entry).collect()
}

async fn begun(store: &dyn Engine, now: Timestamp) -> Vec<(Id, Begun)> {
    let mut begun = Vec::new();
    for claimed in claim(store, now).await {
        begun.push((claimed.hold.id, begin_send(store, &claimed, now).await));
    }
    begun
}

pub(super) async fn opt_out_stops_messages_by_purpose(store: &dyn Engine, other: &dyn Engine) {
    configured(store, other);
    heard(other, "desk", stop_by(&phone(), at(1)), at(1)).await;
    for (line, purpose, is_refused) in [
        ("desk", Purpose::Notice, true),
        ("desk", Purpose::Marketing, true),
        ("desk", Purpose::Emergency, true),
        ("leader", Purpose::Notice, true),
        ("leader", Purpose::Reply, true),
        ("leader", Purpose::Emergency, false),
        ("enquiries", Purpose::Notice, false),
    ] {
        let key = format!("{line}-{purpose:?}");
        assert_eq!(refused(store, to(line, &key, &phone(), purpose, at(2))).await, is_refused, "{key}");
    }
    let somebody_else = Address::phone("+447700900456").unwrap();
    assert!(!refused(store, to("desk", "else", &somebody_else, Purpose::Notice, at(2))).await);
    // The same number on another medium.
    assert!(refused(store, to("desk", "w", &whatsapp("07700 900123"), Purpose::Notice, at(2))).await);
}

pub(super) async fn opt_out_wins_over_a_claimed_message(store: &dyn Engine, other: &dyn Engine) {
    configured(store, other);
    // One that the opt-out finds by its recipient, and one with a number beside the recipient that the store knows.
    let both = crate::model::address::WhatsAppUser::new(phone().as_phone().cloned(), Some("GB.1")).unwrap();
    let by_number = put(store, to("leader", "a", &phone(), Purpose::Notice, at(0))).await;
    let by_id = put(store, to("desk", "b", &Address::WhatsApp(both), Purpose::Notice, at(0))).await;
    let claimed = claim(store, at(1)).await;
    assert_eq!(claimed.len(), 2);
    heard(other, "desk", stop_by(&phone(), at(2)), at(2)).await;
    for claimed in &claimed {
        let begun = begin_send(store, claimed, at(3)).await;
        assert_ne!(begun, Begun::Sending, "{:?}", claimed.hold.id);
        assert_eq!(matches!(begun, Begun::Refused(_)), claimed.hold.id == by_id);
    }
    for id in [by_number, by_id] {
        let status = store.status(id).await.unwrap().unwrap();
        assert_eq!((status.state, status.code.as_deref()), (State::Refused, Some("opt-out")));
        assert_eq!(status.attempts, 0);
    }
}

pub(super) async fn link_made_later_carries_the_opt_out(store: &dyn Engine, other: &dyn Engine) {
    configured(store, other);
    heard(store, "desk", stop_by(&phone(), at(1)), at(1)).await;
    let waits = put(store, to("leader", "a", &whatsapp("GB.1"), Purpose::Notice, at(2))).await;
    // On another controller's line it says nothing about the council's.
    heard(other, "enquiries", moved(&phone(), &whatsapp("GB.1"), at(3)), at(3)).await;
    assert!(!stopped(store, "leader", &whatsapp("GB.1"), Purpose::Notice, at(4)).await);
    heard(other, "desk", moved(&phone(), &whatsapp("GB.1"), at(5)), at(5)).await;
    heard(other, "leader", moved(&whatsapp("GB.1"), &whatsapp("GB.2"), at(6)), at(6)).await;
    assert!(refused(store, to("desk", "b", &whatsapp("GB.2"), Purpose::Notice, at(7))).await);
    assert!(matches!(&begun(store, at(8)).await[..], [(id, Begun::Refused(_))] if *id == waits));
}

pub(super) async fn opt_out_outlives_retention_and_addresses(store: &dyn Engine, other: &dyn Engine) {
    configured(store, other);
    keeps(store, &[("desk", Some(Duration::from_secs(24 * 3600)))]).await;
    heard(store, "desk", moved(&phone(), &whatsapp("GB.1"), at(1)), at(1)).await;
    heard(store, "desk", stop_by(&phone(), at(2)), at(2)).await;
    acknowledge(store, at(3)).await;
    let later = at(30 * 24 * 60 * MINUTE);
    assert!(purge(store, later).await > 0);
    // The link is gone, and both addresses are still in the entry.
    for person in [phone(), whatsapp("GB.1")] {
        assert!(stopped(other, "desk", &person, Purpose::Notice, later).await);
    }
    assert!(other.pseudonymise("desk", Named::new(&phone())).await.unwrap() > 0);
    let [entry] = &listed(store, "desk", None, 9).await[..] else { panic!("one entry") };
    assert_eq!((entry.addresses.len(), entry.fingerprints.len()), (0, 2));
    for person in [phone(), whatsapp("GB.1")] {
        assert!(stopped(store, "desk", &person, Purpose::Notice, later).await);
    }
    // Under another pepper the entry matches nobody.
    let pepper = Some(Secret::new("another-pepper").unwrap());
    store.configure(Directory { pepper, ..directory() });
    assert!(!stopped(store, "desk", &phone(), Purpose::Notice, later).await);
}

pub(super) async fn reply_goes_to_a_message_written_after_the_opt_out(store: &dyn Engine, other: &dyn Engine) {
    configured(store, other);
    heard(store, "desk", question(&phone(), at(1)), at(1)).await;
    let old = put(store, to("desk", "old", &phone(), Purpose::Reply, at(2))).await;
    heard(other, "desk", stop_by(&phone(), at(3)), at(3)).await;
    assert_eq!(store.status(old).await.unwrap().unwrap().state, State::Refused);
    let late = at(3 + 11 * MINUTE);
    assert!(refused(store, to("desk", "early", &phone(), Purpose::Reply, late)).await);
    let written = late.plus(Duration::from_millis(2));
    heard(other, "desk", question(&phone(), written), written).await;
    // To that message only, and on its line.
    assert!(refused(store, to("desk", "before", &phone(), Purpose::Reply, late)).await);
    assert!(refused(store, to("leader", "other", &phone(), Purpose::Reply, written)).await);
    assert!(refused(store, to("desk", "notice", &phone(), Purpose::Notice, written)).await);
    let reply = put(store, to("desk", "reply", &phone(), Purpose::Reply, written)).await;
    assert_eq!(begun(other, written).await, [(reply, Begun::Sending)]);
    // A STOP again ends that, too; a START is no message to answer.
    let again = written.plus(Duration::from_secs(1200));
    heard(other, "desk", stop_by(&phone(), again), again).await;
    assert!(stopped(store, "desk", &phone(), Purpose::Reply, again.plus(Duration::from_secs(900))).await);
}

pub(super) async fn one_confirmation_goes_within_ten_minutes(store: &dyn Engine, other: &dyn Engine) {
    configured(store, other);
    heard(store, "desk", stop_by(&phone(), at(0)), at(0)).await;
    assert!(refused(other, to("leader", "a", &phone(), Purpose::Reply, at(1))).await);
    assert!(refused(other, to("desk", "b", &phone(), Purpose::Notice, at(1))).await);
    let confirmation = put(store, to("desk", "c", &phone(), Purpose::Reply, at(1))).await;
    assert!(refused(other, to("desk", "d", &phone(), Purpose::Reply, at(2))).await);
    // The same key is the same message.
    let again = store.enqueue(to("desk", "c", &phone(), Purpose::Reply, at(1))).await.unwrap();
    assert_eq!(again, Enqueued::Same(confirmation));
    assert_eq!(begun(store, at(3)).await, [(confirmation, Begun::Sending)]);
    assert!(store.finish(Hold { id: confirmation, fence: 1 }, accepted("id-c")).await.unwrap());
    // After a STOP again, one more; but not later, and none of two that raced past intake.
    heard(store, "desk", stop_by(&phone(), at(4)), at(4)).await;
    let late = at(5 + 10 * MINUTE);
    assert!(refused(other, to("desk", "e", &phone(), Purpose::Reply, late)).await);
    let [one, two] = ["f", "g"].map(|key| to("desk", key, &phone(), Purpose::Reply, at(5)));
    let one = put(store, one).await;
    assert!(refused(other, two).await);
    assert!(matches!(&begun(store, late).await[..], [(id, Begun::Refused(_))] if *id == one));
}

pub(super) async fn start_lifts_what_stop_set(store: &dyn Engine, other: &dyn Engine) {
    configured(store, other);
    let is_stopped = async |purpose| stopped(other, "leader", &phone(), purpose, at(99)).await;
    let start = |typed, now| preference(&phone(), OptOutScope::All, typed, now).resumed();
    heard(store, "desk", stop_by(&phone(), at(10)), at(10)).await;
    // An earlier START that arrives later ends nothing.
    heard(store, "desk", start(true, at(9)), at(11)).await;
    assert!(is_stopped(Purpose::Notice).await);
    heard(other, "leader", start(false, at(12)), at(12)).await;
    assert!(!is_stopped(Purpose::Notice).await);
    // An officer's entry is ended by the person's own word, or by an officer.
    assert_eq!(store.record_preferences(vec![by_officer(&phone(), at(13))], at(13)).await.unwrap(), 1);
    assert_eq!(other.record_preferences(vec![by_officer(&phone(), at(14))], at(14)).await.unwrap(), 0);
    heard(other, "leader", start(false, at(15)), at(15)).await;
    assert!(is_stopped(Purpose::Notice).await);
    heard(other, "leader", start(true, at(16)), at(16)).await;
    assert!(!is_stopped(Purpose::Notice).await);
    heard(store, "desk", stop_by(&phone(), at(17)), at(17)).await;
    assert_eq!(lift_by_officer(other, &phone(), at(18)).await, 1);
    assert!(!is_stopped(Purpose::Notice).await);
    assert!(listed(store, "desk", None, 9).await.is_empty());
}

pub(super) async fn marketing_preference_is_apart_from_stop(store: &dyn Engine, other: &dyn Engine) {
    configured(store, other);
    let is_stopped = async |purpose| stopped(other, "leader", &phone(), purpose, at(99)).await;
    let marketing = |now| preference(&phone(), OptOutScope::Marketing, false, now);
    heard(store, "desk", marketing(at(1)), at(1)).await;
    assert!(is_stopped(Purpose::Marketing).await && !is_stopped(Purpose::Notice).await);
    heard(store, "desk", stop_by(&phone(), at(2)), at(2)).await;
    heard(store, "desk", marketing(at(3)).resumed(), at(3)).await;
    assert!(is_stopped(Purpose::Marketing).await && is_stopped(Purpose::Notice).await);
    heard(store, "desk", marketing(at(4)), at(4)).await;
    heard(store, "desk", stop_by(&phone(), at(5)).resumed(), at(5)).await;
    assert!(is_stopped(Purpose::Marketing).await && !is_stopped(Purpose::Notice).await);
}

pub(super) async fn rejection_for_an_opt_out_is_recorded(store: &dyn Engine, other: &dyn Engine) {
    configured(store, other);
    for (n, purpose) in [(1, Purpose::Notice), (2, Purpose::Marketing)] {
        let person = new("", n).message.to;
        put(store, to("desk", &format!("a{n}"), &person, purpose, at(0))).await;
        let waits = put(store, to("leader", &format!("b{n}"), &person, purpose, at(90))).await;
        let claimed = claim(store, at(1)).await.remove(0);
        begin(store, &claimed).await;
        assert!(other.finish(claimed.hold, End { kind: "opted_out", ..end("rejected") }).await.unwrap());
        assert_eq!(store.status(waits).await.unwrap().unwrap().state, State::Refused);
        assert_eq!(stopped(store, "leader", &person, Purpose::Notice, at(9)).await, purpose == Purpose::Notice);
        assert!(stopped(store, "leader", &person, Purpose::Marketing, at(9)).await);
    }
    let entries = listed(store, "leader", None, 9).await;
    assert!(entries.iter().all(|entry| entry.source == OptOutSource::Rejection) && entries.len() == 2, "{entries:?}");
}

pub(super) async fn opt_out_of_a_medium_leaves_the_fallback(store: &dyn Engine, other: &dyn Engine) {
    let mut directory = directory();
    directory.lines.values_mut().for_each(|line| line.reach = OptOutReach::Medium);
    store.configure(directory.clone());
    other.configure(directory);
    let user = whatsapp("07700 900456");
    let first = |key: &str, due: i64| {
        let instead = Message::text(user.clone(), "Instead");
        let fallback = Some(Fallback::new(instead, Duration::from_secs(60)));
        New { fallback, due: at(due), ..to("desk", key, &phone(), Purpose::Notice, at(0)) }
    };
    let waits = put(store, first("a", 0)).await;
    let elsewhere = put(store, to("desk", "b", &whatsapp("07700 900123"), Purpose::Notice, at(0))).await;
    heard(other, "desk", stop_by(&phone(), at(1)), at(1)).await;
    assert_eq!(store.status(waits).await.unwrap().unwrap().state, State::Refused);
    assert_eq!(store.status(elsewhere).await.unwrap().unwrap().state, State::Queued);
    assert_eq!(fall_back(store, at(2)).await, 1);
    for claimed in claim(store, at(2)).await {
        assert_eq!(begin_send(store, &claimed, at(2)).await, Begun::Sending);
        assert!(store.finish(claimed.hold, accepted(&claimed.hold.id.to_string())).await.unwrap());
    }
    // One that is enqueued later is refused when it is due, and its fallback goes.
    assert!(refused(store, to("desk", "c", &phone(), Purpose::Notice, at(2))).await);
    let later = put(store, first("d", 0)).await;
    assert!(matches!(&begun(store, at(3)).await[..], [(id, Begun::Refused(_))] if *id == later));
    assert_eq!(fall_back(store, at(4)).await, 1);
}

pub(super) async fn fallback_to_a_person_who_opted_out_is_refused(store: &dyn Engine, other: &dyn Engine) {
    configured(store, other);
    // The person says it after the first message went, on a line of the same council.
    let user = whatsapp("GB.1");
    let instead = Fallback::new(Message::text(user.clone(), "Instead"), Duration::from_secs(60));
    let first =
        put(store, New { fallback: Some(instead.clone()), ..to("desk", "a", &phone(), Purpose::Notice, at(0)) });
    let first = first.await;
    assert_eq!(begun(store, at(1)).await, [(first, Begun::Sending)]);
    heard(other, "leader", stop_by(&user, at(2)), at(2)).await;
    let hold = Hold { id: first, fence: 1 };
    assert!(store.finish(hold, accepted("id-a")).await.unwrap());
    assert_eq!(fall_back(store, at(1_000_000)).await, 0);
    assert_eq!(store.status(first).await.unwrap().unwrap().fallback, None);
    let refusal = store.enqueue(New { fallback: Some(instead), ..to("desk", "b", &phone(), Purpose::Notice, at(3)) });
    assert!(matches!(refusal.await.unwrap(), Enqueued::Refused { is_fallback: true, .. }));
}

pub(super) async fn emergency_despite_an_opt_out_is_recorded(store: &dyn Engine, other: &dyn Engine) {
    configured(store, other);
    let waits = put(store, to("leader", "a", &phone(), Purpose::Emergency, at(9))).await;
    let ended = put(store, to("desk", "b", &phone(), Purpose::Emergency, at(9))).await;
    heard(other, "desk", stop_by(&phone(), at(1)), at(1)).await;
    assert_eq!(store.status(ended).await.unwrap().unwrap().state, State::Refused);
    assert_eq!(begun(store, at(9)).await, [(waits, Begun::Sending)]);
    let why = Reason::new("opt-out", "");
    assert_eq!(store.decided_since(waits, "override", why).await.unwrap(), Some(at(9)));
}

pub(super) async fn opt_outs_are_listed_in_pages(store: &dyn Engine, other: &dyn Engine) {
    configured(store, other);
    for n in 0..7 {
        heard(store, "desk", stop_by(&new("", n).message.to, at(n.into())), at(n.into())).await;
    }
    lift_by_officer(store, &new("", 2).message.to, at(9)).await;
    let first = listed(other, "leader", None, 4).await;
    let rest = listed(other, "leader", first.last().map(|entry| entry.id), 4).await;
    let addresses: Vec<_> = first.iter().chain(&rest).map(|entry| entry.addresses[0].clone()).collect();
    assert_eq!(addresses, [0, 1, 3, 4, 5, 6].map(|n| new("", n).message.to));
    assert!(first.iter().all(|entry| entry.controller.as_deref() == Some(COUNCIL) && entry.fingerprints.len() == 1));
    assert_eq!((first[1].at, first[1].line.as_deref()), (at(1), Some("desk")));
    assert!(listed(other, "enquiries", None, 9).await.is_empty());
}

/// Sends concurrent with a STOP, from two programs: whatever begins after the opt-out is committed is refused.
pub(super) async fn no_send_begins_after_an_opt_out(store: &dyn Engine, other: &dyn Engine) {
    configured(store, other);
    let random = seeded();
    let rounds = std::env::var("CIVIC_OPT_OUTS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let (mut went, mut ended) = (0, 0);
    for round in 0..rounds {
        let (person, now) = (new("", round).message.to, at(i64::from(round) * 1000));
        let fallback = Some(Fallback::new(Message::text(whatsapp("GB.1"), "Instead"), Duration::from_secs(60)));
        for line in ["desk", "leader"] {
            let with = if line == "desk" { fallback.clone() } else { None };
            put(store, New { fallback: with, ..to(line, &format!("{round}"), &person, Purpose::Notice, now) }).await;
        }
        // By its fallback, on another medium and line.
        let says = if random.next_u64().is_multiple_of(2) { person.clone() } else { whatsapp("GB.1") };
        let claimed = claim(store, now).await;
        let committed = AtomicBool::new(false);
        let (pause, before) = (random.next_u64() % 4, random.next_u64() % 4);
        let stopping = async {
            for _ in 0..pause {
                tokio::task::yield_now().await;
            }
            heard(other, "leader", stop_by(&says, now), now).await;
            committed.store(true, Ordering::SeqCst);
        };
        let sending = async {
            let mut violations = 0;
            for claimed in &claimed {
                for _ in 0..before {
                    tokio::task::yield_now().await;
                }
                let was_committed = committed.load(Ordering::SeqCst);
                match begin_send(store, claimed, now).await {
                    Begun::Sending => {
                        went += 1;
                        violations += u32::from(was_committed && says == person);
                        store.finish(claimed.hold, end("rejected")).await.unwrap();
                    }
                    Begun::Refused(_) | Begun::Deferred(_) | Begun::NotHeld => ended += 1,
                }
            }
            violations
        };
        let ((), violations) = tokio::join!(stopping, sending);
        assert_eq!(violations, 0, "round {round}");
        // Whatever the order, no fallback goes any more, and nothing else waits.
        let later = now.plus(Duration::from_secs(600));
        assert_eq!(fall_back(store, later).await, 0, "round {round}");
        store.recover(later, false).await.unwrap();
        assert_eq!(begun(store, later).await, [], "round {round}");
        lift_by_officer(store, &says, now).await;
    }
    println!("{rounds} rounds: {went} sends began first, {ended} were refused");
    assert!(went > 0 && ended > 0, "{went} {ended}");
}

pub(super) async fn marketing_needs_a_consent(store: &dyn Engine, other: &dyn Engine) {
    let mut directory = directory();
    directory.lines.values_mut().for_each(|line| line.consent = true);
    store.configure(directory.clone());
    other.configure(directory);
    let offer = |key: &str| to("desk", key, &phone(), Purpose::Marketing, at(0));
    let is_refused = async |key: &str| match store.enqueue(offer(key)).await.unwrap() {
        Enqueued::Refused { reason, .. } => reason.rule() == "consent",
        enqueued => panic!("{enqueued:?}"),
    };
    assert!(is_refused("a").await);
    assert!(!stopped(store, "desk", &phone(), Purpose::Notice, at(1)).await);
    let text = ConsentText { what: "offers".to_owned(), how: "web form".to_owned(), wording: "Yes, please".to_owned() };
    let consent = Preference { scope: OptOutScope::Marketing, consent: Some(text), ..by_officer(&phone(), at(1)) };
    assert_eq!(other.record_preferences(vec![consent], at(1)).await.unwrap(), 1);
    // It is no opt-out, and holds for the controller alone and over links.
    assert!(listed(store, "desk", None, 9).await.is_empty());
    assert!(stopped(store, "enquiries", &phone(), Purpose::Marketing, at(2)).await);
    heard(store, "leader", moved(&phone(), &whatsapp("GB.1"), at(2)), at(2)).await;
    assert!(!stopped(store, "desk", &whatsapp("GB.1"), Purpose::Marketing, at(3)).await);
    let waits = put(store, offer("b")).await;
    // An opt-out counts beside it, and an officer who lifts that leaves it.
    heard(other, "leader", preference(&phone(), OptOutScope::Marketing, false, at(4)), at(4)).await;
    assert_eq!(store.status(waits).await.unwrap().unwrap().code.as_deref(), Some("opt-out"));
    assert_eq!(lift_by_officer(store, &phone(), at(5)).await, 1);
    let waits = put(store, offer("c")).await;
    let claimed = claim(store, at(6)).await.remove(0);
    let withdrawal = Lift::Withdrawal("J. Jones".to_owned());
    assert_eq!(other.lift_preferences("leader", Named::new(&phone()), withdrawal, at(7)).await.unwrap(), 1);
    assert!(matches!(begin_send(store, &claimed, at(8)).await, Begun::Refused(_)));
    let status = store.status(waits).await.unwrap().unwrap();
    assert_eq!((status.state, status.code.as_deref()), (State::Refused, Some("consent")));
    assert!(is_refused("d").await);
}
