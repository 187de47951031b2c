//! What every store does, whatever it is made of.

use std::time::Duration;

use super::super::conversation::Entry;
use super::super::fallback::{Answer, Fallback};
use super::super::file::File;
use super::super::lanes::Rooms;
use super::super::outbox::{self};
use super::super::record::*;
use super::super::status::{AttemptOutcome, Id, PRIORITY_LAST, Settled, State, Status};
use super::super::watch::Stats;
use super::super::{EntryContent, Line};
use super::*;
use crate::media::StoredMedia;
use crate::model::address::{Address, Medium, Phone};
use crate::model::delivery::DeliveryState;
use crate::model::digest::Digest;
use crate::model::error::ErrorKind;
use crate::model::event::{Delivery, DeliveryOf, Envelope, Inbound, InboundContent, OptOutScope, Raw};
use crate::model::id::AccountId;
use crate::model::message::{Credits, Message, Money, OnUnknown, Purpose};
use crate::model::poll::Cursor;
use crate::model::random::{Random, SeededRandom};
use crate::policy::{Decision, Reason};

const LEASE: Duration = Duration::from_millis(200);

/// Runs each test on each kind of store; the second store is the same, by another way in.
macro_rules! each {
    ($($test:ident)*; $($long:ident)*) => {
        #[cfg(feature = "sqlite-system")]
        mod sqlite_in_memory {
            $(run!(super::in_memory, $test);)*
            $(run!(super::in_memory, $long);)*
        }

        #[cfg(feature = "sqlite-system")]
        mod sqlite_in_a_file {
            $(run!(super::in_a_file, $test);)*
            $(run!(super::in_a_file, $long);)*
        }

        #[cfg(feature = "postgres")]
        mod postgres {
            $(run!(super::postgres_of_this_step, $test);)*
            $(run!(super::postgres_of_this_step, $long);)*
        }

        #[cfg(feature = "postgres")]
        mod postgres_of_the_next_step {
            $(run!(super::postgres_of_the_next_step, $test);)*
        }
    };
}

macro_rules! run {
    ($made:path, $test:ident) => {
        #[tokio::test]
        async fn $test() {
            let Some((_place, store, other)) = $made().await else { return };
            super::$test(&*store.0, &*other.0).await;
        }
    };
}

each! {
    key_belongs_to_one_message
    claim_prefers_urgent_and_then_older_messages
    conversation_has_one_claim_at_a_time
    concurrent_claims_share_no_conversation
    scheduled_message_holds_back_none
    heads_match_the_model
    waiting_message_expires_after_not_after
    retried_message_holds_back_later_ones
    attempt_of_suspended_account_is_marked
    failed_event_is_parked_after_ten_attempts
    failed_event_holds_back_later_ones_of_its_person
    held_events_follow_in_order
    events_match_the_model
    event_that_arrives_during_an_ack_is_delivered
    unacknowledged_event_is_parked
    released_message_waits_for_its_time
    lane_changes_under_its_own_claim_only
    send_begins_under_its_own_claim_only
    send_ends_under_its_own_claim_only
    lapsed_claims_are_recovered_and_others_are_not
    message_is_parked_after_three_deaths_of_the_process
    restored_messages_have_an_unknown_outcome
    unknown_outcome_is_looked_up_at_intervals
    early_delivery_is_applied_by_id
    early_delivery_is_applied_by_key
    delivery_concurrent_with_finish_is_not_lost
    delivery_state_is_never_lowered
    delivery_settles_an_unknown_outcome
    delivery_up_to_a_time_covers_earlier_messages
    fallback_is_sent_once_at_its_deadline
    fallback_is_sent_at_once_after_a_failure
    fallback_is_not_sent_after_an_opt_out
    opt_out_ends_waiting_messages_and_fallbacks
    opt_out_from_one_message_ends_all_fallbacks
    opt_out_of_marketing_ends_marketing_only
    message_is_cancelled_only_for_an_allowed_fallback
    fallback_is_parked_after_a_restore
    ruling_is_recorded_under_its_own_claim_only
    message_deferred_at_enqueue_has_a_reason
    conversation_is_listed_newest_first
    changed_address_is_used_for_later_messages
    number_and_user_id_are_one_person
    recipient_renamed_by_the_gateway_is_one_person
    id_reported_with_a_key_is_stored
    message_is_found_by_reference_of_an_attempt
    early_delivery_is_applied_by_reference
    key_of_any_length_belongs_to_one_message
    messages_are_listed_line_by_line
    event_is_stored_once
    auto_reply_is_stored_once_with_its_message
    concurrent_messages_get_one_auto_reply
    cursor_of_a_channel_is_stored
    event_is_delivered_until_it_is_acknowledged
    settle_applies_to_the_given_states_only
    stats_count_every_state
    unusual_texts_are_stored_unchanged
    event_is_held_back_for_its_files_up_to_a_minute
    file_is_recorded_under_its_own_claim_only
    concurrent_fetches_release_their_event
    file_is_claimed_again_only_after_its_claim_lapses
    waiting_work_is_counted_line_by_line
    lines_are_stored_as_last_configured
    retention_removes_content_and_keeps_counts
    retention_keeps_waiting_work
    events_of_no_line_have_the_longest_retention
    file_without_references_is_removed
    file_being_removed_is_fetched_again
    early_deliveries_are_kept_for_thirty_days
    price_in_credits_is_stored_without_a_currency
    status_has_every_attempt
    status_of_a_refusal_has_its_rule
    settled_event_has_its_message
    retention_keeps_what_a_status_counts
    events_are_delivered_in_batches
    events_are_left_to_the_program_with_their_line
    enqueue_and_ack_is_atomic
    file_of_a_fallback_is_kept_until_it_is_sent
    messages_of_every_state_are_listed_in_pages
    whole_store_passes_its_check
    waiting_message_shows_the_last_worker_activity
    clock_set_back_is_detected_until_waits_are_bounded
    message_waits_are_bounded_after_clock_is_set_back
    scheduled_message_keeps_its_time_after_clock_is_set_back
    event_and_file_waits_are_bounded_after_clock_is_set_back
    waits_within_their_length_are_unchanged
    unhandled_message_counts_from_the_corrected_clock
    receipt_up_to_a_time_counts_before_its_send_ends
    receipt_up_to_a_time_ends_fallbacks
    receipt_up_to_a_time_never_lowers_nor_reaches_ahead
    receipt_up_to_a_time_is_kept_with_its_messages
    resent_message_has_attempts_of_its_own
    ;
    stale_writer_is_refused_a_thousand_times
}

#[cfg(feature = "sqlite-system")]
async fn in_memory() -> Option<((), Store, Store)> {
    let store = Store::open("sqlite::memory:").await.unwrap();
    Some(((), store.clone(), store))
}

#[cfg(feature = "sqlite-system")]
async fn in_a_file() -> Option<(OnDisk, Store, Store)> {
    let file = OnDisk::new();
    let url = file.url();
    let store = sqlite::Sqlite::open(url.strip_prefix("sqlite:").unwrap()).await.unwrap();
    let other = store.beside().await.unwrap();
    Some((file, Store(Arc::new(store)), Store(Arc::new(other))))
}

#[cfg(feature = "postgres")]
async fn postgres_of_this_step() -> Option<(cluster::Database, Store, Store)> {
    let database = cluster::Database::new().await?;
    Store::migrate(database.url()).await.unwrap();
    of_a_role(database).await
}

/// While a deploy goes on, the database is ahead.
#[cfg(feature = "postgres")]
async fn postgres_of_the_next_step() -> Option<(cluster::Database, Store, Store)> {
    let database = cluster::Database::new().await?;
    super::postgres::migrate_ahead(database.url()).await;
    of_a_role(database).await
}

/// Two stores for a role that has no more rights than it needs.
#[cfg(feature = "postgres")]
async fn of_a_role(database: cluster::Database) -> Option<(cluster::Database, Store, Store)> {
    assert_eq!(database.grant(include_str!("postgres/schema.sql"), "the_role").await, 2);
    let url = database.url_of_role();
    let (store, other) = (Store::open(&url).await.unwrap(), Store::open(&url).await.unwrap());
    Some((database, store, other))
}

async fn key_belongs_to_one_message(store: &dyn Engine, other: &dyn Engine) {
    let Enqueued::New(id) = store.enqueue(new("k", 1)).await.unwrap() else { panic!("it is new") };
    assert_eq!(other.enqueue(new("k", 1)).await.unwrap(), Enqueued::Same(id));
    assert_eq!(other.enqueue(new("k", 2)).await.unwrap(), Enqueued::Other);
    let elsewhere = New { line: "leader".to_owned(), ..new("k", 2) };
    assert!(matches!(other.enqueue(elsewhere).await.unwrap(), Enqueued::New(_)));
    assert_eq!(store.by_key("desk", "k").await.unwrap(), Some(id));
    assert_eq!(store.by_key("desk", "l").await.unwrap(), None);
    // At the same moment.
    let (one, two) = tokio::join!(store.enqueue(new("m", 3)), other.enqueue(new("m", 3)));
    let (one, two) = (one.unwrap(), two.unwrap());
    let id = store.by_key("desk", "m").await.unwrap().unwrap();
    assert!([one, two].contains(&Enqueued::New(id)) && [one, two].contains(&Enqueued::Same(id)), "{one:?} {two:?}");
}

async fn claim_prefers_urgent_and_then_older_messages(store: &dyn Engine, _: &dyn Engine) {
    for (key, priority, queued) in [("a", 2, 3), ("b", 2, 1), ("c", 0, 4), ("d", 1, 2), ("e", 2, 1)] {
        let person = u32::from(key.as_bytes()[0]);
        put(store, New { priority, due: at(queued), now: at(queued), ..new(key, person) }).await;
    }
    assert_eq!(keys(store, at(5), 3).await, ["c", "d", "b"]);
    assert_eq!(keys(store, at(5), 9).await, ["e", "a"]);
    assert_eq!(keys(store, at(5), 9).await, [""; 0]);
    assert_eq!(keys(store, at(5), 0).await, [""; 0]);
}

async fn conversation_has_one_claim_at_a_time(store: &dyn Engine, other: &dyn Engine) {
    for key in ["a", "b", "c"] {
        put(store, new(key, 1)).await;
    }
    put(store, New { line: "leader".to_owned(), ..new("a", 1) }).await;
    let first = claim(store, at(1)).await;
    assert_eq!(first.iter().map(|claimed| &*claimed.line).collect::<Vec<_>>(), ["desk", "leader"]);
    assert_eq!(keys(other, at(1), 9).await, [""; 0]);
    begin(store, &first[0]).await;
    // More urgent, and yet it waits for what is on its way.
    put(store, New { priority: 0, ..new("d", 1) }).await;
    assert_eq!(keys(other, at(1), 9).await, [""; 0]);
    assert!(store.finish(first[0].hold, accepted("id-a")).await.unwrap());
    assert_eq!(keys(other, at(1), 9).await, ["d"]);
}

async fn concurrent_claims_share_no_conversation(store: &dyn Engine, other: &dyn Engine) {
    // Urgent messages are claimed before older ones, so two of each conversation could be claimed.
    for round in 0..20 {
        for person in 0..4 {
            put(store, new(&format!("{round}-{person}"), person)).await;
            put(store, New { priority: 0, ..new(&format!("{round}-{person}-urgent"), person) }).await;
        }
        let mut done = Vec::new();
        while done.len() < 8 {
            let (one, two, three, four) = tokio::join!(
                claims(store, at(1), 3),
                claims(other, at(1), 3),
                claims(store, at(1), 9),
                claims(other, at(1), 9),
            );
            let now: Vec<_> = [one, two, three, four].into_iter().flat_map(Result::unwrap).collect();
            assert!(!now.is_empty(), "{round}: nothing of {done:?}");
            let mut persons: Vec<_> = now.iter().map(|claimed| claimed.message.as_ref().unwrap().to.expose()).collect();
            persons.sort_unstable();
            assert!(persons.windows(2).all(|two| two[0] != two[1]), "{round}: {persons:?}");
            for claimed in now {
                begin(store, &claimed).await;
                let key = claimed.message.as_ref().unwrap().key.clone().unwrap();
                assert!(other.finish(claimed.hold, accepted(&format!("id-{key}"))).await.unwrap());
                done.push(key);
            }
        }
        let place = |key: String| done.iter().position(|claimed| *claimed == key);
        for person in 0..4 {
            let (plain, urgent) = (place(format!("{round}-{person}")), place(format!("{round}-{person}-urgent")));
            assert!(urgent < plain, "{done:?}");
        }
    }
}

async fn scheduled_message_holds_back_none(store: &dyn Engine, _: &dyn Engine) {
    put(store, New { due: at(100), ..new("later", 1) }).await;
    put(store, new("now", 1)).await;
    assert_eq!(store.stats(at(1)).await.unwrap().all().messages.len(), 2);
    let claimed = claim(store, at(1)).await;
    assert_eq!(claimed[0].message.as_ref().unwrap().key.as_deref(), Some("now"));
    begin(store, &claimed[0]).await;
    assert!(store.finish(claimed[0].hold, accepted("id")).await.unwrap());
    assert_eq!(keys(store, at(99), 9).await, [""; 0]);
    assert_eq!(keys(store, at(100), 9).await, ["later"]);
}

async fn waiting_message_expires_after_not_after(store: &dyn Engine, other: &dyn Engine) {
    let until = |key, person, not_after| {
        let new = new(key, person);
        New { message: new.message.clone().not_after(not_after), ..new }
    };
    let first = put(store, until("first", 1, at(50))).await;
    let behind = put(store, until("behind", 1, at(60))).await;
    let planned = put(store, New { due: at(90), ..until("planned", 2, at(55)) }).await;
    let later = put(store, until("later", 3, at(500))).await;
    let sending = put(store, until("sending", 4, at(20))).await;
    let claimed = claim(store, at(1)).await.into_iter().find(|claimed| claimed.hold.id == sending).unwrap();
    begin(store, &claimed).await;
    for held in claim(other, at(400)).await {
        store.unclaim(held.hold).await.unwrap();
    }
    other.recover(at(400), false).await.unwrap();
    assert_eq!(store.expire(at(50), 9).await.unwrap(), []);
    let mut ended = store.expire(at(61), 9).await.unwrap();
    ended.sort_unstable_by_key(|(id, ..)| *id);
    let expired = |id| (id, "desk".to_owned(), State::Expired);
    assert_eq!(ended, [first, behind, planned].map(expired));
    assert_eq!(other.expire(at(61), 9).await.unwrap(), []);
    assert_eq!(store.status(later).await.unwrap().unwrap().state, State::Queued);
    assert_ne!(store.status(sending).await.unwrap().unwrap().state, State::Expired);
}

/// A message, as the order of conversations is meant.
#[derive(Clone, Debug)]
struct Modelled {
    id: Id,
    line: &'static str,
    person: u32,
    class: u8,
    due: Timestamp,
    stands: Stands,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    Planned,
    Waiting,
    OnItsWay(Hold),
    Unknown,
    Parked,
    Ended,
}

/// The messages that may be claimed: of each conversation the first of its most urgent class, unless one is on its way. What is
/// planned holds nobody up; what waits for another try, or has an unknown outcome, holds up its class and those below.
fn heads(all: &mut [Modelled], now: Timestamp) -> Vec<Id> {
    for planned in all.iter_mut().filter(|one| one.stands == Stands::Planned && one.due <= now) {
        planned.stands = Stands::Waiting;
    }
    let in_order = |one: &&Modelled| !matches!(one.stands, Stands::Planned | Stands::Parked | Stands::Ended);
    let mut heads = Vec::new();
    for line in ["desk", "leader"] {
        for person in 0..4 {
            let of = || all.iter().filter(in_order).filter(|one| one.line == line && one.person == person);
            let first = of().min_by_key(|one| (one.class, one.id));
            let busy = of().any(|one| matches!(one.stands, Stands::OnItsWay(_)));
            heads
                .extend(first.filter(|one| !busy && one.stands == Stands::Waiting && one.due <= now).map(|one| one.id));
        }
    }
    heads.sort_unstable();
    heads
}

