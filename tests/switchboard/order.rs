//! Ten thousand events, each received up to five times, in any order and across restarts: the result is that of
//! receiving each once, in order.
//!
//! `CIVIC_SEED` sets the seed.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use civic_messaging::clock::{Clock, SystemClock, VirtualClock};
use civic_messaging::event::{InboundContent, OptOut, OptOutScope};
use civic_messaging::lookup::{LookupOutcome, LookupQuery};
use civic_messaging::switchboard::{Id, InboxEventKind, Line, State, Status, Store, Switchboard};
use civic_messaging::{Channel, DeliveryState, Event, Inbound, Message, Mock};
use futures_util::future::join_all;

use super::{Database, Random, person, seed, stop, virtual_clock};

const MESSAGES: u32 = 1_000;
const STATES: [DeliveryState; 6] = [
    DeliveryState::Accepted,
    DeliveryState::Sending,
    DeliveryState::Sent,
    DeliveryState::Failed,
    DeliveryState::Delivered,
    DeliveryState::Read,
];
const INBOUNDS: usize = 3_500;
const OPT_OUTS: usize = 500;

/// The number of concurrent readers and writers.
const AT_ONCE: usize = 64;

async fn open(database: &Database, mock: &Mock, clock: &VirtualClock) -> Switchboard {
    let store = Store::open(&database.url()).await.unwrap();
    let line = Line::new("desk").channel(mock.clone());
    Switchboard::builder(store).line(line).route("sms", ["desk"]).clock(clock.clone()).build().unwrap()
}

/// Sends the messages; every tenth ends unknown.
async fn sent(database: &Database, mock: &Mock) -> Vec<(Id, Message)> {
    let store = Store::open(&database.url()).await.unwrap();
    let board = Switchboard::builder(store).line(Line::new("desk").channel(mock.clone())).build().unwrap();
    let messages = (0..MESSAGES).map(|n| Message::text(person(n), format!("Message {n}.")).key(format!("key-{n}")));
    let messages: Vec<_> = messages.collect();
    let ids = join_all(messages.iter().map(|message| board.send("desk", message.clone()))).await;
    for n in 0..MESSAGES {
        if n % 10 == 0 {
            mock.will_lose_response();
        } else {
            mock.will_accept();
        }
    }
    let (stop, stopped) = stop();
    let worker = tokio::spawn(board.clone().run(stopped));
    let waits = |state: &State| !matches!(state, State::Accepted | State::Unknown);
    while board.stats().await.unwrap().all().messages.iter().any(|(state, _)| waits(state)) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(stop);
    worker.await.unwrap().unwrap();
    ids.into_iter().map(Result::unwrap).zip(messages).collect()
}

/// All events in order.
async fn events(mock: &Mock, messages: &[(Id, Message)], random: &Random) -> Vec<Event> {
    let (mut events, now) = (Vec::new(), SystemClock::new().now());
    for (_, message) in messages {
        let LookupOutcome::Found(found) = mock.look_up(&LookupQuery::new(message.clone(), now)).await.unwrap() else {
            panic!("the mock has it")
        };
        // Some stop at this state.
        let (top, fails) = (random.below(STATES.len() as u64 + 1) as usize, random.below(2) == 0);
        for state in STATES.into_iter().take(top).filter(|state| fails || !state.is_failure()) {
            let mut delivery = found[0].clone();
            (delivery.state, delivery.status) = (state, format!("{state:?}"));
            events.push(delivery.into());
        }
    }
    let envelope = events.first().map(|event: &Event| event.envelope().clone()).unwrap();
    let wanted = MESSAGES as usize * STATES.len() + INBOUNDS + OPT_OUTS;
    let mut opt_outs = 0;
    for n in events.len()..wanted {
        let (id, from) = (format!("in-{n}"), person(u32::try_from(n).unwrap()));
        if opt_outs < OPT_OUTS {
            opt_outs += 1;
            let mut stop = OptOut::new(envelope.clone(), from, OptOutScope::All);
            stop.inbound = Some(id.as_str().into());
            events.push(stop.into());
        } else {
            let text = InboundContent::Text(format!("Inbound {n}"));
            events.push(Inbound::new(envelope.clone(), id, from, text).into());
        }
    }
    events
}

