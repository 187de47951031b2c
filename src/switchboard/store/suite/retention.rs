//! Retention.

use super::*;

pub(super) async fn retention_removes_content_and_keeps_counts(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn retention_keeps_waiting_work(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn events_of_no_line_have_the_longest_retention(store: &dyn Engine, other: &dyn Engine) {
    store.store_events(vec![Incoming { line: None, ..incoming("strange", 0) }], None, at(0)).await.unwrap();
    acknowledge(store, at(1)).await;
    assert_eq!(purge(other, at(0).plus(99 * DAY)).await, 0);
    keeps(store, &[("desk", Some(DAY)), ("leader", None)]).await;
    assert_eq!(purge(other, at(0).plus(99 * DAY)).await, 0);
    keeps(store, &[("leader", Some(3 * DAY))]).await;
    assert_eq!(purge(other, at(0).plus(3 * DAY).minus(Duration::from_millis(1))).await, 0);
    assert_eq!(purge(other, at(0).plus(3 * DAY)).await, 1);
}

pub(super) async fn file_without_references_is_removed(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn file_being_removed_is_fetched_again(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn early_deliveries_are_kept_for_thirty_days(store: &dyn Engine, other: &dyn Engine) {
    let early = |id| delivery(id, DeliveryState::Delivered);
    brought(store, early("wamid.of-another-program")).await;
    let days = |days: u32| at(4).plus(days * DAY);
    assert_eq!(purge(other, days(30).minus(Duration::from_millis(1))).await, 0);
    assert_eq!(purge(other, days(30)).await, 1);
    assert_eq!(purge(other, days(30)).await, 0);
    let id = sent(store, "k", accepted("wamid.of-another-program")).await;
    assert_eq!(store.status(id).await.unwrap().unwrap().delivery, Some(DeliveryState::Accepted));
}

pub(super) async fn file_of_a_fallback_is_kept_until_it_is_sent(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn retention_keeps_what_a_status_counts(store: &dyn Engine, other: &dyn Engine) {
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
