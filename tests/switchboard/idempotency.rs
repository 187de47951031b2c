//! Gateways with an idempotency window: an unknown outcome is resent to the same account while a resend makes no second
//! message.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use civic_messaging::clock::{Clock, Sleep, VirtualClock};
use civic_messaging::switchboard::{AttemptOutcome, Id, Line, Resolution, State, Store, Switchboard};
use civic_messaging::{
    Accepted, Channel, DeliveryState, Error, ErrorKind, Info, Message, Mock, OnUnknown, Result, Timestamp, async_trait,
    webhook,
};

use super::desk::{Desk, text};
use super::{Database, virtual_clock};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const WINDOW: Duration = Duration::from_secs(12 * 3600);

/// A virtual clock that is ahead by a correctable offset.
#[derive(Clone, Debug)]
struct Shifted(VirtualClock, Arc<AtomicU64>);

impl Clock for Shifted {
    fn now(&self) -> Timestamp {
        self.0.now().plus(Duration::from_millis(self.1.load(Ordering::SeqCst)))
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        self.0.sleep(duration)
    }
}

/// A gateway whose next send is accepted without an answer, for as long as it hangs.
#[derive(Clone, Debug)]
struct Gateway {
    mock: Mock,
    hangs: Arc<AtomicBool>,
}

#[async_trait]
impl Channel for Gateway {
    fn info(&self) -> &Info {
        self.mock.info()
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        let accepted = self.mock.send(message).await;
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        accepted
    }

    async fn receive(&self, request: &webhook::Request) -> Result<webhook::Received> {
        self.mock.receive(request).await
    }
}

/// One database, and a gateway that recognises a resend for 12 hours.
struct Scene {
    url: String,
    clock: Shifted,
    gateway: Gateway,
}

impl Scene {
    fn new(url: &str) -> Self {
        let clock = Shifted(virtual_clock(), Arc::default());
        let gateway = Gateway { mock: mock("one", &clock), hangs: Arc::default() };
        Self { url: url.to_owned(), clock, gateway }
    }

    async fn desk(&self) -> Desk {
        self.desk_with(Line::new("desk").channel(self.gateway.clone())).await
    }

    async fn desk_with(&self, line: Line) -> Desk {
        let store = Store::open(&self.url).await.unwrap();
        Desk::of(Switchboard::builder(store).clock(self.clock.clone()), [line])
    }

