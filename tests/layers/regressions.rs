//! Regression tests: each reproduces a fault that was fixed.
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

use super::each::{accept, dynamic, refuse, rejected, resend, secs, send_hello};
use super::support::signed_by_meta;
use super::{all, clock, person};

/// `Retry` reported an unknown outcome, and `Failover` moved on after it.
#[test]
fn opt_out_after_unknown_stops_failover() {
    for kind in [ErrorKind::OptedOut, ErrorKind::InvalidRecipient] {
        let (clock, first, second) = (clock(), Mock::sms(), Mock::sms());
        first.will_fail(Error::unknown("no answer"));
        first.will_fail(rejected(kind));
        let sms =
            Stack::new(first).failover_to(second.clone()).clock(clock.clone()).random(super::random()).build().unwrap();
        let error = clock.run(sms.send(&resend()));
        second.assert_nothing_sent();
        assert_eq!(error.unwrap_err().outcome(), Outcome::Unknown);
    }
}

/// The same with an outer `Retry`.
#[test]
fn opt_out_after_unknown_stops_outer_retry() {
    let (clock, first, second) = (clock(), Mock::sms(), Mock::sms());
    first.will_fail(Error::unknown("no answer"));
    second.will_fail(rejected(ErrorKind::OptedOut));
    let members = [dynamic(&first), dynamic(&second)];
    let failover = Failover::new(members).unwrap().clock(clock.clone());
    let sms = Retry::new().clock(clock.clone()).random(super::random()).layer(failover);
    _ = clock.run(sms.send(&resend()));
    assert_eq!((first.sent().len(), second.sent().len()), (1, 1));
}

#[derive(Debug)]
struct Named {
    info: Info,
    fails: Mutex<Option<Error>>,
    lookup: LookupOutcome,
}
fn named(gateway: &'static str, fails: Option<Error>, lookup: LookupOutcome) -> Named {
    let info = Info::new(gateway, Medium::Sms, "desk").with_capability(|can| {
        can.text = Some(TextLimit::characters(1000));
        can.look_up = true;
        can.receive = true;
    });
    Named { info, fails: Mutex::new(fails), lookup }
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
        Ok(self.lookup.clone())
    }
}

/// The first gateway had the unknown outcome, but the error named the second, which reports `NotFound`.
#[test]
fn unknown_error_names_the_gateway_that_may_have_accepted() {
    let clock = clock();
    let first = named("first", Some(Error::unknown("no answer")), LookupOutcome::Inconclusive);
    let second = named("second", Some(rejected(ErrorKind::Account)), LookupOutcome::NotFound);
    let members = [Arc::new(first) as Arc<dyn Channel>, Arc::new(second)];
    let sms = Failover::new(members).unwrap().clock(clock.clone());
    let error = clock.run(sms.send(&resend())).unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
    // As documented: pass the gateway of the error to `LookupQuery::gateway`.
    let mut sent = LookupQuery::new(resend(), clock.now());
    if let Some(gateway) = error.gateway() {
        sent = sent.gateway(gateway);
    }
    let found = clock.run(sms.look_up(&sent)).unwrap();
    assert_ne!(found, LookupOutcome::NotFound, "first may have it");
}