/// Reads all available events, acknowledges some, and records which.
async fn read(board: &Switchboard, acked: &mut HashMap<String, usize>, spared: u64, random: &Random) {
    let inbox = board.all();
    loop {
        let handed = join_all((0..AT_ONCE).map(|_| inbox.try_next())).await;
        let handed: Vec<_> = handed.into_iter().filter_map(Result::unwrap).collect();
        if handed.is_empty() {
            return;
        }
        let mut now = Vec::new();
        for handed in handed {
            // Unacknowledged events are redelivered.
            if random.below(100) < spared {
                continue;
            }
            let id = match &*handed {
                InboxEventKind::Received(event) => event.id(),
                InboxEventKind::Settled(settled) => format!("settled {:?}", settled.id),
                _ => panic!("it is neither"),
            };
            *acked.entry(id).or_default() += 1;
            now.push(handed.ack());
        }
        join_all(now).await.into_iter().for_each(Result::unwrap);
    }
}

async fn statuses(board: &Switchboard, messages: &[(Id, Message)]) -> Vec<(State, Option<DeliveryState>)> {
    let all = join_all(messages.iter().map(|(id, _)| board.status(*id))).await;
    let all = all.into_iter().map(|status| status.unwrap().unwrap());
    all.map(|Status { state, delivery, .. }| (state, delivery)).collect()
}

#[tokio::test]
async fn repeated_unordered_events_converge() {
    let seed = seed(20_261_128);
    let (random, mock, clock) = (Random::new(seed), Mock::sms(), virtual_clock());
    let (database, in_order) = (Database::new(), Database::new());
    let messages = sent(&database, &mock).await;
    let events = events(&mock, &messages, &random).await;
    let copy = rusqlite::Connection::open(&database.0).unwrap();
    copy.execute("VACUUM INTO ?1", [in_order.0.to_str().unwrap()]).unwrap();
    drop(copy);

    let board = open(&in_order, &mock, &clock).await;
    let before = statuses(&board, &messages).await;
    for batch in events.chunks(100) {
        assert_eq!(board.receive("sms", mock.emits_all(batch.to_vec())).await.status, 200);
    }
    let wanted = statuses(&board, &messages).await;
    drop(board);
    assert_ne!(before, wanted);

    let mut brought: Vec<_> =
        events.iter().flat_map(|event| (0..=random.below(5)).map(|_| event.clone()).collect::<Vec<_>>()).collect();
    for n in (1..brought.len()).rev() {
        brought.swap(n, usize::try_from(random.below(n as u64 + 1)).unwrap());
    }
    let (mut acked, mut restarts, mut webhooks) = (HashMap::new(), 0, 0);
    let mut board = open(&database, &mock, &clock).await;
    let mut left = &brought[..];
    while !left.is_empty() {
        let mut some = Vec::new();
        while some.len() < 16 && !left.is_empty() {
            let (batch, rest) = left.split_at(left.len().min(usize::try_from(random.below(60)).unwrap() + 1));
            some.push(board.receive("sms", mock.emits_all(batch.to_vec())));
            left = rest;
        }
        webhooks += some.len();
        assert!(join_all(some).await.iter().all(|reply| reply.status == 200));
        if random.below(4) == 0 {
            read(&board, &mut acked, 20, &random).await;
            drop(board);
            clock.advance(Duration::from_secs(30));
            board = open(&database, &mock, &clock).await;
            restarts += 1;
        }
    }
    clock.advance(Duration::from_secs(61));
    read(&board, &mut acked, 0, &random).await;
    println!(
        "{} events, brought {} times in {webhooks} webhooks with {restarts} restarts: {} had their effect, each once",
        events.len(),
        brought.len(),
        acked.len()
    );
    assert_eq!(statuses(&board, &messages).await, wanted);
    let ids: HashSet<_> = events.iter().map(Event::id).collect();
    assert_eq!((ids.len(), events.len()), (10_000, 10_000));
    assert!(ids.iter().all(|id| acked.get(id) == Some(&1)), "one had no effect, or two");
    // In addition, the final event of each message.
    let settled = acked.keys().filter(|id| id.starts_with("settled")).count();
    assert!(acked.values().all(|times| *times == 1) && acked.len() == ids.len() + settled);
    let ended = wanted.iter().filter(|(state, _)| *state == State::Accepted).count();
    assert_eq!(settled, ended);
    assert!(restarts > 3, "hardly anything happened");
}
