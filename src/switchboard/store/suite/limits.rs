//! Limits on recent messages in every store.

use super::super::super::limits::Limits;
use super::*;
use crate::policy::budgets::AtCap;
use crate::policy::limits::{Bursts, Frequency};

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

async fn begin_limited(store: &dyn Engine, claimed: &Claimed, limits: Limits, now: Timestamp) -> Begun {
    let message = claimed.message.as_ref().unwrap();
    let to = Addressee::new(&claimed.line, &message.to, message.purpose, claimed.queued);
    store.begin_send(claimed.hold, Attempt { limits, ..attempt(now) }, to).await.unwrap()
}

fn frequency(max: u32, at_cap: AtCap) -> Limits {
    Limits { frequency: Some(Frequency::new(max, WEEK).unwrap().at_cap(at_cap)), ..Limits::default() }
}

/// Begins and ends the send of one message.
async fn send_limited(store: &dyn Engine, new: New, limits: Limits, now: Timestamp) -> (Id, Begun) {
    let id = put(store, new).await;
    let claimed = claims(store, now, 100).await.unwrap().pop().unwrap();
    let begun = begin_limited(store, &claimed, limits, now).await;
    if begun == Begun::Sending {
        let end = End { now: now.plus(Duration::from_millis(1)), ..accepted(&format!("m-{}", id.0)) };
        assert!(store.finish(claimed.hold, end).await.unwrap());
    }
    (id, begun)
}

pub(super) async fn frequency_counts_messages_to_one_person(store: &dyn Engine, _: &dyn Engine) {
    let limits = frequency(2, AtCap::Refuse);
    for n in 1..=2 {
        let (_, begun) = send_limited(store, new(&format!("k-{n}"), 1), limits, at(n)).await;
        assert_eq!(begun, Begun::Sending, "{n}");
    }
    // On another line as well.
    let (id, begun) = send_limited(store, New { line: "leader".to_owned(), ..new("k-3", 1) }, limits, at(3)).await;
    assert!(matches!(&begun, Begun::Refused(reason) if reason.rule() == "frequency"), "{begun:?}");
    let status = store.status(id).await.unwrap().unwrap();
    assert_eq!((status.state, status.attempts), (State::Refused, 0));
    assert_eq!(send_limited(store, new("k-4", 2), limits, at(4)).await.1, Begun::Sending);
    // A week after the first message there is room for one.
    let week = at(1).plus(WEEK);
    assert_eq!(send_limited(store, new("k-5", 1), limits, week).await.1, Begun::Sending);
    assert!(matches!(send_limited(store, new("k-6", 1), limits, week).await.1, Begun::Refused(_)));
}

pub(super) async fn frequency_counts_linked_addresses(store: &dyn Engine, _: &dyn Engine) {
    let limits = frequency(1, AtCap::Refuse);
    assert_eq!(send_limited(store, new("k-1", 1), limits, at(1)).await.1, Begun::Sending);
    let address = |person: u32| Address::from(Phone::from_digits(&format!("4477009{person:05}")).unwrap());
    let changed = crate::model::event::AddressChanged::new(envelope(), address(1), address(2));
    let incoming = Incoming { line: Some("desk".to_owned()), event: changed.into(), fetch: false, auto_reply: None };
    store.store_events(vec![incoming], None, at(2)).await.unwrap();
    assert!(matches!(send_limited(store, new("k-2", 2), limits, at(3)).await.1, Begun::Refused(_)));
    assert_eq!(send_limited(store, new("k-3", 3), limits, at(4)).await.1, Begun::Sending);
}

pub(super) async fn message_over_the_frequency_waits_for_room(store: &dyn Engine, _: &dyn Engine) {
    let limits = frequency(1, AtCap::Wait);
    send_limited(store, new("k-1", 1), limits, at(1)).await;
    let (id, begun) = send_limited(store, new("k-2", 1), limits, at(5)).await;
    assert!(matches!(begun, Begun::Deferred(_)), "{begun:?}");
    let (status, room) = (store.status(id).await.unwrap().unwrap(), at(1).plus(WEEK));
    assert_eq!((status.state, status.due), (State::Deferred, Some(room)));
    let claimed = claim(store, room).await.pop().unwrap();
    assert_eq!(begin_limited(store, &claimed, limits, room).await, Begun::Sending);
}

pub(super) async fn refused_message_is_not_charged(store: &dyn Engine, _: &dyn Engine) {
    use super::super::super::charge::{Charge, ChargeUnit};
    let limits = frequency(1, AtCap::Refuse);
    send_limited(store, new("k-1", 1), limits, at(1)).await;
    put(store, new("k-2", 1)).await;
    let claimed = claim(store, at(2)).await.pop().unwrap();
    let (counter, reason) = ("texts messages month 2026-12-01".to_owned(), Reason::new("budget", "spent"));
    let charge = Charge { counter: counter.clone(), units: 1, cap: 9, until: None, reason, unit: ChargeUnit::Messages };
    let message = claimed.message.as_ref().unwrap();
    let to = Addressee::new(&claimed.line, &message.to, message.purpose, claimed.queued);
    let attempt = Attempt { charges: vec![charge], limits, ..attempt(at(3)) };
    assert!(matches!(store.begin_send(claimed.hold, attempt, to).await.unwrap(), Begun::Refused(_)));
    assert_eq!(store.used(vec![counter]).await.unwrap(), [0]);
}

/// Two workers begin sends to one person, and to adjacent numbers, at the same time.
pub(super) async fn limits_are_exact_under_concurrency(store: &dyn Engine, other: &dyn Engine) {
    for n in 0..60 {
        let line = ["desk", "leader", "enquiries"][n as usize % 3].to_owned();
        let person = if n < 6 { 77_777 } else { 10_000 + n };
        put(store, New { line, ..new(&format!("k-{n}"), person) }).await;
    }
    let bursts = Limits { bursts: Some(Bursts::new().max(5).unwrap()), ..Limits::default() };
    let both = Limits { frequency: frequency(1, AtCap::Refuse).frequency, ..bursts };
    let (mut sent, mut begun_for_one) = ([0; 3], 0);
    loop {
        let all = claims(store, at(1), 100).await.unwrap();
        if all.is_empty() {
            break;
        }
        let begun = futures_util::future::join_all(all.iter().enumerate().map(|(n, claimed)| async move {
            // A claim of SQLite is its worker's; PostgreSQL has two.
            let through = if n % 2 == 0 || !store.has_shared_rates() { store } else { other };
            begin_limited(through, claimed, both, at(2)).await
        }));
        for (claimed, begun) in all.iter().zip(begun.await) {
            if begun == Begun::Sending {
                let is_one = claimed.message.as_ref().unwrap().to.expose().ends_with("77777");
                begun_for_one += u32::from(is_one);
                let line = ["desk", "leader", "enquiries"].iter().position(|line| *line == claimed.line).unwrap();
                sent[line] += u32::from(!is_one);
                store.finish(claimed.hold, end("rejected")).await.unwrap();
            }
        }
    }
    assert_eq!((begun_for_one, sent), (1, [5, 5, 5]));
}
