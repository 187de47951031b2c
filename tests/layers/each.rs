//! Unit tests of the layers, one documented property each.
use bytes::Bytes;
use civic_messaging::capability::*;
use civic_messaging::clock::*;
use civic_messaging::health::*;
use civic_messaging::layer::breaker::{Breaker, CallOutcome};
use civic_messaging::layer::failover::{Attempted, Order, Selector};
use civic_messaging::layer::rate_limit::Limiter;
use civic_messaging::layer::retry::{self, RetryBudget, Schedule};
use civic_messaging::layer::{CircuitBreaker, Failover, Layer, RateLimit, Retry, Stack};
use civic_messaging::lookup::*;
use civic_messaging::media::*;
use civic_messaging::message::*;
use civic_messaging::poll::*;
use civic_messaging::rate::*;
use civic_messaging::webhook::{Received, Request};
use civic_messaging::*;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{clock, person};

pub(super) type Sending = std::pin::Pin<Box<dyn Future<Output = Result<Accepted>>>>;

pub(super) fn dynamic(mock: &Mock) -> Arc<dyn Channel> {
    Arc::new(mock.clone())
}

pub(super) fn refuse(limiter: &mut Limiter, to: &Address, error: &Error, now: Duration) {
    let retryable = error.kind() == ErrorKind::RateLimited || error.is_retryable();
    let error = Error::new(error.kind(), "no")
        .with_outcome(error.outcome())
        .with_accepted_parts(error.accepted_parts().to_vec())
        .with_retry(retryable, error.retry_after())
        .with_per_recipient(error.is_per_recipient());
    limiter.report(to, &Err(error), now, Timestamp::default());
}

pub(super) fn accept(limiter: &mut Limiter, to: &Address, quota: Option<(Quota, Timestamp, Duration)>) {
    let mut accepted = Accepted::new("a", "1", Bytes::new());
    let (today, now) = quota.map_or_else(Default::default, |(_, today, now)| (today, now));
    accepted.quota = quota.map(|(quota, ..)| quota);
    limiter.report(to, &Ok(accepted), now, today);
}

pub(super) fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

pub(super) fn rejected(kind: ErrorKind) -> Error {
    Error::new(kind, "no").with_outcome(Outcome::Rejected)
}

pub(super) fn hello(n: u32) -> Message {
    Message::text(person(n), "Hello")
}

pub(super) fn resend() -> Message {
    hello(1).on_unknown(OnUnknown::Resend)
}

pub(super) fn send_hello(sms: &Arc<dyn Channel>, n: u32) -> Sending {
    let (sms, message) = (sms.clone(), hello(n));
    Box::pin(async move { sms.send(&message).await })
}

fn down() -> Error {
    Error::new(ErrorKind::Unavailable, "no connection could be made")
}

/// A channel with scripted results, which records its calls.
#[derive(Debug)]
struct Scripted {
    info: Info,
    send: Mutex<Vec<Error>>,
    receive: Option<ErrorKind>,
    lookup: Result<LookupOutcome, ErrorKind>,
    calls: Mutex<Vec<&'static str>>,
    fails: Mutex<u32>,
}
fn scripted(gateway: &'static str, account: &'static str) -> Scripted {
    let info = Info::new(gateway, Medium::Sms, account).with_capability(|can| {
        can.text = Some(TextLimit::characters(1_000));
        (can.receive, can.look_up, can.poll, can.health, can.fetch_media, can.native) =
            (true, true, true, true, true, true);
    });
    Scripted {
        info,
        send: Mutex::default(),
        receive: None,
        lookup: Ok(LookupOutcome::Inconclusive),
        calls: Mutex::default(),
        fails: Mutex::new(0),
    }
}
impl Scripted {
    fn note<T>(&self, what: &'static str, value: T) -> Result<T> {
        self.calls.lock().unwrap().push(what);
        let mut fails = self.fails.lock().unwrap();
        if *fails > 0 {
            *fails -= 1;
            return Err(down());
        }
        Ok(value)
    }
    fn calls(&self) -> Vec<&'static str> {
        self.calls.lock().unwrap().clone()
    }
}
#[async_trait]
impl Channel for Scripted {
    fn info(&self) -> &Info {
        &self.info
    }
    async fn send(&self, message: &Message) -> Result<Accepted> {
        self.info.prepare(message, Timestamp::default())?;
        self.calls.lock().unwrap().push("send");
        match self.send.lock().unwrap().pop() {
            Some(error) => Err(error.with_gateway(self.info.gateway)),
            None => Ok(Accepted::new(self.info.gateway, "1", Bytes::new())),
        }
    }
    async fn receive(&self, _: &Request) -> Result<Received> {
        match self.receive {
            Some(kind) => Err(Error::new(kind, self.info.gateway)),
            None => Ok(Received::new(Vec::new())),
        }
    }
    async fn poll(&self, _: Option<&Cursor>) -> Result<Page> {
        self.note("poll", Page::new(Vec::new(), None))
    }
    async fn look_up(&self, _: &LookupQuery) -> Result<LookupOutcome> {
        self.note("look_up", ())?;
        self.lookup.clone().map_err(|kind| Error::new(kind, "no"))
    }
    async fn fetch_media(&self, _: &MediaRef) -> Result<MediaStream> {
        self.note("fetch", MediaStream::from_bytes("image/png", Bytes::new()))
    }
    async fn send_indicator(&self, _: &Inbound, _: Indicator) -> Result<()> {
        self.note("signal", ())
    }
    async fn health(&self) -> Result<Health> {
        self.note("health", Health::default())
    }
}
fn failover<const N: usize>(members: [&Arc<Scripted>; N]) -> Failover {
    Failover::new(members.map(|member| member.clone() as Arc<dyn Channel>)).unwrap()
}

