//! Faults that were found and mended, each as the case that showed it.
use bytes::Bytes;
use civic_messaging::capability::*;
use civic_messaging::clock::*;
use civic_messaging::layer::breaker::Breaker;
use civic_messaging::layer::failover::{Attempted, Order, Selector};
use civic_messaging::layer::rate_limit::Limiter;
use civic_messaging::layer::{Failover, Layer, RateLimit, Retry, Stack};
use civic_messaging::lookup::*;
use civic_messaging::rate::*;
use civic_messaging::webhook::{Received, Request};
use civic_messaging::*;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{clock, person};

fn dynamic(mock: &Mock) -> Arc<dyn Channel> {
    Arc::new(mock.clone())
}
type Send1 = std::pin::Pin<Box<dyn Future<Output = Result<Accepted>>>>;
fn text(sms: &Arc<dyn Channel>, n: u32) -> Send1 {
    let (sms, to) = (sms.clone(), person(n));
    Box::pin(async move { sms.send_text(&to, "Hello").await })
}
fn refuse(limiter: &mut Limiter, to: &Address, error: &Error, now: Duration) {
    let mut again = Error::new(error.kind(), "no")
        .with_outcome(error.outcome())
        .with_accepted_parts(error.accepted_parts().to_vec());
    again = again
        .with_retry(error.kind() == ErrorKind::RateLimited || error.is_retryable(), error.retry_after())
        .with_pair(error.is_per_recipient());
    limiter.report(to, &Err(again), now, Timestamp::default());
}
fn accept(limiter: &mut Limiter, to: &Address, left: Option<(Quota, Timestamp, Duration)>) {
    let mut accepted = Accepted::new("a", "1", Bytes::new());
    let (today, now) = left.map_or_else(Default::default, |(_, today, now)| (today, now));
    accepted.allowance = left.map(|(left, ..)| left);
    limiter.report(to, &Ok(accepted), now, today);
}
fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}
fn fails(kind: ErrorKind) -> Error {
    Error::new(kind, "no").with_outcome(Outcome::Rejected)
}
fn resend() -> Message {
    Message::text(person(1), "Hello").on_unknown(OnUnknown::Resend)
}

/// `Retry` said "unknown" of it, and `Failover` carried on what was unknown.
#[test]
fn opt_out_after_unknown_stops_failover() {
    for kind in [ErrorKind::OptedOut, ErrorKind::InvalidRecipient] {
        let (clock, first, second) = (clock(), Mock::sms(), Mock::sms());
        first.will_fail(Error::unknown("no answer"));
        first.will_fail(fails(kind));
        let sms = Stack::new(first).failover_to(second.clone()).clock(clock.clone()).build().unwrap();
        let error = clock.run(sms.send(&resend()));
        second.assert_nothing_sent();
        assert_eq!(error.unwrap_err().outcome(), Outcome::Unknown);
    }
}

/// The same, by a `Retry` outside.
#[test]
fn opt_out_after_unknown_stops_outer_retry() {
    let (clock, first, second) = (clock(), Mock::sms(), Mock::sms());
    first.will_fail(Error::unknown("no answer"));
    second.will_fail(fails(ErrorKind::OptedOut));
    let members = [dynamic(&first), dynamic(&second)];
    let failover = Failover::new(members).unwrap().clock(clock.clone());
    let sms = Retry::new().clock(clock.clone()).layer(failover);
    _ = clock.run(sms.send(&resend()));
    assert_eq!((first.sent().len(), second.sent().len()), (1, 1));
}

#[derive(Debug)]
struct Named {
    info: Info,
    fails: Mutex<Option<Error>>,
    evidence: LookupOutcome,
}
fn named(gateway: &'static str, fails: Option<Error>, evidence: LookupOutcome) -> Named {
    let info = Info::new(gateway, Medium::Sms, "desk").with_capability(|can| {
        can.text = Some(TextLimit::characters(1000));
        can.look_up = true;
        can.receive = true;
    });
    Named { info, fails: Mutex::new(fails), evidence }
}
#[async_trait]
impl Channel for Named {
    fn info(&self) -> &Info {
        &self.info
    }
    async fn send(&self, _: &Message) -> Result<Accepted> {
        match self.fails.lock().unwrap().take() {
            Some(e) => Err(e.with_gateway(self.info.gateway)),
            None => Ok(Accepted::new(self.info.gateway, "1", Bytes::new())),
        }
    }
    async fn receive(&self, _: &Request) -> Result<Received> {
        Err(Error::unsupported("no"))
    }
    async fn look_up(&self, _: &LookupQuery) -> Result<LookupOutcome> {
        Ok(self.evidence.clone())
    }
}