/// Returns the randomness of a model test; `CIVIC_SEED=n` replays a run.
fn seeded() -> SeededRandom {
    let seed = std::env::var("CIVIC_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_130);
    println!("CIVIC_SEED={seed}");
    SeededRandom::new(seed)
}

async fn heads_match_the_model(store: &dyn Engine, other: &dyn Engine) {
    let random = seeded();
    let below = |n: u64| random.next_u64() % n;
    let (mut all, mut now) = (Vec::<Modelled>::new(), at(1_000));
    for step in 0..250 {
        match below(10) {
            0..4 => {
                let (line, person) = (["desk", "leader"][below(2) as usize], below(4) as u32);
                let (class, wait) = (below(4) as u8, [0, 0, 0, 40][below(4) as usize]);
                let due = now.plus(Duration::from_millis(wait));
                let new = New { line: line.to_owned(), priority: class, due, now, ..new(&format!("{step}"), person) };
                let id = put(if below(2) == 0 { store } else { other }, new).await;
                let stands = if wait > 0 { Stands::Planned } else { Stands::Waiting };
                all.push(Modelled { id, line, person, class, due, stands });
            }
            4 => now = now.plus(Duration::from_millis(below(30))),
            5 => {
                // A person, or news of a gateway, settles one with an unknown outcome.
                let Some(one) = all.iter_mut().find(|one| one.stands == Stands::Unknown) else { continue };
                let (state, stands) =
                    [(State::Queued, Stands::Waiting), (State::Accepted, Stands::Ended)][below(2) as usize];
                let settle = Settle { state, due: Some(now), reason: None, from: &[State::Unknown], now };
                assert!(store.settle(one.id, settle).await.unwrap().is_some());
                (one.stands, one.due) = (stands, now);
            }
            6 => {
                let n = below(all.len() as u64 + 1) as usize;
                let Some(one) = all.get_mut(n) else { continue };
                let (state, from): (_, &[State]) = match one.stands {
                    Stands::Planned | Stands::Waiting => (State::Cancelled, &[State::Queued, State::Deferred]),
                    Stands::Parked => (State::Queued, &[State::Parked]),
                    _ => continue,
                };
                let settle = Settle { state, due: Some(now), reason: None, from, now };
                assert!(store.settle(one.id, settle).await.unwrap().is_some(), "{one:?}");
                one.stands = if one.stands == Stands::Parked { Stands::Waiting } else { Stands::Ended };
                one.due = now;
            }
            7 => {
                let Some(one) = all.iter_mut().find(|one| matches!(one.stands, Stands::OnItsWay(_))) else { continue };
                let Stands::OnItsWay(hold) = one.stands else { continue };
                let later = now.plus(Duration::from_millis(20));
                let (state, due, stands) = [
                    (State::Accepted, None, Stands::Ended),
                    (State::Deferred, Some(later), Stands::Waiting),
                    (State::Queued, Some(now), Stands::Waiting),
                    (State::Unknown, Some(later), Stands::Unknown),
                    (State::Parked, None, Stands::Parked),
                    (State::Rejected, None, Stands::Ended),
                ][below(6) as usize];
                assert!(store.finish(hold, End { state, due, ..end("") }).await.unwrap());
                (one.stands, one.due) = (stands, due.unwrap_or(now));
            }
            _ => {
                let expected = heads(&mut all, now);
                let room = ["desk", "leader"].map(|line| (line.to_owned(), 99)).into();
                let rooms = Rooms { lines: room, ..Rooms::default() };
                let lease = Duration::from_secs(3600);
                let claimed = store.claim(now, lease, rooms).await.unwrap().claimed;
                let mut ids: Vec<_> = claimed.iter().map(|claimed| claimed.hold.id).collect();
                ids.sort_unstable();
                assert_eq!(ids, expected, "step {step} at {now:?}: {all:#?}");
                for claimed in claimed {
                    let one = all.iter_mut().find(|one| one.id == claimed.hold.id).unwrap();
                    let later = now.plus(Duration::from_millis(25));
                    match below(5) {
                        0 => store.unclaim(claimed.hold).await.unwrap(),
                        1 => {
                            assert!(store.put_off(claimed.hold, off(later)).await.unwrap());
                            one.due = later;
                        }
                        2 => {
                            let planned = PutOff { planned: true, ..off(later) };
                            assert!(store.put_off(claimed.hold, planned).await.unwrap());
                            (one.stands, one.due) = (Stands::Planned, later);
                        }
                        _ => {
                            assert!(store.begin(claimed.hold, attempt(now)).await.unwrap());
                            one.stands = Stands::OnItsWay(claimed.hold);
                        }
                    }
                }
            }
        }
    }
    let began = all.iter().filter(|one| one.stands == Stands::Ended).count();
    assert!(all.len() > 50 && began > 5, "hardly anything happened");
}

async fn retried_message_holds_back_later_ones(store: &dyn Engine, _: &dyn Engine) {
    let id = put(store, new("one", 1)).await;
    put(store, new("two", 1)).await;
    let claimed = claim(store, at(1)).await;
    begin(store, &claimed[0]).await;
    let again = End { state: State::Deferred, due: Some(at(50)), ..end("not_sent") };
    assert!(store.finish(claimed[0].hold, again).await.unwrap());
    assert_eq!(keys(store, at(49), 9).await, [""; 0]);
    let claimed = claim(store, at(50)).await;
    assert_eq!(claimed.len(), 1);
    assert_eq!((claimed[0].hold.id, claimed[0].hold.fence), (id, 2));
    let attempt = Attempt::new("mock", "desk", at(2));
    assert_eq!((&*claimed[0].attempts, claimed[0].queued), (&[attempt][..], at(0)));
}

async fn attempt_of_suspended_account_is_marked(store: &dyn Engine, _: &dyn Engine) {
    put(store, new("one", 1)).await;
    let claimed = claim(store, at(1)).await;
    begin(store, &claimed[0]).await;
    let suspended = End { state: State::Rejected, reason: Some("locked".to_owned()), ..end("rejected") };
    assert!(store.finish(claimed[0].hold, suspended.suspended(Duration::from_millis(47))).await.unwrap());
    let claimed = claim(store, at(50)).await;
    let attempt = Attempt { suspended: true, passing: true, ..attempt(at(2)) };
    assert_eq!(claimed[0].attempts, [attempt]);
    let status = store.status(claimed[0].hold.id).await.unwrap().unwrap();
    assert_eq!(status.reason.as_deref(), Some("the account is suspended: locked"));
}

fn of(line: &str) -> EventFilter {
    EventFilter::Line(line.to_owned())
}

fn all(own: &[&str]) -> EventFilter {
    EventFilter::All { own: own.iter().map(|line| (*line).to_owned()).collect() }
}

async fn batch(store: &dyn Engine, of: &EventFilter, now: Timestamp, max: u32) -> Vec<String> {
    let batch = store.next_batch(of, now, LEASE, max).await.unwrap();
    let text = |handed: super::super::record::InboxEvent| match handed.what {
        EventContent::Event(event) => event.as_inbound().unwrap().text().unwrap().to_owned(),
        EventContent::Settled(settled) => settled.key,
        EventContent::Unreadable => String::new(),
    };
    batch.into_iter().map(text).collect()
}

async fn events_are_delivered_in_batches(store: &dyn Engine, other: &dyn Engine) {
    for id in ["1", "2", "3", "4", "5"] {
        photos(store, id, 0).await;
    }
    sent(store, "settled", accepted("id")).await;
    assert_eq!(batch(store, &of("desk"), at(9), 2).await, ["1", "2"]);
    assert_eq!(batch(other, &all(&[]), at(9), 9).await, ["3", "4", "5", "settled"]);
    assert_eq!(batch(store, &all(&[]), at(9), 9).await, [""; 0]);
    // Two at once share none.
    let later = at(9).plus(LEASE);
    let (of_one, of_all) = (of("desk"), all(&[]));
    let (mut one, two) = tokio::join!(batch(store, &of_one, later, 3), batch(other, &of_all, later, 3));
    one.extend(two);
    one.sort_unstable();
    assert_eq!(one, ["1", "2", "3", "4", "5", "settled"]);
    // Events that failed too often are parked, and others are delivered.
    photos(store, "6", 0).await;
    let mut now = later;
    for _ in 2..EVENT_ATTEMPTS {
        now = now.plus(LEASE);
        assert_eq!(batch(store, &of("desk"), now, 6).await.len(), 6);
    }
    assert_eq!(batch(store, &of("desk"), now.plus(LEASE), 3).await, ["6"]);
    assert_eq!(store.parked_events(&of("desk"), 0, now, 9).await.unwrap().len(), 6);
}

async fn events_are_left_to_the_program_with_their_line(store: &dyn Engine, other: &dyn Engine) {
    keeps(store, &[("desk", None), ("leader", None), ("old", None)]).await;
    let incoming = |line: Option<&str>, id| Incoming { line: line.map(str::to_owned), ..incoming(id, 0) };
    for (line, id) in [(Some("leader"), "1"), (None, "2"), (Some("desk"), "3"), (Some("old"), "4"), (Some("new"), "5")]
    {
        store.store_events(vec![incoming(line, id)], None, at(0)).await.unwrap();
    }
    store.attend(vec!["desk".to_owned()], at(0)).await.unwrap();
    other.attend(vec!["leader".to_owned()], at(0)).await.unwrap();
    // A line on which nobody has worked is left to nobody.
    assert_eq!(batch(store, &all(&["desk"]), at(1), 9).await, ["2", "3", "4", "5"]);
    let later = at(1).plus(LEASE);
    assert_eq!(batch(other, &all(&["leader"]), later, 2).await, ["1", "2"]);
    assert_eq!(batch(other, &all(&["leader"]), later, 9).await, ["4", "5"]);
    let late = at(0).plus(7 * DAY);
    assert_eq!(batch(store, &all(&["desk"]), late.minus(Duration::from_millis(1)), 1).await, ["2"]);
    assert_eq!(batch(store, &all(&["desk"]), late.minus(Duration::from_millis(1)), 9).await, ["3", "4", "5"]);
    // It is a line that was taken away.
    assert_eq!(batch(store, &all(&["desk"]), late, 9).await, ["1"]);
    let mut parked = late;
    for _ in 0..EVENT_ATTEMPTS {
        parked = parked.plus(LEASE);
        batch(store, &all(&[]), parked, 9).await;
    }
    other.attend(vec!["leader".to_owned()], parked).await.unwrap();
    assert_eq!(store.parked_events(&all(&["desk"]), 0, parked, 9).await.unwrap().len(), 4);
    assert_eq!(store.parked_events(&all(&["leader"]), 0, parked, 9).await.unwrap().len(), 5);
}

async fn enqueue_and_ack_is_atomic(store: &dyn Engine, other: &dyn Engine) {
    photos(store, "one", 0).await;
    put(store, new("other", 1)).await;
    let handed = next(store, at(1)).await.unwrap();
    // The key is another's: nothing is acknowledged.
    assert_eq!(store.enqueue_and_ack(new("other", 2), handed.id).await.unwrap(), Enqueued::Other);
    let again = next(other, at(1).plus(LEASE)).await.unwrap();
    assert_eq!(again.id, handed.id);
    let Enqueued::New(id) = other.enqueue_and_ack(new("reply", 1), handed.id).await.unwrap() else {
        panic!("it is new")
    };
    assert!(next(store, at(9).plus(9 * LEASE)).await.is_none());
    assert_eq!(store.enqueue_and_ack(new("reply", 1), handed.id).await.unwrap(), Enqueued::Same(id));
}

async fn next(store: &dyn Engine, now: Timestamp) -> Option<super::super::record::InboxEvent> {
    store.next(Some("desk"), now, LEASE).await.unwrap()
}

async fn failed_event_is_parked_after_ten_attempts(store: &dyn Engine, other: &dyn Engine) {
    photos(store, "poison", 0).await;
    for n in 1..=EVENT_ATTEMPTS {
        let now = at(100 * i64::from(n));
        let handed = next(store, now).await.unwrap();
        assert_eq!(handed.attempts, n);
        let parked = other.nack(handed.id, now.plus(Duration::from_millis(50)), now).await.unwrap();
        assert_eq!(parked, n == EVENT_ATTEMPTS);
        assert!(next(store, now.plus(Duration::from_millis(49))).await.is_none());
    }
    assert!(next(store, at(1_000_000_000)).await.is_none());
    let counts = store.stats(at(2_000)).await.unwrap().all();
    assert_eq!((counts.unread, counts.parked_events), (0, 1));
    let parked = store.parked_events(&of("desk"), 0, at(9), 9).await.unwrap();
    assert_eq!((parked.len(), store.parked_events(&all(&[]), 0, at(9), 9).await.unwrap().len()), (1, 1));
    assert!(store.parked_events(&all(&[]), parked[0].id, at(9), 9).await.unwrap().is_empty());
    assert!(store.parked_events(&of("other"), 0, at(9), 9).await.unwrap().is_empty());
    // A person has it delivered again.
    assert!(!store.nack(parked[0].id, at(3_000), at(3_000)).await.unwrap());
    let handed = next(store, at(3_000)).await.unwrap();
    assert_eq!(handed.attempts, 1);
    store.ack(handed.id, at(3_001)).await.unwrap();
    assert!(!store.nack(handed.id, at(3_002), at(3_002)).await.unwrap(), "it is acknowledged");
    assert!(next(store, at(1_000_000_000)).await.is_none());
    assert!(store.parked_events(&all(&[]), 0, at(9), 9).await.unwrap().is_empty());
}

async fn failed_event_holds_back_later_ones_of_its_person(store: &dyn Engine, _: &dyn Engine) {
    photos(store, "first", 0).await;
    photos(store, "second", 0).await;
    let first = next(store, at(1)).await.unwrap();
    store.nack(first.id, at(50), at(2)).await.unwrap();
    assert!(next(store, at(49)).await.is_none());
    let again = next(store, at(50)).await.unwrap();
    assert_eq!((again.id, again.attempts), (first.id, 2));
    assert!(next(store, at(51)).await.is_none(), "it has failed before");
    store.ack(again.id, at(52)).await.unwrap();
    assert!(next(store, at(53)).await.is_some());
}

/// Returns the text of a resident's message.
fn said(event: &InboxEvent) -> String {
    match &event.what {
        EventContent::Event(event) => event.as_inbound().unwrap().text().unwrap().to_owned(),
        _ => panic!("it is a message"),
    }
}

async fn held_events_follow_in_order(store: &dyn Engine, _: &dyn Engine) {
    let (ours, others) = (Address::phone("07700 900001").unwrap(), Address::phone("07700 900002").unwrap());
    let arrive = async |numbers: std::ops::Range<u32>, from: &Address, now| {
        store.store_events(numbers.map(|n| inbound(n, from)).collect(), None, now).await.unwrap();
    };
    arrive(0..70, &ours, at(1)).await;
    let first = next(store, at(2)).await.unwrap();
    store.nack(first.id, at(50), at(3)).await.unwrap();
    arrive(70..100, &ours, at(4)).await;
    arrive(100..101, &others, at(5)).await;
    // Not behind another person's.
    let other = next(store, at(6)).await.unwrap();
    assert_eq!(said(&other), "Theirs 100");
    assert!(next(store, at(49)).await.is_none());
    assert_eq!(store.stats(at(49)).await.unwrap().all().unread, 101);
    store.ack(other.id, at(49)).await.unwrap();
    let again = next(store, at(50)).await.unwrap();
    assert_eq!(again.id, first.id);
    store.ack(again.id, at(51)).await.unwrap();
    // One that arrives before the last was released, and one that fails once more.
    arrive(101..102, &ours, at(52)).await;
    let (mut order, mut now) = (Vec::new(), at(53));
    while let Some(event) = next(store, now).await {
        if order.len() == 40 && event.attempts == 1 {
            store.nack(event.id, now.plus(Duration::from_millis(9)), now).await.unwrap();
            assert!(next(store, now).await.is_none(), "the others are held again");
            now = now.plus(Duration::from_millis(9));
            continue;
        }
        order.push(said(&event));
        store.ack(event.id, now).await.unwrap();
    }
    let all = (1..100).chain([101]).map(|n| format!("Theirs {n}")).collect::<Vec<_>>();
    assert_eq!(order, all);
}

/// Compares the events delivered in a random sequence of calls with a model: the oldest that is neither leased nor
/// behind a failed one of its person.
async fn events_match_the_model(store: &dyn Engine, other: &dyn Engine) {
    struct Modelled {
        person: usize,
        id: Option<i64>,
        lease: Option<Timestamp>,
        attempts: u32,
        nacked: bool,
        parked: bool,
        acked: bool,
    }
    let persons = [1, 2, 3].map(|n| Address::phone(&format!("07700 90000{n}")).unwrap());
    let (mut all, mut now) = (Vec::<Modelled>::new(), at(1));
    let random = seeded();
    let below = |end: u64| random.next_u64() % end;
    for step in 0..600 {
        now = now.plus(Duration::from_millis(below(40)));
        let store = if below(2) == 0 { store } else { other };
        let open = |of: &Modelled| !of.acked && !of.parked;
        let delivered = |all: &[Modelled]| (0..all.len()).filter(|n| all[*n].attempts > 0 && !all[*n].acked).collect();
        let some: Vec<usize> = delivered(&all);
        match below(10) {
            0..=2 if all.iter().filter(|of| open(of)).count() < 30 => {
                let person = usize::try_from(below(3)).unwrap();
                let n = u32::try_from(all.len()).unwrap();
                store.store_events(vec![inbound(n, &persons[person])], None, now).await.unwrap();
                let (id, lease, attempts) = (None, None, 0);
                all.push(Modelled { person, id, lease, attempts, nacked: false, parked: false, acked: false });
            }
            3 | 4 if !some.is_empty() => {
                let of = &mut all[some[usize::try_from(below(some.len() as u64)).unwrap()]];
                store.ack(of.id.unwrap(), now).await.unwrap();
                of.acked = true;
            }
            5 | 6 if !some.is_empty() => {
                let of = &mut all[some[usize::try_from(below(some.len() as u64)).unwrap()]];
                let until = now.plus(Duration::from_millis(below(60)));
                let is_parked = !of.parked && of.attempts >= EVENT_ATTEMPTS;
                assert_eq!(store.nack(of.id.unwrap(), until, now).await.unwrap(), is_parked, "step {step}");
                of.attempts = if of.parked { 0 } else { of.attempts };
                (of.nacked, of.lease, of.parked) = (true, Some(until), is_parked);
            }
            _ => loop {
                let is_behind = |n: usize| all[..n].iter().any(|f| open(f) && f.nacked && f.person == all[n].person);
                let ready = |n: &usize| open(&all[*n]) && all[*n].lease.is_none_or(|lease| lease <= now);
                let wanted = (0..all.len()).find(|n| ready(n) && !is_behind(*n));
                // Delivered too often without an answer, it is parked, and the next is tried.
                if let Some(n) = wanted.filter(|n| all[*n].attempts >= EVENT_ATTEMPTS) {
                    all[n].parked = true;
                    continue;
                }
                let found = store.next(Some("desk"), now, LEASE).await.unwrap();
                let texts = (found.as_ref().map(said), wanted.map(|n| format!("Theirs {n}")));
                assert_eq!(texts.0, texts.1, "step {step}");
                if let (Some(found), Some(n)) = (found, wanted) {
                    let of = &mut all[n];
                    (of.id, of.lease, of.attempts) = (Some(found.id), Some(now.plus(LEASE)), of.attempts + 1);
                    assert_eq!(found.attempts, of.attempts);
                }
                break;
            },
        }
    }
    let count = |is: fn(&Modelled) -> bool| all.iter().filter(|of| is(of)).count() as u64;
    let stats = store.stats(now).await.unwrap().all();
    let counts = (stats.unread, stats.parked_events);
    assert_eq!(counts, (count(|of| !of.acked && !of.parked), count(|of| !of.acked && of.parked)));
    assert!(count(|of| of.acked) > 50 && count(|of| of.nacked) > 20, "hardly anything happened");
}

async fn event_that_arrives_during_an_ack_is_delivered(store: &dyn Engine, other: &dyn Engine) {
    let from = Address::phone("07700 900001").unwrap();
    for n in 0..50 {
        let now = at(1000 * i64::from(n));
        store.store_events(vec![inbound(2 * n, &from)], None, now).await.unwrap();
        let failed = next(store, now).await.unwrap();
        store.nack(failed.id, now, now).await.unwrap();
        let arrives = async || other.store_events(vec![inbound(2 * n + 1, &from)], None, now).await.unwrap();
        // In either order.
        if n % 2 == 0 {
            _ = tokio::join!(store.ack(failed.id, now), arrives());
        } else {
            _ = tokio::join!(arrives(), store.ack(failed.id, now));
        }
        let second = next(store, now).await.expect("it is held by nothing");
        assert_eq!(said(&second), format!("Theirs {}", 2 * n + 1));
        store.ack(second.id, now).await.unwrap();
    }
}

async fn unacknowledged_event_is_parked(store: &dyn Engine, _: &dyn Engine) {
    photos(store, "poison", 0).await;
    let (mut now, mut attempts) = (at(1), 0);
    while let Some(handed) = next(store, now).await {
        attempts += 1;
        assert_eq!(handed.attempts, attempts);
        assert!(next(store, now.plus(LEASE - Duration::from_millis(1))).await.is_none(), "attempt {attempts}");
        now = now.plus(LEASE);
    }
    assert_eq!(attempts, EVENT_ATTEMPTS);
    assert_eq!(store.stats(now).await.unwrap().all().parked_events, 1);
}

async fn released_message_waits_for_its_time(store: &dyn Engine, other: &dyn Engine) {
    let id = put(store, new("k", 1)).await;
    let held = claim(store, at(1)).await[0].hold;
    assert!(!other.put_off(Hold { fence: held.fence + 1, ..held }, off(at(9))).await.unwrap());
    assert!(other.put_off(held, off(at(9))).await.unwrap());
    assert_eq!(store.status(held.id).await.unwrap().unwrap().reason.as_deref(), Some("why"));
    assert!(!store.put_off(held, off(at(9))).await.unwrap());
    let status = store.status(id).await.unwrap().unwrap();
    assert_eq!((status.state, status.due, status.attempts), (State::Deferred, Some(at(9)), 0));
    assert_eq!(keys(store, at(8), 9).await, [""; 0]);
    assert_eq!(keys(store, at(9), 9).await, ["k"]);
}

async fn lane_changes_under_its_own_claim_only(store: &dyn Engine, other: &dyn Engine) {
    let id = put(store, new("k", 1)).await;
    let waits = put(store, New { account: Some("mock/sms/desk".to_owned()), ..new("l", 2) }).await;
    let shared = async |store: &dyn Engine, now| {
        let room = [("desk/phone", 9), ("desk/phone via mock/sms/desk", 0), ("desk/phone via mock/sms/other", 0)];
        let left = room.map(|(lane, room)| ((lane.to_owned(), 2), room)).into();
        let lines = [("desk".to_owned(), 9)].into();
        store.claim(now, LEASE, Rooms { lines, left, ..Rooms::default() }).await.unwrap().claimed
    };
    let stale = shared(store, at(1)).await.remove(0);
    assert_eq!((stale.hold.id, &*stale.lane), (id, "desk/phone"));
    other.recover(at(1).plus(LEASE), false).await.unwrap();
    let held = shared(other, at(201)).await.remove(0);
    store.change_lane(stale.hold, "desk/phone via mock/sms/other".to_owned()).await.unwrap();
    assert!(other.begin(held.hold, attempt(at(202))).await.unwrap());
    let lane = Some("desk/phone via mock/sms/desk".to_owned());
    let again = End { state: State::Queued, due: Some(at(203)), lane, ..end("rejected") };
    assert!(other.finish(held.hold, again).await.unwrap());
    assert!(shared(store, at(203)).await.is_empty());
    // With its account's lane it is claimed there, and released into the shared one.
    let bound = claim(store, at(203)).await;
    assert_eq!(
        bound.iter().map(|held| (held.hold.id, &*held.lane)).collect::<Vec<_>>(),
        [(waits, "desk/phone via mock/sms/desk"), (id, "desk/phone via mock/sms/desk")]
    );
    for held in bound {
        store.change_lane(held.hold, "desk/phone".to_owned()).await.unwrap();
    }
    assert_eq!(shared(store, at(204)).await.len(), 2);
}

async fn send_begins_under_its_own_claim_only(store: &dyn Engine, other: &dyn Engine) {
    let id = put(store, new("k", 1)).await;
    let stale = claim(store, at(1)).await[0].hold;
    // Before anybody takes it over, and after.
    assert!(!store.begin(stale, attempt(at(1).plus(LEASE))).await.unwrap());
    other.recover(at(1).plus(LEASE), false).await.unwrap();
    assert!(!store.begin(stale, attempt(at(201))).await.unwrap());
    let held = claim(other, at(201)).await[0].hold;
    assert!(!store.begin(stale, attempt(at(201))).await.unwrap());
    assert!(!store.put_off(stale, off(at(201))).await.unwrap());
    assert!(other.begin(held, attempt(at(202))).await.unwrap());
    assert!(!other.begin(held, attempt(at(203))).await.unwrap());
    let status = store.status(id).await.unwrap().unwrap();
    assert_eq!((status.state, status.attempts, status.gateway.as_deref()), (State::Sending, 1, Some("mock")));
}

async fn send_ends_under_its_own_claim_only(store: &dyn Engine, other: &dyn Engine) {
    let id = put(store, new("k", 1)).await;
    let stale = claim(store, at(1)).await[0].hold;
    other.recover(at(1).plus(LEASE), false).await.unwrap();
    let held = claim(other, at(201)).await[0].hold;
    assert!(!store.finish(stale, accepted("stale")).await.unwrap());
    assert!(other.begin(held, attempt(at(202))).await.unwrap());
    assert!(!store.finish(stale, accepted("stale")).await.unwrap());
    assert!(other.finish(held, accepted("right")).await.unwrap());
    assert!(!other.finish(held, accepted("twice")).await.unwrap());
    let status = store.status(id).await.unwrap().unwrap();
    assert_eq!((status.state, status.gateway_id), (State::Accepted, Some("right".into())));
    assert_eq!(status.delivery, Some(DeliveryState::Accepted));
}

async fn stale_writer_is_refused_a_thousand_times(store: &dyn Engine, other: &dyn Engine) {
    let mut accepted_stale = 0;
    for n in 0..1000 {
        let (id, now) = (put(store, new(&n.to_string(), n)).await, at(i64::from(n) * 1000));
        let stale = claims(store, now, 1).await.unwrap()[0].hold;
        assert_eq!(stale.id, id);
        let later = now.plus(LEASE);
        other.recover(later, false).await.unwrap();
        let held = claims(other, later, 1).await.unwrap()[0].hold;
        // The first wakes, before or after the second began.
        if n % 2 == 0 {
            accepted_stale += u32::from(store.begin(stale, attempt(later)).await.unwrap());
        }
        assert!(other.begin(held, attempt(later)).await.unwrap());
        accepted_stale += u32::from(store.begin(stale, attempt(later)).await.unwrap());
        accepted_stale += u32::from(store.put_off(stale, off(later)).await.unwrap());
        // At the same moment.
        let (wrong, right) = tokio::join!(
            store.finish(stale, accepted(&format!("stale-{n}"))),
            other.finish(held, accepted(&format!("right-{n}"))),
        );
        accepted_stale += u32::from(wrong.unwrap());
        assert!(right.unwrap());
        let status = store.status(id).await.unwrap().unwrap();
        assert_eq!((status.attempts, status.gateway_id), (1, Some(format!("right-{n}").into())));
    }
    assert_eq!(accepted_stale, 0);
}

async fn lapsed_claims_are_recovered_and_others_are_not(store: &dyn Engine, other: &dyn Engine) {
    let asks = |key, person, on_unknown| {
        let new = new(key, person);
        New { message: new.message.clone().on_unknown(on_unknown), ..new }
    };
    let parks = put(store, asks("parks", 1, OnUnknown::Park)).await;
    let unknown = put(store, asks("unknown", 2, OnUnknown::Reconcile)).await;
    let claimed = put(store, new("claimed", 3)).await;
    for held in &claim(store, at(1)).await[..2] {
        begin(store, held).await;
    }
    put(store, new("lives", 4)).await;
    let lives = claims(store, at(150), 9).await.unwrap();
    begin(store, &lives[0]).await;
    assert_eq!(other.recover(at(200), false).await.unwrap(), Recovered::default());
    let recovered = other.recover(at(201), false).await.unwrap();
    assert_eq!(recovered, Recovered { queued: 1, unknown: 2 });
    let state = async |id| store.status(id).await.unwrap().unwrap().state;
    assert_eq!(state(parks).await, State::Parked);
    assert_eq!(state(unknown).await, State::Unknown);
    assert_eq!(state(claimed).await, State::Queued);
    assert_eq!(state(lives[0].hold.id).await, State::Sending);
    assert_eq!(store.status(parks).await.unwrap().unwrap().reason.as_deref(), Some(outbox::INTERRUPTED));
    assert!(store.finish(lives[0].hold, accepted("id")).await.unwrap());
}

async fn message_is_parked_after_three_deaths_of_the_process(store: &dyn Engine, other: &dyn Engine) {
    for (key, on_unknown) in [("resend", OnUnknown::Resend), ("reconcile", OnUnknown::Reconcile)] {
        let one = new(key, 1);
        let id = put(store, New { message: one.message.clone().on_unknown(on_unknown), ..one }).await;
        let again = |due| Settle { state: State::Queued, due, reason: None, from: &[State::Unknown], now: at(0) };
        // A doubt that was written down is no death.
        let held = claim(store, at(0)).await.remove(0);
        begin(store, &held).await;
        let mark_unknown = End { state: State::Queued, due: Some(at(0)), ..end("unknown") };
        assert!(store.finish(held.hold, mark_unknown).await.unwrap());
        for death in 1..=3 {
            let now = at(death * 1000);
            let held = claim(store, now).await.remove(0);
            assert_eq!((held.hold.id, held.deaths()), (id, usize::try_from(death).unwrap() - 1));
            begin(store, &held).await;
            assert_eq!(other.recover(now.plus(LEASE), false).await.unwrap().unknown, 1);
            if death < 3 {
                let status = store.status(id).await.unwrap().unwrap();
                assert_eq!(status.reason.as_deref(), Some(outbox::INTERRUPTED));
                let settled = store.settle(id, again(Some(now))).await.unwrap();
                assert_eq!(settled.is_some(), status.state == State::Unknown);
            }
        }
        let status = store.status(id).await.unwrap().unwrap();
        assert_eq!((status.state, status.attempts, status.reason.as_deref()), (State::Parked, 4, Some(outbox::POISON)));
    }
}

async fn restored_messages_have_an_unknown_outcome(store: &dyn Engine, other: &dyn Engine) {
    let gone = sent(store, "gone", accepted("id")).await;
    let sending = put(store, new("sending", 2)).await;
    let claimed = put(store, new("claimed", 3)).await;
    let held = claim(store, at(1)).await;
    begin(store, &held[0]).await;
    let queued = put(store, new("queued", 4)).await;
    let due = put(store, New { due: at(50), ..new("due", 5) }).await;
    let later = put(store, New { due: at(100), ..new("later", 6) }).await;
    assert_eq!(other.hold_after_restore(at(40), at(99)).await.unwrap(), 4);
    let state = async |id| store.status(id).await.unwrap().unwrap().state;
    for id in [sending, claimed, queued, due] {
        assert_eq!(state(id).await, State::Unknown);
    }
    assert_eq!((state(gone).await, state(later).await), (State::Accepted, State::Deferred));
    // Whoever held one writes no more.
    assert!(!store.finish(held[0].hold, accepted("stale")).await.unwrap());
    assert!(!store.begin(held[1].hold, attempt(at(99))).await.unwrap());
    let then = at(99).plus(outbox::RESTORED_LOOK_UP);
    assert!(store.look_ups_due(then.minus(Duration::from_millis(1)), LEASE, 9).await.unwrap().is_empty());
    let look_ups_due = store.look_ups_due(then, LEASE, 9).await.unwrap();
    assert_eq!(look_ups_due.len(), 4);
    assert!(look_ups_due.iter().all(|claimed| claimed.restored == Some(at(40)) && claimed.lookups == 0));
}

async fn unknown_outcome_is_looked_up_at_intervals(store: &dyn Engine, other: &dyn Engine) {
    let id = sent(store, "k", End { state: State::Unknown, due: Some(at(10)), ..end("unknown") }).await;
    let wait = Duration::from_millis(30);
    assert!(store.look_ups_due(at(9), wait, 9).await.unwrap().is_empty());
    let (one, two) =
        (store.look_ups_due(at(10), wait, 9).await.unwrap(), other.look_ups_due(at(10), wait, 9).await.unwrap());
    assert_eq!((one[0].hold.id, one[0].lookups, one[0].attempts.len(), two.len()), (id, 0, 1, 0));
    assert_eq!(other.look_ups_due(at(40), wait, 9).await.unwrap()[0].lookups, 1);
}

async fn early_delivery_is_applied_by_id(store: &dyn Engine, other: &dyn Engine) {
    let id = put(store, new("k", 1)).await;
    let claimed = claim(store, at(1)).await;
    begin(store, &claimed[0]).await;
    assert_eq!(brought(other, delivery("part-2", DeliveryState::Delivered)).await, 1);
    assert_eq!(store.status(id).await.unwrap().unwrap().delivery, None);
    let ids = vec!["part-1".into(), "part-2".into()];
    assert!(store.finish(claimed[0].hold, End { ids, ..accepted("") }).await.unwrap());
    let status = store.status(id).await.unwrap().unwrap();
    assert_eq!((status.state, status.delivery), (State::Accepted, Some(DeliveryState::Delivered)));
    assert_eq!(status.gateway_id, Some("part-1".into()));
    // Another of the same message finds it.
    assert_eq!(brought(other, delivery("part-1", DeliveryState::Read)).await, 1);
    assert_eq!(store.status(id).await.unwrap().unwrap().delivery, Some(DeliveryState::Read));
}

async fn early_delivery_is_applied_by_key(store: &dyn Engine, other: &dyn Engine) {
    let id = put(store, new("k", 1)).await;
    let early = delivery("unheard", DeliveryState::Sent).with_key(Some("k".to_owned()));
    assert_eq!(brought(other, early).await, 1);
    let claimed = claim(store, at(1)).await;
    begin(store, &claimed[0]).await;
    let lost = End { state: State::Unknown, due: Some(at(9)), ..end("unknown") };
    assert!(store.finish(claimed[0].hold, lost).await.unwrap());
    let status = store.status(id).await.unwrap().unwrap();
    assert_eq!((status.state, status.delivery), (State::Accepted, Some(DeliveryState::Sent)));
    assert_eq!(status.reason.as_deref(), Some(REPORTED));
}

async fn delivery_concurrent_with_finish_is_not_lost(store: &dyn Engine, other: &dyn Engine) {
    for n in 0..100 {
        let id = put(store, new(&n.to_string(), n)).await;
        let claimed = claim(store, at(1)).await;
        begin(store, &claimed[0]).await;
        let gateway_id = format!("id-{n}");
        let report = delivery(&gateway_id, DeliveryState::Delivered);
        let end = accepted(&gateway_id);
        let (new, ended) = tokio::join!(brought(other, report), store.finish(claimed[0].hold, end));
        assert_eq!((new, ended.unwrap()), (1, true));
        let status = store.status(id).await.unwrap().unwrap();
        assert_eq!(status.delivery, Some(DeliveryState::Delivered), "{n}");
    }
}

async fn delivery_state_is_never_lowered(store: &dyn Engine, other: &dyn Engine) {
    let id = sent(store, "k", accepted("id")).await;
    for (report, then) in [
        (DeliveryState::Sent, DeliveryState::Sent),
        (DeliveryState::Delivered, DeliveryState::Delivered),
        (DeliveryState::Sending, DeliveryState::Delivered),
        (DeliveryState::Failed, DeliveryState::Delivered),
        (DeliveryState::Read, DeliveryState::Read),
    ] {
        assert_eq!(brought(other, delivery("id", report)).await, 1);
        assert_eq!(store.status(id).await.unwrap().unwrap().delivery, Some(then));
    }
    let elsewhere = Envelope { gateway: "other".into(), ..envelope() };
    brought(store, Delivery::new(elsewhere, "id", DeliveryState::Played, "played")).await;
    assert_eq!(store.status(id).await.unwrap().unwrap().delivery, Some(DeliveryState::Read));
}

async fn delivery_settles_an_unknown_outcome(store: &dyn Engine, other: &dyn Engine) {
    let id = sent(store, "k", End { state: State::Unknown, due: Some(at(9)), ..end("unknown") }).await;
    let report = delivery("unheard", DeliveryState::Sent).with_key(Some("k".to_owned()));
    let elsewhere = Envelope { account: AccountId::new("another"), ..envelope() };
    brought(other, Delivery { envelope: elsewhere, ..report.clone() }).await;
    assert_eq!(store.status(id).await.unwrap().unwrap().state, State::Unknown);
    brought(other, report).await;
    assert_eq!(store.status(id).await.unwrap().unwrap().state, State::Accepted);
    let mut settled = Vec::new();
    while let Some(handed) = store.next(Some("desk"), at(9), LEASE).await.unwrap() {
        if let EventContent::Settled(report) = handed.what {
            settled.push((report.id, report.state));
        }
    }
    assert_eq!(settled, [(id, State::Accepted)]);
}

async fn delivery_up_to_a_time_covers_earlier_messages(store: &dyn Engine, other: &dyn Engine) {
    let first = sent(store, "a", accepted("id-a")).await;
    let second = sent(store, "b", accepted("id-b")).await;
    let look_ups_due = sent(store, "c", End { state: State::Unknown, ..end("unknown") }).await;
    let elsewhere = put(store, new("d", 2)).await;
    let claimed = claim(store, at(1)).await;
    begin(store, &claimed[0]).await;
    assert!(store.finish(claimed[0].hold, accepted("id-d")).await.unwrap());
    // One that began after the moment.
    // More urgent than the one with an unknown outcome, and so not behind it.
    let later = put(store, New { priority: 1, ..new("e", 1) }).await;
    let claimed = claim(store, at(1)).await;
    assert!(store.begin(claimed[0].hold, attempt(at(9))).await.unwrap());
    assert!(store.finish(claimed[0].hold, accepted("id-e")).await.unwrap());

    let up_to = |moment: i64, state| {
        let delivery = delivery("", state);
        let recipient = Some(new("", 1).message.to);
        Delivery { of: DeliveryOf::UpTo { at: at(moment), id: None }, recipient, ..delivery }
    };
    assert_eq!(brought(other, up_to(5, DeliveryState::Read)).await, 1);
    assert_eq!(brought(other, up_to(4, DeliveryState::Delivered)).await, 1);
    let rungs = async |id| store.status(id).await.unwrap().unwrap();
    for id in [first, second] {
        assert_eq!(rungs(id).await.delivery, Some(DeliveryState::Read));
    }
    for id in [elsewhere, later] {
        assert_eq!(rungs(id).await.delivery, Some(DeliveryState::Accepted));
    }
    // A receipt for everything before does not settle an unknown outcome.
    assert_eq!(rungs(look_ups_due).await.state, State::Unknown);
    assert_eq!(rungs(look_ups_due).await.delivery, None);
}

async fn fallback_is_sent_once_at_its_deadline(store: &dyn Engine, other: &dyn Engine) {
    let Enqueued::New(first) = store.enqueue(with_fallback("a", 1)).await.unwrap() else { panic!("it is new") };
    // The same, and what is the same but for that.
    assert_eq!(other.enqueue(with_fallback("a", 1)).await.unwrap(), Enqueued::Same(first));
    assert_eq!(other.enqueue(new("a", 1)).await.unwrap(), Enqueued::Other);
    let claimed = claim(store, at(1)).await;
    begin(store, &claimed[0]).await;
    assert!(store.finish(claimed[0].hold, accepted("id-a")).await.unwrap());
    assert_eq!(fall_back(store, at(59_999)).await, 0);
    let (one, two) = tokio::join!(fall_back(store, at(60_000)), fall_back(other, at(60_000)));
    assert_eq!(one + two, 1);
    let second = store.status(first).await.unwrap().unwrap().fallback.unwrap();
    let status = other.status(second).await.unwrap().unwrap();
    assert_eq!((status.state, status.instead_of, &*status.line), (State::Queued, Some(first), "desk"));
    let claimed = claim(store, at(60_000)).await;
    assert_eq!(claimed[0].message.as_ref().and_then(|message| message.content.as_text()), Some("Instead"));
    assert_eq!((claimed.len(), fall_back(store, at(1_000_000)).await), (1, 0));

    // One that is delivered in time, and one that has not gone yet.
    let Enqueued::New(delivered) = store.enqueue(with_fallback("b", 2)).await.unwrap() else { panic!("it is new") };
    let claimed = claim(store, at(1)).await;
    begin(store, &claimed[0]).await;
    assert!(store.finish(claimed[0].hold, accepted("id-b")).await.unwrap());
    brought(store, delivery("id-b", DeliveryState::Delivered)).await;
    let Enqueued::New(waits) = store.enqueue(with_fallback("c", 3)).await.unwrap() else { panic!("it is new") };
    let results = results(store, at(60_000)).await;
    assert_eq!(store.status(delivered).await.unwrap().unwrap().fallback, None);
    let status = store.status(waits).await.unwrap().unwrap();
    assert_eq!((status.state, status.fallback), (State::Cancelled, Some(results.to_send[0].0)));
    assert_eq!((results.cancelled, results.to_send.len()), (vec![(waits, "desk".to_owned())], 1));
}

async fn fallback_is_sent_at_once_after_a_failure(store: &dyn Engine, _: &dyn Engine) {
    for (n, ended, failed) in [(1, end("rejected"), false), (2, accepted("id-b"), true)] {
        let Enqueued::New(first) = store.enqueue(with_fallback(&n.to_string(), n)).await.unwrap() else {
            panic!("it is new")
        };
        let claimed = claim(store, at(1)).await;
        begin(store, &claimed[0]).await;
        assert!(store.finish(claimed[0].hold, ended).await.unwrap());
        if failed {
            brought(store, delivery("id-b", DeliveryState::Failed)).await;
        }
        assert_eq!(fall_back(store, at(4)).await, 1);
        let second = store.status(first).await.unwrap().unwrap().fallback.unwrap();
        let claimed = claim(store, at(4)).await;
        assert_eq!((claimed.len(), claimed[0].hold.id), (1, second));
        begin(store, &claimed[0]).await;
        assert!(store.finish(claimed[0].hold, accepted(&format!("id-{n}-instead"))).await.unwrap());
    }
    // An unknown outcome has no fallback until the message is known not to be sent.
    let Enqueued::New(first) = store.enqueue(with_fallback("d", 4)).await.unwrap() else { panic!("it is new") };
    let claimed = claim(store, at(1)).await;
    begin(store, &claimed[0]).await;
    assert!(store.finish(claimed[0].hold, End { state: State::Parked, ..end("unknown") }).await.unwrap());
    assert_eq!(fall_back(store, at(60_000)).await, 0);
    let did_not_go =
        Settle { state: State::Rejected, due: None, reason: None, from: &[State::Parked], now: at(60_001) };
    assert!(store.settle(first, did_not_go).await.unwrap().is_some());
    assert_eq!(fall_back(store, at(60_001)).await, 1);
}

async fn fallback_is_not_sent_after_an_opt_out(store: &dyn Engine, _: &dyn Engine) {
    let stop = End { kind: "opted_out", ..end("rejected") };
    let mut report = delivery("id-b", DeliveryState::Failed);
    report.failure = Some(crate::model::event::Failure::new(ErrorKind::OptedOut));
    for (n, ended, report) in [(1, stop, None), (2, accepted("id-b"), Some(report))] {
        let Enqueued::New(first) = store.enqueue(with_fallback(&n.to_string(), n)).await.unwrap() else {
            panic!("it is new")
        };
        let claimed = claim(store, at(1)).await;
        begin(store, &claimed[0]).await;
        // The delivery comes first, and is kept until then.
        if let Some(report) = report {
            brought(store, report).await;
        }
        assert!(store.finish(claimed[0].hold, ended).await.unwrap());
        assert_eq!(fall_back(store, at(1_000_000)).await, 0);
        assert_eq!(store.status(first).await.unwrap().unwrap().fallback, None);
    }
}

async fn opt_out_ends_waiting_messages_and_fallbacks(store: &dyn Engine, other: &dyn Engine) {
    // By the address of the fallback, and by that of the message.
    for (n, from) in [(1, Address::whatsapp("07700 900123").unwrap()), (2, new("", 2).message.to)] {
        let key = |name: &str| format!("{name}-{n}");
        let with_fallback = |name: &str| with_fallback(&key(name), n);
        let (first, waits) = (put(store, with_fallback("a")).await, put(store, with_fallback("b")).await);
        let claimed = claim(store, at(1)).await;
        begin(store, &claimed[0]).await;
        assert!(store.finish(claimed[0].hold, End { state: State::Parked, ..end("unknown") }).await.unwrap());
        let held = claim(store, at(1)).await;
        assert_eq!((claimed[0].hold.id, held[0].hold.id), (first, waits));
        let later = put(store, New { due: at(500), ..with_fallback("c") }).await;
        assert_eq!(stop(other, from, OptOutScope::All).await, 1);
        for (id, state) in [(first, State::Parked), (waits, State::Refused), (later, State::Refused)] {
            assert_eq!(store.status(id).await.unwrap().unwrap().state, state);
        }
        // Whoever had it claimed sends it no more.
        assert!(!store.begin(held[0].hold, attempt(at(4))).await.unwrap());
        assert_eq!(fall_back(store, at(1_000_000)).await, 0);
        // One that a person wants sent is claimed as what it is; one that is taken later is not.
        let again = Settle { state: State::Queued, due: Some(at(5)), reason: None, from: &[State::Parked], now: at(5) };
        assert!(store.settle(first, again).await.unwrap().is_some());
        assert!(claim(store, at(6)).await[0].opted_out);
        store.recover(at(1000), true).await.unwrap();
        let stopped = End { state: State::Refused, ..end("") };
        assert!(store.finish(claim(store, at(1000)).await[0].hold, stopped).await.unwrap());
        put(store, with_fallback("d")).await;
        let claimed = claim(store, at(2000)).await.remove(0);
        assert!(!claimed.opted_out);
        begin_at(store, &claimed, at(2000)).await;
        assert!(store.finish(claimed.hold, end("rejected")).await.unwrap());
        assert_eq!(fall_back(store, at(2000)).await, 1);
        for claimed in claim(store, at(1_000_000)).await {
            assert!(store.finish(claimed.hold, end("rejected")).await.unwrap());
        }
    }
}

async fn opt_out_from_one_message_ends_all_fallbacks(store: &dyn Engine, other: &dyn Engine) {
    let refused = || End { kind: "opted_out", ..end("rejected") };
    for by_status in [false, true] {
        let key = |name: &str| format!("{name}-{by_status}");
        let mut ids = Vec::new();
        for name in ["a", "b"] {
            let id = put(store, with_fallback(&key(name), 1)).await;
            let claimed = claim(store, at(1)).await;
            begin(store, &claimed[0]).await;
            let end = if by_status || name == "a" { accepted(&key(name)) } else { refused() };
            assert!(store.finish(claimed[0].hold, end).await.unwrap());
            ids.push(id);
        }
        if by_status {
            let mut report = delivery(&key("b"), DeliveryState::Failed);
            report.failure = Some(crate::model::event::Failure::new(ErrorKind::OptedOut));
            brought(other, report).await;
        }
        assert_eq!(fall_back(store, at(1_000_000)).await, 0);
    }
    // The fallback waits already when the person says STOP to the message.
    let first = put(store, with_fallback("c", 2)).await;
    let claimed = claim(store, at(1)).await;
    begin(store, &claimed[0]).await;
    assert!(store.finish(claimed[0].hold, accepted("id-c")).await.unwrap());
    assert_eq!(fall_back(store, at(60_000)).await, 1);
    let mut report = delivery("id-c", DeliveryState::Failed);
    report.failure = Some(crate::model::event::Failure::new(ErrorKind::OptedOut));
    brought(other, report).await;
    let instead = store.status(first).await.unwrap().unwrap().fallback.unwrap();
    assert_eq!(store.status(instead).await.unwrap().unwrap().state, State::Refused);
    assert!(claim(store, at(60_000)).await.is_empty());
}

async fn opt_out_of_marketing_ends_marketing_only(store: &dyn Engine, other: &dyn Engine) {
    let notice = put(store, with_fallback("a", 1)).await;
    let marketing = put(store, New { priority: PRIORITY_LAST, ..with_fallback("b", 1) }).await;
    assert_eq!(stop(other, new("", 1).message.to, OptOutScope::Marketing).await, 1);
    for (id, state) in [(notice, State::Queued), (marketing, State::Refused)] {
        assert_eq!(store.status(id).await.unwrap().unwrap().state, state);
    }
    assert_eq!(fall_back(store, at(1_000_000)).await, 1);
}

async fn message_is_cancelled_only_for_an_allowed_fallback(store: &dyn Engine, other: &dyn Engine) {
    let Enqueued::New(first) = store.enqueue(with_fallback("a", 1)).await.unwrap() else { panic!("it is new") };
    let reason = || Reason::new("hours", "nobody is there");
    let stands = async |state, fallback: bool| {
        let status = other.status(first).await.unwrap().unwrap();
        assert_eq!((status.state, status.fallback.is_some()), (state, fallback));
    };
    let due_fallbacks = store.due_fallbacks(at(60_000)).await.unwrap();
    let (id, line, message) = due_fallbacks[0].policy_query().unwrap();
    assert_eq!((id, line, message.content.as_text()), (first.0, "desk", Some("Instead")));
    // Nobody was asked; and then it waits until the policy has it.
    let nothing = |results: FallbackResults| results.to_send.is_empty() && results.cancelled.is_empty();
    assert!(nothing(store.fall_back(at(60_000), Answers::new()).await.unwrap()));
    let defer = Decision::Defer { until: at(90_000), reason: reason() };
    assert!(nothing(store.fall_back(at(60_000), [(id, Answer::Policy(defer))].into()).await.unwrap()));
    assert!(other.due_fallbacks(at(89_999)).await.unwrap().is_empty());
    stands(State::Queued, false).await;
    let results = store.fall_back(at(90_000), [(id, Answer::Policy(Decision::Refuse(reason())))].into()).await.unwrap();
    assert_eq!(results.refused, [first]);
    assert!(nothing(results));
    assert!(other.due_fallbacks(at(1_000_000)).await.unwrap().is_empty());
    // It goes as it would have.
    let claimed = claim(store, at(90_000)).await;
    begin(store, &claimed[0]).await;
    assert!(store.finish(claimed[0].hold, end("rejected")).await.unwrap());
    assert_eq!(fall_back(store, at(1_000_000)).await, 0);
    stands(State::Rejected, false).await;
}

async fn fallback_is_parked_after_a_restore(store: &dyn Engine, _: &dyn Engine) {
    let Enqueued::New(first) = store.enqueue(with_fallback("a", 1)).await.unwrap() else { panic!("it is new") };
    let claimed = claim(store, at(1)).await;
    begin(store, &claimed[0]).await;
    assert!(store.finish(claimed[0].hold, accepted("id-a")).await.unwrap());
    store.hold_after_restore(at(5), at(10)).await.unwrap();
    assert_eq!(fall_back(store, at(1_000_000)).await, 0);
    let second = store.status(first).await.unwrap().unwrap().fallback.unwrap();
    assert_eq!(store.status(second).await.unwrap().unwrap().state, State::Parked);
    assert!(claim(store, at(1_000_000)).await.is_empty());
}

async fn ruling_is_recorded_under_its_own_claim_only(store: &dyn Engine, other: &dyn Engine) {
    let ruling = |state, due, now| Ruling {
        decision: "defer",
        reason: Reason::new("hours", "nobody is there"),
        settle: Settle {
            state,
            due,
            reason: Some("nobody is there".to_owned()),
            from: &[State::Claimed, State::Queued, State::Deferred],
            now,
        },
    };
    let id = put(store, new("a", 1)).await;
    let stale = claim(store, at(1)).await.remove(0);
    store.recover(at(500), true).await.unwrap();
    let claimed = claim(other, at(500)).await.remove(0);
    assert!(!store.ruled(stale.hold, ruling(State::Refused, None, at(500))).await.unwrap());
    assert!(store.ruled(claimed.hold, ruling(State::Deferred, Some(at(900)), at(500))).await.unwrap());
    assert!(!store.ruled(claimed.hold, ruling(State::Refused, None, at(500))).await.unwrap());
    let status = store.status(id).await.unwrap().unwrap();
    assert_eq!((status.state, status.reason.as_deref()), (State::Deferred, Some("nobody is there")));
    assert!(claim(store, at(899)).await.is_empty());
    let claimed = claim(store, at(900)).await.remove(0);
    assert!(store.ruled(claimed.hold, ruling(State::Refused, None, at(900))).await.unwrap());
    assert_eq!(store.status(id).await.unwrap().unwrap().state, State::Refused);
}

async fn message_deferred_at_enqueue_has_a_reason(store: &dyn Engine, other: &dyn Engine) {
    let night = || Some(Reason::new("quiet-hours", "it is night"));
    let id = put(store, New { due: at(50), deferred: night(), ..new("a", 1) }).await;
    let status = other.status(id).await.unwrap().unwrap();
    assert_eq!(
        (status.state, status.due, status.reason.as_deref()),
        (State::Deferred, Some(at(50)), Some("it is night"))
    );
    // Once it went, that is no reason any more.
    let claimed = claim(store, at(50)).await;
    begin(store, &claimed[0]).await;
    assert!(store.finish(claimed[0].hold, accepted("id-a")).await.unwrap());
    assert_eq!(store.status(id).await.unwrap().unwrap().reason, None);
}

/// A message of theirs.
fn inbound(n: u32, from: &Address) -> Incoming {
    let content = crate::model::event::InboundContent::Text(format!("Theirs {n}"));
    let event = crate::model::event::Inbound::new(envelope(), format!("in-{n}"), from.clone(), content);
    Incoming { line: Some("desk".to_owned()), event: event.into(), fetch: false, auto_reply: None }
}

/// A message of theirs, with the auto-reply of the period that began at `since`.
fn answered(n: u32, from: &Address, since: i64) -> Incoming {
    let key = format!("auto-reply-{}-{since}", from.expose());
    let message = Message::text(from.clone(), format!("Closed: {n}.")).purpose(Purpose::Reply).key(key);
    let auto_reply = Some(Box::new(DueReply { message, account: None, since: at(since) }));
    Incoming { auto_reply, ..inbound(n, from) }
}

/// Returns the number of queued messages whose text begins as an auto-reply's does.
async fn auto_replies(store: &dyn Engine) -> usize {
    let queued = store.messages("desk", State::Queued, None, 99).await.unwrap();
    queued.iter().filter(|status| status.key.starts_with("auto-reply-")).count()
}

async fn auto_reply_is_stored_once_with_its_message(store: &dyn Engine, other: &dyn Engine) {
    let people: Vec<Address> = (1..=6).map(|n| Phone::from_digits(&format!("4477009{n:05}")).unwrap().into()).collect();
    assert_eq!(store.store_events(vec![answered(1, &people[0], 10)], None, at(12)).await.unwrap(), 1);
    assert_eq!(auto_replies(other).await, 1);
    // A redelivery, and another message of the period.
    assert_eq!(other.store_events(vec![answered(1, &people[0], 10)], None, at(13)).await.unwrap(), 0);
    assert_eq!(other.store_events(vec![answered(2, &people[0], 10)], None, at(14)).await.unwrap(), 1);
    assert_eq!(auto_replies(store).await, 1);
    // The next period.
    other.store_events(vec![answered(3, &people[0], 20)], None, at(21)).await.unwrap();
    assert_eq!(auto_replies(store).await, 2);
    // An answer before the period, a notice in it, and an answer in it.
    for (person, purpose, moment, replies) in
        [(1, Purpose::Reply, 9, 3), (2, Purpose::Notice, 12, 4), (3, Purpose::Reply, 10, 4)]
    {
        let key = format!("ours-{person}");
        let message = Message::text(people[person].clone(), "Hello").purpose(purpose).key(&key);
        let priority = super::super::status::priority(purpose);
        put(store, New { message, priority, now: at(moment), ..new(&key, 1) }).await;
        let n = 10 + u32::try_from(person).unwrap();
        store.store_events(vec![answered(n, &people[person], 10)], None, at(13)).await.unwrap();
        assert_eq!(auto_replies(other).await, replies, "{person}");
    }
    // Two addresses of one person, of which the second becomes known in between.
    store.store_events(vec![answered(20, &people[4], 10)], None, at(13)).await.unwrap();
    store.store_events(vec![changed(&people[4], &people[5], 13)], None, at(14)).await.unwrap();
    store.store_events(vec![answered(21, &people[5], 10)], None, at(15)).await.unwrap();
    assert_eq!(auto_replies(other).await, 5);
}

async fn concurrent_messages_get_one_auto_reply(store: &dyn Engine, other: &dyn Engine) {
    let people: Vec<Address> =
        (1..=20).map(|n| Phone::from_digits(&format!("4477009{n:05}")).unwrap().into()).collect();
    // The addresses of each two are linked.
    for pair in people.chunks(2) {
        store.store_events(vec![changed(&pair[0], &pair[1], 1)], None, at(2)).await.unwrap();
    }
    let arrives = (0..80).map(|n| {
        let store = if n % 2 == 0 { store } else { other };
        let event = answered(n, &people[n as usize % 20], 10);
        async move { store.store_events(vec![event], None, at(12)).await.unwrap() }
    });
    futures_util::future::join_all(arrives).await;
    assert_eq!(auto_replies(store).await, 10);
}

fn changed(previous: &Address, current: &Address, moment: i64) -> Incoming {
    // Such an event is known by what it says.
    let raw = Raw::new(format!("{} {} {moment}", previous.expose(), current.expose()));
    let envelope = Envelope::new("mock", Medium::Sms, AccountId::new("desk"), at(moment), raw);
    let event = crate::model::event::AddressChanged::new(envelope, previous.clone(), current.clone());
    Incoming { line: Some("desk".to_owned()), event: event.into(), fetch: false, auto_reply: None }
}

/// Returns the entries: the keys of ours and the texts of theirs.
fn words(entries: &[Entry]) -> Vec<String> {
    let words = |entry: &Entry| match &entry.content {
        EntryContent::Ours { message, .. } => message.as_ref().unwrap().key.clone().unwrap(),
        EntryContent::Theirs(inbound) => inbound.as_ref().unwrap().text().unwrap().to_owned(),
    };
    entries.iter().map(words).collect()
}

async fn conversation_is_listed_newest_first(store: &dyn Engine, other: &dyn Engine) {
    let (they, others) = (new("", 1).message.to, new("", 2).message.to);
    for n in 0..5 {
        put(store, New { now: at(n), ..new(&format!("ours-{n}"), 1) }).await;
        store.store_events(vec![inbound(n as u32, &they)], None, at(n)).await.unwrap();
    }
    put(store, new("elsewhere", 2)).await;
    put(store, New { line: "leader".to_owned(), ..new("leader", 1) }).await;
    store.store_events(vec![inbound(9, &others)], None, at(3)).await.unwrap();
    let all = other.conversation("desk", they.expose(), None, 100).await.unwrap();
    let report =
        ["ours-4", "Theirs 4", "ours-3", "Theirs 3", "ours-2", "Theirs 2", "ours-1", "Theirs 1", "ours-0", "Theirs 0"];
    assert_eq!(words(&all), report);
    // In pages of three: nothing twice, and nothing left out.
    let (mut pages, mut before) = (Vec::new(), None);
    loop {
        let page = store.conversation("desk", they.expose(), before, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.place);
        pages.extend(words(&page));
    }
    assert_eq!(pages, report);
    assert!(store.conversation("desk", "+447700900999", None, 3).await.unwrap().is_empty());
}

async fn changed_address_is_used_for_later_messages(store: &dyn Engine, other: &dyn Engine) {
    let [first, second, third] = [1, 2, 3].map(|n| new("", n).message.to);
    let leads = async |key: &str, person| {
        put(store, new(key, person)).await;
        let claimed = claim(store, at(1)).await.remove(0);
        begin(store, &claimed).await;
        assert!(store.finish(claimed.hold, accepted(&format!("id-{key}"))).await.unwrap());
        claimed.moved_to
    };
    store.store_events(vec![inbound(1, &first)], None, at(1)).await.unwrap();
    assert_eq!(leads("a", 1).await, None);
    // The later news comes first.
    store.store_events(vec![changed(&second, &third, 20)], None, at(2)).await.unwrap();
    store.store_events(vec![changed(&first, &second, 10)], None, at(2)).await.unwrap();
    assert_eq!(leads("b", 1).await.as_ref(), Some(&third));
    assert_eq!(leads("c", 2).await.as_ref(), Some(&third));
    assert_eq!(leads("d", 3).await, None);
    for address in [&first, &second, &third] {
        let said = other.conversation("desk", address.expose(), None, 9).await.unwrap();
        assert_eq!(said.len(), 5, "{:?}", words(&said));
    }
    // A person who returns to an address no longer links away from it.
    store.store_events(vec![changed(&third, &first, 30)], None, at(2)).await.unwrap();
    assert_eq!(leads("e", 1).await, None);
    assert_eq!(leads("f", 2).await.as_ref(), Some(&first));
    assert_eq!(leads("g", 3).await.as_ref(), Some(&first));
    // Old news changes nothing; nor does another line's.
    store.store_events(vec![changed(&third, &second, 15)], None, at(2)).await.unwrap();
    assert_eq!(leads("h", 3).await.as_ref(), Some(&first));
    let elsewhere = Incoming { line: Some("leader".to_owned()), ..changed(&first, &second, 40) };
    store.store_events(vec![elsewhere], None, at(2)).await.unwrap();
    assert_eq!(leads("i", 1).await, None);
}

async fn number_and_user_id_are_one_person(store: &dyn Engine, other: &dyn Engine) {
    let number = Address::whatsapp("+447700900001").unwrap();
    let phone = number.as_phone().cloned();
    let both =
        Address::WhatsApp(crate::model::address::WhatsAppUser::new(phone, Some("GB.13491208655302741918")).unwrap());
    put(store, New { message: Message::text(number.clone(), "Hello").key("ours"), ..new("ours", 1) }).await;
    for n in 1..3 {
        store.store_events(vec![inbound(n, &both)], None, at(i64::from(n))).await.unwrap();
    }
    for address in [&number, &both] {
        let said = other.conversation("desk", address.expose(), None, 9).await.unwrap();
        assert_eq!(words(&said), ["Theirs 2", "Theirs 1", "ours"]);
    }
}

async fn recipient_renamed_by_the_gateway_is_one_person(store: &dyn Engine, other: &dyn Engine) {
    let user = |number: &str, user_id| {
        let phone = Address::whatsapp(number).unwrap().as_phone().cloned();
        Address::WhatsApp(crate::model::address::WhatsAppUser::new(phone, user_id).unwrap())
    };
    // The answer to a send: a number with one digit less, as Brazil's are, and who hides the number afterwards.
    let (asked, named) = (user("+5511987654321", None), user("+551187654321", Some("BR.1")));
    let ours = Message::text(asked.clone(), "Hello").key("ours");
    let id = put(store, New { message: ours, ..new("ours", 1) }).await;
    let claimed = claim(store, at(1)).await.remove(0);
    begin(store, &claimed).await;
    let end = End { recipient: Some(named.clone()), ..accepted("id-ours") };
    assert!(store.finish(claimed.hold, end).await.unwrap());
    store.store_events(vec![inbound(1, &user("+551187654321", None))], None, at(5)).await.unwrap();
    for address in [&asked, &named, &user("+551187654321", None)] {
        let said = other.conversation("desk", address.expose(), None, 9).await.unwrap();
        assert_eq!(words(&said), ["Theirs 1", "ours"]);
    }
    // A delivery tells it as well.
    let (number, both) = (user("+447700900123", None), user("+447700900123", Some("GB.7")));
    let mut report = delivery("id-ours", DeliveryState::Delivered);
    report.recipient = Some(both.clone());
    store.store_events(vec![inbound(2, &number)], None, at(6)).await.unwrap();
    let report = Incoming { line: Some("desk".to_owned()), event: report.into(), fetch: false, auto_reply: None };
    store.store_events(vec![report], None, at(7)).await.unwrap();
    assert_eq!(words(&other.conversation("desk", both.expose(), None, 9).await.unwrap()), ["Theirs 2"]);
    assert_eq!(store.status(id).await.unwrap().unwrap().delivery, Some(DeliveryState::Delivered));
}

async fn id_reported_with_a_key_is_stored(store: &dyn Engine, other: &dyn Engine) {
    let id = sent(store, "a", End { state: State::Unknown, ..end("unknown") }).await;
    let found = delivery("id-a", DeliveryState::Accepted).with_key(Some("a".to_owned()));
    brought(other, found).await;
    let status = store.status(id).await.unwrap().unwrap();
    assert_eq!((status.state, status.gateway_id), (State::Accepted, Some("id-a".into())));
    brought(store, delivery("id-a", DeliveryState::Delivered)).await;
    assert_eq!(store.status(id).await.unwrap().unwrap().delivery, Some(DeliveryState::Delivered));
}

async fn message_is_found_by_reference_of_an_attempt(store: &dyn Engine, other: &dyn Engine) {
    let id = put(store, new("k", 1)).await;
    let claimed = claim(store, at(1)).await;
    let under = Attempt { reference: Some("digest".to_owned()), ..attempt(at(2)) };
    assert!(store.begin(claimed[0].hold, under).await.unwrap());
    let lost = End { state: State::Unknown, due: Some(at(4)), ..end("unknown") };
    assert!(store.finish(claimed[0].hold, lost).await.unwrap());
    let look_ups_due = store.look_ups_due(at(4), LEASE, 9).await.unwrap();
    assert_eq!(look_ups_due[0].attempts[0].reference.as_deref(), Some("digest"));
    let report = |id, state| delivery(id, state).with_key(Some("digest".to_owned()));
    let elsewhere = Envelope { account: AccountId::new("another"), ..envelope() };
    brought(other, Delivery { envelope: elsewhere, ..report("unheard", DeliveryState::Sent) }).await;
    assert_eq!(store.status(id).await.unwrap().unwrap().state, State::Unknown);
    brought(other, report("heard", DeliveryState::Sent)).await;
    let status = store.status(id).await.unwrap().unwrap();
    assert_eq!((status.state, status.gateway_id), (State::Accepted, Some("heard".into())));
    // A look-up names it by the key.
    brought(other, delivery("", DeliveryState::Delivered).with_key(Some("k".to_owned()))).await;
    assert_eq!(store.status(id).await.unwrap().unwrap().delivery, Some(DeliveryState::Delivered));
}

async fn early_delivery_is_applied_by_reference(store: &dyn Engine, other: &dyn Engine) {
    let id = put(store, new("k", 1)).await;
    let early = delivery("unheard", DeliveryState::Sent).with_key(Some("digest".to_owned()));
    assert_eq!(brought(other, early).await, 1);
    let claimed = claim(store, at(1)).await;
    let under = Attempt { reference: Some("digest".to_owned()), ..attempt(at(2)) };
    assert!(store.begin(claimed[0].hold, under).await.unwrap());
    let lost = End { state: State::Unknown, due: Some(at(9)), ..end("unknown") };
    assert!(store.finish(claimed[0].hold, lost).await.unwrap());
    let status = store.status(id).await.unwrap().unwrap();
    assert_eq!((status.state, status.delivery), (State::Accepted, Some(DeliveryState::Sent)));
}

async fn key_of_any_length_belongs_to_one_message(store: &dyn Engine, other: &dyn Engine) {
    for (n, key) in (0..).zip(["k".to_owned(), "ŵ".repeat(500), "ŵ".repeat(501), random(9000)]) {
        let id = put(store, new(&key, n)).await;
        assert_eq!(other.enqueue(new(&key, n)).await.unwrap(), Enqueued::Same(id));
        assert_eq!(other.enqueue(new(&key, n + 9)).await.unwrap(), Enqueued::Other);
        assert_eq!(other.by_key("desk", &key).await.unwrap(), Some(id));
        let claimed = claim(store, at(1)).await;
        assert_eq!(claimed[0].message.as_ref().unwrap().key.as_deref(), Some(&*key));
        begin(store, &claimed[0]).await;
        let lost = End { state: State::Unknown, due: Some(at(9)), ..end("unknown") };
        assert!(store.finish(claimed[0].hold, lost).await.unwrap());
        brought(other, delivery(&format!("id-{n}"), DeliveryState::Sent).with_key(Some(key))).await;
        assert_eq!(store.status(id).await.unwrap().unwrap().state, State::Accepted);
    }
}

async fn messages_are_listed_line_by_line(store: &dyn Engine, other: &dyn Engine) {
    let mut parked = Vec::new();
    for key in ["a", "b", "c"] {
        parked.push(sent(store, key, End { state: State::Parked, ..end("unknown") }).await);
    }
    put(store, new("d", 1)).await;
    put(store, New { line: "leader".to_owned(), ..new("e", 1) }).await;
    let listed = async |after, max| {
        let listed = other.messages("desk", State::Parked, after, max).await.unwrap();
        listed.into_iter().map(|status| status.id).collect::<Vec<_>>()
    };
    assert_eq!(listed(None, 2).await, parked[..2]);
    assert_eq!(listed(Some(parked[1]), 2).await, parked[2..]);
    // Nothing goes instead of what a person has seen.
    let Enqueued::New(first) = store.enqueue(with_fallback("f", 2)).await.unwrap() else { panic!("it is new") };
    let claimed = claim(store, at(1)).await.into_iter().find(|claimed| claimed.hold.id == first).unwrap();
    begin(store, &claimed).await;
    assert!(store.finish(claimed.hold, End { state: State::Parked, ..end("rejected") }).await.unwrap());
    store.hold_fallback(first).await.unwrap();
    assert_eq!(fall_back(store, at(1_000_000)).await, 0);
    // A message without an unknown outcome keeps its fallback.
    let Enqueued::New(waits) = store.enqueue(with_fallback("g", 3)).await.unwrap() else { panic!("it is new") };
    store.hold_fallback(waits).await.unwrap();
    assert_eq!(fall_back(store, at(1_000_000)).await, 1);
}

async fn event_is_stored_once(store: &dyn Engine, other: &dyn Engine) {
    let (one, two) = (delivery("one", DeliveryState::Sent), delivery("two", DeliveryState::Sent));
    let incoming =
        |report: &Delivery| Incoming { line: None, event: report.clone().into(), fetch: true, auto_reply: None };
    let twice = vec![incoming(&one), incoming(&one), incoming(&two)];
    assert_eq!(store.store_events(twice, None, at(1)).await.unwrap(), 2);
    assert_eq!(other.store_events(vec![incoming(&two), incoming(&one)], None, at(2)).await.unwrap(), 0);
    assert_eq!(other.store_events(Vec::new(), None, at(2)).await.unwrap(), 0);
    let three = delivery("three", DeliveryState::Sent);
    let at_once = || vec![incoming(&three), incoming(&one)];
    let (here, there) =
        tokio::join!(store.store_events(at_once(), None, at(3)), other.store_events(at_once(), None, at(3)));
    assert_eq!(here.unwrap() + there.unwrap(), 1);
}

async fn cursor_of_a_channel_is_stored(store: &dyn Engine, other: &dyn Engine) {
    assert_eq!(store.cursor("x/x/desk").await.unwrap(), None);
    for place in ["12", "13"] {
        let cursor = Some(("x/x/desk".to_owned(), Cursor::new(place)));
        store.store_events(Vec::new(), cursor, at(1)).await.unwrap();
        assert_eq!(other.cursor("x/x/desk").await.unwrap(), Some(Cursor::new(place)));
    }
    assert_eq!(store.cursor("x/x/leader").await.unwrap(), None);
}

async fn event_is_delivered_until_it_is_acknowledged(store: &dyn Engine, other: &dyn Engine) {
    let of = |line: Option<&str>, id: &str| Incoming {
        line: line.map(str::to_owned),
        event: delivery(id, DeliveryState::Sent).into(),
        fetch: true,
        auto_reply: None,
    };
    let events = vec![of(Some("leader"), "0"), of(Some("desk"), "1"), of(Some("desk"), "2"), of(None, "3")];
    store.store_events(events, None, at(1)).await.unwrap();
    let report = |handed: Option<InboxEvent>| {
        let handed = handed?;
        let EventContent::Event(event) = handed.what else { panic!("an event") };
        Some((handed.id, event.as_delivery()?.id()?.as_str().to_owned()))
    };
    let (one, id) = report(store.next(Some("desk"), at(2), LEASE).await.unwrap()).unwrap();
    assert_eq!(id, "1");
    let (two, id) = report(other.next(Some("desk"), at(2), LEASE).await.unwrap()).unwrap();
    assert_eq!(id, "2");
    assert_eq!(report(store.next(Some("desk"), at(3), LEASE).await.unwrap()), None);
    store.ack(two, at(3)).await.unwrap();
    store.ack(two, at(4)).await.unwrap();
    // The lease of the first has passed.
    assert_eq!(report(other.next(Some("desk"), at(202), LEASE).await.unwrap()), Some((one, "1".to_owned())));
    store.ack(one, at(203)).await.unwrap();
    assert_eq!(report(store.next(Some("desk"), at(999), LEASE).await.unwrap()), None);
    let all = [store.next(None, at(999), LEASE).await.unwrap(), store.next(None, at(999), LEASE).await.unwrap()];
    assert_eq!(all.each_ref().map(|handed| handed.as_ref()?.line.clone()), [Some("leader".to_owned()), None]);
    let (here, there) = tokio::join!(store.next(None, at(9999), LEASE), other.next(None, at(9999), LEASE));
    assert_ne!(report(here.unwrap()), report(there.unwrap()));
}

async fn settle_applies_to_the_given_states_only(store: &dyn Engine, other: &dyn Engine) {
    let id = put(store, new("k", 1)).await;
    let to = |state, from| Settle { state, due: None, reason: Some("why".to_owned()), from, now: at(5) };
    assert_eq!(store.settle(id, to(State::Accepted, &[State::Unknown, State::Parked])).await.unwrap(), None);
    assert_eq!(store.settle(Id(id.0 + 1), to(State::Cancelled, &[State::Queued])).await.unwrap(), None);
    let (one, two) = tokio::join!(
        store.settle(id, to(State::Cancelled, &[State::Queued])),
        other.settle(id, to(State::Cancelled, &[State::Queued])),
    );
    // Of which line it is, who settled it learns.
    assert_eq!(one.unwrap().into_iter().chain(two.unwrap()).collect::<Vec<_>>(), ["desk"]);
    let status = store.status(id).await.unwrap().unwrap();
    assert_eq!((status.state, status.due, status.reason.as_deref()), (State::Cancelled, None, Some("why")));
    assert_eq!(keys(store, at(9), 9).await, [""; 0]);
    let report = other.next(Some("desk"), at(9), LEASE).await.unwrap().unwrap();
    assert!(
        matches!(report.what, EventContent::Settled(report) if report.id == id && report.state == State::Cancelled)
    );
    assert!(other.next(None, at(9), LEASE).await.unwrap().is_none());
}

async fn stats_count_every_state(store: &dyn Engine, other: &dyn Engine) {
    assert_eq!(store.stats(at(1)).await.unwrap(), Stats::default());
    assert_eq!(store.status(Id(1)).await.unwrap(), None);
    sent(store, "a", accepted("id")).await;
    for key in ["b", "c"] {
        put(store, new(key, 2)).await;
    }
    let stats = other.stats(at(1)).await.unwrap();
    assert_eq!(stats.all().messages, [(State::Accepted, 1), (State::Queued, 2)].into());
}

async fn unusual_texts_are_stored_unchanged(store: &dyn Engine, other: &dyn Engine) {
    // Unusual text from a gateway must not make its webhook fail with 503 forever.
    let ids = ["nul\0inside".to_owned(), "ŵ🏴󠁧󠁢󠁷󠁬󠁳󠁿'\";--".to_owned(), random(9000)];
    for (n, gateway_id) in (0..).zip(ids) {
        let id = put(store, new(&format!("k-{n}"), n)).await;
        let claimed = claim(store, at(1)).await;
        begin(store, &claimed[0]).await;
        let reason = Some(format!("{gateway_id} was not taken"));
        let end = End { reason, code: Some(gateway_id.clone()), ..accepted(&gateway_id) };
        assert!(store.finish(claimed[0].hold, end).await.unwrap());
        let report = delivery(&gateway_id, DeliveryState::Read).with_key(Some(gateway_id.clone()));
        assert_eq!(brought(other, report).await, 1);
        assert_eq!(other.status(id).await.unwrap().unwrap().delivery, Some(DeliveryState::Read));
        let early = delivery(&format!("{gateway_id}-early"), DeliveryState::Read).with_key(Some(gateway_id.clone()));
        assert_eq!(brought(other, early).await, 1);
        let cursor = Some((format!("channel/{gateway_id}"), Cursor::new(gateway_id)));
        other.store_events(Vec::new(), cursor, at(1)).await.unwrap();
    }
}

async fn event_is_held_back_for_its_files_up_to_a_minute(store: &dyn Engine, other: &dyn Engine) {
    photos(store, "one", 2).await;
    photos(store, "two", 0).await;
    // Those behind it come meanwhile, and where nobody fetches it is not held back.
    assert_eq!(read(other, at(1)).await, ["two"]);
    let untouched = Incoming { fetch: false, ..incoming("three", 2) };
    store.store_events(vec![untouched], None, at(2)).await.unwrap();
    assert_eq!(read(other, at(2)).await, ["three"]);
    let holds_one = holds(store, at(0)).await;
    assert_eq!(holds_one.len(), 2);
    let one = holds_one[0].event;
    assert_eq!(store.files(one).await.unwrap(), [File::Waiting, File::Waiting]);
    let hold = |n| FileHold { event: one, n, tries: 1 };
    assert!(store.fetched(hold(0), held(b"tree"), at(3)).await.unwrap());
    assert_eq!(read(other, at(3)).await, [""; 0]);
    assert!(store.fetched(hold(1), Fetched::Failed("it is gone".to_owned()), at(3)).await.unwrap());
    let stored = StoredMedia::new(Digest::sha256(b"tree"), 4, "image/jpeg");
    let both = [File::Held(stored), File::Failed("it is gone".to_owned())];
    assert_eq!(other.files(one).await.unwrap(), both);
    assert_eq!(read(other, at(3)).await, ["one"]);
    // Somebody has it now, whatever else is noted.
    store.fetched(hold(1), Fetched::Failed("it is gone".to_owned()), at(4)).await.unwrap();
    assert_eq!(read(other, at(5)).await, [""; 0]);
    photos(store, "late", 1).await;
    assert_eq!(read(other, at(0).plus(HELD_BACK).minus(Duration::from_millis(1))).await, ["one", "two", "three"]);
    assert_eq!(read(other, at(0).plus(HELD_BACK)).await, ["late"]);
    // It is not given out a second time for a file that comes now.
    let late = holds(store, at(0)).await[0];
    assert!(store.fetched(late, held(b"late"), at(0).plus(HELD_BACK)).await.unwrap());
    assert_eq!(read(other, at(0).plus(HELD_BACK)).await, [""; 0]);
}

async fn file_is_recorded_under_its_own_claim_only(store: &dyn Engine, other: &dyn Engine) {
    photos(store, "one", 1).await;
    let stale = holds(store, at(0)).await[0];
    let hold = holds(other, at(0).plus(LEASE)).await[0];
    assert_eq!((stale.tries, hold.tries), (1, 2));
    assert!(!store.fetched(stale, Fetched::Failed("stale".to_owned()), at(201)).await.unwrap());
    assert!(other.fetched(hold, Fetched::Again(at(900)), at(201)).await.unwrap());
    assert!(!other.fetched(hold, held(b"tree"), at(201)).await.unwrap());
    assert!(store.claim_files(at(899), LEASE, 9).await.unwrap().is_empty());
    let hold = holds(store, at(900)).await[0];
    assert!(store.fetched(hold, held(b"tree"), at(901)).await.unwrap());
    // One that was lost since it was noted is fetched again.
    assert!(store.fetched(hold, Fetched::Again(at(902)), at(902)).await.unwrap());
    assert_eq!(store.files(hold.event).await.unwrap(), [File::Waiting]);
    assert_eq!(store.files(hold.event + 1).await.unwrap(), []);
}

async fn concurrent_fetches_release_their_event(store: &dyn Engine, other: &dyn Engine) {
    for n in 0..50 {
        photos(store, &n.to_string(), 2).await;
        let hold = holds(store, at(0)).await;
        assert_eq!(hold.len(), 2);
        let (one, two) =
            tokio::join!(store.fetched(hold[0], held(b"a"), at(1)), other.fetched(hold[1], held(b"b"), at(1)));
        assert!(one.unwrap() && two.unwrap());
        let handed = store.next(Some("desk"), at(1), LEASE).await.unwrap().expect("it is let go");
        store.ack(handed.id, at(1)).await.unwrap();
    }
}

async fn file_is_claimed_again_only_after_its_claim_lapses(store: &dyn Engine, other: &dyn Engine) {
    photos(store, "one", 5).await;
    photos(store, "two", 5).await;
    let (one, two) = tokio::join!(store.claim_files(at(0), LEASE, 4), other.claim_files(at(0), LEASE, 4));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(one.iter().all(|file| two.iter().all(|other| other.hold != file.hold)), "{one:?} {two:?}");
    let rest = store.claim_files(at(0), LEASE, 9).await.unwrap();
    assert_eq!(one.len() + two.len() + rest.len(), 10);
    assert!(store.claim_files(at(0).plus(LEASE).minus(Duration::from_millis(1)), LEASE, 99).await.unwrap().is_empty());
    let again = other.claim_files(at(0).plus(LEASE), LEASE, 99).await.unwrap();
    assert!(again.len() == 10 && again.iter().all(|file| file.hold.tries == 2 && file.taken_in == at(0)));
    let file = &again[0];
    assert_eq!(file.line.as_deref(), Some("desk"));
    assert_eq!(file.event.as_ref().unwrap().as_inbound().unwrap().media().len(), 5);
}

async fn waiting_work_is_counted_line_by_line(store: &dyn Engine, other: &dyn Engine) {
    sent(store, "sent", accepted("id")).await;
    sent(store, "parked", End { state: State::Parked, ..end("unknown") }).await;
    sent(store, "unknown", End { state: State::Unknown, due: Some(at(9)), ..end("unknown") }).await;
    put(store, New { due: at(50), now: at(50), ..new("b", 2) }).await;
    put(store, New { due: at(40), now: at(40), ..new("a", 3) }).await;
    put(store, New { due: at(900), ..new("later", 4) }).await;
    put(store, New { line: "leader".to_owned(), ..new("c", 5) }).await;
    let claimed = claim(store, at(60)).await;
    assert_eq!(claimed.len(), 3);
    let of = |key| claimed.iter().find(|of| of.message.as_ref().unwrap().key.as_deref() == Some(key)).unwrap();
    begin(store, of("c")).await;
    assert!(store.put_off(of("a").hold, off(at(70))).await.unwrap());
    while let Some(handed) = store.next(None, at(60), LEASE).await.unwrap() {
        store.ack(handed.id, at(60)).await.unwrap();
    }
    photos(store, "photos", 3).await;
    store.store_events(vec![Incoming { line: None, ..incoming("strange", 0) }], None, at(61)).await.unwrap();
    let stats = other.stats(at(80)).await.unwrap();
    let desk = stats.line("desk").unwrap();
    // Where one process sends, what it has claimed still waits.
    let notes_claims = desk.count(State::Claimed) == 1;
    let claimed_as = if notes_claims { State::Claimed } else { State::Queued };
    let counts = [(State::Accepted, 1), (claimed_as, 1), (State::Deferred, 2), (State::Parked, 1), (State::Unknown, 1)];
    assert_eq!(desk.messages, counts.into(), "{claimed:?}");
    let (due, since) = if notes_claims { (1, at(70)) } else { (2, at(50)) };
    assert_eq!((desk.due, desk.oldest_due), (due, Some(since)));
    assert_eq!((desk.unread, desk.oldest_unread, desk.files), (1, Some(at(0)), 3));
    assert_eq!(stats.line("leader").unwrap().messages, [(State::Sending, 1)].into());
    assert_eq!((stats.lines[&None].unread, stats.lines[&None].oldest_unread), (1, Some(at(61))));
    let all = stats.all();
    assert_eq!((all.messages.values().sum::<u64>(), all.due, all.unread, all.files), (7, due, 2, 3));
    assert_eq!(all.oldest_unread, Some(at(0)));
    assert_eq!(stats.line("nobody"), None);
}

async fn lines_are_stored_as_last_configured(store: &dyn Engine, other: &dyn Engine) {
    assert!(!store.has_line("desk").await.unwrap() && !store.has_line("leader").await.unwrap());
    // The recorded settings decide what is removed.
    let id = sent(store, "k", accepted("id")).await;
    let week = Duration::from_secs(7 * 24 * 3600);
    keeps(store, &[("desk", Some(week)), ("leader", None)]).await;
    keeps(other, &[("desk", None)]).await;
    // One that has no message, and is not said any more.
    assert!(store.has_line("desk").await.unwrap() && store.has_line("leader").await.unwrap());
    assert!(!store.has_line("lead").await.unwrap());
    assert_eq!(purge(store, at(9).plus(week)).await, 0);
    keeps(other, &[("desk", Some(2 * week))]).await;
    assert_eq!(purge(store, at(9).plus(week)).await, 0);
    assert_eq!(purge(store, at(9).plus(2 * week)).await, 1);
    assert_eq!(store.status(id).await.unwrap().unwrap().reason, None);
}

async fn retention_removes_content_and_keeps_counts(store: &dyn Engine, other: &dyn Engine) {
    keeps(store, &[("desk", Some(DAY))]).await;
    let why = Some("rejected +447700900001".to_owned());
    let id = sent(store, "k", End { reason: why, ..accepted("wamid.1") }).await;
    let younger = sent(store, "younger", End { now: at(4), ..accepted("wamid.2") }).await;
    photos(store, "one", 1).await;
    let hold = holds(store, at(0)).await[0];
    assert!(store.fetched(hold, held(b"tree"), at(1)).await.unwrap());
    assert_eq!(read(store, at(9)).await.len(), 1);
    acknowledge(store, at(9)).await;
    let before = other.stats(at(9)).await.unwrap();
    // Of the event that came first, and of the message that was settled first.
    assert_eq!(purge(other, at(0).plus(DAY).minus(Duration::from_millis(1))).await, 0);
    assert_eq!(purge(other, at(0).plus(DAY)).await, 1);
    assert_eq!(purge(other, at(2).plus(DAY)).await, 0);
    // The message, and the event about its end.
    assert_eq!(purge(other, at(3).plus(DAY)).await, 2);
    assert_eq!(purge(other, at(3).plus(DAY)).await, 0);
    let status = store.status(id).await.unwrap().unwrap();
    assert_eq!((&*status.line, status.state, status.attempts), ("desk", State::Accepted, 1));
    assert_eq!((status.gateway.as_deref(), status.gateway_id, status.reason), (Some("mock"), None, None));
    assert_eq!(store.status(younger).await.unwrap().unwrap().gateway_id, Some("wamid.2".into()));
    assert_eq!(store.by_key("desk", "k").await.unwrap(), Some(id));
    assert_eq!(store.enqueue(new("k", 1)).await.unwrap(), Enqueued::Same(id));
    assert_eq!(store.enqueue(new("k", 2)).await.unwrap(), Enqueued::Other);
    assert_eq!(store.stats(at(9)).await.unwrap(), before);
    // A redelivery is deduplicated, and a delivery by key still applies.
    assert_eq!(other.store_events(vec![incoming("one", 1)], None, at(9)).await.unwrap(), 0);
    let report = delivery("unheard", DeliveryState::Read).with_key(Some("k".to_owned()));
    assert_eq!(brought(other, report).await, 1);
    assert_eq!(store.status(id).await.unwrap().unwrap().delivery, Some(DeliveryState::Read));
    assert!(
        matches!(&*store.files(hold.event).await.unwrap(), [File::Failed(why)] if why.contains("after the retention"))
    );
    // A worker meets none of it again.
    assert!(claim(store, at(9).plus(DAY)).await.is_empty());
    assert!(store.look_ups_due(at(9).plus(DAY), LEASE, 9).await.unwrap().is_empty());
    assert_eq!(store.hold_after_restore(at(1), at(9).plus(DAY)).await.unwrap(), 0);
    assert_eq!(store.recover(at(9).plus(DAY), false).await.unwrap(), Recovered::default());
    assert_eq!(store.unwanted(at(9).plus(DAY), LEASE, 9).await.unwrap(), [Digest::sha256(b"tree")]);
}

async fn retention_keeps_waiting_work(store: &dyn Engine, other: &dyn Engine) {
    keeps(store, &[("desk", Some(DAY)), ("leader", None)]).await;
    let parked = End { state: State::Parked, reason: Some("why".to_owned()), ..end("unknown") };
    let parked = sent(store, "parked", parked).await;
    sent(store, "unknown", End { state: State::Unknown, due: Some(at(9)), ..end("unknown") }).await;
    acknowledge(store, at(9)).await;
    put(store, new("queued", 2)).await;
    put(store, New { due: at(9).plus(9 * DAY), ..new("later", 3) }).await;
    photos(store, "unread", 1).await;
    let leader = put(store, New { line: "leader".to_owned(), ..new("leader", 4) }).await;
    let reason = Some("kept".to_owned());
    let cancelled = Settle { state: State::Cancelled, due: None, reason, from: &[State::Queued], now: at(5) };
    assert_eq!(store.settle(leader, cancelled).await.unwrap().as_deref(), Some("leader"));
    let report = store.next(Some("leader"), at(9), LEASE).await.unwrap().unwrap();
    store.ack(report.id, at(9)).await.unwrap();
    // The event about its parking.
    assert_eq!(purge(other, at(0).plus(8 * DAY)).await, 1);
    assert_eq!(store.status(leader).await.unwrap().unwrap().reason.as_deref(), Some("kept"));
    assert_eq!(store.status(parked).await.unwrap().unwrap().reason.as_deref(), Some("why"));
    assert_eq!(keys(store, at(9), 9).await, ["queued"]);
    assert_eq!(read(store, at(0).plus(8 * DAY)).await, ["unread"]);
    let unknown = store.look_ups_due(at(9), LEASE, 9).await.unwrap();
    assert_eq!(unknown[0].message.as_ref().unwrap().key.as_deref(), Some("unknown"));
    // Once a person has decided, it is settled from then on.
    let went =
        Settle { state: State::Accepted, due: None, reason: None, from: &[State::Parked], now: at(0).plus(8 * DAY) };
    assert!(store.settle(parked, went).await.unwrap().is_some());
    assert_eq!(purge(other, at(0).plus(9 * DAY).minus(Duration::from_millis(1))).await, 0);
    assert_eq!(purge(other, at(0).plus(9 * DAY)).await, 1);
}

async fn events_of_no_line_have_the_longest_retention(store: &dyn Engine, other: &dyn Engine) {
    store.store_events(vec![Incoming { line: None, ..incoming("strange", 0) }], None, at(0)).await.unwrap();
    acknowledge(store, at(1)).await;
    assert_eq!(purge(other, at(0).plus(99 * DAY)).await, 0);
    keeps(store, &[("desk", Some(DAY)), ("leader", None)]).await;
    assert_eq!(purge(other, at(0).plus(99 * DAY)).await, 0);
    keeps(store, &[("leader", Some(3 * DAY))]).await;
    assert_eq!(purge(other, at(0).plus(3 * DAY).minus(Duration::from_millis(1))).await, 0);
    assert_eq!(purge(other, at(0).plus(3 * DAY)).await, 1);
}

async fn file_without_references_is_removed(store: &dyn Engine, other: &dyn Engine) {
    keeps(store, &[("desk", Some(DAY))]).await;
    let later = at(0).plus(3 * DAY);
    for (id, taken_in) in [("one", at(0)), ("two", at(0).plus(2 * DAY))] {
        store.store_events(vec![incoming(id, 1)], None, taken_in).await.unwrap();
        let hold = holds(store, taken_in).await[0];
        assert!(store.fetched(hold, held(b"tree"), taken_in).await.unwrap());
    }
    acknowledge(store, at(0).plus(2 * DAY)).await;
    // The same photograph is in a younger message.
    assert_eq!(purge(other, at(0).plus(2 * DAY)).await, 1);
    assert_eq!(other.unwanted(at(0).plus(2 * DAY), LEASE, 9).await.unwrap(), []);
    // And goes on to somebody else.
    let message = Message::media(
        Address::phone("+447700900001").unwrap(),
        [crate::model::message::Media::image(StoredMedia::new(Digest::sha256(b"tree"), 4, "image/jpeg"))],
    );
    let goes_on = put(store, New { message, ..new("goes-on", 1) }).await;
    assert_eq!(purge(other, later).await, 1);
    assert_eq!(other.unwanted(later, LEASE, 9).await.unwrap(), []);
    let cancelled = Settle { state: State::Cancelled, due: None, reason: None, from: &[State::Queued], now: later };
    assert!(store.settle(goes_on, cancelled).await.unwrap().is_some());
    assert_eq!(other.unwanted(later, LEASE, 9).await.unwrap(), []);
    let tree = [Digest::sha256(b"tree")];
    assert_eq!(other.unwanted(later.plus(LEASE), LEASE, 9).await.unwrap(), tree);
    // Until it is said that it is gone.
    assert_eq!(store.unwanted(later.plus(LEASE), LEASE, 9).await.unwrap(), []);
    assert_eq!(store.unwanted(later.plus(2 * LEASE), LEASE, 9).await.unwrap(), tree);
    store.removed(tree[0]).await.unwrap();
    assert_eq!(other.unwanted(later.plus(9 * LEASE), LEASE, 9).await.unwrap(), []);
}

async fn file_being_removed_is_fetched_again(store: &dyn Engine, other: &dyn Engine) {
    keeps(store, &[("desk", Some(DAY))]).await;
    photos(store, "one", 1).await;
    let hold = holds(store, at(0)).await[0];
    assert!(store.fetched(hold, held(b"tree"), at(0)).await.unwrap());
    acknowledge(store, at(1)).await;
    let then = at(0).plus(DAY);
    assert_eq!(purge(store, then).await, 1);
    assert_eq!(store.unwanted(then, LEASE, 9).await.unwrap().len(), 1);
    store.store_events(vec![incoming("two", 1)], None, then).await.unwrap();
    let hold = holds(other, then).await[0];
    assert!(!other.fetched(hold, held(b"tree"), then).await.unwrap());
    assert_eq!(read(other, then).await, [""; 0]);
    store.removed(Digest::sha256(b"tree")).await.unwrap();
    let again = holds(other, then.plus(AFTER_REMOVAL)).await[0];
    assert!(other.fetched(again, held(b"tree"), then).await.unwrap());
    assert_eq!(read(other, then).await, ["two"]);
}

async fn early_deliveries_are_kept_for_thirty_days(store: &dyn Engine, other: &dyn Engine) {
    let early = |id| delivery(id, DeliveryState::Delivered);
    brought(store, early("wamid.of-another-program")).await;
    let days = |days: u32| at(4).plus(days * DAY);
    assert_eq!(purge(other, days(30).minus(Duration::from_millis(1))).await, 0);
    assert_eq!(purge(other, days(30)).await, 1);
    assert_eq!(purge(other, days(30)).await, 0);
    let id = sent(store, "k", accepted("wamid.of-another-program")).await;
    assert_eq!(store.status(id).await.unwrap().unwrap().delivery, Some(DeliveryState::Accepted));
}

fn failed(kind: ErrorKind, code: &str) -> End {
    let due = Some(at(5));
    End {
        state: State::Deferred,
        due,
        kind: kind.as_str(),
        code: Some(code.to_owned()),
        passing: true,
        ..end("not_sent")
    }
}

/// A message that was accepted by its second attempt: its number.
async fn sent_again(store: &dyn Engine) -> Id {
    let message = new("k", 1).message.tag("bins");
    let id = put(store, New { message, ..new("k", 1) }).await;
    let claimed = claim(store, at(1)).await;
    begin_at(store, &claimed[0], at(2)).await;
    assert!(store.finish(claimed[0].hold, failed(ErrorKind::RateLimited, "80007")).await.unwrap());
    let claimed = claim(store, at(5)).await;
    begin_at(store, &claimed[0], at(6)).await;
    let price = Some(Money::parse("0.0400", "GBP").unwrap().into());
    let end = End { segments: Some(2), price, now: at(7), ..accepted("id") };
    assert!(store.finish(claimed[0].hold, end).await.unwrap());
    id
}

async fn price_in_credits_is_stored_without_a_currency(store: &dyn Engine, other: &dyn Engine) {
    let price = Some(Credits::parse("1.5").unwrap().into());
    let id = sent(store, "k", End { price, ..accepted("id") }).await;
    let status = other.status(id).await.unwrap().unwrap();
    assert_eq!((status.price, status.history[0].price), (price, price));
}

async fn status_has_every_attempt(store: &dyn Engine, other: &dyn Engine) {
    let id = sent_again(store).await;
    let status = other.status(id).await.unwrap().unwrap();
    assert_eq!((&*status.key, status.tag.as_deref(), status.attempts), ("k", Some("bins"), 2));
    assert_eq!(status.recipient, Some(new("k", 1).message.to));
    assert_eq!((status.kind, status.code.as_deref(), status.segments), (None, None, Some(2)));
    assert_eq!(status.price, Some(Money::parse("0.04", "GBP").unwrap().into()));
    let [first, second] = &*status.history else { panic!("{status:?}") };
    assert_eq!(
        (&*first.gateway, first.account.as_str(), first.begun, first.ended),
        ("mock", "desk", at(2), Some(at(3)))
    );
    assert_eq!((first.outcome, first.kind), (Some(AttemptOutcome::NotSent), Some(ErrorKind::RateLimited)));
    assert_eq!((first.code.as_deref(), first.segments, first.price), (Some("80007"), None, None));
    assert_eq!((second.outcome, second.kind, second.code.as_deref()), (Some(AttemptOutcome::Accepted), None, None));
    assert_eq!((second.begun, second.segments, second.price), (at(6), Some(2), status.price));
    // It can be handed on, and shows nobody.
    let written = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&written).unwrap(), status);
    assert!(written.contains("+447700900001") && !format!("{status:?}").contains("7700900001"));
    let entries = other.conversation("desk", "+447700900001", None, 9).await.unwrap();
    let written = serde_json::to_string(&entries).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Entry>>(&written).unwrap(), entries);
    // One that is on its way, and one that failed.
    put(store, new("l", 2)).await;
    let claimed = claim(store, at(10)).await;
    begin_at(store, &claimed[0], at(11)).await;
    let sending = other.status(claimed[0].hold.id).await.unwrap().unwrap();
    assert_eq!((sending.history[0].outcome, sending.history[0].ended, sending.kind), (None, None, None));
    let longer = "the code of +447700900001";
    assert!(store.finish(claimed[0].hold, failed(ErrorKind::Unavailable, longer)).await.unwrap());
    let failed = other.status(claimed[0].hold.id).await.unwrap().unwrap();
    assert_eq!((failed.kind, failed.code), (Some(ErrorKind::Unavailable), None));
}