#[test]
fn retry_stays_unknown_after_an_unknown_attempt() {
    let (clock, mock) = (clock(), Mock::sms());
    let sms = Retry::new().clock(clock.clone()).random(super::random()).layer(mock.clone());
    mock.will_fail(Error::unknown("no answer"));
    mock.will_fail(rejected(ErrorKind::Account));
    let error = clock.run(sms.send(&resend())).unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::Unknown));
    mock.will_fail(down());
    mock.will_fail(rejected(ErrorKind::Account));
    assert_eq!(clock.run(sms.send(&resend())).unwrap_err().outcome(), Outcome::Rejected);
}

#[test]
fn retry_of_sends_ends_by_time_and_of_reads_by_attempts() {
    let (clock, mock) = (clock(), Mock::sms());
    let schedule = Schedule::new().attempts(100).unwrap().within(secs(5));
    let sms = Retry::new().schedule(schedule).clock(clock.clone()).random(super::random()).layer(mock.clone());
    (0..100).for_each(|_| mock.will_fail(rejected(ErrorKind::RateLimited).with_retry(true, Some(secs(2)))));
    let begun = clock.monotonic();
    clock.run(sms.send(&hello(1))).unwrap_err();
    assert!(clock.monotonic() - begun <= secs(5) && mock.sent().len() <= 3, "{}", mock.sent().len());
    let gate = Arc::new(scripted("a", "a"));
    *gate.fails.lock().unwrap() = 100;
    let sms = Retry::new()
        .schedule(Schedule::new().within(secs(3600)))
        .clock(clock.clone())
        .random(super::random())
        .layer(gate.clone());
    assert!(clock.run(sms.health()).is_err());
    assert_eq!(gate.calls().len(), 4);
}

#[test]
fn channels_of_one_retry_share_its_budget() {
    let (clock, mock) = (clock(), Mock::sms());
    let retry =
        Retry::new().budget(RetryBudget::new().share(0.0, 1).unwrap()).clock(clock.clone()).random(super::random());
    (0..10).for_each(|_| mock.will_fail(down()));
    for sms in [retry.layer(mock.clone()), retry.layer(mock.clone())] {
        _ = clock.run(sms.send(&hello(1)));
    }
    assert_eq!(mock.sent().len(), 3);
}

#[test]
fn reads_are_retried_and_writes_are_not() {
    let clock = clock();
    for what in ["poll", "look_up", "fetch", "health", "signal"] {
        let gate = Arc::new(scripted("a", "a"));
        *gate.fails.lock().unwrap() = 1;
        let sms = Retry::new().clock(clock.clone()).random(super::random()).layer(gate.clone());
        clock.run(async {
            let mock = Mock::whatsapp();
            let hook = mock.receive(&mock.arrives("+447700900123", "Hi")).await.unwrap();
            match what {
                "poll" => drop(sms.poll(None).await),
                "look_up" => drop(sms.look_up(&LookupQuery::new(hello(1), clock.now())).await),
                "fetch" => drop(sms.fetch_media(&mock.add_file("image/png", &b"1"[..])).await),
                "health" => drop(sms.health().await),
                _ => drop(sms.send_indicator(hook.events[0].as_inbound().unwrap(), Indicator::Read).await),
            }
        });
        assert_eq!(gate.calls().len(), if what == "signal" { 1 } else { 2 }, "{what}");
    }
}

#[test]
fn retry_stops_at_expiry_and_resends_on_request() {
    let (clock, mock) = (clock(), Mock::sms());
    let mock = mock.clock(clock.clone());
    let sms = Retry::new().clock(clock.clone()).random(super::random()).layer(mock.clone());
    mock.will_fail(rejected(ErrorKind::RateLimited).with_retry(true, Some(secs(9))));
    let error = clock.run(sms.send(&hello(1).not_after(clock.now().plus(secs(5))))).unwrap_err();
    assert_eq!((error.kind(), mock.sent().len()), (ErrorKind::RateLimited, 1));
    mock.will_fail(Error::unknown("no answer"));
    clock.run(sms.send(&resend())).unwrap();
    assert_eq!(mock.sent().len(), 3);
}

#[test]
fn retry_after_of_an_unknown_outcome_is_kept() {
    let busy = Error::unknown("503").with_retry(true, Some(secs(9)));
    let tried = retry::Attempts::new(1, Duration::ZERO);
    assert_eq!(Schedule::new().next(&busy, Some(&resend()), tried, Timestamp::default(), 0), Ok(secs(9)));
}

