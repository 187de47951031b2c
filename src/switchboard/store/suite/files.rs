//! Files of events.

use super::*;

pub(super) async fn event_is_held_back_for_its_files_up_to_a_minute(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn file_is_recorded_under_its_own_claim_only(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn concurrent_fetches_release_their_event(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn file_is_claimed_again_only_after_its_claim_lapses(store: &dyn Engine, other: &dyn Engine) {
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
