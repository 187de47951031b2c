//! What every store does, whatever it is made of.

mod budgets;
mod claims;
mod clock;
mod conversations;
mod deliveries;
mod fallbacks;
mod files;
mod inbox;
mod limits;
mod messages;
mod opt_out_model;
mod opt_outs;
mod retention;
mod sends;
mod statuses;
mod waiting;
mod windows;

use std::time::Duration;

use self::budgets::*;
use self::claims::*;
use self::clock::*;
use self::conversations::*;
use self::deliveries::*;
use self::fallbacks::*;
use self::files::*;
use self::inbox::*;
use self::limits::*;
use self::messages::*;
use self::opt_out_model::*;
use self::opt_outs::*;
use self::retention::*;
use self::sends::*;
use self::statuses::*;
use self::waiting::*;
use self::windows::*;
use super::super::conversation::Entry;
use super::super::directory::{Addressee, Named};
use super::super::fallback::{Answer, Fallback};
use super::super::file::File;
use super::super::lanes::Rooms;
use super::super::outbox::{self};
use super::super::record::*;
use super::super::register::{Begun, Lift};
use super::super::status::{AttemptOutcome, Id, PRIORITY_LAST, Settled, State, Status};
use super::super::watch::Stats;
use super::super::{EntryContent, Line};
use super::*;
use crate::media::StoredMedia;
use crate::model::address::{Address, Medium, Phone};
use crate::model::delivery::DeliveryState;
use crate::model::digest::Digest;
use crate::model::error::ErrorKind;
use crate::model::event::{Delivery, DeliveryOf, Envelope, Event, Inbound, InboundContent, OptOutScope, Raw};
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
    opt_out_stops_messages_by_purpose
    opt_out_wins_over_a_claimed_message
    link_made_later_carries_the_opt_out
    opt_out_outlives_retention_and_addresses
    reply_goes_to_a_message_written_after_the_opt_out
    one_confirmation_goes_within_ten_minutes
    start_lifts_what_stop_set
    marketing_preference_is_apart_from_stop
    rejection_for_an_opt_out_is_recorded
    opt_out_of_a_medium_leaves_the_fallback
    fallback_to_a_person_who_opted_out_is_refused
    emergency_despite_an_opt_out_is_recorded
    opt_outs_are_listed_in_pages
    opt_outs_match_the_model
    opt_out_follows_links_of_officers
    marketing_needs_a_consent
    attempt_is_charged_until_it_was_certainly_not_sent
    message_over_the_budget_is_refused
    message_over_the_budget_waits_for_the_next_period
    refused_medium_leaves_the_fallback
    reported_price_replaces_the_estimate
    unknown_outcome_is_released_once_it_was_not_sent
    attempt_left_by_a_crash_stays_charged
    budget_is_exact_under_concurrency
    waiting_conversations_match_the_model
    late_acceptance_answers_what_was_there_before
    frequency_counts_messages_to_one_person
    frequency_counts_linked_addresses
    message_over_the_frequency_waits_for_room
    refused_message_is_not_charged
    limits_are_exact_under_concurrency
    window_opens_with_the_last_message
    rejection_closes_the_window_until_the_person_writes
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
    messages_match_their_filter
    message_is_either_cancelled_or_sent
    batch_is_stored_once_in_its_order
    concurrent_batches_store_each_message_once
    campaign_has_counts_segments_and_cost
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
    no_send_begins_after_an_opt_out
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
    assert_eq!(database.grant(include_str!("../postgres/schema.sql"), "the_role").await, 2);
    let url = database.url_of_role();
    let (store, other) = (Store::open(&url).await.unwrap(), Store::open(&url).await.unwrap());
    Some((database, store, other))
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

/// Begins the send of a message, unless its recipient opted out.
async fn begin_send(store: &dyn Engine, claimed: &Claimed, now: Timestamp) -> Begun {
    let message = claimed.message.as_ref().unwrap();
    let to = Addressee::new(&claimed.line, &message.to, message.purpose, claimed.queued);
    store.begin_send(claimed.hold, attempt(now), to).await.unwrap()
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
