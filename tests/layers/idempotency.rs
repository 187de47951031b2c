//! Retries within a gateway's idempotency window.

use std::time::Duration;

use civic_messaging::clock::{Clock, VirtualClock};
use civic_messaging::layer::retry::Schedule;
use civic_messaging::layer::{Failover, Layer, Retry};
use civic_messaging::{Channel, Error, ErrorKind, Message, Mock, OnUnknown, Outcome};

use super::{clock, person};

const MINUTE: Duration = Duration::from_secs(60);

/// An SMS channel that recognises a resend for ten minutes: nine, less the margin.
fn mock(clock: &VirtualClock) -> Mock {
    Mock::sms().clock(clock.clone()).capability(|can| can.idempotency_window = Some(10 * MINUTE))
}

fn retry(clock: &VirtualClock) -> Retry {
    let schedule = Schedule::new().attempts(9).unwrap().backoff(MINUTE, 5 * MINUTE).unwrap();
    Retry::new().schedule(schedule.within(Duration::MAX)).clock(clock.clone()).random(super::random())
}

fn keyed() -> Message {
    Message::text(person(1), "Hello").key("waste-4711")
}

#[test]
fn unknown_outcome_is_retried_under_the_same_key() {
    let clock = clock();
    let mock = mock(&clock);
    (0..2).for_each(|_| mock.will_lose_response());
    let sms = retry(&clock).layer(mock.clone());
    clock.run(sms.send(&keyed())).unwrap();
    assert_eq!((mock.sent().len(), mock.accepted().len()), (3, 1));
    assert!(mock.sent().iter().all(|message| message.key.as_deref() == Some("waste-4711")));
}

#[test]
fn message_without_a_key_is_not_retried() {
    let clock = clock();
    let mock = mock(&clock);
    mock.will_lose_response();
    let error = clock.run(retry(&clock).layer(mock.clone()).send(&Message::text(person(1), "Hello"))).unwrap_err();
    assert_eq!((error.outcome(), mock.sent().len()), (Outcome::Unknown, 1));
    let without = mock.clone().capability(|can| can.max_reference = Some(0));
    mock.will_lose_response();
    let error = clock.run(retry(&clock).layer(without).send(&keyed())).unwrap_err();
    assert_eq!((error.outcome(), mock.sent().len()), (Outcome::Unknown, 2));
}

#[test]
fn retry_ends_with_the_window_of_the_first_attempt() {
    let clock = clock();
    let mock = mock(&clock);
    mock.will_lose_response();
    // Certainly not sent, but the first attempt may have been accepted.
    (0..8).for_each(|_| {
        mock.will_fail(Error::new(ErrorKind::Unavailable, "busy").with_retry(true, Some(4 * MINUTE)));
    });
    let began = clock.now();
    let error = clock.run(retry(&clock).layer(mock.clone()).send(&keyed())).unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
    let elapsed = clock.now().since(began);
    assert!(elapsed <= 9 * MINUTE && mock.sent().len() > 1, "{elapsed:?}: {}", mock.sent().len());
    assert_eq!(mock.accepted().len(), 1);
}

#[test]
fn refusal_after_an_unknown_outcome_stays_unknown() {
    let clock = clock();
    let mock = mock(&clock);
    mock.will_lose_response();
    mock.will_fail(Error::new(ErrorKind::OptedOut, "no").with_outcome(Outcome::Rejected));
    let error = clock.run(retry(&clock).layer(mock.clone()).send(&keyed())).unwrap_err();
    assert_eq!((error.outcome(), mock.sent().len()), (Outcome::Unknown, 2));
}

#[test]
fn failover_declares_no_window_and_stops_at_unknown() {
    let clock = clock();
    let (one, two) = (mock(&clock), mock(&clock).account("two"));
    (0..9).for_each(|_| one.will_lose_response());
    let failover = Failover::new([retry(&clock).layer(one.clone()), retry(&clock).layer(two.clone())]).unwrap();
    assert_eq!(failover.info().capability.idempotency_window, None);
    let error = clock.run(retry(&clock).layer(failover).send(&keyed())).unwrap_err();
    assert_eq!((error.outcome(), two.sent().len()), (Outcome::Unknown, 0));
    assert!(one.sent().len() > 1 && one.accepted().len() == 1);
}

#[test]
fn allowed_duplicate_is_resent_once_outside_the_window() {
    let clock = clock();
    let mock = Mock::sms().clock(clock.clone()).capability(|can| can.idempotency_window = Some(Duration::ZERO));
    (0..3).for_each(|_| mock.will_lose_response());
    let message = keyed().on_unknown(OnUnknown::Resend);
    let error = clock.run(retry(&clock).layer(mock.clone()).send(&message)).unwrap_err();
    assert_eq!((error.outcome(), mock.sent().len()), (Outcome::Unknown, 2));
}
