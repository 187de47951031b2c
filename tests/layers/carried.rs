//! Failover between gateways, and the gateway that an error names.

use std::sync::Arc;
use std::time::Duration;

use civic_messaging::clock::Clock;
use civic_messaging::layer::{Failover, Layer, Retry, Stack};
use civic_messaging::lookup::{LookupOutcome, LookupQuery};
use civic_messaging::rate::Rate;
use civic_messaging::webhook::{Received, Request};
use civic_messaging::{
    Accepted, Channel, Error, ErrorKind, Info, Medium, Message, Mock, OnUnknown, Outcome, Result, async_trait,
};

use super::{all, clock, person};

/// The identity of a gateway, for a mock to copy.
#[derive(Debug)]
struct Named(Info);

#[async_trait]
impl Channel for Named {
    fn info(&self) -> &Info {
        &self.0
    }

    async fn send(&self, _message: &Message) -> Result<Accepted> {
        Err(Error::unsupported("it is only a name"))
    }

    async fn receive(&self, _request: &Request) -> Result<Received> {
        Err(Error::unsupported("it is only a name"))
    }
}

fn mock(gateway: &'static str, rate: Option<Rate>) -> Mock {
    let can = Mock::sms().info().capability.clone();
    let info = Info::new(gateway, Medium::Sms, "desk").with_capability(|own| *own = can);
    Mock::like(&Named(info.with_capability(|can| can.rate = rate)))
}

fn failover(first: &Mock, second: &Mock) -> Failover {
    Failover::new([Arc::new(first.clone()) as Arc<dyn Channel>, Arc::new(second.clone())]).unwrap()
}

fn resent(key: &str) -> Message {
    Message::text(person(1), "The river is rising.").key(key).on_unknown(OnUnknown::Resend)
}

#[test]
fn unknown_outcome_names_its_gateway() {
    let clock = clock();
    let (first, second) = (mock("first", None), mock("second", None));
    let sms = failover(&first, &second);
    let opted_out = || Error::new(ErrorKind::OptedOut, "said STOP").with_outcome(Outcome::Rejected);

    first.will_lose_response();
    second.will_fail(opted_out());
    let error = clock.run(sms.send(&resent("one"))).unwrap_err();
    assert_eq!((error.outcome(), error.gateway()), (Outcome::Unknown, Some("first")));
    assert_eq!(error.kind(), ErrorKind::OptedOut); // that is heard, too
    let sent = LookupQuery::new(resent("one"), clock.now()).gateway(error.gateway().unwrap());
    assert!(matches!(clock.run(sms.look_up(&sent)).unwrap(), LookupOutcome::Found(_)));

    // With both unknown, none is named and `look_up` queries all.
    first.will_lose_response();
    second.will_lose_response();
    let error = clock.run(sms.send(&resent("two"))).unwrap_err();
    assert_eq!((error.outcome(), error.gateway()), (Outcome::Unknown, None));
    let LookupOutcome::Found(found) = clock.run(sms.look_up(&LookupQuery::new(resent("two"), clock.now()))).unwrap()
    else {
        panic!()
    };
    assert_eq!(found.len(), 2);

    // A rejection by the retry does not settle the unknown first attempt.
    first.will_lose_response();
    first.will_fail(opted_out());
    let again = Retry::new().clock(clock.clone()).random(super::random()).layer(first.clone());
    let error = clock.run(again.send(&resent("three"))).unwrap_err();
    assert_eq!((error.outcome(), error.kind()), (Outcome::Unknown, ErrorKind::OptedOut));
}

#[test]
fn waiting_send_skips_gateway_whose_breaker_opened() {
    let clock = clock();
    let (first, second) = (mock("first", Some(Rate::per_second(1))), mock("second", None));
    (0..100).for_each(|_| first.will_fail(Error::new(ErrorKind::Unavailable, "no connection could be made")));
    let stack = Stack::new(first.clone())
        .failover_to(second.clone())
        .clock(clock.clone())
        .random(super::random())
        .build()
        .unwrap();
    let send = |n| {
        let message = Message::text(person(n), "Hello");
        let stack = &stack;
        async move { drop(stack.send(&message).await.unwrap()) }
    };
    clock.run(all((0..50).map(send)));
    assert_eq!(second.sent().len(), 50);
    // Five faults, then occasional probes within the minute that fifty turns take.
    assert!(first.sent().len() <= 10, "{}", first.sent().len());
}

#[test]
fn per_recipient_limit_does_not_fail_over() {
    let clock = clock();
    let (first, second) = (mock("first", None), mock("second", None));
    let stack = Stack::new(first.clone())
        .limit(civic_messaging::layer::RateLimit::new().pair_rate(Rate::every_seconds(60)))
        .failover_to(second.clone())
        .clock(clock.clone())
        .build()
        .unwrap();
    let send = || clock.run(stack.send(&Message::text(person(1), "Hello")));
    send().unwrap();
    let error = send().unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::RateLimited, Outcome::NotSent));
    assert!(error.retry_after().is_some_and(|wait| wait > Duration::from_secs(60)));
    second.assert_nothing_sent();
}
