//! Claims, and the order of messages.

use super::*;

pub(super) async fn key_belongs_to_one_message(store: &dyn Engine, other: &dyn Engine) {
    let Enqueued::New(id) = store.enqueue(new("k", 1)).await.unwrap() else { panic!("it is new") };
    assert_eq!(other.enqueue(new("k", 1)).await.unwrap(), Enqueued::Same(id));
    assert_eq!(other.enqueue(new("k", 2)).await.unwrap(), Enqueued::Other);
    let elsewhere = New { line: "leader".to_owned(), ..new("k", 2) };
    assert!(matches!(other.enqueue(elsewhere).await.unwrap(), Enqueued::New(_)));
    assert_eq!(store.by_key("desk", "k").await.unwrap(), Some(id));
    assert_eq!(store.by_key("desk", "l").await.unwrap(), None);
    // At the same moment.
    let (one, two) = tokio::join!(store.enqueue(new("m", 3)), other.enqueue(new("m", 3)));
    let (one, two) = (one.unwrap(), two.unwrap());
    let id = store.by_key("desk", "m").await.unwrap().unwrap();
    let both = [one, two];
    assert!(both.contains(&Enqueued::New(id)) && both.contains(&Enqueued::Same(id)), "{both:?}");
}

pub(super) async fn claim_prefers_urgent_and_then_older_messages(store: &dyn Engine, _: &dyn Engine) {
    for (key, priority, queued) in [("a", 2, 3), ("b", 2, 1), ("c", 0, 4), ("d", 1, 2), ("e", 2, 1)] {
        let person = u32::from(key.as_bytes()[0]);
        put(store, New { priority, due: at(queued), now: at(queued), ..new(key, person) }).await;
    }
    assert_eq!(keys(store, at(5), 3).await, ["c", "d", "b"]);
    assert_eq!(keys(store, at(5), 9).await, ["e", "a"]);
    assert_eq!(keys(store, at(5), 9).await, [""; 0]);
    assert_eq!(keys(store, at(5), 0).await, [""; 0]);
}

pub(super) async fn conversation_has_one_claim_at_a_time(store: &dyn Engine, other: &dyn Engine) {
    for key in ["a", "b", "c"] {
        put(store, new(key, 1)).await;
    }
    put(store, New { line: "leader".to_owned(), ..new("a", 1) }).await;
    let first = claim(store, at(1)).await;
    assert_eq!(first.iter().map(|claimed| &*claimed.line).collect::<Vec<_>>(), ["desk", "leader"]);
    assert_eq!(keys(other, at(1), 9).await, [""; 0]);
    begin(store, &first[0]).await;
    // More urgent, and yet it waits for what is on its way.
    put(store, New { priority: 0, ..new("d", 1) }).await;
    assert_eq!(keys(other, at(1), 9).await, [""; 0]);
    assert!(store.finish(first[0].hold, accepted("id-a")).await.unwrap());
    assert_eq!(keys(other, at(1), 9).await, ["d"]);
}

pub(super) async fn concurrent_claims_share_no_conversation(store: &dyn Engine, other: &dyn Engine) {
    // Urgent messages are claimed before older ones, so two of each conversation could be claimed.
    for round in 0..20 {
        for person in 0..4 {
            put(store, new(&format!("{round}-{person}"), person)).await;
            put(store, New { priority: 0, ..new(&format!("{round}-{person}-urgent"), person) }).await;
        }
        let mut done = Vec::new();
        while done.len() < 8 {
            let (one, two, three, four) = tokio::join!(
                claims(store, at(1), 3),
                claims(other, at(1), 3),
                claims(store, at(1), 9),
                claims(other, at(1), 9),
            );
            let now: Vec<_> = [one, two, three, four].into_iter().flat_map(Result::unwrap).collect();
            assert!(!now.is_empty(), "{round}: nothing of {done:?}");
            let mut persons: Vec<_> = now.iter().map(|claimed| claimed.message.as_ref().unwrap().to.expose()).collect();
            persons.sort_unstable();
            assert!(persons.windows(2).all(|two| two[0] != two[1]), "{round}: {persons:?}");
            for claimed in now {
                begin(store, &claimed).await;
                let key = claimed.message.as_ref().unwrap().key.clone().unwrap();
                assert!(other.finish(claimed.hold, accepted(&format!("id-{key}"))).await.unwrap());
                done.push(key);
            }
        }
        let place = |key: String| done.iter().position(|claimed| *claimed == key);
        for person in 0..4 {
            let (plain, urgent) = (place(format!("{round}-{person}")), place(format!("{round}-{person}-urgent")));
            assert!(urgent < plain, "{done:?}");
        }
    }
}

