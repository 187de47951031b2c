//! Log lines and metrics of a send: one event per attempt and one for the result, masked.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use civic_messaging::clock::VirtualClock;
use civic_messaging::event::InboundContent;
use civic_messaging::layer::{Layer, RateLimit, Retry, Stack, Trace};
use civic_messaging::rate::Rate;
use civic_messaging::{Channel, ChannelExt, Error, ErrorKind, Mock, Outcome, Secret, Timestamp};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Metadata, Subscriber};

use super::{clock, person};

/// Runs `work` and returns its log events: level, message, fields, and the fields of the enclosing span.
pub(super) fn captured_logs(work: impl FnOnce()) -> Vec<String> {
    // With a single subscriber, `tracing` caches for all threads whether the first thread to reach an event is
    // interested. A second subscriber makes it check each time.
    static SECOND: OnceLock<Dispatch> = OnceLock::new();
    SECOND.get_or_init(|| Dispatch::new(LogRecorder(Arc::default())));
    let captured = Arc::new(Captured::default());
    tracing::subscriber::with_default(LogRecorder(captured.clone()), work);
    std::mem::take(&mut *captured.lines.lock().unwrap())
}

#[derive(Default)]
struct Captured {
    lines: Mutex<Vec<String>>,
    spans: Mutex<Vec<String>>,
    inside: Mutex<Vec<Id>>,
}

struct LogRecorder(Arc<Captured>);

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = match field.name() {
            "message" => format!("{value:?}"),
            name => format!(" {name}={value:?}"),
        };
        self.0.push_str(&text);
    }
}

impl Subscriber for LogRecorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "civic_messaging"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut text = span.metadata().name().to_owned();
        span.record(&mut Fields(&mut text));
        let mut spans = self.0.spans.lock().unwrap();
        spans.push(text);
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        values.record(&mut Fields(&mut self.0.spans.lock().unwrap()[span.into_u64() as usize - 1]));
    }

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = format!("{} ", event.metadata().level());
        event.record(&mut Fields(&mut text));
        let span = self.0.inside.lock().unwrap().last().map(|id| id.into_u64() as usize - 1);
        let within = span.map(|span| self.0.spans.lock().unwrap()[span].clone()).unwrap_or_default();
        self.0.lines.lock().unwrap().push(format!("{text} | {within}"));
    }

    fn enter(&self, span: &Id) {
        self.0.inside.lock().unwrap().push(span.clone());
    }

    fn exit(&self, _span: &Id) {
        self.0.inside.lock().unwrap().pop();
    }
}

fn pepper() -> Secret {
    Secret::new("canary-pepper-of-this-council").unwrap()
}

#[test]
fn trace_logs_each_attempt_under_one_fingerprint() {
    let clock = clock();
    let (first, second) = (Mock::sms(), Mock::sms());
    first.will_fail(Error::new(ErrorKind::Unavailable, "no connection could be made"));
    first.will_fail(Error::new(ErrorKind::Account, "the account is locked").with_outcome(Outcome::Rejected));
    let stack = Stack::new(first)
        .failover_to(second)
        .clock(clock.clone())
        .random(super::random())
        .pepper(pepper())
        .build()
        .unwrap();
    let lines = captured_logs(|| drop(clock.run(stack.send_text(&person(123), "canary-text")).unwrap()));
    let begins = [
        "INFO retry scheduled: mock: no connection could be made messaging.system=\"mock\" error.type=\"unavailable\" civic.attempt=1 civic.wait_ms=",
        "DEBUG not retried: mock: the account is locked messaging.system=\"mock\" error.type=\"account\" civic.attempt=2 civic.stop=\"final\"",
        "WARN circuit breaker opened messaging.system=\"mock\" civic.wait_ms=60000",
        "INFO failing over: mock: the account is locked messaging.system=\"mock\" error.type=\"account\"",
        "INFO accepted messaging.system=\"mock\" civic.outcome=\"accepted\" civic.took_ms=",
    ];
    assert_eq!(lines.len(), begins.len(), "{lines:#?}");
    let fingerprint = format!("civic.person={}", person(123).fingerprint(&pepper()));
    for (line, begin) in lines.iter().zip(begins) {
        assert!(line.starts_with(begin), "{line}");
        assert!(line.contains("messaging.operation.name=\"send\""), "{line}");
        assert!(line.ends_with(&fingerprint), "{line}");
    }
}