async fn status_of_a_refusal_has_its_rule(store: &dyn Engine, other: &dyn Engine) {
    let id = put(store, new("k", 1)).await;
    let claimed = claim(store, at(1)).await;
    let reason = Reason::new("no-marketing", "no advertising here");
    let from = &[State::Claimed, State::Queued];
    let settle = Settle { state: State::Refused, due: None, reason: None, from, now: at(2) };
    assert!(store.ruled(claimed[0].hold, Ruling { decision: "refuse", reason, settle }).await.unwrap());
    let status = other.status(id).await.unwrap().unwrap();
    assert_eq!((status.kind, status.code.as_deref()), (Some(ErrorKind::Refused), Some("no-marketing")));
    let id = put(store, new("l", 2)).await;
    stop(store, Address::phone("+447700900002").unwrap(), OptOutScope::All).await;
    let status = other.status(id).await.unwrap().unwrap();
    assert_eq!((status.state, status.kind), (State::Refused, Some(ErrorKind::OptedOut)));
    assert_eq!((status.code.as_deref(), &*status.history), (Some("opt-out"), &[][..]));
}

async fn settled_event_has_its_message(store: &dyn Engine, other: &dyn Engine) {
    let id = put(store, new("k", 1)).await;
    let claimed = claim(store, at(1)).await;
    begin_at(store, &claimed[0], at(2)).await;
    let rejected = End { kind: "invalid_message", code: Some("100".to_owned()), ..end("rejected") };
    assert!(store.finish(claimed[0].hold, rejected).await.unwrap());
    // A person sends it again before anybody reads of it.
    let again = Settle { state: State::Queued, due: Some(at(4)), reason: None, from: &[State::Rejected], now: at(4) };
    assert!(store.settle(id, again).await.unwrap().is_some());
    let claimed = claim(store, at(5)).await;
    begin_at(store, &claimed[0], at(6)).await;
    let end = End { segments: Some(1), now: at(7), ..accepted("id") };
    assert!(store.finish(claimed[0].hold, end).await.unwrap());
    for (state, kind, code, segments, attempts) in [
        (State::Rejected, Some(ErrorKind::InvalidMessage), Some("100"), None, 1),
        (State::Accepted, None, None, Some(1), 2),
    ] {
        let handed = next(other, at(8)).await.unwrap();
        let EventContent::Settled(settled) = handed.what else { panic!("it is settled") };
        assert_eq!((settled.id, settled.state, settled.kind, settled.code.as_deref()), (id, state, kind, code));
        assert_eq!((&*settled.key, settled.segments, settled.history.len()), ("k", segments, attempts));
        assert_eq!(settled.recipient, Some(new("k", 1).message.to));
        let written = serde_json::to_string(&settled).unwrap();
        assert_eq!(serde_json::from_str::<Settled>(&written).unwrap(), *settled);
        assert!(!format!("{settled:?}").contains("7700900001"));
    }
}

