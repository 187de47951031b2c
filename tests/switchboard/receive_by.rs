//! Gateways that deliver by webhook, by poll, or by one of them only.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use civic_messaging::clock::VirtualClock;
use civic_messaging::poll::{Cursor, Page};
use civic_messaging::switchboard::{Line, ReceiveBy, Switchboard};
use civic_messaging::{Accepted, Channel, ErrorKind, Info, Message, Mock, Result, async_trait, webhook};

use super::desk::{Desk, memory};
use super::{stop, virtual_clock};

/// A channel that counts its polls.
#[derive(Clone, Debug)]
struct Polled {
    mock: Mock,
    polls: Arc<AtomicUsize>,
}

#[async_trait]
impl Channel for Polled {
    fn info(&self) -> &Info {
        self.mock.info()
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        self.mock.send(message).await
    }

    async fn receive(&self, request: &webhook::Request) -> Result<webhook::Received> {
        self.mock.receive(request).await
    }

    fn verifier(&self) -> Option<&webhook::Verifier> {
        self.mock.verifier()
    }

    async fn poll(&self, after: Option<&Cursor>) -> Result<Page> {
        self.polls.fetch_add(1, Ordering::SeqCst);
        self.mock.poll(after).await
    }
}

fn channel(is_exclusive: bool) -> Polled {
    let mock = Mock::sms().capability(|can| can.webhook_excludes_poll = is_exclusive);
    Polled { mock, polls: Arc::default() }
}

/// Returns `true` if a worker polls this channel of a line, with or without a route.
async fn is_polled(channel: &Polled, by: Option<ReceiveBy>, has_route: bool) -> bool {
    let clock = virtual_clock();
    let line = Line::new("desk").channel(channel.clone());
    let line = by.map_or(line.clone(), |by| line.receive_by("mock", by));
    let builder = Switchboard::builder(memory().await).clock(clock.clone()).line(line);
    let builder = if has_route { builder.route("sms", ["desk"]) } else { builder };
    let desk = Desk::run(builder);
    let before = channel.polls.load(Ordering::SeqCst);
    rounds(&clock, 3).await;
    desk.close().await;
    channel.polls.load(Ordering::SeqCst) > before
}

/// Lets a worker make so many rounds.
async fn rounds(clock: &VirtualClock, count: usize) {
    for _ in 0..count {
        while clock.sleepers() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        clock.advance(Duration::from_secs(31));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn exclusive_gateway_is_polled_only_without_a_route() {
    let exclusive = channel(true);
    assert!(!is_polled(&exclusive, None, true).await);
    assert!(is_polled(&exclusive, None, false).await);
    // Without a webhook secret it can only be polled.
    let unverified = Polled { mock: exclusive.mock.clone().capability(|can| can.receive = false), ..channel(true) };
    let line = Line::new("desk").channel(unverified.clone()).channel(Mock::whatsapp());
    let clock = virtual_clock();
    let builder = Switchboard::builder(memory().await).clock(clock.clone()).line(line).route("all", ["desk"]);
    let desk = Desk::run(builder);
    rounds(&clock, 3).await;
    desk.close().await;
    assert!(unverified.polls.load(Ordering::SeqCst) > 0);
}

#[tokio::test]
async fn setting_of_a_line_decides_what_is_polled() {
    for is_exclusive in [true, false] {
        let channel = channel(is_exclusive);
        assert!(!is_polled(&channel, Some(ReceiveBy::Webhook), false).await);
        assert!(is_polled(&channel, Some(ReceiveBy::Poll), true).await);
    }
    let both = channel(false);
    assert!(is_polled(&both, None, true).await);
    assert!(is_polled(&both, Some(ReceiveBy::Both), true).await);
}

#[tokio::test]
async fn impossible_setting_is_refused_with_its_rule() {
    let build = async |line: Line| Switchboard::builder(memory().await).line(line).build().unwrap_err();
    let send_only = Mock::sms().capability(|can| (can.receive, can.poll) = (false, false));
    for (line, rule) in [
        (Line::new("desk").channel(channel(true)).receive_by("mock", ReceiveBy::Both), "by webhook or by poll"),
        (Line::new("desk").channel(channel(true)).receive_by("moc", ReceiveBy::Poll), "has no channel of it"),
        (Line::new("desk").channel(send_only).receive_by("mock", ReceiveBy::Poll), "does not support"),
    ] {
        let error = build(line).await;
        assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("lines.desk.receive_by")));
        assert!(error.to_string().contains(rule), "{error}");
    }
}

#[tokio::test]
async fn event_received_both_ways_is_delivered_once() {
    let (channel, clock) = (channel(false), virtual_clock());
    let line = Line::new("desk").channel(channel.clone());
    let builder = Switchboard::builder(memory().await).clock(clock.clone()).line(line).route("sms", ["desk"]);
    let board = builder.build().unwrap();
    let webhook = channel.mock.arrives("07700 900123", "Hello");
    assert_eq!(board.receive("sms", webhook).await.status, 200);
    let (stop, stopped) = stop();
    let worker = tokio::spawn(board.clone().run(stopped));
    rounds(&clock, 3).await;
    drop(stop);
    worker.await.unwrap().unwrap();
    assert!(channel.polls.load(Ordering::SeqCst) > 0);
    let inbox = board.line("desk").unwrap();
    inbox.try_next().await.unwrap().unwrap().ack().await.unwrap();
    assert!(inbox.try_next().await.unwrap().is_none());
}
