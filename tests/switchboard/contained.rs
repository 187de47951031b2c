//! Faults in adapters and policies affect their own message only.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use civic_messaging::clock::Clock;
use civic_messaging::lookup::{LookupOutcome, LookupQuery};
use civic_messaging::policy::{Decision, Policy, PolicyInput};
use civic_messaging::switchboard::{Line, State, Store, Switchboard};
use civic_messaging::{Accepted, Channel, Content, Error, ErrorKind, Message, Mock, OnUnknown, Result, webhook};

use super::desk::{Desk, memory, text};
use super::{Database, stop, virtual_clock};

/// A mock that hangs or panics in `send` and `look_up` if the text says so.
#[derive(Clone, Debug)]
struct Faulty {
    mock: Mock,
    looked_up: Arc<AtomicUsize>,
}

impl Faulty {
    fn new() -> Self {
        Self { mock: Mock::sms(), looked_up: Arc::default() }
    }
}

#[civic_messaging::async_trait]
impl Channel for Faulty {
    fn info(&self) -> &civic_messaging::Info {
        self.mock.info()
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        match &message.content {
            Content::Text(text) if text == "hang" => std::future::pending().await,
            Content::Text(text) if text == "panic" => panic!("a fault in an adapter"),
            Content::Text(text) if text == "lost" => Err(Error::unknown("no answer in time")),
            _ => self.mock.send(message).await,
        }
    }

    async fn receive(&self, request: &webhook::Request) -> Result<webhook::Received> {
        self.mock.receive(request).await
    }

    async fn look_up(&self, _: &LookupQuery) -> Result<LookupOutcome> {
        self.looked_up.fetch_add(1, Ordering::SeqCst);
        std::future::pending().await
    }
}

/// A policy that hangs or panics about some messages.
#[derive(Debug, Default)]
struct House;

#[civic_messaging::async_trait]
impl Policy for House {
    async fn decide(&self, question: &PolicyInput<'_>) -> Result<Decision> {
        match question.message.tag.as_deref() {
            Some("hang") => std::future::pending().await,
            Some("panic") => panic!("a fault in a policy"),
            _ => Ok(Decision::Allow),
        }
    }
}

/// Delegates only the worker's decisions, so that intake accepts the messages.
#[derive(Debug, Default)]
struct Later(House, AtomicUsize);

#[civic_messaging::async_trait]
impl Policy for Later {
    async fn decide(&self, question: &PolicyInput<'_>) -> Result<Decision> {
        match self.1.fetch_add(1, Ordering::SeqCst) {
            0 => Ok(Decision::Allow),
            _ => self.0.decide(question).await,
        }
    }
}

async fn all_accepted(desk: &Desk, count: u32) {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(desk.switchboard.send("desk", text(100 + n, &format!("Ordinary {n}"))).await.unwrap());
    }
    for id in ids {
        desk.until(id, &[State::Accepted]).await;
    }
}

#[tokio::test]
async fn hanging_or_panicking_send_affects_no_other() {
    let (faulty, clock) = (Faulty::new(), virtual_clock());
    let builder = Switchboard::builder(memory().await).clock(clock.clone());
    let desk = Desk::of(builder, [Line::new("desk").channel(faulty.clone())]);
    let send = |n, words| desk.switchboard.send("desk", text(n, words).on_unknown(OnUnknown::Park));
    let (hangs, panics) = (send(1, "hang").await.unwrap(), send(2, "panic").await.unwrap());
    desk.until(hangs, &[State::Sending]).await;
    all_accepted(&desk, 200).await;
    let status = desk.until(panics, &[State::Parked]).await;
    assert!(status.reason.unwrap().contains("the adapter panicked"));
    // The call is abandoned before its lease of three minutes ends.
    clock.advance(Duration::from_secs(170));
    let status = desk.until(hangs, &[State::Parked]).await;
    assert!(status.reason.unwrap().contains("took longer than 162 seconds"));
    desk.close().await;
}

