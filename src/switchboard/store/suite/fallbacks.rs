//! Fallbacks and opt-outs.

use super::*;

pub(super) async fn fallback_is_sent_once_at_its_deadline(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn fallback_is_sent_at_once_after_a_failure(store: &dyn Engine, _: &dyn Engine) {
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

pub(super) async fn fallback_is_not_sent_after_an_opt_out(store: &dyn Engine, _: &dyn Engine) {
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

pub(super) async fn opt_out_ends_waiting_messages_and_fallbacks(store: &dyn Engine, other: &dyn Engine) {
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
        assert_eq!(stop(other, from.clone(), OptOutScope::All).await, 1);
        for (id, state) in [(first, State::Parked), (waits, State::Refused), (later, State::Refused)] {
            assert_eq!(store.status(id).await.unwrap().unwrap().state, state);
        }
        // Whoever had it claimed sends it no more.
        assert!(!store.begin(held[0].hold, attempt(at(4))).await.unwrap());
        assert_eq!(fall_back(store, at(1_000_000)).await, 0);
        // One that a person wants sent is decided by whom it goes to; later ones are refused.
        let again = Settle { state: State::Queued, due: Some(at(5)), reason: None, from: &[State::Parked], now: at(5) };
        assert!(store.settle(first, again).await.unwrap().is_some());
        let claimed = claim(store, at(6)).await.remove(0);
        match begin_send(store, &claimed, at(6)).await {
            Begun::Sending => assert!(n == 1 && store.finish(claimed.hold, end("rejected")).await.unwrap()),
            begun => assert!(n == 2 && matches!(begun, Begun::Refused(_)), "{begun:?}"),
        }
        let refused = store.enqueue(with_fallback("d")).await.unwrap();
        assert!(matches!(refused, Enqueued::Refused { is_fallback, .. } if is_fallback == (n == 1)), "{refused:?}");
        let lift = Lift::Officer("J. Jones".to_owned());
        assert_eq!(other.lift_preferences("desk", Named::new(&from), lift, at(7)).await.unwrap(), 1);
        put(store, with_fallback("d")).await;
        let claimed = claim(store, at(2000)).await.remove(0);
        begin_at(store, &claimed, at(2000)).await;
        assert!(store.finish(claimed.hold, end("rejected")).await.unwrap());
        assert_eq!(fall_back(store, at(2000)).await, 1);
        for claimed in claim(store, at(1_000_000)).await {
            assert!(store.finish(claimed.hold, end("rejected")).await.unwrap());
        }
    }
}

pub(super) async fn opt_out_from_one_message_ends_all_fallbacks(store: &dyn Engine, other: &dyn Engine) {
    let refused = || End { kind: "opted_out", ..end("rejected") };
    for by_status in [false, true] {
        let key = |name: &str| format!("{name}-{by_status}");
        let mut ids = Vec::new();
        for name in ["a", "b"] {
            let id = put(store, with_fallback(&key(name), u32::from(by_status))).await;
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

pub(super) async fn opt_out_of_marketing_ends_marketing_only(store: &dyn Engine, other: &dyn Engine) {
    let notice = put(store, with_fallback("a", 1)).await;
    let marketing = put(store, New { priority: PRIORITY_LAST, ..with_fallback("b", 1) }).await;
    assert_eq!(stop(other, new("", 1).message.to, OptOutScope::Marketing).await, 1);
    for (id, state) in [(notice, State::Queued), (marketing, State::Refused)] {
        assert_eq!(store.status(id).await.unwrap().unwrap().state, state);
    }
    assert_eq!(fall_back(store, at(1_000_000)).await, 1);
}

pub(super) async fn message_is_cancelled_only_for_an_allowed_fallback(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn fallback_is_parked_after_a_restore(store: &dyn Engine, _: &dyn Engine) {
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