#[test]
fn logs_hold_no_number_text_or_secret() {
    let clock = clock();
    let mock = Mock::sms();
    let canary = |mock: &Mock| {
        mock.will_fail(Error::unknown("no answer in time"));
        mock.will_fail(Error::new(ErrorKind::OptedOut, "said STOP").with_outcome(Outcome::Rejected).with_code("21610"));
    };
    canary(&mock);
    let limit = RateLimit::new().rate(Rate::every_seconds(9)).clock(clock.clone());
    let trace = Trace::new().pepper(pepper()).clock(clock.clone());
    let sms = trace.wrap(Retry::new().clock(clock.clone()).random(super::random()).wrap(limit.layer(mock.clone())));
    let lines = captured_logs(|| {
        clock.run(async {
            for key in ["canary-key", "canary-other-key"] {
                let message = civic_messaging::Message::text(person(123), "canary-text").key(key);
                sms.send(&message).await.unwrap_err();
            }
            let webhook = mock.arrives_with("+447700900123", InboundContent::Text("canary-inbound".to_owned()));
            let received = sms.receive(&webhook).await.unwrap();
            let inbound = received.events[0].as_inbound().unwrap();
            sms.send_indicator(inbound, civic_messaging::Indicator::Read).await.unwrap_err();
            sms.poll(None).await.unwrap();
            sms.health().await.unwrap();
        });
    });
    assert!(lines.len() >= 9, "{lines:#?}");
    for line in &lines {
        assert!(!line.contains("canary") && !line.contains("7700") && !line.contains("900123"), "{line}");
    }
    assert!(lines.iter().any(|line| line.contains("civic.outcome=\"unknown\"")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("code 21610")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("waited for rate limit")), "{lines:#?}");
}

#[test]
fn logs_without_pepper_name_no_recipient() {
    let clock = VirtualClock::starting_at(Timestamp::default());
    let sms = Trace::new().clock(clock.clone()).layer(Mock::sms());
    let lines = captured_logs(|| drop(clock.run(sms.send_text(&person(1), "Hello")).unwrap()));
    assert_eq!(lines.len(), 1);
    assert!(!lines[0].contains("civic.person"), "{}", lines[0]);
}

#[cfg(feature = "metrics")]
mod counted {
    use std::time::Duration;

    use metrics::{
        Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Recorder, SharedString, Unit,
    };

    use super::*;

    #[derive(Default)]
    struct Counts(Arc<Mutex<Vec<String>>>);

    struct One(String, Arc<Mutex<Vec<String>>>);

    impl CounterFn for One {
        fn increment(&self, value: u64) {
            self.1.lock().unwrap().push(format!("{} +{value}", self.0));
        }

        fn absolute(&self, _value: u64) {}
    }

    impl GaugeFn for One {
        fn increment(&self, _value: f64) {}

        fn decrement(&self, _value: f64) {}

        fn set(&self, value: f64) {
            self.1.lock().unwrap().push(format!("{} ={value}", self.0));
        }
    }

    impl HistogramFn for One {
        fn record(&self, value: f64) {
            self.1.lock().unwrap().push(format!("{} {value}", self.0));
        }
    }

    impl Counts {
        fn one(&self, key: &Key) -> Arc<One> {
            let labels = key.labels().map(|label| format!(" {}={}", label.key(), label.value()));
            Arc::new(One(key.name().to_owned() + &labels.collect::<String>(), self.0.clone()))
        }
    }