#[test]
fn limiter_keeps_pauses_and_pair_rates() {
    let busy =
        |kind, after: Option<u64>, pair| rejected(kind).with_retry(true, after.map(secs)).with_per_recipient(pair);
    // A daily quota pauses the account as well.
    let mut limiter = Limiter::new(None, None);
    refuse(&mut limiter, &person(1), &busy(ErrorKind::QuotaExceeded, Some(3600), false), secs(0));
    assert_eq!(limiter.try_acquire(&person(2), secs(0)), Err(secs(3600)));
    // A later, shorter retry-after does not shorten the pause.
    refuse(&mut limiter, &person(1), &busy(ErrorKind::RateLimited, Some(5), false), secs(1));
    assert_eq!(limiter.try_acquire(&person(2), secs(1)), Err(secs(3599)));
    // Repeated refusals after the stated wait: each pause is longer.
    let mut limiter = Limiter::new(None, None);
    let mut now = secs(0);
    for wait in [1, 4, 16] {
        refuse(&mut limiter, &person(1), &busy(ErrorKind::RateLimited, Some(1), false), now);
        assert_eq!(limiter.try_acquire(&person(1), now), Err(secs(wait)));
        now += secs(wait);
    }
    // The sweep keeps recipients with spent tokens and recipients that are paused.
    let mut limiter = Limiter::new(None, Some(Rate::every_seconds(60).into()));
    refuse(&mut limiter, &person(0), &busy(ErrorKind::RateLimited, Some(600), true), secs(0));
    for n in 1..5_000 {
        limiter.try_acquire(&person(n), Duration::from_micros(n.into())).unwrap();
    }
    assert!(limiter.try_acquire(&person(0), secs(1)).is_err());
    assert!((1..5_000).all(|n| limiter.try_acquire(&person(n), secs(1)).is_err()));
    // A window without a stated reset lasts a minute.
    let mut limiter = Limiter::new(None, None);
    accept(&mut limiter, &person(1), Some((Quota::new(0), Timestamp::default(), secs(0))));
    assert_eq!(limiter.try_acquire(&person(1), secs(0)), Err(secs(60)));
    // The burst ends exactly at the end of the interval.
    let mut limiter = Limiter::new(None, Some(Rate::every_seconds(1).with_burst(3)));
    for _ in 0..2 {
        limiter.try_acquire(&person(1), secs(0)).unwrap();
    }
    assert!(limiter.try_acquire(&person(1), Duration::from_millis(1_020)).is_err());
    assert!(limiter.try_acquire(&person(1), Duration::from_millis(1_019)).is_ok());
}

#[test]
fn limiter_follows_reported_quotas() {
    let today = Timestamp::from_secs(1_000_000);
    let report = |limiter: &mut Limiter, left: u64, reset: f64, now: f64| {
        let at = |s: f64| Duration::from_secs_f64(s);
        accept(
            limiter,
            &person(1),
            Some((Quota::new(left).limit(3).until(today.plus(at(reset))), today.plus(at(now)), at(now))),
        );
    };
    let free =
        |limiter: &mut Limiter, now: u64| (0..9).filter(|_| limiter.try_acquire(&person(1), secs(now)).is_ok()).count();
    // The stated reset varies by a second from response to response.
    let mut limiter = Limiter::new(None, None);
    report(&mut limiter, 1, 900.0, 0.0);
    report(&mut limiter, 2, 901.0, 0.0);
    assert_eq!(free(&mut limiter, 1), 1);
}

#[test]
fn late_quota_report_leaves_the_next_window_unchanged() {
    let clock = clock();
    clock.advance(secs(10_000));
    let gate = Arc::new(Answering { info: scripted("a", "a").info, clock: clock.clone(), next: Mutex::default() });
    let limit = RateLimit::new().max_wait(secs(3600)).clock(clock.clone());
    let sms = limit.layer(gate.clone());
    let reset = clock.now().plus(secs(100));
    let later = |left, wait| (secs(wait), Quota::new(left).limit(3).until(reset));
    // Three sends of this window; the second response comes last, once the next window has bookings.
    gate.next.lock().unwrap().extend([later(0, 1), later(1, 50), later(2, 1)]);
    clock.run(async {
        sms.send(&hello(0)).await.unwrap();
        let (mut slow, mut quick) = (send_hello(&sms, 1), send_hello(&sms, 2));
        assert!(futures_util::poll!(slow.as_mut()).is_pending());
        assert!(futures_util::poll!(quick.as_mut()).is_pending());
        quick.await.unwrap();
        let mut waiting: Vec<_> = (3..6).map(|n| send_hello(&sms, n)).collect();
        for one in &mut waiting {
            assert!(futures_util::poll!(one.as_mut()).is_pending());
        }
        slow.await.unwrap();
        // The next window is full, so the fourth send falls into the one after it.
        let error = sms.send(&hello(7).not_after(clock.now().plus(secs(120)))).await.map(|_| clock.monotonic());
        assert!(error.is_err(), "{error:?}");
    });
}
#[derive(Debug)]
struct Answering {
    info: Info,
    clock: VirtualClock,
    next: Mutex<Vec<(Duration, Quota)>>,
}
#[async_trait]
impl Channel for Answering {
    fn info(&self) -> &Info {
        &self.info
    }
    async fn send(&self, _: &Message) -> Result<Accepted> {
        let next = self.next.lock().unwrap().pop();
        let mut accepted = Accepted::new("a", "1", Bytes::new());
        if let Some((wait, left)) = next {
            self.clock.sleep(wait).await;
            accepted.quota = Some(left);
        }
        Ok(accepted)
    }
    async fn receive(&self, _: &Request) -> Result<Received> {
        Err(Error::unsupported("no"))
    }
}