#[tokio::test]
async fn hanging_look_up_delays_no_other_work() {
    let (faulty, clock) = (Faulty::new(), virtual_clock());
    let builder = Switchboard::builder(memory().await).clock(clock.clone());
    let desk = Desk::of(builder, [Line::new("desk").channel(faulty.clone())]);
    let mut lost = Vec::new();
    for n in 0..3 {
        lost.push(desk.switchboard.send("desk", text(n, "lost")).await.unwrap());
    }
    for id in &lost {
        desk.until(*id, &[State::Unknown]).await;
    }
    let looked_up = async {
        while faulty.looked_up.load(Ordering::SeqCst) < 3 {
            clock.advance(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), looked_up)
        .await
        .expect("all are asked about, though none is answered");
    all_accepted(&desk, 50).await;
    desk.close().await;
}

#[tokio::test]
async fn hanging_or_panicking_policy_is_an_error_at_intake() {
    let clock = virtual_clock();
    let builder = Switchboard::builder(memory().await).clock(clock.clone()).policy(House);
    let desk = Desk::of(builder, [Line::new("desk").channel(Mock::sms())]);
    let error = desk.switchboard.send("desk", text(1, "Hello").tag("panic")).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unexpected, civic_messaging::Outcome::NotSent));
    let hangs = tokio::spawn({
        let board = desk.switchboard.clone();
        async move { board.send("desk", text(1, "Hello").tag("hang")).await }
    });
    while !hangs.is_finished() {
        clock.advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(hangs.await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    all_accepted(&desk, 50).await;
    desk.close().await;
}

#[tokio::test]
async fn message_without_a_policy_decision_is_parked() {
    let clock = virtual_clock();
    let builder = Switchboard::builder(memory().await).clock(clock.clone()).policy(Later::default());
    let desk = Desk::of(builder, [Line::new("desk").channel(Mock::sms())]);
    let id = desk.switchboard.send("desk", text(1, "Hello").tag("panic")).await.unwrap();
    let status = desk.until(id, &[State::Deferred]).await;
    assert_eq!(status.reason.as_deref(), Some("the policy failed"));
    all_accepted(&desk, 50).await;
    let time = tokio::spawn(async move {
        loop {
            clock.advance(Duration::from_secs(60));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    let status = desk.until(id, &[State::Parked, State::Accepted]).await;
    assert_eq!((status.state, status.attempts), (State::Parked, 0));
    time.abort();
    desk.close().await;
}

/// A channel with a new message rule that panics for some messages.
#[derive(Clone, Debug)]
struct Ruled(Mock, civic_messaging::Info);

#[civic_messaging::async_trait]
impl Channel for Ruled {
    fn info(&self) -> &civic_messaging::Info {
        &self.1
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        self.0.send(message).await
    }

    async fn receive(&self, request: &webhook::Request) -> Result<webhook::Received> {
        self.0.receive(request).await
    }
}

#[tokio::test]
async fn panicking_adapter_rule_delays_no_other() {
    let (store, clock, mock) = (memory().await, virtual_clock(), Mock::sms());
    let info = mock.info().clone().with_message_rule(|message| match &message.content {
        Content::Text(text) if text.starts_with("panic") => panic!("a fault in a rule"),
        _ => Ok(()),
    });
    let taking =
        Switchboard::builder(store.clone()).clock(clock.clone()).line(Line::new("desk").channel(mock.clone())).build();
    let (taking, mut ids, mut panics) = (taking.unwrap(), Vec::new(), Vec::new());
    for n in 0..200 {
        let faulty = n % 2 == 0;
        let words = if faulty { format!("panic {n}") } else { format!("Ordinary {n}") };
        let id = taking.send("desk", text(n, &words)).await.unwrap();
        if faulty { panics.push(id) } else { ids.push(id) }
    }
    let line = Line::new("desk").channel(Ruled(mock, info));
    let desk = Desk::of(Switchboard::builder(store).clock(clock), [line]);
    for id in ids {
        desk.until(id, &[State::Accepted]).await;
    }
    for id in panics {
        let status = desk.until(id, &[State::Deferred]).await;
        assert_eq!(status.reason.as_deref(), Some("the adapter panicked"));
    }
    desk.close().await;
}

#[tokio::test]
async fn hanging_policy_delays_no_other() {
    let (store, clock, mock) = (memory().await, virtual_clock(), Mock::sms());
    let line = || Line::new("desk").channel(mock.clone());
    let taking = Switchboard::builder(store.clone()).clock(clock.clone()).line(line()).build().unwrap();
    let mut ids = Vec::new();
    for n in 0..260 {
        let message = text(n, &format!("Message {n}"));
        let hangs = n % 4 == 0;
        let id = taking.send("desk", if hangs { message.tag("hang") } else { message }).await.unwrap();
        ids.extend((!hangs).then_some(id));
    }
    let desk = Desk::of(Switchboard::builder(store).clock(clock).policy(House), [line()]);
    // The clock stands still, so that no decision times out.
    for id in ids {
        desk.until(id, &[State::Accepted]).await;
    }
    desk.kill().await;
}

#[tokio::test]
async fn switchboard_can_run_again() {
    let mock = Mock::sms();
    let board =
        Switchboard::builder(memory().await).line(Line::new("desk").channel(mock.clone())).route("all", ["desk"]);
    let board = board.build().unwrap();
    for n in 0..2 {
        let (stop, stopped) = stop();
        let worker = tokio::spawn(board.clone().run(stopped));
        let next = tokio::spawn({
            let inbox = board.line("desk").unwrap();
            async move { inbox.next().await }
        });
        tokio::task::yield_now().await;
        assert_eq!(board.receive("all", mock.arrives("07700 900123", format!("Hello {n}"))).await.status, 200);
        let handed = next.await.unwrap().unwrap().expect("a worker runs");
        handed.ack().await.unwrap();
        drop(stop);
        worker.await.unwrap().unwrap();
        assert!(board.line("desk").unwrap().next().await.unwrap().is_none());
    }
}

#[tokio::test]
async fn event_with_failing_handler_is_parked() {
    let (mock, clock) = (Mock::sms(), virtual_clock());
    let builder = Switchboard::builder(memory().await).clock(clock.clone()).route("all", ["desk"]);
    let board = builder.line(Line::new("desk").channel(mock.clone())).build().unwrap();
    for (from, words) in [("07700 900123", "poison"), ("07700 900123", "after it"), ("07700 900123", "STOP")] {
        assert_eq!(board.receive("all", mock.arrives(from, words)).await.status, 200);
    }
    assert_eq!(board.receive("all", mock.arrives("07700 900456", "somebody else")).await.status, 200);
    let inbox = board.line("desk").unwrap();
    let (mut delays, mut read) = (Vec::new(), Vec::new());
    let mut last = clock.now();
    for _ in 0..10_000 {
        let Some(event) = inbox.try_next().await.unwrap() else {
            clock.advance(Duration::from_secs(1));
            continue;
        };
        let text = event.as_inbound().and_then(|inbound| inbound.text()).unwrap_or("opt-out").to_owned();
        if text == "poison" {
            delays.push(clock.now().since(last).as_secs());
            last = clock.now();
            assert_eq!(event.attempts() as usize, delays.len());
            event.nack(Duration::ZERO).await.unwrap();
        } else {
            event.ack().await.unwrap();
            read.push((text, delays.len()));
        }
    }
    assert_eq!(delays, [0, 1, 2, 4, 8, 16, 32, 64, 128, 256]);
    let read: Vec<_> = read.iter().map(|(text, after)| (text.as_str(), *after)).collect();
    assert_eq!(read, [("opt-out", 1), ("somebody else", 1), ("after it", 10), ("STOP", 10)]);
    assert_eq!(board.stats().await.unwrap().all().parked_events, 1);
    let parked = inbox.parked(None, 9).await.unwrap();
    assert_eq!((parked.len(), parked[0].attempts()), (1, 10));
    for event in parked {
        event.nack(Duration::ZERO).await.unwrap();
    }
    let again = inbox.try_next().await.unwrap().unwrap();
    assert_eq!(again.attempts(), 1);
    again.ack().await.unwrap();
    assert!(inbox.parked(None, 9).await.unwrap().is_empty());
}

#[cfg(unix)]
#[tokio::test]
async fn worker_lock_holds_for_every_path() {
    let database = Database::new();
    let store = Store::open(&database.url()).await.unwrap();
    let link = database.0.with_extension("link");
    std::os::unix::fs::symlink(&database.0, &link).unwrap();
    let other = Store::open(&format!("sqlite:{}", link.display())).await.unwrap();
    let desk = Desk::open(store, [Line::new("desk").channel(Mock::sms())]).await;
    all_accepted(&desk, 1).await;
    let board = Switchboard::builder(other).line(Line::new("desk").channel(Mock::sms())).build().unwrap();
    let error = board.run(std::future::ready(())).await.unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("store")), "{error}");
    desk.close().await;
    std::fs::remove_file(link).unwrap();
}
