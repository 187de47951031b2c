//! A running switchboard: lines, outbound and inbound messages.

use std::sync::Arc;
use std::time::Duration;

use civic_messaging::clock::{Clock, SystemClock};
use civic_messaging::switchboard::{
    Builder, Counts, Fallback, Line, Outgoing, Resolution, State, Status, Store, Switchboard,
};
use civic_messaging::{
    Channel, DeliveryState, Error, ErrorKind, Event, Message, Mock, OnUnknown, Outcome, Purpose, Timestamp,
};
use sha2::Digest as _;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Ahead, Database, person, virtual_clock};

const HOUR: Duration = Duration::from_secs(3600);

/// A switchboard whose worker runs until it is closed.
pub(super) struct Desk {
    pub(super) switchboard: Switchboard,
    stop: oneshot::Sender<()>,
    worker: JoinHandle<civic_messaging::Result<civic_messaging::switchboard::ShutdownReport>>,
}

impl Desk {
    pub(super) async fn open(store: Store, lines: impl IntoIterator<Item = Line>) -> Self {
        Self::of(Switchboard::builder(store), lines)
    }

    pub(super) fn of(builder: Builder, lines: impl IntoIterator<Item = Line>) -> Self {
        let lines: Vec<_> = lines.into_iter().collect();
        let ids: Vec<_> = lines.iter().map(|line| line.id.clone()).collect();
        let builder = lines.into_iter().fold(builder, |builder, line| builder.line(line));
        Self::run(builder.route("all", ids))
    }

    pub(super) fn run(builder: Builder) -> Self {
        let switchboard = builder.build().unwrap();
        let (stop, stopped) = oneshot::channel();
        let worker = tokio::spawn(switchboard.clone().run(async { drop(stopped.await) }));
        Self { switchboard, stop, worker }
    }

    /// Waits until a message is in one of these states.
    pub(super) async fn until(&self, id: civic_messaging::switchboard::Id, states: &[State]) -> Status {
        let waiting = async {
            loop {
                let status = self.switchboard.status(id).await.unwrap().unwrap();
                if states.contains(&status.state) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap_or_else(|_| panic!("never {states:?}"))
    }

    /// Aborts the worker at an arbitrary point.
    pub(super) async fn kill(self) {
        self.worker.abort();
        assert!(self.worker.await.unwrap_err().is_cancelled());
    }

    pub(super) async fn close(self) {
        drop(self.stop);
        assert_eq!(self.worker.await.unwrap().unwrap().unfinished, 0);
    }
}

pub(super) async fn memory() -> Store {
    Store::open("sqlite::memory:").await.unwrap()
}

pub(super) fn text(n: u32, words: &str) -> Message {
    Message::text(person(n), words)
}

#[tokio::test]
async fn reused_key_is_idempotent_or_a_conflict() {
    let mock = Mock::sms();
    let desk = Desk::open(memory().await, [Line::new("desk").channel(mock.clone())]).await;
    let id = desk.switchboard.send("desk", text(1, "Hello").key("k")).await.unwrap();
    assert_eq!(desk.switchboard.send("desk", text(1, "Hello").key("k")).await.unwrap(), id);
    let error = desk.switchboard.send("desk", text(1, "Other").key("k")).await.unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::InvalidMessage, Some("key")));
    let status = desk.until(id, &[State::Accepted]).await;
    assert_eq!((status.attempts, status.gateway.as_deref()), (1, Some("mock")));
    assert_eq!(desk.switchboard.by_key("desk", "k").await.unwrap(), Some(id));
    assert_eq!(desk.switchboard.by_key("desk", "l").await.unwrap(), None);
    let error = desk.switchboard.by_key("dsek", "k").await.unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::InvalidMessage, Some("line")));
    assert_eq!(mock.sent().len(), 1);
    desk.close().await;
}

