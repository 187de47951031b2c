//! An hour of messages to a gateway that enforces the documented rate limits.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use civic_messaging::capability::TextLimit;
use civic_messaging::clock::{Clock, VirtualClock};
use civic_messaging::layer::retry::Schedule;
use civic_messaging::layer::{Layer, RateLimit, Retry};
use civic_messaging::rate::{Quota, Rate};
use civic_messaging::webhook::{Received, Request};
use civic_messaging::{
    Accepted, Address, Channel, ChannelExt, Error, ErrorKind, Info, Medium, Message, Outcome, Result,
};

use super::{Random, all, clock, person, seed};

/// Counts requests, and those that break a limit.
#[derive(Debug)]
struct Gateway {
    info: Info,
    clock: VirtualClock,
    random: Random,
    state: Mutex<State>,
    /// Refusals: the n-th request, the retry-after, and `true` if it applies to the recipient only.
    refuses: Vec<(usize, Duration, bool)>,
    /// The reported quota: messages per window.
    window: Option<(u64, Duration)>,
}

#[derive(Debug, Default)]
struct State {
    requests: usize,
    accepted: usize,
    violations: Vec<String>,
    /// Arrivals in the last second.
    second: VecDeque<Duration>,
    /// The tokens of each recipient, and when they were counted.
    pairs: HashMap<String, (f64, Duration)>,
    /// Arrivals per recipient in the last six seconds.
    recent: HashMap<String, VecDeque<Duration>>,
    /// The refused period of each recipient; the empty name is for all.
    refused: HashMap<String, (Duration, Duration)>,
    accepted_while_refused: usize,
    used: u64,
    window_began: Duration,
}

impl Gateway {
    fn new(clock: &VirtualClock, seed: u64) -> Arc<Self> {
        Arc::new(Self::bare(clock, seed))
    }

    fn bare(clock: &VirtualClock, seed: u64) -> Self {
        let info = Info::new("gate", Medium::Sms, "desk").with_capability(|can| {
            can.text = Some(TextLimit::characters(1_000));
            can.rate = Some(Rate::per_second(80));
            can.pair_rate = Some(Rate::every_seconds(6).with_burst(45));
        });
        let (random, state) = (Random::new(seed), Mutex::default());
        Self { info, clock: clock.clone(), random, state, refuses: Vec::new(), window: None }
    }
}

#[async_trait]
impl Channel for Gateway {
    fn info(&self) -> &Info {
        &self.info
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        let left = self.clock.monotonic();
        self.clock.sleep(Duration::from_micros(self.random.below(15_000))).await;
        let (now, to) = (self.clock.monotonic(), message.to.expose().to_owned());
        let mut state = self.state.lock().unwrap();
        let state = &mut *state;
        state.requests += 1;
        for name in ["", &to] {
            if let Some((from, until)) = state.refused.get(name)
                && *from < left
                && left < *until
            {
                state.violations.push(format!("left {left:?}, refused from {from:?} until {until:?}"));
            }
        }
        if let Some((_, time, of_pair)) = self.refuses.iter().find(|(n, ..)| *n == state.requests) {
            state.refused.insert(if *of_pair { to } else { String::new() }, (now, now + *time));
            let error = Error::new(ErrorKind::RateLimited, "too many").with_outcome(Outcome::Rejected);
            return Err(error.with_retry(true, Some(*time)).with_per_recipient(*of_pair));
        }
        if self.info.capability.rate.is_some() {
            while state.second.front().is_some_and(|at| *at + Duration::from_secs(1) <= now) {
                state.second.pop_front();
            }
            state.second.push_back(now);
            if state.second.len() > 80 {
                state.violations.push(format!("{} in a second, at {now:?}", state.second.len()));
            }
        }
        let (tokens, counted) = state.pairs.entry(to.clone()).or_insert((45.0, now));
        *tokens = (*tokens + (now - *counted).as_secs_f64() / 6.0).min(45.0) - 1.0;
        *counted = now;
        let recent = state.recent.entry(to).or_default();
        while recent.front().is_some_and(|at| *at + Duration::from_secs(6) <= now) {
            recent.pop_front();
        }
        recent.push_back(now);
        if *tokens < -1e-6 || recent.len() > 45 {
            state.violations.push(format!("{tokens} tokens, {} in six seconds, at {now:?}", recent.len()));
        }
        state.accepted += 1;
        state.accepted_while_refused +=
            usize::from(state.refused.values().any(|(from, until)| *from < now && now < *until));
        let mut accepted = Accepted::new("gate", format!("{}", state.accepted), Bytes::new());
        if let Some((limit, time)) = self.window {
            if now >= state.window_began + time {
                (state.used, state.window_began) = (0, now);
            }
            state.used += 1;
            if state.used > limit {
                state.violations.push(format!("{} of {limit} in the window, at {now:?}", state.used));
            }
            let reset = self.clock.now().plus(state.window_began + time - now);
            accepted.quota = Some(Quota::new(limit.saturating_sub(state.used)).limit(limit).until(reset));
        }
        Ok(accepted)
    }

    async fn receive(&self, _request: &Request) -> Result<Received> {
        Err(Error::unsupported("it only counts"))
    }
}

/// Sends messages to people in rotation, all queued at once.
fn send_all(clock: &VirtualClock, channel: &Arc<dyn Channel>, messages: u32, people: u32) -> Duration {
    let people: Vec<Address> = (0..people).map(person).collect();
    let begun = clock.monotonic();
    let send = |n: u32| {
        let to = &people[n as usize % people.len()];
        async move { drop(channel.send_text(to, "Hello").await.unwrap()) }
    };
    clock.run(all((0..messages).map(send)));
    clock.monotonic() - begun
}

