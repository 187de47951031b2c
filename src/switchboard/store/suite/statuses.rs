//! Statuses, lists and counts.

use super::*;

pub(super) async fn messages_are_listed_line_by_line(store: &dyn Engine, other: &dyn Engine) {
    let mut parked = Vec::new();
    for key in ["a", "b", "c"] {
        parked.push(sent(store, key, End { state: State::Parked, ..end("unknown") }).await);
    }
    put(store, new("d", 1)).await;
    put(store, New { line: "leader".to_owned(), ..new("e", 1) }).await;
    let listed = async |after, max| {
        let listed = other.messages("desk", &State::Parked.into(), after, max).await.unwrap();
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

pub(super) async fn settle_applies_to_the_given_states_only(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn stats_count_every_state(store: &dyn Engine, other: &dyn Engine) {
    assert_eq!(store.stats(at(1)).await.unwrap(), Stats::default());
    assert_eq!(store.status(Id(1)).await.unwrap(), None);
    sent(store, "a", accepted("id")).await;
    for key in ["b", "c"] {
        put(store, new(key, 2)).await;
    }
    let stats = other.stats(at(1)).await.unwrap();
    assert_eq!(stats.all().messages, [(State::Accepted, 1), (State::Queued, 2)].into());
}

pub(super) async fn waiting_work_is_counted_line_by_line(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn lines_are_stored_as_last_configured(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) fn failed(kind: ErrorKind, code: &str) -> End {
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
pub(super) async fn sent_again(store: &dyn Engine) -> Id {
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

pub(super) async fn price_in_credits_is_stored_without_a_currency(store: &dyn Engine, other: &dyn Engine) {
    let price = Some(Credits::parse("1.5").unwrap().into());
    let id = sent(store, "k", End { price, ..accepted("id") }).await;
    let status = other.status(id).await.unwrap().unwrap();
    assert_eq!((status.price, status.history[0].price), (price, price));
}

pub(super) async fn status_has_every_attempt(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn status_of_a_refusal_has_its_rule(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn settled_event_has_its_message(store: &dyn Engine, other: &dyn Engine) {
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
pub(super) fn settled_event_of_an_older_row_is_read() {
    let EventContent::Settled(settled) = EventContent::read("settled", r#"{"id":7,"state":"accepted","reason":null}"#)
    else {
        panic!("it can be read")
    };
    assert_eq!(*settled, Settled::new(Id(7), State::Accepted, None));
    assert_eq!(serde_json::to_string(&settled).unwrap(), r#"{"id":7,"state":"accepted","reason":null}"#);
}

pub(super) async fn messages_of_every_state_are_listed_in_pages(store: &dyn Engine, other: &dyn Engine) {
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
            let listed = other.messages("desk", &state.into(), after, max).await.unwrap();
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
        let listed = other.messages("desk", &state.into(), None, 9).await.unwrap();
        assert!(listed.len() == count && listed.is_sorted_by_key(|status| status.id), "{state:?}");
        assert_eq!(
            other.messages("desk", &state.into(), listed.first().map(|first| first.id), 9).await.unwrap().len(),
            count.saturating_sub(1)
        );
    }
}

pub(super) async fn whole_store_passes_its_check(store: &dyn Engine, other: &dyn Engine) {
    assert_eq!(store.check().await.unwrap(), 0);
    keeps(store, &[("desk", Some(DAY))]).await;
    sent(store, "k", accepted("id")).await;
    put(store, with_fallback("l", 2)).await;
    assert_eq!(other.check().await.unwrap(), 0);
    acknowledge(store, at(5)).await;
    assert_eq!(purge(store, at(9).plus(DAY)).await, 2);
    assert_eq!(other.check().await.unwrap(), 0);
}

pub(super) async fn waiting_message_shows_the_last_worker_activity(store: &dyn Engine, other: &dyn Engine) {
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

pub(super) async fn resent_message_has_attempts_of_its_own(store: &dyn Engine, other: &dyn Engine) {
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
