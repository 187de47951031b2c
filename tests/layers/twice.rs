//! No message twice: thousands of sends through the whole stack to two gateways on loopback with a fault in each
//! exchange. The reported outcome of each is compared with what the gateways accepted.
//!
//! `CIVIC_SENDS` sets the number of messages (2,000), `CIVIC_SEED` the seed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use civic_messaging::clock::{Clock, Sleep, VirtualClock};
use civic_messaging::layer::breaker::Breaker;
use civic_messaging::layer::{CircuitBreaker, Failover, Layer, RateLimit, Retry, Stack, Trace};
use civic_messaging::random::SeededRandom;
use civic_messaging::testing::{FakeGateway, SocketFault, Step};
use civic_messaging::transport::ReqwestTransport;
use civic_messaging::webhook::{Received, Request};
use civic_messaging::{
    Accepted, Channel, Context, Error, ErrorKind, Info, Message, Notify, OnUnknown, Outcome, Result, Timestamp, Twilio,
    async_trait, notify, twilio,
};

use futures_util::{StreamExt, stream};

use super::{Random, person, seed};

/// The number of concurrent sends.
const AT_ONCE: usize = 64;

/// The time-out for a response, four times the measured duration of [`AT_ONCE`] sends on this machine. The fake gateway
/// responds at once or never.
async fn time_out() -> Duration {
    let world = World::within(Duration::from_secs(60), 1).await;
    world.script(&Random::new(1), 0);
    let begun = Instant::now();
    let [twilio, _] = &world.channels;
    let sent = send(&world, twilio, AT_ONCE, OnUnknown::Park).await;
    assert_eq!(sent.accepted, AT_ONCE);
    (begun.elapsed() * 4).max(Duration::from_millis(200))
}

/// A clock that each sleep advances without waiting.
#[derive(Clone, Debug)]
struct InstantClock(VirtualClock);

impl Clock for InstantClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        self.0.advance(duration);
        Box::pin(std::future::ready(()))
    }
}

/// Two gateways on loopback and their channels.
struct World {
    clock: InstantClock,
    gateways: Arc<[FakeGateway; 2]>,
    channels: [Arc<dyn Channel>; 2],
}

impl World {
    async fn new(seed: u64) -> Self {
        Self::within(time_out().await, seed).await
    }

    /// Sets the time-out for responses.
    async fn within(time: Duration, seed: u64) -> Self {
        let clock = InstantClock(super::clock());
        let gateways = Arc::new([FakeGateway::start().await, FakeGateway::start().await]);
        let transport = || ReqwestTransport::from_settings(move |builder| builder.connect_timeout(time).timeout(time));
        let context = || Context::new().transport(transport()).clock(clock.clone()).random(SeededRandom::new(seed));
        let twilio = twilio::Config::new("ACa1b2c3d4e5f60718293a4b5c6d7e8f90", "canary-auth-token")
            .and_then(|config| config.sender("+447700900999"))
            .and_then(|config| config.base_url(&gateways[0].base_url()))
            .and_then(|config| Twilio::sms_with(config, &context()))
            .unwrap();
        let key = "bins-26785a09-ab16-4eb0-8407-a37497a57506-3d844edf-8d35-48ac-975b-e847b4f122b0";
        let notify = notify::Config::new(key, "5484cfca-668a-4c18-afb1-5ddd0e3521b1")
            .and_then(|config| config.base_url(&gateways[1].base_url()))
            .and_then(|config| Notify::sms_with(config, &context()))
            .unwrap();
        Self { clock, gateways, channels: [Arc::new(twilio), Arc::new(notify)] }
    }

    /// Scripts random faults for `requests` requests at each gateway.
    fn script(&self, random: &Random, requests: usize) {
        for (gateway, answers) in self.gateways.iter().zip([&TWILIO, &NOTIFY]) {
            (0..requests).for_each(|_| gateway.expects(step(answers, random)));
            gateway.always(Step::any().answers(answers[0].0, answers[0].1));
        }
    }