#[test]
fn settled_event_of_an_older_row_is_read() {
    let EventContent::Settled(settled) = EventContent::read("settled", r#"{"id":7,"state":"accepted","reason":null}"#)
    else {
        panic!("it can be read")
    };
    assert_eq!(*settled, Settled::new(Id(7), State::Accepted, None));
    assert_eq!(serde_json::to_string(&settled).unwrap(), r#"{"id":7,"state":"accepted","reason":null}"#);
}

async fn file_of_a_fallback_is_kept_until_it_is_sent(store: &dyn Engine, other: &dyn Engine) {
    keeps(store, &[("desk", Some(DAY))]).await;
    photos(store, "one", 1).await;
    let hold = holds(store, at(0)).await[0];
    assert!(store.fetched(hold, held(b"tree"), at(1)).await.unwrap());
    let media = crate::model::message::Media::image(StoredMedia::new(Digest::sha256(b"tree"), 4, "image/jpeg"));
    let instead = Message::media(Address::whatsapp("07700 900123").unwrap(), [media.clone(), media]);
    let fallback = Some(Fallback::new(instead, 3 * DAY));
    put(store, New { fallback, ..new("k", 1) }).await;
    let claimed = claim(store, at(1)).await;
    begin(store, &claimed[0]).await;
    assert!(store.finish(claimed[0].hold, accepted("id")).await.unwrap());
    acknowledge(store, at(9)).await;
    let later = at(9).plus(DAY);
    assert_eq!(purge(other, later).await, 2);
    assert_eq!(other.unwanted(later, LEASE, 9).await.unwrap(), []);
    assert_eq!(brought(store, delivery("id", DeliveryState::Delivered)).await, 1);
    assert_eq!(other.unwanted(later.plus(LEASE), LEASE, 9).await.unwrap(), [Digest::sha256(b"tree")]);
}

async fn messages_of_every_state_are_listed_in_pages(store: &dyn Engine, other: &dyn Engine) {
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(put(store, new(&format!("k{n}"), n)).await);
        put(store, New { line: "leader".to_owned(), ..new(&format!("k{n}"), n) }).await;
    }
    // A worker alone claims.
    for state in State::ALL.into_iter().filter(|state| !matches!(state, State::Claimed | State::Sending)) {
        for id in &ids {
            let due = (!state.is_settled()).then(|| at(9));
            let settle = Settle { state, due, reason: None, from: &State::ALL, now: at(5) };
            store.settle(*id, settle).await.unwrap();
        }
        let list = async |after, max| {
            let listed = other.messages("desk", state, after, max).await.unwrap();
            listed.into_iter().map(|status| status.id).collect::<Vec<_>>()
        };
        assert_eq!(list(None, 4).await, ids[..4], "{state:?}");
        assert_eq!(list(Some(ids[3]), 4).await, ids[4..], "{state:?}");
    }
    for id in &ids {
        let again = Settle { state: State::Queued, due: Some(at(0)), reason: None, from: &State::ALL, now: at(5) };
        store.settle(*id, again).await.unwrap();
    }
    let claimed = claims(store, at(1), 99).await.unwrap();
    // SQLite keeps claims in memory.
    let notes_claims = store.stats(at(1)).await.unwrap().line("desk").unwrap().count(State::Claimed) == 6;
    let (in_claims, in_queue) = if notes_claims { (3, 0) } else { (0, 3) };
    let desk: Vec<_> = claimed.iter().filter(|claimed| claimed.line == "desk").collect();
    for claimed in &desk[..3] {
        begin(store, claimed).await;
    }
    for (state, count) in [(State::Claimed, in_claims), (State::Sending, 3), (State::Queued, in_queue)] {
        let listed = other.messages("desk", state, None, 9).await.unwrap();
        assert!(listed.len() == count && listed.is_sorted_by_key(|status| status.id), "{state:?}");
        assert_eq!(
            other.messages("desk", state, listed.first().map(|first| first.id), 9).await.unwrap().len(),
            count.saturating_sub(1)
        );
    }
}

async fn whole_store_passes_its_check(store: &dyn Engine, other: &dyn Engine) {
    assert_eq!(store.check().await.unwrap(), 0);
    keeps(store, &[("desk", Some(DAY))]).await;
    sent(store, "k", accepted("id")).await;
    put(store, with_fallback("l", 2)).await;
    assert_eq!(other.check().await.unwrap(), 0);
    acknowledge(store, at(5)).await;
    assert_eq!(purge(store, at(9).plus(DAY)).await, 2);
    assert_eq!(other.check().await.unwrap(), 0);
}

async fn waiting_message_shows_the_last_worker_activity(store: &dyn Engine, other: &dyn Engine) {
    let id = put(store, New { due: at(9), ..new("k", 1) }).await;
    let wait = |attended| Some(Wait { due: at(9), attended, now: at(20) });
    assert_eq!(other.wait(id, at(20)).await.unwrap(), wait(None));
    keeps(store, &[("desk", None), ("leader", None)]).await;
    store.attend(vec!["leader".to_owned()], at(5)).await.unwrap();
    assert_eq!(other.wait(id, at(20)).await.unwrap(), wait(Some(LONG_AGO)));
    store.attend(vec!["desk".to_owned(), "leader".to_owned()], at(6)).await.unwrap();
    assert_eq!(other.wait(id, at(20)).await.unwrap(), wait(Some(at(6))));
    store.note(vec![Line::new("desk")], at(7)).await.unwrap();
    assert_eq!(other.wait(id, at(20)).await.unwrap(), wait(Some(at(7))));
    begin(store, &claim(store, at(9)).await[0]).await;
    assert_eq!(other.wait(id, at(20)).await.unwrap(), None);
}

async fn resent_message_has_attempts_of_its_own(store: &dyn Engine, other: &dyn Engine) {
    let id = sent(store, "a", End { state: State::Parked, ..end("not_sent") }).await;
    let again = || Settle { state: State::Queued, due: Some(at(5)), reason: None, from: &[State::Parked], now: at(5) };
    assert_eq!(other.resend(id, again()).await.unwrap().as_deref(), Some("desk"));
    assert_eq!(other.resend(id, again()).await.unwrap(), None);
    let claimed = claim(store, at(5)).await.remove(0);
    assert_eq!((claimed.attempts.len(), claimed.tries().count()), (1, 0));
    begin_at(store, &claimed, at(6)).await;
    assert!(
        store.finish(claimed.hold, End { state: State::Deferred, due: Some(at(9)), ..end("not_sent") }).await.unwrap()
    );
    let claimed = claim(store, at(9)).await.remove(0);
    assert_eq!((claimed.attempts.len(), claimed.tries().count()), (2, 1));
    assert_eq!(claimed.tries().next().unwrap().at, at(6));
    assert_eq!(store.status(id).await.unwrap().unwrap().history.len(), 2);
}

fn up_to(moment: Timestamp, person: u32, state: DeliveryState) -> Delivery {
    let recipient = Some(new("", person).message.to);
    Delivery { of: DeliveryOf::UpTo { at: moment, id: None }, recipient, ..delivery("", state) }
}

async fn reached(store: &dyn Engine, id: Id) -> Option<DeliveryState> {
    store.status(id).await.unwrap().unwrap().delivery
}

async fn receipt_up_to_a_time_counts_before_its_send_ends(store: &dyn Engine, other: &dyn Engine) {
    let Enqueued::New(id) = store.enqueue(with_fallback("a", 1)).await.unwrap() else { panic!("it is new") };
    let claimed = claim(store, at(1)).await;
    begin(store, &claimed[0]).await;
    assert_eq!(brought(other, up_to(at(3), 1, DeliveryState::Delivered)).await, 1);
    assert_eq!(reached(store, id).await, None);
    assert!(store.finish(claimed[0].hold, accepted("id")).await.unwrap());
    assert_eq!(reached(store, id).await, Some(DeliveryState::Delivered));
    // As those see it who read the conversation, and who decide about the fallback.
    let read = store.conversation("desk", new("", 1).message.to.expose(), None, 9).await.unwrap();
    let EntryContent::Ours { status, .. } = &read[0].content else { panic!("it is ours") };
    assert_eq!(status.delivery, Some(DeliveryState::Delivered));
    assert_eq!(fall_back(store, at(60_000)).await, 0);
    assert!(store.due_fallbacks(at(1_000_000)).await.unwrap().is_empty());
}

async fn receipt_up_to_a_time_ends_fallbacks(store: &dyn Engine, other: &dyn Engine) {
    let mut ids = Vec::new();
    for key in ["a", "b"] {
        let Enqueued::New(id) = store.enqueue(with_fallback(key, 1)).await.unwrap() else { panic!("it is new") };
        let claimed = claim(store, at(1)).await;
        begin(store, &claimed[0]).await;
        assert!(store.finish(claimed[0].hold, accepted(key)).await.unwrap());
        ids.push(id);
    }
    assert_eq!(brought(other, up_to(at(1), 1, DeliveryState::Read)).await, 1);
    assert_eq!(store.due_fallbacks(at(60_000)).await.unwrap().len(), 2);
    assert_eq!(brought(other, up_to(at(2), 1, DeliveryState::Read)).await, 1);
    assert!(store.due_fallbacks(at(60_000)).await.unwrap().is_empty());
    // News of a failure comes late.
    assert_eq!(brought(store, delivery("a", DeliveryState::Failed)).await, 1);
    assert_eq!(fall_back(store, at(60_000)).await, 0);
    for id in ids {
        assert_eq!(reached(store, id).await, Some(DeliveryState::Read));
    }
}

async fn receipt_up_to_a_time_never_lowers_nor_reaches_ahead(store: &dyn Engine, other: &dyn Engine) {
    let first = sent(store, "a", accepted("id-a")).await;
    brought(store, delivery("id-a", DeliveryState::Played)).await;
    brought(store, up_to(AHEAD, 1, DeliveryState::Read)).await;
    brought(other, up_to(at(1), 1, DeliveryState::Read)).await;
    brought(other, up_to(at(3), 1, DeliveryState::Delivered)).await;
    brought(other, up_to(at(3), 1, DeliveryState::Failed)).await;
    assert_eq!(reached(store, first).await, Some(DeliveryState::Played));
    let second = sent(store, "b", accepted("id-b")).await;
    assert_eq!(reached(store, second).await, Some(DeliveryState::Read));
    // A receipt with a time in the future does not cover messages sent later.
    let later = put(store, new("c", 1)).await;
    let claimed = claim(store, at(1)).await;
    assert!(store.begin(claimed[0].hold, attempt(at(9))).await.unwrap());
    assert!(store.finish(claimed[0].hold, accepted("id-c")).await.unwrap());
    assert_eq!(reached(store, later).await, Some(DeliveryState::Accepted));
}

async fn receipt_up_to_a_time_is_kept_with_its_messages(store: &dyn Engine, _: &dyn Engine) {
    keeps(store, &[("desk", Some(DAY))]).await;
    let id = sent(store, "a", accepted("id-a")).await;
    brought(store, up_to(at(3), 1, DeliveryState::Read)).await;
    acknowledge(store, at(5)).await;
    assert!(purge(store, at(5).plus(DAY)).await > 0);
    assert_eq!(reached(store, id).await, Some(DeliveryState::Read));
    purge(store, at(5).plus(DAY)).await;
    assert_eq!(purge(store, at(5).plus(DAY)).await, 0);
    assert_eq!(reached(store, id).await, Some(DeliveryState::Read));
    // Nothing of the conversation is left.
    let again = sent(store, "b", accepted("id-b")).await;
    assert_eq!(reached(store, again).await, Some(DeliveryState::Accepted));
}

/// The time by a clock that is a year ahead.
const AHEAD: Timestamp = Timestamp::from_secs(1_795_000_000 + 366 * 24 * 3600);

const LEASES: Leases = Leases { message: LEASE, event: LEASE, file: LEASE, removal: LEASE };

async fn bound(store: &dyn Engine, now: Timestamp) -> Bounded {
    let (mut next, mut all) = (Some(Unbounded::Messages(i64::MIN)), Bounded::default());
    while let Some(part) = next {
        let (after, bounded) = store.bound(part, now, LEASES).await.unwrap();
        (next, all) = (after, all.plus(bounded));
    }
    all
}

async fn clock_set_back_is_detected_until_waits_are_bounded(store: &dyn Engine, other: &dyn Engine) {
    let never = Timestamp::from_millis(i64::MIN);
    assert_eq!(store.clock_went_back(AHEAD, never).await.unwrap(), None);
    assert_eq!(store.clock_went_back(AHEAD.minus(CLOCK_TOLERANCE), never).await.unwrap(), None);
    let later = AHEAD.plus(CLOCK_NOTED);
    assert_eq!(other.clock_went_back(later, never).await.unwrap(), None);
    for _ in 0..2 {
        assert_eq!(store.clock_went_back(later.minus(DAY), never).await.unwrap(), Some(DAY));
    }
    other.note_time(later.minus(DAY)).await.unwrap();
    assert_eq!(store.clock_went_back(later.minus(DAY), never).await.unwrap(), None);
    // The time that a worker has seen since it was last stored counts as well.
    assert_eq!(store.clock_went_back(later.minus(DAY), later).await.unwrap(), Some(DAY));
}

async fn message_waits_are_bounded_after_clock_is_set_back(store: &dyn Engine, _: &dyn Engine) {
    let secs = Duration::from_secs;
    let ahead = |key, person| New { due: AHEAD, now: AHEAD, ..new(key, person) };
    let end_at = |state, due| End { state, due, now: AHEAD, ..end("unknown") };
    let claimed = async |new: New| {
        put(store, new).await;
        claim(store, AHEAD).await.remove(0)
    };
    let started = async |new: New| {
        let claimed = claimed(new).await;
        begin_at(store, &claimed, AHEAD).await;
        claimed.hold
    };
    let backoff = started(ahead("backoff", 1)).await;
    assert!(store.finish(backoff, end_at(State::Deferred, Some(AHEAD.plus(secs(3600))))).await.unwrap());
    let unknown = started(ahead("unknown", 2)).await;
    assert!(store.finish(unknown, end_at(State::Unknown, Some(AHEAD.plus(secs(30))))).await.unwrap());
    let instead = started(New { due: AHEAD, now: AHEAD, ..with_fallback("instead", 3) }).await;
    assert!(store.finish(instead, End { now: AHEAD, ..accepted("id") }).await.unwrap());
    let rule = |decision, until| Ruling {
        decision,
        reason: Reason::new("rule", "words"),
        settle: Settle {
            state: State::Deferred,
            due: Some(until),
            reason: None,
            from: &[State::Claimed, State::Queued],
            now: AHEAD,
        },
    };
    let undecided = claimed(ahead("undecided", 4)).await.hold;
    assert!(store.ruled(undecided, rule(NOT_DECIDED, AHEAD.plus(secs(30)))).await.unwrap());
    let asked = claimed(ahead("asked", 5)).await.hold;
    assert!(store.ruled(asked, rule("defer", AHEAD.plus(secs(60)))).await.unwrap());
    let put_off = claimed(ahead("put off", 6)).await.hold;
    assert!(store.put_off(put_off, off(AHEAD.plus(secs(2)))).await.unwrap());
    let sending = started(ahead("sending", 7)).await;
    let held = claimed(ahead("held", 8)).await.hold;
    put(store, ahead("plain", 9)).await;
    let planned = put(store, New { due: AHEAD.plus(secs(60)), ..ahead("planned", 10) }).await;

    let now = at(5_000);
    assert!(claim(store, now).await.is_empty() && store.due_fallbacks(now.plus(secs(60))).await.unwrap().is_empty());
    let bounded = bound(store, now).await;
    assert!((7..=8).contains(&bounded.messages), "{bounded:?}");
    assert_eq!((bounded.implausible, store.stats(now).await.unwrap().all().implausible), (2, 2));
    let mut soon = keys(store, now, 9).await;
    soon.sort_unstable();
    assert_eq!(soon, ["plain", "put off"]);
    let due = async |id| store.status(id).await.unwrap().unwrap().due;
    assert_eq!(due(backoff.id).await, Some(now.plus(secs(3600))));
    assert_eq!(due(undecided.id).await, Some(now.plus(secs(30))));
    assert_eq!(due(asked.id).await, Some(AHEAD.plus(secs(60))));
    assert_eq!(due(planned).await, Some(AHEAD.plus(secs(60))));
    assert_eq!(store.look_ups_due(now.plus(secs(30)), secs(30), 9).await.unwrap()[0].hold.id, unknown.id);
    assert_eq!(store.due_fallbacks(now.plus(secs(60))).await.unwrap().len(), 1);
    assert_eq!(store.due_fallbacks(now.plus(secs(59))).await.unwrap().len(), 0);
    let lapsed = store.recover(now.plus(LEASE), false).await.unwrap();
    assert_eq!(lapsed.unknown, 1);
    assert_eq!(store.status(sending.id).await.unwrap().unwrap().state, State::Unknown);
    let mut freed = keys(store, now.plus(LEASE), 9).await;
    freed.sort_unstable();
    assert_eq!(freed, ["held", "plain", "put off"]);
    assert!(!store.begin(held, attempt(now.plus(LEASE))).await.unwrap());
}

async fn scheduled_message_keeps_its_time_after_clock_is_set_back(store: &dyn Engine, _: &dyn Engine) {
    let time = AHEAD.minus(DAY);
    let id = put(store, New { due: time, ..new("planned", 1) }).await;
    // It came into the order of its conversation, and did not go.
    assert_eq!(keys(store, AHEAD, 0).await, [""; 0]);
    let held = claim(store, AHEAD).await.remove(0).hold;
    store.unclaim(held).await.unwrap();
    put(store, new("plain", 1)).await;
    assert_eq!(bound(store, at(5_000)).await.messages, 1);
    let status = store.status(id).await.unwrap().unwrap();
    assert_eq!((status.state, status.due), (State::Deferred, Some(time)));
    assert_eq!(keys(store, at(5_000), 9).await, ["plain"]);
    store.recover(time, true).await.unwrap();
    assert_eq!(store.status(id).await.unwrap().unwrap().due, Some(time));
}

async fn event_and_file_waits_are_bounded_after_clock_is_set_back(store: &dyn Engine, _: &dyn Engine) {
    let hour = Duration::from_secs(3600);
    for id in ["delivered", "failed", "with a photo", "with another"] {
        let photos = usize::from(id.starts_with("with"));
        let incoming = Incoming { line: Some(id.replace(' ', "-")), ..incoming(id, photos) };
        assert_eq!(store.store_events(vec![incoming], None, AHEAD).await.unwrap(), 1);
    }
    let next = async |line, now| store.next(Some(line), now, LEASE).await.unwrap().map(|handed| handed.id);
    assert!(next("delivered", AHEAD).await.is_some());
    let failed = next("failed", AHEAD).await.unwrap();
    assert!(!store.nack(failed, AHEAD.plus(hour), AHEAD).await.unwrap());
    let files = holds(store, AHEAD).await;
    assert_eq!(files.len(), 2);
    assert!(store.fetched(files[0], Fetched::Again(AHEAD.plus(hour)), AHEAD).await.unwrap());
    store.note(vec![Line::new("failed")], AHEAD).await.unwrap();

    let now = at(5_000);
    let bounded = bound(store, now).await;
    assert_eq!((bounded.events, bounded.files), (4, 2));
    assert_eq!(next("delivered", now).await, None);
    assert!(next("delivered", now.plus(LEASE)).await.is_some());
    assert_eq!(next("failed", now.plus(hour).minus(Duration::from_millis(1))).await, None);
    assert_eq!(next("failed", now.plus(hour)).await, Some(failed));
    assert!(next("with-a-photo", now.plus(LEASE)).await.is_some());
    assert_eq!(holds(store, now).await[0].event, files[0].event);
    assert_eq!(holds(store, now.plus(LEASE).minus(Duration::from_millis(1))).await, []);
    assert_eq!(holds(store, now.plus(LEASE)).await.len(), 2);
    // The line is left to the program that worked on it for a week from now, and not from then.
    let late = now.plus(8 * DAY);
    assert_eq!(store.next_batch(&all(&[]), late, LEASE, 9).await.unwrap().len(), 4);
}

async fn waits_within_their_length_are_unchanged(store: &dyn Engine, _: &dyn Engine) {
    let id = sent(store, "backoff", End { state: State::Deferred, due: Some(at(9_000)), ..end("rejected") }).await;
    put(store, with_fallback("instead", 2)).await;
    put(store, New { due: at(60_000), ..new("planned", 3) }).await;
    let claimed = claims(store, at(4), 1).await.unwrap();
    photos(store, "event", 0).await;
    assert!(next(store, at(4)).await.is_some());
    assert_eq!(bound(store, at(4)).await, Bounded::default());
    assert_eq!(store.status(id).await.unwrap().unwrap().due, Some(at(9_000)));
    assert_eq!(claimed.len(), 1);
}

async fn unhandled_message_counts_from_the_corrected_clock(store: &dyn Engine, _: &dyn Engine) {
    let (id, why) = (put(store, new("strange", 1)).await, || Reason::new("line", "unknown"));
    assert_eq!(store.unhandled_since(id, why(), AHEAD).await.unwrap(), AHEAD);
    assert_eq!(store.unhandled_since(id, why(), at(5)).await.unwrap(), at(5));
    assert_eq!(store.unhandled_since(id, why(), at(9)).await.unwrap(), at(5));
}

async fn retention_keeps_what_a_status_counts(store: &dyn Engine, other: &dyn Engine) {
    keeps(store, &[("desk", Some(DAY))]).await;
    let id = sent_again(store).await;
    let before = store.status(id).await.unwrap().unwrap();
    assert_eq!(purge(store, at(7).plus(DAY)).await, 1);
    let after = other.status(id).await.unwrap().unwrap();
    let left = Status { recipient: None, gateway_id: None, reason: None, ..before };
    assert_eq!(after, left);
    assert_eq!((after.tag.as_deref(), after.segments, after.history.len()), (Some("bins"), Some(2), 2));
    // The event of its end is unread, and stays.
    let handed = next(other, at(8).plus(DAY)).await.unwrap();
    let EventContent::Settled(settled) = handed.what else { panic!("it is settled") };
    assert_eq!((settled.recipient, settled.tag.as_deref(), settled.history.len()), (None, Some("bins"), 2));
}

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A resident's message with so many photographs.
pub(super) fn incoming(id: &str, photos: usize) -> Incoming {
    let media = vec![crate::model::message::MediaRef::new("mock", "photo"); photos];
    let content = InboundContent::Media { text: Some(id.to_owned()), media };
    let from = Address::phone("+447700900001").unwrap();
    Incoming {
        line: Some("desk".to_owned()),
        event: Inbound::new(envelope(), id, from, content).into(),
        fetch: true,
        auto_reply: None,
    }
}

/// The same, taken in.
async fn photos(store: &dyn Engine, id: &str, photos: usize) {
    assert_eq!(store.store_events(vec![incoming(id, photos)], None, at(0)).await.unwrap(), 1);
}

/// Claims all files that are due.
async fn holds(store: &dyn Engine, now: Timestamp) -> Vec<FileHold> {
    store.claim_files(now, LEASE, 99).await.unwrap().into_iter().map(|file| file.hold).collect()
}

/// The messages that can be read at this moment; they are held for a moment after it.
async fn read(store: &dyn Engine, now: Timestamp) -> Vec<String> {
    let mut read = Vec::new();
    while let Some(handed) = store.next(Some("desk"), now, LEASE).await.unwrap() {
        let EventContent::Event(event) = handed.what else { continue };
        read.push(event.as_inbound().unwrap().text().unwrap().to_owned());
    }
    read
}

/// Acknowledges all that there is.
async fn acknowledge(store: &dyn Engine, now: Timestamp) {
    while let Some(handed) = store.next(None, now.plus(HELD_BACK), LEASE).await.unwrap() {
        store.ack(handed.id, now).await.unwrap();
    }
}

fn held(bytes: &[u8]) -> Fetched {
    Fetched::Held(StoredMedia::new(Digest::sha256(bytes), bytes.len() as u64, "image/jpeg"))
}

/// When a worker of a line was last at work that has none any more.
const LONG_AGO: Timestamp = Timestamp::from_millis(-8 * 24 * 3_600_000);

async fn keeps(store: &dyn Engine, lines: &[(&str, Option<Duration>)]) {
    let line = |(id, retention): &(&str, Option<Duration>)| {
        let line = Line::new(*id).controller("Exampleshire Council").languages(["en", "cy"]);
        retention.map_or(line.clone(), |retention| line.retention(retention))
    };
    store.note(lines.iter().map(line).collect(), LONG_AGO).await.unwrap();
}

async fn purge(store: &dyn Engine, now: Timestamp) -> u64 {
    store.purge(now, 9).await.unwrap()
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_795_000_000_000 + millis)
}