    impl Recorder for Counts {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, key: &Key, _: &metrics::Metadata<'_>) -> Counter {
            Counter::from_arc(self.one(key))
        }
        fn register_gauge(&self, key: &Key, _: &metrics::Metadata<'_>) -> Gauge {
            Gauge::from_arc(self.one(key))
        }
        fn register_histogram(&self, key: &Key, _: &metrics::Metadata<'_>) -> Histogram {
            Histogram::from_arc(self.one(key))
        }
    }

    #[test]
    fn metrics_count_sends_and_attempts_separately() {
        let clock = clock();
        let mock = Mock::sms();
        mock.will_fail(Error::new(ErrorKind::Unavailable, "no connection could be made"));
        let stack = Stack::new(mock).clock(clock.clone()).random(crate::random()).build().unwrap();
        let counts = Counts::default();
        metrics::with_local_recorder(&counts, || {
            clock.run(stack.send_text(&person(1), "Hello")).unwrap();
            clock.advance(Duration::from_secs(1));
        });
        let lines = counts.0.lock().unwrap().clone();
        assert_eq!(lines[0], "civic_messaging.retries gateway=mock kind=unavailable +1");
        let sent = "civic_messaging.send.duration gateway=mock medium=sms outcome=accepted kind=none ";
        assert!(lines[1].starts_with(sent), "{lines:?}");
        assert_eq!(lines.len(), 2);
    }

    /// Covers every metric in `docs/operations.md`.
    #[cfg(feature = "sqlite-system")]
    #[test]
    fn switchboard_metrics_match_its_documentation() {
        let counts = Counts::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        metrics::with_local_recorder(&counts, || runtime.block_on(works(&counts)));
        let lines = counts.0.lock().unwrap().clone();
        for prefix in [
            "civic_messaging.messages line=desk state=queued +1",
            "civic_messaging.messages line=desk state=accepted +1",
            "civic_messaging.messages line=desk state=rejected +1",
            "civic_messaging.webhooks_rejected kind=config +1",
            "civic_messaging.files_failed kind=not_found +1",
            "civic_messaging.files.duration ",
            "civic_messaging.depth line=desk kind=queued =",
            "civic_messaging.depth line=desk kind=due =",
            "civic_messaging.depth line=desk kind=unread =",
            "civic_messaging.depth line=desk kind=files =",
            "civic_messaging.oldest line=desk kind=due =",
            "civic_messaging.oldest line=desk kind=unread =",
        ] {
            assert!(lines.iter().any(|line| line.starts_with(prefix)), "{prefix}\n{lines:#?}");
        }
        let queued = lines.iter().filter(|line| line.starts_with("civic_messaging.messages line=desk state=queued"));
        assert_eq!(queued.count(), 2, "{lines:#?}");
    }

    #[cfg(feature = "sqlite-system")]
    async fn works(counts: &Counts) {
        use civic_messaging::Message;
        use civic_messaging::media::MemoryStore;
        use civic_messaging::message::MediaRef;
        use civic_messaging::switchboard::{Line, Store, Switchboard};

        let mock = Mock::sms();
        mock.will_fail(Error::new(ErrorKind::Rejected, "rejected").with_outcome(Outcome::Rejected));
        let board = Switchboard::builder(Store::open("sqlite::memory:").await.unwrap())
            .media(MemoryStore::new())
            .line(Line::new("desk").channel(mock.clone()))
            .route("all", ["desk"])
            .build()
            .unwrap();
        for n in 0..2 {
            board.send("desk", Message::text(person(n), "Hello")).await.unwrap();
        }
        assert_eq!(board.receive("nowhere", mock.arrives("07700 900123", "Hello")).await.status, 404);
        let media = vec![mock.add_file("image/jpeg", "a fallen tree"), MediaRef::new("mock", "that it does not hold")];
        let photos = mock.arrives_with("07700 900123", InboundContent::Media { text: None, media });
        assert_eq!(board.receive("all", photos).await.status, 200);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let worker = tokio::spawn(board.run(async { drop(stopped.await) }));
        let worked = async {
            let has = |prefix: &str| counts.0.lock().unwrap().iter().any(|line| line.starts_with(prefix));
            while ![
                "messages line=desk state=accepted",
                "files_failed",
                "files.duration",
                "oldest line=desk kind=unread",
            ]
            .iter()
            .all(|prefix| has(&format!("civic_messaging.{prefix}")))
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), worked).await.expect("it is counted");
        drop(stop);
        assert_eq!(worker.await.unwrap().unwrap().unfinished, 0);
    }
}