    /// The number of copies of each message that the gateways accepted.
    fn copies(&self) -> HashMap<String, usize> {
        let mut copies = HashMap::new();
        for request in self.gateways.iter().flat_map(FakeGateway::requests).filter(|request| request.accepted) {
            let texts = request.texts();
            let text = texts.iter().find_map(|text| text.strip_prefix("Message ")).expect("a message's text");
            *copies.entry(text.trim_end_matches('.').to_owned()).or_default() += 1;
        }
        copies
    }
}

/// The responses: accepted, account fault, rate limit, opted out, wrong credentials, and two server errors.
type Answers = [(u16, &'static str); 7];

const TWILIO: Answers = [
    (201, r#"{"sid":"SM1a2b3c4d5e6f708192a3b4c5d6e7f809","status":"queued","num_segments":"1"}"#),
    (402, r#"{"code":20005,"message":"Account not active","status":402}"#),
    (429, r#"{"code":20429,"message":"Too many requests","status":429}"#),
    (400, r#"{"code":21610,"message":"unsubscribed","status":400}"#),
    (401, r#"{"code":20003,"message":"Authenticate","status":401}"#),
    (500, r#"{"code":20500,"message":"Internal Server Error","status":500}"#),
    (503, "<html>Service Unavailable</html>"),
];

const NOTIFY: Answers = [
    (
        201,
        r#"{"id":"740e5834-3a29-46b4-9a6f-16142fde533a","reference":null,"content":{"body":"b","from_number":"GOVUK"}}"#,
    ),
    (403, r#"{"status_code":403,"errors":[{"error":"AuthError","message":"Invalid token: service archived"}]}"#),
    (429, r#"{"status_code":429,"errors":[{"error":"RateLimitError","message":"Exceeded rate limit"}]}"#),
    (400, r#"{"status_code":400,"errors":[{"error":"BadRequestError","message":"Can't send to this recipient"}]}"#),
    (401, r#"{"status_code":401,"errors":[{"error":"AuthError","message":"Unauthorized"}]}"#),
    (500, r#"{"status_code":500,"errors":[{"error":"Exception","message":"Internal server error"}]}"#),
    (503, ""),
];

/// More bytes than any request and response together.
const EXCHANGE: u64 = 1_100;

/// About the length of a request.
const REQUEST: u64 = 700;

fn step(answers: &Answers, random: &Random) -> Step {
    let (status, body) = answers[[0, 0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 6][random.below(12) as usize]];
    let step = Step::any().answers(status, body);
    let at = random.below(EXCHANGE);
    match random.below(16) {
        0..4 => step,
        4 => step.breaks(SocketFault::ResetAfterRequest),
        5 => step.breaks(SocketFault::ResetAtOnce),
        6 => step.breaks(SocketFault::CloseAfterAnswer),
        7 => step.breaks(SocketFault::Stall),
        _ if at < REQUEST => step.breaks(SocketFault::CutRequest(at as usize)),
        _ => step.breaks(SocketFault::CutAnswer((at - REQUEST) as usize)),
    }
}

/// The results of many sends, and those that break a promise.
#[derive(Debug, Default)]
struct Report {
    accepted: usize,
    rejected: usize,
    not_sent: usize,
    unknown: usize,
    by_the_second: usize,
    broken: Vec<String>,
}

/// Sends messages, [`AT_ONCE`] concurrently, and compares each result with what the gateways accepted.
async fn send(world: &World, channel: &Arc<dyn Channel>, sends: usize, on_unknown: OnUnknown) -> Report {
    let one = |n: usize| {
        let message = Message::text(person(n as u32), format!("Message {n:06}.")).on_unknown(on_unknown);
        let (channel, clock) = (channel.clone(), &world.clock);
        async move {
            // Advances a second per message, so that breakers close and pauses end.
            clock.0.advance(Duration::from_secs(1));
            (n, channel.send(&message).await)
        }
    };
    let ended: Vec<_> = stream::iter(0..sends).map(one).buffer_unordered(AT_ONCE).collect().await;
    let copies = world.copies();
    let mut report = Report::default();
    for (n, end) in &ended {
        let copies = copies.get(&format!("{n:06}")).copied().unwrap_or(0);
        let (count, promised) = match end {
            Ok(accepted) => {
                report.by_the_second += usize::from(accepted.gateway == "notify");
                (&mut report.accepted, copies == 1)
            }
            Err(error) => match error.outcome() {
                Outcome::Rejected => (&mut report.rejected, copies == 0),
                Outcome::NotSent => (&mut report.not_sent, copies == 0),
                Outcome::Unknown => (&mut report.unknown, copies <= 1),
            },
        };
        *count += 1;
        if !promised {
            report.broken.push(format!("message {n}: {copies} copies, and it is said: {end:?}"));
        }
    }
    report
}

fn sends() -> usize {
    super::support::variable("CIVIC_SENDS").map_or(2_000, |sends| sends as usize)
}

/// A breaker that practically never opens, so that faults reach the gateway.
fn lenient_breaker() -> Breaker {
    Breaker::new().threshold(1_000_000, Duration::from_secs(1)).unwrap()
}

fn retry(clock: &InstantClock) -> Retry {
    Retry::new()
        .budget(civic_messaging::layer::retry::RetryBudget::new().share(1.0, 1_000).unwrap())
        .clock(clock.clone())
        .random(SeededRandom::new(seed()))
}

fn failover(members: [Arc<dyn Channel>; 2], clock: &InstantClock) -> Arc<dyn Channel> {
    Arc::new(
        Failover::new(members)
            .unwrap()
            .breaker(&lenient_breaker())
            .clock(clock.clone())
            .random(SeededRandom::new(seed())),
    )
}

#[tokio::test]
async fn faults_never_double_or_misreport_a_message() {
    let (seed, sends) = (seed(), sends());
    let world = World::new(seed).await;
    world.script(&Random::new(seed), sends * 4);
    let [twilio, notify] = world.channels.clone();
    let stack = Stack::new(twilio)
        .failover_to(notify)
        .clock(world.clock.clone())
        .random(SeededRandom::new(seed))
        .build()
        .unwrap();
    let recommended = send(&world, &stack, sends / 2, OnUnknown::Reconcile).await;
    println!("as recommended: {recommended:?}");
    assert!(recommended.broken.is_empty(), "{:#?}", recommended.broken);

    // The same with as many retries and failovers as possible.
    let world = World::new(seed).await;
    world.script(&Random::new(seed + 1), sends * 4);
    let members = world.channels.clone().map(|channel| {
        let limit = RateLimit::from_info(channel.info()).clock(world.clock.clone());
        retry(&world.clock).wrap(limit.wrap(channel))
    });
    let report = send(&world, &failover(members, &world.clock), sends - sends / 2, OnUnknown::Park).await;
    println!("at its boldest: {report:?}");
    assert!(report.broken.is_empty(), "{:#?}", report.broken);
    for (count, name) in [
        (report.accepted, "accepted"),
        (report.rejected, "rejected"),
        (report.unknown, "unknown"),
        (report.by_the_second, "accepted by the second gateway"),
    ] {
        assert!(count > sends / 100, "only {count} were {name}");
    }
}

/// No order of the layers makes a second copy; other effects of a wrong order are in `order.rs`.
#[tokio::test]
async fn layer_order_never_doubles_a_message() {
    let seed = seed();
    for (name, order) in [("retry outside failover", 0), ("all layers around each other, inside out", 1)] {
        let world = World::new(seed).await;
        world.script(&Random::new(seed), 2_000);
        let clock = &world.clock;
        let channel = if order == 0 {
            retry(clock).wrap(failover(world.channels.clone(), clock))
        } else {
            let inside_out = world.channels.clone().map(|channel| {
                let trace = Trace::new().clock(clock.clone()).wrap(channel);
                let limit = RateLimit::from_info(trace.info()).clock(clock.clone());
                limit.wrap(
                    CircuitBreaker::from_breaker(lenient_breaker())
                        .clock(clock.clone())
                        .wrap(retry(clock).wrap(retry(clock).wrap(trace))),
                )
            });
            retry(clock).wrap(failover(inside_out, clock))
        };
        let report = send(&world, &channel, 320, OnUnknown::Reconcile).await;
        assert!(report.broken.is_empty(), "{name}: {:#?}", report.broken);
        assert!(report.accepted > 30 && report.unknown > 30, "{name}: {report:?}");
    }
}

/// A message with `OnUnknown::Resend` may arrive twice, but its outcome is still correct.
#[tokio::test]
async fn resent_message_is_never_reported_not_sent_by_mistake() {
    let seed = seed();
    let world = World::new(seed).await;
    world.script(&Random::new(seed), 4_000);
    let members = world.channels.clone().map(|channel| retry(&world.clock).wrap(channel));
    let report = send(&world, &failover(members, &world.clock), 640, OnUnknown::Resend).await;
    let doubled = world.copies().values().filter(|copies| **copies > 1).count();
    println!("resent: {doubled} came more than once; {} accepted, {} unknown", report.accepted, report.unknown);
    assert!(doubled > 0, "nothing was ever sent again");
    let lie = |line: &&String| line.contains("outcome: NotSent") || line.contains("outcome: Rejected");
    assert_eq!(report.broken.iter().find(lie), None);
}

/// An incorrect layer: its time-out drops the future of a send and reports "not sent". It fires once a gateway has the
/// message, when that is wrong.
#[derive(Debug)]
struct TimeoutLayer(Arc<dyn Channel>, Arc<[FakeGateway; 2]>);

#[async_trait]
impl Channel for TimeoutLayer {
    fn info(&self) -> &Info {
        self.0.info()
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        let text = message.content.as_text().unwrap();
        let copies = || self.1.iter().map(|gateway| gateway.accepted(text)).sum::<usize>();
        let (before, mut sending) = (copies(), self.0.send(message));
        loop {
            match tokio::time::timeout(Duration::from_millis(25), &mut sending).await {
                Ok(sent) => return sent,
                Err(_) if copies() == before => {}
                Err(_) => return Err(Error::new(ErrorKind::Unavailable, "it took too long")),
            }
        }
    }

    async fn receive(&self, request: &Request) -> Result<Received> {
        self.0.receive(request).await
    }
}

#[tokio::test]
async fn timeout_between_layers_is_detected() {
    let seed = seed();
    let world = World::new(seed).await;
    world.script(&Random::new(seed), 0);
    // Every second accepted request gets no response.
    for (gateway, [(status, body), ..]) in world.gateways.iter().zip([TWILIO, NOTIFY]) {
        let taken = || Step::any().answers(status, body);
        for _ in 0..AT_ONCE {
            gateway.expects(taken().breaks(SocketFault::Stall));
            gateway.expects(taken());
        }
    }
    let members = world.channels.clone().map(|channel| {
        let limit = RateLimit::from_info(channel.info()).clock(world.clock.clone());
        retry(&world.clock).layer(TimeoutLayer(limit.wrap(channel), world.gateways.clone()))
    });
    let report = send(&world, &failover(members, &world.clock), AT_ONCE, OnUnknown::Reconcile).await;
    let twice = world.copies().values().filter(|copies| **copies > 1).count();
    println!("with a time-out among the layers: {} broken promises, {twice} messages twice", report.broken.len());
    assert!(twice > 0 && report.broken.len() >= twice, "it was not found out");
}
