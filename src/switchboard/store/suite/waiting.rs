//! The list of conversations in every store, against a model.

use std::collections::{BTreeMap, BTreeSet};

use super::super::super::conversations::*;
use super::super::super::status::priority;
use super::*;

/// What was said, by address: theirs with their times, and if they wait for an answer; ours with the times of queueing.
#[derive(Default)]
struct Model {
    theirs: Vec<(usize, i64, bool)>,
    answers: Vec<(usize, i64)>,
    /// When something last happened, by address.
    last: BTreeMap<usize, i64>,
    /// Up to when messages were read, by current address.
    read: BTreeMap<usize, i64>,
    links: BTreeMap<usize, usize>,
}

impl Model {
    fn current(&self, of: usize) -> usize {
        self.links.get(&of).copied().unwrap_or(of)
    }

    /// Returns the current address, the last time, since when it waits, and the number of unread messages.
    fn conversations(&self) -> Vec<(usize, i64, Option<i64>, u32)> {
        let persons: BTreeSet<usize> = self.theirs.iter().map(|(of, ..)| self.current(*of)).collect();
        let listed = |person: usize| {
            let of = |name: &usize| self.current(*name) == person;
            let answered = self.answers.iter().filter(|(to, _)| of(to)).map(|(_, at)| *at).max().unwrap_or(i64::MIN);
            let waiting = self.theirs.iter().filter(|(name, at, waits)| of(name) && *waits && *at > answered);
            let waiting: Vec<_> = waiting.map(|(_, at, _)| *at).collect();
            let read = self.read.get(&person).copied().unwrap_or(i64::MIN);
            let unread = waiting.iter().filter(|at| **at > read).count();
            let last = self.last.iter().filter(|(name, _)| of(name)).map(|(_, at)| *at).max().unwrap();
            (person, last, waiting.iter().min().copied(), u32::try_from(unread).unwrap())
        };
        persons.into_iter().map(listed).collect()
    }
}

fn people() -> Vec<Address> {
    (1..=6).map(|n| Phone::from_digits(&format!("4477009{n:05}")).unwrap().into()).collect()
}

/// Returns all pages of a list.
async fn listed(store: &dyn Engine, of: ConversationFilter, page: u32) -> Vec<ConversationRow> {
    let (mut all, mut after) = (Vec::<ConversationRow>::new(), None);
    loop {
        let rows = store.conversations("desk", of, after.take(), page).await.unwrap();
        let rows: Vec<_> = rows
            .into_iter()
            .map(|(row, entry)| {
                assert!(entry.is_some());
                row
            })
            .collect();
        let Some(last) = rows.last() else { return all };
        let at = if of == ConversationFilter::Waiting { last.waiting.unwrap() } else { last.last };
        after = Some(ConversationPlace { at, name: last.name.clone() });
        all.extend(rows);
    }
}

/// Sends a message of ours, which is accepted if `ok`.
async fn ours(store: &dyn Engine, to: &Address, key: &str, purpose: Purpose, queued: i64, ok: bool) {
    let message = Message::text(to.clone(), "Ours").purpose(purpose).key(key);
    let new = New { message, priority: priority(purpose), now: at(queued), due: at(queued), ..new(key, 1) };
    let id = put(store, new).await;
    let claimed = claims(store, at(queued), 9).await.unwrap();
    for claimed in claimed {
        assert_eq!(claimed.hold.id, id);
        begin_at(store, &claimed, at(queued + 1)).await;
        let end = if ok { accepted(key) } else { end("rejected") };
        assert!(store.finish(claimed.hold, End { now: at(queued + 2), ..end }).await.unwrap());
    }
}

