//! The counters of budgets in every store.

use super::super::super::charge::{Charge, ChargeUnit};
use super::*;

const COUNTER: &str = "texts messages month 2026-12-01";

fn charge(units: i64, cap: i64) -> Charge {
    let reason = Reason::new("budget", "the budget texts of this month is spent");
    Charge { counter: COUNTER.to_owned(), units, cap, until: None, reason, unit: ChargeUnit::Messages }
}

async fn begin_charged(store: &dyn Engine, claimed: &Claimed, charges: Vec<Charge>) -> Begun {
    let message = claimed.message.as_ref().unwrap();
    let to = Addressee::new(&claimed.line, &message.to, message.purpose, claimed.queued);
    store.begin_send(claimed.hold, Attempt { charges, ..attempt(at(2)) }, to).await.unwrap()
}

async fn used(store: &dyn Engine) -> i64 {
    store.used(vec![COUNTER.to_owned()]).await.unwrap()[0]
}

/// Enqueues and claims one message.
async fn claimed_of(store: &dyn Engine, key: &str, person: u32) -> (Id, Claimed) {
    let id = put(store, new(key, person)).await;
    let mut claimed = claims(store, at(1), 100).await.unwrap();
    claimed.retain(|claimed| claimed.hold.id == id);
    (id, claimed.pop().unwrap())
}

pub(super) async fn attempt_is_charged_until_it_was_certainly_not_sent(store: &dyn Engine, other: &dyn Engine) {
    for (n, outcome, state, left) in [
        (1, "accepted", State::Accepted, 1),
        (2, "unknown", State::Parked, 2),
        (3, "rejected", State::Rejected, 2),
        (4, "not_sent", State::Rejected, 2),
        (5, "suspended", State::Deferred, 2),
    ] {
        let (_, claimed) = claimed_of(store, &format!("k-{n}"), n).await;
        assert_eq!(begin_charged(store, &claimed, vec![charge(1, 10)]).await, Begun::Sending);
        assert_eq!(used(other).await, left + i64::from(outcome != "accepted" && outcome != "unknown"), "{outcome}");
        let due = (state == State::Deferred).then_some(at(9_000_000));
        assert!(store.finish(claimed.hold, End { state, due, ..end(outcome) }).await.unwrap());
        assert_eq!(used(other).await, left, "{outcome}");
    }
}

pub(super) async fn message_over_the_budget_is_refused(store: &dyn Engine, _: &dyn Engine) {
    let (_, first) = claimed_of(store, "first", 1).await;
    assert_eq!(begin_charged(store, &first, vec![charge(2, 3)]).await, Begun::Sending);
    let (id, second) = claimed_of(store, "second", 2).await;
    let other = Charge { counter: "other messages day 2026-12-01".to_owned(), ..charge(2, 100) };
    let begun = begin_charged(store, &second, vec![other.clone(), charge(2, 3)]).await;
    assert!(matches!(&begun, Begun::Refused(reason) if reason.rule() == "budget"), "{begun:?}");
    let status = store.status(id).await.unwrap().unwrap();
    assert_eq!((status.state, status.attempts), (State::Refused, 0));
    assert!(status.reason.unwrap().contains("the budget texts of this month is spent"));
    // Neither counter has anything of it.
    assert_eq!(store.used(vec![COUNTER.to_owned(), other.counter]).await.unwrap(), [2, 0]);
    let (_, third) = claimed_of(store, "third", 3).await;
    assert_eq!(begin_charged(store, &third, vec![charge(1, 3)]).await, Begun::Sending);
}

pub(super) async fn message_over_the_budget_waits_for_the_next_period(store: &dyn Engine, _: &dyn Engine) {
    let (id, claimed) = claimed_of(store, "k-1", 1).await;
    let waits = Charge { until: Some(at(5_000_000)), ..charge(1, 0) };
    assert!(matches!(begin_charged(store, &claimed, vec![waits]).await, Begun::Deferred(_)));
    let status = store.status(id).await.unwrap().unwrap();
    assert_eq!((status.state, status.due), (State::Deferred, Some(at(5_000_000))));
    assert!(claim(store, at(4_999_999)).await.is_empty());
    let again = claim(store, at(5_000_001)).await;
    assert_eq!(begin_charged(store, &again[0], vec![charge(1, 1)]).await, Begun::Sending);
}

pub(super) async fn refused_medium_leaves_the_fallback(store: &dyn Engine, _: &dyn Engine) {
    put(store, with_fallback("k-1", 1)).await;
    let claimed = claim(store, at(1)).await.pop().unwrap();
    let reason = charge(1, 0).reason.for_medium();
    assert!(matches!(begin_charged(store, &claimed, vec![Charge { reason, ..charge(1, 0) }]).await, Begun::Refused(_)));
    assert_eq!(fall_back(store, at(120_000)).await, 1);
}

