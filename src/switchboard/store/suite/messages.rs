//! Messages by filter, bulk, and a campaign's figures.

use std::collections::BTreeSet;

use super::super::super::messages::{MessageFilter, WAITING};
use super::*;

/// A message as a list without an index finds it.
struct Known {
    id: Id,
    line: &'static str,
    tag: Option<&'static str>,
    person: u32,
    queued: Timestamp,
    state: State,
}

const LINES: [&str; 2] = ["desk", "leader"];
const TAGS: [Option<&str>; 3] = [None, Some("bins"), Some("tax")];

/// Persons 1 and 2 are one.
fn is_person(message: u32, filter: u32) -> bool {
    message == filter || (message, filter) == (1, 2) || (message, filter) == (2, 1)
}

fn second(n: usize) -> Timestamp {
    at(0).plus(Duration::from_secs(n as u64))
}

/// Pages of random filters against a scan of all messages, and the cancellation of each filter.
pub(super) async fn messages_match_their_filter(store: &dyn Engine, other: &dyn Engine) {
    let random = seeded();
    let below = |n: usize| usize::try_from(random.next_u64() % n as u64).unwrap();
    let [first, second_address] = [1, 2].map(|n| new("", n).message.to);
    for (moment, line) in (1..).zip(LINES) {
        let linked = Incoming { line: Some(line.to_owned()), ..changed(&first, &second_address, moment) };
        store.store_events(vec![linked], None, at(2)).await.unwrap();
    }
    let states: Vec<_> =
        State::ALL.into_iter().filter(|state| !matches!(state, State::Claimed | State::Sending)).collect();
    let mut all = Vec::new();
    for n in 0..90 {
        let (line, tag, person) = (LINES[below(2)], TAGS[below(3)], u32::try_from(1 + below(4)).unwrap());
        let key = format!("k{n}");
        let mut message = new(&key, person);
        message.message.tag = tag.map(str::to_owned);
        let id = put(store, New { line: line.to_owned(), due: second(n), now: second(n), ..message }).await;
        let state = if below(3) == 0 { State::Queued } else { states[below(states.len())] };
        let due = (!state.is_settled()).then(|| second(n));
        let settle = Settle { state, due, reason: None, from: &State::ALL, now: second(n) };
        store.settle(id, settle).await.unwrap();
        all.push(Known { id, line, tag, person, queued: second(n), state });
    }
    for round in 0..120 {
        let (line, mut filter) = (LINES[below(2)], MessageFilter::new());
        filter.tag = if below(2) == 0 { TAGS[below(3)].map(str::to_owned) } else { None };
        filter.states = (0..below(4)).map(|_| State::ALL[below(State::ALL.len())]).collect();
        let person = (below(3) == 0).then(|| u32::try_from(1 + below(4)).unwrap());
        filter.person = person.map(|person| new("", person).message.to);
        let half = Duration::from_millis(500);
        filter.since = (below(3) == 0).then(|| second(below(90)).minus(half));
        filter.before = (below(3) == 0).then(|| second(below(90)).minus(half));
        let is_meant = |one: &&Known| {
            one.line == line
                && filter.tag.as_deref().is_none_or(|tag| one.tag == Some(tag))
                && (filter.states.is_empty() || filter.states.contains(&one.state))
                && person.is_none_or(|person| is_person(one.person, person))
                && filter.since.is_none_or(|since| one.queued >= since)
                && filter.before.is_none_or(|before| one.queued < before)
        };
        let meant: Vec<_> = all.iter().filter(is_meant).map(|one| one.id).collect();
        let (size, mut found, mut after) = (1 + below(9), Vec::new(), None);
        loop {
            let page = other.messages(line, &filter, after, u32::try_from(size).unwrap()).await.unwrap();
            after = page.last().map(|last| last.id);
            found.extend(page.iter().map(|status| status.id));
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, meant, "round {round}: {line} {filter:?}");
        if round % 10 == 9 {
            let waits = |one: &&Known| is_meant(one) && WAITING.contains(&one.state);
            let waiting: BTreeSet<_> = all.iter().filter(waits).map(|one| one.id).collect();
            assert_eq!(cancelled(other, line, &filter).await, waiting, "round {round}: {line} {filter:?}");
            all.iter_mut().filter(|one| waiting.contains(&one.id)).for_each(|one| one.state = State::Cancelled);
        }
    }
}