pub(super) async fn waiting_conversations_match_the_model(store: &dyn Engine, other: &dyn Engine) {
    let random = seeded();
    let below = |n: u64| usize::try_from(random.next_u64() % n).unwrap();
    let people = people();
    let mut model = Model::default();
    let steps: i64 = std::env::var("CIVIC_STEPS").ok().and_then(|steps| steps.parse().ok()).unwrap_or(150);
    for step in 1..=steps {
        // The model has one moment for each step.
        let now = step * 10;
        let of = below(6);
        let person = &people[of];
        let key = format!("k-{step}");
        match below(12) {
            0..5 => {
                let kind = below(5);
                let mut incoming = inbound(u32::try_from(step).unwrap(), person);
                if let (0, Event::Inbound(inbound)) = (kind, &mut incoming.event) {
                    inbound.content = InboundContent::Reaction { to: "out-1".into(), emoji: None };
                }
                assert_eq!(store.store_events(vec![incoming], None, at(now)).await.unwrap(), 1);
                model.theirs.push((of, now, kind != 0));
                model.last.insert(of, now);
            }
            5 => {
                let mut incoming = inbound(u32::try_from(step).unwrap(), &people[(of + 1) % 6]);
                if let Event::Inbound(inbound) = &mut incoming.event {
                    (inbound.echo, inbound.to) = (true, Some(person.clone()));
                }
                store.store_events(vec![incoming], None, at(now)).await.unwrap();
                model.answers.push((of, now));
                model.last.insert(of, now);
            }
            6 | 7 => {
                ours(store, person, &key, Purpose::Reply, now, true).await;
                model.answers.push((of, now));
                model.last.insert(of, now + 2);
            }
            8 => match below(3) {
                0 => ours(store, person, &format!("auto-reply-{key}"), Purpose::Reply, now, true).await,
                1 => ours(store, person, &key, Purpose::Notice, now, true).await,
                _ => ours(store, person, &key, Purpose::Reply, now, false).await,
            },
            9 => {
                let expected = model.conversations().iter().any(|row| row.0 == model.current(of) && row.3 > 0);
                assert_eq!(other.mark_read("desk", person.expose()).await.unwrap(), expected);
                if expected {
                    model.read.insert(model.current(of), now);
                }
            }
            // An address moves once, and to one that has not moved.
            10 if step % 3 == 0 => {
                let to = below(6);
                if to != of && !model.links.contains_key(&of) && model.current(to) == to {
                    store.store_events(vec![changed(person, &people[to], now)], None, at(now)).await.unwrap();
                    // What was written since the oldest unread message of either is unread.
                    let rows = model.conversations();
                    let unread = |of| rows.iter().any(|row| row.0 == of && row.3 > 0);
                    let read = |of| model.read.get(&of).copied().unwrap_or(i64::MIN);
                    let merged = match (unread(of), unread(to)) {
                        (false, false) => read(of).max(read(to)),
                        (true, true) => read(of).min(read(to)),
                        (is_unread, _) => read(if is_unread { of } else { to }),
                    };
                    model.read.insert(to, merged);
                    for moved in model.links.values_mut().filter(|current| **current == of) {
                        *moved = to;
                    }
                    model.links.insert(of, to);
                }
            }
            _ => continue,
        }
        let mut expected = model.conversations();
        let shown = |rows: Vec<ConversationRow>| -> Vec<_> {
            let place = |row: &ConversationRow| people.iter().position(|person| person.expose() == row.name).unwrap();
            let time = |time: Timestamp| time.as_millis() - at(0).as_millis();
            rows.iter().map(|row| (place(row), time(row.last), row.waiting.map(time), row.unread)).collect()
        };
        expected.sort_by_key(|row| std::cmp::Reverse((row.1, row.0)));
        assert_eq!(shown(listed(other, ConversationFilter::All, 2).await), expected, "all after step {step}");
        let unread: Vec<_> = expected.iter().filter(|row| row.3 > 0).copied().collect();
        assert_eq!(shown(listed(other, ConversationFilter::Unread, 2).await), unread, "unread after step {step}");
        let mut waiting: Vec<_> = expected.iter().filter(|row| row.2.is_some()).copied().collect();
        waiting.sort_by_key(|row| (row.2, row.0));
        assert_eq!(shown(listed(other, ConversationFilter::Waiting, 2).await), waiting, "waiting after step {step}");
    }
}

pub(super) async fn late_acceptance_answers_what_was_there_before(store: &dyn Engine, _: &dyn Engine) {
    let person = &people()[0];
    let of = async || {
        let rows = store.conversations("desk", ConversationFilter::Waiting, None, 9).await.unwrap();
        rows.first().and_then(|(row, _)| row.waiting)
    };
    store.store_events(vec![inbound(1, person)], None, at(10)).await.unwrap();
    let message = Message::text(person.clone(), "Ours").purpose(Purpose::Reply).key("k-1");
    let reply = New { message, priority: 1, now: at(20), due: at(20), ..new("k-1", 1) };
    let id = put(store, reply).await;
    // A second question, before the answer to the first is sent; the outcome is unknown at first.
    store.store_events(vec![inbound(2, person)], None, at(30)).await.unwrap();
    let claimed = claims(store, at(40), 9).await.unwrap().pop().unwrap();
    begin_at(store, &claimed, at(41)).await;
    let unknown = End { state: State::Parked, now: at(42), ..end("unknown") };
    assert!(store.finish(claimed.hold, unknown).await.unwrap());
    assert_eq!(of().await, Some(at(10)));
    let from = &[State::Unknown, State::Parked];
    let sent = Settle { state: State::Accepted, due: None, reason: None, from, now: at(50) };
    store.settle(id, sent).await.unwrap();
    assert_eq!(of().await, Some(at(30)));
}