pub(super) async fn reported_price_replaces_the_estimate(store: &dyn Engine, _: &dyn Engine) {
    let money = |micros: &str, currency: &str| Some(Money::parse(micros, currency).unwrap().into());
    let pounds = Charge { unit: ChargeUnit::Money("GBP".to_owned()), ..charge(24_000, 1_000_000) };
    let segments = Charge { unit: ChargeUnit::Segments, ..charge(6, 1_000_000) };
    let mut expected = 0;
    for (n, charge, segments, price, counted) in [
        (1, &pounds, None, None, 24_000),
        (2, &pounds, None, money("0.048", "GBP"), 48_000),
        (3, &pounds, None, money("0.010", "GBP"), 10_000),
        (4, &pounds, None, money("0.048", "USD"), 24_000),
        // Twilio reports prices as negative amounts, which an adapter converts: this one is none.
        (5, &pounds, None, money("-0.048", "GBP"), 24_000),
        (6, &pounds, None, Some(Credits::parse("2").unwrap().into()), 24_000),
        (7, &segments, Some(2), None, 2),
        (8, &segments, None, None, 6),
    ] {
        let (_, claimed) = claimed_of(store, &format!("k-{n}"), n).await;
        assert_eq!(begin_charged(store, &claimed, vec![charge.clone()]).await, Begun::Sending);
        let end = End { segments, price, ..accepted(&format!("m-{n}")) };
        assert!(store.finish(claimed.hold, end).await.unwrap());
        expected += counted;
        assert_eq!(used(store).await, expected, "{n}");
    }
}

pub(super) async fn unknown_outcome_is_released_once_it_was_not_sent(store: &dyn Engine, _: &dyn Engine) {
    let now = at(10);
    let settle = |state, due, from| Settle { state, due, reason: None, from, now };
    for (n, settled, left) in [
        (1, settle(State::Accepted, None, &[State::Unknown, State::Parked]), 1),
        (2, settle(State::Rejected, None, &[State::Unknown, State::Parked]), 0),
        (3, settle(State::Queued, Some(at(9_000_000)), &[State::Unknown]), 0),
        (4, settle(State::Parked, None, &[State::Unknown]), 1),
    ] {
        let before = used(store).await;
        let (id, claimed) = claimed_of(store, &format!("k-{n}"), n).await;
        assert_eq!(begin_charged(store, &claimed, vec![charge(1, 100)]).await, Begun::Sending);
        let unknown = End { state: State::Unknown, due: Some(at(9_000_000)), ..end("unknown") };
        assert!(store.finish(claimed.hold, unknown).await.unwrap());
        assert_eq!(used(store).await, before + 1);
        // The second time it is in another state: nothing is released twice.
        for _ in 0..2 {
            store.settle(id, Settle { reason: None, ..settled }).await.unwrap();
        }
        assert_eq!(used(store).await, before + left, "{n}");
    }
}

pub(super) async fn attempt_left_by_a_crash_stays_charged(store: &dyn Engine, _: &dyn Engine) {
    let (_, claimed) = claimed_of(store, "k-1", 1).await;
    assert_eq!(begin_charged(store, &claimed, vec![charge(1, 1)]).await, Begun::Sending);
    store.recover(at(1_000_000), true).await.unwrap();
    assert_eq!(used(store).await, 1);
}

/// Two workers begin sends at the same time: together they take exactly the cap.
pub(super) async fn budget_is_exact_under_concurrency(store: &dyn Engine, other: &dyn Engine) {
    let count = std::env::var("CIVIC_ATTEMPTS").ok().and_then(|count| count.parse().ok()).unwrap_or(60_u32);
    let cap = i64::from(count / 3);
    for n in 0..count {
        put(store, new(&format!("k-{n}"), n)).await;
    }
    let mut all = Vec::new();
    loop {
        let claimed = claims(store, at(1), 100).await.unwrap();
        if claimed.is_empty() {
            break;
        }
        all.extend(claimed);
    }
    assert_eq!(all.len(), count as usize);
    let begun = futures_util::future::join_all(all.iter().enumerate().map(|(n, claimed)| async move {
        // A claim of SQLite is its worker's; PostgreSQL has two.
        let through = if n % 2 == 0 || !store.has_shared_rates() { store } else { other };
        begin_charged(through, claimed, vec![charge(1, cap)]).await
    }));
    let begun = begun.await;
    let sending = begun.iter().filter(|begun| **begun == Begun::Sending).count();
    assert_eq!((sending as i64, used(store).await), (cap, cap));
    assert!(begun.iter().all(|begun| matches!(begun, Begun::Sending | Begun::Refused(_))));
}