pub(super) async fn scheduled_message_holds_back_none(store: &dyn Engine, _: &dyn Engine) {
    put(store, New { due: at(100), ..new("later", 1) }).await;
    put(store, new("now", 1)).await;
    assert_eq!(store.stats(at(1)).await.unwrap().all().messages.len(), 2);
    let claimed = claim(store, at(1)).await;
    assert_eq!(claimed[0].message.as_ref().unwrap().key.as_deref(), Some("now"));
    begin(store, &claimed[0]).await;
    assert!(store.finish(claimed[0].hold, accepted("id")).await.unwrap());
    assert_eq!(keys(store, at(99), 9).await, [""; 0]);
    assert_eq!(keys(store, at(100), 9).await, ["later"]);
}

pub(super) async fn waiting_message_expires_after_not_after(store: &dyn Engine, other: &dyn Engine) {
    let until = |key, person, not_after| {
        let new = new(key, person);
        New { message: new.message.clone().not_after(not_after), ..new }
    };
    let first = put(store, until("first", 1, at(50))).await;
    let behind = put(store, until("behind", 1, at(60))).await;
    let planned = put(store, New { due: at(90), ..until("planned", 2, at(55)) }).await;
    let later = put(store, until("later", 3, at(500))).await;
    let sending = put(store, until("sending", 4, at(20))).await;
    let claimed = claim(store, at(1)).await.into_iter().find(|claimed| claimed.hold.id == sending).unwrap();
    begin(store, &claimed).await;
    for held in claim(other, at(400)).await {
        store.unclaim(held.hold).await.unwrap();
    }
    other.recover(at(400), false).await.unwrap();
    assert_eq!(store.expire(at(50), 9).await.unwrap(), []);
    let mut ended = store.expire(at(61), 9).await.unwrap();
    ended.sort_unstable_by_key(|(id, ..)| *id);
    let expired = |id| (id, "desk".to_owned(), State::Expired);
    assert_eq!(ended, [first, behind, planned].map(expired));
    assert_eq!(other.expire(at(61), 9).await.unwrap(), []);
    assert_eq!(store.status(later).await.unwrap().unwrap().state, State::Queued);
    assert_ne!(store.status(sending).await.unwrap().unwrap().state, State::Expired);
}