#[tokio::test]
async fn unsendable_message_is_refused_at_intake() {
    let desk = Desk::open(memory().await, [Line::new("desk").channel(Mock::sms())]).await;
    let send = |line: &'static str, message| desk.switchboard.send(line, message);
    for (line, message, field) in [
        ("desk", text(1, ""), "text"),
        ("dsek", text(1, "Hello"), "line"),
        ("desk", Message::text(civic_messaging::Address::x("12").unwrap(), "Hello"), "to"),
    ] {
        let error = send(line, message).await.unwrap_err();
        assert_eq!((error.outcome(), error.field()), (Outcome::NotSent, Some(field)), "{error}");
    }
    assert!(desk.switchboard.stats().await.unwrap().all().messages.is_empty());
    desk.close().await;
}

#[tokio::test]
async fn temporary_failure_is_retried_and_rejection_is_final() {
    let mock = Mock::sms();
    let desk = Desk::open(memory().await, [Line::new("desk").channel(mock.clone())]).await;
    mock.will_fail(Error::new(ErrorKind::Unavailable, "no connection could be made"));
    let id = desk.switchboard.send("desk", text(1, "Hello")).await.unwrap();
    assert_eq!(desk.until(id, &[State::Accepted]).await.attempts, 2);
    mock.will_fail(Error::new(ErrorKind::OptedOut, "said STOP").with_outcome(Outcome::Rejected));
    let id = desk.switchboard.send("desk", text(2, "Hello")).await.unwrap();
    let status = desk.until(id, &[State::Rejected]).await;
    assert_eq!((status.attempts, status.reason.as_deref()), (1, Some("mock: said STOP")));
    desk.close().await;
}