fn limited(gateway: &Arc<Gateway>, clock: &VirtualClock) -> Arc<dyn Channel> {
    let hour = Duration::from_secs(3600);
    let limit = RateLimit::from_info(gateway.info()).max_wait(hour).clock(clock.clone());
    let retry = Retry::new().schedule(Schedule::new().within(hour)).clock(clock.clone()).random(super::random());
    retry.wrap(limit.layer(gateway.clone()))
}

fn assert_kept(gateway: &Gateway) {
    let state = gateway.state.lock().unwrap();
    assert!(state.violations.is_empty(), "{} violations: {:?}", state.violations.len(), &state.violations[..1]);
}

#[test]
fn bulk_send_keeps_rate_limits_at_near_full_rate() {
    let clock = clock();
    let gateway = Gateway::new(&clock, seed());
    let took = send_all(&clock, &limited(&gateway, &clock), 100_000, 500).as_secs_f64();
    let least = 100_000.0 / 80.0;
    println!("100,000 messages, 500 pairs: {took:.1} s, {:.4} of the least; 0 violations", took / least);
    assert_kept(&gateway);
    assert_eq!(gateway.state.lock().unwrap().accepted, 100_000);
    assert!(took <= 1.05 * least, "{took} s");
}

#[test]
fn few_recipients_are_bound_by_the_pair_rate() {
    let clock = clock();
    let gateway = Gateway::new(&clock, seed());
    // 600 per recipient: bursts of 45, each refilled over 270 s.
    let took = send_all(&clock, &limited(&gateway, &clock), 6_000, 10).as_secs_f64();
    let least = (600.0_f64 / 45.0).floor() * 45.0 * 6.0;
    println!("6,000 messages, 10 pairs: {took:.1} s, {:.4} of the least; 0 violations", took / least);
    assert_kept(&gateway);
    assert!(took <= 1.05 * least, "{took} s");
}

#[test]
fn retry_after_blocks_sends_until_it_elapses() {
    let clock = clock();
    let mut gateway = Gateway::bare(&clock, seed());
    gateway.refuses =
        (1..40).map(|n: u64| (n as usize * 97, Duration::from_secs(1 + n * 7 % 40), n.is_multiple_of(3))).collect();
    let gateway = Arc::new(gateway);
    send_all(&clock, &limited(&gateway, &clock), 8_000, 100);
    assert_kept(&gateway);
    let state = gateway.state.lock().unwrap();
    assert_eq!((state.accepted, state.requests), (8_000, 8_000 + 39));
}

#[test]
fn retry_after_of_one_recipient_delays_nobody_else() {
    let clock = clock();
    let mut gateway = Gateway::bare(&clock, seed());
    gateway.refuses = vec![(1, Duration::from_secs(60), true)];
    let gateway = Arc::new(gateway);
    let took = send_all(&clock, &limited(&gateway, &clock), 2_000, 1_000).as_secs_f64();
    assert_kept(&gateway);
    // All but the two to that recipient, one of which is the last.
    assert_eq!(gateway.state.lock().unwrap().accepted_while_refused, 1_998);
    assert!((60.0..70.0).contains(&took), "{took} s");
}

#[test]
fn reported_quota_is_kept_over_many_windows() {
    let clock = clock();
    let mut gateway = Gateway::bare(&clock, seed());
    gateway.info.capability.rate = None;
    gateway.window = Some((15, Duration::from_secs(900)));
    let gateway = Arc::new(gateway);
    let channel = limited(&gateway, &clock);
    // The first response reports the quota.
    clock.run(channel.send_text(&person(0), "Hello")).unwrap();
    let took = send_all(&clock, &channel, 59, 59).as_secs_f64();
    assert_kept(&gateway);
    assert!((2_700.0..2_800.0).contains(&took), "{took} s");
}

#[test]
fn late_turn_is_an_error_and_takes_no_slot() {
    let clock = clock();
    let gateway = Gateway::new(&clock, seed());
    let limit = RateLimit::new().rate(Rate::every_seconds(10)).clock(clock.clone());
    let channel = limit.max_wait(Duration::from_secs(15)).layer(gateway.clone());
    let (to, text) = (person(1), "Hello");
    clock.run(async {
        let mut sends: Vec<_> = (0..4).map(|_| Box::pin(channel.send_text(&to, text))).collect();
        let last = sends.pop().unwrap();
        let third = sends.pop().unwrap();
        let (one, two, three, four) = futures_util::join!(sends.remove(0), sends.remove(0), third, last);
        assert!(one.is_ok() && two.is_ok());
        for late in [three.unwrap_err(), four.unwrap_err()] {
            assert_eq!((late.kind(), late.outcome()), (ErrorKind::RateLimited, Outcome::NotSent));
            assert_eq!(late.retry_after(), Some(Duration::from_millis(20_400)));
            assert!(late.is_retryable());
        }
        // The message expires before its turn.
        let soon = Message::text(to.clone(), text).not_after(clock.now().plus(Duration::from_secs(5)));
        assert_eq!(channel.send(&soon).await.unwrap_err().kind(), ErrorKind::RateLimited);
    });
    assert_eq!(gateway.state.lock().unwrap().requests, 2);
}