fn new(key: &str, person: u32) -> New {
    let to = Address::from(Phone::from_digits(&format!("4477009{person:05}")).unwrap());
    New {
        line: "desk".to_owned(),
        key: key.to_owned(),
        message: Message::text(to, "Your collection is on Tuesday.").key(key),
        priority: 2,
        account: None,
        due: at(0),
        deferred: None,
        fallback: None,
        now: at(0),
    }
}

/// A message with what goes instead of it after a minute.
fn with_fallback(key: &str, person: u32) -> New {
    let instead = Message::text(Address::whatsapp("07700 900123").unwrap(), "Instead");
    New { fallback: Some(Fallback::new(instead, Duration::from_secs(60))), ..new(key, person) }
}

/// Lets go what goes instead of messages, where the policy says yes to all.
async fn fall_back(store: &dyn Engine, now: Timestamp) -> usize {
    results(store, now).await.to_send.len()
}

async fn results(store: &dyn Engine, now: Timestamp) -> FallbackResults {
    let due_fallbacks = store.due_fallbacks(now).await.unwrap();
    let allows = due_fallbacks
        .iter()
        .filter_map(FallbackRow::policy_query)
        .map(|(id, ..)| (id, Answer::Policy(Decision::Allow)));
    let reports = due_fallbacks.iter().filter_map(FallbackRow::lookup_query).map(|id| (id, Answer::NotDelivered));
    store.fall_back(now, allows.chain(reports).collect()).await.unwrap()
}

