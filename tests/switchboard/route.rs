//! Routes with several channels: what is stored and answered when some of them refuse a webhook or fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use civic_messaging::switchboard::{Line, Store, Switchboard};
use civic_messaging::webhook::{Received, Request};
use civic_messaging::{Accepted, Channel, DeliveryState, Error, ErrorKind, Info, Message, Mock, Result, async_trait};

use super::desk::memory;

/// A channel whose `receive` can fail.
#[derive(Clone, Debug)]
struct Faulty {
    mock: Mock,
    error: fn() -> Error,
    is_mended: Arc<AtomicBool>,
}

#[async_trait]
impl Channel for Faulty {
    fn info(&self) -> &Info {
        self.mock.info()
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        self.mock.send(message).await
    }

    async fn receive(&self, request: &Request) -> Result<Received> {
        match self.is_mended.load(Ordering::Relaxed) {
            true => self.mock.receive(request).await,
            false => Err((self.error)()),
        }
    }
}

fn faulty(account: &str, error: fn() -> Error) -> Faulty {
    Faulty { mock: Mock::whatsapp().account(account), error, is_mended: Arc::default() }
}

fn unavailable() -> Error {
    Error::new(ErrorKind::Unavailable, "no connection could be made")
}

fn refused(status: u16) -> Error {
    Error::new(ErrorKind::Unauthenticated, "not mine").with_webhook_status(http::StatusCode::from_u16(status).unwrap())
}

fn route(store: Store, line: Line) -> Switchboard {
    let id = line.id.clone();
    Switchboard::builder(store).line(line).route("all", [id]).build().unwrap()
}

/// Acknowledges all waiting events and returns their number.
async fn drain(board: &Switchboard) -> usize {
    let mut events = 0;
    while let Some(event) = board.all().try_next().await.unwrap() {
        event.ack().await.unwrap();
        events += 1;
    }
    events
}

#[tokio::test]
async fn webhook_is_stored_and_answered_503_when_a_channel_fails() {
    let errors: [(fn() -> Error, u16); 9] = [
        (unavailable, 503),
        (|| Error::unsupported("the scheme needs a key from elsewhere"), 503),
        (|| Error::config("webhook_secrets", "must be set to receive webhooks"), 503),
        (|| Error::new(ErrorKind::Unexpected, "the key could not be read"), 503),
        (|| Error::new(ErrorKind::TooLarge, "the webhook's body is over 1 KiB"), 503),
        (|| unavailable().with_webhook_status(http::StatusCode::OK), 503),
        (|| refused(503), 503),
        (|| refused(401), 200),
        (|| refused(403), 200),
    ];
    for (error, status) in errors {
        for first in [true, false] {
            let mock = Mock::sms();
            let (mut line, faulty, other) = (Line::new("desk"), faulty("1", error), faulty("2", || refused(403)));
            if first {
                line = line.channel(mock.clone()).channel(faulty).channel(other);
            } else {
                line = line.channel(other).channel(faulty).channel(mock.clone());
            }
            let board = route(memory().await, line);
            let webhook = mock.arrives("07700 900123", "When is my bin day?");
            assert_eq!(board.receive("all", webhook).await.status, status, "{:?}", error());
            assert_eq!(drain(&board).await, 1, "{:?}", error());
        }
    }
}

#[tokio::test]
async fn webhook_sent_again_after_503_is_stored_once() {
    let (mock, faulty) = (Mock::sms(), faulty("1", unavailable));
    let board = route(memory().await, Line::new("desk").channel(mock.clone()).channel(faulty.clone()));
    let id = "mock-sms-out-0001".into();
    let webhooks = [
        mock.arrives("07700 900123", "When is my bin day?"),
        mock.arrives("07700 900123", "STOP"),
        mock.reports(&id, DeliveryState::Delivered),
    ];
    let mut stored = 0;
    for webhook in &webhooks {
        assert_eq!(board.receive("all", webhook.clone()).await.status, 503);
        stored += drain(&board).await;
        assert_eq!(board.receive("all", webhook.clone()).await.status, 503);
    }
    // One event is an opt-out beside its message.
    assert_eq!((stored, drain(&board).await), (4, 0));
    faulty.is_mended.store(true, Ordering::Relaxed);
    for webhook in webhooks {
        assert_eq!(board.receive("all", webhook).await.status, 200);
    }
    assert_eq!(drain(&board).await, 0);
}

#[tokio::test]
async fn channel_failure_outranks_refusal_in_the_response() {
    let answer = async |errors: &[fn() -> Error]| {
        let accounts = ["1", "2", "3"].into_iter().zip(errors);
        let line = accounts.fold(Line::new("desk"), |line, (account, error)| line.channel(faulty(account, *error)));
        route(memory().await, line).receive("all", Mock::sms().arrives("07700 900123", "Hello")).await.status.as_u16()
    };
    let too_large = || Error::new(ErrorKind::TooLarge, "the webhook's body is over 4 MiB");
    let missing: fn() -> Error = || refused(401);
    let wrong: fn() -> Error = || refused(403);
    for (mut errors, status) in [
        ([missing, missing, missing], 401),
        ([missing, wrong, missing], 403),
        ([missing, wrong, unavailable], 503),
        ([too_large, too_large, too_large], 413),
        ([too_large, wrong, unavailable], 503),
    ] {
        for _ in 0..3 {
            errors.rotate_left(1);
            assert_eq!(answer(&errors).await, status);
        }
    }
}

#[tokio::test]
async fn route_without_a_verifying_channel_is_not_built() {
    let deaf = |account: &str| Mock::sms().account(account).capability(|can| can.receive = false);
    let build = async |hears: bool| {
        let second = if hears { Mock::sms() } else { deaf("2") };
        let builder = Switchboard::builder(memory().await);
        let (line, whatsapp) = (Line::new("a").channel(deaf("1")), Mock::whatsapp().webhook_secrets([]));
        let builder = builder.line(line.channel(whatsapp)).line(Line::new("b").channel(second));
        builder.route("sms", ["a", "b"]).build()
    };
    assert!(build(true).await.is_ok());
    let error = build(false).await.unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("routes.sms")));
    assert!(error.to_string().contains("has no channel that can verify a webhook: set a webhook secret"), "{error}");
}