/// Two numbers of one Meta app as suppliers: the first verified with the app secret, discarded the events of the
/// second, and answered 200.
#[test]
fn webhook_of_second_number_of_one_app_is_kept() {
    const SECRET: &str = "test_app_secret";
    let number = |id: &str| -> Arc<dyn Channel> {
        let config = meta::Config::new("EAAG-test-token", id).unwrap().app_secret(SECRET).unwrap();
        Arc::new(Meta::whatsapp_with(config, &Context::new()).unwrap())
    };
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/whatsapp/inbound")).unwrap();
    let mut count = 0;
    for file in files {
        let file = file.unwrap().path();
        let Ok(body) = std::fs::read_to_string(&file) else { continue };
        if !body.contains("200000000000001") {
            continue;
        }
        let request = signed_by_meta(SECRET, body);
        let clock = clock();
        let own = number("200000000000001");
        let Ok(alone) = clock.run(own.receive(&request)) else { continue };
        if alone.events.is_empty() {
            continue;
        }
        count += 1;
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
    assert!(count > 0);
}

/// Callers drop the send after five seconds while turns are 10.2 s apart: no message was ever sent.
#[test]
fn dropped_send_returns_its_slot() {
    use futures_util::FutureExt;
    let (clock, mock) = (clock(), Mock::sms());
    let limit = RateLimit::new().rate(Rate::every_seconds(10)).clock(clock.clone());
    let sms = limit.layer(mock.clone());
    clock.run(sms.send_text(&person(0), "Hello")).unwrap();
    for n in 1..100 {
        let mut send = send_hello(&sms, n);
        if send.as_mut().now_or_never().is_some() {
            clock.advance(secs(5));
            continue;
        }
        clock.advance(secs(5));
        _ = send.as_mut().now_or_never();
    }
    // 495 s have room for 48.
    assert!(mock.sent().len() > 10, "{} were sent in {:?}", mock.sent().len(), clock.monotonic());
}

/// The same with a reported quota: dropped sends must not use up the next window.
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
        let mut send = send_hello(&sms, n);
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
            let violation = format!("{} of {} at {now:?}", state.1, self.limit);
            state.2.push(violation);
            let wait = state.0 + WINDOW - now;
            return Err(Error::new(ErrorKind::RateLimited, "no")
                .with_outcome(Outcome::Rejected)
                .with_retry(true, Some(wait)));
        }
        let reset = self.clock.now().plus(state.0 + WINDOW - now);
        let mut accepted = Accepted::new("gate", "1", Bytes::new());
        accepted.quota = Some(Quota::new(self.limit - state.1).limit(self.limit).until(reset));
        Ok(accepted)
    }
    async fn receive(&self, _: &Request) -> Result<Received> {
        Err(Error::unsupported("no"))
    }
}

/// The limiter took the remainder of this window for the length of the next one.
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
        // All at once, or one every two seconds.
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