async fn put(store: &dyn Engine, new: New) -> Id {
    let Enqueued::New(id) = store.enqueue(new).await.unwrap() else { panic!("it is not new") };
    id
}

async fn claim(store: &dyn Engine, now: Timestamp) -> Vec<Claimed> {
    claims(store, now, 9).await.unwrap()
}

/// Claims so many messages at most, of the lines of these tests.
async fn claims(store: &dyn Engine, now: Timestamp, max: usize) -> Result<Vec<Claimed>> {
    let room = u32::try_from(max).unwrap();
    let lines = ["desk", "leader", "enquiries"].map(|line| (line.to_owned(), room)).into();
    let mut claimed = store.claim(now, LEASE, Rooms { lines, ..Rooms::default() }).await?.claimed;
    for more in claimed.drain(max.min(claimed.len())..) {
        store.unclaim(more.hold).await?;
    }
    Ok(claimed)
}

fn off(until: Timestamp) -> PutOff {
    PutOff { until, why: "why", planned: false }
}

async fn keys(store: &dyn Engine, now: Timestamp, max: usize) -> Vec<String> {
    let claimed = claims(store, now, max).await.unwrap();
    claimed.into_iter().map(|claimed| claimed.message.unwrap().key.unwrap()).collect()
}

fn attempt(at: Timestamp) -> Attempt {
    Attempt::new("mock", "desk", at)
}

