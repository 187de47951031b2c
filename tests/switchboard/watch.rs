//! Monitoring: health, statistics and log lines.

use std::time::Duration;

use civic_messaging::clock::{Clock, SystemClock, VirtualClock};
use civic_messaging::health::{CheckStatus, Health};
use civic_messaging::switchboard::{Counts, Line, State, Store, Switchboard};
use civic_messaging::{Channel, ErrorKind, Message, Mock, Result, webhook};

use super::desk::Desk;
use super::{person, virtual_clock};

/// A channel whose health check hangs or panics.
#[derive(Debug)]
struct Ill(Mock, bool);

#[civic_messaging::async_trait]
impl Channel for Ill {
    fn info(&self) -> &civic_messaging::Info {
        self.0.info()
    }

    async fn send(&self, message: &Message) -> Result<civic_messaging::Accepted> {
        self.0.send(message).await
    }

    async fn receive(&self, request: &webhook::Request) -> Result<webhook::Received> {
        self.0.receive(request).await
    }

    async fn health(&self) -> Result<Health> {
        if self.1 {
            panic!("a fault in an adapter");
        }
        std::future::pending().await
    }
}

#[tokio::test]
async fn health_checks_run_concurrently_with_a_time_limit() {
    let clock = virtual_clock();
    let account = |id: &'static str| Mock::sms().account(id);
    let builder = Switchboard::builder(Store::open("sqlite::memory:").await.unwrap())
        .clock(clock.clone())
        .line(
            Line::new("desk").channel(Ill(account("1"), false)).channel(account("2")).channel(Ill(account("3"), true)),
        )
        .line(Line::new("leader").channel(account("4").capability(|can| can.health = false)))
        .line(Line::new("ward").channel(Ill(account("5"), false)));
    let board = builder.build().unwrap();
    let checks = tokio::spawn(async move { board.health().await });
    while clock.sleepers() < 2 {
        tokio::task::yield_now().await;
    }
    clock.advance(Duration::from_secs(10));
    let healths = checks.await.unwrap();
    let results =
        healths.iter().map(|of| (&*of.line, of.account.as_str(), of.health.as_ref().map_err(|error| error.kind())));
    let good = Health::default().check_result("credentials", CheckStatus::Pass, "a mock needs none");
    assert_eq!(
        results.collect::<Vec<_>>(),
        [
            ("desk", "1", Err(ErrorKind::Unavailable)),
            ("desk", "2", Ok(&good)),
            ("desk", "3", Err(ErrorKind::Unavailable)),
            ("leader", "4", Err(ErrorKind::Unsupported)),
            ("ward", "5", Err(ErrorKind::Unavailable)),
        ]
    );
    assert!(healths[0].health.as_ref().unwrap_err().to_string().contains("no response within 10 seconds"));
    assert!(healths[2].health.as_ref().unwrap_err().to_string().contains("panicked"));
}

#[tokio::test]
async fn backlog_shows_its_count_and_age() {
    let mock = Mock::sms();
    let store = Store::open("sqlite::memory:").await.unwrap();
    let builder =
        || Switchboard::builder(store.clone()).line(Line::new("desk").channel(mock.clone())).route("all", ["desk"]);
    let board = builder().build().unwrap();
    // A line without any messages is still known.
    let stats = board.stats().await.unwrap();
    assert_eq!((stats.line("desk"), stats.line("dsek")), (Some(Counts::default()), None));
    let before = SystemClock::new().now();
    for n in 0..3 {
        board.send("desk", Message::text(person(n), "Hello")).await.unwrap();
    }
    board.send_at("desk", Message::text(person(9), "Later"), before.plus(Duration::from_secs(3600))).await.unwrap();
    assert_eq!(board.receive("all", mock.arrives("07700 900123", "Hello")).await.status, 200);
    let desk = board.stats().await.unwrap().line("desk").unwrap();
    assert_eq!(desk.messages, [(State::Deferred, 1), (State::Queued, 3)].into());
    assert_eq!((desk.due, desk.unread, desk.files), (3, 1, 0));
    assert!(desk.oldest_due.unwrap() >= before && desk.oldest_unread.unwrap() >= desk.oldest_due.unwrap());
    let desk = Desk::run(builder());
    while desk.switchboard.stats().await.unwrap().all().count(State::Accepted) < 3 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let all = desk.switchboard.stats().await.unwrap().all();
    // Their final states are events as well.
    assert_eq!((all.due, all.oldest_due, all.unread), (0, None, 4));
    desk.close().await;
}