/// Cancels the messages of a filter, in parts of seven.
async fn cancelled(store: &dyn Engine, line: &str, filter: &MessageFilter) -> BTreeSet<Id> {
    let (mut cancelled, mut after) = (BTreeSet::new(), None);
    let Some(filter) = filter.waiting() else { return cancelled };
    loop {
        let part = store.cancel_many(line, &filter, after, 7, at(100_000)).await.unwrap();
        for id in part.cancelled {
            assert!(cancelled.insert(id), "it is cancelled twice");
        }
        after = part.last;
        if after.is_none() {
            return cancelled;
        }
    }
}

pub(super) async fn message_is_either_cancelled_or_sent(store: &dyn Engine, other: &dyn Engine) {
    const MESSAGES: u32 = 120;
    let tagged = |n: u32| New { message: new(&n.to_string(), n).message.tag("bins"), ..new(&n.to_string(), n) };
    let enqueued = store.enqueue_all((0..MESSAGES).map(tagged).collect()).await.unwrap();
    assert!(enqueued.iter().all(|enqueued| matches!(enqueued, Enqueued::New(_))));
    let (filter, begun) = (MessageFilter::new().tag("bins"), tokio::sync::Notify::new());
    let send = async {
        let mut sent = BTreeSet::new();
        loop {
            let claimed = claims(store, at(1), 5).await.unwrap();
            if claimed.is_empty() {
                return sent;
            }
            for claimed in claimed {
                if store.begin(claimed.hold, attempt(at(2))).await.unwrap() {
                    let id = claimed.hold.id;
                    assert!(store.finish(claimed.hold, accepted(&format!("id-{id}"))).await.unwrap());
                    assert!(sent.insert(id));
                }
                if sent.len() == 20 {
                    begun.notify_one();
                }
            }
        }
    };
    let cancel = async {
        begun.notified().await;
        cancelled(other, "desk", &filter).await
    };
    let (sent, cancelled) = tokio::join!(send, cancel);
    assert!(sent.is_disjoint(&cancelled), "{sent:?} {cancelled:?}");
    let figures = other.campaign("desk", "bins").await.unwrap();
    assert_eq!(figures.count(State::Accepted), sent.len() as u64);
    assert_eq!(figures.count(State::Cancelled), cancelled.len() as u64);
    assert_eq!(figures.total(), u64::from(MESSAGES));
    assert_eq!(sent.len() + cancelled.len(), MESSAGES as usize, "{figures:?}");
    assert!(sent.len() >= 20 && !cancelled.is_empty(), "{figures:?}");
}

pub(super) async fn batch_is_stored_once_in_its_order(store: &dyn Engine, other: &dyn Engine) {
    let opted_out = new("", 3).message.to;
    assert_eq!(stop(store, opted_out, OptOutScope::All).await, 1);
    // The persons are not in the order of the batch.
    let batch = || {
        let different = New { message: new("b", 2).message.tag("other"), ..new("b", 2) };
        vec![new("c", 9), new("b", 5), new("a", 3), new("c", 9), different, new("d", 1)]
    };
    let [Enqueued::New(c), Enqueued::New(b), refused, again, Enqueued::Other, Enqueued::New(d)] =
        &store.enqueue_all(batch()).await.unwrap()[..]
    else {
        panic!("not in its order")
    };
    assert!(matches!(refused, Enqueued::Refused { is_fallback: false, .. }), "{refused:?}");
    assert_eq!(*again, Enqueued::Same(*c));
    assert_eq!(store.status(*d).await.unwrap().unwrap().key, "d");
    let second = other.enqueue_all(batch()).await.unwrap();
    let [one, two, refused, three, Enqueued::Other, four] = &second[..] else { panic!("not in its order") };
    assert_eq!([one, two, three, four].map(|same| same == &Enqueued::Same(*c)), [true, false, true, false]);
    assert_eq!((two, four), (&Enqueued::Same(*b), &Enqueued::Same(*d)));
    assert!(matches!(refused, Enqueued::Refused { .. }));
    assert_eq!(other.messages("desk", &State::Queued.into(), None, 9).await.unwrap().len(), 3);
    assert!(store.enqueue_all(Vec::new()).await.unwrap().is_empty());
}