async fn begin(store: &dyn Engine, claimed: &Claimed) {
    begin_at(store, claimed, at(2)).await;
}

async fn begin_at(store: &dyn Engine, claimed: &Claimed, now: Timestamp) {
    assert!(store.begin(claimed.hold, attempt(now)).await.unwrap());
}

/// A STOP that a person typed.
async fn stop(store: &dyn Engine, from: Address, scope: OptOutScope) -> usize {
    let mut wish = crate::model::event::OptOut::new(envelope(), from, scope);
    wish.inbound = Some(wish.from.expose().into());
    let incoming = Incoming { line: Some("desk".to_owned()), event: wish.into(), fetch: false, auto_reply: None };
    store.store_events(vec![incoming], None, at(4)).await.unwrap()
}

fn end(outcome: &'static str) -> End {
    End { outcome, reason: None, ..End::without_attempt(State::Rejected, "", at(3)) }
}

fn accepted(id: &str) -> End {
    let ids = vec![id.into()];
    End { state: State::Accepted, ids, delivery: Some(DeliveryState::Accepted), ..end("accepted") }
}

/// A message that was sent, and ended so.
async fn sent(store: &dyn Engine, key: &str, end: End) -> Id {
    let id = put(store, new(key, 1)).await;
    let claimed = claim(store, at(1)).await;
    begin(store, &claimed[0]).await;
    assert!(store.finish(claimed[0].hold, end).await.unwrap());
    id
}

