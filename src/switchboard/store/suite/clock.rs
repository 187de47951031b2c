//! Waits after the clock was set back.

use super::*;

/// The time by a clock that is a year ahead.
pub(super) const AHEAD: Timestamp = Timestamp::from_secs(1_795_000_000 + 366 * 24 * 3600);

pub(super) const LEASES: Leases = Leases { message: LEASE, event: LEASE, file: LEASE, removal: LEASE };

pub(super) async fn bound(store: &dyn Engine, now: Timestamp) -> Bounded {
    let (mut next, mut all) = (Some(Unbounded::Messages(i64::MIN)), Bounded::default());
    while let Some(part) = next {
        let (after, bounded) = store.bound(part, now, LEASES).await.unwrap();
        (next, all) = (after, all.plus(bounded));
    }
    all
}

pub(super) async fn clock_set_back_is_detected_until_waits_are_bounded(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn message_waits_are_bounded_after_clock_is_set_back(store: &dyn Engine, _: &dyn Engine) {
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

pub(super) async fn scheduled_message_keeps_its_time_after_clock_is_set_back(store: &dyn Engine, _: &dyn Engine) {
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

pub(super) async fn event_and_file_waits_are_bounded_after_clock_is_set_back(store: &dyn Engine, _: &dyn Engine) {
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

pub(super) async fn waits_within_their_length_are_unchanged(store: &dyn Engine, _: &dyn Engine) {
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

pub(super) async fn unhandled_message_counts_from_the_corrected_clock(store: &dyn Engine, _: &dyn Engine) {
    let (id, why) = (put(store, new("strange", 1)).await, || Reason::new("line", "unknown"));
    assert_eq!(store.unhandled_since(id, why(), AHEAD).await.unwrap(), AHEAD);
    assert_eq!(store.unhandled_since(id, why(), at(5)).await.unwrap(), at(5));
    assert_eq!(store.unhandled_since(id, why(), at(9)).await.unwrap(), at(5));
}
