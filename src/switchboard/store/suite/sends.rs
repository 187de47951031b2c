//! Sends under a claim, recovery and rulings.

use super::*;

pub(super) async fn released_message_waits_for_its_time(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn lane_changes_under_its_own_claim_only(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn send_begins_under_its_own_claim_only(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn send_ends_under_its_own_claim_only(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn stale_writer_is_refused_a_thousand_times(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn lapsed_claims_are_recovered_and_others_are_not(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn message_is_parked_after_three_deaths_of_the_process(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn restored_messages_have_an_unknown_outcome(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn unknown_outcome_is_looked_up_at_intervals(store: &dyn Engine, other: &dyn Engine) {
    let id = sent(store, "k", End { state: State::Unknown, due: Some(at(10)), ..end("unknown") }).await;
    let wait = Duration::from_millis(30);
    assert!(store.look_ups_due(at(9), wait, 9).await.unwrap().is_empty());
    let (one, two) =
        (store.look_ups_due(at(10), wait, 9).await.unwrap(), other.look_ups_due(at(10), wait, 9).await.unwrap());
    assert_eq!((one[0].hold.id, one[0].lookups, one[0].attempts.len(), two.len()), (id, 0, 1, 0));
    assert_eq!(other.look_ups_due(at(40), wait, 9).await.unwrap()[0].lookups, 1);
}

pub(super) async fn ruling_is_recorded_under_its_own_claim_only(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn message_deferred_at_enqueue_has_a_reason(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn unusual_texts_are_stored_unchanged(store: &dyn Engine, other: &dyn Engine) {
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