#[cfg(feature = "tracing")]
mod logs {
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex};

    use civic_messaging::message::MediaRef;
    use civic_messaging::policy::{Decision, Policy, PolicyInput, Reason};
    use civic_messaging::rate::Rate;
    use civic_messaging::switchboard::{Fallback, Outgoing, Resolution};
    use civic_messaging::{Error, OnUnknown, Outcome, Purpose, Secret};
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;

    /// Records log lines.
    #[derive(Clone, Default)]
    struct LogRecorder(Arc<Mutex<Vec<String>>>);

    impl LogRecorder {
        fn has_line(&self, prefix: &str) -> bool {
            self.0.lock().unwrap().iter().any(|line| line.starts_with(prefix))
        }
    }

    struct Fields(String);

    impl Visit for Fields {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            match field.name() {
                "message" => self.0.insert_str(0, &format!("{value:?}")),
                name => self.0.push_str(&format!(" {name}={value:?}")),
            }
        }
    }

    impl Subscriber for LogRecorder {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "civic_messaging"
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            let mut fields = Fields(String::new());
            event.record(&mut fields);
            self.0.lock().unwrap().push(format!("{} {}", event.metadata().level(), fields.0));
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn notable_transitions_are_logged_and_masked() {
        let listener = LogRecorder::default();
        // Set for this thread, where everything runs; a second subscriber disables the interest cache.
        let _second = tracing::Dispatch::new(LogRecorder::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tracing::subscriber::with_default(listener.clone(), || runtime.block_on(works(&listener)));
        let lines = listener.0.lock().unwrap().clone();
        let pepper = Secret::new("pepper-of-this-council").unwrap();
        let masked = person(1).fingerprint(&pepper).to_string();
        for prefix in [
            &*format!(
                "INFO message queued civic.line=\"desk\" civic.message=1 civic.state=\"queued\" civic.person={masked}"
            ),
            "INFO message accepted civic.line=\"desk\" civic.message=1",
            "INFO message deferred: mock: no connection could be made",
            "INFO message rejected: mock: rejected",
            &*format!(
                "INFO message refused: no advertising here; code no-marketing civic.line=\"desk\" \
                 civic.state=\"refused\" civic.person={masked}"
            ),
            "INFO message deferred: it is night civic.line=\"desk\" civic.message=",
            "INFO message deferred: it got late civic.line=\"desk\" civic.message=",
            "INFO message refused: it has closed civic.line=\"desk\" civic.message=",
            "WARN message parked: it closed after the first try civic.line=\"desk\" civic.message=",
            &*format!(
                "INFO message refused: fallback: nor twice; code no-second civic.line=\"slow\" \
                 civic.state=\"refused\" civic.person={masked}"
            ),
            "DEBUG message postponed: the rate limit of its recipient civic.line=\"slow\" civic.message=",
            "WARN message parked: mock: no answer in time",
            "INFO message cancelled: cancelled by the caller civic.line=\"desk\" civic.message=",
            "INFO message accepted: a person confirmed that it was sent civic.line=\"desk\" civic.message=",
            "WARN account suspended: mock: the account is locked messaging.system=\"mock\" \
             civic.medium=\"sms\" civic.account=\"locked\" error.type=\"account\"",
            "WARN circuit breaker opened messaging.system=\"mock\" civic.wait_ms=60000",
            "WARN webhook rejected: ",
            "WARN media fetch failed permanently: the mock holds no such file",
        ] {
            assert!(listener.has_line(prefix), "{prefix}\n{lines:#?}");
        }
        for canary in ["7700900001", "canary", "07700", "pepper"] {
            assert!(lines.iter().all(|line| !line.contains(canary)), "{canary}\n{lines:#?}");
        }
    }

    #[test]
    fn line_without_a_worker_is_warned_about_once() {
        let listener = LogRecorder::default();
        let _second = tracing::Dispatch::new(LogRecorder::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tracing::subscriber::with_default(listener.clone(), || runtime.block_on(waits(&listener)));
    }

    /// Advances the clock and lets waiting tasks run.
    async fn advance(clock: &VirtualClock, seconds: u64) {
        while clock.sleepers() == 0 {
            tokio::task::yield_now().await;
        }
        clock.advance(Duration::from_secs(seconds));
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn waits(listener: &LogRecorder) {
        let warnings =
            || listener.0.lock().unwrap().iter().filter(|line| line.contains("no worker is running")).count();
        let clock = virtual_clock();
        let store = Store::open("sqlite::memory:").await.unwrap();
        let (desk, leader) = (Mock::sms(), Mock::whatsapp());
        let board = || {
            let builder = Switchboard::builder(store.clone()).clock(clock.clone());
            builder.line(Line::new("desk").channel(desk.clone())).line(Line::new("leader").channel(leader.clone()))
        };
        let taking = board().build().unwrap();
        for n in 1..4 {
            taking.send("desk", Message::text(person(n), "Hello")).await.unwrap();
        }
        let now = clock.now();
        taking.send_at("leader", Message::text(person(1), "Later"), now.plus(Duration::from_secs(70))).await.unwrap();
        advance(&clock, 29).await;
        assert_eq!(warnings(), 0);
        advance(&clock, 1).await;
        assert_eq!(warnings(), 1);
        assert!(listener.has_line(
            "WARN messages are due and no worker is running: start one for this line with Switchboard::run \
             civic.line=\"desk\" civic.message=1"
        ));
        // One warning for all waiting messages, however long they wait.
        taking.send("desk", Message::text(person(9), "Hello")).await.unwrap();
        advance(&clock, 69).await;
        assert_eq!(warnings(), 1);
        advance(&clock, 1).await;
        assert_eq!(warnings(), 2);
        assert!(listener.0.lock().unwrap().last().unwrap().contains("civic.line=\"leader\""));
        // A worker in another program runs and ends.
        let working = Desk::run(board().route("all", ["desk"]));
        while desk.sent().len() < 4 || leader.sent().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        working.close().await;
        advance(&clock, 30).await;
        taking.send("desk", Message::text(person(1), "Again")).await.unwrap();
        advance(&clock, 30).await;
        assert_eq!(warnings(), 3, "it is another time");
        advance(&clock, 3600).await;
        assert_eq!(warnings(), 3);
    }

    /// Refuses marketing, defers some messages, and changes some decisions. Counts the decisions
    /// per tag.
    #[derive(Debug, Default)]
    struct House(Mutex<HashMap<String, u32>>);

    impl House {
        fn times(&self, tag: &str) -> u32 {
            let mut counts = self.0.lock().unwrap();
            let times = counts.entry(tag.to_owned()).or_default();
            *times += 1;
            *times
        }
    }

    #[civic_messaging::async_trait]
    impl Policy for House {
        async fn decide(&self, question: &PolicyInput<'_>) -> Result<Decision> {
            let defer = |words| {
                let until = question.at.plus(Duration::from_secs(3600));
                Decision::Defer { until, reason: Reason::new("quiet-hours", words) }
            };
            let tag = question.message.tag.as_deref().unwrap_or_default();
            Ok(match (question.message.purpose, tag, self.times(tag)) {
                (Purpose::Marketing, ..) => Decision::Refuse(Reason::new("no-marketing", "no advertising here")),
                (_, "night", _) => defer("it is night"),
                (_, "dusk", 2..) => defer("it got late"),
                (_, "second", 2..) => Decision::Refuse(Reason::new("no-second", "nor twice")),
                (_, "shut", 2..) => Decision::Refuse(Reason::new("closed", "it has closed")),
                (_, "doubt", 3..) => Decision::Refuse(Reason::new("closed", "it closed after the first try")),
                _ => Decision::Allow,
            })
        }
    }

    async fn works(listener: &LogRecorder) {
        let mock = Mock::sms();
        let slow = Mock::sms().account("slow").capability(|can| can.pair_rate = Some(Rate::every_seconds(3600).into()));
        let locked = Mock::sms().account("locked");
        let store = Store::open("sqlite::memory:").await.unwrap();
        let builder = Switchboard::builder(store)
            .pepper(Secret::new("pepper-of-this-council").unwrap())
            .media(civic_messaging::media::MemoryStore::new())
            .policy(House::default())
            .line(Line::new("desk").channel(mock.clone()))
            .line(Line::new("slow").channel(slow))
            .line(Line::new("locked").channel(locked.clone()))
            .route("all", ["desk"]);
        let desk = Desk::run(builder);
        let board = &desk.switchboard;
        let text = |key: &str| Message::text(person(1), format!("canary {key}")).key(key);
        let id = board.send("desk", text("plain")).await.unwrap();
        desk.until(id, &[State::Accepted]).await;
        mock.will_fail(Error::new(ErrorKind::Unavailable, "no connection could be made"));
        let id = board.send("desk", text("again")).await.unwrap();
        desk.until(id, &[State::Accepted]).await;
        mock.will_fail(Error::new(ErrorKind::Rejected, "rejected").with_outcome(Outcome::Rejected));
        let id = board.send("desk", text("no")).await.unwrap();
        desk.until(id, &[State::Rejected]).await;
        locked.will_fail(Error::new(ErrorKind::Account, "the account is locked").with_outcome(Outcome::Rejected));
        let id = board.send("locked", text("locked")).await.unwrap();
        desk.until(id, &[State::Deferred]).await;
        let id = board.send("slow", text("in time")).await.unwrap();
        desk.until(id, &[State::Accepted]).await;
        let id = board.send("slow", text("too soon")).await.unwrap();
        desk.until(id, &[State::Deferred]).await;
        let mut ids = Vec::new();
        for tag in ["first", "second"] {
            let instead = Message::text(person(1), "canary instead").tag(tag);
            let fallback = Fallback::new(instead, Duration::from_millis(100));
            ids.push(board.send("slow", Outgoing::new(text(tag)).fallback(fallback)).await.unwrap());
        }
        for prefix in ["INFO message cancelled: replaced by its fallback", "INFO message refused: fallback: "] {
            let logged = async {
                while !listener.has_line(prefix) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), logged).await.expect("it is logged");
        }
        let instead = board.status(ids[0]).await.unwrap().unwrap().fallback.unwrap();
        for (id, prefix) in [(ids[0], "cancelled: replaced by its fallback"), (instead, "queued")] {
            let prefix = format!("INFO message {prefix} civic.line=\"slow\" civic.message={id} ");
            assert!(listener.has_line(&prefix), "{prefix}");
        }
        let error = board.send("desk", text("advertising").purpose(Purpose::Marketing)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        let id = board.send("desk", text("quiet").tag("night")).await.unwrap();
        assert!(board.cancel(id).await.unwrap());
        for (tag, state) in [("dusk", State::Deferred), ("shut", State::Refused)] {
            let id = board.send("desk", text(tag).tag(tag)).await.unwrap();
            desk.until(id, &[state]).await;
        }
        mock.will_fail(Error::unknown("no answer in time"));
        let doubt = text("doubt").tag("doubt").on_unknown(OnUnknown::Resend);
        let id = board.send("desk", doubt).await.unwrap();
        desk.until(id, &[State::Parked]).await;
        mock.will_fail(Error::unknown("no answer in time"));
        let id = board.send("desk", text("lost").on_unknown(OnUnknown::Park)).await.unwrap();
        desk.until(id, &[State::Parked]).await;
        assert!(board.settle(id, Resolution::Sent).await.unwrap());
        assert_eq!(board.receive("nowhere", mock.arrives("07700 900001", "canary")).await.status, 404);
        let media = vec![MediaRef::new("mock", "canary-file")];
        let content = civic_messaging::event::InboundContent::Media { text: Some("canary".to_owned()), media };
        let photo = mock.arrives_with("07700 900001", content);
        assert_eq!(board.receive("all", photo).await.status, 200);
        while board.stats().await.unwrap().all().files > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        desk.close().await;
    }
}