#[test]
fn late_turn_error_states_its_scope() {
    let clock = clock();
    let limit = RateLimit::new().rate(Rate::every_seconds(10)).pair_rate(Rate::every_seconds(40)).clock(clock.clone());
    let sms = limit.max_wait(Duration::from_millis(10_200)).layer(Mock::sms());
    clock.run(async {
        sms.send(&hello(1)).await.unwrap();
        let of_pair = sms.send(&hello(1)).await.unwrap_err();
        assert!(of_pair.is_per_recipient() && of_pair.gateway() == Some("mock"));
        assert_eq!(of_pair.retry_after(), Some(Duration::from_millis(40_800)));
        // A turn exactly at the limit is not late.
        let mut second = send_hello(&sms, 2);
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        let of_all = sms.send(&hello(3)).await.unwrap_err();
        assert!(!of_all.is_per_recipient());
        second.await.unwrap();
        // The account is the bottleneck: the recipient's own turn would come sooner.
        clock.sleep(secs(30)).await;
        let sms = sms.clone();
        let mut third = send_hello(&sms, 3);
        assert!(futures_util::poll!(third.as_mut()).is_ready());
        let known = sms.send(&hello(1).not_after(clock.now().plus(secs(1)))).await.unwrap_err();
        assert!(!known.is_per_recipient(), "{known:?}");
    });
}

#[test]
fn invalid_message_takes_no_turn() {
    let clock = clock();
    let (rate, pair) = (Rate::every_seconds(10), Rate::every_seconds(40));
    let limit = || RateLimit::new().clock(clock.clone()).max_wait(Duration::ZERO);
    for limit in [limit().rate(rate).pair_rate(pair), limit().pair_rate(pair).rate(rate)] {
        let sms = limit.layer(Mock::sms());
        clock.run(async {
            assert_eq!(sms.send(&Message::text(person(1), "")).await.unwrap_err().kind(), ErrorKind::InvalidMessage);
            sms.send(&hello(1)).await.unwrap();
            assert!(sms.send(&hello(2)).await.is_err());
            clock.sleep(secs(11)).await;
            assert!(sms.send(&hello(1)).await.is_err() && sms.send(&hello(2)).await.is_ok());
        });
    }
}

#[test]
fn failover_eligibility_matches_its_table() {
    use ErrorKind::*;
    for (kinds, could) in [
        (
            &[
                Account,
                QuotaExceeded,
                RateLimited,
                Config,
                Forbidden,
                Unauthenticated,
                NotFound,
                Unavailable,
                Unsupported,
            ][..],
            true,
        ),
        (&[OptedOut, InvalidRecipient, InvalidMessage, TooLarge, OutsideWindow, Rejected, Unexpected][..], false),
    ] {
        for kind in kinds {
            assert_eq!(kind.is_failover_eligible(), could, "{kind:?}");
            for outcome in [Outcome::NotSent, Outcome::Rejected] {
                assert_eq!(
                    Selector::can_fail_over(&Error::new(*kind, "no").with_outcome(outcome), &hello(1)),
                    could,
                    "{kind:?}"
                );
            }
        }
    }
}

#[test]
fn refused_account_opens_for_a_minute_and_is_skipped() {
    for kind in [ErrorKind::Account, ErrorKind::QuotaExceeded, ErrorKind::RateLimited, ErrorKind::Unauthenticated] {
        let mut choice = Selector::new(2, Order::Preferred).unwrap();
        _ = choice.report(0, &Err(rejected(kind)), secs(0));
        assert_eq!(choice.pick(&mut Attempted::default(), secs(59), 0), Some(1), "{kind:?}");
        assert_eq!(choice.pick(&mut Attempted::default(), secs(60), 0), Some(0), "{kind:?}");
    }
    let mut turns = Selector::new(3, Order::RoundRobin).unwrap();
    _ = turns.report(0, &Err(rejected(ErrorKind::Account)), secs(0));
    let firsts: Vec<_> = (0..4).map(|_| turns.pick(&mut Attempted::default(), secs(1), 0).unwrap()).collect();
    assert_eq!(firsts, [1, 2, 1, 2]);
}

#[test]
fn breaker_faults_match_their_table() {
    let of = |kind, outcome| CallOutcome::from_result(&Err(Error::new(kind, "no").with_outcome(outcome)));
    assert_eq!(of(ErrorKind::Unavailable, Outcome::Rejected), CallOutcome::Failure);
    assert_eq!(of(ErrorKind::RateLimited, Outcome::Unknown), CallOutcome::Success);
    assert_eq!(Breaker::new().threshold(1, Duration::ZERO).unwrap_err().field(), Some("open_for"));
}