pub(super) async fn concurrent_batches_store_each_message_once(store: &dyn Engine, other: &dyn Engine) {
    let batch = |reversed: bool| {
        let mut all: Vec<_> = (0..100).map(|n| new(&n.to_string(), n)).collect();
        if reversed {
            all.reverse();
        }
        all
    };
    for _ in 0..3 {
        let (one, two) = tokio::join!(store.enqueue_all(batch(false)), other.enqueue_all(batch(true)));
        let (one, two) = (one.unwrap(), two.unwrap());
        for (one, two) in one.iter().zip(two.iter().rev()) {
            let id = |enqueued: &Enqueued| match enqueued {
                Enqueued::New(id) | Enqueued::Same(id) => *id,
                enqueued => panic!("{enqueued:?}"),
            };
            assert_eq!(id(one), id(two));
        }
    }
    assert_eq!(store.stats(at(1)).await.unwrap().all().count(State::Queued), 100);
}

pub(super) async fn campaign_has_counts_segments_and_cost(store: &dyn Engine, other: &dyn Engine) {
    keeps(store, &[("desk", Some(DAY))]).await;
    let tagged = |key: &str, person| New { message: new(key, person).message.tag("tax"), ..new(key, person) };
    let pence = |amount| Some(Money::parse(amount, "GBP").unwrap().into());
    let ends = [
        End { segments: Some(2), price: pence("0.0463"), ..accepted("id-1") },
        End { segments: Some(1), price: pence("0.02315"), ..accepted("id-2") },
        End { segments: Some(1), price: Some(Credits::parse("2").unwrap().into()), ..accepted("id-3") },
        End { segments: None, price: None, ..accepted("id-4") },
        End { segments: Some(9), price: pence("9"), ..end("rejected") },
    ];
    for (n, end) in (0..).zip(ends) {
        put(store, tagged(&format!("k{n}"), n)).await;
        let claimed = claim(store, at(1)).await.remove(0);
        begin(store, &claimed).await;
        assert!(store.finish(claimed.hold, end).await.unwrap());
    }
    put(store, tagged("waits", 20)).await;
    put(store, new("untagged", 21)).await;
    put(store, New { line: "leader".to_owned(), ..tagged("elsewhere", 22) }).await;
    let figures = other.campaign("desk", "tax").await.unwrap();
    assert_eq!(figures.messages, [(State::Accepted, 4), (State::Queued, 1), (State::Rejected, 1)].into());
    assert_eq!((figures.segments, figures.unpriced, figures.total()), (4, 1, 6));
    let mut cost: Vec<_> = figures.cost.iter().map(ToString::to_string).collect();
    cost.sort_unstable();
    let sum = Credits::parse("2").unwrap().to_string();
    let pounds = Money::parse("0.06945", "GBP").unwrap().to_string();
    assert_eq!(cost.iter().collect::<BTreeSet<_>>(), BTreeSet::from([&sum, &pounds]));
    // Retention keeps them.
    acknowledge(store, at(5)).await;
    assert!(purge(store, at(9).plus(DAY)).await >= 5);
    assert_eq!(other.campaign("desk", "tax").await.unwrap(), figures);
    assert_eq!(other.messages("desk", &MessageFilter::new().tag("tax"), None, 9).await.unwrap().len(), 6);
    assert_eq!(other.campaign("desk", "nothing").await.unwrap().total(), 0);
}