    /// Advances time in steps until a message has this state.
    async fn until(&self, desk: &Desk, id: Id, step: Duration, state: State) {
        let reached = async {
            while self.state(desk, id).await != state {
                self.clock.0.advance(step);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(60), reached).await;
        assert!(reached.is_ok(), "never {state:?}: {:?}", desk.switchboard.status(id).await);
    }

    async fn state(&self, desk: &Desk, id: Id) -> State {
        desk.switchboard.status(id).await.unwrap().unwrap().state
    }

    /// Waits until the gateway has seen so many sends.
    async fn until_sent(&self, count: usize) {
        let sent = async {
            while self.gateway.mock.sent().len() < count {
                self.clock.0.advance(Duration::from_millis(100));
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), sent).await.unwrap();
    }

    /// Kills a worker while the gateway has the message, and does not answer.
    async fn crash(&self, message: Message) -> Id {
        self.gateway.hangs.store(true, Ordering::SeqCst);
        let desk = self.desk().await;
        let id = desk.switchboard.send("desk", message).await.unwrap();
        self.until_sent(1).await;
        desk.kill().await;
        self.gateway.hangs.store(false, Ordering::SeqCst);
        // The claim of the killed worker lapses.
        self.clock.0.advance(4 * MINUTE);
        id
    }

    /// Returns the number of sends, and of messages that a resident receives.
    fn counts(&self) -> (usize, usize) {
        (self.gateway.mock.sent().len(), self.gateway.mock.accepted().len())
    }

    fn keys(&self) -> Vec<String> {
        self.gateway.mock.sent().into_iter().filter_map(|message| message.key).collect()
    }
}

fn mock(account: &str, clock: &Shifted) -> Mock {
    let mock = Mock::sms().account(account).clock(clock.clone());
    mock.capability(|can| {
        (can.idempotency_window, can.max_reference) = (Some(WINDOW), Some(20));
        // Otherwise a look-up finds it.
        (can.look_up, can.poll) = (false, false);
    })
}

fn long() -> Message {
    text(1, "Hello").key("a key that is longer than this gateway's references")
}

async fn lost_response_is_resent_with_the_same_reference(scene: &Scene) {
    scene.gateway.mock.will_lose_response();
    let desk = scene.desk().await;
    let id = desk.switchboard.send("desk", long()).await.unwrap();
    scene.until(&desk, id, Duration::from_millis(200), State::Accepted).await;
    assert_eq!(scene.counts(), (2, 1));
    let keys = scene.keys();
    assert_eq!((keys[0].len(), &keys[0]), (20, &keys[1]));
    let status = desk.switchboard.status(id).await.unwrap().unwrap();
    let outcomes: Vec<_> = status.history.iter().map(|attempt| attempt.outcome).collect();
    assert_eq!(outcomes, [Some(AttemptOutcome::Unknown), Some(AttemptOutcome::Accepted)]);
    desk.close().await;
}

async fn parked_choice_is_first_resent_within_the_window(scene: &Scene) {
    scene.gateway.mock.will_lose_response();
    let desk = scene.desk().await;
    let id = desk.switchboard.send("desk", text(1, "Hello").on_unknown(OnUnknown::Park)).await.unwrap();
    scene.until(&desk, id, Duration::from_millis(200), State::Accepted).await;
    assert_eq!(scene.counts(), (2, 1));
    desk.close().await;
}

async fn crash_during_the_send_is_resent_within_the_window(scene: &Scene) {
    let id = scene.crash(long()).await;
    let desk = scene.desk().await;
    scene.until(&desk, id, Duration::from_secs(1), State::Accepted).await;
    assert_eq!(scene.counts(), (2, 1));
    let keys = scene.keys();
    assert_eq!(keys[0], keys[1]);
    assert_eq!(desk.switchboard.status(id).await.unwrap().unwrap().attempts, 2);
    desk.close().await;
}

async fn crash_during_the_send_is_unknown_after_the_window(scene: &Scene) {
    let id = scene.crash(long()).await;
    scene.clock.0.advance(WINDOW);
    let desk = scene.desk().await;
    scene.until(&desk, id, Duration::from_secs(1), State::Unknown).await;
    // Look-ups do not find it, and a person decides.
    scene.until(&desk, id, 10 * MINUTE, State::Parked).await;
    assert_eq!(scene.counts(), (1, 1));
    desk.close().await;
}

async fn waiting_resend_is_unknown_after_the_window(scene: &Scene) {
    scene.gateway.mock.will_lose_response();
    let desk = scene.desk().await;
    let id = desk.switchboard.send("desk", long()).await.unwrap();
    scene.until_sent(1).await;
    desk.until(id, &[State::Deferred]).await;
    desk.kill().await;
    scene.clock.0.advance(WINDOW - MINUTE);
    let desk = scene.desk().await;
    scene.until(&desk, id, Duration::from_secs(1), State::Unknown).await;
    let reason = desk.switchboard.status(id).await.unwrap().unwrap().reason.unwrap();
    assert!(reason.contains("the gateway no longer recognises a resend"), "{reason}");
    assert_eq!(scene.counts(), (1, 1));
    desk.close().await;
}

async fn backoff_ends_with_the_window(scene: &Scene) {
    scene.gateway.mock.will_lose_response();
    // For more than 12 hours.
    (0..40).for_each(|_| scene.gateway.mock.will_fail(Error::new(ErrorKind::Unavailable, "no connection")));
    let desk = scene.desk().await;
    let begun = scene.clock.now();
    let id = desk.switchboard.send("desk", long()).await.unwrap();
    scene.until(&desk, id, MINUTE, State::Unknown).await;
    assert!(scene.clock.now() < begun.plus(WINDOW + HOUR), "{:?}", scene.clock.now());
    let (sent, accepted) = scene.counts();
    assert!(sent > 5 && accepted == 1, "{sent} {accepted}");
    desk.close().await;
}

async fn clock_set_back_ends_the_window(scene: &Scene) {
    // The attempt is recorded as six hours later than it is.
    scene.clock.1.store(6 * 3_600_000, Ordering::SeqCst);
    scene.gateway.mock.will_lose_response();
    let desk = scene.desk().await;
    let id = desk.switchboard.send("desk", long()).await.unwrap();
    scene.until_sent(1).await;
    desk.until(id, &[State::Deferred]).await;
    desk.kill().await;
    scene.clock.1.store(0, Ordering::SeqCst);
    let desk = scene.desk().await;
    scene.until(&desk, id, Duration::from_secs(1), State::Unknown).await;
    assert_eq!(scene.counts(), (1, 1));
    desk.close().await;
}

async fn changed_account_is_not_sent_the_message(scene: &Scene) {
    let id = scene.crash(long()).await;
    let other = mock("two", &scene.clock);
    let desk = scene.desk_with(Line::new("desk").channel(other.clone())).await;
    scene.until(&desk, id, Duration::from_secs(1), State::Unknown).await;
    scene.until(&desk, id, 10 * MINUTE, State::Parked).await;
    assert_eq!((scene.counts(), other.sent().len()), ((1, 1), 0));
    desk.close().await;
}

async fn changed_reference_is_not_resent(scene: &Scene) {
    let id = scene.crash(long()).await;
    let longer = scene.gateway.mock.clone().capability(|can| can.max_reference = None);
    let desk = scene.desk_with(Line::new("desk").channel(longer)).await;
    scene.until(&desk, id, Duration::from_secs(1), State::Unknown).await;
    assert_eq!(scene.counts(), (1, 1));
    desk.close().await;
}

async fn message_that_a_look_up_misses_is_sent_after_the_window(scene: &Scene) {
    let gateway = scene.gateway.mock.clone().capability(|can| can.look_up = true);
    let line = || Line::new("desk").channel(gateway.clone());
    gateway.will_fail(Error::unknown("no answer"));
    let desk = scene.desk_with(line()).await;
    let id = desk.switchboard.send("desk", long()).await.unwrap();
    scene.until_sent(1).await;
    desk.until(id, &[State::Deferred]).await;
    desk.kill().await;
    scene.clock.0.advance(WINDOW);
    let desk = scene.desk_with(line()).await;
    scene.until(&desk, id, Duration::from_secs(1), State::Unknown).await;
    scene.until(&desk, id, Duration::from_secs(1), State::Accepted).await;
    assert_eq!(scene.counts(), (2, 1));
    desk.close().await;
}

async fn resend_stays_with_its_account(scene: &Scene) {
    let other = mock("two", &scene.clock);
    scene.gateway.mock.will_lose_response();
    let refused = || Error::new(ErrorKind::Account, "no credit").with_outcome(civic_messaging::Outcome::Rejected);
    (0..3).for_each(|_| scene.gateway.mock.will_fail(refused()));
    let line = Line::new("desk").channel(scene.gateway.clone()).channel(other.clone());
    let desk = scene.desk_with(line).await;
    let id = desk.switchboard.send("desk", long()).await.unwrap();
    scene.until(&desk, id, Duration::from_secs(10), State::Accepted).await;
    assert_eq!((scene.counts().1, other.sent().len()), (1, 0));
    desk.close().await;
}

async fn person_resends_to_the_same_account_within_the_window(scene: &Scene) {
    let other = mock("two", &scene.clock);
    let lines = || Line::new("desk").channel(scene.gateway.clone()).channel(other.clone());
    let failed = || Error::new(ErrorKind::Rejected, "no").with_outcome(civic_messaging::Outcome::Rejected);
    // Refused after an unknown outcome: a person decides.
    scene.gateway.mock.will_lose_response();
    scene.gateway.mock.will_fail(failed());
    let desk = scene.desk_with(lines()).await;
    let id = desk.switchboard.send("desk", long()).await.unwrap();
    scene.until(&desk, id, Duration::from_millis(200), State::Parked).await;
    assert!(desk.switchboard.settle(id, Resolution::Resend).await.unwrap());
    scene.until(&desk, id, Duration::from_millis(200), State::Accepted).await;
    assert_eq!((scene.counts(), other.sent().len()), ((3, 1), 0));
    let keys = scene.keys();
    assert!(keys.iter().all(|key| *key == keys[0]));

    // After the window a person may choose another account.
    scene.gateway.mock.will_lose_response();
    scene.gateway.mock.will_fail(failed());
    let id = desk.switchboard.send("desk", text(2, "Another")).await.unwrap();
    scene.until(&desk, id, Duration::from_millis(200), State::Parked).await;
    desk.close().await;
    scene.clock.0.advance(WINDOW);
    let desk = scene.desk_with(lines()).await;
    assert!(desk.switchboard.settle(id, Resolution::Resend).await.unwrap());
    scene.until(&desk, id, Duration::from_millis(200), State::Accepted).await;
    assert_eq!(other.sent().len(), 1);
    desk.close().await;
}

async fn waiting_resend_cannot_be_cancelled(scene: &Scene) {
    scene.gateway.mock.will_lose_response();
    let desk = scene.desk().await;
    let id = desk.switchboard.send("desk", text(1, "Hello").key("short")).await.unwrap();
    scene.until_sent(1).await;
    desk.until(id, &[State::Deferred]).await;
    // It may have been accepted.
    assert!(!desk.switchboard.cancel(id).await.unwrap());
    scene.until(&desk, id, Duration::from_millis(200), State::Accepted).await;
    assert_eq!(scene.counts(), (2, 1));
    desk.close().await;
}

async fn report_of_the_first_attempt_ends_the_resend(scene: &Scene) {
    scene.gateway.mock.will_lose_response();
    let desk = scene.desk().await;
    let id = desk.switchboard.send("desk", text(1, "Hello").key("short")).await.unwrap();
    scene.until_sent(1).await;
    desk.until(id, &[State::Deferred]).await;
    let delivered = scene.gateway.mock.reports_key("short", DeliveryState::Delivered);
    assert_eq!(desk.switchboard.receive("all", delivered).await.status, 200);
    assert_eq!(scene.state(&desk, id).await, State::Accepted);
    scene.clock.0.advance(HOUR);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(scene.counts(), (1, 1));
    desk.close().await;
}

macro_rules! on_both_stores {
    ($($name:ident)*) => {
        mod sqlite {
            use super::*;

            $(#[tokio::test]
            async fn $name() {
                let database = Database::new();
                super::$name(&Scene::new(&database.url())).await;
            })*
        }

        #[cfg(feature = "postgres")]
        mod postgres {
            use super::*;

            $(#[tokio::test]
            async fn $name() {
                let Some(database) = crate::cluster::Database::new().await else { return };
                Store::migrate(database.url()).await.unwrap();
                super::$name(&Scene::new(database.url())).await;
            })*
        }
    };
}

on_both_stores! {
    lost_response_is_resent_with_the_same_reference
    parked_choice_is_first_resent_within_the_window
    crash_during_the_send_is_resent_within_the_window
    crash_during_the_send_is_unknown_after_the_window
    waiting_resend_is_unknown_after_the_window
    backoff_ends_with_the_window
    clock_set_back_ends_the_window
    changed_account_is_not_sent_the_message
    changed_reference_is_not_resent
    message_that_a_look_up_misses_is_sent_after_the_window
    resend_stays_with_its_account
    person_resends_to_the_same_account_within_the_window
    waiting_resend_cannot_be_cancelled
    report_of_the_first_attempt_ends_the_resend
}