#[test]
fn breaker_is_shared_and_closes_after_a_success() {
    let (clock, mock) = (clock(), Mock::sms());
    let circuit = CircuitBreaker::from_breaker(Breaker::new().threshold(2, secs(10)).unwrap()).clock(clock.clone());
    let (one, two) = (circuit.layer(mock.clone()), circuit.layer(Slow(mock.clone(), clock.clone())));
    (0..2).for_each(|_| mock.will_fail(Error::unknown("no answer")));
    // One fault takes a minute: `open_for` counts from its end and applies to both channels.
    clock.run(one.send(&hello(1))).unwrap_err();
    clock.run(two.send(&hello(1))).unwrap_err();
    for sms in [&one, &two] {
        let left = clock.run(sms.send(&hello(1))).unwrap_err();
        assert_eq!(
            (left.kind(), left.outcome(), left.gateway()),
            (ErrorKind::Unavailable, Outcome::NotSent, Some("mock"))
        );
        assert!(left.is_retryable());
        assert_eq!(left.retry_after(), Some(secs(10)));
    }
    assert_eq!(mock.sent().len(), 2);
    clock.advance(secs(10));
    clock.run(one.send(&hello(1))).unwrap();
    clock.run(two.send(&hello(1))).unwrap();
}
#[derive(Debug)]
struct Slow(Mock, VirtualClock);
#[async_trait]
impl Channel for Slow {
    fn info(&self) -> &Info {
        self.0.info()
    }
    async fn send(&self, message: &Message) -> Result<Accepted> {
        self.1.sleep(secs(60)).await;
        self.0.send(message).await
    }
    async fn receive(&self, request: &Request) -> Result<Received> {
        self.0.receive(request).await
    }
}

#[test]
fn failover_keeps_its_order() {
    for (order, least) in [(Order::RoundRobin, 40), (Order::Weighted(vec![1, 1]), 20)] {
        let (clock, one, two) = (clock(), Mock::sms(), Mock::sms());
        let sms =
            Failover::new([dynamic(&one), dynamic(&two)]).unwrap().order(order.clone()).unwrap().clock(clock.clone());
        for n in 0..80 {
            clock.run(sms.send(&hello(n))).unwrap();
        }
        assert!(
            one.sent().len() >= least && two.sent().len() >= least,
            "{order:?}: {} {}",
            one.sent().len(),
            two.sent().len()
        );
        let (one, two) = (Mock::sms(), Mock::sms());
        let sms = Stack::new(one.clone())
            .failover_to(two.clone())
            .order(order)
            .clock(clock.clone())
            .random(super::random())
            .build()
            .unwrap();
        for n in 0..80 {
            clock.run(sms.send(&hello(n))).unwrap();
        }
        assert!(one.sent().len() >= least && two.sent().len() >= least);
    }
}

#[test]
fn failover_applies_its_breaker_to_members() {
    let (clock, one, two) = (clock(), Mock::sms(), Mock::sms());
    let members: [Arc<dyn Channel>; 2] = [Arc::new(Slow(one.clone(), clock.clone())), dynamic(&two)];
    let sms =
        Failover::new(members).unwrap().breaker(&Breaker::new().threshold(1, secs(30)).unwrap()).clock(clock.clone());
    one.will_fail(down());
    for n in 0..3 {
        clock.run(sms.send(&hello(n))).unwrap();
    }
    assert_eq!((one.sent().len(), two.sent().len()), (1, 3));
    clock.advance(secs(30));
    clock.run(sms.send(&hello(9))).unwrap();
    assert_eq!((one.sent().len(), two.sent().len()), (2, 3));
}

#[test]
fn failover_skips_member_that_cannot_carry_a_message() {
    let clock = clock();
    for n in 0..3 {
        let (one, mut two, three) = (scripted("one", "a"), scripted("two", "a"), scripted("three", "a"));
        match n {
            0 => two.info.capability.text = Some(TextLimit::segments(1)),
            1 => two.info = two.info.clone().with_address_rule(|_| Err("is not of this country")),
            _ => two.info.rewrites = Some(|text| text.repeat(100).into()),
        }
        one.send.lock().unwrap().push(down());
        let (one, two, three) = (Arc::new(one), Arc::new(two), Arc::new(three));
        let sms = failover([&one, &two, &three]).clock(clock.clone());
        let accepted = clock.run(sms.send(&Message::text(person(1), "Hello ".repeat(100)))).unwrap();
        assert_eq!((accepted.gateway, two.calls().len()), ("three", 0), "{n}");
    }
}

#[test]
fn failover_reports_its_capability() {
    let (one, mut two) = (scripted("one", "a"), scripted("two", "a"));
    two.info.capability.rate = Some(Rate::per_second(1));
    two.info.capability.pair_rate = Some(Rate::per_second(1).into());
    let (one, two) = (Arc::new(one), Arc::new(two));
    let sms = failover([&one, &two]);
    let can = &sms.info().capability;
    assert!(!can.poll && !can.upload_media && !can.native);
    assert_eq!((can.rate, can.pair_rate), (None, None));
    assert!(failover([&one, &one]).info().capability.native);
    let clock = clock();
    assert_eq!(clock.run(sms.send(&Message::text(person(1), ""))).unwrap_err().gateway(), Some("failover"));
}

#[test]
fn failover_stays_unknown_after_an_unknown_attempt() {
    let clock = clock();
    let (one, two) = (Arc::new(scripted("one", "a")), Arc::new(scripted("two", "a")));
    let sms = failover([&one, &two]).clock(clock.clone());
    let fail = |a, b| {
        one.send.lock().unwrap().push(a);
        two.send.lock().unwrap().push(b);
    };
    fail(Error::unknown("no answer"), rejected(ErrorKind::OptedOut));
    assert_eq!(clock.run(sms.send(&resend())).unwrap_err().outcome(), Outcome::Unknown);
    fail(rejected(ErrorKind::Forbidden), rejected(ErrorKind::OptedOut));
    let error = clock.run(sms.send(&hello(1))).unwrap_err();
    assert_eq!((error.kind(), error.outcome(), error.gateway()), (ErrorKind::OptedOut, Outcome::Rejected, Some("two")));
    // Unknown outcomes and refusals by the person do not fail over.
    for error in [Error::unknown("no answer"), rejected(ErrorKind::OptedOut)] {
        let before = two.calls().len();
        one.send.lock().unwrap().push(error);
        clock.run(sms.send(&hello(1))).unwrap_err();
        assert_eq!(two.calls().len(), before);
    }
}