/// A message, as the order of conversations is meant.
#[derive(Clone, Debug)]
pub(super) struct Modelled {
    id: Id,
    line: &'static str,
    person: u32,
    class: u8,
    due: Timestamp,
    stands: Stands,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stands {
    Planned,
    Waiting,
    OnItsWay(Hold),
    Unknown,
    Parked,
    Ended,
}

/// The messages that may be claimed: of each conversation the first of its most urgent class, unless one is on its way. What is
/// planned holds nobody up; what waits for another try, or has an unknown outcome, holds up its class and those below.
pub(super) fn heads(all: &mut [Modelled], now: Timestamp) -> Vec<Id> {
    for planned in all.iter_mut().filter(|one| one.stands == Stands::Planned && one.due <= now) {
        planned.stands = Stands::Waiting;
    }
    let in_order = |one: &&Modelled| !matches!(one.stands, Stands::Planned | Stands::Parked | Stands::Ended);
    let mut heads = Vec::new();
    for line in ["desk", "leader"] {
        for person in 0..4 {
            let of = || all.iter().filter(in_order).filter(|one| one.line == line && one.person == person);
            let first = of().min_by_key(|one| (one.class, one.id));
            let busy = of().any(|one| matches!(one.stands, Stands::OnItsWay(_)));
            heads
                .extend(first.filter(|one| !busy && one.stands == Stands::Waiting && one.due <= now).map(|one| one.id));
        }
    }
    heads.sort_unstable();
    heads
}

/// Returns the randomness of a model test; `CIVIC_SEED=n` replays a run.
pub(super) fn seeded() -> SeededRandom {
    let seed = std::env::var("CIVIC_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_130);
    println!("CIVIC_SEED={seed}");
    SeededRandom::new(seed)
}

pub(super) async fn heads_match_the_model(store: &dyn Engine, other: &dyn Engine) {
    let random = seeded();
    let below = |n: u64| random.next_u64() % n;
    let (mut all, mut now) = (Vec::<Modelled>::new(), at(1_000));
    for step in 0..250 {
        match below(10) {
            0..4 => {
                let (line, person) = (["desk", "leader"][below(2) as usize], below(4) as u32);
                let (class, wait) = (below(4) as u8, [0, 0, 0, 40][below(4) as usize]);
                let due = now.plus(Duration::from_millis(wait));
                let new = New { line: line.to_owned(), priority: class, due, now, ..new(&format!("{step}"), person) };
                let id = put(if below(2) == 0 { store } else { other }, new).await;
                let stands = if wait > 0 { Stands::Planned } else { Stands::Waiting };
                all.push(Modelled { id, line, person, class, due, stands });
            }
            4 => now = now.plus(Duration::from_millis(below(30))),
            5 => {
                // A person, or news of a gateway, settles one with an unknown outcome.
                let Some(one) = all.iter_mut().find(|one| one.stands == Stands::Unknown) else { continue };
                let (state, stands) =
                    [(State::Queued, Stands::Waiting), (State::Accepted, Stands::Ended)][below(2) as usize];
                let settle = Settle { state, due: Some(now), reason: None, from: &[State::Unknown], now };
                assert!(store.settle(one.id, settle).await.unwrap().is_some());
                (one.stands, one.due) = (stands, now);
            }
            6 => {
                let n = below(all.len() as u64 + 1) as usize;
                let Some(one) = all.get_mut(n) else { continue };
                let (state, from): (_, &[State]) = match one.stands {
                    Stands::Planned | Stands::Waiting => (State::Cancelled, &[State::Queued, State::Deferred]),
                    Stands::Parked => (State::Queued, &[State::Parked]),
                    _ => continue,
                };
                let settle = Settle { state, due: Some(now), reason: None, from, now };
                assert!(store.settle(one.id, settle).await.unwrap().is_some(), "{one:?}");
                one.stands = if one.stands == Stands::Parked { Stands::Waiting } else { Stands::Ended };
                one.due = now;
            }
            7 => {
                let Some(one) = all.iter_mut().find(|one| matches!(one.stands, Stands::OnItsWay(_))) else { continue };
                let Stands::OnItsWay(hold) = one.stands else { continue };
                let later = now.plus(Duration::from_millis(20));
                let (state, due, stands) = [
                    (State::Accepted, None, Stands::Ended),
                    (State::Deferred, Some(later), Stands::Waiting),
                    (State::Queued, Some(now), Stands::Waiting),
                    (State::Unknown, Some(later), Stands::Unknown),
                    (State::Parked, None, Stands::Parked),
                    (State::Rejected, None, Stands::Ended),
                ][below(6) as usize];
                assert!(store.finish(hold, End { state, due, ..end("") }).await.unwrap());
                (one.stands, one.due) = (stands, due.unwrap_or(now));
            }
            _ => {
                let expected = heads(&mut all, now);
                let room = ["desk", "leader"].map(|line| (line.to_owned(), 99)).into();
                let rooms = Rooms { lines: room, ..Rooms::default() };
                let lease = Duration::from_secs(3600);
                let claimed = store.claim(now, lease, rooms).await.unwrap().claimed;
                let mut ids: Vec<_> = claimed.iter().map(|claimed| claimed.hold.id).collect();
                ids.sort_unstable();
                assert_eq!(ids, expected, "step {step} at {now:?}: {all:#?}");
                for claimed in claimed {
                    let one = all.iter_mut().find(|one| one.id == claimed.hold.id).unwrap();
                    let later = now.plus(Duration::from_millis(25));
                    match below(5) {
                        0 => store.unclaim(claimed.hold).await.unwrap(),
                        1 => {
                            assert!(store.put_off(claimed.hold, off(later)).await.unwrap());
                            one.due = later;
                        }
                        2 => {
                            let planned = PutOff { planned: true, ..off(later) };
                            assert!(store.put_off(claimed.hold, planned).await.unwrap());
                            (one.stands, one.due) = (Stands::Planned, later);
                        }
                        _ => {
                            assert!(store.begin(claimed.hold, attempt(now)).await.unwrap());
                            one.stands = Stands::OnItsWay(claimed.hold);
                        }
                    }
                }
            }
        }
    }
    let began = all.iter().filter(|one| one.stands == Stands::Ended).count();
    assert!(all.len() > 50 && began > 5, "hardly anything happened");
}

pub(super) async fn retried_message_holds_back_later_ones(store: &dyn Engine, _: &dyn Engine) {
    let id = put(store, new("one", 1)).await;
    put(store, new("two", 1)).await;
    let claimed = claim(store, at(1)).await;
    begin(store, &claimed[0]).await;
    let again = End { state: State::Deferred, due: Some(at(50)), ..end("not_sent") };
    assert!(store.finish(claimed[0].hold, again).await.unwrap());
    assert_eq!(keys(store, at(49), 9).await, [""; 0]);
    let claimed = claim(store, at(50)).await;
    assert_eq!(claimed.len(), 1);
    assert_eq!((claimed[0].hold.id, claimed[0].hold.fence), (id, 2));
    let attempt = Attempt::new("mock", "desk", at(2));
    assert_eq!((&*claimed[0].attempts, claimed[0].queued), (&[attempt][..], at(0)));
}

pub(super) async fn attempt_of_suspended_account_is_marked(store: &dyn Engine, _: &dyn Engine) {
    put(store, new("one", 1)).await;
    let claimed = claim(store, at(1)).await;
    begin(store, &claimed[0]).await;
    let suspended = End { state: State::Rejected, reason: Some("locked".to_owned()), ..end("rejected") };
    assert!(store.finish(claimed[0].hold, suspended.suspended(Duration::from_millis(47))).await.unwrap());
    let claimed = claim(store, at(50)).await;
    let attempt = Attempt { suspended: true, passing: true, ..attempt(at(2)) };
    assert_eq!(claimed[0].attempts, [attempt]);
    let status = store.status(claimed[0].hold.id).await.unwrap().unwrap();
    assert_eq!(status.reason.as_deref(), Some("the account is suspended: locked"));
}