/// The doubt is of the first gateway, the error names the second; look_up by it is "conclusively absent".
#[test]
fn unknown_error_names_the_gateway_that_may_have_accepted() {
    let clock = clock();
    let first = named("first", Some(Error::unknown("no answer")), LookupOutcome::Inconclusive);
    let second = named("second", Some(fails(ErrorKind::Account)), LookupOutcome::NotFound);
    let members = [Arc::new(first) as Arc<dyn Channel>, Arc::new(second)];
    let sms = Failover::new(members).unwrap().clock(clock.clone());
    let error = clock.run(sms.send(&resend())).unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
    // As the documentation says: keep it for `LookupQuery::by`.
    let mut sent = LookupQuery::new(resend(), clock.now());
    if let Some(gateway) = error.gateway() {
        sent = sent.gateway(gateway);
    }
    let found = clock.run(sms.look_up(&sent)).unwrap();
    assert_ne!(found, LookupOutcome::NotFound, "first may have it");
}

/// Two numbers of one Meta app, each a supplier: the first verifies with the app's secret, discards what is the
/// second's, and answers 200.
#[test]
fn webhook_of_second_number_of_one_app_is_kept() {
    use hmac::{Hmac, KeyInit, Mac};
    const SECRET: &str = "test_app_secret";
    let number = |id: &str| -> Arc<dyn Channel> {
        let config = meta::Config::new("EAAG-test-token", id).unwrap().app_secret(SECRET).unwrap();
        Arc::new(Meta::whatsapp_with(config, &Context::new()).unwrap())
    };
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/whatsapp/inbound")).unwrap();
    let mut asked = 0;
    for file in files {
        let file = file.unwrap().path();
        let Ok(body) = std::fs::read_to_string(&file) else { continue };
        if !body.contains("200000000000001") {
            continue;
        }
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(body.as_bytes());
        let sign = mac.finalize().into_bytes().iter().fold("sha256=".to_owned(), |s, b| format!("{s}{b:02x}"));
        let request: Request =
            http::Request::post("/").header("X-Hub-Signature-256", sign).body(Bytes::from(body)).unwrap().into();
        let clock = clock();
        let own = number("200000000000001");
        let Ok(alone) = clock.run(own.receive(&request)) else { continue };
        if alone.events.is_empty() {
            continue;
        }
        asked += 1;
        let wa = Failover::new([number("200000000000002"), own]).unwrap();
        let received = clock.run(wa.receive(&request)).unwrap();
        assert_eq!(
            received.events.len(),
            alone.events.len(),
            "{file:?}: HTTP {}, {} discarded",
            received.response.status,
            received.discarded_events()
        );
    }
    assert!(asked > 0);
}

/// Callers who give up after five seconds: where a turn is 10.2 s apart, none of them is ever sent.
#[test]
fn dropped_send_returns_its_slot() {
    use futures_util::FutureExt;
    let (clock, mock) = (clock(), Mock::sms());
    let limit = RateLimit::new().rate(Rate::every_seconds(10)).clock(clock.clone());
    let sms = limit.layer(mock.clone());
    clock.run(sms.send_text(&person(0), "Hello")).unwrap();
    for n in 1..100 {
        let mut send = text(&sms, n);
        if send.as_mut().now_or_never().is_some() {
            clock.advance(secs(5));
            continue;
        }
        clock.advance(secs(5));
        _ = send.as_mut().now_or_never();
    }
    // 495 s: there was room for 48.
    assert!(mock.sent().len() > 10, "{} were sent in {:?}", mock.sent().len(), clock.monotonic());
}

/// The same with a window that the gateway told: the next window is eaten up by nobody.
#[test]
fn dropped_send_uses_no_quota() {
    use futures_util::FutureExt;
    let clock = clock();
    let gate = windowed(&clock, 3, 0);
    let limit = RateLimit::new().clock(clock.clone());
    let sms = limit.layer(gate);
    for n in 0..3 {
        clock.run(sms.send_text(&person(n), "Hello")).unwrap();
    }
    clock.advance(secs(850));
    for n in 0..3 {
        let mut send = text(&sms, n);
        assert!(send.as_mut().now_or_never().is_none());
    }
    clock.advance(secs(60));
    clock.run(sms.send_text(&person(9), "Hello")).unwrap();
}