#[test]
fn failover_tries_webhook_with_each_member() {
    use ErrorKind::*;
    let clock = clock();
    for (kinds, expected) in [
        ([Some(Unauthenticated), None], None),
        ([Some(Unsupported), None], None),
        ([Some(Unauthenticated), Some(Unauthenticated)], Some((Unauthenticated, "one"))),
        ([Some(Unauthenticated), Some(TooLarge)], Some((TooLarge, "two"))),
        ([Some(TooLarge), Some(Unauthenticated)], Some((TooLarge, "one"))),
    ] {
        let (mut one, mut two) = (scripted("one", "a"), scripted("two", "a"));
        (one.receive, two.receive) = (kinds[0], kinds[1]);
        let sms = failover([&Arc::new(one), &Arc::new(two)]);
        let got = clock.run(sms.receive(&http::Request::post("/").body(Bytes::new()).unwrap().into()));
        let want = expected.map(|(kind, who)| (kind, who.to_owned()));
        assert_eq!(got.err().map(|e| (e.kind(), e.to_string())), want, "{kinds:?}");
    }
}

#[test]
fn look_up_queries_members_that_may_have_the_message() {
    use LookupOutcome::*;
    let clock = clock();
    let mock = Mock::sms();
    let accepted = clock.run(mock.send(&hello(1))).unwrap();
    let found =
        clock.run(mock.look_up(&LookupQuery::new(hello(1), clock.now()).with_id(accepted.id().clone()))).unwrap();
    assert!(matches!(found, Found(_)));
    for (one, two, all) in [
        (Ok(NotFound), Ok(NotFound), Ok(NotFound)),
        (Ok(Inconclusive), Ok(NotFound), Ok(Inconclusive)),
        (Ok(NotFound), Ok(Inconclusive), Ok(Inconclusive)),
        (Ok(Inconclusive), Ok(Inconclusive), Ok(Inconclusive)),
        (Err(ErrorKind::Unavailable), Ok(NotFound), Err(ErrorKind::Unavailable)),
        (Err(ErrorKind::Unavailable), Ok(found.clone()), Ok(found.clone())),
        (Ok(NotFound), Ok(found.clone()), Ok(found)),
    ] {
        let (mut a, mut b) = (scripted("one", "a"), scripted("two", "a"));
        (a.lookup, b.lookup) = (one, two);
        let sms = failover([&Arc::new(a), &Arc::new(b)]);
        assert_eq!(clock.run(sms.look_up(&LookupQuery::new(hello(1), clock.now()))).map_err(|e| e.kind()), all);
    }
    let (one, two) = (Arc::new(scripted("one", "a")), Arc::new(scripted("two", "a")));
    clock.run(failover([&one, &two]).look_up(&LookupQuery::new(hello(1), clock.now()).gateway("two"))).unwrap();
    assert_eq!((one.calls().len(), two.calls().len()), (0, 1));
}

#[test]
fn fetch_and_indicator_use_the_originating_gateway() {
    let clock = clock();
    let (own, other) = (Arc::new(scripted("mock", "mock-account")), Arc::new(scripted("other", "mock-account")));
    let page = Arc::new(scripted("mock", "another"));
    let sms = failover([&other, &page, &own]);
    let mock = Mock::sms();
    let hook = clock.run(mock.receive(&mock.arrives("+447700900123", "Hi"))).unwrap();
    clock.run(sms.send_indicator(hook.events[0].as_inbound().unwrap(), Indicator::Read)).unwrap();
    assert_eq!((own.calls(), page.calls(), other.calls()), (vec!["signal"], vec![], vec![]));
    clock.run(failover([&other, &own]).fetch_media(&mock.add_file("image/png", &b"1"[..]))).unwrap();
    assert_eq!((own.calls(), other.calls()), (vec!["signal", "fetch"], vec![]));
}

#[test]
fn stack_of_several_retries_briefly_or_as_configured() {
    let (clock, one, two) = (clock(), Mock::sms(), Mock::sms());
    (0..9).for_each(|_| one.will_fail(down()));
    let stack = || Stack::new(one.clone()).failover_to(two.clone()).clock(clock.clone()).random(super::random());
    clock.run(stack().build().unwrap().send(&hello(1))).unwrap();
    assert_eq!(one.sent().len(), 2);
    let three = Schedule::new().attempts(3).unwrap();
    clock.run(stack().schedule(three).build().unwrap().send(&hello(1))).unwrap();
    assert_eq!(one.sent().len(), 2 + 3);
    let none = RetryBudget::new().share(0.0, 0).unwrap();
    clock.run(stack().budget(none).build().unwrap().send(&hello(1))).unwrap();
    assert_eq!(one.sent().len(), 2 + 3 + 1);
}