fn envelope() -> Envelope {
    Envelope::new("mock", Medium::Sms, AccountId::new("desk"), at(4), Raw::default())
}

fn delivery(id: &str, state: DeliveryState) -> Delivery {
    Delivery::new(envelope(), id, state, format!("{state:?}"))
}

async fn brought(store: &dyn Engine, delivery: Delivery) -> usize {
    let incoming = Incoming { line: Some("desk".to_owned()), event: delivery.into(), fetch: true, auto_reply: None };
    store.store_events(vec![incoming], None, at(4)).await.unwrap()
}

/// A text that does not compress.
fn random(len: usize) -> String {
    let mut state = 20_261_125_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'a' + u8::try_from(state % 26).unwrap())
    };
    (0..len).map(|_| next()).collect()
}

/// A file that is taken away at the end.
#[cfg(feature = "sqlite-system")]
pub(super) struct OnDisk(std::path::PathBuf);

#[cfg(feature = "sqlite-system")]
impl OnDisk {
    pub(super) fn new() -> Self {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let new = Self(std::env::temp_dir().join(format!("civic-suite-{}-{n}.db", std::process::id())));
        // An earlier process of this number may have been killed.
        new.remove();
        new
    }

    fn remove(&self) {
        for end in ["", "-wal", "-shm"] {
            _ = std::fs::remove_file(format!("{}{end}", self.0.display()));
        }
    }

    pub(super) fn url(&self) -> String {
        format!("sqlite:{}", self.0.display())
    }
}

#[cfg(feature = "sqlite-system")]
impl Drop for OnDisk {
    fn drop(&mut self) {
        self.remove();
    }
}
