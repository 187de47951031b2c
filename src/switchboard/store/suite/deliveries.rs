//! Deliveries, early, late and up to a time.

use super::*;

pub(super) async fn early_delivery_is_applied_by_id(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn early_delivery_is_applied_by_key(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn delivery_concurrent_with_finish_is_not_lost(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn delivery_state_is_never_lowered(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn delivery_settles_an_unknown_outcome(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn delivery_up_to_a_time_covers_earlier_messages(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn id_reported_with_a_key_is_stored(store: &dyn Engine, other: &dyn Engine) {
    let id = sent(store, "a", End { state: State::Unknown, ..end("unknown") }).await;
    let found = delivery("id-a", DeliveryState::Accepted).with_key(Some("a".to_owned()));
    brought(other, found).await;
    let status = store.status(id).await.unwrap().unwrap();
    assert_eq!((status.state, status.gateway_id), (State::Accepted, Some("id-a".into())));
    brought(store, delivery("id-a", DeliveryState::Delivered)).await;
    assert_eq!(store.status(id).await.unwrap().unwrap().delivery, Some(DeliveryState::Delivered));
}

pub(super) async fn message_is_found_by_reference_of_an_attempt(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn early_delivery_is_applied_by_reference(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn key_of_any_length_belongs_to_one_message(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) fn up_to(moment: Timestamp, person: u32, state: DeliveryState) -> Delivery {
    let recipient = Some(new("", person).message.to);
    Delivery { of: DeliveryOf::UpTo { at: moment, id: None }, recipient, ..delivery("", state) }
}

pub(super) async fn reached(store: &dyn Engine, id: Id) -> Option<DeliveryState> {
    store.status(id).await.unwrap().unwrap().delivery
}

pub(super) async fn receipt_up_to_a_time_counts_before_its_send_ends(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn receipt_up_to_a_time_ends_fallbacks(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn receipt_up_to_a_time_never_lowers_nor_reaches_ahead(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn receipt_up_to_a_time_is_kept_with_its_messages(store: &dyn Engine, _: &dyn Engine) {
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
