//! An outage of a gateway, and its recovery.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use civic_messaging::capability::TextLimit;
use civic_messaging::clock::{Clock, VirtualClock};
use civic_messaging::layer::retry::Schedule;
use civic_messaging::layer::{Layer, Retry, Stack};
use civic_messaging::webhook::{Received, Request};
use civic_messaging::{Accepted, Channel, ChannelExt, Error, ErrorKind, Info, Medium, Message, Outcome, Result};

use super::{all, clock, person};

const OUTAGE: Duration = Duration::from_secs(600);

/// A gateway that refuses connections during the outage.
#[derive(Debug)]
struct Down {
    info: Info,
    clock: VirtualClock,
    until: Duration,
    requests: AtomicUsize,
}

impl Down {
    fn new(clock: &VirtualClock) -> Arc<Self> {
        let info =
            Info::new("down", Medium::Sms, "desk").with_capability(|can| can.text = Some(TextLimit::characters(1_000)));
        Arc::new(Self { info, clock: clock.clone(), until: OUTAGE, requests: AtomicUsize::new(0) })
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Channel for Down {
    fn info(&self) -> &Info {
        &self.info
    }

    async fn send(&self, _message: &Message) -> Result<Accepted> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.clock.sleep(Duration::from_millis(20)).await;
        if self.clock.monotonic() < self.until {
            return Err(Error::new(ErrorKind::Unavailable, "no connection could be made"));
        }
        Ok(Accepted::new("down", "1", Bytes::new()))
    }

    async fn receive(&self, _request: &Request) -> Result<Received> {
        Err(Error::unsupported("it is down"))
    }
}

fn patient() -> Schedule {
    Schedule::new().attempts(100).unwrap().within(OUTAGE * 2)
}

/// Sends a thousand messages, `apart` seconds apart, and returns how many were accepted.
fn a_thousand(clock: &VirtualClock, channel: &Arc<dyn Channel>, apart: f64) -> usize {
    let accepted = AtomicUsize::new(0);
    let send = |n: u32| {
        let accepted = &accepted;
        async move {
            clock.sleep(Duration::from_secs_f64(f64::from(n) * apart)).await;
            match channel.send_text(&person(n), "Hello").await {
                Ok(_) => drop(accepted.fetch_add(1, Ordering::Relaxed)),
                Err(error) => assert_eq!(error.outcome(), Outcome::NotSent),
            }
        }
    };
    clock.run(all((0..1_000).map(send)));
    accepted.into_inner()
}

#[test]
fn total_outage_adds_at_most_a_fifth_more_calls() {
    for apart in [0.0, 0.1, 0.6] {
        let clock = clock();
        let one = Down::new(&clock);
        let retry = Retry::new().schedule(patient()).clock(clock.clone()).random(super::random());
        let accepted = a_thousand(&clock, &retry.layer(one.clone()), apart);
        println!("retry alone, {apart} s apart: {} requests for 1,000 messages, {accepted} accepted", one.requests());
        assert!(one.requests() <= 1_200, "{}", one.requests());

        let clock = super::clock();
        let (first, second) = (Down::new(&clock), Down::new(&clock));
        let stack = Stack::new(first.clone())
            .failover_to(second.clone())
            .schedule(patient())
            .clock(clock.clone())
            .random(super::random());
        let accepted = a_thousand(&clock, &stack.build().unwrap(), apart);
        println!(
            "two gateways, {apart} s apart: {} and {} requests for 1,000 messages, {accepted} accepted",
            first.requests(),
            second.requests(),
        );
        assert!(first.requests() <= 1_200 && second.requests() <= 1_200);
    }
}

#[test]
fn channel_recovers_with_its_gateway() {
    for several in [false, true] {
        let clock = clock();
        let gateway = Down::new(&clock);
        let stack = Stack::new(gateway.clone()).clock(clock.clone()).random(super::random());
        let stack = if several { stack.failover_to(Down::new(&clock)) } else { stack };
        let channel = stack.build().unwrap();
        // One message every two seconds, during the outage and for five minutes after it.
        let (mut failed_last, mut requests) = (Duration::ZERO, 0);
        while clock.monotonic() < OUTAGE + Duration::from_secs(300) {
            let before = clock.monotonic();
            match clock.run(channel.send_text(&person(1), "Hello")) {
                Ok(_) => assert!(before + Duration::from_secs(60) > OUTAGE),
                Err(error) => {
                    assert_eq!(error.outcome(), Outcome::NotSent);
                    failed_last = before;
                }
            }
            requests += 1;
            clock.advance(Duration::from_secs(2));
        }
        assert!(requests > 50);
        println!("several: {several}; the last failure began at {failed_last:?}, the outage ended at {OUTAGE:?}");
        // The breaker is open for five minutes at most, and less for a last resort.
        assert!(failed_last < OUTAGE + Duration::from_secs(300), "{failed_last:?}");
        assert!(clock.run(channel.send_text(&person(1), "Hello")).is_ok());
    }
}
