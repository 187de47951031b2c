//! Events, and their delivery to a service.

use super::*;

pub(super) fn of(line: &str) -> EventFilter {
    EventFilter::Line(line.to_owned())
}

pub(super) fn all(own: &[&str]) -> EventFilter {
    EventFilter::All { own: own.iter().map(|line| (*line).to_owned()).collect() }
}

pub(super) async fn batch(store: &dyn Engine, of: &EventFilter, now: Timestamp, max: u32) -> Vec<String> {
    let batch = store.next_batch(of, now, LEASE, max).await.unwrap();
    let text = |handed: InboxEvent| match handed.what {
        EventContent::Event(event) => event.as_inbound().unwrap().text().unwrap().to_owned(),
        EventContent::Settled(settled) => settled.key,
        EventContent::Unreadable => String::new(),
    };
    batch.into_iter().map(text).collect()
}

pub(super) async fn events_are_delivered_in_batches(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn events_are_left_to_the_program_with_their_line(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn enqueue_and_ack_is_atomic(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn next(store: &dyn Engine, now: Timestamp) -> Option<InboxEvent> {
    store.next(Some("desk"), now, LEASE).await.unwrap()
}

pub(super) async fn failed_event_is_parked_after_ten_attempts(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn failed_event_holds_back_later_ones_of_its_person(store: &dyn Engine, _: &dyn Engine) {
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
pub(super) fn said(event: &InboxEvent) -> String {
    match &event.what {
        EventContent::Event(event) => event.as_inbound().unwrap().text().unwrap().to_owned(),
        _ => panic!("it is a message"),
    }
}

pub(super) async fn held_events_follow_in_order(store: &dyn Engine, _: &dyn Engine) {
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
pub(super) async fn events_match_the_model(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn event_that_arrives_during_an_ack_is_delivered(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn unacknowledged_event_is_parked(store: &dyn Engine, _: &dyn Engine) {
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

pub(super) async fn event_is_stored_once(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn cursor_of_a_channel_is_stored(store: &dyn Engine, other: &dyn Engine) {
    assert_eq!(store.cursor("x/x/desk").await.unwrap(), None);
    for place in ["12", "13"] {
        let cursor = Some(("x/x/desk".to_owned(), Cursor::new(place)));
        store.store_events(Vec::new(), cursor, at(1)).await.unwrap();
        assert_eq!(other.cursor("x/x/desk").await.unwrap(), Some(Cursor::new(place)));
    }
    assert_eq!(store.cursor("x/x/leader").await.unwrap(), None);
}

pub(super) async fn event_is_delivered_until_it_is_acknowledged(store: &dyn Engine, other: &dyn Engine) {
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