#[test]
fn stack_has_the_configured_layers() {
    let clock = clock();
    let layers = |stack: Stack| {
        stack.build().unwrap().info().layers.iter().filter(|l| **l != "trace").copied().collect::<Vec<_>>()
    };
    assert_eq!(layers(Stack::new(Mock::sms())), ["retry", "rate_limit", "circuit_breaker"]);
    assert_eq!(
        layers(Stack::new(Mock::sms()).failover_to(Mock::sms())),
        ["failover", "retry", "rate_limit", "circuit_breaker"]
    );
    for wrong in [
        RateLimit::new().layer(Mock::sms()),
        CircuitBreaker::new().layer(Mock::sms()),
        Retry::new().layer(Mock::sms()),
        Arc::new(Failover::new([dynamic(&Mock::sms())]).unwrap()),
    ] {
        assert_eq!(Stack::new(wrong).build().unwrap_err().field(), Some("suppliers"));
    }
    // The configured breaker applies in both places.
    let bold = Breaker::new().threshold(1, secs(30)).unwrap();
    for several in [false, true] {
        let (one, two) = (Mock::sms(), Mock::sms());
        (0..9).for_each(|_| one.will_fail(down()));
        let stack = Stack::new(one.clone()).breaker(bold.clone()).clock(clock.clone()).random(super::random());
        let once = Schedule::new().attempts(if several { 1 } else { 3 }).unwrap().within(secs(5));
        let sms = if several { stack.failover_to(two.clone()) } else { stack }.schedule(once).build().unwrap();
        let tell = (0..3).map(|n| clock.run(sms.send(&hello(n)))).collect::<Vec<_>>();
        assert_eq!((one.sent().len(), two.sent().len()), (1, if several { 3 } else { 0 }), "{tell:?}");
    }
    let mock = Mock::sms().capability(|can| can.rate = Some(Rate::every_seconds(10)));
    let sms = Stack::new(mock).clock(clock.clone()).random(super::random()).build().unwrap();
    let begun = clock.monotonic();
    for n in 0..2 {
        clock.run(sms.send(&hello(n))).unwrap();
    }
    assert_eq!(clock.monotonic() - begun, Duration::from_millis(10_200));
}

