//! The right order of layers and three wrong ones, as docs/layers.md describes them. A time-out between layers, the
//! fourth mistake, is in `twice.rs`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use civic_messaging::clock::{Clock, VirtualClock};
use civic_messaging::layer::{Failover, Layer, RateLimit, Retry, Stack, Trace};
use civic_messaging::rate::Rate;
use civic_messaging::webhook::{Received, Request};
use civic_messaging::{Accepted, Channel, ChannelExt, Error, ErrorKind, Info, Message, Mock, Result, async_trait};

use super::telemetry::captured_logs;
use super::{all, clock, person};

/// A mock that records the time of each request.
#[derive(Clone, Debug)]
struct Recording {
    inner: Mock,
    clock: VirtualClock,
    times: Arc<Mutex<Vec<Duration>>>,
}

impl Recording {
    /// Fails to connect `times` times.
    fn failing(clock: &VirtualClock, times: usize) -> Self {
        let inner = Mock::sms();
        (0..times).for_each(|_| inner.will_fail(Error::new(ErrorKind::Unavailable, "no connection could be made")));
        Self { inner, clock: clock.clone(), times: Arc::default() }
    }

    fn times(&self) -> Vec<Duration> {
        self.times.lock().unwrap().clone()
    }
}

#[async_trait]
impl Channel for Recording {
    fn info(&self) -> &Info {
        self.inner.info()
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        self.times.lock().unwrap().push(self.clock.monotonic());
        self.inner.send(message).await
    }

    async fn receive(&self, request: &Request) -> Result<Received> {
        self.inner.receive(request).await
    }
}

fn retry(clock: &VirtualClock) -> Retry {
    Retry::new().clock(clock.clone()).random(super::random())
}

/// Sends ten messages, each in two attempts, and returns the shortest interval between two requests.
fn shortest_interval(channel: &Arc<dyn Channel>, recording: &Recording) -> Duration {
    let send = |n| async move { drop(channel.send_text(&person(n), "Hello").await.unwrap()) };
    recording.clock.run(all((0..10).map(send)));
    let times = recording.times();
    assert_eq!(times.len(), 20);
    times.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap()
}

#[test]
fn rate_limit_outside_retry_misses_the_retries() {
    let limit = |clock: &VirtualClock| RateLimit::new().rate(Rate::per_second(1)).clock(clock.clone());

    let clock = clock();
    let recording = Recording::failing(&clock, 10);
    let right = retry(&clock).wrap(limit(&clock).layer(recording.clone()));
    assert_eq!(shortest_interval(&right, &recording), Duration::from_millis(1_020));

    let clock = super::clock();
    let recording = Recording::failing(&clock, 10);
    let wrong = limit(&clock).wrap(retry(&clock).layer(recording.clone()));
    assert!(shortest_interval(&wrong, &recording) < Duration::from_secs(1));
}

#[test]
fn retry_outside_failover_fails_over_on_every_blip() {
    let clock = clock();
    let send = |channel: &dyn Channel| clock.run(channel.send_text(&person(1), "Hello")).map(|_| ()).unwrap();

    let (first, second) = (Recording::failing(&clock, 1), Recording::failing(&clock, 0));
    let right = Stack::new(first.clone())
        .failover_to(second.clone())
        .clock(clock.clone())
        .random(super::random())
        .build()
        .unwrap();
    send(&right);
    assert_eq!((first.times().len(), second.times().len()), (2, 0));

    let (first, second) = (Recording::failing(&clock, 1), Recording::failing(&clock, 0));
    let members = [Arc::new(first.clone()) as Arc<dyn Channel>, Arc::new(second.clone())];
    let wrong = retry(&clock).layer(Failover::new(members).unwrap().clock(clock.clone()));
    send(&wrong);
    assert_eq!((first.times().len(), second.times().len()), (1, 1));
}

#[test]
fn trace_inside_retry_logs_failures_that_recover() {
    let clock = clock();
    let trace = Trace::new().clock(clock.clone());
    let ends = |channel: Arc<dyn Channel>| {
        let lines = captured_logs(|| drop(clock.run(channel.send_text(&person(1), "Hello")).unwrap()));
        let end = |line: &String| line.contains("civic.outcome");
        lines.iter().filter(|line| end(line)).map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let right = trace.wrap(retry(&clock).layer(Recording::failing(&clock, 2)));
    assert_eq!(ends(right), ["INFO"]);
    let wrong = retry(&clock).wrap(trace.layer(Recording::failing(&clock, 2)));
    assert_eq!(ends(wrong), ["WARN", "WARN", "INFO"]);
}