/// A slot of one recipient past the window's end started the next window, and every send waited for it.
#[test]
fn slot_of_one_recipient_past_window_delays_nobody_else() {
    let mut limiter = Limiter::new(None, Some(Rate::every_seconds(60).into()));
    let today = Timestamp::from_secs(1_000_000);
    let (ann, bob) = (person(1), person(2));
    limiter.try_acquire(&ann, secs(0)).unwrap();
    accept(&mut limiter, &ann, Some((Quota::new(10).limit(15).until(today.plus(secs(10))), today, secs(0))));
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

/// Setting the order discarded the breaker.
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

/// A message close to its expiry opened the breaker of the account.
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

/// A rate-limit error after a partial acceptance did not pause the account.
#[test]
fn throttle_after_partial_acceptance_pauses() {
    let mut limiter = Limiter::new(None, None);
    let busy =
        Error::new(ErrorKind::RateLimited, "no").with_outcome(Outcome::Rejected).with_retry(true, Some(secs(30)));
    refuse(&mut limiter, &person(1), &busy.with_accepted_parts(vec![MessageId::new("SM1")]), secs(0));
    assert!(limiter.try_acquire(&person(2), secs(1)).is_err());
}

/// Other messages were sent during the retry-after.
#[test]
fn retry_after_of_a_503_pauses_the_account() {
    let (clock, mock) = (clock(), Mock::sms());
    mock.will_fail(Error::unknown("503").with_retry(true, Some(secs(30))));
    let sms = Stack::new(mock.clone()).clock(clock.clone()).random(super::random()).build().unwrap();
    clock.run(sms.send_text(&person(1), "Hello")).unwrap_err();
    let begun = clock.monotonic();
    clock.run(sms.send_text(&person(2), "Hello")).unwrap();
    assert!(clock.monotonic() - begun >= secs(30));
}

/// A reset in the wrong unit paused the account indefinitely.
#[test]
fn implausible_quota_reset_does_not_block_the_account() {
    let mut limiter = Limiter::new(None, None);
    let today = Timestamp::from_secs(1_795_000_000);
    // Milliseconds instead of seconds.
    let reset = Timestamp::from_secs(1_795_000_900_000);
    accept(&mut limiter, &person(1), Some((Quota::new(0).limit(15).until(reset), today, secs(0))));
    assert!(limiter.try_acquire(&person(1), secs(7 * 86_400)).is_ok());
}

/// An unbounded retry-after opened the breaker indefinitely.
#[test]
fn breaker_is_never_open_for_ever() {
    let mut choice = Selector::new(2, Order::Preferred).unwrap();
    let busy = rejected(ErrorKind::QuotaExceeded).with_retry(true, Some(Duration::MAX));
    _ = choice.report(0, &Err(busy), secs(0));
    assert_eq!(choice.pick(&mut Attempted::default(), secs(365 * 86_400), 0), Some(0));
}

/// `Duration::MAX` overflowed.
#[test]
fn endless_waits_do_not_panic() {
    let (clock, mock) = (clock(), Mock::sms());
    mock.will_fail(rejected(ErrorKind::RateLimited).with_retry(true, Some(Duration::MAX)));
    let limit = RateLimit::new().rate(Rate::per_second(1)).max_wait(Duration::MAX).clock(clock.clone());
    let sms = limit.layer(mock);
    _ = clock.run(sms.send_text(&person(1), "Hello"));
    use futures_util::FutureExt;
    _ = Box::pin(sms.send_text(&person(1), "Hello")).now_or_never();
}

/// The intersection had the larger burst.
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

/// A rate was ignored in a later table of the same account.
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

/// The capability offered gateway media, which `check` of a failover refuses.
#[test]
fn failover_capability_agrees_with_its_check() {
    let (first, second) = (Mock::whatsapp(), Mock::whatsapp());
    let file = first.add_file("image/png", &b"png"[..]);
    let wa = Failover::new([dynamic(&first), dynamic(&second)]).unwrap();
    drop(file);
    assert!(!wa.info().capability.media.as_ref().unwrap().gateway, "a file of any gateway is refused by check()");
}

/// An unavailable member hid the health of the others.
#[test]
fn health_reports_other_members_if_one_fails() {
    let (clock, first) = (clock(), Mock::sms());
    let second = named("second", None, LookupOutcome::Inconclusive);
    let members = [Arc::new(second) as Arc<dyn Channel>, dynamic(&first)];
    let sms = Failover::new(members).unwrap();
    assert!(clock.run(sms.health()).is_ok());
}

/// A success of the last resort did not close its breaker.
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
    // The second's breaker may close or probe first, but the first is known to work.
    assert_eq!(choice.pick(&mut Attempted::default(), secs(2), 0), Some(0));
    let mut tried = Attempted::default();
    assert_eq!((choice.pick(&mut tried, secs(2), 0), choice.pick(&mut tried, secs(2), 0)), (Some(0), None));
}
/// A failover of two accounts called its last resort before the retry-after.
#[test]
fn last_resort_waits_for_its_retry_after() {
    let (clock, first, second) = (clock(), Mock::sms(), Mock::sms());
    for mock in [&first, &second] {
        mock.will_fail(rejected(ErrorKind::RateLimited).with_retry(true, Some(secs(600))));
    }
    let sms = Failover::new([dynamic(&first), dynamic(&second)]).unwrap().clock(clock.clone());
    _ = clock.run(sms.send_text(&person(1), "Hello"));
    _ = clock.run(sms.send_text(&person(2), "Hello"));
    assert_eq!(first.sent().len() + second.sent().len(), 2, "asked at {:?}", clock.monotonic());
}

/// Meta's 131049: the marketing limit of one recipient; retrying within 24 hours extends it.
#[test]
fn per_recipient_quota_does_not_fail_over() {
    let (clock, first, second) = (clock(), Mock::whatsapp(), Mock::whatsapp());
    first.will_fail(
        rejected(ErrorKind::QuotaExceeded).with_retry(false, None).with_per_recipient(true).with_code("131049"),
    );
    let wa =
        Stack::new(first).failover_to(second.clone()).clock(clock.clone()).random(super::random()).build().unwrap();
    _ = clock.run(wa.send_text(&person(1), "Offer"));
    second.assert_nothing_sent();
}