#[tokio::test]
async fn throttled_messages_wait_and_keep_their_attempts() {
    let (mock, clock) = (Mock::sms(), virtual_clock());
    let builder = Switchboard::builder(memory().await).clock(clock.clone());
    let desk = Desk::of(builder, [Line::new("desk").channel(mock.clone())]);
    let busy = Error::new(ErrorKind::RateLimited, "too many").with_outcome(Outcome::Rejected);
    mock.will_fail(busy.with_retry(true, Some(Duration::from_millis(1_200))));
    let first = desk.switchboard.send("desk", text(1, "One")).await.unwrap();
    desk.until(first, &[State::Deferred]).await;
    let second = desk.switchboard.send("desk", text(2, "Two")).await.unwrap();
    let time = tokio::spawn(async move {
        loop {
            clock.advance(Duration::from_millis(50));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    for id in [first, second] {
        desk.until(id, &[State::Accepted, State::Parked]).await;
        assert_eq!(desk.switchboard.status(id).await.unwrap().unwrap().state, State::Accepted);
    }
    assert_eq!(mock.sent().len(), 3);
    time.abort();
    desk.close().await;
}

#[tokio::test]
async fn row_of_a_newer_version_blocks_no_other() {
    let (file, mock) = (Database::new(), Mock::sms());
    let board =
        |store| Switchboard::builder(store).line(Line::new("desk").channel(mock.clone())).route("all", ["desk"]);
    let first = board(Store::open(&file.url()).await.unwrap()).build().unwrap();
    let strange = first.send("desk", text(1, "Strange")).await.unwrap();
    assert_eq!(first.receive("all", mock.arrives("07700 900123", "Strange")).await.status, 200);
    drop(first);
    let db = rusqlite::Connection::open(&file.0).unwrap();
    let body: String = db.query_row("SELECT body FROM message", (), |row| row.get(0)).unwrap();
    let body = body.replace("\"version\":1", "\"version\":2");
    let digest: String = sha2::Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(db.execute("UPDATE message SET body = ?1, digest = ?2", (body, digest)).unwrap(), 1);
    db.execute("UPDATE event SET body = '{\"of the future\":{}}'", ()).unwrap();
    drop(db);

    let desk = Desk::open(Store::open(&file.url()).await.unwrap(), [Line::new("desk").channel(mock.clone())]).await;
    let id = desk.switchboard.send("desk", text(1, "Plain")).await.unwrap();
    desk.until(id, &[State::Accepted]).await;
    assert_eq!(desk.until(strange, &[State::Deferred]).await.attempts, 0);
    assert_eq!(desk.switchboard.receive("all", mock.arrives("07700 900123", "Plain")).await.status, 200);
    let inbox = desk.switchboard.line("desk").unwrap();
    let mut plain = 0;
    while let Some(event) = inbox.try_next().await.unwrap() {
        plain += usize::from(event.as_inbound().and_then(|inbound| inbound.text()) == Some("Plain"));
        event.ack().await.unwrap();
    }
    assert_eq!((plain, mock.sent().len()), (1, 1));
    drop(inbox);
    desk.close().await;
}

#[tokio::test]
async fn altered_row_is_parked_and_never_sent() {
    let (file, mock) = (Database::new(), Mock::sms());
    let line = || Line::new("desk").channel(mock.clone());
    let store = Store::open(&file.url()).await.unwrap();
    let first = Switchboard::builder(store.clone()).line(line()).build().unwrap();
    let wait = first.send("desk", text(1, "The meeting is at 7.")).await.unwrap();
    let db = rusqlite::Connection::open(&file.0).unwrap();
    assert_eq!(db.execute("UPDATE message SET body = replace(body, 'at 7', 'at 6')", ()).unwrap(), 1);
    let desk = Desk::open(store, [line()]).await;
    let plain = desk.switchboard.send("desk", text(1, "Plain")).await.unwrap();
    desk.until(plain, &[State::Accepted]).await;
    let status = desk.until(wait, &[State::Parked]).await;
    assert!(status.reason.unwrap().contains("is damaged") && status.attempts == 0);
    // Nor can a person have it sent.
    assert!(desk.switchboard.settle(wait, Resolution::Resend).await.unwrap());
    desk.until(wait, &[State::Parked]).await;
    assert_eq!(mock.sent().len(), 1);
    desk.close().await;
}

#[tokio::test]
async fn unknown_is_settled_by_a_status_or_a_person_only() {
    let mock = Mock::sms();
    let desk = Desk::open(memory().await, [Line::new("desk").channel(mock.clone())]).await;
    let board = &desk.switchboard;
    let lost = || Error::unknown("no answer in time");

    // A status with the key settles it.
    mock.will_lose_response();
    let id = board.send("desk", text(1, "One").key("one")).await.unwrap();
    desk.until(id, &[State::Unknown]).await;
    let civic_messaging::lookup::LookupOutcome::Found(found) = mock
        .look_up(&civic_messaging::lookup::LookupQuery::new(text(1, "One").key("one"), SystemClock::new().now()))
        .await
        .unwrap()
    else {
        panic!("the mock has it")
    };
    let webhook = mock.emits(found[0].clone().into());
    assert_eq!(board.receive("all", webhook).await.status, 200);
    assert_eq!(board.status(id).await.unwrap().unwrap().state, State::Accepted);

    // A person settles a parked message; it is not resent before.
    mock.will_fail(lost());
    let id = board.send("desk", text(2, "Two").on_unknown(OnUnknown::Park)).await.unwrap();
    // The reason, as docs/operations.md lists it.
    let reason = desk.until(id, &[State::Parked]).await.reason.unwrap();
    assert!(reason.ends_with("the message may have been accepted, so do not resend it blindly"), "{reason}");
    assert!(board.settle(id, Resolution::Resend).await.unwrap());
    assert_eq!(desk.until(id, &[State::Accepted]).await.attempts, 2);
    assert!(!board.settle(id, Resolution::NotSent).await.unwrap());

    // It is resent on request.
    mock.will_fail(lost());
    let id = board.send("desk", text(3, "Three").on_unknown(OnUnknown::Resend)).await.unwrap();
    assert_eq!(desk.until(id, &[State::Accepted]).await.attempts, 2);
    assert_eq!(mock.sent().len(), 5);

    // A later rejection does not settle the earlier attempt.
    mock.will_fail(lost());
    mock.will_fail(Error::new(ErrorKind::OptedOut, "said STOP").with_outcome(Outcome::Rejected));
    let id = board.send("desk", text(4, "Four").on_unknown(OnUnknown::Resend)).await.unwrap();
    let status = desk.until(id, &[State::Parked, State::Rejected]).await;
    assert_eq!((status.state, status.attempts), (State::Parked, 2));
    assert!(status.reason.unwrap().contains("outcome unknown: an earlier attempt may have been accepted"));
    desk.close().await;
}

fn named(gateway: &'static str) -> Mock {
    let can = Mock::sms().info().capability.clone();
    let info = civic_messaging::Info::new(gateway, civic_messaging::Medium::Sms, "desk");
    Mock::like(&Named(info.with_capability(|own| *own = can)))
}

#[tokio::test]
async fn suppliers_are_tried_in_turn_then_after_a_backoff() {
    let (first, second) = (named("first"), named("second"));
    let line = Line::new("desk").channel(first.clone()).channel(second.clone());
    let desk = Desk::open(memory().await, [line]).await;
    let locked = || Error::new(ErrorKind::NotFound, "has no such template").with_outcome(Outcome::Rejected);
    let down = || Error::new(ErrorKind::Unavailable, "no connection could be made");

    // The first is unavailable and the second rejects: the first is retried, the second is not.
    first.will_fail(down());
    second.will_fail(locked());
    let id = desk.switchboard.send("desk", text(1, "One")).await.unwrap();
    let status = desk.until(id, &[State::Accepted, State::Rejected, State::Parked]).await;
    assert_eq!((status.state, status.attempts, status.gateway.as_deref()), (State::Accepted, 3, Some("first")));
    assert_eq!((first.sent().len(), second.sent().len()), (2, 1));

    // Both reject: no third attempt.
    first.will_fail(locked());
    second.will_fail(locked());
    let id = desk.switchboard.send("desk", text(2, "Two")).await.unwrap();
    let status = desk.until(id, &[State::Accepted, State::Rejected, State::Parked]).await;
    assert_eq!((status.state, status.attempts), (State::Rejected, 2));

    // Both are unavailable: one attempt each, then a backoff of at least a second.
    first.will_fail(down());
    second.will_fail(down());
    let id = desk.switchboard.send("desk", text(3, "Three")).await.unwrap();
    let waits = desk.until(id, &[State::Deferred]).await;
    assert_eq!(waits.attempts, 2);
    assert_eq!(desk.until(id, &[State::Accepted]).await.attempts, 3);
    desk.close().await;
}

#[tokio::test]
async fn second_supplier_takes_what_the_first_did_not_accept() {
    let (first, second) = (named("first"), named("second"));
    let line = Line::new("desk").channel(first.clone()).channel(second.clone());
    let desk = Desk::open(memory().await, [line]).await;
    first.will_fail(Error::new(ErrorKind::Account, "out of money").with_outcome(Outcome::Rejected));
    let id = desk.switchboard.send("desk", text(1, "Hello")).await.unwrap();
    assert_eq!(desk.until(id, &[State::Accepted]).await.gateway.as_deref(), Some("second"));
    // While the first breaker is open the second gets every message; an unknown message does not move.
    second.will_fail(Error::unknown("no answer in time"));
    let id = desk.switchboard.send("desk", text(2, "Hello")).await.unwrap();
    assert_eq!(desk.until(id, &[State::Unknown]).await.attempts, 1);
    assert_eq!((first.sent().len(), second.sent().len()), (1, 2));
    desk.close().await;
}

#[tokio::test]
async fn conversation_keeps_order_and_urgent_goes_first() {
    let mock = Mock::sms();
    let store = memory().await;
    let board = Switchboard::builder(store).line(Line::new("desk").channel(mock.clone())).build().unwrap();
    // No worker runs yet.
    for n in 0..20 {
        board.send("desk", text(n % 4, &format!("{n:02}"))).await.unwrap();
    }
    board.send("desk", text(9, "Flood!").purpose(Purpose::Emergency)).await.unwrap();
    let last = board.send("desk", text(3, "99")).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = tokio::spawn(board.clone().run(async { drop(stopped.await) }));
    while board.status(last).await.unwrap().unwrap().state != State::Accepted || mock.sent().len() < 22 {
        tokio::task::yield_now().await;
    }
    drop(stop);
    worker.await.unwrap().unwrap();
    let sent: Vec<_> =
        mock.sent().into_iter().map(|m| (m.to.expose().to_owned(), m.content.as_text().unwrap().to_owned())).collect();
    assert_eq!(sent.iter().position(|(_, words)| words == "Flood!"), Some(0), "{sent:?}");
    for n in 0..4 {
        let to = person(n).expose().to_owned();
        let words: Vec<_> = sent.iter().filter(|(who, _)| *who == to).map(|(_, words)| words).collect();
        assert!(words.is_sorted(), "{words:?}");
    }
}

#[tokio::test]
async fn scheduled_message_is_sent_when_due_unless_cancelled() {
    let mock = Mock::sms();
    let clock = Ahead::default();
    let builder = Switchboard::builder(memory().await).clock(clock.clone());
    let desk = Desk::of(builder, [Line::new("desk").channel(mock.clone())]);
    let (board, now) = (&desk.switchboard, clock.now());
    let later = board.send_at("desk", text(1, "Later"), now.plus(10 * HOUR)).await.unwrap();
    let soon = board.send_at("desk", text(1, "Soon"), now.plus(Duration::from_millis(300))).await.unwrap();
    let in_an_hour = now.plus(HOUR);
    let late = board.send_at("desk", text(2, "Late").not_after(in_an_hour), in_an_hour).await.unwrap();
    desk.until(soon, &[State::Accepted]).await;
    assert!(clock.now() >= now.plus(Duration::from_millis(300)));
    clock.advance_by(2 * HOUR);
    desk.until(late, &[State::Expired]).await;
    assert_eq!(board.status(later).await.unwrap().unwrap().state, State::Deferred);
    assert!(board.cancel(later).await.unwrap());
    assert!(!board.cancel(later).await.unwrap() && !board.cancel(soon).await.unwrap());
    assert_eq!(board.status(later).await.unwrap().unwrap().state, State::Cancelled);
    mock.assert_sent(person(1).expose(), "Soon");
    desk.close().await;
}

#[tokio::test]
async fn message_due_after_its_expiry_is_refused() {
    let clock = Ahead::default();
    let builder = Switchboard::builder(memory().await).clock(clock.clone());
    let board = builder.line(Line::new("desk").channel(Mock::sms())).build().unwrap();
    let (now, until) = (clock.now(), |at| text(1, "Hello").key("k").not_after(at));
    let before = |at: Timestamp| at.minus(Duration::from_millis(1));
    let fallback =
        |at| Outgoing::new(until(now.plus(HOUR))).fallback(Fallback::new(text(2, "Hello").not_after(at), HOUR));
    for (message, at, field, words) in [
        (until(before(now)).into(), now, "not_after", "is past"),
        (until(before(now.plus(HOUR))).into(), now.plus(HOUR), "not_after", "the scheduled time"),
        (fallback(before(now.plus(HOUR))), now, "fallback.not_after", "it would be sent"),
    ] {
        let error = board.send_at("desk", message, at).await.unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::InvalidMessage, Some(field)), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(board.stats().await.unwrap().all().messages.is_empty());
    let message = until(now.plus(HOUR));
    let id = board.send_at("desk", message.clone(), now.plus(HOUR)).await.unwrap();
    clock.advance_by(2 * HOUR);
    assert_eq!(board.send("desk", message).await.unwrap(), id);
}

#[tokio::test]
async fn repeated_webhook_is_one_event_until_acknowledged() {
    let mock = Mock::sms();
    let file = Database::new();
    let line = || Line::new("desk").channel(mock.clone());
    let desk = Desk::open(Store::open(&file.url()).await.unwrap(), [line()]).await;
    let webhook = || mock.arrives("07700 900123", "When is my bin day?");
    let first = webhook();
    let again = first.clone();
    for request in [first, again] {
        assert_eq!(desk.switchboard.receive("all", request).await.status, 200);
    }
    let inbox = desk.switchboard.line("desk").unwrap();
    assert_eq!(format!("{inbox:?}"), r#"LineInbox { line: Some("desk"), .. }"#);
    let handed = inbox.next().await.unwrap().unwrap();
    assert_eq!(handed.as_inbound().unwrap().text(), Some("When is my bin day?"));
    assert_eq!(handed.line().map(|line| &*line.id), Some("desk"));
    let shown = format!("{handed:?}");
    assert!(shown.starts_with("InboxEvent { id: 1, line: Some(\"desk\"), kind: Received("), "{shown}");
    assert!(!shown.contains("Switchboard") && !shown.contains("bin day") && !shown.contains("900123"), "{shown}");
    assert!(inbox.try_next().await.unwrap().is_none());
    // Unacknowledged: it stays leased across a restart, and is redelivered later.
    handed.ack().await.unwrap();
    desk.close().await;
    let desk = Desk::open(Store::open(&file.url()).await.unwrap(), [line()]).await;
    assert!(desk.switchboard.all().try_next().await.unwrap().is_none());
    desk.close().await;
}

#[tokio::test]
async fn event_wakes_one_waiting_reader() {
    // The clock stands still, so that readers check only when woken.
    let (mock, clock) = (Mock::sms(), virtual_clock());
    let line = Line::new("desk").channel(mock.clone());
    let board = Switchboard::builder(memory().await).line(line).route("all", ["desk"]).clock(clock).build().unwrap();
    let mut readers = tokio::task::JoinSet::new();
    for n in 0..20 {
        let inbox = if n % 2 == 0 { board.line("desk").unwrap() } else { board.all() };
        readers.spawn(async move { inbox.next().await.unwrap().unwrap().ack().await.unwrap() });
    }
    // Both readers have found nothing and wait.
    for _ in 0..20 {
        tokio::task::yield_now().await;
        assert!(board.stats().await.unwrap().all() == Counts::default());
    }
    for n in 0..20 {
        assert_eq!(board.receive("all", mock.arrives("07700 900123", n.to_string())).await.status, 200);
    }
    tokio::time::timeout(Duration::from_secs(20), readers.join_all()).await.expect("each is woken");
    assert!(board.all().try_next().await.unwrap().is_none());
}

#[tokio::test]
async fn deliveries_in_any_order_never_go_back() {
    let mock = Mock::sms();
    let desk = Desk::open(memory().await, [Line::new("desk").channel(mock.clone())]).await;
    let id = desk.switchboard.send("desk", text(1, "Hello")).await.unwrap();
    let status = desk.until(id, &[State::Accepted]).await;
    let gateway_id = status.gateway_id.unwrap();
    for state in [DeliveryState::Delivered, DeliveryState::Sent, DeliveryState::Accepted] {
        assert_eq!(desk.switchboard.receive("all", mock.reports(&gateway_id, state)).await.status, 200);
    }
    assert_eq!(desk.switchboard.status(id).await.unwrap().unwrap().delivery, Some(DeliveryState::Delivered));
    // Each yields one event, beside the event of the settlement.
    let inbox = desk.switchboard.line("desk").unwrap();
    let (mut deliveries, mut settled) = (0, 0);
    while let Some(event) = inbox.try_next().await.unwrap() {
        deliveries += usize::from(matches!(event.as_event(), Some(Event::Delivery(_))));
        settled += usize::from(event.as_settled().is_some_and(|settled| settled.id == id));
        event.ack().await.unwrap();
    }
    assert_eq!((deliveries, settled), (3, 1));
    desk.close().await;
}

#[tokio::test]
async fn forged_webhook_and_unknown_route_store_nothing() {
    let mock = Mock::sms();
    let desk = Desk::open(memory().await, [Line::new("desk").channel(mock.clone())]).await;
    let mut request = http::Request::new(bytes::Bytes::from_static(b"[]"));
    request.headers_mut().insert("x-mock-signature", "sha256=00".parse().unwrap());
    let forged = civic_messaging::webhook::Request::new(request);
    assert_eq!(desk.switchboard.receive("all", forged).await.status, 403);
    assert_eq!(desk.switchboard.receive("none", mock.arrives("07700 900123", "Hello")).await.status, 404);
    assert!(desk.switchboard.all().try_next().await.unwrap().is_none());
    desk.close().await;
}

#[tokio::test]
async fn panicking_adapter_leaves_one_message_unknown() {
    let panics = Panics(Mock::sms().info().clone());
    let mock = Mock::whatsapp();
    let desk = Desk::open(memory().await, [Line::new("desk").channel(panics).channel(mock.clone())]).await;
    let id = desk.switchboard.send("desk", text(1, "Hello")).await.unwrap();
    assert_eq!(desk.until(id, &[State::Unknown]).await.attempts, 1);
    let to = civic_messaging::Address::whatsapp("07700 900123").unwrap();
    let id = desk.switchboard.send("desk", Message::text(to, "Hello")).await.unwrap();
    desk.until(id, &[State::Accepted]).await;
    desk.close().await;
}

#[tokio::test]
async fn inconsistent_configuration_is_refused_by_the_builder() {
    let build = |lines: Vec<Line>, routes: Vec<(&'static str, &'static str)>| async move {
        let builder = lines.into_iter().fold(Switchboard::builder(memory().await), |builder, line| builder.line(line));
        let builder =
            routes.into_iter().fold(builder, |builder, (name, of)| builder.route(name, of.split_whitespace()));
        builder.build().unwrap_err()
    };
    use civic_messaging::layer::{Failover, Layer, Retry};
    let failover = Failover::new([Arc::new(Mock::sms()) as Arc<dyn Channel>]).unwrap();
    let line = |id: &str| Line::new(id).channel(Mock::sms());
    for (lines, routes, words) in [
        (vec![Line::new("desk")], vec![], "lines.desk.channels: is empty"),
        (vec![line("Desk 1")], vec![], "small letters"),
        (vec![line("desk"), line("desk")], vec![], "is a duplicate"),
        (
            vec![Line::new("desk").channel(Retry::new().layer(Mock::sms()))],
            vec![],
            "the layer retry: give the bare one",
        ),
        (
            vec![Line::new("desk").channel(failover)],
            vec![],
            "the layer failover: give the bare one, and each of several by its own .channel(…)",
        ),
        (vec![line("desk").controller("")], vec![], "lines.desk.controller: is blank"),
        (vec![line("desk").controller(" ")], vec![], "lines.desk.controller: is blank"),
        (vec![line("desk").channel(Mock::sms())], vec![], "an account of mock for sms twice"),
        (
            vec![line("a"), line("b")],
            vec![],
            "lines.b.channels[0]: has an account of mock for sms that the line a has too",
        ),
        (vec![], vec![], "lines: is missing"),
        (vec![line("desk")], vec![("meta", "dsek")], "names the unknown line dsek"),
        (vec![line("desk")], vec![("meta", "desk"), ("meta", "desk")], "is a duplicate"),
        (vec![line("desk")], vec![("meta", "")], "routes.meta: has no lines"),
        (vec![line("desk")], vec![(" ", "desk")], "needs a name"),
    ] {
        let error = build(lines, routes).await;
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(words), "{error}");
    }
    let short = Switchboard::builder(memory().await).line(line("desk")).lease(Duration::from_millis(99)).build();
    assert_eq!(short.unwrap_err().field(), Some("lease"));
    for url in [
        "desk.db",
        "mysql:desk",
        "sqlite:/nowhere/at/all/desk.db",
        "sqlite:",
        "sqlite: ",
        "sqlite:memory:",
        "sqlite::memory",
        "sqlite://desk.db",
        "sqlite:desk.db?mode=rwc",
    ] {
        assert_eq!(Store::open(url).await.unwrap_err().kind(), ErrorKind::Config, "{url}");
    }
    let noise = Database::new();
    std::fs::write(&noise.0, "this is no database at all, but a text of some length".repeat(40)).unwrap();
    assert_eq!(Store::open(&noise.url()).await.unwrap_err().field(), Some("store"));
}

#[tokio::test]
async fn second_worker_on_one_file_is_refused() {
    let (file, mock) = (Database::new(), Mock::sms());
    let line = || Line::new("desk").channel(mock.clone());
    let desk = Desk::open(Store::open(&file.url()).await.unwrap(), [line()]).await;
    let id = desk.switchboard.send("desk", text(1, "One")).await.unwrap();
    desk.until(id, &[State::Accepted]).await;
    let other = Switchboard::builder(Store::open(&file.url()).await.unwrap()).line(line()).build().unwrap();
    let error = other.clone().run(std::future::ready(())).await.unwrap_err();
    assert!(error.to_string().contains("another worker is running"), "{error}");
    let id = other.send("desk", text(2, "Two")).await.unwrap();
    desk.until(id, &[State::Accepted]).await;
    // Nor can a restore be declared while a worker runs, or for a time before the backup.
    let (store, now) = (Store::open(&file.url()).await.unwrap(), SystemClock::new().now());
    let error = store.hold_after_restore(now).await.unwrap_err();
    assert!(error.to_string().contains("another worker is running"), "{error}");
    let error = store.hold_after_restore(now.plus(HOUR)).await.unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::InvalidMessage, Some("at")));
    desk.close().await;
    assert_eq!(store.hold_after_restore(now).await.unwrap(), 0);
}

#[tokio::test]
async fn messages_of_a_removed_line_are_reported() {
    let (file, mock) = (Database::new(), Mock::sms());
    let board = async |line: &str| {
        let store = Store::open(&file.url()).await.unwrap();
        Switchboard::builder(store).line(Line::new(line).channel(mock.clone())).build().unwrap()
    };
    let id = board("ward").await.send("ward", text(1, "Hello").key("k")).await.unwrap();
    let desk = board("desk").await;
    let found = desk.messages("ward", State::Queued, None, 10).await.unwrap();
    assert_eq!(found.iter().map(|status| status.id).collect::<Vec<_>>(), [id]);
    assert_eq!(desk.by_key("ward", "k").await.unwrap(), Some(id));
    assert_eq!(desk.conversation("ward", &person(1), None, 10).await.unwrap().len(), 1);
    let error = desk.messages("wrad", State::Queued, None, 10).await.unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::InvalidMessage, Some("line")));
    // While deferred, it has a reason.
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = tokio::spawn(desk.clone().run(async { drop(stopped.await) }));
    while desk.status(id).await.unwrap().unwrap().state != State::Deferred {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let status = desk.status(id).await.unwrap().unwrap();
    assert_eq!(status.reason.as_deref(), Some("unknown line"));
    drop(stop);
    worker.await.unwrap().unwrap();
}