#[test]
fn registry_applies_settings() {
    let clock = clock();
    let connect = |mocks: &[Mock; 2], json: &str| {
        let [one, two] = mocks.clone();
        let registry = Registry::empty()
            .register("one", move |_, _| Ok(Arc::new(one.clone())))
            .register("two", move |_, _| Ok(Arc::new(two.clone())))
            .register("a", |_, _| Ok(Arc::new(scripted("gate", "a"))))
            .register("b", |_, _| Ok(Arc::new(scripted("gate", "b"))))
            .register("c", |_, _| Ok(Arc::new(scripted("other", "a"))));
        registry.connect_all(&Settings::from_json(json).unwrap(), &Context::new().clock(clock.clone()))
    };
    let mocks = || [Mock::sms(), Mock::sms().capability(|can| can.pair_rate = Some(Rate::every_seconds(20).into()))];
    // A supplier's own setting takes precedence.
    let world = mocks();
    assert!(connect(&world, r#"{"x":{"medium":"whatsapp","suppliers":[{"gateway":"one","medium":"sms"}]}}"#).is_ok());
    for order in ["weighted", "round_robin"] {
        let world = [Mock::sms(), Mock::sms()];
        let weight = if order == "weighted" { r#","weight":1"# } else { "" };
        let json =
            format!(r#"{{"x":{{"order":"{order}","suppliers":[{{"gateway":"one"}},{{"gateway":"two"{weight}}}]}}}}"#);
        let x = &connect(&world, &json).unwrap()["x"];
        for n in 0..40 {
            clock.run(x.send(&hello(n))).unwrap();
        }
        assert!(world.iter().all(|mock| mock.sent().len() > 8), "{order}");
    }
    let world = mocks();
    (0..9).for_each(|_| world[0].will_fail(down()));
    let x = &connect(&world, r#"{"x":{"retry":{"attempts":3},"suppliers":[{"gateway":"one"}]}}"#).unwrap()["x"];
    clock.run(x.send(&hello(1))).unwrap_err();
    assert_eq!(world[0].sent().len(), 3);
    let pair = r#"{"gateway":"one","pair_rate":{"count":1,"seconds":7}}"#;
    assert!(connect(&mocks(), &format!(r#"{{"x":{{"suppliers":[{pair}]}},"y":{{"suppliers":[{pair}]}}}}"#)).is_err());
    let took = |x: &Arc<dyn Channel>, to: [u32; 2]| {
        let begun = clock.monotonic();
        for n in to {
            clock.run(x.send(&hello(n))).unwrap();
        }
        (clock.monotonic() - begun).as_millis()
    };
    let x = &connect(&mocks(), &format!(r#"{{"x":{{"suppliers":[{pair}]}}}}"#)).unwrap()["x"];
    assert_eq!((took(x, [1, 1]), took(x, [2, 3])), (7_140, 0));
    // A configured rate replaces the documented one; the documented pair rate stays.
    let x =
        &connect(&mocks(), r#"{"x":{"suppliers":[{"gateway":"two","rate":{"count":1,"seconds":5}}]}}"#).unwrap()["x"];
    assert_eq!((took(x, [1, 1]), took(x, [2, 3]) >= 5_100), (20_400, true));
    // Rates of another account and of another gateway are separate.
    let json = r#"{"x":{"suppliers":[{"gateway":"a","rate":{"count":1,"seconds":9}}]},"y":{"suppliers":[{"gateway":"b"}]},"z":{"suppliers":[{"gateway":"c"}]}}"#;
    let all = connect(&mocks(), json).unwrap();
    assert_eq!((took(&all["y"], [1, 2]), took(&all["z"], [1, 2]), took(&all["x"], [1, 2])), (0, 0, 9_180));
}

#[test]
fn virtual_clock_ignores_dropped_sleepers() {
    let clock = clock();
    clock.advance(secs(5));
    let mut sleep = clock.sleep(secs(60));
    clock.run(async {
        assert!(futures_util::poll!(&mut sleep).is_pending());
        drop(sleep);
        assert_eq!(clock.sleepers(), 0);
        clock.sleep(secs(3)).await;
    });
    assert_eq!(clock.monotonic(), secs(8));
}

#[test]
fn turn_delayed_by_pause_reports_wait_from_now() {
    let (clock, mock) = (clock(), Mock::sms());
    mock.will_fail(rejected(ErrorKind::RateLimited).with_retry(true, Some(secs(200))));
    let limit = RateLimit::new().rate(Rate::every_seconds(10)).clock(clock.clone());
    let sms = limit.layer(Slow(mock, clock.clone()));
    let limit_first = send_hello(&sms, 1);
    clock.run(async {
        let mut first = limit_first;
        assert!(futures_util::poll!(first.as_mut()).is_pending());
        clock.sleep(secs(55)).await;
        // Its turn is at 61.2 s, behind four others; the refusal comes at 60 s.
        let mut others: Vec<_> = (2..3).map(|n| send_hello(&sms, n)).collect();
        _ = futures_util::poll!(others[0].as_mut());
        let late = futures_util::join!(first, async {
            clock.sleep(secs(1)).await;
            sms.send(&hello(9)).await
        })
        .1;
        let error = late.unwrap_err();
        assert_eq!(
            error.retry_after(),
            Some(secs(60 + 200) - Duration::from_millis(55_000 + 10_200)),
            "{:?}",
            clock.monotonic()
        );
    });
}

#[test]
fn quota_window_starts_where_the_last_one_ended() {
    let (mut limiter, today) = (Limiter::new(None, None), Timestamp::from_secs(1_000_000));
    let quota =
        |reset, now| Some((Quota::new(0).limit(1).until(today.plus(secs(reset))), today.plus(secs(now)), secs(now)));
    accept(&mut limiter, &person(1), quota(100, 0));
    accept(&mut limiter, &person(1), quota(1_000, 200));
    limiter.try_acquire(&person(1), secs(1_001)).unwrap();
    assert_eq!(limiter.try_acquire(&person(1), secs(1_001)), Err(secs(900)));
}

#[test]
fn capability_intersection_has_what_both_support() {
    use civic_messaging::capability::*;
    let can = |set: fn(&mut Capability)| Info::new("a", Medium::Sms, "a").with_capability(set).capability;
    let all = can(|can| {
        (can.receive, can.poll, can.look_up, can.upload_media, can.fetch_media, can.health) =
            (true, true, true, true, true, true);
        (can.read, can.typing, can.key, can.conversation, can.reply_to) = (true, true, true, true, true);
        (can.ask_location, can.ask_contact, can.location, can.contacts, can.reaction, can.native) =
            (true, true, true, true, true, true);
        can.text = Some(TextLimit::characters(10));
        can.media = Some(MediaLimits {
            per_message: 9,
            link: true,
            stored: true,
            gateway: true,
            kinds: vec![MediaRule::new(MediaKind::Image, 9, &["image/png"], 9)],
        });
        can.template = Some(TemplateLimits { language: false, positional: true, named: true, components: true });
        can.choice = Some(ChoiceLimits { buttons: 99, rows: 99, ..ChoiceLimits::WHATSAPP });
        can.link = Some(99);
    });
    let none = Capability::default();
    assert_eq!(
        (all.intersection(&none), none.intersection(&all), all.intersection(&all)),
        (none.clone(), none, all.clone())
    );
    let less = can(|can| {
        can.text = Some(TextLimit::characters(5));
        can.media = Some(MediaLimits {
            per_message: 1,
            link: false,
            stored: false,
            gateway: false,
            kinds: vec![MediaRule::new(MediaKind::Image, 1, &["image/png"], 1)],
        });
        can.template = Some(TemplateLimits { language: true, positional: false, named: false, components: false });
        can.choice = Some(ChoiceLimits::MESSENGER);
        can.link = Some(1);
        can.rate = Some(Rate::per_second(1));
        can.pair_rate = Some(Rate::every_seconds(9).into());
    });
    let faster =
        can(|can| (can.rate, can.pair_rate) = (Some(Rate::per_second(9)), Some(Rate::every_seconds(1).into())));
    for both in [all.intersection(&less), less.intersection(&all)] {
        assert_eq!(
            (both.text, &both.media, both.template, both.link),
            (less.text, &less.media, less.template, less.link)
        );
        let choice = both.choice.unwrap();
        assert_eq!((choice.buttons, choice.rows), (ChoiceLimits::MESSENGER.buttons, 0));
    }
    for both in [faster.intersection(&less), less.intersection(&faster)] {
        assert_eq!((both.rate, both.pair_rate), (less.rate, less.pair_rate));
    }
}