#[derive(Debug)]
struct Windowed {
    info: Info,
    clock: VirtualClock,
    limit: u64,
    state: Mutex<(Duration, u64, Vec<String>)>,
}
fn windowed(clock: &VirtualClock, limit: u64, began_ago: u64) -> Windowed {
    clock.advance(secs(10_000));
    let info =
        Info::new("gate", Medium::Sms, "desk").with_capability(|can| can.text = Some(TextLimit::characters(1_000)));
    let state = Mutex::new((clock.monotonic() - secs(began_ago), 0, Vec::new()));
    Windowed { info, clock: clock.clone(), limit, state }
}
const WINDOW: Duration = Duration::from_secs(900);
#[async_trait]
impl Channel for Windowed {
    fn info(&self) -> &Info {
        &self.info
    }
    async fn send(&self, _: &Message) -> Result<Accepted> {
        self.clock.sleep(Duration::from_millis(30)).await;
        let now = self.clock.monotonic();
        let mut state = self.state.lock().unwrap();
        if now >= state.0 + WINDOW {
            state.0 = now;
            state.1 = 0;
        }
        state.1 += 1;
        if state.1 > self.limit {
            let said = format!("{} of {} at {now:?}", state.1, self.limit);
            state.2.push(said);
            let wait = state.0 + WINDOW - now;
            return Err(Error::new(ErrorKind::RateLimited, "no")
                .with_outcome(Outcome::Rejected)
                .with_retry(true, Some(wait)));
        }
        let reset = self.clock.now().plus(state.0 + WINDOW - now);
        let mut accepted = Accepted::new("gate", "1", Bytes::new());
        accepted.allowance = Some(Quota::new(self.limit - state.1).of(self.limit).until(reset));
        Ok(accepted)
    }
    async fn receive(&self, _: &Request) -> Result<Received> {
        Err(Error::unsupported("no"))
    }
}
async fn all<F: Future<Output = ()>>(futures: impl IntoIterator<Item = F>) {
    use futures_util::StreamExt;
    futures_util::stream::FuturesUnordered::from_iter(futures).collect::<()>().await;
}

/// The next window was taken to be as short as what was left of this one.
#[test]
fn quota_learnt_mid_window_keeps_the_limit() {
    for (began, longest, apart) in [(860, 60, 0), (600, 3600, 2)] {
        let clock = clock();
        let gate = Arc::new(windowed(&clock, 15, began));
        let limit = RateLimit::new().max_wait(secs(longest)).clock(clock.clone());
        let sms = limit.layer(gate.clone());
        clock.run(sms.send_text(&person(0), "Hello")).unwrap();
        if apart == 0 {
            clock.advance(secs(25));
        }
        // All at once, or one every two seconds as somebody writes them.
        let send = |n: u32| {
            let (sms, clock) = (sms.clone(), clock.clone());
            async move {
                clock.sleep(secs(apart) * n).await;
                drop(sms.send_text(&person(n), "Hello").await);
            }
        };
        clock.run(all((0..60).map(send)));
        let violations = gate.state.lock().unwrap().2.clone();
        assert!(violations.is_empty(), "began {began} s ago: {violations:?}");
    }
}

/// One person's place past the window's end starts the next window, and everybody waits for it.
#[test]
fn slot_of_one_recipient_past_window_delays_nobody_else() {
    let mut limiter = Limiter::new(None, Some(Rate::every_seconds(60).into()));
    let today = Timestamp::from_secs(1_000_000);
    let (ann, bob) = (person(1), person(2));
    limiter.try_acquire(&ann, secs(0)).unwrap();
    accept(&mut limiter, &ann, Some((Quota::new(10).of(15).until(today.plus(secs(10))), today, secs(0))));
    drop((limiter, bob));
    let clock = clock();
    let gate = windowed(&clock, 15, 890);
    let limit = RateLimit::new().pair_rate(Rate::every_seconds(50)).clock(clock.clone());
    let sms = limit.layer(gate);
    clock.run(async {
        sms.send_text(&ann, "One").await.unwrap();
        let begun = clock.monotonic();
        let (second, other) = (sms.send_text(&ann, "Two"), async {
            sms.send_text(&person(2), "Hello").await.unwrap();
            clock.monotonic() - begun
        });
        let (second, took) = futures_util::join!(second, other);
        second.unwrap();
        assert!(took < secs(1), "somebody else waited {took:?}, with 14 of 15 left");
    });
}