#[tokio::test]
async fn reply_uses_the_line_of_its_message() {
    let (leader, enquiries) = (Mock::sms().account("leader"), Mock::sms().account("enquiries"));
    let lines = [Line::new("leader").channel(leader.clone()), Line::new("enquiries").channel(enquiries)];
    let desk = Desk::open(memory().await, lines).await;
    desk.switchboard.receive("all", leader.arrives("07700 900123", "When is your surgery?")).await;
    let event = desk.switchboard.line("leader").unwrap().next().await.unwrap().unwrap();
    let error = desk.switchboard.reply("enquiries", event.answerable().unwrap(), "On Friday.").await.unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::InvalidMessage, Some("inbound")));
    desk.switchboard.reply("leader", event.answerable().unwrap(), "On Friday.").await.unwrap();
    event.ack().await.unwrap();
    desk.close().await;
}

#[derive(Debug)]
struct Named(civic_messaging::Info);

#[derive(Debug)]
struct Panics(civic_messaging::Info);

#[civic_messaging::async_trait]
impl Channel for Named {
    fn info(&self) -> &civic_messaging::Info {
        &self.0
    }

    async fn send(&self, _: &Message) -> civic_messaging::Result<civic_messaging::Accepted> {
        Err(Error::unsupported("it is only a name"))
    }

    async fn receive(
        &self,
        _: &civic_messaging::webhook::Request,
    ) -> civic_messaging::Result<civic_messaging::webhook::Received> {
        Err(Error::unsupported("it is only a name"))
    }
}

#[civic_messaging::async_trait]
impl Channel for Panics {
    fn info(&self) -> &civic_messaging::Info {
        &self.0
    }

    async fn send(&self, _: &Message) -> civic_messaging::Result<civic_messaging::Accepted> {
        panic!("a fault in an adapter")
    }

    async fn receive(
        &self,
        _: &civic_messaging::webhook::Request,
    ) -> civic_messaging::Result<civic_messaging::webhook::Received> {
        Err(Error::unsupported("it only panics"))
    }
}
