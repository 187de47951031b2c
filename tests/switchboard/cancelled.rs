//! Futures dropped after every number of polls: nothing is lost, nothing is held for longer than its lease, and a
//! second call gives the same result.

use std::collections::{BTreeMap, HashMap};
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use civic_messaging::clock::{Clock, SystemClock};
use civic_messaging::switchboard::{Line, Resolution, State, Store, Switchboard};
use civic_messaging::webhook::{Received, Request};
use civic_messaging::{Accepted, Channel, Info, Message, Mock, OnUnknown, Result, async_trait};

use super::{Ahead, person, stop, virtual_clock};

/// More polls than any of these needs.
const POLLS_MAX: usize = 1000;

/// Polls a future `polls` times and drops it.
async fn cut<F: Future>(mut polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|context| {
        if polls == 0 {
            return Poll::Ready(None);
        }
        polls -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if polls == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Calls `with` with 0, 1, 2 and more polls until it completes. Returns the number of polls.
async fn each(mut with: impl AsyncFnMut(usize) -> bool) -> usize {
    for polls in 0..POLLS_MAX {
        if with(polls).await {
            return polls;
        }
    }
    panic!("it never comes to its end")
}

#[cfg(feature = "sqlite-system")]
#[tokio::test]
async fn dropped_future_is_atomic() {
    let database = super::Database::new();
    operations(&database.url()).await;
    workers(&database.url(), &[0, 3, 7]).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn dropped_future_is_atomic_in_postgres() {
    let Some(database) = super::cluster::Database::new().await else { return };
    Store::migrate(database.url()).await.unwrap();
    operations(database.url()).await;
    workers(database.url(), &[0]).await;
}

async fn board(url: &str, channel: impl Channel + 'static, clock: impl Clock) -> (Store, Switchboard) {
    let store = Store::open(url).await.unwrap();
    let line = Line::new("desk").channel(channel);
    let board = Switchboard::builder(store.clone()).line(line).route("sms", ["desk"]).clock(clock).build().unwrap();
    (store, board)
}

async fn operations(url: &str) {
    let (mock, clock) = (Mock::sms(), virtual_clock());
    let (store, board) = board(url, mock.clone(), clock.clone()).await;
    let later = clock.now().plus(Duration::from_secs(3600));
    let inbox = board.line("desk").unwrap();
    let mut counts = BTreeMap::new();
    let message = |key: String| Message::text(person(1), format!("Message {key}.")).key(key);

    let mut rows = 0;
    let polls = each(async |polls| {
        let message = message(format!("send-{polls}"));
        let first = cut(polls, board.send("desk", message.clone())).await;
        let id = board.send("desk", message).await.unwrap();
        rows += 1;
        first.is_some_and(|first| first.unwrap() == id)
    });
    counts.insert("send", polls.await);
    let polls = each(async |polls| {
        let message = message(format!("send-at-{polls}"));
        let first = cut(polls, board.send_at("desk", message.clone(), later)).await;
        let id = board.send_at("desk", message, later).await.unwrap();
        rows += 1;
        first.is_some_and(|first| first.unwrap() == id)
    });
    counts.insert("send_at", polls.await);

    let mut inbounds = 0;
    let polls = each(async |polls| {
        let webhook = mock.arrives("07700 900123", format!("Inbound {polls}"));
        let first = cut(polls, board.receive("sms", webhook.clone())).await;
        assert_eq!(board.receive("sms", webhook).await.status, 200);
        inbounds += 1;
        first.is_some_and(|first| first.status == 200)
    });
    counts.insert("receive", polls.await);
    let arrived = mock.poll(None).await.unwrap().events;
    let inbound = arrived[0].as_inbound().unwrap();
    let polls = each(async |polls| {
        let text = format!("Answer {polls}");
        let first = cut(polls, board.reply("desk", inbound, text.clone())).await;
        let id = board.reply("desk", inbound, text).await.unwrap();
        rows += 1;
        first.is_some_and(|first| first.unwrap() == id)
    });
    counts.insert("reply", polls.await);
    let count = async || board.stats().await.unwrap().all().messages.values().sum::<u64>();
    assert_eq!(count().await, rows);

    // Events that were not delivered, or possibly not acknowledged, are delivered after their lease.
    let polls = each(async |polls| {
        _ = mock.arrives("07700 900123", "another");
        let webhook = mock.arrives("07700 900123", format!("For next {polls}"));
        assert_eq!(board.receive("sms", webhook).await.status, 200);
        inbounds += 1;
        cut(polls, inbox.next()).await.is_some()
    });
    counts.insert("next", polls.await);
    let mut acked = HashMap::<String, usize>::new();
    clock.advance(Duration::from_secs(61));
    let polls = each(async |polls| {
        let webhook = mock.arrives("07700 900123", format!("For ack {polls}"));
        assert_eq!(board.receive("sms", webhook).await.status, 200);
        inbounds += 1;
        let handed = inbox.next().await.unwrap().unwrap();
        let text = handed.as_inbound().unwrap().text().unwrap().to_owned();
        let done = cut(polls, handed.ack()).await;
        // The event may have been acknowledged; then it is not redelivered.
        acked.insert(text, 0);
        done.is_some_and(|done| done.is_ok())
    });
    counts.insert("ack", polls.await);
    clock.advance(Duration::from_secs(61));
    while let Some(handed) = inbox.try_next().await.unwrap() {
        let text = handed.as_inbound().unwrap().text().unwrap().to_owned();
        *acked.entry(text).or_default() += 1;
        handed.ack().await.unwrap();
    }
    assert!(acked.len() == inbounds && acked.values().all(|times| *times < 2), "{inbounds} {acked:?}");

    let (mut cancelled, mut settled) = (Vec::new(), Vec::new());
    let polls = each(async |polls| {
        let id = board.send_at("desk", message(format!("cancel-{polls}")), later).await.unwrap();
        cancelled.push(id);
        let first = cut(polls, board.cancel(id)).await;
        let again = board.cancel(id).await.unwrap();
        first.is_some_and(|first| first.unwrap() && !again)
    });
    counts.insert("cancel", polls.await);
    let polls = each(async |polls| {
        let id = board.send("desk", message(format!("settle-{polls}"))).await.unwrap();
        store.hold_after_restore(SystemClock::new().now()).await.unwrap();
        settled.push(id);
        let first = cut(polls, board.settle(id, Resolution::NotSent)).await;
        let again = board.settle(id, Resolution::NotSent).await.unwrap();
        first.is_some_and(|first| first.unwrap() && !again)
    });
    counts.insert("settle", polls.await);
    let id = cancelled[0];
    let polls = each(async |polls| {
        let first = cut(polls, board.status(id)).await;
        assert!(board.status(id).await.unwrap().is_some());
        first.is_some()
    });
    counts.insert("status", polls.await);
    let mut ends = HashMap::new();
    while let Some(handed) = inbox.try_next().await.unwrap() {
        let of = handed.as_settled().unwrap().clone();
        assert_eq!(ends.insert(of.id, of.state), None, "it was reported twice");
        handed.ack().await.unwrap();
    }
    assert!(cancelled.iter().all(|id| ends.remove(id) == Some(State::Cancelled)));
    assert!(settled.iter().all(|id| ends.remove(id) == Some(State::Rejected)) && ends.is_empty());
    println!("polls to the end: {counts:?}");
    for id in board.stats().await.unwrap().all().messages {
        assert!(matches!(id.0, State::Cancelled | State::Rejected | State::Unknown | State::Deferred), "{id:?}");
    }
}

/// A slow channel.
#[derive(Debug)]
struct Slow(Mock);

#[async_trait]
impl Channel for Slow {
    fn info(&self) -> &Info {
        self.0.info()
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.0.send(message).await
    }

    async fn receive(&self, request: &Request) -> Result<Received> {
        self.0.receive(request).await
    }
}

/// Drops a worker after every number of polls, and runs the next one.
async fn workers(url: &str, waits: &[u64]) {
    let mock = Mock::sms();
    let (mut ahead, mut outcomes) = (Duration::ZERO, BTreeMap::<&str, usize>::new());
    for n in 0..POLLS_MAX {
        // Waits after the last poll, so that work on other threads continues without it.
        let (polls, wait) = (n / waits.len(), Duration::from_millis(waits[n % waits.len()]));
        // In PostgreSQL the claims of the previous worker must lapse first.
        let mut on = async || {
            ahead += Duration::from_secs(181);
            board(url, Slow(mock.clone()), Ahead::by(ahead)).await.1
        };
        let first = on().await;
        let message = |n: u32| {
            let key = format!("run-{polls}-{}-{n}", wait.as_millis());
            // Messages behind an unknown one wait.
            Message::text(person(10 + n), format!("Message {key}.")).key(key).on_unknown(OnUnknown::Park)
        };
        let mut ids = Vec::new();
        for n in 0..3 {
            ids.push(first.send("desk", message(n)).await.unwrap());
        }
        let mut run = Box::pin(first.clone().run(pending()));
        assert!(cut(polls, &mut run).await.is_none());
        tokio::time::sleep(wait).await;
        drop(run);
        let mut all_sent = true;
        for id in &ids {
            all_sent &= first.status(*id).await.unwrap().unwrap().state == State::Accepted;
        }

        let next = on().await;
        let (stop, stopped) = stop();
        let worker = tokio::spawn(next.clone().run(stopped));
        let settled = async {
            for id in &ids {
                while !next.status(*id).await.unwrap().unwrap().state.is_settled() {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        };
        let settled = tokio::time::timeout(Duration::from_secs(20), settled).await;
        assert!(settled.is_ok(), "{polls}: it is stuck: {:?}", next.stats().await);
        drop(stop);
        worker.await.unwrap().unwrap();
        for (n, id) in (0..).zip(ids) {
            let (words, state) = (message(n).content, next.status(id).await.unwrap().unwrap().state);
            let copies = mock.sent().iter().filter(|sent| sent.content == words).count();
            match (state, copies) {
                (State::Accepted, 1) => *outcomes.entry("accepted").or_default() += 1,
                (State::Parked, 0 | 1) => *outcomes.entry("in doubt").or_default() += 1,
                other => panic!("after {polls} polls: {other:?}"),
            }
        }
        if all_sent && wait.is_zero() {
            assert!(outcomes.len() == 2, "none was dropped in the middle of a send");
            println!("workers dropped after 0 to {polls} polls: {outcomes:?}");
            return;
        }
    }
    panic!("a worker never comes to send");
}