/// `with_order` threw the breaker away.
#[test]
fn order_set_after_breaker_keeps_the_breaker() {
    let clock = clock();
    let (first, second) = (Mock::sms(), Mock::sms());
    (0..2).for_each(|_| first.will_fail(Error::new(ErrorKind::Unavailable, "down")));
    let bold = Breaker::new().threshold(1, secs(60)).unwrap();
    let sms = Failover::new([dynamic(&first), dynamic(&second)]).unwrap().breaker(&bold);
    let sms = sms.order(Order::Preferred).unwrap().clock(clock.clone());
    for _ in 0..2 {
        clock.run(sms.send_text(&person(1), "Hello")).unwrap();
    }
    assert_eq!(first.sent().len(), 1);
}

/// A message whose own end is near makes the whole account rest.
#[test]
fn expiring_message_does_not_open_the_breaker() {
    let clock = clock();
    let (first, second) = (Mock::sms().clock(clock.clone()), Mock::sms().clock(clock.clone()));
    let limit = RateLimit::new().rate(Rate::every_seconds(10)).clock(clock.clone());
    let members = [limit.layer(first.clone()), dynamic(&second)];
    let sms = Failover::new(members).unwrap().clock(clock.clone());
    clock.run(sms.send_text(&person(1), "One")).unwrap();
    let soon = Message::text(person(2), "Two").not_after(clock.now().plus(secs(1)));
    clock.run(sms.send(&soon)).unwrap();
    clock.run(sms.send_text(&person(3), "Three")).unwrap();
    assert_eq!((first.sent().len(), second.sent().len()), (2, 1));
}

/// It paused nothing.
#[test]
fn throttle_after_partial_acceptance_pauses() {
    let mut limiter = Limiter::new(None, None);
    let busy =
        Error::new(ErrorKind::RateLimited, "no").with_outcome(Outcome::Rejected).with_retry(true, Some(secs(30)));
    refuse(&mut limiter, &person(1), &busy.with_accepted_parts(vec![MessageId::new("SM1")]), secs(0));
    assert!(limiter.try_acquire(&person(2), secs(1)).is_err());
}

/// Others left at once.
#[test]
fn retry_after_of_a_503_pauses_the_account() {
    let (clock, mock) = (clock(), Mock::sms());
    mock.will_fail(Error::unknown("503").with_retry(true, Some(secs(30))));
    let sms = Stack::new(mock.clone()).clock(clock.clone()).build().unwrap();
    clock.run(sms.send_text(&person(1), "Hello")).unwrap_err();
    let begun = clock.monotonic();
    clock.run(sms.send_text(&person(2), "Hello")).unwrap();
    assert!(clock.monotonic() - begun >= secs(30));
}

/// One in the wrong unit shut the account for good.
#[test]
fn implausible_quota_reset_does_not_block_the_account() {
    let mut limiter = Limiter::new(None, None);
    let today = Timestamp::from_secs(1_795_000_000);
    // Milliseconds where seconds are meant.
    let reset = Timestamp::from_secs(1_795_000_900_000);
    accept(&mut limiter, &person(1), Some((Quota::new(0).of(15).until(reset), today, secs(0))));
    assert!(limiter.try_acquire(&person(1), secs(7 * 86_400)).is_ok());
}

/// A member that was told an endless wait rests for good.
#[test]
fn breaker_is_never_open_for_ever() {
    let mut choice = Selector::new(2, Order::Preferred).unwrap();
    let busy = fails(ErrorKind::QuotaExceeded).with_retry(true, Some(Duration::MAX));
    _ = choice.report(0, &Err(busy), secs(0));
    assert_eq!(choice.pick(&mut Attempted::default(), secs(365 * 86_400), 0), Some(0));
}

/// Times overflowed.
#[test]
fn endless_waits_do_not_panic() {
    let (clock, mock) = (clock(), Mock::sms());
    mock.will_fail(fails(ErrorKind::RateLimited).with_retry(true, Some(Duration::MAX)));
    let limit = RateLimit::new().rate(Rate::per_second(1)).max_wait(Duration::MAX).clock(clock.clone());
    let sms = limit.layer(mock);
    _ = clock.run(sms.send_text(&person(1), "Hello"));
    use futures_util::FutureExt;
    _ = Box::pin(sms.send_text(&person(1), "Hello")).now_or_never();
}

/// It had the larger one.
#[test]
fn pair_rate_intersection_has_the_smaller_burst() {
    let can = |burst| {
        Info::new("a", Medium::Sms, "a")
            .with_capability(|can| can.pair_rate = Some(Rate::every_seconds(6).with_burst(burst)))
            .capability
    };
    assert_eq!(can(1).intersection(&can(45)).pair_rate.unwrap().burst(), 1);
    assert_eq!(can(1).intersection(&can(45)), can(45).intersection(&can(1)));
}

/// Not in a later table.
#[test]
fn account_rate_may_be_set_in_any_table() {
    let registry = Registry::empty().register("one", |_, _| Ok(Arc::new(Mock::sms())));
    let json = r#"{
        "bins": {"suppliers":[{"gateway":"one"}]},
        "tax": {"suppliers":[{"gateway":"one","rate":{"count":1,"seconds":10}}]}
    }"#;
    let context = Context::new().clock(clock());
    registry.connect_all(&Settings::from_json(json).unwrap(), &context).unwrap();
}
#[test]
fn media_of_one_number_have_separate_rates() {
    let registry = Registry::empty()
        .register("sms", |_, _| Ok(Arc::new(Mock::sms())))
        .register("wa", |_, _| Ok(Arc::new(Mock::whatsapp())));
    let json = r#"{
        "bins": {"suppliers":[{"gateway":"sms","rate":{"count":1,"seconds":10}}]},
        "chat": {"suppliers":[{"gateway":"wa","rate":{"count":80,"seconds":1}}]}
    }"#;
    let context = Context::new().clock(clock());
    registry.connect_all(&Settings::from_json(json).unwrap(), &context).unwrap();
}

/// A template that is known by a supplier's own id is refused by the failover.
#[test]
fn failover_capability_agrees_with_its_check() {
    let (first, second) = (Mock::whatsapp(), Mock::whatsapp());
    let file = first.holds("image/png", &b"png"[..]);
    let wa = Failover::new([dynamic(&first), dynamic(&second)]).unwrap();
    drop(file);
    assert!(!wa.info().capability.media.as_ref().unwrap().gateway, "a file of any gateway is refused by check()");
}

/// Health of one that is down hides the others.
#[test]
fn health_reports_other_members_if_one_fails() {
    let (clock, first) = (clock(), Mock::sms());
    let second = named("second", None, LookupOutcome::Inconclusive);
    let members = [Arc::new(second) as Arc<dyn Channel>, dynamic(&first)];
    let sms = Failover::new(members).unwrap();
    assert!(clock.run(sms.health()).is_ok());
}

/// The least that a resting member's success shows: it is well.
#[test]
fn last_resort_success_closes_its_breaker() {
    let mut choice = Selector::new(2, Order::Preferred).unwrap();
    let down: Result<Accepted> = Err(Error::new(ErrorKind::Unavailable, "down"));
    for member in [0, 1] {
        for _ in 0..5 {
            _ = choice.report(member, &down, secs(0));
        }
    }
    assert_eq!(choice.pick(&mut Attempted::default(), secs(1), 0), Some(0));
    _ = choice.report(0, &Ok(Accepted::new("a", "1", Bytes::new())), secs(1));
    // The second one's rest is over first, or a probe of it: the first is known to work.
    assert_eq!(choice.pick(&mut Attempted::default(), secs(2), 0), Some(0));
    let mut tried = Attempted::default();
    assert_eq!((choice.pick(&mut tried, secs(2), 0), choice.pick(&mut tried, secs(2), 0)), (Some(0), None));
}
/// A refused message at a bare failover of one supplier's two accounts: the last resort asks before Retry-After.
#[test]
fn last_resort_waits_for_its_retry_after() {
    let (clock, first, second) = (clock(), Mock::sms(), Mock::sms());
    for mock in [&first, &second] {
        mock.will_fail(fails(ErrorKind::RateLimited).with_retry(true, Some(secs(600))));
    }
    let sms = Failover::new([dynamic(&first), dynamic(&second)]).unwrap().clock(clock.clone());
    _ = clock.run(sms.send_text(&person(1), "Hello"));
    _ = clock.run(sms.send_text(&person(2), "Hello"));
    assert_eq!(first.sent().len() + second.sent().len(), 2, "asked at {:?}", clock.monotonic());
}

/// "A person's share of marketing is used up; trying again within 24 hours makes it longer" (Meta, 131049).
#[test]
fn per_recipient_quota_does_not_fail_over() {
    let (clock, first, second) = (clock(), Mock::whatsapp(), Mock::whatsapp());
    first.will_fail(fails(ErrorKind::QuotaExceeded).with_retry(false, None).with_pair(true).with_code("131049"));
    let wa = Stack::new(first).failover_to(second.clone()).clock(clock.clone()).build().unwrap();
    _ = clock.run(wa.send_text(&person(1), "Offer"));
    second.assert_nothing_sent();
}
